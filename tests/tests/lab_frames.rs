//! The laboratory's raw frames, without Postern: real kernels answer them, so their lengths and checksums are right.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::frames::{ACK, CUSTOMER_TAG, Complaint, Extension, Packet, SERVICE_TAG, SYN, Segment};
use postern_tests::lab::{Family, Lab};
use postern_tests::netns::Way;
use postern_tests::wait::PATIENCE;
use postern_tests::wire::Wire;

const PORT: u16 = 143;

/// A client's hands on its interface, and where it sends to.
struct Hands {
    wire: Wire,
    way: Way,
    from: SocketAddr,
    to: SocketAddr,
}

impl Hands {
    fn new(lab: &Lab, family: Family, port: u16) -> Result<Self> {
        let way = lab.client.way(family.server())?;
        let wire = Wire::open(&lab.client, &way.interface)?;
        let from = SocketAddr::new(way.from, port);
        Ok(Self { wire, way, from, to: SocketAddr::new(family.server(), PORT) })
    }

    fn send(&mut self, packet: &Packet) -> Result<()> {
        self.wire.send(&packet.frame(self.way.far, self.way.near, &[]))
    }

    /// The server's SYN-ACK to the port of these hands.
    fn answer(&self, patience: Duration) -> Result<Option<Segment>> {
        let ours = |packet: &Packet| {
            packet.segment().is_some_and(|(from, to, segment)| {
                from == self.to && to == self.from && segment.flags & (SYN | ACK) == SYN | ACK
            })
        };
        Ok(self
            .wire
            .packet(patience, ours)?
            .and_then(|packet| packet.segment())
            .map(|(_, _, segment)| segment))
    }
}

#[test]
fn a_server_answers_injected_syns_whole_in_fragments_with_options_and_behind_extension_headers() -> Result<()>
{
    let lab = Lab::new()?;
    for family in Family::ALL {
        let _listener = lab.server.listen(SocketAddr::new(family.server(), PORT))?;
        let dressed = |packet: &Packet| match family {
            // Two NOPs and an end of options, twice the length of a word.
            Family::V4 => packet.clone().with_options(&[1, 1, 1, 1, 1, 1, 0]),
            Family::V6 => packet.clone().with_extensions(&[
                Extension::HopByHop,
                Extension::Destination(3),
                Extension::Destination(0),
            ]),
        };
        // Linux refuses IPv6 packets whose first fragment does not hold the whole of TCP's header without its options
        // (net/ipv6/reassembly.c, after RFC 8200 section 4.5), so the SYN has some to be cut behind.
        let least = if family == Family::V4 { 8 } else { 24 };
        for (port, how) in (40_000..).zip(["whole", "fragments", "dressed", "dressed fragments"]) {
            let mut hands = Hands::new(&lab, family, port)?;
            let syn = Segment { options: vec![1; 20], ..Segment::syn(port.into()) };
            let syn = Packet::tcp(hands.from, hands.to, &syn);
            let parts = match how {
                "whole" => vec![syn],
                "fragments" => syn.fragments(least),
                "dressed" => vec![dressed(&syn)],
                _ => dressed(&syn).fragments(least),
            };
            for part in &parts {
                hands.send(part)?;
            }
            let answer = hands.answer(PATIENCE)?.with_context(|| format!("{family:?}, {how}: no answer"))?;
            assert_eq!(answer.ack, u32::from(port) + 1, "{family:?}, {how}");
        }
    }
    lab.finish()
}

#[test]
fn an_injected_datagram_reaches_a_socket() -> Result<()> {
    let lab = Lab::new()?;
    for family in Family::ALL {
        let socket = lab.server.enter(|| Ok(std::net::UdpSocket::bind((family.server(), PORT))?))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut hands = Hands::new(&lab, family, 40_000)?;
        // An odd length, so that the checksum has a last octet of its own.
        hands.send(&Packet::udp(hands.from, hands.to, b"odd"))?;
        let mut buffer = [0; 16];
        let (count, from) = socket.recv_from(&mut buffer)?;
        assert_eq!((&buffer[..count], from), (&b"odd"[..], hands.from));
    }
    lab.finish()
}

#[test]
fn a_spoilt_checksum_is_not_answered() -> Result<()> {
    let lab = Lab::new()?;
    let _listener = lab.server.listen(SocketAddr::new(Family::V4.server(), PORT))?;
    let mut hands = Hands::new(&lab, Family::V4, 40_000)?;
    let mut spoilt = Packet::tcp(hands.from, hands.to, &Segment::syn(1));
    spoilt.payload[16] ^= 1;
    hands.send(&spoilt)?;
    // The good one behind it is answered, so the spoilt one has been seen by then.
    hands.send(&Packet::tcp(hands.from, hands.to, &Segment::syn(77)))?;
    assert_eq!(hands.answer(PATIENCE)?.context("no answer")?.ack, 78);
    lab.finish()
}

#[test]
fn the_kernel_reads_the_tags_of_tagged_frames() -> Result<()> {
    let lab = Lab::new()?;
    lab.gateway.nft(
        "table netdev tags { chain tags { type filter hook ingress device lan0 priority 0;
            vlan id 7 tcp dport 143 counter comment \"one tag\"
            ether type 8021ad vlan id 9 vlan type 8021q vlan id 7 counter comment \"two tags\"
         }\n}",
    )?;
    for family in Family::ALL {
        let mut hands = Hands::new(&lab, family, 40_000)?;
        let syn = Packet::tcp(hands.from, hands.to, &Segment::syn(1));
        for tags in [&[(CUSTOMER_TAG, 7)][..], &[(SERVICE_TAG, 9), (CUSTOMER_TAG, 7)]] {
            hands.wire.send(&syn.frame(hands.way.far, hands.way.near, tags))?;
        }
    }
    let seen = lab.gateway.nft_list()?;
    assert_eq!(seen.matches("counter packets 2 ").count(), 2, "{seen}");
    lab.finish()
}

#[test]
fn a_forged_packet_too_big_lowers_the_servers_path_mtu() -> Result<()> {
    let lab = Lab::new()?;
    for family in Family::ALL {
        let listener = lab.server.listen(SocketAddr::new(family.server(), PORT))?;
        let stream = lab.client.connect(SocketAddr::new(family.server(), PORT))?;
        let (accepted, client) = listener.accept()?;
        let way = lab.gateway.way(family.server())?;
        let mut wire = Wire::open(&lab.gateway, &way.interface)?;
        // The server has sent nothing yet: the segment that it would send next is quoted. It is checked against the
        // connection's sequence numbers, and those are seen in the server's own acknowledgement of some data.
        std::io::Write::write_all(&mut &stream, b"x")?;
        let ours = |packet: &Packet| packet.segment().is_some_and(|(_, to, _)| to == client);
        let acknowledgement = wire.packet(PATIENCE, ours)?.context("no acknowledgement")?;
        let complaint = Complaint::TooBig(1400);
        let error = Packet::complaint(way.from, family.server(), complaint, &acknowledgement.octets());
        wire.send(&error.frame(way.far, way.near, &[]))?;
        let learned = postern_tests::wait::until("the path MTU", PATIENCE, || {
            let route = lab.server.ip(&["route", "get", &family.client().to_string()])?;
            Ok(route.contains("mtu 1400").then_some(route))
        })?;
        ensure!(learned.contains("expires"), "{learned}");
        drop((stream, accepted));
    }
    lab.finish()
}
