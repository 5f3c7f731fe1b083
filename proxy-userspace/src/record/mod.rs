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
/// Pseudonyms of accounts and subjects.
mod pseudonym;

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
pub(crate) use self::pseudonym::Pseudonyms;
pub use self::session::Record;
pub(crate) use self::verdict::hex_lower;
pub use self::verdict::{VerdictAction, VerdictLines, VerdictRecord};
use crate::alarm::{Alarm, AlarmOutlet};
use crate::config::{RecordFormat, SessionAlarm};
use crate::event_id::EventId;
use crate::journal::{self, EntryKind, JournalEntry, Priority};
use crate::lines::Lines;
use crate::policy::AppliedNames;
use crate::vault::DigestKey;
use crate::words::{ClientAddr, Mode, OriginalDst, Service, Side};

/// Lines that wait for a slow reader of stdout; more are counted as lost, because a session never waits for a log.
const LINES_MAX: usize = 65_536;

/// Where records go. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    lines: Lines,
    form: LineForm,
    /// Where alarms about sessions go; nowhere in tests of records alone.
    alarms: Option<AlarmOutlet>,
    pseudonyms: Pseudonyms,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineForm {
    Json,
    Text,
    Journal,
}

impl Records {
    /// To stdout: the journal's own fields where that is the journal, text where a person reads, otherwise JSON lines.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn to_stdout(format: RecordFormat, alarms: AlarmOutlet) -> io::Result<Self> {
        let journal = journal::stdout().filter(|_| format == RecordFormat::Auto);
        let (out, form): (Box<dyn io::Write + Send>, _) = match journal {
            Some(journal) => (journal, LineForm::Journal),
            None if format == RecordFormat::Auto && io::stdout().is_terminal() => {
                (Box::new(io::stdout()), LineForm::Text)
            }
            None => (Box::new(io::stdout()), LineForm::Json),
        };
        let lines = Lines::to("records", out, LINES_MAX, None)?;
        Ok(Self { lines, form, alarms: Some(alarms), pseudonyms: Pseudonyms::default() })
    }

    /// To a queue with room for so many lines, as JSON.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn to_queue(room: usize) -> (Self, std::sync::mpsc::Receiver<Vec<u8>>) {
        let (lines, written) = Lines::queue(room);
        (Self { lines, form: LineForm::Json, alarms: None, pseudonyms: Pseudonyms::default() }, written)
    }

    /// Make pseudonyms with this key from now on.
    pub(crate) fn pseudonymize_with(&self, key: &DigestKey) {
        self.pseudonyms.keep(key);
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
        self.lines.push(match self.form {
            LineForm::Json => fields.json(),
            LineForm::Text => fields.text(),
            LineForm::Journal => fields.entry().octets(),
        });
    }

    /// Raise the alarms that the session's action wants, with the fields of the line about it.
    fn alarm(
        &self,
        session: &SessionIdentity,
        raised: impl IntoIterator<Item = SessionAlarm>,
        fields: &LineFields,
    ) {
        let Some((outlet, applied)) = self.alarms.as_ref().zip(session.applied.as_ref()) else { return };
        for alarm in raised.into_iter().filter(|alarm| applied.alarms.has(*alarm)) {
            outlet.raise(alarm, || Alarm::of_session(alarm, &fields.0));
        }
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

    /// One line of JSON with its end.
    fn json(&self) -> Vec<u8> {
        let mut line = escaped(Value::Object(self.0.clone()).to_string());
        line.push('\n');
        line.into_bytes()
    }

    /// One line of text with its end.
    fn text(&self) -> Vec<u8> {
        let mut line = String::new();
        for (name, value) in &self.0 {
            let _ = write!(line, "{name}={value} ");
        }
        let mut line = escaped(line);
        line.push('\n');
        line.into_bytes()
    }

    /// An entry of the journal: a field for each, and for each element of a list.
    fn entry(&self) -> JournalEntry {
        let text = |name: &str| self.0.get(name).and_then(Value::as_str).unwrap_or_default();
        let (kind, priority) = match text("event.action") {
            "session_start" => (EntryKind::SessionStart, Priority::Info),
            "content_verdict" if text("postern.action") == VerdictAction::Allow.as_str() => {
                // Something was found that the policy allows.
                let is_noted = self.0.contains_key("rule.name");
                let priority = if is_noted { Priority::Notice } else { Priority::Info };
                (EntryKind::ContentVerdict, priority)
            }
            "content_verdict" => (EntryKind::ContentVerdict, Priority::Warning),
            "guard_refused" => (EntryKind::GuardRefused, Priority::Warning),
            _ if text("event.outcome") == "success" => (EntryKind::SessionEnd, Priority::Info),
            _ => (EntryKind::SessionEnd, Priority::Notice),
        };
        let mut fields = Vec::new();
        for (name, value) in self.0.iter().filter(|(name, _)| *name != "message") {
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            fields.extend(values.iter().map(|value| (name.clone(), escaped(plain(value)))));
        }
        let words = if kind == EntryKind::SessionStart { "began" } else { text("message") };
        let message = format!("session of {} with {}: {words}", text("client.ip"), text("server.ip"));
        JournalEntry { kind, priority, message: escaped(message), fields }
    }
}

