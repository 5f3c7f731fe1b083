use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// Alarms that are on their way to one sink at once.
const RUNNING_MAX: u32 = 4;
/// Alarms that wait for their turn: a burst of every kind.
const WAITING_MAX: usize = 64;

/// The room of one sink: some alarms are on their way, others wait, and for more there is none.
pub(super) struct AlarmTurns {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl AlarmTurns {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(places())), waiting: Arc::default() }
    }

    /// Do this when it is its turn; whether there was room. The runtime drops it with the daemon.
    pub(super) fn take(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let (places, waiting) = (Arc::clone(&self.places), Arc::clone(&self.waiting));
        tokio::spawn(async move {
            let place = places.acquire().await;
            waiting.fetch_sub(1, Ordering::Relaxed);
            work.await;
            drop(place);
        });
        true
    }

    /// Waits until nothing is on its way and nothing waits.
    pub(super) async fn idle(&self) {
        loop {
            drop(self.places.acquire_many(RUNNING_MAX).await);
            // What was taken a moment ago has not asked for a place yet.
            if self.waiting.load(Ordering::Relaxed) == 0 {
                return;
            }
            yield_now().await;
        }
    }
}

const fn places() -> usize {
    RUNNING_MAX as usize
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn some_run_others_wait_and_for_more_there_is_no_room() {
        let turns = AlarmTurns::new();
        let took = (0..1000).filter(|_| turns.take(pending())).count();
        assert_eq!(took, WAITING_MAX, "none of them has begun");
        yield_now().await;
        assert_eq!((0..1000).filter(|_| turns.take(pending())).count(), places());
        let turns = AlarmTurns::new();
        let done = Arc::<AtomicUsize>::default();
        for _ in 0..20 {
            let done = Arc::clone(&done);
            assert!(turns.take(async move {
                yield_now().await;
                done.fetch_add(1, Ordering::Relaxed);
            }));
        }
        turns.idle().await;
        assert_eq!(done.load(Ordering::Relaxed), 20);
    }
}
