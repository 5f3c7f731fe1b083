//! Units of a stream: a command or a response, with its literals. Nothing is parsed here.
//!
//! A unit ends with a line end that no literal follows (RFC 9051 section 4.3). Only two things are looked at: what
//! stands directly before a line end, and of a response its first octets, which say whether it can have literals.

/// Octets of a client's unit outside its literals. RFC 7162 section 4 asks servers to take 8,192; sets of UIDs get
/// longer, and Dovecot takes 65,536.
pub const CLIENT_TEXT_BYTES_MAX: usize = 64 * 1024;

/// `* PREAUTH ` is the longest start that tells a status response from data.
const START_BYTES: usize = 10;

/// Who sends the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// Commands. A bare line feed ends a line, too: a person may type them.
    Client,
    /// Responses.
    Server,
}

/// What a unit may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBounds {
    /// Octets of one unit outside its literals, line ends included.
    pub text: usize,
}

/// Divides a stream into units. It holds no octet of the stream but the first ten of a response.
#[derive(Clone, Copy, Debug)]
pub struct Framer {
    speaker: Speaker,
    bounds: FrameBounds,
    /// Octets of this unit outside literals.
    text: usize,
    begun: bool,
    start: [u8; START_BYTES],
    tail: Tail,
    literal_left: u64,
    fault: Option<FramingFault>,
}

/// How many octets belong to the current unit, and what stands behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Octets from the beginning of what was given.
    pub octets: usize,
    /// What stands behind them.
    pub step: FrameStep,
    /// The last of them is a line feed without its carriage return. Only a client's line can end so; servers differ in
    /// whether they take it, so that whoever passes the line on writes CRLF.
    pub bare_line_feed: bool,
}

/// What stands behind the octets of a [`Frame`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameStep {
    /// More of the same unit.
    More,
    /// A literal; the line end behind its announcement was the last octet.
    Literal(LiteralHead),
    /// The end of the unit.
    Whole,
}

/// The announcement of a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiteralHead {
    /// Its octets, 4,294,967,295 at most.
    pub octets: u64,
    /// The sender waits for a continuation (a client's `{n}`). False for `{n+}` (RFC 7888) and for a server's literal.
    pub sync: bool,
    /// `~{n}`: it may hold NUL (RFC 3516 section 4.2).
    pub binary: bool,
}

/// Octets that cannot be divided into units; the session cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingFault {
    /// More text than the bound.
    #[error("a line of more than {0} octets")]
    TooLong(usize),
    /// A server's line feed without carriage return.
    #[error("a line feed without carriage return")]
    BareLineFeed,
    /// A carriage return without line feed.
    #[error("a carriage return without line feed")]
    BareCarriageReturn,
    /// NUL outside a literal.
    #[error("NUL outside a literal")]
    Nul,
    /// A literal of more octets than IMAP has numbers for.
    #[error("a literal of more than 4294967295 octets")]
    LiteralTooLong,
    /// `{n+}`, which only a client may send.
    #[error("a server's literal as only clients send them")]
    ServerNonSync,
}

/// What the last octets of the line are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    Text,
    Tilde,
    /// Behind the brace: no digit yet where `octets` is `None`.
    Digits {
        binary: bool,
        octets: Option<u64>,
    },
    Plus {
        binary: bool,
        octets: u64,
    },
    Closed {
        binary: bool,
        plus: bool,
        octets: u64,
    },
    /// A carriage return, with what stood before it.
    Return(Option<Announced>),
}

/// A closed announcement before a line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announced {
    binary: bool,
    plus: bool,
    octets: u64,
}

impl Tail {
    fn after(self, octet: u8) -> Self {
        match (self, octet) {
            (Self::Tilde, b'{') => Self::Digits { binary: true, octets: None },
            (_, b'{') => Self::Digits { binary: false, octets: None },
            (_, b'~') => Self::Tilde,
            (Self::Digits { binary, octets }, b'0'..=b'9') => {
                let digit = u64::from(octet - b'0');
                let octets = octets.unwrap_or(0).saturating_mul(10).saturating_add(digit);
                Self::Digits { binary, octets: Some(octets) }
            }
            (Self::Digits { binary, octets: Some(octets) }, b'+') => Self::Plus { binary, octets },
            (Self::Digits { binary, octets: Some(octets) }, b'}') => {
                Self::Closed { binary, plus: false, octets }
            }
            (Self::Plus { binary, octets }, b'}') => Self::Closed { binary, plus: true, octets },
            (_, b'\r') => Self::Return(self.announced()),
            _ => Self::Text,
        }
    }

    const fn announced(self) -> Option<Announced> {
        match self {
            Self::Closed { binary, plus, octets } => Some(Announced { binary, plus, octets }),
            Self::Return(announced) => announced,
            _ => None,
        }
    }
}

