//! What may pass by name: capabilities, SASL mechanisms, response codes. Whatever stands in no table here stays out.
//! docs/imap.md lists the tables with their reasons; a test compares both.

use crate::imap::command::Verb;

/// What becomes of a capability that a server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It passes as it came.
    Pass,
    /// It is hidden. The reason, in words.
    Hide(&'static str),
    /// `LITERAL+` is shown as `LITERAL-` (RFC 7888): a client asks before it sends a large literal.
    LiteralMinus,
    /// `APPENDLIMIT` (RFC 7889) is shown with the lower of both limits.
    AppendLimit,
    /// `AUTH=`: [`mechanism`] decides.
    Mechanism,
}

/// How an entry of a table fits a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Whole,
    /// The name begins so, as `RIGHTS=` does.
    Begin,
}

/// The capability list of a server, by name (RFC 9051 section 7.2.2), with the document that defines each.
#[rustfmt::skip]
const CAPABILITIES: &[(&str, Fit, Treatment)] = {
    use Fit::{Begin, Whole};
    use Treatment::{AppendLimit, Hide, LiteralMinus, Mechanism, Pass};
    const BY_ANOTHER_NAME: &str = "shows mail by another name than FETCH's sections";
    const CANNOT_READ: &str = "the gateway could not read the session any more";
    &[
        ("IMAP4REV1", Whole, Pass),
        ("IMAP4", Whole, Pass),
        ("LOGINDISABLED", Whole, Pass),
        ("SASL-IR", Whole, Pass),
        ("ID", Whole, Pass),
        ("ENABLE", Whole, Pass),
        ("IDLE", Whole, Pass),
        ("NAMESPACE", Whole, Pass),
        ("CHILDREN", Whole, Pass),
        ("SPECIAL-USE", Whole, Pass),
        ("CREATE-SPECIAL-USE", Whole, Pass),
        ("XLIST", Whole, Pass),
        ("LIST-EXTENDED", Whole, Pass),
        ("LIST-STATUS", Whole, Pass),
        ("LIST-MYRIGHTS", Whole, Pass),
        ("LIST-METADATA", Whole, Pass),
        ("UIDPLUS", Whole, Pass),
        ("MOVE", Whole, Pass),
        ("UNSELECT", Whole, Pass),
        ("CONDSTORE", Whole, Pass),
        ("QRESYNC", Whole, Pass),
        ("ESEARCH", Whole, Pass),
        ("ESORT", Whole, Pass),
        ("SEARCHRES", Whole, Pass),
        ("WITHIN", Whole, Pass),
        ("SORT", Whole, Pass),
        ("SORT=DISPLAY", Whole, Pass),
        ("THREAD=", Begin, Pass),
        ("I18NLEVEL=", Begin, Pass),
        ("QUOTA", Whole, Pass),
        ("QUOTA=RES-", Begin, Pass),
        ("QUOTASET", Whole, Pass),
        ("ACL", Whole, Pass),
        ("RIGHTS=", Begin, Pass),
        ("STATUS=SIZE", Whole, Pass),
        ("SAVEDATE", Whole, Pass),
        ("OBJECTID", Whole, Pass),
        ("MULTIAPPEND", Whole, Pass),
        ("REPLACE", Whole, Pass),
        ("UTF8=ACCEPT", Whole, Pass),
        ("X-GM-EXT-1", Whole, Pass),
        ("XAPPLEPUSHSERVICE", Whole, Pass),
        ("METADATA", Whole, Pass),
        ("METADATA-SERVER", Whole, Pass),
        ("LITERAL+", Whole, LiteralMinus),
        ("LITERAL-", Whole, Pass),
        ("APPENDLIMIT", Whole, AppendLimit),
        ("APPENDLIMIT=", Begin, AppendLimit),
        ("AUTH=", Begin, Mechanism),
        ("IMAP4REV2", Whole, Hide("contains BINARY")),
        ("BINARY", Whole, Hide(BY_ANOTHER_NAME)),
        ("PREVIEW", Begin, Hide(BY_ANOTHER_NAME)),
        ("SNIPPET", Begin, Hide(BY_ANOTHER_NAME)),
        ("CONVERT", Whole, Hide(BY_ANOTHER_NAME)),
        ("NOTIFY", Whole, Hide("sends FETCH answers for mailboxes that are not selected")),
        ("CATENATE", Whole, Hide("makes a message of parts that the gateway has not seen")),
        ("URLAUTH", Begin, Hide("shows mail by URL")),
        ("URL-PARTIAL", Whole, Hide("shows mail by URL")),
        ("COMPRESS=", Begin, Hide(CANNOT_READ)),
        ("STARTTLS", Whole, Hide("the session is encrypted already, or stays in clear text")),
        ("PARTIAL", Whole, Hide("changes which messages a FETCH answers for")),
        ("UIDONLY", Whole, Hide("changes the form of FETCH answers")),
        ("UNAUTHENTICATE", Whole, Hide("changes the account in the middle of a session")),
        ("JMAPACCESS", Whole, Hide("leads to mail outside of this session")),
        ("LOGIN-REFERRALS", Whole, Hide("leads to mail outside of this session")),
        ("MAILBOX-REFERRALS", Whole, Hide("leads to mail outside of this session")),
    ]
};

