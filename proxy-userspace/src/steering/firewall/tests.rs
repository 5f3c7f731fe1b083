//! Rulesets as nft 1.0.6 printed them (the `.nft` beside each is what was loaded); ufw's is written by hand after
//! the tables that iptables-nft makes, in the words of nft 1.0.9.

use super::*;
use crate::config::InterfaceName;

macro_rules! ruleset {
    ($name:literal) => {
        Ruleset::parse(include_bytes!(concat!("rulesets/", $name, ".json"))).expect($name)
    };
}

fn names(names: &[&str]) -> Vec<InterfaceName> {
    names.iter().map(|name| InterfaceName((*name).to_owned())).collect()
}

const PORTS: [u16; 2] = [143, 993];

fn paths<'a>(ingress: &'a [InterfaceName], egress: &'a [InterfaceName]) -> MailPaths<'a> {
    MailPaths { ingress, egress, ports: PORTS.to_vec() }
}

fn found(ruleset: &Ruleset) -> Vec<Obstacle> {
    obstacles(ruleset, &paths(&names(&["lan0"]), &names(&["wan0"])))
}

/// Certainty and words of each obstacle.
fn said(ruleset: &Ruleset) -> Vec<(Certainty, String)> {
    found(ruleset).into_iter().map(|obstacle| (obstacle.certainty, obstacle.words)).collect()
}

fn commands(ruleset: &Ruleset) -> Vec<String> {
    found(ruleset).into_iter().flat_map(|obstacle| obstacle.commands).collect()
}

#[test]
fn no_rules_and_rules_that_accept_are_no_obstacle() {
    assert!(ruleset!("empty").is_out_of_the_way());
    assert!(!ruleset!("accept-all").is_out_of_the_way());
    for ruleset in [ruleset!("empty"), ruleset!("accept-all"), ruleset!("input-drop-with-rules")] {
        assert_eq!(found(&ruleset), []);
        assert_eq!(masquerades(&ruleset, &PORTS, &InterfaceName("wan0".to_owned())), []);
        assert_eq!(mark_wipers(&ruleset, &paths(&names(&["lan0"]), &names(&["wan0"]))), [""; 0]);
    }
}

