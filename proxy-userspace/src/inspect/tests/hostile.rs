//! Random commands and hostile responses: nothing forbidden passes, and what passes can be framed and read.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::imap::command::{ClientCommand, Verb};
use crate::imap::response::parse;

/// EICAR in base64, by alignment: what stands in each whatever precedes it.
const ENCODED: &str =
    "WDVPIVAlQEFQWzRcUFpYNTQoUF4pN0NDKTd9JEVJQ0FSLVNUQU5EQVJELUFOVElWSVJVUy1URVNULUZJTEUhJEgrSCo=";
/// The second half of the test string, which is sent only as a part of something.
const HALF: &str = "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";

/// The test string in every reading.
fn hostile_content() -> impl Strategy<Value = String> {
    let folded = format!("{}\r\n{}", &ENCODED[..40], &ENCODED[40..]);
    let quoted_printable = EICAR.replace('$', "=24").replace("-S", "-=\r\nS");
    select(vec![
        EICAR.to_owned(),
        format!("\r\n{EICAR}"),
        format!("Subject: x\r\n\r\n{EICAR}\r\n"),
        format!("before {EICAR} after"),
        ENCODED.to_owned(),
        folded.clone(),
        format!("Content-Transfer-Encoding: base64\r\n\r\n{folded}\r\n"),
        format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n{folded}\r\n--b--\r\n"
        ),
        format!("Content-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\n{EICAR}"),
        format!("Content-Transfer-Encoding: quoted-printable\r\n\r\n{quoted_printable}\r\n"),
        quoted_printable,
        format!("a: b\r\nno field\r\n{EICAR}"),
    ])
}

/// Names of content, in odd spelling.
fn label() -> impl Strategy<Value = &'static str> {
    select(vec![
        "BODY[]",
        "body[]",
        "BODY[1]",
        "BODY[01]",
        "BODY[0]",
        "BODY[1.1]",
        "BODY[2.TEXT]",
        "BODY[TEXT]",
        "Body[tExT]",
        "BODY[HEADER]",
        "BODY[1.MIME]",
        "BODY[2.HEADER]",
        "BODY[HEADER.FIELDS (a)]",
        "BODY[HEADER.FIELDS (\"A\" b)]",
        "BODY[HEADER.FIELDS.NOT (a)]",
        "BODY[1.HEADER.FIELDS ({1}\r\na)]",
        "RFC822",
        "rfc822.text",
        "RFC822.HEADER",
        "BINARY[1]",
        "BODY[1.XYZZY]",
        "PREVIEW",
        "BODY[ ]",
        "BODY[1 ]",
        "BODY [1]",
        "BODY.PEEK[]",
        "SNIPPET",
        "RFC822.PEEK",
        "BODY[1.]",
        "BODY[0000000001]",
        "X",
    ])
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Literal,
    Binary,
    Quoted,
    List,
}

fn content_item() -> impl Strategy<Value = String> {
    let form = select(vec![Form::Literal, Form::Literal, Form::Binary, Form::Quoted, Form::List]);
    let origin = select(vec!["", "", "", "", "<0>", "<5>", "< 0>"]);
    (label(), origin, form, hostile_content()).prop_map(|(label, origin, form, content)| {
        let value = match form {
            // There is no line end in quotes, and without it the content would be another.
            Form::Quoted if !content.contains("\r\n") => {
                let escaped = content.replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"{escaped}\"")
            }
            Form::Literal | Form::Quoted => literal(&content),
            Form::Binary => format!("~{}", literal(&content)),
            Form::List => format!("({})", literal(&content)),
        };
        format!("{label}{origin} {value}")
    })
}

fn item() -> impl Strategy<Value = String> {
    let plain = [
        "UID 7",
        "UID 8",
        "FLAGS (\\Seen)",
        "RFC822.SIZE 5",
        "MODSEQ (5)",
        "X-GM-LABELS (\"\\\\x\")",
        "BODY[1.MIME] {2}\r\n\r\n",
        "BODY[1] NIL",
        "BODY[]<0> {1}\r\nX",
        "BODY[]<0> {1}\r\nS",
        "BODY[HEADER] \"\"",
        "FLAGS (\\Seen",
        "BODYSTRUCTURE (\"text\" \"plain\" NIL NIL NIL \"7bit\" 68 1)",
        "BODYSTRUCTURE (\"a \"b\" c\" ())",
        "ENVELOPE NIL",
    ];
    prop_oneof![4 => content_item(), 3 => select(plain.to_vec()).prop_map(str::to_owned)]
}

