//! Which interface a destination leaves by, asked of the kernel.
//!
//! Steered mail never meets the FORWARD chain. So Postern itself enforces that clients reach servers only by a
//! configured egress, and from each ingress only what `steering.reach` allows. The route lookup carries what the later
//! connect carries: TCP, port, mark, and the client's address where that is the source. So the administrator's policy
//! rules decide alike about both. Two things can differ: of equal-cost routes the lookup names one next hop, and it
//! does not run rules that change packets on their way out. So Postern also checks the interface that the SYN left by.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};
use proxy_ebpf::UPSTREAM_MARK;
use rustix::io::Errno;

use crate::config::{InterfaceName, Source, SteeringConfig};
use crate::steering::netlink::Netlink;
use crate::steering::routing::{LOOPBACK_INDEX, RoutingError};
use crate::steering::sysctl;
use crate::words::{ClientAddr, OriginalDst};

/// Where a connection leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Its own name, also where a pattern lists it.
    pub interface: InterfaceName,
    /// Its index now.
    pub index: u32,
}

/// Why a destination is refused.
#[derive(Debug, thiserror::Error)]
pub enum EgressFault {
    /// Delivered to the gateway itself: its own address, loopback, broadcast or multicast.
    #[error(
        "{destination} is this gateway itself, not a server behind it: point the client at the mail server's \
         address, or use DNAT before the gateway's ingress"
    )]
    Local {
        /// What the client meant to reach.
        destination: IpAddr,
    },
    /// Routed out of an interface that is not an egress.
    #[error(
        "{destination} is routed out of \"{interface}\": if servers are reached there, add \"{interface}\" to steering.egress"
    )]
    NotConfigured {
        /// What the client meant to reach.
        destination: IpAddr,
        /// The kernel's choice.
        interface: String,
    },
    /// Routed back out of an interface of clients.
    #[error(
        "{destination} is routed out of \"{interface}\", which is an ingress: an interface cannot be both, or Postern's \
         own connections would be steered again; let servers and clients stand behind different interfaces (a VLAN is one)"
    )]
    Hairpin {
        /// What the client meant to reach.
        destination: IpAddr,
        /// The kernel's choice.
        interface: String,
    },
    /// `steering.reach` does not allow it.
    #[error(
        "clients of \"{ingress}\" may not reach {destination} through \"{interface}\": if they should, add a \
         [[steering.reach]] entry with ingress = [\"{ingress}\"] that covers it"
    )]
    NotAllowed {
        /// Where the client is.
        ingress: String,
        /// What the client meant to reach.
        destination: IpAddr,
        /// The kernel's choice.
        interface: String,
    },
    /// The SYN left by no interface of `steering.egress`, though the route leads out of one.
    #[error(
        "the connection to {destination} left by an interface that is not in steering.egress, though its route leads \
         out of \"{asked}\": something changes packets on their way out; look for chains of `type route` in `nft list \
         ruleset` and for marks in `ip rule`. Let them spare packets with the mark {UPSTREAM_MARK:#x}, or add the \
         interface to steering.egress"
    )]
    DiffersUnlisted {
        /// What the client meant to reach.
        destination: IpAddr,
        /// The route's interface.
        asked: String,
    },
    /// The SYN left by another interface than the route's, one that the client may not use for this destination.
    #[error(
        "the connection to {destination} left by \"{taken}\", where steering.reach does not let clients of \"{ingress}\" \
         reach it, though its route leads out of \"{asked}\": something changes packets on their way out; look for \
         chains of `type route` in `nft list ruleset` and for marks in `ip rule`. Let them spare packets with the mark \
         {UPSTREAM_MARK:#x}, or add a [[steering.reach]] entry that allows \"{taken}\""
    )]
    DiffersForbidden {
        /// Where the client is.
        ingress: Box<str>,
        /// What the client meant to reach.
        destination: IpAddr,
        /// The route's interface.
        asked: Box<str>,
        /// The SYN's interface.
        taken: Box<str>,
    },
    /// No route matches.
    #[error("no route leads to {destination}: see `ip route get {destination}` on the gateway")]
    NoRoute {
        /// What the client meant to reach.
        destination: IpAddr,
    },
    /// A route or rule of type `unreachable` matches.
    #[error(
        "an `unreachable` route or rule covers {destination}: see `ip route show match {destination}` and `ip rule`"
    )]
    Unreachable {
        /// What the client meant to reach.
        destination: IpAddr,
    },
    /// A route or rule of type `blackhole` matches.
    #[error(
        "a `blackhole` route or rule covers {destination}: see `ip route show match {destination}` and `ip rule`"
    )]
    Blackhole {
        /// What the client meant to reach.
        destination: IpAddr,
    },
    /// A route or rule of type `prohibit` matches.
    #[error(
        "a `prohibit` route or rule covers {destination}: see `ip route show match {destination}` and `ip rule`"
    )]
    Prohibited {
        /// What the client meant to reach.
        destination: IpAddr,
    },
    /// Rules name sources, and a strict reverse-path filter prevents a lookup with the client's address.
    #[error(
        "the route to {destination} from the client's address cannot be told: `ip rule` names sources, and strict \
         reverse-path filters forbid the question; set net.ipv4.conf.all.rp_filter=2 and net.ipv4.conf.lo.rp_filter=2, or \
         steering.source = \"gateway\""
    )]
    ReversePath {
        /// What the client meant to reach.
        destination: IpAddr,
    },
    /// The kernel could not be asked.
    #[error(
        "the route to {destination} could not be looked up: {call}: {source}; see `ip route get {destination}`"
    )]
    Netlink {
        /// What the client meant to reach.
        destination: IpAddr,
        /// The request.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl EgressFault {
    /// The token in records.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Local { .. } => "egress_local",
            Self::NotConfigured { .. } | Self::Hairpin { .. } => "egress_not_configured",
            Self::NotAllowed { .. } => "egress_not_allowed",
            Self::DiffersUnlisted { .. } | Self::DiffersForbidden { .. } => "egress_differs",
            Self::NoRoute { .. } => "egress_no_route",
            Self::Unreachable { .. } => "egress_unreachable",
            Self::Blackhole { .. } => "egress_blackhole",
            Self::Prohibited { .. } => "egress_prohibited",
            Self::ReversePath { .. } | Self::Netlink { .. } => "egress_lookup_failed",
        }
    }
}

