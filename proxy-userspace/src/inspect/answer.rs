//! From a server's FETCH response to the client's: which of its octets must be judged, and the response that is cut from
//! what was judged.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::deferred::ToKeep;
use super::held::Held;
use super::output::Own;
use super::overwriting::Overwriting;
use super::refusal::Refused;
use super::rewrite::{Plan, header_of, is_content};
use super::views::{Copies, JudgedCopy};
use crate::content::{ContentPiece, FieldRules, LeafHint, Shape, is_fields_only};
use crate::imap::fetch::{Partial, Section, SectionText};
use crate::imap::header_values::{SHOWN_FIELDS, in_envelope, in_structure};
use crate::imap::response::{AnsweredForm, AnsweredItem, AnsweredKind, FetchResponse, ItemValue};
use crate::imap::structure::{Structure, StructurePart};
use crate::vault::SpoolCopy;

/// Octets of one item that is no content: ENVELOPE, BODYSTRUCTURE, labels. The largest seen describes 10,000 parts.
const METADATA_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Octets of a header that pass without judgement. Servers stop at less, and a hostile one hides a file in no more.
const HEADER_BYTES_MAX: usize = 256 * 1024;

/// Octets of headers and of what a structure says that are copied beside the sections of one response. Ten times what
/// 10,000 parts need; a hostile server has 2,000 sections share one header of 60 MB.
const NOTED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How a whole message is read. One whose header does not end where headers do is content of an unknown kind.
pub(crate) fn message_shape(content: &[u8]) -> Shape {
    let begin = content.get(..HEADER_BYTES_MAX).unwrap_or(content);
    let has_header = content.len() <= HEADER_BYTES_MAX || begin.windows(4).any(|end| end == b"\r\n\r\n");
    if has_header { Shape::Message } else { Shape::Unknown { hints: Vec::new() } }
}

/// A FETCH response on its way to the client.
#[derive(Debug)]
pub(super) struct Answer {
    response: FetchResponse,
    /// Per item: where its content stands without quoting, if it has content.
    contents: Vec<Option<Range<usize>>>,
    plan: Option<Rc<Plan>>,
    /// Items that are on no list.
    pub(super) left_out: u64,
    /// The response's own end; what stands behind it are contents without their quoting.
    end: usize,
}

impl Answer {
    /// Whether a response holds mail, or something that the client shall not see. All others pass as they came.
    pub(super) fn needs_work(response: &FetchResponse, plan: Option<&Plan>, headers: &FieldRules) -> bool {
        response.items.iter().any(|item| match item.kind {
            AnsweredKind::Unknown | AnsweredKind::Content { .. } => true,
            AnsweredKind::Uid(_) => plan.is_some_and(|plan| plan.adds_uid),
            AnsweredKind::Envelope | AnsweredKind::Structure { .. } if headers.is_active() => true,
            AnsweredKind::Structure { extended: true } => plan.is_some_and(|plan| plan.adds_structure),
            _ => item.range.len() > METADATA_BYTES_MAX,
        })
    }

    /// Look at a whole response. `octets` may grow: content in quotes is judged without them.
    ///
    /// # Errors
    /// The response cannot be judged.
    pub(super) fn of(
        response: FetchResponse,
        octets: &mut Vec<u8>,
        plan: Option<Rc<Plan>>,
    ) -> Result<Self, Refused> {
        let end = octets.len();
        let mut contents = Vec::with_capacity(response.items.len());
        let mut left_out = 0;
        for item in &response.items {
            let mut content = None;
            match (&item.kind, &item.value) {
                (AnsweredKind::Unknown, _) => left_out += 1,
                // A first octet that was asked for is not shown. Any other part cannot be judged. `NIL` holds nothing.
                (AnsweredKind::Content { form, section, origin: Some(_) }, ItemValue::Octets { .. })
                    if plan.as_ref().and_then(|plan| plan.copy(*form, section)).is_none() =>
                {
                    return Err(Refused::Incomplete);
                }
                (AnsweredKind::Content { .. }, ItemValue::Octets { content: range, quoted, .. }) => {
                    content = Some(if *quoted { unquote(octets, range.clone()) } else { range.clone() });
                }
                (AnsweredKind::Content { .. }, ItemValue::Other(_)) => return Err(Refused::Malformed),
                (AnsweredKind::Content { .. }, ItemValue::Nil) => {}
                _ if item.range.len() > METADATA_BYTES_MAX => return Err(Refused::TooLarge),
                _ => {}
            }
            contents.push(content);
        }
        Ok(Self { response, contents, plan, left_out, end })
    }

