//! Files that hold one other file, compressed: gzip, bzip2, xz, `.lzma`, Zstandard.

use std::ops::ControlFlow;

use super::names::Names;
use super::octets::{clamped, le16, until_nul};
use super::opening::Opening;
use super::unpack::{Inflater, Method};
use super::{Condition, RealType};

/// Octets of a gzip header before its fields.
const GZIP_HEADER_BYTES: usize = 10;
/// Octets behind the compressed ones: checksum and length.
const GZIP_TRAILER_BYTES: usize = 8;
/// Flags (RFC 1952 section 2.3.1).
const HAS_HEADER_CHECK: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;

/// Visit the file in a compressed one.
pub(super) fn open(real: RealType, octets: &[u8], opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let method = match real {
        RealType::Gzip => return gzip(octets, opening),
        RealType::Bzip2 => Method::Bzip2,
        RealType::Zstd => Method::Zstd,
        RealType::Xz if octets.starts_with(b"\xfd7zXZ\0") => Method::Xz,
        _ => Method::LzmaAlone,
    };
    let unpacked = opening.unpack(method, octets);
    opening.unpacked(&Names::default(), &unpacked)
}

/// The members of a gzip file are one file for most readers. For some it ends with the first, so that the first is a file,
/// too.
fn gzip(octets: &[u8], opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let mut names = Names::default();
    let mut whole = Vec::new();
    let mut first = None;
    let mut fault = None;
    let mut rest = octets;
    let room = opening.room(octets.len());
    while let Some(data) = gzip_data(rest, &mut names) {
        let unpacked = Inflater::new().member(data, room.saturating_sub(whole.len()));
        opening.made(unpacked.octets.len());
        whole.extend_from_slice(&unpacked.octets);
        rest = data.get(unpacked.consumed..).unwrap_or_default();
        if unpacked.fault.is_some() {
            fault = unpacked.fault;
            break;
        }
        if rest.len() < GZIP_TRAILER_BYTES {
            fault = Some(Condition::BrokenFile);
        }
        rest = rest.get(GZIP_TRAILER_BYTES..).unwrap_or_default();
        first.get_or_insert(whole.len());
    }
    // Zeros behind the end are what tapes leave.
    if fault.is_none() && (first.is_none() || rest.iter().any(|octet| *octet != 0)) {
        fault = Some(Condition::BrokenFile);
    }
    if let Some(fault) = fault {
        opening.found(fault);
    }
    if let Some(first) = first.filter(|first| *first < whole.len()) {
        opening.stored(&names, clamped(&whole, 0, first))?;
    }
    opening.member(&names, &whole)
}

/// What stands behind the header of a gzip member. None: there is no member.
fn gzip_data<'o>(octets: &'o [u8], names: &mut Names) -> Option<&'o [u8]> {
    let (head, mut rest) = octets.split_at_checked(GZIP_HEADER_BYTES)?;
    let [0x1f, 0x8b, 8, flags, ..] = head else { return None };
    if flags & HAS_EXTRA != 0 {
        rest = rest.get(2usize.checked_add(usize::from(le16(rest, 0)?))?..)?;
    }
    for (flag, is_name) in [(HAS_NAME, true), (HAS_COMMENT, false)] {
        if flags & flag != 0 {
            let text = until_nul(rest);
            if is_name {
                names.add_raw(text);
            }
            rest = rest.get(text.len().checked_add(1)?..)?;
        }
    }
    if flags & HAS_HEADER_CHECK != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}
