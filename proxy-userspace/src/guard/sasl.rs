use zeroize::Zeroizing;

use super::account::{AccountNames, ShownAccount};
use crate::content::reading::Base64Decoder;

/// SASL mechanisms by where they name the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaslMechanism {
    /// RFC 4616.
    Plain,
    /// The first response is the account, the second the password.
    Login,
    /// Google's: the account and a token.
    XOAuth2,
    /// RFC 7628: a token, and the account if the client likes.
    OAuthBearer,
    /// RFC 2195.
    CramMd5,
    /// RFC 5802.
    Scram,
    /// One whose messages are not read: NTLM.
    Opaque,
}

/// Answers of a mechanism that is not read: their number is not known. Where only some accounts log in, it is refused.
const ANSWERS_OF_OPAQUE: u8 = u8::MAX;

/// What a response of the client's says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SaslMessage {
    /// Nothing: the account comes in a later one.
    Empty,
    /// The client gives up (RFC 9051 section 6.2.2).
    Cancel,
    /// These accounts.
    Named(AccountNames),
    /// No account that can be read, or not as the mechanism has it.
    Unreadable,
}

impl SaslMessage {
    /// The account for records, and for what policy says of it, in a login by this mechanism.
    pub(crate) fn shown_account(&self, mechanism: SaslMechanism) -> Option<ShownAccount> {
        match self {
            Self::Named(names) => names
                .shown()
                .map(|name| ShownAccount { name, is_exact: mechanism.proves_account() && names.is_exact() }),
            Self::Empty | Self::Cancel | Self::Unreadable => None,
        }
    }
}

impl SaslMechanism {
    /// By its name.
    pub(crate) fn of(name: &[u8]) -> Self {
        match name.to_ascii_uppercase().as_slice() {
            b"PLAIN" => Self::Plain,
            b"LOGIN" => Self::Login,
            b"XOAUTH2" => Self::XOAuth2,
            b"OAUTHBEARER" => Self::OAuthBearer,
            b"CRAM-MD5" => Self::CramMd5,
            b"SCRAM-SHA-1" | b"SCRAM-SHA-256" => Self::Scram,
            _ => Self::Opaque,
        }
    }

    /// Whether a server that says OK has found that the secret is that of the account which is named. A token says itself whose
    /// it is, and a server need not compare that with the name beside it (RFC 7628 section 3.1).
    const fn proves_account(self) -> bool {
        match self {
            Self::Plain | Self::Login | Self::CramMd5 | Self::Scram => true,
            Self::XOAuth2 | Self::OAuthBearer | Self::Opaque => false,
        }
    }

    /// Whether the server speaks first, so that an initial response is none of the mechanism's (RFC 4422 section 3.3).
    pub(crate) const fn is_server_first(self) -> bool {
        matches!(self, Self::Login | Self::CramMd5)
    }

    /// Answers that the client has behind the one that names its account.
    pub(crate) const fn answers_behind_name(self) -> u8 {
        match self {
            Self::Plain | Self::CramMd5 => 0,
            // The password; or, of those with a token, what ends a dialogue in which the server has refused it.
            Self::Login | Self::XOAuth2 | Self::OAuthBearer => 1,
            // The proof, and what ends the dialogue.
            Self::Scram => 2,
            Self::Opaque => ANSWERS_OF_OPAQUE,
        }
    }

    /// Whether such an answer may stand behind the one that names the account, if any may.
    pub(crate) fn may_follow(self, line: &[u8]) -> bool {
        match self {
            // `AQ==` is `^A` (RFC 7628 section 3.2.3).
            Self::XOAuth2 | Self::OAuthBearer => matches!(line, b"" | b"AQ=="),
            _ => true,
        }
    }

