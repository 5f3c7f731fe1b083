//! Keyed BLAKE3 over groups of content. Octets that were judged are known again by them, and a group goes on before the
//! next one has come.
//!
//! The key never leaves this machine, so that no sender can look for two groups with one digest. 16 octets of it are
//! enough: who does not have the key can only guess.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use zeroize::Zeroize as _;

/// Octets of a group: what is kept back at most until it is verified. Smaller ones cost more digests, larger ones more
/// memory for each session that streams.
pub const GROUP_BYTES: u64 = 16 * 1024;
/// Octets of a digest.
pub const DIGEST_BYTES: usize = 16;
/// Octets of a key (BLAKE3's).
pub const KEY_BYTES: usize = blake3::KEY_LEN;

/// What digests are made with. Wiped when it is dropped.
#[derive(Clone)]
pub struct DigestKey([u8; KEY_BYTES]);

impl DigestKey {
    /// A new one, of the kernel's randomness.
    ///
    /// # Errors
    /// There is none to be had.
    pub fn random() -> Result<Self, Unspecified> {
        let mut key = Self([0; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut key.0)?;
        Ok(key)
    }

    /// One that was kept.
    #[must_use]
    pub const fn from_octets(octets: [u8; KEY_BYTES]) -> Self {
        Self(octets)
    }

    /// To be kept.
    pub(super) const fn octets(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Another key, for what has this name. The one says nothing of the other.
    #[must_use]
    pub fn derive(&self, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(name.as_bytes());
        let mut key = Self([0; KEY_BYTES]);
        hasher.finalize_xof().fill(&mut key.0);
        hasher.zeroize();
        key
    }

    fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }

    /// The first octets of the digest of these fields. Where one ends and the next begins counts, too.
    pub(crate) fn of_fields<const N: usize>(&self, fields: &[&[u8]]) -> [u8; N] {
        let mut hasher = self.hasher();
        for field in fields {
            let length = u64::try_from(field.len()).unwrap_or(u64::MAX);
            hasher.update(&length.to_le_bytes()).update(field);
        }
        let mut digest = [0; N];
        hasher.finalize_xof().fill(&mut digest);
        hasher.zeroize();
        digest
    }
}

impl Drop for DigestKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey")
    }
}

/// The digest of one group.
#[derive(Clone, Copy, Debug)]
pub struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// Its octets.
    #[must_use]
    pub const fn octets(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }

    fn take(hasher: &mut blake3::Hasher) -> Self {
        let mut digest = Self([0; DIGEST_BYTES]);
        hasher.finalize_xof().fill(&mut digest.0);
        // The same key, no octet of content.
        hasher.reset();
        digest
    }
}

/// In the same time, wherever they differ: a server that has octets compared must not find out a digest bit by bit.
impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Digest {}

/// The digests of some content, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDigests {
    length: u64,
    digests: Vec<Digest>,
}

impl GroupDigests {
    /// Of content that is at hand.
    #[must_use]
    pub fn of(key: &DigestKey, content: &[u8]) -> Self {
        let mut hasher = GroupHasher::new(key);
        hasher.push(content);
        hasher.finish()
    }

    /// As they were kept: as many octets of digests as content of this length has, one behind the other.
    pub(super) fn from_octets(length: u64, octets: &[u8]) -> Option<Self> {
        let (digests, rest) = octets.as_chunks::<DIGEST_BYTES>();
        let fits = rest.is_empty() && u64::try_from(digests.len()) == Ok(groups_of(length));
        fits.then(|| Self { length, digests: digests.iter().map(|octets| Digest(*octets)).collect() })
    }

    /// Octets of the content.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// One for each group, in order. The last group may be shorter; no content has no group.
    #[must_use]
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }
}

/// Groups of content of this length.
const fn groups_of(length: u64) -> u64 {
    length.div_ceil(GROUP_BYTES)
}

/// Makes digests of content that comes in any pieces. It keeps none of it.
pub struct GroupHasher {
    hasher: Box<blake3::Hasher>,
    length: u64,
    digests: Vec<Digest>,
}

impl GroupHasher {
    /// For content from its first octet on.
    #[must_use]
    pub fn new(key: &DigestKey) -> Self {
        Self { hasher: Box::new(key.hasher()), length: 0, digests: Vec::new() }
    }

    /// The next octets.
    pub fn push(&mut self, octets: &[u8]) {
        let Self { hasher, length, digests } = self;
        in_groups(hasher, length, octets, |digest| {
            digests.push(digest);
            true
        });
    }

