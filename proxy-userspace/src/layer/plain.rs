//! The layer of a side without TLS: the same batches, and nothing is opened or sealed. A session has it on both sides or on
//! none.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use zeroize::Zeroizing;

use super::buffer::{BATCH_RECORDS_MAX, Batch, Pool, READ_BYTES_MAX};
use super::user::{poll_write, read};
use super::{
    Alert, Incoming, LayerFault, OWN_WORDS_BYTES_MAX, Outgoing, Receive, Received, StreamEnd, Transmit,
};
use crate::sys;

/// Both halves of a side that has no TLS. `first` was read from the socket before, and is received before anything else: at
/// most one read.
#[must_use]
pub fn unsealed(socket: TcpStream, first: Zeroizing<Vec<u8>>, pool: &Pool) -> (Incoming, Outgoing) {
    // Without it, a read costs one more call.
    let _slower = sys::tell_in_queue(&socket);
    let (read, write) = socket.into_split();
    let receive =
        PlainReceive { socket: read, first, pool: pool.clone(), batch: Batch::default(), copied: 0 };
    let transmit = PlainTransmit { socket: write, words: Words::default(), mid_batch: false };
    (Incoming::Plain(receive), Outgoing::Plain(transmit))
}

/// The receiving half.
pub struct PlainReceive {
    socket: OwnedReadHalf,
    /// Wiped when dropped: a password may stand in it.
    first: Zeroizing<Vec<u8>>,
    pool: Pool,
    batch: Batch,
    copied: u64,
}

impl Receive for PlainReceive {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, LayerFault>> {
        self.batch.clear();
        match ready!(self.poll_fill(cx)) {
            // A FIN says nothing about whether something is missing. What the peers said in IMAP does.
            Ok(0) => {
                self.batch = Batch::default();
                Poll::Ready(Ok(Received::End(StreamEnd::Truncated)))
            }
            Ok(_) => Poll::Ready(Ok(Received::Data)),
            Err(source) => {
                self.batch = Batch::default();
                Poll::Ready(Err(LayerFault::System { call: "recv", source }))
            }
        }
    }

    fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    fn copied(&self) -> u64 {
        self.copied
    }
}

impl PlainReceive {
    /// Read once. A buffer is taken when the socket is readable, and given back if no octet came.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (batch, socket) = (&mut self.batch, self.socket.as_ref());
        loop {
            if self.first.is_empty() {
                ready!(socket.poll_read_ready(cx))?;
            }
            let buffer = match &mut batch.buffer {
                Some(buffer) => buffer,
                none => none.insert(ready!(self.pool.poll_take(&mut batch.turn, cx))),
            };
            let room = buffer.bytes.get_mut(..READ_BYTES_MAX).unwrap_or_default();
            let read = if self.first.is_empty() {
                read(socket, room)
            } else {
                let first = std::mem::take(&mut self.first);
                let count = first.len().min(room.len());
                room.iter_mut().zip(first.iter()).for_each(|(room, octet)| *room = *octet);
                self.copied += count as u64;
                Ok(count)
            };
            match read {
                Ok(count @ 1..) => {
                    buffer.plain.push(0..count);
                    (batch.filled, batch.parsed) = (count, count);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => batch.buffer = None,
                end => return Poll::Ready(end),
            }
        }
    }
}

/// Words of our own that wait to be sent, or are sent in part.
#[derive(Default)]
struct Words {
    /// Wiped when dropped: mail may stand in them.
    octets: Zeroizing<Vec<u8>>,
    written: usize,
}

/// The transmitting half.
pub struct PlainTransmit {
    socket: OwnedWriteHalf,
    words: Words,
    /// The kernel took a part of a batch.
    mid_batch: bool,
}

impl Transmit for PlainTransmit {
    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>> {
        match self.poll_out(cx, batch) {
            Poll::Pending if batch.is_called_back(cx) => Poll::Ready(Err(LayerFault::MemoryShortage)),
            sent => sent,
        }
    }

    fn queue(&mut self, words: &[u8]) -> Result<(), LayerFault> {
        let waiting = self.words.octets.len() - self.words.written.min(self.words.octets.len());
        if words.len() + waiting > 2 * OWN_WORDS_BYTES_MAX {
            return Err(LayerFault::RecordOverflow);
        }
        self.words.octets.extend_from_slice(words);
        Ok(())
    }

