//! The charset of a leaf, as far as the width of its characters goes, and text in it.
//!
//! It is told by the decoded octets alone, never by a header, so that every view of a leaf tells the same: by the mark at
//! the beginning, or by where the NULs stand that Latin text has in these charsets. All else holds ASCII.

/// Octets at the beginning that are looked at.
const GLANCE_BYTES: usize = 256;
/// Octets below which NULs say nothing.
const GLANCE_BYTES_MIN: usize = 8;
/// Columns of the blanks that follow the text. An editor shows them as short lines.
const BLANK_LINE_CHARS: usize = 80;

/// How a character is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charset {
    /// Octets of a character.
    width: usize,
    is_big_endian: bool,
    /// The mark at the beginning.
    mark: &'static [u8],
}

impl Charset {
    /// Every charset that holds ASCII in single octets.
    pub(super) const NARROW: Self = Self { width: 1, is_big_endian: false, mark: &[] };
    /// UTF-16 and UTF-32 with a mark. The longer mark goes before the one that it begins with.
    const MARKED: [Self; 4] = [
        Self { width: 4, is_big_endian: false, mark: &[0xff, 0xfe, 0, 0] },
        Self { width: 4, is_big_endian: true, mark: &[0, 0, 0xfe, 0xff] },
        Self { width: 2, is_big_endian: false, mark: &[0xff, 0xfe] },
        Self { width: 2, is_big_endian: true, mark: &[0xfe, 0xff] },
    ];

    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let unmarked = Self::MARKED.into_iter().map(|marked| Self { mark: &[], ..marked });
        std::iter::once(Self::NARROW).chain(Self::MARKED).chain(unmarked)
    }

    /// Of the first octets of a file. Line ends behind them do not count: the last one may belong to a boundary.
    pub(super) fn of(head: &[u8]) -> Self {
        let head = head.get(..GLANCE_BYTES).unwrap_or(head);
        let end = head.iter().rposition(|octet| !matches!(octet, b'\r' | b'\n')).map_or(0, |last| last + 1);
        let head = head.get(..end).unwrap_or_default();
        if let Some(marked) = Self::MARKED.into_iter().find(|marked| head.starts_with(marked.mark)) {
            return marked;
        }
        let unmarked = Self::all().filter(|charset| charset.width > 1 && charset.mark.is_empty());
        unmarked.into_iter().find(|charset| charset.is_likely(head)).unwrap_or(Self::NARROW)
    }

    /// Whether three of four characters are Latin in this charset, and none is NUL.
    fn is_likely(self, head: &[u8]) -> bool {
        let (mut latin, mut count) = (0_usize, 0_usize);
        for character in head.chunks_exact(self.width) {
            count += 1;
            if character.iter().all(|octet| *octet == 0) {
                return false;
            }
            let low = if self.is_big_endian { character.last() } else { character.first() };
            let nulls = character.iter().filter(|octet| **octet == 0).count();
            latin += usize::from(nulls + 1 == self.width && low.is_some_and(|low| *low != 0));
        }
        head.len() >= GLANCE_BYTES_MIN && latin >= count - count / 4
    }

    /// Octets of a character.
    pub(super) const fn width(self) -> usize {
        self.width
    }

    /// The octet at a place of a character.
    pub(super) fn octet_of(self, character: u8, place: usize) -> u8 {
        let low = if self.is_big_endian { self.width - 1 } else { 0 };
        if place == low { character } else { 0 }
    }

    /// The octet of the mark at a place.
    pub(super) fn mark_at(self, at: usize) -> Option<u8> {
        self.mark.get(at).copied()
    }

    /// The octet at a place of a file that has the mark, the text, and behind it blank lines without end.
    pub(super) fn octet_at(self, text: &[u8], at: usize) -> u8 {
        if let Some(octet) = self.mark_at(at) {
            return octet;
        }
        let at = at - self.mark.len();
        self.octet_of(text_or_blank(text, at / self.width), at % self.width)
    }
}

/// The text, and behind it blank lines without end.
fn text_or_blank(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or_else(|| match at.saturating_sub(text.len()) % BLANK_LINE_CHARS {
        0 => b'\r',
        1 => b'\n',
        _ => b' ',
    })
}
