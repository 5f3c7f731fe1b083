use proptest::prelude::*;

use super::*;

/// The words before the colon name the extension. `good` are lines that parse, `bad` ones that do not.
struct Row {
    extension: &'static str,
    good: &'static [&'static str],
    bad: &'static [&'static str],
}

const ROWS: &[Row] = &[
    Row {
        extension: "RFC 3501, any state",
        good: &["CAPABILITY", "noop", "LOGOUT", "STARTTLS"],
        bad: &["CAPABILITY ", "NOOP x", "LOGOUT  ", "STARTTLS ()"],
    },
    Row {
        extension: "RFC 3501, login",
        good: &[
            "LOGIN fred secret",
            "LOGIN \"fred\" \"se\\\"cr\\\\et\"",
            "LOGIN {4}\r\nfred {6+}\r\nsec\r\nt",
            "LOGIN fred]x \"\"",
            "LOGIN \"fr\u{e9}d\" x",
        ],
        bad: &[
            "LOGIN",
            "LOGIN fred",
            "LOGIN fred ",
            "LOGIN fred secret x",
            "LOGIN fred  secret",
            "LOGIN fr(ed secret",
            "LOGIN \"fred secret",
            "LOGIN fr\u{e9}d secret",
            "LOGIN \"fr\\ed\" secret",
            "LOGIN ~{4}\r\nfred secret",
            "LOGIN {9}\r\nfred x",
        ],
    },
    Row {
        extension: "RFC 3501, mailboxes",
        good: &[
            "SELECT INBOX",
            "EXAMINE \"a b\"",
            "SELECT {5}\r\nINBOX",
            "CREATE a/b",
            "DELETE \"\"",
            "RENAME a \"b c\"",
            "SUBSCRIBE &AOk-",
            "UNSUBSCRIBE a",
            "LIST \"\" *",
            "LIST \"\" %/%",
            "LIST \"\" \"*\"",
            "LIST a/ b]",
            "LSUB \"\" \"%\"",
            "STATUS a (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)",
            "CHECK",
            "CLOSE",
            "EXPUNGE",
        ],
        bad: &[
            "SELECT",
            "SELECT a b",
            "SELECT *",
            "CREATE a b",
            "RENAME a",
            "LIST \"\"",
            "LIST * a",
            "LSUB \"\" ()",
            "STATUS a",
            "STATUS a MESSAGES",
            "STATUS a (MESSAGES",
            "STATUS a (MESSAGES  UNSEEN)",
            "CHECK x",
            "EXPUNGE 1",
        ],
    },
    Row {
        extension: "RFC 3501, messages",
        good: &[
            "SEARCH ALL",
            "SEARCH CHARSET UTF-8 TEXT {3}\r\nx\r\n NOT (FROM \"a\" OR 1:* UID 5)",
            "UID SEARCH HEADER Message-ID <a@b>",
            "STORE 1:5,7 FLAGS (\\Seen)",
            "STORE 1 +FLAGS.SILENT \\Seen \\Deleted kw",
            "UID STORE * -flags ()",
            "COPY 2:4 a",
            "UID COPY 4294967295 \"a\"",
        ],
        bad: &[
            "SEARCH",
            "SEARCH ",
            "SEARCH (ALL",
            "SEARCH ALL)",
            "SEARCH TEXT \"a",
            "SEARCH TEXT ~{1}\r\na",
            "SEARCH TEXT \u{e9}",
            "STORE 0 FLAGS ()",
            "STORE 1 FLAGS",
            "STORE 1 FLAGS (\\Seen",
            "STORE 1 FLAGS (\"a\")",
            "STORE 1 FLAGS.LOUD ()",
            "STORE 1 *FLAGS ()",
            "STORE 1, FLAGS ()",
            "STORE 1:2:3 FLAGS ()",
            "COPY a b",
            "COPY 4294967296 a",
            "COPY 1 a b",
        ],
    },
    Row { extension: "RFC 9051", good: &["NAMESPACE", "STATUS a (SIZE DELETED)"], bad: &["NAMESPACE a"] },
    Row {
        extension: "ID",
        good: &["ID NIL", "ID ()", "ID (\"name\" \"Thunderbird\" \"version\" NIL)", "ID (\"a\" {1}\r\nb)"],
        bad: &["ID", "ID (\"name\")", "ID (name x)", "ID \"name\"", "ID (\"a\" \"b\" \"c\")", "ID NIL x"],
    },
    Row {
        extension: "ENABLE",
        good: &["ENABLE CONDSTORE", "ENABLE QRESYNC UTF8=ACCEPT X"],
        bad: &["ENABLE", "ENABLE ", "ENABLE A  B", "ENABLE (A)", "ENABLE \"A\"", "ENABLE A "],
    },
    Row { extension: "IDLE", good: &["IDLE"], bad: &["IDLE x", "IDLE "] },
    Row {
        extension: "LIST-EXTENDED, LIST-STATUS, SPECIAL-USE, CHILDREN, XLIST",
        good: &[
            "LIST (SUBSCRIBED) \"\" (\"INBOX\" a/% *)",
            "LIST () \"\" *",
            "LIST (RECURSIVEMATCH SPECIAL-USE) \"\" * RETURN (CHILDREN STATUS (MESSAGES UNSEEN))",
            "LIST \"\" % RETURN (SPECIAL-USE SUBSCRIBED MYRIGHTS)",
            "LIST \"\" % RETURN ()",
            "CREATE Sent (USE (\\Sent))",
            "XLIST \"\" \"*\"",
        ],
        bad: &[
            "LIST (SUBSCRIBED \"\" *",
            "LIST \"\" (a",
            "LIST \"\" * RETURN",
            "LIST \"\" * RETURN CHILDREN",
            "LIST \"\" * RETURN (STATUS (A)",
            "LIST \"\" * CHILDREN",
            "CREATE a (USE)",
            "CREATE a (\\Sent)",
            "XLIST \"\"",
        ],
    },
    Row {
        extension: "UIDPLUS, MOVE, UNSELECT",
        good: &["UID EXPUNGE 1:*", "MOVE 1 a", "UID MOVE 1,2 \"a b\"", "UNSELECT"],
        bad: &["UID EXPUNGE", "UID EXPUNGE a", "MOVE 1", "UID MOVE 1 ", "UNSELECT a"],
    },
    Row {
        extension: "CONDSTORE, QRESYNC",
        good: &[
            "SELECT a (CONDSTORE)",
            "SELECT a (QRESYNC (67890007 20050715194045000 41,43:211,214:541))",
            "SELECT a (QRESYNC (1 2 1:9 (1,5 3,7)))",
            "EXAMINE a (QRESYNC (1 2) CONDSTORE)",
            "SELECT a (QRESYNC (1 2 (1 2)))",
            "STORE 1 (UNCHANGEDSINCE 12) +FLAGS.SILENT (\\Seen)",
            "UID STORE 1:* (UNCHANGEDSINCE 0) FLAGS x",
            "SEARCH MODSEQ \"/flags/\\\\draft\" all 620162338",
            "STATUS a (HIGHESTMODSEQ)",
            "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12345 VANISHED)",
            "UID FETCH 1:* FLAGS (VANISHED CHANGEDSINCE 12345)",
            "FETCH 1 FAST (CHANGEDSINCE 1)",
        ],
        bad: &[
            "SELECT a ()",
            "SELECT a CONDSTORE",
            "SELECT a (QRESYNC)",
            "SELECT a (QRESYNC (1))",
            "SELECT a (QRESYNC (1 2 1:9 (1,5)))",
            "SELECT a (X)",
            "STORE 1 (UNCHANGEDSINCE) FLAGS ()",
            "STORE 1 UNCHANGEDSINCE 1 FLAGS ()",
            "UID FETCH 1:* (FLAGS) (VANISHED)",
            "UID FETCH 1:* (FLAGS) (CHANGEDSINCE)",
            "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 CHANGEDSINCE 2)",
            "UID FETCH 1:* (FLAGS) (PARTIAL 1:5)",
            "UID FETCH 1:* (FLAGS) CHANGEDSINCE 1",
            "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 9223372036854775808)",
        ],
    },
    Row {
        extension: "ESEARCH, ESORT, SEARCHRES, WITHIN, SORT, THREAD, I18NLEVEL",
        good: &[
            "SEARCH RETURN (MIN MAX COUNT) ALL",
            "SEARCH RETURN () UNSEEN",
            "UID SEARCH RETURN (SAVE) CHARSET UTF-8 TEXT {2+}\r\n\u{e9}",
            "FETCH $ (FLAGS)",
            "UID COPY $ a",
            "STORE $ +FLAGS x",
            "SEARCH UID $ SMALLER 5",
            "SEARCH YOUNGER 259200",
            "SORT (REVERSE DATE SUBJECT) UTF-8 ALL",
            "UID SORT RETURN (COUNT) (ARRIVAL) US-ASCII SINCE 1-Feb-1994",
            "THREAD REFERENCES UTF-8 ALL",
            "UID THREAD ORDEREDSUBJECT US-ASCII 1:*",
            "COMPARATOR",
            "COMPARATOR \"i;*\" cz*",
            "COMPARATOR i;basic \"i;*\"",
            "LANGUAGE EN-GB",
        ],
        bad: &[
            "SORT DATE UTF-8 ALL",
            "SORT (DATE) ALL",
            "THREAD REFERENCES ALL",
            "THREAD (REFERENCES) UTF-8 ALL",
            "FETCH $1 FLAGS",
            "FETCH 1,$ FLAGS",
            "LANGUAGE (EN)",
        ],
    },
    Row {
        extension: "QUOTA, ACL",
        good: &[
            "GETQUOTA \"\"",
            "GETQUOTAROOT INBOX",
            "SETQUOTA \"\" (STORAGE 512 MESSAGE 5)",
            "SETQUOTA a ()",
            "GETACL INBOX",
            "SETACL INBOX fred +lrswi",
            "SETACL INBOX -fred \"\"",
            "DELETEACL INBOX fred",
            "LISTRIGHTS INBOX fred",
            "MYRIGHTS INBOX",
        ],
        bad: &[
            "GETQUOTA",
            "SETQUOTA \"\" (STORAGE)",
            "SETQUOTA \"\" STORAGE 1",
            "SETACL INBOX fred",
            "DELETEACL INBOX",
            "MYRIGHTS a b",
        ],
    },
    Row {
        extension: "SASL-IR",
        good: &[
            "AUTHENTICATE PLAIN",
            "AUTHENTICATE PLAIN AGZyZWQAc2VjcmV0",
            "AUTHENTICATE XOAUTH2 =",
            "authenticate SCRAM-SHA-256 a+/=",
        ],
        bad: &[
            "AUTHENTICATE",
            "AUTHENTICATE PLAIN ",
            "AUTHENTICATE PLAIN a b",
            "AUTHENTICATE PLAIN \"a\"",
            "AUTHENTICATE PLAIN {1}\r\na",
        ],
    },
    Row {
        extension: "STATUS=SIZE, SAVEDATE, OBJECTID",
        good: &[
            "STATUS a (SIZE MAILBOXID)",
            "FETCH 1 (SAVEDATE EMAILID THREADID)",
            "SEARCH SAVEDBEFORE 1-Feb-1994",
            "SEARCH EMAILID M6d99ac3275bb4e",
        ],
        bad: &["FETCH 1 (SAVEDATE 5)"],
    },
    Row {
        extension: "X-GM-EXT-1",
        good: &[
            "SEARCH X-GM-RAW \"has:attachment in:unread\"",
            "UID SEARCH X-GM-LABELS foo",
            "STORE 1 +X-GM-LABELS (foo \\Inbox \"a b\")",
            "STORE 1 -X-GM-LABELS.SILENT \\Trash",
            "UID STORE 1 X-GM-LABELS ()",
            "FETCH 1:4 (X-GM-LABELS X-GM-MSGID X-GM-THRID)",
        ],
        bad: &["STORE 1 +X-GM-LABELS", "STORE 1 +X-GM-LABELS (foo", "STORE 1 X-GM-LABELSX ()"],
    },
    Row {
        extension: "XAPPLEPUSHSERVICE",
        good: &[
            "XAPPLEPUSHSERVICE aps-version 2 aps-account-id 0715 aps-subtopic com.apple.mobilemail mailboxes (INBOX Notes)",
            "XAPPLEPUSHSERVICE \"aps-version\" \"2\"",
        ],
        bad: &["XAPPLEPUSHSERVICE (a", "XAPPLEPUSHSERVICE a "],
    },
    Row {
        extension: "METADATA",
        good: &[
            "GETMETADATA \"\" /shared/comment",
            "GETMETADATA INBOX (/shared/comment /private/comment)",
            "GETMETADATA (DEPTH 1) INBOX (/private/filters)",
            "GETMETADATA (MAXSIZE 1024 DEPTH infinity) INBOX /a",
            "GETMETADATA INBOX (MAXSIZE 1024) (/a)",
            "SETMETADATA INBOX (/private/comment {3}\r\nx\r\n)",
            "SETMETADATA INBOX (/private/comment NIL /a \"b\")",
        ],
        bad: &[
            "GETMETADATA INBOX",
            "GETMETADATA (DEPTH 3a) INBOX /a",
            "SETMETADATA INBOX /a x",
            "SETMETADATA INBOX (/a)",
            "SETMETADATA INBOX (/a ~{1}\r\n\0)",
        ],
    },
    Row {
        extension: "APPEND, MULTIAPPEND, UTF8=ACCEPT, REPLACE",
        good: &[
            "APPEND a {3}\r\nx\r\n",
            "APPEND a {0}\r\n",
            "APPEND {1}\r\na (\\Seen $x) \"17-Jul-1996 02:44:25 -0700\" {3+}\r\nx\r\n",
            "APPEND a () \" 7-Jul-1996 02:44:25 -0700\" ~{3}\r\nx\0\n",
            "APPEND a UTF8 (~{3}\r\nx\r\n)",
            "APPEND a (\\Seen) {1}\r\nx (\\Seen) {1}\r\ny \"17-Jul-1996 02:44:25 -0700\" {1}\r\nz",
            "REPLACE 5 a {1}\r\nx",
            "REPLACE * a {1}\r\nx",
            "UID REPLACE 5 a (\\Seen) UTF8 (~{1+}\r\nx)",
        ],
        bad: &[
            "APPEND",
            "APPEND a",
            "APPEND a \"x\"",
            "APPEND a x",
            "APPEND a {3}\r\nx\r\n ",
            "APPEND a {3}\r\nx\r\nx",
            "APPEND a {9}\r\nx",
            "APPEND a \"17-Jul-1996\" {1}\r\nx",
            "APPEND a \"17-Jul-1996 02:44:25 -0700\" (\\Seen) {1}\r\nx",
            "APPEND a (\\Seen){1}\r\nx",
            "APPEND a UTF8 ({1}\r\nx)",
            "APPEND a UTF8 ~{1}\r\nx",
            "APPEND a UTF8 (~{1}\r\nx",
            "APPEND a CATENATE (TEXT {1}\r\nx)",
            "APPEND a CATENATE (URL \"/a\")",
            "APPEND a ANNOTATION () {1}\r\nx",
            "REPLACE a {1}\r\nx",
            "REPLACE 1:2 a {1}\r\nx",
            "REPLACE 1 a {1}\r\nx {1}\r\ny",
        ],
    },
    Row { extension: "COMPRESS", good: &["COMPRESS DEFLATE"], bad: &["COMPRESS"] },
];

