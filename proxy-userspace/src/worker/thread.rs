//! One thread of the worker: pinned to a core, with its own runtime and listeners; connections never leave it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::LocalSet;

use super::Policy;
use super::connection::{Arrival, serve};
use super::era::Era;
use super::protocol::Serve;
use super::roster::{CUT_ORDERS_MAX, CutOrder, Roster};
use crate::accept::egress::EgressTable;
use crate::accept::{
    Admission, HeldOctets, LimitReached, Permit, Shortage, descriptors_to_be_had, is_shortage, keep_alive,
};
use crate::config::InterfaceName;
use crate::guard::Guard;
use crate::handshake::{OcspAnswers, part};
use crate::jobs::JobPool;
use crate::judging::JudgePool;
use crate::layer::Pool;
use crate::line_limit::LineLimit;
use crate::record::Records;
use crate::relay::splice::Pipes;
use crate::steering::syn_egress::SynEgress;
use crate::vault::Vault;
use crate::words::{ClientAddr, OriginalDst, Service};

/// Without descriptors, accepting rests this long: long enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A shortage lasts at least this long: what the control task does about it costs more than one refused client, and
/// descriptors come and go one by one.
const SHORTAGE_LEAST: Duration = Duration::from_secs(1);

/// Clients over a limit whose leaving a thread waits for at a time, so that `* BYE` arrives. Their descriptors are those
/// of no session; more clients than this are told and closed at once.
const LEAVING_MAX: usize = 8;

/// What all threads share.
#[derive(Clone)]
pub(super) struct WorkerShared {
    pub(super) policy: Arc<ArcSwap<Policy>>,
    /// Of this policy: what a session asks at each command.
    pub(super) generation: Arc<AtomicU64>,
    pub(super) admission: Arc<Admission>,
    /// For certificates and signatures.
    pub(super) jobs: Arc<JobPool>,
    /// What authorities say of certificates, when they are asked.
    pub(super) answers: Arc<OcspAnswers>,
    /// For the judgement of mail; what is forbidden in it stands in the policy.
    pub(super) content_jobs: Arc<JobPool>,
    /// The processes that judge complete leaves.
    pub(super) judges: Arc<JudgePool>,
    /// What all sessions hold of mail that is judged.
    pub(super) held: Arc<HeldOctets>,
    /// What was judged; there from the first policy on under which mail is.
    pub(super) vault: Arc<OnceLock<Arc<Vault>>>,
    /// What is counted of accounts, whatever policies come and go.
    pub(super) guard: Arc<Guard>,
    pub(super) records: Records,
    pub(super) egress_refused: Arc<AtomicU64>,
    pub(super) implicit_refused: Arc<AtomicU64>,
    /// Connections that no policy admits.
    pub(super) unmatched_refused: Arc<AtomicU64>,
    pub(super) local_refused: Arc<AtomicU64>,
    pub(super) syn_egress: SynEgress,
}

/// What the sessions of one thread share.
pub(super) struct Local {
    pub(super) shared: WorkerShared,
    pub(super) pool: Pool,
    pub(super) pipes: Pipes,
    pub(super) egress: RefCell<EgressTable>,
    pub(super) roster: Roster,
    /// Clients over a limit that are told so: see [`LEAVING_MAX`].
    leaving: Rc<Semaphore>,
}

/// What a thread's successor goes on counting.
#[derive(Default)]
pub(super) struct ThreadCounts {
    pub(super) active: AtomicU64,
    pub(super) accepted: AtomicU64,
    /// Sessions at the moment when the thread ended.
    cut: AtomicU64,
    /// The thread has ended and drops its sessions.
    ending: AtomicBool,
}

/// A listener and the interface whose connections it gets.
pub(super) struct Ingress {
    pub(super) name: InterfaceName,
    pub(super) listener: TcpListener,
}

/// What changes while a thread runs.
pub(super) enum ThreadNews {
    /// Accept from these, too.
    Listen(Vec<Ingress>),
    /// Close the listeners of these ingresses.
    Unlisten(Vec<InterfaceName>),
}

/// Everything that a thread is started with.
pub(super) struct ThreadStart {
    pub(super) index: u32,
    pub(super) ingresses: Vec<Ingress>,
    pub(super) counts: Arc<ThreadCounts>,
    /// Told when the thread has ended, however it ended.
    pub(super) ended: Arc<Notify>,
}

