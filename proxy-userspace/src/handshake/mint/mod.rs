//! Leaves: the certificates that clients see. Minted from the re-signing authority in the server's likeness, or the
//! owner's own for inbound protection; cached, bounded, one mint in flight per key.

/// The owner's own certificates.
mod configured;
/// Who signs.
mod authority;
/// What a leaf says.
mod leaf;
/// How it is written.
mod der;
/// How it is served.
mod serving;
/// The files that all of it comes from.
pub(in crate::handshake) mod pem;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rcgen::{KeyPair, RsaKeySize};
use rustls::pki_types::{CertificateDer, DnsName, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{CipherSuite, ServerConfig, SignatureScheme};

pub use authority::UNTRUSTED_SUBJECT;
pub use leaf::{SAN_BYTES_MAX, SANS_MAX, SUBJECT_BYTES_MAX};
pub use pem::PemError;
pub use serving::versions;

use crate::config::{Certificates, Tls};
use authority::Authority;
use configured::Configured;
use leaf::Contents;
use serving::{Audience, Serving};

/// Minted leaves kept. A large site's users reach a few hundred servers; an attacker's ten thousand only displace
/// each other.
pub const LEAVES_MAX: usize = 4_096;
/// What an entry weighs at least, its configuration included. With [`LEAVES_MAX`] it bounds the octets kept, so that
/// a few leaves with monstrous names displace many ordinary ones instead of growing the cache.
pub const LEAF_BYTES: usize = 4 * 1_024;
/// A leaf with a validity of our own is minted anew when less than this remains: longer than any mail session.
const RENEW_SECONDS: i64 = 7 * 24 * 60 * 60;

/// What became of the server's certificate, as far as leaves differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
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

impl Class {
    /// Whether the leaf lives as long as the server's own.
    const fn copies_validity(self) -> bool {
        matches!(self, Self::Verified | Self::Mirrored)
    }
}

/// The kind of key that a leaf is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// P-256.
    Ecdsa,
    /// 2048 bits, for clients that can verify nothing else.
    Rsa,
}

impl KeyKind {
    /// What a client can use, by its ClientHello: ECDSA on P-256 needs the signature scheme and a suite that
    /// authenticates with it (in TLS 1.3 every suite does).
    #[must_use]
    pub fn for_client(schemes: &[SignatureScheme], suites: &[CipherSuite]) -> Self {
        const WITH_ECDSA: [CipherSuite; 6] = [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        let verifies = schemes.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        if verifies && suites.iter().any(|suite| WITH_ECDSA.contains(suite)) {
            Self::Ecdsa
        } else {
            Self::Rsa
        }
    }
}

/// What a certificate is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The server's own certificate; not looked at for [`Class::Absent`].
    pub upstream: Option<&'a CertificateDer<'a>>,
    /// The name in the client's ClientHello.
    pub sni: Option<&'a str>,
    /// Where the client meant to go: the name of last resort.
    pub destination: IpAddr,
    /// What became of the server's certificate.
    pub class: Class,
    /// What the client can verify.
    pub key: KeyKind,
}

