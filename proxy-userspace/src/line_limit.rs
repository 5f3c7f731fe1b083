//! A rate limit on lines of the log that peers can cause. A peer that causes one each millisecond must fill no disk and
//! hide no other line. Records are not limited: they are not log lines, and each connection has its own.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one kind that may follow each other at once: enough to see a pattern.
const LINES_MAX: u32 = 10;
/// One more line of a kind is allowed after this.
const REFILL: Duration = Duration::from_secs(10);

/// The limit on one kind of line, for the whole process. Its lock is taken only to write such a line.
pub(crate) struct LineLimit(Mutex<Option<Tokens>>);

impl LineLimit {
    /// A full bucket.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether a line may be written now. The returned value is written at the line's end.
    pub(crate) fn admit(&self) -> Option<LeftOut> {
        let now = Instant::now();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get_or_insert_with(|| Tokens::new(now)).admit(now)
    }
}

/// How many lines of the kind were left out before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " (and {} more since the last such line)", grouped(count)),
        }
    }
}

/// Thousands apart: 1,234.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A bucket of [`LINES_MAX`] lines, filled by one each [`REFILL`].
struct Tokens {
    lines: u32,
    filled: Instant,
    left_out: u64,
}

impl Tokens {
    const fn new(now: Instant) -> Self {
        Self { lines: LINES_MAX, filled: now, left_out: 0 }
    }

    fn admit(&mut self, now: Instant) -> Option<LeftOut> {
        let since = now.saturating_duration_since(self.filled);
        let fresh = u32::try_from(since.as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        if fresh > 0 {
            self.lines = self.lines.saturating_add(fresh).min(LINES_MAX);
            self.filled += REFILL.saturating_mul(fresh);
        }
        match self.lines.checked_sub(1) {
            Some(left) => {
                self.lines = left;
                Some(LeftOut(std::mem::take(&mut self.left_out)))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_a_few_lines_and_the_next_one_tells_how_many_it_was() {
        let began = Instant::now();
        let mut tokens = Tokens::new(began);
        let said = (0..1244).filter_map(|_| tokens.admit(began)).collect::<Vec<_>>();
        assert_eq!(said, vec![LeftOut(0); LINES_MAX as usize]);
        assert_eq!(tokens.admit(began + REFILL - Duration::from_millis(1)), None);
        let next = tokens.admit(began + REFILL).unwrap();
        assert_eq!(next.to_string(), " (and 1,235 more since the last such line)");
        assert_eq!(tokens.admit(began + REFILL), None, "one more line, not ten");
    }

    #[test]
    fn after_quiet_times_there_are_as_many_lines_as_at_first_and_no_more() {
        let began = Instant::now();
        let mut tokens = Tokens::new(began);
        let later = began + REFILL * 1000;
        assert_eq!((0..100).filter_map(|_| tokens.admit(later)).count(), LINES_MAX as usize);
        assert_eq!(LeftOut(0).to_string(), "");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
