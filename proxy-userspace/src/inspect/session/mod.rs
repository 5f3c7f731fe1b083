//! `inspect = "full"`: the engine of a session in which mail is judged.
//!
//! A command is complete before the server sees anything of it, and a response before the client does. So both peers are
//! always between two units, and words of our own can stand there. A response that holds mail keeps its place in the
//! order until its verdict has come.

/// Commands in their order, and uploads.
mod client;
/// Logins, and what the account guard says to them.
mod login;
/// Responses in their order, and mail that is judged.
mod server;

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use self::login::{Pause, SentLogin};
use super::client_input::{ClientInput, Unit};
use super::comfort::Comfort;
use super::deferred::Deferred;
use super::email::EmailFields;
use super::output::{Output, Own};
use super::plain::FirstOctets;
use super::refusal::Refused;
use super::renewal::Renewal;
use super::reply::note_capabilities;
use super::request::{Dialogue, Effect, Offered, Prepared};
use super::rewrite::Plan;
use super::server_input::ServerInput;
use super::stream::Streaming;
use super::terms::{InFlight, MediationTerms, Subject};
use super::views::Copies;
use super::{Engine, InspectRefusal, Next, Want};
use crate::guard::Mark;
use crate::layer::{Batch, StreamEnd};
use crate::words::Side;

/// Commands that wait for others before them. A client that sends more is not read until some are gone.
const UNITS_MAX: usize = 64;
/// Octets of these commands; the last of them may be an upload, which `limits.message` bounds.
const UNITS_BYTES_MAX: usize = 128 * 1024;
/// Commands that the server has and has not answered.
const SENT_MAX: usize = 64;
/// Responses whose verdict has not come. More are not read.
const DEFERRED_MAX: usize = 32;

/// Octets that wait for the client, beside mail, which is counted. While there are more, neither side is read: a client
/// that does not read its answers is asked no more, and what a server says behind mail waits with it.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// A command that the server has.
struct Sent {
    tag: Box<[u8]>,
    effect: Effect,
    /// What the guard says to a login.
    login: Option<SentLogin>,
    dialogue: Dialogue,
    /// Continuations of the server's that the client has not answered.
    continuations: u32,
    /// Nothing is sent beside it.
    is_alone: bool,
    asks: bool,
    /// Sections of mail that it asks for.
    sections: usize,
    uploads: bool,
    plan: Option<Rc<Plan>>,
    /// What goes to the server next under this tag, and the plan for it, where a copy does not fit.
    again: Option<Box<(Vec<u8>, Rc<Plan>)>>,
    is_misfit: bool,
    refused: Rc<Cell<Option<Refused>>>,
}

/// A command whose literals go out one by one, each when the server asks for it.
struct Sending(VecDeque<Own>);

/// A command whose messages are judged before the server sees them.
struct Upload {
    prepared: Prepared,
    /// What the header of the message says, where there is one message.
    email: Option<Rc<EmailFields>>,
    in_flight: InFlight,
    heads: Vec<Range<usize>>,
    announced: Vec<u64>,
}

/// A session in which mail is judged.
pub struct Session {
    pub(super) terms: Rc<MediationTerms>,
    pub(super) renewal: Renewal,
    first: FirstOctets,
    input: ClientInput,
    responses: ServerInput,
    /// Complete commands that were not sent yet.
    units: VecDeque<Unit>,
    /// The first of them must be alone, and waits for the commands before it. It is not read again for each of the server's
    /// words.
    is_first_alone: bool,
    sending: Option<Sending>,
    upload: Option<Box<Upload>>,
    sent: VecDeque<Sent>,
    to_client: Output<Deferred>,
    to_server: Output<()>,
    offered: Offered,
    pub(super) copies: Copies,
    /// Known mail that goes on as it comes.
    streaming: Option<Box<Streaming>>,
    subject: Subject,
    /// Nobody can read another account than the subject's in its login.
    is_exact: bool,
    /// Commands wait for the time that the guard set.
    pause: Option<Box<Pause>>,
    /// How often the guard was asked in vain about the login that waits.
    waits: u8,
    /// The client sends nothing more.
    has_client_left: bool,
    /// The account whose messages are counted.
    drawer: Option<Mark>,
    /// The guard let a login through, and the server said OK.
    is_admitted: bool,
    comfort: Comfort,
    /// The server's first response has come.
    has_greeted: bool,
    said_bye: bool,
    logged_out: bool,
    /// The server's stream ended inside a response.
    is_cut: bool,
}

