//! Authorities: the one that clients trust, and one that nobody trusts.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::SignatureScheme;
use rustls::pki_types::{AlgorithmIdentifier, CertificateDer, PrivateKeyDer, alg_id};
use rustls::sign::SigningKey;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use super::leaf::Validity;
use super::{CertificateError, MintError, pem};
use crate::config::KeyFiles;

/// The subject of the authority behind mirrored leaves: what a user reads in the client's warning.
pub const UNTRUSTED_SUBJECT: &str = "Postern: server certificate NOT trusted";

/// Octets of a key identifier that had to be computed (RFC 7093 section 2, method 1).
const KEY_IDENTIFIER_BYTES: usize = 20;

/// The signatures that an authority may make, with how certificates name them. One hash per key: what rustls signs
/// with a key of this kind.
const SIGNATURES: [(SignatureScheme, AlgorithmIdentifier); 5] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, alg_id::ECDSA_SHA256),
    (SignatureScheme::ECDSA_NISTP384_SHA384, alg_id::ECDSA_SHA384),
    (SignatureScheme::ECDSA_NISTP521_SHA512, alg_id::ECDSA_SHA512),
    (SignatureScheme::RSA_PKCS1_SHA256, alg_id::RSA_PKCS1_SHA256),
    (SignatureScheme::ED25519, alg_id::ED25519),
];

/// A certificate that signs, its key, and what leaves need to know of it.
pub(super) struct Authority {
    /// Shown behind every leaf, the signing certificate first, the root not at all: nothing where the root signs.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The subject as it stands in the certificate: a leaf's issuer must equal it octet by octet.
    pub(super) subject: Vec<u8>,
    /// The subject key identifier, or one computed from the key.
    pub(super) key_identifier: Vec<u8>,
    /// When the certificate is good.
    pub(super) validity: Validity,
    key: Arc<dyn SigningKey>,
    scheme: SignatureScheme,
    /// How certificates name this authority's signatures.
    pub(super) algorithm: AlgorithmIdentifier,
}

impl Authority {
    /// Reads and checks the re-signing authority at `now` (seconds since 1970).
    pub(super) fn load(files: &KeyFiles, now: i64) -> Result<Self, CertificateError> {
        let chain = pem::certificates(&files.cert)?;
        let key = pem::signing_key(&files.key)?;
        let leading = chain.first().map_or(&[][..], |cert| cert.as_ref());
        let Ok((_, cert)) = X509Certificate::from_der(leading) else {
            return Err(CertificateError::Unreadable { file: files.cert.clone() });
        };
        check_authority(files, &cert, now)?;
        check_key(files, &cert, key.as_ref())?;
        let parts = parts(&cert);
        Self::assemble(parts, chain, key).ok_or_else(|| CertificateError::KeyKind { file: files.key.clone() })
    }

    /// A fresh authority that no client trusts; its key lives as long as the process.
    pub(super) fn untrusted() -> Result<Self, MintError> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, UNTRUSTED_SUBJECT);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let cert = params.self_signed(&pair)?;
        let key = signing_key(&pair)?;
        let (_, parsed) = X509Certificate::from_der(cert.der()).map_err(|_| MintError::Unreadable)?;
        let parts = parts(&parsed);
        Self::assemble(parts, vec![cert.der().clone()], key).ok_or(MintError::NoSignature)
    }

    fn assemble(parts: Parts, chain: Vec<CertificateDer<'static>>, key: Arc<dyn SigningKey>) -> Option<Self> {
        let (scheme, algorithm) =
            SIGNATURES.into_iter().find(|(scheme, _)| key.choose_scheme(&[*scheme]).is_some())?;
        let Parts { subject, key_identifier, validity } = parts;
        let chain = without_roots(chain);
        Some(Self { chain, subject, key_identifier, validity, key, scheme, algorithm })
    }

    /// The signature over a `TBSCertificate`.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, MintError> {
        let signer = self.key.choose_scheme(&[self.scheme]).ok_or(MintError::NoSignature)?;
        Ok(signer.sign(message)?)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("validity", &self.validity).finish_non_exhaustive()
    }
}

/// A chain without its self-signed certificates. A client that trusts one has it, and no other is helped by it
/// (RFC 8446 section 4.4.2).
pub(super) fn without_roots(mut chain: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    chain.retain(|cert| !X509Certificate::from_der(cert).is_ok_and(|(_, cert)| is_self_signed(&cert)));
    chain
}

/// Whether the key that a certificate names signed it: subject and issuer are the same, and so are the identifiers of
/// their keys where both are stated. They differ where an authority signs its next key (RFC 5280 section 3.2).
fn is_self_signed(cert: &X509Certificate<'_>) -> bool {
    let issuer = cert.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    });
    let same_key = issuer.is_none_or(|issuer| key_identifier(cert) == issuer);
    cert.subject().as_raw() == cert.issuer().as_raw() && same_key
}

/// What leaves take over from the authority's certificate.
struct Parts {
    subject: Vec<u8>,
    key_identifier: Vec<u8>,
    validity: Validity,
}

fn parts(cert: &X509Certificate<'_>) -> Parts {
    Parts {
        subject: cert.subject().as_raw().to_vec(),
        key_identifier: key_identifier(cert),
        validity: Validity::of(cert),
    }
}

fn key_identifier(cert: &X509Certificate<'_>) -> Vec<u8> {
    let stated = cert.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    stated.unwrap_or_else(|| {
        let hash = digest(&SHA256, &cert.public_key().subject_public_key.data);
        hash.as_ref().iter().take(KEY_IDENTIFIER_BYTES).copied().collect()
    })
}

fn check_authority(files: &KeyFiles, cert: &X509Certificate<'_>, now: i64) -> Result<(), CertificateError> {
    let file = || files.cert.clone();
    if !cert.is_ca() {
        return Err(CertificateError::NotAuthority { file: file(), subject: cert.subject().to_string() });
    }
    if let Ok(Some(usage)) = cert.key_usage()
        && !usage.value.key_cert_sign()
    {
        return Err(CertificateError::MayNotSign { file: file(), subject: cert.subject().to_string() });
    }
    let validity = cert.validity();
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired { file: file(), since: validity.not_after.to_string() });
    }
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotYetValid { file: file(), from: validity.not_before.to_string() });
    }
    Ok(())
}

/// Whether the key is the one that the certificate names.
pub(super) fn check_key(
    files: &KeyFiles,
    cert: &X509Certificate<'_>,
    key: &dyn SigningKey,
) -> Result<(), CertificateError> {
    match key.public_key() {
        Some(public) if public.as_ref() == cert.public_key().raw => Ok(()),
        _ => Err(CertificateError::KeyMismatch { cert: files.cert.clone(), key: files.key.clone() }),
    }
}

/// A generated key in the form that rustls signs with.
pub(super) fn signing_key(pair: &KeyPair) -> Result<Arc<dyn SigningKey>, MintError> {
    let der = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
    Ok(rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?)
}
