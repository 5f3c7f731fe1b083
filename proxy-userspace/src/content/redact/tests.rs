use proptest::prelude::*;

use super::*;
use crate::content::LeafHint;

/// Removes `X-Secret`, and every field that begins with `X-Spam-`.
fn rules() -> FieldRules {
    FieldRules::new([("X-Secret", true), ("X-Spam-*", true)], false)
}

fn redacted_as(text: &str, shape: &Shape) -> String {
    let mut octets = text.as_bytes().to_vec();
    redact(&mut octets, shape, &rules());
    String::from_utf8(octets).unwrap()
}

fn redacted(message: &str) -> String {
    redacted_as(message, &Shape::Message)
}

fn body(header: &str) -> Shape {
    Shape::Body { header: header.as_bytes().to_vec(), hints: Vec::new() }
}

#[test]
fn a_value_is_overwritten_on_each_of_its_lines_and_no_line_is_left_empty() {
    for (message, expected) in [
        (
            "X-Secret: abc\r\nTo: a\r\n\r\nX-Secret: abc\r\n",
            "X-Secret: x  \r\nTo: a\r\n\r\nX-Secret: abc\r\n",
        ),
        // Folded, with spaces and with tabs, and with a value that begins on its second line.
        (
            "X-Secret: ab\r\n cd e\r\n\t\tf\r\nTo: a\r\n\r\n",
            "X-Secret: x \r\n x   \r\n\t\tx\r\nTo: a\r\n\r\n",
        ),
        ("X-Secret:\r\n abc\r\n\r\n", "X-Secret:\r\n x  \r\n\r\n"),
        // In any case, before each line end, and with white space before the colon or none behind it.
        ("x-sEcReT: abc\n\nb", "x-sEcReT: x  \n\nb"),
        ("X-Secret \t:abc\r\n\r\n", "X-Secret \t:x  \r\n\r\n"),
        ("To: a\rX-Secret: abc\rCc: b\r\rb", "To: a\rX-Secret: x  \rCc: b\r\rb"),
        // Each field of the name, one character, and none.
        ("X-Secret: a\r\nX-Secret: b\r\n\r\n", "X-Secret: x\r\nX-Secret: x\r\n\r\n"),
        ("X-Secret:\r\nX-Secret: \r\nX-Secret:c\r\n\r\n", "X-Secret:\r\nX-Secret: \r\nX-Secret:x\r\n\r\n"),
        // Octets beyond ASCII, and a header that ends with its message.
        ("X-Secret: äb\r\n\r\n", "X-Secret: x  \r\n\r\n"),
        ("To: a\r\nX-Spam-Score: 5", "To: a\r\nX-Spam-Score: x"),
        // A line that is no field ends the header for some readers only.
        ("garbage\r\n folded\r\nX-Secret: abc\r\n\r\nb", "garbage\r\n folded\r\nX-Secret: x  \r\n\r\nb"),
        ("From joe Mon\r\nX-Secret: abc\r\n\r\n", "From joe Mon\r\nX-Secret: x  \r\n\r\n"),
        // Names that only begin like a removed one.
        ("X-Secrets: abc\r\nX-Secre: abc\r\n\r\n", "X-Secrets: abc\r\nX-Secre: abc\r\n\r\n"),
    ] {
        assert_eq!(redacted(message), expected);
    }
}

#[test]
fn a_lone_cr_hides_no_part_of_a_value_from_the_rules() {
    // For some readers a line ends at the CR, and for others the value goes on.
    assert_eq!(
        redacted("X-Secret: a\rmore text\r\nTo: a\r\n\r\n"),
        "X-Secret: x\rx        \r\nTo: a\r\n\r\n"
    );
    assert_eq!(redacted("To: a\rX-Secret: abc\r\n d\r\n\r\n"), "To: a\rX-Secret: x  \r\n x\r\n\r\n");
}

