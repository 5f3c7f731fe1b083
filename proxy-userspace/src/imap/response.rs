//! One complete server response: RFC 3501 section 7, RFC 9051 section 7, and the data of extensions.

use std::ops::Range;

use super::fetch::Section;
use super::grammar::fit;
use super::token::{Cursor, Malformed, is_atom_char};

/// Untagged data beside FETCH.
mod data;
/// The items of a FETCH response.
mod fetch;

pub use fetch::MALFORMED_STRUCTURE_BYTES_MAX;

/// Items of one FETCH response: twice what a command may ask for.
pub const ANSWERED_ITEMS_MAX: usize = 2 * super::fetch::FETCH_ITEMS_MAX;

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// `+ text`: the server waits for octets of the client.
    Continuation {
        /// Behind the plus and its space, without the line end.
        text: &'a [u8],
    },
    /// The completion of a command.
    Tagged {
        /// The command's tag.
        tag: &'a [u8],
        /// OK, NO or BAD.
        condition: Condition,
        /// What follows.
        text: StatusText<'a>,
    },
    /// An untagged status.
    Status {
        /// Any of the five.
        condition: Condition,
        /// What follows.
        text: StatusText<'a>,
    },
    /// `* 5 EXISTS`.
    Exists(u32),
    /// `* 5 RECENT`.
    Recent(u32),
    /// `* 5 EXPUNGE`.
    Expunge(u32),
    /// `* 5 FETCH (...)`.
    Fetch(FetchResponse),
    /// Other data.
    Data {
        /// What they are.
        name: DataName,
        /// The name as it stands.
        name_octets: &'a [u8],
        /// Behind the name, with the space, without the line end.
        rest: &'a [u8],
    },
}

/// The state that a status response reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// `OK`.
    Ok,
    /// `NO`.
    No,
    /// `BAD`.
    Bad,
    /// `BYE`, untagged only.
    Bye,
    /// `PREAUTH`, untagged only.
    Preauth,
}

/// What follows the condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusText<'a> {
    /// What stands in brackets at the beginning.
    pub code: Option<Code<'a>>,
    /// The text for people, without the line end.
    pub text: &'a [u8],
}

/// A response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code<'a> {
    /// Its name; empty where the code is malformed or not closed, so that it is on nobody's list.
    pub name: &'a [u8],
    /// Behind the name and its space.
    pub arguments: Option<&'a [u8]>,
    /// All of it, with its brackets. Where it is not closed: to the end of the line.
    pub whole: &'a [u8],
}

/// What untagged data are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataName {
    /// `CAPABILITY`.
    Capability,
    /// `ENABLED` (RFC 5161).
    Enabled,
    /// `FLAGS`.
    Flags,
    /// `LIST`.
    List,
    /// `LSUB`.
    Lsub,
    /// `XLIST`.
    Xlist,
    /// `SEARCH`.
    Search,
    /// `ESEARCH` (RFC 4731).
    ESearch,
    /// `SORT` (RFC 5256).
    Sort,
    /// `THREAD` (RFC 5256).
    Thread,
    /// `STATUS`.
    Status,
    /// `NAMESPACE` (RFC 2342).
    Namespace,
    /// `ID` (RFC 2971).
    Id,
    /// `VANISHED` (RFC 7162).
    Vanished,
    /// `QUOTA` (RFC 9208).
    Quota,
    /// `QUOTAROOT` (RFC 9208).
    QuotaRoot,
    /// `ACL` (RFC 4314).
    Acl,
    /// `LISTRIGHTS` (RFC 4314).
    ListRights,
    /// `MYRIGHTS` (RFC 4314).
    MyRights,
    /// `METADATA` (RFC 5464).
    Metadata,
    /// `COMPARATOR` (RFC 5255).
    Comparator,
    /// `XAPPLEPUSHSERVICE`.
    XApplePushService,
    /// Anything else; what follows the name was not looked at.
    Other,
}

/// A response that cannot be passed on, because clients could read it in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseFault {
    /// The grammar is not kept.
    #[error("malformed at octet {at}")]
    Malformed {
        /// Offset of the first octet that does not fit.
        at: usize,
    },
    /// More than [`ANSWERED_ITEMS_MAX`] items.
    #[error("a FETCH response with more than {ANSWERED_ITEMS_MAX} items")]
    TooManyItems,
}

impl From<Malformed> for ResponseFault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed { at: malformed.at }
    }
}

/// `* n FETCH (...)`. Ranges are offsets within the unit, so that the caller can cut and overwrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse {
    /// The message's sequence number.
    pub number: u32,
    /// The items in their order. One space stands between two.
    pub items: Vec<AnsweredItem>,
}

/// One item of a FETCH response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredItem {
    /// What it is.
    pub kind: AnsweredKind,
    /// Name, space and value.
    pub range: Range<usize>,
    /// Its value.
    pub value: ItemValue,
}

