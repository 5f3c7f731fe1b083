//! Leaves: the certificates that clients see. Minted from the re-signing authority in the server's likeness, or the
//! owner's own for inbound protection; cached, bounded, one mint in flight per key.

/// The owner's own certificates.
mod configured;
/// Who signs.
pub(crate) mod authority;
/// Which kind of key.
mod key_kind;
/// What a leaf says.
mod leaf;
/// The form of all of them.
pub(crate) mod tbs;
/// How it is written.
pub(super) mod der;
/// The two put together.
mod minter;
/// How it is served.
mod serving;
/// The files that all of it comes from.
mod material;
/// The default certificate that is made here.
pub(crate) mod own_default;
/// The authority's chain outside of handshakes.
pub(crate) mod chain;
/// How they are read.
pub(crate) mod pem;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache;
use rustls::pki_types::{CertificateDer, DnsName, UnixTime};
use rustls::{CipherSuite, ServerConfig};

pub use authority::UNTRUSTED_SUBJECT;
pub(in crate::handshake) use configured::covers;
pub use key_kind::{ClientOffer, KeyKind};
pub(crate) use material::{Chains, KeyFile};
pub use pem::PemError;
pub use serving::versions;
pub use tbs::{SAN_BYTES_MAX, SANS_MAX, SUBJECT_BYTES_MAX};

use crate::config::{Certificates, ShownCertificates, Tls};
use crate::jobs::{JobError, JobPool};
use crate::signer::{ConfiguredKey, KeyFacts, Keys, SignFault, Signing, facts, open_key};
use authority::Authority;
use configured::Configured;
use minter::{ByOctets, LeafTerms, Minted, Minter};
use serving::{Audience, Serving};

/// Minted leaves kept. A large site's users reach a few hundred servers; an attacker's ten thousand only displace
/// each other.
pub const LEAVES_MAX: usize = 4_096;
/// What an entry weighs at least, its configuration included. With [`LEAVES_MAX`] it bounds the octets kept, so that
/// a few leaves with monstrous names displace many ordinary ones instead of growing the cache.
pub const LEAF_BYTES: usize = 4 * 1_024;

/// What became of the server's certificate, as far as leaves differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeafClass {
    /// No fault: names and validity are the server's.
    Verified,
    /// Faults that the owner allows: the server's names and the SNI, a validity of our own.
    Allowed,
    /// Faults that the client shall see: the server's names and validity, from an authority that nobody trusts.
    Mirrored,
    /// Faults that end in `* BYE`: as `Allowed`, so that the client can read it.
    Blocked,
    /// No certificate, because the server cannot be reached: the SNI or the address, and `* BYE`.
    Absent,
}

impl LeafClass {
    /// Whether the leaf lives as long as the server's own.
    const fn copies_validity(self) -> bool {
        matches!(self, Self::Verified | Self::Mirrored)
    }
}

/// What a certificate is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The server's own certificate; not looked at for [`LeafClass::Absent`].
    pub upstream: Option<&'a CertificateDer<'a>>,
    /// The name in the client's ClientHello.
    pub sni: Option<&'a str>,
    /// Where the client meant to go: the name of last resort.
    pub destination: IpAddr,
    /// What became of the server's certificate.
    pub class: LeafClass,
    /// What the client can verify.
    pub key: KeyKind,
    /// Whether a copy may be minted, or certificates of the owner's own are shown only.
    pub certificates: ShownCertificates,
}

impl<'a> Request<'a> {
    /// The certificate to copy from.
    fn template(&self) -> Option<&'a CertificateDer<'a>> {
        self.upstream.filter(|_| self.class != LeafClass::Absent)
    }

    const fn audience(&self) -> Audience {
        Audience { class: self.class, named: self.sni.is_some() }
    }
}

/// The certificate for one client.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Serves exactly this certificate.
    pub config: Arc<ServerConfig>,
    /// SHA-256 of the leaf's DER.
    pub fingerprint: [u8; 32],
    /// Minted; otherwise one of the owner's own.
    pub minted: bool,
    /// The kind of its key: an RSA signature would hold a mail thread for a millisecond or more.
    pub key: KeyKind,
}