/// JSON escapes only the controls of ASCII (RFC 8259 section 7). In some readers other characters end a line, too; on a
/// terminal some are commands, or show what stands behind them in another order. Peers choose file names, so that these are
/// written as escapes as well, in the text form, too. All are in strings: what JSON puts around them is plain ASCII.
pub(crate) fn escaped(line: String) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PrivacySettings, SessionAlarms};
    use crate::failure::{Cause, Failure};
    use crate::handshake::clear::ClientFault;

    /// Lines and alarms of a session under an action that wants these.
    fn session(
        wanted: SessionAlarms,
        happens: impl FnOnce(&mut Record),
        result: Result<(), Failure>,
    ) -> (Vec<Value>, Vec<Alarm>) {
        let (lines, written) = Lines::queue(10);
        let (outlet, mut inlet) = AlarmOutlet::pair();
        let records =
            Records { lines, form: LineForm::Json, alarms: Some(outlet), pseudonyms: Pseudonyms::default() };
        let (client, server) = ("192.0.2.1:40000".parse().unwrap(), "198.51.100.1:143".parse().unwrap());
        let mut record = records.open(ClientAddr(client), OriginalDst(server), Service::StartTls);
        let name = || "IMAP".to_owned();
        record.applied(&Arc::new(AppliedNames {
            policy: name(),
            action: name(),
            profile: name(),
            alarms: wanted,
            privacy: PrivacySettings::default(),
        }));
        // Alarms do not depend on whether sessions in order have records.
        record.only_events(true);
        happens(&mut record);
        record.close(result);
        drop(records);
        let read = |line: Vec<u8>| serde_json::from_slice(&line).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut alarms = Vec::new();
        runtime.block_on(async {
            while let Ok(alarm) = tokio::time::timeout(std::time::Duration::ZERO, inlet.next()).await {
                alarms.push(alarm);
            }
        });
        (written.try_iter().map(read).collect(), alarms)
    }

    fn words(alarms: &[Alarm]) -> Vec<&'static str> {
        alarms.iter().map(|alarm| alarm.kind.as_str()).collect()
    }

    #[test]
    fn an_alarm_has_the_fields_of_the_line_about_its_event_and_only_listed_events_raise_one() {
        let all: SessionAlarms = SessionAlarm::ALL.into_iter().collect();
        let attack = || Err(Failure::downstream(Cause::ClearClient(ClientFault::PipelinedAfterStartTls)));
        let (lines, alarms) = session(all, |record| record.logins_refused(2), attack());
        assert_eq!(words(&alarms), ["starttls_attack", "login_refused"]);
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        for alarm in &alarms {
            let told: Value = serde_json::from_str(&alarm.json("gate", 0)).unwrap();
            for (name, value) in line.as_object().unwrap() {
                assert_eq!(told[name], *value, "{name}");
            }
        }
        let one = [SessionAlarm::LoginRefused].into_iter().collect();
        assert_eq!(words(&session(one, |record| record.logins_refused(2), attack()).1), ["login_refused"]);
        assert_eq!(words(&session(SessionAlarms::default(), |_| {}, attack()).1), [""; 0]);
        assert_eq!(words(&session(all, |_| {}, Err(Failure::upstream(Cause::Idle))).1), [""; 0]);
        assert_eq!(words(&session(all, |_| {}, Ok(())).1), [""; 0]);
    }

    #[test]
    fn the_journal_gets_a_field_for_each_field_and_for_each_element_of_a_list() {
        let (lines, written) = Lines::queue(10);
        let records =
            Records { lines, form: LineForm::Journal, alarms: None, pseudonyms: Pseudonyms::default() };
        let (client, server) = ("192.0.2.1:40000".parse().unwrap(), "198.51.100.1:993".parse().unwrap());
        let mut record = records.open(ClientAddr(client), OriginalDst(server), Service::ImplicitTls);
        record.started();
        let counts = record.content_counts();
        counts.logged_in(Some("an\u{202e}na\n".into()));
        for rule in ["eicar", "names", "eicar"] {
            counts.decided(rule);
        }
        record.close(Err(Failure::downstream(Cause::Idle)));
        let [start, end] =
            [(); 2].map(|()| postcard::from_bytes::<JournalEntry>(&written.try_recv().unwrap()).unwrap());
        assert_eq!((start.kind, start.priority), (EntryKind::SessionStart, Priority::Info));
        assert_eq!(start.message, "session of 192.0.2.1 with 198.51.100.1: began");
        assert_eq!((end.kind, end.priority), (EntryKind::SessionEnd, Priority::Notice));
        assert!(end.message.ends_with("no octet in either direction for the idle limit"), "{}", end.message);
        let values = |name: &str| -> Vec<_> {
            end.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
        };
        assert_eq!(values("rule.name"), ["eicar", "names"]);
        assert_eq!(values("user.name"), [r"an\u202ena\u000a"]);
        assert_eq!(values("client.port"), ["40000"]);
        assert_eq!(values("event.reason"), ["idle"]);
    }
}
