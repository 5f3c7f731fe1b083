use std::collections::BTreeSet;
use std::fs::File as Handle;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::Config;
use super::fault::{ConfigError, Fault, Place, Reason};
use super::judge::judge;
use super::{names, shape};

/// A policy is a few KiB; more is a wrong path, such as a disk image or a log.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// More faults than this help nobody at once.
const FAULTS_MAX: usize = 50;
/// A value in a message stays on its line.
const VALUE_CHARS_MAX: usize = 60;
/// Edits between a typing mistake and the key that was meant.
const TYPING_MISTAKE_EDITS_MAX: usize = 3;

/// Read and judge a configuration file.
///
/// # Errors
/// [`ConfigError`]: the file is missing or unreadable, or every fault of its text.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = Handle::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
        _ => unreadable(source),
    })?;
    let mut text = String::new();
    file.take(CONFIG_BYTES_MAX.saturating_add(1)).read_to_string(&mut text).map_err(unreadable)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), max: CONFIG_BYTES_MAX });
    }
    parse(&text, path)
}

/// Judge the text of a configuration; `path` is named in errors, and its directory resolves relative paths.
///
/// # Errors
/// [`ConfigError::Wrong`] with every fault that can be told at once.
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let mut report = Report { text, faults: Vec::new(), unread: BTreeSet::new() };
    let config = report.read(&directory(path));
    let Report { mut faults, .. } = report;
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => {
            faults.sort_by_key(|fault| fault.place.map_or((1, None), |place| (0, Some(place))));
            faults.truncate(FAULTS_MAX);
            Err(ConfigError::Wrong { path: path.to_owned(), faults })
        }
    }
}

/// Absolute, so that a reload after a change of directory finds the same files.
fn directory(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// The faults found so far, and what must not be called missing because it was found and refused.
pub(super) struct Report<'t> {
    text: &'t str,
    faults: Vec<Fault>,
    unread: BTreeSet<String>,
}

impl<'t> Report<'t> {
    fn read(&mut self, base: &Path) -> Option<Config> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            self.syntax(error);
        }
        if !errors.is_empty() {
            return None;
        }
        let file = self.shape(table.clone())?;
        judge(self, &file, base, table.get_ref())
    }

    /// serde stops at its first error: what it names is told and taken out, until the rest has the right shape.
    fn shape(&mut self, mut table: Spanned<DeTable<'t>>) -> Option<shape::File> {
        loop {
            let error = match shape::File::deserialize(Deserializer::from(table.clone())) {
                Ok(file) => return Some(file),
                Err(error) => error,
            };
            let found = error.span().and_then(|span| find(table.get_ref(), &span));
            let Some(found) = found.filter(|_| self.faults.len() < FAULTS_MAX) else {
                self.syntax(&error);
                return None;
            };
            self.shape_fault(&error, &found);
            remove(table.get_mut(), &found.steps);
            self.unread.insert(found.key);
        }
    }

    fn syntax(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let detail = error.message().lines().collect::<Vec<_>>().join(", ");
        self.add("", span.start..span.start, Reason::Syntax { detail });
    }

    fn shape_fault(&mut self, error: &toml::de::Error, found: &Found) {
        let reason = if error.message().starts_with("unknown field") {
            names::later(&found.key).unwrap_or_else(|| unknown_key(error.message()))
        } else {
            Reason::WrongType { detail: wrong_type(error.message()) }
        };
        self.faults.push(Fault {
            place: Some(Place::of(self.text, found.place)),
            key: found.key.clone(),
            value: self.excerpt(found.value.clone()),
            reason,
        });
    }

    /// A fault of the value at `span`.
    pub(super) fn add(&mut self, key: impl Into<String>, span: Range<usize>, reason: Reason) {
        let place = Some(self.place(&span));
        let value = self.excerpt(span);
        self.faults.push(Fault { place, key: key.into(), value, reason });
    }

    /// A key that has to be there and is not; `near` is where it belongs, if its section exists.
    pub(super) fn missing(&mut self, key: &str, near: Option<Range<usize>>, remedy: &'static str) {
        let refused = |unread: &String| {
            key.strip_prefix(unread.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if !self.unread.iter().any(refused) {
            let place = near.map(|span| self.place(&span));
            let reason = Reason::Missing { remedy };
            self.faults.push(Fault { place, key: key.to_owned(), value: String::new(), reason });
        }
    }

    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        Place::of(self.text, span.start)
    }

    fn excerpt(&self, span: Range<usize>) -> String {
        let value = self.text.get(span).unwrap_or("");
        let line: String = value.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(VALUE_CHARS_MAX) {
            Some((cut, _)) => format!("{}…", line.get(..cut).unwrap_or("")),
            None => line,
        }
    }
}

