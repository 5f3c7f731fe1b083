//! APPEND, MULTIAPPEND, REPLACE, and other literals of a client.

use super::*;

#[test]
fn an_upload_is_judged_before_the_server_hears_of_it() {
    let mut dialogue = Dialogue::new();
    let mail = format!("Subject: x\r\n\r\n{EICAR}\r\n");
    let append = |mail: &str| format!("a APPEND INBOX (\\Seen) {{{}}}\r\n", mail.len());
    assert_eq!(dialogue.client(&append(&mail)).client_got(), "+ Go on\r\n");
    dialogue.client(&format!("{mail}\r\n"));
    let got = dialogue.client_got();
    assert!(got.starts_with("a NO [CANNOT] "), "{got}");
    assert_eq!(dialogue.server_got(), "");

    let mail = "Subject: x\r\n\r\nhello\r\n";
    dialogue.client(&append(mail)).client(&format!("{mail}\r\n"));
    assert_eq!(dialogue.client_got(), "+ Go on\r\n");
    assert_eq!(dialogue.server_got(), append(mail));
    dialogue.server("+ send it\r\n");
    assert_eq!((dialogue.server_got(), dialogue.client_got()), (format!("{mail}\r\n"), String::new()));
    assert_eq!(dialogue.server("a OK stored\r\n").client_got(), "a OK stored\r\n");
}

/// Says `head` and each literal behind its `{n}`; the server asks for each.
fn upload(dialogue: &mut Dialogue, command: &str) -> String {
    dialogue.client(command);
    let mut got = dialogue.server_got();
    let mut asked = 0;
    while got.ends_with("}\r\n") && asked < 10 {
        dialogue.server("+ go\r\n");
        got.push_str(&dialogue.server_got());
        asked += 1;
    }
    got
}

#[test]
fn each_form_of_an_upload_reaches_the_server_with_its_literals_asked_for() {
    for (command, expected) in [
        ("a APPEND INBOX {5}\r\nhello\r\n", None),
        ("a APPEND INBOX {5+}\r\nhello\r\n", Some("a APPEND INBOX {5}\r\nhello\r\n")),
        ("a APPEND INBOX ~{5+}\r\nhello\r\n", Some("a APPEND INBOX ~{5}\r\nhello\r\n")),
        ("a APPEND {5}\r\nINBOX (\\Seen $x) \" 1-Jan-2026 00:00:00 +0000\" {5}\r\nhello\r\n", None),
        (
            "a APPEND INBOX {5}\r\nhello (\\Seen) {3+}\r\nyou\r\n",
            Some("a APPEND INBOX {5}\r\nhello (\\Seen) {3}\r\nyou\r\n"),
        ),
        ("a APPEND INBOX UTF8 (~{5}\r\nhello)\r\n", None),
        ("a APPEND INBOX UTF8 (~{5+}\r\nhello)\r\n", Some("a APPEND INBOX UTF8 (~{5}\r\nhello)\r\n")),
        ("a REPLACE 3 INBOX (\\Draft) {5}\r\nhello\r\n", None),
        ("a UID REPLACE 3 INBOX {5+}\r\nhello\r\n", Some("a UID REPLACE 3 INBOX {5}\r\nhello\r\n")),
        ("a LOGIN {3}\r\njoe {6+}\r\nse\r\nre\r\n", Some("a LOGIN {3}\r\njoe {6}\r\nse\r\nre\r\n")),
        ("a SEARCH CHARSET UTF-8 SUBJECT {4}\r\n{9}\n TEXT x\r\n", None),
    ] {
        let mut dialogue = Dialogue::new();
        assert_eq!(upload(&mut dialogue, command), expected.unwrap_or(command), "{command}");
        let synchronizing = command.matches("}\r\n").count() - command.matches("+}\r\n").count();
        assert_eq!(dialogue.client_got(), "+ Go on\r\n".repeat(synchronizing), "{command}");
        assert_eq!(
            dialogue.server("a OK [APPENDUID 1 2] done\r\n").client_got(),
            "a OK [APPENDUID 1 2] done\r\n"
        );
    }
}

#[test]
fn no_form_of_an_upload_carries_what_is_forbidden() {
    let mail = format!("Subject: x\r\n\r\n{EICAR}\r\n");
    let (mail, clean) = (mail.as_str(), "Subject: x\r\n\r\nhello\r\n");
    let plus = |mail: &str| format!("{{{}+}}\r\n{mail}", mail.len());
    for command in [
        format!("a APPEND INBOX {}\r\n", literal(mail)),
        format!("a APPEND INBOX {}\r\n", plus(mail)),
        format!("a APPEND INBOX ~{}\r\n", literal(mail)),
        format!("a APPEND INBOX UTF8 (~{})\r\n", literal(mail)),
        format!("a APPEND INBOX {} {}\r\n", literal(clean), literal(mail)),
        format!("a APPEND INBOX {} {}\r\n", plus(mail), plus(clean)),
        format!("a REPLACE 5 INBOX {}\r\n", literal(mail)),
        format!("a UID REPLACE 5 INBOX (\\Seen) {}\r\n", plus(mail)),
    ] {
        let mut dialogue = Dialogue::new();
        dialogue.client(&command);
        let got = dialogue.client_got().replace("+ Go on\r\n", "");
        assert!(got.starts_with("a NO [CANNOT] "), "{command}: {got}");
        assert_eq!(units(Speaker::Server, got.as_bytes()).len(), 1);
        assert_eq!(dialogue.server_got(), "", "{command}");
        assert_eq!(dialogue.verdicts().len(), 1, "{command}");
        // The session goes on.
        assert_eq!(dialogue.client("b NOOP\r\n").server_got(), "b NOOP\r\n");
        assert_eq!(dialogue.held.octets(), 0);
    }
}

