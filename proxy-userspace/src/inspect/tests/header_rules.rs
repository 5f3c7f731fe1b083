//! Header fields that the owner removes, in each view that shows them.

use super::*;
use crate::content::FieldRules;

/// Under rules that remove these fields, by name or pattern.
fn removing(fields: &[&str]) -> Dialogue {
    let rules = FieldRules::new(fields.iter().map(|field| (*field, true)), false);
    let mut dialogue = Dialogue::new();
    let terms = MediationTerms { headers: Arc::new(rules), ..MediationTerms::clone(&dialogue.session.terms) };
    dialogue.session.terms = Rc::new(terms);
    dialogue
}

/// What the client gets of an answer to this command.
fn got(fields: &[&str], items: &str, answer: &str) -> String {
    let mut dialogue = removing(fields);
    dialogue.client(&format!("a UID FETCH 7 ({items})\r\n")).server_got();
    dialogue.server(&format!("* 1 FETCH ({answer})\r\na OK done\r\n"));
    let got = dialogue.client_got();
    let shown = got.strip_prefix("* 1 FETCH (").and_then(|got| got.strip_suffix(")\r\na OK done\r\n"));
    shown.unwrap_or(&got).to_owned()
}

const HEADER: &str = "X-Secret: abc\r\n def\r\nSubject: s\r\n\r\n";
const REMOVED: &str = "X-Secret: x  \r\n x  \r\nSubject: s\r\n\r\n";

#[test]
fn a_removed_field_is_overwritten_in_every_section_that_shows_it() {
    for label in ["BODY[]", "RFC822"] {
        let (asked, mail) = (label.replace("BODY[", "BODY.PEEK["), format!("{HEADER}X-Secret: text\r\n"));
        assert_eq!(
            got(&["x-secret"], &format!("UID {asked}"), &format!("UID 7 {label} {}", literal(&mail))),
            format!("UID 7 {label} {}", literal(&format!("{REMOVED}X-Secret: text\r\n")))
        );
    }
    for label in [
        "BODY[HEADER]",
        "RFC822.HEADER",
        "BODY[HEADER.FIELDS (X-Secret Subject)]",
        "BODY[HEADER.FIELDS.NOT (To)]",
        "BODY[2.HEADER]",
        "BODY[2.MIME]",
        "BODY[2.HEADER.FIELDS (X-Secret Subject)]",
    ] {
        let asked = label.replace("BODY[", "BODY.PEEK[");
        let answer = |header: &str| format!("UID 7 {label} {}", literal(header));
        assert_eq!(got(&["X-Sec*"], &format!("UID {asked}"), &answer(HEADER)), answer(REMOVED), "{label}");
        assert_eq!(got(&["X-Other"], &format!("UID {asked}"), &answer(HEADER)), answer(HEADER), "{label}");
    }
}

#[test]
fn the_header_of_a_nested_message_is_overwritten_in_the_part_and_in_its_text() {
    let structure = "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 60 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) \
                     (\"text\" \"plain\" NIL NIL NIL \"7bit\" 1 1) 5)";
    let answer = |header: &str| {
        let mime = "Content-Type: message/rfc822\r\n\r\n";
        format!(
            "UID 7 BODY[1] {} BODY[1.MIME] {} BODYSTRUCTURE {structure}",
            literal(&format!("{header}text\r\n")),
            literal(mime)
        )
    };
    let shown = got(&["X-Secret"], "UID BODY.PEEK[1]", &answer(HEADER));
    assert_eq!(shown, format!("UID 7 BODY[1] {}", literal(&format!("{REMOVED}text\r\n"))));
}

