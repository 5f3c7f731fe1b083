//! Whether a certificate was revoked, from what the server sent, what lies on this machine, and what its authority says.
//!
//! Here nobody is asked: who judges says what would have to be asked (`OcspQuestion`), and is told the answer.

/// DER, value by value.
mod der;
/// Lists of revoked certificates, from files.
pub(crate) mod lists;
/// OCSP responses.
mod ocsp;
/// What an authority is asked.
mod question;
/// What authorities answered, for all handshakes.
mod answers;

use std::cell::RefCell;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
use x509_parser::prelude::{FromDer, X509Certificate};

pub(crate) use self::answers::{AskedCertificate, OcspAnswers};
use self::der::{Reader, tag};
pub use self::lists::{CRLS_BYTES_MAX, CrlError};
use self::ocsp::Subject;
pub use self::ocsp::{NoOcspAnswer, OCSP_RESPONSE_BYTES_MAX, OcspAnswer};
pub(crate) use self::question::OcspQuestion;
use crate::config::Ocsp;

/// id-pe-tlsfeature, 1.3.6.1.5.5.7.1.24 (RFC 7633 section 4).
const TLS_FEATURE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 24];
/// The number of the extension `status_request` (RFC 6066 section 8).
const STATUS_REQUEST: u8 = 5;

/// What is known of a certificate's revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revocation {
    /// What the OCSP response says; `None` where policy does not look at it.
    pub ocsp: Option<OcspAnswer>,
    /// Who brought that response; `None` where there is none.
    pub source: Option<OcspSource>,
    /// What the lists of revoked certificates say; `None` where there are none.
    pub lists: Option<CrlAnswer>,
}

/// Who brought an OCSP response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspSource {
    /// The server, in the handshake.
    Stapled,
    /// Its authority, which was asked now.
    Fetched,
    /// Its authority, which was asked before.
    Cached,
}

impl OcspSource {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stapled => "stapled",
            Self::Fetched => "fetched",
            Self::Cached => "cached",
        }
    }
}

/// The OCSP responses at hand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Responses<'a> {
    /// What the server stapled; empty where it stapled none.
    pub(super) staple: &'a [u8],
    /// What its authority answered, and when.
    pub(super) fetched: Option<(&'a [u8], OcspSource)>,
}

/// What lists say of a certificate and its issuers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlAnswer {
    /// It stands in none, and its issuer's is up to date.
    Good,
    /// It, or an issuer, stands in one.
    Revoked,
    /// None is about it, or it is outdated, or not signed by its authority.
    Nothing,
}

impl CrlAnswer {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Nothing => "none",
        }
    }
}

impl Revocation {
    /// Whether somebody who may say so says that it is revoked.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.ocsp == Some(OcspAnswer::Revoked) || self.lists == Some(CrlAnswer::Revoked)
    }

    fn is_good(&self) -> bool {
        matches!(self.ocsp, Some(OcspAnswer::Good { .. })) || self.lists == Some(CrlAnswer::Good)
    }

    fn is_stapled_good(&self) -> bool {
        matches!(self.ocsp, Some(OcspAnswer::Good { .. })) && self.source == Some(OcspSource::Stapled)
    }

    /// Whether what an authority says would be news.
    fn is_open(&self) -> bool {
        matches!(self.ocsp, Some(OcspAnswer::Nothing(_)))
            && matches!(self.lists, None | Some(CrlAnswer::Nothing))
    }

    /// Whether an answer is missing that policy, or the certificate itself, demands.
    pub(super) fn is_missing(&self, ocsp: Ocsp, leaf: Option<&CertificateDer<'_>>) -> bool {
        let is_demanded = || leaf.is_some_and(demands_staple) && !self.is_stapled_good();
        match ocsp {
            Ocsp::Disabled => false,
            Ocsp::Lenient => is_demanded(),
            Ocsp::Strict => !self.is_good() || is_demanded(),
        }
    }
}

/// Whether a certificate says that servers which show it staple a response (must-staple, RFC 7633 section 4.2.3.1).
fn demands_staple(leaf: &CertificateDer<'_>) -> bool {
    let Ok((_, cert)) = X509Certificate::from_der(leaf) else { return false };
    cert.extensions()
        .iter()
        .filter(|extension| extension.oid.as_bytes() == TLS_FEATURE)
        .any(|extension| has_status_request(extension.value).unwrap_or(false))
}

