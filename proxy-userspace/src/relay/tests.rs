//! How ends are told apart, whose turn it is, and what a waiting session costs.

use std::future::{pending, ready};
use std::io::{self, Read as _, Write as _};
use std::ops::ControlFlow;
use std::pin::pin;

use tokio::time::{Instant, sleep};

use super::ends::{DirectionEnd, HALF_CLOSED, settle};
use super::*;
use crate::inspect::Plain;
use crate::layer::far::{HandshakeRole, narrow, once, sockets, spend_turn};
use crate::layer::{Alert, Incoming, Outgoing};

/// The loop around an engine.
mod scripted;

const REQUESTS: Direction = Direction::ClientToServer;
const RESPONSES: Direction = Direction::ServerToClient;

const fn cut(side: Side) -> DirectionEnd {
    DirectionEnd::Truncated(side)
}

fn reset(side: Side) -> DirectionEnd {
    DirectionEnd::Failed(
        side,
        LayerFault::System { call: "recv", source: io::ErrorKind::ConnectionReset.into() },
    )
}

fn alarmed(side: Side) -> DirectionEnd {
    DirectionEnd::Failed(side, LayerFault::PeerAlert(Alert::DECODE_ERROR))
}

fn is_truncated(result: &Result<(), Failure>, of: Side) -> bool {
    matches!(result, Err(Failure { side, cause: Cause::Truncated }) if *side == of)
}

fn is_idle(result: &Result<(), Failure>) -> bool {
    matches!(result, Err(Failure { cause: Cause::Idle, .. }))
}

/// The record layer's fault, where the session failed with one of this side.
fn fault(result: Result<(), Failure>, of: Side) -> Option<LayerFault> {
    match result {
        Err(Failure { side, cause: Cause::Layer(fault) }) if side == of => Some(fault),
        _ => None,
    }
}

/// Fold both ends in, `first` that of `direction`, where `spoke_last` said the last octets.
fn over(
    direction: Direction,
    first: DirectionEnd,
    second: DirectionEnd,
    spoke_last: Direction,
) -> Result<(), Failure> {
    let meter = Meter::default();
    meter.add(spoke_last, 1);
    let other = if direction == REQUESTS { RESPONSES } else { REQUESTS };
    let kept = match settle(None, direction, first, &meter) {
        ControlFlow::Break(result) => return result,
        ControlFlow::Continue(kept) => kept,
    };
    match settle(Some(kept), other, second, &meter) {
        ControlFlow::Break(result) => result,
        ControlFlow::Continue(kept) => panic!("both have ended, and {kept:?} is kept"),
    }
}

/// How a side may leave.
fn departures(side: Side) -> [DirectionEnd; 5] {
    [DirectionEnd::Closed, DirectionEnd::Finished, cut(side), reset(side), alarmed(side)]
}

#[test]
fn after_a_goodbye_it_does_not_matter_how_the_other_leaves() {
    for goodbye in [DirectionEnd::Closed, DirectionEnd::Finished] {
        assert!(settle(None, RESPONSES, goodbye, &Meter::default()).is_continue());
    }
    for (direction, other) in [(RESPONSES, Side::Downstream), (REQUESTS, Side::Upstream)] {
        for goodbye in [|| DirectionEnd::Closed, || DirectionEnd::Finished] {
            for second in departures(other) {
                assert!(over(direction, goodbye(), second, direction).is_ok());
            }
        }
    }
}

#[test]
fn a_forged_record_is_a_failure_even_after_a_goodbye() {
    let forged = DirectionEnd::Failed(Side::Downstream, LayerFault::BadRecord);
    let result = over(RESPONSES, DirectionEnd::Closed, forged, RESPONSES);
    assert!(matches!(fault(result, Side::Downstream), Some(LayerFault::BadRecord)));
}

#[test]
fn a_server_that_is_cut_is_truncated_however_the_client_leaves() {
    for second in departures(Side::Downstream) {
        assert!(is_truncated(&over(RESPONSES, cut(Side::Upstream), second, RESPONSES), Side::Upstream));
    }
}

#[test]
fn a_client_that_is_cut_is_truncated_unless_the_server_spoke_last() {
    let over = |second, spoke_last| over(REQUESTS, cut(Side::Downstream), second, spoke_last);
    for (at, second) in departures(Side::Upstream).into_iter().enumerate() {
        assert!(is_truncated(&over(second, REQUESTS), Side::Downstream), "departure {at}");
    }
    for (at, second) in departures(Side::Upstream).into_iter().enumerate() {
        assert!(over(second, RESPONSES).is_ok(), "departure {at}");
    }
    // What the server said last did not arrive.
    assert!(is_truncated(&over(reset(Side::Downstream), RESPONSES), Side::Downstream));
}

