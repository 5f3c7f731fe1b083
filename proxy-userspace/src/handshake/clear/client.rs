//! The dialogue with a mail client until STARTTLS: RFC 9051 section 6.2.1, and RFC 8314 section 5 on why no login.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::line::{LineFault, LineReader, Literal, TAG_BYTES_MAX};
use crate::config::{ClearText, StartTls};
use crate::event_id::EventId;
use crate::inspect::ImapTerms;

/// Commands in clear text on one connection. A client needs three; the bound also bounds our answers.
pub const COMMANDS_MAX: u32 = 100;

/// Commands answered BAD on one connection: a peer that does not speak IMAP is not listened to for long.
pub const BAD_COMMANDS_MAX: u32 = 10;

/// Octets of `{n+}` literals (RFC 7888) swallowed per command. They are not advertised; 4,096 is what its
/// `LITERAL-` allows unasked, and a LOGIN has two.
pub const LITERAL_BYTES_MAX: u64 = 8192;

/// The longest reason in a line of ours.
const REASON_BYTES_MAX: usize = 512;

/// Request methods of HTTP (RFC 9110 section 9, RFC 5789) and the preface of HTTP/2 (RFC 9113 section 3.4).
const HTTP_METHODS: [&[u8]; 10] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI"];

/// The commands that the dialogue answers itself, or with BAD where they are not well formed.
const OWN_COMMANDS: [&[u8]; 5] = [b"CAPABILITY", b"NOOP", b"ID", b"LOGOUT", b"STARTTLS"];

/// The one capability that the dialogue offers and a policy can hide (RFC 2971).
const ID: &[u8] = b"ID";

/// The first octet of a TLS record that holds a handshake message (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Why the dialogue with a client was ended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ClientFault {
    /// Octets behind the STARTTLS line, before it was answered: the command injection of CVE-2011-0411.
    #[error("the client sent clear text behind its STARTTLS, where only TLS may follow")]
    PipelinedAfterStartTls,
    /// A TLS ClientHello where clear text is spoken.
    #[error(
        "the client started TLS at once on the STARTTLS port; set it to STARTTLS, or to a port of implicit TLS"
    )]
    TlsOnClearPort,
    /// An HTTP request: a browser was made to speak to a mail port (ALPACA).
    #[error("the client sent an HTTP request to the IMAP port")]
    HttpOnClearPort,
    /// Octets that are no line.
    #[error("the client sent {0}")]
    Line(#[from] LineFault),
    /// A literal of more than [`LITERAL_BYTES_MAX`] octets that does not wait to be asked for.
    #[error("the client sent literals of more than {LITERAL_BYTES_MAX} octets in one command before TLS")]
    LiteralTooLong,
    /// More than [`BAD_COMMANDS_MAX`] commands were answered BAD.
    #[error("the client sent more than {BAD_COMMANDS_MAX} bad commands before TLS")]
    TooManyBadCommands,
    /// More than [`COMMANDS_MAX`] commands.
    #[error("the client sent more than {COMMANDS_MAX} commands before TLS")]
    TooManyCommands,
}

