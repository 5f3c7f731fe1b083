use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// What stands in such a table.
pub(super) trait Fading {
    /// Whether nothing would be lost without it.
    fn is_over(&self, now: std::time::Instant) -> bool;

    /// Whether somebody needs it now: it is not forgotten, however full the table is.
    fn is_needed(&self) -> bool {
        false
    }
}

/// A table with room for so many entries. Over it the one that came first is forgotten, unless it was used since: then it is
/// as one that came now.
#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    entries: HashMap<K, (V, bool)>,
    /// Each key of `entries`, once.
    order: VecDeque<K>,
    max: usize,
}

impl<K: Copy + Eq + Hash, V: Fading> Remembered<K, V> {
    pub(super) fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), max }
    }

    /// What is known of it.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(value, is_used)| {
            *is_used = true;
            value
        })
    }

    /// The same, or a new entry.
    pub(super) fn entry(&mut self, key: K, now: std::time::Instant, new: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(&key) {
            self.make_room(now);
            self.order.push_back(key);
        }
        let (value, is_used) = self.entries.entry(key).or_insert_with(|| (new(), false));
        *is_used = true;
        value
    }

    /// Forget what is over, and one more where there is no room.
    fn make_room(&mut self, now: std::time::Instant) {
        // Each that was used since gets one more turn.
        let mut turns = self.order.len().saturating_mul(2);
        while let Some(first) = self.order.front().copied() {
            let is_full = self.order.len() >= self.max;
            let Some((value, is_used)) = self.entries.get_mut(&first) else {
                self.order.pop_front();
                continue;
            };
            let is_needed = value.is_needed();
            if !is_needed && (value.is_over(now) || (is_full && (!*is_used || turns == 0))) {
                self.entries.remove(&first);
                self.order.pop_front();
                continue;
            }
            if !is_full || turns == 0 {
                return;
            }
            *is_used = false;
            turns = turns.saturating_sub(1);
            self.order.rotate_left(1);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.order.len(), self.entries.len());
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    struct Until(Instant, bool);

    impl Fading for Until {
        fn is_over(&self, now: Instant) -> bool {
            self.0 <= now
        }

        fn is_needed(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn a_full_table_forgets_what_came_first_and_was_not_used_since() {
        let (now, mut table) = (Instant::now(), Remembered::new(3));
        let long = now + Duration::from_secs(100);
        for key in 0..3 {
            table.entry(key, now, || Until(long, false));
        }
        table.entry(3, now, || Until(long, false));
        assert_eq!((table.len(), table.get(&0).is_some()), (3, false), "all were used: the first goes");
        table.get_mut(&1);
        table.entry(4, now, || Until(long, false));
        assert_eq!((table.len(), table.get(&1).is_some(), table.get(&2).is_some()), (3, true, false));
    }

    #[test]
    fn what_is_over_makes_room_and_what_is_needed_stays() {
        let (now, mut table) = (Instant::now(), Remembered::new(2));
        let long = now + Duration::from_secs(100);
        table.entry(1, now, || Until(now, true));
        table.entry(2, now, || Until(long, true));
        table.entry(3, now + Duration::from_secs(1), || Until(long, false));
        assert_eq!(table.len(), 3, "nobody is forgotten who is needed");
        table.get_mut(&1).unwrap().1 = false;
        table.entry(4, now + Duration::from_secs(1), || Until(long, false));
        assert!(table.get(&1).is_none() && table.get(&2).is_some());
    }

    #[test]
    fn a_flood_takes_bounded_room() {
        let (now, mut table) = (Instant::now(), Remembered::new(100));
        for key in 0..10_000 {
            table.entry(key, now, || Until(now + Duration::from_secs(100), false));
            assert!(table.len() <= 100);
        }
    }
}
