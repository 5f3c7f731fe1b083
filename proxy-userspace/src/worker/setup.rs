use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow, bail};
use arc_swap::ArcSwap;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Policy;
use super::crew::{AssignedListener, Crew};
use super::era::Era;
use super::protocol::{FromWorker, ListenerPlace, PolicyMessage, Serve, StateTold, ToWorker};
use super::thread::WorkerShared;
use crate::accept::{Admission, HeldOctets};
use crate::alarm::{AlarmInlet, AlarmOutlet};
use crate::guard::Guard;
use crate::handshake::OcspAnswers;
use crate::helper::HelperLink;
use crate::ipc::{Channel, read_sealed};
use crate::jobs::{JobPool, JobPurpose};
use crate::judging::{JudgeFailure, JudgePool, SealedRules, judge_count};
use crate::layer::offload::OffloadTerms;
use crate::record::Records;
use crate::signer::SignerLink;
use crate::steering::syn_egress::SynEgress;
use crate::vault::{Vault, VaultFiles};
use crate::words::Size;

/// Mail threads that share one thread which walks through mail: most of the cores' time is for TLS and relaying.
const MAIL_THREADS_PER_CONTENT_THREAD: u32 = 2;

/// What a worker is given before it serves.
pub(super) struct Setup {
    places: Vec<AssignedListener>,
    policy: Policy,
    eras_over: UnboundedReceiver<u64>,
    signer: SignerLink,
    helper: HelperLink,
    judges: Arc<JudgePool>,
    judge_failures: UnboundedReceiver<JudgeFailure>,
    syn_egress: SynEgress,
    /// Where mail is judged.
    state: Option<VaultFiles>,
    serve: Serve,
}

/// A worker whose threads run.
pub(super) struct Started {
    pub(super) crew: Crew,
    pub(super) signer: SignerLink,
    /// Eras of which no session is left.
    pub(super) eras_over: UnboundedReceiver<u64>,
    /// What the threads raise.
    pub(super) alarms: AlarmInlet,
    /// Judges that are not asked any more.
    pub(super) judge_failures: UnboundedReceiver<JudgeFailure>,
}

impl Setup {
    /// Take what the supervisor sends, until it says that this process shall serve.
    pub(super) fn receive(control: &Channel) -> Result<Self> {
        let (signer, helper) = (SignerLink::new(), HelperLink::default());
        let (judges, judge_failures) = JudgePool::new().context("making the key for what judges die of")?;
        let (mut places, mut policy, mut syn_egress) = (Vec::new(), None, None);
        let mut state = None;
        loop {
            let (message, descriptors) = control.receive::<ToWorker>()?;
            match message {
                ToWorker::SynEgress => {
                    let array = only(descriptors)?;
                    syn_egress = Some(SynEgress::map(&array).context("mapping the notes about SYNs")?);
                }
                ToWorker::Listeners(told) => places.extend(listeners(told, descriptors)?),
                ToWorker::Signer => signer.connect(channel(descriptors)?),
                ToWorker::Helper => helper.connect(channel(descriptors)?),
                ToWorker::Judge(judge) => judges.connect(judge, channel(descriptors)?),
                ToWorker::State(told) => state = Some(files(told, descriptors)?),
                ToWorker::Policy => {
                    let (message, scanner) = self::policy(descriptors)?;
                    let generation = message.generation;
                    let (era, eras_over) = Era::first(message.era);
                    let assembled = Policy::assemble(
                        (message, scanner),
                        &signer,
                        &judges,
                        &OffloadTerms::default(),
                        era,
                        None,
                    );
                    let taken = assembled.as_ref().map(drop).map_err(|error| format!("{error:#}"));
                    control.send(&FromWorker::Policy { generation, taken }, &[])?;
                    policy = Some((assembled?, eras_over));
                }
                ToWorker::Serve(serve) => {
                    let (Some((policy, eras_over)), Some(syn_egress)) = (policy, syn_egress) else {
                        bail!("the supervisor lets a worker serve that has no policy");
                    };
                    return Ok(Self {
                        places,
                        policy,
                        eras_over,
                        signer,
                        helper,
                        judges,
                        judge_failures,
                        syn_egress,
                        state,
                        serve,
                    });
                }
                ToWorker::PeersPad | ToWorker::Unlisten(_) | ToWorker::Report | ToWorker::Cut => {}
                ToWorker::Stop => bail!("stopped before it served"),
            }
        }
    }

