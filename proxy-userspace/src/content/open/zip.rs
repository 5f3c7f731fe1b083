//! ZIP, as any reader may take it.
//!
//! Some readers go by the central directory at the end, others by the headers before each entry, and a file may say two
//! things. Every entry that either shows is a member, with the names of both; where they differ about its octets, it is
//! opened in both ways. What stands before the archive and behind it does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use memchr::memmem;

use super::Condition;
use super::names::Names;
use super::octets::{clamped, index, le16, le32, le64, slice};
use super::opening::Opening;
use super::unpack::Method;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";
const DESCRIPTOR: &[u8] = b"PK\x07\x08";
/// Octets of the headers before their names.
const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
const END_64_LOCATOR_BYTES: usize = 20;
/// Ends of central directories that are looked at beside the last one. Readers take the last, or one whose comment holds the others.
const ENDS_MAX: usize = 8;
/// The end of a directory, and the longest comment behind it.
const TAIL_BYTES: usize = END_BYTES + u16::MAX as usize;
/// Descriptors that are tried as the end of a stored entry of unknown length.
const DESCRIPTORS_MAX: usize = 256;
/// The highest version of the format that an entry can need. Tells headers from octets that look alike.
const VERSION_MAX: u16 = 100;

/// Flag bits: encrypted; a descriptor follows; LZMA has a mark at its end; encrypted otherwise; names are UTF-8.
const ENCRYPTED: u16 = 1;
const HAS_DESCRIPTOR: u16 = 1 << 3;
const LZMA_END_MARK: u16 = 1 << 1;
const STRONG_ENCRYPTION: u16 = 1 << 6;
const MASKED: u16 = 1 << 13;
/// AES as WinZip has it.
const METHOD_AES: u16 = 99;

/// What one header says about an entry.
#[derive(Clone, Debug)]
struct Header {
    names: Names,
    method: u16,
    flags: u16,
    /// Octets as they stand. None: a descriptor behind them says it.
    packed: Option<u64>,
    unpacked: u64,
}

impl Header {
    fn is_encrypted(&self) -> bool {
        self.flags & (ENCRYPTED | STRONG_ENCRYPTION | MASKED) != 0 || self.method == METHOD_AES
    }

    /// What has to differ, so that an entry is opened once more.
    fn reading(&self) -> (u16, bool, Option<u64>) {
        (self.method, self.is_encrypted(), self.packed)
    }
}

/// An entry's own header.
struct Local {
    header: Header,
    data_at: usize,
}

impl Local {
    fn read(octets: &[u8], at: usize) -> Option<Self> {
        let head = slice(octets, at, LOCAL_BYTES).filter(|head| head.starts_with(LOCAL))?;
        let name_at = at.checked_add(LOCAL_BYTES)?;
        let name = slice(octets, name_at, usize::from(le16(head, 26)?))?;
        let extra_at = name_at.checked_add(name.len())?;
        let extra = slice(octets, extra_at, usize::from(le16(head, 28)?))?;
        let flags = le16(head, 6)?;
        let (mut packed, mut unpacked) = (u64::from(le32(head, 18)?), u64::from(le32(head, 22)?));
        long_numbers(extra, [&mut unpacked, &mut packed]);
        let is_later = flags & HAS_DESCRIPTOR != 0 && packed == 0;
        let header = Header {
            names: names(name, extra),
            method: le16(head, 8)?,
            flags,
            packed: (!is_later).then_some(packed),
            unpacked,
        };
        Some(Self { header, data_at: extra_at.checked_add(extra.len())? })
    }
}

/// Whether a header stands here, where nothing but its first octets say so.
fn is_plausible_at(octets: &[u8], at: usize) -> bool {
    let Some(head) = slice(octets, at, LOCAL_BYTES).filter(|head| head.starts_with(LOCAL)) else {
        return false;
    };
    le16(head, 4).is_some_and(|version| version & 0xff <= VERSION_MAX)
        && matches!(le16(head, 8), Some(0..=20 | 93..=99))
        && le16(head, 26).is_some_and(|name_bytes| name_bytes != 0)
}

/// Whether the header of an entry stands anywhere: some readers need no directory.
pub(super) fn has_entry(octets: &[u8]) -> bool {
    memmem::find_iter(octets, LOCAL).any(|at| is_plausible_at(octets, at))
}