fn unit(line: &str) -> Vec<u8> {
    format!("a1 {line}\r\n").into_bytes()
}

#[test]
fn each_extension_has_good_and_bad_lines() {
    for row in ROWS {
        for line in row.good {
            let unit = unit(line);
            let command = ClientCommand::parse(&unit);
            let command = command.unwrap_or_else(|fault| panic!("{}: {line:?}: {fault:?}", row.extension));
            assert_eq!(command.tag, b"a1");
            assert_ne!(command.verb, Verb::Other, "{line:?}");
            assert_ne!(command.arguments, Arguments::Unchecked, "{line:?}");
        }
        for line in row.bad {
            let unit = unit(line);
            match ClientCommand::parse(&unit) {
                Err(CommandFault::Malformed { tag: b"a1", name, at }) => {
                    assert!(line.contains(std::str::from_utf8(name).unwrap()), "{line:?}");
                    assert!(at <= unit.len());
                }
                parsed => panic!("{}: {line:?}: {parsed:?}", row.extension),
            }
        }
    }
}

#[test]
fn every_verb_but_other_has_a_good_line() {
    let lines: Vec<Vec<u8>> = ROWS.iter().flat_map(|row| row.good).map(|line| unit(line)).collect();
    for (name, verb) in NAMES {
        let has_line =
            lines.iter().any(|line| ClientCommand::parse(line).is_ok_and(|command| command.verb == *verb));
        assert!(has_line, "{}", String::from_utf8_lossy(name));
    }
}

