//! The file that a leaf is: what its declared encoding gives. Records name it by size and hash, so that it can be looked for
//! elsewhere; nothing is decided by it.

use aws_lc_rs::digest::{Context, SHA256};

use super::PUSH_BYTES_MAX;
use super::header::Facts;
use super::reading::{Decoder, Reading};

/// A decoded file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafFile {
    /// Its octets.
    pub octets: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

impl LeafFile {
    /// Of a leaf as served. Of two encodings that are declared, the one that more clients take is taken.
    pub(super) fn of(leaf: &[u8], facts: &Facts) -> Self {
        let reading = match (facts.is_base64, facts.is_quoted_printable) {
            (true, _) => Reading::Base64,
            (false, true) => Reading::QuotedPrintable,
            (false, false) => Reading::Identity,
        };
        Self::read(leaf, reading)
    }

    /// Of octets in this reading.
    pub(super) fn read(octets: &[u8], reading: Reading) -> Self {
        let (mut hash, mut count) = (Context::new(&SHA256), 0);
        let mut add = |octets: &[u8]| {
            hash.update(octets);
            count += octets.len() as u64;
        };
        if reading == Reading::Identity {
            add(octets);
        } else {
            let (mut decoder, mut file) = (Decoder::new(reading), Vec::new());
            for chunk in octets.chunks(PUSH_BYTES_MAX) {
                decoder.push(chunk, &mut file);
                add(&file);
                file.clear();
            }
            decoder.flush(&mut file);
            add(&file);
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(hash.finish().as_ref());
        Self { octets: count, sha256 }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::samples::{base64_lines, judged, mail, program, rules};
    use super::super::{Case, ContentPiece, Judged, Shape, judge};
    use super::*;

    fn file(octets: &[u8]) -> LeafFile {
        let digest = aws_lc_rs::digest::digest(&SHA256, octets);
        LeafFile { octets: octets.len() as u64, sha256: digest.as_ref().try_into().unwrap() }
    }

    #[test]
    fn a_file_has_one_hash_however_it_is_encoded_and_fetched() {
        let header = |encoding: &str| {
            format!("Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n")
                .into_bytes()
        };
        let quoted: String = program().iter().map(|octet| format!("={octet:02X}=\r\n")).collect();
        let expected = Some(file(&program()));
        for (encoding, body) in [("base64", base64_lines(&program())), ("quoted-printable", quoted)] {
            let message = mail(String::from_utf8(header(encoding)).unwrap().trim_end(), &body);
            let (_, whole) = judged(message.as_bytes(), Shape::Message);
            let (_, part) =
                judged(body.as_bytes(), Shape::Body { header: header(encoding), hints: Vec::new() });
            assert_eq!(whole.iter().find(|leaf| leaf.path == "2").unwrap().file, expected, "{encoding}");
            assert_eq!(part[0].file, expected, "{encoding}");
        }
    }

    #[test]
    fn allowed_leaves_are_described_only_for_whom_they_are_written_down() {
        let message = mail("Content-Type: text/plain", "harmless");
        for describes_allowed in [false, true] {
            let pieces = vec![ContentPiece { range: 0..message.len(), shape: Shape::Message }];
            let case = Case { octets: message.clone().into_bytes(), pieces, describes_allowed };
            let Judged::Final { leaves, .. } = judge(case, &rules(), &AtomicBool::new(false)) else {
                panic!()
            };
            let leaf = leaves.iter().find(|leaf| leaf.path == "2").unwrap();
            assert_eq!(leaf.file, describes_allowed.then(|| file(b"harmless")));
        }
    }
}
