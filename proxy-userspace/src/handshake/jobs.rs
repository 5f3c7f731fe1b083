//! Work that a peer can make long, off the mail threads: judging a certificate, minting a leaf, signing with an RSA
//! key. A mail thread carries the sessions of many clients, and each would wait.
//!
//! One pool for the process: its threads begin with the daemon and outlive every policy.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// Jobs of a kind that wait for a thread. Each takes a fraction of a millisecond, so that the last of them is done
/// within a second or two; what a job holds, a session of `limits.sessions` would hold as well.
pub const JOBS_WAITING_MAX: usize = 4_096;
/// How long a session waits for its job. A pool that is this late cannot serve those who come now, and a client that
/// hears why within its own patience does not come back at once.
pub const JOB_WAIT: Duration = Duration::from_secs(5);

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// [`JOBS_WAITING_MAX`] wait already.
    #[error(
        "too many certificates are to be judged or minted at once ({JOBS_WAITING_MAX} wait); give the gateway more \
         cores, or lower limits.sessions"
    )]
    QueueFull,
    /// Not done within [`JOB_WAIT`].
    #[error(
        "no thread was free to judge or mint a certificate within {} s; give the gateway more cores, or lower \
         limits.sessions", JOB_WAIT.as_secs()
    )]
    Late,
    /// The job panicked.
    #[error("a fault in Postern while a certificate was judged or minted; please report it")]
    Panicked,
}

impl JobError {
    /// The token in records.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::QueueFull | Self::Late => "certificates_overloaded",
            Self::Panicked => "internal_panic",
        }
    }
}

/// What a job is for. Each kind has a queue of its own, so that a flood of chains that have to be judged leaves room
/// for the leaf under which a refused client reads why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Mint or sign for a client; done before any [`JobKind::Judge`].
    Serve,
    /// Judge what a server showed.
    Judge,
}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Waiting {
    serve: VecDeque<Job>,
    judge: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct JobQueue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

impl JobQueue {
    /// No job runs under the lock, so that no panic can leave it half changed.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, kind: JobKind, job: Job) -> Result<(), JobError> {
        let mut waiting = self.lock();
        let queue = match kind {
            JobKind::Serve => &mut waiting.serve,
            JobKind::Judge => &mut waiting.judge,
        };
        if queue.len() >= JOBS_WAITING_MAX {
            return Err(JobError::QueueFull);
        }
        queue.push_back(job);
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// The next job; `None` when the pool ends.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(job) = waiting.serve.pop_front().or_else(|| waiting.judge.pop_front()) {
                return Some(job);
            }
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }
}

/// A bounded number of threads with bounded queues.
pub struct JobPool {
    queue: Arc<JobQueue>,
    threads: Vec<JoinHandle<()>>,
}

impl JobPool {
    /// Starts so many threads, at least one. The daemon has one for each mail thread, so that judging and minting use the
    /// cores that mail may use.
    ///
    /// # Errors
    /// What the kernel says when it starts no thread; those that were started end.
    pub fn start(threads: u32) -> io::Result<Self> {
        let mut pool = Self { queue: Arc::default(), threads: Vec::new() };
        for index in 0..threads.max(1) {
            let queue = Arc::clone(&pool.queue);
            let work = move || {
                while let Some(job) = queue.next() {
                    // A panic costs its own session: the one that waits hears of it when the job is dropped.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            pool.threads.push(Builder::new().name(format!("crypto-{index}")).spawn(work)?);
        }
        Ok(pool)
    }

    /// Does `work` on a thread of the pool and returns what it returned. A job whose session has gone before its turn
    /// is not begun.
    ///
    /// # Errors
    /// [`JobError`]: the queue is full, [`JOB_WAIT`] is over, or the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        kind: JobKind,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobError> {
        let (done, awaited) = oneshot::channel();
        let job = move || {
            if !done.is_closed() {
                let _ = done.send(work());
            }
        };
        self.queue.push(kind, Box::new(job))?;
        match timeout(JOB_WAIT, awaited).await {
            Ok(answered) => answered.map_err(|_| JobError::Panicked),
            Err(_) => Err(JobError::Late),
        }
    }
}

/// Waits for the jobs that have begun; those that wait are dropped.
impl Drop for JobPool {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for JobPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobPool").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A pool of one thread that is busy until the sender is dropped.
    async fn busy() -> (Arc<JobPool>, Sender<()>) {
        let pool = Arc::new(JobPool::start(1).unwrap());
        let (release, held) = channel::<()>();
        let (begun, begins) = oneshot::channel();
        let occupied = Arc::clone(&pool);
        tokio::spawn(async move {
            let hold = move || {
                let _ = begun.send(());
                let _ = held.recv();
            };
            occupied.run(JobKind::Judge, hold).await
        });
        begins.await.unwrap();
        (pool, release)
    }

    #[tokio::test]
    async fn work_is_done_on_another_thread_and_a_panic_costs_its_own_session_only() {
        let pool = JobPool::start(1).unwrap();
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(pool.run(JobKind::Judge, name).await, Ok(Some("crypto-0".to_owned())));
        let fault = || {
            if true {
                panic!("on purpose")
            }
        };
        assert_eq!(pool.run(JobKind::Judge, fault).await, Err(JobError::Panicked));
        assert_eq!(pool.run(JobKind::Judge, name).await, Ok(Some("crypto-0".to_owned())));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_so_and_the_job_is_never_begun() {
        let (pool, release) = busy().await;
        let (begun, begins) = channel();
        // Time goes on by itself from here, as nothing else can happen.
        tokio::time::pause();
        let late = pool.run(JobKind::Judge, move || begun.send(())).await;
        assert_eq!(late.map(drop), Err(JobError::Late));
        tokio::time::resume();
        drop(release);
        assert_eq!(pool.run(JobKind::Judge, || 7).await, Ok(7));
        assert!(begins.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_a_flood_of_judging_leaves_room_to_serve() {
        let (pool, release) = busy().await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut flood = Vec::new();
        for number in 0..JOBS_WAITING_MAX {
            let (pool, order) = (Arc::clone(&pool), Arc::clone(&order));
            let note = move || order.lock().unwrap().push(number);
            flood.push(tokio::spawn(async move { pool.run(JobKind::Judge, note).await }));
        }
        // Every task of the flood has run until it waits.
        while pool.queue.lock().judge.len() < JOBS_WAITING_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(JobKind::Judge, || 0).await, Err(JobError::QueueFull));
        let (serving, served) = (Arc::clone(&pool), Arc::clone(&order));
        let serve = tokio::spawn(async move {
            serving.run(JobKind::Serve, move || served.lock().unwrap().push(usize::MAX)).await
        });
        while pool.queue.lock().serve.is_empty() {
            tokio::task::yield_now().await;
        }
        drop(release);
        assert_eq!(serve.await.unwrap(), Ok(()));
        assert_eq!(order.lock().unwrap().first(), Some(&usize::MAX), "before those that came earlier");
        for judged in flood {
            assert_eq!(judged.await.unwrap(), Ok(()));
        }
    }
}
