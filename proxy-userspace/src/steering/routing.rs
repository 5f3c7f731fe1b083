//! The routing that makes transit mail local: a rule per ingress, port and family, and a local route per family.
//!
//! A rule matches by interface *name*, so it survives an interface that is deleted and made again. Matching a port
//! needs Linux 4.17. Everything here acts on the network namespace of the calling thread.

use std::fmt;
use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};
use proxy_ebpf::Family;
use rustix::io::Errno;
use rustix::net::{AddressFamily as SocketFamily, SocketType};

use super::netlink::Netlink;
use super::sysctl;
use crate::config::InterfaceName;
use crate::words::{IMAP_PORT, IMAPS_PORT};

/// Where Postern's rules stand: after the kernel's own (0), before those that others install for all traffic
/// (strongSwan 220, Tailscale from 5210, administrators and systemd-networkd mostly from 1000 up).
pub const RULE_PREFERENCE: u32 = 143;
/// Postern's table: over 255, where small numbers picked by hand end, and readable (ports 143 and 993).
pub const TABLE: u32 = 143_993;
/// Who installed an entry (`rtm_protocol`, `fra_protocol`): Postern. In neither linux/rtnetlink.h nor iproute2's
/// `rt_protos`, so that `ip route show table all proto 143` shows what is Postern's and nothing else.
pub const PROTOCOL: u8 = 143;

/// The loopback device's index in every namespace (`LOOPBACK_IFINDEX` in net/flow.h).
pub(crate) const LOOPBACK_INDEX: u32 = 1;

/// What Postern does about IPv6 in this namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    /// Steered like IPv4.
    Steered,
    /// The kernel has no IPv6 (`ipv6.disable=1` or built without): no such packet can be forwarded either.
    AbsentFromKernel,
    /// `disable_ipv6` is set on `lo` and on every ingress: nothing to steer arrives. If it is cleared later,
    /// Postern must be restarted, or IPv6 mail passes uninspected.
    OffOnIngress,
}

impl fmt::Display for Ipv6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Steered => "steered",
            Self::AbsentFromKernel => "not steered: this kernel has no IPv6",
            Self::OffOnIngress => {
                "not steered: disable_ipv6 is set on lo and on every ingress; restart Postern after clearing it"
            }
        })
    }
}

/// What [`clear_leftovers`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Policy rules.
    pub rules: u32,
    /// Routes.
    pub routes: u32,
}

/// Why the routing could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The config names an interface that is not there.
    #[error(
        "no interface \"{name}\" in this network namespace: `ip -br link` lists those that exist; create it or \
         correct [steering] in the config"
    )]
    NoInterface {
        /// As configured.
        name: String,
    },
    /// The local routes lie on `lo`.
    #[error("the loopback interface is down, and the route of steered mail lies on it: `ip link set lo up`")]
    LoopbackDown,
    /// IPv6 mail would be forwarded, but could not be made local.
    #[error(
        "IPv6 is disabled on lo but enabled on ingress \"{interface}\", so IPv6 mail would pass uninspected: set \
         net.ipv6.conf.lo.disable_ipv6=0, or net/ipv6/conf/{interface}/disable_ipv6=1"
    )]
    Ipv6OffOnLoopback {
        /// The ingress.
        interface: String,
    },
    /// Somebody else's entry stands where ours belongs.
    #[error(
        "`{entry}` cannot be added, because one like it exists: another Postern runs in this network namespace, or \
         something else uses rule preference {RULE_PREFERENCE} or table {TABLE}; look with `ip rule` and \
         `ip route show table {TABLE}` (and `ip -6`)"
    )]
    Occupied {
        /// In the words of `ip`.
        entry: String,
    },
    /// No `CAP_NET_ADMIN`.
    #[error(
        "the kernel refused {call}: run Postern as root or with CAP_NET_ADMIN (AmbientCapabilities= in its unit)"
    )]
    NotPermitted {
        /// The netlink request.
        call: &'static str,
    },
    /// A setting under /proc/sys could not be read.
    #[error(transparent)]
    Sysctl(#[from] sysctl::SysctlError),
    /// Anything else that the kernel answers.
    #[error(
        "{call} for `{entry}` failed: {source}; the kernel needs CONFIG_IP_MULTIPLE_TABLES and \
         CONFIG_IPV6_MULTIPLE_TABLES, and Linux 4.17 for rules by port"
    )]
    Netlink {
        /// The request or system call.
        call: &'static str,
        /// What it was about, in the words of `ip`.
        entry: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl RoutingError {
    pub(crate) fn netlink(call: &'static str, entry: impl Into<String>, source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::PERM) => Self::NotPermitted { call },
            Some(Errno::EXIST) => Self::Occupied { entry: entry.into() },
            Some(Errno::NETDOWN) => Self::LoopbackDown,
            _ => Self::Netlink { call, entry: entry.into(), source },
        }
    }
}

