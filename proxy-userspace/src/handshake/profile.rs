//! What a TLS profile lets rustls negotiate, on either side.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};

use super::alerts::provider;
use crate::config::Tls;

/// The process's provider with the suites and groups of this profile, in its order. No suite is made anew for it.
pub(super) fn provider_of(tls: &Tls) -> Arc<CryptoProvider> {
    let all = provider();
    let suite = |cipher: &crate::config::TlsCipher| {
        all.cipher_suites.iter().find(|suite| suite.suite() == cipher.suite()).copied()
    };
    let group = |group: &crate::config::TlsGroup| -> Option<&'static dyn SupportedKxGroup> {
        aws_lc_rs::ALL_KX_GROUPS.iter().find(|ours| ours.name() == group.named()).copied()
    };
    Arc::new(CryptoProvider {
        cipher_suites: tls.ciphers.iter().filter_map(suite).collect(),
        kx_groups: tls.groups.iter().filter_map(group).collect(),
        ..CryptoProvider::clone(&all)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TlsCipher, TlsGroup};

    #[test]
    fn a_profile_has_its_own_suites_and_groups_in_its_own_order() {
        let tls = Tls {
            ciphers: vec![TlsCipher::RsaAes128, TlsCipher::Tls13ChaCha20],
            groups: vec![TlsGroup::Secp384r1, TlsGroup::MlKem1024, TlsGroup::X25519],
            ..Tls::default()
        };
        let narrow = provider_of(&tls);
        let suites: Vec<_> = narrow.cipher_suites.iter().map(|suite| suite.suite()).collect();
        assert_eq!(suites, [TlsCipher::RsaAes128.suite(), TlsCipher::Tls13ChaCha20.suite()]);
        let groups: Vec<_> = narrow.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups, tls.groups.iter().map(|group| group.named()).collect::<Vec<_>>());
        let standard = provider_of(&Tls::default());
        assert_eq!(standard.cipher_suites.len(), TlsCipher::ALL.len());
        assert_eq!(standard.kx_groups.len(), TlsGroup::COMMON.len());
    }
}
