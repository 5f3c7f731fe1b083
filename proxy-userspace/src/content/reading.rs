//! The octets of a leaf behind its transfer encoding, as tolerant clients read them.
//!
//! Library decoders of base64 are strict: they refuse a whole leaf for one odd character. A client skips it and opens
//! the file. So the decoders here are our own and never refuse anything.

use serde::{Deserialize, Serialize};

use super::PUSH_BYTES_MAX;
use super::alphabet::{characters, next_equals, quantum, sextet};

/// Octets of which the characters of base64 are taken out at once. They fit into the fastest cache.
const CHARACTERS_BYTES: usize = 4 << 10;
/// Octets decoded at once: no decoder gives more than it takes, but for what it held back (1,001).
const DECODED_BYTES: usize = PUSH_BYTES_MAX - 2048;
/// Octets for which the room of many is not worth its cost.
const FEW_BYTES: usize = 64;

/// How octets of a leaf are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading {
    /// As they stand: 7bit, 8bit, binary.
    Identity,
    /// Base64 (RFC 2045 section 6.8).
    Base64,
    /// Quoted-printable (RFC 2045 section 6.7).
    QuotedPrintable,
}

impl Reading {
    /// Every reading. A leaf is judged in each, whatever its header says.
    pub const ALL: [Self; 3] = [Self::Identity, Self::Base64, Self::QuotedPrintable];

    /// Those that give something of their own of these octets.
    pub fn of(octets: &[u8]) -> impl Iterator<Item = Self> {
        let has_equals = memchr::memchr(b'=', octets).is_some();
        Self::ALL.into_iter().filter(move |reading| *reading != Self::QuotedPrintable || has_equals)
    }

    /// Decode `octets`, and take what they give piece by piece, [`PUSH_BYTES_MAX`] at most, until `take` says no. Whether
    /// it never did.
    pub fn decode(self, octets: &[u8], take: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut decoder = Decoder::new(self);
        let mut out = Vec::new();
        for chunk in octets.chunks(DECODED_BYTES) {
            let is_wanted = if self == Self::Identity {
                take(chunk)
            } else {
                out.clear();
                decoder.push(chunk, &mut out);
                take(&out)
            };
            if !is_wanted {
                return false;
            }
        }
        out.clear();
        decoder.flush(&mut out);
        take(&out)
    }

    /// All that `octets` give.
    #[must_use]
    pub fn decoded(self, octets: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(octets.len());
        let mut decoder = Decoder::new(self);
        decoder.push(octets, &mut out);
        decoder.flush(&mut out);
        out
    }

    /// The token in records.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Base64 => "base64",
            Self::QuotedPrintable => "quoted-printable",
        }
    }
}

/// Base64, incremental and tolerant: skips what is outside the alphabet, ends a quantum at padding and goes on behind
/// it, takes a last quantum that lacks its padding.
#[derive(Clone, Copy, Debug, Default)]
pub struct Base64Decoder {
    bits: u32,
    sextets: u8,
}

impl Base64Decoder {
    /// Decode `octets` onto `out`: three quarters of them at most, and two more.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        if octets.len() < FEW_BYTES {
            return octets.iter().for_each(|octet| self.one(*octet, out));
        }
        let mut room = [0; CHARACTERS_BYTES];
        for chunk in octets.chunks(CHARACTERS_BYTES) {
            let mut rest = characters(chunk, &mut room);
            while let Some(at) = next_equals(rest) {
                let (run, padding) = rest.split_at(at);
                self.run(run, out);
                self.flush(out);
                rest = padding.get(1..).unwrap_or_default();
            }
            self.run(rest, out);
        }
    }

    fn one(&mut self, octet: u8, out: &mut Vec<u8>) {
        match sextet(octet) {
            Some(value) => self.take(value, out),
            None if octet == b'=' => self.flush(out),
            None => {}
        }
    }

    /// Characters of the alphabet alone.
    fn run(&mut self, mut run: &[u8], out: &mut Vec<u8>) {
        if run.is_empty() {
            return;
        }
        while self.sextets > 0 {
            let Some((first, behind)) = run.split_first() else { return };
            self.one(*first, out);
            run = behind;
        }
        let (quanta, rest) = run.as_chunks::<4>();
        let begin = out.len();
        out.resize(begin + quanta.len() * 3, 0);
        let (slots, _) = out.get_mut(begin..).unwrap_or_default().as_chunks_mut::<3>();
        for (slot, characters) in slots.iter_mut().zip(quanta) {
            *slot = quantum(*characters).unwrap_or_default();
        }
        for character in rest {
            self.one(*character, out);
        }
    }

    fn take(&mut self, value: u8, out: &mut Vec<u8>) {
        self.bits = self.bits << 6 | u32::from(value);
        self.sextets += 1;
        if self.sextets == 4 {
            let [_, a, b, c] = self.bits.to_be_bytes();
            out.extend_from_slice(&[a, b, c]);
            *self = Self::default();
        }
    }

    /// No more octets, or padding: what an unfinished quantum holds.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        let [_, a, b, _] = (self.bits << (6 * (4 - u32::from(self.sextets)))).to_be_bytes();
        match self.sextets {
            2 => out.push(a),
            3 => out.extend_from_slice(&[a, b]),
            _ => {}
        }
        *self = Self::default();
    }
}

