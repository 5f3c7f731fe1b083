//! Disc images: ISO 9660 with the names of Joliet and Rock Ridge.
//!
//! Readers take one of several trees. All that are there are walked, and a file that several of them have is one member
//! with the names of all. UDF is a tree of its own, which is not read here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::Condition;
use super::names::Names;
use super::octets::{clamped, index, le16, le32, slice};
use super::opening::Opening;

const SECTOR_BYTES: usize = 2_048;
/// Where the descriptors begin.
const DESCRIPTORS_SECTOR: usize = 16;
/// Sectors in which descriptors are looked for.
const DESCRIPTORS_MAX: usize = 64;
/// Octets of all directories together: they may lie upon each other.
const DIRECTORIES_BYTES_MAX: usize = 16 << 20;
/// Directories inside each other.
const DIRECTORY_DEPTH_MAX: usize = 64;
/// Pieces of one file.
const EXTENTS_MAX: usize = 1_024;
/// Continuations of a record's names.
const CONTINUATIONS_MAX: usize = 8;
/// Flags of a directory record.
const IS_DIRECTORY: u8 = 2;
const GOES_ON: u8 = 0x80;

/// Where the octets of a file stand: offset and length of each piece.
type Extents = Vec<(usize, usize)>;

/// What descriptors say.
struct Tree<'o> {
    octets: &'o [u8],
    block_bytes: usize,
    is_joliet: bool,
}

/// The name of a descriptor, and its sector.
fn descriptors(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let sectors = DESCRIPTORS_SECTOR..DESCRIPTORS_SECTOR + DESCRIPTORS_MAX;
    sectors.map_while(|sector| octets.get(sector * SECTOR_BYTES..)).map(|rest| clamped(rest, 0, SECTOR_BYTES))
}

/// Whether a file is an image of ISO 9660 or UDF. Descriptors of other kinds may stand before theirs.
pub(in crate::content) fn is_image(octets: &[u8]) -> bool {
    let is_other =
        |descriptor: &&[u8]| matches!(slice(descriptor, 1, 5), Some(b"BOOT2" | b"TEA01" | b"CDW02"));
    descriptors(octets)
        .find(|descriptor| !is_other(descriptor))
        .is_some_and(|first| matches!(slice(first, 1, 5), Some(b"CD001" | b"BEA01" | b"NSR02" | b"NSR03")))
}

/// Visit the files of an image.
pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let mut files = BTreeMap::new();
    let mut trees = 0u32;
    for descriptor in descriptors(octets) {
        match (descriptor.first(), slice(descriptor, 1, 5)) {
            (Some(1 | 2), Some(b"CD001")) => {
                trees = trees.saturating_add(1);
                walk(octets, descriptor, &mut files, opening);
            }
            // UDF, which Windows prefers where both are there.
            (_, Some(b"NSR02" | b"NSR03")) => opening.found(Condition::UnknownArchive),
            _ => {}
        }
    }
    if trees == 0 {
        opening.found(Condition::UnknownArchive);
    }
    for (extents, names) in files {
        file(octets, &extents, &names, opening)?;
    }
    ControlFlow::Continue(())
}

fn file(octets: &[u8], extents: &Extents, names: &Names, opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let piece = |(at, length): &(usize, usize)| clamped(octets, *at, *length);
    if extents.iter().any(|extent| piece(extent).len() < extent.1) {
        opening.found(Condition::BrokenFile);
    }
    if let [extent] = extents.as_slice() {
        return opening.stored(names, piece(extent));
    }
    let room = opening.room(octets.len());
    let mut whole = Vec::new();
    for extent in extents {
        let piece = piece(extent);
        let fitting = clamped(piece, 0, room.saturating_sub(whole.len()));
        if fitting.len() < piece.len() {
            opening.found(Condition::ArchiveLimits);
        }
        whole.extend_from_slice(fitting);
    }
    opening.made(whole.len());
    opening.member(names, &whole)
}

/// A directory that is to be read.
struct Directory {
    at: usize,
    length: usize,
    path: String,
    depth: usize,
}

