//! The laboratory's shapes, without Postern: narrow hops, masquerading, guests, asymmetric ways, fragments.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::frag::{Dialogue, Fragmenting};
use postern_tests::frames::{self, Packet};
use postern_tests::lab::{EGRESS, ELSEWHERE, Family, INGRESS, Lab, SECOND, Shape};
use postern_tests::netns::Namespace;
use postern_tests::scripted::{self, Scripted};
use postern_tests::wait::PATIENCE;
use postern_tests::wire::Wire;

const PORT: u16 = 143;
const TRANSFER_BYTES: usize = 1_000_000;
const LOGIN: &[u8] = b"a LOGIN alice wonderland\r\n";

fn at(family: Family) -> SocketAddr {
    SocketAddr::new(family.server(), PORT)
}

/// A connection, both ends of it.
fn connection(lab: &Lab, from: &Namespace, family: Family) -> Result<(TcpStream, TcpStream, SocketAddr)> {
    let listener = lab.server.listen(at(family))?;
    let client = from.connect(at(family))?;
    let (server, peer) = listener.accept()?;
    server.set_read_timeout(Some(PATIENCE))?;
    Ok((client, server, peer))
}

/// One megabyte one way; an error when it stalls.
fn transfer(mut from: &TcpStream, mut to: &TcpStream) -> Result<()> {
    thread::scope(|scope| {
        let writer = scope.spawn(move || from.write_all(&vec![b'x'; TRANSFER_BYTES]));
        let mut all = vec![0; TRANSFER_BYTES];
        to.read_exact(&mut all)?;
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        Ok(())
    })
}

fn narrow(mtu: u16) -> Shape {
    Shape { near_mtu: Some(mtu), far_mtu: Some(mtu), ..Shape::default() }
}

#[test]
fn narrow_hops_are_found_by_icmp_and_transfers_pass_both_ways() -> Result<()> {
    for mtu in [1300, 1280] {
        let lab = Lab::shaped(narrow(mtu))?;
        for family in Family::ALL {
            let (client, server, peer) = connection(&lab, &lab.client, family)?;
            assert_eq!(peer.ip(), family.client());
            transfer(&client, &server).with_context(|| format!("{family:?}, {mtu}, up"))?;
            transfer(&server, &client).with_context(|| format!("{family:?}, {mtu}, down"))?;
            for (namespace, far) in [(&lab.client, family.server()), (&lab.server, family.client())] {
                let route = namespace.ip(&["route", "get", &far.to_string()])?;
                assert!(route.contains(&format!("mtu {mtu} ")), "{route}");
            }
        }
        lab.finish()?;
    }
    Ok(())
}

#[test]
fn a_packet_that_just_fits_passes_and_one_octet_more_brings_an_icmp_error() -> Result<()> {
    let lab = Lab::shaped(Shape { near_mtu: Some(1300), ..Shape::default() })?;
    for family in Family::ALL {
        let way = lab.client.way(family.server())?;
        let mut wire = Wire::open(&lab.client, &way.interface)?;
        let far = Wire::open(&lab.server, "eth0")?;
        let headers = if family == Family::V4 { 28 } else { 48 };
        for (octets, fits) in [(1300, true), (1301, false)] {
            let (from, to) = (SocketAddr::new(way.from, 4000), SocketAddr::new(family.server(), 9));
            let mut packet = Packet::udp(from, to, &vec![0; octets - headers]);
            packet.whole = true;
            assert_eq!(packet.octets().len(), octets);
            wire.send(&packet.frame(way.far, way.near, &[]))?;
            let (by, number) = if fits {
                (far.packet(PATIENCE, |seen| seen.protocol == frames::UDP)?, frames::UDP)
            } else {
                let error = |seen: &Packet| {
                    let kind = if family == Family::V4 { [3, 4] } else { [2, 0] };
                    [frames::ICMP, frames::ICMPV6].contains(&seen.protocol) && seen.payload.starts_with(&kind)
                };
                (
                    wire.packet(PATIENCE, error)?,
                    if family == Family::V4 { frames::ICMP } else { frames::ICMPV6 },
                )
            };
            let seen = by.with_context(|| format!("{family:?}, {octets} octets: nothing"))?;
            assert_eq!(seen.protocol, number);
        }
    }
    lab.finish()
}

#[test]
fn without_icmp_a_sender_that_does_not_probe_stalls_behind_a_narrow_hop() -> Result<()> {
    let lab = Lab::shaped(narrow(1300))?;
    lab.block_icmp_errors()?;
    for family in Family::ALL {
        let (client, server, _) = connection(&lab, &lab.client, family)?;
        for (mut from, mut to) in [(&client, &server), (&server, &client)] {
            from.write_all(&[b'x'; 20_000])?;
            to.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut buffer = [0; 4096];
            assert!(to.read(&mut buffer).is_err(), "{family:?}: something arrived");
        }
    }
    lab.finish()
}

