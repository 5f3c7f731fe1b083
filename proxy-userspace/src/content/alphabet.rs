//! The alphabet of base64: the values of its characters, and the characters of a text without what stands between them.

use memchr::memchr;

/// Marks an octet that is no character of the alphabet, in each of the tables.
const NONE: u8 = 0xff;
/// Octets that are looked at together: as many as a vector register of any processor holds.
const BLOCK_BYTES: usize = 16;

/// The six bits of each character.
static SEXTETS: [u8; 256] = sextets();
/// Whether a character is kept: 1 for the alphabet and for padding.
static KEPT: [u8; 256] = kept();
/// The six bits of each character, where they stand in a quantum of four. The highest bit marks what is none.
static QUANTA: [[u32; 256]; 4] = quanta();
const NO_QUANTUM: u32 = 1 << 31;

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which stops at an index out of range"
)]
const fn sextets() -> [u8; 256] {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut table = [NONE; 256];
    let mut value = 0;
    while value < 64 {
        table[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    table
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which stops at an index out of range"
)]
const fn kept() -> [u8; 256] {
    let values = sextets();
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = (values[octet] != NONE || octet == b'=' as usize) as u8;
        octet += 1;
    }
    table
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which stops at an index out of range"
)]
const fn quanta() -> [[u32; 256]; 4] {
    let values = sextets();
    let mut tables = [[NO_QUANTUM; 256]; 4];
    let mut octet = 0;
    while octet < 256 {
        if values[octet] != NONE {
            let value = values[octet] as u32;
            tables[0][octet] = value << 18;
            tables[1][octet] = value << 12;
            tables[2][octet] = value << 6;
            tables[3][octet] = value;
        }
        octet += 1;
    }
    tables
}

#[inline]
fn of<T: Copy>(table: &[T; 256], octet: u8) -> T {
    let [first, ..] = table;
    // The index is never out of range: the compiler leaves the fallback out.
    table.get(usize::from(octet)).copied().unwrap_or(*first)
}

/// The six bits of a character of the base64 alphabet.
#[inline]
pub(super) fn sextet(octet: u8) -> Option<u8> {
    let value = of(&SEXTETS, octet);
    (value != NONE).then_some(value)
}

/// The three octets of four characters. None where one of them is outside the alphabet.
#[inline]
pub(super) fn quantum(characters: [u8; 4]) -> Option<[u8; 3]> {
    let [first, second, third, fourth] = &QUANTA;
    let [a, b, c, d] = characters;
    let bits = of(first, a) | of(second, b) | of(third, c) | of(fourth, d);
    let [_, a, b, c] = bits.to_be_bytes();
    (bits & NO_QUANTUM == 0).then_some([a, b, c])
}

/// Whether all octets are of the alphabet.
pub(super) fn is_all(octets: &[u8]) -> bool {
    let (blocks, rest) = octets.as_chunks::<BLOCK_BYTES>();
    blocks.iter().all(is_block) && rest.iter().all(|octet| of(&SEXTETS, *octet) != NONE)
}

/// Compares without a branch and without a table, so that the compiler does it for all octets at once.
#[inline]
fn is_block(block: &[u8; BLOCK_BYTES]) -> bool {
    let is_character = |octet: u8| {
        ((octet | 0x20).wrapping_sub(b'a') < 26)
            | (octet.wrapping_sub(b'0') < 10)
            | (octet == b'+')
            | (octet == b'/')
    };
    block.iter().fold(true, |all, octet| all & is_character(*octet))
}

/// Copies the characters of the alphabet and the padding in `octets` into `room`, and gives what was copied. No more
/// octets than `room` has are looked at.
pub(super) fn characters<'r>(octets: &[u8], room: &'r mut [u8]) -> &'r [u8] {
    let octets = octets.get(..room.len()).unwrap_or(octets);
    let mut length = 0;
    let (blocks, rest) = octets.as_chunks::<BLOCK_BYTES>();
    for block in blocks {
        match room.get_mut(length..).and_then(<[u8]>::first_chunk_mut) {
            Some(slots) if is_block(block) => {
                *slots = *block;
                length += BLOCK_BYTES;
            }
            _ => length = keep(block, room, length),
        }
    }
    length = keep(rest, room, length);
    room.get(..length).unwrap_or_default()
}

/// Where the next `=` stands. Where there is much of it, a search of many octets at once costs more than it saves.
pub(super) fn next_equals(characters: &[u8]) -> Option<usize> {
    const NEAR_BYTES: usize = 8;
    let near = characters.iter().take(NEAR_BYTES).position(|octet| *octet == b'=');
    near.or_else(|| memchr(b'=', characters))
}

/// Octet by octet: each is written, and the next one overwrites it where it was none.
fn keep(octets: &[u8], room: &mut [u8], mut length: usize) -> usize {
    for octet in octets {
        if let Some(slot) = room.get_mut(length) {
            *slot = *octet;
        }
        length += usize::from(of(&KEPT, *octet));
    }
    length
}
