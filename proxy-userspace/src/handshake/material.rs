//! What the files say that a policy's TLS is made from. Read by the process that may, used by the one that may not.

use std::collections::BTreeMap;

use rustls::pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};

use super::expiry::{CertificateUse, Lifetime};
use super::mint::tbs::Issuer;
use super::mint::{Chains, KeyFile};
use super::roots;
use super::upstream::TrustError;
use crate::config::{Certificates, Config, DefaultCertificate};

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
    /// `certificates.server` in their order, and the default one's.
    ///
    /// # Errors
    /// Which file, what is wrong with it, and the remedy.
    pub(crate) fn read(config: &Config) -> Result<(Self, Vec<KeyFile>), TrustError> {
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        // The one that Postern makes is not there before the first start.
        let default = config.default_certificate();
        let default = default.filter(|default| !default.is_own || default.files.cert.exists());
        let default = default.map(|default| default.files);
        let (chains, keys) = Chains::read(&config.certificates, default.as_ref(), now)?;
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

    /// When each of its certificates ends.
    pub(crate) fn lifetimes(&self, config: &Config) -> Vec<Lifetime> {
        let Chains { authority, servers, default } = &self.chains;
        let Certificates { authority: files, server, .. } = &config.certificates;
        let mut lifetimes = vec![Lifetime::new(CertificateUse::Authority, &files.cert, authority)];
        lifetimes.extend(server.iter().zip(servers).map(|(entry, chain)| {
            Lifetime::new(CertificateUse::Server(entry.names.clone()), &entry.files.cert, chain)
        }));
        if let (Some(chain), Some(DefaultCertificate { files, is_own })) =
            (default, config.default_certificate())
        {
            let of = if is_own { CertificateUse::OwnDefault } else { CertificateUse::Default };
            lifetimes.push(Lifetime::new(of, &files.cert, chain));
        }
        lifetimes
    }

    /// What the authority's leaves say of it; `None` where its certificate cannot be read.
    pub(crate) fn issuer(&self) -> Option<Issuer> {
        self.chains.issuer()
    }
}
