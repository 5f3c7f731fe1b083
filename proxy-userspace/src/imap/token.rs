//! A cursor over one complete unit whose literals stand in it (`{5}\r\nhello`), RFC 9051 section 9.
//!
//! After a failure the place of a cursor means nothing: who tries something else goes on from a clone made before.

use std::borrow::Cow;

/// Lists within lists. The deepest that servers send is a `BODYSTRUCTURE`: two lists a nested message, 128 at most.
pub const DEPTH_MAX: usize = 512;

/// The unit does not continue as it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed at octet {at}")]
pub struct Malformed {
    /// Offset of the first octet that does not fit.
    pub at: usize,
}

/// A string and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringToken {
    /// Offset of the first octet of its content.
    pub start: usize,
    /// Offset behind the last octet of its content. Quoted content is raw: its escapes stand in it.
    pub end: usize,
    /// How it is written.
    pub form: StringForm,
}

/// How a string is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringForm {
    /// `"..."`.
    Quoted,
    /// `{n}`, `{n+}`.
    Literal,
    /// `~{n}`, `~{n+}` (RFC 3516).
    Binary,
}

/// A place in a unit.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    unit: &'a [u8],
    at: usize,
    lenient: bool,
}

/// RFC 9051 `atom-specials` less `resp-specials`: what an `astring` cannot hold without quotes.
pub(super) const fn is_astring_char(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\')
}

/// RFC 9051 `ATOM-CHAR`.
pub(super) const fn is_atom_char(octet: u8) -> bool {
    is_astring_char(octet) && octet != b']'
}

/// What a value of unknown kind may hold without quotes: flags, sets, patterns, sections, and the octets beyond ASCII
/// that servers send.
const fn is_value_char(octet: u8) -> bool {
    (octet.is_ascii_graphic() || octet >= 0x80) && !matches!(octet, b'(' | b')' | b'{' | b'"')
}

/// What stands between quotes, without its escapes.
pub fn unquoted(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut content = Vec::with_capacity(raw.len());
    let mut octets = raw.iter().copied();
    while let Some(octet) = octets.next() {
        content.push(if octet == b'\\' { octets.next().unwrap_or(octet) } else { octet });
    }
    Cow::Owned(content)
}

impl<'a> Cursor<'a> {
    /// At the beginning of a unit.
    pub const fn new(unit: &'a [u8]) -> Self {
        Self { unit, at: 0, lenient: false }
    }

    /// At the beginning of a server's unit: values may have octets beyond ASCII without quotes and be `~{n}`, and a
    /// backslash in quotes may stand before any octet.
    pub const fn lenient(unit: &'a [u8]) -> Self {
        Self { unit, at: 0, lenient: true }
    }

