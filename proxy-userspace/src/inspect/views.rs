//! Sections that were judged and that the client reads in pieces. Without them a message of 50 MB that Thunderbird reads
//! in pieces of 64 KiB and more would be fetched and judged a hundred times.
//!
//! A section that was shown in part stays pinned, so that no client gets two versions of it in one piece. A copy is shown
//! only where the server still has the message: the same command asks it for the first octet.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::imap::fetch::{Partial, Section};
use crate::imap::response::AnsweredForm;
use crate::vault::SpoolCopy;

/// Sections that a session keeps; the one that was shown least recently goes first.
const PINS_MAX: usize = 64;
/// When nothing was shown for this long, a session keeps nothing: no client reads on so late.
const REST: Duration = Duration::from_secs(600);

/// A section of a message.
pub(super) type CopyKey = (u32, AnsweredForm, Section);

/// A judged section, whole.
#[derive(Debug)]
pub(super) struct JudgedCopy {
    key: CopyKey,
    /// The sequence number that the message had when it was judged. It may have another one by now: what says which message
    /// it is, is the UID.
    number: u32,
    /// The first octet as the server served it, by which the server is asked whether it is still the same.
    first: Option<u8>,
    octets: SpoolCopy,
}

impl JudgedCopy {
    pub(super) const fn new(key: CopyKey, number: u32, first: Option<u8>, octets: SpoolCopy) -> Self {
        Self { key, number, first, octets }
    }

    /// Whether the server's answer to `<0.1>` fits.
    pub(super) fn fits(&self, uid: Option<u32>, served: &[u8]) -> bool {
        uid == Some(self.key.0) && served.len() <= 1 && served.first().copied() == self.first
    }

    /// The octets of a range, and where they stand (RFC 9051 section 6.4.5: behind the end nothing).
    pub(super) fn range(&self, partial: Partial) -> (SpoolCopy, Range<u64>) {
        let length = self.octets.length();
        let start = u64::from(partial.start).min(length);
        let end = start.saturating_add(u64::from(partial.octets)).min(length);
        (self.octets.clone(), start..end)
    }
}

/// The sections of one mailbox that a session keeps, the one shown last at the end.
#[derive(Debug, Default)]
pub(super) struct Copies {
    pins: VecDeque<Rc<JudgedCopy>>,
    until: Option<Instant>,
    /// Counted up with each change of the mailbox. A verdict may come after it, and UIDs mean other messages then.
    turn: u64,
}

impl Copies {
    /// The copy of this section of a message, by UID or by sequence number. By its number it may be of another message: the
    /// server's answer has a UID, by which that is seen.
    pub(super) fn find(
        &self,
        is_uid: bool,
        number: u32,
        form: AnsweredForm,
        section: &Section,
    ) -> Option<Rc<JudgedCopy>> {
        let is_it = |copy: &&Rc<JudgedCopy>| {
            let (uid, by, whole) = &copy.key;
            let of = if is_uid { *uid } else { copy.number };
            of == number && *by == form && whole == section
        };
        self.pins.iter().rev().find(is_it).map(Rc::clone)
    }

    /// Keep a copy, in place of an older one of the same section. It is dropped where it is of a mailbox that was left.
    pub(super) fn pin(&mut self, copy: JudgedCopy, turn: u64, now: Instant) {
        if turn != self.turn {
            return;
        }
        self.pins.retain(|pinned| pinned.key != copy.key);
        if self.pins.len() >= PINS_MAX {
            self.pins.pop_front();
        }
        self.pins.push_back(Rc::new(copy));
        self.until = now.checked_add(REST);
    }

    /// A copy is shown.
    pub(super) fn show(&mut self, copy: &Rc<JudgedCopy>, now: Instant) {
        if let Some(at) = self.pins.iter().position(|pinned| Rc::ptr_eq(pinned, copy)) {
            let shown = self.pins.remove(at);
            self.pins.extend(shown);
            self.until = now.checked_add(REST);
        }
    }

    /// The mailbox that is selected now, as [`Self::pin`] wants it.
    pub(super) const fn turn(&self) -> u64 {
        self.turn
    }

    /// Another mailbox, or none: UIDs mean other messages.
    pub(super) fn leave_mailbox(&mut self) {
        self.turn += 1;
        self.clear();
    }

    /// Nobody reads on, or a copy turned out to be of something else.
    pub(super) fn clear(&mut self) {
        self.pins = VecDeque::new();
        self.until = None;
    }

    /// When all are dropped.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.until
    }

    /// Drop all, where their time has come.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.clear();
        }
    }

    /// Octets on the heap beside the copies, which the spool counts.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        self.pins.capacity() * size_of::<Rc<JudgedCopy>>()
    }
}