/// What becomes of a SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// It passes.
    Pass,
    /// It passes where the server offers no `-PLUS` form: a client that could bind the channel must otherwise take this
    /// for an attack (RFC 5802 section 6).
    UnlessPlus,
    /// It does not. The reason, in words.
    Refuse(&'static str),
}

/// SASL mechanisms by name; all others are refused as unknown.
const MECHANISMS: &[(&str, Mechanism)] = {
    use Mechanism::{Pass, Refuse, UnlessPlus};
    const SECURITY_LAYER: &str = "can encrypt the session once more, and the gateway could not read it";
    const BINDING: &str = "binds the login to a TLS connection that ends at the gateway";
    &[
        ("PLAIN", Pass),
        ("LOGIN", Pass),
        ("XOAUTH2", Pass),
        ("OAUTHBEARER", Pass),
        ("CRAM-MD5", Pass),
        ("NTLM", Pass),
        ("SCRAM-SHA-1", UnlessPlus),
        ("SCRAM-SHA-256", UnlessPlus),
        ("SCRAM-SHA-1-PLUS", Refuse(BINDING)),
        ("SCRAM-SHA-256-PLUS", Refuse(BINDING)),
        ("GSSAPI", Refuse(SECURITY_LAYER)),
        ("GSS-SPNEGO", Refuse(SECURITY_LAYER)),
        ("DIGEST-MD5", Refuse(SECURITY_LAYER)),
        ("EXTERNAL", Refuse("needs the client's certificate, which ends at the gateway")),
    ]
};

/// Response codes that pass (RFC 9051 section 7.1, RFC 5530 and the extensions let through); others are left out, and
/// the text behind them passes.
const CODES: &[&str] = &[
    "ALERT",
    "BADCHARSET",
    "CAPABILITY",
    "PARSE",
    "PERMANENTFLAGS",
    "READ-ONLY",
    "READ-WRITE",
    "TRYCREATE",
    "UIDNEXT",
    "UIDVALIDITY",
    "UNSEEN",
    "APPENDUID",
    "COPYUID",
    "UIDNOTSTICKY",
    "HIGHESTMODSEQ",
    "NOMODSEQ",
    "MODIFIED",
    "CLOSED",
    "UNAVAILABLE",
    "AUTHENTICATIONFAILED",
    "AUTHORIZATIONFAILED",
    "EXPIRED",
    "PRIVACYREQUIRED",
    "CONTACTADMIN",
    "NOPERM",
    "INUSE",
    "EXPUNGEISSUED",
    "CORRUPTION",
    "SERVERBUG",
    "CLIENTBUG",
    "CANNOT",
    "LIMIT",
    "OVERQUOTA",
    "ALREADYEXISTS",
    "NONEXISTENT",
    "NOTSAVED",
    "HASCHILDREN",
    "USEATTR",
    "METADATA",
    "TOOBIG",
    "MAILBOXID",
    "BADCOMPARATOR",
    "THROTTLED",
];

/// What ENABLE may switch on (RFC 5161).
const ENABLES: &[&str] = &["CONDSTORE", "QRESYNC", "UTF8=ACCEPT"];

/// What is hidden together with a capability, because it is built on it.
const BUILT_ON: &[(&str, &[&str])] = &[
    // RFC 7162 section 3.2.3 and RFC 9755 section 3: a client has to enable them.
    ("ENABLE", &["QRESYNC", "UTF8=ACCEPT"]),
    ("CONDSTORE", &["QRESYNC"]),
    ("SPECIAL-USE", &["CREATE-SPECIAL-USE"]),
    ("LIST-EXTENDED", &["LIST-STATUS", "LIST-MYRIGHTS", "LIST-METADATA"]),
    ("ESEARCH", &["SEARCHRES"]),
    ("SORT", &["SORT=DISPLAY", "ESORT"]),
    ("QUOTA", &["QUOTA=RES-", "QUOTASET"]),
    ("ACL", &["RIGHTS=", "LIST-MYRIGHTS"]),
    ("METADATA", &["METADATA-SERVER", "LIST-METADATA"]),
];

/// Capabilities that pass and that no policy can hide: name, why not, and what to do.
const NEVER_HIDDEN: &[(&str, &str, &str)] = &[
    ("IMAP4REV1", "without it no client speaks with the server", "remove it"),
    ("IMAP4", "it names the protocol, as IMAP4REV1 does", "remove it"),
    (
        "LOGINDISABLED",
        "without it clients send a password that the server refuses",
        "remove it, and use action.capabilities.login",
    ),
    ("STARTTLS", "action.starttls decides who is shown it", "remove it, and use action.starttls"),
    ("LITERAL+", "clients are shown LITERAL- in its place", "write \"LITERAL-\""),
    ("APPENDLIMIT", "it tells what the gateway takes (limits.message)", "remove it"),
    (
        "AUTH",
        "action.capabilities.mechanisms says which mechanisms pass",
        "remove it, and use action.capabilities.mechanisms",
    ),
];

