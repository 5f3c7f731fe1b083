//! The judge of complete leaves: what a file is, what rules and scanners say of it, and the same of each file inside of it.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::eicar::Eicar;
use super::magic::real_type;
use super::open::{self, Conditions, Member, OpenBounds, OpenLimits, Visit, encodings};
use super::rules::{FilePlace, RuledFile, Rules};
use super::scan::{ScanOutcome, ScannedFile, Scanner};
use super::{
    Condition, ContentTerms, Examination, Judge, LeafDecision, LeafHead, LeafOutcome, Reading, RealType,
    Unavailable, judge,
};

/// Judges complete leaves. What it calls reads files that strangers made, and belongs into a process of its own.
pub struct LeafJudge {
    rules: Arc<Rules>,
    scanners: Vec<Arc<dyn Scanner>>,
    limits: OpenLimits,
}

impl LeafJudge {
    /// With these rules and scanners.
    #[must_use]
    pub fn new(rules: Arc<Rules>, scanners: Vec<Arc<dyn Scanner>>, limits: OpenLimits) -> Self {
        Self { rules, scanners, limits }
    }
}

impl Judge for LeafJudge {
    fn begin(&self, leaf: &LeafHead<'_>) -> Box<dyn Examination + Send> {
        self.rules.begin(leaf)
    }

    fn leaf(&self, leaf: &LeafHead<'_>, octets: &[u8], cancelled: &AtomicBool) -> LeafDecision {
        let mut bounds = OpenBounds::new(self.limits);
        self.leaf_within(leaf, octets, cancelled, &mut bounds, 0)
    }

    fn terms(&self) -> &ContentTerms {
        self.rules.terms()
    }
}

impl LeafJudge {
    /// A leaf at this depth of files inside each other, within what is left of the bounds.
    fn leaf_within(
        &self,
        leaf: &LeafHead<'_>,
        octets: &[u8],
        cancelled: &AtomicBool,
        bounds: &mut OpenBounds,
        depth: u32,
    ) -> LeafDecision {
        let mut decision = self.rules.leaf(leaf, octets, cancelled);
        let mut plain = LeafDecision::default();
        // Another reading may show that the file is whole.
        let mut broken = None;
        for reading in Reading::of(octets) {
            if decision.outcome.is_last() {
                break;
            }
            let look = Look { is_in_document: false, judge: self, cancelled, bounds };
            let decoded = match reading {
                Reading::Identity => Cow::Borrowed(octets),
                Reading::Base64 | Reading::QuotedPrintable => Cow::Owned(reading.decoded(octets)),
            };
            let looked = look.leaf(leaf, decoded, depth);
            if reading == Reading::Identity {
                plain = looked.clone();
            } else if !leaf.encodings.demand(reading) && self.is_misread(&plain, &looked) {
                continue;
            }
            let looked = match reading {
                Reading::Identity if looked.outcome.is_removed_as_broken() => {
                    let real_type = looked.real_type;
                    broken = Some(looked);
                    LeafDecision { real_type, ..LeafDecision::default() }
                }
                Reading::QuotedPrintable if is_whole_decoded(&plain, &looked, octets) => {
                    broken = None;
                    looked
                }
                _ => looked,
            };
            // Every encoded leaf is a text, too.
            if decision.real_type == Some(RealType::Text) {
                decision.real_type = looked.real_type.or(decision.real_type);
            }
            decision.add(looked);
        }
        if let Some(broken) = broken {
            decision.add(broken);
        }
        decision
    }

    /// Whether a file is damaged by being decoded alone, as no header demands: it is of the same type as it stands, and
    /// whole. What of it can be read in both ways was judged in both.
    fn is_misread(&self, plain: &LeafDecision, decoded: &LeafDecision) -> bool {
        let broken = self.rules.found(Condition::BrokenFile);
        !broken.is_last()
            && plain.real_type.is_some()
            && plain.real_type == decoded.real_type
            && decoded.outcome == broken
            && plain.outcome != broken
    }
}

/// Judges the leaves of a mail inside a file: what is left of the bounds of the outermost leaf is left for all of them.
struct WithinFile<'l> {
    judge: &'l LeafJudge,
    bounds: Mutex<OpenBounds>,
    depth: u32,
}

