//! Pages, drawings and XML: files in `data:` URLs and in strings of scripts, and scripts that build a file in the reader's
//! browser.
//!
//! No script is run. What is encoded in a page is decoded wherever it stands and becomes a member, and so are scripts inside
//! of what was decoded. A page that decodes, builds and hands out a file is told by the names that it cannot do without,
//! also where these are escaped or put together of pieces.

use std::borrow::Cow;

use memchr::{memchr2_iter, memmem};

use super::markup;
use super::octets::{holds, part};
use super::{Opening, package};
use crate::content::magic::text::Utf8;
use crate::content::reading::hex;
use crate::content::{Condition, Reading, RealType};

/// Octets of a `data:` URL before its comma.
const URL_HEAD_BYTES: usize = 512;
/// Characters of base64 in a script that are decoded, and of each piece of them.
const ENCODED_CHARS_MIN: usize = 256;
const PIECE_CHARS_MIN: usize = 16;
/// Characters between two pieces of one string.
const GAP_CHARS_MAX: usize = 64;
/// Numbers in a row that are octets of a file.
const NUMBERS_MIN: usize = 64;
/// Encodings inside each other.
const LEVELS_MAX: u32 = 4;

/// Names without which no script hands out a file that it decoded: what decodes, what builds, what hands out.
const DECODES: [&[u8]; 6] =
    [b"atob", b"uint8array", b"fromcharcode", b"charcodeat", b"data:application", b"codepointat"];
const BUILDS: [&[u8]; 2] = [b"blob", b"newfile("];
const HANDS_OUT: [&[u8]; 4] = [b"createobjecturl", b"mssaveoropenblob", b"mssaveblob", b"saveas("];
/// What makes a page run a script.
const RUNS: [&[u8]; 7] =
    [b"<script", b"javascript:", b"onload=", b"onerror=", b"onclick=", b"onmouseover=", b"onfocus="];

/// Open a page, a drawing, XML or text.
pub(super) fn open(real: RealType, octets: &[u8], opening: &mut Opening<'_, '_>) {
    let text = Utf8::decoded(octets);
    let is_page = real != RealType::Text || find(&text, b"<script").is_some();
    if !is_page && find(&text, b"data:").is_none() {
        return;
    }
    // The text without references, without its URLs, and with its scripts' escapes resolved.
    if !opening.takes(octets.len().saturating_mul(2)) {
        return;
    }
    if real == RealType::Xml {
        package::part_means(&[], octets, &mut opening.found);
        if memmem::find(&text, b"macrosPresent=\"yes\"").is_some() {
            opening.found(Condition::Macro);
        }
    }
    let text = markup::unescaped(&text);
    let mut page = Page { opening, count: 0 };
    let rest = page.urls(&text);
    if !is_page {
        return;
    }
    if has_download(&text) {
        page.opening.found(Condition::Smuggling);
    }
    let folded = folded(&text);
    if RUNS.iter().any(|name| memmem::find(&folded, name).is_some()) && hands_out(&folded) {
        page.opening.found(Condition::Smuggling);
    }
    page.strings(&rest, 0);
}

/// Where `wanted`, which is in lower case, stands in any case.
fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    memchr2_iter(first, first.to_ascii_uppercase(), text)
        .find(|at| part(text, *at, wanted.len()).eq_ignore_ascii_case(wanted))
}

struct Page<'p, 'o, 'v> {
    opening: &'p mut Opening<'o, 'v>,
    count: u32,
}

