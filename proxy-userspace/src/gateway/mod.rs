//! The spine: one connection from accept to record, the workers that run it, and the daemon around them.

/// One connection.
mod connection;
/// All workers: their listeners, and a successor for one that died.
mod crew;
/// One thread per core: a single-threaded runtime, its listeners, its sessions.
mod worker;

use std::cell::RefCell;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use proxy_ebpf::Exit;
use rustix::process::{Resource, getrlimit};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::crew::Crew;
pub(crate) use self::crew::worker_count;
use self::worker::Shared;
use crate::accept::{Admission, descriptors_reserved, sessions_within};
use crate::admin::{AdminSocket, InterfaceStatus, SessionsStatus, Status, SteeringStatus, ask, serve};
use crate::config::{self, Config, InterfaceName};
use crate::handshake::Trust;
use crate::record::Records;
use crate::steering::program::Program;
use crate::steering::routing::{self, Routing, interface_index};
use crate::steering::sysctl::Sysctls;

/// Sessions when no limit on descriptors is set.
const SESSIONS_UNLIMITED: u64 = 100_000;

/// One policy generation: a connection holds its own until it ends.
pub(crate) struct Policy {
    pub(crate) config: Config,
    pub(crate) trust: Trust,
}

impl Policy {
    fn load(config: Config) -> Result<Self> {
        let trust = Trust::load(&config)?;
        Ok(Self { config, trust })
    }

    fn sessions(&self) -> u64 {
        let steering = &self.config.steering;
        let reserved = descriptors_reserved(steering, worker_count(steering.workers));
        let within = |descriptors| sessions_within(descriptors, reserved);
        let derived = getrlimit(Resource::Nofile).current.map_or(SESSIONS_UNLIMITED, within);
        self.config.limits.sessions.map_or(derived, u64::from)
    }
}

/// Run until TERM or INT; everything that was installed is gone afterwards.
///
/// # Errors
/// What could not be installed, in an operator's words. Nothing is left behind then.
pub fn run(config: Config, path: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(daemon(config, path))
}

async fn daemon(config: Config, path: &Path) -> Result<()> {
    let started = OffsetDateTime::from(SystemTime::now()).format(&Rfc3339)?;
    let policy = Policy::load(config)?;
    let mut signals = Signals::new()?;
    let _sole = sole_in_namespace()?;
    let socket = admin_socket(&policy.config.admin.socket)?;
    clear_leftovers()?;
    let (records, writer) = Records::to_stdout()?;
    let steering = policy.config.steering.clone();
    let workers = worker_count(steering.workers);
    let admission = Admission::new(policy.sessions(), u64::from(policy.config.limits.sessions_per_client));
    let shared = Shared {
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        admission,
        records: records.clone(),
        egress_refused: Arc::default(),
    };
    let mut sysctls = Sysctls::apply()?;
    let mut program = Program::load()?;
    let ingress = ingress(&steering.ingress)?;
    program.set_ingress(&ingress.iter().map(|interface| interface.index).collect::<Vec<_>>())?;
    let crew = Crew::start(&mut program, &steering, workers, &shared)?;
    program.attach()?;
    let installed = Routing::install(&steering.ingress)?;
    tracing::info!(
        workers,
        ipv6 = %installed.ipv6,
        "steering IMAP (ports 143 and 993) from {} to {}",
        names(&steering.ingress),
        names(&steering.egress)
    );

    let state = State { started, path: path.to_owned(), ingress };
    let program = RefCell::new(program);
    // Whatever ends this, what was installed is taken back below.
    let ended = {
        let status = async || state.status(&program.borrow(), &crew, &shared, &records);
        let served = serve(socket, status);
        tokio::pin!(served);
        loop {
            tokio::select! {
                ended = &mut served => break ended.context("the admin socket ended"),
                index = crew.fallen() => {
                    if let Err(error) = crew.replace(&mut program.borrow_mut(), index) {
                        tracing::error!(worker = index, "{error:#}");
                    }
                }
                asked = signals.next() => match asked {
                    Asked::Reload => reload(path, &shared),
                    Asked::Stop => break Ok(()),
                },
            }
        }
    };
    tracing::info!(
        "TERM: stopping; new connections are refused while sessions drain, then mail flows uninspected"
    );
    // The rules stay while sessions drain: without them their packets would no longer reach us.
    drop(program);
    drain(&mut signals, &shared).await;
    crew.stop();
    installed.remove()?;
    sysctls.restore()?;
    drop((shared, records));
    let _ = writer.join();
    ended
}

