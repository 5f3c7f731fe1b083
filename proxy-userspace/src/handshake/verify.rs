//! Judging the server's certificate: every fault, one verdict.
//!
//! rustls asks its verifier only in full handshakes, stops at the first fault and can answer nothing but yes or no.
//! Here a resumed session must be judged as well (a certificate expires between two sessions, a policy changes), every
//! fault has a policy of its own, and a bad certificate still needs a finished handshake so that the client can be
//! told. So rustls only proves that the server holds the key (`PossessionVerifier`), and the `Judge` is asked once
//! after every upstream handshake, with the chain that rustls kept. **Nothing may be relayed before it has spoken.**

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, DnsName, ServerName, TrustAnchor, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::asked::stapled;
pub use super::paths::PATH_STEPS_MAX;
use super::paths::leading_on;
use super::pins::{Pinned, Pins};
use super::revocation::{AskedCertificate, Candidate, OcspAnswers, OcspQuestion, Responses, Sources, lists};
pub use super::revocation::{
    CrlAnswer, CrlError, NoOcspAnswer, OCSP_RESPONSE_BYTES_MAX, OcspAnswer, OcspSource, Revocation,
};
use super::roots;
pub use super::roots::RootsError;
pub(crate) use super::roots::webhook_roots;
use super::upstream::TrustError;
use crate::clock;
use crate::config::{FaultPolicy, Tls, Verdict};
use crate::helper::FetchFault;
use crate::jobs::{JobError, JobKind, JobPool};

/// Certificates in a server's chain, leaf included. Path building is exponential in hostile chains; honest ones have
/// four, the longest seen in the wild about ten.
pub const CHAIN_CERTIFICATES_MAX: usize = 10;
/// Certificates of a chain that is looked at for other moments than now where time alone speaks against it.
pub const CHAIN_IN_TIME_CERTIFICATES_MAX: usize = 4;
/// Octets of a server's chain: what one handshake message of rustls can carry.
pub const CHAIN_BYTES_MAX: usize = 64 * 1_024;

/// What can be wrong with a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateFault {
    /// It, or an issuer that its path needs, is after `notAfter`.
    Expired,
    /// It, or an issuer that its path needs, is before `notBefore`.
    NotYetValid,
    /// No path to a trusted root, or one that breaks a rule of RFC 5280.
    Untrusted,
    /// The client's SNI is not among its names.
    WrongName,
    /// The client sent no SNI, so that no name could be verified.
    NoName,
    /// It was not looked at in time.
    Late,
    /// Looking at it failed.
    Unverified,
    /// Its authority, or that of an issuer, revoked it.
    Revoked,
    /// Nothing says that it is good, and policy or the certificate itself demands that.
    OcspMissing,
}

impl CertificateFault {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 9] = [
        Self::Expired,
        Self::NotYetValid,
        Self::Untrusted,
        Self::WrongName,
        Self::NoName,
        Self::Late,
        Self::Unverified,
        Self::Revoked,
        Self::OcspMissing,
    ];

    /// The word in records and in `[tls.fault]`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Untrusted => "untrusted",
            Self::WrongName => "wrong_name",
            Self::NoName => "no_name",
            Self::Late => "late",
            Self::Unverified => "unverified",
            Self::Revoked => "revoked",
            Self::OcspMissing => "ocsp_missing",
        }
    }

    /// What the owner wants done about it.
    #[must_use]
    pub const fn verdict(self, policy: &FaultPolicy) -> Verdict {
        match self {
            Self::Expired => policy.expired,
            Self::NotYetValid => policy.not_yet_valid,
            Self::Untrusted => policy.untrusted,
            Self::WrongName => policy.wrong_name,
            Self::NoName => policy.no_name,
            Self::Late => policy.late,
            Self::Unverified => policy.unverified,
            Self::Revoked => policy.revoked,
            Self::OcspMissing => policy.ocsp_missing,
        }
    }

    const fn bit(self) -> u16 {
        match self {
            Self::Expired => 1,
            Self::NotYetValid => 1 << 1,
            Self::Untrusted => 1 << 2,
            Self::WrongName => 1 << 3,
            Self::NoName => 1 << 4,
            Self::Late => 1 << 5,
            Self::Unverified => 1 << 6,
            Self::Revoked => 1 << 7,
            Self::OcspMissing => 1 << 8,
        }
    }
}

