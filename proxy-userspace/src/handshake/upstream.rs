//! The server: its TLS, its proof.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ExtractedSecrets};
use tokio::net::TcpStream;

use super::HandshakeTerms;
use super::asked::{NoCertificate, Upstream};
use super::compliance::{Conduct, Deviation, Deviations};
use super::drive::{Broken, Unbuffered, drive};
use super::hello::Hello;
use super::material::TrustMaterial;
use super::mint::{CertificateError, LeafClass, Leaves, versions};
use super::parting::Parting;
use super::pins::Pins;
use super::profile::provider_of;
use super::sessions::{SessionsAt, UpstreamSessions};
use super::verify::{CertificateFault, CrlError, Faults, Judge, Judged, RootsError, ShownChain};
use crate::config::{
    Certificates, ClientCertificate, Compliance, Config, ShownCertificates, Tls, TlsVersion, Verdict,
};
use crate::failure::{Cause, Failure};
use crate::layer::KernelSide;
use crate::record::Record;
use crate::signer::{KeyFacts, Signing};
use crate::words::Side;

/// The TLS of one profile in one policy generation: how servers prove themselves and what clients are shown. Tickets of
/// one profile, and of one generation, are of no use in another.
pub struct Trust {
    judge: Arc<Judge>,
    leaves: Leaves,
    plain: ClientConfig,
    with_alpn: ClientConfig,
    sessions: Arc<UpstreamSessions>,
    compliance: Compliance,
    client_certificate: ClientCertificate,
    /// Whether the profile has suites of TLS 1.3.
    speaks_tls13: bool,
}