/// The names in a header: as they stand, and as the extra field of Info-ZIP has them.
fn names(name: &[u8], extra: &[u8]) -> Names {
    let mut names = Names::of(name);
    for (kind, value) in fields(extra) {
        if kind == 0x7075 {
            names.add_raw(value.get(5..).unwrap_or_default());
        }
    }
    names
}

/// The fields of an extra field, as far as they go.
fn fields(extra: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = extra;
    std::iter::from_fn(move || {
        let (kind, length) = (le16(rest, 0)?, le16(rest, 2)?);
        let value = slice(rest, 4, usize::from(length))?;
        rest = rest.get(4 + value.len()..)?;
        Some((kind, value))
    })
}

/// Numbers that have no room in a header stand in ZIP64's extra field, in this order.
fn long_numbers<const N: usize>(extra: &[u8], numbers: [&mut u64; N]) {
    let Some((_, mut value)) = fields(extra).find(|(kind, _)| *kind == 1) else { return };
    for number in numbers.into_iter().filter(|number| **number == u64::from(u32::MAX)) {
        if let Some(long) = le64(value, 0) {
            *number = long;
            value = value.get(8..).unwrap_or_default();
        }
    }
}

/// Entries of central directories, by the place of their own headers.
#[derive(Default)]
struct Directory {
    entries: BTreeMap<usize, Vec<Header>>,
    /// Entries whose own headers are nowhere.
    lost: Vec<Header>,
    count: u64,
}

impl Directory {
    /// Read every central directory that some reader may take. None: there is not one.
    fn read(octets: &[u8], entries_max: u64) -> Option<Self> {
        let mut directory = Self::default();
        let mut begins = BTreeSet::new();
        let mut is_any = false;
        for end in ends(octets) {
            for (begin, offset) in directory_places(octets, end) {
                let is_empty = begin == end && le16(octets, end.saturating_add(10)) == Some(0);
                is_any |= is_empty;
                if octets.get(begin..).is_some_and(|octets| octets.starts_with(CENTRAL)) {
                    is_any = true;
                    if begins.insert((begin, offset)) {
                        directory.take(octets, begin, offset, entries_max);
                    }
                }
            }
        }
        is_any.then_some(directory)
    }

    /// The entries from `begin` on, as far as they go. The directory says of itself that it stands at `offset`; what
    /// stands before the archive moves both.
    fn take(&mut self, octets: &[u8], begin: usize, offset: u64, entries_max: u64) {
        let moved = (begin as u64).checked_sub(offset);
        let mut at = begin;
        while let Some((header, place, next)) = central(octets, at) {
            self.count = self.count.saturating_add(1);
            if self.count > entries_max {
                return;
            }
            at = next;
            let places = [Some(place), moved.and_then(|moved| place.checked_add(moved))];
            let places = places.into_iter().flatten().filter_map(index);
            let places =
                places.filter(|place| Local::read(octets, *place).is_some()).collect::<BTreeSet<_>>();
            if places.is_empty() {
                self.lost.push(header);
                continue;
            }
            for place in places {
                self.entries.entry(place).or_default().push(header.clone());
            }
        }
    }
}

/// Ends of central directories that some reader takes: the last one, and those whose comment ends with the file.
fn ends(octets: &[u8]) -> Vec<usize> {
    let is_exact = |end: &usize| {
        let comment = le16(octets, end.saturating_add(END_BYTES - 2)).map(usize::from);
        comment.and_then(|comment| end.checked_add(END_BYTES)?.checked_add(comment)) == Some(octets.len())
    };
    let tail_at = octets.len().saturating_sub(TAIL_BYTES);
    let tail = octets.get(tail_at..).unwrap_or_default();
    let last = memmem::rfind(octets, END);
    let others = memmem::rfind_iter(tail, END).filter_map(|end| tail_at.checked_add(end));
    last.into_iter().chain(others.filter(is_exact).take(ENDS_MAX)).collect()
}

