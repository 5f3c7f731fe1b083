use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::guard::GuardNumbers;
use crate::vault::{MemoryNumbers, SpoolNumbers};

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
