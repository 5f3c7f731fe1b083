//! Making a leaf: all that its contents depend on, the keys, the signature.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use quick_cache::Weighter;
use rcgen::{KeyPair, RsaKeySize};
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey};

use super::authority::{self, Authority, Untrusted};
use super::leaf::Contents;
use super::serving::{Audience, Serving};
use super::tbs::{self, Validity};
use super::{KeyKind, LEAF_BYTES, LeafClass, MintError, Request, Shown, fingerprint};
use crate::jobs::{JobKind, JobPool};
use crate::signer::Signing;

/// A leaf with a validity of our own is minted anew when less than this remains: longer than any mail session.
const RENEW_SECONDS: i64 = 7 * 24 * 60 * 60;

/// What a leaf is made from, beside the server's certificate itself. Requests that agree in it share a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeafTerms {
    pub(super) class: LeafClass,
    pub(super) kind: KeyKind,
    /// Whether its sessions may be resumed.
    resumes: bool,
    /// SHA-256 of the certificate to copy from.
    upstream: Option<[u8; 32]>,
    /// The client's name, where the leaf depends on it.
    pub(super) sni: Option<String>,
    /// The name of last resort, where the leaf depends on it.
    pub(super) destination: Option<IpAddr>,
}

impl LeafTerms {
    pub(super) fn new(request: &Request<'_>) -> Self {
        let own = !request.class.copies_validity();
        Self {
            class: request.class,
            kind: request.key,
            resumes: request.audience().may_resume(),
            upstream: request.template().map(|cert| fingerprint(cert)),
            sni: request.sni.filter(|_| own).map(str::to_ascii_lowercase),
            destination: Some(request.destination).filter(|_| own && request.sni.is_none()),
        }
    }

    /// The same for one name alone.
    pub(super) fn with_sni(self, sni: &str) -> Self {
        Self { sni: Some(sni.to_ascii_lowercase()), ..self }
    }
}

/// A minted leaf as the cache keeps it.
#[derive(Clone)]
pub(super) struct Minted {
    pub(super) shown: Shown,
    /// Names of the server's were left out, because there were too many.
    pub(super) is_abridged: bool,
    octets: usize,
    /// Seconds since 1970; from then on it is minted anew.
    pub(super) fresh_until: i64,
}

/// Weighs leaves for the cache.
#[derive(Clone)]
pub(super) struct ByOctets;

impl Weighter<LeafTerms, Minted> for ByOctets {
    fn weight(&self, _: &LeafTerms, leaf: &Minted) -> u64 {
        u64::try_from(leaf.octets.max(LEAF_BYTES)).unwrap_or(u64::MAX)
    }
}

/// The one key of a kind that all minted leaves of this process share.
struct LeafKey {
    signing: Arc<dyn SigningKey>,
    /// `SubjectPublicKeyInfo`, DER.
    public: Vec<u8>,
}

impl LeafKey {
    fn generate(kind: KeyKind) -> Result<Self, MintError> {
        let pair = match kind {
            KeyKind::Ecdsa => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
            KeyKind::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        };
        let signing = authority::signing_key(&pair)?;
        let public = signing.public_key().ok_or(MintError::NoSignature)?.as_ref().to_vec();
        Ok(Self { signing, public })
    }
}

/// Both kinds, made with the first policy and kept for all that follow: an RSA key takes 100 ms, which neither a
/// client nor a reload shall wait for.
struct LeafKeys {
    ecdsa: LeafKey,
    rsa: LeafKey,
}

impl LeafKeys {
    fn of_this_process() -> Result<&'static Self, MintError> {
        static KEYS: OnceLock<LeafKeys> = OnceLock::new();
        if let Some(keys) = KEYS.get() {
            return Ok(keys);
        }
        let fresh = Self { ecdsa: LeafKey::generate(KeyKind::Ecdsa)?, rsa: LeafKey::generate(KeyKind::Rsa)? };
        Ok(KEYS.get_or_init(|| fresh))
    }

    const fn of(&self, kind: KeyKind) -> &LeafKey {
        match kind {
            KeyKind::Ecdsa => &self.ecdsa,
            KeyKind::Rsa => &self.rsa,
        }
    }
}

