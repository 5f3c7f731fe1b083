//! What a ruleset does to steered mail: which packets it stops, translates, or robs of their mark.

use std::collections::{BTreeMap, BTreeSet};

use proxy_ebpf::DELIVER_MARK;

use super::expression::{Scope, Tri, kept_bits};
use super::packet::{Bits, Flow, Packet};
use super::remedy::{self, Passage};
use super::ruleset::{Base, Chain, NftFamily, NftHook, Ruleset, Statement};
use super::walk::{ChainWalk, Doubts, RulePlace, condition, is_tracked};
use crate::config::{InterfaceName, SteeringConfig};

const FLOWS: [Flow; 7] = [
    Flow::FromClient,
    Flow::FromClientMore,
    Flow::FromServer,
    Flow::IcmpError,
    Flow::ToServer,
    Flow::ToServerMore,
    Flow::ToClient,
];
const FAMILIES: [NftFamily; 2] = [NftFamily::Ip, NftFamily::Ip6];

/// How certain a judgement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Certainty {
    /// The mail is dropped.
    Dropped,
    /// The mail is dropped unless a rule that cannot be judged lets it pass.
    DroppedUnless,
    /// The mail passes unless a rule that cannot be judged stops it.
    PassesUnless,
}

/// Mail that a base chain stops or may stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    /// How certain that is.
    pub(crate) certainty: Certainty,
    /// Which packets, and by what, in words.
    pub(crate) words: String,
    /// What lets them pass, for a shell; empty where an insertion would not help or is not to be advised.
    pub(crate) commands: Vec<String>,
    /// Why there is no command.
    pub(crate) note: String,
}

/// A chain that gives connections to servers another source address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Masquerade {
    /// Every connection is masqueraded, and not only some.
    pub(crate) is_certain: bool,
    /// The rule, and what its match depends on where that is not certain.
    pub(crate) place: String,
    /// What exempts Postern's connections, for a shell; `None` where only the table's owner may.
    pub(crate) command: Option<String>,
}

/// What steered mail has to do with: the interfaces of a configuration, and the ports.
#[derive(Clone, Debug)]
pub(crate) struct MailPaths<'a> {
    pub(super) ingress: &'a [InterfaceName],
    pub(super) egress: &'a [InterfaceName],
    pub(super) ports: Vec<u16>,
}

impl<'a> From<&'a SteeringConfig> for MailPaths<'a> {
    fn from(settings: &'a SteeringConfig) -> Self {
        let mut ports: Vec<u16> = settings.ports().collect();
        ports.sort_unstable();
        Self { ingress: &settings.ingress, egress: &settings.egress, ports }
    }
}

impl<'a> MailPaths<'a> {
    fn of(&self, flow: Flow) -> Vec<&'a InterfaceName> {
        match flow {
            Flow::FromClient | Flow::FromClientMore | Flow::ToClient => self.ingress.iter().collect(),
            Flow::FromServer | Flow::ToServer | Flow::ToServerMore => self.egress.iter().collect(),
            Flow::IcmpError => self.ingress.iter().chain(self.egress).collect(),
        }
    }

    /// Every packet that must pass.
    fn packets(&self) -> Vec<Packet> {
        let mut packets = Vec::new();
        for flow in FLOWS {
            // An error's own header has no port.
            let ports = self.ports.iter().take(if flow == Flow::IcmpError { 1 } else { usize::MAX });
            for interface in self.of(flow) {
                for family in FAMILIES {
                    let packet = |port: &u16| Packet::new(flow, family, *port, interface.as_str());
                    packets.extend(ports.clone().map(packet));
                }
            }
        }
        packets
    }
}

/// Why a packet may not pass: the rule that drops it, and the doubt about that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DropCause {
    pub(super) drop: Option<RulePlace>,
    pub(super) doubt: Option<(RulePlace, String)>,
}

impl DropCause {
    const fn certainty(&self) -> Certainty {
        match self {
            Self { doubt: None, .. } => Certainty::Dropped,
            Self { drop: Some(_), .. } => Certainty::DroppedUnless,
            Self { drop: None, .. } => Certainty::PassesUnless,
        }
    }
}

/// The ports, families and interfaces for which a finding holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    pub(super) ports: BTreeSet<u16>,
    pub(super) families: BTreeSet<&'static str>,
    pub(super) interfaces: BTreeSet<String>,
}

