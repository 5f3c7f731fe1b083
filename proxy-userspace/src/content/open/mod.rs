//! What is inside a file: the members of archives, the parts of documents.
//!
//! An opener reads a file that a stranger made. It never trusts a length, a count or an offset of the file, gives what it
//! can read also where the file is damaged, and takes each octet that it makes out of `OpenBounds` first: no file makes it
//! use more memory or time than that.

/// Documents.
mod documents;

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::{Condition, RealType};

/// Files in the text of a mail, and what wraps a mail.
pub mod encodings;
/// Files that are also an archive.
mod beside;
/// Microsoft Cabinet.
mod cab;
/// Disc images.
mod iso;
/// Names of members, in the forms in which readers take them.
mod names;
/// Numbers and stretches of a file.
mod octets;
/// One file while it is opened.
mod opening;
/// 7-Zip.
mod sevenz;
/// ar, cpio, RPM.
mod simple;
/// Files that hold one other file, compressed.
mod stream;
/// tar.
mod tar;
/// Decompression within a given room.
mod unpack;
/// ZIP.
mod zip;
/// Archives that the tests write.
#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;

pub use beside::{Beside, PlacesBeside, beside};
pub(super) use beside::{CABINET, RAR, SEVEN_ZIP, has_disk_footer};
pub(super) use iso::is_image;
pub(super) use tar::is_header as is_tar_header;

use opening::Opening;

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
    windows_left: u64,
}

/// Octets of all windows that decoders hold while what they made is judged, and while archives in it are opened. The first
/// gets half of them, the next half of the rest.
const WINDOWS_BYTES_MAX: u64 = 2 * unpack::WINDOW_BYTES_MAX;

/// Something is beyond [`OpenLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file holds more than is judged")]
pub struct BeyondLimits;

impl OpenBounds {
    /// All of it.
    #[must_use]
    pub const fn new(limits: OpenLimits) -> Self {
        let windows_left = WINDOWS_BYTES_MAX;
        Self { limits, members_left: limits.members, octets_left: limits.octets, windows_left }
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

    /// What a window may have that is held while members are visited. It is given back afterwards.
    fn hold_window(&mut self) -> u64 {
        let held = self.windows_left / 2;
        self.windows_left = self.windows_left.saturating_sub(held);
        held
    }

    fn release_window(&mut self, held: u64) {
        self.windows_left = self.windows_left.saturating_add(held);
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
    is_archive(real) || documents::opens(real)
}

/// Open a file of this type, and have each of its members visited. Returns what was found beside them; a file beyond the
/// bounds, or a damaged one, is among that, and its readable members were visited.
pub fn open(real: RealType, octets: &[u8], bounds: &mut OpenBounds, visit: &mut Visit<'_>) -> Conditions {
    match real {
        _ if is_archive(real) => open_archive(real, octets, bounds, visit),
        _ if documents::opens(real) => documents::open(real, octets, bounds, visit),
        _ => Conditions::new(),
    }
}

/// Open an archive that a file is as well. What only looks like one is not damaged: that does not count.
pub fn open_beside(
    beside: Beside,
    octets: &[u8],
    bounds: &mut OpenBounds,
    visit: &mut Visit<'_>,
) -> Conditions {
    let within = octets.get(beside.at..).unwrap_or_default();
    let mut conditions = open(beside.real, within, bounds, visit);
    conditions.remove(&Condition::BrokenFile);
    conditions
}

/// Archives and compressed files, also those that are known and not opened.
const fn is_archive(real: RealType) -> bool {
    use RealType::{
        Ace, Alz, Ar, Arj, Bzip2, Cab, Compress, Cpio, DiskImage, Egg, Gzip, Iso, Lz4, Lzh, Lzip, Rar, Rpm,
        SevenZip, Tar, Xar, Xz, Zip, Zstd,
    };
    matches!(
        real,
        Zip | Gzip
            | Bzip2
            | Xz
            | Zstd
            | Tar
            | SevenZip
            | Cab
            | Iso
            | Cpio
            | Ar
            | Rpm
            | Rar
            | DiskImage
            | Ace
            | Arj
            | Lzh
            | Compress
            | Lzip
            | Lz4
            | Xar
            | Alz
            | Egg
    )
}

/// Open an archive by the form of this type, whatever else the file is: a document of ZIP's form, for example.
fn open_archive(real: RealType, octets: &[u8], bounds: &mut OpenBounds, visit: &mut Visit<'_>) -> Conditions {
    let mut opening = Opening::new(bounds, visit);
    // Who breaks off has what is needed, or has said that a bound is reached.
    let _ = match real {
        RealType::Zip => zip::open(octets, &mut opening),
        RealType::Gzip | RealType::Bzip2 | RealType::Xz | RealType::Zstd => {
            stream::open(real, octets, &mut opening)
        }
        RealType::Tar => tar::open(octets, &mut opening),
        RealType::SevenZip => sevenz::open(octets, &mut opening),
        RealType::Cab => cab::open(octets, &mut opening),
        RealType::Iso => iso::open(octets, &mut opening),
        RealType::Cpio => simple::cpio(octets, &mut opening),
        RealType::Ar => simple::ar(octets, &mut opening),
        RealType::Rpm => simple::rpm(octets, &mut opening),
        _ => {
            opening.found(Condition::UnknownArchive);
            ControlFlow::Continue(())
        }
    };
    opening.into_conditions()
}
