//! `tls.crls`: lists of revoked certificates (RFC 5280 section 5), from files.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::der::{Reader, tag};
use crate::config::Tls;

/// Octets of all lists, a list once for each profile that has it. The worker keeps some four times as many for them, and hashes a list in each
/// handshake that it is about; 4 MiB are some 100,000 revoked certificates.
pub const CRLS_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// sha1WithRSAEncryption (RFC 3279 section 2.2.1), the one that old authorities use.
const SHA1_WITH_RSA: &str = "1.2.840.113549.1.1.5";

/// What makes `tls.crls` unusable.
#[derive(Debug, thiserror::Error)]
pub enum CrlError {
    /// The operating system refused to read it.
    #[error("{}: cannot be read ({source}); correct tls.crls or the file's permissions", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// More than [`CRLS_BYTES_MAX`].
    #[error("{}: with it tls.crls has more than {CRLS_BYTES_MAX} octets; list smaller ones, such as those for server certificates alone", file.display())]
    TooLarge {
        /// The file that is too much.
        file: PathBuf,
    },
    /// More than that in all profiles that are in use.
    #[error(
        "the lists in tls.crls of all profiles in use have {total} octets, more than {CRLS_BYTES_MAX}; list smaller ones, or fewer"
    )]
    TooMany {
        /// Octets, a list once for each profile.
        total: usize,
    },
    /// No list in it.
    #[error("{}: holds no list of revoked certificates, in PEM (\"BEGIN X509 CRL\") or DER; export it again", file.display())]
    Absent {
        /// The file.
        file: PathBuf,
    },
    /// A list whose signature nobody here verifies.
    #[error("{}: list {number} is signed with {algorithm}, which is not verified here, so that it would count for nothing; have its authority sign it with SHA-256, SHA-384 or SHA-512", file.display())]
    Unverifiable {
        /// The file.
        file: PathBuf,
        /// Its place in the file, from 1.
        number: usize,
        /// The signature's algorithm, as an object identifier or by its name.
        algorithm: String,
    },
    /// A list that cannot be used: damaged, or of a kind that does not exist here.
    #[error("{}: list {number} cannot be used ({fault}); use complete lists of version 2 that their authority signed itself", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Its place in the file, from 1.
        number: usize,
        /// What was wrong with it.
        fault: String,
    },
}

/// A list as it was read.
#[derive(Debug)]
pub(crate) struct RevocationList {
    /// In DER.
    pub(crate) der: Vec<u8>,
    /// Who signed it, in words. Whether it did is found out with the authority's key.
    pub(crate) issuer: String,
    /// How many certificates stand in it.
    pub(crate) revoked: usize,
    /// When the authority has, or had, a newer one at the latest.
    pub(crate) next_update: Option<String>,
    /// Whether that is over.
    pub(crate) is_outdated: bool,
}

/// Every list that the profile names, in its order.
///
/// # Errors
/// [`CrlError`].
pub(crate) fn read(tls: &Tls) -> Result<Vec<RevocationList>, CrlError> {
    let mut lists = Vec::new();
    let mut room = CRLS_BYTES_MAX;
    for file in &tls.crls {
        let octets = octets(file, room)?;
        room = room.checked_sub(octets.len()).ok_or_else(|| CrlError::TooLarge { file: file.clone() })?;
        for (der, number) in split(file, octets)?.into_iter().zip(1..) {
            lists.push(look(file, number, der)?);
        }
    }
    Ok(lists)
}

/// What the worker looks certificates up in.
pub(in super::super) fn prepared(der: &[u8]) -> Option<CertRevocationList<'static>> {
    OwnedCertRevocationList::from_der(der).ok().map(CertRevocationList::from)
}

fn octets(file: &Path, room: usize) -> Result<Vec<u8>, CrlError> {
    let failed = |source| CrlError::Read { file: file.into(), source };
    let mut octets = Vec::new();
    // One more tells that there is more.
    let most = u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1);
    File::open(file).map_err(failed)?.take(most).read_to_end(&mut octets).map_err(failed)?;
    Ok(octets)
}

fn split(file: &Path, octets: Vec<u8>) -> Result<Vec<Vec<u8>>, CrlError> {
    if octets.first() == Some(&tag::SEQUENCE) {
        return Ok(vec![octets]);
    }
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&octets).collect();
    match lists {
        Ok(lists) if !lists.is_empty() => Ok(lists.into_iter().map(|list| list.to_vec()).collect()),
        _ => Err(CrlError::Absent { file: file.into() }),
    }
}

/// Whether webpki verifies signatures of this list's algorithm: `CertificateList ::= SEQUENCE { tbsCertList,
/// signatureAlgorithm, signatureValue }`.
fn is_verifiable(list: &[u8]) -> bool {
    let algorithm = || {
        let mut list = Reader::new(list).enter(tag::SEQUENCE)?;
        list.expect(tag::SEQUENCE)?;
        list.expect(tag::SEQUENCE)
    };
    algorithm().is_some_and(|named| {
        webpki::ALL_VERIFICATION_ALGS.iter().any(|known| known.signature_alg_id().as_ref() == named.content)
    })
}

fn look(file: &Path, number: usize, der: Vec<u8>) -> Result<RevocationList, CrlError> {
    let unusable = |fault: String| CrlError::Unusable { file: file.into(), number, fault };
    OwnedCertRevocationList::from_der(&der).map_err(|error| unusable(error.to_string()))?;
    let (issuer, revoked, next_update) = {
        let (_, list) =
            CertificateRevocationList::from_der(&der).map_err(|error| unusable(error.to_string()))?;
        if !is_verifiable(&der) {
            let algorithm = list.signature_algorithm.algorithm.to_id_string();
            let algorithm = if algorithm == SHA1_WITH_RSA { "SHA-1 and RSA".to_owned() } else { algorithm };
            return Err(CrlError::Unverifiable { file: file.into(), number, algorithm });
        }
        (list.issuer().to_string(), list.iter_revoked_certificates().count(), list.next_update())
    };
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let is_outdated = next_update.is_some_and(|next| next.timestamp() < now);
    let next_update = next_update.map(|next| next.to_string());
    if is_outdated {
        tracing::warn!(
            "{}: the list of \"{issuer}\" should have been replaced until {}; what it revokes stays revoked, and it says \
             of no certificate that it is good",
            file.display(),
            next_update.as_deref().unwrap_or_default()
        );
    }
    Ok(RevocationList { der, issuer, revoked, next_update, is_outdated })
}
