//! The loop around an engine that does as a test says.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rustls::version::TLS13;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::handshake::say_goodbye;
use crate::inspect::{InspectRefusal, Next, Want};
use crate::layer::far::{Far, Pair, sharing};

/// The bound, on a loaded machine, on what takes no time elsewhere.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for what must not happen to happen.
const PAUSE: Duration = Duration::from_millis(30);

/// What goes to a side.
#[derive(Clone, Debug)]
enum Piece {
    Pass(usize),
    Skip(usize),
    Own(Vec<u8>),
}

use Piece::{Own, Pass, Skip};

/// What the engine does with what a side said.
type React = fn(&mut State, Side, &[u8]) -> Result<(), InspectRefusal>;

/// The engine's state, which the test changes beside the relay.
struct State {
    react: React,
    to_client: VecDeque<Piece>,
    to_server: VecDeque<Piece>,
    wants_client: Want,
    wants_server: Want,
    taken: usize,
    holds: bool,
    is_at_boundary: bool,
    is_over: bool,
    /// What happens, and who waits for it.
    event: Option<Result<(), InspectRefusal>>,
    waker: Option<Waker>,
    wake_at: Option<std::time::Instant>,
}

impl State {
    fn to(&mut self, side: Side) -> &mut VecDeque<Piece> {
        match side {
            Side::Downstream => &mut self.to_client,
            Side::Upstream => &mut self.to_server,
        }
    }

    fn happens(&mut self, event: Result<(), InspectRefusal>) {
        self.event = Some(event);
        self.waker.take().unwrap().wake();
    }
}

struct Script(Rc<RefCell<State>>);

impl Script {
    fn new(react: React) -> (Self, Rc<RefCell<State>>) {
        let state = Rc::new(RefCell::new(State {
            react,
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            wants_client: Want::Octets,
            wants_server: Want::Octets,
            taken: 0,
            holds: false,
            is_at_boundary: true,
            is_over: false,
            event: None,
            waker: None,
            wake_at: None,
        }));
        (Self(Rc::clone(&state)), state)
    }
}

impl Engine for Script {
    fn take(&mut self, from: Side, batch: &Batch) -> Result<(), InspectRefusal> {
        assert_ne!(self.wants(from), Want::Nothing, "octets that are not wanted");
        let mut state = self.0.borrow_mut();
        assert!(state.to(from.other()).is_empty(), "what goes on goes first");
        let octets: Vec<u8> = batch.plaintext().flatten().copied().collect();
        state.taken += octets.len();
        (state.react)(&mut state, from, &octets)
    }

    fn next(&mut self, to: Side) -> Next {
        let mut state = self.0.borrow_mut();
        match state.to(to).front() {
            None => Next::Nothing,
            Some(Own(_)) => Next::Own,
            Some(Pass(octets)) => {
                let octets = *octets;
                state.to(to).pop_front();
                Next::Pass(octets)
            }
            Some(Skip(octets)) => {
                let octets = *octets;
                state.to(to).pop_front();
                Next::Skip(octets)
            }
        }
    }

    fn fill(&mut self, to: Side, room: &mut [u8]) -> usize {
        let mut state = self.0.borrow_mut();
        let Some(Own(octets)) = state.to(to).front_mut() else { panic!("nothing to fill with") };
        let count = octets.len().min(room.len());
        room[..count].copy_from_slice(&octets[..count]);
        octets.drain(..count);
        if octets.is_empty() {
            state.to(to).pop_front();
        }
        count
    }

    fn wants(&self, from: Side) -> Want {
        let state = self.0.borrow();
        match from {
            Side::Downstream => state.wants_client,
            Side::Upstream => state.wants_server,
        }
    }

    fn ended(&mut self, _: Side, _: StreamEnd) -> Result<(), InspectRefusal> {
        Ok(())
    }

    fn is_drained(&self, _: Side) -> bool {
        !self.0.borrow().holds
    }

    fn is_announced(&self, _: Side) -> bool {
        self.0.borrow().is_over
    }

