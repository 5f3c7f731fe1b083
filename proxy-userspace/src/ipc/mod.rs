//! What the processes of one daemon say to each other.

/// What a child process is told first.
mod begin;
/// Typed messages with descriptors, over a pair of Unix sockets.
mod channel;
/// Memory that is written once, sealed, and passed as a descriptor: what is too large for a message.
mod sealed;

pub(crate) use self::begin::{Began, Begin, begin};
#[cfg(test)]
pub(crate) use self::channel::MESSAGE_BYTES_MAX;
pub(crate) use self::channel::{AsyncChannel, Channel, DESCRIPTORS_MAX, IpcError};
pub(crate) use self::sealed::{SealedError, map_sealed, read_sealed, seal, seal_parts};