/// A handle on a running thread.
pub(super) struct WorkerThread {
    cpu: Option<u32>,
    counts: Arc<ThreadCounts>,
    over: Arc<AtomicBool>,
    orders: mpsc::Sender<CutOrder>,
    stop: oneshot::Sender<()>,
    /// One message for each reload that changes the ingresses.
    news: UnboundedSender<ThreadNews>,
    thread: JoinHandle<io::Result<()>>,
}

impl WorkerThread {
    pub(super) fn start(start: ThreadStart, shared: WorkerShared, serve: Serve) -> Result<Self> {
        let egress = EgressTable::new()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (news, heard) = unbounded_channel();
        let (orders, given) = mpsc::channel(CUT_ORDERS_MAX);
        let (index, counts) = (start.index, Arc::clone(&start.counts));
        counts.ending.store(false, Ordering::Relaxed);
        let core = index % serve.cores.max(1);
        let cpu = (serve.cores > 1).then_some(core);
        let over = Arc::new(AtomicBool::new(false));
        let announcement = EndAnnouncement { over: Arc::clone(&over), ended: Arc::clone(&start.ended) };
        let work = move || {
            // Dropped last: who hears of the end finds listeners closed and sessions gone.
            let _announcement = announcement;
            if let Some(core) = cpu {
                pin(core);
            }
            let (pool, pipes) = (Pool::default(), Pipes::default());
            let leaving = Rc::new(Semaphore::new(LEAVING_MAX));
            let (egress, roster) = (RefCell::new(egress), Roster::default());
            let local = Local { shared, pool, pipes, egress, roster, leaving };
            // Dropping the set drops every session that is left: each writes its record.
            let sessions = LocalSet::new();
            let accepting = accept(start, Rc::new(local), given, heard, stopped);
            #[cfg(debug_assertions)]
            let accepting = crate::fault::or_panic_on_demand(accepting);
            runtime.block_on(sessions.run_until(accepting))
        };
        let thread = std::thread::Builder::new()
            .name(format!("mail-{index}"))
            .spawn(work)
            .context("starting a thread")?;
        Ok(Self { cpu, counts, over, orders, stop, news, thread })
    }

    /// What changes; a thread that has ended does not hear it.
    pub(super) fn tell(&self, news: ThreadNews) {
        let _ = self.news.send(news);
    }

    pub(super) const fn cpu(&self) -> Option<u32> {
        self.cpu
    }

    /// Whether its thread has ended.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Have sessions end that this policy refuses; the answer is how many. None comes where the thread has ended. `None` where
    /// the thread has not carried out the orders before.
    pub(super) fn cut(&self, policy: Arc<Policy>) -> Option<oneshot::Receiver<u64>> {
        let (told, answer) = oneshot::channel();
        let given = self.orders.try_send(CutOrder { policy, told });
        (!matches!(given, Err(TrySendError::Full(_)))).then_some(answer)
    }

    /// Cut what is left and wait for the thread.
    pub(super) fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }

    /// Why the thread ended without being told to, and how many sessions it cut.
    pub(super) fn cause_of_death(self) -> (String, u64) {
        let why = match self.thread.join() {
            Ok(Ok(())) => "it ended without a reason".to_owned(),
            Ok(Err(error)) => format!("it cannot accept: {error}"),
            Err(panic) => format!("a fault in Postern, please report it: {}", words(&*panic)),
        };
        (why, self.counts.cut.load(Ordering::Relaxed))
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}

/// Says that a thread has ended, however it ended.
struct EndAnnouncement {
    over: Arc<AtomicBool>,
    ended: Arc<Notify>,
}

impl Drop for EndAnnouncement {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        self.ended.notify_one();
    }
}

fn pin(core: u32) {
    let mut set = CpuSet::new();
    set.set(core as usize);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "the thread is not pinned to its core");
    }
}

/// [`Ingress`] in the thread's runtime.
struct OpenIngress {
    name: Rc<InterfaceName>,
    listener: tokio::net::TcpListener,
}

impl OpenIngress {
    fn new(ingress: Ingress) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::from_std(ingress.listener)?;
        Ok(Self { name: Rc::new(ingress.name), listener })
    }
}

