//! What a user or an attacker notices of the judgement.

use std::sync::atomic::AtomicBool;

use super::eicar::test_string;
use super::samples::*;
use super::*;

mod any;
mod hidden;
mod oracles;

const BASE64: &str = "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64";

fn program_lines() -> String {
    base64_lines(&program())
}

/// No line of the program is left, in any of its encodings.
fn assert_gone(message: &str, payload: &str, name: &str) {
    let (octets, leaves) = judged(message.as_bytes(), Shape::Message);
    assert_same_lines(message.as_bytes(), &octets);
    assert!(leaves.iter().any(|leaf| leaf.action == ContentAction::Remove), "{name}: nothing was removed");
    let text = String::from_utf8_lossy(&octets);
    for line in payload.lines().filter(|line| line.len() > 20) {
        assert!(!text.contains(line), "{name}: {line} is left in\n{text}");
    }
    assert_eq!(judged(&octets, Shape::Message).0, octets, "{name}: what is filled stays as it is");
}

#[test]
fn a_clean_mail_is_not_touched() {
    let message = mail(
        BASE64,
        &base64_lines(b"a harmless document, quite long, of more than one line. ".repeat(9).as_slice()),
    );
    let (octets, leaves) = judged(message.as_bytes(), Shape::Message);
    assert_eq!(octets, message.as_bytes());
    assert_eq!(leaves.iter().map(|leaf| leaf.path.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert!(leaves.iter().all(|leaf| leaf.action == ContentAction::Allow && leaf.rule.is_none()));
}

#[test]
fn only_the_forbidden_leaf_is_overwritten() {
    let message = mail(BASE64, &program_lines());
    let (octets, leaves) = judged(message.as_bytes(), Shape::Message);
    let begin = message.find("TVo").unwrap();
    let end = message.find("\r\n--frontier--").unwrap();
    assert_eq!(octets[..begin], message.as_bytes()[..begin]);
    assert_eq!(octets[end..], message.as_bytes()[end..]);
    let leaf = &leaves[1];
    assert_eq!((leaf.path.as_str(), leaf.real_type), ("2", Some(RealType::WindowsProgram)));
    assert_eq!(leaf.rule, Some(RuleName::Type(RealType::WindowsProgram)));
    assert_eq!(leaf.declared_type.as_deref(), Some("application/octet-stream"));
    assert_eq!(leaf.file, Some(LeafFile::read(&program(), Reading::Identity)));
    let mut out = Vec::new();
    reading::Base64Decoder::default().push(&octets[begin..end], &mut out);
    assert!(
        out.starts_with(b"[This attachment was removed by the mail gateway. Reason: it is a Windows program")
    );
}

/// The same program, hidden in the structure.
#[test]
fn structures_that_clients_read_differently() {
    let p = program_lines();
    let part = format!("{BASE64}\r\n\r\n{p}");
    let multipart = |boundary: &str, rest: &str| {
        format!("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; {boundary}\r\n\r\n{rest}")
    };
    let table = [
        ("declared as text", mail("Content-Type: text/plain", &p)),
        ("no header at all", mail("", &p)),
        (
            "two types, multipart first",
            multipart("boundary=b\r\nContent-Type: text/plain", &format!("--b\r\n{part}\r\n--b--")),
        ),
        (
            "two types, multipart last",
            format!(
                "Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{part}\r\n--b--"
            ),
        ),
        (
            "two boundaries",
            multipart("boundary=a; boundary=b", &format!("--b\r\n{part}\r\n--b--\r\n--a\r\n\r\nx\r\n--a--")),
        ),
        (
            "inner boundary begins with the outer one",
            multipart(
                "boundary=b",
                &format!(
                    "--b\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n{part}\r\n--bb--\r\n--b--"
                ),
            ),
        ),
        ("no end boundary", multipart("boundary=b", &format!("--b\r\n{part}"))),
        (
            "no MIME-Version",
            format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{part}\r\n--b--"),
        ),
        (
            "boundary continued",
            multipart(
                "boundary*0=fron; boundary*1=\"tier\"",
                &format!("--frontier\r\n{part}\r\n--frontier--"),
            ),
        ),
        (
            "boundary extended",
            multipart("boundary*=us-ascii''fr%6fntier", &format!("--frontier\r\n{part}\r\n--frontier--")),
        ),
        ("boundary in single quotes", multipart("boundary='b'", &format!("--b\r\n{part}\r\n--b--"))),
        ("boundary with a comment", multipart("boundary=(c)b (d)", &format!("--b\r\n{part}\r\n--b--"))),
        ("boundary with escapes", multipart("boundary=\"b\\b\"", &format!("--bb\r\n{part}\r\n--bb--"))),
        (
            "boundary without a semicolon",
            format!("Content-Type: multipart/mixed boundary=b\r\n\r\n--b\r\n{part}\r\n--b--"),
        ),
        (
            "boundary behind a folded equals sign",
            multipart("boundary=\r\n\tb", &format!("--b\r\n{part}\r\n--b--")),
        ),
        ("boundary not declared", multipart("charset=x", &format!("--b\r\n{part}\r\n--b--"))),
        (
            "delimiter with more behind it",
            multipart("boundary=b", &format!("--b and more\r\n{part}\r\n--b--")),
        ),
        ("delimiter with blanks behind it", multipart("boundary=b", &format!("--b \t \r\n{part}\r\n--b--"))),
        ("empty boundary", multipart("boundary=\"\"", &format!("--\r\n{part}\r\n----"))),
        ("part without an empty line", multipart("boundary=b", &format!("--b\r\n{BASE64}\r\n{p}\r\n--b--"))),
        (
            "colon behind white space",
            multipart(
                "boundary=b",
                &format!("--b\r\nContent-Transfer-Encoding : base64\r\n\r\n{p}\r\n--b--"),
            ),
        ),
        (
            "a header line that is no field",
            multipart("boundary=b", &format!("--b\r\nno field\r\n{part}\r\n--b--")),
        ),
        (
            "white space ends the header",
            multipart("boundary=b", &format!("--b\r\n{BASE64}\r\n \r\n{p}\r\n--b--")),
        ),
        ("in the preamble", multipart("boundary=b", &format!("{p}\r\n--b\r\n\r\nx\r\n--b--"))),
        ("in the epilogue", multipart("boundary=b", &format!("--b\r\n\r\nx\r\n--b--\r\n{p}"))),
        (
            "a part in the epilogue",
            multipart("boundary=b", &format!("--b\r\n\r\nx\r\n--b--\r\n--b\r\n{part}")),
        ),
        ("behind a text", mail("Content-Type: text/plain", &format!("Please decode:\r\n\r\n{p}"))),
        ("behind padding", mail(BASE64, &format!("AAAA\r\nAA==\r\n{p}"))),
        ("line feeds only", mail(BASE64, &p).replace("\r\n", "\n")),
        ("returns only", mail(BASE64, &p).replace("\r\n", "\r")),
        ("two returns and a line feed", mail(BASE64, &p).replace("\r\n", "\r\r\n")),
        ("a message", mail("Content-Type: message/rfc822", &mail(BASE64, &p).replace("frontier", "inner"))),
        ("a message that repeats the boundary", mail("Content-Type: message/rfc822", &mail(BASE64, &p))),
        ("a mail that is one leaf", format!("From: a@example.org\r\n{part}")),
        ("an mbox line before the header", format!("From a@example.org Mon\r\nSubject: x\r\n{part}")),
    ];
    for (name, message) in &table {
        assert_gone(message, &p, name);
    }
}

/// The same program, hidden in its encoding.
#[test]
fn encodings_that_clients_read_tolerantly() {
    let p = program_lines();
    let unpadded = p.trim_end_matches('=').to_owned();
    let junk: String = p.chars().map(|c| if c == 'A' { "A!-".to_owned() } else { c.to_string() }).collect();
    let qp = quoted_printable(&program());
    let table = [
        ("encoding not declared", mail("Content-Type: application/octet-stream", &p), &p),
        ("another encoding declared", mail("Content-Transfer-Encoding: 7bit", &p), &p),
        ("characters outside the alphabet", mail(BASE64, &junk), &junk),
        ("no padding", mail(BASE64, &unpadded), &unpadded),
        ("quoted-printable", mail("Content-Transfer-Encoding: quoted-printable", &qp), &qp),
        ("quoted-printable not declared", mail("Content-Type: text/plain", &qp), &qp),
        (
            "quoted-printable in lower case",
            mail("", &qp.to_lowercase().replace("mz", "MZ").replace("pe=00", "PE=00")),
            &p,
        ),
    ];
    for (name, message, payload) in &table {
        assert_gone(message, payload, name);
    }
    let mut binary = mail("Content-Transfer-Encoding: binary", "@@").into_bytes();
    let at = binary.windows(2).position(|pair| pair == b"@@").unwrap();
    binary.splice(at..at + 2, program());
    assert_eq!(judged(&binary, Shape::Message).1[1].rule, Some(RuleName::Type(RealType::WindowsProgram)));
}

#[test]
fn a_message_in_base64_is_judged_inside_and_removed_as_one() {
    let inner = mail(BASE64, &program_lines()).replace("frontier", "inner");
    for (header, body) in [
        ("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64", base64_lines(inner.as_bytes())),
        (
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable",
            quoted_printable(inner.as_bytes()),
        ),
        (
            "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64",
            base64_lines(inner.as_bytes()),
        ),
        (
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64",
            base64_lines(mail("Content-Type: message/rfc822", &base64_lines(inner.as_bytes())).as_bytes()),
        ),
        (
            "Content-Type: multipart/mixed; boundary=inner\r\nContent-Transfer-Encoding: base64",
            base64_lines(&inner.as_bytes()[inner.find("preamble").unwrap()..]),
        ),
    ] {
        let message = mail(header, &body);
        assert_gone(&message, &body, header);
        // A server that shows the leaf without its header shows the same.
        let (octets, _) = judged(message.as_bytes(), Shape::Message);
        let begin = message.find(&body).unwrap();
        let (alone, _) = judged(body.as_bytes(), Shape::Unknown { hints: Vec::new() });
        assert_eq!(alone, &octets[begin..begin + body.len()], "{header}");
    }
}

#[test]
fn a_leaf_reaches_as_far_as_any_reading_of_its_boundary() {
    // A client that takes `x` for the boundary reads one script; the other boundary cuts it in two.
    let message = "Content-Type: multipart/mixed; boundary=x; boundary=y\r\n\r\n\
                   --x\r\nContent-Disposition: attachment; filename=invoice1.js\r\n\r\n\
                   first();\r\n--y\r\n\r\nsecond();\r\n--x\r\n\r\nkept\r\n--x--\r\n";
    let (octets, _) = judged(message.as_bytes(), Shape::Message);
    let text = String::from_utf8(octets).unwrap();
    assert!(!text.contains("first") && !text.contains("second") && text.contains("kept"), "{text}");
    // A client that knows no multipart decodes the delimiter, too, and its first line begins a program.
    let p = program_lines();
    let (first, rest) = p.split_once("\r\n").unwrap();
    let message = format!(
        "Content-Transfer-Encoding: base64\r\nContent-Type: multipart/mixed; boundary=\"{first}\"\r\n\r\n--{first}\r\n{rest}\r\n"
    );
    assert_eq!(removed(&message), ["types", "types"]);
    let (octets, _) = judged(message.as_bytes(), Shape::Message);
    assert!(!String::from_utf8(octets).unwrap().contains(rest.lines().next().unwrap()));
}

/// The test file in readings that need no leaf.
#[test]
fn eicar_is_found_wherever_it_stands() {
    let eicar = test_string();
    let clear = String::from_utf8(eicar.clone()).unwrap();
    let encoded = base64(&eicar);
    let halves = [base64(&eicar[..31]), base64(&eicar[31..])].concat();
    let table = [
        ("in clear", clear.clone()),
        ("in a text", format!("Dear all,\r\n{clear} is it")),
        ("base64", encoded.clone()),
        ("base64 behind another character", format!("A{encoded}")),
        ("base64 behind three others", format!("abc\r\n{encoded}")),
        ("base64, a character in each line", encoded.chars().map(|c| format!("{c}\r\n")).collect()),
        ("base64 with padding inside", halves.clone()),
        ("base64 with padding inside, in another alignment", format!("A{halves}")),
        ("base64 with padding to be skipped", format!("{}=={}", &encoded[..30], &encoded[30..])),
        ("base64 without padding", encoded.trim_end_matches('=').to_owned()),
        ("base64 of text and test file", base64(format!("some text {clear}").as_bytes())),
        ("quoted-printable", clear.bytes().map(|octet| format!("={octet:02X}")).collect()),
        ("quoted-printable with soft breaks", clear.chars().map(|c| format!("{c}= \r\n")).collect()),
    ];
    for (name, body) in &table {
        for header in [
            "Content-Type: text/plain",
            "Content-Transfer-Encoding: base64",
            "Content-Type: message/rfc822",
            "",
        ] {
            let message = mail(header, body);
            let found = removed(&message);
            assert!(
                !found.is_empty() && found.iter().all(|rule| *rule == "eicar"),
                "{name}, {header:?}: {found:?}"
            );
        }
    }
    let end = format!("Subject: x\r\n\r\nA{}", encoded.trim_end_matches('='));
    assert_eq!(removed(&end), ["eicar"], "the end of the content ends the last quantum");
    let none = Rules::default();
    assert!(judged_by(&none, clear.as_bytes(), Shape::Unknown { hints: Vec::new() }).1[0].rule.is_some());
}

#[test]
fn eicar_in_the_header_of_a_part_removes_what_holds_the_part() {
    let clear = String::from_utf8(test_string()).unwrap();
    let message = mail(&format!("Content-Description: {clear}"), "harmless");
    let (octets, _) = judged(message.as_bytes(), Shape::Message);
    assert!(!String::from_utf8(octets).unwrap().contains("EICAR-STANDARD"));
    // The header of the mail itself is metadata.
    let message = format!("Subject: {clear}\r\n\r\nharmless");
    assert_eq!(judged(message.as_bytes(), Shape::Message).0, message.as_bytes());
}

#[test]
fn header_fields_pass_and_what_stands_behind_them_is_content() {
    let p = program_lines();
    let fields = "Subject: x\r\n folded\r\nTo : b@example.org\r\n";
    for (served, is_removed) in [
        (fields.to_owned(), false),
        (format!("{fields}\r\n"), false),
        (format!("{fields}\r\n{p}"), true),
        (format!("{fields}{p}"), true),
        (p.clone(), true),
        (base64_lines(mail(BASE64, &p).as_bytes()), true),
        (format!("{fields}\r\n{}", mail(BASE64, &p)), true),
        (format!("{fields}no field\r\n{}", mail(BASE64, &p)), true),
    ] {
        let (octets, _) = judged(served.as_bytes(), Shape::Header);
        assert_eq!(octets != served.as_bytes(), is_removed, "{served}");
        assert!(!String::from_utf8_lossy(&octets).contains(p.lines().next().unwrap()), "{served}");
        let kept = if served.starts_with(fields) { fields.len() } else { 0 };
        assert_eq!(octets[..kept], served.as_bytes()[..kept]);
    }
}

#[test]
fn a_body_with_its_header_is_filled_like_the_leaf_in_the_message() {
    for (header, body) in [
        (BASE64, program_lines()),
        ("Content-Type: application/octet-stream; name=a.exe", "just text\r\nin lines\r\n".to_owned()),
        ("Content-Transfer-Encoding: quoted-printable", quoted_printable(&program())),
    ] {
        let message = mail(header, &body);
        let (whole, _) = judged(message.as_bytes(), Shape::Message);
        let begin = message.find(&body).unwrap();
        let shape = Shape::Body { header: format!("{header}\r\n\r\n").into_bytes(), hints: Vec::new() };
        let (alone, leaves) = judged(body.as_bytes(), shape);
        assert_eq!(alone, &whole[begin..begin + body.len()]);
        assert_eq!(leaves[0].path, "");
        // BODY[TEXT] of the mail.
        let text = message.find("preamble").unwrap();
        let shape = Shape::Body { header: message.as_bytes()[..text].to_vec(), hints: Vec::new() };
        assert_eq!(judged(&message.as_bytes()[text..], shape).0, &whole[text..]);
    }
    // The same without its header, where the octets tell enough.
    let message = mail(BASE64, &program_lines());
    let text = message.find("preamble").unwrap();
    let (whole, _) = judged(message.as_bytes(), Shape::Message);
    assert_eq!(judged(&message.as_bytes()[text..], Shape::Unknown { hints: Vec::new() }).0, &whole[text..]);
}

#[test]
fn a_name_in_the_structure_counts() {
    let hint = LeafHint { name: Some(b"=?utf-8?B?YS5leGU=?=".to_vec()), ..LeafHint::default() };
    let (octets, leaves) = judged(b"harmless", Shape::Unknown { hints: vec![hint.clone()] });
    assert_ne!(octets, b"harmless");
    assert_eq!(leaves[0].name.as_deref(), Some("a.exe"));
    let (octets, _) = judged(b"harmless", Shape::Body { header: Vec::new(), hints: vec![hint] });
    assert_ne!(octets, b"harmless");
}

#[test]
fn part_numbers_are_those_of_imap() {
    let inner =
        mail("Content-Type: message/rfc822", "Subject: x\r\n\r\none leaf").replace("frontier", "inner");
    let message = mail("Content-Type: message/rfc822", &inner);
    let (_, leaves) = judged(message.as_bytes(), Shape::Message);
    assert_eq!(leaves.iter().map(|leaf| leaf.path.as_str()).collect::<Vec<_>>(), ["1", "2.1", "2.2.1"]);
    let (_, leaves) = judged(b"Subject: x\r\n\r\none leaf", Shape::Message);
    assert_eq!(leaves[0].path, "1");
}

#[test]
fn what_cannot_be_judged_in_bounds_is_removed_behind_its_header() {
    let parts: String = (0..30_000).map(|_| "--b\r\n\r\nQ\r\n").collect();
    let message = format!("Subject: kept\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{parts}");
    let (octets, leaves) = judged(message.as_bytes(), Shape::Message);
    assert_same_lines(message.as_bytes(), &octets);
    assert_eq!(leaves[0].rule, Some(RuleName::Condition(Condition::MimeLimits)));
    let text = String::from_utf8(octets).unwrap();
    assert!(text.starts_with("Subject: kept") && !text.contains('Q'));
}

#[test]
fn ten_thousand_parts_pass_and_the_last_one_is_judged() {
    let parts: String = (0..10_000).map(|_| "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n").collect();
    let message = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b\r\n{BASE64}\r\n\r\n{}\r\n--b--",
        program_lines()
    );
    let (octets, leaves) = judged(message.as_bytes(), Shape::Message);
    assert_eq!(leaves.len(), 10_001);
    assert_eq!(leaves.iter().filter(|leaf| leaf.rule.is_some()).count(), 1);
    assert_eq!(leaves[10_000].path, "10001");
    assert_eq!(octets[..message.len() - 600], message.as_bytes()[..message.len() - 600]);
}

#[test]
fn a_hundred_messages_in_each_other_pass_and_the_innermost_is_judged() {
    let mut message = mail(BASE64, &program_lines());
    for level in 0..100 {
        let boundary = format!("level{level}x");
        message = mail("Content-Type: message/rfc822", &message.replace("frontier", &boundary));
    }
    assert_eq!(removed(&message), ["types"]);
    let mut message = format!("{BASE64}\r\n\r\n{}", program_lines());
    for _ in 0..100 {
        message = format!("Content-Type: message/rfc822; name=forwarded.eml\r\n\r\n{message}");
    }
    assert_eq!(removed(&message), ["types"]);
}

#[test]
fn a_cancelled_judgement_gives_nothing() {
    let octets = mail(BASE64, &program_lines()).into_bytes();
    let case = Case {
        pieces: vec![ContentPiece { range: 0..octets.len(), shape: Shape::Message }],
        describes_allowed: true,
        octets,
    };
    let why = Unavailable::Cancelled;
    assert_eq!(judge(case, &rules(), &AtomicBool::new(true)), Judged::Unavailable { why });
    let case = Case {
        octets: Vec::new(),
        pieces: vec![ContentPiece { range: 0..1, shape: Shape::Message }],
        describes_allowed: true,
    };
    let why = Unavailable::NoSuchPiece;
    assert_eq!(judge(case, &rules(), &AtomicBool::new(false)), Judged::Unavailable { why });
}

#[test]
fn only_the_pieces_of_a_case_are_touched() {
    let body = program_lines();
    let octets =
        format!("* 1 FETCH (BODY[1] {{{}}}\r\n{body} BODY[2] {{{}}}\r\n{body})\r\n", body.len(), body.len());
    let first = octets.find(&body).unwrap();
    let pieces =
        vec![ContentPiece { range: first..first + body.len(), shape: Shape::Unknown { hints: Vec::new() } }];
    let case = Case { octets: octets.clone().into_bytes(), pieces, describes_allowed: true };
    let Judged::Final { octets: after, .. } = judge(case, &rules(), &AtomicBool::new(false)) else {
        panic!()
    };
    assert_eq!(after[..first], octets.as_bytes()[..first]);
    assert_eq!(after[first + body.len()..], octets.as_bytes()[first + body.len()..]);
    assert_ne!(after, octets.as_bytes());
}

/// A judge that forbids what holds both of two words.
struct BothWords(bool, Vec<u8>);

impl Judge for BothWords {
    fn begin(&self, leaf: &LeafHead<'_>) -> Box<dyn Examination + Send> {
        Box::new(Self(leaf.is_beginning, Vec::new()))
    }
}

impl Examination for BothWords {
    fn push(&mut self, octets: &[u8]) {
        assert!(octets.len() <= PUSH_BYTES_MAX);
        self.1.extend_from_slice(octets);
    }

    fn finish(self: Box<Self>) -> LeafDecision {
        let has = |word: &[u8]| self.1.windows(word.len()).any(|window| window == word);
        let rule = RuleName::Type(RealType::Script);
        let outcome = if !self.0 && has(b"first") && has(b"second") {
            LeafOutcome::Remove(rule)
        } else {
            LeafOutcome::Allow
        };
        LeafDecision { real_type: None, member: None, outcome }
    }
}

#[test]
fn a_judge_sees_a_leaf_that_only_one_boundary_cuts() {
    let message = b"Content-Type: multipart/mixed; boundary=x; boundary=y\r\n\r\n\
        --x\r\n\r\nfirst\r\n--y\r\n\r\nsecond\r\n--x\r\n\r\nkept\r\n--x--\r\n";
    let case = |octets: Vec<u8>| Case {
        describes_allowed: true,
        pieces: vec![ContentPiece { range: 0..octets.len(), shape: Shape::Message }],
        octets,
    };
    let judged = judge(case(message.to_vec()), &BothWords(false, Vec::new()), &AtomicBool::new(false));
    let Judged::Final { octets, .. } = judged else { panic!() };
    let text = String::from_utf8(octets).unwrap();
    assert!(!text.contains("first") && !text.contains("second") && text.contains("kept"), "{text}");
    let long = ["Subject: x\r\n\r\n", "first", &"text = ".repeat(50_000), "second"].concat().into_bytes();
    let judged = judge(case(long.clone()), &BothWords(false, Vec::new()), &AtomicBool::new(false));
    assert!(matches!(judged, Judged::Final { octets, .. } if octets != long));
}

#[test]
fn what_overlaps_is_removed_whole() {
    let name = "Content-Disposition: attachment; filename=a.exe";
    let message = format!(
        "Content-Type: multipart/mixed; boundary=x; boundary=y\r\n\r\n--x\r\n{name}\r\n\r\none\r\n\
         --y\r\n{name}\r\n\r\ntwo\r\n--x\r\n\r\nthree\r\n--y\r\n\r\nkept\r\n--x--\r\n"
    );
    let (octets, _) = judged(message.as_bytes(), Shape::Message);
    let text = String::from_utf8(octets).unwrap();
    assert!(
        !["one", "two", "three"].iter().any(|word| text.contains(word)) && text.contains("kept"),
        "{text}"
    );
}

#[test]
fn a_line_that_only_begins_like_a_boundary_ends_a_leaf_for_some_clients_only() {
    let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
                   Content-Disposition: attachment; filename=a.exe\r\n\r\nfirst\r\n--bX\r\nsecond\r\n--b--\r\n";
    let (octets, _) = judged(message.as_bytes(), Shape::Message);
    assert!(!String::from_utf8(octets).unwrap().contains("second"));
    let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b and more\r\nX-A: b\r\n\
                   Content-Disposition: attachment; filename=a.exe\r\n\r\nharmless\r\n--b--\r\n";
    assert_eq!(removed(message), ["names"]);
}

/// Scripts are text, and are found at the beginning of a leaf only: wherever a client may see that.
#[test]
fn a_script_is_found_where_a_client_sees_a_leaf_begin() {
    let message =
        |part: &str| format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{part}\r\n--b--\r\n");
    for part in [
        "\r\n#!/bin/sh",
        "no field\r\nContent-Type: text/plain\r\n\r\n#!/bin/sh",
        "Content-Type: text/plain\r\n#!/bin/sh",
        "Content-Type: text/plain\r\r\n#!/bin/sh",
        "\r\nIw==IS9iaW4vc2gK",
    ] {
        assert_eq!(removed(&message(part)), ["types"], "{part}");
    }
    assert!(removed(&message("\r\nA script begins so:\r\n\r\n#!/bin/sh\r\n")).is_empty());
}

#[test]
fn an_mbox_line_before_the_header_does_not_make_it_content() {
    let header = format!("From a@example.org Mon\r\nSubject: kept\r\n{BASE64}\r\n\r\n");
    let message = format!("{header}{}", program_lines());
    assert!(judged(message.as_bytes(), Shape::Message).0.starts_with(header.as_bytes()));
}

#[test]
fn a_forbidden_leaf_costs_a_small_multipart_that_leaf_only_whatever_delimits_it() {
    let text = test_string();
    let rules = Rules::new::<&str, &str>(&[], &[]).unwrap();
    let encodings: [(&str, Vec<u8>); 3] = [
        ("base64", base64(&text).into()),
        ("7bit", text.clone()),
        ("quoted-printable", text.iter().flat_map(|octet| format!("={octet:02X}").into_bytes()).collect()),
    ];
    for boundary in
        ["cut", "b", "----------------------------------------------------------cut", "=_ABCdef123"]
    {
        for (encoding, leaf) in &encodings {
            let header = format!("Content-Type: text/plain\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
            let before = format!(
                "Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\nThis is MIME.\r\n--{boundary}\r\n\r\n\
                 See the attachment.\r\n--{boundary}\r\n{header}"
            );
            let behind = format!("\r\n--{boundary}--\r\nBehind the last part.\r\n");
            let message = [before.as_bytes(), leaf, behind.as_bytes()].concat();
            let (octets, _) = judged_by(&rules, &message, Shape::Message);
            assert!(
                octets.starts_with(before.as_bytes()) && octets.ends_with(behind.as_bytes()),
                "{boundary} {encoding}"
            );
            assert_ne!(octets, message);
        }
    }
}

/// `MZ` and `ZM` are Mozambique and Zambia.
#[test]
fn a_table_whose_lines_begin_as_programs_do_passes() {
    for begin in ["MZ", "ZM", "TVqQ", "#!"] {
        let table = format!("{begin};Lusaka;2024-01-01;a=b;12345\r\n").repeat(4_000);
        let message = mail("Content-Type: text/csv", &table);
        assert!(removed(&message).is_empty(), "{begin}");
    }
}

/// Work that is linear takes seconds on any machine. This is no measurement.
#[test]
fn long_names_are_compared_with_a_thousand_patterns_in_a_short_time() {
    let patterns: Vec<String> = (0..999).map(|number| format!("*.e{number}")).collect();
    let rules = Rules::new::<_, &str>(&patterns, &[]).unwrap();
    let field = |number: usize| format!("Content-Type: a/b; name=\"a/{}:{number}\"\r\n", ".e".repeat(2_000));
    let part = format!("--b\r\n{}\r\nx\r\n", (0..125).map(field).collect::<String>());
    let message = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", part.repeat(8));
    let begin = std::time::Instant::now();
    let (octets, _) = judged_by(&rules, message.as_bytes(), Shape::Message);
    assert!(octets == message.as_bytes());
    assert!(begin.elapsed().as_secs() < 300);
}
