//! A change of steering while the daemon runs, beside the policy that it comes with.
//!
//! First comes what the worker needs under the new policy: listeners, and programs on the interfaces towards servers. Then
//! the worker takes the policy, and only then are new connections steered by it. What only sessions of an earlier era use
//! goes when the last of them has ended.

use std::cell::RefCell;
use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::keep;
use super::listeners::Listeners;
use super::policy::LoadedPolicy;
use crate::config::{Config, InterfaceName, SteeringConfig as Settings};
use crate::steering::ports::PortPlan;
use crate::steering::upkeep::{Repair, Steering};

/// Settings of steering with the plan that belongs to them.
#[derive(Clone)]
struct Terms {
    settings: Settings,
    plan: PortPlan,
}

impl Terms {
    fn of(steering: &Steering) -> Self {
        Self { settings: steering.settings().clone(), plan: steering.plan().clone() }
    }

    fn apply(&self, steering: &RefCell<Steering>) -> Result<Repair> {
        Ok(steering.borrow_mut().change(self.settings.clone(), self.plan.clone())?)
    }
}

/// A change that has begun: it is committed, or undone.
pub(super) struct SteeringChange {
    before: Terms,
    after: Terms,
    /// Ingresses that have listeners now and had none.
    opened: Vec<InterfaceName>,
}

impl SteeringChange {
    /// Prepare for a configuration: nothing that is steered changes yet. `None` where it asks for no change.
    ///
    /// # Errors
    /// The change needs a restart, or the kernel refuses it; all is as before then.
    pub(super) fn begin(
        running: &LoadedPolicy,
        next: &Config,
        steering: &RefCell<Steering>,
        listeners: &mut Listeners,
    ) -> Result<Option<Self>> {
        let before = Terms::of(&steering.borrow());
        let (was, will) = (&before.settings, &next.steering);
        let plan = PortPlan::of_policies(next).following(&before.plan, (was, will), running.era)?;
        if was == will && plan == before.plan {
            return Ok(None);
        }
        let add = |number, family, thread, socket: &_| {
            steering.borrow_mut().add_listener(number, family, thread, socket)
        };
        let opened = listeners.open_missing(&plan, add).context("listeners for the new [steering]")?;
        let ahead = Terms { settings: was.clone(), plan: before.plan.awaiting(was, will) };
        let after = Terms { settings: will.clone(), plan };
        let change = Self { before, after, opened };
        if let Err(error) = ahead.apply(steering).context("preparing for the new [steering]") {
            change.undo(steering, listeners);
            return Err(error);
        }
        Ok(Some(change))
    }

    /// Ingresses whose listeners the worker does not have.
    pub(super) fn opened(&self) -> &[InterfaceName] {
        &self.opened
    }

    /// Steer by the new settings from now on. The worker has the policy that they came with.
    ///
    /// # Errors
    /// The kernel's refusal; the change is to be undone then.
    pub(super) fn commit(&self, steering: &RefCell<Steering>) -> Result<()> {
        let (was, will) = (&self.before.settings, &self.after.settings);
        let repair = self.after.apply(steering).context("steering by the new [steering]")?;
        for (what, entries) in [
            ("steering: added", repair.put_back),
            ("steering: removed", repair.removed),
            ("steering: interfaces that patterns match and that are served now", repair.joined),
            ("steering: interfaces that no pattern matches any more", repair.left),
        ] {
            if !entries.is_empty() {
                tracing::info!("{what}: {}", entries.join("; "));
            }
        }
        let leaves_as_clients = was.source != will.source || was.egress != will.egress;
        if leaves_as_clients && let Err(error) = keep::look_at_masquerading(will) {
            tracing::warn!("whether egress masquerades was not looked at: {error}");
        }
        Ok(())
    }

    /// Put everything back. Returns the ingresses whose listeners the worker shall close.
    pub(super) fn undo(self, steering: &RefCell<Steering>, listeners: &mut Listeners) -> Vec<InterfaceName> {
        if let Err(error) = self.before.apply(steering) {
            tracing::error!(
                "steering is not whole as it was before, and is put back again and again: {error:#}"
            );
        }
        listeners.close(&self.opened);
        self.opened
    }
}

/// Eras of which the worker may have sessions.
pub(super) struct Eras {
    /// The last number that was given to one.
    given: u64,
    live: BTreeSet<u64>,
}

impl Eras {
    /// The first policy's alone.
    pub(super) fn of(policy: &LoadedPolicy) -> Self {
        Self { given: policy.era, live: BTreeSet::from([policy.era]) }
    }

    /// A number that no era had. The worker may have sessions of it as soon as it is told.
    pub(super) fn begin(&mut self) -> u64 {
        self.given += 1;
        self.live.insert(self.given);
        self.given
    }

    /// The worker has no session of this era, and no policy.
    pub(super) fn over(&mut self, era: u64) {
        self.live.remove(&era);
    }

    /// The worker is another one.
    pub(super) fn only(&mut self, era: u64) {
        self.live = BTreeSet::from([era]);
    }

    /// The oldest that may have sessions.
    pub(super) fn oldest(&self) -> u64 {
        self.live.first().copied().unwrap_or(self.given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_oldest_sessions_use_stays_until_they_are_over_or_their_worker_is() {
        let mut eras = Eras { given: 1, live: BTreeSet::from([1]) };
        assert_eq!((eras.begin(), eras.begin(), eras.oldest()), (2, 3, 1));
        eras.over(2);
        assert_eq!(eras.oldest(), 1);
        eras.over(1);
        assert_eq!(eras.oldest(), 3);
        assert_eq!(eras.begin(), 4, "no number is given twice");
        eras.only(4);
        assert_eq!(eras.oldest(), 4);
    }
}
