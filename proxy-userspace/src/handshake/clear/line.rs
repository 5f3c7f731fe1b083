//! Lines of IMAP in clear text: the first two words are kept, the rest is counted.

use std::fmt;

use thiserror::Error;

/// The longest line, its CRLF and the literals' announcements included; RFC 9051 section 7 (and RFC 7162 section
/// 4 before it) asks clients to stay under 8,192 octets.
pub const LINE_BYTES_MAX: usize = 8192;

/// The longest tag that is answered. Clients use up to a dozen octets; the tag is echoed, so it is bounded.
pub const TAG_BYTES_MAX: usize = 64;

/// The longest command or status word that is kept; the longest that means anything here is AUTHENTICATE.
pub const VERB_BYTES_MAX: usize = 32;

/// Why octets are not a line of IMAP.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LineFault {
    /// LF without CR: some peers take it for a line end and some do not, which is how commands are smuggled.
    #[error("a line feed without carriage return")]
    BareLf,
    /// CR without LF.
    #[error("a carriage return without line feed")]
    BareCr,
    /// RFC 9051 section 9: NUL appears nowhere outside of literal8.
    #[error("a NUL octet")]
    Nul,
    /// A control character or an octet above 126 where a tag, a command or a status belongs.
    #[error("a binary octet where IMAP has a word")]
    Binary,
    /// More than so many octets without a line end: [`LINE_BYTES_MAX`], or less under a policy.
    #[error("a line of more than {0} octets")]
    TooLong(usize),
}

impl LineFault {
    /// The word in records.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::BareCr => "bare_cr",
            Self::Nul => "nul_octet",
            Self::Binary => "binary_octet",
            Self::TooLong(_) => "line_too_long",
        }
    }
}

/// A literal announced at the end of a line (RFC 9051 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    /// How many octets follow; saturated, so that a length over 64 bits is still "too much".
    pub(super) octets: u64,
    /// `{n}`: the sender waits for `+` before it sends them. `{n+}` does not wait.
    pub(super) synchronizing: bool,
}

/// A word of bounded length; what is beyond the bound is lost and the word is no word.
struct Word {
    octets: Vec<u8>,
    bytes_max: usize,
    overlong: bool,
}

impl Word {
    const fn new(bytes_max: usize) -> Self {
        Self { octets: Vec::new(), bytes_max, overlong: false }
    }

    fn push(&mut self, octet: u8) {
        if self.octets.len() < self.bytes_max {
            self.octets.push(octet);
        } else {
            self.overlong = true;
        }
    }

    fn get(&self) -> Option<&[u8]> {
        (!self.overlong).then_some(self.octets.as_slice())
    }

    fn clear(&mut self) {
        self.octets.clear();
        self.overlong = false;
    }
}

/// Where in the line the next octet stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinePart {
    First,
    Second,
    Rest,
}

/// How much of `{n}` or `{n+}` the octets just before the line end are.
#[derive(Clone, Copy)]
enum Announcement {
    None,
    Length { octets: u64, digits: bool },
    Plus { octets: u64 },
    Closed(Literal),
}

impl Announcement {
    fn after(self, octet: u8) -> Self {
        match (self, octet) {
            (_, b'{') => Self::Length { octets: 0, digits: false },
            (Self::Length { octets, .. }, b'0'..=b'9') => {
                let octets = octets.saturating_mul(10).saturating_add(u64::from(octet - b'0'));
                Self::Length { octets, digits: true }
            }
            (Self::Length { octets, digits: true }, b'+') => Self::Plus { octets },
            (Self::Length { octets, digits: true }, b'}') => {
                Self::Closed(Literal { octets, synchronizing: true })
            }
            (Self::Plus { octets }, b'}') => Self::Closed(Literal { octets, synchronizing: false }),
            _ => Self::None,
        }
    }
}

