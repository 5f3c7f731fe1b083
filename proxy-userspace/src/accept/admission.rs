//! Who may have a session.
//!
//! A client over a limit is told so after its connection was accepted. When nobody can be served any more, the control
//! task learns it and lets the kernel decide by `on_exit`, so that clients are not drawn into a queue.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// After the limit was reached there is room again when one in this many sessions has ended (one at least): intake is
/// not switched on and off by every goodbye.
const ROOM_SHARE: u64 = 32;

/// Shared by all workers; asked once per connection.
pub struct Admission {
    sessions_max: AtomicU64,
    per_client_max: AtomicU64,
    /// The port of every session of a client, in order. Also what orders changes of `active` and `crowded`. Bounded by
    /// the sessions: an entry goes with its last one.
    clients: Mutex<HashMap<IpAddr, Vec<u16>>>,
    active: AtomicU64,
    accepted: AtomicU64,
    refused_total: AtomicU64,
    refused_client: AtomicU64,
    /// The limit was reached, and too few sessions have ended since.
    crowded: AtomicBool,
    /// Workers that cannot accept for want of descriptors or memory.
    short: AtomicU64,
    /// What [`Self::fullness`] said last.
    told: AtomicBool,
    changed: Notify,
}

/// Numbers for `postern status`.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// Sessions now.
    pub active: u64,
    /// Most at once.
    pub limit: u64,
    /// Accepted since the start.
    pub accepted: u64,
    /// Refused by the limit on all sessions.
    pub refused_total: u64,
    /// Refused by a client's own limit.
    pub refused_client: u64,
}

/// One admitted session; dropping it makes room.
pub struct Permit {
    admission: Arc<Admission>,
    client: IpAddr,
    port: u16,
}

/// A worker cannot accept; dropping it says that it can again.
pub struct Shortage(Arc<Admission>);

