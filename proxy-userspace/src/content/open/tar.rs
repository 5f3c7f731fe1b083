//! tar: ustar, pax, GNU and the old form.
//!
//! Where readers differ about a length, what either takes for a member is judged, and the next header is looked for at the
//! first place where one of them would. Behind damage, and behind the zeros of the end, headers are looked for, too.

use std::ops::ControlFlow;

use super::Condition;
use super::names::Names;
use super::octets::{clamped, digits, index, slice, until_nul};
use super::opening::Opening;

const BLOCK_BYTES: usize = 512;
/// Octets of a pax header, or of a long name.
const EXTENSION_BYTES_MAX: usize = 1 << 20;
/// Records of a pax header.
const PAX_RECORDS_MAX: usize = 1_000;

/// What headers before a member say of it.
#[derive(Default)]
struct Extensions {
    names: Names,
    size: Option<u64>,
    /// The octets begin with a map of where they belong.
    has_map: bool,
}

/// Visit the members of a tar archive.
pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) -> ControlFlow<()> {
    let mut at = 0;
    let mut is_expected = true;
    let mut is_ended = false;
    let mut extensions = Extensions::default();
    while let Some(block) = slice(octets, at, BLOCK_BYTES) {
        let Some(size) = header(block) else {
            let is_zero = block.iter().all(|octet| *octet == 0);
            if !is_zero && is_expected && !is_ended {
                opening.found(Condition::BrokenFile);
                is_expected = false;
            }
            is_ended |= is_zero;
            at = at.saturating_add(BLOCK_BYTES);
            continue;
        };
        is_expected = true;
        let data_at = at.saturating_add(BLOCK_BYTES);
        let kind = block.get(156).copied().unwrap_or_default();
        let length = index(size).unwrap_or(usize::MAX);
        let data = clamped(octets, data_at, length);
        if data.len() < length {
            opening.found(Condition::BrokenFile);
        }
        let next = if is_extension(kind) {
            extensions.read(kind, data);
            data_at.saturating_add(data.len())
        } else {
            member(octets, block, data_at, data, std::mem::take(&mut extensions), opening)?
        };
        at = next.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(usize::MAX);
    }
    if octets.get(at..).is_some_and(|rest| rest.iter().any(|octet| *octet != 0)) && !is_ended {
        opening.found(Condition::BrokenFile);
    }
    ControlFlow::Continue(())
}

/// Whether a block is a header by its checksum; the length that it has for what follows.
fn header(block: &[u8]) -> Option<u64> {
    is_header(block).then(|| number(slice(block, 124, 12)?)).flatten()
}

/// Whether the checksum of a block is right, as signed or as unsigned octets.
pub(in crate::content) fn is_header(block: &[u8]) -> bool {
    let Some(said) = slice(block, 148, 8).and_then(|field| digits(field, 8)) else { return false };
    let with_blanks =
        || block.iter().enumerate().map(|(at, octet)| if (148..156).contains(&at) { b' ' } else { *octet });
    let unsigned = with_blanks().map(u64::from).sum::<u64>();
    let signed = with_blanks().map(|octet| i64::from(octet.cast_signed())).sum::<i64>();
    said > 8 * u64::from(b' ') && (said == unsigned || i64::try_from(said) == Ok(signed))
}

/// A number in octal digits, or in binary behind a set bit.
fn number(field: &[u8]) -> Option<u64> {
    match field.split_first() {
        Some((0x80, rest)) => {
            rest.iter().try_fold(0u64, |number, octet| Some(number.checked_mul(256)? | u64::from(*octet)))
        }
        _ => digits(field, 8),
    }
}

/// A long name, or a pax header, for what follows.
const fn is_extension(kind: u8) -> bool {
    matches!(kind, b'L' | b'K' | b'x' | b'X' | b'g')
}

impl Extensions {
    fn read(&mut self, kind: u8, data: &[u8]) {
        let data = clamped(data, 0, EXTENSION_BYTES_MAX);
        match kind {
            b'L' => self.names.add_raw(until_nul(data)),
            b'x' | b'X' | b'g' => self.pax(data),
            _ => {}
        }
    }

    /// Records of the form `12 path=name\n`; the number is their length.
    fn pax(&mut self, data: &[u8]) {
        let mut rest = data;
        for _ in 0..PAX_RECORDS_MAX {
            let Some(blank) = memchr::memchr(b' ', rest) else { return };
            let length = rest.get(..blank).and_then(|field| digits(field, 10)).and_then(index);
            let record = length.and_then(|length| rest.get(blank.checked_add(1)?..length));
            let (Some(length), Some(record)) = (length, record) else { return };
            let record = record.strip_suffix(b"\n").unwrap_or(record);
            if let Some(equals) = memchr::memchr(b'=', record) {
                let (key, value) = record.split_at(equals);
                let value = value.get(1..).unwrap_or_default();
                match key {
                    b"path" | b"GNU.sparse.name" => self.names.add_raw(value),
                    b"size" => self.size = digits(value, 10),
                    b"GNU.sparse.major" => self.has_map = value == b"1",
                    _ => {}
                }
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// One member. Returns where the next header may stand.
fn member(
    octets: &[u8],
    block: &[u8],
    data_at: usize,
    data: &[u8],
    extensions: Extensions,
    opening: &mut Opening<'_, '_>,
) -> ControlFlow<(), usize> {
    let mut names = extensions.names;
    let own = until_nul(slice(block, 0, 100).unwrap_or_default());
    let prefix = until_nul(slice(block, 345, 155).unwrap_or_default());
    if !prefix.is_empty() && slice(block, 257, 5) == Some(b"ustar") {
        names.add_raw(&[prefix, b"/", own].concat());
    }
    names.add_raw(own);
    opening.stored(&names, data)?;
    let mut end = data_at.saturating_add(data.len());
    if extensions.has_map {
        // The map is lines of digits, in whole blocks.
        let is_map = |block: &&[u8]| block.iter().all(|octet| matches!(octet, b'0'..=b'9' | b'\n' | 0));
        let map = data.chunks(BLOCK_BYTES).take_while(is_map).map(<[u8]>::len).sum::<usize>();
        opening.stored(&names, data.get(map..).unwrap_or_default())?;
    }
    if let Some(size) = extensions.size.filter(|size| *size != data.len() as u64) {
        let length = index(size).unwrap_or(usize::MAX);
        let other = clamped(octets, data_at, length);
        if other.len() < length {
            opening.found(Condition::BrokenFile);
        }
        opening.stored(&names, other)?;
        end = end.min(data_at.saturating_add(other.len()));
    }
    // Links, devices and directories have no octets for some readers, whatever their length says.
    let kind = block.get(156).copied().unwrap_or_default();
    ControlFlow::Continue(if matches!(kind, b'1'..=b'6') { data_at } else { end })
}
