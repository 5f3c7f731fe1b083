//! The threads together: each with its listeners, and a successor for one that died.
//!
//! The listeners outlive the thread that accepts from them: the supervisor and this process hold them, too. Connections
//! that stand in the queue of a thread that died wait for its successor.

use std::cell::RefCell;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use proxy_ebpf::WORKERS_MAX;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::protocol::{FromWorker, Serve};
use super::thread::{Ingress, ThreadCounts, ThreadNews, ThreadStart, WorkerShared, WorkerThread};
use crate::admin::ThreadStatus;
use crate::config::InterfaceName;
use crate::line_limit::LineLimit;

/// Between two starts of a thread: one that dies at once, again and again, must not take the core from the others.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A mail thread goes through a thousand sessions in milliseconds. One that has not done so by then does it later, uncounted.
const CUT_TIME_MAX: Duration = Duration::from_secs(5);

static DEATH_LINES: LineLimit = LineLimit::new();

/// A listener, and who accepts from it.
pub(super) struct AssignedListener {
    pub(super) ingress: InterfaceName,
    pub(super) thread: u32,
    pub(super) listener: TcpListener,
}

/// All threads. Belongs to the control task.
pub(super) struct Crew {
    places: Vec<AssignedListener>,
    serve: Serve,
    shared: WorkerShared,
    members: Vec<RefCell<Member>>,
    ended: Arc<Notify>,
}

struct Member {
    index: u32,
    counts: Arc<ThreadCounts>,
    /// None where its last start failed.
    thread: Option<WorkerThread>,
    restarts: u64,
    /// When it was started, or when that was tried.
    started: Instant,
}

impl Crew {
    /// Start the threads.
    ///
    /// # Errors
    /// A thread cannot be had; those that were started are stopped.
    pub(super) fn start(places: Vec<AssignedListener>, serve: Serve, shared: WorkerShared) -> Result<Self> {
        let mut crew = Self { places, serve, shared, members: Vec::new(), ended: Arc::default() };
        for index in 0..serve.threads {
            let counts = Arc::default();
            let mut member = Member { index, counts, thread: None, restarts: 0, started: Instant::now() };
            member.thread = Some(crew.start_thread(&member)?);
            crew.members.push(RefCell::new(member));
        }
        Ok(crew)
    }

    /// What all threads share.
    pub(super) const fn shared(&self) -> &WorkerShared {
        &self.shared
    }

    /// Waits until a thread has died and its successor may be started; returns its index, again and again until
    /// [`Self::replace`] was called. May be dropped while it waits.
    pub(super) async fn fallen(&self) -> u32 {
        loop {
            match self.next_due() {
                None => self.ended.notified().await,
                Some((index, due)) if due <= Instant::now() => return index,
                Some((_, due)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = self.ended.notified() => {}
                    }
                }
            }
        }
    }

    fn next_due(&self) -> Option<(u32, Instant)> {
        let members = self.members.iter().map(RefCell::borrow);
        let dead = members.filter(|member| !member.is_alive());
        dead.map(|member| (member.index, member.started + RESTART_PAUSE)).min_by_key(|(_, due)| *due)
    }

    /// Say what became of a dead thread, and start its successor on the same listeners. When this fails,
    /// [`Self::fallen`] names the thread again after the pause.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) fn replace(&self, index: u32) -> Result<()> {
        let Some(member) = self.members.iter().find(|member| member.borrow().index == index) else {
            return Ok(());
        };
        let mut member = member.borrow_mut();
        if member.is_alive() {
            return Ok(());
        }
        member.started = Instant::now();
        let more = DEATH_LINES.admit();
        if let Some(thread) = member.thread.take() {
            let (why, cut) = thread.cause_of_death();
            if let Some(more) = more {
                tracing::error!(
                    thread = index,
                    sessions_cut = cut,
                    "a thread of the worker died: {why}{more}"
                );
            }
        }
        member.thread =
            Some(self.start_thread(&member).with_context(|| format!("restarting thread {index}"))?);
        member.restarts += 1;
        if more.is_some() {
            tracing::warn!(thread = index, restarts = member.restarts, "the thread was started again");
        }
        Ok(())
    }

    fn start_thread(&self, member: &Member) -> Result<WorkerThread> {
        let start = ThreadStart {
            index: member.index,
            ingresses: ingresses(&self.places, member.index)?,
            counts: Arc::clone(&member.counts),
            ended: Arc::clone(&self.ended),
        };
        WorkerThread::start(start, self.shared.clone(), self.serve)
    }

    /// Accept from further listeners, too. A thread that is dead accepts from them when it is started again.
    ///
    /// # Errors
    /// There is no descriptor for one more.
    pub(super) fn listen(&mut self, places: Vec<AssignedListener>) -> Result<()> {
        for member in &self.members {
            let member = member.borrow();
            if let Some(thread) = &member.thread {
                thread.tell(ThreadNews::Listen(ingresses(&places, member.index)?));
            }
        }
        self.places.extend(places);
        Ok(())
    }

    /// Close the listeners of these ingresses.
    pub(super) fn unlisten(&mut self, ingresses: &[InterfaceName]) {
        self.places.retain(|place| !ingresses.contains(&place.ingress));
        for member in &self.members {
            if let Some(thread) = &member.borrow().thread {
                thread.tell(ThreadNews::Unlisten(ingresses.to_vec()));
            }
        }
    }

    /// Have sessions of all threads end that the policy in force refuses. [`told`] waits for the answers.
    pub(super) fn cut(&self) -> Cut {
        let policy = self.shared.policy.load_full();
        let mut cut = Cut::new();
        for member in &self.members {
            if let Some(thread) = &member.borrow().thread {
                match thread.cut(Arc::clone(&policy)) {
                    Some(answer) => cut.answers.push(answer),
                    None => cut.silent_threads += 1,
                }
            }
        }
        cut
    }

    /// For `postern status`.
    pub(super) fn threads(&self) -> Vec<ThreadStatus> {
        self.members.iter().map(|member| member.borrow().status()).collect()
    }

    /// Cut what is left and wait for all threads.
    pub(super) fn stop(self) {
        for member in self.members {
            if let Some(thread) = member.into_inner().thread {
                thread.stop();
            }
        }
    }
}