/// Reads one line at a time. The same octets give the same lines however they were split on the way.
pub(super) struct LineReader {
    first: Word,
    second: Word,
    part: LinePart,
    after_cr: bool,
    announcement: Announcement,
    octets: usize,
    /// Octets of the longest line.
    bytes_max: usize,
}

impl LineReader {
    pub(super) const fn new() -> Self {
        Self {
            bytes_max: LINE_BYTES_MAX,
            first: Word::new(TAG_BYTES_MAX),
            second: Word::new(VERB_BYTES_MAX),
            part: LinePart::First,
            after_cr: false,
            announcement: Announcement::None,
            octets: 0,
        }
    }

    /// With a lower bound on lines, in octets; a higher one than [`LINE_BYTES_MAX`] changes nothing.
    pub(super) const fn bound(&mut self, octets: usize) {
        if octets < self.bytes_max {
            self.bytes_max = octets;
        }
    }

    /// Take one octet; true when it ended a line, which can then be asked for its words.
    ///
    /// # Errors
    /// The octet cannot belong to a line, or the line is too long.
    pub(super) fn push(&mut self, octet: u8) -> Result<bool, LineFault> {
        self.octets += 1;
        match octet {
            b'\n' if self.after_cr => return Ok(true),
            _ if self.after_cr => return Err(LineFault::BareCr),
            b'\n' => return Err(LineFault::BareLf),
            0 => return Err(LineFault::Nul),
            _ if self.octets >= self.bytes_max => return Err(LineFault::TooLong(self.bytes_max)),
            b'\r' => self.after_cr = true,
            _ => {
                self.announcement = self.announcement.after(octet);
                self.word_octet(octet)?;
            }
        }
        Ok(false)
    }

    fn word_octet(&mut self, octet: u8) -> Result<(), LineFault> {
        let (word, next) = match self.part {
            LinePart::First => (&mut self.first, LinePart::Second),
            LinePart::Second => (&mut self.second, LinePart::Rest),
            LinePart::Rest => return Ok(()),
        };
        match octet {
            b' ' => self.part = next,
            0x21..=0x7e => word.push(octet),
            _ => return Err(LineFault::Binary),
        }
        Ok(())
    }

    /// Forget the line that ended.
    pub(super) fn clear(&mut self) {
        self.first.clear();
        self.second.clear();
        self.part = LinePart::First;
        self.after_cr = false;
        self.announcement = Announcement::None;
        self.octets = 0;
    }

    /// Go on with the same line behind a literal: what follows belongs to its arguments.
    pub(super) fn resume(&mut self) {
        self.part = LinePart::Rest;
        self.after_cr = false;
        self.announcement = Announcement::None;
    }

    /// No octet of the line was read yet.
    pub(super) const fn at_start(&self) -> bool {
        self.octets == 0
    }

    /// Octets of the line so far, its end included.
    pub(super) const fn octets(&self) -> usize {
        self.octets
    }

    /// Up to the first space: a tag, `*` or `+`. None if it was too long.
    pub(super) fn first(&self) -> Option<&[u8]> {
        self.first.get()
    }

    /// Between the first and the second space: a command or a status. None if it was too long.
    pub(super) fn second(&self) -> Option<&[u8]> {
        self.second.get()
    }

    /// A second space was there, with or without anything behind it.
    pub(super) fn has_arguments(&self) -> bool {
        self.part == LinePart::Rest
    }

    /// The literal that the line's last octets announce.
    pub(super) const fn literal(&self) -> Option<Literal> {
        match self.announcement {
            Announcement::Closed(literal) => Some(literal),
            _ => None,
        }
    }

    /// Octets of the peer that are held in memory.
    pub(super) fn buffered(&self) -> usize {
        self.first.octets.len() + self.second.octets.len()
    }
}

impl fmt::Debug for LineReader {
    /// Never the words: a client that sends credentials out of turn puts them where a tag belongs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineReader").field("octets", &self.octets).finish_non_exhaustive()
    }
}
