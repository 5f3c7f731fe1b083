//! Listeners that lose nothing: SYN cookies, floods, the kernel's spreading.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};
use postern_tests::frames::{Packet, Segment};
use postern_tests::lab::Family;
use postern_tests::postern::Policy;
use postern_tests::scene::Scene;
use postern_tests::wait::PATIENCE;
use postern_tests::wire::Wire;
use serde_json::Value;

const CONNECTIONS: usize = 400;
/// More than a listener's queue holds.
const FLOOD: u32 = 6000;

#[test]
fn with_syn_cookies_four_hundred_of_four_hundred_connect_and_are_spread() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("workers = 4"))?;
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
    let accepted: Vec<u64> = status["workers"]
        .as_array()
        .context("no workers")?
        .iter()
        .filter_map(|worker| worker["accepted_total"].as_u64())
        .collect();
    ensure!(accepted.iter().sum::<u64>() == CONNECTIONS as u64, "{accepted:?}");
    // A worker is left out by chance once in 2^164.
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

/// Addresses behind the client's wire at which nobody is.
fn nobody(family: Family, number: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(0x0a4d_6400 | number).into(),
        Family::V6 => Ipv6Addr::from_bits(0xfd77_0064 << 96 | u128::from(number)).into(),
    }
}
