//! Windows shortcuts ([MS-SHLLINK]): what is run, with which words, under which icon, as text for those who scan; and what
//! stands behind the shortcut, which a script in it may take out.

use std::borrow::Cow;

use super::Opening;
use super::octets::{latin, le16, le32, length, part, until_zero, utf16};

const HEADER_BYTES: usize = 76;
const HAS_ID_LIST: u32 = 1;
const HAS_LINK_INFO: u32 = 1 << 1;
const IS_UNICODE: u32 = 1 << 7;
/// The strings, in their order, by their flags.
const STRINGS: [(u32, &str); 5] =
    [(1 << 2, "name"), (1 << 3, "path"), (1 << 4, "directory"), (1 << 5, "arguments"), (1 << 6, "icon")];
/// The block of data whose text is the target with names of variables.
const ENVIRONMENT: u32 = 0xa000_0001;
/// Blocks of data. The format knows eleven.
const BLOCKS_MAX: usize = 64;

/// Give the strings as one text, and the octets behind the shortcut.
pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    let mut text = String::new();
    let behind = read(octets, &mut text);
    if opening.takes(text.len()) {
        opening.taken(&["shortcut.txt"], vec!["text/plain".to_owned()], Cow::Owned(text.into_bytes()));
    }
    opening.member(&["appended"], octets.get(behind..).unwrap_or_default());
}

/// Reads the strings, and tells where the shortcut ends.
fn read(octets: &[u8], text: &mut String) -> usize {
    let flags = le32(octets, 20).unwrap_or_default();
    let mut at = HEADER_BYTES;
    if flags & HAS_ID_LIST != 0 {
        let size = usize::from(le16(octets, at).unwrap_or_default());
        line("items", &printable(part(octets, at.saturating_add(2), size)), text);
        at = at.saturating_add(2).saturating_add(size);
    }
    if flags & HAS_LINK_INFO != 0 {
        let size = length(le32(octets, at).unwrap_or_default());
        let info = part(octets, at, size);
        for offset in [16, 24] {
            let place = le32(info, offset).and_then(|offset| info.get(length(offset)..));
            if let Some((path, _)) = place.and_then(until_zero) {
                line("target", &latin(path), text);
            }
        }
        at = at.saturating_add(size.max(4));
    }
    for (flag, key) in STRINGS {
        if flags & flag != 0 {
            let count = usize::from(le16(octets, at).unwrap_or_default());
            let size = if flags & IS_UNICODE == 0 { count } else { count.saturating_mul(2) };
            let value = part(octets, at.saturating_add(2), size);
            line(key, &if flags & IS_UNICODE == 0 { latin(value) } else { utf16(value) }, text);
            at = at.saturating_add(2).saturating_add(size);
        }
    }
    for _ in 0..BLOCKS_MAX {
        let Some(size) = le32(octets, at).map(length) else { break };
        if size < 4 {
            return at.saturating_add(4);
        }
        if le32(octets, at.saturating_add(4)) == Some(ENVIRONMENT) {
            line("variable", &utf16(part(octets, at.saturating_add(268), 520)), text);
        }
        at = at.saturating_add(size);
    }
    at
}

fn line(key: &str, value: &str, text: &mut String) {
    let value: String = value.chars().filter(|c| !c.is_control()).collect();
    if !value.is_empty() {
        text.push_str(&format!("{key}: {value}\n"));
    }
}

/// The names in a list of items: ASCII as it stands, and as UTF-16 where each second octet is a zero.
fn printable(items: &[u8]) -> String {
    let mut text = String::new();
    let mut zeros = 0;
    for octet in items {
        match octet {
            b' '..=b'~' => {
                if zeros > 1 {
                    text.push(' ');
                }
                text.push(char::from(*octet));
                zeros = 0;
            }
            0 => zeros += 1,
            _ => zeros = 2,
        }
    }
    text
}
