//! The judgement of one case: every leaf in every reading, then the filling.

/// Whether octets look like a mail, or like a part of one.
mod form;
/// What was found, and what follows from it.
mod findings;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub(super) use self::form::is_mail;

use self::findings::{BlockFindings, Findings, conclude, deny_signed, whole};
use self::form::{GLANCE_BYTES, begins_message, has_parts, is_message, is_text};
use super::alphabet::sextet;
use super::fill::fill;
use super::header::{Facts, extent};
use super::limits::{ENCODED_DEPTH_MAX, WORK_BYTES_MIN, WORK_FACTOR, WORK_INSIDE_BYTES_MIN};
use super::loose::{Candidate, Candidates, SWEEP_BYTES, Sweep};
use super::magic::{HEAD_BYTES, may_go_on};
use super::reading::Reading;
use super::walk::{BeyondBounds, Block, BlockKind, Layout};
use super::{
    Case, Condition, ContentPiece, DeclaredEncodings, Judge, Judged, LeafDecision, LeafHead, LeafHint,
    LeafOutcome, LeafVerdict, RuleName, Shape, Unavailable,
};
use crate::config::SignedMail;

/// Octets of a container that are judged as the beginning of a leaf, should a client see one there.
const CONTAINER_BYTES: usize = 8 << 10;
/// Octets judged behind a line at which a program may begin.
const CANDIDATE_BYTES: usize = 64 << 10;

/// Judge every leaf of `case` in every reading, and overwrite what is forbidden. `cancelled` is looked at between two
/// pushes, and between the steps that need no judge.
/// This takes as long as its octets need: some 2 to 8 ns each for hard rules, and up to some 40 where a sender wants it
/// to be long. It belongs on a thread of a pool.
pub fn judge(case: Case, judge: &dyn Judge, cancelled: &AtomicBool) -> Judged {
    let Case { mut octets, pieces, describes_allowed } = case;
    let examine = |piece: &ContentPiece, denied: Option<&RuleName>| {
        let content = octets.get(piece.range.clone()).ok_or(Unavailable::NoSuchPiece)?;
        let work_left = WORK_BYTES_MIN.saturating_add(WORK_FACTOR.saturating_mul(content.len() as u64));
        let denied = denied.cloned();
        Examiner { judge, cancelled, describes_allowed, denied, work_left }.piece(content, &piece.shape)
    };
    let found = pieces.iter().map(|piece| examine(piece, None)).collect::<Result<Vec<_>, _>>();
    let mut found = match found {
        Ok(found) => found,
        Err(why) => return Judged::Unavailable { why },
    };
    // What denies one piece denies what came with it.
    if let Some(denied) = found.iter().find_map(|found| found.denied.clone()) {
        for (piece, found) in pieces.iter().zip(&mut found).filter(|(_, found)| found.denied.is_none()) {
            match examine(piece, Some(&denied)) {
                Ok(again) => *found = again,
                Err(why) => return Judged::Unavailable { why },
            }
        }
    }
    let mut leaves = Vec::new();
    for (index, (piece, found)) in pieces.iter().zip(found).enumerate() {
        leaves.extend(found.verdicts.into_iter().map(|verdict| LeafVerdict { piece: index, ..verdict }));
        for (range, removed) in found.removals {
            let range = range.start + piece.range.start..range.end + piece.range.start;
            if let Some(leaf) = octets.get_mut(range) {
                fill(leaf, &judge.terms().notice.text(&removed));
            }
        }
    }
    Judged::Final { octets, leaves }
}

/// A message inside a file: what its leaves weigh together.
pub(super) fn within(octets: &[u8], judge: &dyn Judge, cancelled: &AtomicBool) -> LeafDecision {
    let work_left = WORK_INSIDE_BYTES_MIN.saturating_add(WORK_FACTOR.saturating_mul(octets.len() as u64));
    let mut examiner = Examiner { judge, cancelled, describes_allowed: false, denied: None, work_left };
    match examiner.piece(octets, &Shape::Message) {
        Err(why) => why.into(),
        Ok(found) => found.weighed(),
    }
}

