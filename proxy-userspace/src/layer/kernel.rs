//! The record layer in the kernel (Documentation/networking/tls.rst): the kernel opens and seals, and this process
//! reads and writes plaintext.
//!
//! Records that are no data carry their type in a control message, and are handled as in the user layer.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ktls::CryptoInfo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use rustls::ProtocolVersion;
use tokio::io::{AsyncWrite as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::coop::poll_proceed;
use zeroize::Zeroizing;

use super::aead::{AES_GCM_RECORDS_MAX, ContentType};
use super::buffer::{Batch, Pool, READ_BYTES_MAX};
use super::offload::crypto_info;
use super::post::{Alert, Control, KEY_UPDATE, KEY_UPDATE_MESSAGE, PostHandshake};
use super::shared::{RECORDS_RESERVE, SideState};
use super::{LayerFault, OWN_WORDS_BYTES_MAX, PLAINTEXT_BYTES_MAX, Receive, Received, StreamEnd, Transmit};
use crate::sys::{self, Half};

/// A header that the kernel refuses makes an error on the socket and nothing to read (`tls_rx_abort` in
/// net/tls/tls_sw.c). So a half waits for errors, too.
const SOMETHING: Interest = Interest::READABLE.add(Interest::ERROR);

/// Boxed, because the runtime has no other way to wait for errors.
type Wait = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// The receiving half.
pub struct KernelReceive {
    socket: Rc<OwnedReadHalf>,
    /// Waits for octets or an error, while nothing is there.
    wait: Option<Wait>,
    shared: Rc<SideState>,
    post: PostHandshake,
    pool: Pool,
    batch: Batch,
    end: Option<StreamEnd>,
    /// Whether the kernel can change keys. Behind what such a kernel takes for a KeyUpdate, it opens nothing until a
    /// key is set.
    rekeys: bool,
    /// The size of a key in the kernel's form.
    key_bytes: usize,
}

impl KernelReceive {
    /// The kernel has this half's key, `info`.
    pub(super) fn new(
        socket: OwnedReadHalf,
        shared: Rc<SideState>,
        pool: Pool,
        info: &CryptoInfo,
        rekeys: bool,
    ) -> Self {
        let (post, batch) = (PostHandshake::default(), Batch::default());
        let (socket, key_bytes) = (Rc::new(socket), info.size());
        Self { socket, wait: None, shared, post, pool, batch, end: None, rekeys, key_bytes }
    }

    fn socket(&self) -> &TcpStream {
        (*self.socket).as_ref()
    }

    /// Read records of one type. While nothing is there, no buffer is held.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(usize, Option<u8>), LayerFault>> {
        loop {
            if self.wait.is_some() {
                ready!(self.poll_wait(cx)).map_err(system("poll"))?;
            }
            // Neither waiting for errors nor `try_io` spends the runtime's budget.
            let budget = ready!(poll_proceed(cx));
            let socket = (*self.socket).as_ref();
            let turn = &mut self.batch.turn;
            // A buffer is taken when octets are there: an idle session holds none.
            let mut read = |interest| {
                socket.try_io(interest, || {
                    let Poll::Ready(mut buffer) = self.pool.poll_take(turn, cx) else { return Ok(None) };
                    let room = buffer.bytes.get_mut(..READ_BYTES_MAX).unwrap_or_default();
                    Ok(Some((sys::receive_records(socket, room)?, buffer)))
                })
            };
            // One interest at a time: for two together tokio's `try_io` is never ready.
            let read = match read(Interest::READABLE) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => read(Interest::ERROR),
                read => read,
            };
            match read {
                // No buffer is left, and this half waits in line for one.
                Ok(None) => return Poll::Pending,
                Ok(Some(((0, None), _))) => return Poll::Ready(Ok((0, None))),
                Ok(Some((read, buffer))) => {
                    budget.made_progress();
                    self.batch.buffer = Some(buffer);
                    return Poll::Ready(Ok(read));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.batch.turn = None;
                    ready!(self.poll_wait(cx)).map_err(system("poll"))?;
                }
                Err(error) => return Poll::Ready(Err(refused(error))),
            }
        }
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wait = self.wait.get_or_insert_with(|| {
            let socket = Rc::clone(&self.socket);
            Box::pin(async move { socket.ready(SOMETHING).await.map(drop) })
        });
        let waited = ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(waited)
    }

    /// Divide data into pieces that fit one record each, for either layer that sends them.
    fn data(&mut self, count: usize) -> Result<(), LayerFault> {
        self.post.data()?;
        if let Some(buffer) = &mut self.batch.buffer {
            let starts = (0..count).step_by(PLAINTEXT_BYTES_MAX);
            buffer.plain.extend(starts.map(|start| start..count.min(start + PLAINTEXT_BYTES_MAX)));
        }
        Ok(())
    }

    fn control(&mut self, count: usize, octet: u8) -> Result<(), LayerFault> {
        let content = ContentType::parse(octet).ok_or(LayerFault::UnexpectedRecord)?;
        let buffer = self.batch.buffer.take();
        let octets = buffer.as_ref().and_then(|buffer| buffer.bytes.get(..count)).unwrap_or_default();
        // The kernel checks the first octet of every handshake record, also where the record is the middle of a message
        // (`tls_check_pending_rekey` in net/tls/tls_sw.c).
        let stopped = self.rekeys
            && content == ContentType::Handshake
            && octets.first().is_some_and(|octet| *octet == KEY_UPDATE);
        match self.shared.control(&mut self.post, content, octets)? {
            Control::Done if stopped => self.go_on()?,
            Control::Done => {}
            Control::Closed => self.end = Some(StreamEnd::Closed),
            Control::KeyUpdate { reply } => {
                // Until the kernel has the next key, it opens nothing and wakes nobody.
                let next = self.shared.kernel.borrow_mut().next_receive()?;
                let info = crypto_info(self.shared.suite, Half::Receive, next)?;
                sys::set_tls_key(self.socket(), Half::Receive, &info).map_err(no_new_key)?;
                if reply {
                    self.shared.owes_key_update.set(true);
                }
            }
        }
        Ok(())
    }

    /// Set the same key again, after a piece of a message that began like a KeyUpdate. The kernel opens nothing more
    /// until a key is set, and the next record comes under the same key.
    fn go_on(&self) -> Result<(), LayerFault> {
        if self.shared.version != ProtocolVersion::TLSv1_3 {
            // TLS 1.2 sets a key once, and every handshake message ends the session anyway.
            return Err(LayerFault::UnexpectedRecord);
        }
        sys::repeat_tls_key(self.socket(), self.key_bytes).map_err(no_new_key)
    }
}

