//! One line for each verdict that is not clean: what was removed from a download, or refused as an upload.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::pseudonym::PseudonymOf;
use super::{LineFields, Records, SessionIdentity};
use crate::config::{SessionAlarm, SubjectForm};
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
/// Octets of a subject: a mail program shows no more in a line.
const SUBJECT_BYTES_MAX: usize = 500;
/// Octets of a message id; those of mail programs have some 80.
const MESSAGE_ID_BYTES_MAX: usize = 255;
/// Octets of the path to a file inside files: several names, the outermost first.
const MEMBER_BYTES_MAX: usize = 512;
/// Octets of a scanner's word, and of its name for what it knows.
const SIGNATURE_BYTES_MAX: usize = 255;
/// Names, and declared types, of one part beside the first. Senders give a part several where they want clients to differ.
const LISTED_MAX: usize = 4;
/// Stands where a text was cut.
const CUT: &str = "…";

/// What became of a part with a verdict that is not clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictAction {
    /// It went on as it was: a verdict that is clean, or something was found that the policy allows.
    Allow,
    /// It was overwritten, and the rest of the message was delivered.
    Remove,
    /// It was overwritten, and every other part of the message with it.
    Deny,
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
            Self::Deny => "deny",
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
    /// Its subject, as text.
    pub subject: Option<Cow<'a, str>>,
    /// Its `Message-ID`, without the angle brackets.
    pub message_id: Option<Cow<'a, str>>,
    /// The path to the part (RFC 9051 section 6.4.5), such as `2.1`; empty means the message as a whole.
    pub part: Cow<'a, str>,
    /// The part's file name.
    pub file_name: Option<Cow<'a, str>>,
    /// All names that clients may read, the one above among them.
    pub file_names: &'a [String],
    /// The media type that the message declares for the part.
    pub declared_type: Option<Cow<'a, str>>,
    /// All types that it declares, the one above among them.
    pub declared_types: &'a [String],
    /// The type that the part's own octets show.
    pub real_type: Option<Cow<'a, str>>,
    /// Octets of the part, decoded.
    pub octets: u64,
    /// SHA-256 of these octets.
    pub sha256: Option<[u8; 32]>,
    /// Where the rule found something inside the file: the names of the files there, from the outermost on.
    pub member: Option<Cow<'a, str>>,
    /// The rule that decided, or that found something.
    pub rule: Cow<'a, str>,
    /// What of the rule it was: a pattern, a type, a name, a hash.
    pub detail: Option<Cow<'a, str>>,
    /// The scanner, and its name for what it found.
    pub virus: Option<(Cow<'a, str>, Cow<'a, str>)>,
    /// How long the judgement of the part took.
    pub took: Option<Duration>,
    /// Parts of the same judgement that have no line, because there are too many.
    pub parts_left_out: u64,
    /// What became of it.
    pub action: VerdictAction,
    /// Whether it was on its way to the client or to the server.
    pub direction: Direction,
}