    /// What ends a dialogue in which the server has said why it refuses the token, as RFC 7628 section 3.2.3 and Google's
    /// XOAUTH2 have it. Some clients send the token again there.
    pub(crate) const fn closing(self) -> Option<&'static [u8]> {
        match self {
            Self::XOAuth2 => Some(b"\r\n"),
            Self::OAuthBearer => Some(b"AQ==\r\n"),
            _ => None,
        }
    }

    /// Whether the server has what shows that the client knows a password or a token. `left` is how many answers may come
    /// behind the one that names the account; `None` while that one has not come.
    pub(crate) fn has_shown_secret(self, left: Option<u8>) -> bool {
        let is_with_name = matches!(self, Self::Plain | Self::XOAuth2 | Self::OAuthBearer | Self::CramMd5);
        left.is_some_and(|left| is_with_name || left < self.answers_behind_name())
    }

    /// Read the initial response of AUTHENTICATE, which is `=` where it is empty. What is decoded is wiped.
    pub(crate) fn read_initial(self, line: &[u8]) -> SaslMessage {
        match line {
            // Servers take an empty one for the account, so that the next one is the password: no account may be read there.
            b"" | b"=" if self.is_server_first() => SaslMessage::Unreadable,
            b"" | b"=" => SaslMessage::Empty,
            _ => self.read(line),
        }
    }

    /// Read the client's first answer that is not empty, in base64. What is decoded is wiped.
    pub(crate) fn read(self, line: &[u8]) -> SaslMessage {
        match line {
            b"" if self.is_server_first() => return SaslMessage::Unreadable,
            b"" => return SaslMessage::Empty,
            b"*" => return SaslMessage::Cancel,
            _ if self == Self::Opaque => return SaslMessage::Unreadable,
            _ => {}
        }
        let Some(decoded) = decoded(line) else { return SaslMessage::Unreadable };
        let names = match self {
            Self::Plain => plain(&decoded),
            Self::Login => Some(AccountNames::one(&decoded)),
            Self::XOAuth2 => xoauth2(&decoded),
            Self::OAuthBearer => {
                gs2(&decoded, 1).map(|(authorization, _)| AccountNames::both(b"", &authorization))
            }
            Self::CramMd5 => cram_md5(&decoded),
            Self::Scram => scram(&decoded),
            Self::Opaque => None,
        };
        match names.filter(|names| names.account().is_some()) {
            Some(names) => SaslMessage::Named(names),
            None => SaslMessage::Unreadable,
        }
    }
}

/// Strict base64 (RFC 4648 section 4): of anything else, a server might read something else.
fn decoded(line: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let padding = line.iter().rev().take_while(|octet| **octet == b'=').count();
    let digits = line.get(..line.len().saturating_sub(padding))?;
    let is_digit = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/');
    if padding > 2 || !line.len().is_multiple_of(4) || !digits.iter().all(is_digit) {
        return None;
    }
    let mut decoded = Zeroizing::new(Vec::with_capacity(line.len()));
    let mut decoder = Base64Decoder::default();
    decoder.push(line, &mut decoded);
    decoder.flush(&mut decoded);
    Some(decoded)
}

/// `[authzid] NUL authcid NUL passwd`.
fn plain(message: &[u8]) -> Option<AccountNames> {
    let mut parts = message.split(|octet| *octet == 0);
    let (authorization, authentication) = (parts.next()?, parts.next()?);
    // A password, which is not looked at, and nothing more.
    (parts.count() == 1 && !authentication.is_empty())
        .then(|| AccountNames::both(authentication, authorization))
}

/// `user=` and the account, `^A`, `auth=Bearer` and the token, `^A^A`.
fn xoauth2(message: &[u8]) -> Option<AccountNames> {
    let mut users = message.split(|octet| *octet == 1).filter_map(|field| field.strip_prefix(b"user="));
    let user = users.next().filter(|_| message.starts_with(b"user="))?;
    users.next().is_none().then(|| AccountNames::one(user))
}

/// The account, a space, and 32 hexadecimal digits.
fn cram_md5(message: &[u8]) -> Option<AccountNames> {
    let space = message.iter().rposition(|octet| *octet == b' ')?;
    let (account, digest) = message.split_at_checked(space)?;
    let digits = digest.get(1..)?;
    (digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit)).then(|| AccountNames::one(account))
}

