//! One driver over rustls' unbuffered API for both sides. It reads whole records and not one octet more: ciphertext
//! that is read too far cannot be given to another record layer.

use std::io;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{Error, ExtractedSecrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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

/// Run a handshake to its end. `incoming` holds what was read of it already.
pub(super) async fn drive<C: Unbuffered>(
    connection: &mut C,
    socket: &mut TcpStream,
    mut incoming: Vec<u8>,
) -> Result<(), Cause> {
    let mut outgoing = Vec::new();
    let mut total = incoming.len();
    loop {
        match step(connection, &mut incoming, &mut outgoing) {
            Ok(Step::Again) => {}
            Ok(Step::Send) => send(socket, &mut outgoing).await?,
            Ok(Step::Read) => {
                let before = incoming.len();
                read_record(socket, &mut incoming).await?;
                total += incoming.len() - before;
                if total > HANDSHAKE_BYTES_MAX {
                    return Err(Cause::HandshakeTooLong);
                }
            }
            Ok(Step::Done) => return send(socket, &mut outgoing).await,
            Err(error) => {
                // rustls leaves the alert that explains the error in line.
                while let Ok(Step::Again) = step(connection, &mut Vec::new(), &mut outgoing) {}
                let _ = send(socket, &mut outgoing).await;
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