/// Where nothing was found out: a thread that comes too late, or never came to it, is one case for policy.
impl From<JobError> for CertificateFault {
    fn from(error: JobError) -> Self {
        match error {
            JobError::QueueFull(_) | JobError::Late(_) => Self::Late,
            JobError::Panicked(_) => Self::Unverified,
        }
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the server's certificate has expired",
            Self::NotYetValid => "the server's certificate is not valid yet",
            Self::Untrusted => "the server's certificate does not come from a trusted authority",
            Self::WrongName => "the server's certificate is for another name",
            Self::NoName => "the client named no server, so the certificate's name was not verified",
            Self::Late => "the server's certificate was not verified in time",
            Self::Unverified => "the server's certificate could not be verified",
            Self::Revoked => "the server's certificate was revoked",
            Self::OcspMissing => "nothing shows that the server's certificate was not revoked",
        })
    }
}

/// A set of [`CertificateFault`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Faults(u16);

impl Faults {
    /// Adds one.
    pub const fn insert(&mut self, fault: CertificateFault) {
        self.0 |= fault.bit();
    }

    /// Whether this one was found.
    #[must_use]
    pub const fn contains(self, fault: CertificateFault) -> bool {
        self.0 & fault.bit() != 0
    }

    /// Whether none was found.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that were found, in the order of [`CertificateFault::ALL`].
    pub fn iter(self) -> impl Iterator<Item = CertificateFault> {
        CertificateFault::ALL.into_iter().filter(move |fault| self.contains(*fault))
    }
}

impl Faults {
    /// Whether one of them may come from a wrong clock.
    #[must_use]
    pub const fn depend_on_time(self) -> bool {
        self.contains(CertificateFault::Expired)
            || self.contains(CertificateFault::NotYetValid)
            || self.contains(CertificateFault::OcspMissing)
    }
}

impl FromIterator<CertificateFault> for Faults {
    fn from_iter<I: IntoIterator<Item = CertificateFault>>(faults: I) -> Self {
        let mut set = Self::default();
        faults.into_iter().for_each(|fault| set.insert(fault));
        set
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// In words, for a `* BYE`.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        if self.depend_on_time() && clock::look().is_some() {
            f.write_str("; this gateway's clock is wrong, which may be all")?;
        }
        Ok(())
    }
}

/// What the [`Judge`] says of one handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Every fault that was found.
    pub faults: Faults,
    /// The strictest of the owner's verdicts on them; [`Verdict::Allow`] without faults.
    pub verdict: Verdict,
    /// What is known of its revocation.
    pub revocation: Revocation,
}

impl Judgement {
    /// Until when sessions with this server may be resumed: their server staples nothing then, and the answer of the
    /// session before counts. `None` where that does not depend on an answer.
    #[must_use]
    pub fn resumable_until(&self) -> Option<UnixTime> {
        match self.revocation.ocsp {
            Some(OcspAnswer::Good { until }) => Some(until),
            _ if self.faults.contains(CertificateFault::OcspMissing) => Some(unix_time(0)),
            _ => None,
        }
    }
}

/// What a server showed of itself in a handshake.
#[derive(Clone)]
pub(crate) struct ShownChain {
    /// Leaf first.
    pub(crate) chain: Arc<[CertificateDer<'static>]>,
    /// The OCSP response beside it, or beside the session that is resumed.
    pub(crate) staple: Arc<[u8]>,
    /// What the client named.
    pub(crate) sni: Option<String>,
    /// Where the server is.
    pub(crate) server: IpAddr,
}

/// A judgement, and what was missing for it.
pub(crate) struct Judged {
    pub(crate) judgement: Judgement,
    /// The thread that should have judged did not.
    pub(crate) undone: Option<JobError>,
    /// Why its authority gave no answer, where it was asked.
    pub(crate) unanswered: Option<FetchFault>,
}

/// Knows the roots and the owner's verdicts. One per policy generation, shared by all mail threads.
pub struct Judge {
    roots: Vec<TrustAnchor<'static>>,
    policy: FaultPolicy,
    pins: Pins,
    revocation: Sources,
    provider: Arc<CryptoProvider>,
}

impl Judge {
    /// Reads every root that the profile names, and every list of revoked certificates.
    ///
    /// # Errors
    /// Which file, what is wrong with it, and the remedy; at least one root must come out.
    pub fn load(tls: &Tls) -> Result<Self, TrustError> {
        let lists: Vec<_> = lists::read(tls)?.into_iter().map(|list| list.der).collect();
        Ok(Self::assemble(&roots::read(tls)?, &lists, tls, Pins::default())?)
    }

