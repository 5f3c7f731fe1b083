//! Records beside application data: tickets, KeyUpdate, alerts.
//!
//! rustls' kernel connection rotates secrets and stores tickets. Encoding, reassembly, alignment and bounds are done
//! here (RFC 8446 sections 4.6, 5.1 and 6).

use std::fmt;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ConnectionTrafficSecrets, ProtocolVersion, SupportedCipherSuite};

use super::LayerFault;
use super::aead::ContentType;

/// Octets of a post-handshake message that are kept until it is whole. Session tickets are a few hundred octets; one
/// that holds a certificate chain still fits.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 16 * 1024;
/// Octets that a NewSessionTicket can have by the lengths of its fields (RFC 8446 section 4.6.1): lifetime and age, a
/// nonce, a ticket, extensions. One that is longer than [`HANDSHAKE_BYTES_MAX`] is skipped: resumption is optional.
const TICKET_BYTES_MAX: usize = 4 + 4 + (1 + 0xff) + (2 + 0xffff) + (2 + 0xfffe);
/// Records without application data that may come in a row: rustls' own bound on KeyUpdates.
pub(super) const CONTROL_RECORDS_MAX: u32 = 32;

const HANDSHAKE_HEADER_BYTES: usize = 4;
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
pub(super) const KEY_UPDATE: u8 = 24;
const UPDATE_NOT_REQUESTED: u8 = 0;
const UPDATE_REQUESTED: u8 = 1;

/// A KeyUpdate that requests none in return (RFC 8446 section 4.6.3).
pub(super) const KEY_UPDATE_MESSAGE: [u8; 5] = [KEY_UPDATE, 0, 0, 1, UPDATE_NOT_REQUESTED];

/// An alert's description (RFC 8446 section 6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Alert(u8);

impl Alert {
    /// The sender will send nothing more.
    pub const CLOSE_NOTIFY: Self = Self(0);
    /// A record or message out of place.
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    /// A record that does not decrypt.
    pub const BAD_RECORD_MAC: Self = Self(20);
    /// A record too long.
    pub const RECORD_OVERFLOW: Self = Self(22);
    /// Parameters that cannot be agreed on.
    pub const HANDSHAKE_FAILURE: Self = Self(40);
    /// A certificate that does not satisfy us.
    pub const BAD_CERTIFICATE: Self = Self(42);
    /// A field of a message with a value that TLS does not define.
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    /// A message that cannot be parsed.
    pub const DECODE_ERROR: Self = Self(50);
    /// A fault that is not the peer's.
    pub const INTERNAL_ERROR: Self = Self(80);
    /// A version that is older than both sides speak (RFC 7507 section 2).
    pub const INAPPROPRIATE_FALLBACK: Self = Self(86);
    /// The handshake was given up for a reason outside the protocol.
    pub const USER_CANCELED: Self = Self(90);
    /// A required extension is missing.
    pub const MISSING_EXTENSION: Self = Self(109);
    /// No protocol in common (RFC 7301 section 3.2).
    pub const NO_APPLICATION_PROTOCOL: Self = Self(120);

    /// The octet that stands for it.
    pub(crate) const fn octet(self) -> u8 {
        self.0
    }

    /// The record's two octets: close_notify and user_canceled are warnings, all others are fatal.
    pub(crate) const fn encode(self) -> [u8; 2] {
        let level = if self.0 == Self::CLOSE_NOTIFY.0 || self.0 == Self::USER_CANCELED.0 { 1 } else { 2 };
        [level, self.0]
    }

    /// A whole record in clear text, for peers with which no key was agreed on yet.
    #[must_use]
    pub const fn clear_record(self) -> [u8; 7] {
        let [level, description] = self.encode();
        [ContentType::Alert.octet(), 3, 3, 0, 2, level, description]
    }
}

