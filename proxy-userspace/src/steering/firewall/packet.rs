//! The packets of steered mail, as the expressions of a firewall see them.

use std::net::IpAddr;

use ipnet::IpNet;
use proxy_ebpf::{DELIVER_MARK, UPSTREAM_MARK};
use serde_json::Value;

use super::ruleset::{NftFamily, NftHook};

/// A mail connection's packets on the gateway, by what a firewall tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Flow {
    /// A client's SYN, to a server's address.
    FromClient,
    /// What the client sends after it.
    FromClientMore,
    /// What the server answers.
    FromServer,
    /// An ICMP error about one of the connections: without it large packets get lost on small links.
    IcmpError,
    /// The SYN to a server.
    ToServer,
    /// What follows it.
    ToServerMore,
    /// What the client is answered.
    ToClient,
}

impl Flow {
    pub(super) const fn enters(self) -> bool {
        matches!(self, Self::FromClient | Self::FromClientMore | Self::FromServer | Self::IcmpError)
    }

    /// The hooks that such a packet meets. Steered mail never meets `forward`.
    pub(super) const fn hooks(self) -> [NftHook; 2] {
        if self.enters() {
            [NftHook::Prerouting, NftHook::Input]
        } else {
            [NftHook::Output, NftHook::Postrouting]
        }
    }

    /// Whether the mail port is the packet's destination.
    const fn goes_to_port(self) -> bool {
        !matches!(self, Self::FromServer | Self::ToClient)
    }

    const fn is_new(self) -> bool {
        matches!(self, Self::FromClient | Self::ToServer)
    }
}

/// A number of which some bits may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    pub(super) value: u64,
    pub(super) known: u64,
}

impl Bits {
    pub(super) const fn exactly(value: u64) -> Self {
        Self { value, known: u64::MAX }
    }
}

/// What an expression reads from a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The packet has no such field: the rule does not match, negated or not.
    Absent,
    Unknown,
    /// A unicast address that may stand in mail from a client to a server.
    Address,
    /// The port of the side that connects: 1,024 or above.
    OtherPort,
    Interface(String),
    Protocol(&'static str),
    Bits(Bits),
    /// One of these words; several where the value is not certain.
    Words(Vec<&'static str>),
}

/// One packet.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) flow: Flow,
    /// [`NftFamily::Ip`] or [`NftFamily::Ip6`].
    pub(super) family: NftFamily,
    pub(super) port: u16,
    pub(super) interface: String,
    pub(super) mark: Bits,
    /// Connection tracking's states that it may have.
    pub(super) states: Vec<&'static str>,
}

/// `SYN` and `ACK` of the TCP header (RFC 9293 section 3.1).
const SYN: u64 = 0x02;
const ACK: u64 = 0x10;

impl Packet {
    pub(super) fn new(flow: Flow, family: NftFamily, port: u16, interface: &str) -> Self {
        let state = match flow {
            Flow::FromClient | Flow::ToServer => "new",
            Flow::IcmpError => "related",
            _ => "established",
        };
        let mark = match flow {
            Flow::ToServer | Flow::ToServerMore => Bits::exactly(u64::from(UPSTREAM_MARK)),
            Flow::ToClient => Bits::exactly(0),
            // The classifier's mark depends on `source`: it marks what port rules cannot make local.
            _ => Bits { value: 0, known: !u64::from(DELIVER_MARK) },
        };
        Self { flow, family, port, interface: interface.to_owned(), mark, states: vec![state] }
    }

