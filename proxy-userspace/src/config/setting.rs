use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::de::DeTable;

use super::describe::{Presence, Setting, ValueForm};
use super::kinds::Kind;
use super::report::{Report, TableReader, read_table};
use super::write::TableWriter;

/// Declares a struct whose fields are the settings of one table. Of each line come the field, the reading of the file,
/// and what the reference, the schema and the example say.
///
/// The doc comment is the setting's purpose, for operators: the first sentence says what it is. `as "key"` gives a key
/// that is not the field's name. Behind `=` stand the kind of value with its range, and what holds where the file does
/// not have the key. A group may stand in several places; its keys get the path of the place.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[doc = $purpose:literal])+ $field:ident $(as $key:literal)?: $type:ty = $declared:expr;)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $($(#[doc = $purpose])+ pub $field: $type,)+
        }

        impl $crate::config::setting::Group for $name {
            fn read(table: &mut $crate::config::report::TableReader<'_, '_>) -> Self {
                Self { $($field: ($declared.read)(table, settings!(@key $field $($key)?)),)+ }
            }

            fn settings() -> Vec<$crate::config::describe::Setting> {
                let mut settings = Vec::new();
                $({
                    let declared: $crate::config::setting::Declaration<$type> = $declared;
                    settings.extend(declared.describe(
                        settings!(@key $field $($key)?),
                        concat!($($purpose, "\n"),+),
                    ));
                })+
                settings
            }

            fn write(&self, table: &mut $crate::config::write::TableWriter) {
                $({
                    let declared: $crate::config::setting::Declaration<$type> = $declared;
                    (declared.write)(&self.$field, settings!(@key $field $($key)?), table);
                })+
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
}
pub(super) use settings;

/// Declares an enum whose variants are words of the file. `as "what"` names the kind of word in errors. The doc comment
/// of a variant is the word's meaning, for operators. `default` behind a word is for `derive(Default)`. `refuse` gives
/// words an answer of their own.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident as $what:literal {
            $($(#[doc = $meaning:literal])+ $variant:ident $(= $order:literal)? => $word:literal $($default:ident)?,)+
        }
        $(refuse $($refused:literal)|+ => $reason:expr;)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[doc = $meaning])+ $(#[$default])? $variant $(= $order)?,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// The word in the file.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl $crate::config::kinds::TextValue for $name {
            type Value = Self;
            const WHAT: &'static str = $what;
            const WORDS: $crate::config::describe::Words = &[$(($word, concat!($($meaning, "\n"),+)),)+];

            fn parse(text: &str) -> Result<Self, $crate::config::Reason> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    $($($refused)|+ => Err($reason),)*
                    _ => Err($crate::config::Reason::UnknownWord { what: $what, known: &[$($word),+] }),
                }
            }

            fn show(value: &Self) -> String {
                value.as_str().to_owned()
            }
        }
    };
}
pub(super) use words;

/// The settings of one table, made by [`settings!`].
pub(super) trait Group: Sized + 'static {
    /// Takes each value out of the table. A value that is missing or wrong is reported, and another stands in for it.
    fn read(table: &mut TableReader<'_, '_>) -> Self;

    /// In the order of the declaration.
    fn settings() -> Vec<Setting>;

    /// Every value, as a file has it; what is unset is left out.
    fn write(&self, table: &mut TableWriter);
}

/// What stands in for a value that is missing or wrong, which was reported: a file with a fault is never used.
pub(super) trait StandIn {
    /// A value that nobody looks at.
    fn stand_in() -> Self;
}

impl<G: Group> StandIn for G {
    fn stand_in() -> Self {
        read_table(&mut Report::new(&[], "/".into()), "", &DeTable::new(), None)
    }
}

impl<T> StandIn for Vec<T> {
    fn stand_in() -> Self {
        Self::new()
    }
}

impl StandIn for String {
    fn stand_in() -> Self {
        Self::new()
    }
}

impl StandIn for PathBuf {
    fn stand_in() -> Self {
        Self::new()
    }
}

/// What stands behind the `=` of a setting: how its value is read, or what holds without it, how it is written, and what
/// is said about it.
pub(super) struct Declaration<T> {
    pub(super) read: ReadSetting<T>,
    pub(super) write: WriteSetting<T>,
    pub(super) form: ValueForm,
    pub(super) given: Presence,
    pub(super) toml: String,
}

