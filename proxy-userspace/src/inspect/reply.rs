//! What becomes of one complete response that holds no mail: whether it passes, and in which words.

use super::allow::{self, Treatment};
use super::imap_terms::ImapTerms;
use super::refusal::Refused;
use super::request::Offered;
use crate::imap::response::{
    self, Code, Condition, DataName, FetchResponse, Response, StatusText, capabilities,
};

/// Octets of a data response that holds names or values: LIST, STATUS, METADATA, ID. Names are short, and a value of
/// METADATA that is longer is no setting.
const DATA_BYTES_MAX: usize = 256 * 1024;
/// Octets of a line of text (OK, NO, BAD, BYE, `+`). A SASL challenge with a Kerberos ticket takes 64 KiB, and nothing
/// is longer.
const LINE_BYTES_MAX: usize = 128 * 1024;

/// What becomes of a response.
#[derive(Debug)]
pub(super) enum Reply {
    /// It passes as it came.
    Pass,
    /// It stays out.
    LeaveOut,
    /// The client gets these words in its place.
    Replace(Vec<u8>),
    /// It may hold mail.
    Fetch(FetchResponse),
    /// `+`, and other words for it where they change.
    Continuation(Option<Vec<u8>>),
    /// The server leaves.
    Bye(Option<Vec<u8>>),
    /// A command's completion, and other words for it where they change.
    Completion { tag: Box<[u8]>, condition: Condition, words: Option<Vec<u8>> },
}

/// What a server's greeting says, where servers must not tell what they are.
const NEUTRAL_GREETING: &[u8] = b"IMAP4rev1 service ready";
/// The same of `* BYE`.
const NEUTRAL_BYE: &[u8] = b"The session is over";
/// The same of a tagged OK.
const NEUTRAL_OK: &[u8] = b"Completed";
/// The whole `+` of IDLE, likewise.
pub(super) const NEUTRAL_GO_ON: &[u8] = b"+ Go on\r\n";

/// What decides about the words of a response, beside the response.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    /// The largest message that clients are told of.
    pub(super) message_max: u64,
    /// What the policy says about IMAP itself.
    pub(super) imap: &'a ImapTerms,
    /// It is the first response of the server's.
    pub(super) greets: bool,
}

impl Shown<'_> {
    /// What stands in place of the text of a status, where it may tell which software the server is. People must read why
    /// a command failed, and what stands behind ALERT (RFC 9051 section 7.1).
    fn neutral(&self, condition: Condition, is_tagged: bool, text: &StatusText<'_>) -> Option<&'static [u8]> {
        if !self.imap.hides_banner() || text.code.as_ref().is_some_and(|code| code.is("ALERT")) {
            return None;
        }
        match condition {
            Condition::Bye => Some(NEUTRAL_BYE),
            Condition::Preauth => Some(NEUTRAL_GREETING),
            Condition::Ok if is_tagged => Some(NEUTRAL_OK),
            Condition::Ok if self.greets => Some(NEUTRAL_GREETING),
            Condition::Ok | Condition::No | Condition::Bad => None,
        }
    }
}

