//! FETCH: what the server is asked for, and what the client gets of its answers.

use super::*;

#[test]
fn mail_is_judged_before_the_client_sees_an_octet() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a LOGIN joe secret\r\n").server("a OK in\r\n").client("b SELECT INBOX\r\n");
    dialogue.server("b OK done\r\n").client("c UID FETCH 7 (UID BODY.PEEK[])\r\n");
    assert!(dialogue.server_got().ends_with("c UID FETCH 7 (UID BODY.PEEK[])\r\n"));
    dialogue.client_got();
    let clean = "Subject: x\r\n\r\nhello\r\n";
    let answer =
        |mail: &str| format!("* 1 FETCH (UID 7 BODY[] {{{}}}\r\n{mail})\r\nc OK done\r\n", mail.len());
    assert_eq!(dialogue.server(&answer(clean)).client_got(), answer(clean));
    let hostile = format!("Subject: x\r\n\r\n{EICAR}\r\n");
    dialogue.client("c UID FETCH 7 (UID BODY.PEEK[])\r\n").server(&answer(&hostile));
    let got = dialogue.client_got();
    assert_eq!(got.len(), answer(&hostile).len());
    assert!(
        !got.contains("EICAR-STANDARD")
            && got.contains("Subject: x\r\n\r\n")
            && got.ends_with("c OK done\r\n"),
        "{got}"
    );
    let verdict = &dialogue.verdicts()[0];
    assert_eq!(
        ["user.name", "postern.mailbox", "postern.direction"].map(|field| verdict[field].as_str()),
        [Some("joe"), Some("INBOX"), Some("server_to_client")]
    );
    assert_eq!(verdict["postern.uid"], 7);
}

#[test]
fn a_partial_is_cut_from_the_whole_and_what_was_added_stays_out() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a FETCH 1 (BODY.PEEK[1]<2.3> FLAGS)\r\n");
    assert_eq!(
        dialogue.server_got(),
        "a FETCH 1 (UID BODY.PEEK[1] FLAGS BODY.PEEK[1.MIME] BODYSTRUCTURE)\r\n"
    );
    dialogue.server(
        "* 1 FETCH (UID 7 FLAGS () BODY[1] {7}\r\nhello\r\n BODY[1.MIME] {26}\r\nContent-Type: text/plain\r\n BODYSTRUCTURE \
         (\"text\" \"plain\" NIL NIL NIL \"7bit\" 7 1))\r\na OK done\r\n",
    );
    assert_eq!(dialogue.client_got(), "* 1 FETCH (FLAGS () BODY[1]<2> {3}\r\nllo)\r\na OK done\r\n");
}

#[test]
fn a_command_that_was_changed_is_alone() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a NOOP\r\nb UID FETCH 1 (BODY[]<0.5>)\r\nc NOOP\r\n");
    assert_eq!(dialogue.server_got(), "a NOOP\r\n");
    assert_eq!(dialogue.server("a OK done\r\n").server_got(), "b UID FETCH 1 (BODY[])\r\n");
    assert_eq!(dialogue.server("b OK done\r\n").server_got(), "c NOOP\r\n");
}

/// What the server is asked, for these items in FETCH.
fn asked(items: &str) -> String {
    let mut dialogue = Dialogue::new();
    dialogue.client(&format!("a FETCH 1 {items}\r\n"));
    assert_eq!(dialogue.client_got(), "", "{items}");
    let asked = dialogue.server_got();
    asked.strip_prefix("a FETCH 1 ").and_then(|asked| asked.strip_suffix("\r\n")).unwrap().to_owned()
}

