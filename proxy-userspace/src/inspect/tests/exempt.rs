//! Accounts whose mail is not judged.

use super::known::{long_mail, whole};
use super::*;
use crate::config::{self, PrivacySettings, SessionAlarms};
use crate::policy::AppliedNames;

fn privacy(lines: &str) -> PrivacySettings {
    let text = format!(
        "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n\
         [certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n[action.privacy]\n{lines}\n"
    );
    config::parse(&text, std::path::Path::new("/postern.toml")).unwrap().unnamed_action.privacy
}

fn names(lines: &str) -> Arc<AppliedNames> {
    Arc::new(AppliedNames {
        policy: "office".to_owned(),
        action: "[action]".to_owned(),
        profile: "[tls]".to_owned(),
        alarms: SessionAlarms::default(),
        privacy: privacy(lines),
    })
}

/// Under a policy that exempts `boss@example.org` and `*@council.example`.
fn exempting(mut dialogue: Dialogue) -> Dialogue {
    let names = names("exempt_accounts = [\"boss@example.org\", \"*@council.example\"]");
    let terms = Rc::make_mut(&mut dialogue.session.terms);
    terms.verdicts = terms.verdicts.under(&names);
    dialogue
}

fn hostile() -> String {
    format!("From: mallory@example.org\r\nSubject: x\r\n\r\n{EICAR}\r\n")
}

/// What a client gets of a hostile message after these turns of a login, each of the client and of the server.
fn fetched_after(turns: &[(&str, &str)]) -> (String, Dialogue) {
    let mut dialogue = exempting(Dialogue::new());
    for (client, server) in turns {
        dialogue.client(client).server(server);
    }
    dialogue.client("s SELECT INBOX\r\n").server("* OK [UIDVALIDITY 5] v\r\ns OK done\r\n").client_got();
    dialogue.client("f UID FETCH 7 (UID BODY.PEEK[])\r\n").server(&whole("f", 7, &hostile()));
    (dialogue.client_got(), dialogue)
}

#[test]
fn mail_of_an_exempt_account_passes_as_it_came_and_its_record_says_so() {
    let logins: [&[(&str, &str)]; 4] = [
        &[("a LOGIN boss@example.org x\r\n", "a OK done\r\n")],
        &[("a LOGIN Anna@Council.example x\r\n", "a OK done\r\n")],
        // "\0boss@example.org\0x", at once and when it is asked for.
        &[("a AUTHENTICATE PLAIN AGJvc3NAZXhhbXBsZS5vcmcAeA==\r\n", "a OK done\r\n")],
        &[("a AUTHENTICATE PLAIN\r\n", "+ \r\n"), ("AGJvc3NAZXhhbXBsZS5vcmcAeA==\r\n", "a OK done\r\n")],
    ];
    for turns in logins {
        let (got, dialogue) = fetched_after(turns);
        assert_eq!(got, whole("f", 7, &hostile()), "{turns:?}");
        assert!(dialogue.verdicts().is_empty(), "{turns:?}");
        let record = dialogue.record_of_events().unwrap();
        assert_eq!(record["postern.content.exempt"], true, "{record:#}");
    }
}

#[test]
fn header_rules_overwrite_nothing_in_mail_of_an_exempt_account() {
    for (account, is_exempt) in [("boss@example.org", true), ("joe@example.org", false)] {
        let mut dialogue = exempting(Dialogue::new());
        let rules = crate::content::FieldRules::new([("Subject", true)], false);
        Rc::make_mut(&mut dialogue.session.terms).headers = Arc::new(rules);
        dialogue.client(&format!("a LOGIN {account} x\r\n")).server("a OK done\r\n").client_got();
        for (items, answer) in [
            ("UID BODY.PEEK[]", format!("UID 7 BODY[] {}", literal("Subject: abc\r\n\r\nhello\r\n"))),
            ("UID BODY.PEEK[HEADER]", format!("UID 7 BODY[HEADER] {}", literal("Subject: abc\r\n\r\n"))),
            ("ENVELOPE", "ENVELOPE (\"d\" \"abc\" NIL NIL NIL NIL NIL NIL NIL \"<id>\")".to_owned()),
        ] {
            let answer = format!("* 1 FETCH ({answer})\r\nf OK done\r\n");
            dialogue.client(&format!("f UID FETCH 7 ({items})\r\n")).server(&answer);
            let got = dialogue.client_got();
            assert_eq!(got.contains("abc"), is_exempt, "{account} {items}: {got}");
            assert_eq!(got == answer, is_exempt, "{account} {items}: {got}");
        }
    }
}

