//! The time between two changes of steering. Sessions hold the era in which they were accepted, and the last of them
//! tells the supervisor that it is over: what was steered for them alone can go then.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// One of them. Dropping it says that it is over.
#[derive(Debug)]
pub(super) struct Era {
    number: u64,
    /// There is one message for each era, so that there are no more of them than reloads of steering.
    over: UnboundedSender<u64>,
}

impl Era {
    /// The first that this worker has, and what says which are over.
    pub(super) fn first(number: u64) -> (Arc<Self>, UnboundedReceiver<u64>) {
        let (over, eras_over) = unbounded_channel();
        (Arc::new(Self { number, over }), eras_over)
    }

    /// The era of the next policy: another one where steering changes.
    pub(super) fn next(self: &Arc<Self>, number: u64) -> Arc<Self> {
        if number == self.number {
            return Arc::clone(self);
        }
        Arc::new(Self { number, over: self.over.clone() })
    }
}

impl Drop for Era {
    fn drop(&mut self) {
        // The control task is gone only where the worker ends.
        let _ = self.over.send(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_era_is_over_when_neither_the_policy_nor_a_session_has_it() {
        let (first, mut over) = Era::first(1);
        let session = Arc::clone(&first);
        let same = first.next(1);
        drop(first);
        let second = same.next(2);
        drop(same);
        assert!(over.try_recv().is_err(), "a session has it");
        drop(session);
        assert_eq!(over.try_recv(), Ok(1));
        assert!(over.try_recv().is_err());
        drop(second);
        assert_eq!(over.try_recv(), Ok(2));
    }
}
