use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::fault::Reason;
use super::kinds::{Kind, TextValue, list, number, seconds, text};
use super::names::ServerName;
use super::policy::covers;
use super::setting::{sections, settings};
use super::steering::networks;

/// Entries of `guard.tenant`, looked through one by one for each session.
const TENANTS_MAX: usize = 256;
/// Domains of one entry, compared one by one at each login.
const DOMAINS_MAX: usize = 1024;
/// Names of servers in one entry, compared one by one with each name in a server's certificate.
const NAMES_MAX: usize = 256;
/// Octets of a domain (RFC 5321 section 4.5.3.1.2).
const DOMAIN_BYTES_MAX: usize = 255;
/// Messages an hour that an account can be allowed. Each takes some 30 octets of memory for an hour.
pub(crate) const BODIES_PER_HOUR_MAX: u32 = 50_000;
/// A person who mistypes a password tries again a few times.
const FAILED_LOGINS: (i64, i64) = (3, 1000);

/// The domains of accounts, one at least.
fn domains() -> Kind<Vec<AccountDomain>> {
    list(
        text::<AccountDomain>(),
        Some(DOMAINS_MAX),
        Some("list at least one domain, or \"*\" for any account"),
    )
}

settings! {
    /// `[guard]`.
    pub struct GuardSettings {
        /// Which accounts may log in at which servers. Where some entry is for a server (all servers, where it lists none), only
        /// accounts of its domains log in there; where several are, accounts of the domains of all of them. At other servers any account may.
        tenants as "tenant": Vec<TenantRule> = sections(TENANTS_MAX);
        /// Different messages of which one account may fetch content within an hour, in all of its sessions together. Header
        /// fields alone do not count. Over it a FETCH of another message is answered `NO [LIMIT]`; what was fetched within
        /// the hour still comes. A mail client that is set up anew fetches a whole folder, or all of them: leave room
        /// for it.
        bodies_per_hour: Option<u32> =
            number((10, i64::from(BODIES_PER_HOUR_MAX)), "messages", "they are remembered for an hour").unset(
                "an account may fetch any number of messages",
                "5000",
            );
        /// Failed logins of one client (an IPv4 address or an IPv6 /64) at one account, within `window_seconds`. Over it the
        /// client's next attempts at this account do not reach the server: they are answered `NO [AUTHENTICATIONFAILED]`
        /// after 1 s, and each further one after twice the time, up to 15 s. The same is done over five times as many
        /// failures of one client at all accounts behind one address, and over three times as many of all clients at one account.
        /// A client that has logged in to the account within 30 days is not counted in either, and not refused by that.
        failed_logins: Option<u32> =
            number(FAILED_LOGINS, "failures", "people mistype, and a limit beyond is none")
                .unset("a password may be guessed as often as the server lets it", "10");
        /// The time for `failed_logins`. When the limit is reached, one attempt more passes after each share of it: 180 s
        /// with 10 failures in 1800 s.
        window as "window_seconds": Duration =
            seconds((60, 86_400), "a user waits a share of it").default(Duration::from_secs(1800));
    }
}

settings! {
    /// One entry of `guard.tenant`. `servers`, `names` or both say which servers it is for; without both it is for all.
    pub struct TenantRule {
        /// What stands behind the `@` of the accounts that may log in, exact or with `*.` for the first label; `"*"` is for any
        /// account. Upper and lower case are the same. International domains are written as accounts have them: as
        /// UTF-8, as xn-- labels, or in both forms. Without `"*"` an account that has no `@`, or more than one, does
        /// not log in.
        domains: Vec<AccountDomain> = domains().required(
            "list the domains of the accounts that may log in, such as [\"example.com\"]",
            r#"["example.com", "*.example.org"]"#,
        );
        /// Addresses and networks of servers.
        servers: Vec<IpNet> = networks(None).default(Vec::new()).such_as(r#"["198.51.100.0/24"]"#);
        /// Names of servers, exact or with `*.` for the first label. A server has the names that stand in its certificate,
        /// whatever name the client asks for. A server whose certificate proves no name (it is not valid, the client
        /// sent no SNI, or there is no TLS) may be any, so that each entry with names is for it, too.
        names: Vec<String> = list(text::<ServerName>(), Some(NAMES_MAX), None).default(Vec::new())
            .such_as(r#"["imap.example.com"]"#);
    }
}

impl GuardSettings {
    /// Whether anything is guarded.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.tenants.is_empty() || self.bodies_per_hour.is_some() || self.failed_logins.is_some()
    }
}

impl TenantRule {
    /// Whether it is for every server.
    pub(crate) const fn is_for_all(&self) -> bool {
        self.servers.is_empty() && self.names.is_empty()
    }

    /// Whether it is for servers with this name, which may be a pattern itself.
    pub(crate) fn names_server(&self, name: &str) -> bool {
        self.names.iter().any(|pattern| covers(pattern, name) || covers(name, pattern))
    }
}

/// Domains of accounts: one, those below one, or all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AccountDomain(String);

impl AccountDomain {
    /// Whether it means every account, with or without a domain.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }

    /// Whether it means this domain. ASCII letters are compared without case, in domains of ASCII alone; other domains
    /// as their lower case.
    #[must_use]
    pub fn covers(&self, domain: &str) -> bool {
        let same = |pattern: &str, domain: &str| match pattern.is_ascii() {
            true => pattern.eq_ignore_ascii_case(domain),
            false => pattern == domain.to_lowercase(),
        };
        match self.0.strip_prefix("*.") {
            Some(parent) => {
                domain.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && same(parent, rest))
            }
            None => self.is_any() || same(&self.0, domain),
        }
    }
}

