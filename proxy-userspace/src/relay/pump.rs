//! One direction: what comes from one side, and all that goes to the other.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use tokio::task::coop::poll_proceed;
use zeroize::Zeroizing;

use super::Meter;
use super::ends::DirectionEnd;
use super::engine::SharedEngine;
use super::splice::{self, Pipes};
use crate::inspect::{Next, Want};
use crate::layer::{Batch, LayerFault, OWN_WORDS_BYTES_MAX, Pool, Receive, Received, StreamEnd, Transmit};
use crate::words::{Direction, Side};

/// What both directions of a session use.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) engine: &'a SharedEngine<'a>,
    pub(super) pool: &'a Pool,
    pub(super) pipes: Option<&'a Pipes>,
    pub(super) meter: &'a Meter,
}

/// One direction and its halves.
pub(super) struct Pump<'a, R, T> {
    pub(super) direction: Direction,
    pub(super) from: &'a mut R,
    pub(super) to: &'a mut T,
    /// Octets of the engine's own, or a place in line for their buffer. Only one of this batch and the received one is on
    /// its way at a time.
    pub(super) own: &'a mut Option<Box<Batch>>,
    pub(super) means: Means<'a>,
}

/// What a direction does next.
enum Step {
    /// Carry out what the engine says.
    Deliver(Next),
    /// Take what was received.
    Take(Received),
    /// Splice, until something comes that must be received.
    Splice,
    /// Splice so many octets, or fewer where something comes before that must be received.
    SpliceCounted(u64),
    /// The peer's stream has ended, and all of it has gone on.
    End(StreamEnd, DirectionEnd),
}

/// What a direction sends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Nothing,
    /// What was released of the received batch.
    Received,
    /// A lent batch.
    Own,
    /// What is queued of the engine's own words.
    Words,
}

