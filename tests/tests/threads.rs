//! Mail threads: what a fault of Postern's own takes with it (a task, or a thread; debug builds cause both on demand), and what
//! is done beside them.

use anyhow::{Context as _, Result, bail, ensure};
use postern_tests::client::Session;
use postern_tests::lab::{Family, INGRESS};
use postern_tests::openssl::OpenSsl;
use postern_tests::postern::{Policy, Postern};
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::wait::{self, PATIENCE};
use serde_json::Value;

const ON_DEMAND: [&str; 2] = ["env", "POSTERN_FAULT=1"];
/// Several times as many as the log has lines for at once.
const PANICS: usize = 60;
/// Ends its connection's task.
const CONNECTION: &str = "panic.connection.invalid";
/// Ends its thread.
const THREAD: &str = "panic.thread.invalid";

fn start(scene: &Scene) -> Result<Postern<'_>> {
    scene.installation.start_with(&scene.lab.gateway, &ON_DEMAND)
}

/// A client whose SNI is this name; its session cannot come about.
fn name(scene: &Scene, name: &str, family: Family, port: u16) -> Result<()> {
    let opened = Session::open(&scene.lab.client, scene.server(family, port), name, &scene.client()?);
    ensure!(opened.is_err(), "{name} was served");
    Ok(())
}

fn works(session: &mut Session) -> Result<()> {
    ensure!(session.fetch(1)? == MESSAGE, "another message came");
    Ok(())
}

fn new_session(scene: &Scene, family: Family) -> Result<Session> {
    let mut session = scene.session(family, 993)?;
    session.enter()?;
    Ok(session)
}

/// A number of a thread, from the status.
fn of_thread(postern: &Postern<'_>, index: usize, key: &str) -> Result<u64> {
    let status = postern.status()?;
    let found = status.pointer(&format!("/threads/{index}/{key}")).and_then(Value::as_u64);
    found.with_context(|| format!("no {key} of thread {index} in {status:#}"))
}

fn restarted(postern: &Postern<'_>, times: u64) -> Result<()> {
    wait::until("a thread's successor", PATIENCE, || {
        let status = postern.status()?;
        let threads = status.get("threads").and_then(Value::as_array).context("no threads")?;
        let of_each = |key| threads.iter().filter_map(move |thread: &Value| thread.get(key));
        let restarts: u64 = of_each("restarts").filter_map(Value::as_u64).sum();
        let alive = of_each("alive").all(|alive| alive == &Value::Bool(true));
        Ok((alive && restarts == times).then_some(()))
    })
}

/// How often the only thread that judges and mints went back to wait: once for each job, as a session's come one by one.
fn jobs_done(postern: &Postern<'_>) -> Result<u64> {
    let tasks = format!("/proc/{}/task", postern.process("worker")?);
    for task in std::fs::read_dir(tasks)? {
        let status = std::fs::read_to_string(task?.path().join("status"))?;
        let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        if line("Name:") == Some("crypto-0") {
            return Ok(line("voluntary_ctxt_switches:").context("no count")?.parse()?);
        }
    }
    bail!("there is no thread crypto-0")
}

