//! Relay: two directions, each one batch at a time; a slow reader slows its writer, an idle session owns no buffer.

/// Octets that were relayed.
mod meter;
/// How a session ends.
mod ends;
/// Bypass: octets that no one looks at go from kernel to kernel.
pub mod splice;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::time::Duration;

use tokio::time::timeout;

use self::ends::{Ends, PumpEnd, both};
pub use self::meter::Meter;
use self::splice::Pipes;
use crate::inspect::{Inspect, InspectRefusal};
use crate::layer::{Batch, Ending, LayerFault, Receive, Received, Transmit};
use crate::words::{Direction, Side};

/// A last alert may take this long to be written.
const ALERT: Duration = Duration::from_secs(2);
/// After the other side has ended, a peer may take this long to hear what it was told last and to leave. As long as it
/// speaks, its octets are read and thrown away: closing over unread octets is a reset, which destroys those words.
const PARTING: Duration = Duration::from_secs(3);

/// How a relayed session ended.
#[derive(Debug)]
pub enum End {
    /// Both said goodbye, or one did and the other was done.
    Closed,
    /// One side's stream ended without `close_notify`.
    Truncated(Side),
    /// No octet in either direction for the idle limit.
    Idle,
    /// A side's socket or records failed.
    Failed(Side, LayerFault),
    /// An inspector ended it.
    Refused(InspectRefusal),
}

impl End {
    /// The server's side failed before an octet of it reached the client, who can then be told why.
    #[must_use]
    pub fn is_unserved(&self, meter: &Meter) -> bool {
        matches!(self, Self::Failed(Side::Upstream, _)) && meter.octets(Direction::ServerToClient) == 0
    }
}

/// Relay until both directions have ended, one fails, or nothing moves for `idle`. A side that takes nothing more ends
/// only the direction towards it: what it said before goes on. With `pipes`, what needs no look goes from kernel to
/// kernel where both halves are the kernel's. A client of an end that [`End::is_unserved`] is left open for the caller's
/// words.
pub async fn relay<R, T, I, J>(
    (mut down_in, mut down_out): (R, T),
    (mut up_in, mut up_out): (R, T),
    inspect: (I, J),
    pipes: Option<&Pipes>,
    meter: &Meter,
    idle: Duration,
) -> End
where
    R: Receive,
    T: Transmit,
    I: Inspect,
    J: Inspect,
{
    let Ends { end, open } = {
        let way = |direction| Way { direction, pipes, meter };
        let requests = pump(&mut down_in, &mut up_out, inspect.0, way(Direction::ClientToServer));
        let responses = pump(&mut up_in, &mut down_out, inspect.1, way(Direction::ServerToClient));
        both(requests, responses, meter, idle).await
    };
    if let End::Failed(side, fault) = &end {
        let (out, half_sent) = match side {
            Side::Downstream => (&mut down_out, up_in.batch()),
            Side::Upstream => (&mut up_out, down_in.batch()),
        };
        tell(out, half_sent, fault).await;
    }
    let ending = match &end {
        End::Closed | End::Refused(_) => Ending::Notify,
        End::Truncated(_) | End::Idle | End::Failed(..) => Ending::Cut,
    };
    match open {
        // The caller has words for this client.
        Some(Side::Downstream) if end.is_unserved(meter) && !down_out.is_mid_batch() => {}
        Some(Side::Downstream) => part(&mut down_in, &mut down_out, up_in.batch(), ending).await,
        Some(Side::Upstream) => part(&mut up_in, &mut up_out, down_in.batch(), ending).await,
        None => {}
    }
    end
}

/// The peer at fault learns what it did, behind what it was being sent.
async fn tell<T: Transmit>(out: &mut T, half_sent: &mut Batch, fault: &LayerFault) {
    let Some(alert) = fault.alert() else { return };
    let telling = async {
        finish(out, half_sent).await?;
        out.queue_alert(alert)?;
        poll_fn(|cx| out.poll_end(cx, Ending::Cut)).await
    };
    let _ = timeout(ALERT, telling).await;
}

/// End a side whose peer has not ended, in a way that lets the peer hear all that it was told.
async fn part<R: Receive, T: Transmit>(from: &mut R, to: &mut T, half_sent: &mut Batch, ending: Ending) {
    let parting = async {
        finish(to, half_sent).await?;
        poll_fn(|cx| to.poll_end(cx, ending)).await?;
        while let Received::Data = poll_fn(|cx| from.poll_receive(cx)).await? {}
        Ok::<_, LayerFault>(())
    };
    let _ = timeout(PARTING, parting).await;
}

/// A batch that was begun has to be whole before anything else can be said.
async fn finish<T: Transmit>(out: &mut T, half_sent: &mut Batch) -> Result<(), LayerFault> {
    if out.is_mid_batch() { poll_fn(|cx| out.poll_send(cx, half_sent)).await } else { Ok(()) }
}

/// One direction, and what it counts with.
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
) -> PumpEnd {
    let Way { direction, pipes, meter } = way;
    loop {
        if let Some(pipes) = pipes.filter(|_| inspect.is_done(direction))
            && let (Some(from), Some(to)) = (from.kernel(), to.kernel())
            && let Err((side, fault)) = splice::data(from, to, pipes, direction, meter).await
        {
            return PumpEnd::Failed(side, fault);
        }
        let received = match poll_fn(|cx| from.poll_receive(cx)).await {
            Ok(received) => received,
            Err(fault) => return PumpEnd::Failed(direction.from(), fault),
        };
        let (ending, end) = match received {
            Received::Data => {
                let batch = from.batch();
                if let Err(refusal) = inspect.look(direction, batch) {
                    return PumpEnd::Refused(refusal);
                }
                let octets = batch.octets();
                let mut sent = 0;
                let sending = poll_fn(|cx| {
                    let polled = to.poll_send(cx, batch);
                    // A slow reader that takes a part is no silence.
                    if std::mem::replace(&mut sent, batch.sent()) != batch.sent() {
                        meter.moved();
                    }
                    polled
                });
                if let Err(fault) = sending.await {
                    return PumpEnd::Failed(direction.to(), fault);
                }
                meter.add(direction, octets);
                meter.set_copied(direction, from.copied());
                continue;
            }
            Received::Closed => (Ending::Notify, PumpEnd::Closed),
            Received::Truncated => (Ending::Cut, PumpEnd::Truncated { announced: inspect.is_announced() }),
        };
        return match poll_fn(|cx| to.poll_end(cx, ending)).await {
            Ok(()) => end,
            // Whoever has already gone does not hear our goodbye.
            Err(LayerFault::System { .. }) => end,
            Err(fault) => PumpEnd::Failed(direction.to(), fault),
        };
    }
}
