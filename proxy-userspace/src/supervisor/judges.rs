//! Judges: one for each core and a spare, where the policy in force has mail judged; each is led to the worker, and replaced
//! when it dies.

use std::future::poll_fn;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep_until, timeout};

use super::board::Board;
use super::children::Slot;
use super::process::{ChildProcess, Ended};
use crate::config::DaemonAlarm;
use crate::confine::{Role, identity};
use crate::ipc::Channel;
use crate::judging::{FromJudge, JudgeFailure, ToJudge, judge_count};
use crate::line_limit::LineLimit;
use crate::worker::core_count;
use crate::worker::protocol::ToWorker;

/// What a judge that has ended had said is there at once.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_millis(100);

/// All judges, or the time until their successors are started. Belongs to the control task.
pub(super) struct JudgesKeeper {
    board: Rc<Board>,
    seats: Vec<Seat>,
    /// The number of the judge that was started last.
    last: u64,
}

/// The place of one judge.
struct Seat {
    slot: Slot,
    /// The number of the one that is there.
    judge: u64,
}

/// What came up with judges.
pub(super) enum JudgesEvent {
    /// The judge of this seat has ended.
    Fell(usize, Ended),
    /// There is something to do: see [`JudgesKeeper::follow`].
    Due,
}

impl JudgesKeeper {
    pub(super) const fn new(board: Rc<Board>) -> Self {
        Self { board, seats: Vec::new(), last: 0 }
    }

