//! Frames made octet by octet, for [`Wire`](crate::wire::Wire): what no socket would send.
//!
//! Lengths and checksums are right unless a test spoils the octets afterwards.

/// Extension headers and complaints.
mod parts;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use parts::{Complaint, Extension};

/// TCP's number (IANA protocol numbers).
pub const TCP: u8 = 6;
/// UDP's number.
pub const UDP: u8 = 17;
/// ICMP's number.
pub const ICMP: u8 = 1;
/// ICMPv6's number.
pub const ICMPV6: u8 = 58;
/// The number of IPv6's fragment header (RFC 8200 section 4.5).
const FRAGMENT: u8 = 44;
/// "No next header" (RFC 8200 section 4.7).
const NO_NEXT_HEADER: u8 = 59;

/// An 802.1Q tag.
pub const CUSTOMER_TAG: u16 = 0x8100;
/// An 802.1ad tag, outside of the other.
pub const SERVICE_TAG: u16 = 0x88A8;

/// FIN (RFC 9293 section 3.1).
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// PSH.
pub const PSH: u8 = 0x08;
/// ACK.
pub const ACK: u8 = 0x10;

/// Fragments start at multiples of this many octets (RFC 791 section 3.2).
pub const FRAGMENT_UNIT: usize = 8;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A TCP segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// [`SYN`], [`ACK`] and so on.
    pub flags: u8,
    /// Options, padded to a multiple of four octets.
    pub options: Vec<u8>,
    /// Data.
    pub data: Vec<u8>,
}

impl Segment {
    /// The first segment of a connection.
    #[must_use]
    pub fn syn(seq: u32) -> Self {
        Self { seq, flags: SYN, ..Self::default() }
    }

    fn octets(&self, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let mut octets = Vec::new();
        octets.extend(from.port().to_be_bytes());
        octets.extend(to.port().to_be_bytes());
        octets.extend(self.seq.to_be_bytes());
        octets.extend(self.ack.to_be_bytes());
        let words = 5 + self.options.len().div_ceil(4) as u8;
        octets.extend([words << 4, self.flags]);
        octets.extend(u16::MAX.to_be_bytes());
        octets.extend([0; 4]);
        octets.extend(&self.options);
        octets.resize(usize::from(words) * 4, 0);
        octets.extend(&self.data);
        let sum = checksum(&[&pseudo(from.ip(), to.ip(), TCP, octets.len()), &octets]);
        put(&mut octets, 16, &sum.to_be_bytes());
        octets
    }
}

/// The place of a fragment in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Octets before it, a multiple of [`FRAGMENT_UNIT`].
    pub offset: usize,
    /// Whether others follow.
    pub more: bool,
}

/// An IP packet of either family, or a fragment of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Sender.
    pub from: IpAddr,
    /// Receiver.
    pub to: IpAddr,
    /// What `payload` is: [`TCP`] and so on.
    pub protocol: u8,
    /// Everything behind the headers of IP.
    pub payload: Vec<u8>,
    /// Time to live, hop limit.
    pub hops: u8,
    /// What fragments of one packet have in common.
    pub identification: u32,
    /// IPv4's "don't fragment".
    pub whole: bool,
    /// IPv4's options, a multiple of four octets.
    pub options: Vec<u8>,
    /// IPv6's extension headers before a fragment header.
    pub extensions: Vec<Extension>,
    /// Set on fragments. IPv6 has a fragment header exactly if it is.
    pub place: Option<Place>,
}

