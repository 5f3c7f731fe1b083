//! Limits on sessions and on handshakes in progress.
//!
//! A client over a limit is accepted, told so, and closed. When nobody can be served any more, the control task makes
//! the kernel treat new connections as `on_exit` says, so that clients do not wait in a queue. The limits on handshakes
//! only refuse clients; they never count as "full". Strangers reach these limits at will, and under `on_exit = "open"`
//! a full daemon lets mail pass uninspected.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// After the limit was reached, there is room again when one in this many sessions has ended (at least one). So a
/// single goodbye does not switch the intake on and off.
const ROOM_SHARE: u64 = 32;
/// Clients without a session that are remembered until their bucket is full again (some 2 MiB). Beyond that, the client
/// that left first is forgotten and has its whole burst again: a full table refuses nobody.
const REMEMBERED_MAX: usize = 16_384;

/// What is admitted. A client is an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// The limit that refused a connection.
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
    /// What a client on a port of STARTTLS is told.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Sessions | Self::ClientSessions => "Too many sessions; try again later.",
            Self::Handshakes | Self::ClientHandshakes => "Too many logins in progress; try again later.",
            Self::ClientRate => "Too many connections a second; try again later.",
        }
    }
}

/// The admission table. All mail threads share it, and ask it once per connection.
pub struct Admission {
    /// Its lock also orders the changes of `crowded`.
    state: Mutex<AdmissionState>,
    /// The most sessions at once since the last call of [`Self::take_most`].
    most: AtomicU64,
    /// The limit on all sessions was reached, and too few sessions have ended since.
    crowded: AtomicBool,
    /// Mail threads that cannot accept for want of descriptors or memory.
    short: AtomicU64,
    /// What [`Self::fullness`] returned last.
    told: AtomicBool,
    changed: Notify,
}

struct AdmissionState {
    bounds: Bounds,
    /// Bounded by the sessions and by [`REMEMBERED_MAX`]: an entry is removed with its last session, or with its entry
    /// in `left`.
    clients: HashMap<IpAddr, Client>,
    /// Clients without a session, by the time when they left, and when their bucket is full again.
    left: VecDeque<(IpAddr, Instant)>,
    numbers: Admitted,
}

struct Client {
    /// The client's port in each of its sessions, sorted. Bounded by the sessions.
    ports: Vec<u16>,
    handshakes: u64,
    /// When the bucket is full again if the client takes nothing more. This moment is the bucket's whole state (the
    /// "theoretical arrival time" of ITU-T I.371's generic cell rate algorithm).
    full_at: Instant,
}

impl Client {
    fn sessions(&self) -> u64 {
        u64::try_from(self.ports.len()).unwrap_or(u64::MAX)
    }

    fn is_here(&self) -> bool {
        !self.ports.is_empty() || self.handshakes > 0
    }
}

/// Numbers for `postern status`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Admitted {
    /// Sessions now.
    pub active: u64,
    /// The limit on sessions at once.
    pub limit: u64,
    /// The limit on sessions at once of one client.
    pub limit_client: u64,
    /// Connections between accept and relay now.
    pub handshakes: u64,
    /// The limit on connections between accept and relay.
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
    port: u16,
}

/// One connection between accept and relay; dropping it makes room for another handshake.
pub struct Handshaking {
    admission: Arc<Admission>,
    client: IpAddr,
}

/// Held while a mail thread cannot accept; dropped when it can again.
pub struct Shortage(Arc<Admission>);

impl Admission {
    /// An empty table with these limits.
    #[must_use]
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(AdmissionState {
                bounds,
                clients: HashMap::new(),
                left: VecDeque::new(),
                numbers: Admitted::default(),
            }),
            most: AtomicU64::new(0),
            crowded: AtomicBool::new(false),
            short: AtomicU64::new(0),
            told: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// Set new limits, for connections from now on.
    pub fn set(&self, bounds: Bounds) {
        let mut state = self.state();
        state.bounds = bounds;
        self.judge_room(&state);
    }

    /// Take room for one more session of this client and for its handshake. An IPv6 client counts as its /64, because
    /// it may use any address in it.
    ///
    /// # Errors
    /// The limit that is reached. The refusal is counted.
    pub fn admit(self: &Arc<Self>, client: SocketAddr) -> Result<(Permit, Handshaking), LimitReached> {
        self.admit_at(client, Instant::now())
    }

    fn admit_at(
        self: &Arc<Self>,
        client: SocketAddr,
        now: Instant,
    ) -> Result<(Permit, Handshaking), LimitReached> {
        let (client, port) = (counted_as(client.ip()), client.port());
        let mut state = self.state();
        state.admit(client, port, now)?;
        self.most.fetch_max(state.numbers.active, Ordering::Relaxed);
        self.judge_room(&state);
        drop(state);
        let admission = Arc::clone(self);
        Ok((Permit { admission: Arc::clone(self), client, port }, Handshaking { admission, client }))
    }

