/// `postern reload`.
mod reload;

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub use self::reload::{RELOAD_API, ReloadAnswer, ReloadOutcome, reload};
use self::reload::{Waiting, refused, tell};
use crate::guard::GuardNumbers;
use crate::vault::{MemoryNumbers, SpoolNumbers};

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

/// What a running daemon says about itself. Fields may be added, so readers ignore what they do not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started (RFC 3339, UTC).
    pub started: String,
    /// The configuration file.
    pub config: PathBuf,
    /// What becomes of mail while no daemon runs: `closed`, it is dropped; `open`, it flows uninspected.
    pub on_exit: String,
    /// The address that servers see: `gateway` or `client`.
    pub source: String,
    /// This daemon's processes; the first is the one that answers.
    #[serde(default)]
    pub processes: Vec<ProcessStatus>,
    /// What the signer signed since it was started; none where it does not answer.
    #[serde(default)]
    pub signatures: Option<SignaturesStatus>,
    /// The worker's mail threads; none while there is no worker.
    pub threads: Vec<ThreadStatus>,
    /// One per thread, ingress and family.
    pub listeners: Vec<ListenerStatus>,
    /// The kernel's side.
    pub steering: SteeringStatus,
    /// Policy routing rules that are installed, as `ip rule` would show them.
    pub rules: Vec<String>,
    /// Routes that are installed, as `ip route` would show them.
    pub routes: Vec<String>,
    /// Sessions of all threads.
    pub sessions: SessionsStatus,
    /// What sessions may take.
    pub memory: MemoryStatus,
    /// What sessions hold of mail that is judged.
    #[serde(default)]
    pub held: HeldStatus,
    /// What is remembered of mail that was judged.
    #[serde(default)]
    pub verdicts: VerdictsStatus,
    /// Copies of mail that was judged.
    #[serde(default)]
    pub spool: SpoolStatus,
    /// The processes that judge parts of mail.
    #[serde(default)]
    pub judges: JudgesStatus,
    /// The rules that files in mail are scanned with; none where nothing is scanned.
    #[serde(default)]
    pub scanner: Option<ScannerStatus>,
    /// What the account guard refused.
    #[serde(default)]
    pub guard: GuardNumbers,
    /// What authorities were asked about servers' certificates.
    #[serde(default)]
    pub ocsp: OcspStatus,
    /// Certificates that end, the next to end first: at most 64.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// Servers of `action.trust_uid_immutability` that changed what stands under a UID, and are not trusted any more.
    #[serde(default)]
    pub distrusted: Vec<IpAddr>,
    /// Whether the kernel's TLS is used and what it can do, in words.
    pub kernel_tls: String,
    /// Who opens and seals TLS records, in words: with what was measured, under `tls.offload = "auto"`.
    pub record_layer: String,
    /// Connection records that could not be written.
    pub records_lost: u64,
    /// Lines of the log that could not be written.
    pub log_lost: u64,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// `supervisor`, `worker`, `signer`, `helper` or, several times, `judge`.
    pub name: String,
    /// Its number; none while there is none.
    pub pid: Option<u32>,
    /// The user that it runs as.
    pub uid: Option<u32>,
    /// The capabilities that it may use.
    pub capabilities: Vec<String>,
    /// Octets of memory that it holds now (`VmRSS`).
    pub memory: u64,
    /// Whether a filter of system calls is in force.
    pub seccomp: bool,
    /// What Landlock keeps from it, in words; none of a process that has files.
    pub landlock: Option<String>,
    /// Whether its memory stays out of the swap, or why not; none where nobody asked for it.
    #[serde(default)]
    pub locked_memory: Option<String>,
    /// How often it was started again.
    pub restarts: u64,
}

/// One certificate of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// What it is for.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// When it, or another certificate of its file, ends (RFC 3339, UTC).
    pub not_after: String,
    /// Whole days until then; below zero once it has ended.
    pub days_left: i64,
    /// What is to be done, from 30 days before its end on.
    pub alarm: Option<String>,
}

