//! The judgement of one case: every leaf in every reading, then the filling.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::alphabet::sextet;
use super::fill::{deny_text, fill};
use super::header::{Facts, extent, field, is_content_field, line_at};
use super::leaf_file::LeafFile;
use super::loose::{Candidate, Candidates, SWEEP_BYTES, Sweep};
use super::magic::{HEAD_BYTES, may_go_on};
use super::reading::Reading;
use super::walk::{BeyondBounds, Block, BlockKind, Layout};
use super::{
    Case, Condition, ContentAction, Judge, Judged, LeafDecision, LeafHead, LeafHint, LeafOutcome,
    LeafVerdict, RealType, RuleName, Shape, Unavailable,
};

/// Octets of a container that are judged as the beginning of a leaf, should a client see one there.
const CONTAINER_BYTES: usize = 8 << 10;
/// Octets judged behind a line at which a program may begin.
const CANDIDATE_BYTES: usize = 64 << 10;
/// Encoded messages inside each other. No honest mail has two.
const ENCODED_DEPTH_MAX: u32 = 16;
/// Octets that may be judged in one piece: its leaves once, and then what overlaps (readings, encoded messages, lines at
/// which a program may begin). As a multiple of its own octets, and more for small ones. It keeps the time linear.
const WORK_FACTOR: u64 = 16;
const WORK_BYTES_MIN: u64 = 2 << 20;
/// Header fields that are looked at to see whether something is a message.
const FIELDS_MAX: usize = 50;

/// Judge every leaf of `case` in every reading, and overwrite what is forbidden. `cancelled` is looked at between two
/// pushes, and between the steps that need no judge.
/// This takes as long as its octets need: some 2 to 8 ns each for hard rules, and up to some 40 where a sender wants it
/// to be long. It belongs on a thread of a pool.
pub fn judge(case: Case, judge: &dyn Judge, cancelled: &AtomicBool) -> Judged {
    let Case { mut octets, pieces, describes_allowed } = case;
    let mut leaves = Vec::new();
    let mut removals = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let Some(content) = octets.get(piece.range.clone()) else {
            return Judged::Unavailable { why: Unavailable::NoSuchPiece };
        };
        let mut examiner = Examiner {
            judge,
            cancelled,
            describes_allowed,
            work_left: WORK_BYTES_MIN.saturating_add(WORK_FACTOR.saturating_mul(content.len() as u64)),
        };
        match examiner.piece(content, &piece.shape) {
            Ok(found) => {
                leaves.extend(
                    found.verdicts.into_iter().map(|verdict| LeafVerdict { piece: index, ..verdict }),
                );
                let at = |range: Range<usize>| range.start + piece.range.start..range.end + piece.range.start;
                removals.extend(found.removals.into_iter().map(|(range, rule)| (at(range), rule)));
            }
            Err(why) => return Judged::Unavailable { why },
        }
    }
    for (range, rule) in removals {
        if let Some(leaf) = octets.get_mut(range) {
            fill(leaf, &deny_text(&rule));
        }
    }
    Judged::Final { octets, leaves }
}

/// A message inside a file: what its leaves weigh together.
pub(super) fn within(octets: &[u8], judge: &dyn Judge, cancelled: &AtomicBool) -> LeafDecision {
    let work_left = WORK_BYTES_MIN.saturating_add(WORK_FACTOR.saturating_mul(octets.len() as u64));
    let mut examiner = Examiner { judge, cancelled, describes_allowed: false, work_left };
    let mut decision = LeafDecision::default();
    match examiner.piece(octets, &Shape::Message) {
        Err(why) => decision.add(why.into()),
        Ok(found) => {
            for LeafVerdict { name, member, rule, action, .. } in found.verdicts {
                let Some(rule) = rule else { continue };
                let outcome = match action {
                    ContentAction::Allow => LeafOutcome::Note(rule),
                    ContentAction::Remove => LeafOutcome::Remove(rule),
                    ContentAction::Deny => LeafOutcome::Deny(rule),
                };
                decision.add(LeafDecision { real_type: None, member: member.or(name), outcome });
            }
        }
    }
    decision
}

/// What was found in one content.
#[derive(Default)]
struct Findings {
    verdicts: Vec<LeafVerdict>,
    /// Disjoint, in order.
    removals: Vec<(Range<usize>, RuleName)>,
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
    work_left: u64,
}

/// What the readings of a block gave.
#[derive(Default)]
struct BlockFindings {
    real_type: Option<RealType>,
    member: Option<String>,
    /// What forbids it.
    rule: Option<RuleName>,
    /// It forbids all that is judged with it, too.
    denies: bool,
    /// What was found, and is allowed to be.
    noted: Option<RuleName>,
}

