//! A TCP client that sends its packets in IP fragments.
//!
//! Port rules never match fragments other than the first, so such a client may pass a gateway that steers by rules.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::frames::{ACK, FIN, FRAGMENT_UNIT, PSH, Packet, RST, SYN, Segment};
use crate::netns::{Namespace, Way};
use crate::wire::Wire;

/// How often a segment is sent until something comes back.
const TRIES: usize = 3;
/// How long an answer is awaited after each.
const PAUSE: Duration = Duration::from_secs(1);
/// An answer is whole when nothing more has come for so long.
const QUIET: Duration = Duration::from_millis(300);
/// No-operation options lengthen TCP's header to 28 octets: it is always long enough to be cut.
const OPTIONS: [u8; 8] = [1; 8];

/// How packets are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragmenting {
    /// Not at all: what the others are compared with.
    Whole,
    /// In two.
    Halves,
    /// In as many fragments as there can be, of 8 octets. Over IPv6 the first has 24, because Linux as a server
    /// refuses a packet whose first fragment does not hold TCP's fixed header (net/ipv6/reassembly.c).
    Tiny,
    /// In two, and between them a third that says something else about octets of the first. Receivers ignore it: it
    /// lies wholly inside what they have (inet_frag_queue_insert in net/ipv4/inet_fragment.c).
    Overlap,
}

impl Fragmenting {
    /// Those that cut.
    pub const ALL: [Self; 3] = [Self::Halves, Self::Tiny, Self::Overlap];

    /// The packet in its fragments, in the order of sending.
    #[must_use]
    pub fn cut(self, packet: &Packet) -> Vec<Packet> {
        let octets = packet.payload.len();
        let least = if packet.from.is_ipv4() { FRAGMENT_UNIT } else { 3 * FRAGMENT_UNIT };
        let half = (octets / 2).next_multiple_of(FRAGMENT_UNIT).max(least);
        match self {
            Self::Whole => vec![packet.clone()],
            Self::Halves => vec![packet.fragment(0, half), packet.fragment(half, octets)],
            Self::Tiny => {
                let rest = (least..octets).step_by(FRAGMENT_UNIT);
                let rest = rest.map(|start| packet.fragment(start, start + FRAGMENT_UNIT));
                [packet.fragment(0, least)].into_iter().chain(rest).collect()
            }
            Self::Overlap => {
                let mut other = packet.fragment(half - FRAGMENT_UNIT, half);
                other.payload.fill(b'X');
                vec![packet.fragment(0, half), other, packet.fragment(half, octets)]
            }
        }
    }
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The SYN was answered with a SYN-ACK.
    pub connected: bool,
    /// Data.
    pub octets: Vec<u8>,
    /// The peer, or somebody in its name, reset the connection.
    pub reset: bool,
}

impl Heard {
    /// The data as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.octets).into_owned()
    }

    /// Whether nothing at all came back.
    #[must_use]
    pub fn nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// A whole TCP dialogue by hand: SYN, ACK, a line, the acknowledgements of what comes back, and a reset at the end.
#[derive(Clone, Copy, Debug)]
pub struct Dialogue<'a> {
    namespace: &'a Namespace,
    to: SocketAddr,
    how: Fragmenting,
    only_data: bool,
}

impl<'a> Dialogue<'a> {
    /// From a namespace's address to a server; every packet in two fragments.
    #[must_use]
    pub const fn new(namespace: &'a Namespace, to: SocketAddr) -> Self {
        Self { namespace, to, how: Fragmenting::Halves, only_data: false }
    }

    /// Cut in another way.
    #[must_use]
    pub const fn fragment(mut self, how: Fragmenting) -> Self {
        self.how = how;
        self
    }

    /// Cut only packets with data: the connection begins like any other.
    #[must_use]
    pub const fn only_data(mut self) -> Self {
        self.only_data = true;
        self
    }

    /// Connect, read what the server says first, say this, and read what it answers.
    ///
    /// # Errors
    /// When the namespace does not let frames be sent; silence of the server is no error.
    pub fn say(&self, line: &[u8]) -> Result<Heard> {
        let mut talk = Talk::new(self)?;
        if talk.connect()? {
            talk.listen(PAUSE)?;
            talk.tell(line)?;
            talk.send(RST | ACK, &[])?;
        }
        Ok(talk.heard)
    }
}

/// A dialogue that is going on.
struct Talk<'a> {
    dialogue: &'a Dialogue<'a>,
    wire: Wire,
    way: Way,
    from: SocketAddr,
    seq: u32,
    ack: u32,
    heard: Heard,
    _mute: Mute<'a>,
}

