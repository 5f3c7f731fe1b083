//! Precedence of routing rules: a rule of others in front of Postern's can lead mail past Postern.
//!
//! `ip rule add` without a preference takes the one before the second rule of the list (`fib_default_rule_pref` in
//! net/core/fib_rules.c): while Postern's rules stand behind the kernel's own, every such rule comes in front of them.
//! So Postern's rules move below the lowest of those, and back up when nothing is in front any more. The rules of
//! others stay where they are and keep their order.

use std::collections::BTreeSet;

use netlink_packet_route::IpProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};
use proxy_ebpf::UPSTREAM_MARK;

use super::entry::{Entry, option};
use super::routing::RULE_PREFERENCE;
use crate::config::InterfaceName;

/// The lowest preference that Postern's rules take. At 0 they would stand directly behind the kernel's own rule. Rules
/// that others add without a preference would then come in reverse order.
const PREFERENCE_MIN: u32 = 1;
/// `RT_TABLE_DEFAULT`, `RT_TABLE_MAIN`, `RT_TABLE_LOCAL` (linux/rtnetlink.h).
const TABLE_DEFAULT: u32 = 253;
const TABLE_MAIN: u32 = 254;
const TABLE_LOCAL: u32 = 255;

/// `IPPROTO_ICMPV6`, which the crate does not name.
const ICMPV6: IpProtocol = IpProtocol::Other(58);

/// What Postern's rules are about.
#[derive(Clone, Debug, Default)]
pub(super) struct Served<'a> {
    /// Every ingress and egress.
    pub(super) interfaces: Vec<&'a InterfaceName>,
    /// Every port that is steered or refused.
    pub(super) ports: BTreeSet<u16>,
}

/// The preference at which Postern's rules of one family belong, and the rules of others that matter to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precedence {
    /// The preference that Postern's rules belong at.
    pub preference: u32,
    /// Rules of others in front of Postern's now, or in front of [`RULE_PREFERENCE`] where none is installed.
    pub in_front: Vec<String>,
    /// Rules of others that no preference of Postern's is in front of.
    pub unbeatable: Vec<String>,
}

impl Precedence {
    /// Judge the rules of a family, in the kernel's order. Postern's rules stay where they are while no rule is in front of
    /// them; with `rise` they go up as far as they can.
    pub(super) fn of(rules: &[RuleMessage], served: &Served<'_>, rise: bool) -> Self {
        let is_ours = |rule: &RuleMessage| Entry::Rule(rule.clone()).is_ours();
        let ours: Vec<(usize, u32)> = rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| is_ours(rule))
            .map(|(at, rule)| (at, preference(rule)))
            .collect();
        let rivals: Vec<(usize, u32, &RuleMessage)> = rules
            .iter()
            .enumerate()
            .map(|(at, rule)| (at, preference(rule), rule))
            .filter(|(_, preference, rule)| {
                *preference <= RULE_PREFERENCE && !is_ours(rule) && may_take_mail(rule, served)
            })
            .collect();
        let in_front: Vec<&(usize, u32, &RuleMessage)> = match ours.last() {
            Some((last, _)) => rivals.iter().filter(|(at, ..)| at < last).collect(),
            None => rivals.iter().collect(),
        };
        let lowest = rivals.iter().map(|(_, preference, _)| *preference).min();
        let highest = lowest.map_or(RULE_PREFERENCE, |lowest| lowest.saturating_sub(1).max(PREFERENCE_MIN));
        let preference = match ours.first() {
            Some((_, standing))
                if in_front.is_empty()
                    && ours.iter().all(|(_, preference)| preference == standing)
                    && (!rise || *standing >= highest) =>
            {
                *standing
            }
            _ => highest,
        };
        let unbeatable = in_front.iter().filter(|(_, rival, _)| *rival <= preference);
        Self {
            preference,
            unbeatable: unbeatable.map(|(.., rule)| words(rule)).collect(),
            in_front: in_front.iter().map(|(.., rule)| words(rule)).collect(),
        }
    }

    /// Rules of others that are no longer in front when Postern's are at their preference.
    pub fn overtaken(&self) -> impl Iterator<Item = &String> {
        self.in_front.iter().filter(|rule| !self.unbeatable.contains(rule))
    }
}

pub(super) fn preference(rule: &RuleMessage) -> u32 {
    // The kernel omits a preference of 0.
    number(rule, |attribute| match attribute {
        RuleAttribute::Priority(preference) => Some(*preference),
        _ => None,
    })
    .unwrap_or_default()
}

fn table(rule: &RuleMessage) -> u32 {
    number(rule, |attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    })
    .unwrap_or_else(|| u32::from(rule.header.table))
}

fn mark(rule: &RuleMessage) -> Option<u32> {
    number(rule, |attribute| match attribute {
        RuleAttribute::FwMark(mark) => Some(*mark),
        _ => None,
    })
}

/// Which bits of the mark are compared.
fn mask(rule: &RuleMessage) -> u32 {
    number(rule, |attribute| match attribute {
        RuleAttribute::FwMask(mask) => Some(*mask),
        _ => None,
    })
    .unwrap_or(u32::MAX)
}

