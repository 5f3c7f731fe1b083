//! Who signs for a policy: the signer, or this process where there is none (`postern check`, tests).

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, OtherError, SignatureAlgorithm, SignatureScheme};

use super::keys::Keys;
use super::link::SignerLink;
use super::protocol::{KeyFacts, SignFault};
use crate::jobs::{JobError, JobKind, JobPool};

/// The keys of one policy, wherever they are. The rules are the same.
#[derive(Clone, Debug)]
pub(crate) enum Signing {
    /// Here.
    InProcess(Arc<Keys>),
    /// In the process at the other end, under this generation.
    Process {
        /// The way there.
        link: SignerLink,
        /// Whose keys.
        generation: u64,
    },
}

impl Signing {
    /// The authority's signature over a leaf.
    pub(crate) async fn sign_leaf(
        &self,
        jobs: &JobPool,
        tbs: Vec<u8>,
    ) -> Result<Result<Vec<u8>, SignFault>, JobError> {
        match self {
            Self::InProcess(keys) => {
                let keys = Arc::clone(keys);
                let sign = move || keys.sign_leaf(&tbs).map(|(signature, _)| signature);
                Ok(jobs.run(JobKind::Serve, sign).await?.map_err(SignFault::Refused))
            }
            Self::Process { link, generation } => Ok(link.sign_leaf(*generation, tbs).await),
        }
    }

    /// When signatures can be made. Before a handshake that needs one of [`ConfiguredKey`]'s.
    pub(crate) async fn ready(&self) {
        match self {
            Self::InProcess(_) => {}
            Self::Process { link, .. } => link.connected().await,
        }
    }
}

/// The key of an entry of `certificates.server`, as rustls signs with it. A signature holds its thread until the signer
/// has made it.
pub(crate) struct ConfiguredKey {
    /// Who signs.
    pub(crate) signing: Signing,
    /// The entry's place.
    pub(crate) entry: u32,
    /// What the key can do.
    pub(crate) facts: KeyFacts,
    /// Its `SubjectPublicKeyInfo`, as the certificate has it.
    pub(crate) public_key: Vec<u8>,
}

impl SigningKey for ConfiguredKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = self.facts.schemes().into_iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(ConfiguredSigner { signing: self.signing.clone(), entry: self.entry, scheme }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.public_key.as_slice().into())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.facts.algorithm()
    }
}

impl fmt::Debug for ConfiguredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfiguredKey").field("entry", &self.entry).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct ConfiguredSigner {
    signing: Signing,
    entry: u32,
    scheme: SignatureScheme,
}

impl Signer for ConfiguredSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signed = match &self.signing {
            Signing::InProcess(keys) => {
                keys.sign_handshake(self.entry, self.scheme, message).map_err(SignFault::Refused)
            }
            Signing::Process { link, generation } => {
                link.sign_handshake(*generation, self.entry, self.scheme, message)
            }
        };
        signed.map_err(|fault| Error::Other(OtherError(Arc::new(fault))))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}
