//! Pooled buffers, held only while octets are in them.

use std::cell::RefCell;
use std::io::IoSlice;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use zeroize::Zeroize as _;

use super::PLAINTEXT_BYTES_MAX;
use super::aead::{RECORD_BYTES_MAX, Seal};
use super::budget::{Budget, Lease, Turn};

/// Octets that one read asks the kernel for: a little more than four full records. Larger reads cost more CPU per
/// gigabyte when they were measured, because the data falls out of the second-level cache between kernel, cipher and
/// kernel.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024 + 512;
/// A buffer's size: one read, and room to finish the record that the read cut.
pub(crate) const BUFFER_BYTES: usize = READ_BYTES_MAX + RECORD_BYTES_MAX;
/// Records that are opened in one go. Further records stay sealed in the buffer until these are sent. This bounds the
/// work that a flood of one-octet records causes before other sessions have their turn.
pub(super) const BATCH_RECORDS_MAX: usize = 64;
/// Octets of our own that a lent batch has room for: four full records, which one write sends.
const LENT_BYTES_MAX: usize = 4 * PLAINTEXT_BYTES_MAX;
/// Free buffers that a mail thread keeps (1.3 MiB); more are given back to the allocator. Few are free at once, because a
/// buffer is taken when octets are there, and mostly given back within the same turn.
const POOL_BUFFERS_MAX: usize = 16;
/// A free buffer that nobody took for one to two of these is wiped. Wiping each that comes back would cost 5 % of the CPU
/// time per gigabyte; a buffer that is taken again within a second is written over anyway.
const REST: Duration = Duration::from_secs(1);

/// A thread's free buffers, and how many may be in use. One thread owns it: no lock.
#[derive(Clone, Default)]
pub struct Pool(Rc<FreeBuffers>, Budget);

#[derive(Default)]
struct FreeBuffers {
    buffers: RefCell<Vec<BufferParts>>,
    /// A buffer came back that mail may stand in.
    came_back: Notify,
}

struct BufferParts {
    bytes: Box<[u8]>,
    plain: Vec<Range<usize>>,
    released: Vec<Span>,
    content: Content,
}

/// What stands in a free buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Mail, since a moment ago.
    Fresh,
    /// Mail, for [`REST`] at least.
    Resting,
    /// Nothing.
    Wiped,
}

impl Pool {
    /// An empty buffer, or a place in line for one: see [`Budget::poll_lease`].
    pub(super) fn poll_take(&self, turn: &mut Option<Turn>, cx: &mut Context<'_>) -> Poll<Buffer> {
        let lease = ready!(self.1.poll_lease(turn, cx));
        Poll::Ready(self.take(lease))
    }

    fn take(&self, lease: Lease) -> Buffer {
        let parts = self.0.buffers.borrow_mut().pop().unwrap_or_else(|| BufferParts {
            bytes: vec![0; BUFFER_BYTES].into_boxed_slice(),
            plain: Vec::with_capacity(BATCH_RECORDS_MAX),
            released: Vec::with_capacity(BATCH_RECORDS_MAX),
            content: Content::Wiped,
        });
        let BufferParts { bytes, plain, released, .. } = parts;
        Buffer { bytes, plain, released, pool: self.clone(), lease }
    }

    /// Lend an empty batch for octets of our own, or take a place in line for its buffer, which `batch` keeps: the
    /// budget is the one that receiving halves wait for. A batch that has a buffer keeps it.
    ///
    /// A direction that holds a buffer must not wait for another one, or directions could wait for each other: see
    /// [`Pool::lend_now`].
    pub fn poll_lend(&self, batch: &mut Batch, cx: &mut Context<'_>) -> Poll<()> {
        if batch.buffer.is_none() {
            batch.buffer = Some(ready!(self.poll_take(&mut batch.turn, cx)));
            batch.is_lent = true;
        }
        Poll::Ready(())
    }

