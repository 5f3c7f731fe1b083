//! Pages, drawings and XML: files in `data:` URLs and in strings of scripts, and scripts that build a file in the reader's
//! browser.
//!
//! No script is run. What is encoded in a page is decoded wherever it stands and becomes a member, and so are scripts inside
//! of what was decoded. A page that decodes, builds and hands out a file is told by the names that it cannot do without,
//! also where these are escaped or put together of pieces, and only in a page that runs scripts: one that shows a
//! script's source runs none, and neither does plain text.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2_iter, memmem};

use super::markup;
use super::octets::{holds, part};
use super::{Opening, package};
use crate::content::magic::text::Utf8;
use crate::content::reading::hex;
use crate::content::{Condition, Reading, RealType};

/// Octets of a `data:` URL before its comma, without those that browsers drop.
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
const DECODES: [&[u8]; 11] = [
    b"atob",
    b"int8array",
    b"clampedarray",
    b"int16array",
    b"int32array",
    b"dataview",
    b"textencoder",
    b"fromcharcode",
    b"charcodeat",
    b"data:application",
    b"codepointat",
];
const BUILDS: [&[u8]; 2] = [b"blob", b"newfile("];
const HANDS_OUT: [&[u8]; 4] = [b"createobjecturl", b"mssaveoropenblob", b"mssaveblob", b"saveas("];
/// Without which no script saves what a link's URL holds: what names the file, what follows the link, what the URL is.
const NAMES_FILE: [&[u8]; 3] = [b".download=", b"[download]=", b"setattribute(download"];
const FOLLOWS: [&[u8]; 3] = [b".click(", b"[click](", b"dispatchevent("];
const HOLDS_FILE: [&[u8]; 3] = [b"data:application", b"data:;base64", b"data:text/html"];
/// What makes a page run a script, in a tag, besides the element and the attributes of events.
const RUNS: [&[u8]; 3] = [b"srcdoc", b"javascript:", b"data:text/html"];
/// Letters of an event's attribute.
const HANDLER_CHARS_MIN: usize = 5;

