//! Interfaces that are listed by patterns.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::crowd::Crowd;
use postern_tests::lab::{Family, GUEST, Shape};
use postern_tests::postern::{Policy, Postern};
use postern_tests::scene::Scene;
use postern_tests::wait::{self, PATIENCE};

/// What the guest's interface is renamed to.
const LATE: &str = "vlan7";

fn scene(policy: &Policy) -> Result<Scene> {
    let policy = policy.clone().ingress(&["vlan*", "lan*"]).egress(&["wan*"]);
    Scene::shaped(&policy, Shape { guest: true, ..Shape::default() })
}

/// So that no pattern means the guest's interface any more, or that one does.
fn rename(scene: &Scene, from: &str, to: &str) -> Result<()> {
    let gateway = &scene.lab.gateway;
    gateway.ip(&["link", "set", from, "down"])?;
    gateway.ip(&["link", "set", from, "name", to])?;
    gateway.ip(&["link", "set", to, "up"])?;
    for (family, bits) in [(Family::V4, 24), (Family::V6, 64)] {
        let address = format!("{}/{bits}", family.gateway_guest());
        gateway.ip(&["address", "replace", &address, "dev", to])?;
    }
    Ok(())
}

/// Sessions that Postern serves: the client trusts its authority alone.
fn sessions_of_the_guest(scene: &Scene) -> Result<Crowd> {
    let config = scene.client()?;
    Crowd::open(4, |number| {
        let family = if number % 2 == 0 { Family::V4 } else { Family::V6 };
        let to = SocketAddr::new(family.server(), 993);
        let mut session = Session::open(scene.lab.guest()?, to, family.name(), &config)?;
        session.enter()?;
        Ok(session)
    })
}

fn interfaces(postern: &Postern<'_>) -> Result<String> {
    let status = postern.status()?;
    Ok(status.pointer("/steering/interfaces").context("no such field")?.to_string())
}

#[test]
fn what_a_pattern_matches_is_served_as_it_comes_and_is_no_repair() -> Result<()> {
    for source in ["gateway", "client"] {
        let scene = scene(&Policy::new().source(source))?;
        let server = scene.serve()?;
        let postern = scene.start()?;
        let mut crowd = scene.sessions(8)?;
        ensure!(!interfaces(&postern)?.contains(LATE), "it is not there yet");
        let repairs = postern.counter("repairs")?;
        rename(&scene, GUEST, LATE)?;
        let mut guests =
            wait::until("sessions of the guest", PATIENCE, || Ok(sessions_of_the_guest(&scene).ok()))?;
        guests.prove()?;
        postern.wait_log(&format!("interface {LATE} is there and served, a pattern matches it"))?;
        ensure!(interfaces(&postern)?.contains(LATE), "{}", interfaces(&postern)?);
        drop(guests);
        let record = postern.wait_record("a guest's session", |record| {
            record.text("observer.ingress.interface.name") == "vlan*"
        })?;
        ensure!(record.text("observer.egress.interface.name") == "wan0", "{record:#?}");
        rename(&scene, LATE, GUEST)?;
        postern.wait_log(&format!("interface {LATE} is gone; a pattern matched it"))?;
        wait::until("its rules to go", PATIENCE, || {
            let rules =
                scene.lab.gateway.ip(&["rule", "show"])? + &scene.lab.gateway.ip(&["-6", "rule", "show"])?;
            Ok((!rules.contains(LATE)).then_some(()))
        })?;
        crowd.prove().context("others never noticed")?;
        ensure!(postern.counter("repairs")? == repairs, "{}", postern.log());
        drop((crowd, server));
        postern.stop()?;
    }
    Ok(())
}

#[test]
fn rules_of_a_matched_interface_that_others_flush_come_back_and_are_counted() -> Result<()> {
    let scene = scene(&Policy::new())?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    scene.lab.gateway.ip(&["rule", "delete", "iif", "lan0", "ipproto", "tcp", "dport", "993"])?;
    postern.wait_log("put back: rules of lan0")?;
    scene.fetches()?;
    ensure!(postern.counter("repairs")? >= 1, "{}", postern.log());
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn under_closed_nothing_of_a_matched_interface_is_forwarded_past_its_rules() -> Result<()> {
    let scene = scene(&Policy::new().on_exit("closed"))?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    scene.fetches()?;
    for family in ["-4", "-6"] {
        // Beside the kernel's own rule: no preference is left for Postern's, as if they were not there yet.
        scene.lab.gateway.ip(&[family, "rule", "add", "pref", "0", "lookup", "main"])?;
    }
    let before = server.log().len();
    for family in Family::ALL {
        let knocked = scene.lab.client.enter(|| {
            let to = SocketAddr::new(family.server(), 993);
            Ok(std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_millis(700)))
        })?;
        ensure!(knocked.is_err(), "{family:?}: somebody answers");
    }
    ensure!(server.log().len() == before, "{:?}", server.log());
    ensure!(postern.counter("forward_dropped")? >= 2, "{:#}", postern.status()?);
    let status = postern.status()?.to_string();
    ensure!(status.contains("nft inet postern forward: iifname lan* tcp dport 993 drop"), "{status}");
    for family in ["-4", "-6"] {
        scene.lab.gateway.ip(&[family, "rule", "delete", "pref", "0", "lookup", "main"])?;
    }
    scene.fetches()?;
    drop(server);
    postern.stop()?;
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    scene.finish()
}
