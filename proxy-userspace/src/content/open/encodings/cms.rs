//! CMS (RFC 5652), the format of S/MIME, in DER and BER: what is only signed or compressed is opened, what is encrypted is
//! a verdict.
//!
//! The content types differ, and each of those that are opened holds the same `EncapsulatedContentInfo` among its first
//! elements: so that is what is looked for.

use std::borrow::Cow;

use super::Opening;
use crate::content::Condition;

/// Elements inside each other, while the end of one without a length is looked for, and segments of a string.
const DEPTH_MAX: u32 = 32;
/// Elements of one content type that are looked at: the content stands before certificates and signers.
const ELEMENTS_MAX: usize = 16;
/// Octets at the beginning in which a text shows that it is CMS in base64.
const BASE64_GLANCE_BYTES: usize = 128;

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const CONSTRUCTED_OCTET_STRING: u8 = 0x24;
/// `[0]`, constructed.
const CONTENT: u8 = 0xa0;
const END_OF_CONTENTS: u8 = 0;

/// 1.2.840.113549.1.7 (PKCS#7).
const PKCS7: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];
/// 1.2.840.113549.1.9.16.1 (content types of S/MIME).
const SMIME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01];

/// What a content type is.
#[derive(Clone, Copy)]
enum Content {
    /// It holds octets that a reader shows.
    Wrapped,
    Compressed,
    Encrypted,
}

impl Content {
    fn of(oid: &[u8]) -> Option<Self> {
        if let Some([arc]) = oid.strip_prefix(PKCS7) {
            return match arc {
                2 | 5 => Some(Self::Wrapped),
                3 | 4 | 6 => Some(Self::Encrypted),
                _ => None,
            };
        }
        match oid.strip_prefix(SMIME) {
            Some([2]) => Some(Self::Wrapped),
            Some([9]) => Some(Self::Compressed),
            Some([23]) => Some(Self::Encrypted),
            _ => None,
        }
    }
}

/// One element of BER.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    rest: &'a [u8],
    /// Its end lies behind the end of the octets.
    is_cut: bool,
}

impl<'a> Element<'a> {
    fn read(octets: &'a [u8]) -> Option<Self> {
        let Header { tag, length, rest } = Header::read(octets)?;
        let Some(length) = length else {
            let (length, is_cut) = indefinite(rest);
            let (content, rest) = rest.split_at_checked(length)?;
            return Some(Self { tag, content, rest: rest.get(2..).unwrap_or_default(), is_cut });
        };
        let is_cut = length > rest.len();
        let (content, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        Some(Self { tag, content, rest, is_cut })
    }

    /// The element, where it is one of this kind.
    fn tagged(self, tag: u8) -> Option<Self> {
        (self.tag == tag).then_some(self)
    }
}

/// Tag and length of an element. No length: two octets of zero end it.
struct Header<'a> {
    tag: u8,
    length: Option<usize>,
    rest: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(octets: &'a [u8]) -> Option<Self> {
        let (tag, mut rest) = octets.split_first()?;
        if tag & 0x1f == 0x1f {
            // A tag of several octets: none that is known here.
            let last = rest.iter().take(4).position(|octet| octet & 0x80 == 0)?;
            rest = rest.get(last.checked_add(1)?..)?;
        }
        let (first, rest) = rest.split_first()?;
        let count = usize::from(first & 0x7f);
        if first & 0x80 == 0 {
            return Some(Self { tag: *tag, length: Some(count), rest });
        }
        if count == 0 {
            return (tag & 0x20 != 0).then_some(Self { tag: *tag, length: None, rest });
        }
        let (octets, rest) = rest.split_at_checked(count)?;
        let add = |length: usize, octet: &u8| length.saturating_mul(256).saturating_add(usize::from(*octet));
        Some(Self { tag: *tag, length: Some(octets.iter().fold(0, add)), rest })
    }
}

/// Octets up to the end of an element without a length, and whether that is missing. One pass.
fn indefinite(octets: &[u8]) -> (usize, bool) {
    let mut rest = octets;
    let mut depth = 0u32;
    loop {
        if let [END_OF_CONTENTS, 0, behind @ ..] = rest {
            if depth == 0 {
                return (octets.len().saturating_sub(rest.len()), false);
            }
            (depth, rest) = (depth.saturating_sub(1), behind);
            continue;
        }
        let Some(header) = Header::read(rest).filter(|_| depth < DEPTH_MAX) else {
            return (octets.len(), true);
        };
        match header.length {
            None => (depth, rest) = (depth.saturating_add(1), header.rest),
            Some(length) => match header.rest.get(length..) {
                Some(behind) => rest = behind,
                None => return (octets.len(), true),
            },
        }
    }
}