/// What the signer signed, and what it refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignaturesStatus {
    /// Leaves, with the authority's key.
    pub minted: u64,
    /// Leaves that it refused: by its rules, or over its rate.
    pub mints_refused: u64,
    /// Handshakes, with keys of configured certificates.
    pub handshakes: u64,
    /// Handshakes that it refused.
    pub handshakes_refused: u64,
}

/// One mail thread of the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// From 0.
    pub index: u32,
    /// The core it is pinned to, if it is.
    pub cpu: Option<u32>,
    /// Sessions now.
    pub sessions: u64,
    /// Sessions since the start.
    pub accepted_total: u64,
    /// Whether its thread runs.
    pub alive: bool,
    /// How often it died and was started again.
    pub restarts: u64,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// The interface whose connections it gets.
    pub ingress: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Where it is bound.
    pub address: SocketAddr,
    /// The worker's thread that accepts from it.
    pub thread: u32,
}

/// The kernel's side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteeringStatus {
    /// The kernel's number for it, as in `bpftool prog`.
    pub program_id: u32,
    /// How the classifier is attached: `tcx` or `clsact`.
    pub hook: String,
    /// The device that the local route lies on.
    pub device: String,
    /// What becomes of new connections: `steered`, `dropped` or `pass uninspected`.
    pub intake: String,
    /// Configured interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// Packets by the way they left the steering program.
    pub counters: BTreeMap<String, u64>,
    /// Packets by the way they left the classifier.
    pub classes: BTreeMap<String, u64>,
    /// Rules, routes, links and programs that others took away or went in front of, and that were put back.
    pub repairs: u64,
    /// What is not as it should be and cannot be put right by the daemon, with the remedy.
    #[serde(default)]
    pub alarms: Vec<String>,
    /// Rules of others that are asked before Postern's, as `ip rule` would show them: mail may follow them.
    #[serde(default)]
    pub in_front: Vec<String>,
    /// Rules of the nftables chain that drops mail which would be forwarded past Postern; none under `open`.
    #[serde(default)]
    pub forward: Vec<String>,
    /// Packets that this chain has dropped.
    #[serde(default)]
    pub forward_dropped: u64,
}

/// A configured interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// Who is behind it: `downstream`, the clients; `upstream`, the servers.
    pub side: String,
    /// Its index in the kernel; none while it is not there.
    pub index: Option<u32>,
    /// A reload took it out of `[steering]`: it has no new sessions, and is served until those that it has end.
    pub leaving: bool,
}

/// Sessions of all threads together; totals count since the worker was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsStatus {
    /// Now.
    pub active: u64,
    /// Most at once.
    pub limit: u64,
    /// Accepted since the start.
    pub accepted_total: u64,
    /// Refused because the limit on all sessions was reached.
    pub refused_total: u64,
    /// Refused because the client's own limit was reached.
    pub refused_client: u64,
    /// Most at once of one client.
    pub limit_client: u64,
    /// Connections between accept and relay now.
    pub handshakes: u64,
    /// Most of them at once.
    pub handshakes_limit: u64,
    /// Refused because the limit on all handshakes was reached.
    pub refused_handshakes: u64,
    /// Refused because the client's own limit on handshakes at once was reached.
    pub refused_client_handshakes: u64,
    /// Refused because the client came more often than its limit on handshakes a second allows.
    pub refused_client_rate: u64,
    /// Refused because the destination does not leave by a configured egress.
    pub refused_egress: u64,
    /// Refused because `action.implicit` denies implicit TLS.
    pub refused_implicit: u64,
    /// Refused because no policy admits them.
    pub refused_policy: u64,
    /// Reset because they were made to a listener itself, by somebody on this machine.
    pub refused_local: u64,
}

