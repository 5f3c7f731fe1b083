//! How many buffers the sessions of a mail thread may hold, which direction waits for one, and which has to give one back.
//!
//! A direction holds one buffer at most, and none while nothing is there. A direction that finds no buffer left waits
//! in line. A direction that holds a buffer needs only its peers to finish with it. So a full budget stands still only
//! where peers neither read nor send: their buffers are called back when others wait.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// While others wait, a batch of 64 KiB that has not moved for so long is given up. This is half of the shortest
/// timeout of a mail client that is known (mbsync: 20 s). It affects paths slower than 50 kbit/s, and only while others
/// wait.
pub(super) const STUCK_TIME_MAX: Duration = Duration::from_secs(10);
/// The pause between two searches for buffers that are stuck.
const CALL_BACK_PAUSE: Duration = Duration::from_millis(100);

/// A mail thread's budget. One thread owns it: no lock.
#[derive(Clone, Default)]
pub(super) struct Budget(Rc<BudgetShared>);

#[derive(Default)]
struct BudgetShared {
    state: RefCell<BudgetState>,
    /// Notified when a direction begins to wait.
    wanted: Notify,
}

struct BudgetState {
    /// Buffers that may be in use at once.
    max: usize,
    /// One entry for each buffer in use, and vacant entries.
    held: Vec<Option<HeldBuffer>>,
    /// Indices of the vacant entries.
    vacant: Vec<usize>,
    /// Directions that wait, in the order of arrival. Bounded: two for each session.
    waiting: BTreeMap<u64, Waker>,
    next_number: u64,
}

/// A buffer in use.
struct HeldBuffer {
    since: Instant,
    called_back: bool,
    /// Wakes the direction when the buffer is called back; `None` before it first had to wait.
    waker: Option<Waker>,
}

impl Default for BudgetState {
    fn default() -> Self {
        let (held, vacant, waiting) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { max: usize::MAX, held, vacant, waiting, next_number: 0 }
    }
}

impl BudgetState {
    fn free(&self) -> usize {
        self.max.saturating_sub(self.held.len() - self.vacant.len())
    }

    fn occupy(&mut self) -> usize {
        let held = Some(HeldBuffer { since: Instant::now(), called_back: false, waker: None });
        if let Some(slot) = self.vacant.pop()
            && let Some(entry) = self.held.get_mut(slot)
        {
            *entry = held;
            return slot;
        }
        self.held.push(held);
        self.held.len() - 1
    }

    /// The last of the waiting directions for which there is room now.
    fn newly_served(&self) -> Option<Waker> {
        self.waiting.values().nth(self.free().checked_sub(1)?).cloned()
    }
}

/// Room for one buffer. Dropping it gives the room to the next direction in line.
pub(super) struct Lease {
    budget: Budget,
    slot: usize,
}

/// A place in line; dropping it leaves the line.
pub(super) struct Turn {
    budget: Budget,
    number: u64,
}

impl Budget {
    /// Let so many buffers be in use at once, at least one.
    pub(super) fn limit(&self, buffers: usize) {
        let max = buffers.max(1);
        let served: Vec<Waker> = {
            let mut state = self.0.state.borrow_mut();
            if std::mem::replace(&mut state.max, max) >= max {
                return;
            }
            state.waiting.values().take(state.free()).cloned().collect()
        };
        served.into_iter().for_each(Waker::wake);
    }

    /// Take room for one buffer, or a place in line, which `turn` keeps until there is room. A direction that no longer
    /// wants a buffer must drop its turn, because those behind it wait for it.
    pub(super) fn poll_lease(&self, turn: &mut Option<Turn>, cx: &mut Context<'_>) -> Poll<Lease> {
        let mut state = self.0.state.borrow_mut();
        let free = state.free();
        let served = match turn {
            None => state.waiting.len() < free,
            Some(turn) => state.waiting.keys().take(free).any(|number| *number == turn.number),
        };
        if served {
            if let Some(turn) = turn {
                state.waiting.remove(&turn.number);
            }
            let slot = state.occupy();
            drop(state);
            *turn = None;
            return Poll::Ready(Lease { budget: self.clone(), slot });
        }
        let number = turn.as_ref().map_or(state.next_number, |turn| turn.number);
        state.waiting.insert(number, cx.waker().clone());
        if turn.is_none() {
            state.next_number += 1;
            drop(state);
            *turn = Some(Turn { budget: self.clone(), number });
            self.0.wanted.notify_one();
        }
        Poll::Pending
    }

