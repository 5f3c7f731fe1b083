//! The list of MAPI properties in an attribute ([MS-OXTNEF] section 2.1.3.4).

/// Properties of one list, and values of one property. Outlook writes a hundred.
const PROPS_MAX: usize = 5_000;

/// Identifiers of properties ([MS-OXPROPS]).
pub(super) mod prop {
    pub(in super::super) const BODY: u16 = 0x1000;
    pub(in super::super) const RTF_COMPRESSED: u16 = 0x1009;
    pub(in super::super) const BODY_HTML: u16 = 0x1013;
    pub(in super::super) const DISPLAY_NAME: u16 = 0x3001;
    pub(in super::super) const ATTACH_DATA: u16 = 0x3701;
    pub(in super::super) const ATTACH_FILENAME: u16 = 0x3704;
    pub(in super::super) const ATTACH_LONG_FILENAME: u16 = 0x3707;
    pub(in super::super) const ATTACH_PATHNAME: u16 = 0x3708;
    pub(in super::super) const ATTACH_TRANSPORT_NAME: u16 = 0x370c;
    pub(in super::super) const ATTACH_LONG_PATHNAME: u16 = 0x370d;
    pub(in super::super) const ATTACH_MIME_TAG: u16 = 0x370e;
}

/// What a property is. Numbers are left out.
pub(super) enum Value<'a> {
    /// Binary, or a string of eight bits.
    Octets(&'a [u8]),
    /// UTF-16, little end first.
    Unicode(&'a [u8]),
    /// An object: the identifier of its interface, then itself.
    Object(&'a [u8]),
}

/// The properties of one list.
pub(super) struct Props<'a> {
    /// Identifiers and values, in order of place.
    pub(super) values: Vec<(u16, Value<'a>)>,
    /// The list could be read to its end.
    pub(super) is_whole: bool,
}

impl<'a> Props<'a> {
    pub(super) fn read(octets: &'a [u8]) -> Self {
        let mut props = Self { values: Vec::new(), is_whole: false };
        let mut reader = Reader { rest: octets };
        props.is_whole = reader.all(&mut props.values).is_some();
        props
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn all(&mut self, values: &mut Vec<(u16, Value<'a>)>) -> Option<()> {
        let count = usize::try_from(self.number()?).ok().filter(|count| *count <= PROPS_MAX)?;
        for _ in 0..count {
            self.property(values)?;
        }
        Some(())
    }

    fn property(&mut self, values: &mut Vec<(u16, Value<'a>)>) -> Option<()> {
        const MULTIPLE: u16 = 0x1000;
        const NAMED: u16 = 0x8000;
        let [kind @ .., low, high] = self.number()?.to_le_bytes();
        let (kind, id) = (u16::from_le_bytes(kind), u16::from_le_bytes([low, high]));
        if id >= NAMED {
            self.octets(16)?;
            if self.number()? == 0 {
                self.number()?;
            } else {
                self.sized()?;
            }
        }
        let is_multiple = kind & MULTIPLE != 0;
        let width = match kind & !MULTIPLE {
            0x0001 => Some(0),
            0x0002 | 0x0003 | 0x0004 | 0x000a | 0x000b => Some(4),
            0x0005 | 0x0006 | 0x0007 | 0x0014 | 0x0040 => Some(8),
            0x0048 => Some(16),
            0x000d | 0x001e | 0x001f | 0x0102 => None,
            _ => return None,
        };
        // What has a length of its own comes with a count.
        let count = if is_multiple || width.is_none() { self.number()? } else { 1 };
        let count = usize::try_from(count).ok().filter(|count| *count <= PROPS_MAX)?;
        for _ in 0..count {
            if let Some(width) = width {
                self.octets(width)?;
                continue;
            }
            let (octets, is_cut) = self.sized_or_cut()?;
            values.push((
                id,
                match kind & !MULTIPLE {
                    0x000d => Value::Object(octets),
                    0x001f => Value::Unicode(octets),
                    _ => Value::Octets(octets),
                },
            ));
            if is_cut || values.len() > PROPS_MAX {
                return None;
            }
        }
        Some(())
    }

    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(u32::from_le_bytes(*number))
    }

    fn octets(&mut self, length: usize) -> Option<&'a [u8]> {
        let (octets, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(octets)
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        self.sized_or_cut().filter(|(_, is_cut)| !is_cut).map(|(octets, _)| octets)
    }

    /// A length, so many octets, and what fills the last four. Those that are there, where some are missing.
    fn sized_or_cut(&mut self) -> Option<(&'a [u8], bool)> {
        let length = usize::try_from(self.number()?).ok()?;
        let Some(octets) = self.octets(length) else {
            return Some((std::mem::take(&mut self.rest), true));
        };
        self.rest = self.rest.get(length.wrapping_neg() & 3..).unwrap_or_default();
        Some((octets, false))
    }
}

/// The text up to its first NUL.
pub(super) fn unicode(octets: &[u8]) -> String {
    let (units, _) = octets.as_chunks::<2>();
    let units = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