impl Session {
    /// A session behind its handshakes: the server's greeting comes first, or the client's next command.
    #[must_use]
    pub fn new(terms: Rc<MediationTerms>) -> Self {
        let message_max = terms.message_max;
        let input = ClientInput::new(message_max, Arc::clone(&terms.imap));
        Self {
            terms,
            renewal: Renewal::default(),
            first: FirstOctets::default(),
            input,
            responses: ServerInput::new(message_max),
            units: VecDeque::new(),
            is_first_alone: false,
            sending: None,
            upload: None,
            sent: VecDeque::new(),
            to_client: Output::default(),
            to_server: Output::default(),
            offered: Offered::default(),
            copies: Copies::default(),
            streaming: None,
            subject: Subject::default(),
            is_exact: false,
            pause: None,
            waits: 0,
            has_client_left: false,
            drawer: None,
            is_admitted: false,
            comfort: Comfort::default(),
            has_greeted: false,
            said_bye: false,
            logged_out: false,
            is_cut: false,
        }
    }

    /// The same without TLS on either side: STARTTLS is answered NO with this reason. The server said that it can do
    /// `capabilities`, or the client did not ask for them, and they are empty.
    #[must_use]
    pub fn in_clear_text(mut self, no_starttls: &'static str, capabilities: &[u8]) -> Self {
        note_capabilities(capabilities, &self.terms.imap, &mut self.offered);
        self.offered.no_starttls = Some(no_starttls);
        self
    }

    /// Whether all that went to the server was answered, and no verdict is to come.
    pub(super) fn is_settled(&self) -> bool {
        self.sent.is_empty() && self.upload.is_none() && self.to_client.deferred() == 0
    }

    /// A session at rest, or in IDLE, keeps no queue.
    fn shrink(&mut self) {
        if self.units.is_empty() {
            self.units.shrink_to(0);
        }
        if self.sent.len() <= 1 {
            self.sent.shrink_to(1);
        }
    }

    /// Settle what needs no verdict any more.
    fn settle(&mut self) -> bool {
        let mut changed = false;
        while self.to_client.settle_first(Deferred::settle) {
            changed = true;
        }
        changed
    }

    /// Whether a verdict is to come.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_judging(&mut self) -> bool {
        let judging = self.to_client.each_deferred().any(|each| matches!(each, Deferred::Mail(_)));
        judging || self.upload.is_some()
    }

    /// Whether the server has this command and has not answered it.
    #[cfg(test)]
    pub(super) fn awaits(&self, tag: &str) -> bool {
        self.sent.iter().any(|sent| *sent.tag == *tag.as_bytes())
    }

    /// Whether known mail goes on as it comes.
    #[cfg(fuzzing)]
    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.is_some()
    }

    /// Octets on the heap that no lease counts: queues, and what stands in them.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        let units = self.units.iter().map(Unit::heap).sum::<usize>();
        let names =
            [&self.subject.account, &self.subject.mailbox].into_iter().flatten().map(|name| name.len());
        self.units.capacity() * size_of::<Unit>()
            + units
            + self.sent.capacity() * size_of::<Sent>()
            + self.to_client.heap()
            + self.to_server.heap()
            + self.input.heap()
            + self.responses.heap()
            + self.copies.heap()
            + names.sum::<usize>()
    }

    fn units_octets(&self) -> usize {
        self.units.iter().map(|unit| unit.octets().len()).sum()
    }

    /// Whether somebody waits for mail that is held here, or for what the server says to mail that was uploaded.
    fn holds(&self) -> bool {
        self.to_client.deferred() > 0
            || (self.responses.is_holding() && !self.sent.is_empty())
            || self.upload.is_some()
            || self.sent.iter().any(|sent| sent.uploads)
    }
}

