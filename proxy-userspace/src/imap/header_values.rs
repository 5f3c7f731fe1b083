//! Where `ENVELOPE`, `BODY` and `BODYSTRUCTURE` (RFC 9051 section 7.5.2) show values of header fields.
//!
//! What names a part's type, encoding and disposition is not looked for: no client could read the part without it.

use std::ops::Range;

use super::structure::{STRUCTURE_DEPTH_MAX, STRUCTURE_PARTS_MAX};
use super::token::{Cursor, Malformed, StringForm, StringToken};

/// Where the value of `ENVELOPE` shows fields whose name is `wanted`: the content of each string that is not empty, as it
/// stands, without its quotes. Offsets are those within `value`.
///
/// # Errors
/// The value does not parse.
pub fn in_envelope(value: &[u8], wanted: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Range<usize>>, Malformed> {
    let mut reader = Reader { cursor: Cursor::lenient(value), wanted, places: Vec::new() };
    reader.envelope()?;
    reader.done()
}

/// The same for the value of `BODY` or `BODYSTRUCTURE`, with the envelopes in it.
///
/// # Errors
/// The value does not parse, or exceeds a bound of [`super::structure`].
pub fn in_structure(value: &[u8], wanted: &dyn Fn(&[u8]) -> bool) -> Result<Vec<Range<usize>>, Malformed> {
    let mut reader = Reader { cursor: Cursor::lenient(value), wanted, places: Vec::new() };
    reader.structure()?;
    reader.done()
}

/// The names of fields that `ENVELOPE` or `BODYSTRUCTURE` can show.
pub const SHOWN_FIELDS: [&str; 15] = [
    "Date",
    "Subject",
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "In-Reply-To",
    "Message-ID",
    "Content-ID",
    "Content-Description",
    "Content-MD5",
    "Content-Language",
    "Content-Location",
];

struct Reader<'a, 'w> {
    cursor: Cursor<'a>,
    wanted: &'w dyn Fn(&[u8]) -> bool,
    places: Vec<Range<usize>>,
}

/// A body whose children are being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Multipart,
    Message,
}

/// The strings of an address list.
type Addresses = Vec<Option<StringToken>>;

impl Reader<'_, '_> {
    fn done(self) -> Result<Vec<Range<usize>>, Malformed> {
        if self.cursor.rest().is_empty() { Ok(self.places) } else { Err(self.cursor.malformed()) }
    }

    /// A string, or none for NIL.
    fn nstring(&mut self) -> Result<Option<StringToken>, Malformed> {
        if self.cursor.skip_word(b"NIL") {
            return Ok(None);
        }
        let token = self.cursor.string_token()?;
        if token.form == StringForm::Binary { Err(self.cursor.malformed()) } else { Ok(Some(token)) }
    }

    fn note(&mut self, tokens: &[Option<StringToken>], name: &str) {
        if (self.wanted)(name.as_bytes()) {
            let places = tokens.iter().flatten().map(|token| token.start..token.end);
            self.places.extend(places.filter(|place| !place.is_empty()));
        }
    }

    /// A string that is the value of a field.
    fn value(&mut self, name: &str) -> Result<(), Malformed> {
        let token = self.nstring()?;
        self.note(&[token], name);
        Ok(())
    }

    fn envelope(&mut self) -> Result<(), Malformed> {
        self.cursor.expect(b'(')?;
        for name in ["Date", "Subject"] {
            self.value(name)?;
            self.cursor.space()?;
        }
        let from = self.addresses()?;
        self.note(&from, "From");
        for name in ["Sender", "Reply-To"] {
            self.cursor.space()?;
            let addresses = self.addresses()?;
            // Where the message has no such field, the server puts From here.
            let shows_from = self.is_same(&addresses, &from);
            self.note(&addresses, if shows_from { "From" } else { name });
        }
        for name in ["To", "Cc", "Bcc"] {
            self.cursor.space()?;
            let addresses = self.addresses()?;
            self.note(&addresses, name);
        }
        for name in ["In-Reply-To", "Message-ID"] {
            self.cursor.space()?;
            self.value(name)?;
        }
        self.cursor.expect(b')')
    }

    fn is_same(&self, one: &Addresses, other: &Addresses) -> bool {
        let content = |token: &Option<StringToken>| token.map(|token| self.cursor.content(token));
        one.iter().map(content).eq(other.iter().map(content))
    }

