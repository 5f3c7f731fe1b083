//! Worker and signer, and judges and the helper beside them: started, given what they need, replaced when they die.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::{Instant, sleep_until, timeout};

use super::board::Board;
use super::change::{Eras, SteeringChange};
use super::helper::HelperKeeper;
use super::judges::{JudgesEvent, JudgesKeeper};
use super::listeners::Listeners;
use super::policy::LoadedPolicy;
use super::process::{ChildProcess, Ended};
use super::reload::{InForce, Offered};
use super::state::StateFiles;
use crate::alarm::{Alarm, AlarmKind};
use crate::config::DaemonAlarm;
use crate::confine::{Role, identity};
use crate::ipc::{Channel, IpcError};
use crate::judging::JudgeFailure;
use crate::signer::{KeyFacts, SignerControl};
use crate::steering::upkeep::Steering;
use crate::worker::protocol::{FromWorker, Serve, ToWorker};
use crate::worker::{core_count, thread_count};

/// Changes of steering, which come with a policy.
mod live;
/// Reloads, and who is told of them.
mod reloads;

/// Before the first restart of a child.
const RESTART_PAUSE_LEAST: Duration = Duration::from_secs(1);
/// The pause doubles with each death, up to this.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(60);
/// A child that lived this long begins anew with the least pause.
const STEADY: Duration = Duration::from_secs(60);
/// A worker serves within a second, most of which an RSA key takes.
const START_TIME_MAX: Duration = Duration::from_secs(20);
/// A worker takes a policy within a second, and says within some five how many sessions it cut. One that has not answered by
/// then hangs, and every reload waits for it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// This process looks so late at its own bound where the machine stood still, or where it was busy itself. The worker had no
/// more time than it, and gets the bound anew.
const LATE: Duration = Duration::from_secs(1);

/// One child, or the time until its successor is started.
pub(super) struct Slot {
    pub(super) process: Option<ChildProcess>,
    pub(super) restarts: u64,
    pause: Duration,
    pub(super) due: Instant,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self { process: None, restarts: 0, pause: RESTART_PAUSE_LEAST, due: Instant::now() }
    }

    /// Waits until there is none and it is time for one.
    async fn due(&self) {
        match self.process {
            Some(_) => std::future::pending().await,
            None => sleep_until(self.due).await,
        }
    }

    /// There is none any more, or none could be started. Returns how long the next one has to wait.
    pub(super) fn fell(&mut self, lived: Duration) -> Duration {
        if lived >= STEADY {
            self.pause = RESTART_PAUSE_LEAST;
        }
        let pause = self.pause;
        self.due = Instant::now() + pause;
        self.pause = (pause * 2).min(RESTART_PAUSE_MAX);
        pause
    }
}

/// The signer, when it has the keys.
pub(super) struct StartedSigner {
    process: ChildProcess,
    signing: Rc<SignerControl>,
    keys: Vec<KeyFacts>,
}

impl StartedSigner {
    /// Start it, and have it read the keys of the policy on the board.
    ///
    /// # Errors
    /// In an operator's words; a [`SignerLoadError`](crate::signer::SignerLoadError) where a key's file is at fault.
    pub(super) async fn start(board: &Board) -> Result<Self> {
        let policy = board.policy();
        let process =
            ChildProcess::start(Role::Signer, identity(Role::Signer, &policy.config.processes), Vec::new())
                .await?;
        let signing = Rc::new(SignerControl::new(Rc::clone(process.control())));
        let keys =
            signing.load(policy.generation, [policy.generation; 2], &policy.keys, &policy.material).await?;
        Ok(Self { process, signing, keys })
    }
}

/// What a worker is started with.
pub(super) struct Given {
    pub(super) listeners: Listeners,
    /// The array in which the programs note by which interface a SYN left.
    pub(super) syn_egress: OwnedFd,
    /// From the first policy on under which mail is judged.
    pub(super) state: Option<StateFiles>,
}

/// What one of them said or did.
pub(super) enum Event {
    /// The worker said something.
    Said(FromWorker),
    /// The worker has ended, or talks nonsense.
    WorkerFell(IpcError),
    /// The worker owes an answer for too long.
    WorkerHangs,
    /// The signer has ended.
    SignerFell(Ended),
    /// The worker's successor may be started.
    WorkerDue,
    /// The signer's successor may be started.
    SignerDue,
    /// The helper has ended.
    HelperFell(Ended),
    /// There is something to do with the helper, as the policy in force wants.
    HelperDue,
    /// A judge has ended, or there is something to do with them.
    Judges(JudgesEvent),
}

