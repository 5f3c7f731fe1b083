//! What an engine needs of its surroundings: room, threads that judge, rules, and somebody who writes down what became of
//! mail.

use std::borrow::Cow;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use super::email::EmailFields;
use super::imap_terms::ImapTerms;
use super::recall::{ContentName, Recollection};
use super::refusal::Refused;
use super::uid_trust::UidTrust;
use super::verdicts::leaf_record;
use crate::accept::{HeldLease, HeldOctets};
use crate::content::{
    Case, Condition, ContentAction, ContentPiece, FieldRules, Judge, Judged, LeafVerdict, RuleName,
    Unavailable, judge,
};
use crate::guard::SessionGuard;
use crate::jobs::{JobKind, JobPool, Pending};
use crate::record::{ContentCounts, VerdictLines, VerdictRecord};
use crate::vault::{GroupDigests, Storing, Vault};
use crate::words::Direction;

/// Lines of one judgement. They are written on the mail thread, and the queue that they wait in is one for all sessions.
const VERDICT_LINES_MAX: usize = 100;

/// Whose mail it is, for records.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    /// The account, where the client said it in clear.
    pub(super) account: Option<Rc<str>>,
    /// The mailbox that is selected.
    pub(super) mailbox: Option<Rc<str>>,
    /// The message.
    pub(super) uid: Option<u32>,
    /// What its header says, where that is there.
    pub(super) email: Option<Rc<EmailFields>>,
}

/// What an engine needs.
#[derive(Clone)]
pub struct MediationTerms {
    /// The largest message, in octets.
    pub message_max: u64,
    /// What the policy says about IMAP itself.
    pub imap: Arc<ImapTerms>,
    /// Room for held mail.
    pub held: Arc<HeldOctets>,
    /// Threads that judge.
    pub jobs: Arc<JobPool>,
    /// Who judges leaves.
    pub judge: Arc<dyn Judge>,
    /// Header fields that clients do not see.
    pub headers: Arc<FieldRules>,
    /// Copies of what was judged; without it nothing can be read in pieces.
    pub vault: Option<Arc<Vault>>,
    /// The memory of verdicts under this policy.
    pub recollection: Option<Recollection>,
    /// The owner's trust that this server's UIDs are immutable.
    pub uid_trust: Option<UidTrust>,
    /// What the account guard says of this session; `None` where it limits nothing.
    pub guard: Option<Rc<SessionGuard>>,
    /// The server, as its address says.
    pub server: Rc<str>,
    /// Counters of the session's record.
    pub counts: Rc<ContentCounts>,
    /// Where verdicts are written.
    pub verdicts: VerdictLines,
    /// Clean verdicts are written, too.
    pub clean_verdicts: bool,
    /// Mail of the account that has logged in is not judged. Nothing of it is remembered: what others may see is judged for
    /// them.
    pub is_exempt: bool,
}

/// What a thread gives back.
pub(super) struct JudgedMail {
    pub(super) judged: Judged,
    /// The room that the octets take.
    pub(super) lease: HeldLease,
    /// Copies of what is to be kept.
    pub(super) copies: Vec<Vec<u8>>,
    /// Of what is to be remembered, where nothing was forbidden.
    pub(super) digests: Option<GroupDigests>,
}

/// Mail that a thread judges. Dropping it withdraws the work.
pub(super) struct InFlight(Pending<JudgedMail>, Arc<HeldOctets>);

impl InFlight {
    /// The verdict and what belongs to it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<JudgedMail> {
        let done = ready!(Pin::new(&mut self.0).poll(cx));
        // A panic took the octets with it.
        let lost = |_| JudgedMail {
            judged: Judged::Unavailable { why: Unavailable::JudgeDown },
            lease: self.1.lease(),
            copies: Vec::new(),
            digests: None,
        };
        Poll::Ready(done.unwrap_or_else(lost))
    }
}

impl MediationTerms {
    /// Whether mail has the same verdicts, and is shown alike, under these terms and under `others`.
    pub(super) fn judges_alike(&self, others: &Self) -> bool {
        let generations =
            [self, others].map(|terms| terms.recollection.as_ref().map(Recollection::generation));
        let are_alike = match generations {
            [Some(ours), Some(theirs)] => ours == theirs,
            _ => Arc::ptr_eq(&self.judge, &others.judge) && self.headers == others.headers,
        };
        are_alike && self.is_exempt == others.is_exempt
    }

    /// Whether policy has this account's mail pass unjudged.
    pub(super) fn exempts(&self, account: &str) -> bool {
        self.verdicts.applied().is_some_and(|applied| applied.privacy.exempts(account))
    }

    /// Header fields that this session's client does not see. Mail of an exempt account passes as it came.
    pub(super) fn field_rules(&self) -> &Arc<FieldRules> {
        static NONE: LazyLock<Arc<FieldRules>> = LazyLock::new(Arc::default);
        if self.is_exempt { &NONE } else { &self.headers }
    }

    /// The memory of verdicts, where mail is judged.
    pub(super) fn memory(&self) -> Option<&Recollection> {
        self.recollection.as_ref().filter(|_| !self.is_exempt)
    }

