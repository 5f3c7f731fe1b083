//! Text and its kinds: web pages, drawings, XML, mails, armored messages.

use std::borrow::Cow;

use super::super::RealType;

/// Octets from the beginning that say of which kind a text is.
const KIND_BYTES: usize = 8 << 10;
/// Octets from the beginning of which most must be printable.
const PRINTABLE_BYTES: usize = 64 << 10;
/// Control characters, one of so many octets at most.
const CONTROLS_ONE_OF: usize = 32;
/// Octets from the beginning within which a tag of HTML makes a page of a text.
const PAGE_BYTES: usize = 1_024;
/// Octets from the beginning of what is no text within which such a tag is looked for: zeros do not count.
const SPOILT_PAGE_BYTES: usize = 2_048;

/// Tags with which a page begins: those of the WHATWG's MIME sniffing standard, section 7.1, and others with which pages
/// that clients open by their names begin.
const PAGE_TAGS: [&[u8]; 44] = [
    b"html",
    b"head",
    b"script",
    b"iframe",
    b"h1",
    b"div",
    b"font",
    b"table",
    b"a",
    b"style",
    b"title",
    b"b",
    b"body",
    b"br",
    b"p",
    b"meta",
    b"link",
    b"span",
    b"center",
    b"form",
    b"img",
    b"base",
    b"section",
    b"article",
    b"header",
    b"main",
    b"tr",
    b"td",
    b"tbody",
    b"input",
    b"embed",
    b"object",
    b"h2",
    b"h3",
    b"h4",
    b"ul",
    b"ol",
    b"pre",
    b"u",
    b"i",
    b"strong",
    b"em",
    b"noscript",
    b"frameset",
];
/// Fields of which one among the first lines makes a mail of a text.
const MAIL_FIELDS: [&[u8]; 22] = [
    b"received",
    b"return-path",
    b"from",
    b"to",
    b"subject",
    b"date",
    b"message-id",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
    b"content-disposition",
    b"delivered-to",
    b"dkim-signature",
    b"reply-to",
    b"sender",
    b"cc",
    b"bcc",
    b"arc-seal",
    b"envelope-to",
    b"received-spf",
    b"authentication-results",
    b"in-reply-to",
];

/// Text, as UTF-8 or another superset of ASCII.
pub(in crate::content) struct Utf8<'a>(Cow<'a, [u8]>);

impl<'a> Utf8<'a> {
    /// Where the octets are text: UTF-16 with a byte order mark or with the zeros that Latin letters have, or octets
    /// without a zero, of which nearly all are printable.
    pub(in crate::content) fn of(octets: &'a [u8]) -> Option<Self> {
        let text = Self::decoded(octets);
        let head = text.get(..PRINTABLE_BYTES).unwrap_or(&text);
        if head.is_empty() || memchr::memchr(0, &text).is_some() {
            return None;
        }
        let is_control = |octet: &&u8| matches!(octet, 0..=8 | 14..=26 | 28..=31 | 127);
        let controls = head.iter().filter(is_control).count();
        (controls <= head.len() / CONTROLS_ONE_OF).then_some(Self(text))
    }