    /// Whether every first octet that was asked for is the one of the copy that stands for it.
    pub(super) fn fits_copies(&self, octets: &[u8]) -> bool {
        let uid = self.uid();
        self.items_with_content().all(|(form, section, content)| match (self.copy(form, section), content) {
            (None, _) => true,
            (Some(copy), Some(range)) => copy.fits(uid, octets.get(range.clone()).unwrap_or_default()),
            (Some(_), None) => false,
        })
    }

    fn copy(&self, form: AnsweredForm, section: &Section) -> Option<&Rc<JudgedCopy>> {
        self.plan.as_ref().and_then(|plan| plan.copy(form, section))
    }

    fn items_with_content(&self) -> impl Iterator<Item = (AnsweredForm, &Section, Option<&Range<usize>>)> {
        let items = self.response.items.iter().zip(&self.contents);
        items.filter_map(|(item, content)| match &item.kind {
            AnsweredKind::Content { form, section, .. } => Some((*form, section, content.as_ref())),
            _ => None,
        })
    }

    /// Form and section of the content that stands there.
    pub(super) fn section_at(&self, range: &Range<usize>) -> Option<(AnsweredForm, &Section)> {
        self.items_with_content()
            .find(|(_, _, content)| *content == Some(range))
            .map(|(form, section, _)| (form, section))
    }

    /// Whether the client gets ranges of copies.
    pub(super) fn is_copied(&self) -> bool {
        self.items_with_content().any(|(form, section, _)| self.copy(form, section).is_some())
    }

    /// The ranges that the client gets from copies, in the order of its response.
    pub(super) fn copied_ranges(&self, copies: &mut Copies) -> VecDeque<(SpoolCopy, Range<u64>)> {
        let mut ranges = VecDeque::new();
        for (form, section, _) in self.items_with_content() {
            let (Some(copy), Some(views)) = (self.copy(form, section), self.views(form, section)) else {
                continue;
            };
            copies.show(copy, Instant::now());
            ranges.extend(views.iter().flatten().map(|partial| copy.range(*partial)));
        }
        ranges
    }

    /// Sections that the client reads in pieces, each with its first octet as served: they are kept when they are judged.
    pub(super) fn to_keep(&self, octets: &[u8]) -> Vec<ToKeep> {
        let Some(uid) = self.uid() else { return Vec::new() };
        let parts = self.items_with_content().filter_map(|(form, section, content)| {
            let content = content.filter(|_| self.copy(form, section).is_none())?;
            let in_pieces = self.views(form, section)?.iter().any(Option::is_some);
            let first = octets.get(content.start).copied().filter(|_| !content.is_empty());
            in_pieces.then(|| ((uid, form, section.clone()), first, content.clone()))
        });
        parts.collect()
    }

    /// The message's sequence number.
    pub(super) const fn number(&self) -> u32 {
        self.response.number
    }

    /// The UID, where the response has one.
    pub(super) fn uid(&self) -> Option<u32> {
        self.response.items.iter().find_map(|item| match item.kind {
            AnsweredKind::Uid(uid) => Some(uid),
            _ => None,
        })
    }

    /// What must be judged before the client sees it. Headers that are nothing but header fields are metadata.
    /// Each has the path of its section beside it.
    ///
    /// # Errors
    /// What is known of the sections would take many times the octets of the response.
    pub(super) fn pieces(&self, octets: &[u8]) -> Result<Vec<(ContentPiece, String)>, Refused> {
        let structure = self.structure(octets);
        let leaves = structure.as_ref().map(Leaves::of);
        let mut pieces = Vec::new();
        let mut noted = 0;
        for (item, content) in self.response.items.iter().zip(&self.contents) {
            let (AnsweredKind::Content { form, section, .. }, Some(range)) = (&item.kind, content) else {
                continue;
            };
            if self.views(*form, section).is_some_and(<[_]>::is_empty) || self.copy(*form, section).is_some()
            {
                continue;
            }
            let header = octets.get(range.clone()).unwrap_or_default();
            let shape = self.shape(section, header, octets, leaves.as_ref());
            noted += noted_bytes(&shape);
            if noted > NOTED_BYTES_MAX {
                return Err(Refused::TooLarge);
            }
            let is_metadata = matches!(shape, Shape::Header) && is_fields_only(header);
            if !is_metadata {
                pieces.push((ContentPiece { range: range.clone(), shape }, path(section)));
            }
        }
        Ok(pieces)
    }