#[test]
fn an_input_policy_that_drops_new_mail_is_named_with_the_rule_that_is_missing() {
    let ruleset = ruleset!("input-drop");
    assert_eq!(
        said(&ruleset),
        [(
            Certainty::Dropped,
            "mail from clients on lan0 (ports 143, 993, IPv4 and IPv6) is dropped by the policy of inet filter input"
                .to_owned()
        )]
    );
    assert_eq!(
        commands(&ruleset),
        [r#"nft insert rule inet filter input iifname { "lan0" } tcp dport { 143, 993 } accept"#]
    );
}

#[test]
fn a_set_of_interfaces_admits_only_its_own() {
    let ruleset = ruleset!("input-drop-with-rules");
    assert_eq!(obstacles(&ruleset, &paths(&names(&["lan7", "vpn0"]), &names(&["wan0"]))), []);
    let found = obstacles(&ruleset, &paths(&names(&["lan7", "vpn1", "guest"]), &names(&["wan0"])));
    let words: Vec<_> = found.iter().map(|obstacle| obstacle.words.as_str()).collect();
    assert_eq!(
        words,
        [
            "mail from clients on guest, vpn1 (ports 143, 993, IPv4 and IPv6) is dropped by the policy of inet filter input"
        ]
    );
    assert!(found[0].commands[0].contains(r#"iifname { "lan7", "vpn1", '"guest"' }"#), "{found:?}");
}

#[test]
fn an_output_chain_that_rejects_stops_both_sides() {
    let ruleset = ruleset!("output-drop");
    let handle = "are dropped by inet filter output handle 4";
    assert_eq!(
        said(&ruleset),
        [
            (
                Certainty::Dropped,
                format!("connections to servers on wan0 (ports 143, 993, IPv4 and IPv6) {handle}")
            ),
            (
                Certainty::Dropped,
                format!("answers to clients on lan0 (ports 143, 993, IPv4 and IPv6) {handle}")
            ),
        ]
    );
    assert_eq!(
        commands(&ruleset),
        [
            "nft insert rule inet filter output meta mark and 0x20000000 == 0x20000000 tcp dport { 143, 993 } accept",
            "nft insert rule inet filter output ct state established,related accept",
        ]
    );
}

#[test]
fn every_table_that_drops_is_named_and_ipv4_apart_where_only_it_is_dropped() {
    let ruleset = ruleset!("both-drop");
    let said = said(&ruleset);
    let of = |chain: &str| said.iter().filter(|(_, words)| words.contains(chain)).count();
    assert_eq!(["ip filter4 input", "ip filter4 output"].map(of), [2, 2], "{said:?}");
    assert_eq!(["inet filter input", "inet filter output"].map(of), [2, 2], "{said:?}");
    assert_eq!(["inet filter prerouting", "inet filter postrouting"].map(of), [2, 2], "{said:?}");
    for (certainty, words) in &said {
        assert_eq!(*certainty, Certainty::Dropped);
        assert_eq!(words.contains("IPv6"), words.contains("inet filter"), "{words}");
    }
    let commands = commands(&ruleset);
    let untracked =
        r#"nft insert rule inet filter prerouting iifname { "wan0" } tcp sport { 143, 993 } accept"#;
    assert!(
        commands.iter().any(|command| command == untracked),
        "no state is known before conntrack: {commands:?}"
    );
}

#[test]
fn verdict_maps_lead_each_interface_to_its_chain() {
    let ruleset = ruleset!("verdict-maps");
    assert_eq!(
        said(&ruleset),
        [(
            Certainty::Dropped,
            "mail from clients on lan0 (port 143, IPv6) is dropped by the policy of inet filter input"
                .to_owned()
        )]
    );
    let words = |ingress: &str| -> Vec<String> {
        let found = obstacles(&ruleset, &paths(&names(&[ingress]), &names(&["wan0"])));
        found.into_iter().map(|obstacle| obstacle.words).collect()
    };
    for (ingress, place) in [
        ("lan1", "the policy of inet filter input"),
        ("dmz0", "inet filter input handle 10"),
        ("wan7", "inet filter wan handle 18"),
        ("lan2", "the policy of inet filter input"),
    ] {
        let wanted =
            format!("mail from clients on {ingress} (ports 143, 993, IPv4 and IPv6) is dropped by {place}");
        assert_eq!(words(ingress), [wanted]);
    }
}

#[test]
fn firewalld_zones_are_walked_and_its_reverse_path_rule_is_no_noise() {
    let ruleset = ruleset!("firewalld");
    assert_eq!(
        said(&ruleset),
        [(
            Certainty::Dropped,
            "mail from clients on lan0 (ports 143, 993, IPv4 and IPv6) is dropped by inet firewalld \
             filter_IN_internal handle 46"
                .to_owned()
        )]
    );
    let [masquerade] = &masquerades(&ruleset, &PORTS, &InterfaceName("wan0".to_owned()))[..] else {
        panic!("one")
    };
    assert!(masquerade.is_certain);
    assert_eq!(masquerade.place, "inet firewalld nat_POST_public handle 25");
    assert_eq!(masquerades(&ruleset, &PORTS, &InterfaceName("lan0".to_owned())), []);
}

#[test]
fn a_table_that_only_its_owner_may_change_gets_no_commands() {
    let text = include_str!("rulesets/firewalld.json");
    for flags in [r#""owner""#, r#"["owner", "persist"]"#] {
        let owned = text.replace(
            r#""name": "firewalld", "handle""#,
            &format!(r#""name": "firewalld", "flags": {flags}, "handle""#),
        );
        let ruleset = Ruleset::parse(owned.as_bytes()).expect("owned");
        assert_eq!(masquerades(&ruleset, &PORTS, &InterfaceName("wan0".to_owned()))[0].command, None);
        let found = found(&ruleset);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].commands, [""; 0]);
        assert!(
            found[0].note.contains("table inet firewalld takes rules only from the program that owns it")
        );
    }
}

#[test]
fn what_iptables_leaves_in_its_own_words_is_a_doubt_and_never_an_all_clear() {
    let ruleset = ruleset!("ufw");
    let said = said(&ruleset);
    assert!(said.iter().all(|(certainty, _)| *certainty == Certainty::DroppedUnless), "{said:?}");
    assert!(
        said[0].1.starts_with(
            "mail from clients on lan0 (ports 143, 993, IPv4) is dropped by ip filter ufw-not-local handle"
        ),
        "{said:?}"
    );
    assert!(said[0].1.contains("(xt conntrack)"), "{said:?}");
    assert_eq!(
        commands(&ruleset),
        [
            r#"nft insert rule ip filter INPUT iifname { "lan0" } tcp dport { 143, 993 } accept"#,
            "nft insert rule ip filter INPUT ct state established,related accept",
        ]
    );
    let certain = |name: &str| -> Vec<bool> {
        let found = masquerades(&ruleset, &PORTS, &InterfaceName(name.to_owned()));
        found.iter().map(|found| found.is_certain).collect()
    };
    assert_eq!(certain("wan0"), [true]);
    assert_eq!(certain("wan1"), [false], "nft before 1.0.7 does not name the target");
    assert_eq!(certain("wan2"), [false; 0]);
}

#[test]
fn masquerading_is_certain_possible_or_absent() {
    let ruleset = ruleset!("masquerade");
    let place = |handle| format!("ip nat postrouting handle {handle}");
    for (egress, wanted) in [
        ("wan0", Some((true, place(3)))),
        ("wan1", Some((false, format!("{} (depends on ip saddr)", place(4))))),
        ("wan2", None),
        ("wan3", None),
        ("wan4", None),
        ("wan5", Some((true, "ip nat out handle 10".to_owned()))),
        ("wan6", Some((true, "ip6 nat postrouting handle 2".to_owned()))),
        ("wan7", None),
    ] {
        let found = masquerades(&ruleset, &PORTS, &InterfaceName(egress.to_owned()));
        let found = found.into_iter().next().map(|found| (found.is_certain, found.place));
        assert_eq!(found, wanted, "{egress}");
    }
    let found = masquerades(&ruleset, &PORTS, &InterfaceName("wan5".to_owned()));
    assert_eq!(
        found[0].command.as_deref(),
        Some("nft insert rule ip nat postrouting meta mark and 0x20000000 == 0x20000000 accept")
    );
}

#[test]
fn rules_that_wipe_the_mark_before_routing_are_named_and_careful_ones_are_not() {
    let wipers = mark_wipers(&ruleset!("marks"), &paths(&names(&["lan0"]), &names(&["wan0"])));
    let place = |handle| format!("inet mangle prerouting handle {handle}");
    assert_eq!(wipers, [place(2), place(8)]);
}

#[test]
fn rates_and_lists_of_addresses_are_doubts_and_loopback_addresses_are_not() {
    let ruleset = ruleset!("unknown");
    let words = "mail from clients on lan0 (ports 143, 993, ";
    assert_eq!(
        said(&ruleset),
        [(
            Certainty::PassesUnless,
            format!(
                "{words}IPv4) passes unless stopped by inet filter input handle 4 (ip saddr); \
                 {words}IPv6) passes unless stopped by inet filter input handle 7 (limit)"
            )
        )]
    );
    assert_eq!(commands(&ruleset), [""; 0], "a rule above a block list would disarm it");
    let found = obstacles(&ruleset, &paths(&names(&["lan1"]), &names(&["wan0"])));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].certainty, Certainty::DroppedUnless);
    assert!(found[0].words.contains("is dropped by the policy of inet filter input unless"), "{found:?}");
}

