//! The server's side of a session: responses in their order, and mail that is judged.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Context;

use super::super::InspectRefusal;
use super::super::answer::Answer;
use super::super::deferred::{Blamed, Deferred, Mail, Recalled, Stage, copies_of_judged};
use super::super::email::EmailFields;
use super::super::held::Held;
use super::super::output::Own;
use super::super::overwriting::Overwriting;
use super::super::recall::{ContentName, Recall, only_content};
use super::super::refusal::Refused;
use super::super::reply::{NEUTRAL_GO_ON, Reply, Shown, classify};
use super::super::request::{Dialogue, Effect};
use super::super::rewrite::Plan;
use super::super::server_input::Whole;
use super::super::stream::{Known, Streamed, Streaming, is_plain_tail, whole_message};
use super::super::terms::Subject;
use super::login::SentLogin;
use super::{Sending, Sent, Session};
use crate::accept::HeldLease;
use crate::imap::response::{Condition, FetchResponse};
use crate::layer::Batch;
use crate::words::Direction;

impl Session {
    /// A batch of the server's. A response that is known and stands whole in it goes on over the ends of records.
    pub(super) fn take_server(&mut self, batch: &Batch) -> Result<(), InspectRefusal> {
        let mut records = batch.plaintext();
        let mut known = 0;
        while let Some(record) = records.next() {
            let begin = known.min(record.len());
            known -= begin;
            let mut octets = record.get(begin..).unwrap_or_default();
            while !octets.is_empty() {
                let taken = match self.known_at_hand(std::iter::once(octets).chain(records.clone())) {
                    Some(count) => {
                        self.to_client.pass(count);
                        known = count.saturating_sub(octets.len());
                        count
                    }
                    None => self.take_response(octets)?,
                };
                octets = octets.get(taken..).unwrap_or_default();
            }
        }
        let waiting = self.streaming.as_mut().map_or(0, |streaming| streaming.keep(batch));
        self.to_client.skip(waiting);
        Ok(())
    }

    /// Octets of one response; how many.
    fn take_response(&mut self, octets: &[u8]) -> Result<usize, InspectRefusal> {
        let (taken, whole) = self.responses.take(octets, || self.terms.held.lease())?;
        let now = octets.get(..taken).unwrap_or_default();
        match whole {
            None => self.to_client.skip(now.len()),
            Some(Whole::Announced(octets)) => {
                self.to_client.skip(now.len());
                self.begin_stream(octets);
            }
            Some(Whole::Streamed) => self.stream(now)?,
            Some(Whole::Tail(tail)) => {
                self.to_client.skip(now.len());
                self.end_stream(tail)?;
            }
            Some(Whole::InBatch) => self.respond(Response::InBatch(now)),
            Some(Whole::Copied(unit, lease)) => {
                self.to_client.skip(now.len());
                self.respond(Response::Copied(unit, lease));
            }
            // What stands behind mail that has gone on cannot be left out.
            Some(Whole::Discarded(..)) if self.streaming.is_some() => {
                return Err(InspectRefusal::ContentChanged);
            }
            Some(Whole::Discarded(refused, began)) => {
                self.to_client.skip(now.len());
                self.leave_out(&began, refused);
            }
        }
        Ok(taken)
    }

    /// A literal comes: it streams, where it is a message that is known, and nothing before it waits.
    fn begin_stream(&mut self, octets: u64) {
        if self.streaming.is_none() && self.may_stream() && self.responses.announces_message() {
            let prefix = self.responses.begun();
            let known = self.known_message(prefix, octets);
            self.streaming = known.map(|known| Box::new(Streaming::begin(known, prefix, self.plan())));
            if let Some(streaming) = &mut self.streaming {
                if let Some(words) = streaming.unseen() {
                    self.to_client.open();
                    self.to_client.go_on(Own::words(words));
                }
                return self.responses.stream();
            }
        }
        self.responses.reserve(octets);
    }

