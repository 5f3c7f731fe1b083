//! What operators and attackers would notice about verification and leaves: which faults are found, what the client
//! is shown, who accepts it, and what stays bounded.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

/// Authorities and certificates, good and bad.
mod pki;
/// Whole handshakes in memory.
mod client;
/// The server's certificate is judged.
mod verification;
/// OCSP responses of a test's authorities.
mod responses;
/// The server's certificate was revoked, or may have been.
mod revocation;
/// The client is shown another.
mod leaves;
/// The owner's own certificates.
mod configured;
/// A client comes back.
mod resumption;
/// What is done off the callers' threads.
mod threads;