impl Spread {
    fn add(&mut self, packet: &Packet) {
        self.ports.insert(packet.port);
        self.families.insert(if packet.family == NftFamily::Ip6 { "IPv6" } else { "IPv4" });
        self.interfaces.insert(packet.interface.clone());
    }
}

/// What a base chain stops, by what lets it pass.
type Stopped = BTreeMap<(usize, Passage, Certainty), BTreeMap<(Flow, DropCause), Spread>>;

/// Every obstacle in the way of steered mail, in the order of chains.
pub(crate) fn obstacles(ruleset: &Ruleset, paths: &MailPaths<'_>) -> Vec<Obstacle> {
    let setters = Setters::of(ruleset);
    let mut stopped = Stopped::new();
    for packet in paths.packets() {
        let packet = setters.touch(ruleset, &packet);
        for hook in packet.flow.hooks() {
            for (at, chain, base) in ruleset.bases(hook, packet.family) {
                if base.nat {
                    continue;
                }
                let Some(cause) = cause(ruleset, (at, chain, base), &packet) else { continue };
                let group = (at, Passage::of(packet.flow), cause.certainty());
                let spread = stopped.entry(group).or_default().entry((packet.flow, cause)).or_default();
                spread.add(&packet);
            }
        }
    }
    let mut printed = BTreeSet::new();
    stopped
        .into_iter()
        .filter_map(|((at, passage, certainty), causes)| {
            let chain = ruleset.chains.get(at)?;
            let is_first = certainty != Certainty::PassesUnless && printed.insert((at, passage));
            let commands = if is_first { remedy::commands(chain, passage, paths) } else { Vec::new() };
            Some(remedy::obstacle(ruleset, chain, certainty, &causes, commands))
        })
        .collect()
}

fn cause(ruleset: &Ruleset, base: (usize, &Chain, Base), packet: &Packet) -> Option<DropCause> {
    let fate = ChainWalk::through(ruleset, base, packet, Doubts::Followed);
    let drop = fate.drop?;
    let plain = ChainWalk::through(ruleset, base, packet, Doubts::Dismissed);
    if !fate.accept {
        // Name the rule that certainly drops the packet, not the first one that may.
        return Some(DropCause { drop: plain.drop.or(Some(drop)), doubt: None });
    }
    let doubt = fate.doubt.map_or_else(|| (drop, "a rule".to_owned()), |doubt| (doubt.place, doubt.subject));
    Some(DropCause { drop: plain.drop, doubt: Some(doubt) })
}

/// The chains that masquerade connections to servers out of an interface.
pub(crate) fn masquerades(ruleset: &Ruleset, ports: &[u16], egress: &InterfaceName) -> Vec<Masquerade> {
    let setters = Setters::of(ruleset);
    let mut found: BTreeMap<usize, (bool, String)> = BTreeMap::new();
    let packets = FAMILIES.iter().flat_map(|family| ports.iter().map(|port| (*family, *port)));
    for (family, port) in packets {
        let packet = Packet::new(Flow::ToServer, family, port, egress.as_str());
        let packet = setters.touch(ruleset, &packet);
        for (at, chain, base) in ruleset.bases(NftHook::Postrouting, family) {
            let fate = ChainWalk::through(ruleset, (at, chain, base), &packet, Doubts::Followed);
            let Some(place) = fate.translate.filter(|_| base.nat) else { continue };
            let mut words = remedy::place(ruleset, place);
            let is_certain = !fate.accept && fate.drop.is_none();
            if let Some(doubt) = fate.doubt.filter(|_| !is_certain) {
                words = format!("{words} (depends on {})", doubt.subject);
            }
            let known = found.entry(at).or_insert_with(|| (is_certain, words.clone()));
            if is_certain && !known.0 {
                *known = (is_certain, words);
            }
        }
    }
    let masquerade = |(at, (is_certain, place)): (usize, (bool, String))| {
        let chain = ruleset.chains.get(at)?;
        let command = (!ruleset.is_owned(&chain.table)).then(|| remedy::exemption(chain));
        Some(Masquerade { is_certain, place, command })
    };
    found.into_iter().filter_map(masquerade).collect()
}

