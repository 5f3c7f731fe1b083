//! The daemon's life: start, reload, stop, and what it leaves.

use std::fs::{self, File};

use anyhow::{Context as _, Result};
use postern_tests::client::Session;
use postern_tests::lab::{self, Family};
use postern_tests::postern::{Installation, Policy};
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::stuck::Stuck;
use postern_tests::wait::{self, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_stop_lets_sessions_finish() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let mut postern = scene.start()?;
    let server = scene.serve()?;
    let mut session = scene.session(Family::V4, 143)?;
    session.enter()?;
    postern.signal(Signal::TERM)?;
    wait::until("the stop to begin", PATIENCE, || Ok(postern.log().contains("draining").then_some(())))
        .with_context(|| postern.log())?;
    assert_eq!(postern.counter("active")?, 1, "the status shows what is waited for");
    assert_eq!(session.fetch(1)?, MESSAGE);
    session.logout()?;
    assert!(postern.wait(PATIENCE)?.success());
    let records = postern.records()?;
    assert!(records.iter().all(Record::succeeded) && records.len() == 1, "{records:#?}");
    drop((server, postern));
    scene.finish()
}

#[test]
fn a_stop_cuts_sessions_when_its_bound_is_over() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("drain_seconds = 1"))?;
    cut(scene, 1)
}

#[test]
fn a_second_term_cuts_at_once() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("drain_seconds = 86400"))?;
    cut(scene, 2)
}

fn cut(scene: Scene, terms: usize) -> Result<()> {
    let mut postern = scene.start()?;
    let server = scene.serve()?;
    let sessions = [scene.session(Family::V4, 143)?, scene.session(Family::V6, 993)?];
    for _ in 0..terms {
        postern.signal(Signal::TERM)?;
        // Two signals of one kind that are pending together are one.
        wait::until("the stop to begin", PATIENCE, || Ok(postern.log().contains("draining").then_some(())))?;
    }
    postern.wait(PATIENCE)?;
    let records = postern.records()?;
    assert_eq!(records.len(), 2, "{records:#?}");
    assert!(records.iter().all(|record| record.text("event.reason") == "cut_by_stop"), "{records:#?}");
    for mut session in sessions {
        let _ = session.to_end();
    }
    drop((server, postern));
    scene.finish()
}

#[test]
fn a_reload_takes_a_good_configuration_and_keeps_the_old_one_before_a_bad_one() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let ours = scene.installation.authority_pem();
    assert_ne!(scene.shown(scene.other(993), ours)?, scene.identity.fingerprint()?);

    let bypass = format!("bypass = [\"{}/32\"]", Family::V4.other_server());
    scene.installation.configure(&Policy::new().action(&bypass))?;
    let mut held = scene.session(Family::V4, 993)?;
    postern.signal(Signal::HUP)?;
    let both = format!("{ours}{}", scene.roots.pem());
    wait::until("the new configuration", PATIENCE, || {
        let now = scene.shown(scene.other(993), &both)?;
        Ok((now == scene.identity.fingerprint()?).then_some(()))
    })?;
    // A session keeps its connection.
    held.command("NOOP")?.ok()?;
    held.logout()?;

    let before = postern.log().len();
    scene.installation.configure(&Policy::new().action("bypass = [\"not a network\"]"))?;
    postern.signal(Signal::HUP)?;
    wait::until("a loud refusal", PATIENCE, || {
        Ok(postern.log().get(before..).is_some_and(|log| log.contains("not a network")).then_some(()))
    })
    .with_context(|| postern.log())?;
    assert_eq!(scene.shown(scene.other(993), &both)?, scene.identity.fingerprint()?);
    scene.installation.configure(&Policy::new().action(&bypass))?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_start_cleans_up_what_a_killed_predecessor_left() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let server = scene.serve()?;
    let first = scene.start()?;
    scene.fetches()?;
    let program = first.counter("program_id")?;
    first.kill()?;
    wait::until("the end of the killed daemon's program", PATIENCE, || {
        Ok((!lab::loaded_programs()?.contains(&u32::try_from(program)?)).then_some(()))
    })?;
    let second = scene.start()?;
    scene.fetches()?;
    second.wait_records(1)?;
    assert_eq!(second.counter("steered_ipv4")?, 1);
    drop(server);
    second.stop()?;
    scene.finish()
}

#[test]
fn a_stop_leaves_nothing_and_mail_flows_past() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    scene.fetches()?;
    let program = u32::try_from(postern.counter("program_id")?)?;
    assert!(lab::loaded_programs()?.contains(&program));
    assert!(postern.log().contains("open"), "`run` says that a stop is open: {}", postern.log());
    postern.stop()?;
    scene.lab.assert_clean()?;
    wait::until("the end of the program", PATIENCE, || {
        Ok((!lab::loaded_programs()?.contains(&program)).then_some(()))
    })?;
    // Nothing steers any more: the client meets the server's own certificate.
    assert_eq!(scene.shown(scene.server(Family::V4, 993), scene.roots.pem())?, scene.identity.fingerprint()?);
    drop(server);
    scene.finish()
}

#[test]
fn a_second_postern_in_the_same_namespace_refuses_in_words() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let other = Installation::new(&Policy::new(), &scene.roots)?;
    let mut second = other.spawn(&scene.lab.gateway, &[])?;
    let status = second.wait(PATIENCE)?;
    assert!(!status.success());
    assert!(second.log().contains("another"), "{}", second.log());
    scene.fetches()?;
    drop((second, server));
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_wrong_configuration_ends_with_64_before_anything_is_touched() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("thraeds = 1"))?;
    let mut postern = scene.installation.spawn(&scene.lab.gateway, &[])?;
    let status = postern.wait(PATIENCE)?;
    assert_eq!(status.code(), Some(64));
    let log = postern.log();
    assert!(log.contains("thraeds") && log.contains("threads") && log.contains("postern.toml"), "{log}");
    drop(postern);
    scene.finish()
}