impl BlockFindings {
    fn add(&mut self, decision: LeafDecision) -> Result<(), Stop> {
        self.real_type = self.real_type.or(decision.real_type);
        let LeafDecision { member, outcome, .. } = decision;
        match outcome {
            LeafOutcome::Allow => {}
            LeafOutcome::Note(rule) => {
                if self.rule.is_none() && self.noted.is_none() {
                    (self.noted, self.member) = (Some(rule), member);
                }
            }
            LeafOutcome::Remove(rule) => {
                if self.rule.is_none() {
                    (self.rule, self.member) = (Some(rule), member);
                }
            }
            LeafOutcome::Deny(rule) => {
                if !self.denies {
                    (self.rule, self.member, self.denies) = (Some(rule), member, true);
                }
            }
            LeafOutcome::Unavailable(why) => return Err(Stop::Unavailable(why)),
        }
        Ok(())
    }
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
            Err(Stop::Beyond) => Ok(whole(content, begin..content.len())),
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
        for (at, rule) in self.loose(content, begin)? {
            // What stands in a header or a delimiter belongs to the content around it.
            let mut index = layout.block_at(at);
            while let Some(Block { parent: Some(parent), .. }) =
                layout.blocks.get(index).filter(|block| !block.widest().contains(&at))
            {
                index = *parent;
            }
            if let Some(found) = blocks.get_mut(index) {
                found.rule.get_or_insert(rule);
            }
        }
        // Of what stands inside an encoded leaf, only the rule matters.
        Ok(conclude(content, &layout, &blocks, shape, self.describes_allowed && depth == 0))
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
                found.add(self.judge.leaf(&head, octets, self.cancelled))?;
            }
        }
        if found.rule.is_none() && (!is_container || block.facts.is_base64 || block.facts.is_quoted_printable)
        {
            for range in ranges(block) {
                let octets = content.get(range).unwrap_or_default();
                if let Some(rule) = self.encoded(octets, content, block, depth)? {
                    found.rule = Some(rule);
                    break;
                }
            }
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

    /// A message or multipart in base64 or quoted-printable: what it holds is judged, too. The rule that forbids a leaf
    /// of it forbids the whole.
    fn encoded(
        &mut self,
        octets: &[u8],
        content: &[u8],
        block: &Block,
        depth: u32,
    ) -> Result<Option<RuleName>, Stop> {
        for (reading, is_declared) in [
            (Reading::Base64, block.facts.is_base64),
            (Reading::QuotedPrintable, block.facts.is_quoted_printable),
        ] {
            if reading == Reading::QuotedPrintable && !octets.contains(&b'=') {
                continue;
            }
            let is_multipart = block.facts.is_multipart();
            let is_known = is_declared && (is_multipart || block.facts.is_message());
            let glance = reading.decoded(octets.get(..GLANCE_BYTES).unwrap_or(octets));
            if !is_known && !is_text(&glance) {
                continue;
            }
            self.work(octets.len())?;
            let inside = reading.decoded(octets);
            // What decodes to itself is not encoded, and was judged as it stands.
            let is_encoded = inside.len() != octets.len();
            if !is_encoded || !is_known && !is_message(&inside) && !has_parts(&inside) {
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
            let found = self.content(&inside, &shape, depth + 1)?;
            if let Some((_, rule)) = found.removals.into_iter().next() {
                return Ok(Some(rule));
            }
        }
        Ok(None)
    }

    /// What is found without regard to structure: places, and the rules.
    fn loose(&mut self, content: &[u8], begin: usize) -> Result<BTreeMap<usize, RuleName>, Stop> {
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
        places.extend(found.into_iter().map(|end| (place_within(content, end), RuleName::Eicar)));
        let mut candidates = Candidates::new(content, begin);
        let mut looked_at = begin;
        while let Some(here) = candidates.next() {
            for candidate in here {
                if let Some(rule) = self.candidate(content, candidate)? {
                    places.entry(candidate.at).or_insert(rule);
                }
            }
            if candidates.at() - looked_at > SWEEP_BYTES {
                looked_at = candidates.at();
                self.go_on()?;
            }
        }
        Ok(places)
    }

    fn candidate(&mut self, content: &[u8], candidate: Candidate) -> Result<Option<RuleName>, Stop> {
        let octets = content.get(candidate.at..).unwrap_or_default();
        let octets = octets.get(..CANDIDATE_BYTES).unwrap_or(octets);
        let reading = candidate.reading;
        // Most are text, of which each line may begin so: a table with country codes does (MZ, ZM).
        let begin = octets.get(..candidate_head_bytes(reading)).unwrap_or(octets);
        if !may_go_on(&reading.decoded(begin), octets.len()) {
            return Ok(None);
        }
        self.work(octets.len())?;
        let head = LeafHead { path: "", names: &[], declared_types: &[], reading, is_beginning: true };
        let mut found = BlockFindings::default();
        found.add(self.examine(&head, octets)?)?;
        Ok(found.rule)
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

/// Octets that are decoded to see whether they begin a message.
const GLANCE_BYTES: usize = 4 << 10;

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

/// Whether octets may be text. Messages are; files that are none need not be decoded to look for parts.
fn is_text(octets: &[u8]) -> bool {
    !octets
        .iter()
        .any(|octet| *octet == 0x7f || *octet < 32 && !octet.is_ascii_whitespace() && *octet != 0x1b)
}

/// Whether somewhere a field called `Content-…` follows a line that begins like a delimiter.
fn has_parts(octets: &[u8]) -> bool {
    let mut at = 0;
    let mut is_behind = false;
    while let Some(line) = line_at(octets, at) {
        at = line.next;
        let text = octets.get(line.range).unwrap_or_default();
        if is_behind && is_content_field(text) {
            return true;
        }
        is_behind = text.starts_with(b"--");
    }
    false
}

/// Whether octets begin like a message or a multipart.
fn is_message(octets: &[u8]) -> bool {
    const KNOWN: [&[u8]; 8] =
        [b"MIME-Version", b"From", b"To", b"Date", b"Received", b"Return-Path", b"Message-ID", b"Subject"];
    let mut at = 0;
    for number in 0..FIELDS_MAX {
        let Some(line) = line_at(octets, at) else { return false };
        at = line.next;
        let text = octets.get(line.range).unwrap_or_default();
        let is_known =
            field(text).is_some_and(|(name, _)| KNOWN.iter().any(|known| name.eq_ignore_ascii_case(known)));
        if is_known || is_content_field(text) {
            return true;
        }
        let may_go_on = number == 0
            && (text.is_empty() || text.starts_with(b"--") || text.starts_with(b"From "))
            || field(text).is_some()
            || matches!(text, [b' ' | b'\t', ..]);
        if !may_go_on {
            return false;
        }
    }
    false
}

impl Findings {
    fn moved(mut self, by: usize) -> Self {
        for (range, _) in &mut self.removals {
            *range = range.start + by..range.end + by;
        }
        self
    }
}

/// All of the content is removed, since it cannot be judged.
fn whole(content: &[u8], range: Range<usize>) -> Findings {
    let octets = content.get(range.clone()).unwrap_or_default();
    let verdict = LeafVerdict {
        piece: 0,
        path: String::new(),
        name: None,
        declared_type: None,
        real_type: None,
        member: None,
        file: Some(LeafFile::read(octets, Reading::Identity)),
        rule: Some(RuleName::Condition(Condition::MimeLimits)),
        action: ContentAction::Remove,
    };
    Findings { verdicts: vec![verdict], removals: vec![(range, RuleName::Condition(Condition::MimeLimits))] }
}

/// Verdicts and removals. What lies in a removed block goes with it; blocks that overlap are removed as one.
fn conclude(
    content: &[u8],
    layout: &Layout,
    blocks: &[BlockFindings],
    shape: &Shape,
    describes_allowed: bool,
) -> Findings {
    let denying = blocks.iter().filter(|found| found.denies).find_map(|found| found.rule.as_ref());
    let mut removals: Vec<(Range<usize>, RuleName)> = Vec::new();
    for (index, (block, found)) in layout.blocks.iter().zip(blocks).enumerate() {
        // What goes with the message are its leaves; the skeleton stays.
        let denied = denying.filter(|_| !block.is_shadow() && !is_container(layout, index, shape));
        if let Some(rule) = found.rule.as_ref().or(denied) {
            removals.push((block.widest(), rule.clone()));
        }
    }
    removals.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
    removals.dedup_by(|later, earlier| {
        let overlaps = later.0.start < earlier.0.end;
        if overlaps {
            earlier.0.end = earlier.0.end.max(later.0.end);
        }
        overlaps
    });
    let mut verdicts = Vec::new();
    for (index, (block, found)) in layout.blocks.iter().zip(blocks).enumerate() {
        let widest = block.widest();
        let around = removals.partition_point(|(range, _)| range.start <= widest.start).checked_sub(1);
        let around = around.and_then(|at| removals.get(at)).filter(|(range, _)| widest.start < range.end);
        let rule = found.rule.clone().or_else(|| around.map(|(_, rule)| rule.clone()));
        let action = match &rule {
            None => ContentAction::Allow,
            Some(_) if denying.is_some() => ContentAction::Deny,
            Some(_) => ContentAction::Remove,
        };
        let is_leaf = match block.kind {
            BlockKind::Top | BlockKind::Part | BlockKind::Nested => {
                !block.is_shadow() && (!is_container(layout, index, shape) || !block.facts.names.is_empty())
            }
            BlockKind::Epilogue | BlockKind::Guessed => false,
        };
        if !is_leaf && found.rule.is_none() && found.noted.is_none() {
            continue;
        }
        let leaf = block.extent.narrow..block.end.max(block.extent.narrow);
        let is_described = describes_allowed || rule.is_some() || found.noted.is_some();
        let file = is_described.then(|| LeafFile::of(content.get(leaf).unwrap_or_default(), &block.facts));
        let name = match &found.rule {
            Some(RuleName::Name { name, .. }) => Some(name.clone()),
            _ => block.facts.names.first().cloned(),
        };
        verdicts.push(LeafVerdict {
            piece: 0,
            path: layout.path(index, shape),
            name,
            declared_type: block.facts.types.first().cloned(),
            real_type: found.real_type,
            file,
            member: found.member.clone(),
            action,
            rule: rule.or_else(|| found.noted.clone()),
        });
    }
    Findings { verdicts, removals }
}
