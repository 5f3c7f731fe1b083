//! How ends are told apart, whose turn it is, and what a waiting session costs.

use std::future::{pending, ready};
use std::io::{self, Read as _, Write as _};
use std::pin::pin;

use tokio::time::{Instant, sleep};

use super::ends::{First, HALF_CLOSED, settle};
use super::*;
use crate::inspect::{FirstOctets, LastLines};
use crate::layer::far::{Role, narrow, once, sockets, spend_turn};
use crate::layer::{Alert, Incoming, Outgoing};

const REQUESTS: Direction = Direction::ClientToServer;
const RESPONSES: Direction = Direction::ServerToClient;
const CUT: PumpEnd = PumpEnd::Truncated { announced: false };
const LEFT_AFTER_BYE: PumpEnd = PumpEnd::Truncated { announced: true };

fn reset(side: Side) -> PumpEnd {
    PumpEnd::Failed(side, LayerFault::System { call: "recv", source: io::ErrorKind::ConnectionReset.into() })
}

fn alarmed(side: Side) -> PumpEnd {
    PumpEnd::Failed(side, LayerFault::PeerAlert(Alert::DECODE_ERROR))
}

/// Fold both ends in, `first` that of `direction`, where `spoke_last` said the last octets.
fn over(direction: Direction, first: PumpEnd, second: PumpEnd, spoke_last: Direction) -> End {
    let meter = Meter::default();
    meter.add(spoke_last, 1);
    let other = if direction == REQUESTS { RESPONSES } else { REQUESTS };
    let kept = match settle(None, direction, first, &meter) {
        Ok(end) => return end,
        Err(kept) => kept,
    };
    settle(Some(kept), other, second, &meter).unwrap_or_else(|_| panic!("both have ended"))
}

/// How a side may leave.
fn departures(side: Side) -> [PumpEnd; 5] {
    [PumpEnd::Closed, PumpEnd::Finished, CUT, reset(side), alarmed(side)]
}

#[test]
fn after_a_goodbye_it_does_not_matter_how_the_other_leaves() {
    for goodbye in [PumpEnd::Closed, PumpEnd::Finished, LEFT_AFTER_BYE] {
        assert!(matches!(settle(None, RESPONSES, goodbye, &Meter::default()), Err(First::Done)));
    }
    for (direction, other) in [(RESPONSES, Side::Downstream), (REQUESTS, Side::Upstream)] {
        for second in departures(other) {
            assert!(matches!(over(direction, PumpEnd::Closed, second, direction), End::Closed));
        }
    }
}

#[test]
fn a_forged_record_is_a_failure_even_after_a_goodbye() {
    let forged = PumpEnd::Failed(Side::Downstream, LayerFault::BadRecord);
    let end = over(RESPONSES, PumpEnd::Closed, forged, RESPONSES);
    assert!(matches!(end, End::Failed(Side::Downstream, LayerFault::BadRecord)));
}

#[test]
fn a_server_that_is_cut_is_truncated_however_the_client_leaves() {
    for second in departures(Side::Downstream) {
        let end = over(RESPONSES, CUT, second, RESPONSES);
        assert!(matches!(end, End::Truncated(Side::Upstream)));
    }
}

#[test]
fn a_client_that_is_cut_is_truncated_unless_the_server_spoke_last() {
    for (at, second) in departures(Side::Upstream).into_iter().enumerate() {
        let end = over(REQUESTS, CUT, second, REQUESTS);
        assert!(matches!(end, End::Truncated(Side::Downstream)), "departure {at}");
    }
    for (at, second) in departures(Side::Upstream).into_iter().enumerate() {
        assert!(matches!(over(REQUESTS, CUT, second, RESPONSES), End::Closed), "departure {at}");
    }
    // What the server said last did not arrive.
    let end = over(REQUESTS, CUT, reset(Side::Downstream), RESPONSES);
    assert!(matches!(end, End::Truncated(Side::Downstream)));
}

#[test]
fn a_reset_in_the_middle_is_a_failure_of_the_side_that_sent_it() {
    for (direction, side) in [(REQUESTS, Side::Downstream), (RESPONSES, Side::Upstream)] {
        let end = settle(None, direction, reset(side), &Meter::default());
        assert!(matches!(end, Ok(End::Failed(failed, LayerFault::System { .. })) if failed == side));
    }
}

#[test]
fn a_side_that_takes_no_more_is_heard_to_its_end_and_fails_unless_it_said_goodbye() {
    let failed = |end| matches!(end, End::Failed(Side::Upstream, LayerFault::System { .. }));
    for second in [CUT, LEFT_AFTER_BYE, PumpEnd::Finished, reset(Side::Upstream), reset(Side::Downstream)] {
        assert!(failed(over(REQUESTS, reset(Side::Upstream), second, REQUESTS)));
    }
    assert!(matches!(over(REQUESTS, reset(Side::Upstream), PumpEnd::Closed, REQUESTS), End::Closed));
    let told = over(REQUESTS, reset(Side::Upstream), alarmed(Side::Upstream), REQUESTS);
    assert!(matches!(told, End::Failed(Side::Upstream, LayerFault::PeerAlert(_))));
}

/// What tokio lets a task do in one turn, each time with what one splice moves.
const TURN_BYTES_MAX: u64 = 128 * 64 * 1024;
/// What goes through while turns are counted.
const FLOOD_BYTES: u64 = 1 << 30;