    /// The octets of a response that stands whole at the beginning of these, and whose message is known. Such responses go
    /// on together, as they came.
    fn known_at_hand<'a>(&self, octets: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
        if !self.may_stream() {
            return None;
        }
        let response = self.responses.at_hand(octets)?;
        if !is_plain_tail(&response.tail, self.plan()) {
            return None;
        }
        let known = self.known_message(&response.prefix, response.literal_octets as u64)?;
        known.admits(&response.literal, &self.terms).then(|| response.octets())
    }

    /// Whether known messages may go on as they come. Behind the message of a command that asks for more, other mail stands
    /// in the same response.
    fn may_stream(&self) -> bool {
        let mut fetches = self.sent.iter().filter(|sent| sent.sections > 0).peekable();
        self.to_client.deferred() == 0
            && self.terms.memory().is_some()
            // A message shows its header, which is overwritten when all of it is there.
            && !self.terms.field_rules().is_active()
            && fetches.peek().is_some()
            && fetches.all(|sent| sent.sections == 1)
    }

    /// What the memory knows of the message whose literal, of so many octets, stands behind this.
    fn known_message(&self, prefix: &[u8], octets: u64) -> Option<Known> {
        if octets == 0 {
            return None;
        }
        let (uid, form, section) = whole_message(prefix, self.plan())?;
        let subject = Subject { uid: Some(uid), ..self.subject.clone() };
        let name = ContentName::of(&self.terms, &subject, self.offered.mailbox, (form, &section), &[])?;
        // One that is not known at once is asked about again when all of it is there: it counts once.
        if !self.may_draw(&subject, uid) {
            return None;
        }
        Known::of(&self.terms, name, octets)
    }

    fn stream(&mut self, octets: &[u8]) -> Result<(), InspectRefusal> {
        let Some(streaming) = &mut self.streaming else { return Err(InspectRefusal::ContentChanged) };
        match streaming.take(octets) {
            Streamed::Held => self.to_client.skip(octets.len()),
            Streamed::Waits => {}
            Streamed::Released(words, count) => {
                self.to_client.open();
                if !words.is_empty() {
                    self.to_client.go_on(Own::words(words));
                }
                self.to_client.pass(count);
            }
            Streamed::Unknown(unit) => {
                self.terms.has_changed(streaming.name());
                self.streaming = None;
                self.to_client.skip(octets.len());
                self.responses.hold(&unit, || self.terms.held.lease());
            }
            Streamed::Changed => {
                self.terms.has_changed(streaming.name());
                return Err(InspectRefusal::ContentChanged);
            }
        }
        Ok(())
    }

    /// What stands behind a literal that streamed.
    fn end_stream(&mut self, tail: Vec<u8>) -> Result<(), InspectRefusal> {
        let streaming = self.streaming.take().ok_or(InspectRefusal::ContentChanged)?;
        if !streaming.admits(&tail) {
            return Err(InspectRefusal::ContentChanged);
        }
        match streaming.is_unseen() {
            true => self.terms.counts.count_trusted(1),
            false => self.terms.counts.count_verified(1),
        }
        self.to_client.go_on(Own::words(tail));
        self.to_client.close();
        Ok(())
    }

    /// Decide about one whole response.
    fn respond(&mut self, response: Response<'_>) {
        let greets = !std::mem::replace(&mut self.has_greeted, true);
        let shown = Shown { message_max: self.terms.message_max, imap: &self.terms.imap, greets };
        match classify(response.octets(), shown, &mut self.offered) {
            Err(refused) => {
                self.skip(&response);
                self.blame(refused);
            }
            Ok(Reply::Pass) => self.pass(response),
            Ok(Reply::LeaveOut) => {
                self.terms.counts.count_left_out(1);
                self.unreadable(&response);
            }
            Ok(Reply::Replace(words)) => self.replace(&response, words),
            Ok(Reply::Bye(words)) => {
                self.said_bye = true;
                self.excuse_login();
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

    /// A response that stays out. Where it begins with the tag of a command, the client must not wait for it for ever.
    fn unreadable(&mut self, response: &Response<'_>) {
        self.skip(response);
        let tag = response.octets().split(|octet| *octet == b' ').next().unwrap_or_default();
        let Some(at) = self.sent.iter().position(|sent| *sent.tag == *tag) else { return };
        let Some(sent) = self.sent.remove(at) else { return };
        if sent.is_alone {
            self.sending = None;
        }
        self.terms.counts.count_commands_refused(1);
        let refused = Rc::new(Cell::new(Some(Refused::Malformed)));
        self.to_client.defer(Deferred::Completion { tag: sent.tag, line: Vec::new(), refused });
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
            // The dialogue is cancelled: the client is asked for nothing more.
            Some(Sent { login: Some(SentLogin::Stopped(_)), .. }) => self.skip(&response),
            Some(sent) => {
                sent.continuations = sent.continuations.saturating_add(1);
                // The text behind the `+` of IDLE is for people, and servers differ in it. A login needs its own.
                let is_idle = sent.dialogue == Dialogue::Idle;
                let neutral = (is_idle && self.terms.imap.hides_banner()).then(|| NEUTRAL_GO_ON.to_vec());
                match neutral.or(words) {
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
        if self.end_login(&mut sent, condition, response.octets()) {
            return self.skip(&response);
        }
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
                Effect::Login(account) => self.log_in(account),
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
        self.copies.leave_mailbox();
    }

    /// A FETCH response: metadata passes, mail is judged first.
    fn fetched(&mut self, response: Response<'_>, fetch: FetchResponse) {
        if !Answer::needs_work(&fetch, self.plan().as_deref(), self.terms.field_rules()) {
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
        let overwriting = match answer.overwriting(&octets, &pieces, self.terms.field_rules()) {
            Ok(overwriting) => overwriting,
            Err(refused) => return self.blame(refused),
        };
        // The header of a part tells nothing of the mail.
        let mail = pieces.first().filter(|_| sections.first().is_some_and(String::is_empty));
        let first = mail.and_then(|piece| Some((piece, octets.get(piece.range.clone())?)));
        let email = first.and_then(|(piece, content)| EmailFields::of(&piece.shape, content));
        let subject = Subject { uid: answer.uid(), email, ..self.subject.clone() };
        let has_content = !pieces.is_empty() || answer.is_copied();
        if has_content && !self.may_draw(&subject, answer.uid().unwrap_or(answer.number())) {
            return self.keep_body();
        }
        let blamed = self.blamed();
        if pieces.is_empty() {
            return self.shown(answer, (octets, lease), overwriting, subject, blamed);
        }
        let to_keep = answer.to_keep(&octets);
        let name = only_content(&self.terms, &subject, self.offered.mailbox, &answer, &pieces);
        let stage = match (self.terms.memory(), name, pieces.first().map(|piece| piece.range.clone())) {
            (Some(recollection), Some(name), Some(range)) => {
                let recall = Recall::begin(recollection, name);
                Ok(Stage::Recalling(Some(Box::new(Recalled { recall, range, octets, lease, pieces }))))
            }
            _ => {
                let copies = copies_of_judged(&to_keep, overwriting.as_ref());
                let in_flight = self.terms.begin(octets, lease, pieces, copies, None);
                in_flight.map(|in_flight| Stage::Judging(in_flight, None))
            }
        };
        match stage {
            Ok(stage) => {
                let turn = self.copies.turn();
                let mail = Mail { answer, sections, subject, turn, to_keep, overwriting, blamed, stage };
                self.to_client.defer(Deferred::Mail(Box::new(mail)));
            }
            Err(refused) => self.blame(refused),
        }
    }

    /// Nothing of a response has to be judged: it goes on, with ranges of copies and without what header rules remove.
    fn shown(
        &mut self,
        answer: Answer,
        (mut octets, lease): (Vec<u8>, HeldLease),
        overwriting: Option<Overwriting>,
        subject: Subject,
        blamed: Blamed,
    ) {
        let stage = match overwriting {
            Some(overwriting) if !overwriting.is_short() => {
                match overwriting.begin(&self.terms, octets, lease, Vec::new()) {
                    Ok(being) => Stage::Overwriting(being),
                    Err(refused) => return self.blame(refused),
                }
            }
            overwriting => {
                if let Some(overwriting) = overwriting {
                    overwriting.apply(&mut octets);
                }
                let held = Rc::new(Held::new(octets, lease));
                if !answer.is_copied() {
                    if let Some(own) = answer.compose(&held, &mut VecDeque::new()) {
                        self.to_client.say(own);
                    }
                    return;
                }
                Stage::Storing(held, VecDeque::new())
            }
        };
        let mail = Mail::judged(answer, stage, subject, self.copies.turn(), blamed);
        self.to_client.defer(Deferred::Mail(Box::new(mail)));
    }

    fn plan(&self) -> Option<Rc<Plan>> {
        self.sent.back().and_then(|sent| sent.plan.clone())
    }

    /// The commands that a response may belong to: those that ask for data.
    pub(super) fn blamed(&self) -> Blamed {
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
    pub(super) fn poll_verdicts(&mut self, cx: &mut Context<'_>) -> bool {
        let mut changed = false;
        for deferred in self.to_client.each_deferred() {
            changed |= deferred.poll(&self.terms, &mut self.copies, cx);
        }
        changed | self.settle()
    }
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
