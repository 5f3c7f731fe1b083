//! One line for each verdict that is not clean: what was removed from a download, or refused as an upload.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use super::{LineFields, Records, SessionIdentity};
use crate::config::SessionAlarm;
use crate::policy::AppliedNames;
use crate::words::{Direction, Side};

/// Octets of an account. Servers take fewer; a client may send more.
pub(super) const USER_BYTES_MAX: usize = 255;
/// Octets of a mailbox's name with its hierarchy; Dovecot and Cyrus take fewer for each level.
const MAILBOX_BYTES_MAX: usize = 512;
/// Octets of an address: 64 before the `@`, 255 behind it (RFC 5321 section 4.5.3.1).
const ADDRESS_BYTES_MAX: usize = 320;
/// Octets of the path to a part: a hundred levels of two digits, and deeper ones with their begin.
const PART_BYTES_MAX: usize = 300;
/// Octets of a file name: no file on Linux has a longer one (`NAME_MAX`, linux/limits.h).
const FILE_NAME_BYTES_MAX: usize = 255;
/// Octets of a media type: 127 for each half (RFC 6838 section 4.2).
const MIME_TYPE_BYTES_MAX: usize = 255;
/// Octets of a rule: the longest pattern of the configuration and the name of its list.
pub(super) const RULE_BYTES_MAX: usize = 300;
/// Stands where a text was cut.
const CUT: &str = "…";

/// What became of a part with a verdict that is not clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictAction {
    /// It went on as it was: a verdict that is clean.
    Allow,
    /// It was overwritten, and the rest of the message was delivered.
    Remove,
    /// The whole message was refused.
    Refuse,
}

impl VerdictAction {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Remove => "remove",
            Self::Refuse => "refuse",
        }
    }
}

/// One verdict. Whatever a peer chose may be of any length and hold any characters: the line is bounded and stays one line.
/// What is not known is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictRecord<'a> {
    /// The account that logged in.
    pub user: Option<Cow<'a, str>>,
    /// The mailbox, as the client spells it.
    pub mailbox: Option<Cow<'a, str>>,
    /// The UID of the message; an upload has none yet.
    pub uid: Option<u32>,
    /// The sender, as the message's `From` says.
    pub from: Option<Cow<'a, str>>,
    /// The path to the part (RFC 9051 section 6.4.5), such as `2.1`; empty means the message as a whole.
    pub part: Cow<'a, str>,
    /// The part's file name.
    pub file_name: Option<Cow<'a, str>>,
    /// The media type that the message declares for the part.
    pub declared_type: Option<Cow<'a, str>>,
    /// The type that the part's own octets show.
    pub real_type: Option<Cow<'a, str>>,
    /// Octets of the part, decoded.
    pub octets: u64,
    /// SHA-256 of these octets.
    pub sha256: Option<[u8; 32]>,
    /// The rule that decided.
    pub rule: Cow<'a, str>,
    /// What became of it.
    pub action: VerdictAction,
    /// Whether it was on its way to the client or to the server.
    pub direction: Direction,
}

impl VerdictRecord<'_> {
    fn message(&self) -> String {
        let part = match bounded(&self.part, PART_BYTES_MAX) {
            part if part.is_empty() => "a message".to_owned(),
            part => format!("part {part} of a message"),
        };
        let rule = bounded(&self.rule, RULE_BYTES_MAX);
        match (self.action, self.direction) {
            (VerdictAction::Allow, _) => format!("{part} was judged, and nothing is forbidden in it"),
            (VerdictAction::Remove, Direction::ServerToClient) => {
                format!("{part} was overwritten before the client got it: rule {rule}")
            }
            (VerdictAction::Remove, Direction::ClientToServer) => {
                format!("{part} was overwritten before the server got it: rule {rule}")
            }
            (VerdictAction::Refuse, Direction::ServerToClient) => {
                format!("a download was refused: {part}: rule {rule}")
            }
            (VerdictAction::Refuse, Direction::ClientToServer) => {
                format!("an upload was refused: {part}: rule {rule}")
            }
        }
    }
}

/// Writes the verdicts of one session, under the session's `event.id`, without waiting.
#[derive(Clone)]
pub struct VerdictLines {
    pub(super) sink: Records,
    pub(super) session: SessionIdentity,
}

impl VerdictLines {
    pub(super) const fn new(sink: Records, session: SessionIdentity) -> Self {
        Self { sink, session }
    }

    /// The names that these lines have.
    pub(crate) const fn applied(&self) -> Option<&Arc<AppliedNames>> {
        self.session.applied.as_ref()
    }