/// Collect the files of one tree.
fn walk(
    octets: &[u8],
    descriptor: &[u8],
    files: &mut BTreeMap<Extents, Names>,
    opening: &mut Opening<'_, '_>,
) {
    let files_max = usize::try_from(opening.bounds().limits().members).unwrap_or(usize::MAX);
    let block_bytes = le16(descriptor, 128).map_or(SECTOR_BYTES, usize::from);
    let is_joliet = matches!(slice(descriptor, 88, 3), Some(b"%/@" | b"%/C" | b"%/E"));
    let tree = Tree { octets, block_bytes, is_joliet };
    let Some(root) = slice(descriptor, 156, 34).and_then(|record| tree.extent(record)) else {
        opening.found(Condition::BrokenFile);
        return;
    };
    let mut left = DIRECTORIES_BYTES_MAX;
    let mut seen = BTreeSet::new();
    let mut directories = vec![Directory { at: root.0, length: root.1, path: String::new(), depth: 0 }];
    while let Some(directory) = directories.pop() {
        if !seen.insert(directory.at) {
            continue;
        }
        let records = clamped(octets, directory.at, directory.length);
        if records.len() < directory.length {
            opening.found(Condition::BrokenFile);
        }
        let Some(rest) = left.checked_sub(records.len()) else {
            opening.found(Condition::ArchiveLimits);
            return;
        };
        left = rest;
        let mut pieces = Extents::new();
        for record in Records::new(records) {
            let (Some(extent), Some(flags)) = (tree.extent(record), record.get(25)) else { continue };
            let Some(names) = tree.names(record) else { continue };
            let names = names.below(&directory.path);
            if flags & IS_DIRECTORY != 0 {
                if directory.depth >= DIRECTORY_DEPTH_MAX || directories.len() >= files_max {
                    opening.found(Condition::ArchiveLimits);
                    continue;
                }
                let path = names.first().to_owned();
                directories.push(Directory {
                    at: extent.0,
                    length: extent.1,
                    path,
                    depth: directory.depth.saturating_add(1),
                });
                continue;
            }
            if pieces.len() < EXTENTS_MAX {
                pieces.push(extent);
            } else {
                opening.found(Condition::ArchiveLimits);
            }
            if flags & GOES_ON != 0 {
                continue;
            }
            let pieces = std::mem::take(&mut pieces);
            if files.len() >= files_max && !files.contains_key(&pieces) {
                opening.found(Condition::ArchiveLimits);
                return;
            }
            files.entry(pieces).or_default().add_all(&names);
        }
    }
}

/// The records of a directory. None crosses the end of a sector.
struct Records<'o> {
    rest: &'o [u8],
    /// Octets up to the end of the sector.
    left: usize,
}

impl<'o> Records<'o> {
    fn new(records: &'o [u8]) -> Self {
        Self { rest: records, left: SECTOR_BYTES }
    }
}

impl<'o> Iterator for Records<'o> {
    type Item = &'o [u8];

    fn next(&mut self) -> Option<&'o [u8]> {
        loop {
            let length = usize::from(*self.rest.first()?);
            if length == 0 || length > self.left {
                self.rest = self.rest.get(self.left..)?;
                self.left = SECTOR_BYTES;
                continue;
            }
            let (record, rest) = self.rest.split_at_checked(length)?;
            self.rest = rest;
            self.left = match self.left.saturating_sub(length) {
                0 => SECTOR_BYTES,
                left => left,
            };
            return Some(record);
        }
    }
}

impl Tree<'_> {
    /// Where the octets of a record stand, behind its extended attributes.
    fn extent(&self, record: &[u8]) -> Option<(usize, usize)> {
        let attributes = u64::from(*record.get(1)?);
        let block = u64::from(le32(record, 2)?).checked_add(attributes)?;
        let at = index(block.checked_mul(self.block_bytes as u64)?)?;
        Some((at, index(u64::from(le32(record, 10)?))?))
    }

    /// The names of a record. None: it is the directory itself, or the one above.
    fn names(&self, record: &[u8]) -> Option<Names> {
        let length = usize::from(*record.get(32)?);
        let raw = slice(record, 33, length)?;
        if matches!(raw, [0 | 1]) {
            return None;
        }
        let mut names = Names::default();
        if self.is_joliet {
            names.add_utf16(raw, u16::from_be_bytes);
        } else {
            names.add_raw(raw);
        }
        // `NAME.EXT;1`: few readers show the version.
        let shown = names.to_vec();
        for name in &shown {
            if let Some((name, _)) = name.split_once(';') {
                names.add(name.strip_suffix('.').unwrap_or(name));
            }
        }
        let own = record.get(33usize.checked_add(length)?.checked_next_multiple_of(2)?..);
        let long = self.rock_ridge(own.unwrap_or_default());
        if !long.is_empty() {
            let mut named = Names::of(&long);
            named.add_all(&names);
            names = named;
        }
        Some(names)
    }

    /// The name of Rock Ridge: the octets of all `NM` entries, also of those that stand elsewhere.
    fn rock_ridge(&self, own: &[u8]) -> Vec<u8> {
        let mut name = Vec::new();
        let mut area = Some(own);
        for _ in 0..CONTINUATIONS_MAX {
            let Some(mut rest) = area.take() else { break };
            while let Some(length) =
                rest.get(2).map(|length| usize::from(*length)).filter(|length| *length >= 4)
            {
                let Some((entry, behind)) = rest.split_at_checked(length) else { break };
                if entry.starts_with(b"NM") {
                    name.extend_from_slice(entry.get(5..).unwrap_or_default());
                }
                if entry.starts_with(b"CE") {
                    area = self.continuation(entry);
                }
                rest = behind;
            }
        }
        name
    }

    fn continuation(&self, entry: &[u8]) -> Option<&[u8]> {
        let block = index(u64::from(le32(entry, 4)?).checked_mul(self.block_bytes as u64)?)?;
        let at = block.checked_add(index(u64::from(le32(entry, 12)?))?)?;
        Some(clamped(self.octets, at, index(u64::from(le32(entry, 20)?))?.min(SECTOR_BYTES)))
    }
}
