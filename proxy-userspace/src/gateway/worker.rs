//! One worker: a thread pinned to a core, its own runtime, its own listeners; connections never leave it.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{JoinHandle, available_parallelism};
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::Policy;
use super::connection::serve;
use crate::accept::egress::EgressTable;
use crate::accept::{Admission, keep_alive};
use crate::admin::WorkerStatus;
use crate::config::InterfaceName;
use crate::layer::Pool;
use crate::record::Records;
use crate::relay::splice::Pipes;
use crate::words::{ClientAddr, OriginalDst};

/// Without descriptors, accepting rests this long: long enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all workers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) admission: Arc<Admission>,
    pub(super) records: Records,
    pub(super) egress_refused: Arc<AtomicU64>,
}

/// What the sessions of one worker share.
pub(super) struct Local {
    pub(super) shared: Shared,
    pub(super) pool: Pool,
    pub(super) pipes: Pipes,
    pub(super) egress: RefCell<EgressTable>,
}

#[derive(Default)]
struct Counts {
    active: AtomicU64,
    accepted: AtomicU64,
}

/// A handle on a running worker.
pub(super) struct Worker {
    index: u32,
    cpu: Option<u32>,
    counts: Arc<Counts>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(
        index: u32,
        listeners: [TcpListener; 2],
        shared: Shared,
        egress: &[InterfaceName],
    ) -> Result<Self> {
        let egress = EgressTable::new(egress)?;
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counted = Arc::clone(&counts);
        let cores = available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        let core = index % cores;
        let cpu = (cores > 1).then_some(core);
        let work = move || {
            if let Some(core) = cpu {
                pin(core);
            }
            let local = Local {
                shared,
                pool: Pool::default(),
                pipes: Pipes::default(),
                egress: RefCell::new(egress),
            };
            // Dropping the set drops every session that is left: each writes its record.
            let sessions = LocalSet::new();
            let accepting = sessions.run_until(accept(listeners, Rc::new(local), counted, stopped));
            if let Err(error) = runtime.block_on(accepting) {
                tracing::error!(worker = index, %error, "the worker cannot accept");
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(work)
            .context("starting a worker thread")?;
        Ok(Self { index, cpu, counts, stop, thread })
    }

    pub(super) fn status(&self) -> WorkerStatus {
        WorkerStatus {
            index: self.index,
            cpu: self.cpu,
            sessions: self.counts.active.load(Ordering::Relaxed),
            accepted_total: self.counts.accepted.load(Ordering::Relaxed),
            alive: !self.thread.is_finished(),
        }
    }

    /// Cut what is left and wait for the thread.
    pub(super) fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn pin(core: u32) {
    let mut set = CpuSet::new();
    set.set(core as usize);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "the worker is not pinned to its core");
    }
}

async fn accept(
    listeners: [TcpListener; 2],
    local: Rc<Local>,
    counts: Arc<Counts>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let [v4, v6] = listeners;
    let v4 = tokio::net::TcpListener::from_std(v4)?;
    let v6 = tokio::net::TcpListener::from_std(v6)?;
    // One line when a shortage begins and one when it ends, however long it lasts.
    let mut short = false;
    loop {
        let accepted = tokio::select! {
            accepted = v4.accept() => accepted,
            accepted = v6.accept() => accepted,
            _ = &mut stopped => return Ok(()),
        };
        match accepted {
            Ok((socket, client)) => {
                if std::mem::take(&mut short) {
                    tracing::info!("accepting again");
                }
                admit(socket, ClientAddr(client), &local, &counts);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut short, true) {
                    tracing::error!(%error, "accept failed; clients wait in the queue until it succeeds again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(socket: TcpStream, client: ClientAddr, local: &Rc<Local>, counts: &Arc<Counts>) {
    let Ok(destination) = socket.local_addr().map(OriginalDst) else { return };
    keep_alive(&socket);
    let Some(permit) = local.shared.admission.admit(client.ip()) else {
        refuse(socket, destination);
        return;
    };
    let (local, counts) = (Rc::clone(local), Arc::clone(counts));
    counts.accepted.fetch_add(1, Ordering::Relaxed);
    counts.active.fetch_add(1, Ordering::Relaxed);
    let counted = Counted(counts);
    tokio::task::spawn_local(async move {
        let _held = (permit, counted);
        serve(socket, client, destination, &local).await;
    });
}

struct Counted(Arc<Counts>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Over a limit: words where words can be said, a reset where TLS would come first.
fn refuse(mut socket: TcpStream, destination: OriginalDst) {
    if destination.is_implicit_tls() {
        let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        return;
    }
    tokio::task::spawn_local(async move {
        let _ = socket.write_all(b"* BYE Too many sessions; try again later.\r\n").await;
    });
}