fn clear_leftovers() -> Result<()> {
    let cleared = routing::clear_leftovers()?;
    if cleared.rules + cleared.routes > 0 {
        tracing::warn!(
            rules = cleared.rules,
            routes = cleared.routes,
            "removed what a killed predecessor left"
        );
    }
    Ok(())
}

fn ingress(names: &[InterfaceName]) -> Result<Vec<InterfaceStatus>> {
    let found = names
        .iter()
        .map(|name| Ok(InterfaceStatus { name: name.as_str().to_owned(), index: interface_index(name)? }));
    found.collect()
}

/// Sessions go on until they end, the drain limit, or a second signal.
async fn drain(signals: &mut Signals, shared: &Shared) {
    let limit = shared.policy.load().config.limits.drain;
    let empty = async {
        while shared.admission.numbers().active > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let active = shared.admission.numbers().active;
    if active > 0 {
        tracing::info!(active, seconds = limit.as_secs(), "draining; a second TERM cuts");
    }
    tokio::select! {
        () = empty => {}
        () = tokio::time::sleep(limit) => tracing::warn!("the drain limit is over: cutting what is left"),
        () = signals.stop() => tracing::warn!("second TERM: cutting what is left"),
    }
}

/// A new policy for connections from now on; the old one stays, loudly, when the new one is wrong.
fn reload(path: &Path, shared: &Shared) {
    let loaded = config::load(path).map_err(anyhow::Error::from).and_then(|config| {
        let running = &shared.policy.load().config;
        if config.steering != running.steering || config.admin != running.admin {
            bail!("[steering] and [admin] change with a restart only");
        }
        Policy::load(config)
    });
    match loaded {
        Ok(policy) => {
            shared.admission.set(policy.sessions(), u64::from(policy.config.limits.sessions_per_client));
            shared.policy.store(Arc::new(policy));
            tracing::info!(path = %path.display(), "configuration reloaded");
        }
        Err(error) => {
            tracing::error!("configuration NOT reloaded, the old one stays in force: {error:#}");
        }
    }
}

/// Abstract socket names belong to a network namespace and vanish with their process: a lock that nobody can leave
/// behind. It is the proof that no other daemon runs here, before anything is cleared.
fn sole_in_namespace() -> Result<UnixListener> {
    let name = SocketAddr::from_abstract_name("postern/steering")?;
    UnixListener::bind_addr(&name).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow::anyhow!(
                "another postern steers this network namespace already; stop it first (`postern status`)"
            )
        }
        _ => error.into(),
    })
}

fn admin_socket(path: &Path) -> Result<AdminSocket> {
    if let Ok(other) = ask(path) {
        bail!("another postern (pid {}) answers on {}; stop it first", other.pid, path.display());
    }
    Ok(AdminSocket::bind(path)?)
}

fn names(interfaces: &[InterfaceName]) -> String {
    interfaces.iter().map(InterfaceName::as_str).collect::<Vec<_>>().join(", ")
}

/// What does not change while the daemon runs.
struct State {
    started: String,
    path: PathBuf,
    ingress: Vec<InterfaceStatus>,
}

impl State {
    fn status(&self, program: &Program, crew: &Crew, shared: &Shared, records: &Records) -> Status {
        let counters = program.counters().unwrap_or_default();
        let installed = routing::installed().unwrap_or_default();
        let (rules, routes) = installed.into_iter().partition(|line| line.contains(" rule "));
        let numbers = shared.admission.numbers();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started.clone(),
            config: self.path.clone(),
            on_exit: "open".to_owned(),
            workers: crew.workers(),
            listeners: crew.listeners(),
            steering: SteeringStatus {
                program_id: program.id().unwrap_or_default(),
                attached: true,
                ingress: self.ingress.clone(),
                counters: Exit::ALL.iter().map(|exit| exit.name().to_owned()).zip(counters).collect(),
            },
            rules,
            routes,
            sessions: SessionsStatus {
                active: numbers.active,
                limit: numbers.limit,
                accepted_total: numbers.accepted,
                refused_total: numbers.refused_total,
                refused_client: numbers.refused_client,
                refused_egress: shared.egress_refused.load(std::sync::atomic::Ordering::Relaxed),
            },
            records_lost: records.lost(),
        }
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
        }
    }

    async fn stop(&mut self) {
        while let Asked::Reload = self.next().await {}
    }
}

/// What a signal asks for.
enum Asked {
    Reload,
    Stop,
}
