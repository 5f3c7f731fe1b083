//! Which kind of key a client is shown.

use std::fmt;

use rustls::server::ClientHello;
use rustls::{CipherSuite, NamedGroup, SignatureScheme};

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
    /// authenticates with it, which in TLS 1.3 every suite does. In TLS 1.2 the key's curve must be among the groups,
    /// too, where the client lists any (RFC 8422 section 5.1); in TLS 1.3 groups say nothing of certificates (RFC 8446
    /// section 4.2.7). `suites` are those that the policy allows as well: who offers one of TLS 1.3 is taken to negotiate
    /// it.
    #[must_use]
    pub fn for_client(
        schemes: &[SignatureScheme],
        suites: &[CipherSuite],
        groups: Option<&[NamedGroup]>,
    ) -> Self {
        const OF_TLS13: [CipherSuite; 3] = [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        const WITH_ECDSA: [CipherSuite; 3] = [
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        let offers = |wanted: &[CipherSuite]| suites.iter().any(|suite| wanted.contains(suite));
        let knows_curve = groups.is_none_or(|groups| groups.contains(&NamedGroup::secp256r1));
        let verifies = schemes.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        if verifies && (offers(&OF_TLS13) || offers(&WITH_ECDSA) && knows_curve) {
            Self::Ecdsa
        } else {
            Self::Rsa
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ecdsa => "ECDSA",
            Self::Rsa => "RSA",
        })
    }
}

/// What of a ClientHello decides about the kind of key. The profile that decides about the suites is known only when the
/// ClientHello was read.
#[derive(Clone, Debug)]
pub struct ClientOffer {
    schemes: Vec<SignatureScheme>,
    suites: Vec<CipherSuite>,
    groups: Option<Vec<NamedGroup>>,
}

impl ClientOffer {
    /// Of this ClientHello.
    #[must_use]
    pub fn of(hello: &ClientHello<'_>) -> Self {
        let (schemes, suites) = (hello.signature_schemes().to_vec(), hello.cipher_suites().to_vec());
        Self { schemes, suites, groups: hello.named_groups().map(<[_]>::to_vec) }
    }

    /// What the client can use under a profile with these suites.
    #[must_use]
    pub fn key(&self, ours: &[CipherSuite]) -> KeyKind {
        let common: Vec<_> = self.suites.iter().copied().filter(|suite| ours.contains(suite)).collect();
        KeyKind::for_client(&self.schemes, &common, self.groups.as_deref())
    }
}
