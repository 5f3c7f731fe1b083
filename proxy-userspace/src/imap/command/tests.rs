use proptest::prelude::*;

use super::*;

mod rows;

use rows::ROWS;

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
