use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};

use rustix::fs::ftruncate;
use tokio::sync::oneshot;
use zeroize::{Zeroize as _, Zeroizing};

use super::blocks::BlockLease;
use super::seal::{BLOCK_BYTES, PAYLOAD_BYTES, Sealer};
use super::{OnDisk, Place, SpoolCopy, SpoolError, SpoolShared};
use crate::accept::HeldLease;
use crate::line_limit::LineLimit;

/// Jobs that wait for the disk. Each that writes holds what it has among `limits.held`, and each that reads belongs to a
/// view that is being served.
pub(super) const JOBS_WAITING_MAX: usize = 1024;

static LINES: LineLimit = LineLimit::new();

/// What the thread with the file is asked for.
pub(super) enum DiskJob {
    Write {
        octets: Zeroizing<Vec<u8>>,
        lease: HeldLease,
        blocks: BlockLease,
        answer: oneshot::Sender<Result<SpoolCopy, SpoolError>>,
    },
    Read {
        copy: SpoolCopy,
        range: Range<u64>,
        answer: oneshot::Sender<Result<Zeroizing<Vec<u8>>, SpoolError>>,
    },
    /// The last block was given back.
    Empty { shared: Weak<SpoolShared> },
}

/// A way to the thread with the file. The thread ends with it.
pub(super) struct Disk(SyncSender<DiskJob>);

impl Disk {
    /// What stands in the file is of no use to anybody, and goes.
    pub(super) fn start(file: File) -> io::Result<Self> {
        let sealer = Sealer::new().map_err(io::Error::other)?;
        let (jobs, asked) = sync_channel(JOBS_WAITING_MAX);
        let thread = DiskThread { file, sealer, room: Zeroizing::default() };
        std::thread::Builder::new().name("vault-spool".to_owned()).spawn(move || thread.run(&asked))?;
        Ok(Self(jobs))
    }

    /// One that does nothing.
    #[cfg(test)]
    pub(super) fn stuck() -> (Self, Receiver<DiskJob>) {
        let (jobs, asked) = sync_channel(JOBS_WAITING_MAX);
        (Self(jobs), asked)
    }

    /// Have it done; the job again where too many wait.
    pub(super) fn ask(&self, job: DiskJob) -> Result<(), SpoolError> {
        self.0.try_send(job).map_err(|_| SpoolError::Busy)
    }
}

struct DiskThread {
    file: File,
    sealer: Sealer,
    /// Of one block.
    room: Zeroizing<Vec<u8>>,
}

impl DiskThread {
    fn run(mut self, jobs: &Receiver<DiskJob>) {
        self.empty();
        while let Ok(job) = jobs.recv() {
            // A panic costs its own session: the one that waits hears of it when the job is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| self.work(job)));
            self.room.zeroize();
        }
    }

    fn work(&mut self, job: DiskJob) {
        match job {
            DiskJob::Write { octets, lease, blocks, answer } => {
                if answer.is_closed() {
                    return;
                }
                let shared = Arc::clone(blocks.shared());
                let written = self.write(&octets, blocks).map_err(|error| failed(&shared, &error));
                // Wiped and given back before whoever waits goes on.
                drop((octets, lease));
                let _ = answer.send(written);
            }
            DiskJob::Read { copy, range, answer } => {
                if answer.is_closed() {
                    return;
                }
                let Place::Disk(on_disk) = &*copy.place else { return };
                let read =
                    self.read(on_disk, &range).map_err(|error| failed(on_disk.blocks.shared(), &error));
                let _ = answer.send(read);
            }
            DiskJob::Empty { shared } => {
                if shared.upgrade().is_some_and(|shared| shared.blocks.begin_anew()) {
                    self.empty();
                }
            }
        }
    }

    /// Blocks that are taken meanwhile are written by this thread, later.
    fn empty(&self) {
        if let Err(error) = ftruncate(&self.file, 0) {
            say(&error.into());
        }
    }

    fn write(&mut self, octets: &[u8], blocks: BlockLease) -> io::Result<SpoolCopy> {
        let payload = usize::try_from(PAYLOAD_BYTES).unwrap_or(usize::MAX);
        let mut sealed = Vec::with_capacity(blocks.blocks().len());
        for (piece, place) in octets.chunks(payload).zip(blocks.blocks()) {
            // With room for the tag, so that it is never moved, which would leave mail behind.
            let size = usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX);
            self.room.clear();
            self.room.reserve_exact(size);
            self.room.extend_from_slice(piece);
            let block = self.sealer.seal(*place, &mut self.room).map_err(io::Error::other)?;
            self.file.write_all_at(&self.room, offset(*place))?;
            sealed.push(block);
        }
        let length = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        Ok(SpoolCopy::new(length, Place::Disk(OnDisk { length, sealed, blocks })))
    }

    fn read(&mut self, on_disk: &OnDisk, range: &Range<u64>) -> io::Result<Zeroizing<Vec<u8>>> {
        let size = |octets: u64| usize::try_from(octets).unwrap_or(usize::MAX);
        let mut octets = Zeroizing::new(Vec::with_capacity(size(range.end - range.start)));
        let (first, last) = (range.start / PAYLOAD_BYTES, (range.end - 1) / PAYLOAD_BYTES);
        for index in first..=last {
            let begin = index * PAYLOAD_BYTES;
            let payload = PAYLOAD_BYTES.min(on_disk.length - begin);
            let block = on_disk.sealed.get(size(index)).ok_or(io::ErrorKind::NotFound)?;
            self.room.clear();
            self.room.resize(size(payload + BLOCK_BYTES - PAYLOAD_BYTES), 0);
            self.file.read_exact_at(&mut self.room, offset(block.place))?;
            let opened = block.open(&mut self.room);
            let opened = opened.map_err(|_| io::Error::other("a block is not what was written there"))?;
            let within = range.start.saturating_sub(begin)..(range.end - begin).min(payload);
            octets.extend_from_slice(opened.get(size(within.start)..size(within.end)).unwrap_or_default());
        }
        Ok(octets)
    }
}

fn offset(place: u32) -> u64 {
    u64::from(place) * BLOCK_BYTES
}

fn failed(shared: &SpoolShared, error: &io::Error) -> SpoolError {
    shared.failed.fetch_add(1, Ordering::Relaxed);
    say(error);
    SpoolError::Disk
}

fn say(error: &io::Error) {
    if let Some(more) = LINES.admit() {
        tracing::warn!(
            "the spool's file: {error}; what would need a copy is fetched and judged again, or refused for now: make room \
             below state.directory, or look whether the disk fails{more}"
        );
    }
}