/// Where the central directory begins of which this is the end, and where it says that it begins: by its offset, and by its
/// size.
fn directory_places(octets: &[u8], end: usize) -> Vec<(usize, u64)> {
    let mut places = Vec::new();
    let mut add = |end: usize, size: Option<u64>, offset: Option<u64>| {
        let (Some(size), Some(offset)) = (size, offset) else { return };
        let by_size = index(size).and_then(|size| end.checked_sub(size));
        places.extend(by_size.map(|begin| (begin, offset)));
        places.extend(index(offset).map(|begin| (begin, offset)));
    };
    let Some(head) = slice(octets, end, END_BYTES) else { return places };
    add(end, le32(head, 12).map(u64::from), le32(head, 16).map(u64::from));
    let locator_at = end.checked_sub(END_64_LOCATOR_BYTES);
    let locator = locator_at.and_then(|at| slice(octets, at, END_64_LOCATOR_BYTES));
    if let Some(locator) = locator.filter(|locator| locator.starts_with(END_64_LOCATOR)) {
        let before = octets.get(..locator_at.unwrap_or_default()).unwrap_or_default();
        let said = le64(locator, 8).and_then(index);
        for at in [said, memmem::rfind(before, END_64)].into_iter().flatten() {
            if let Some(head) = slice(octets, at, 56).filter(|head| head.starts_with(END_64)) {
                add(at, le64(head, 40), le64(head, 48));
            }
        }
    }
    places
}

/// One entry of a central directory, where its own header stands, and where the next entry does.
fn central(octets: &[u8], at: usize) -> Option<(Header, u64, usize)> {
    let head = slice(octets, at, CENTRAL_BYTES).filter(|head| head.starts_with(CENTRAL))?;
    let name_at = at.checked_add(CENTRAL_BYTES)?;
    let name = slice(octets, name_at, usize::from(le16(head, 28)?))?;
    let extra_at = name_at.checked_add(name.len())?;
    let extra = slice(octets, extra_at, usize::from(le16(head, 30)?))?;
    let comment_bytes = usize::from(le16(head, 32)?);
    let (mut packed, mut unpacked) = (u64::from(le32(head, 20)?), u64::from(le32(head, 24)?));
    let mut place = u64::from(le32(head, 42)?);
    long_numbers(extra, [&mut unpacked, &mut packed, &mut place]);
    let header = Header {
        names: names(name, extra),
        method: le16(head, 10)?,
        flags: le16(head, 8)?,
        packed: Some(packed),
        unpacked,
    };
    Some((header, place, extra_at.checked_add(extra.len())?.checked_add(comment_bytes)?))
}

/// Whether a central directory stands at the end of the file, as behind an image or a program.
pub(super) fn is_at_end(octets: &[u8]) -> bool {
    let tail_at = octets.len().saturating_sub(TAIL_BYTES);
    let tail = octets.get(tail_at..).unwrap_or_default();
    let is_central = |begin: usize| {
        octets.get(begin..).is_some_and(|octets| octets.starts_with(CENTRAL))
            && central(octets, begin).is_some()
    };
    // Each end is looked at: a comment may hold any number of others.
    memmem::rfind_iter(tail, END).any(|end| {
        let places = directory_places(octets, tail_at.saturating_add(end));
        places.into_iter().any(|(begin, _)| is_central(begin))
    })
}

/// Visit the entries of a ZIP file.
pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let members_max = opening.bounds().limits().members;
    let mut directory = Directory::read(octets, members_max).unwrap_or_else(|| {
        opening.found(Condition::BrokenFile);
        Directory::default()
    });
    if directory.count > members_max {
        opening.found(Condition::ArchiveLimits);
    }
    let mut next = memmem::find(octets, LOCAL);
    let mut is_expected = true;
    while let Some(at) = next {
        let views = directory.entries.remove(&at).unwrap_or_default();
        let is_header = is_expected || !views.is_empty() || is_plausible_at(octets, at);
        let local = is_header.then(|| Local::read(octets, at)).flatten();
        if local.is_some() && opening.bounds().room(u64::MAX) == 0 {
            opening.found(Condition::ArchiveLimits);
            return ControlFlow::Break(());
        }
        let behind = match local {
            None => at.saturating_add(LOCAL.len()),
            Some(local) => entry(octets, &local, &views, opening)?.max(local.data_at),
        };
        let rest = octets.get(behind..).unwrap_or_default();
        is_expected = rest.starts_with(LOCAL);
        next = memmem::find(rest, LOCAL).and_then(|found| behind.checked_add(found));
    }
    for (at, views) in directory.entries {
        if let Some(local) = Local::read(octets, at) {
            entry(octets, &local, &views, opening)?;
        }
    }
    for header in directory.lost {
        opening.closed(&header.names, Condition::BrokenFile)?;
    }
    ControlFlow::Continue(())
}

