//! yEnc, anywhere in a text.

use std::borrow::Cow;

use super::{Opening, next_word};
use crate::content::header::line_at;

/// What is added to each octet, and what is added to one behind a `=`.
const OFFSET: u8 = 42;
const ESCAPED_OFFSET: u8 = 64;

pub(super) fn may_hold(octets: &[u8]) -> bool {
    next_word(octets, b"=ybegin ", 0).is_some()
}

pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    let mut at = 0;
    // What several parts are together, for a reader who joins them.
    let (mut joined, mut parts, mut names) = (Vec::new(), 0usize, Vec::new());
    while let Some(line) = next_word(octets, b"=ybegin ", at).and_then(|begin| line_at(octets, begin)) {
        at = line.next;
        names = opening.name(name(octets.get(line.range).unwrap_or_default()));
        let mut file = Vec::new();
        let mut is_escaped = false;
        while let Some(line) = line_at(octets, at) {
            let text = octets.get(line.range).unwrap_or_default();
            if text.starts_with(b"=ybegin ") {
                break;
            }
            at = line.next;
            if text.starts_with(b"=yend") {
                break;
            }
            if text.starts_with(b"=ypart ") {
                continue;
            }
            if !opening.take(text.len()) {
                return;
            }
            decode(text, &mut is_escaped, &mut file);
        }
        if !opening.take(file.len()) {
            return;
        }
        joined.extend_from_slice(&file);
        parts = parts.saturating_add(1);
        if !file.is_empty() {
            opening.give(names.clone(), Cow::Owned(file));
        }
        if opening.is_over {
            return;
        }
    }
    if parts > 1 {
        opening.give(names, Cow::Owned(joined));
    }
}

/// The name is the last word of its line, and may have spaces.
fn name(line: &[u8]) -> &[u8] {
    let key = b"name=";
    let at = memchr::memmem::find(line, key);
    at.and_then(|at| line.get(at.saturating_add(key.len())..)).unwrap_or_default().trim_ascii()
}

fn decode(line: &[u8], is_escaped: &mut bool, out: &mut Vec<u8>) {
    for octet in line {
        if std::mem::take(is_escaped) {
            out.push(octet.wrapping_sub(ESCAPED_OFFSET).wrapping_sub(OFFSET));
        } else if *octet == b'=' {
            *is_escaped = true;
        } else {
            out.push(octet.wrapping_sub(OFFSET));
        }
    }
}
