//! Pooled buffers, held only while octets are in them.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use zeroize::Zeroize as _;

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
    spans: Vec<Span>,
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
        let parts = self.0.buffers.borrow_mut().pop().unwrap_or_else(|| BufferParts {
            bytes: vec![0; BUFFER_BYTES].into_boxed_slice(),
            spans: Vec::with_capacity(BATCH_RECORDS_MAX),
            content: Content::Wiped,
        });
        Poll::Ready(Buffer { bytes: parts.bytes, spans: parts.spans, pool: self.clone(), lease })
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
    pub(super) spans: Vec<Span>,
    pool: Pool,
    lease: Lease,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let (bytes, spans) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.spans));
        let mut parts = BufferParts { bytes, spans, content: Content::Fresh };
        parts.spans.clear();
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

/// One record's plaintext inside a buffer, and what sealing puts around it.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) body: Range<usize>,
    pub(super) seal: Seal,
}

/// Plaintext as it was received, in order. The transmitting half seals it in place.
#[derive(Default)]
pub struct Batch {
    pub(super) buffer: Option<Buffer>,
    /// Its place in line, while it waits for a buffer.
    pub(super) turn: Option<Turn>,
    /// Octets received into the buffer.
    pub(super) filled: usize,
    /// The offset of the first record that is not opened yet.
    pub(super) parsed: usize,
    /// Whether the spans hold ciphertext now.
    pub(super) sealed: bool,
    /// See [`Batch::sent`].
    pub(super) sent: usize,
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
            buffer.spans.push(Span { body, seal: Seal::default() });
        }
        Self { buffer: Some(buffer), ..Self::default() }
    }

    /// The plaintext, record by record. Empty once it is sealed, so that no ciphertext is inspected as mail.
    pub fn plaintext(&self) -> impl Iterator<Item = &[u8]> {
        let buffer = self.buffer.as_ref().filter(|_| !self.sealed);
        buffer.into_iter().flat_map(|buffer| {
            buffer.spans.iter().map(|span| buffer.bytes.get(span.body.clone()).unwrap_or_default())
        })
    }

    /// Octets of plaintext.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.spans().iter().map(|span| span.body.len() as u64).sum()
    }

    /// Octets that the kernel has taken: of the sealed records, or of the plaintext where the kernel seals.
    #[must_use]
    pub const fn sent(&self) -> usize {
        self.sent
    }

    pub(super) fn spans(&self) -> &[Span] {
        self.buffer.as_ref().map(|buffer| buffer.spans.as_slice()).unwrap_or_default()
    }

    /// Whether a direction that cannot go on now must give this buffer back: others wait for one, and nothing in this
    /// one has moved for long.
    pub(super) fn is_called_back(&self, cx: &mut Context<'_>) -> bool {
        self.buffer.as_ref().is_some_and(|buffer| buffer.lease.is_called_back(cx))
    }

    /// Forget what was sent. A buffer that holds nothing more goes back to the pool.
    pub(super) fn clear(&mut self) {
        self.sealed = false;
        self.sent = 0;
        if let Some(buffer) = &mut self.buffer {
            if !buffer.spans.is_empty() {
                buffer.lease.moved();
            }
            buffer.spans.clear();
        }
        if self.parsed == self.filled {
            self.parsed = 0;
            self.filled = 0;
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
