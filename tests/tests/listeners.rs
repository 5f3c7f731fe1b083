//! Listeners that lose nothing: SYN cookies, floods, the kernel's spreading.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};
use postern_tests::frames::{Packet, Segment};
use postern_tests::lab::Family;
use postern_tests::postern::Policy;
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use postern_tests::scripted::read;
use postern_tests::wait::PATIENCE;
use postern_tests::wire::Wire;
use serde_json::Value;

const CONNECTIONS: usize = 400;
/// More than a listener's queue holds.
const FLOOD: u32 = 6000;

#[test]
fn with_syn_cookies_four_hundred_of_four_hundred_connect_and_are_spread() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("threads = 4"))?;
    scene.lab.gateway.sysctl(&[("ipv4/tcp_syncookies", "2")])?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    let connect = |number: usize| -> Result<TcpStream> {
        let family = if number.is_multiple_of(2) { Family::V4 } else { Family::V6 };
        let mut stream = scene.lab.client.connect(scene.server(family, 143))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting)?;
        ensure!(&greeting == b"* OK", "{greeting:?}");
        Ok(stream)
    };
    let mut open = Vec::new();
    for number in 0..CONNECTIONS {
        open.push(connect(number).with_context(|| format!("connection {number}"))?);
    }
    let status = postern.status()?;
    let accepted: Vec<u64> = status["threads"]
        .as_array()
        .context("no threads")?
        .iter()
        .filter_map(|thread| thread["accepted_total"].as_u64())
        .collect();
    ensure!(accepted.iter().sum::<u64>() == CONNECTIONS as u64, "{accepted:?}");
    // A thread is left out by chance once in 2^164.
    ensure!(accepted.len() == 4 && accepted.iter().all(|count| *count > 0), "not spread: {accepted:?}");
    drop(open);
    postern.stop()?;
    drop(server);
    Ok(())
}

#[test]
fn sessions_go_on_and_new_ones_are_taken_under_a_flood_of_syns() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    let mut crowd = scene.sessions(20)?;
    let mut wire = Wire::open(&scene.lab.client, "eth0")?;
    for family in Family::ALL {
        let way = scene.lab.client.way(family.server())?;
        for number in 0..FLOOD {
            let from = SocketAddr::new(nobody(family, number), 1024 + (number % 60_000) as u16);
            let syn = Packet::tcp(from, scene.server(family, 143), &Segment::syn(number));
            wire.send(&syn.frame(way.far, way.near, &[]))?;
            if number.is_multiple_of(FLOOD / 4) {
                crowd.prove().with_context(|| format!("{family:?}, after {number} SYNs"))?;
            }
        }
        crowd.prove()?;
        scene.sessions(4)?.prove().with_context(|| format!("{family:?}: new sessions"))?;
    }
    let steered = postern.counter("steered_ipv4")?;
    ensure!(steered >= u64::from(FLOOD), "only {steered} SYNs came to the listeners");
    let status: Value = postern.status()?;
    ensure!(status["sessions"]["active"].as_u64() == Some(20), "a SYN is no session: {status:#}");
    drop(crowd);
    postern.stop()?;
    drop(server);
    Ok(())
}

#[test]
fn who_connects_to_a_listener_itself_is_reset_and_is_no_session() -> Result<()> {
    let scene = Scene::new(&Policy::new().on_exit("closed").steering("threads = 1").limits("sessions = 1"))?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    let status = postern.status()?;
    let listeners = status["listeners"].as_array().context("no listeners")?;
    let addresses: Vec<SocketAddr> = listeners
        .iter()
        .map(|listener| Ok(listener["address"].as_str().context("no address")?.parse()?))
        .collect::<Result<_>>()?;
    ensure!(addresses.len() == 2 && addresses.iter().all(|at| at.ip().is_loopback()), "{addresses:?}");
    // The one session that there is room for stays a client's.
    let mut held = scene.session(Family::V4, 993)?;
    held.enter()?;
    for to in &addresses {
        // The reset may be quicker than the end of connect(2).
        let reset = match scene.lab.gateway.connect(*to) {
            Ok(mut stream) => {
                read(&mut stream, &mut [0]).map(|count| count.to_string()).map_err(anyhow::Error::from)
            }
            Err(error) => Err(error),
        };
        let Err(error) = reset else { anyhow::bail!("{to} was not reset but read {reset:?}") };
        let kind = error.chain().find_map(|cause| cause.downcast_ref()).map(std::io::Error::kind);
        ensure!(kind == Some(std::io::ErrorKind::ConnectionReset), "{to}: {error:#}");
    }
    held.noop()?;
    held.logout()?;
    let records = postern.wait_records(1)?;
    ensure!(records.len() == 1 && records.iter().all(Record::succeeded), "{records:#?}");
    let sessions = &postern.status()?["sessions"];
    for (name, count) in [("refused_local", 2), ("accepted_total", 1), ("refused_total", 0)] {
        ensure!(sessions[name].as_u64() == Some(count), "{name}: {sessions:#}");
    }
    postern.stop()?;
    drop(server);
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    scene.finish()
}

/// Addresses behind the client's wire at which nobody is.
fn nobody(family: Family, number: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(0x0a4d_6400 | number).into(),
        Family::V6 => Ipv6Addr::from_bits(0xfd77_0064 << 96 | u128::from(number)).into(),
    }
}
