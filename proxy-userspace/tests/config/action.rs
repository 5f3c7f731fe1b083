use postern::config::{ClearText, ImplicitTls, StartTls};

use super::{MINIMAL, assert_message, good};

fn action(lines: &str) -> postern::config::Action {
    good(&format!("{MINIMAL}[action]\n{lines}\n")).unnamed_action
}

#[test]
fn starttls_is_inspected_unless_the_owner_says_otherwise() {
    assert_eq!(good(MINIMAL).unnamed_action.starttls, StartTls::Inspect);
    for starttls in [StartTls::Inspect, StartTls::Strip, StartTls::Bypass] {
        assert_eq!(action(&format!("starttls = \"{}\"", starttls.as_str())).starttls, starttls);
    }
    assert_message(
        "[action]\nstarttls = \"allow\"",
        &[
            ":8:12: action.starttls = \"allow\": unknown treatment of STARTTLS; use \"inspect\", \"strip\" or \"bypass\"",
        ],
    );
    assert_message("[action]\nstarttls = true", &["action.starttls = true: wrong type"]);
}

#[test]
fn clear_text_is_refused_unless_the_owner_says_otherwise() {
    assert_eq!(good(MINIMAL).unnamed_action.cleartext, ClearText::Refuse);
    for cleartext in [ClearText::Refuse, ClearText::Inspect] {
        assert_eq!(action(&format!("cleartext = \"{}\"", cleartext.as_str())).cleartext, cleartext);
    }
    assert_message(
        "[action]\ncleartext = \"allow\"",
        &[
            ":8:13: action.cleartext = \"allow\": unknown treatment of clear text; use \"refuse\" or \"inspect\"",
        ],
    );
    assert_message("[action]\ncleartext = 1", &["action.cleartext = 1: wrong type"]);
}

#[test]
fn clear_text_of_which_nobody_reads_the_commands_is_a_fault() {
    assert_message(
        "[action]\ncleartext = \"inspect\"\ninspect = \"none\"",
        &[
            ":8:13: action.cleartext = \"inspect\": needs action.inspect = \"full\"",
            "use \"refuse\"",
            "action.bypass",
        ],
    );
    assert_eq!(action("cleartext = \"refuse\"\ninspect = \"none\"").cleartext, ClearText::Refuse);
}

#[test]
fn implicit_tls_is_inspected_unless_the_owner_says_otherwise() {
    assert_eq!(good(MINIMAL).unnamed_action.implicit, ImplicitTls::Inspect);
    for implicit in [ImplicitTls::Inspect, ImplicitTls::Allow, ImplicitTls::Deny] {
        assert_eq!(action(&format!("implicit = \"{}\"", implicit.as_str())).implicit, implicit);
    }
    assert_message(
        "[action]\nimplicit = \"bypass\"",
        &[
            ":8:12: action.implicit = \"bypass\": unknown treatment of implicit TLS; use \"inspect\", \"allow\" or \"deny\"",
        ],
    );
    assert_message("[action]\nimplicit = [\"deny\"]", &["action.implicit", "wrong type"]);
    assert_message("[action]\nimplict = \"deny\"", &["action.implict", "\"implicit\"?"]);
}

#[test]
fn nobody_can_log_in_without_starttls_and_without_clear_text() {
    for (settings, bars) in [
        ("", false),
        ("starttls = \"strip\"", true),
        ("starttls = \"strip\"\ncleartext = \"inspect\"", false),
        ("starttls = \"bypass\"", false),
    ] {
        assert_eq!(action(settings).bars_logins(), bars, "{settings}");
    }
}

#[test]
fn what_is_hidden_in_commands_that_nobody_reads_is_a_fault() {
    for (table, line) in [
        ("general", "hide_banner = true"),
        ("capabilities", "hide = [\"IDLE\"]"),
        ("capabilities", "mechanisms = [\"PLAIN\"]"),
        ("capabilities", "login = false"),
        ("headers", "unmatched = \"remove\""),
    ] {
        let key = line.split(' ').next().unwrap();
        let said = format!("action.{table}.{key} = ");
        assert_message(
            &format!("[action]\ninspect = \"none\"\n[action.{table}]\n{line}"),
            &[":10:", &said, "needs action.inspect = \"full\": without it nobody reads commands"],
        );
        good(&format!("{MINIMAL}[action.{table}]\n{line}\n"));
    }
    let rules = "[action.headers]\nrule = [{ match = \"X-A\", action = \"allow\" }, { match = \"X-B\", action = \"remove\" }]";
    assert_message(
        &format!("[action]\ninspect = \"none\"\n{rules}"),
        &[
            "action.headers.rule[1].action = \"remove\": needs action.inspect = \"full\": without it nobody reads commands",
        ],
    );
    good(&format!("{MINIMAL}{rules}\n"));
    // Every mechanism, in any order, hides none.
    let mut all = good(MINIMAL).unnamed_action.capabilities.mechanisms;
    all.reverse();
    good(&format!("{MINIMAL}[action]\ninspect = \"none\"\n[action.capabilities]\nmechanisms = {all:?}\n"));
}

#[test]
fn an_action_without_time_outs_of_its_own_has_those_of_limits() {
    let limits = "[limits]\nidle_seconds = 1900\nhandshake_seconds = 7\n";
    let times = |general: &str| {
        let config = good(&format!("{MINIMAL}[action.general]\n{general}\n{limits}"));
        let general = config.unnamed_action.general;
        (general.idle_of(&config.limits).as_secs(), general.handshake_of(&config.limits).as_secs())
    };
    assert_eq!(times(""), (1900, 7));
    assert_eq!(times("idle_seconds = 1860"), (1860, 7));
    assert_eq!(times("handshake_seconds = 90"), (1900, 90));
}

#[test]
fn the_predefined_action_for_servers_of_ones_own_mints_no_copy() {
    use postern::config::{CLIENT_ACTION, SERVER_ACTION, ShownCertificates};
    let config = good(MINIMAL);
    let shown = |name| config.action(Some(name)).unwrap().certificates;
    assert_eq!(
        [shown(CLIENT_ACTION), shown(SERVER_ACTION)],
        [ShownCertificates::Authority, ShownCertificates::Server]
    );
    assert!(config.default_certificate().is_none(), "no action in use needs one");
}