/// What a splice out of a half moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spliced {
    /// So many octets of data are in the pipe.
    Octets(usize),
    /// Nothing: the next record is no data, and [`Receive::poll_receive`] takes it.
    Other,
}

impl KernelReceive {
    /// Splice data out with `splice`. It is called with this half's socket when octets are there, so that no pipe needs
    /// to be held before, and returns what splice(2) returns. The kernel splices at most one record.
    ///
    /// # Errors
    /// As [`Receive::poll_receive`].
    pub fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        mut splice: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<Result<Spliced, LayerFault>> {
        self.batch.clear();
        if self.end.is_some() {
            return Poll::Ready(Ok(Spliced::Other));
        }
        loop {
            if self.wait.is_some() {
                ready!(self.poll_wait(cx)).map_err(system("poll"))?;
            }
            let turn = ready!(poll_proceed(cx));
            let socket = self.socket();
            let mut moves = |interest| socket.try_io(interest, || splice(socket));
            let moved = match moves(Interest::READABLE) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => moves(Interest::ERROR),
                moved => moved,
            };
            match moved {
                Ok(0) => return Poll::Ready(Ok(Spliced::Other)),
                Ok(count) => {
                    turn.made_progress();
                    self.post.data()?;
                    return Poll::Ready(Ok(Spliced::Octets(count)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_wait(cx)).map_err(system("poll"))?;
                }
                // A record that is no data cannot be spliced (`tls_sw_splice_read` in net/tls/tls_sw.c). A wrong record
                // gives its error again when it is read. Without a pipe the record is read, too.
                Err(_) => return Poll::Ready(Ok(Spliced::Other)),
            }
        }
    }
}

