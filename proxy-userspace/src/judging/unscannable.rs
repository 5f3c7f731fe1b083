use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::protocol::TermsId;

/// Leaves that are remembered. Each costs 40 octets here, and cost two processes.
const UNSCANNABLE_MAX: usize = 4_096;

/// A leaf under terms, as it is remembered: its length, and the keyed digest of all that a judge is told of it.
type Entry = (usize, blake3::Hash);

/// Leaves that ended two judges: no third one is asked. The oldest is forgotten first. They are forgotten with the process,
/// and the verdict that was filled by then stays.
pub(super) struct Unscannable {
    key: [u8; blake3::KEY_LEN],
    entries: Mutex<VecDeque<Entry>>,
}

impl Unscannable {
    pub(super) const fn new(key: [u8; blake3::KEY_LEN]) -> Self {
        Self { key, entries: Mutex::new(VecDeque::new()) }
    }

    /// Whether this leaf is among them. It is hashed only where one of its length is.
    pub(super) fn has(&self, terms: TermsId, head: &[u8], octets: &[u8]) -> bool {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let candidates: Vec<Entry> =
            entries.iter().filter(|(length, _)| *length == octets.len()).copied().collect();
        drop(entries);
        if candidates.is_empty() {
            return false;
        }
        let digest = self.digest(terms, head, octets);
        candidates.iter().any(|(_, known)| *known == digest)
    }

    /// Remember it.
    pub(super) fn remember(&self, terms: TermsId, head: &[u8], octets: &[u8]) {
        let entry = (octets.len(), self.digest(terms, head, octets));
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.contains(&entry) {
            return;
        }
        entries.truncate(UNSCANNABLE_MAX.saturating_sub(1));
        entries.push_front(entry);
    }

    fn digest(&self, TermsId(terms): TermsId, head: &[u8], octets: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        // Of known length each, so that no two leaves give the same octets.
        hasher.update(&terms).update(blake3::hash(head).as_bytes()).update(octets);
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_known_by_its_octets_its_head_and_its_terms_together() {
        let (terms, other) = (TermsId([1; 16]), TermsId([2; 16]));
        let unscannable = Unscannable::new([7; 32]);
        assert!(!unscannable.has(terms, b"head", b"leaf"));
        unscannable.remember(terms, b"head", b"leaf");
        assert!(unscannable.has(terms, b"head", b"leaf"));
        assert!(!unscannable.has(other, b"head", b"leaf"));
        assert!(!unscannable.has(terms, b"headl", b"eaf"));
        assert!(!unscannable.has(terms, b"hear", b"leaf"));
        assert!(!unscannable.has(terms, b"head", b"lead"));
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let terms = TermsId([1; 16]);
        let unscannable = Unscannable::new([7; 32]);
        for number in 0..=UNSCANNABLE_MAX {
            unscannable.remember(terms, b"", &number.to_le_bytes());
        }
        assert!(!unscannable.has(terms, b"", &0_usize.to_le_bytes()));
        assert!(unscannable.has(terms, b"", &1_usize.to_le_bytes()));
        assert!(unscannable.has(terms, b"", &UNSCANNABLE_MAX.to_le_bytes()));
    }
}