    /// Offset of the next octet.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// Everything from here on.
    pub fn rest(&self) -> &'a [u8] {
        self.unit.get(self.at..).unwrap_or_default()
    }

    /// The octets from an offset to here.
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.unit.get(start..self.at).unwrap_or_default()
    }

    /// Nothing but the line end of the unit is left.
    pub fn is_end(&self) -> bool {
        matches!(self.rest(), b"\r\n" | b"\n")
    }

    /// The next octet.
    pub fn peek(&self) -> Option<u8> {
        self.unit.get(self.at).copied()
    }

    /// Go on behind these octets, at the end of the unit at most.
    pub(super) fn advance(&mut self, octets: usize) {
        self.at = self.at.saturating_add(octets).min(self.unit.len());
    }

    /// A failure here.
    pub const fn malformed(&self) -> Malformed {
        Malformed { at: self.at }
    }

    /// Take this octet if it is next.
    pub fn skip(&mut self, octet: u8) -> bool {
        let is_next = self.peek() == Some(octet);
        self.at += usize::from(is_next);
        is_next
    }

    /// Take this octet.
    ///
    /// # Errors
    /// Another octet is next.
    pub fn expect(&mut self, octet: u8) -> Result<(), Malformed> {
        if self.skip(octet) { Ok(()) } else { Err(self.malformed()) }
    }

    /// One space.
    ///
    /// # Errors
    /// Something else is next.
    pub fn space(&mut self) -> Result<(), Malformed> {
        self.expect(b' ')
    }

    /// Whether only the line end is left, as a result.
    ///
    /// # Errors
    /// Something else is next.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.is_end() { Ok(()) } else { Err(self.malformed()) }
    }

    /// Take this word, in any case, if it is next and no letter, digit or other octet of an atom follows it.
    pub fn skip_word(&mut self, word: &[u8]) -> bool {
        let rest = self.rest();
        let is_next = rest.get(..word.len()).is_some_and(|next| next.eq_ignore_ascii_case(word))
            && !rest.get(word.len()).is_some_and(|&octet| is_atom_char(octet));
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    /// The octets that belong to a class, one at least.
    ///
    /// # Errors
    /// None is next.
    pub fn run(&mut self, class: impl Fn(u8) -> bool) -> Result<&'a [u8], Malformed> {
        let rest = self.rest();
        let len = rest.iter().position(|&octet| !class(octet)).unwrap_or(rest.len());
        let run = rest.get(..len).filter(|run| !run.is_empty()).ok_or(self.malformed())?;
        self.at += len;
        Ok(run)
    }

    /// An atom.
    ///
    /// # Errors
    /// None is next.
    pub fn atom(&mut self) -> Result<&'a [u8], Malformed> {
        self.run(is_atom_char)
    }

    /// A tag: `astring` octets without a plus.
    ///
    /// # Errors
    /// None is next.
    pub fn tag(&mut self) -> Result<&'a [u8], Malformed> {
        self.run(|octet| is_astring_char(octet) && octet != b'+')
    }

    /// An atom (with `]`) or a string, without quotes and escapes. Servers send names beyond ASCII without quotes: a
    /// lenient cursor takes what it takes for a value.
    ///
    /// # Errors
    /// Neither is next.
    pub fn astring(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            _ if self.lenient => self.run(is_value_char).map(Cow::Borrowed),
            _ => self.run(is_astring_char).map(Cow::Borrowed),
        }
    }

    /// An `astring`, or an atom with wildcards (`list-mailbox`).
    ///
    /// # Errors
    /// Neither is next.
    pub fn list_mailbox(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            _ => self.run(|octet| is_astring_char(octet) || matches!(octet, b'%' | b'*')).map(Cow::Borrowed),
        }
    }

    /// A quoted string or a literal, without quotes and escapes.
    ///
    /// # Errors
    /// Neither is next, or it is not complete.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let before = self.at;
        let token = self.string_token()?;
        if token.form == StringForm::Binary {
            self.at = before;
            return Err(Malformed { at: before });
        }
        Ok(self.content(token))
    }

    /// A string or NIL.
    ///
    /// # Errors
    /// Neither is next.
    pub fn nstring(&mut self) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
        if self.skip_word(b"NIL") { Ok(None) } else { self.string().map(Some) }
    }

    /// The content of a string of this unit, without its escapes.
    pub fn content(&self, token: StringToken) -> Cow<'a, [u8]> {
        let raw = self.unit.get(token.start..token.end).unwrap_or_default();
        if token.form == StringForm::Quoted { unquoted(raw) } else { Cow::Borrowed(raw) }
    }

    /// A string and where it stands: `"..."`, `{n}` or `~{n}`. In quotes, a backslash stands before a quote or a
    /// backslash only; there is no CR, LF or NUL.
    ///
    /// # Errors
    /// None is next, or it is not complete.
    pub fn string_token(&mut self) -> Result<StringToken, Malformed> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal(StringForm::Literal),
            Some(b'~') => self.literal(StringForm::Binary),
            _ => Err(self.malformed()),
        }
    }

    fn quoted(&mut self) -> Result<StringToken, Malformed> {
        let start = self.at + 1;
        let mut octets = self.unit.get(start..).unwrap_or_default().iter().copied().enumerate();
        while let Some((offset, octet)) = octets.next() {
            match octet {
                b'"' => {
                    let end = start + offset;
                    self.at = end + 1;
                    return Ok(StringToken { start, end, form: StringForm::Quoted });
                }
                b'\\' => match octets.next() {
                    Some((_, b'"' | b'\\')) => {}
                    Some((_, escaped)) if self.lenient && !matches!(escaped, b'\r' | b'\n' | 0) => {}
                    _ => return Err(Malformed { at: start + offset }),
                },
                b'\r' | b'\n' | 0 => return Err(Malformed { at: start + offset }),
                _ => {}
            }
        }
        Err(Malformed { at: self.unit.len() })
    }

    fn literal(&mut self, form: StringForm) -> Result<StringToken, Malformed> {
        let octets = self.literal_head(form)?;
        self.literal_content(octets, form)
    }

    /// The announcement of a literal, with its line end. Returns the octets of the literal.
    pub(super) fn literal_head(&mut self, form: StringForm) -> Result<u32, Malformed> {
        if form == StringForm::Binary {
            self.expect(b'~')?;
        }
        self.expect(b'{')?;
        let octets = self.number()?;
        self.skip(b'+');
        self.expect(b'}')?;
        self.skip(b'\r');
        self.expect(b'\n')?;
        Ok(octets)
    }

    /// The octets of a literal, behind its announcement.
    pub(super) fn literal_content(
        &mut self,
        octets: u32,
        form: StringForm,
    ) -> Result<StringToken, Malformed> {
        let start = self.at;
        let end = usize::try_from(octets).ok().and_then(|octets| start.checked_add(octets));
        let end = end.filter(|&end| end <= self.unit.len()).ok_or(Malformed { at: self.unit.len() })?;
        self.at = end;
        Ok(StringToken { start, end, form })
    }

    /// Digits up to a maximum; leading zeros are passed over.
    fn digits(&mut self, max: u64) -> Result<u64, Malformed> {
        let before = self.at;
        let digits = self.run(|octet| octet.is_ascii_digit())?;
        let number = digits.iter().try_fold(0_u64, |number, digit| {
            number.checked_mul(10)?.checked_add(u64::from(digit - b'0')).filter(|&number| number <= max)
        });
        number.ok_or_else(|| {
            self.at = before;
            Malformed { at: before }
        })
    }

    /// A number of 32 bits.
    ///
    /// # Errors
    /// None is next, or it is larger.
    pub fn number(&mut self) -> Result<u32, Malformed> {
        self.digits(u64::from(u32::MAX)).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// A number of 63 bits (RFC 9051 `number64`).
    ///
    /// # Errors
    /// None is next, or it is larger.
    pub fn number64(&mut self) -> Result<u64, Malformed> {
        self.digits(u64::MAX >> 1)
    }

    /// A number of 32 bits that is not zero.
    ///
    /// # Errors
    /// None is next, or it is zero or larger.
    pub fn nz_number(&mut self) -> Result<u32, Malformed> {
        let before = self.at;
        match self.number()? {
            0 => {
                self.at = before;
                Err(Malformed { at: before })
            }
            number => Ok(number),
        }
    }

    /// A sequence set as it stands: `1,3:*`, or `$` (RFC 5182).
    ///
    /// # Errors
    /// None is next.
    pub fn sequence_set(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        if self.skip(b'$') {
            return Ok(self.since(start));
        }
        loop {
            self.sequence_number()?;
            if self.skip(b':') {
                self.sequence_number()?;
            }
            if !self.skip(b',') {
                return Ok(self.since(start));
            }
        }
    }

    fn sequence_number(&mut self) -> Result<(), Malformed> {
        if self.skip(b'*') { Ok(()) } else { self.nz_number().map(drop) }
    }

    /// A flag: a keyword, or an atom behind a backslash. `\*` (RFC 9051 `flag-perm`) is one, too. Servers have keywords
    /// that are no atoms (`OIB-Seen-[Gmail]/All`): a lenient cursor takes what it takes for a value.
    ///
    /// # Errors
    /// None is next.
    pub fn flag(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        if self.lenient {
            return self.run(is_value_char);
        }
        if self.skip(b'\\') && self.skip(b'*') {
            return Ok(self.since(start));
        }
        self.atom()?;
        Ok(self.since(start))
    }

    /// A list: what `item` takes, between parentheses, with one space between two. It may be empty.
    ///
    /// # Errors
    /// None is next, or an item fails.
    pub fn list(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.expect(b'(')?;
        self.odd_spaces();
        if self.skip(b')') {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.skip(b')') {
                return Ok(());
            }
            self.space()?;
            self.odd_spaces();
            if self.lenient && self.skip(b')') {
                return Ok(());
            }
        }
    }

    /// Spaces that have no meaning, where the cursor is lenient: iCloud sends one behind the last flag, DavMail two behind a
    /// list.
    pub(super) fn odd_spaces(&mut self) {
        while self.lenient && self.skip(b' ') {}
    }

    /// A list of flags as it stands.
    ///
    /// # Errors
    /// None is next.
    pub fn flag_list(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        self.list(|cursor| cursor.flag().map(drop))?;
        Ok(self.since(start))
    }

    /// A date with time in quotes, as it stands: `"17-Jul-1996 02:44:25 -0700"`. The day may begin with a space.
    ///
    /// # Errors
    /// None is next.
    pub fn date_time(&mut self) -> Result<&'a [u8], Malformed> {
        const FORM: &[u8] = b"\"dD-MMM-DDDD DD:DD:DD sDDDD\"";
        let next = self.rest().get(..FORM.len()).ok_or(self.malformed())?;
        for (at, (&octet, &form)) in next.iter().zip(FORM).enumerate() {
            let fits = match form {
                b'd' => octet == b' ' || octet.is_ascii_digit(),
                b'D' => octet.is_ascii_digit(),
                b'M' => octet.is_ascii_alphabetic(),
                b's' => matches!(octet, b'+' | b'-'),
                other => octet == other,
            };
            if !fits {
                return Err(Malformed { at: self.at + at });
            }
        }
        self.at += FORM.len();
        Ok(next)
    }

    /// One value of any kind: a string, a run of octets without quotes, a list of values of any depth to
    /// [`DEPTH_MAX`]. Within a list, nothing has to stand between a list and its neighbours, as in `BODYSTRUCTURE`.
    ///
    /// # Errors
    /// None is next, or its parentheses or quotes are not balanced.
    pub fn skip_value(&mut self) -> Result<(), Malformed> {
        let before = self.at;
        let skipped = self.skip_balanced();
        if skipped.is_err() {
            self.at = before;
        }
        skipped
    }

    fn skip_balanced(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                Some(b'(') if depth < DEPTH_MAX => {
                    self.at += 1;
                    depth += 1;
                    if self.peek() != Some(b')') {
                        continue;
                    }
                }
                Some(b')') if depth > 0 => {}
                Some(b'"' | b'{') => self.string_token().map(drop)?,
                Some(b'~') if self.lenient && self.rest().get(1) == Some(&b'{') => {
                    self.string_token().map(drop)?;
                }
                _ => {
                    let lenient = self.lenient;
                    self.run(|octet| is_value_char(octet) && (lenient || octet.is_ascii())).map(drop)?;
                }
            }
            while depth > 0 && self.skip(b')') {
                depth -= 1;
            }
            if depth == 0 {
                return Ok(());
            }
            // A list may stand directly behind a list.
            if self.peek() != Some(b'(') {
                self.space()?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
