//! Overwriting a forbidden leaf in place: same length, same lines.
//!
//! The result is a function of the leaf's octets and of the text alone, never of a header: so every view of a leaf
//! shows the same, and offsets, sizes and line counts that a server announced stay true. The transfer encoding is
//! recognised from the octets, and so is the width of characters. No octet of the leaf survives but line ends, soft line
//! breaks, padding, the `=` of quoted-printable triples, and NULs of wide characters.

/// The charset of a leaf, as far as the width of its characters goes.
mod charset;
/// Leaves in UTF-16 and UTF-32 that are not in base64.
mod wide;

use self::charset::Charset;
use super::alphabet::sextet;
use super::notice::plain;
use super::reading::{Reading, hex};

/// Base64 characters below which a leaf is a word rather than base64.
const BASE64_CHARS_MIN: usize = 20;
/// Octets of a leaf that are decoded to see its charset.
const GLANCE_BYTES: usize = 4 << 10;

/// How the octets of a leaf are overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Base64,
    QuotedPrintable,
    Plain,
}

/// Overwrite `leaf` with `text` and blanks. Filling a filled leaf with the same text changes nothing.
pub fn fill(leaf: &mut [u8], text: &str) {
    let text: Vec<u8> = text.chars().map(|c| plain(c) as u8).collect();
    // A leaf that is already filled may look like another layout: many short lines of text look like base64.
    let is_filled = Layout::ALL.iter().any(|layout| {
        let mut written = Charset::all();
        written.any(|charset| layout.write(leaf, &text, charset, &mut |slot, octet| *slot == octet))
    });
    if is_filled {
        return;
    }
    let layout = Layout::of(leaf);
    layout.write(leaf, &text, layout.charset(leaf), &mut |slot, octet| {
        *slot = octet;
        true
    });
}

/// Puts an octet into its place; false ends the writing.
type Put<'p> = dyn FnMut(&mut u8, u8) -> bool + 'p;

impl Layout {
    const ALL: [Self; 3] = [Self::Base64, Self::QuotedPrintable, Self::Plain];

    fn of(leaf: &[u8]) -> Self {
        if is_quoted_printable(leaf) {
            Self::QuotedPrintable
        } else if is_base64(leaf) {
            Self::Base64
        } else {
            Self::Plain
        }
    }

    /// The charset of the decoded leaf.
    fn charset(self, leaf: &[u8]) -> Charset {
        let head = leaf.get(..GLANCE_BYTES).unwrap_or(leaf);
        let reading = match self {
            Self::Base64 => Reading::Base64,
            Self::QuotedPrintable => Reading::QuotedPrintable,
            Self::Plain => return Charset::of(head),
        };
        Charset::of(&reading.decoded(head))
    }

    fn write(self, leaf: &mut [u8], text: &[u8], charset: Charset, put: &mut Put<'_>) -> bool {
        match self {
            Self::Base64 => write_base64(leaf, text, charset, put),
            Self::QuotedPrintable | Self::Plain if charset.width() > 1 => {
                wide::write(leaf, text, self == Self::QuotedPrintable, charset, put)
            }
            Self::QuotedPrintable => write_lines(leaf, text, true, put),
            Self::Plain => write_lines(leaf, text, false, put),
        }
    }
}

/// Whether nine of ten visible octets stand in lines of base64. Line ends behind the last line do not count, so that a
/// leaf with and without the line end of its boundary is the same.
fn is_base64(leaf: &[u8]) -> bool {
    let (mut inside, mut outside) = (0usize, 0usize);
    for line in leaf.split(|octet| matches!(octet, b'\r' | b'\n')) {
        let line = line.trim_ascii();
        let unpadded = line.strip_suffix(b"==").or_else(|| line.strip_suffix(b"=")).unwrap_or(line);
        if unpadded.iter().all(|octet| sextet(*octet).is_some()) {
            inside += line.len();
        } else {
            outside += line.iter().filter(|octet| !octet.is_ascii_whitespace()).count();
        }
    }
    inside >= BASE64_CHARS_MIN && inside / 9 >= outside
}

