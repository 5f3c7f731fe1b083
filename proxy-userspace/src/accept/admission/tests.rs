//! Limits on sessions and handshakes.

use std::future::Future;
use std::net::Ipv4Addr;
use std::task::{Context, Poll, Waker};

use super::*;

/// Limits on sessions and on sessions of one client, without a limit on handshakes.
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

fn from(address: &str) -> SocketAddr {
    at(address, 40_000)
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
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
    let bounds =
        Bounds { handshakes_per_second_per_client: 10, handshake_burst_per_client: 3, ..sessions(100, 100) };
    let admission = Admission::new(bounds);
    let start = Instant::now();
    let at = |address, milliseconds| {
        admission.admit_at(from(address), start + Duration::from_millis(milliseconds)).map(drop)
    };
    let refused = Err(LimitReached::ClientRate);
    assert_eq!([0, 0, 0, 0].map(|ms| at("192.0.2.1", ms)), [Ok(()), Ok(()), Ok(()), refused]);
    assert_eq!(at("192.0.2.2", 0), Ok(()), "another client has a bucket of its own");
    // A refused connection takes nothing out of the bucket.
    assert_eq!([99, 100, 100, 200].map(|ms| at("192.0.2.1", ms)), [refused, Ok(()), refused, Ok(())]);
    assert_eq!([9_000; 4].map(|ms| at("192.0.2.1", ms)), [Ok(()), Ok(()), Ok(()), refused]);
    assert_eq!(admission.numbers().refused_client_rate, 4);
}

#[test]
fn nothing_is_remembered_of_clients_that_have_gone_once_their_buckets_are_full() {
    let admission = Admission::new(Bounds { handshakes_per_second_per_client: 1, ..sessions(10, 10) });
    for host in 0..=255 {
        drop(admission.admit(SocketAddr::from(([192, 0, 2, host], 40_000))));
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
    let at = |seconds| admission.admit_at(from("192.0.2.1"), start + Duration::from_secs(seconds)).is_ok();
    assert_eq!([0, 0, 1, 1, 1, 1].map(at), [true, true, true, true, true, false]);
}

#[test]
fn more_clients_than_are_remembered_lock_nobody_out() {
    let bounds =
        Bounds { handshakes_per_second_per_client: 1, handshake_burst_per_client: 1, ..sessions(10, 10) };
    let admission = Admission::new(bounds);
    let now = Instant::now();
    let knock =
        |number: u32| admission.admit_at(SocketAddr::from((Ipv4Addr::from(number), 40_000)), now).map(drop);
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
fn one_short_thread_is_fullness_until_the_last_has_recovered() {
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

#[test]
fn a_port_is_free_until_the_clients_first_session_has_it_and_after_its_last_one_has_ended() {
    let (admission, range) = (Admission::new(sessions(10, 10)), 10..=12);
    let free = |address: &str, start| admission.free_port(at(address, 0).ip(), &range, start);
    let held = [10, 12, 11].map(|port| admission.admit(at("192.0.2.1", port)).unwrap().0);
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
