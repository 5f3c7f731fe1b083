use super::*;

fn cursor(text: &str) -> Cursor<'_> {
    Cursor::new(text.as_bytes())
}

#[test]
fn strings() {
    for (text, content) in [
        ("\"\"", Some("")),
        ("\"a b\"", Some("a b")),
        ("\"a\\\"b\\\\\"", Some("a\"b\\")),
        ("\"\u{e9}\"", Some("\u{e9}")),
        ("{3}\r\na\r\n", Some("a\r\n")),
        ("{3+}\r\nabc", Some("abc")),
        ("{03}\nabc", Some("abc")),
        ("{0}\r\n", Some("")),
        ("\"a", None),
        ("\"a\\\"", None),
        ("\"a\\b\"", None),
        ("\"a\r\n\"", None),
        ("\"a\0\"", None),
        ("a", None),
        ("{4}\r\nabc", None),
        ("{3}abc", None),
        ("{}\r\n", None),
        ("{4294967296}\r\n", None),
        ("~{3}\r\nabc", None),
        ("", None),
    ] {
        assert_eq!(cursor(text).string().ok().as_deref(), content.map(str::as_bytes), "{text:?}");
    }
    assert_eq!(cursor("~{3}\r\na\0b").string_token().unwrap().form, StringForm::Binary);
    assert_eq!(unquoted(b"a\\\"b\\"), Cow::Borrowed(b"a\"b\\"));
    assert_eq!(cursor("nil ").nstring(), Ok(None));
    assert!(cursor("NILS").nstring().is_err());
}

/// Servers escape what needs none, and name mailboxes beyond ASCII.
#[test]
fn a_lenient_cursor_takes_more() {
    let text = "\"a\\b\" caf\u{e9}%* ~{1}\r\n\0";
    let mut lenient = Cursor::lenient(text.as_bytes());
    assert_eq!(lenient.string().unwrap(), Cow::Borrowed(b"ab"));
    lenient.space().unwrap();
    assert_eq!(lenient.astring().unwrap(), Cow::Borrowed("caf\u{e9}%*".as_bytes()));
    lenient.space().unwrap();
    assert!(lenient.skip_value().is_ok() && lenient.rest().is_empty());
    for text in ["\"a\\b\"", "caf\u{e9}", "~{1}\r\n\0"] {
        let mut strict = cursor(text);
        assert!(strict.skip_value().is_err() || !strict.rest().is_empty(), "{text}");
    }
    assert!(Cursor::lenient(b"\"a\\\r\n\"").string().is_err());
}

#[test]
fn numbers() {
    assert_eq!(cursor("4294967295").number(), Ok(u32::MAX));
    assert_eq!(cursor("0000000000000000000005)").number(), Ok(5));
    assert_eq!(cursor("4294967296").number(), Err(Malformed { at: 0 }));
    assert_eq!(cursor("-1").number(), Err(Malformed { at: 0 }));
    assert_eq!(cursor("9223372036854775807").number64(), Ok(u64::MAX >> 1));
    assert!(cursor("9223372036854775808").number64().is_err());
    assert!(cursor("99999999999999999999999999").number64().is_err());
    assert!(cursor("0").nz_number().is_err());
}

#[test]
fn sets() {
    for (text, taken) in [
        ("1", Some("1")),
        ("1:*,*:2,4 ", Some("1:*,*:2,4")),
        ("$ ", Some("$")),
        ("*", Some("*")),
        ("0", None),
        ("1,", None),
        ("1:", None),
        (",1", None),
        ("1,$", None),
        ("x", None),
    ] {
        assert_eq!(cursor(text).sequence_set().ok(), taken.map(str::as_bytes), "{text}");
    }
}

#[test]
fn dates() {
    for (text, is_date) in [
        ("\"17-Jul-1996 02:44:25 -0700\"", true),
        ("\" 7-Jul-1996 02:44:25 +0000\"", true),
        ("\"7-Jul-1996 02:44:25 +0000\"", false),
        ("\"17-Jul-1996 02:44:25 0000\"", false),
        ("\"17-Jul-1996 02:44:25 -0700", false),
        ("17-Jul-1996 02:44:25 -0700", false),
    ] {
        assert_eq!(cursor(text).date_time().is_ok(), is_date, "{text}");
    }
}

#[test]
fn flags() {
    for (text, is_list) in [
        ("(\\Seen $x y)", true),
        ("()", true),
        ("(\\*)", true),
        ("(\\)", false),
        ("(\\Seen )", false),
        ("(\\Seen  x)", false),
        ("(\"x\")", false),
        ("(a]b)", false),
        ("(\\\\Seen)", false),
    ] {
        assert_eq!(cursor(text).flag_list().is_ok(), is_list, "{text}");
    }
}

#[test]
fn values() {
    for (text, left) in [
        ("a b", Some(" b")),
        ("(a (b \"c)\" {1}\r\n)) d) e", Some(" e")),
        ("((a)(b)(c) d)", Some("")),
        ("()x", Some("x")),
        ("(() ())", Some("")),
        ("(a )", Some("")),
        ("\"a\"b", Some("b")),
        ("1:*,\\Seen<5>[] x", Some(" x")),
        ("(a  b)", None),
        ("( a)", None),
        ("(a", None),
        (")", None),
        ("(\"a\"b)", None),
        ("({1}\r\nab)", None),
        ("(a{1}\r\nb)", None),
        ("\r\n", None),
        ("", None),
    ] {
        let mut cursor = cursor(text);
        let skipped = cursor.skip_value();
        assert_eq!(skipped.ok().map(|()| cursor.rest()), left.map(str::as_bytes), "{text:?}");
    }
}

#[test]
fn nested_lists_are_bounded() {
    let nested = |depth: usize| format!("{}{}", "(".repeat(depth), ")".repeat(depth));
    assert!(cursor(&nested(DEPTH_MAX)).skip_value().is_ok());
    assert!(cursor(&nested(DEPTH_MAX + 1)).skip_value().is_err());
}

#[test]
fn words_end_where_atoms_end() {
    for (text, is_word) in
        [("NIL", true), ("nil)", true), ("NIL ", true), ("NIL]", true), ("NILS", false), ("NI", false)]
    {
        assert_eq!(cursor(text).skip_word(b"NIL"), is_word, "{text}");
    }
}

#[test]
fn the_end_is_one_line_end() {
    for (text, is_end) in
        [("\r\n", true), ("\n", true), ("\r", false), ("", false), (" \r\n", false), ("\r\n\r\n", false)]
    {
        assert_eq!(cursor(text).is_end(), is_end, "{text:?}");
    }
}
