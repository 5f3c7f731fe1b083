//! What stands where in a message, in every reading.
//!
//! Clients and servers disagree about malformed mail: which of two Content-Types counts, whether a boundary may be
//! followed by more characters, where a header ends. The walk does not choose. Every line that begins with `--` and any
//! boundary that any header declared begins a block, and each block knows where it ends at the earliest (the next line
//! of that kind) and at the latest (the next line of its own boundary, where that of its container does not come first).
//! All readings lie between the two. It is one pass in linear time, without recursion.

mod boundaries;

use std::ops::Range;

use self::boundaries::{Boundaries, Match};
use super::Shape;
use super::header::{Extent, Facts, extent, is_content_field, line_at};
use super::limits::{BLOCKS_MAX, DEPTH_MAX};

/// The content is built so that it cannot be judged within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the content is beyond the bounds of what is judged")]
pub struct BeyondBounds;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// The content itself.
    Top,
    /// Behind a delimiter.
    Part,
    /// The message in a `message/rfc822`.
    Nested,
    /// Behind the last delimiter of a multipart. No client shows it; some readings make it a part.
    Epilogue,
    /// Behind a line that looks like a delimiter, though no header declares it.
    Guessed,
}

/// A header and what stands behind it.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) kind: BlockKind,
    pub(super) parent: Option<usize>,
    /// Where the line begins that begins the block.
    pub(super) start: usize,
    /// Where its content begins.
    pub(super) extent: Extent,
    /// Where its content ends at the earliest and at the latest.
    pub(super) end: usize,
    pub(super) end_max: usize,
    pub(super) facts: Facts,
    depth: u32,
    number: u32,
    parts: u32,
}

impl Block {
    /// Whether every client sees a container here, and none a leaf.
    pub(super) fn is_container(&self) -> bool {
        self.facts.is_container() && self.extent.narrow == self.extent.wide
    }

    /// Whether a block stands for nothing: unknown content was read as a message, and there is no header.
    pub(super) fn is_shadow(&self) -> bool {
        self.kind == BlockKind::Nested && self.start == 0 && self.facts == Facts::default()
    }

    /// Everything that some client may read as its content.
    pub(super) fn widest(&self) -> Range<usize> {
        self.extent.narrow..self.end_max.max(self.extent.narrow)
    }
}

/// The blocks of one content, in order of place. The first one is the content itself.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(super) blocks: Vec<Block>,
}

impl Layout {
    /// Walk through `content`.
    ///
    /// # Errors
    /// It has more blocks, boundaries, names or levels than the bounds.
    pub fn new(content: &[u8], shape: &Shape) -> Result<Self, BeyondBounds> {
        let mut walker =
            Walker { content, blocks: Vec::new(), boundaries: Boundaries::default(), lines: Vec::new() };
        walker.begin(shape)?;
        walker.go_on()?;
        walker.finish();
        Ok(Self { blocks: walker.blocks })
    }

    /// How many blocks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there is no block. There is always one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The index of the block in which an octet stands.
    pub(super) fn block_at(&self, at: usize) -> usize {
        self.blocks.partition_point(|block| block.start <= at).saturating_sub(1)
    }

    /// The part number, as IMAP counts (RFC 9051 section 6.4.5).
    pub(super) fn path(&self, block: usize, shape: &Shape) -> String {
        let mut numbers = Vec::new();
        let mut at = self.blocks.get(block);
        let mut is_first = true;
        while let Some(block) = at {
            let is_message = match block.kind {
                BlockKind::Top => matches!(shape, Shape::Message),
                BlockKind::Nested => true,
                BlockKind::Part | BlockKind::Epilogue | BlockKind::Guessed => false,
            };
            if block.kind == BlockKind::Part {
                numbers.push(block.number);
            } else if is_first && is_message && !block.facts.is_multipart() {
                numbers.push(1);
            }
            is_first = false;
            at = block.parent.and_then(|parent| self.blocks.get(parent));
        }
        numbers.reverse();
        numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
    }
}

/// A line that begins a block, and what it matches.
struct DelimiterLine {
    block: usize,
    matches: Vec<Reach>,
}

/// One boundary that a line matches, and how far the block behind the line reaches in that reading.
struct Reach {
    found: Match,
    /// The blocks that declare the boundary: the first one and the last one so far.
    declared: (usize, usize),
    /// Where the next line of the boundary ends the content.
    next: Option<usize>,
}

