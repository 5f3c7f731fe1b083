//! The workers together: listeners per ingress, and a successor for a worker that died.
//!
//! A dead worker closes its listeners while it unwinds: the others take its share from the same ports, and
//! `tcp_migrate_req` hands them the connections of its queues.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use proxy_ebpf::{Family, WORKERS_MAX};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::thread::{Counts, Door, Seat, Shared, Worker};
use crate::accept::{SocketBuffers, listen};
use crate::admin::{ListenerStatus, WorkerStatus};
use crate::config::SteeringConfig;
use crate::line_limit::LineLimit;
use crate::steering::program::Program;
use crate::steering::routing;

/// Between two starts of a worker: one that dies at once, again and again, must not take the core from the others.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Both families, as slots, with their words in the status.
const FAMILIES: [(Family, &str); 2] = [(Family::V4, "ipv4"), (Family::V6, "ipv6")];

static DEATH_LINES: LineLimit = LineLimit::new();

/// All workers. Belongs to the control task.
pub(crate) struct Crew {
    steering: SteeringConfig,
    shared: Shared,
    /// One reuseport group for each ingress and family.
    ports: Vec<[Cell<u16>; FAMILIES.len()]>,
    members: Vec<RefCell<Member>>,
    ended: Arc<Notify>,
}

struct Member {
    index: u32,
    counts: Arc<Counts>,
    /// None where its last start failed.
    worker: Option<Worker>,
    restarts: u64,
    /// When it was started, or when that was tried.
    started: Instant,
}

impl Crew {
    /// Open all listeners, give them to the program, and start the workers.
    ///
    /// # Errors
    /// A listener, a thread or a slot of the program cannot be had; what was started is stopped.
    pub(crate) fn start(
        program: &mut Program,
        steering: &SteeringConfig,
        workers: u32,
        shared: &Shared,
    ) -> Result<Self> {
        let mut crew = Self {
            steering: steering.clone(),
            shared: shared.clone(),
            ports: steering.ingress.iter().map(|_| Default::default()).collect(),
            members: Vec::new(),
            ended: Arc::default(),
        };
        for index in 0..workers {
            let counts = Arc::default();
            let mut member = Member { index, counts, worker: None, restarts: 0, started: Instant::now() };
            member.worker = Some(crew.hire(program, &member)?);
            crew.members.push(RefCell::new(member));
        }
        Ok(crew)
    }

    /// Waits until a worker has died and its successor may be started; returns its index, again and again until
    /// [`Self::replace`] was called. May be dropped while it waits.
    pub(crate) async fn fallen(&self) -> u32 {
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

    /// Say what became of a dead worker, and start its successor on the same ports and slots. When this fails,
    /// [`Self::fallen`] names the worker again after the pause.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn replace(&self, program: &mut Program, index: u32) -> Result<()> {
        let Some(member) = self.members.iter().find(|member| member.borrow().index == index) else {
            return Ok(());
        };
        let mut member = member.borrow_mut();
        if member.is_alive() {
            return Ok(());
        }
        member.started = Instant::now();
        let more = DEATH_LINES.admit();
        if let Some(worker) = member.worker.take() {
            let (why, cut) = worker.post_mortem();
            if let Some(more) = more {
                tracing::error!(worker = index, sessions_cut = cut, "a worker died: {why}{more}");
            }
        }
        member.worker =
            Some(self.hire(program, &member).with_context(|| format!("restarting worker {index}"))?);
        member.restarts += 1;
        if more.is_some() {
            tracing::warn!(worker = index, restarts = member.restarts, "the worker was started again");
        }
        Ok(())
    }

    fn hire(&self, program: &mut Program, member: &Member) -> Result<Worker> {
        let seat = Seat {
            index: member.index,
            doors: self.doors(program, member.index)?,
            counts: Arc::clone(&member.counts),
            ended: Arc::clone(&self.ended),
        };
        Worker::start(seat, self.shared.clone(), &self.steering)
    }

    /// One listener per ingress and family, each in its slot of the program's map.
    fn doors(&self, program: &mut Program, worker: u32) -> Result<Vec<Door>> {
        let mut doors = Vec::new();
        let buffers = SocketBuffers::of_session(self.shared.policy.load().config.limits.session_memory);
        for ((number, ingress), ports) in (0..).zip(&self.steering.ingress).zip(&self.ports) {
            let served =
                |((family, _), _): &((Family, &str), &Cell<u16>)| routing::families().contains(family);
            for ((family, name), port) in FAMILIES.into_iter().zip(ports).filter(served) {
                let opened = match listen(family, port.get(), buffers) {
                    // Nobody of ours is left on it, and somebody else took it: any port will do.
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => listen(family, 0, buffers),
                    opened => opened,
                };
                let listener = opened.with_context(|| {
                    let ingress = ingress.as_str();
                    format!(
                        "opening the {name} listener of worker {worker} for {ingress} (needs CAP_NET_ADMIN)"
                    )
                })?;
                port.set(listener.local_addr()?.port());
                program.add_listener(number, family, worker, &listener)?;
                doors.push(Door { ingress: ingress.clone(), listener });
            }
        }
        Ok(doors)
    }

    /// For `postern status`.
    pub(crate) fn workers(&self) -> Vec<WorkerStatus> {
        self.members.iter().map(|member| member.borrow().status()).collect()
    }

    /// For `postern status`: those of workers that are alive.
    pub(crate) fn listeners(&self) -> Vec<ListenerStatus> {
        let alive = self.members.iter().map(RefCell::borrow).filter(|member| member.is_alive());
        let of_worker = |worker: u32| {
            let doors = self.steering.ingress.iter().zip(&self.ports).flat_map(|(ingress, ports)| {
                FAMILIES.into_iter().zip(ports).map(move |(family, port)| (ingress, family, port))
            });
            // A family that the kernel lacks has no port.
            let doors = doors.filter(|(_, _, port)| port.get() != 0);
            doors.map(move |(ingress, (family, name), port)| ListenerStatus {
                ingress: ingress.as_str().to_owned(),
                family: name.to_owned(),
                address: crate::accept::listener_address(family, port.get()),
                worker,
            })
        };
        alive.flat_map(|member| of_worker(member.index)).collect()
    }

    /// Cut what is left and wait for all threads.
    pub(crate) fn stop(self) {
        for member in self.members {
            if let Some(worker) = member.into_inner().worker {
                worker.stop();
            }
        }
    }
}

impl Member {
    fn is_alive(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| !worker.is_over())
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus {
            index: self.index,
            cpu: self.worker.as_ref().and_then(Worker::cpu),
            sessions: self.counts.active.load(Ordering::Relaxed),
            accepted_total: self.counts.accepted.load(Ordering::Relaxed),
            alive: self.is_alive(),
            restarts: self.restarts,
        }
    }
}

/// As many as wanted, or one per core.
pub(crate) fn worker_count(wanted: Option<u16>) -> u32 {
    let cores =
        std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    wanted.map_or(cores, u32::from).clamp(1, WORKERS_MAX)
}
