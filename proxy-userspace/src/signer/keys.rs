use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{AlgorithmIdentifier, PrivateKeyDer};
use rustls::sign::SigningKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::handshake_rules;
use super::leaf_rules::{self, Leaf};
use super::protocol::{KeyFacts, Refusal};
use crate::handshake::mint::tbs::{Issuer, certificate_signature};

/// Octets of a key's file: the longest keys have some 12 KiB, and a chain may stand before them.
pub(crate) const KEY_FILE_BYTES_MAX: usize = 256 * 1024;
/// Generations whose keys are kept: the one on offer and two that are in use. Those two are one generation and the one before
/// it, under which handshakes still go on, or, while a taken policy cannot stay, the supervisor's and the worker's.
const GENERATIONS_MAX: usize = 3;

/// Every signature that a key of rustls' may make.
const SCHEMES: [SignatureScheme; 13] = [
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ED25519,
    SignatureScheme::ML_DSA_87,
    SignatureScheme::ML_DSA_65,
    SignatureScheme::ML_DSA_44,
];

/// What is wrong with a key's file; whoever knows its path tells the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyFault {
    /// The operating system's error.
    Read(Option<i32>),
    /// Over [`KEY_FILE_BYTES_MAX`].
    TooLong,
    /// Not PEM.
    Damaged(String),
    /// No private key in it.
    NoKey,
    /// A kind that TLS here cannot use.
    Unsupported(String),
    /// Not the key of its certificate.
    Mismatch,
    /// An authority's key that makes no signature which certificates can name.
    NoSignature,
}

/// The key in a file that somebody else opened, if it is the one that its certificate names. Its text and its DER are
/// overwritten (rustls' reader of PEM keeps a buffer of its own for the text's lines, which is only given back); the key
/// itself is in the cryptographic library's memory, which overwrites what it gives back.
pub(crate) fn open_key(file: &File, public_key: &[u8]) -> Result<Arc<dyn SigningKey>, KeyFault> {
    let text = read(file)?;
    let mut der = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => KeyFault::NoKey,
        error => KeyFault::Damaged(error.to_string()),
    })?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der);
    der.zeroize();
    let key = key.map_err(|error| KeyFault::Unsupported(error.to_string()))?;
    match key.public_key() {
        Some(public) if public.as_ref() == public_key => Ok(key),
        _ => Err(KeyFault::Mismatch),
    }
}

/// The whole file, at places of its own: the descriptor's position is shared with the process that opened it. The buffer
/// never grows, so that no copy of it is left behind.
fn read(file: &File) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
    let mut text = Zeroizing::new(vec![0; KEY_FILE_BYTES_MAX + 1]);
    let mut length = 0;
    loop {
        let rest = text.get_mut(length..).unwrap_or_default();
        match file.read_at(rest, u64::try_from(length).unwrap_or(u64::MAX)) {
            Ok(0) => break,
            Ok(octets) => length += octets,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(KeyFault::Read(error.raw_os_error())),
        }
    }
    if length > KEY_FILE_BYTES_MAX {
        return Err(KeyFault::TooLong);
    }
    text.truncate(length);
    Ok(text)
}

/// What a key can sign. rustls tells only which of several it would take, so it is asked until none is left.
pub(crate) fn facts(key: &dyn SigningKey) -> KeyFacts {
    let mut left = SCHEMES.to_vec();
    let mut schemes = Vec::new();
    while let Some(signer) = key.choose_scheme(&left) {
        let scheme = signer.scheme();
        schemes.push(u16::from(scheme));
        let before = left.len();
        left.retain(|other| *other != scheme);
        if left.len() == before {
            break;
        }
    }
    KeyFacts { schemes, algorithm: u8::from(key.algorithm()) }
}

/// The authority's key with what its leaves must say.
struct AuthorityKey {
    key: Arc<dyn SigningKey>,
    scheme: SignatureScheme,
    algorithm: AlgorithmIdentifier,
    issuer: Issuer,
}

/// The keys of one generation.
pub(crate) struct Keys {
    authority: AuthorityKey,
    /// In the order of `certificates.server`.
    servers: Vec<Arc<dyn SigningKey>>,
}

