//! OpenPGP (RFC 9580): what is encrypted is a verdict; what is only signed or compressed is opened.

use std::borrow::Cow;

use super::Opening;
use crate::content::Condition;

/// Packets of one message. An honest one has a few: a session key for each recipient.
const PACKETS_MAX: usize = 10_000;
/// Compressed packets inside each other.
const DEPTH_MAX: u32 = 8;

/// What a packet is (RFC 9580 section 5).
mod tag {
    pub(super) const PUBLIC_KEY_SESSION: u8 = 1;
    pub(super) const SIGNATURE: u8 = 2;
    pub(super) const SYMMETRIC_SESSION: u8 = 3;
    pub(super) const ONE_PASS: u8 = 4;
    pub(super) const COMPRESSED: u8 = 8;
    pub(super) const ENCRYPTED: u8 = 9;
    pub(super) const MARKER: u8 = 10;
    pub(super) const LITERAL: u8 = 11;
    pub(super) const ENCRYPTED_WHOLE: u8 = 18;
    pub(super) const MODIFICATION: u8 = 19;
    pub(super) const ENCRYPTED_AEAD: u8 = 20;
    pub(super) const PADDING: u8 = 21;
}

/// One packet.
struct Packet<'a> {
    tag: u8,
    /// The pieces of its body: one, but for partial lengths.
    pieces: Vec<&'a [u8]>,
    /// Its length is that of its file, or is more.
    is_open_ended: bool,
    rest: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet that begins these octets. None where none does.
    fn read(octets: &'a [u8]) -> Option<Self> {
        let (first, rest) = octets.split_first()?;
        if first & 0x80 == 0 {
            return None;
        }
        if first & 0x40 != 0 {
            return Self::new_format(first & 0x3f, rest);
        }
        let tag = first >> 2 & 0x0f;
        let (length, rest) = match first & 3 {
            0 => rest.split_first_chunk::<1>().map(|([a], rest)| (usize::from(*a), rest))?,
            1 => {
                rest.split_first_chunk::<2>().map(|(a, rest)| (usize::from(u16::from_be_bytes(*a)), rest))?
            }
            2 => rest.split_first_chunk::<4>().map(|(a, rest)| (size(u32::from_be_bytes(*a)), rest))?,
            _ => return Some(Self { tag, pieces: vec![rest], is_open_ended: true, rest: &[] }),
        };
        let mut packet = Self { tag, pieces: Vec::new(), is_open_ended: false, rest };
        packet.piece(length);
        Some(packet)
    }

    fn new_format(tag: u8, rest: &'a [u8]) -> Option<Self> {
        let mut packet = Self { tag, pieces: Vec::new(), is_open_ended: false, rest };
        loop {
            let (first, rest) = packet.rest.split_first()?;
            let (length, rest, is_last) = match first {
                0..=191 => (usize::from(*first), rest, true),
                192..=223 => {
                    let (second, rest) = rest.split_first()?;
                    ((usize::from(*first) - 192) * 256 + usize::from(*second) + 192, rest, true)
                }
                224..=254 => (1usize << (first & 0x1f), rest, false),
                255 => {
                    let (length, rest) = rest.split_first_chunk::<4>()?;
                    (size(u32::from_be_bytes(*length)), rest, true)
                }
            };
            packet.rest = rest;
            packet.piece(length);
            if is_last || packet.is_open_ended {
                return Some(packet);
            }
            // The end is missing: what is there counts.
            if packet.rest.is_empty() {
                packet.is_open_ended = true;
                return Some(packet);
            }
        }
    }

    fn piece(&mut self, length: usize) {
        let (piece, rest) = self.rest.split_at_checked(length).unwrap_or_else(|| {
            self.is_open_ended = true;
            (self.rest, &[])
        });
        self.pieces.push(piece);
        self.rest = rest;
    }

    fn first(&self) -> Option<u8> {
        self.pieces.first()?.first().copied()
    }

    /// Whether its tag is one that a message has, and its first octet agrees.
    fn is_plausible(&self) -> bool {
        let first = self.first();
        match self.tag {
            tag::PUBLIC_KEY_SESSION => matches!(first, Some(2 | 3 | 6)),
            tag::SIGNATURE => matches!(first, Some(2..=6)),
            tag::SYMMETRIC_SESSION => matches!(first, Some(4..=6)),
            tag::ONE_PASS => matches!(first, Some(3 | 6)),
            tag::COMPRESSED => matches!(first, Some(0..=3)),
            tag::MARKER => self.pieces.first().is_some_and(|body| *body == b"PGP"),
            tag::LITERAL => matches!(first, Some(b'b' | b't' | b'u' | b'l' | b'1' | b'm')),
            tag::ENCRYPTED_WHOLE => matches!(first, Some(1 | 2)),
            tag::ENCRYPTED_AEAD => first == Some(1),
            tag::ENCRYPTED | tag::MODIFICATION | tag::PADDING => true,
            _ => false,
        }
    }

    /// Whether its body is what its tag says, as far as that shows without reading all of it. Octets of any kind begin like
    /// a packet once in a thousand.
    fn is_whole(&self) -> bool {
        let body = self.pieces.first().copied().unwrap_or_default();
        match self.tag {
            tag::LITERAL => {
                let name_length = body.get(1).map_or(0, |length| usize::from(*length));
                let name = body.get(2..).and_then(|behind| behind.get(..name_length));
                let name = name.and_then(|name| std::str::from_utf8(name).ok());
                name.is_some_and(|name| !name.chars().any(char::is_control))
            }
            tag::COMPRESSED => begins_compressed(body),
            // A key or a signature of which the end is missing is of no use to anybody.
            tag::PUBLIC_KEY_SESSION | tag::SIGNATURE | tag::SYMMETRIC_SESSION | tag::ONE_PASS => {
                !self.is_open_ended
            }
            _ => true,
        }
    }

    fn body(&self, opening: &mut Opening<'_, '_>) -> Option<Cow<'a, [u8]>> {
        if let [piece] = self.pieces.as_slice() {
            return Some(Cow::Borrowed(*piece));
        }
        let octets = self.pieces.iter().map(|piece| piece.len()).fold(0, usize::saturating_add);
        opening.take(octets).then(|| Cow::Owned(self.pieces.concat()))
    }
}

