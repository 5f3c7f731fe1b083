//! What the files say that a policy's TLS is made from. Read by the process that may, used by the one that may not.

use rustls::pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};

use super::mint::tbs::Issuer;
use super::mint::{Chains, KeyFile};
use super::roots;
use super::upstream::TrustError;
use crate::config::Config;

/// Everything but the keys: nothing of it is a secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TrustMaterial {
    /// Of `tls.roots`, each in DER.
    roots: Vec<Vec<u8>>,
    /// Of `certificates`.
    pub(super) chains: Chains,
}

impl TrustMaterial {
    /// Reads roots and certificates, checks them, and opens the keys, the authority's first, then those of
    /// `certificates.server` in their order.
    ///
    /// # Errors
    /// Which file, what is wrong with it, and the remedy.
    pub(crate) fn read(config: &Config) -> Result<(Self, Vec<KeyFile>), TrustError> {
        let roots = roots::read(&config.tls)?;
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        let (chains, keys) = Chains::read(&config.certificates, now)?;
        let roots = roots.into_iter().map(|root| root.to_vec()).collect();
        Ok((Self { roots, chains }, keys))
    }

    /// In rustls' words.
    pub(super) fn roots(&self) -> Vec<CertificateDer<'_>> {
        self.roots.iter().map(|root| CertificateDer::from(root.as_slice())).collect()
    }

    /// What the authority's leaves say of it; `None` where its certificate cannot be read.
    pub(crate) fn issuer(&self) -> Option<Issuer> {
        self.chains.issuer()
    }
}
