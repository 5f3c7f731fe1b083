//! What is known of the children and the policy: written by the control task, read for `postern status`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use caps::{CapSet, Capability};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::alarms::Alarms;
use super::policy::{LoadedPolicy, now};
use super::process::ChildProcess;
use crate::admin::{ListenerStatus, ProcessStatus};
use crate::config::DaemonAlarm;
use crate::confine::{Confinement, Role};
use crate::handshake::expiry::ExpiryTold;
use crate::ipc::AsyncChannel;
use crate::signer::{SignerControl, SignerReport};
use crate::worker::protocol::{ToWorker, WorkerReport};

/// Both answer at once; a status has to be given within a second.
const REPORT_TIME_MAX: Duration = Duration::from_millis(400);

/// What a child is, as far as it said so itself; the kernel is asked for the rest.
struct KnownChild {
    pid: Option<u32>,
    confinement: Confinement,
}

/// Shared by the tasks of the supervisor's one thread.
pub(super) struct Board {
    policy: RefCell<Rc<LoadedPolicy>>,
    to_worker: RefCell<Option<Rc<AsyncChannel>>>,
    report: RefCell<WorkerReport>,
    reported: Notify,
    signing: RefCell<Option<Rc<SignerControl>>>,
    worker: RefCell<Option<KnownChild>>,
    signer: RefCell<Option<KnownChild>>,
    helper: RefCell<Option<KnownChild>>,
    /// With how often each was started again.
    judges: RefCell<Vec<(Option<KnownChild>, u64)>>,
    restarts: Cell<(u64, u64)>,
    listeners: RefCell<Vec<ListenerStatus>>,
    helper_restarts: Cell<u64>,
    /// Certificates whose end was told.
    ends_told: RefCell<ExpiryTold>,
    alarms: Alarms,
}

impl Board {
    pub(super) fn new(policy: LoadedPolicy) -> Self {
        Self {
            alarms: Alarms::new(&policy.config.alarm),
            policy: RefCell::new(Rc::new(policy)),
            to_worker: RefCell::default(),
            report: RefCell::default(),
            reported: Notify::new(),
            signing: RefCell::default(),
            worker: RefCell::default(),
            signer: RefCell::default(),
            helper: RefCell::default(),
            judges: RefCell::default(),
            restarts: Cell::default(),
            listeners: RefCell::default(),
            helper_restarts: Cell::default(),
            ends_told: RefCell::default(),
        }
    }

    /// The policy in force.
    pub(super) fn policy(&self) -> Rc<LoadedPolicy> {
        Rc::clone(&self.policy.borrow())
    }

    /// Where alarms are raised.
    pub(super) const fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Says in the log which certificates end soon: each of them at steps, and all after a reload.
    pub(super) fn tell_of_ends(&self) {
        for alarm in self.ends_told.borrow_mut().news(&self.policy().lifetimes, now()) {
            tracing::warn!("{alarm}");
            self.alarms.say(DaemonAlarm::CertificateEnds, alarm.to_string());
        }
    }

    pub(super) fn set_policy(&self, policy: LoadedPolicy) {
        self.alarms.renew(&policy.config.alarm);
        *self.policy.borrow_mut() = Rc::new(policy);
        self.ends_told.borrow_mut().forget();
    }

    /// The listeners that are open.
    pub(super) fn set_listeners(&self, listeners: Vec<ListenerStatus>) {
        *self.listeners.borrow_mut() = listeners;
    }

    pub(super) fn listeners(&self) -> Vec<ListenerStatus> {
        self.listeners.borrow().clone()
    }

    pub(super) fn worker_came(&self, process: &ChildProcess, restarts: u64) {
        *self.to_worker.borrow_mut() = Some(Rc::clone(process.control()));
        *self.worker.borrow_mut() = Some(KnownChild::of(process));
        self.restarts.set((restarts, self.restarts.get().1));
    }

    pub(super) fn worker_left(&self) {
        *self.to_worker.borrow_mut() = None;
        *self.worker.borrow_mut() = None;
        *self.report.borrow_mut() = WorkerReport::default();
        self.reported.notify_waiters();
    }

    pub(super) fn signer_came(&self, process: &ChildProcess, signing: &Rc<SignerControl>, restarts: u64) {
        *self.signing.borrow_mut() = Some(Rc::clone(signing));
        *self.signer.borrow_mut() = Some(KnownChild::of(process));
        self.restarts.set((self.restarts.get().0, restarts));
    }

    pub(super) fn signer_left(&self) {
        *self.signing.borrow_mut() = None;
        *self.signer.borrow_mut() = None;
    }