/// Why a policy's certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// `tls.roots`.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// `tls.crls`.
    #[error(transparent)]
    Lists(#[from] CrlError),
    /// `certificates`.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// rustls refuses the versions.
    #[error("TLS settings: {0}")]
    Tls(#[from] rustls::Error),
}

/// A server that proved it holds the key of a certificate, and what was said of that certificate.
pub(super) struct Proven {
    pub(super) secrets: ExtractedSecrets,
    pub(super) kernel: KernelSide,
    /// The server asked for a client certificate.
    pub(super) asked: bool,
    pub(super) chain: Arc<[CertificateDer<'static>]>,
    pub(super) class: LeafClass,
    /// The certificate is valid for the client's SNI.
    pub(super) verified: bool,
    /// The faults that policy blocks.
    pub(super) refused: Option<Faults>,
}

impl Trust {
    /// Read roots, authority and certificates, for each TLS profile in use; this process signs.
    ///
    /// # Errors
    /// Which file, what is wrong with it, and the remedy.
    pub fn load(config: &Config) -> Result<Vec<Self>, TrustError> {
        let (material, keys) = TrustMaterial::read(config)?;
        let of_profile = |(name, profile): (&str, &Tls)| {
            let pins = Pins::new(&config.certificates.pins);
            let judge = Judge::assemble(&material.roots(name), material.lists(name), profile, pins)?;
            let chains = material.chains.clone();
            Self::new(profile, judge, Leaves::load_keys(&config.certificates, profile, chains, &keys)?)
        };
        config.profiles_in_use().map(of_profile).collect()
    }

    /// For the profile of this name, from what others read: `facts` is what the process at the other end of `signer` said
    /// of its keys of this `generation`. No file is read.
    ///
    /// # Errors
    /// The parts do not belong together, or rustls refuses.
    pub(crate) fn assemble(
        (name, profile): (&str, &Tls),
        certificates: &Certificates,
        material: &TrustMaterial,
        facts: Vec<KeyFacts>,
        signing: Signing,
    ) -> Result<Self, TrustError> {
        let pins = Pins::new(&certificates.pins);
        let judge = Judge::assemble(&material.roots(name), material.lists(name), profile, pins)?;
        let leaves = Leaves::assemble(certificates, profile, material.chains.clone(), facts, signing)?;
        Self::new(profile, judge, leaves)
    }

    fn new(profile: &Tls, judge: Judge, leaves: Leaves) -> Result<Self, TrustError> {
        let judge = Arc::new(judge);
        let mut client = ClientConfig::builder_with_provider(provider_of(profile))
            .with_protocol_versions(versions(profile.min_version))?
            .dangerous()
            .with_custom_certificate_verifier(judge.verifier())
            .with_client_cert_resolver(Arc::new(NoCertificate));
        client.enable_secret_extraction = true;
        let mut with_alpn = client.clone();
        with_alpn.alpn_protocols = vec![b"imap".to_vec()];
        Ok(Self {
            judge,
            leaves,
            plain: client,
            with_alpn,
            sessions: UpstreamSessions::new(profile),
            compliance: profile.compliance,
            client_certificate: profile.client_certificate,
            speaks_tls13: profile.ciphers.iter().any(|cipher| cipher.version() == TlsVersion::Tls13),
        })
    }

    /// What a handshake with this server is done with. A clone costs some 300 octets for the life of the connection.
    fn client_config(&self, offers_alpn: bool, sessions: &Arc<SessionsAt>) -> Arc<ClientConfig> {
        let mut config = if offers_alpn { self.with_alpn.clone() } else { self.plain.clone() };
        config.resumption = Resumption::store(Arc::<SessionsAt>::clone(sessions));
        Arc::new(config)
    }

    /// What clients are shown.
    pub(crate) const fn leaves(&self) -> &Leaves {
        &self.leaves
    }

    /// Whether peers may deviate from the RFCs of TLS.
    pub(crate) const fn compliance(&self) -> Compliance {
        self.compliance
    }

    /// The begin of a client's conduct: what its ClientHello deviates by.
    pub(super) fn conduct_of(&self, hello: &Hello) -> (Conduct, Result<(), Cause>) {
        let mut deviations: Deviations = hello.deviations;
        // There is nothing newer to fall back from.
        if !self.speaks_tls13 {
            deviations.remove(Deviation::Fallback);
        }
        let mut conduct = Conduct::under(self.compliance);
        let noted = conduct.note_all(deviations);
        (conduct, noted)
    }

    /// The server's handshake, with the client's SNI, and the judgement: after every handshake, resumed ones too.
    pub(super) async fn prove(
        &self,
        socket: &mut TcpStream,
        hello: &Hello,
        terms: &HandshakeTerms<'_>,
        record: &mut Record,
    ) -> Result<Proven, Parting> {
        let tls = |error| Failure::upstream(Cause::Tls(error));
        let sessions = self.sessions.at(terms.destination.0);
        let config = self.client_config(hello.offers_alpn, &sessions);
        let name = hello.sni.clone().and_then(|sni| ServerName::try_from(sni).ok());
        let name = name.unwrap_or_else(|| ServerName::IpAddress(terms.destination.ip().into()));
        let upstream = Upstream::new(config, name.clone()).map_err(tls)?;
        let mut conduct = Conduct::under(self.compliance);
        let driven = drive(upstream, socket, Vec::new(), None, &mut conduct).await;
        record.deviates(Side::Upstream, conduct.deviations());
        let upstream = driven.map_err(|broken| {
            let Broken { connection, cause, words } = broken;
            let cause = match connection {
                Some(connection) if connection.asked && self.blocks_requests() => {
                    Cause::ClientCertificateBlocked
                }
                Some(connection) => connection.explain(cause),
                None => cause,
            };
            Parting { failure: Failure::upstream(cause), words }
        })?;
        let connection = &upstream.connection;
        record.tls(
            Side::Upstream,
            connection.protocol_version(),
            connection.negotiated_cipher_suite(),
            connection.negotiated_key_exchange_group().map(|group| group.name()),
            connection.handshake_kind(),
        );
        if upstream.asked && self.blocks_requests() {
            return Err(Failure::upstream(Cause::ClientCertificateBlocked).into());
        }
        let chain: Arc<[_]> = connection
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|der| der.clone().into_owned())
            .collect();
        let staple = upstream.staple.clone().unwrap_or_else(|| sessions.staple());
        let shown = ShownChain {
            chain: Arc::clone(&chain),
            staple: Arc::clone(&staple),
            sni: hello.sni.clone(),
            server: terms.destination.ip(),
        };
        let Judged { mut judgement, undone, unanswered } =
            self.judge.judge_asking(terms.jobs, terms.answers, &shown).await;
        // Nothing but a copy lets the client see the fault.
        if terms.action().certificates == ShownCertificates::Server && judgement.verdict == Verdict::Mirror {
            judgement.verdict = Verdict::Block;
        }
        record.judged(chain.first(), &judgement);
        if let Some(fault) = unanswered {
            record.unanswered(fault);
        }
        if undone.is_none() {
            sessions.vouched(name, staple, judgement.resumable_until());
        }
        // The cause says more than the fault that policy blocks.
        if let (Some(error), Verdict::Block) = (undone, judgement.verdict) {
            return Err(Failure::upstream(Cause::Job(error)).into());
        }
        let asked = upstream.asked;
        let (secrets, kernel) = upstream.into_kernel().map_err(tls)?;
        let class = class(&judgement.faults, judgement.verdict);
        let verified = judgement.faults.iter().next().is_none();
        let refused = (judgement.verdict == Verdict::Block).then_some(judgement.faults);
        Ok(Proven { secrets, kernel, asked, chain, class, verified, refused })
    }

    const fn blocks_requests(&self) -> bool {
        matches!(self.client_certificate, ClientCertificate::Block)
    }
}

/// A missing name alone changes nothing about the leaf: the client's own check of the copied names decides.
fn class(faults: &Faults, verdict: Verdict) -> LeafClass {
    let only_no_name = faults.iter().all(|fault| fault == CertificateFault::NoName);
    match verdict {
        Verdict::Allow if only_no_name => LeafClass::Verified,
        Verdict::Allow => LeafClass::Allowed,
        Verdict::Mirror => LeafClass::Mirrored,
        Verdict::Block => LeafClass::Blocked,
    }
}
