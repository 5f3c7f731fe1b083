//! Other rules while a session runs: with the next command, and not for what began before.

use std::cell::Cell;

use super::*;
use crate::config;
use crate::config::{PrivacySettings, SessionAlarms};
use crate::policy::AppliedNames;

type Change = Box<dyn Fn(&MediationTerms) -> MediationTerms>;

/// The policy in force, as a session asks for it.
#[derive(Clone, Default)]
struct Swap(Rc<Cell<Option<Change>>>);

impl Swap {
    /// From now on this is in force.
    fn to(&self, change: impl Fn(&MediationTerms) -> MediationTerms + 'static) {
        self.0.set(Some(Box::new(change)));
    }

    /// From now on no text file passes.
    fn to_no_text(&self) {
        self.to(|terms| {
            let vault = terms.vault.clone().unwrap();
            let names = AppliedNames {
                policy: "later".to_owned(),
                action: "Later".to_owned(),
                profile: "[tls]".to_owned(),
                alarms: SessionAlarms::default(),
                privacy: PrivacySettings::default(),
            };
            MediationTerms {
                judge: Arc::new(Rules::new::<_, &str>(&["*.txt"], &[]).unwrap()),
                recollection: Some(Recollection::new(vault, RuleGeneration::of(&2, 1).unwrap())),
                verdicts: terms.verdicts.under(&Arc::new(names)),
                ..terms.clone()
            }
        });
    }

    /// From now on `[action]` says this.
    fn to_action(&self, lines: &str) {
        let text = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n\
             [certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n{lines}\n"
        );
        let action = config::parse(&text, std::path::Path::new("/postern.toml")).unwrap().unnamed_action;
        let imap = Arc::new(ImapTerms::of(&action));
        self.to(move |terms| MediationTerms { imap: Arc::clone(&imap), ..terms.clone() });
    }
}

impl RulesSource for Swap {
    fn renewed(&self, terms: &MediationTerms) -> Option<MediationTerms> {
        self.0.take().map(|change| change(terms))
    }
}

fn under(dialogue: Dialogue) -> (Dialogue, Swap) {
    let swap = Swap::default();
    let session = dialogue.session.with_rules_from(Box::new(swap.clone()));
    (Dialogue { session, ..dialogue }, swap)
}

fn running() -> (Dialogue, Swap) {
    let (mut dialogue, swap) = under(Dialogue::new());
    dialogue.client("s SELECT INBOX\r\n").server("* OK [UIDVALIDITY 5] v\r\ns OK done\r\n");
    dialogue.client_got();
    dialogue.server_got();
    (dialogue, swap)
}

const TEXT: &str = "the text that some rules forbid";

fn mail() -> String {
    format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment; \
         filename=a.txt\r\n\r\n{TEXT}\r\n--b--\r\n"
    )
}

fn whole(tag: &str, uid: u32) -> String {
    let mail = mail();
    format!("* {uid} FETCH (UID {uid} BODY[] {{{}}}\r\n{mail})\r\n{tag} OK done\r\n", mail.len())
}

fn fetch(tag: &str, uid: u32) -> String {
    format!("{tag} UID FETCH {uid} (UID BODY.PEEK[])\r\n")
}

#[test]
fn the_next_command_is_the_first_under_new_rules_and_verdicts_name_them() {
    let (mut dialogue, swap) = running();
    dialogue.client(&fetch("a", 1)).server(&whole("a", 1));
    assert_eq!(dialogue.client_got(), whole("a", 1));
    assert!(dialogue.verdicts().is_empty());
    swap.to_no_text();
    // What was judged, and remembered, under the rules before, is judged again.
    for (tag, uid) in [("b", 1), ("c", 2)] {
        dialogue.client(&fetch(tag, uid)).server(&whole(tag, uid));
        let got = dialogue.client_got();
        assert!(got.len() == whole(tag, uid).len() && !got.contains(TEXT), "{got}");
        let verdicts = dialogue.verdicts();
        let [verdict] = verdicts.as_slice() else { panic!("{verdicts:#?}") };
        assert_eq!(
            (&verdict["postern.policy"], &verdict["postern.proxy_action"], &verdict["rule.name"]),
            (&"later".into(), &"Later".into(), &"names".into())
        );
    }
    dialogue.client("l LOGIN a\r\n");
    let record = dialogue.record_of_events().unwrap();
    assert_eq!(
        (&record["postern.policy"], &record["postern.rules_renewed"]),
        (&"later".into(), &1.into()),
        "{record:#}"
    );
}

