//! Known mail streams: every group of its octets goes on as soon as it equals what was judged. Of servers that the owner
//! trusts, it goes on without a look.

use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::answer::Answer;
use super::recall::{ContentName, Recall};
use super::rewrite::Plan;
use super::terms::MediationTerms;
use super::uid_trust::UidTrust;
use crate::imap::fetch::{Section, SectionText};
use crate::imap::response::{AnsweredForm, AnsweredKind, FetchResponse, Response, parse};
use crate::layer::Batch;
use crate::vault::GroupVerifier;

/// A response whose literal may be known. Its first octets are held until the first group is.
pub(super) struct Streaming {
    /// The response up to its literal.
    prefix: Vec<u8>,
    name: ContentName,
    /// None where the octets go on without a look.
    verifier: Option<GroupVerifier>,
    /// Octets of a group that is not complete, of batches before this one: 16 KiB at most.
    held: Vec<u8>,
    /// The last octets of this batch so far, which wait for the rest of their group where they stand.
    in_batch: usize,
    plan: Option<Rc<Plan>>,
    is_released: bool,
}

/// What becomes of octets of the literal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Streamed {
    /// They wait for the rest of the first group, and were copied.
    Held,
    /// They wait for the rest of their group in the batch.
    Waits,
    /// First these words go on, then so many octets of the batch behind those that went on before; the others wait.
    Released(Vec<u8>, usize),
    /// They are others than those that were judged, and nothing has gone on yet: the response as far as it came.
    Unknown(Vec<u8>),
    /// They are others, and a part of the response has gone on.
    Changed,
}

/// What a literal should be, by the memory.
pub(super) struct Known {
    name: ContentName,
    /// None where the octets need no look.
    verifier: Option<GroupVerifier>,
}

impl Known {
    /// Ask the memory about a literal of so many octets. `None` where it does not know at once.
    pub(super) fn of(terms: &MediationTerms, name: ContentName, octets: u64) -> Option<Self> {
        let recollection = terms.memory()?;
        let mut recall = Recall::begin(recollection, name);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Some(expected)) = recall.poll(&mut cx) else { return None };
        let name = recall.name;
        if expected.length() != octets {
            terms.has_changed(&name);
            return None;
        }
        let is_trusted = terms.uid_trust.as_ref().is_some_and(UidTrust::takes_unseen);
        let verifier = (!is_trusted).then(|| GroupVerifier::new(recollection.key(), expected));
        Some(Self { name, verifier })
    }

    /// Whether all of the literal, which is at hand, may go on. It is forgotten where it may not.
    pub(super) fn admits(self, literal: &[&[u8]], terms: &MediationTerms) -> bool {
        let Some(mut verifier) = self.verifier else {
            terms.counts.count_trusted(1);
            return true;
        };
        let is_known = literal.iter().all(|octets| verifier.take(octets).is_ok()) && verifier.is_complete();
        match is_known {
            true => terms.counts.count_verified(1),
            false => terms.has_changed(&self.name),
        }
        is_known
    }
}

impl Streaming {
    /// Begin with what came before the literal.
    pub(super) fn begin(known: Known, prefix: &[u8], plan: Option<Rc<Plan>>) -> Self {
        let Known { name, verifier } = known;
        Self {
            prefix: prefix.to_vec(),
            name,
            verifier,
            held: Vec::new(),
            in_batch: 0,
            plan,
            is_released: false,
        }
    }

    /// The octets need no look: what goes on before them.
    pub(super) fn unseen(&mut self) -> Option<Vec<u8>> {
        if self.verifier.is_some() {
            return None;
        }
        self.is_released = true;
        Some(std::mem::take(&mut self.prefix))
    }

    /// Whether the octets go on without a look.
    pub(super) const fn is_unseen(&self) -> bool {
        self.verifier.is_none()
    }

    /// The content's name in the memory.
    pub(super) const fn name(&self) -> &ContentName {
        &self.name
    }

