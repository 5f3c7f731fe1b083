//! The EICAR test file, in any reading.
//!
//! The search holds, as bits, every place of the test string at which it may stand. So two searches that meet (base64
//! behind padding, where any alignment becomes the first one) are joined by joining their bits.

use super::reading::sextet;

/// The test string, in two halves: these sources must not be taken for the test file.
const HALVES: (&[u8; 34], &[u8; 34]) =
    (b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-", b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*");
/// Octets of the test string.
pub(super) const EICAR_BYTES: usize = 68;
/// The bit of a search that has seen the whole string.
const FOUND: u128 = 1 << (EICAR_BYTES - 1);

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

/// The test string itself.
#[cfg(test)]
pub(super) fn test_string() -> Vec<u8> {
    [HALVES.0.as_slice(), HALVES.1.as_slice()].concat()
}

/// Searches one reading, however it is split.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Eicar {
    state: u128,
    found: bool,
}

impl Eicar {
    pub(super) fn push(&mut self, octets: &[u8]) {
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
        for octet in octets {
            match sextet(*octet) {
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
            let Some(state) = states.get_mut(usize::try_from(phase).unwrap_or_default()) else {
                continue;
            };
            if count < 4 + phase {
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