#[test]
fn headers_of_parts_and_of_messages_in_a_message_are_overwritten_and_text_is_not() {
    let message = "X-Secret: top\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\nX-Secret: preamble\r\n\
                   --b\r\nX-Secret: part\r\n\r\nX-Secret: text\r\n\
                   --b\r\nX-Secret: of the part\r\nContent-Type: message/rfc822\r\n\r\n\
                   X-Secret: of the message\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n\
                   --c\r\nX-Secret: inside\r\n\r\nX-Secret: text\r\n--c--\r\n\
                   --b\r\nContent-Type: message/delivery-status\r\n\r\nX-Secret: a report\r\n\
                   --b--\r\nX-Secret: epilogue\r\n";
    let overwritten = redacted(message);
    for kept in ["preamble", "X-Secret: text", "a report", "epilogue"] {
        assert_eq!(overwritten.matches(kept).count(), message.matches(kept).count(), "{kept}: {overwritten}");
    }
    for removed in ["top", "part\r", "of the part", "of the message", "inside"] {
        assert!(!overwritten.contains(removed), "{removed}: {overwritten}");
    }
    assert_eq!(overwritten.matches("X-Secret: ").count(), 10);
}

#[test]
fn a_section_is_overwritten_as_it_is_in_the_whole_message() {
    let nested = "X-Secret: a b\r\nSubject: s\r\n\r\n--b\r\nX-Secret: text\r\n";
    let message = format!(
        "X-Secret: top\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\
         X-Spam-Flag: yes\r\n\r\nhello\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n{}\r\n--b--\r\n",
        &nested[..nested.find("--b").unwrap()]
    );
    let overwritten = redacted(&message);
    let split = message.find("\r\n\r\n").unwrap() + 4;
    let (header, text) = message.split_at(split);
    assert_eq!(redacted_as(header, &Shape::Header), overwritten[..split]);
    assert_eq!(redacted_as(text, &body(header)), overwritten[split..]);
    let at = message.find("Content-Type: text/plain").unwrap();
    let end = at + message[at..].find("hello").unwrap();
    assert_eq!(redacted_as(&message[at..end], &Shape::Header), overwritten[at..end]);
    let at = message.find("X-Secret: a b").unwrap();
    let end = at + message[at..].find("\r\n--b--").unwrap();
    let of_message = body("Content-Type: message/rfc822\r\n\r\n");
    assert_eq!(redacted_as(&message[at..end], &of_message), overwritten[at..end]);
    assert!(!overwritten.contains("a b"));
}

#[test]
fn a_leaf_that_looks_like_a_header_stays_unless_nothing_is_known_of_it() {
    let text = "X-Secret: abc\r\n\r\nhello\r\n";
    assert_eq!(redacted_as(text, &body("Content-Type: text/plain\r\n\r\n")), text);
    let hint = LeafHint { media: (b"text".to_vec(), b"plain".to_vec()), ..LeafHint::default() };
    assert_eq!(redacted_as(text, &Shape::Unknown { hints: vec![hint] }), text);
    assert_eq!(redacted_as(text, &Shape::Unknown { hints: Vec::new() }), "X-Secret: x  \r\n\r\nhello\r\n");
}

#[test]
fn a_message_beyond_the_bounds_of_the_walk_loses_the_fields_of_its_own_header_all_the_same() {
    let boundaries = "Content-Type: multipart/mixed; boundary=b\r\n".repeat(2);
    let parts = "--b\r\n\r\n".repeat(crate::content::limits::BLOCKS_MAX + 1);
    let message = format!("{boundaries}X-Secret: abc\r\n\r\n{parts}");
    assert!(Layout::new(message.as_bytes(), &Shape::Message).is_err());
    assert!(redacted(&message).starts_with(&format!("{boundaries}X-Secret: x  \r\n\r\n--b")));
}

#[test]
fn a_string_without_its_field_is_overwritten_line_by_line() {
    for (value, expected) in
        [("abc", "x  "), (" a", " x"), ("", ""), ("ab\r\n cd", "x \r\n x "), ("\\\"a", "x  "), ("a", "x")]
    {
        let mut octets = value.as_bytes().to_vec();
        redact_value(&mut octets);
        assert_eq!(String::from_utf8(octets).unwrap(), expected);
    }
}

