//! From octets of the server's to complete responses. One that is larger than what can be judged is read to its end and
//! thrown away.

use std::borrow::Cow;

use super::InspectRefusal;
use super::held::{reserve, try_hold};
use super::refusal::Refused;
use crate::accept::HeldLease;
use crate::imap::frame::{FrameBounds, FrameStep, Framer, LiteralHead, Speaker};

/// Octets of one response outside its literals. SEARCH answers with one line, of 8 MB for a million messages.
const RESPONSE_TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Octets that stand behind a literal, mostly: without room for them all of it would be moved once more.
const BEHIND_BYTES: usize = 1024;
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
    /// It is not complete: a literal of so many octets comes next. [`ServerInput::begun`] is what came of it.
    Announced(u64),
    /// Octets of a literal that streams, all of those that were taken.
    Streamed,
    /// What stands behind the literal that streamed.
    Tail(Vec<u8>),
}

/// A response with one literal, all of it at hand, though perhaps in several records.
pub(super) struct AtHand<'a> {
    /// Up to the literal.
    pub(super) prefix: Cow<'a, [u8]>,
    pub(super) literal: Vec<&'a [u8]>,
    pub(super) literal_octets: usize,
    /// What stands behind it.
    pub(super) tail: Cow<'a, [u8]>,
}

impl AtHand<'_> {
    pub(super) fn octets(&self) -> usize {
        self.prefix.len() + self.literal_octets + self.tail.len()
    }
}

/// Whether a literal of the response streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamState {
    None,
    /// It does: its octets are not kept.
    Literal,
    /// It did: what stands behind it is kept.
    Behind,
}

/// The octets up to the next literal or the end of the response, and which of both comes.
fn line<'a>(
    framer: &mut Framer,
    rest: &mut &'a [u8],
    octets: &mut impl Iterator<Item = &'a [u8]>,
) -> Option<(Cow<'a, [u8]>, FrameStep)> {
    let mut line = Cow::Borrowed([].as_slice());
    loop {
        let frame = framer.take(rest).ok()?;
        let (now, later) = rest.split_at_checked(frame.octets)?;
        *rest = later;
        match line.is_empty() {
            true => line = Cow::Borrowed(now),
            false => line.to_mut().extend_from_slice(now),
        }
        match frame.step {
            FrameStep::More => *rest = octets.next()?,
            step => return Some((line, step)),
        }
    }
}

/// The server's stream, between two responses or inside one.
pub(super) struct ServerInput {
    framer: Framer,
    unit: Vec<u8>,
    lease: Option<HeldLease>,
    discards: Option<Refused>,
    streaming: StreamState,
    /// Whether a literal of this response was looked at, as one of a message that may be known.
    looked_at: bool,
    message_max: u64,
}

