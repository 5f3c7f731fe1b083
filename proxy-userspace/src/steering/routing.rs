//! The routing that makes transit mail local: rules per interface, and a table of Postern's own.
//!
//! A rule matches by interface *name*, so it survives an interface that is deleted and made again. Matching a port
//! needs Linux 4.17. Everything here acts on the network namespace of the calling thread.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use proxy_ebpf::{Family, PortRole};
use rustix::io::Errno;
use rustix::net::{AddressFamily as SocketFamily, SocketType};

use super::classifier;
use super::entry::{Entry, address_family};
use super::interfaces::{Interface, interfaces};
use super::netlink::Netlink;
use super::ports::PortPlan;
use super::precedence::{self, Precedence, Served};
use crate::config::{InterfaceName, OnExit, SteeringConfig};
use crate::words::Side;

/// The preference of Postern's rules: after the kernel's own (0), before those that others install for all traffic
/// (strongSwan 220, Tailscale from 5210, administrators and systemd-networkd mostly from 1000 up). It is lower where
/// rules of others are in front ([`Precedence`]).
pub const RULE_PREFERENCE: u32 = 143;
/// Postern's table: over 255, where small numbers picked by hand end, and readable (IMAP's usual ports, 143 and 993).
pub const TABLE: u32 = 143_993;
/// Postern's protocol number, which marks its entries (`rtm_protocol`, `fra_protocol`). It is in neither
/// linux/rtnetlink.h nor iproute2's `rt_protos`, so that `ip route show table all proto 143` shows what is Postern's
/// and nothing else.
pub const PROTOCOL: u8 = 143;

/// The loopback device's index in every namespace (`LOOPBACK_IFINDEX` in net/flow.h).
pub(crate) const LOOPBACK_INDEX: u32 = 1;

/// Why the routing could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// An entry of others is in the place of ours.
    #[error(
        "`{entry}` cannot be added, because one like it exists that is not Postern's: something else uses table \
         {TABLE}; look with `ip rule` and `ip route show table {TABLE}` (and `ip -6`)"
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
            _ => Self::Netlink { call, entry: entry.into(), source },
        }
    }
}

/// The wanted state of the table and the rules.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Interfaces, and what stays when the daemon ends.
    pub settings: &'a SteeringConfig,
    /// Which ports are made local, and which are refused.
    pub plan: &'a PortPlan,
    /// The device of the local route, while a daemon holds one.
    pub device: Option<u32>,
    /// Whether whole ports are made local. False while new connections pass. Ports that are refused stay refused.
    pub ports: bool,
    /// Whether Postern's rules go up again as far as rules of others allow. False at most checks: a program that moves
    /// its rule in front again whenever ours move would otherwise be answered without a pause.
    pub rise: bool,
}

/// What was changed to reach the wanted state, in the syntax of `ip`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What was missing.
    pub added: Vec<String>,
    /// What was Postern's and not wanted.
    pub removed: Vec<String>,
    /// Interfaces that a pattern matches, and of which rules were missing.
    pub joined: Vec<String>,
    /// The new preference of Postern's rules, for each family where it changed.
    pub moved: Vec<String>,
    /// Rules of others that were in front of Postern's and no longer are.
    pub overtaken: Vec<String>,
    /// Rules of others in front of Postern's below which no preference is left.
    pub in_front: Vec<String>,
}

/// Install exactly the wanted entries, with the rules before those of others that could take mail. Missing entries are
/// added before anything is removed, so that mail finds no gap. Entries that are there already are not touched.
///
/// # Errors
/// The kernel's refusal, or an entry of others in the way.
pub fn reconcile(wanted: &Wanted<'_>) -> Result<Changes, RoutingError> {
    let mut netlink = open()?;
    let served = served(wanted.settings, wanted.plan);
    let Survey { ours: present, precedence } = survey(&mut netlink, &served, wanted.rise)?;
    let mut changes = Changes::default();
    for (_, judged) in &precedence {
        changes.overtaken.extend(judged.overtaken().cloned());
        changes.in_front.extend(judged.unbeatable.iter().cloned());
    }
    let Wanted { settings, plan, .. } = *wanted;
    let is_matched = |name: &str| settings.matches(name);
    let links =
        if settings.has_patterns() || plan.has_leaving() { links_by(&mut netlink)? } else { Vec::new() };
    let wanted = entries(wanted, &interfaces(settings, plan, &links), &precedence);
    let (wanted_by_key, present_by_key) = (EntryIndex::of(&wanted), EntryIndex::of(&present));
    for entry in &wanted {
        let likes = present_by_key.likes(entry);
        if likes.iter().any(|other| other.preference() == entry.preference()) {
            continue;
        }
        entry.add(&mut netlink)?;
        if let Some(name) = entry.interface().filter(|name| likes.is_empty() && is_matched(name)) {
            if !changes.joined.contains(&name) {
                changes.joined.push(name);
            }
        } else if likes.is_empty() {
            changes.added.push(entry.to_string());
        } else {
            changes.note_move(entry);
        }
    }
    for entry in &present {
        let likes = wanted_by_key.likes(entry);
        if !likes.iter().any(|other| other.preference() == entry.preference())
            && entry.delete(&mut netlink)?
            && likes.is_empty()
            // The rules of an interface that has gone are nobody's change.
            && !entry.interface().is_some_and(|name| is_matched(&name) && index_of(&name).is_err())
        {
            changes.removed.push(entry.to_string());
        }
    }
    Ok(changes)
}

