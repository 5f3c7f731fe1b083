//! What the files say that a policy's TLS is made from. Read by the process that may, used by the one that may not.

use std::collections::BTreeMap;

use rustls::pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::expiry::{CertificateUse, Lifetime};
use super::mint::tbs::Issuer;
use super::mint::{Chains, KeyFile, own_default};
use super::revocation::{CRLS_BYTES_MAX, CrlError, lists};
use super::roots;
use super::upstream::TrustError;
use crate::config::{Certificates, Config, DefaultCertificate, Tls};

/// Everything but the keys: nothing of it is a secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TrustMaterial {
    /// Of each TLS profile in use, by its name in records; each in DER.
    roots: BTreeMap<String, Vec<Vec<u8>>>,
    /// Lists of revoked certificates, of each profile in use; each in DER.
    lists: BTreeMap<String, Vec<Vec<u8>>>,
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
        let lists = Self::lists_of(config)?;
        let mut roots = BTreeMap::new();
        for (name, profile) in config.profiles_in_use() {
            let of_profile = roots::read(profile)?;
            roots.insert(name.to_owned(), of_profile.into_iter().map(|root| root.to_vec()).collect());
        }
        Ok((Self { roots, lists, chains }, keys))
    }

    /// The same with the lists of revoked certificates as they are now; `None` where none has changed.
    ///
    /// # Errors
    /// A list cannot be used.
    pub(crate) fn with_new_lists(&self, config: &Config) -> Result<Option<Self>, TrustError> {
        let lists = Self::lists_of(config)?;
        Ok((lists != self.lists).then(|| Self { lists, ..self.clone() }))
    }

    /// The same with the default certificate that lies in its files now, and the key of that; without one where the
    /// policy had none.
    ///
    /// # Errors
    /// The pair cannot be used.
    pub(crate) fn with_new_default(&self, config: &Config) -> Result<(Self, Option<KeyFile>), TrustError> {
        let mut new = self.clone();
        let (Some(DefaultCertificate { files, .. }), Some(chain)) =
            (config.default_certificate(), &mut new.chains.default)
        else {
            return Ok((new, None));
        };
        let (now_there, key) = Chains::read_default(&files)?;
        *chain = now_there;
        Ok((new, Some(key)))
    }

    /// Whether the default certificate is one that Postern made, and has to make anew.
    pub(crate) fn has_due_default(&self, config: &Config, now: OffsetDateTime) -> bool {
        let is_own = config.default_certificate().is_some_and(|default| default.is_own);
        let first = self.chains.default.as_ref().and_then(|chain| chain.first());
        is_own && first.is_some_and(|first| own_default::is_due(first, now))
    }

    fn lists_of(config: &Config) -> Result<BTreeMap<String, Vec<Vec<u8>>>, TrustError> {
        let of_profile = |(name, profile): (&str, &Tls)| {
            let lists = lists::read(profile)?.into_iter().map(|list| list.der).collect();
            Ok((name.to_owned(), lists))
        };
        let lists: BTreeMap<String, Vec<Vec<u8>>> =
            config.profiles_in_use().map(of_profile).collect::<Result<_, TrustError>>()?;
        let total = lists.values().flatten().fold(0_usize, |sum, list| sum.saturating_add(list.len()));
        if total > CRLS_BYTES_MAX { Err(CrlError::TooMany { total }.into()) } else { Ok(lists) }
    }

    /// The lists of this profile.
    pub(super) fn lists(&self, profile: &str) -> &[Vec<u8>] {
        self.lists.get(profile).map_or(&[], Vec::as_slice)
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