impl From<AlertDescription> for Alert {
    fn from(description: AlertDescription) -> Self {
        Self(description.into())
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", AlertDescription::from(self.0), self.0)
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// rustls' kernel connection of one side, which rotates secrets and keeps tickets. Its records are sealed and opened
/// elsewhere.
pub enum KernelSide {
    /// We are the client: the upstream side.
    Client(KernelConnection<ClientConnectionData>),
    /// We are the server: the downstream side.
    Server(KernelConnection<ServerConnectionData>),
}

impl KernelSide {
    /// The negotiated version.
    #[must_use]
    pub fn version(&self) -> ProtocolVersion {
        match self {
            Self::Client(connection) => connection.protocol_version(),
            Self::Server(connection) => connection.protocol_version(),
        }
    }

    /// The negotiated cipher suite.
    #[must_use]
    pub fn suite(&self) -> SupportedCipherSuite {
        match self {
            Self::Client(connection) => connection.negotiated_cipher_suite(),
            Self::Server(connection) => connection.negotiated_cipher_suite(),
        }
    }

    pub(super) fn next_receive(&mut self) -> Result<(u64, ConnectionTrafficSecrets), LayerFault> {
        match self {
            Self::Client(connection) => connection.update_rx_secret(),
            Self::Server(connection) => connection.update_rx_secret(),
        }
        .map_err(LayerFault::Rotation)
    }

    pub(super) fn next_transmit(&mut self) -> Result<(u64, ConnectionTrafficSecrets), LayerFault> {
        match self {
            Self::Client(connection) => connection.update_tx_secret(),
            Self::Server(connection) => connection.update_tx_secret(),
        }
        .map_err(LayerFault::Rotation)
    }

    fn ticket(&mut self, payload: &[u8]) -> Result<(), LayerFault> {
        match self {
            Self::Client(connection) => {
                connection.handle_new_session_ticket(payload).map_err(|_| LayerFault::Malformed)
            }
            Self::Server(_) => Err(LayerFault::UnexpectedRecord),
        }
    }
}

/// What a control record requires of the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// Nothing more.
    Done,
    /// Change the receiving key and, with `reply`, the sending key before the next data.
    KeyUpdate { reply: bool },
    /// The peer will send nothing more.
    Closed,
}

/// Reassembles and bounds the messages beside application data.
#[derive(Default)]
pub(super) struct PostHandshake {
    partial: Vec<u8>,
    /// Octets of a skipped ticket that are still to come.
    passing: usize,
    in_a_row: u32,
}

impl PostHandshake {
    /// Octets of an incomplete message.
    #[cfg(fuzzing)]
    pub(super) fn kept(&self) -> usize {
        self.partial.len()
    }

    /// Note application data: the count of control records begins anew, and no message may be incomplete.
    pub(super) fn data(&mut self) -> Result<(), LayerFault> {
        self.in_a_row = 0;
        if self.is_aligned() { Ok(()) } else { Err(LayerFault::UnexpectedRecord) }
    }

    /// Whether no message is incomplete.
    fn is_aligned(&self) -> bool {
        self.partial.is_empty() && self.passing == 0
    }

    /// Count a record that carries no data: a control record, or an empty one.
    pub(super) fn count(&mut self) -> Result<(), LayerFault> {
        self.in_a_row += 1;
        if self.in_a_row > CONTROL_RECORDS_MAX { Err(LayerFault::ControlFlood) } else { Ok(()) }
    }

    /// The content of an alert record.
    pub(super) fn alert(&self, content: &[u8], version: ProtocolVersion) -> Result<Control, LayerFault> {
        // RFC 8446 section 5.4: an alert record without content is unexpected, not malformed.
        if content.is_empty() || !self.is_aligned() {
            return Err(LayerFault::UnexpectedRecord);
        }
        let &[level, description] = content else {
            return Err(LayerFault::Malformed);
        };
        match Alert(description) {
            Alert::CLOSE_NOTIFY => Ok(Control::Closed),
            Alert::USER_CANCELED => Ok(Control::Done),
            // TLS 1.3 has no other warnings: whatever the level says, the connection is over (RFC 8446 section 6.2).
            _ if level == 1 && version == ProtocolVersion::TLSv1_2 => Ok(Control::Done),
            alert => Err(LayerFault::PeerAlert(alert)),
        }
    }

