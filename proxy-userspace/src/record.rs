//! One record per connection, written when it ends, also when its task is dropped.
//!
//! Field names follow the Elastic Common Schema; `tls.*` is the client's side, `postern.upstream.tls.*` the server's.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ProtocolVersion, SupportedCipherSuite};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;
use crate::handshake::verify::Judgement;
use crate::relay::Meter;
use crate::words::{ClientAddr, Direction, Mode, OriginalDst, Side};

/// Lines that wait for a slow reader of stdout; more are counted as lost, because a session never waits for a log.
const LINES_MAX: usize = 65_536;

/// Where records go. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    lines: SyncSender<String>,
    lost: Arc<AtomicU64>,
    json: bool,
}

impl Records {
    /// To stdout: JSON lines, or text where a person reads. The handle ends when the last sender is gone.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn to_stdout() -> io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (lines, written) = sync_channel::<String>(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let failed = Arc::clone(&lost);
        let writer = std::thread::Builder::new().name("records".to_owned()).spawn(move || {
            let mut out = io::stdout();
            for line in written {
                if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok((Self { lines, lost, json: !io::stdout().is_terminal() }, writer))
    }

    /// Records that could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// A connection begins.
    #[must_use]
    pub fn open(&self, client: ClientAddr, server: OriginalDst) -> Record {
        let mode = if server.is_implicit_tls() { Mode::Implicit } else { Mode::StartTls };
        Record {
            sink: self.clone(),
            began: Instant::now(),
            at: SystemTime::now(),
            meter: Rc::new(Meter::default()),
            client,
            server,
            mode,
            fields: Map::new(),
            outcome: None,
        }
    }
}

/// What is known of a connection. Dropping it writes it.
pub struct Record {
    sink: Records,
    began: Instant,
    at: SystemTime,
    meter: Rc<Meter>,
    client: ClientAddr,
    server: OriginalDst,
    mode: Mode,
    fields: Map<String, Value>,
    outcome: Option<(bool, &'static str, String)>,
}

impl Record {
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
        self.set(&format!("postern.{}.receive.layer", side.as_str()), receive);
        self.set(&format!("postern.{}.transmit.layer", side.as_str()), transmit);
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
        self.outcome = Some(match result {
            Ok(()) => (true, "closed", "both sides closed".to_owned()),
            Err(failure) => {
                self.set("postern.stage", failure.stage());
                self.set("postern.side", failure.side.as_str());
                (false, failure.reason(), failure.to_string())
            }
        });
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    fn finish(&mut self) {
        let (success, reason, message) = self.outcome.take().unwrap_or_else(|| {
            if std::thread::panicking() {
                (
                    false,
                    "internal_panic",
                    "a fault in Postern ended this connection; please report it".to_owned(),
                )
            } else {
                (false, "cut_by_stop", "Postern stopped before the session was over".to_owned())
            }
        });
        let at = OffsetDateTime::from(self.at).format(&Rfc3339).unwrap_or_default();
        let duration = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (client, server) = (self.client.0, self.server.0);
        self.set("@timestamp", at);
        self.set("event.action", "session");
        self.set("event.outcome", if success { "success" } else { "failure" });
        self.set("event.reason", reason);
        self.set("event.duration", duration);
        self.set("message", message);
        self.set("network.protocol", "imap");
        self.set("client.ip", client.ip().to_string());
        self.set("client.port", client.port());
        self.set("client.bytes", self.meter.octets(Direction::ClientToServer));
        self.set("server.ip", server.ip().to_string());
        self.set("server.port", server.port());
        self.set("server.bytes", self.meter.octets(Direction::ServerToClient));
        self.set("postern.mode", self.mode.as_str());
        for direction in [Direction::ClientToServer, Direction::ServerToClient] {
            let meter = Rc::clone(&self.meter);
            self.set(&format!("postern.{direction}.spliced_bytes"), meter.spliced(direction));
            self.set(&format!("postern.{direction}.held_bytes"), meter.held(direction));
            self.set(&format!("postern.{direction}.copied_bytes"), meter.copied(direction));
        }
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
        if self.sink.lines.try_send(self.line()).is_err() {
            self.sink.lost.fetch_add(1, Ordering::Relaxed);
        }
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

    fn opened(room: usize) -> (Records, Receiver<String>, Record) {
        let (lines, written) = sync_channel(room);
        let records = Records { lines, lost: Arc::default(), json: true };
        let (client, server) = ("192.0.2.1:40000".parse().unwrap(), "198.51.100.1:993".parse().unwrap());
        let record = records.open(ClientAddr(client), OriginalDst(server));
        (records, written, record)
    }

    fn only(written: &Receiver<String>) -> Value {
        let line = written.try_recv().unwrap();
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
        assert_eq!(line["message"], "server (upstream): no answer within 30 s");
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
