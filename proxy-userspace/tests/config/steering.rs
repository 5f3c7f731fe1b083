use postern::config::{Config, OnExit, Reason, Source};
use postern::words::Service;

use super::{MINIMAL, faults, good};

/// The minimal file with further lines in `[steering]`.
fn steered(lines: &str) -> Config {
    good(&with_steering(lines))
}

fn with_steering(lines: &str) -> String {
    MINIMAL.replace("egress = [\"wan0\"]", &format!("egress = [\"wan0\"]\n{lines}"))
}

#[test]
fn source_and_on_exit_have_two_values_each() {
    for (source, meant) in [("gateway", Source::Gateway), ("client", Source::Client)] {
        assert_eq!(steered(&format!("source = \"{source}\"")).steering.source, meant);
    }
    for (on_exit, meant) in [("closed", OnExit::Closed), ("open", OnExit::Open)] {
        assert_eq!(steered(&format!("on_exit = \"{on_exit}\"")).steering.on_exit, meant);
    }
}

#[test]
fn wrong_words_in_steering_are_told_with_those_that_exist() {
    for (line, known) in [
        ("source = \"clients\"", "\"gateway\" or \"client\""),
        ("on_exit = \"close\"", "\"closed\" or \"open\""),
    ] {
        let told = faults(&with_steering(line));
        assert!(told.len() == 1 && told[0].to_string().contains(known), "{told:?}");
    }
}