    /// The first port of `range` that no session of this client has at the client's end. The search begins at `start`
    /// and wraps around.
    pub fn free_port(&self, client: IpAddr, range: &RangeInclusive<u16>, start: u16) -> Option<u16> {
        let state = self.state();
        let taken = state.clients.get(&counted_as(client)).map_or(&[][..], |client| client.ports.as_slice());
        let mut round = (start..=*range.end()).chain(*range.start()..start);
        round.find(|port| taken.binary_search(port).is_err())
    }

    /// Note that a mail thread cannot accept for want of descriptors or memory, until the value is dropped.
    #[must_use]
    pub fn short(self: &Arc<Self>) -> Shortage {
        self.short.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
        Shortage(Arc::clone(self))
    }

    /// Whether nobody can be served: the limit on all sessions was reached, or a mail thread is short.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.crowded.load(Ordering::Relaxed) || self.short.load(Ordering::Relaxed) > 0
    }

    /// Wait until [`Self::is_full`] differs from what this returned last (at first: false), and return it. For one
    /// task; may be dropped while it waits.
    pub async fn fullness(&self) -> bool {
        loop {
            let full = self.is_full();
            if self.told.swap(full, Ordering::Relaxed) != full {
                return full;
            }
            self.changed.notified().await;
        }
    }

    /// The most sessions at once since the last call.
    pub fn take_most(&self) -> u64 {
        self.most.swap(self.state().numbers.active, Ordering::Relaxed)
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

    /// A poisoned lock is taken: each change is one step, so that a panic elsewhere leaves right counts.
    fn state(&self) -> MutexGuard<'_, AdmissionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Update `crowded`. The caller holds the lock, so that the later of two changes wins.
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

/// The client that an address counts as.
pub(crate) fn counted_as(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

impl AdmissionState {
    /// Count one more, or the refusal.
    fn admit(&mut self, address: IpAddr, port: u16, now: Instant) -> Result<(), LimitReached> {
        self.forget(now);
        let known = self.clients.get(&address);
        let (sessions, handshakes) = known.map_or((0, 0), |client| (client.sessions(), client.handshakes));
        let pause = Duration::from_secs(1) / self.bounds.handshakes_per_second_per_client.max(1);
        let burst = pause * self.bounds.handshake_burst_per_client.max(1);
        let full_at = known.map_or(now, |client| client.full_at.max(now)) + pause;
        let (numbers, bounds) = (&mut self.numbers, self.bounds);
        let (reached, count) = if numbers.active >= bounds.sessions {
            (LimitReached::Sessions, &mut numbers.refused_total)
        } else if sessions >= bounds.sessions_per_client {
            (LimitReached::ClientSessions, &mut numbers.refused_client)
        } else if numbers.handshakes >= bounds.handshakes {
            (LimitReached::Handshakes, &mut numbers.refused_handshakes)
        } else if handshakes >= bounds.handshakes_per_client {
            (LimitReached::ClientHandshakes, &mut numbers.refused_client_handshakes)
        } else if full_at > now + burst {
            (LimitReached::ClientRate, &mut numbers.refused_client_rate)
        } else {
            numbers.active += 1;
            numbers.handshakes += 1;
            numbers.accepted += 1;
            let unknown = || Client { ports: Vec::new(), handshakes: 0, full_at };
            let client = self.clients.entry(address).or_insert_with(unknown);
            client.full_at = full_at;
            client.handshakes += 1;
            client.ports.insert(client.ports.partition_point(|other| *other < port), port);
            return Ok(());
        };
        *count += 1;
        Err(reached)
    }

    /// Count one session or one handshake less of a client.
    fn leave(&mut self, address: IpAddr, now: Instant, count: impl FnOnce(&mut Client)) {
        let Some(client) = self.clients.get_mut(&address) else { return };
        count(client);
        if client.is_here() {
            return;
        }
        if client.full_at <= now {
            self.clients.remove(&address);
            return;
        }
        // A client without a session keeps no room for ports.
        client.ports = Vec::new();
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

    /// Forget a client if it has no session and its bucket is full at the given time. A client that came and left again
    /// since then has a second, later entry in `left`.
    fn forget_client(&mut self, address: IpAddr, full_by: Option<Instant>) {
        let gone = self
            .clients
            .get(&address)
            .is_some_and(|client| !client.is_here() && full_by.is_none_or(|now| client.full_at <= now));
        if gone {
            self.clients.remove(&address);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.numbers.active = state.numbers.active.saturating_sub(1);
        state.leave(self.client, Instant::now(), |client| {
            if let Ok(place) = client.ports.binary_search(&self.port) {
                client.ports.remove(place);
            }
        });
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
pub(crate) mod tests;
