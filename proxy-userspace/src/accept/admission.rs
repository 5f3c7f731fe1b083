//! Who may have a session, and how many handshakes may be in progress.
//!
//! A client over a limit is told so after its connection was accepted. When nobody can be served any more, the control
//! task learns it and lets the kernel decide by `on_exit`, so that clients are not drawn into a queue. The limits on
//! handshakes refuse only: they are never fullness, because strangers reach them at will, and under
//! `on_exit = "open"` fullness lets mail pass uninspected.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// After the limit was reached there is room again when one in this many sessions has ended (one at least): intake is
/// not switched on and off by every goodbye.
const ROOM_SHARE: u64 = 32;
/// Clients without a session that are remembered until their bucket is full again (some 2 MiB). Beyond that the one
/// that left first is forgotten and has its whole burst again: nobody is refused because others fill this table.
const REMEMBERED_MAX: usize = 16_384;

/// What is admitted. A client is an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Sessions at once.
    pub sessions: u64,
    /// Sessions at once of one client.
    pub sessions_per_client: u64,
    /// Connections at once between accept and relay.
    pub handshakes: u64,
    /// Connections at once of one client between accept and relay.
    pub handshakes_per_client: u64,
    /// Connections a second of one client, in the long run. At least one.
    pub handshakes_per_second_per_client: u32,
    /// Connections of one client that may come at the same moment after a pause. At least one.
    pub handshake_burst_per_client: u32,
}

/// The limit that a connection was refused by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitReached {
    /// `limits.sessions`.
    Sessions,
    /// `limits.sessions_per_client`.
    ClientSessions,
    /// `limits.handshakes`.
    Handshakes,
    /// `limits.handshakes_per_client`.
    ClientHandshakes,
    /// `limits.handshakes_per_second_per_client`, and the burst is used up.
    ClientRate,
}

impl LimitReached {
    /// What a client on port 143 is told.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Sessions | Self::ClientSessions => "Too many sessions; try again later.",
            Self::Handshakes | Self::ClientHandshakes => "Too many logins in progress; try again later.",
            Self::ClientRate => "Too many connections a second; try again later.",
        }
    }
}

/// Shared by all workers; asked once per connection.
pub struct Admission {
    /// Also what orders changes of `crowded`.
    state: Mutex<AdmissionState>,
    /// The limit was reached, and too few sessions have ended since.
    crowded: AtomicBool,
    /// Workers that cannot accept for want of descriptors or memory.
    short: AtomicU64,
    /// What [`Self::fullness`] said last.
    told: AtomicBool,
    changed: Notify,
}

struct AdmissionState {
    bounds: Bounds,
    /// Bounded by the sessions and by [`REMEMBERED_MAX`]: an entry goes with its last session, or with `left`.
    clients: HashMap<IpAddr, Client>,
    /// Clients without a session, by the time when they left, and when their bucket is full again.
    left: VecDeque<(IpAddr, Instant)>,
    numbers: Admitted,
}

#[derive(Clone, Copy)]
struct Client {
    sessions: u64,
    handshakes: u64,
    /// When the bucket is full again, if the client takes nothing more: a bucket as one moment (the "theoretical
    /// arrival time" of ITU-T I.371's generic cell rate algorithm).
    full_at: Instant,
}

/// Numbers for `postern status`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Admitted {
    /// Sessions now.
    pub active: u64,
    /// Most at once.
    pub limit: u64,
    /// Most at once of one client.
    pub limit_client: u64,
    /// Connections between accept and relay now.
    pub handshakes: u64,
    /// Most of them at once.
    pub handshakes_limit: u64,
    /// Accepted since the start.
    pub accepted: u64,
    /// Refused by the limit on all sessions.
    pub refused_total: u64,
    /// Refused by a client's own limit.
    pub refused_client: u64,
    /// Refused by the limit on all handshakes.
    pub refused_handshakes: u64,
    /// Refused by a client's own limit on handshakes at once.
    pub refused_client_handshakes: u64,
    /// Refused by a client's own limit on handshakes a second.
    pub refused_client_rate: u64,
}

