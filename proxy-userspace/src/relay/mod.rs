//! Relay: two directions, each one batch at a time; a slow reader slows its writer, an idle session owns no buffer.

/// Bypass: octets that no one looks at go from kernel to kernel.
pub mod splice;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, timeout};

use self::splice::Pipes;
use crate::inspect::{Inspect, Refusal};
use crate::layer::{Ending, LayerFault, Receive, Received, Transmit};
use crate::words::{Direction, Side};

/// After one direction has ended, the other may be silent this long: peers that are done close within a round trip.
const HALF_CLOSED: Duration = Duration::from_secs(60);
/// A last alert may take this long to be written.
const ALERT: Duration = Duration::from_secs(2);

/// Octets that were relayed, and when the last ones came. Shared with the record, so that it is true at any moment.
#[derive(Debug)]
pub struct Meter {
    client_to_server: Flow,
    server_to_client: Flow,
    active: Cell<Instant>,
}

/// Octets of one direction.
#[derive(Debug, Default)]
struct Flow {
    octets: Cell<u64>,
    spliced: Cell<u64>,
    copied: Cell<u64>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            client_to_server: Flow::default(),
            server_to_client: Flow::default(),
            active: Cell::new(Instant::now()),
        }
    }
}

impl Meter {
    /// Octets of plaintext (of TCP payload under bypass) that went this way.
    #[must_use]
    pub fn octets(&self, direction: Direction) -> u64 {
        self.flow(direction).octets.get()
    }

    /// Of these, octets that went from kernel to kernel.
    #[must_use]
    pub fn spliced(&self, direction: Direction) -> u64 {
        self.flow(direction).spliced.get()
    }

    /// Of these, octets that stood in this process's buffers.
    #[must_use]
    pub fn held(&self, direction: Direction) -> u64 {
        self.octets(direction).saturating_sub(self.spliced(direction))
    }

    /// Octets that were moved within this process's memory.
    #[must_use]
    pub fn copied(&self, direction: Direction) -> u64 {
        self.flow(direction).copied.get()
    }

    fn add_spliced(&self, direction: Direction, octets: u64) {
        let spliced = &self.flow(direction).spliced;
        spliced.set(spliced.get().saturating_add(octets));
        self.add(direction, octets);
    }

    fn set_copied(&self, direction: Direction, octets: u64) {
        self.flow(direction).copied.set(octets);
    }

    fn add(&self, direction: Direction, octets: u64) {
        let relayed = &self.flow(direction).octets;
        relayed.set(relayed.get().saturating_add(octets));
        self.active.set(Instant::now());
    }

    const fn flow(&self, direction: Direction) -> &Flow {
        match direction {
            Direction::ClientToServer => &self.client_to_server,
            Direction::ServerToClient => &self.server_to_client,
        }
    }
}

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
    Refused(Refusal),
}

/// How one direction ended.
enum PumpEnd {
    Closed,
    Truncated,
    Failed(Side, LayerFault),
    Refused(Refusal),
}

/// Relay until both directions have ended, one fails, or nothing moves for `idle`. With `pipes`, what needs no look
/// goes from kernel to kernel where both halves are the kernel's.
pub async fn relay<R, T, I>(
    (mut down_in, mut down_out): (R, T),
    (mut up_in, mut up_out): (R, T),
    inspect: (I, I),
    pipes: Option<&Pipes>,
    meter: &Meter,
    idle: Duration,
) -> End
where
    R: Receive,
    T: Transmit,
    I: Inspect,
{
    let end = {
        let way = |direction| Way { direction, pipes, meter };
        let requests = pump(&mut down_in, &mut up_out, inspect.0, way(Direction::ClientToServer));
        let responses = pump(&mut up_in, &mut down_out, inspect.1, way(Direction::ServerToClient));
        both(requests, responses, meter, idle).await
    };
    match &end {
        End::Failed(side, fault) => {
            let out = if *side == Side::Downstream { &mut down_out } else { &mut up_out };
            tell(out, fault).await;
        }
        End::Refused(_) => {
            let _ = timeout(ALERT, poll_fn(|cx| down_out.poll_end(cx, Ending::Notify))).await;
        }
        End::Closed | End::Truncated(_) | End::Idle => {}
    }
    end
}