/// What makes `[certificates]` unusable.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The first certificate is not X.509.
    #[error("{}: the first certificate is not X.509; export it again", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
    },
    /// Certificate and key do not belong together.
    #[error("{}: is not the key of the first certificate in {}; name the pair that was made together, leaf first", key.display(), cert.display())]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The authority's key makes no signature that certificates can name.
    #[error("{}: cannot sign certificates; use an ECDSA, RSA or Ed25519 key for certificates.authority", file.display())]
    KeyKind {
        /// The key's file.
        file: PathBuf,
    },
    /// A leaf where an authority is needed.
    #[error("{}: \"{subject}\" is not a certificate authority (no CA:TRUE); make one with `postern ca init` or have yours issue a subordinate", file.display())]
    NotAuthority {
        /// The certificate's file.
        file: PathBuf,
        /// Its subject.
        subject: String,
    },
    /// An authority that may sign, but not certificates.
    #[error("{}: the key usage of \"{subject}\" lacks keyCertSign, so clients refuse what it signs; issue it with keyCertSign", file.display())]
    MayNotSign {
        /// The certificate's file.
        file: PathBuf,
        /// Its subject.
        subject: String,
    },
    /// After `notAfter`.
    #[error("{}: expired on {since}; renew the authority and install it on the clients", file.display())]
    Expired {
        /// The certificate's file.
        file: PathBuf,
        /// Its `notAfter`.
        since: String,
    },
    /// Before `notBefore`.
    #[error("{}: is not valid before {from}; check this machine's clock", file.display())]
    NotYetValid {
        /// The certificate's file.
        file: PathBuf,
        /// Its `notBefore`.
        from: String,
    },
    /// Two entries of `certificates.server` with one name and one kind of key: nothing would choose between them.
    #[error(
        "{}: is for \"{name}\" with an {kind} key, as {} is; remove the name from one entry of certificates.server, or \
         give one ECDSA and one RSA certificate", second.display(), first.display()
    )]
    SameKind {
        /// The name.
        name: String,
        /// The kind of both keys.
        kind: KeyKind,
        /// The certificate of the earlier entry.
        first: PathBuf,
        /// The certificate of the later entry.
        second: PathBuf,
    },
    /// The untrusted authority or the shared leaf keys could not be made.
    #[error("certificates: the keys of this process could not be made: {0}")]
    Keys(#[from] MintError),
    /// rustls refuses.
    #[error("certificates: rustls refuses them: {0}")]
    Tls(rustls::Error),
    /// Other keys were loaded than the certificates name.
    #[error("certificates: the keys that were loaded are not those of the configuration; please report it")]
    Incomplete,
}

