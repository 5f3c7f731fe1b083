//! What an engine needs of its surroundings: room, threads that judge, rules, and somebody who writes down what became of
//! mail.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::refusal::Refused;
use crate::accept::{HeldLease, HeldOctets};
use crate::content::{Case, ContentPiece, Judged, LeafVerdict, Rules, Unavailable, judge};
use crate::jobs::{JobKind, JobPool, Pending};
use crate::record::ContentCounts;
use crate::words::Direction;

/// Whose mail it is, for records.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The account, where the client said it in clear.
    pub account: Option<Rc<str>>,
    /// The mailbox that is selected.
    pub mailbox: Option<Rc<str>>,
    /// The message.
    pub uid: Option<u32>,
}

/// Writes down what became of mail.
pub trait Witness {
    /// A leaf was removed, or a message refused for it.
    fn verdict(&self, subject: &Subject, direction: Direction, leaf: &LeafVerdict);

    /// Mail was left out, and the command answered NO: the reason's token and words.
    fn refused(&self, subject: &Subject, reason: &'static str, words: &'static str);
}

/// What an engine needs.
pub struct MediationTerms {
    /// The largest message, in octets.
    pub message_max: u64,
    /// Room for held mail.
    pub held: Arc<HeldOctets>,
    /// Threads that judge.
    pub jobs: Arc<JobPool>,
    /// What is forbidden.
    pub rules: Arc<Rules>,
    /// Counters of the session's record.
    pub counts: Rc<ContentCounts>,
    /// Verdict records.
    pub witness: Box<dyn Witness>,
}

/// Mail that a thread judges. Dropping it withdraws the work.
pub(super) struct InFlight(Pending<(Judged, HeldLease)>, Arc<HeldOctets>);

impl InFlight {
    /// The verdict, and the room that its octets take.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Judged, HeldLease)> {
        let done = ready!(Pin::new(&mut self.0).poll(cx));
        // A panic took the octets with it.
        Poll::Ready(done.unwrap_or_else(|_| (Judged::Unavailable { why: Unavailable::Fault }, self.1.lease())))
    }
}

impl MediationTerms {
    /// Have pieces of these octets judged.
    pub(super) fn begin(
        &self,
        octets: Vec<u8>,
        lease: HeldLease,
        pieces: Vec<ContentPiece>,
    ) -> Result<InFlight, Refused> {
        let rules = Arc::clone(&self.rules);
        let work = move |cancelled: &_| (judge(Case { octets, pieces }, &*rules, cancelled), lease);
        let pending = self.jobs.begin(JobKind::Judge, work).map_err(|_| Refused::NotJudged)?;
        Ok(InFlight(pending, Arc::clone(&self.held)))
    }

    /// Write verdicts down; whether something was forbidden.
    pub(super) fn report(&self, subject: &Subject, direction: Direction, leaves: &[LeafVerdict]) -> bool {
        self.counts.judged(leaves.len() as u64);
        let mut forbidden = false;
        for leaf in leaves.iter().filter(|leaf| leaf.is_removed()) {
            forbidden = true;
            self.counts.removed(1);
            self.witness.verdict(subject, direction, leaf);
        }
        forbidden
    }

    /// Mail was left out.
    pub(super) fn refused(&self, subject: &Subject, refused: Refused) {
        self.counts.refused(1);
        self.witness.refused(subject, refused.reason(), refused.words());
    }
}
