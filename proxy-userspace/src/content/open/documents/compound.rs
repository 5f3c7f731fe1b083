//! Compound files ([MS-CFB]): sectors in chains, and a directory of streams.
//!
//! A reader of our own. The `cfb` crate builds the whole allocation before it gives a stream, and refuses a file that
//! Office opens. Here each chain has as many steps as the file has sectors at most, a stream whose chain breaks is given
//! as far as it goes, and a file that was cut has all that is left.

use super::octets::{latin, le16, le32, le64, length, part, utf16};

/// Entries of a directory. A presentation with many embedded charts has some thousands.
const ENTRIES_MAX: usize = 20_000;
/// Octets of an entry of the directory.
const ENTRY_BYTES: usize = 128;
/// Sector numbers from here on are marks.
const SECTOR_MAX: u32 = 0xffff_fffa;
/// Sectors of the allocation table that the header names.
const HEADER_TABLES: usize = 109;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Storage,
    Stream,
    Root,
}

/// An entry of the directory.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: EntryKind,
    /// As it is written, with its control characters.
    pub(super) name: String,
    /// The storage in which it stands, as an index of the directory; none where no storage names it.
    pub(super) parent: Option<usize>,
    siblings: [u32; 2],
    child: u32,
    first: u32,
    size: u64,
}

/// A compound file.
pub(super) struct Compound<'a> {
    octets: &'a [u8],
    sector_shift: u32,
    mini_shift: u32,
    mini_below: u64,
    table: Vec<u32>,
    mini_table: Vec<u32>,
    mini: Vec<u8>,
    /// The places of entries in the directory are their indices; unused ones are none.
    pub(super) entries: Vec<Option<Entry>>,
}

impl<'a> Compound<'a> {
    /// Read the header, the allocation and the directory. None where there is no directory.
    pub(super) fn new(octets: &'a [u8]) -> Option<Self> {
        let sector_shift = match le16(octets, 30)? {
            shift @ 7..=16 => u32::from(shift),
            _ => 9,
        };
        let mini_shift = match le16(octets, 32)? {
            shift @ 4..=12 => u32::from(shift).min(sector_shift),
            _ => 6,
        };
        let mut file = Self {
            octets,
            sector_shift,
            mini_shift,
            mini_below: u64::from(le32(octets, 56)?),
            table: Vec::new(),
            mini_table: Vec::new(),
            mini: Vec::new(),
            entries: Vec::new(),
        };
        file.table = file.allocation()?;
        let directory = file.chain(le32(octets, 48)?, ENTRIES_MAX.saturating_mul(ENTRY_BYTES));
        file.entries = directory.as_chunks::<ENTRY_BYTES>().0.iter().map(|entry| Entry::new(entry)).collect();
        let root = file.entries.iter().flatten().find(|entry| entry.kind == EntryKind::Root).cloned()?;
        file.mini_table = numbers(&file.chain(le32(octets, 60)?, octets.len()));
        file.mini = file.chain(root.first, octets.len());
        file.place();
        Some(file)
    }

    fn sectors(&self) -> usize {
        self.octets.len() >> self.sector_shift
    }

