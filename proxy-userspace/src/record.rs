//! Two lines per connection: one when it begins, and its record when it ends, also when its task is dropped.
//!
//! Field names follow the Elastic Common Schema; `tls.*` is the client's side, `postern.upstream.tls.*` the server's.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ProtocolVersion, SupportedCipherSuite};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::event_id::EventId;
use crate::failure::Failure;
use crate::handshake::verify::Judgement;
use crate::lines::Lines;
use crate::relay::Meter;
use crate::words::{ClientAddr, Direction, Mode, OriginalDst, Side};

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
    pub fn open(&self, client: ClientAddr, server: OriginalDst) -> Record {
        let at = SystemTime::now();
        let mode = if server.is_implicit_tls() { Mode::Implicit } else { Mode::StartTls };
        Record {
            sink: self.clone(),
            id: EventId::at(at),
            began: Instant::now(),
            at,
            meter: Rc::new(Meter::default()),
            client,
            server,
            mode,
            fields: Map::new(),
            end: None,
        }
    }
}

/// What is known of a connection. Dropping it writes it.
pub struct Record {
    sink: Records,
    id: EventId,
    began: Instant,
    at: SystemTime,
    meter: Rc<Meter>,
    client: ClientAddr,
    server: OriginalDst,
    mode: Mode,
    fields: Map<String, Value>,
    end: Option<End>,
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
    /// The session's name.
    #[must_use]
    pub const fn id(&self) -> EventId {
        self.id
    }

    /// Write the first line: what is known so far. Without it a session that lasts, or that a kill ends, has no trace.
    pub fn started(&mut self) {
        self.identify("session_start");
        self.write();
    }

    /// Octets as they go.
    #[must_use]
    pub fn meter(&self) -> Rc<Meter> {
        Rc::clone(&self.meter)
    }

    /// Policy leaves it alone.
    pub fn bypass(&mut self) {
        self.mode = Mode::Bypass;
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
        kind: Option<HandshakeKind>,
    ) {
        let prefix = if side == Side::Downstream { "tls" } else { "postern.upstream.tls" };
        let version = match version {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "unknown",
        };
        self.set(&format!("{prefix}.version"), version);
        if let Some(suite) = suite.and_then(|suite| suite.suite().as_str()) {
            self.set(&format!("{prefix}.cipher"), suite.replace("TLS13_", "TLS_"));
        }
        self.set(&format!("{prefix}.resumed"), kind == Some(HandshakeKind::Resumed));
    }

    /// Which layer opens and seals a side's records.
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
            let faults: Vec<_> = judgement.faults.iter().map(|fault| fault.as_str()).collect();
            self.set("postern.certificate.faults", faults);
            self.set("postern.certificate.verdict", format!("{:?}", judgement.verdict).to_lowercase());
        }
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
        self.fields.insert(name.to_owned(), value.into());
    }

    /// What stands in every line of the session.
    fn identify(&mut self, action: &'static str) {
        let at = OffsetDateTime::from(self.at).format(&Rfc3339).unwrap_or_default();
        let (client, server) = (self.client.0, self.server.0);
        self.set("@timestamp", at);
        self.set("event.id", self.id.to_string());
        self.set("event.action", action);
        self.set("network.protocol", "imap");
        self.set("client.ip", client.ip().to_string());
        self.set("client.port", client.port());
        self.set("server.ip", server.ip().to_string());
        self.set("server.port", server.port());
        self.set("postern.mode", self.mode.as_str());
    }

    fn finish(&mut self) {
        let end = self
            .end
            .take()
            .unwrap_or_else(|| if std::thread::panicking() { End::Panicked } else { End::CutByStop });
        let duration = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.identify("session_end");
        self.set("event.outcome", if matches!(end, End::Closed) { "success" } else { "failure" });
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

    fn write(&self) {
        self.sink.lines.push(self.line().into_bytes());
    }

    fn line(&self) -> String {
        if self.sink.json {
            return format!("{}\n", Value::Object(self.fields.clone()));
        }
        let mut line = String::new();
        for (name, value) in &self.fields {
            let _ = write!(line, "{name}={value} ");
        }
        line.push('\n');
        line
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish();
        self.write();
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

    fn opened(room: usize) -> (Records, Receiver<Vec<u8>>, Record) {
        let (lines, written) = Lines::queue(room);
        let records = Records { lines, json: true };
        let (client, server) = ("192.0.2.1:40000".parse().unwrap(), "198.51.100.1:993".parse().unwrap());
        let record = records.open(ClientAddr(client), OriginalDst(server));
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
        let other = records
            .open(ClientAddr("192.0.2.1:1".parse().unwrap()), OriginalDst("192.0.2.2:143".parse().unwrap()));
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
    fn a_line_that_finds_no_room_is_counted_and_nobody_waits() {
        let (records, written, record) = opened(1);
        drop(records.open(record.client, record.server));
        drop(record);
        assert_eq!(records.lost(), 1);
        assert_eq!(written.iter().take(1).count(), 1);
    }
}

/// Stub.
#[derive(Debug, Default)]
pub struct ContentCounts;
#[allow(missing_docs)]
impl ContentCounts {
    pub fn judged(&self, _: u64) {}
    pub fn removed(&self, _: u64) {}
    pub fn refused(&self, _: u64) {}
    pub fn left_out(&self, _: u64) {}
    pub fn command_refused(&self) {}
}
