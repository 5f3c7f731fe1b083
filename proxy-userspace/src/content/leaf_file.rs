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