#[test]
fn each_section_is_asked_for_whole_in_its_own_form_with_what_judges_it() {
    for (items, expected) in [
        // Metadata, and headers as metadata: nothing is added.
        ("FLAGS", "FLAGS"),
        ("ALL", "ALL"),
        ("(BODY BODYSTRUCTURE ENVELOPE)", "(BODY BODYSTRUCTURE ENVELOPE)"),
        ("BODY[HEADER]", "BODY[HEADER]"),
        ("RFC822.HEADER", "RFC822.HEADER"),
        ("(BODY.PEEK[1.MIME] BODY[2.HEADER])", "(BODY.PEEK[1.MIME] BODY[2.HEADER])"),
        ("BODY.PEEK[HEADER.FIELDS.NOT (a)]", "BODY.PEEK[HEADER.FIELDS.NOT (a)]"),
        // The message is its own header.
        ("BODY[]", "(UID BODY[])"),
        ("(BODY.PEEK[] UID)", "(BODY.PEEK[] UID)"),
        ("RFC822", "(UID RFC822)"),
        ("BODY[]<0.100>", "(UID BODY[])"),
        // Others come with their header, and parts with the structure.
        ("BODY[TEXT]", "(UID BODY[TEXT] BODY.PEEK[HEADER])"),
        ("RFC822.TEXT", "(UID RFC822.TEXT BODY.PEEK[HEADER])"),
        ("(RFC822.TEXT RFC822.HEADER)", "(UID RFC822.TEXT RFC822.HEADER BODY.PEEK[HEADER])"),
        ("(BODY[TEXT] BODY[HEADER])", "(UID BODY[TEXT] BODY[HEADER])"),
        ("BODY[1]", "(UID BODY[1] BODY.PEEK[1.MIME] BODYSTRUCTURE)"),
        ("BODY.PEEK[02.3]<5.7>", "(UID BODY.PEEK[2.3] BODY.PEEK[2.3.MIME] BODYSTRUCTURE)"),
        ("BODY[0]", "(UID BODY[0] BODY.PEEK[0.MIME] BODYSTRUCTURE)"),
        ("BODY[2.TEXT]", "(UID BODY[2.TEXT] BODY.PEEK[2.HEADER] BODYSTRUCTURE)"),
        ("(BODY[1] BODYSTRUCTURE)", "(UID BODY[1] BODYSTRUCTURE BODY.PEEK[1.MIME])"),
        ("(BODY[1] BODY.PEEK[1.MIME])", "(UID BODY[1] BODY.PEEK[1.MIME] BODYSTRUCTURE)"),
        ("BODY[HEADER]<0.10>", "(UID BODY[HEADER])"),
        ("BODY[1.MIME]<0.10>", "(UID BODY[1.MIME] BODYSTRUCTURE)"),
        ("BODY.PEEK[HEADER.FIELDS (a)]<0.10>", "(UID BODY.PEEK[HEADER.FIELDS (a)])"),
        // One section in several views is asked for once, without peek if any is.
        ("(BODY.PEEK[]<0.5> BODY.PEEK[]<5.5>)", "(UID BODY.PEEK[])"),
        ("(BODY.PEEK[]<0.5> BODY[]<5.5>)", "(UID BODY[])"),
        ("(BODY[] BODY.PEEK[])", "(UID BODY[])"),
        ("(BODY[1] BODY[01])", "(UID BODY[1] BODY.PEEK[1.MIME] BODYSTRUCTURE)"),
        ("(BODY[HEADER.FIELDS (a b)] BODY.PEEK[HEADER.FIELDS (B \"a\")])", "(BODY[HEADER.FIELDS (a b)])"),
        // Forms are never merged: servers differ in what they set.
        (
            "(RFC822 BODY[] BODY.PEEK[TEXT] RFC822.TEXT)",
            "(UID RFC822 BODY[] BODY.PEEK[TEXT] RFC822.TEXT BODY.PEEK[HEADER])",
        ),
    ] {
        assert_eq!(asked(items), expected, "{items}");
    }
}

#[test]
fn uid_fetch_and_its_set_and_modifiers_stay_as_they_are() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a UID FETCH 1,3:*,$ BODY[1]<0.5> (CHANGEDSINCE 5 VANISHED)\r\n");
    // `$` stands alone in a set.
    assert!(dialogue.client_got().starts_with("a BAD "));
    dialogue.client("a uid fetch 1,3:* BODY[TEXT]<0.5> (CHANGEDSINCE 5 VANISHED)\r\n");
    assert_eq!(
        dialogue.server_got(),
        "a UID FETCH 1,3:* (BODY[TEXT] BODY.PEEK[HEADER]) (CHANGEDSINCE 5 VANISHED)\r\n"
    );
    dialogue.server("* VANISHED (EARLIER) 1:3\r\n* 1 FETCH (UID 7 MODSEQ (6) BODY[HEADER] {2}\r\n\r\n BODY[TEXT] {7}\r\n1234567)\r\na OK done\r\n");
    assert_eq!(
        dialogue.client_got(),
        "* VANISHED (EARLIER) 1:3\r\n* 1 FETCH (UID 7 MODSEQ (6) BODY[TEXT]<0> {5}\r\n12345)\r\na OK done\r\n"
    );
}