    pub(super) fn helper_came(&self, process: &ChildProcess, restarts: u64) {
        *self.helper.borrow_mut() = Some(KnownChild::of(process));
        self.helper_restarts.set(restarts);
    }

    pub(super) fn helper_left(&self) {
        *self.helper.borrow_mut() = None;
    }

    /// All judges that the policy in force wants, each with how often it was started again.
    pub(super) fn judges_are<'a>(&self, judges: impl Iterator<Item = (Option<&'a ChildProcess>, u64)>) {
        *self.judges.borrow_mut() =
            judges.map(|(process, restarts)| (process.map(KnownChild::of), restarts)).collect();
    }

    /// How many judges there shall be, how many there are, and how often one was started again.
    pub(super) fn judges(&self) -> (u64, u64, u64) {
        let judges = self.judges.borrow();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let alive = judges.iter().filter(|(known, _)| known.is_some()).count();
        let restarts = judges.iter().map(|(_, restarts)| *restarts).fold(0, u64::saturating_add);
        (count(judges.len()), count(alive), restarts)
    }

    pub(super) fn reported(&self, report: WorkerReport) {
        *self.report.borrow_mut() = report;
        self.reported.notify_waiters();
    }

    /// Have the worker report; the answer comes to the control task.
    pub(super) async fn ask_for_report(&self) {
        let worker = self.to_worker.borrow().clone();
        if let Some(worker) = worker {
            // One that is gone is heard of as such.
            drop(worker.send(&ToWorker::Report, &[]).await);
        }
    }

    /// The worker's numbers as they are now; those that it told last where it does not answer, none without a worker.
    pub(super) async fn report(&self) -> WorkerReport {
        if self.to_worker.borrow().is_some() {
            let told = self.reported.notified();
            let asked = async {
                self.ask_for_report().await;
                told.await;
            };
            drop(timeout(REPORT_TIME_MAX, asked).await);
        }
        self.report.borrow().clone()
    }

    /// What the signer counted; none where it does not answer.
    pub(super) async fn signer_report(&self) -> Option<SignerReport> {
        let signing = self.signing.borrow().clone()?;
        timeout(REPORT_TIME_MAX, signing.report()).await.ok()?.ok()
    }

    /// All processes, this one first; helper and judges where the policy in force wants them.
    pub(super) fn processes(&self) -> Vec<ProcessStatus> {
        let (worker, signer) = self.restarts.get();
        let of = |role: Role, known: &Option<KnownChild>, restarts| {
            let known = known.as_ref();
            let given_up = known.map(|known| &known.confinement);
            ProcessStatus {
                restarts,
                landlock: given_up.map(|given_up| given_up.landlock.clone()),
                locked_memory: given_up.and_then(|given_up| given_up.locked_memory.clone()),
                ..ask_kernel(role.as_str(), known.and_then(|known| known.pid))
            }
        };
        let mut processes = vec![
            ask_kernel("supervisor", Some(std::process::id())),
            of(Role::Worker, &self.worker.borrow(), worker),
            of(Role::Signer, &self.signer.borrow(), signer),
        ];
        if self.policy().helper.is_some() {
            processes.push(of(Role::Helper, &self.helper.borrow(), self.helper_restarts.get()));
        }
        for (judge, restarts) in self.judges.borrow().iter() {
            processes.push(of(Role::Judge, judge, *restarts));
        }
        processes
    }
}

impl KnownChild {
    fn of(process: &ChildProcess) -> Self {
        Self { pid: process.pid(), confinement: process.confinement().clone() }
    }
}

/// What the kernel says of a process (proc_pid_status(5)).
fn ask_kernel(name: &str, pid: Option<u32>) -> ProcessStatus {
    let text =
        pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok()).unwrap_or_default();
    let field = |key: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        rest.map(|rest| rest.split_whitespace().next().unwrap_or_default())
    };
    let number = |key| field(key).and_then(|value| value.parse::<u64>().ok());
    let held = pid.and_then(|pid| caps::read(i32::try_from(pid).ok(), CapSet::Permitted).ok());
    let mut capabilities: Vec<String> = held.iter().flatten().map(Capability::to_string).collect();
    capabilities.sort();
    ProcessStatus {
        name: name.to_owned(),
        pid,
        uid: number("Uid").and_then(|uid| u32::try_from(uid).ok()),
        capabilities,
        memory: number("VmRSS").unwrap_or(0).saturating_mul(1024),
        seccomp: number("Seccomp") == Some(2),
        landlock: None,
        locked_memory: None,
        restarts: 0,
    }
}
