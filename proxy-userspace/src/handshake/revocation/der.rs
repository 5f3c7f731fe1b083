//! DER (X.690 section 10), one value after the other. Whatever has another encoding is no DER and ends the reading.

/// Identifier octets that occur in an OCSP response.
pub(super) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const ENUMERATED: u8 = 0x0a;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;

    /// `[number]` around values, or around a SEQUENCE's.
    pub(crate) const fn constructed(number: u8) -> u8 {
        0xa0 | number
    }

    /// `[number]` in the place of a primitive tag.
    pub(crate) const fn primitive(number: u8) -> u8 {
        0x80 | number
    }
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    /// With identifier and length.
    pub(super) whole: &'a [u8],
    pub(super) content: &'a [u8],
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `None` unless everything was read.
    pub(super) fn finish(self) -> Option<()> {
        self.is_empty().then_some(())
    }

    /// The next value, of any kind.
    pub(super) fn value(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        // Tags of more than one octet do not occur.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = length(rest)?;
        let (content, rest) = rest.split_at_checked(length)?;
        let (whole, _) = self.0.split_at_checked(self.0.len().checked_sub(rest.len())?)?;
        self.0 = rest;
        Some(Value { tag, whole, content })
    }

    /// The next value, if it is of this kind; whatever else is next is not read.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Option<Value<'a>>> {
        if self.0.first() == Some(&tag) { self.value().map(Some) } else { Some(None) }
    }

    /// The next value, which must be of this kind.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Value<'a>> {
        self.value().filter(|value| value.tag == tag)
    }

    /// The values of the SEQUENCE, or of the tag around values, that must come next.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.expect(tag).map(|value| Self(value.content))
    }
}

/// A length of at most two octets, in its shortest form; and what follows it.
fn length(octets: &[u8]) -> Option<(usize, &[u8])> {
    match octets {
        [short @ 0..=0x7f, rest @ ..] => Some((usize::from(*short), rest)),
        [0x81, long @ 0x80..=0xff, rest @ ..] => Some((usize::from(*long), rest)),
        [0x82, high @ 1..=0xff, low, rest @ ..] => {
            Some((usize::from(u16::from_be_bytes([*high, *low])), rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shortest_encoding_of_a_length_is_read() {
        let read = |octets: &[u8]| Reader::new(octets).value().map(|value| value.content.len());
        assert_eq!(read(&[4, 2, 1, 2]), Some(2));
        assert_eq!(read(&[4, 0x81, 2, 1, 2]), None);
        assert_eq!(read(&[4, 0x82, 0, 2, 1, 2]), None);
        assert_eq!(read(&[4, 0x80, 0, 0]), None, "no end is told");
        assert_eq!(read(&[0x1f, 1, 0]), None);
        for length in [0x7f, 0x80, 0xff, 0x100, 0x1234] {
            let head = match length {
                0..0x80 => vec![4, length as u8],
                0x80..0x100 => vec![4, 0x81, length as u8],
                _ => vec![4, 0x82, (length >> 8) as u8, length as u8],
            };
            let whole = [head, vec![0; length]].concat();
            assert_eq!(read(&whole), Some(length));
            assert_eq!(read(&whole[..whole.len() - 1]), None, "cut");
        }
    }
}