fn number(rule: &RuleMessage, of: impl Fn(&RuleAttribute) -> Option<u32>) -> Option<u32> {
    rule.attributes.iter().find_map(of)
}

/// Whether mail from a client, an answer to Postern or an error about its connections could follow this rule.
///
/// False for a rule that refuses or drops: it lets nothing past Postern, and its author wants it obeyed. False also for
/// the rule of the local table, wherever others move it: the table holds this machine's own addresses.
fn may_take_mail(rule: &RuleMessage, served: &Served<'_>) -> bool {
    match rule.header.action {
        RuleAction::Nop | RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => {
            return false;
        }
        RuleAction::ToTable if table(rule) == TABLE_LOCAL => return false,
        _ => {}
    }
    // Only sockets of this machine carry the mark.
    let is_upstream = mark(rule).is_some_and(|mark| mark & mask(rule) & UPSTREAM_MARK != 0);
    // `not`: matches what its selectors do not match.
    rule.header.flags.contains(RuleFlags::Invert)
        || !(is_upstream || rule.attributes.iter().any(|attribute| excludes_mail(attribute, served)))
}

/// Whether no packet that Postern waits for can match a selector.
fn excludes_mail(selector: &RuleAttribute, served: &Served<'_>) -> bool {
    match selector {
        RuleAttribute::Iifname(name) => !served.interfaces.iter().any(|entry| entry.means(name)),
        // Only what this machine itself sends has an output interface before it is routed.
        RuleAttribute::Oifname(_) => true,
        RuleAttribute::IpProtocol(protocol) => {
            ![IpProtocol::Tcp, IpProtocol::Icmp, ICMPV6].contains(protocol)
        }
        RuleAttribute::DestinationPortRange(RulePortRange { start, end }) => {
            !served.ports.iter().any(|port| (start..=end).contains(&port))
        }
        // The lookup for a forwarded packet has root's UID.
        RuleAttribute::UidRange(range) => range.start > 0,
        _ => false,
    }
}

/// Any rule, in the syntax of `ip`.
fn words(rule: &RuleMessage) -> String {
    let mut words = vec![format!("ip {} rule pref {}", option(rule.header.family), preference(rule))];
    if rule.header.flags.contains(RuleFlags::Invert) {
        words.push("not".to_owned());
    }
    words.extend(rule.attributes.iter().filter_map(|attribute| selector(attribute, rule)));
    if rule.header.tos != 0 {
        words.push(format!("tos {:#x}", rule.header.tos));
    }
    words.push(match rule.header.action {
        RuleAction::ToTable => match table(rule) {
            TABLE_DEFAULT => "lookup default".to_owned(),
            TABLE_MAIN => "lookup main".to_owned(),
            TABLE_LOCAL => "lookup local".to_owned(),
            number => format!("lookup {number}"),
        },
        RuleAction::Goto => "goto".to_owned(),
        action => format!("{action:?}").to_lowercase(),
    });
    words.extend(rule.attributes.iter().filter_map(|attribute| match attribute {
        RuleAttribute::Goto(target) => Some(target.to_string()),
        // The largest number stands for none.
        RuleAttribute::SuppressPrefixLen(length) if *length != u32::MAX => {
            Some(format!("suppress_prefixlength {length}"))
        }
        _ => None,
    }));
    words.join(" ")
}

fn selector(attribute: &RuleAttribute, rule: &RuleMessage) -> Option<String> {
    Some(match attribute {
        RuleAttribute::Source(address) => format!("from {address}/{}", rule.header.src_len),
        RuleAttribute::Destination(address) => format!("to {address}/{}", rule.header.dst_len),
        RuleAttribute::Iifname(name) => format!("iif {name}"),
        RuleAttribute::Oifname(name) => format!("oif {name}"),
        RuleAttribute::FwMark(mark) if mask(rule) == u32::MAX => format!("fwmark {mark:#x}"),
        RuleAttribute::FwMark(mark) => format!("fwmark {mark:#x}/{:#x}", mask(rule)),
        RuleAttribute::UidRange(range) => format!("uidrange {}-{}", range.start, range.end),
        RuleAttribute::IpProtocol(protocol) => format!("ipproto {}", u8::from(*protocol)),
        RuleAttribute::SourcePortRange(range) => format!("sport {}", ports(*range)),
        RuleAttribute::DestinationPortRange(range) => format!("dport {}", ports(*range)),
        RuleAttribute::L3MDev(true) => "l3mdev".to_owned(),
        _ => return None,
    })
}