fn response() -> impl Strategy<Value = String> {
    let fetch = vec(item(), 0..4).prop_map(|items| format!("* 1 FETCH ({})\r\n", items.join(" ")));
    let halves = label().prop_map(|label| {
        let (first, second) = EICAR.split_at(34);
        format!(
            "* 1 FETCH ({label}<0> {})\r\n* 1 FETCH ({label}<34> {})\r\n",
            literal(first),
            literal(second)
        )
    });
    let line = select(vec![
        "* 1 EXISTS\r\n",
        "+ go\r\n",
        "+\r\n",
        "* OK [XYZZY] [ALERT] x {3}\r\n",
        "* OK\r\n",
        "* NO x\r\n",
        "* CAPABILITY IMAP4rev1 BINARY\r\n",
        "* XYZZY {3}\r\nabc\r\n",
        "* SEARCH 1 2\r\n",
        "* LIST () \"/\" {3}\r\na\r\n\r\n",
        "* ENABLED X\r\n",
        "* VANISHED 5\r\n",
        "* BYE x {1}\r\n",
        "* 5 EXPUNGE\r\n",
        "x y z\r\n",
        "* 1 FETCH\r\n",
        "a OK done\r\n",
        "a OK done\r\n",
        "b OK done\r\n",
        "a NO no\r\n",
        "c BAD bad\r\n",
        "d OK [CAPABILITY X] x\r\n",
        "zz OK x\r\n",
        "b OK x\r\n",
    ]);
    let completion =
        select(vec!["a OK x\r\n", "b OK x\r\n", "c OK x\r\n", "d OK x\r\n"]).prop_map(str::to_owned);
    prop_oneof![6 => fetch, 1 => halves, 3 => line.prop_map(str::to_owned), 3 => completion]
}

fn command() -> impl Strategy<Value = String> {
    let tag = select(vec!["a", "b", "c", "d"]);
    let arguments = prop_oneof![
        4 => fetch_command(),
        2 => select(vec![
            "NOOP", "SELECT x", "IDLE", "AUTHENTICATE PLAIN", "AUTHENTICATE LOGIN", "LOGIN {3}\r\njoe {2+}\r\nx\n", "XYZZY", "COMPRESS DEFLATE", "STARTTLS",
            "ENABLE CONDSTORE IMAP4rev2", "ENABLE X", "LOGOUT", "SEARCH TEXT {0}\r\n", "FETCH 1 BINARY[1]", "CLOSE", "UID", "LOGIN \"{3+}\r\nabc", "APPEND x {999999}",
        ]).prop_map(str::to_owned),
        2 => (hostile_content(), select(vec!["APPEND x (\\Seen) ", "REPLACE 5 x ", "APPEND {1}\r\nx ~", "APPEND x {1+}\r\ny "]))
            .prop_map(|(content, begin)| format!("{begin}{}", literal(&content))),
        1 => hostile_content().prop_map(|content| format!("APPEND x UTF8 (~{{{}+}}\r\n{content})", content.len())),
        1 => hostile_content().prop_map(|content| format!("AUTHENTICATE LOGIN\r\n{{{}+}}\r\n{content}", content.len())),
    ];
    let line = (tag, arguments).prop_map(|(tag, arguments)| format!("{tag} {arguments}\r\n"));
    let turn = select(vec!["DONE\r\n", "AGpvZQBzZWNyZXQ=\r\n", "*\r\n", "\r\n", "{2+}\r\nzz\r\n"])
        .prop_map(str::to_owned);
    prop_oneof![6 => line, 1 => turn]
}

fn fetch_command() -> impl Strategy<Value = String> {
    let asked = select(vec![
        "BODY[]",
        "BODY.PEEK[1]",
        "BODY[TEXT]",
        "RFC822",
        "RFC822.TEXT",
        "RFC822.HEADER",
        "BODY[HEADER]",
        "BODY.PEEK[1.MIME]",
        "BODY[0]",
        "BODY[2.TEXT]",
        "BODY.PEEK[HEADER.FIELDS (A b)]",
        "FLAGS",
        "UID",
        "BODYSTRUCTURE",
        "ENVELOPE",
        "BODY[]<0.1>",
        "BODY[]<0.40>",
        "BODY.PEEK[]<10.1000>",
        "BODY[1]<34.34>",
        "BODY[TEXT]<0.9>",
        "BODY[HEADER]<0.9>",
        "BODY[1.MIME]<5.5>",
    ]);
    (select(vec!["FETCH 1", "UID FETCH 7", "UID FETCH 1:*"]), vec(asked, 1..4))
        .prop_map(|(begin, items)| format!("{begin} ({})", items.join(" ")))
}

