//! Parameters of a field, in every reading: RFC 2045 section 5.1, RFC 2231, and what clients accept beyond them.

use super::super::limits::{LOOSE_MAX, NAMES_MAX, PARAMETERS_MAX};
use super::super::reading::hex;

/// A name as it stands in the field, and its charset where that is given apart (RFC 2231 section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawName {
    pub(super) value: Vec<u8>,
    pub(super) charset: Option<Vec<u8>>,
}

/// What counts in the parameters of a field.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    pub(super) names: Vec<RawName>,
    pub(super) boundaries: Vec<Vec<u8>>,
    pub(super) is_excessive: bool,
}

/// One parameter. The key is in lower case.
type Parameter = (Vec<u8>, Vec<u8>);

impl Parameters {
    pub(super) fn read(value: &[u8]) -> Self {
        let mut all = Self::default();
        let bare = without_comments(value);
        let mut readings = vec![quoted(value), naive(value)];
        if bare != value {
            readings.push(quoted(&bare));
            readings.push(naive(&bare));
        }
        for parameters in &readings {
            all.is_excessive |= parameters.len() >= PARAMETERS_MAX;
            for base in [b"name".as_slice(), b"filename"] {
                for name in joined(parameters, base) {
                    all.add_name(name);
                }
            }
            for boundary in joined(parameters, b"boundary") {
                all.add_boundary(boundary.value);
            }
        }
        for value in all.loose(value, b"name") {
            all.add_name(RawName { value, charset: None });
        }
        for value in all.loose(value, b"boundary") {
            all.add_boundary(value);
        }
        all
    }

    fn add_name(&mut self, name: RawName) {
        if self.names.len() >= NAMES_MAX * 4 {
            self.is_excessive = true;
        } else if !self.names.contains(&name) {
            self.names.push(name);
        }
    }

    fn add_boundary(&mut self, boundary: Vec<u8>) {
        if self.boundaries.len() >= NAMES_MAX {
            self.is_excessive = true;
        } else if !self.boundaries.contains(&boundary) {
            self.boundaries.push(boundary);
        }
    }

    /// `key=value` anywhere: no semicolon before it, no type, inside of other values.
    fn loose(&mut self, value: &[u8], key: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut rest = value;
        while let Some(at) = rest.windows(key.len()).position(|window| window.eq_ignore_ascii_case(key)) {
            rest = rest.get(at + key.len()..).unwrap_or_default();
            let Some(text) = rest.trim_ascii_start().strip_prefix(b"=") else { continue };
            if found.len() >= LOOSE_MAX {
                self.is_excessive = true;
                break;
            }
            let text = text.trim_ascii_start();
            let (text, end): (_, &[u8]) = match text.strip_prefix(b"\"") {
                Some(text) => (text, b"\""),
                None => (text, b";"),
            };
            let length = text.iter().position(|octet| end.contains(octet)).unwrap_or(text.len());
            found.push(text.get(..length).unwrap_or_default().trim_ascii().to_vec());
        }
        found
    }
}

