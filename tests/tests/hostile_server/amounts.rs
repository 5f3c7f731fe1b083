//! Too much, too slow.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::corpus::make::eicar;
use postern_tests::fetched::shown;
use postern_tests::imap_script::{Book, literal, respond, serve};
use postern_tests::lab::Family;
use postern_tests::mediated::policy;
use postern_tests::scene::{MESSAGE, Scene};

use super::against::{between, clear, is_fetch, nothing_of};

/// Octets that the daemon's processes hold in memory.
fn resident(pids: &[u32]) -> Result<u64> {
    let mut octets = 0;
    for pid in pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        octets += kib * 1024;
    }
    Ok(octets)
}

#[test]
fn a_flood_of_what_nobody_asked_for_costs_no_memory() -> Result<()> {
    const ROUNDS: usize = 400;
    const BODY_BYTES: usize = 64 * 1024;
    const GROWTH_BYTES_MAX: u64 = 32 * 1024 * 1024;
    let scene = Scene::new(&policy())?;
    let postern = scene.start()?;
    let server = serve(&scene, vec![Book::new(MESSAGE, 7)], |desk, asked| {
        if asked.verb == "NOOP" {
            let body = literal(&b"sixteen octets\r\n".repeat(BODY_BYTES / 16));
            let one = respond(1, &[("UID".to_owned(), b"7".to_vec()), ("BODY[]".to_owned(), body)]);
            for _ in 0..ROUNDS {
                desk.say(&one)?;
            }
        }
        Ok(false)
    })?;
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    let before = resident(&postern.processes()?)?;
    // In lines, which is how the lab's client reads.
    let heard = session.hear("NOOP")?;
    ensure!(heard.is_ok(), "the session ended");
    let after = resident(&postern.processes()?)?;
    ensure!(after < before + GROWTH_BYTES_MAX, "memory grew from {before} to {after}");
    drop(session);
    let _ = server.result();
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_response_of_a_hundred_thousand_items_ends_or_passes_but_does_not_stall() -> Result<()> {
    const ITEMS: usize = 100_000;
    between(
        &[MESSAGE],
        |desk, asked| {
            if asked.verb == "NOOP" {
                let items = vec![("FLAGS".to_owned(), b"()".to_vec()); ITEMS];
                desk.say(respond(1, &items))?;
            }
            Ok(false)
        },
        |session| {
            // An answer or an end: that nothing comes for too long is an error of its own.
            session.hear("NOOP").map(drop)
        },
    )?;
    Ok(())
}

#[test]
fn a_message_over_the_limit_is_refused_by_words_or_by_an_end() -> Result<()> {
    let sample = clear()?;
    let checked = sample.clone();
    between(
        &[&sample.octets],
        |desk, asked| {
            if !is_fetch(asked) {
                return Ok(false);
            }
            // More than anybody has; then the forbidden part, and no end.
            desk.say("* 1 FETCH (UID 7 BODY[2] {4294967295}\r\n")?;
            desk.say(eicar())?;
            desk.hang_up();
            Ok(true)
        },
        |session| {
            let heard = session.hear("FETCH 1 (BODY.PEEK[2])")?;
            nothing_of(&checked, &heard)?;
            ensure!(!heard.is_ok(), "{}", shown(&heard.octets));
            Ok(())
        },
    )?;
    Ok(())
}

#[test]
fn a_client_that_waits_for_a_held_answer_is_told_something() -> Result<()> {
    const SILENCE: Duration = Duration::from_secs(5);
    between(
        &[MESSAGE],
        |desk, asked| {
            if !is_fetch(asked) {
                return Ok(false);
            }
            let answer = desk.shelf[0].answer(1, asked);
            let (one, two) = answer.split_at(answer.len() / 2);
            desk.say(one)?;
            std::thread::sleep(SILENCE);
            desk.say(two)?;
            desk.done(asked)?;
            Ok(true)
        },
        |session| {
            let heard = session.hear("FETCH 1 (BODY.PEEK[])")?;
            ensure!(heard.is_ok() && heard.says(MESSAGE), "{}", shown(&heard.octets));
            let first = heard.octets.split(|&octet| octet == b'\n').next().unwrap_or_default();
            // K-9 reads the second and the third word of it.
            let words = String::from_utf8_lossy(first).split_whitespace().count();
            ensure!(first.starts_with(b"* OK ") && words > 2, "nothing before {}", shown(first));
            Ok(())
        },
    )?;
    Ok(())
}