/// Look at a response. `offered` learns from capability lists.
///
/// # Errors
/// A response that somebody may wait for, and that cannot be read or is too large.
pub(super) fn classify(unit: &[u8], shown: Shown<'_>, offered: &mut Offered) -> Result<Reply, Refused> {
    let Ok(response) = response::parse(unit) else {
        return if unit.starts_with(b"* ") { Err(Refused::Malformed) } else { Ok(Reply::LeaveOut) };
    };
    Ok(match response {
        Response::Fetch(fetch) => Reply::Fetch(fetch),
        Response::Exists(_) | Response::Recent(_) | Response::Expunge(_) => Reply::Pass,
        Response::Continuation { .. } if unit.len() > LINE_BYTES_MAX => Reply::LeaveOut,
        Response::Continuation { text } => {
            Reply::Continuation(text.ends_with(b"}").then(|| [b"+ ", text, b".\r\n"].concat()))
        }
        Response::Tagged { tag, condition, text } => {
            let begin = [tag, b" ", word(condition)].concat();
            let text = neutral(text, shown.neutral(condition, true, &text));
            let words = status_words(unit, &begin, &text, shown, offered);
            Reply::Completion { tag: tag.into(), condition, words }
        }
        Response::Status { condition, text } => {
            note_validity(&text, offered);
            let begin = [b"* ", word(condition)].concat();
            let text = neutral(text, shown.neutral(condition, false, &text));
            let words = status_words(unit, &begin, &text, shown, offered);
            match (condition, words) {
                (Condition::Bye, words) => Reply::Bye(words),
                (_, Some(words)) => Reply::Replace(words),
                (_, None) => Reply::Pass,
            }
        }
        Response::Data { name: DataName::Capability, rest, .. } => {
            let words = [b"* CAPABILITY".to_vec(), offer(capabilities(rest), shown, offered)].concat();
            replaced(unit, [words, b"\r\n".to_vec()].concat())
        }
        Response::Data { name: DataName::Enabled, rest, .. } => {
            offered.mailbox.utf8 |= capabilities(rest).any(|name| name.eq_ignore_ascii_case(b"UTF8=ACCEPT"));
            let mut words = b"* ENABLED".to_vec();
            for name in capabilities(rest).filter(|name| shown.imap.enable(name)) {
                words.push(b' ');
                words.extend_from_slice(name);
            }
            words.extend_from_slice(b"\r\n");
            replaced(unit, words)
        }
        Response::Data { name: DataName::Id, .. } if shown.imap.hides_banner() => {
            replaced(unit, b"* ID NIL\r\n".to_vec())
        }
        // These hold numbers only; the framing bounds them.
        Response::Data { name: DataName::Search | DataName::Sort | DataName::Vanished, .. } => Reply::Pass,
        Response::Data { name: DataName::ESearch | DataName::Thread, .. } if is_of_numbers(unit) => {
            Reply::Pass
        }
        Response::Data { name: DataName::Other, .. } => Reply::LeaveOut,
        Response::Data { .. } if unit.len() > DATA_BYTES_MAX => return Err(Refused::TooLarge),
        Response::Data { .. } => Reply::Pass,
    })
}

const fn word(condition: Condition) -> &'static [u8] {
    match condition {
        Condition::Ok => b"OK",
        Condition::No => b"NO",
        Condition::Bad => b"BAD",
        Condition::Bye => b"BYE",
        Condition::Preauth => b"PREAUTH",
    }
}

fn replaced(unit: &[u8], words: Vec<u8>) -> Reply {
    if unit == words { Reply::Pass } else { Reply::Replace(words) }
}

/// Whether a response is short or goes on with numbers. Its grammar has room for strings and words.
fn is_of_numbers(unit: &[u8]) -> bool {
    const NUMBERS: &[u8] = b"0123456789,:()] \r\n";
    let mut behind = unit.get(DATA_BYTES_MAX..).unwrap_or_default().iter();
    unit.len() <= DATA_BYTES_MAX || (!unit.contains(&b'{') && behind.all(|octet| NUMBERS.contains(octet)))
}

fn note_validity(text: &StatusText<'_>, offered: &mut Offered) {
    let code = text.code.as_ref().filter(|code| code.is("UIDVALIDITY"));
    let number = code.and_then(|code| std::str::from_utf8(code.arguments?.trim_ascii()).ok()?.parse().ok());
    offered.mailbox.uid_validity = number.unwrap_or(offered.mailbox.uid_validity);
}

/// A status with these words for people in place of the server's.
fn neutral<'a>(text: StatusText<'a>, words: Option<&'a [u8]>) -> StatusText<'a> {
    StatusText { text: words.unwrap_or(text.text), ..text }
}

/// A status line without what is on no list; `None` where it can pass as it came.
fn status_words(
    unit: &[u8],
    begin: &[u8],
    text: &StatusText<'_>,
    shown: Shown<'_>,
    offered: &mut Offered,
) -> Option<Vec<u8>> {
    let code = text.code.as_ref().filter(|code| allow::code(code.name) && is_of_numbers(code.whole));
    let mut words = begin.to_vec();
    if let Some(code) = code {
        words.push(b' ');
        words.extend_from_slice(&code_words(code, shown, offered));
    }
    let is_bare = text.text.trim_ascii_start().is_empty();
    if code.is_none() && text.text.trim_ascii_start().starts_with(b"[") {
        // Where a code stayed out, or behind spaces, the client must find no other one.
        words.extend_from_slice(b" Server:");
    } else if is_bare && text.code.is_some() && code.is_none() {
        // Clients fail on a status without words.
        words.extend_from_slice(b" Done");
    }
    if !text.text.is_empty() {
        words.push(b' ');
    }
    words.extend_from_slice(text.text.get(..LINE_BYTES_MAX).unwrap_or(text.text));
    // A client that reads `{3}` at the end of any line as a literal would take the next lines for its octets.
    if words.ends_with(b"}") {
        words.push(b'.');
    }
    words.extend_from_slice(b"\r\n");
    (words != unit).then_some(words)
}

