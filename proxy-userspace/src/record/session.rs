//! Two lines per connection: one when it begins, and its record when it ends, also when its task is dropped.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion, SupportedCipherSuite};
use serde_json::Value;

use super::verdict::{RULE_BYTES_MAX, bounded};
use super::{ContentCounts, LineFields, Records, SessionIdentity, TlsTerms, VerdictLines};
use crate::clock;
use crate::config::{SessionAlarm, TlsGroup, Verdict};
use crate::event_id::EventId;
use crate::failure::Failure;
use crate::handshake::compliance::Deviations;
use crate::handshake::verify::Judgement;
use crate::helper::FetchFault;
use crate::policy::{AppliedNames, NegotiatedTls};
use crate::relay::Meter;
use crate::words::{Direction, Mode, Side};

/// What is known of a connection. Dropping it writes it.
pub struct Record {
    sink: Records,
    session: SessionIdentity,
    began: Instant,
    meter: Rc<Meter>,
    content: Option<Rc<ContentCounts>>,
    fields: LineFields,
    /// How the client deviated from TLS, and how the server.
    deviations: (Deviations, Deviations),
    /// The groups in which keys were exchanged with the client, and with the server.
    groups: (Option<NamedGroup>, Option<NamedGroup>),
    /// The ClientHello's name, where one was read.
    name: Option<Option<Box<str>>>,
    end: Option<End>,
    /// The session has a record only if something is to be told of it.
    only_events: bool,
    /// Its first line was written. Readers wait for the end of what they saw begin, so that it has a record, whatever
    /// the policy says that came later.
    has_start: bool,
    /// Something was refused or passed over that only the record of the session tells.
    has_event: bool,
    /// Faults of the server's certificate were not allowed.
    is_refused_certificate: bool,
    /// Logins in clear text were refused.
    is_refused_login: bool,
}

/// How a connection ended.
enum End {
    /// Both peers said goodbye.
    Closed,
    /// Something else ended it.
    Failed(Failure),
    /// Its task panicked.
    Panicked,
    /// Its task was dropped: the daemon stopped.
    CutByStop,
}

impl End {
    /// The token in records.
    fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Failed(failure) => failure.reason(),
            Self::Panicked => "internal_panic",
            Self::CutByStop => "cut_by_stop",
        }
    }

    /// Whether nothing went wrong.
    const fn is_clean(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// The same in words.
    fn message(&self) -> String {
        match self {
            Self::Closed => "both sides closed".to_owned(),
            Self::Failed(failure) => failure.to_string(),
            Self::Panicked => "a fault in Postern ended this connection; please report it".to_owned(),
            Self::CutByStop => "Postern stopped before the session was over".to_owned(),
        }
    }
}

impl Record {
    pub(super) fn new(sink: Records, session: SessionIdentity) -> Self {
        Self {
            sink,
            session,
            began: Instant::now(),
            meter: Rc::default(),
            content: None,
            fields: LineFields::default(),
            deviations: (Deviations::default(), Deviations::default()),
            groups: (None, None),
            name: None,
            end: None,
            only_events: false,
            has_start: false,
            has_event: false,
            is_refused_certificate: false,
            is_refused_login: false,
        }
    }

    /// The session's name.
    #[must_use]
    pub const fn id(&self) -> EventId {
        self.session.id
    }

    /// Whether policy wants a record only where there is something to tell of the session. A session whose first line was
    /// written has one all the same.
    pub const fn only_events(&mut self, only: bool) {
        self.only_events = only;
    }

    /// Write the first line: what is known so far. Without it a session that lasts, or that a kill ends, has no trace.
    pub fn started(&mut self) {
        if self.only_events {
            return;
        }
        self.has_start = true;
        self.fields.identify(&self.session, self.session.at, "session_start");
        self.sink.write(&self.fields);
    }

    /// Octets as they go.
    #[must_use]
    pub fn meter(&self) -> Rc<Meter> {
        Rc::clone(&self.meter)
    }

