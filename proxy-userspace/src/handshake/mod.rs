//! Handshake: upstream first, then the client, ending in secrets, sequence numbers and rustls' kernel connection.

/// The clear-text dialogue on port 143 until STARTTLS, without I/O.
pub mod clear;
/// Judging the server's certificate: every fault, one verdict.
pub mod verify;
/// Leaves: minted from the re-signing authority or configured, cached, bounded.
pub mod mint;
