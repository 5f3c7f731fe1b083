/// `postern reload`.
mod reload;
/// What a daemon says of itself.
mod status;

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub use self::reload::{RELOAD_API, ReloadAnswer, ReloadOutcome, reload};
use self::reload::{Waiting, refused, tell};
pub use self::status::{
    CertificateStatus, HeldStatus, InterfaceStatus, JudgesStatus, ListenerStatus, MemoryStatus, OcspStatus,
    ProcessStatus, ScannerStatus, SessionsStatus, SignaturesStatus, SpoolStatus, Status, SteeringStatus,
    ThreadStatus, VerdictsStatus,
};

/// The request that `postern status` makes. `reload`, `reload cut` and `test alarm` are the others.
const REQUEST: &[u8] = b"status\n";
/// The request for an alarm that shows whether alarms arrive; answered in words.
const TEST_ALARM: &[u8] = b"test alarm\n";
/// A request is one short word; more is a mistake.
const REQUEST_BYTES_MAX: usize = 64;
/// 64 threads and interfaces with their rules take some 30 KiB.
const STATUS_BYTES_MAX: u64 = 1024 * 1024;
/// Connections wait in the kernel's queue while one is answered: one at a time, and this many behind it.
const BACKLOG: i32 = 8;
/// Who connects and stays silent holds up the next for this long.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(1);
/// Long enough for a full queue of silent ones.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Why a status could not be given or had.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens.
    #[error(
        "{}: no daemon answers ({source}); start it with `postern run`, or name its socket with --socket PATH",
        .path.display()
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The socket is not ours to ask.
    #[error("{}: permission denied; ask as root or as the user of the service", .path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// Another daemon listens.
    #[error("{}: another daemon answers here ({}); stop it first or set another admin.socket", .path.display(), process(*.pid))]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The other daemon's process, if the kernel says.
        pid: Option<i32>,
    },
    /// Something else has the name.
    #[error("{}: exists and is not a socket; remove it or set another admin.socket", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A call failed.
    #[error("{}: {call}: {source}; check the directory, its permissions and the disk", .path.display())]
    System {
        /// What was tried.
        call: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{}: no answer within {} s; the daemon hangs or is overloaded, look at its log", .path.display(), .limit.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// The answer is none of this version's.
    #[error("{}: the answer is none of this version's: {source}; do `postern` and the daemon have the same version?", .path.display())]
    Malformed {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

fn process(pid: Option<i32>) -> String {
    pid.map_or_else(|| "process unknown".to_owned(), |pid| format!("process {pid}"))
}

/// The daemon's end. Dropping it removes the socket's name.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the name that is ours: a successor's is left alone.
    identity: Option<(u64, u64)>,
}

impl AdminSocket {
    /// Listen at `path` with mode 0600, replacing what a dead daemon left.
    ///
    /// # Errors
    /// [`AdminError::InUse`] when a daemon listens there, [`AdminError::NotASocket`] when a file is in the way.
    pub fn bind(path: &Path) -> Result<Self, AdminError> {
        let failed = |call| move |source| AdminError::System { call, path: path.to_owned(), source };
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed("mkdir"))?;
        }
        clear(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("socket"))?;
        // Linux gives the name the mode of the unbound socket (net/unix/af_unix.c, unix_bind_bsd): no moment of wider access.
        rustix::fs::fchmod(socket.as_fd(), rustix::fs::Mode::from_raw_mode(0o600))
            .map_err(|error| failed("fchmod")(error.into()))?;
        let address = SockAddr::unix(path).map_err(failed("address"))?;
        socket.bind(&address).map_err(failed("bind"))?;
        socket.listen(BACKLOG).map_err(failed("listen"))?;
        socket.set_nonblocking(true).map_err(failed("fcntl"))?;
        Ok(Self { listener: socket.into(), path: path.to_owned(), identity: identity(path) })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // Nothing is left to be told when this fails: a start replaces the name.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Remove a socket that nobody listens on.
fn clear(path: &Path) -> Result<(), AdminError> {
    let failed = |call| move |source| AdminError::System { call, path: path.to_owned(), source };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("stat")(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(AdminError::NotASocket { path: path.to_owned() });
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed("unlink"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full queue or a refusal of permission is a sign of life.
        Err(_) => Err(AdminError::InUse { path: path.to_owned(), pid: None }),
        Ok(socket) => {
            let pid = rustix::net::sockopt::socket_peercred(socket.as_fd()).ok();
            Err(AdminError::InUse {
                path: path.to_owned(),
                pid: pid.map(|peer| peer.pid.as_raw_nonzero().get()),
            })
        }
    }
}

fn connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Answer requests, one at a time, until the future is dropped. `reload` reads the configuration again, and says what became of
/// it; others are answered meanwhile. `test_alarm` raises an alarm and says what becomes of it.
///
/// # Errors
/// [`AdminError::System`] when the socket cannot be given to the runtime; a failing exchange is only logged.
pub async fn serve(
    socket: AdminSocket,
    source: impl AsyncFn() -> Status,
    reload: impl AsyncFn(bool) -> ReloadOutcome,
    test_alarm: impl Fn() -> String,
) -> Result<(), AdminError> {
    let failed = |call| {
        let path = socket.path.clone();
        move |source| AdminError::System { call, path, source }
    };
    let listener = socket.listener.try_clone().map_err(failed("dup"))?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(failed("epoll"))?;
    let mut waiting = Waiting::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            over = waiting.over() => {
                log_unanswered(over);
                continue;
            }
        };
        let exchanged = match accepted {
            Ok((stream, _)) => match exchange(stream, &source, &test_alarm).await {
                Ok(Some((stream, cut))) => match refused(&stream, &waiting) {
                    Some(why) => tell(stream, ReloadOutcome::not_reloaded(why)).await,
                    None => {
                        let reload = &reload;
                        waiting.add(async move { tell(stream, reload(cut).await).await });
                        Ok(())
                    }
                },
                exchanged => exchanged.map(drop),
            },
            Err(error) => {
                // Out of descriptors: the connection stays queued, and trying at once would spin.
                tokio::time::sleep(EXCHANGE_TIME_MAX).await;
                Err(error)
            }
        };
        log_unanswered(exchanged);
    }
}