#[test]
fn no_prefix_of_a_command_is_a_command() {
    for line in ROWS.iter().flat_map(|row| row.good) {
        let unit = unit(line);
        for len in 0..unit.len() {
            let prefix = &unit[..len];
            let is_whole_line = matches!(prefix, [.., b'\n']) && !line.contains('{');
            assert!(is_whole_line || ClientCommand::parse(prefix).is_err(), "{line:?} to {len}");
        }
    }
}

#[test]
fn a_line_that_is_typed_ends_in_a_bare_line_feed() {
    let command = ClientCommand::parse(b"a LOGIN {1}\nx y\n").unwrap();
    assert_eq!(command.arguments, Arguments::Login { user: Cow::Borrowed(b"x") });
}

#[test]
fn verbs_that_are_not_known_are_not_looked_at() {
    for (line, name, uid) in [
        ("a UNAUTHENTICATE\r\n", "UNAUTHENTICATE", false),
        ("a URLFETCH \"imap://x (\r\n", "URLFETCH", false),
        ("a UID NOOP\r\n", "NOOP", true),
        ("a UID APPEND x {1}\r\nx\r\n", "APPEND", true),
        ("a UID UID FETCH\r\n", "UID", true),
        ("a FETCHX 1 BODY[]\r\n", "FETCHX", false),
    ] {
        let command = ClientCommand::parse(line.as_bytes()).unwrap();
        assert_eq!((command.verb, command.uid, command.name), (Verb::Other, uid, name.as_bytes()));
        assert_eq!(command.arguments, Arguments::Unchecked);
    }
}