#[tokio::test]
async fn a_fast_peer_does_not_keep_others_of_its_worker_waiting() {
    let ((client, to_client), (server, to_server)) = (sockets(None).await, sockets(None).await);
    let blocking = |stream: tokio::net::TcpStream| {
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    };
    let (mut source, mut sink) = (blocking(to_client), blocking(to_server));
    let flood = std::thread::spawn(move || {
        let octets = vec![0; 1 << 20];
        (0..FLOOD_BYTES >> 20).for_each(|_| source.write_all(&octets).unwrap());
        source.shutdown(std::net::Shutdown::Write).unwrap();
        source
    });
    let drain = std::thread::spawn(move || {
        let mut room = vec![0; 1 << 20];
        while sink.read(&mut room).unwrap() > 0 {}
    });
    let (pipes, meter) = (Pipes::default(), Meter::default());
    let mut relay = pin!(splice::relay(&client, &server, &pipes, &meter, LIMIT));
    let (mut turns, mut longest, mut before) = (0_u64, 0, 0);
    let end = loop {
        // Between two polls of one task, all others have their turn.
        if let Some(end) = once(|cx| relay.as_mut().poll(cx)).await {
            break end;
        }
        let now = meter.octets(REQUESTS);
        longest = longest.max(now - before);
        (turns, before) = (turns + 1, now);
        tokio::task::yield_now().await;
    };
    assert!(matches!(end, End::Closed), "{end:?}");
    assert_eq!(meter.octets(REQUESTS), FLOOD_BYTES);
    assert!(longest <= TURN_BYTES_MAX, "{longest} octets without a turn of others, in {turns} turns");
    drop(flood.join().unwrap());
    drain.join().unwrap();
}

#[tokio::test]
async fn a_bypass_that_has_had_its_turn_moves_nothing_before_the_next() {
    let ((client, to_client), (server, to_server)) = (sockets(None).await, sockets(None).await);
    let (pipes, meter) = (Pipes::default(), Meter::default());
    let mut relay = pin!(splice::relay(&client, &server, &pipes, &meter, LIMIT));
    for direction in [REQUESTS, RESPONSES] {
        let (said, hearing) =
            if direction == REQUESTS { (&to_client, &client) } else { (&to_server, &server) };
        assert_eq!(said.try_write(b"one").unwrap(), 3);
        hearing.readable().await.unwrap();
        spend_turn().await;
        assert!(once(|cx| relay.as_mut().poll(cx)).await.is_none());
        assert_eq!(meter.octets(direction), 0, "{direction}: others wait");
        tokio::task::yield_now().await;
        assert!(once(|cx| relay.as_mut().poll(cx)).await.is_none());
        assert_eq!(meter.octets(direction), 3, "{direction}");
    }
}

#[tokio::test]
async fn a_part_that_a_slow_reader_took_of_a_batch_is_no_silence() {
    let version = &rustls::version::TLS13;
    let (down, mut up) =
        (narrow(Role::Server, version, None).await, narrow(Role::Client, version, None).await);
    let mut client = down.far;
    let meter = Meter::default();
    let sides = ((down.receive, down.transmit), (up.receive, up.transmit));
    let inspect = (FirstOctets::default(), LastLines::default());
    let mut relay = pin!(relay(sides.0, sides.1, inspect, None, &meter, LIMIT));
    up.far.peer.writer().write_all(&[b'x'; 60_000]).unwrap();
    let mut wire = Vec::new();
    while up.far.peer.wants_write() {
        up.far.peer.write_tls(&mut wire).unwrap();
    }
    let mut unread = &wire[..];
    let (mut got, mut parts, mut active) = (Vec::new(), 0, meter.active());
    // The first batch is counted when the client's kernel has all of it, and every part of it before is noticed.
    while meter.octets(RESPONSES) == 0 {
        if let Ok(count) = up.far.wire.try_write(unread) {
            unread = &unread[count..];
        }
        assert!(once(|cx| relay.as_mut().poll(cx)).await.is_none());
        if meter.octets(RESPONSES) == 0 && meter.active() != active {
            (parts, active) = (parts + 1, meter.active());
        }
        client.read_some(1000, &mut got);
        tokio::task::yield_now().await;
    }
    assert!(parts > 1, "{parts} parts were noticed of the first batch of {}", meter.octets(RESPONSES));
}

type Relay<R, T, I, J, F> = fn((R, T), (R, T), (I, J), Option<&'static Pipes>, &'static Meter, Duration) -> F;

fn future_bytes<R, T, I, J, F>(_: Relay<R, T, I, J, F>) -> usize {
    size_of::<F>()
}

/// Everything that a waiting session keeps in this process besides rustls' two kernel connections: both record layers
/// and the relay's own state. A change here is a decision.
#[test]
fn the_size_of_a_waiting_relay_is_pinned() {
    let bytes = future_bytes(relay::<Incoming, Outgoing, FirstOctets, LastLines>);
    assert!((1024..=RELAY_BYTES_MAX).contains(&bytes), "{bytes} octets");
}

/// 3,688 when this was written, 800 of them for the kernel's layer beside ours.
const RELAY_BYTES_MAX: usize = 4 * 1024;

const LIMIT: Duration = Duration::from_secs(2100);

#[tokio::test(start_paused = true)]
async fn a_session_in_which_nothing_moves_ends_after_the_idle_limit() {
    let began = Instant::now();
    let end = both(pending(), pending(), &Meter::default(), LIMIT).await.end;
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
        pending().await
    };
    let end = both(pending(), pushes, &meter, LIMIT).await.end;
    assert!(matches!(end, End::Idle));
    assert_eq!(began.elapsed().as_secs(), 3 * LIMIT.as_secs() - 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_a_goodbye_is_not_waited_for_long() {
    let began = Instant::now();
    let meter = Meter::default();
    let goodbye = ready(PumpEnd::Closed);
    assert!(matches!(both(goodbye, pending(), &meter, LIMIT).await.end, End::Closed));
    assert_eq!(began.elapsed().as_secs(), HALF_CLOSED.as_secs());
}
