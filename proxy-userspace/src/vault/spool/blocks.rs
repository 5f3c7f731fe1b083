use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SpoolShared;
use super::disk::DiskJob;
use super::seal::{BLOCK_BYTES, PAYLOAD_BYTES};

/// The blocks of the file.
#[derive(Default)]
pub(super) struct Blocks(Mutex<Places>);

#[derive(Default)]
struct Places {
    /// Free ones before `next`. The first of them are taken first, so that the file grows only where it must.
    free: BTreeSet<u32>,
    /// The first one that was never taken since the file was empty.
    next: u32,
    taken: usize,
}

impl Blocks {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forget where free blocks are, where all are free: whether the file may become empty. Who takes one from now on
    /// begins with the first.
    pub(super) fn begin_anew(&self) -> bool {
        let mut places = self.lock();
        let is_empty = places.taken == 0;
        if is_empty {
            *places = Places::default();
        }
        is_empty
    }

    /// `None` beyond 256 TiB.
    fn take(&self, count: usize) -> Option<Vec<u32>> {
        let mut places = self.lock();
        let fresh = count.saturating_sub(places.free.len());
        let next = places.next.checked_add(u32::try_from(fresh).ok()?)?;
        let mut blocks = Vec::with_capacity(count);
        while blocks.len() < count - fresh
            && let Some(block) = places.free.pop_first()
        {
            blocks.push(block);
        }
        blocks.extend(places.next..next);
        places.next = next;
        places.taken += count;
        Some(blocks)
    }

    /// Whether all are free now.
    fn give_back(&self, blocks: &[u32]) -> bool {
        let mut places = self.lock();
        places.free.extend(blocks);
        places.taken = places.taken.saturating_sub(blocks.len());
        places.taken == 0
    }
}

/// Blocks of one copy, free again when it is dropped.
pub(super) struct BlockLease {
    shared: Arc<SpoolShared>,
    octets: u64,
    blocks: Vec<u32>,
}

impl BlockLease {
    /// Blocks for so many octets; `None` where the spool has no room for them.
    pub(super) fn take(shared: &Arc<SpoolShared>, octets: u64) -> Option<Self> {
        let count = octets.div_ceil(PAYLOAD_BYTES);
        if !shared.take_room(count.checked_mul(BLOCK_BYTES)?) {
            return None;
        }
        // Gives the room back where no blocks are found.
        let mut lease = Self { shared: Arc::clone(shared), octets: count * BLOCK_BYTES, blocks: Vec::new() };
        lease.blocks = shared.blocks.take(usize::try_from(count).ok()?)?;
        Some(lease)
    }

    /// Which, in order.
    pub(super) fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    pub(super) const fn shared(&self) -> &Arc<SpoolShared> {
        &self.shared
    }
}

impl Drop for BlockLease {
    fn drop(&mut self) {
        self.shared.octets.fetch_sub(self.octets, Ordering::Relaxed);
        if self.shared.blocks.give_back(&self.blocks)
            && !self.blocks.is_empty()
            && let Some(disk) = &self.shared.disk
        {
            // Where this is lost, the file stays as large as it is.
            let _ = disk.ask(DiskJob::Empty { shared: Arc::downgrade(&self.shared) });
        }
    }
}