    /// Have pieces of these octets judged, ranges of them copied afterwards, and one remembered.
    pub(super) fn begin(
        &self,
        octets: Vec<u8>,
        lease: HeldLease,
        pieces: Vec<ContentPiece>,
        copies: Vec<Range<usize>>,
        remembers: Option<Range<usize>>,
    ) -> Result<InFlight, Refused> {
        let judge_of_leaves = Arc::clone(&self.judge);
        let recollection = self.memory().cloned();
        let (describes_allowed, is_exempt) = (self.clean_verdicts, self.is_exempt);
        let work = move |cancelled: &_| {
            let judged = if is_exempt {
                Judged::Final { octets, leaves: Vec::new() }
            } else {
                judge(Case { octets, pieces, describes_allowed }, &*judge_of_leaves, cancelled)
            };
            let (mut copied, mut digests) = (Vec::new(), None);
            if let Judged::Final { octets, leaves } = &judged {
                let at = |range: Range<usize>| octets.get(range).unwrap_or_default();
                copied = copies.into_iter().map(|range| at(range).to_vec()).collect();
                let is_clean = leaves.iter().all(is_known_clean);
                digests = remembers
                    .zip(recollection)
                    .filter(|_| is_clean)
                    .map(|(range, recollection)| GroupDigests::of(recollection.key(), at(range)));
            }
            JudgedMail { judged, lease, copies: copied, digests }
        };
        let pending = self.jobs.begin(JobKind::Judge, work).map_err(|_| Refused::NotJudged)?;
        Ok(InFlight(pending, Arc::clone(&self.held)))
    }

    /// What came under this name is not what was judged.
    pub(super) fn has_changed(&self, name: &ContentName) {
        if let Some(recollection) = self.memory() {
            recollection.forget(name);
        }
        if let Some(trust) = &self.uid_trust {
            trust.withdraw();
        }
    }

    /// Keep a copy of judged octets; `None` where there is no place for copies.
    pub(super) fn store(&self, octets: Vec<u8>) -> Option<Storing> {
        self.vault.as_ref().map(|vault| vault.spool.store(octets, self.held.lease()))
    }

    /// Write verdicts down, [`VERDICT_LINES_MAX`] at most and what is forbidden first; whether something was forbidden.
    /// `sections` are the paths of the pieces that were judged.
    pub(super) fn report(
        &self,
        subject: &Subject,
        direction: Direction,
        leaves: &[LeafVerdict],
        sections: &[String],
    ) -> bool {
        self.counts.count_judged(leaves.len() as u64);
        let is_forbidden = |leaf: &&LeafVerdict| leaf.action != ContentAction::Allow;
        let mut forbidden = 0;
        for leaf in leaves.iter().filter(is_forbidden) {
            forbidden += 1;
            self.counts.decided(leaf.rule.as_ref().map(RuleName::token).unwrap_or_default());
        }
        match direction {
            Direction::ServerToClient => self.counts.count_removed(forbidden),
            Direction::ClientToServer => self.counts.count_refused(u64::from(forbidden > 0)),
        }
        let is_told = |leaf: &&LeafVerdict| is_forbidden(leaf) || leaf.rule.is_some() || self.clean_verdicts;
        let mut told: Vec<&LeafVerdict> = leaves.iter().filter(is_told).collect();
        let left_out = told.len().saturating_sub(VERDICT_LINES_MAX);
        if left_out > 0 {
            told.sort_by_key(|leaf| (!is_forbidden(leaf), leaf.rule.is_none()));
            told.truncate(VERDICT_LINES_MAX);
        }
        let last = told.len().saturating_sub(1);
        for (index, leaf) in told.into_iter().enumerate() {
            let part = Cow::Owned(path(sections.get(leaf.piece), &leaf.path));
            let parts_left_out = if index == last { left_out as u64 } else { 0 };
            let record = VerdictRecord { parts_left_out, ..leaf_record(leaf, part, direction) };
            self.verdicts.write(&subject.say(record));
        }
        forbidden > 0
    }

    /// Mail was left out, and its command answered NO.
    pub(super) fn refused(&self, subject: &Subject, refused: Refused, direction: Direction) {
        self.counts.count_refused(1);
        self.counts.decided(refused.rule());
        let record = subject.record(Cow::Borrowed(refused.rule()));
        self.verdicts.write_not_judged(&VerdictRecord { direction, ..record });
    }
}

impl Subject {
    /// A verdict about a whole message.
    fn record<'a>(&'a self, rule: Cow<'a, str>) -> VerdictRecord<'a> {
        self.say(VerdictRecord { rule, ..VerdictRecord::of_message() })
    }

    /// A verdict with what is known of its message.
    fn say<'a>(&'a self, record: VerdictRecord<'a>) -> VerdictRecord<'a> {
        let email = self.email.as_deref();
        let text = |field: Option<&'a Rc<str>>| field.map(|text| Cow::Borrowed(&**text));
        VerdictRecord {
            user: self.account.as_deref().map(Cow::Borrowed),
            mailbox: self.mailbox.as_deref().map(Cow::Borrowed),
            uid: self.uid,
            from: text(email.and_then(|email| email.from.as_ref())),
            subject: text(email.and_then(|email| email.subject.as_ref())),
            message_id: text(email.and_then(|email| email.message_id.as_ref())),
            ..record
        }
    }
}

/// Whether the next judgement can be spared. A part that could not be scanned may be scanned next time.
fn is_known_clean(leaf: &LeafVerdict) -> bool {
    leaf.action == ContentAction::Allow && leaf.rule != Some(RuleName::Condition(Condition::CannotScan))
}

/// The path to a part within its message, from the section that was fetched and the path within it.
fn path(section: Option<&String>, within: &str) -> String {
    match section.map(String::as_str) {
        None | Some("") => within.to_owned(),
        Some(section) if within.is_empty() => section.to_owned(),
        Some(section) => format!("{section}.{within}"),
    }
}
