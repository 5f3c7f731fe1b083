//! What is signed with a configured certificate's key: what a server signs in a TLS handshake, and nothing else. A
//! worker that was taken over can sign no certificate with it, and no message of another protocol.

use rustls::SignatureScheme;
use serde::{Deserialize, Serialize};

/// RFC 8446 section 4.4.3: a server's CertificateVerify signs 64 spaces, this, a zero octet and the transcript's hash.
const SPACES: [u8; 64] = [b' '; 64];
const SERVER_CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
/// Octets of SHA-256 and SHA-384: the hashes of TLS 1.3's cipher suites.
const HASH_BYTES: [usize; 2] = [32, 48];

/// RFC 8422 section 5.4: a ServerKeyExchange signs both randoms and the parameters behind them.
const RANDOMS_BYTES: usize = 2 * 32;
/// `named_curve`, an `ECCurveType`.
const NAMED_CURVE: u8 = 3;

/// Why a message is not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum HandshakeFault {
    /// Neither form.
    #[error("what is to be signed is no message that a server signs in a TLS handshake")]
    Form,
    /// RFC 8446 section 4.2.3: RSASSA-PKCS1-v1_5 is not for TLS 1.3.
    #[error("a handshake of TLS 1.3 is to be signed as none may be")]
    Scheme,
}

/// Whether a server signs such a message in a handshake.
pub(super) fn check(message: &[u8], scheme: SignatureScheme) -> Result<(), HandshakeFault> {
    if is_certificate_verify(message) {
        let old = matches!(
            scheme,
            SignatureScheme::RSA_PKCS1_SHA256
                | SignatureScheme::RSA_PKCS1_SHA384
                | SignatureScheme::RSA_PKCS1_SHA512
                | SignatureScheme::RSA_PKCS1_SHA1
        );
        return if old { Err(HandshakeFault::Scheme) } else { Ok(()) };
    }
    if is_server_key_exchange(message) { Ok(()) } else { Err(HandshakeFault::Form) }
}

fn is_certificate_verify(message: &[u8]) -> bool {
    let hash = message.strip_prefix(&SPACES).and_then(|rest| rest.strip_prefix(SERVER_CONTEXT));
    hash.is_some_and(|hash| HASH_BYTES.contains(&hash.len()))
}

fn is_server_key_exchange(message: &[u8]) -> bool {
    let Some([NAMED_CURVE, high, low, length, point @ ..]) = message.get(RANDOMS_BYTES..) else {
        return false;
    };
    // RFC 8422 section 5.4.1: the uncompressed form alone for the curves of NIST.
    let (octets, form) = match u16::from_be_bytes([*high, *low]) {
        // secp256r1
        23 => (65, Some(4)),
        // secp384r1
        24 => (97, Some(4)),
        // secp521r1
        25 => (133, Some(4)),
        // x25519
        29 => (32, None),
        _ => return false,
    };
    usize::from(*length) == octets
        && point.len() == octets
        && form.is_none_or(|form: u8| point.first() == Some(&form))
}
