//! Which interface a destination leaves by, asked of the kernel.
//!
//! Steered mail leaves the FORWARD chain, so Postern itself enforces that clients reach servers by a configured
//! egress only. The question has the words of the later connect (TCP, port, no source address), so that policy
//! rules of the administrator answer both alike. Equal-cost routes are answered with one of their next hops.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};
use rustix::io::Errno;

use crate::config::InterfaceName;
use crate::steering::netlink::Netlink;
use crate::steering::routing::{LOOPBACK_INDEX, RoutingError};
use crate::words::OriginalDst;

/// Where a connection leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// As configured.
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
            Self::NotConfigured { .. } => "egress_not_configured",
            Self::NoRoute { .. } => "egress_no_route",
            Self::Unreachable { .. } => "egress_unreachable",
            Self::Blackhole { .. } => "egress_blackhole",
            Self::Prohibited { .. } => "egress_prohibited",
            Self::Netlink { .. } => "egress_lookup_failed",
        }
    }
}

/// The configured egress interfaces and a socket to ask the kernel with: one per worker, no lock.
#[derive(Debug)]
pub struct EgressTable {
    netlink: Netlink,
    egress: Vec<InterfaceName>,
}

impl EgressTable {
    /// For the calling thread's network namespace. Interfaces may appear later: they are matched by name each time.
    ///
    /// # Errors
    /// No netlink socket.
    pub fn new(egress: &[InterfaceName]) -> Result<Self, RoutingError> {
        let netlink = Netlink::open()
            .map_err(|source| RoutingError::netlink("socket(NETLINK_ROUTE)", "ip route get", source))?;
        Ok(Self { netlink, egress: egress.to_vec() })
    }

    /// The egress that the kernel would use for a connection to this destination.
    ///
    /// # Errors
    /// The destination does not leave by a configured egress, or the kernel could not be asked.
    pub fn route(&mut self, destination: OriginalDst) -> Result<Egress, EgressFault> {
        let address = destination.ip().to_canonical();
        let answer = self
            .netlink
            .ask(RouteNetlinkMessage::GetRoute(question(SocketAddr::new(address, destination.0.port()))))
            .map_err(|source| refused(address, source))?;
        let index = next_hop(address, &answer)?;
        let name = rustix::net::netdevice::index_to_name(&self.netlink, index).map_err(|errno| {
            EgressFault::Netlink { destination: address, call: "SIOCGIFNAME", source: errno.into() }
        })?;
        match self.egress.iter().find(|egress| egress.as_str() == name) {
            Some(interface) => Ok(Egress { interface: interface.clone(), index }),
            None => Err(EgressFault::NotConfigured { destination: address, interface: name }),
        }
    }
}

fn question(destination: SocketAddr) -> RouteMessage {
    let mut route = RouteMessage::default();
    (route.header.address_family, route.header.destination_prefix_length) = match destination {
        SocketAddr::V4(_) => (AddressFamily::Inet, 32),
        SocketAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    route.attributes = vec![
        RouteAttribute::Destination(destination.ip().into()),
        RouteAttribute::IpProto(u8::from(IpProtocol::Tcp)),
        RouteAttribute::Dport(destination.port()),
    ];
    route
}

/// A route that is not unicast is answered with its errno (`fib_props` in net/ipv4/fib_semantics.c,
/// `ip6_rt_type_to_error` in net/ipv6/route.c), or, on some paths of IPv6, with itself: see [`next_hop`].
fn refused(destination: IpAddr, source: io::Error) -> EgressFault {
    match Errno::from_io_error(&source) {
        Some(Errno::NETUNREACH) => EgressFault::NoRoute { destination },
        Some(Errno::HOSTUNREACH) => EgressFault::Unreachable { destination },
        Some(Errno::ACCESS) => EgressFault::Prohibited { destination },
        Some(Errno::INVAL) => EgressFault::Blackhole { destination },
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