    /// Waits until one has ended, or until there is something to do. May be dropped while it waits.
    pub(super) async fn event(&mut self) -> JudgesEvent {
        if self.wanted() != self.seats.len() {
            return JudgesEvent::Due;
        }
        let mut waits: Vec<Pin<Box<dyn Future<Output = JudgesEvent> + '_>>> = Vec::new();
        for (index, seat) in self.seats.iter_mut().enumerate() {
            let due = seat.slot.due;
            waits.push(match &mut seat.slot.process {
                Some(process) => Box::pin(async move { JudgesEvent::Fell(index, process.ended().await) }),
                None => Box::pin(async move {
                    sleep_until(due).await;
                    JudgesEvent::Due
                }),
            });
        }
        poll_fn(|cx| {
            let mut polled = waits.iter_mut().map(|wait| wait.as_mut().poll(cx));
            polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }

    /// How many there should be. Once there are some they stay as long as the worker: its sessions keep rules that a later
    /// policy no longer has (`policy/running.rs`).
    fn wanted(&self) -> usize {
        let has_some = !self.seats.is_empty();
        let is_wanted = has_some || self.board.policy().config.judges_mail();
        usize::try_from(if is_wanted { judge_count(core_count()) } else { 0 }).unwrap_or(usize::MAX)
    }

    /// Start those that are missing. What fails is told, and tried again.
    pub(super) async fn follow(&mut self, worker: Option<&ChildProcess>) {
        let wanted = self.wanted();
        if wanted == 0 {
            return;
        }
        self.seats.resize_with(wanted, || Seat { slot: Slot::new(), judge: 0 });
        for index in 0..self.seats.len() {
            let is_due = self
                .seats
                .get(index)
                .is_some_and(|seat| seat.slot.process.is_none() && seat.slot.due <= Instant::now());
            if is_due {
                self.fill(index, worker).await;
            }
        }
        self.tell_board();
    }

    /// Start the judge of a seat.
    async fn fill(&mut self, index: usize, worker: Option<&ChildProcess>) {
        let number = self.last.saturating_add(1);
        let started = self.start(number, worker).await;
        let Some(seat) = self.seats.get_mut(index) else { return };
        match started {
            Ok(process) => {
                self.last = number;
                (seat.slot.process, seat.judge) = (Some(process), number);
            }
            Err(error) => {
                let pause = seat.slot.fell(Duration::ZERO);
                tracing::error!(
                    "a judge cannot be started, trying again in {} s: {error:#}",
                    pause.as_secs()
                );
            }
        }
    }

    async fn start(&self, number: u64, worker: Option<&ChildProcess>) -> Result<ChildProcess> {
        let policy = self.board.policy();
        let user = identity(Role::Judge, &policy.config.processes);
        let process = ChildProcess::start_judge(user, policy.config.limits.judge_memory).await?;
        if let Some(worker) = worker {
            introduce(number, &process, worker).await?;
        }
        Ok(process)
    }

    /// Lead a new worker to those that are there.
    ///
    /// # Errors
    /// The worker cannot be told.
    pub(super) async fn introduce(&self, worker: &ChildProcess) -> Result<()> {
        for seat in &self.seats {
            if let Some(judge) = &seat.slot.process {
                introduce(seat.judge, judge, worker).await?;
            }
        }
        Ok(())
    }

    /// One has ended: say so. One to which leaves came has a successor at once, because hostile mail that ends judges must
    /// not become a pause for honest mail; one that ended before waits, as other processes do.
    pub(super) async fn fell(&mut self, index: usize, ended: &Ended) {
        static DEATHS: LineLimit = LineLimit::new();
        let Some(seat) = self.seats.get_mut(index) else { return };
        let Some(process) = seat.slot.process.take() else { return };
        seat.slot.restarts = seat.slot.restarts.saturating_add(1);
        let last_words = timeout(LAST_WORDS_TIME_MAX, process.control().receive::<FromJudge>()).await;
        let successor = if matches!(last_words, Ok(Ok((FromJudge::Judges, _)))) {
            seat.slot.due = Instant::now();
            "at once".to_owned()
        } else {
            format!("in {} s", seat.slot.fell(process.age()).as_secs())
        };
        self.tell_board();
        let message = format!(
            "a judge died ({ended}): if a part of a mail did that, it goes to another judge once; a successor is started {successor}"
        );
        if let Some(left_out) = DEATHS.admit() {
            tracing::error!("{message}{left_out}");
        }
        self.board.alarms().say(DaemonAlarm::ProcessDied, message);
    }

    /// The worker asks one of them no more: end it, if it is still there.
    pub(super) fn end_failing(&mut self, failure: JudgeFailure) {
        static FAILURES: LineLimit = LineLimit::new();
        let JudgeFailure { judge, fault } = failure;
        let seat = self.seats.iter_mut().find(|seat| seat.judge == judge);
        let Some(process) = seat.and_then(|seat| seat.slot.process.as_mut()) else { return };
        if let Some(left_out) = FAILURES.admit() {
            tracing::warn!(judge, "a judge is asked no more, and is killed: {fault}{left_out}");
        }
        process.start_kill();
    }

    /// The worker has ended: all are started anew. Each may be busy with a leaf of the worker's, and its successor's would wait
    /// for that, or be taken for the one that ends the judge.
    pub(super) async fn renew(&mut self) {
        for seat in &mut self.seats {
            if let Some(process) = seat.slot.process.take() {
                process.kill().await;
                seat.slot.due = Instant::now();
            }
        }
        if !self.board.policy().config.judges_mail() {
            self.seats.clear();
        }
        self.tell_board();
    }

    /// End all: at once, so that none gets a leaf whose judge was ended before it.
    pub(super) async fn stop(&mut self) {
        for process in self.seats.iter_mut().filter_map(|seat| seat.slot.process.as_mut()) {
            process.start_kill();
        }
        for seat in self.seats.drain(..) {
            if let Some(process) = seat.slot.process {
                // It may be busy with a leaf that nobody waits for.
                process.kill().await;
            }
        }
        self.tell_board();
    }

    fn tell_board(&self) {
        let seats = self.seats.iter().map(|seat| (seat.slot.process.as_ref(), seat.slot.restarts));
        self.board.judges_are(seats);
    }
}

/// Lead the worker to a judge. A judge that is gone is heard of as such.
async fn introduce(number: u64, judge: &ChildProcess, worker: &ChildProcess) -> Result<()> {
    let (near, far) = Channel::pair().context("a channel between worker and judge")?;
    drop(judge.control().send(&ToJudge::Serve, &[near.as_fd()]).await);
    Ok(worker.control().send(&ToWorker::Judge(number), &[far.as_fd()]).await?)
}