/// One entry, in each reading that its headers give. Returns where it ends by its own header.
fn entry(
    octets: &[u8],
    local: &Local,
    views: &[Header],
    opening: &mut Opening<'_, '_>,
) -> ControlFlow<(), usize> {
    let mut names = local.header.names.clone();
    views.iter().for_each(|view| names.add_all(&view.names));
    let mut seen = BTreeSet::new();
    let mut end = local.data_at;
    // What the directory says comes first: it has the length of what the entry itself says only behind its octets.
    let mut agreed = false;
    for view in views {
        if seen.insert(view.reading()) {
            let read = read_entry(octets, local.data_at, view, &names, opening)?;
            let is_same = local.header.packed.is_none()
                && local.header.method == view.method
                && local.header.is_encrypted() == view.is_encrypted();
            if is_same && (read.is_exact || view.method == 0) {
                agreed = true;
                end = read.end;
            }
        }
    }
    if !agreed {
        let reading = local.header.reading();
        end = if seen.contains(&reading) {
            end_of(octets, local.data_at, &local.header)
        } else {
            read_entry(octets, local.data_at, &local.header, &names, opening)?.end
        };
    }
    ControlFlow::Continue(end)
}

fn end_of(octets: &[u8], data_at: usize, header: &Header) -> usize {
    let packed = header.packed.and_then(index).unwrap_or_default();
    data_at.checked_add(packed).filter(|end| *end <= octets.len()).unwrap_or(data_at)
}

/// An entry that was read.
struct ReadEntry {
    /// Where it ends.
    end: usize,
    /// Its octets end where the header says.
    is_exact: bool,
}

fn read_entry(
    octets: &[u8],
    data_at: usize,
    header: &Header,
    names: &Names,
    opening: &mut Opening<'_, '_>,
) -> ControlFlow<(), ReadEntry> {
    let rest = octets.get(data_at..).unwrap_or_default();
    let length = match header.packed {
        Some(packed) => index(packed).unwrap_or(usize::MAX),
        None if header.method == 0 => stored_length(rest),
        None => rest.len(),
    };
    let packed = clamped(rest, 0, length);
    let is_cut = packed.len() < length;
    // What claims more than there is has no end: the next header is looked for within it.
    let end = if is_cut { data_at } else { data_at.saturating_add(packed.len()) };
    if is_cut {
        opening.found(Condition::BrokenFile);
    }
    if header.is_encrypted() {
        opening.closed(names, Condition::EncryptedFile)?;
        return ControlFlow::Continue(ReadEntry { end, is_exact: !is_cut });
    }
    let method = match header.method {
        0 => {
            opening.stored(names, packed)?;
            return ControlFlow::Continue(ReadEntry { end, is_exact: !is_cut });
        }
        8 => Method::Deflate,
        12 => Method::Bzip2,
        14 => {
            let has_mark = header.flags & LZMA_END_MARK != 0 || header.packed.is_none();
            Method::LzmaInZip((!has_mark).then_some(header.unpacked))
        }
        20 | 93 => Method::Zstd,
        95 => Method::Xz,
        _ => {
            opening.closed(names, Condition::UnknownArchive)?;
            return ControlFlow::Continue(ReadEntry { end, is_exact: !is_cut });
        }
    };
    let unpacked = opening.unpack(method, packed);
    opening.unpacked(names, &unpacked)?;
    if unpacked.fault == Some(Condition::BrokenFile) && packed.len() < rest.len() {
        // Some readers go on where the header says that it ends.
        let more = opening.unpack(method, rest);
        if more.octets.len() > unpacked.octets.len() {
            opening.member(names, &more.octets)?;
        }
    }
    let is_exact = unpacked.fault.is_none() && unpacked.consumed == packed.len();
    let end = match header.packed {
        Some(_) => end,
        // Only deflate says where it ends. Behind others the next header is looked for.
        None if method == Method::Deflate => data_at.saturating_add(unpacked.consumed),
        None => data_at,
    };
    ControlFlow::Continue(ReadEntry { end, is_exact })
}

/// Octets of a stored entry whose length stands behind it.
fn stored_length(rest: &[u8]) -> usize {
    let says_so = |at: &usize| {
        let length = le32(rest, at.saturating_add(8)).and_then(|length| usize::try_from(length).ok());
        length == Some(*at)
    };
    // A descriptor that agrees costs no search of what follows it.
    let said = memmem::find_iter(rest, DESCRIPTOR).take(DESCRIPTORS_MAX).find(says_so);
    said.unwrap_or_else(|| memmem::find(rest, CENTRAL).unwrap_or(rest.len()))
}