/// Parameters with quotes obeyed. A quoted value is given unescaped, as it stands, and with what follows its quote; a
/// bare one up to its semicolon and up to its first white space, and a name also as the token that it begins with.
fn quoted(value: &[u8]) -> Vec<Parameter> {
    let mut found = Vec::new();
    let mut rest = value;
    while !rest.is_empty() && found.len() < PARAMETERS_MAX {
        let length = rest.iter().position(|octet| matches!(octet, b';' | b'=')).unwrap_or(rest.len());
        let (key, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        let Some(text) = behind.strip_prefix(b"=") else {
            rest = behind.get(1..).unwrap_or_default();
            continue;
        };
        let key = key.trim_ascii().to_ascii_lowercase();
        let text = text.trim_ascii_start();
        rest = match text.strip_prefix(b"\"") {
            Some(text) => quoted_value(&key, text, &mut found),
            None => bare_value(&key, text, &mut found),
        };
    }
    found
}

fn quoted_value<'v>(key: &[u8], text: &'v [u8], found: &mut Vec<Parameter>) -> &'v [u8] {
    let mut unescaped = Vec::new();
    let mut is_escaped = false;
    let mut length = 0;
    for octet in text {
        match octet {
            b'"' if !is_escaped => break,
            b'\\' if !is_escaped => is_escaped = true,
            _ => {
                unescaped.push(*octet);
                is_escaped = false;
            }
        }
        length += 1;
    }
    let (raw, behind) = text.split_at_checked(length).unwrap_or((text, &[]));
    let behind = behind.get(1..).unwrap_or_default();
    let tail_length = behind.iter().position(|octet| *octet == b';').unwrap_or(behind.len());
    let (tail, behind) = behind.split_at_checked(tail_length).unwrap_or((behind, &[]));
    if !tail.trim_ascii().is_empty() {
        let tail: Vec<u8> = tail.iter().copied().filter(|octet| *octet != b'"').collect();
        found.push((key.to_vec(), [unescaped.as_slice(), tail.trim_ascii()].concat()));
    }
    if raw != unescaped {
        found.push((key.to_vec(), raw.to_vec()));
    }
    found.push((key.to_vec(), unescaped));
    behind
}

fn bare_value<'v>(key: &[u8], text: &'v [u8], found: &mut Vec<Parameter>) -> &'v [u8] {
    let length = text.iter().position(|octet| *octet == b';').unwrap_or(text.len());
    let (value, behind) = text.split_at_checked(length).unwrap_or((text, &[]));
    let value = value.trim_ascii();
    let word = value.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    if word != value {
        found.push((key.to_vec(), word.to_vec()));
    }
    // Of boundaries that would make a delimiter of each line of dashes: `boundary=----=_Part` is common.
    let token = word.split(is_tspecial).next().unwrap_or_default();
    if token != word && !token.is_empty() && (key.starts_with(b"name") || key.starts_with(b"filename")) {
        found.push((key.to_vec(), token.to_vec()));
    }
    found.push((key.to_vec(), value.to_vec()));
    behind
}

/// What ends a token (RFC 2045 section 5.1).
const fn is_tspecial(octet: &u8) -> bool {
    matches!(
        octet,
        b'(' | b')'
            | b'<'
            | b'>'
            | b'@'
            | b','
            | b';'
            | b':'
            | b'\\'
            | b'"'
            | b'/'
            | b'['
            | b']'
            | b'?'
            | b'='
    )
}

/// Parameters with quotes ignored: every semicolon ends one.
fn naive(value: &[u8]) -> Vec<Parameter> {
    value
        .split(|octet| *octet == b';')
        .filter_map(|parameter| {
            let at = parameter.iter().position(|octet| *octet == b'=')?;
            let (key, value) = parameter.split_at_checked(at)?;
            let is_quote = |octet: &u8| matches!(octet, b'"' | b'\'') || octet.is_ascii_whitespace();
            let value = value.get(1..)?;
            let begin = value.iter().position(|octet| !is_quote(octet)).unwrap_or(value.len());
            let end = value.iter().rposition(|octet| !is_quote(octet)).map_or(begin, |at| at + 1);
            Some((key.trim_ascii().to_ascii_lowercase(), value.get(begin..end)?.to_vec()))
        })
        .take(PARAMETERS_MAX)
        .collect()
}