impl Engine for Session {
    fn take(&mut self, from: Side, batch: &Batch) -> Result<(), InspectRefusal> {
        match from {
            Side::Downstream => batch.plaintext().try_for_each(|octets| self.take_client(octets))?,
            Side::Upstream => self.take_server(batch)?,
        }
        self.settle();
        self.advance();
        self.shrink();
        self.comfort.update(self.holds(), self.upload.is_some(), Instant::now());
        Ok(())
    }

    fn next(&mut self, to: Side) -> Next {
        match to {
            Side::Downstream => self.to_client.next(),
            Side::Upstream => self.to_server.next(),
        }
    }

    fn fill(&mut self, to: Side, room: &mut [u8]) -> usize {
        match to {
            Side::Downstream => self.to_client.fill(room),
            Side::Upstream => self.to_server.fill(room),
        }
    }

    fn wants(&self, from: Side) -> Want {
        let is_full = self.to_client.weight() >= WAITING_BYTES_MAX;
        let enough = match from {
            Side::Downstream => {
                is_full
                    || self.units.len() >= UNITS_MAX
                    || self.upload.is_some()
                    || self.units_octets() >= UNITS_BYTES_MAX
            }
            // What waits may wait for the end of a message that streams.
            Side::Upstream if self.streaming.is_some() => false,
            Side::Upstream => is_full || self.to_client.deferred() >= DEFERRED_MAX,
        };
        if enough {
            return Want::Nothing;
        }
        let is_unseen = self.streaming.as_ref().is_some_and(|streaming| streaming.is_unseen());
        match self.responses.left() {
            octets @ 1.. if is_unseen && from == Side::Upstream => Want::Counted(octets),
            _ => Want::Octets,
        }
    }

    fn moved(&mut self, from: Side, octets: u64) {
        if from == Side::Upstream {
            self.responses.moved(octets);
        }
    }

    fn ended(&mut self, from: Side, _: StreamEnd) -> Result<(), InspectRefusal> {
        match from {
            Side::Downstream => self.has_client_left = true,
            Side::Upstream if !self.has_client_left => self.excuse_login(),
            Side::Upstream => {}
        }
        match from {
            Side::Downstream if self.input.is_inside() => Err(InspectRefusal::CommandCut),
            Side::Upstream if self.responses.is_inside() && self.to_client.is_empty() => {
                Err(InspectRefusal::ResponseCut)
            }
            Side::Upstream if self.responses.is_inside() => {
                // What came before it goes on first.
                self.is_cut = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn is_drained(&self, to: Side) -> bool {
        match to {
            Side::Downstream => self.to_client.is_empty() && !self.is_cut && self.pause.is_none(),
            Side::Upstream => {
                self.to_server.is_empty()
                    && self.units.is_empty()
                    && self.sending.is_none()
                    && self.upload.is_none()
                    && self.pause.is_none()
                    && self.sent.iter().all(|sent| sent.again.is_none())
            }
        }
    }

    fn is_announced(&self, from: Side) -> bool {
        self.logged_out || (from == Side::Upstream && self.said_bye)
    }

    fn is_over(&self) -> bool {
        self.logged_out
    }

    fn is_at_boundary(&self, to: Side) -> bool {
        match to {
            Side::Downstream => self.to_client.is_at_boundary(),
            Side::Upstream => self.to_server.is_at_boundary(),
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), InspectRefusal>> {
        let judged = self.poll_verdicts(cx);
        let uploaded = self.poll_upload(cx);
        if self.is_cut && self.to_client.is_empty() {
            return Poll::Ready(Err(InspectRefusal::ResponseCut));
        }
        if !judged && !uploaded {
            return Poll::Pending;
        }
        self.advance();
        self.comfort.update(self.holds(), self.upload.is_some(), Instant::now());
        Poll::Ready(Ok(()))
    }

    fn wake_at(&self) -> Option<Instant> {
        self.comfort.due().into_iter().chain(self.copies.due()).chain(self.pause_ends()).min()
    }

    fn tick(&mut self, now: Instant) -> Result<(), InspectRefusal> {
        self.copies.tick(now);
        self.tick_pause(now);
        if self.comfort.is_due(now) {
            self.to_client.interject(Own::words("* OK The mail gateway is inspecting a message\r\n"));
        }
        Ok(())
    }
}