impl Page<'_, '_, '_> {
    /// Files in URLs, and the text without them: what a URL holds is looked at as a file of its own.
    fn urls(&mut self, text: &[u8]) -> Vec<u8> {
        let (mut at, mut kept) = (0usize, Vec::with_capacity(text.len()));
        while let Some(found) = text.get(at..).and_then(|rest| find(rest, b"data:")) {
            let begin = at.saturating_add(found);
            kept.extend_from_slice(text.get(at..begin).unwrap_or_default());
            at = begin.saturating_add(5);
            if self.opening.is_ended() {
                return kept;
            }
            let before = begin.checked_sub(1).and_then(|before| text.get(before)).copied();
            let rest = text.get(at..).unwrap_or_default();
            let Some((head, data)) = url(rest, before) else { continue };
            at = at.saturating_add(head.len()).saturating_add(data.len());
            if self.opening.takes(data.len()) {
                let plain = unquoted(data);
                let is_base64 = holds(head, b"base64");
                let file = if is_base64 { Reading::Base64.decoded(&plain) } else { plain };
                let declared = head.split(|octet| *octet == b';').next().unwrap_or_default().trim_ascii();
                let declared = String::from_utf8_lossy(declared).to_ascii_lowercase();
                let declared = declared.chars().filter(|c| !c.is_control()).collect::<String>();
                self.count = self.count.saturating_add(1);
                self.opening.taken(&[&format!("data-{}", self.count)], vec![declared], Cow::Owned(file));
            }
        }
        kept.extend_from_slice(text.get(at..).unwrap_or_default());
        kept
    }

    /// Files in strings.
    fn strings(&mut self, text: &[u8], level: u32) {
        let mut rest = text;
        while !self.opening.is_ended() {
            let Some((characters, behind)) = encoded(rest) else { break };
            rest = behind;
            if self.opening.takes(characters.len()) {
                self.decoded(&Reading::Base64.decoded(&characters), level);
            }
        }
        for file in [numbers(text), escapes(text)].into_iter().flatten() {
            if self.opening.takes(file.len()) {
                self.decoded(&file, level);
            }
        }
    }

    /// What was encoded: a member, and, where it is text, perhaps a script.
    fn decoded(&mut self, file: &[u8], level: u32) {
        self.count = self.count.saturating_add(1);
        self.opening.taken(&[&format!("string-{}", self.count)], Vec::new(), Cow::Borrowed(file));
        if level >= LEVELS_MAX
            || Utf8::of(file).is_none()
            || !self.opening.takes(file.len().saturating_mul(2))
        {
            return;
        }
        let text = Utf8::decoded(file);
        if hands_out(&folded(&text)) {
            self.opening.found(Condition::Smuggling);
        }
        self.strings(&text, level + 1);
    }
}

/// The head and the data of a URL that follows `data:`. It ends at the quote that stands before it, or where a URL ends.
fn url(rest: &[u8], before: Option<u8>) -> Option<(&[u8], &[u8])> {
    let quote = before.filter(|octet| matches!(octet, b'"' | b'\'' | b'`'));
    let ends = |octet: &u8| match quote {
        Some(quote) => *octet == quote,
        None => octet.is_ascii_whitespace() || matches!(octet, b'"' | b'\'' | b'`' | b'<' | b'>' | b')'),
    };
    let head = rest.get(..URL_HEAD_BYTES).unwrap_or(rest);
    let comma = head.iter().position(|octet| *octet == b',' || ends(octet))?;
    let (head, data) = rest.split_at_checked(comma)?;
    let data = data.strip_prefix(b",")?;
    let end = data.iter().position(ends).unwrap_or(data.len());
    // The comma counts to the head, so that both together are what was read.
    Some((rest.get(..head.len().saturating_add(1))?, data.get(..end)?))
}

/// Octets of a URL without percent signs.
fn unquoted(data: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(data.len());
    let mut rest = data;
    while let Some((first, behind)) = rest.split_first() {
        let pair = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = pair {
            plain.push(high << 4 | low);
            rest = rest.get(3..).unwrap_or_default();
        } else {
            plain.push(*first);
            rest = behind;
        }
    }
    plain
}

fn is_encoded(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'=' | b'-' | b'_')
}

/// The next long run of base64, put together where it stands in pieces, in the usual alphabet; and what stands behind it.
fn encoded(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut run = Vec::new();
    let mut rest = text;
    loop {
        let begin = rest.iter().position(|octet| is_encoded(*octet));
        let gap = rest.get(..begin.unwrap_or(rest.len())).unwrap_or_default();
        let is_joint = gap.len() <= GAP_CHARS_MAX
            && gap.iter().all(|octet| {
                octet.is_ascii_whitespace() || matches!(octet, b'"' | b'\'' | b'`' | b'\\' | b',')
            });
        if (!is_joint || begin.is_none()) && !run.is_empty() {
            if run.len() >= ENCODED_CHARS_MIN {
                return Some((run, rest));
            }
            run.clear();
        }
        let from = rest.get(begin?..)?;
        let end = from.iter().position(|octet| !is_encoded(*octet)).unwrap_or(from.len());
        let (piece, behind) = from.split_at(end);
        // A plus between two strings joins them, and is none of their characters.
        let is_plus = piece.iter().all(|octet| *octet == b'+');
        let is_short = piece.len() < PIECE_CHARS_MIN && !piece.ends_with(b"=");
        if is_short && !is_plus && run.len() >= ENCODED_CHARS_MIN {
            push(piece, &mut run);
            return Some((run, behind));
        }
        if is_short && !is_plus {
            run.clear();
        } else if !is_plus {
            push(piece, &mut run);
        }
        rest = behind;
    }
}

