//! `inspect = "full"`: the engine of a session in which mail is judged.
//!
//! A command is complete before the server sees anything of it, and a response before the client does. So both peers are
//! always between two units, and words of our own can stand there. A response that holds mail keeps its place in the
//! order until its verdict has come.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::answer::Answer;
use super::client_input::{ClientInput, Input, Unit};
use super::comfort::Comfort;
use super::held::Held;
use super::output::{Output, Own};
use super::plain::FirstOctets;
use super::refusal::Refused;
use super::reply::{Reply, classify};
use super::request::{Decision, Dialogue, Effect, Offered, Prepared, decide, no, sasl_plain_account, tagged};
use super::rewrite::Plan;
use super::server_input::{ServerInput, Whole};
use super::terms::{InFlight, MediationTerms, Subject};
use super::views::{Copies, CopyKey, JudgedCopy};
use super::{Engine, InspectRefusal, Next, Want};
use crate::accept::HeldLease;
use crate::content::{ContentPiece, Judged, Shape};
use crate::imap::response::Condition;
use crate::layer::{Batch, StreamEnd};
use crate::words::{Direction, Side};

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
    dialogue: Dialogue,
    /// Continuations of the server's that the client has not answered.
    continuations: u32,
    /// Nothing is sent beside it.
    is_alone: bool,
    asks: bool,
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
    in_flight: InFlight,
    heads: Vec<std::ops::Range<usize>>,
    announced: Vec<u64>,
}

/// A place in the order of responses.
enum Deferred {
    /// Mail that is judged.
    Judging(Box<Judging>),
    /// It was judged: what is left of it.
    Decided(Option<Own>),
    /// A command's completion, which mail before it may still change.
    Completion { tag: Box<[u8]>, line: Vec<u8>, refused: Rc<Cell<Option<Refused>>> },
}

struct Judging {
    in_flight: InFlight,
    answer: Answer,
    sections: Vec<String>,
    subject: Subject,
    to_keep: Vec<(CopyKey, Option<u8>, std::ops::Range<usize>)>,
    /// The commands that are refused if there is no verdict.
    blamed: Vec<Rc<Cell<Option<Refused>>>>,
}

/// A session in which mail is judged.
pub struct Session {
    terms: Rc<MediationTerms>,
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
    copies: Copies,
    subject: Subject,
    comfort: Comfort,
    said_bye: bool,
    logged_out: bool,
}

impl Session {
    /// A session behind its handshakes: the server's greeting comes first, or the client's next command.
    #[must_use]
    pub fn new(terms: Rc<MediationTerms>) -> Self {
        let message_max = terms.message_max;
        Self {
            terms,
            first: FirstOctets::default(),
            input: ClientInput::new(message_max),
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
            subject: Subject::default(),
            comfort: Comfort::default(),
            said_bye: false,
            logged_out: false,
        }
    }

    // The client's side.

    fn take_client(&mut self, octets: &[u8]) -> Result<(), InspectRefusal> {
        self.first.push(octets)?;
        let mut inputs = Vec::new();
        let terms = &self.terms;
        self.input.take(octets, || terms.held.lease(), &mut inputs)?;
        for input in inputs {
            match input {
                Input::Continue => self.to_client.say(Own::words("+ Go on\r\n")),
                Input::Refuse(words) => self.refuse(words),
                Input::Complete(unit) => self.units.push_back(unit),
            }
        }
        Ok(())
    }

    fn refuse(&mut self, words: Vec<u8>) {
        self.terms.counts.count_commands_refused(1);
        self.to_client.say(Own::words(words));
    }

