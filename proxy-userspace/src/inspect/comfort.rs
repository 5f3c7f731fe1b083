//! When a client that waits for mail is told that somebody works on it. Silence that ends a session: 20 s (mbsync, and
//! Thunderbird in APPEND), 30 s (mailcore), 60 s (K-9).

use std::time::{Duration, Instant};

/// The first line, for mail that comes down.
const FIRST: Duration = Duration::from_secs(3);
/// Each further line, and all of them for mail that goes up.
const EVERY: Duration = Duration::from_secs(5);

/// The next line's time, while mail is held.
#[derive(Debug, Default)]
pub(super) struct Comfort(Option<Instant>);

impl Comfort {
    /// Whether mail is held now; an upload's silence is its own.
    pub(super) fn update(&mut self, holds: bool, uploads: bool, now: Instant) {
        self.0 = match self.0 {
            _ if !holds => None,
            Some(due) => Some(due),
            None => now.checked_add(if uploads { EVERY } else { FIRST }),
        };
    }

    /// When the next line is due.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.0
    }

    /// Whether a line is due, and the next one in its time.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.0.is_some_and(|due| due <= now);
        if is_due {
            self.0 = now.checked_add(EVERY);
        }
        is_due
    }
}
