//! One driver over rustls' unbuffered API for both sides. It reads whole records and not one octet more: ciphertext
//! that is read too far cannot be given to another record layer.

use std::io;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{Error, ExtractedSecrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::jobs::{JobError, JobKind, JobPool};
use crate::failure::Cause;
use crate::layer::{KernelSide, RECORD_BYTES_MAX};

/// Octets that a peer may send in one handshake: certificate chains are a few KiB, post-quantum keys one.
pub const HANDSHAKE_BYTES_MAX: usize = 256 * 1024;
const HEADER_BYTES: usize = 5;

/// rustls' two unbuffered connections, seen alike.
pub(super) trait Unbuffered: Sized {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelSide), Error>;
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelSide), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, kernel)| (secrets, KernelSide::Client(kernel)))
    }
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelSide), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, kernel)| (secrets, KernelSide::Server(kernel)))
    }
}

enum Step {
    Again,
    Send,
    Read,
    Done,
}

/// A handshake between two of its steps.
struct Handshake<C> {
    connection: C,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl<C: Unbuffered + Send + 'static> Handshake<C> {
    /// As far as it goes without the peer; on a thread of the pool where a signature would hold this one.
    async fn advance(mut self, apart: Option<&JobPool>) -> Result<(Self, Result<Step, Error>), JobError> {
        let work = move || {
            loop {
                match step(&mut self.connection, &mut self.incoming, &mut self.outgoing) {
                    Ok(Step::Again) => {}
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

/// Run a handshake to its end. `incoming` holds what was read of it already; `apart` is where to take its steps, if
/// they may take long.
pub(super) async fn drive<C: Unbuffered + Send + 'static>(
    connection: C,
    socket: &mut TcpStream,
    incoming: Vec<u8>,
    apart: Option<&JobPool>,
) -> Result<C, Cause> {
    let mut total = incoming.len();
    let mut handshake = Handshake { connection, incoming, outgoing: Vec::new() };
    loop {
        let taken;
        (handshake, taken) = handshake.advance(apart).await.map_err(Cause::Job)?;
        let Handshake { connection, incoming, outgoing } = &mut handshake;
        match taken {
            Ok(Step::Again) => {}
            Ok(Step::Send) => send(socket, outgoing).await?,
            Ok(Step::Read) => {
                let before = incoming.len();
                read_record(socket, incoming).await?;
                total += incoming.len() - before;
                if total > HANDSHAKE_BYTES_MAX {
                    return Err(Cause::HandshakeTooLong);
                }
            }
            Ok(Step::Done) => {
                send(socket, outgoing).await?;
                return Ok(handshake.connection);
            }
            Err(error) => {
                // rustls leaves the alert that explains the error in line.
                while let Ok(Step::Again) = step(connection, &mut Vec::new(), outgoing) {}
                let _ = send(socket, outgoing).await;
                return Err(Cause::Tls(error));
            }
        }
    }
}

fn step<C: Unbuffered>(
    connection: &mut C,
    incoming: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
) -> Result<Step, Error> {
    let UnbufferedStatus { discard, state } = connection.process(incoming);
    let step = match state? {
        ConnectionState::EncodeTlsData(mut data) => {
            let start = outgoing.len();
            let written = match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(size)) => {
                    outgoing.resize(start + size.required_size, 0);
                    data.encode(outgoing.get_mut(start..).unwrap_or_default())
                }
                other => other,
            };
            let written = written.map_err(|error| Error::General(error.to_string()))?;
            outgoing.truncate(start + written);
            Step::Again
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Send
        }
        ConnectionState::BlockedHandshake => Step::Read,
        ConnectionState::WriteTraffic(_) => Step::Done,
        _ => return Err(Error::General("the peer ended or sent data inside the handshake".to_owned())),
    };
    incoming.drain(..discard);
    Ok(step)
}

async fn send(socket: &mut TcpStream, outgoing: &mut Vec<u8>) -> Result<(), Cause> {
    if !outgoing.is_empty() {
        socket.write_all(outgoing).await.map_err(Cause::Socket)?;
        outgoing.clear();
    }
    Ok(())
}

/// Append exactly one record.
pub(super) async fn read_record(socket: &mut TcpStream, incoming: &mut Vec<u8>) -> Result<(), Cause> {
    let mut header = [0; HEADER_BYTES];
    socket.read_exact(&mut header).await.map_err(Cause::Socket)?;
    let [content, major, _, high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if !(20..=23).contains(&content) || major != 3 || HEADER_BYTES + length > RECORD_BYTES_MAX {
        return Err(Cause::NotTls);
    }
    let start = incoming.len();
    incoming.extend_from_slice(&header);
    incoming.resize(start + HEADER_BYTES + length, 0);
    let body = incoming.get_mut(start + HEADER_BYTES..).ok_or(Cause::Socket(io::ErrorKind::Other.into()))?;
    socket.read_exact(body).await.map_err(Cause::Socket)?;
    Ok(())
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
        let (client, server) = tokio::join!(
            drive(client, &mut near, Vec::new(), None),
            drive(server, &mut far, Vec::new(), apart),
        );
        client.unwrap();
        server.unwrap();
        std::mem::take(&mut *threads.lock().unwrap())
    }

    #[tokio::test]
    async fn a_slow_signature_is_made_on_the_pool_and_a_quick_one_here() {
        let pool = JobPool::start(1).unwrap();
        let here = std::thread::current().name().map(str::to_owned);
        for version in [&version::TLS13, &version::TLS12] {
            assert_eq!(signing_threads(version, Some(&pool)).await, [Some("crypto-0".to_owned())]);
            assert_eq!(signing_threads(version, None).await, std::slice::from_ref(&here));
        }
    }
}
