//! One complete client command: RFC 3501 section 6, RFC 9051 section 6, and the extensions that are let through.

use std::borrow::Cow;
use std::ops::Range;

use super::fetch::FetchRequest;
use super::grammar::{Piece, fit};
use super::token::{Cursor, Malformed, StringForm};

/// The grammar of each verb's arguments.
mod table;

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
        let mut cursor = Cursor::new(unit);
        let tag = cursor.tag().map_err(|_| CommandFault::NoTag)?;
        if tag.len() > COMMAND_TAG_BYTES_MAX || !(cursor.peek() == Some(b' ') || cursor.is_end()) {
            return Err(CommandFault::NoTag);
        }
        let head = head(&mut cursor).map_err(|malformed| CommandFault::Malformed {
            tag,
            name: b"",
            at: malformed.at,
        })?;
        let Head { uid, verb, name } = head;
        let arguments = Arguments::parse(&mut cursor, verb, uid)
            .map_err(|malformed| CommandFault::Malformed { tag, name, at: malformed.at })?;
        Ok(Self { tag, uid, verb, name, arguments })
    }
}

/// What stands between a tag and the arguments.
struct Head<'a> {
    uid: bool,
    verb: Verb,
    name: &'a [u8],
}

/// A space, the verb, and before it `UID`. A verb without the form that is asked for is another verb.
fn head<'a>(cursor: &mut Cursor<'a>) -> Result<Head<'a>, Malformed> {
    cursor.space()?;
    let mut name = cursor.atom()?;
    let uid = name.eq_ignore_ascii_case(b"UID");
    if uid {
        cursor.space()?;
        name = cursor.atom()?;
    }
    let named = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, verb)| *verb);
    let verb = named.filter(|&verb| has_form(verb, uid)).unwrap_or(Verb::Other);
    Ok(Head { uid, verb, name })
}

fn has_form(verb: Verb, uid: bool) -> bool {
    match verb {
        Verb::Fetch | Verb::Replace => true,
        Verb::Append | Verb::Enable | Verb::Authenticate | Verb::Login | Verb::Select | Verb::Examine => !uid,
        _ => table::grammar(verb, uid).is_some(),
    }
}

impl<'a> Arguments<'a> {
    fn parse(cursor: &mut Cursor<'a>, verb: Verb, uid: bool) -> Result<Self, Malformed> {
        let arguments = match verb {
            Verb::Other if cursor.rest().ends_with(b"\n") => return Ok(Self::Unchecked),
            Verb::Other => return Err(Malformed { at: cursor.at() }),
            Verb::Fetch => {
                cursor.space()?;
                Self::Fetch(FetchRequest::parse(cursor)?)
            }
            Verb::Append | Verb::Replace => {
                let mut request = AppendRequest { mailbox: Cow::Borrowed(b""), messages: Vec::new() };
                request.parse(cursor, verb)?;
                Self::Append(request)
            }
            Verb::Enable => Self::Enable(enable(cursor)?),
            Verb::Authenticate => authenticate(cursor)?,
            Verb::Select | Verb::Examine => {
                cursor.space()?;
                let mailbox = cursor.astring()?;
                fit(cursor, table::SELECT_PARAMETERS)?;
                Self::Select { mailbox }
            }
            Verb::Login => {
                cursor.space()?;
                let user = cursor.astring()?;
                cursor.space()?;
                cursor.astring()?;
                Self::Login { user }
            }
            _ => {
                fit(cursor, table::grammar(verb, uid).unwrap_or_default())?;
                Self::Plain
            }
        };
        cursor.end()?;
        Ok(arguments)
    }
}

/// RFC 5161: one name at least.
fn enable<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<&'a [u8]>, Malformed> {
    let mut names = Vec::new();
    while names.is_empty() || !cursor.is_end() {
        cursor.space()?;
        let name = cursor.atom()?;
        if names.len() == ENABLE_NAMES_MAX {
            return Err(cursor.malformed());
        }
        names.push(name);
    }
    Ok(names)
}