/// Take a change over. Sessions of an ingress whose listener is closed go on.
///
/// # Errors
/// A listener cannot be waited for. The thread is to end then: its successor has all listeners, and tries again until it can.
fn heed(news: ThreadNews, ingresses: &mut Vec<OpenIngress>) -> io::Result<()> {
    match news {
        ThreadNews::Unlisten(names) => ingresses.retain(|ingress| !names.contains(&ingress.name)),
        ThreadNews::Listen(more) => {
            for ingress in more {
                ingresses.push(OpenIngress::new(ingress)?);
            }
        }
    }
    Ok(())
}

async fn accept(
    start: ThreadStart,
    local: Rc<Local>,
    orders: mpsc::Receiver<CutOrder>,
    mut news: UnboundedReceiver<ThreadNews>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let counts = start.counts;
    let _cut = CutCount(&counts);
    let pool = local.pool.clone();
    let wiped = pool.clone();
    tokio::task::spawn_local(async move { pool.relieve().await });
    tokio::task::spawn_local(async move { wiped.wipe().await });
    tokio::task::spawn_local(local.roster.clone().obey(orders));
    let mut ingresses = start.ingresses.into_iter().map(OpenIngress::new).collect::<io::Result<Vec<_>>>()?;
    let mut turn = 0;
    let mut want = Want { admission: Arc::clone(&local.shared.admission), failing: false, short: None };
    loop {
        let (ingress, accepted) = tokio::select! {
            next = next(&ingresses, &mut turn) => next,
            () = want.pause() => continue,
            Some(news) = news.recv() => {
                heed(news, &mut ingresses)?;
                continue;
            }
            _ = &mut stopped => return Ok(()),
        };
        match accepted {
            Ok((socket, client)) => {
                want.relieved();
                admit(socket, ClientAddr(client), ingress, &local, &counts);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                want.failed(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

type Accepted = io::Result<(TcpStream, SocketAddr)>;

/// The next connection, or what the kernel says instead; each listener in its turn, so that none starves another.
async fn next(ingresses: &[OpenIngress], turn: &mut usize) -> (Rc<InterfaceName>, Accepted) {
    poll_fn(|cx| {
        let (passed, ahead) = ingresses.split_at(*turn % ingresses.len().max(1));
        for (step, ingress) in (1..).zip(ahead.iter().chain(passed)) {
            if let Poll::Ready(accepted) = ingress.listener.poll_accept(cx) {
                *turn = turn.wrapping_add(step);
                return Poll::Ready((Rc::clone(&ingress.name), accepted));
            }
        }
        Poll::Pending
    })
    .await
}

/// What the thread lacks: said in the log, and of descriptors and memory to the control task too, once when it begins
/// and once when it ends, however long it lasts.
struct Want {
    admission: Arc<Admission>,
    failing: bool,
    short: Option<(Shortage, Instant)>,
}

impl Want {
    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true)
            && let Some(more) = SHORTAGE_LINES.admit()
        {
            tracing::error!(%error, "accept failed; clients wait in the queue until it succeeds again{more}");
        }
        if is_shortage(error) {
            let admission = &self.admission;
            self.short.get_or_insert_with(|| (admission.short(), Instant::now()));
        }
    }

    fn relieved(&mut self) {
        if self.short.as_ref().is_some_and(|(_, since)| since.elapsed() < SHORTAGE_LEAST) {
            return;
        }
        self.short = None;
        if std::mem::take(&mut self.failing)
            && let Some(more) = SHORTAGE_LINES.admit()
        {
            tracing::info!("accepting again{more}");
        }
    }

    /// While nobody comes, because intake was switched off, no accept can succeed: see for ourselves.
    async fn pause(&mut self) {
        if self.short.is_none() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
        if descriptors_to_be_had() {
            self.relieved();
        }
    }
}

fn admit(
    socket: TcpStream,
    client: ClientAddr,
    ingress: Rc<InterfaceName>,
    local: &Rc<Local>,
    counts: &Arc<ThreadCounts>,
) {
    let Ok(destination) = socket.local_addr().map(OriginalDst) else { return };
    // A connection of this machine to a listener itself has the listener's own port.
    let policy = local.shared.policy.load();
    let Some(service) = policy.config.steering.service(destination.0.port()) else {
        local.shared.local_refused.fetch_add(1, Ordering::Relaxed);
        reset(&socket);
        return;
    };
    keep_alive(&socket);
    let (permit, handshaking) = match local.shared.admission.admit(client.0) {
        Ok(admitted) => admitted,
        Err(limit) => {
            refuse(socket, service, limit, local);
            return;
        }
    };
    counts.accepted.fetch_add(1, Ordering::Relaxed);
    counts.active.fetch_add(1, Ordering::Relaxed);
    let era = Arc::clone(&policy.era);
    let session =
        SessionCount { _permit: permit, _era: era, counts: Arc::clone(counts), client, destination };
    let arrival = Arrival { ingress, client, destination, service, accepted: tokio::time::Instant::now() };
    let local = Rc::clone(local);
    // A panic ends this task alone: the runtime catches it. What it shared was lent by guards, which unwinding returns.
    tokio::task::spawn_local(async move {
        let _session = session;
        serve(socket, arrival, handshaking, &local).await;
    });
}

static FAULT_LINES: LineLimit = LineLimit::new();
static SHORTAGE_LINES: LineLimit = LineLimit::new();

/// A session is counted while this exists.
struct SessionCount {
    _permit: Permit,
    _era: Arc<Era>,
    counts: Arc<ThreadCounts>,
    client: ClientAddr,
    destination: OriginalDst,
}

impl Drop for SessionCount {
    fn drop(&mut self) {
        self.counts.active.fetch_sub(1, Ordering::Relaxed);
        if std::thread::panicking()
            && !self.counts.ending.load(Ordering::Relaxed)
            && let Some(more) = FAULT_LINES.admit()
        {
            let (client, destination) = (self.client, self.destination);
            tracing::error!(
                %client,
                %destination,
                "a fault in Postern ended this connection; please report it{more}"
            );
        }
    }
}

/// Counts the sessions that the thread's end cuts: dropped before they are, by a stop, an error or a panic.
struct CutCount<'a>(&'a ThreadCounts);

impl Drop for CutCount<'_> {
    fn drop(&mut self) {
        self.0.cut.store(self.0.active.load(Ordering::Relaxed), Ordering::Relaxed);
        self.0.ending.store(true, Ordering::Relaxed);
    }
}

/// What is dropped afterwards ends with a reset.
fn reset(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Over a limit: words where words can be said, a reset where TLS would come first.
fn refuse(mut socket: TcpStream, service: Service, limit: LimitReached, local: &Local) {
    if service == Service::ImplicitTls {
        reset(&socket);
        return;
    }
    let leaving = Rc::clone(&local.leaving);
    tokio::task::spawn_local(async move {
        let words = format!("* BYE {}\r\n", limit.words());
        match leaving.try_acquire() {
            Ok(_permit) => part(&mut socket, words.as_bytes()).await,
            Err(_) => drop(socket.write_all(words.as_bytes()).await),
        }
    });
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::accept::sessions;

    fn want() -> Want {
        Want { admission: Admission::new(sessions(10, 10)), failing: false, short: None }
    }

    #[test]
    fn only_a_lack_of_descriptors_or_memory_is_fullness() {
        for (errno, full) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOBUFS, true),
            (Errno::NOMEM, true),
            (Errno::PERM, false),
            (Errno::HOSTUNREACH, false),
        ] {
            let mut want = want();
            want.failed(&errno.into());
            assert_eq!(want.admission.is_full(), full, "{errno}");
        }
    }

    #[test]
    fn a_shortage_is_over_when_it_has_lasted_its_least_time_and_an_accept_succeeds() {
        let mut want = want();
        want.failed(&Errno::MFILE.into());
        let since = |want: &mut Want, when| want.short.as_mut().unwrap().1 = when;
        since(&mut want, Instant::now() + Duration::from_secs(3600));
        want.relieved();
        assert!(want.admission.is_full());
        since(&mut want, Instant::now() - SHORTAGE_LEAST);
        want.relieved();
        assert!(!want.admission.is_full());
    }

    #[test]
    fn a_shortage_ends_with_its_worker() {
        let mut want = want();
        let admission = Arc::clone(&want.admission);
        want.failed(&Errno::MFILE.into());
        drop(want);
        assert!(!admission.is_full());
    }
}
