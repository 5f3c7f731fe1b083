//! Work that a peer can make long, off the mail threads: judging a certificate, minting a leaf, signing with an RSA
//! key, judging mail. A mail thread carries the sessions of many clients, and each would wait.
//!
//! One pool for each purpose, so that mail that is judged never holds up a handshake. Their threads begin with the process
//! and outlive every policy.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// Jobs of a kind that wait for a thread. Each that is about a certificate takes a fraction of a millisecond, so that the
/// last of them is done within a second or two; what it holds, a session of `limits.sessions` would hold as well. What
/// jobs about mail hold is bounded by `limits.held`.
pub const JOBS_WAITING_MAX: usize = 4_096;
/// How long a handshake waits for its job. A pool that is this late cannot serve those who come now, and a client that
/// hears why within its own patience does not come back at once.
pub const JOB_WAIT: Duration = Duration::from_secs(5);

/// What a pool is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobPurpose {
    /// Certificates and signatures of handshakes.
    Certificates,
    /// The judgement of mail.
    Content,
}

impl JobPurpose {
    /// How its threads are named, before their number.
    const fn thread(self) -> &'static str {
        match self {
            Self::Certificates => "crypto",
            Self::Content => "content",
        }
    }

    /// What its jobs do, in an operator's words.
    const fn words(self) -> &'static str {
        match self {
            Self::Certificates => "to judge or mint a certificate",
            Self::Content => "to judge mail",
        }
    }
}

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// [`JOBS_WAITING_MAX`] wait already.
    #[error(
        "too many sessions wait for a thread {} ({JOBS_WAITING_MAX} already); give the gateway more cores, or lower \
         limits.sessions", .0.words()
    )]
    QueueFull(JobPurpose),
    /// Not done within [`JOB_WAIT`].
    #[error(
        "no thread was free {} within {} s; give the gateway more cores, or lower limits.sessions",
        .0.words(), JOB_WAIT.as_secs()
    )]
    Late(JobPurpose),
    /// The job panicked, or its pool ended.
    #[error("a fault in Postern ended the attempt {}; please report it", .0.words())]
    Panicked(JobPurpose),
}

impl JobError {
    /// The token in the record of a session whose handshake ended for want of the job. No session ends for want of a
    /// judgement of mail.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::QueueFull(_) | Self::Late(_) => "certificates_overloaded",
            Self::Panicked(_) => "internal_panic",
        }
    }
}

/// What a job is for. Each kind has a queue of its own, so that a flood of what has to be judged leaves room for the leaf
/// under which a refused client reads why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Mint or sign for a client; done before any [`JobKind::Judge`].
    Serve,
    /// Judge what a peer sent.
    Judge,
}

type Job = Box<dyn FnOnce() + Send>;

/// Jobs by their tickets, which grow: the first is the oldest.
type Line = BTreeMap<u64, Job>;

#[derive(Default)]
struct Waiting {
    serve: Line,
    judge: Line,
    tickets: u64,
    closed: bool,
}

impl Waiting {
    const fn line(&mut self, kind: JobKind) -> &mut Line {
        match kind {
            JobKind::Serve => &mut self.serve,
            JobKind::Judge => &mut self.judge,
        }
    }
}

#[derive(Default)]
struct JobQueue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

impl JobQueue {
    /// No job runs under the lock, and none is dropped under it, so that no panic can leave it half changed.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its ticket, or the job again where the line is full.
    fn push(&self, kind: JobKind, job: Job) -> Result<u64, Job> {
        let mut waiting = self.lock();
        if waiting.line(kind).len() >= JOBS_WAITING_MAX {
            return Err(job);
        }
        let ticket = waiting.tickets;
        waiting.tickets = ticket.wrapping_add(1);
        waiting.line(kind).insert(ticket, job);
        drop(waiting);
        self.filled.notify_one();
        Ok(ticket)
    }

    /// Take a job out of its line, where it still waits.
    fn withdraw(&self, kind: JobKind, ticket: u64) {
        let job = self.lock().line(kind).remove(&ticket);
        drop(job);
    }

    /// The next job; `None` when the pool ends.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some((_, job)) = waiting.serve.pop_first().or_else(|| waiting.judge.pop_first()) {
                return Some(job);
            }
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let left = (std::mem::take(&mut waiting.serve), std::mem::take(&mut waiting.judge));
        drop(waiting);
        drop(left);
        self.filled.notify_all();
    }
}

/// A bounded number of threads with bounded queues.
pub struct JobPool {
    purpose: JobPurpose,
    queue: Arc<JobQueue>,
    threads: Vec<JoinHandle<()>>,
}