impl<'a> Talk<'a> {
    fn new(dialogue: &'a Dialogue<'a>) -> Result<Self> {
        let way = dialogue.namespace.way(dialogue.to.ip())?;
        let mute = Mute::new(dialogue.namespace, SocketAddr::new(way.from, 0))?;
        let wire = Wire::open(dialogue.namespace, &way.interface)?;
        let from = SocketAddr::new(way.from, mute.port);
        Ok(Self { dialogue, wire, way, from, seq: 0x1000, ack: 0, heard: Heard::default(), _mute: mute })
    }

    fn send(&mut self, flags: u8, data: &[u8]) -> Result<()> {
        /// Never the same twice, or fragments of two packets would be put together.
        static IDENTIFICATION: AtomicU32 = AtomicU32::new(0x2000);
        let segment =
            Segment { seq: self.seq, ack: self.ack, flags, options: OPTIONS.to_vec(), data: data.to_vec() };
        let mut packet = Packet::tcp(self.from, self.dialogue.to, &segment);
        packet.identification = IDENTIFICATION.fetch_add(1, Ordering::Relaxed);
        let whole = self.dialogue.only_data && data.is_empty();
        let how = if whole { Fragmenting::Whole } else { self.dialogue.how };
        for part in how.cut(&packet) {
            self.wire.send(&part.frame(self.way.far, self.way.near, &[]))?;
        }
        Ok(())
    }

    fn receive(&self, patience: Duration) -> Result<Option<Segment>> {
        let ends = |packet: &Packet| packet.segment().map(|(from, to, _)| (from, to));
        let ours = (self.dialogue.to, self.from);
        let packet = self.wire.packet(patience, |packet| ends(packet) == Some(ours))?;
        Ok(packet.and_then(|packet| packet.segment()).map(|(_, _, segment)| segment))
    }

    fn connect(&mut self) -> Result<bool> {
        for _ in 0..TRIES {
            self.send(SYN, &[])?;
            let Some(answer) = self.receive(PAUSE)? else { continue };
            self.heard.reset = answer.flags & RST != 0;
            self.heard.connected = answer.flags & (SYN | ACK) == SYN | ACK;
            if self.heard.connected {
                self.seq = self.seq.wrapping_add(1);
                self.ack = answer.seq.wrapping_add(1);
                self.send(ACK, &[])?;
            }
            return Ok(self.heard.connected);
        }
        Ok(false)
    }

    fn tell(&mut self, line: &[u8]) -> Result<()> {
        let (before, start) = (self.heard.octets.len(), self.seq);
        for _ in 0..TRIES {
            if self.heard.reset || self.heard.octets.len() > before {
                break;
            }
            if self.seq == start {
                self.send(PSH | ACK, line)?;
            }
            self.listen(PAUSE)?;
        }
        Ok(())
    }

    /// Take and acknowledge data until a pause in it.
    fn listen(&mut self, patience: Duration) -> Result<()> {
        let mut patience = patience;
        while let Some(segment) = self.receive(patience)? {
            if segment.flags & RST != 0 {
                self.heard.reset = true;
                return Ok(());
            }
            // What was not acknowledged was not received; a reset at the end counts only with the exact number
            // (RFC 5961 section 3.2).
            if segment.flags & ACK != 0 {
                self.seq = segment.ack;
            }
            if segment.seq == self.ack && !segment.data.is_empty() {
                self.ack = self.ack.wrapping_add(segment.data.len() as u32);
                self.heard.octets.extend(&segment.data);
                self.send(ACK, &[])?;
                patience = QUIET;
            }
            if segment.flags & FIN != 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Keeps the kernel out of a dialogue on one of its ports, which it knows nothing of and would reset.
struct Mute<'a> {
    namespace: &'a Namespace,
    port: u16,
    // Nobody else gets the port.
    _taken: TcpListener,
}

impl<'a> Mute<'a> {
    fn new(namespace: &'a Namespace, at: SocketAddr) -> Result<Self> {
        let taken = namespace.listen(at)?;
        let port = taken.local_addr()?.port();
        ensure!(port > 0, "no port");
        // Packet sockets see packets before any hook does.
        let rule = format!("tcp dport {port} drop");
        namespace.nft_chain(&format!("mute_{port}"), "filter hook prerouting priority -500", &rule)?;
        Ok(Self { namespace, port, _taken: taken })
    }
}

impl Drop for Mute<'_> {
    fn drop(&mut self) {
        // The namespace may be gone already, and the table with it.
        let _ = self.namespace.nft(&format!("delete table inet mute_{}", self.port));
    }
}