/// All children. Belongs to the control task.
pub(super) struct Children {
    given: Given,
    board: Rc<Board>,
    worker: Slot,
    signer: Slot,
    helper: HelperKeeper,
    judges: JudgesKeeper,
    signing: Option<Rc<SignerControl>>,
    /// What the signer can sign under the policy in force.
    keys: Vec<KeyFacts>,
    /// What the worker was asked to take.
    pending: Option<Offered>,
    /// The number of the policy that was offered last, taken or not: the signer knows keys by it.
    offered: u64,
    /// What the worker has taken, and who asked for it is not told yet.
    in_force: Option<InForce>,
    /// The same, while the worker cuts sessions.
    cutting: Option<InForce>,
    /// When the worker's answer to the last offer or order to cut is overdue.
    answer_due: Instant,
    /// The generation that the worker took last.
    taken: u64,
    /// The worker has a policy that does not fit what is steered, and could not be given the one in force.
    is_unfit: bool,
    eras: Eras,
    /// Some peer pads its TLS records.
    peers_pad: bool,
}

impl Children {
    /// Start the worker beside the signer, with the policy on the board.
    ///
    /// # Errors
    /// In an operator's words; what was started ends.
    pub(super) async fn start(signer: StartedSigner, given: Given, board: Rc<Board>) -> Result<Self> {
        board.set_listeners(given.listeners.status());
        let eras = Eras::of(&board.policy());
        let mut children = Self {
            given,
            helper: HelperKeeper::new(Rc::clone(&board)),
            judges: JudgesKeeper::new(Rc::clone(&board)),
            board,
            eras,
            worker: Slot::new(),
            signer: Slot::new(),
            signing: None,
            keys: Vec::new(),
            pending: None,
            offered: 0,
            in_force: None,
            cutting: None,
            answer_due: Instant::now(),
            taken: 0,
            is_unfit: false,
            peers_pad: false,
        };
        children.have(signer);
        children.helper.follow(None).await;
        children.start_worker().await?;
        children.follow_judges(JudgesEvent::Due).await;
        Ok(children)
    }

    fn have(&mut self, StartedSigner { process, signing, keys }: StartedSigner) {
        self.board.signer_came(&process, &signing, self.signer.restarts);
        self.signer.process = Some(process);
        (self.signing, self.keys) = (Some(signing), keys);
    }