/// What the client gets for `items`, when the server answers with these.
fn answered(items: &str, answers: &[&str]) -> String {
    let mut dialogue = Dialogue::new();
    dialogue.client(&format!("a FETCH 1 {items}\r\n"));
    for answer in answers {
        dialogue.server(&format!("* 1 FETCH ({answer})\r\n"));
    }
    dialogue.server("a OK done\r\n");
    let got = dialogue.client_got();
    units(Speaker::Server, got.as_bytes());
    got.replace("* 1 FETCH ", "").replace("a OK done\r\n", "")
}

#[test]
fn answers_are_cut_to_what_was_asked_for() {
    let text = "BODY[1] {9}\r\n123456789";
    for (items, answers, expected) in [
        ("BODY[]<2.3>", &["UID 7 BODY[] {5}\r\nhello"][..], "(BODY[]<2> {3}\r\nllo)\r\n"),
        ("BODY[]<4.9>", &["UID 7 BODY[] {5}\r\nhello"], "(BODY[]<4> {1}\r\no)\r\n"),
        ("BODY[]<5.9>", &["UID 7 BODY[] {5}\r\nhello"], "(BODY[]<5> {0}\r\n)\r\n"),
        ("BODY[]<4294967295.4294967295>", &["UID 7 BODY[] {5}\r\nhello"], "(BODY[]<4294967295> {0}\r\n)\r\n"),
        // Several views of one section, and the whole of it.
        (
            "(BODY[1]<0.2> FLAGS BODY[1] BODY[1]<2.2>)",
            &[&format!("UID 7 {text} FLAGS ()")],
            "(BODY[1]<0> {2}\r\n12 BODY[1] {9}\r\n123456789 BODY[1]<2> {2}\r\n34 FLAGS ())\r\n",
        ),
        // In several responses, and in another order.
        (
            "(FLAGS BODY[1]<0.2>)",
            &[
                "BODYSTRUCTURE (\"text\" \"plain\" NIL NIL NIL \"7bit\" 5 1)",
                "UID 7",
                &format!("{text} FLAGS ()"),
                "BODY[1.MIME] {2}\r\n\r\n",
            ],
            "(BODY[1]<0> {2}\r\n12 FLAGS ())\r\n",
        ),
        // In quotes, with escapes, as an answer to `~{}`, NIL, empty.
        ("BODY[1]<0.4>", &["UID 7 BODY[1] \"a\\\\b\\\"c\""], "(BODY[1]<0> {4}\r\na\\b\")\r\n"),
        ("BODY[1]", &["UID 7 BODY[1] \"a\\\"b\""], "(BODY[1] {3}\r\na\"b)\r\n"),
        ("BODY[1]<0.4>", &["UID 7 BODY[1] ~{6}\r\n123456"], "(BODY[1]<0> {4}\r\n1234)\r\n"),
        ("BODY[1]<0.4>", &["UID 7 BODY[1] NIL"], "(BODY[1]<0> NIL)\r\n"),
        ("BODY[1]", &["UID 7 BODY[1] NIL"], "(BODY[1] NIL)\r\n"),
        ("BODY[1]", &["UID 7 BODY[1] \"\""], "(BODY[1] {0}\r\n)\r\n"),
        // Labels stay as the server spells them.
        ("BODY[2]<0.1>", &["UID 7 body[02] {2}\r\nab"], "(body[02]<0> {1}\r\na)\r\n"),
        (
            "BODY[HEADER.FIELDS (a b)]<0.3>",
            &["UID 7 BODY[HEADER.FIELDS (\"B\" \"A\")] {8}\r\na: b\r\n\r\n"],
            "(BODY[HEADER.FIELDS (\"B\" \"A\")]<0> {3}\r\na: )\r\n",
        ),
        (
            "BODY[TEXT]<0.3>",
            &["UID 7 BODY[Text] {5}\r\nhello BODY[header] {2}\r\n\r\n"],
            "(BODY[Text]<0> {3}\r\nhel)\r\n",
        ),
        // What nobody asked for passes, when it is whole.
        ("BODY[]<0.2>", &["FLAGS (\\Seen)"], "(FLAGS (\\Seen))\r\n"),
        ("BODY[]<0.2>", &["UID 9 FLAGS (\\Seen) MODSEQ (5)"], "(UID 9 FLAGS (\\Seen) MODSEQ (5))\r\n"),
        ("BODY[]<0.2>", &["BODY[2] {3}\r\nabc"], "(BODY[2] {3}\r\nabc)\r\n"),
        ("FLAGS", &["BODY[] {3}\r\nabc UID 5"], "(BODY[] {3}\r\nabc UID 5)\r\n"),
        ("UID", &["UID 7"], "(UID 7)\r\n"),
        // Without content, an answer to what was added only.
        ("BODY[1]<0.2>", &["BODYSTRUCTURE (\"text\" \"plain\" NIL NIL NIL \"7bit\" 5 1)"], ""),
        ("BODY[1]<0.2>", &["UID 7"], ""),
        // The entire body for each of two forms.
        (
            "(RFC822 BODY[]<0.1>)",
            &["UID 7 RFC822 {3}\r\nabc BODY[] {3}\r\nabc"],
            "(RFC822 {3}\r\nabc BODY[]<0> {1}\r\na)\r\n",
        ),
    ] {
        assert_eq!(answered(items, answers), expected, "{items} {answers:?}");
    }
}