/// Entries by interface: with many interfaces there are too many to compare each with each.
struct EntryIndex<'a>(BTreeMap<Option<String>, Vec<&'a Entry>>);

impl<'a> EntryIndex<'a> {
    fn of(entries: &'a [Entry]) -> Self {
        let mut index = BTreeMap::<_, Vec<_>>::new();
        for entry in entries {
            index.entry(entry.interface()).or_default().push(entry);
        }
        Self(index)
    }

    /// Those with the identity of this one.
    fn likes(&self, entry: &Entry) -> Vec<&'a Entry> {
        let key = entry.key();
        let of_interface = self.0.get(&entry.interface()).into_iter().flatten();
        of_interface.filter(|other| other.key() == key).copied().collect()
    }
}

impl Changes {
    fn note_move(&mut self, entry: &Entry) {
        let Entry::Rule(rule) = entry else { return };
        let family = if rule.header.family == AddressFamily::Inet6 { "IPv6" } else { "IPv4" };
        let moved = format!("{family} rules to preference {}", precedence::preference(rule));
        if !self.moved.contains(&moved) {
            self.moved.push(moved);
        }
    }
}

/// Which rules of others are in front of Postern's, for each family of this kernel.
///
/// # Errors
/// The kernel's refusal.
pub fn precedence(settings: &SteeringConfig, plan: &PortPlan) -> Result<Vec<Precedence>, RoutingError> {
    let Survey { precedence, .. } = survey(&mut open()?, &served(settings, plan), false)?;
    Ok(precedence.into_iter().map(|(_, judged)| judged).collect())
}

/// Remove every rule and route of Postern's, and the classifier's filters that a killed daemon left under clsact.
///
/// # Errors
/// The first refusal. The other entries are still tried.
pub fn clear() -> Result<Vec<String>, RoutingError> {
    let mut netlink = open()?;
    let mut cleared = Vec::new();
    let mut refused = Ok(());
    for entry in survey(&mut netlink, &Served::default(), false)?.ours {
        match entry.delete(&mut netlink) {
            Ok(true) => cleared.push(entry.to_string()),
            Ok(false) => {}
            Err(error) => refused = refused.and(Err(error)),
        }
    }
    for Link { name, index, .. } in links_by(&mut netlink)? {
        if classifier::clear_leftovers(&name, index) > 0 {
            cleared.push(format!("tc filter dev {name} ingress protocol all (postern)"));
        }
    }
    refused.map(|()| cleared)
}

/// The rules and routes of Postern that the kernel holds now, in the syntax of `ip`.
///
/// # Errors
/// The kernel's refusal.
pub fn installed() -> Result<Held, RoutingError> {
    let entries = survey(&mut open()?, &Served::default(), false)?.ours;
    let is_a = |kind| move |entry: &Entry| matches!(entry, Entry::Route(route) if route.header.kind == kind);
    let lines =
        |rules: bool| entries.iter().filter(|entry| entry.is_rule() == rules).map(Entry::to_string).collect();
    Ok(Held {
        rules: lines(true),
        routes: lines(false),
        local: entries.iter().any(is_a(RouteType::Local)),
        blackhole: entries.iter().any(is_a(RouteType::BlackHole)),
    })
}

/// Postern's rules and routes in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Rules.
    pub rules: Vec<String>,
    /// Routes.
    pub routes: Vec<String>,
    /// The local route is installed: mail is delivered here.
    pub local: bool,
    /// The blackhole route is installed: mail that is not delivered here is dropped.
    pub blackhole: bool,
}

/// The interface's index now. It changes when the interface is deleted and made again; `None` while it does not exist.
///
/// # Errors
/// No socket to ask with.
pub fn interface_index(name: &InterfaceName) -> Result<Option<u32>, RoutingError> {
    match index_of(name.as_str()) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(errno) => Err(RoutingError::netlink("SIOCGIFINDEX", name.as_str(), errno.into())),
    }
}

/// Whether the interface is a bridge. False where it does not exist.
pub(super) fn is_bridge(name: &InterfaceName) -> io::Result<bool> {
    let Ok(index) = index_of(name.as_str()) else { return Ok(false) };
    let mut link = LinkMessage::default();
    link.header.index = index;
    let found = match Netlink::open()?.ask(RouteNetlinkMessage::GetLink(link)) {
        // The interface has just been deleted.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => return Ok(false),
        found => found?,
    };
    let RouteNetlinkMessage::NewLink(link) = found else { return Ok(false) };
    Ok(link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    }))
}