#[test]
fn a_reset_in_the_middle_is_a_failure_of_the_side_that_sent_it() {
    for (direction, side) in [(REQUESTS, Side::Downstream), (RESPONSES, Side::Upstream)] {
        let ControlFlow::Break(result) = settle(None, direction, reset(side), &Meter::default()) else {
            panic!("the session goes on");
        };
        assert!(matches!(fault(result, side), Some(LayerFault::System { .. })));
    }
}

#[test]
fn a_side_that_takes_no_more_is_heard_to_its_end_and_fails_unless_it_said_goodbye() {
    let over = |second| over(REQUESTS, reset(Side::Upstream), second, REQUESTS);
    let ends = [cut(Side::Upstream), DirectionEnd::Finished, reset(Side::Upstream), reset(Side::Downstream)];
    for second in ends {
        assert!(matches!(fault(over(second), Side::Upstream), Some(LayerFault::System { .. })));
    }
    assert!(over(DirectionEnd::Closed).is_ok());
    let told = over(alarmed(Side::Upstream));
    assert!(matches!(fault(told, Side::Upstream), Some(LayerFault::PeerAlert(_))));
}

/// What tokio lets a task do in one turn, each time with what one splice moves.
const TURN_BYTES_MAX: u64 = 128 * 64 * 1024;
/// What goes through while turns are counted.
const FLOOD_BYTES: u64 = 1 << 30;

#[tokio::test]
async fn a_fast_peer_does_not_keep_others_of_its_thread_waiting() {
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
    assert!(end.is_ok(), "{end:?}");
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
    let (down, mut up) = (
        narrow(HandshakeRole::Server, version, None).await,
        narrow(HandshakeRole::Client, version, None).await,
    );
    let mut client = down.far;
    let meter = Meter::default();
    let sides = ((down.receive, down.transmit), (up.receive, up.transmit));
    let (mut engine, pool) = (Plain::default(), Pool::default());
    let mut relay = pin!(relay(sides.0, sides.1, &mut engine, &pool, None, &meter, LIMIT));
    up.far.peer.writer().write_all(&[b'x'; 60_000]).unwrap();
    let mut wire = Vec::new();
    while up.far.peer.wants_write() {
        up.far.peer.write_tls(&mut wire).unwrap();
    }
    let mut unread = &wire[..];
    let (mut got, mut parts, mut active) = (Vec::new(), 0, meter.active());
    // Octets are counted when they come. While the client takes them, nothing more comes.
    while got.len() < 60_000 {
        if let Ok(count) = up.far.wire.try_write(unread) {
            unread = &unread[count..];
        }
        let before = meter.octets(RESPONSES);
        assert!(once(|cx| relay.as_mut().poll(cx)).await.is_none());
        if meter.octets(RESPONSES) == before && meter.active() != active {
            parts += 1;
        }
        active = meter.active();
        client.read_some(1000, &mut got);
        tokio::task::yield_now().await;
    }
    assert!(parts > 1, "{parts} parts were noticed");
}

type Relay<R, T, F> = fn(
    (R, T),
    (R, T),
    &'static mut dyn Engine,
    &'static Pool,
    Option<&'static Pipes>,
    &'static Meter,
    Duration,
) -> F;

fn future_bytes<R, T, F>(_: Relay<R, T, F>) -> usize {
    size_of::<F>()
}

/// Everything that a waiting session keeps in this process besides rustls' two kernel connections: both record layers
/// and the relay's own state. A change here is a decision.
#[test]
fn the_size_of_a_waiting_relay_is_pinned() {
    let bytes = future_bytes(relay::<Incoming, Outgoing>);
    assert!((1024..=RELAY_BYTES_MAX).contains(&bytes), "{bytes} octets");
}

/// 3,944 when this was written, 800 of them for the kernel's layer beside ours.
const RELAY_BYTES_MAX: usize = 4 * 1024;

const LIMIT: Duration = Duration::from_secs(2100);

#[tokio::test(start_paused = true)]
async fn a_session_in_which_nothing_moves_ends_after_the_idle_limit() {
    let began = Instant::now();
    let result = both(pin!(pending()), pin!(pending()), &(), &Meter::default(), LIMIT).await.result;
    assert!(is_idle(&result));
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
    let result = both(pin!(pending()), pin!(pushes), &(), &meter, LIMIT).await.result;
    assert!(is_idle(&result));
    assert_eq!(began.elapsed().as_secs(), 3 * LIMIT.as_secs() - 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_a_goodbye_is_not_waited_for_long() {
    let began = Instant::now();
    let meter = Meter::default();
    let goodbye = ready(DirectionEnd::Closed);
    assert!(both(pin!(goodbye), pin!(pending()), &(), &meter, LIMIT).await.result.is_ok());
    assert_eq!(began.elapsed().as_secs(), HALF_CLOSED.as_secs());
}