    fn is_over(&self) -> bool {
        self.0.borrow().is_over
    }

    fn is_at_boundary(&self, _: Side) -> bool {
        self.0.borrow().is_at_boundary
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), InspectRefusal>> {
        let mut state = self.0.borrow_mut();
        match state.event.take() {
            Some(event) => Poll::Ready(event),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn wake_at(&self) -> Option<std::time::Instant> {
        self.0.borrow().wake_at
    }

    fn tick(&mut self, now: std::time::Instant) -> Result<(), InspectRefusal> {
        let mut state = self.0.borrow_mut();
        assert!(state.wake_at.take().is_some_and(|at| at <= now), "too early");
        state.to_client.push_back(Own(b"tick".to_vec()));
        Ok(())
    }
}

fn passes(state: &mut State, from: Side, octets: &[u8]) -> Result<(), InspectRefusal> {
    state.to(from.other()).push_back(Pass(octets.len()));
    Ok(())
}

/// Our part of a session.
struct Ours {
    down: (Incoming, Outgoing),
    up: (Incoming, Outgoing),
    pool: Pool,
    meter: Meter,
}

/// The peers of a session.
struct Peers {
    client: Far,
    server: Far,
}

async fn session() -> (Ours, Peers) {
    let pool = Pool::default();
    let down = sharing(&pool, HandshakeRole::Server, &TLS13, None).await;
    between(down, pool).await
}

async fn session_with_a_slow_client() -> (Ours, Peers) {
    between(narrow(HandshakeRole::Server, &TLS13, None).await, Pool::default()).await
}

async fn between(down: Pair, pool: Pool) -> (Ours, Peers) {
    let up = sharing(&pool, HandshakeRole::Client, &TLS13, None).await;
    let (down_halves, up_halves) = ((down.receive, down.transmit), (up.receive, up.transmit));
    let ours = Ours { down: down_halves, up: up_halves, pool, meter: Meter::default() };
    (ours, Peers { client: down.far, server: up.far })
}

impl Ours {
    /// Relay to the session's end.
    async fn relay(&mut self, engine: &mut Script) -> Relayed {
        let Self { down, up, pool, meter } = self;
        let (down, up) = ((&mut down.0, &mut down.1), (&mut up.0, &mut up.1));
        relay(down, up, engine, pool, None, meter, LIMIT).await
    }

    /// Relay while the peers do this, which the session must survive.
    async fn during<T>(&mut self, engine: &mut Script, act: impl Future<Output = T>) -> T {
        let within = async {
            tokio::select! {
                end = self.relay(engine) => panic!("the session ended: {end:?}"),
                done = act => done,
            }
        };
        timeout(PATIENCE, within).await.expect("what must happen happens")
    }

    /// Relay to the session's end while the peers do this.
    async fn until_its_end<T>(&mut self, engine: &mut Script, act: impl Future<Output = T>) -> (Relayed, T) {
        let both = async { tokio::join!(self.relay(engine), act) };
        timeout(PATIENCE, both).await.expect("the session ends")
    }
}

async fn say(far: &mut Far, octets: &[u8]) {
    far.peer.set_buffer_limit(None);
    far.peer.writer().write_all(octets).unwrap();
    flush(far).await;
}

async fn flush(far: &mut Far) {
    let mut wire = Vec::new();
    while far.peer.wants_write() {
        far.peer.write_tls(&mut wire).unwrap();
    }
    far.wire.write_all(&wire).await.unwrap();
}

/// Read to the end; whether `close_notify` came before it.
async fn to_end(far: &mut Far) -> (Vec<u8>, bool) {
    let (mut got, mut room) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        let count = tokio::io::AsyncReadExt::read(&mut far.wire, &mut room).await.unwrap();
        let mut unread = &room[..count];
        loop {
            far.peer.read_tls(&mut unread).unwrap();
            let state = far.peer.process_new_packets().unwrap();
            let start = got.len();
            got.resize(start + state.plaintext_bytes_to_read(), 0);
            far.peer.reader().read_exact(&mut got[start..]).unwrap();
            if state.peer_has_closed() {
                return (got, true);
            }
            if unread.is_empty() {
                break;
            }
        }
        if count == 0 {
            return (got, false);
        }
    }
}

fn body(octets: usize) -> Vec<u8> {
    (0..octets).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn octets_pass_are_left_out_and_have_words_between_them() {
    let (mut ours, mut peers) = session().await;
    let (mut engine, _) = Script::new(|state, from, octets| {
        assert_eq!(octets, b"one two three four");
        let own = |octets: &[u8]| Own(octets.to_vec());
        // The last word is not spoken of, and so left out.
        let pieces = [own(b"<"), Pass(4), Skip(4), own(b"2 "), own(b"and "), Pass(5), own(b">")];
        state.to(from.other()).extend(pieces);
        Ok(())
    });
    ours.during(&mut engine, async {
        say(&mut peers.server, b"one two three four").await;
        assert_eq!(peers.client.read(17).await, b"<one 2 and three>");
        say(&mut peers.client, b"one two three four").await;
        assert_eq!(peers.server.read(17).await, b"<one 2 and three>");
    })
    .await;
    // What the peers sent is counted, whatever became of it.
    assert_eq!((ours.meter.octets(REQUESTS), ours.meter.octets(RESPONSES)), (18, 18));
    assert_eq!((ours.meter.held(REQUESTS), ours.meter.spliced(RESPONSES)), (18, 0));
}

#[tokio::test]
async fn much_of_our_own_reaches_a_slow_reader_whole_and_a_waiting_session_holds_no_buffer() {
    let (mut ours, mut peers) = session_with_a_slow_client().await;
    let held = body(1 << 20);
    let (mut engine, state) = Script::new(|_, _, _| Ok(()));
    let pool = ours.pool.clone();
    pool.limit(1);
    ours.during(&mut engine, async {
        say(&mut peers.server, b"held").await;
        sleep(PAUSE).await;
        state.borrow_mut().to_client.push_back(Own(held.clone()));
        state.borrow_mut().happens(Ok(()));
        assert!(peers.client.read(held.len()).await == held);
        sleep(PAUSE).await;
        assert_eq!(pool.free(), 1, "every buffer came back");
        assert!(pool.lend_now(&mut Batch::default()), "and nobody waits for one");
    })
    .await;
}

#[tokio::test]
async fn a_direction_that_holds_a_buffer_waits_for_no_other() {
    let (mut ours, mut peers) = session().await;
    let (mut engine, state) = Script::new(|state, _, _| {
        state.to_client.push_back(Own(body(100_000)));
        Ok(())
    });
    ours.pool.limit(1);
    ours.during(&mut engine, async {
        // A record and a half: the half keeps the buffer where this process opens records.
        let (mut wire, mut cut) = (Vec::new(), Vec::new());
        for (octets, into) in [(b"whole", &mut wire), (b"later", &mut cut)] {
            peers.server.peer.writer().write_all(octets).unwrap();
            while peers.server.peer.wants_write() {
                peers.server.peer.write_tls(into).unwrap();
            }
        }
        wire.extend(&cut[..cut.len() / 2]);
        peers.server.wire.write_all(&wire).await.unwrap();
        assert!(peers.client.read(100_000).await == body(100_000));
        peers.server.wire.write_all(&cut[cut.len() / 2..]).await.unwrap();
        assert!(peers.client.read(100_000).await == body(100_000));
        assert_eq!(state.borrow().taken, 10);
    })
    .await;
}

#[tokio::test]
async fn a_side_that_is_not_wanted_is_not_read_until_it_is_again() {
    let (mut ours, mut peers) = session().await;
    let (mut engine, state) = Script::new(passes);
    state.borrow_mut().wants_server = Want::Nothing;
    let pool = ours.pool.clone();
    ours.during(&mut engine, async {
        say(&mut peers.server, b"mail").await;
        sleep(PAUSE).await;
        assert_eq!((state.borrow().taken, pool.free()), (0, 0), "no buffer was needed");
        // The other direction goes on meanwhile.
        say(&mut peers.client, b"line").await;
        assert_eq!(peers.server.read(4).await, b"line");
        state.borrow_mut().wants_server = Want::Octets;
        state.borrow_mut().happens(Ok(()));
        assert_eq!(peers.client.read(4).await, b"mail");
    })
    .await;
}

#[tokio::test]
async fn what_one_side_says_frees_octets_of_the_other_at_once() {
    for freeing in [Side::Upstream, Side::Downstream] {
        let (mut ours, mut peers) = session().await;
        let (mut engine, state) = Script::new(|state, from, octets| {
            state.to(from.other()).push_back(Pass(octets.len()));
            // The side that speaks first is read again when the other one has spoken.
            match (from, state.wants_client, state.wants_server) {
                (Side::Downstream, Want::Octets, Want::Octets) => state.wants_client = Want::Nothing,
                (Side::Upstream, Want::Octets, Want::Octets) => state.wants_server = Want::Nothing,
                _ => (state.wants_client, state.wants_server) = (Want::Octets, Want::Octets),
            }
            Ok(())
        });
        let Peers { client, server } = &mut peers;
        let (first, second) = if freeing == Side::Upstream { (client, server) } else { (server, client) };
        ours.during(&mut engine, async {
            say(first, b"one").await;
            assert_eq!(second.read(3).await, b"one");
            say(first, b"two").await;
            sleep(PAUSE).await;
            assert_eq!(state.borrow().taken, 3, "it waits");
            say(second, b"completed").await;
            assert_eq!(first.read(9).await, b"completed");
            assert_eq!(second.read(3).await, b"two");
        })
        .await;
    }
}

#[tokio::test]
async fn what_was_freed_goes_on_in_the_same_turn() {
    let (mut ours, mut peers) = session().await;
    let (mut engine, state) = Script::new(|state, from, octets| {
        state.to(from.other()).push_back(Pass(octets.len()));
        state.wants_client = if from == Side::Upstream { Want::Octets } else { Want::Nothing };
        Ok(())
    });
    state.borrow_mut().wants_client = Want::Nothing;
    say(&mut peers.client, b"waits").await;
    let mut relay = pin!(ours.relay(&mut engine));
    for _ in 0..3 {
        assert!(once(|cx| relay.as_mut().poll(cx)).await.is_none());
        sleep(PAUSE).await;
    }
    say(&mut peers.server, b"completed").await;
    while state.borrow().taken == 0 {
        assert!(once(|cx| relay.as_mut().poll(cx)).await.is_none());
        let taken = state.borrow().taken;
        assert!([0, 14].contains(&taken), "{taken}: another octet or event would be needed");
        tokio::task::yield_now().await;
    }
    assert_eq!(peers.server.read(5).await, b"waits");
}

#[tokio::test]
async fn words_for_the_side_that_spoke_last_need_no_octet_of_the_other() {
    let (mut ours, mut peers) = session().await;
    let (mut engine, _) = Script::new(|state, from, _| {
        state.to(from).push_back(Own(b"no".to_vec()));
        Ok(())
    });
    let (end, ()) = ours
        .until_its_end(&mut engine, async {
            say(&mut peers.client, b"what").await;
            assert_eq!(peers.client.read(2).await, b"no");
            // The client was answered, so that its leaving is none in the middle of a command.
            peers.client.wire.shutdown().await.unwrap();
            assert_eq!(to_end(&mut peers.server).await, (Vec::new(), false));
            peers.server.wire.shutdown().await.unwrap();
        })
        .await;
    assert!(end.result.is_ok(), "{end:?}");
    assert_eq!(ours.meter.octets(RESPONSES), 0, "words of our own are not the server's");
}

#[tokio::test]
async fn a_verdict_wakes_the_session() {
    let (mut ours, mut peers) = session().await;
    let (mut engine, state) = Script::new(|_, _, _| Ok(()));
    ours.during(&mut engine, async {
        say(&mut peers.server, b"held").await;
        sleep(PAUSE).await;
        state.borrow_mut().to_client.push_back(Own(b"held".to_vec()));
        state.borrow_mut().happens(Ok(()));
        assert_eq!(peers.client.read(4).await, b"held");
    })
    .await;
}

#[tokio::test]
async fn the_engine_is_told_when_its_moment_has_come_however_often() {
    let (mut ours, mut peers) = session().await;
    let (mut engine, state) = Script::new(passes);
    ours.during(&mut engine, async {
        for _ in 0..3 {
            let begun = std::time::Instant::now();
            state.borrow_mut().wake_at = Some(begun + PAUSE);
            // An octet of a peer's brings the loop to look.
            say(&mut peers.client, b"x").await;
            assert_eq!(peers.client.read(4).await, b"tick");
            assert!(begun.elapsed() >= PAUSE);
        }
    })
    .await;
}

#[tokio::test]
async fn a_refusal_between_two_responses_leaves_the_client_to_be_told_why() {
    for by_event in [false, true] {
        let (mut ours, mut peers) = session().await;
        let (mut engine, state) = Script::new(|state, from, octets| match octets {
            b"bad" => Err(InspectRefusal::Http),
            _ => passes(state, from, octets),
        });
        let (end, ()) = ours
            .until_its_end(&mut engine, async {
                say(&mut peers.server, b"hello").await;
                assert_eq!(peers.client.read(5).await, b"hello");
                if by_event {
                    state.borrow_mut().happens(Err(InspectRefusal::Http));
                } else {
                    say(&mut peers.server, b"bad").await;
                }
            })
            .await;
        assert!(end.may_tell, "{end:?}");
        // Whoever brought it, the refusal names the side.
        let refused = |failure: &Failure| {
            matches!(failure.cause, Cause::Refused(InspectRefusal::Http)) && failure.side == Side::Downstream
        };
        assert!(end.result.as_ref().is_err_and(refused), "{end:?}");
        let (receive, transmit) = &mut ours.down;
        let telling = say_goodbye(receive, transmit, b"* BYE why\r\n");
        let hearing = async {
            let heard = to_end(&mut peers.client).await;
            peers.client.wire.shutdown().await.unwrap();
            heard
        };
        let ((), (heard, closed)) = tokio::join!(telling, hearing);
        assert_eq!((heard.as_slice(), closed), (&b"* BYE why\r\n"[..], true));
    }
}

/// A server's forged record, behind mail that was passed.
async fn forged(is_at_boundary: bool) -> (Relayed, Ours, Peers) {
    let (mut ours, mut peers) = session().await;
    let (mut engine, state) = Script::new(passes);
    state.borrow_mut().is_at_boundary = is_at_boundary;
    let (end, ()) = ours
        .until_its_end(&mut engine, async {
            say(&mut peers.server, b"{9}\r\nhalf").await;
            assert_eq!(peers.client.read(9).await, b"{9}\r\nhalf");
            let forged = [&[23, 3, 3, 0, 40][..], &[0; 40]].concat();
            peers.server.wire.write_all(&forged).await.unwrap();
            if !is_at_boundary {
                assert_eq!(to_end(&mut peers.client).await, (Vec::new(), false), "without close_notify");
                peers.client.wire.shutdown().await.unwrap();
            }
        })
        .await;
    (end, ours, peers)
}

#[tokio::test]
async fn inside_a_literal_the_client_is_cut_and_between_responses_it_may_be_told() {
    for is_at_boundary in [false, true] {
        let (end, _ours, _peers) = forged(is_at_boundary).await;
        assert!(matches!(fault(end.result, Side::Upstream), Some(LayerFault::BadRecord)));
        assert_eq!(end.may_tell, is_at_boundary);
    }
}

#[tokio::test]
async fn a_client_that_has_half_of_what_goes_to_it_is_told_nothing() {
    let (mut ours, mut peers) = session_with_a_slow_client().await;
    for from_engine in [true, false] {
        let (mut engine, state) = if from_engine {
            Script::new(|state, _, octets| {
                state.to_client.push_back(Own(body(octets.len())));
                Ok(())
            })
        } else {
            Script::new(passes)
        };
        let (end, ()) = ours
            .until_its_end(&mut engine, async {
                say(&mut peers.server, &body(60_000)).await;
                sleep(PAUSE).await;
                assert!(state.borrow().taken > 0);
                state.borrow_mut().happens(Err(InspectRefusal::Http));
                let (got, closed) = to_end(&mut peers.client).await;
                // The record that was begun is whole.
                assert!(!got.is_empty() && got == body(got.len()));
                assert!(closed, "who speaks HTTP takes nothing for mail");
                peers.client.wire.shutdown().await.unwrap();
            })
            .await;
        assert!(!end.may_tell, "{end:?}");
        (ours, peers) = session_with_a_slow_client().await;
    }
}

#[tokio::test]
async fn what_is_held_goes_on_before_the_end_does() {
    for closed in [true, false] {
        let (mut ours, mut peers) = session().await;
        let (mut engine, state) = Script::new(|state, _, _| {
            state.holds = true;
            Ok(())
        });
        let (end, ()) = ours
            .until_its_end(&mut engine, async {
                peers.server.peer.writer().write_all(b"held").unwrap();
                if closed {
                    peers.server.peer.send_close_notify();
                }
                flush(&mut peers.server).await;
                peers.server.wire.shutdown().await.unwrap();
                sleep(PAUSE).await;
                let mut early = Vec::new();
                peers.client.read_some(1_000, &mut early);
                assert!(early.is_empty(), "not judged yet");
                state.borrow_mut().to_client.push_back(Own(b"held".to_vec()));
                state.borrow_mut().holds = false;
                state.borrow_mut().happens(Ok(()));
                assert_eq!(to_end(&mut peers.client).await, (b"held".to_vec(), closed));
                peers.client.wire.shutdown().await.unwrap();
            })
            .await;
        assert_eq!(end.result.is_ok(), closed, "{end:?}");
        assert!(!end.may_tell, "it was told already");
    }
}

#[tokio::test]
async fn a_session_that_has_had_its_turn_hears_no_event_before_the_next() {
    let (mut ours, _peers) = session().await;
    let (mut engine, state) = Script::new(passes);
    let mut relay = pin!(ours.relay(&mut engine));
    for _ in 0..3 {
        assert!(once(|cx| relay.as_mut().poll(cx)).await.is_none());
        state.borrow_mut().happens(Ok(()));
        spend_turn().await;
        assert!(once(|cx| relay.as_mut().poll(cx)).await.is_none());
        assert!(state.borrow().event.is_some(), "others wait");
        tokio::task::yield_now().await;
        assert!(once(|cx| relay.as_mut().poll(cx)).await.is_none());
        assert!(state.borrow().event.is_none());
    }
}

#[tokio::test]
async fn a_peer_may_leave_by_a_reset_when_the_session_is_over_and_not_before() {
    let cases = [(true, Side::Downstream), (true, Side::Upstream), (false, Side::Downstream)];
    for (over, side) in cases {
        let (mut ours, mut peers) = session().await;
        let (mut engine, state) = Script::new(passes);
        let (end, ()) = ours
            .until_its_end(&mut engine, async {
                state.borrow_mut().is_over = over;
                let (leaves, stays) = match side {
                    Side::Downstream => (peers.client, &mut peers.server),
                    Side::Upstream => (peers.server, &mut peers.client),
                };
                socket2::SockRef::from(&leaves.wire).set_linger(Some(Duration::ZERO)).unwrap();
                drop(leaves);
                to_end(stays).await;
                stays.wire.shutdown().await.unwrap();
            })
            .await;
        assert_eq!(end.result.is_ok(), over, "{side}: {end:?}");
    }
}
