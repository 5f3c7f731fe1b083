//! A place in the order of responses, from the verdict to the octets that the client gets.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future as _;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::answer::Answer;
use super::held::Held;
use super::output::Own;
use super::overwriting::{BeingOverwritten, Overwriting, Overwritten};
use super::recall::{ContentName, Recall};
use super::refusal::Refused;
use super::request::{no, tagged};
use super::terms::{InFlight, JudgedMail, MediationTerms, Subject};
use super::views::{Copies, CopyKey, JudgedCopy};
use crate::accept::HeldLease;
use crate::content::{ContentPiece, Judged};
use crate::vault::{GroupDigests, Loading, SpoolCopy, SpoolError, Storing};
use crate::words::Direction;

/// The commands that hear NO where a response has to be left out.
pub(super) type Blamed = Vec<Rc<Cell<Option<Refused>>>>;

/// A response, or a completion behind one, that cannot go on yet.
pub(super) enum Deferred {
    /// Mail, until it may be shown.
    Mail(Box<Mail>),
    /// What is left of it.
    Decided(Option<Own>),
    /// A command's completion, which mail before it may still change.
    Completion { tag: Box<[u8]>, line: Vec<u8>, refused: Rc<Cell<Option<Refused>>> },
}

/// A section to be kept: what it is, its first octet as served, and where it stands.
pub(super) type ToKeep = (CopyKey, Option<u8>, Range<usize>);

/// Mail on its way to the client.
pub(super) struct Mail {
    pub(super) answer: Answer,
    pub(super) sections: Vec<String>,
    pub(super) subject: Subject,
    /// The mailbox that it is of, as [`Copies::turn`] named it when it came.
    pub(super) turn: u64,
    pub(super) to_keep: Vec<ToKeep>,
    /// What header rules remove from it, behind the verdict.
    pub(super) overwriting: Option<Overwriting>,
    pub(super) blamed: Blamed,
    pub(super) stage: Stage,
}

/// What the mail waits for.
pub(super) enum Stage {
    /// What the memory knows of it.
    Recalling(Option<Box<Recalled>>),
    /// The verdict, and the name under which it is remembered.
    Judging(InFlight, Option<ContentName>),
    /// That what header rules remove is overwritten.
    Overwriting(BeingOverwritten),
    /// Room for copies of what the client reads in pieces. Without a copy a later piece could be of another version.
    Storing(Rc<Held>, VecDeque<(CopyKey, Option<u8>, Storing)>),
    /// Octets of copies.
    Loading(Rc<Held>, Box<Loads>),
}

/// Mail that may be known: what it is judged by if it is not.
pub(super) struct Recalled {
    pub(super) recall: Recall,
    /// The content.
    pub(super) range: Range<usize>,
    pub(super) octets: Vec<u8>,
    pub(super) lease: HeldLease,
    pub(super) pieces: Vec<ContentPiece>,
}

/// Octets that are read out of copies, one range after the other.
pub(super) struct Loads {
    wanted: VecDeque<(SpoolCopy, Range<u64>)>,
    loading: Option<Loading>,
    /// The range in progress.
    octets: Vec<u8>,
    lease: Option<HeldLease>,
    loaded: VecDeque<Rc<Held>>,
}

impl Loads {
    fn of(wanted: VecDeque<(SpoolCopy, Range<u64>)>) -> Self {
        Self { wanted, loading: None, octets: Vec::new(), lease: None, loaded: VecDeque::new() }
    }

