//! The policy: one TOML file, parsed into one immutable value that a connection holds until it ends.

/// From a file to [`Config`], and every fault of the file that can be told at once.
mod parse;
/// The file as serde reads it: optional values, each with its place.
mod shape;
/// From the shape to values that cannot be wrong.
mod judge;
/// The same for `[limits]`.
mod bounds;
/// Network interfaces, DNS names and networks, as the file spells them.
mod names;
/// What is wrong with a file, in an operator's words.
mod fault;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::words::Size;

pub use bounds::CLIENT_SHARE;
pub(crate) use bounds::HELD_SHARE_MAX;
pub use fault::{ConfigError, Fault, Reason};
pub use parse::{load, parse};

/// Everything an owner decides. The supervisor reads it from the file and passes it on to its worker, so what is read
/// from a message was judged before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Which packets, and where they may go.
    pub steering: SteeringConfig,
    /// The TLS profile.
    pub tls: Tls,
    /// Keys and certificates that Postern shows.
    pub certificates: Certificates,
    /// The proxy action.
    pub action: Action,
    /// Bounds with their units.
    pub limits: Limits,
    /// What is written on stdout.
    pub records: RecordLines,
    /// What outlives the daemon.
    pub state: State,
    /// The admin socket.
    pub admin: Admin,
    /// Who the processes run as.
    pub processes: Processes,
}

/// `[steering]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteeringConfig {
    /// Interfaces of the clients, by name. Never empty.
    pub ingress: Vec<InterfaceName>,
    /// Interfaces towards the servers, by name. Never empty.
    pub egress: Vec<InterfaceName>,
    /// The address that servers see.
    pub source: Source,
    /// What becomes of mail while no daemon runs.
    pub on_exit: OnExit,
    /// How many mail threads the worker has; `None` means one per core.
    pub threads: Option<u16>,
    /// Who may reach what.
    pub reach: Vec<Reach>,
}

impl SteeringConfig {
    /// Whether clients of this ingress may reach this destination through this egress. An ingress that no entry names
    /// may reach everything.
    #[must_use]
    pub fn may_reach(&self, ingress: &InterfaceName, egress: &InterfaceName, destination: IpAddr) -> bool {
        let mut named = self.reach.iter().filter(|reach| reach.ingress.contains(ingress)).peekable();
        named.peek().is_none() || named.any(|reach| reach.allows(egress, destination))
    }
}

/// One entry of `steering.reach`: what clients of some ingress interfaces may reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Whose clients. Never empty.
    pub ingress: Vec<InterfaceName>,
    /// Through which interfaces; `None` means all of `steering.egress`.
    pub egress: Option<Vec<InterfaceName>>,
    /// Which destinations; `None` means any.
    pub networks: Option<Vec<IpNet>>,
    /// Which of these not.
    pub except: Vec<IpNet>,
}

impl Reach {
    fn allows(&self, egress: &InterfaceName, destination: IpAddr) -> bool {
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&destination));
        self.egress.as_ref().is_none_or(|list| list.contains(egress))
            && self.networks.as_deref().is_none_or(within)
            && !within(&self.except)
    }
}

/// A Linux interface name: 1 to 15 octets, no `/`, no white space (kernel `dev_valid_name`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InterfaceName(pub(crate) String);

impl InterfaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The address that upstream sockets are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The gateway's own address, chosen by routing.
    Gateway,
    /// The client's address with a port of Postern's own, for networks that are routed and not masqueraded.
    Client,
}

impl Source {
    /// The word in the file and in the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Client => "client",
        }
    }
}

/// What becomes of new connections while no daemon runs, or while it has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnExit {
    /// They are dropped.
    Closed,
    /// They reach the server uninspected.
    Open,
}

impl OnExit {
    /// The word in the file and in the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
        }
    }
}