#[test]
fn a_message_over_the_limit_is_refused_before_it_is_sent() {
    for command in [
        "a APPEND INBOX {100001}\r\n",
        "a REPLACE 5 INBOX {100001}\r\n",
        "a APPEND INBOX UTF8 (~{4294967295}\r\n",
    ] {
        let mut dialogue = Dialogue::new();
        dialogue.client(command);
        let got = dialogue.client_got();
        assert!(got.starts_with("a NO [LIMIT] "), "{command}: {got}");
        assert_eq!(dialogue.server_got(), "");
        assert_eq!(dialogue.client("b NOOP\r\n").server_got(), "b NOOP\r\n");
    }
    // Together, too; and what does not ask is read and thrown away.
    let mut dialogue = Dialogue::new();
    let large = "x".repeat(60_000);
    dialogue.client(&format!("a APPEND INBOX {{60000+}}\r\n{large} {{60000+}}\r\n{large}\r\nb NOOP\r\n"));
    assert_eq!(dialogue.server_got(), "b NOOP\r\n");
    assert!(dialogue.client_got().starts_with("a NO [LIMIT] "));
    assert_eq!(dialogue.held.octets(), 0);
}

#[test]
fn literals_of_other_commands_are_bounded() {
    for command in [
        "a LOGIN {65537}\r\n".to_owned(),
        format!("a SEARCH TEXT {{40000+}}\r\n{0} TEXT {{40000+}}\r\n{0}\r\n", "x".repeat(40_000)),
    ] {
        let mut dialogue = Dialogue::new();
        dialogue.client(&command);
        assert!(dialogue.client_got().starts_with("a BAD "));
        assert_eq!(dialogue.server_got(), "");
    }
    let mut dialogue = Dialogue::new();
    dialogue.client(&format!("a SEARCH {}\r\n", ["TEXT {1+}\r\nx"; 2_000].join(" ")));
    assert!(dialogue.client_got().starts_with("a BAD "));
}

#[test]
fn a_servers_no_in_place_of_its_question_ends_the_upload() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a APPEND INBOX {5}\r\nhello\r\nb NOOP\r\n");
    assert_eq!(dialogue.client_got(), "+ Go on\r\n");
    assert_eq!(dialogue.server_got(), "a APPEND INBOX {5}\r\n");
    dialogue.server("a NO [TRYCREATE] none\r\n");
    assert_eq!(dialogue.client_got(), "a NO [TRYCREATE] none\r\n");
    assert_eq!(dialogue.server_got(), "b NOOP\r\n", "and never the literal");
}

/// K-9 writes the message again at each `+`.
#[test]
fn each_question_of_the_server_is_swallowed_and_so_is_one_that_nobody_waits_for() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a APPEND INBOX {5}\r\nhello {3}\r\nyou\r\n");
    dialogue.client_got();
    dialogue.server("+ go\r\n+ go\r\n+ go\r\n+ go\r\n+\r\na OK done\r\n+ go\r\n");
    assert_eq!(dialogue.server_got(), "a APPEND INBOX {5}\r\nhello {3}\r\nyou\r\n");
    assert_eq!(dialogue.client_got(), "a OK done\r\n");
}

#[test]
fn an_upload_without_room_is_refused_and_nothing_stays_held() {
    let mail = "x".repeat(60_000);
    for command in [
        format!("a APPEND INBOX {{60000}}\r\n{mail}\r\n"),
        format!("a APPEND INBOX {{60000+}}\r\n{mail}\r\n"),
    ] {
        let mut dialogue = Dialogue::holding(50_000);
        dialogue.client(&command);
        let got = dialogue.client_got().replace("+ Go on\r\n", "");
        assert!(got.starts_with("a NO [UNAVAILABLE] "), "{got}");
        assert_eq!((dialogue.server_got(), dialogue.held.octets()), (String::new(), 0));
        assert_eq!(dialogue.client("b NOOP\r\n").server_got(), "b NOOP\r\n");
    }
}

#[test]
fn uploads_wait_for_commands_before_them_and_others_for_uploads() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a NOOP\r\nb APPEND INBOX {1+}\r\nx\r\nc NOOP\r\n");
    assert_eq!(dialogue.server_got(), "a NOOP\r\n");
    dialogue.server("a OK done\r\n");
    assert_eq!(dialogue.server_got(), "b APPEND INBOX {1}\r\n");
    dialogue.server("+ go\r\n");
    assert_eq!(dialogue.server_got(), "x\r\n");
    dialogue.server("b OK done\r\n");
    assert_eq!(dialogue.server_got(), "c NOOP\r\n");
}

#[test]
fn the_sender_of_an_upload_is_no_sender_of_what_comes_later() {
    let mut dialogue = Dialogue::new();
    let mail = "From: uploader@example.org\r\n\r\nhello\r\n";
    upload(&mut dialogue, &format!("a APPEND INBOX {}\r\n", literal(mail)));
    dialogue.server("+ go\r\na OK done\r\n").verdicts();
    dialogue.client("b UID FETCH 7 (BODY.PEEK[])\r\n").server("* 1 FETCH (BODY[\r\nb OK done\r\n");
    let verdicts = dialogue.verdicts();
    assert_eq!(verdicts.len(), 1);
    assert!(!verdicts[0].to_string().contains("uploader"), "{}", verdicts[0]);
}