/// Whether a policy can hide a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hiding {
    /// It can.
    Possible,
    /// It cannot.
    Never {
        /// The reason, in words.
        why: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// It never passes. The reason, in words.
    Already(&'static str),
    /// It stands in no table, and never passes.
    Unknown,
}

/// What becomes of this capability; unknown ones are hidden.
#[must_use]
pub fn capability(name: &[u8]) -> Treatment {
    entry(name).map_or(Treatment::Hide("unknown"), |(_, _, treatment)| *treatment)
}

fn entry(name: &[u8]) -> Option<&'static (&'static str, Fit, Treatment)> {
    CAPABILITIES.iter().find(|(entry, fit, _)| match fit {
        Fit::Whole => name.eq_ignore_ascii_case(entry.as_bytes()),
        Fit::Begin => begins(name, entry),
    })
}

/// Whether a name begins so, in any case.
pub(super) fn begins(name: &[u8], begin: &str) -> bool {
    name.get(..begin.len()).is_some_and(|head| head.eq_ignore_ascii_case(begin.as_bytes()))
}

/// Whether a policy can hide this, which is a capability or the beginning of some, such as `THREAD=`.
#[must_use]
pub fn hiding(name: &str) -> Hiding {
    let of_family = name.split('=').next().unwrap_or_default();
    let never = NEVER_HIDDEN.iter().find(|(entry, _, _)| {
        name.eq_ignore_ascii_case(entry) || (name.contains('=') && of_family.eq_ignore_ascii_case(entry))
    });
    if let Some((_, why, remedy)) = never {
        return Hiding::Never { why, remedy };
    }
    // What is no atom (RFC 9051 section 9) is the name of nothing.
    let is_atom = name.bytes().all(|octet| octet.is_ascii_graphic() && !b"(){%*\"\\]".contains(&octet));
    match entry(name.as_bytes()).filter(|_| is_atom) {
        None => Hiding::Unknown,
        Some((_, _, Treatment::Hide(why))) => Hiding::Already(why),
        Some(_) => Hiding::Possible,
    }
}

/// Every name of a table's row that a policy can hide.
pub fn hideable() -> impl Iterator<Item = &'static str> {
    CAPABILITIES.iter().map(|(name, _, _)| *name).filter(|name| hiding(name) == Hiding::Possible)
}

/// What is hidden together with this capability.
#[must_use]
pub fn built_on(name: &str) -> &'static [&'static str] {
    BUILT_ON.iter().find(|(entry, _)| name.eq_ignore_ascii_case(entry)).map_or(&[], |(_, names)| *names)
}

/// What becomes of this SASL mechanism; unknown ones are refused.
#[must_use]
pub fn mechanism(name: &[u8]) -> Mechanism {
    let fits = |(entry, _): &&(&str, Mechanism)| name.eq_ignore_ascii_case(entry.as_bytes());
    MECHANISMS
        .iter()
        .find(fits)
        .map_or(Mechanism::Refuse("unknown to the gateway"), |(_, mechanism)| *mechanism)
}

/// Whether a response code passes.
#[must_use]
pub fn code(name: &[u8]) -> bool {
    CODES.iter().any(|entry| name.eq_ignore_ascii_case(entry.as_bytes()))
}

/// Whether ENABLE may name this.
#[must_use]
pub fn enable(name: &[u8]) -> bool {
    ENABLES.iter().any(|entry| name.eq_ignore_ascii_case(entry.as_bytes()))
}

/// Every row about capabilities, as docs/imap.md shows it: a name that ends in `…` stands for all that begin so.
pub fn capability_rows() -> impl Iterator<Item = (String, Treatment)> {
    CAPABILITIES.iter().map(|(name, fit, treatment)| match fit {
        Fit::Whole => ((*name).to_owned(), *treatment),
        Fit::Begin => (format!("{name}…"), *treatment),
    })
}

/// Every row about SASL mechanisms.
pub fn mechanism_rows() -> impl Iterator<Item = (&'static str, Mechanism)> {
    MECHANISMS.iter().copied()
}

/// Every response code that passes.
pub fn codes() -> impl Iterator<Item = &'static str> {
    CODES.iter().copied()
}

/// Why a command does not pass; `None` where it does.
#[must_use]
pub const fn refused(verb: Verb) -> Option<&'static str> {
    match verb {
        Verb::StartTls => Some("the session is encrypted already"),
        Verb::Compress => Some("the gateway could not read the session any more"),
        Verb::Other => Some("the gateway does not know it"),
        _ => None,
    }
}
