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
    /// More files in the directory than are read.
    #[error("{}: {count} files, room for {max}; keep several objects in one file", .path.display())]
    TooManyFiles {
        /// The directory.
        path: PathBuf,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The files are read, and this is wrong with them. One line per fault.
    #[error("{}", lines(.faults))]
    Wrong {
        /// In the order of the files; never empty.
        faults: Vec<Fault>,
    },
}

impl ConfigError {
    /// The faults of the file's text, if it could be read.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Wrong { faults } => faults,
            _ => &[],
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

fn lines(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| match fault.place {
            Some(Place { line, column }) => format!("{}:{line}:{column}: {fault}", fault.file.display()),
            None => format!("{}: {fault}", fault.file.display()),
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
    /// In which file.
    pub file: PathBuf,
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

/// The reasons that exist. Those of one kind of value have their words beside the kind, as [`Reason::Unfit`].
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
        known: Vec<&'static str>,
        /// The one that was probably meant.
        nearest: Option<&'static str>,
    },
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
    /// A number or a size outside its range.
    #[error("out of range ({why})")]
    OutOfRange {
        /// From the smallest to the largest, in words.
        range: String,
        /// Why there is a bound.
        why: &'static str,
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
    /// More entries than there is room for.
    #[error("{count} entries, room for {max}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The value breaks a rule of its kind, or does not go together with another.
    #[error("{what}")]
    Unfit {
        /// Which rule, or with what.
        what: String,
        /// What to do.
        remedy: String,
    },
}

impl Reason {
    /// See [`Reason::OutOfRange`].
    pub(super) fn out_of_range(min: impl fmt::Display, max: impl fmt::Display, why: &'static str) -> Self {
        Self::OutOfRange { range: format!("{min} to {max}"), why }
    }

    /// The same of sizes, as the file writes them.
    pub(super) fn size_out_of_range(min: Size, max: Size, why: &'static str) -> Self {
        Self::out_of_range(format_args!("\"{min}\""), format_args!("\"{max}\""), why)
    }

    /// See [`Reason::Unfit`].
    pub(super) fn unfit(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unfit { what: what.into(), remedy: remedy.into() }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Syntax { .. } => "correct the line; text values stand in double quotes".to_owned(),
            Self::UnknownKey { nearest: Some(nearest), .. } => format!("did you mean \"{nearest}\"?"),
            Self::UnknownKey { known, nearest: None } => format!("known here: {}", known.join(", ")),
            Self::Missing { remedy } | Self::Empty { remedy } => (*remedy).to_owned(),
            Self::WrongType { .. } => "see its form in what `postern config example` prints".to_owned(),
            Self::UnknownWord { known, .. } => format!("use {}", alternatives(known)),
            Self::OutOfRange { range, .. } => format!("use {range}"),
            Self::Duplicate { .. } => "remove one of them".to_owned(),
            Self::TooMany { max, .. } => format!("list at most {max}"),
            Self::Unfit { remedy, .. } => remedy.clone(),
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
