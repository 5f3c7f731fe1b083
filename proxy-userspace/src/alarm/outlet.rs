use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Alarm, AlarmKind};
use crate::config::SessionAlarm;

/// Alarms of a kind that wait for the control task. It passes them on at once, and the supervisor's limit is lower.
const WAITING_MAX: u64 = 16;

/// The end of mail threads: nobody waits, and each kind has its own room. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AlarmOutlet {
    queue: UnboundedSender<Alarm>,
    counts: Arc<[KindCounts; SessionAlarm::ALL.len()]>,
}

/// The end of the control task.
pub(crate) struct AlarmInlet {
    queue: UnboundedReceiver<Alarm>,
    counts: Arc<[KindCounts; SessionAlarm::ALL.len()]>,
}

#[derive(Default)]
struct KindCounts {
    waiting: AtomicU64,
    left_out: AtomicU64,
}

impl AlarmOutlet {
    /// Both ends. The counts bound the queue.
    pub(crate) fn pair() -> (Self, AlarmInlet) {
        let (queue, queued) = unbounded_channel();
        let counts = Arc::<[KindCounts; SessionAlarm::ALL.len()]>::default();
        (Self { queue, counts: Arc::clone(&counts) }, AlarmInlet { queue: queued, counts })
    }

    /// Raise an alarm of this kind, if there is room; only then it is made.
    pub(crate) fn raise(&self, kind: SessionAlarm, make: impl FnOnce() -> Alarm) {
        let Some(counts) = self.counts.get(kind as usize) else { return };
        let has_room = counts.waiting.fetch_add(1, Ordering::Relaxed) < WAITING_MAX;
        if !has_room || self.queue.send(make()).is_err() {
            counts.waiting.fetch_sub(1, Ordering::Relaxed);
            counts.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl AlarmInlet {
    /// The next alarm, which says how many of its kind had no room. May be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Alarm {
        let Some(mut alarm) = self.queue.recv().await else { return std::future::pending().await };
        if let AlarmKind::Session(kind) = alarm.kind
            && let Some(counts) = self.counts.get(kind as usize)
        {
            counts.waiting.fetch_sub(1, Ordering::Relaxed);
            alarm.left_out = counts.left_out.swap(0, Ordering::Relaxed);
        }
        alarm
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    #[tokio::test]
    async fn a_flood_is_counted_waits_for_nobody_and_leaves_room_for_other_kinds() {
        let (outlet, mut inlet) = AlarmOutlet::pair();
        let raise = |kind| outlet.raise(kind, || Alarm::of_session(kind, &Map::new()));
        (0..1000).for_each(|_| raise(SessionAlarm::LoginRefused));
        raise(SessionAlarm::Content);
        let mut came = Vec::new();
        for _ in 0..=WAITING_MAX {
            let alarm = inlet.next().await;
            came.push((alarm.kind.as_str(), alarm.left_out));
        }
        let mut expected = vec![("login_refused", 0); 16];
        expected[0].1 = 1000 - 16;
        expected.push(("content", 0));
        assert_eq!(came, expected);
        raise(SessionAlarm::LoginRefused);
        assert_eq!(inlet.next().await.left_out, 0, "there is room again");
    }
}