/// The content type and what it holds.
fn content_info(octets: &[u8]) -> Option<(Content, Element<'_>)> {
    let info = Element::read(octets)?.tagged(SEQUENCE)?;
    let oid = Element::read(info.content)?.tagged(OID)?;
    let kind = Content::of(oid.content)?;
    let inside = Element::read(oid.rest)?.tagged(CONTENT)?;
    Some((kind, Element { is_cut: info.is_cut || inside.is_cut, ..inside }))
}

pub(super) fn is_cms(octets: &[u8]) -> bool {
    // A file that ends behind the type holds nothing.
    octets.first() == Some(&SEQUENCE) && content_info(octets).is_some()
}

/// Whether a text is CMS in base64: an identifier of PKCS shows at one of three alignments.
pub(super) fn is_cms_in_base64(octets: &[u8]) -> bool {
    let glance = octets.trim_ascii_start();
    let glance = glance.get(..BASE64_GLANCE_BYTES).unwrap_or(glance);
    let shows = |word: &[u8]| memchr::memmem::find(glance, word).is_some();
    glance.starts_with(b"MI") && (shows(b"qGSIb3DQ") || shows(b"KoZIhvcNA") || shows(b"hkiG9w0B"))
}

pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    let Some((kind, inside)) = content_info(octets) else { return };
    if matches!(kind, Content::Encrypted) {
        return opening.found(Condition::EncryptedMail);
    }
    let is_cut = inside.is_cut;
    let Some(octets) = encapsulated(inside.content, opening) else {
        // A signature beside its content has none; what was compressed has some.
        if is_cut || matches!(kind, Content::Compressed) {
            opening.found(Condition::BrokenFile);
        }
        return;
    };
    if is_cut {
        opening.found(Condition::BrokenFile);
    }
    if matches!(kind, Content::Compressed) {
        let reader = flate2::read::ZlibDecoder::new(octets.as_ref());
        let Some(inflated) = opening.inflated(reader, octets.len()) else { return };
        opening.give(Vec::new(), Cow::Owned(inflated));
    } else {
        opening.give(Vec::new(), octets);
    }
}

/// The octets in the `EncapsulatedContentInfo` of a content type. None where there are none.
fn encapsulated<'a>(octets: &'a [u8], opening: &mut Opening<'_, '_>) -> Option<Cow<'a, [u8]>> {
    let mut rest = Element::read(octets)?.tagged(SEQUENCE)?.content;
    for _ in 0..ELEMENTS_MAX {
        let element = Element::read(rest)?;
        rest = element.rest;
        if let Some(content) = element.tagged(SEQUENCE).and_then(|info| explicit(info.content)) {
            return string(content, opening);
        }
    }
    None
}

/// What follows an object identifier as `[0]`.
fn explicit(octets: &[u8]) -> Option<&[u8]> {
    let oid = Element::read(octets)?.tagged(OID)?;
    Some(Element::read(oid.rest)?.tagged(CONTENT)?.content)
}

/// An OCTET STRING, or the segments of one. PKCS#7 1.5 lets any element stand there: it is given as it is.
fn string<'a>(octets: &'a [u8], opening: &mut Opening<'_, '_>) -> Option<Cow<'a, [u8]>> {
    let element = Element::read(octets)?;
    match element.tag {
        OCTET_STRING => Some(Cow::Borrowed(element.content)),
        CONSTRUCTED_OCTET_STRING => {
            if !opening.take(element.content.len()) {
                return None;
            }
            let mut out = Vec::new();
            if !segments(element.content, &mut out, 0) {
                opening.found(Condition::BrokenFile);
            }
            Some(Cow::Owned(out))
        }
        _ => Some(Cow::Borrowed(octets)),
    }
}

/// The segments of a string, one behind the other. Whether they are whole. The recursion ends at [`DEPTH_MAX`].
fn segments(octets: &[u8], out: &mut Vec<u8>, depth: u32) -> bool {
    let mut rest = octets;
    let mut is_whole = true;
    while !rest.is_empty() {
        let Some(element) = Element::read(rest) else { return false };
        match element.tag {
            OCTET_STRING => out.extend_from_slice(element.content),
            CONSTRUCTED_OCTET_STRING if depth < DEPTH_MAX => {
                is_whole &= segments(element.content, out, depth.saturating_add(1));
            }
            _ => return false,
        }
        is_whole &= !element.is_cut;
        rest = element.rest;
    }
    is_whole
}
