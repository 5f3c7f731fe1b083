//! From octets of the server's to complete responses. One that is larger than what can be judged is read to its end and
//! thrown away.

use super::InspectRefusal;
use super::held::try_hold;
use super::refusal::Refused;
use crate::accept::HeldLease;
use crate::imap::frame::{FrameBounds, FrameStep, Framer, Speaker};

/// Octets of one response outside its literals. SEARCH answers with one line, of 8 MB for a million messages.
const RESPONSE_TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The beginning of a response that is thrown away, by which it is told what it was: the longest tag, and `OK`.
const BEGIN_BYTES: usize = 264;

/// A complete response.
#[derive(Debug)]
pub(super) enum Whole {
    /// It stands in the octets that were taken, all of them.
    InBatch,
    /// It came in pieces.
    Copied(Vec<u8>, HeldLease),
    /// It was thrown away: why, and how it began.
    Discarded(Refused, Vec<u8>),
}

/// The server's stream, between two responses or inside one.
pub(super) struct ServerInput {
    framer: Framer,
    unit: Vec<u8>,
    lease: Option<HeldLease>,
    discards: Option<Refused>,
    message_max: u64,
}

impl ServerInput {
    pub(super) fn new(message_max: u64) -> Self {
        let framer = Framer::new(Speaker::Server, FrameBounds { text: RESPONSE_TEXT_BYTES_MAX });
        Self { framer, unit: Vec::new(), lease: None, discards: None, message_max }
    }

    /// Whether a response has begun.
    pub(super) const fn is_inside(&self) -> bool {
        !self.framer.is_at_boundary()
    }

    /// Whether the rest of a response that has begun is waited for.
    pub(super) fn is_holding(&self) -> bool {
        self.is_inside()
    }

    #[cfg(test)]
    pub(super) const fn heap(&self) -> usize {
        self.unit.capacity()
    }

    /// Take octets in, at most to the end of a response; how many.
    pub(super) fn take(
        &mut self,
        octets: &[u8],
        lease: impl FnOnce() -> HeldLease,
    ) -> Result<(usize, Option<Whole>), InspectRefusal> {
        let begins = self.framer.is_at_boundary();
        let frame = self.framer.take(octets).map_err(InspectRefusal::ServerFraming)?;
        let taken = octets.get(..frame.octets).unwrap_or_default();
        let is_whole = frame.step == FrameStep::Whole;
        if begins && is_whole {
            return Ok((frame.octets, Some(Whole::InBatch)));
        }
        self.keep(taken, lease);
        if let FrameStep::Literal(head) = frame.step {
            if self.unit.len() as u64 + head.octets > self.message_max + RESPONSE_TEXT_BYTES_MAX as u64
                || head.octets > self.message_max
            {
                self.discard(Refused::TooLarge);
            } else if self.discards.is_none() {
                // Reserved, not touched: octets that are announced and never come take nothing.
                self.unit.reserve_exact(usize::try_from(head.octets).unwrap_or_default());
            }
        }
        let whole = is_whole.then(|| {
            let unit = std::mem::take(&mut self.unit);
            match (self.discards.take(), self.lease.take()) {
                (None, Some(lease)) => Whole::Copied(unit, lease),
                (refused, _) => Whole::Discarded(refused.unwrap_or(Refused::NoRoom), unit),
            }
        });
        Ok((frame.octets, whole))
    }

    fn keep(&mut self, octets: &[u8], lease: impl FnOnce() -> HeldLease) {
        if self.discards.is_some() {
            return;
        }
        let held = self.lease.get_or_insert_with(lease);
        if try_hold(held, self.unit.len(), octets.len()) {
            self.unit.extend_from_slice(octets);
        } else {
            self.discard(Refused::NoRoom);
        }
    }

    fn discard(&mut self, refused: Refused) {
        self.discards = Some(self.discards.unwrap_or(refused));
        self.lease = None;
        let mut began = std::mem::take(&mut self.unit);
        began.truncate(BEGIN_BYTES);
        began.shrink_to_fit();
        self.unit = began;
    }
}
