//! Lines about sessions and about mail: two for each connection, one for each verdict that is not clean.
//!
//! Field names follow the Elastic Common Schema; `tls.*` is the client's side, `postern.upstream.tls.*` the server's.

/// The connection's own lines: one when it begins, and its record when it ends.
mod session;
/// A line about a part of mail that was removed or refused.
mod verdict;
/// A line about something that the account guard refused.
mod guard;
/// What an engine counts for the record.
mod counts;

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::{ProtocolVersion, SupportedCipherSuite};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use self::counts::ContentCounts;
pub use self::guard::GuardRecord;
pub use self::session::Record;
pub use self::verdict::{VerdictAction, VerdictLines, VerdictRecord};
use crate::event_id::EventId;
use crate::lines::Lines;
use crate::policy::AppliedNames;
use crate::words::{ClientAddr, Mode, OriginalDst, Service, Side};

/// Lines that wait for a slow reader of stdout; more are counted as lost, because a session never waits for a log.
const LINES_MAX: usize = 65_536;

/// Where records go. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    lines: Lines,
    json: bool,
}

impl Records {
    /// To stdout: JSON lines, or text where a person reads.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn to_stdout() -> io::Result<Self> {
        let lines = Lines::to("records", io::stdout(), LINES_MAX, None)?;
        Ok(Self { lines, json: !io::stdout().is_terminal() })
    }

    /// To a queue with room for so many lines, as JSON.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn to_queue(room: usize) -> (Self, std::sync::mpsc::Receiver<Vec<u8>>) {
        let (lines, written) = Lines::queue(room);
        (Self { lines, json: true }, written)
    }

    /// Records that could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lines.lost()
    }

    /// Wait until all are written, within [`crate::lines::FLUSH_TIME_MAX`]; returns how many are not.
    #[must_use]
    pub fn flush(&self) -> u64 {
        self.lines.flush()
    }

    /// A connection begins.
    #[must_use]
    pub fn open(&self, client: ClientAddr, server: OriginalDst, service: Service) -> Record {
        Record::new(self.clone(), SessionIdentity::new(client, server, service))
    }

    fn write(&self, fields: &LineFields) {
        self.lines.push(fields.line(self.json).into_bytes());
    }
}

/// What every line of a session has in common.
#[derive(Clone)]
struct SessionIdentity {
    id: EventId,
    /// When the connection was accepted.
    at: SystemTime,
    client: ClientAddr,
    server: OriginalDst,
    mode: Mode,
    /// Which policy, action and profile apply, as soon as that is known.
    applied: Option<Arc<AppliedNames>>,
    downstream: TlsTerms,
    upstream: TlsTerms,
}

/// What a side's handshake agreed on.
#[derive(Clone, Copy, Default)]
struct TlsTerms {
    version: Option<ProtocolVersion>,
    suite: Option<SupportedCipherSuite>,
}

impl SessionIdentity {
    fn new(client: ClientAddr, server: OriginalDst, service: Service) -> Self {
        let (at, mode) = (SystemTime::now(), service.mode());
        let (downstream, upstream) = (TlsTerms::default(), TlsTerms::default());
        Self { id: EventId::at(at), at, client, server, mode, applied: None, downstream, upstream }
    }
}

/// The fields of a line, by name.
#[derive(Clone, Default)]
struct LineFields(Map<String, Value>);

impl LineFields {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// What stands in every line of the session; `at` is the time that the line is about.
    fn identify(&mut self, session: &SessionIdentity, at: SystemTime, action: &'static str) {
        let at = OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default();
        let (client, server) = (session.client.0, session.server.0);
        self.set("@timestamp", at);
        self.set("event.id", session.id.to_string());
        self.set("event.action", action);
        self.set("network.protocol", "imap");
        self.set("client.ip", client.ip().to_string());
        self.set("client.port", client.port());
        self.set("server.ip", server.ip().to_string());
        self.set("server.port", server.port());
        self.set("postern.mode", session.mode.as_str());
        if let Some(applied) = &session.applied {
            self.set("postern.policy", applied.policy.as_str());
            self.set("postern.proxy_action", applied.action.as_str());
            self.set("postern.tls_profile", applied.profile.as_str());
        }
    }

    /// What a side's handshake agreed on; nothing before it is finished.
    fn tls(&mut self, side: Side, terms: TlsTerms) {
        let prefix = if side == Side::Downstream { "tls" } else { "postern.upstream.tls" };
        if let Some(version) = terms.version {
            let version = match version {
                ProtocolVersion::TLSv1_3 => "1.3",
                ProtocolVersion::TLSv1_2 => "1.2",
                _ => "unknown",
            };
            self.set(&format!("{prefix}.version"), version);
        }
        if let Some(suite) = terms.suite.and_then(|suite| suite.suite().as_str()) {
            self.set(&format!("{prefix}.cipher"), suite.replace("TLS13_", "TLS_"));
        }
    }

    /// One line with its end: JSON, or text.
    fn line(&self, json: bool) -> String {
        let mut line = String::new();
        if json {
            let _ = write!(line, "{}", Value::Object(self.0.clone()));
        } else {
            for (name, value) in &self.0 {
                let _ = write!(line, "{name}={value} ");
            }
        }
        let mut line = escaped(line);
        line.push('\n');
        line
    }
}

/// JSON escapes only the controls of ASCII (RFC 8259 section 7). In some readers other characters end a line, too; on a
/// terminal some are commands, or show what stands behind them in another order. Peers choose file names, so that these are
/// written as escapes as well, in the text form, too. All are in strings: what JSON puts around them is plain ASCII.
fn escaped(line: String) -> String {
    let breaks = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !line.contains(breaks) {
        return line;
    }
    line.chars().fold(String::with_capacity(line.len()), |mut safe, letter| {
        if breaks(letter) {
            let _ = write!(safe, "\\u{:04x}", u32::from(letter));
        } else {
            safe.push(letter);
        }
        safe
    })
}