fn code_words(code: &Code<'_>, shown: Shown<'_>, offered: &mut Offered) -> Vec<u8> {
    if !code.name.eq_ignore_ascii_case(b"CAPABILITY") {
        return code.whole.to_vec();
    }
    let list = offer(capabilities(code.arguments.unwrap_or_default()), shown, offered);
    [b"[CAPABILITY".to_vec(), list, b"]".to_vec()].concat()
}

/// The server's capabilities, with spaces between, as a client in clear text sees them before it logs in, each behind a
/// space. Who may use STARTTLS is shown it, whatever the server lists: the list may have been stripped on the path.
#[must_use]
pub fn shown_capabilities(list: &[u8], message_max: u64, imap: &ImapTerms, shows_starttls: bool) -> Vec<u8> {
    let shown = Shown { message_max, imap, greets: false };
    let mut shown = offer(capabilities(list), shown, &mut Offered::default());
    let has_version = capabilities(list).any(|name| name.eq_ignore_ascii_case(b"IMAP4REV1"));
    // The first that RFC 3501 section 7.2.1 requires, where the server listed nothing.
    let mut whole = if has_version { Vec::new() } else { b" IMAP4rev1".to_vec() };
    whole.append(&mut shown);
    if shows_starttls {
        whole.extend_from_slice(b" STARTTLS");
    }
    whole
}

/// Learn from a list that the client was shown before the session began.
pub(super) fn note_capabilities(list: &[u8], imap: &ImapTerms, offered: &mut Offered) {
    if !list.is_empty() {
        offer(capabilities(list), Shown { message_max: 0, imap, greets: false }, offered);
    }
}

/// A capability list as clients see it, each name behind a space.
fn offer<'a>(names: impl Iterator<Item = &'a [u8]>, shown: Shown<'_>, offered: &mut Offered) -> Vec<u8> {
    let Shown { message_max, imap, .. } = shown;
    let names: Vec<&[u8]> = names.collect();
    let binds = |name: &&[u8]| {
        name.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case(b"AUTH="))
            && name.get(name.len().saturating_sub(5)..).is_some_and(|end| end.eq_ignore_ascii_case(b"-PLUS"))
    };
    offered.seen = true;
    offered.plus |= names.iter().any(binds);
    let mut list = Vec::new();
    let mut limit = message_max;
    let mut show = |name: &[u8]| {
        list.push(b' ');
        list.extend_from_slice(name);
    };
    for name in &names {
        match imap.capability(name) {
            Treatment::Pass => show(name),
            Treatment::Hide(_) => {}
            Treatment::LiteralMinus => show(b"LITERAL-"),
            Treatment::AppendLimit => limit = limit.min(append_limit(name).unwrap_or(u64::MAX)),
            Treatment::Mechanism => {
                let mechanism = name.get(5..).unwrap_or_default();
                let passes = match imap.mechanism(mechanism) {
                    allow::Mechanism::Pass => true,
                    allow::Mechanism::UnlessPlus => !offered.plus,
                    allow::Mechanism::Refuse(_) => false,
                };
                if passes {
                    show(name);
                }
            }
        }
    }
    show(format!("APPENDLIMIT={limit}").as_bytes());
    if !imap.takes_login() && !names.iter().any(|name| name.eq_ignore_ascii_case(b"LOGINDISABLED")) {
        show(b"LOGINDISABLED");
    }
    list
}

/// The number in `APPENDLIMIT=` (RFC 7889); without one, the server has a limit for each mailbox.
fn append_limit(name: &[u8]) -> Option<u64> {
    let digits = name.get(b"APPENDLIMIT=".len()..)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