    /// All threads.
    pub(super) fn start(self) -> Result<Started> {
        let Self {
            places,
            policy,
            eras_over,
            signer,
            helper,
            judges,
            judge_failures,
            syn_egress,
            state,
            serve,
        } = self;
        let of_content = content_threads(serve);
        let held = HeldOctets::new(policy.room.held);
        let (outlet, alarms) = AlarmOutlet::pair();
        let records = Records::to_stdout(policy.config.records.format, outlet)
            .context("starting the thread that writes records")?;
        let vault = Arc::new(OnceLock::new());
        if let Some(files) = state {
            let started = start_vault(files, policy.config.limits.spool, &held)?;
            records.pseudonymize_with(started.memory.pseudonym_key());
            let _ = vault.set(started);
        }
        let shared = WorkerShared {
            admission: Admission::new(policy.room.bounds),
            held,
            vault,
            generation: Arc::new(AtomicU64::new(policy.generation)),
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            jobs: Arc::new(
                JobPool::start(JobPurpose::Certificates, serve.threads)
                    .context("starting the threads that judge and mint")?,
            ),
            answers: Arc::new(OcspAnswers::new(helper)),
            // Also where no mail is judged: a reload may change that, and threads that wait cost nothing.
            content_jobs: Arc::new(
                JobPool::start(JobPurpose::Content, of_content)
                    .context("starting the threads that judge mail")?,
            ),
            judges,
            guard: Arc::new(Guard::new().context("making the key for what is counted of accounts")?),
            records,
            egress_refused: Arc::default(),
            implicit_refused: Arc::default(),
            unmatched_refused: Arc::default(),
            local_refused: Arc::default(),
            syn_egress,
        };
        Ok(Started { crew: Crew::start(places, serve, shared)?, signer, eras_over, alarms, judge_failures })
    }
}

/// One for each judge, which waits while the judge works, and those that walk through mail meanwhile.
fn content_threads(serve: Serve) -> u32 {
    judge_count(serve.cores).saturating_add((serve.threads / MAIL_THREADS_PER_CONTENT_THREAD).max(1))
}

/// The one descriptor of a message.
fn only(descriptors: Vec<OwnedFd>) -> Result<OwnedFd> {
    let mut descriptors = descriptors.into_iter();
    match (descriptors.next(), descriptors.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(anyhow!("the supervisor sent a message with another number of descriptors than one")),
    }
}

/// The files of the state directory.
pub(super) fn files(told: StateTold, descriptors: Vec<OwnedFd>) -> Result<VaultFiles> {
    let told_count = usize::from(told.verdicts.is_some()) + usize::from(told.spool);
    if told_count != descriptors.len() {
        bail!("the supervisor named {told_count} files of its state and sent {}", descriptors.len());
    }
    let mut files = descriptors.into_iter().map(File::from);
    let memory = told.verdicts.and_then(|name| Some((files.next()?, name)));
    Ok(VaultFiles { memory, spool: files.next() })
}

/// What was judged, from now on.
pub(super) fn start_vault(files: VaultFiles, spool: Size, held: &Arc<HeldOctets>) -> Result<Arc<Vault>> {
    let vault = Vault::start(files, spool, Arc::clone(held));
    vault.map(Arc::new).context("starting the threads that keep what was judged")
}

/// An end of a channel.
pub(super) fn channel(descriptors: Vec<OwnedFd>) -> Result<Channel> {
    only(descriptors).map(Channel::from)
}

/// A policy out of sealed memory.
pub(super) fn policy(descriptors: Vec<OwnedFd>) -> Result<(PolicyMessage, Option<SealedRules>)> {
    let mut descriptors = descriptors.into_iter();
    let message = descriptors.next().ok_or_else(|| anyhow!("the supervisor sent no policy"))?;
    let message: PolicyMessage =
        postcard::from_bytes(&read_sealed(message)?).context("the policy is none of this version's")?;
    match (message.scanner, descriptors.next(), descriptors.next()) {
        (None, None, None) => Ok((message, None)),
        (Some(digest), Some(memory), None) => Ok((message, Some(SealedRules { memory, digest }))),
        _ => bail!("the supervisor sent a policy and other rules of the scanner than it names"),
    }
}

/// Listeners, each with its place.
pub(super) fn listeners(
    told: Vec<ListenerPlace>,
    descriptors: Vec<OwnedFd>,
) -> Result<Vec<AssignedListener>> {
    if told.len() != descriptors.len() {
        bail!("the supervisor named {} listeners and sent {}", told.len(), descriptors.len());
    }
    let place = |(ListenerPlace { ingress, thread }, listener)| AssignedListener {
        ingress,
        thread,
        listener: TcpListener::from(listener),
    };
    Ok(told.into_iter().zip(descriptors).map(place).collect())
}