#[test]
fn what_the_server_has_ends_under_the_rules_before_and_the_next_command_waits_for_it() {
    let (mut dialogue, swap) = running();
    dialogue.client(&fetch("a", 1)).client(&fetch("b", 2));
    assert_eq!(dialogue.server_got(), fetch("a", 1) + &fetch("b", 2));
    swap.to_no_text();
    dialogue.client(&fetch("c", 3)).client("d NOOP\r\n");
    assert_eq!(dialogue.server_got(), "", "it waits for a and b");
    dialogue.server(&whole("a", 1));
    assert_eq!((dialogue.server_got(), dialogue.client_got()), (String::new(), whole("a", 1)));
    dialogue.server(&whole("b", 2));
    assert_eq!(dialogue.client_got(), whole("b", 2));
    assert_eq!(dialogue.server_got(), fetch("c", 3) + "d NOOP\r\n");
    dialogue.server(&whole("c", 3)).server("d OK done\r\n");
    let got = dialogue.client_got();
    assert!(got.ends_with("c OK done\r\nd OK done\r\n") && !got.contains(TEXT), "{got}");
}

#[test]
fn mail_that_is_judged_when_rules_change_is_judged_to_its_end_by_the_rules_before() {
    let (stalled, go_on) = Dialogue::stalled();
    let (mut dialogue, swap) = under(stalled);
    // Dropped before the thread that waits for it.
    let go_on = go_on;
    dialogue.takes(Side::Downstream, &fetch("a", 1)).takes(Side::Upstream, &whole("a", 1));
    swap.to_no_text();
    dialogue.takes(Side::Downstream, &fetch("b", 2));
    assert_eq!(dialogue.server_got(), fetch("a", 1), "the verdict has not come");
    drop(go_on);
    dialogue.settle().unwrap();
    assert_eq!((dialogue.client_got(), dialogue.server_got()), (whole("a", 1), fetch("b", 2)));
    dialogue.server(&whole("b", 2));
    assert!(!dialogue.client_got().contains(TEXT));
}

#[test]
fn an_upload_that_is_judged_when_rules_change_goes_on_and_the_next_does_not() {
    let (stalled, go_on) = Dialogue::stalled();
    let (mut dialogue, swap) = under(stalled);
    // Dropped before the thread that waits for it.
    let go_on = go_on;
    let append = |tag| format!("{tag} APPEND x {{{}+}}\r\n{}\r\n", mail().len(), mail());
    dialogue.takes(Side::Downstream, &append("a"));
    swap.to_no_text();
    drop(go_on);
    dialogue.settle().unwrap();
    assert!(dialogue.server_got().starts_with("a APPEND x"));
    dialogue.server("+ go\r\na OK done\r\n");
    dialogue.client_got();
    dialogue.server_got();
    dialogue.client(&append("b"));
    let got = dialogue.client_got();
    assert!(got.starts_with("b NO ") && dialogue.server_got().is_empty(), "{got}");
}

/// Whatever octet is the last before the change: what was whole before it has the old rules, all else the new ones.
#[test]
fn at_every_octet_whole_commands_have_the_rules_before_and_the_others_the_new_ones() {
    let commands = [("a", 1), ("b", 2), ("c", 3)].map(|(tag, uid)| fetch(tag, uid));
    let said = commands.concat();
    for at in 0..=said.len() {
        let (mut dialogue, swap) = running();
        let mut answered = 0;
        let mut got = Vec::new();
        let mut answer = |dialogue: &mut Dialogue| {
            while !dialogue.server_got().is_empty() {
                for (index, tag) in ["a", "b", "c"].into_iter().enumerate().skip(answered) {
                    if dialogue.session.awaits(tag) {
                        dialogue.server(&whole(tag, u32::try_from(index).unwrap() + 1));
                        got.push(dialogue.client_got());
                        answered = index + 1;
                    }
                }
            }
        };
        dialogue.client(&said[..at]);
        answer(&mut dialogue);
        swap.to_no_text();
        dialogue.client(&said[at..]);
        answer(&mut dialogue);
        assert_eq!(got.len(), 3, "at {at}");
        let mut end = 0;
        for (command, got) in commands.iter().zip(&got) {
            end += command.len();
            assert_eq!(got.contains(TEXT), end <= at, "{command:?}, at {at}");
        }
    }
}

