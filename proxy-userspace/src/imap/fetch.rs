//! What FETCH asks for: RFC 3501 section 6.4.5, RFC 9051 section 6.4.5.

use super::grammar::{Grammar, Piece, fit};
use super::token::{Cursor, Malformed, is_atom_char};

/// Sections of a message.
mod section;

pub use section::{
    FIELD_NAME_BYTES_MAX, FIELD_NAMES_MAX, PART_DIGITS_MAX, SECTION_DEPTH_MAX, Section, SectionText,
};

/// Items of one FETCH. Clients ask for a dozen; the bound keeps what a command of 64 KiB turns into small.
pub const FETCH_ITEMS_MAX: usize = 1_000;

/// Octets of an item's name that is not known.
pub const ITEM_NAME_BYTES_MAX: usize = 64;

/// The arguments of FETCH or UID FETCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest<'a> {
    /// The sequence set as it stands.
    pub set: &'a [u8],
    /// What is asked for, in order, one at least. A macro stands alone.
    pub items: Vec<FetchItem>,
    /// `(CHANGEDSINCE 5 VANISHED)` as it stands (RFC 7162 sections 3.1.4.1 and 3.2.6).
    pub modifiers: Option<&'a [u8]>,
}

/// One item that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchItem {
    /// The macro `ALL`.
    All,
    /// The macro `FAST`.
    Fast,
    /// The macro `FULL`.
    Full,
    /// `FLAGS`.
    Flags,
    /// `UID`.
    Uid,
    /// `INTERNALDATE`.
    InternalDate,
    /// `RFC822.SIZE`.
    Rfc822Size,
    /// `ENVELOPE`.
    Envelope,
    /// `BODY` without brackets, or `BODYSTRUCTURE`.
    Structure {
        /// It is `BODYSTRUCTURE`.
        extended: bool,
    },
    /// `MODSEQ` (RFC 7162).
    ModSeq,
    /// `SAVEDATE` (RFC 8514).
    SaveDate,
    /// `EMAILID` (RFC 8474).
    EmailId,
    /// `THREADID` (RFC 8474).
    ThreadId,
    /// `X-GM-MSGID`.
    GmMsgId,
    /// `X-GM-THRID`.
    GmThrId,
    /// `X-GM-LABELS`.
    GmLabels,
    /// Octets of the message.
    Content(ContentItem),
    /// Another item: the first [`ITEM_NAME_BYTES_MAX`] octets of its name, with the bracket or angle that follows it, so
    /// that it is never taken for an item that is known (`UID[`). Its arguments are not kept.
    Unknown(Vec<u8>),
}

/// An item that asks for octets of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentItem {
    /// Its form. Servers differ in which of them sets `\Seen`, so that the form is never changed for another.
    pub form: ContentForm,
    /// The section; of the `RFC822` forms the one that they stand for.
    pub section: Section,
    /// The range; only `BODY` and `BODY.PEEK` have one.
    pub partial: Option<Partial>,
}

/// How a section is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentForm {
    /// `BODY[...]`.
    Body,
    /// `BODY.PEEK[...]`.
    BodyPeek,
    /// `RFC822`, which is `BODY[]`.
    Rfc822,
    /// `RFC822.HEADER`, which is `BODY.PEEK[HEADER]`.
    Rfc822Header,
    /// `RFC822.TEXT`, which is `BODY[TEXT]`.
    Rfc822Text,
}

/// A range of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Partial {
    /// The first octet's offset.
    pub start: u32,
    /// The most octets, one at least.
    pub octets: u32,
}

/// Items with a name and nothing else, as a command and as a response spells them.
const PLAIN_ITEMS: [(&[u8], FetchItem); 14] = [
    (b"FLAGS", FetchItem::Flags),
    (b"UID", FetchItem::Uid),
    (b"RFC822.SIZE", FetchItem::Rfc822Size),
    (b"INTERNALDATE", FetchItem::InternalDate),
    (b"ENVELOPE", FetchItem::Envelope),
    (b"BODYSTRUCTURE", FetchItem::Structure { extended: true }),
    (b"BODY", FetchItem::Structure { extended: false }),
    (b"MODSEQ", FetchItem::ModSeq),
    (b"X-GM-LABELS", FetchItem::GmLabels),
    (b"X-GM-MSGID", FetchItem::GmMsgId),
    (b"X-GM-THRID", FetchItem::GmThrId),
    (b"EMAILID", FetchItem::EmailId),
    (b"THREADID", FetchItem::ThreadId),
    (b"SAVEDATE", FetchItem::SaveDate),
];