/// The peer at fault learns what it did, where the stream still allows an alert.
async fn tell<T: Transmit>(out: &mut T, fault: &LayerFault) {
    if let Some(alert) = fault.alert()
        && !out.is_mid_batch()
        && out.queue_alert(alert).is_ok()
    {
        let _ = timeout(ALERT, poll_fn(|cx| out.poll_end(cx, Ending::Cut))).await;
    }
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
                if let Err(fault) = poll_fn(|cx| to.poll_send(cx, batch)).await {
                    return PumpEnd::Failed(direction.to(), fault);
                }
                meter.add(direction, octets);
                meter.set_copied(direction, from.copied());
                continue;
            }
            Received::Closed => (Ending::Notify, PumpEnd::Closed),
            Received::Truncated => (Ending::Cut, PumpEnd::Truncated),
        };
        return match poll_fn(|cx| to.poll_end(cx, ending)).await {
            Ok(()) => end,
            // Whoever has already gone does not hear our goodbye.
            Err(LayerFault::System { .. }) => end,
            Err(fault) => PumpEnd::Failed(direction.to(), fault),
        };
    }
}

/// Both directions in one task. What ends first decides how the session ended.
async fn both(
    requests: impl Future<Output = PumpEnd>,
    responses: impl Future<Output = PumpEnd>,
    meter: &Meter,
    idle: Duration,
) -> End {
    let mut requests = pin!(requests);
    let mut responses = pin!(responses);
    let mut silence = pin!(sleep(idle));
    let mut limit = idle;
    let (mut first, mut requests_done, mut responses_done) = (None, false, false);
    poll_fn(|cx| {
        for (pump, done, side) in [
            (
                requests.as_mut() as Pin<&mut dyn Future<Output = PumpEnd>>,
                &mut requests_done,
                Side::Downstream,
            ),
            (responses.as_mut(), &mut responses_done, Side::Upstream),
        ] {
            if *done {
                continue;
            }
            let Poll::Ready(end) = pump.poll(cx) else { continue };
            *done = true;
            limit = HALF_CLOSED;
            silence.as_mut().reset(Instant::now() + HALF_CLOSED);
            if let Some(end) = settle(&mut first, side, end) {
                return Poll::Ready(end);
            }
        }
        match poll_silence(silence.as_mut(), meter, limit, cx) {
            // A peer that never answers a goodbye does not make a clean end unclean.
            Poll::Ready(()) => Poll::Ready(first.take().unwrap_or(End::Idle)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Fold the end of one direction in; `Some` when the session is over.
fn settle(first: &mut Option<End>, side: Side, end: PumpEnd) -> Option<End> {
    match (first.take(), end) {
        // Clients often leave after LOGOUT without close_notify; a server that then says goodbye misses nothing.
        (Some(End::Truncated(Side::Downstream)), PumpEnd::Closed) => Some(End::Closed),
        // A peer that was told goodbye may go as it likes.
        (
            Some(first),
            PumpEnd::Closed | PumpEnd::Truncated | PumpEnd::Failed(_, LayerFault::System { .. }),
        ) => Some(first),
        (_, PumpEnd::Failed(side, fault)) => Some(End::Failed(side, fault)),
        (_, PumpEnd::Refused(refusal)) => Some(End::Refused(refusal)),
        (None, PumpEnd::Closed) => {
            *first = Some(End::Closed);
            None
        }
        (None, PumpEnd::Truncated) => {
            *first = Some(End::Truncated(side));
            None
        }
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
        let due = meter.active.get() + limit;
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        silence.as_mut().reset(due);
    }
    Poll::Pending
}
