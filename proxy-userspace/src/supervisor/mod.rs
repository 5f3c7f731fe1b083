//! The supervisor: the process that `postern run` is. It reads the configuration, steers, starts worker, signer, judges and helper, and
//! answers the operator. It never reads an octet of a peer's.

/// The capabilities that it needs.
mod powers;
/// A policy generation, read from files.
mod policy;
/// The files with rules for the scanner.
mod rule_files;
/// The scanner's compiled rules.
mod scanner;
/// One listener per thread of the worker, ingress and family.
mod listeners;
/// The state directory, opened for the worker.
mod state;
/// A child process and its channel.
mod process;
/// Reloads that were asked for.
mod reload;
/// Worker and signer, and their successors.
mod children;
/// The helper, where a policy wants one.
mod helper;
/// The judges, where a policy has mail judged.
mod judges;
/// A change of steering while the daemon runs.
mod change;
/// What is known of all.
mod board;
/// Where alarms go, and how many.
mod alarms;
/// Whose turn it is, of alarms on their way to one sink.
mod alarm_turns;
/// The command that is run for an alarm.
mod alarm_command;
/// The webhook that an alarm is posted to.
mod alarm_webhook;
/// Steering kept as installed, and new connections turned away while there is no room.
mod keep;
/// What `postern status` is told.
mod report;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::interval_at;

use self::board::Board;
use self::children::{Children, Event, Given, StartedSigner};
use self::keep::{TurnedAway, keep, take, turn_away};
use self::listeners::Listeners;
use self::policy::LoadedPolicy;
pub(crate) use self::powers::NEEDED as CAPABILITIES_NEEDED;
use self::reload::{ReloadDesk, ReloadOrder};
use self::report::Origin;
pub(crate) use self::rule_files::{RuleFiles, RuleFilesError};
use self::state::StateFiles;
pub(crate) use self::state::look as look_at_state;
use crate::accept::SocketBuffers;
use crate::admin::{AdminError, AdminSocket, ask, serve};
use crate::clock;
use crate::config::{Config, InterfaceName, OnExit, SteeringConfig as Settings};
use crate::layer::offload::{OffloadTerms, peers_pad};
use crate::lines::Lines;
use crate::steering::device::{Device, PREDECESSOR_TIME_MAX, patiently};
use crate::steering::forward::{self, NFT_TABLE};
use crate::steering::ports::PortPlan;
use crate::steering::program::Program;
use crate::steering::routing;
use crate::steering::sysctl::{self, Sysctls};
use crate::steering::upkeep::{Repair, Steering};
use crate::steering::watch::Watch;
use crate::worker::protocol::FromWorker;
use crate::worker::thread_count;

/// At the end of the daemon, commands for alarms and posts are awaited for this long; what then runs is killed.
const ALARMS_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two looks at how many sessions are left, while they drain.
const DRAIN_LOOK: Duration = Duration::from_millis(50);
/// Between two looks at when certificates end, at the lists of revoked ones, and at the clock.
const RENEWAL_LOOK: Duration = Duration::from_secs(3_600);
/// Between two looks at the kernel's counters of padded records.
const PADDING_LOOK: Duration = Duration::from_secs(10);

/// Run until TERM or INT; what stays behind is what `on_exit` says. `log` is where the log goes, for its losses.
///
/// # Errors
/// What could not be installed, in an operator's words.
pub fn run(config: Config, path: &Path, log: &Lines) -> Result<()> {
    powers::held()?;
    let layers = OffloadTerms::find(config.offload());
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
    clock::say();
    let policy = LoadedPolicy::first(config, layers)?;
    tracing::info!("kernel TLS: {}", policy.layers);
    tracing::info!("records: {}", policy.layers.choice());
    let mut signals = Signals::new()?;
    let board = Rc::new(Board::new(policy));
    // A key that cannot be used ends the start before anything is touched.
    let signer = StartedSigner::start(&board).await?;
    let policy = board.policy();
    // While this daemon has the device, no other steers here or clears.
    let deadline = Instant::now() + PREDECESSOR_TIME_MAX;
    let device = Device::open_by(deadline)?;
    let socket = admin_socket(&policy.config.admin.socket, deadline)?;
    let settings = policy.config.steering.clone();
    let threads = thread_count(settings.threads);
    let mut sysctls = Sysctls::apply(&sysctl_memory(&policy.config))?;
    let mut program = Program::load()?;
    let syn_egress =
        program.syn_egress().try_clone().context("another descriptor of the notes about SYNs")?;
    // Subscribed before anything is installed: whatever is undone from then on is seen.
    let watch = Watch::open().context("subscribing to the kernel's events")?;
    let buffers = SocketBuffers::of_session(policy.config.limits.session_memory);
    let mut listeners = Listeners::none(threads, buffers);
    let add = |number, family, thread, socket: &_| program.add_listener(number, family, thread, socket);
    listeners.open_missing(&PortPlan::of_policies(&policy.config), add)?;
    let state =
        policy.config.judges_mail().then(|| StateFiles::open(&policy.config.state.directory, deadline));
    let given = Given { listeners, syn_egress, state };
    let mut children = Children::start(signer, given, Rc::clone(&board)).await?;
    let (steering, began) = install(&policy.config, device, program)?;
    say_started(&settings, threads);
    keep::look_at_masquerading(&settings)?;
    // A generation that nobody needs any more holds no descriptor.
    drop(policy);

    let steering = RefCell::new(steering);
    let status = async || report::status(&origin, &steering, &board).await;
    let (desk, mut orders) = ReloadDesk::new();
    let reload = async |cut| desk.ask(cut).await;
    let told = async {
        until_stopped(path, (&mut signals, &mut orders), &steering, &mut children, &board).await;
        // Who asks for a reload from now on, or waits for one, is told that the daemon stops.
        drop(orders);
        children.end_reloads();
        say_stopping(steering.borrow().settings().on_exit);
        if let Err(error) = steering.borrow_mut().refuse() {
            tracing::error!("new connections are still taken while sessions drain: {error}");
        }
        drain(&mut signals, &mut children, &board).await;
    };
    // Whatever ends this, what was installed is taken back below.
    let ended = tokio::select! {
        () = told => Ok(()),
        ended = serve(socket, status, reload, || board.alarms().test()) => ended.context("the admin socket ended"),
        never = keep(&steering, board.alarms(), watch, began) => never,
    };
    let mut helper = children.stop().await;
    steering.into_inner().release()?;
    sysctls.restore()?;
    board.alarms().flush(ALARMS_TIME_MAX).await;
    helper.stop().await;
    ended
}

