//! The client's side of a session: commands in their order, and uploads.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::super::InspectRefusal;
use super::super::client_input::{Input, Unit};
use super::super::email::EmailFields;
use super::super::held::Held;
use super::super::output::Own;
use super::super::refusal::Refused;
use super::super::request::{Decision, Dialogue, Prepared, decide, no};
use super::super::terms::{JudgedMail, Subject};
use super::login::Guarded;
use super::{SENT_MAX, Sending, Sent, Session, Upload};
use crate::content::{ContentPiece, Judged, Shape};
use crate::words::Direction;

impl Session {
    pub(super) fn take_client(&mut self, octets: &[u8]) -> Result<(), InspectRefusal> {
        self.first.push(octets)?;
        let mut inputs = Vec::new();
        let Self { terms, renewal, input, .. } = self;
        let later = |now: &_| renewal.imap(terms, now);
        input.take(octets, || terms.held.lease(), later, &mut inputs)?;
        for input in inputs {
            match input {
                Input::Continue => self.to_client.say(Own::words("+ Go on\r\n")),
                Input::Refuse(words) => self.refuse(words),
                Input::Complete(unit) => self.units.push_back(unit),
            }
        }
        Ok(())
    }

    pub(super) fn refuse(&mut self, words: Vec<u8>) {
        self.terms.counts.count_commands_refused(1);
        self.to_client.say(Own::words(words));
    }

    /// Send what can be sent now, in the client's order.
    pub(super) fn advance(&mut self) {
        while self.is_ready() {
            if self.is_first_alone && !self.sent.is_empty() {
                return;
            }
            let Some(unit) = self.units.pop_front() else { return };
            self.is_first_alone = false;
            let waits = match self.sent.back_mut().filter(|sent| sent.is_alone) {
                Some(sent) => match sent.dialogue {
                    Dialogue::None => Some(unit),
                    _ if sent.continuations == 0 => Some(unit),
                    Dialogue::Sasl { mechanism, left } => self.answer_challenge(unit, mechanism, left),
                    Dialogue::Idle => {
                        sent.continuations = 0;
                        if !unit.octets().eq_ignore_ascii_case(b"DONE\r\n") {
                            sent.refused.set(Some(Refused::NotDone));
                            self.terms.counts.count_commands_refused(1);
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

    fn is_ready(&self) -> bool {
        self.sending.is_none() && self.upload.is_none() && self.pause.is_none() && self.sent.len() < SENT_MAX
    }

    /// Decide about a command, and begin it. One that must be alone is given back while others are not answered.
    fn start(&mut self, unit: Unit) -> Option<Unit> {
        if self.waits_for_rules() {
            self.is_first_alone = true;
            return Some(unit);
        }
        if self.refuse_before_login(&unit) || self.refuse_second_login(&unit) {
            return None;
        }
        match decide(unit.octets(), self.offered, &self.terms.imap, &self.copies) {
            Decision::Answer(words) => self.refuse(words),
            Decision::Send(prepared) => {
                // Who logs in is known before anything else is asked of the server, or tried.
                let is_guarded = prepared.login.is_some() && self.terms.guard.is_some();
                if (is_alone(&prepared, &unit) || is_guarded) && !self.sent.is_empty() {
                    self.is_first_alone = true;
                    return Some(unit);
                }
                let login = match self.guard_login(&prepared) {
                    Guarded::Passes(login) => login,
                    Guarded::Waits => return Some(unit),
                    Guarded::Refused => return None,
                };
                let mut parts = match &prepared.words {
                    Some(words) => VecDeque::from([Own::words(words.as_slice())]),
                    None => literal_parts(unit),
                };
                let is_turns = prepared.plan.is_some() || prepared.dialogue != Dialogue::None;
                let alone = is_turns || is_guarded || parts.len() > 1;
                let first = parts.pop_front();
                self.send(prepared, alone, false, first, parts);
                if let Some(sent) = self.sent.back_mut() {
                    sent.login = login;
                }
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
        let Prepared { tag, effect, dialogue, asks, sections, plan, again, .. } = prepared;
        self.sent.push_back(Sent {
            tag,
            effect,
            login: None,
            dialogue,
            continuations: 0,
            is_alone,
            asks,
            sections,
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

    fn judge_upload(&mut self, prepared: Prepared, messages: Vec<Range<usize>>, unit: Unit) {
        let heads = unit.heads().iter().map(|(range, _)| range.clone()).collect();
        let announced = unit.heads().iter().map(|(_, head)| head.octets).collect();
        // A verdict does not say which of several messages it is about.
        let only = match messages.as_slice() {
            [only] => unit.octets().get(only.clone()),
            _ => None,
        };
        let email = only.map(|message| Rc::new(EmailFields::read(message)));
        let pieces: Vec<ContentPiece> =
            messages.into_iter().map(|range| ContentPiece { range, shape: Shape::Message }).collect();
        let (octets, lease) = unit.into_parts();
        match self.terms.begin(octets, lease, pieces, Vec::new(), None) {
            Ok(in_flight) => {
                self.upload = Some(Box::new(Upload { prepared, email, in_flight, heads, announced }));
            }
            Err(refused) => {
                let words = no(&prepared.tag, refused);
                self.refuse(words);
            }
        }
    }

    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(upload) = &mut self.upload else { return false };
        let Poll::Ready(done) = upload.in_flight.poll(cx) else { return false };
        let JudgedMail { judged, lease, .. } = done;
        let Some(upload) = self.upload.take() else { return false };
        let Upload { prepared, email, heads, announced, .. } = *upload;
        let subject = Subject { email, ..self.subject.clone() };
        let refused = match judged {
            Judged::Unavailable { .. } => Some((Refused::NotJudged, Vec::new(), lease)),
            Judged::Final { octets, leaves } => {
                let direction = Direction::ClientToServer;
                if self.terms.report(&subject, direction, &leaves, &[]) {
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

fn held_parts(held: &Rc<Held>, heads: &[Range<usize>], announced: &[u64]) -> VecDeque<Own> {
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
