//! A packet's walk through the chains of one hook.
//!
//! Where a rule may or may not match, both ways are followed, and the doubt is kept with its rule.

use std::collections::HashMap;

use super::expression::{Scope, Tri, subject};
use super::packet::Packet;
use super::ruleset::{Base, Chain, NftHook, NftVerdict, Rule, Ruleset, Statement};

/// Jumps within jumps: the kernel's own limit (`NFT_JUMP_STACK_SIZE`, net/netfilter/nf_tables.h).
const JUMPS_MAX: usize = 16;
/// From this priority on hooks come after connection tracking (`NF_IP_PRI_CONNTRACK`).
const CONNTRACK_PRIORITY: i64 = -200;

/// A rule, or a chain's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RulePlace {
    pub(super) chain: usize,
    /// The rule's handle; `None` is the policy.
    pub(super) handle: Option<u64>,
}

/// A rule that may or may not have matched, and what that depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) place: RulePlace,
    pub(super) subject: String,
}

/// Everything that may happen to a packet in a rule or a chain.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate {
    pub(super) accept: bool,
    pub(super) drop: Option<RulePlace>,
    pub(super) translate: Option<RulePlace>,
    pub(super) doubt: Option<Doubt>,
    /// The walk may go on with the next rule.
    next: bool,
    /// The walk may return to the chain that jumped here.
    leave: bool,
}

impl Fate {
    fn next() -> Self {
        Self { next: true, ..Self::default() }
    }

    /// Anything may happen.
    fn unknown(place: RulePlace, subject: &str) -> Self {
        let doubt = Some(Doubt { place, subject: subject.to_owned() });
        Self { accept: true, drop: Some(place), translate: Some(place), doubt, next: true, leave: true }
    }

    fn ends(&self) -> bool {
        self.accept || self.leave || self.drop.is_some() || self.translate.is_some()
    }

    /// Add the next rule's fate to the chain's.
    fn then(&mut self, rule: Self) {
        let next = rule.next;
        self.also(rule);
        self.next = next;
    }

    fn also(&mut self, other: Self) {
        self.accept |= other.accept;
        self.leave |= other.leave;
        self.next |= other.next;
        self.drop = self.drop.or(other.drop);
        self.translate = self.translate.or(other.translate);
        self.doubt = self.doubt.take().or(other.doubt);
    }
}

/// How a rule is treated that may or may not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubts {
    /// Both ways are followed.
    Followed,
    /// The rule is taken not to match.
    Dismissed,
}

/// A walk from one base chain.
pub(super) struct ChainWalk<'a> {
    ruleset: &'a Ruleset,
    packet: &'a Packet,
    doubts: Doubts,
    is_tracked: bool,
    /// Fates of chains that were walked already: without them jumps would multiply the work.
    known: HashMap<usize, Fate>,
}

/// Whether expressions of a base chain see connection tracking's state.
pub(super) const fn is_tracked(base: Base) -> bool {
    base.priority > CONNTRACK_PRIORITY || matches!(base.hook, NftHook::Input | NftHook::Postrouting)
}