/// Why no leaf could be minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// Only a certificate that was read can be copied.
    #[error("the server's certificate cannot be read, so there is nothing to copy")]
    Unreadable,
    /// The server's validity and the authority's have no moment in common.
    #[error(
        "the re-signing authority is not valid while the server's certificate is; renew certificates.authority"
    )]
    OutsideAuthority,
    /// Nothing may be minted, and there is no default certificate.
    #[error("there is no default Proxy Server certificate; please report it")]
    NoDefault,
    /// An authority's key that makes no known signature.
    #[error("the authority's key makes no signature that certificates can name")]
    NoSignature,
    /// The kernel gave no random octets.
    #[error("no random octets")]
    NoRandomness,
    /// A key of our own.
    #[error("a key could not be generated: {0}")]
    Generate(#[from] rcgen::Error),
    /// A signature or a configuration.
    #[error("rustls: {0}")]
    Tls(#[from] rustls::Error),
    /// No thread minted it in time.
    #[error(transparent)]
    Job(#[from] JobError),
    /// Nobody signed it.
    #[error(transparent)]
    Sign(#[from] SignFault),
}

impl MintError {
    /// The token in records.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Job(error) => error.reason(),
            Self::Sign(fault) => fault.reason(),
            _ => "certificate_not_minted",
        }
    }

    /// Whether there is too much to do, rather than something wrong.
    #[must_use]
    pub const fn is_overload(&self) -> bool {
        match self {
            Self::Job(_) => true,
            Self::Sign(fault) => fault.is_overload(),
            _ => false,
        }
    }
}

/// All certificates that clients can be shown under one policy. Shared by all mail threads; a new policy makes a new one,
/// with new ticket keys.
pub struct Leaves {
    /// The suites of the profile.
    suites: Vec<CipherSuite>,
    configured: Vec<Configured>,
    /// Where nothing may be minted and none of those has the name.
    default: Option<Configured>,
    signing: Signing,
    minter: Arc<Minter>,
    cache: Cache<LeafTerms, Minted, ByOctets>,
}

impl Leaves {
    /// Reads and checks every file of `[certificates]`; this process signs. The first makes the keys of this process.
    ///
    /// # Errors
    /// [`CertificateError`] names the file and the remedy. A configured server certificate that has expired or lacks
    /// one of its names is only warned of: mail to other names must not stop for it.
    pub fn load(certificates: &Certificates, tls: &Tls) -> Result<Self, CertificateError> {
        let now = seconds(UnixTime::now());
        let (chains, files) = Chains::read(certificates, certificates.default.as_ref(), now)?;
        Self::load_keys(certificates, tls, chains, &files)
    }

    /// With the keys in these files, which this process signs with.
    pub(crate) fn load_keys(
        certificates: &Certificates,
        tls: &Tls,
        chains: Chains,
        files: &[KeyFile],
    ) -> Result<Self, CertificateError> {
        let issuer = chains.issuer().ok_or(CertificateError::Incomplete)?;
        let (mut keys, mut of_keys) = (None, Vec::new());
        for file in files {
            let told = |fault| file.told(fault);
            let key = open_key(&file.opened, &file.public_key).map_err(told)?;
            of_keys.push(facts(key.as_ref()));
            match &mut keys {
                None => keys = Some(Keys::new(issuer.clone(), key).map_err(told)?),
                Some(keys) => keys.push(key),
            }
        }
        let signing = Signing::InProcess(Arc::new(keys.ok_or(CertificateError::Incomplete)?));
        Self::assemble(certificates, tls, chains, of_keys, signing)
    }

    /// From what others read; `facts` tells of the keys that are signed with, the authority's first.
    pub(crate) fn assemble(
        certificates: &Certificates,
        tls: &Tls,
        chains: Chains,
        facts: Vec<KeyFacts>,
        signing: Signing,
    ) -> Result<Self, CertificateError> {
        let issuer = chains.issuer().ok_or(CertificateError::Incomplete)?;
        if chains.servers.len() != certificates.server.len() || facts.len() != chains.keys() {
            return Err(CertificateError::Incomplete);
        }
        let mut facts = facts;
        // Its key is the last.
        let default_facts = if chains.default.is_some() { facts.pop() } else { None };
        let mut facts = facts.into_iter();
        let schemes = facts.next().map(|facts| facts.schemes()).unwrap_or_default();
        let authority = Authority::new(material::der(chains.authority), issuer, &schemes)
            .ok_or_else(|| CertificateError::KeyKind { file: certificates.authority.key.clone() })?;
        let serving = Serving::new(tls).map_err(CertificateError::Tls)?;
        let mut configured = Vec::new();
        for (((entry, chain), facts), number) in
            certificates.server.iter().zip(chains.servers).zip(facts).zip(0..)
        {
            let chain = material::der(chain);
            let public_key = material::public_key(&chain).ok_or(CertificateError::Incomplete)?;
            let key = ConfiguredKey { signing: signing.clone(), entry: number, facts, public_key };
            configured.push(Configured::new(entry.names.clone(), chain, key, &serving)?);
        }
        let default = match (chains.default, default_facts) {
            (Some(chain), Some(facts)) => {
                let chain = material::der(chain);
                let public_key = material::public_key(&chain).ok_or(CertificateError::Incomplete)?;
                let entry = u32::try_from(configured.len()).unwrap_or(u32::MAX);
                let key = ConfiguredKey { signing: signing.clone(), entry, facts, public_key };
                Some(Configured::new(Vec::new(), chain, key, &serving)?)
            }
            _ => None,
        };
        let octets = u64::try_from(LEAVES_MAX.saturating_mul(LEAF_BYTES)).unwrap_or(u64::MAX);
        Ok(Self {
            suites: tls.ciphers.iter().map(|cipher| cipher.suite()).collect(),
            configured,
            default,
            minter: Arc::new(Minter::new(authority, signing.clone(), serving)?),
            signing,
            cache: Cache::with_weighter(LEAVES_MAX, octets, ByOctets),
        })
    }

    /// The kind of key that a client is shown which offers this.
    #[must_use]
    pub fn key_for(&self, offer: &ClientOffer) -> KeyKind {
        offer.key(&self.suites)
    }

    /// The certificate for one client, now. One that is configured or cached is at hand; others are prepared on a thread
    /// of the pool and signed. Where the signer has ended this waits for its successor: who asks bounds the time.
    ///
    /// # Errors
    /// [`MintError`]; only [`MintError::Unreadable`] is of the server's making.
    pub async fn server_config(&self, request: &Request<'_>, jobs: &JobPool) -> Result<Shown, MintError> {
        self.server_config_at(request, jobs, UnixTime::now()).await
    }

    /// As [`Self::server_config`], at a time that the caller tells.
    ///
    /// # Errors
    /// As [`Self::server_config`].
    pub async fn server_config_at(
        &self,
        request: &Request<'_>,
        jobs: &JobPool,
        now: UnixTime,
    ) -> Result<Shown, MintError> {
        let now = seconds(now);
        let sni = request.sni.filter(|sni| DnsName::try_from(*sni).is_ok());
        // A warning that the client's own verification gives needs a copy.
        let class = match (request.certificates, request.class) {
            (ShownCertificates::Server, LeafClass::Mirrored) => LeafClass::Blocked,
            (_, class) => class,
        };
        let request = Request { sni, class, ..*request };
        if let Some(shown) = configured::find(&self.configured, &request) {
            // Its key is the signer's, and a thread that signs does not wait for one to come.
            self.signing.ready().await;
            return Ok(shown);
        }
        if request.certificates == ShownCertificates::Server {
            let default = self.default.as_ref().ok_or(MintError::NoDefault)?;
            self.signing.ready().await;
            return Ok(default.shown(request.audience()));
        }
        let terms = LeafTerms::new(&request);
        let leaf = self.leaf(&terms, &request, jobs, now).await?;
        match request.sni {
            // The one that all clients share may lack the name of this one.
            Some(sni) if leaf.is_abridged && terms.sni.is_none() => {
                Ok(self.leaf(&terms.with_sni(sni), &request, jobs, now).await?.shown)
            }
            _ => Ok(leaf.shown),
        }
    }

    /// How many minted leaves are kept at the moment.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    async fn leaf(
        &self,
        terms: &LeafTerms,
        request: &Request<'_>,
        jobs: &JobPool,
        now: i64,
    ) -> Result<Minted, MintError> {
        let cached = self.kept_or_minted(terms, request, jobs, now).await?;
        if cached.fresh_until > now {
            return Ok(cached);
        }
        // Whoever comes first takes the stale one away; the others then wait for the one new mint.
        self.cache.remove_if(terms, |leaf| leaf.fresh_until <= now);
        self.kept_or_minted(terms, request, jobs, now).await
    }

    /// One mint in flight for the same terms; those who wait for it hold no thread, and where its session goes, one of
    /// them takes over.
    async fn kept_or_minted(
        &self,
        terms: &LeafTerms,
        request: &Request<'_>,
        jobs: &JobPool,
        now: i64,
    ) -> Result<Minted, MintError> {
        let upstream = request.template().map(|der| der.clone().into_owned());
        let mint = self.minter.mint(terms, upstream, now, jobs);
        self.cache.get_or_insert_async(terms, mint).await
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaves")
            .field("configured", &self.configured.len())
            .field("cached", &self.cached())
            .finish_non_exhaustive()
    }
}

/// SHA-256, as records and operators' tools print it.
fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, der).as_ref());
    out
}

/// Certificates count in signed seconds, since some start before 1970.
fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
