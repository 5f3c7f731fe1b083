//! How a session ends: how each direction ended, and what follows from both. `failure.rs` lists the types.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::Meter;
use crate::failure::{Cause, Failure};
use crate::inspect::InspectRefusal;
use crate::layer::LayerFault;
use crate::policy::CutCause;
use crate::words::{Direction, Side};

/// After one direction has ended, the session ends when no octet moves in the other for this long. Peers that are done
/// close within a round trip. What a peer said before it stopped taking octets is here already.
pub(super) const HALF_CLOSED: Duration = Duration::from_secs(60);

/// How one direction ended.
#[derive(Debug)]
pub(super) enum DirectionEnd {
    /// The sender said `close_notify`.
    Closed,
    /// The sender's FIN without `close_notify`, and nothing is missing: the session is bypassed, or the server
    /// announced its end (`* BYE`).
    Finished,
    /// The FIN of this side, without `close_notify`: something may be missing.
    Truncated(Side),
    /// A side's socket or records failed.
    Failed(Side, LayerFault),
    /// The engine ended it.
    Refused(InspectRefusal),
}

impl DirectionEnd {
    /// Whether the receiver was told that nothing more comes.
    const fn is_passed_on(&self) -> bool {
        matches!(self, Self::Closed | Self::Finished | Self::Truncated(_))
    }
}

/// How a session ended.
pub(super) struct SessionEnd {
    pub(super) result: Result<(), Failure>,
    /// The side whose stream has not ended and which has not failed. Our end of its connection must not become a reset,
    /// which would destroy what this side was told last.
    pub(super) open: Option<Side>,
    /// Whether our half towards the client was ended: nothing more can be said to it.
    pub(super) is_said: bool,
}

/// What may end a session, whatever its peers and its engine do.
#[derive(Clone, Copy)]
pub struct SessionBounds<'a> {
    /// How long the session may go without an octet.
    pub idle: Duration,
    /// Whether it is cut.
    pub cut: &'a dyn CutNotice,
}

/// Sessions that nobody cuts.
impl From<Duration> for SessionBounds<'static> {
    fn from(idle: Duration) -> Self {
        Self { idle, cut: &() }
    }
}

/// Says that a session is cut.
pub trait CutNotice {
    /// Ready when the session must end.
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CutCause>;
}

/// Nobody cuts.
impl CutNotice for () {
    fn poll_cut(&self, _: &mut Context<'_>) -> Poll<CutCause> {
        Poll::Pending
    }
}

/// What moves a session besides its peers.
pub(super) trait SessionEvents {
    /// Ready when the session must end.
    fn poll_refusal(&self, cx: &mut Context<'_>) -> Poll<InspectRefusal>;

    /// When [`SessionEvents::poll_refusal`] must be called at the latest.
    fn wake_at(&self) -> Option<Instant>;

    /// Whether something changed since the last call that either direction must know.
    fn has_changed(&self) -> bool;
}

/// A session without an engine.
impl SessionEvents for () {
    fn poll_refusal(&self, _: &mut Context<'_>) -> Poll<InspectRefusal> {
        Poll::Pending
    }

    fn wake_at(&self) -> Option<Instant> {
        None
    }

    fn has_changed(&self) -> bool {
        false
    }
}

/// Run both directions in one task, and ask both again after each change, until nothing moves. The direction that ends
/// first decides how the session ended. Both are lent, because an argument of a future takes its room twice.
pub(super) async fn both(
    mut requests: Pin<&mut impl Future<Output = DirectionEnd>>,
    mut responses: Pin<&mut impl Future<Output = DirectionEnd>>,
    events: &impl SessionEvents,
    meter: &Meter,
    bounds: impl Into<SessionBounds<'_>>,
) -> SessionEnd {
    let SessionBounds { idle, cut } = bounds.into();
    let mut silence = pin!(sleep(idle));
    let mut limit = idle;
    let mut first = None;
    let (mut requests_done, mut responses_done) = (false, false);
    let mut is_said = false;
    std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(cause) = cut.poll_cut(cx) {
                let failure = Failure::downstream(Cause::CutByReload(cause));
                let open = Some(open_at_cut(first.as_ref()));
                return Poll::Ready(SessionEnd { result: Err(failure), open, is_said });
            }
            if let Poll::Ready(refusal) = events.poll_refusal(cx) {
                let open = still_open(first.as_ref(), &DirectionEnd::Refused(refusal));
                return Poll::Ready(SessionEnd { result: Err(refused(refusal)), open, is_said });
            }
            for (pump, done, direction) in [
                (
                    requests.as_mut() as Pin<&mut dyn Future<Output = DirectionEnd>>,
                    &mut requests_done,
                    Direction::ClientToServer,
                ),
                (responses.as_mut(), &mut responses_done, Direction::ServerToClient),
            ] {
                if *done {
                    continue;
                }
                let Poll::Ready(end) = pump.poll(cx) else { continue };
                *done = true;
                limit = HALF_CLOSED;
                silence.as_mut().reset(Instant::now() + HALF_CLOSED);
                is_said |= direction == Direction::ServerToClient && end.is_passed_on();
                let before = first.take();
                let open = still_open(before.as_ref(), &end);
                match settle(before, direction, end, meter) {
                    ControlFlow::Break(result) => return Poll::Ready(SessionEnd { result, open, is_said }),
                    ControlFlow::Continue(kept) => first = Some(kept),
                }
            }
            if events.has_changed() {
                continue;
            }
            match poll_silence(silence.as_mut(), meter, limit, events.wake_at(), cx) {
                Alarm::None => return Poll::Pending,
                Alarm::Engine => {}
                Alarm::Silence => {
                    let result = silent(first.take(), meter);
                    return Poll::Ready(SessionEnd { result, open: None, is_said });
                }
            }
        }
    })
    .await
}