/// A part of a section cannot be judged, whether it was asked for whole or not at all. The command hears why.
#[test]
fn a_part_for_the_whole_stays_out_and_its_command_is_answered_no() {
    for (items, answer) in [
        ("BODY[]<0.5>", "UID 7 BODY[]<0> {5}\r\nhello"),
        ("BODY[]", "UID 7 BODY[]<0> {5}\r\nhello"),
        ("BODY[1]", "BODY[1] {1}\r\nx BODY[]<3> \"x\""),
        ("BODY[HEADER]", "BODY[HEADER]<1> {4}\r\na: b"),
        ("BODY[TEXT]", "BODY[HEADER]<0> {4}\r\na: b BODY[TEXT] {1}\r\nx"),
    ] {
        let mut dialogue = Dialogue::new();
        dialogue.client(&format!("a FETCH 1 {items}\r\n"));
        dialogue.server(&format!("* 1 FETCH ({answer})\r\n* 2 FETCH (FLAGS ())\r\na OK done\r\n"));
        let got = dialogue.client_got();
        assert!(got.starts_with("* 2 FETCH (FLAGS ())\r\na NO [UNAVAILABLE] "), "{items}: {got}");
    }
}

#[test]
fn a_response_that_cannot_be_read_stays_out_and_no_message_is_silently_missing() {
    for command in ["FETCH 1 BODY[]", "FETCH 1:* (FLAGS)", "UID FETCH 1:* (UID ENVELOPE)"] {
        for malformed in
            ["(FLAGS", "(BODY[] {3}\r\nabc", "(BODY[]{3}\r\nabc)", "(UID 0)", "()x", "(FLAGS ()\tUID 5)"]
        {
            let mut dialogue = Dialogue::new();
            dialogue.client(&format!("a {command}\r\n"));
            dialogue.server(&format!("* 1 FETCH {malformed}\r\na OK done\r\n"));
            let got = dialogue.client_got();
            assert!(got.starts_with("a NO [UNAVAILABLE] "), "{command} {malformed}: {got}");
        }
    }
}

/// A client that lists a folder by SEARCH takes an answer without numbers for an empty folder, and deletes its copies.
#[test]
fn a_search_whose_answer_cannot_be_read_is_answered_no() {
    for (command, answer) in [
        ("UID SEARCH ALL", "* SEARCH 1 2 x"),
        ("UID SEARCH RETURN (ALL) 1:*", "* ESEARCH (TAG \"a\" UID ALL 1"),
        ("UID SORT (DATE) UTF-8 ALL", "* SORT 1 2 (x)"),
        ("LIST \"\" *", "* LIST \\x INBOX"),
        ("STATUS x (MESSAGES)", "* STATUS x MESSAGES 5"),
    ] {
        let mut dialogue = Dialogue::new();
        dialogue.client(&format!("a {command}\r\n")).server(&format!("{answer}\r\na OK done\r\n"));
        let got = dialogue.client_got();
        assert!(got.starts_with("a NO [UNAVAILABLE] "), "{command}: {got}");
    }
}

