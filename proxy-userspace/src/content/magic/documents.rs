//! Documents, mails and media by their octets; text and its kinds, last of all.

use memchr::memmem;

use super::super::RealType;
use super::text::{self, Utf8};

/// Octets from the beginning within which a reader of PDF looks for the file's head.
const PDF_HEAD_BYTES: usize = 1_024;
/// Octets in which the entries of a ZIP are looked for, at its beginning and at its end.
const ZIP_LOOK_BYTES: usize = 256 << 10;
/// Entries of a ZIP that are looked at, at each end.
const ZIP_ENTRIES_MAX: usize = 4_096;

/// A compound file ([MS-CFB] section 2.2).
pub(in crate::content) const OLE: [u8; 8] = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
/// The sections and the table of contents of OneNote ([MS-ONESTORE] section 2.3.1).
const ONENOTE: [[u8; 16]; 2] = [
    [0xe4, 0x52, 0x5c, 0x7b, 0x8c, 0xd8, 0xa7, 0x4d, 0xae, 0xb1, 0x53, 0x78, 0xd0, 0x29, 0x96, 0xd3],
    [0xa1, 0x2f, 0xff, 0x43, 0xd9, 0xef, 0x76, 0x4c, 0x9e, 0xe2, 0x10, 0xea, 0x57, 0x22, 0x76, 0x5f],
];
/// The object identifiers under which CMS has its content types: id-data's arc, and that of S/MIME.
const CMS_TYPES: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];
const SMIME_TYPES: &[u8] = &[0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01];
/// A class identifier of the Windows installer, behind its first octet.
const INSTALLER: [u8; 15] = [0x10, 0x0c, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x46];

/// Documents and media that their first octets show, and documents that are ZIP archives.
pub(super) fn document_type(octets: &[u8]) -> Option<RealType> {
    let trimmed = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets).trim_ascii_start();
    if octets.starts_with(&OLE) {
        return Some(if is_installer(octets) { RealType::Msi } else { RealType::Ole });
    }
    if is_worksheet(octets) {
        return Some(RealType::Ole);
    }
    if ONENOTE.iter().any(|head| octets.starts_with(head)) {
        return Some(RealType::OneNote);
    }
    if trimmed.starts_with(b"%PDF-") {
        return Some(RealType::Pdf);
    }
    if trimmed.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"{\\rt")) {
        return Some(RealType::Rtf);
    }
    if is_cms(octets) {
        return Some(RealType::Cms);
    }
    if is_pgp(octets) {
        return Some(RealType::Pgp);
    }
    match octets {
        [b'I', b'T', b'S', b'F', 1..=4, 0, 0, 0, ..] => return Some(RealType::Chm),
        [0x78, 0x9f, 0x3e, 0x22, ..] => return Some(RealType::Tnef),
        _ => {}
    }
    package_type(octets).or_else(|| media_type(octets))
}

/// What is told last: a PDF behind other octets, and text.
pub(super) fn text_type(octets: &[u8]) -> Option<RealType> {
    let head = octets.get(..PDF_HEAD_BYTES.saturating_add(8)).unwrap_or(octets);
    if let Some(at) = memmem::find(head, b"%PDF-")
        && head.get(at.saturating_add(5)).is_some_and(u8::is_ascii_digit)
        && at < PDF_HEAD_BYTES
    {
        return Some(RealType::Pdf);
    }
    match Utf8::of(octets) {
        Some(text) => text.kind(),
        None => text::spoilt_page(octets),
    }
}

/// A package of the Windows installer, its patch, or its transform: the root entry's class identifier tells.
fn is_installer(octets: &[u8]) -> bool {
    let class = || -> Option<&[u8]> {
        let shift = u32::from(super::le16(octets, 30)?);
        let sector = usize::try_from(super::le32(octets, 48)?).ok()?;
        let at = sector.checked_add(1)?.checked_mul(1usize.checked_shl(shift.min(16))?)?;
        octets.get(at.checked_add(80)?..)?.get(..16)
    };
    class().is_some_and(|class| matches!(class, [0x82 | 0x84 | 0x86, behind @ ..] if behind == INSTALLER))
}

/// A worksheet as Excel wrote it before compound files: its first record says that one begins. Excel opens it still.
fn is_worksheet(octets: &[u8]) -> bool {
    let (Some(length), Some(kind)) = (super::le16(octets, 2), super::le16(octets, 6)) else { return false };
    let kinds = matches!(kind, 0x05 | 0x06 | 0x10 | 0x20 | 0x40 | 0x100);
    matches!(octets, [9, 0 | 2 | 4 | 8, ..]) && (4..=16).contains(&length) && kinds
}

/// A SEQUENCE whose first element is the identifier of a content type.
fn is_cms(octets: &[u8]) -> bool {
    let Some([0x30, length, ..]) = octets.first_chunk::<3>() else { return false };
    let head = match length {
        0..=0x80 => 2,
        0x81..=0x88 => 2usize.saturating_add(usize::from(length & 0x0f)),
        _ => return false,
    };
    let identifier = octets.get(head..).unwrap_or_default();
    identifier.starts_with(CMS_TYPES) || identifier.starts_with(SMIME_TYPES)
}