/// Quoted-printable, incremental and tolerant: a `=` that begins no triple and no soft line break stands for itself.
#[derive(Clone, Debug, Default)]
pub struct QuotedPrintableDecoder {
    state: QpState,
    /// White space behind a `=`, which counts only where no line end follows.
    blanks: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum QpState {
    #[default]
    Plain,
    Equals,
    Digit(u8),
    Blanks,
    SoftReturn,
}

/// White space between a `=` and its line end. Longer white space is text.
const BLANKS_BYTES_MAX: usize = 1_000;

pub(super) const fn hex(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        b'a'..=b'f' => Some(octet - b'a' + 10),
        _ => None,
    }
}

impl QuotedPrintableDecoder {
    /// Decode `octets` onto `out`: no more than came in since the beginning.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let mut rest = octets;
        while !rest.is_empty() {
            if self.state == QpState::Plain {
                // What stands for itself goes through as one.
                let (plain, behind) = rest.split_at(next_equals(rest).unwrap_or(rest.len()));
                out.extend_from_slice(plain);
                rest = behind;
                if let Some(behind) = Self::whole(rest, out) {
                    rest = behind;
                    continue;
                }
            }
            let Some((first, behind)) = rest.split_first() else { return };
            self.take(*first, out);
            rest = behind;
        }
    }

    /// What begins with a `=` and is not cut: decoded onto `out`, and what stands behind it.
    fn whole<'o>(octets: &'o [u8], out: &mut Vec<u8>) -> Option<&'o [u8]> {
        let (octet, behind) = match octets {
            [b'=', b'\r', b'\n', behind @ ..] => return Some(behind),
            [b'=', behind @ ..] if behind.starts_with(b"=") => (b'=', behind),
            [b'=', high, low, behind @ ..] => (hex(*high)? << 4 | hex(*low)?, behind),
            _ => return None,
        };
        out.push(octet);
        Some(behind)
    }

    /// Whether the next octet stands for itself, or begins a triple or a soft line break.
    pub(super) fn is_plain(&self) -> bool {
        self.state == QpState::Plain
    }

    fn take(&mut self, octet: u8, out: &mut Vec<u8>) {
        self.state = match (self.state, octet) {
            (QpState::SoftReturn, b'\n') => QpState::Plain,
            (QpState::Plain | QpState::SoftReturn, b'=') => QpState::Equals,
            (QpState::Plain | QpState::SoftReturn, _) => {
                out.push(octet);
                QpState::Plain
            }
            (QpState::Equals | QpState::Blanks, b'\r') => {
                self.blanks.clear();
                QpState::SoftReturn
            }
            (QpState::Equals | QpState::Blanks, b'\n') => {
                self.blanks.clear();
                QpState::Plain
            }
            (QpState::Equals | QpState::Blanks, b' ' | b'\t') if self.blanks.len() < BLANKS_BYTES_MAX => {
                self.blanks.push(octet);
                QpState::Blanks
            }
            (QpState::Equals, _) if hex(octet).is_some() => QpState::Digit(octet),
            (QpState::Equals | QpState::Blanks, _) => {
                out.push(b'=');
                out.append(&mut self.blanks);
                return self.again(octet, out);
            }
            (QpState::Digit(first), _) => match (hex(first), hex(octet)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    QpState::Plain
                }
                _ => {
                    out.extend_from_slice(&[b'=', first]);
                    return self.again(octet, out);
                }
            },
        };
    }

    fn again(&mut self, octet: u8, out: &mut Vec<u8>) {
        self.state = QpState::Plain;
        self.take(octet, out);
    }

    /// No more octets: what an unfinished triple holds.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        match self.state {
            QpState::Digit(first) => out.extend_from_slice(&[b'=', first]),
            QpState::Plain | QpState::Equals | QpState::Blanks | QpState::SoftReturn => {}
        }
        *self = Self::default();
    }
}

/// Decodes in one reading, in pieces.
#[derive(Clone, Debug)]
pub(super) enum Decoder {
    Identity,
    Base64(Base64Decoder),
    QuotedPrintable(QuotedPrintableDecoder),
}

impl Decoder {
    pub(super) fn new(reading: Reading) -> Self {
        match reading {
            Reading::Identity => Self::Identity,
            Reading::Base64 => Self::Base64(Base64Decoder::default()),
            Reading::QuotedPrintable => Self::QuotedPrintable(QuotedPrintableDecoder::default()),
        }
    }

    pub(super) fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Identity => out.extend_from_slice(octets),
            Self::Base64(decoder) => decoder.push(octets, out),
            Self::QuotedPrintable(decoder) => decoder.push(octets, out),
        }
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Identity => {}
            Self::Base64(decoder) => decoder.flush(out),
            Self::QuotedPrintable(decoder) => decoder.flush(out),
        }
    }
}