    /// Lend an empty batch if a buffer is free and nobody waits for it. Returns whether the batch has one.
    #[must_use]
    pub fn lend_now(&self, batch: &mut Batch) -> bool {
        if batch.buffer.is_none() {
            batch.buffer = self.1.lease_now().map(|lease| self.take(lease));
            batch.is_lent = batch.buffer.is_some();
        }
        batch.buffer.is_some()
    }

    /// Let so many buffers be in use at once, at least one. Without a call there is no limit.
    pub fn limit(&self, buffers: usize) {
        self.1.limit(buffers);
    }

    /// End sessions that hold buffers in which nothing moves while others wait; never returns. For one task beside the
    /// sessions.
    pub async fn relieve(&self) {
        self.1.relieve().await;
    }

    /// Wipe free buffers that nobody takes, for ever: mail that has gone on shall not be found in memory. For one task
    /// beside the sessions.
    pub async fn wipe(&self) {
        loop {
            self.0.came_back.notified().await;
            while self.wipe_resting() {
                sleep(REST).await;
            }
        }
    }

    /// Wipe what rested since the last call; whether there is more to wipe later.
    fn wipe_resting(&self) -> bool {
        let mut free = self.0.buffers.borrow_mut();
        for parts in free.iter_mut() {
            parts.content = match parts.content {
                Content::Fresh => Content::Resting,
                Content::Resting | Content::Wiped => {
                    if parts.content == Content::Resting {
                        parts.bytes.fill(0);
                    }
                    Content::Wiped
                }
            };
        }
        free.iter().any(|parts| parts.content != Content::Wiped)
    }

    /// Free buffers, for tests and status.
    #[must_use]
    pub fn free(&self) -> usize {
        self.0.buffers.borrow().len()
    }
}

/// A buffer and the records in it. It returns to its pool when dropped.
pub(super) struct Buffer {
    pub(super) bytes: Box<[u8]>,
    /// Plaintext, record by record.
    pub(super) plain: Vec<Range<usize>>,
    /// Plaintext that may go on, in the pieces that become records. At most [`BATCH_RECORDS_MAX`].
    pub(super) released: Vec<Span>,
    pool: Pool,
    lease: Lease,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let (bytes, mut plain) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.plain));
        let mut released = std::mem::take(&mut self.released);
        plain.clear();
        released.clear();
        let mut parts = BufferParts { bytes, plain, released, content: Content::Fresh };
        let FreeBuffers { buffers, came_back } = &*self.pool.0;
        let mut free = buffers.borrow_mut();
        if free.len() < POOL_BUFFERS_MAX {
            free.push(parts);
            came_back.notify_one();
        } else {
            // Few are: see POOL_BUFFERS_MAX. The allocator would keep what stands in it.
            parts.bytes.zeroize();
        }
    }
}

/// Plaintext inside a buffer that becomes one record, and what sealing puts around it.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) body: Range<usize>,
    pub(super) seal: Seal,
}

/// Plaintext as it was received, or of our own, in order. From its front, octets are released, which the transmitting
/// half then seals in place and sends, or left out. What was not released yet stays plaintext.
#[derive(Default)]
pub struct Batch {
    pub(super) buffer: Option<Buffer>,
    /// Its place in line, while it waits for a buffer.
    pub(super) turn: Option<Turn>,
    /// Whether the buffer was lent for octets of our own.
    is_lent: bool,
    /// Octets received into the buffer.
    pub(super) filled: usize,
    /// The offset of the first record that is not opened yet.
    pub(super) parsed: usize,
    /// The first piece of plaintext that is not wholly released or left out.
    at: usize,
    /// Whether what was released is sealed, or as good as sealed. Until it is sent, nothing more is released.
    pub(super) sealed: bool,
    /// See [`Batch::sent`].
    pub(super) sent: usize,
    /// See [`Batch::set_followed`].
    pub(super) followed: bool,
}

