//! The dialogue with a mail server until STARTTLS: its greeting, then our one command.

use thiserror::Error;

use super::line::{LineFault, LineReader};

/// Untagged lines that are dropped before TLS on one connection. Servers send one or two capability lists.
pub const UNTAGGED_LINES_MAX: usize = 64;

/// Octets of dropped lines on one connection: eight lines of the longest kind.
pub const UNTAGGED_BYTES_MAX: usize = 65_536;

/// Why the dialogue with a server was ended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ServerFault {
    /// The greeting was PREAUTH: in that state STARTTLS is not allowed, so it downgrades a client to clear text
    /// (RFC 9051 section 11.1).
    #[error("the server greeted with an already authenticated session, which rules TLS out")]
    Preauth,
    /// The server does not want this connection, or no longer.
    #[error("the server said BYE before TLS")]
    Bye,
    /// The greeting is not one of IMAP.
    #[error("the server's greeting is not IMAP; is this its IMAP port?")]
    NotImap,
    /// Octets behind the OK to STARTTLS: the response injection of CVE-2020-29547 and its kind.
    #[error("clear text followed the server's OK to STARTTLS, where only TLS may follow")]
    InjectedAfterStartTls,
    /// A tagged response that began before our command: its sender guessed the tag.
    #[error("the server answered a command that was not sent")]
    Unsolicited,
    /// A response with a tag that is not ours, a status that does not exist, or a continuation request.
    #[error("the server answered a command with something that is not its tagged response")]
    NotAnAnswer,
    /// A literal where only lines are expected.
    #[error("the server announced a literal before TLS")]
    Literal,
    /// More untagged lines or octets than [`UNTAGGED_LINES_MAX`] and [`UNTAGGED_BYTES_MAX`].
    #[error("the server sent more than {UNTAGGED_LINES_MAX} lines or {UNTAGGED_BYTES_MAX} octets before TLS")]
    TooMuchUntagged,
    /// Octets that are no line.
    #[error("the server sent {0}")]
    Line(#[from] LineFault),
}

impl ServerFault {
    /// The word in records.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Preauth => "preauth",
            Self::Bye => "server_bye",
            Self::NotImap => "not_imap",
            Self::InjectedAfterStartTls => "starttls_injected",
            Self::Unsolicited => "response_unsolicited",
            Self::NotAnAnswer => "starttls_not_answered",
            Self::Literal => "literal_before_tls",
            Self::TooMuchUntagged => "too_much_untagged",
            Self::Line(fault) => fault.reason(),
        }
    }
}

/// How a server refused STARTTLS; its words are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTlsRefusal {
    /// Not now, or not for us.
    No,
    /// The server does not know the command.
    Bad,
}

impl StartTlsRefusal {
    /// The word in records.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::No => "starttls_refused",
            Self::Bad => "starttls_unsupported",
        }
    }
}

/// What came of the octets received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStep {
    /// Nothing to do but read on.
    More,
    /// The greeting is there: greet the client.
    Ready,
    /// The server awaits our ClientHello.
    Accepted,
    /// The server will not start TLS. STARTTLS may be sent again.
    Refused(StartTlsRefusal),
    /// The server has answered CAPABILITY: [`ServerDialogue::listed`] has what it said.
    Listed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Idle,
    Asked,
    AskedList,
    Accepted,
    Ended(ServerFault),
}

/// Postern's half of the dialogue with a mail server before STARTTLS.
#[derive(Debug)]
pub struct ServerDialogue {
    line: LineReader,
    phase: Phase,
    /// The current line began after our command was handed out: only then can it be the answer.
    began_after_asking: bool,
    asked: u32,
    untagged_lines: usize,
    untagged_octets: usize,
    /// The line so far, while a capability list is awaited.
    current: Vec<u8>,
    /// The server's capability list, with the words before it.
    list: Vec<u8>,
}

