//! What the files say that a policy's TLS is made from. Read by the process that may, used by the one that may not.

use std::collections::BTreeMap;

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
    /// Of each TLS profile in use, by its name in records; each in DER.
    roots: BTreeMap<String, Vec<Vec<u8>>>,
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
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        let (chains, keys) = Chains::read(&config.certificates, now)?;
        let mut roots = BTreeMap::new();
        for (name, profile) in config.profiles_in_use() {
            let of_profile = roots::read(profile)?;
            roots.insert(name.to_owned(), of_profile.into_iter().map(|root| root.to_vec()).collect());
        }
        Ok((Self { roots, chains }, keys))
    }

    /// Of this profile, in rustls' words.
    pub(super) fn roots(&self, profile: &str) -> Vec<CertificateDer<'_>> {
        let roots = self.roots.get(profile).into_iter().flatten();
        roots.map(|root| CertificateDer::from(root.as_slice())).collect()
    }

    /// What the authority's leaves say of it; `None` where its certificate cannot be read.
    pub(crate) fn issuer(&self) -> Option<Issuer> {
        self.chains.issuer()
    }
}