impl Receive for KernelReceive {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, LayerFault>> {
        self.batch.clear();
        loop {
            if let Some(end) = self.end.take() {
                return Poll::Ready(Ok(Received::End(end)));
            }
            match ready!(self.poll_read(cx))? {
                (0, None) => return Poll::Ready(Ok(Received::End(StreamEnd::Truncated))),
                (count, Some(octet)) if octet == ContentType::ApplicationData.octet() && count > 0 => {
                    self.data(count)?;
                    return Poll::Ready(Ok(Received::Data));
                }
                (count, Some(octet)) => self.control(count, octet)?,
                // The kernel gives a type with every record.
                (_, None) => return Poll::Ready(Err(LayerFault::UnexpectedRecord)),
            }
        }
    }

    fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    fn kernel(&mut self) -> Option<&mut KernelReceive> {
        Some(self)
    }
}

/// What is sent, or set, before the next data.
enum Queued {
    Record {
        content: ContentType,
        /// Wiped when dropped: mail may stand in it.
        octets: Zeroizing<Vec<u8>>,
        sent: usize,
    },
    /// The next key, behind the KeyUpdate that announces it.
    Key(CryptoInfo),
}

/// The transmitting half.
pub struct KernelTransmit {
    socket: OwnedWriteHalf,
    shared: Rc<SideState>,
    /// Whether the kernel can change keys.
    rekeys: bool,
    records_max: u64,
    /// At least so many records may still be sealed under this key. Each write is counted with the most records that
    /// the kernel can make of it, so that the key is changed before its limit.
    records_left: u64,
    queue: VecDeque<Queued>,
    /// The next key is queued.
    changing: bool,
    mid_batch: bool,
    ended: bool,
}

impl KernelTransmit {
    /// The kernel has this half's key. `records_max` lowers the suite's bound on records under one key.
    pub(super) fn new(
        socket: OwnedWriteHalf,
        shared: Rc<SideState>,
        info: &CryptoInfo,
        rekeys: bool,
        records_max: Option<u64>,
    ) -> Self {
        let limit = match info {
            CryptoInfo::Chacha20Poly1305(_) => u64::MAX,
            _ => AES_GCM_RECORDS_MAX,
        };
        let records_max = records_max.map_or(limit, |max| max.min(limit));
        let (queue, records_left) = (VecDeque::new(), records_max);
        let (changing, mid_batch, ended) = (false, false, false);
        Self { socket, shared, rekeys, records_max, records_left, queue, changing, mid_batch, ended }
    }

