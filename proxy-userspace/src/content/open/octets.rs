//! Numbers and stretches of a file, read only where they lie within it.

/// An offset or a length of the file's, as an index. None where no such octets can exist.
pub(super) fn index(number: u64) -> Option<usize> {
    usize::try_from(number).ok()
}

/// `length` octets from `at` on.
pub(super) fn slice(octets: &[u8], at: usize, length: usize) -> Option<&[u8]> {
    octets.get(at..at.checked_add(length)?)
}

/// At most `length` octets from `at` on: what the file has of them.
pub(super) fn clamped(octets: &[u8], at: usize, length: usize) -> &[u8] {
    let rest = octets.get(at..).unwrap_or_default();
    rest.get(..length).unwrap_or(rest)
}

fn array<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..)?.first_chunk().copied()
}

/// 16 bits, the lowest first.
pub(super) fn le16(octets: &[u8], at: usize) -> Option<u16> {
    array(octets, at).map(u16::from_le_bytes)
}

/// 32 bits, the lowest first.
pub(super) fn le32(octets: &[u8], at: usize) -> Option<u32> {
    array(octets, at).map(u32::from_le_bytes)
}

/// 64 bits, the lowest first.
pub(super) fn le64(octets: &[u8], at: usize) -> Option<u64> {
    array(octets, at).map(u64::from_le_bytes)
}

/// 32 bits, the highest first.
pub(super) fn be32(octets: &[u8], at: usize) -> Option<u32> {
    array(octets, at).map(u32::from_be_bytes)
}

/// Digits, as archives write numbers: blanks before and behind them do not count. An empty field is 0.
pub(super) fn digits(field: &[u8], radix: u32) -> Option<u64> {
    let is_blank = |octet: &u8| matches!(octet, b' ' | 0);
    let begin = field.iter().position(|octet| !is_blank(octet)).unwrap_or(field.len());
    let field = field.get(begin..).unwrap_or_default();
    let end = field.iter().position(is_blank).unwrap_or(field.len());
    field.get(..end)?.iter().try_fold(0u64, |number, octet| {
        let digit = char::from(*octet).to_digit(radix)?;
        number.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))
    })
}

/// The octets before the first NUL.
pub(super) fn until_nul(octets: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, octets).unwrap_or(octets.len());
    octets.get(..end).unwrap_or_default()
}
