//! Relay: two directions, each one batch at a time. A slow reader slows its writer; an idle session owns no buffer.

/// Octets that were relayed.
mod meter;
/// How a session ends.
mod ends;
/// Octets that nobody inspects are spliced.
pub mod splice;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::time::Duration;

use tokio::time::timeout;

use self::ends::{DirectionEnd, SessionEnd, both};
pub use self::meter::Meter;
use self::splice::Pipes;
use crate::failure::{Cause, Failure};
use crate::inspect::Inspect;
use crate::layer::{Batch, LayerFault, Receive, Received, StreamEnd, Transmit};
use crate::words::{Direction, Side};

/// A last alert may take this long to be written.
const ALERT: Duration = Duration::from_secs(2);
/// After the other side has ended, a peer has this long to receive what it was told last and to leave. Its octets are
/// read and dropped meanwhile: closing a socket with unread octets sends a reset, which destroys what the peer was
/// told.
const PARTING: Duration = Duration::from_secs(3);

/// Whether the server's side failed before an octet of it reached the client. The client can then be told why.
#[must_use]
pub fn is_unserved(result: &Result<(), Failure>, meter: &Meter) -> bool {
    matches!(result, Err(Failure { side: Side::Upstream, cause: Cause::Layer(_) }))
        && meter.octets(Direction::ServerToClient) == 0
}

/// Relay until both directions have ended, one fails, or nothing moves for `idle`. A side that takes nothing more ends
/// only the direction towards it; the other direction goes on. With `pipes`, octets that nobody inspects are spliced
/// where both halves are the kernel's. Where [`is_unserved`] holds, the client's connection is left open for the
/// caller.
///
/// # Errors
/// Why the session ended otherwise than by the peers' goodbye.
pub async fn relay<R, T, I, J>(
    (mut down_in, mut down_out): (R, T),
    (mut up_in, mut up_out): (R, T),
    inspect: (I, J),
    pipes: Option<&Pipes>,
    meter: &Meter,
    idle: Duration,
) -> Result<(), Failure>
where
    R: Receive,
    T: Transmit,
    I: Inspect,
    J: Inspect,
{
    let SessionEnd { result, open } = {
        let way = |direction| Way { direction, pipes, meter };
        let requests = pump(&mut down_in, &mut up_out, inspect.0, way(Direction::ClientToServer));
        let responses = pump(&mut up_in, &mut down_out, inspect.1, way(Direction::ServerToClient));
        both(requests, responses, meter, idle).await
    };
    if let Err(Failure { side, cause: Cause::Layer(fault) }) = &result {
        let (out, half_sent) = match side {
            Side::Downstream => (&mut down_out, up_in.batch()),
            Side::Upstream => (&mut up_out, down_in.batch()),
        };
        tell(out, half_sent, fault).await;
    }
    let our_end = match &result {
        Ok(()) | Err(Failure { cause: Cause::Refused(_), .. }) => StreamEnd::Closed,
        Err(_) => StreamEnd::Truncated,
    };
    match open {
        // The caller still has to tell this client why.
        Some(Side::Downstream) if is_unserved(&result, meter) && !down_out.is_mid_batch() => {}
        Some(Side::Downstream) => part(&mut down_in, &mut down_out, up_in.batch(), our_end).await,
        Some(Side::Upstream) => part(&mut up_in, &mut up_out, down_in.batch(), our_end).await,
        None => {}
    }
    result
}

/// Send the peer at fault an alert, behind the batch that is on its way to that peer.
async fn tell<T: Transmit>(out: &mut T, half_sent: &mut Batch, fault: &LayerFault) {
    let Some(alert) = fault.alert() else { return };
    let telling = async {
        finish(out, half_sent).await?;
        out.queue_alert(alert)?;
        poll_fn(|cx| out.poll_end(cx, StreamEnd::Truncated)).await
    };
    let _ = timeout(ALERT, telling).await;
}

/// End a side whose peer has not ended, so that the peer receives all that it was sent.
async fn part<R: Receive, T: Transmit>(from: &mut R, to: &mut T, half_sent: &mut Batch, end: StreamEnd) {
    let parting = async {
        finish(to, half_sent).await?;
        poll_fn(|cx| to.poll_end(cx, end)).await?;
        while let Received::Data = poll_fn(|cx| from.poll_receive(cx)).await? {}
        Ok::<_, LayerFault>(())
    };
    let _ = timeout(PARTING, parting).await;
}

/// Send the rest of a batch that was begun: no other record may stand inside it.
async fn finish<T: Transmit>(out: &mut T, half_sent: &mut Batch) -> Result<(), LayerFault> {
    if out.is_mid_batch() { poll_fn(|cx| out.poll_send(cx, half_sent)).await } else { Ok(()) }
}

/// One direction, with its pipes and its meter.
#[derive(Clone, Copy)]
struct Way<'a> {
    direction: Direction,
    pipes: Option<&'a Pipes>,
    meter: &'a Meter,
}

async fn pump<R: Receive, T: Transmit, I: Inspect>(
    from: &mut R,
    to: &mut T,
    mut inspect: I,
    way: Way<'_>,
) -> DirectionEnd {
    let Way { direction, pipes, meter } = way;
    loop {
        if let Some(pipes) = pipes.filter(|_| inspect.is_done(direction))
            && let (Some(from), Some(to)) = (from.kernel(), to.kernel())
            && let Err((side, fault)) = splice::data(from, to, pipes, direction, meter).await
        {
            return DirectionEnd::Failed(side, fault);
        }
        let received = match poll_fn(|cx| from.poll_receive(cx)).await {
            Ok(received) => received,
            Err(fault) => return DirectionEnd::Failed(direction.from(), fault),
        };
        let (stream_end, end) = match received {
            Received::Data => {
                let batch = from.batch();
                if let Err(refusal) = inspect.inspect(direction, batch) {
                    return DirectionEnd::Refused(refusal);
                }
                let octets = batch.octets();
                let mut sent = 0;
                let sending = poll_fn(|cx| {
                    let polled = to.poll_send(cx, batch);
                    // A reader that took a part of the batch is slow, not idle.
                    if std::mem::replace(&mut sent, batch.sent()) != batch.sent() {
                        meter.moved();
                    }
                    polled
                });
                if let Err(fault) = sending.await {
                    return DirectionEnd::Failed(direction.to(), fault);
                }
                meter.add(direction, octets);
                meter.set_copied(direction, from.copied());
                continue;
            }
            Received::End(end @ StreamEnd::Closed) => (end, DirectionEnd::Closed),
            Received::End(end) if inspect.is_announced() => (end, DirectionEnd::Finished),
            Received::End(end) => (end, DirectionEnd::Truncated(direction.from())),
        };
        return match poll_fn(|cx| to.poll_end(cx, stream_end)).await {
            Ok(()) => end,
            // The receiver has gone already, and our goodbye cannot reach it.
            Err(LayerFault::System { .. }) => end,
            Err(fault) => DirectionEnd::Failed(direction.to(), fault),
        };
    }
}
