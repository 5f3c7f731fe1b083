use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};

use crate::sys::MappedOctets;

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
    /// More octets than there may be.
    #[error("memory to be passed between Postern's processes has {0} octets, more than {1}")]
    TooLarge(u64, u64),
}

/// Memory with these octets that nobody can change any more (memfd_create(2)).
///
/// # Errors
/// [`SealedError`].
pub(crate) fn seal(octets: &[u8]) -> Result<OwnedFd, SealedError> {
    seal_parts(&[octets], SEALED_BYTES_MAX)
}

/// The same of several octets, one behind the other, that are `most` together at most.
///
/// # Errors
/// [`SealedError`].
pub(crate) fn seal_parts(parts: &[&[u8]], most: u64) -> Result<OwnedFd, SealedError> {
    let lengths = parts.iter().map(|part| u64::try_from(part.len()).unwrap_or(u64::MAX));
    let length = lengths.fold(0, u64::saturating_add);
    if length > most {
        return Err(SealedError::TooLarge(length, most));
    }
    let memory = memfd_create("postern", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let mut memory = File::from(memory.map_err(io::Error::from)?);
    for part in parts {
        memory.write_all(part)?;
    }
    fcntl_add_seals(&memory, SEALS).map_err(io::Error::from)?;
    Ok(memory.into())
}

/// What is in it, if nobody can change it any more.
///
/// # Errors
/// [`SealedError`].
pub(crate) fn read_sealed(memory: OwnedFd) -> Result<Vec<u8>, SealedError> {
    let length = sealed_length(&memory, SEALED_BYTES_MAX)?;
    let mut octets = vec![0; usize::try_from(length).unwrap_or(0)];
    // At a place of its own: the descriptor's position is shared with the other process.
    File::from(memory).read_exact_at(&mut octets, 0)?;
    Ok(octets)
}

/// What is in it, at most `most` octets, without a copy, if nobody can change it any more.
///
/// # Errors
/// [`SealedError`].
pub(crate) fn map_sealed(memory: &OwnedFd, most: u64) -> Result<MappedOctets, SealedError> {
    let length = sealed_length(memory, most)?;
    Ok(MappedOctets::map(memory, usize::try_from(length).unwrap_or(0))?)
}

/// How long it is, if nobody can change it any more.
fn sealed_length(memory: &OwnedFd, most: u64) -> Result<u64, SealedError> {
    let seals = fcntl_get_seals(memory.as_fd()).map_err(io::Error::from)?;
    if !seals.contains(SEALS) {
        return Err(SealedError::NotSealed);
    }
    let length = u64::try_from(fstat(memory).map_err(io::Error::from)?.st_size).unwrap_or(0);
    if length > most { Err(SealedError::TooLarge(length, most)) } else { Ok(length) }
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
        let open = || memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(matches!(read_sealed(open()), Err(SealedError::NotSealed)));
        assert!(matches!(map_sealed(&open(), 1), Err(SealedError::NotSealed)));
    }

    #[test]
    fn large_octets_are_read_where_they_lie_and_more_than_was_agreed_on_are_refused() {
        let leaf: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let memory = seal_parts(&[b"head", &leaf], 1 << 20).unwrap();
        let mapped = map_sealed(&memory, 1 << 20).unwrap();
        assert_eq!(mapped.split_at(4), (&b"head"[..], leaf.as_slice()));
        assert!(matches!(map_sealed(&memory, 200_003), Err(SealedError::TooLarge(200_004, 200_003))));
        assert!(matches!(seal_parts(&[&leaf, b"1"], 200_000), Err(SealedError::TooLarge(200_001, _))));
        assert!(map_sealed(&seal(b"").unwrap(), 1).unwrap().is_empty());
    }
}
