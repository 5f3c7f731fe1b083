use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::protocol::{
    BODY_BYTES_MAX, INLINE_BYTES_MAX, JudgeOrder, JudgeReply, JudgeRequest, LeafBody, OctetString,
    PROTOCOL_VERSION, TERMS_CPU_SECONDS, TermsReply,
};
use super::recent::RecentTerms;
use super::terms::JudgeTerms;
use crate::content::LeafDecision;
use crate::ipc::{Channel, IpcError, SealedError, seal_parts};

/// A judge has so many times the CPU time of a leaf, or of terms, until its answer: more run than there are cores, and mail
/// goes first.
const WALL_FACTOR: u32 = 4;

/// Between two looks whether the worker ends.
const CLOSE_LOOK: Duration = Duration::from_millis(100);

/// How long an answer is waited for.
struct Deadline<'a> {
    until: Instant,
    /// The worker ends.
    closed: &'a AtomicBool,
}

impl<'a> Deadline<'a> {
    /// For work of so much CPU time.
    fn after(time: Duration, closed: &'a AtomicBool) -> Result<Self, JudgeFault> {
        let until = Instant::now().checked_add(time.saturating_mul(WALL_FACTOR)).ok_or(JudgeFault::Hangs)?;
        Ok(Self { until, closed })
    }
}

/// Why a judge is not asked any more. The supervisor ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum JudgeFault {
    /// It has closed its channel, most likely by its end.
    #[error("it has ended")]
    Ended,
    /// It sent what no judge sends.
    #[error("it sent what no judge sends")]
    Nonsense,
    /// Its answer is overdue.
    #[error("its answer is overdue")]
    Hangs,
}

/// A leaf, ready to be sent.
pub(super) struct LeafAsked<'a> {
    pub(super) terms: &'a JudgeTerms,
    /// As [`super::protocol::write_head`] made it.
    pub(super) head: &'a [u8],
    pub(super) octets: &'a [u8],
    /// CPU time.
    pub(super) time: Duration,
}

