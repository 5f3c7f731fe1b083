//! The contract between the kernel side and the daemon.
//!
//! Both sides read the same names, slots and counters. Map values are plain integers, so that neither side needs
//! an unsafe promise about layout.
#![no_std]

/// The `sk_lookup` program's name in the object.
pub const STEER_PROGRAM: &str = "steer";
/// The classifier's name for interfaces of the clients, as `tc filter` and `bpftool prog` show it (15 octets at most).
pub const FROM_CLIENTS_PROGRAM: &str = "postern_clients";
/// The classifier's name for interfaces towards the servers.
pub const FROM_SERVERS_PROGRAM: &str = "postern_servers";
/// The name of the program on what leaves by an interface towards the servers.
pub const TO_SERVERS_PROGRAM: &str = "postern_egress";

/// Sockmap of listeners: [`listener_slot`] → socket.
pub const LISTENERS_MAP: &str = "LISTENERS";
/// Hash map of the interfaces that the daemon has looked at: ifindex → the ingress's number, its place in the
/// configuration, or [`NOT_INGRESS`].
pub const INTERFACES_MAP: &str = "INTERFACES";
/// Array of all ports, [`PORTS_PER_WORD`] in an entry: [`port_word`] → [`PortUse`] of each.
pub const PORTS_MAP: &str = "PORTS";
/// Hash map for the ports whose use is [`PortUse::ByIngress`]: [`port_role_key`] → [`PortRole`].
pub const ROLES_MAP: &str = "ROLES";
/// Array of what the daemon decides while it runs: [`Setting`] → value.
pub const SETTINGS_MAP: &str = "SETTINGS";
/// Per-CPU array of the `sk_lookup` program's counters: [`Exit`] → packets.
pub const COUNTERS_MAP: &str = "COUNTERS";
/// Per-CPU array of the classifier's counters: [`Class`] → packets.
pub const CLASSES_MAP: &str = "CLASSES";

/// Array in memory that the daemon maps: [`syn_egress_slot`] → [`syn_egress`], or 0.
pub const SYN_EGRESS_MAP: &str = "SYN_EGRESS";

/// Most workers (and so listeners per ingress and family) that the maps have room for.
pub const WORKERS_MAX: u32 = 64;
/// Most ingress interfaces that the maps have room for.
pub const INGRESS_MAX: u32 = 64;
/// Most interfaces in [`INTERFACES_MAP`], whose buckets take 1 MiB: more than a router with a PPP link per customer has.
/// Those beyond are never looked at.
pub const INTERFACES_MAX: u32 = 1 << 16;
/// In [`INTERFACES_MAP`]: an interface that is none of the clients'.
pub const NOT_INGRESS: u32 = u32::MAX;

/// Most ports that are listed. The hash map of roles has room for each of them on each ingress.
pub const PORTS_MAX: u32 = 16;
/// The ports that share an entry of [`PORTS_MAP`]: two bits each of 64. All ports together take 16 KiB, so that a packet
/// costs one load, however many are listed.
pub const PORTS_PER_WORD: u32 = 32;
/// Entries of [`PORTS_MAP`].
pub const PORT_WORDS: u32 = (1 << 16) / PORTS_PER_WORD;

/// What is known of a port alone; two bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum PortUse {
    /// It is nothing to Postern.
    Unlisted = 0,
    /// Mail for it is steered on every ingress.
    Steered = 1,
    /// The ingresses differ, or none steers it: [`ROLES_MAP`] knows.
    ByIngress = 2,
}

/// What becomes of mail that comes in on an ingress for a listed port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PortRole {
    /// Postern takes it.
    Steered = 0,
    /// A routing rule refuses it.
    Refused = 1,
    /// It goes where routing sends it.
    Left = 2,
}

/// The entry of [`PORTS_MAP`] that a port is in.
#[must_use]
pub const fn port_word(port: u16) -> u32 {
    port as u32 / PORTS_PER_WORD
}

/// The two bits of a port in its entry.
#[must_use]
pub const fn port_bits(word: u64, port: u16) -> u64 {
    word >> (port as u32 % PORTS_PER_WORD * 2) & 3
}

