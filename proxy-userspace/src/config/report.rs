use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::fault::{Fault, Place, Reason};
use super::kinds::{ReadValue, TextValue as _};
use super::names::ObjectName;
use super::setting::{Group, StandIn as _};
use super::write::joined;

/// More faults than this help nobody at once.
const FAULTS_MAX: usize = 50;
/// Faults that are looked for, so that the first ones of the file are among them; each costs a look at the whole text.
const FAULTS_FOUND_MAX: usize = 1000;
/// A value in a message stays on its line.
const VALUE_CHARS_MAX: usize = 60;
/// Edits between a typing mistake and the key that was meant.
const TYPING_MISTAKE_EDITS_MAX: usize = 3;

/// A file of the configuration.
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Where a value stands.
#[derive(Clone, Default)]
struct Spot {
    /// Of [`Report::files`].
    file: usize,
    span: Range<usize>,
}

/// The faults found so far, and where values stand, for relations between them.
pub(super) struct Report<'t> {
    files: &'t [SourceFile],
    /// The one that is read now.
    file: usize,
    /// The first file's directory, absolute: relative paths of all files are meant from it.
    pub(super) base: PathBuf,
    faults: Vec<(usize, Fault)>,
    places: BTreeMap<String, Vec<Spot>>,
}

impl<'t> Report<'t> {
    pub(super) const fn new(files: &'t [SourceFile], base: PathBuf) -> Self {
        Self { files, file: 0, base, faults: Vec::new(), places: BTreeMap::new() }
    }

    /// How many files there are.
    pub(super) const fn files(&self) -> usize {
        self.files.len()
    }

    /// From now on this file is read; its text.
    pub(super) fn enter(&mut self, file: usize) -> &'t str {
        self.file = file;
        self.text_of(file)
    }

    fn text_of(&self, file: usize) -> &'t str {
        self.files.get(file).map_or("", |file| &file.text)
    }

    /// A fault of the text at `span`, which is shown.
    pub(super) fn add(&mut self, key: &str, span: &Range<usize>, reason: Reason) {
        self.add_at(&Spot { file: self.file, span: span.clone() }, key, reason);
    }

    fn add_at(&mut self, spot: &Spot, key: &str, reason: Reason) {
        let value = self.excerpt(spot);
        self.push(spot.file, Some(spot.span.start), key, value, reason);
    }

    /// A fault of a value. The text of a table says nothing in a message: it may be a header or many lines.
    fn add_value(&mut self, start: usize, key: &str, value: &Spanned<DeValue<'_>>, reason: Reason) {
        let of_tables = |array: &DeArray<'_>| array.iter().any(|element| element.get_ref().is_table());
        let wide = value.get_ref().is_table() || value.get_ref().as_array().is_some_and(of_tables);
        let spot = Spot { file: self.file, span: value.span() };
        let excerpt = if wide { String::new() } else { self.excerpt(&spot) };
        self.push(self.file, Some(start), key, excerpt, reason);
    }

    /// The same of a value under a key that nobody knows. A URL is not shown: it may be the secret of a webhook.
    fn add_unknown(&mut self, start: usize, key: &str, value: &Spanned<DeValue<'_>>, reason: Reason) {
        let spot = Spot { file: self.file, span: value.span() };
        if self.excerpt(&spot).contains("://") {
            self.push(self.file, Some(start), key, String::new(), reason);
        } else {
            self.add_value(start, key, value, reason);
        }
    }

    fn push(&mut self, file: usize, offset: Option<usize>, key: &str, value: String, reason: Reason) {
        if self.faults.len() < FAULTS_FOUND_MAX {
            let place = offset.map(|offset| Place::of(self.text_of(file), offset));
            let path = self.files.get(file).map(|file| file.path.clone()).unwrap_or_default();
            self.faults.push((file, Fault { file: path, place, key: key.to_owned(), value, reason }));
        }
    }

    /// A fault of a value that was read, between it and another: `element` of a list, 0 of anything else.
    pub(super) fn relate(&mut self, key: &str, element: usize, reason: Reason) {
        let spot = self.spot(key, element);
        self.add_at(&spot, key, reason);
    }

    /// A fault of a table that was read, whose text is not shown.
    pub(super) fn relate_table(&mut self, key: &str, reason: Reason) {
        let Spot { file, span } = self.spot(key, 0);
        self.push(file, Some(span.start), key, String::new(), reason);
    }

    /// The line of a value that was read, as in [`Report::relate`].
    pub(super) fn line(&self, key: &str, element: usize) -> usize {
        let Spot { file, span } = self.spot(key, element);
        Place::of(self.text_of(file), span.start).line
    }

    /// Whether a file has the key.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// The file of a value that was read.
    pub(super) fn file_of(&self, key: &str) -> PathBuf {
        self.files.get(self.spot(key, 0).file).map(|file| file.path.clone()).unwrap_or_default()
    }

    fn spot(&self, key: &str, element: usize) -> Spot {
        self.places.get(key).and_then(|places| places.get(element)).cloned().unwrap_or_default()
    }

    /// Whether nothing is wrong with a value itself. Others are compared with it only then.
    pub(super) fn is_sound(&self, key: &str) -> bool {
        self.faults.iter().all(|(_, fault)| fault.key != key)
    }

    /// What was said about a key, to be said better.
    pub(super) fn reasons_mut(&mut self, key: &str) -> impl Iterator<Item = &mut Reason> {
        self.faults.iter_mut().filter(move |(_, fault)| fault.key == key).map(|(_, fault)| &mut fault.reason)
    }

    fn excerpt(&self, spot: &Spot) -> String {
        let value = self.text_of(spot.file).get(spot.span.clone()).unwrap_or("");
        let line: String = value.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(VALUE_CHARS_MAX) {
            Some((cut, _)) => format!("{}…", line.get(..cut).unwrap_or("")),
            None => line,
        }
    }

    /// In the order of the files; what is missing in a file with its whole section comes last there.
    pub(super) fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|(file, fault)| (*file, fault.place.is_none(), fault.place));
        self.faults.truncate(FAULTS_MAX);
        self.faults.into_iter().map(|(_, fault)| fault).collect()
    }
}