    const fn protocol(&self) -> &'static str {
        match (self.flow, self.family) {
            (Flow::IcmpError, NftFamily::Ip6) => "ipv6-icmp",
            (Flow::IcmpError, _) => "icmp",
            _ => "tcp",
        }
    }

    /// `meta KEY`. From Linux 5.10 on a hook without an input or output interface reads an empty name.
    pub(super) fn meta(&self, key: &str) -> Field {
        let interface =
            |present: bool| Field::Interface(if present { self.interface.clone() } else { String::new() });
        let is_ip6 = self.family == NftFamily::Ip6;
        match key {
            "iifname" | "iif" => interface(self.flow.enters()),
            "oifname" | "oif" => interface(!self.flow.enters()),
            "l4proto" => Field::Protocol(self.protocol()),
            "nfproto" => Field::Words(vec![if is_ip6 { "ipv6" } else { "ipv4" }]),
            "protocol" => Field::Words(vec![if is_ip6 { "ip6" } else { "ip" }]),
            "mark" => Field::Bits(self.mark),
            "pkttype" if self.flow.enters() => Field::Words(vec!["host"]),
            _ => Field::Unknown,
        }
    }

    /// `PROTOCOL FIELD`.
    pub(super) fn payload(&self, protocol: &str, field: &str) -> Field {
        match protocol {
            "tcp" | "th" if self.protocol() == "tcp" => self.tcp(field),
            "th" => Field::Unknown,
            "ip" if self.family == NftFamily::Ip => self.ip(field),
            "ip6" if self.family == NftFamily::Ip6 => self.ip(field),
            "icmp" if self.protocol() == "icmp" => icmp(field, "destination-unreachable"),
            "icmpv6" if self.protocol() == "ipv6-icmp" => icmp(field, "packet-too-big"),
            "ip" | "ip6" | "tcp" | "udp" | "udplite" | "sctp" | "dccp" | "icmp" | "icmpv6" | "igmp"
            | "esp" | "ah" | "comp" | "arp" => Field::Absent,
            _ => Field::Unknown,
        }
    }

    fn tcp(&self, field: &str) -> Field {
        let port = |is_ours: bool| {
            if is_ours { Field::Bits(Bits::exactly(u64::from(self.port))) } else { Field::OtherPort }
        };
        match field {
            "dport" => port(self.flow.goes_to_port()),
            "sport" => port(!self.flow.goes_to_port()),
            "flags" => Field::Bits(Bits::exactly(if self.flow.is_new() { SYN } else { ACK })),
            _ => Field::Unknown,
        }
    }

    fn ip(&self, field: &str) -> Field {
        match field {
            // Routers send errors from addresses of their own, which may be link-local.
            "saddr" | "daddr" if self.flow != Flow::IcmpError => Field::Address,
            "protocol" | "nexthdr" => Field::Protocol(self.protocol()),
            _ => Field::Unknown,
        }
    }

    /// `ct KEY`. Before connection tracking has seen the packet, its state is invalid, or untracked after `notrack`.
    pub(super) fn ct(&self, key: &str, is_tracked: bool) -> Field {
        match (key, self.flow) {
            ("state", _) if !is_tracked => {
                let untracked = self.states.iter().filter(|state| **state == "untracked").copied();
                Field::Words(untracked.chain(["invalid"]).collect())
            }
            ("state", _) => Field::Words(self.states.clone()),
            ("direction", flow) if is_tracked && flow != Flow::IcmpError => {
                Field::Words(vec![if flow.goes_to_port() { "original" } else { "reply" }])
            }
            _ => Field::Unknown,
        }
    }

    /// `fib ADDRESS type`: a lookup in the local table for IPv4, through all rules for IPv6.
    pub(super) fn address_type(&self, of_destination: bool) -> Field {
        let is_foreign = match self.flow {
            Flow::FromClient | Flow::FromClientMore => true,
            Flow::FromServer => !of_destination,
            _ => false,
        };
        match self.family {
            NftFamily::Ip if is_foreign => Field::Words(vec!["unicast"]),
            _ => Field::Words(vec!["unicast", "local"]),
        }
    }
}

fn icmp(field: &str, kind: &'static str) -> Field {
    if field == "type" { Field::Words(vec![kind]) } else { Field::Unknown }
}

/// Whether an address or a prefix (`{"addr": …, "len": …}`) can hold no address of a mail client or server:
/// loopback, link-local, multicast, unspecified, mapped, 6to4. Rules against such are common and do not matter.
pub(super) fn holds_no_mail(constant: &Value) -> bool {
    let Some(net) = network(constant) else { return false };
    let within = |list: &[&str]| {
        list.iter().any(|other| other.parse::<IpNet>().is_ok_and(|other| other.contains(&net)))
    };
    let overlaps = |list: &[&str]| {
        list.iter().any(|other| {
            other.parse::<IpNet>().is_ok_and(|other| other.contains(&net) || net.contains(&other))
        })
    };
    match net {
        IpNet::V4(_) => within(&["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"]),
        IpNet::V6(_) => within(&["2002::/16"]) || !overlaps(&["2000::/3", "fc00::/7"]),
    }
}

/// Whether a prefix holds every address.
pub(super) fn holds_all(constant: &Value) -> bool {
    network(constant).is_some_and(|net| net.prefix_len() == 0)
}

fn network(constant: &Value) -> Option<IpNet> {
    let prefix = constant.get("prefix");
    let address = prefix.map_or(Some(constant), |prefix| prefix.get("addr"))?.as_str()?;
    let address: IpAddr = address.parse().ok()?;
    let Some(prefix) = prefix else { return Some(IpNet::from(address)) };
    let length = prefix.get("len").and_then(Value::as_u64).and_then(|length| u8::try_from(length).ok())?;
    IpNet::new(address, length).ok()
}