fn log_unanswered(exchanged: io::Result<()>) {
    if let Err(error) = exchanged {
        tracing::warn!(%error, "admin socket: a request was not answered");
    }
}

/// Answer a request, or return it where it asks for a reload, and whether sessions shall be cut.
async fn exchange(
    mut stream: tokio::net::UnixStream,
    source: &impl AsyncFn() -> Status,
    test_alarm: &impl Fn() -> String,
) -> io::Result<Option<(tokio::net::UnixStream, bool)>> {
    let whole = async {
        let answer = match request(&mut stream).await? {
            AdminRequest::Status => serde_json::to_vec(&source().await)?,
            AdminRequest::TestAlarm => serde_json::to_vec(&test_alarm())?,
            AdminRequest::Reload { cut } => return Ok(Some((stream, cut))),
            AdminRequest::Unknown => {
                br#"{"error":"unknown request; send: status, reload, reload cut, or test alarm"}"#.to_vec()
            }
        };
        stream.write_all(&answer).await?;
        stream.write_all(b"\n").await?;
        stream.shutdown().await?;
        Ok(None)
    };
    tokio::time::timeout(EXCHANGE_TIME_MAX, whole)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

enum AdminRequest {
    Status,
    TestAlarm,
    Reload { cut: bool },
    Unknown,
}

/// One line; what does not fit is not read.
async fn request(stream: &mut tokio::net::UnixStream) -> io::Result<AdminRequest> {
    let mut line = Vec::with_capacity(REQUEST_BYTES_MAX);
    while line.len() < REQUEST_BYTES_MAX && !line.contains(&b'\n') {
        let room = REQUEST_BYTES_MAX.saturating_sub(line.len());
        if stream.take(u64::try_from(room).unwrap_or(0)).read_buf(&mut line).await? == 0 {
            break;
        }
    }
    Ok(match line.as_slice() {
        REQUEST => AdminRequest::Status,
        TEST_ALARM => AdminRequest::TestAlarm,
        b"reload\n" => AdminRequest::Reload { cut: false },
        b"reload cut\n" => AdminRequest::Reload { cut: true },
        _ => AdminRequest::Unknown,
    })
}

/// Ask the daemon that listens at `path`.
///
/// # Errors
/// [`AdminError`]: nobody listens, we may not ask, or the answer is late or not a status.
pub fn ask(path: &Path) -> Result<Status, AdminError> {
    exchanged(path, REQUEST)
}

/// Have the daemon that listens at `path` raise an alarm; returns what it says of it.
///
/// # Errors
/// As [`ask`].
pub fn test_alarm(path: &Path) -> Result<String, AdminError> {
    exchanged(path, TEST_ALARM)
}

fn exchanged<T: DeserializeOwned>(path: &Path, request: &[u8]) -> Result<T, AdminError> {
    let answer = asked(path, request, ANSWER_TIME_MAX)?;
    serde_json::from_slice(&answer).map_err(|source| AdminError::Malformed { path: path.to_owned(), source })
}

/// What the daemon answers to a request, within so much time.
fn asked(path: &Path, request: &[u8], limit: Duration) -> Result<Vec<u8>, AdminError> {
    let unanswered = |path, call, source| unanswered(path, call, source, limit);
    let mut socket = connect(path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => AdminError::Denied { path: path.to_owned() },
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AdminError::NotRunning { path: path.to_owned(), source }
        }
        _ => unanswered(path, "connect", source),
    })?;
    socket.set_read_timeout(Some(limit)).map_err(|source| unanswered(path, "setsockopt", source))?;
    socket.write_all(request).map_err(|source| unanswered(path, "write", source))?;
    let mut answer = Vec::new();
    socket
        .take(STATUS_BYTES_MAX)
        .read_to_end(&mut answer)
        .map_err(|source| unanswered(path, "read", source))?;
    Ok(answer)
}

fn unanswered(path: &Path, call: &'static str, source: io::Error, limit: Duration) -> AdminError {
    match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            AdminError::Silent { path: path.to_owned(), limit }
        }
        _ => AdminError::System { call, path: path.to_owned(), source },
    }
}