fn push(piece: &[u8], run: &mut Vec<u8>) {
    run.extend(piece.iter().map(|octet| match octet {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    }));
}

/// The octets that stand as lists of numbers, decimal or hexadecimal: those of all long lists.
fn numbers(text: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let mut list = Vec::new();
    for piece in text.split(|octet| matches!(octet, b',' | b'[' | b']' | b'(' | b')')) {
        match number(piece.trim_ascii()) {
            Some(octet) => list.push(octet),
            None => {
                if list.len() >= NUMBERS_MIN {
                    all.extend_from_slice(&list);
                }
                list.clear();
            }
        }
    }
    if list.len() >= NUMBERS_MIN {
        all.extend_from_slice(&list);
    }
    (!all.is_empty()).then_some(all)
}

fn number(piece: &[u8]) -> Option<u8> {
    if piece.is_empty() || piece.len() > 4 {
        return None;
    }
    let text = std::str::from_utf8(piece).ok()?;
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        // Signed numbers are what `Int8Array` has.
        None => text.parse::<u8>().ok().or_else(|| text.parse::<i8>().ok().map(i8::cast_unsigned)),
    }
}

/// The octets that stand as escapes, `\x4d`, `%4d` or `\u004d`: those of all long runs.
fn escapes(text: &[u8]) -> Option<Vec<u8>> {
    let (mut all, mut run) = (Vec::new(), Vec::new());
    let mut rest = text;
    while let Some((_, behind)) = rest.split_first() {
        let (octet, behind) = match rest {
            [b'\\', b'x' | b'X', high, low, behind @ ..] | [b'%', high, low, behind @ ..]
                if hex(*high).is_some() && hex(*low).is_some() =>
            {
                (hex(*high).zip(hex(*low)), behind)
            }
            [b'\\', b'u', b'0', b'0', high, low, behind @ ..] => (hex(*high).zip(hex(*low)), behind),
            _ => (None, behind),
        };
        rest = behind;
        if let Some((high, low)) = octet {
            run.push(high << 4 | low);
            continue;
        }
        if run.len() >= NUMBERS_MIN {
            all.append(&mut run);
        }
        run.clear();
    }
    if run.len() >= NUMBERS_MIN {
        all.append(&mut run);
    }
    (!all.is_empty()).then_some(all)
}

/// Whether a link gives a file that stands in the page to be saved.
fn has_download(text: &[u8]) -> bool {
    markup::tags(text).filter(|tag| tag.name.eq_ignore_ascii_case(b"a") || tag.local() == b"a").any(|tag| {
        let place = tag.attribute(b"href").unwrap_or_default();
        let place = place.trim_ascii().to_ascii_lowercase();
        tag.attribute(b"download").is_some()
            && place.starts_with(b"data:")
            && !place.starts_with(b"data:image/")
    })
}

fn hands_out(folded: &[u8]) -> bool {
    let has = |names: &[&[u8]]| names.iter().any(|name| memmem::find(folded, name).is_some());
    has(&HANDS_OUT) && has(&BUILDS) && has(&DECODES)
}

/// The text in lower case, escapes of scripts resolved, without what joins the pieces of strings.
fn folded(text: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = match rest {
            [b'\\', b'x', high, low, behind @ ..] => hex(*high).zip(hex(*low)).map(|pair| (pair, behind)),
            [b'\\', b'u', b'0', b'0', high, low, behind @ ..] => {
                hex(*high).zip(hex(*low)).map(|pair| (pair, behind))
            }
            [b'\\', b'u', b'{', high, low, b'}', behind @ ..] => {
                hex(*high).zip(hex(*low)).map(|pair| (pair, behind))
            }
            _ => None,
        };
        let (octet, behind) = match escaped {
            Some(((high, low), behind)) => (high << 4 | low, behind),
            None => (*first, behind),
        };
        rest = behind;
        let joins = octet.is_ascii_whitespace() || matches!(octet, b'"' | b'\'' | b'`' | b'+' | b'\\');
        if !joins {
            folded.push(octet.to_ascii_lowercase());
        }
    }
    folded
}