/// An entry with a port's two bits set; they were 0.
#[must_use]
pub const fn with_port_bits(word: u64, port: u16, of: PortUse) -> u64 {
    word | (of as u64) << (port as u32 % PORTS_PER_WORD * 2)
}

/// The key of an ingress and a port in [`ROLES_MAP`].
#[must_use]
pub const fn port_role_key(ingress: u32, port: u16) -> u32 {
    ingress << 16 | port as u32
}

/// The bit of `skb->mark` that the classifier sets on packets for our sockets; a rule per interface makes them local.
/// A high bit, because Kubernetes, Cilium and Tailscale use those below it, and one bit, because others keep theirs.
pub const DELIVER_MARK: u32 = 0x1000_0000;
/// The bit of `SO_MARK` on sockets to servers, by which a firewall's OUTPUT chain knows them.
pub const UPSTREAM_MARK: u32 = 0x2000_0000;

/// How many address families share [`LISTENERS_MAP`].
pub const FAMILIES: u32 = 2;

/// Address families, as slots of [`LISTENERS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

/// Where the listener of an ingress, family and worker stands in [`LISTENERS_MAP`].
#[must_use]
pub const fn listener_slot(ingress: u32, family: Family, worker: u32) -> u32 {
    (ingress * FAMILIES + family as u32) * WORKERS_MAX + worker
}

/// What the daemon decides while it runs, as slots of [`SETTINGS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Setting {
    /// An [`Intake`].
    Intake = 0,
    /// 1: packets from servers are looked up, because sockets to them have clients' addresses (`source = "client"`).
    Returning = 1,
}

/// How many settings there are.
pub const SETTINGS: u32 = 2;

/// What becomes of new connections; those that exist go on in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Intake {
    /// They are steered.
    #[default]
    Take = 0,
    /// They pass: port rules are gone, and the classifier marks the packets of connections that exist.
    Pass = 1,
    /// They are dropped.
    Drop = 2,
}

/// Slots of [`SYN_EGRESS_MAP`], 1 MiB of them: cookies are given in ascending order, so that two connections share a slot
/// only where so many sockets were given one between them while the first still waited for its server.
pub const SYN_EGRESS_SLOTS: u32 = 1 << 17;
/// Of the cookie, its upper bits tell whose slot it is.
const OWNER_MASK: u64 = 0xff_ffff;

/// Where the interface is noted that the SYN of a socket left by. The cookie is `SO_COOKIE`.
#[must_use]
pub const fn syn_egress_slot(cookie: u64) -> u32 {
    cookie as u32 % SYN_EGRESS_SLOTS
}

/// That the SYN of a socket left by an interface, in one word, so that nobody reads half of it. `sent` is how many
/// segments the socket has sent: another one for each time that the SYN is sent again.
#[must_use]
pub const fn syn_egress(cookie: u64, sent: u32, interface: u32) -> u64 {
    let owner = (cookie / SYN_EGRESS_SLOTS as u64) & OWNER_MASK;
    owner << 40 | (sent as u64 & 0xff) << 32 | interface as u64
}

/// Whether two words of one slot are about one SYN, sent once: it passes every interface of a stack, such as a VLAN and
/// the one below.
#[must_use]
pub const fn is_same_syn(one: u64, other: u64) -> bool {
    one >> 32 == other >> 32
}

/// The interface in a word that is about this socket.
#[must_use]
pub const fn syn_egress_interface(word: u64, cookie: u64) -> Option<u32> {
    let interface = word as u32;
    if interface != 0 && word >> 40 == syn_egress(cookie, 0, 0) >> 40 { Some(interface) } else { None }
}

