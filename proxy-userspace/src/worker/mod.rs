//! The worker: the process that reads what peers send. It has no files, no key that outlives it and one capability,
//! CAP_NET_RAW, for transparent and marked sockets; whatever else it needs is passed to it by the supervisor.

/// What the supervisor and the worker say to each other.
pub(crate) mod protocol;
/// The spine: one connection from accept to record.
mod connection;
/// Sessions that are relayed, and which of them a reload cuts.
mod roster;
/// The rules of a session in which mail is judged.
mod rules;
/// All threads, and a successor for one that died.
mod crew;
/// One thread per core: a single-threaded runtime, its listeners, its sessions.
mod thread;
/// The time between two changes of steering.
mod era;
/// The memory of sessions that have left.
mod memory;
/// What it is given before it serves.
mod setup;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Result, anyhow};

use self::crew::Crew;
pub(crate) use self::crew::{core_count, thread_count};
use self::era::Era;
use self::protocol::{FromWorker, PolicyMessage, StateTold, ToWorker, WorkerReport};
use self::setup::{Setup, Started};
use self::thread::WorkerShared;
use crate::accept::Room;
use crate::accept::egress::EgressTerms;
use crate::admin::{HeldStatus, OcspStatus, SessionsStatus, SpoolStatus, VerdictsStatus};
use crate::config::Config;
use crate::handshake::Trust;
use crate::inspect::TrustedServers;
use crate::ipc::{AsyncChannel, Channel, IpcError};
use crate::judging::{JudgePool, SealedRules};
use crate::layer::offload::OffloadTerms;
use crate::lines::{FLUSH_TIME_MAX, Lines};
use crate::policy::Policies;
use crate::signer::{SignerLink, Signing};

/// One policy generation. A connection holds its own until its handshakes are over; what it then keeps are settings of its own,
/// and rules until others are in force.
pub(crate) struct Policy {
    pub(crate) generation: u64,
    era: Arc<Era>,
    strict_reverse_path: bool,
    pub(crate) config: Config,
    /// Which proxy action and TLS profile a connection gets.
    pub(crate) policies: Policies,
    pub(crate) layers: OffloadTerms,
    pub(crate) room: Room,
    /// Servers whose known mail goes on without a look, under some action.
    pub(crate) trusted_servers: TrustedServers,
}

impl Policy {
    /// Who may reach what.
    fn reach(&self) -> EgressTerms<'_> {
        EgressTerms { steering: &self.config.steering, strict_reverse_path: self.strict_reverse_path }
    }

    /// `layers` holds what this process found out about peers, `before` is the policy until now.
    fn assemble(
        (message, scanner): (PolicyMessage, Option<SealedRules>),
        signer: &SignerLink,
        judges: &Arc<JudgePool>,
        layers: &OffloadTerms,
        era: Arc<Era>,
        before: Option<&Self>,
    ) -> Result<Self> {
        let PolicyMessage {
            generation,
            strict_reverse_path,
            config,
            material,
            content,
            keys,
            offload,
            room,
            ..
        } = message;
        let layers = layers.with(offload);
        let judging = (judges, scanner.as_ref());
        let policies = Policies::assemble(&config, &content, &layers, judging, |name, profile| {
            let signing = Signing::Process { link: signer.clone(), generation };
            let trust =
                Trust::assemble((name, profile), &config.certificates, &material, keys.clone(), signing)?;
            Ok(trust)
        })?;
        let before = before.map(|policy| &policy.trusted_servers);
        let listed: BTreeSet<IpAddr> = config
            .actions_in_use()
            .flat_map(|(_, action)| action.trust_uid_immutability.iter().copied())
            .collect();
        let trusted_servers = TrustedServers::of(&Vec::from_iter(listed), before);
        Ok(Self { generation, era, strict_reverse_path, config, policies, layers, room, trusted_servers })
    }
}

