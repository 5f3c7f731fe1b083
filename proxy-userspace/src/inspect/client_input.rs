//! From octets of the client's to complete commands. Each literal is asked for here, once, before the server has seen
//! anything of its command; one that is too large is never asked for.

use std::ops::Range;
use std::sync::Arc;

use super::InspectRefusal;
use super::held::{Held, reserve, try_hold};
use super::imap_terms::{ImapTerms, NO_LOGIN};
use super::refusal::Refused;
use super::request::{no, tagged};
use crate::accept::HeldLease;
use crate::imap::command::{Verb, peek};
use crate::imap::frame::{FrameBounds, FrameStep, Framer, FramingFault, LiteralHead, Speaker};

/// Octets of all literals in one command that uploads nothing: names, passwords, search strings.
const COMMAND_LITERALS_BYTES_MAX: u64 = 64 * 1024;
/// Octets that stand behind a literal, mostly: without room for them all of it would be moved once more.
const BEHIND_BYTES: usize = 64;
/// Literals in one command.
const LITERALS_MAX: usize = 1_000;

/// A complete command, with its literals where they stand.
#[derive(Debug)]
pub(super) struct Unit {
    octets: Vec<u8>,
    lease: HeldLease,
    /// Where each literal is announced: `{5}` and the line end.
    heads: Vec<(Range<usize>, LiteralHead)>,
}

impl Unit {
    /// The octets as the client sent them; line ends are CRLF.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Octets on the heap.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        self.octets.capacity() + self.heads.capacity() * size_of::<(Range<usize>, LiteralHead)>()
    }

    /// Literal heads, in order.
    pub(super) fn heads(&self) -> &[(Range<usize>, LiteralHead)] {
        &self.heads
    }

    /// The octets, to be judged, and what they take.
    pub(super) fn into_parts(self) -> (Vec<u8>, HeldLease) {
        (self.octets, self.lease)
    }

    /// The octets, to be shown.
    pub(super) fn into_held(self) -> Held {
        Held::new(self.octets, self.lease)
    }
}

/// What came of the client's octets.
#[derive(Debug)]
pub(super) enum Input {
    /// A literal may come: `+` is due.
    Continue,
    /// The command is refused before it was complete: the tagged line.
    Refuse(Vec<u8>),
    /// A complete command, or a line of a dialogue.
    Complete(Unit),
}

/// The client's stream, between two commands or inside one.
pub(super) struct ClientInput {
    framer: Framer,
    unit: Option<Box<Unit>>,
    /// The command is refused, but its octets come all the same: what the client is told when they have come.
    discards: Option<Vec<u8>>,
    message_max: u64,
    imap: Arc<ImapTerms>,
}

impl ClientInput {
    pub(super) fn new(message_max: u64, imap: Arc<ImapTerms>) -> Self {
        Self { framer: framer(&imap), unit: None, discards: None, message_max, imap }
    }