impl VerdictRecord<'_> {
    /// A refusal of a whole download of which nothing is known.
    #[must_use]
    pub const fn of_message() -> Self {
        Self {
            user: None,
            mailbox: None,
            uid: None,
            from: None,
            subject: None,
            message_id: None,
            part: Cow::Borrowed(""),
            file_name: None,
            file_names: &[],
            declared_type: None,
            declared_types: &[],
            real_type: None,
            octets: 0,
            sha256: None,
            member: None,
            rule: Cow::Borrowed(""),
            detail: None,
            virus: None,
            took: None,
            parts_left_out: 0,
            action: VerdictAction::Refuse,
            direction: Direction::ServerToClient,
        }
    }

    /// What its line says of the part, by the names of the fields.
    pub(crate) fn part_fields(&self) -> serde_json::Map<String, Value> {
        let mut fields = LineFields::default();
        fields.verdict(self);
        fields.0
    }

    fn message(&self) -> String {
        let part = match bounded(&self.part, PART_BYTES_MAX) {
            part if part.is_empty() => "a message".to_owned(),
            part => format!("part {part} of a message"),
        };
        let rule = bounded(&self.rule, RULE_BYTES_MAX);
        match (self.action, self.direction) {
            (VerdictAction::Allow, _) if !rule.is_empty() => {
                format!("{part} was judged, and went on as it was: {rule} was found and is allowed")
            }
            (VerdictAction::Allow, _) => format!("{part} was judged, and nothing is forbidden in it"),
            (VerdictAction::Deny, Direction::ServerToClient) => {
                format!(
                    "{part} was overwritten, with all of the message, before the client got it: rule {rule}"
                )
            }
            (VerdictAction::Remove, Direction::ServerToClient) => {
                format!("{part} was overwritten before the client got it: rule {rule}")
            }
            (VerdictAction::Remove | VerdictAction::Deny, Direction::ClientToServer) => {
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
        fields.account(&self.sink, &self.session, verdict.user.as_deref());
        if !self.sink.hides(&self.session, verdict.user.as_deref()) {
            fields.email(&self.sink, &self.session, verdict);
        }
        fields.verdict(verdict);
        self.sink.alarm(&self.session, alarm, &fields);
        self.sink.write(&fields);
    }
}

impl LineFields {
    /// Which message it is, in words that tell of people.
    fn email(&mut self, sink: &Records, session: &SessionIdentity, verdict: &VerdictRecord<'_>) {
        self.set_known("postern.mailbox", text(verdict.mailbox.as_ref(), MAILBOX_BYTES_MAX));
        // The schema's field is a list.
        let from = text(verdict.from.as_ref(), ADDRESS_BYTES_MAX);
        self.set_known("email.from.address", from.map(|address| vec![address]));
        self.set_known("email.message_id", text(verdict.message_id.as_ref(), MESSAGE_ID_BYTES_MAX));
        let form = session.applied.as_ref().map(|applied| applied.privacy.subject).unwrap_or_default();
        match form {
            SubjectForm::Plain => {
                self.set_known("email.subject", text(verdict.subject.as_ref(), SUBJECT_BYTES_MAX));
            }
            SubjectForm::Hash => {
                let subject = verdict.subject.as_deref();
                let hash = subject.and_then(|subject| sink.pseudonyms.of(PseudonymOf::Subject, subject));
                self.set_known("postern.email.subject_hash", hash);
            }
            SubjectForm::None => {}
        }
    }

    fn verdict(&mut self, verdict: &VerdictRecord<'_>) {
        self.set_known("postern.uid", verdict.uid);
        self.set("postern.part", bounded(&verdict.part, PART_BYTES_MAX));
        self.set_known("file.name", text(verdict.file_name.as_ref(), FILE_NAME_BYTES_MAX));
        self.set_known("postern.file.names", several(verdict.file_names, FILE_NAME_BYTES_MAX));
        self.set_known("file.mime_type", text(verdict.declared_type.as_ref(), MIME_TYPE_BYTES_MAX));
        self.set_known("postern.file.declared_types", several(verdict.declared_types, MIME_TYPE_BYTES_MAX));
        self.set_known("postern.file.real_type", text(verdict.real_type.as_ref(), MIME_TYPE_BYTES_MAX));
        self.set_known("postern.file.member", text(verdict.member.as_ref(), MEMBER_BYTES_MAX));
        self.set("file.size", verdict.octets);
        self.set_known("file.hash.sha256", verdict.sha256.map(|hash| hex_lower(&hash)));
        let rule = Some(bounded(&verdict.rule, RULE_BYTES_MAX)).filter(|rule| !rule.is_empty());
        self.set_known("rule.name", rule);
        self.set_known("rule.description", text(verdict.detail.as_ref(), RULE_BYTES_MAX));
        if let Some((scanner, signature)) = &verdict.virus {
            self.set("rule.ruleset", bounded(scanner, SIGNATURE_BYTES_MAX));
            self.set("threat.indicator.name", bounded(signature, SIGNATURE_BYTES_MAX));
            self.set("threat.indicator.type", "file");
        }
        let took = verdict.took.map(|took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.set_known("event.duration", took);
        let left_out = Some(verdict.parts_left_out).filter(|count| *count > 0);
        self.set_known("postern.parts_left_out", left_out);
        self.set("postern.action", verdict.action.as_str());
        self.set("postern.direction", verdict.direction.as_str());
        self.set("message", verdict.message());
    }

    pub(super) fn set_known(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }
}

fn text(text: Option<&Cow<'_, str>>, max: usize) -> Option<String> {
    text.map(|text| bounded(text, max))
}

/// A list, where there is more than the one that has a field of its own.
fn several(texts: &[String], max: usize) -> Option<Vec<String>> {
    let list = || texts.iter().take(LISTED_MAX).map(|text| bounded(text, max)).collect();
    (texts.len() > 1).then(list)
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
pub(crate) fn hex_lower(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::super::{LineForm, Pseudonyms};
    use super::*;
    use crate::config::{PrivacySettings, SessionAlarms};
    use crate::lines::Lines;
    use crate::words::{ClientAddr, OriginalDst, Service};

    fn forbidden<'a>() -> VerdictRecord<'a> {
        VerdictRecord {
            user: Some("anna".into()),
            mailbox: Some("INBOX".into()),
            uid: Some(7),
            from: Some("mallory@example.org".into()),
            subject: Some("Your invoice".into()),
            message_id: Some("1@example.org".into()),
            part: "2".into(),
            file_name: Some("invoice.exe".into()),
            file_names: &[],
            declared_type: Some("application/pdf".into()),
            declared_types: &[],
            real_type: Some("executable".into()),
            octets: 4096,
            sha256: Some([0xab; 32]),
            member: Some("a.zip » invoice.exe".into()),
            rule: "names".into(),
            detail: Some("*.exe".into()),
            virus: None,
            took: Some(Duration::from_micros(1500)),
            parts_left_out: 0,
            action: VerdictAction::Remove,
            direction: Direction::ServerToClient,
        }
    }

    /// The verdict's line, and the record of its session.
    fn written(verdict: &VerdictRecord<'_>, form: LineForm) -> [String; 2] {
        written_under(PrivacySettings::default(), verdict, form)
    }

    /// The same under a policy that says this of people. The session's account is the verdict's.
    fn written_under(privacy: PrivacySettings, verdict: &VerdictRecord<'_>, form: LineForm) -> [String; 2] {
        let (lines, written) = Lines::queue(2);
        let (client, server) = ("192.0.2.1:40000".parse().unwrap(), "198.51.100.1:993".parse().unwrap());
        let records = Records { lines, form, alarms: None, pseudonyms: Pseudonyms::default() };
        let mut record = records.open(ClientAddr(client), OriginalDst(server), Service::ImplicitTls);
        record.applied(&Arc::new(AppliedNames {
            policy: "office".to_owned(),
            action: "[action]".to_owned(),
            profile: "[tls]".to_owned(),
            alarms: SessionAlarms::default(),
            privacy,
        }));
        let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
        record.tls(Side::Downstream, Some(rustls::ProtocolVersion::TLSv1_3), Some(suite), None, None);
        record.tls(Side::Upstream, Some(rustls::ProtocolVersion::TLSv1_2), None, None, None);
        record.content_counts().logged_in(verdict.user.as_deref().map(std::rc::Rc::from));
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
        let expected: [(&str, Value); 20] = [
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
            ("email.subject", "Your invoice".into()),
            ("email.message_id", "1@example.org".into()),
            ("rule.name", "names".into()),
            ("rule.description", "*.exe".into()),
            ("postern.file.member", "a.zip » invoice.exe".into()),
            ("event.duration", 1_500_000.into()),
            ("postern.action", "remove".into()),
            ("postern.direction", "server_to_client".into()),
            ("message", "part 2 of a message was overwritten before the client got it: rule names".into()),
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
            subject: None,
            message_id: None,
            member: None,
            detail: None,
            took: None,
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
        for absent in [
            "user.name",
            "postern.uid",
            "email.from.address",
            "email.subject",
            "email.message_id",
            "file.name",
            "postern.file.names",
            "postern.file.member",
            "file.hash.sha256",
            "rule.description",
            "threat.indicator.name",
            "event.duration",
        ] {
            assert!(line.get(absent).is_none(), "{absent}: {line:#}");
        }
        assert_eq!(line["message"], "an upload was refused: a message: rule names");
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
            let list = vec![long.clone(); 100];
            let verdict = VerdictRecord {
                user: text(),
                mailbox: text(),
                from: text(),
                subject: text(),
                message_id: text(),
                member: text(),
                detail: text(),
                virus: text().zip(text()),
                file_names: &list,
                declared_types: &list,
                part: long.as_str().into(),
                file_name: text(),
                declared_type: text(),
                real_type: text(),
                rule: long.as_str().into(),
                ..forbidden()
            };
            let [line, _] = written(&verdict, LineForm::Json);
            // journald cuts a line of a service's stdout at 48 KiB (journald.conf(5), LineMax).
            assert!(line.len() < 48 << 10, "{} octets", line.len());
            let read: Value = serde_json::from_str(&line).unwrap();
            let name = read["file.name"].as_str().unwrap();
            assert!(name.len() <= FILE_NAME_BYTES_MAX && name.ends_with(CUT), "{name}");
        }
    }

    fn privacy(lines: &str) -> PrivacySettings {
        let text = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n\
             [certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n[action.privacy]\n{lines}\n"
        );
        let config = crate::config::parse(&text, std::path::Path::new("/postern.toml")).unwrap();
        config.unnamed_action.privacy
    }

    fn read(lines: [String; 2]) -> [Value; 2] {
        lines.map(|line| serde_json::from_str(&line).unwrap())
    }

    #[test]
    fn a_part_with_several_names_and_types_has_them_all_and_one_with_one_has_no_list() {
        let list = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (names, types) = (list(&["a.pdf", "invoice.exe"]), list(&["application/pdf", "text/plain"]));
        let verdict = VerdictRecord { file_names: &names, declared_types: &types, ..forbidden() };
        let [line, _] = read(written(&verdict, LineForm::Json));
        assert_eq!(line["file.name"], "invoice.exe", "the one that the rule is about");
        assert_eq!(line["postern.file.names"], Value::from(names.clone()));
        assert_eq!(line["postern.file.declared_types"], Value::from(types.clone()));
        let verdict = VerdictRecord { file_names: &names[..1], declared_types: &types[..1], ..forbidden() };
        let [line, _] = read(written(&verdict, LineForm::Json));
        assert!(
            line.get("postern.file.names").is_none() && line.get("postern.file.declared_types").is_none()
        );
    }

    #[test]
    fn a_virus_is_told_by_scanner_and_signature() {
        let virus = Some(("yara".into(), "macro_dropper".into()));
        let [line, _] = read(written(
            &VerdictRecord { rule: "virus".into(), detail: None, virus, ..forbidden() },
            LineForm::Json,
        ));
        for (field, value) in [
            ("rule.name", "virus"),
            ("rule.ruleset", "yara"),
            ("threat.indicator.name", "macro_dropper"),
            ("threat.indicator.type", "file"),
        ] {
            assert_eq!(line[field], value, "{field}");
        }
    }

    #[test]
    fn what_was_found_and_is_allowed_is_told_and_is_no_clean_verdict() {
        let noted = VerdictRecord { action: VerdictAction::Allow, rule: "macro".into(), ..forbidden() };
        let [line, _] = read(written(&noted, LineForm::Json));
        assert_eq!(
            (line["postern.action"].as_str(), line["rule.name"].as_str()),
            (Some("allow"), Some("macro"))
        );
        assert_eq!(
            line["message"],
            "part 2 of a message was judged, and went on as it was: macro was found and is allowed"
        );
        let denied = VerdictRecord { action: VerdictAction::Deny, ..forbidden() };
        let [line, _] = read(written(&denied, LineForm::Json));
        assert_eq!(line["postern.action"], "deny");
        assert!(line["message"].as_str().unwrap().contains("with all of the message"), "{line:#}");
    }

    #[test]
    fn a_pseudonymous_account_is_named_in_no_line_and_neither_is_its_mail() {
        let hidden = || privacy("pseudonymize_accounts = [\"ann*\"]");
        let [verdict, session] = read(written_under(hidden(), &forbidden(), LineForm::Json));
        let pseudonym = verdict["user.hash"].as_str().unwrap();
        assert!(pseudonym.len() == 32 && session["user.hash"] == pseudonym, "{session:#}");
        for line in [&verdict, &session] {
            for secret in ["anna", "INBOX", "mallory", "Your invoice", "1@example.org"] {
                assert!(!line.to_string().contains(secret), "{secret}: {line:#}");
            }
        }
        assert_eq!(verdict["file.name"], "invoice.exe");
        assert_eq!(verdict["postern.uid"], 7);
        // Others keep their names, and who cannot be read might be one of those.
        let other = VerdictRecord { user: Some("joe".into()), ..forbidden() };
        let [verdict, session] = read(written_under(hidden(), &other, LineForm::Json));
        assert!(verdict["user.name"] == "joe" && session["user.name"] == "joe");
        assert_eq!(verdict["email.subject"], "Your invoice");
        let unknown = VerdictRecord { user: None, ..forbidden() };
        let [verdict, _] = read(written_under(hidden(), &unknown, LineForm::Json));
        assert!(verdict.get("email.subject").is_none() && verdict.get("postern.mailbox").is_none());
    }

    #[test]
    fn a_subject_is_written_hashed_or_left_out_as_the_policy_says() {
        let of = |lines: &str, subject: &'static str| {
            let verdict = VerdictRecord { subject: Some(subject.into()), ..forbidden() };
            let [line, _] = read(written_under(privacy(lines), &verdict, LineForm::Json));
            ["email.subject", "postern.email.subject_hash"].map(|field| line.get(field).cloned())
        };
        assert_eq!(of("", "Hello"), [Some("Hello".into()), None]);
        assert_eq!(of("subject = \"none\"", "Hello"), [None, None]);
        let [plain, hash] = of("subject = \"hash\"", "Hello");
        let hash = hash.unwrap();
        assert!(plain.is_none() && hash.as_str().unwrap().len() == 32 && !hash.to_string().contains("Hello"));
    }
}
