//! Header fields as tolerant clients read them: names, types, encodings, boundaries.
//!
//! A header is read more than once wherever clients differ: folded lines joined with and without their white space,
//! lines that are no field left out and appended, quotes obeyed and ignored. Whatever any of these readings gives
//! counts.

mod params;
mod words;

pub(crate) use words::unstructured_text;

use std::ops::Range;

use memchr::memchr2;

use self::params::Parameters;
use super::limits::{BOUNDARIES_OF_HEADER_MAX, NAME_BYTES_MAX, NAMES_MAX, VALUE_BYTES_MAX};
use super::{Condition, DeclaredEncodings};

/// One line: where it stands without its end, and where the next one begins. A line ends with CRLF, LF or CR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) range: Range<usize>,
    pub(super) next: usize,
    /// A client that knows no CR as a line end sees a line end here.
    pub(super) has_line_feed: bool,
}

/// The line that begins at `at`. None at the end.
pub(super) fn line_at(content: &[u8], at: usize) -> Option<Line> {
    let rest = content.get(at..).filter(|rest| !rest.is_empty())?;
    let end = memchr2(b'\r', b'\n', rest);
    let length = end.unwrap_or(rest.len());
    let (behind, has_line_feed) = match rest.get(length..) {
        Some([b'\r', b'\n', ..]) => (2, true),
        Some([b'\n', ..]) => (1, true),
        Some([_, ..]) => (1, false),
        _ => (0, false),
    };
    Some(Line { range: at..at + length, next: at + length + behind, has_line_feed })
}

/// The name of the field that begins a line, and where its value begins. White space before the colon is obsolete
/// syntax that clients accept (RFC 5322 section 4.5).
pub(super) fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = line.iter().position(|octet| !matches!(octet, 33..=57 | 59..=126))?;
    let (name, rest) = line.split_at_checked(length)?;
    let value = rest.trim_ascii_start().strip_prefix(b":")?;
    (!name.is_empty()).then_some((name, value))
}

/// Whether a line is a field whose name begins with `Content-`.
pub(super) fn is_content_field(line: &[u8]) -> bool {
    field(line)
        .and_then(|(name, _)| name.first_chunk::<8>())
        .is_some_and(|name| name.eq_ignore_ascii_case(b"content-"))
}

/// Where a header ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where content begins for a client that ends the header at the first line that is no field.
    pub(super) narrow: usize,
    /// Where content begins for a client that goes on to the first empty line. Not before `narrow`.
    pub(super) wide: usize,
}

/// Where the header that begins at `start` ends. A line for which `is_delimiter` holds ends it, too.
pub(super) fn extent(content: &[u8], start: usize, is_delimiter: &dyn Fn(&[u8]) -> bool) -> Extent {
    let mut narrow = None;
    let mut at = start;
    let mut begins_line = true;
    let mut has_field = false;
    while let Some(line) = line_at(content, at) {
        let text = content.get(line.range.clone()).unwrap_or_default();
        if text.is_empty() {
            narrow = narrow.or(Some(line.next));
            if begins_line && line.has_line_feed {
                return Extent { narrow: narrow.unwrap_or(line.next), wide: line.next };
            }
        } else if is_delimiter(text) {
            return Extent { narrow: narrow.unwrap_or(at), wide: at };
        } else if field(text).is_some() {
            has_field = true;
        } else if !(is_folded(text) && has_field || at == start && is_envelope_line(text)) {
            narrow = narrow.or(Some(at));
        }
        begins_line = line.has_line_feed;
        at = line.next;
    }
    Extent { narrow: narrow.unwrap_or(content.len()), wide: content.len() }
}

/// A folded line with something on it. White space alone ends a header for some clients.
fn is_folded(line: &[u8]) -> bool {
    matches!(line, [b' ' | b'\t', ..]) && !line.trim_ascii().is_empty()
}

/// The line with which mbox files begin a message. Servers let it through.
fn is_envelope_line(line: &[u8]) -> bool {
    line.starts_with(b"From ") || line.starts_with(b">From ")
}

