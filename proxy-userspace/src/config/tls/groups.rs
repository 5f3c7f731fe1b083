//! `tls.groups`: what exists here, and why the rest does not.

use rustls::NamedGroup;

use super::super::fault::Reason;
use super::super::kinds::TextValue;
use super::super::setting::words;
use super::TlsVersion;

words! {
    /// Groups for key exchange, by their names in the IANA registry (RFC 8446 section 4.2.7).
    pub enum TlsGroup as "group" {
        /// ML-KEM and X25519 together, for TLS 1.3: what is recorded today stays secret from quantum computers.
        X25519MlKem768 => "X25519MLKEM768",
        /// ML-KEM and P-256 together, for TLS 1.3.
        Secp256r1MlKem768 => "SecP256r1MLKEM768",
        /// Curve25519.
        X25519 => "x25519",
        /// P-256.
        Secp256r1 => "secp256r1",
        /// P-384.
        Secp384r1 => "secp384r1",
        /// ML-KEM alone, for TLS 1.3.
        MlKem768 => "MLKEM768",
        /// ML-KEM alone, for TLS 1.3.
        MlKem1024 => "MLKEM1024",
    }
}

impl TlsGroup {
    /// Those of a profile that names none, the first first.
    pub const COMMON: [Self; 4] = [Self::X25519MlKem768, Self::X25519, Self::Secp256r1, Self::Secp384r1];

    /// The oldest version that negotiates it.
    #[must_use]
    pub const fn since(self) -> TlsVersion {
        match self {
            Self::X25519 | Self::Secp256r1 | Self::Secp384r1 => TlsVersion::Tls12,
            Self::X25519MlKem768 | Self::Secp256r1MlKem768 | Self::MlKem768 | Self::MlKem1024 => {
                TlsVersion::Tls13
            }
        }
    }

    /// In rustls' words.
    #[must_use]
    pub const fn named(self) -> NamedGroup {
        match self {
            Self::X25519MlKem768 => NamedGroup::X25519MLKEM768,
            Self::Secp256r1MlKem768 => NamedGroup::secp256r1MLKEM768,
            Self::X25519 => NamedGroup::X25519,
            Self::Secp256r1 => NamedGroup::secp256r1,
            Self::Secp384r1 => NamedGroup::secp384r1,
            Self::MlKem768 => NamedGroup::MLKEM768,
            Self::MlKem1024 => NamedGroup::MLKEM1024,
        }
    }

    /// The one with this number.
    #[must_use]
    pub fn of(named: NamedGroup) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.named() == named)
    }
}

/// A [`TlsGroup`] as the file spells it. One that IANA knows and this program does not is answered with the reason.
pub(super) struct GroupText;

impl TextValue for GroupText {
    type Value = TlsGroup;
    const WHAT: &'static str = TlsGroup::WHAT;
    const WORDS: super::super::describe::Words = TlsGroup::WORDS;

    fn parse(text: &str) -> Result<TlsGroup, Reason> {
        TlsGroup::parse(text).map_err(|unknown| answer(text).unwrap_or(unknown))
    }

    fn show(value: &TlsGroup) -> String {
        value.as_str().to_owned()
    }
}

/// About a group that IANA knows, or knows by another spelling.
fn answer(text: &str) -> Option<Reason> {
    let name = text.to_ascii_lowercase();
    let meant = match name.as_str() {
        "p-256" | "prime256v1" => Some(TlsGroup::Secp256r1),
        "p-384" => Some(TlsGroup::Secp384r1),
        _ => TlsGroup::ALL.into_iter().find(|group| group.as_str().eq_ignore_ascii_case(&name)),
    };
    if let Some(meant) = meant {
        return Some(Reason::unfit("not the name that IANA has", format!("write \"{}\"", meant.as_str())));
    }
    let why = match name.as_str() {
        "secp521r1" | "x448" | "mlkem512" | "secp384r1mlkem1024" => "rustls does not exchange keys with it",
        _ if name.starts_with("ffdhe") => {
            "rustls has no Diffie-Hellman over finite fields, which RFC 9325 section 4.1 advises against"
        }
        _ if ["sect", "secp", "brainpool"].iter().any(|family| name.starts_with(family)) => {
            "RFC 8446 section 4.2.7 has it no more"
        }
        _ => return None,
    };
    Some(Reason::unfit(
        format!("does not exist here: {why}"),
        "use \"x25519\", \"secp256r1\" or \"secp384r1\", or for TLS 1.3 \"X25519MLKEM768\"",
    ))
}

#[cfg(test)]
mod tests {
    use rustls::ProtocolVersion;
    use rustls::crypto::aws_lc_rs;

    use super::*;

    #[test]
    fn a_group_that_does_not_exist_here_is_answered_with_its_own_reason() {
        for (name, said) in [
            ("X448", "rustls does not exchange keys"),
            ("secp521r1", "rustls does not exchange keys"),
            ("ffdhe2048", "RFC 9325"),
            ("sect283k1", "RFC 8446 section 4.2.7"),
            ("brainpoolP256r1", "RFC 8446 section 4.2.7"),
            ("X25519", "write \"x25519\""),
            ("P-256", "write \"secp256r1\""),
        ] {
            let reason = GroupText::parse(name).unwrap_err();
            let said_all = format!("{reason}; {}", reason.remedy());
            assert!(said_all.contains(said), "{name}: {said_all}");
        }
        assert!(matches!(GroupText::parse("p").unwrap_err(), Reason::UnknownWord { .. }));
    }

    #[test]
    fn every_group_is_one_of_the_provider_and_is_of_the_versions_that_it_says() {
        for group in TlsGroup::ALL {
            let ours = aws_lc_rs::ALL_KX_GROUPS.iter().find(|ours| ours.name() == group.named()).unwrap();
            let old = ours.usable_for_version(ProtocolVersion::TLSv1_2);
            assert_eq!(old, group.since() == TlsVersion::Tls12, "{group:?}");
            assert_eq!(TlsGroup::of(group.named()), Some(group));
        }
        let common: Vec<_> =
            aws_lc_rs::default_provider().kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(common, TlsGroup::COMMON.map(TlsGroup::named));
    }
}
