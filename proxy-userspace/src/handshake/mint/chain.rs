//! An authority's chain outside of handshakes: whether clients will accept what it signs, and its renewal.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::SigningKey;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::authority::{is_self_signed, issuer};
use super::der;
use super::tbs::{self, Validity, Varying, certificate_signature};
use crate::signer::facts;

/// Octets of a serial number: 126 random bits, far above the 64 that authorities must have.
const SERIAL_BYTES: usize = 16;
/// Certificates of an authority's chain. Companies have two or three.
pub(crate) const AUTHORITY_CHAIN_MAX: usize = 10;

/// Why a chain or a key is of no use as the authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    /// Nothing can be read of the first certificate.
    #[error("the certificate is not X.509; export it again")]
    Unreadable,
    /// No certificate has this key.
    #[error("no certificate in it belongs to the private key; name the pair that was made together")]
    NoneOfKey,
    /// More certificates than [`AUTHORITY_CHAIN_MAX`].
    #[error(
        "has more than {AUTHORITY_CHAIN_MAX} certificates; keep the authority's, those between it and the root, and the root"
    )]
    TooLong,
    /// The key makes no signature that certificates can name.
    #[error("its key cannot sign certificates; use an ECDSA, RSA or Ed25519 key")]
    NoSignature,
    /// What clients would say of a leaf.
    #[error(
        "clients would refuse what it signs ({0}); have it issued as an authority, with keyCertSign, a path length that \
         allows it, and serverAuth where extended key usages are listed"
    )]
    Refused(webpki::Error),
    /// An issuer that allows fewer authorities below it (RFC 5280 section 4.2.1.9).
    #[error(
        "\"{subject}\" allows {allowed} authorities below it, and there are {below}; have the authority issued by one that \
         allows it"
    )]
    PathLength {
        /// The issuer.
        subject: String,
        /// Its path length.
        allowed: u32,
        /// Authorities below it in the chain.
        below: u32,
    },
    /// An authority below another one cannot sign itself anew.
    #[error(
        "is issued by \"{0}\"; only that authority can renew it: make a request with `postern ca request`, have it signed, \
         and take it in with `postern ca import --replace`"
    )]
    Intermediate(String),
    /// Older than X.509 version 3.
    #[error(
        "is an X.509 certificate of an old version, without extensions; make an authority with `postern ca init`"
    )]
    OldVersion,
    /// A signature or a random number.
    #[error("it could not be signed: {0}")]
    Sign(String),
}

/// Whether the key that a certificate names signed it.
pub(crate) fn is_root(cert: &[u8]) -> bool {
    X509Certificate::from_der(cert).is_ok_and(|(_, cert)| is_self_signed(&cert))
}

/// The chain of the certificate that has this key (a `SubjectPublicKeyInfo`, DER), itself first, each followed by its
/// issuer; and how many of the certificates are not of it.
pub(crate) fn of_key(
    certificates: &[CertificateDer<'static>],
    public_key: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, usize), ChainError> {
    let read = |der: &CertificateDer<'_>, fits: &dyn Fn(&X509Certificate<'_>) -> bool| {
        X509Certificate::from_der(der).is_ok_and(|(_, cert)| fits(&cert))
    };
    let first = certificates.iter().find(|der| read(der, &|cert| cert.public_key().raw == public_key));
    let mut chain = vec![first.ok_or(ChainError::NoneOfKey)?.clone()];
    while let Some(last) = chain.last().filter(|last| !is_root(last)) {
        let (_, last) = X509Certificate::from_der(last).map_err(|_| ChainError::Unreadable)?;
        let issued = last.issuer().as_raw();
        let issuer = certificates
            .iter()
            .find(|der| !chain.contains(der) && read(der, &|cert| cert.subject().as_raw() == issued));
        let Some(issuer) = issuer.cloned() else { break };
        if chain.len() >= AUTHORITY_CHAIN_MAX {
            return Err(ChainError::TooLong);
        }
        chain.push(issuer);
    }
    let left_out = certificates.iter().filter(|der| !chain.contains(der)).count();
    Ok((chain, left_out))
}

