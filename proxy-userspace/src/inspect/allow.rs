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

/// What becomes of this capability; unknown ones are hidden.
#[must_use]
pub fn capability(name: &[u8]) -> Treatment {
    let fits = |(entry, fit, _): &&(&str, Fit, Treatment)| match fit {
        Fit::Whole => name.eq_ignore_ascii_case(entry.as_bytes()),
        Fit::Begin => {
            name.get(..entry.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(entry.as_bytes()))
        }
    };
    CAPABILITIES.iter().find(fits).map_or(Treatment::Hide("unknown"), |(_, _, treatment)| *treatment)
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