#[test]
fn every_view_of_a_forbidden_message_shows_the_same_fill() {
    let mail = format!("Subject: x\r\n\r\nbefore {EICAR} after\r\n");
    let whole = answered("BODY[]", &[&format!("UID 7 BODY[] {}", literal(&mail))]);
    let filled = whole
        .strip_prefix(&format!("(UID 7 BODY[] {{{}}}\r\n", mail.len()))
        .or(whole.strip_prefix(&format!("(BODY[] {{{}}}\r\n", mail.len())));
    let filled =
        filled.and_then(|rest| rest.strip_suffix(")\r\n")).unwrap_or_else(|| panic!("{whole}")).to_owned();
    assert!(filled.starts_with("Subject: x\r\n\r\n") && !filled.contains("EICAR-STANDARD"), "{filled}");
    assert_eq!(filled.len(), mail.len());
    let mut glued = String::new();
    for start in 0..mail.len() {
        let piece = answered(&format!("BODY[]<{start}.1>"), &[&format!("UID 7 BODY[] {}", literal(&mail))]);
        glued.push_str(&piece[format!("(BODY[]<{start}> {{1}}\r\n").len()..][..1]);
    }
    assert_eq!(glued, filled);
    let quoted = EICAR.replace('\\', "\\\\");
    let got = answered("BODY[]", &[&format!("UID 7 BODY[] \"{quoted}\"")]);
    assert!(!got.contains("EICAR-STANDARD"), "{got}");
    let got = answered("BODY[]", &[&format!("UID 7 BODY[] ~{}", literal(&mail))]);
    assert!(got.contains(&filled), "{got}");
}

/// Without BINARY (RFC 3516), no client expects `~{3}`: one that does not know it reads what follows as responses.
#[test]
fn content_reaches_the_client_as_an_ordinary_literal() {
    assert_eq!(answered("BODY[]", &["UID 7 BODY[] ~{3}\r\nabc"]), "(BODY[] {3}\r\nabc)\r\n");
    assert_eq!(
        Dialogue::new().server("* 1 FETCH (BODY[] ~{3}\r\nabc)\r\n").client_got(),
        "* 1 FETCH (BODY[] {3}\r\nabc)\r\n"
    );
}

#[test]
fn split_completions_out_of_order_and_other_commands_beside_mail() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a UID FETCH 1 BODY[]\r\nb UID FETCH 2 BODY[]\r\nc NOOP\r\n");
    let hostile = format!("* 1 FETCH (UID 1 BODY[] {})\r\n", literal(&format!("a: b\r\n\r\n{EICAR}")));
    dialogue.server(&format!(
        "* 2 EXISTS\r\n{hostile}* 3 EXISTS\r\nb OK b\r\n* 2 FETCH (UID 2 BODY[] NIL)\r\nc OK c\r\n"
    ));
    dialogue.server("a OK a\r\n");
    let got = dialogue.client_got();
    assert!(!got.contains("EICAR-STANDARD"));
    let order: Vec<_> = ["* 2 EXISTS", "* 1 FETCH", "* 3 EXISTS", "b OK b", "* 2 FETCH", "c OK c", "a OK a"]
        .iter()
        .map(|begin| got.find(begin).unwrap())
        .collect();
    assert!(order.is_sorted(), "{got}");
}

/// Each peer may stop when it likes: what was judged goes on without another word of either.
#[test]
fn a_completion_behind_mail_does_not_wait_for_more() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a UID FETCH 1 BODY[]\r\n").server_got();
    // The client takes nothing until every verdict has come.
    dialogue.client_reads = false;
    dialogue.server("* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n* 1 EXISTS\r\na OK done\r\n");
    dialogue.client_reads = true;
    dialogue.drain(Side::Downstream, &[]);
    assert_eq!(dialogue.client_got(), "* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n* 1 EXISTS\r\na OK done\r\n");
}

