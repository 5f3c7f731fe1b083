//! Whether a server asks for a client certificate. Postern has none: the key never leaves the client, and the client's
//! signature is over another handshake. So Postern answers with no certificate, and tells a refusal for that reason
//! apart from other alerts.

use std::cell::Cell;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, ResolvesClientCert, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::unbuffered::UnbufferedStatus;
use rustls::{AlertDescription, ClientConfig, CommonState, Error, ExtractedSecrets, SignatureScheme};

use super::drive::Unbuffered;
use crate::failure::Cause;
use crate::layer::KernelSide;

thread_local! {
    /// A server asked during the call into rustls that runs on this thread. One resolver answers for all connections,
    /// because rustls resumes sessions only under the resolver that they began with.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Answers with no certificate, and notes that the server asked.
#[derive(Debug)]
pub(super) struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        ASKED.set(true);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// rustls' connection to a server, which remembers whether it was asked for a certificate.
pub(super) struct Upstream {
    pub(super) connection: UnbufferedClientConnection,
    pub(super) asked: bool,
}

impl Upstream {
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        Ok(Self { connection: UnbufferedClientConnection::new(config, name)?, asked: false })
    }

    /// What a failed handshake with the server means.
    pub(super) fn explain(&self, cause: Cause) -> Cause {
        match cause {
            // Under TLS 1.2 the refusal comes inside the handshake.
            Cause::Tls(Error::AlertReceived(alert)) if self.asked => {
                Cause::ClientCertificateWanted(alert.into())
            }
            Cause::Tls(error) if self.has_nothing_in_common(&error) => Cause::TlsIncompatible(error),
            cause => cause,
        }
    }

    /// Whether server and Postern have no TLS in common. A server then sends one of these alerts in place of its
    /// ServerHello (RFC 8446 section 6.2).
    fn has_nothing_in_common(&self, error: &Error) -> bool {
        match error {
            Error::AlertReceived(
                AlertDescription::HandshakeFailure
                | AlertDescription::ProtocolVersion
                | AlertDescription::InsufficientSecurity,
            ) => self.connection.protocol_version().is_none(),
            Error::PeerIncompatible(_) => true,
            _ => false,
        }
    }
}

impl Unbuffered for Upstream {
    type RustlsData = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::RustlsData> {
        ASKED.set(false);
        let status = self.connection.process_tls_records(incoming);
        self.asked |= ASKED.take();
        status
    }

    fn common(&self) -> &CommonState {
        self.connection.common()
    }

    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelSide), Error> {
        self.connection.into_kernel()
    }
}