    /// The next octets of the literal.
    pub(super) fn take(&mut self, octets: &[u8]) -> Streamed {
        let Some(verifier) = &mut self.verifier else { return Streamed::Released(Vec::new(), octets.len()) };
        let before = verifier.verified();
        let Ok(verified) = verifier.take(octets) else {
            if self.is_released {
                return Streamed::Changed;
            }
            let mut unit = std::mem::take(&mut self.prefix);
            unit.append(&mut self.held);
            unit.extend_from_slice(octets);
            return Streamed::Unknown(unit);
        };
        let released = usize::try_from(verified - before).unwrap_or(usize::MAX);
        if released == 0 && !self.is_released {
            self.held.extend_from_slice(octets);
            return Streamed::Held;
        }
        self.in_batch += octets.len();
        if released == 0 {
            return Streamed::Waits;
        }
        let of_batch = released.saturating_sub(self.held.len()).min(self.in_batch);
        self.in_batch -= of_batch;
        let mut words = std::mem::take(&mut self.prefix);
        words.append(&mut self.held);
        self.is_released = true;
        Streamed::Released(words, of_batch)
    }

    /// The batch ends. Its last octets that wait are kept; how many they are.
    pub(super) fn keep(&mut self, batch: &Batch) -> usize {
        let waiting = std::mem::take(&mut self.in_batch);
        if waiting > 0 {
            let mut before = batch.plaintext().map(<[u8]>::len).sum::<usize>().saturating_sub(waiting);
            for octets in batch.plaintext() {
                let skipped = before.min(octets.len());
                before -= skipped;
                self.held.extend_from_slice(octets.get(skipped..).unwrap_or_default());
            }
        }
        waiting
    }

    /// The literal is complete, and what stands behind it may go on.
    pub(super) fn admits(&self, tail: &[u8]) -> bool {
        self.verifier.as_ref().is_none_or(GroupVerifier::is_complete)
            && is_plain_tail(tail, self.plan.clone())
    }
}

/// Whether what stands behind a literal may go on: it holds no mail, and nothing that the client shall not see.
pub(super) fn is_plain_tail(tail: &[u8], plan: Option<Rc<Plan>>) -> bool {
    is_plain(b"* 1 FETCH (", tail, plan, false).is_some()
}

/// Whether a response up to its literal is one of a whole message that could go on as it came.
pub(super) fn whole_message(prefix: &[u8], plan: Option<Rc<Plan>>) -> Option<(u32, AnsweredForm, Section)> {
    is_plain(prefix, b")\r\n", plan, true)
}

/// The message's UID, form and section, where a response with nothing in its literal would go on unchanged. Without
/// `has_mail`, it must hold no mail.
fn is_plain(
    prefix: &[u8],
    tail: &[u8],
    plan: Option<Rc<Plan>>,
    has_mail: bool,
) -> Option<(u32, AnsweredForm, Section)> {
    let mut unit = if has_mail {
        let brace = prefix.iter().rposition(|octet| *octet == b'{')?;
        if brace.checked_sub(1).and_then(|at| prefix.get(at)) == Some(&b'~') {
            return None;
        }
        [prefix.get(..brace)?, b"{0}\r\n"].concat()
    } else {
        [prefix, b"FLAGS ()"].concat()
    };
    unit.extend_from_slice(tail);
    let Ok(Response::Fetch(fetch)) = parse(&unit) else { return None };
    let contents = |fetch: &FetchResponse| {
        fetch.items.iter().filter(|item| matches!(item.kind, AnsweredKind::Content { .. })).count()
    };
    if contents(&fetch) != usize::from(has_mail) {
        return None;
    }
    let last = fetch.items.last().map(|item| item.kind.clone());
    let answer = Answer::of(fetch, &mut unit, plan).ok()?;
    if !answer.is_unchanged() {
        return None;
    }
    match last {
        _ if !has_mail => Some((0, AnsweredForm::Body, Section::default())),
        Some(AnsweredKind::Content { form, section, origin: None })
            if section.path.is_empty() && section.text == SectionText::Whole =>
        {
            Some((answer.uid()?, form, section))
        }
        _ => None,
    }
}