struct Walker<'c> {
    content: &'c [u8],
    blocks: Vec<Block>,
    boundaries: Boundaries,
    lines: Vec<DelimiterLine>,
}

impl Walker<'_> {
    fn begin(&mut self, shape: &Shape) -> Result<(), BeyondBounds> {
        let mut facts = match shape {
            Shape::Message | Shape::Header => {
                return self.open(BlockKind::Top, None, 0, 0);
            }
            Shape::Body { header, .. } => Facts::read(header),
            Shape::Unknown { .. } => Facts::default(),
        };
        if let Shape::Body { hints, .. } | Shape::Unknown { hints } = shape {
            hints.iter().for_each(|hint| facts.add_hint(hint));
        }
        let is_unknown = matches!(shape, Shape::Unknown { .. });
        let is_message = facts.is_message() || is_unknown;
        self.push(BlockKind::Top, None, 0, Extent { narrow: 0, wide: 0 }, facts)?;
        // Unknown content may be a message: its header is read, and what stands there counts for a nested block.
        if is_message { self.open(BlockKind::Nested, Some(0), 0, 0) } else { Ok(()) }
    }

    /// Begin a block whose line begins at `start` and whose header begins at `header`, and the messages in it.
    fn open(
        &mut self,
        mut kind: BlockKind,
        mut parent: Option<usize>,
        mut start: usize,
        mut header: usize,
    ) -> Result<(), BeyondBounds> {
        loop {
            let mut extent = extent(self.content, header, &|line| self.boundaries.has_match(line));
            let facts = Facts::read(self.content.get(header..extent.wide).unwrap_or_default());
            let is_message = facts.is_message();
            let block = self.push(kind, parent, start, extent, facts)?;
            // The boundaries that this header declares may already end it.
            extent.wide = self.first_delimiter(extent);
            extent.narrow = extent.narrow.min(extent.wide);
            if let Some(block) = self.blocks.get_mut(block) {
                block.extent = extent;
            }
            if !is_message {
                return Ok(());
            }
            (kind, parent, start, header) = (BlockKind::Nested, Some(block), extent.wide, extent.wide);
        }
    }

    fn first_delimiter(&self, extent: Extent) -> usize {
        let mut at = extent.narrow;
        while let Some(line) = line_at(self.content, at).filter(|_| at < extent.wide) {
            if self.boundaries.has_match(self.content.get(line.range).unwrap_or_default()) {
                return at;
            }
            at = line.next;
        }
        extent.wide
    }

    fn push(
        &mut self,
        kind: BlockKind,
        parent: Option<usize>,
        start: usize,
        extent: Extent,
        facts: Facts,
    ) -> Result<usize, BeyondBounds> {
        let index = self.blocks.len();
        let depth = parent.and_then(|parent| self.blocks.get(parent)).map_or(0, |parent| parent.depth + 1);
        if index >= BLOCKS_MAX || depth > DEPTH_MAX || facts.is_excessive {
            return Err(BeyondBounds);
        }
        for boundary in &facts.boundaries {
            self.boundaries.declare(boundary, index, false)?;
        }
        let mut number = 0;
        if let Some(parent) =
            parent.and_then(|parent| self.blocks.get_mut(parent)).filter(|_| kind == BlockKind::Part)
        {
            parent.parts += 1;
            number = parent.parts;
        }
        let end = self.content.len();
        self.blocks.push(Block {
            kind,
            parent,
            start,
            extent,
            end,
            end_max: end,
            facts,
            depth,
            number,
            parts: 0,
        });
        Ok(index)
    }

    /// Every line behind the header of the last block that was opened.
    fn go_on(&mut self) -> Result<(), BeyondBounds> {
        let mut at = self.position();
        while let Some(line) = line_at(self.content, at) {
            let text = self.content.get(line.range).unwrap_or_default();
            let start = std::mem::replace(&mut at, line.next);
            if text.starts_with(b"--") && self.delimiter(text, start, line.next)? {
                at = self.position();
            }
        }
        Ok(())
    }

    fn position(&self) -> usize {
        self.blocks.last().map_or(0, |block| block.extent.wide)
    }

    /// A line that begins with `--`. Whether it begins a block.
    fn delimiter(&mut self, line: &[u8], start: usize, next: usize) -> Result<bool, BeyondBounds> {
        let mut matches = self.boundaries.matches(line)?;
        if matches.is_empty() {
            let Some(guess) = self.guess(line, next) else { return Ok(false) };
            self.boundaries.declare(guess, self.innermost_real(), true)?;
            matches = self.boundaries.matches(line)?;
        }
        let reach =
            |found: Match| Reach { found, declared: self.boundaries.declared(found.boundary), next: None };
        let matches: Vec<Reach> = matches.into_iter().map(reach).collect();
        // The longest exact match names the container; the part's number is a matter of display only.
        let best = matches.iter().rfind(|reach| reach.found.is_exact).or(matches.last());
        let parent = best.map_or(0, |best| best.declared.1);
        let kind = if matches.iter().all(|reach| self.boundaries.is_guessed(reach.found.boundary)) {
            BlockKind::Guessed
        } else if matches.iter().all(|reach| reach.found.is_close) {
            BlockKind::Epilogue
        } else {
            BlockKind::Part
        };
        self.close(start);
        self.lines.push(DelimiterLine { block: self.blocks.len(), matches });
        self.open(kind, Some(parent), start, next)?;
        Ok(true)
    }

    /// The boundary of a line that looks like a delimiter: a field called `Content-…` follows it.
    fn guess<'l>(&self, line: &'l [u8], next: usize) -> Option<&'l [u8]> {
        let boundary = line.strip_prefix(b"--")?.trim_ascii_end();
        let behind = line_at(self.content, next)?;
        let is_field = is_content_field(self.content.get(behind.range)?);
        (!boundary.is_empty() && is_field).then_some(boundary)
    }

    /// The last block that is none of a guess.
    fn innermost_real(&self) -> usize {
        let last = self.blocks.len().saturating_sub(1);
        match self.blocks.get(last) {
            Some(Block { kind: BlockKind::Guessed, parent: Some(parent), .. }) => *parent,
            _ => last,
        }
    }

    /// The content of all blocks that are open ends before the line that begins at `start`.
    fn close(&mut self, start: usize) {
        let end = before_line(self.content, start);
        // Only the last block and the messages that it is in end here for the first time.
        let mut at = self.blocks.len().checked_sub(1);
        while let Some(block) = at.and_then(|at| self.blocks.get_mut(at)) {
            block.end = end.max(block.extent.narrow.min(start));
            at = block.parent.filter(|_| block.kind == BlockKind::Nested);
        }
    }

    /// How far each block reaches at most: backward for the next lines, then forward for the containers.
    fn finish(&mut self) {
        let mut next = vec![(None, None); self.boundaries.len()];
        for line in self.lines.iter_mut().rev() {
            let start = self.blocks.get(line.block).map_or(0, |block| block.start);
            let end = before_line(self.content, start);
            for reach in &mut line.matches {
                let Some((exact, any)) = next.get_mut(reach.found.boundary) else { continue };
                reach.next = if reach.found.is_exact { *exact } else { *any };
                if reach.found.is_close {
                    reach.next = None;
                }
                *any = Some(end);
                if reach.found.is_exact {
                    *exact = Some(end);
                }
            }
        }
        let mut lines = self.lines.iter().peekable();
        for index in 0..self.blocks.len() {
            let Some(block) = self.blocks.get(index) else { continue };
            let (is_guessed, end) = (block.kind == BlockKind::Guessed, block.end);
            let end_max = match lines.next_if(|line| line.block == index) {
                // A guess reaches up to the next line of its own, and not through the leaf in which it was found.
                Some(line) if is_guessed => {
                    line.matches.iter().filter_map(|reach| reach.next).max().unwrap_or(end)
                }
                Some(line) => line.matches.iter().map(|reach| self.reach_end(reach)).max().unwrap_or(end),
                None => self.end_max(block.parent),
            };
            if let Some(block) = self.blocks.get_mut(index) {
                block.end_max = end_max.max(end);
            }
        }
    }

    fn reach_end(&self, reach: &Reach) -> usize {
        let (first, last) = reach.declared;
        let container = self.end_max(Some(first)).max(self.end_max(Some(last)));
        reach.next.map_or(container, |next| next.min(container))
    }

    fn end_max(&self, block: Option<usize>) -> usize {
        block.and_then(|block| self.blocks.get(block)).map_or(self.content.len(), |block| block.end_max)
    }
}

/// Where the line end begins that stands before the line at `start`. It belongs to the delimiter (RFC 2046 section
/// 5.1.1).
fn before_line(content: &[u8], start: usize) -> usize {
    match content.get(..start) {
        Some([before @ .., b'\r', b'\n'] | [before @ .., b'\r' | b'\n']) => before.len(),
        _ => start,
    }
}