#[test]
fn a_refused_completion_needs_no_event() {
    let mut dialogue = Dialogue::new();
    dialogue.client("a UID FETCH 1 BODY[]\r\n").server_got();
    for line in [&b"* 1 FETCH (BODY[]<0> {1}\r\nx)\r\n"[..], b"a OK done\r\n"] {
        dialogue.session.take(Side::Upstream, &Batch::of(&[line])).unwrap();
        dialogue.drain(Side::Downstream, line);
    }
    assert!(dialogue.client_got().starts_with("a NO [UNAVAILABLE] "));
}

/// A header is metadata up to a bound. It has fields only, and they may be as long as a file.
#[test]
fn a_header_over_its_bound_is_content() {
    let header = format!("X: {} {}", "x".repeat(300_000), EICAR.replace('\\', "\\\\"));
    for label in ["BODY[HEADER]", "BODY[1.MIME]", "BODY[HEADER.FIELDS (X)]", "RFC822.HEADER"] {
        let got = Dialogue::new().server(&format!("* 1 FETCH ({label} \"{header}\")\r\n")).client_got();
        assert!(got.len() > 300_000, "{label}: {}", got.len());
        assert!(!got.contains("EICAR-STANDARD"), "{label}");
    }
}

#[test]
fn every_verdict_has_a_line_where_the_owner_wants_it_and_otherwise_those_that_forbid() {
    let parts = "From: Joe <joe@example.org>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\n\
                 Content-Disposition: attachment; filename=a.exe\r\n\r\nprogram\r\n--b--\r\n";
    for all in [true, false] {
        let mut dialogue = if all { Dialogue::telling_all() } else { Dialogue::new() };
        dialogue.client("a UID FETCH 7 (UID BODY.PEEK[])\r\n");
        dialogue.server(&format!("* 1 FETCH (UID 7 BODY[] {})\r\na OK done\r\n", literal(parts)));
        let told: Vec<_> = dialogue.verdicts();
        let words = |name: &str| {
            told.iter().map(|line| line[name].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(words("postern.action"), if all { vec!["allow", "remove"] } else { vec!["remove"] });
        assert_eq!(words("rule.name"), if all { vec!["-", "names"] } else { vec!["names"] });
        assert_eq!(words("postern.part").last().map(String::as_str), Some("2"));
        assert!(told.iter().all(|line| line["email.from.address"][0] == "joe@example.org"), "{told:?}");
    }
}

/// Dovecot answers `1.1` with the octets of leaf 1, and has no header for it: its names are those of the structure, and a
/// client may go by any of them.
#[test]
fn every_name_that_a_structure_has_for_a_leaf_counts() {
    let body = "harmless words\r\n";
    for (parameters, disposition) in [
        ("(\"name\" \"a.exe\")", "NIL"),
        ("(\"name\" \"a.exe\")", "(\"attachment\" (\"filename\" \"a.txt\"))"),
        ("(\"name\" \"a.txt\")", "(\"attachment\" (\"filename\" \"a.exe\"))"),
        ("NIL", "(\"attachment\" (\"filename\" \"a.exe\" \"filename*\" \"utf-8''a.txt\"))"),
        ("NIL", "(\"attachment\" (\"filename*\" \"utf-8''a%2eexe\" \"filename\" \"a.txt\"))"),
        ("NIL", "(\"attachment\" (\"filename*\" \"utf-16be''%00a%00.%00e%00x%00e\"))"),
        ("NIL", "(\"attachment\" (\"filename*1\" \"exe\" \"filename*0\" \"a.\"))"),
    ] {
        let answer = format!(
            "BODY[1.1] {} BODY[1.1.MIME] \"\" BODYSTRUCTURE ((\"a\" \"b\" {parameters} NIL NIL \"7bit\" 16 NIL \
             {disposition}) \"mixed\")",
            literal(body)
        );
        let got = answered("BODY.PEEK[1.1]", &[&answer]);
        assert!(
            got.starts_with("(BODY[1.1] {16}\r\n") && !got.contains("harmless"),
            "{parameters} {disposition}: {got}"
        );
    }
}
