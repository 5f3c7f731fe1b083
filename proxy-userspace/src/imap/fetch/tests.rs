use proptest::prelude::*;

use super::*;

fn request(arguments: &str) -> Result<FetchRequest<'_>, Malformed> {
    let mut cursor = Cursor::new(arguments.as_bytes());
    let request = FetchRequest::parse(&mut cursor)?;
    if cursor.rest().is_empty() { Ok(request) } else { Err(cursor.malformed()) }
}

fn item(arguments: &str) -> Result<FetchItem, Malformed> {
    let mut cursor = Cursor::new(arguments.as_bytes());
    let item = FetchItem::parse(&mut cursor)?;
    if cursor.rest().is_empty() { Ok(item) } else { Err(cursor.malformed()) }
}

fn section(text: &str) -> Result<Section, Malformed> {
    let mut cursor = Cursor::new(text.as_bytes());
    let section = Section::parse(&mut cursor)?;
    if cursor.rest().is_empty() { Ok(section) } else { Err(cursor.malformed()) }
}

fn spelled(item: &FetchItem) -> String {
    let mut out = Vec::new();
    item.write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn items_are_written_as_they_came() {
    for text in [
        "FLAGS",
        "UID",
        "INTERNALDATE",
        "RFC822.SIZE",
        "ENVELOPE",
        "BODY",
        "BODYSTRUCTURE",
        "MODSEQ",
        "SAVEDATE",
        "EMAILID",
        "THREADID",
        "X-GM-MSGID",
        "X-GM-THRID",
        "X-GM-LABELS",
        "RFC822",
        "RFC822.HEADER",
        "RFC822.TEXT",
        "BODY[]",
        "BODY.PEEK[]",
        "BODY[]<0.1>",
        "BODY.PEEK[]<4294967295.4294967295>",
        "BODY[HEADER]",
        "BODY[TEXT]<65536.73728>",
        "BODY[1]",
        "BODY[0]",
        "BODY[1.2.3.MIME]",
        "BODY[999999999.TEXT]",
        "BODY.PEEK[2.HEADER]",
        "BODY.PEEK[HEADER.FIELDS (Date FROM)]",
        "BODY.PEEK[3.1.HEADER.FIELDS.NOT (X-A)]<5.6>",
        "BODY[HEADER.FIELDS (\"a(b\" \"c]\" \"d\\\\e\\\"\" NIL)]",
    ] {
        let item = item(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
        assert!(!matches!(item, FetchItem::Unknown(_)), "{text}");
        assert_eq!(spelled(&item), text);
        assert_eq!(self::item(&text.to_ascii_lowercase()).unwrap(), item, "in any case");
    }
}

#[test]
fn items_that_are_not_known_keep_their_name_only() {
    for (text, name) in [
        ("PREVIEW", "PREVIEW"),
        ("PREVIEW (LAZY)", "PREVIEW"),
        ("SNIPPET (LAZY=FUZZY)", "SNIPPET"),
        ("BINARY[1.2]", "BINARY["),
        ("BINARY.PEEK[1]<0.5>", "BINARY.PEEK["),
        ("BINARY.SIZE[1]", "BINARY.SIZE["),
        ("RFC822.PEEK", "RFC822.PEEK"),
        ("RFC822.TEXT.PEEK", "RFC822.TEXT.PEEK"),
        ("RFC822.HEADER.LINES (A B)", "RFC822.HEADER.LINES"),
        ("RFC822.HEADER.LINES.NOT (A B)", "RFC822.HEADER.LINES.NOT"),
        ("RFC822[]", "RFC822["),
        ("RFC822<0.5>", "RFC822<"),
        ("BODY<0.5>", "BODY<"),
        ("FLAGS[]", "FLAGS["),
        ("BODYSTRUCTURE[1]", "BODYSTRUCTURE["),
        ("BODY.PEEK", "BODY.PEEK"),
        ("BODY.PEEKX[]", "BODY.PEEKX["),
        ("DIGEST.SHA1", "DIGEST.SHA1"),
        ("ANNOTATION (/* value.priv)", "ANNOTATION"),
        ("ALL", "ALL"),
        ("X[{3}\r\na]b \"]\"]", "X["),
    ] {
        let Ok(FetchItem::Unknown(found)) = item(text) else { panic!("{text}: {:?}", item(text)) };
        assert_eq!(found, name.as_bytes());
    }
    let long = "X".repeat(70_000);
    assert_eq!(item(&long), Ok(FetchItem::Unknown(vec![b'X'; ITEM_NAME_BYTES_MAX])));
}

#[test]
fn items_that_are_malformed() {
    for text in [
        "",
        "5",
        "BODY[",
        "BODY[]]",
        "BODY[] ",
        "BODY [ ]",
        "BODY[ ]",
        "BODY[MIME]",
        "BODY[1.]",
        "BODY[.1]",
        "BODY[1..2]",
        "BODY[1.HEADER",
        "BODY[1.X]",
        "BODY[1TEXT]",
        "BODY[-1]",
        "BODY[+1]",
        "BODY[1234567890]",
        "BODY[0000000001]",
        "BODY[HEADER.TEXT]",
        "BODY[TEXT.1]",
        "BODY[HEADER.FIELDS]",
        "BODY[HEADER.FIELDS ()]",
        "BODY[HEADER.FIELDS (]",
        "BODY[HEADER.FIELDS (A]",
        "BODY[HEADER.FIELDS (A)",
        "BODY[HEADER.FIELDS  (A)]",
        "BODY[HEADER.FIELDS (A  B)]",
        "BODY[HEADER.FIELDS (A )]",
        "BODY[HEADER.FIELDS A]",
        "BODY[HEADER.FIELDS (\"\")]",
        "BODY[HEADER.FIELDS (\"a b\")]",
        "BODY[HEADER.FIELDS (A:)]",
        "BODY[HEADER.FIELDS ({3}\r\na\r\n)]",
        "BODY[HEADER.FIELDS (\"\u{e9}\")]",
        "BODY[HEADER.FIELDS.NOTX (A)]",
        "BODY[]<0>",
        "BODY[]<4>",
        "BODY[]<0.0>",
        "BODY[]<.5>",
        "BODY[]<0.>",
        "BODY[]<0.-1>",
        "BODY[]<0.4294967296>",
        "BODY[]<4294967296.1>",
        "BODY[]<0.5",
        "BODY[]<0.5><0.5>",
        "BODY[]<0.5.5>",
        "X[",
        "X[\"]",
        "X<",
        "X<a>",
    ] {
        assert!(item(text).is_err(), "{text}: {:?}", item(text));
    }
}

#[test]
fn sections_are_equal_when_they_mean_the_same() {
    for (one, other) in [
        ("[02]", "[2]"),
        ("[1.002.text]", "[1.2.TEXT]"),
        ("[HEADER.FIELDS (SUBJECT from)]", "[header.fields (\"From\" \"subject\")]"),
        ("[HEADER.FIELDS (SUBJECT from)]", "[HEADER.FIELDS ({4}\r\nFROM Subject subject)]"),
        ("[HEADER.FIELDS (\"a\\\"b\")]", "[HEADER.FIELDS ({3}\r\na\"b)]"),
    ] {
        assert_eq!(section(one).unwrap(), section(other).unwrap());
    }
    let different = [
        "[]",
        "[1]",
        "[2]",
        "[1.1]",
        "[0]",
        "[TEXT]",
        "[HEADER]",
        "[1.TEXT]",
        "[1.MIME]",
        "[1.HEADER]",
        "[HEADER.FIELDS (A)]",
        "[HEADER.FIELDS.NOT (A)]",
        "[HEADER.FIELDS (A B)]",
        "[1.HEADER.FIELDS (A)]",
    ];
    for one in different {
        for other in different {
            assert_eq!(section(one).unwrap() == section(other).unwrap(), one == other, "{one} {other}");
        }
    }
}

#[test]
fn forms_of_rfc_822_stand_for_sections() {
    for (text, meant) in [("RFC822", "[]"), ("RFC822.HEADER", "[HEADER]"), ("RFC822.TEXT", "[TEXT]")] {
        let Ok(FetchItem::Content(content)) = item(text) else { panic!() };
        assert_eq!((content.section, content.partial), (section(meant).unwrap(), None));
    }
}

#[test]
fn requests() {
    for (text, written) in [
        ("1 FLAGS", "1 (FLAGS)"),
        ("1:*,7 (UID BODY.PEEK[])", "1:*,7 (UID BODY.PEEK[])"),
        ("$ body[]<0.1>", "$ (BODY[]<0.1>)"),
        ("1 all", "1 ALL"),
        ("1 FAST (CHANGEDSINCE 5)", "1 FAST (CHANGEDSINCE 5)"),
        ("1 (FLAGS) (changedsince 5 VANISHED)", "1 (FLAGS) (changedsince 5 VANISHED)"),
        ("1 PREVIEW (LAZY)", "1 (PREVIEW)"),
    ] {
        let mut out = Vec::new();
        request(text).unwrap().write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), written);
    }
    for text in [
        "",
        "1",
        "1 ",
        "1 ()",
        "1 (FLAGS",
        "1 (FLAGS )",
        "1 ( FLAGS)",
        "1 (FLAGS  UID)",
        "1 FLAGS UID",
        "1 ((FLAGS))",
        "1 (FLAGS)(UID)",
        "1 (FLAGS),",
        "1  FLAGS",
        "0 FLAGS",
        "1:0 FLAGS",
        "a FLAGS",
        "1 FLAGS ()",
        "1 ALL ALL",
    ] {
        assert!(request(text).is_err(), "{text}: {:?}", request(text));
    }
}

