use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::AlarmKind;

/// Alarms of a kind that may follow each other at once: an administrator sees a pattern, and no phone rings all night.
const BURST_MAX: u32 = 5;
const HOUR: Duration = Duration::from_secs(3600);

/// A bucket for each kind, so that whoever can cause alarms of one kind hides none of another.
#[derive(Debug, Default)]
pub(crate) struct AlarmLimits(BTreeMap<AlarmKind, Bucket>);

#[derive(Debug)]
struct Bucket {
    alarms: u32,
    filled: Instant,
    left_out: u64,
}

impl AlarmLimits {
    /// Whether an alarm of this kind may go out now, where `per_hour` of them may; returns how many were left out before it.
    pub(crate) fn admit(&mut self, kind: AlarmKind, per_hour: u32, now: Instant) -> Option<u64> {
        let burst = BURST_MAX.min(per_hour);
        let bucket = self.0.entry(kind).or_insert(Bucket { alarms: burst, filled: now, left_out: 0 });
        let one = HOUR.checked_div(per_hour).unwrap_or(HOUR);
        let since = now.saturating_duration_since(bucket.filled);
        let fresh = since.as_nanos().checked_div(one.as_nanos()).unwrap_or(0);
        let fresh = u32::try_from(fresh).unwrap_or(u32::MAX);
        bucket.filled = bucket.filled.checked_add(one.saturating_mul(fresh)).unwrap_or(now);
        bucket.alarms = bucket.alarms.saturating_add(fresh).min(burst);
        match bucket.alarms.checked_sub(1) {
            Some(left) => {
                bucket.alarms = left;
                Some(std::mem::take(&mut bucket.left_out))
            }
            None => {
                bucket.left_out = bucket.left_out.saturating_add(1);
                None
            }
        }
    }

    /// So many alarms of this kind went nowhere: the next one tells.
    pub(crate) fn leave_out(&mut self, kind: AlarmKind, more: u64) {
        if let Some(bucket) = self.0.get_mut(&kind) {
            bucket.left_out = bucket.left_out.saturating_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SessionAlarm;

    const CONTENT: AlarmKind = AlarmKind::Session(SessionAlarm::Content);

    #[test]
    fn a_flood_of_one_kind_is_cut_and_counted_and_takes_nothing_from_another() {
        let (mut limits, began) = (AlarmLimits::default(), Instant::now());
        let admitted: Vec<_> = (0..100).filter_map(|_| limits.admit(CONTENT, 60, began)).collect();
        assert_eq!(admitted, [0; 5], "five, and nothing was left out before them");
        assert_eq!(limits.admit(AlarmKind::Test, 60, began), Some(0));
        let minute = Duration::from_secs(60);
        assert_eq!(limits.admit(CONTENT, 60, began + minute - Duration::from_millis(1)), None);
        assert_eq!(limits.admit(CONTENT, 60, began + minute), Some(96));
        assert_eq!(limits.admit(CONTENT, 60, began + minute), None, "one more a minute, not five");
        limits.leave_out(CONTENT, 3);
        assert_eq!(limits.admit(CONTENT, 60, began + minute * 2), Some(4));
    }

    #[test]
    fn quiet_hours_save_up_a_burst_and_no_more_and_one_an_hour_is_one() {
        let (mut limits, began) = (AlarmLimits::default(), Instant::now());
        let admitted = |limits: &mut AlarmLimits, per_hour, now| {
            (0..50).filter_map(|_| limits.admit(CONTENT, per_hour, now)).count()
        };
        assert_eq!(admitted(&mut limits, 3600, began), 5);
        assert_eq!(admitted(&mut limits, 3600, began + HOUR * 1000), 5);
        let mut limits = AlarmLimits::default();
        assert_eq!([0, 1, 2].map(|hour| admitted(&mut limits, 1, began + HOUR * hour)), [1, 1, 1]);
        assert_eq!(admitted(&mut limits, 30, began + HOUR * 3), 5, "a reload changes the limit at once");
    }
}