    /// A sector; the last one of a file that was cut is shorter.
    fn sector(&self, number: u32) -> &'a [u8] {
        let at = length(number).checked_add(1).and_then(|at| at.checked_shl(self.sector_shift));
        let is_there = length(number) <= self.sectors();
        at.filter(|_| is_there).map(|at| part(self.octets, at, 1 << self.sector_shift)).unwrap_or_default()
    }

    /// The allocation table: the header names its first sectors, and a chain of sectors the others.
    fn allocation(&self) -> Option<Vec<u32>> {
        let sectors = self.sectors();
        let mut tables =
            (0..HEADER_TABLES).filter_map(|at| le32(self.octets, 76 + 4 * at)).collect::<Vec<_>>();
        let mut next = le32(self.octets, 68)?;
        let mut steps = 0;
        while next < SECTOR_MAX && steps <= sectors && tables.len() <= sectors {
            let mut named = numbers(self.sector(next));
            let Some(last) = named.pop() else { break };
            tables.append(&mut named);
            next = last;
            steps += 1;
        }
        let mut table = Vec::new();
        for sector in tables.into_iter().filter(|sector| *sector < SECTOR_MAX) {
            if table.len() > sectors {
                break;
            }
            table.append(&mut numbers(self.sector(sector)));
        }
        Some(table)
    }

    /// What stands in a chain of sectors, as far as it goes, `octets_max` at most.
    fn chain(&self, first: u32, octets_max: usize) -> Vec<u8> {
        let mut content = Vec::new();
        let mut number = first;
        let mut steps = 0;
        while number < SECTOR_MAX && steps <= self.sectors() && content.len() < octets_max {
            let sector = self.sector(number);
            let room = octets_max.saturating_sub(content.len());
            content.extend_from_slice(sector.get(..room).unwrap_or(sector));
            if sector.is_empty() {
                break;
            }
            number = self.table.get(length(number)).copied().unwrap_or(u32::MAX);
            steps += 1;
        }
        content
    }

    fn mini_chain(&self, first: u32, octets_max: usize) -> Vec<u8> {
        let size = 1usize << self.mini_shift;
        let mut content = Vec::new();
        let mut number = first;
        while number < SECTOR_MAX && content.len() < octets_max {
            let at = length(number).saturating_mul(size);
            let room = octets_max.saturating_sub(content.len()).min(size);
            let sector = part(&self.mini, at, room);
            content.extend_from_slice(sector);
            if sector.is_empty() {
                break;
            }
            number = self.mini_table.get(length(number)).copied().unwrap_or(u32::MAX);
        }
        content
    }

    /// Octets of a stream, before they are made: no more than the file has.
    pub(super) fn size(&self, entry: &Entry) -> usize {
        // Files of small sectors leave the upper half of a size undefined.
        let size = if self.sector_shift <= 9 { entry.size & 0xffff_ffff } else { entry.size };
        usize::try_from(size).unwrap_or(usize::MAX).min(self.octets.len())
    }

    /// The octets of a stream.
    pub(super) fn stream(&self, entry: &Entry) -> Vec<u8> {
        let size = self.size(entry);
        if (size as u64) < self.mini_below {
            self.mini_chain(entry.first, size)
        } else {
            self.chain(entry.first, size)
        }
    }

    /// Finds out in which storage each entry stands. Every entry is looked at once.
    fn place(&mut self) {
        let mut stack = Vec::new();
        let mut is_seen = vec![false; self.entries.len()];
        for (at, entry) in self.entries.iter().enumerate() {
            if let Some(entry) = entry.as_ref().filter(|entry| entry.kind != EntryKind::Stream) {
                stack.push((length(entry.child), at));
            }
        }
        while let Some((at, parent)) = stack.pop() {
            let Some(seen) = is_seen.get_mut(at).filter(|seen| !**seen) else { continue };
            *seen = true;
            let Some(Some(entry)) = self.entries.get_mut(at) else { continue };
            entry.parent = Some(parent);
            stack.extend(entry.siblings.map(|sibling| (length(sibling), parent)));
        }
    }
}

impl Entry {
    fn new(octets: &[u8]) -> Option<Self> {
        let kind = match octets.get(66)? {
            1 => EntryKind::Storage,
            2 => EntryKind::Stream,
            5 => EntryKind::Root,
            _ => return None,
        };
        let name = utf16(octets.get(..64)?);
        let name = if name.is_empty() { latin(octets.get(..1)?) } else { name };
        Some(Self {
            kind,
            name,
            parent: None,
            siblings: [le32(octets, 68)?, le32(octets, 72)?],
            child: le32(octets, 76)?,
            first: le32(octets, 116)?,
            size: le64(octets, 120)?,
        })
    }

    /// Whether it is called so, in any case, control characters aside.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let own = self.name.trim_start_matches(|c: char| c.is_control());
        own.eq_ignore_ascii_case(name)
    }
}

fn numbers(octets: &[u8]) -> Vec<u32> {
    octets.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number)).collect()
}