/// The rules that may take the classifier's mark from a packet before it is routed.
pub(crate) fn mark_wipers(ruleset: &Ruleset, paths: &MailPaths<'_>) -> Vec<String> {
    let setters = Setters::of(ruleset);
    let mut places = BTreeSet::new();
    for mut packet in paths.packets() {
        if !matches!(packet.flow, Flow::FromClientMore | Flow::FromServer | Flow::IcmpError) {
            continue;
        }
        packet.mark = Bits::exactly(u64::from(DELIVER_MARK));
        for setter in setters.on_way_of(&packet).filter(|setter| setter.base.hook == NftHook::Prerouting) {
            let Statement::SetMark(value) = setter.statement else { continue };
            let keeps = kept_bits(value) & u64::from(DELIVER_MARK) != 0;
            if !keeps && setter.applies(ruleset, &packet) != Tri::No {
                places.insert(setter.place);
            }
        }
    }
    places.into_iter().map(|place| remedy::place(ruleset, place)).collect()
}

/// A statement that changes what later rules see.
struct Setter<'a> {
    base: Base,
    chain: &'a Chain,
    place: RulePlace,
    rule: &'a super::ruleset::Rule,
    before: &'a [Statement],
    statement: &'a Statement,
}

impl Setter<'_> {
    fn applies(&self, ruleset: &Ruleset, packet: &Packet) -> Tri {
        let table = &self.chain.table;
        let scope = Scope { ruleset, table, packet, is_tracked: is_tracked(self.base) };
        let conditions = self.before.iter().map(|statement| condition(&scope, statement, self.rule).0);
        conditions.min().unwrap_or(Tri::Yes)
    }
}

/// Every [`Setter`] that base chains lead to.
struct Setters<'a>(Vec<Setter<'a>>);

impl<'a> Setters<'a> {
    fn of(ruleset: &'a Ruleset) -> Self {
        let mut setters = Vec::new();
        for (at, chain) in ruleset.chains.iter().enumerate() {
            let Some(base) = chain.base else { continue };
            for (at, chain) in reachable(ruleset, at) {
                setters.extend(chain.rules.iter().flat_map(|rule| in_rule(base, at, chain, rule)));
            }
        }
        Self(setters)
    }

    fn on_way_of(&self, packet: &Packet) -> impl Iterator<Item = &Setter<'a>> {
        let (family, hooks) = (packet.family, packet.flow.hooks());
        self.0.iter().filter(move |setter| {
            let sees = [NftFamily::Inet, family].contains(&setter.chain.table.family);
            sees && hooks.contains(&setter.base.hook)
        })
    }

    /// The packet with the doubts that these statements cast on it.
    fn touch(&self, ruleset: &Ruleset, packet: &Packet) -> Packet {
        let mut touched = packet.clone();
        for setter in self.on_way_of(packet) {
            match (setter.statement, setter.applies(ruleset, packet)) {
                (_, Tri::No) => {}
                (Statement::SetMark(value), _) => touched.mark.known &= kept_bits(value),
                (_, Tri::Yes) => touched.states = vec!["untracked"],
                (_, Tri::Maybe) => touched.states.push("untracked"),
            }
        }
        touched
    }
}

fn in_rule<'a>(
    base: Base,
    at: usize,
    chain: &'a Chain,
    rule: &'a super::ruleset::Rule,
) -> impl Iterator<Item = Setter<'a>> {
    let place = RulePlace { chain: at, handle: Some(rule.handle) };
    rule.statements.iter().enumerate().filter_map(move |(position, statement)| {
        let sets = matches!(statement, Statement::SetMark(_) | Statement::NoTrack);
        let before = rule.statements.get(..position).filter(|_| sets)?;
        Some(Setter { base, chain, place, rule, before, statement })
    })
}

/// A chain and those that it leads to.
fn reachable(ruleset: &Ruleset, from: usize) -> Vec<(usize, &Chain)> {
    let mut seen = BTreeSet::from([from]);
    let mut waiting = vec![from];
    let mut found = Vec::new();
    while let Some((at, chain)) = waiting.pop().and_then(|at| Some((at, ruleset.chains.get(at)?))) {
        found.push((at, chain));
        let statements = chain.rules.iter().flat_map(|rule| &rule.statements);
        for target in statements.flat_map(|statement| ruleset.targets(&chain.table, statement)) {
            if seen.insert(target) {
                waiting.push(target);
            }
        }
    }
    found
}
