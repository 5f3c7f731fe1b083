use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::words::Size;

/// Why a file did not become a [`Config`](super::Config).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error(
        "{}: no such file; write one (docs/examples/minimal.toml is the shortest that works) \
         or name another with --config PATH",
        .path.display()
    )]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The file is there, but the system does not let us read it.
    #[error("{}: cannot read: {source}; {}", .path.display(), unreadable_remedy(.source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than any policy.
    #[error("{}: larger than {max} octets; this is not a Postern configuration, name another with --config PATH", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, in octets.
        max: u64,
    },
    /// The file is read, and this is wrong with it. One line per fault.
    #[error("{}", lines(.path, .faults))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// In the order of the file; never empty.
        faults: Vec<Fault>,
    },
}

impl ConfigError {
    /// The faults of the file's text, if it could be read.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Wrong { faults, .. } => faults,
            Self::Missing { .. } | Self::Unreadable { .. } | Self::TooLarge { .. } => &[],
        }
    }
}

fn unreadable_remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "run as root or as the user of the service",
        io::ErrorKind::IsADirectory => "name the file inside it with --config PATH",
        io::ErrorKind::InvalidData => "save it as UTF-8",
        _ => "check the path and the disk",
    }
}

fn lines(path: &std::path::Path, faults: &[Fault]) -> String {
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| match fault.place {
            Some(Place { line, column }) => format!("{}:{line}:{column}: {fault}", path.display()),
            None => format!("{}: {fault}", path.display()),
        })
        .collect();
    lines.join("\n")
}

/// Where in the file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl Place {
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline.saturating_add(1));
        let column = before.get(line_start..).map_or(0, |head| head.chars().count());
        let line = before.bytes().filter(|&octet| octet == b'\n').count();
        Self { line: line.saturating_add(1), column: column.saturating_add(1) }
    }
}

/// One thing that is wrong: `key = value: reason; remedy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where; `None` when the key and its whole section are missing.
    pub place: Option<Place>,
    /// The key with its section, such as `tls.fault.expired`; empty when the text is not TOML.
    pub key: String,
    /// The value as written, cut to a line; empty when there is none.
    pub value: String,
    /// What is wrong with it.
    pub reason: Reason,
}

impl Fault {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.reason.remedy()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.key.is_empty(), self.value.is_empty()) {
            (true, _) => {}
            (false, true) => write!(f, "{}: ", self.key)?,
            (false, false) => write!(f, "{} = {}: ", self.key, self.value)?,
        }
        write!(f, "{}; {}", self.reason, self.reason.remedy())
    }
}

/// The reasons that exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The text is not TOML.
    #[error("not TOML: {detail}")]
    Syntax {
        /// What the TOML reader stumbled over.
        detail: String,
    },
    /// No such key.
    #[error("unknown key")]
    UnknownKey {
        /// The keys that exist there.
        known: Vec<String>,
        /// The one that was probably meant.
        nearest: Option<String>,
    },
    /// A key or value that the design knows and this version does not.
    #[error("not in this version: {what}")]
    NotYet {
        /// What comes later, or what this version does instead.
        what: &'static str,
        /// What to write now.
        remedy: &'static str,
    },
    /// A protocol version that will never exist here.
    #[error("does not exist here: SSLv3, TLS 1.0 and TLS 1.1 are broken (RFC 7568, RFC 8996)")]
    ObsoleteVersion,
    /// The key has to be there.
    #[error("missing")]
    Missing {
        /// What to write.
        remedy: &'static str,
    },
    /// A number where a list belongs, and the like.
    #[error("wrong type: {detail}")]
    WrongType {
        /// What was found and what belongs there.
        detail: String,
    },
    /// A word that is not among those that mean something.
    #[error("unknown {what}")]
    UnknownWord {
        /// What kind of word.
        what: &'static str,
        /// The words that exist.
        known: &'static [&'static str],
    },
    /// A number outside its range.
    #[error("out of range ({why})")]
    OutOfRange {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
        /// Why there is a bound.
        why: &'static str,
    },
    /// Not a number with a unit.
    #[error("not a size")]
    NotASize,
    /// A size outside its range.
    #[error("out of range ({why})")]
    SizeOutOfRange {
        /// The smallest.
        min: Size,
        /// The largest.
        max: Size,
        /// Why there is a bound.
        why: &'static str,
    },
    /// One client could fill so many of all sessions that few others are needed to fill them all.
    #[error(
        "over 1/{share} of limits.sessions ({sessions}): under steering.on_exit = \"open\" a client that fills all \
         sessions lets all new mail pass uninspected"
    )]
    OverShare {
        /// One client has one part in so many.
        share: u32,
        /// All sessions.
        sessions: i64,
        /// The most that one client may have of them.
        max: i64,
    },
    /// Not even one session for each of as many clients as it must take to fill them all.
    #[error(
        "under steering.on_exit = \"open\" fewer than {min} clients fill all sessions and let all new mail pass \
         uninspected"
    )]
    TooFewSessions {
        /// The smallest.
        min: u32,
    },
    /// An empty list or text.
    #[error("empty")]
    Empty {
        /// What belongs there.
        remedy: &'static str,
    },
    /// Written twice.
    #[error("already given on line {first}")]
    Duplicate {
        /// The line of the first one.
        first: usize,
    },
    /// An interface in `ingress` and in `egress`.
    #[error(
        "also in ingress on line {first}: Postern's own connections to the servers would be steered again"
    )]
    BothSides {
        /// The line in `ingress`.
        first: usize,
    },
    /// An interface that the list it is meant from does not have.
    #[error("not among {list}")]
    NotListed {
        /// The key of that list.
        list: &'static str,
    },
    /// More entries than there is room for.
    #[error("{count} entries, room for {max}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// Linux would not accept this interface name.
    #[error("not an interface name")]
    NotAnInterface,
    /// Neither an address nor a network.
    #[error("not a network")]
    NotANetwork,
    /// Bits right of the prefix length are set.
    #[error("has address bits beyond its prefix length")]
    HostBits {
        /// The network that holds it.
        network: ipnet::IpNet,
    },
    /// Not a name that a client could send as SNI.
    #[error("not a server name: {why}")]
    NotAServerName {
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Not a pattern for file names.
    #[error("not a pattern for file names: {why}")]
    NotANamePattern {
        /// Which rule it breaks.
        why: &'static str,
    },
    /// Clear text in which nobody reads the commands.
    #[error(
        "needs action.inspect = \"full\": without it nobody reads the commands, and a STARTTLS among them would pass"
    )]
    UnreadClearText,
    /// Less is held for judging than one message may have.
    #[error(
        "less than one message of limits.message (\"{message}\"), so that none of that size could be judged"
    )]
    HeldUnderMessage {
        /// The largest message.
        message: Size,
    },
    /// So much is held for judging that little is left for sessions.
    #[error("more than half of limits.memory (\"{memory}\"), and the sessions themselves need the rest")]
    HeldOverShare {
        /// All memory.
        memory: Size,
        /// The most that may be held of it.
        max: Size,
        /// Memory that would do.
        needed: Size,
        /// The largest message, where it is more than may be held.
        message: Option<Size>,
    },
    /// A path that the kernel does not take for a Unix socket.
    #[error("the path resolves to {octets} octets, a Unix socket has room for {max}")]
    SocketPathTooLong {
        /// Octets of the resolved path.
        octets: usize,
        /// Octets that fit.
        max: usize,
    },
    /// Two processes would run as one user.
    #[error(
        "also {other}: the worker, which reads peers, could then signal the signer, which has the private keys"
    )]
    SameUser {
        /// Where the number stands already.
        other: &'static str,
    },
}

