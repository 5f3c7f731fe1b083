//! One driver over rustls' unbuffered API for both sides. It reads whole records and not one octet more: ciphertext
//! that is read too far cannot be given to another record layer.

use std::io;
use std::ops::Deref;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error, ExtractedSecrets, InvalidMessage, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::alerts::{alert_for, instead};
use crate::failure::Cause;
use crate::layer::{
    Alert, ContentType, EXPANSION_TLS12_BYTES_MAX, EXPANSION_TLS13_BYTES_MAX, HEADER_BYTES, KernelSide,
    LayerFault, PLAINTEXT_BYTES_MAX,
};

/// Octets that a peer may send in one handshake: certificate chains are a few KiB, post-quantum keys one.
pub const HANDSHAKE_BYTES_MAX: usize = 256 * 1024;

/// rustls' two unbuffered connections, seen alike.
pub(super) trait Unbuffered: Sized {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn common(&self) -> &CommonState;
    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelSide), Error>;
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
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
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn common(&self) -> &CommonState {
        self.deref()
    }
    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelSide), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, kernel)| (secrets, KernelSide::Server(kernel)))
    }
}

/// A handshake that came to no end.
#[derive(Debug)]
pub(super) struct Broken<C> {
    /// As it is now.
    pub(super) connection: C,
    /// What ended it.
    pub(super) cause: Cause,
    /// The records for the peer that say so: sealed where it has keys.
    pub(super) words: Vec<u8>,
}

/// Run a handshake to its end. `incoming` holds what was read of it already.
///
/// # Errors
/// What ended it.
pub(super) async fn drive<C: Unbuffered>(
    connection: C,
    socket: &mut TcpStream,
    incoming: Vec<u8>,
) -> Result<C, Broken<C>> {
    let mut driver = Driver {
        connection,
        total: incoming.len(),
        incoming,
        last_record: 0,
        outgoing: Vec::new(),
        changed_cipher: false,
    };
    match driver.run(socket).await {
        Ok(()) => Ok(driver.connection),
        Err(cause) => {
            driver.explain(&cause);
            Err(Broken { connection: driver.connection, cause, words: driver.outgoing })
        }
    }
}

enum Step {
    Again,
    Send,
    Read,
    Done,
}

/// A connection and the one buffer that it is shown. Between two steps rustls remembers where in this buffer a message
/// began that is not whole yet, so it panics when it is shown another one: nothing but [`Self::step`] shows it any.
struct Driver<C> {
    connection: C,
    incoming: Vec<u8>,
    /// Where in `incoming` the record begins that was read last, or that is to be read.
    last_record: usize,
    outgoing: Vec<u8>,
    /// Octets of the peer so far.
    total: usize,
    /// The peer sent a ChangeCipherSpec: under TLS 1.2 its records are sealed from then on.
    changed_cipher: bool,
}

impl<C: Unbuffered> Driver<C> {
    async fn run(&mut self, socket: &mut TcpStream) -> Result<(), Cause> {
        loop {
            match self.step().map_err(tls)? {
                Step::Again => {}
                Step::Send => self.send(socket).await?,
                Step::Read => self.read(socket).await?,
                Step::Done => return self.send(socket).await,
            }
        }
    }

    fn step(&mut self) -> Result<Step, Error> {
        let UnbufferedStatus { discard, state } = self.connection.process(&mut self.incoming);
        let step = state.and_then(|state| match state {
            ConnectionState::EncodeTlsData(mut data) => {
                encode(|room| data.encode(room), &mut self.outgoing)?;
                Ok(Step::Again)
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Ok(Step::Send)
            }
            ConnectionState::BlockedHandshake => Ok(Step::Read),
            ConnectionState::WriteTraffic(_) => Ok(Step::Done),
            _ => Err(Error::General("the peer ended or sent data inside the handshake".to_owned())),
        });
        // An error leaves octets to be discarded, too.
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

    async fn read(&mut self, socket: &mut TcpStream) -> Result<(), Cause> {
        let sealed = match self.connection.common().protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Sealed::Tls13,
            Some(_) if self.changed_cipher => Sealed::Tls12,
            _ => Sealed::Nothing,
        };
        self.last_record = self.incoming.len();
        let content = read_record(socket, &mut self.incoming, sealed).await?;
        self.changed_cipher |= content == ContentType::ChangeCipherSpec;
        self.total += self.incoming.len() - self.last_record;
        if self.total > HANDSHAKE_BYTES_MAX { Err(Cause::HandshakeTooLong) } else { Ok(()) }
    }

    /// Put the alert in line that tells the peer what happened.
    fn explain(&mut self, cause: &Cause) {
        if self.connection.common().wants_write() {
            // rustls has its own.
            self.take_line();
        } else if let Some(alert) = alert_for(cause) {
            self.provoke(alert);
        }
    }

    /// Take over what rustls has in line. It looks at nothing of `incoming` while something is there.
    fn take_line(&mut self) {
        while self.connection.common().wants_write() && matches!(self.step(), Ok(Step::Again)) {}
    }

    /// Make rustls send an alert, and have it say this: what it looks at next, be it the record that it has just
    /// refused or one that follows, has a header that is none.
    fn provoke(&mut self, alert: Alert) {
        self.incoming.extend_from_slice(&[0; HEADER_BYTES]);
        if let Some(content) = self.incoming.get_mut(self.last_record) {
            *content = 0;
        }
        let line = self.outgoing.len();
        let _ = instead(alert, || self.step());
        self.take_line();
        // Where no key was agreed on yet, nothing was sealed.
        if let Some([kind, _, _, 0, 2, _, description]) = self.outgoing.get_mut(line..)
            && *kind == ContentType::Alert.octet()
        {
            *description = alert.octet();
        }
    }
}

/// A message over rustls' bound is told like a handshake over ours.
pub(super) fn tls(error: Error) -> Cause {
    match error {
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => Cause::HandshakeTooLong,
        error => Cause::Tls(error),
    }
}

/// Append what rustls has to say.
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

/// What a peer seals its records with: its answer is how much longer than their plaintext they may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sealed {
    /// No key was agreed on yet.
    Nothing,
    /// TLS 1.2, behind its ChangeCipherSpec.
    Tls12,
    /// TLS 1.3: what is sealed looks like application data.
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

/// Append exactly one record. A header that no record can have is refused before anything behind it is read
/// (RFC 8446 sections 5 to 5.4).
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