/// `[tls]`: the TLS profile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tls {
    /// Trust the system's root certificates.
    pub system_roots: bool,
    /// PEM files with further roots, absolute or resolved against the config file.
    pub root_files: Vec<PathBuf>,
    /// A verdict per fault of the server's certificate.
    pub faults: FaultPolicy,
    /// Whether the kernel encrypts and decrypts.
    pub offload: Offload,
    /// The oldest protocol version offered and accepted, on both sides.
    pub min_version: TlsVersion,
}

/// Whether records are the kernel's work (kernel TLS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Offload {
    /// Where the kernel can and it pays.
    #[default]
    Auto,
    /// Always; a connection that the kernel cannot take is refused.
    Always,
    /// Never.
    Never,
}

/// Versions that exist here; older ones are a config error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// What happens when a server's certificate has a fault; ordered from lenient to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// Go on as if it were good.
    Allow,
    /// Show the client a leaf from an untrusted authority, so that its own warning appears.
    Mirror,
    /// Finish the client's handshake, then `* BYE` with the reason.
    Block,
}

/// `[tls.fault]`: one verdict per fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultPolicy {
    /// After `notAfter`.
    pub expired: Verdict,
    /// Before `notBefore`.
    pub not_yet_valid: Verdict,
    /// No path to a trusted root, or a path that breaks a rule of RFC 5280.
    pub untrusted: Verdict,
    /// The client's SNI is not among the names.
    pub wrong_name: Verdict,
    /// The client sent no SNI, so that only the chain can be verified.
    pub no_name: Verdict,
}

/// `[certificates]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// The re-signing authority ("Proxy Authority").
    pub authority: KeyFiles,
    /// Certificates shown for inbound protection ("Proxy Server certificate").
    pub server: Vec<ServerCertificate>,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFiles {
    /// The chain, leaf first.
    pub cert: PathBuf,
    /// The private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// One entry of `certificates.server`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCertificate {
    /// DNS names, lower case, exact or `*.` in the first label.
    pub names: Vec<String>,
    /// What is shown for them.
    pub files: KeyFiles,
}

/// `[action]`: the proxy action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What becomes of STARTTLS on port 143.
    pub starttls: StartTls,
    /// What becomes of mail in clear text on port 143. [`ClearText::Inspect`] only under [`Inspection::Full`].
    pub cleartext: ClearText,
    /// What becomes of connections to port 993.
    pub implicit: ImplicitTls,
    /// Whether mail is judged.
    pub inspect: Inspection,
    /// What is forbidden in mail that is judged.
    pub content: ContentSettings,
    /// Destinations that are spliced without a look.
    pub bypass: Vec<IpNet>,
}

impl Action {
    /// Whether policy leaves this destination alone.
    #[must_use]
    pub fn bypasses(&self, destination: IpAddr) -> bool {
        self.bypass.iter().any(|net| net.contains(&destination))
    }

    /// Whether nobody can log in on port 143: without STARTTLS, and not in clear text either.
    #[must_use]
    pub fn bars_logins(&self) -> bool {
        (self.starttls, self.cleartext) == (StartTls::Strip, ClearText::Refuse)
    }
}

/// What becomes of STARTTLS on port 143.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartTls {
    /// TLS is ended on both sides.
    #[default]
    Inspect,
    /// It is hidden from clients, and refused to those that ask for it: [`ClearText`] decides about their mail.
    Strip,
    /// Client and server have TLS with each other, and nobody looks inside.
    Bypass,
}

impl StartTls {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inspect => "inspect",
            Self::Strip => "strip",
            Self::Bypass => "bypass",
        }
    }
}

/// What becomes of mail in clear text on port 143.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClearText {
    /// Logins without TLS are refused before the password leaves this machine.
    #[default]
    Refuse,
    /// Clear text on both sides is judged as mail inside TLS is.
    Inspect,
}

impl ClearText {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Inspect => "inspect",
        }
    }
}