#[test]
fn ranges_are_cut_from_the_section_behind_the_overwriting() {
    let mail = format!("{HEADER}text\r\n");
    let shown = format!("{REMOVED}text\r\n");
    for (from, octets) in [(0, 12), (9, 7), (12, 4), (20, 1000), (1000, 5)] {
        let cut = &shown[from.min(shown.len())..(from + octets).min(shown.len())];
        assert_eq!(
            got(
                &["X-Secret"],
                &format!("UID BODY.PEEK[]<{from}.{octets}>"),
                &format!("UID 7 BODY[] {}", literal(&mail))
            ),
            format!("UID 7 BODY[]<{from}> {}", literal(cut))
        );
        let cut = &REMOVED[from.min(REMOVED.len())..(from + octets).min(REMOVED.len())];
        assert_eq!(
            got(
                &["X-Secret"],
                &format!("UID BODY.PEEK[HEADER]<{from}.{octets}>"),
                &format!("UID 7 BODY[HEADER] {}", literal(HEADER))
            ),
            format!("UID 7 BODY[HEADER]<{from}> {}", literal(cut))
        );
    }
}

#[test]
fn a_message_that_is_read_in_pieces_shows_no_removed_field_in_a_later_piece() {
    let mut dialogue = removing(&["X-Secret"]);
    dialogue.client("a UID FETCH 7 (BODY.PEEK[]<0.5>)\r\n");
    dialogue.server(&format!("* 1 FETCH (UID 7 BODY[] {})\r\na OK done\r\n", literal(HEADER)));
    dialogue.client("b UID FETCH 7 (BODY.PEEK[]<5.15>)\r\n").client_got();
    assert!(dialogue.server_got().ends_with("b UID FETCH 7 (BODY.PEEK[]<0.1>)\r\n"));
    // The server is asked for the first octet as it has it.
    dialogue.server("* 1 FETCH (UID 7 BODY[]<0> {1}\r\nX)\r\nb OK done\r\n");
    assert_eq!(
        dialogue.client_got(),
        format!("* 1 FETCH (UID 7 BODY[]<5> {})\r\nb OK done\r\n", literal(&REMOVED[5..20]))
    );
}

#[test]
fn an_envelope_shows_no_value_of_a_removed_field_and_keeps_its_length() {
    let answer = |subject: &str, from: &str, to: &str| {
        format!("ENVELOPE (\"d\" {subject} ({from}) ({from}) ({from}) ({to}) NIL NIL NIL \"<id>\") UID 7")
    };
    let from = "(\"Joe\" NIL \"joe\" \"a.example\")";
    for (subject, removed) in [
        ("\"abc\"", "\"x  \""),
        ("\"a \\\"b\\\" \\\\\"", "\"x         \""),
        ("{7}\r\na\r\n b c", "{7}\r\nx\r\n x  "),
        ("NIL", "NIL"),
        ("\"\"", "\"\""),
        ("\"äb\"", "\"x  \""),
    ] {
        let served = answer(subject, from, from);
        assert_eq!(got(&["Subject"], "ENVELOPE", &served), answer(removed, from, from));
        assert_eq!(got(&["X-Secret"], "ENVELOPE", &served), served);
    }
    let removed = "(\"x  \" NIL \"x  \" \"x        \")";
    let served = answer("NIL", from, "(NIL NIL \"b\" \"c\")");
    assert_eq!(got(&["From"], "ENVELOPE", &served), answer("NIL", removed, "(NIL NIL \"b\" \"c\")"));
    assert_eq!(got(&["To"], "ENVELOPE", &served), answer("NIL", from, "(NIL NIL \"x\" \"x\")"));
}

#[test]
fn a_structure_shows_no_value_of_a_removed_field_nor_do_envelopes_in_it() {
    let answer = |subject: &str, id: &str| {
        format!(
            "BODYSTRUCTURE (\"message\" \"rfc822\" NIL \"{id}\" NIL \"7bit\" 60 (NIL \"{subject}\" NIL NIL NIL NIL NIL NIL \
             NIL NIL) (\"text\" \"plain\" (\"name\" \"a.txt\") \"{id}\" NIL \"7bit\" 1 1) 5) UID 7"
        )
    };
    let served = answer("abc", "<id>");
    assert_eq!(got(&["Subject"], "BODYSTRUCTURE", &served), answer("x  ", "<id>"));
    assert_eq!(got(&["Content-*"], "BODYSTRUCTURE", &served), answer("abc", "x   "));
}

