//! The spine: one connection from accept to record, the workers that run it, and the daemon around them.

/// One connection.
mod connection;
/// All workers: their listeners, and a successor for one that died.
mod crew;
/// Steering kept as installed, and new connections turned away while there is no room.
mod keep;
/// What `postern status` is told.
mod report;
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
use rustix::process::{Resource, getrlimit};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::crew::Crew;
pub(crate) use self::crew::worker_count;
use self::keep::{keep, make_room};
use self::report::Origin;
use self::worker::Shared;
use crate::accept::{Admission, descriptors_reserved, sessions_within};
use crate::admin::{AdminSocket, ask, serve};
use crate::config::{self, Config, InterfaceName, OnExit, Steering as Settings};
use crate::handshake::Trust;
use crate::layer::offload::{Abilities, Terms as Layers};
use crate::record::Records;
use crate::steering::program::Program;
use crate::steering::routing;
use crate::steering::sysctl::{self, Sysctls};
use crate::steering::upkeep::{Repair, Steering};
use crate::steering::watch::Watch;

/// Sessions when no limit on descriptors is set.
const SESSIONS_UNLIMITED: u64 = 100_000;

/// One policy generation: a connection holds its own until it ends.
pub(crate) struct Policy {
    pub(crate) config: Config,
    pub(crate) trust: Trust,
    pub(crate) layers: Layers,
}

impl Policy {
    fn load(config: Config, abilities: &Abilities) -> Result<Self> {
        let trust = Trust::load(&config)?;
        let (mode, abilities) = (config.tls.offload, abilities.clone());
        let layers = Layers { mode, abilities, ..Layers::default() };
        Ok(Self { config, trust, layers })
    }

    fn sessions(&self) -> u64 {
        let steering = &self.config.steering;
        let reserved = descriptors_reserved(steering, worker_count(steering.workers));
        let within = |descriptors| sessions_within(descriptors, reserved);
        let derived = getrlimit(Resource::Nofile).current.map_or(SESSIONS_UNLIMITED, within);
        self.config.limits.sessions.map_or(derived, u64::from)
    }
}

/// Run until TERM or INT; what stays behind is what `on_exit` says.
///
/// # Errors
/// What could not be installed, in an operator's words.
pub fn run(config: Config, path: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(daemon(config, path))
}

/// Remove what a daemon that is gone left in this network namespace, in the words of `ip`; and give back the kernel
/// settings that it changed, where its configuration tells which they were.
///
/// # Errors
/// A daemon runs here, or the kernel refuses.
pub fn clear(config: Option<&Config>) -> Result<Vec<String>> {
    let _sole = sole_in_namespace()?;
    let mut cleared = routing::clear()?;
    if let Some(config) = config {
        let settings = sysctl::give_back(&sysctl_memory(config))?;
        cleared.extend(settings.iter().map(|name| format!("the daemon's value of sysctl {name}")));
    }
    Ok(cleared)
}

/// Where old values of kernel settings are remembered: beside the admin socket, which goes with the machine's uptime
/// as they do.
fn sysctl_memory(config: &Config) -> PathBuf {
    config.admin.socket.with_extension("sysctls")
}

async fn daemon(config: Config, path: &Path) -> Result<()> {
    let started = OffsetDateTime::from(SystemTime::now()).format(&Rfc3339)?;
    let origin = Origin { started, path: path.to_owned() };
    let abilities = Abilities::probe();
    tracing::info!("kernel TLS: {abilities}");
    let policy = Policy::load(config, &abilities)?;
    let mut signals = Signals::new()?;
    let _sole = sole_in_namespace()?;
    let socket = admin_socket(&policy.config.admin.socket)?;
    let (records, writer) = Records::to_stdout()?;
    let settings = policy.config.steering.clone();
    let workers = worker_count(settings.workers);
    let admission = Admission::new(policy.sessions(), u64::from(policy.config.limits.sessions_per_client));
    let mut sysctls = Sysctls::apply(&sysctl_memory(&policy.config))?;
    let mut program = Program::load()?;
    let shared = Shared {
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        admission,
        records: records.clone(),
        egress_refused: Arc::default(),
        syn_egress: program.syn_egress().clone(),
    };
    // Subscribed before anything is installed: whatever is undone from then on is seen.
    let watch = Watch::open().context("subscribing to the kernel's events")?;
    let crew = Crew::start(&mut program, &settings, workers, &shared)?;
    let (steering, began) = install(&settings, program)?;
    say_started(&settings, workers);
    keep::look_at_masquerading(&settings)?;

    let steering = RefCell::new(steering);
    let status = async || report::status(&origin, &steering.borrow(), &crew, &shared, &records);
    let told = async {
        until_stopped(path, &mut signals, &steering, &crew, &shared).await;
        say_stopping(settings.on_exit);
        if let Err(error) = steering.borrow_mut().refuse() {
            tracing::error!("new connections are still taken while sessions drain: {error}");
        }
        drain(&mut signals, &shared).await;
    };
    // Whatever ends this, what was installed is taken back below.
    let ended = tokio::select! {
        () = told => Ok(()),
        ended = serve(socket, status) => ended.context("the admin socket ended"),
        never = keep(&steering, watch, began) => never,
    };
    crew.stop();
    steering.into_inner().release()?;
    sysctls.restore()?;
    drop((shared, records));
    let _ = writer.join();
    ended
}

/// What comes up while the daemon serves.
async fn until_stopped(
    path: &Path,
    signals: &mut Signals,
    steering: &RefCell<Steering>,
    crew: &Crew,
    shared: &Shared,
) {
    loop {
        tokio::select! {
            full = shared.admission.fullness() => make_room(steering, full),
            index = crew.fallen() => {
                if let Err(error) = crew.replace(steering.borrow_mut().program_mut(), index) {
                    tracing::error!(worker = index, "{error:#}");
                }
            }
            asked = signals.next() => match asked {
                Asked::Reload => reload(path, shared),
                Asked::Stop => return,
            },
        }
    }
}

/// A start that fails under `open` leaves nothing; under `closed` it leaves what a kill would.
fn install(settings: &Settings, program: Program) -> Result<(Steering, Repair)> {
    let installed = Steering::install(settings.clone(), program);
    if installed.is_err()
        && settings.on_exit == OnExit::Open
        && let Err(error) = routing::clear()
    {
        tracing::error!("what was installed could not be taken back: {error}");
    }
    let (steering, began) = installed?;
    if !began.removed.is_empty() {
        tracing::warn!("removed what a killed predecessor left: {}", began.removed.join("; "));
    }
    Ok((steering, began))
}

fn say_started(settings: &Settings, workers: u32) {
    let ipv6 = if routing::kernel_has_ipv6() { "steered" } else { "absent from this kernel" };
    tracing::info!(
        workers,
        ipv6,
        source = settings.source.as_str(),
        on_exit = settings.on_exit.as_str(),
        "steering IMAP (ports 143 and 993) from {} to {}",
        names(&settings.ingress),
        names(&settings.egress)
    );
}

fn say_stopping(on_exit: OnExit) {
    match on_exit {
        OnExit::Closed => tracing::info!(
            "TERM: stopping; from now on new connections are dropped (on_exit = \"closed\"), `postern clear` lets them pass"
        ),
        OnExit::Open => {
            tracing::info!(
                "TERM: stopping; from now on new connections pass uninspected (on_exit = \"open\")"
            );
        }
    }
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
        let running = shared.policy.load();
        if config.steering != running.config.steering || config.admin != running.config.admin {
            bail!("[steering] and [admin] change with a restart only");
        }
        Policy::load(config, &running.layers.abilities)
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
