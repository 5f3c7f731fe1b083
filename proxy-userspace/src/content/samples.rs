//! Messages, files and judgements for the tests.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::config::{self, ContentSettings};

/// A Windows program as small as the rules see one.
pub(super) fn program() -> Vec<u8> {
    let mut octets = vec![0u8; 300];
    octets[..2].copy_from_slice(b"MZ");
    octets[60] = 128;
    octets[128..132].copy_from_slice(b"PE\0\0");
    for (at, octet) in octets.iter_mut().enumerate().skip(140) {
        *octet = (at * 7 % 251) as u8;
    }
    octets
}

pub(super) fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in octets.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let is_padding = at > chunk.len();
            let character = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if is_padding { '=' } else { char::from(character) });
        }
    }
    text
}

/// In lines of 76 characters.
pub(super) fn base64_lines(octets: &[u8]) -> String {
    let text = base64(octets);
    text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>().join("\r\n")
}

pub(super) fn quoted_printable(octets: &[u8]) -> String {
    let mut text = String::new();
    let mut column = 0;
    for octet in octets {
        if column > 70 {
            text.push_str("=\r\n");
            column = 0;
        }
        match octet {
            33..=60 | 62..=126 => text.push(char::from(*octet)),
            _ => text.push_str(&format!("={octet:02X}")),
        }
        column += 3;
    }
    text
}

/// `[action.content]` with these lines.
pub(super) fn settings(lines: &str) -> ContentSettings {
    let text = format!(
        "[certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n[steering]\ningress = [\"lan0\"]\n\
         egress = [\"wan0\"]\n[action.content]\n{lines}"
    );
    config::parse(&text, Path::new("/etc/postern/postern.toml")).unwrap().unnamed_action.content
}

pub(super) fn rules() -> Rules {
    Rules::new(&["*.exe", "invoice?.js"], &["executable"]).unwrap()
}

pub(super) fn judged_by(rules: &dyn Judge, octets: &[u8], shape: Shape) -> (Vec<u8>, Vec<LeafVerdict>) {
    let pieces = vec![ContentPiece { range: 0..octets.len(), shape }];
    match judge(
        Case { octets: octets.to_vec(), pieces, describes_allowed: true },
        rules,
        &AtomicBool::new(false),
    ) {
        Judged::Final { octets, leaves } => (octets, leaves),
        Judged::Unavailable { why } => panic!("{why:?}"),
    }
}

pub(super) fn judged(octets: &[u8], shape: Shape) -> (Vec<u8>, Vec<LeafVerdict>) {
    judged_by(&rules(), octets, shape)
}

/// The tokens of the rules by which something of a message was removed.
pub(super) fn removed(message: &str) -> Vec<&'static str> {
    let (octets, leaves) = judged(message.as_bytes(), Shape::Message);
    assert_same_lines(message.as_bytes(), &octets);
    assert_eq!(judged(&octets, Shape::Message).0, octets, "what is filled stays as it is");
    leaves.iter().filter_map(|leaf| leaf.rule.as_ref()).map(RuleName::token).collect()
}

pub(super) fn assert_same_lines(before: &[u8], after: &[u8]) {
    assert_eq!(before.len(), after.len());
    let ends = |octets: &[u8]| -> Vec<(usize, u8)> {
        octets.iter().copied().enumerate().filter(|(_, octet)| matches!(octet, b'\r' | b'\n')).collect()
    };
    assert_eq!(ends(before), ends(after), "line ends stay where they are");
}

/// A mail with a text and one attachment.
pub(super) fn mail(part_header: &str, part_body: &str) -> String {
    format!(
        "From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"frontier\"\r\n\r\n\
         preamble\r\n--frontier\r\nContent-Type: text/plain\r\n\r\nHello, see the file.\r\n--frontier\r\n\
         {part_header}\r\n\r\n{part_body}\r\n--frontier--\r\nepilogue\r\n"
    )
}
