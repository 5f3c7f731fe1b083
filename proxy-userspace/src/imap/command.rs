//! One complete client command: RFC 3501 section 6, RFC 9051 section 6, and the extensions that are let through.

use std::borrow::Cow;
use std::ops::Range;

use super::fetch::FetchRequest;

/// Messages of one MULTIAPPEND.
pub const APPEND_MESSAGES_MAX: usize = 1_000;

/// Capabilities of one ENABLE.
pub const ENABLE_NAMES_MAX: usize = 100;

/// The longest tag. It is echoed; clients use a dozen octets.
pub const COMMAND_TAG_BYTES_MAX: usize = 255;

/// One complete client command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCommand<'a> {
    /// Its tag.
    pub tag: &'a [u8],
    /// It is the UID form of its verb.
    pub uid: bool,
    /// What it asks for.
    pub verb: Verb,
    /// The verb as it stands, without `UID`.
    pub name: &'a [u8],
    /// What follows.
    pub arguments: Arguments<'a>,
}

/// The arguments of a command, as far as anything depends on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arguments<'a> {
    /// They keep the grammar of the verb.
    Plain,
    /// FETCH, UID FETCH.
    Fetch(FetchRequest<'a>),
    /// APPEND, REPLACE, UID REPLACE.
    Append(AppendRequest<'a>),
    /// The capabilities of ENABLE (RFC 5161).
    Enable(Vec<&'a [u8]>),
    /// AUTHENTICATE.
    Authenticate {
        /// The SASL mechanism.
        mechanism: &'a [u8],
        /// The initial response (RFC 4959) in base64, or `=`.
        initial: Option<&'a [u8]>,
    },
    /// SELECT, EXAMINE.
    Select {
        /// The mailbox.
        mailbox: Cow<'a, [u8]>,
    },
    /// LOGIN.
    Login {
        /// The user name.
        user: Cow<'a, [u8]>,
    },
    /// The verb is not in the table: nothing was looked at.
    Unchecked,
}

/// APPEND, MULTIAPPEND (RFC 3502), REPLACE (RFC 8508), with UTF8 (RFC 6855).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendRequest<'a> {
    /// The mailbox.
    pub mailbox: Cow<'a, [u8]>,
    /// The octets of each message within the unit.
    pub messages: Vec<Range<usize>>,
}

/// A unit that is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandFault<'a> {
    /// It does not begin with a tag of at most [`COMMAND_TAG_BYTES_MAX`] octets.
    #[error("a command without a tag")]
    NoTag,
    /// The grammar of its verb is not kept.
    #[error("malformed at octet {at}")]
    Malformed {
        /// Its tag.
        tag: &'a [u8],
        /// Its verb as it stands; empty where there is none.
        name: &'a [u8],
        /// Offset of the first octet that does not fit.
        at: usize,
    },
}

/// What a literal that was just announced is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteralRole {
    /// A message of APPEND or REPLACE.
    Message,
    /// An argument: a name, a password, a key of SEARCH.
    Argument,
    /// An APPEND or REPLACE that is malformed already.
    Malformed,
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $verb:ident = $name:literal,)*) => {
        /// What a command asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verb {
            $($(#[$doc])* $verb,)*
            /// A verb that is not in the table.
            Other,
        }

        const NAMES: &[(&[u8], Verb)] = &[$(($name, Verb::$verb),)*];
    };
}