/// What the fields of a header say, in all readings together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) names: Vec<String>,
    /// Declared types in lower case, without white space.
    pub(super) types: Vec<String>,
    pub(super) boundaries: Vec<Vec<u8>>,
    pub(super) is_base64: bool,
    pub(super) is_quoted_printable: bool,
    /// An encoding that a file within the text has: uuencode, yEnc.
    is_file_in_text: bool,
    /// `smime-type` says that it is encrypted.
    is_enveloped: bool,
    /// Fields called Content-Type.
    type_fields: usize,
    /// The header hides something: too many names, or names that are too long.
    pub(super) is_excessive: bool,
}

impl Facts {
    /// The encodings that it declares.
    pub(super) const fn encodings(&self) -> DeclaredEncodings {
        DeclaredEncodings { base64: self.is_base64, quoted_printable: self.is_quoted_printable }
    }

    /// Read the fields in `header`.
    pub(super) fn read(header: &[u8]) -> Self {
        let mut facts = Self::default();
        let mut reader = FieldReader::default();
        let mut at = 0;
        while let Some(line) = line_at(header, at) {
            let text = header.get(line.range).unwrap_or_default();
            if let Some((name, value)) = field(text) {
                reader.finish(&mut facts);
                reader.begin(name, value);
            } else {
                reader.more(text);
            }
            at = line.next;
        }
        reader.finish(&mut facts);
        facts
    }

    /// Add what BODYSTRUCTURE says.
    pub(super) fn add_hint(&mut self, hint: &super::LeafHint) {
        let (kind, subtype) = &hint.media;
        if !kind.is_empty() {
            self.add_type(&[kind.as_slice(), b"/", subtype].concat());
        }
        if let Some(name) = &hint.name {
            self.add_names(name, None);
            // Servers pass the forms of RFC 2231 on as they stand.
            let (charset, text) = params::without_charset(name);
            if charset.is_some() {
                self.add_names(&params::percent_decoded(text), charset);
            }
        }
        self.add_encoding(&hint.encoding);
    }

    pub(super) fn is_multipart(&self) -> bool {
        !self.boundaries.is_empty() || self.types.iter().any(|kind| kind.starts_with("multipart/"))
    }

    pub(super) fn is_message(&self) -> bool {
        self.types.iter().any(|kind| kind.starts_with("message/"))
    }

    /// Whether every client sees a container here, and none a leaf.
    pub(super) fn is_container(&self) -> bool {
        self.type_fields == 1
            && !self.is_file_in_text
            && match self.types.as_slice() {
                [kind] if kind.starts_with("multipart/") => !self.boundaries.is_empty(),
                [kind] => {
                    matches!(kind.as_str(), "message/rfc822" | "message/global") && self.boundaries.is_empty()
                }
                _ => false,
            }
    }

    /// What the declared types say beside what the leaf is: each is a verdict of its own.
    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition> {
        let declares = |kind: &str| self.types.iter().any(|declared| declared.starts_with(kind));
        let is_encrypted = declares("multipart/encrypted")
            || declares("application/pgp-encrypted")
            || self.is_enveloped
                && (declares("application/pkcs7-mime") || declares("application/x-pkcs7-mime"));
        [
            (declares("message/partial"), Condition::PartialMessage),
            (declares("message/external-body"), Condition::ExternalBody),
            (is_encrypted, Condition::EncryptedMail),
        ]
        .into_iter()
        .filter_map(|(is_declared, condition)| is_declared.then_some(condition))
    }

    fn add_type(&mut self, value: &[u8]) {
        let kind: Vec<u8> = value
            .iter()
            .take_while(|octet| **octet != b';')
            .filter(|octet| !octet.is_ascii_whitespace() && !octet.is_ascii_control())
            .map(u8::to_ascii_lowercase)
            .take(TYPE_BYTES_MAX)
            .collect();
        let kind = String::from_utf8_lossy(&kind).into_owned();
        if !kind.is_empty() && !self.types.contains(&kind) {
            self.types.push(kind);
        }
    }

