//! The process that holds private keys: the authority's, and those of configured certificates.
//!
//! It reads no octet of a peer's: the worker asks it for signatures, and it looks at what it signs. A worker that was
//! taken over gets leaves of the authority's and handshakes of configured certificates as long as it runs, and no
//! certificate of another kind, no other signature and no key.

/// What the processes say to it, and it to them.
mod protocol;
/// The keys, by generation of policy.
mod keys;
/// What it signs with the authority's key.
mod leaf_rules;
/// What it signs with a configured certificate's key.
mod handshake_rules;
/// Its loop.
mod process;
/// The worker's side.
mod link;
/// The supervisor's side.
mod control;
/// Who signs for a policy: this process, or that one.
mod signing;
/// Its rules, for a fuzz target.
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;

pub(crate) use self::control::{SignerControl, SignerLoadError};
pub(crate) use self::keys::{KEY_FILE_BYTES_MAX, KeyFault, Keys, facts, open_key};
pub(crate) use self::link::SignerLink;
pub(crate) use self::process::serve;
pub(crate) use self::protocol::{KeyFacts, SignFault, SignerReport};
pub(crate) use self::signing::{ConfiguredKey, Signing};