    /// What header rules overwrite in what the client is shown; `None` where there are no rules. `pieces` are those that are judged.
    ///
    /// # Errors
    /// A value that may show such a field cannot be read.
    pub(super) fn overwriting(
        &self,
        octets: &[u8],
        pieces: &[ContentPiece],
        rules: &Arc<FieldRules>,
    ) -> Result<Option<Overwriting>, Refused> {
        if !rules.is_active() {
            return Ok(None);
        }
        let mut overwriting =
            Overwriting { rules: Arc::clone(rules), sections: Vec::new(), values: Vec::new() };
        let mut judged = pieces.iter().peekable();
        for (item, content) in self.response.items.iter().zip(&self.contents) {
            let piece = judged.next_if(|piece| Some(&piece.range) == content.as_ref());
            if self.is_added(item) {
                continue;
            }
            match (&item.kind, &item.value, content) {
                // Of a copy, which is overwritten already, the first octet came.
                (AnsweredKind::Content { form, section, .. }, _, Some(range))
                    if self.copy(*form, section).is_none() =>
                {
                    let shape = piece.map_or(Shape::Header, |piece| piece.shape.clone());
                    overwriting.sections.push((range.clone(), shape));
                }
                (AnsweredKind::Envelope | AnsweredKind::Structure { .. }, ItemValue::Other(range), _) => {
                    let value = octets.get(range.clone()).unwrap_or_default();
                    let places = shown_values(&item.kind, value, rules)?;
                    let at = |place: Range<usize>| place.start + range.start..place.end + range.start;
                    overwriting.values.extend(places.into_iter().map(at));
                }
                _ => {}
            }
        }
        Ok(Some(overwriting))
    }

    /// How a section is read. A header that is longer than headers are is content.
    fn shape(&self, section: &Section, content: &[u8], octets: &[u8], leaves: Option<&Leaves<'_>>) -> Shape {
        if !is_content(section) {
            let is_short = content.len() <= HEADER_BYTES_MAX;
            return if is_short { Shape::Header } else { Shape::Unknown { hints: Vec::new() } };
        }
        if section.path.is_empty() && section.text == SectionText::Whole {
            return message_shape(content);
        }
        let hints = hints(section, leaves);
        let header = header_of(section).and_then(|header| self.content_of(&header));
        let header = header.and_then(|range| octets.get(range)).filter(|header| !header.is_empty());
        match header.filter(|header| header.len() <= NOTED_BYTES_MAX) {
            Some(header) => Shape::Body { header: header.to_vec(), hints },
            None => Shape::Unknown { hints },
        }
    }

    /// Where the content of a section stands in this response.
    fn content_of(&self, wanted: &Section) -> Option<Range<usize>> {
        let items = self.response.items.iter().zip(&self.contents);
        items
            .filter_map(|(item, content)| match &item.kind {
                AnsweredKind::Content { form: AnsweredForm::Body, section, .. } if section == wanted => {
                    content.clone()
                }
                _ => None,
            })
            .next()
    }

    fn structure(&self, octets: &[u8]) -> Option<Structure> {
        self.response.items.iter().find_map(|item| match (&item.kind, &item.value) {
            (AnsweredKind::Structure { .. }, ItemValue::Other(range)) => {
                octets.get(range.clone()).and_then(Structure::parse)
            }
            _ => None,
        })
    }

    fn views(&self, form: AnsweredForm, section: &Section) -> Option<&[Option<Partial>]> {
        self.plan.as_ref().and_then(|plan| plan.views(form, section))
    }

    /// Whether an item was asked for by Postern only. A response without content may be one that nobody asked for, with
    /// the UID that belongs in it (RFC 7162 section 3.2.3).
    fn is_added(&self, item: &AnsweredItem) -> bool {
        let Some(plan) = &self.plan else { return false };
        match &item.kind {
            AnsweredKind::Uid(_) => plan.adds_uid && (self.has_content() || self.response.items.len() == 1),
            AnsweredKind::Structure { extended: true } => plan.adds_structure,
            AnsweredKind::Content { form, section, .. } => {
                plan.views(*form, section).is_some_and(<[_]>::is_empty)
            }
            _ => false,
        }
    }

