//! Copies of judged content, from which views are served without asking the server again: in memory at first, then in a
//! file without a name, sealed, so that nothing on the disk can be read by anybody, not even by the next process.
//!
//! Mail threads never touch the file: a thread of its own writes and reads, and its answer is waited for.

/// The blocks of the file: who has which.
mod blocks;
/// Sealing and opening one block.
mod seal;
/// The thread that owns the file.
mod disk;

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use self::blocks::{BlockLease, Blocks};
use self::disk::{Disk, DiskJob};
use self::seal::SealedBlock;
use crate::accept::{HeldLease, HeldOctets};
use crate::words::Size;

/// Copies in memory have one part in so many of `limits.held` at most: the rest is for mail that is being judged.
const HELD_SHARE: u64 = 4;
/// Octets that are read out of a copy at once: what a client asks for in one partial, mostly. Copies are held whole by
/// nobody but the spool.
pub const LOAD_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no copy, or nothing to be had of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// The copies that are there fill it.
    #[error("the spool is full; raise limits.spool")]
    Full,
    /// The disk is slow: too many wait for it.
    #[error("the spool's disk is too slow for what waits for it; put state.directory on a faster one")]
    Busy,
    /// The disk is full or broken, or changed what was written.
    #[error(
        "the spool's file cannot be used; make room below state.directory, or look whether the disk fails"
    )]
    Disk,
    /// The range lies outside the copy.
    #[error("nothing of the copy lies there")]
    Outside,
}

/// Numbers for the status; totals count since the process was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolNumbers {
    /// Octets that copies take now, in memory and in the file.
    pub octets: u64,
    /// Octets of them in memory; a part of what is held.
    pub in_memory: u64,
    /// Octets that they may take.
    pub limit: u64,
    /// Whether there is a file.
    pub has_file: bool,
    /// How often there was no room, or nobody to write.
    pub refused: u64,
    /// How often the disk did not do what it was asked for.
    pub failed: u64,
}

/// What copies, mail threads and the thread with the file share.
struct SpoolShared {
    limit: AtomicU64,
    /// Of memory, and of the file's blocks.
    octets: AtomicU64,
    in_memory: AtomicU64,
    held: Arc<HeldOctets>,
    refused: AtomicU64,
    failed: AtomicU64,
    blocks: Blocks,
    disk: Option<Disk>,
}

impl SpoolShared {
    // The counters guard nothing but themselves.
    fn take(counter: &AtomicU64, octets: u64, limit: u64) -> bool {
        let more = |taken: u64| taken.checked_add(octets).filter(|sum| *sum <= limit);
        counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Take so many octets of the limit.
    fn take_room(&self, octets: u64) -> bool {
        Self::take(&self.octets, octets, self.limit.load(Ordering::Relaxed))
    }

    /// The same in memory.
    fn take_memory(&self, octets: u64) -> bool {
        let taken = Self::take(&self.in_memory, octets, self.held.limit().0 / HELD_SHARE);
        let both = taken && self.take_room(octets);
        if taken && !both {
            self.in_memory.fetch_sub(octets, Ordering::Relaxed);
        }
        both
    }

    fn refuse(&self, why: SpoolError) -> SpoolError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        why
    }
}

/// The spool of one process. All calls return at once.
pub struct Spool {
    shared: Arc<SpoolShared>,
}

