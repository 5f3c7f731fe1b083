//! One rule or route: the kernel's message for it, its identity, and its text in the syntax of `ip`.

use std::fmt;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};
use proxy_ebpf::{DELIVER_MARK, Family};
use rustix::io::Errno;

use super::device::DEVICE;
use super::netlink::Netlink;
use super::precedence;
use super::routing::{PROTOCOL, RoutingError, TABLE, name_of};

/// The metric of blackhole routes: higher than the local route's, whatever the family's default is.
const BLACKHOLE_METRIC: u32 = 0x7fff_ffff;
/// The metric of the local route. IPv6 has no metric 0.
const LOCAL_METRIC: u32 = 1;

/// One thing to install, as the kernel's own message.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Rule(RuleMessage),
    Route(RouteMessage),
}

/// The identity of an entry among Postern's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Without the preference, which depends on the rules of others.
    Rule {
        family: AddressFamily,
        interface: String,
        mark: u32,
        port: u16,
        /// It refuses mail instead of making it local.
        refuses: bool,
    },
    Route {
        family: AddressFamily,
        kind: RouteType,
        device: u32,
        metric: u32,
    },
}

impl Entry {
    /// The rule that a whole port's mail from an ingress follows.
    pub(super) fn port_rule(family: Family, preference: u32, ingress: &str, port: u16) -> Self {
        let mut rule = rule(family, preference, ingress, of_port(port));
        rule.header.action = RuleAction::ToTable;
        rule.attributes.push(RuleAttribute::Table(TABLE));
        Self::Rule(rule)
    }

    /// The rule by which the kernel answers a whole port's mail from an ingress with an ICMP error. It names no table, so
    /// that it needs no device and no route.
    pub(super) fn refusal(family: Family, preference: u32, ingress: &str, port: u16) -> Self {
        let mut rule = rule(family, preference, ingress, of_port(port));
        rule.header.action = RuleAction::Prohibit;
        Self::Rule(rule)
    }

    /// The rule for packets with the classifier's mark. It names the interface. A reverse-path lookup may carry the
    /// mark, but comes as if from loopback, and must not match this rule (`nft_fib6_flowi_init` in
    /// net/ipv6/netfilter/nft_fib_ipv6.c).
    pub(super) fn mark_rule(family: Family, preference: u32, interface: &str) -> Self {
        let marked = [RuleAttribute::FwMark(DELIVER_MARK), RuleAttribute::FwMask(DELIVER_MARK)];
        let mut rule = rule(family, preference, interface, marked);
        rule.header.action = RuleAction::ToTable;
        rule.attributes.push(RuleAttribute::Table(TABLE));
        Self::Rule(rule)
    }

    /// The route that delivers everything locally, as long as the device lives.
    pub(super) fn local_route(family: Family, device: u32) -> Self {
        let mut route = route(family, RouteType::Local, LOCAL_METRIC);
        route.attributes.push(RouteAttribute::Oif(device));
        Self::Route(route)
    }

    /// The route that drops mail when the local route is gone and policy does not let mail pass.
    pub(super) fn blackhole(family: Family) -> Self {
        Self::Route(route(family, RouteType::BlackHole, BLACKHOLE_METRIC))
    }

    pub(super) const fn is_rule(&self) -> bool {
        matches!(self, Self::Rule(_))
    }

    /// Whether Postern installed it.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Rule(rule) => {
                rule.attributes.contains(&RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)))
                    && (rule.attributes.contains(&RuleAttribute::Table(TABLE)) || refuses(rule))
            }
            Self::Route(route) => {
                route.header.protocol == RouteProtocol::Other(PROTOCOL)
                    && route.attributes.contains(&RouteAttribute::Table(TABLE))
            }
        }
    }

    /// The interface that a rule names; routes name none.
    pub(super) fn interface(&self) -> Option<String> {
        match self.key() {
            Key::Rule { interface, .. } => Some(interface),
            Key::Route { .. } => None,
        }
    }

    /// A rule's preference; routes have none.
    pub(super) fn preference(&self) -> Option<u32> {
        match self {
            Self::Rule(rule) => Some(precedence::preference(rule)),
            Self::Route(_) => None,
        }
    }

    pub(super) fn key(&self) -> Key {
        match self {
            Self::Rule(rule) => rule_key(rule),
            Self::Route(route) => route_key(route),
        }
    }

    pub(super) fn add(&self, netlink: &mut Netlink) -> Result<(), RoutingError> {
        let (call, message) = match self {
            Self::Rule(rule) => ("RTM_NEWRULE", RouteNetlinkMessage::NewRule(rule.clone())),
            Self::Route(route) => ("RTM_NEWROUTE", RouteNetlinkMessage::NewRoute(route.clone())),
        };
        netlink
            .change(message, NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|source| RoutingError::netlink(call, self.to_string(), source))
    }

    /// Delete the entry. Returns whether it was there.
    pub(super) fn delete(&self, netlink: &mut Netlink) -> Result<bool, RoutingError> {
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

/// A rule about what comes in on an interface, without its action.
fn rule(family: Family, preference: u32, interface: &str, selector: [RuleAttribute; 2]) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = address_family(family);
    rule.attributes = vec![
        RuleAttribute::Priority(preference),
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
        RuleAttribute::Iifname(interface.to_owned()),
    ];
    rule.attributes.extend(selector);
    rule
}