/// What comes up while the daemon serves.
async fn until_stopped(
    path: &Path,
    (signals, orders): (&mut Signals, &mut mpsc::Receiver<ReloadOrder>),
    steering: &RefCell<Steering>,
    children: &mut Children,
    board: &Board,
) {
    let mut padding = tokio::time::interval(PADDING_LOOK);
    children.look_at_ends().await;
    let mut renewal = interval_at(tokio::time::Instant::now() + RENEWAL_LOOK, RENEWAL_LOOK);
    let mut is_hung_up = false;
    loop {
        children.conclude_reload().await;
        if is_hung_up && !children.is_reloading() {
            is_hung_up = false;
            children.reload(path, ReloadOrder::default(), steering).await;
        }
        let may_reload = !children.is_reloading();
        tokio::select! {
            event = children.event() => match event {
                Event::Said(said) => match children.heard(said, steering).await {
                    Some(true) => turn_away(steering, board.alarms(), TurnedAway::NoRoom),
                    Some(false) => take(steering),
                    None => {}
                },
                Event::WorkerFell(error) => {
                    turn_away(steering, board.alarms(), TurnedAway::NoWorker);
                    let on_exit = steering.borrow().settings().on_exit;
                    children.worker_fell(error, keep::meanwhile(on_exit), steering).await;
                }
                Event::WorkerHangs => children.end_hanging_worker(),
                Event::WorkerDue => children.restart_worker(|| take(steering)).await,
                Event::SignerFell(ended) => children.signer_fell(&ended),
                Event::SignerDue => {
                    children.restart_signer().await;
                    children.put_back_again().await;
                }
                Event::HelperFell(ended) => children.helper_fell(&ended),
                Event::HelperDue => children.follow_helper().await,
                Event::Judges(event) => children.follow_judges(event).await,
            },
            asked = signals.next() => match asked {
                Asked::Reload => is_hung_up = true,
                Asked::Stop => return,
            },
            Some(order) = orders.recv(), if may_reload => children.reload(path, order, steering).await,
            _ = renewal.tick() => {
                clock::say();
                children.look_at_ends().await;
                children.renew().await;
            }
            _ = padding.tick() => {
                if !children.peers_are_known_to_pad() && peers_pad() {
                    children.peers_pad().await;
                }
                children.put_back_again().await;
            }
        }
    }
}

/// A start that fails under `open` leaves nothing; under `closed` it leaves what a kill would.
fn install(config: &Config, device: Device, program: Program) -> Result<(Steering, Repair)> {
    let settings = &config.steering;
    let plan = PortPlan::of_policies(config);
    let installed = Steering::install(settings.clone(), plan, device, program);
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

fn say_started(settings: &Settings, threads: u32) {
    let ipv6 = if routing::kernel_has_ipv6() { "steered" } else { "absent from this kernel" };
    tracing::info!(
        threads,
        ipv6,
        source = settings.source.as_str(),
        on_exit = settings.on_exit.as_str(),
        "steering IMAP (ports {}) from {} to {}",
        ports(settings.ports()),
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
async fn drain(signals: &mut Signals, children: &mut Children, board: &Board) {
    let limit = board.policy().config.limits.drain;
    let (mut look, over) = (tokio::time::interval(DRAIN_LOOK), tokio::time::sleep(limit));
    let (mut over, mut is_told) = (std::pin::pin!(over), false);
    loop {
        tokio::select! {
            event = children.event() => match event {
                Event::Said(FromWorker::Report(report)) => {
                    let active = report.sessions.active;
                    board.reported(*report);
                    if active == 0 {
                        return;
                    }
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::info!(active, seconds = limit.as_secs(), "draining; a second TERM cuts");
                    }
                }
                // Nobody is left to serve.
                Event::WorkerFell(_) | Event::WorkerDue => return,
                Event::WorkerHangs => children.end_hanging_worker(),
                Event::SignerFell(ended) => children.signer_fell(&ended),
                Event::SignerDue => children.restart_signer().await,
                Event::Said(FromWorker::Alarm(alarm)) => children.alarm(&alarm),
                Event::HelperFell(ended) => children.helper_fell(&ended),
                Event::HelperDue => children.follow_helper().await,
                Event::Judges(event) => children.follow_judges(event).await,
                Event::Said(FromWorker::JudgeFails(failure)) => children.end_failing_judge(failure),
                Event::Said(_) => {}
            },
            _ = look.tick() => board.ask_for_report().await,
            () = &mut over => {
                tracing::warn!("the drain limit is over: cutting what is left");
                return;
            }
            () = signals.stop() => {
                tracing::warn!("second TERM: cutting what is left");
                return;
            }
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

fn ports(ports: impl Iterator<Item = u16>) -> String {
    ports.map(|port| port.to_string()).collect::<Vec<_>>().join(", ")
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
