//! Octets that nobody inspects are spliced (splice(2)), through pipes that are held only while octets are in them.
//! These are whole connections under bypass, and the data of TLS records where both ends are kernel TLS.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ends::{DirectionEnd, SessionBounds, SessionEnd, both};
use super::{Meter, PARTING};
use crate::failure::Failure;
use crate::layer::{KernelReceive, KernelTransmit, LayerFault, Spliced};
use crate::words::{Direction, Side};

/// Octets moved in one call: what a pipe holds by default. From Linux 6.8 on, a length over the pipe's gains nothing,
/// and an unbounded one is refused.
const SPLICE_BYTES_MAX: usize = 64 * 1024;
/// Octets that are read in one call to throw them away.
const THROWN_AWAY_BYTES: usize = 16 * 1024;
/// Empty pipes that a mail thread keeps: two descriptors each.
const PIPES_MAX: usize = 32;

/// A mail thread's empty pipes. One thread owns it: no lock.
#[derive(Clone, Default)]
pub struct Pipes(Rc<RefCell<Vec<Pipe>>>);

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipes {
    fn take(&self) -> io::Result<Pipe> {
        if let Some(pipe) = self.0.borrow_mut().pop() {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Pipe { read, write })
    }

    /// Give an empty pipe back. A pipe with octets in it must be dropped: they belong to its session.
    fn give(&self, pipe: Pipe) {
        let mut free = self.0.borrow_mut();
        if free.len() < PIPES_MAX {
            free.push(pipe);
        }
    }
}

/// Splice exactly so many octets of data, or fewer where a record comes before that is no data: the record layer has to
/// receive that one. Returns how many.
///
/// # Errors
/// The side whose socket or records failed.
pub async fn exactly(
    from: &mut KernelReceive,
    to: &mut KernelTransmit,
    pipes: &Pipes,
    octets: usize,
    (direction, meter): (Direction, &Meter),
) -> Result<usize, (Side, LayerFault)> {
    let mut moved = 0;
    while moved < octets {
        let room = (octets - moved).min(SPLICE_BYTES_MAX);
        // A pipe is taken when octets are there: an idle session holds none.
        let mut held = None;
        let spliced =
            poll_fn(|cx| from.poll_splice(cx, |socket| fill_held(socket, pipes, &mut held, room))).await;
        let (Spliced::Octets(count), Some(pipe)) =
            (spliced.map_err(|fault| (direction.from(), fault))?, held)
        else {
            break;
        };
        let (mut left, mut whole) = (count, true);
        let emptying = poll_fn(|cx| {
            let before = left;
            let polled = to.poll_splice(cx, pipe.read.as_fd(), &mut left, &mut whole);
            // A reader that took a part of the octets is slow, not idle.
            if left != before {
                meter.moved();
            }
            polled
        });
        emptying.await.map_err(|fault| (direction.to(), fault))?;
        pipes.give(pipe);
        meter.add_spliced(direction, count as u64);
        moved += count;
    }
    Ok(moved)
}

/// Splice both directions until they have ended, one fails, or `bounds` end the session.
///
/// # Errors
/// Why the session ended otherwise than by the peers' goodbye.
pub async fn relay(
    client: &TcpStream,
    server: &TcpStream,
    pipes: &Pipes,
    meter: &Meter,
    bounds: impl Into<SessionBounds<'_>>,
) -> Result<(), Failure> {
    let requests = pump(client, server, pipes, Direction::ClientToServer, meter);
    let responses = pump(server, client, pipes, Direction::ServerToClient, meter);
    let SessionEnd { result, open, .. } = both(pin!(requests), pin!(responses), &(), meter, bounds).await;
    let open = open.map(|side| if side == Side::Downstream { client } else { server });
    if let Some(socket) = open {
        let _ = timeout(PARTING, part(socket)).await;
    }
    result
}

/// End a side whose peer has not ended, so that the peer receives all that it was sent.
async fn part(socket: &TcpStream) -> io::Result<()> {
    let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write);
    poll_fn(|cx| {
        loop {
            ready!(socket.poll_read_ready(cx))?;
            match socket.try_read(&mut [0; THROWN_AWAY_BYTES]) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    })
    .await
}

async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    pipes: &Pipes,
    direction: Direction,
    meter: &Meter,
) -> DirectionEnd {
    let failed = |side, call, source| DirectionEnd::Failed(side, LayerFault::System { call, source });
    loop {
        // Wait without a pipe: an idle session holds none. tokio's `readable` spends nothing of the runtime's budget,
        // so that a fast peer would keep every other session of the mail thread waiting.
        if let Err(source) = poll_fn(|cx| from.poll_read_ready(cx)).await {
            return failed(direction.from(), "poll", source);
        }
        let pipe = match pipes.take() {
            Ok(pipe) => pipe,
            Err(source) => return failed(direction.from(), "pipe2", source),
        };
        let count = match fill(from, &pipe) {
            Ok(0) => {
                pipes.give(pipe);
                break;
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                pipes.give(pipe);
                continue;
            }
            Err(source) => return failed(direction.from(), "splice", source),
        };
        if let Err(source) = drain(&pipe, to, count, meter).await {
            return failed(direction.to(), "splice", source);
        }
        pipes.give(pipe);
        meter.add(direction, count as u64);
    }
    let _ = socket2::SockRef::from(to).shutdown(std::net::Shutdown::Write);
    DirectionEnd::Finished
}

fn fill(from: &TcpStream, pipe: &Pipe) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    from.try_io(Interest::READABLE, || Ok(splice(from, None, &pipe.write, None, SPLICE_BYTES_MAX, flags)?))
}

/// Fill a pipe, and keep it in `held` only if octets are in it.
fn fill_held(from: &TcpStream, pipes: &Pipes, held: &mut Option<Pipe>, octets: usize) -> io::Result<usize> {
    let pipe = pipes.take()?;
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    match splice(from, None, &pipe.write, None, octets, flags) {
        Ok(count @ 1..) => {
            *held = Some(pipe);
            Ok(count)
        }
        nothing => {
            pipes.give(pipe);
            Ok(nothing?)
        }
    }
}

async fn drain(pipe: &Pipe, to: &TcpStream, mut count: usize, meter: &Meter) -> io::Result<()> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    while count > 0 {
        poll_fn(|cx| to.poll_write_ready(cx)).await?;
        match to.try_io(Interest::WRITABLE, || Ok(splice(&pipe.read, None, to, None, count, flags)?)) {
            Ok(moved) => {
                count -= moved.min(count);
                meter.moved();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