/// The macros, RFC 9051 section 6.4.5, and what they stand for.
const MACROS: [(&[u8], FetchItem, &[FetchItem]); 3] =
    [(b"ALL", FetchItem::All, ALL), (b"FAST", FetchItem::Fast, FAST), (b"FULL", FetchItem::Full, FULL)];

const FAST: &[FetchItem] = &[FetchItem::Flags, FetchItem::InternalDate, FetchItem::Rfc822Size];

const ALL: &[FetchItem] =
    &[FetchItem::Flags, FetchItem::InternalDate, FetchItem::Rfc822Size, FetchItem::Envelope];

const FULL: &[FetchItem] = &[
    FetchItem::Flags,
    FetchItem::InternalDate,
    FetchItem::Rfc822Size,
    FetchItem::Envelope,
    FetchItem::Structure { extended: false },
];

/// RFC 7162 section 7, `fetch-modifier`: both may stand, each once, VANISHED only with CHANGEDSINCE.
const CHANGEDSINCE: Grammar = &[Piece::Word(b"CHANGEDSINCE"), Piece::Space, Piece::Number64];
const MODIFIERS: Grammar = &[
    Piece::Octet(b'('),
    Piece::Either(&[
        &[Piece::Word(b"VANISHED"), Piece::Space, Piece::Either(&[CHANGEDSINCE])],
        &[Piece::Either(&[CHANGEDSINCE]), Piece::Maybe(&[Piece::Space, Piece::Word(b"VANISHED")])],
    ]),
    Piece::Octet(b')'),
];

impl<'a> FetchRequest<'a> {
    /// What stands behind `FETCH` and its space; the line end is left.
    ///
    /// # Errors
    /// The grammar is not kept, or there are more items, names or numbers than the bounds of this module.
    pub fn parse(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let set = cursor.sequence_set()?;
        cursor.space()?;
        let mut items = Vec::new();
        if cursor.peek() == Some(b'(') {
            cursor.list(|cursor| {
                if items.len() == FETCH_ITEMS_MAX {
                    return Err(cursor.malformed());
                }
                items.push(FetchItem::parse(cursor)?);
                Ok(())
            })?;
        } else {
            let named = MACROS.iter().find(|(word, _, _)| cursor.skip_word(word));
            items.push(match named {
                Some((_, item, _)) => item.clone(),
                None => FetchItem::parse(cursor)?,
            });
        }
        if items.is_empty() {
            return Err(cursor.malformed());
        }
        let mut modifiers = None;
        if cursor.skip(b' ') {
            let start = cursor.at();
            fit(cursor, MODIFIERS)?;
            modifiers = Some(cursor.since(start));
        }
        Ok(Self { set, items, modifiers })
    }

    /// The number of the set, where it is one number and nothing else.
    pub fn single(&self) -> Option<u32> {
        single(self.set)
    }

    /// Append the set, the items and the modifiers, as they stand behind `FETCH` and its space.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.set);
        out.push(b' ');
        match self.items.as_slice() {
            [item] if !item.members().is_empty() => item.write(out),
            items => {
                out.push(b'(');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b' ');
                    }
                    item.write(out);
                }
                out.push(b')');
            }
        }
        if let Some(modifiers) = self.modifiers {
            out.push(b' ');
            out.extend_from_slice(modifiers);
        }
    }
}

/// The number of a sequence set that is one number and nothing else: not a range, not `*`, not `$`.
pub fn single(set: &[u8]) -> Option<u32> {
    let mut cursor = Cursor::new(set);
    cursor.nz_number().ok().filter(|_| cursor.rest().is_empty())
}