/// Orders that were given to threads, and what came back so far.
pub(super) struct Cut {
    answers: Vec<oneshot::Receiver<u64>>,
    deadline: Instant,
    sessions: u64,
    silent_threads: u32,
}

impl Cut {
    fn new() -> Self {
        let deadline = Instant::now() + CUT_TIME_MAX;
        Self { answers: Vec::new(), deadline, sessions: 0, silent_threads: 0 }
    }
}

/// Waits until all threads have answered, or for [`CUT_TIME_MAX`]; for ever where nothing is cut. May be dropped while it
/// waits.
pub(super) async fn told(cut: &mut Option<Cut>) -> FromWorker {
    let Some(cut) = cut else { return std::future::pending().await };
    while let Some(answer) = cut.answers.last_mut() {
        match timeout_at(cut.deadline, answer).await {
            Ok(Ok(sessions)) => cut.sessions += sessions,
            // A thread that died has cut its sessions.
            Ok(Err(_)) => {}
            Err(_) => cut.silent_threads += 1,
        }
        cut.answers.pop();
    }
    FromWorker::Cut { sessions: cut.sessions, silent_threads: cut.silent_threads }
}

impl Member {
    fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_over())
    }

    fn status(&self) -> ThreadStatus {
        ThreadStatus {
            index: self.index,
            cpu: self.thread.as_ref().and_then(WorkerThread::cpu),
            sessions: self.counts.active.load(Ordering::Relaxed),
            accepted_total: self.counts.accepted.load(Ordering::Relaxed),
            alive: self.is_alive(),
            restarts: self.restarts,
        }
    }
}

/// Those of a thread, as descriptors of its own.
fn ingresses(places: &[AssignedListener], thread: u32) -> Result<Vec<Ingress>> {
    let own = places.iter().filter(|place| place.thread == thread);
    own.map(|place| Ok(Ingress { name: place.ingress.clone(), listener: place.listener.try_clone()? }))
        .collect::<Result<_>>()
        .context("another descriptor for a listener (raise LimitNOFILE of the service)")
}

/// As many as wanted, or one per core.
pub(crate) fn thread_count(wanted: Option<u16>) -> u32 {
    wanted.map_or_else(core_count, u32::from).clamp(1, WORKERS_MAX)
}

/// Cores that this process may use, as the files of its control group say.
pub(crate) fn core_count() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_does_not_answer_is_counted_and_one_that_died_is_not() {
        let mut cut = Cut::new();
        let (answering, answer) = oneshot::channel();
        let (_hung, never) = oneshot::channel::<u64>();
        let (dead, closed) = oneshot::channel::<u64>();
        drop(dead);
        cut.answers.extend([answer, never, closed]);
        let mut cut = Some(cut);
        // The control task does other things meanwhile, and asks again.
        assert!(tokio::time::timeout(CUT_TIME_MAX / 2, told(&mut cut)).await.is_err());
        answering.send(3).unwrap();
        let FromWorker::Cut { sessions, silent_threads } = told(&mut cut).await else {
            panic!("something else")
        };
        assert_eq!((sessions, silent_threads), (3, 1));
    }
}
