use proptest::prelude::*;

use super::*;

/// A response, its line end left out.
pub(super) fn parsed(line: &str) -> Result<Response<'static>, ResponseFault> {
    parse(format!("{line}\r\n").into_bytes().leak())
}

#[test]
fn statuses() {
    let text = |code: Option<(&'static str, Option<&'static str>)>,
                whole: &'static str,
                text: &'static str| StatusText {
        code: code.map(|(name, arguments)| Code {
            name: name.as_bytes(),
            arguments: arguments.map(str::as_bytes),
            whole: whole.as_bytes(),
        }),
        text: text.as_bytes(),
    };
    for (line, condition, expected) in [
        ("* OK hello", Condition::Ok, text(None, "", "hello")),
        ("* ok", Condition::Ok, text(None, "", "")),
        ("* BYE ", Condition::Bye, text(None, "", "")),
        ("* NO  [X] y", Condition::No, text(None, "", " [X] y")),
        ("* BAD {3}", Condition::Bad, text(None, "", "{3}")),
        (
            "* PREAUTH [CAPABILITY IMAP4rev1 ID] x",
            Condition::Preauth,
            text(Some(("CAPABILITY", Some("IMAP4rev1 ID"))), "[CAPABILITY IMAP4rev1 ID]", "x"),
        ),
        ("* OK [READ-ONLY]", Condition::Ok, text(Some(("READ-ONLY", None)), "[READ-ONLY]", "")),
        ("* OK [A]b", Condition::Ok, text(Some(("A", None)), "[A]", "b")),
        ("* OK [UNSEEN ]", Condition::Ok, text(Some(("UNSEEN", Some(""))), "[UNSEEN ]", "")),
        (
            "* OK [PERMANENTFLAGS (\\* OIB-[Gmail]/All)] ok",
            Condition::Ok,
            text(
                Some(("PERMANENTFLAGS", Some("(\\* OIB-[Gmail]/All)"))),
                "[PERMANENTFLAGS (\\* OIB-[Gmail]/All)]",
                "ok",
            ),
        ),
        (
            "* NO [BADCHARSET (\"a]\\\"b\" c)] x",
            Condition::No,
            text(Some(("BADCHARSET", Some("(\"a]\\\"b\" c)"))), "[BADCHARSET (\"a]\\\"b\" c)]", "x"),
        ),
        ("* OK [] x", Condition::Ok, text(Some(("", None)), "[]", "x")),
        (
            "* OK [ CAPABILITY X] x",
            Condition::Ok,
            text(Some(("", Some("CAPABILITY X"))), "[ CAPABILITY X]", "x"),
        ),
        ("* OK [[A] x", Condition::Ok, text(Some(("", None)), "[[A]", "x")),
        ("* OK [CAPABILITY X x", Condition::Ok, text(Some(("", None)), "[CAPABILITY X x", "")),
        ("* OK [CAPABILITY (X] x", Condition::Ok, text(Some(("", None)), "[CAPABILITY (X] x", "")),
        ("* OK [CAPABILITY \"] x", Condition::Ok, text(Some(("", None)), "[CAPABILITY \"] x", "")),
        ("* OK [CAPABILITY X)] x", Condition::Ok, text(Some(("", None)), "[CAPABILITY X)] x", "")),
    ] {
        assert_eq!(parsed(line), Ok(Response::Status { condition, text: expected }), "{line}");
        let tagged = parsed(&line.replacen('*', "a1", 1));
        if condition.may_be_tagged() {
            assert_eq!(tagged, Ok(Response::Tagged { tag: b"a1", condition, text: expected }), "{line}");
        } else {
            assert!(tagged.is_err(), "{line}");
        }
    }
}

#[test]
fn continuations() {
    for (line, text) in [("+ ", ""), ("+", ""), ("+ go on {3}", "go on {3}"), ("+ PDE+", "PDE+")] {
        assert_eq!(parsed(line), Ok(Response::Continuation { text: text.as_bytes() }));
    }
}

