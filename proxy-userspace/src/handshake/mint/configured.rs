//! Inbound protection: the owner's own certificates, shown instead of minted leaves.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey as _};
use rustls::{ServerConfig, SignatureAlgorithm};
use webpki::EndEntityCert;
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::authority::without_roots;
use super::serving::{Audience, Serving};
use super::{CertificateError, KeyKind, LeafClass, Request, Shown, fingerprint};
use crate::config::ServerCertificate;
use crate::signer::ConfiguredKey;

/// No two entries may have one name and one kind of key: nothing would choose between them.
pub(super) fn check_claims(
    entries: &[ServerCertificate],
    kinds: impl IntoIterator<Item = KeyKind>,
) -> Result<(), CertificateError> {
    let mut claims: HashMap<(String, KeyKind), &Path> = HashMap::new();
    for (entry, kind) in entries.iter().zip(kinds) {
        for name in &entry.names {
            let claim = (name.to_ascii_lowercase(), kind);
            if let Some(first) = claims.insert(claim, &entry.files.cert) {
                let (first, second) = (first.to_owned(), entry.files.cert.clone());
                return Err(CertificateError::SameKind { name: name.clone(), kind, first, second });
            }
        }
    }
    Ok(())
}

/// One configured certificate, ready for every class that shows it.
#[derive(Debug)]
pub(super) struct Configured {
    names: Vec<String>,
    fingerprint: [u8; 32],
    kind: KeyKind,
    verified: Arc<ServerConfig>,
    allowed: Arc<ServerConfig>,
    /// For sessions that no later one may resume: they end in `* BYE`, or the client sent no name.
    once: Arc<ServerConfig>,
}

impl Configured {
    /// The chain of one entry, leaf first, and who signs for it.
    pub(super) fn new(
        names: Vec<String>,
        mut chain: Vec<CertificateDer<'static>>,
        key: ConfiguredKey,
        serving: &Serving,
    ) -> Result<Self, CertificateError> {
        let fingerprint = fingerprint(chain.first().map_or(&[][..], |cert| cert.as_ref()));
        let kind = if key.algorithm() == SignatureAlgorithm::RSA { KeyKind::Rsa } else { KeyKind::Ecdsa };
        // The leaf stays, self-signed or not.
        let issuers = chain.split_off(chain.len().min(1));
        chain.extend(without_roots(issuers));
        let certified = Arc::new(CertifiedKey::new(chain, Arc::new(key)));
        let config = |class, named| {
            let audience = Audience { class, named };
            serving.config(Arc::clone(&certified), fingerprint, audience).map_err(CertificateError::Tls)
        };
        Ok(Self {
            names,
            fingerprint,
            kind,
            verified: config(LeafClass::Verified, true)?,
            allowed: config(LeafClass::Allowed, true)?,
            once: config(LeafClass::Verified, false)?,
        })
    }

    pub(super) fn shown(&self, audience: Audience) -> Shown {
        let config = match audience.class {
            _ if !audience.may_resume() => &self.once,
            LeafClass::Allowed => &self.allowed,
            _ => &self.verified,
        };
        Shown { config: Arc::clone(config), fingerprint: self.fingerprint, minted: false, key: self.kind }
    }

    /// How well this entry suits: an exact name before a wildcard, the client's kind of key before the other.
    fn rank(&self, request: &Request<'_>, upstream: &HostNames) -> Option<(bool, bool)> {
        let exact = match request.sni {
            Some(sni) => {
                let exact = self.names.iter().any(|name| name.eq_ignore_ascii_case(sni));
                (exact || self.names.iter().any(|name| covers(name, sni))).then_some(exact)
            }
            None => self.names.iter().any(|name| upstream.share(name)).then_some(true),
        };
        exact.map(|exact| (exact, self.kind == request.key))
    }
}

/// The configured certificate for a request, if one of the entries claims it. A mirrored leaf is never configured:
/// its purpose is the client's warning.
pub(super) fn find(entries: &[Configured], request: &Request<'_>) -> Option<Shown> {
    if request.class == LeafClass::Mirrored || entries.is_empty() {
        return None;
    }
    let upstream = request.template().filter(|_| request.sni.is_none());
    let upstream = upstream.map(HostNames::of).unwrap_or_default();
    let ranked = entries.iter().filter_map(|entry| entry.rank(request, &upstream).map(|rank| (rank, entry)));
    // The first of equals, as the file lists them.
    let best = ranked.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, entry)| entry.shown(request.audience()))
}

/// Whether a certificate that has this name is good for that host (RFC 9525 section 6.3): a wildcard stands for exactly
/// one label.
pub(in crate::handshake) fn covers(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    match (pattern.strip_prefix("*."), name.split_once('.')) {
        (Some(parent), Some((label, rest))) => !label.is_empty() && rest.eq_ignore_ascii_case(parent),
        _ => false,
    }
}

/// The hosts that a server's certificate names, each once: its names may be thousands, and so may the configured ones.
#[derive(Debug, Default)]
struct HostNames {
    /// In lower case, wildcards as they are.
    names: HashSet<String>,
    /// What stands behind the first label of each.
    parents: HashSet<String>,
}

impl HostNames {
    fn of(upstream: &CertificateDer<'_>) -> Self {
        let Ok(cert) = EndEntityCert::try_from(upstream) else { return Self::default() };
        let names: HashSet<_> = cert.valid_dns_names().map(str::to_ascii_lowercase).collect();
        let parents = names.iter().filter_map(|name| Some(name.split_once('.')?.1.to_owned())).collect();
        Self { names, parents }
    }

    /// Whether a host exists that both this certificate and the configured name are for.
    fn share(&self, configured: &str) -> bool {
        let configured = configured.to_ascii_lowercase();
        let (label, parent) = configured.split_once('.').unwrap_or((&configured, ""));
        self.names.contains(&configured)
            || self.names.contains(&format!("*.{parent}"))
            || label == "*" && self.parents.contains(parent)
    }
}

/// Clients will refuse such a certificate, but mail to other names must not stop for it.
pub(super) fn warn_of_refusals(entry: &ServerCertificate, cert: &X509Certificate<'_>, now: i64) {
    let file = entry.files.cert.display();
    let validity = cert.validity();
    // Its end is told by who looks at all ends.
    if now < validity.not_before.timestamp() {
        tracing::warn!("{file}: is not valid before {}; check this machine's clock", validity.not_before);
    }
    let sans = cert.subject_alternative_name().ok().flatten();
    let sans = sans.map_or(&[][..], |names| names.value.general_names.as_slice());
    for name in &entry.names {
        let named = sans.iter().any(|san| matches!(san, GeneralName::DNSName(san) if covers(san, name)));
        if !named {
            tracing::warn!("{file}: does not name {name}; clients that ask for it will refuse it");
        }
    }
}