    /// What is counted while mail is judged. Without a call the record says nothing about it: mail was not judged.
    pub fn content_counts(&mut self) -> Rc<ContentCounts> {
        Rc::clone(self.content.get_or_insert_default())
    }

    /// Where verdicts of this session are written. They tell of the handshakes that are finished when this is called.
    #[must_use]
    pub fn verdict_lines(&self) -> VerdictLines {
        VerdictLines::new(self.sink.clone(), self.session.clone())
    }

    /// Which policy, action and profile apply.
    pub fn applied(&mut self, names: &Arc<AppliedNames>) {
        self.session.applied = Some(Arc::clone(names));
    }

    /// The ClientHello has shown that no policy applies.
    pub fn unmatched(&mut self) {
        self.session.applied = None;
    }

    /// Policy leaves it alone.
    pub const fn bypass(&mut self) {
        self.session.mode = Mode::Bypass;
    }

    /// The session goes on without TLS on either side.
    pub const fn clear_text(&mut self) {
        self.session.mode = Mode::ClearText;
    }

    /// The interface that the client came in on.
    pub fn ingress(&mut self, interface: &str) {
        self.set("observer.ingress.interface.name", interface);
    }

    /// The interface towards the server.
    pub fn egress(&mut self, interface: &str) {
        self.set("observer.egress.interface.name", interface);
    }

    /// The name in the ClientHello, or the address that stands in its place and is no name.
    pub fn sni(&mut self, name: Option<&str>, address: Option<IpAddr>) {
        self.name = Some(name.map(Box::from));
        if let Some(name) = name {
            self.set("tls.client.server_name", name);
        }
        if let Some(address) = address {
            self.set("postern.sni_address", address.to_string());
        }
    }

    /// Logins in clear text that were refused.
    pub fn logins_refused(&mut self, count: u32) {
        if count > 0 {
            self.has_event = true;
            self.is_refused_login = true;
            self.set("postern.logins_refused", count);
        }
    }

    /// The leaf that the client was shown.
    pub fn shown(&mut self, fingerprint: &[u8]) {
        self.set("tls.server.hash.sha256", hex(fingerprint));
    }

    /// A side's handshake is finished.
    pub fn tls(
        &mut self,
        side: Side,
        version: Option<ProtocolVersion>,
        suite: Option<SupportedCipherSuite>,
        group: Option<NamedGroup>,
        kind: Option<HandshakeKind>,
    ) {
        let terms = TlsTerms { version: Some(version.unwrap_or(ProtocolVersion::Unknown(0))), suite };
        let prefix = match side {
            Side::Downstream => {
                self.session.downstream = terms;
                self.groups.0 = group;
                "tls"
            }
            Side::Upstream => {
                self.session.upstream = terms;
                self.groups.1 = group;
                "postern.upstream.tls"
            }
        };
        self.fields.tls(side, terms);
        if let Some(group) = group.and_then(TlsGroup::of) {
            self.set(&format!("{prefix}.curve"), group.as_str());
        }
        self.set(&format!("{prefix}.resumed"), kind == Some(HandshakeKind::Resumed));
    }

    /// What the handshakes of client and server agreed on.
    pub(crate) const fn negotiated(&self) -> [NegotiatedTls; 2] {
        const fn of(TlsTerms { version, suite }: TlsTerms, group: Option<NamedGroup>) -> NegotiatedTls {
            NegotiatedTls { version, suite, group }
        }
        [of(self.session.downstream, self.groups.0), of(self.session.upstream, self.groups.1)]
    }

    /// The name in the ClientHello, if it had one; `None` where no ClientHello was read.
    pub(crate) fn name(&self) -> Option<Option<&str>> {
        self.name.as_ref().map(Option::as_deref)
    }

    /// How a side's peer deviated from the RFCs of TLS, beside what was noted before.
    pub fn deviates(&mut self, side: Side, deviations: Deviations) {
        let noted = match side {
            Side::Downstream => &mut self.deviations.0,
            Side::Upstream => &mut self.deviations.1,
        };
        noted.join(deviations);
        let words: Vec<_> = noted.iter().map(|deviation| deviation.as_str()).collect();
        if !words.is_empty() {
            self.set(&format!("postern.{side}.tls.deviations"), words);
        }
    }

