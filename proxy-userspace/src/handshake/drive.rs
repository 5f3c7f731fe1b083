//! One driver over rustls' unbuffered API for both sides. It reads whole records and not one octet more, because
//! another record layer takes the socket after the handshake.

use std::fmt;
use std::io;
use std::ops::Deref;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error, ExtractedSecrets, InvalidMessage, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::alerts::{alert_for, correction, instead};
use super::compliance::{Conduct, Deviation};
use crate::failure::Cause;
use crate::jobs::{JobError, JobKind, JobPool};
use crate::layer::{
    Alert, ContentType, EXPANSION_TLS12_BYTES_MAX, EXPANSION_TLS13_BYTES_MAX, HEADER_BYTES, KernelSide,
    LayerFault, PLAINTEXT_BYTES_MAX,
};
use crate::signer::SignFault;

/// Octets that a peer may send in one handshake: certificate chains are a few KiB, post-quantum keys one.
pub const HANDSHAKE_BYTES_MAX: usize = 256 * 1024;

/// What rustls' two unbuffered connections have in common.
pub(super) trait Unbuffered: Sized {
    type RustlsData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::RustlsData>;
    fn common(&self) -> &CommonState;
    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelSide), Error>;
}

impl Unbuffered for UnbufferedClientConnection {
    type RustlsData = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::RustlsData> {
        self.process_tls_records(incoming)
    }
    fn common(&self) -> &CommonState {
        self.deref()
    }
    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelSide), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, kernel)| (secrets, KernelSide::Client(kernel)))
    }
}

impl Unbuffered for UnbufferedServerConnection {
    type RustlsData = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::RustlsData> {
        self.process_tls_records(incoming)
    }
    fn common(&self) -> &CommonState {
        self.deref()
    }
    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelSide), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, kernel)| (secrets, KernelSide::Server(kernel)))
    }
}

/// A handshake that failed.
pub(super) struct Broken<C> {
    /// The connection in its last state; `None` where a lost job took it along.
    pub(super) connection: Option<C>,
    /// What ended it.
    pub(super) cause: Cause,
    /// The records that tell the peer: sealed where the connection has keys.
    pub(super) words: Vec<u8>,
}

impl<C> fmt::Debug for Broken<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broken").field("cause", &self.cause).finish_non_exhaustive()
    }
}

/// Run a handshake to its end. `incoming` holds the octets that were read already. With `apart`, its steps run on a
/// thread of that pool, because they may take long. `conduct` notes what the peer does that policy may tolerate.
///
/// # Errors
/// What ended it.
pub(super) async fn drive<C: Unbuffered + Send + 'static>(
    connection: C,
    socket: &mut TcpStream,
    incoming: Vec<u8>,
    apart: Option<&JobPool>,
    conduct: &mut Conduct,
) -> Result<C, Broken<C>> {
    let mut driver = Driver {
        connection,
        total: incoming.len(),
        incoming,
        last_record: 0,
        outgoing: Vec::new(),
        changed_cipher: false,
        warned: false,
    };
    loop {
        let taken;
        (driver, taken) = match driver.advance(apart).await {
            Ok(advanced) => advanced,
            Err(error) => {
                return Err(Broken { connection: None, cause: Cause::Job(error), words: Vec::new() });
            }
        };
        let done = matches!(taken, Ok(HandshakeStep::Done));
        let answered = match taken {
            Ok(HandshakeStep::Read) => driver.read(socket, conduct).await,
            Ok(HandshakeStep::Again | HandshakeStep::Send | HandshakeStep::Done) => driver.send(socket).await,
            Err(error) => Err(tls(error)),
        };
        match answered {
            Ok(()) if done => return Ok(driver.connection),
            Ok(()) => {}
            Err(cause) => {
                driver.explain(&cause);
                return Err(Broken { connection: Some(driver.connection), cause, words: driver.outgoing });
            }
        }
    }
}

