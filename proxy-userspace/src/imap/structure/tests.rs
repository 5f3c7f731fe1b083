use proptest::prelude::*;

use super::*;

/// Each part as `path type/subtype name octets`, with a mark for what has parts of its own.
fn described(value: &str) -> Option<Vec<String>> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let part = |part: StructurePart| {
        let path = part.path.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
        let names = part.names.iter().map(|name| text(name)).collect::<Vec<_>>();
        let name = if names.is_empty() { "-".to_owned() } else { names.join("|") };
        let mark = if part.is_multipart {
            "*"
        } else if part.is_message {
            "@"
        } else {
            ""
        };
        let (kind, subtype) = (text(&part.media.0), text(&part.media.1));
        format!("{mark}{path} {kind}/{subtype} {name} {} {}", text(&part.encoding), part.octets)
    };
    Structure::parse(value.as_bytes()).map(|structure| structure.parts.into_iter().map(part).collect())
}

const PLAIN: &str = "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 3028 92)";

#[test]
fn a_single_part() {
    for value in [
        PLAIN,
        "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 3028 92 NIL NIL NIL NIL)",
        "(\"TEXT\" \"PLAIN\" () \"<id>\" \"description\" \"7BIT\" 3028 92 \"md5\" (\"inline\" NIL) (\"en\" \"de\") \"loc\" (1 (2)))",
        "({4}\r\nTEXT \"PLAIN\" NIL NIL {3}\r\n) ( {4}\r\n7BIT 3028)",
    ] {
        assert_eq!(described(value), Some(vec!["1 TEXT/PLAIN - 7BIT 3028".to_owned()]), "{value}");
    }
}

#[test]
fn the_structure_of_rfc_3501() {
    let value = "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 1152 23)\
        (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\" \"NAME\" \"cc.diff\") \"<960723163407@cac>\" \"Compiler diff\" \
        \"BASE64\" 4554 73) \"MIXED\")";
    assert_eq!(
        described(value).unwrap(),
        ["* multipart/MIXED -  0", "1 TEXT/PLAIN - 7BIT 1152", "2 TEXT/PLAIN cc.diff BASE64 4554"]
    );
}

/// RFC 3501 section 6.4.5 numbers such a message.
#[test]
fn messages_within_messages() {
    let image =
        "(\"IMAGE\" \"GIF\" NIL NIL NIL \"BASE64\" 9 NIL (\"attachment\" (\"filename\" \"a.gif\")) NIL)";
    let envelope = "(\"date\" \"sub\\\"ject\" NIL NIL NIL NIL ((NIL NIL \"a\" \"b\")) NIL NIL \"<id>\")";
    let inner = format!(
        "({PLAIN}({PLAIN}{image} \"RELATED\" (\"TYPE\" \"x\") NIL NIL) \"MIXED\" (\"BOUNDARY\" \"x\"))"
    );
    let message = |body: &str| {
        format!(
            "(\"MESSAGE\" \"RFC822\" (\"NAME\" \"m.eml\") NIL NIL \"7BIT\" 5000 {envelope} {body} 70 NIL \
            (\"attachment\" (\"FILENAME\" \"n.eml\")) NIL NIL)"
        )
    };
    let value = format!("({PLAIN}{}{} \"MIXED\" NIL NIL NIL NIL)", message(&inner), message(&message(PLAIN)));
    assert_eq!(
        described(&value).unwrap(),
        [
            "* multipart/MIXED -  0",
            "1 TEXT/PLAIN - 7BIT 3028",
            "@2 MESSAGE/RFC822 m.eml|n.eml 7BIT 5000",
            "*2 multipart/MIXED -  0",
            "2.1 TEXT/PLAIN - 7BIT 3028",
            "*2.2 multipart/RELATED -  0",
            "2.2.1 TEXT/PLAIN - 7BIT 3028",
            "2.2.2 IMAGE/GIF a.gif BASE64 9",
            "@3 MESSAGE/RFC822 m.eml|n.eml 7BIT 5000",
            "@3.1 MESSAGE/RFC822 m.eml|n.eml 7BIT 5000",
            "3.1.1 TEXT/PLAIN - 7BIT 3028",
        ]
    );
    assert_eq!(described(&message(PLAIN)).unwrap().len(), 2);
}

#[test]
fn names() {
    for (parameters, disposition, name) in [
        ("(\"name\" \"a.exe\")", "NIL", "a.exe"),
        ("(\"NAME\" \"a.txt\")", "(\"attachment\" (\"FileName\" \"b.exe\"))", "a.txt|b.exe"),
        ("(\"name\" \"a.exe\")", "(\"inline\" ())", "a.exe"),
        ("(\"x\" \"y\" \"name*\" \"utf-8''a%20b.exe\")", "NIL", "utf-8''a%20b.exe"),
        (
            "NIL",
            "(\"attachment\" (\"filename*0*\" \"utf-8''a\" \"size\" \"5\" \"filename*1\" \".exe\"))",
            "utf-8''a.exe",
        ),
        (
            "NIL",
            "(\"attachment\" (\"filename*1\" \"exe\" \"filename*\" \"x\" \"filename*0\" \"a.\"))",
            "x|exea.|a.exe",
        ),
        ("NIL", "(\"attachment\" (\"filename\" \"a\\\"b\\\\.exe\"))", "a\"b\\.exe"),
        ("NIL", "(\"attachment\" (\"filename\" {5}\r\na.exe))", "a.exe"),
        ("(\"filename\" \"a\" \"names\" \"b\")", "(\"attachment\" (\"name\" \"c\"))", "-"),
    ] {
        let value = format!("(\"A\" \"B\" {parameters} NIL NIL \"x\" 1 NIL {disposition})");
        assert_eq!(described(&value).unwrap(), [format!("1 A/B {name} x 1")]);
    }
}