impl ServerDialogue {
    /// A dialogue that awaits the greeting.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            line: LineReader::new(),
            phase: Phase::Greeting,
            began_after_asking: false,
            asked: 0,
            untagged_lines: 0,
            untagged_octets: 0,
            current: Vec::new(),
            list: Vec::new(),
        }
    }

    /// Take what the server sent. Of several steps in one input the last one is told, which is also the only one
    /// that matters: the server cannot get further than Ready by itself, and what follows its OK is a fault.
    ///
    /// # Errors
    /// The server, or somebody in its place, broke the protocol: nothing it sends is believed after that, and
    /// every later call returns the same fault.
    pub fn receive(&mut self, input: &[u8]) -> Result<ServerStep, ServerFault> {
        let mut last = ServerStep::More;
        for &octet in input {
            match self.octet(octet) {
                Ok(ServerStep::More) => {}
                Ok(step) => last = step,
                Err(fault) => {
                    self.phase = Phase::Ended(fault);
                    self.line.clear();
                    return Err(fault);
                }
            }
        }
        if let Phase::Ended(fault) = self.phase { Err(fault) } else { Ok(last) }
    }

    /// The command that asks for TLS, with a tag of ours. None unless the server is greeted and no answer is
    /// awaited.
    #[must_use]
    pub fn starttls(&mut self) -> Option<Vec<u8>> {
        if self.phase != Phase::Idle {
            return None;
        }
        Some(self.ask(Phase::Asked, "STARTTLS"))
    }

    /// The command that asks for the capability list. None unless the server is greeted and no answer is awaited.
    #[must_use]
    pub fn capability(&mut self) -> Option<Vec<u8>> {
        if self.phase != Phase::Idle {
            return None;
        }
        Some(self.ask(Phase::AskedList, "CAPABILITY"))
    }

    /// The capabilities that the server listed when it was asked for them, with spaces between; nothing where it did
    /// not. They are of one line, so that they hold no CR, LF or NUL.
    #[must_use]
    pub fn listed(&self) -> &[u8] {
        // The words before them are `*` and `CAPABILITY`.
        self.list.splitn(3, |octet| *octet == b' ').nth(2).unwrap_or_default().trim_ascii()
    }

    /// Whether the server's last line is complete. Only there can somebody else go on with what it says.
    #[must_use]
    pub const fn is_between_lines(&self) -> bool {
        self.line.at_start()
    }

    /// Octets of the server that are held in memory: two words, and, where it was asked for them, a line with
    /// capabilities and the line that follows.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.line.buffered() + self.current.len() + self.list.len()
    }

    fn ask(&mut self, phase: Phase, command: &str) -> Vec<u8> {
        self.phase = phase;
        self.asked = self.asked.saturating_add(1);
        format!("{} {command}\r\n", self.tag()).into_bytes()
    }

    fn tag(&self) -> String {
        format!("P{}", self.asked)
    }

    fn octet(&mut self, octet: u8) -> Result<ServerStep, ServerFault> {
        match self.phase {
            Phase::Accepted => return Err(ServerFault::InjectedAfterStartTls),
            Phase::Ended(fault) => return Err(fault),
            Phase::Greeting | Phase::Idle | Phase::Asked | Phase::AskedList => {}
        }
        if self.line.at_start() {
            self.began_after_asking = matches!(self.phase, Phase::Asked | Phase::AskedList);
        }
        if self.phase == Phase::AskedList {
            self.current.push(octet);
        }
        if !self.line.push(octet).map_err(|fault| self.line_fault(fault))? {
            return Ok(ServerStep::More);
        }
        let step = self.line_ended();
        self.line.clear();
        self.current = Vec::new();
        step
    }

    /// A server of another protocol often ends lines in its own way: the greeting tells that better.
    fn line_fault(&self, fault: LineFault) -> ServerFault {
        match (self.phase, fault) {
            (Phase::Greeting, LineFault::Binary | LineFault::BareLf) if !self.is_untagged() => {
                ServerFault::NotImap
            }
            _ => fault.into(),
        }
    }

    fn is_untagged(&self) -> bool {
        self.line.first() == Some(b"*")
    }

    fn line_ended(&mut self) -> Result<ServerStep, ServerFault> {
        let status = StatusResponse::parse(self.line.second().unwrap_or_default());
        match (self.phase, self.is_untagged()) {
            (Phase::Greeting, true) => self.greeted(status),
            (Phase::Greeting, false) => Err(ServerFault::NotImap),
            (_, true) => self.dropped(status),
            (Phase::Asked, false) if self.began_after_asking => self.answered(status),
            (Phase::AskedList, false) if self.began_after_asking => self.listed_or_not(status),
            (_, false) => Err(ServerFault::Unsolicited),
        }
    }

    fn greeted(&mut self, status: StatusResponse) -> Result<ServerStep, ServerFault> {
        match status {
            StatusResponse::Ok => {
                self.phase = Phase::Idle;
                Ok(ServerStep::Ready)
            }
            StatusResponse::Preauth => Err(ServerFault::Preauth),
            StatusResponse::Bye => Err(ServerFault::Bye),
            StatusResponse::No | StatusResponse::Bad | StatusResponse::None => Err(ServerFault::NotImap),
        }
    }

    /// Untagged lines outside of TLS are not believed (RFC 9051 section 6.2.1 asks the same of clients). Only
    /// BYE is heeded: its sender can also cut the connection.
    fn dropped(&mut self, status: StatusResponse) -> Result<ServerStep, ServerFault> {
        self.untagged_lines += 1;
        self.untagged_octets += self.line.octets();
        match status {
            StatusResponse::Bye => Err(ServerFault::Bye),
            StatusResponse::Preauth => Err(ServerFault::Preauth),
            StatusResponse::None if self.line.literal().is_some() => Err(ServerFault::Literal),
            _ if self.untagged_lines > UNTAGGED_LINES_MAX || self.untagged_octets > UNTAGGED_BYTES_MAX => {
                Err(ServerFault::TooMuchUntagged)
            }
            StatusResponse::None if self.is_list() => {
                self.list = std::mem::take(&mut self.current);
                Ok(ServerStep::More)
            }
            _ => Ok(ServerStep::More),
        }
    }

    /// A list that began after it was asked for.
    fn is_list(&self) -> bool {
        let is_named = |word: &[u8]| word.eq_ignore_ascii_case(b"CAPABILITY");
        self.phase == Phase::AskedList && self.began_after_asking && self.line.second().is_some_and(is_named)
    }

    /// A server that will not list its capabilities has shown none.
    fn listed_or_not(&mut self, status: StatusResponse) -> Result<ServerStep, ServerFault> {
        match status {
            _ if self.line.first() != Some(self.tag().as_bytes()) => Err(ServerFault::NotAnAnswer),
            StatusResponse::Ok | StatusResponse::No | StatusResponse::Bad => {
                self.phase = Phase::Idle;
                Ok(ServerStep::Listed)
            }
            StatusResponse::Bye | StatusResponse::Preauth | StatusResponse::None => {
                Err(ServerFault::NotAnAnswer)
            }
        }
    }

    fn answered(&mut self, status: StatusResponse) -> Result<ServerStep, ServerFault> {
        if self.line.first() != Some(self.tag().as_bytes()) {
            return Err(ServerFault::NotAnAnswer);
        }
        let (phase, step) = match status {
            StatusResponse::Ok => (Phase::Accepted, ServerStep::Accepted),
            StatusResponse::No => (Phase::Idle, ServerStep::Refused(StartTlsRefusal::No)),
            StatusResponse::Bad => (Phase::Idle, ServerStep::Refused(StartTlsRefusal::Bad)),
            StatusResponse::Bye | StatusResponse::Preauth | StatusResponse::None => {
                return Err(ServerFault::NotAnAnswer);
            }
        };
        self.phase = phase;
        Ok(step)
    }
}

impl Default for ServerDialogue {
    fn default() -> Self {
        Self::new()
    }
}

/// RFC 9051 section 7.1: status responses, in any case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StatusResponse {
    Ok,
    No,
    Bad,
    Bye,
    Preauth,
    None,
}

impl StatusResponse {
    fn parse(word: &[u8]) -> Self {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        match () {
            () if is(b"OK") => Self::Ok,
            () if is(b"NO") => Self::No,
            () if is(b"BAD") => Self::Bad,
            () if is(b"BYE") => Self::Bye,
            () if is(b"PREAUTH") => Self::Preauth,
            () => Self::None,
        }
    }
}