enum HandshakeStep {
    Again,
    Send,
    Read,
    Done,
}

/// A connection, and the one buffer that rustls reads from. Between two steps rustls remembers positions in this buffer
/// of a message that is not whole yet, and panics when it is given another buffer. So only [`Self::step`] gives it one.
struct Driver<C> {
    connection: C,
    incoming: Vec<u8>,
    /// The offset in `incoming` of the record that was read last, or that is read next.
    last_record: usize,
    outgoing: Vec<u8>,
    /// Octets of the peer so far.
    total: usize,
    /// The peer sent a ChangeCipherSpec: under TLS 1.2 its records are sealed from then on.
    changed_cipher: bool,
    /// The peer sent an alert in clear text. Where the handshake goes on, rustls took it for a warning.
    warned: bool,
}

impl<C: Unbuffered + Send + 'static> Driver<C> {
    /// Take steps until the peer has to be read or written; on a thread of the pool where a signature takes long.
    async fn advance(
        mut self,
        apart: Option<&JobPool>,
    ) -> Result<(Self, Result<HandshakeStep, Error>), JobError> {
        let work = move || {
            loop {
                match self.step() {
                    Ok(HandshakeStep::Again) => {}
                    taken => return (self, taken),
                }
            }
        };
        match apart {
            Some(jobs) => jobs.run(JobKind::Serve, work).await,
            None => Ok(work()),
        }
    }
}

impl<C: Unbuffered> Driver<C> {
    fn step(&mut self) -> Result<HandshakeStep, Error> {
        let UnbufferedStatus { discard, state } = self.connection.process(&mut self.incoming);
        let step = state.and_then(|state| match state {
            ConnectionState::EncodeTlsData(mut data) => {
                encode(|room| data.encode(room), &mut self.outgoing)?;
                Ok(HandshakeStep::Again)
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Ok(HandshakeStep::Send)
            }
            ConnectionState::BlockedHandshake => Ok(HandshakeStep::Read),
            ConnectionState::WriteTraffic(_) => Ok(HandshakeStep::Done),
            _ => Err(Error::General("the peer ended or sent data inside the handshake".to_owned())),
        });
        // rustls discards octets also where it returns an error.
        self.incoming.drain(..discard.min(self.incoming.len()));
        self.last_record = self.last_record.saturating_sub(discard);
        step
    }

    async fn send(&mut self, socket: &mut TcpStream) -> Result<(), Cause> {
        if !self.outgoing.is_empty() {
            socket.write_all(&self.outgoing).await.map_err(Cause::Socket)?;
            self.outgoing.clear();
        }
        Ok(())
    }

    async fn read(&mut self, socket: &mut TcpStream, conduct: &mut Conduct) -> Result<(), Cause> {
        self.last_record = self.incoming.len();
        let version = self.connection.common().protocol_version();
        // TLS 1.2 has warnings (RFC 5246 section 7.2). The version is known only behind the ServerHello.
        if self.warned && version == Some(ProtocolVersion::TLSv1_3) {
            conduct.note(Deviation::WarningAlert)?;
        }
        let sealed = match version {
            Some(ProtocolVersion::TLSv1_3) => Sealed::Tls13,
            Some(_) if self.changed_cipher => Sealed::Tls12,
            _ => Sealed::Nothing,
        };
        let content = read_record(socket, &mut self.incoming, sealed).await?;
        self.changed_cipher |= content == ContentType::ChangeCipherSpec;
        self.total += self.incoming.len() - self.last_record;
        if self.total > HANDSHAKE_BYTES_MAX {
            return Err(Cause::HandshakeTooLong);
        }
        // An alert before an agreement may have any version, and mostly ends the handshake.
        if content == ContentType::Alert {
            self.warned = true;
        } else if self.incoming.get(self.last_record..).is_none_or(|record| record.get(1..3) != Some(&[3, 3]))
        {
            conduct.note(Deviation::RecordVersion)?;
        }
        Ok(())
    }

