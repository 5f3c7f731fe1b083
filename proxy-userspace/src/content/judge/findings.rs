use std::ops::Range;
use std::time::Duration;

use super::super::leaf_file::LeafFile;
use super::super::notice::Removed;
use super::super::reading::Reading;
use super::super::walk::{Block, BlockKind, Layout};
use super::super::{
    Condition, ContentAction, LISTED_MAX, LeafDecision, LeafOutcome, LeafVerdict, RealType, RuleName, Shape,
};
use super::{Stop, is_container};

/// What was found in one content.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) verdicts: Vec<LeafVerdict>,
    /// Disjoint, in order.
    pub(super) removals: Vec<(Range<usize>, Removed)>,
    /// What forbids all that is judged together.
    pub(super) denied: Option<RuleName>,
}

impl Findings {
    pub(super) fn moved(mut self, by: usize) -> Self {
        for (range, _) in &mut self.removals {
            *range = range.start + by..range.end + by;
        }
        self
    }

    /// What all leaves weigh together.
    pub(super) fn weighed(self) -> LeafDecision {
        let mut decision = LeafDecision::default();
        for LeafVerdict { name, member, rule, action, .. } in self.verdicts {
            let Some(rule) = rule else { continue };
            let outcome = match action {
                ContentAction::Allow => LeafOutcome::Note(rule),
                ContentAction::Remove => LeafOutcome::Remove(rule),
                ContentAction::Deny => LeafOutcome::Deny(rule),
            };
            decision.add(LeafDecision { real_type: None, member: member.or(name), outcome });
        }
        decision
    }
}

/// What the readings of a block gave.
#[derive(Default)]
pub(super) struct BlockFindings {
    real_type: Option<RealType>,
    member: Option<String>,
    /// What forbids it.
    rule: Option<RuleName>,
    /// It forbids all that is judged with it, too.
    pub(super) denies: bool,
    /// What was found, and is allowed to be.
    noted: Option<RuleName>,
    pub(super) took: Duration,
}

impl BlockFindings {
    pub(super) fn add(&mut self, decision: LeafDecision) -> Result<(), Stop> {
        self.real_type = self.real_type.or(decision.real_type);
        let LeafDecision { member, outcome, .. } = decision;
        match outcome {
            LeafOutcome::Allow => {}
            LeafOutcome::Note(rule) => {
                // What could not be scanned is not known to be clean, whatever else was found.
                let weighs_more = rule == RuleName::Condition(Condition::CannotScan);
                if self.rule.is_none() && (self.noted.is_none() || weighs_more) {
                    (self.noted, self.member) = (Some(rule), member);
                }
            }
            LeafOutcome::Remove(rule) => {
                // What is broken says nothing of what stands beside it.
                let is_broken = self.rule == Some(RuleName::Condition(Condition::BrokenFile));
                if self.rule.is_none() || !self.denies && is_broken {
                    (self.rule, self.member) = (Some(rule), member);
                }
            }
            LeafOutcome::Deny(rule) => {
                if !self.denies {
                    (self.rule, self.member, self.denies) = (Some(rule), member, true);
                }
            }
            LeafOutcome::Unavailable(why) => return Err(Stop::Unavailable(why)),
        }
        Ok(())
    }
}

/// All of the content, which cannot be judged: what becomes of it is the configuration's word.
pub(super) fn whole(content: &[u8], range: Range<usize>, outcome: LeafOutcome) -> Findings {
    let limits = RuleName::Condition(Condition::MimeLimits);
    let (rule, action) = match outcome {
        LeafOutcome::Allow => (limits, ContentAction::Allow),
        LeafOutcome::Note(rule) => (rule, ContentAction::Allow),
        LeafOutcome::Remove(rule) => (rule, ContentAction::Remove),
        LeafOutcome::Deny(rule) => (rule, ContentAction::Deny),
        LeafOutcome::Unavailable(_) => (limits, ContentAction::Remove),
    };
    let octets = content.get(range.clone()).unwrap_or_default();
    let verdict = LeafVerdict {
        piece: 0,
        path: String::new(),
        name: None,
        names: Vec::new(),
        declared_type: None,
        declared_types: Vec::new(),
        real_type: None,
        member: None,
        file: Some(LeafFile::read(octets, Reading::Identity)),
        rule: Some(rule.clone()),
        action,
        took: Duration::ZERO,
    };
    let removed = Removed { rule: rule.clone(), name: None, action };
    Findings {
        verdicts: vec![verdict],
        removals: if action == ContentAction::Allow { Vec::new() } else { vec![(range, removed)] },
        denied: (action == ContentAction::Deny).then_some(rule),
    }
}