impl Judge for WithinFile<'_> {
    fn begin(&self, leaf: &LeafHead<'_>) -> Box<dyn Examination + Send> {
        self.judge.begin(leaf)
    }

    fn leaf(&self, leaf: &LeafHead<'_>, octets: &[u8], cancelled: &AtomicBool) -> LeafDecision {
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = bounds.member().and_then(|()| bounds.octets(octets.len() as u64));
        if taken.is_err() || self.depth >= bounds.limits().depth {
            return self.judge.rules.found(Condition::ArchiveLimits).into();
        }
        self.judge.leaf_within(leaf, octets, cancelled, &mut bounds, self.depth)
    }

    fn terms(&self) -> &ContentTerms {
        self.judge.rules.terms()
    }
}

/// A look at one leaf.
struct Look<'l> {
    /// The member that is looked at is a part of a document.
    is_in_document: bool,
    judge: &'l LeafJudge,
    cancelled: &'l AtomicBool,
    bounds: &'l mut OpenBounds,
}

impl Look<'_> {
    fn leaf(mut self, head: &LeafHead<'_>, octets: Cow<'_, [u8]>, depth: u32) -> LeafDecision {
        let (names, declared_types) = (head.names.to_vec(), head.declared_types.to_vec());
        self.file(&Member { names, declared_types, octets }, depth, false)
    }

    /// A file, and what is in it. The recursion ends at the depth of [`OpenLimits`].
    fn file(&mut self, file: &Member<'_>, depth: u32, is_member: bool) -> LeafDecision {
        if self.cancelled.load(Ordering::Relaxed) {
            return Unavailable::Cancelled.into();
        }
        let real_type = real_type(&file.octets);
        let mut decision = LeafDecision { real_type, ..LeafDecision::default() };
        let place = match (is_member, self.is_in_document) {
            (false, _) => FilePlace::Part,
            (true, false) => FilePlace::Inside,
            (true, true) => FilePlace::InDocument,
        };
        let ruling = self.judge.rules.file(&RuledFile {
            names: &file.names,
            declared_types: &file.declared_types,
            real_type,
            octets: &file.octets,
            place,
        });
        decision.add(ruling.outcome.into());
        if is_member {
            // A leaf itself is searched by the rules, in every reading.
            let mut eicar = Eicar::default();
            eicar.push(&file.octets);
            if eicar.is_found() {
                decision.add(self.judge.rules.terms().eicar().into());
            }
        }
        if !ruling.is_scanned {
            return decision;
        }
        self.scan(file, is_member, &mut decision);
        if decision.outcome.is_last() {
            return decision;
        }
        let opened = real_type.filter(|real| open::opens(*real));
        let open::PlacesBeside { places: beside, are_all } = open::beside(real_type, &file.octets);
        let holds_files = encodings::may_hold(&file.octets);
        // The walk itself reads a mail that is a leaf of another one, in every reading.
        let is_mail = is_member && (real_type == Some(RealType::Message) || judge::is_mail(&file.octets));
        // A browser reads as a page what is called one, also behind a NUL or the mark of another type.
        let is_page = !matches!(real_type, Some(RealType::Html | RealType::Svg | RealType::Xml))
            && is_called_page(file);
        if opened.is_none() && beside.is_empty() && !holds_files && !is_mail && !is_page {
            return decision;
        }
        if depth >= self.bounds.limits().depth {
            decision.add(self.judge.rules.found(Condition::ArchiveLimits).into());
            return decision;
        }
        if let Some(real) = opened {
            self.is_in_document = matches!(real, RealType::Ooxml | RealType::Odf);
            self.members(depth, &mut decision, |bounds, visit| open::open(real, &file.octets, bounds, visit));
            self.is_in_document = false;
        }
        if !are_all {
            decision.add(self.judge.rules.found(Condition::ArchiveLimits).into());
        }
        for beside in beside {
            if decision.outcome.is_last() {
                return decision;
            }
            self.members(depth, &mut decision, |bounds, visit| {
                open::open_beside(beside, &file.octets, bounds, visit)
            });
        }
        if is_page && !decision.outcome.is_last() {
            self.members(depth, &mut decision, |bounds, visit| {
                let mut conditions = open::open(RealType::Html, &file.octets, bounds, visit);
                conditions.remove(&Condition::BrokenFile);
                conditions
            });
        }
        if holds_files && !decision.outcome.is_last() {
            self.members(depth, &mut decision, |bounds, visit| encodings::open(&file.octets, bounds, visit));
        }
        if is_mail && !decision.outcome.is_last() {
            let within = WithinFile {
                judge: self.judge,
                bounds: Mutex::new(*self.bounds),
                depth: depth.saturating_add(1),
            };
            decision.add(judge::within(&file.octets, &within, self.cancelled));
            *self.bounds = within.bounds.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        decision
    }

    /// Everything that an opener finds in a file.
    fn members(
        &mut self,
        depth: u32,
        decision: &mut LeafDecision,
        open: impl FnOnce(&mut OpenBounds, &mut Visit<'_>) -> Conditions,
    ) {
        let mut bounds = *self.bounds;
        let conditions = open(&mut bounds, &mut |bounds, member| {
            *self.bounds = *bounds;
            let is_in_document = self.is_in_document;
            let inside = self.file(&member, depth.saturating_add(1), true);
            self.is_in_document = is_in_document;
            *bounds = *self.bounds;
            let named = inside.member.into_iter();
            let path = member.names.first().cloned().into_iter().chain(named).collect::<Vec<_>>();
            let is_noted = inside.outcome != LeafOutcome::Allow;
            let member = is_noted.then(|| path.join(MEMBER_SEPARATOR));
            decision.add(LeafDecision { real_type: None, member, outcome: inside.outcome });
            if decision.outcome.is_last() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        *self.bounds = bounds;
        for condition in conditions {
            decision.add(self.judge.rules.found(condition).into());
        }
    }

    fn scan(&self, file: &Member<'_>, is_member: bool, decision: &mut LeafDecision) {
        let scanned = ScannedFile {
            names: &file.names,
            real_type: decision.real_type,
            octets: &file.octets,
            is_member,
        };
        for scanner in &self.judge.scanners {
            if decision.outcome.is_last() {
                return;
            }
            decision.add(match scanner.scan(&scanned, self.cancelled) {
                ScanOutcome::Clean => LeafDecision::default(),
                ScanOutcome::Found(signature) => self.judge.rules.virus(scanner.name(), signature).into(),
                ScanOutcome::CannotScan => self.judge.rules.found(Condition::CannotScan).into(),
                ScanOutcome::Unavailable => Unavailable::JudgeDown.into(),
            });
        }
    }
}

/// Whether a file that is broken as it stands is whole once it is decoded: PDF and PostScript are known in both forms.
/// Only what is quoted-printable by its form is excused so.
fn is_whole_decoded(plain: &LeafDecision, decoded: &LeafDecision, octets: &[u8]) -> bool {
    plain.real_type.is_some()
        && plain.real_type == decoded.real_type
        && !decoded.outcome.is_removed_as_broken()
        && is_quoted_printable(octets)
}

/// Octets of a line in quoted-printable, with its CR.
const QUOTED_LINE_BYTES_MAX: usize = 77;

/// Whether octets have the form of quoted-printable: short lines of ASCII, of which some go on.
fn is_quoted_printable(octets: &[u8]) -> bool {
    octets.is_ascii()
        && memchr::memmem::find(octets, b"=\r\n").is_some()
        && octets.split(|octet| *octet == b'\n').all(|line| line.len() <= QUOTED_LINE_BYTES_MAX)
}

/// Whether a file is opened as a page by what is declared of it, whatever its octets begin with.
fn is_called_page(file: &Member<'_>) -> bool {
    const EXTENSIONS: [&str; 7] = ["html", "htm", "shtml", "shtm", "xhtml", "xht", "svg"];
    let is_declared = file.declared_types.iter().any(|kind| kind.contains("html") || kind.contains("svg"));
    let extension = |name: &String| {
        let (_, extension) = name.trim_end_matches([' ', '.']).rsplit_once('.')?;
        Some(EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
    };
    is_declared || file.names.iter().any(|name| extension(name) == Some(true))
}

/// Stands between the names of files inside each other.
const MEMBER_SEPARATOR: &str = " » ";

#[cfg(test)]
mod tests;