impl Spool {
    /// A spool of so many octets, in this file and in a share of what may be held. Without a file, it is that share.
    ///
    /// # Errors
    /// There is no thread, or no randomness, to be had.
    pub fn start(file: Option<File>, limit: Size, held: Arc<HeldOctets>) -> io::Result<Self> {
        let disk = file.map(Disk::start).transpose()?;
        let shared = SpoolShared {
            limit: AtomicU64::new(limit.0),
            octets: AtomicU64::new(0),
            in_memory: AtomicU64::new(0),
            held,
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            blocks: Blocks::default(),
            disk,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Another limit. What is there above it stays; nothing more is taken until that has gone.
    pub fn set_limit(&self, limit: Size) {
        self.shared.limit.store(limit.0, Ordering::Relaxed);
    }

    /// Make a copy of judged content. `lease` stands for these octets among those that are held; it is given back as soon
    /// as they are in the file, and kept for a copy in memory. Whoever drops what this returns, or the copy, frees its
    /// room.
    pub fn store(&self, octets: Vec<u8>, mut lease: HeldLease) -> Storing {
        let (octets, shared) = (Zeroizing::new(octets), &self.shared);
        let length = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        // What waits for the disk is held, too.
        if !lease.try_grow(length.saturating_sub(lease.octets())) {
            return Storing::now(Err(shared.refuse(SpoolError::Full)));
        }
        lease.shrink(lease.octets().saturating_sub(length));
        if shared.take_memory(length) {
            let memory = InMemory { octets, _lease: lease, shared: Arc::clone(shared) };
            return Storing::now(Ok(SpoolCopy::new(length, Place::Memory(memory))));
        }
        let Some(disk) = &shared.disk else { return Storing::now(Err(shared.refuse(SpoolError::Full))) };
        let Some(blocks) = BlockLease::take(shared, length) else {
            return Storing::now(Err(shared.refuse(SpoolError::Full)));
        };
        let (answer, stored) = oneshot::channel();
        match disk.ask(DiskJob::Write { octets, lease, blocks, answer }) {
            Ok(()) => Storing(Step::Later(stored)),
            Err(why) => Storing::now(Err(shared.refuse(why))),
        }
    }

    /// Numbers, as they are now.
    #[must_use]
    pub fn numbers(&self) -> SpoolNumbers {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let SpoolShared { limit, octets, in_memory, refused, failed, disk, .. } = &*self.shared;
        SpoolNumbers {
            octets: count(octets),
            in_memory: count(in_memory),
            limit: count(limit),
            has_file: disk.is_some(),
            refused: count(refused),
            failed: count(failed),
        }
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("numbers", &self.numbers()).finish_non_exhaustive()
    }
}

/// Octets in memory, wiped when they go.
struct InMemory {
    octets: Zeroizing<Vec<u8>>,
    _lease: HeldLease,
    shared: Arc<SpoolShared>,
}

impl Drop for InMemory {
    fn drop(&mut self) {
        let octets = u64::try_from(self.octets.len()).unwrap_or(u64::MAX);
        self.shared.in_memory.fetch_sub(octets, Ordering::Relaxed);
        self.shared.octets.fetch_sub(octets, Ordering::Relaxed);
    }
}

/// Octets in the file.
struct OnDisk {
    length: u64,
    sealed: Vec<SealedBlock>,
    blocks: BlockLease,
}

enum Place {
    Memory(InMemory),
    Disk(OnDisk),
}

/// A copy. It never changes; its room is free again when the last clone is dropped.
#[derive(Clone)]
pub struct SpoolCopy {
    length: u64,
    place: Arc<Place>,
}

impl SpoolCopy {
    fn new(length: u64, place: Place) -> Self {
        Self { length, place: Arc::new(place) }
    }

    /// Octets of it.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Copy octets from `start` on into `room`, where the copy is in memory: how many. [`Self::load`] gives those of every
    /// copy.
    #[must_use]
    pub fn read(&self, start: u64, room: &mut [u8]) -> Option<usize> {
        let Place::Memory(memory) = &*self.place else { return None };
        let behind = memory.octets.get(usize::try_from(start).ok()?..).unwrap_or_default();
        let count = behind.len().min(room.len());
        if let (Some(room), Some(octets)) = (room.get_mut(..count), behind.get(..count)) {
            room.copy_from_slice(octets);
        }
        Some(count)
    }

    /// The octets of this range, of which at most [`LOAD_BYTES_MAX`] come at once: whoever wants more asks again from there
    /// on. An empty range gives nothing.
    pub fn load(&self, range: Range<u64>) -> Loading {
        if range.start > range.end || range.end > self.length {
            return Loading::now(Err(SpoolError::Outside));
        }
        let range = range.start..range.end.min(range.start.saturating_add(LOAD_BYTES_MAX));
        match &*self.place {
            Place::Memory(memory) => {
                let bounds = |at| usize::try_from(at).unwrap_or(usize::MAX);
                let octets = memory.octets.get(bounds(range.start)..bounds(range.end)).unwrap_or_default();
                Loading::now(Ok(Zeroizing::new(octets.to_vec())))
            }
            Place::Disk(_) if range.is_empty() => Loading::now(Ok(Zeroizing::default())),
            Place::Disk(on_disk) => {
                let shared = on_disk.blocks.shared();
                let (answer, loaded) = oneshot::channel();
                let asked = shared
                    .disk
                    .as_ref()
                    .map(|disk| disk.ask(DiskJob::Read { copy: self.clone(), range, answer }));
                match asked {
                    Some(Ok(())) => Loading(Step::Later(loaded)),
                    _ => Loading::now(Err(shared.refuse(SpoolError::Busy))),
                }
            }
        }
    }
}

impl fmt::Debug for SpoolCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolCopy").field("length", &self.length).finish_non_exhaustive()
    }
}

/// What is there, or will be.
enum Step<T> {
    Now(Option<Result<T, SpoolError>>),
    Later(oneshot::Receiver<Result<T, SpoolError>>),
}

impl<T> Step<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, SpoolError>> {
        match self {
            // Asked again after its answer.
            Self::Now(answer) => Poll::Ready(answer.take().unwrap_or(Err(SpoolError::Outside))),
            Self::Later(answer) => {
                let answer = ready!(Pin::new(answer).poll(cx)).unwrap_or(Err(SpoolError::Disk));
                *self = Self::Now(None);
                Poll::Ready(answer)
            }
        }
    }
}

macro_rules! waiting {
    ($name:ident, $output:ty, $doc:literal) => {
        #[doc = $doc]
        ///
        /// May be polled by any runtime, and must not be polled again after its answer.
        #[must_use = "dropping it gives up what it waits for"]
        pub struct $name(Step<$output>);

        impl $name {
            fn now(answer: Result<$output, SpoolError>) -> Self {
                Self(Step::Now(Some(answer)))
            }
        }

        impl Future for $name {
            type Output = Result<$output, SpoolError>;

            fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                self.0.poll(cx)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

waiting!(Storing, SpoolCopy, "A future of a copy.");
waiting!(Loading, Zeroizing<Vec<u8>>, "A future of octets of a copy, wiped when they are dropped.");

#[cfg(test)]
mod tests;