    fn has_content(&self) -> bool {
        self.response.items.iter().any(|item| matches!(item.kind, AnsweredKind::Content { .. }))
    }

    /// Whether the client gets the response as it came.
    pub(super) fn is_unchanged(&self) -> bool {
        self.end == self.contents_end()
            && self.response.items.iter().all(|item| self.is_shown_as_served(item))
    }

    fn contents_end(&self) -> usize {
        self.contents.iter().flatten().map(|range| range.end).max().unwrap_or_default().max(self.end)
    }

    fn is_shown_as_served(&self, item: &AnsweredItem) -> bool {
        match &item.kind {
            AnsweredKind::Unknown => false,
            AnsweredKind::Content { form, section, .. } => {
                !is_binary(item) && self.views(*form, section).is_none_or(|views| views == [None])
            }
            _ => !self.is_added(item),
        }
    }

    /// The client's response, cut from octets that were judged, and from copies; `None` where nothing of it is left.
    pub(super) fn compose(&self, held: &Rc<Held>, copied: &mut VecDeque<Rc<Held>>) -> Option<Own> {
        if self.is_unchanged() {
            let mut own = Own::default();
            own.show(held, 0..self.end);
            return Some(own);
        }
        let served = held.octets();
        let mut own = Own::words(format!("* {} FETCH ", self.response.number));
        let mut separator = "(";
        for (item, content) in self.response.items.iter().zip(&self.contents) {
            if matches!(item.kind, AnsweredKind::Unknown) || self.is_added(item) {
                continue;
            }
            let AnsweredKind::Content { form, section, .. } = &item.kind else {
                own.say(separator);
                own.show(held, item.range.clone());
                separator = " ";
                continue;
            };
            // What the server sent of it is the first octet only.
            let is_copied = self.copy(*form, section).is_some();
            for view in self.views(*form, section).unwrap_or(&[None]) {
                own.say(separator);
                separator = " ";
                match (view, content) {
                    (Some(partial), _) if is_copied => {
                        let octets = copied.pop_front()?;
                        let all = 0..octets.octets().len();
                        show_range(&mut own, &octets, label(served, item, Some(partial.start)), all);
                    }
                    (None, Some(content)) if content.start >= self.end || is_binary(item) => {
                        show_range(&mut own, held, label(served, item, None), content.clone());
                    }
                    (None, _) => own.show(held, item.range.clone()),
                    (Some(partial), Some(content)) => {
                        show_range(
                            &mut own,
                            held,
                            label(served, item, Some(partial.start)),
                            cut(content, *partial),
                        );
                    }
                    (Some(partial), None) => {
                        own.say(label(served, item, Some(partial.start)));
                        own.say(" NIL");
                    }
                }
            }
        }
        if separator == "(" {
            return None;
        }
        own.say(")\r\n");
        Some(own)
    }
}

/// Where ENVELOPE or a structure shows what the rules remove. A value that does not parse, as Exchange sends them, passes
/// where it cannot show anything of that.
fn shown_values(kind: &AnsweredKind, value: &[u8], rules: &FieldRules) -> Result<Vec<Range<usize>>, Refused> {
    if !SHOWN_FIELDS.iter().any(|name| rules.removes(name.as_bytes())) {
        return Ok(Vec::new());
    }
    let removes = |name: &[u8]| rules.removes(name);
    let places = match kind {
        AnsweredKind::Envelope => in_envelope(value, &removes),
        _ => in_structure(value, &removes),
    };
    places.map_err(|_| Refused::Malformed)
}

/// `~{3}` is for BINARY, which is hidden (RFC 3516). A client that does not know it takes the octets for responses.
const fn is_binary(item: &AnsweredItem) -> bool {
    matches!(item.value, ItemValue::Octets { binary: true, .. })
}

/// `BODY[1]<0> {3}` and the octets.
fn show_range(own: &mut Own, held: &Rc<Held>, label: Vec<u8>, range: Range<usize>) {
    own.say(label);
    own.say(format!(" {{{}}}\r\n", range.len()));
    own.show(held, range);
}

