//! What a client, or many, may take: handshakes, sessions, memory.

use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{self, Session};
use postern_tests::lab::Family;
use postern_tests::postern::{Policy, Postern};
use postern_tests::scene::Scene;
use postern_tests::wait::{self, PATIENCE};

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
    for port in [143, 993] {
        // What the client has seen of the relay begins when its handshake does not count any more.
        held.push(scene.session(Family::V4, port)?);
        let mut passed = scene.lab.client.connect(scene.other(port))?;
        if port == 143 {
            postern_tests::scripted::line(&mut passed)?;
        } else {
            wait::until("the relay", PATIENCE, || Ok((postern.counter("handshakes")? == 0).then_some(())))?;
        }
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