/// Every way out of the steering program, each with a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Exit {
    /// An IPv4 connection was given to a listener.
    Steered4 = 0,
    /// An IPv6 connection was given to a listener.
    Steered6 = 1,
    /// Not TCP: left alone.
    OtherProtocol = 2,
    /// TCP to a port that is not listed, or that is not steered on this ingress: left alone.
    OtherPort = 3,
    /// Came in on an interface that is not an ingress: left alone.
    OtherInterface = 4,
    /// Neither IPv4 nor IPv6: left alone.
    OtherFamily = 5,
    /// No listener is alive: dropped, because passing would be a hole.
    NoListener = 6,
    /// The kernel refused every listener: dropped, for the same reason.
    AssignFailed = 7,
    /// The daemon has no room or is stopping, under `on_exit = "closed"`: dropped.
    NoRoom = 8,
    /// Came in on an interface that the daemon has not looked at yet: dropped. It may be an ingress that was made again,
    /// whose rules hold as soon as it has its name; a service of this machine would get clients' mail.
    UnknownInterface = 9,
}

impl Exit {
    /// Every exit, in slot order.
    pub const ALL: [Self; 10] = [
        Self::Steered4,
        Self::Steered6,
        Self::OtherProtocol,
        Self::OtherPort,
        Self::OtherInterface,
        Self::OtherFamily,
        Self::NoListener,
        Self::AssignFailed,
        Self::NoRoom,
        Self::UnknownInterface,
    ];

    /// Whether the packet ends here instead of going on to the sockets that the kernel would choose.
    #[must_use]
    pub const fn drops(self) -> bool {
        matches!(self, Self::NoListener | Self::AssignFailed | Self::NoRoom | Self::UnknownInterface)
    }

    /// The counter's name in `postern status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steered4 => "steered_ipv4",
            Self::Steered6 => "steered_ipv6",
            Self::OtherProtocol => "left_other_protocol",
            Self::OtherPort => "left_other_port",
            Self::OtherInterface => "left_other_interface",
            Self::OtherFamily => "left_other_family",
            Self::NoListener => "dropped_no_listener",
            Self::AssignFailed => "dropped_assign_failed",
            Self::NoRoom => "dropped_no_room",
            Self::UnknownInterface => "dropped_unknown_interface",
        }
    }
}

/// Every way out of the classifier, each with a counter. What is left alone goes where routing sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Class {
    /// Neither IPv4 nor IPv6 (ARP and such): left alone.
    OtherFamily = 0,
    /// Carries the tag of a VLAN, so it is another interface's: left alone.
    OtherVlan = 1,
    /// Neither TCP nor an ICMP error, or from a server while our sockets have the gateway's address: left alone.
    OtherProtocol = 2,
    /// TCP to ports that are not listed, or left alone on this ingress, in fragments or not: left alone.
    OtherPort = 3,
    /// A fragment behind the TCP header: left alone, it is of no use without its first.
    LaterFragment = 4,
    /// Headers that end too early or contradict themselves: left to the kernel, which drops them or routes them to a
    /// host that will.
    Malformed = 5,
    /// Whole TCP to a steered port from a client: left to the routing rules.
    Mail = 6,
    /// TCP from a server, or an ICMP error, for no socket of ours: left alone.
    NotOurs = 7,
    /// From a client, for a connection that exists, while new ones pass, or are refused at this port: marked.
    MarkedClient = 8,
    /// From a server, for a socket of ours that has a client's address: marked.
    MarkedServer = 9,
    /// An ICMP error that quotes a packet of a socket of ours: marked.
    MarkedError = 10,
    /// A first fragment of TCP to a port that is steered or refused: dropped, because port rules never match fragments.
    DroppedFragment = 11,
    /// A first fragment of TCP too short to show its port: dropped.
    DroppedTinyFragment = 12,
    /// A fragment that begins inside the TCP header (RFC 1858 section 3.2.2): dropped.
    DroppedHeaderFragment = 13,
    /// More extension headers or VLAN tags than are walked: dropped, because rules see no port behind them either.
    DroppedHeaderChain = 14,
    /// A SYN that a socket of ours has just sent came back from a client's side: dropped, or each round would open
    /// another session.
    DroppedLoop = 15,
    /// A SYN to a server left by this interface: noted.
    NotedSyn = 16,
    /// Anything else that left by an interface towards the servers: left alone.
    OtherDeparture = 17,
    /// Whole TCP from a client to a port that no policy admits on this ingress: left to the rule that refuses it.
    Refused = 18,
}

