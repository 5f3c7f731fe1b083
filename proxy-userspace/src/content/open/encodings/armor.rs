//! Text between `-----BEGIN …-----` and `-----END …-----`: OpenPGP messages (RFC 9580 section 6) and S/MIME (RFC 7468).

use std::borrow::Cow;

use memchr::memmem;

use super::{Opening, next_word, pgp};
use crate::content::Reading;
use crate::content::header::line_at;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";

/// What stands in an armor that is opened.
enum Label {
    /// OpenPGP packets.
    Message,
    /// A file: CMS, or whatever was armored.
    File,
}

impl Label {
    /// Signatures, keys and certificates hold nothing that a reader opens; a cleartext signature is a text.
    fn of(line: &[u8]) -> Option<Self> {
        let label = line.strip_prefix(BEGIN)?;
        if label.starts_with(b"PGP MESSAGE") {
            return Some(Self::Message);
        }
        let files: [&[u8]; 5] = [b"PGP ARMORED FILE", b"PKCS7", b"PKCS #7", b"CMS", b"SMIME"];
        files.iter().any(|file| label.starts_with(file)).then_some(Self::File)
    }
}

pub(super) fn may_hold(octets: &[u8]) -> bool {
    next(octets, 0).is_some()
}

/// The next armor that is opened, and where the line behind its first line begins.
fn next(octets: &[u8], at: usize) -> Option<(Label, usize)> {
    let mut at = at;
    loop {
        let line = line_at(octets, next_word(octets, BEGIN, at)?)?;
        at = line.next;
        if let Some(label) = Label::of(octets.get(line.range)?) {
            return Some((label, at));
        }
    }
}

pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    let mut at = 0;
    while let Some((label, begin)) = next(octets, at).filter(|_| !opening.is_over) {
        let rest = octets.get(begin..).unwrap_or_default();
        let length = memmem::find(rest, END).unwrap_or(rest.len());
        let body = rest.get(..length).unwrap_or_default();
        at = begin.saturating_add(length);
        if !opening.take(body.len().saturating_mul(2)) {
            return;
        }
        let decoded = Reading::Base64.decoded(&characters(body));
        match label {
            Label::Message => pgp::armored(&decoded, opening),
            Label::File => opening.give(Vec::new(), Cow::Owned(decoded)),
        }
    }
}

/// The lines of base64: neither the armor's header fields nor its checksum.
fn characters(body: &[u8]) -> Vec<u8> {
    let mut characters = Vec::new();
    let mut at = 0;
    while let Some(line) = line_at(body, at) {
        at = line.next;
        let text = body.get(line.range).unwrap_or_default();
        if !text.contains(&b':') && !text.starts_with(b"=") {
            characters.extend_from_slice(text);
        }
    }
    characters
}