/// What messages are made of, well-formed and not.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "X-Secret: abc",
        "X-Secret:",
        "x-spam-a\t: b",
        " folded",
        "\t",
        "To: joe",
        "Content-Type: multipart/mixed; boundary=b",
        "Content-Type: message/rfc822",
        "Content-Type: text/plain",
        "--b",
        "--b--",
        "garbage",
        "ä: \u{0}",
        "",
    ]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r", ""]);
    prop::collection::vec((piece, end), 0..24).prop_map(|lines| {
        lines.iter().flat_map(|(line, end)| [line.as_bytes(), end.as_bytes()]).flatten().copied().collect()
    })
}

fn shapes() -> impl Strategy<Value = Shape> {
    prop::sample::select(vec![
        Shape::Message,
        Shape::Header,
        Shape::Unknown { hints: Vec::new() },
        body("Content-Type: message/rfc822\r\n\r\n"),
        body("Content-Type: multipart/mixed; boundary=b\r\n\r\n"),
    ])
}

#[test]
fn a_boundary_that_the_header_itself_declares_does_not_end_a_value() {
    let head = "Content-Type: multipart/mixed; boundary=b\r\nX-Secret: ";
    assert_eq!(redacted(&format!("{head}abc\r--b\r\n\r\ntext")), format!("{head}x  \rx  \r\n\r\ntext"));
}

proptest! {
    #[test]
    fn overwriting_keeps_length_and_line_ends_and_changes_nothing_when_it_is_done_again(
        message in pieces(), shape in shapes(), removes_others: bool
    ) {
        let rules = FieldRules::new([("X-Secret", true), ("X-Spam-*", true), ("To", false)], removes_others);
        let mut once = message.clone();
        redact(&mut once, &shape, &rules);
        prop_assert_eq!(once.len(), message.len());
        for (before, after) in message.iter().zip(&once) {
            let is_end = |octet: &u8| matches!(octet, b'\r' | b'\n');
            prop_assert!(before == after || matches!(after, b'x' | b' ') && !is_end(before));
        }
        // With a lone CR, what is structure for some readers may be a value for others, and goes with the value.
        if message.iter().zip(message.iter().skip(1)).all(|(cr, lf)| (*cr == b'\r') == (*lf == b'\n')) {
            let mut twice = once.clone();
            redact(&mut twice, &shape, &rules);
            prop_assert_eq!(&twice, &once);
        }
        // No line became empty, so that no header became shorter.
        let filled = |octets: &[u8]| -> Vec<bool> {
            octets.split(|octet| matches!(octet, b'\r' | b'\n')).map(|line| line.trim_ascii().is_empty()).collect()
        };
        prop_assert_eq!(filled(&once), filled(&message));
        for cut in 0..message.len() {
            redact(&mut message[..cut].to_vec(), &shape, &rules);
        }
    }

    #[test]
    fn the_header_alone_and_in_its_message_are_overwritten_alike(
        fields in fields(), text in pieces(), removes_others: bool
    ) {
        let rules = FieldRules::new([("X-Secret", true), ("X-Spam-*", true)], removes_others);
        let mut whole = [fields.as_slice(), &text].concat();
        redact(&mut whole, &Shape::Message, &rules);
        let mut header = fields.clone();
        redact(&mut header, &Shape::Header, &rules);
        prop_assert_eq!(&whole[..fields.len()], &header);
    }
}

/// A header as RFC 5322 has it.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let field = prop::sample::select(vec![
        "X-Secret: abc",
        "X-Secret:\r\n abc",
        "x-spam-a : b\r\n\tc",
        "To: joe",
        "Content-Type: multipart/mixed; boundary=b",
        "Content-Type: message/rfc822",
    ]);
    prop::collection::vec(field, 1..8)
        .prop_map(|fields| format!("{}\r\n\r\n", fields.join("\r\n")).into_bytes())
}