#[test]
fn what_has_no_tag_cannot_be_answered_by_one() {
    let long = format!("{} NOOP\r\n", "x".repeat(COMMAND_TAG_BYTES_MAX + 1));
    for line in [
        "\r\n",
        " NOOP\r\n",
        "+ NOOP\r\n",
        "a+b NOOP\r\n",
        "(a NOOP\r\n",
        "a\tNOOP\r\n",
        "\"a\" NOOP\r\n",
        "\u{e9} NOOP\r\n",
        "",
        &long,
    ] {
        assert_eq!(ClientCommand::parse(line.as_bytes()), Err(CommandFault::NoTag), "{line:?}");
    }
    for (line, tag) in
        [("DONE\r\n", "DONE"), ("a \r\n", "a"), ("a\n", "a"), ("a  NOOP\r\n", "a"), ("a UID\r\n", "a")]
    {
        let fault = ClientCommand::parse(line.as_bytes()).unwrap_err();
        assert!(
            matches!(fault, CommandFault::Malformed { tag: found, name: b"", .. } if found == tag.as_bytes())
        );
    }
}

#[test]
fn what_the_engine_reads_of_arguments() {
    let parse = |line: &'static str| ClientCommand::parse(line.as_bytes()).unwrap().arguments;
    assert_eq!(parse("a ENABLE QRESYNC X\r\n"), Arguments::Enable(vec![b"QRESYNC", b"X"]));
    assert_eq!(
        parse("a AUTHENTICATE plain =\r\n"),
        Arguments::Authenticate { mechanism: b"plain", initial: Some(b"=") }
    );
    assert_eq!(parse("a SELECT \"a\\\"b\"\r\n"), Arguments::Select { mailbox: Cow::Borrowed(b"a\"b") });
    assert_eq!(parse("a LOGIN {4}\r\na\r\nb \"\"\r\n"), Arguments::Login { user: Cow::Borrowed(b"a\r\nb") });
}

