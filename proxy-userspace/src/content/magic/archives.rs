//! Archives, compressed files and images of disks, by their octets.

use super::super::RealType;
use super::super::open::{CABINET, RAR, SEVEN_ZIP, has_disk_footer, is_image, is_tar_header};
use super::{le16, le32};

/// What the header of a `.lzma` file may announce, as xz takes it: 256 GiB.
const LZMA_OCTETS_MAX: u64 = 1 << 38;
/// Octets of an ARJ header, without comments.
const ARJ_HEADER_BYTES: std::ops::RangeInclusive<u16> = 30..=2_600;
/// Octets of its part of fixed length.
const ARJ_FIRST_HEADER_BYTES: std::ops::RangeInclusive<u8> = 30..=50;
/// What the first header of an ARJ archive says that it is.
const ARJ_COMMENT_HEADER: u8 = 2;
/// The highest level of an LHA header.
const LHA_LEVEL_MAX: u8 = 3;
/// A name in the old binary form of cpio.
const CPIO_NAME_BYTES_MAX: u16 = 4_096;

/// The type of an archive, a compressed file or an image.
pub(super) fn archive_type(octets: &[u8]) -> Option<RealType> {
    let starts_with = |magic: &[u8]| octets.starts_with(magic);
    Some(match octets {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] | [b'P', b'K', 7, 8, ..] => RealType::Zip,
        [b'P', b'K', b'0', b'0', b'P', b'K', 3, 4, ..] => RealType::Zip,
        [0x1f, 0x8b, 8, ..] => RealType::Gzip,
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => RealType::Bzip2,
        _ if starts_with(b"\xfd7zXZ\0") => RealType::Xz,
        _ if is_zstd(octets) => RealType::Zstd,
        _ if starts_with(SEVEN_ZIP) => RealType::SevenZip,
        _ if starts_with(RAR) || starts_with(b"RE~^") => RealType::Rar,
        _ if starts_with(CABINET) => RealType::Cab,
        [_, _, _, _, 0, _, _, b'*', b'*', b'A', b'C', b'E', b'*', b'*', ..] => RealType::Ace,
        _ if is_arj(octets) => RealType::Arj,
        _ if is_lha(octets) => RealType::Lzh,
        _ if is_cpio(octets) => RealType::Cpio,
        _ if starts_with(b"!<arch>\n") => RealType::Ar,
        [0xed, 0xab, 0xee, 0xdb, ..] => RealType::Rpm,
        // The longest code: 9 to 16 bits; two flags are free.
        [0x1f, 0x9d, flags, ..] if flags & 0x60 == 0 && matches!(flags & 0x1f, 9..=16) => RealType::Compress,
        [b'L', b'Z', b'I', b'P', 0 | 1, ..] => RealType::Lzip,
        [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => RealType::Lz4,
        // The length of the header, and the version.
        [b'x', b'a', b'r', b'!', 0, _, 0, 1, ..] => RealType::Xar,
        [b'A', b'L', b'Z', 1, ..] => RealType::Alz,
        [b'E', b'G', b'G', b'A', 0, 1, ..] => RealType::Egg,
        _ if is_disk_image(octets) => RealType::DiskImage,
        _ if octets.get(..512).is_some_and(is_tar_header) => RealType::Tar,
        _ if is_image(octets) => RealType::Iso,
        _ if is_lzma(octets) => RealType::Xz,
        _ => return None,
    })
}

/// A frame of Zstandard, also behind some that hold nothing.
fn is_zstd(octets: &[u8]) -> bool {
    let mut rest = octets;
    loop {
        match le32(rest, 0) {
            Some(0xfd2f_b528) => return true,
            Some(magic) if magic & !15 == 0x184d_2a50 => {
                let length = le32(rest, 4).and_then(|length| usize::try_from(length).ok());
                let end = length.and_then(|length| length.checked_add(8));
                let Some(behind) = end.and_then(|end| rest.get(end..)) else { return false };
                rest = behind;
            }
            _ => return false,
        }
    }
}

fn is_arj(octets: &[u8]) -> bool {
    octets.starts_with(&[0x60, 0xea])
        && le16(octets, 2).is_some_and(|bytes| ARJ_HEADER_BYTES.contains(&bytes))
        && octets.get(4).is_some_and(|bytes| ARJ_FIRST_HEADER_BYTES.contains(bytes))
        && octets.get(10) == Some(&ARJ_COMMENT_HEADER)
}

/// A method that there is, and a level that there is.
fn is_lha(octets: &[u8]) -> bool {
    let is_method = matches!(
        octets.get(2..7),
        Some(
            [b'-', b'l', b'h', b'0'..=b'7' | b'd' | b'x', b'-']
                | [b'-', b'l', b'z', b's' | b'4' | b'5', b'-']
        )
    );
    is_method && octets.get(20).is_some_and(|level| *level <= LHA_LEVEL_MAX)
}

/// A header of digits alone, or the old binary one, whose name ends with NUL. Lines of text begin with the mark, too.
fn is_cpio(octets: &[u8]) -> bool {
    let digits = |end: usize, is_digit: fn(&u8) -> bool| {
        octets.get(6..end).is_some_and(|digits| digits.iter().all(is_digit))
    };
    let name_ends = |bytes: Option<u16>| {
        let bytes = bytes.filter(|bytes| (1..=CPIO_NAME_BYTES_MAX).contains(bytes)).map(usize::from);
        bytes.is_some_and(|bytes| octets.get(25 + bytes) == Some(&0))
    };
    match octets {
        [b'0', b'7', b'0', b'7', b'0', b'1' | b'2', ..] => digits(110, u8::is_ascii_hexdigit),
        [b'0', b'7', b'0', b'7', b'0', b'7', ..] => digits(76, |digit| matches!(digit, b'0'..=b'7')),
        [0xc7, 0x71, ..] => name_ends(le16(octets, 20)),
        [0x71, 0xc7, ..] => name_ends(le16(octets, 20).map(u16::swap_bytes)),
        _ => false,
    }
}

/// Images that begin with a mark, or end with one.
fn is_disk_image(octets: &[u8]) -> bool {
    let marks: [&[u8]; 4] = [b"conectix", b"vhdxfile", b"# Disk DescriptorFile", b"MSWIM\0\0\0"];
    // Words begin like these.
    let versioned: [&[u8]; 2] = [b"KDMV", b"COWD"];
    let has_version = || le32(octets, 4).is_some_and(|version| (1..=3).contains(&version));
    marks.iter().any(|mark| octets.starts_with(mark))
        || versioned.iter().any(|mark| octets.starts_with(mark)) && has_version()
        || has_disk_footer(octets)
}

/// A `.lzma` file has no mark. Its numbers are told from others as xz does it.
fn is_lzma(octets: &[u8]) -> bool {
    let numbers = || {
        let length = octets.get(5..)?.first_chunk().map(|octets| u64::from_le_bytes(*octets))?;
        Some((*octets.first()?, le32(octets, 1)?, length, *octets.get(13)?))
    };
    numbers().is_some_and(|(properties, dictionary, length, first)| {
        // One bit, or two beside each other.
        let is_usual = dictionary.count_ones() == 1
            || dictionary.count_ones() == 2 && (dictionary & dictionary << 1).count_ones() == 1;
        properties < 225
            && dictionary >= 4_096
            && (is_usual || dictionary == u32::MAX)
            && (length == u64::MAX || length < LZMA_OCTETS_MAX)
            && first == 0
    })
}