/// RFC 4959 section 3: `=` stands for an empty initial response.
fn authenticate<'a>(cursor: &mut Cursor<'a>) -> Result<Arguments<'a>, Malformed> {
    cursor.space()?;
    let mechanism = cursor.atom()?;
    let mut initial = None;
    if cursor.skip(b' ') {
        initial =
            Some(cursor.run(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/' | b'='))?);
    }
    Ok(Arguments::Authenticate { mechanism, initial })
}

/// Where the parsing of an APPEND ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Appended {
    /// Behind the last message.
    Whole,
    /// Behind the announcement of a message that has not come yet.
    Awaits,
}

impl<'a> AppendRequest<'a> {
    /// What stands behind the verb.
    fn parse(&mut self, cursor: &mut Cursor<'a>, verb: Verb) -> Result<Appended, Malformed> {
        cursor.space()?;
        if verb == Verb::Replace {
            fit(cursor, &[Piece::Either(&[&[Piece::Octet(b'*')], &[Piece::Number]]), Piece::Space])?;
        }
        self.mailbox = cursor.astring()?;
        loop {
            if self.message(cursor)? == Appended::Awaits {
                return Ok(Appended::Awaits);
            }
            if verb == Verb::Replace || cursor.is_end() {
                return Ok(Appended::Whole);
            }
        }
    }

    /// A space, flags, a date, and the message: `{n}`, `~{n}` or `UTF8 (~{n})`.
    fn message(&mut self, cursor: &mut Cursor<'a>) -> Result<Appended, Malformed> {
        cursor.space()?;
        if self.messages.len() == APPEND_MESSAGES_MAX {
            return Err(cursor.malformed());
        }
        if cursor.peek() == Some(b'(') {
            cursor.flag_list()?;
            cursor.space()?;
        }
        if cursor.peek() == Some(b'"') {
            cursor.date_time()?;
            cursor.space()?;
        }
        let utf8 = cursor.skip_word(b"UTF8");
        if utf8 {
            fit(cursor, &[Piece::Space, Piece::Octet(b'(')])?;
        }
        let binary = utf8 || cursor.peek() == Some(b'~');
        let form = if binary { StringForm::Binary } else { StringForm::Literal };
        let octets = cursor.literal_head(form)?;
        if cursor.rest().is_empty() {
            return Ok(Appended::Awaits);
        }
        let message = cursor.literal_content(octets, form)?;
        if utf8 {
            cursor.expect(b')')?;
        }
        self.messages.push(message.start..message.end);
        Ok(Appended::Whole)
    }
}

/// The tag and the verb of a unit that has only begun: APPEND must be known before its literal is asked for.
///
/// Returns `None` until the octet behind the verb is there, and where there is no tag or no verb.
pub fn peek(unit_so_far: &[u8]) -> Option<(&[u8], Verb)> {
    let mut cursor = Cursor::new(unit_so_far);
    let tag = cursor.tag().ok().filter(|tag| tag.len() <= COMMAND_TAG_BYTES_MAX)?;
    let head = head(&mut cursor).ok()?;
    cursor.peek().map(|_| (tag, head.verb))
}

/// What the literal is whose announcement, with its line end, was the last of these octets. They begin with the unit
/// and hold its earlier literals.
pub fn literal_role(unit_so_far: &[u8]) -> LiteralRole {
    let Some((_, verb @ (Verb::Append | Verb::Replace))) = peek(unit_so_far) else {
        return LiteralRole::Argument;
    };
    let mut cursor = Cursor::new(unit_so_far);
    let mut request = AppendRequest { mailbox: Cow::Borrowed(b""), messages: Vec::new() };
    let begun = cursor.tag().and_then(|_| head(&mut cursor)).and_then(|_| request.parse(&mut cursor, verb));
    match begun {
        Ok(Appended::Awaits) => LiteralRole::Message,
        // Everything was well but for the octets that have not come: it is the mailbox.
        Err(malformed) if malformed.at == unit_so_far.len() => LiteralRole::Argument,
        Ok(Appended::Whole) | Err(_) => LiteralRole::Malformed,
    }
}

#[cfg(test)]
mod tests;