/// The rules and routes that one daemon installed.
#[derive(Debug)]
pub struct Routing {
    entries: Vec<Entry>,
    /// Whether IPv6 is steered, and if not, why that is no hole.
    pub ipv6: Ipv6,
}

impl Routing {
    /// Installs the routes, then the rules that lead to them. All or nothing: on an error, what was added is removed.
    ///
    /// # Errors
    /// A missing ingress, `lo` down, entries of others in the way (a second daemon too), or the kernel's refusal.
    pub fn install(ingress: &[InterfaceName]) -> Result<Self, RoutingError> {
        for name in ingress {
            interface_index(name)?;
        }
        let ipv6 = ipv6_state(ingress)?;
        let families: &[Family] =
            if ipv6 == Ipv6::Steered { &[Family::V4, Family::V6] } else { &[Family::V4] };
        let mut netlink = open()?;
        let mut installed = Self { entries: Vec::new(), ipv6 };
        for entry in entries(ingress, families) {
            if let Err(error) = entry.add(&mut netlink) {
                // The first error is the one that the operator must see.
                if let Err(left) = installed.remove() {
                    tracing::error!(%left, "routing could not be taken back");
                }
                return Err(error);
            }
            installed.entries.push(entry);
        }
        Ok(installed)
    }

    /// Removes what [`Routing::install`] added; entries that are gone already are fine. Every entry is tried.
    ///
    /// # Errors
    /// The first refusal.
    pub fn remove(&self) -> Result<(), RoutingError> {
        let mut netlink = open()?;
        // Rules first: a rule without its route would let mail fall through to the next table.
        let results: Vec<_> = self.entries.iter().rev().map(|entry| entry.delete(&mut netlink)).collect();
        results.into_iter().try_for_each(|result| result.map(drop))
    }
}

/// Removes every rule and route with Postern's table and protocol: what a killed daemon left.
///
/// # Errors
/// The first refusal of the kernel.
pub fn clear_leftovers() -> Result<Cleared, RoutingError> {
    let mut netlink = open()?;
    let mut cleared = Cleared::default();
    for entry in ours(&mut netlink)? {
        let removed = u32::from(entry.delete(&mut netlink)?);
        match entry {
            Entry::Rule(_) => cleared.rules += removed,
            Entry::Route(_) => cleared.routes += removed,
        }
    }
    Ok(cleared)
}

/// The rules and routes of Postern that the kernel holds now, in the words of `ip`.
///
/// # Errors
/// The kernel's refusal.
pub fn installed() -> Result<Vec<String>, RoutingError> {
    Ok(ours(&mut open()?)?.iter().map(Entry::to_string).collect())
}

/// The interface's index now; another after it was deleted and made again.
///
/// # Errors
/// [`RoutingError::NoInterface`], or no socket to ask with.
pub fn interface_index(name: &InterfaceName) -> Result<u32, RoutingError> {
    let failed = |call, errno: Errno| RoutingError::netlink(call, name.as_str(), errno.into());
    let socket = rustix::net::socket(SocketFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|errno| failed("socket", errno))?;
    rustix::net::netdevice::name_to_index(&socket, name.as_str()).map_err(|errno| match errno {
        Errno::NODEV => RoutingError::NoInterface { name: name.as_str().to_owned() },
        errno => failed("SIOCGIFINDEX", errno),
    })
}