impl ClientFault {
    /// The word in records.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::PipelinedAfterStartTls => "starttls_pipelined",
            Self::TlsOnClearPort => "tls_on_starttls_port",
            Self::HttpOnClearPort => "http_on_starttls_port",
            Self::Line(fault) => fault.reason(),
            Self::LiteralTooLong => "literal_too_long",
            Self::TooManyBadCommands => "too_many_bad_commands",
            Self::TooManyCommands => "too_many_commands",
        }
    }

    /// What the client is told; never an octet of what it sent.
    #[must_use]
    pub const fn told(self) -> &'static str {
        match self {
            Self::PipelinedAfterStartTls => "clear text after STARTTLS",
            Self::TlsOnClearPort => "this port speaks clear text until STARTTLS; set the client to STARTTLS",
            Self::HttpOnClearPort => "this is an IMAP port",
            Self::Line(LineFault::TooLong(_)) => "line too long",
            Self::Line(_) => "not a line of IMAP",
            Self::LiteralTooLong => "literal too long",
            Self::TooManyBadCommands => "too many bad commands",
            Self::TooManyCommands => "too many commands before STARTTLS",
        }
    }
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// Send these octets to the client and go on.
    Reply(Vec<u8>),
    /// The client asked for TLS. Nothing is read as commands until
    /// [`ClientDialogue::starttls_ready`] or [`ClientDialogue::starttls_refused`].
    StartTls,
    /// The client asked for the server's capabilities, under [`ClearText::Inspect`]: answer it with
    /// [`capabilities_listed`].
    Capability {
        /// The command's tag.
        tag: Vec<u8>,
    },
    /// The client logs in in clear text, or sends another command that is not for this dialogue, under
    /// [`ClearText::Inspect`]. The dialogue is over, and takes nothing more.
    HandOver {
        /// What was read of the command: its tag, its name, and one space or the line's end.
        begun: Vec<u8>,
    },
    /// Send these octets and close.
    End {
        /// The last words, CRLF included.
        reply: Vec<u8>,
        /// Absent after LOGOUT.
        fault: Option<ClientFault>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between or inside command lines.
    Command,
    /// Inside a literal that is swallowed.
    Literal { octets_left: u64 },
    /// A STARTTLS waits for its answer; its tag is still the reader's first word.
    StartTls,
    /// The last reply was handed out.
    Ended,
}

/// Postern's half of the dialogue with a mail client before STARTTLS.
pub struct ClientDialogue {
    line: LineReader,
    state: State,
    literal_octets: u64,
    commands: u32,
    bad_commands: u32,
    logins_refused: u32,
    reference: Option<EventId>,
    starttls: StartTls,
    cleartext: ClearText,
    /// The policy hides the capability ID.
    hides_id: bool,
}

