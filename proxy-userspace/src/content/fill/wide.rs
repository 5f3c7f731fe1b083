//! A leaf in UTF-16 or UTF-32 that is not in base64: text in characters of its width, around the octets that stay.

use super::charset::Charset;
use super::{Equals, Put, equals};

/// Octets of the widest character.
const WIDTH_MAX: usize = 4;

/// What stands for one decoded octet.
#[derive(Clone, Copy, Debug, Default)]
enum Slot {
    /// A line end, which stays.
    #[default]
    LineEnd,
    /// An octet that stands for itself.
    Literal,
    /// The two digits of a quoted-printable triple.
    Triple,
}

/// Write text and blanks. A character that holds an octet of a line end has NUL around it; one that has no room for a NUL
/// consists of blanks.
pub(super) fn write(leaf: &mut [u8], text: &[u8], quoted: bool, charset: Charset, put: &mut Put<'_>) -> bool {
    let mut text = text.iter().copied();
    let mut unit = [(0, Slot::default()); WIDTH_MAX];
    let (mut used, mut decoded, mut at) = (0, 0_usize, 0);
    while at < leaf.len() {
        let (slot, length) = next(leaf, at, quoted);
        if let Some(slot) = slot {
            if let Some(mark) = charset.mark_at(decoded) {
                if !write_slot(leaf, (at, slot), mark, put) {
                    return false;
                }
            } else if let Some(place) = unit.get_mut(used) {
                *place = (at, slot);
                used += 1;
            }
            decoded += 1;
        } else if !blank(leaf, at, length, put) {
            return false;
        }
        at += length;
        if used == charset.width() || at >= leaf.len() {
            let slots = unit.get(..used).unwrap_or_default();
            if !write_unit(leaf, slots, &mut text, charset, put) {
                return false;
            }
            used = 0;
        }
    }
    true
}

/// What stands at a place, and how long it is: a slot, or the beginning of a soft line break with its line end.
fn next(leaf: &[u8], at: usize, quoted: bool) -> (Option<Slot>, usize) {
    let rest = leaf.get(at..).unwrap_or_default();
    match rest {
        [b'\r' | b'\n', ..] => (Some(Slot::LineEnd), 1),
        [b'=', behind @ ..] if quoted => match equals(rest) {
            Equals::Triple => (Some(Slot::Triple), 3),
            Equals::Other => (Some(Slot::Literal), 1),
            Equals::SoftBreak => {
                let blanks = behind.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
                let line_end = match behind.get(blanks..) {
                    Some([b'\r', b'\n', ..]) => 2,
                    Some([b'\r' | b'\n', ..]) => 1,
                    _ => 0,
                };
                (None, 1 + blanks + line_end)
            }
        },
        _ => (Some(Slot::Literal), 1),
    }
}

/// The white space of a soft line break.
fn blank(leaf: &mut [u8], at: usize, length: usize, put: &mut Put<'_>) -> bool {
    let octets = leaf.get_mut(at..at.saturating_add(length)).unwrap_or_default();
    octets.iter_mut().filter(|octet| matches!(octet, b' ' | b'\t')).all(|octet| put(octet, b' '))
}

fn write_unit(
    leaf: &mut [u8],
    slots: &[(usize, Slot)],
    text: &mut impl Iterator<Item = u8>,
    charset: Charset,
    put: &mut Put<'_>,
) -> bool {
    // A character that is cut at the end of the leaf is one that a line end cuts in another view.
    let is_cut = slots.len() < charset.width() || slots.iter().any(|(_, slot)| matches!(slot, Slot::LineEnd));
    let lacks_room = |(place, (at, slot)): (usize, &(usize, Slot))| {
        charset.octet_of(1, place) == 0 && matches!(slot, Slot::Literal) && leaf.get(*at) != Some(&0)
    };
    let character = match slots.iter().enumerate().any(lacks_room) {
        _ if is_cut => Some(0),
        true => None,
        false => Some(text.next().unwrap_or(b' ')),
    };
    slots.iter().enumerate().all(|(place, slot)| {
        let octet = character.map_or(b' ', |character| charset.octet_of(character, place));
        // A NUL that stands for itself was one before.
        let octet = if matches!(slot.1, Slot::Literal) && octet == 0 && leaf.get(slot.0) != Some(&0) {
            b' '
        } else {
            octet
        };
        write_slot(leaf, *slot, octet, put)
    })
}

fn write_slot(leaf: &mut [u8], (at, slot): (usize, Slot), octet: u8, put: &mut Put<'_>) -> bool {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
    let mut write = |at: usize, octet: u8| leaf.get_mut(at).is_none_or(|place| put(place, octet));
    match slot {
        Slot::LineEnd => true,
        Slot::Literal => write(at, octet),
        Slot::Triple => write(at + 1, digit(octet >> 4)) && write(at + 2, digit(octet & 15)),
    }
}