    /// Clear text has no alerts.
    fn queue_alert(&mut self, _: Alert) -> Result<(), LayerFault> {
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>> {
        self.poll_send(cx, &mut Batch::default())
    }

    /// Clear text ends with a FIN, whatever is missing.
    fn poll_end(&mut self, cx: &mut Context<'_>, _: StreamEnd) -> Poll<Result<(), LayerFault>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket)
            .poll_shutdown(cx)
            .map_err(|source| LayerFault::System { call: "shutdown", source })
    }

    fn is_mid_batch(&self) -> bool {
        self.mid_batch
    }
}

impl PlainTransmit {
    /// Send what is queued, the batch, and what was queued meanwhile. Words never stand inside a batch.
    fn poll_out(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>> {
        if !self.mid_batch {
            ready!(self.poll_words(cx))?;
        } else if !batch.sealed {
            // The batch of which a part was sent is gone.
            return Poll::Ready(Err(LayerFault::Unfinished));
        }
        ready!(self.poll_batch(cx, batch))?;
        self.poll_words(cx)
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>> {
        let total: usize = batch.released().iter().map(|span| span.body.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(()));
        }
        // From here on nothing more is released, as if it were sealed.
        batch.sealed = true;
        while batch.sent < total {
            let mut slices = [IoSlice::new(&[]); BATCH_RECORDS_MAX];
            let count = batch.unsent(&mut slices);
            let slices = slices.get(..count).unwrap_or_default();
            batch.sent += ready!(poll_write(&self.socket, cx, slices, batch.followed))?;
            self.mid_batch = batch.sent < total;
        }
        batch.sent_all();
        Poll::Ready(Ok(()))
    }

    fn poll_words(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>> {
        let Words { octets, written } = &mut self.words;
        while let Some(rest) = octets.get(*written..).filter(|rest| !rest.is_empty()) {
            *written += ready!(poll_write(&self.socket, cx, &[IoSlice::new(rest)], false))?;
        }
        self.words = Words::default();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::far::{once, sockets};
    use super::*;

    /// Socket buffers smaller than a batch.
    const NARROW_BYTES: u32 = 4 * 1024;

    async fn side(first: &[u8]) -> (Incoming, Outgoing, TcpStream) {
        let (ours, peer) = sockets(Some(NARROW_BYTES)).await;
        let (receive, transmit) = unsealed(ours, first.to_vec().into(), &Pool::default());
        (receive, transmit, peer)
    }

    fn all(batch: &Batch) -> Vec<u8> {
        batch.plaintext().flatten().copied().collect()
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first_and_a_fin_is_the_end() {
        let (mut receive, _transmit, mut peer) = side(b"a LOGIN ").await;
        assert_eq!(poll_fn(|cx| receive.poll_receive(cx)).await.unwrap(), Received::Data);
        assert_eq!((all(receive.batch()), receive.copied()), (b"a LOGIN ".to_vec(), 8));
        peer.write_all(b"alice x\r\n").await.unwrap();
        assert_eq!(poll_fn(|cx| receive.poll_receive(cx)).await.unwrap(), Received::Data);
        assert_eq!(all(receive.batch()), b"alice x\r\n");
        assert!(once(|cx| receive.poll_receive(cx)).await.is_none());
        assert!(!receive.batch().is_held(), "a side that waits holds no buffer");
        peer.shutdown().await.unwrap();
        let end = poll_fn(|cx| receive.poll_receive(cx)).await.unwrap();
        assert_eq!(end, Received::End(StreamEnd::Truncated));
    }

    #[tokio::test]
    async fn words_stand_before_a_batch_or_behind_it_and_what_is_left_out_is_not_sent() {
        let (_receive, mut transmit, mut peer) = side(b"").await;
        let body: Vec<u8> = (0..60_000_u32).map(|at| at as u8).collect();
        let mut batch = Batch::of(&[b"out", &body[..30_000], &body[30_000..]]);
        assert_eq!((batch.skip(3), batch.release(usize::MAX)), (3, 60_000));
        transmit.queue(b"before").unwrap();
        let mut got = Vec::new();
        let mut room = vec![0; 5000];
        while once(|cx| transmit.poll_send(cx, &mut batch)).await.map(Result::unwrap).is_none() {
            if got.is_empty() {
                assert!(transmit.is_mid_batch());
                transmit.queue(b"behind").unwrap();
            }
            let count = peer.read(&mut room).await.unwrap();
            got.extend_from_slice(&room[..count]);
        }
        assert!(!transmit.is_mid_batch() && !batch.is_on_its_way());
        poll_fn(|cx| transmit.poll_end(cx, StreamEnd::Closed)).await.unwrap();
        peer.read_to_end(&mut got).await.unwrap();
        assert!(got == [b"before", &body[..], b"behind"].concat(), "{} octets", got.len());
    }

    #[tokio::test]
    async fn nothing_is_said_behind_a_batch_of_which_a_part_was_sent() {
        let (_receive, mut transmit, _peer) = side(b"").await;
        let mut batch = Batch::of(&[&[7; 60_000]]);
        batch.release(usize::MAX);
        assert!(once(|cx| transmit.poll_send(cx, &mut batch)).await.is_none());
        drop(batch);
        transmit.queue(b"* BYE\r\n").unwrap();
        let flushed = poll_fn(|cx| transmit.poll_flush(cx)).await;
        assert!(matches!(flushed, Err(LayerFault::Unfinished)), "{flushed:?}");
    }
}