    /// Send what can be sent now, in the client's order.
    fn advance(&mut self) {
        while self.sending.is_none() && self.upload.is_none() && self.sent.len() < SENT_MAX {
            if self.is_first_alone && !self.sent.is_empty() {
                return;
            }
            let Some(unit) = self.units.pop_front() else { return };
            self.is_first_alone = false;
            let waits = match self.sent.back_mut().filter(|sent| sent.is_alone) {
                Some(sent) => match sent.dialogue {
                    Dialogue::None => Some(unit),
                    _ if sent.continuations == 0 => Some(unit),
                    // A second line would be a command to the server. `*` cancels (RFC 9051 section 6.2.2).
                    Dialogue::Sasl { .. } if !unit.heads().is_empty() => {
                        sent.continuations -= 1;
                        self.to_server.say(Own::words("*\r\n"));
                        None
                    }
                    Dialogue::Sasl { is_plain } => {
                        sent.continuations -= 1;
                        if is_plain {
                            sent.effect = Effect::Login(sasl_plain_account(unit.octets()));
                        }
                        // To the server, a line of SASL has no literal: what stands in one would be commands that nobody
                        // has looked at. The dialogue is cancelled (RFC 9051 section 6.2.2).
                        let is_line = unit.heads().is_empty();
                        self.to_server.say(Own::words(if is_line { unit.octets() } else { b"*\r\n" }));
                        None
                    }
                    Dialogue::Idle => {
                        sent.continuations = 0;
                        if !unit.octets().eq_ignore_ascii_case(b"DONE\r\n") {
                            sent.refused.set(Some(Refused::NotDone));
                        }
                        self.to_server.say(Own::words("DONE\r\n"));
                        None
                    }
                },
                None => self.start(unit),
            };
            if let Some(unit) = waits {
                self.units.push_front(unit);
                return;
            }
        }
    }

    /// Decide about a command, and begin it. One that must be alone is given back while others are not answered.
    fn start(&mut self, unit: Unit) -> Option<Unit> {
        match decide(unit.octets(), self.offered, &self.copies) {
            Decision::Answer(words) => self.refuse(words),
            Decision::Send(prepared) => {
                if is_alone(&prepared, &unit) && !self.sent.is_empty() {
                    self.is_first_alone = true;
                    return Some(unit);
                }
                let mut parts = match &prepared.words {
                    Some(words) => VecDeque::from([Own::words(words.as_slice())]),
                    None => literal_parts(unit),
                };
                let alone = prepared.plan.is_some() || prepared.dialogue != Dialogue::None || parts.len() > 1;
                let first = parts.pop_front();
                self.send(prepared, alone, false, first, parts);
            }
            Decision::Upload(prepared, messages) => {
                if !self.sent.is_empty() {
                    self.is_first_alone = true;
                    return Some(unit);
                }
                self.judge_upload(prepared, messages, unit);
            }
        }
        None
    }

    fn send(
        &mut self,
        prepared: Prepared,
        is_alone: bool,
        uploads: bool,
        first: Option<Own>,
        rest: VecDeque<Own>,
    ) {
        let Prepared { tag, effect, dialogue, asks, plan, again, .. } = prepared;
        self.sent.push_back(Sent {
            tag,
            effect,
            dialogue,
            continuations: 0,
            is_alone,
            asks,
            uploads,
            plan,
            again,
            is_misfit: false,
            refused: Rc::default(),
        });
        self.sending = (!rest.is_empty()).then_some(Sending(rest));
        if let Some(first) = first {
            self.to_server.say(first);
        }
    }

