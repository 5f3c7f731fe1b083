use proptest::prelude::*;

use super::*;

/// The strings that show any of these fields.
fn of_envelope<'v>(value: &'v str, names: &[&str]) -> Option<Vec<&'v str>> {
    let wanted = |name: &[u8]| names.iter().any(|wanted| wanted.as_bytes() == name);
    let places = in_envelope(value.as_bytes(), &wanted).ok()?;
    Some(places.into_iter().map(|place| &value[place]).collect())
}

fn of_structure<'v>(value: &'v str, names: &[&str]) -> Option<Vec<&'v str>> {
    let wanted = |name: &[u8]| names.iter().any(|wanted| wanted.as_bytes() == name);
    let places = in_structure(value.as_bytes(), &wanted).ok()?;
    Some(places.into_iter().map(|place| &value[place]).collect())
}

const ENVELOPE: &str = "(\"date\" {7}\r\nsubject ((\"From\" NIL \"joe\" \"a.example\")) \
    ((\"From\" NIL \"joe\" \"a.example\")) ((NIL NIL \"list\" \"b.example\")) \
    ((\"A \\\"q\\\"\" NIL \"a\" \"c\")(NIL NIL \"group\" NIL)(NIL NIL NIL NIL)) NIL ((\"ä\" NIL \"b\" \"d\")) NIL \"<id>\")";

#[test]
fn each_member_of_an_envelope_shows_its_own_field() {
    for (name, expected) in [
        ("Date", vec!["date"]),
        ("Subject", vec!["subject"]),
        ("To", vec!["A \\\"q\\\"", "a", "c", "group"]),
        ("Cc", vec![]),
        ("Bcc", vec!["ä", "b", "d"]),
        ("In-Reply-To", vec![]),
        ("Message-ID", vec!["<id>"]),
        ("Reply-To", vec!["list", "b.example"]),
    ] {
        assert_eq!(of_envelope(ENVELOPE, &[name]), Some(expected), "{name}");
    }
}

/// RFC 9051 section 7.5.2: the server puts From where Sender or Reply-To is missing.
#[test]
fn a_member_that_shows_from_is_removed_with_from_and_not_with_its_own_name() {
    let from = ["From", "joe", "a.example"];
    assert_eq!(of_envelope(ENVELOPE, &["From"]), Some([from, from].concat()));
    assert_eq!(of_envelope(ENVELOPE, &["Sender"]), Some(vec![]));
}

const STRUCTURE: &str = "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"x\") \"<id1>\" \"description\" \"7BIT\" 10 2 \"md5\" \
    (\"attachment\" (\"filename\" \"a\")) (\"en\" \"de\") \"loc\" \"future\")\
    (\"MESSAGE\" \"RFC822\" NIL NIL NIL \"8BIT\" 342 (\"d\" \"nested\" NIL NIL NIL NIL NIL NIL NIL NIL) \
    (\"IMAGE\" \"GIF\" NIL \"<id2>\" NIL \"BASE64\" 5) 7 NIL NIL NIL NIL) \
    \"MIXED\" (\"boundary\" \"b\") NIL \"fr\" \"loc2\")";

#[test]
fn each_value_of_a_structure_shows_its_own_field_and_envelopes_in_it_theirs() {
    for (name, expected) in [
        ("Content-ID", vec!["<id1>", "<id2>"]),
        ("Content-Description", vec!["description"]),
        ("Content-MD5", vec!["md5"]),
        ("Content-Language", vec!["en", "de", "fr"]),
        ("Content-Location", vec!["loc", "loc2"]),
        ("Subject", vec!["nested"]),
        ("Content-Type", vec![]),
        ("Content-Disposition", vec![]),
    ] {
        assert_eq!(of_structure(STRUCTURE, &[name]), Some(expected), "{name}");
    }
}

#[test]
fn a_value_that_does_not_parse_shows_nothing_that_could_be_believed() {
    for value in ["", "()", "(\"a\")", "NIL", &ENVELOPE[..ENVELOPE.len() - 1], &format!("{ENVELOPE} ")] {
        assert_eq!(of_envelope(value, &SHOWN_FIELDS), None, "{value}");
    }
    let deep = format!("{}{}", "(".repeat(1_000), ")".repeat(1_000));
    for value in ["", "()", "NIL", "(\"TEXT\" \"PLAIN\")", &STRUCTURE[1..], &deep] {
        assert_eq!(of_structure(value, &SHOWN_FIELDS), None, "{value}");
    }
}

#[test]
fn every_prefix_of_a_value_is_refused() {
    for cut in 0..ENVELOPE.len() {
        let wanted = |_: &[u8]| true;
        assert!(in_envelope(&ENVELOPE.as_bytes()[..cut], &wanted).is_err());
    }
    for cut in 0..STRUCTURE.len() {
        assert!(in_structure(&STRUCTURE.as_bytes()[..cut], &|_| true).is_err());
    }
}

proptest! {
    /// What is found are strings within the value, and with other content of the same length they are found again.
    #[test]
    fn whatever_is_changed_in_a_value_what_is_found_can_be_overwritten(
        at in 0..STRUCTURE.len(), octet: u8, is_envelope: bool
    ) {
        let mut value = if is_envelope { ENVELOPE } else { STRUCTURE }.as_bytes().to_vec();
        let at = at % value.len();
        value[at] = octet;
        let find = |value: &[u8]| {
            if is_envelope { in_envelope(value, &|_| true) } else { in_structure(value, &|_| true) }
        };
        let found = find(&value);
        for place in found.iter().flatten() {
            prop_assert!(!place.is_empty());
            value[place.clone()].fill(b' ');
        }
        prop_assert_eq!(found.is_ok(), find(&value).is_ok());
        prop_assert_eq!(found.unwrap_or_default(), find(&value).unwrap_or_default());
    }
}