    /// Which layer opens and seals a side's records, or that nothing is sealed.
    pub fn layers(&mut self, side: Side, receive: &'static str, transmit: &'static str) {
        self.set(&format!("postern.{side}.receive.layer"), receive);
        self.set(&format!("postern.{side}.transmit.layer"), transmit);
    }

    /// The server's certificate was judged.
    pub fn judged(&mut self, leaf: Option<&CertificateDer<'_>>, judgement: &Judgement) {
        if let Some(leaf) = leaf {
            self.set("postern.upstream.tls.server.hash.sha256", hex(digest(&SHA256, leaf).as_ref()));
        }
        if !judgement.faults.is_empty() {
            self.has_event = true;
            self.is_refused_certificate |= judgement.verdict != Verdict::Allow;
            let faults: Vec<_> = judgement.faults.iter().map(|fault| fault.as_str()).collect();
            self.set("postern.certificate.faults", faults);
            self.set("postern.certificate.verdict", format!("{:?}", judgement.verdict).to_lowercase());
        }
        if let Some(ocsp) = judgement.revocation.ocsp {
            self.set("postern.certificate.ocsp", ocsp.as_str());
        }
        if let Some(source) = judgement.revocation.source {
            self.set("postern.certificate.ocsp_source", source.as_str());
        }
        if let Some(lists) = judgement.revocation.lists {
            self.set("postern.certificate.crl", lists.as_str());
        }
        if judgement.faults.depend_on_time() && clock::look().is_some() {
            self.set("postern.certificate.clock", "wrong");
        }
    }

    /// The authority of the server's certificate was asked, and gave no answer.
    pub(crate) fn unanswered(&mut self, fault: FetchFault) {
        self.set("postern.certificate.ocsp_fault", fault.as_str());
    }

    /// The connection is over.
    pub fn close(mut self, result: Result<(), Failure>) {
        self.end = Some(match result {
            Ok(()) => End::Closed,
            Err(failure) => {
                self.set("postern.stage", failure.stage());
                self.set("postern.side", failure.side.as_str());
                End::Failed(failure)
            }
        });
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.set(name, value);
    }

    fn finish(&mut self, end: &End) {
        if let Some(names) = self.content.as_ref().and_then(|counts| counts.names()) {
            self.session.applied = Some(names);
        }
        let duration = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.fields.identify(&self.session, self.session.at, "session_end");
        self.set("event.outcome", if end.is_clean() { "success" } else { "failure" });
        self.set("event.reason", end.reason());
        self.set("event.duration", duration);
        self.set("message", end.message());
        self.set("client.bytes", self.meter.octets(Direction::ClientToServer));
        self.set("server.bytes", self.meter.octets(Direction::ServerToClient));
        for direction in [Direction::ClientToServer, Direction::ServerToClient] {
            let meter = Rc::clone(&self.meter);
            self.set(&format!("postern.{direction}.spliced_bytes"), meter.spliced(direction));
            self.set(&format!("postern.{direction}.held_bytes"), meter.held(direction));
            self.set(&format!("postern.{direction}.copied_bytes"), meter.copied(direction));
        }
    }

    /// Whether there is something to tell of this session that no other line tells: it did not end in order, or something was
    /// refused, passed over, or let through unjudged. Verdicts have lines of their own.
    fn has_event(&self, end: &End) -> bool {
        let is_told = |counts: &Rc<ContentCounts>| counts.commands_refused() > 0 || counts.is_exempt();
        !end.is_clean() || self.has_event || self.content.as_ref().is_some_and(is_told)
    }

    /// Which alarms the session raises; verdicts raise their own.
    fn alarms(&self, end: &End) -> impl Iterator<Item = SessionAlarm> + use<> {
        let of_end = match end.reason() {
            "starttls_pipelined" | "starttls_injected" | "preauth" | "response_unsolicited" => {
                Some(SessionAlarm::StarttlsAttack)
            }
            "content_changed" => Some(SessionAlarm::ContentChanged),
            "internal_panic" => Some(SessionAlarm::Fault),
            _ => None,
        };
        let certificate = self.is_refused_certificate.then_some(SessionAlarm::Certificate);
        let login = self.is_refused_login.then_some(SessionAlarm::LoginRefused);
        [of_end, certificate, login].into_iter().flatten()
    }