/// The values of `base`: alone, extended, and continued (RFC 2231 sections 3 and 4), in order of number and of place.
fn joined(parameters: &[Parameter], base: &[u8]) -> Vec<RawName> {
    let mut names = Vec::new();
    let mut segments: Vec<(u32, bool, &[u8])> = Vec::new();
    for (key, value) in parameters {
        let Some(suffix) = key.strip_prefix(base) else { continue };
        match suffix {
            b"" => names.push(RawName { value: value.clone(), charset: None }),
            b"*" => extended(value, &mut names),
            [b'*', number @ ..] => {
                let (number, is_extended) = number.strip_suffix(b"*").map_or((number, false), |n| (n, true));
                let number = std::str::from_utf8(number).ok().and_then(|number| number.trim().parse().ok());
                segments.push((number.unwrap_or(u32::MAX), is_extended, value));
            }
            _ => {}
        }
    }
    if segments.is_empty() {
        return names;
    }
    let by_place = join(&segments, &mut names);
    segments.sort_by_key(|(number, ..)| *number);
    let mut unique = segments.clone();
    unique.dedup_by_key(|(number, ..)| *number);
    for order in [&segments, &unique] {
        if join(order, &mut Vec::new()) != by_place {
            join(order, &mut names);
        }
    }
    // A reader may give a quoted segment in two forms; the last form of each number is the unescaped one.
    segments.reverse();
    segments.sort_by_key(|(number, ..)| *number);
    segments.dedup_by_key(|(number, ..)| *number);
    join(&segments, &mut names);
    names
}

/// The segments one behind the other: as they stand, with the extended ones decoded, and with all decoded.
fn join(segments: &[(u32, bool, &[u8])], names: &mut Vec<RawName>) -> Vec<u8> {
    let raw: Vec<u8> = segments.iter().flat_map(|(.., value)| value.iter().copied()).collect();
    names.push(RawName { value: raw.clone(), charset: None });
    extended(&raw, names);
    if segments.iter().any(|(_, is_extended, _)| *is_extended) {
        let (charset, first) = match segments.first() {
            Some((_, _, value)) => without_charset(value),
            None => (None, &[] as &[u8]),
        };
        let decoded = segments
            .iter()
            .enumerate()
            .flat_map(|(at, (_, is_extended, value))| {
                let value = if at == 0 { first } else { value };
                if *is_extended { percent_decoded(value) } else { value.to_vec() }
            })
            .collect();
        names.push(RawName { value: decoded, charset: charset.map(<[u8]>::to_vec) });
    }
    raw
}

/// `charset'language'text` with its percent signs decoded, and the whole without regard to the charset.
fn extended(value: &[u8], names: &mut Vec<RawName>) {
    let (charset, text) = without_charset(value);
    names.push(RawName { value: percent_decoded(text), charset: charset.map(<[u8]>::to_vec) });
    if charset.is_some() {
        names.push(RawName { value: percent_decoded(value), charset: None });
    }
}

/// The charset of `charset'language'text`, and the text.
pub(super) fn without_charset(value: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut parts = value.splitn(3, |octet| *octet == b'\'');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(charset), Some(_), Some(text)) => (Some(charset), text),
        _ => (None, value),
    }
}

/// `%41` to `A`. A percent sign that begins no such triple stands for itself.
pub(super) fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, behind @ ..] = rest {
        rest = behind;
        if let (b'%', [a, b, behind @ ..]) = (first, behind)
            && let (Some(high), Some(low)) = (hex(*a), hex(*b))
        {
            decoded.push(high << 4 | low);
            rest = behind;
        } else {
            decoded.push(*first);
        }
    }
    decoded
}

/// The value without comments (RFC 5322 section 3.2.2). Parentheses inside quotes are no comments.
pub(super) fn without_comments(value: &[u8]) -> Vec<u8> {
    let mut bare = Vec::with_capacity(value.len());
    let (mut depth, mut is_quoted, mut is_escaped) = (0usize, false, false);
    for octet in value {
        let escaped = std::mem::take(&mut is_escaped);
        match octet {
            b'\\' if !escaped => is_escaped = true,
            b'"' if !escaped && depth == 0 => is_quoted = !is_quoted,
            b'(' if !escaped && !is_quoted => depth += 1,
            b')' if !escaped && depth > 0 => {
                depth -= 1;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            bare.push(*octet);
        }
    }
    bare
}