fn ports(range: RulePortRange) -> String {
    if range.start == range.end { range.start.to_string() } else { format!("{}-{}", range.start, range.end) }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::rule::RuleUidRange;
    use proxy_ebpf::Family;

    use super::*;

    fn judge(rules: &[RuleMessage], rise: bool) -> Precedence {
        let names = names();
        Precedence::of(rules, &served(&names), rise)
    }

    fn names() -> [InterfaceName; 3] {
        ["lan0", "wan0", "ppp*"].map(|name| InterfaceName(name.to_owned()))
    }

    fn served(names: &[InterfaceName]) -> Served<'_> {
        Served { interfaces: names.iter().collect(), ports: BTreeSet::from([143, 993]) }
    }

    fn of_others(preference: u32, selectors: &[RuleAttribute]) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = AddressFamily::Inet;
        rule.header.action = RuleAction::ToTable;
        rule.attributes = vec![RuleAttribute::Priority(preference), RuleAttribute::Table(TABLE_MAIN)];
        rule.attributes.extend(selectors.iter().cloned());
        rule
    }

    fn of_ours(preference: u32) -> RuleMessage {
        match Entry::port_rule(Family::V4, preference, "lan0", 143) {
            Entry::Rule(rule) => rule,
            Entry::Route(_) => RuleMessage::default(),
        }
    }

    #[test]
    fn only_rules_that_can_take_mail_are_in_the_way() {
        let names = names();
        let ports = |start, end| RuleAttribute::DestinationPortRange(RulePortRange { start, end });
        for (selector, takes) in [
            (RuleAttribute::Iifname("lan0".to_owned()), true),
            (RuleAttribute::Iifname("wan0".to_owned()), true),
            (RuleAttribute::Iifname("ppp7".to_owned()), true),
            (RuleAttribute::Iifname("pp0".to_owned()), false),
            (RuleAttribute::Iifname("dmz0".to_owned()), false),
            (RuleAttribute::Iifname("lo".to_owned()), false),
            (RuleAttribute::Oifname("wan0".to_owned()), false),
            (RuleAttribute::IpProtocol(IpProtocol::Tcp), true),
            (RuleAttribute::IpProtocol(IpProtocol::Icmp), true),
            (RuleAttribute::IpProtocol(IpProtocol::Udp), false),
            (ports(1, 1023), true),
            (ports(993, 993), true),
            (ports(144, 992), false),
            (RuleAttribute::Source(IpAddr::from([10, 0, 0, 0])), true),
            (RuleAttribute::FwMark(0x1), true),
            (RuleAttribute::FwMark(UPSTREAM_MARK), false),
            (RuleAttribute::UidRange(RuleUidRange { start: 0, end: 100 }), true),
            (RuleAttribute::UidRange(RuleUidRange { start: 1, end: 100 }), false),
        ] {
            let mut rule = of_others(10, std::slice::from_ref(&selector));
            assert_eq!(may_take_mail(&rule, &served(&names)), takes, "{selector:?}");
            rule.header.flags = RuleFlags::Invert;
            assert!(may_take_mail(&rule, &served(&names)), "not {selector:?}");
            for action in [RuleAction::Blackhole, RuleAction::Prohibit, RuleAction::Nop] {
                rule.header.action = action;
                assert!(!may_take_mail(&rule, &served(&names)), "{action:?}");
            }
        }
        let mut local = of_others(100, &[]);
        local.attributes = vec![RuleAttribute::Priority(100), RuleAttribute::Table(TABLE_LOCAL)];
        assert!(!may_take_mail(&local, &served(&names)), "the rule of local addresses, moved");
    }

    #[test]
    fn ours_go_below_the_lowest_in_front_stay_while_nobody_is_and_rise_when_asked() {
        let judged = |rules: &[RuleMessage], rise| {
            let judged = judge(rules, rise);
            (judged.preference, judged.in_front.len(), judged.unbeatable.len())
        };
        let (rival, harmless) =
            (|at| of_others(at, &[]), of_others(5, &[RuleAttribute::Oifname("x".to_owned())]));
        assert_eq!(judged(&[harmless.clone(), rival(32_766)], false), (143, 0, 0));
        assert_eq!(judged(&[rival(142), of_ours(143)], false), (141, 1, 0));
        assert_eq!(judged(&[rival(50), rival(142)], false), (49, 2, 0), "before a start");
        assert_eq!(judged(&[rival(143), of_ours(143)], false), (142, 1, 0), "added before ours");
        assert_eq!(judged(&[of_ours(143), rival(143)], true), (143, 0, 0), "added behind ours");
        assert_eq!(judged(&[of_ours(120), rival(142)], false), (120, 0, 0));
        assert_eq!(judged(&[of_ours(120), rival(142)], true), (141, 0, 0));
        assert_eq!(judged(&[of_ours(120), harmless], true), (143, 0, 0));
        assert_eq!(
            judged(&[of_ours(120), rival(130), of_ours(143)], false),
            (129, 1, 0),
            "killed on the way"
        );
        assert_eq!(judged(&[rival(1), of_ours(2)], true), (1, 1, 1), "the floor");
        assert_eq!(judged(&[rival(0), of_ours(1)], true), (1, 1, 1), "beside the kernel's own");
        assert_eq!(judged(&[of_ours(1), rival(1)], true), (1, 0, 0));
    }

    #[test]
    fn a_rule_of_others_is_told_in_the_words_of_ip() {
        let mut rule = of_others(142, &[RuleAttribute::FwMark(51_820), RuleAttribute::SuppressPrefixLen(0)]);
        rule.header.flags = RuleFlags::Invert;
        let said = "ip -4 rule pref 142 not fwmark 0xca6c lookup main suppress_prefixlength 0";
        assert_eq!(words(&rule), said);
    }
}
