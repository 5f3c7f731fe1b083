use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};

/// Octets of one sealed memory: a policy with thousands of networks and all of a system's roots has some 300 KB.
pub(crate) const SEALED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What keeps everybody from changing it, whoever holds a descriptor.
const SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE).union(SealFlags::SEAL);

/// Why memory could not be passed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealedError {
    /// The kernel refused.
    #[error("memory to be passed between Postern's processes: {0}")]
    System(#[from] io::Error),
    /// The other process could still change it.
    #[error("memory that another process passed is not sealed")]
    NotSealed,
    /// Over [`SEALED_BYTES_MAX`].
    #[error("memory to be passed between Postern's processes has {0} octets, more than {SEALED_BYTES_MAX}")]
    TooLarge(u64),
}

/// Memory with these octets that nobody can change any more (memfd_create(2)).
///
/// # Errors
/// [`SealedError`].
pub(crate) fn seal(octets: &[u8]) -> Result<OwnedFd, SealedError> {
    let length = u64::try_from(octets.len()).unwrap_or(u64::MAX);
    if length > SEALED_BYTES_MAX {
        return Err(SealedError::TooLarge(length));
    }
    let memory = memfd_create("postern", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let mut memory = File::from(memory.map_err(io::Error::from)?);
    memory.write_all(octets)?;
    fcntl_add_seals(&memory, SEALS).map_err(io::Error::from)?;
    Ok(memory.into())
}

/// What is in it, if nobody can change it any more.
///
/// # Errors
/// [`SealedError`].
pub(crate) fn read_sealed(memory: OwnedFd) -> Result<Vec<u8>, SealedError> {
    let seals = fcntl_get_seals(memory.as_fd()).map_err(io::Error::from)?;
    if !seals.contains(SEALS) {
        return Err(SealedError::NotSealed);
    }
    let length = u64::try_from(fstat(&memory).map_err(io::Error::from)?.st_size).unwrap_or(0);
    if length > SEALED_BYTES_MAX {
        return Err(SealedError::TooLarge(length));
    }
    let mut octets = vec![0; usize::try_from(length).unwrap_or(0)];
    // At a place of its own: the descriptor's position is shared with the other process.
    File::from(memory).read_exact_at(&mut octets, 0)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_read_and_what_could_still_change_is_refused() {
        let memory = seal(b"a policy").unwrap();
        let mut copy = File::from(memory.try_clone().unwrap());
        assert!(copy.write_all(b"another").is_err());
        assert_eq!(read_sealed(memory).unwrap(), b"a policy");
        let open = memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(matches!(read_sealed(open), Err(SealedError::NotSealed)));
    }
}