#[test]
fn a_port_has_one_kind_of_service_and_one_is_listed_at_least() {
    let steering = steered("starttls_ports = [993, 1143]\nimplicit_tls_ports = [143]").steering;
    assert!(steering.ports().eq([993, 1143, 143]));
    let services = [143, 993, 1143, 25].map(|port| steering.service(port));
    let starttls = Some(Service::StartTls);
    assert_eq!(services, [Some(Service::ImplicitTls), starttls, starttls, None]);
    for (lines, said) in [
        (
            "starttls_ports = [1143, 1993]\nimplicit_tls_ports = [993, 1993]",
            "6: steering.implicit_tls_ports = 1993: also in steering.starttls_ports on line 5: TLS begins in one way",
        ),
        (
            "starttls_ports = [1143, 993]",
            "5: steering.starttls_ports = 993: also in steering.implicit_tls_ports by default",
        ),
        (
            "starttls_ports = []\nimplicit_tls_ports = []",
            "6: steering.implicit_tls_ports = []: steering.starttls_ports is empty, too, so that no mail would be taken \
             over; list at least one port",
        ),
    ] {
        let told = faults(&with_steering(lines));
        assert_eq!(told.len(), 1, "{told:?}");
        let told = format!("{}: {}", told[0].place.map_or(0, |place| place.line), told[0]);
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn an_ingress_reaches_what_its_entries_allow_and_an_unnamed_one_everything() {
    let config = good(
        &MINIMAL
            .replace("[\"lan0\"]", "[\"lan0\", \"guest0\", \"lab0\"]")
            .replace("[\"wan0\"]", "[\"wan0\", \"dmz0\"]")
            .replace(
                "[certificates]",
                "[[steering.reach]]\ningress = [\"guest0\", \"lab0\"]\negress = [\"wan0\"]\n\
             except = [\"10.0.0.0/8\", \"fd00::/8\"]\n\
             [[steering.reach]]\ningress = [\"lab0\"]\nnetworks = [\"10.1.0.0/16\"]\n[certificates]",
            ),
    );
    let names = |list: &[postern::config::InterfaceName], name: &str| {
        list.iter().find(|known| known.as_str() == name).cloned().expect("a known interface")
    };
    let may = |ingress: &str, egress: &str, destination: &str| {
        let steering = &config.steering;
        let (ingress, egress) = (names(&steering.ingress, ingress), names(&steering.egress, egress));
        steering.may_reach(&ingress, &egress, destination.parse().expect("address"))
    };
    for destination in ["10.1.2.3", "203.0.113.1", "fd00::1"] {
        assert!(may("lan0", "wan0", destination) && may("lan0", "dmz0", destination));
    }
    assert!(may("guest0", "wan0", "203.0.113.1") && may("guest0", "wan0", "2001:db8::1"));
    for (egress, destination) in [("dmz0", "203.0.113.1"), ("wan0", "10.1.2.3"), ("wan0", "fd00::1")] {
        assert!(!may("guest0", egress, destination), "{egress} {destination}");
    }
    assert!(may("lab0", "dmz0", "10.1.2.3") && may("lab0", "wan0", "203.0.113.1"));
    assert!(!may("lab0", "dmz0", "203.0.113.1") && !may("lab0", "wan0", "10.2.0.1"));
}

#[test]
fn entries_of_reach_are_told_what_is_wrong_with_them() {
    let only = |entry: &str| {
        let told = faults(&with_steering(&format!("[[steering.reach]]\n{entry}")));
        assert_eq!(told.len(), 1, "{told:?}");
        format!("{}: {}", told[0].place.map_or(0, |place| place.line), told[0])
    };
    for (entry, parts) in [
        ("egress = [\"wan0\"]", ["5: steering.reach[0].ingress: missing", "list the ingress"]),
        (
            "ingress = [\"guest0\"]",
            [
                "6: steering.reach[0].ingress = \"guest0\": not among steering.ingress",
                "add it to steering.ingress",
            ],
        ),
        (
            "ingress = [\"lan0\"]\negress = [\"lan0\"]",
            ["7: steering.reach[0].egress = \"lan0\": not among steering.egress", "correct the name"],
        ),
        ("ingress = []", ["steering.reach[0].ingress = []: empty", "list at least one interface"]),
        ("ingress = [\"lan0\"]\negress = []", ["steering.reach[0].egress = []: empty", "list at least one"]),
        (
            "ingress = [\"lan0\"]\nnetworks = []",
            ["steering.reach[0].networks = []: empty", "remove the line for any destination"],
        ),
        ("ingress = [\"lan0\", \"lan0\"]", ["already given on line 6", "remove one"]),
        (
            "ingress = [\"lan0\"]\nexcept = [\"10.0.0.1/8\"]",
            ["7: steering.reach[0].except = \"10.0.0.1/8\": has address bits", "\"10.0.0.0/8\""],
        ),
        (
            "ingress = [\"lan0\"]\nnetwork = []",
            ["steering.reach[0].network = []: unknown key", "\"networks\"?"],
        ),
        (
            "ingress = \"lan0\"",
            ["steering.reach[0].ingress = \"lan0\": wrong type: a string, expected a list", "config example"],
        ),
    ] {
        let told = only(entry);
        assert!(parts.iter().all(|part| told.contains(part)), "{told:?} lacks one of {parts:?}");
    }
    let many = "[[steering.reach]]\ningress = [\"lan0\"]\n".repeat(257);
    assert_eq!(faults(&with_steering(&many))[0].reason, Reason::TooMany { count: 257, max: 256 });
    let networks: Vec<String> =
        (0..4097).map(|host| format!("\"10.0.{}.{}\"", host / 256, host % 256)).collect();
    let entry = format!("ingress = [\"lan0\"]\nexcept = [{}]", networks.join(","));
    assert!(only(&entry).contains("4097 entries, room for 4096"));
}

#[test]
fn a_pattern_means_every_interface_whose_name_begins_so() {
    let steering = good(&MINIMAL.replace("[\"lan0\"]", "[\"ppp*\", \"lan0\"]")).steering;
    let [pattern, name] = &steering.ingress[..] else { panic!("two") };
    assert_eq!([pattern, name].map(|entry| entry.is_pattern()), [true, false]);
    for (interface, means) in
        [("ppp0", true), ("ppp", true), ("ppp*", true), ("pp0", false), ("xppp0", false)]
    {
        assert_eq!(pattern.means(interface), means, "{interface}");
    }
    assert_eq!(["lan0", "lan", "lan01"].map(|interface| name.means(interface)), [true, false, false]);
    assert!(steering.has_patterns() && !good(MINIMAL).steering.has_patterns());
}

#[test]
fn an_interface_belongs_to_one_side_once() {
    let with = |ingress: &str, egress: &str| {
        faults(&MINIMAL.replace("[\"lan0\"]", ingress).replace("[\"wan0\"]", egress))
    };
    let both = with("[\"lan0\"]", "[\"wan0\", \"lan0\"]");
    assert!(both[0].to_string().contains("also in ingress on line 3: Postern's own connections"), "{both:?}");
    assert_eq!((both[0].key.as_str(), both[0].value.as_str()), ("steering.egress", "\"lan0\""));
    for (ingress, egress) in [("ppp*", "ppp0"), ("dmz0", "dmz*"), ("w*", "wan*"), ("wan*", "w*")] {
        let both = with(&format!("[\"{ingress}\"]"), &format!("[\"{egress}\"]"));
        let said = format!(
            "steering.egress = \"{egress}\": means interfaces that \"{ingress}\" in ingress on line 3 means, too"
        );
        assert!(both.len() == 1 && both[0].to_string().contains(&said), "{both:?}");
    }
    assert_eq!(with("[\"lan0\", \"lan0\"]", "[\"wan0\"]")[0].reason, Reason::Duplicate { first: 3 });
    assert!(matches!(with("[]", "[\"wan0\"]")[0].reason, Reason::Empty { .. }));
    let many: Vec<String> = (0..65).map(|index| format!("\"lan{index}\"")).collect();
    assert_eq!(
        with(&format!("[{}]", many.join(",")), "[\"wan0\"]")[0].reason,
        Reason::TooMany { count: 65, max: 64 }
    );
    for wrong in ["", "a/b", "a b", "eth0:1", ".", "..", "sixteen-octets-0"] {
        let found = with(&format!("[\"{wrong}\"]"), "[\"wan0\"]");
        assert!(
            found[0].to_string().contains("not an interface name; use a name that `ip link`"),
            "{wrong:?}"
        );
    }
}
