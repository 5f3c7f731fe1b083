//! What a profile's versions, ciphers and groups demand of each other.

use super::super::fault::Reason;
use super::super::report::Report;
use super::{Tls, TlsCipher, TlsVersion};

/// A version that the profile allows, and for which it then has no cipher or no group, is most likely a mistake: the peer
/// would only see that a handshake fails. TLS 1.3 alone may be left out by its ciphers, because nothing else says so.
/// `path` is the profile's own, such as `tls`.
pub(in crate::config) fn judge(report: &mut Report<'_>, path: &str, tls: &Tls) {
    let keys = ["min_version", "ciphers", "groups"].map(|key| format!("{path}.{key}"));
    let [_, ciphers, groups] = &keys;
    if !keys.iter().all(|key| report.is_sound(key)) {
        return;
    }
    let has = |version| tls.ciphers.iter().any(|cipher: &TlsCipher| cipher.version() == version);
    match tls.min_version {
        TlsVersion::Tls13 if !has(TlsVersion::Tls13) => report.relate(
            ciphers,
            0,
            Reason::unfit(
                "the list has no suite of TLS 1.3, and min_version = \"1.3\" allows nothing else: no handshake could \
                 succeed",
                "add \"TLS_AES_256_GCM_SHA384\" or another suite of TLS 1.3, or use min_version = \"1.2\"",
            ),
        ),
        TlsVersion::Tls12 if !has(TlsVersion::Tls12) => report.relate(
            ciphers,
            0,
            Reason::unfit(
                "the list has no suite of TLS 1.2, which min_version = \"1.2\" allows: it could never be agreed on",
                "use min_version = \"1.3\", or add \"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\" or another suite of \
                 TLS 1.2",
            ),
        ),
        TlsVersion::Tls12 if !tls.groups.iter().any(|group| group.since() == TlsVersion::Tls12) => report
            .relate(
                groups,
                0,
                Reason::unfit(
                    "the list has no group of TLS 1.2, which min_version = \"1.2\" allows: it could never be agreed \
                     on",
                    "use min_version = \"1.3\", or add \"x25519\", \"secp256r1\" or \"secp384r1\"",
                ),
            ),
        TlsVersion::Tls12 | TlsVersion::Tls13 => {}
    }
}