#[test]
fn no_response_at_all() {
    for line in [
        "",
        " ",
        "*",
        "* ",
        "*  OK x",
        "*OK x",
        "+x",
        "a1",
        "a1 ",
        "a1 OKAY",
        "a1 5 EXISTS",
        "a+1 OK x",
        "(a OK x",
        "* 5",
        "* 5 ",
        "* 5EXISTS",
        "* 5  EXISTS",
        "* 5 EXISTS x",
        "* 0 EXPUNGE",
        "* 4294967296 EXISTS",
        "* OK\tx",
        "* (OK) x",
        "* \"OK\" x",
        "a1 OK\tx",
    ] {
        assert!(parsed(line).is_err(), "{line}: {:?}", parsed(line));
    }
    assert!(parse(b"* OK x").is_err(), "no line end");
}

#[test]
fn numbered_data() {
    assert_eq!(parsed("* 5 EXISTS"), Ok(Response::Exists(5)));
    assert_eq!(parsed("* 0 exists "), Ok(Response::Exists(0)));
    assert_eq!(parsed("* 0 RECENT"), Ok(Response::Recent(0)));
    assert_eq!(parsed("* 4294967295 EXPUNGE"), Ok(Response::Expunge(u32::MAX)));
    for (line, name, rest) in [
        ("* 5 UIDFETCH (X)", "UIDFETCH", " (X)"),
        ("* -1 EXISTS", "-1", " EXISTS"),
        ("* 0 FETCH ()", "FETCH", " ()"),
    ] {
        let expected =
            Response::Data { name: DataName::Other, name_octets: name.as_bytes(), rest: rest.as_bytes() };
        assert_eq!(parsed(line), Ok(expected));
    }
}

#[test]
fn data_of_every_kind() {
    for (line, name) in [
        ("CAPABILITY IMAP4rev1  AUTH=PLAIN THREAD=REFERENCES ", DataName::Capability),
        ("ENABLED", DataName::Enabled),
        ("ENABLED CONDSTORE QRESYNC", DataName::Enabled),
        ("FLAGS (\\Answered \\Seen $MDNSent OIB-Seen-[Gmail]/All \\*)", DataName::Flags),
        ("FLAGS ()", DataName::Flags),
        ("LIST (\\HasNoChildren \\Sent) \"/\" INBOX", DataName::List),
        ("LIST () NIL \"a \\\"b\"", DataName::List),
        ("LIST (\\Noselect) \"\\\\\" {3}\r\na\r\n", DataName::List),
        ("list () \"/\" caf\u{e9}", DataName::List),
        ("LIST () \"/\" a (\"CHILDINFO\" (\"SUBSCRIBED\"))", DataName::List),
        ("LSUB () \".\" INBOX.Sent", DataName::Lsub),
        ("XLIST (\\HasChildren \\Inbox) \"/\" \"Posteingang\"", DataName::Xlist),
        ("SEARCH", DataName::Search),
        ("SEARCH ", DataName::Search),
        ("SEARCH 1 2 3 ", DataName::Search),
        ("SEARCH 1 (MODSEQ 917162500)", DataName::Search),
        ("ESEARCH (TAG \"a1\") UID COUNT 3 ALL 1:2,5 MODSEQ 7", DataName::ESearch),
        ("ESEARCH", DataName::ESearch),
        ("SORT 5 3 4", DataName::Sort),
        ("THREAD (166)(167)(168)((170)(179))(172 (174)(175 176))", DataName::Thread),
        ("THREAD", DataName::Thread),
        ("THREAD ", DataName::Thread),
        ("STATUS INBOX (MESSAGES 1 UIDNEXT 2 MAILBOXID (F2212ea87-6097))", DataName::Status),
        ("STATUS \"a b\" () ", DataName::Status),
        ("NAMESPACE ((\"\" \"/\")) NIL ((\"#shared/\" \"/\" \"X-PARAM\" (\"a\")))", DataName::Namespace),
        ("ID NIL", DataName::Id),
        ("ID (\"name\" \"Dovecot\" \"x\" NIL)", DataName::Id),
        ("VANISHED (EARLIER) 41,43:116", DataName::Vanished),
        ("VANISHED 405,407", DataName::Vanished),
        ("QUOTA \"\" (STORAGE 10 512)", DataName::Quota),
        ("QUOTA \"User quota\" ()", DataName::Quota),
        ("QUOTAROOT INBOX \"\"", DataName::QuotaRoot),
        ("QUOTAROOT INBOX", DataName::QuotaRoot),
        ("ACL INBOX fred lrswipkxtecda -anyone \"\"", DataName::Acl),
        ("LISTRIGHTS ~/Mail smith la r s w i", DataName::ListRights),
        ("MYRIGHTS INBOX lrs", DataName::MyRights),
        ("METADATA \"INBOX\" (\"/shared/comment\" {3}\r\nab) /x ~{2}\r\na\u{0})", DataName::Metadata),
        ("METADATA \"\" /shared/comment", DataName::Metadata),
        ("COMPARATOR i;ascii-casemap (\"i;basic\")", DataName::Comparator),
        ("XAPPLEPUSHSERVICE aps-version \"2\" aps-topic \"com.apple.mail\"", DataName::XApplePushService),
        ("URLFETCH \"imap://x\" {3}\r\nabc", DataName::Other),
        ("LANGUAGE (EN)", DataName::Other),
        ("X-FOO ((\"", DataName::Other),
    ] {
        let octets = line.split(' ').next().unwrap_or_default();
        let expected =
            Response::Data { name, name_octets: octets.as_bytes(), rest: &line.as_bytes()[octets.len()..] };
        assert_eq!(parsed(&format!("* {line}")), Ok(expected), "{line}");
    }
}

