//! What becomes of one complete command.

use std::rc::Rc;

use super::allow::{self, Mechanism};
use super::imap_terms::{ImapTerms, NO_LOGIN};
use super::recall::MailboxState;
use super::refusal::Refused;
use super::rewrite::{Plan, rewrite};
use super::views::Copies;
use crate::guard::{AccountNames, SaslMechanism, SaslMessage, ShownAccount};
use crate::imap::command::{Arguments, ClientCommand, CommandFault, Verb};
use crate::imap::fetch::{FetchItem, FetchRequest};

/// Octets of an account's or mailbox's name that are kept for records (RFC 5321 section 4.5.3.1 allows 320 in an address).
const NAME_BYTES_MAX: usize = 512;
/// Ranges in one FETCH. Clients ask for one. Each is cut from each answer, so that a thousand would make a thousand
/// times the octets of a batch of small answers.
const RANGES_MAX: usize = 64;
/// Octets of a peer's word that are repeated to it in a refusal.
const ECHO_BYTES_MAX: usize = 64;

/// What a command changes in the session when the server says OK to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that matters here.
    None,
    /// An account was opened; `None` where the mechanism does not say whose in clear.
    Login(Option<ShownAccount>),
    /// A mailbox is selected.
    Select(Box<str>),
    /// No mailbox is selected.
    Close,
    /// The session is over.
    Logout,
}

/// How a command goes on behind its first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialogue {
    /// Not at all, or with literals.
    None,
    /// AUTHENTICATE: the client answers each continuation of the server's with a line.
    Sasl {
        mechanism: SaslMechanism,
        /// Answers that may come behind the one that names the account. `None` while that one has not come.
        left: Option<u8>,
    },
    /// IDLE: until DONE.
    Idle,
}

/// A command that goes to the server.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) tag: Box<[u8]>,
    pub(super) effect: Effect,
    pub(super) dialogue: Dialogue,
    /// Of a login: what it says of its account at once.
    pub(super) login: Option<SaslMessage>,
    /// It asks for data, and a client may act on what is missing in them: delete its copy of a message, for one.
    pub(super) asks: bool,
    /// How many sections of mail it asks for.
    pub(super) sections: usize,
    /// How answers become what the client asked for, where it was asked for something else.
    pub(super) plan: Option<Rc<Plan>>,
    /// What the server is sent instead of the client's octets.
    pub(super) words: Option<Vec<u8>>,
    /// What the server is sent afterwards, under the same tag, where a copy does not fit any more.
    pub(super) again: Option<Box<(Vec<u8>, Rc<Plan>)>>,
}

/// What becomes of a command.
#[derive(Debug)]
pub(super) enum Decision {
    /// It is answered here, with these words, and never sent.
    Answer(Vec<u8>),
    /// It goes to the server.
    Send(Prepared),
    /// Messages are judged before the server sees them: the ranges of the message literals.
    Upload(Prepared, Vec<std::ops::Range<usize>>),
}

/// What a decision depends on beside the command.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offered {
    /// The server showed a capability list.
    pub(super) seen: bool,
    /// It offers a mechanism that binds the channel.
    pub(super) plus: bool,
    /// What it said of the mailbox.
    pub(super) mailbox: MailboxState,
    /// In clear text: why STARTTLS is answered NO.
    pub(super) no_starttls: Option<&'static str>,
}

