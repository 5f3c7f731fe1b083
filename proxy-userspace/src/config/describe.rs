use super::Config;
use super::setting::Group as _;
use super::write::joined;
use crate::words::Size;

/// Columns of what is printed.
pub(super) const COLUMNS: usize = 120;

/// Words that a value may be, each with its meaning.
pub(super) type Words = &'static [(&'static str, &'static str)];

/// The settings of a group, in the order of the declaration.
pub(super) type SettingsOf = fn() -> Vec<Setting>;

/// One setting as it was declared.
pub(super) struct Setting {
    pub(super) key: &'static str,
    pub(super) purpose: &'static str,
    pub(super) form: ValueForm,
    pub(super) given: Presence,
    /// The default, or an example where there is none, in TOML.
    pub(super) toml: String,
}

/// Whether the file has to have a setting, and what holds without it. Examples are TOML.
pub(super) enum Presence {
    /// It has to be there.
    Required,
    /// A value, and an example where that shows nothing.
    Default { such_as: Option<&'static str> },
    /// Something else decides.
    Unset { means: &'static str },
    /// A table, or tables, of its own.
    Section,
    /// The settings of another group, in this table.
    Flattened,
}

/// What a value may be.
pub(super) enum ValueForm {
    Flag,
    Number {
        min: i64,
        max: i64,
        unit: &'static str,
        why: &'static str,
    },
    Size {
        min: Size,
        max: Size,
        why: &'static str,
    },
    Text {
        what: &'static str,
        words: Words,
    },
    List {
        of: Box<ValueForm>,
        min: usize,
        max: Option<usize>,
        /// No element stands in it twice.
        differ: bool,
    },
    Table(SettingsOf),
    Tables {
        of: SettingsOf,
        max: usize,
    },
    /// Tables under names, with the settings of the table `like`.
    Named {
        of: SettingsOf,
        max: usize,
        like: &'static str,
        example: &'static str,
    },
}

impl ValueForm {
    /// The type, with its unit.
    pub(super) fn type_words(&self) -> String {
        match self {
            Self::Flag => "`true` or `false`".to_owned(),
            Self::Number { unit: "", .. } => "whole number".to_owned(),
            Self::Number { unit, .. } => format!("whole number of {unit}"),
            Self::Size { .. } => "text, a whole number and KiB, MiB or GiB".to_owned(),
            Self::Text { what, words: [] } => format!("text, {what}"),
            Self::Text { words, .. } => {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("`\"{word}\"`")).collect();
                format!("text, {}", words.join(" or "))
            }
            Self::List { of, .. } => format!("list; each element: {}", of.type_words()),
            Self::Table(settings) => {
                let keys: Vec<_> = settings().iter().map(|setting| format!("`{}`", setting.key)).collect();
                format!("table with {}", keys.join(", "))
            }
            Self::Tables { max, .. } | Self::Named { max, .. } => format!("at most {max} tables"),
        }
    }

    /// The bounds, with their reason.
    pub(super) fn range_words(&self) -> Option<String> {
        match self {
            Self::Number { min, max, unit: "", why } => Some(format!("{min} to {max} ({why})")),
            Self::Number { min, max, unit, why } => Some(format!("{min} to {max} {unit} ({why})")),
            Self::Size { min, max, why } => Some(format!("`\"{min}\"` to `\"{max}\"` ({why})")),
            Self::List { min: 0, max: Some(max), .. } => Some(format!("at most {max} elements")),
            Self::List { min, max: Some(max), .. } => Some(format!("{min} to {max} elements")),
            Self::List { min: 1, max: None, .. } => Some("at least one element".to_owned()),
            _ => None,
        }
    }

    /// The words that a value, or an element of it, may be, with their meanings.
    pub(super) fn words(&self) -> Words {
        match self {
            Self::Text { words, .. } => words,
            Self::List { of, .. } => of.words(),
            _ => &[],
        }
    }
}

/// A table of the file with the settings that stand in it, without those of the tables below.
pub(super) struct DescribedTable {
    /// `[tls.fault]` or `[[steering.reach]]`.
    pub(super) header: String,
    pub(super) purpose: &'static str,
    /// Of tables in an array, or under names: how many there may be.
    pub(super) max: Option<usize>,
    /// The table that has the same settings, where they are told.
    pub(super) like: Option<&'static str>,
    /// An array of tables, or below one: there may be none.
    pub(super) is_optional: bool,
    pub(super) settings: Vec<Setting>,
}

impl DescribedTable {
    /// The settings, each with its words, unless the setting before it has the same.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&Setting, Words)> {
        let mut told: Words = &[];
        self.settings.iter().map(move |setting| {
            let words = setting.form.words();
            let new = if words == told { &[] } else { words };
            told = words;
            (setting, new)
        })
    }
}

/// All of them, in the order of the declaration, each before those below it.
pub(super) fn sections() -> Vec<DescribedTable> {
    let mut sections = Vec::new();
    collect("", false, Config::settings(), &mut sections);
    sections
}

fn collect(path: &str, is_optional: bool, settings: Vec<Setting>, sections: &mut Vec<DescribedTable>) {
    for Setting { key, purpose, form, .. } in settings {
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let (header, max, like, settings) = match form {
            ValueForm::Table(of) => (format!("[{path}]"), None, None, of()),
            ValueForm::Tables { of, max } => (format!("[[{path}]]"), Some(max), None, of()),
            ValueForm::Named { max, like, example, .. } => {
                (format!("[{}]", joined(&path, example)), Some(max), Some(like), Vec::new())
            }
            _ => continue,
        };
        let (below, settings) =
            settings.into_iter().partition(|setting| matches!(setting.given, Presence::Section));
        let is_optional = is_optional || max.is_some();
        sections.push(DescribedTable { header, purpose, max, like, is_optional, settings });
        collect(&path, is_optional, below, sections);
    }
}

/// A doc comment as one paragraph.
pub(super) fn prose(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A paragraph in lines of [`COLUMNS`]: the first one behind `first`, the others behind `next`.
pub(super) fn wrapped(text: &str, first: &str, next: &str) -> String {
    let (mut lines, mut line) = (String::new(), first.to_owned());
    let mut is_empty = true;
    for word in unbroken(text) {
        let width = line.chars().count().saturating_add(word.chars().count()).saturating_add(1);
        if !is_empty && width > COLUMNS {
            lines.extend([line.as_str(), "\n"]);
            line = next.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(&word);
        is_empty = false;
    }
    lines.extend([line.as_str(), "\n"]);
    lines
}

/// The words of a text. What stands between back quotes is one.
fn unbroken(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_open = false;
    for word in text.split_whitespace() {
        match words.last_mut().filter(|_| is_open) {
            Some(open) => open.extend([" ", word]),
            None => words.push(word.to_owned()),
        }
        is_open ^= word.matches('`').count() % 2 == 1;
    }
    words
}
