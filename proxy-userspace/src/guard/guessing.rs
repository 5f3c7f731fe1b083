use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::remembered::{Fading, Remembered};
use super::{Guard, Mark};
use crate::config::GuardSettings;

/// Pairs, clients and accounts with failed logins, each in a table of so many (some 4 MiB in all).
const REMEMBERED_MAX: usize = 16_384;
/// Pairs of a client and an account at which it logged in (some 5 MiB). A session makes one at most, since it logs in once. Who
/// has a server that says OK to any password fills the table with as many sessions: `limits` bound those.
const KNOWN_MAX: usize = 65_536;
/// So long a client that logged in to an account is one of its own. Telephones and laptops log in every day.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 86_400);
/// Failures of one client at all accounts of a server, in those of one pair: behind one address are several users, of whom some have a
/// device with an old password.
const CLIENT_FACTOR: u32 = 5;
/// Failures of all clients at one account, in those of one pair. More than one, so that a single client never makes an account
/// wait for others.
const ACCOUNT_FACTOR: u32 = 3;
/// A refused attempt is answered after this, the next ones after twice the time each.
pub(super) const DELAY_FIRST: Duration = Duration::from_secs(1);
/// The longest delay. mbsync ends a session after 20 s of silence.
const DELAY_MAX: Duration = Duration::from_secs(15);
/// Where only attempts that are not answered yet reach a limit, it is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// `guard.failed_logins` and `guard.window_seconds`.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuessLimits {
    failures: u32,
    window: Duration,
}

impl GuessLimits {
    /// `None` where guessing is not limited.
    pub(super) fn of(settings: &GuardSettings) -> Option<Self> {
        settings.failed_logins.map(|failures| Self { failures, window: settings.window })
    }

    fn bucket(self, factor: u32) -> Bucket {
        let failures = self.failures.saturating_mul(factor).max(1);
        Bucket { failures, share: (self.window / failures).max(Duration::from_millis(1)) }
    }
}

/// A limit on failures. It is a bucket that loses one failure in each share of the window.
#[derive(Clone, Copy)]
struct Bucket {
    failures: u32,
    share: Duration,
}

impl Bucket {
    fn depth(self) -> Duration {
        self.share * self.failures
    }
}

/// Who logs in where.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoginParties {
    /// The client at this server.
    pub(super) client: Mark,
    /// The account at its server, and it together with the client. `None` where the account cannot be read.
    pub(super) account: Option<(Mark, Mark)>,
}

/// Failed logins of a pair, a client or an account.
#[derive(Debug)]
struct Tally {
    /// When the bucket is empty if nothing more fails. This moment is the bucket's whole state, as in ITU-T I.371.
    empty_at: Instant,
    /// Attempts that the server has not answered.
    pending: u32,
    /// Attempts that were refused since the bucket was empty.
    refusals: u32,
}

impl Tally {
    const fn new(now: Instant) -> Self {
        Self { empty_at: now, pending: 0, refusals: 0 }
    }

    /// Whether the bucket has room for so many more failures.
    fn has_room(&self, bucket: Bucket, more: u32, now: Instant) -> bool {
        let filled = self.empty_at.saturating_duration_since(now);
        filled.saturating_add(bucket.share.saturating_mul(more)) <= bucket.depth()
    }

    fn fail(&mut self, bucket: Bucket, now: Instant) {
        if self.empty_at <= now {
            self.refusals = 0;
        }
        self.empty_at = (self.empty_at.max(now) + bucket.share).min(now + bucket.depth());
    }
}

impl Fading for Tally {
    fn is_over(&self, now: Instant) -> bool {
        self.empty_at <= now
    }

    fn is_needed(&self) -> bool {
        self.pending > 0
    }
}

/// When the client logged in to the account last.
#[derive(Debug)]
struct LastLogin(Instant);

