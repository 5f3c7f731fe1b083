//! The record layer in this process: read whole records, open them in place, seal them in place, write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::{AsyncWrite as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::aead::{ContentType, HEADER_BYTES, Header, Opened, Opener, Sealer};
use super::buffer::{BATCH_RECORDS_MAX, Batch, Pool, READ_BYTES_MAX, Span};
use super::outlet::{Next, Outlet, RecordQueue};
use super::post::{Alert, Control, PostHandshake};
use super::shared::SideState;
use super::{LayerFault, Receive, Received, StreamEnd, Transmit};
use crate::sys;

/// Slices that one write hands to the kernel: three per record.
const SLICES_MAX: usize = 3 * BATCH_RECORDS_MAX;

/// The receiving half.
pub struct UserReceive {
    socket: OwnedReadHalf,
    opener: Opener,
    shared: Rc<SideState>,
    post: PostHandshake,
    pool: Pool,
    batch: Batch,
    end: Option<Result<StreamEnd, LayerFault>>,
    copied: u64,
}

impl UserReceive {
    /// Begins at the first record that the opener did not open yet.
    pub(super) fn new(socket: OwnedReadHalf, opener: Opener, shared: Rc<SideState>, pool: Pool) -> Self {
        let (post, batch) = (PostHandshake::default(), Batch::default());
        Self { socket, opener, shared, post, pool, batch, end: None, copied: 0 }
    }
}