#[test]
fn a_capability_that_is_hidden_now_is_refused_and_no_longer_listed() {
    let (mut dialogue, swap) = running();
    let list = "* CAPABILITY IMAP4rev1 IDLE SORT\r\n";
    dialogue.client("a CAPABILITY\r\n").server(&format!("{list}a OK done\r\n"));
    assert!(dialogue.client_got().contains("IDLE"));
    dialogue.client("i IDLE\r\n").server("+ idling\r\n");
    dialogue.client_got();
    swap.to_action("[action.capabilities]\nhide = [\"IDLE\"]");
    // What runs goes on to its end.
    dialogue.server("* 3 EXISTS\r\n").client("DONE\r\n").server("i OK done\r\n");
    assert_eq!(dialogue.client_got(), "* 3 EXISTS\r\ni OK done\r\n");
    dialogue.server_got();
    dialogue.client("j IDLE\r\n");
    let got = dialogue.client_got();
    assert!(got.starts_with("j BAD ") && got.contains("this gateway hides"), "{got}");
    assert_eq!(dialogue.server_got(), "");
    dialogue.client("k CAPABILITY\r\n").server(&format!("{list}k OK done\r\n"));
    let got = dialogue.client_got();
    assert!(got.contains("SORT") && !got.contains("IDLE"), "{got}");
}

#[test]
fn a_command_has_the_line_length_and_the_treatment_of_literals_of_its_first_octet() {
    let long = format!("a SEARCH TEXT \"{}\"\r\n", "x".repeat(2_000));
    let (mut dialogue, swap) = running();
    dialogue.client(&long[..100]);
    swap.to_action("[action.general]\nline_length = 1024");
    dialogue.client(&long[100..]).server("a OK done\r\n");
    assert_eq!((dialogue.client_got().as_str(), dialogue.server_got()), ("a OK done\r\n", long.clone()));
    let ended = dialogue.says(Side::Downstream, long.as_bytes());
    assert_eq!(ended, Err(InspectRefusal::LineTooLong(1024)));

    let (mut dialogue, swap) = under(Dialogue::new());
    dialogue.client("a LOGIN {1}\r\n");
    assert_eq!(dialogue.client_got(), "+ Go on\r\n");
    swap.to_action("[action.capabilities]\nlogin = false");
    // The password is on its way; it goes no further.
    dialogue.client("u {1}\r\np\r\n");
    let got = dialogue.client_got();
    assert!(got.contains("a NO LOGIN is switched off"), "{got}");
    dialogue.client("b LOGIN {1}\r\n");
    let got = dialogue.client_got();
    assert!(got.starts_with("b NO LOGIN is switched off"), "no password is asked for: {got}");
    assert_eq!(dialogue.server_got(), "");

    // The first octet behind the change is that of the command itself.
    let (mut dialogue, swap) = under(Dialogue::new());
    swap.to_action("[action.capabilities]\nlogin = false");
    dialogue.client("c LOGIN {1}\r\n");
    let got = dialogue.client_got();
    assert!(got.starts_with("c NO LOGIN is switched off"), "no password is asked for: {got}");
    let (mut dialogue, swap) = running();
    swap.to_action("[action.general]\nline_length = 1024");
    let ended = dialogue.says(Side::Downstream, long.as_bytes());
    assert_eq!(ended, Err(InspectRefusal::LineTooLong(1024)));
}

#[test]
fn a_copy_that_was_judged_by_other_rules_is_shown_no_more() {
    let pieces = |swap: fn(&Swap)| {
        let (mut dialogue, rules) = running();
        dialogue.client("a UID FETCH 7 (BODY.PEEK[]<0.10>)\r\n").server(&whole("a", 7));
        dialogue.server_got();
        swap(&rules);
        dialogue.client("b UID FETCH 7 (BODY.PEEK[]<10.400>)\r\n");
        (dialogue.server_got(), dialogue)
    };
    let (asked, _) = pieces(|rules| rules.to_action(""));
    assert_eq!(asked, "b UID FETCH 7 (BODY.PEEK[]<0.1>)\r\n", "the rules are the same");
    let (asked, mut dialogue) = pieces(Swap::to_no_text);
    assert_eq!(asked, "b UID FETCH 7 (BODY.PEEK[])\r\n");
    dialogue.client_got();
    dialogue.server(&whole("b", 7));
    assert!(!dialogue.client_got().contains(TEXT));
}