impl TextValue for AccountDomain {
    type Value = Self;
    const WHAT: &'static str = "a domain of accounts, whose first label may be `*`";

    fn parse(text: &str) -> Result<Self, Reason> {
        let remedy =
            "write what stands behind the `@` of accounts, such as \"example.com\", or \"*\" for any account";
        let refuse = |why| Err(Reason::unfit(format!("not a domain of accounts: {why}"), remedy));
        let domain = text.to_lowercase();
        let host = domain.strip_prefix("*.").unwrap_or(&domain);
        if domain == "*" {
            return Ok(Self(domain));
        }
        if domain.len() > DOMAIN_BYTES_MAX {
            return refuse("longer than 255 octets");
        }
        if host.split('.').any(str::is_empty) {
            return refuse("empty label (two dots, or a dot at an end)");
        }
        if host.contains('*') {
            return refuse("`*` stands only for the whole first label");
        }
        if host.contains(|letter: char| !letter.is_alphanumeric() && !matches!(letter, '-' | '_' | '.')) {
            return refuse("only letters, digits, `-` and dots");
        }
        Ok(Self(domain))
    }

    fn show(value: &Self) -> String {
        value.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> AccountDomain {
        AccountDomain::parse(text).unwrap()
    }

    #[test]
    fn a_domain_covers_itself_in_any_case_and_a_star_one_label_alone() {
        for (pattern, covered, others) in [
            (
                "Example.com",
                &["example.com", "EXAMPLE.COM"][..],
                &["a.example.com", "example.com.", "xexample.com", ""][..],
            ),
            (
                "*.example.com",
                &["a.example.com", "B.Example.Com"],
                &["example.com", "a.b.example.com", ".example.com"],
            ),
            (
                "müller.example",
                &["müller.example", "MÜLLER.example"],
                &["xn--mller-kva.example", "muller.example"],
            ),
            ("*", &["example.com", "a.b", ""], &[]),
        ] {
            let pattern = domain(pattern);
            assert!(covered.iter().all(|name| pattern.covers(name)), "{pattern:?} {covered:?}");
            assert!(!others.iter().any(|name| pattern.covers(name)), "{pattern:?} {others:?}");
        }
    }

    /// U+212A is a letter whose lower case is `k`: another account than the one with `k`, for a server.
    #[test]
    fn a_letter_that_only_looks_like_one_of_ascii_is_another_one() {
        assert!(!domain("kiwi.example").covers("\u{212a}iwi.example"));
        assert!(domain("kiwi.example").covers("KIWI.example"));
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for text in ["", "a..b", ".a", "a.", "a@b", "a b", "*a", "a.*", "*.", "a/b", &"a".repeat(256)] {
            assert!(AccountDomain::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_of_a_certificate_meets_a_name_of_the_file_where_one_server_could_have_both() {
        let rule = |names: &[&str]| TenantRule {
            domains: vec![domain("*")],
            servers: Vec::new(),
            names: names.iter().map(ToString::to_string).collect(),
        };
        assert!(rule(&["imap.example.com"]).names_server("IMAP.example.com"));
        assert!(rule(&["imap.example.com"]).names_server("*.example.com"));
        assert!(rule(&["*.example.com"]).names_server("imap.example.com"));
        assert!(rule(&["*.example.com"]).names_server("*.example.com"));
        assert!(!rule(&["imap.example.com"]).names_server("mail.example.com"));
        assert!(!rule(&["*.example.com"]).names_server("*.example.org"));
    }
}