impl Fading for LastLogin {
    fn is_over(&self, now: Instant) -> bool {
        self.0 + KNOWN_FOR <= now
    }
}

/// How an attempt may go on.
#[derive(Debug)]
pub(super) enum GuessDecision<T> {
    /// To the server.
    Go(T),
    /// It is asked again at this time.
    Wait(Instant),
    /// It is answered NO after the delay, the so many-th since the limit was reached.
    Refuse(Duration, u32),
}

/// What the server says to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginOutcome {
    /// OK.
    Accepted,
    /// NO or BAD.
    Rejected,
    /// NO, and the code says that the server did not look at the password.
    Undecided,
}

/// An attempt that the server has.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    limits: GuessLimits,
    parties: LoginParties,
    /// The client is one of the account's own.
    is_known: bool,
}

#[derive(Debug)]
struct GuessState {
    pairs: Remembered<Mark, Tally>,
    clients: Remembered<Mark, Tally>,
    accounts: Remembered<Mark, Tally>,
    known: Remembered<Mark, LastLogin>,
}

impl GuessState {
    fn new() -> Self {
        let tallies = || Remembered::new(REMEMBERED_MAX);
        Self { pairs: tallies(), clients: tallies(), accounts: tallies(), known: Remembered::new(KNOWN_MAX) }
    }

    /// The tallies that count for an attempt, with their buckets.
    fn each(&mut self, ticket: Ticket, now: Instant, mut act: impl FnMut(&mut Tally, Bucket)) {
        let Ticket { limits, parties, is_known } = ticket;
        let new = || Tally::new(now);
        if !is_known {
            act(self.clients.entry(parties.client, now, new), limits.bucket(CLIENT_FACTOR));
        }
        let Some((account, pair)) = parties.account else { return };
        act(self.pairs.entry(pair, now, new), limits.bucket(1));
        if !is_known {
            act(self.accounts.entry(account, now, new), limits.bucket(ACCOUNT_FACTOR));
        }
    }

    fn begin(&mut self, limits: GuessLimits, parties: LoginParties, now: Instant) -> GuessDecision<Ticket> {
        let known = parties.account.and_then(|(_, pair)| self.known.get(&pair));
        let is_known = known.is_some_and(|last| !last.is_over(now));
        let ticket = Ticket { limits, parties, is_known };
        let (mut refusals, mut waits) = (0, false);
        self.each(ticket, now, |tally, bucket| {
            if !tally.has_room(bucket, 1, now) {
                tally.refusals = tally.refusals.saturating_add(1);
                refusals = refusals.max(tally.refusals);
            } else if !tally.has_room(bucket, tally.pending.saturating_add(1), now) {
                waits = true;
            }
        });
        if refusals > 0 {
            let delay = DELAY_FIRST.saturating_mul(1 << (refusals - 1).min(8));
            return GuessDecision::Refuse(delay.min(DELAY_MAX), refusals);
        }
        if waits {
            return GuessDecision::Wait(now + ASK_AGAIN);
        }
        self.each(ticket, now, |tally, _| tally.pending = tally.pending.saturating_add(1));
        GuessDecision::Go(ticket)
    }

    fn end(&mut self, ticket: Ticket, outcome: LoginOutcome, now: Instant) {
        self.each(ticket, now, |tally, bucket| {
            tally.pending = tally.pending.saturating_sub(1);
            if outcome == LoginOutcome::Rejected {
                tally.fail(bucket, now);
            }
        });
        let Some((_, pair)) = ticket.parties.account else { return };
        if outcome == LoginOutcome::Accepted {
            // The client's own count and the account's stay: who has one good account must not be able to clear them.
            if let Some(tally) = self.pairs.get_mut(&pair) {
                (tally.empty_at, tally.refusals) = (now, 0);
            }
            self.known.entry(pair, now, || LastLogin(now)).0 = now;
        }
    }
}