#[test]
fn data_that_are_malformed() {
    for line in [
        "FLAGS",
        "FLAGS \\Seen",
        "FLAGS (\\Seen",
        "FLAGS (\"a\")",
        "FLAGS ({1}\r\na)",
        "FLAGS () x",
        "LIST",
        "LIST () \"/\"",
        "LIST \"/\" a",
        "LIST (\\A \"/\" a",
        "LIST () \"/\" \"a",
        "LIST () \"/\" a b c",
        "LIST () \"/\" {9}\r\na",
        "LIST () \"/\" a (",
        "SEARCH a",
        "SEARCH 1 (MODSEQ)",
        "SEARCH 1,2",
        "SORT (1)",
        "THREAD 1",
        "THREAD (1",
        "THREAD (1))",
        "THREAD ()(\"",
        "STATUS a",
        "STATUS a (X)",
        "STATUS a (X 1",
        "NAMESPACE NIL NIL",
        "NAMESPACE NIL NIL NIL NIL",
        "ID",
        "ID (\"a\")",
        "ID x",
        "VANISHED",
        "VANISHED x",
        "QUOTA \"\" (STORAGE 1)",
        "QUOTA \"\" STORAGE 1 2",
        "ACL",
        "METADATA",
        "METADATA a (",
        "ESEARCH (TAG",
        "ESEARCH )",
        "XAPPLEPUSHSERVICE \"",
        "CAPABILITY )",
        "ENABLED \"",
    ] {
        assert!(parsed(&format!("* {line}")).is_err(), "{line}: {:?}", parsed(&format!("* {line}")));
    }
}

#[test]
fn codes_and_capabilities() {
    let Ok(Response::Status { text, .. }) = parsed("* OK [capability IMAP4rev1  SASL-IR ] hello") else {
        panic!()
    };
    let code = text.code.unwrap();
    assert!(code.is("CAPABILITY") && !code.is("CAPABILIT"));
    assert_eq!(code.words().collect::<Vec<_>>(), [b"IMAP4rev1".as_slice(), b"SASL-IR"]);
    assert_eq!(capabilities(b" A  B=C ").collect::<Vec<_>>(), [b"A".as_slice(), b"B=C"]);
    assert_eq!(capabilities(b"").count(), 0);
    for (code, written) in [(Some(b"CAPABILITY A B".as_slice()), "[CAPABILITY A B] hello"), (None, "hello")] {
        let mut out = Vec::new();
        text.write_with(code, &mut out);
        assert_eq!(out, written.as_bytes());
    }
    assert_eq!(Condition::Preauth.word(), b"PREAUTH");
}

#[test]
fn texts_in_which_a_client_sees_a_literal() {
    for (text, ends) in [
        ("{3}", true),
        ("x {3}", true),
        ("x{003}", true),
        ("{3+}", true),
        ("~{3}", true),
        ("[A] {3}", true),
        ("{}", false),
        ("{3} ", false),
        ("{x}", false),
        ("3}", false),
        ("}", false),
        ("+}", false),
        ("", false),
        ("{3", false),
    ] {
        let Ok(Response::Tagged { text: status, .. }) = parsed(&format!("a OK {text}")) else {
            panic!("{text}")
        };
        assert_eq!(status.ends_like_literal(), ends, "{text}");
    }
}

