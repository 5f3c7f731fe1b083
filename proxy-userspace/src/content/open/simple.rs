//! Archives that put files one behind the other, uncompressed: ar and cpio; and RPM, which puts a compressed cpio behind its
//! headers.

use std::ops::ControlFlow;

use super::Condition;
use super::names::Names;
use super::octets::{be32, clamped, digits, index, slice, until_nul};
use super::opening::Opening;

const AR_HEADER_BYTES: usize = 60;

/// Visit the members of an ar archive, as Debian packages are.
pub(super) fn ar(octets: &[u8], opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let mut at = 8;
    let mut long_names: &[u8] = &[];
    while let Some(head) = slice(octets, at, AR_HEADER_BYTES) {
        let begin = at.saturating_add(AR_HEADER_BYTES);
        let length = slice(head, 48, 10).and_then(|field| digits(field, 10)).and_then(index);
        let Some(length) = length.filter(|_| head.ends_with(b"`\n")) else { break };
        let mut data = clamped(octets, begin, length);
        at = begin.saturating_add(data.len()).saturating_add(data.len() % 2);
        if data.len() < length {
            opening.found(Condition::BrokenFile);
        }
        let name = slice(head, 0, 16).unwrap_or_default().trim_ascii_end();
        if name == b"//" {
            long_names = data;
            continue;
        }
        let mut names = Names::of(name.strip_suffix(b"/").unwrap_or(name));
        let number =
            |prefix: &[u8]| name.strip_prefix(prefix).and_then(|field| digits(field, 10)).and_then(index);
        if let Some(bytes) = number(b"#1/") {
            let (name, behind) = data.split_at_checked(bytes).unwrap_or_default();
            names.add_raw(until_nul(name));
            data = behind;
        } else if let Some(at) = number(b"/") {
            let name = long_names.get(at..).unwrap_or_default();
            let end = name.iter().position(|octet| matches!(octet, b'\n' | b'/' | 0)).unwrap_or(name.len());
            names.add_raw(name.get(..end).unwrap_or_default());
        }
        opening.stored(&names, data)?;
    }
    if at < octets.len() {
        opening.found(Condition::BrokenFile);
    }
    ControlFlow::Continue(())
}

/// A header of cpio: the lengths of name and file, and of the header itself; to what both are filled up.
struct CpioHeader {
    name: usize,
    file: usize,
    header: usize,
    align: usize,
}

impl CpioHeader {
    fn read(octets: &[u8], at: usize) -> Option<Self> {
        let head = octets.get(at..)?;
        let number = |at, length, radix| {
            slice(head, at, length).and_then(|field| digits(field, radix)).and_then(index)
        };
        let short = |at: usize, is_little: bool| {
            let [a, b] = *head.get(at..)?.first_chunk::<2>()?;
            Some(u64::from(if is_little { u16::from_le_bytes([a, b]) } else { u16::from_be_bytes([a, b]) }))
        };
        match head {
            [b'0', b'7', b'0', b'7', b'0', b'1' | b'2', ..] => {
                Some(Self { name: number(94, 8, 16)?, file: number(54, 8, 16)?, header: 110, align: 4 })
            }
            [b'0', b'7', b'0', b'7', b'0', b'7', ..] => {
                Some(Self { name: number(59, 6, 8)?, file: number(65, 11, 8)?, header: 76, align: 1 })
            }
            [0xc7, 0x71, ..] | [0x71, 0xc7, ..] => {
                let is_little = head.starts_with(&[0xc7]);
                let file = short(22, is_little)? << 16 | short(24, is_little)?;
                Some(Self { name: index(short(20, is_little)?)?, file: index(file)?, header: 26, align: 2 })
            }
            _ => None,
        }
    }
}

/// Visit the members of a cpio archive.
pub(super) fn cpio(octets: &[u8], opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let mut at = 0usize;
    while let Some(header) = CpioHeader::read(octets, at) {
        let filled = |at: usize| at.checked_next_multiple_of(header.align).unwrap_or(usize::MAX);
        let name_at = at.saturating_add(header.header);
        let name = until_nul(clamped(octets, name_at, header.name));
        let begin = filled(name_at.saturating_add(header.name));
        let file = clamped(octets, begin, header.file);
        if file.len() < header.file {
            opening.found(Condition::BrokenFile);
        }
        at = filled(begin.saturating_add(file.len()));
        // The mark of the end, behind which some readers go on.
        if name != b"TRAILER!!!" || !file.is_empty() {
            opening.stored(&Names::of(name), file)?;
        }
    }
    if octets.get(at..).unwrap_or_default().iter().any(|octet| *octet != 0) {
        opening.found(Condition::BrokenFile);
    }
    ControlFlow::Continue(())
}

/// Octets before the headers of a package.
const RPM_LEAD_BYTES: usize = 96;

/// Visit what a package holds: a compressed archive.
pub(super) fn rpm(octets: &[u8], opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let behind = |at: usize| {
        let head = slice(octets, at, 16).filter(|head| head.starts_with(&[0x8e, 0xad, 0xe8, 1]))?;
        let entries = index(u64::from(be32(head, 8)?).checked_mul(16)?)?;
        let store = index(u64::from(be32(head, 12)?))?;
        at.checked_add(16)?.checked_add(entries)?.checked_add(store)
    };
    let signature_end = behind(RPM_LEAD_BYTES).and_then(|end| end.checked_next_multiple_of(8));
    match signature_end.and_then(behind).and_then(|at| octets.get(at..)) {
        Some(payload) => opening.stored(&Names::default(), payload),
        None => {
            opening.found(Condition::BrokenFile);
            ControlFlow::Continue(())
        }
    }
}
