//! TLS records after the handshake.
//!
//! A record layer receives whole records into pooled buffers, opens them in place, lends the plaintext, and seals it
//! again in the same place for the other side. Every implementation offers `Receive` and `Transmit`: `user` works
//! in this process, `kernel` uses kernel TLS. Both leave the rotation of secrets and the client's tickets to rustls'
//! kernel connection. `plain` is for a session in clear text.

/// Pooled buffers, held only while octets are in them.
mod buffer;
/// How many buffers may be in use, which direction waits for one, and which has to give one back.
mod budget;
/// Sealing and opening of one record: keys, nonces and additional data.
mod aead;
/// Records beside application data: tickets, KeyUpdate, alerts.
mod post;
/// What both halves of a side share.
mod shared;
/// The order of records on the wire.
mod outlet;
/// The record layer in this process.
mod user;
/// The record layer in the kernel.
mod kernel;
/// No TLS: octets as they are.
mod plain;
/// What the kernel can do, and whether it is given a side's records.
pub mod offload;
/// What either layer costs on this machine.
pub mod measure;
/// Halves of either layer, and the hand-over from the handshake.
mod halves;
/// A finished handshake for tests and fuzz targets.
#[cfg(any(test, fuzzing))]
mod handshaken;
/// Halves on a real socket, for tests.
#[cfg(test)]
pub(crate) mod far;
/// Entry points of fuzz targets.
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;

use std::io;
use std::task::{Context, Poll};

pub use buffer::{Batch, Pool};
pub use halves::{Incoming, Outgoing, split};
pub use kernel::{KernelReceive, KernelTransmit, Spliced};
pub use plain::unsealed;
pub use post::{Alert, KernelSide};

pub(crate) use aead::{ContentType, EXPANSION_TLS12_BYTES_MAX, EXPANSION_TLS13_BYTES_MAX, HEADER_BYTES};
pub(crate) use buffer::BUFFER_BYTES;

/// RFC 8446 section 5.1: plaintext of one record.
pub(crate) const PLAINTEXT_BYTES_MAX: usize = 1 << 14;

/// What a receive returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The batch holds plaintext.
    Data,
    /// The peer's half has ended.
    End(StreamEnd),
}

/// How one half of a TLS connection ends: the peer's when it is received, ours when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// With `close_notify`: nothing is missing.
    Closed,
    /// Without it: something may be missing, and the receiver can see that.
    Truncated,
}

/// The receiving half of one side.
pub trait Receive {
    /// Receive the next plaintext, or the end. The batch's former content is dropped. While nothing is there, no buffer
    /// is held.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, LayerFault>>;

    /// The plaintext of the last [`Received::Data`].
    fn batch(&mut self) -> &mut Batch;

    /// The kernel's half, whose data can be spliced.
    fn kernel(&mut self) -> Option<&mut KernelReceive> {
        None
    }

    /// Octets that were copied within this process's memory.
    fn copied(&self) -> u64 {
        0
    }
}

/// The transmitting half of one side.
pub trait Transmit {
    /// Send what was released of a batch, from the buffer in which it stands. Ready when the kernel has taken all of it;
    /// until then, call again with the same batch.
    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>>;

    /// Queue words of our own: they are sent behind a batch that was begun, and before the next one. At most
    /// [`OWN_WORDS_BYTES_MAX`] at a time.
    ///
    /// # Errors
    /// The key's limit is reached, or the words are too long.
    fn queue(&mut self, words: &[u8]) -> Result<(), LayerFault>;

    /// Queue an alert, as words are. Nothing may follow a fatal one.
    ///
    /// # Errors
    /// The key's limit is reached.
    fn queue_alert(&mut self, alert: Alert) -> Result<(), LayerFault>;

    /// Send what is queued. A batch that was begun must be sent first (see [`Transmit::is_mid_batch`]).
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>>;

    /// Send what is queued, and close our half of the connection.
    fn poll_end(&mut self, cx: &mut Context<'_>, end: StreamEnd) -> Poll<Result<(), LayerFault>>;

    /// The kernel's half, into which data can be spliced.
    fn kernel(&mut self) -> Option<&mut KernelTransmit> {
        None
    }

    /// Whether octets of a batch were begun that the kernel has not wholly taken. Until [`Transmit::poll_send`] has finished it,
    /// nothing else can be sent.
    fn is_mid_batch(&self) -> bool;
}

/// Lent, so that a half can be used again when the borrower is done.
impl<R: Receive> Receive for &mut R {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, LayerFault>> {
        (**self).poll_receive(cx)
    }

    fn batch(&mut self) -> &mut Batch {
        (**self).batch()
    }

    fn kernel(&mut self) -> Option<&mut KernelReceive> {
        (**self).kernel()
    }

    fn copied(&self) -> u64 {
        (**self).copied()
    }
}

/// Lent, so that a half can be used again when the borrower is done.
impl<T: Transmit> Transmit for &mut T {
    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>> {
        (**self).poll_send(cx, batch)
    }

    fn queue(&mut self, words: &[u8]) -> Result<(), LayerFault> {
        (**self).queue(words)
    }

