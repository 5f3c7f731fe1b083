//! `BODY` and `BODYSTRUCTURE` (RFC 9051 section 7.5.2) as a list of parts.

use super::token::{Cursor, Malformed};

/// Parts of one structure, multiparts included.
pub const STRUCTURE_PARTS_MAX: usize = 10_000;

/// Parts within parts.
pub const STRUCTURE_DEPTH_MAX: usize = 128;

/// What a server says of a message's parts. It is a hint: servers' octet and line counts are wrong at times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// The parts in the order in which they stand, each before its children.
    pub parts: Vec<StructurePart>,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructurePart {
    /// Part numbers. A message that is no multipart is part 1; a message's own multipart has the message's path.
    pub path: Vec<u32>,
    /// Type and subtype, as they stand. A multipart's type is `multipart`.
    pub media: (Vec<u8>, Vec<u8>),
    /// Each `name` of the type and `filename` of the disposition: raw, as the server gives it. Clients differ in which of
    /// them they take.
    pub names: Vec<Vec<u8>>,
    /// The transfer encoding as it stands; empty for a multipart.
    pub encoding: Vec<u8>,
    /// Octets in the transfer encoding, as announced; 0 for a multipart.
    pub octets: u64,
    /// It has parts of its own.
    pub is_multipart: bool,
    /// It is a `message/rfc822` or `message/global` whose own structure follows.
    pub is_message: bool,
}

impl Structure {
    /// Parse the value of the item.
    ///
    /// Returns `None` where it does not parse or exceeds a bound: then it is not believed.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut reader = Reader { cursor: Cursor::lenient(value), parts: Vec::new(), open: Vec::new() };
        reader.read().ok()?;
        reader.cursor.rest().is_empty().then_some(Self { parts: reader.parts })
    }
}

impl StructurePart {
    const fn empty(path: Vec<u32>) -> Self {
        Self {
            path,
            media: (Vec::new(), Vec::new()),
            names: Vec::new(),
            encoding: Vec::new(),
            octets: 0,
            is_multipart: false,
            is_message: false,
        }
    }
}

/// Reads without recursion: what is open stands in a list.
struct Reader<'a> {
    cursor: Cursor<'a>,
    parts: Vec<StructurePart>,
    open: Vec<OpenPart>,
}

/// A part whose children are being read.
struct OpenPart {
    /// Its place in the list of parts.
    index: usize,
    /// Children so far; none where it is a message, which has one body.
    children: Option<u32>,
}

