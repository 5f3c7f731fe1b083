//! The session's engine as both directions share it.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, ready};

use tokio::task::coop::poll_proceed;
use tokio::time::Instant;

use super::ends::SessionEvents;
use crate::inspect::{Engine, InspectRefusal, Next, Want};
use crate::layer::{Batch, StreamEnd};
use crate::words::Side;

/// The engine, and whether it changed since both directions were last asked. One task owns both directions: no borrow
/// lasts beyond one call.
pub(super) struct SharedEngine<'a> {
    engine: RefCell<&'a mut dyn Engine>,
    changed: Cell<bool>,
}

impl<'a> SharedEngine<'a> {
    pub(super) const fn new(engine: &'a mut dyn Engine) -> Self {
        Self { engine: RefCell::new(engine), changed: Cell::new(false) }
    }

    fn change(&self) -> std::cell::RefMut<'_, &'a mut dyn Engine> {
        self.changed.set(true);
        self.engine.borrow_mut()
    }

    pub(super) fn take(&self, from: Side, batch: &Batch) -> Result<(), InspectRefusal> {
        self.change().take(from, batch)
    }

    pub(super) fn next(&self, to: Side) -> Next {
        let next = self.engine.borrow_mut().next(to);
        if next != Next::Nothing {
            self.changed.set(true);
        }
        next
    }

    pub(super) fn fill(&self, to: Side, room: &mut [u8]) -> usize {
        self.change().fill(to, room)
    }

    pub(super) fn moved(&self, from: Side, octets: u64) {
        self.change().moved(from, octets);
    }

    pub(super) fn ended(&self, from: Side, end: StreamEnd) -> Result<(), InspectRefusal> {
        self.change().ended(from, end)
    }

    pub(super) fn wants(&self, from: Side) -> Want {
        self.engine.borrow().wants(from)
    }

    pub(super) fn is_drained(&self, to: Side) -> bool {
        self.engine.borrow().is_drained(to)
    }

    pub(super) fn is_announced(&self, from: Side) -> bool {
        self.engine.borrow().is_announced(from)
    }

    pub(super) fn is_over(&self) -> bool {
        self.engine.borrow().is_over()
    }

    pub(super) fn is_at_boundary(&self, to: Side) -> bool {
        self.engine.borrow().is_at_boundary(to)
    }
}

impl SessionEvents for SharedEngine<'_> {
    fn poll_refusal(&self, cx: &mut Context<'_>) -> Poll<InspectRefusal> {
        let mut engine = self.engine.borrow_mut();
        loop {
            let turn = ready!(poll_proceed(cx));
            let event = match engine.poll_event(cx) {
                Poll::Ready(event) => event,
                Poll::Pending => {
                    let Some(at) = engine.wake_at() else { return Poll::Pending };
                    let now = Instant::now().into_std();
                    if at > now {
                        return Poll::Pending;
                    }
                    engine.tick(now)
                }
            };
            turn.made_progress();
            self.changed.set(true);
            if let Err(refusal) = event {
                return Poll::Ready(refusal);
            }
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        self.engine.borrow().wake_at().map(Instant::from_std)
    }

    fn has_changed(&self) -> bool {
        self.changed.take()
    }
}
