//! The text and the commands for what the judge found.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proxy_ebpf::UPSTREAM_MARK;

use super::judge::{Certainty, DropCause, MailPaths, Obstacle, Spread};
use super::packet::Flow;
use super::ruleset::{Chain, Ruleset};
use super::walk::{self, RulePlace};
use crate::config::InterfaceName;

/// Packets that one kind of rule lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Passage {
    FromClients,
    FromServers,
    ToServers,
    ToClients,
}

impl Passage {
    pub(super) const fn of(flow: Flow) -> Self {
        match flow {
            Flow::FromClient | Flow::FromClientMore => Self::FromClients,
            Flow::FromServer | Flow::IcmpError => Self::FromServers,
            Flow::ToServer | Flow::ToServerMore => Self::ToServers,
            Flow::ToClient => Self::ToClients,
        }
    }
}

/// The rules that let packets pass a base chain, to be inserted at its head.
pub(super) fn commands(chain: &Chain, passage: Passage, paths: &MailPaths<'_>) -> Vec<String> {
    let ports = ports(&paths.ports);
    let is_tracked = chain.base.is_some_and(walk::is_tracked);
    let rules = match passage {
        Passage::FromClients => {
            vec![format!("iifname {} tcp dport {ports} accept", set(paths.ingress))]
        }
        Passage::ToServers => vec![format!("{} tcp dport {ports} accept", ours())],
        _ if is_tracked => vec!["ct state established,related accept".to_owned()],
        // Before connection tracking there is no state to ask for.
        Passage::FromServers => vec![
            format!("iifname {} tcp sport {ports} accept", set(paths.egress)),
            "meta l4proto { icmp, ipv6-icmp } accept".to_owned(),
        ],
        Passage::ToClients => {
            vec![format!("oifname {} tcp sport {ports} accept", set(paths.ingress))]
        }
    };
    rules.iter().map(|rule| insert(chain, rule)).collect()
}

/// The rule that spares Postern's connections a chain's masquerading.
pub(super) fn exemption(chain: &Chain) -> String {
    insert(chain, &format!("{} accept", ours()))
}

fn ours() -> String {
    format!("meta mark and {UPSTREAM_MARK:#x} == {UPSTREAM_MARK:#x}")
}

fn ports(ports: &[u16]) -> String {
    let numbers: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", numbers.join(", "))
}

fn insert(chain: &Chain, rule: &str) -> String {
    let (table, name) = (&chain.table, shell(&chain.name));
    format!("nft insert rule {} {} {name} {rule}", table.family.as_str(), shell(&table.name))
}

/// Interfaces as an anonymous set of nft, for a shell.
fn set(interfaces: &[InterfaceName]) -> String {
    let names: Vec<_> = interfaces.iter().map(|name| quoted(name.as_str())).collect();
    format!("{{ {} }}", names.join(", "))
}

/// A name in quotes for nft, behind a shell. The shell removes double quotes, which nft needs only around a name that
/// could be a keyword.
fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.ends_with(|c: char| c.is_ascii_digit())
        && name != "ip6"
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if is_plain { format!("\"{name}\"") } else { format!("'\"{}\"'", name.replace('\'', "'\\''")) }
}

/// A name as one word of a shell.
fn shell(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'));
    if is_plain { name.to_owned() } else { format!("'{}'", name.replace('\'', "'\\''")) }
}

/// A place as a reader of `nft -a list ruleset` finds it.
pub(super) fn place(ruleset: &Ruleset, place: RulePlace) -> String {
    let chain = ruleset.chains.get(place.chain).map(ToString::to_string).unwrap_or_default();
    match place.handle {
        Some(handle) => format!("{chain} handle {handle}"),
        None => format!("the policy of {chain}"),
    }
}

/// The report of what one kind of rule would let pass one base chain.
pub(super) fn obstacle(
    ruleset: &Ruleset,
    chain: &Chain,
    certainty: Certainty,
    causes: &BTreeMap<(Flow, DropCause), Spread>,
    commands: Vec<String>,
) -> Obstacle {
    let starts = |flow| causes.keys().any(|(other, _)| *other == flow);
    let mut words = Vec::new();
    for ((flow, cause), spread) in causes {
        let is_implied = match flow {
            Flow::FromClientMore => starts(Flow::FromClient),
            Flow::ToServerMore => starts(Flow::ToServer),
            _ => false,
        };
        if !is_implied {
            words.push(format!("{} {}", who(*flow, spread), what(ruleset, *flow, cause)));
        }
    }
    let is_owned = ruleset.is_owned(&chain.table);
    let note = if is_owned {
        format!(
            "table {} takes rules only from the program that owns it; README tells firewalld's",
            chain.table
        )
    } else {
        String::new()
    };
    let commands = if is_owned { Vec::new() } else { commands };
    Obstacle { certainty, words: words.join("; "), commands, note }
}

fn who(flow: Flow, spread: &Spread) -> String {
    let what = match flow {
        Flow::FromClient => "mail from clients on",
        Flow::FromClientMore => "what clients send after their first packet on",
        Flow::FromServer => "answers of servers on",
        Flow::IcmpError => "ICMP errors about mail's packets on",
        Flow::ToServer => "connections to servers on",
        Flow::ToServerMore => "what follows the first packet to servers on",
        Flow::ToClient => "answers to clients on",
    };
    let join = |list: Vec<String>, last: &str| list.join(last);
    let interfaces = join(spread.interfaces.iter().cloned().collect(), ", ");
    let families = join(spread.families.iter().map(ToString::to_string).collect(), " and ");
    let mut words = format!("{what} {interfaces} (");
    if flow != Flow::IcmpError {
        let ports = join(spread.ports.iter().map(ToString::to_string).collect(), ", ");
        let plural = if spread.ports.len() == 1 { "" } else { "s" };
        let _ = write!(words, "port{plural} {ports}, ");
    }
    words + &families + ")"
}

fn what(ruleset: &Ruleset, flow: Flow, cause: &DropCause) -> String {
    let by = |at| place(ruleset, at);
    let (is, pass) = match flow {
        Flow::FromClient | Flow::FromClientMore | Flow::ToServerMore => ("is", "passes"),
        Flow::FromServer | Flow::IcmpError | Flow::ToServer | Flow::ToClient => ("are", "pass"),
    };
    match (&cause.drop, &cause.doubt) {
        (Some(drop), None) => format!("{is} dropped by {}", by(*drop)),
        (Some(drop), Some((rule, subject))) => {
            format!("{is} dropped by {} unless accepted by {} ({subject})", by(*drop), by(*rule))
        }
        (None, Some((rule, subject))) => format!("{pass} unless stopped by {} ({subject})", by(*rule)),
        (None, None) => pass.to_owned(),
    }
}
