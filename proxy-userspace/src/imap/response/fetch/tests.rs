use super::super::Response;
use super::super::tests::parsed;
use super::*;
use crate::imap::token::DEPTH_MAX;

fn items(line: &str) -> Vec<(AnsweredKind, String, ItemValue)> {
    match parsed(line) {
        Ok(Response::Fetch(response)) => response
            .items
            .into_iter()
            .map(|item| (item.kind, line[item.range].to_owned(), item.value))
            .collect(),
        other => panic!("{line}: {other:?}"),
    }
}

/// The only item of a response, and the octets of its value where it is a string.
fn single(item: &str) -> (AnsweredKind, Option<String>) {
    let line = format!("* 5 FETCH ({item} UID 7)");
    let found = items(&line);
    let [(kind, text, value), (AnsweredKind::Uid(7), uid, _)] = found.as_slice() else {
        panic!("{line}: {found:?}")
    };
    assert_eq!((text.as_str(), uid.as_str()), (item, "UID 7"));
    let content = match value {
        ItemValue::Octets { content, .. } => Some(line[content.clone()].to_owned()),
        _ => None,
    };
    (kind.clone(), content)
}

#[test]
fn metadata_of_a_message() {
    for (item, kind) in [
        ("FLAGS (\\Seen \\Recent $Forwarded OIB-[Gmail]/All)", AnsweredKind::Flags),
        ("FLAGS ()", AnsweredKind::Flags),
        ("INTERNALDATE \"17-Jul-1996 02:44:25 -0700\"", AnsweredKind::InternalDate),
        ("RFC822.SIZE 4286", AnsweredKind::Rfc822Size),
        ("rfc822.size 99999999999", AnsweredKind::Rfc822Size),
        (
            "ENVELOPE (\"date\" \"a \\\"b\\\"\" ((NIL NIL \"x\" \"y\")) NIL NIL NIL NIL NIL {3}\r\na\r\n \"<id>\")",
            AnsweredKind::Envelope,
        ),
        ("ENVELOPE NIL", AnsweredKind::Envelope),
        ("BODY (\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 5 1)", AnsweredKind::Structure { extended: false }),
        ("BODYSTRUCTURE ((\"a\" \"b\")(\"c\" \"d\") \"mixed\")", AnsweredKind::Structure { extended: true }),
        ("BODYSTRUCTURE NIL", AnsweredKind::Structure { extended: true }),
        ("MODSEQ (624140003)", AnsweredKind::ModSeq),
        ("SAVEDATE NIL", AnsweredKind::SaveDate),
        ("SAVEDATE \"17-Jul-1996 02:44:25 -0700\"", AnsweredKind::SaveDate),
        ("EMAILID (M6d99ac3275bb4e)", AnsweredKind::EmailId),
        ("THREADID (T64b478a75b7ea9)", AnsweredKind::ThreadId),
        ("THREADID NIL", AnsweredKind::ThreadId),
        ("X-GM-MSGID 18446744073709551615", AnsweredKind::GmMsgId),
        ("X-GM-THRID 1266894439832287888", AnsweredKind::GmThrId),
        ("X-GM-LABELS (\\Inbox \"a b\" {3}\r\na\r\n caf&AOk-)", AnsweredKind::GmLabels),
        ("X-GM-LABELS ()", AnsweredKind::GmLabels),
    ] {
        assert_eq!(single(item).0, kind, "{item}");
    }
}