/// Open a page, a drawing, XML or text.
pub(super) fn open(real: RealType, octets: &[u8], opening: &mut Opening<'_, '_>) {
    let mut text = Utf8::decoded(octets);
    if memchr(0, &text).is_some() {
        text.to_mut().retain(|octet| *octet != 0);
    }
    let is_page = real != RealType::Text;
    let has_scripts = is_page || find(&text, b"<script").is_some();
    if !has_scripts && find_url(&text).is_none() {
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
    let written = text;
    let text = markup::unescaped(&written);
    let mut page = Page { opening, count: 0, runs: is_page && runs(&written) };
    let rest = page.urls(&text);
    if !has_scripts {
        return;
    }
    // What an attribute holds may be a page of its own.
    let has_nested = |tag: markup::Tag<'_>| tag.attribute(b"srcdoc").is_some_and(|page| has_download(&page));
    if is_page && (has_download(&written) || markup::tags(&written).any(has_nested)) {
        page.opening.found(Condition::Smuggling);
    }
    if page.runs && hands_out(&folded(&text)) {
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

/// Octets that browsers drop from a URL.
const fn is_dropped(octet: u8) -> bool {
    matches!(octet, b'\t' | b'\r' | b'\n')
}

/// A URL, or a part of it, without what browsers drop.
fn kept(url: &[u8]) -> Vec<u8> {
    url.iter().copied().filter(|octet| !is_dropped(*octet)).collect()
}

/// Where the next `data:` begins, and where it ends.
fn find_url(text: &[u8]) -> Option<(usize, usize)> {
    memchr_iter(b':', text).find_map(|colon| {
        let mut begin = colon;
        for wanted in b"atad" {
            let before = text.get(..begin)?;
            begin = before.iter().rposition(|octet| !is_dropped(*octet))?;
            if !text.get(begin)?.eq_ignore_ascii_case(wanted) {
                return None;
            }
        }
        Some((begin, colon.saturating_add(1)))
    })
}

/// Whether a page, as it is written, runs scripts. A tag ends where quotes have it and at its first `>`: both count.
fn runs(text: &[u8]) -> bool {
    let pieces =
        text.split(|octet| *octet == b'<').filter(|piece| piece.first().is_some_and(u8::is_ascii_alphabetic));
    find(text, b"<script").is_some()
        || markup::tags(text).any(|tag| tag.local().eq_ignore_ascii_case(b"script") || runs_within(tag.inner))
        || pieces
            .map(|piece| piece.split(|octet| *octet == b'>').next())
            .any(|tag| tag.is_some_and(runs_within))
}

/// Whether attributes run a script.
fn runs_within(attributes: &[u8]) -> bool {
    let mut rest = attributes;
    let is_before = |octet: &u8| octet.is_ascii_whitespace() || matches!(octet, b'/' | b'"' | b'\'');
    while let Some(at) = rest.iter().position(is_before) {
        rest = rest.get(at.saturating_add(1)..).unwrap_or_default();
        if part(rest, 0, 2).eq_ignore_ascii_case(b"on") {
            let letters = rest.iter().take_while(|octet| octet.is_ascii_alphabetic()).count();
            let behind = rest.get(letters..).unwrap_or_default().trim_ascii_start();
            if letters >= HANDLER_CHARS_MIN && behind.starts_with(b"=") {
                return true;
            }
        }
    }
    let mut plain = markup::unescaped(attributes).into_owned();
    plain.retain(|octet| *octet > b' ');
    plain.make_ascii_lowercase();
    RUNS.iter().any(|name| memmem::find(&plain, name).is_some())
}

struct Page<'p, 'o, 'v> {
    opening: &'p mut Opening<'o, 'v>,
    count: u32,
    /// Whether scripts are run.
    runs: bool,
}

impl Page<'_, '_, '_> {
    /// Files in URLs, and the text without them: what a URL holds is looked at as a file of its own.
    fn urls(&mut self, text: &[u8]) -> Vec<u8> {
        let (mut at, mut left) = (0usize, Vec::with_capacity(text.len()));
        while let Some((begin, end)) = text.get(at..).and_then(find_url) {
            let begin = at.saturating_add(begin);
            left.extend_from_slice(text.get(at..begin).unwrap_or_default());
            at = at.saturating_add(end);
            if self.opening.is_ended() {
                return left;
            }
            let before = before_url(text.get(..begin).unwrap_or_default());
            let rest = text.get(at..).unwrap_or_default();
            let Some((head, data)) = url(rest, before) else { continue };
            at = at.saturating_add(head.len()).saturating_add(data.len());
            if self.opening.takes(data.len()) {
                let (head, plain) = (kept(head), unquoted(&kept(data)));
                let is_base64 = holds(&head, b"base64");
                let file = if is_base64 { Reading::Base64.decoded(&plain) } else { plain };
                let declared = head.split(|octet| *octet == b';').next().unwrap_or_default().trim_ascii();
                let declared = String::from_utf8_lossy(declared).to_ascii_lowercase();
                let declared = declared.chars().filter(|c| !c.is_control()).collect::<String>();
                self.count = self.count.saturating_add(1);
                self.opening.taken(&[&format!("data-{}", self.count)], vec![declared], Cow::Owned(file));
            }
        }
        left.extend_from_slice(text.get(at..).unwrap_or_default());
        left
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
        if self.runs && hands_out(&folded(&text)) {
            self.opening.found(Condition::Smuggling);
        }
        self.strings(&text, level + 1);
    }
}

/// What stands right before a URL: of an attribute's value its quote, also where blanks stand between.
fn before_url(text: &[u8]) -> Option<u8> {
    let value = text.trim_ascii_end();
    let (quote, before) = value.split_last()?;
    let is_value = matches!(before.trim_ascii_end(), [.., b'=' | b'(']);
    if value.len() == text.len() || is_value { Some(*quote) } else { text.last().copied() }
}

/// The head and the data of a URL that follows `data:`. It ends at the quote that stands before it, or where a URL ends.
fn url(rest: &[u8], before: Option<u8>) -> Option<(&[u8], &[u8])> {
    let quote = before.filter(|octet| matches!(octet, b'"' | b'\'' | b'`'));
    let ends = |octet: &u8| match quote {
        Some(quote) => *octet == quote,
        None => octet.is_ascii_whitespace() || matches!(octet, b'"' | b'\'' | b'`' | b'<' | b'>' | b')'),
    };
    let mut counted = 0usize;
    let comma = rest.iter().position(|octet| {
        counted = counted.saturating_add(usize::from(!is_dropped(*octet)));
        counted > URL_HEAD_BYTES || *octet == b',' || ends(octet)
    })?;
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
    let is_link = |tag: &markup::Tag<'_>| {
        [b"a".as_slice(), b"area"].iter().any(|name| tag.local().eq_ignore_ascii_case(name))
    };
    markup::tags(text).filter(is_link).any(|tag| {
        let place = kept(&tag.attribute(b"href").unwrap_or_default());
        let place = place.trim_ascii().to_ascii_lowercase();
        tag.attribute(b"download").is_some()
            && place.starts_with(b"data:")
            && !place.starts_with(b"data:image/")
    })
}

fn hands_out(folded: &[u8]) -> bool {
    let has = |names: &[&[u8]]| names.iter().any(|name| memmem::find(folded, name).is_some());
    has(&HANDS_OUT) && has(&BUILDS) && has(&DECODES) || has(&NAMES_FILE) && has(&FOLLOWS) && has(&HOLDS_FILE)
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
