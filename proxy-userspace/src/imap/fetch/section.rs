//! Sections of a message, as commands and responses spell them.

use crate::imap::token::{Cursor, Malformed, is_atom_char};

/// Numbers in the path of a section. Servers give up at depths of 50 to 100.
pub const SECTION_DEPTH_MAX: usize = 128;

/// Digits of a number in the path of a section.
pub const PART_DIGITS_MAX: usize = 9;

/// Field names in one section. Clients ask for 30.
pub const FIELD_NAMES_MAX: usize = 256;

/// Octets of one field name: a header line of RFC 5322 section 2.1.1 holds no longer one.
pub const FIELD_NAME_BYTES_MAX: usize = 998;

/// A section of a message. Two are equal when they mean the same: field names are sets, in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Part numbers; empty for the message itself. Zero is no part number, but servers answer it.
    pub path: Vec<u32>,
    /// What of the part.
    pub text: SectionText,
}

/// What of a part is meant.
#[derive(Clone, Debug, Default)]
pub enum SectionText {
    /// All of it: the message with its header, or a part's body without its MIME header.
    #[default]
    Whole,
    /// `HEADER`.
    Header,
    /// `HEADER.FIELDS` and `HEADER.FIELDS.NOT`.
    HeaderFields {
        /// All fields but these.
        not: bool,
        /// The names, without quotes, as they were given.
        names: Vec<Vec<u8>>,
    },
    /// `TEXT`.
    Text,
    /// `MIME`: a part's MIME header.
    Mime,
}

impl Section {
    /// A section in its brackets, as commands and responses spell it.
    ///
    /// # Errors
    /// None is next, or a bound of this module is exceeded.
    pub fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        cursor.expect(b'[')?;
        let mut path = Vec::new();
        while cursor.peek().is_some_and(|octet| octet.is_ascii_digit()) {
            let start = cursor.at();
            let number = cursor.number()?;
            if cursor.since(start).len() > PART_DIGITS_MAX || path.len() == SECTION_DEPTH_MAX {
                return Err(Malformed { at: start });
            }
            path.push(number);
            if cursor.skip(b']') {
                return Ok(Self { path, text: SectionText::Whole });
            }
            cursor.expect(b'.')?;
        }
        if path.is_empty() && cursor.skip(b']') {
            return Ok(Self::default());
        }
        let text = SectionText::parse(cursor, !path.is_empty())?;
        cursor.expect(b']')?;
        Ok(Self { path, text })
    }

    /// Append the section with its brackets, as a command spells it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (at, number) in self.path.iter().enumerate() {
            if at > 0 {
                out.push(b'.');
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        if !self.path.is_empty() && self.text != SectionText::Whole {
            out.push(b'.');
        }
        self.text.write(out);
        out.push(b']');
    }
}

impl SectionText {
    fn parse(cursor: &mut Cursor<'_>, is_part: bool) -> Result<Self, Malformed> {
        let before = cursor.at();
        let word = cursor.run(|octet| octet.is_ascii_alphabetic() || octet == b'.')?;
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        let not = is(b"HEADER.FIELDS.NOT");
        if is(b"HEADER") {
            Ok(Self::Header)
        } else if is(b"TEXT") {
            Ok(Self::Text)
        } else if is(b"MIME") && is_part {
            Ok(Self::Mime)
        } else if not || is(b"HEADER.FIELDS") {
            cursor.space()?;
            let mut names = Vec::new();
            cursor.list(|cursor| {
                let name = field_name(cursor)?;
                if names.len() == FIELD_NAMES_MAX {
                    return Err(cursor.malformed());
                }
                names.push(name);
                Ok(())
            })?;
            if names.is_empty() { Err(cursor.malformed()) } else { Ok(Self::HeaderFields { not, names }) }
        } else {
            Err(Malformed { at: before })
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (word, names): (&[u8], &[Vec<u8>]) = match self {
            Self::Whole => return,
            Self::Header => (b"HEADER", &[]),
            Self::Text => (b"TEXT", &[]),
            Self::Mime => (b"MIME", &[]),
            Self::HeaderFields { not: false, names } => (b"HEADER.FIELDS", names),
            Self::HeaderFields { not: true, names } => (b"HEADER.FIELDS.NOT", names),
        };
        out.extend_from_slice(word);
        for (at, name) in names.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b" (" } else { b" " });
            write_astring(name, out);
        }
        if !names.is_empty() {
            out.push(b')');
        }
    }

    /// Field names in lower case, each once, in order.
    fn name_set(names: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut set: Vec<Vec<u8>> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        set.sort_unstable();
        set.dedup();
        set
    }
}

impl PartialEq for SectionText {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::HeaderFields { not, names },
                Self::HeaderFields { not: other_not, names: other_names },
            ) => not == other_not && Self::name_set(names) == Self::name_set(other_names),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Eq for SectionText {}

/// RFC 5322 section 3.6.8: printable ASCII without a colon. Anything else names no field, and servers would disagree on
/// what it is.
fn field_name(cursor: &mut Cursor<'_>) -> Result<Vec<u8>, Malformed> {
    let before = cursor.at();
    let name = cursor.astring()?;
    let is_name = (1..=FIELD_NAME_BYTES_MAX).contains(&name.len())
        && name.iter().all(|octet| octet.is_ascii_graphic() && *octet != b':');
    if is_name { Ok(name.into_owned()) } else { Err(Malformed { at: before }) }
}

/// Append text without control characters as an atom, or in quotes where an atom cannot hold it.
fn write_astring(text: &[u8], out: &mut Vec<u8>) {
    if text.iter().all(|&octet| is_atom_char(octet)) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for &octet in text {
        if matches!(octet, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(octet);
    }
    out.push(b'"');
}