#[test]
fn a_second_code_does_not_become_the_first() {
    for line in [
        "* OK [X] [CAPABILITY COMPRESS] a",
        "* OK [X]  [[CAPABILITY COMPRESS] a",
        "* OK  [CAPABILITY COMPRESS] a",
    ] {
        let Ok(Response::Status { text, .. }) = parsed(line) else { panic!("{line}") };
        let mut out = Vec::new();
        text.write_with(None, &mut out);
        assert_eq!(out, b"CAPABILITY COMPRESS] a", "{line}");
    }
}

/// The response that a mailbox has most of: a list of flags is a handful of comparisons and one allocation.
#[test]
fn flags_of_a_hundred_thousand_messages() {
    let unit = b"* 5 FETCH (FLAGS (\\Seen) UID 5)\r\n";
    let begun = std::time::Instant::now();
    for _ in 0..100_000 {
        let Ok(Response::Fetch(response)) = parse(unit) else { panic!() };
        assert_eq!(response.items.len(), 2);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// Octets that make parsers go back and forth.
#[test]
fn a_megabyte_takes_linear_time() {
    let begun = std::time::Instant::now();
    for piece in [
        "(", ")", "\"", "\\\"", "( ", " (", "a ", "()", "(a)", "[", "BODY[] ", "{0}\r\n", " {0}\r\n", "~{",
        "\"a\" ", "NIL ",
    ] {
        let many = piece.repeat((1 << 20) / piece.len());
        for head in [
            "5 FETCH (BODYSTRUCTURE (",
            "5 FETCH (BODY[HEADER.FIELDS (",
            "5 FETCH (X ",
            "5 FETCH (",
            "LIST ",
            "THREAD ",
            "ACL ",
            "OK [",
        ] {
            let _ = parse(format!("* {head}{many}\r\n").as_bytes());
        }
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
}

fn units() -> impl Strategy<Value = Vec<u8>> {
    let lines = vec![
        "* 5 FETCH (FLAGS (\\Seen) UID 5 BODY[]<0> {5}\r\nhello BODYSTRUCTURE ((\"a\" \"b\" NIL)(\"c\" \"d\") \"x\"))",
        "* 1 FETCH (ENVELOPE (\"a\" NIL ((\"b\" NIL \"c\" \"d\"))) BODY[HEADER.FIELDS (A \"B\")] \"x\\\"y\")",
        "* OK [CAPABILITY A B] x",
        "a1 NO [BADCHARSET (\"a\")] x",
        "* LIST (\\A) \"/\" {1}\r\na (X (\"y\"))",
        "* STATUS a (MESSAGES 5)",
        "* THREAD (1)(2 (3)(4))",
        "* SEARCH 1 2 (MODSEQ 5)",
        "+ x",
    ];
    let octets = b" ()[]<>{}\"\\*~+%.0a\r\n\0\xe9".to_vec();
    let edit = (any::<prop::sample::Index>(), proptest::option::of(prop::sample::select(octets)));
    (prop::sample::select(lines), proptest::collection::vec(edit, 0..4)).prop_map(|(line, edits)| {
        let mut unit = format!("{line}\r\n").into_bytes();
        for (at, octet) in edits {
            let at = at.index(unit.len());
            match octet {
                Some(octet) => unit.insert(at, octet),
                None => drop(unit.remove(at)),
            }
        }
        unit
    })
}

proptest! {
    #[test]
    fn ranges_lie_in_order_within_the_unit(unit in units()) {
        if let Ok(Response::Fetch(response)) = parse(&unit) {
            let mut end = 0;
            for item in response.items {
                prop_assert!(end < item.range.start && item.range.end < unit.len());
                end = item.range.end;
                if let ItemValue::Octets { content: value, .. } | ItemValue::Other(value) = item.value {
                    prop_assert!(item.range.start < value.start && value.start <= value.end && value.end <= end);
                }
            }
        }
    }

    #[test]
    fn any_octets_do_not_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&octets);
        let _ = parse(&[b"* 5 FETCH (", &octets[..], b")\r\n"].concat());
    }
}