/// Memory of sessions, in octets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Of all together.
    pub limit: u64,
    /// Where the limit comes from, in words.
    pub origin: String,
    /// Of one at most.
    pub session: u64,
    /// Directions of one thread's sessions in which octets may be on their way at once; others wait.
    pub buffers_per_thread: u64,
}

/// Mail that is held while it is judged; totals count since the worker was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStatus {
    /// Octets now.
    pub octets: u64,
    /// Octets at most; none where no mail was judged since the worker was started.
    pub limit: u64,
    /// How often there was no room for more.
    pub refused_total: u64,
    /// Messages and parts that wait for a thread that judges.
    pub waiting: u64,
}

/// The memory of verdicts; totals count since the worker was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictsStatus {
    /// Verdicts in the worker's memory now.
    pub entries: u64,
    /// Whether the file in `state.directory` can be used.
    pub has_file: bool,
    /// Octets of the file, when it was written last.
    pub file_octets: u64,
    /// Messages and parts that were known.
    pub hits_total: u64,
    /// Messages and parts that were not known.
    pub misses_total: u64,
    /// Verdicts that were not written, because the disk is slow, full or broken.
    pub dropped_total: u64,
}

impl From<MemoryNumbers> for VerdictsStatus {
    fn from(numbers: MemoryNumbers) -> Self {
        let MemoryNumbers { entries, has_file, file_octets, hits, misses, dropped } = numbers;
        let (hits_total, misses_total, dropped_total) = (hits, misses, dropped);
        Self { entries, has_file, file_octets, hits_total, misses_total, dropped_total }
    }
}

/// The spool; totals count since the worker was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Octets of copies now, in memory and in the file.
    pub octets: u64,
    /// Octets of them in memory, which count as held, too.
    pub in_memory: u64,
    /// Octets at most; none where no mail was judged since the worker was started.
    pub limit: u64,
    /// Whether there is a file in `state.directory`.
    pub has_file: bool,
    /// How often there was no room for a copy, or the disk was too slow.
    pub refused_total: u64,
    /// How often the disk failed.
    pub failed_total: u64,
}

impl From<SpoolNumbers> for SpoolStatus {
    fn from(numbers: SpoolNumbers) -> Self {
        let SpoolNumbers { octets, in_memory, limit, has_file, refused, failed } = numbers;
        Self { octets, in_memory, limit, has_file, refused_total: refused, failed_total: failed }
    }
}

/// The rules of the scanner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScannerStatus {
    /// Rules that Postern brings along; 0 where they are not used.
    pub embedded: u32,
    /// Rules of `scanner.yara.directories`.
    pub own: u32,
    /// Files with these rules.
    pub files: u32,
    /// When they were compiled (RFC 3339, UTC).
    pub compiled: String,
    /// How long that took, in milliseconds.
    pub compile_ms: u64,
    /// When the file that was changed last was changed (RFC 3339, UTC); none without files.
    pub newest: Option<String>,
    /// Seconds since then.
    pub newest_age_seconds: Option<u64>,
}

/// Judges. `restarts` counts since the daemon was started, totals since the worker was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgesStatus {
    /// How many there shall be; none where no mail is judged.
    pub wanted: u64,
    /// How many there are.
    pub alive: u64,
    /// How often one was started again.
    pub restarts: u64,
    /// Parts of mail that were judged.
    pub leaves_total: u64,
    /// Judges that died of a part, or answered it with what no judge says.
    pub lost_total: u64,
    /// Judges whose answer was overdue.
    pub hung_total: u64,
    /// Parts of which two judges died, each as often as it was met.
    pub cannot_scan_total: u64,
    /// Parts that had no judge in time.
    pub unavailable_total: u64,
}

/// Questions to authorities; totals count since the worker was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OcspStatus {
    /// Asked.
    pub asked_total: u64,
    /// Of these, without an answer.
    pub failed_total: u64,
}

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
