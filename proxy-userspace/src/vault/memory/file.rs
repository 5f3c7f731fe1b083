use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use redb::StorageBackend;
use rustix::fs::{fdatasync, fstat, ftruncate};

use crate::vault::digest::{DigestKey, KEY_BYTES};

/// Octets of the file: some 400,000 messages of a usual size.
pub(crate) const MEMORY_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What the file begins with.
const MAGIC: [u8; 16] = *b"postern vault 1\n";
/// Octets of the head: a page, so that what stands behind it is aligned.
const HEAD_BYTES: u64 = 4096;
/// The unit of `st_blocks` (inode(7)).
const STAT_BLOCK_BYTES: u64 = 512;
/// Octets that tell whether the key is what was written.
const CHECK_BYTES: usize = 16;

/// Whether the file is somebody else's. An empty one is nobody's.
///
/// # Errors
/// It cannot be read.
pub(crate) fn is_foreign(file: &File) -> io::Result<bool> {
    if length(file)? == 0 {
        return Ok(false);
    }
    let mut magic = [0; MAGIC.len()];
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) => Ok(magic != MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
        Err(error) => Err(error),
    }
}

// fstat, and not std's metadata, which asks by a call that the worker does not have.
fn length(file: &File) -> io::Result<u64> {
    Ok(u64::try_from(fstat(file)?.st_size).unwrap_or(0))
}

/// The file with its key.
#[derive(Debug)]
pub(super) struct StateFile {
    file: Arc<File>,
    key: DigestKey,
    name: String,
}

impl StateFile {
    /// Read the key, or make one where there is none; `None`, and a line in the log, where that is impossible.
    pub(super) fn open(file: File, name: String) -> Option<Self> {
        match Self::key_of(&file) {
            Ok((key, is_new)) => {
                if is_new && length(&file).is_ok_and(|length| length > HEAD_BYTES) {
                    tracing::warn!(
                        "{name}: its head is damaged; the memory of verdicts begins anew, mail is judged again"
                    );
                }
                let state = Self { file: Arc::new(file), key, name };
                if is_new && let Err(error) = state.begin_anew() {
                    state.unusable(&error);
                    return None;
                }
                Some(state)
            }
            Err(error) => {
                tracing::warn!(
                    "{name}: {error}; verdicts are remembered as long as the worker lives: look at the disk, then start \
                     Postern again"
                );
                None
            }
        }
    }

    fn key_of(file: &File) -> io::Result<(DigestKey, bool)> {
        if let Some(key) = read_head(file)? {
            return Ok((key, false));
        }
        Ok((DigestKey::random().map_err(io::Error::other)?, true))
    }

    /// Nothing but the head.
    pub(super) fn begin_anew(&self) -> io::Result<()> {
        ftruncate(&*self.file, 0)?;
        ftruncate(&*self.file, HEAD_BYTES)?;
        let check: [u8; CHECK_BYTES] = self.key.of_fields(&[&MAGIC]);
        self.file.write_all_at(&[&MAGIC[..], self.key.octets(), &check].concat(), 0)
    }

    fn unusable(&self, error: &io::Error) {
        tracing::warn!(
            "{}: {error}; verdicts are remembered as long as the worker lives: make room on the disk, then start Postern \
             again",
            self.name
        );
    }

    pub(super) const fn key(&self) -> &DigestKey {
        &self.key
    }

    /// What the operator calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Octets of the disk that it takes. It is longer: redb doubles the length, and what was never written is a hole.
    pub(super) fn octets(&self) -> u64 {
        fstat(&*self.file)
            .map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(STAT_BLOCK_BYTES))
    }

    /// What a disk may do to it.
    #[cfg(test)]
    pub(super) fn clone_of_file(&self) -> File {
        self.file.try_clone().unwrap()
    }

    /// What stands behind the head.
    pub(super) fn backend(&self) -> FileBehindHead {
        FileBehindHead(Arc::clone(&self.file))
    }
}

/// The key, where the head is whole.
fn read_head(file: &File) -> io::Result<Option<DigestKey>> {
    let mut head = zeroize::Zeroizing::new([0; MAGIC.len() + KEY_BYTES + CHECK_BYTES]);
    match file.read_exact_at(&mut *head, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let Some((magic, rest)) = head.split_first_chunk() else { return Ok(None) };
    let Some((octets, check)) = rest.split_first_chunk() else { return Ok(None) };
    let key = DigestKey::from_octets(*octets);
    let expected: [u8; CHECK_BYTES] = key.of_fields(&[&MAGIC]);
    Ok((*magic == MAGIC && check == expected).then_some(key))
}

/// What redb reads and writes. It asks for no lock: the supervisor has one, and starts one worker at a time.
#[derive(Debug)]
pub(super) struct FileBehindHead(Arc<File>);

impl StorageBackend for FileBehindHead {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(length(&self.0)?.saturating_sub(HEAD_BYTES))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read_exact_at(out, offset.saturating_add(HEAD_BYTES))
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        Ok(ftruncate(&*self.0, len.saturating_add(HEAD_BYTES))?)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(fdatasync(&*self.0)?)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write_all_at(data, offset.saturating_add(HEAD_BYTES))
    }
}
