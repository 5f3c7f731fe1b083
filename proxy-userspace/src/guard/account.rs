use std::fmt;

/// Octets of an account's name that stand in records.
const SHOWN_BYTES_MAX: usize = 512;
/// Before or behind these, servers find another account, a domain or a host: `DOMAIN\user`, `domain/user/mailbox`, Dovecot's
/// `user*master`, `user%domain`, UUCP's `host!user`. Names of accounts seldom have them.
const AMBIGUOUS: &[char] = &['\\', '/', '%', '!', '*', ':', ',', ';', '<', '>', '(', ')', '[', ']', '"', ' '];
/// Forms of other signs, and signs without a form, which servers that normalise names (RFC 8264) read as others or as nothing.
const COMPATIBLE: &[std::ops::RangeInclusive<char>] =
    &['\u{ad}'..='\u{ad}', '\u{200b}'..='\u{200d}', '\u{fe50}'..='\u{fe6f}', '\u{ff00}'..='\u{ffef}'];

/// An account that logged in, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShownAccount {
    /// Its name, or the beginning of a long one.
    pub(crate) name: Box<str>,
    /// The login names this account alone, whole, and no server finds another one in the name.
    pub(crate) is_exact: bool,
}

/// Whose password a client shows, and whose mail it wants, as a login says.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct AccountNames {
    /// The account whose password or token it is.
    pub(crate) authentication: Option<Box<[u8]>>,
    /// The account to act for, where the mechanism has both (RFC 4422 section 3.4.1). Empty ones are `None`.
    pub(crate) authorization: Option<Box<[u8]>>,
}

impl AccountNames {
    /// Of a login that names one account.
    pub(crate) fn one(name: &[u8]) -> Self {
        Self::both(name, b"")
    }

    pub(crate) fn both(authentication: &[u8], authorization: &[u8]) -> Self {
        let filled = |name: &[u8]| (!name.is_empty()).then(|| name.into());
        Self { authentication: filled(authentication), authorization: filled(authorization) }
    }

    /// The account that counts: the one whose password it is.
    pub(crate) fn account(&self) -> Option<&[u8]> {
        self.authentication.as_deref().or(self.authorization.as_deref())
    }

    /// The same for records: bounded, and text whatever the client sent.
    pub(crate) fn shown(&self) -> Option<Box<str>> {
        let account = self.account()?;
        let shown = account.get(..SHOWN_BYTES_MAX).unwrap_or(account);
        Some(String::from_utf8_lossy(shown).into())
    }

    /// Whether the login is that of one account, about whose name no server could disagree.
    pub(crate) fn is_exact(&self) -> bool {
        let mut names = self.each();
        let Some(name) = names.next().filter(|name| name.len() <= SHOWN_BYTES_MAX) else { return false };
        names.all(|other| other == name)
            && std::str::from_utf8(name)
                .is_ok_and(|name| is_unambiguous(name) && name.matches('@').count() <= 1)
    }

    /// Every account that is named.
    pub(super) fn each(&self) -> impl Iterator<Item = &[u8]> {
        [&self.authentication, &self.authorization].into_iter().filter_map(Option::as_deref)
    }
}

/// Their number only: logs hold no accounts but by records.
impl fmt::Debug for AccountNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountNames").field("count", &self.each().count()).finish()
    }
}

/// The name as servers compare it: Dovecot, Cyrus, Exchange and the large providers do not tell case apart. Where a server
/// does, two of its accounts share what is counted.
pub(super) fn folded(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_lowercase()
}

/// The domain of an account. `None` where it has none, or where servers could disagree about it.
pub(super) fn domain(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let (local, domain) = name.split_once('@')?;
    let is_clear = !local.is_empty()
        && !domain.contains('@')
        && !local.contains(|letter: char| COMPATIBLE.iter().any(|range| range.contains(&letter)))
        && !name.contains(|letter: char| letter.is_control() || AMBIGUOUS.contains(&letter));
    is_clear.then_some(domain)
}

fn is_unambiguous(name: &str) -> bool {
    !name.contains(|letter: char| {
        letter.is_control()
            || AMBIGUOUS.contains(&letter)
            || COMPATIBLE.iter().any(|range| range.contains(&letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_a_domain_only_where_nobody_can_read_another_one() {
        for (name, expected) in [
            ("joe@example.com", Some("example.com")),
            ("Joe.Doe+mail@Example.COM", Some("Example.COM")),
            ("jörg@müller.example", Some("müller.example")),
            ("joe", None),
            ("", None),
            ("@example.com", None),
            ("joe@", Some("")),
            ("joe@other.example@example.com", None),
            ("EVIL\\joe@example.com", None),
            ("joe%other.example@example.com", None),
            ("joe*master@example.com", None),
            ("joe@example.com*master", None),
            ("example.org/joe/box@example.com", None),
            ("joe\u{0}@example.com", None),
            ("joe @example.com", None),
            ("joe@example.com ", None),
            ("joe\u{ff20}other.example\u{ff0f}x@example.com", None),
            ("jo\u{fe6b}e@example.com", None),
            ("jo\u{ad}e@example.com", None),
            ("jo\u{200b}e@example.com", None),
        ] {
            assert_eq!(domain(name.as_bytes()), expected, "{name:?}");
        }
        assert_eq!(domain(b"j\xff@example.com"), None);
    }

    #[test]
    fn a_password_is_counted_for_the_account_whose_it_is() {
        let names = AccountNames::both(b"joe", b"anna");
        assert_eq!(names.account(), Some(b"joe".as_slice()));
        assert_eq!(AccountNames::both(b"", b"anna").account(), Some(b"anna".as_slice()));
        assert_eq!(AccountNames::one(b"").account(), None);
        assert!(!format!("{names:?}").contains("joe"));
    }

    #[test]
    fn spellings_that_servers_take_for_one_account_are_one() {
        assert_eq!(folded("JÖRG@Example.com".as_bytes()), folded("jörg@EXAMPLE.com".as_bytes()));
        assert_ne!(folded(b"joe"), folded(b"joe "));
    }
}