    fn poll(&mut self, terms: &MediationTerms, cx: &mut Context<'_>) -> Poll<Result<(), SpoolError>> {
        while let Some((copy, range)) = self.wanted.front_mut() {
            if range.start >= range.end {
                let lease = self.lease.take().unwrap_or_else(|| terms.held.lease());
                let held = Held::new(std::mem::take(&mut self.octets), lease);
                self.loaded.push_back(Rc::new(held));
                self.wanted.pop_front();
                continue;
            }
            let loading = self.loading.get_or_insert_with(|| copy.load(range.clone()));
            let Poll::Ready(octets) = Pin::new(loading).poll(cx) else { return Poll::Pending };
            self.loading = None;
            let octets = octets?;
            let lease = self.lease.get_or_insert_with(|| terms.held.lease());
            if octets.is_empty() || !lease.try_grow(octets.len() as u64) {
                return Poll::Ready(Err(SpoolError::Full));
            }
            range.start = range.start.saturating_add(octets.len() as u64);
            self.octets.extend_from_slice(&octets);
        }
        Poll::Ready(Ok(()))
    }
}

impl Deferred {
    /// Go on as far as it can; whether something changed.
    pub(super) fn poll(&mut self, terms: &MediationTerms, copies: &mut Copies, cx: &mut Context<'_>) -> bool {
        let Self::Mail(mail) = self else { return false };
        let mut changed = false;
        loop {
            match mail.poll(terms, copies, cx) {
                Poll::Pending => return changed,
                Poll::Ready(Ok(Some(stage))) => mail.stage = stage,
                Poll::Ready(Ok(None)) => {
                    let own = mail.shown();
                    *self = Self::Decided(own);
                    return true;
                }
                Poll::Ready(Err(refused)) => {
                    terms.refused(&mail.subject, refused, Direction::ServerToClient);
                    mail.blamed.iter().for_each(|command| command.set(Some(refused)));
                    *self = Self::Decided(None);
                    return true;
                }
            }
            changed = true;
        }
    }

    /// What it is when it stands first, or itself where that is not known yet.
    pub(super) fn settle(self) -> Result<Option<Own>, Self> {
        match self {
            Self::Mail(_) => Err(self),
            Self::Decided(own) => Ok(own),
            Self::Completion { tag, line, refused } => Ok(Some(match refused.get() {
                Some(Refused::NotDone) => Own::words(tagged(&tag, "BAD", "DONE was expected")),
                Some(refused) => Own::words(no(&tag, refused)),
                None => Own::words(line),
            })),
        }
    }
}

impl Mail {
    /// The next stage, `None` where all is there.
    fn poll(
        &mut self,
        terms: &MediationTerms,
        copies: &mut Copies,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Stage>, Refused>> {
        match &mut self.stage {
            Stage::Recalling(recalled) => {
                let Some(asked) = recalled else { return Poll::Ready(Err(Refused::NotJudged)) };
                let Poll::Ready(known) = asked.recall.poll(cx) else { return Poll::Pending };
                let Some(asked) = recalled.take() else { return Poll::Ready(Err(Refused::NotJudged)) };
                Poll::Ready(self.recalled(terms, *asked, known).map(Some))
            }
            Stage::Judging(in_flight, name) => {
                let Poll::Ready(done) = in_flight.poll(cx) else { return Poll::Pending };
                let JudgedMail { judged, lease, copies, digests } = done;
                let Judged::Final { octets, leaves } = judged else {
                    return Poll::Ready(Err(Refused::NotJudged));
                };
                terms.report(&self.subject, Direction::ServerToClient, &leaves, &self.sections);
                if let (Some(recollection), Some(name), Some(digests)) = (terms.memory(), name, digests) {
                    recollection.remember(name, digests);
                }
                Poll::Ready(self.overwrite(terms, octets, lease, copies).map(Some))
            }
            Stage::Overwriting(being) => {
                let Poll::Ready(done) = being.poll(cx) else { return Poll::Pending };
                let Overwritten { octets, lease, copies } = match done {
                    Ok(overwritten) => overwritten,
                    Err(refused) => return Poll::Ready(Err(refused)),
                };
                Poll::Ready(self.store(terms, Rc::new(Held::new(octets, lease)), copies).map(Some))
            }
            Stage::Storing(held, storing) => {
                while let Some((key, first, stored)) = storing.front_mut() {
                    let Poll::Ready(copy) = Pin::new(stored).poll(cx) else { return Poll::Pending };
                    let Ok(copy) = copy else { return Poll::Ready(Err(Refused::NoRoom)) };
                    let copy = JudgedCopy::new(key.clone(), self.answer.number(), *first, copy);
                    copies.pin(copy, self.turn, Instant::now());
                    storing.pop_front();
                }
                let loads = Loads::of(self.answer.copied_ranges(copies));
                Poll::Ready(Ok(Some(Stage::Loading(Rc::clone(held), Box::new(loads)))))
            }
            Stage::Loading(_, loads) => match loads.poll(terms, cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(())) => Poll::Ready(Ok(None)),
                Poll::Ready(Err(_)) => Poll::Ready(Err(Refused::NoRoom)),
            },
        }
    }

