//! Tags and attributes of XML and HTML, as tolerant as a browser: a tag without its end is one, too.

use std::borrow::Cow;

use memchr::memchr;

/// Tags of one document. The document of a long book has a million.
const TAGS_MAX: usize = 5_000_000;
/// Attributes of one tag.
const ATTRIBUTES_MAX: usize = 256;

/// A tag that begins an element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag<'a> {
    /// The name, with its prefix.
    pub(super) name: &'a [u8],
    /// What stands between the name and the tag's end.
    pub(super) inner: &'a [u8],
}

/// The tags of a text.
pub(super) fn tags(text: &[u8]) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let at = memchr(b'<', rest)?;
            let tag = rest.get(at.checked_add(1)?..)?;
            rest = tag;
            if !tag.first()?.is_ascii_alphabetic() && tag.first() != Some(&b'_') {
                continue;
            }
            let inner = tag.get(..end(tag)).unwrap_or_default();
            let is_end = |octet: &u8| octet.is_ascii_whitespace() || *octet == b'/';
            let (name, behind) = inner.split_at(inner.iter().position(is_end).unwrap_or(inner.len()));
            rest = tag.get(inner.len()..).unwrap_or_default();
            return Some(Tag { name, inner: behind });
        }
    })
    .take(TAGS_MAX)
}

/// Where a tag ends: at a `>` outside of quotes, or, where the quotes do not end, at the first `>`.
fn end(tag: &[u8]) -> usize {
    let mut quote = None;
    let mut is_value = false;
    for (at, octet) in tag.iter().enumerate() {
        match (quote, octet) {
            (None, b'>') => return at,
            (None, b'"' | b'\'') if is_value => quote = Some(*octet),
            (Some(open), _) if open == *octet => quote = None,
            _ => {}
        }
        if !octet.is_ascii_whitespace() {
            is_value = *octet == b'=';
        }
    }
    memchr(b'>', tag).unwrap_or(tag.len())
}

impl<'a> Tag<'a> {
    /// The name without its prefix.
    pub(super) fn local(&self) -> &'a [u8] {
        self.name.rsplit(|octet| *octet == b':').next().unwrap_or(self.name)
    }

    /// The attributes: names as they are written, values without quotes and references.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&'a [u8], Cow<'a, [u8]>)> {
        let mut rest = self.inner;
        std::iter::from_fn(move || {
            let is_between = |octet: &u8| octet.is_ascii_whitespace() || matches!(octet, b'/' | b'=');
            let begin = rest.iter().position(|octet| !is_between(octet))?;
            let named = rest.get(begin..)?;
            let is_end = |octet: &u8| octet.is_ascii_whitespace() || *octet == b'=';
            let (name, behind) = named.split_at(named.iter().position(is_end).unwrap_or(named.len()));
            rest = behind;
            let Some(value) = behind.trim_ascii_start().strip_prefix(b"=") else {
                return Some((name, Cow::Borrowed(b"".as_slice())));
            };
            let value = value.trim_ascii_start();
            let (value, behind) = match value.split_first() {
                Some((quote @ (b'"' | b'\''), value)) => {
                    let end = memchr(*quote, value).unwrap_or(value.len());
                    (value.get(..end)?, value.get(end.saturating_add(1)..).unwrap_or_default())
                }
                _ => value.split_at(value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len())),
            };
            rest = behind;
            Some((name, unescaped(value)))
        })
        .take(ATTRIBUTES_MAX)
    }

    /// The value of an attribute, whatever its prefix and its case.
    pub(super) fn attribute(&self, wanted: &[u8]) -> Option<Cow<'a, [u8]>> {
        self.attributes().find_map(|(name, value)| {
            let local = name.rsplit(|octet| *octet == b':').next().unwrap_or(name);
            local.eq_ignore_ascii_case(wanted).then_some(value)
        })
    }
}

/// Octets of a character reference that are looked at.
const REFERENCE_BYTES: usize = 16;

/// Text with its character references replaced. A reference without its semicolon is one, as browsers have it.
pub(super) fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'&', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr(b'&', rest) {
        let (before, from) = rest.split_at(at);
        plain.extend_from_slice(before);
        if let Some((character, length)) = reference(from) {
            plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            rest = from.get(length..).unwrap_or_default();
        } else {
            plain.push(b'&');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    plain.extend_from_slice(rest);
    Cow::Owned(plain)
}

/// The character that a reference at the beginning stands for, and the octets of the reference.
fn reference(from: &[u8]) -> Option<(char, usize)> {
    const NAMED: [(&[u8], char); 14] = [
        (b"amp", '&'),
        (b"lt", '<'),
        (b"gt", '>'),
        (b"quot", '"'),
        (b"apos", '\''),
        (b"colon", ':'),
        (b"comma", ','),
        (b"sol", '/'),
        (b"semi", ';'),
        (b"Tab", '\t'),
        (b"NewLine", '\n'),
        (b"equals", '='),
        (b"plus", '+'),
        (b"period", '.'),
    ];
    let body = from.get(1..REFERENCE_BYTES.min(from.len()))?;
    let with_end = |length: usize| length.saturating_add(1 + usize::from(body.get(length) == Some(&b';')));
    if let Some(number) = body.strip_prefix(b"#") {
        let (digits, radix, skipped) = match number.split_first() {
            Some((b'x' | b'X', digits)) => (digits, 16, 2),
            _ => (number, 10, 1),
        };
        let count = digits.iter().take_while(|octet| char::from(**octet).is_digit(radix)).count();
        let digits = std::str::from_utf8(digits.get(..count)?).ok()?;
        let character = char::from_u32(u32::from_str_radix(digits, radix).ok()?)?;
        return Some((character, with_end(skipped + count)));
    }
    let (name, character) = NAMED.iter().find(|(name, _)| body.starts_with(name))?;
    Some((*character, with_end(name.len())))
}