    /// Room for one buffer, if it is there and nobody waits for it.
    pub(super) fn lease_now(&self) -> Option<Lease> {
        let mut state = self.0.state.borrow_mut();
        (state.waiting.len() < state.free()).then(|| Lease { budget: self.clone(), slot: state.occupy() })
    }

    /// Call back stuck buffers while others wait; never returns. One task of the mail thread runs it.
    pub(super) async fn relieve(&self) {
        loop {
            self.0.wanted.notified().await;
            while let Some(next) = self.call_back(Instant::now()) {
                sleep_until(next).await;
            }
        }
    }

    /// Call back one buffer for each direction that waits: those that are stuck longest. Returns when to search again;
    /// `None` where no direction waits.
    fn call_back(&self, now: Instant) -> Option<Instant> {
        let mut told = Vec::new();
        let next = {
            let mut state = self.0.state.borrow_mut();
            let coming = state.held.iter().flatten().filter(|held| held.called_back).count();
            let wanted = state.waiting.len().saturating_sub(state.free() + coming);
            let mut held: Vec<_> = state.held.iter_mut().flatten().filter(|held| !held.called_back).collect();
            held.sort_unstable_by_key(|held| held.since);
            let stuck = |held: &HeldBuffer| held.since + STUCK_TIME_MAX <= now;
            for held in held.iter_mut().take(wanted).take_while(|held| stuck(held)) {
                held.called_back = true;
                told.extend(held.waker.take());
            }
            let first = held.iter().find(|held| !held.called_back).map(|held| held.since + STUCK_TIME_MAX);
            (!state.waiting.is_empty()).then(|| first.unwrap_or(now).max(now + CALL_BACK_PAUSE))
        };
        told.into_iter().for_each(Waker::wake);
        next
    }
}

