use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use zeroize::Zeroizing;

/// Octets of a block in the file.
pub(super) const BLOCK_BYTES: u64 = 64 * 1024;
/// Octets of the tag.
const TAG_BYTES: u64 = 16;
/// Octets of a copy in a block.
pub(super) const PAYLOAD_BYTES: u64 = BLOCK_BYTES - TAG_BYTES;
/// Blocks that are sealed under one key: with blocks of 2^12 AES blocks, the limit that RFC 8446 section 5.5 derives for
/// AES-GCM (2^24.5 records of 2^10 AES blocks) comes after 2^22.5.
const SEALS_MAX: u64 = 1 << 22;
const KEY_BYTES: usize = 32;

/// How a block was sealed. What is read from the disk opens under exactly this, or is not what was written there.
#[derive(Clone)]
pub(super) struct SealedBlock {
    pub(super) place: u32,
    key: Arc<LessSafeKey>,
    number: u64,
}

impl SealedBlock {
    /// What was sealed.
    pub(super) fn open<'a>(&self, octets: &'a mut [u8]) -> Result<&'a mut [u8], Unspecified> {
        self.key.open_in_place(nonce(self.number), Aad::empty(), octets)
    }
}

/// Seals, under a key that never leaves this process. No number is used twice under one key.
pub(super) struct Sealer {
    key: Arc<LessSafeKey>,
    number: u64,
    seals_max: u64,
}

impl Sealer {
    pub(super) fn new() -> Result<Self, Unspecified> {
        Self::changing_after(SEALS_MAX)
    }

    fn changing_after(seals_max: u64) -> Result<Self, Unspecified> {
        Ok(Self { key: new_key()?, number: 0, seals_max })
    }

    /// Seal these octets for a block at this place; the tag comes behind them.
    pub(super) fn seal(&mut self, place: u32, octets: &mut Vec<u8>) -> Result<SealedBlock, Unspecified> {
        if self.number >= self.seals_max {
            *self = Self::changing_after(self.seals_max)?;
        }
        let number = self.number;
        self.number += 1;
        self.key.seal_in_place_append_tag(nonce(number), Aad::empty(), octets)?;
        Ok(SealedBlock { place, key: Arc::clone(&self.key), number })
    }
}

fn new_key() -> Result<Arc<LessSafeKey>, Unspecified> {
    let mut octets = Zeroizing::new([0; KEY_BYTES]);
    aws_lc_rs::rand::fill(&mut *octets)?;
    Ok(Arc::new(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*octets)?)))
}

fn nonce(number: u64) -> Nonce {
    let mut octets = [0; NONCE_LEN];
    for (to, from) in octets.iter_mut().zip(number.to_le_bytes()) {
        *to = from;
    }
    Nonce::assume_unique_for_key(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_octets_never_look_the_same_and_a_block_opens_only_as_it_was_sealed() {
        let mut sealer = Sealer::changing_after(2).unwrap();
        let mut sealed = Vec::new();
        for place in 0..5 {
            let mut octets = b"mail".to_vec();
            let block = sealer.seal(place, &mut octets).unwrap();
            sealed.push((block, octets));
        }
        for (index, (block, octets)) in sealed.iter().enumerate() {
            assert_eq!(octets.len() as u64, 4 + TAG_BYTES);
            for (other, (_, others)) in sealed.iter().enumerate() {
                let opened = block.open(&mut others.clone()).map(|octets| octets.to_vec());
                assert_eq!(opened.ok(), (index == other).then(|| b"mail".to_vec()), "{index} {other}");
                assert_eq!(octets == others, index == other);
            }
            let mut changed = octets.clone();
            changed[1] ^= 1;
            assert!(block.open(&mut changed).is_err());
        }
        let keys = |a: usize, b: usize| Arc::ptr_eq(&sealed[a].0.key, &sealed[b].0.key);
        assert!(keys(0, 1) && !keys(1, 2) && keys(2, 3) && !keys(3, 4), "a key is changed before its limit");
    }
}
