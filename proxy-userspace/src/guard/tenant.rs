use std::net::IpAddr;

use rustls::pki_types::CertificateDer;

use super::account::{AccountNames, domain};
use crate::config::{AccountDomain, TenantRule};

/// The names that stand in a server's certificate, which may be patterns themselves. `None` where it cannot be read.
#[must_use]
pub fn server_names(leaf: &CertificateDer<'_>) -> Option<Vec<String>> {
    let certificate = webpki::EndEntityCert::try_from(leaf).ok()?;
    Some(certificate.valid_dns_names().map(str::to_owned).collect())
}

/// The domains of the accounts that may log in at a server that some entry is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tenancy(Vec<AccountDomain>);

impl Tenancy {
    /// At a server of this address, which proved these names by its certificate, or none. `None` where any account may log in.
    pub(super) fn at(rules: &[TenantRule], server: IpAddr, proven: Option<&[String]>) -> Option<Self> {
        let is_for = |rule: &&TenantRule| {
            let is_named = match proven.filter(|names| !names.is_empty()) {
                Some(names) => names.iter().any(|name| rule.names_server(name)),
                // It may be any of them.
                None => !rule.names.is_empty(),
            };
            rule.is_for_all() || is_named || rule.servers.iter().any(|network| network.contains(&server))
        };
        let domains: Vec<_> = rules.iter().filter(is_for).flat_map(|rule| &rule.domains).cloned().collect();
        (!domains.is_empty() && !domains.iter().any(AccountDomain::is_any)).then_some(Self(domains))
    }

    /// Whether such a login may go on: every account that it names has one of the domains.
    pub(super) fn admits(&self, names: &AccountNames) -> bool {
        let is_of_domains =
            |name| domain(name).is_some_and(|domain| self.0.iter().any(|pattern| pattern.covers(domain)));
        names.account().is_some() && names.each().all(is_of_domains)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const SERVER: &str = "198.51.100.7";

    fn rules(text: &str) -> Vec<TenantRule> {
        let file = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[certificates]\nauthority = {{ cert = \"a\", key = \"b\" \
             }}\n{text}"
        );
        parse(&file, std::path::Path::new("/etc/postern/postern.toml")).unwrap().guard.tenants
    }

    fn at(rules: &[TenantRule], server: &str, proven: Option<&[&str]>) -> Option<Tenancy> {
        let proven = proven.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
        Tenancy::at(rules, server.parse().unwrap(), proven.as_deref())
    }

    const BY_NETWORK: &str = "[[guard.tenant]]\ndomains = [\"example.com\", \"*.example.org\"]\nservers = [\"198.51.100.0/24\", \"2001:db8::/32\"]\n";
    const BY_NAME: &str = "[[guard.tenant]]\ndomains = [\"example.net\"]\nnames = [\"imap.provider.example\", \"*.mail.example\"]\n";
    const ANY: &str = "[[guard.tenant]]\ndomains = [\"*\"]\nservers = [\"198.51.100.7\"]\n";

    #[test]
    fn only_servers_that_an_entry_is_for_are_restricted() {
        let rules = rules(BY_NETWORK);
        assert!(at(&rules, SERVER, None).is_some());
        assert!(at(&rules, "2001:db8::25", Some(&["a.example"])).is_some());
        assert_eq!(at(&rules, "192.0.2.7", None), None);
        assert_eq!(at(&[], SERVER, None), None);
    }

    #[test]
    fn an_entry_that_lists_no_server_is_for_all() {
        let rules = rules("[[guard.tenant]]\ndomains = [\"example.com\"]\n");
        assert!(at(&rules, SERVER, None).is_some() && at(&rules, "::1", Some(&["a.example"])).is_some());
    }

    #[test]
    fn a_server_has_every_name_that_its_certificate_proves_whatever_the_client_asked_for() {
        let rules = rules(BY_NAME);
        for proven in [
            &["imap.provider.example"][..],
            &["other.example", "IMAP.provider.example"],
            &["*.provider.example"],
            &["a.mail.example"],
            &["*.mail.example"],
        ] {
            assert!(at(&rules, SERVER, Some(proven)).is_some(), "{proven:?}");
        }
        assert_eq!(at(&rules, SERVER, Some(&["imap.other.example"])), None);
        assert_eq!(at(&rules, SERVER, Some(&["provider.example"])), None);
    }

    /// Otherwise a client that sends no SNI, or none that the server has, would log in as it likes.
    #[test]
    fn a_server_without_a_proven_name_may_be_any_that_is_named() {
        let tenancy = at(&rules(BY_NAME), SERVER, None).unwrap();
        assert!(tenancy.admits(&AccountNames::one(b"joe@example.net")));
        assert!(!tenancy.admits(&AccountNames::one(b"joe@other.example")));
        // A certificate for addresses alone has no name.
        assert!(at(&rules(BY_NAME), SERVER, Some(&[])).is_some());
    }

    #[test]
    fn accounts_of_all_entries_for_the_server_log_in_and_an_entry_for_all_ends_the_restriction() {
        let both = rules(&format!("{BY_NETWORK}{BY_NAME}"));
        let tenancy = at(&both, SERVER, Some(&["imap.provider.example"])).unwrap();
        assert!(
            ["joe@example.com", "joe@example.net"]
                .iter()
                .all(|name| tenancy.admits(&AccountNames::one(name.as_bytes())))
        );
        assert_eq!(at(&rules(&format!("{BY_NAME}{ANY}")), SERVER, None), None);
    }

    #[test]
    fn every_account_of_a_login_has_to_be_of_a_domain_in_any_case() {
        let tenancy = at(&rules(BY_NETWORK), SERVER, None).unwrap();
        for (authentication, authorization, is_admitted) in [
            ("joe@example.com", "", true),
            ("JOE@EXAMPLE.COM", "", true),
            ("joe@sub.example.org", "", true),
            ("joe@example.org", "", false),
            ("joe@example.com", "anna@a.example.org", true),
            ("joe@other.example", "anna@example.com", false),
            ("joe@example.com", "anna@other.example", false),
            ("joe", "", false),
            ("joe@example.com", "anna", false),
            ("", "anna@example.com", true),
            ("joe@other.example@example.com", "", false),
            ("", "", false),
        ] {
            let names = AccountNames::both(authentication.as_bytes(), authorization.as_bytes());
            assert_eq!(tenancy.admits(&names), is_admitted, "{authentication} for {authorization}");
        }
    }
}