impl<R: Receive, T: Transmit> Pump<'_, R, T> {
    /// Run until the direction has ended.
    pub(super) async fn run(mut self) -> DirectionEnd {
        match self.carry().await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn carry(&mut self) -> Result<DirectionEnd, DirectionEnd> {
        let mut ended = None;
        loop {
            match poll_fn(|cx| self.poll_step(&mut ended, cx)).await? {
                Step::Deliver(mut next) => {
                    let mut sending = Sending::Nothing;
                    poll_fn(|cx| self.poll_deliver(&mut next, &mut sending, cx)).await?;
                }
                Step::Take(received) => ended = self.take(received)?,
                Step::Splice => {
                    self.splice(usize::MAX).await?;
                    ended = self.receive().await?;
                }
                Step::SpliceCounted(octets) => {
                    let room = usize::try_from(octets).unwrap_or(usize::MAX);
                    let moved = self.splice(room).await?;
                    self.means.engine.moved(self.direction.from(), moved as u64);
                    if moved < room {
                        ended = self.receive().await?;
                    }
                }
                Step::End(stream_end, end) => return self.end(stream_end, end).await,
            }
        }
    }

    /// Everything that goes to `to` goes before more is received.
    fn poll_step(
        &mut self,
        ended: &mut Option<(StreamEnd, DirectionEnd)>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Step, DirectionEnd>> {
        let (from, to) = (self.direction.from(), self.direction.to());
        match self.means.engine.next(to) {
            Next::Nothing => {}
            next => return Poll::Ready(Ok(Step::Deliver(next))),
        }
        if ended.is_some() {
            return match ended.take_if(|_| self.means.engine.is_drained(to)) {
                Some((stream_end, end)) => Poll::Ready(Ok(Step::End(stream_end, end))),
                None => Poll::Pending,
            };
        }
        match self.means.engine.wants(from) {
            Want::Nothing => {
                let batch = self.from.batch();
                batch.rest();
                // Records that are not opened yet keep the buffer.
                if batch.is_called_back(cx) {
                    return Poll::Ready(Err(DirectionEnd::Failed(from, LayerFault::MemoryShortage)));
                }
                Poll::Pending
            }
            Want::Unseen if self.splices() => Poll::Ready(Ok(Step::Splice)),
            Want::Counted(octets) if self.splices() => Poll::Ready(Ok(Step::SpliceCounted(octets))),
            Want::Octets | Want::Unseen | Want::Counted(_) => {
                let received = ready!(self.from.poll_receive(cx));
                Poll::Ready(self.received(received).map(Step::Take))
            }
        }
    }

    fn take(&mut self, received: Received) -> Result<Option<(StreamEnd, DirectionEnd)>, DirectionEnd> {
        let Means { engine, meter, .. } = self.means;
        let from = self.direction.from();
        match received {
            Received::Data => {
                let batch = self.from.batch();
                meter.received(self.direction, batch.octets());
                engine.take(from, batch).map_err(DirectionEnd::Refused)?;
                meter.set_copied(self.direction, self.from.copied());
                Ok(None)
            }
            Received::End(end) => {
                if end == StreamEnd::Truncated {
                    meter.set_cut(from);
                }
                engine.ended(from, end).map_err(DirectionEnd::Refused)?;
                Ok(Some(match end {
                    StreamEnd::Closed => (end, DirectionEnd::Closed),
                    StreamEnd::Truncated if engine.is_announced(from) => (end, DirectionEnd::Finished),
                    StreamEnd::Truncated => (end, DirectionEnd::Truncated(from)),
                }))
            }
        }
    }

    /// Carry out what the engine says, until it has nothing more. Pieces of a batch that stand together are sent
    /// together. `next` and `sending` keep the state between two calls.
    fn poll_deliver(
        &mut self,
        next: &mut Next,
        sending: &mut Sending,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), DirectionEnd>> {
        let to = self.direction.to();
        loop {
            let sent = ready!(self.poll_sending(*sending, cx));
            sent.map_err(|fault| DirectionEnd::Failed(to, fault))?;
            if std::mem::replace(sending, Sending::Nothing) != Sending::Nothing {
                self.means.meter.delivered(self.direction);
            }
            let batch = self.from.batch();
            match *next {
                Next::Pass(octets) => {
                    let left = octets - batch.release(octets);
                    if left > 0 && batch.is_on_its_way() {
                        (*next, *sending) = (Next::Pass(left), Sending::Received);
                    } else {
                        *next = self.means.engine.next(to);
                    }
                }
                Next::Skip(octets) => {
                    batch.skip(octets);
                    *next = self.means.engine.next(to);
                }
                Next::Nothing | Next::Own if batch.is_on_its_way() => {
                    batch.set_followed(*next == Next::Own);
                    *sending = Sending::Received;
                }
                Next::Nothing => return Poll::Ready(Ok(())),
                Next::Own => {
                    let begun = ready!(self.poll_own(cx));
                    (*next, *sending) = begun.map_err(|fault| DirectionEnd::Failed(to, fault))?;
                }
            }
        }
    }

    fn poll_sending(&mut self, sending: Sending, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>> {
        let Self { from, to, own, means, .. } = self;
        let polled = match (sending, own.as_deref_mut()) {
            (Sending::Received, _) => poll_send(*to, from.batch(), means.meter, cx),
            (Sending::Own, Some(batch)) => poll_send(*to, batch, means.meter, cx),
            (Sending::Words, _) => to.poll_flush(cx),
            (Sending::Nothing | Sending::Own, _) => Poll::Ready(Ok(())),
        };
        match polled {
            // Records that are not opened yet may hold a buffer beside the octets that are on their way.
            Poll::Pending if from.batch().is_called_back(cx) => Poll::Ready(Err(LayerFault::MemoryShortage)),
            Poll::Pending => Poll::Pending,
            sent => {
                if sending == Sending::Own {
                    **own = None;
                }
                sent
            }
        }
    }

    /// Take octets of the engine's own, as many as one batch holds. Returns what goes next behind them, and how they are
    /// sent.
    ///
    /// A direction that holds a buffer never waits for another one: what it cannot put into a batch, it sends in small
    /// pieces.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Next, Sending), LayerFault>> {
        ready!(poll_proceed(cx)).made_progress();
        let (Means { engine, pool, .. }, side) = (self.means, self.direction.to());
        let received = self.from.batch();
        received.leave_line();
        let batch = self.own.get_or_insert_default();
        let is_lent = if received.is_held() {
            pool.lend_now(batch)
        } else {
            ready!(pool.poll_lend(batch, cx));
            true
        };
        if is_lent {
            return Poll::Ready(Ok((gather(batch, received, engine, side), Sending::Own)));
        }
        queue_own(self.to, engine, side)?;
        Poll::Ready(Ok((engine.next(side), Sending::Words)))
    }

    /// Whether octets can be spliced.
    fn splices(&mut self) -> bool {
        self.means.pipes.is_some() && self.from.kernel().is_some() && self.to.kernel().is_some()
    }

    /// Receive what cannot be spliced.
    async fn receive(&mut self) -> Result<Option<(StreamEnd, DirectionEnd)>, DirectionEnd> {
        let received = poll_fn(|cx| self.from.poll_receive(cx)).await;
        self.take(self.received(received)?)
    }

    /// Splice so many octets, or fewer where something comes before that must be received; how many.
    async fn splice(&mut self, octets: usize) -> Result<usize, DirectionEnd> {
        let Means { pipes, meter, .. } = self.means;
        let (Some(pipes), Some(from), Some(to)) = (pipes, self.from.kernel(), self.to.kernel()) else {
            return Ok(0);
        };
        splice::exactly(from, to, pipes, octets, (self.direction, meter))
            .await
            .map_err(|(side, fault)| DirectionEnd::Failed(side, fault))
    }

    /// Close our half towards `to`.
    async fn end(&mut self, stream_end: StreamEnd, end: DirectionEnd) -> Result<DirectionEnd, DirectionEnd> {
        match poll_fn(|cx| self.to.poll_end(cx, stream_end)).await {
            // The receiver may have gone already, so that our goodbye cannot reach it.
            Ok(()) | Err(LayerFault::System { .. }) => Ok(end),
            Err(fault) => Err(DirectionEnd::Failed(self.direction.to(), fault)),
        }
    }

    /// When the session is over, its peers leave as they like: by a reset, too.
    fn received(&self, received: Result<Received, LayerFault>) -> Result<Received, DirectionEnd> {
        let from = self.direction.from();
        received.or_else(|fault| match fault {
            LayerFault::System { .. } if self.means.engine.is_over() => {
                Ok(Received::End(StreamEnd::Truncated))
            }
            fault => Err(DirectionEnd::Failed(from, fault)),
        })
    }
}

/// Send what was released of a batch.
fn poll_send(
    to: &mut impl Transmit,
    batch: &mut Batch,
    meter: &Meter,
    cx: &mut Context<'_>,
) -> Poll<Result<(), LayerFault>> {
    let before = batch.sent();
    let polled = to.poll_send(cx, batch);
    // A reader that took a part of the batch is slow, not idle.
    if batch.sent() != before {
        meter.moved();
    }
    polled
}

/// Fill a batch with all that the engine says itself, as far as it has room, and say what goes next. What is left out of
/// the received batch meanwhile parts no words.
fn gather(batch: &mut Batch, received: &mut Batch, engine: &SharedEngine<'_>, to: Side) -> Next {
    let mut next = Next::Own;
    loop {
        match next {
            Next::Own if batch.append(|room| engine.fill(to, room)) > 0 => {}
            Next::Skip(octets) => {
                received.skip(octets);
            }
            _ => break,
        }
        next = engine.next(to);
    }
    batch.release(usize::MAX);
    batch.set_followed(next != Next::Nothing);
    next
}

/// Queue a little of what the engine says itself.
fn queue_own(to: &mut impl Transmit, engine: &SharedEngine<'_>, side: Side) -> Result<(), LayerFault> {
    let mut words = Zeroizing::new(vec![0; OWN_WORDS_BYTES_MAX]);
    let count = engine.fill(side, &mut words);
    to.queue(words.get(..count).unwrap_or_default())
}