    fn queue_alert(&mut self, alert: Alert) -> Result<(), LayerFault> {
        (**self).queue_alert(alert)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>> {
        (**self).poll_flush(cx)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, end: StreamEnd) -> Poll<Result<(), LayerFault>> {
        (**self).poll_end(cx, end)
    }

    fn kernel(&mut self) -> Option<&mut KernelTransmit> {
        (**self).kernel()
    }

    fn is_mid_batch(&self) -> bool {
        (**self).is_mid_batch()
    }
}

/// Words of our own (a `* BYE`, a tagged NO) that may wait to be sent.
pub const OWN_WORDS_BYTES_MAX: usize = 8 * 1024;

/// What goes wrong with records.
#[derive(Debug, thiserror::Error)]
pub enum LayerFault {
    /// The socket failed.
    #[error("{call}: {source}")]
    System {
        /// The system call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The first octet of a record is no content type.
    #[error("octets that are no TLS record")]
    NotTls,
    /// A record that is too short, or whose authentication tag is wrong.
    #[error("a record that does not decrypt (damaged or forged)")]
    BadRecord,
    /// Longer than RFC 8446 section 5 allows.
    #[error("a record over the size that TLS allows")]
    RecordOverflow,
    /// A record or message out of place.
    #[error("a TLS record that may not come at this point")]
    UnexpectedRecord,
    /// A handshake message that cannot be parsed.
    #[error("a malformed TLS message")]
    Malformed,
    /// A field of a message with a value that TLS does not define.
    #[error("a TLS message with a value that TLS does not know")]
    IllegalParameter,
    /// Post-handshake message over its bound.
    #[error("a TLS handshake message over {} octets", post::HANDSHAKE_BYTES_MAX)]
    MessageTooLong,
    /// Many records without application data.
    #[error("over {} TLS control records in a row without data", post::CONTROL_RECORDS_MAX)]
    ControlFlood,
    /// TLS 1.2 renegotiation, from either side.
    #[error("the peer asked for TLS renegotiation, which is refused")]
    Renegotiation,
    /// The peer ended with a fatal alert.
    #[error("the peer ended TLS with the fatal alert {0}")]
    PeerAlert(Alert),
    /// Under `offload = "always"`, the kernel cannot take a half.
    #[error("tls.offload is \"always\" and the kernel cannot take this connection: {why}")]
    NotOffloaded {
        /// What the kernel lacks.
        why: String,
    },
    /// The peer, or the limit on records, requires a change of keys, and this kernel's TLS cannot change keys.
    #[error(
        "the keys must be changed (KeyUpdate) and this kernel's TLS cannot: Linux 6.14 can, and with tls.offload = \"never\" \
         every kernel"
    )]
    NoKeyChange,
    /// The cipher's limit is reached and this version of TLS cannot change keys.
    #[error("the cipher's limit on records under one key is reached and TLS 1.2 cannot change it")]
    ConfidentialityLimit,
    /// rustls refused to rotate a secret.
    #[error("rotating a traffic secret: {0}")]
    Rotation(rustls::Error),
    /// A cipher or version that was never offered.
    #[error("a cipher or TLS version that was not offered")]
    UnknownCipher,
    /// Buffers were short, and this direction held one in which nothing moved.
    #[error(
        "a peer moved nothing for {} s while other sessions waited for its buffer: memory is short, raise limits.memory",
        budget::STUCK_TIME_MAX.as_secs()
    )]
    MemoryShortage,
    /// Encryption itself failed.
    #[error("sealing a record failed")]
    SealFailed,
    /// A record was to be sent behind a batch that was sealed, not wholly sent, and given up.
    #[error("records were left half sent, and nothing can be said behind them")]
    Unfinished,
}

impl LayerFault {
    /// The token in records.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::System { .. } => "socket_error",
            Self::NotTls => "not_tls",
            Self::BadRecord => "bad_record",
            Self::RecordOverflow => "record_overflow",
            Self::UnexpectedRecord => "unexpected_record",
            Self::Malformed => "malformed_message",
            Self::IllegalParameter => "illegal_parameter",
            Self::MessageTooLong => "message_too_long",
            Self::ControlFlood => "control_record_flood",
            Self::Renegotiation => "renegotiation_refused",
            Self::PeerAlert(_) => "peer_alert",
            Self::NotOffloaded { .. } => "offload_refused",
            Self::NoKeyChange => "key_update_unsupported",
            Self::ConfidentialityLimit => "confidentiality_limit",
            Self::Rotation(_) => "secret_rotation_failed",
            Self::UnknownCipher => "unknown_cipher",
            Self::MemoryShortage => "memory_shortage",
            Self::SealFailed => "seal_failed",
            Self::Unfinished => "send_unfinished",
        }
    }

    /// The alert for the peer at fault; `None` where it is sent none (RFC 8446 section 6.2).
    #[must_use]
    pub const fn alert(&self) -> Option<Alert> {
        match self {
            Self::System { .. } | Self::PeerAlert(_) | Self::Unfinished => None,
            Self::NotTls | Self::UnexpectedRecord | Self::ControlFlood => Some(Alert::UNEXPECTED_MESSAGE),
            Self::BadRecord => Some(Alert::BAD_RECORD_MAC),
            Self::RecordOverflow => Some(Alert::RECORD_OVERFLOW),
            Self::Malformed | Self::MessageTooLong => Some(Alert::DECODE_ERROR),
            Self::IllegalParameter => Some(Alert::ILLEGAL_PARAMETER),
            Self::Renegotiation => Some(Alert::HANDSHAKE_FAILURE),
            Self::ConfidentialityLimit | Self::NoKeyChange => Some(Alert::CLOSE_NOTIFY),
            Self::Rotation(_) | Self::UnknownCipher | Self::SealFailed => Some(Alert::INTERNAL_ERROR),
            Self::NotOffloaded { .. } | Self::MemoryShortage => None,
        }
    }
}