#[test]
fn the_messages_of_an_append() {
    let unit = b"a APPEND {3}\r\nb c (\\Seen) {5}\r\n{1}\r\n UTF8 (~{3+}\r\na\0)) {0}\r\n\r\n";
    let Arguments::Append(request) = ClientCommand::parse(unit).unwrap().arguments else { panic!() };
    assert_eq!(request.mailbox, Cow::Borrowed(b"b c"));
    let messages: Vec<&[u8]> = request.messages.iter().map(|range| &unit[range.clone()]).collect();
    assert_eq!(messages, [b"{1}\r\n".as_slice(), b"a\0)", b""]);
}

#[test]
fn messages_of_an_append_are_bounded() {
    let unit =
        |messages: usize| [b"a APPEND b".to_vec(), b" {0+}\r\n".repeat(messages), b"\r\n".to_vec()].concat();
    assert!(ClientCommand::parse(&unit(APPEND_MESSAGES_MAX)).is_ok());
    assert!(ClientCommand::parse(&unit(APPEND_MESSAGES_MAX + 1)).is_err());
    let unit = |names: usize| [b"a ENABLE".to_vec(), b" X".repeat(names), b"\r\n".to_vec()].concat();
    assert!(ClientCommand::parse(&unit(ENABLE_NAMES_MAX)).is_ok());
    assert!(ClientCommand::parse(&unit(ENABLE_NAMES_MAX + 1)).is_err());
}

