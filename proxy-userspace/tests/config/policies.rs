use std::net::IpAddr;

use postern::config::{Config, DEFAULT_POLICY, InterfaceName, Sni, Traffic, UNMATCHED, UNNAMED_ACTION};
use postern::words::Service;

use super::{MINIMAL, assert_message, good};

/// Clients of two networks behind two interfaces.
const TWO: &str = r#"
[steering]
ingress = ["lan0", "guest0"]
egress = ["wan0"]
[certificates]
authority = { cert = "authority.pem", key = "authority.key" }
"#;

struct Asked<'a> {
    ingress: &'a str,
    client: &'a str,
    server: &'a str,
    at: &'a str,
    service: Service,
    sni: Sni<'a>,
}

const ASKED: Asked<'static> = Asked {
    ingress: "lan0",
    client: "192.0.2.7",
    server: "198.51.100.7",
    at: "2026-11-30T12:00:00Z",
    service: Service::ImplicitTls,
    sni: Sni::Absent,
};

impl Asked<'_> {
    /// The name of the policy that decides.
    fn decided(&self, config: &Config) -> Option<String> {
        let ingress = interface(config, self.ingress);
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let traffic = Traffic {
            ingress: &ingress,
            client: address(self.client),
            destination: address(self.server),
            at: self.at.parse().expect("a time"),
            service: self.service,
            sni: self.sni,
        };
        let index = config.policy_for(&traffic)?;
        Some(config.policies.get(index)?.name.clone())
    }
}

fn interface(config: &Config, name: &str) -> InterfaceName {
    config.steering.ingress.iter().find(|ingress| ingress.as_str() == name).expect("an ingress").clone()
}

fn policies(lines: &str) -> Config {
    good(&format!("{TWO}{lines}"))
}

#[test]
fn a_file_without_policies_is_one_policy_with_what_the_tables_say() {
    let config = good(&format!("{MINIMAL}[action]\nstarttls = \"strip\"\n[tls]\nmin_version = \"1.3\"\n"));
    assert_eq!(ASKED.decided(&config).as_deref(), Some(DEFAULT_POLICY));
    let [policy] = config.policies.as_slice() else { panic!("{:?}", config.policies) };
    assert_eq!(policy.action_name(), UNNAMED_ACTION);
    assert_eq!(config.action(None), Some(&config.unnamed_action));
    let profiles: Vec<_> =
        config.profiles_in_use().map(|(name, profile)| (name, profile.min_version.as_str())).collect();
    assert_eq!(profiles, [("[tls]", "1.3")]);
}

#[test]
fn the_first_policy_whose_conditions_hold_decides() {
    let config = policies(
        r#"
        [[policy]]
        name = "guests"
        ingress = ["guest0"]
        [[policy]]
        name = "office"
        from = ["192.0.2.0/24", "2001:db8:1::/48"]
        to = ["198.51.100.0/24"]
        [[policy]]
        name = "rest"
        "#,
    );
    for (asked, policy) in [
        (ASKED, "office"),
        (Asked { ingress: "guest0", ..ASKED }, "guests"),
        (Asked { client: "192.0.3.7", ..ASKED }, "rest"),
        (Asked { server: "203.0.113.1", ..ASKED }, "rest"),
        (Asked { client: "2001:db8:1::7", ..ASKED }, "office"),
        (Asked { client: "2001:db8:2::7", ..ASKED }, "rest"),
    ] {
        assert_eq!(asked.decided(&config).as_deref(), Some(policy));
    }
}

#[test]
fn what_no_policy_admits_has_none() {
    let config = policies("[[policy]]\nname = \"office\"\nfrom = [\"192.0.2.0/24\"]\n");
    assert_eq!(Asked { client: "192.0.3.7", ..ASKED }.decided(&config), None);
}

#[test]
fn what_no_policy_admits_passes_where_that_is_written() {
    let office = "[[policy]]\nname = \"office\"\nfrom = [\"192.0.2.0/24\"]\ntls_support = \"required\"\n";
    let text = TWO.replace("[certificates]", "unmatched = \"pass\"\n[certificates]");
    let config = good(&format!("{text}{office}"));
    assert_eq!(ASKED.decided(&config).as_deref(), Some("office"));
    let other = Asked { client: "192.0.3.7", ..ASKED };
    assert_eq!(other.decided(&config).as_deref(), Some(UNMATCHED));
    let action = config.action(Some(UNMATCHED)).expect("its action");
    for address in ["192.0.2.1", "2001:db8::1"] {
        let address: IpAddr = address.parse().expect("an address");
        assert!(action.bypasses(address, address));
    }
    // A port that no written policy admits is not even accepted.
    let ingress = interface(&config, "lan0");
    assert_eq!((config.admits(&ingress, 143), config.admits(&ingress, 993)), (false, true));
    // Without policies there is nothing unmatched.
    assert_eq!(good(&text).policies.len(), 1);
}

#[test]
fn tls_support_says_on_which_ports() {
    for (support, starttls, implicit) in
        [("disabled", true, false), ("enabled", true, true), ("required", false, true)]
    {
        let config = policies(&format!("[[policy]]\nname = \"a\"\ntls_support = \"{support}\"\n"));
        let admits = |service| Asked { service, ..ASKED }.decided(&config).is_some();
        assert_eq!(
            (admits(Service::StartTls), admits(Service::ImplicitTls)),
            (starttls, implicit),
            "{support}"
        );
    }
}