#[test]
fn macros_stand_for_items_and_only_alone() {
    assert_eq!(request("1 FULL").unwrap().items, [FetchItem::Full]);
    assert_eq!(request("1 (FULL)").unwrap().items, [FetchItem::Unknown(b"FULL".to_vec())]);
    let spelled_out = |name: FetchItem| name.members().iter().map(spelled).collect::<Vec<_>>().join(" ");
    assert_eq!(spelled_out(FetchItem::Fast), "FLAGS INTERNALDATE RFC822.SIZE");
    assert_eq!(spelled_out(FetchItem::All), "FLAGS INTERNALDATE RFC822.SIZE ENVELOPE");
    assert_eq!(spelled_out(FetchItem::Full), "FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY");
    assert_eq!(FetchItem::Flags.members(), []);
}

#[test]
fn a_single_number() {
    for (set, number) in [
        ("5", Some(5)),
        ("05", Some(5)),
        ("4294967295", Some(u32::MAX)),
        ("5:5", None),
        ("5,6", None),
        ("5:*", None),
        ("*", None),
        ("$", None),
    ] {
        assert_eq!(request(&format!("{set} FLAGS")).unwrap().single(), number);
    }
}

#[test]
fn bounds() {
    let items = |count: usize| format!("1 ({})", vec!["UID"; count].join(" "));
    assert!(request(&items(FETCH_ITEMS_MAX)).is_ok());
    assert!(request(&items(FETCH_ITEMS_MAX + 1)).is_err());
    let path = |depth: usize| format!("[{}]", vec!["1"; depth].join("."));
    assert!(section(&path(SECTION_DEPTH_MAX)).is_ok());
    assert!(section(&path(SECTION_DEPTH_MAX + 1)).is_err());
    let names = |count: usize| format!("[HEADER.FIELDS ({})]", vec!["A"; count].join(" "));
    assert!(section(&names(FIELD_NAMES_MAX)).is_ok());
    assert!(section(&names(FIELD_NAMES_MAX + 1)).is_err());
    let name = |octets: usize| format!("[HEADER.FIELDS ({})]", "A".repeat(octets));
    assert!(section(&name(FIELD_NAME_BYTES_MAX)).is_ok());
    assert!(section(&name(FIELD_NAME_BYTES_MAX + 1)).is_err());
}

