//! Reloads: offered to signer and worker one after the other, and told to who asked.

use std::cell::RefCell;
use std::path::Path;

use anyhow::anyhow;
use tokio::time::Instant;

use super::super::reload::ReloadOrder;
use super::{ANSWER_TIME_MAX, Children};
use crate::admin::ReloadOutcome;
use crate::config::DaemonAlarm;
use crate::steering::upkeep::Steering;
use crate::worker::protocol::ToWorker;

impl Children {
    /// The old configuration stays, loudly, and who asked is told.
    pub(super) fn refuse(&self, order: ReloadOrder, error: &anyhow::Error) {
        let message = format!("configuration NOT reloaded, the old one stays in force: {error:#}");
        tracing::error!("{message}");
        self.board.alarms().say(DaemonAlarm::NotReloaded, message);
        order.answer(ReloadOutcome::not_reloaded(&format!("{error:#}")));
    }

    /// Whether one reload is not over. The next one waits, so that each is told of its own file.
    pub(in crate::supervisor) const fn is_reloading(&self) -> bool {
        self.pending.is_some() || self.in_force.is_some() || self.cutting.is_some()
    }

    /// A new policy for connections from now on, and its rules for sessions that run, if signer and worker take it; the old one
    /// stays, loudly, if not.
    pub(in crate::supervisor) async fn reload(
        &mut self,
        path: &Path,
        order: ReloadOrder,
        steering: &RefCell<Steering>,
    ) {
        let offered = self.offer_file(path, steering).await;
        match (offered, &mut self.pending) {
            (Ok(()), Some(offered)) => offered.order = Some(order),
            (Err(error), _) => self.refuse(order, &error),
            (Ok(()), None) => {
                self.refuse(order, &anyhow!("nothing was offered to the worker; please report it"));
            }
        }
    }

    /// All that follows from a reload has happened: tell who asked, or first have sessions cut.
    pub(in crate::supervisor) async fn conclude_reload(&mut self) {
        let Some(in_force) = self.in_force.take() else { return };
        let Some(worker) = self.worker.process.as_ref().filter(|_| in_force.order.cut) else {
            return in_force.tell(None);
        };
        // One that is gone is heard of as such.
        drop(worker.control().send(&ToWorker::Cut, &[]).await);
        self.cutting = Some(in_force);
        self.answer_due = Instant::now() + ANSWER_TIME_MAX;
    }

    /// The worker has cut sessions. Their number is known where all threads have answered.
    pub(super) fn cut(&mut self, sessions: u64, silent_threads: u32) {
        if silent_threads == 0 {
            tracing::info!(sessions, "sessions were cut that the new policies refuse");
        } else {
            tracing::error!(
                sessions,
                silent_threads,
                "sessions were cut that the new policies refuse; mail threads that did not answer in time cut theirs when they go \
                 on: reload with --cut again to see how many are left"
            );
        }
        if let Some(in_force) = self.cutting.take() {
            in_force.tell((silent_threads == 0).then_some(sessions));
        }
    }

    /// The daemon stops: who waits for a reload is told so.
    pub(in crate::supervisor) fn end_reloads(&mut self) {
        if let Some(order) = self.pending.take().and_then(|offered| offered.order) {
            order.refuse_stopping();
        }
        for in_force in [self.in_force.take(), self.cutting.take()].into_iter().flatten() {
            in_force.tell(None);
        }
    }
}