    /// Who had mail judged, and what was done to it.
    fn content(&mut self) {
        let Some(counts) = self.content.take() else { return };
        self.fields.account(&self.sink, &self.session, counts.account().as_deref());
        if counts.is_exempt() {
            self.set("postern.content.exempt", true);
        }
        let rules: Vec<_> = counts.rules().iter().map(|rule| bounded(rule, RULE_BYTES_MAX)).collect();
        if !rules.is_empty() {
            self.set("rule.name", rules);
        }
        self.set("postern.content.judged", counts.judged());
        self.set("postern.content.verified", counts.verified());
        self.set("postern.content.trusted", counts.trusted());
        self.set("postern.content.removed", counts.removed());
        self.set("postern.content.refused", counts.refused());
        if counts.rules_renewed() > 0 {
            self.set("postern.rules_renewed", counts.rules_renewed());
        }
        self.set("postern.imap.left_out", counts.left_out());
        self.set("postern.imap.commands_refused", counts.commands_refused());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let end = self
            .end
            .take()
            .unwrap_or_else(|| if std::thread::panicking() { End::Panicked } else { End::CutByStop });
        let is_written = !self.only_events || self.has_start || self.has_event(&end);
        if !is_written {
            return;
        }
        self.finish(&end);
        self.content();
        self.sink.alarm(&self.session, self.alarms(&end), &self.fields);
        self.sink.write(&self.fields);
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use super::*;
    use crate::failure::Cause;
    use crate::handshake::verify::{CertificateFault, Faults, Revocation};
    use crate::words::{ClientAddr, OriginalDst, Service};

    fn opened(room: usize) -> (Records, Receiver<Vec<u8>>, Record) {
        let (records, written) = Records::to_queue(room);
        let (client, server) = ("192.0.2.1:40000".parse().unwrap(), "198.51.100.1:993".parse().unwrap());
        let record = records.open(ClientAddr(client), OriginalDst(server), Service::ImplicitTls);
        (records, written, record)
    }

    fn only(written: &Receiver<Vec<u8>>) -> Value {
        let line = String::from_utf8(written.try_recv().unwrap()).unwrap();
        assert!(written.try_recv().is_err(), "one connection, one line");
        assert!(line.ends_with('\n') && line.lines().count() == 1);
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_dropped_connection_has_a_record() {
        let (_records, written, record) = opened(1);
        drop(record);
        assert_eq!(only(&written)["event.reason"], "cut_by_stop");
    }

    #[test]
    fn a_session_has_a_line_when_it_begins_and_one_when_it_ends_under_one_name() {
        let (records, written, mut record) = opened(2);
        record.ingress("lan0");
        record.started();
        drop(record);
        let [start, end] =
            [(); 2].map(|()| serde_json::from_slice::<Value>(&written.try_recv().unwrap()).unwrap());
        assert_eq!(
            (&start["event.action"], &end["event.action"]),
            (&"session_start".into(), &"session_end".into())
        );
        for same in
            ["event.id", "@timestamp", "client.ip", "client.port", "server.ip", "server.port", "postern.mode"]
        {
            assert!(!start[same].is_null() && start[same] == end[same], "{same}: {start:#} {end:#}");
        }
        assert_eq!(start["observer.ingress.interface.name"], "lan0");
        assert!(start["event.outcome"].is_null(), "nothing has come out yet: {start:#}");
        let other = records.open(
            ClientAddr("192.0.2.1:1".parse().unwrap()),
            OriginalDst("192.0.2.2:143".parse().unwrap()),
            Service::StartTls,
        );
        assert_ne!(other.id().to_string(), end["event.id"].as_str().unwrap());
    }

    #[test]
    fn a_panic_ends_in_a_record_that_says_so() {
        let (_records, written, record) = opened(1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = record;
            panic!("a fault of ours");
        }));
        assert!(panicked.is_err());
        assert_eq!(only(&written)["event.reason"], "internal_panic");
    }

