//! Values of header fields that the owner removes, overwritten in place: same length, same lines, same names.
//!
//! The first character of a value on each of its lines becomes `x`, the others spaces. White space before it stays, so that
//! a folded line still is one, and no line is left empty, because an empty line would end the header for some readers.
//!
//! The rules hold for the header of a message, of each of its parts, and of each message in it that is not encoded: a field
//! is then overwritten in every section that shows it. The text of a leaf stays, though it may look like a
//! header.

use std::ops::Range;

use super::field_rules::FieldRules;
use super::header::{extent, field, line_at};
use super::walk::{BlockKind, Layout};
use super::{Shape, is_fields_only};

/// Overwrite what the rules remove in the octets of one section.
pub fn redact(octets: &mut [u8], shape: &Shape, rules: &FieldRules) {
    if !rules.is_active() {
        return;
    }
    for header in headers(octets, shape) {
        if let Some(header) = octets.get_mut(header) {
            redact_fields(header, rules);
        }
    }
}

/// Overwrite one string that shows a value without its field: in ENVELOPE and BODYSTRUCTURE.
pub fn redact_value(value: &mut [u8]) {
    value.split_mut(|octet| matches!(octet, b'\r' | b'\n')).for_each(redact_line);
}

/// Where headers stand in a section.
fn headers(octets: &[u8], shape: &Shape) -> Vec<Range<usize>> {
    if matches!(shape, Shape::Header) && is_fields_only(octets) {
        return std::iter::once(0..octets.len()).collect();
    }
    let Ok(layout) = Layout::new(octets, shape) else {
        // The judge allows nothing behind the header of such content.
        let has_header = matches!(shape, Shape::Message | Shape::Header);
        return has_header.then(|| 0..extent(octets, 0, &|_| false).wide).into_iter().collect();
    };
    let is_unknown = matches!(shape, Shape::Unknown { .. });
    let mut headers = Headers { octets, found: Vec::new() };
    for block in &layout.blocks {
        match block.kind {
            BlockKind::Top if matches!(shape, Shape::Message | Shape::Header) => headers.add(block.start),
            BlockKind::Nested => {
                if block.parent.is_some_and(|parent| shows_message(&layout, parent, is_unknown)) {
                    headers.add_nested(block.start);
                }
            }
            BlockKind::Part => {
                if let Some(line) = line_at(octets, block.start) {
                    headers.add(line.next);
                }
            }
            // What no header declares is text for nearly every reader.
            BlockKind::Top | BlockKind::Epilogue | BlockKind::Guessed => {}
        }
    }
    headers.found
}

/// Headers in the order of their places. Each reaches to its first empty line: a boundary in a header ends it for some
/// readers only, and behind such a boundary there stands another header.
struct Headers<'o> {
    octets: &'o [u8],
    found: Vec<Range<usize>>,
}

impl Headers<'_> {
    /// The header that begins at `start`. A header that stands within another one is overwritten with it.
    fn add(&mut self, start: usize) {
        if start >= self.end() {
            self.found.push(start..extent(self.octets, start, &|_| false).wide);
        }
    }

    /// The header of a message in the block whose header was found last.
    fn add_nested(&mut self, start: usize) {
        // Where a boundary ends the outer header for some readers only, the message begins at two places.
        self.add(start.max(self.end()));
    }

    fn end(&self) -> usize {
        self.found.last().map_or(0, |header| header.end)
    }
}

/// Whether a block holds a message. The fields of a delivery report, which the walk reads like one, are text of a leaf.
fn shows_message(layout: &Layout, parent: usize, is_unknown: bool) -> bool {
    let Some(parent) = layout.blocks.get(parent) else { return false };
    let is_untold = is_unknown && parent.kind == BlockKind::Top && parent.facts.types.is_empty();
    is_untold
        || parent.facts.types.iter().any(|kind| matches!(kind.as_str(), "message/rfc822" | "message/global"))
}

/// One header. Lines end with CR, LF or both, and readers differ in whether a lone CR ends one: a value is overwritten
/// where any of them shows it as the value of a removed field.
fn redact_fields(header: &mut [u8], rules: &FieldRules) {
    // For readers to whom a lone CR ends no line, and for all others.
    let (mut removes, mut removes_at_cr) = (false, false);
    let (mut at, mut begins_line) = (0, true);
    while let Some(line) = line_at(header, at) {
        let Some(text) = header.get_mut(line.range) else { return };
        let mut value = 0;
        if let Some((name, behind)) = field(text) {
            value = text.len() - behind.len();
            removes_at_cr = rules.removes(name);
            removes = if begins_line { removes_at_cr } else { removes };
        } else if !matches!(text.first(), Some(b' ' | b'\t')) {
            removes_at_cr = false;
            removes &= !begins_line;
        }
        if removes || removes_at_cr {
            redact_line(text.get_mut(value..).unwrap_or_default());
        }
        (at, begins_line) = (line.next, line.has_line_feed);
    }
}

/// A value on one line.
fn redact_line(value: &mut [u8]) {
    let mut overwritten = value.iter_mut().skip_while(|octet| matches!(octet, b' ' | b'\t'));
    if let Some(first) = overwritten.next() {
        *first = b'x';
    }
    overwritten.for_each(|octet| *octet = b' ');
}

#[cfg(test)]
mod tests;