fn of_port(port: u16) -> [RuleAttribute; 2] {
    [
        RuleAttribute::IpProtocol(IpProtocol::Tcp),
        RuleAttribute::DestinationPortRange(RulePortRange { start: port, end: port }),
    ]
}

fn refuses(rule: &RuleMessage) -> bool {
    rule.header.action == RuleAction::Prohibit
}

fn route(family: Family, kind: RouteType, metric: u32) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = address_family(family);
    route.header.protocol = RouteProtocol::Other(PROTOCOL);
    route.header.scope = match (family, kind) {
        (Family::V4, RouteType::Local) => RouteScope::Host,
        _ => RouteScope::Universe,
    };
    route.header.kind = kind;
    route.attributes = vec![RouteAttribute::Table(TABLE), RouteAttribute::Priority(metric)];
    route
}

fn rule_key(rule: &RuleMessage) -> Key {
    let (mut interface, mut mark, mut port) = (String::new(), 0, 0);
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Iifname(name) => interface.clone_from(name),
            RuleAttribute::FwMark(value) => mark = *value,
            RuleAttribute::DestinationPortRange(range) => port = range.start,
            _ => {}
        }
    }
    Key::Rule { family: rule.header.family, interface, mark, port, refuses: refuses(rule) }
}

fn route_key(route: &RouteMessage) -> Key {
    let (mut device, mut metric) = (0, 0);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = *index,
            RouteAttribute::Priority(value) => metric = *value,
            _ => {}
        }
    }
    // IPv6 shows a blackhole on loopback.
    if route.header.kind == RouteType::BlackHole {
        device = 0;
    }
    Key::Route { family: route.header.address_family, kind: route.header.kind, device, metric }
}

pub(super) const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write_rule(f, rule),
            Self::Route(route) => write_route(f, route),
        }
    }
}

/// In the order of `ip rule`, whatever order the kernel tells it in.
fn write_rule(f: &mut fmt::Formatter<'_>, rule: &RuleMessage) -> fmt::Result {
    let Key::Rule { interface, mark, port, refuses, .. } = rule_key(rule) else { return Ok(()) };
    let preference = precedence::preference(rule);
    write!(f, "ip {} rule pref {preference} iif {interface}", option(rule.header.family))?;
    if mark != 0 {
        write!(f, " fwmark {mark:#x}/{DELIVER_MARK:#x}")?;
    }
    if port != 0 {
        write!(f, " ipproto tcp dport {port}")?;
    }
    if refuses {
        f.write_str(" prohibit")?;
    } else {
        write!(f, " lookup {TABLE}")?;
    }
    write!(f, " protocol {PROTOCOL}")?;
    // The interface is gone. The kernel attaches the rule again when one of that name appears.
    if rule.header.flags.contains(RuleFlags::IifDetached) { f.write_str(" [detached]") } else { Ok(()) }
}

fn write_route(f: &mut fmt::Formatter<'_>, route: &RouteMessage) -> fmt::Result {
    write!(f, "ip {} route", option(route.header.address_family))?;
    let Key::Route { kind, device, metric, .. } = route_key(route) else { return Ok(()) };
    match kind {
        RouteType::Local => {
            let name = name_of(device).unwrap_or_else(|| DEVICE.to_owned());
            write!(f, " local default dev {name}")?;
        }
        RouteType::BlackHole => f.write_str(" blackhole default")?,
        other => write!(f, " {other:?} default")?,
    }
    write!(f, " metric {metric} table {TABLE} protocol {PROTOCOL}")
}

pub(super) fn option(family: AddressFamily) -> &'static str {
    if family == AddressFamily::Inet6 { "-6" } else { "-4" }
}
