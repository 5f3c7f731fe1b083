//! A name as text: encoded words (RFC 2047), charsets, control characters.
//!
//! Patterns are mostly ASCII, and nearly all charsets hold ASCII. So only those that do not are decoded; the octets of
//! the others become characters one by one where they are no UTF-8. Of charsets that are switched within a text, what
//! switches them is left out: it may stand anywhere between two letters.

use super::super::reading::{Base64Decoder, QuotedPrintableDecoder};
use super::params::percent_decoded;

/// The names that a client may read in `raw`.
pub(super) fn names(raw: &[u8], charset: Option<&[u8]>) -> Vec<String> {
    let mut texts = vec![text(raw, None)];
    if charset.is_some() {
        texts.push(text(raw, charset));
    }
    if raw.windows(2).any(|pair| pair == b"=?") {
        texts.push(decoded_words(raw));
    }
    if raw.contains(&b'%') {
        texts.push(text(&percent_decoded(raw), None));
    }
    let switched: Vec<String> = texts.iter().filter_map(|text| without_switches(text)).collect();
    texts.extend(switched);
    let mut names: Vec<String> =
        texts.iter().flat_map(|text| [Some(clean(text)), cut(text)]).flatten().collect();
    names.dedup();
    names
}

/// A text without the sequences that switch charsets, where there are any: those of ISO 2022 (RFC 1468: ESC, octets from
/// space to `/`, and one more) and of HZ (RFC 1843: `~{` and `~}`).
fn without_switches(text: &str) -> Option<String> {
    if !text.contains(['\x1b', '~']) {
        return None;
    }
    let mut bare = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\x1b' => {
                while characters.next_if(|c| (' '..='/').contains(c)).is_some() {}
                characters.next_if(char::is_ascii_graphic);
            }
            '~' if characters.next_if(|c| matches!(c, '{' | '}')).is_some() => {}
            c => bare.push(c),
        }
    }
    Some(bare)
}

/// What stands before the first NUL or line end, where there is one: for a client that ends its strings there.
fn cut(name: &str) -> Option<String> {
    let (begin, _) = name.split_once(['\0', '\r', '\n'])?;
    Some(clean(begin))
}

/// Without control characters, and without the white space around it.
fn clean(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    name.trim().to_owned()
}

/// The text of an unstructured field such as `Subject`, for records: without control characters. An encoded word in a charset
/// that is none of these stays as it was sent, because a wrong text is worse than one that has to be decoded by hand.
pub(crate) fn unstructured_text(raw: &[u8]) -> String {
    let is_known = |charset: &[u8]| {
        matches!(
            charset,
            b"" | b"utf-8" | b"us-ascii" | b"iso-8859-1" | b"utf-16" | b"utf-16be" | b"utf-16le"
        ) || charset.ends_with(b"utf-7")
    };
    let text = if raw.windows(2).any(|pair| pair == b"=?") {
        decoded_where(raw, &is_known)
    } else {
        text(raw, None)
    };
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Octets in a charset as text.
fn text(octets: &[u8], charset: Option<&[u8]>) -> String {
    let charset = charset.map(<[u8]>::to_ascii_lowercase).unwrap_or_default();
    match charset.as_slice() {
        b"utf-16" | b"utf-16be" | b"ucs-2" | b"iso-10646-ucs-2" => {
            utf16(octets, !octets.starts_with(&[0xff, 0xfe]))
        }
        b"utf-16le" => utf16(octets, octets.starts_with(&[0xfe, 0xff])),
        // `unicode-1-1-utf-7`, `x-unicode-2-0-utf-7`, `csUnicode11UTF7`.
        name if name.ends_with(b"utf-7") || name.ends_with(b"utf7") => utf7(octets),
        name if is_ebcdic(name) => octets.iter().map(|octet| of_ebcdic(*octet)).collect(),
        _ => match std::str::from_utf8(octets) {
            Ok(text) => text.to_owned(),
            Err(_) => octets.iter().map(|octet| char::from(*octet)).collect(),
        },
    }
}

/// Whether a charset is one of IBM's that hold no ASCII: `IBM037`, `cp1047`, `ebcdic-cp-us`.
fn is_ebcdic(charset: &[u8]) -> bool {
    const NUMBERS: [&[u8]; 39] = [
        b"037", b"37", b"038", b"273", b"274", b"275", b"277", b"278", b"280", b"281", b"284", b"285",
        b"290", b"297", b"420", b"423", b"424", b"500", b"870", b"871", b"875", b"880", b"905", b"918",
        b"924", b"1025", b"1026", b"1047", b"1140", b"1141", b"1142", b"1143", b"1144", b"1145", b"1146",
        b"1147", b"1148", b"1149", b"1153",
    ];
    let contains = |word: &[u8]| charset.windows(word.len()).any(|window| window == word);
    let letters = charset.iter().rposition(|octet| !octet.is_ascii_digit()).map_or(0, |at| at + 1);
    let number = charset.get(letters..).unwrap_or_default();
    contains(b"ebcdic") || (contains(b"ibm") || contains(b"cp")) && NUMBERS.contains(&number)
}

/// What is the same in all kinds of EBCDIC: letters, digits, and what names of files have beside them.
fn of_ebcdic(octet: u8) -> char {
    let letter = |first: u8, by: u8| char::from(first + (octet & 15) - by);
    match octet {
        0x81..=0x89 => letter(b'a', 1),
        0x91..=0x99 => letter(b'j', 1),
        0xa2..=0xa9 => letter(b's', 2),
        0xc1..=0xc9 => letter(b'A', 1),
        0xd1..=0xd9 => letter(b'J', 1),
        0xe2..=0xe9 => letter(b'S', 2),
        0xf0..=0xf9 => letter(b'0', 0),
        0x4b => '.',
        0x60 => '-',
        0x6d => '_',
        0x40 => ' ',
        0x61 => '/',
        0x7a => ':',
        0 => '\0',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

fn utf16(octets: &[u8], is_big_endian: bool) -> String {
    let units = octets
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| if is_big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) });
    let text = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
    text.filter(|c| *c != '\u{feff}').collect()
}

