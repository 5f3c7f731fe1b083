use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::link::{JudgeFault, JudgeLink, LeafAsked, LinkError};
use super::unscannable::Unscannable;
use crate::content::{LeafDecision, Unavailable};
use crate::ipc::Channel;
use crate::line_limit::LineLimit;

/// How long a leaf waits for a judge that is free. A judge that died has a successor within a fraction of a second; where
/// all are busy for longer, whoever asks comes again.
const JUDGE_WAIT: Duration = Duration::from_secs(10);
/// Between two looks whether the session that waits has gone.
const CANCEL_LOOK: Duration = Duration::from_millis(100);

/// A judge that is not asked any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JudgeFailure {
    /// Its number.
    pub(crate) judge: u64,
    /// Why.
    pub(crate) fault: JudgeFault,
}

/// Numbers for `postern status`, since the worker was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JudgeNumbers {
    /// Leaves that were judged.
    pub(crate) leaves: u64,
    /// Judges that died of a leaf or of their rules, or answered with what no judge says.
    pub(crate) lost: u64,
    /// Judges whose answer was overdue.
    pub(crate) hung: u64,
    /// Leaves of which two judges died, each as often as it was met.
    pub(crate) cannot_scan: u64,
    /// Leaves that had no judge in time, or could not be passed to one.
    pub(crate) unavailable: u64,
}

#[derive(Debug, Default)]
struct Counters {
    leaves: AtomicU64,
    lost: AtomicU64,
    hung: AtomicU64,
    cannot_scan: AtomicU64,
    unavailable: AtomicU64,
}

/// What became of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PoolAnswer {
    /// A judge's decision.
    Decided(LeafDecision),
    /// Two judges died of it.
    CannotScan,
    /// No verdict now.
    Unavailable(Unavailable),
}

/// Which judges are free.
#[derive(Debug, Default)]
struct Idle {
    links: Vec<JudgeLink>,
    /// Leaves that wait for a judge that has judged nothing yet.
    fresh_wanted: usize,
}

impl Idle {
    /// One that has judged before, where there is one: those that have not are kept for leaves of which a judge died.
    fn take(&mut self) -> Option<JudgeLink> {
        let used = self.links.iter().rposition(|link| link.leaves > 0);
        let fresh = self.links.iter().filter(|link| link.leaves == 0).count();
        let at =
            used.or_else(|| (fresh > self.fresh_wanted).then(|| self.links.len().checked_sub(1)).flatten())?;
        Some(self.links.remove(at))
    }

    fn take_fresh(&mut self) -> Option<JudgeLink> {
        let at = self.links.iter().position(|link| link.leaves == 0)?;
        Some(self.links.remove(at))
    }
}

/// All judges that a worker knows. A judge serves one leaf at a time.
pub(crate) struct JudgePool {
    idle: Mutex<Idle>,
    came: Condvar,
    failures: UnboundedSender<JudgeFailure>,
    unscannable: Unscannable,
    counters: Counters,
    /// The worker ends: nobody waits any more.
    closed: AtomicBool,
    wait: Duration,
}

impl JudgePool {
    /// Without a judge, and what there is to be told to the supervisor.
    ///
    /// # Errors
    /// There is no randomness to be had.
    pub(crate) fn new() -> Result<(Arc<Self>, UnboundedReceiver<JudgeFailure>), aws_lc_rs::error::Unspecified>
    {
        Self::waiting(JUDGE_WAIT)
    }

    pub(super) fn waiting(
        wait: Duration,
    ) -> Result<(Arc<Self>, UnboundedReceiver<JudgeFailure>), aws_lc_rs::error::Unspecified> {
        let mut key = [0; blake3::KEY_LEN];
        aws_lc_rs::rand::fill(&mut key)?;
        let (failures, told) = unbounded_channel();
        let pool = Self {
            idle: Mutex::default(),
            came: Condvar::new(),
            failures,
            unscannable: Unscannable::new(key),
            counters: Counters::default(),
            closed: AtomicBool::new(false),
            wait,
        };
        Ok((Arc::new(pool), told))
    }

    /// A judge is there, at the other end of `channel`.
    pub(crate) fn connect(&self, judge: u64, channel: Channel) {
        self.give_back(JudgeLink::new(judge, channel));
    }

