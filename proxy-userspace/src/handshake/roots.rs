//! `tls.roots`: who is trusted to vouch for servers.

use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::mint::pem::{self, PemError};
use crate::config::Tls;

/// What makes `tls.roots` unusable.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A file.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A certificate that cannot be a root.
    #[error("{}: certificate {number} cannot be used as a root ({source}); export it again or remove it from the file", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Its place in the file, from 1.
        number: usize,
        /// What was wrong with it.
        source: webpki::Error,
    },
    /// A server's certificate among the roots, which would never match anything.
    #[error(
        "{}: certificate {number}, \"{subject}\", is not an authority (no CA:TRUE), so no server is trusted through it; \
         put the authority that issued it there, or allow the fault \"untrusted\"", file.display()
    )]
    NotAuthority {
        /// The file.
        file: PathBuf,
        /// Its place in the file, from 1.
        number: usize,
        /// Its subject.
        subject: String,
    },
    /// The system has no roots.
    #[error(
        "tls.roots: \"system\" gives no root certificate ({reason}); install ca-certificates or list files instead"
    )]
    NoSystemRoots {
        /// What was tried.
        reason: String,
    },
    /// None at all.
    #[error("tls.roots: is empty, so every server would be untrusted; list \"system\" or a PEM file")]
    Empty,
}

/// Every root that the profile names, at least one.
pub(super) fn read(tls: &Tls) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let mut roots = if tls.trusts_system() { system_roots()? } else { Vec::new() };
    for file in tls.root_files() {
        for (i, cert) in pem::certificates(file)?.into_iter().enumerate() {
            let number = i.saturating_add(1);
            let unusable = |source| RootsError::Unusable { file: file.clone(), number, source };
            webpki::anchor_from_trusted_cert(&cert).map_err(unusable)?;
            if let Some(subject) = not_an_authority(&cert) {
                return Err(RootsError::NotAuthority { file: file.clone(), number, subject });
            }
            roots.push(cert);
        }
    }
    if roots.is_empty() { Err(RootsError::Empty) } else { Ok(roots) }
}

/// Who vouches for the webhook: the system's roots, and those that the profile names. It may be a public service where servers
/// of mail are the company's own, and the other way round. Without roots of the system those of the profile remain.
///
/// # Errors
/// There is none at all, or a file of the profile's cannot be used.
pub(crate) fn webhook_roots(tls: &Tls) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let mut roots = read(tls)?;
    if !tls.trusts_system() {
        match system_roots() {
            Ok(more) => roots.extend(more),
            Err(error) => tracing::warn!("the webhook for alarms is trusted by tls.roots alone: {error}"),
        }
    }
    Ok(roots)
}

/// Those that are damaged are left out: a distribution's bundle is not the owner's to repair.
fn system_roots() -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let mut found = rustls_native_certs::load_native_certs();
    found.certs.retain(|cert| webpki::anchor_from_trusted_cert(cert).is_ok());
    if found.certs.is_empty() {
        let told: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let reason =
            if told.is_empty() { "no certificate store was found".to_owned() } else { told.join("; ") };
        return Err(RootsError::NoSystemRoots { reason });
    }
    for error in &found.errors {
        tracing::warn!("tls.roots: a part of \"system\" cannot be read: {error}");
    }
    Ok(found.certs)
}

/// The subject of a certificate that says of itself that it signs nothing. Roots of X.509 version 1 cannot say either.
fn not_an_authority(cert: &CertificateDer<'_>) -> Option<String> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    (cert.version() == X509Version::V3 && !cert.is_ca()).then(|| cert.subject().to_string())
}
