//! Files in the text of a mail, and what wraps a mail: uuencode, yEnc, TNEF, S/MIME, OpenPGP.
//!
//! Clients look for these in any leaf, whatever its type says, and each one tells itself by its octets: so every file is
//! asked, and not only files of some real type. All of it is one pass over the octets for each kind.

mod armor;
mod cms;
mod pgp;
mod tnef;
mod uuencode;
mod yenc;

use std::borrow::Cow;
use std::io::Read;

use super::{BeyondLimits, Conditions, Member, OpenBounds, Visit};
use crate::content::Condition;

/// Characters of a name that a file in a text has. The rules compare no longer ones, so a longer one hides its end.
const NAME_CHARS_MAX: usize = crate::content::rules::NAME_CHARS_MAX;

/// Whether something that [`open`] opens may begin in these octets. It costs a search for a few words.
#[must_use]
pub fn may_hold(octets: &[u8]) -> bool {
    tnef::is_tnef(octets)
        || cms::is_cms(octets)
        || cms::is_cms_in_base64(octets)
        || pgp::is_openpgp(octets)
        || uuencode::may_hold(octets)
        || yenc::may_hold(octets)
        || armor::may_hold(octets)
}

/// Have each file in these octets visited. Returns what was found beside them.
pub fn open(octets: &[u8], bounds: &mut OpenBounds, visit: &mut Visit<'_>) -> Conditions {
    let mut opening = Opening { bounds, visit, found: Conditions::new(), is_over: false };
    if tnef::is_tnef(octets) {
        tnef::open(octets, &mut opening);
    } else if cms::is_cms(octets) {
        cms::open(octets, &mut opening);
    } else if cms::is_cms_in_base64(octets) {
        opening.encoded(octets);
    } else if pgp::is_openpgp(octets) {
        pgp::open(octets, &mut opening);
    }
    // A text may follow what is none, and a file of any type may be read as a text.
    uuencode::open(octets, &mut opening);
    yenc::open(octets, &mut opening);
    armor::open(octets, &mut opening);
    opening.found
}

/// An opening in progress: takes what is made out of the bounds, and hands members on.
struct Opening<'o, 'v> {
    bounds: &'o mut OpenBounds,
    visit: &'o mut Visit<'v>,
    found: Conditions,
    /// The visitor wants no more, or the bounds are reached.
    is_over: bool,
}

impl Opening<'_, '_> {
    fn found(&mut self, condition: Condition) {
        self.found.insert(condition);
    }

    /// So many octets are about to be made. False: they must not be.
    fn take(&mut self, octets: usize) -> bool {
        match self.bounds.octets(octets as u64) {
            Ok(()) => true,
            Err(BeyondLimits) => self.beyond(),
        }
    }

    fn beyond(&mut self) -> bool {
        self.found(Condition::ArchiveLimits);
        self.is_over = true;
        false
    }

    /// Hand a file on. Its octets are those of the file around it, or were taken before.
    fn give(&mut self, names: Vec<String>, octets: Cow<'_, [u8]>) {
        self.give_typed(names, Vec::new(), octets);
    }

    fn give_typed(&mut self, names: Vec<String>, declared_types: Vec<String>, octets: Cow<'_, [u8]>) {
        if self.is_over {
            return;
        }
        if self.bounds.member().is_err() {
            self.beyond();
            return;
        }
        self.is_over = (self.visit)(self.bounds, Member { names, declared_types, octets }).is_break();
    }

    /// Hand on what these octets are as base64.
    fn encoded(&mut self, octets: &[u8]) {
        if self.take(octets.len()) {
            let decoded = crate::content::Reading::Base64.decoded(octets);
            self.give(Vec::new(), Cow::Owned(decoded));
        }
    }

    /// All that a decompressor gives of so many octets. None beyond the bounds. What is damaged gives its beginning.
    fn inflated(&mut self, reader: impl Read, compressed: usize) -> Option<Vec<u8>> {
        let room = self.bounds.room(compressed as u64);
        let mut out = Vec::new();
        let is_whole = reader.take(room.saturating_add(1)).read_to_end(&mut out).is_ok();
        if out.len() as u64 > room || !self.take(out.len()) {
            self.beyond();
            return None;
        }
        if !is_whole {
            self.found(Condition::BrokenFile);
        }
        Some(out)
    }

    /// The name that these octets are. One that is too long to be compared is a verdict of its own.
    fn name(&mut self, octets: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(octets.get(..NAME_CHARS_MAX.saturating_mul(4)).unwrap_or(octets));
        self.cleaned(&text)
    }

    fn cleaned(&mut self, text: &str) -> Vec<String> {
        if text.chars().count() > NAME_CHARS_MAX {
            self.found(Condition::MimeLimits);
        }
        let name: String = text.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
        let name = name.trim();
        if name.is_empty() { Vec::new() } else { vec![name.to_owned()] }
    }
}

/// Whether a line begins at `at`.
fn begins_line(octets: &[u8], at: usize) -> bool {
    at.checked_sub(1).is_none_or(|before| matches!(octets.get(before), Some(b'\r' | b'\n')))
}

/// The next place, from `at` on, at which `word` begins a line.
fn next_word(octets: &[u8], word: &[u8], at: usize) -> Option<usize> {
    let places = memchr::memmem::find_iter(octets.get(at..)?, word);
    places.map(|place| place.saturating_add(at)).find(|place| begins_line(octets, *place))
}

/// Writers of what is read here.
#[cfg(test)]
pub(in crate::content) mod samples;
#[cfg(test)]
mod tests;