fn dialogue() -> impl Strategy<Value = Vec<(Side, String)>> {
    let step = prop_oneof![
        2 => command().prop_map(|text| (Side::Downstream, text)),
        3 => response().prop_map(|text| (Side::Upstream, text)),
    ];
    vec(step, 1..16)
}

/// Without the line ends that base64 may have.
fn flat(text: &str) -> String {
    text.replace("\r\n", "")
}

/// What must hold for whatever reached the client.
fn check_client(got: &str) {
    assert!(!got.contains("EICAR-STANDARD") && !got.contains(HALF), "{got}");
    assert!(!got.contains("$EICAR-=") && !got.contains("=24EICAR"), "{got}");
    assert!(!flat(got).contains(&ENCODED[..90]), "{got}");
    for unit in units(Speaker::Server, got.as_bytes()) {
        let text = String::from_utf8_lossy(&unit);
        parse(&unit).unwrap_or_else(|fault| panic!("{fault}: {text}"));
    }
}

/// What must hold for whatever reached the server.
fn check_server(got: &str) {
    assert!(!got.contains("EICAR-") && !flat(got).contains(&ENCODED[..90]), "{got}");
    // The literal of a command whose announcement was refused is never sent.
    let mut framer = Framer::new(Speaker::Client, FrameBounds { text: 1 << 20 });
    let mut octets = got.as_bytes();
    let mut unit = Vec::new();
    while !octets.is_empty() {
        let frame = framer.take(octets).unwrap();
        unit.extend_from_slice(&octets[..frame.octets]);
        octets = &octets[frame.octets..];
        let abandoned = matches!(frame.step, FrameStep::Literal(_))
            && !octets.is_empty()
            && ClientCommand::parse(&[&unit[..], octets].concat()).is_err();
        if abandoned {
            framer = Framer::new(Speaker::Client, FrameBounds { text: 1 << 20 });
            unit.clear();
        }
        if frame.step != FrameStep::Whole {
            continue;
        }
        let text = String::from_utf8_lossy(&unit).into_owned();
        if !["DONE\r\n", "AGpvZQBzZWNyZXQ=\r\n", "*\r\n", "\r\n"].contains(&text.as_str()) && !is_turn(&text)
        {
            let command =
                ClientCommand::parse(&unit).unwrap_or_else(|fault| panic!("{fault:?}: {text} of {got}"));
            assert!(!matches!(command.verb, Verb::Other | Verb::Compress | Verb::StartTls), "{text}");
        }
        unit.clear();
    }
}

/// A command that the client said while the server waited for its line: one line, whatever it holds.
fn is_turn(text: &str) -> bool {
    !text.trim_end().contains("\r\n") && !text.contains('{')
}

fn run(dialogue: &[(Side, String)], batch: usize) -> (String, String) {
    let mut engine = Dialogue::new();
    engine.batch_bytes = batch;
    for (side, text) in dialogue {
        if engine.session.wants(*side) == Want::Nothing {
            engine.settle().unwrap();
        }
        if engine.session.wants(*side) == Want::Nothing || engine.says(*side, text.as_bytes()).is_err() {
            break;
        }
    }
    (engine.client_got(), engine.server_got())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_forbidden_passes_and_everything_that_passes_can_be_read(dialogue in dialogue(), batch in 1_usize..200) {
        let (client, server) = run(&dialogue, 4096);
        check_client(&client);
        check_server(&server);
        prop_assert_eq!((client, server), run(&dialogue, batch), "in batches of {}", batch);
    }
}

#[test]
fn the_checks_see_what_they_are_for() {
    let seen = |check: fn(&str), text: &str| std::panic::catch_unwind(|| check(text)).is_err();
    for text in [
        format!("* 1 FETCH (BODY[] {})\r\n", literal(EICAR)),
        format!("* OK {ENCODED}\r\n"),
        "* OK".to_owned(),
        "* 1 FETCH (BODY[] {3}\r\nab)\r\n".to_owned(),
        "* 1 FETCH (\r\n".to_owned(),
    ] {
        assert!(seen(check_client, &text), "{text}");
    }
    for text in ["a XYZZY {1}\r\nx\r\n", "a APPEND x {1}\r\n"] {
        assert!(seen(check_server, text) || text.ends_with("{1}\r\n"), "{text}");
    }
}
