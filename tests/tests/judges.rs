//! Judges: what becomes of mail when one of them dies, hangs, eats memory or lies. Debug builds do that on demand.

use anyhow::{Context as _, Result, bail, ensure};
use postern_tests::client::Session;
use postern_tests::lab::Family;
use postern_tests::postern::{Policy, Postern};
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::wait::{self, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use rustls::ALL_VERSIONS;
use serde_json::Value;

const ON_DEMAND: [&str; 2] = ["env", "POSTERN_JUDGE_FAULT=1"];
/// Sessions that ask for all mail at once.
const CROWD: usize = 12;

/// A message whose one part makes a judge do something.
fn hostile(word: &str) -> Vec<u8> {
    format!("From: eve@lab.test\r\nSubject: {word}\r\n\r\nA line before.\r\npostern-judge-fault:{word}\r\n")
        .into_bytes()
}

/// Larger than what travels inside a message between processes.
fn large(word: &str) -> Vec<u8> {
    let mut message = hostile(word);
    message.extend(b"0123456789 abcdefgh\r\n".repeat(10_000));
    message
}

/// A number of the judges', from the status.
fn of_judges(postern: &Postern<'_>, key: &str) -> Result<u64> {
    let status = postern.status()?;
    let number = status.pointer(&format!("/judges/{key}")).and_then(Value::as_u64);
    number.with_context(|| format!("no {key} in {status:#}"))
}

fn all_alive(postern: &Postern<'_>) -> Result<()> {
    wait::until("all judges", PATIENCE, || {
        let (wanted, alive) = (of_judges(postern, "wanted")?, of_judges(postern, "alive")?);
        Ok((wanted > 1 && wanted == alive).then_some(()))
    })
    .with_context(|| postern.log())
}

/// What a client gets is the message, with its one part overwritten.
fn is_overwritten(sent: &[u8], got: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(got);
    ensure!(got.len() == sent.len(), "{} octets became {}: {text}", sent.len(), got.len());
    ensure!(got.starts_with(b"From: eve@lab.test\r\nSubject: "), "{text}");
    ensure!(!text.contains("postern-judge-fault"), "{text}");
    Ok(())
}

struct Start<'a> {
    postern: Postern<'a>,
    _server: postern_tests::imap_server::ImapServer,
}

fn scene(limits: &str) -> Result<Scene> {
    Scene::new(&Policy::new().action("inspect = \"full\"").limits(limits))
}

fn start(scene: &Scene, messages: Vec<Vec<u8>>) -> Result<Start<'_>> {
    let postern = scene.installation.start_with(&scene.lab.gateway, &ON_DEMAND)?;
    let server = scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, messages)?;
    all_alive(&postern)?;
    Ok(Start { postern, _server: server })
}

fn session(scene: &Scene) -> Result<Session> {
    scene.logged_in(Family::V4, 993)
}

