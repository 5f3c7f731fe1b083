//! What a client, or many, may take: handshakes, sessions, memory.

use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{self, Session};
use postern_tests::imap_server::large_message;
use postern_tests::lab::Family;
use postern_tests::postern::{Policy, Postern};
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::wait::{self, PATIENCE};
use rustls::ALL_VERSIONS;

/// Larger than every buffer on the way.
const LARGE_BYTES: usize = 16 * 1000 * 1000;

/// Connections that say nothing, in the middle of their handshakes: all of them were accepted.
fn stalled(scene: &Scene, postern: &Postern<'_>, count: u64) -> Result<Vec<TcpStream>> {
    let before = postern.counter("handshakes")?;
    let to = scene.server(Family::V4, 993);
    let held = (0..count).map(|_| scene.lab.client.connect(to)).collect::<Result<Vec<_>>>()?;
    wait::until("the handshakes to begin", PATIENCE, || {
        Ok((postern.counter("handshakes")? == before + count).then_some(()))
    })?;
    Ok(held)
}

/// What a client on port 143 is told first.
fn first_line(scene: &Scene, family: Family) -> Result<String> {
    Session::clear(scene.lab.client.connect(scene.server(family, 143))?).line()
}

#[test]
fn a_client_with_sixteen_handshakes_in_progress_is_refused_and_others_are_served() -> Result<()> {
    let scene = Scene::new(&Policy::new().handshakes_limited())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let held = stalled(&scene, &postern, 16)?;
    let told = first_line(&scene, Family::V4)?;
    ensure!(told.starts_with("* BYE Too many logins in progress"), "{told}");
    client::is_reset(&scene.lab.client, scene.server(Family::V4, 993))?;
    ensure!(postern.counter("refused_client_handshakes")? == 2, "{:#}", postern.status()?);
    let said = scene.installation.command(&scene.lab.gateway, &["status"])?.stdout;
    ensure!(said.contains("refused: 0 total limit, 2 client limit, 0 client rate"), "{said}");
    // The other family is another client.
    scene.session(Family::V6, 993)?.logout()?;
    drop(held);
    wait::until("the client to be served again", PATIENCE, || Ok(scene.fetches().ok()))?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_handshake_that_is_over_counts_no_more_and_neither_does_a_bypassed_connection() -> Result<()> {
    let bypass = format!("bypass = [\"{}\"]", Family::V4.other_server());
    let policy = Policy::new().handshakes_limited().limits("handshakes_per_client = 1").action(&bypass);
    let scene = Scene::new(&policy)?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut held = Vec::new();
    // A client is done with its handshake before Postern has read its Finished, and connected before it is accepted.
    let over = |connections| {
        wait::until("the relay", PATIENCE, || {
            let seen = postern.counter("accepted_total")? + postern.counter("refused_client_handshakes")?;
            Ok((seen == connections && postern.counter("handshakes")? == 0).then_some(()))
        })
    };
    for (port, before) in [(143, 0), (993, 2)] {
        held.push(scene.session(Family::V4, port)?);
        over(before + 1)?;
        let mut passed = scene.lab.client.connect(scene.other(port))?;
        if port == 143 {
            postern_tests::scripted::line(&mut passed)?;
        }
        over(before + 2)?;
    }
    ensure!(postern.counter("refused_client_handshakes")? == 0, "{:#}", postern.status()?);
    held.iter_mut().try_for_each(Session::noop)?;
    drop((held, server));
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_client_that_comes_too_often_is_refused_until_it_has_paused() -> Result<()> {
    let limits = "handshakes_per_second_per_client = 1\nhandshake_burst_per_client = 4";
    let scene = Scene::new(&Policy::new().handshakes_limited().limits(limits))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let told = wait::until("a refusal", PATIENCE, || {
        Ok(Some(first_line(&scene, Family::V4)?).filter(|line| line.starts_with("* BYE")))
    })?;
    ensure!(told.contains("Too many connections a second"), "{told}");
    ensure!(postern.counter("refused_client_rate")? == 1, "{:#}", postern.status()?);
    scene.session(Family::V6, 993)?.logout().context("another client")?;
    wait::until("the client to be served again", PATIENCE, || Ok(scene.fetches().ok()))?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn over_the_limit_on_all_handshakes_new_ones_are_refused_and_nothing_passes_uninspected() -> Result<()> {
    let scene = Scene::new(&Policy::new().on_exit("open").handshakes_limited().limits("handshakes = 3"))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut session = scene.session(Family::V6, 993)?;
    let held = stalled(&scene, &postern, 3)?;
    for family in Family::ALL {
        let told = first_line(&scene, family)?;
        ensure!(told.starts_with("* BYE Too many logins in progress"), "{told}");
        client::is_reset(&scene.lab.client, scene.server(family, 993))?;
    }
    let status = postern.status()?;
    let at = |path: &str| status.pointer(path).cloned();
    ensure!(at("/sessions/refused_handshakes") == Some(4.into()), "{status:#}");
    ensure!(at("/steering/intake") == Some("steered".into()), "{status:#}");
    session.noop().context("a session that exists goes on")?;
    drop(held);
    wait::until("others to be served again", PATIENCE, || Ok(scene.fetches().ok()))?;
    drop((session, server));
    postern.stop()?;
    scene.finish()
}

#[test]
fn sessions_that_hold_all_buffers_and_do_not_read_give_way_to_one_that_does() -> Result<()> {
    // Some 14 directions may have octets on their way at once.
    let limits = "memory = \"16 MiB\"\nsessions = 64\nsessions_per_client = 48";
    let scene = Scene::new(&Policy::new().on_exit("closed").steering("threads = 1").limits(limits))?;
    let postern = scene.start()?;
    let tls = scene.identity.server_config(ALL_VERSIONS)?;
    let server = scene.serve_with(tls, vec![MESSAGE.to_vec(), large_message(LARGE_BYTES)])?;
    let buffers = postern.counter("buffers_per_thread")?;
    ensure!((8..=16).contains(&buffers), "{buffers}");
    let stuck = (0..buffers + 8)
        .map(|_| {
            let mut session = scene.session(Family::V4, 993)?;
            session.enter()?;
            // Of the answer nothing is ever read.
            session.send_command("FETCH 2 BODY[]")?;
            Ok(session)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut other = scene.session(Family::V6, 993).context("another client")?;
    other.enter()?;
    ensure!(other.fetch(1)? == MESSAGE, "another message came");
    let ended = postern
        .wait_record("a session that gave way", |record| record.text("event.reason") == "memory_shortage")?;
    ensure!(ended.text("client.ip") == Family::V4.client().to_string(), "{ended:#?}");
    ensure!(ended.text("postern.side") == "downstream", "{ended:#?}");
    ensure!(ended.text("message").contains("raise limits.memory"), "{ended:#?}");
    // Who waited in line behind it and reads gets all of it.
    let answer = other.command("FETCH 2 BODY[]")?.ok()?;
    ensure!(answer.literals == [large_message(LARGE_BYTES)], "not all of it came");
    drop((stuck, other, server));
    postern.stop()?;
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    scene.finish()
}

/// Octets that the kernel lets each buffer of the gateway's mail sockets hold, as `ss` shows them.
fn socket_buffers(scene: &Scene) -> Result<Vec<u64>> {
    let mut command = scene.lab.gateway.command(Path::new("ss"));
    command.args(["-Htnm", "state", "established", "( sport = 993 or dport = 993 )"]);
    let output = postern_tests::netns::run(&mut command, "", PATIENCE)?;
    let text = postern_tests::netns::success("ss", &output)?;
    let fields = text
        .split(['(', ',', ')'])
        .filter_map(|field| field.strip_prefix("rb").or_else(|| field.strip_prefix("tb"))?.parse().ok());
    Ok(fields.collect())
}

#[test]
fn the_sockets_of_a_session_hold_what_its_memory_leaves_however_large_the_mail_is() -> Result<()> {
    for (limits, session) in [("", 2 << 20), ("session_memory = \"512 KiB\"", 512 << 10)] {
        let scene = Scene::new(&Policy::new().limits(limits))?;
        let postern = scene.start()?;
        let tls = scene.identity.server_config(ALL_VERSIONS)?;
        let server = scene.serve_with(tls, vec![MESSAGE.to_vec(), large_message(LARGE_BYTES)])?;
        ensure!(postern.counter("session")? == session, "{:#}", postern.status()?);
        let mut client = scene.session(Family::V4, 993)?;
        client.enter()?;
        // Left to itself the kernel lets buffers grow with what goes through them.
        let answer = client.command("FETCH 2 BODY.PEEK[]")?.ok()?;
        ensure!(answer.literals == [large_message(LARGE_BYTES)], "not all of it came");
        let buffers = socket_buffers(&scene)?;
        let all: u64 = buffers.iter().sum();
        ensure!(buffers.len() == 4, "{buffers:?}");
        ensure!(all < session && all > session / 2, "{buffers:?} are {all} octets of {session}");
        client.logout()?;
        drop(server);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}