    /// NIL, or a list of addresses: name, route, mailbox and host of each.
    fn addresses(&mut self) -> Result<Addresses, Malformed> {
        let mut strings = Vec::new();
        if self.cursor.skip_word(b"NIL") {
            return Ok(strings);
        }
        self.cursor.expect(b'(')?;
        loop {
            self.cursor.odd_spaces();
            if self.cursor.skip(b')') {
                return Ok(strings);
            }
            self.cursor.expect(b'(')?;
            for at in 0..4 {
                if at > 0 {
                    self.cursor.space()?;
                }
                strings.push(self.nstring()?);
            }
            self.cursor.expect(b')')?;
        }
    }

    /// Without recursion: what is open stands in a list.
    fn structure(&mut self) -> Result<(), Malformed> {
        let mut open: Vec<Open> = Vec::new();
        let mut parts = 0_usize;
        loop {
            parts += 1;
            if parts > STRUCTURE_PARTS_MAX || open.len() >= STRUCTURE_DEPTH_MAX {
                return Err(self.cursor.malformed());
            }
            if let Some(inside) = self.body()? {
                open.push(inside);
                continue;
            }
            loop {
                match open.last() {
                    None => return Ok(()),
                    Some(Open::Multipart) if self.cursor.peek() == Some(b'(') => break,
                    Some(Open::Multipart) => self.multipart_end()?,
                    Some(Open::Message) => {
                        self.cursor.space()?;
                        self.cursor.number64()?;
                        self.leaf_extension()?;
                    }
                }
                open.pop();
            }
        }
    }

    /// A body from its parenthesis: to its end, or to the parenthesis of the first body in it.
    fn body(&mut self) -> Result<Option<Open>, Malformed> {
        self.cursor.expect(b'(')?;
        if self.cursor.peek() == Some(b'(') {
            return Ok(Some(Open::Multipart));
        }
        let media = self.cursor.nstring()?.unwrap_or_default();
        self.cursor.space()?;
        let subtype = self.cursor.nstring()?.unwrap_or_default();
        self.cursor.space()?;
        self.cursor.skip_value()?; // The parameters.
        for name in ["Content-ID", "Content-Description"] {
            self.cursor.space()?;
            self.value(name)?;
        }
        self.cursor.space()?;
        self.cursor.nstring()?; // The encoding.
        self.cursor.space()?;
        self.cursor.number64()?;
        let is_message = media.eq_ignore_ascii_case(b"message")
            && (subtype.eq_ignore_ascii_case(b"rfc822") || subtype.eq_ignore_ascii_case(b"global"));
        // Some servers describe a message that they cannot parse as any other leaf.
        let mut ahead = self.cursor.clone();
        if is_message && ahead.skip(b' ') && ahead.peek() == Some(b'(') {
            self.cursor = ahead;
            self.envelope()?;
            self.cursor.space()?;
            return Ok(Some(Open::Message));
        }
        // Lines, of a text.
        let mut ahead = self.cursor.clone();
        if ahead.skip(b' ') && ahead.number64().is_ok() {
            self.cursor = ahead;
        }
        self.leaf_extension()?;
        Ok(None)
    }

    /// The subtype, and RFC 9051 `body-ext-mpart`, with the parenthesis.
    fn multipart_end(&mut self) -> Result<(), Malformed> {
        self.cursor.space()?;
        self.cursor.nstring()?;
        if self.cursor.skip(b' ') {
            self.cursor.skip_value()?; // The parameters.
        }
        self.extension()
    }

    /// RFC 9051 `body-ext-1part`, with the parenthesis.
    fn leaf_extension(&mut self) -> Result<(), Malformed> {
        if self.cursor.skip(b' ') {
            self.value("Content-MD5")?;
        }
        self.extension()
    }

    /// Disposition, languages, location, and what no RFC defines, with the parenthesis.
    fn extension(&mut self) -> Result<(), Malformed> {
        if self.cursor.skip(b' ') {
            self.cursor.skip_value()?; // The disposition.
        }
        if self.cursor.skip(b' ') {
            self.languages()?;
        }
        if self.cursor.skip(b' ') {
            self.value("Content-Location")?;
        }
        while self.cursor.skip(b' ') {
            self.cursor.skip_value()?;
        }
        self.cursor.expect(b')')
    }

    fn languages(&mut self) -> Result<(), Malformed> {
        if self.cursor.peek() != Some(b'(') {
            return self.value("Content-Language");
        }
        self.cursor.expect(b'(')?;
        loop {
            self.cursor.odd_spaces();
            if self.cursor.skip(b')') {
                return Ok(());
            }
            self.value("Content-Language")?;
        }
    }
}

#[cfg(test)]
mod tests;
