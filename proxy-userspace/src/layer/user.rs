//! The record layer in this process: read whole records, open them in place, seal them in place, write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::aead::{ContentType, HEADER_BYTES, Header, Opened, Opener, Sealer};
use super::buffer::{BATCH_RECORDS_MAX, Batch, Pool, READ_BYTES_MAX, Span};
use super::post::{Alert, Control, KEY_UPDATE_MESSAGE, PostHandshake};
use super::shared::{RECORDS_RESERVE, Shared};
use super::{Ending, LayerFault, OWN_WORDS_BYTES_MAX, Receive, Received, Transmit};

/// Slices that one write hands to the kernel: three per record, and the line before them.
const SLICES_MAX: usize = 3 * BATCH_RECORDS_MAX + 1;

/// The receiving half.
pub struct UserReceive {
    socket: OwnedReadHalf,
    opener: Opener,
    shared: Rc<Shared>,
    post: PostHandshake,
    pool: Pool,
    batch: Batch,
    end: Option<Result<Received, LayerFault>>,
    copied: u64,
}

impl UserReceive {
    /// From the first record on that the opener did not open yet.
    pub(super) fn new(socket: OwnedReadHalf, opener: Opener, shared: Rc<Shared>, pool: Pool) -> Self {
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
            // What came before an end was good, and goes first.
            if !self.batch.spans().is_empty() {
                return Poll::Ready(Ok(Received::Data));
            }
            if let Some(end) = self.end.take() {
                self.batch = Batch::default();
                return Poll::Ready(end);
            }
            self.batch.clear();
            let filled = match self.poll_fill(cx) {
                Poll::Pending if self.batch.is_called_back(cx) => {
                    return Poll::Ready(Err(LayerFault::MemoryShortage));
                }
                filled => ready!(filled),
            };
            match filled {
                Ok(0) => self.end = Some(Ok(Received::Truncated)),
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
    /// Read once. A buffer is taken when octets are there, and given back when they were not.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let batch = &mut self.batch;
        let buffer = match &mut batch.buffer {
            Some(buffer) => buffer,
            none => {
                ready!(self.socket.as_ref().poll_read_ready(cx))?;
                none.insert(ready!(self.pool.poll_take(&mut batch.turn, cx)))
            }
        };
        let partial = batch.filled - batch.parsed;
        // A header that was cut is moved to the front: never a body.
        if partial < HEADER_BYTES && batch.parsed > 0 {
            buffer.bytes.copy_within(batch.parsed..batch.filled, 0);
            self.copied += partial as u64;
            (batch.parsed, batch.filled) = (0, partial);
        }
        // At the front, fill the buffer; behind it, finish exactly the record that the last read cut.
        let until = match batch.parsed {
            0 => READ_BYTES_MAX,
            parsed => record_end(parsed, &buffer.bytes),
        };
        let room = buffer.bytes.get_mut(batch.filled..until).unwrap_or_default();
        let mut room = ReadBuf::new(room);
        let polled = Pin::new(&mut self.socket).poll_read(cx, &mut room);
        let count = room.filled().len();
        batch.filled += count;
        if batch.filled == 0 {
            batch.buffer = None;
        }
        polled.map_ok(|()| count)
    }

    /// Open what is complete, until the batch is full or the peer has ended.
    fn open_records(&mut self) -> Result<(), LayerFault> {
        while self.end.is_none() && self.batch.spans().len() < BATCH_RECORDS_MAX {
            let Some(buffer) = &mut self.batch.buffer else { return Ok(()) };
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
                    buffer.spans.push(Span { body, seal: Default::default() });
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
            Control::Closed => self.end = Some(Ok(Received::Closed)),
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

/// Where the record that begins at `parsed` ends, or its header while that is cut.
fn record_end(parsed: usize, bytes: &[u8]) -> usize {
    let header = bytes.get(parsed..).and_then(Header::parse);
    parsed + HEADER_BYTES + header.map_or(0, Header::length)
}

/// The transmitting half.
pub struct UserTransmit {
    socket: OwnedWriteHalf,
    sealer: Sealer,
    records_max: Option<u64>,
    shared: Rc<Shared>,
    /// Sealed records of our own that go before the next batch.
    line: Vec<u8>,
    line_sent: usize,
    mid_record: bool,
    ended: bool,
}

impl UserTransmit {
    /// From the first record on that the sealer did not seal yet. `records_max` lowers the suite's bound on records
    /// under later keys, as it did under this one.
    pub(super) fn new(
        socket: OwnedWriteHalf,
        sealer: Sealer,
        shared: Rc<Shared>,
        records_max: Option<u64>,
    ) -> Self {
        let (line, line_sent) = (Vec::new(), 0);
        Self { socket, sealer, records_max, shared, line, line_sent, mid_record: false, ended: false }
    }
}

impl Transmit for UserTransmit {
    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>> {
        if !batch.sealed {
            self.seal(batch)?;
        }
        let total: usize = batch.spans().iter().map(sealed_bytes).sum();
        while self.line_sent < self.line.len() || batch.sent < total {
            let line = self.line.get(self.line_sent..).unwrap_or_default();
            let count = match poll_write(&mut self.socket, cx, line, batch) {
                Poll::Pending if batch.is_called_back(cx) => {
                    return Poll::Ready(Err(LayerFault::MemoryShortage));
                }
                written => ready!(written)?,
            };
            let of_line = count.min(line.len());
            self.line_sent += of_line;
            batch.sent += count - of_line;
            self.mid_record = true;
        }
        self.mid_record = false;
        self.forget_line();
        Poll::Ready(Ok(()))
    }

    fn queue(&mut self, words: &[u8]) -> Result<(), LayerFault> {
        if words.len() + self.line.len() > 2 * OWN_WORDS_BYTES_MAX {
            return Err(LayerFault::RecordOverflow);
        }
        if self.sealer.records_left() <= RECORDS_RESERVE && self.shared.version != ProtocolVersion::TLSv1_3 {
            return Err(LayerFault::ConfidentialityLimit);
        }
        self.line_up(ContentType::ApplicationData, words)
    }

    fn queue_alert(&mut self, alert: Alert) -> Result<(), LayerFault> {
        self.line_up(ContentType::Alert, &alert.encode())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>> {
        self.poll_send(cx, &mut Batch::default())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, ending: Ending) -> Poll<Result<(), LayerFault>> {
        if !self.ended {
            self.ended = true;
            if ending == Ending::Notify {
                self.queue_alert(Alert::CLOSE_NOTIFY)?;
            }
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket)
            .poll_shutdown(cx)
            .map_err(|source| LayerFault::System { call: "shutdown", source })
    }

    fn is_mid_record(&self) -> bool {
        self.mid_record
    }
}

impl UserTransmit {
    /// Seal every span where it stands; a KeyUpdate that is owed or due goes before them.
    fn seal(&mut self, batch: &mut Batch) -> Result<(), LayerFault> {
        let records = batch.spans().len() as u64;
        // Without data nothing is due under TLS 1.2: its last alert must still go out.
        let changes = records > 0 || self.shared.version == ProtocolVersion::TLSv1_3;
        let due = changes && self.sealer.records_left() < records + RECORDS_RESERVE;
        if self.shared.owes_key_update.take() || due {
            self.change_key()?;
        }
        if let Some(buffer) = &mut batch.buffer {
            for span in &mut buffer.spans {
                let body = buffer.bytes.get_mut(span.body.clone()).ok_or(LayerFault::SealFailed)?;
                span.seal = self.sealer.seal(ContentType::ApplicationData, body)?;
            }
        }
        batch.sealed = true;
        batch.sent = 0;
        Ok(())
    }

    /// Announce and take the next sending key. TLS 1.2 has none: its connection ends while it can still say so.
    fn change_key(&mut self) -> Result<(), LayerFault> {
        if self.shared.version != ProtocolVersion::TLSv1_3 {
            return Err(LayerFault::ConfidentialityLimit);
        }
        self.line_up(ContentType::Handshake, &KEY_UPDATE_MESSAGE)?;
        let next = self.shared.kernel.borrow_mut().next_transmit()?;
        self.sealer = Sealer::new(self.shared.version, &next, self.records_max)?;
        Ok(())
    }

    fn line_up(&mut self, content: ContentType, octets: &[u8]) -> Result<(), LayerFault> {
        let mut body = octets.to_vec();
        let seal = self.sealer.seal(content, &mut body)?;
        self.line.extend_from_slice(seal.head());
        self.line.extend_from_slice(&body);
        self.line.extend_from_slice(seal.tail());
        Ok(())
    }

    fn forget_line(&mut self) {
        self.line = Vec::new();
        self.line_sent = 0;
    }
}

fn sealed_bytes(span: &Span) -> usize {
    span.seal.head().len() + span.body.len() + span.seal.tail().len()
}

/// One write of everything that is left, as slices: nothing is gathered into another buffer.
fn poll_write(
    socket: &mut OwnedWriteHalf,
    cx: &mut Context<'_>,
    line: &[u8],
    batch: &Batch,
) -> Poll<Result<usize, LayerFault>> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let bytes = batch.buffer.as_ref().map(|buffer| &*buffer.bytes).unwrap_or_default();
    let sealed = batch.spans().iter().flat_map(|span| {
        [span.seal.head(), bytes.get(span.body.clone()).unwrap_or_default(), span.seal.tail()]
    });
    let mut skip = batch.sent;
    let unsent = sealed.filter_map(|part| {
        let skipped = skip.min(part.len());
        skip -= skipped;
        part.get(skipped..).filter(|rest| !rest.is_empty())
    });
    let parts = Some(line).filter(|line| !line.is_empty()).into_iter().chain(unsent);
    let mut count = 0;
    for (slot, part) in slices.iter_mut().zip(parts) {
        *slot = IoSlice::new(part);
        count += 1;
    }
    let slices = slices.get(..count).unwrap_or_default();
    match ready!(Pin::new(socket).poll_write_vectored(cx, slices)) {
        Ok(0) => {
            Poll::Ready(Err(LayerFault::System { call: "send", source: io::ErrorKind::WriteZero.into() }))
        }
        Ok(count) => Poll::Ready(Ok(count)),
        Err(source) => Poll::Ready(Err(LayerFault::System { call: "send", source })),
    }
}