    /// Whether a command has begun.
    pub(super) const fn is_inside(&self) -> bool {
        !self.framer.is_at_boundary()
    }

    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        let unit = self.unit.as_ref().map_or(0, |unit| size_of::<Unit>() + unit.heap());
        unit + self.discards.as_ref().map_or(0, Vec::capacity)
    }

    /// Take octets in. `lease` makes a new lease of `limits.held`; `later` says what policy says about IMAP for a command that
    /// begins now, where that is not the same as before.
    pub(super) fn take(
        &mut self,
        mut octets: &[u8],
        lease: impl Fn() -> HeldLease,
        mut later: impl FnMut(&Arc<ImapTerms>) -> Option<Arc<ImapTerms>>,
        inputs: &mut Vec<Input>,
    ) -> Result<(), InspectRefusal> {
        while !octets.is_empty() {
            if self.framer.is_at_boundary()
                && let Some(imap) = later(&self.imap)
            {
                self.framer = framer(&imap);
                self.imap = imap;
            }
            let frame = self.framer.take(octets).map_err(|fault| match fault {
                FramingFault::TooLong(octets) => InspectRefusal::LineTooLong(octets),
                fault => InspectRefusal::ClientFraming(fault),
            })?;
            let (now, later) = octets.split_at_checked(frame.octets).unwrap_or((octets, &[]));
            octets = later;
            self.keep(now, frame.bare_line_feed, &lease);
            match frame.step {
                FrameStep::More => {}
                FrameStep::Literal(head) => inputs.extend(self.literal(head)),
                FrameStep::Whole => match self.discards.take() {
                    Some(words) => inputs.push(Input::Refuse(words)),
                    None => inputs.extend(self.unit.take().map(|unit| Input::Complete(*unit))),
                },
            }
        }
        Ok(())
    }

    fn keep(&mut self, octets: &[u8], bare_line_feed: bool, lease: &impl Fn() -> HeldLease) {
        if self.discards.is_some() {
            return;
        }
        let unit = self
            .unit
            .get_or_insert_with(|| Box::new(Unit { octets: Vec::new(), lease: lease(), heads: Vec::new() }));
        if !try_hold(&mut unit.lease, unit.octets.len(), octets.len()) {
            return self.discard(Refused::NoRoom);
        }
        match octets.split_last().filter(|_| bare_line_feed) {
            Some((_, line)) => {
                unit.octets.extend_from_slice(line);
                unit.octets.extend_from_slice(b"\r\n");
            }
            None => unit.octets.extend_from_slice(octets),
        }
    }

    fn literal(&mut self, head: LiteralHead) -> Option<Input> {
        if self.discards.is_none() {
            self.admit(head);
        }
        match &self.discards {
            // The client waits, and does not send the literal: the command is over.
            Some(_) if head.sync => {
                self.framer = framer(&self.imap);
                self.discards.take().map(Input::Refuse)
            }
            Some(_) => None,
            None => head.sync.then_some(Input::Continue),
        }
    }

    /// Note a literal, or refuse its command.
    fn admit(&mut self, head: LiteralHead) {
        let Some(unit) = &mut self.unit else { return };
        let verb = peek(&unit.octets).map(|(_, verb)| verb);
        let uploads = matches!(verb, Some(Verb::Append | Verb::Replace));
        let announced: u64 = unit.heads.iter().map(|(_, head)| head.octets).sum();
        let total = announced.saturating_add(head.octets);
        let end = unit.octets.len();
        let begin = unit.octets.iter().rposition(|octet| *octet == b'{').unwrap_or(end);
        unit.heads.push((begin..end, head));
        // Nothing is reserved: a client that announces a message and never sends it takes no room.
        let has_room = !uploads || unit.lease.has_room(head.octets);
        if verb == Some(Verb::Login) && !self.imap.takes_login() {
            // The password has not left the client, where it waits to be asked.
            self.discard_with(|tag| tagged(tag, "NO", NO_LOGIN));
        } else if let Some(why) = self.imap.refuses_literal(verb, head.sync) {
            self.discard_with(|tag| tagged(tag, "BAD", &why));
        } else if uploads && total > self.message_max {
            self.discard(Refused::TooLarge);
        } else if !has_room {
            self.discard(Refused::NoRoom);
        } else if (!uploads && total > COMMAND_LITERALS_BYTES_MAX) || unit.heads.len() > LITERALS_MAX {
            self.discard_with(|tag| tagged(tag, "BAD", "Too many or too large literals in one command"));
        } else {
            // Reserved, not touched: a client that sends nothing takes nothing.
            reserve(&mut unit.octets, head.octets, BEHIND_BYTES);
        }
    }

    fn discard(&mut self, refused: Refused) {
        self.discard_with(|tag| no(tag, refused));
    }

    fn discard_with(&mut self, words: impl FnOnce(&[u8]) -> Vec<u8>) {
        let unit = self.unit.take();
        let tag = unit.as_ref().and_then(|unit| peek(&unit.octets)).map(|(tag, _)| tag);
        self.discards = Some(words(tag.unwrap_or(b"*")));
    }
}

fn framer(imap: &ImapTerms) -> Framer {
    Framer::new(Speaker::Client, FrameBounds { text: imap.line_bytes_max() })
}
