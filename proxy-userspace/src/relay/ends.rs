//! How a session ends: how each direction ended, and what follows from both. [`crate::failure`] lists the types.

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
use crate::words::{Direction, Side};

/// After one direction has ended, no octet may move for this long in the other: peers that are done close within a
/// round trip, and what a peer that takes no more has said before is there already.
pub(super) const HALF_CLOSED: Duration = Duration::from_secs(60);

/// How one direction ended.
#[derive(Debug)]
pub(super) enum DirectionEnd {
    /// The sender said `close_notify`.
    Closed,
    /// The sender's FIN without `close_notify`, and nothing is missing: nobody looks above TCP, or the server announced
    /// it (`* BYE`).
    Finished,
    /// The FIN of this side, without `close_notify`: something may be missing.
    Truncated(Side),
    /// A side's socket or records failed.
    Failed(Side, LayerFault),
    /// An inspector ended it.
    Refused(InspectRefusal),
}

/// How a session ended.
pub(super) struct SessionEnd {
    pub(super) result: Result<(), Failure>,
    /// The side whose stream has not ended, and which failed in nothing. Our own end of its connection must not become
    /// a reset, which would destroy what it was told last.
    pub(super) open: Option<Side>,
}

/// Both directions in one task. What ends first decides how the session ended.
pub(super) async fn both(
    requests: impl Future<Output = DirectionEnd>,
    responses: impl Future<Output = DirectionEnd>,
    meter: &Meter,
    idle: Duration,
) -> SessionEnd {
    let mut requests = pin!(requests);
    let mut responses = pin!(responses);
    let mut silence = pin!(sleep(idle));
    let mut limit = idle;
    let mut first = None;
    let (mut requests_done, mut responses_done) = (false, false);
    std::future::poll_fn(|cx| {
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
            let before = first.take();
            let open = still_open(before.as_ref(), direction, &end);
            match settle(before, direction, end, meter) {
                ControlFlow::Break(result) => return Poll::Ready(SessionEnd { result, open }),
                ControlFlow::Continue(kept) => first = Some(kept),
            }
        }
        match poll_silence(silence.as_mut(), meter, limit, cx) {
            Poll::Ready(()) => Poll::Ready(SessionEnd { result: silent(first.take(), meter), open: None }),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Fold the end of one direction in: [`Break`](ControlFlow::Break) is the session's end, and
/// [`Continue`](ControlFlow::Continue) the end that is kept until the other direction has ended, too.
///
/// `Failed` is kept where a receiver takes nothing more: what that side has said before is still to be heard.
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
        // Whoever was told goodbye may go as it likes.
        (Some(Closed | Finished), _) => Ok(()),
        // What the server had still to say did not reach the client, which had gone.
        (Some(Truncated(Side::Downstream)), Failed(Side::Downstream, _)) => Err(truncated(Side::Downstream)),
        (Some(Truncated(side)), _) => cut(side, meter),
        // It said goodbye before it took nothing more.
        (Some(Failed(..)), Closed) => Ok(()),
        // It said why.
        (Some(Failed(..)), Failed(side, fault @ LayerFault::PeerAlert(_))) => Err(failed(side, fault)),
        (Some(Failed(side, fault)), _) => Err(failed(side, fault)),
    })
}

const fn failed(side: Side, fault: LayerFault) -> Failure {
    Failure { side, cause: Cause::Layer(fault) }
}

const fn refused(refusal: InspectRefusal) -> Failure {
    Failure::downstream(Cause::Refused(refusal))
}

const fn truncated(side: Side) -> Failure {
    Failure { side, cause: Cause::Truncated }
}

/// A stream ended without a goodbye. Clients often leave so after LOGOUT, or while nothing is asked; a client that spoke
/// last was cut, or its server did not answer.
fn cut(side: Side, meter: &Meter) -> Result<(), Failure> {
    match (side, meter.spoke_last()) {
        (Side::Downstream, None | Some(Direction::ServerToClient)) => Ok(()),
        _ => Err(truncated(side)),
    }
}

/// Nothing moved. A peer that never answers a goodbye does not make a clean end unclean.
fn silent(first: Option<DirectionEnd>, meter: &Meter) -> Result<(), Failure> {
    match first {
        None => Err(Failure::downstream(Cause::Idle)),
        Some(DirectionEnd::Closed | DirectionEnd::Finished) => Ok(()),
        Some(DirectionEnd::Truncated(side)) => cut(side, meter),
        Some(DirectionEnd::Failed(side, fault)) => Err(failed(side, fault)),
        Some(DirectionEnd::Refused(refusal)) => Err(refused(refusal)),
    }
}

/// What a peer does when it goes, as it may: close, reset, or complain by an alert that it was not told goodbye.
const fn is_departure(fault: &LayerFault) -> bool {
    matches!(fault, LayerFault::System { .. } | LayerFault::PeerAlert(_))
}

/// See [`SessionEnd::open`]; `first` is how the other direction ended, if it has.
fn still_open(first: Option<&DirectionEnd>, direction: Direction, end: &DirectionEnd) -> Option<Side> {
    match (first, end) {
        (Some(DirectionEnd::Failed(side, _)), _) => Some(side.other()),
        (_, DirectionEnd::Refused(_)) => Some(direction.from()),
        (None, DirectionEnd::Failed(side, _)) => Some(side.other()),
        _ => None,
    }
}

/// Ready when nothing moved for `limit`. The timer is moved only when it fires, not at every octet.
fn poll_silence(
    mut silence: Pin<&mut Sleep>,
    meter: &Meter,
    limit: Duration,
    cx: &mut Context<'_>,
) -> Poll<()> {
    while silence.as_mut().poll(cx).is_ready() {
        let due = meter.active() + limit;
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        silence.as_mut().reset(due);
    }
    Poll::Pending
}