impl Class {
    /// Every exit, in slot order.
    pub const ALL: [Self; 19] = [
        Self::OtherFamily,
        Self::OtherVlan,
        Self::OtherProtocol,
        Self::OtherPort,
        Self::LaterFragment,
        Self::Malformed,
        Self::Mail,
        Self::NotOurs,
        Self::MarkedClient,
        Self::MarkedServer,
        Self::MarkedError,
        Self::DroppedFragment,
        Self::DroppedTinyFragment,
        Self::DroppedHeaderFragment,
        Self::DroppedHeaderChain,
        Self::DroppedLoop,
        Self::NotedSyn,
        Self::OtherDeparture,
        Self::Refused,
    ];

    /// Whether the packet becomes local.
    #[must_use]
    pub const fn marks(self) -> bool {
        matches!(self, Self::MarkedClient | Self::MarkedServer | Self::MarkedError)
    }

    /// Whether the packet ends here.
    #[must_use]
    pub const fn drops(self) -> bool {
        matches!(
            self,
            Self::DroppedFragment
                | Self::DroppedTinyFragment
                | Self::DroppedHeaderFragment
                | Self::DroppedHeaderChain
                | Self::DroppedLoop
        )
    }

    /// The counter's name in `postern status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtherFamily => "left_other_family",
            Self::OtherVlan => "left_other_vlan",
            Self::OtherProtocol => "left_other_protocol",
            Self::OtherPort => "left_other_port",
            Self::LaterFragment => "left_later_fragment",
            Self::Malformed => "left_malformed",
            Self::Mail => "left_mail",
            Self::NotOurs => "left_not_ours",
            Self::MarkedClient => "marked_client",
            Self::MarkedServer => "marked_server",
            Self::MarkedError => "marked_error",
            Self::DroppedFragment => "dropped_fragment",
            Self::DroppedTinyFragment => "dropped_tiny_fragment",
            Self::DroppedHeaderFragment => "dropped_header_fragment",
            Self::DroppedHeaderChain => "dropped_header_chain",
            Self::DroppedLoop => "dropped_loop",
            Self::NotedSyn => "noted_syn",
            Self::OtherDeparture => "left_other_departure",
            Self::Refused => "refused_port",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_tells_its_own_sockets_interface_and_no_others() {
        for cookie in [1, 0xffff, 1 << 17, (1 << 41) - 1, u64::MAX] {
            let word = syn_egress(cookie, 1, 7);
            assert_eq!(syn_egress_interface(word, cookie), Some(7));
            let neighbour = cookie.wrapping_add(u64::from(SYN_EGRESS_SLOTS));
            assert_eq!(syn_egress_slot(neighbour), syn_egress_slot(cookie));
            assert_eq!(syn_egress_interface(word, neighbour), None);
        }
        assert_eq!(syn_egress_interface(0, 1), None);
    }

    #[test]
    fn each_port_has_bits_of_its_own() {
        let listed = [
            (143, PortUse::Steered),
            (993, PortUse::ByIngress),
            (992, PortUse::Steered),
            (65_535, PortUse::Steered),
        ];
        let words: [u64; 4] = [143, 993, 992, 65_535].map(|port| {
            let same = listed.iter().filter(|(other, _)| port_word(*other) == port_word(port));
            same.fold(0, |word, (port, of)| with_port_bits(word, *port, *of))
        });
        for (word, (port, of)) in words.into_iter().zip(listed) {
            assert_eq!(port_bits(word, port), of as u64, "{port}");
            assert_eq!(port_bits(word, port ^ 2), PortUse::Unlisted as u64, "beside {port}");
        }
        assert_eq!((port_word(0), port_word(u16::MAX)), (0, PORT_WORDS - 1));
        assert_ne!(port_role_key(1, 143), port_role_key(2, 143));
    }

    #[test]
    fn a_syn_that_is_sent_again_is_another_one() {
        let first = syn_egress(9, 1, 7);
        assert!(is_same_syn(first, syn_egress(9, 1, 8)));
        assert!(!is_same_syn(first, syn_egress(9, 2, 7)));
        assert!(!is_same_syn(first, syn_egress(9 + (1 << 17), 1, 7)));
    }
}
