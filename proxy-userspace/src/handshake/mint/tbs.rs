//! The form of a minted leaf's `TBSCertificate`. Who asks for a signature writes it here; who signs writes it once more
//! from what it has read, and compares: so nothing can stand in a leaf that has no place here.

use rustls::SignatureScheme;
use rustls::pki_types::{AlgorithmIdentifier, alg_id};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509;

use super::der::{self, tag};

/// Names copied into one leaf. Public authorities stop at 100 to 250; beyond that a hostile server only wants memory.
pub const SANS_MAX: usize = 1_024;
/// Octets of all names of one leaf together, for the same reason; [`SANS_MAX`] names of ordinary length fit.
pub const SAN_BYTES_MAX: usize = 32 * 1_024;
/// Octets of a copied subject; RFC 5280 appendix A.1 bounds each attribute by at most 128 characters or so.
pub const SUBJECT_BYTES_MAX: usize = 4 * 1_024;

/// `id-kp-serverAuth`, 1.3.6.1.5.5.7.3.1.
const SERVER_AUTH: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// `digitalSignature` as a DER named bit list: bit 0 of one octet, seven unused.
const DIGITAL_SIGNATURE: [u8; 2] = [0x07, 0x80];

// The last number of 2.5.29 (RFC 5280 section 4.2.1).
pub(crate) const KEY_USAGE: u8 = 15;
pub(crate) const SUBJECT_ALT_NAME: u8 = 17;
pub(crate) const BASIC_CONSTRAINTS: u8 = 19;
pub(crate) const AUTHORITY_KEY_IDENTIFIER: u8 = 35;
pub(crate) const EXTENDED_KEY_USAGE: u8 = 37;

/// The signatures that an authority may make, with how certificates name them. One hash per key: what rustls signs
/// with a key of this kind.
const SIGNATURES: [(SignatureScheme, AlgorithmIdentifier); 5] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, alg_id::ECDSA_SHA256),
    (SignatureScheme::ECDSA_NISTP384_SHA384, alg_id::ECDSA_SHA384),
    (SignatureScheme::ECDSA_NISTP521_SHA512, alg_id::ECDSA_SHA512),
    (SignatureScheme::RSA_PKCS1_SHA256, alg_id::RSA_PKCS1_SHA256),
    (SignatureScheme::ED25519, alg_id::ED25519),
];

/// How a key that makes these signatures signs certificates; `None` where no certificate can name any of them.
pub(crate) fn certificate_signature(
    schemes: &[SignatureScheme],
) -> Option<(SignatureScheme, AlgorithmIdentifier)> {
    SIGNATURES.into_iter().find(|(scheme, _)| schemes.contains(scheme))
}

/// Seconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Validity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

impl Validity {
    /// What the certificate states.
    pub(crate) fn of(cert: &X509Certificate<'_>) -> Self {
        let validity = cert.validity();
        Self { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() }
    }

    /// The part that both share; `None` where there is none.
    pub(crate) fn clipped(self, other: Self) -> Option<Self> {
        let not_before = self.not_before.max(other.not_before);
        let not_after = self.not_after.min(other.not_after);
        (not_before <= not_after).then_some(Self { not_before, not_after })
    }
}

/// What all leaves of one authority have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Issuer {
    /// The subject as it stands in the authority's certificate: a leaf's issuer must equal it octet by octet.
    pub(crate) subject: Vec<u8>,
    /// The subject key identifier, or one computed from the key.
    pub(crate) key_identifier: Vec<u8>,
    /// When the authority's certificate is good.
    pub(crate) validity: Validity,
}

/// What differs between an authority's leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Varying<'a> {
    /// The contents of an INTEGER.
    pub(crate) serial: &'a [u8],
    pub(crate) validity: Validity,
    /// A `Name`, DER.
    pub(crate) subject: &'a [u8],
    /// A `SubjectPublicKeyInfo`, DER.
    pub(crate) public_key: &'a [u8],
    /// Names, DER, one behind the other; of none there is no extension.
    pub(crate) names: &'a [u8],
}

/// The whole `TBSCertificate`, DER (RFC 5280 section 4.1).
pub(crate) fn write(issuer: &Issuer, algorithm: AlgorithmIdentifier, varying: &Varying<'_>) -> Vec<u8> {
    let validity = varying.validity;
    der::sequence(&[
        &der::element(tag::VERSION, &[&der::element(tag::INTEGER, &[&[2]])]),
        &der::element(tag::INTEGER, &[varying.serial]),
        &der::algorithm(algorithm),
        &issuer.subject,
        &der::sequence(&[&der::time(validity.not_before), &der::time(validity.not_after)]),
        varying.subject,
        varying.public_key,
        &der::element(tag::EXTENSIONS, &[&extensions(issuer, varying)]),
    ])
}

fn extensions(issuer: &Issuer, varying: &Varying<'_>) -> Vec<u8> {
    let key_identifier = der::sequence(&[&der::element(tag::KEY_IDENTIFIER, &[&issuer.key_identifier])]);
    let purposes = der::sequence(&[&der::element(tag::OBJECT_IDENTIFIER, &[&SERVER_AUTH])]);
    let names = if varying.names.is_empty() {
        Vec::new()
    } else {
        // RFC 5280 section 4.2.1.6: critical where the subject says nothing.
        let critical = varying.subject == der::sequence(&[]);
        der::extension(SUBJECT_ALT_NAME, critical, &der::sequence(&[varying.names]))
    };
    der::sequence(&[
        &der::extension(BASIC_CONSTRAINTS, true, &der::sequence(&[])),
        &der::extension(KEY_USAGE, true, &der::element(tag::BIT_STRING, &[&DIGITAL_SIGNATURE])),
        &der::extension(EXTENDED_KEY_USAGE, false, &purposes),
        &names,
        &der::extension(AUTHORITY_KEY_IDENTIFIER, false, &key_identifier),
    ])
}

/// A `dNSName`, DER.
pub(crate) fn dns_name(name: &str) -> Vec<u8> {
    der::element(tag::DNS_NAME, &[name.as_bytes()])
}

/// An `iPAddress`, DER.
pub(crate) fn ip_address(octets: &[u8]) -> Vec<u8> {
    der::element(tag::IP_ADDRESS, &[octets])
}

/// Whether this is one SEQUENCE and nothing else, its length written as DER wants it.
pub(crate) fn is_sequence(octets: &[u8]) -> bool {
    (2..=6).any(|header| octets.get(header..).is_some_and(|contents| der::sequence(&[contents]) == octets))
}

/// The certificate: what was signed, how, and the signature (RFC 5280 section 4.1).
pub(crate) fn certificate(tbs: &[u8], algorithm: AlgorithmIdentifier, signature: &[u8]) -> Vec<u8> {
    der::sequence(&[tbs, &der::algorithm(algorithm), &der::bit_string(signature)])
}

/// Whether an `AlgorithmIdentifier` that was read is this one.
pub(crate) fn is_algorithm(read: &x509::AlgorithmIdentifier<'_>, id: AlgorithmIdentifier) -> bool {
    let octets = der::algorithm(id);
    x509::AlgorithmIdentifier::from_der(&octets).is_ok_and(|(_, known)| known == *read)
}
