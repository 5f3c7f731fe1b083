//! The helper: started where the policy in force asks authorities, told whom, replaced when it dies. Nothing waits for it.

use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep_until};

use super::board::Board;
use super::children::Slot;
use super::process::{ChildProcess, Ended};
use crate::config::DaemonAlarm;
use crate::confine::{Role, identity};
use crate::helper::{HelperTerms, ToHelper};
use crate::ipc::{Channel, IpcError};
use crate::worker::protocol::ToWorker;

/// The helper, or the time until its successor is started. Belongs to the control task.
pub(super) struct HelperKeeper {
    board: Rc<Board>,
    slot: Slot,
    /// What the running one was told.
    told: Option<HelperTerms>,
}

impl HelperKeeper {
    pub(super) fn new(board: Rc<Board>) -> Self {
        Self { board, slot: Slot::new(), told: None }
    }

    /// Waits until it has ended (`Some`), or until there is something to do with it (`None`): then [`Self::follow`] does
    /// it. May be dropped while it waits.
    pub(super) async fn event(&mut self) -> Option<Ended> {
        let policy = self.board.policy();
        match (&mut self.slot.process, &policy.helper) {
            (Some(process), wanted) if *wanted == self.told => Some(process.ended().await),
            (None, None) => std::future::pending().await,
            (None, Some(_)) => {
                sleep_until(self.slot.due).await;
                None
            }
            (Some(_), _) => None,
        }
    }

    /// Do what the policy in force wants: start it, tell it something new, or end it. What fails is told, and tried again.
    pub(super) async fn follow(&mut self, worker: Option<&ChildProcess>) {
        let policy = self.board.policy();
        match (&self.slot.process, &policy.helper) {
            (None, None) => {}
            (Some(_), None) => {
                tracing::info!(
                    "no TLS profile in use asks authorities, and no alarm is posted, any more: the helper ends"
                );
                self.stop().await;
            }
            (Some(_), Some(terms)) if self.told.as_ref().is_none_or(|told| told.ports() != terms.ports()) => {
                // Nothing opens a port to a process that has given it up.
                tracing::info!("another helper is started, which may connect to other ports");
                self.stop().await;
                self.slot.due = Instant::now();
            }
            (Some(process), Some(terms)) => match tell(process, terms).await {
                Ok(()) => self.told = Some(terms.clone()),
                Err(error) => {
                    tracing::error!(
                        "the helper cannot be told of its new configuration: {error:#}; it is started again"
                    );
                    self.stop().await;
                    self.slot.fell(Duration::ZERO);
                }
            },
            (None, Some(terms)) => match self.start(terms.clone(), worker).await {
                Ok(()) if self.slot.restarts > 0 => {
                    tracing::warn!(restarts = self.slot.restarts, "the helper was started again");
                }
                Ok(()) => {}
                Err(error) => {
                    let pause = self.slot.fell(Duration::ZERO);
                    tracing::error!(
                        "the helper cannot be started, trying again in {} s; until then {}: {error:#}",
                        pause.as_secs(),
                        terms.without()
                    );
                }
            },
        }
    }

    async fn start(&mut self, terms: HelperTerms, worker: Option<&ChildProcess>) -> Result<()> {
        let user = identity(Role::Helper, &self.board.policy().config.processes);
        let process = ChildProcess::start(Role::Helper, user, terms.ports()).await?;
        tell(&process, &terms).await?;
        let (near, far) = Channel::pair().context("a channel to the helper for alarms")?;
        process.control().send(&ToHelper::Posts, &[far.as_fd()]).await?;
        self.board.alarms().posts().connect(near).context("a channel to the helper for alarms")?;
        if let Some(worker) = worker {
            introduce(&process, worker).await?;
        }
        self.board.helper_came(&process, self.slot.restarts);
        self.slot.process = Some(process);
        self.told = Some(terms);
        Ok(())
    }

    /// Lead a new worker to it, if it is there.
    ///
    /// # Errors
    /// The worker cannot be told.
    pub(super) async fn introduce(&self, worker: &ChildProcess) -> Result<()> {
        match &self.slot.process {
            Some(helper) => introduce(helper, worker).await,
            None => Ok(()),
        }
    }

    /// It has ended: say so, and when its successor comes.
    pub(super) fn fell(&mut self, ended: &Ended) {
        let Some(process) = self.slot.process.take() else { return };
        let without = self.told.as_ref().map(HelperTerms::without).unwrap_or_default();
        self.forget();
        let pause = self.slot.fell(process.age());
        self.slot.restarts += 1;
        let message = format!(
            "the helper died ({ended}): sessions go on, and {without} until another one is started in {} s",
            pause.as_secs()
        );
        tracing::error!("{message}");
        self.board.alarms().say(DaemonAlarm::ProcessDied, message);
    }

    /// End it.
    pub(super) async fn stop(&mut self) {
        if let Some(process) = self.slot.process.take() {
            process.end().await;
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.told = None;
        self.board.helper_left();
    }
}

/// Tell the helper what it has to know. One that is gone is heard of as such.
async fn tell(helper: &ChildProcess, terms: &HelperTerms) -> Result<()> {
    let memory = terms.sealed()?;
    match helper.control().send(&ToHelper::Terms, &[memory.as_fd()]).await {
        Ok(()) | Err(IpcError::Ended) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Lead the worker to the helper. A helper that is gone is heard of as such.
async fn introduce(helper: &ChildProcess, worker: &ChildProcess) -> Result<()> {
    let (near, far) = Channel::pair().context("a channel between worker and helper")?;
    drop(helper.control().send(&ToHelper::Serve, &[near.as_fd()]).await);
    Ok(worker.control().send(&ToWorker::Helper, &[far.as_fd()]).await?)
}