#[test]
fn certificates_are_judged_and_rsa_signatures_made_beside_the_mail_threads() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("threads = 1"))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let ecdsa = || new_session(&scene, Family::V4)?.logout();
    let rsa = || {
        let mut openssl = OpenSsl::start(&scene, &["-tls1_2", "-groups", "X25519"])?;
        openssl.type_line("a LOGOUT")?;
        openssl.wait("a OK", 1)
    };
    // From here on the leaves are cached.
    ecdsa()?;
    rsa()?;
    postern.wait_records(2)?;
    for (what, visit, least) in [
        ("the judgement", &ecdsa as &dyn Fn() -> Result<()>, 1),
        ("the judgement and the steps of a handshake", &rsa, 3),
    ] {
        let before = jobs_done(&postern)?;
        visit()?;
        wait::until(what, PATIENCE, || Ok((jobs_done(&postern)? >= before + least).then_some(())))?;
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn panics_that_clients_cause_again_and_again_do_not_fill_the_log() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = start(&scene)?;
    let server = scene.serve()?;
    for _ in 0..PANICS {
        name(&scene, CONNECTION, Family::V4, 993)?;
    }
    let records = postern.wait_records(PANICS)?;
    ensure!(records.iter().all(|record| record.text("event.reason") == "internal_panic"), "{records:#?}");
    let log = postern.log();
    for words in ["please report it", "panicked at"] {
        let lines = log.lines().filter(|line| line.contains(words)).count();
        ensure!((1..PANICS / 2).contains(&lines), "{lines} lines with {words:?} of {PANICS} panics: {log}");
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_panic_in_one_connection_ends_that_connection_alone() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("threads = 1"))?;
    let postern = start(&scene)?;
    let server = scene.serve()?;
    let mut held = Vec::new();
    for family in Family::ALL {
        for port in [143, 993] {
            let mut session = scene.session(family, port)?;
            session.enter()?;
            held.push(session);
        }
    }
    for (count, port) in (1..).zip([143, 993]) {
        name(&scene, CONNECTION, Family::V4, port)?;
        let records = postern.wait_records(count)?;
        let record = records.last().context("no record")?;
        assert_eq!(record.text("event.reason"), "internal_panic", "{record:#?}");
        assert_eq!(record.text("observer.ingress.interface.name"), INGRESS);
    }
    held.iter_mut().try_for_each(works)?;
    held.into_iter().try_for_each(Session::logout)?;
    let records = postern.wait_records(6)?;
    assert_eq!(records.iter().filter(|record| record.succeeded()).count(), 4, "{records:#?}");
    assert_eq!(postern.log().matches("a fault in Postern ended this connection").count(), 2);
    assert_eq!((of_thread(&postern, 0, "restarts")?, of_thread(&postern, 0, "sessions")?), (0, 0));
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_thread_that_dies_takes_its_own_sessions_only_and_is_replaced() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("threads = 2"))?;
    let postern = start(&scene)?;
    let server = scene.serve()?;
    for round in 1..=3 {
        let mut held = Vec::new();
        for family in Family::ALL.into_iter().cycle().take(24) {
            held.push(new_session(&scene, family)?);
        }
        let before = [of_thread(&postern, 0, "sessions")?, of_thread(&postern, 1, "sessions")?];
        ensure!(before.iter().sum::<u64>() == 24 && !before.contains(&0), "spread as {before:?}");
        name(&scene, THREAD, Family::V4, 993)?;
        // Nobody is turned away while the successor is not there yet.
        for family in Family::ALL.into_iter().cycle().take(8) {
            new_session(&scene, family)?.logout()?;
        }
        let alive = held.iter_mut().map(works).filter(Result::is_ok).count() as u64;
        ensure!(before.contains(&alive), "{alive} of {before:?} survived\n{}", postern.log());
        restarted(&postern, round)?;
        drop(held);
        wait::until("the end of all sessions", PATIENCE, || {
            let active = of_thread(&postern, 0, "sessions")? + of_thread(&postern, 1, "sessions")?;
            Ok((active == 0).then_some(()))
        })?;
    }
    assert_eq!(
        postern.log().matches("a thread of the worker died: a fault in Postern").count(),
        3,
        "{}",
        postern.log()
    );
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn the_only_thread_is_replaced_too_and_while_it_is_dead_nobody_passes_uninspected() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("threads = 1"))?;
    let postern = start(&scene)?;
    let server = scene.serve()?;
    name(&scene, THREAD, Family::V6, 143)?;
    let records = postern.wait_records(1)?;
    let [record] = records.as_slice() else { bail!("{records:#?}") };
    assert_eq!(record.text("event.reason"), "internal_panic", "{record:#?}");
    // The SYN is dropped until somebody listens, and the client's retransmission is answered.
    for family in Family::ALL {
        let mut session = new_session(&scene, family)?;
        works(&mut session)?;
        session.logout()?;
    }
    restarted(&postern, 1)?;
    assert_eq!(postern.wait_records(3)?.len(), 3);
    assert_eq!(of_thread(&postern, 0, "accepted_total")?, 3, "the successor goes on counting");
    drop(server);
    postern.stop()?;
    scene.finish()
}