#[test]
fn content_of_a_message() {
    let content = |form, section: &str, origin| {
        let section = Section::parse(&mut Cursor::new(section.as_bytes())).unwrap();
        AnsweredKind::Content { form, section, origin }
    };
    use AnsweredForm::{Body, Rfc822, Rfc822Header, Rfc822Text};
    for (item, kind, octets) in [
        ("BODY[] {5}\r\nhe)lo", content(Body, "[]", None), Some("he)lo")),
        ("BODY[] {0}\r\n", content(Body, "[]", None), Some("")),
        ("BODY[] \"\"", content(Body, "[]", None), Some("")),
        ("BODY[]<0> NIL", content(Body, "[]", Some(0)), None),
        ("body[text]<65536> \"a \\\"b\\\\\"", content(Body, "[TEXT]", Some(65536)), Some("a \\\"b\\\\")),
        ("BODY[1.2.MIME] ~{3}\r\na\0b", content(Body, "[1.2.MIME]", None), Some("a\0b")),
        ("BODY[02] {1}\r\nx", content(Body, "[2]", None), Some("x")),
        ("BODY[0] {1}\r\nx", content(Body, "[0]", None), Some("x")),
        (
            "BODY[HEADER.FIELDS (SUBJECT FROM)] {1}\r\nx",
            content(Body, "[HEADER.FIELDS (FROM SUBJECT)]", None),
            Some("x"),
        ),
        (
            "BODY[HEADER.FIELDS (\"SUBJECT\" \"from\")] {1}\r\nx",
            content(Body, "[HEADER.FIELDS (FROM SUBJECT)]", None),
            Some("x"),
        ),
        (
            "BODY[HEADER.FIELDS.NOT ({3}\r\nX]Y)]<3> {1}\r\nx",
            content(Body, "[HEADER.FIELDS.NOT (X]Y)]", Some(3)),
            Some("x"),
        ),
        ("RFC822 {1}\r\nx", content(Rfc822, "[]", None), Some("x")),
        ("RFC822.HEADER {1}\r\nx", content(Rfc822Header, "[HEADER]", None), Some("x")),
        ("RFC822.TEXT NIL", content(Rfc822Text, "[TEXT]", None), None),
    ] {
        assert_eq!(single(item), (kind, octets.map(str::to_owned)), "{item}");
    }
}

#[test]
fn how_a_string_is_written() {
    for (item, quoted, binary) in
        [("BODY[] \"x\"", true, false), ("BODY[] {1}\r\nx", false, false), ("BODY[] ~{1}\r\nx", false, true)]
    {
        let found = items(&format!("* 1 FETCH ({item})"));
        assert!(
            matches!(found[0].2, ItemValue::Octets { quoted: q, binary: b, .. } if (q, b) == (quoted, binary))
        );
    }
}

#[test]
fn what_nobody_asked_for_has_a_range() {
    for item in [
        "PREVIEW \"hello\"",
        "PREVIEW NIL",
        "SNIPPET (FUZZY \"x\")",
        "BINARY[1] ~{3}\r\nabc",
        "BINARY[1]<0> {3}\r\nabc",
        "BINARY.SIZE[1] 5",
        "BODY.PEEK[] {3}\r\nabc",
        "RFC822.PEEK {3}\r\nabc",
        "RFC822.HEADER.LINES {3}\r\nabc",
        "DIGEST.SHA1 \"abc\"",
        "BODY[MIME] {3}\r\nabc",
        "BODY[1.X] {3}\r\nabc",
        "BODY[{3}\r\na]b] \"x\"",
        "BODY[HEADER.FIELDS ()] {3}\r\nabc",
        "BODY[]<0.5> {3}\r\nabc",
        "BODY<0> {3}\r\nabc",
        "RFC822[] {3}\r\nabc",
        "BODY[] 5",
        "BODY[] (\"x\")",
        "BODY[] abc",
        "RFC822 (x)",
        "FLAGS[] (\\Seen)",
        "X {3}\r\n)( ",
    ] {
        assert_eq!(single(item).0, AnsweredKind::Unknown, "{item}");
    }
}

#[test]
fn fetch_responses_that_are_malformed() {
    for items in [
        "",
        "(",
        "FLAGS ()",
        "(FLAGS)",
        "(FLAGS ()",
        "(FLAGS ()))",
        "(FLAGS () ",
        "(FLAGS ()\tUID 5)",
        "(\tUID 5)",
        "(FLAGS \\Seen)",
        "(FLAGS (\"a\"))",
        "(FLAGS ({1}\r\na))",
        "(FLAGS NIL)",
        "(UID 0)",
        "(UID x)",
        "(UID)",
        "(UID (5))",
        "(UID {1}\r\n5)",
        "(RFC822.SIZE x)",
        "(RFC822.SIZE {1}\r\n5)",
        "(INTERNALDATE x)",
        "(MODSEQ 5)",
        "(MODSEQ (5)",
        "(ENVELOPE \"x\")",
        "(ENVELOPE {1}\r\nx)",
        "(ENVELOPE x)",
        "(EMAILID x)",
        "(EMAILID (\"x\"))",
        "(X-GM-MSGID \"5\")",
        "(X-GM-LABELS x)",
        "(X-GM-LABELS ((x)))",
        "(X-GM-LABELS (~{1}\r\nx))",
        "(BODYSTRUCTURE x)",
        "(BODYSTRUCTURE \"x\")",
        "(BODYSTRUCTURE {1}\r\nx)",
        "(BODY[] {9}\r\nx)",
        "(BODY[]{1}\r\nx)",
        "(BODY[] {1}\r\nxUID 5)",
        "(BODY[] \"x\"UID 5)",
        "(BODY[] \"x)",
        "(BODY[ {1}\r\nx)",
        "(BODY[])",
        "(BODY[]<0>)",
        "((FLAGS ()))",
        "(5 5)",
        "(UID 5) x",
        "(UID 5)x",
        "(\"UID\" 5)",
    ] {
        let line = format!("* 5 FETCH {items}");
        // `5 5` is an item that is not known.
        assert!(parsed(&line).is_err() || items == "(5 5)", "{line}: {:?}", parsed(&line));
    }
}