/// A signed mail of which something is removed is denied.
pub(super) fn deny_signed(layout: &Layout, blocks: &mut [BlockFindings]) {
    for (index, found) in blocks.iter_mut().enumerate().filter(|(_, found)| found.rule.is_some()) {
        let mut around = Some(index);
        while let Some(block) = around.and_then(|index| layout.blocks.get(index)) {
            found.denies |= block.facts.types.iter().any(|kind| kind == "multipart/signed");
            around = block.parent;
        }
    }
}

/// Verdicts and removals. What lies in a removed block goes with it; blocks that overlap are removed as one.
pub(super) fn conclude(
    content: &[u8],
    layout: &Layout,
    blocks: &[BlockFindings],
    shape: &Shape,
    (describes_allowed, denied): (bool, Option<&RuleName>),
) -> Findings {
    let denying = blocks.iter().filter(|found| found.denies).find_map(|found| found.rule.as_ref());
    let denying = denying.or(denied);
    let acted = if denying.is_some() { ContentAction::Deny } else { ContentAction::Remove };
    let mut removals: Vec<(Range<usize>, Removed)> = Vec::new();
    for (index, (block, found)) in layout.blocks.iter().zip(blocks).enumerate() {
        // What goes with the message are its leaves; the skeleton stays.
        let denied = denying.filter(|_| !block.is_shadow() && !is_container(layout, index, shape));
        if let Some(rule) = found.rule.as_ref().or(denied) {
            let name = forbidden_name(rule, block);
            removals.push((block.widest(), Removed { rule: rule.clone(), name, action: acted }));
        }
    }
    removals.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
    removals.dedup_by(|later, earlier| {
        let overlaps = later.0.start < earlier.0.end;
        if overlaps {
            earlier.0.end = earlier.0.end.max(later.0.end);
        }
        overlaps
    });
    let mut verdicts = Vec::new();
    for (index, (block, found)) in layout.blocks.iter().zip(blocks).enumerate() {
        let widest = block.widest();
        let around = removals.partition_point(|(range, _)| range.start <= widest.start).checked_sub(1);
        let around = around.and_then(|at| removals.get(at)).filter(|(range, _)| widest.start < range.end);
        let rule = found.rule.clone().or_else(|| around.map(|(_, removed)| removed.rule.clone()));
        let action = if rule.is_some() { acted } else { ContentAction::Allow };
        let is_leaf = match block.kind {
            BlockKind::Top | BlockKind::Part | BlockKind::Nested => {
                !block.is_shadow() && (!is_container(layout, index, shape) || !block.facts.names.is_empty())
            }
            BlockKind::Epilogue | BlockKind::Guessed => false,
        };
        if !is_leaf && found.rule.is_none() && found.noted.is_none() {
            continue;
        }
        let leaf = block.extent.narrow..block.end.max(block.extent.narrow);
        let is_described = describes_allowed || rule.is_some() || found.noted.is_some();
        let file = is_described.then(|| LeafFile::of(content.get(leaf).unwrap_or_default(), &block.facts));
        let name = match &found.rule {
            Some(rule) => forbidden_name(rule, block),
            None => block.facts.names.first().cloned(),
        };
        let listed = |texts: &[String]| {
            if is_described { texts.iter().take(LISTED_MAX).cloned().collect() } else { Vec::new() }
        };
        verdicts.push(LeafVerdict {
            piece: 0,
            path: layout.path(index, shape),
            name,
            names: listed(&block.facts.names),
            declared_types: listed(&block.facts.types),
            took: found.took,
            declared_type: block.facts.types.first().cloned(),
            real_type: found.real_type,
            file,
            member: found.member.clone(),
            action,
            rule: rule.or_else(|| found.noted.clone()),
        });
    }
    Findings { verdicts, removals, denied: denying.cloned() }
}

/// The name of a leaf that a rule forbids, or else its first one: the rule may have fitted a member, or another leaf.
fn forbidden_name(rule: &RuleName, block: &Block) -> Option<String> {
    let names = &block.facts.names;
    let own = rule.name().and_then(|name| names.iter().find(|own| own.as_str() == name));
    own.or_else(|| names.first()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_yields_to_what_else_forbids_a_block() {
        let mut found = BlockFindings::default();
        for rule in [RuleName::Condition(Condition::BrokenFile), RuleName::Eicar] {
            assert!(found.add(LeafOutcome::Remove(rule).into()).is_ok());
        }
        assert_eq!(found.rule, Some(RuleName::Eicar));
    }
}