impl ClientDialogue {
    /// The first line that a client reads. LOGINDISABLED (RFC 9051 section 6.2.3) keeps honest clients from
    /// sending a password.
    pub const GREETING: &[u8] =
        b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED ID] Postern ready, STARTTLS required.\r\n";
    /// The same under [`StartTls::Strip`].
    const GREETING_WITHOUT_STARTTLS: &[u8] =
        b"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED ID] Postern ready, no login in clear text.\r\n";
    /// The same under [`ClearText::Inspect`]: what the server can do, the client has to ask for.
    const GREETING_IN_CLEAR_TEXT: &[u8] = b"* OK Postern ready.\r\n";

    /// A dialogue whose greeting is still to be sent, under the default settings.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            line: LineReader::new(),
            state: State::Command,
            literal_octets: 0,
            commands: 0,
            bad_commands: 0,
            logins_refused: 0,
            reference: None,
            starttls: StartTls::Inspect,
            cleartext: ClearText::Refuse,
            hides_id: false,
        }
    }

    /// The same under these settings.
    #[must_use]
    pub const fn with_settings(mut self, starttls: StartTls, cleartext: ClearText) -> Self {
        (self.starttls, self.cleartext) = (starttls, cleartext);
        self
    }

    /// The same under a policy that bounds lines and narrows the capabilities.
    #[must_use]
    pub fn with_imap_terms(mut self, imap: &ImapTerms) -> Self {
        self.line.bound(imap.line_bytes_max());
        self.hides_id = imap.hides(ID);
        self
    }

    /// The first line that the client reads.
    #[must_use]
    pub fn greeting(&self) -> Cow<'static, [u8]> {
        self.shown(match (self.cleartext, self.starttls) {
            (ClearText::Inspect, _) => Self::GREETING_IN_CLEAR_TEXT,
            (ClearText::Refuse, StartTls::Strip) => Self::GREETING_WITHOUT_STARTTLS,
            (ClearText::Refuse, StartTls::Inspect | StartTls::Bypass) => Self::GREETING,
        })
    }

    /// A line of ours that may list ID behind LOGINDISABLED, as this policy shows it.
    fn shown(&self, line: &'static [u8]) -> Cow<'static, [u8]> {
        const LISTED: &[u8] = b"LOGINDISABLED ID";
        let at = line.windows(LISTED.len()).position(|words| words == LISTED).filter(|_| self.hides_id);
        let Some((before, behind)) = at.and_then(|at| line.split_at_checked(at)) else {
            return Cow::Borrowed(line);
        };
        let behind = behind.strip_prefix(LISTED).unwrap_or(behind);
        Cow::Owned([before, b"LOGINDISABLED", behind].concat())
    }

    /// The same, with the record's identifier in its last reply.
    #[must_use]
    pub const fn with_reference(mut self, reference: EventId) -> Self {
        self.reference = Some(reference);
        self
    }

    /// Take octets from the front of `input` until there is something to do; None when all were taken.
    ///
    /// Octets behind a STARTTLS line, in the same input or a later one, end the dialogue. After
    /// [`ClientStep::End`] whatever comes is dropped.
    pub fn step(&mut self, input: &mut &[u8]) -> Option<ClientStep> {
        while let Some((&octet, rest)) = input.split_first() {
            *input = rest;
            let step = self.octet(octet);
            if step == Some(ClientStep::StartTls) && !rest.is_empty() {
                return Some(self.end(ClientFault::PipelinedAfterStartTls));
            }
            if step.is_some() {
                return step;
            }
        }
        None
    }

    /// The OK that answers the waiting STARTTLS; the next octet on the wire belongs to TLS, in both directions.
    /// None if no STARTTLS waits, because it was answered already or the dialogue ended.
    #[must_use]
    pub fn starttls_ready(self) -> Option<Vec<u8>> {
        (self.state == State::StartTls).then(|| self.tagged("OK", "Begin TLS negotiation now"))
    }

    /// The NO that answers the waiting STARTTLS, with the reason in words; the dialogue goes on.
    /// None if no STARTTLS waits.
    #[must_use]
    pub fn starttls_refused(&mut self, reason: &str) -> Option<Vec<u8>> {
        if self.state != State::StartTls {
            return None;
        }
        let reply = self.tagged("NO", &format!("Postern: {}", printable(reason)));
        self.next_command();
        Some(reply)
    }

    /// How many LOGIN and AUTHENTICATE commands were refused. A client that sends one gives its password away.
    #[must_use]
    pub const fn logins_refused(&self) -> u32 {
        self.logins_refused
    }

    /// Octets of the client that are held in memory: at most a tag and a command word.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.line.buffered()
    }

    fn octet(&mut self, octet: u8) -> Option<ClientStep> {
        match self.state {
            State::Command if self.line.at_start() && octet == TLS_HANDSHAKE => {
                Some(self.end(ClientFault::TlsOnClearPort))
            }
            State::Command => match self.line.push(octet) {
                Ok(true) => self.line_ended(),
                // No argument is read here, because it may be a password.
                Ok(false) if octet == b' ' && self.is_for_the_server() => Some(self.hand_over(b" ")),
                Ok(false) => None,
                Err(fault) => Some(self.end(fault.into())),
            },
            State::Literal { octets_left: 0 | 1 } => {
                self.line.resume();
                self.state = State::Command;
                None
            }
            State::Literal { octets_left } => {
                self.state = State::Literal { octets_left: octets_left - 1 };
                None
            }
            State::StartTls => Some(self.end(ClientFault::PipelinedAfterStartTls)),
            State::Ended => None,
        }
    }

    /// A literal that does not wait is swallowed before the answer, so that nothing in it is read as a command.
    fn line_ended(&mut self) -> Option<ClientStep> {
        let Some(Literal { octets, synchronizing: false }) = self.line.literal() else {
            return Some(self.command());
        };
        self.literal_octets = self.literal_octets.saturating_add(octets);
        if self.literal_octets > LITERAL_BYTES_MAX {
            return Some(self.end(ClientFault::LiteralTooLong));
        }
        if octets == 0 {
            self.line.resume();
        } else {
            self.state = State::Literal { octets_left: octets };
        }
        None
    }

    fn command(&mut self) -> ClientStep {
        self.commands += 1;
        if self.commands > COMMANDS_MAX {
            return self.end(ClientFault::TooManyCommands);
        }
        if self.is_http() {
            return self.end(ClientFault::HttpOnClearPort);
        }
        let reply = match self.verb() {
            None => return self.bad(None),
            Some(ImapCommand::StartTls) => {
                self.state = State::StartTls;
                return ClientStep::StartTls;
            }
            Some(ImapCommand::Logout) => {
                let mut reply = bye("logging out");
                reply.extend(self.tagged("OK", "LOGOUT completed"));
                self.state = State::Ended;
                return ClientStep::End { reply, fault: None };
            }
            _ if self.is_for_the_server() => return self.hand_over(b"\r\n"),
            Some(ImapCommand::Login) => {
                self.logins_refused += 1;
                self.tagged(
                    "NO",
                    match self.starttls {
                        StartTls::Strip => "[PRIVACYREQUIRED] Postern: no login in clear text",
                        StartTls::Inspect | StartTls::Bypass => {
                            "[PRIVACYREQUIRED] Postern: no login in clear text, use STARTTLS first"
                        }
                    },
                )
            }
            Some(ImapCommand::Capability) if self.cleartext == ClearText::Inspect => {
                let tag = self.line.first().unwrap_or_default().to_vec();
                self.next_command();
                return ClientStep::Capability { tag };
            }
            Some(ImapCommand::Capability) => {
                let untagged: &[u8] = match self.starttls {
                    StartTls::Strip => b"* CAPABILITY IMAP4rev1 LOGINDISABLED ID\r\n",
                    StartTls::Inspect | StartTls::Bypass => {
                        b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED ID\r\n"
                    }
                };
                self.answered(&self.shown(untagged), "CAPABILITY completed")
            }
            Some(ImapCommand::Id) if self.hides_id => {
                return self.bad(Some("Postern: ID is not let through: this gateway hides it"));
            }
            Some(ImapCommand::Id) => self.answered(b"* ID NIL\r\n", "ID completed"),
            Some(ImapCommand::Noop) => self.answered(b"", "NOOP completed"),
            Some(ImapCommand::Other) => {
                let words = "Postern: before TLS only CAPABILITY, NOOP, ID, LOGOUT and STARTTLS, well formed";
                return self.bad(Some(words));
            }
        };
        self.next_command();
        ClientStep::Reply(reply)
    }

    /// The command of a line. Its tag is echoed only where a command follows: a client that sends credentials after a
    /// refusal would otherwise read, and show, a piece of them.
    fn verb(&self) -> Option<ImapCommand> {
        let tag = self.line.first()?;
        let word = self.line.second();
        let verb = ImapCommand::parse(word.unwrap_or_default(), self.line.has_arguments());
        let is_command = verb != ImapCommand::Other || word.is_some_and(looks_like_a_command);
        (is_tag(tag) && is_command).then_some(verb)
    }

    /// Whether the line so far, of which the second word is complete, is a command that this dialogue does not answer.
    fn is_for_the_server(&self) -> bool {
        let word = self.line.second().unwrap_or_default();
        self.cleartext == ClearText::Inspect
            && matches!(self.verb(), Some(ImapCommand::Login | ImapCommand::Other))
            && !OWN_COMMANDS.iter().any(|own| word.eq_ignore_ascii_case(own))
    }

    fn hand_over(&mut self, end: &[u8]) -> ClientStep {
        let (tag, verb) = (self.line.first().unwrap_or_default(), self.line.second().unwrap_or_default());
        let begun = [tag, b" ", verb, end].concat();
        self.line.clear();
        self.state = State::Ended;
        ClientStep::HandOver { begun }
    }

    fn is_http(&self) -> bool {
        let target = self.line.second();
        self.line.first().is_some_and(|method| HTTP_METHODS.contains(&method))
            && target.is_none_or(|target| !target.is_empty() && !looks_like_a_command(target))
    }

    /// Tagged with `words`, or untagged where no command can be made out (RFC 9051 section 7.1.3).
    fn bad(&mut self, words: Option<&str>) -> ClientStep {
        self.bad_commands += 1;
        if self.bad_commands > BAD_COMMANDS_MAX {
            return self.end(ClientFault::TooManyBadCommands);
        }
        let reply = words.map_or_else(
            || b"* BAD Postern: not a command of IMAP\r\n".to_vec(),
            |words| self.tagged("BAD", words),
        );
        self.next_command();
        ClientStep::Reply(reply)
    }

    fn answered(&self, untagged: &[u8], words: &str) -> Vec<u8> {
        let mut reply = untagged.to_vec();
        reply.extend(self.tagged("OK", words));
        reply
    }

    fn tagged(&self, status: &str, words: &str) -> Vec<u8> {
        let mut reply = self.line.first().unwrap_or(b"*").to_vec();
        reply.extend_from_slice(format!(" {status} {words}\r\n").as_bytes());
        reply
    }

    fn next_command(&mut self) {
        self.line.clear();
        self.literal_octets = 0;
        self.state = State::Command;
    }

    fn end(&mut self, fault: ClientFault) -> ClientStep {
        self.line.clear();
        self.state = State::Ended;
        let reply = match self.reference {
            Some(reference) => bye(&format!("{}; reference {reference}", fault.told())),
            None => bye(fault.told()),
        };
        ClientStep::End { reply, fault: Some(fault) }
    }
}

