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

#[cfg(test)]
mod tests {
    use super::*;

    const PSS: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;
    const PKCS1: SignatureScheme = SignatureScheme::RSA_PKCS1_SHA256;

    fn certificate_verify(context: &str, hash: usize) -> Vec<u8> {
        [" ".repeat(64).as_bytes(), context.as_bytes(), &[0], &vec![0xab; hash]].concat()
    }

    fn key_exchange(curve: u16, point: &[u8]) -> Vec<u8> {
        let length = u8::try_from(point.len()).unwrap();
        [&[0xcd; 64][..], &[3], &curve.to_be_bytes(), &[length], point].concat()
    }

    fn uncompressed(octets: usize) -> Vec<u8> {
        [&[4][..], &vec![7; octets - 1]].concat()
    }

    #[test]
    fn what_a_server_signs_in_a_handshake_is_signed() {
        for hash in [32, 48] {
            assert_eq!(check(&certificate_verify("TLS 1.3, server CertificateVerify", hash), PSS), Ok(()));
        }
        for (curve, point) in
            [(23, uncompressed(65)), (24, uncompressed(97)), (25, uncompressed(133)), (29, vec![7; 32])]
        {
            for scheme in [PSS, PKCS1] {
                assert_eq!(check(&key_exchange(curve, &point), scheme), Ok(()), "{curve}");
            }
        }
    }

    #[test]
    fn what_a_client_signs_another_hash_and_anything_else_is_refused() {
        let server = "TLS 1.3, server CertificateVerify";
        let mut refused = vec![
            Vec::new(),
            certificate_verify("TLS 1.3, client CertificateVerify", 32),
            certificate_verify("TLS 1.3, server CertificateVerifz", 32),
            certificate_verify(server, 31),
            certificate_verify(server, 33),
            certificate_verify(server, 64),
            certificate_verify(server, 0),
            certificate_verify(server, 32)[1..].to_vec(),
            [b" ", &certificate_verify(server, 32)[..]].concat(),
            // Explicit curves, a curve that no TLS 1.2 has here, wrong lengths, compressed points.
            [&[0xcd; 64][..], &[1, 0, 23, 65], &uncompressed(65)].concat(),
            key_exchange(30, &[7; 56]),
            key_exchange(0x11ec, &uncompressed(65)),
            key_exchange(23, &uncompressed(97)),
            key_exchange(23, &[&[2][..], &[7; 64]].concat()),
            key_exchange(23, &[&[2][..], &[7; 32]].concat()),
            key_exchange(29, &[7; 33]),
            [key_exchange(29, &[7; 32]), vec![0]].concat(),
            key_exchange(29, &[7; 32])[1..].to_vec(),
            // A certificate, a CRL, an OCSP response: all begin like this.
            [&[0x30, 0x82, 1, 0][..], &[0; 256]].concat(),
        ];
        let good = key_exchange(29, &[7; 32]);
        refused.extend((0..good.len()).map(|cut| good[..cut].to_vec()));
        for message in refused {
            assert_eq!(check(&message, PSS), Err(HandshakeFault::Form), "{message:02x?}");
        }
    }

    #[test]
    fn a_handshake_of_tls_13_is_not_signed_in_the_old_way() {
        let verify = certificate_verify("TLS 1.3, server CertificateVerify", 32);
        assert_eq!(check(&verify, PKCS1), Err(HandshakeFault::Scheme));
    }
}