impl FetchItem {
    /// One item of a command. A macro is none here: within a list it is unknown.
    ///
    /// # Errors
    /// None is next.
    pub fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        if !cursor.peek().is_some_and(|octet| octet.is_ascii_alphabetic()) {
            return Err(cursor.malformed());
        }
        let name = cursor.run(is_item_char)?;
        let form = match name {
            _ if name.eq_ignore_ascii_case(b"BODY") => Some(ContentForm::Body),
            _ if name.eq_ignore_ascii_case(b"BODY.PEEK") => Some(ContentForm::BodyPeek),
            _ => None,
        };
        match form {
            Some(form) if cursor.peek() == Some(b'[') => {
                let section = Section::parse(cursor)?;
                let partial = if cursor.peek() == Some(b'<') { Some(Partial::parse(cursor)?) } else { None };
                return Ok(Self::Content(ContentItem { form, section, partial }));
            }
            _ if matches!(cursor.peek(), Some(b'[' | b'<')) => {
                let opened = cursor.rest().get(..1).unwrap_or_default();
                skip_label(cursor)?;
                return Ok(Self::unknown(&[name, opened].concat()));
            }
            _ => {}
        }
        if let Some(item) = plain_item(name) {
            return Ok(item);
        }
        if let Some(form) = rfc822_form(name) {
            return Ok(Self::Content(ContentItem { form, section: form.section(), partial: None }));
        }
        // RFC 8970: `PREVIEW (LAZY)`.
        let mut ahead = cursor.clone();
        if ahead.skip(b' ') && ahead.peek() == Some(b'(') && ahead.skip_value().is_ok() {
            *cursor = ahead;
        }
        Ok(Self::unknown(name))
    }

    fn unknown(name: &[u8]) -> Self {
        Self::Unknown(name.get(..ITEM_NAME_BYTES_MAX).unwrap_or(name).to_vec())
    }

    /// The items that a macro stands for; none for what is no macro.
    pub fn members(&self) -> &'static [Self] {
        MACROS.iter().find(|(_, item, _)| item == self).map_or(&[], |(_, _, members)| members)
    }

    /// Append the item as a command spells it.
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Self::Content(content) = self {
            content.write(out);
            return;
        }
        let plain = PLAIN_ITEMS.iter().find(|(_, item)| item == self).map(|(name, _)| *name);
        let named =
            plain.or_else(|| MACROS.iter().find(|(_, item, _)| item == self).map(|(name, _, _)| *name));
        match (self, named) {
            (Self::Unknown(name), _) => out.extend_from_slice(name),
            (_, name) => out.extend_from_slice(name.unwrap_or_default()),
        }
    }
}

/// Octets of an item's name: brackets and angles begin what follows it.
pub(super) const fn is_item_char(octet: u8) -> bool {
    is_atom_char(octet) && !matches!(octet, b'[' | b'<')
}

/// An item that is a name and nothing else.
pub(super) fn plain_item(name: &[u8]) -> Option<FetchItem> {
    PLAIN_ITEMS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, item)| item.clone())
}

/// One of the forms of RFC 822.
pub(super) fn rfc822_form(name: &[u8]) -> Option<ContentForm> {
    [ContentForm::Rfc822, ContentForm::Rfc822Header, ContentForm::Rfc822Text]
        .into_iter()
        .find(|form| name.eq_ignore_ascii_case(form.name()))
}

/// The section and the range of an item that is not known: `[...]`, `<...>` or both.
pub(super) fn skip_label(cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    if cursor.skip(b'[') {
        while !cursor.skip(b']') {
            match cursor.peek() {
                Some(b'"' | b'{') => cursor.string_token().map(drop)?,
                Some(b'\r' | b'\n') | None => return Err(cursor.malformed()),
                Some(octet) => cursor.expect(octet)?,
            }
        }
    }
    if cursor.skip(b'<') {
        cursor.run(|octet| octet.is_ascii_digit() || octet == b'.')?;
        cursor.expect(b'>')?;
    }
    Ok(())
}

impl ContentForm {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Body => b"BODY",
            Self::BodyPeek => b"BODY.PEEK",
            Self::Rfc822 => b"RFC822",
            Self::Rfc822Header => b"RFC822.HEADER",
            Self::Rfc822Text => b"RFC822.TEXT",
        }
    }

    /// The form names its section in brackets.
    const fn has_label(self) -> bool {
        matches!(self, Self::Body | Self::BodyPeek)
    }

    /// The section that a form of RFC 822 stands for; the message for the others.
    pub const fn section(self) -> Section {
        let text = match self {
            Self::Rfc822Header => SectionText::Header,
            Self::Rfc822Text => SectionText::Text,
            Self::Body | Self::BodyPeek | Self::Rfc822 => SectionText::Whole,
        };
        Section { path: Vec::new(), text }
    }
}

impl ContentItem {
    /// Append the item as a command spells it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.form.name());
        if self.form.has_label() {
            self.section.write(out);
            if let Some(Partial { start, octets }) = self.partial {
                out.extend_from_slice(format!("<{start}.{octets}>").as_bytes());
            }
        }
    }
}

impl Partial {
    /// `<0.2048>`: both numbers, the second not zero (servers differ in what they make of anything else).
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        cursor.expect(b'<')?;
        let start = cursor.number()?;
        cursor.expect(b'.')?;
        let octets = cursor.nz_number()?;
        cursor.expect(b'>')?;
        Ok(Self { start, octets })
    }
}

#[cfg(test)]
mod tests;