    /// The content of a handshake record: any number of messages, the last one perhaps cut.
    pub(super) fn handshake(
        &mut self,
        content: &[u8],
        kernel: &mut KernelSide,
    ) -> Result<Control, LayerFault> {
        // RFC 8446 section 5.1: zero-length handshake fragments must not be sent.
        if content.is_empty() {
            return Err(LayerFault::UnexpectedRecord);
        }
        let content = self.pass(content);
        if self.partial.is_empty() {
            return self.messages(content, kernel);
        }
        if self.partial.len() + content.len() > HANDSHAKE_HEADER_BYTES + 2 * HANDSHAKE_BYTES_MAX {
            return Err(LayerFault::MessageTooLong);
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(content);
        self.messages(&joined, kernel)
    }

    /// Skip octets of a long ticket, and return what stands behind them.
    fn pass<'a>(&mut self, content: &'a [u8]) -> &'a [u8] {
        let passed = self.passing.min(content.len());
        self.passing -= passed;
        content.get(passed..).unwrap_or_default()
    }

    fn messages(&mut self, mut rest: &[u8], kernel: &mut KernelSide) -> Result<Control, LayerFault> {
        while !rest.is_empty() {
            if let Some(length) = long_ticket(rest, kernel) {
                self.passing = HANDSHAKE_HEADER_BYTES + length;
                rest = self.pass(rest);
                continue;
            }
            let Some((message, after)) = cut_message(rest)? else {
                self.partial = rest.to_vec();
                return Ok(Control::Done);
            };
            match (message.kind, kernel.version(), &*kernel) {
                (NEW_SESSION_TICKET, ProtocolVersion::TLSv1_3, KernelSide::Client(_)) => {
                    kernel.ticket(message.payload)?;
                }
                (KEY_UPDATE, ProtocolVersion::TLSv1_3, _) => {
                    let reply = match message.payload {
                        [UPDATE_NOT_REQUESTED] => false,
                        [UPDATE_REQUESTED] => true,
                        // RFC 8446 section 4.6.3.
                        [_] => return Err(LayerFault::IllegalParameter),
                        _ => return Err(LayerFault::Malformed),
                    };
                    // RFC 8446 section 5.1: a message may not share its record with one under another key.
                    if !after.is_empty() {
                        return Err(LayerFault::UnexpectedRecord);
                    }
                    return Ok(Control::KeyUpdate { reply });
                }
                (HELLO_REQUEST, ProtocolVersion::TLSv1_2, KernelSide::Client(_))
                | (CLIENT_HELLO, ProtocolVersion::TLSv1_2, KernelSide::Server(_)) => {
                    return Err(LayerFault::Renegotiation);
                }
                _ => return Err(LayerFault::UnexpectedRecord),
            }
            rest = after;
        }
        Ok(Control::Done)
    }
}

struct HandshakeMessage<'a> {
    kind: u8,
    payload: &'a [u8],
}

/// A message's type, its length as announced, and what follows the header; `None` when the header is cut.
fn cut_header(bytes: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (&[kind, a, b, c], rest) = bytes.split_first_chunk::<HANDSHAKE_HEADER_BYTES>()?;
    Some((kind, usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX), rest))
}

/// The length of the ticket that `bytes` begins with, if it is too long to be kept and a server may send it.
fn long_ticket(bytes: &[u8], kernel: &KernelSide) -> Option<usize> {
    let (kind, length, _) = cut_header(bytes)?;
    let may_come = kernel.version() == ProtocolVersion::TLSv1_3 && matches!(kernel, KernelSide::Client(_));
    let long = (HANDSHAKE_BYTES_MAX + 1..=TICKET_BYTES_MAX).contains(&length);
    (kind == NEW_SESSION_TICKET && may_come && long).then_some(length)
}

/// The first message of `bytes` and what follows it; `None` when it is cut.
fn cut_message(bytes: &[u8]) -> Result<Option<(HandshakeMessage<'_>, &[u8])>, LayerFault> {
    let Some((kind, length, rest)) = cut_header(bytes) else {
        return Ok(None);
    };
    if length > HANDSHAKE_BYTES_MAX {
        return Err(LayerFault::MessageTooLong);
    }
    Ok(rest.split_at_checked(length).map(|(payload, after)| (HandshakeMessage { kind, payload }, after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8446 section 5.4.
    #[test]
    fn an_alert_record_without_content_is_unexpected() {
        for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
            let fault = PostHandshake::default().alert(&[], version).unwrap_err();
            assert_eq!(fault.alert(), Some(Alert::UNEXPECTED_MESSAGE), "{fault}");
        }
    }
}