impl Packet {
    /// Any payload.
    #[must_use]
    pub const fn new(from: IpAddr, to: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            from,
            to,
            protocol,
            payload,
            hops: 64,
            identification: 1,
            whole: false,
            options: Vec::new(),
            extensions: Vec::new(),
            place: None,
        }
    }

    /// A TCP segment.
    #[must_use]
    pub fn tcp(from: SocketAddr, to: SocketAddr, segment: &Segment) -> Self {
        Self::new(from.ip(), to.ip(), TCP, segment.octets(from, to))
    }

    /// A UDP datagram.
    #[must_use]
    pub fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Self {
        let mut octets = Vec::new();
        octets.extend(from.port().to_be_bytes());
        octets.extend(to.port().to_be_bytes());
        octets.extend(((data.len() + 8) as u16).to_be_bytes());
        octets.extend([0; 2]);
        octets.extend(data);
        let sum = checksum(&[&pseudo(from.ip(), to.ip(), UDP, octets.len()), &octets]);
        // Zero would say that there is no checksum (RFC 768).
        put(&mut octets, 6, &if sum == 0 { u16::MAX } else { sum }.to_be_bytes());
        Self::new(from.ip(), to.ip(), UDP, octets)
    }

    /// A router's complaint to the sender of `about`, an IP packet from its first octet on. All of it that is given
    /// is quoted.
    #[must_use]
    pub fn complaint(router: IpAddr, to: IpAddr, complaint: Complaint, about: &[u8]) -> Self {
        let mut octets = complaint.numbers(router.is_ipv6()).to_vec();
        octets.extend([0; 4]);
        let mtu = if let Complaint::TooBig(mtu) = complaint { mtu } else { 0 };
        octets.extend(mtu.to_be_bytes());
        octets.extend(about);
        let protocol = if router.is_ipv6() { ICMPV6 } else { ICMP };
        let sum = if router.is_ipv6() {
            checksum(&[&pseudo(router, to, ICMPV6, octets.len()), &octets])
        } else {
            checksum(&[&octets])
        };
        put(&mut octets, 2, &sum.to_be_bytes());
        Self::new(router, to, protocol, octets)
    }

    /// The same packet with these IPv4 options.
    #[must_use]
    pub fn with_options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// The same packet with these IPv6 extension headers.
    #[must_use]
    pub fn with_extensions(mut self, extensions: &[Extension]) -> Self {
        self.extensions = extensions.to_vec();
        self
    }

    /// The part of the payload from `start` to `end` as a fragment; `more` is false for the part at the end.
    #[must_use]
    pub fn fragment(&self, start: usize, end: usize) -> Self {
        let mut part = self.clone();
        let end = end.min(self.payload.len());
        part.place = Some(Place { offset: start, more: end < self.payload.len() });
        part.payload = self.payload.get(start..end).unwrap_or_default().to_vec();
        part
    }

    /// All of it as fragments of at most `octets`, rounded up to the unit of fragments.
    #[must_use]
    pub fn fragments(&self, octets: usize) -> Vec<Self> {
        let step = octets.next_multiple_of(FRAGMENT_UNIT).max(FRAGMENT_UNIT);
        (0..self.payload.len()).step_by(step).map(|start| self.fragment(start, start + step)).collect()
    }

    /// As it stands on the wire behind the Ethernet header.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.octets4(from, to),
            (IpAddr::V6(from), IpAddr::V6(to)) => self.octets6(from, to),
            // A packet of two families does not exist; an empty frame shows up in any test.
            _ => Vec::new(),
        }
    }

    fn octets4(&self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let header = 20 + self.options.len().next_multiple_of(4);
        let mut octets = vec![0x40 | (header / 4) as u8, 0];
        octets.extend(((header + self.payload.len()) as u16).to_be_bytes());
        octets.extend((self.identification as u16).to_be_bytes());
        let place = self.place.unwrap_or(Place { offset: 0, more: false });
        let flags = u16::from(self.whole) << 14 | u16::from(place.more) << 13;
        octets.extend((flags | (place.offset / FRAGMENT_UNIT) as u16).to_be_bytes());
        octets.extend([self.hops, self.protocol, 0, 0]);
        octets.extend(from.octets());
        octets.extend(to.octets());
        octets.extend(&self.options);
        octets.resize(header, 0);
        let sum = checksum(&[&octets]);
        put(&mut octets, 10, &sum.to_be_bytes());
        octets.extend(&self.payload);
        octets
    }

    fn octets6(&self, from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
        // Every header names the next one, so they are laid from the back.
        let mut next = self.protocol;
        let mut chain = Vec::new();
        if let Some(place) = self.place {
            let mut header = vec![next, 0];
            header.extend((place.offset as u16 & !7 | u16::from(place.more)).to_be_bytes());
            header.extend(self.identification.to_be_bytes());
            chain = header;
            next = FRAGMENT;
        }
        for extension in self.extensions.iter().rev() {
            let mut header = extension.octets(next);
            header.append(&mut chain);
            chain = header;
            next = extension.number();
        }
        let mut octets = vec![0x60, 0, 0, 0];
        octets.extend(((chain.len() + self.payload.len()) as u16).to_be_bytes());
        octets.extend([next, self.hops]);
        octets.extend(from.octets());
        octets.extend(to.octets());
        octets.append(&mut chain);
        octets.extend(&self.payload);
        octets
    }

    /// In an Ethernet frame, behind VLAN tags given as (tag protocol, VLAN), outermost first.
    #[must_use]
    pub fn frame(&self, to: Mac, from: Mac, tags: &[(u16, u16)]) -> Vec<u8> {
        ethernet(to, from, tags, self.from.is_ipv6(), &self.octets())
    }

    /// Read a packet from the front of an IP header; `None` if it is none or cut short. Extension headers other than
    /// the fragment header are not parsed: `protocol` is then theirs.
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Self> {
        let first = *octets.first()?;
        let short = |at: usize| Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]));
        if first >> 4 == 4 {
            let header = usize::from(first & 15) * 4;
            let from: [u8; 4] = octets.get(12..16)?.try_into().ok()?;
            let to: [u8; 4] = octets.get(16..20)?.try_into().ok()?;
            let payload = octets.get(header..usize::from(short(2)?))?.to_vec();
            let mut packet = Self::new(from.into(), to.into(), *octets.get(9)?, payload);
            packet.options = octets.get(20..header)?.to_vec();
            packet.identification = short(4)?.into();
            packet.hops = *octets.get(8)?;
            let flags = short(6)?;
            packet.whole = flags & 0x4000 != 0;
            let place =
                Place { offset: usize::from(flags & 0x1FFF) * FRAGMENT_UNIT, more: flags & 0x2000 != 0 };
            packet.place = (place.more || place.offset > 0).then_some(place);
            return Some(packet);
        }
        let from: [u8; 16] = octets.get(8..24)?.try_into().ok()?;
        let to: [u8; 16] = octets.get(24..40)?.try_into().ok()?;
        let payload = octets.get(40..40 + usize::from(short(4)?))?.to_vec();
        let mut packet = Self::new(from.into(), to.into(), *octets.get(6)?, payload);
        packet.hops = *octets.get(7)?;
        if packet.protocol == FRAGMENT {
            let header: [u8; 8] = packet.payload.get(..8)?.try_into().ok()?;
            packet.payload.drain(..8);
            let [next, _, high, low, identification @ ..] = header;
            packet.protocol = next;
            let offset = u16::from_be_bytes([high, low]);
            packet.place = Some(Place { offset: usize::from(offset & !7), more: offset & 1 != 0 });
            packet.identification = u32::from_be_bytes(identification);
        }
        Some(packet)
    }

    /// Ports and segment, if this is a whole TCP packet or a first fragment that shows its header.
    #[must_use]
    pub fn segment(&self) -> Option<(SocketAddr, SocketAddr, Segment)> {
        if self.protocol != TCP || self.place.is_some_and(|place| place.offset > 0) {
            return None;
        }
        let octets = &self.payload;
        let short = |at: usize| Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]));
        let long = |at: usize| Some(u32::from(short(at)?) << 16 | u32::from(short(at + 2)?));
        let header = usize::from(*octets.get(12)? >> 4) * 4;
        let segment = Segment {
            seq: long(4)?,
            ack: long(8)?,
            flags: *octets.get(13)?,
            options: octets.get(20..header)?.to_vec(),
            data: octets.get(header..)?.to_vec(),
        };
        Some((SocketAddr::new(self.from, short(0)?), SocketAddr::new(self.to, short(2)?), segment))
    }
}