    /// Mail is known, or it is judged.
    fn recalled(
        &mut self,
        terms: &MediationTerms,
        asked: Recalled,
        known: Option<Arc<GroupDigests>>,
    ) -> Result<Stage, Refused> {
        let Recalled { recall, range, octets, lease, pieces } = asked;
        let kept = copies_of_judged(&self.to_keep, self.overwriting.as_ref());
        let Some(recollection) = terms.memory() else { return Err(Refused::NotJudged) };
        let content = octets.get(range.clone()).unwrap_or_default();
        let is_known = known.map(|expected| recollection.knows(expected, content));
        if is_known == Some(false) {
            terms.has_changed(&recall.name);
        }
        if is_known == Some(true) {
            terms.counts.count_verified(1);
            let copies =
                kept.into_iter().map(|range| octets.get(range).unwrap_or_default().to_vec()).collect();
            return self.overwrite(terms, octets, lease, copies);
        }
        let in_flight = terms.begin(octets, lease, pieces, kept, Some(range))?;
        Ok(Stage::Judging(in_flight, Some(recall.name)))
    }

    /// Overwrite what header rules remove, and then keep copies. Without such rules these are the copies.
    fn overwrite(
        &mut self,
        terms: &MediationTerms,
        octets: Vec<u8>,
        lease: HeldLease,
        copies: Vec<Vec<u8>>,
    ) -> Result<Stage, Refused> {
        match self.overwriting.take() {
            None => self.store(terms, Rc::new(Held::new(octets, lease)), copies),
            Some(overwriting) => {
                let kept = ranges(&self.to_keep);
                overwriting.begin(terms, octets, lease, kept).map(Stage::Overwriting)
            }
        }
    }

    /// Keep copies of what the client reads in pieces.
    fn store(
        &mut self,
        terms: &MediationTerms,
        held: Rc<Held>,
        copies: Vec<Vec<u8>>,
    ) -> Result<Stage, Refused> {
        let mut storing = VecDeque::new();
        for ((key, first, _), octets) in self.to_keep.drain(..).zip(copies) {
            storing.push_back((key, first, terms.store(octets).ok_or(Refused::NoRoom)?));
        }
        Ok(Stage::Storing(held, storing))
    }

    /// Mail of which nothing has to be judged or kept.
    pub(super) fn judged(answer: Answer, stage: Stage, subject: Subject, turn: u64, blamed: Blamed) -> Self {
        let (sections, to_keep, overwriting) = (Vec::new(), Vec::new(), None);
        Self { answer, sections, subject, turn, to_keep, overwriting, blamed, stage }
    }

    /// The response, when all is there.
    fn shown(&mut self) -> Option<Own> {
        let Stage::Loading(held, loads) = &mut self.stage else { return None };
        self.answer.compose(held, &mut loads.loaded)
    }
}

/// What is copied with the verdict, to be kept: nothing where header rules change it first.
pub(super) fn copies_of_judged(to_keep: &[ToKeep], overwriting: Option<&Overwriting>) -> Vec<Range<usize>> {
    if overwriting.is_some() { Vec::new() } else { ranges(to_keep) }
}

fn ranges(to_keep: &[ToKeep]) -> Vec<Range<usize>> {
    to_keep.iter().map(|(_, _, range)| range.clone()).collect()
}
