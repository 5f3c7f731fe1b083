//! A name as text: encoded words (RFC 2047), charsets, control characters.
//!
//! Patterns are mostly ASCII, and nearly all charsets hold ASCII. So only those that do not are decoded; the octets of
//! the others become characters one by one where they are no UTF-8.

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
    let mut names: Vec<String> =
        texts.iter().flat_map(|text| [Some(clean(text)), cut(text)]).flatten().collect();
    names.dedup();
    names
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

/// Octets in a charset as text.
fn text(octets: &[u8], charset: Option<&[u8]>) -> String {
    let charset = charset.map(<[u8]>::to_ascii_lowercase).unwrap_or_default();
    match charset.as_slice() {
        b"utf-16" | b"utf-16be" | b"ucs-2" | b"iso-10646-ucs-2" => {
            utf16(octets, !octets.starts_with(&[0xff, 0xfe]))
        }
        b"utf-16le" => utf16(octets, octets.starts_with(&[0xfe, 0xff])),
        b"utf-7" | b"unicode-1-1-utf-7" => utf7(octets),
        _ => match std::str::from_utf8(octets) {
            Ok(text) => text.to_owned(),
            Err(_) => octets.iter().map(|octet| char::from(*octet)).collect(),
        },
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