#[test]
fn the_server_sees_the_gateway_when_it_masquerades() -> Result<()> {
    for shape in [Shape::default(), narrow(1300)] {
        let lab = Lab::shaped(shape)?;
        lab.masquerade()?;
        for family in Family::ALL {
            let (client, server, peer) = connection(&lab, &lab.client, family)?;
            assert_eq!(peer.ip(), lab.gateway_wan(family));
            transfer(&client, &server)?;
            transfer(&server, &client)?;
            if shape.far_mtu.is_some() {
                let route = lab.server.ip(&["route", "get", &peer.ip().to_string()])?;
                assert!(route.contains("mtu 1300 "), "{route}");
            }
        }
        assert!(lab.gateway.nft_list()?.contains("masquerade"));
        lab.finish()?;
    }
    Ok(())
}

#[test]
fn a_ruleset_that_is_wrong_is_refused_with_the_words_of_nft() -> Result<()> {
    let lab = Lab::new()?;
    let refused = lab.gateway.nft("table inet t { chain c { nonsense } }").unwrap_err();
    assert!(format!("{refused:#}").contains("syntax error"), "{refused:#}");
    lab.finish()
}

#[test]
fn a_guest_reaches_the_server_from_its_own_network() -> Result<()> {
    let lab = Lab::shaped(Shape { guest: true, ..Shape::default() })?;
    for family in Family::ALL {
        let (_client, _server, peer) = connection(&lab, lab.guest()?, family)?;
        assert_eq!(peer.ip(), family.guest());
    }
    lab.finish()
}

#[test]
fn ways_there_and_back_can_differ_on_both_sides() -> Result<()> {
    let lab = Lab::shaped(Shape { second_lan: true, ..Shape::default() })?;
    lab.server_answers_elsewhere()?;
    lab.client_sends_by_second()?;
    for family in Family::ALL {
        let wires: Vec<Wire> = [INGRESS, SECOND, EGRESS, ELSEWHERE]
            .iter()
            .map(|name| Wire::open(&lab.gateway, name))
            .collect::<Result<_>>()?;
        let (client, server, peer) = connection(&lab, &lab.client, family)?;
        assert_eq!(peer.ip(), family.client());
        transfer(&client, &server)?;
        transfer(&server, &client)?;
        let carried =
            wires.iter().map(|wire| wire.packets().iter().any(|packet| packet.protocol == frames::TCP));
        assert_eq!(carried.collect::<Vec<_>>(), [false, true, false, true], "{family:?}");
    }
    lab.finish()
}

/// What a plain server saw of a fragmenting client, and what that one heard.
fn dialogue(lab: &Lab, family: Family, how: Fragmenting, only_data: bool) -> Result<(String, String)> {
    let server = Scripted::once(&lab.server, at(family), |mut stream| {
        stream.write_all(b"* OK ready\r\n")?;
        let line = scripted::line(&mut stream)?;
        stream.write_all(b"a OK done\r\n")?;
        scripted::to_end(&mut stream)?;
        Ok(line)
    })?;
    let dialogue = Dialogue::new(&lab.client, at(family)).fragment(how);
    let heard = if only_data { dialogue.only_data() } else { dialogue }.say(LOGIN)?;
    ensure!(heard.connected, "no connection");
    Ok((server.result()?, heard.text()))
}

#[test]
fn a_fragmenting_client_logs_in_at_a_plain_server_with_and_without_conntrack() -> Result<()> {
    let lab = Lab::new()?;
    for conntrack in [false, true] {
        if conntrack {
            lab.gateway.nft_chain(
                "watch",
                "filter hook forward priority filter; policy drop",
                "ct state invalid drop\nct state new,established accept",
            )?;
        }
        for family in Family::ALL {
            for how in [Fragmenting::Whole].into_iter().chain(Fragmenting::ALL) {
                for only_data in [false, true] {
                    let (saw, heard) = dialogue(&lab, family, how, only_data).with_context(|| {
                        format!("{family:?}, {how:?}, only data {only_data}, conntrack {conntrack}")
                    })?;
                    assert_eq!(saw.as_bytes(), LOGIN);
                    assert_eq!(heard, "* OK ready\r\na OK done\r\n");
                }
            }
        }
    }
    lab.finish()
}

#[test]
fn a_fragmenting_client_hears_nothing_where_fragments_are_dropped() -> Result<()> {
    let lab = Lab::new()?;
    lab.gateway.nft_chain(
        "whole",
        "filter hook prerouting priority -500",
        "ip frag-off & 0x3fff != 0 drop\nexthdr frag exists drop",
    )?;
    for family in Family::ALL {
        let _listener = lab.server.listen(at(family))?;
        for how in Fragmenting::ALL {
            let heard = Dialogue::new(&lab.client, at(family)).fragment(how).say(LOGIN)?;
            assert!(heard.nothing(), "{family:?}, {how:?}: {heard:?}");
        }
    }
    lab.finish()
}