#[test]
fn mail_of_whoever_only_looks_exempt_is_judged() {
    let logins: [&[(&str, &str)]; 11] = [
        &[],
        &[("a LOGIN joe@example.org x\r\n", "a OK done\r\n")],
        // The login failed.
        &[("a LOGIN boss@example.org x\r\n", "a NO wrong\r\n")],
        // Another one logged in afterwards.
        &[
            ("a LOGIN boss@example.org x\r\n", "a OK done\r\n"),
            ("b LOGIN joe@example.org x\r\n", "b OK done\r\n"),
        ],
        // Names in which servers find other accounts: a master user, a route, two domains.
        &[("a LOGIN joe*boss@council.example x\r\n", "a OK done\r\n")],
        &[("a LOGIN joe%example.org@council.example x\r\n", "a OK done\r\n")],
        &[("a LOGIN joe@example.org@council.example x\r\n", "a OK done\r\n")],
        // "joe@example.org\0boss@example.org\0x": the boss' password, for joe's mail.
        &[("a AUTHENTICATE PLAIN am9lQGV4YW1wbGUub3JnAGJvc3NAZXhhbXBsZS5vcmcAeA==\r\n", "a OK done\r\n")],
        // "user=boss@example.org^Aauth=Bearer t^A^A" and "n,a=boss@example.org,^Aauth=Bearer t^A^A": a token of anybody's.
        &[(
            "a AUTHENTICATE XOAUTH2 dXNlcj1ib3NzQGV4YW1wbGUub3JnAWF1dGg9QmVhcmVyIHQBAQ==\r\n",
            "a OK done\r\n",
        )],
        &[(
            "a AUTHENTICATE OAUTHBEARER bixhPWJvc3NAZXhhbXBsZS5vcmcsAWF1dGg9QmVhcmVyIHQBAQ==\r\n",
            "a OK done\r\n",
        )],
        // A server that knows no initial response asks for the account, and hears another one.
        &[
            ("a AUTHENTICATE LOGIN Ym9zc0BleGFtcGxlLm9yZw==\r\n", "+ VXNlcm5hbWU6\r\n"),
            ("am9lQGV4YW1wbGUub3Jn\r\n", "+ UGFzc3dvcmQ6\r\n"),
            ("eA==\r\n", "a OK done\r\n"),
        ],
    ];
    for turns in logins {
        let (got, dialogue) = fetched_after(turns);
        assert!(!got.contains(EICAR) && got.len() == whole("f", 7, &hostile()).len(), "{turns:?} {got}");
        assert_eq!(dialogue.verdicts().len(), 1, "{turns:?}");
    }
}

#[test]
fn uploads_of_an_exempt_account_pass_and_commands_that_nobody_may_use_do_not() {
    let mut dialogue = exempting(Dialogue::new());
    dialogue.client("a LOGIN boss@example.org x\r\n").server("a OK done\r\n");
    dialogue.server_got();
    let append = format!("b APPEND INBOX {{{}}}\r\n", hostile().len());
    dialogue.client(&append).client(&format!("{}\r\n", hostile()));
    dialogue.server("+ go on\r\n").server("b OK done\r\n");
    assert!(dialogue.server_got().contains(EICAR));
    dialogue.client_got();
    dialogue.client("c COMPRESS DEFLATE\r\n");
    assert!(dialogue.client_got().starts_with("c BAD") && dialogue.server_got().is_empty());
}

