//! The EICAR test file, in any reading.
//!
//! The search holds, as bits, every place of the test string at which it may stand. So two searches that meet (base64
//! behind padding, where any alignment becomes the first one) are joined by joining their bits.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::alphabet::{characters, next_equals, sextet};

/// The test string, in two halves: these sources must not be taken for the test file.
const HALVES: (&[u8; 34], &[u8; 34]) =
    (b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-", b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*");
/// Octets of the test string.
pub(super) const EICAR_BYTES: usize = 68;
/// The bit of a search that has seen the whole string.
const FOUND: u128 = 1 << (EICAR_BYTES - 1);

/// Finds the whole string.
static WHOLE: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new(&[HALVES.0.as_slice(), HALVES.1].concat()).into_owned());

/// Finds the characters of base64 that lie within the string, wherever in a quantum it begins.
static ENCODED: LazyLock<[Finder<'static>; 3]> =
    LazyLock::new(|| [0, 4, 2].map(|left_out| Finder::new(&encoded(left_out)).into_owned()));

/// The string as base64, but for its first `left_out` bits, and the last ones that fill no character.
fn encoded(left_out: u32) -> Vec<u8> {
    let alphabet = |value: u32| (0..=u8::MAX).find(|octet| sextet(*octet).map(u32::from) == Some(value));
    let (mut bits, mut length) = (0u32, 0);
    let mut characters = Vec::new();
    for (at, octet) in HALVES.0.iter().chain(HALVES.1).enumerate() {
        bits = bits << 8 | u32::from(*octet);
        length += if at == 0 { 8 - left_out } else { 8 };
        while length >= 6 {
            length -= 6;
            characters.extend(alphabet(bits >> length & 63));
        }
    }
    characters
}

/// For each octet, the places of the string at which it stands.
static PLACES: [u128; 256] = places();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which stops at an index out of range"
)]
const fn places() -> [u128; 256] {
    let mut places = [0; 256];
    let mut at = 0;
    while at < EICAR_BYTES {
        let octet = if at < 34 { HALVES.0[at] } else { HALVES.1[at - 34] };
        places[octet as usize] |= 1 << at;
        at += 1;
    }
    places
}

/// One more octet.
fn step(state: u128, octet: u8) -> u128 {
    (state << 1 | 1) & PLACES.get(usize::from(octet)).copied().unwrap_or_default()
}

/// Whether a search that has nothing may have the beginning of the string behind the last three octets of `bits`: the
/// third one is among its first three.
fn begins(bits: u32) -> bool {
    let [.., last] = bits.to_be_bytes();
    let [[a, b, c, ..], _] = [HALVES.0, HALVES.1];
    last == *a || last == *b || last == *c
}

/// The test string itself.
#[cfg(test)]
pub(super) fn test_string() -> Vec<u8> {
    [HALVES.0.as_slice(), HALVES.1.as_slice()].concat()
}

/// Searches one reading, however it is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Eicar {
    state: u128,
    found: bool,
}

impl Eicar {
    pub(super) fn push(&mut self, octets: &[u8]) {
        let (Some(head), Some(tail)) =
            (octets.first_chunk::<EICAR_BYTES>(), octets.last_chunk::<EICAR_BYTES>())
        else {
            return self.step_through(octets);
        };
        // What began earlier ends in the head, or not at all; what ends later begins in the tail.
        if self.state != 0 {
            self.step_through(head);
        }
        self.found |= WHOLE.find(octets).is_some();
        self.state = 0;
        self.step_through(tail);
    }

    fn step_through(&mut self, octets: &[u8]) {
        for octet in octets {
            self.state = step(self.state, *octet);
            self.found |= self.state & FOUND != 0;
        }
    }

    pub(super) const fn is_found(&self) -> bool {
        self.found
    }

    /// Whether the string was found since the last call.
    pub(super) fn take_found(&mut self) -> bool {
        std::mem::take(&mut self.found)
    }
}

/// Characters of base64 in which the string has room in every alignment: 92, and 3 before them.
const EDGE_CHARACTERS: usize = 128;
/// Octets, and characters of a run, below which a search in the middle saves nothing.
const RUN_BYTES_MIN: usize = 4 * EDGE_CHARACTERS;
/// Octets of which the characters of base64 are taken out at once.
const CHARACTERS_BYTES: usize = 16 << 10;

