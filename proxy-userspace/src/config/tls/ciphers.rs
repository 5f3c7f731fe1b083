//! `tls.ciphers`: what exists here, and why the rest does not.

use rustls::CipherSuite;

use super::super::fault::Reason;
use super::super::kinds::TextValue;
use super::super::setting::words;
use super::TlsVersion;

words! {
    /// Cipher suites, by their names in the IANA registry. The order is rustls' own.
    pub enum TlsCipher as "cipher suite" {
        /// TLS 1.3.
        Tls13Aes256 => "TLS_AES_256_GCM_SHA384",
        /// TLS 1.3.
        Tls13Aes128 => "TLS_AES_128_GCM_SHA256",
        /// TLS 1.3.
        Tls13ChaCha20 => "TLS_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, for certificates with an ECDSA key.
        EcdsaAes256 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, for certificates with an ECDSA key.
        EcdsaAes128 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, for certificates with an ECDSA key.
        EcdsaChaCha20 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, for certificates with an RSA key.
        RsaAes256 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, for certificates with an RSA key.
        RsaAes128 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, for certificates with an RSA key.
        RsaChaCha20 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
}

impl TlsCipher {
    /// The only version that negotiates it.
    #[must_use]
    pub const fn version(self) -> TlsVersion {
        match self {
            Self::Tls13Aes256 | Self::Tls13Aes128 | Self::Tls13ChaCha20 => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        }
    }

    /// In rustls' words.
    #[must_use]
    pub const fn suite(self) -> CipherSuite {
        match self {
            Self::Tls13Aes256 => CipherSuite::TLS13_AES_256_GCM_SHA384,
            Self::Tls13Aes128 => CipherSuite::TLS13_AES_128_GCM_SHA256,
            Self::Tls13ChaCha20 => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            Self::EcdsaAes256 => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            Self::EcdsaAes128 => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            Self::EcdsaChaCha20 => CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            Self::RsaAes256 => CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            Self::RsaAes128 => CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            Self::RsaChaCha20 => CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        }
    }
}

/// A [`TlsCipher`] as the file spells it. One that IANA knows and this program does not is answered with the reason.
pub(super) struct CipherText;

impl TextValue for CipherText {
    type Value = TlsCipher;
    const WHAT: &'static str = TlsCipher::WHAT;
    const WORDS: super::super::describe::Words = TlsCipher::WORDS;

    fn parse(text: &str) -> Result<TlsCipher, Reason> {
        TlsCipher::parse(text).map_err(|unknown| absence(text).map_or(unknown, lacks))
    }

    fn show(value: &TlsCipher) -> String {
        value.as_str().to_owned()
    }
}

fn lacks(why: &'static str) -> Reason {
    let remedy = "use suites with ECDHE and GCM or ChaCha20, such as \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\", or \
                  suites of TLS 1.3, such as \"TLS_AES_128_GCM_SHA256\"";
    Reason::unfit(format!("does not exist here: {why}"), remedy)
}

/// Why a suite of the registry is not among ours: the first thing that speaks against it.
fn absence(name: &str) -> Option<&'static str> {
    let rest = name.strip_prefix("TLS_")?;
    let (exchange, _) = rest.split_once("_WITH_").unwrap_or(("", rest));
    let has = |part: &str| rest.split('_').any(|word| word == part);
    Some(match exchange {
        _ if has("anon") => "without certificates anybody on the path can be the server",
        _ if has("NULL") => "it encrypts nothing",
        _ if has("EXPORT") => "its keys were made short enough to be broken",
        "RSA" | "ECDH_RSA" | "ECDH_ECDSA" | "DH_RSA" | "DH_DSS" => {
            "it has no forward secrecy: who gets the server's key later reads what was recorded before"
        }
        _ if has("PSK") || has("SRP") || has("KRB5") => "mail servers and clients share no such keys",
        "DHE_RSA" | "DHE_DSS" => {
            "rustls has no Diffie-Hellman over finite fields, which RFC 9325 section 4.1 advises against"
        }
        _ if has("RC4") => "RC4 is broken (RFC 7465)",
        _ if has("3DES") || has("DES") || has("DES40") || has("IDEA") => {
            "blocks of 64 bits are broken in long sessions (Sweet32)"
        }
        _ if has("CBC") => "CBC in TLS 1.2 leaks plaintext to who measures time (Lucky Thirteen)",
        _ if has("CCM") || has("CAMELLIA") || has("ARIA") || has("SM4") || has("AEGIS") => {
            "rustls does not have it"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_of_iana_that_does_not_exist_here_is_answered_with_its_own_reason() {
        for (name, why) in [
            ("TLS_RSA_WITH_AES_128_GCM_SHA256", "no forward secrecy"),
            ("TLS_RSA_WITH_AES_256_CBC_SHA", "no forward secrecy"),
            ("TLS_ECDH_ECDSA_WITH_AES_128_GCM_SHA256", "no forward secrecy"),
            ("TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", "RFC 9325"),
            ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "CBC"),
            ("TLS_ECDHE_RSA_WITH_RC4_128_SHA", "RFC 7465"),
            ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", "Sweet32"),
            ("TLS_DH_anon_WITH_AES_128_GCM_SHA256", "anybody on the path"),
            ("TLS_ECDHE_RSA_WITH_NULL_SHA", "encrypts nothing"),
            ("TLS_RSA_EXPORT_WITH_RC4_40_MD5", "short enough"),
            ("TLS_PSK_WITH_AES_128_GCM_SHA256", "share no such keys"),
            ("TLS_AES_128_CCM_SHA256", "rustls does not have it"),
        ] {
            let reason = CipherText::parse(name).unwrap_err().to_string();
            assert!(reason.starts_with("does not exist here") && reason.contains(why), "{name}: {reason}");
        }
        for unknown in ["ECDHE-RSA-AES128-GCM-SHA256", "TLS_AES", "", "TLS_WITH_"] {
            let reason = CipherText::parse(unknown).unwrap_err();
            assert!(matches!(reason, Reason::UnknownWord { .. }), "{unknown}: {reason}");
        }
    }

    #[test]
    fn every_suite_is_the_one_of_rustls_that_its_name_says() {
        for cipher in TlsCipher::ALL {
            let name = cipher.suite().as_str().unwrap().replace("TLS13_", "TLS_");
            assert_eq!(cipher.as_str(), name);
            assert_eq!(cipher.version() == TlsVersion::Tls12, name.contains("_WITH_"), "{name}");
        }
    }
}