    /// Queue the alert that tells the peer what happened.
    fn explain(&mut self, cause: &Cause) {
        let line = self.outgoing.len();
        if self.connection.common().wants_write() {
            // rustls has queued its own alert.
            self.take_line();
            if let Some(alert) = correction(cause) {
                self.reword(line, alert);
            }
        } else if let Some(alert) = alert_for(cause) {
            self.provoke(alert);
        }
    }

    /// Take the octets that rustls has queued. rustls reads nothing of `incoming` while it has some.
    fn take_line(&mut self) {
        while self.connection.common().wants_write() && matches!(self.step(), Ok(HandshakeStep::Again)) {}
    }

    /// Make rustls send an alert, with this description. rustls sends one because the record that it reads next, which
    /// may be the one that it has just refused, is given an invalid header.
    fn provoke(&mut self, alert: Alert) {
        self.incoming.extend_from_slice(&[0; HEADER_BYTES]);
        if let Some(content) = self.incoming.get_mut(self.last_record) {
            *content = 0;
        }
        let line = self.outgoing.len();
        let _ = instead(alert, || self.step());
        self.take_line();
        self.reword(line, alert);
    }

    /// Rewrite the alert at the offset `line`, if it is in clear text because no key was agreed on yet.
    fn reword(&mut self, line: usize, alert: Alert) {
        if let Some([kind, _, _, 0, 2, _, description]) = self.outgoing.get_mut(line..)
            && *kind == ContentType::Alert.octet()
        {
            *description = alert.octet();
        }
    }
}

/// A message over rustls' bound is told like a handshake over ours, and so is what our own key says.
pub(super) fn tls(error: Error) -> Cause {
    match error {
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => Cause::HandshakeTooLong,
        Error::Other(other) => match other.0.downcast_ref::<SignFault>() {
            Some(fault) => Cause::Mint((*fault).into()),
            None => Cause::Tls(Error::Other(other)),
        },
        error => Cause::Tls(error),
    }
}

/// Append rustls' outgoing record.
fn encode(
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    outgoing: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = outgoing.len();
    let written = match write(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => {
            outgoing.resize(start + size.required_size, 0);
            write(outgoing.get_mut(start..).unwrap_or_default())
        }
        other => other,
    };
    let written = written.map_err(|error| Error::General(error.to_string()))?;
    outgoing.truncate(start + written);
    Ok(())
}

/// How a peer seals its records. It decides how much longer than their plaintext they may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sealed {
    /// No key was agreed on yet.
    Nothing,
    /// TLS 1.2, after the peer's ChangeCipherSpec.
    Tls12,
    /// TLS 1.3: sealed records have the type of application data.
    Tls13,
}

impl Sealed {
    const fn expansion_bytes_max(self, content: ContentType) -> usize {
        match (self, content) {
            (Self::Tls12, _) => EXPANSION_TLS12_BYTES_MAX,
            (Self::Tls13, ContentType::ApplicationData) => EXPANSION_TLS13_BYTES_MAX,
            (Self::Nothing | Self::Tls13, _) => 0,
        }
    }
}