/// Decide about one unit of the client's.
pub(super) fn decide(unit: &[u8], offered: Offered, imap: &ImapTerms, copies: &Copies) -> Decision {
    let command = match ClientCommand::parse(unit) {
        Ok(command) => command,
        Err(CommandFault::NoTag) => {
            return Decision::Answer(b"* BAD A command needs a tag and a name\r\n".to_vec());
        }
        Err(CommandFault::Malformed { tag, name, at }) => {
            let words = format!("{} does not follow its syntax, from octet {at} on", echo(name));
            return bad(tag, &words);
        }
    };
    if let (Verb::StartTls, Some(reason)) = (command.verb, offered.no_starttls) {
        return Decision::Answer(tagged(command.tag, "NO", reason));
    }
    if let Some(reason) = allow::refused(command.verb) {
        return bad(command.tag, &format!("{} is not let through: {reason}", echo(command.name)));
    }
    if let Some(reason) = imap.refuses(&command, unit) {
        return bad(command.tag, &format!("{} is not let through: {reason}", echo(command.name)));
    }
    let prepared = |effect, dialogue| Prepared {
        tag: command.tag.into(),
        effect,
        dialogue,
        login: None,
        sections: 0,
        asks: matches!(
            command.verb,
            Verb::Fetch
                | Verb::Search
                | Verb::Sort
                | Verb::Thread
                | Verb::List
                | Verb::Lsub
                | Verb::Xlist
                | Verb::Status
                | Verb::GetMetadata
        ),
        plan: None,
        words: None,
        again: None,
    };
    let effect = match command.verb {
        Verb::Close | Verb::Unselect => Effect::Close,
        Verb::Logout => Effect::Logout,
        _ => Effect::None,
    };
    match &command.arguments {
        Arguments::Fetch(request) => fetch(&command, request, copies, prepared(Effect::None, Dialogue::None)),
        Arguments::Append(request) => {
            Decision::Upload(prepared(Effect::None, Dialogue::None), request.messages.clone())
        }
        Arguments::Enable(names) => enable(&command, names, imap, prepared(Effect::None, Dialogue::None)),
        Arguments::Authenticate { mechanism, initial } => {
            if let Some(reason) = refused_mechanism(mechanism, offered, imap) {
                let words = format!("{} is not let through: {reason}", echo(mechanism));
                return Decision::Answer(tagged(command.tag, "NO", &words));
            }
            let mechanism = SaslMechanism::of(mechanism);
            let message = first_message(mechanism, *initial);
            let effect = Effect::Login(message.as_ref().and_then(|message| message.shown_account(mechanism)));
            let left = message.as_ref().map(|_| mechanism.answers_behind_name());
            let dialogue = Dialogue::Sasl { mechanism, left };
            Decision::Send(Prepared { login: message, ..prepared(effect, dialogue) })
        }
        Arguments::Login { .. } if !imap.takes_login() => {
            Decision::Answer(tagged(command.tag, "NO", NO_LOGIN))
        }
        Arguments::Login { user } => {
            let names = AccountNames::one(user);
            let effect = Effect::Login(Some(ShownAccount { name: name(user), is_exact: names.is_exact() }));
            let message = SaslMessage::Named(names);
            Decision::Send(Prepared { login: Some(message), ..prepared(effect, Dialogue::None) })
        }
        Arguments::Select { mailbox } => {
            Decision::Send(prepared(Effect::Select(name(mailbox)), Dialogue::None))
        }
        Arguments::Plain | Arguments::Unchecked => {
            let dialogue = if command.verb == Verb::Idle { Dialogue::Idle } else { Dialogue::None };
            Decision::Send(prepared(effect, dialogue))
        }
    }
}

fn fetch(
    command: &ClientCommand<'_>,
    request: &FetchRequest<'_>,
    copies: &Copies,
    prepared: Prepared,
) -> Decision {
    let unknown = request.items.iter().find_map(|item| match item {
        FetchItem::Unknown(name) => Some(name),
        _ => None,
    });
    if let Some(unknown) = unknown {
        return bad(command.tag, &format!("the FETCH item {} is not let through", echo(unknown)));
    }
    let is_range =
        |item: &&FetchItem| matches!(item, FetchItem::Content(content) if content.partial.is_some());
    if request.items.iter().filter(is_range).count() > RANGES_MAX {
        return bad(command.tag, "a FETCH of so many ranges is not let through");
    }
    let sections = request.items.iter().filter(|item| matches!(item, FetchItem::Content(_))).count();
    let prepared = Prepared { sections, ..prepared };
    // One message, and no answers beside it that may not come twice (RFC 7162 section 3.2.6).
    let only = request.single().filter(|_| request.modifiers.is_none());
    let copy = |form, section: &_| only.and_then(|number| copies.find(command.uid, number, form, section));
    let Some((items, plan)) = rewrite(request, command.uid, copy) else {
        return Decision::Send(prepared);
    };
    let again = plan.asks_for_first_octets().then(|| rewrite(request, command.uid, |_, _| None)).flatten();
    let again = again.map(|(items, plan)| Box::new((fetch_words(command, request, &items), Rc::new(plan))));
    let words = Some(fetch_words(command, request, &items));
    Decision::Send(Prepared { plan: Some(Rc::new(plan)), words, again, ..prepared })
}