impl<'a> ChainWalk<'a> {
    /// The fate at the end of a base chain.
    pub(super) fn through(
        ruleset: &'a Ruleset,
        (at, chain, base): (usize, &'a Chain, Base),
        packet: &'a Packet,
        doubts: Doubts,
    ) -> Fate {
        let mut walk = Self { ruleset, packet, doubts, is_tracked: is_tracked(base), known: HashMap::new() };
        let mut fate = walk.chain(at, chain, 0);
        if fate.leave && base.drops {
            fate.drop = fate.drop.or(Some(RulePlace { chain: at, handle: None }));
        } else if fate.leave {
            fate.accept = true;
        }
        fate
    }

    fn chain(&mut self, at: usize, chain: &'a Chain, depth: usize) -> Fate {
        if let Some(fate) = self.known.get(&at) {
            return fate.clone();
        }
        let mut fate = Fate::next();
        for rule in &chain.rules {
            let step = self.rule(at, chain, rule, depth);
            fate.then(step);
            if !fate.next {
                break;
            }
        }
        fate.leave |= fate.next;
        fate.next = false;
        self.known.insert(at, fate.clone());
        fate
    }

    fn rule(&mut self, at: usize, chain: &'a Chain, rule: &'a Rule, depth: usize) -> Fate {
        let place = RulePlace { chain: at, handle: Some(rule.handle) };
        let scope = self.scope(chain);
        let mut doubt: Option<String> = None;
        for statement in &rule.statements {
            let (certainty, asked) = condition(&scope, statement, rule);
            if certainty == Tri::No || (certainty == Tri::Maybe && self.doubts == Doubts::Dismissed) {
                return Fate::next();
            }
            if certainty == Tri::Maybe {
                doubt = doubt.or(asked);
            }
            let effect = match statement {
                Statement::NftVerdict(verdict) => self.verdict(place, chain, verdict, depth),
                Statement::SourceNat => Fate { translate: Some(place), ..Fate::default() },
                Statement::Opaque(name) if certainty == Tri::Yes => self.unless_dismissed(place, name),
                Statement::VerdictMap { key, data } => {
                    let Some(verdicts) = scope.verdicts(key, data) else {
                        return self.unless_dismissed(place, &subject(key));
                    };
                    let (fate, is_certain) = self.verdict_map(place, chain, verdicts, depth);
                    if !is_certain {
                        doubt = doubt.or_else(|| Some(subject(key)));
                    }
                    fate
                }
                _ => continue,
            };
            return doubtful(effect, place, doubt);
        }
        Fate::next()
    }

    fn unless_dismissed(&self, place: RulePlace, subject: &str) -> Fate {
        match self.doubts {
            Doubts::Followed => Fate::unknown(place, subject),
            Doubts::Dismissed => Fate::next(),
        }
    }

    fn verdict_map(
        &mut self,
        place: RulePlace,
        chain: &'a Chain,
        verdicts: Vec<(Tri, NftVerdict)>,
        depth: usize,
    ) -> (Fate, bool) {
        let mut fate = Fate::default();
        let mut is_certain = verdicts.is_empty();
        for (certainty, verdict) in verdicts {
            if certainty == Tri::Yes {
                is_certain = true;
            } else if self.doubts == Doubts::Dismissed {
                continue;
            }
            fate.also(self.verdict(place, chain, &verdict, depth));
        }
        if !is_certain || !(fate.ends() || fate.next) {
            fate.next = true;
        }
        (fate, is_certain)
    }

    fn verdict(&mut self, place: RulePlace, chain: &'a Chain, verdict: &NftVerdict, depth: usize) -> Fate {
        match verdict {
            NftVerdict::Accept => Fate { accept: true, ..Fate::default() },
            NftVerdict::Drop => Fate { drop: Some(place), ..Fate::default() },
            NftVerdict::Continue => Fate::next(),
            NftVerdict::Return => Fate { leave: true, ..Fate::default() },
            NftVerdict::Jump(name) => {
                let mut fate = self.call(place, chain, name, depth);
                (fate.next, fate.leave) = (fate.leave, false);
                fate
            }
            NftVerdict::Goto(name) => self.call(place, chain, name, depth),
        }
    }

    fn call(&mut self, place: RulePlace, from: &Chain, name: &str, depth: usize) -> Fate {
        let target = self.ruleset.chain(&from.table, name);
        let Some((at, chain)) = target.and_then(|at| Some((at, self.ruleset.chains.get(at)?))) else {
            return self.nowhere(place, "a chain that is not there");
        };
        if depth >= JUMPS_MAX {
            return self.nowhere(place, "too many jumps");
        }
        self.chain(at, chain, depth + 1)
    }

    fn nowhere(&self, place: RulePlace, subject: &str) -> Fate {
        Fate { leave: true, ..self.unless_dismissed(place, subject) }
    }

    const fn scope(&self, chain: &'a Chain) -> Scope<'a> {
        Scope { ruleset: self.ruleset, table: &chain.table, packet: self.packet, is_tracked: self.is_tracked }
    }
}

/// Whether a statement lets the packet on to the next, and what that depends on.
pub(super) fn condition(scope: &Scope<'_>, statement: &Statement, rule: &Rule) -> (Tri, Option<String>) {
    match statement {
        Statement::Match { op, left, right } => (scope.matches(op, left, right), Some(subject(left))),
        Statement::Gate(name) => (Tri::Maybe, Some(name.clone())),
        // An unknown statement with a verdict behind it can only be a condition.
        Statement::Opaque(name) if rule.statements.iter().any(is_verdict) => (Tri::Maybe, Some(name.clone())),
        _ => (Tri::Yes, None),
    }
}

const fn is_verdict(statement: &Statement) -> bool {
    matches!(statement, Statement::NftVerdict(_) | Statement::VerdictMap { .. } | Statement::SourceNat)
}

/// An effect that may not happen: then the walk goes on with the next rule.
fn doubtful(mut effect: Fate, place: RulePlace, subject: Option<String>) -> Fate {
    if let Some(subject) = subject {
        effect.next = true;
        if effect.ends() && effect.doubt.is_none() {
            effect.doubt = Some(Doubt { place, subject });
        }
    }
    effect
}
