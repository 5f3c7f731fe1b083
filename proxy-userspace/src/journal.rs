//! The journal's own protocol (systemd's JOURNAL_NATIVE_PROTOCOL), where stdout or stderr is the journal: fields with names
//! instead of text.
//!
//! The supervisor alone has a socket to journald. A child gets one end of a pair, which leads nowhere else, and what it
//! writes there is typed: a child that was taken over cannot speak in another program's name.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use serde::{Deserialize, Serialize};

use crate::ipc::{Channel, IpcError};
use crate::lines::FLUSH_TIME_MAX;

/// Where journald listens (systemd-journald.service(8)).
const SOCKET: &str = "/run/systemd/journal/socket";
/// `device:inode` of the stream that systemd connected with the journal (systemd.exec(5)).
const STREAM_VARIABLE: &str = "JOURNAL_STREAM";
/// Octets of a field's name (`journal_field_valid` in systemd's journal-file.c).
const NAME_BYTES_MAX: usize = 64;
/// Octets of a line of the log; what is longer is a panic's trace. Every entry then fits into one datagram under the
/// kernel's default (`net.core.wmem_default`, 208 KiB), so that no memory has to be passed instead.
const MESSAGE_BYTES_MAX: usize = 48 * 1024;
/// The pause between two looks, at the end of the process.
const FINISH_POLL: Duration = Duration::from_millis(2);
/// What says who speaks and what it is about is the supervisor's to set.
const RESERVED: [&str; 4] = ["MESSAGE", "MESSAGE_ID", "PRIORITY", "POSTERN_PROCESS"];
/// The same of whole families of fields.
const RESERVED_BEGINS: [&str; 3] = ["SYSLOG_", "OBJECT_", "COREDUMP_"];

/// What kind of entry it is; those of records have a `MESSAGE_ID` of their own. docs/records.md names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EntryKind {
    Log,
    SessionStart,
    SessionEnd,
    ContentVerdict,
    GuardRefused,
}

impl EntryKind {
    const fn message_id(self) -> Option<&'static str> {
        match self {
            Self::Log => None,
            Self::SessionStart => Some("cc8979c6ae9247c2991c5b52afa8ca83"),
            Self::SessionEnd => Some("d08821c8d66f49738b9f6d89015df352"),
            Self::ContentVerdict => Some("58e7e8af139e4554bc4d8a3582fed13a"),
            Self::GuardRefused => Some("222ec13df8954897b4bab484182aec34"),
        }
    }
}

/// syslog(3)'s levels, as far as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Priority {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalEntry {
    pub(crate) kind: EntryKind,
    pub(crate) priority: Priority,
    pub(crate) message: String,
    /// By the names of records, such as `client.ip`.
    pub(crate) fields: Vec<(String, String)>,
}

impl JournalEntry {
    /// A line of the log.
    pub(crate) fn log(priority: Priority, message: &str) -> Self {
        let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
        let message = message.get(..end).unwrap_or_default().trim_end().to_owned();
        Self { kind: EntryKind::Log, priority, message, fields: Vec::new() }
    }

