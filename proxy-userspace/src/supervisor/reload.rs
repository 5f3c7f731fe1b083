//! Reloads that were asked for, by HUP or by `postern reload`: one after the other.

use tokio::sync::{mpsc, oneshot};

use super::change::SteeringChange;
use super::policy::LoadedPolicy;
use crate::admin::ReloadOutcome;
use crate::signer::KeyFacts;

/// Reloads that wait for the control task. The admin socket admits no more.
const ORDERS_MAX: usize = 8;
/// What is told who asks a daemon that stops.
const STOPPING: &str = "the daemon is stopping";

/// Somebody wants the configuration read again.
#[derive(Default)]
pub(super) struct ReloadOrder {
    /// Sessions that the new policies would refuse shall end.
    pub(super) cut: bool,
    /// Who waits for the outcome; nobody does behind a signal.
    answer: Option<oneshot::Sender<ReloadOutcome>>,
}

impl ReloadOrder {
    /// Tell who asked.
    pub(super) fn answer(self, outcome: ReloadOutcome) {
        if let Some(answer) = self.answer {
            // Who asked may have gone.
            drop(answer.send(outcome));
        }
    }

    /// There is nobody left to reload.
    pub(super) fn refuse_stopping(self) {
        self.answer(ReloadOutcome::not_reloaded(STOPPING));
    }
}

/// The end at which the admin socket asks.
#[derive(Clone)]
pub(super) struct ReloadDesk(mpsc::Sender<ReloadOrder>);

impl ReloadDesk {
    /// Both ends.
    pub(super) fn new() -> (Self, mpsc::Receiver<ReloadOrder>) {
        let (orders, given) = mpsc::channel(ORDERS_MAX);
        (Self(orders), given)
    }

    /// Have the configuration read again, behind what was asked before. Returns when it is in force, or is not taken.
    pub(super) async fn ask(&self, cut: bool) -> ReloadOutcome {
        let (answer, told) = oneshot::channel();
        let order = ReloadOrder { cut, answer: Some(answer) };
        // An order that nobody takes any more drops its sender, which is an answer, too.
        drop(self.0.send(order).await);
        told.await.unwrap_or_else(|_| ReloadOutcome::not_reloaded(STOPPING))
    }
}

/// A policy that the worker was asked to take.
pub(super) struct Offered {
    pub(super) policy: LoadedPolicy,
    pub(super) keys: Vec<KeyFacts>,
    /// Who wanted it; nobody where certificates or lists were renewed.
    pub(super) order: Option<ReloadOrder>,
    /// What is steered otherwise under it.
    pub(super) change: Option<SteeringChange>,
    /// It is the one in force, after another one that could not stay.
    pub(super) is_return: bool,
}

/// A reload whose policy is in force, until who asked is told.
pub(super) struct InForce {
    pub(super) order: ReloadOrder,
    pub(super) generation: u64,
}

impl InForce {
    /// Tell who asked; `cut` is how many sessions ended.
    pub(super) fn tell(self, cut: Option<u64>) {
        let Self { order, generation } = self;
        order.answer(ReloadOutcome::Reloaded { generation, cut });
    }
}
