//! Microsoft Cabinet ([MS-CAB]): stored, MSZIP, LZX.

use std::ops::ControlFlow;

use lzxd::{Lzxd, WindowSize};

use super::Condition;
use super::names::Names;
use super::octets::{clamped, index, le16, le32, slice, until_nul};
use super::opening::Opening;
use super::unpack::Inflater;

const HEADER_BYTES: usize = 36;
const FOLDER_BYTES: usize = 8;
const FILE_BYTES: usize = 16;
const BLOCK_BYTES: usize = 8;
/// Octets that one block decompresses to at most.
const BLOCK_UNPACKED_MAX: usize = 32 << 10;
/// Flags of the header: earlier and later cabinets, and reserved fields.
const HAS_PREVIOUS: u16 = 1;
const HAS_NEXT: u16 = 2;
const HAS_RESERVE: u16 = 4;
/// Files whose folder goes on in another cabinet.
const CONTINUED_FROM_PREVIOUS: u16 = 0xfffd;
const CONTINUED_TO_NEXT: u16 = 0xfffe;
const CONTINUED_IN_BOTH: u16 = 0xffff;

struct Header {
    folders_at: usize,
    folder_bytes: usize,
    folders: u16,
    files_at: usize,
    files: u16,
    block_reserve_bytes: usize,
}

impl Header {
    fn read(octets: &[u8]) -> Option<Self> {
        let flags = le16(octets, 30)?;
        let mut at = HEADER_BYTES;
        let (mut folder_reserve, mut block_reserve) = (0, 0);
        if flags & HAS_RESERVE != 0 {
            let header_reserve = usize::from(le16(octets, at)?);
            folder_reserve = usize::from(*octets.get(at + 2)?);
            block_reserve = usize::from(*octets.get(at + 3)?);
            at = at.checked_add(4)?.checked_add(header_reserve)?;
        }
        // A cabinet's name, and that of its disk.
        for flag in [HAS_PREVIOUS, HAS_PREVIOUS, HAS_NEXT, HAS_NEXT] {
            if flags & flag != 0 {
                at = at.checked_add(until_nul(octets.get(at..)?).len())?.checked_add(1)?;
            }
        }
        Some(Self {
            folders_at: at,
            folder_bytes: FOLDER_BYTES + folder_reserve,
            folders: le16(octets, 26)?,
            files_at: index(u64::from(le32(octets, 16)?))?,
            files: le16(octets, 28)?,
            block_reserve_bytes: block_reserve,
        })
    }
}

struct File {
    names: Names,
    folder: u16,
    at: usize,
    length: usize,
}

/// Visit the members of a cabinet.
pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let Some(header) = Header::read(octets) else {
        opening.found(Condition::BrokenFile);
        return ControlFlow::Continue(());
    };
    let files = files(octets, &header, opening);
    for number in 0..header.folders {
        let inside = || files.iter().filter(|file| file.folder == number);
        if inside().next().is_none() {
            continue;
        }
        let folder = folder(octets, &header, number, opening);
        if folder.is_none() {
            for file in inside() {
                opening.closed(&file.names, Condition::UnknownArchive)?;
            }
            continue;
        }
        let folder = folder.unwrap_or_default();
        // Files may lie upon each other: beyond its own octets a folder is judged anew.
        let mut unseen = folder.len();
        for file in inside() {
            let octets = clamped(&folder, file.at, file.length);
            if octets.len() < file.length {
                opening.found(Condition::BrokenFile);
            }
            if let Some(left) = unseen.checked_sub(octets.len()) {
                unseen = left;
                opening.member(&file.names, octets)?;
            } else {
                opening.stored(&file.names, octets)?;
            }
        }
    }
    for file in files.iter().filter(|file| file.folder >= header.folders) {
        opening.closed(&file.names, Condition::BrokenFile)?;
    }
    ControlFlow::Continue(())
}

fn files(octets: &[u8], header: &Header, opening: &mut Opening<'_, '_>) -> Vec<File> {
    let mut files = Vec::new();
    let mut at = header.files_at;
    for _ in 0..header.files {
        let Some(file) = file(octets, at, header) else {
            opening.found(Condition::BrokenFile);
            break;
        };
        if file.1 {
            // Another cabinet has the rest.
            opening.found(Condition::UnknownArchive);
        }
        at = file.2;
        files.push(file.0);
    }
    files
}