impl Admission {
    /// With room for `sessions_max` in all and `per_client_max` for each client.
    #[must_use]
    pub fn new(sessions_max: u64, per_client_max: u64) -> Arc<Self> {
        Arc::new(Self {
            sessions_max: AtomicU64::new(sessions_max),
            per_client_max: AtomicU64::new(per_client_max),
            clients: Mutex::default(),
            active: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused_total: AtomicU64::new(0),
            refused_client: AtomicU64::new(0),
            crowded: AtomicBool::new(false),
            short: AtomicU64::new(0),
            told: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// New limits, for connections from now on.
    pub fn set(&self, sessions_max: u64, per_client_max: u64) {
        let _ordered = self.clients();
        self.sessions_max.store(sessions_max, Ordering::Relaxed);
        self.per_client_max.store(per_client_max, Ordering::Relaxed);
        self.judge_room();
    }

    /// Room for one more session of this client, or `None`, counted. An IPv6 client is its /64: it may use any
    /// address in it.
    pub fn admit(self: &Arc<Self>, client: SocketAddr) -> Option<Permit> {
        let (client, port) = (counted_as(client.ip()), client.port());
        let mut clients = self.clients();
        if self.active.load(Ordering::Relaxed) >= self.sessions_max.load(Ordering::Relaxed) {
            self.refused_total.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let ports = clients.entry(client).or_default();
        if u64::try_from(ports.len()).is_ok_and(|count| count >= self.per_client_max.load(Ordering::Relaxed))
        {
            self.refused_client.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let place = ports.partition_point(|other| *other < port);
        ports.insert(place, port);
        self.active.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.judge_room();
        Some(Permit { admission: Arc::clone(self), client, port })
    }

    /// The first port of `range` from `start` on, and round, that no session of this client has at its own end.
    pub fn free_port(&self, client: IpAddr, range: &RangeInclusive<u16>, start: u16) -> Option<u16> {
        let clients = self.clients();
        let taken = clients.get(&counted_as(client)).map_or(&[][..], Vec::as_slice);
        let mut round = (start..=*range.end()).chain(*range.start()..start);
        round.find(|port| taken.binary_search(port).is_err())
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
        Admitted {
            active: self.active.load(Ordering::Relaxed),
            limit: self.sessions_max.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            refused_total: self.refused_total.load(Ordering::Relaxed),
            refused_client: self.refused_client.load(Ordering::Relaxed),
        }
    }

    /// A panic elsewhere leaves counts that are right: each change is one step.
    fn clients(&self) -> MutexGuard<'_, HashMap<IpAddr, Vec<u16>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the lock held, so that of two changes the later one is what stays.
    fn judge_room(&self) {
        let (active, limit) =
            (self.active.load(Ordering::Relaxed), self.sessions_max.load(Ordering::Relaxed));
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

/// Whom an address is counted as.
fn counted_as(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut clients = self.admission.clients();
        self.admission.active.fetch_sub(1, Ordering::Relaxed);
        if let Some(ports) = clients.get_mut(&self.client) {
            if let Ok(place) = ports.binary_search(&self.port) {
                ports.remove(place);
            }
            if ports.is_empty() {
                clients.remove(&self.client);
            }
        }
        self.admission.judge_room();
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        self.0.short.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn from(address: &str) -> SocketAddr {
        at(address, 40_000)
    }

    fn at(address: &str, port: u16) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), port)
    }

    fn fill(admission: &Arc<Admission>, count: u64) -> Vec<Permit> {
        (0..count).map(|_| admission.admit(from("192.0.2.1")).unwrap()).collect()
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
        let admission = Admission::new(2, 10);
        let held = [admission.admit(from("192.0.2.1")), admission.admit(from("192.0.2.2"))];
        assert!(held.iter().all(Option::is_some));
        assert!(admission.admit(from("192.0.2.3")).is_none());
        assert_eq!((admission.numbers().active, admission.numbers().refused_total), (2, 1));
        drop(held);
        assert!(admission.admit(from("192.0.2.3")).is_some());
    }

    #[test]
    fn a_clients_limit_is_its_own_and_an_ipv6_client_is_its_64() {
        let admission = Admission::new(10, 1);
        let _held = [admission.admit(from("192.0.2.1")), admission.admit(from("2001:db8::1"))];
        assert!(admission.admit(from("192.0.2.1")).is_none());
        assert!(admission.admit(from("2001:db8::ffff:1")).is_none());
        assert!(admission.admit(from("2001:db8:0:1::1")).is_some());
        assert_eq!(admission.numbers().refused_client, 2);
    }

    #[test]
    fn nothing_is_remembered_of_clients_that_have_gone() {
        let admission = Admission::new(10, 10);
        for host in 0..=255 {
            drop(admission.admit(SocketAddr::from(([192, 0, 2, host], 40_000))));
        }
        assert!(admission.clients.lock().unwrap().is_empty());
        assert_eq!(admission.numbers().active, 0);
    }

    #[test]
    fn a_port_is_free_until_the_clients_first_session_has_it_and_after_its_last_one_has_ended() {
        let (admission, range) = (Admission::new(10, 10), 10..=12);
        let free = |address: &str, start| admission.free_port(at(address, 0).ip(), &range, start);
        let held = [10, 12, 11].map(|port| admission.admit(at("192.0.2.1", port)).unwrap());
        let again = admission.admit(at("192.0.2.1", 11));
        assert_eq!((free("192.0.2.1", 11), free("192.0.2.2", 11)), (None, Some(11)));
        let [ten, _twelve, eleven] = held;
        drop(eleven);
        assert_eq!(free("192.0.2.1", 11), None, "another session has it, to another server");
        drop(again);
        assert_eq!(free("192.0.2.1", 12), Some(11));
        drop(ten);
        assert_eq!(free("192.0.2.1", 12), Some(10));
    }

    #[test]
    fn the_last_place_is_told_once_and_room_only_when_a_share_has_left() {
        let admission = Admission::new(64, 1000);
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
        let admission = Admission::new(1, 1);
        let held = fill(&admission, 1);
        assert_eq!(heard(&admission), Some(true));
        drop(held);
        assert_eq!(heard(&admission), Some(false));
    }

    #[test]
    fn a_wider_limit_is_room_and_a_narrower_one_is_none() {
        let admission = Admission::new(2, 1000);
        let _held = fill(&admission, 2);
        assert_eq!(heard(&admission), Some(true));
        admission.set(10, 1000);
        assert_eq!(heard(&admission), Some(false));
        admission.set(2, 1000);
        assert_eq!(heard(&admission), Some(true));
    }

    #[test]
    fn a_clients_own_limit_is_not_fullness() {
        let admission = Admission::new(10, 1);
        let _held = fill(&admission, 1);
        assert!(admission.admit(from("192.0.2.1")).is_none());
        assert_eq!(heard(&admission), None);
    }

    #[test]
    fn one_short_worker_is_fullness_until_the_last_has_recovered() {
        let admission = Admission::new(10, 10);
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
        let admission = Admission::new(10, 10);
        drop(admission.short());
        assert_eq!(heard(&admission), None);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let admission = Admission::new(1, 1);
        let waiting = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.fullness().await }
        });
        tokio::task::yield_now().await;
        let _held = fill(&admission, 1);
        assert!(waiting.await.unwrap());
    }
}
