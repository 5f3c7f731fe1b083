use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Mark;
use crate::config::BODIES_PER_HOUR_MAX;

/// Locks, so that mail threads seldom wait for each other: one is taken for each message with content.
const SHARDS: usize = 16;
/// Messages that are remembered in all (some 60 MiB).
const MESSAGES_MAX: usize = 2 * 1024 * 1024;
/// Accounts that are remembered in all.
const ACCOUNTS_MAX: usize = 16_384;
/// Each shard has room for what the busiest account may fetch.
const SHARD_MESSAGES_MAX: usize = MESSAGES_MAX / SHARDS;
const _: () = assert!(BODIES_PER_HOUR_MAX as usize <= SHARD_MESSAGES_MAX, "one account fits");
/// Minutes that a message counts.
const HOUR_MINUTES: u32 = 60;

/// A message by the first octets of its mark.
type MessageMark = u64;

/// What becomes of a message's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draw {
    /// It goes to the client.
    Taken,
    /// The account has fetched too many others.
    Over,
}

/// What one account fetched.
#[derive(Debug, Default)]
struct Drawn {
    /// Messages, and the minute in which each was fetched last. Never more than the limit.
    messages: HashMap<MessageMark, u32>,
    /// The minute of the last message.
    last: u32,
    /// The minute in which old messages were looked for.
    pruned: Option<u32>,
    /// The minute in which it was told that the limit is reached.
    told: Option<u32>,
}

#[derive(Debug, Default)]
struct Shard {
    accounts: HashMap<Mark, Drawn>,
    messages: usize,
    /// The minute in which old accounts were looked for.
    swept: u32,
}

impl Shard {
    fn draw(&mut self, account: Mark, message: MessageMark, limit: usize, minute: u32) -> Draw {
        self.sweep(account, minute);
        let drawn = self.accounts.entry(account).or_default();
        drawn.last = minute;
        if let Some(at) = drawn.messages.get_mut(&message) {
            *at = minute;
            return Draw::Taken;
        }
        if drawn.messages.len() >= limit && drawn.pruned != Some(minute) {
            drawn.pruned = Some(minute);
            let before = drawn.messages.len();
            drawn.messages.retain(|_, at| is_within_hour(*at, minute));
            self.messages = self.messages.saturating_sub(before - drawn.messages.len());
        }
        if drawn.messages.len() >= limit {
            return Draw::Over;
        }
        drawn.messages.insert(message, minute);
        self.messages += 1;
        Draw::Taken
    }

    fn is_first_over(&mut self, account: Mark, minute: u32) -> bool {
        let drawn = self.accounts.entry(account).or_default();
        let is_first = !drawn.told.is_some_and(|told| is_within_hour(told, minute));
        if is_first {
            drawn.told = Some(minute);
        }
        is_first
    }

    /// Make room: accounts without a message within the hour are forgotten, and where that is not enough, the one whose last
    /// message is the oldest. A full table refuses nobody.
    fn sweep(&mut self, account: Mark, minute: u32) {
        if self.swept != minute {
            self.swept = minute;
            self.accounts.retain(|_, drawn| is_within_hour(drawn.last, minute));
            self.messages = self.accounts.values().map(|drawn| drawn.messages.len()).sum();
        }
        let is_full = |shard: &Self| {
            let is_new = !shard.accounts.contains_key(&account);
            shard.messages >= SHARD_MESSAGES_MAX || (is_new && shard.accounts.len() >= ACCOUNTS_MAX / SHARDS)
        };
        while is_full(self) {
            let others = self.accounts.iter().filter(|(mark, _)| **mark != account);
            let Some(oldest) = others.min_by_key(|(_, drawn)| drawn.last).map(|(mark, _)| *mark) else {
                return;
            };
            if let Some(drawn) = self.accounts.remove(&oldest) {
                self.messages = self.messages.saturating_sub(drawn.messages.len());
            }
        }
    }
}

const fn is_within_hour(at: u32, minute: u32) -> bool {
    minute.saturating_sub(at) < HOUR_MINUTES
}

/// What accounts fetched within the hour, exact but for the minute. An estimate in less room (HyperLogLog) cannot tell a message
/// that comes again from a new one, and the limit must not keep anybody from mail that is there already.
#[derive(Debug)]
pub(super) struct Bodies {
    shards: [Mutex<Shard>; SHARDS],
    began: Instant,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { shards: Default::default(), began: Instant::now() }
    }
}

