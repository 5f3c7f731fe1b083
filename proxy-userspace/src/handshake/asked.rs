//! What a server says that rustls tells to callbacks alone: its request for a client certificate, and the OCSP response
//! that it staples.
//!
//! A server may ask for a client certificate. Postern has none: the key never leaves the client, and the client's
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
use super::revocation::OCSP_RESPONSE_BYTES_MAX;
use crate::failure::Cause;
use crate::layer::KernelSide;

thread_local! {
    /// A server asked during the call into rustls that runs on this thread. One resolver answers for all connections,
    /// because rustls resumes sessions only under the resolver that they began with.
    static ASKED: Cell<bool> = const { Cell::new(false) };
    /// The OCSP response that came in this call. There is one verifier for all connections, for the same reason.
    static STAPLED: Cell<Option<Arc<[u8]>>> = const { Cell::new(None) };
}

/// Notes the OCSP response of the server whose handshake this thread is in; of a longer one than is read, enough to see
/// that.
pub(super) fn stapled(response: &[u8]) {
    let read = response.get(..=OCSP_RESPONSE_BYTES_MAX).unwrap_or(response);
    STAPLED.set(Some(read.into()));
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

/// rustls' connection to a server, which remembers what the server said.
pub(super) struct Upstream {
    pub(super) connection: UnbufferedClientConnection,
    /// It asked for a client certificate.
    pub(super) asked: bool,
    /// The OCSP response, empty where it sent none; `None` where no certificate came, because a session was resumed.
    pub(super) staple: Option<Arc<[u8]>>,
}

impl Upstream {
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        Ok(Self { connection: UnbufferedClientConnection::new(config, name)?, asked: false, staple: None })
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
        STAPLED.set(None);
        let status = self.connection.process_tls_records(incoming);
        self.asked |= ASKED.take();
        if let Some(staple) = STAPLED.take() {
            self.staple = Some(staple);
        }
        status
    }

    fn common(&self) -> &CommonState {
        self.connection.common()
    }

    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelSide), Error> {
        self.connection.into_kernel()
    }
}