#[test]
fn a_message_that_the_server_could_not_parse_is_a_leaf() {
    let value = "(\"message\" \"rfc822\" NIL NIL NIL \"base64\" 5 NIL (\"attachment\" (\"filename\" \"a.eml\")) NIL NIL)";
    assert_eq!(described(value).unwrap(), ["1 message/rfc822 a.eml base64 5"]);
    assert_eq!(described("(\"message\" \"delivery-status\" NIL NIL NIL \"7bit\" 5)").unwrap().len(), 1);
}

#[test]
fn what_does_not_parse_is_not_believed() {
    for value in [
        "",
        "NIL",
        "()",
        "(())",
        "(NIL)",
        "(\"a\")",
        "(\"a\" \"b\")",
        "(\"a\" \"b\" NIL NIL NIL \"x\")",
        "(\"a\" \"b\" NIL NIL NIL \"x\" \"5\")",
        "(\"a\" \"b\" NIL NIL NIL \"x\" -5)",
        "(\"a\" \"b\" (\"name\") NIL NIL \"x\" 5)",
        "(\"a\" \"b\" (\"name\" \"x \"y\" z\") NIL NIL \"x\" 5)",
        "(a b NIL NIL NIL x 5)",
        "(\"a\" \"b\" NIL NIL NIL \"x\" 5",
        "(\"a\" \"b\" NIL NIL NIL \"x\" 5))",
        "(\"a\" \"b\" NIL NIL NIL \"x\" 5) ",
        "((\"a\" \"b\" NIL NIL NIL \"x\" 5))",
        "((\"a\" \"b\" NIL NIL NIL \"x\" 5) (\"a\" \"b\" NIL NIL NIL \"x\" 5) \"mixed\")",
        "(\"message\" \"rfc822\" NIL NIL NIL \"x\" 5 (NIL) (\"a\" \"b\" NIL NIL NIL \"x\" 5))",
        "(\"message\" \"rfc822\" NIL NIL NIL \"x\" 5 () 5)",
    ] {
        assert_eq!(described(value), None, "{value}");
    }
}

#[test]
fn no_prefix_is_a_structure() {
    let value =
        format!("({PLAIN}(\"message\" \"rfc822\" NIL NIL NIL \"x\" 5 (NIL) {PLAIN} 7) \"mixed\" NIL NIL)");
    assert_eq!(described(&value).unwrap().len(), 4);
    for len in 0..value.len() {
        assert_eq!(described(&value[..len]), None, "{len}");
    }
}

#[test]
fn bounds() {
    let flat = |parts: usize| format!("({} \"mixed\")", "(\"a\" \"b\" NIL NIL NIL \"x\" 1)".repeat(parts));
    assert_eq!(described(&flat(STRUCTURE_PARTS_MAX - 1)).unwrap().len(), STRUCTURE_PARTS_MAX);
    assert_eq!(described(&flat(STRUCTURE_PARTS_MAX)), None);
    let deep = |depth: usize| format!("{}{PLAIN}{}", "(".repeat(depth), " \"mixed\")".repeat(depth));
    assert_eq!(described(&deep(STRUCTURE_DEPTH_MAX - 1)).unwrap().len(), STRUCTURE_DEPTH_MAX);
    assert_eq!(described(&deep(STRUCTURE_DEPTH_MAX)), None);
    assert_eq!(described(&deep(1_000_000)), None);
    let message = "(\"message\" \"rfc822\" NIL NIL NIL \"x\" 5 (NIL) ";
    let nested = |depth: usize| format!("{}{PLAIN}{}", message.repeat(depth), " 7)".repeat(depth));
    assert_eq!(described(&nested(100)).unwrap().len(), 101);
    assert_eq!(described(&nested(100_000)), None);
}

fn bodies() -> impl Strategy<Value = String> {
    let leaf = Just(PLAIN.to_owned());
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4)
                .prop_map(|parts| format!("({} \"mixed\")", parts.concat())),
            inner.prop_map(|body| format!("(\"message\" \"rfc822\" NIL NIL NIL \"x\" 5 (NIL) {body} 7)")),
        ]
    })
}

proptest! {
    #[test]
    fn every_leaf_has_a_path_of_its_own(body in bodies()) {
        let parts = Structure::parse(body.as_bytes()).unwrap().parts;
        let mut paths: Vec<&Vec<u32>> = parts.iter().filter(|part| !part.is_multipart).map(|part| &part.path).collect();
        prop_assert_eq!(paths.len(), body.matches("NIL NIL \"").count());
        paths.sort();
        paths.dedup();
        prop_assert_eq!(paths.len(), body.matches("NIL NIL \"").count());
    }

    #[test]
    fn changed_structures_do_not_panic(body in bodies(), at in any::<prop::sample::Index>(), octet in any::<u8>()) {
        let mut body = body.into_bytes();
        let at = at.index(body.len());
        body[at] = octet;
        let _ = Structure::parse(&body);
        let _ = Structure::parse(&body[at..]);
    }
}