/// `Features ::= SEQUENCE OF INTEGER`.
fn has_status_request(features: &[u8]) -> Option<bool> {
    let mut reader = Reader::new(features);
    let mut list = reader.enter(tag::SEQUENCE)?;
    while !list.is_empty() {
        if list.expect(tag::INTEGER)?.content == [STATUS_REQUEST] {
            return Some(true);
        }
    }
    Some(false)
}

/// A profile's sources: how it treats OCSP, and its lists.
pub(super) struct Sources {
    pub(super) ocsp: Ocsp,
    pub(super) lists: Vec<CertRevocationList<'static>>,
}

/// A certificate with all that paths are built from.
pub(super) struct Candidate<'a> {
    pub(super) leaf: &'a CertificateDer<'a>,
    pub(super) cert: &'a EndEntityCert<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) roots: &'a [TrustAnchor<'static>],
    /// A moment at which there is a path.
    pub(super) at: UnixTime,
}

impl Sources {
    /// Whether anything is looked at.
    pub(super) fn are_looked_at(&self) -> bool {
        self.asks() || !self.lists.is_empty()
    }

    /// Whether OCSP responses are looked at.
    pub(super) fn asks(&self) -> bool {
        self.ocsp != Ocsp::Disabled
    }

    /// What is known where no path leads to a trusted root: nobody can speak for the certificate.
    pub(super) fn without_path(&self) -> Revocation {
        Revocation {
            ocsp: self.asks().then_some(OcspAnswer::Nothing(NoOcspAnswer::NoIssuer)),
            source: None,
            lists: (!self.lists.is_empty()).then_some(CrlAnswer::Nothing),
        }
    }

