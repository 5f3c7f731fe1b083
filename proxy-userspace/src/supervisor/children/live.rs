//! The children's part in a change of steering: what they are given before it, and what is taken from them behind it.

use std::cell::RefCell;
use std::path::Path;

use anyhow::Result;

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
        }
        let era = policy.era;
        let offered = self.offer_with(policy, change.as_ref()).await;
        match (&mut self.pending, &offered) {
            (Some(pending), Ok(())) => pending.change = change,
            _ => {
                // The worker did not hear of it.
                if era != running.era {
                    self.eras.over(era);
                }
                self.undo(change, steering).await;
            }
        }
        offered
    }

    /// The worker gets the policy in force again, in the place of one that cannot stay.
    pub(super) async fn put_back(&mut self, taken: &LoadedPolicy) {
        let era = self.eras.begin();
        let again = match self.board.policy().instead_of(taken, era) {
            Ok(again) => self.offer_with(again, None).await,
            Err(error) => Err(error),
        };
        if let Some(pending) = &mut self.pending {
            pending.is_return = true;
        }
        if let Err(error) = again {
            self.eras.over(era);
            tracing::error!(
                "the worker keeps the new policy, which does not fit what is steered: new connections may be refused until you \
                 reload again: {error:#}"
            );
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
