//! Numbers, names and places in octets that a stranger chose: each is there, or is none.

/// Two octets, the lower one first.
pub(super) fn le16(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|octets| u16::from_le_bytes(*octets))
}

/// Four octets, the lowest one first.
pub(super) fn le32(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|octets| u32::from_le_bytes(*octets))
}

/// Eight octets, the lowest one first.
pub(super) fn le64(octets: &[u8], at: usize) -> Option<u64> {
    octets.get(at..)?.first_chunk().map(|octets| u64::from_le_bytes(*octets))
}

/// A number as a length of octets. One that no length can be is longer than any.
pub(super) fn length(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What stands from `at` on, `length` octets at most: less where the octets end before.
pub(super) fn part(octets: &[u8], at: usize, length: usize) -> &[u8] {
    let rest = octets.get(at..).unwrap_or_default();
    rest.get(..length).unwrap_or(rest)
}

/// Text up to a zero, and what stands behind the zero.
pub(super) fn until_zero(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(0, octets)?;
    Some((octets.get(..at)?, octets.get(at.checked_add(1)?..)?))
}

/// UTF-16, the lower octet first, up to a zero.
pub(super) fn utf16(octets: &[u8]) -> String {
    let units = octets.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// Text of a code page, read as ISO 8859-1: patterns of names are of ASCII.
pub(super) fn latin(octets: &[u8]) -> String {
    octets.iter().map(|octet| char::from(*octet)).collect()
}

/// Whether `needle`, in lower case, stands in `octets` in any case.
pub(super) fn holds(octets: &[u8], needle: &[u8]) -> bool {
    octets.len() >= needle.len()
        && octets.windows(needle.len().max(1)).any(|window| window.eq_ignore_ascii_case(needle))
}
