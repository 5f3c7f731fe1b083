//! The judge of complete leaves: what a file is, what rules and scanners say of it, and the same of each file inside of it.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::magic::real_type;
use super::open::{self, Member, OpenBounds, OpenLimits};
use super::rules::Rules;
use super::scan::{ScanOutcome, ScannedFile, Scanner};
use super::{
    Condition, Examination, Judge, LeafDecision, LeafHead, LeafOutcome, Reading, RuleName, Unavailable, judge,
};

/// Judges complete leaves. What it calls reads files that strangers made, and belongs into a process of its own.
pub struct LeafJudge {
    rules: Arc<Rules>,
    scanners: Vec<Box<dyn Scanner>>,
    limits: OpenLimits,
}

impl LeafJudge {
    /// With these rules and scanners.
    #[must_use]
    pub fn new(rules: Arc<Rules>, scanners: Vec<Box<dyn Scanner>>, limits: OpenLimits) -> Self {
        Self { rules, scanners, limits }
    }
}

impl Judge for LeafJudge {
    fn begin(&self, leaf: &LeafHead<'_>) -> Box<dyn Examination + Send> {
        self.rules.begin(leaf)
    }

    fn leaf(&self, leaf: &LeafHead<'_>, octets: &[u8], cancelled: &AtomicBool) -> LeafDecision {
        let mut decision = self.rules.leaf(leaf, octets, cancelled);
        let mut bounds = OpenBounds::new(self.limits);
        for reading in Reading::of(octets) {
            let look = Look { judge: self, cancelled, bounds: &mut bounds };
            let decoded = match reading {
                Reading::Identity => Cow::Borrowed(octets),
                Reading::Base64 | Reading::QuotedPrintable => Cow::Owned(reading.decoded(octets)),
            };
            decision.add(look.leaf(leaf, decoded));
            if decision.outcome.is_last() {
                break;
            }
        }
        decision
    }
}

/// A look at one leaf.
struct Look<'l> {
    judge: &'l LeafJudge,
    cancelled: &'l AtomicBool,
    bounds: &'l mut OpenBounds,
}

impl Look<'_> {
    fn leaf(mut self, head: &LeafHead<'_>, octets: Cow<'_, [u8]>) -> LeafDecision {
        let (names, declared_types) = (head.names.to_vec(), head.declared_types.to_vec());
        self.file(&Member { names, declared_types, octets }, 0)
    }

    /// A file, and what is in it. The recursion ends at the depth of [`OpenLimits`].
    fn file(&mut self, file: &Member<'_>, depth: u32) -> LeafDecision {
        if self.cancelled.load(Ordering::Relaxed) {
            return Unavailable::Cancelled.into();
        }
        let real_type = real_type(&file.octets);
        let mut decision = LeafDecision { real_type, ..LeafDecision::default() };
        decision.add(self.judge.rules.file(&file.names, real_type).into());
        self.scan(file, depth, &mut decision);
        let Some(real) = real_type.filter(|real| open::opens(*real) && !decision.outcome.is_last()) else {
            return decision;
        };
        if depth >= self.bounds.limits().depth {
            decision.add(self.judge.rules.found(Condition::ArchiveLimits).into());
            return decision;
        }
        let mut bounds = *self.bounds;
        let conditions = open::open(real, &file.octets, &mut bounds, &mut |bounds, member| {
            *self.bounds = *bounds;
            let inside = self.file(&member, depth + 1);
            *bounds = *self.bounds;
            let named = inside.member.into_iter();
            let path = member.names.first().cloned().into_iter().chain(named).collect::<Vec<_>>();
            let is_noted = inside.outcome != LeafOutcome::Allow;
            let member = is_noted.then(|| path.join(MEMBER_SEPARATOR));
            decision.add(LeafDecision { real_type: None, member, outcome: inside.outcome });
            if decision.outcome.is_last() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        *self.bounds = bounds;
        for condition in conditions {
            decision.add(self.judge.rules.found(condition).into());
        }
        if real == super::RealType::Message && !decision.outcome.is_last() {
            decision.add(judge::within(&file.octets, self.judge, self.cancelled));
        }
        decision
    }

    fn scan(&self, file: &Member<'_>, depth: u32, decision: &mut LeafDecision) {
        let scanned = ScannedFile {
            names: &file.names,
            real_type: decision.real_type,
            octets: &file.octets,
            is_member: depth > 0,
        };
        for scanner in &self.judge.scanners {
            if decision.outcome.is_last() {
                return;
            }
            decision.add(match scanner.scan(&scanned, self.cancelled) {
                ScanOutcome::Clean => LeafDecision::default(),
                ScanOutcome::Found(signature) => {
                    let scanner = scanner.name().to_owned();
                    LeafOutcome::Remove(RuleName::Virus { scanner, signature }).into()
                }
                ScanOutcome::CannotScan => self.judge.rules.found(Condition::CannotScan).into(),
                ScanOutcome::Unavailable => Unavailable::JudgeDown.into(),
            });
        }
    }
}

/// Stands between the names of files inside each other.
const MEMBER_SEPARATOR: &str = " » ";