/// Failed logins of all clients at all accounts.
#[derive(Debug)]
pub(super) struct Guessing(Mutex<GuessState>);

impl Default for Guessing {
    fn default() -> Self {
        Self(Mutex::new(GuessState::new()))
    }
}

impl Guessing {
    /// A poisoned lock is taken: a panic elsewhere leaves counts that are wrong by one at most.
    fn state(&self) -> MutexGuard<'_, GuessState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt that the server has. Where it is dropped before [`Self::end`], it failed: who leaves before the answer may have
/// learnt it otherwise. Where the server left, nothing is known.
pub(crate) struct LoginAttempt {
    guard: Arc<Guard>,
    has_server_left: bool,
    ticket: Option<Ticket>,
}

impl LoginAttempt {
    /// Whether these may try now.
    pub(super) fn begin(
        guard: &Arc<Guard>,
        limits: GuessLimits,
        parties: LoginParties,
        now: Instant,
    ) -> GuessDecision<Self> {
        match guard.guessing.state().begin(limits, parties, now) {
            GuessDecision::Go(ticket) => GuessDecision::Go(Self {
                guard: Arc::clone(guard),
                has_server_left: false,
                ticket: Some(ticket),
            }),
            GuessDecision::Wait(until) => GuessDecision::Wait(until),
            GuessDecision::Refuse(delay, count) => GuessDecision::Refuse(delay, count),
        }
    }

    /// The server leaves without an answer.
    pub(crate) const fn excuse(&mut self) {
        self.has_server_left = true;
    }

    /// The server has answered.
    pub(crate) fn end(mut self, outcome: LoginOutcome) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: LoginOutcome) {
        if let Some(ticket) = self.ticket.take() {
            self.guard.guessing.state().end(ticket, outcome, Instant::now());
        }
    }
}