/// Why an examination ends early.
enum Stop {
    Beyond,
    Unavailable(Unavailable),
}

impl From<BeyondBounds> for Stop {
    fn from(_: BeyondBounds) -> Self {
        Self::Beyond
    }
}

struct Examiner<'j> {
    judge: &'j dyn Judge,
    cancelled: &'j AtomicBool,
    describes_allowed: bool,
    /// What denies the content, whatever is in it: another piece was found to be denied.
    denied: Option<RuleName>,
    work_left: u64,
}

impl Examiner<'_> {
    fn piece(&mut self, content: &[u8], shape: &Shape) -> Result<Findings, Unavailable> {
        let is_header = matches!(shape, Shape::Header);
        let begin = match shape {
            Shape::Message | Shape::Header => extent(content, 0, &|_| false).narrow,
            Shape::Body { .. } | Shape::Unknown { .. } => 0,
        };
        let found = if is_header {
            let behind = content.get(begin..).unwrap_or_default();
            if behind.trim_ascii().is_empty() {
                return Ok(Findings::default());
            }
            // The fields before it may be its own: a part without an empty line gives its content as `2.MIME`.
            let names = Facts::read(content.get(..begin).unwrap_or_default()).names;
            let hint = |name: String| LeafHint { name: Some(name.into_bytes()), ..LeafHint::default() };
            let shape = Shape::Unknown { hints: names.into_iter().map(hint).collect() };
            self.content(behind, &shape, 0).map(|found| found.moved(begin))
        } else {
            self.content(content, shape, 0)
        };
        match found {
            Ok(found) => Ok(found),
            Err(Stop::Unavailable(why)) => Err(why),
            Err(Stop::Beyond) => {
                let denied = self.denied.clone().map(LeafOutcome::Deny);
                let outcome = denied.unwrap_or_else(|| self.judge.terms().found(Condition::MimeLimits));
                Ok(whole(content, begin..content.len(), outcome))
            }
        }
    }

    /// One content, or a decoded message inside of it. The recursion ends at [`ENCODED_DEPTH_MAX`].
    fn content(&mut self, content: &[u8], shape: &Shape, depth: u32) -> Result<Findings, Stop> {
        self.go_on()?;
        let layout = Layout::new(content, shape)?;
        let mut blocks = Vec::with_capacity(layout.blocks.len());
        for index in 0..layout.blocks.len() {
            blocks.push(self.block(content, &layout, index, shape, depth)?);
        }
        let begin = layout.blocks.first().map_or(0, |top| top.extent.narrow);
        for (at, outcome) in self.loose(content, begin)? {
            // What stands in a header or a delimiter belongs to the content around it.
            let mut index = layout.block_at(at);
            while let Some(Block { parent: Some(parent), .. }) =
                layout.blocks.get(index).filter(|block| !block.widest().contains(&at))
            {
                index = *parent;
            }
            if let Some(found) = blocks.get_mut(index) {
                found.add(outcome.into())?;
            }
        }
        if self.judge.terms().signed == SignedMail::Deny {
            deny_signed(&layout, &mut blocks);
        }
        // Of what stands inside an encoded leaf, only the rule matters.
        let (describes_allowed, denied) = match depth {
            0 => (self.describes_allowed, self.denied.as_ref()),
            _ => (false, None),
        };
        Ok(conclude(content, &layout, &blocks, shape, (describes_allowed, denied)))
    }

    /// One block in every reading.
    fn block(
        &mut self,
        content: &[u8],
        layout: &Layout,
        index: usize,
        shape: &Shape,
        depth: u32,
    ) -> Result<BlockFindings, Stop> {
        let mut found = BlockFindings::default();
        let Some(block) = layout.blocks.get(index).filter(|block| !block.is_shadow()) else {
            return Ok(found);
        };
        let path = layout.path(index, shape);
        let is_container = is_container(layout, index, shape);
        let head = LeafHead {
            path: &path,
            names: &block.facts.names,
            declared_types: &block.facts.types,
            encodings: block.facts.encodings(),
            reading: Reading::Identity,
            is_beginning: is_container,
        };
        for range in ranges(block) {
            let octets = content.get(range.clone()).unwrap_or_default();
            let beginning = octets.get(..CONTAINER_BYTES).unwrap_or(octets);
            self.work(if is_container { beginning.len() } else { octets.len() })?;
            if is_container {
                for reading in Reading::of(beginning) {
                    found.add(self.examine(&LeafHead { reading, ..head.clone() }, beginning)?)?;
                }
            } else {
                self.go_on()?;
                let began = Instant::now();
                let decision = self.judge.leaf(&head, octets, self.cancelled);
                found.took = found.took.saturating_add(began.elapsed());
                found.add(decision)?;
            }
        }
        let is_encoded = block.facts.is_base64 || block.facts.is_quoted_printable;
        for range in ranges(block) {
            if !found.denies && (!is_container || is_encoded) {
                let octets = content.get(range).unwrap_or_default();
                // What was walked as a message would only be walked again.
                let was_walked = octets.len() == content.len() && *shape == Shape::Message;
                found.add(self.encoded(octets, content, (block, was_walked), depth)?)?;
            }
        }
        for condition in block.facts.conditions() {
            found.add(self.judge.terms().found(condition).into())?;
        }
        Ok(found)
    }

    fn examine(&mut self, head: &LeafHead<'_>, octets: &[u8]) -> Result<LeafDecision, Stop> {
        let mut examination = self.judge.begin(head);
        let mut may_go_on = Ok(());
        head.reading.decode(octets, &mut |decoded| {
            may_go_on = self.go_on();
            examination.push(decoded);
            may_go_on.is_ok()
        });
        may_go_on?;
        Ok(examination.finish())
    }

    /// A message or multipart in base64 or quoted-printable, or a message that no header declares: what it holds is
    /// judged, too. What forbids a leaf of it forbids the whole.
    fn encoded(
        &mut self,
        octets: &[u8],
        content: &[u8],
        (block, was_walked): (&Block, bool),
        depth: u32,
    ) -> Result<LeafDecision, Stop> {
        let mut decision = LeafDecision::default();
        for (reading, is_declared) in [
            (Reading::Identity, false),
            (Reading::Base64, block.facts.is_base64),
            (Reading::QuotedPrintable, block.facts.is_quoted_printable),
        ] {
            if reading == Reading::QuotedPrintable && !octets.contains(&b'=') {
                continue;
            }
            let is_multipart = block.facts.is_multipart();
            let is_known = is_declared && (is_multipart || block.facts.is_message());
            let glance = reading.decoded(octets.get(..GLANCE_BYTES).unwrap_or(octets));
            let may_be = is_text(&glance) || begins_message(&glance) != Some(false);
            if !is_known && !may_be {
                continue;
            }
            // The walk finds parts that no header declares, but not the header of a message in the middle of a leaf.
            if reading == Reading::Identity && (was_walked || !is_message(octets)) {
                continue;
            }
            self.work(octets.len())?;
            let inside = match reading {
                Reading::Identity => Cow::Borrowed(octets),
                Reading::Base64 | Reading::QuotedPrintable => Cow::Owned(reading.decoded(octets)),
            };
            // What decodes to itself is not encoded, and was judged as it stands.
            let is_encoded = inside.len() != octets.len() || reading == Reading::Identity;
            let looks = is_message(&inside) || is_text(&glance) && has_parts(&inside);
            if !is_encoded || !is_known && !looks {
                continue;
            }
            if depth >= ENCODED_DEPTH_MAX {
                return Err(Stop::Beyond);
            }
            let header = content.get(block.start..block.extent.wide).unwrap_or_default();
            let shape = if is_declared && is_multipart {
                Shape::Body { header: header.to_vec(), hints: Vec::new() }
            } else {
                Shape::Message
            };
            decision.add(self.content(&inside, &shape, depth + 1)?.weighed());
        }
        Ok(decision)
    }

    /// What is found without regard to structure: places, and the rules.
    fn loose(&mut self, content: &[u8], begin: usize) -> Result<BTreeMap<usize, LeafOutcome>, Stop> {
        let mut places = BTreeMap::new();
        let mut found = Vec::new();
        let mut sweep = Sweep::default();
        let mut at = begin;
        for chunk in content.get(begin..).unwrap_or_default().chunks(SWEEP_BYTES) {
            self.go_on()?;
            sweep.push(chunk, at, &mut found);
            at += chunk.len();
        }
        sweep.finish(at, &mut found);
        let eicar = self.judge.terms().eicar();
        places.extend(found.into_iter().map(|end| (place_within(content, end), eicar.clone())));
        let mut candidates = Candidates::new(content, begin);
        let mut looked_at = begin;
        while let Some(here) = candidates.next() {
            for candidate in here {
                let outcome = self.candidate(content, candidate)?;
                if outcome != LeafOutcome::Allow {
                    places.entry(candidate.at).or_insert(outcome);
                }
            }
            if candidates.at() - looked_at > SWEEP_BYTES {
                looked_at = candidates.at();
                self.go_on()?;
            }
        }
        Ok(places)
    }

    fn candidate(&mut self, content: &[u8], candidate: Candidate) -> Result<LeafOutcome, Stop> {
        let octets = content.get(candidate.at..).unwrap_or_default();
        let octets = octets.get(..CANDIDATE_BYTES).unwrap_or(octets);
        let reading = candidate.reading;
        // Most are text, of which each line may begin so: a table with country codes does (MZ, ZM).
        let begin = octets.get(..candidate_head_bytes(reading)).unwrap_or(octets);
        if !may_go_on(&reading.decoded(begin), octets.len()) {
            return Ok(LeafOutcome::Allow);
        }
        self.work(octets.len())?;
        let head = LeafHead {
            path: "",
            names: &[],
            declared_types: &[],
            encodings: DeclaredEncodings::default(),
            reading,
            is_beginning: true,
        };
        Ok(self.examine(&head, octets)?.outcome)
    }

    fn go_on(&self) -> Result<(), Stop> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Stop::Unavailable(Unavailable::Cancelled));
        }
        Ok(())
    }

    fn work(&mut self, octets: usize) -> Result<(), Stop> {
        self.work_left = self.work_left.checked_sub(octets as u64).ok_or(Stop::Beyond)?;
        Ok(())
    }
}