/// Whether a compressed packet (RFC 9580 section 5.6) has a packet in it.
fn begins_compressed(body: &[u8]) -> bool {
    const GLANCE_BYTES: usize = 4 << 10;
    let Some((algorithm, compressed)) = body.split_first() else { return false };
    let compressed = compressed.get(..GLANCE_BYTES).unwrap_or(compressed);
    let mut begin = Vec::with_capacity(64);
    match algorithm {
        0 => begin.extend_from_slice(compressed),
        1 | 2 => {
            let mut inflate = flate2::Decompress::new(*algorithm == 2);
            let flush = flate2::FlushDecompress::None;
            if inflate.decompress_vec(compressed, &mut begin, flush).is_err() {
                return false;
            }
        }
        3 => return compressed.starts_with(b"BZh"),
        _ => return false,
    }
    Packet::read(&begin).is_some_and(|packet| packet.is_plausible())
}

/// A length on a machine whose addresses may be shorter.
fn size(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Whether octets are an OpenPGP message, and nothing but one: no type says so, and many files begin with such an octet.
pub(super) fn is_openpgp(octets: &[u8]) -> bool {
    let mut rest = octets;
    let mut is_message = false;
    for number in 0..PACKETS_MAX {
        if rest.is_empty() {
            break;
        }
        let Some(packet) = Packet::read(rest).filter(Packet::is_plausible) else { return false };
        // A legacy packet of encrypted data says nothing of itself.
        if number == 0 && (matches!(packet.tag, tag::MODIFICATION | tag::PADDING) || !packet.is_whole()) {
            return false;
        }
        is_message |= !matches!(packet.tag, tag::SIGNATURE | tag::MARKER | tag::PADDING | tag::ENCRYPTED)
            || packet.tag == tag::ENCRYPTED && !packet.is_open_ended;
        if packet.is_open_ended && !is_message {
            return false;
        }
        rest = packet.rest;
    }
    is_message
}

/// The message that an armor holds. A text that quotes the line of an armor holds none.
pub(super) fn armored(octets: &[u8], opening: &mut Opening<'_, '_>) {
    if Packet::read(octets).is_some_and(|packet| packet.is_plausible()) {
        open(octets, opening);
    }
}

pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    packets(octets, opening, 0);
}

/// The recursion ends at [`DEPTH_MAX`].
fn packets(octets: &[u8], opening: &mut Opening<'_, '_>, depth: u32) {
    if depth > DEPTH_MAX {
        opening.beyond();
        return;
    }
    let mut rest = octets;
    for _ in 0..PACKETS_MAX {
        if rest.is_empty() || opening.is_over {
            return;
        }
        let Some(packet) = Packet::read(rest) else {
            // Octets behind the message are left out by readers. What is compressed and is no message cannot be checked.
            if rest.len() == octets.len() {
                opening.found(Condition::EncryptedMail);
            }
            return;
        };
        rest = packet.rest;
        match packet.tag {
            tag::LITERAL => {
                let Some(body) = packet.body(opening) else { return };
                literal(&body, opening);
            }
            tag::COMPRESSED => {
                let Some(body) = packet.body(opening) else { return };
                let Some(inside) = decompressed(&body, opening) else { return };
                packets(&inside, opening, depth.saturating_add(1));
            }
            tag::SIGNATURE | tag::ONE_PASS | tag::MARKER | tag::MODIFICATION | tag::PADDING => {}
            // Keys of a session, what is encrypted with them, and what nobody here knows.
            _ => opening.found(Condition::EncryptedMail),
        }
    }
    if !rest.is_empty() {
        opening.beyond();
    }
}

/// Format, name, date, and then the file (RFC 9580 section 5.9).
fn literal(body: &[u8], opening: &mut Opening<'_, '_>) {
    const DATE_BYTES: usize = 4;
    let name_length = body.get(1).map_or(0, |length| usize::from(*length));
    let behind = body.get(2..).unwrap_or_default();
    let Some((name, behind)) = behind.split_at_checked(name_length) else {
        return opening.found(Condition::BrokenFile);
    };
    let names = opening.name(name);
    opening.give(names, Cow::Borrowed(behind.get(DATE_BYTES..).unwrap_or_default()));
}

/// What a compressed packet holds (RFC 9580 section 5.6).
fn decompressed(body: &[u8], opening: &mut Opening<'_, '_>) -> Option<Vec<u8>> {
    let (algorithm, body) = body.split_first()?;
    match algorithm {
        0 => opening.take(body.len()).then(|| body.to_vec()),
        1 => opening.inflated(flate2::read::DeflateDecoder::new(body), body.len()),
        2 => opening.inflated(flate2::read::ZlibDecoder::new(body), body.len()),
        3 => opening.inflated(bzip2::read::BzDecoder::new(body), body.len()),
        _ => {
            opening.found(Condition::EncryptedMail);
            None
        }
    }
}