impl Framer {
    /// A framer at the beginning of a stream.
    pub const fn new(speaker: Speaker, bounds: FrameBounds) -> Self {
        Self {
            speaker,
            bounds,
            text: 0,
            begun: false,
            start: [0; START_BYTES],
            tail: Tail::Text,
            literal_left: 0,
            fault: None,
        }
    }

    /// Look at the next octets of the stream. Of an announced literal the octets come as [`FrameStep::More`], never
    /// with an octet behind its end. Nothing stands behind octets that were not consumed: call again with the rest.
    ///
    /// A number counts as the announcement of a literal when it stands in its braces directly before the line end, in a
    /// quoted string too (which is malformed then). Braces without a number are text.
    ///
    /// # Errors
    /// Octets that cannot be framed. The fault is final: every further call returns it.
    pub fn take(&mut self, octets: &[u8]) -> Result<Frame, FramingFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.literal_left > 0 {
            let taken = usize::try_from(self.literal_left).unwrap_or(usize::MAX).min(octets.len());
            self.literal_left -= taken as u64;
            return Ok(Frame { octets: taken, step: FrameStep::More, bare_line_feed: false });
        }
        let taken = self.take_text(octets);
        if let Err(fault) = taken {
            self.fault = Some(fault);
        }
        taken
    }

    /// No octet of a unit was seen since the last one ended.
    pub const fn is_at_boundary(&self) -> bool {
        !self.begun
    }

    /// Octets of the literal in progress that are still to come; 0 outside a literal.
    pub const fn literal_left(&self) -> u64 {
        self.literal_left
    }

    /// So many octets of the literal in progress went by unseen.
    pub fn skip_literal(&mut self, octets: u64) {
        self.literal_left = self.literal_left.saturating_sub(octets);
    }

    fn take_text(&mut self, octets: &[u8]) -> Result<Frame, FramingFault> {
        // What stands behind the line end is of no account: a word of the start ends before it.
        for (first, octet) in self.start.iter_mut().skip(self.text).zip(octets) {
            *first = *octet;
        }
        self.begun |= !octets.is_empty();
        let mut at = 0;
        while let Some(rest) = octets.get(at..).filter(|rest| !rest.is_empty()) {
            let plain = if self.tail == Tail::Text { plain(rest) } else { 0 };
            let special = rest.get(plain).copied();
            let taken = plain + usize::from(special.is_some());
            at += taken;
            self.text = self.text.saturating_add(taken);
            if self.text > self.bounds.text {
                return Err(FramingFault::TooLong(self.bounds.text));
            }
            let returned = matches!(self.tail, Tail::Return(_));
            match special {
                Some(b'\n') if returned || self.speaker == Speaker::Client => {
                    let step = self.line_end()?;
                    return Ok(Frame { octets: at, step, bare_line_feed: !returned });
                }
                Some(_) if returned => return Err(FramingFault::BareCarriageReturn),
                Some(b'\n') => return Err(FramingFault::BareLineFeed),
                Some(0) => return Err(FramingFault::Nul),
                Some(octet) => self.tail = self.tail.after(octet),
                None => {}
            }
        }
        Ok(Frame { octets: octets.len(), step: FrameStep::More, bare_line_feed: false })
    }

    fn line_end(&mut self) -> Result<FrameStep, FramingFault> {
        let announced = self.tail.announced().filter(|_| self.may_have_literals());
        self.tail = Tail::Text;
        let Some(Announced { binary, plus, octets }) = announced else {
            self.text = 0;
            self.begun = false;
            return Ok(FrameStep::Whole);
        };
        if octets > u64::from(u32::MAX) {
            return Err(FramingFault::LiteralTooLong);
        }
        if plus && self.speaker == Speaker::Server {
            return Err(FramingFault::ServerNonSync);
        }
        self.literal_left = octets;
        let sync = !plus && self.speaker == Speaker::Client;
        Ok(FrameStep::Literal(LiteralHead { octets, sync, binary }))
    }

    /// RFC 9051 section 9, `response`: tagged and status responses and continuation requests end in text, in which
    /// `{3}` is text; untagged data has literals.
    fn may_have_literals(&self) -> bool {
        if self.speaker == Speaker::Client {
            return true;
        }
        let Some(word) = self.start.strip_prefix(b"* ") else { return false };
        let end = word.iter().position(|octet| matches!(octet, b' ' | b'\r'));
        let word = end.and_then(|end| word.get(..end)).unwrap_or(word);
        !STATUS_WORDS.iter().any(|status| word.eq_ignore_ascii_case(status))
    }
}

/// Octets before the first that matters: behind ordinary text, a brace, a line end and NUL do.
fn plain(octets: &[u8]) -> usize {
    let matters = |octet: &u8| matches!(octet, b'{' | b'~' | b'\r' | b'\n' | 0);
    octets.iter().position(matters).unwrap_or(octets.len())
}

/// RFC 9051 section 9, `resp-cond-state`, `resp-cond-bye`, `resp-cond-auth`.
const STATUS_WORDS: [&[u8]; 5] = [b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"];

#[cfg(test)]
mod tests;