    /// The digests of the groups that are complete.
    #[must_use]
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// Octets so far.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The content is complete.
    #[must_use]
    pub fn finish(mut self) -> GroupDigests {
        if !self.length.is_multiple_of(GROUP_BYTES) {
            self.digests.push(Digest::take(&mut self.hasher));
        }
        GroupDigests { length: self.length, digests: std::mem::take(&mut self.digests) }
    }
}

/// What an unfinished group leaves is wiped.
impl Drop for GroupHasher {
    fn drop(&mut self) {
        self.hasher.zeroize();
    }
}

impl fmt::Debug for GroupHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupHasher").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Hash these octets behind `length` others; `done` gets the digest of each group that they complete, and says whether to
/// go on.
fn in_groups(
    hasher: &mut blake3::Hasher,
    length: &mut u64,
    mut octets: &[u8],
    mut done: impl FnMut(Digest) -> bool,
) {
    while !octets.is_empty() {
        let missing = usize::try_from(GROUP_BYTES - *length % GROUP_BYTES).unwrap_or(usize::MAX);
        let (now, later) = octets.split_at_checked(missing).unwrap_or((octets, &[]));
        hasher.update(now);
        *length = length.saturating_add(u64::try_from(now.len()).unwrap_or(u64::MAX));
        octets = later;
        if length.is_multiple_of(GROUP_BYTES) && !done(Digest::take(hasher)) {
            return;
        }
    }
}

/// The octets are none of those that were judged. From [`Self::verified`] on nothing may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the content is another one than was judged, behind {verified} octets")]
pub struct DigestMismatch {
    /// Octets from the first one on that are what was judged.
    pub verified: u64,
}

/// Compares content that comes in any pieces with digests. It keeps none of it.
pub struct GroupVerifier {
    hasher: Box<blake3::Hasher>,
    expected: Arc<GroupDigests>,
    length: u64,
    verified: u64,
    is_another: bool,
}

impl GroupVerifier {
    /// For content from its first octet on, that shall have these digests.
    #[must_use]
    pub fn new(key: &DigestKey, expected: Arc<GroupDigests>) -> Self {
        let hasher = Box::new(key.hasher());
        Self { hasher, expected, length: 0, verified: 0, is_another: false }
    }

    /// The next octets. Returns how many octets from the first one on are verified: whole groups, and the last one as soon
    /// as it is complete.
    ///
    /// # Errors
    /// [`DigestMismatch`], now and from now on: a group is another one, or there are more octets than were judged.
    pub fn take(&mut self, octets: &[u8]) -> Result<u64, DigestMismatch> {
        if self.is_another {
            return Err(self.mismatch());
        }
        let left = usize::try_from(self.expected.length - self.length).unwrap_or(usize::MAX);
        let (within, beyond) = octets.split_at_checked(left).unwrap_or((octets, &[]));
        self.compare(within);
        if self.length == self.expected.length
            && !self.length.is_multiple_of(GROUP_BYTES)
            && !within.is_empty()
        {
            let digest = Digest::take(&mut self.hasher);
            self.judge_group(digest, self.length);
        }
        self.is_another |= !beyond.is_empty();
        if self.is_another { Err(self.mismatch()) } else { Ok(self.verified) }
    }

    fn compare(&mut self, octets: &[u8]) {
        let Self { hasher, expected, length, verified, is_another } = self;
        in_groups(hasher, length, octets, |digest| {
            let index = usize::try_from(*verified / GROUP_BYTES).ok();
            let matches = index.and_then(|index| expected.digests.get(index)) == Some(&digest);
            if matches {
                *verified += GROUP_BYTES;
            }
            *is_another |= !matches;
            matches
        });
    }

    /// The last group, which is a short one.
    fn judge_group(&mut self, digest: Digest, end: u64) {
        if self.is_another {
            return;
        }
        let is_last = self.expected.digests.last() == Some(&digest);
        if is_last {
            self.verified = end;
        }
        self.is_another |= !is_last;
    }

    const fn mismatch(&self) -> DigestMismatch {
        DigestMismatch { verified: self.verified }
    }

    /// Octets from the first one on that are verified.
    #[must_use]
    pub const fn verified(&self) -> u64 {
        self.verified
    }

    /// Octets that were taken and are not verified yet: less than a group.
    #[must_use]
    pub const fn unverified(&self) -> u64 {
        self.length - self.verified
    }

    /// Octets that the content shall have.
    #[must_use]
    pub fn expected_length(&self) -> u64 {
        self.expected.length
    }

    /// Whether all of it has come and is verified.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.is_another && self.verified == self.expected.length
    }
}

/// What an unfinished group leaves is wiped.
impl Drop for GroupVerifier {
    fn drop(&mut self) {
        self.hasher.zeroize();
    }
}

impl fmt::Debug for GroupVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupVerifier")
            .field("verified", &self.verified)
            .field("is_another", &self.is_another)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
