//! How a session ends: what each direction came to, and what follows from both.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::{End, Meter};
use crate::inspect::InspectRefusal;
use crate::layer::LayerFault;
use crate::words::{Direction, Side};

/// After one direction has ended, no octet may move for this long in the other: peers that are done close within a
/// round trip, and what a peer that takes no more has said before is there already.
pub(super) const HALF_CLOSED: Duration = Duration::from_secs(60);

/// How one direction ended.
pub(super) enum PumpEnd {
    /// The sender said `close_notify`.
    Closed,
    /// The sender's FIN, where nobody looks above TCP.
    Finished,
    /// The sender's FIN without `close_notify`; a server may have announced it (`* BYE`).
    Truncated { announced: bool },
    /// A side's socket or records failed.
    Failed(Side, LayerFault),
    /// An inspector ended it.
    Refused(InspectRefusal),
}

/// How the direction that ended first ended, where the other may go on.
pub(super) enum First {
    /// Its sender was done.
    Done,
    /// Its sender's stream ended without a goodbye.
    Cut(Side),
    /// Its receiver takes nothing more; what the receiver has said before is still to be heard.
    Unheard(Side, LayerFault),
}

/// How a session ended.
pub(super) struct Ends {
    pub(super) end: End,
    /// The side whose stream has not ended, and which failed in nothing. Our own end of its connection must not become
    /// a reset, which would destroy what it was told last.
    pub(super) open: Option<Side>,
}

/// Both directions in one task. What ends first decides how the session ended.
pub(super) async fn both(
    requests: impl Future<Output = PumpEnd>,
    responses: impl Future<Output = PumpEnd>,
    meter: &Meter,
    idle: Duration,
) -> Ends {
    let mut requests = pin!(requests);
    let mut responses = pin!(responses);
    let mut silence = pin!(sleep(idle));
    let mut limit = idle;
    let mut first = None;
    let (mut requests_done, mut responses_done) = (false, false);
    std::future::poll_fn(|cx| {
        for (pump, done, direction) in [
            (
                requests.as_mut() as Pin<&mut dyn Future<Output = PumpEnd>>,
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
                Ok(end) => return Poll::Ready(Ends { end, open }),
                Err(kept) => first = Some(kept),
            }
        }
        match poll_silence(silence.as_mut(), meter, limit, cx) {
            Poll::Ready(()) => Poll::Ready(Ends { end: silent(first.take(), meter), open: None }),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Fold the end of one direction in: the session's end, or what is kept until the other direction has ended.
pub(super) fn settle(
    first: Option<First>,
    direction: Direction,
    end: PumpEnd,
    meter: &Meter,
) -> Result<End, First> {
    match (first, end) {
        // A forgery is a failure even after a goodbye.
        (_, PumpEnd::Failed(side, fault)) if !is_departure(&fault) => Ok(End::Failed(side, fault)),
        (_, PumpEnd::Refused(refusal)) => Ok(End::Refused(refusal)),
        (None, PumpEnd::Closed | PumpEnd::Finished | PumpEnd::Truncated { announced: true }) => {
            Err(First::Done)
        }
        (None, PumpEnd::Truncated { announced: false }) => Err(First::Cut(direction.from())),
        (None, PumpEnd::Failed(side, fault @ LayerFault::System { .. })) if side == direction.to() => {
            Err(First::Unheard(side, fault))
        }
        (None, PumpEnd::Failed(side, fault)) => Ok(End::Failed(side, fault)),
        // Whoever was told goodbye may go as it likes.
        (Some(First::Done), _) => Ok(End::Closed),
        // What the server had still to say did not reach the client, which had gone.
        (Some(First::Cut(Side::Downstream)), PumpEnd::Failed(Side::Downstream, _)) => {
            Ok(End::Truncated(Side::Downstream))
        }
        (Some(First::Cut(side)), _) => Ok(cut(side, meter)),
        // It said goodbye before it took nothing more.
        (Some(First::Unheard(..)), PumpEnd::Closed) => Ok(End::Closed),
        // It said why.
        (Some(First::Unheard(..)), PumpEnd::Failed(side, fault @ LayerFault::PeerAlert(_))) => {
            Ok(End::Failed(side, fault))
        }
        (Some(First::Unheard(side, fault)), _) => Ok(End::Failed(side, fault)),
    }
}

/// A stream ended without a goodbye. Clients often leave so after LOGOUT, or while nothing is asked; a client that spoke
/// last was cut, or its server did not answer.
fn cut(side: Side, meter: &Meter) -> End {
    match (side, meter.spoke_last()) {
        (Side::Downstream, None | Some(Direction::ServerToClient)) => End::Closed,
        _ => End::Truncated(side),
    }
}

/// Nothing moved. A peer that never answers a goodbye does not make a clean end unclean.
fn silent(first: Option<First>, meter: &Meter) -> End {
    match first {
        None => End::Idle,
        Some(First::Done) => End::Closed,
        Some(First::Cut(side)) => cut(side, meter),
        Some(First::Unheard(side, fault)) => End::Failed(side, fault),
    }
}

/// What a peer does when it goes, as it may: close, reset, or complain by an alert that it was not told goodbye.
const fn is_departure(fault: &LayerFault) -> bool {
    matches!(fault, LayerFault::System { .. } | LayerFault::PeerAlert(_))
}

/// See [`Ends::open`]; `first` is how the other direction ended, if it has.
fn still_open(first: Option<&First>, direction: Direction, end: &PumpEnd) -> Option<Side> {
    match (first, end) {
        (Some(First::Unheard(side, _)), _) => Some(side.other()),
        (_, PumpEnd::Refused(_)) => Some(direction.from()),
        (None, PumpEnd::Failed(side, _)) => Some(side.other()),
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