pub(super) fn index_of(name: &str) -> Result<u32, Errno> {
    let socket = rustix::net::socket(SocketFamily::UNIX, SocketType::DGRAM, None)?;
    rustix::net::netdevice::name_to_index(&socket, name)
}

pub(super) fn name_of(index: u32) -> Option<String> {
    let socket = rustix::net::socket(SocketFamily::UNIX, SocketType::DGRAM, None).ok()?;
    rustix::net::netdevice::index_to_name(&socket, index).ok()
}

pub(crate) fn kernel_has_ipv6() -> bool {
    rustix::net::socket(SocketFamily::INET6, SocketType::DGRAM, None).err() != Some(Errno::AFNOSUPPORT)
}

/// The families that this kernel has: where it lacks IPv6, no such packet can be forwarded either.
pub(crate) fn families() -> &'static [Family] {
    if kernel_has_ipv6() { &[Family::V4, Family::V6] } else { &[Family::V4] }
}

fn open() -> Result<Netlink, RoutingError> {
    Netlink::open().map_err(|source| RoutingError::netlink("socket(NETLINK_ROUTE)", "routing", source))
}

/// The interfaces and ports that rules of Postern's name.
fn served<'a>(settings: &'a SteeringConfig, plan: &'a PortPlan) -> Served<'a> {
    let listed = settings.ingress.iter().chain(&settings.egress);
    let interfaces = listed.chain(plan.leaving_ingresses()).chain(plan.further_egress()).collect();
    Served { interfaces, ports: plan.guarded() }
}

/// The wanted entries, routes before rules: a rule to an empty table would let mail pass.
fn entries(wanted: &Wanted<'_>, interfaces: &[Interface], precedence: &[(Family, Precedence)]) -> Vec<Entry> {
    let SteeringConfig { on_exit, .. } = wanted.settings;
    // A rule names one interface, which need not exist.
    let named = interfaces.iter().filter(|interface| !interface.name.is_pattern());
    let mut entries = Vec::new();
    for (family, _) in precedence {
        entries.extend(wanted.device.map(|device| Entry::local_route(*family, device)));
        if *on_exit == OnExit::Closed {
            entries.push(Entry::blackhole(*family));
        }
    }
    for (family, Precedence { preference, .. }) in precedence {
        // Before refusals, because sessions that began while their port was steered go on by their mark.
        for interface in named.clone() {
            entries.push(Entry::mark_rule(*family, *preference, interface.name.as_str()));
        }
        for interface in named.clone().filter(|interface| interface.side == Side::Downstream) {
            let name = interface.name.as_str();
            let Some(of) = wanted.plan.of(interface.place) else { continue };
            let steered = of.with(PortRole::Steered).filter(|_| wanted.ports);
            entries.extend(steered.map(|port| Entry::port_rule(*family, *preference, name, port)));
            let refused = of.with(PortRole::Refused);
            entries.extend(refused.map(|port| Entry::refusal(*family, *preference, name, port)));
        }
    }
    entries
}

/// What the kernel holds now.
struct Survey {
    /// Rules first, so that removing in this order never leaves a rule without its route.
    ours: Vec<Entry>,
    precedence: Vec<(Family, Precedence)>,
}

fn survey(netlink: &mut Netlink, served: &Served<'_>, rise: bool) -> Result<Survey, RoutingError> {
    let mut survey = Survey { ours: Vec::new(), precedence: Vec::new() };
    for &family in families() {
        let rules = rules_of(netlink, family)?;
        survey.precedence.push((family, Precedence::of(&rules, served, rise)));
        survey.ours.extend(rules.into_iter().map(Entry::Rule));
    }
    for &family in families() {
        survey.ours.extend(routes_of(netlink, family)?.into_iter().map(Entry::Route));
    }
    survey.ours.retain(Entry::is_ours);
    Ok(survey)
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
        // The table exists only when it has a route.
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

/// An interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) index: u32,
    /// The interface is set up (`IFF_UP`), so that packets may come in.
    pub(super) is_up: bool,
}

/// All interfaces, from one dump, so that names and indices belong together.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn links() -> Result<Vec<Link>, RoutingError> {
    links_by(&mut open()?)
}

fn links_by(netlink: &mut Netlink) -> Result<Vec<Link>, RoutingError> {
    let mut all = LinkMessage::default();
    // Counters are most of such an answer.
    all.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let found = netlink
        .dump(&RouteNetlinkMessage::GetLink(all))
        .map_err(|source| RoutingError::netlink("RTM_GETLINK", "ip link", source))?;
    Ok(found
        .into_iter()
        .filter_map(|message| {
            let RouteNetlinkMessage::NewLink(link) = message else { return None };
            let name = link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
            let is_up = link.header.flags.contains(LinkFlags::Up);
            Some(Link { name: name?, index: link.header.index, is_up })
        })
        .collect())
}
