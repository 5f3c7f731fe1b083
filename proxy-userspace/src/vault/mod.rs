//! What was judged, so that it need not be judged again: digests by which octets are known, the memory of verdicts, and
//! copies of what was released.
//!
//! Nothing here releases an octet of its own accord. The memory only says which digests to expect; octets that do not
//! have them are new, and are judged.

/// Keyed digests of content, group by group.
pub mod digest;
/// Which digests the octets of a message had when they were judged.
pub mod memory;
/// Copies of judged content, for views of it.
pub mod spool;

use std::fs::File;
use std::io;
use std::sync::Arc;

pub use digest::{Digest, DigestKey, DigestMismatch, GROUP_BYTES, GroupDigests, GroupHasher, GroupVerifier};
pub use memory::{Lookup, Memory, MemoryNumbers, MessageKey, RuleGeneration};
pub(crate) use memory::{MEMORY_FILE_BYTES_MAX, is_foreign};
pub use spool::{Loading, Spool, SpoolCopy, SpoolError, SpoolNumbers, Storing};

use crate::accept::HeldOctets;
use crate::words::Size;

/// What the vault keeps in files. Without one, that part is kept in memory only, within its bounds there.
#[derive(Debug, Default)]
pub struct VaultFiles {
    /// The memory of verdicts, and how the operator calls it.
    pub memory: Option<(File, String)>,
    /// Of the spool. It has no name, and what stands in it is worthless to the next process.
    pub spool: Option<File>,
}

/// Memory and spool of one process.
#[derive(Debug)]
pub struct Vault {
    /// The memory of verdicts.
    pub memory: Memory,
    /// Copies of judged content.
    pub spool: Spool,
}

impl Vault {
    /// A vault over these files. `spool` bounds its copies in memory and in the file; those in memory are a share of
    /// `held`.
    ///
    /// # Errors
    /// There is no thread, or no randomness, to be had.
    pub fn start(files: VaultFiles, spool: Size, held: Arc<HeldOctets>) -> io::Result<Self> {
        let memory = Memory::start(files.memory)?;
        Ok(Self { memory, spool: Spool::start(files.spool, spool, held)? })
    }
}