/// The entry of the document that an error speaks of.
struct Found {
    key: String,
    /// From the root to the entry, table keys and array indices.
    steps: Vec<Step>,
    /// Where to point.
    place: usize,
    /// The value's text.
    value: Range<usize>,
    /// Octets of the text that matched: the narrowest match is meant.
    width: usize,
}

#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<Found> {
    let mut matches = Vec::new();
    search_table(table, span, &mut Vec::new(), &mut matches);
    matches.into_iter().min_by_key(|found| found.width)
}

fn search_table(table: &DeTable<'_>, span: &Range<usize>, steps: &mut Vec<Step>, matches: &mut Vec<Found>) {
    for (key, value) in table {
        steps.push(Step::Key(key.get_ref().to_string()));
        if contains(&key.span(), span) {
            matches.push(Found::at(steps, &key.span(), value_text(value)));
        }
        search_value(value, span, steps, matches);
        steps.pop();
    }
}

fn search_value(
    value: &Spanned<DeValue<'_>>,
    span: &Range<usize>,
    steps: &mut Vec<Step>,
    matches: &mut Vec<Found>,
) {
    if contains(&value.span(), span) {
        matches.push(Found::at(steps, &value.span(), value_text(value)));
    }
    match value.get_ref() {
        DeValue::Table(table) => search_table(table, span, steps, matches),
        DeValue::Array(array) => {
            for (index, element) in array.iter().enumerate() {
                steps.push(Step::Index(index));
                search_value(element, span, steps, matches);
                steps.pop();
            }
        }
        _ => {}
    }
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// A table's text says nothing in a message: it may be a header or many lines.
fn value_text(value: &Spanned<DeValue<'_>>) -> Range<usize> {
    let of_tables = |array: &DeArray<'_>| array.iter().any(|element| element.get_ref().is_table());
    let wide = value.get_ref().is_table() || value.get_ref().as_array().is_some_and(of_tables);
    if wide { 0..0 } else { value.span() }
}

impl Found {
    fn at(steps: &[Step], matched: &Range<usize>, value: Range<usize>) -> Self {
        let mut key = String::new();
        for step in steps {
            match step {
                Step::Key(name) if key.is_empty() => key.push_str(name),
                Step::Key(name) => key.extend([".", name]),
                Step::Index(index) => key.push_str(&format!("[{index}]")),
            }
        }
        Self { key, steps: steps.to_vec(), place: matched.start, value, width: matched.len() }
    }
}

/// Take out the innermost named entry; an element goes with its whole array, so that indices stay true.
fn remove(table: &mut DeTable<'_>, steps: &[Step]) {
    let last_key = steps.iter().rposition(|step| matches!(step, Step::Key(_)));
    let Some((Step::Key(last), path)) =
        last_key.and_then(|at| steps.get(..=at)).and_then(<[Step]>::split_last)
    else {
        return;
    };
    if let Some(parent) = descend(table, path) {
        parent.remove(last.as_str());
    }
}

fn descend<'a, 't>(table: &'a mut DeTable<'t>, path: &[Step]) -> Option<&'a mut DeTable<'t>> {
    let Some((Step::Key(first), mut rest)) = path.split_first() else { return Some(table) };
    let mut value = table.get_mut(first.as_str())?.get_mut();
    while let Some((Step::Index(index), after)) = rest.split_first() {
        let DeValue::Array(array) = value else { return None };
        value = array.get_mut(*index)?.get_mut();
        rest = after;
    }
    match value {
        DeValue::Table(inner) => descend(inner, rest),
        _ => None,
    }
}

/// serde's words, with Rust's types in an owner's.
fn wrong_type(message: &str) -> String {
    let words = message.strip_prefix("invalid type: ").unwrap_or(message).replace('`', "");
    words.replace("expected i64", "expected a whole number")
}

/// serde lists the keys that exist between back quotes, after the unknown one.
fn unknown_key(message: &str) -> Reason {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next().unwrap_or("").to_ascii_lowercase();
    let known: Vec<String> = quoted.map(str::to_owned).collect();
    let nearest = known
        .iter()
        .map(|key| (edits(&unknown, key), key))
        .filter(|(edits, key)| *edits <= TYPING_MISTAKE_EDITS_MAX && *edits < key.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, key)| key.clone());
    Reason::UnknownKey { known, nearest }
}

/// Levenshtein's distance, one row at a time.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = index;
        let mut previous = index.saturating_add(1);
        let cells = row.iter_mut();
        for (cell, to) in cells.zip(std::iter::once(None).chain(right.chars().map(Some))) {
            let above = *cell;
            *cell = match to {
                None => previous,
                Some(to) => {
                    let replaced = diagonal.saturating_add(usize::from(from != to));
                    replaced.min(above.saturating_add(1)).min(previous.saturating_add(1))
                }
            };
            diagonal = above;
            previous = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}