fn open() -> Result<Netlink, RoutingError> {
    Netlink::open().map_err(|source| RoutingError::netlink("socket(NETLINK_ROUTE)", "routing", source))
}

fn ipv6_state(ingress: &[InterfaceName]) -> Result<Ipv6, RoutingError> {
    if !kernel_has_ipv6() {
        return Ok(Ipv6::AbsentFromKernel);
    }
    let disabled = |interface: &str| -> Result<bool, RoutingError> {
        Ok(sysctl::read(&format!("net/ipv6/conf/{interface}/disable_ipv6"))? == "1")
    };
    if !disabled("lo")? {
        return Ok(Ipv6::Steered);
    }
    for name in ingress {
        if !disabled(name.as_str())? {
            return Err(RoutingError::Ipv6OffOnLoopback { interface: name.as_str().to_owned() });
        }
    }
    Ok(Ipv6::OffOnIngress)
}

pub(crate) fn kernel_has_ipv6() -> bool {
    rustix::net::socket(SocketFamily::INET6, SocketType::DGRAM, None).err() != Some(Errno::AFNOSUPPORT)
}

/// One thing to install, as the kernel's own message.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Rule(RuleMessage),
    Route(RouteMessage),
}

impl Entry {
    fn add(&self, netlink: &mut Netlink) -> Result<(), RoutingError> {
        let (call, message) = match self {
            Self::Rule(rule) => ("RTM_NEWRULE", RouteNetlinkMessage::NewRule(rule.clone())),
            Self::Route(route) => ("RTM_NEWROUTE", RouteNetlinkMessage::NewRoute(route.clone())),
        };
        netlink
            .change(message, NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|source| RoutingError::netlink(call, self.to_string(), source))
    }

    /// Whether it was there.
    fn delete(&self, netlink: &mut Netlink) -> Result<bool, RoutingError> {
        let (call, message) = match self {
            Self::Rule(rule) => ("RTM_DELRULE", RouteNetlinkMessage::DelRule(rule.clone())),
            Self::Route(route) => ("RTM_DELROUTE", RouteNetlinkMessage::DelRoute(route.clone())),
        };
        match netlink.change(message, 0) {
            Ok(()) => Ok(true),
            // Rules answer ENOENT, routes ESRCH, and a table that lost its last route may be gone altogether.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::SRCH)) => {
                Ok(false)
            }
            Err(source) => Err(RoutingError::netlink(call, self.to_string(), source)),
        }
    }
}

/// Routes before rules: a rule that leads nowhere would let mail pass.
fn entries(ingress: &[InterfaceName], families: &[Family]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = families.iter().map(|family| Entry::Route(local_route(*family))).collect();
    for family in families {
        for name in ingress {
            for port in [IMAP_PORT, IMAPS_PORT] {
                entries.push(Entry::Rule(port_rule(*family, name, port)));
            }
        }
    }
    entries
}

fn local_route(family: Family) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = address_family(family);
    route.header.protocol = RouteProtocol::Other(PROTOCOL);
    route.header.scope = match family {
        Family::V4 => RouteScope::Host,
        Family::V6 => RouteScope::Universe,
    };
    route.header.kind = RouteType::Local;
    route.attributes = vec![RouteAttribute::Table(TABLE), RouteAttribute::Oif(LOOPBACK_INDEX)];
    route
}

fn port_rule(family: Family, ingress: &InterfaceName, port: u16) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = address_family(family);
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Priority(RULE_PREFERENCE),
        RuleAttribute::Table(TABLE),
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
        RuleAttribute::Iifname(ingress.as_str().to_owned()),
        RuleAttribute::IpProtocol(IpProtocol::Tcp),
        RuleAttribute::DestinationPortRange(RulePortRange { start: port, end: port }),
    ];
    rule
}

