use std::collections::BTreeMap;
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::describe::{ValueForm, Words};
use super::fault::Reason;
use super::report::Written;
use super::setting::Group;
use super::write::TableWriter;
use crate::words::Size;

/// What a value may be: how it is read, and how it is described. It is made for one reading.
pub(super) struct Kind<T> {
    pub(super) read: ReadValue<T>,
    /// As the file writes it.
    pub(super) toml: Box<dyn Fn(&T) -> String>,
    pub(super) form: ValueForm,
}

/// The value, or `None` after a fault was reported.
pub(super) type ReadValue<T> = Box<dyn Fn(&mut Written<'_, '_>) -> Option<T>>;

/// `true` or `false`.
pub(super) fn flag() -> Kind<bool> {
    let read =
        |written: &mut Written<'_, '_>| written.typed(written.value.get_ref().as_bool(), "true or false");
    Kind { read: Box::new(read), toml: Box::new(bool::to_string), form: ValueForm::Flag }
}

/// A whole number from `min` to `max` of this unit, which may be empty; `why` is the reason for the bounds.
pub(super) fn number<N: TryFrom<i64> + Display + 'static>(
    (min, max): (i64, i64),
    unit: &'static str,
    why: &'static str,
) -> Kind<N> {
    let read = move |written: &mut Written<'_, '_>| {
        let integer = written.typed(written.value.get_ref().as_integer(), "a whole number")?;
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let fits =
            number.filter(|number| (min..=max).contains(number)).and_then(|number| N::try_from(number).ok());
        written.fits(fits, || Reason::out_of_range(min, max, why))
    };
    let form = ValueForm::Number { min, max, unit, why };
    Kind { read: Box::new(read), toml: Box::new(N::to_string), form }
}

/// A whole number of seconds.
pub(super) fn seconds(range: (i64, i64), why: &'static str) -> Kind<Duration> {
    let Kind { read, form, .. } = number::<u64>(range, "seconds", why);
    let toml = Box::new(|value: &Duration| value.as_secs().to_string());
    Kind { read: Box::new(move |written| read(written).map(Duration::from_secs)), toml, form }
}

/// A whole number and a unit, such as `512 MiB`.
pub(super) fn size((min, max): (Size, Size), why: &'static str) -> Kind<Size> {
    let read = move |written: &mut Written<'_, '_>| {
        let size = parse_size(written.text()?);
        let reason = || match size {
            None => {
                Reason::unfit("not a size", "write a whole number and KiB, MiB or GiB, such as \"512 MiB\"")
            }
            Some(_) => Reason::size_out_of_range(min, max, why),
        };
        written.fits(size.filter(|size| (min..=max).contains(size)), reason)
    };
    let toml = Box::new(|value: &Size| quoted(&value.to_string()));
    Kind { read: Box::new(read), toml, form: ValueForm::Size { min, max, why } }
}

fn parse_size(text: &str) -> Option<Size> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.strip_prefix(digits)?.trim();
    let (_, octets) = Size::UNITS.into_iter().find(|(name, _)| *name == unit)?;
    Some(Size(digits.parse::<u64>().ok()?.checked_mul(octets)?))
}

/// A value that the file writes as a text.
pub(super) trait TextValue {
    /// What becomes of it.
    type Value: 'static;
    /// What the text is, such as `an interface name`.
    const WHAT: &'static str;
    /// The words that it may be; empty for texts of any other form.
    const WORDS: Words = &[];

    /// The value that a text means.
    fn parse(text: &str) -> Result<Self::Value, Reason>;

    /// The text, as [`TextValue::parse`] takes it.
    fn show(value: &Self::Value) -> String;
}

/// A text that means a value of this type.
pub(super) fn text<T: TextValue>() -> Kind<T::Value> {
    let read = |written: &mut Written<'_, '_>| {
        T::parse(written.text()?).map_err(|reason| written.fault(reason)).ok()
    };
    let toml = Box::new(|value: &T::Value| quoted(&T::show(value)));
    Kind { read: Box::new(read), toml, form: ValueForm::Text { what: T::WHAT, words: T::WORDS } }
}

/// A path; the remedy says what an empty one lacks. Relative ones are meant from the directory of the file.
pub(super) fn path(remedy: &'static str) -> Kind<PathBuf> {
    let read = move |written: &mut Written<'_, '_>| {
        let text = written.text()?;
        let path = (!text.is_empty()).then(|| written.report.base.join(text));
        written.fits(path, || Reason::Empty { remedy })
    };
    let toml = Box::new(|value: &PathBuf| quoted(&value.to_string_lossy()));
    Kind { read: Box::new(read), toml, form: ValueForm::Text { what: "a path", words: &[] } }
}

/// The path of a Unix socket, which has room for so many octets.
pub(super) fn socket(max: usize) -> Kind<PathBuf> {
    let Kind { read, toml, form } = path("name a file");
    let socket = move |written: &mut Written<'_, '_>| {
        let path = read(written)?;
        let octets = path.as_os_str().as_bytes().len();
        let what = || format!("the path resolves to {octets} octets, a Unix socket has room for {max}");
        written.fits((octets <= max).then_some(path), || Reason::unfit(what(), "choose a shorter path"))
    };
    Kind { read: Box::new(socket), toml, form }
}

/// A list whose elements differ, at most `max`. With `filled` it may not be empty, and `filled` is the remedy: an empty
/// list is most likely a mistake, and would mean something else than no list.
pub(super) fn list<T: 'static>(
    of: Kind<T>,
    max: Option<usize>,
    filled: Option<&'static str>,
) -> Kind<Vec<T>> {
    let Kind { read, toml, form } = of;
    let toml = Rc::new(toml);
    let same = Rc::clone(&toml);
    let elements = move |written: &mut Written<'_, '_>| {
        let array = written.elements("a list", max)?;
        if let Some(remedy) = filled.filter(|_| array.is_empty()) {
            written.fault(Reason::Empty { remedy });
            return None;
        }
        let mut seen = BTreeMap::new();
        let (mut values, mut places) = (Vec::new(), Vec::new());
        for (value, span) in written.list(array, &read) {
            let first = *seen.entry(same(&value)).or_insert(span.start);
            if first == span.start {
                values.push(value);
                places.push(span);
            } else {
                written.duplicate(&span, first);
            }
        }
        // An empty list keeps its own place.
        if !places.is_empty() {
            written.note(places);
        }
        Some(values)
    };
    let toml = move |value: &Vec<T>| {
        let elements: Vec<_> = value.iter().map(|element| toml(element)).collect();
        format!("[{}]", elements.join(", "))
    };
    let form = ValueForm::List { of: Box::new(form), min: usize::from(filled.is_some()), max, differ: true };
    Kind { read: Box::new(elements), toml: Box::new(toml), form }
}

/// A table as a value, such as `{ cert = "a.pem", key = "a.key" }`, which has to be there: it has no default.
pub(super) fn table<G: Group>() -> Kind<G> {
    let toml = |value: &G| {
        let mut table = TableWriter::default();
        value.write(&mut table);
        table.into_inline()
    };
    let form = ValueForm::Table(G::settings);
    Kind { read: Box::new(|written| written.group()), toml: Box::new(toml), form }
}

/// As a basic string of TOML, whose escapes are those of JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