/// What becomes of connections to port 993, where TLS begins at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImplicitTls {
    /// TLS is ended on both sides.
    #[default]
    Inspect,
    /// Client and server have TLS with each other, and nobody looks inside.
    Allow,
    /// They are refused, with the reason.
    Deny,
}

impl ImplicitTls {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inspect => "inspect",
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// How deep mail is looked into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inspection {
    /// Mail is relayed without being judged.
    None,
    /// Every part of mail is judged before it reaches anybody.
    #[default]
    Full,
}

impl Inspection {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Full => "full",
        }
    }
}

/// `[action.content]`: hard rules about parts of mail. The EICAR test file is always forbidden, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentSettings {
    /// Forbidden file names.
    pub names: Vec<NamePattern>,
    /// Forbidden types, as a part's own octets show them; programs, where the file lists none.
    pub types: Vec<ForbiddenType>,
}

/// A pattern for file names: 1 to 255 octets, no `/`, no control characters. `*` stands for any characters, also none,
/// and `?` for one; every other character stands for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamePattern(pub(crate) String);

impl NamePattern {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Types of content that can be forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ForbiddenType {
    /// Programs for any machine.
    Executable,
}

impl ForbiddenType {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Executable];

    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Executable => "executable",
        }
    }
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Sessions at once in the whole daemon; `None` derives it from the descriptor limit.
    pub sessions: Option<u32>,
    /// Sessions at once per client (an IPv4 address, an IPv6 /64); `None` is 1,024, or an eighth of all where that is
    /// less. Never over an eighth of `sessions` under `on_exit = "open"`.
    pub sessions_per_client: Option<u32>,
    /// Connections at once between accept and relay; `None` is 64 for each mail thread.
    pub handshakes: Option<u32>,
    /// Connections at once between accept and relay, per client.
    pub handshakes_per_client: u32,
    /// Connections a second per client, in the long run.
    pub handshakes_per_second_per_client: u32,
    /// Connections per client that may come at the same moment after a pause.
    pub handshake_burst_per_client: u32,
    /// Memory of all sessions, sockets included; `None` derives it from what the machine has.
    pub memory: Option<Size>,
    /// The most that one session may take of it. The sockets' buffers follow from it.
    pub session_memory: Size,
    /// The largest message that is judged, down or up; under [`Inspection::Full`] larger ones are refused.
    pub message: Size,
    /// Octets of mail that all sessions together may hold while it is judged, within `memory`; `None` derives it from
    /// `memory`. Never less than `message`.
    pub held: Option<Size>,
    /// Octets of copies of judged content, in memory, as a part of `held`, and in a file.
    pub spool: Size,
    /// Bound on a TCP connect to a server.
    pub connect: Duration,
    /// Bound on everything from accept to relay.
    pub handshake: Duration,
    /// A session without an octet in either direction ends after this (at least 31 minutes: IDLE lives 29).
    pub idle: Duration,
    /// How long sessions may go on after TERM.
    pub drain: Duration,
}

/// `[records]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLines {
    /// A line when a session begins, too.
    pub start: bool,
    /// A line for each verdict, also where nothing was forbidden.
    pub clean_verdicts: bool,
}

/// `[state]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where the memory of verdicts and the spool are, under [`Inspection::Full`]. The supervisor makes it.
    pub directory: PathBuf,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admin {
    /// The Unix socket that `postern status` asks; mode 0600.
    pub socket: PathBuf,
}

/// The worker's number of user and group where neither the file nor the system names one. systemd leaves 60578 to 61183 to
/// nobody (its UIDS-GIDS document), and so do Debian's and Fedora's lists.
pub(crate) const WORKER_ID_DEFAULT: u32 = 60993;
/// The same of the signer.
pub(crate) const SIGNER_ID_DEFAULT: u32 = 60994;

/// `[process]`: the number of user and group that a process runs as; `None` means the system's user of its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// Of the worker.
    pub worker: Option<u32>,
    /// Of the signer.
    pub signer: Option<u32>,
}
