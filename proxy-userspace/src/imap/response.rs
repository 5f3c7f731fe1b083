//! One complete server response: RFC 3501 section 7, RFC 9051 section 7, and the data of extensions.

use std::ops::Range;

use super::fetch::Section;
use super::token::Malformed;

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

/// Parse one complete unit.
///
/// # Errors
/// It is no response.
pub fn parse(unit: &[u8]) -> Result<Response<'_>, ResponseFault> {
    let _ = unit;
    Err(ResponseFault::TooManyItems)
}

/// The capabilities of a CAPABILITY response or response code, from what stands behind the name.
pub fn capabilities(rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    rest.split(|octet| *octet == b' ').filter(|name| !name.is_empty())
}