/// Read and append exactly one record. An invalid header is refused before anything behind it is read (RFC 8446
/// sections 5 to 5.4).
pub(super) async fn read_record(
    socket: &mut TcpStream,
    incoming: &mut Vec<u8>,
    sealed: Sealed,
) -> Result<ContentType, Cause> {
    let mut header = [0; HEADER_BYTES];
    socket.read_exact(&mut header).await.map_err(Cause::Socket)?;
    let [content, major, _, high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let content =
        ContentType::parse(content).filter(|_| major == 3).ok_or(Cause::Record(LayerFault::NotTls))?;
    if length > PLAINTEXT_BYTES_MAX + sealed.expansion_bytes_max(content) {
        return Err(Cause::Record(LayerFault::RecordOverflow));
    }
    if length == 0 && content != ContentType::ApplicationData {
        return Err(Cause::Record(LayerFault::UnexpectedRecord));
    }
    let start = incoming.len();
    incoming.extend_from_slice(&header);
    incoming.resize(start + HEADER_BYTES + length, 0);
    let body = incoming.get_mut(start + HEADER_BYTES..).ok_or(Cause::Socket(io::ErrorKind::Other.into()))?;
    socket.read_exact(body).await.map_err(Cause::Socket)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use rcgen::KeyPair;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
    use rustls::{
        ClientConfig, RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme,
        SupportedProtocolVersion, version,
    };
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Compliance;
    use crate::jobs::JobPurpose;

    type Threads = Arc<Mutex<Vec<Option<String>>>>;

    /// A key that notes the threads on which it signs.
    #[derive(Debug)]
    struct Noted<T>(T, Threads);

    impl SigningKey for Noted<Arc<dyn SigningKey>> {
        fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
            Some(Box::new(Noted(self.0.choose_scheme(offered)?, Arc::clone(&self.1))))
        }
        fn algorithm(&self) -> SignatureAlgorithm {
            self.0.algorithm()
        }
    }

    impl Signer for Noted<Box<dyn Signer>> {
        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
            self.1.lock().unwrap().push(std::thread::current().name().map(str::to_owned));
            self.0.sign(message)
        }
        fn scheme(&self) -> SignatureScheme {
            self.0.scheme()
        }
    }

    /// The threads on which a server signs in one handshake of this version.
    async fn signing_threads(
        version: &'static SupportedProtocolVersion,
        apart: Option<&JobPool>,
    ) -> Vec<Option<String>> {
        let pair = KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["server.test".to_owned()]).unwrap();
        let cert = params.self_signed(&pair).unwrap().der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(cert.clone()).unwrap();
        let key = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let threads = Threads::default();
        let certified = CertifiedKey::new(vec![cert], Arc::new(Noted(key, Arc::clone(&threads))));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let name = ServerName::try_from("server.test").unwrap();
        let client = UnbufferedClientConnection::new(Arc::new(client), name).unwrap();
        let server = UnbufferedServerConnection::new(Arc::new(server)).unwrap();
        let [mut of_client, mut of_server] = [Conduct::under(Compliance::Tolerant); 2];
        let (client, server) = tokio::join!(
            drive(client, &mut near, Vec::new(), None, &mut of_server),
            drive(server, &mut far, Vec::new(), apart, &mut of_client),
        );
        client.unwrap();
        server.unwrap();
        std::mem::take(&mut *threads.lock().unwrap())
    }

    #[tokio::test]
    async fn a_slow_signature_is_made_on_the_pool_and_a_quick_one_here() {
        let pool = JobPool::start(JobPurpose::Certificates, 1).unwrap();
        let here = std::thread::current().name().map(str::to_owned);
        for version in [&version::TLS13, &version::TLS12] {
            assert_eq!(signing_threads(version, Some(&pool)).await, [Some("crypto-0".to_owned())]);
            assert_eq!(signing_threads(version, None).await, std::slice::from_ref(&here));
        }
    }

    /// What a configured certificate's key says is no fault of TLS, and the record must not look for one.
    #[test]
    fn a_signature_that_did_not_come_is_told_as_that() {
        let told = |fault: SignFault| {
            let cause = tls(Error::Other(rustls::OtherError(Arc::new(fault))));
            assert_eq!(alert_for(&cause), Some(Alert::INTERNAL_ERROR));
            crate::failure::Failure::downstream(cause).reason()
        };
        assert_eq!(told(SignFault::Gone), "signer_unavailable");
        assert_eq!(told(SignFault::Late), "signer_unavailable");
        assert_eq!(told(SignFault::Overloaded), "certificates_overloaded");
        let other = Error::Other(rustls::OtherError(Arc::new(io::Error::other("a test"))));
        assert!(matches!(tls(other), Cause::Tls(Error::Other(_))));
    }
}
