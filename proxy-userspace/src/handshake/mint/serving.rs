//! From a chain and a key to a `rustls::ServerConfig`: versions, ALPN, tickets that belong to one leaf.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, SupportedProtocolVersion, version};

use super::super::profile::provider_of;
use super::LeafClass;
use crate::config::{Tls, TlsVersion};

/// The only application protocol that is spoken here (RFC 8314 and the IANA ALPN registry).
const ALPN_IMAP: &[u8] = b"imap";

/// Octets in front of a ticket's session: one for the class, 32 for the leaf's fingerprint.
const BINDING_BYTES: usize = 1 + 32;

/// What all leaves are served with.
pub(super) struct Serving {
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
    /// Holds and rotates the keys of all tickets; [`LeafTickets`] says whose each ticket is.
    ticketer: Arc<dyn ProducesTickets>,
}

/// For whom a configuration is, as far as tickets depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audience {
    /// What became of the server's certificate.
    pub(super) class: LeafClass,
    /// Whether the client sent a name. One that did not has its own check of the leaf as its only protection, and a
    /// resumed handshake shows no leaf.
    pub(super) named: bool,
}

impl Audience {
    /// Whether a later session may do without the certificate, which only a full handshake shows: never after a
    /// warning or a refusal that the client must see again.
    pub(super) const fn may_resume(self) -> bool {
        self.named && matches!(self.class, LeafClass::Verified | LeafClass::Allowed)
    }
}

impl Serving {
    /// Fresh ticket keys: sessions of an older policy do not resume.
    pub(super) fn new(tls: &Tls) -> Result<Self, rustls::Error> {
        Ok(Self {
            provider: provider_of(tls),
            versions: versions(tls.min_version),
            ticketer: rustls::crypto::aws_lc_rs::Ticketer::new()?,
        })
    }

    /// A configuration that shows this certificate to every client; `leaf` is the SHA-256 of its first certificate.
    pub(super) fn config(
        &self,
        certified: Arc<CertifiedKey>,
        leaf: [u8; 32],
        audience: Audience,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(self.versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN_IMAP.to_vec()];
        config.enable_secret_extraction = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // RFC 8446 section 8: early data can be replayed, and IMAP commands are not idempotent.
        config.max_early_data_size = 0;
        if audience.may_resume() {
            config.ticketer = Arc::new(LeafTickets::new(Arc::clone(&self.ticketer), audience.class, leaf));
        } else {
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("versions", &self.versions).finish_non_exhaustive()
    }
}

/// Tickets that are good for one leaf and class, whatever other leaves share the keys: the session inside begins with
/// the class and the leaf's fingerprint. Without this a client would resume at another server, whose certificate it
/// never saw, what it began at the first.
struct LeafTickets {
    keys: Arc<dyn ProducesTickets>,
    binding: [u8; BINDING_BYTES],
}

impl LeafTickets {
    fn new(keys: Arc<dyn ProducesTickets>, class: LeafClass, leaf: [u8; 32]) -> Self {
        let mut binding = [0; BINDING_BYTES];
        if let Some((first, rest)) = binding.split_first_mut() {
            *first = class as u8;
            rest.copy_from_slice(&leaf);
        }
        Self { keys, binding }
    }
}

impl ProducesTickets for LeafTickets {
    fn enabled(&self) -> bool {
        self.keys.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.keys.lifetime()
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.keys.encrypt(&[self.binding.as_slice(), session].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let bound = self.keys.decrypt(ticket)?;
        bound.strip_prefix(self.binding.as_slice()).map(<[u8]>::to_vec)
    }
}

impl fmt::Debug for LeafTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafTickets").finish_non_exhaustive()
    }
}

/// Newest first.
static FROM_TLS12: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
static FROM_TLS13: [&SupportedProtocolVersion; 1] = [&version::TLS13];

/// Protocol versions from the oldest allowed one, for either side.
#[must_use]
pub fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match oldest {
        TlsVersion::Tls12 => &FROM_TLS12,
        TlsVersion::Tls13 => &FROM_TLS13,
    }
}
