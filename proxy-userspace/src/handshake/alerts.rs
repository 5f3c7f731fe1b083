//! Alerts in handshakes: which alert tells which fault, and how it is sealed with keys that only rustls has.
//!
//! rustls chooses its alerts itself, and leaves some faults without one. Faults that the driver finds before rustls
//! have none either. rustls has no call that sends a given alert, and does not give out the keys of an unfinished
//! handshake. So the cipher suites here are rustls' own, with an encrypter of ours around theirs. While `instead`
//! runs, the encrypter replaces the description in an alert that rustls seals, so that key and sequence number are
//! right.

use std::cell::Cell;
use std::sync::{Arc, LazyLock};

use rustls::crypto::cipher::{
    AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls12AeadAlgorithm, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    AlertDescription, CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error, PeerIncompatible,
    PeerMisbehaved, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite,
};

use crate::failure::Cause;
use crate::layer::Alert;

/// What the peer at fault is told, where rustls has told it nothing (RFC 8446 section 6.2).
pub(super) fn alert_for(cause: &Cause) -> Option<Alert> {
    match cause {
        Cause::Record(fault) => fault.alert(),
        Cause::HandshakeTooLong => Some(Alert::DECODE_ERROR),
        Cause::Alpn => Some(Alert::NO_APPLICATION_PROTOCOL),
        Cause::Deviation(deviation) => deviation.alert(),
        Cause::Tls(error) => alert_of(error),
        // No signature came.
        Cause::Mint(_) => Some(Alert::INTERNAL_ERROR),
        _ => None,
    }
}

/// The alert that RFC 8446 requires in place of the one that rustls sends.
pub(super) fn correction(cause: &Cause) -> Option<Alert> {
    match cause {
        // rustls sends decode_error for every fault of a ClientHello.
        Cause::Tls(error @ Error::InvalidMessage(_)) => alert_of(error),
        // RFC 8446 section 9.2.
        Cause::Tls(Error::PeerIncompatible(PeerIncompatible::KeyShareExtensionRequired)) => {
            Some(Alert::MISSING_EXTENSION)
        }
        _ => None,
    }
}

fn alert_of(error: &Error) -> Option<Alert> {
    match error {
        Error::AlertReceived(_) => None,
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            Some(Alert::UNEXPECTED_MESSAGE)
        }
        Error::InvalidMessage(fault) => Some(AlertDescription::from(*fault).into()),
        Error::PeerSentOversizedRecord => Some(Alert::RECORD_OVERFLOW),
        Error::DecryptError => Some(Alert::BAD_RECORD_MAC),
        Error::PeerIncompatible(_) => Some(Alert::HANDSHAKE_FAILURE),
        // RFC 8446 section 4.4.2.4.
        Error::NoCertificatesPresented => Some(Alert::DECODE_ERROR),
        // RFC 8446 sections 5, 5.1 and 5.4: a record or message that may not come here.
        Error::PeerMisbehaved(
            PeerMisbehaved::MessageInterleavedWithHandshakeMessage
            | PeerMisbehaved::RejectedEarlyDataInterleavedWithHandshakeMessage
            | PeerMisbehaved::KeyEpochWithPendingFragment
            | PeerMisbehaved::IllegalMiddleboxChangeCipherSpec
            | PeerMisbehaved::IllegalTlsInnerPlaintext
            | PeerMisbehaved::TooManyEmptyFragments
            | PeerMisbehaved::TooManyWarningAlertsReceived
            | PeerMisbehaved::TooManyRenegotiationRequests,
        ) => Some(Alert::UNEXPECTED_MESSAGE),
        Error::PeerMisbehaved(_) => Some(Alert::ILLEGAL_PARAMETER),
        _ => Some(Alert::INTERNAL_ERROR),
    }
}

thread_local! {
    /// The description of the next alert that is sealed on this thread. A step of rustls does not wait, so no other
    /// connection's alert can come between.
    static INSTEAD: Cell<Option<Alert>> = const { Cell::new(None) };
}

/// Run a step of rustls in which the alert that it seals is replaced by `alert`.
pub(super) fn instead<T>(alert: Alert, step: impl FnOnce() -> T) -> T {
    INSTEAD.set(Some(alert));
    let done = step();
    INSTEAD.set(None);
    done
}

/// aws-lc-rs with these cipher suites, for both sides' handshakes.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = aws_lc_rs::default_provider();
        for suite in &mut provider.cipher_suites {
            *suite = around(*suite);
        }
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// A cipher suite with our encrypter around. rustls needs suites that live as long as the process; each is made once.
fn around(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let common = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: common.confidentiality_limit,
    };
    match suite {
        SupportedCipherSuite::Tls12(suite) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&suite.common),
                prf_provider: suite.prf_provider,
                kx: suite.kx,
                sign: suite.sign,
                aead_alg: Box::leak(Box::new(Around(suite.aead_alg))),
            })))
        }
        SupportedCipherSuite::Tls13(suite) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&suite.common),
                hkdf_provider: suite.hkdf_provider,
                aead_alg: Box::leak(Box::new(Around(suite.aead_alg))),
                quic: None,
            })))
        }
    }
}

/// rustls' AEAD of a suite, with [`SaysInstead`] around its encrypters.
struct Around<A: 'static + ?Sized>(&'static A);

impl Tls12AeadAlgorithm for Around<dyn Tls12AeadAlgorithm> {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Box::new(SaysInstead(self.0.encrypter(key, iv, extra)))
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv, explicit)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

impl Tls13AeadAlgorithm for Around<dyn Tls13AeadAlgorithm> {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(SaysInstead(self.0.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

/// Seals what it is given, except an alert while [`instead`] runs.
struct SaysInstead(Box<dyn MessageEncrypter>);

impl MessageEncrypter for SaysInstead {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        match INSTEAD.get().filter(|_| message.typ == ContentType::Alert).map(Alert::encode) {
            Some(said) => {
                let OutboundPlainMessage { typ, version, .. } = message;
                let payload = said.as_slice().into();
                self.0.encrypt(OutboundPlainMessage { typ, version, payload }, sequence)
            }
            None => self.0.encrypt(message, sequence),
        }
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.0.encrypted_payload_len(payload_len)
    }
}