#[test]
fn a_session_that_a_kill_ends_has_left_its_first_line() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut idle = scene.session(Family::V6, 993)?;
    idle.enter()?;
    let start = wait::until("the line of a session that goes on", PATIENCE, || {
        Ok(postern.starts()?.into_iter().next())
    })?;
    assert!(postern.records()?.is_empty(), "the session goes on");
    let client = idle.socket().local_addr()?;
    for (key, value) in [
        ("event.action", "session_start".to_owned()),
        ("client.ip", client.ip().to_string()),
        ("server.ip", Family::V6.server().to_string()),
        ("observer.ingress.interface.name", lab::INGRESS.to_owned()),
        ("postern.mode", "implicit".to_owned()),
    ] {
        assert_eq!(start.text(key), value, "{key}: {start:#?}");
    }
    assert_eq!(start.number("client.port"), u64::from(client.port()));
    idle.logout()?;
    let end = postern.wait_records(1)?.remove(0);
    assert_eq!(start.text("event.id"), end.text("event.id"), "{start:#?}{end:#?}");
    assert_eq!(start.text("@timestamp"), end.text("@timestamp"));

    let mut cut = scene.session(Family::V4, 143)?;
    let starts = wait::until("another such line", PATIENCE, || {
        let starts = postern.starts()?;
        Ok((starts.len() == 2).then_some(starts))
    })?;
    assert_ne!(starts[0].text("event.id"), starts[1].text("event.id"), "{starts:#?}");
    let worker = i32::try_from(postern.process("worker")?).ok().and_then(Pid::from_raw);
    kill_process(worker.context("no worker")?, Signal::KILL)?;
    let _ = cut.to_end();
    postern.wait_log("the worker died")?;
    let left = fs::read_to_string(scene.installation.dir().join("records"))?;
    assert_eq!(left.matches(starts[1].text("event.id")).count(), 1, "a start without an end: {left}");
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn without_records_start_there_are_records_only() -> Result<()> {
    let scene = Scene::new(&Policy::new().table("[records]\nstart = false"))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    scene.fetches()?;
    assert_eq!(postern.wait_records(1)?.len(), 1);
    assert!(postern.starts()?.is_empty(), "{:#?}", postern.starts());
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// Sessions that leave at once.
const CROWD: usize = 600;

/// Memory of a process that no file stands behind, in KB.
fn anonymous(pid: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).context("no count")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[test]
fn the_memory_of_sessions_that_have_left_is_given_back() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let pid = postern.process("worker")?.to_string();
    scene.fetches()?;
    let before = anonymous(&pid)?;
    let crowd = scene.sessions(CROWD)?;
    let most = anonymous(&pid)?;
    crowd.logout()?;
    let given_back = || Ok((anonymous(&pid)? < before + (most - before) / 3).then_some(()));
    wait::until("the memory of sessions that have left", PATIENCE, given_back).with_context(|| {
        format!("{before} KB before, {most} KB with {CROWD} sessions, {:?} KB now", anonymous(&pid))
    })?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_stop_ends_although_nobody_reads_the_records_and_says_that_they_are_lost() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("drain_seconds = 86400"))?;
    let (stuck, log) = (Stuck::new()?, File::create(scene.installation.dir().join("log"))?);
    let mut postern = scene.installation.spawn_onto(&scene.lab.gateway, &[], stuck.stream()?, log.into())?;
    postern.wait_log("steering IMAP")?;
    let server = scene.serve()?;
    let held = scene.session(Family::V4, 993)?;
    (0..3).try_for_each(|_| scene.fetches())?;
    postern.signal(Signal::TERM)?;
    postern.wait_log("draining")?;
    postern.signal(Signal::TERM)?;
    assert!(postern.wait(PATIENCE)?.success());
    assert!(postern.log().contains("records are missing"), "{}", postern.log());
    scene.lab.assert_clean()?;
    drop((held, server, postern, stuck));
    scene.finish()
}

#[test]
fn a_stderr_that_nobody_reads_holds_no_thread_and_no_stop() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("threads = 1"))?;
    let (stuck, records) = (Stuck::new()?, File::create(scene.installation.dir().join("records"))?);
    let wrapper = ["env", "POSTERN_FAULT=1"];
    let mut postern =
        scene.installation.spawn_onto(&scene.lab.gateway, &wrapper, records.into(), stuck.stream()?)?;
    wait::until("Postern to answer", PATIENCE, || Ok(postern.status().ok()))?;
    let server = scene.serve()?;
    // The only mail thread has something to say: a panic, and whose connection it ended.
    let (to, name) = (scene.server(Family::V4, 993), "panic.connection.invalid");
    assert!(Session::open(&scene.lab.client, to, name, &scene.client()?).is_err(), "{name} was served");
    postern.wait_record("of the panic", |record| record.text("event.reason") == "internal_panic")?;
    scene.fetches()?;
    // So has the control task.
    postern.signal(Signal::HUP)?;
    let held = scene.session(Family::V6, 143)?;
    assert_eq!(postern.counter("active")?, 1);
    postern.signal(Signal::TERM)?;
    wait::until("the stop to begin", PATIENCE, || {
        let status = postern.status()?;
        Ok((status["steering"]["intake"] == "pass uninspected").then_some(()))
    })?;
    postern.signal(Signal::TERM)?;
    assert!(postern.wait(PATIENCE)?.success());
    let records = postern.records()?;
    assert_eq!(records.len(), 3, "{records:#?}");
    drop((held, server, postern, stuck));
    scene.finish()
}