/// The command with other items.
fn fetch_words(command: &ClientCommand<'_>, request: &FetchRequest<'_>, items: &[FetchItem]) -> Vec<u8> {
    let mut words = command.tag.to_vec();
    words.extend_from_slice(if command.uid { b" UID FETCH " } else { b" FETCH " });
    words.extend_from_slice(request.set);
    for (index, item) in items.iter().enumerate() {
        words.extend_from_slice(if index == 0 { b" (" } else { b" " });
        item.write(&mut words);
    }
    words.push(b')');
    if let Some(modifiers) = request.modifiers {
        words.push(b' ');
        words.extend_from_slice(modifiers);
    }
    words.extend_from_slice(b"\r\n");
    words
}

/// ENABLE without what is not let through; what remains may be nothing (RFC 5161 section 3.1 answers it so, too).
fn enable(command: &ClientCommand<'_>, names: &[&[u8]], imap: &ImapTerms, prepared: Prepared) -> Decision {
    let allowed: Vec<&[u8]> = names.iter().copied().filter(|name| imap.enable(name)).collect();
    if allowed.len() == names.len() {
        return Decision::Send(prepared);
    }
    if allowed.is_empty() {
        let mut words = b"* ENABLED\r\n".to_vec();
        words.extend_from_slice(&tagged(command.tag, "OK", "Nothing of this is let through"));
        return Decision::Answer(words);
    }
    let words = [command.tag, b" ENABLE ", &allowed.join(&b' '), b"\r\n"].concat();
    Decision::Send(Prepared { words: Some(words), ..prepared })
}

fn refused_mechanism(mechanism: &[u8], offered: Offered, imap: &ImapTerms) -> Option<&'static str> {
    match imap.mechanism(mechanism) {
        Mechanism::Pass => None,
        Mechanism::Refuse(reason) => Some(reason),
        Mechanism::UnlessPlus if offered.plus => {
            Some("the server offers to bind the login to a TLS connection, which ends at the gateway")
        }
        Mechanism::UnlessPlus if !offered.seen => Some("ask for CAPABILITY first"),
        Mechanism::UnlessPlus => None,
    }
}

/// What AUTHENTICATE says of the account at once. `None` where it comes later.
fn first_message(mechanism: SaslMechanism, initial: Option<&[u8]>) -> Option<SaslMessage> {
    match (mechanism, initial.map(|line| mechanism.read_initial(line))) {
        (SaslMechanism::Opaque, _) => Some(SaslMessage::Unreadable),
        (_, None | Some(SaslMessage::Empty | SaslMessage::Cancel)) => None,
        (_, message) => message,
    }
}

/// A name for records: bounded, and text whatever the peer sent.
fn name(octets: &[u8]) -> Box<str> {
    String::from_utf8_lossy(octets.get(..octets.len().min(NAME_BYTES_MAX)).unwrap_or_default()).into()
}

/// A peer's word as it may stand in a line to the peer.
pub(super) fn echo(word: &[u8]) -> String {
    let word = word.get(..word.len().min(ECHO_BYTES_MAX)).unwrap_or_default();
    word.iter().map(|octet| if octet.is_ascii_graphic() { char::from(*octet) } else { '?' }).collect()
}

fn bad(tag: &[u8], words: &str) -> Decision {
    Decision::Answer(tagged(tag, "BAD", words))
}

/// A tagged line of our own.
pub(super) fn tagged(tag: &[u8], status: &str, words: &str) -> Vec<u8> {
    [tag, b" ", status.as_bytes(), b" ", words.as_bytes(), b"\r\n"].concat()
}

/// The tagged NO of a command that is refused.
pub(super) fn no(tag: &[u8], refused: Refused) -> Vec<u8> {
    tagged(tag, "NO", refused.words())
}