/// One admitted session; dropping it makes room.
pub struct Permit {
    admission: Arc<Admission>,
    client: IpAddr,
}

/// One connection between accept and relay; dropping it makes room for another handshake.
pub struct Handshaking {
    admission: Arc<Admission>,
    client: IpAddr,
}

/// A worker cannot accept; dropping it says that it can again.
pub struct Shortage(Arc<Admission>);

impl Admission {
    /// With these limits.
    #[must_use]
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(AdmissionState {
                bounds,
                clients: HashMap::new(),
                left: VecDeque::new(),
                numbers: Admitted::default(),
            }),
            crowded: AtomicBool::new(false),
            short: AtomicU64::new(0),
            told: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// New limits, for connections from now on.
    pub fn set(&self, bounds: Bounds) {
        let mut state = self.state();
        state.bounds = bounds;
        self.judge_room(&state);
    }

    /// Room for one more session of this client and for its handshake. An IPv6 client is its /64: it may use any
    /// address in it.
    ///
    /// # Errors
    /// The limit that is reached; it was counted.
    pub fn admit(self: &Arc<Self>, client: IpAddr) -> Result<(Permit, Handshaking), LimitReached> {
        self.admit_at(client, Instant::now())
    }

    fn admit_at(
        self: &Arc<Self>,
        client: IpAddr,
        now: Instant,
    ) -> Result<(Permit, Handshaking), LimitReached> {
        let client = match client {
            IpAddr::V4(_) => client,
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        };
        let mut state = self.state();
        state.admit(client, now)?;
        self.judge_room(&state);
        drop(state);
        let admission = Arc::clone(self);
        Ok((Permit { admission: Arc::clone(self), client }, Handshaking { admission, client }))
    }

    /// A worker cannot accept for want of descriptors or memory, until the value is dropped.
    #[must_use]
    pub fn short(self: &Arc<Self>) -> Shortage {
        self.short.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
        Shortage(Arc::clone(self))
    }

    /// Whether nobody can be served: the limit on all sessions was reached, or a worker is short.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.crowded.load(Ordering::Relaxed) || self.short.load(Ordering::Relaxed) > 0
    }

    /// Waits until that is other than what was returned last (at first: room), and returns it. For one task; may be
    /// dropped while it waits.
    pub async fn fullness(&self) -> bool {
        loop {
            let full = self.is_full();
            if self.told.swap(full, Ordering::Relaxed) != full {
                return full;
            }
            self.changed.notified().await;
        }
    }

    /// For `postern status`.
    #[must_use]
    pub fn numbers(&self) -> Admitted {
        let state = self.state();
        let Bounds { sessions, sessions_per_client, handshakes, .. } = state.bounds;
        Admitted {
            limit: sessions,
            limit_client: sessions_per_client,
            handshakes_limit: handshakes,
            ..state.numbers
        }
    }

    /// A panic elsewhere leaves counts that are right: each change is one step.
    fn state(&self) -> MutexGuard<'_, AdmissionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the lock held, so that of two changes the later one is what stays.
    fn judge_room(&self, state: &AdmissionState) {
        let (active, limit) = (state.numbers.active, state.bounds.sessions);
        let room = (limit / ROOM_SHARE).max(1);
        let crowded = match self.crowded.load(Ordering::Relaxed) {
            true => active.saturating_add(room) > limit,
            false => active >= limit,
        };
        if self.crowded.swap(crowded, Ordering::Relaxed) != crowded {
            self.changed.notify_one();
        }
    }
}