    /// With roots and lists that were read and checked by others.
    ///
    /// # Errors
    /// [`RootsError::Empty`].
    pub(super) fn assemble(
        roots: &[CertificateDer<'_>],
        lists: &[Vec<u8>],
        profile: &Tls,
        pins: Pins,
    ) -> Result<Self, RootsError> {
        let anchor = |root| webpki::anchor_from_trusted_cert(root).ok().map(|anchor| anchor.to_owned());
        let roots: Vec<_> = roots.iter().filter_map(anchor).collect();
        if roots.is_empty() {
            return Err(RootsError::Empty);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let lists = lists.iter().filter_map(|list| lists::prepared(list)).collect();
        let revocation = Sources { ocsp: profile.ocsp, lists };
        Ok(Self { roots, policy: profile.faults, revocation, pins, provider })
    }

    /// How many roots are trusted.
    #[must_use]
    pub fn roots(&self) -> usize {
        self.roots.len()
    }

    /// What upstream handshakes are verified with until this judge is asked.
    #[must_use]
    pub fn verifier(&self) -> Arc<PossessionVerifier> {
        Arc::new(PossessionVerifier { provider: Arc::clone(&self.provider) })
    }

    /// Finds every fault of a server's chain (leaf first) at `now`, as [`UnixTime`]; `sni` is what the client named.
    ///
    /// Time, trust and name are judged apart from each other: an expired certificate of an unknown authority has both
    /// faults, whatever is found first. Where a chain was never valid as a whole, at no moment of its leaf's life,
    /// trust cannot be shown and it is untrusted as well. So is one of more than [`CHAIN_IN_TIME_CERTIFICATES_MAX`]
    /// certificates that is not valid as a whole now, because no other moment is tried for it, and one over
    /// [`CHAIN_CERTIFICATES_MAX`], [`CHAIN_BYTES_MAX`] or [`PATH_STEPS_MAX`].
    ///
    /// Takes up to some 20 ms of a hostile chain: mail threads use [`Self::judge_apart`].
    #[must_use]
    pub fn judge(&self, chain: &[CertificateDer<'_>], sni: Option<&str>, now: UnixTime) -> Judgement {
        self.judge_stapled(chain, &[], sni, now)
    }

    /// As [`Self::judge`], with the OCSP response that the server sent along, or sent in the session that is resumed.
    #[must_use]
    pub fn judge_stapled(
        &self,
        chain: &[CertificateDer<'_>],
        staple: &[u8],
        sni: Option<&str>,
        now: UnixTime,
    ) -> Judgement {
        self.judge_pinned(chain, Responses { staple, fetched: None }, sni, Pinned::No, now).0
    }

    /// As [`Self::judge_stapled`]; where a pin is for the server, it decides about trust instead of roots, and nobody is
    /// asked about revocation: the owner named this certificate. With it comes what its authority should be asked, where
    /// nothing else has an answer and the certificate is not refused anyway.
    fn judge_pinned(
        &self,
        chain: &[CertificateDer<'_>],
        responses: Responses<'_>,
        sni: Option<&str>,
        pinned: Pinned,
        now: UnixTime,
    ) -> (Judgement, Option<OcspQuestion>) {
        let mut faults = Faults::default();
        let (mut revocation, mut question) = (self.revocation.without_path(), None);
        let name = sni.map(DnsName::try_from);
        match chain.split_first() {
            Some((leaf, intermediates)) => {
                let parsed = EndEntityCert::try_from(leaf);
                time_faults(leaf, now, &mut faults);
                match &parsed {
                    _ if pinned == Pinned::Fits => {}
                    _ if pinned == Pinned::Differs => faults.insert(CertificateFault::Untrusted),
                    Ok(cert) if within_bounds(chain) => {
                        let path = self.path_faults(leaf, cert, intermediates, now, &mut faults);
                        if let Some((intermediates, at)) = path.filter(|_| self.revocation.are_looked_at()) {
                            let candidate = Candidate {
                                leaf,
                                cert,
                                intermediates: &intermediates,
                                roots: &self.roots,
                                at,
                            };
                            (revocation, question) = self.revocation.look(&candidate, responses, now);
                        }
                    }
                    _ => faults.insert(CertificateFault::Untrusted),
                }
                let named = matches!((&name, &parsed), (Some(Ok(name)), Ok(cert))
                    if cert.verify_is_valid_for_subject_name(&ServerName::DnsName(name.borrow())).is_ok());
                if name.is_some() && !named {
                    faults.insert(CertificateFault::WrongName);
                }
            }
            None => faults.insert(CertificateFault::Untrusted),
        }
        if name.is_none() {
            faults.insert(CertificateFault::NoName);
        }
        if self.verdict(&faults) == Verdict::Block {
            question = None;
        }
        if revocation.is_revoked() {
            faults.insert(CertificateFault::Revoked);
        } else if pinned != Pinned::Fits && revocation.is_missing(self.revocation.ocsp, chain.first()) {
            faults.insert(CertificateFault::OcspMissing);
        }
        (self.judgement(faults, revocation), question)
    }

    fn verdict(&self, faults: &Faults) -> Verdict {
        faults.iter().map(|fault| fault.verdict(&self.policy)).max().unwrap_or(Verdict::Allow)
    }

    fn judgement(&self, faults: Faults, revocation: Revocation) -> Judgement {
        Judgement { faults, verdict: self.verdict(&faults), revocation }
    }

    /// As [`Self::judge_stapled`], now, on a thread of the pool; its authority is asked where the server brought no answer
    /// along and policy wants one. No thread waits for that.
    pub(crate) async fn judge_asking(
        self: &Arc<Self>,
        jobs: &JobPool,
        answers: &OcspAnswers,
        shown: &ShownChain,
    ) -> Judged {
        let leaf = shown.chain.first().filter(|_| self.revocation.asks());
        let Some(certificate) = leaf.map(AskedCertificate::of) else {
            return self.judge_once(jobs, shown, None).await.0;
        };
        let known = answers.known(certificate).map(|octets| (octets, OcspSource::Cached));
        let (judged, question) = self.judge_once(jobs, shown, known).await;
        let Some(question) = question else { return judged };
        match answers.ask(certificate, question).await {
            Err(fault) => Judged { unanswered: Some(fault), ..judged },
            Ok(fetched) => {
                let (judged, _) = self.judge_once(jobs, shown, Some(fetched)).await;
                if let Some(answer) = judged.judgement.revocation.ocsp {
                    answers.judged(certificate, answer);
                }
                judged
            }
        }
    }

    /// As [`Self::judge_stapled`], now, of the server at this address, on a thread of the pool; nobody is asked. Where the
    /// thread did not do it, the error stands beside the judgement.
    pub async fn judge_apart(
        self: &Arc<Self>,
        jobs: &JobPool,
        (chain, staple): (Arc<[CertificateDer<'static>]>, Arc<[u8]>),
        sni: Option<String>,
        server: IpAddr,
    ) -> (Judgement, Option<JobError>) {
        let (judged, _) = self.judge_once(jobs, &ShownChain { chain, staple, sni, server }, None).await;
        (judged.judgement, judged.undone)
    }

    /// Where the thread did not do it, the judgement is that of [`CertificateFault::Late`] or
    /// [`CertificateFault::Unverified`], and the error stands beside it: nothing was found out, and only the owner's word
    /// lets anything be relayed.
    async fn judge_once(
        self: &Arc<Self>,
        jobs: &JobPool,
        shown: &ShownChain,
        fetched: Option<(Arc<[u8]>, OcspSource)>,
    ) -> (Judged, Option<OcspQuestion>) {
        let (judge, shown) = (Arc::clone(self), shown.clone());
        let is_named = shown.sni.is_some();
        let work = move || {
            let ShownChain { chain, staple, sni, server } = &shown;
            let leaf = chain.first().map(|leaf| leaf.as_ref());
            let pinned = judge.pins.judge(leaf, *server, sni.as_deref());
            let fetched = fetched.as_ref().map(|(octets, source)| (octets.as_ref(), *source));
            let responses = Responses { staple, fetched };
            judge.judge_pinned(chain, responses, sni.as_deref(), pinned, UnixTime::now())
        };
        match jobs.run(JobKind::Judge, work).await {
            Ok((judgement, question)) => (Judged { judgement, undone: None, unanswered: None }, question),
            Err(error) => {
                let mut faults = Faults::from_iter([error.into()]);
                if !is_named {
                    faults.insert(CertificateFault::NoName);
                }
                let judgement = self.judgement(faults, Revocation::default());
                (Judged { judgement, undone: Some(error), unanswered: None }, None)
            }
        }
    }

    /// The certificates that lead on from the leaf, and a moment at which a path exists; `None` where it never does.
    fn path_faults<'a>(
        &self,
        leaf: &CertificateDer<'_>,
        cert: &EndEntityCert<'_>,
        intermediates: &'a [CertificateDer<'a>],
        now: UnixTime,
        faults: &mut Faults,
    ) -> Option<(Vec<CertificateDer<'a>>, UnixTime)> {
        let Some(leading) = leading_on(cert, intermediates) else {
            faults.insert(CertificateFault::Untrusted);
            return None;
        };
        let Err(error) = self.build_path(cert, &leading, now) else { return Some((leading, now)) };
        let Some(fault) = time_fault(&error) else {
            faults.insert(CertificateFault::Untrusted);
            return None;
        };
        faults.insert(fault);
        let short = intermediates.len() < CHAIN_IN_TIME_CERTIFICATES_MAX;
        let trusted = if short { self.was_once_trusted(leaf, cert, &leading) } else { None };
        if trusted.is_none() {
            faults.insert(CertificateFault::Untrusted);
        }
        trusted.map(|at| (leading, at))
    }

    /// A moment of the leaf's life at which a path exists. If one does, it exists at the latest `notBefore` among its
    /// certificates; so those are the moments to try, and the first answer that is not about time is final. A short
    /// chain has few moments and few paths.
    fn was_once_trusted(
        &self,
        leaf: &CertificateDer<'_>,
        cert: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Option<UnixTime> {
        let (first, last) = validity(leaf)?;
        let mut moments: Vec<_> = intermediates
            .iter()
            .filter_map(validity)
            .map(|(start, _)| start)
            .filter(|at| (first..=last).contains(at))
            .collect();
        moments.push(first);
        moments.sort_unstable();
        moments.dedup();
        for at in moments {
            let at = unix_time(at);
            match self.build_path(cert, intermediates, at) {
                Ok(()) => return Some(at),
                Err(error) if time_fault(&error).is_none() => return None,
                Err(_) => {}
            }
        }
        None
    }

    fn build_path(
        &self,
        cert: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        at: UnixTime,
    ) -> Result<(), webpki::Error> {
        cert.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.roots,
            intermediates,
            at,
            KeyUsage::server_auth(),
            None,
            None,
        )
        .map(|_| ())
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("roots", &self.roots.len())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Proves that the server holds the key of the certificate that it shows, and nothing else.
///
/// Whoever handshakes with it must ask the [`Judge`] before a single octet is relayed, also in resumed sessions; it
/// comes from [`Judge::verifier`] alone, so that a judge is at hand.
#[derive(Debug)]
pub struct PossessionVerifier {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PossessionVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        stapled(ocsp_response);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn within_bounds(chain: &[CertificateDer<'_>]) -> bool {
    chain.len() <= CHAIN_CERTIFICATES_MAX
        && chain.iter().map(|cert| cert.len()).sum::<usize>() <= CHAIN_BYTES_MAX
}

/// The leaf's own times, also where webpki cannot read it.
fn time_faults(leaf: &CertificateDer<'_>, now: UnixTime, faults: &mut Faults) {
    let Some((not_before, not_after)) = validity(leaf) else { return };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > not_after {
        faults.insert(CertificateFault::Expired);
    }
    if now < not_before {
        faults.insert(CertificateFault::NotYetValid);
    }
}

const fn time_fault(error: &webpki::Error) -> Option<CertificateFault> {
    match error {
        webpki::Error::CertExpired { .. } => Some(CertificateFault::Expired),
        webpki::Error::CertNotValidYet { .. } => Some(CertificateFault::NotYetValid),
        _ => None,
    }
}

/// `notBefore` and `notAfter` in seconds since 1970.
fn validity(cert: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    Some((cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp()))
}

fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
