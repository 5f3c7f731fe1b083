use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SpoolShared;
use super::disk::DiskJob;
use super::seal::{BLOCK_BYTES, PAYLOAD_BYTES};

/// The blocks of the file.
#[derive(Default)]
pub(super) struct Blocks(Mutex<Places>);

#[derive(Default)]
struct Places {
    /// Free ones before `next`.
    free: Vec<u32>,
    /// The first one that was never taken since the file was empty.
    next: u32,
    taken: u64,
}

impl Blocks {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Octets of the blocks that are taken.
    pub(super) fn octets(&self) -> u64 {
        self.lock().taken.saturating_mul(BLOCK_BYTES)
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

    fn take(&self, count: u64, limit: u64) -> Option<Vec<u32>> {
        let mut places = self.lock();
        let taken = places.taken.checked_add(count)?;
        if taken.checked_mul(BLOCK_BYTES)? > limit {
            return None;
        }
        let mut blocks = Vec::with_capacity(usize::try_from(count).ok()?);
        while u64::try_from(blocks.len()).ok()? < count {
            let block = match places.free.pop() {
                Some(block) => block,
                None => {
                    let block = places.next;
                    // More would be 256 TiB.
                    places.next = block.checked_add(1)?;
                    block
                }
            };
            blocks.push(block);
        }
        places.taken = taken;
        Some(blocks)
    }

    /// Whether all are free now.
    fn give_back(&self, blocks: &[u32]) -> bool {
        let mut places = self.lock();
        places.free.extend_from_slice(blocks);
        places.taken = places.taken.saturating_sub(u64::try_from(blocks.len()).unwrap_or(u64::MAX));
        places.taken == 0
    }
}

/// Blocks of one copy, free again when it is dropped.
pub(super) struct BlockLease {
    shared: Arc<SpoolShared>,
    blocks: Vec<u32>,
}

impl BlockLease {
    /// Blocks for so many octets; `None` where all blocks together would have more than `limit`.
    pub(super) fn take(shared: &Arc<SpoolShared>, octets: u64, limit: u64) -> Option<Self> {
        let blocks = shared.blocks.take(octets.div_ceil(PAYLOAD_BYTES), limit)?;
        Some(Self { shared: Arc::clone(shared), blocks })
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
        if self.shared.blocks.give_back(&self.blocks)
            && !self.blocks.is_empty()
            && let Some(disk) = &self.shared.disk
        {
            // Where this is lost, the file stays as large as it is.
            let _ = disk.ask(DiskJob::Empty { shared: Arc::downgrade(&self.shared) });
        }
    }
}