/// Signs a leaf on trial at `now` (seconds since 1970), and looks at it as a client does that trusts the last certificate
/// of the chain.
pub(crate) fn try_out(
    chain: &[CertificateDer<'static>],
    key: &dyn SigningKey,
    now: i64,
) -> Result<(), ChainError> {
    let (first, last) = chain.first().zip(chain.last()).ok_or(ChainError::NoneOfKey)?;
    check_path_lengths(chain)?;
    let issuer = issuer(first).ok_or(ChainError::Unreadable)?;
    let (_, cert) = X509Certificate::from_der(first).map_err(|_| ChainError::Unreadable)?;
    let (scheme, algorithm) = certificate_signature(&facts(key).schemes()).ok_or(ChainError::NoSignature)?;
    let varying = Varying {
        serial: &[1],
        validity: Validity { not_before: now, not_after: now },
        subject: &der::sequence(&[]),
        public_key: cert.public_key().raw,
        names: &[],
    };
    let tbs = tbs::write(&issuer, algorithm, &varying);
    let leaf = CertificateDer::from(tbs::certificate(&tbs, algorithm, &sign(key, scheme, &tbs)?));
    let anchor = webpki::anchor_from_trusted_cert(last).map_err(ChainError::Refused)?;
    let leaf = EndEntityCert::try_from(&leaf).map_err(ChainError::Refused)?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    let (algorithms, usage) = (webpki::ALL_VERIFICATION_ALGS, KeyUsage::server_auth());
    leaf.verify_for_usage(algorithms, &[anchor], chain, at, usage, None, None)
        .map(drop)
        .map_err(ChainError::Refused)
}

/// webpki asks this of intermediates and not of the root, which some clients do.
fn check_path_lengths(chain: &[CertificateDer<'_>]) -> Result<(), ChainError> {
    for (below, der) in (0..).zip(chain) {
        let (_, cert) = X509Certificate::from_der(der).map_err(|_| ChainError::Unreadable)?;
        let constraints = cert.basic_constraints().ok().flatten();
        match constraints.and_then(|constraints| constraints.value.path_len_constraint) {
            Some(allowed) if allowed < below => {
                return Err(ChainError::PathLength { subject: cert.subject().to_string(), allowed, below });
            }
            _ => {}
        }
    }
    Ok(())
}

fn sign(key: &dyn SigningKey, scheme: rustls::SignatureScheme, octets: &[u8]) -> Result<Vec<u8>, ChainError> {
    let signer = key.choose_scheme(&[scheme]).ok_or(ChainError::NoSignature)?;
    signer.sign(octets).map_err(|error| ChainError::Sign(error.to_string()))
}

/// A root's certificate with a new serial number and validity. All else, the subject and the extensions with the key's
/// identifier among it, stays octet by octet, so that a client which trusts the old one builds paths as before.
pub(crate) fn renewed(cert: &[u8], key: &dyn SigningKey, validity: Validity) -> Result<Vec<u8>, ChainError> {
    let (_, old) = X509Certificate::from_der(cert).map_err(|_| ChainError::Unreadable)?;
    if !is_self_signed(&old) {
        return Err(ChainError::Intermediate(old.issuer().to_string()));
    }
    if old.version() != X509Version::V3 {
        return Err(ChainError::OldVersion);
    }
    let (scheme, algorithm) = certificate_signature(&facts(key).schemes()).ok_or(ChainError::NoSignature)?;
    let mut serial = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| ChainError::Sign("no random octets".to_owned()))?;
    if let Some(first) = serial.first_mut() {
        // Positive, and of this many octets.
        *first = *first & 0x7f | 0x40;
    }
    let (_, tbs) = Any::from_der(old.tbs_certificate.as_ref()).map_err(|_| ChainError::Unreadable)?;
    let parts = elements(tbs.data).ok_or(ChainError::Unreadable)?;
    // RFC 5280 section 4.1: version, serial number, signature, issuer, validity, subject, public key, extensions.
    let [version, _, _, name, _, subject, public_key, rest @ ..] = parts.as_slice() else {
        return Err(ChainError::Unreadable);
    };
    let validity = der::sequence(&[&der::time(validity.not_before), &der::time(validity.not_after)]);
    let tbs = der::sequence(&[
        version,
        &der::element(der::tag::INTEGER, &[&serial]),
        &der::algorithm(algorithm),
        name,
        &validity,
        subject,
        public_key,
        &rest.concat(),
    ]);
    let signature = sign(key, scheme, &tbs)?;
    Ok(tbs::certificate(&tbs, algorithm, &signature))
}

/// The elements of a SEQUENCE's contents, each with its tag and length.
fn elements(mut contents: &[u8]) -> Option<Vec<&[u8]>> {
    let mut elements = Vec::new();
    while !contents.is_empty() {
        let (rest, _) = Any::from_der(contents).ok()?;
        elements.push(contents.get(..contents.len().checked_sub(rest.len())?)?);
        contents = rest;
    }
    Some(elements)
}