type ReadSetting<T> = Box<dyn FnOnce(&mut TableReader<'_, '_>, &'static str) -> T>;
type WriteSetting<T> = Box<dyn FnOnce(&T, &'static str, &mut TableWriter)>;

impl<T> Declaration<T> {
    /// For the reference, the schema and the example.
    pub(super) fn describe(self, key: &'static str, purpose: &'static str) -> Vec<Setting> {
        match self {
            Self { form: ValueForm::Table(settings), given: Presence::Flattened, .. } => settings(),
            Self { form, given, toml, .. } => vec![Setting { key, purpose, form, given, toml }],
        }
    }

    /// An example, where the default shows nothing; TOML.
    pub(super) fn such_as(self, example: &'static str) -> Self {
        Self { given: Presence::Default { such_as: Some(example) }, ..self }
    }
}

impl<T: 'static> Kind<T> {
    /// The setting has to be there. The remedy says what to write; the example is TOML.
    pub(super) fn required(self, remedy: &'static str, example: &str) -> Declaration<T>
    where
        T: StandIn,
    {
        let required = move |table: &mut TableReader<'_, '_>, key| {
            let value = table.value(key, &self.read);
            if value.is_none() {
                table.missing(key, remedy);
            }
            value.flatten().unwrap_or_else(T::stand_in)
        };
        Declaration {
            read: Box::new(required),
            write: Box::new(move |value, key, table| table.line(key, &(self.toml)(value))),
            form: self.form,
            given: Presence::Required,
            toml: example.to_owned(),
        }
    }

    /// The setting may be absent, and then something else decides, as `means` says. The example is TOML.
    pub(super) fn unset(self, means: &'static str, example: &str) -> Declaration<Option<T>> {
        let unset = move |table: &mut TableReader<'_, '_>, key| table.value(key, &self.read).flatten();
        let write = move |value: &Option<T>, key, table: &mut TableWriter| {
            if let Some(value) = value {
                table.line(key, &(self.toml)(value));
            }
        };
        Declaration {
            read: Box::new(unset),
            write: Box::new(write),
            form: self.form,
            given: Presence::Unset { means },
            toml: example.to_owned(),
        }
    }

    /// The value without the key.
    pub(super) fn default(self, value: T) -> Declaration<T> {
        let toml = (self.toml)(&value);
        let default = move |table: &mut TableReader<'_, '_>, key| {
            table.value(key, &self.read).flatten().unwrap_or(value)
        };
        Declaration {
            read: Box::new(default),
            write: Box::new(move |value, key, table| table.line(key, &(self.toml)(value))),
            form: self.form,
            given: Presence::Default { such_as: None },
            toml,
        }
    }
}

/// A table of its own below this one; every setting in it has a default, or is missing with it.
pub(super) fn section<G: Group>() -> Declaration<G> {
    let read = |table: &mut TableReader<'_, '_>, key| {
        let present = table.value(key, |written| written.group().unwrap_or_else(G::stand_in));
        let path = table.path(key);
        present.unwrap_or_else(|| read_table(table.report, &path, &DeTable::new(), None))
    };
    let write = |value: &G, key, table: &mut TableWriter| table.below(key, |below| value.write(below));
    Declaration {
        read: Box::new(read),
        write: Box::new(write),
        form: ValueForm::Table(G::settings),
        given: Presence::Section,
        toml: String::new(),
    }
}

/// An array of tables below this one, at most so many; without the key there is none.
pub(super) fn sections<G: Group>(max: usize) -> Declaration<Vec<G>> {
    let read = move |table: &mut TableReader<'_, '_>, key| {
        table.value(key, |written| written.groups(max)).unwrap_or_default()
    };
    let write = |values: &Vec<G>, key, table: &mut TableWriter| {
        for value in values {
            table.entry(key, |entry| value.write(entry));
        }
    };
    Declaration {
        read: Box::new(read),
        write: Box::new(write),
        form: ValueForm::Tables { of: G::settings, max },
        given: Presence::Section,
        toml: String::new(),
    }
}

/// Tables below this one, each under a name that the owner chooses, at most so many; without the key there is none. Their
/// settings are those of the table `like`, which says what they mean.
pub(super) fn named<G: Group>(
    max: usize,
    like: &'static str,
    example: &'static str,
) -> Declaration<BTreeMap<String, G>> {
    let read = move |table: &mut TableReader<'_, '_>, key| {
        table.value(key, |written| written.named(max)).unwrap_or_default()
    };
    let write = |values: &BTreeMap<String, G>, key: &'static str, table: &mut TableWriter| {
        table.below(key, |named| {
            for (name, value) in values {
                named.below(name, |below| value.write(below));
            }
        });
    };
    Declaration {
        read: Box::new(read),
        write: Box::new(write),
        form: ValueForm::Named { of: G::settings, max, like, example },
        given: Presence::Section,
        toml: String::new(),
    }
}

/// The keys of another group, in this table.
pub(super) fn flatten<G: Group>() -> Declaration<G> {
    let form = ValueForm::Table(G::settings);
    Declaration {
        read: Box::new(|table, _| G::read(table)),
        write: Box::new(|value, _, table| value.write(table)),
        form,
        given: Presence::Flattened,
        toml: String::new(),
    }
}