impl<'a> Request<'a> {
    /// The certificate to copy from.
    fn template(&self) -> Option<&'a CertificateDer<'a>> {
        self.upstream.filter(|_| self.class != Class::Absent)
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
    /// The untrusted authority or the shared leaf key could not be made.
    #[error("certificates: the keys of this process could not be made: {0}")]
    Keys(#[from] MintError),
    /// rustls refuses.
    #[error("certificates: rustls refuses them: {0}")]
    Tls(rustls::Error),
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

/// What two requests must agree in to share a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CacheKey {
    class: Class,
    kind: KeyKind,
    /// Whether its sessions may be resumed, which takes a name of the client's.
    resumes: bool,
    upstream: Option<[u8; 32]>,
    sni: Option<String>,
    destination: Option<IpAddr>,
}

impl CacheKey {
    fn new(request: &Request<'_>) -> Self {
        let named = !request.class.copies_validity();
        Self {
            class: request.class,
            kind: request.key,
            resumes: request.audience().may_resume(),
            upstream: request.template().map(|cert| fingerprint(cert)),
            sni: request.sni.filter(|_| named).map(str::to_ascii_lowercase),
            destination: Some(request.destination).filter(|_| named && request.sni.is_none()),
        }
    }
}

#[derive(Clone)]
struct Cached {
    shown: Shown,
    octets: usize,
    /// Seconds since 1970; from then on it is minted anew.
    fresh_until: i64,
}

#[derive(Clone)]
struct ByOctets;

impl Weighter<CacheKey, Cached> for ByOctets {
    fn weight(&self, _: &CacheKey, leaf: &Cached) -> u64 {
        u64::try_from(leaf.octets.max(LEAF_BYTES)).unwrap_or(u64::MAX)
    }
}

/// All certificates that clients can be shown under one policy. Shared by all workers; a new policy makes a new one,
/// with new ticket keys.
pub struct Leaves {
    configured: Vec<Configured>,
    authority: Authority,
    untrusted: Authority,
    serving: Serving,
    ecdsa: LeafKey,
    /// Made for the first client that needs it: 100 ms that most gateways never spend.
    rsa: OnceLock<LeafKey>,
    cache: Cache<CacheKey, Cached, ByOctets>,
}

impl Leaves {
    /// Reads and checks every file of `[certificates]` and makes the keys of this process.
    ///
    /// # Errors
    /// [`CertificateError`] names the file and the remedy. A configured server certificate that has expired or lacks
    /// one of its names is only warned of: mail to other names must not stop for it.
    pub fn load(certificates: &Certificates, tls: &Tls) -> Result<Self, CertificateError> {
        Self::load_at(certificates, tls, UnixTime::now())
    }

    fn load_at(certificates: &Certificates, tls: &Tls, now: UnixTime) -> Result<Self, CertificateError> {
        let authority = Authority::load(&certificates.authority, seconds(now))?;
        let serving = Serving::new(tls.min_version).map_err(CertificateError::Tls)?;
        let configured = certificates
            .server
            .iter()
            .map(|entry| Configured::load(entry, &serving, now))
            .collect::<Result<_, _>>()?;
        let octets = u64::try_from(LEAVES_MAX.saturating_mul(LEAF_BYTES)).unwrap_or(u64::MAX);
        Ok(Self {
            configured,
            authority,
            untrusted: Authority::untrusted()?,
            serving,
            ecdsa: LeafKey::generate(KeyKind::Ecdsa)?,
            rsa: OnceLock::new(),
            cache: Cache::with_weighter(LEAVES_MAX, octets, ByOctets),
        })
    }

    /// The certificate for one client, now.
    ///
    /// May hold the calling thread for the time of one signature (about 50 µs; 1 ms with an RSA authority), and once
    /// for that of an RSA key.
    ///
    /// # Errors
    /// [`MintError`]; only [`MintError::Unreadable`] is of the server's making.
    pub fn server_config(&self, request: &Request<'_>) -> Result<Shown, MintError> {
        self.server_config_at(request, UnixTime::now())
    }

    /// As [`Self::server_config`], at a time that the caller tells.
    ///
    /// # Errors
    /// As [`Self::server_config`].
    pub fn server_config_at(&self, request: &Request<'_>, now: UnixTime) -> Result<Shown, MintError> {
        let now = seconds(now);
        let sni = request.sni.filter(|sni| DnsName::try_from(*sni).is_ok());
        let request = Request { sni, ..*request };
        if let Some(shown) = configured::find(&self.configured, &request) {
            return Ok(shown);
        }
        let key = CacheKey::new(&request);
        let cached = self.cache.get_or_insert_with(&key, || self.mint(&request, now))?;
        if cached.fresh_until > now {
            return Ok(cached.shown);
        }
        // Whoever comes first takes the stale one away; the others then wait for the one new mint.
        self.cache.remove_if(&key, |leaf| leaf.fresh_until <= now);
        Ok(self.cache.get_or_insert_with(&key, || self.mint(&request, now))?.shown)
    }

    /// How many minted leaves are kept at the moment.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    fn mint(&self, request: &Request<'_>, now: i64) -> Result<Cached, MintError> {
        let authority = if request.class == Class::Mirrored { &self.untrusted } else { &self.authority };
        let key = self.leaf_key(request.key)?;
        let contents = Contents::new(request, now)?;
        let (leaf, validity) = contents.sign(authority, request.class, &key.public)?;
        let fingerprint = fingerprint(&leaf);
        let chain: Vec<_> = std::iter::once(leaf).chain(authority.chain.iter().cloned()).collect();
        let octets = chain.iter().map(|cert| cert.len()).sum();
        let certified = Arc::new(CertifiedKey::new(chain, Arc::clone(&key.signing)));
        let config = self.serving.config(certified, fingerprint, request.audience())?;
        // A copied validity is as good as the server's own, and the key changes with the server's certificate.
        let fresh_until = if request.class.copies_validity() {
            i64::MAX
        } else {
            validity.not_after.saturating_sub(RENEW_SECONDS)
        };
        Ok(Cached { shown: Shown { config, fingerprint, minted: true }, octets, fresh_until })
    }

    fn leaf_key(&self, kind: KeyKind) -> Result<&LeafKey, MintError> {
        match (kind, self.rsa.get()) {
            (KeyKind::Ecdsa, _) => Ok(&self.ecdsa),
            (KeyKind::Rsa, Some(key)) => Ok(key),
            (KeyKind::Rsa, None) => {
                let fresh = LeafKey::generate(KeyKind::Rsa)?;
                Ok(self.rsa.get_or_init(|| fresh))
            }
        }
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