impl Receive for UserReceive {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, LayerFault>> {
        self.batch.clear();
        loop {
            if self.end.is_none()
                && let Err(fault) = self.open_records()
            {
                self.end = Some(Err(fault));
            }
            // The records before an end or a fault are good, and go first.
            if self.batch.has_plaintext() {
                return Poll::Ready(Ok(Received::Data));
            }
            if let Some(end) = self.end.take() {
                self.batch = Batch::default();
                return Poll::Ready(end.map(Received::End));
            }
            self.batch.clear();
            let filled = match self.poll_fill(cx) {
                Poll::Pending if self.batch.is_called_back(cx) => {
                    return Poll::Ready(Err(LayerFault::MemoryShortage));
                }
                filled => ready!(filled),
            };
            match filled {
                Ok(0) => self.end = Some(Ok(StreamEnd::Truncated)),
                Ok(_) => {}
                Err(source) => self.end = Some(Err(LayerFault::System { call: "recv", source })),
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

impl UserReceive {
    /// Read once. A buffer is taken when the socket is readable, and given back if no octet came.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (batch, socket) = (&mut self.batch, self.socket.as_ref());
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let buffer = match &mut batch.buffer {
                Some(buffer) => buffer,
                none => none.insert(ready!(self.pool.poll_take(&mut batch.turn, cx))),
            };
            let partial = batch.filled - batch.parsed;
            // A cut header is moved to the front of the buffer. A body is never moved.
            if partial < HEADER_BYTES && batch.parsed > 0 {
                buffer.bytes.copy_within(batch.parsed..batch.filled, 0);
                self.copied += partial as u64;
                (batch.parsed, batch.filled) = (0, partial);
            }
            // At the front, fill the buffer. Behind it, read exactly the rest of the record that the last read cut.
            let until = match batch.parsed {
                0 => READ_BYTES_MAX,
                parsed => record_end(parsed, &buffer.bytes),
            };
            let room = buffer.bytes.get_mut(batch.filled..until).unwrap_or_default();
            let read = read(socket, room);
            batch.filled += read.as_ref().copied().unwrap_or_default();
            if batch.filled == 0 {
                batch.buffer = None;
            }
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Open complete records, until the batch is full or the peer has ended.
    fn open_records(&mut self) -> Result<(), LayerFault> {
        while self.end.is_none() {
            let Some(buffer) = &mut self.batch.buffer else { return Ok(()) };
            if buffer.plain.len() == BATCH_RECORDS_MAX {
                return Ok(());
            }
            let unread = buffer.bytes.get_mut(self.batch.parsed..self.batch.filled).unwrap_or_default();
            let Some(header) = Header::parse(unread) else { return Ok(()) };
            self.opener.admit(header)?;
            let record_bytes = HEADER_BYTES + header.length();
            let Some(record) = unread.get_mut(..record_bytes) else { return Ok(()) };
            let opened = self.opener.open(header, record)?;
            let start = self.batch.parsed + opened.start;
            let body = start..start + opened.length;
            self.batch.parsed += record_bytes;
            match opened {
                Opened { content: ContentType::ApplicationData, length: 1.., .. } => {
                    self.post.data()?;
                    buffer.plain.push(body);
                }
                Opened { content, .. } => {
                    let content_octets = buffer.bytes.get(body).unwrap_or_default();
                    let control = self.shared.control(&mut self.post, content, content_octets)?;
                    self.obey(control)?;
                }
            }
        }
        Ok(())
    }

    fn obey(&mut self, control: Control) -> Result<(), LayerFault> {
        match control {
            Control::Done => {}
            Control::Closed => self.end = Some(Ok(StreamEnd::Closed)),
            Control::KeyUpdate { reply } => {
                let next = self.shared.kernel.borrow_mut().next_receive()?;
                self.opener = Opener::new(self.shared.version, &next)?;
                if reply {
                    self.shared.owes_key_update.set(true);
                }
            }
        }
        Ok(())
    }
}

/// Read once. The runtime waits for the kernel's next event only where the kernel says that nothing more is there
/// (`TCP_INQ`). A short read alone does not say so, because a read also stops at TCP's urgent mark.
pub(super) fn read(socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    let mut got = None;
    let tried = socket.try_io(Interest::READABLE, || {
        let (count, more) = sys::receive(socket, room)?;
        got = Some(count);
        if count == 0 || more { Ok(count) } else { Err(io::ErrorKind::WouldBlock.into()) }
    });
    got.map_or(tried, Ok)
}

/// The end of the record that begins at `parsed`, or of its header while the header is cut.
fn record_end(parsed: usize, bytes: &[u8]) -> usize {
    let header = bytes.get(parsed..).and_then(Header::parse);
    parsed + HEADER_BYTES + header.map_or(0, Header::length)
}

/// The transmitting half.
pub struct UserTransmit {
    socket: OwnedWriteHalf,
    outlet: Outlet,
    /// Records of our own, which are sealed at the next boundary, before the next batch.
    queue: RecordQueue,
    ended: bool,
}

impl UserTransmit {
    /// Begins at the first record that the sealer did not seal yet. `records_max` lowers the suite's bound on records
    /// under later keys, as it did under this one.
    pub(super) fn new(
        socket: OwnedWriteHalf,
        sealer: Sealer,
        shared: Rc<SideState>,
        records_max: Option<u64>,
    ) -> Self {
        let outlet = Outlet::new(sealer, shared, records_max);
        Self { socket, outlet, queue: RecordQueue::default(), ended: false }
    }
}

impl Transmit for UserTransmit {
    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>> {
        match self.poll_out(cx, batch) {
            Poll::Pending if batch.is_called_back(cx) => Poll::Ready(Err(LayerFault::MemoryShortage)),
            sent => sent,
        }
    }

    fn queue(&mut self, words: &[u8]) -> Result<(), LayerFault> {
        if !self.outlet.has_room_for_words() {
            return Err(LayerFault::ConfidentialityLimit);
        }
        self.queue.words(words)
    }

    fn queue_alert(&mut self, alert: Alert) -> Result<(), LayerFault> {
        self.queue.push(ContentType::Alert, &alert.encode());
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>> {
        self.poll_send(cx, &mut Batch::default())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, end: StreamEnd) -> Poll<Result<(), LayerFault>> {
        if !self.ended {
            self.ended = true;
            if end == StreamEnd::Closed {
                self.queue_alert(Alert::CLOSE_NOTIFY)?;
            }
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket)
            .poll_shutdown(cx)
            .map_err(|source| LayerFault::System { call: "shutdown", source })
    }

    fn is_mid_batch(&self) -> bool {
        self.outlet.is_mid_batch()
    }
}

impl UserTransmit {
    /// Send what is queued, and the batch, each in its turn.
    fn poll_out(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>> {
        loop {
            match self.outlet.next() {
                Next::Own(sealed) => {
                    let count = ready!(poll_write(&self.socket, cx, &[IoSlice::new(sealed)], false))?;
                    self.outlet.own_written(count);
                }
                Next::Batch => {
                    ready!(poll_write_batch(&self.socket, cx, batch))?;
                    batch.sent_all();
                    self.outlet.batch_written();
                }
                Next::Boundary(boundary) if boundary.owes(&self.queue) => {
                    boundary.seal_own(&mut self.queue)?
                }
                Next::Boundary(boundary) if !batch.sealed && batch.is_on_its_way() => {
                    boundary.seal_batch(batch)?;
                }
                Next::Boundary(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

fn sealed_bytes(span: &Span) -> usize {
    span.seal.head().len() + span.body.len() + span.seal.tail().len()
}

/// Write all that is left of a sealed batch, as slices. Nothing is copied into another buffer.
fn poll_write_batch(
    socket: &OwnedWriteHalf,
    cx: &mut Context<'_>,
    batch: &mut Batch,
) -> Poll<Result<(), LayerFault>> {
    // The sealed batch was dropped, and its records can never be completed.
    if !batch.sealed {
        return Poll::Ready(Err(LayerFault::Unfinished));
    }
    let total: usize = batch.released().iter().map(sealed_bytes).sum();
    while batch.sent < total {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let bytes = batch.buffer.as_ref().map(|buffer| &*buffer.bytes).unwrap_or_default();
        let sealed = batch.released().iter().flat_map(|span| {
            [span.seal.head(), bytes.get(span.body.clone()).unwrap_or_default(), span.seal.tail()]
        });
        let mut skip = batch.sent;
        let unsent = sealed.filter_map(|part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            part.get(skipped..).filter(|rest| !rest.is_empty())
        });
        let mut count = 0;
        for (slot, part) in slices.iter_mut().zip(unsent) {
            *slot = IoSlice::new(part);
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        batch.sent += ready!(poll_write(socket, cx, slices, batch.followed))?;
    }
    Poll::Ready(Ok(()))
}

pub(super) fn poll_write(
    socket: &OwnedWriteHalf,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
    followed: bool,
) -> Poll<Result<usize, LayerFault>> {
    let system = |source| LayerFault::System { call: "sendmsg", source };
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let flags = if followed { flags | SendFlags::MORE } else { flags };
    let socket = socket.as_ref();
    loop {
        ready!(socket.poll_write_ready(cx)).map_err(system)?;
        let send = || Ok(sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags)?);
        match socket.try_io(Interest::WRITABLE, send) {
            Ok(0) => return Poll::Ready(Err(system(io::ErrorKind::WriteZero.into()))),
            Ok(count) => return Poll::Ready(Ok(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(source) => return Poll::Ready(Err(system(source))),
        }
    }
}