impl Drop for LoginAttempt {
    fn drop(&mut self) {
        self.settle(match self.has_server_left {
            true => LoginOutcome::Undecided,
            false => LoginOutcome::Rejected,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::LoginOutcome::{Accepted, Rejected, Undecided};
    use super::*;

    const FAILURES: u32 = 4;
    const SHARE: Duration = Duration::from_secs(100);
    const LIMITS: GuessLimits = GuessLimits { failures: FAILURES, window: Duration::from_secs(400) };

    struct Clock(GuessState, Instant);

    fn mark(number: u32) -> Mark {
        let mut mark = [0; 16];
        mark[..4].copy_from_slice(&number.to_le_bytes());
        mark
    }

    fn parties(client: u32, account: u32) -> LoginParties {
        LoginParties { client: mark(client), account: Some((mark(account), mark(client << 16 | account))) }
    }

    impl Clock {
        fn new() -> Self {
            Self(GuessState::new(), Instant::now())
        }

        fn begin(&mut self, client: u32, account: u32) -> GuessDecision<Ticket> {
            self.0.begin(LIMITS, parties(client, account), self.1)
        }

        /// Whether the server was asked.
        fn tries(&mut self, client: u32, account: u32, outcome: LoginOutcome) -> bool {
            match self.begin(client, account) {
                GuessDecision::Go(ticket) => {
                    self.0.end(ticket, outcome, self.1);
                    true
                }
                GuessDecision::Wait(_) => panic!("nothing is in progress"),
                GuessDecision::Refuse(..) => false,
            }
        }

        fn passes(&mut self, time: Duration) {
            self.1 += time;
        }
    }

    #[test]
    fn after_so_many_failures_one_attempt_more_passes_in_each_share_of_the_window() {
        let mut clock = Clock::new();
        assert!((0..FAILURES).all(|_| clock.tries(1, 1, Rejected)));
        assert!(!clock.tries(1, 1, Rejected));
        clock.passes(SHARE - Duration::from_millis(1));
        assert!(!clock.tries(1, 1, Rejected));
        clock.passes(Duration::from_millis(1));
        assert!(clock.tries(1, 1, Rejected));
        assert!(!clock.tries(1, 1, Rejected));
        // What is refused here does not prolong it, and after the window all is as at first.
        clock.passes(SHARE * FAILURES);
        assert!((0..FAILURES).all(|_| clock.tries(1, 1, Rejected)));
        assert!(!clock.tries(1, 1, Rejected));
    }

    #[test]
    fn the_delay_doubles_up_to_a_bound_and_begins_anew_after_quiet_times() {
        let mut clock = Clock::new();
        let fill = |clock: &mut Clock| assert!((0..FAILURES).all(|_| clock.tries(1, 1, Rejected)));
        let delay = |clock: &mut Clock| match clock.begin(1, 1) {
            GuessDecision::Refuse(delay, count) => (delay.as_secs(), count),
            other => panic!("{other:?}"),
        };
        fill(&mut clock);
        for expected in [(1, 1), (2, 2), (4, 3), (8, 4), (15, 5), (15, 6)] {
            assert_eq!(delay(&mut clock), expected);
        }
        assert!((0..100).all(|_| delay(&mut clock).0 == 15));
        clock.passes(SHARE * FAILURES);
        fill(&mut clock);
        assert_eq!(delay(&mut clock), (1, 1));
    }

    #[test]
    fn one_client_at_one_account_makes_nobody_else_wait() {
        let mut clock = Clock::new();
        for _ in 0..100 {
            clock.tries(1, 1, Rejected);
        }
        assert!(clock.tries(2, 1, Accepted), "another client at the account");
        assert!(clock.tries(1, 2, Accepted), "the same client at another account");
    }

    #[test]
    fn a_client_that_tries_many_accounts_waits_and_one_good_account_clears_only_itself() {
        let mut clock = Clock::new();
        let tried = (1..=100)
            .filter(|account| {
                let tried = clock.tries(1, *account, Rejected);
                // The attacker's own account, in between.
                clock.tries(1, 999, Accepted);
                tried
            })
            .count();
        assert_eq!(tried, (FAILURES * CLIENT_FACTOR) as usize);
        assert!(!clock.tries(1, 998, Accepted), "accounts that the client has not logged in to wait");
        assert!(clock.tries(1, 999, Accepted), "its own does not");
        assert!(clock.tries(2, 50, Rejected));
    }

    /// Behind one address are people whose devices have an old password.
    #[test]
    fn mistakes_of_a_client_at_its_own_accounts_do_not_make_others_behind_its_address_wait() {
        let mut clock = Clock::new();
        for account in 1..=50 {
            assert!(clock.tries(1, account, Accepted));
        }
        for account in 1..=50 {
            assert!(clock.tries(1, account, Rejected));
        }
        assert!(clock.tries(1, 99, Rejected));
    }

    #[test]
    fn an_account_that_many_clients_guess_at_waits_but_not_for_its_own_clients() {
        let mut clock = Clock::new();
        assert!(clock.tries(500, 1, Accepted));
        let tried = (1..=100).filter(|client| clock.tries(*client, 1, Rejected)).count();
        assert_eq!(tried, (FAILURES * ACCOUNT_FACTOR) as usize);
        assert!(!clock.tries(600, 1, Accepted), "a new client waits, too");
        assert!(clock.tries(500, 1, Accepted), "the client that the account knows does not");
        // Nor do its mistakes count for others, and it has the bound of any pair.
        let mistakes = (0..100).filter(|_| clock.tries(500, 1, Rejected)).count();
        assert_eq!(mistakes, FAILURES as usize);
        // For a new client, a place is free after each share of the window.
        clock.passes(SHARE);
        assert!(clock.tries(600, 1, Accepted));
        clock.passes(KNOWN_FOR);
        assert!((1..=100).any(|client| !clock.tries(client, 1, Rejected)));
        assert!(!clock.tries(500, 1, Accepted), "after so long it is as any other");
    }

    #[test]
    fn a_success_clears_what_the_client_failed_at_this_account() {
        let mut clock = Clock::new();
        for _ in 0..3 {
            assert!((1..FAILURES).all(|_| clock.tries(1, 1, Rejected)));
            assert!(clock.tries(1, 1, Accepted));
        }
        assert!((0..FAILURES).all(|_| clock.tries(1, 1, Rejected)));
        assert!(!clock.tries(1, 1, Accepted));
    }

    /// Otherwise a hundred sessions would try a hundred passwords before the first is answered.
    #[test]
    fn attempts_at_once_wait_for_each_other_and_do_not_exceed_the_bound() {
        let mut clock = Clock::new();
        let mut tickets = Vec::new();
        for _ in 0..FAILURES {
            let GuessDecision::Go(ticket) = clock.begin(1, 1) else { panic!("it has room") };
            tickets.push(ticket);
        }
        assert!(matches!(clock.begin(1, 1), GuessDecision::Wait(until) if until == clock.1 + ASK_AGAIN));
        let (first, now) = (tickets.pop().unwrap(), clock.1);
        clock.0.end(first, Accepted, now);
        assert!(clock.tries(1, 1, Accepted), "one was good, and has made room");
        for ticket in tickets {
            clock.0.end(ticket, Rejected, now);
        }
        assert!(clock.tries(1, 1, Rejected));
        assert!(!clock.tries(1, 1, Rejected));
    }

    #[test]
    fn a_server_that_did_not_look_at_the_password_counts_for_nothing() {
        let mut clock = Clock::new();
        assert!((0..100).all(|_| clock.tries(1, 1, Undecided)));
        assert!(clock.0.known.get(&mark(1 << 16 | 1)).is_none());
    }

    #[test]
    fn accounts_that_cannot_be_read_count_for_their_client() {
        let mut clock = Clock::new();
        let nobody = LoginParties { client: mark(1), account: None };
        let mut tried = 0;
        while let GuessDecision::Go(ticket) = clock.0.begin(LIMITS, nobody, clock.1) {
            clock.0.end(ticket, Rejected, clock.1);
            tried += 1;
        }
        assert_eq!(tried, FAILURES * CLIENT_FACTOR);
        assert!(!clock.tries(1, 1, Accepted));
    }

    #[test]
    fn a_flood_of_clients_and_accounts_takes_bounded_room() {
        let mut clock = Clock::new();
        for number in 0..40_000 {
            clock.tries(number, number, Rejected);
        }
        let GuessState { pairs, clients, accounts, known } = &clock.0;
        assert!([pairs.len(), clients.len(), accounts.len()].iter().all(|len| *len <= REMEMBERED_MAX));
        assert_eq!(known.len(), 0);
        let pair = |number: u32| mark(number << 16 | number);
        assert!(
            pairs.get(&pair(39_999)).is_some() && pairs.get(&pair(0)).is_none(),
            "the first are forgotten"
        );
    }

    #[test]
    fn an_attempt_whose_client_leaves_before_the_answer_has_failed() {
        let guard = Arc::new(Guard::new().unwrap());
        let begin = || LoginAttempt::begin(&guard, LIMITS, parties(1, 1), Instant::now());
        for _ in 0..FAILURES {
            assert!(matches!(begin(), GuessDecision::Go(_)));
        }
        assert!(matches!(begin(), GuessDecision::Refuse(DELAY_FIRST, 1)));
    }

    #[test]
    fn an_attempt_whose_server_leaves_before_the_answer_counts_for_nothing() {
        let guard = Arc::new(Guard::new().unwrap());
        for _ in 0..=FAILURES {
            let GuessDecision::Go(mut attempt) =
                LoginAttempt::begin(&guard, LIMITS, parties(1, 1), Instant::now())
            else {
                panic!("nothing has failed")
            };
            attempt.excuse();
        }
    }
}
