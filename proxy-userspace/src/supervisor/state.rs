//! The state directory. The worker opens no file, so its two are opened here and passed to it: the memory of verdicts,
//! which outlives the daemon, and the spool's, which has no name.
//!
//! Mail is judged without them, only slower. So nothing here ends a start: what is wrong is told in the log, once, with
//! what to do.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, open, openat, renameat, statvfs,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::ipc::{AsyncChannel, IpcError};
use crate::steering::device::patiently;
use crate::vault::is_foreign;
use crate::worker::protocol::{StateTold, ToWorker};

/// The memory of verdicts.
const VERDICTS: &str = "verdicts";
/// What had its name and is none.
const ASIDE: &str = "verdicts.aside";
/// Of the spool, where the file system knows no files without a name: for a moment.
const SPOOL: &str = "spool";
/// Of the directory, where it is made.
const DIRECTORY_MODE: u32 = 0o700;

/// Why the directory, or a file in it, is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// A call failed.
    #[error("{}: {call}: {source}; make the directory writable for Postern, or set another state.directory", .path.display())]
    System {
        /// What was tried.
        call: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others could put their own verdicts there.
    #[error("{0}: others may write there (owner {uid}, mode {mode:04o}); chown {own} {0} && chmod 700 {0}", .path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
        /// Whose it should be.
        own: u32,
        /// Its mode.
        mode: u32,
    },
    /// Another daemon has the file.
    #[error("{}: another daemon uses it; set another state.directory for one of both", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

fn system<E: Into<io::Error>>(call: &'static str, path: &Path) -> impl FnOnce(E) -> StateError {
    move |source| StateError::System { call, path: path.to_owned(), source: source.into() }
}

/// What is passed to each worker.
pub(super) struct StateFiles {
    verdicts: Option<(File, PathBuf)>,
    spool: Option<File>,
}

impl StateFiles {
    /// Open them in this directory. A predecessor that was killed may have one until the deadline.
    pub(super) fn open(path: &Path, deadline: Instant) -> Self {
        let directory = match directory(path) {
            Ok(directory) => directory,
            Err(error) => {
                tracing::warn!("{error}. Until then verdicts and copies are kept in memory only");
                return Self { verdicts: None, spool: None };
            }
        };
        let verdicts = patiently(
            deadline,
            || verdicts(&directory, path),
            |error| matches!(error, StateError::InUse { .. }),
        );
        let verdicts = verdicts.map_err(|error| {
            tracing::warn!("{error}. Until then verdicts are remembered in memory only");
        });
        let spool = spool(&directory, path).map_err(|error| {
            tracing::warn!("{error}. Until then copies are kept in memory only");
        });
        Self { verdicts: verdicts.ok(), spool: spool.ok() }
    }

    /// Pass both to a worker.
    ///
    /// # Errors
    /// [`IpcError`].
    pub(super) async fn pass(&self, worker: &AsyncChannel) -> Result<(), IpcError> {
        let told = StateTold {
            verdicts: self.verdicts.as_ref().map(|(_, path)| path.display().to_string()),
            spool: self.spool.is_some(),
        };
        let verdicts = self.verdicts.iter().map(|(file, _)| file.as_fd());
        let files: Vec<BorrowedFd<'_>> = verdicts.chain(self.spool.iter().map(File::as_fd)).collect();
        worker.send(&ToWorker::State(told), &files).await
    }
}

/// Whether the directory can be used, as far as a look tells, and octets that its file system has left; where there is no
/// directory yet, those of the one in which it is made.
///
/// # Errors
/// What is wrong.
pub(crate) fn look(path: &Path) -> Result<u64, StateError> {
    match opened(path) {
        Ok(directory) => judge(&fstat(&directory).map_err(system("fstat", path))?, path)?,
        Err(error) if error == Errno::NOENT => {}
        Err(error) => return Err(system("open", path)(error)),
    }
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(path);
    let space = statvfs(existing).map_err(system("statvfs", existing))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

fn opened(path: &Path) -> Result<File, Errno> {
    open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(File::from)
}

fn directory(path: &Path) -> Result<File, StateError> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(system("mkdir", path))?;
    let directory = opened(path).map_err(system("open", path))?;
    judge(&fstat(&directory).map_err(system("fstat", path))?, path)?;
    Ok(directory)
}

/// Nobody else may put a file there: it would say which mail is clean.
fn judge(stat: &Stat, path: &Path) -> Result<(), StateError> {
    let (uid, own, mode) = (stat.st_uid, geteuid().as_raw(), stat.st_mode & 0o7777);
    if (uid == own || uid == 0) && mode & 0o022 == 0 {
        return Ok(());
    }
    Err(StateError::Open { path: path.to_owned(), uid, own, mode })
}