/// Octets that hold the first header of a program in this reading, and some that a client skips.
const fn candidate_head_bytes(reading: Reading) -> usize {
    match reading {
        Reading::Identity => HEAD_BYTES,
        Reading::Base64 => 2 * HEAD_BYTES,
        Reading::QuotedPrintable => 3 * HEAD_BYTES,
    }
}

/// A place inside a string that was found to end at `end`. A search that skips what is no base64 may see the end late,
/// behind the delimiter that ends the leaf: so the place is some characters of base64 before it. The string has more of
/// them in every reading.
fn place_within(content: &[u8], end: usize) -> usize {
    const BACK: usize = 24;
    let before = content.get(..=end).unwrap_or(content);
    let characters = before.iter().enumerate().rev().filter(|(_, octet)| sextet(**octet).is_some());
    characters.map(|(place, _)| place).nth(BACK).unwrap_or(end)
}

/// A block that is the content around others rather than a leaf.
fn is_container(layout: &Layout, index: usize, shape: &Shape) -> bool {
    let Some(block) = layout.blocks.get(index) else { return false };
    // Unknown content that has parts is what holds them; whatever is in it is found in the parts, or by the search.
    let holds = matches!(shape, Shape::Unknown { .. })
        && block.start == 0
        && layout.blocks.iter().any(|block| matches!(block.kind, BlockKind::Part | BlockKind::Guessed));
    block.is_container() || holds
}

/// Where the content of a block begins and ends, in all readings, without repetition.
fn ranges(block: &Block) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let begins = [block.extent.narrow, block.extent.wide];
    let end_max = if block.kind == BlockKind::Guessed { block.end } else { block.end_max };
    for end in [block.end, end_max] {
        for begin in begins {
            let range = begin..end.max(begin);
            if !ranges.contains(&range) && (ranges.is_empty() || begin < end) {
                ranges.push(range);
            }
        }
    }
    ranges
}
