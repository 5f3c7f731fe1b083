//! The session's identifier, in its records and in what its client is told.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Identifiers that were made. Modulo 2^12 it is the counter in an identifier.
static NAMED: AtomicU64 = AtomicU64::new(0);

/// A UUID of version 7 (RFC 9562 section 5.7): milliseconds since 1970, then a counter in `rand_a` (section 6.2, method
/// 1), then 62 random bits. The counter keeps the order within a millisecond; the random bits cannot be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(u128);

impl EventId {
    /// A unique identifier for what began at this time.
    #[must_use]
    pub fn at(began: SystemTime) -> Self {
        let since = began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut octets = [0; 8];
        // Without randomness identifiers are still unique, 4,096 in each millisecond.
        let _guessable = aws_lc_rs::rand::fill(&mut octets);
        let milliseconds = since.as_millis() & 0xffff_ffff_ffff;
        let counter = u128::from(NAMED.fetch_add(1, Ordering::Relaxed) & 0xfff);
        let random = u128::from(u64::from_be_bytes(octets) >> 2);
        Self(milliseconds << 80 | 7 << 76 | counter << 64 | 0b10 << 62 | random)
    }
}

/// RFC 9562 section 4: five groups of lower-case hexadecimal digits.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = |shift: u32, bits: u32| (self.0 >> shift) & ((1 << bits) - 1);
        let (first, second, third) = (group(96, 32), group(80, 16), group(64, 16));
        write!(f, "{first:08x}-{second:04x}-{third:04x}-{:04x}-{:012x}", group(48, 16), group(0, 48))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_have_the_form_of_version_7_and_tell_the_time() {
        // The time of RFC 9562, appendix A.6.
        let text = EventId::at(UNIX_EPOCH + Duration::from_millis(0x017F_22E2_79B0)).to_string();
        assert!(text.starts_with("017f22e2-79b0-7"), "{text}");
        let lengths: Vec<_> = text.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{text}");
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "the variant: {text}");
    }

    #[test]
    fn no_two_names_are_equal_within_one_millisecond() {
        let now = SystemTime::now();
        let names: BTreeSet<_> = (0..100_000).map(|_| EventId::at(now)).collect();
        assert_eq!(names.len(), 100_000);
    }
}
