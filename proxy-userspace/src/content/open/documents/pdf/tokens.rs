//! Names, references and strings of PDF (ISO 32000-1 section 7.3), read where they stand.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

use crate::content::reading::hex;

/// Octets of a name. The format knows 127.
const NAME_BYTES_MAX: usize = 400;
/// Octets of a string.
const STRING_BYTES_MAX: usize = 4 << 20;
/// Octets of white space and comments between a name and its value.
const BETWEEN_BYTES_MAX: usize = 4_096;

/// What follows a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// To an object, by its number.
    Reference(u32),
    /// It begins here.
    String(&'a [u8]),
    /// It begins here.
    Dictionary,
    /// Something else.
    Other,
}

pub(super) const fn is_space(octet: u8) -> bool {
    matches!(octet, 0 | b'\t' | b'\n' | 12 | b'\r' | b' ')
}

const fn is_delimiter(octet: u8) -> bool {
    matches!(octet, b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' | b'/' | b'%')
}

/// The name whose slash stands at `at`, without its escapes; and what stands behind it.
pub(super) fn name_at(text: &[u8], at: usize) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let from = text.get(at.checked_add(1)?..)?;
    let window = from.get(..NAME_BYTES_MAX).unwrap_or(from);
    let end =
        window.iter().position(|octet| is_space(*octet) || is_delimiter(*octet)).unwrap_or(window.len());
    let (name, behind) = from.split_at_checked(end)?;
    if memchr(b'#', name).is_none() {
        return Some((Cow::Borrowed(name), behind));
    }
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let pair = match rest {
            [b'#', high, low, after @ ..] => hex(*high).zip(hex(*low)).map(|pair| (pair, after)),
            _ => None,
        };
        let (octet, after) = pair.map_or((*first, after), |((high, low), after)| (high << 4 | low, after));
        plain.push(octet);
        rest = after;
    }
    Some((Cow::Owned(plain), behind))
}

/// The names in a text.
pub(super) fn names(text: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    memchr_iter(b'/', text).filter_map(|at| name_at(text, at)).map(|(name, _)| name)
}

/// What follows the first name of this kind.
pub(super) fn behind<'t>(text: &'t [u8], wanted: &[u8]) -> Option<&'t [u8]> {
    all_behind(text, wanted).next()
}

/// What follows each name of this kind.
pub(super) fn all_behind<'t>(text: &'t [u8], wanted: &[u8]) -> impl Iterator<Item = &'t [u8]> {
    memchr_iter(b'/', text)
        .filter_map(|at| name_at(text, at))
        .filter(move |(name, _)| name.as_ref() == wanted)
        .map(|found| found.1)
}

/// The text without white space and comments at its beginning.
pub(super) fn trimmed(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let Some(first) = rest.first() {
        if text.len().saturating_sub(rest.len()) > BETWEEN_BYTES_MAX {
            break;
        }
        if *first == b'%' {
            let window = rest.get(..BETWEEN_BYTES_MAX).unwrap_or(rest);
            let end = window.iter().position(|octet| matches!(octet, b'\r' | b'\n')).unwrap_or(window.len());
            rest = rest.get(end..).unwrap_or_default();
        } else if is_space(*first) {
            rest = rest.get(1..).unwrap_or_default();
        } else {
            break;
        }
    }
    rest
}

/// A number, and what stands behind it.
pub(super) fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let text = trimmed(text);
    let digits = text.iter().take(11).take_while(|octet| octet.is_ascii_digit()).count();
    let (number, behind) = text.split_at_checked(digits)?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, behind))
}

/// What the text begins with.
pub(super) fn value(text: &[u8]) -> Value<'_> {
    let text = trimmed(text);
    match text {
        [b'(', ..] => Value::String(text),
        [b'<', b'<', ..] => Value::Dictionary,
        [b'<', ..] => Value::String(text),
        _ => reference(text).map_or(Value::Other, Value::Reference),
    }
}

fn reference(text: &[u8]) -> Option<u32> {
    let (object, behind) = number(text)?;
    let (_, behind) = number(behind)?;
    trimmed(behind).starts_with(b"R").then_some(object)
}

/// The number of an object whose keyword follows.
pub(super) fn object_number(before: &[u8]) -> Option<u32> {
    let tail = before.get(before.len().saturating_sub(64)..)?;
    let mut words = tail.split(|octet| !octet.is_ascii_digit()).filter(|word| !word.is_empty()).rev();
    let _generation = words.next()?;
    std::str::from_utf8(words.next()?).ok()?.parse().ok()
}

/// The octets of a string, in parentheses or hexadecimal.
pub(super) fn string(text: &[u8]) -> Vec<u8> {
    let text = text.get(..STRING_BYTES_MAX).unwrap_or(text);
    match text.split_first() {
        Some((b'(', rest)) => literal(rest),
        Some((_, rest)) => hexadecimal(rest),
        None => Vec::new(),
    }
}

/// Digits up to a `>`, two an octet.
pub(super) fn hexadecimal(text: &[u8]) -> Vec<u8> {
    let digits = text.get(..memchr(b'>', text).unwrap_or(text.len())).unwrap_or_default();
    let mut values = digits.iter().filter_map(|octet| hex(*octet));
    let mut octets = Vec::with_capacity(digits.len() / 2);
    while let Some(high) = values.next() {
        octets.push(high << 4 | values.next().unwrap_or_default());
    }
    octets
}

fn literal(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut depth = 1u32;
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'(' => depth = depth.saturating_add(1),
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if *first != b'\\' {
            octets.push(*first);
            continue;
        }
        let Some((escaped, behind)) = rest.split_first() else { break };
        rest = behind;
        match escaped {
            b'n' => octets.push(b'\n'),
            b'r' => octets.push(b'\r'),
            b't' => octets.push(b'\t'),
            b'b' => octets.push(8),
            b'f' => octets.push(12),
            b'\n' => {}
            b'\r' => rest = rest.strip_prefix(b"\n").unwrap_or(rest),
            b'0'..=b'7' => {
                let mut octet = escaped - b'0';
                for _ in 0..2 {
                    let Some((digit @ b'0'..=b'7', behind)) = rest.split_first() else { break };
                    octet = octet << 3 | (digit - b'0');
                    rest = behind;
                }
                octets.push(octet);
            }
            other => octets.push(*other),
        }
    }
    octets
}