fn sections() -> impl Strategy<Value = Section> {
    let name = proptest::collection::vec((33_u8..127).prop_filter("a colon", |octet| *octet != b':'), 1..6);
    let fields = (any::<bool>(), proptest::collection::vec(name, 1..4))
        .prop_map(|(not, names)| SectionText::HeaderFields { not, names });
    let text = prop_oneof![
        Just(SectionText::Whole),
        Just(SectionText::Header),
        Just(SectionText::Text),
        Just(SectionText::Mime),
        fields,
    ];
    (proptest::collection::vec(0_u32..1_000_000_000, 0..5), text).prop_map(|(path, text)| match text {
        SectionText::Mime if path.is_empty() => Section { path: vec![1], text },
        text => Section { path, text },
    })
}

fn items() -> impl Strategy<Value = FetchItem> {
    let forms = [ContentForm::Rfc822, ContentForm::Rfc822Header, ContentForm::Rfc822Text];
    let old = prop::sample::select(forms.to_vec()).prop_map(|form| ContentItem {
        form,
        section: form.section(),
        partial: None,
    });
    let form = prop::sample::select(vec![ContentForm::Body, ContentForm::BodyPeek]);
    let partial = proptest::option::of((any::<u32>(), 1..u32::MAX))
        .prop_map(|partial| partial.map(|(start, octets)| Partial { start, octets }));
    let new = (form, sections(), partial).prop_map(|(form, section, partial)| ContentItem {
        form,
        section,
        partial,
    });
    let plain: Vec<FetchItem> = PLAIN_ITEMS.iter().map(|(_, item)| item.clone()).collect();
    prop_oneof![
        prop::sample::select(plain),
        old.prop_map(FetchItem::Content),
        new.prop_map(FetchItem::Content),
        "X[A-Z.-]{1,9}".prop_map(|name| FetchItem::Unknown(name.into_bytes())),
    ]
}

proptest! {
    #[test]
    fn what_is_written_parses_to_the_same(items in proptest::collection::vec(items(), 1..6), modified in any::<bool>()) {
        let items: Vec<FetchItem> = items
            .into_iter()
            .filter(|item| !matches!(item, FetchItem::Unknown(name) if name.starts_with(b"X-GM")))
            .collect();
        prop_assume!(!items.is_empty());
        let modifiers = modified.then_some(b"(CHANGEDSINCE 5)".as_slice());
        let written = FetchRequest { set: b"1:5", items, modifiers };
        let mut out = Vec::new();
        written.write(&mut out);
        let text = String::from_utf8(out).unwrap();
        let parsed = request(&text);
        prop_assert_eq!(parsed.as_ref(), Ok(&written), "{}", text);
        let mut again = Vec::new();
        parsed.unwrap().write(&mut again);
        prop_assert_eq!(text.as_bytes(), again);
    }

    #[test]
    fn prefixes_and_changes_do_not_panic(item in items(), cut in any::<prop::sample::Index>(), octet in any::<u8>()) {
        let mut out = spelled(&item).into_bytes();
        let cut = cut.index(out.len());
        let _ = FetchItem::parse(&mut Cursor::new(&out[..cut]));
        out[cut] = octet;
        let _ = FetchItem::parse(&mut Cursor::new(&out));
    }
}
