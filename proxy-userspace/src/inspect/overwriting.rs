//! Header fields that the owner removes, in a response: behind its judgement, and before ranges are cut from it.
//!
//! The judge sees what the server sent, so that a rule hides no name of a file from it. The digests of known mail are of the
//! server's octets, too. So mail is overwritten after its verdict, and not as it comes: under such rules
//! no message streams.

use std::future::Future as _;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::refusal::Refused;
use super::terms::MediationTerms;
use crate::accept::HeldLease;
use crate::content::{FieldRules, Shape, redact, redact_value};
use crate::jobs::{JobKind, Pending};

/// Octets that are overwritten on the mail thread. A header of a hostile server may have a field in each three octets, each of
/// which is compared with every pattern.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// What of a response the client is shown, and what the rules have to do with.
#[derive(Debug)]
pub(super) struct Overwriting {
    pub(super) rules: Arc<FieldRules>,
    /// Sections of the message.
    pub(super) sections: Vec<(Range<usize>, Shape)>,
    /// Strings of ENVELOPE and BODYSTRUCTURE that are overwritten.
    pub(super) values: Vec<Range<usize>>,
}

/// What a thread gives back: the octets, their room, and copies of what is to be kept.
pub(super) struct Overwritten {
    pub(super) octets: Vec<u8>,
    pub(super) lease: HeldLease,
    pub(super) copies: Vec<Vec<u8>>,
}

/// Mail that a thread overwrites. Dropping it withdraws the work.
pub(super) struct BeingOverwritten(Pending<Overwritten>);

impl Overwriting {
    /// Whether it is done at once.
    pub(super) fn is_short(&self) -> bool {
        self.sections.iter().map(|(range, _)| range.len()).sum::<usize>() <= INLINE_BYTES_MAX
    }

    /// Overwrite what the rules remove.
    pub(super) fn apply(&self, octets: &mut [u8]) {
        for (range, shape) in &self.sections {
            redact(octets.get_mut(range.clone()).unwrap_or_default(), shape, &self.rules);
        }
        for range in &self.values {
            redact_value(octets.get_mut(range.clone()).unwrap_or_default());
        }
    }

    /// Have a thread do it, and copy ranges afterwards.
    pub(super) fn begin(
        self,
        terms: &MediationTerms,
        mut octets: Vec<u8>,
        lease: HeldLease,
        copies: Vec<Range<usize>>,
    ) -> Result<BeingOverwritten, Refused> {
        let work = move |_: &_| {
            self.apply(&mut octets);
            let at = |range: Range<usize>| octets.get(range).unwrap_or_default().to_vec();
            let copies = copies.into_iter().map(at).collect();
            Overwritten { octets, lease, copies }
        };
        let pending = terms.jobs.begin(JobKind::Judge, work).map_err(|_| Refused::NotJudged)?;
        Ok(BeingOverwritten(pending))
    }
}

impl BeingOverwritten {
    /// What the thread gave back. A panic took the octets with it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Overwritten, Refused>> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(cx)).map_err(|_| Refused::NotJudged))
    }
}