    fn add_encoding(&mut self, value: &[u8]) {
        let value = String::from_utf8_lossy(value).to_ascii_lowercase();
        self.is_base64 |= value.contains("base64");
        self.is_quoted_printable |= value.contains("quoted");
        self.is_file_in_text |= value.contains("uu") || value.contains("yenc");
    }

    fn add_names(&mut self, raw: &[u8], charset: Option<&[u8]>) {
        if raw.len() > NAME_BYTES_MAX {
            self.is_excessive = true;
            return;
        }
        for name in words::names(raw, charset) {
            if name.chars().count() > super::rules::NAME_CHARS_MAX || self.names.len() >= NAMES_MAX {
                self.is_excessive = true;
            } else if !name.is_empty() && !self.names.contains(&name) {
                self.names.push(name);
            }
        }
    }

    fn add_parameters(&mut self, value: &[u8]) {
        if value.len() > VALUE_BYTES_MAX {
            self.is_excessive = true;
        }
        let value = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
        let parameters = Parameters::read(value);
        self.is_excessive |= parameters.is_excessive;
        for name in &parameters.names {
            self.add_names(&name.value, name.charset.as_deref());
        }
        for boundary in parameters.boundaries {
            let boundary = boundary.trim_ascii_end().to_vec();
            if self.boundaries.len() >= BOUNDARIES_OF_HEADER_MAX {
                self.is_excessive = true;
            } else if !self.boundaries.contains(&boundary) {
                self.boundaries.push(boundary);
            }
        }
    }
}

/// Whether a Content-Type has `smime-type=enveloped-data` or one of its sisters.
fn says_enveloped(value: &[u8]) -> bool {
    let value = value.get(..VALUE_BYTES_MAX).unwrap_or(value).to_ascii_lowercase();
    let has = |word: &[u8]| memchr::memmem::find(&value, word).is_some();
    has(b"smime-type") && (has(b"enveloped") || has(b"encrypted"))
}

/// Octets of a declared type. What is longer is no type that any client knows.
const TYPE_BYTES_MAX: usize = 255;

/// Which fields are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Type,
    Disposition,
    Encoding,
}

/// The lines of one field.
#[derive(Debug, Default)]
struct FieldReader {
    known: Option<Known>,
    /// Four readings: lines that are no field left out or appended, white space of folded lines kept or dropped.
    values: [Vec<u8>; 4],
    is_folded: bool,
    has_others: bool,
}

impl FieldReader {
    fn begin(&mut self, name: &[u8], value: &[u8]) {
        self.known = if name.eq_ignore_ascii_case(b"Content-Type") {
            Some(Known::Type)
        } else if name.eq_ignore_ascii_case(b"Content-Disposition") {
            Some(Known::Disposition)
        } else if name.eq_ignore_ascii_case(b"Content-Transfer-Encoding") {
            Some(Known::Encoding)
        } else {
            None
        };
        self.is_folded = false;
        self.has_others = false;
        if self.known.is_some() {
            self.values = std::array::from_fn(|_| value.to_vec());
        }
    }

    fn more(&mut self, line: &[u8]) {
        if self.known.is_none() || line.is_empty() {
            return;
        }
        self.has_others |= !is_folded(line);
        self.is_folded = true;
        let [kept, dropped, kept_all, dropped_all] = &mut self.values;
        if !self.has_others {
            kept.extend_from_slice(line);
            dropped.extend_from_slice(line.trim_ascii_start());
        }
        kept_all.extend_from_slice(line);
        dropped_all.extend_from_slice(line.trim_ascii_start());
    }

    fn finish(&mut self, facts: &mut Facts) {
        let Some(known) = self.known.take() else { return };
        facts.type_fields += usize::from(known == Known::Type);
        let readings = match (self.is_folded, self.has_others) {
            (false, _) => 1,
            (true, false) => 2,
            (true, true) => 4,
        };
        for value in self.values.iter().take(readings) {
            let bare = params::without_comments(value);
            match known {
                Known::Encoding => facts.add_encoding(value),
                Known::Type => {
                    facts.add_type(&bare);
                    facts.is_enveloped |= says_enveloped(value);
                    facts.add_parameters(value);
                }
                Known::Disposition => facts.add_parameters(value),
            }
        }
    }
}