/// What an item of a FETCH response is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnsweredKind {
    /// `FLAGS`.
    Flags,
    /// `UID`.
    Uid(u32),
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
    /// `MODSEQ`.
    ModSeq,
    /// `SAVEDATE`.
    SaveDate,
    /// `EMAILID`.
    EmailId,
    /// `THREADID`.
    ThreadId,
    /// `X-GM-MSGID`.
    GmMsgId,
    /// `X-GM-THRID`.
    GmThrId,
    /// `X-GM-LABELS`.
    GmLabels,
    /// Octets of the message, or NIL.
    Content {
        /// Its form.
        form: AnsweredForm,
        /// The section; of the `RFC822` forms the one that they stand for.
        section: Section,
        /// The first octet's offset, where the label has one.
        origin: Option<u32>,
    },
    /// Anything else: another name, a section that does not parse, a section whose value is no string.
    Unknown,
}

/// How a response names a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnsweredForm {
    /// `BODY[...]`.
    Body,
    /// `RFC822`.
    Rfc822,
    /// `RFC822.HEADER`.
    Rfc822Header,
    /// `RFC822.TEXT`.
    Rfc822Text,
}

/// The value of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemValue {
    /// NIL.
    Nil,
    /// A string.
    Octets {
        /// Its content, without quotes and without the announcement of the literal. In quotes, escapes stand in it.
        content: Range<usize>,
        /// It stands in quotes.
        quoted: bool,
        /// It is a `~{n}` (RFC 3516).
        binary: bool,
    },
    /// Anything else: all of it.
    Other(Range<usize>),
}

impl FetchResponse {
    /// The message's UID: none where no item says it, or where two say different ones.
    pub fn uid(&self) -> Option<u32> {
        let mut uids = self.items.iter().filter_map(|item| match item.kind {
            AnsweredKind::Uid(uid) => Some(uid),
            _ => None,
        });
        let first = uids.next()?;
        uids.all(|uid| uid == first).then_some(first)
    }
}

/// Parse one complete unit.
///
/// # Errors
/// It is no response, or clients could read it in several ways.
pub fn parse(unit: &[u8]) -> Result<Response<'_>, ResponseFault> {
    let mut cursor = Cursor::lenient(unit);
    match cursor.peek() {
        Some(b'*') => {
            cursor.expect(b'*')?;
            cursor.space()?;
            untagged(cursor)
        }
        Some(b'+') => {
            cursor.expect(b'+')?;
            if !cursor.is_end() {
                cursor.space()?;
            }
            Ok(Response::Continuation { text: line(&cursor)? })
        }
        _ => {
            let tag = cursor.tag()?;
            cursor.space()?;
            let before = cursor.malformed();
            let condition = Condition::parse(&mut cursor).filter(|condition| condition.may_be_tagged());
            Ok(Response::Tagged {
                tag,
                condition: condition.ok_or(before)?,
                text: StatusText::parse(cursor)?,
            })
        }
    }
}

