//! Authorities: the one that clients trust, and one that nobody trusts.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::SignatureScheme;
use rustls::pki_types::{AlgorithmIdentifier, CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use super::tbs::{Issuer, Validity, certificate_signature};
use super::{CertificateError, MintError};
use crate::config::KeyFiles;

/// The subject of the authority behind mirrored leaves: what a user reads in the client's warning.
pub const UNTRUSTED_SUBJECT: &str = "Postern: server certificate NOT trusted";

/// Octets of a key identifier that had to be computed (RFC 7093 section 2, method 1).
const KEY_IDENTIFIER_BYTES: usize = 20;

/// A certificate that signs, and what leaves need to know of it.
#[derive(Debug)]
pub(super) struct Authority {
    /// Shown behind every leaf, the signing certificate first, the root not at all: nothing where the root signs.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// What its leaves say of it.
    pub(super) issuer: Issuer,
    /// How certificates name its signatures.
    pub(super) algorithm: AlgorithmIdentifier,
}

impl Authority {
    /// From its chain and what its key can sign; `None` where no certificate can name that.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        issuer: Issuer,
        schemes: &[SignatureScheme],
    ) -> Option<Self> {
        let (_, algorithm) = certificate_signature(schemes)?;
        Some(Self { chain: without_roots(chain), issuer, algorithm })
    }
}

/// An authority that no client trusts; its key is made with it and lives as long.
pub(super) struct Untrusted {
    pub(super) authority: Authority,
    key: Arc<dyn SigningKey>,
    scheme: SignatureScheme,
}

impl Untrusted {
    pub(super) fn generate() -> Result<Self, MintError> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, UNTRUSTED_SUBJECT);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let cert = params.self_signed(&pair)?.der().clone();
        let issuer = issuer(&cert).ok_or(MintError::Unreadable)?;
        let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
        let authority = Authority::new(vec![cert], issuer, &[scheme]).ok_or(MintError::NoSignature)?;
        Ok(Self { authority, key: signing_key(&pair)?, scheme })
    }

    /// The signature over a `TBSCertificate`.
    pub(super) fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>, MintError> {
        let signer = self.key.choose_scheme(&[self.scheme]).ok_or(MintError::NoSignature)?;
        Ok(signer.sign(tbs)?)
    }
}

/// Says nothing of the key.
impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Untrusted").finish_non_exhaustive()
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
pub(super) fn is_self_signed(cert: &X509Certificate<'_>) -> bool {
    let issuer = cert.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    });
    let same_key = issuer.is_none_or(|issuer| key_identifier(cert) == issuer);
    cert.subject().as_raw() == cert.issuer().as_raw() && same_key
}

/// What leaves take over from the authority's certificate; `None` where it cannot be read.
pub(super) fn issuer(cert: &[u8]) -> Option<Issuer> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    Some(Issuer {
        subject: cert.subject().as_raw().to_vec(),
        key_identifier: key_identifier(&cert),
        validity: Validity::of(&cert),
    })
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

/// Whether it may sign certificates at `now` (seconds since 1970).
pub(crate) fn check_authority(
    files: &KeyFiles,
    cert: &X509Certificate<'_>,
    now: i64,
) -> Result<(), CertificateError> {
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

/// A generated key in the form that rustls signs with.
pub(super) fn signing_key(pair: &KeyPair) -> Result<Arc<dyn SigningKey>, MintError> {
    let der = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
    Ok(rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?)
}