/// Who may reach what, as the policy says under which a connection was accepted.
#[derive(Clone, Copy, Debug)]
pub struct EgressTerms<'a> {
    /// `[steering]`.
    pub steering: &'a SteeringConfig,
    /// As [`filters_are_strict`] said when the policy was read.
    pub strict_reverse_path: bool,
}

/// The netlink socket for route lookups. Each mail thread has one; there is no lock.
#[derive(Debug)]
pub struct EgressTable {
    netlink: Netlink,
}

impl EgressTable {
    /// For the calling thread's network namespace. Interfaces may appear later: each lookup matches them by name.
    ///
    /// # Errors
    /// No netlink socket.
    pub fn new() -> Result<Self, RoutingError> {
        let netlink = Netlink::open()
            .map_err(|source| RoutingError::netlink("socket(NETLINK_ROUTE)", "ip route get", source))?;
        Ok(Self { netlink })
    }

    /// The egress that the kernel would choose for a connection to this destination on behalf of this client.
    ///
    /// # Errors
    /// The destination does not leave by a configured egress, the client's ingress may not reach it, or the kernel
    /// could not be asked.
    pub fn route(
        &mut self,
        terms: EgressTerms<'_>,
        ingress: &InterfaceName,
        client: ClientAddr,
        destination: OriginalDst,
    ) -> Result<Egress, EgressFault> {
        let address = destination.ip().to_canonical();
        let answer = self.ask(terms, client.ip(), SocketAddr::new(address, destination.0.port()))?;
        let index = next_hop(address, &answer)?;
        let name = self.name(address, index)?;
        terms.allowed(ingress, address, name).map(|interface| Egress { interface, index })
    }