/// A file, whether another cabinet has a part of it, and where the next one stands.
fn file(octets: &[u8], at: usize, header: &Header) -> Option<(File, bool, usize)> {
    let head = slice(octets, at, FILE_BYTES)?;
    let name_at = at.checked_add(FILE_BYTES)?;
    let name = until_nul(octets.get(name_at..)?);
    let last = header.folders.saturating_sub(1);
    let (folder, is_continued) = match le16(head, 8)? {
        CONTINUED_FROM_PREVIOUS | CONTINUED_IN_BOTH => (0, true),
        CONTINUED_TO_NEXT => (last, true),
        folder => (folder, false),
    };
    let file = File {
        names: Names::of(name),
        folder,
        at: index(u64::from(le32(head, 4)?))?,
        length: index(u64::from(le32(head, 0)?))?,
    };
    Some((file, is_continued, name_at.checked_add(name.len())?.checked_add(1)?))
}

/// How the blocks of a folder decompress.
enum Decoder {
    Stored,
    MsZip,
    Lzx(Box<Lzxd>),
}

impl Decoder {
    fn new(compression: u16) -> Option<Self> {
        Some(match compression & 15 {
            0 => Self::Stored,
            1 => Self::MsZip,
            3 => Self::Lzx(Box::new(Lzxd::new(match compression >> 8 & 31 {
                15 => WindowSize::KB32,
                16 => WindowSize::KB64,
                17 => WindowSize::KB128,
                18 => WindowSize::KB256,
                19 => WindowSize::KB512,
                20 => WindowSize::MB1,
                21 => WindowSize::MB2,
                _ => return None,
            }))),
            _ => return None,
        })
    }

    /// One block onto `folder`. False: it is damaged.
    fn block(&mut self, packed: &[u8], unpacked: usize, folder: &mut Vec<u8>) -> bool {
        match self {
            Self::Stored => folder.extend_from_slice(packed),
            Self::MsZip => {
                let mut inflater = Inflater::new();
                inflater.set_dictionary(
                    folder.get(folder.len().saturating_sub(BLOCK_UNPACKED_MAX)..).unwrap_or_default(),
                );
                let block = packed.strip_prefix(b"CK").unwrap_or(packed);
                let made = inflater.member(block, BLOCK_UNPACKED_MAX);
                folder.extend_from_slice(&made.octets);
                return made.fault.is_none();
            }
            Self::Lzx(lzx) => match lzx.decompress_next(packed, unpacked) {
                Ok(octets) => folder.extend_from_slice(octets),
                Err(_) => return false,
            },
        }
        true
    }
}

/// The octets of a folder, as far as they go. None: it is compressed in an unknown way.
fn folder(octets: &[u8], header: &Header, number: u16, opening: &mut Opening<'_, '_>) -> Option<Vec<u8>> {
    let mut folder = Vec::new();
    let at = header.folder_bytes.saturating_mul(usize::from(number)).saturating_add(header.folders_at);
    let head = slice(octets, at, FOLDER_BYTES);
    let fields = head.and_then(|head| Some((le32(head, 0)?, le16(head, 4)?, le16(head, 6)?)));
    let Some((begin, blocks, compression)) = fields else {
        opening.found(Condition::BrokenFile);
        return Some(folder);
    };
    let mut decoder = Decoder::new(compression)?;
    let mut at = index(u64::from(begin)).unwrap_or(usize::MAX);
    let room = opening.room(octets.len());
    let mut read = 0usize;
    for _ in 0..blocks {
        let head = slice(octets, at, BLOCK_BYTES);
        let Some((packed_bytes, unpacked)) = head.and_then(|head| Some((le16(head, 4)?, le16(head, 6)?)))
        else {
            opening.found(Condition::BrokenFile);
            break;
        };
        let begin = at.saturating_add(BLOCK_BYTES).saturating_add(header.block_reserve_bytes);
        let packed = clamped(octets, begin, usize::from(packed_bytes));
        let unpacked = usize::from(unpacked);
        if folder.len().saturating_add(BLOCK_UNPACKED_MAX.max(packed.len())) > room {
            opening.found(Condition::ArchiveLimits);
            break;
        }
        let is_whole = packed.len() == usize::from(packed_bytes) && unpacked <= BLOCK_UNPACKED_MAX;
        if unpacked > BLOCK_UNPACKED_MAX || !decoder.block(packed, unpacked, &mut folder) || !is_whole {
            opening.found(Condition::BrokenFile);
            break;
        }
        read = read.saturating_add(packed.len());
        at = begin.saturating_add(packed.len());
    }
    opening.made(folder.len().max(read));
    Some(folder)
}
