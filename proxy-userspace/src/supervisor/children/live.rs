//! The children's part in a change of steering: what they are given before it, and what is taken from them behind it.

use std::cell::RefCell;
use std::path::Path;

use anyhow::Result;

use super::super::PADDING_LOOK;
use super::super::change::SteeringChange;
use super::super::policy::LoadedPolicy;
use super::Children;
use crate::config::InterfaceName;
use crate::steering::upkeep::Steering;
use crate::worker::protocol::ToWorker;

impl Children {
    /// The policy of a file is offered to the worker, and what is steered otherwise under it is prepared.
    ///
    /// # Errors
    /// The file, or what is not there to take it; all is as before then.
    pub(super) async fn offer_file(&mut self, path: &Path, steering: &RefCell<Steering>) -> Result<()> {
        let running = self.board.policy();
        let mut policy = running.next(path)?;
        let change = SteeringChange::begin(&running, &policy.config, steering, &mut self.given.listeners)?;
        if change.is_some() {
            policy.era = self.eras.begin();
            self.board.set_listeners(self.given.listeners.status());
        } else {
            policy.era = self.era_after(running.era);
        }
        let era = policy.era;
        let offered = self.offer_with(policy, change.as_ref()).await;
        match (&mut self.pending, &offered) {
            (Some(pending), Ok(())) => pending.change = change,
            _ => {
                self.forget_unheard(era, true);
                self.undo(change, steering).await;
            }
        }
        offered
    }

    /// The policy in force with what was renewed of it is offered to the worker.
    ///
    /// # Errors
    /// What is not there to take it.
    pub(super) async fn offer_renewed(&mut self, mut policy: LoadedPolicy) -> Result<()> {
        let era = self.era_after(policy.era);
        policy.era = era;
        let offered = self.offer_with(policy, None).await;
        self.forget_unheard(era, offered.is_err());
        offered
    }

    /// The worker gets the policy in force again, in the place of one that cannot stay.
    pub(super) async fn put_back(&mut self) {
        self.is_unfit = true;
        let era = self.eras.begin();
        let again = match self.board.policy().in_era(era) {
            Ok(again) => self.offer_with(again, None).await,
            Err(error) => Err(error),
        };
        self.forget_unheard(era, again.is_err());
        match (&mut self.pending, again) {
            (Some(pending), Ok(())) => pending.is_return = true,
            (_, Err(error)) => self.stays_unfit(&error),
            (None, Ok(())) => {}
        }
    }

    /// Try once more what [`Self::put_back`] could not do.
    pub(in crate::supervisor) async fn put_back_again(&mut self) {
        if self.is_unfit && self.pending.is_none() {
            self.put_back().await;
        }
    }

    /// The policy in force could not be given back to the worker.
    pub(super) fn stays_unfit(&self, error: &anyhow::Error) {
        tracing::error!(
            "the worker keeps a policy that does not fit what is steered, and new connections may be refused; the configuration \
             in force is offered to it again every {} s: {error:#}",
            PADDING_LOOK.as_secs()
        );
    }

    /// The era of a policy under which steering stays as it is. Where the worker's policy is of another era than the one in
    /// force, a new one begins: the worker takes the same number twice for two eras.
    fn era_after(&mut self, running: u64) -> u64 {
        if self.is_unfit { self.eras.begin() } else { running }
    }

    /// An era that the worker did not hear of is over.
    fn forget_unheard(&mut self, era: u64, is_unheard: bool) {
        if is_unheard && era != self.board.policy().era {
            self.eras.over(era);
        }
    }

    /// Steering is as it was, and the worker closes what it was given for the change.
    pub(super) async fn undo(&mut self, change: Option<SteeringChange>, steering: &RefCell<Steering>) {
        if let Some(change) = change {
            let closed = change.undo(steering, &mut self.given.listeners);
            self.unlisten(closed).await;
        }
    }

    /// What no session uses any more is no longer steered, and its listeners are closed.
    pub(super) async fn release(&mut self, steering: &RefCell<Steering>) {
        // A change that has begun counts on what is there.
        if self.pending.is_some() {
            return;
        }
        let closed = {
            let mut steering = steering.borrow_mut();
            let plan = steering.plan().released(self.eras.oldest());
            if plan != *steering.plan() {
                let settings = steering.settings().clone();
                if let Err(error) = steering.change(settings, plan) {
                    tracing::error!(
                        "what no session uses any more is still steered, and is tried again: {error}"
                    );
                }
            }
            self.given.listeners.close_beyond(steering.plan())
        };
        if !closed.is_empty() {
            self.unlisten(closed).await;
        }
    }

    async fn unlisten(&mut self, ingresses: Vec<InterfaceName>) {
        self.board.set_listeners(self.given.listeners.status());
        if let Some(worker) = self.worker.process.as_ref().filter(|_| !ingresses.is_empty()) {
            // One that is gone is heard of as such.
            drop(worker.control().send(&ToWorker::Unlisten(ingresses), &[]).await);
        }
    }
}