/// `n,a=authzid,n=user,r=nonce`.
fn scram(message: &[u8]) -> Option<AccountNames> {
    let (authorization, rest) = gs2(message, b',')?;
    let user = rest.strip_prefix(b"n=")?;
    let end = user.iter().position(|octet| *octet == b',')?;
    let user = unescaped(user.get(..end)?)?;
    (!user.is_empty()).then(|| AccountNames::both(&user, &authorization))
}

/// The header of RFC 5801 section 4, without channel binding: the account to act for, which may be empty, and what stands
/// behind the header. OAUTHBEARER ends it with `^A` behind its last comma (RFC 7628 section 3.1).
fn gs2(message: &[u8], end: u8) -> Option<(Vec<u8>, &[u8])> {
    let rest = message.strip_prefix(b"n,").or_else(|| message.strip_prefix(b"y,"))?;
    let comma = rest.iter().position(|octet| *octet == b',')?;
    let (authorization, rest) = rest.split_at_checked(comma)?;
    let rest = rest.get(1..)?;
    let authorization = match authorization {
        b"" => Vec::new(),
        named => unescaped(named.strip_prefix(b"a=")?)?,
    };
    let is_ended = end == b',' || rest.first() == Some(&end);
    is_ended.then_some((authorization, rest))
}