    /// Send `octets` out of a pipe as data, behind what is queued, and then what was queued meanwhile. The pipe holds
    /// that many octets. `octets` counts down, so that the call can be repeated; `whole` is true until the splice
    /// begins.
    ///
    /// # Errors
    /// As [`Transmit::poll_send`].
    pub fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        octets: &mut usize,
        whole: &mut bool,
    ) -> Poll<Result<(), LayerFault>> {
        if *whole {
            self.prepare(*octets)?;
            ready!(self.poll_queue(cx))?;
            *whole = false;
        }
        while *octets > 0 {
            let socket = self.socket.as_ref();
            ready!(socket.poll_write_ready(cx)).map_err(system("poll"))?;
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            match socket.try_io(Interest::WRITABLE, || Ok(splice(pipe, None, socket, None, *octets, flags)?))
            {
                Ok(0) => return Poll::Ready(Err(system("splice")(io::ErrorKind::WriteZero.into()))),
                Ok(count) => {
                    self.took(count);
                    *octets -= count.min(*octets);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(system("splice")(error))),
            }
        }
        self.poll_queue(cx)
    }

    /// Queue a KeyUpdate that is owed or due before so many octets of data.
    fn prepare(&mut self, octets: usize) -> Result<(), LayerFault> {
        // Without data nothing is due under TLS 1.2, so that its last alert can still go out.
        let changes = octets > 0 || self.shared.version == ProtocolVersion::TLSv1_3;
        let due = changes && !self.changing && self.records_left < records(octets) + RECORDS_RESERVE;
        if self.shared.owes_key_update.take() || due {
            self.change_key()?;
        }
        Ok(())
    }

    /// The kernel took so many octets of data.
    fn took(&mut self, octets: usize) {
        self.records_left = self.records_left.saturating_sub(records(octets));
    }

    fn change_key(&mut self) -> Result<(), LayerFault> {
        if self.shared.version != ProtocolVersion::TLSv1_3 {
            return Err(LayerFault::ConfidentialityLimit);
        }
        if !self.rekeys {
            return Err(LayerFault::NoKeyChange);
        }
        let next = self.shared.kernel.borrow_mut().next_transmit()?;
        let info = crypto_info(self.shared.suite, Half::Transmit, next)?;
        self.enqueue(ContentType::Handshake, &KEY_UPDATE_MESSAGE);
        self.queue.push_back(Queued::Key(info));
        self.changing = true;
        Ok(())
    }

    fn enqueue(&mut self, content: ContentType, octets: &[u8]) {
        self.queue.push_back(Queued::Record { content, octets: octets.to_vec().into(), sent: 0 });
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>> {
        let total = batch.released().iter().map(|span| span.body.len()).sum();
        if !batch.sealed && total > 0 {
            // From here on the kernel takes what was released record by record, as if it were sealed.
            (batch.sealed, batch.sent) = (true, 0);
        }
        // Our own words stand before a batch or behind it, never inside.
        if batch.sent == 0 {
            self.prepare(total)?;
            ready!(self.poll_queue(cx))?;
        }
        self.mid_batch = batch.sent < total;
        while batch.sent < total {
            let count = ready!(poll_write(self.socket.as_ref(), cx, batch))?;
            self.took(count);
            batch.sent += count;
        }
        self.mid_batch = false;
        batch.sent_all();
        self.poll_queue(cx)
    }

    /// Send what is queued.
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>> {
        while let Some(own) = self.queue.front_mut() {
            match own {
                Queued::Record { content, octets, sent } => {
                    let rest = octets.get(*sent..).unwrap_or_default();
                    let socket = self.socket.as_ref();
                    ready!(socket.poll_write_ready(cx)).map_err(system("poll"))?;
                    match socket
                        .try_io(Interest::WRITABLE, || sys::send_record(socket, content.octet(), rest))
                    {
                        Ok(count) => {
                            *sent += count;
                            self.records_left = self.records_left.saturating_sub(1);
                            if *sent < octets.len() {
                                continue;
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                        Err(error) => return Poll::Ready(Err(system("sendmsg")(error))),
                    }
                }
                Queued::Key(info) => {
                    sys::set_tls_key(self.socket.as_ref(), Half::Transmit, info).map_err(no_new_key)?;
                    (self.records_left, self.changing) = (self.records_max, false);
                }
            }
            self.queue.pop_front();
        }
        Poll::Ready(Ok(()))
    }

    /// Wait until a third of the send buffer is free. A record that did not fit, and waited in the kernel's TLS layer,
    /// has then gone to TCP, and is not lost when our half is closed (`sk_stream_is_writeable`, `tls_sw_write_space`).
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>> {
        let socket = self.socket.as_ref();
        loop {
            ready!(socket.poll_write_ready(cx)).map_err(system("poll"))?;
            let room = || {
                let mut asked = [PollFd::new(socket, PollFlags::OUT)];
                match poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(()),
                }
            };
            match socket.try_io(Interest::WRITABLE, room) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(system("poll")(error))),
            }
        }
    }
}