    /// The next thing that one of them says or does. May be dropped while it waits.
    pub(super) async fn event(&mut self) -> Event {
        let answer_due = (self.pending.is_some() || self.cutting.is_some()).then_some(self.answer_due);
        // A successor is given the keys of the policy in force: first it must be known which one that is.
        let may_start_signer = self.pending.is_none();
        let Self { worker, signer, helper, judges, .. } = self;
        let said = async {
            match &worker.process {
                Some(process) => process.control().receive::<FromWorker>().await,
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match &mut signer.process {
                Some(process) => Some(process.ended().await),
                None if may_start_signer => {
                    sleep_until(signer.due).await;
                    None
                }
                None => std::future::pending().await,
            }
        };
        let hangs = async {
            match answer_due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // An answer that is there counts, however late it is looked at.
            biased;
            ended = ended => match ended {
                Some(ended) => Event::SignerFell(ended),
                None => Event::SignerDue,
            },
            said = said => match said {
                Ok((said, _)) => Event::Said(said),
                Err(error) => Event::WorkerFell(error),
            },
            () = worker.due() => Event::WorkerDue,
            ended = helper.event() => ended.map_or(Event::HelperDue, Event::HelperFell),
            event = judges.event() => Event::Judges(event),
            () = hangs => Event::WorkerHangs,
        }
    }

    /// Take notice of what the worker said; returns whether it has room, where it said that.
    pub(super) async fn heard(&mut self, said: FromWorker, steering: &RefCell<Steering>) -> Option<bool> {
        match said {
            FromWorker::Full(full) => return Some(full),
            FromWorker::Report(report) => self.board.reported(*report),
            FromWorker::Policy { generation, taken } => self.answered(generation, taken, steering).await,
            FromWorker::Cut { sessions, silent_threads } => self.cut(sessions, silent_threads),
            FromWorker::EraOver(era) => {
                self.eras.over(era);
                self.release(steering).await;
            }
            FromWorker::Failed(why) => tracing::error!("the worker cannot go on: {why}"),
            FromWorker::Alarm(alarm) => self.alarm(&alarm),
            FromWorker::JudgeFails(failure) => self.end_failing_judge(failure),
            FromWorker::Serving => {}
        }
        None
    }

    /// The worker speaks of sessions alone.
    pub(super) fn alarm(&self, alarm: &Alarm) {
        if matches!(alarm.kind, AlarmKind::Session(_)) {
            self.board.alarms().raise(alarm);
        }
    }

    /// Say in the log, and by an alarm, what became of a child.
    fn lost(&self, message: String) {
        tracing::error!("{message}");
        self.board.alarms().say(DaemonAlarm::ProcessDied, message);
    }

    async fn answered(&mut self, generation: u64, taken: Result<(), String>, steering: &RefCell<Steering>) {
        let Some(Offered { policy, keys, order, change, is_return }) =
            self.pending.take_if(|offered| offered.policy.generation == generation)
        else {
            return;
        };
        if taken.is_ok() {
            (self.taken, self.is_unfit) = (generation, false);
        }
        let committed = match (&change, taken) {
            (_, Err(why)) => Err(anyhow!(why)),
            (None, Ok(())) => Ok(()),
            (Some(change), Ok(())) => match change.commit(steering) {
                Ok(()) => Ok(()),
                Err(error) => {
                    // The worker has the new policy already.
                    self.put_back().await;
                    Err(error)
                }
            },
        };
        match committed {
            Ok(()) => {
                self.keys = keys;
                self.board.set_policy(policy);
                self.board.tell_of_ends();
                match (&order, is_return) {
                    (Some(_), _) => tracing::info!("configuration reloaded (generation {generation})"),
                    (None, true) => tracing::info!("the worker has the configuration in force again"),
                    (None, false) => tracing::info!(
                        "renewed certificates or lists of revoked ones are in force (generation {generation})"
                    ),
                }
                self.in_force = order.map(|order| InForce { order, generation });
            }
            Err(error) => {
                self.undo(change, steering).await;
                match order {
                    Some(order) => self.refuse(order, &error),
                    None if is_return => self.stays_unfit(&error),
                    None => tracing::error!(
                        "renewed certificates or lists of revoked ones are not taken, those before stay in force: {error:#}"
                    ),
                }
            }
        }
        self.release(steering).await;
    }

    /// Says which certificates end soon. A default certificate of Postern's own that does is replaced.
    pub(super) async fn look_at_ends(&mut self) {
        self.board.tell_of_ends();
        let policy = self.board.policy();
        if self.pending.is_none() && policy.own_default_ends() {
            let renewed = match policy.again() {
                Ok(renewed) => self.offer_renewed(renewed).await,
                Err(error) => Err(error),
            };
            if let Err(error) = renewed {
                tracing::error!(
                    "the default Proxy Server certificate stays the one that ends soon: {error:#}"
                );
            }
        }
    }

    /// The same policy with lists of revoked certificates that are new on the disk; the old ones stay, loudly, where that
    /// cannot be.
    pub(super) async fn renew(&mut self) {
        // What a reload has offered is not overtaken: the next look finds the lists.
        if self.pending.is_some() {
            return;
        }
        let renewed = match self.board.policy().renewed() {
            Ok(None) => return,
            Ok(Some(policy)) => self.offer_renewed(policy).await,
            Err(error) => Err(error),
        };
        if let Err(error) = renewed {
            tracing::error!("the lists of revoked certificates (tls.crls) stay as they were: {error:#}");
        }
    }

    /// Have the signer and the worker take a policy, which gets a number that no other had.
    async fn offer_with(&mut self, mut policy: LoadedPolicy, change: Option<&SteeringChange>) -> Result<()> {
        let signing = self.signing.as_ref().context("the signer is not there; reload again when it is")?;
        let worker =
            self.worker.process.as_ref().context("the worker is not there; reload again when it is")?;
        self.offered = self.offered.max(self.board.policy().generation) + 1;
        policy.generation = self.offered;
        let in_use = [self.board.policy().generation, self.taken];
        let keys = signing.load(policy.generation, in_use, &policy.keys, &policy.material).await?;
        let message = policy.for_worker(keys.clone())?;
        if policy.config.judges_mail() && self.given.state.is_none() {
            let state = StateFiles::open(&policy.config.state.directory, std::time::Instant::now());
            state.pass(worker.control()).await?;
            self.given.state = Some(state);
        }
        if let Some(change) = change {
            self.given.listeners.pass_of(change.opened(), worker.control()).await?;
        }
        worker.control().send(&ToWorker::Policy, &policy.with_rules(&message)).await?;
        self.pending = Some(Offered { policy, keys, order: None, change: None, is_return: false });
        self.answer_due = Instant::now() + ANSWER_TIME_MAX;
        Ok(())
    }

    /// The worker has ended: say so, and when its successor comes. What only its sessions used is no longer steered.
    pub(super) async fn worker_fell(
        &mut self,
        error: IpcError,
        meanwhile: &str,
        steering: &RefCell<Steering>,
    ) {
        self.board.worker_left();
        let Some(process) = self.worker.process.take() else { return };
        let lived = process.age();
        let why = match error {
            IpcError::Ended => {
                process.end().await.map_or_else(|| error.to_string(), |ended| ended.to_string())
            }
            // It is none of ours any more.
            error => {
                process.kill().await;
                error.to_string()
            }
        };
        let pause = self.worker.fell(lived);
        self.lost(format!(
            "the worker died ({why}): its sessions are cut, and {meanwhile}; another one is started in {} s",
            pause.as_secs()
        ));
        if let Some(Offered { change, order, .. }) = self.pending.take() {
            self.undo(change, steering).await;
            // What nobody asked for is told by the worker's death, and found again by the next look.
            if let Some(order) = order {
                self.refuse(order, &anyhow!("the worker died before it had taken the new one"));
            }
        }
        for in_force in [self.in_force.take(), self.cutting.take()].into_iter().flatten() {
            in_force.tell(None);
        }
        self.judges.renew().await;
        // Its successor begins with the policy in force.
        self.is_unfit = false;
        self.eras.only(self.board.policy().era);
        self.release(steering).await;
    }

    /// The worker owes an answer for [`ANSWER_TIME_MAX`]: end it, so that [`Self::worker_fell`] tells who waits.
    pub(super) fn end_hanging_worker(&mut self) {
        let now = Instant::now();
        let is_late = now > self.answer_due + LATE;
        self.answer_due = now + ANSWER_TIME_MAX;
        if is_late {
            return;
        }
        let asked =
            if self.pending.is_some() { "whether it takes a policy" } else { "how many sessions it cut" };
        tracing::error!(
            "the worker hangs: it has not said within {} s {asked}, and is killed; please report it",
            ANSWER_TIME_MAX.as_secs()
        );
        if let Some(process) = &mut self.worker.process {
            process.start_kill();
        }
    }

    /// The signer has ended: say so, and when its successor comes.
    pub(super) fn signer_fell(&mut self, ended: &Ended) {
        self.signing = None;
        let Some(process) = self.signer.process.take() else { return };
        self.board.signer_left();
        let pause = self.signer.fell(process.age());
        self.lost(format!(
            "the signer died ({ended}): sessions go on, and certificates that are cached serve; others wait until \
             another signer is started in {} s",
            pause.as_secs()
        ));
    }

    /// Start the worker's successor. Where it serves, `take` has new connections come to it: before it is told, so that
    /// nobody who reads that it serves finds connections that pass.
    pub(super) async fn restart_worker(&mut self, take: impl FnOnce()) {
        self.worker.restarts += 1;
        match self.start_worker().await {
            Ok(()) => {
                take();
                tracing::warn!(restarts = self.worker.restarts, "the worker was started again");
            }
            Err(error) => {
                let pause = self.worker.fell(Duration::ZERO);
                self.lost(format!(
                    "the worker cannot be started, trying again in {} s: {error:#}",
                    pause.as_secs()
                ));
            }
        }
    }

    /// Start the signer's successor.
    pub(super) async fn restart_signer(&mut self) {
        self.signer.restarts += 1;
        match self.start_signer().await {
            Ok(()) => tracing::warn!(restarts = self.signer.restarts, "the signer was started again"),
            Err(error) => {
                let pause = self.signer.fell(Duration::ZERO);
                self.lost(format!(
                    "the signer cannot be started, trying again in {} s: {error:#}",
                    pause.as_secs()
                ));
            }
        }
    }

    /// The helper has ended: say so, and when its successor comes.
    pub(super) fn helper_fell(&mut self, ended: &Ended) {
        self.helper.fell(ended);
    }

    /// Do with the helper what the policy in force wants.
    pub(super) async fn follow_helper(&mut self) {
        self.helper.follow(self.worker.process.as_ref()).await;
    }

    /// A judge has ended, or there is something to do with them.
    pub(super) async fn follow_judges(&mut self, event: JudgesEvent) {
        if let JudgesEvent::Fell(index, ended) = event {
            self.judges.fell(index, &ended).await;
        }
        self.judges.follow(self.worker.process.as_ref()).await;
    }

    /// The worker asks a judge no more.
    pub(super) fn end_failing_judge(&mut self, failure: JudgeFailure) {
        self.judges.end_failing(failure);
    }

    async fn start_signer(&mut self) -> Result<()> {
        let signer = StartedSigner::start(&self.board).await?;
        if let Some(worker) = &self.worker.process {
            introduce(&signer.signing, worker).await?;
        }
        self.have(signer);
        Ok(())
    }

    async fn start_worker(&mut self) -> Result<()> {
        let started = timeout(START_TIME_MAX, self.serve()).await;
        let process =
            started.map_err(|_| anyhow!("it did not serve within {} s", START_TIME_MAX.as_secs()))??;
        self.board.worker_came(&process, self.worker.restarts);
        self.taken = self.board.policy().generation;
        self.worker.process = Some(process);
        Ok(())
    }

    /// A worker that serves.
    async fn serve(&self) -> Result<ChildProcess> {
        let policy = self.board.policy();
        let user = identity(Role::Worker, &policy.config.processes);
        let mut process = ChildProcess::start(Role::Worker, user, Vec::new()).await?;
        let control = Rc::clone(process.control());
        control.send(&ToWorker::SynEgress, &[self.given.syn_egress.as_fd()]).await?;
        self.given.listeners.pass(&control).await?;
        if let Some(signing) = &self.signing {
            introduce(signing, &process).await?;
        }
        self.helper.introduce(&process).await?;
        self.judges.introduce(&process).await?;
        if let Some(state) = &self.given.state {
            state.pass(&control).await?;
        }
        let message = policy.for_worker(self.keys.clone())?;
        control.send(&ToWorker::Policy, &policy.with_rules(&message)).await?;
        let serve = Serve { threads: thread_count(policy.config.steering.threads), cores: core_count() };
        control.send(&ToWorker::Serve(serve), &[]).await?;
        loop {
            match control.receive::<FromWorker>().await {
                Ok((FromWorker::Serving, _)) => break,
                Ok((FromWorker::Policy { taken: Err(why), .. } | FromWorker::Failed(why), _)) => {
                    bail!("{why}")
                }
                Ok(_) => {}
                Err(IpcError::Ended) => bail!("it ended before it served ({})", process.ended().await),
                Err(error) => return Err(error.into()),
            }
        }
        if self.peers_pad {
            control.send(&ToWorker::PeersPad, &[]).await?;
        }
        Ok(process)
    }

    /// Whether that was told already.
    pub(super) const fn peers_are_known_to_pad(&self) -> bool {
        self.peers_pad
    }

    /// The kernel's counters say that some peer pads its TLS records: this and later workers are told.
    pub(super) async fn peers_pad(&mut self) {
        self.peers_pad = true;
        if let Some(worker) = &self.worker.process {
            // One that is gone is heard of as such.
            drop(worker.control().send(&ToWorker::PeersPad, &[]).await);
        }
    }

    /// End all but the helper, which may have alarms to post: first the worker, which cuts what is left and writes what waits.
    pub(super) async fn stop(self) -> HelperKeeper {
        let Self { worker, signer, signing, board, helper, mut judges, .. } = self;
        if let Some(process) = worker.process {
            drop(process.control().send(&ToWorker::Stop, &[]).await);
            board.worker_left();
            process.end().await;
        }
        judges.stop().await;
        drop(signing);
        board.signer_left();
        if let Some(process) = signer.process {
            process.end().await;
        }
        helper
    }
}

/// Lead the worker to the signer.
async fn introduce(signing: &SignerControl, worker: &ChildProcess) -> Result<()> {
    let (near, far) = Channel::pair().context("a channel between worker and signer")?;
    signing.serve_worker(near).await?;
    Ok(worker.control().send(&ToWorker::Signer, &[far.as_fd()]).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pause_before_a_restart_doubles_and_begins_anew_after_a_steady_life() {
        let mut slot = Slot::new();
        let pauses = [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs);
        assert_eq!(pauses.map(|_| slot.fell(Duration::ZERO)), pauses);
        slot.fell(STEADY - Duration::from_millis(1));
        assert_eq!(slot.fell(STEADY), RESTART_PAUSE_LEAST);
        let begun = Instant::now();
        slot.due().await;
        assert_eq!(begun.elapsed(), RESTART_PAUSE_LEAST);
    }
}