/// The label of an answer (RFC 9051 section 7.5.2), such as `BODY[1.MIME]<0>`, as the server spells it but for the origin:
/// servers differ in how they repeat the names of header fields.
fn label(octets: &[u8], item: &AnsweredItem, origin: Option<u32>) -> Vec<u8> {
    let value = match &item.value {
        ItemValue::Octets { content, .. } => content.start,
        ItemValue::Nil | ItemValue::Other(_) => item.range.end,
    };
    let named = octets.get(item.range.start..value).unwrap_or_default();
    let end = match named.iter().rposition(|octet| *octet == b']') {
        Some(bracket) => bracket + 1,
        None => named.iter().position(|octet| *octet == b' ').unwrap_or(named.len()),
    };
    let mut label = named.get(..end).unwrap_or_default().to_vec();
    if let Some(origin) = origin {
        label.extend_from_slice(format!("<{origin}>").as_bytes());
    }
    label
}

/// The range of a section (RFC 9051 section 6.4.5: behind its end nothing, over its end what there is).
fn cut(content: &Range<usize>, partial: Partial) -> Range<usize> {
    let offset = |octets: u32| usize::try_from(octets).unwrap_or(usize::MAX);
    let start = content.start.saturating_add(offset(partial.start)).min(content.end);
    start..start.saturating_add(offset(partial.octets)).min(content.end)
}

/// Append a quoted string's content without its quoting; where it stands.
fn unquote(octets: &mut Vec<u8>, range: Range<usize>) -> Range<usize> {
    let start = octets.len();
    let quoted = octets.get(range).unwrap_or_default().to_vec();
    let mut escaped = false;
    for octet in quoted {
        escaped = octet == b'\\' && !escaped;
        if !escaped {
            octets.push(octet);
        }
    }
    start..octets.len()
}

/// Octets that a shape takes.
fn noted_bytes(shape: &Shape) -> usize {
    let (header, hints) = match shape {
        Shape::Body { header, hints } => (header.len(), hints.as_slice()),
        Shape::Unknown { hints } => (0, hints.as_slice()),
        Shape::Message | Shape::Header => (0, [].as_slice()),
    };
    let words = |hint: &LeafHint| {
        let name = hint.name.as_ref().map_or(0, Vec::len);
        size_of::<LeafHint>() + hint.media.0.len() + hint.media.1.len() + name + hint.encoding.len()
    };
    header + hints.iter().map(words).sum::<usize>()
}

/// The parts of a structure that are no multiparts, and where each stands: a response of 2,000 sections with deep paths must
/// not look through 10,000 parts for each number of each path.
struct Leaves<'s> {
    parts: &'s [StructurePart],
    places: HashMap<&'s [u32], &'s StructurePart>,
}

impl<'s> Leaves<'s> {
    fn of(structure: &'s Structure) -> Self {
        let mut places = HashMap::new();
        for part in structure.parts.iter().filter(|part| !part.is_multipart) {
            places.entry(part.path.as_slice()).or_insert(part);
        }
        Self { parts: &structure.parts, places }
    }

    fn at(&self, path: &[u32]) -> Option<&'s StructurePart> {
        self.places.get(path).copied()
    }
}

/// What the structure says of a section. Servers answer `1.1` and `1.TEXT` with the octets of leaf 1, and `0` with those of
/// the first leaf: so a path that the structure does not know means the leaf above it, and where there is none, any leaf.
fn hints(section: &Section, leaves: Option<&Leaves<'_>>) -> Vec<LeafHint> {
    let Some(leaves) = leaves else { return Vec::new() };
    let mut path = section.path.clone();
    let known = loop {
        if let Some(last @ 0) = path.last_mut() {
            *last = 1;
        }
        let known = leaves.at(&path);
        if known.is_some() || path.pop().is_none() {
            break known;
        }
    };
    // The text of a message has the message's own header.
    if section.text == SectionText::Text && known.is_some_and(|part| part.is_message) {
        return Vec::new();
    }
    let parts = known.map_or(leaves.parts, std::slice::from_ref);
    parts.iter().filter(|part| !part.is_multipart).flat_map(hints_of).collect()
}

/// One for each of the part's names.
fn hints_of(part: &StructurePart) -> impl Iterator<Item = LeafHint> {
    let names = part.names.iter().map(Some);
    names.chain(part.names.is_empty().then_some(None)).map(|name| LeafHint {
        media: part.media.clone(),
        name: name.cloned(),
        encoding: part.encoding.clone(),
    })
}

fn path(section: &Section) -> String {
    let numbers: Vec<String> = section.path.iter().map(u32::to_string).collect();
    numbers.join(".")
}
