//! Messages to fill mailboxes with: clean ones, and hostile ones that say which of their octets must never arrive.

/// Messages in which nothing is forbidden.
mod clean;
/// Encodings, and octets that are forbidden.
pub mod make;
/// Messages with something forbidden in them.
mod hostile;

use std::ops::Range;

pub use clean::clean;
pub use hostile::{eicar_message, hostile, hostile_large, pe_message};

use make::{base64_decode, quoted_printable_decode};

/// A message.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What is special about it.
    pub name: &'static str,
    /// Its octets, lines ending in CRLF.
    pub octets: Vec<u8>,
    /// Where the leaves stand that must not arrive, encoded as they are in the message.
    pub leaves: Vec<Range<usize>>,
    /// Where readers of MIME disagree: these octets may be overwritten as well as not.
    pub doubts: Vec<Range<usize>>,
    /// Pieces of the forbidden content, decoded: none of them may be seen.
    pub needles: Vec<Vec<u8>>,
}

/// How a message is put together.
#[derive(Clone, Debug)]
pub enum Piece {
    /// What must arrive unchanged.
    Text(Vec<u8>),
    /// A leaf that must not arrive: encoded, and the content that it stands for.
    Leaf(Vec<u8>, Vec<u8>),
    /// What may be overwritten as well as not.
    Doubt(Vec<u8>),
}

/// Octets of a piece of forbidden content that is looked for.
const NEEDLE_BYTES: usize = 16;
/// Pieces that are looked for, per content.
const NEEDLES: usize = 6;

impl Sample {
    /// Put one together.
    #[must_use]
    pub fn of(name: &'static str, pieces: Vec<Piece>) -> Self {
        let mut sample =
            Self { name, octets: Vec::new(), leaves: Vec::new(), doubts: Vec::new(), needles: Vec::new() };
        for piece in pieces {
            let start = sample.octets.len();
            let (Piece::Text(octets) | Piece::Leaf(octets, _) | Piece::Doubt(octets)) = &piece;
            sample.octets.extend_from_slice(octets);
            let range = start..sample.octets.len();
            match piece {
                Piece::Text(_) => {}
                Piece::Doubt(_) => sample.doubts.push(range),
                Piece::Leaf(_, content) => {
                    sample.leaves.push(range);
                    sample.needles.extend(needles(&content));
                }
            }
        }
        sample
    }

    /// A clean one.
    #[must_use]
    pub fn clean(name: &'static str, octets: Vec<u8>) -> Self {
        Self::of(name, vec![Piece::Text(octets)])
    }

    /// Whether forbidden content can be had out of these octets, as they are or decoded.
    #[must_use]
    pub fn is_in(&self, octets: &[u8]) -> bool {
        holds(&self.needles, octets)
    }

    /// That `arrived` is this message but for the leaves that must not arrive: the same length, the same octets around
    /// the leaves, and inside them nothing forbidden.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn arrived_as(&self, sent: &[u8], arrived: &[u8]) -> anyhow::Result<()> {
        use anyhow::ensure;
        ensure!(sent.len() == arrived.len(), "{}: {} octets became {}", self.name, sent.len(), arrived.len());
        let free: Vec<_> = self.leaves.iter().chain(&self.doubts).collect();
        for (at, (old, new)) in sent.iter().zip(arrived).enumerate() {
            ensure!(
                old == new || free.iter().any(|range| range.contains(&at)),
                "{}: octet {at} is not of a removed leaf and changed: {:?} became {:?}",
                self.name,
                around(sent, at),
                around(arrived, at)
            );
        }
        ensure!(!self.is_in(arrived), "{}: forbidden content arrived", self.name);
        for leaf in &self.leaves {
            let (old, new) = (sent.get(leaf.clone()), arrived.get(leaf.clone()));
            ensure!(old != new, "{}: the leaf at {leaf:?} arrived", self.name);
            let lines = |octets: Option<&[u8]>| {
                octets.unwrap_or_default().split(|&octet| octet == b'\n').map(<[u8]>::len).collect::<Vec<_>>()
            };
            ensure!(lines(old) == lines(new), "{}: lines of the leaf at {leaf:?} changed length", self.name);
        }
        Ok(())
    }
}