    /// The egress that the kernel would choose for a connection of this process's own, which carries no mark and is no
    /// client's; `listed` are the egress interfaces.
    ///
    /// # Errors
    /// The destination does not leave by a configured egress, or the kernel could not be asked.
    pub(crate) fn leaves(
        &mut self,
        listed: &[InterfaceName],
        destination: SocketAddr,
    ) -> Result<Egress, EgressFault> {
        let address = destination.ip();
        let mut route = question(destination, None);
        route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Mark(_)));
        let answer = self.netlink.ask(RouteNetlinkMessage::GetRoute(route));
        let index = next_hop(address, &answer.map_err(|error| refused(address, error))?)?;
        let interface = self.name(address, index)?;
        match InterfaceName::entry_of(listed, &interface) {
            Some(_) => Ok(Egress { interface: InterfaceName(interface), index }),
            None => Err(EgressFault::NotConfigured { destination: address, interface }),
        }
    }

    /// The egress that a connection took, by the interface that its SYN left by. It may differ from `asked`, because
    /// equal-cost routes and marks choose between uplinks, and is then judged like `asked`.
    ///
    /// # Errors
    /// The SYN left by an interface that is not configured, or that the client's ingress may not reach the destination
    /// by; or the kernel could not be asked.
    pub fn confirm(
        &self,
        terms: EgressTerms<'_>,
        ingress: &InterfaceName,
        destination: OriginalDst,
        asked: Egress,
        syn: io::Result<Option<u32>>,
    ) -> Result<Egress, EgressFault> {
        let destination = destination.ip().to_canonical();
        let taken = syn.map_err(|source| EgressFault::Netlink { destination, call: "SO_COOKIE", source })?;
        let asked = match taken {
            Some(index) if index == asked.index => return Ok(asked),
            _ => asked.interface.as_str().to_owned(),
        };
        let Some(index) = taken else { return Err(EgressFault::DiffersUnlisted { destination, asked }) };
        let taken = self.name(destination, index)?;
        match terms.allowed(ingress, destination, taken.clone()) {
            Ok(interface) => Ok(Egress { interface, index }),
            Err(EgressFault::NotAllowed { ingress, .. }) => {
                let (ingress, asked, taken) = (ingress.into(), asked.into(), taken.into());
                Err(EgressFault::DiffersForbidden { ingress, destination, asked, taken })
            }
            Err(_) => Err(EgressFault::DiffersUnlisted { destination, asked }),
        }
    }

    fn name(&self, destination: IpAddr, index: u32) -> Result<String, EgressFault> {
        rustix::net::netdevice::index_to_name(&self.netlink, index).map_err(|errno| EgressFault::Netlink {
            destination,
            call: "SIOCGIFNAME",
            source: errno.into(),
        })
    }

    /// An IPv6 lookup takes a foreign source address. An IPv4 lookup takes one only for a packet that comes in. Such a
    /// packet is said to come in on `lo`, so that rules for our own packets also match it (`inet_rtm_getroute` in
    /// net/ipv4/route.c). That lookup fails under strict `rp_filter` and where forwarding is off, though our own
    /// packets would pass. A lookup without the address then gives the same answer, unless a rule names sources.
    fn ask(
        &mut self,
        terms: EgressTerms<'_>,
        client: IpAddr,
        destination: SocketAddr,
    ) -> Result<RouteNetlinkMessage, EgressFault> {
        let client = client.to_canonical();
        let foreign = terms.steering.source == Source::Client && client.is_ipv4() == destination.is_ipv4();
        match self.ask_once(destination, foreign.then_some(client)) {
            Err(_) if foreign && client.is_ipv4() && !self.rules_may_name_sources() => {
                self.ask_once(destination, None)
            }
            Err(_) if foreign && client.is_ipv4() && terms.strict_reverse_path => {
                Err(EgressFault::ReversePath { destination: destination.ip() })
            }
            answered => answered,
        }
    }

    fn ask_once(
        &mut self,
        destination: SocketAddr,
        source: Option<IpAddr>,
    ) -> Result<RouteNetlinkMessage, EgressFault> {
        self.netlink
            .ask(RouteNetlinkMessage::GetRoute(question(destination, source)))
            .map_err(|error| refused(destination.ip(), error))
    }

    /// True also where the rules cannot be read: the first answer then stays.
    fn rules_may_name_sources(&mut self) -> bool {
        let mut all = RuleMessage::default();
        all.header.family = AddressFamily::Inet;
        let names_source = |rule: &RouteNetlinkMessage| match rule {
            RouteNetlinkMessage::NewRule(rule) => rule.header.src_len > 0,
            _ => false,
        };
        let rules = self.netlink.dump(&RouteNetlinkMessage::GetRule(all));
        rules.map_or(true, |rules| rules.iter().any(names_source))
    }
}