/// Fold the end of one direction in: [`Break`](ControlFlow::Break) is the session's end, and
/// [`Continue`](ControlFlow::Continue) the end that is kept until the other direction has ended, too.
///
/// `Failed` is kept where a receiver takes nothing more: what that receiver sent before must still be read.
pub(super) fn settle(
    first: Option<DirectionEnd>,
    direction: Direction,
    end: DirectionEnd,
    meter: &Meter,
) -> ControlFlow<Result<(), Failure>, DirectionEnd> {
    use DirectionEnd::{Closed, Failed, Finished, Refused, Truncated};
    ControlFlow::Break(match (first, end) {
        // A forgery is a failure even after a goodbye.
        (_, Failed(side, fault)) if !is_departure(&fault) => Err(failed(side, fault)),
        (_, Refused(refusal)) | (Some(Refused(refusal)), _) => Err(refused(refusal)),
        (None, end @ (Closed | Finished | Truncated(_))) => return ControlFlow::Continue(end),
        (None, Failed(side, fault @ LayerFault::System { .. })) if side == direction.to() => {
            return ControlFlow::Continue(Failed(side, fault));
        }
        (None, Failed(side, fault)) => Err(failed(side, fault)),
        // A side that was told goodbye may leave in any way.
        (Some(Closed | Finished), _) => Ok(()),
        // The client had gone, and the server's last octets did not reach it.
        (Some(Truncated(Side::Downstream)), Failed(Side::Downstream, _)) => Err(truncated(Side::Downstream)),
        (Some(Truncated(side)), _) => cut(side, meter),
        // The side that takes nothing more had said goodbye before.
        (Some(Failed(..)), Closed) => Ok(()),
        // The alert says why that side takes nothing more.
        (Some(Failed(..)), Failed(side, fault @ LayerFault::PeerAlert(_))) => Err(failed(side, fault)),
        (Some(Failed(side, fault)), _) => Err(failed(side, fault)),
    })
}

const fn failed(side: Side, fault: LayerFault) -> Failure {
    Failure { side, cause: Cause::Layer(fault) }
}

const fn refused(refusal: InspectRefusal) -> Failure {
    Failure { side: refusal.side(), cause: Cause::Refused(refusal) }
}

const fn truncated(side: Side) -> Failure {
    Failure { side, cause: Cause::Truncated }
}

/// A stream ended without a goodbye. Clients often leave so after LOGOUT, or while no command is unanswered. A client
/// that sent the last octets was cut, or its server did not answer.
fn cut(side: Side, meter: &Meter) -> Result<(), Failure> {
    match (side, meter.spoke_last()) {
        (Side::Downstream, None | Some(Direction::ServerToClient)) => Ok(()),
        _ => Err(truncated(side)),
    }
}

/// No octet moved for the limit. A peer that never answers a goodbye does not make a clean end a failure.
fn silent(first: Option<DirectionEnd>, meter: &Meter) -> Result<(), Failure> {
    match first {
        None => Err(Failure::downstream(Cause::Idle)),
        Some(DirectionEnd::Closed | DirectionEnd::Finished) => Ok(()),
        Some(DirectionEnd::Truncated(side)) => cut(side, meter),
        Some(DirectionEnd::Failed(side, fault)) => Err(failed(side, fault)),
        Some(DirectionEnd::Refused(refusal)) => Err(refused(refusal)),
    }
}

/// Whether the fault is a way to leave: a reset or a broken socket, or an alert about a missing `close_notify`.
const fn is_departure(fault: &LayerFault) -> bool {
    matches!(fault, LayerFault::System { .. } | LayerFault::PeerAlert(_))
}

/// See [`SessionEnd::open`]; `first` is how the other direction ended, if it has. A refusal is told to the client, whatever
/// caused it.
const fn still_open(first: Option<&DirectionEnd>, end: &DirectionEnd) -> Option<Side> {
    match (first, end) {
        (Some(DirectionEnd::Failed(side, _)), _) | (None, DirectionEnd::Failed(side, _)) => {
            Some(side.other())
        }
        (_, DirectionEnd::Refused(_)) => Some(Side::Downstream),
        _ => None,
    }
}

/// The side that is left open where a session is cut: the client is told, unless it has failed. `first` is how a direction has
/// ended, if one has.
const fn open_at_cut(first: Option<&DirectionEnd>) -> Side {
    match first {
        Some(DirectionEnd::Failed(side, _)) => side.other(),
        _ => Side::Downstream,
    }
}

/// What the session's timer says.
enum Alarm {
    None,
    /// The moment that the engine waits for has come.
    Engine,
    /// Nothing moved for the limit.
    Silence,
}

/// Whether nothing moved for `limit`, or `wake_at` has come. The timer is moved when it fires, not at every octet, and
/// when the engine wants to be woken earlier.
fn poll_silence(
    mut silence: Pin<&mut Sleep>,
    meter: &Meter,
    limit: Duration,
    wake_at: Option<Instant>,
    cx: &mut Context<'_>,
) -> Alarm {
    if let Some(at) = wake_at.filter(|at| *at < silence.deadline()) {
        silence.as_mut().reset(at);
    }
    while silence.as_mut().poll(cx).is_ready() {
        let (due, now) = (meter.active() + limit, Instant::now());
        let next = wake_at.map_or(due, |at| at.min(due));
        silence.as_mut().reset(next);
        if due <= now {
            return Alarm::Silence;
        }
        if next <= now {
            return Alarm::Engine;
        }
    }
    Alarm::None
}