/// One table, and the keys that were asked for.
pub(super) struct TableReader<'a, 't> {
    pub(super) report: &'a mut Report<'t>,
    path: String,
    table: &'a DeTable<'t>,
    /// Where the table stands, if it does.
    span: Option<Range<usize>>,
    known: Vec<&'static str>,
}

impl<'a, 't> TableReader<'a, 't> {
    /// A key with its section, such as `tls.fault.expired`.
    pub(super) fn path(&self, key: &str) -> String {
        joined(&self.path, key)
    }

    /// What a key's value is read as, if the key is there.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Written<'_, 't>) -> T,
    ) -> Option<T> {
        let path = self.path(key);
        self.known.push(key);
        let value = self.table.get(key)?;
        self.report.places.insert(path.clone(), vec![Spot { file: self.report.file, span: value.span() }]);
        Some(read(&mut Written { report: self.report, key: &path, index: None, value }))
    }

    /// A key that has to be there and is not.
    pub(super) fn missing(&mut self, key: &str, remedy: &'static str) {
        let path = self.path(key);
        let offset = self.span.as_ref().map(|span| span.start);
        let file = self.report.file;
        self.report.push(file, offset, &path, String::new(), Reason::Missing { remedy });
    }
}

/// The settings of a table, which stands at `span`. Every key that the group does not ask for is a fault.
pub(super) fn read_table<'t, G: Group>(
    report: &mut Report<'t>,
    path: &str,
    table: &DeTable<'t>,
    span: Option<Range<usize>>,
) -> G {
    let mut reader = TableReader { report, path: path.to_owned(), table, span, known: Vec::new() };
    let group = G::read(&mut reader);
    for (key, value) in table {
        let name: &str = key.get_ref();
        if !reader.known.contains(&name) {
            let path = reader.path(name);
            let reason = unknown_key(name, &reader.known);
            reader.report.add_unknown(key.span().start, &path, value, reason);
        }
    }
    group
}

/// A value where it was written.
pub(super) struct Written<'a, 't> {
    pub(super) report: &'a mut Report<'t>,
    /// Of the setting.
    pub(super) key: &'a str,
    /// Of an element of a list.
    pub(super) index: Option<usize>,
    pub(super) value: &'a Spanned<DeValue<'t>>,
}

impl<'a, 't> Written<'a, 't> {
    pub(super) fn fault(&mut self, reason: Reason) {
        self.report.add_value(self.value.span().start, self.key, self.value, reason);
    }

    /// The same of a value that is a secret: its text is not shown.
    pub(super) fn fault_unshown(&mut self, reason: Reason) {
        let (file, start) = (self.report.file, self.value.span().start);
        self.report.push(file, Some(start), self.key, String::new(), reason);
    }

    /// The value that a type or a range takes, or a fault.
    pub(super) fn fits<T>(&mut self, value: Option<T>, reason: impl FnOnce() -> Reason) -> Option<T> {
        if value.is_none() {
            self.fault(reason());
        }
        value
    }