    /// The octets as UTF-8, where they are UTF-16; as they are, without a mark, where not.
    pub(in crate::content) fn decoded(octets: &'a [u8]) -> Cow<'a, [u8]> {
        match octets {
            [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(rest),
            [0xff, 0xfe, rest @ ..] => Cow::Owned(utf16(rest, u16::from_le_bytes)),
            [0xfe, 0xff, rest @ ..] => Cow::Owned(utf16(rest, u16::from_be_bytes)),
            [b'\t'..=b'~', 0, b'\t'..=b'~', 0, ..] => Cow::Owned(utf16(octets, u16::from_le_bytes)),
            [0, b'\t'..=b'~', 0, b'\t'..=b'~', ..] => Cow::Owned(utf16(octets, u16::from_be_bytes)),
            _ => Cow::Borrowed(octets),
        }
    }

    /// The kind of the text.
    pub(super) fn kind(&self) -> Option<RealType> {
        let head = self.0.get(..KIND_BYTES).unwrap_or(&self.0);
        let begin = head.trim_ascii_start();
        if begin.starts_with(b"-----BEGIN PGP MESSAGE-----") {
            return Some(RealType::Pgp);
        }
        if begin.starts_with(b"-----BEGIN PKCS7-----") || begin.starts_with(b"-----BEGIN CMS-----") {
            return Some(RealType::Cms);
        }
        if let Some(kind) = markup(begin) {
            return Some(kind);
        }
        if is_mail(head) {
            return Some(RealType::Message);
        }
        if holds_page(head.get(..PAGE_BYTES).unwrap_or(head)) {
            return Some(RealType::Html);
        }
        Some(RealType::Text)
    }
}

/// A page, where zeros or control characters are all that keeps octets from being text: browsers show it.
pub(super) fn spoilt_page(octets: &[u8]) -> Option<RealType> {
    let head = octets.get(..SPOILT_PAGE_BYTES).unwrap_or(octets);
    let plain = Utf8::decoded(head).iter().copied().filter(|octet| *octet != 0).collect::<Vec<_>>();
    if holds_page(plain.get(..PAGE_BYTES).unwrap_or(&plain)) {
        return Some(RealType::Html);
    }
    markup(&plain).filter(|kind| matches!(kind, RealType::Html | RealType::Svg))
}

fn utf16(octets: &[u8], unit: fn([u8; 2]) -> u16) -> Vec<u8> {
    let units = octets.as_chunks::<2>().0.iter().map(|pair| unit(*pair));
    let mut text = String::with_capacity(octets.len() / 2);
    text.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    text.into_bytes()
}

/// What the first tag says.
fn markup(begin: &[u8]) -> Option<RealType> {
    let (mut rest, mut is_xml, mut is_page) = (begin, false, false);
    // Each turn takes a declaration, an instruction or a comment, and thus an octet at least.
    loop {
        rest = rest.trim_ascii_start();
        let Some(tag) = rest.strip_prefix(b"<") else { break };
        let (end, skipped): (&[u8], usize) = match tag {
            [b'!', b'-', b'-', ..] => {
                is_page = !is_xml;
                (b"-->", 3)
            }
            [b'?', ..] => {
                is_xml = true;
                (b"?>", 1)
            }
            [b'!', name @ ..] => {
                let name = name.get(..12).unwrap_or(name).to_ascii_lowercase();
                if name == b"doctype html" {
                    return Some(RealType::Html);
                }
                (b">", 1)
            }
            _ => {
                let root = tag_name(tag);
                let local = root.rsplit(|octet| *octet == b':').next().unwrap_or(root);
                if local.eq_ignore_ascii_case(b"svg") {
                    return Some(RealType::Svg);
                }
                if PAGE_TAGS.iter().any(|name| root.eq_ignore_ascii_case(name)) && (!is_xml || is_html(root))
                {
                    return Some(RealType::Html);
                }
                break;
            }
        };
        let behind = tag.get(skipped..).unwrap_or_default();
        match memchr::memmem::find(behind, end) {
            Some(at) => rest = behind.get(at.saturating_add(end.len())..).unwrap_or_default(),
            None => break,
        }
    }
    match (is_xml, is_page) {
        (true, _) => Some(RealType::Xml),
        (false, true) => Some(RealType::Html),
        (false, false) => is_element(begin).then_some(RealType::Xml),
    }
}

fn is_html(root: &[u8]) -> bool {
    root.eq_ignore_ascii_case(b"html")
}

/// An element without a declaration: a name in a name space, or one with an attribute of a name space.
fn is_element(begin: &[u8]) -> bool {
    let Some(tag) = begin.strip_prefix(b"<") else { return false };
    let name = tag_name(tag);
    let end = memchr::memchr(b'>', tag).unwrap_or(0);
    let attributes = tag.get(name.len()..end).unwrap_or_default();
    !name.is_empty() && memchr::memmem::find(attributes, b"xmlns").is_some()
}

fn tag_name(tag: &[u8]) -> &[u8] {
    let is_end =
        |octet: &u8| octet.is_ascii_whitespace() || matches!(octet, b'>' | b'/' | b'<' | b'=' | b'"');
    tag.get(..tag.iter().position(is_end).unwrap_or(tag.len())).unwrap_or_default()
}

/// Whether the first lines are fields of a mail: two, or one that says what the content is.
fn is_mail(head: &[u8]) -> bool {
    let (mut fields, mut known) = (0usize, false);
    for (number, line) in head.split(|octet| *octet == b'\n').enumerate() {
        let is_folded = number > 0 && matches!(line.first(), Some(b' ' | b'\t'));
        let is_envelope = number == 0 && (line.starts_with(b"From ") || line.starts_with(b">From "));
        if is_folded || is_envelope {
            continue;
        }
        let colon = line.iter().position(|octet| *octet == b':');
        let Some(name) = colon.and_then(|at| line.get(..at)).map(<[u8]>::trim_ascii_end) else { break };
        if name.is_empty() || name.iter().any(|octet| !(33..=126).contains(octet)) {
            break;
        }
        fields = fields.saturating_add(1);
        known |= MAIL_FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field));
        let is_content = name.get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case(b"content-"));
        if known && (fields >= 2 || is_content) {
            return true;
        }
    }
    false
}

/// Whether a page begins behind other text.
fn holds_page(head: &[u8]) -> bool {
    let lower = head.to_ascii_lowercase();
    let tags: [&[u8]; 5] = [b"<html", b"<!doctype html", b"<script", b"<body", b"<iframe"];
    tags.iter().any(|tag| memchr::memmem::find(&lower, tag).is_some())
}