#[test]
fn a_drop_in_any_case_is_named_by_the_rule_that_does_it() {
    let text = include_str!("rulesets/unknown.json");
    let text = text.replace(r#"{"key": "iifgroup"}}, "right": 5"#, r#"{"key": "l4proto"}}, "right": "udp""#);
    let ruleset = Ruleset::parse(text.as_bytes()).expect("rules");
    let found = obstacles(&ruleset, &paths(&names(&["lan1"]), &names(&["wan0"])));
    let words =
        found.iter().map(|obstacle| (obstacle.certainty, obstacle.words.as_str())).collect::<Vec<_>>();
    let wanted = "mail from clients on lan1 (ports 143, 993, IPv4 and IPv6) is dropped by the policy of inet filter input";
    assert_eq!(words, [(Certainty::Dropped, wanted)]);
}

#[test]
fn packets_that_are_not_tracked_are_not_established() {
    let said = said(&ruleset!("untracked"));
    let words =
        "answers of servers on wan0 (ports 143, 993, IPv4 and IPv6) are dropped by inet filter input handle";
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, Certainty::Dropped);
    assert!(said[0].1.starts_with(words), "{said:?}");
}

#[test]
fn a_mark_that_the_output_hook_overwrites_opens_no_door() {
    let said = said(&ruleset!("mark-lost"));
    let words = "connections to servers on wan0 (port 143, IPv4 and IPv6) are dropped by the policy of inet filter output";
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, Certainty::DroppedUnless);
    assert!(said[0].1.starts_with(words) && said[0].1.contains("(meta mark)"), "{said:?}");
}