    /// The same session's, under another policy. The TLS profile stays the one of its handshakes.
    #[must_use]
    pub(crate) fn under(&self, names: &Arc<AppliedNames>) -> Self {
        let profile = self.applied().map(|applied| applied.profile.as_str());
        let names = match profile.filter(|profile| *profile != names.profile) {
            None => Arc::clone(names),
            Some(profile) => Arc::new(AppliedNames { profile: profile.to_owned(), ..(**names).clone() }),
        };
        let session = SessionIdentity { applied: Some(names), ..self.session.clone() };
        Self { sink: self.sink.clone(), session }
    }

    /// Write the line. Where nobody reads lines it is counted as lost, as every other line.
    pub fn write(&self, verdict: &VerdictRecord<'_>) {
        let is_forbidden = verdict.action != VerdictAction::Allow;
        self.write_with(verdict, is_forbidden.then_some(SessionAlarm::Content));
    }

    /// The same about mail that was refused because nobody could judge it.
    pub fn write_not_judged(&self, verdict: &VerdictRecord<'_>) {
        self.write_with(verdict, Some(SessionAlarm::NotJudged));
    }

    fn write_with(&self, verdict: &VerdictRecord<'_>, alarm: Option<SessionAlarm>) {
        let mut fields = LineFields::default();
        fields.identify(&self.session, SystemTime::now(), "content_verdict");
        fields.tls(Side::Downstream, self.session.downstream);
        fields.tls(Side::Upstream, self.session.upstream);
        fields.verdict(verdict);
        self.sink.alarm(&self.session, alarm, &fields);
        self.sink.write(&fields);
    }
}

impl LineFields {
    fn verdict(&mut self, verdict: &VerdictRecord<'_>) {
        let text = |text: &Option<Cow<'_, str>>, max| text.as_deref().map(|text| bounded(text, max));
        self.set_known("user.name", text(&verdict.user, USER_BYTES_MAX));
        self.set_known("postern.mailbox", text(&verdict.mailbox, MAILBOX_BYTES_MAX));
        self.set_known("postern.uid", verdict.uid);
        // The schema's field is a list.
        let from = text(&verdict.from, ADDRESS_BYTES_MAX);
        self.set_known("email.from.address", from.map(|address| vec![address]));
        self.set("postern.part", bounded(&verdict.part, PART_BYTES_MAX));
        self.set_known("file.name", text(&verdict.file_name, FILE_NAME_BYTES_MAX));
        self.set_known("file.mime_type", text(&verdict.declared_type, MIME_TYPE_BYTES_MAX));
        self.set_known("postern.file.real_type", text(&verdict.real_type, MIME_TYPE_BYTES_MAX));
        self.set("file.size", verdict.octets);
        self.set_known("file.hash.sha256", verdict.sha256.map(|hash| hex_lower(&hash)));
        let rule = Some(bounded(&verdict.rule, RULE_BYTES_MAX)).filter(|rule| !rule.is_empty());
        self.set_known("rule.name", rule);
        self.set("postern.action", verdict.action.as_str());
        self.set("postern.direction", verdict.direction.as_str());
        self.set("message", verdict.message());
    }

    fn set_known(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }
}

/// The text, or its begin and [`CUT`], in `max` octets.
pub(super) fn bounded(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max.saturating_sub(CUT.len()));
    [text.get(..end).unwrap_or_default(), CUT].concat()
}

