//! Sections that were judged and that the client reads in pieces. Without them a message of 50 MB that Thunderbird reads
//! in pieces of 64 KiB and more would be fetched and judged a hundred times.
//!
//! A copy is shown only where the server still has the message: the same command asks it for the first octet.

use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::held::Held;
use crate::imap::fetch::Section;
use crate::imap::response::AnsweredForm;

/// A copy that nobody asked for this long is dropped: a client reads on within a round trip, and an idle session holds
/// no mail.
const REST: Duration = Duration::from_secs(60);

/// A section of a message.
pub(super) type CopyKey = (u32, AnsweredForm, Section);

/// A judged section, whole.
#[derive(Debug)]
pub(super) struct JudgedCopy {
    uid: u32,
    form: AnsweredForm,
    section: Section,
    /// The first octet as the server served it, by which the server is asked whether it is still the same.
    first: Option<u8>,
    held: Rc<Held>,
    range: Range<usize>,
}

impl JudgedCopy {
    pub(super) fn new(
        (uid, form, section): CopyKey,
        first: Option<u8>,
        held: Rc<Held>,
        range: Range<usize>,
    ) -> Self {
        Self { uid, form, section, first, held, range }
    }

    /// Whether the server's answer to `<0.1>` fits.
    pub(super) fn fits(&self, uid: Option<u32>, served: &[u8]) -> bool {
        uid == Some(self.uid) && served.len() <= 1 && served.first().copied() == self.first
    }

    /// The octets, and where the section stands in them.
    pub(super) fn parts(&self) -> (&Rc<Held>, &Range<usize>) {
        (&self.held, &self.range)
    }
}

/// The copy that was read last.
#[derive(Debug, Default)]
pub(super) struct Copies {
    last: Option<(Rc<JudgedCopy>, Instant)>,
}

impl Copies {
    /// The copy of this section.
    pub(super) fn find(&self, uid: u32, form: AnsweredForm, section: &Section) -> Option<Rc<JudgedCopy>> {
        let fits = |copy: &&JudgedCopy| copy.uid == uid && copy.form == form && copy.section == *section;
        self.last.as_ref().filter(|(copy, _)| fits(&&**copy)).map(|(copy, _)| Rc::clone(copy))
    }

    /// Keep a copy, in place of the one before.
    pub(super) fn keep(&mut self, copy: JudgedCopy, now: Instant) {
        self.last = now.checked_add(REST).map(|until| (Rc::new(copy), until));
    }

    /// A copy was shown.
    pub(super) fn used(&mut self, now: Instant) {
        if let (Some((_, until)), Some(later)) = (&mut self.last, now.checked_add(REST)) {
            *until = later;
        }
    }

    /// Another mailbox, or none: UIDs mean other messages.
    pub(super) fn clear(&mut self) {
        self.last = None;
    }

    /// When the copy is dropped.
    pub(super) fn due(&self) -> Option<Instant> {
        self.last.as_ref().map(|(_, until)| *until)
    }

    /// Drop it, where its time has come.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.due().is_some_and(|due| due <= now) {
            self.last = None;
        }
    }
}