impl Transmit for KernelTransmit {
    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>> {
        match self.poll_batch(cx, batch) {
            Poll::Pending if batch.is_called_back(cx) => Poll::Ready(Err(LayerFault::MemoryShortage)),
            sent => sent,
        }
    }

    fn queue(&mut self, words: &[u8]) -> Result<(), LayerFault> {
        let waiting: usize = self
            .queue
            .iter()
            .map(|own| if let Queued::Record { octets, .. } = own { octets.len() } else { 0 })
            .sum();
        if words.len() + waiting > 2 * OWN_WORDS_BYTES_MAX {
            return Err(LayerFault::RecordOverflow);
        }
        if self.records_left <= RECORDS_RESERVE && self.shared.version != ProtocolVersion::TLSv1_3 {
            return Err(LayerFault::ConfidentialityLimit);
        }
        self.enqueue(ContentType::ApplicationData, words);
        Ok(())
    }

    fn queue_alert(&mut self, alert: Alert) -> Result<(), LayerFault> {
        self.enqueue(ContentType::Alert, &alert.encode());
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>> {
        self.prepare(0)?;
        self.poll_queue(cx)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, end: StreamEnd) -> Poll<Result<(), LayerFault>> {
        if !self.ended {
            self.ended = true;
            if end == StreamEnd::Closed {
                self.queue_alert(Alert::CLOSE_NOTIFY)?;
            }
        }
        ready!(self.poll_queue(cx))?;
        ready!(self.poll_room(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx).map_err(system("shutdown"))
    }

    fn kernel(&mut self) -> Option<&mut KernelTransmit> {
        Some(self)
    }

    fn is_mid_batch(&self) -> bool {
        self.mid_batch
    }
}

/// The most records that the kernel makes of so many octets.
const fn records(octets: usize) -> u64 {
    octets.div_ceil(PLAINTEXT_BYTES_MAX) as u64
}

/// Write all that is left of a batch in one call, as slices of the buffer in which it was received.
fn poll_write(socket: &TcpStream, cx: &mut Context<'_>, batch: &Batch) -> Poll<Result<usize, LayerFault>> {
    let mut slices = [IoSlice::new(&[]); super::buffer::BATCH_RECORDS_MAX];
    let count = batch.unsent(&mut slices);
    let slices = slices.get(..count).unwrap_or_default();
    loop {
        ready!(socket.poll_write_ready(cx)).map_err(system("poll"))?;
        match socket.try_write_vectored(slices) {
            Ok(0) => return Poll::Ready(Err(system("send")(io::ErrorKind::WriteZero.into()))),
            Ok(count) => return Poll::Ready(Ok(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(system("send")(error))),
        }
    }
}

fn system(call: &'static str) -> impl FnOnce(io::Error) -> LayerFault {
    move |source| LayerFault::System { call, source }
}

/// The fault for the kernel's errno about a wrong record (net/tls/tls_sw.c, net/tls/tls_strp.c).
fn refused(error: io::Error) -> LayerFault {
    match Errno::from_io_error(&error) {
        Some(Errno::BADMSG) => LayerFault::BadRecord,
        Some(Errno::MSGSIZE) => LayerFault::RecordOverflow,
        Some(Errno::INVAL) => LayerFault::NotTls,
        _ => LayerFault::System { call: "recvmsg", source: error },
    }
}

/// The fault for an errno when another key is set. Before Linux 6.14 a key is set once.
fn no_new_key(error: io::Error) -> LayerFault {
    match Errno::from_io_error(&error) {
        Some(Errno::BUSY) => LayerFault::NoKeyChange,
        _ => LayerFault::System { call: "setsockopt(SOL_TLS)", source: error },
    }
}