fn around(octets: &[u8], at: usize) -> String {
    let piece = octets.get(at.saturating_sub(20)..octets.len().min(at + 20)).unwrap_or_default();
    piece.escape_ascii().to_string()
}

/// Pieces of some content that say what it is: none of them is nearly empty.
fn needles(content: &[u8]) -> Vec<Vec<u8>> {
    let telling: Vec<&[u8]> = content
        .windows(NEEDLE_BYTES)
        .step_by(4)
        .filter(|piece| piece.iter().collect::<std::collections::BTreeSet<_>>().len() >= NEEDLE_BYTES / 2)
        .collect();
    let step = telling.len().div_ceil(NEEDLES).max(1);
    telling.iter().step_by(step).map(|piece| piece.to_vec()).collect()
}

/// Whether one of these can be had out of the octets, as they are or decoded.
#[must_use]
pub fn holds(needles: &[Vec<u8>], octets: &[u8]) -> bool {
    let mut begins = [false; 256];
    for &first in needles.iter().filter_map(|needle| needle.first()) {
        if let Some(begins) = begins.get_mut(usize::from(first)) {
            *begins = true;
        }
    }
    let found = |octets: &[u8]| {
        octets.iter().enumerate().any(|(at, &octet)| {
            begins.get(usize::from(octet)) == Some(&true)
                && octets.get(at..).is_some_and(|rest| needles.iter().any(|needle| rest.starts_with(needle)))
        })
    };
    if found(octets) || found(&quoted_printable_decode(octets)) {
        return true;
    }
    // Base64 from any octet of it, in each run that can be base64, lines joined.
    let runs = octets.split(|octet| !make::is_base64(*octet) && !matches!(octet, b'\r' | b'\n'));
    runs.filter(|run| run.len() >= NEEDLE_BYTES).any(|run| {
        (0..4).any(|skip| {
            let letters: Vec<u8> = run.iter().copied().filter(|&octet| make::is_base64(octet)).collect();
            let decoded = base64_decode(letters.get(skip..).unwrap_or_default());
            // Base64 in base64 is a way to hide, too.
            found(&decoded)
                || (decoded.iter().all(|&octet| octet != 0) && {
                    let inner: Vec<u8> =
                        decoded.iter().copied().filter(|&octet| make::is_base64(octet)).collect();
                    (0..4).any(|skip| found(&base64_decode(inner.get(skip..).unwrap_or_default())))
                })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::make::{base64, eicar, portable_executable, quoted_printable};
    use super::*;

    #[test]
    fn forbidden_content_is_found_however_it_is_encoded_or_cut() {
        for content in [eicar(), portable_executable()] {
            let needles = needles(&content);
            assert!(needles.len() >= 3);
            assert!(holds(&needles, &content));
            assert!(holds(&needles, &quoted_printable(&content)));
            let encoded = base64(&content);
            for cut in 0..8 {
                assert!(holds(&needles, &encoded[cut..]), "from octet {cut}");
            }
            let mut reply = b"* 1 FETCH (BODY[2]<4> {99}\r\n".to_vec();
            reply.extend_from_slice(&encoded[4..]);
            reply.extend_from_slice(b")\r\n");
            assert!(holds(&needles, &reply));
            assert!(holds(&needles, &base64(&base64(&content))));
        }
    }

    #[test]
    fn clean_messages_hold_nothing_forbidden() {
        for hostile in hostile() {
            assert!(hostile.is_in(&hostile.octets), "{} holds nothing", hostile.name);
            for clean in clean().iter().filter(|clean| clean.octets.len() < 100_000) {
                assert!(!hostile.is_in(&clean.octets), "{} is in {}", hostile.name, clean.name);
            }
        }
    }

    #[test]
    fn every_line_of_every_message_ends_in_crlf() {
        for sample in hostile().into_iter().chain(clean()) {
            let text = String::from_utf8_lossy(&sample.octets).replace("\r\n", "");
            assert!(!text.contains(['\r', '\n', '\0']), "{}", sample.name);
        }
    }
}
