//! From a chain and a key to a `rustls::ServerConfig`: versions, ALPN, tickets per class.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, SupportedProtocolVersion, version};

use super::super::alerts::provider;
use super::Class;
use crate::config::TlsVersion;

/// The only application protocol that is spoken here (RFC 8314 and the IANA ALPN registry).
const ALPN_IMAP: &[u8] = b"imap";

/// What all leaves are served with.
pub(super) struct Serving {
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
    /// One ticketer per class: a ticket of one never resumes a session of the other.
    verified: Arc<dyn ProducesTickets>,
    allowed: Arc<dyn ProducesTickets>,
}

impl Serving {
    /// Fresh ticket keys: sessions of an older policy do not resume.
    pub(super) fn new(oldest: TlsVersion) -> Result<Self, rustls::Error> {
        Ok(Self {
            provider: provider(),
            versions: versions(oldest),
            verified: rustls::crypto::aws_lc_rs::Ticketer::new()?,
            allowed: rustls::crypto::aws_lc_rs::Ticketer::new()?,
        })
    }

    /// A configuration that shows this certificate to every client.
    pub(super) fn config(
        &self,
        certified: Arc<CertifiedKey>,
        class: Class,
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
        match class {
            Class::Verified => config.ticketer = Arc::clone(&self.verified),
            Class::Allowed => config.ticketer = Arc::clone(&self.allowed),
            // A resumed client would never see that certificate again.
            Class::Mirrored | Class::Blocked | Class::Absent => config.send_tls13_tickets = 0,
        }
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("versions", &self.versions).finish_non_exhaustive()
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