impl AdmissionState {
    /// Count one more, or the refusal.
    fn admit(&mut self, address: IpAddr, now: Instant) -> Result<(), LimitReached> {
        self.forget(now);
        let unknown = Client { sessions: 0, handshakes: 0, full_at: now };
        let mut client = self.clients.get(&address).copied().unwrap_or(unknown);
        let pause = Duration::from_secs(1) / self.bounds.handshakes_per_second_per_client.max(1);
        let burst = pause * self.bounds.handshake_burst_per_client.max(1);
        let full_at = client.full_at.max(now) + pause;
        let (numbers, bounds) = (&mut self.numbers, self.bounds);
        let (reached, count) = if numbers.active >= bounds.sessions {
            (LimitReached::Sessions, &mut numbers.refused_total)
        } else if client.sessions >= bounds.sessions_per_client {
            (LimitReached::ClientSessions, &mut numbers.refused_client)
        } else if numbers.handshakes >= bounds.handshakes {
            (LimitReached::Handshakes, &mut numbers.refused_handshakes)
        } else if client.handshakes >= bounds.handshakes_per_client {
            (LimitReached::ClientHandshakes, &mut numbers.refused_client_handshakes)
        } else if full_at > now + burst {
            (LimitReached::ClientRate, &mut numbers.refused_client_rate)
        } else {
            numbers.active += 1;
            numbers.handshakes += 1;
            numbers.accepted += 1;
            client = Client { sessions: client.sessions + 1, handshakes: client.handshakes + 1, full_at };
            self.clients.insert(address, client);
            return Ok(());
        };
        *count += 1;
        Err(reached)
    }

    /// Count one session or one handshake less of a client.
    fn leave(&mut self, address: IpAddr, now: Instant, count: impl FnOnce(&mut Client)) {
        let Some(client) = self.clients.get_mut(&address) else { return };
        count(client);
        if client.sessions > 0 || client.handshakes > 0 {
            return;
        }
        if client.full_at <= now {
            self.clients.remove(&address);
            return;
        }
        self.left.push_back((address, client.full_at));
        if self.left.len() > REMEMBERED_MAX
            && let Some((first, _)) = self.left.pop_front()
        {
            self.forget_client(first, None);
        }
    }

    /// Forget clients without a session whose bucket is full again.
    fn forget(&mut self, now: Instant) {
        while let Some((address, _)) = self.left.pop_front_if(|(_, full_at)| *full_at <= now) {
            self.forget_client(address, Some(now));
        }
    }