/// RFC 2152: `+` begins base64 of UTF-16, what is not base64 ends it, and `-` is then left out.
fn utf7(octets: &[u8]) -> String {
    let mut name = String::new();
    let mut rest = octets;
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'+' {
            name.push(char::from(*first));
            continue;
        }
        let is_base64 = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/');
        let length = rest.iter().position(|octet| !is_base64(octet)).unwrap_or(rest.len());
        let (encoded, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if encoded.is_empty() {
            name.push('+');
        }
        name.push_str(&utf16(&base64(encoded), true));
        rest = behind.strip_prefix(b"-").unwrap_or(behind);
    }
    name
}

fn base64(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut decoder = Base64Decoder::default();
    decoder.push(octets, &mut out);
    decoder.flush(&mut out);
    out
}

/// The text with its encoded words decoded. White space between two of them is left out; octets of neighbours in the
/// same charset are joined before they become characters.
fn decoded_words(raw: &[u8]) -> String {
    decoded_where(raw, &|_| true)
}

/// The same of words in charsets of which this holds; others stay encoded.
fn decoded_where(raw: &[u8], is_known: &dyn Fn(&[u8]) -> bool) -> String {
    let mut name = String::new();
    let mut held: (Vec<u8>, Vec<u8>) = Default::default();
    let mut rest = raw;
    // Where no word ends any more, none is looked for: many beginnings must not each search to the end.
    let last_end = raw.windows(2).rposition(|pair| pair == b"?=").unwrap_or(0);
    while !rest.is_empty() {
        let at = rest.windows(2).position(|pair| pair == b"=?").unwrap_or(rest.len());
        let (before, behind) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        let has_end = raw.len() - behind.len() < last_end;
        let word = if has_end { encoded_word(behind) } else { None };
        let word = word.map(|word| if is_known(&word.0) { word } else { as_sent(behind, word) });
        let is_between = word.is_some() && before.trim_ascii().is_empty() && !held.1.is_empty();
        let (charset, octets, behind) = match word {
            Some(word) => word,
            None => (Vec::new(), Vec::new(), behind.get(2..).unwrap_or_default()),
        };
        if !is_between || charset != held.0 {
            name.push_str(&text(&held.1, Some(&held.0)));
            held = (charset, Vec::new());
        }
        if !is_between {
            name.push_str(&text(before, None));
        }
        held.1.extend_from_slice(&octets);
        rest = behind;
    }
    name.push_str(&text(&held.1, Some(&held.0)));
    name
}

/// An encoded word as the octets that were sent.
fn as_sent<'a>(whole: &[u8], (_, _, behind): (Vec<u8>, Vec<u8>, &'a [u8])) -> (Vec<u8>, Vec<u8>, &'a [u8]) {
    let sent = whole.get(..whole.len().saturating_sub(behind.len())).unwrap_or_default();
    (Vec::new(), sent.to_vec(), behind)
}

/// `=?charset*language?B?text?=`: the charset, the octets, and what follows.
fn encoded_word(rest: &[u8]) -> Option<(Vec<u8>, Vec<u8>, &[u8])> {
    let rest = rest.strip_prefix(b"=?")?;
    let mut parts = rest.splitn(3, |octet| *octet == b'?');
    let (charset, encoding, rest) = (parts.next()?, parts.next()?, parts.next()?);
    // Looked at first: the search for the end of each word that is none would take quadratic time.
    if !matches!(encoding, b"B" | b"b" | b"Q" | b"q") {
        return None;
    }
    let length = rest.windows(2).position(|pair| pair == b"?=")?;
    let (encoded, behind) = rest.split_at_checked(length)?;
    let octets = match encoding {
        b"B" | b"b" => base64(encoded),
        b"Q" | b"q" => {
            let spaced: Vec<u8> =
                encoded.iter().map(|octet| if *octet == b'_' { b' ' } else { *octet }).collect();
            let mut out = Vec::new();
            let mut decoder = QuotedPrintableDecoder::default();
            decoder.push(&spaced, &mut out);
            decoder.flush(&mut out);
            out
        }
        _ => return None,
    };
    let charset = charset.split(|octet| *octet == b'*').next().unwrap_or_default().to_ascii_lowercase();
    Some((charset, octets, behind.get(2..).unwrap_or_default()))
}