/// Packets of a message that is encrypted: session keys, or protected data (RFC 9580 sections 5.1, 5.3, 5.13).
fn is_pgp(octets: &[u8]) -> bool {
    let Some((first, rest)) = octets.split_first() else { return false };
    let (tag, skipped, length) = match (first, rest) {
        (0x80..=0xbf, [length, ..]) if first & 3 == 0 => (first >> 2 & 15, 1, u64::from(*length)),
        (0x80..=0xbf, [a, b, ..]) if first & 3 == 1 => {
            (first >> 2 & 15, 2, u64::from(u16::from_be_bytes([*a, *b])))
        }
        (0xc0.., [length @ 0..=191, ..]) => (first & 63, 1, u64::from(*length)),
        (0xc0.., [a @ 192..=223, b, ..]) => {
            (first & 63, 2, (u64::from(*a) - 192) * 256 + u64::from(*b) + 192)
        }
        (0xc0.., [255, a, b, c, d, ..]) => (first & 63, 5, u64::from(u32::from_be_bytes([*a, *b, *c, *d]))),
        (0xc0.., [224..=254, ..]) => (first & 63, 1, 1),
        _ => return false,
    };
    let body = rest.get(skipped..).unwrap_or_default();
    if length > body.len() as u64 {
        return false;
    }
    match (tag, body) {
        (1, [3, behind @ ..]) => length >= 12 && matches!(behind.get(8), Some(1 | 2 | 16 | 18 | 25 | 26)),
        (1, [6, ..]) => length >= 24,
        (3, [4, 1..=13, 0 | 1 | 3 | 4, ..]) => (4..=64).contains(&length),
        (3, [5 | 6, ..]) => (16..=96).contains(&length),
        (18, [1, ..]) => length >= 19 && length.saturating_add(5) >= body.len() as u64,
        _ => false,
    }
}

/// A document that is a ZIP archive, told by the names of its entries at either end.
fn package_type(octets: &[u8]) -> Option<RealType> {
    let begin = octets.get(..ZIP_LOOK_BYTES).unwrap_or(octets);
    let end = octets.get(octets.len().saturating_sub(ZIP_LOOK_BYTES)..).unwrap_or_default();
    let is_zip = octets.starts_with(b"PK\x03\x04") || memmem::rfind(end, b"PK\x05\x06").is_some();
    if !is_zip {
        return None;
    }
    let mut found = None;
    for (part, signature, name_at, length_at) in
        [(begin, b"PK\x03\x04", 30, 26), (end, b"PK\x01\x02", 46, 28)]
    {
        for at in memmem::find_iter(part, signature).take(ZIP_ENTRIES_MAX) {
            let entry = part.get(at..).unwrap_or_default();
            let length = usize::from(super::le16(entry, length_at).unwrap_or_default());
            let name = entry.get(name_at..).unwrap_or_default();
            let content = name.get(length..).unwrap_or_default();
            match entry_type(name.get(..length).unwrap_or(name), content) {
                Some(RealType::Ooxml) => return Some(RealType::Ooxml),
                Some(other) => found = found.or(Some(other)),
                None => {}
            }
        }
    }
    found
}

/// What the name of an entry says of the archive.
fn entry_type(name: &[u8], content: &[u8]) -> Option<RealType> {
    let is = |other: &[u8]| {
        name.len() == other.len()
            && name.iter().zip(other).all(|(a, b)| a.eq_ignore_ascii_case(b) || (*a, *b) == (b'\\', b'/'))
    };
    let is_odf = || {
        content.starts_with(b"application/vnd.oasis.opendocument")
            || content.starts_with(b"application/vnd.sun.xml")
            || content.first().is_none_or(|octet| !octet.is_ascii_alphabetic())
    };
    if is(b"[Content_Types].xml") || is(b"_rels/.rels") {
        return Some(RealType::Ooxml);
    }
    if is(b"mimetype") {
        // Other formats, such as electronic books, have an entry of that name, too.
        return is_odf().then_some(RealType::Odf);
    }
    is(b"META-INF/manifest.xml").then_some(RealType::Odf)
}

/// Images, sound and film.
fn media_type(octets: &[u8]) -> Option<RealType> {
    match octets {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(RealType::Png),
        [0xff, 0xd8, 0xff, ..] => Some(RealType::Jpeg),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(RealType::Gif),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(RealType::Webp),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Some(RealType::Audio),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ', ..] => Some(RealType::Video),
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => Some(RealType::Tiff),
        [b'B', b'M', ..] if is_bitmap(octets) => Some(RealType::Bmp),
        [0, 0, 1 | 2, 0, 1..=64, 0, _, _, _, 0, ..] => Some(RealType::Icon),
        [b'I', b'D', b'3', 2..=4, ..]
        | [b'O', b'g', b'g', b'S', 0, ..]
        | [b'f', b'L', b'a', b'C', 0, ..]
        | [b'M', b'T', b'h', b'd', 0, 0, 0, 6, ..] => Some(RealType::Audio),
        // A frame of MPEG audio: version, layer, bit rate and sampling rate are none of those that are reserved.
        [0xff, sync, rates, ..]
            if sync & 0xe6 == 0xe2 && sync & 0x18 != 8 && rates >> 4 != 15 && rates & 0x0c != 0x0c =>
        {
            Some(RealType::Audio)
        }
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => {
            let is_image = matches!(brand, [b'h', b'e', b'i' | b'v', ..] | [b'm', b'i', b'f', ..])
                || brand.starts_with(b"avif");
            (!is_image).then_some(RealType::Video)
        }
        [0x1a, 0x45, 0xdf, 0xa3, ..]
        | [0, 0, 1, 0xba | 0xb3, ..]
        | [b'F', b'L', b'V', 1, ..]
        | [0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11, ..] => Some(RealType::Video),
        _ => None,
    }
}

/// "BM" begins text, too: the size of the second header is one of those that exist.
fn is_bitmap(octets: &[u8]) -> bool {
    matches!(super::le32(octets, 14), Some(12 | 40 | 52 | 56 | 64 | 108 | 124))
}

#[cfg(test)]
mod tests;