impl Batch {
    /// A batch that was received in records with these contents, 64 at most and together 64 KiB at most, for tests of
    /// engines and for fuzz targets.
    #[cfg(any(test, fuzzing))]
    #[must_use]
    pub fn of(records: &[&[u8]]) -> Self {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(mut buffer) = Pool::default().poll_take(&mut None, &mut cx) else {
            return Self::default();
        };
        let mut at = 0;
        for record in records {
            let body = at..at + record.len();
            if let Some(room) = buffer.bytes.get_mut(body.clone()) {
                room.copy_from_slice(record);
            }
            at = body.end;
            buffer.plain.push(body);
        }
        Self { buffer: Some(buffer), ..Self::default() }
    }

    /// The plaintext that was neither released nor left out, record by record.
    pub fn plaintext(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.buffer.iter().flat_map(|buffer| {
            let plain = buffer.plain.get(self.at..).unwrap_or_default();
            plain.iter().map(|body| buffer.bytes.get(body.clone()).unwrap_or_default())
        })
    }

    /// Octets of this plaintext.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.plaintext().map(|octets| octets.len() as u64).sum()
    }

    pub(super) fn has_plaintext(&self) -> bool {
        self.plaintext().next().is_some()
    }

    /// Let the next so many octets go on: [`poll_send`](super::Transmit::poll_send) sends them, in as many records as
    /// they stand in. A record that the mark cuts goes on as two. Further calls add to what goes on together.
    ///
    /// Returns how many were released. These are fewer where the batch holds fewer, where 64 records wait already, or
    /// while others are being sent: send them, and call again.
    pub fn release(&mut self, octets: usize) -> usize {
        let is_sealed = self.sealed;
        self.pass(octets, |released, body| {
            let takes = !is_sealed && released.len() < BATCH_RECORDS_MAX;
            if takes {
                released.push(Span { body, seal: Seal::default() });
            }
            takes
        })
    }

    /// Leave the next so many octets out. Returns how many the batch held.
    pub fn skip(&mut self, octets: usize) -> usize {
        self.pass(octets, |_, _| true)
    }

    /// Give `each` the next pieces of plaintext, until these are so many octets or it takes one not.
    fn pass(&mut self, octets: usize, mut each: impl FnMut(&mut Vec<Span>, Range<usize>) -> bool) -> usize {
        let Some(buffer) = &mut self.buffer else { return 0 };
        let mut passed = 0;
        while passed < octets
            && let Some(body) = buffer.plain.get_mut(self.at)
        {
            let mark = body.end.min(body.start.saturating_add(octets - passed));
            if !each(&mut buffer.released, body.start..mark) {
                break;
            }
            passed += mark - body.start;
            body.start = mark;
            self.at += usize::from(body.start == body.end);
        }
        passed
    }

    /// Add octets of our own to a lent batch: `fill` writes to the front of the room that is left, and returns how many
    /// it wrote. Returns the same; without room, `fill` is not called.
    pub fn append(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let Some(buffer) = &mut self.buffer else { return 0 };
        let mut from = buffer.plain.last().map_or(0, |body| body.end);
        let room = match buffer.bytes.get_mut(from..LENT_BYTES_MAX) {
            // Behind what was received, records may stand that are not opened yet.
            Some(room) if self.is_lent && !room.is_empty() => room,
            _ => return 0,
        };
        let count = fill(room).min(room.len());
        let end = from + count;
        while from < end {
            let until = end.min((from / PLAINTEXT_BYTES_MAX + 1) * PLAINTEXT_BYTES_MAX);
            let begins = from.is_multiple_of(PLAINTEXT_BYTES_MAX) || self.at == buffer.plain.len();
            match buffer.plain.last_mut() {
                Some(last) if !begins => last.end = until,
                _ => buffer.plain.push(from..until),
            }
            from = until;
        }
        count
    }

    /// Octets that the kernel has taken of what was released: of sealed records, or of plaintext where the kernel
    /// seals.
    #[must_use]
    pub const fn sent(&self) -> usize {
        self.sent
    }

    /// More is sent at once behind what was released. The kernel may then wait for it, and put both into one segment
    /// (`MSG_MORE`, send(2)). Holds until all that was released is sent.
    pub const fn set_followed(&mut self, followed: bool) {
        self.followed = followed;
    }

    /// Whether octets were released that are not wholly sent.
    #[must_use]
    pub fn is_on_its_way(&self) -> bool {
        !self.released().is_empty()
    }

    /// Whether the batch has a buffer, perhaps with records in it that are not opened yet.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.buffer.is_some()
    }

    pub(super) fn released(&self) -> &[Span] {
        self.buffer.as_ref().map(|buffer| buffer.released.as_slice()).unwrap_or_default()
    }

    /// What the kernel has not taken of the released plaintext, as slices of the buffer in which it was received; how many
    /// slices these are.
    pub(super) fn unsent<'a>(&'a self, slices: &mut [IoSlice<'a>; BATCH_RECORDS_MAX]) -> usize {
        let bytes = self.buffer.as_ref().map(|buffer| &*buffer.bytes).unwrap_or_default();
        let mut skip = self.sent;
        let unsent = self.released().iter().filter_map(|span| {
            let body = bytes.get(span.body.clone()).unwrap_or_default();
            let skipped = skip.min(body.len());
            skip -= skipped;
            body.get(skipped..).filter(|rest| !rest.is_empty())
        });
        let mut count = 0;
        for (slot, part) in slices.iter_mut().zip(unsent) {
            *slot = IoSlice::new(part);
            count += 1;
        }
        count
    }

    /// All that was released is sent.
    pub(super) fn sent_all(&mut self) {
        (self.sealed, self.sent, self.followed) = (false, 0, false);
        if let Some(buffer) = self.buffer.as_mut().filter(|buffer| !buffer.released.is_empty()) {
            buffer.released.clear();
            buffer.lease.moved();
        }
    }

    /// Whether a direction that cannot go on now must give this buffer back: others wait for one, and nothing in this
    /// one has moved for long. The task is woken when that changes.
    pub fn is_called_back(&self, cx: &mut Context<'_>) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| buffer.lease.is_called_back(cx))
    }

    /// Leave the line for a buffer, because this direction does not receive now. Those behind it would wait for it.
    pub fn leave_line(&mut self) {
        self.turn = None;
    }

    /// Leave out what is left, as a receiving half does before it receives more, because this direction does not receive
    /// now. A buffer that holds nothing more goes back to the pool.
    pub fn rest(&mut self) {
        self.leave_line();
        self.clear();
    }

    /// Forget what was received. A buffer that holds nothing more goes back to the pool.
    pub(super) fn clear(&mut self) {
        self.at = 0;
        self.sealed = false;
        self.sent = 0;
        if let Some(buffer) = &mut self.buffer {
            if !buffer.plain.is_empty() {
                buffer.lease.moved();
            }
            buffer.plain.clear();
            buffer.released.clear();
        }
        if self.parsed == self.filled {
            self.parsed = 0;
            self.filled = 0;
            self.is_lent = false;
            self.buffer = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] = b"Subject: a secret\r\n";

    fn take(pool: &Pool) -> Buffer {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(buffer) = pool.poll_take(&mut None, &mut cx) else { panic!("no buffer") };
        buffer
    }

    fn holds_mail(pool: &Pool) -> bool {
        pool.0.buffers.borrow().iter().any(|parts| parts.bytes.windows(MAIL.len()).any(|part| part == MAIL))
    }

    #[tokio::test(start_paused = true)]
    async fn what_stood_in_a_buffer_is_gone_when_nobody_takes_it_and_one_in_use_is_left_alone() {
        let pool = Pool::default();
        let wiper = pool.clone();
        let (mut resting, mut used) = (take(&pool), take(&pool));
        for buffer in [&mut resting, &mut used] {
            buffer.bytes[..MAIL.len()].copy_from_slice(MAIL);
        }
        drop(resting);
        assert!(holds_mail(&pool));
        tokio::select! {
            () = wiper.wipe() => {}
            () = sleep(REST * 3) => {}
        }
        assert!(!holds_mail(&pool), "a free buffer");
        assert_eq!(&used.bytes[..MAIL.len()], MAIL);
    }
}