/// Searches base64 in every alignment at once, as wherever a client may begin to decode. Padding ends a quantum in one
/// reading, and is skipped in the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EicarInBase64 {
    bits: u32,
    /// Characters so far, and since the last padding. Only compared up to 8, and modulo 4.
    total: u64,
    since_padding: u64,
    /// One search for each alignment, padding skipped.
    skipping: [u128; 4],
    /// One search for each alignment behind the last padding.
    ending: [u128; 4],
    found: bool,
}

impl EicarInBase64 {
    pub(super) fn push(&mut self, octets: &[u8]) {
        if octets.len() < RUN_BYTES_MIN {
            return octets.iter().for_each(|octet| self.one(*octet));
        }
        let mut room = [0; CHARACTERS_BYTES];
        for chunk in octets.chunks(CHARACTERS_BYTES) {
            let mut rest = characters(chunk, &mut room);
            while let Some(at) = next_equals(rest) {
                let (run, padding) = rest.split_at(at);
                self.run(run);
                self.padding();
                rest = padding.get(1..).unwrap_or_default();
            }
            self.run(rest);
        }
    }

    fn one(&mut self, octet: u8) {
        match sextet(octet) {
            Some(value) => self.take(value),
            None if octet == b'=' => self.padding(),
            None => {}
        }
    }

    /// Characters of the alphabet alone. What lies in the middle of many is searched for as it stands.
    fn run(&mut self, run: &[u8]) {
        if run.is_empty() {
            return;
        }
        let ends = (run.get(..EDGE_CHARACTERS), run.split_last_chunk::<EDGE_CHARACTERS>());
        let (Some(head), Some((middle, tail))) = ends else {
            return self.step_through(run);
        };
        if run.len() < RUN_BYTES_MIN || ENCODED.iter().any(|finder| finder.find(run).is_some()) {
            return self.step_through(run);
        }
        // What began earlier ends in the head, or not at all; what ends later begins in the tail.
        self.step_through(head);
        let skipped = middle.len().saturating_sub(head.len()) as u64;
        self.total += skipped;
        self.since_padding += skipped;
        for value in middle.last_chunk::<4>().into_iter().flatten().filter_map(|character| sextet(*character))
        {
            self.bits = self.bits << 6 | u32::from(value);
        }
        self.skipping = [0; 4];
        self.ending = [0; 4];
        self.step_through(tail);
    }

    /// Character by character. Where nothing has begun, the characters up to the next one that begins something only
    /// count.
    fn step_through(&mut self, mut run: &[u8]) {
        while !run.is_empty() {
            if self.skipping == [0; 4] && self.ending == [0; 4] {
                let mut bits = self.bits;
                let quiet = run.iter().take_while(|character| {
                    let next = bits << 6 | u32::from(sextet(**character).unwrap_or_default());
                    let begins = begins(next);
                    bits = if begins { bits } else { next };
                    !begins
                });
                let count = quiet.count();
                self.bits = bits;
                self.total += count as u64;
                self.since_padding += count as u64;
                run = run.get(count..).unwrap_or_default();
            }
            // What begins in one alignment is over, or goes on, when each alignment has had its turn.
            let (turns, behind) = run.split_at(run.len().min(4));
            turns.iter().for_each(|character| self.one(*character));
            run = behind;
        }
    }

    fn take(&mut self, value: u8) {
        self.bits = self.bits << 6 | u32::from(value);
        self.total += 1;
        self.since_padding += 1;
        let [_, a, b, c] = self.bits.to_be_bytes();
        let begins = begins(self.bits);
        let searches = [(&mut self.skipping, self.total), (&mut self.ending, self.since_padding)];
        for (states, count) in searches {
            let phase = count % 4;
            let Some(state) = states.get_mut(usize::try_from(phase).unwrap_or_default()) else {
                continue;
            };
            if *state == 0 && !begins || count < 4 + phase {
                continue;
            }
            for octet in [a, b, c] {
                *state = step(*state, octet);
                self.found |= *state & FOUND != 0;
            }
        }
    }

    /// Padding, or the end: each alignment's unfinished quantum gives its octets, and all go on at the first alignment.
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

    /// Whether the string was found since the last call.
    pub(super) fn take_found(&mut self) -> bool {
        std::mem::take(&mut self.found)
    }
}