/// Rules first, so that removing in this order never leaves a rule without its route.
fn ours(netlink: &mut Netlink) -> Result<Vec<Entry>, RoutingError> {
    let families: &[Family] = if kernel_has_ipv6() { &[Family::V4, Family::V6] } else { &[Family::V4] };
    let mut entries = Vec::new();
    for family in families {
        entries.extend(rules_of(netlink, *family)?.into_iter().filter(rule_is_ours).map(Entry::Rule));
    }
    for family in families {
        entries.extend(routes_of(netlink, *family)?.into_iter().filter(route_is_ours).map(Entry::Route));
    }
    Ok(entries)
}

fn rules_of(netlink: &mut Netlink, family: Family) -> Result<Vec<RuleMessage>, RoutingError> {
    let mut all = RuleMessage::default();
    all.header.family = address_family(family);
    let found = netlink
        .dump(&RouteNetlinkMessage::GetRule(all))
        .map_err(|source| RoutingError::netlink("RTM_GETRULE", "ip rule", source))?;
    Ok(found
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewRule(rule) => Some(rule),
            _ => None,
        })
        .collect())
}

fn routes_of(netlink: &mut Netlink, family: Family) -> Result<Vec<RouteMessage>, RoutingError> {
    let mut filter = RouteMessage::default();
    filter.header.address_family = address_family(family);
    filter.header.protocol = RouteProtocol::Other(PROTOCOL);
    filter.attributes = vec![RouteAttribute::Table(TABLE)];
    let found = match netlink.dump(&RouteNetlinkMessage::GetRoute(filter)) {
        Ok(found) => found,
        // The table comes into being with its first route.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => return Ok(Vec::new()),
        Err(source) => {
            return Err(RoutingError::netlink(
                "RTM_GETROUTE",
                format!("ip route show table {TABLE}"),
                source,
            ));
        }
    };
    Ok(found
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        })
        .collect())
}

fn rule_is_ours(rule: &RuleMessage) -> bool {
    rule.attributes.contains(&RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)))
        && rule.attributes.contains(&RuleAttribute::Table(TABLE))
}

fn route_is_ours(route: &RouteMessage) -> bool {
    route.header.protocol == RouteProtocol::Other(PROTOCOL)
        && route.attributes.contains(&RouteAttribute::Table(TABLE))
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write_rule(f, rule),
            Self::Route(route) => write_route(f, &route.header),
        }
    }
}

fn write_rule(f: &mut fmt::Formatter<'_>, rule: &RuleMessage) -> fmt::Result {
    write!(f, "ip {} rule", option(rule.header.family))?;
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Priority(preference) => write!(f, " pref {preference}")?,
            RuleAttribute::Iifname(name) => write!(f, " iif {name}")?,
            RuleAttribute::IpProtocol(IpProtocol::Tcp) => f.write_str(" ipproto tcp")?,
            RuleAttribute::DestinationPortRange(range) if range.start == range.end => {
                write!(f, " dport {}", range.start)?;
            }
            RuleAttribute::DestinationPortRange(range) => write!(f, " dport {}-{}", range.start, range.end)?,
            _ => {}
        }
    }
    write!(f, " lookup {TABLE} protocol {PROTOCOL}")?;
    // The interface is away; the kernel attaches the rule again when one of that name appears.
    if rule.header.flags.contains(RuleFlags::IifDetached) { f.write_str(" [detached]") } else { Ok(()) }
}

fn write_route(f: &mut fmt::Formatter<'_>, header: &RouteHeader) -> fmt::Result {
    write!(
        f,
        "ip {} route local default dev lo table {TABLE} protocol {PROTOCOL}",
        option(header.address_family)
    )
}

fn option(family: AddressFamily) -> &'static str {
    if family == AddressFamily::Inet6 { "-6" } else { "-4" }
}