/// Whether nine of ten `=` begin a triple or a soft line break, and there is more than the padding of base64.
fn is_quoted_printable(leaf: &[u8]) -> bool {
    let is_text = |octet: &u8| !octet.is_ascii_whitespace() && *octet != b'=';
    let leaf = leaf.get(..leaf.iter().rposition(is_text).map_or(0, |at| at + 1)).unwrap_or_default();
    let (mut valid, mut others) = (0usize, 0usize);
    let mut rest = leaf;
    while let Some(at) = rest.iter().position(|octet| *octet == b'=') {
        rest = rest.get(at..).unwrap_or_default();
        let length = match equals(rest) {
            Equals::Triple => 3,
            Equals::SoftBreak | Equals::Other => 1,
        };
        match equals(rest) {
            Equals::Triple | Equals::SoftBreak => valid += 1,
            Equals::Other => others += 1,
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    valid > 0 && valid / 9 >= others
}

/// What a `=` is.
enum Equals {
    Triple,
    SoftBreak,
    Other,
}

/// What the `=` at the beginning of `rest` is.
fn equals(rest: &[u8]) -> Equals {
    match rest {
        [_, a, b, ..] if hex(*a).is_some() && hex(*b).is_some() => Equals::Triple,
        [_, rest @ ..] => match rest.iter().find(|octet| !matches!(octet, b' ' | b'\t')) {
            None | Some(b'\r' | b'\n') => Equals::SoftBreak,
            Some(_) => Equals::Other,
        },
        [] => Equals::Other,
    }
}

/// Each stretch between paddings decodes for itself, and to as many octets as before.
fn write_base64(leaf: &mut [u8], text: &[u8], charset: Charset, put: &mut Put<'_>) -> bool {
    let mut at = 0;
    for chunk in leaf.split_mut(|octet| *octet == b'=') {
        let characters = chunk.iter().filter(|octet| sextet(**octet).is_some()).count();
        let mut octets_left = characters / 4 * 3 + (characters % 4).saturating_sub(1);
        let mut quantum = [0; 4];
        let mut used = 4;
        for octet in chunk {
            if matches!(*octet, b'\r' | b'\n') {
                continue;
            }
            let mut character = b' ';
            if sextet(*octet).is_some() {
                if used == 4 {
                    quantum = next_quantum(text, charset, &mut at, &mut octets_left);
                    used = 0;
                }
                character = quantum.get(used).copied().unwrap_or(b'A');
                used += 1;
            }
            if !put(octet, character) {
                return false;
            }
        }
    }
    true
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn next_quantum(text: &[u8], charset: Charset, at: &mut usize, octets_left: &mut usize) -> [u8; 4] {
    let mut bits = 0u32;
    for _ in 0..3 {
        bits <<= 8;
        if *octets_left > 0 {
            bits |= u32::from(charset.octet_at(text, *at));
            *octets_left -= 1;
            *at += 1;
        }
    }
    [18, 12, 6, 0].map(|shift| ALPHABET.get(((bits >> shift) & 63) as usize).copied().unwrap_or(b'A'))
}

/// Columns of a line that is wide enough for any word of a deny text of our own.
const WIDE_LINE_COLUMNS: usize = 40;

/// Text in lines. Words are not broken where lines that hold them follow.
fn write_lines(leaf: &mut [u8], text: &[u8], quoted: bool, put: &mut Put<'_>) -> bool {
    let mut wide_lines = 0usize;
    let mut rest: &mut [u8] = leaf;
    each_line(rest, quoted, &mut |line| {
        wide_lines += usize::from(columns(line, quoted) >= WIDE_LINE_COLUMNS);
        true
    });
    rest = leaf;
    let mut text = text;
    each_line(rest, quoted, &mut |line| {
        let width = columns(line, quoted);
        let (words, behind) = words(text, width, wide_lines > 0);
        text = behind;
        wide_lines -= usize::from(width >= WIDE_LINE_COLUMNS);
        let mut characters = words.iter().copied();
        each_place(line, quoted, &mut |place, octets| {
            let character = match place {
                Place::Blank => b' ',
                Place::Literal | Place::Triple => characters.next().unwrap_or(b' '),
            };
            match (place, octets) {
                (Place::Triple, [_, high, low]) => {
                    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + value - 10 };
                    put(high, digit(character >> 4)) && put(low, digit(character & 15))
                }
                (_, [octet, ..]) => put(octet, character),
                (_, []) => true,
            }
        })
    })
}

/// The words that stand in a line of `width` columns, and what is left. A word that is too long is broken, unless
/// `can_wait`.
fn words(text: &[u8], width: usize, can_wait: bool) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    if text.len() <= width {
        return (text, &[]);
    }
    let space = text.get(..=width).and_then(|columns| columns.iter().rposition(|octet| *octet == b' '));
    match space {
        Some(at) => text.split_at(at),
        None if can_wait && width < WIDE_LINE_COLUMNS => (&[], text),
        None => text.split_at(width),
    }
}

fn columns(line: &mut [u8], quoted: bool) -> usize {
    let mut columns = 0;
    each_place(line, quoted, &mut |place, _| {
        columns += usize::from(place != Place::Blank);
        true
    });
    columns
}

/// What stands at a place that is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Literal,
    Triple,
    /// White space between a `=` and the line end of a soft break.
    Blank,
}

