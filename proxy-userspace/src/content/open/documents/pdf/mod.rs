//! PDF: scripts, launch actions, embedded files.
//!
//! The file is scanned, and its objects are not built: readers repair what is damaged, and each in its own way. So a
//! construct counts wherever it stands, also where no page leads to it, and in object streams. Names are compared behind
//! their escapes. An encrypted file is one that cannot be judged, also where its password is empty: nothing is decrypted
//! here.

/// Streams behind their filters.
mod filters;
/// Names, references and strings.
mod tokens;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use memchr::{memchr_iter, memmem, memrchr_iter};

use self::tokens::{Value, all_behind, name_at, names, number, string, value};
use super::Opening;
use super::octets::part;
use crate::content::Condition;
use crate::content::magic::text::Utf8;

/// Streams of one file.
const STREAMS_MAX: usize = 500_000;
/// Octets of the dictionary before a stream.
const DICTIONARY_BYTES: usize = 64 << 10;
/// Stream keywords over which a dictionary may reach: the word may stand in a string of it.
const KEYWORDS_OVER: usize = 8;
/// Octets of whatever kind between a dictionary's end and the keyword. Of white space and comments there may be more.
const BEFORE_KEYWORD_BYTES: usize = 128;
/// Octets of a stream of objects that holds none, behind any filter.
const EMPTY_STREAM_BYTES: usize = 32;
/// Names that are read behind each `EF`: there is one for each kind of system.
const SYSTEMS_MAX: usize = 8;
/// Octets around an embedded file's reference in which its name is looked for.
const NAME_REACH_BYTES: usize = 1_024;
/// Objects to which scripts and files are referred.
const WANTED_MAX: usize = 20_000;

/// Names that say that something runs or is embedded, wherever they stand.
const ACTIVE: [&[u8]; 5] = [b"JavaScript", b"Launch", b"EmbeddedFile", b"EmbeddedFiles", b"RichMedia"];
/// Such names that are so short that a compressed stream may hold them by chance.
const ACTIVE_SHORT: [&[u8]; 2] = [b"JS", b"XFA"];

/// Look at a file.
pub(super) fn open(octets: &[u8], opening: &mut Opening<'_, '_>) {
    let (streams, is_cut) = streams(octets);
    let mut file = File { opening, wanted: BTreeMap::new(), is_encrypted: false, scripts: 0 };
    file.read(octets, &streams);
    if file.is_encrypted {
        file.opening.found(Condition::EncryptedFile);
    }
    // Of two readings of one stream, one that gives something counts.
    let (mut read, mut unread) = (BTreeSet::new(), BTreeSet::new());
    for stream in &streams {
        if file.opening.is_ended() {
            return;
        }
        if names(stream.dictionary).any(|name| *name == *b"ObjStm") {
            let decoded = filters::decoded(stream.dictionary, stream.body, stream.rest, file.opening);
            if !decoded.is_empty() || stream.is_empty() {
                read.insert(stream.object);
            } else {
                unread.insert(stream.object);
            }
            for objects in decoded {
                file.read(&objects, &[]);
            }
        }
    }
    if !file.is_encrypted && !file.opening.is_ended() && (is_cut || !unread.is_subset(&read)) {
        file.opening.found(Condition::BrokenFile);
    }
    for stream in &streams {
        if file.opening.is_ended() {
            return;
        }
        let wanted = stream.object.and_then(|object| file.wanted.get(&object).cloned());
        let is_embedded = names(stream.dictionary).any(|name| *name == *b"EmbeddedFile");
        let Some(name) = wanted.or_else(|| is_embedded.then(|| "embedded".to_owned())) else { continue };
        let decoded = filters::decoded(stream.dictionary, stream.body, stream.rest, file.opening);
        if decoded.is_empty() && !file.is_encrypted && is_embedded {
            file.opening.found(Condition::BrokenFile);
        }
        for member in decoded {
            file.opening.taken(&[&name], Vec::new(), Cow::Owned(member));
        }
    }
}

/// A stream, and where it stands.
struct Stream<'a> {
    object: Option<u32>,
    dictionary: &'a [u8],
    /// Up to its keyword.
    body: &'a [u8],
    /// Up to the end of the file: the keyword may stand in the stream.
    rest: &'a [u8],
    range: std::ops::Range<usize>,
}

impl Stream<'_> {
    /// Whether it says that no object is in it, and has no room for one.
    fn is_empty(&self) -> bool {
        let mut counts = all_behind(self.dictionary, b"N").map(|from| number(from).map(|(count, _)| count));
        self.body.len() <= EMPTY_STREAM_BYTES
            && counts.next() == Some(Some(0))
            && counts.all(|count| count == Some(0))
    }
}

/// What stands between a dictionary's end and the place that was reached.
#[derive(Default)]
struct Gap {
    /// White space and comments alone, and no comment goes on.
    is_clear: bool,
    /// As well, in a comment. Both may hold, since an end in a comment is one for some readers.
    in_comment: bool,
    last: u8,
}

impl Gap {
    fn push(&mut self, octets: &[u8]) {
        for octet in octets {
            match octet {
                b'\r' | b'\n' => self.is_clear |= std::mem::take(&mut self.in_comment),
                b'%' => self.in_comment |= std::mem::take(&mut self.is_clear),
                b'>' => self.is_clear = self.last == b'>',
                space if tokens::is_space(*space) => {}
                _ => self.is_clear = false,
            }
            self.last = *octet;
        }
    }
}