impl JobPool {
    /// Starts so many threads, at least one.
    ///
    /// # Errors
    /// What the kernel says when it starts no thread; those that were started end.
    pub fn start(purpose: JobPurpose, threads: u32) -> io::Result<Self> {
        let mut pool = Self { purpose, queue: Arc::default(), threads: Vec::new() };
        for index in 0..threads.max(1) {
            let queue = Arc::clone(&pool.queue);
            let work = move || {
                while let Some(job) = queue.next() {
                    // A panic costs its own session: the one that waits hears of it when the job is dropped.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            let name = format!("{}-{index}", purpose.thread());
            pool.threads.push(Builder::new().name(name).spawn(work)?);
        }
        Ok(pool)
    }

    /// Has `work` done on a thread of the pool. Whoever drops what this returns cancels it: work that has not begun is
    /// dropped at once with all that it holds, and work that has begun finds its flag set and should end soon.
    ///
    /// # Errors
    /// [`JobError::QueueFull`]; `work` was dropped.
    pub fn begin<T: Send + 'static>(
        &self,
        kind: JobKind,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Result<Pending<T>, JobError> {
        let (done, answer) = oneshot::channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        let job = move || {
            // It may be taken out of its line in the moment in which its session leaves.
            if !flag.load(Ordering::Relaxed) {
                let _ = done.send(work(&flag));
            }
        };
        let ticket =
            self.queue.push(kind, Box::new(job)).map_err(|_refused| JobError::QueueFull(self.purpose))?;
        let (queue, purpose) = (Arc::clone(&self.queue), self.purpose);
        Ok(Pending { answer, cancelled, queue, ticket, kind, purpose, is_over: false })
    }

    /// Does `work` on a thread of the pool and returns what it returned, for at most [`JOB_WAIT`]. A job whose session has
    /// gone before its turn is not begun.
    ///
    /// # Errors
    /// [`JobError`]: the queue is full, [`JOB_WAIT`] is over, or the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        kind: JobKind,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobError> {
        let pending = self.begin(kind, |_| work())?;
        timeout(JOB_WAIT, pending).await.unwrap_or(Err(JobError::Late(self.purpose)))
    }

    /// Jobs that wait for a thread.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let waiting = self.queue.lock();
        let jobs = waiting.serve.len().saturating_add(waiting.judge.len());
        u64::try_from(jobs).unwrap_or(u64::MAX)
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
        f.debug_struct("JobPool")
            .field("purpose", &self.purpose)
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

/// A job that was begun by [`JobPool::begin`]: a future of what its work returns. It must not be polled again after that.
pub struct Pending<T> {
    answer: oneshot::Receiver<T>,
    cancelled: Arc<AtomicBool>,
    queue: Arc<JobQueue>,
    ticket: u64,
    kind: JobKind,
    purpose: JobPurpose,
    is_over: bool,
}

/// [`JobError::Panicked`] where nothing comes any more.
impl<T> Future for Pending<T> {
    type Output = Result<T, JobError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = ready!(Pin::new(&mut self.answer).poll(cx));
        self.is_over = true;
        Poll::Ready(answered.map_err(|_| JobError::Panicked(self.purpose)))
    }
}

/// Cancels the work.
impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        if !self.is_over {
            self.cancelled.store(true, Ordering::Relaxed);
            self.queue.withdraw(self.kind, self.ticket);
        }
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ticket, kind, purpose, .. } = self;
        f.debug_struct("Pending")
            .field("ticket", ticket)
            .field("kind", kind)
            .field("purpose", purpose)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A pool of one thread that is busy until the sender is dropped.
    async fn busy() -> (Arc<JobPool>, Sender<()>) {
        let pool = Arc::new(JobPool::start(JobPurpose::Certificates, 1).unwrap());
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
        let pool = JobPool::start(JobPurpose::Certificates, 1).unwrap();
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(pool.run(JobKind::Judge, name).await, Ok(Some("crypto-0".to_owned())));
        let fault = || {
            if true {
                panic!("on purpose")
            }
        };
        assert_eq!(pool.run(JobKind::Judge, fault).await, Err(JobError::Panicked(JobPurpose::Certificates)));
        assert_eq!(pool.run(JobKind::Judge, name).await, Ok(Some("crypto-0".to_owned())));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told_so_and_the_job_is_never_begun() {
        let (pool, release) = busy().await;
        let (begun, begins) = channel();
        // Time goes on by itself from here, as nothing else can happen.
        tokio::time::pause();
        let late = pool.run(JobKind::Judge, move || begun.send(())).await;
        assert_eq!(late.map(drop), Err(JobError::Late(JobPurpose::Certificates)));
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
        while pool.waiting() < u64::try_from(JOBS_WAITING_MAX).unwrap() {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(JobKind::Judge, || 0).await, Err(JobError::QueueFull(JobPurpose::Certificates)));
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
    #[tokio::test]
    async fn work_whose_session_leaves_is_dropped_at_once_or_told_to_stop() {
        let (pool, release) = busy().await;
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let waiting = pool.begin(JobKind::Judge, move |_| drop(holds)).unwrap();
        assert_eq!((Arc::strong_count(&held), pool.waiting()), (2, 1));
        drop(waiting);
        assert_eq!((Arc::strong_count(&held), pool.waiting()), (1, 0), "no message is held for nobody");
        drop(release);
        let (begun, begins) = channel();
        let (stopped, stops) = channel();
        let running = pool.begin(JobKind::Judge, move |cancelled| {
            begun.send(()).unwrap();
            while !cancelled.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            stopped.send(()).unwrap();
        });
        begins.recv().unwrap();
        drop(running.unwrap());
        stops.recv().unwrap();
        assert_eq!(pool.run(JobKind::Judge, || 7).await, Ok(7), "its thread serves the next");
    }

    #[tokio::test]
    async fn who_judges_mail_waits_as_long_as_it_takes_and_hears_of_a_fault() {
        let pool = JobPool::start(JobPurpose::Content, 1).unwrap();
        let name = |_: &AtomicBool| std::thread::current().name().map(str::to_owned);
        let named = pool.begin(JobKind::Judge, name).unwrap();
        assert_eq!(named.await, Ok(Some("content-0".to_owned())));
        let fault = |_: &AtomicBool| {
            if true {
                panic!("on purpose")
            }
        };
        let error = pool.begin(JobKind::Judge, fault).unwrap().await.unwrap_err();
        assert_eq!(error, JobError::Panicked(JobPurpose::Content));
        assert!(error.to_string().contains("judge mail"), "{error}");
        assert!(
            JobError::Late(JobPurpose::Certificates).to_string().contains("mint a certificate within 5 s")
        );
    }
}
