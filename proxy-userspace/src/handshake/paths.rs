//! A bound on the paths that a chain allows, checked before webpki builds any path.
//!
//! webpki tries every order of certificates that could have issued each other, and each attempt compares all of them
//! and all roots. Certificates with one name and many keys cost their maker nothing and need no trust, and make webpki
//! walk some ten thousands of paths. So this module counts the steps first, over names and keys alone.

use std::collections::BTreeSet;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Steps from a certificate to one that may have issued it, in all paths together. Honest chains take as many as they
/// have certificates, or twice that where an authority is cross-signed; four keys under one name, as an authority has
/// after three renewals, take 64. A step costs at most a comparison with every root and certificate, and one signature.
pub const PATH_STEPS_MAX: usize = 64;
/// Issuers in one path below the root: what webpki allows (`MAX_SUB_CA_COUNT`).
const PATH_ISSUERS_MAX: usize = 6;

/// The fields of a certificate that matter to path building (RFC 4158 section 5.2).
struct PathCertificate<'a> {
    subject: &'a [u8],
    issuer: &'a [u8],
    key: Vec<u8>,
}

/// The certificates that can stand in a path from `leaf`, each once. `None` where all paths together take more than
/// [`PATH_STEPS_MAX`] steps.
pub(super) fn leading_on<'a>(
    leaf: &EndEntityCert<'_>,
    intermediates: &'a [CertificateDer<'_>],
) -> Option<Vec<CertificateDer<'a>>> {
    let mut once: Vec<&'a [u8]> = Vec::new();
    for der in intermediates {
        if !once.contains(&der.as_ref()) {
            once.push(der.as_ref());
        }
    }
    let parsed: Vec<_> = once
        .iter()
        .map(|der| CertificateDer::from(*der))
        .filter(|der| EndEntityCert::try_from(der).is_ok())
        .collect();
    let certs: Vec<_> = parsed.iter().filter_map(|der| EndEntityCert::try_from(der).ok()).collect();
    let links = certs.iter().map(|cert| {
        let key = cert.subject_public_key_info().as_ref().to_vec();
        PathCertificate { subject: cert.subject(), issuer: cert.issuer(), key }
    });
    let mut walk = PathWalk { links: links.collect(), path: Vec::new(), reached: BTreeSet::new(), steps: 0 };
    walk.from(leaf.issuer())?;
    let reached = (0..).zip(&parsed).filter(|(place, _)| walk.reached.contains(place));
    Some(reached.map(|(_, der)| der.clone()).collect())
}

/// A depth-first walk over all paths, in webpki's order. Certificates are named by their index in `links`.
struct PathWalk<'a> {
    links: Vec<PathCertificate<'a>>,
    path: Vec<usize>,
    reached: BTreeSet<usize>,
    steps: usize,
}

impl PathWalk<'_> {
    /// Walk every path upwards from a certificate with this issuer; `None` when it takes too many steps.
    fn from(&mut self, issuer: &[u8]) -> Option<()> {
        for place in 0..self.links.len() {
            let Some(next) = self.step(place, issuer) else { continue };
            self.steps += 1;
            if self.steps > PATH_STEPS_MAX {
                return None;
            }
            self.reached.insert(place);
            self.path.push(place);
            self.from(&next)?;
            self.path.pop();
        }
        Some(())
    }

    /// The issuer of this certificate, if it may stand next in the path.
    fn step(&self, place: usize, issuer: &[u8]) -> Option<Vec<u8>> {
        let link = self.links.get(place).filter(|link| link.subject == issuer)?;
        let mut prior = self.path.iter().filter_map(|place| self.links.get(*place));
        let again = prior.any(|prior| prior.key == link.key && prior.subject == link.subject);
        (!again && self.path.len() < PATH_ISSUERS_MAX).then(|| link.issuer.to_vec())
    }
}