impl Default for ClientDialogue {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ClientDialogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientDialogue")
            .field("state", &self.state)
            .field("commands", &self.commands)
            .field("bad_commands", &self.bad_commands)
            .field("logins_refused", &self.logins_refused)
            .finish_non_exhaustive()
    }
}

/// The answer to a client that asked for capabilities: `list` holds each behind a space.
#[must_use]
pub fn capabilities_listed(tag: &[u8], list: &[u8]) -> Vec<u8> {
    [b"* CAPABILITY", list, b"\r\n", tag, b" OK CAPABILITY completed\r\n"].concat()
}

/// An untagged BYE with a reason in words; octets of `reason` that could end or forge a line are replaced.
#[must_use]
pub fn bye(reason: &str) -> Vec<u8> {
    format!("* BYE Postern: {}\r\n", printable(reason)).into_bytes()
}

fn printable(reason: &str) -> String {
    reason.chars().take(REASON_BYTES_MAX).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

/// The commands that are told apart in clear text. What is not exactly one of them is [`ImapCommand::Other`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum ImapCommand {
    Capability,
    Noop,
    Id,
    Logout,
    StartTls,
    /// LOGIN and AUTHENTICATE, with whatever arguments.
    Login,
    Other,
}

impl ImapCommand {
    fn parse(word: &[u8], arguments: bool) -> Self {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        match arguments {
            _ if is(b"LOGIN") || is(b"AUTHENTICATE") => Self::Login,
            true if is(b"ID") => Self::Id,
            false if is(b"CAPABILITY") => Self::Capability,
            false if is(b"NOOP") => Self::Noop,
            false if is(b"LOGOUT") => Self::Logout,
            false if is(b"STARTTLS") => Self::StartTls,
            _ => Self::Other,
        }
    }
}

fn looks_like_a_command(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-')
}

/// RFC 9051 section 9: `tag = 1*<any ASTRING-CHAR except "+">`.
fn is_tag(word: &[u8]) -> bool {
    let is_tag_octet = |octet: &u8| octet.is_ascii_graphic() && !b"(){%*\"\\+".contains(octet);
    (1..=TAG_BYTES_MAX).contains(&word.len()) && word.iter().all(is_tag_octet)
}