/// Where a line of quoted-printable may go on behind a line end.
#[derive(Clone, Copy)]
enum LineState {
    Text,
    /// Behind a `=` and white space.
    Equals,
    /// Behind the return of a soft line break: a line feed belongs to it.
    SoftReturn,
}

/// Each line. In quoted-printable a soft line break ends none.
fn each_line(leaf: &mut [u8], quoted: bool, visit: &mut dyn FnMut(&mut [u8]) -> bool) -> bool {
    let mut rest = leaf;
    while !rest.is_empty() {
        let mut length = 0;
        let mut state = LineState::Text;
        for octet in rest.iter() {
            length += 1;
            state = match (state, octet) {
                (LineState::Equals, b'\r') => LineState::SoftReturn,
                (LineState::Equals, b' ' | b'\t') => LineState::Equals,
                (LineState::Equals | LineState::SoftReturn, b'\n') => LineState::Text,
                (_, b'\r' | b'\n') => break,
                (_, b'=') if quoted => LineState::Equals,
                _ => LineState::Text,
            };
        }
        let (line, behind) = std::mem::take(&mut rest).split_at_mut(length);
        if !visit(line) {
            return false;
        }
        rest = behind;
    }
    true
}

/// Each place of a line that is overwritten.
fn each_place(line: &mut [u8], quoted: bool, visit: &mut dyn FnMut(Place, &mut [u8]) -> bool) -> bool {
    let mut rest = line;
    let mut is_soft = false;
    while let Some(first) = rest.first() {
        let (place, length) = match first {
            b'\r' | b'\n' => (None, 1),
            b'=' if quoted => match equals(rest) {
                Equals::Triple => (Some(Place::Triple), 3),
                Equals::SoftBreak => (None, 1),
                Equals::Other => (Some(Place::Literal), 1),
            },
            b' ' | b'\t' if is_soft => (Some(Place::Blank), 1),
            b'=' if ends_line(rest) => (None, 1),
            _ => (Some(Place::Literal), 1),
        };
        is_soft = quoted && *first == b'=' && place.is_none() || is_soft && place == Some(Place::Blank);
        let (octets, behind) = std::mem::take(&mut rest).split_at_mut(length);
        if place.is_some_and(|place| !visit(place, octets)) {
            return false;
        }
        rest = behind;
    }
    true
}

/// Whether nothing but padding, two `=` at most, stands up to the end of the line.
fn ends_line(rest: &[u8]) -> bool {
    matches!(rest, [b'='] | [b'=', b'='] | [b'=', b'\r' | b'\n', ..] | [b'=', b'=', b'\r' | b'\n', ..])
}

#[cfg(test)]
mod tests;