/// Serve until told to stop, or until the supervisor is gone. `log` is where the log goes, for its losses.
///
/// # Errors
/// Why it cannot serve; the supervisor was told.
pub(crate) fn run(control: Channel, log: &Lines) -> Result<()> {
    let served = Setup::receive(&control).and_then(|setup| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { serve(setup, &AsyncChannel::new(control)?, log).await })
    });
    match served {
        Err(error) if matches!(error.downcast_ref(), Some(IpcError::Ended)) => Ok(()),
        served => served,
    }
}

async fn serve(setup: Setup, control: &AsyncChannel, log: &Lines) -> Result<()> {
    let mut started = match setup.start() {
        Ok(started) => started,
        Err(error) => {
            control.send(&FromWorker::Failed(format!("{error:#}")), &[]).await?;
            return Err(error);
        }
    };
    control.send(&FromWorker::Serving, &[]).await?;
    let shared = started.crew.shared().clone();
    let ended = tokio::select! {
        ended = converse(control, &mut started, log) => ended,
        never = memory::give_back(&shared.admission) => never,
    };
    // The supervisor is gone or wants this to end: sessions are cut, and their records written.
    shared.judges.close();
    started.crew.stop();
    say_unwritten(&shared);
    ended
}

/// Do what the supervisor says, and tell it what it must know.
async fn converse(
    control: &AsyncChannel,
    Started { crew, signer, eras_over, alarms, judge_failures }: &mut Started,
    log: &Lines,
) -> Result<()> {
    let shared = &crew.shared().clone();
    let (mut unheard, mut cut) = (None, None);
    loop {
        let fallen = tokio::select! {
            message = control.receive::<ToWorker>() => {
                let (message, descriptors) = message?;
                match message {
                    ToWorker::Stop => return Ok(()),
                    ToWorker::Report => {
                        control.send(&FromWorker::Report(Box::new(report(crew, shared, log))), &[]).await?;
                    }
                    ToWorker::Policy => {
                        let answer = renew(descriptors, unheard.take(), shared, signer)?;
                        control.send(&answer, &[]).await?;
                    }
                    ToWorker::State(told) => keep(told, descriptors, shared)?,
                    ToWorker::Signer => signer.connect(setup::channel(descriptors)?),
                    ToWorker::Helper => shared.answers.link().connect(setup::channel(descriptors)?),
                    ToWorker::Judge(judge) => shared.judges.connect(judge, setup::channel(descriptors)?),
                    ToWorker::Cut => cut = Some(crew.cut()),
                    ToWorker::PeersPad => shared.policy.load().layers.no_pad.end(),
                    // The policy that they come with is refused then.
                    ToWorker::Listeners(told) => {
                        let heard = crew.listen(setup::listeners(told, descriptors)?);
                        unheard = unheard.or(heard.err());
                    }
                    ToWorker::Unlisten(ingresses) => crew.unlisten(&ingresses),
                    ToWorker::SynEgress | ToWorker::Serve(_) => {
                        return Err(anyhow!("the supervisor said what only a beginning worker is told"));
                    }
                }
                None
            }
            told = crew::told(&mut cut) => {
                cut = None;
                control.send(&told, &[]).await?;
                None
            }
            full = shared.admission.fullness() => {
                control.send(&FromWorker::Full(full), &[]).await?;
                None
            }
            Some(era) = eras_over.recv() => {
                control.send(&FromWorker::EraOver(era), &[]).await?;
                None
            }
            Some(failure) = judge_failures.recv() => {
                control.send(&FromWorker::JudgeFails(failure), &[]).await?;
                None
            }
            alarm = alarms.next() => {
                control.send(&FromWorker::Alarm(alarm), &[]).await?;
                None
            }
            index = crew.fallen() => Some(index),
        };
        if let Some(index) = fallen
            && let Err(error) = crew.replace(index)
        {
            tracing::error!(thread = index, "{error:#}");
        }
    }
}

/// Mail is about to be judged for the first time.
fn keep(told: StateTold, descriptors: Vec<std::os::fd::OwnedFd>, shared: &WorkerShared) -> Result<()> {
    let files = setup::files(told, descriptors)?;
    let vault = setup::start_vault(files, shared.policy.load().config.limits.spool, &shared.held)?;
    shared.records.pseudonymize_with(vault.memory.pseudonym_key());
    let _ = shared.vault.set(vault);
    Ok(())
}

