//! How ends are told apart, and what a waiting session costs.

use std::io;

use super::*;
use crate::inspect::FirstOctets;
use crate::layer::{Incoming, Outgoing};

fn reset() -> LayerFault {
    LayerFault::System { call: "recv", source: io::ErrorKind::ConnectionReset.into() }
}

/// Fold both ends in, `first` coming from `side`.
fn over(side: Side, first: PumpEnd, second: PumpEnd) -> End {
    let other = if side == Side::Downstream { Side::Upstream } else { Side::Downstream };
    let mut kept = None;
    settle(&mut kept, side, first)
        .unwrap_or_else(|| settle(&mut kept, other, second).expect("both have ended"))
}

#[test]
fn after_a_goodbye_it_does_not_matter_how_the_other_leaves() {
    for second in [PumpEnd::Closed, PumpEnd::Truncated, PumpEnd::Failed(Side::Downstream, reset())] {
        assert!(matches!(over(Side::Upstream, PumpEnd::Closed, second), End::Closed));
    }
}

#[test]
fn a_forged_record_is_a_failure_even_after_a_goodbye() {
    let forged = PumpEnd::Failed(Side::Downstream, LayerFault::BadRecord);
    let end = over(Side::Upstream, PumpEnd::Closed, forged);
    assert!(matches!(end, End::Failed(Side::Downstream, LayerFault::BadRecord)));
}

#[test]
fn a_server_that_is_cut_is_truncated_however_the_client_leaves() {
    for second in [PumpEnd::Closed, PumpEnd::Truncated] {
        let end = over(Side::Upstream, PumpEnd::Truncated, second);
        assert!(matches!(end, End::Truncated(Side::Upstream)));
    }
}

#[test]
fn a_client_that_is_cut_is_truncated_unless_the_server_says_goodbye() {
    let end = over(Side::Downstream, PumpEnd::Truncated, PumpEnd::Truncated);
    assert!(matches!(end, End::Truncated(Side::Downstream)));
    assert!(matches!(over(Side::Downstream, PumpEnd::Truncated, PumpEnd::Closed), End::Closed));
}

type Relay<R, T, I, F> = fn((R, T), (R, T), (I, I), Option<&'static Pipes>, &'static Meter, Duration) -> F;

fn future_bytes<R, T, I, F>(_: Relay<R, T, I, F>) -> usize {
    size_of::<F>()
}

/// Everything that a waiting session keeps in this process besides rustls' two kernel connections: both record layers
/// and the relay's own state. A change here is a decision.
#[test]
fn the_size_of_a_waiting_relay_is_pinned() {
    let bytes = future_bytes(relay::<Incoming, Outgoing, FirstOctets>);
    assert!((1024..=RELAY_BYTES_MAX).contains(&bytes), "{bytes} octets");
}

/// 3,688 when this was written, 800 of them for the kernel's layer beside ours.
const RELAY_BYTES_MAX: usize = 4 * 1024;

const LIMIT: Duration = Duration::from_secs(2100);

#[tokio::test(start_paused = true)]
async fn a_session_in_which_nothing_moves_ends_after_the_idle_limit() {
    let began = Instant::now();
    let end = both(std::future::pending(), std::future::pending(), &Meter::default(), LIMIT).await;
    assert!(matches!(end, End::Idle));
    assert_eq!(began.elapsed().as_secs(), LIMIT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn every_octet_in_either_direction_begins_the_idle_limit_anew() {
    let meter = Meter::default();
    let began = Instant::now();
    let pushes = async {
        for direction in [Direction::ServerToClient, Direction::ClientToServer] {
            sleep(LIMIT - Duration::from_secs(1)).await;
            meter.add(direction, 1);
        }
        std::future::pending().await
    };
    let end = both(std::future::pending(), pushes, &meter, LIMIT).await;
    assert!(matches!(end, End::Idle));
    assert_eq!(began.elapsed().as_secs(), 3 * LIMIT.as_secs() - 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_a_goodbye_is_not_waited_for_long() {
    let began = Instant::now();
    let meter = Meter::default();
    let goodbye = std::future::ready(PumpEnd::Closed);
    assert!(matches!(both(goodbye, std::future::pending(), &meter, LIMIT).await, End::Closed));
    assert_eq!(began.elapsed().as_secs(), HALF_CLOSED.as_secs());
}
