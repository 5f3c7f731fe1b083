//! Modules of VBA: the text of macros is compressed in their streams ([MS-OVBA] sections 2.3.4 and 2.4.1).

use memchr::memmem;

use super::octets::{le16, le32, length, part, until_zero};

/// Octets of a chunk, decompressed.
const CHUNK_BYTES: usize = 4_096;
/// Octets of the text of one module. Office keeps 64 KiB of a procedure.
const SOURCE_BYTES_MAX: usize = 16 << 20;
/// Modules of one stream, wherever it may begin.
const STARTS_MAX: usize = 64;
/// Records of a directory of modules.
const RECORDS_MAX: usize = 100_000;
/// How the text of every module begins, compressed: a flag octet, and the word before its first copy.
const ATTRIBUTE: &[u8] = b"\0Attribut";

/// Decompresses a container, as far as it goes, `octets_max` at most. None where no container begins here.
pub(super) fn decompressed(octets: &[u8], octets_max: usize) -> Option<Vec<u8>> {
    let octets_max = octets_max.min(SOURCE_BYTES_MAX);
    let mut rest = octets.strip_prefix(&[1])?;
    let mut text = Vec::new();
    while let Some(header) = le16(rest, 0) {
        if header >> 12 & 7 != 3 || text.len() >= octets_max {
            break;
        }
        let size = usize::from(header & 0xfff) + 1;
        let chunk = part(rest, 2, size);
        if header & 0x8000 == 0 {
            text.extend_from_slice(chunk);
        } else {
            chunk_onto(chunk, &mut text);
        }
        rest = rest.get(size + 2..).unwrap_or_default();
    }
    text.truncate(octets_max);
    (!text.is_empty()).then_some(text)
}

/// One compressed chunk: after each octet of flags come eight tokens, a literal octet or a copy.
fn chunk_onto(mut chunk: &[u8], text: &mut Vec<u8>) {
    let begin = text.len();
    while let Some((flags, behind)) = chunk.split_first() {
        chunk = behind;
        for bit in 0..8 {
            let made = text.len().saturating_sub(begin);
            if made >= CHUNK_BYTES {
                return;
            }
            if flags >> bit & 1 == 0 {
                let Some((literal, behind)) = chunk.split_first() else { return };
                text.push(*literal);
                chunk = behind;
                continue;
            }
            let Some(token) = le16(chunk, 0) else { return };
            chunk = chunk.get(2..).unwrap_or_default();
            // The more of the chunk is there, the more bits of a token say how far back a copy begins.
            let offset_bits = (usize::BITS - made.saturating_sub(1).leading_zeros()).clamp(4, 12);
            let mask = 0xffffu16.checked_shr(offset_bits).unwrap_or_default();
            let copied = usize::from(token & mask) + 3;
            let back = usize::from(token.checked_shr(16 - offset_bits).unwrap_or_default()) + 1;
            if back > made {
                return;
            }
            for _ in 0..copied.min(CHUNK_BYTES.saturating_sub(made)) {
                let octet = text.len().checked_sub(back).and_then(|at| text.get(at)).copied();
                text.push(octet.unwrap_or_default());
            }
        }
    }
}

/// What a directory of modules says: the names of their streams, and where in these the texts begin.
pub(super) fn modules(directory: &[u8]) -> Vec<(String, usize)> {
    let mut modules = Vec::new();
    let mut name = String::new();
    let mut at = 0usize;
    for _ in 0..RECORDS_MAX {
        let (Some(kind), Some(size)) = (le16(directory, at), le32(directory, at.saturating_add(2))) else {
            break;
        };
        // The record of versions is two octets longer than it says.
        let size = if kind == 9 { 6 } else { length(size) };
        let content = part(directory, at.saturating_add(6), size);
        match kind {
            0x1a => name = super::octets::latin(content),
            0x32 => name = super::octets::utf16(content),
            0x31 => modules.push((name.clone(), length(le32(content, 0).unwrap_or_default()))),
            _ => {}
        }
        at = at.saturating_add(6).saturating_add(size);
    }
    modules
}

/// Where texts of modules may begin in a stream, whatever a directory says.
pub(super) fn starts(stream: &[u8]) -> Vec<usize> {
    memmem::find_iter(stream, ATTRIBUTE)
        .filter_map(|at| at.checked_sub(3))
        .filter(|at| stream.get(*at) == Some(&1))
        .take(STARTS_MAX)
        .collect()
}

/// The name that a module gives itself in its first lines.
pub(super) fn own_name(text: &[u8]) -> Option<String> {
    let at = memmem::find(text, b"VB_Name = \"")?;
    let behind = text.get(at.checked_add(11)?..)?;
    let end = memchr::memchr(b'"', part(behind, 0, 256))?;
    let name = behind.get(..end)?;
    until_zero(name).is_none().then(|| super::octets::latin(name))
}