/// The chains' names tell whether they drop a client's SYN to port 143.
#[test]
fn each_operator_is_judged_as_the_kernel_does() {
    let ruleset = ruleset!("operators");
    let found = found(&ruleset);
    assert_eq!(ruleset.chains.len(), 48);
    for chain in &ruleset.chains {
        let tells = |sentence: &str| {
            let parts = ["mail from clients on lan0 (port", "143", &format!("{chain} ")];
            parts.iter().all(|part| sentence.contains(part))
        };
        let of_chain = |obstacle: &&Obstacle| obstacle.words.split("; ").any(tells);
        let seen = match found.iter().find(of_chain).map(|obstacle| obstacle.certainty) {
            None => "no",
            Some(Certainty::Dropped) => "yes",
            Some(_) => "maybe",
        };
        assert!(chain.name.starts_with(seen), "{}: {seen}, {:?}", chain.name, chain.rules);
    }
}

#[test]
fn an_answer_that_is_no_ruleset_is_an_error() {
    for text in ["", "{", "[]", "{}", r#"{"nftables": 5}"#, "\u{0}"] {
        assert!(Ruleset::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    let deep = format!("{{\"nftables\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Ruleset::parse(deep.as_bytes()).is_err());
}

/// Everything that is asked of a ruleset.
fn judge(ruleset: &Ruleset) -> usize {
    let (ingress, egress) = (names(&["lan0"]), names(&["wan0"]));
    obstacles(ruleset, &paths(&ingress, &egress)).len()
        + masquerades(ruleset, &PORTS, &egress[0]).len()
        + mark_wipers(ruleset, &paths(&ingress, &egress)).len()
}

fn table_of(chains: &[(String, Vec<String>)]) -> Ruleset {
    let mut objects = vec![r#"{"table": {"family": "inet", "name": "t"}}"#.to_owned()];
    for (place, (name, targets)) in chains.iter().enumerate() {
        let hook = if place == 0 {
            r#", "type": "filter", "hook": "input", "prio": 0, "policy": "accept""#
        } else {
            ""
        };
        objects.push(format!(r#"{{"chain": {{"family": "inet", "table": "t", "name": "{name}"{hook}}}}}"#));
        for target in targets {
            objects.push(format!(
                r#"{{"rule": {{"family": "inet", "table": "t", "chain": "{name}", "handle": 7, "expr": [{{"jump": {{"target": "{target}"}}}}]}}}}"#
            ));
        }
    }
    Ruleset::parse(format!(r#"{{"nftables": [{}]}}"#, objects.join(",")).as_bytes()).expect("JSON")
}

#[test]
fn jumps_in_circles_and_too_deep_are_doubts() {
    let circle = table_of(&[("a".to_owned(), vec!["b".to_owned()]), ("b".to_owned(), vec!["a".to_owned()])]);
    let nowhere = table_of(&[("a".to_owned(), vec!["b".to_owned()])]);
    let deep: Vec<_> = (0..40).map(|at| (format!("c{at}"), vec![format!("c{}", at + 1)])).collect();
    for ruleset in [circle, nowhere, table_of(&deep)] {
        let found = found(&ruleset);
        assert!(!found.is_empty());
        assert!(found.iter().all(|obstacle| obstacle.certainty == Certainty::PassesUnless), "{found:?}");
    }
}

#[test]
fn chains_that_jump_to_each_other_many_times_are_walked_once() {
    let wide: Vec<_> = (0..15).map(|at| (format!("c{at}"), vec![format!("c{}", at + 1); 40])).collect();
    let wide = [wide, vec![("c15".to_owned(), Vec::new())]].concat();
    assert_eq!(found(&table_of(&wide)), []);
}

/// The value at a place among all the values of a document, counted in the order of a walk.
fn value_at<'a>(value: &'a mut serde_json::Value, place: &mut usize) -> Option<&'a mut serde_json::Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        serde_json::Value::Array(list) => list.iter_mut().find_map(|value| value_at(value, place)),
        serde_json::Value::Object(map) => map.values_mut().find_map(|value| value_at(value, place)),
        _ => None,
    }
}

const TEXTS: [&str; 6] = [
    include_str!("rulesets/both-drop.json"),
    include_str!("rulesets/verdict-maps.json"),
    include_str!("rulesets/firewalld.json"),
    include_str!("rulesets/marks.json"),
    include_str!("rulesets/masquerade.json"),
    include_str!("rulesets/ufw.json"),
];

proptest::proptest! {
    #[test]
    fn half_an_answer_is_an_error(which in 0..TEXTS.len(), cut in proptest::prelude::any::<proptest::sample::Index>()) {
        let text = TEXTS[which].trim_end();
        let cut = cut.index(text.len());
        proptest::prop_assert!(Ruleset::parse(&text.as_bytes()[..cut]).is_err());
    }

    #[test]
    fn values_in_places_where_nobody_expects_them_do_no_harm(
        which in 0..TEXTS.len(),
        changes in proptest::collection::vec((0..1500_usize, 0..12_usize, 0..1500_usize), 1..6),
    ) {
        let mut document: serde_json::Value = serde_json::from_str(TEXTS[which]).expect("JSON");
        let original = document.clone();
        for (mut place, kind, mut from) in changes {
            let copied = value_at(&mut original.clone(), &mut from).cloned();
            let Some(value) = value_at(&mut document, &mut place) else { continue };
            *value = match kind {
                0 => serde_json::Value::Null,
                1 => serde_json::json!(u64::MAX),
                2 => serde_json::json!(-1),
                3 => serde_json::json!("*"),
                4 => serde_json::json!("@zones"),
                5 => serde_json::json!([]),
                6 => serde_json::json!({}),
                7 => serde_json::json!({"brand new": {"since": 2030}}),
                _ => copied.unwrap_or_default(),
            };
        }
        if let Ok(ruleset) = Ruleset::parse(document.to_string().as_bytes()) {
            judge(&ruleset);
        }
    }
}
