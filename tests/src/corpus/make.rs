//! Encodings, and octets that are forbidden.

/// Letters of base64 (RFC 4648 section 4).
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Longest line of base64 and quoted-printable (RFC 2045).
const LINE_BYTES: usize = 76;

/// The test file of the EICAR, joined only here: no scanner of a developer's machine shall find it in the source.
#[must_use]
pub fn eicar() -> Vec<u8> {
    [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$", "EICAR-STANDARD-ANTIVIRUS", "-TEST-FILE!$H+H*"].concat().into_bytes()
}

/// A program for Windows that does nothing: headers that hold, and a section of code.
#[must_use]
pub fn portable_executable() -> Vec<u8> {
    const NEW_HEADER: u8 = 0x80;
    let mut file = vec![0; usize::from(NEW_HEADER)];
    let mut put = |at: usize, octets: &[u8]| {
        if let Some(place) = file.get_mut(at..at + octets.len()) {
            place.copy_from_slice(octets);
        }
    };
    put(0, b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0\xb8\0\0\0\0\0\0\0\x40");
    put(0x3c, &[NEW_HEADER, 0, 0, 0]);
    put(0x40, b"\x0e\x1f\xba\x0e\0\xb4\x09\xcd\x21\xb8\x01\x4c\xcd\x21This program cannot be run in DOS mode.\r\r\n$");
    // COFF header: AMD64, one section, optional header of 0xf0 octets, executable image.
    file.extend_from_slice(b"PE\0\0\x64\x86\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\xf0\0\x22\0");
    let mut optional = vec![0; 0xf0];
    for (at, octets) in [(0, &b"\x0b\x02\x0e\0"[..]), (16, b"\0\x10"), (24, b"\0\0\0\x40\x01"), (68, b"\x03")]
    {
        if let Some(place) = optional.get_mut(at..at + octets.len()) {
            place.copy_from_slice(octets);
        }
    }
    file.extend_from_slice(&optional);
    file.extend_from_slice(b".text\0\0\0\0\x10\0\0\0\x10\0\0\0\x04\0\0\0\x04\0\0");
    file.extend_from_slice(&[0; 12]);
    file.extend_from_slice(b"\x20\0\0\x60");
    file.extend(noise(1500, 7));
    file
}

/// A ZIP archive with one member, stored.
#[must_use]
pub fn zip(name: &str, octets: &[u8]) -> Vec<u8> {
    let length = |octets: usize| u32::try_from(octets).unwrap_or_default().to_le_bytes();
    let two = |number: usize| u16::try_from(number).unwrap_or_default().to_le_bytes();
    // Version, flags, method, time, date; then checksum, sizes, and the name's length.
    let entry = [
        &b"\x0a\0\0\0\0\0\0\0\x78\x5b"[..],
        &crc32(octets).to_le_bytes(),
        &length(octets.len()),
        &length(octets.len()),
        &two(name.len()),
        b"\0\0",
    ]
    .concat();
    let local = [b"PK\x03\x04", &*entry, name.as_bytes(), octets].concat();
    let central = [b"PK\x01\x02\x0a\0", &*entry, &[0; 14], name.as_bytes()].concat();
    let end = [&b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..], &length(central.len()), &length(local.len()), b"\0\0"]
        .concat();
    [local, central, end].concat()
}

/// The checksum of ZIP (ITU-T V.42).
fn crc32(octets: &[u8]) -> u32 {
    !octets.iter().fold(u32::MAX, |crc, octet| {
        (0..8).fold(
            crc ^ u32::from(*octet),
            |crc, _| {
                if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xedb8_8320 }
            },
        )
    })
}

/// Octets that look random and are always the same.
#[must_use]
pub fn noise(octets: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..octets).map(|_| u8::try_from(random.below(256)).unwrap_or_default()).collect()
}

/// Xorshift: the same numbers for the same seed, on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`, which must not be zero.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    /// One of several.
    ///
    /// # Panics
    /// When there is none.
    #[expect(clippy::indexing_slicing, reason = "below the length")]
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[usize::try_from(self.below(choices.len() as u64)).unwrap_or_default()]
    }
}

/// Whether the octet is a letter of base64; padding is none.
#[must_use]
pub const fn is_base64(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/')
}

/// Base64 in lines of 76, each with its end.
#[must_use]
pub fn base64(octets: &[u8]) -> Vec<u8> {
    let mut letters = Vec::with_capacity(octets.len() * 4 / 3 + 4);
    for group in octets.chunks(3) {
        let whole = group.iter().fold(0_u32, |whole, &octet| whole << 8 | u32::from(octet));
        let whole = whole << (8 * (3 - group.len()));
        for at in 0..4 {
            let index = (whole >> (18 - 6 * at)) as usize % 64;
            letters.push(if at <= group.len() { *LETTERS.get(index).unwrap_or(&b'=') } else { b'=' });
        }
    }
    letters.chunks(LINE_BYTES).flat_map(|line| [line, b"\r\n"].concat()).collect()
}

/// Decode what can be decoded; other octets are passed over.
#[must_use]
pub fn base64_decode(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for &letter in text {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    octets
}

/// Quoted-printable with every octet quoted, lines ending softly.
#[must_use]
pub fn quoted_printable(octets: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in octets.chunks(24) {
        for octet in line {
            text.extend_from_slice(format!("={octet:02X}").as_bytes());
        }
        text.extend_from_slice(b"=\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Decode what can be decoded; other octets stay.
#[must_use]
pub fn quoted_printable_decode(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.first_chunk::<2>().map(|two| (two, tail.get(2..).unwrap_or_default()));
        match (first, digits) {
            (b'=', Some((b"\r\n", behind))) => rest = behind,
            (b'=', Some((two, behind))) => {
                let parsed = std::str::from_utf8(two).ok().and_then(|two| u8::from_str_radix(two, 16).ok());
                octets.push(parsed.unwrap_or(b'='));
                rest = if parsed.is_some() { behind } else { tail };
            }
            _ => {
                octets.push(first);
                rest = tail;
            }
        }
    }
    octets
}
