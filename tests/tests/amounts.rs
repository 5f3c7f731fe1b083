//! Mail in amounts: what it takes while it is judged, and that nobody else waits for it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::corpus::{clean, hostile_large};
use postern_tests::lab::Family;
use postern_tests::mediated::policy;
use postern_tests::postern::Postern;
use postern_tests::scene::Scene;
use rustls::ALL_VERSIONS;

/// Octets of the attachment before the program, before base64: the message has 50 MB.
const LARGE_BYTES: usize = 37 * 1000 * 1000;
/// Messages of one FETCH.
const MANY: usize = 10_000;

/// The most memory that the worker ever had, in octets.
fn peak(postern: &Postern<'_>) -> Result<usize> {
    let status = fs::read_to_string(format!("/proc/{}/status", postern.process("worker")?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

fn entered(scene: &Scene) -> Result<Session> {
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    Ok(session)
}

#[test]
fn fifty_megabytes_with_the_program_last_arrive_without_it_in_bounded_memory() -> Result<()> {
    let sample = hostile_large(LARGE_BYTES);
    let scene = Scene::new(&policy())?;
    let server =
        scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![sample.octets.clone()])?;
    let postern = scene.start()?;
    let before = peak(&postern)?;
    let mut session = entered(&scene)?;
    let arrived = session.fetch(1)?;
    sample.arrived_as(&sample.octets, &arrived)?;
    session.logout()?;
    let grown = peak(&postern)? - before;
    // Once as it came, its largest leaf decoded, and what an allocator keeps.
    ensure!(grown < sample.octets.len() * 5 / 2, "{grown} octets for a message of {}", sample.octets.len());
    postern.stop()?;
    drop(server);
    scene.finish()
}

#[test]
fn ten_thousand_messages_of_one_command_are_judged_in_little_memory() -> Result<()> {
    let message = clean().swap_remove(0).octets;
    let scene = Scene::new(&policy())?;
    let server =
        scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![message.clone(); MANY])?;
    let postern = scene.start()?;
    let before = peak(&postern)?;
    let mut session = entered(&scene)?;
    let answer = session.command("FETCH 1:* (UID BODY.PEEK[])")?.ok()?;
    ensure!(answer.literals.len() == MANY, "{} came", answer.literals.len());
    ensure!(answer.literals.iter().all(|came| *came == message), "another message came");
    session.logout()?;
    let grown = peak(&postern)? - before;
    ensure!(grown < 32 * 1024 * 1024, "{grown} octets");
    postern.stop()?;
    drop(server);
    scene.finish()
}

#[test]
fn a_slow_reader_and_mail_that_is_held_stall_no_other_session() -> Result<()> {
    let (large, small) = (hostile_large(LARGE_BYTES), clean().swap_remove(0).octets);
    // One mail thread, so that all sessions share it.
    let scene = Scene::new(&policy().steering("threads = 1"))?;
    let tls = scene.identity.server_config(ALL_VERSIONS)?;
    let server = scene.serve_with(tls, vec![large.octets.clone(), small.clone()])?;
    let postern = scene.start()?;
    let mut slow = entered(&scene)?;
    slow.send_command("FETCH 1 BODY.PEEK[]")?;
    let mut uploads = entered(&scene)?;
    uploads.send_command(&format!("APPEND INBOX {{{}}}", large.octets.len()))?;
    ensure!(uploads.line()?.starts_with('+'), "the upload may begin");
    let (half, _) = large.octets.split_at(large.octets.len() / 2);
    uploads.send(half)?;
    for _ in 0..20 {
        let mut other = entered(&scene)?;
        ensure!(other.fetch(2)? == small, "another message came");
        other.append(&small)?;
        other.logout()?;
    }
    drop((slow, uploads));
    postern.stop()?;
    drop(server);
    scene.finish()
}