verbs! {
    /// RFC 9051 section 6.1.1.
    Capability = b"CAPABILITY",
    /// RFC 9051 section 6.1.2.
    Noop = b"NOOP",
    /// RFC 9051 section 6.1.3.
    Logout = b"LOGOUT",
    /// RFC 2971.
    Id = b"ID",
    /// RFC 5161.
    Enable = b"ENABLE",
    /// RFC 9051 section 6.2.1.
    StartTls = b"STARTTLS",
    /// RFC 9051 section 6.2.2.
    Authenticate = b"AUTHENTICATE",
    /// RFC 9051 section 6.2.3.
    Login = b"LOGIN",
    /// RFC 9051 section 6.3.2.
    Select = b"SELECT",
    /// RFC 9051 section 6.3.3.
    Examine = b"EXAMINE",
    /// RFC 9051 section 6.3.4.
    Create = b"CREATE",
    /// RFC 9051 section 6.3.5.
    Delete = b"DELETE",
    /// RFC 9051 section 6.3.6.
    Rename = b"RENAME",
    /// RFC 9051 section 6.3.7.
    Subscribe = b"SUBSCRIBE",
    /// RFC 9051 section 6.3.8.
    Unsubscribe = b"UNSUBSCRIBE",
    /// RFC 9051 section 6.3.9.
    List = b"LIST",
    /// RFC 3501 section 6.3.9.
    Lsub = b"LSUB",
    /// Gmail's forerunner of RFC 6154.
    Xlist = b"XLIST",
    /// RFC 2342.
    Namespace = b"NAMESPACE",
    /// RFC 9051 section 6.3.11.
    Status = b"STATUS",
    /// RFC 9051 section 6.3.12, RFC 3502.
    Append = b"APPEND",
    /// RFC 2177.
    Idle = b"IDLE",
    /// RFC 3501 section 6.4.1.
    Check = b"CHECK",
    /// RFC 9051 section 6.4.1.
    Close = b"CLOSE",
    /// RFC 3691.
    Unselect = b"UNSELECT",
    /// RFC 9051 section 6.4.3; its UID form is RFC 4315.
    Expunge = b"EXPUNGE",
    /// RFC 9051 section 6.4.4.
    Search = b"SEARCH",
    /// RFC 5256.
    Sort = b"SORT",
    /// RFC 5256.
    Thread = b"THREAD",
    /// RFC 9051 section 6.4.5.
    Fetch = b"FETCH",
    /// RFC 9051 section 6.4.6.
    Store = b"STORE",
    /// RFC 9051 section 6.4.7.
    Copy = b"COPY",
    /// RFC 6851.
    Move = b"MOVE",
    /// RFC 8508.
    Replace = b"REPLACE",
    /// RFC 9208.
    GetQuota = b"GETQUOTA",
    /// RFC 9208.
    GetQuotaRoot = b"GETQUOTAROOT",
    /// RFC 9208.
    SetQuota = b"SETQUOTA",
    /// RFC 4314.
    GetAcl = b"GETACL",
    /// RFC 4314.
    SetAcl = b"SETACL",
    /// RFC 4314.
    DeleteAcl = b"DELETEACL",
    /// RFC 4314.
    ListRights = b"LISTRIGHTS",
    /// RFC 4314.
    MyRights = b"MYRIGHTS",
    /// RFC 5464.
    GetMetadata = b"GETMETADATA",
    /// RFC 5464.
    SetMetadata = b"SETMETADATA",
    /// RFC 5255 section 4.7.
    Comparator = b"COMPARATOR",
    /// RFC 5255 section 3.2.
    Language = b"LANGUAGE",
    /// Apple's push service, as iOS registers with it.
    XApplePushService = b"XAPPLEPUSHSERVICE",
    /// RFC 4978.
    Compress = b"COMPRESS",
}

impl<'a> ClientCommand<'a> {
    /// Parse one complete unit.
    ///
    /// # Errors
    /// It has no tag, or its arguments do not keep the grammar of a verb that is in the table.
    pub fn parse(unit: &'a [u8]) -> Result<Self, CommandFault<'a>> {
        let _ = (unit, NAMES);
        Err(CommandFault::NoTag)
    }
}

/// The tag and the verb of a unit that has only begun.
pub fn peek(unit_so_far: &[u8]) -> Option<(&[u8], Verb)> {
    let _ = unit_so_far;
    None
}

/// What the literal is whose announcement was the last of these octets.
pub fn literal_role(unit_so_far: &[u8]) -> LiteralRole {
    let _ = unit_so_far;
    LiteralRole::Argument
}