#[test]
fn a_policy_for_names_counts_before_the_client_hello_and_then_for_these_names_alone() {
    let config = policies(
        r#"
        [[policy]]
        name = "named"
        sni = ["imap.example.org", "*.mail.example.org"]
        [[policy]]
        name = "rest"
        "#,
    );
    for (sni, policy) in [
        (Sni::Unread, "named"),
        (Sni::Absent, "rest"),
        (Sni::Name("imap.example.org"), "named"),
        (Sni::Name("IMAP.Example.ORG."), "named"),
        (Sni::Name("a.mail.example.org"), "named"),
        (Sni::Name("a.b.mail.example.org"), "rest"),
        (Sni::Name("mail.example.org"), "rest"),
        (Sni::Name(".mail.example.org"), "rest"),
        (Sni::Name("imap.example.org.evil"), "rest"),
    ] {
        assert_eq!(Asked { sni, ..ASKED }.decided(&config).as_deref(), Some(policy), "{sni:?}");
    }
}

#[test]
fn why_a_policy_does_not_fit_is_told_with_every_reason() {
    let config = policies(
        "[[policy]]\nname = \"a\"\ningress = [\"guest0\"]\nfrom = [\"10.0.0.0/8\"]\nto = [\"10.0.0.1\"]\n\
         sni = [\"a.example\"]\nhours = [\"Tue 00:00-24:00\"]\ntime_zone = \"Asia/Tokyo\"\ntls_support = \"disabled\"\n",
    );
    let ingress = interface(&config, "lan0");
    let traffic = Traffic {
        ingress: &ingress,
        client: "192.0.2.7".parse().expect("an address"),
        destination: "198.51.100.7".parse().expect("an address"),
        at: "2026-11-30T12:00:00Z".parse().expect("a time"),
        service: Service::ImplicitTls,
        sni: Sni::Name("b.example"),
    };
    assert_eq!(
        config.policies[0].unfit(&traffic).as_deref(),
        Some(
            "does not fit: ingress is lan0, the client is 192.0.2.7, the server is 198.51.100.7, it is Mon \
             21:00 in Asia/Tokyo, TLS begins at once \
             there, SNI is b.example"
        )
    );
}

#[test]
fn hours_count_in_their_time_zone_and_over_midnight() {
    let decided = |hours: &str, zone: &str, at: &str| {
        let config =
            policies(&format!("[[policy]]\nname = \"a\"\nhours = [{hours}]\ntime_zone = \"{zone}\"\n"));
        Asked { at, ..ASKED }.decided(&config).is_some()
    };
    // 2026-11-30 is a Monday.
    for (hours, at, is_in) in [
        ("\"Mon-Fri 07:00-19:00\"", "2026-11-30T06:59:59Z", false),
        ("\"Mon-Fri 07:00-19:00\"", "2026-11-30T07:00:00Z", true),
        ("\"Mon-Fri 07:00-19:00\"", "2026-11-30T18:59:59Z", true),
        ("\"Mon-Fri 07:00-19:00\"", "2026-11-30T19:00:00Z", false),
        ("\"Mon-Fri 07:00-19:00\"", "2026-11-28T12:00:00Z", false),
        ("\"Mon-Fri 07:00-19:00\", \"sat 08:00-12:00\"", "2026-11-28T08:00:00Z", true),
        ("\"Fri-Mon 00:00-24:00\"", "2026-11-30T23:59:59Z", true),
        ("\"Fri-Mon 00:00-24:00\"", "2026-12-01T00:00:00Z", false),
        ("\"Sun 22:00-06:00\"", "2026-11-30T05:59:59Z", true),
        ("\"Sun 22:00-06:00\"", "2026-11-30T06:00:00Z", false),
        ("\"Sun 22:00-06:00\"", "2026-11-30T22:00:00Z", false),
        ("\"Tue,Thu 00:00-01:00\"", "2026-12-03T00:30:00Z", true),
        ("\"daily 12:00-13:00\"", "2026-12-02T12:30:00Z", true),
    ] {
        assert_eq!(decided(hours, "UTC", at), is_in, "{hours} at {at}");
    }
    // Summer and winter.
    for (at, is_in) in [
        ("2026-11-30T06:30:00Z", true),
        ("2026-11-30T05:30:00Z", false),
        ("2026-07-06T05:30:00Z", true),
        ("2026-07-06T04:30:00Z", false),
    ] {
        assert_eq!(decided("\"Mon 07:00-08:00\"", "Europe/Berlin", at), is_in, "{at}");
    }
}

#[test]
fn two_policies_of_one_name_are_a_fault() {
    assert_message(
        "[[policy]]\nname = \"a\"\n[[policy]]\nname = \"a\"",
        &[":10:8: policy[1].name = \"a\": already given on line 8"],
    );
}

#[test]
fn profiles_of_actions_in_use_are_those_that_connections_get() {
    let config = policies(
        r#"
        [[policy]]
        name = "a"
        proxy_action = "Own"
        [proxy_action.Own]
        tls_profile = "TLS-Client.Strict"
        starttls_profile = "TLS-Server.Standard"
        [proxy_action.Unused]
        tls_profile = "TLS-Client.Standard"
        "#,
    );
    let names: Vec<_> = config.profiles_in_use().map(|(name, _)| name).collect();
    assert_eq!(names, ["TLS-Client.Strict", "TLS-Server.Standard"]);
    let actions: Vec<_> = config.actions_in_use().map(|(name, _)| name).collect();
    assert_eq!(actions, ["Own"]);
}

#[test]
fn what_an_action_needs_is_asked_of_every_action() {
    assert_message(
        "[proxy_action.\"A.b\"]\ncleartext = \"inspect\"\ninspect = \"none\"",
        &["proxy_action.\"A.b\".cleartext = \"inspect\": needs proxy_action.\"A.b\".inspect = \"full\""],
    );
}
