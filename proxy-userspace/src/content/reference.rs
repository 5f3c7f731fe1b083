//! The slow code that the fast one must equal: octet by octet, as the rules say it.

use std::sync::LazyLock;

use super::eicar::{EICAR_BYTES, test_string};
use super::loose::Candidate;
use super::magic::may_begin;
use super::reading::{Reading, hex};

pub(super) const fn slow_sextet(octet: u8) -> Option<u8> {
    match octet {
        b'A'..=b'Z' => Some(octet - b'A'),
        b'a'..=b'z' => Some(octet - b'a' + 26),
        b'0'..=b'9' => Some(octet - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// For each octet, the places of the test string at which it stands.
static PLACES: LazyLock<[u128; 256]> = LazyLock::new(|| {
    let mut places = [0; 256];
    for (at, octet) in test_string().into_iter().enumerate() {
        places[usize::from(octet)] |= 1 << at;
    }
    places
});

fn step(state: u128, octet: u8) -> u128 {
    (state << 1 | 1) & PLACES[usize::from(octet)]
}

const FOUND: u128 = 1 << (EICAR_BYTES - 1);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlowEicar {
    state: u128,
    pub(super) found: bool,
}

impl SlowEicar {
    pub(super) fn push(&mut self, octets: &[u8]) {
        for octet in octets {
            self.state = step(self.state, *octet);
            self.found |= self.state & FOUND != 0;
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlowEicarInBase64 {
    bits: u32,
    total: u64,
    since_padding: u64,
    skipping: [u128; 4],
    ending: [u128; 4],
    pub(super) found: bool,
}

impl SlowEicarInBase64 {
    pub(super) fn push(&mut self, octets: &[u8]) {
        for octet in octets {
            match slow_sextet(*octet) {
                Some(value) => self.take(value),
                None if *octet == b'=' => self.padding(),
                None => {}
            }
        }
    }

    fn take(&mut self, value: u8) {
        self.bits = self.bits << 6 | u32::from(value);
        self.total += 1;
        self.since_padding += 1;
        let [_, a, b, c] = self.bits.to_be_bytes();
        let searches = [(&mut self.skipping, self.total), (&mut self.ending, self.since_padding)];
        for (states, count) in searches {
            let phase = count % 4;
            let state = &mut states[phase as usize];
            if count < 4 + phase {
                continue;
            }
            for octet in [a, b, c] {
                *state = step(*state, octet);
                self.found |= *state & FOUND != 0;
            }
        }
    }

    pub(super) fn padding(&mut self) {
        if self.since_padding == 0 {
            return;
        }
        let mut joined = 0;
        for (phase, state) in (0u64..).zip(self.ending) {
            let left = self.since_padding.checked_sub(phase).map_or(0, |count| count % 4);
            let shifted = match left {
                2 => self.bits << 12,
                3 => self.bits << 6,
                _ => 0,
            };
            let [_, a, b, _] = shifted.to_be_bytes();
            let mut state = state;
            if left >= 2 {
                state = step(state, a);
                self.found |= state & FOUND != 0;
            }
            if left == 3 {
                state = step(state, b);
                self.found |= state & FOUND != 0;
            }
            joined |= state;
        }
        self.ending = [joined, 0, 0, 0];
        self.since_padding = 0;
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlowBase64Decoder {
    bits: u32,
    sextets: u8,
}

impl SlowBase64Decoder {
    pub(super) fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        for octet in octets {
            match slow_sextet(*octet) {
                Some(value) => {
                    self.bits = self.bits << 6 | u32::from(value);
                    self.sextets += 1;
                    if self.sextets == 4 {
                        let [_, a, b, c] = self.bits.to_be_bytes();
                        out.extend_from_slice(&[a, b, c]);
                        *self = Self::default();
                    }
                }
                None if *octet == b'=' => self.flush(out),
                None => {}
            }
        }
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        let [_, a, b, _] = (self.bits << (6 * (4 - u32::from(self.sextets)))).to_be_bytes();
        match self.sextets {
            2 => out.push(a),
            3 => out.extend_from_slice(&[a, b]),
            _ => {}
        }
        *self = Self::default();
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct SlowQuotedPrintableDecoder {
    state: SlowQpState,
    blanks: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SlowQpState {
    #[default]
    Plain,
    Equals,
    Digit(u8),
    Blanks,
    SoftReturn,
}
const BLANKS_BYTES_MAX: usize = 1_000;

impl SlowQuotedPrintableDecoder {
    pub(super) fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        for octet in octets {
            self.take(*octet, out);
        }
    }

    fn take(&mut self, octet: u8, out: &mut Vec<u8>) {
        self.state = match (self.state, octet) {
            (SlowQpState::SoftReturn, b'\n') => SlowQpState::Plain,
            (SlowQpState::Plain | SlowQpState::SoftReturn, b'=') => SlowQpState::Equals,
            (SlowQpState::Plain | SlowQpState::SoftReturn, _) => {
                out.push(octet);
                SlowQpState::Plain
            }
            (SlowQpState::Equals | SlowQpState::Blanks, b'\r') => {
                self.blanks.clear();
                SlowQpState::SoftReturn
            }
            (SlowQpState::Equals | SlowQpState::Blanks, b'\n') => {
                self.blanks.clear();
                SlowQpState::Plain
            }
            (SlowQpState::Equals | SlowQpState::Blanks, b' ' | b'\t')
                if self.blanks.len() < BLANKS_BYTES_MAX =>
            {
                self.blanks.push(octet);
                SlowQpState::Blanks
            }
            (SlowQpState::Equals, _) if hex(octet).is_some() => SlowQpState::Digit(octet),
            (SlowQpState::Equals | SlowQpState::Blanks, _) => {
                out.push(b'=');
                out.append(&mut self.blanks);
                return self.again(octet, out);
            }
            (SlowQpState::Digit(first), _) => match (hex(first), hex(octet)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    SlowQpState::Plain
                }
                _ => {
                    out.extend_from_slice(&[b'=', first]);
                    return self.again(octet, out);
                }
            },
        };
    }

    fn again(&mut self, octet: u8, out: &mut Vec<u8>) {
        self.state = SlowQpState::Plain;
        self.take(octet, out);
    }
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        match self.state {
            SlowQpState::Digit(first) => out.extend_from_slice(&[b'=', first]),
            SlowQpState::Plain | SlowQpState::Equals | SlowQpState::Blanks | SlowQpState::SoftReturn => {}
        }
        *self = Self::default();
    }
}

/// Where the test string ends, in all readings, octet by octet.
pub(super) fn slow_sweep(octets: &[u8]) -> Vec<usize> {
    let (mut plain, mut quoted, mut base64) =
        (SlowEicar::default(), SlowEicar::default(), SlowEicarInBase64::default());
    let mut decoder = SlowQuotedPrintableDecoder::default();
    let mut found = Vec::new();
    for (place, octet) in octets.iter().enumerate() {
        let octet = std::slice::from_ref(octet);
        let mut out = Vec::new();
        decoder.push(octet, &mut out);
        plain.push(octet);
        quoted.push(&out);
        base64.push(octet);
        let at_this = [&mut plain.found, &mut quoted.found, &mut base64.found].map(std::mem::take);
        if at_this.contains(&true) {
            found.push(place);
        }
    }
    base64.padding();
    if base64.found {
        found.push(octets.len().saturating_sub(1));
    }
    found
}

/// The lines at which a program may begin.
pub(super) fn slow_candidates(content: &[u8]) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut is_in_run = false;
    let mut at = 0;
    while at < content.len() {
        let rest = &content[at..];
        let end = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n'));
        let text = &rest[..end.unwrap_or(rest.len())];
        let line_end = if rest[text.len()..].starts_with(b"\r\n") { 2 } else { usize::from(end.is_some()) };
        let trimmed = text.trim_ascii();
        let is_run = trimmed.len() >= 4 && trimmed.iter().all(|octet| slow_sextet(*octet).is_some());
        let continues_run = std::mem::replace(&mut is_in_run, is_run);
        if !continues_run && text.iter().any(|octet| octet.is_ascii_alphanumeric() || *octet > 0x7e) {
            let glance = &rest[..rest.len().min(16)];
            let (mut base64, mut quoted) = (Vec::new(), Vec::new());
            SlowBase64Decoder::default().push(glance, &mut base64);
            SlowQuotedPrintableDecoder::default().push(glance, &mut quoted);
            let readings = [
                (Reading::Identity, glance),
                (Reading::Base64, base64.as_slice()),
                (Reading::QuotedPrintable, quoted.as_slice()),
            ];
            for (reading, out) in readings {
                if may_begin(out) && (reading == Reading::Base64 || !out.starts_with(b"#!")) {
                    found.push(Candidate { at, reading });
                }
            }
        }
        at += text.len() + line_end;
    }
    found
}

mod tests;
