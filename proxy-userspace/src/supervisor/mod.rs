//! The spine: one connection from accept to record, the workers that run it, and the daemon around them.

/// Steering kept as installed, and new connections turned away while there is no room.
mod keep;
/// What `postern status` is told.
mod report;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use rustix::process::{Resource, getrlimit};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::keep::{keep, make_room};
use self::report::Origin;
use crate::accept::{Admission, MachineResources, Memory, Room};
use crate::admin::{AdminError, AdminSocket, ask, serve};
use crate::config::{self, Config, InterfaceName, OnExit, SteeringConfig as Settings};
use crate::handshake::Trust;
use crate::handshake::jobs::JobPool;
use crate::layer::offload::OffloadTerms;
use crate::lines::{FLUSH_TIME_MAX, Lines};
use crate::record::Records;
use crate::steering::device::{Device, PREDECESSOR_TIME_MAX, patiently};
use crate::steering::forward::{self, NFT_TABLE};
use crate::steering::program::Program;
use crate::steering::routing;
use crate::steering::sysctl::{self, Sysctls};
use crate::steering::upkeep::{Repair, Steering};
use crate::steering::watch::Watch;
use crate::worker::crew::Crew;
pub(crate) use crate::worker::crew::worker_count;
use crate::worker::memory;
use crate::worker::thread::Shared;

/// One policy generation: a connection holds its own until it ends.
pub(crate) struct Policy {
    pub(crate) config: Config,
    pub(crate) trust: Trust,
    pub(crate) layers: OffloadTerms,
    pub(crate) room: Room,
    machine: MachineResources,
}

impl Policy {
    /// `layers` holds what was found out about the kernel at the start. What this machine has no room for is told in
    /// the log.
    fn load(config: Config, layers: OffloadTerms, machine: MachineResources) -> Result<Self> {
        let trust = Trust::load(&config)?;
        let layers = OffloadTerms { mode: config.tls.offload, ..layers };
        let room = Room::new(&config, worker_count(config.steering.workers), &machine);
        for narrowed in &room.narrowed {
            tracing::warn!("{narrowed}");
        }
        Ok(Self { config, trust, layers, room, machine })
    }
}

/// What this machine has now, within this process's limit on descriptors.
fn machine() -> MachineResources {
    MachineResources {
        descriptors: getrlimit(Resource::Nofile).current,
        memory: Memory::read(Path::new("/")),
    }
}

/// Run until TERM or INT; what stays behind is what `on_exit` says. `log` is where the log goes, for its losses.
///
/// # Errors
/// What could not be installed, in an operator's words.
pub fn run(config: Config, path: &Path, log: &Lines) -> Result<()> {
    let layers = OffloadTerms::find(config.tls.offload);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(daemon(config, layers, path, log))
}

/// Remove what a daemon that is gone left in this network namespace, in the words of `ip`; and give back the kernel
/// settings that it changed, where its configuration tells which they were.
///
/// # Errors
/// A daemon runs here, or the kernel refuses.
pub fn clear(config: Option<&Config>) -> Result<Vec<String>> {
    let _sole = Device::open_by(Instant::now() + PREDECESSOR_TIME_MAX)?;
    // Both are tried, whatever becomes of the other.
    let (routes, chain) = (routing::clear(), forward::clear());
    let mut cleared = routes?;
    if chain? {
        cleared.push(format!("nft table inet {NFT_TABLE}"));
    }
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

async fn daemon(config: Config, layers: OffloadTerms, path: &Path, log: &Lines) -> Result<()> {
    let started = OffsetDateTime::from(SystemTime::now()).format(&Rfc3339)?;
    let origin = Origin { started, path: path.to_owned(), log: log.clone() };
    let policy = Policy::load(config, layers, machine())?;
    tracing::info!("kernel TLS: {}", policy.layers);
    tracing::info!("records: {}", policy.layers.choice());
    let mut signals = Signals::new()?;
    // Before anything is touched: while this daemon has the device, no other steers here or clears.
    let deadline = Instant::now() + PREDECESSOR_TIME_MAX;
    let device = Device::open_by(deadline)?;
    let socket = admin_socket(&policy.config.admin.socket, deadline)?;
    let records = Records::to_stdout()?;
    let settings = policy.config.steering.clone();
    let workers = worker_count(settings.workers);
    let admission = Admission::new(policy.room.bounds);
    let mut sysctls = Sysctls::apply(&sysctl_memory(&policy.config))?;
    let mut program = Program::load()?;
    let shared = Shared {
        policy: Arc::new(ArcSwap::from_pointee(policy)),
        admission,
        jobs: Arc::new(JobPool::start(workers).context("starting the threads that judge and mint")?),
        records: records.clone(),
        egress_refused: Arc::default(),
        local_refused: Arc::default(),
        syn_egress: program.syn_egress().clone(),
    };
    // Subscribed before anything is installed: whatever is undone from then on is seen.
    let watch = Watch::open().context("subscribing to the kernel's events")?;
    let crew = Crew::start(&mut program, &settings, workers, &shared)?;
    let (steering, began) = install(&settings, device, program)?;
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
        never = memory::give_back(&shared.admission) => never,
    };
    crew.stop();
    steering.into_inner().release()?;
    sysctls.restore()?;
    say_unwritten(&records);
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
fn install(settings: &Settings, device: Device, program: Program) -> Result<(Steering, Repair)> {
    let installed = Steering::install(settings.clone(), device, program);
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

/// Whoever reads stdout may be stuck: a stop ends nevertheless, and says what is lost.
fn say_unwritten(records: &Records) {
    let unwritten = records.flush();
    if unwritten > 0 || records.lost() > 0 {
        tracing::error!(
            unwritten,
            lost = records.lost(),
            "records are missing: what reads stdout did not take them within {} s of the stop, or before",
            FLUSH_TIME_MAX.as_secs()
        );
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
        if config.limits.session_memory != running.config.limits.session_memory {
            bail!("limits.session_memory changes with a restart only");
        }
        let mut machine = machine();
        machine.memory = machine.memory.no_less_than(&running.machine.memory);
        Policy::load(config, running.layers.clone(), machine)
    });
    match loaded {
        Ok(policy) => {
            shared.admission.set(policy.room.bounds);
            shared.policy.store(Arc::new(policy));
            tracing::info!(path = %path.display(), "configuration reloaded");
        }
        Err(error) => {
            tracing::error!("configuration NOT reloaded, the old one stays in force: {error:#}");
        }
    }
}

/// A daemon that was killed may hold its socket for some moments longer than its device.
fn admin_socket(path: &Path, deadline: Instant) -> Result<AdminSocket> {
    if let Ok(other) = ask(path) {
        bail!("another postern (pid {}) answers on {}; stop it first", other.pid, path.display());
    }
    let in_use = |error: &AdminError| matches!(error, AdminError::InUse { .. });
    Ok(patiently(deadline, || AdminSocket::bind(path), in_use)?)
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
