use proptest::prelude::*;

use super::super::reading::{Base64Decoder, QuotedPrintableDecoder};
use super::super::samples::{assert_same_lines, base64_lines, program, quoted_printable};
use super::*;

const TEXT: &str =
    "[This attachment was removed by the mail gateway. Reason: it contains a test virus (EICAR).]";

fn filled(leaf: &[u8]) -> Vec<u8> {
    let mut leaf = leaf.to_vec();
    fill(&mut leaf, TEXT);
    leaf
}

fn decoded(leaf: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut decoder = Base64Decoder::default();
    decoder.push(leaf, &mut out);
    decoder.flush(&mut out);
    out
}

#[test]
fn base64_decodes_to_the_text_and_to_the_same_length() {
    for length in 60..130 {
        let leaf = base64_lines(&vec![0xff; length]);
        let after = filled(leaf.as_bytes());
        assert_same_lines(leaf.as_bytes(), &after);
        let file = decoded(&after);
        assert_eq!(file.len(), length);
        let shown = TEXT.len().min(length);
        assert_eq!(file[..shown], TEXT.as_bytes()[..shown]);
        assert!(file[shown..].iter().all(u8::is_ascii_whitespace));
        assert_eq!(after.iter().filter(|octet| **octet == b'=').count(), leaf.matches('=').count());
    }
}

#[test]
fn quoted_printable_keeps_triples_and_soft_breaks() {
    let leaf = quoted_printable(&program());
    let after = filled(leaf.as_bytes());
    assert_same_lines(leaf.as_bytes(), &after);
    let places = |octets: &[u8]| -> Vec<usize> {
        octets.iter().enumerate().filter(|(_, octet)| **octet == b'=').map(|(at, _)| at).collect()
    };
    assert_eq!(places(leaf.as_bytes()), places(&after));
    let mut out = Vec::new();
    QuotedPrintableDecoder::default().push(&after, &mut out);
    assert_eq!(out.len(), program().len());
    assert!(out.starts_with(TEXT.as_bytes()), "{}", String::from_utf8_lossy(&out));
}

#[test]
fn text_is_read_in_words_where_lines_are_wide_enough() {
    let line = "some words in a line that is not short but not long either\r\n";
    let leaf = format!("Hi,\r\n\r\n{}", line.repeat(4));
    let after = String::from_utf8(filled(leaf.as_bytes())).unwrap();
    let words: Vec<&str> = after.split_ascii_whitespace().collect();
    assert_eq!(words.join(" "), TEXT);
    assert!(after.starts_with("   \r\n\r\n[This attachment"), "{after}");
}

#[test]
fn html_has_no_tags_left() {
    let after = filled("<html><body onload=\"x()\">text</body></html>\r\n".repeat(9).as_bytes());
    assert!(!after.iter().any(|octet| matches!(octet, b'<' | b'>' | b'&' | b'"')));
}

/// Text in UTF-16 or UTF-32.
fn wide(text: &str, width: usize, is_big_endian: bool, mark: &[u8]) -> Vec<u8> {
    let mut octets = mark.to_vec();
    for c in text.chars() {
        let mut character = (c as u32).to_le_bytes()[..width].to_vec();
        if is_big_endian {
            character.reverse();
        }
        octets.extend(character);
    }
    octets
}

const WIDE: [(usize, bool, &[u8]); 8] = [
    (2, false, &[0xff, 0xfe]),
    (2, true, &[0xfe, 0xff]),
    (4, false, &[0xff, 0xfe, 0, 0]),
    (4, true, &[0, 0, 0xfe, 0xff]),
    (2, false, &[]),
    (2, true, &[]),
    (4, false, &[]),
    (4, true, &[]),
];

#[test]
fn wide_characters_are_read_as_the_text_in_every_encoding() {
    let secret = "A secret text, which is long enough.\r\nAnd has lines.\r\n".repeat(4);
    for (width, is_big_endian, mark) in WIDE {
        let file = wide(&secret, width, is_big_endian, mark);
        let expected = wide(TEXT, width, is_big_endian, mark);
        let shown = |octets: &[u8]| -> Vec<u8> {
            let characters = octets[mark.len()..].chunks_exact(width);
            let low = if is_big_endian { width - 1 } else { 0 };
            characters.map(|character| character[low]).filter(|octet| *octet >= b' ').collect()
        };
        let leaf = base64_lines(&file);
        let after = filled(leaf.as_bytes());
        assert_same_lines(leaf.as_bytes(), &after);
        assert!(decoded(&after).starts_with(&expected), "{width} {is_big_endian}");
        assert_eq!(decoded(&after).len(), file.len());

        let quoted = quoted_printable(&file);
        let after = filled(quoted.as_bytes());
        assert_same_lines(quoted.as_bytes(), &after);
        let read = Reading::QuotedPrintable.decoded(&after);
        assert_eq!(read.len(), file.len());
        for (name, read, mark) in [("quoted-printable", read, mark), ("8bit", filled(&file), mark)] {
            assert!(read.starts_with(mark), "{name}");
            let text = shown(&read);
            assert!(text.starts_with(TEXT.as_bytes()), "{name} {width} {}", String::from_utf8_lossy(&text));
            assert!(text[TEXT.len()..].iter().all(|octet| *octet == b' '), "{name}");
        }
        assert_same_lines(&file, &filled(&file));
    }
}