impl ServerInput {
    pub(super) fn new(message_max: u64) -> Self {
        let framer = Framer::new(Speaker::Server, FrameBounds { text: RESPONSE_TEXT_BYTES_MAX });
        Self {
            framer,
            unit: Vec::new(),
            lease: None,
            discards: None,
            streaming: StreamState::None,
            looked_at: false,
            message_max,
        }
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

    /// The response as far as it came.
    pub(super) fn begun(&self) -> &[u8] {
        &self.unit
    }

    /// Whether the literal that was announced may be a message that streams, by the label before it. It is so once in a
    /// response, because all that came of the response is read then: one of a million literals must not be read a million
    /// times. Behind a message, no other one streams.
    pub(super) fn announces_message(&mut self) -> bool {
        const LABELS: [&[u8]; 2] = [b"BODY[] ", b"RFC822 "];
        let brace = self.unit.iter().rposition(|octet| *octet == b'{').unwrap_or_default();
        let before = self.unit.get(..brace).unwrap_or_default();
        let label = before.get(before.len().saturating_sub(7)..).unwrap_or_default();
        let is_message = LABELS.iter().any(|known| label.eq_ignore_ascii_case(known));
        is_message && !std::mem::replace(&mut self.looked_at, true)
    }

    /// The literal that was announced streams: its octets are not kept, nor is what came before it.
    pub(super) fn stream(&mut self) {
        self.streaming = StreamState::Literal;
        self.unit = Vec::new();
    }

    /// Octets of the literal that streams went on unseen.
    pub(super) fn moved(&mut self, octets: u64) {
        self.framer.skip_literal(octets);
        if self.streaming == StreamState::Literal && self.framer.literal_left() == 0 {
            self.streaming = StreamState::Behind;
        }
    }

    /// Octets of the literal that streams that are still to come; 0 where none does.
    pub(super) const fn left(&self) -> u64 {
        match self.streaming {
            StreamState::Literal => self.framer.literal_left(),
            StreamState::None | StreamState::Behind => 0,
        }
    }

    /// The literal does not stream after all: this is the response as far as it came.
    pub(super) fn hold(&mut self, unit: &[u8], lease: impl FnOnce() -> HeldLease) {
        self.streaming = StreamState::None;
        self.lease = None;
        self.unit = Vec::new();
        self.keep(unit, lease);
    }

    /// The response that begins with these octets, if all of it is there and it has one literal. Nothing is taken.
    pub(super) fn at_hand<'a>(&self, mut octets: impl Iterator<Item = &'a [u8]>) -> Option<AtHand<'a>> {
        if self.is_inside() {
            return None;
        }
        let (mut framer, mut rest) = (self.framer, octets.next()?);
        let (prefix, step) = line(&mut framer, &mut rest, &mut octets)?;
        let FrameStep::Literal(LiteralHead { octets: length, .. }) = step else { return None };
        let literal_octets = usize::try_from(length).ok()?;
        let (mut literal, mut left) = (Vec::new(), literal_octets);
        while left > 0 {
            if rest.is_empty() {
                rest = octets.next()?;
            }
            let (now, later) = rest.split_at_checked(left).unwrap_or((rest, &[]));
            literal.push(now);
            (rest, left) = (later, left - now.len());
        }
        framer.skip_literal(length);
        let (tail, step) = line(&mut framer, &mut rest, &mut octets)?;
        (step == FrameStep::Whole).then_some(AtHand { prefix, literal, literal_octets, tail })
    }

    /// Take octets in, at most to the end of a response; how many.
    pub(super) fn take(
        &mut self,
        octets: &[u8],
        lease: impl FnOnce() -> HeldLease,
    ) -> Result<(usize, Option<Whole>), InspectRefusal> {
        let begins = self.framer.is_at_boundary();
        let is_streaming = self.streaming == StreamState::Literal;
        let frame = self.framer.take(octets).map_err(InspectRefusal::ServerFraming)?;
        let taken = octets.get(..frame.octets).unwrap_or_default();
        if is_streaming {
            if self.framer.literal_left() == 0 {
                self.streaming = StreamState::Behind;
            }
            return Ok((frame.octets, Some(Whole::Streamed)));
        }
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
                return Ok((frame.octets, Some(Whole::Announced(head.octets))));
            }
        }
        let whole = is_whole.then(|| {
            self.looked_at = false;
            let unit = std::mem::take(&mut self.unit);
            let did_stream = std::mem::replace(&mut self.streaming, StreamState::None) != StreamState::None;
            if did_stream && self.discards.is_none() {
                self.lease = None;
                return Whole::Tail(unit);
            }
            match (self.discards.take(), self.lease.take()) {
                (None, Some(lease)) => Whole::Copied(unit, lease),
                (refused, _) => Whole::Discarded(refused.unwrap_or(Refused::NoRoom), unit),
            }
        });
        Ok((frame.octets, whole))
    }

    /// A literal is kept. Its room is reserved, not touched: octets that are announced and never come take nothing.
    pub(super) fn reserve(&mut self, octets: u64) {
        reserve(&mut self.unit, octets, BEHIND_BYTES);
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