    /// Forget a client if it has no session, and if its bucket is full by the time that is given. It may have come and
    /// left again since it was put in line; then it stands there a second time.
    fn forget_client(&mut self, address: IpAddr, full_by: Option<Instant>) {
        let gone = self.clients.get(&address).is_some_and(|client| {
            client.sessions == 0 && client.handshakes == 0 && full_by.is_none_or(|now| client.full_at <= now)
        });
        if gone {
            self.clients.remove(&address);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.numbers.active = state.numbers.active.saturating_sub(1);
        state
            .leave(self.client, Instant::now(), |client| client.sessions = client.sessions.saturating_sub(1));
        self.admission.judge_room(&state);
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.numbers.handshakes = state.numbers.handshakes.saturating_sub(1);
        let less = |client: &mut Client| client.handshakes = client.handshakes.saturating_sub(1);
        state.leave(self.client, Instant::now(), less);
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        self.0.short.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// So many sessions, so many of one client, and handshakes that nobody limits.
    pub(crate) fn sessions(sessions: u64, sessions_per_client: u64) -> Bounds {
        Bounds {
            sessions,
            sessions_per_client,
            handshakes: u64::MAX,
            handshakes_per_client: u64::MAX,
            handshakes_per_second_per_client: 1_000_000,
            handshake_burst_per_client: 1_000_000,
        }
    }

    fn from(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    /// Admitted, and the handshake over.
    fn fill(admission: &Arc<Admission>, count: u64) -> Vec<Permit> {
        (0..count).map(|_| admission.admit(from("192.0.2.1")).unwrap().0).collect()
    }

    /// What the control task would hear now; `None` is nothing new.
    fn heard(admission: &Admission) -> Option<bool> {
        let waiting = std::pin::pin!(admission.fullness());
        match waiting.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(full) => Some(full),
            Poll::Pending => None,
        }
    }

    #[test]
    fn over_the_limit_on_all_sessions_nobody_is_admitted_until_one_ends() {
        let admission = Admission::new(sessions(2, 10));
        let held = [admission.admit(from("192.0.2.1")), admission.admit(from("192.0.2.2"))];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(admission.admit(from("192.0.2.3")).err(), Some(LimitReached::Sessions));
        assert_eq!((admission.numbers().active, admission.numbers().refused_total), (2, 1));
        drop(held);
        assert!(admission.admit(from("192.0.2.3")).is_ok());
    }

    #[test]
    fn a_clients_limit_is_its_own_and_an_ipv6_client_is_its_64() {
        let admission = Admission::new(sessions(10, 1));
        let _held = [admission.admit(from("192.0.2.1")), admission.admit(from("2001:db8::1"))];
        for again in ["192.0.2.1", "2001:db8::ffff:1"] {
            assert_eq!(admission.admit(from(again)).err(), Some(LimitReached::ClientSessions));
        }
        assert!(admission.admit(from("2001:db8:0:1::1")).is_ok());
        assert_eq!(admission.numbers().refused_client, 2);
    }

    #[test]
    fn a_client_has_so_many_handshakes_at_once_and_others_have_theirs() {
        let bounds = Bounds { handshakes_per_client: 2, ..sessions(100, 100) };
        let admission = Admission::new(bounds);
        let admit = |address| admission.admit(from(address));
        let (first, second) = (admit("2001:db8::1").unwrap(), admit("2001:db8::2").unwrap());
        assert_eq!(admit("2001:db8::3").err(), Some(LimitReached::ClientHandshakes));
        let _other = admit("192.0.2.1").unwrap();
        // The session goes on, the handshake is over.
        let (_session, handshake) = first;
        drop(handshake);
        let _third = admit("2001:db8::3").unwrap();
        assert_eq!(admit("2001:db8::4").err(), Some(LimitReached::ClientHandshakes));
        drop(second);
        assert!(admit("2001:db8::4").is_ok());
        assert_eq!(admission.numbers().refused_client_handshakes, 2);
    }

    #[test]
    fn all_handshakes_together_are_limited_and_that_is_never_fullness() {
        let admission = Admission::new(Bounds { handshakes: 2, ..sessions(100, 100) });
        let held = [admission.admit(from("192.0.2.1")), admission.admit(from("192.0.2.2"))];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(admission.admit(from("192.0.2.3")).err(), Some(LimitReached::Handshakes));
        let numbers = admission.numbers();
        assert_eq!((numbers.handshakes, numbers.refused_handshakes), (2, 1));
        assert_eq!(heard(&admission), None);
        drop(held);
        assert!(admission.admit(from("192.0.2.3")).is_ok());
        assert_eq!(admission.numbers().handshakes, 0);
    }

    #[test]
    fn after_its_burst_a_client_is_admitted_at_its_rate() {
        let bounds = Bounds {
            handshakes_per_second_per_client: 10,
            handshake_burst_per_client: 3,
            ..sessions(100, 100)
        };
        let admission = Admission::new(bounds);
        let start = Instant::now();
        let at = |address, milliseconds| {
            admission.admit_at(from(address), start + Duration::from_millis(milliseconds)).map(drop)
        };
        let refused = Err(LimitReached::ClientRate);
        assert_eq!([0, 0, 0, 0].map(|ms| at("192.0.2.1", ms)), [Ok(()), Ok(()), Ok(()), refused]);
        assert_eq!(at("192.0.2.2", 0), Ok(()), "another client has a bucket of its own");
        // A refusal takes nothing out of the bucket.
        assert_eq!([99, 100, 100, 200].map(|ms| at("192.0.2.1", ms)), [refused, Ok(()), refused, Ok(())]);
        assert_eq!([9_000; 4].map(|ms| at("192.0.2.1", ms)), [Ok(()), Ok(()), Ok(()), refused]);
        assert_eq!(admission.numbers().refused_client_rate, 4);
    }

    #[test]
    fn nothing_is_remembered_of_clients_that_have_gone_once_their_buckets_are_full() {
        let admission = Admission::new(Bounds { handshakes_per_second_per_client: 1, ..sessions(10, 10) });
        for host in 0..=255 {
            drop(admission.admit(IpAddr::from([192, 0, 2, host])));
        }
        let later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(admission.state().clients.len(), 256, "their buckets are not full yet");
        drop(admission.admit_at(from("198.51.100.1"), later));
        let state = admission.state();
        assert_eq!((state.clients.len(), state.left.len()), (1, 1));
        assert_eq!((state.numbers.active, state.numbers.handshakes), (0, 0));
    }

    #[test]
    fn who_leaves_and_comes_back_again_and_again_keeps_one_bucket() {
        let bounds =
            Bounds { handshakes_per_second_per_client: 1, handshake_burst_per_client: 4, ..sessions(10, 10) };
        let admission = Admission::new(bounds);
        let start = Instant::now();
        let at =
            |seconds| admission.admit_at(from("192.0.2.1"), start + Duration::from_secs(seconds)).is_ok();
        assert_eq!([0, 0, 1, 1, 1, 1].map(at), [true, true, true, true, true, false]);
    }

    #[test]
    fn more_clients_than_are_remembered_lock_nobody_out() {
        let bounds =
            Bounds { handshakes_per_second_per_client: 1, handshake_burst_per_client: 1, ..sessions(10, 10) };
        let admission = Admission::new(bounds);
        let now = Instant::now();
        let knock = |number: u32| admission.admit_at(IpAddr::V4(number.into()), now).map(drop);
        let first = 0x0a00_0000;
        let beyond = first + u32::try_from(REMEMBERED_MAX).unwrap();
        assert!((first..=beyond).all(|number| knock(number).is_ok()));
        assert!(admission.state().clients.len() <= REMEMBERED_MAX);
        assert_eq!(knock(beyond), Err(LimitReached::ClientRate));
        assert_eq!(knock(first), Ok(()), "who left first is forgotten first");
    }

    #[test]
    fn the_last_place_is_told_once_and_room_only_when_a_share_has_left() {
        let admission = Admission::new(sessions(64, 1000));
        let mut held = fill(&admission, 63);
        assert_eq!(heard(&admission), None);
        held.extend(fill(&admission, 1));
        assert_eq!((heard(&admission), heard(&admission)), (Some(true), None));
        held.pop();
        assert_eq!(heard(&admission), None, "63 of 64: one goodbye is not room");
        held.pop();
        assert_eq!((heard(&admission), heard(&admission)), (Some(false), None));
    }

    #[test]
    fn a_limit_of_one_session_has_room_when_it_ended() {
        let admission = Admission::new(sessions(1, 1));
        let held = fill(&admission, 1);
        assert_eq!(heard(&admission), Some(true));
        drop(held);
        assert_eq!(heard(&admission), Some(false));
    }

    #[test]
    fn a_wider_limit_is_room_and_a_narrower_one_is_none() {
        let admission = Admission::new(sessions(2, 1000));
        let _held = fill(&admission, 2);
        assert_eq!(heard(&admission), Some(true));
        admission.set(sessions(10, 1000));
        assert_eq!(heard(&admission), Some(false));
        admission.set(sessions(2, 1000));
        assert_eq!(heard(&admission), Some(true));
    }

    #[test]
    fn a_clients_own_limit_is_not_fullness() {
        let admission = Admission::new(sessions(10, 1));
        let _held = fill(&admission, 1);
        assert!(admission.admit(from("192.0.2.1")).is_err());
        assert_eq!(heard(&admission), None);
    }

    #[test]
    fn one_short_worker_is_fullness_until_the_last_has_recovered() {
        let admission = Admission::new(sessions(10, 10));
        let first = admission.short();
        assert_eq!(heard(&admission), Some(true));
        let second = admission.short();
        drop(first);
        assert_eq!(heard(&admission), None);
        drop(second);
        assert_eq!(heard(&admission), Some(false));
    }

    #[test]
    fn what_came_and_went_unheard_is_not_told() {
        let admission = Admission::new(sessions(10, 10));
        drop(admission.short());
        assert_eq!(heard(&admission), None);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let admission = Admission::new(sessions(1, 1));
        let waiting = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.fullness().await }
        });
        tokio::task::yield_now().await;
        let _held = fill(&admission, 1);
        assert!(waiting.await.unwrap());
    }
}