#[test]
fn honest_mail_is_judged_by_processes_without_powers() -> Result<()> {
    let scene = scene("")?;
    let message = large("none");
    let Start { postern, _server } = start(&scene, vec![MESSAGE.to_vec(), message.clone()])?;
    let mut session = session(&scene)?;
    ensure!(session.fetch(1)? == MESSAGE, "another message came");
    ensure!(session.fetch(2)? == message, "another message came");
    ensure!(of_judges(&postern, "leaves_total")? >= 2, "{:#}", postern.status()?);
    let status = postern.status()?;
    let processes = status["processes"].as_array().context("no processes")?;
    let judges: Vec<&Value> = processes.iter().filter(|process| process["name"] == "judge").collect();
    ensure!(u64::try_from(judges.len())? == of_judges(&postern, "wanted")?, "{status:#}");
    for judge in judges {
        ensure!(judge["seccomp"] == true && judge["capabilities"] == serde_json::json!([]), "{judge:#}");
        ensure!(judge["uid"] != processes[1]["uid"] && judge["uid"] != 0, "{status:#}");
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", judge["pid"]))?;
        let data = limits.lines().find(|line| line.starts_with("Max data size")).context("no limit")?;
        ensure!(!data.contains("unlimited"), "{data}");
    }
    session.logout()?;
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_part_that_ends_judges_cannot_be_scanned_and_other_mail_goes_on() -> Result<()> {
    for word in ["abort", "garbage", "forge", "memory"] {
        let scene = scene("judge_memory = \"64 MiB\"")?;
        let messages = [hostile(word), large(word), MESSAGE.to_vec()];
        let Start { postern, _server } = start(&scene, messages.to_vec())?;
        let mut others = session(&scene)?;
        let mut hostile = session(&scene)?;
        for (number, sent) in [(1, &messages[0]), (2, &messages[1])] {
            let got = hostile.fetch(number).with_context(|| postern.log())?;
            is_overwritten(sent, &got).with_context(|| format!("{word}: {}", postern.log()))?;
            ensure!(others.fetch(3)? == MESSAGE, "another message came");
        }
        assert_eq!(of_judges(&postern, "cannot_scan_total")?, 2, "{word}: {:#}", postern.status()?);
        assert_eq!(of_judges(&postern, "lost_total")?, 4, "{word}: {:#}", postern.status()?);
        all_alive(&postern)?;
        // A third judge is not asked.
        is_overwritten(&messages[0], &session(&scene)?.fetch(1)?)?;
        assert_eq!(of_judges(&postern, "cannot_scan_total")?, 3, "{word}: {:#}", postern.status()?);
        assert_eq!(of_judges(&postern, "lost_total")?, 4, "{word}: {:#}", postern.status()?);
        let verdicts = postern.verdicts()?;
        ensure!(verdicts.iter().all(|verdict| verdict.text("rule.name") == "cannot_scan"), "{verdicts:?}");
        ensure!(verdicts.len() == 3, "{verdicts:?}");
        drop((others, hostile));
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn a_judge_that_answers_twice_is_replaced_and_no_mail_gets_anothers_verdict() -> Result<()> {
    let scene = scene("")?;
    let messages = vec![hostile("twice"), MESSAGE.to_vec()];
    let Start { postern, _server } = start(&scene, messages.clone())?;
    let mut session = session(&scene)?;
    for _ in 0..3 {
        ensure!(session.fetch(1)? == messages[0], "another message came");
        ensure!(session.fetch(2)? == MESSAGE, "another message came");
    }
    postern.wait_log("it sent what no judge sends")?;
    all_alive(&postern)?;
    assert_eq!(of_judges(&postern, "cannot_scan_total")?, 0);
    drop(session);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_judge_that_loops_is_ended_by_its_time_and_one_that_sleeps_by_the_clock() -> Result<()> {
    // By the clock a part has four times as much, so that a busy machine ends the loop by its time all the same.
    let scene = scene("judge_seconds = 3")?;
    let messages = vec![hostile("loop"), hostile("sleep"), MESSAGE.to_vec()];
    let Start { postern, _server } = start(&scene, messages.clone())?;
    let mut others = session(&scene)?;
    let mut looping = session(&scene)?;
    is_overwritten(&messages[0], &looping.fetch(1).with_context(|| postern.log())?)?;
    ensure!(others.fetch(3)? == MESSAGE, "another message came");
    assert_eq!(of_judges(&postern, "cannot_scan_total")?, 1);
    ensure!(postern.log().contains("SIGXCPU"), "{}", postern.log());
    let mut sleeping = session(&scene)?;
    let Err(refused) = sleeping.fetch(2) else { bail!("a part without a verdict was served") };
    ensure!(format!("{refused:#}").contains("UNAVAILABLE"), "{refused:#}");
    assert_eq!(of_judges(&postern, "hung_total")?, 1);
    assert_eq!(of_judges(&postern, "cannot_scan_total")?, 1, "it is not final");
    ensure!(others.fetch(3)? == MESSAGE, "another message came");
    all_alive(&postern)?;
    drop((others, looping, sleeping));
    postern.stop()?;
    scene.finish()
}

#[test]
fn judges_outlive_a_worker_and_many_clients_at_once_get_what_is_theirs() -> Result<()> {
    let scene = scene("judge_memory = \"64 MiB\"")?;
    let messages =
        vec![hostile("abort"), MESSAGE.to_vec(), large("garbage"), large("none"), hostile("memory")];
    let Start { postern, _server } = start(&scene, messages.clone())?;
    for round in 0..2 {
        let mut sessions = (0..CROWD).map(|_| session(&scene)).collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            let all: Vec<_> = sessions
                .iter_mut()
                .enumerate()
                .map(|(at, session)| {
                    let messages = &messages;
                    scope.spawn(move || -> Result<()> {
                        for step in 0..messages.len() {
                            let at = (at + step) % messages.len();
                            let got = session.fetch(u32::try_from(at + 1)?)?;
                            if matches!(at, 1 | 3) {
                                ensure!(got == messages[at], "another message {at} came");
                            } else {
                                is_overwritten(&messages[at], &got)?;
                            }
                        }
                        Ok(())
                    })
                })
                .collect();
            all.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow::anyhow!("a panic"))?)
        })
        .with_context(|| postern.log())?;
        all_alive(&postern)?;
        if round == 0 {
            let worker = postern.process("worker")?;
            let pid = i32::try_from(worker).ok().and_then(Pid::from_raw).context("no process id")?;
            kill_process(pid, Signal::KILL)?;
            wait::until("another worker", PATIENCE, || {
                Ok(postern.process("worker").ok().filter(|pid| *pid != worker).map(drop))
            })?;
            wait::until("new connections to be taken", PATIENCE, || {
                Ok((postern.status()?["steering"]["intake"] == "steered").then_some(()))
            })?;
        }
    }
    postern.stop()?;
    scene.finish()
}