    /// What is known of a certificate to which a path leads, and what its authority could be asked. Where a path has a
    /// revoked issuer, another may have none.
    pub(super) fn look(
        &self,
        candidate: &Candidate<'_>,
        responses: Responses<'_>,
        now: UnixTime,
    ) -> (Revocation, Option<OcspQuestion>) {
        let found = RefCell::new((self.without_path(), None));
        let judge_path = |path: &VerifiedPath<'_>| {
            let known = self.look_at(path, candidate, responses, now);
            let is_revoked = known.is_revoked();
            let is_open = known.is_open() && responses.fetched.is_none();
            let question = is_open.then(|| question(candidate.leaf, path)).flatten();
            found.replace((known, question));
            if is_revoked { Err(Error::CertRevoked) } else { Ok(()) }
        };
        // Its result is what `found` was set to last: the first path without a revoked certificate, or the last path.
        let _ = candidate.cert.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            candidate.roots,
            candidate.intermediates,
            candidate.at,
            KeyUsage::server_auth(),
            None,
            Some(&judge_path),
        );
        found.into_inner()
    }

    fn look_at(
        &self,
        path: &VerifiedPath<'_>,
        candidate: &Candidate<'_>,
        responses: Responses<'_>,
        now: UnixTime,
    ) -> Revocation {
        let issuers: Vec<_> = path.intermediate_certificates().map(|issuer| issuer.der()).collect();
        let lists = (!self.lists.is_empty()).then(|| {
            let usage = KeyUsage::server_auth;
            let path = (path.anchor(), issuers.as_slice());
            if self.is_listed(candidate.cert, path, candidate.at, usage()) {
                CrlAnswer::Revoked
            } else if self.is_cleared(candidate.cert, path, now) {
                CrlAnswer::Good
            } else {
                CrlAnswer::Nothing
            }
        });
        let anchor = issuers.first().and_then(|issuer| webpki::anchor_from_trusted_cert(issuer).ok());
        let anchor = anchor.as_ref().unwrap_or_else(|| path.anchor());
        let judge = |response| self.responded(response, candidate.leaf, &path.issuer_spki(), anchor, now);
        let (ocsp, source) = match (self.asks().then(|| judge(responses.staple)), responses.fetched) {
            // Where the server's own says nothing, its authority's counts.
            (Some(OcspAnswer::Nothing(_)), Some((fetched, source))) => (Some(judge(fetched)), Some(source)),
            (stapled @ (None | Some(OcspAnswer::Nothing(NoOcspAnswer::Absent))), _) => (stapled, None),
            (stapled, _) => (stapled, Some(OcspSource::Stapled)),
        };
        Revocation { ocsp, source, lists }
    }

    fn responded(
        &self,
        response: &[u8],
        leaf: &CertificateDer<'_>,
        issuer_key: &SubjectPublicKeyInfoDer<'_>,
        issuer: &TrustAnchor<'_>,
        now: UnixTime,
    ) -> OcspAnswer {
        let Ok((_, cert)) = X509Certificate::from_der(leaf) else {
            return OcspAnswer::Nothing(NoOcspAnswer::NoIssuer);
        };
        let (serial, issuer_name) = (cert.raw_serial(), cert.issuer().as_raw());
        let is_listed = |responder: &EndEntityCert<'_>, issuer: &TrustAnchor<'_>| {
            self.is_listed(responder, (issuer, &[]), now, KeyUsage::required(ocsp::OCSP_SIGNING))
        };
        ocsp::judge(response, &Subject { serial, issuer_name, issuer_key, issuer }, now, is_listed)
    }

    /// Whether a list says that a certificate of this path is revoked; an old list, too.
    ///
    /// Each list is asked alone, so that one of an authority's namesake does not stand before it, and below each issuer of
    /// the path: webpki goes down from the anchor and ends at the first certificate whose issuer has the list's name. Where
    /// an authority has a new key and certified it with the old one, two certificates of a path have an issuer of that
    /// name, and the list is signed by the key of one.
    fn is_listed(
        &self,
        cert: &EndEntityCert<'_>,
        (anchor, issuers): (&TrustAnchor<'_>, &[CertificateDer<'_>]),
        at: UnixTime,
        usage: KeyUsage,
    ) -> bool {
        let below = issuers.iter().enumerate().filter_map(|(place, issuer)| {
            let anchor = webpki::anchor_from_trusted_cert(issuer).ok()?.to_owned();
            Some((anchor, issuers.get(..place)?))
        });
        let whole = std::iter::once((anchor.to_owned(), issuers));
        whole.chain(below).any(|(anchor, issuers)| self.is_listed_below(cert, (&anchor, issuers), at, usage))
    }

    /// The same of what the walk down from this anchor comes to first.
    fn is_listed_below(
        &self,
        cert: &EndEntityCert<'_>,
        path: (&TrustAnchor<'_>, &[CertificateDer<'_>]),
        at: UnixTime,
        usage: KeyUsage,
    ) -> bool {
        let issuers: Vec<_> = path.1.iter().filter_map(|der| EndEntityCert::try_from(der).ok()).collect();
        let is_about = |list: &&CertRevocationList<'_>| {
            list.issuer() == cert.issuer() || issuers.iter().any(|issuer| list.issuer() == issuer.issuer())
        };
        self.lists.iter().filter(is_about).any(|list| {
            let lists = [list];
            let Ok(options) = RevocationOptionsBuilder::new(&lists) else { return false };
            let options = options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore);
            matches!(verified(cert, path, at, usage, options.build()), Err(Error::CertRevoked))
        })
    }

    /// Whether a list of the certificate's issuer is up to date and does not have it.
    fn is_cleared(
        &self,
        cert: &EndEntityCert<'_>,
        path: (&TrustAnchor<'_>, &[CertificateDer<'_>]),
        now: UnixTime,
    ) -> bool {
        self.lists.iter().filter(|list| list.issuer() == cert.issuer()).any(|list| {
            let lists = [list];
            let Ok(options) = RevocationOptionsBuilder::new(&lists) else { return false };
            let options = options
                .with_depth(RevocationCheckDepth::EndEntity)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce);
            verified(cert, path, now, KeyUsage::server_auth(), options.build()).is_ok()
        })
    }
}

/// What the leaf's authority would be asked, along this path.
fn question(leaf: &CertificateDer<'_>, path: &VerifiedPath<'_>) -> Option<OcspQuestion> {
    let (_, cert) = X509Certificate::from_der(leaf).ok()?;
    OcspQuestion::about(&cert, &path.issuer_spki())
}

/// One path, and no other: what webpki says is about it.
fn verified(
    cert: &EndEntityCert<'_>,
    (anchor, issuers): (&TrustAnchor<'_>, &[CertificateDer<'_>]),
    at: UnixTime,
    usage: KeyUsage,
    revocation: RevocationOptions<'_>,
) -> Result<(), Error> {
    let anchors = std::slice::from_ref(anchor);
    cert.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, anchors, issuers, at, usage, Some(revocation), None)
        .map(drop)
}

fn unix_time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
