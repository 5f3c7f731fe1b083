//! The files of `[certificates]`: certificates are read and checked, keys are opened. Whoever reads these does not sign.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{check_authority, issuer};
use super::configured::{check_claims, warn_of_refusals};
use super::tbs::Issuer;
use super::{CertificateError, KeyKind, PemError, pem};
use crate::config::{Certificates, KeyFiles};
use crate::signer::KeyFault;

/// `rsaEncryption`, 1.2.840.113549.1.1.1: the kind of key that rustls signs with as RSA.
const RSA_ENCRYPTION: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// A chain as its file has it, each certificate in DER.
type ChainDer = Vec<Vec<u8>>;

/// The chains of `[certificates]`: all that is no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Chains {
    /// The re-signing authority's, itself first.
    pub(crate) authority: ChainDer,
    /// Of each entry of `certificates.server` in their order, leaf first.
    pub(crate) servers: Vec<ChainDer>,
    /// The default Proxy Server certificate's, where there is one.
    pub(crate) default: Option<ChainDer>,
}

/// A private key's file, opened and found its owner's alone, and not read.
#[derive(Debug)]
pub(crate) struct KeyFile {
    /// Its path, for words.
    pub(crate) file: PathBuf,
    /// The path of its certificate, for words.
    pub(crate) cert: PathBuf,
    /// To be read at places of the reader's own.
    pub(crate) opened: File,
    /// What the certificate says that the key is: a `SubjectPublicKeyInfo`, DER.
    pub(crate) public_key: Vec<u8>,
}

impl KeyFile {
    /// The same open file once more, whatever lies at its path now.
    pub(crate) fn try_clone(&self) -> std::io::Result<Self> {
        let Self { file, cert, opened, public_key } = self;
        let (file, cert, public_key) = (file.clone(), cert.clone(), public_key.clone());
        Ok(Self { file, cert, opened: opened.try_clone()?, public_key })
    }
}

impl Chains {
    /// Reads and checks every certificate at `now` (seconds since 1970), and opens the keys: the authority's first, the
    /// default one's last. A configured certificate that has expired or lacks one of its names is only warned of.
    pub(crate) fn read(
        certificates: &Certificates,
        default: Option<&KeyFiles>,
        now: i64,
    ) -> Result<(Self, Vec<KeyFile>), CertificateError> {
        let check = |files: &KeyFiles, cert: &X509Certificate<'_>| check_authority(files, cert, now);
        let (authority, key, _) = read(&certificates.authority, check)?;
        let (mut servers, mut keys, mut kinds) = (Vec::new(), vec![key], Vec::new());
        for entry in &certificates.server {
            let warn = |_: &KeyFiles, cert: &X509Certificate<'_>| {
                warn_of_refusals(entry, cert, now);
                Ok(())
            };
            let (chain, key, kind) = read(&entry.files, warn)?;
            servers.push(chain);
            keys.push(key);
            kinds.push(kind);
        }
        check_claims(&certificates.server, kinds)?;
        let default = match default {
            Some(files) => {
                let (chain, key) = Self::read_default(files)?;
                keys.push(key);
                Some(chain)
            }
            None => None,
        };
        Ok((Self { authority, servers, default }, keys))
    }

    /// The default one alone.
    pub(crate) fn read_default(files: &KeyFiles) -> Result<(ChainDer, KeyFile), CertificateError> {
        let (chain, key, _) = read(files, |_, _| Ok(()))?;
        Ok((chain, key))
    }

    /// How many keys belong to them.
    pub(crate) fn keys(&self) -> usize {
        1 + self.servers.len() + usize::from(self.default.is_some())
    }

    /// What the authority's leaves say of it.
    pub(crate) fn issuer(&self) -> Option<Issuer> {
        issuer(self.authority.first()?)
    }
}

/// A chain in rustls' words.
pub(super) fn der(chain: ChainDer) -> Vec<CertificateDer<'static>> {
    chain.into_iter().map(CertificateDer::from).collect()
}

/// The `SubjectPublicKeyInfo` of a chain's first certificate.
pub(super) fn public_key(chain: &[CertificateDer<'_>]) -> Option<Vec<u8>> {
    let (_, cert) = X509Certificate::from_der(chain.first()?).ok()?;
    Some(cert.public_key().raw.to_vec())
}

/// A pair of files: the chain, the opened key, and its kind.
fn read(
    files: &KeyFiles,
    check: impl FnOnce(&KeyFiles, &X509Certificate<'_>) -> Result<(), CertificateError>,
) -> Result<(ChainDer, KeyFile, KeyKind), CertificateError> {
    let chain = pem::certificates(&files.cert)?;
    let opened = pem::open_key(&files.key)?;
    let first = chain.first().map_or(&[][..], |cert| cert.as_ref());
    let Ok((_, cert)) = X509Certificate::from_der(first) else {
        return Err(CertificateError::Unreadable { file: files.cert.clone() });
    };
    check(files, &cert)?;
    let is_rsa = cert.public_key().algorithm.algorithm.as_bytes() == RSA_ENCRYPTION;
    let kind = if is_rsa { KeyKind::Rsa } else { KeyKind::Ecdsa };
    let public_key = cert.public_key().raw.to_vec();
    let (file, cert) = (files.key.clone(), files.cert.clone());
    let chain = chain.iter().map(|cert| cert.to_vec()).collect();
    Ok((chain, KeyFile { file, cert, opened, public_key }, kind))
}

impl CertificateError {
    /// What is wrong with a key that was opened here, in an operator's words.
    pub(crate) fn of_key(fault: KeyFault, key: &Path, cert: &Path) -> Self {
        let file = key.to_owned();
        match fault {
            KeyFault::Read(code) => {
                let source = code.map_or_else(
                    || std::io::Error::other("the system gives no reason"),
                    std::io::Error::from_raw_os_error,
                );
                PemError::Read { file, source }.into()
            }
            KeyFault::TooLong => PemError::TooLong { file }.into(),
            KeyFault::Damaged(fault) => PemError::Damaged { file, fault }.into(),
            KeyFault::NoKey => PemError::NoKey { file }.into(),
            KeyFault::Unsupported(fault) => PemError::UnsupportedKey { file, fault }.into(),
            KeyFault::Mismatch => Self::KeyMismatch { cert: cert.to_owned(), key: file },
            KeyFault::NoSignature => Self::KeyKind { file },
        }
    }
}
