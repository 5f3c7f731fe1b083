//! Certificates and keys are written whole or not at all, and never over another file.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{AuthorityFiles, CaError};

/// Everybody may read a certificate.
pub(super) const CERT_MODE: u32 = 0o644;
/// A private key is root's alone.
pub(super) const KEY_MODE: u32 = 0o600;
/// Files that were replaced, beside each other.
const KEPT_MAX: u32 = 1_000;

/// A new file, never another's: `O_EXCL` follows no link, and the mode holds from the first moment.
pub(super) fn create(path: &Path, mode: u32, octets: &[u8]) -> Result<(), CaError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => CaError::InTheWay { path: path.to_owned() },
        _ => CaError::Write { path: path.to_owned(), source },
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    fill(file, mode, octets).map_err(|source| {
        drop(std::fs::remove_file(path));
        failed(source)
    })
}

fn fill(mut file: File, mode: u32, octets: &[u8]) -> io::Result<()> {
    // The umask may have taken more away than is meant.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(octets)?;
    file.sync_all()
}

/// A file in the place of the one that is there, which is kept beside it; returns where. There is a whole file at every
/// moment.
pub(super) fn replace(path: &Path, mode: u32, octets: &[u8]) -> Result<Option<PathBuf>, CaError> {
    put(path, mode, octets, || keep(path))
}

/// The file that [`replace`] kept, or none, in its place again: what belongs to the new one could not be written, for
/// this error. Returns what is to be said.
pub(super) fn put_back(path: &Path, kept: Option<&Path>, error: CaError) -> CaError {
    let put = match kept {
        Some(kept) => std::fs::rename(kept, path),
        None => std::fs::remove_file(path),
    };
    match put {
        Ok(()) => error,
        Err(source) => CaError::Halved {
            path: path.to_owned(),
            kept: kept.map(Path::to_owned),
            source,
            error: Box::new(error),
        },
    }
}

/// As [`replace`], without keeping the old one.
pub(super) fn overwrite(path: &Path, mode: u32, octets: &[u8]) -> Result<(), CaError> {
    put(path, mode, octets, || Ok(()))
}

fn put<T>(
    path: &Path,
    mode: u32,
    octets: &[u8],
    before: impl FnOnce() -> io::Result<T>,
) -> Result<T, CaError> {
    let new = with_suffix(path, "new");
    // Of a command that was killed in between.
    let _ = std::fs::remove_file(&new);
    create(&new, mode, octets)?;
    before().and_then(|kept| std::fs::rename(&new, path).map(|()| kept)).map_err(|source| {
        drop(std::fs::remove_file(&new));
        CaError::Write { path: path.to_owned(), source }
    })
}

/// A second name for the file, `FILE.old` or with the first number that is free.
fn keep(path: &Path) -> io::Result<Option<PathBuf>> {
    for number in 1..KEPT_MAX {
        let suffix = if number == 1 { "old".to_owned() } else { format!("old.{number}") };
        let kept = with_suffix(path, &suffix);
        match std::fs::hard_link(path, &kept) {
            Ok(()) => return Ok(Some(kept)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{KEPT_MAX} older files are kept beside it; remove some")))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

impl AuthorityFiles {
    /// Both files, which are not there yet. The key comes first, so that nobody is asked to trust a certificate whose key
    /// was lost.
    pub(super) fn create(&self, cert: &str, key: &str) -> Result<(), CaError> {
        let trusted = |error| match error {
            CaError::InTheWay { path } => CaError::Exists { path },
            error => error,
        };
        if self.cert.symlink_metadata().is_ok() {
            return Err(CaError::Exists { path: self.cert.clone() });
        }
        self.directories()?;
        create(&self.key, KEY_MODE, key.as_bytes()).map_err(trusted)?;
        create(&self.cert, CERT_MODE, cert.as_bytes()).map_err(trusted).inspect_err(|_| {
            // Of use to nobody without its certificate; it is ours, made a moment ago.
            drop(std::fs::remove_file(&self.key));
        })
    }

    /// The directories of both.
    pub(super) fn directories(&self) -> Result<(), CaError> {
        for directory in [self.cert.parent(), self.key.parent()].into_iter().flatten() {
            std::fs::create_dir_all(directory)
                .map_err(|source| CaError::Write { path: directory.to_owned(), source })?;
        }
        Ok(())
    }
}