/// As `sha256sum` and the sites that know files by their hash write it.
fn hex_lower(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::super::LineForm;
    use super::*;
    use crate::lines::Lines;
    use crate::words::{ClientAddr, OriginalDst, Service};

    fn forbidden<'a>() -> VerdictRecord<'a> {
        VerdictRecord {
            user: Some("anna".into()),
            mailbox: Some("INBOX".into()),
            uid: Some(7),
            from: Some("mallory@example.org".into()),
            part: "2".into(),
            file_name: Some("invoice.exe".into()),
            declared_type: Some("application/pdf".into()),
            real_type: Some("executable".into()),
            octets: 4096,
            sha256: Some([0xab; 32]),
            rule: "names *.exe".into(),
            action: VerdictAction::Remove,
            direction: Direction::ServerToClient,
        }
    }

    /// The verdict's line, and the record of its session.
    fn written(verdict: &VerdictRecord<'_>, form: LineForm) -> [String; 2] {
        let (lines, written) = Lines::queue(2);
        let (client, server) = ("192.0.2.1:40000".parse().unwrap(), "198.51.100.1:993".parse().unwrap());
        let mut record = Records { lines, form, alarms: None }.open(
            ClientAddr(client),
            OriginalDst(server),
            Service::ImplicitTls,
        );
        let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
        record.tls(Side::Downstream, Some(rustls::ProtocolVersion::TLSv1_3), Some(suite), None, None);
        record.tls(Side::Upstream, Some(rustls::ProtocolVersion::TLSv1_2), None, None, None);
        record.verdict_lines().write(verdict);
        drop(record);
        [(); 2].map(|()| String::from_utf8(written.try_recv().unwrap()).unwrap())
    }

    #[test]
    fn a_verdict_names_its_session_its_message_its_part_and_its_rule() {
        let [verdict, record] = written(&forbidden(), LineForm::Json);
        let [verdict, record] = [verdict, record].map(|line| serde_json::from_str::<Value>(&line).unwrap());
        for same in [
            "event.id",
            "client.ip",
            "client.port",
            "server.ip",
            "server.port",
            "tls.version",
            "tls.cipher",
            "postern.upstream.tls.version",
            "postern.mode",
        ] {
            assert!(
                !verdict[same].is_null() && verdict[same] == record[same],
                "{same}: {verdict:#} {record:#}"
            );
        }
        let expected: [(&str, Value); 15] = [
            ("event.action", "content_verdict".into()),
            ("user.name", "anna".into()),
            ("postern.mailbox", "INBOX".into()),
            ("postern.uid", 7.into()),
            ("email.from.address", vec!["mallory@example.org"].into()),
            ("postern.part", "2".into()),
            ("file.name", "invoice.exe".into()),
            ("file.mime_type", "application/pdf".into()),
            ("postern.file.real_type", "executable".into()),
            ("file.size", 4096.into()),
            ("file.hash.sha256", "ab".repeat(32).into()),
            ("rule.name", "names *.exe".into()),
            ("postern.action", "remove".into()),
            ("postern.direction", "server_to_client".into()),
            (
                "message",
                "part 2 of a message was overwritten before the client got it: rule names *.exe".into(),
            ),
        ];
        for (name, value) in expected {
            assert_eq!(verdict[name], value, "{name}");
        }
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let verdict = VerdictRecord {
            user: None,
            mailbox: None,
            uid: None,
            from: None,
            part: "".into(),
            file_name: None,
            declared_type: None,
            real_type: None,
            sha256: None,
            action: VerdictAction::Refuse,
            direction: Direction::ClientToServer,
            ..forbidden()
        };
        let [line, _] = written(&verdict, LineForm::Json);
        let line: Value = serde_json::from_str(&line).unwrap();
        for absent in ["user.name", "postern.uid", "email.from.address", "file.name", "file.hash.sha256"] {
            assert!(line.get(absent).is_none(), "{absent}: {line:#}");
        }
        assert_eq!(line["message"], "an upload was refused: a message: rule names *.exe");
    }

    #[test]
    fn no_character_of_a_peer_ends_a_line_or_reaches_a_terminal_as_a_command() {
        let hostile: String = (0..=0x2100_u32).chain(0xff00..0x1_0100).filter_map(char::from_u32).collect();
        for begin in (0..hostile.chars().count()).step_by(40) {
            let name: String = hostile.chars().skip(begin).take(40).collect();
            let mut verdict = forbidden();
            verdict.file_name = Some(name.clone().into());
            verdict.mailbox = Some(name.clone().into());
            verdict.user = Some(format!("\" event.action=\"{name}\n{{").into());
            let [json, _] = written(&verdict, LineForm::Json);
            let read: Value = serde_json::from_str(&json).unwrap();
            assert_eq!(read["file.name"], name.as_str(), "nothing is lost");
            for line in [json, written(&verdict, LineForm::Text)[0].clone()] {
                let plain = line.strip_suffix('\n').unwrap();
                let ends = |letter: char| {
                    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202e}')
                };
                assert!(!plain.contains(ends), "{begin:#x}: {plain:?}");
            }
        }
    }

    #[test]
    fn whatever_a_peer_sends_the_line_is_bounded() {
        // The largest in UTF-8, and the largest as an escape.
        for letter in ["😀", "\u{1}", "\u{202e}"] {
            let long = letter.repeat(1 << 20);
            let text = || Some(Cow::Borrowed(long.as_str()));
            let verdict = VerdictRecord {
                user: text(),
                mailbox: text(),
                from: text(),
                part: long.as_str().into(),
                file_name: text(),
                declared_type: text(),
                real_type: text(),
                rule: long.as_str().into(),
                ..forbidden()
            };
            let [line, _] = written(&verdict, LineForm::Json);
            assert!(line.len() < 20 << 10, "{} octets", line.len());
            let read: Value = serde_json::from_str(&line).unwrap();
            let name = read["file.name"].as_str().unwrap();
            assert!(name.len() <= FILE_NAME_BYTES_MAX && name.ends_with(CUT), "{name}");
        }
    }
}