impl Bodies {
    /// Content of this message is to go to the account, which may have so many within an hour.
    pub(super) fn draw(&self, account: Mark, message: Mark, limit: u32, now: Instant) -> Draw {
        let (message, _) = message.as_chunks::<8>();
        let message = message.first().map_or(0, |octets| u64::from_le_bytes(*octets));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.shard(account).draw(account, message, limit, self.minute(now))
    }

    /// A message was kept from the account. Whether it is the first within an hour, so that it is told once.
    pub(super) fn is_first_over(&self, account: Mark, now: Instant) -> bool {
        self.shard(account).is_first_over(account, self.minute(now))
    }

    fn shard(&self, account: Mark) -> MutexGuard<'_, Shard> {
        let [place, ..] = account;
        let [first, ..] = &self.shards;
        let shard = self.shards.get(usize::from(place) % SHARDS).unwrap_or(first);
        // A poisoned lock is taken: a panic elsewhere leaves a count that is wrong by one at most.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn minute(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.began).as_secs() / 60).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const JOE: Mark = [1; 16];
    const ANNA: Mark = [2; 16];

    fn message(number: u64) -> Mark {
        let mut mark = [0; 16];
        mark[..8].copy_from_slice(&number.to_le_bytes());
        mark
    }

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    #[test]
    fn an_account_gets_so_many_different_messages_within_an_hour_and_any_of_them_again() {
        let bodies = Bodies::default();
        let now = bodies.began;
        assert!((0..10).all(|number| bodies.draw(JOE, message(number), 10, now) == Draw::Taken));
        assert_eq!(bodies.draw(JOE, message(10), 10, now), Draw::Over);
        assert_eq!(bodies.draw(JOE, message(11), 10, now), Draw::Over);
        assert!((0..10).all(|number| bodies.draw(JOE, message(number), 10, now) == Draw::Taken));
        assert_eq!(bodies.draw(ANNA, message(10), 10, now), Draw::Taken, "another account");
        assert_eq!(bodies.draw(JOE, message(10), 11, now), Draw::Taken, "a reload may raise the limit");
        assert_eq!(bodies.draw(JOE, message(12), 5, now), Draw::Over, "or lower it");
    }

    #[test]
    fn the_hour_slides_and_counts_from_the_last_fetch_of_each() {
        let bodies = Bodies::default();
        let at = |minute| bodies.began + minutes(minute);
        for number in 0..10 {
            bodies.draw(JOE, message(number), 10, at(number));
        }
        assert_eq!(bodies.draw(JOE, message(20), 10, at(59)), Draw::Over);
        assert_eq!(bodies.draw(JOE, message(0), 10, at(59)), Draw::Taken);
        assert_eq!(bodies.draw(JOE, message(20), 10, at(60)), Draw::Over, "0 was fetched again");
        assert_eq!(bodies.draw(JOE, message(20), 10, at(61)), Draw::Taken, "1 is an hour old");
        assert_eq!(bodies.draw(JOE, message(21), 10, at(61)), Draw::Over);
        assert_eq!(bodies.draw(JOE, message(21), 10, at(200)), Draw::Taken);
    }

    #[test]
    fn it_is_told_once_within_an_hour() {
        let bodies = Bodies::default();
        let told: Vec<u64> =
            (0..200).filter(|minute| bodies.is_first_over(JOE, bodies.began + minutes(*minute))).collect();
        assert_eq!(told, [0, 60, 120, 180]);
        assert!(bodies.is_first_over(ANNA, bodies.began));
    }

    #[test]
    fn the_shards_room_is_bounded_and_who_fetches_now_is_not_forgotten() {
        let mut shard = Shard::default();
        let account = |number: u32| {
            let mut mark = [0; 16];
            mark[..4].copy_from_slice(&number.to_le_bytes());
            mark
        };
        for number in 0..5_000 {
            shard.draw(account(number), 1, 10, 1);
            assert!(shard.accounts.len() <= ACCOUNTS_MAX / SHARDS);
        }
        shard.draw(account(1), 1, 10, 2);
        for number in 0..200_000 {
            shard.draw(account(1), number, 50_000, 2);
        }
        assert_eq!(shard.accounts[&account(1)].messages.len(), 50_000);
        for owner in 0..3 {
            for number in 0..50_000 {
                shard.draw(account(owner), number, 50_000, 2 + owner);
                assert!(shard.messages <= SHARD_MESSAGES_MAX);
            }
        }
        let counted: usize = shard.accounts.values().map(|drawn| drawn.messages.len()).sum();
        assert_eq!(shard.messages, counted);
        assert!(shard.accounts.contains_key(&account(2)));
    }
}
