//! Logins: what the account guard says to them, and who has logged in.

use std::rc::Rc;
use std::time::Instant;

use super::super::client_input::Unit;
use super::super::output::Own;
use super::super::refusal::Refused;
use super::super::request::{Dialogue, Effect, Prepared, tagged};
use super::super::terms::{MediationTerms, Subject};
use super::{Sent, Session};
use crate::guard::{
    GuardRefusal, GuardedLogin, LoginDecision, LoginOutcome, SaslMechanism, SaslMessage, ShownAccount,
};
use crate::imap::command::{Verb, peek};
use crate::imap::response::{Condition, Response, parse};

/// Codes of a NO that say that the server did not look at the password (RFC 5530 section 3).
const UNDECIDED: [&str; 5] = ["UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "PRIVACYREQUIRED"];
/// So often a login that waits for the answers to others is asked about again: for 15 s. mbsync ends a session after 20 s of
/// silence.
const WAITS_MAX: u8 = 60;
/// The answer to a login in a session that has one already.
const LOGGED_IN: &str = "This session is logged in already; open another one";
/// The answer to a command that comes before a login, at a server where only some accounts log in.
const LOG_IN_FIRST: &str = "Log in first: the mail gateway lets only certain accounts use this server";

/// The client's commands wait: an answer is due later, or a login is asked about again.
pub(super) struct Pause {
    until: Instant,
    /// What the client is told then.
    words: Option<Vec<u8>>,
}

/// What the guard says to a login that the server has.
pub(super) enum SentLogin {
    /// It may go on.
    Goes(GuardedLogin),
    /// The dialogue is cancelled, and the server's completion is not the client's.
    Stopped(GuardRefusal),
}

/// What becomes of a command.
pub(super) enum Guarded {
    /// It goes on; a login with what is known of it.
    Passes(Option<SentLogin>),
    /// It is decided later.
    Waits,
    /// It is answered.
    Refused,
}

impl Session {
    /// Where only some accounts may log in, nothing passes before one has: what a server opens without a login (`* PREAUTH`),
    /// or by one that nobody has read, is of an account that nobody knows. Whether the command was answered.
    pub(super) fn refuse_before_login(&mut self, unit: &Unit) -> bool {
        let is_restricted = self.terms.guard.as_ref().is_some_and(|guard| guard.is_restricted());
        if !is_restricted || self.is_admitted {
            return false;
        }
        let Some((tag, verb)) = peek(unit.octets()) else { return false };
        let is_of_no_account = matches!(
            verb,
            Verb::Capability
                | Verb::Noop
                | Verb::Logout
                | Verb::Id
                | Verb::Login
                | Verb::Authenticate
                // These are refused anyway, with their own reasons.
                | Verb::StartTls
                | Verb::Compress
                | Verb::Other
        );
        if !is_of_no_account {
            let words = tagged(tag, "NO", LOG_IN_FIRST);
            self.refuse(words);
        }
        !is_of_no_account
    }

    /// A session logs in once (RFC 9051 section 6.2). Otherwise one session with a good password could fill the guard's
    /// tables with clients and accounts. Whether the command was answered.
    pub(super) fn refuse_second_login(&mut self, unit: &Unit) -> bool {
        if self.terms.guard.is_none() || !self.is_admitted {
            return false;
        }
        let Some((tag, Verb::Login | Verb::Authenticate)) = peek(unit.octets()) else { return false };
        let words = tagged(tag, "BAD", LOGGED_IN);
        self.refuse(words);
        true
    }

    /// Ask the guard about a login that names its account at once.
    pub(super) fn guard_login(&mut self, prepared: &Prepared) -> Guarded {
        let Some(message) = &prepared.login else { return Guarded::Passes(None) };
        let is_restricted = self.terms.guard.as_ref().is_some_and(|guard| guard.is_restricted());
        let message = match prepared.dialogue {
            // A server that does not know of an initial response asks for the account once more.
            Dialogue::Sasl { mechanism, .. } if is_restricted && mechanism.is_server_first() => {
                &SaslMessage::Unreadable
            }
            _ => message,
        };
        let decision = match self.ask_guard(message) {
            None => return Guarded::Passes(None),
            Some(decision) => decision,
        };
        match decision {
            LoginDecision::Go(login) => Guarded::Passes(Some(SentLogin::Goes(login))),
            LoginDecision::Wait(until) => {
                self.pause = Some(Box::new(Pause { until, words: None }));
                Guarded::Waits
            }
            LoginDecision::Refuse(refusal) => {
                self.answer_later(&prepared.tag, refusal);
                Guarded::Refused
            }
        }
    }

    /// What the guard says. A login that waited too long for the answers to others is refused.
    fn ask_guard(&mut self, message: &SaslMessage) -> Option<LoginDecision> {
        let guard = self.terms.guard.as_ref()?;
        let names = match message {
            SaslMessage::Named(names) => Some(names),
            SaslMessage::Unreadable => None,
            SaslMessage::Empty | SaslMessage::Cancel => return None,
        };
        let decision = guard.decide(names, Instant::now());
        if !matches!(decision, LoginDecision::Wait(_)) {
            self.waits = 0;
            return Some(decision);
        }
        if self.waits < WAITS_MAX {
            self.waits = self.waits.saturating_add(1);
            return Some(decision);
        }
        self.waits = 0;
        Some(LoginDecision::Refuse(guard.refuse_waiting(names)))
    }

    /// A line of the client's in a SASL dialogue, for which the server has asked. It is given back while it waits.
    pub(super) fn answer_challenge(
        &mut self,
        unit: Unit,
        mechanism: SaslMechanism,
        left: Option<u8>,
    ) -> Option<Unit> {
        // To the server, a line of SASL has no literal: what stands in one would be commands that nobody has looked at. The
        // dialogue is cancelled (RFC 9051 section 6.2.2).
        let mut is_passed = unit.heads().is_empty();
        let line = unit.octets().strip_suffix(b"\r\n").unwrap_or(unit.octets());
        let message = match left {
            None if is_passed => mechanism.read(line),
            _ => SaslMessage::Empty,
        };
        let (mut login, mut closing) = (None, None);
        let surplus = left
            .filter(|_| is_passed && line != b"*")
            .filter(|left| *left == 0 || !mechanism.may_follow(line));
        if let Some((left, guard)) = surplus.zip(self.terms.guard.as_ref()) {
            // Nobody would read it, and to a server it could name another account.
            closing = mechanism.closing().filter(|_| left > 0);
            if closing.is_none() {
                is_passed = false;
                let account = self.sent.back().and_then(|sent| match &sent.effect {
                    Effect::Login(account) => account.as_ref().map(|account| &*account.name),
                    _ => None,
                });
                login = Some(SentLogin::Stopped(guard.refuse_surplus(account)));
            }
        }
        match self.ask_guard(&message) {
            Some(LoginDecision::Wait(until)) => {
                self.pause = Some(Box::new(Pause { until, words: None }));
                return Some(unit);
            }
            Some(LoginDecision::Go(goes)) => login = Some(SentLogin::Goes(goes)),
            Some(LoginDecision::Refuse(refusal)) => {
                is_passed = false;
                login = Some(SentLogin::Stopped(refusal));
            }
            None => {}
        }
        if let Some(sent) = self.sent.back_mut() {
            sent.continuations = sent.continuations.saturating_sub(1);
            // The account stands in the first line that is not empty.
            let left = match (&message, left) {
                (SaslMessage::Named(_) | SaslMessage::Unreadable, _) => {
                    sent.effect = Effect::Login(message.shown_account(mechanism));
                    Some(mechanism.answers_behind_name())
                }
                (_, Some(left)) if is_passed && line != b"*" => Some(left.saturating_sub(1)),
                (_, left) => left,
            };
            if let (Some(_), Effect::Login(Some(account))) = (surplus, &mut sent.effect) {
                account.is_exact = false;
            }
            sent.dialogue = Dialogue::Sasl { mechanism, left };
            sent.login = login.or(sent.login.take());
        }
        let passed: &[u8] = if is_passed { unit.octets() } else { b"*\r\n" };
        self.to_server.say(Own::words(closing.unwrap_or(passed)));
        None
    }

    /// An account has logged in: whose mail it is, and whether it is judged.
    pub(super) fn log_in(&mut self, account: Option<ShownAccount>) {
        self.is_exact = account.as_ref().is_some_and(|account| account.is_exact);
        self.subject.account = account.map(|account| Rc::from(account.name));
        self.terms.counts.logged_in(self.subject.account.clone());
        let is_exempt = self.is_exempt_under(&self.terms);
        if is_exempt != self.terms.is_exempt {
            // What was judged before a login is nobody's mail.
            self.copies.leave_mailbox();
            Rc::make_mut(&mut self.terms).is_exempt = is_exempt;
        }
        if is_exempt {
            self.terms.counts.exempt();
        }
    }

    /// Whether mail of this session passes unjudged under these terms.
    pub(in crate::inspect) fn is_exempt_under(&self, terms: &MediationTerms) -> bool {
        let account = self.subject.account.as_deref().filter(|_| self.is_exact);
        account.is_some_and(|account| terms.exempts(account))
    }

    /// The server has answered a login. Whether its answer is not the client's.
    pub(super) fn end_login(&mut self, sent: &mut Sent, condition: Condition, response: &[u8]) -> bool {
        match sent.login.take() {
            None => false,
            Some(SentLogin::Stopped(refusal)) => {
                self.answer_later(&sent.tag, refusal);
                true
            }
            Some(SentLogin::Goes(GuardedLogin { account, attempt })) => {
                if let Some(attempt) = attempt {
                    let is_guess = match sent.dialogue {
                        Dialogue::Sasl { mechanism, left } => mechanism.has_shown_secret(left),
                        _ => true,
                    };
                    attempt.end(match outcome(condition, response) {
                        LoginOutcome::Rejected if !is_guess => LoginOutcome::Undecided,
                        outcome => outcome,
                    });
                }
                if condition == Condition::Ok {
                    (self.drawer, self.is_admitted) = (account, true);
                }
                false
            }
        }
    }

    /// The server leaves without an answer, and not because the client left: that is no failure of the client's.
    pub(super) fn excuse_login(&mut self) {
        for sent in &mut self.sent {
            if let Some(SentLogin::Goes(GuardedLogin { attempt: Some(attempt), .. })) = &mut sent.login {
                attempt.excuse();
            }
        }
    }

    fn answer_later(&mut self, tag: &[u8], refusal: GuardRefusal) {
        let GuardRefusal { words, delay } = refusal;
        let until = Instant::now() + delay;
        self.pause = Some(Box::new(Pause { until, words: Some(tagged(tag, "NO", words)) }));
    }

    /// When a pause ends.
    pub(super) fn pause_ends(&self) -> Option<Instant> {
        self.pause.as_ref().map(|pause| pause.until)
    }

    /// End a pause whose time has come.
    pub(super) fn tick_pause(&mut self, now: Instant) {
        let Some(pause) = self.pause.take_if(|pause| pause.until <= now) else { return };
        if let Some(words) = pause.words {
            self.refuse(words);
        }
        self.advance();
        self.shrink();
    }

    /// Whether content of a message may go to the client, as far as its account's share of the hour goes. `place` names the
    /// message within its mailbox.
    pub(super) fn may_draw(&self, subject: &Subject, place: u32) -> bool {
        let Some(guard) = &self.terms.guard else { return true };
        let mailbox = subject.mailbox.as_deref().unwrap_or_default().as_bytes();
        let message = (mailbox, self.offered.mailbox.uid_validity, place);
        guard.draw(self.drawer, message, Instant::now())
    }

    /// A message is kept from its account, and whoever asked for it hears NO.
    pub(super) fn keep_body(&self) {
        self.terms.counts.count_refused(1);
        if let Some(guard) = &self.terms.guard {
            guard.tell_body(self.drawer, self.subject.account.as_deref(), Instant::now());
        }
        self.blamed().iter().for_each(|command| command.set(Some(Refused::TooMany)));
    }
}

fn outcome(condition: Condition, response: &[u8]) -> LoginOutcome {
    let code = match parse(response) {
        Ok(Response::Tagged { text, .. }) => text.code,
        _ => None,
    };
    match condition {
        Condition::Ok => LoginOutcome::Accepted,
        Condition::No if code.is_some_and(|code| UNDECIDED.iter().any(|known| code.is(known))) => {
            LoginOutcome::Undecided
        }
        _ => LoginOutcome::Rejected,
    }
}