impl Keys {
    /// With the authority's key alone.
    pub(crate) fn new(issuer: Issuer, key: Arc<dyn SigningKey>) -> Result<Self, KeyFault> {
        let (scheme, algorithm) =
            certificate_signature(&facts(key.as_ref()).schemes()).ok_or(KeyFault::NoSignature)?;
        Ok(Self { authority: AuthorityKey { key, scheme, algorithm, issuer }, servers: Vec::new() })
    }

    /// The next entry of `certificates.server`.
    pub(crate) fn push(&mut self, key: Arc<dyn SigningKey>) {
        self.servers.push(key);
    }

    /// The authority's signature, if this is a leaf; with what is worth a line in the log.
    pub(super) fn sign_leaf(&self, tbs: &[u8]) -> Result<(Vec<u8>, Leaf), Refusal> {
        let AuthorityKey { key, scheme, algorithm, issuer } = &self.authority;
        let leaf = leaf_rules::check(tbs, issuer, *algorithm)?;
        Ok((sign(key.as_ref(), *scheme, tbs)?, leaf))
    }

    /// The signature of a configured certificate's key, if this is a message of a handshake.
    pub(super) fn sign_handshake(
        &self,
        entry: u32,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        handshake_rules::check(message, scheme)?;
        let entry = usize::try_from(entry).unwrap_or(usize::MAX);
        let key = self.servers.get(entry).ok_or(Refusal::UnknownKey)?;
        sign(key.as_ref(), scheme, message)
    }
}

fn sign(key: &dyn SigningKey, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, Refusal> {
    let signer = key.choose_scheme(&[scheme]).ok_or(Refusal::UnknownKey)?;
    signer.sign(message).map_err(|error| {
        tracing::error!("a signature could not be made: {error}");
        Refusal::Failed
    })
}

/// Says nothing of the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("servers", &self.servers.len()).finish_non_exhaustive()
    }
}

/// The keys of the newest generations, and of those in use.
#[derive(Debug, Default)]
pub(super) struct Generations(VecDeque<(u64, Arc<Keys>)>);

impl Generations {
    /// Takes them in. When there are more than [`GENERATIONS_MAX`], the oldest that is not `in_use` is forgotten: offers that
    /// are refused have numbers, too, and must not cost the keys that serve.
    pub(super) fn insert(&mut self, generation: u64, in_use: [u64; 2], keys: Keys) {
        self.0.retain(|(known, _)| *known != generation);
        let place = self.0.iter().take_while(|(known, _)| *known < generation).count();
        self.0.insert(place, (generation, Arc::new(keys)));
        while self.0.len() > GENERATIONS_MAX {
            let oldest = self.0.iter().position(|(known, _)| *known != generation && !in_use.contains(known));
            self.0.remove(oldest.unwrap_or_default());
        }
    }

    /// The keys of this one.
    pub(super) fn get(&self, generation: u64) -> Result<Arc<Keys>, Refusal> {
        let found = self.0.iter().find(|(known, _)| *known == generation);
        found.map(|(_, keys)| Arc::clone(keys)).ok_or(Refusal::UnknownGeneration(generation))
    }

    /// The newest's number; 0 where there is none.
    pub(super) fn newest(&self) -> u64 {
        self.0.back().map_or(0, |(generation, _)| *generation)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom, Write as _};

    use rcgen::KeyPair;

    use super::*;
    use crate::handshake::mint::tbs::Validity;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn signing_key(pair: &KeyPair) -> Arc<dyn SigningKey> {
        let der = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap()
    }

    fn public_key(pair: &KeyPair) -> Vec<u8> {
        signing_key(pair).public_key().unwrap().as_ref().to_vec()
    }

    fn keys() -> Keys {
        let validity = Validity { not_before: 0, not_after: 1 };
        let issuer = Issuer { subject: vec![0x30, 0], key_identifier: vec![1], validity };
        Keys::new(issuer, signing_key(&KeyPair::generate().unwrap())).unwrap()
    }

    #[test]
    fn a_key_is_read_from_the_files_begin_wherever_its_position_is() {
        let pair = KeyPair::generate().unwrap();
        let mut file = file(&pair.serialize_pem());
        for position in [0, 10, 100_000] {
            file.seek(SeekFrom::Start(position)).unwrap();
            open_key(&file, &public_key(&pair)).unwrap();
            assert_eq!(file.stream_position().unwrap(), position, "and leaves it there");
        }
    }

