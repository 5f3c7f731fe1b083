//! What is inside a file: the members of archives, the parts of documents.
//!
//! An opener reads a file that a stranger made. It never trusts a length, a count or an offset of the file, gives what it
//! can read also where the file is damaged, and takes each octet that it makes out of [`OpenBounds`] first: no file makes it
//! use more memory or time than that.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::{Condition, RealType};

/// What may be made of one leaf, in all its readings and members together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenLimits {
    /// Files inside each other.
    pub depth: u32,
    /// Files in all.
    pub members: u64,
    /// Octets in all, decompressed.
    pub octets: u64,
    /// Decompressed octets for each compressed one, once [`RATIO_FREE_BYTES`] have come.
    pub ratio: u64,
}

/// Octets below which no ratio counts: small files of spaces are honest.
pub const RATIO_FREE_BYTES: u64 = 1 << 20;

impl Default for OpenLimits {
    fn default() -> Self {
        Self { depth: 16, members: 10_000, octets: 256 << 20, ratio: 200 }
    }
}

/// What is left of [`OpenLimits`] while a leaf is judged.
#[derive(Clone, Copy, Debug)]
pub struct OpenBounds {
    limits: OpenLimits,
    members_left: u64,
    octets_left: u64,
}

/// Something is beyond [`OpenLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file holds more than is judged")]
pub struct BeyondLimits;

impl OpenBounds {
    /// All of it.
    #[must_use]
    pub const fn new(limits: OpenLimits) -> Self {
        Self { limits, members_left: limits.members, octets_left: limits.octets }
    }

    /// The limits themselves.
    #[must_use]
    pub const fn limits(&self) -> &OpenLimits {
        &self.limits
    }

    /// One more file.
    ///
    /// # Errors
    /// There are too many.
    pub fn member(&mut self) -> Result<(), BeyondLimits> {
        self.members_left = self.members_left.checked_sub(1).ok_or(BeyondLimits)?;
        Ok(())
    }

    /// So many octets more, before they are made.
    ///
    /// # Errors
    /// There are too many.
    pub fn octets(&mut self, octets: u64) -> Result<(), BeyondLimits> {
        self.octets_left = self.octets_left.checked_sub(octets).ok_or(BeyondLimits)?;
        Ok(())
    }

    /// Octets that may still be made of `compressed` ones that are there.
    #[must_use]
    pub fn room(&self, compressed: u64) -> u64 {
        let by_ratio = compressed.saturating_mul(self.limits.ratio).max(RATIO_FREE_BYTES);
        self.octets_left.min(by_ratio)
    }
}

/// One file inside another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name, with its path; control characters are left out. There may be several, where readers differ.
    pub names: Vec<String>,
    /// The types that the file around it declares for it, in lower case.
    pub declared_types: Vec<String>,
    /// Its octets, decompressed.
    pub octets: Cow<'a, [u8]>,
}

/// What an opener finds beside members. Each counts once.
pub type Conditions = std::collections::BTreeSet<Condition>;

/// Takes members; `Break` ends the opening.
pub type Visit<'v> = dyn FnMut(&mut OpenBounds, Member<'_>) -> ControlFlow<()> + 'v;

/// Whether [`open`] looks into files of this type.
#[must_use]
pub const fn opens(real: RealType) -> bool {
    let _ = real;
    false
}

/// Open a file of this type, and have each of its members visited. Returns what was found beside them; a file beyond the
/// bounds, or a damaged one, is among that, and its readable members were visited.
pub fn open(real: RealType, octets: &[u8], bounds: &mut OpenBounds, visit: &mut Visit<'_>) -> Conditions {
    let _ = (real, octets, bounds, visit);
    Conditions::new()
}