impl Reason {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Syntax { .. } => "correct the line; text values stand in double quotes".to_owned(),
            Self::UnknownKey { nearest: Some(nearest), .. } => format!("did you mean \"{nearest}\"?"),
            Self::UnknownKey { known, nearest: None } => format!("known here: {}", known.join(", ")),
            Self::NotYet { remedy, .. } | Self::Missing { remedy } | Self::Empty { remedy } => {
                (*remedy).to_owned()
            }
            Self::ObsoleteVersion => "use \"1.2\" or \"1.3\"".to_owned(),
            Self::WrongType { .. } => "see docs/examples/postern.toml for its form".to_owned(),
            Self::UnknownWord { known, .. } => format!("use {}", alternatives(known)),
            Self::OutOfRange { min, max, .. } => format!("use {min} to {max}"),
            Self::NotASize => "write a whole number and KiB, MiB or GiB, such as \"512 MiB\"".to_owned(),
            Self::SizeOutOfRange { min, max, .. } => format!("use \"{min}\" to \"{max}\""),
            Self::OverShare { max, .. } => format!("use at most {max}, or raise limits.sessions"),
            Self::TooFewSessions { min } => format!("use at least {min}, or steering.on_exit = \"closed\""),
            Self::Duplicate { .. } => "remove one of them".to_owned(),
            Self::BothSides { .. } => "list it on one side only".to_owned(),
            Self::NotListed { list } => format!("add it to {list} or correct the name"),
            Self::TooMany { max, .. } => format!("list at most {max}"),
            Self::NotAnInterface => {
                "use a name that `ip link` shows: 1 to 15 octets, no `/`, `:` or white space".to_owned()
            }
            Self::NotANetwork => {
                "write an address or a network such as \"192.0.2.0/24\" or \"2001:db8::/32\"".to_owned()
            }
            Self::HostBits { network } => {
                format!("write \"{network}\" for the network or the address alone for one host")
            }
            Self::NotAServerName { .. } => {
                "write a DNS name such as \"imap.example.org\" or \"*.example.org\"".to_owned()
            }
            Self::NotANamePattern { .. } => {
                "write a file name in which `*` stands for any characters and `?` for one, such as \"*.exe\""
                    .to_owned()
            }
            Self::UnreadClearText => {
                "use \"refuse\", or action.inspect = \"full\"; or list destinations to leave alone in action.bypass"
                    .to_owned()
            }
            Self::HeldUnderMessage { message } => {
                format!("use at least \"{message}\", or lower limits.message")
            }
            Self::HeldOverShare { max, needed, message: None, .. } => {
                format!("use at most \"{max}\", or raise limits.memory to \"{needed}\"")
            }
            Self::HeldOverShare { max, needed, message: Some(message), .. } => format!(
                "raise limits.memory to \"{needed}\", or use at most \"{max}\" here and lower limits.message \
                 (\"{message}\") to it"
            ),
            Self::SocketPathTooLong { .. } => "choose a shorter path".to_owned(),
            Self::SameUser { .. } => "use a number of its own for each".to_owned(),
        }
    }
}

/// `"a", "b" or "c"`.
fn alternatives(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