#[test]
fn what_only_begins_like_wide_text_is_filled_in_single_octets() {
    for leaf in [program(), vec![0; 300], b"ab\0\0".repeat(9), b"a\0b\0cdef".repeat(9)] {
        let after = filled(base64_lines(&leaf).as_bytes());
        let shown = leaf.len().min(TEXT.len());
        assert_eq!(decoded(&after)[..shown], TEXT.as_bytes()[..shown]);
    }
}

fn leaves() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "\r\n",
        "\n",
        "\r",
        "=\r\n",
        "= \r\n",
        "=",
        "==",
        "=41",
        "=zz",
        "QUJD",
        "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo",
        "a b",
        "word",
        "<p>",
        "\u{e4}",
        " ",
        "\t",
        ".",
        "-",
        "[Th",
        "attachment",
        "=20",
        "=\r",
        "a line that is wide enough for all the words of a text that is long",
    ];
    let mixed = prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..60);
    prop_oneof![
        mixed.prop_map(|pieces| pieces.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|octets| base64_lines(&octets).into_bytes()),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|octets| quoted_printable(&octets).into_bytes()),
        wide_leaves(),
    ]
}

/// Text in wide characters, some of them not Latin, cut anywhere, in every encoding.
fn wide_leaves() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof!["[ -~\r\n]{0,60}", "[ -~\r\n\u{4e00}-\u{4eff}\u{d00}-\u{dff}=]{0,60}"];
    (text, 0..WIDE.len(), 0..4_usize, 0..3_usize).prop_map(|(text, charset, cut, encoding)| {
        let (width, is_big_endian, mark) = WIDE[charset];
        let mut file = wide(&text, width, is_big_endian, mark);
        file.truncate(file.len().saturating_sub(cut));
        match encoding {
            0 => base64_lines(&file).into_bytes(),
            1 => quoted_printable(&file).into_bytes(),
            _ => file,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn lengths_and_lines_stay_and_a_second_fill_changes_nothing(leaf in leaves(), text in "[ -~]{0,80}") {
        let mut once = leaf.clone();
        fill(&mut once, &text);
        assert_same_lines(&leaf, &once);
        let mut twice = once.clone();
        fill(&mut twice, &text);
        prop_assert_eq!(String::from_utf8_lossy(&once), String::from_utf8_lossy(&twice));
    }

    /// Two leaves of the same layout become the same: so nothing of either is left.
    #[test]
    fn nothing_of_the_leaf_is_left(octets in prop::collection::vec(any::<u8>(), 60..300), seed in any::<u8>()) {
        let other: Vec<u8> = octets.iter().map(|octet| octet ^ seed).collect();
        prop_assert_eq!(filled(base64_lines(&octets).as_bytes()), filled(base64_lines(&other).as_bytes()));
        let letters = |octets: &[u8]| -> Vec<u8> { octets.iter().map(|octet| b"abcdefgh,.-!<> \xe4"[usize::from(*octet) % 16]).collect() };
        let mut plain = (letters(&octets), letters(&other));
        // Base64 is recognised by its lines: these have none.
        for leaf in [&mut plain.0, &mut plain.1] {
            leaf.splice(..0, b"<!-- text, and no base64 -->".repeat(30));
        }
        prop_assert_eq!(filled(&plain.0), filled(&plain.1));
    }

    /// Whether the line end before the boundary belongs to a leaf is a matter of the view.
    #[test]
    fn a_line_end_behind_the_leaf_changes_nothing(leaf in leaves()) {
        let mut longer = leaf.clone();
        longer.extend_from_slice(b"\r\n");
        let after = filled(&longer);
        prop_assert_eq!(filled(&leaf), &after[..leaf.len()]);
    }

    #[test]
    fn no_character_of_markup_is_written(leaf in leaves()) {
        let after = filled(&leaf);
        for (at, (before, after)) in leaf.iter().zip(&after).enumerate() {
            // A mark of UTF-16 or UTF-32 stays.
            let is_mark = at < 4 && before == after && matches!(after, 0xfe | 0xff);
            prop_assert!(is_mark || !matches!(after, b'<' | b'>' | b'&' | b'%' | b'"' | b'\\' | 0x80..));
            prop_assert!(*after != b'=' || *before == b'=');
        }
    }
}