#[test]
fn what_an_exempt_account_saw_is_judged_for_everybody_else() {
    let held = HeldOctets::new(Size(1 << 32));
    let vault = Arc::new(Vault::start(VaultFiles::default(), Size(1 << 30), held).unwrap());
    let hostile = format!("{}{EICAR}\r\n", long_mail("clean"));
    let server = Rc::<str>::from("one server for both");
    for (account, is_judged) in [("boss@example.org", false), ("joe@example.org", true)] {
        let mut dialogue = exempting(Dialogue::keeping(Arc::clone(&vault)));
        Rc::make_mut(&mut dialogue.session.terms).server = Rc::clone(&server);
        dialogue.client(&format!("a LOGIN {account} x\r\n")).server("a OK done\r\n");
        dialogue.client("s SELECT INBOX\r\n").server("* OK [UIDVALIDITY 5] v\r\ns OK done\r\n").client_got();
        for tag in ["f", "g"] {
            dialogue.client(&format!("{tag} UID FETCH 7 (UID BODY.PEEK[])\r\n"));
            dialogue.server(&whole(tag, 7, &hostile));
            assert_eq!(dialogue.client_got().contains(EICAR), !is_judged, "{account}");
        }
        assert_eq!(vault.memory.numbers().entries, 0);
    }
}

#[test]
fn an_account_is_exempt_no_longer_than_policy_says_so() {
    struct Swap;
    impl RulesSource for Swap {
        fn renewed(&self, terms: &MediationTerms) -> Option<MediationTerms> {
            let is_old =
                terms.verdicts.applied().is_some_and(|names| !names.privacy.exempt_accounts.is_empty());
            let verdicts = || terms.verdicts.under(&names("subject = \"none\""));
            is_old.then(|| MediationTerms { verdicts: verdicts(), ..terms.clone() })
        }
    }
    let (got, mut dialogue) = fetched_after(&[("a LOGIN boss@example.org x\r\n", "a OK done\r\n")]);
    assert!(got.contains(EICAR));
    dialogue.session = dialogue.session.with_rules_from(Box::new(Swap));
    dialogue.client("g UID FETCH 7 (UID BODY.PEEK[])\r\n").server(&whole("g", 7, &hostile()));
    assert!(!dialogue.client_got().contains(EICAR));
    assert_eq!(dialogue.verdicts().len(), 1);
}

#[test]
fn a_verdict_tells_sender_subject_and_message_id_of_a_download_and_of_an_upload() {
    let mail = format!(
        "From: Mallory <mallory@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
         Message-ID: <1@example.org>\r\n\r\n{EICAR}\r\n"
    );
    let mut dialogue = Dialogue::new();
    dialogue.client("s SELECT INBOX\r\n").server("s OK done\r\n");
    dialogue.client("f UID FETCH 7 (UID BODY.PEEK[])\r\n").server(&whole("f", 7, &mail));
    dialogue.client(&format!("b APPEND INBOX {{{}}}\r\n", mail.len())).client(&format!("{mail}\r\n"));
    let verdicts = dialogue.verdicts();
    assert_eq!(verdicts.len(), 2, "{verdicts:#?}");
    for (verdict, action) in verdicts.iter().zip(["remove", "refuse"]) {
        assert_eq!(verdict["postern.action"], action);
        assert_eq!(verdict["email.from.address"][0], "mallory@example.org");
        assert_eq!(verdict["email.subject"], "Grüße");
        assert_eq!(verdict["email.message_id"], "1@example.org");
        assert!(verdict["event.duration"].as_u64().is_some_and(|took| took > 0), "{verdict:#}");
    }
}

/// The header of a part, or of one of several messages, is not that of the message that the verdict is about.
#[test]
fn what_only_looks_like_the_header_of_the_mail_is_in_no_verdict() {
    let mime = "From: part@example.org\r\nSubject: part\r\n\r\n";
    let mut dialogue = Dialogue::new();
    dialogue.client("f UID FETCH 7 (UID BODY.PEEK[2.MIME] BODY.PEEK[2])\r\n");
    let answer = format!("UID 7 BODY[2.MIME] {} BODY[2] {}", literal(mime), literal(EICAR));
    dialogue.server(&format!("* 1 FETCH ({answer})\r\nf OK done\r\n"));
    let clean = "From: first@example.org\r\nSubject: first\r\n\r\nhello\r\n";
    dialogue.client(&format!("a APPEND INBOX {} {}\r\n", literal(clean), literal(&hostile())));
    let verdicts = dialogue.verdicts();
    assert_eq!(verdicts.len(), 2, "{verdicts:#?}");
    for verdict in verdicts {
        assert!(verdict["email.from.address"].is_null() && verdict["email.subject"].is_null(), "{verdict:#}");
    }
}