/// Where a body stands in what holds it.
struct Place {
    path: Vec<u32>,
    /// It is the body of a message: a multipart there has the message's path, any other is its part 1.
    of_message: bool,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), Malformed> {
        let mut place = Some(Place { path: Vec::new(), of_message: true });
        while let Some(next) = place.take() {
            place = self.body(next)?;
            while place.is_none() && !self.open.is_empty() {
                place = self.behind_child()?;
            }
        }
        Ok(())
    }

    /// A body from its parenthesis. Returns the place of the body within it; without one, it was read whole.
    fn body(&mut self, place: Place) -> Result<Option<Place>, Malformed> {
        self.cursor.expect(b'(')?;
        if self.parts.len() == STRUCTURE_PARTS_MAX || self.open.len() == STRUCTURE_DEPTH_MAX {
            return Err(self.cursor.malformed());
        }
        let Place { mut path, of_message } = place;
        let index = self.parts.len();
        if self.cursor.peek() == Some(b'(') {
            let first = child(&path, 1);
            let mut part = StructurePart::empty(path);
            part.is_multipart = true;
            self.parts.push(part);
            self.open.push(OpenPart { index, children: Some(1) });
            return Ok(Some(Place { path: first, of_message: false }));
        }
        if of_message {
            path.push(1);
        }
        let part = self.leaf(path)?;
        let inner = part.is_message.then(|| Place { path: part.path.clone(), of_message: true });
        self.parts.push(part);
        if inner.is_some() {
            self.open.push(OpenPart { index, children: None });
            return Ok(inner);
        }
        // Lines, of a text.
        let mut ahead = self.cursor.clone();
        if ahead.skip(b' ') && ahead.number64().is_ok() {
            self.cursor = ahead;
        }
        self.leaf_extension(index)?;
        Ok(None)
    }

    /// RFC 9051 `body-fields` with the type before them. Of a message, its envelope as well, to the body's parenthesis.
    fn leaf(&mut self, path: Vec<u32>) -> Result<StructurePart, Malformed> {
        let mut part = StructurePart::empty(path);
        part.media.0 = self.word()?;
        self.cursor.space()?;
        part.media.1 = self.word()?;
        self.cursor.space()?;
        part.names = self.parameters(b"name")?;
        self.cursor.space()?;
        self.cursor.nstring()?; // The identifier.
        self.cursor.space()?;
        self.cursor.nstring()?; // The description.
        self.cursor.space()?;
        part.encoding = self.word()?;
        self.cursor.space()?;
        part.octets = self.cursor.number64()?;
        let (media, subtype) = &part.media;
        let is_message = media.eq_ignore_ascii_case(b"message")
            && (subtype.eq_ignore_ascii_case(b"rfc822") || subtype.eq_ignore_ascii_case(b"global"));
        // Some servers describe a message that they cannot parse as any other leaf.
        let mut ahead = self.cursor.clone();
        part.is_message = is_message && ahead.skip(b' ') && ahead.peek() == Some(b'(');
        if part.is_message {
            ahead.skip_value()?;
            ahead.space()?;
            self.cursor = ahead;
        }
        Ok(part)
    }

    /// What stands behind a child of the innermost open part. Returns the place of the next child.
    fn behind_child(&mut self) -> Result<Option<Place>, Malformed> {
        let Some(open) = self.open.last_mut() else { return Ok(None) };
        let index = open.index;
        match &mut open.children {
            Some(children) if self.cursor.peek() == Some(b'(') => {
                *children = children.saturating_add(1);
                let path = self.parts.get(index).map(|part| child(&part.path, *children)).unwrap_or_default();
                return Ok(Some(Place { path, of_message: false }));
            }
            Some(_) => self.multipart_end(index)?,
            None => {
                // Lines of the message, then as of any leaf.
                self.cursor.space()?;
                self.cursor.number64()?;
                self.leaf_extension(index)?;
            }
        }
        self.open.pop();
        Ok(None)
    }

    /// The subtype, and RFC 9051 `body-ext-mpart`, with the parenthesis.
    fn multipart_end(&mut self, index: usize) -> Result<(), Malformed> {
        self.cursor.space()?;
        let subtype = self.word()?;
        if let Some(part) = self.parts.get_mut(index) {
            part.media = (b"multipart".to_vec(), subtype);
        }
        if self.cursor.skip(b' ') {
            self.parameters(b"name")?;
        }
        self.values_to_end()
    }

    /// RFC 9051 `body-ext-1part`, with the parenthesis: digest, disposition, and what follows.
    fn leaf_extension(&mut self, index: usize) -> Result<(), Malformed> {
        if self.cursor.skip(b' ') {
            self.cursor.nstring()?;
            if self.cursor.skip(b' ') {
                let mut names = self.disposition()?;
                if let Some(part) = self.parts.get_mut(index) {
                    part.names.append(&mut names);
                    // Mostly both are the same.
                    part.names.dedup();
                }
            }
        }
        self.values_to_end()
    }

    fn values_to_end(&mut self) -> Result<(), Malformed> {
        while self.cursor.skip(b' ') {
            self.cursor.skip_value()?;
        }
        self.cursor.expect(b')')
    }

    /// NIL or `("attachment" ("filename" "a.txt"))`. Returns the file names.
    fn disposition(&mut self) -> Result<Vec<Vec<u8>>, Malformed> {
        if self.cursor.skip_word(b"NIL") {
            return Ok(Vec::new());
        }
        self.cursor.expect(b'(')?;
        self.word()?;
        self.cursor.space()?;
        let names = self.parameters(b"filename")?;
        self.cursor.expect(b')')?;
        Ok(names)
    }

    /// NIL, a list of names and values, or the empty list that some servers send. Returns the values of one parameter; of
    /// one in pieces (RFC 2231: `name*0*`, `name*1*`) all of them, as they stand and in the order of their numbers.
    fn parameters(&mut self, wanted: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
        if self.cursor.skip_word(b"NIL") {
            return Ok(Vec::new());
        }
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut pieces: Vec<(u32, Vec<u8>)> = Vec::new();
        self.cursor.list(|cursor| {
            let name = cursor.string()?;
            cursor.space()?;
            let value = cursor.nstring()?.unwrap_or_default().into_owned();
            let (base, suffix) = name.split_at_checked(wanted.len()).unwrap_or((&name, b""));
            if base.eq_ignore_ascii_case(wanted) {
                match suffix {
                    b"" | b"*" => found.push(value),
                    [b'*', number @ ..] => {
                        let number = std::str::from_utf8(number.strip_suffix(b"*").unwrap_or(number)).ok();
                        let number = number.and_then(|number| number.parse().ok());
                        pieces.push((number.unwrap_or(u32::MAX), value));
                    }
                    _ => {}
                }
            }
            Ok(())
        })?;
        let joined = |pieces: &[(u32, Vec<u8>)]| -> Vec<u8> {
            pieces.iter().flat_map(|(_, value)| value).copied().collect()
        };
        if !pieces.is_empty() {
            found.push(joined(&pieces));
            pieces.sort_by_key(|(number, _)| *number);
            found.push(joined(&pieces));
            found.dedup();
        }
        Ok(found)
    }

    /// A string; nothing for NIL.
    fn word(&mut self) -> Result<Vec<u8>, Malformed> {
        Ok(self.cursor.nstring()?.unwrap_or_default().into_owned())
    }
}

fn child(path: &[u32], number: u32) -> Vec<u32> {
    let mut child = Vec::with_capacity(path.len() + 1);
    child.extend_from_slice(path);
    child.push(number);
    child
}

#[cfg(test)]
mod tests;
