use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::fault::{ConfigError, Fault, Reason};
use super::kinds::TextValue as _;
use super::names::ObjectName;
use super::objects::ObjectKind;
use super::parse;
use super::report::SourceFile;
use super::write::joined;

/// Why no clone was made.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// A file could not be read, or is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no object of this name.
    #[error("no {kind} {name:?}; `postern {} list` shows what there is", .kind.command())]
    Unknown {
        /// Of which kind.
        kind: ObjectKind,
        /// The name that was asked for.
        name: String,
    },
    /// The name of the clone cannot be used.
    #[error("{name:?}: {reason}; {}", .reason.remedy())]
    Name {
        /// The name that was asked for.
        name: String,
        /// What is wrong with it.
        reason: Reason,
    },
    /// The name of the clone is another object's.
    #[error("there is a {kind} {name:?} already; choose another name")]
    Taken {
        /// Of which kind.
        kind: ObjectKind,
        /// The name that was asked for.
        name: String,
    },
    /// The file with the edit has nothing about the object.
    #[error("{}: no [{header}]; write the edit under this header, as `postern {} show` prints it",
        .path.display(), .kind.command())]
    NoEdit {
        /// The file.
        path: PathBuf,
        /// Of which kind.
        kind: ObjectKind,
        /// What it has to have.
        header: String,
    },
}

/// A clone as it is to be written.
#[derive(Debug)]
pub struct ObjectFile {
    /// In `conf.d`.
    pub path: PathBuf,
    /// TOML.
    pub text: String,
}

/// A copy of the object `from` under the name `to`, with the edit of the file `edited` on top. The edit stands under the
/// header of either. What else is wrong with the configuration does not matter here, so that an edit of a predefined
/// object can be moved into a clone.
///
/// # Errors
/// [`CloneError`]
pub fn clone_object(
    config: &Path,
    kind: ObjectKind,
    (from, to): (&str, &str),
    edited: Option<&Path>,
) -> Result<ObjectFile, CloneError> {
    ObjectName::parse(to).map_err(|reason| CloneError::Name { name: to.to_owned(), reason })?;
    let mut others = parse::sources_but(config, edited)?;
    let known = parse::objects_of(&others, config);
    if known.object_names(kind).contains(&to) {
        return Err(CloneError::Taken { kind, name: to.to_owned() });
    }
    let unknown = || CloneError::Unknown { kind, name: from.to_owned() };
    let text = known.object_text(kind, from).ok_or_else(unknown)?;
    let mut object = object_in(&text, kind, &[from]).ok_or_else(unknown)?;
    if let Some(path) = edited {
        let file = parse::read(path)?;
        let edit = edit_in(config, &file, kind, &[to, from])?;
        if object_in(&file.text, kind, &[to]).is_none() {
            // The file may have other objects, which the clone names.
            others = parse::sources_but(config, None)?;
        }
        lay_over(
            &mut object,
            edit.ok_or_else(|| CloneError::NoEdit {
                path: path.to_owned(),
                kind,
                header: joined(kind.table(), from),
            })?,
        );
    }
    let path = parse::objects_directory(config).join(format!("{}-{to}.toml", kind.command()));
    let text = document(kind, to, object);
    let text = parse::normal(&SourceFile { path: path.clone(), text }, config, kind, to)?;
    let head = format!(
        "# A clone of the {kind} {from}, made by `postern {} clone`. Edit it as you like: `postern check`\n\
         # judges it, and `postern reload` has a running Postern read it again.\n",
        kind.command()
    );
    let file = ObjectFile { path, text: head + &text };
    fits_in(config, others, &file)?;
    Ok(file)
}

/// What is written about an object under one of these names; faults of it are told with their lines.
fn edit_in(
    config: &Path,
    file: &SourceFile,
    kind: ObjectKind,
    names: &[&str],
) -> Result<Option<Table>, ConfigError> {
    let concerns = |fault: &Fault| {
        let of = |name: &&str| {
            let below = fault.key.strip_prefix(&joined(kind.table(), name));
            below.is_some_and(|below| below.is_empty() || below.starts_with('.'))
        };
        fault.key.is_empty() || names.iter().any(of)
    };
    let faults: Vec<Fault> = parse::faults_of_objects(file, config).into_iter().filter(concerns).collect();
    if !faults.is_empty() {
        return Err(ConfigError::Wrong { faults });
    }
    Ok(object_in(&file.text, kind, names))
}

/// The table of the first of these objects that the text has.
fn object_in(text: &str, kind: ObjectKind, names: &[&str]) -> Option<Table> {
    let document: Table = text.parse().ok()?;
    let of_kind = document.get(kind.table()).and_then(Value::as_table);
    names.iter().find_map(|name| {
        let object = match of_kind.and_then(|objects| objects.get(*name)) {
            None if *name == kind.unnamed() => document.get(name.trim_matches(['[', ']'])),
            found => found,
        };
        object?.as_table().cloned()
    })
}

fn document(kind: ObjectKind, name: &str, object: Table) -> String {
    let objects = Table::from_iter([(name.to_owned(), Value::Table(object))]);
    Table::from_iter([(kind.table().to_owned(), Value::Table(objects))]).to_string()
}

/// Each value of the edit takes the place of the object's; tables are laid over tables.
fn lay_over(object: &mut Table, edit: Table) {
    for (key, value) in edit {
        match (object.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(edit)) => lay_over(below, edit),
            (_, value) => {
                object.insert(key, value);
            }
        }
    }
}

/// Whether the settings of the clone go together, as the rest of the configuration stands.
fn fits_in(config: &Path, mut others: Vec<SourceFile>, file: &ObjectFile) -> Result<(), ConfigError> {
    others.push(SourceFile { path: file.path.clone(), text: file.text.clone() });
    let Err(ConfigError::Wrong { mut faults }) = parse::judge_files(&others, config) else { return Ok(()) };
    faults.retain(|fault| fault.file == file.path);
    if faults.is_empty() { Ok(()) } else { Err(ConfigError::Wrong { faults }) }
}