/// A new policy for connections from now on, and for the rules of sessions that run; the old one stays where the new one cannot be
/// used, or where nobody accepts from the listeners that came before it (`unheard`).
fn renew(
    descriptors: Vec<std::os::fd::OwnedFd>,
    unheard: Option<anyhow::Error>,
    shared: &WorkerShared,
    signer: &SignerLink,
) -> Result<FromWorker> {
    let (message, scanner) = setup::policy(descriptors)?;
    let generation = message.generation;
    let before = shared.policy.load_full();
    // Of a policy that is refused, too: the supervisor counts on the era until it hears that it is over.
    let era = before.era.next(message.era);
    if let Some(error) = unheard {
        return Ok(FromWorker::Policy { generation, taken: Err(format!("{error:#}")) });
    }
    let taken =
        Policy::assemble((message, scanner), signer, &shared.judges, &before.layers, era, Some(&before)).map(
            |policy| {
                shared.admission.set(policy.room.bounds);
                if let Some(vault) = shared.vault.get() {
                    vault.spool.set_limit(policy.config.limits.spool);
                }
                if policy.config.judges_mail() {
                    // Where none does, sessions of the old policy go on judging.
                    shared.held.set_limit(policy.room.held);
                }
                shared.policy.store(Arc::new(policy));
                // Behind the policy: who sees the number finds the policy.
                shared.generation.store(generation, Ordering::Release);
            },
        );
    Ok(FromWorker::Policy { generation, taken: taken.map_err(|error| format!("{error:#}")) })
}

fn report(crew: &Crew, shared: &WorkerShared, log: &Lines) -> WorkerReport {
    let vault = shared.vault.get();
    let (numbers, asked) = (shared.admission.numbers(), shared.answers.numbers());
    WorkerReport {
        threads: crew.threads(),
        sessions: SessionsStatus {
            active: numbers.active,
            limit: numbers.limit,
            accepted_total: numbers.accepted,
            refused_total: numbers.refused_total,
            refused_client: numbers.refused_client,
            limit_client: numbers.limit_client,
            handshakes: numbers.handshakes,
            handshakes_limit: numbers.handshakes_limit,
            refused_handshakes: numbers.refused_handshakes,
            refused_client_handshakes: numbers.refused_client_handshakes,
            refused_client_rate: numbers.refused_client_rate,
            refused_egress: shared.egress_refused.load(Ordering::Relaxed),
            refused_implicit: shared.implicit_refused.load(Ordering::Relaxed),
            refused_policy: shared.unmatched_refused.load(Ordering::Relaxed),
            refused_local: shared.local_refused.load(Ordering::Relaxed),
        },
        held: HeldStatus {
            octets: shared.held.octets(),
            limit: shared.held.limit().0,
            refused_total: shared.held.refused(),
            waiting: shared.content_jobs.waiting(),
        },
        verdicts: vault.map_or_else(VerdictsStatus::default, |vault| vault.memory.numbers().into()),
        spool: vault.map_or_else(SpoolStatus::default, |vault| vault.spool.numbers().into()),
        judges: shared.judges.numbers(),
        guard: shared.guard.numbers(),
        ocsp: OcspStatus { asked_total: asked.asked, failed_total: asked.failed },
        distrusted: shared.policy.load().trusted_servers.withdrawn(),
        records_lost: shared.records.lost(),
        log_lost: log.lost(),
    }
}

/// Whoever reads stdout may be stuck: a stop ends nevertheless, and says what is lost.
fn say_unwritten(shared: &WorkerShared) {
    let unwritten = shared.records.flush();
    let lost = shared.records.lost();
    if unwritten > 0 || lost > 0 {
        tracing::error!(
            unwritten,
            lost,
            "records are missing: what reads stdout did not take them within {} s of the stop, or before",
            FLUSH_TIME_MAX.as_secs()
        );
    }
}