    /// What TOML's type gave, or the fault that it is another type.
    pub(super) fn typed<T>(&mut self, typed: Option<T>, expected: &str) -> Option<T> {
        if typed.is_none() {
            let found = match self.value.get_ref() {
                DeValue::String(_) => "a string",
                DeValue::Integer(_) => "a whole number",
                DeValue::Float(_) => "a number with a fraction",
                DeValue::Boolean(_) => "true or false",
                DeValue::Datetime(_) => "a date or a time",
                DeValue::Array(_) => "a list",
                DeValue::Table(_) => "a table",
            };
            let key =
                self.index.map_or_else(|| self.key.to_owned(), |index| format!("{}[{index}]", self.key));
            let reason = Reason::WrongType { detail: format!("{found}, expected {expected}") };
            self.report.add_value(self.value.span().start, &key, self.value, reason);
        }
        typed
    }

    /// The value where it is a string. Where it is none, nothing is said.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        self.value.get_ref().as_str()
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        self.typed(self.value.get_ref().as_str(), "a string")
    }

    /// The elements of a list, and a fault where they are too many.
    pub(super) fn elements(&mut self, expected: &str, max: Option<usize>) -> Option<&'a DeArray<'t>> {
        let array = self.typed(self.value.get_ref().as_array(), expected)?;
        if let Some((max, beyond)) = max.and_then(|max| Some((max, array.get(max)?))) {
            let reason = Reason::TooMany { count: array.len(), max };
            let of_tables = beyond.get_ref().is_table();
            let start = if of_tables { beyond.span().start } else { self.value.span().start };
            self.report.add_value(start, self.key, self.value, reason);
        }
        Some(array)
    }

    /// The settings of a table.
    pub(super) fn group<G: Group>(&mut self) -> Option<G> {
        let table = self.typed(self.value.get_ref().as_table(), "a table")?;
        Some(read_table(self.report, self.key, table, Some(self.value.span())))
    }

    /// An array of tables. A wrong entry stands in, too, so that the keys of the others keep their numbers.
    pub(super) fn groups<G: Group>(&mut self, max: usize) -> Vec<G> {
        let Some(array) = self.elements("a list of tables", Some(max)) else { return Vec::new() };
        let read = |(index, value): (usize, &Spanned<DeValue<'t>>)| {
            let key = format!("{}[{index}]", self.key);
            let mut entry = Written { report: self.report, key: &key, index: None, value };
            entry.group().unwrap_or_else(G::stand_in)
        };
        array.iter().take(max).enumerate().map(read).collect()
    }

    /// Tables, each under a name.
    pub(super) fn named<G: Group>(&mut self, max: usize) -> BTreeMap<String, G> {
        let Some(table) = self.typed(self.value.get_ref().as_table(), "a table of named tables") else {
            return BTreeMap::new();
        };
        if table.len() > max {
            self.fault(Reason::TooMany { count: table.len(), max });
        }
        let mut objects = BTreeMap::new();
        for (name, value) in table.iter().take(max) {
            let key = joined(self.key, name.get_ref());
            if let Err(reason) = ObjectName::parse(name.get_ref()) {
                self.report.add(&key, &name.span(), reason);
            }
            let spot = Spot { file: self.report.file, span: name.span() };
            self.report.places.insert(key.clone(), vec![spot]);
            let mut entry = Written { report: self.report, key: &key, index: None, value };
            objects.insert(name.get_ref().to_string(), entry.group().unwrap_or_else(G::stand_in));
        }
        objects
    }

    /// The elements of a list that are right, and where they stand.
    pub(super) fn list<T>(&mut self, array: &DeArray<'t>, read: &ReadValue<T>) -> Vec<(T, Range<usize>)> {
        let each = |(index, value): (usize, &Spanned<DeValue<'t>>)| {
            let mut element = Written { report: self.report, key: self.key, index: Some(index), value };
            Some((read(&mut element)?, value.span()))
        };
        array.iter().enumerate().filter_map(each).collect()
    }

    /// An element that stands in the list already, at the octet `first` of the text.
    pub(super) fn duplicate(&mut self, span: &Range<usize>, first: usize) {
        let first = Place::of(self.report.text_of(self.report.file), first).line;
        self.report.add(self.key, span, Reason::Duplicate { first });
    }

    /// Remember where the elements of a list stand.
    pub(super) fn note(&mut self, spans: Vec<Range<usize>>) {
        let file = self.report.file;
        let spots = spans.into_iter().map(|span| Spot { file, span }).collect();
        self.report.places.insert(self.key.to_owned(), spots);
    }
}

fn unknown_key(unknown: &str, known: &[&'static str]) -> Reason {
    Reason::UnknownKey { known: known.to_vec(), nearest: nearest(unknown, known.iter().copied()) }
}

/// The word that was probably meant.
pub(super) fn nearest<'k>(unknown: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let unknown = unknown.to_ascii_lowercase();
    known
        .map(|key| (edits(&unknown, &key.to_ascii_lowercase()), key))
        .filter(|(edits, key)| *edits <= TYPING_MISTAKE_EDITS_MAX && *edits < key.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, key)| key)
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