/// Every place that some reader takes for a stream, and whether the beginning of a dictionary was out of reach.
fn streams(octets: &[u8]) -> (Vec<Stream<'_>>, bool) {
    let (mut gap, mut reached, mut is_cut) = (Gap::default(), 0, false);
    let ends = memmem::find_iter(octets, b"endstream").collect::<Vec<_>>();
    let mut keywords = std::collections::VecDeque::from([0]);
    let mut streams = Vec::new();
    for at in memmem::find_iter(octets, b"stream") {
        if streams.len() >= STREAMS_MAX {
            break;
        }
        let before = octets.get(..at).unwrap_or_default();
        let near = before.get(at.saturating_sub(BEFORE_KEYWORD_BYTES)..).unwrap_or_default();
        gap.push(before.get(reached..).unwrap_or_default());
        reached = at;
        if before.ends_with(b"end") || !gap.is_clear && memmem::rfind(near, b">>").is_none() {
            continue;
        }
        let floor = keywords.front().copied().unwrap_or(0).max(at.saturating_sub(DICTIONARY_BYTES));
        let window = before.get(floor..).unwrap_or_default();
        let begin = memmem::rfind_iter(window, b"obj")
            .find(|begin| !window.get(..*begin).is_some_and(|before| before.ends_with(b"end")));
        is_cut |= gap.is_clear && begin.is_none() && floor > 0;
        let begin = begin.unwrap_or(0);
        let dictionary = window.get(begin..).unwrap_or_default();
        let object = tokens::object_number(window.get(..begin).unwrap_or_default());
        let mut body_at = at.saturating_add(6);
        let rest = octets.get(body_at..).unwrap_or_default();
        let line_end = if rest.starts_with(b"\r\n") {
            2
        } else {
            usize::from(matches!(rest.first(), Some(b'\n' | b'\r')))
        };
        body_at = body_at.saturating_add(line_end);
        let end = ends.get(ends.partition_point(|end| *end < body_at)).copied().unwrap_or(octets.len());
        streams.push(Stream {
            object,
            dictionary,
            body: octets.get(body_at..end).unwrap_or_default(),
            rest: octets.get(body_at..).unwrap_or_default(),
            range: body_at..end,
        });
        keywords.push_back(at);
        if keywords.len() > KEYWORDS_OVER {
            keywords.pop_front();
        }
    }
    (streams, is_cut)
}

struct File<'f, 'o, 'v> {
    opening: &'f mut Opening<'o, 'v>,
    /// Objects that hold a script or a file, and the member's name.
    wanted: BTreeMap<u32, String>,
    is_encrypted: bool,
    scripts: u32,
}

impl File<'_, '_, '_> {
    /// Looks at the names of a text of objects. `streams` are those within it.
    fn read(&mut self, text: &[u8], streams: &[Stream<'_>]) {
        let mut next = streams.iter().map(|stream| &stream.range).peekable();
        for at in memchr_iter(b'/', text) {
            if self.opening.is_ended() {
                return;
            }
            while next.next_if(|range| range.end <= at).is_some() {}
            let is_in_stream = next.peek().is_some_and(|range| range.contains(&at));
            let Some((name, behind)) = name_at(text, at) else { continue };
            let name = name.as_ref();
            if ACTIVE.contains(&name) || ACTIVE_SHORT.contains(&name) && !is_in_stream {
                self.opening.found(Condition::ActiveContent);
            }
            match name {
                b"Encrypt" if matches!(value(behind), Value::Reference(_) | Value::Dictionary) => {
                    self.is_encrypted = true;
                }
                b"JS" if !is_in_stream => self.script(behind),
                b"EF" if !is_in_stream => self.embedded(text, at, behind),
                _ => {}
            }
        }
    }

    /// A script: a string, or a reference to a stream.
    fn script(&mut self, behind: &[u8]) {
        self.scripts = self.scripts.saturating_add(1);
        let name = format!("script-{}.js", self.scripts);
        match value(behind) {
            Value::Reference(object) => self.want(object, name),
            Value::String(from) => {
                let script = string(from);
                if self.opening.takes(script.len()) {
                    let script = Utf8::decoded(&script);
                    self.opening.taken(&[&name], vec!["text/javascript".to_owned()], script);
                }
            }
            Value::Dictionary | Value::Other => {}
        }
    }

    /// The references of an embedded file, one for each kind of system, and its name, which stands near them.
    fn embedded(&mut self, text: &[u8], at: usize, behind: &[u8]) {
        let inner = part(behind, 0, NAME_REACH_BYTES);
        let inner = inner.get(..memmem::find(inner, b">>").unwrap_or(inner.len())).unwrap_or_default();
        let objects = memchr_iter(b'/', inner)
            .take(SYSTEMS_MAX)
            .filter_map(|slash| match value(name_at(inner, slash)?.1) {
                Value::Reference(object) => Some(object),
                _ => None,
            })
            .filter(|object| !self.wanted.contains_key(object))
            .collect::<Vec<_>>();
        if objects.is_empty() || self.wanted.len() >= WANTED_MAX {
            return;
        }
        let around = part(text, at.saturating_sub(NAME_REACH_BYTES), NAME_REACH_BYTES.saturating_mul(2));
        let mut name = "embedded".to_owned();
        for slash in memrchr_iter(b'/', around) {
            if let Some((key, behind)) = name_at(around, slash)
                && matches!(key.as_ref(), b"F" | b"UF")
                && let Value::String(from) = value(behind)
            {
                name = String::from_utf8_lossy(&Utf8::decoded(&string(from))).into_owned();
                break;
            }
        }
        for object in objects {
            self.want(object, name.clone());
        }
    }

    fn want(&mut self, object: u32, name: String) {
        if self.wanted.len() < WANTED_MAX {
            self.wanted.entry(object).or_insert(name);
        }
    }
}