fn verdicts(directory: &File, path: &Path) -> Result<(File, PathBuf), StateError> {
    let path = path.join(VERDICTS);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let create = || openat(directory, VERDICTS, flags, Mode::RUSR | Mode::WUSR).map(File::from);
    let file = match create() {
        Ok(file) if is_ours(&file).map_err(system("read", &path))? => file,
        // A link, a directory, or a file that is something else.
        Ok(_) | Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
            renameat(directory, VERDICTS, directory, ASIDE).map_err(system("rename", &path))?;
            tracing::warn!(
                "{}: not a memory of verdicts of Postern's; it was moved to {ASIDE} beside it, and may be removed; mail is \
                 judged again",
                path.display()
            );
            create().map_err(system("open", &path))?
        }
        Err(error) => return Err(system("open", &path)(error)),
    };
    // Whoever has this file has the lock, the worker too.
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok((file, path)),
        Err(Errno::WOULDBLOCK) => Err(StateError::InUse { path }),
        Err(error) => Err(system("flock", &path)(error)),
    }
}

fn is_ours(file: &File) -> io::Result<bool> {
    let stat = fstat(file)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let is_own = stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o077 == 0;
    Ok(is_file && is_own && !is_foreign(file)?)
}

/// A file without a name: it goes with its last descriptor, however that ends.
fn spool(directory: &File, path: &Path) -> Result<File, StateError> {
    let mode = Mode::RUSR | Mode::WUSR;
    match openat(directory, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(file) => Ok(file.into()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let path = path.join(SPOOL);
            // Of a daemon that was killed in between.
            let _ = unlinkat(directory, SPOOL, AtFlags::empty());
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(directory, SPOOL, flags, mode).map_err(system("open", &path))?;
            unlinkat(directory, SPOOL, AtFlags::empty()).map_err(system("unlink", &path))?;
            Ok(file.into())
        }
        Err(error) => Err(system("open (O_TMPFILE)", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

    use super::*;

    fn open_now(path: &Path) -> StateFiles {
        StateFiles::open(path, Instant::now())
    }

    #[test]
    fn the_directory_is_made_for_its_owner_alone_and_the_spool_has_no_name() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lib/postern");
        assert!(look(&path).unwrap() > 0, "what it is made in");
        let files = open_now(&path);
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, DIRECTORY_MODE);
        let (file, name) = files.verdicts.unwrap();
        assert_eq!((name, file.metadata().unwrap().mode() & 0o777), (path.join(VERDICTS), 0o600));
        assert_eq!(files.spool.unwrap().metadata().unwrap().nlink(), 0);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_something_else_is_moved_aside_and_what_a_link_names_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        let (path, other) = (root.path().join("state"), root.path().join("other"));
        std::fs::write(&other, "a letter").unwrap();
        let empty = open_now(&root.path().join("another")).verdicts.unwrap().1;
        let make: [&dyn Fn(&Path); 5] = [
            &|name| std::fs::write(name, "a letter").unwrap(),
            &|name| symlink(&other, name).unwrap(),
            // As good as the own one, but for the link.
            &|name| symlink(&empty, name).unwrap(),
            &|name| std::fs::create_dir(name).unwrap(),
            &|name| {
                std::fs::write(name, "").unwrap();
                std::fs::set_permissions(name, PermissionsExt::from_mode(0o644)).unwrap();
            },
        ];
        for make in make {
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir(&path).unwrap();
            make(&path.join(VERDICTS));
            let (file, _) = open_now(&path).verdicts.unwrap();
            assert_eq!((file.metadata().unwrap().len(), file.metadata().unwrap().mode() & 0o077), (0, 0));
            assert!(path.join(ASIDE).symlink_metadata().is_ok());
            assert_eq!(std::fs::read(&other).unwrap(), b"a letter");
        }
    }

    #[test]
    fn a_directory_in_which_others_may_write_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o720, 0o702] {
            std::fs::set_permissions(root.path(), PermissionsExt::from_mode(mode)).unwrap();
            let files = open_now(root.path());
            assert!(files.verdicts.is_none() && files.spool.is_none());
            let error = look(root.path()).unwrap_err().to_string();
            assert!(error.contains("others may write there") && error.contains("chmod 700"), "{error}");
        }
        std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(open_now(root.path()).verdicts.is_some());
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(open_now(&file).spool.is_none() && look(&file).is_err());
    }

    #[test]
    fn two_daemons_do_not_share_a_memory_and_a_successor_waits_for_its_predecessor() {
        let root = tempfile::tempdir().unwrap();
        let first = open_now(root.path());
        let second = open_now(root.path());
        assert!(second.verdicts.is_none() && second.spool.is_some());
        let holds = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(200));
            drop(first);
        });
        let deadline = Instant::now() + std::time::Duration::from_secs(20);
        assert!(StateFiles::open(root.path(), deadline).verdicts.is_some());
        holds.join().unwrap();
    }
}
