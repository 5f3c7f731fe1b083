use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::link::LeafAsked;
use super::pool::{JudgePool, PoolAnswer};
use super::protocol::{HeadTooLarge, write_head};
use super::terms::JudgeTerms;
use crate::content::{Condition, ContentTerms, Examination, Judge, LeafDecision, LeafHead, Rules};

/// Judges for the worker: beginnings by the rules, here; complete leaves in a process of their own.
pub(crate) struct RemoteJudge {
    pool: Arc<JudgePool>,
    rules: Arc<Rules>,
    terms: JudgeTerms,
    /// CPU time of a leaf.
    time: Duration,
}

impl RemoteJudge {
    /// By these rules, which the terms hold, too.
    pub(crate) const fn new(
        pool: Arc<JudgePool>,
        rules: Arc<Rules>,
        terms: JudgeTerms,
        time: Duration,
    ) -> Self {
        Self { pool, rules, terms, time }
    }

    /// What the rules here say of a leaf that no judge can judge.
    fn without(
        &self,
        leaf: &LeafHead<'_>,
        octets: &[u8],
        condition: Condition,
        cancelled: &AtomicBool,
    ) -> LeafDecision {
        let mut decision = self.rules.leaf(leaf, octets, cancelled);
        // Before what a hash says: of two notes the first stays, and this one keeps the leaf from being remembered as clean.
        decision.add(self.rules.terms().found(condition).into());
        decision.add(self.rules.blocked_in_readings(octets).into());
        decision
    }
}

impl Judge for RemoteJudge {
    fn terms(&self) -> &ContentTerms {
        self.rules.terms()
    }

    fn begin(&self, leaf: &LeafHead<'_>) -> Box<dyn Examination + Send> {
        self.rules.begin(leaf)
    }

    fn leaf(&self, leaf: &LeafHead<'_>, octets: &[u8], cancelled: &AtomicBool) -> LeafDecision {
        let head = match write_head(leaf) {
            Ok(head) => head,
            Err(HeadTooLarge) => return self.without(leaf, octets, Condition::MimeLimits, cancelled),
        };
        let asked = LeafAsked { terms: &self.terms, head: &head, octets, time: self.time };
        match self.pool.judge(&asked, cancelled) {
            PoolAnswer::Decided(decision) => decision,
            PoolAnswer::CannotScan => self.without(leaf, octets, Condition::CannotScan, cancelled),
            PoolAnswer::Unavailable(why) => why.into(),
        }
    }
}

impl fmt::Debug for RemoteJudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteJudge").field("terms", &self.terms.id).finish_non_exhaustive()
    }
}