#[test]
fn a_value_that_cannot_be_read_stays_out_where_it_could_show_a_removed_field() {
    for item in ["ENVELOPE (\"d\" \"a \"b\" c\")", "BODYSTRUCTURE (\"text\" \"a \"b\" c\")"] {
        let served = format!("{item} UID 7");
        let refused = got(&["Subject"], "ENVELOPE BODYSTRUCTURE", &served);
        assert!(refused.starts_with("a NO [UNAVAILABLE]"), "{refused}");
        assert_eq!(got(&["X-Secret"], "ENVELOPE BODYSTRUCTURE", &served), served);
    }
}

#[test]
fn the_judge_sees_what_a_rule_removes() {
    let mail = format!(
        "X-Secret: abc\r\nContent-Description: a\r\nContent-Type: text/plain; name=a.exe\r\n\r\n{}\r\n",
        "text"
    );
    let shown =
        got(&["X-Secret", "Content-Desc*"], "UID BODY.PEEK[]", &format!("UID 7 BODY[] {}", literal(&mail)));
    assert!(shown.contains("X-Secret: x  \r\nContent-Description: x\r\n"), "{shown}");
    assert!(shown.contains("name=a.exe") && !shown.contains("\r\n\r\ntext"), "{shown}");
    // What stands behind a removed field is judged all the same.
    let hostile = format!("X-Secret: a\r\n\r\n{EICAR}\r\n");
    let shown = got(&["X-Secret"], "UID BODY.PEEK[]", &format!("UID 7 BODY[] {}", literal(&hostile)));
    assert!(shown.contains("X-Secret: x\r\n\r\n") && !shown.contains("EICAR-STANDARD"), "{shown}");
}

#[test]
fn known_mail_is_overwritten_as_it_was_the_first_time() {
    let mut dialogue = removing(&["X-Secret"]);
    let mail = format!("{HEADER}{}", "a long text\r\n".repeat(5_000));
    let shown = format!("{REMOVED}{}", "a long text\r\n".repeat(5_000));
    dialogue.client("s SELECT INBOX\r\n").server("* OK [UIDVALIDITY 5] v\r\ns OK done\r\n").client_got();
    for tag in ["a", "b", "c"] {
        let answer = |mail: &str| format!("* 1 FETCH (UID 7 BODY[] {})\r\n{tag} OK done\r\n", literal(mail));
        dialogue.client(&format!("{tag} UID FETCH 7 (UID BODY.PEEK[])\r\n")).server(&answer(&mail));
        assert!(dialogue.client_got() == answer(&shown), "{tag} differs");
    }
    // It is known by the octets that the server sent.
    let Dialogue { written, record, .. } = dialogue;
    record.close(Ok(()));
    let last = written.try_iter().last().map(|line| serde_json::from_slice(&line).unwrap());
    let record: serde_json::Value = last.unwrap();
    assert_eq!(record["postern.content.verified"], 2);
}

#[test]
fn a_long_header_is_overwritten_though_a_thread_does_it() {
    let header = |value: &str| format!("{}\r\n", format!("X-Secret: {value}\r\n").repeat(5_000));
    let answer = |value: &str| format!("UID 7 BODY[HEADER] {}", literal(&header(value)));
    assert!(got(&["X-Secret"], "UID BODY.PEEK[HEADER]", &answer("abc")) == answer("x  "));
}

#[test]
fn an_upload_reaches_the_server_as_the_client_sent_it() {
    let mut dialogue = removing(&["X-Secret"]);
    let command = format!("a APPEND INBOX {{{}}}\r\n", HEADER.len());
    dialogue.client(&command).client_got();
    dialogue.client(&format!("{HEADER}\r\n")).server_got();
    dialogue.server("+ go on\r\n");
    assert_eq!(dialogue.server_got(), format!("{HEADER}\r\n"));
}
