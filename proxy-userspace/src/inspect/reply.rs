//! What becomes of one complete response that holds no mail: whether it passes, and in which words.

use super::allow::{self, Treatment};
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
    /// `+`.
    Continuation,
    /// The server leaves.
    Bye(Option<Vec<u8>>),
    /// A command's completion, and other words for it where they change.
    Completion { tag: Box<[u8]>, condition: Condition, words: Option<Vec<u8>> },
}

/// Look at a response. `offered` learns from capability lists.
///
/// # Errors
/// A response that may hold mail, and cannot be read.
pub(super) fn classify(unit: &[u8], message_max: u64, offered: &mut Offered) -> Result<Reply, Refused> {
    let Ok(response) = response::parse(unit) else {
        return if is_fetch(unit) { Err(Refused::Malformed) } else { Ok(Reply::LeaveOut) };
    };
    Ok(match response {
        Response::Fetch(fetch) => Reply::Fetch(fetch),
        Response::Exists(_) | Response::Recent(_) | Response::Expunge(_) => Reply::Pass,
        Response::Continuation { .. } if unit.len() > LINE_BYTES_MAX => Reply::LeaveOut,
        Response::Continuation { .. } => Reply::Continuation,
        Response::Tagged { tag, condition, text } => {
            let begin = [tag, b" ", word(condition)].concat();
            let words = status_words(unit, &begin, &text, message_max, offered);
            Reply::Completion { tag: tag.into(), condition, words }
        }
        Response::Status { condition, text } => {
            let begin = [b"* ", word(condition)].concat();
            let words = status_words(unit, &begin, &text, message_max, offered);
            match (condition, words) {
                (Condition::Bye, words) => Reply::Bye(words),
                (_, Some(words)) => Reply::Replace(words),
                (_, None) => Reply::Pass,
            }
        }
        Response::Data { name: DataName::Capability, rest, .. } => {
            let words = [b"* CAPABILITY".to_vec(), offer(capabilities(rest), message_max, offered)].concat();
            replaced(unit, [words, b"\r\n".to_vec()].concat())
        }
        Response::Data { name: DataName::Enabled, rest, .. } => {
            let mut words = b"* ENABLED".to_vec();
            for name in capabilities(rest).filter(|name| allow::enable(name)) {
                words.push(b' ');
                words.extend_from_slice(name);
            }
            words.extend_from_slice(b"\r\n");
            replaced(unit, words)
        }
        // These hold numbers and flags only; the framing bounds them.
        Response::Data {
            name:
                DataName::Search | DataName::ESearch | DataName::Sort | DataName::Thread | DataName::Vanished,
            ..
        } => Reply::Pass,
        Response::Data { name: DataName::Other, .. } => Reply::LeaveOut,
        Response::Data { .. } if unit.len() > DATA_BYTES_MAX => Reply::LeaveOut,
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

/// Whether this is a FETCH response, however malformed: `* 12 FETCH`.
pub(super) fn is_fetch(unit: &[u8]) -> bool {
    let mut words = unit.split(|octet| *octet == b' ');
    let (star, number, name) = (words.next(), words.next(), words.next());
    star == Some(b"*")
        && number.is_some_and(|number| number.iter().all(u8::is_ascii_digit))
        && name.is_some_and(|name| name.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"FETCH")))
}

/// A status line without what is on no list; `None` where it can pass as it came.
fn status_words(
    unit: &[u8],
    begin: &[u8],
    text: &StatusText<'_>,
    message_max: u64,
    offered: &mut Offered,
) -> Option<Vec<u8>> {
    let mut words = begin.to_vec();
    words.push(b' ');
    if let Some(code) = text.code.as_ref().filter(|code| allow::code(code.name)) {
        words.extend_from_slice(&code_words(code, message_max, offered));
        words.push(b' ');
    }
    let room = LINE_BYTES_MAX.saturating_sub(words.len());
    let shown = text.text.get(..text.text.len().min(room)).unwrap_or_default();
    words.extend_from_slice(shown);
    // A client that reads `{3}` at the end of any line as a literal would take the next lines for its octets.
    if words.ends_with(b"}") {
        words.push(b'.');
    }
    words.extend_from_slice(b"\r\n");
    (words != unit).then_some(words)
}

fn code_words(code: &Code<'_>, message_max: u64, offered: &mut Offered) -> Vec<u8> {
    if !code.name.eq_ignore_ascii_case(b"CAPABILITY") {
        return code.whole.to_vec();
    }
    let list = offer(capabilities(code.arguments.unwrap_or_default()), message_max, offered);
    [b"[CAPABILITY".to_vec(), list, b"]".to_vec()].concat()
}

/// A capability list as clients see it, each name behind a space.
fn offer<'a>(names: impl Iterator<Item = &'a [u8]>, message_max: u64, offered: &mut Offered) -> Vec<u8> {
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
        match allow::capability(name) {
            Treatment::Pass => show(name),
            Treatment::Hide(_) => {}
            Treatment::LiteralMinus => show(b"LITERAL-"),
            Treatment::AppendLimit => limit = limit.min(append_limit(name).unwrap_or(u64::MAX)),
            Treatment::Mechanism => {
                let mechanism = name.get(5..).unwrap_or_default();
                let passes = match allow::mechanism(mechanism) {
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
    list
}

/// The number in `APPENDLIMIT=` (RFC 7889); without one, the server has a limit for each mailbox.
fn append_limit(name: &[u8]) -> Option<u64> {
    let digits = name.get(b"APPENDLIMIT=".len()..)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