/// Who signs, and with what leaves are served.
pub(super) struct Minter {
    authority: Authority,
    signing: Signing,
    untrusted: Untrusted,
    serving: Serving,
    keys: &'static LeafKeys,
}

/// A leaf that waits for its signature.
pub(super) struct Prepared {
    tbs: Vec<u8>,
    validity: Validity,
    is_abridged: bool,
    /// Made already, where this process has the key.
    signature: Option<Vec<u8>>,
}

impl Minter {
    pub(super) fn new(authority: Authority, signing: Signing, serving: Serving) -> Result<Self, MintError> {
        let (untrusted, keys) = (Untrusted::generate()?, LeafKeys::of_this_process()?);
        Ok(Self { authority, signing, untrusted, serving, keys })
    }

    fn authority(&self, class: LeafClass) -> &Authority {
        if class == LeafClass::Mirrored { &self.untrusted.authority } else { &self.authority }
    }

    /// What a leaf says at `now` (seconds since 1970). Takes some 20 µs, more with thousands of names.
    fn prepare(
        &self,
        terms: &LeafTerms,
        upstream: Option<&CertificateDer<'_>>,
        now: i64,
    ) -> Result<Prepared, MintError> {
        let contents = Contents::new(terms, upstream, now)?;
        let (authority, key) = (self.authority(terms.class), self.keys.of(terms.kind));
        let (tbs, validity) = contents.tbs(authority, terms.class, &key.public)?;
        let mirrored = terms.class == LeafClass::Mirrored;
        let signature = mirrored.then(|| self.untrusted.sign(&tbs)).transpose()?;
        Ok(Prepared { tbs, validity, is_abridged: contents.is_abridged(), signature })
    }

    /// A leaf at `now` (seconds since 1970), prepared on a thread of the pool. Waits for a signer as long as there is
    /// none: who asks bounds the time.
    pub(super) async fn mint(
        self: &Arc<Self>,
        terms: &LeafTerms,
        upstream: Option<CertificateDer<'static>>,
        now: i64,
        jobs: &JobPool,
    ) -> Result<Minted, MintError> {
        let (minter, of) = (Arc::clone(self), terms.clone());
        let prepare = move || minter.prepare(&of, upstream.as_ref(), now);
        let Prepared { tbs, validity, is_abridged, signature } = jobs.run(JobKind::Serve, prepare).await??;
        let signature = match signature {
            Some(signature) => signature,
            None => self.signing.sign_leaf(jobs, tbs.clone()).await??,
        };
        let leaf = tbs::certificate(&tbs, self.authority(terms.class).algorithm, &signature);
        self.finish(terms, leaf.into(), validity, is_abridged)
    }

    fn finish(
        &self,
        terms: &LeafTerms,
        leaf: CertificateDer<'static>,
        validity: Validity,
        is_abridged: bool,
    ) -> Result<Minted, MintError> {
        let fingerprint = fingerprint(&leaf);
        let issuers = self.authority(terms.class).chain.iter().cloned();
        let chain: Vec<_> = std::iter::once(leaf).chain(issuers).collect();
        let octets = chain.iter().map(|cert| cert.len()).sum();
        let key = self.keys.of(terms.kind);
        let certified = Arc::new(CertifiedKey::new(chain, Arc::clone(&key.signing)));
        let audience = Audience { class: terms.class, named: terms.resumes };
        let config = self.serving.config(certified, fingerprint, audience)?;
        // A copied validity is as good as the server's own, and the terms change with the server's certificate.
        let fresh_until = if terms.class.copies_validity() {
            i64::MAX
        } else {
            validity.not_after.saturating_sub(RENEW_SECONDS)
        };
        let shown = Shown { config, fingerprint, minted: true, key: terms.kind };
        Ok(Minted { shown, is_abridged, octets, fresh_until })
    }
}