    /// As Postern's processes pass it to each other, and as it waits for its writer.
    pub(crate) fn octets(&self) -> Vec<u8> {
        // Texts in a vector can be written: see postcard::to_stdvec.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// As journald reads it.
    fn encoded(&self, process: &str) -> Vec<u8> {
        let mut datagram = Vec::new();
        put(&mut datagram, "MESSAGE", &self.message);
        put(&mut datagram, "PRIORITY", &(self.priority as u8).to_string());
        put(&mut datagram, "SYSLOG_IDENTIFIER", "postern");
        put(&mut datagram, "POSTERN_PROCESS", process);
        if let Some(id) = self.kind.message_id() {
            put(&mut datagram, "MESSAGE_ID", id);
        }
        for (name, value) in &self.fields {
            if let Some(name) = field_name(name) {
                put(&mut datagram, &name, value);
            }
        }
        datagram
    }
}

/// A field: `NAME=value`, or, with a line end in it, `NAME`, its length and its octets.
fn put(datagram: &mut Vec<u8>, name: &str, value: &str) {
    datagram.extend(name.as_bytes());
    if value.contains('\n') {
        datagram.push(b'\n');
        datagram.extend((value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend(value.as_bytes());
    datagram.push(b'\n');
}

/// `client.ip` as `CLIENT_IP`: upper case, every other character as `_`, and none of these at the begin, where the journal
/// keeps its own fields. `None` where it would be another's.
fn field_name(name: &str) -> Option<String> {
    let upper = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let name = name.trim_start_matches(|letter: char| !letter.is_ascii_alphabetic());
    let name: String = name.chars().map(upper).take(NAME_BYTES_MAX).collect();
    let is_reserved =
        RESERVED.contains(&name.as_str()) || RESERVED_BEGINS.iter().any(|begin| name.starts_with(begin));
    (!name.is_empty() && !is_reserved).then_some(name)
}

/// Which of this process's streams are the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalStreams {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl JournalStreams {
    /// systemd names one stream only, and services may replace the other.
    fn here() -> Self {
        let named = std::env::var(STREAM_VARIABLE).unwrap_or_default();
        let is_named = |stream: &dyn AsFd| {
            fstat(stream).is_ok_and(|seen| format!("{}:{}", seen.st_dev, seen.st_ino) == named)
        };
        Self { stdout: is_named(&io::stdout()), stderr: is_named(&io::stderr()) }
    }

    const fn any(self) -> bool {
        self.stdout || self.stderr
    }
}

/// How this process reaches the journal. Streams and environment belong to the whole process, and so does this.
static JOURNAL: OnceLock<(JournalStreams, JournalEnd)> = OnceLock::new();

enum JournalEnd {
    /// The supervisor's.
    Socket(UnixDatagram),
    /// A child's.
    Passed(OwnedFd),
}

/// Look whether stdout or stderr is the journal, and connect. Called once, first in the supervisor. Returns why a journal
/// that is there cannot be reached: lines then stay text.
pub(crate) fn open() -> Result<(), io::Error> {
    let streams = JournalStreams::here();
    if streams.any() {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        let _first = JOURNAL.set((streams, JournalEnd::Socket(socket)));
    }
    Ok(())
}

/// Take what the supervisor passed. Called once, first in a child.
pub(crate) fn inherit(streams: JournalStreams, end: OwnedFd) {
    let _first = JOURNAL.set((streams, JournalEnd::Passed(end)));
}

/// Threads that pass on what children write; each ends with its child.
static PASSING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Wait, at the end of the process, until what children wrote has been passed on: for [`FLUSH_TIME_MAX`] at most.
pub(crate) fn finish() {
    let end = Instant::now() + FLUSH_TIME_MAX;
    let passing = std::mem::take(&mut *PASSING.lock().unwrap_or_else(PoisonError::into_inner));
    while passing.iter().any(|thread| !thread.is_finished()) && Instant::now() < end {
        std::thread::sleep(FINISH_POLL);
    }
}

/// An end for a child, with what is written to it passed on by a thread; `None` without a journal.
///
/// # Errors
/// No descriptor, or no thread.
pub(crate) fn for_child(process: &'static str) -> io::Result<Option<(JournalStreams, OwnedFd)>> {
    let Some((streams, JournalEnd::Socket(socket))) = JOURNAL.get() else { return Ok(None) };
    let writer = JournalWriter { socket: socket.try_clone()?, process };
    let (near, far) = Channel::pair()?;
    let pass = move || {
        loop {
            match near.receive::<JournalEntry>() {
                // One that journald does not take is lost, and the child's next may not be.
                Ok((entry, _)) => drop(writer.send(&entry)),
                Err(IpcError::Malformed(_) | IpcError::TooLarge { .. }) => {}
                Err(IpcError::Ended | IpcError::System { .. }) => return,
            }
        }
    };
    let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(pass)?;
    let mut passing = PASSING.lock().unwrap_or_else(PoisonError::into_inner);
    passing.retain(|thread| !thread.is_finished());
    passing.push(thread);
    Ok(Some((*streams, OwnedFd::from(far))))
}

/// Where entries for stdout go, one a write; `None` where stdout is not the journal.
pub(crate) fn stdout() -> Option<Box<dyn Write + Send>> {
    writer(|streams| streams.stdout)
}

/// The same for stderr.
pub(crate) fn stderr() -> Option<Box<dyn Write + Send>> {
    writer(|streams| streams.stderr)
}

fn writer(is_meant: impl Fn(&JournalStreams) -> bool) -> Option<Box<dyn Write + Send>> {
    let (_, end) = JOURNAL.get().filter(|(streams, _)| is_meant(streams))?;
    Some(match end {
        JournalEnd::Socket(socket) => {
            Box::new(JournalWriter { socket: socket.try_clone().ok()?, process: "supervisor" })
        }
        // A write to a socket that keeps messages apart sends one, whole.
        JournalEnd::Passed(end) => Box::new(File::from(end.try_clone().ok()?)),
    })
}

/// Sends entries to journald. A send waits while journald is behind, and holds only the thread that sends.
struct JournalWriter {
    socket: UnixDatagram,
    process: &'static str,
}

impl JournalWriter {
    fn send(&self, entry: &JournalEntry) -> io::Result<()> {
        let datagram = entry.encoded(self.process);
        match self.socket.send(&datagram) {
            // systemd keeps the socket while journald is started again; whoever restarts the socket makes a new one.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::NotConnected
                        | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.socket.connect(SOCKET)?;
                self.socket.send(&datagram).map(drop)
            }
            sent => sent.map(drop),
        }
    }
}

/// One write is one entry, as [`JournalEntry::octets`] gives it.
impl Write for JournalWriter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let entry = postcard::from_bytes(octets).map_err(io::Error::other)?;
        self.send(&entry)?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// As the protocol's page says, and in no other form.
    fn parsed(mut datagram: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while !datagram.is_empty() {
            let line = datagram.iter().position(|octet| *octet == b'\n').expect("a line end");
            let (head, rest) = datagram.split_at(line);
            let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
            if let Some(equals) = head.iter().position(|octet| *octet == b'=') {
                fields.push((text(&head[..equals]), text(&head[equals + 1..])));
                datagram = &rest[1..];
            } else {
                let (length, value) = rest[1..].split_at(8);
                let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
                assert_eq!(value[length], b'\n');
                fields.push((text(head), text(&value[..length])));
                datagram = &value[length + 1..];
            }
        }
        fields
    }

    fn entry(fields: &[(&str, &str)]) -> JournalEntry {
        JournalEntry {
            kind: EntryKind::SessionEnd,
            priority: Priority::Notice,
            message: "both sides closed".to_owned(),
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn every_value_arrives_octet_for_octet_and_makes_no_field_of_its_own() {
        let hostile: String = (0..0x3000_u32).filter_map(char::from_u32).collect();
        let values = ["", "plain", "=", "a=b", "\n", "a\nPRIORITY=0", "\n\n_PID=1\n", "\0", hostile.as_str()];
        for value in values {
            let entry = JournalEntry { message: value.to_owned(), ..entry(&[("file.name", value)]) };
            let passed: JournalEntry = postcard::from_bytes(&entry.octets()).unwrap();
            let fields = parsed(&passed.encoded("worker"));
            let expected = [
                ("MESSAGE", value),
                ("PRIORITY", "5"),
                ("SYSLOG_IDENTIFIER", "postern"),
                ("POSTERN_PROCESS", "worker"),
                ("MESSAGE_ID", EntryKind::SessionEnd.message_id().unwrap()),
                ("FILE_NAME", value),
            ];
            assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
    }

    #[test]
    fn names_are_the_records_in_upper_case_and_none_is_the_journals_or_another_programs() {
        for (name, expected) in [
            ("client.ip", Some("CLIENT_IP")),
            ("@timestamp", Some("TIMESTAMP")),
            ("tls.client.server_name", Some("TLS_CLIENT_SERVER_NAME")),
            ("postern.client_to_server.spliced_bytes", Some("POSTERN_CLIENT_TO_SERVER_SPLICED_BYTES")),
            ("_pid", Some("PID")),
            ("a=b\nc", Some("A_B_C")),
            ("9lives", Some("LIVES")),
            ("", None),
            ("__", None),
            ("message", None),
            ("syslog.identifier", None),
            ("message_id", None),
            ("priority", None),
            ("_syslog_pid", None),
        ] {
            assert_eq!(field_name(name).as_deref(), expected, "{name:?}");
        }
        let long = field_name(&"x".repeat(1000)).unwrap();
        assert_eq!(long.len(), 64);
    }

    #[test]
    fn a_line_of_the_log_is_bounded_and_fits_into_one_message() {
        let entry = JournalEntry::log(Priority::Error, &"ä\n".repeat(1 << 20));
        assert!(entry.message.len() <= MESSAGE_BYTES_MAX && entry.message.ends_with('ä'));
        assert!(entry.octets().len() < 128 * 1024 && entry.encoded("signer").len() < 128 * 1024);
    }

    #[test]
    fn each_kind_of_record_has_an_identifier_of_its_own_which_stands_in_the_page() {
        let page = include_str!("../../docs/records.md");
        let kinds = [EntryKind::SessionStart, EntryKind::SessionEnd, EntryKind::ContentVerdict];
        let ids: BTreeSet<_> = kinds.iter().filter_map(|kind| kind.message_id()).collect();
        assert_eq!(ids.len(), kinds.len());
        for id in ids {
            assert!(id.len() == 32 && id.bytes().all(|octet| octet.is_ascii_hexdigit()), "{id}");
            assert!(page.contains(id), "docs/records.md does not have {id}");
        }
    }
}