/// Why a judge gave no decision.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// It is not to be asked any more. The leaf may be why.
    #[error("the judge: {0}")]
    Judge(#[from] JudgeFault),
    /// It is not to be asked any more, and has not seen the leaf.
    #[error("the judge, while it was told the rules: {0}")]
    Terms(JudgeFault),
    /// The worker ends.
    #[error("the worker ends")]
    Closed,
    /// The leaf could not be passed; the judge is as before.
    #[error(transparent)]
    Memory(#[from] SealedError),
}

/// One judge. Who holds it uses it alone.
#[derive(Debug)]
pub(super) struct JudgeLink {
    /// Its number, by which the supervisor knows it.
    pub(super) judge: u64,
    channel: Channel,
    told: RecentTerms<()>,
    /// Leaves that it was asked about.
    pub(super) leaves: u64,
}

impl JudgeLink {
    pub(super) fn new(judge: u64, channel: Channel) -> Self {
        Self { judge, channel, told: RecentTerms::default(), leaves: 0 }
    }

    /// Whether it says nothing while nobody asks.
    ///
    /// # Errors
    /// It has ended, or speaks of its own accord.
    pub(super) fn is_quiet(&self) -> Result<(), JudgeFault> {
        match self.channel.receive_now::<JudgeReply>() {
            Err(error) if error.would_block() => Ok(()),
            Err(error) => Err(fault(&error)),
            Ok(_) => Err(JudgeFault::Nonsense),
        }
    }

    /// Have it judge a leaf, and wait for its answer.
    ///
    /// # Errors
    /// [`LinkError`].
    pub(super) fn ask(
        &mut self,
        asked: &LeafAsked<'_>,
        closed: &AtomicBool,
    ) -> Result<LeafDecision, LinkError> {
        let (body, memory) = body(asked)?;
        let terms = asked.terms.id;
        if self.told.use_again(terms).is_none() {
            self.tell(asked.terms, closed).map_err(|error| match error {
                LinkError::Judge(fault) => LinkError::Terms(fault),
                other => other,
            })?;
            self.told.learn(terms, ());
        }
        let deadline = Deadline::after(asked.time, closed)?;
        self.leaves = self.leaves.saturating_add(1);
        let id = self.leaves;
        let cpu_seconds = u32::try_from(asked.time.as_secs()).unwrap_or(u32::MAX);
        let head_bytes = u32::try_from(asked.head.len()).unwrap_or(u32::MAX);
        let descriptors: Vec<_> = memory.iter().map(OwnedFd::as_fd).collect();
        self.send(JudgeOrder::Leaf { id, terms, cpu_seconds, head_bytes, body }, &descriptors, &deadline)?;
        let reply: JudgeReply = self.answer(&deadline)?;
        reply.checked(id).map_err(|_| JudgeFault::Nonsense.into())
    }

    /// Have it know these terms.
    fn tell(&self, terms: &JudgeTerms, closed: &AtomicBool) -> Result<(), LinkError> {
        let deadline = Deadline::after(Duration::from_secs(TERMS_CPU_SECONDS.into()), closed)?;
        let order = JudgeOrder::Terms { terms: terms.id, has_scanner: terms.has_scanner() };
        self.send(order, &terms.descriptors(), &deadline)?;
        let reply: TermsReply = self.answer(&deadline)?;
        if reply.answers(terms.id) { Ok(()) } else { Err(JudgeFault::Nonsense.into()) }
    }

    fn send(
        &self,
        order: JudgeOrder,
        descriptors: &[BorrowedFd<'_>],
        deadline: &Deadline<'_>,
    ) -> Result<(), LinkError> {
        let request = JudgeRequest { version: PROTOCOL_VERSION, order };
        loop {
            match self.channel.send_now(&request, descriptors) {
                Err(error) if error.would_block() => self.wait(PollFlags::OUT, deadline)?,
                sent => return sent.map_err(|error| fault(&error).into()),
            }
        }
    }

    fn answer<T: DeserializeOwned>(&self, deadline: &Deadline<'_>) -> Result<T, LinkError> {
        loop {
            match self.channel.receive_now() {
                Err(error) if error.would_block() => self.wait(PollFlags::IN, deadline)?,
                Err(error) => return Err(fault(&error).into()),
                Ok((reply, descriptors)) if descriptors.is_empty() => return Ok(reply),
                Ok(_) => return Err(JudgeFault::Nonsense.into()),
            }
        }
    }

    fn wait(&self, flags: PollFlags, deadline: &Deadline<'_>) -> Result<(), LinkError> {
        if deadline.closed.load(Ordering::Relaxed) {
            return Err(LinkError::Closed);
        }
        let left = deadline.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(JudgeFault::Hangs.into());
        }
        let timeout = Timespec::try_from(left.min(CLOSE_LOOK)).map_err(|_| JudgeFault::Hangs)?;
        match poll(&mut [PollFd::new(&self.channel, flags)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(_) => Err(JudgeFault::Ended.into()),
        }
    }
}

/// What the channel says of a judge.
fn fault(error: &IpcError) -> JudgeFault {
    match error {
        IpcError::Malformed(_) | IpcError::TooLarge { .. } => JudgeFault::Nonsense,
        IpcError::Ended | IpcError::System { .. } => JudgeFault::Ended,
    }
}

/// In the message, or in sealed memory: octets are copied once either way.
fn body(LeafAsked { head, octets, .. }: &LeafAsked<'_>) -> Result<(LeafBody, Option<OwnedFd>), SealedError> {
    if head.len().saturating_add(octets.len()) <= INLINE_BYTES_MAX {
        return Ok((LeafBody::Inline(OctetString([*head, *octets].concat())), None));
    }
    Ok((LeafBody::Memory, Some(seal_parts(&[head, octets], BODY_BYTES_MAX)?)))
}