impl EgressTerms<'_> {
    fn allowed(
        &self,
        ingress: &InterfaceName,
        destination: IpAddr,
        interface: String,
    ) -> Result<InterfaceName, EgressFault> {
        let Some((_, egress)) = InterfaceName::entry_of(&self.steering.egress, &interface) else {
            return Err(match InterfaceName::entry_of(&self.steering.ingress, &interface) {
                Some(_) => EgressFault::Hairpin { destination, interface },
                None => EgressFault::NotConfigured { destination, interface },
            });
        };
        if self.steering.may_reach(ingress, egress, destination) {
            Ok(InterfaceName(interface))
        } else {
            Err(EgressFault::NotAllowed { ingress: ingress.as_str().to_owned(), destination, interface })
        }
    }
}

/// Whether strict reverse-path filters forbid the question about a client's address. The stricter of the two counts
/// (Documentation/networking/ip-sysctl.rst).
#[must_use]
pub fn filters_are_strict() -> bool {
    let filters = ["net.ipv4.conf.all.rp_filter", "net.ipv4.conf.lo.rp_filter"].map(sysctl::read);
    filters.into_iter().flatten().max().is_some_and(|filter| filter == "1")
}

fn question(destination: SocketAddr, source: Option<IpAddr>) -> RouteMessage {
    let mut route = RouteMessage::default();
    let (family, bits) = match destination {
        SocketAddr::V4(_) => (AddressFamily::Inet, 32),
        SocketAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    route.header.address_family = family;
    route.header.destination_prefix_length = bits;
    route.attributes = vec![
        RouteAttribute::Destination(destination.ip().into()),
        RouteAttribute::IpProto(u8::from(IpProtocol::Tcp)),
        RouteAttribute::Dport(destination.port()),
        RouteAttribute::Mark(UPSTREAM_MARK),
    ];
    if let Some(source) = source {
        route.header.source_prefix_length = bits;
        route.attributes.push(RouteAttribute::Source(source.into()));
        if source.is_ipv4() {
            route.attributes.push(RouteAttribute::Iif(LOOPBACK_INDEX));
        }
    }
    route
}

/// The fault for a lookup's errno. The kernel answers with an errno for each route that is not unicast (`fib_props` in
/// net/ipv4/fib_semantics.c, `ip6_rt_type_to_error` in net/ipv6/route.c). On some paths of IPv6 it answers with the
/// route itself: see [`next_hop`].
fn refused(destination: IpAddr, source: io::Error) -> EgressFault {
    match Errno::from_io_error(&source) {
        Some(Errno::NETUNREACH) => EgressFault::NoRoute { destination },
        Some(Errno::HOSTUNREACH) => EgressFault::Unreachable { destination },
        Some(Errno::ACCESS) => EgressFault::Prohibited { destination },
        Some(Errno::INVAL) => EgressFault::Blackhole { destination },
        Some(Errno::XDEV) => EgressFault::ReversePath { destination },
        _ => EgressFault::Netlink { destination, call: "RTM_GETROUTE", source },
    }
}

fn next_hop(destination: IpAddr, answer: &RouteNetlinkMessage) -> Result<u32, EgressFault> {
    let RouteNetlinkMessage::NewRoute(route) = answer else {
        return Err(EgressFault::NoRoute { destination });
    };
    match route.header.kind {
        RouteType::Unicast => {}
        RouteType::Local | RouteType::Anycast | RouteType::Broadcast | RouteType::Multicast => {
            return Err(EgressFault::Local { destination });
        }
        RouteType::BlackHole => return Err(EgressFault::Blackhole { destination }),
        RouteType::Prohibit => return Err(EgressFault::Prohibited { destination }),
        RouteType::Unreachable => return Err(EgressFault::Unreachable { destination }),
        _ => return Err(EgressFault::NoRoute { destination }),
    }
    let index = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    match index {
        Some(LOOPBACK_INDEX) => Err(EgressFault::Local { destination }),
        Some(index) => Ok(index),
        None => Err(EgressFault::NoRoute { destination }),
    }
}