#[test]
fn tag_and_verb_are_known_before_the_end() {
    let unit = b"a1 uid Replace 5 ";
    let known: Vec<_> = (0..=unit.len()).map(|len| peek(&unit[..len])).collect();
    let first = known.iter().position(Option::is_some).unwrap();
    assert_eq!(first, "a1 uid Replace ".len());
    assert!(known[first..].iter().all(|known| *known == Some((b"a1", Verb::Replace))));
    assert_eq!(peek(b"a APPEND\r\n"), Some((b"a".as_slice(), Verb::Append)));
    assert_eq!(peek(b"a XYZ {5}\r\n"), Some((b"a".as_slice(), Verb::Other)));
    assert_eq!(peek(b"a UID APPEND x"), Some((b"a".as_slice(), Verb::Other)));
    for none in ["", "a", "a ", "a NOO", " NOOP ", "+ NOOP "] {
        assert_eq!(peek(none.as_bytes()), None, "{none:?}");
    }
}

#[test]
fn the_role_of_an_announced_literal() {
    for (begun, role) in [
        ("a APPEND {5}\r\n", LiteralRole::Argument),
        ("a APPEND {0}\r\n", LiteralRole::Argument),
        ("a APPEND x {5}\r\n", LiteralRole::Message),
        ("a APPEND x {5+}\n", LiteralRole::Message),
        ("a APPEND x {0}\r\n", LiteralRole::Message),
        ("a APPEND {1}\r\nx {5}\r\n", LiteralRole::Message),
        ("a APPEND x (\\Seen) \"17-Jul-1996 02:44:25 -0700\" ~{5}\r\n", LiteralRole::Message),
        ("a APPEND x UTF8 (~{5}\r\n", LiteralRole::Message),
        ("a APPEND x {1}\r\ny (\\Seen) {5}\r\n", LiteralRole::Message),
        ("a UID REPLACE 5 x {5}\r\n", LiteralRole::Message),
        ("a REPLACE 5 {5}\r\n", LiteralRole::Argument),
        ("a REPLACE {5}\r\n", LiteralRole::Malformed),
        ("a REPLACE 5 x {1}\r\ny {5}\r\n", LiteralRole::Malformed),
        ("a APPEND x(\\Seen) {5}\r\n", LiteralRole::Malformed),
        ("a APPEND x CATENATE (TEXT {5}\r\n", LiteralRole::Malformed),
        ("a APPEND \"x {5}\r\n", LiteralRole::Malformed),
        ("a LOGIN {5}\r\n", LiteralRole::Argument),
        ("a UID APPEND x {5}\r\n", LiteralRole::Argument),
        ("APPEND x {5}\r\n", LiteralRole::Argument),
    ] {
        assert_eq!(literal_role(begun.as_bytes()), role, "{begun:?}");
    }
}

/// Every announcement in a command that parses is a message exactly where the parsed command has one.
#[test]
fn roles_agree_with_what_is_parsed() {
    for line in ROWS.iter().flat_map(|row| row.good) {
        let unit = unit(line);
        let messages = match ClientCommand::parse(&unit).unwrap().arguments {
            Arguments::Append(request) => request.messages.iter().map(|range| range.start).collect(),
            _ => Vec::new(),
        };
        for at in (1..unit.len()).filter(|&at| unit[..at].ends_with(b"}\r\n")) {
            let is_message = literal_role(&unit[..at]) == LiteralRole::Message;
            assert_eq!(is_message, messages.contains(&at), "{line:?} at {at}");
        }
    }
}

fn lines() -> impl Strategy<Value = Vec<u8>> {
    let good: Vec<&str> = ROWS.iter().flat_map(|row| row.good).copied().collect();
    let edit = (
        any::<prop::sample::Index>(),
        proptest::option::of(prop::sample::select(b" ()[]<>{}\"\\*%$:,.\r\n0a\0\xe9".to_vec())),
    );
    (prop::sample::select(good), proptest::collection::vec(edit, 0..4)).prop_map(|(line, edits)| {
        let mut unit = unit(line);
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
    fn commands_that_were_changed_do_not_panic(unit in lines()) {
        let _ = literal_role(&unit);
        if let Ok(command) = ClientCommand::parse(&unit) {
            prop_assert!(peek(&unit).is_some_and(|(tag, verb)| tag == command.tag && verb == command.verb));
            if let Arguments::Append(request) = &command.arguments {
                let mut end = 0;
                for message in &request.messages {
                    prop_assert!(end < message.start && message.end < unit.len());
                    end = message.end;
                }
            }
        }
    }

    #[test]
    fn any_octets_do_not_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (ClientCommand::parse(&octets), peek(&octets), literal_role(&octets));
    }
}