    fn judge_upload(&mut self, prepared: Prepared, messages: Vec<std::ops::Range<usize>>, unit: Unit) {
        let heads = unit.heads().iter().map(|(range, _)| range.clone()).collect();
        let announced = unit.heads().iter().map(|(_, head)| head.octets).collect();
        let pieces =
            messages.into_iter().map(|range| ContentPiece { range, shape: Shape::Message }).collect();
        let (octets, lease) = unit.into_parts();
        match self.terms.begin(octets, lease, pieces) {
            Ok(in_flight) => {
                self.upload = Some(Box::new(Upload { prepared, in_flight, heads, announced }));
            }
            Err(refused) => {
                let words = no(&prepared.tag, refused);
                self.refuse(words);
            }
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(upload) = &mut self.upload else { return false };
        let Poll::Ready((judged, lease)) = upload.in_flight.poll(cx) else { return false };
        let Some(upload) = self.upload.take() else { return false };
        let Upload { prepared, heads, announced, .. } = *upload;
        let refused = match judged {
            Judged::Unavailable { .. } => Some((Refused::NotJudged, Vec::new(), lease)),
            Judged::Final { octets, leaves } => {
                let direction = Direction::ClientToServer;
                if self.terms.report(&self.subject, direction, &leaves, &[]) {
                    Some((Refused::Content, octets, lease))
                } else {
                    let held = Rc::new(Held::new(octets, lease));
                    let mut parts = held_parts(&held, &heads, &announced);
                    let first = parts.pop_front();
                    self.send(prepared, true, true, first, parts);
                    return true;
                }
            }
        };
        if let Some((refused, octets, lease)) = refused {
            drop(Held::new(octets, lease));
            let words = no(&prepared.tag, refused);
            self.refuse(words);
        }
        true
    }

    // The server's side.

    fn take_server(&mut self, mut octets: &[u8]) -> Result<(), InspectRefusal> {
        while !octets.is_empty() {
            let (taken, whole) = self.responses.take(octets, || self.terms.held.lease())?;
            let (now, later) = octets.split_at_checked(taken).unwrap_or((octets, &[]));
            octets = later;
            match whole {
                None => self.to_client.skip(now.len()),
                Some(Whole::InBatch) => self.respond(Response::InBatch(now)),
                Some(Whole::Copied(unit, lease)) => {
                    self.to_client.skip(now.len());
                    self.respond(Response::Copied(unit, lease));
                }
                Some(Whole::Discarded(refused, began)) => {
                    self.to_client.skip(now.len());
                    self.leave_out(&began, refused);
                }
            }
        }
        Ok(())
    }

    /// Decide about one whole response.
    fn respond(&mut self, response: Response<'_>) {
        match classify(response.octets(), self.terms.message_max, &mut self.offered) {
            Err(refused) => {
                self.skip(&response);
                self.blame(refused);
            }
            Ok(Reply::Pass) => self.pass(response),
            Ok(Reply::LeaveOut) => {
                self.terms.counts.count_left_out(1);
                self.skip(&response);
            }
            Ok(Reply::Replace(words)) => self.replace(&response, words),
            Ok(Reply::Bye(words)) => {
                self.said_bye = true;
                match words {
                    Some(words) => self.replace(&response, words),
                    None => self.pass(response),
                }
            }
            Ok(Reply::Continuation(words)) => self.continuation(response, words),
            Ok(Reply::Fetch(fetch)) => self.fetched(response, fetch),
            Ok(Reply::Completion { tag, condition, words }) => {
                self.completed(response, &tag, condition, words)
            }
        }
    }

    fn pass(&mut self, response: Response<'_>) {
        match response {
            Response::InBatch(octets) if self.to_client.deferred() == 0 => self.to_client.pass(octets.len()),
            Response::InBatch(octets) => self.to_client.say(Own::words(octets)),
            Response::Copied(octets, lease) => {
                let mut own = Own::default();
                let octets_end = octets.len();
                own.show(&Rc::new(Held::new(octets, lease)), 0..octets_end);
                self.to_client.say(own);
            }
        }
    }

    fn skip(&mut self, response: &Response<'_>) {
        if let Response::InBatch(octets) = response {
            self.to_client.skip(octets.len());
        }
    }

    fn replace(&mut self, response: &Response<'_>, words: Vec<u8>) {
        self.skip(response);
        self.to_client.say(Own::words(words));
    }

    /// `+`: the server asks for the next literal, or for the client's next line.
    fn continuation(&mut self, response: Response<'_>, words: Option<Vec<u8>>) {
        if let Some(Sending(parts)) = &mut self.sending {
            // The client was told to go on long ago.
            if let Some(part) = parts.pop_front() {
                self.to_server.say(part);
            }
            if parts.is_empty() {
                self.sending = None;
            }
            return self.skip(&response);
        }
        match self.sent.back_mut().filter(|sent| sent.dialogue != Dialogue::None) {
            Some(sent) => {
                sent.continuations = sent.continuations.saturating_add(1);
                match words {
                    Some(words) => self.replace(&response, words),
                    None => self.pass(response),
                }
            }
            None => {
                self.terms.counts.count_left_out(1);
                self.skip(&response);
            }
        }
    }

    fn completed(
        &mut self,
        response: Response<'_>,
        tag: &[u8],
        condition: Condition,
        words: Option<Vec<u8>>,
    ) {
        let Some(at) = self.sent.iter().position(|sent| *sent.tag == *tag) else {
            self.terms.counts.count_left_out(1);
            return self.skip(&response);
        };
        let Some(mut sent) = self.sent.remove(at) else { return };
        if let Some(again) = sent.again.take().filter(|_| sent.is_misfit && condition == Condition::Ok) {
            // The client knows of one command, and hears of one completion.
            let (words, plan) = *again;
            self.skip(&response);
            self.to_server.say(Own::words(words));
            self.sent.push_back(Sent { plan: Some(plan), is_misfit: false, ..sent });
            return;
        }
        if sent.is_alone {
            self.sending = None;
        }
        if condition == Condition::Ok {
            match sent.effect {
                Effect::None => {}
                Effect::Login(account) => self.subject.account = account.map(Rc::from),
                Effect::Select(mailbox) => self.select(Some(Rc::from(mailbox))),
                Effect::Close => self.select(None),
                Effect::Logout => self.logged_out = true,
            }
        } else if matches!(sent.effect, Effect::Select(_)) {
            // RFC 9051 section 6.3.2: a SELECT that fails leaves no mailbox selected.
            self.select(None);
        }
        let refused = sent.refused;
        if self.to_client.deferred() == 0 && refused.get().is_none() {
            match words {
                Some(words) => self.replace(&response, words),
                None => self.pass(response),
            }
            return;
        }
        let line = words.unwrap_or_else(|| response.octets().to_vec());
        self.skip(&response);
        self.to_client.defer(Deferred::Completion { tag: sent.tag, line, refused });
    }

    fn select(&mut self, mailbox: Option<Rc<str>>) {
        self.subject.mailbox = mailbox;
        self.copies.clear();
    }

    /// A FETCH response: metadata passes, mail is judged first.
    fn fetched(&mut self, response: Response<'_>, fetch: crate::imap::response::FetchResponse) {
        if !Answer::needs_work(&fetch, self.plan().as_deref()) {
            return self.pass(response);
        }
        self.skip(&response);
        let (mut octets, mut lease) = response.into_copied(|| self.terms.held.lease());
        let before = octets.len();
        let answer = match Answer::of(fetch, &mut octets, self.plan()) {
            Ok(answer) => answer,
            Err(refused) => return self.blame(refused),
        };
        if !lease.try_grow((octets.len() - before) as u64) {
            return self.blame(Refused::NoRoom);
        }
        if !answer.fits_copies(&octets) {
            self.copies.clear();
            self.sent.iter_mut().for_each(|sent| sent.is_misfit = true);
            return;
        }
        self.terms.counts.count_left_out(answer.left_out);
        let (pieces, sections): (Vec<_>, Vec<_>) = match answer.pieces(&octets) {
            Ok(pieces) => pieces.into_iter().unzip(),
            Err(refused) => return self.blame(refused),
        };
        if pieces.is_empty() {
            let held = Rc::new(Held::new(octets, lease));
            self.copies.used(Instant::now());
            if let Some(own) = answer.compose(&held) {
                self.to_client.say(own);
            }
            return;
        }
        let to_keep = answer.to_keep(&octets);
        match self.terms.begin(octets, lease, pieces) {
            Ok(in_flight) => {
                let subject = Subject { uid: answer.uid(), ..self.subject.clone() };
                let blamed = self.blamed();
                let judging = Judging { in_flight, answer, sections, subject, blamed, to_keep };
                self.to_client.defer(Deferred::Judging(Box::new(judging)));
            }
            Err(refused) => self.blame(refused),
        }
    }

    fn plan(&self) -> Option<Rc<Plan>> {
        self.sent.back().and_then(|sent| sent.plan.clone())
    }

    /// The commands that a response may belong to: those that ask for data.
    fn blamed(&self) -> Vec<Rc<Cell<Option<Refused>>>> {
        self.sent.iter().filter(|sent| sent.asks).map(|sent| Rc::clone(&sent.refused)).collect()
    }

    /// A response is left out: whoever asked for it hears NO with the reason.
    fn blame(&mut self, refused: Refused) {
        self.terms.refused(&self.subject, refused, Direction::ServerToClient);
        self.blamed().iter().for_each(|command| command.set(Some(refused)));
    }

    fn leave_out(&mut self, began: &[u8], refused: Refused) {
        if began.starts_with(b"* ") {
            return self.blame(refused);
        }
        // A completion is never lost: without it, the command would be awaited for ever.
        let mut words = began.split(|octet| *octet == b' ');
        match (words.next(), words.next()) {
            (Some(tag), Some(condition)) if tag != b"+" => {
                let line = [tag, b" ", condition, b" Done\r\n"].concat();
                self.respond(Response::Copied(line, self.terms.held.lease()));
            }
            _ => self.terms.counts.count_left_out(1),
        }
    }

    /// Take the verdicts that have come, and settle what stands first.
    fn poll_verdicts(&mut self, cx: &mut Context<'_>) -> bool {
        let terms = Rc::clone(&self.terms);
        let mut changed = false;
        for deferred in self.to_client.each_deferred() {
            let Deferred::Judging(judging) = deferred else { continue };
            let Poll::Ready((judged, lease)) = judging.in_flight.poll(cx) else { continue };
            changed = true;
            let Judging { answer, sections, subject, blamed, to_keep, .. } = &mut **judging;
            let own = match judged {
                Judged::Unavailable { .. } => {
                    terms.refused(subject, Refused::NotJudged, Direction::ServerToClient);
                    blamed.iter().for_each(|command| command.set(Some(Refused::NotJudged)));
                    None
                }
                Judged::Final { octets, leaves } => {
                    terms.report(subject, Direction::ServerToClient, &leaves, sections);
                    let held = Rc::new(Held::new(octets, lease));
                    for (key, first, range) in to_keep.drain(..) {
                        self.copies
                            .keep(JudgedCopy::new(key, first, Rc::clone(&held), range), Instant::now());
                    }
                    answer.compose(&held)
                }
            };
            *deferred = Deferred::Decided(own);
        }
        changed | self.settle()
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
        while self.to_client.settle_first(settle) {
            changed = true;
        }
        changed
    }

    /// Whether a verdict is to come.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_judging(&mut self) -> bool {
        let judging = self.to_client.each_deferred().any(|each| matches!(each, Deferred::Judging(_)));
        judging || self.upload.is_some()
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

/// What stands first is decided, or given back.
fn settle(deferred: Deferred) -> Result<Option<Own>, Deferred> {
    match deferred {
        Deferred::Judging(_) => Err(deferred),
        Deferred::Decided(own) => Ok(own),
        Deferred::Completion { tag, line, refused } => Ok(Some(match refused.get() {
            Some(Refused::NotDone) => Own::words(tagged(&tag, "BAD", "DONE was expected")),
            Some(refused) => Own::words(no(&tag, refused)),
            None => Own::words(line),
        })),
    }
}

fn is_alone(prepared: &Prepared, unit: &Unit) -> bool {
    prepared.plan.is_some()
        || prepared.dialogue != Dialogue::None
        || (prepared.words.is_none() && !unit.heads().is_empty())
}

/// A command in parts: each but the last ends with the announcement of a literal, for which the server is asked.
fn literal_parts(unit: Unit) -> VecDeque<Own> {
    if unit.heads().is_empty() {
        return VecDeque::from([Own::words(unit.octets())]);
    }
    let heads: Vec<_> = unit.heads().iter().map(|(range, _)| range.clone()).collect();
    let announced: Vec<_> = unit.heads().iter().map(|(_, head)| head.octets).collect();
    held_parts(&Rc::new(unit.into_held()), &heads, &announced)
}

fn held_parts(held: &Rc<Held>, heads: &[std::ops::Range<usize>], announced: &[u64]) -> VecDeque<Own> {
    let mut parts = VecDeque::new();
    let mut from = 0;
    for (head, octets) in heads.iter().zip(announced) {
        let mut part = Own::default();
        part.show(held, from..head.start);
        part.say(format!("{{{octets}}}\r\n"));
        parts.push_back(part);
        from = head.end;
    }
    let mut last = Own::default();
    last.show(held, from..held.octets().len());
    parts.push_back(last);
    parts
}

/// One whole response: in the batch, or copied because it came in pieces.
enum Response<'a> {
    InBatch(&'a [u8]),
    Copied(Vec<u8>, HeldLease),
}

impl Response<'_> {
    fn octets(&self) -> &[u8] {
        match self {
            Self::InBatch(octets) => octets,
            Self::Copied(octets, _) => octets,
        }
    }

    fn into_copied(self, lease: impl FnOnce() -> HeldLease) -> (Vec<u8>, HeldLease) {
        match self {
            // At most a batch, which the session's buffer is counted for.
            Self::InBatch(octets) => (octets.to_vec(), lease()),
            Self::Copied(octets, lease) => (octets, lease),
        }
    }
}

impl Engine for Session {
    fn take(&mut self, from: Side, batch: &Batch) -> Result<(), InspectRefusal> {
        for octets in batch.plaintext() {
            match from {
                Side::Downstream => self.take_client(octets)?,
                Side::Upstream => self.take_server(octets)?,
            }
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
        let enough = match from {
            Side::Downstream => {
                self.units.len() >= UNITS_MAX
                    || self.upload.is_some()
                    || self.units_octets() >= UNITS_BYTES_MAX
            }
            Side::Upstream => self.to_client.deferred() >= DEFERRED_MAX,
        } || self.to_client.weight() >= WAITING_BYTES_MAX;
        if enough { Want::Nothing } else { Want::Octets }
    }

    fn ended(&mut self, from: Side, _: StreamEnd) -> Result<(), InspectRefusal> {
        match from {
            Side::Downstream if self.input.is_inside() => Err(InspectRefusal::CommandCut),
            Side::Upstream if self.responses.is_inside() => Err(InspectRefusal::ResponseCut),
            _ => Ok(()),
        }
    }

    fn is_drained(&self, to: Side) -> bool {
        match to {
            Side::Downstream => self.to_client.is_empty(),
            Side::Upstream => {
                self.to_server.is_empty()
                    && self.units.is_empty()
                    && self.sending.is_none()
                    && self.upload.is_none()
                    && self.sent.iter().all(|sent| sent.again.is_none())
            }
        }
    }

    fn is_announced(&self, from: Side) -> bool {
        self.logged_out || (from == Side::Upstream && self.said_bye)
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
        if !judged && !uploaded {
            return Poll::Pending;
        }
        self.advance();
        self.comfort.update(self.holds(), self.upload.is_some(), Instant::now());
        Poll::Ready(Ok(()))
    }

    fn wake_at(&self) -> Option<Instant> {
        self.comfort.due().into_iter().chain(self.copies.due()).min()
    }

    fn tick(&mut self, now: Instant) -> Result<(), InspectRefusal> {
        self.copies.tick(now);
        if self.comfort.is_due(now) {
            self.to_client.interject(Own::words("* OK The mail gateway is inspecting a message\r\n"));
        }
        Ok(())
    }
}