/// `=2C` and `=3D` stand for a comma and an equals sign (RFC 5802 section 5.1).
fn unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'=' {
            plain.push(*first);
            continue;
        }
        let (code, behind) = rest.split_at_checked(2)?;
        plain.push(match code {
            b"2C" => b',',
            b"3D" => b'=',
            _ => return None,
        });
        rest = behind;
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::SaslMechanism::{CramMd5, Login, OAuthBearer, Opaque, Plain, Scram, XOAuth2};
    use super::*;

    fn base64(octets: &[u8]) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let quantum = |part: &[u8]| {
            let bits =
                part.iter().chain([&0, &0]).take(3).fold(0, |bits, octet| bits << 8 | usize::from(*octet));
            let digit = |place: usize| match place <= part.len() {
                true => DIGITS[bits >> (18 - 6 * place) & 63],
                false => b'=',
            };
            [0, 1, 2, 3].map(digit)
        };
        octets.chunks(3).flat_map(quantum).collect()
    }

    fn named(authentication: &str, authorization: &str) -> SaslMessage {
        SaslMessage::Named(AccountNames::both(authentication.as_bytes(), authorization.as_bytes()))
    }

    #[test]
    fn each_mechanism_names_the_account_in_its_first_message() {
        for (mechanism, message, expected) in [
            (Plain, "\0joe\0secret", named("joe", "")),
            (Plain, "anna\0joe\0secret", named("joe", "anna")),
            (Plain, "\0\0secret", SaslMessage::Unreadable),
            (Plain, "joe\0secret", SaslMessage::Unreadable),
            (Plain, "\0joe\0secret\0more", SaslMessage::Unreadable),
            (Login, "joe", named("joe", "")),
            (XOAuth2, "user=joe@example.com\x01auth=Bearer t\x01\x01", named("joe@example.com", "")),
            (XOAuth2, "user=joe\x01user=anna\x01auth=Bearer t\x01\x01", SaslMessage::Unreadable),
            (XOAuth2, "auth=Bearer t\x01user=joe\x01\x01", SaslMessage::Unreadable),
            (XOAuth2, "user=\x01auth=Bearer t\x01\x01", SaslMessage::Unreadable),
            (OAuthBearer, "n,a=joe@example.com,\x01auth=Bearer t\x01\x01", named("", "joe@example.com")),
            (OAuthBearer, "n,,\x01auth=Bearer t\x01\x01", SaslMessage::Unreadable),
            (OAuthBearer, "n,a=joe,anna,\x01auth=Bearer t\x01\x01", SaslMessage::Unreadable),
            (CramMd5, "joe doe 0123456789abcdef0123456789abcdef", named("joe doe", "")),
            (CramMd5, "joe 0123", SaslMessage::Unreadable),
            (CramMd5, "joe", SaslMessage::Unreadable),
            (Scram, "n,,n=joe,r=nonce", named("joe", "")),
            (Scram, "y,a=anna,n=j=2Coe=3D,r=nonce", named("j,oe=", "anna")),
            (Scram, "n,,n=j=2coe,r=nonce", SaslMessage::Unreadable),
            (Scram, "n,,m=x,n=joe,r=nonce", SaslMessage::Unreadable),
            (Scram, "p=tls-unique,,n=joe,r=nonce", SaslMessage::Unreadable),
            (Scram, "n,,n=,r=nonce", SaslMessage::Unreadable),
            (Opaque, "joe", SaslMessage::Unreadable),
        ] {
            assert_eq!(mechanism.read(&base64(message.as_bytes())), expected, "{mechanism:?} {message:?}");
        }
    }

    #[test]
    fn a_name_beside_a_token_is_shown_and_is_never_exact() {
        for (mechanism, message, is_exact) in [
            (Plain, "\0joe@example.com\0secret", true),
            (Login, "joe@example.com", true),
            (CramMd5, "joe@example.com 0123456789abcdef0123456789abcdef", true),
            (Scram, "n,,n=joe@example.com,r=nonce", true),
            (XOAuth2, "user=joe@example.com\x01auth=Bearer t\x01\x01", false),
            (OAuthBearer, "n,a=joe@example.com,\x01auth=Bearer t\x01\x01", false),
        ] {
            let shown = mechanism.read(&base64(message.as_bytes())).shown_account(mechanism);
            assert_eq!(
                shown,
                Some(ShownAccount { name: "joe@example.com".into(), is_exact }),
                "{mechanism:?}"
            );
        }
    }

    #[test]
    fn an_empty_message_and_a_cancel_name_nobody() {
        for mechanism in [Plain, Login, XOAuth2, OAuthBearer, CramMd5, Scram, Opaque] {
            // What follows an empty answer to a mechanism that asks first is the password.
            let expected = match mechanism.is_server_first() {
                true => SaslMessage::Unreadable,
                false => SaslMessage::Empty,
            };
            assert_eq!(mechanism.read(b""), expected);
            assert_eq!(mechanism.read_initial(b"="), expected);
            assert_eq!(mechanism.read(b"="), SaslMessage::Unreadable, "an answer to a challenge is base64");
            assert_eq!(mechanism.read(b"*"), SaslMessage::Cancel);
        }
    }

    /// A server that reads another base64 than Postern would see another account.
    #[test]
    fn base64_of_any_other_form_is_not_read() {
        for line in ["am9l!", "am9", "am9lam9", "am9l====", "a=9l", "am9lYQ=", " am9l", "am9l ", "am-l"] {
            assert_eq!(Login.read(line.as_bytes()), SaslMessage::Unreadable, "{line:?}");
        }
        assert_eq!(Login.read(b"am9l"), named("joe", ""));
        assert_eq!(Login.read(b"am9lYQ=="), named("joea", ""));
    }

    #[test]
    fn a_secret_stands_with_the_name_or_behind_it() {
        assert!(
            [Plain, Login, XOAuth2, OAuthBearer, CramMd5, Scram, Opaque]
                .iter()
                .all(|each| !each.has_shown_secret(None))
        );
        assert!([Plain, CramMd5].iter().all(|each| each.has_shown_secret(Some(0))));
        assert!([XOAuth2, OAuthBearer].iter().all(|each| each.has_shown_secret(Some(1))));
        assert!(!Login.has_shown_secret(Some(1)) && Login.has_shown_secret(Some(0)));
        assert!(!Scram.has_shown_secret(Some(2)) && Scram.has_shown_secret(Some(1)));
    }

    #[test]
    fn mechanisms_are_known_in_any_case() {
        assert_eq!(SaslMechanism::of(b"plain"), Plain);
        assert_eq!(SaslMechanism::of(b"Scram-SHA-256"), Scram);
        assert_eq!(SaslMechanism::of(b"NTLM"), Opaque);
    }
}