    #[test]
    fn a_failure_names_stage_side_and_reason() {
        let (_records, written, record) = opened(1);
        record.close(Err(Failure::upstream(Cause::Silent(30))));
        let line = only(&written);
        assert_eq!(line["event.outcome"], "failure");
        assert_eq!(line["postern.stage"], "handshake");
        assert_eq!(line["postern.side"], "upstream");
        assert_eq!(
            line["message"],
            "server (upstream): no answer in time: 30 s have passed since the connection was accepted"
        );
    }

    #[test]
    fn what_was_done_to_mail_is_in_the_record_of_a_session_whose_mail_was_judged_and_in_no_other() {
        let (_records, written, mut record) = opened(1);
        let counts = record.content_counts();
        counts.count_judged(3);
        counts.count_verified(7);
        counts.count_trusted(6);
        counts.count_removed(1);
        counts.count_left_out(2);
        counts.count_left_out(5);
        record.content_counts().count_commands_refused(4);
        record.close(Ok(()));
        let line = only(&written);
        for (name, count) in [
            ("postern.content.judged", 3),
            ("postern.content.verified", 7),
            ("postern.content.trusted", 6),
            ("postern.content.removed", 1),
            ("postern.content.refused", 0),
            ("postern.imap.left_out", 7),
            ("postern.imap.commands_refused", 4),
        ] {
            assert_eq!(line[name], count, "{name}");
        }
        let (_records, written, record) = opened(1);
        record.close(Ok(()));
        let line = only(&written);
        assert!(line.get("postern.content.judged").is_none() && line.get("postern.imap.left_out").is_none());
    }

    #[test]
    fn where_only_events_are_told_a_session_in_order_has_no_line_and_every_other_has_one() {
        let silent = |happens: fn(&mut Record), result: Result<(), Failure>| {
            let (_records, written, mut record) = opened(2);
            record.only_events(true);
            record.started();
            happens(&mut record);
            record.close(result);
            written.try_recv().is_err()
        };
        assert!(silent(|_| {}, Ok(())));
        assert!(silent(|record| record.content_counts().count_judged(3), Ok(())));
        assert!(!silent(|_| {}, Err(Failure::downstream(Cause::Idle))));
        assert!(!silent(|record| record.content_counts().count_commands_refused(1), Ok(())));
        assert!(!silent(|record| record.logins_refused(1), Ok(())));
        let judgement =
            |faults: Faults| Judgement { faults, verdict: Verdict::Allow, revocation: Revocation::default() };
        let (_records, written, mut record) = opened(1);
        record.only_events(true);
        record.judged(None, &judgement([CertificateFault::Expired].into_iter().collect()));
        record.close(Ok(()));
        assert_eq!(only(&written)["postern.certificate.verdict"], "allow");
        let (_records, written, mut record) = opened(1);
        record.only_events(true);
        record.judged(None, &judgement(Faults::default()));
        drop(record);
        assert_eq!(only(&written)["event.reason"], "cut_by_stop");
    }

    #[test]
    fn what_was_seen_to_begin_is_seen_to_end_where_the_name_leads_to_another_policy() {
        let (_records, written, mut record) = opened(3);
        record.only_events(false);
        record.started();
        record.only_events(true);
        record.close(Ok(()));
        let actions: Vec<_> = written
            .try_iter()
            .map(|line| serde_json::from_slice::<Value>(&line).unwrap()["event.action"].clone())
            .collect();
        assert_eq!(actions, ["session_start", "session_end"]);
    }

    #[test]
    fn a_line_that_finds_no_room_is_counted_and_nobody_waits() {
        let (records, written, record) = opened(1);
        drop(records.open(record.session.client, record.session.server, Service::ImplicitTls));
        drop(record);
        assert_eq!(records.lost(), 1);
        assert_eq!(written.iter().take(1).count(), 1);
    }
}