    #[test]
    fn what_is_wrong_with_a_keys_file_is_told() {
        let (pair, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let public = public_key(&pair);
        let fault = |text: &str| open_key(&file(text), &public).unwrap_err();
        assert_eq!(fault(""), KeyFault::NoKey);
        assert_eq!(fault(&other.serialize_pem()), KeyFault::Mismatch);
        assert!(matches!(fault("-----BEGIN PRIVATE KEY-----\n"), KeyFault::Damaged(_)));
        let nonsense = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        assert!(matches!(fault(nonsense), KeyFault::Unsupported(_)));
        let behind = |octets: usize| "#".repeat(octets - 1) + "\n" + &pair.serialize_pem();
        assert_eq!(fault(&behind(KEY_FILE_BYTES_MAX)), KeyFault::TooLong);
        open_key(&file(&behind(KEY_FILE_BYTES_MAX - 1_000)), &public).unwrap();
        let directory = File::open("/").unwrap();
        assert!(matches!(open_key(&directory, &public), Err(KeyFault::Read(Some(_)))));
    }

    #[test]
    fn what_a_key_can_sign_is_told_in_rustls_order() {
        let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let of = |pair: &KeyPair| facts(signing_key(pair).as_ref());
        assert_eq!(of(&rsa).schemes(), SCHEMES[..6]);
        assert_eq!(of(&rsa).algorithm(), rustls::SignatureAlgorithm::RSA);
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert_eq!(of(&p384).schemes(), [SignatureScheme::ECDSA_NISTP384_SHA384]);
        assert_eq!(of(&p384).algorithm(), rustls::SignatureAlgorithm::ECDSA);
    }

    #[test]
    fn the_newest_generations_are_kept_in_whatever_order_they_come() {
        let mut generations = Generations::default();
        assert_eq!(generations.newest(), 0);
        let known = |generations: &Generations| {
            (0..9).filter(|number| generations.get(*number).is_ok()).collect::<Vec<_>>()
        };
        for (number, expected) in
            [(3, vec![3]), (4, vec![3, 4]), (7, vec![3, 4, 7]), (7, vec![3, 4, 7]), (5, vec![4, 5, 7])]
        {
            generations.insert(number, [number; 2], keys());
            assert_eq!(known(&generations), expected);
        }
        assert_eq!(generations.newest(), 7);
        assert_eq!(generations.get(3).unwrap_err(), Refusal::UnknownGeneration(3));
    }

    #[test]
    fn generations_in_use_keep_their_keys_however_many_offers_are_refused() {
        let mut generations = Generations::default();
        generations.insert(1, [1, 1], keys());
        for refused in 2..9 {
            generations.insert(refused, [1, 1], keys());
            assert!(generations.get(1).is_ok() && generations.get(refused).is_ok(), "{refused}");
        }
        // The worker has another one than the supervisor: both are in use.
        for refused in 9..15 {
            generations.insert(refused, [1, 8], keys());
            assert!([1, 8, refused].iter().all(|number| generations.get(*number).is_ok()), "{refused}");
            assert_eq!(generations.0.len(), GENERATIONS_MAX);
        }
    }

    #[test]
    fn the_authoritys_key_signs_no_handshake_and_a_configured_one_no_leaf() {
        let mut keys = keys();
        let verify = [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &[0; 32]].concat();
        let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
        assert_eq!(keys.sign_handshake(0, scheme, &verify), Err(Refusal::UnknownKey), "there is none");
        keys.push(signing_key(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()));
        assert_eq!(keys.sign_handshake(0, scheme, &verify), Err(Refusal::UnknownKey), "nor one of this kind");
        keys.sign_handshake(0, SignatureScheme::ED25519, &verify).unwrap();
        assert_eq!(keys.sign_handshake(1, SignatureScheme::ED25519, &verify), Err(Refusal::UnknownKey));
        assert!(matches!(keys.sign_leaf(&verify), Err(Refusal::Leaf(_))));
        assert_eq!(format!("{keys:?}"), "Keys { servers: 1, .. }");
    }
}