#[test]
fn spaces_of_careless_servers() {
    assert_eq!(items("* 5 FETCH (FLAGS () UID 5 )").len(), 2);
    assert_eq!(items("* 5 FETCH (UID 5) ").len(), 1);
    assert_eq!(items("* 5 fetch ()").len(), 0);
}

/// Exchange (MailKit #919, #1446) and others.
#[test]
fn malformed_structures_are_delimited() {
    for value in [
        "(\"text\" \"plain\" (\"name\" \"a \"b\" c.txt\") NIL NIL \"7bit\" 5 1)",
        "(\"text\" \"plain\" (\"name\" \"a \"b.txt\") NIL NIL \"7bit\" 5 1)",
        "(\"text\" \"plain\" (\"name\" \"a) \"b (.txt\") NIL NIL \"7bit\" 5 1)",
        "(\"text\" \"plain\" (\"name\" \"a\\\") NIL NIL \"7bit\" 5 1)",
        "(\"text\" \"plain\" () NIL NIL \"7bit\" 5 1)",
        "((\"text\" \"plain\" (\"charset\" \"x\") NIL NIL \"7bit\" 5 1 )(\"a\" \"b\" NIL) \"mixed\" )",
        "(NIL NIL NIL)",
        "()",
        "(\"a\"\"b\")",
        "(a  b)",
        "( a)",
    ] {
        for name in ["BODYSTRUCTURE", "BODY", "ENVELOPE"] {
            let item = format!("{name} {value}");
            let line = format!("* 5 FETCH (FLAGS () {item} UID 7)");
            let found = items(&line);
            assert_eq!(
                found.iter().map(|(_, text, _)| text.as_str()).collect::<Vec<_>>(),
                ["FLAGS ()", &item, "UID 7"]
            );
        }
    }
    for value in ["(\"a \"b\" {3}\r\nabc)", "(\"a", "(a))", "(\"a\" b\"", "(a) b"] {
        let line = format!("* 5 FETCH (BODYSTRUCTURE {value} UID 7)");
        assert!(parsed(&line).is_err(), "{line}: {:?}", parsed(&line));
    }
    let long = format!("* 5 FETCH (BODYSTRUCTURE (a  \"{}\"))", "x".repeat(MALFORMED_STRUCTURE_BYTES_MAX));
    assert!(parsed(&long).is_err());
    assert!(parsed(&long.replacen("  ", " ", 1)).is_ok(), "a well-formed one is not bounded here");
}

#[test]
fn bounds() {
    let items = |count: usize| parsed(&format!("* 5 FETCH ({})", vec!["UID 5"; count].join(" ")));
    assert!(items(ANSWERED_ITEMS_MAX).is_ok());
    assert_eq!(items(ANSWERED_ITEMS_MAX + 1), Err(ResponseFault::TooManyItems));
    let deep = |depth: usize| format!("* 5 FETCH (X {}{})", "(".repeat(depth), ")".repeat(depth));
    assert!(parsed(&deep(DEPTH_MAX)).is_ok());
    assert!(parsed(&deep(DEPTH_MAX + 1)).is_err());
    assert!(parsed(&deep(1_000_000)).is_err());
}

#[test]
fn the_uid_of_a_response() {
    let uid = |items: &str| match parsed(&format!("* 5 FETCH ({items})")) {
        Ok(Response::Fetch(response)) => response.uid(),
        other => panic!("{items}: {other:?}"),
    };
    assert_eq!(uid("FLAGS () UID 7"), Some(7));
    assert_eq!(uid("UID 7 FLAGS () UID 7"), Some(7));
    assert_eq!(uid("UID 7 FLAGS () UID 8"), None);
    assert_eq!(uid("FLAGS ()"), None);
}