impl Lease {
    /// Whether a direction that cannot go on now must give its buffer back. The direction is woken when that changes.
    pub(super) fn is_called_back(&self, cx: &mut Context<'_>) -> bool {
        let mut state = self.budget.0.state.borrow_mut();
        let Some(Some(held)) = state.held.get_mut(self.slot) else { return false };
        match &mut held.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => held.waker = Some(cx.waker().clone()),
        }
        held.called_back
    }

    /// All that was in the buffer has gone on.
    pub(super) fn moved(&self) {
        let mut state = self.budget.0.state.borrow_mut();
        if let Some(Some(held)) = state.held.get_mut(self.slot) {
            (held.since, held.called_back) = (Instant::now(), false);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let served = {
            let mut state = self.budget.0.state.borrow_mut();
            if let Some(entry) = state.held.get_mut(self.slot) {
                *entry = None;
            }
            state.vacant.push(self.slot);
            state.newly_served()
        };
        served.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let served = {
            let mut state = self.budget.0.state.borrow_mut();
            // A turn that was served has left the line already.
            state.waiting.remove(&self.number).and_then(|_| state.newly_served())
        };
        served.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    /// How often it was woken.
    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One direction.
    #[derive(Default)]
    struct Asker {
        turn: Option<Turn>,
        lease: Option<Lease>,
        woken: Arc<Woken>,
    }

    impl Asker {
        /// Ask for a buffer; whether there is one.
        fn asks(&mut self, budget: &Budget) -> bool {
            let waker = Waker::from(Arc::clone(&self.woken));
            match budget.poll_lease(&mut self.turn, &mut Context::from_waker(&waker)) {
                Poll::Ready(lease) => self.lease = Some(lease),
                Poll::Pending => {}
            }
            self.lease.is_some()
        }

        fn is_called_back(&self) -> bool {
            let waker = Waker::from(Arc::clone(&self.woken));
            self.lease.as_ref().unwrap().is_called_back(&mut Context::from_waker(&waker))
        }

        fn woken(&self) -> u32 {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    fn askers<const COUNT: usize>(max: usize) -> (Budget, [Asker; COUNT]) {
        let budget = Budget::default();
        budget.limit(max);
        (budget, std::array::from_fn(|_| Asker::default()))
    }

    #[test]
    fn who_finds_nothing_left_waits_in_line_and_is_served_in_order() {
        let (budget, [mut a, mut b, mut c, mut d]) = askers(2);
        assert_eq!(
            [&mut a, &mut b, &mut c, &mut d].map(|asker| asker.asks(&budget)),
            [true, true, false, false]
        );
        a.lease = None;
        assert_eq!((c.woken(), d.woken()), (1, 0));
        assert!(!a.asks(&budget) && !d.asks(&budget), "room is for who waited first");
        assert!(c.asks(&budget));
        b.lease = None;
        assert_eq!((d.woken(), a.woken()), (1, 0));
        assert!(d.asks(&budget) && !a.asks(&budget));
    }

    #[test]
    fn who_leaves_the_line_holds_nobody_up() {
        let (budget, [mut a, mut b, mut c]) = askers(1);
        assert_eq!([&mut a, &mut b, &mut c].map(|asker| asker.asks(&budget)), [true, false, false]);
        a.lease = None;
        // The first in line is woken, and leaves without taking a buffer.
        b.turn = None;
        assert_eq!((b.woken(), c.woken()), (1, 1));
        assert!(c.asks(&budget));
        c.lease = None;
        assert_eq!(budget.0.state.borrow().waiting.len(), 0);
        assert!(b.asks(&budget));
    }

    #[test]
    fn a_wider_budget_serves_who_waits_and_a_narrower_one_takes_nothing_away() {
        let (budget, [mut a, mut b, mut c]) = askers(1);
        assert_eq!([&mut a, &mut b, &mut c].map(|asker| asker.asks(&budget)), [true, false, false]);
        budget.limit(3);
        assert_eq!((b.woken(), c.woken()), (1, 1));
        assert!(b.asks(&budget) && c.asks(&budget));
        budget.limit(1);
        (a.lease, b.lease) = (None, None);
        assert!(!a.asks(&budget), "one is in use");
        c.lease = None;
        assert!(a.asks(&budget));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stuck_longest_is_called_back_and_only_while_others_wait() {
        let (budget, [mut a, mut b, mut c, mut d]) = askers(3);
        let step = STUCK_TIME_MAX / 2;
        for asker in [&mut a, &mut b, &mut c] {
            assert!(asker.asks(&budget) && !asker.is_called_back());
            tokio::time::advance(step).await;
        }
        assert_eq!(budget.call_back(Instant::now()), None, "nobody waits");
        // The first has gone on meanwhile.
        a.lease.as_ref().unwrap().moved();
        assert!(!d.asks(&budget));
        assert!(budget.call_back(Instant::now()).is_some());
        assert_eq!([&a, &b, &c].map(Asker::is_called_back), [false, true, false]);
        assert_eq!(b.woken(), 1);
        tokio::time::advance(10 * STUCK_TIME_MAX).await;
        budget.call_back(Instant::now());
        assert_eq!([&a, &c].map(Asker::is_called_back), [false, false], "one for each that waits");
        b.lease = None;
        assert!(d.asks(&budget));
    }

    #[tokio::test(start_paused = true)]
    async fn the_thread_looks_by_itself_until_everybody_is_served() {
        let (budget, [mut a, mut b]) = askers(1);
        let relieved = budget.clone();
        let local = tokio::task::LocalSet::new();
        local.spawn_local(async move { relieved.relieve().await });
        local
            .run_until(async {
                assert!(a.asks(&budget) && !a.is_called_back());
                assert!(!b.asks(&budget));
                while !a.is_called_back() {
                    tokio::time::sleep(CALL_BACK_PAUSE).await;
                }
                a.lease = None;
                assert!(b.asks(&budget));
            })
            .await;
    }
}
