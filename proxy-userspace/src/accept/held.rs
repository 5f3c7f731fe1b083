//! The octets of mail that all sessions together hold while it is judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::words::Size;

/// One budget for the process. Mail threads and the threads that judge share it without a lock.
#[derive(Debug)]
pub struct HeldOctets {
    octets: AtomicU64,
    limit: AtomicU64,
    refused: AtomicU64,
}

impl HeldOctets {
    /// A budget of so many octets, of which nothing is held.
    #[must_use]
    pub fn new(limit: Size) -> Arc<Self> {
        let (octets, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { octets, limit: AtomicU64::new(limit.0), refused })
    }

    /// Another limit. What is held above it stays held; nothing more is granted until that has gone.
    pub fn set_limit(&self, limit: Size) {
        self.limit.store(limit.0, Ordering::Relaxed);
    }

    /// A share in it, of no octets yet.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> HeldLease {
        HeldLease { budget: Arc::clone(self), octets: 0 }
    }

    /// Octets that are held now.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// Octets that may be held.
    #[must_use]
    pub fn limit(&self) -> Size {
        Size(self.limit.load(Ordering::Relaxed))
    }

    /// How often there was no room for what was asked.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    // The counters guard nothing but themselves, so that no ordering among other memory is needed.
    fn take(&self, octets: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |held: u64| held.checked_add(octets).filter(|sum| *sum <= limit);
        let taken = self.octets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !taken {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }
}

/// What one holder has of the budget. It may move to another thread with the octets that it stands for, such as into a
/// job; dropping it gives everything back.
#[derive(Debug)]
pub struct HeldLease {
    budget: Arc<HeldOctets>,
    octets: u64,
}

impl HeldLease {
    /// Take so many octets more, or none where the budget has no room for all of them. Never waits.
    #[must_use]
    pub fn try_grow(&mut self, octets: u64) -> bool {
        let grown = self.budget.take(octets);
        if grown {
            self.octets = self.octets.saturating_add(octets);
        }
        grown
    }

    /// Whether there is room for so many octets more now.
    #[must_use]
    pub fn has_room(&self, octets: u64) -> bool {
        self.budget.octets().saturating_add(octets) <= self.budget.limit().0
    }

    /// Give so many octets back, at most all.
    pub fn shrink(&mut self, octets: u64) {
        let back = octets.min(self.octets);
        self.octets = self.octets.saturating_sub(back);
        self.budget.octets.fetch_sub(back, Ordering::Relaxed);
    }

    /// Octets of this lease.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.octets
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.shrink(self.octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_not_granted_even_in_part_and_counted() {
        let budget = HeldOctets::new(Size(100));
        let (mut first, mut second) = (budget.lease(), budget.lease());
        assert!(first.try_grow(60) && second.try_grow(40));
        assert!(!second.try_grow(1) && second.try_grow(0) && !first.try_grow(u64::MAX));
        assert_eq!((budget.octets(), first.octets(), second.octets(), budget.refused()), (100, 60, 40, 2));
        drop(first);
        assert_eq!(budget.octets(), 40);
        assert!(second.try_grow(60));
        second.shrink(1000);
        assert_eq!((budget.octets(), second.octets()), (0, 0), "no lease gives back more than it has");
    }

    #[test]
    fn a_lower_limit_takes_nothing_away_and_grants_nothing_before_there_is_room() {
        let budget = HeldOctets::new(Size(100));
        let (mut large, mut small) = (budget.lease(), budget.lease());
        assert!(large.try_grow(90));
        budget.set_limit(Size(50));
        assert_eq!((budget.octets(), budget.limit()), (90, Size(50)));
        assert!(!small.try_grow(1));
        drop(large);
        assert!(small.try_grow(50));
    }

    #[test]
    fn threads_that_take_and_give_at_once_never_hold_more_than_the_limit_and_leave_nothing() {
        let budget = HeldOctets::new(Size(10));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let budget = &budget;
                scope.spawn(move || {
                    for round in 0..10_000 {
                        let mut lease = budget.lease();
                        if lease.try_grow(3 + (thread + round) % 5) {
                            assert!(budget.octets() <= 10);
                        }
                        if round % 7 == 0 {
                            lease.shrink(2);
                        }
                    }
                });
            }
        });
        assert_eq!(budget.octets(), 0);
    }
}