    /// The worker ends: no leaf gets a decision any more, and no thread is held up.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.came.notify_all();
    }

    /// For `postern status`.
    pub(crate) fn numbers(&self) -> JudgeNumbers {
        let Counters { leaves, lost, hung, cannot_scan, unavailable } = &self.counters;
        let [leaves, lost, hung, cannot_scan, unavailable] =
            [leaves, lost, hung, cannot_scan, unavailable].map(|counter| counter.load(Ordering::Relaxed));
        JudgeNumbers { leaves, lost, hung, cannot_scan, unavailable }
    }

    /// Have a leaf judged. A leaf of which a judge died goes once more to one that has judged nothing yet, so that nothing
    /// but the leaf itself can be at fault; the second time the verdict is final and remembered.
    ///
    /// A session that leaves while its leaf waits for a judge is heard of; one that leaves while a judge is at work is
    /// not, because the judge would owe its answer to the next one, and its time is bounded.
    pub(super) fn judge(&self, asked: &LeafAsked<'_>, cancelled: &AtomicBool) -> PoolAnswer {
        let &LeafAsked { terms, head, octets, .. } = asked;
        if self.unscannable.has(terms.id, head, octets) {
            count(&self.counters.cannot_scan);
            return PoolAnswer::CannotScan;
        }
        let first = match self.attempt(asked, false, cancelled) {
            Attempt::Died => self.attempt(asked, true, cancelled),
            first => first,
        };
        match first {
            Attempt::Decided(decision) => {
                count(&self.counters.leaves);
                PoolAnswer::Decided(decision)
            }
            Attempt::Died => {
                self.unscannable.remember(terms.id, head, octets);
                count(&self.counters.cannot_scan);
                PoolAnswer::CannotScan
            }
            Attempt::Unavailable(why) => {
                if why == Unavailable::JudgeDown {
                    count(&self.counters.unavailable);
                }
                PoolAnswer::Unavailable(why)
            }
        }
    }

    fn attempt(&self, asked: &LeafAsked<'_>, is_fresh: bool, cancelled: &AtomicBool) -> Attempt {
        static UNPASSED: LineLimit = LineLimit::new();
        let mut link = match self.take(is_fresh, cancelled) {
            Ok(link) => link,
            Err(why) => return Attempt::Unavailable(why),
        };
        match link.ask(asked, &self.closed) {
            Ok(decision) => {
                self.give_back(link);
                Attempt::Decided(decision)
            }
            Err(LinkError::Judge(JudgeFault::Hangs) | LinkError::Terms(JudgeFault::Hangs)) => {
                count(&self.counters.hung);
                self.fails(&link, JudgeFault::Hangs);
                Attempt::Unavailable(Unavailable::JudgeDown)
            }
            Err(LinkError::Terms(fault)) => {
                // The leaf is not at fault.
                count(&self.counters.lost);
                self.fails(&link, fault);
                Attempt::Unavailable(Unavailable::JudgeDown)
            }
            Err(LinkError::Judge(fault)) => {
                count(&self.counters.lost);
                self.fails(&link, fault);
                Attempt::Died
            }
            Err(LinkError::Closed) => Attempt::Unavailable(Unavailable::Cancelled),
            Err(LinkError::Memory(error)) => {
                self.give_back(link);
                if let Some(left_out) = UNPASSED.admit() {
                    let octets = asked.octets.len();
                    tracing::error!(
                        octets,
                        "a part of a mail cannot be passed to a judge: {error}{left_out}"
                    );
                }
                Attempt::Unavailable(Unavailable::JudgeDown)
            }
        }
    }

    /// The next judge that is free, and that has said nothing since it was asked last.
    fn take(&self, is_fresh: bool, cancelled: &AtomicBool) -> Result<JudgeLink, Unavailable> {
        static NONE_FREE: LineLimit = LineLimit::new();
        let begun = Instant::now();
        let mut idle = self.idle();
        idle.fresh_wanted = idle.fresh_wanted.saturating_add(usize::from(is_fresh));
        let taken = loop {
            let link = if is_fresh { idle.take_fresh() } else { idle.take() };
            match link.map(|link| (link.is_quiet(), link)) {
                Some((Ok(()), link)) => break Ok(link),
                Some((Err(fault), link)) => {
                    self.fails(&link, fault);
                    continue;
                }
                None => {}
            }
            if cancelled.load(Ordering::Relaxed) || self.closed.load(Ordering::Relaxed) {
                break Err(Unavailable::Cancelled);
            }
            let left = self.wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break Err(Unavailable::JudgeDown);
            }
            let waited = self.came.wait_timeout(idle, left.min(CANCEL_LOOK));
            idle = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        idle.fresh_wanted = idle.fresh_wanted.saturating_sub(usize::from(is_fresh));
        drop(idle);
        if taken.as_ref().err() == Some(&Unavailable::JudgeDown)
            && let Some(left_out) = NONE_FREE.admit()
        {
            tracing::error!(
                "no judge was free within {} s, so that mail is answered NO [UNAVAILABLE]; `postern status` shows them{left_out}",
                self.wait.as_secs()
            );
        }
        taken
    }

    fn give_back(&self, link: JudgeLink) {
        self.idle().links.push(link);
        // All, because one that waits for a fresh judge may be the one that is woken.
        self.came.notify_all();
    }

    /// The supervisor ends it; its channel is closed with the link.
    fn fails(&self, link: &JudgeLink, fault: JudgeFault) {
        // Nobody hears it while the worker ends.
        let _ = self.failures.send(JudgeFailure { judge: link.judge, fault });
    }

    /// Nothing panics under the lock.
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one judge made of a leaf.
enum Attempt {
    Decided(LeafDecision),
    Died,
    Unavailable(Unavailable),
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl fmt::Debug for JudgePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JudgePool").field("idle", &self.idle().links.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