/// What stands behind `* `.
fn untagged(mut cursor: Cursor<'_>) -> Result<Response<'_>, ResponseFault> {
    if cursor.peek().is_some_and(|octet| octet.is_ascii_digit()) {
        return numbered(cursor);
    }
    if let Some(condition) = Condition::parse(&mut cursor) {
        return Ok(Response::Status { condition, text: StatusText::parse(cursor)? });
    }
    data(cursor)
}

/// `5 EXISTS` and other data that begin with a number.
fn numbered(mut cursor: Cursor<'_>) -> Result<Response<'_>, ResponseFault> {
    let number = cursor.number()?;
    cursor.space()?;
    if number > 0 && cursor.skip_word(b"FETCH") {
        cursor.space()?;
        let items = fetch::items(&mut cursor)?;
        spaces_to_end(&mut cursor)?;
        return Ok(Response::Fetch(FetchResponse { number, items }));
    }
    let simple = [
        (b"EXISTS".as_slice(), Response::Exists(number)),
        (b"EXPUNGE", Response::Expunge(number)),
        (b"RECENT", Response::Recent(number)),
    ];
    let start = cursor.at();
    match simple.into_iter().find(|(word, _)| cursor.skip_word(word)) {
        Some((_, Response::Expunge(0))) => Err(Malformed { at: start }.into()),
        Some((_, response)) => {
            spaces_to_end(&mut cursor)?;
            Ok(response)
        }
        None => {
            let name_octets = cursor.atom().map_err(|_| Malformed { at: start })?;
            Ok(Response::Data { name: DataName::Other, name_octets, rest: line(&cursor)? })
        }
    }
}

fn data(mut cursor: Cursor<'_>) -> Result<Response<'_>, ResponseFault> {
    let name_octets = cursor.atom()?;
    let rest = line(&cursor)?;
    let (name, grammar) = data::named(name_octets);
    if let Some(grammar) = grammar {
        fit(&mut cursor, grammar)?;
        spaces_to_end(&mut cursor)?;
    }
    Ok(Response::Data { name, name_octets, rest })
}

/// Some servers, Exchange among them, send a space before the line end.
fn spaces_to_end(cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    while cursor.skip(b' ') {}
    cursor.end()
}

/// What is left, without the line end.
fn line<'a>(cursor: &Cursor<'a>) -> Result<&'a [u8], Malformed> {
    let rest = cursor.rest();
    rest.strip_suffix(b"\r\n").or_else(|| rest.strip_suffix(b"\n")).ok_or(cursor.malformed())
}

impl Condition {
    const WORDS: [(&'static [u8], Self); 5] = [
        (b"OK", Self::Ok),
        (b"NO", Self::No),
        (b"BAD", Self::Bad),
        (b"BYE", Self::Bye),
        (b"PREAUTH", Self::Preauth),
    ];

    fn parse(cursor: &mut Cursor<'_>) -> Option<Self> {
        Self::WORDS.iter().find(|(word, _)| cursor.skip_word(word)).map(|(_, condition)| *condition)
    }

    const fn may_be_tagged(self) -> bool {
        matches!(self, Self::Ok | Self::No | Self::Bad)
    }

    /// The word that stands for it.
    pub fn word(self) -> &'static [u8] {
        Self::WORDS.iter().find(|(_, condition)| *condition == self).map_or(b"", |(word, _)| word)
    }
}

impl<'a> StatusText<'a> {
    /// What stands behind the condition. Servers leave the text out at times, and its space.
    fn parse(mut cursor: Cursor<'a>) -> Result<Self, Malformed> {
        if cursor.is_end() {
            return Ok(Self { code: None, text: b"" });
        }
        cursor.space()?;
        let text = line(&cursor)?;
        if !text.starts_with(b"[") {
            return Ok(Self { code: None, text });
        }
        let code = Code::parse(text);
        let behind = text.get(code.whole.len()..).unwrap_or_default();
        Ok(Self { code: Some(code), text: behind.strip_prefix(b" ").unwrap_or(behind) })
    }

    /// The text ends as the announcement of a literal does. Nothing follows it, but some clients (Python's imaplib)
    /// then take the next octets for one.
    pub fn ends_like_literal(&self) -> bool {
        let Some(before) = self.text.strip_suffix(b"}") else { return false };
        let before = before.strip_suffix(b"+").unwrap_or(before);
        let digits = before.iter().rev().take_while(|octet| octet.is_ascii_digit()).count();
        let brace = before.len().checked_sub(digits + 1).and_then(|at| before.get(at));
        digits > 0 && brace == Some(&b'{')
    }

    /// Append the text with another code, or none, as it stands behind the condition and its space. Without a code, the
    /// brackets and spaces at its beginning are left out: a second code in it would become the first.
    pub fn write_with(&self, code: Option<&[u8]>, out: &mut Vec<u8>) {
        let Some(code) = code else {
            let start = self.text.iter().position(|octet| !matches!(octet, b'[' | b' '));
            out.extend_from_slice(start.and_then(|start| self.text.get(start..)).unwrap_or_default());
            return;
        };
        out.push(b'[');
        out.extend_from_slice(code);
        out.extend_from_slice(b"] ");
        out.extend_from_slice(self.text);
    }
}

impl<'a> Code<'a> {
    /// A text that begins with a bracket. The code ends at the first closing bracket outside of strings and lists:
    /// keywords have brackets, too (`OIB-Seen-[Gmail]/All`). A client that looks for the very first one reads the same
    /// name, and less of the arguments.
    fn parse(text: &'a [u8]) -> Self {
        let Some(end) = Self::end(text) else { return Self { name: b"", arguments: None, whole: text } };
        let whole = text.get(..=end).unwrap_or_default();
        let inside = text.get(1..end).unwrap_or_default();
        let mut parts = inside.splitn(2, |octet| *octet == b' ');
        let name = parts.next().unwrap_or_default();
        let is_name = name.iter().all(|&octet| is_atom_char(octet) && octet != b'[');
        Self { name: if is_name { name } else { b"" }, arguments: parts.next(), whole }
    }

    fn end(text: &[u8]) -> Option<usize> {
        let mut depth = 0_usize;
        let mut in_string = false;
        let mut octets = text.iter().enumerate();
        while let Some((at, octet)) = octets.next() {
            match octet {
                b'\\' if in_string => drop(octets.next()),
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'(' => depth += 1,
                b')' => depth = depth.checked_sub(1)?,
                b']' if depth == 0 => return Some(at),
                _ => {}
            }
        }
        None
    }

    /// Whether it has this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The words of its arguments: the capabilities of a CAPABILITY code.
    pub fn words(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        capabilities(self.arguments.unwrap_or_default())
    }
}

/// The capabilities of a CAPABILITY response or response code, from what stands behind the name.
pub fn capabilities(rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    rest.split(|octet| *octet == b' ').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
