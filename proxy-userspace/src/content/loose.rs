//! Octets that a client could read as a leaf where the walker sees none.
//!
//! The walk knows what headers declare. A server or client that goes by other rules may find a leaf elsewhere: so the
//! whole content behind the header is searched once more without regard to structure, for the EICAR test file in every
//! reading and alignment, and for lines at which a program begins.

use memchr::memchr;

use super::alphabet::is_all;
use super::eicar::{Eicar, EicarInBase64};
use super::header::line_at;
use super::magic::may_begin;
use super::reading::{Decoder, QuotedPrintableDecoder, Reading};

/// Octets searched at once: where the string is found, they are searched again one by one for its place.
pub(super) const SWEEP_BYTES: usize = 16 << 10;
/// Octets at a line's beginning that are decoded to see whether a program may begin there.
const GLANCE_BYTES: usize = 16;

/// A search for the EICAR test file in all readings at once.
#[derive(Default)]
pub(super) struct Sweep {
    searches: Searches,
    out: Vec<u8>,
}

#[derive(Clone, Default)]
struct Searches {
    plain: Eicar,
    quoted: (QuotedPrintableDecoder, Eicar),
    base64: EicarInBase64,
}

impl Sweep {
    /// The next octets, which stand at `at`. Places at which the string ends are added to `found`.
    pub(super) fn push(&mut self, octets: &[u8], at: usize, found: &mut Vec<usize>) {
        let before = self.searches.clone();
        if !self.search(octets) {
            return;
        }
        self.searches = before;
        for (place, octet) in (at..).zip(octets) {
            if self.search(std::slice::from_ref(octet)) {
                found.push(place);
            }
        }
    }

    /// No more octets: an unfinished quantum may hold the end of the string.
    pub(super) fn finish(&mut self, at: usize, found: &mut Vec<usize>) {
        self.searches.base64.padding();
        if self.searches.base64.take_found() {
            found.push(at.saturating_sub(1));
        }
    }

    fn search(&mut self, octets: &[u8]) -> bool {
        let Searches { plain, quoted: (decoder, quoted), base64 } = &mut self.searches;
        base64.push(octets);
        // Without a `=` quoted-printable is what it stands for, and one search is enough.
        let is_same = *quoted == *plain && decoder.is_plain() && memchr(b'=', octets).is_none();
        plain.push(octets);
        if is_same {
            *quoted = *plain;
        } else {
            self.out.clear();
            decoder.push(octets, &mut self.out);
            quoted.push(&self.out);
        }
        // Not one after the other with `||`: each must be asked, so that none is reported twice.
        plain.take_found() | quoted.take_found() | base64.take_found()
    }
}

/// A line at which a program may begin, in one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) at: usize,
    pub(super) reading: Reading,
}

/// Goes through the lines of a content, for those at which a program may begin: the first one of each run of base64
/// lines, and any line in the other readings. Only the first octets of a line are looked at.
pub(super) struct Candidates<'c> {
    content: &'c [u8],
    at: usize,
    is_in_run: bool,
    out: Vec<u8>,
}

impl<'c> Candidates<'c> {
    pub(super) fn new(content: &'c [u8], at: usize) -> Self {
        Self { content, at, is_in_run: false, out: Vec::with_capacity(GLANCE_BYTES) }
    }

    /// Where the next line begins.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// The readings of the next line in which a program may begin there. None at the end.
    pub(super) fn next(&mut self) -> Option<Vec<Candidate>> {
        let line = line_at(self.content, self.at)?;
        let text = self.content.get(line.range.clone()).unwrap_or_default();
        let at = std::mem::replace(&mut self.at, line.next);
        let continues_run = std::mem::replace(&mut self.is_in_run, is_base64_line(text));
        // A line without a character of its own begins nothing: the next one does.
        if continues_run || !text.iter().any(|octet| octet.is_ascii_alphanumeric() || *octet > 0x7e) {
            return Some(Vec::new());
        }
        // The line end counts as an octet where the octets stand for themselves.
        let glance = self.content.get(at..).unwrap_or_default();
        let glance = glance.get(..GLANCE_BYTES).unwrap_or(glance);
        let as_it_stands = is_candidate(Reading::Identity, glance);
        let found = Reading::ALL.into_iter().filter(|reading| {
            // Without a `=` quoted-printable is what it stands for.
            if *reading == Reading::Identity
                || *reading == Reading::QuotedPrintable && !glance.contains(&b'=')
            {
                return as_it_stands;
            }
            self.out.clear();
            Decoder::new(*reading).push(glance, &mut self.out);
            is_candidate(*reading, &self.out)
        });
        Some(found.map(|reading| Candidate { at, reading }).collect())
    }
}

/// An interpreter line in the middle of a text is a text about scripts.
fn is_candidate(reading: Reading, decoded: &[u8]) -> bool {
    may_begin(decoded) && (reading == Reading::Base64 || !decoded.starts_with(b"#!"))
}

fn is_base64_line(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    // Padding ends a run: another one may follow directly.
    line.len() >= 4 && is_all(line)
}