/// Anything in an Ethernet frame of IPv4 or IPv6, well formed or not.
#[must_use]
pub fn ethernet(to: Mac, from: Mac, tags: &[(u16, u16)], v6: bool, packet: &[u8]) -> Vec<u8> {
    let mut octets = [to, from].concat();
    for (protocol, vlan) in tags {
        octets.extend(protocol.to_be_bytes());
        octets.extend(vlan.to_be_bytes());
    }
    octets.extend(if v6 { 0x86DD_u16 } else { 0x0800 }.to_be_bytes());
    octets.extend(packet);
    octets
}

/// An IPv6 packet whose chain of headers ends in nothing, as receivers must take it (RFC 8200 section 4.7).
#[must_use]
pub const fn nothing(from: IpAddr, to: IpAddr) -> Packet {
    Packet::new(from, to, NO_NEXT_HEADER, Vec::new())
}

/// The Internet checksum (RFC 1071) over these octets one after the other; all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let (high, low) = (pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0));
            sum += u64::from(u16::from_be_bytes([high, low]));
        }
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

/// What TCP, UDP and ICMPv6 checksums cover besides the packet (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, octets: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => all.extend(address.octets()),
            IpAddr::V6(address) => all.extend(address.octets()),
        }
    }
    if from.is_ipv6() {
        all.extend((octets as u32).to_be_bytes());
        all.extend([0, 0, 0, protocol]);
    } else {
        all.extend([0, protocol]);
        all.extend((octets as u16).to_be_bytes());
    }
    all
}

fn put(octets: &mut [u8], at: usize, value: &[u8]) {
    for (place, value) in octets.iter_mut().skip(at).zip(value) {
        *place = *value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> [(SocketAddr, SocketAddr); 2] {
        [
            ("10.77.1.2:4000".parse().unwrap(), "10.77.2.2:143".parse().unwrap()),
            ("[fd77:1::2]:4000".parse().unwrap(), "[fd77:2::2]:143".parse().unwrap()),
        ]
    }

    #[test]
    fn a_packet_reads_as_it_was_written() {
        for (from, to) in addresses() {
            let segment =
                Segment { seq: 7, ack: 9, flags: ACK | PSH, options: vec![1; 4], data: b"data".to_vec() };
            let packet = Packet::tcp(from, to, &segment);
            let read = Packet::read(&packet.octets()).unwrap();
            assert_eq!(read, packet);
            assert_eq!(read.segment().unwrap(), (from, to, segment));
        }
    }

    #[test]
    fn fragments_cover_the_packet_without_gap() {
        for (from, to) in addresses() {
            let packet = Packet::tcp(from, to, &Segment { data: vec![b'x'; 45], ..Segment::syn(1) });
            for octets in [1, 8, 20, 24, 200] {
                let parts = packet.fragments(octets);
                let mut joined = Vec::new();
                for (at, part) in parts.iter().enumerate() {
                    let read = Packet::read(&part.octets()).unwrap();
                    let place = read.place.unwrap_or(Place { offset: 0, more: false });
                    assert_eq!(place, Place { offset: joined.len(), more: at + 1 < parts.len() });
                    assert_eq!(place.offset % FRAGMENT_UNIT, 0);
                    joined.extend(read.payload);
                }
                assert_eq!(joined, packet.payload);
            }
        }
    }
}
