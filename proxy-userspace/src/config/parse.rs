use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::slice;

use toml::de::DeTable;

use super::fault::{ConfigError, Fault, Reason};
use super::objects::{self, ObjectKind};
use super::policy::NamedObjects;
use super::report::{Report, SourceFile, read_table};
use super::setting::{Group, StandIn as _};
use super::{Config, relations};

/// A policy is a few KiB; more is a wrong path, such as a disk image or a log.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Files of `conf.d`: as many as there can be objects of both kinds.
const CONFIG_FILES_MAX: usize = 512;
/// The directory of further files, beside the first one.
const DIRECTORY: &str = "conf.d";

/// Read and judge a configuration: the file, and those with the ending `.toml` of the directory `conf.d` beside it.
///
/// # Errors
/// [`ConfigError`]: a file is missing or unreadable, or every fault of their text.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let mut files = vec![read(path)?];
    let further = further(&objects_directory(path))?;
    files.extend(further.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?);
    judge_files(&files, path)
}

/// Where the daemon of this configuration listens, whatever else is wrong with the file; the usual place where the file is not
/// there or no TOML.
#[must_use]
pub fn admin_socket(path: &Path) -> PathBuf {
    let usual = || parse_text("", path).map_or_else(PathBuf::new, |config| config.admin.socket);
    let written = read(path).ok().and_then(|file| parse_text(&file.text, path));
    written.map_or_else(usual, |config| config.admin.socket)
}

/// What can be made of a text; what is wrong has values that stand in for it.
fn parse_text(text: &str, path: &Path) -> Option<Config> {
    let file = SourceFile { path: path.to_owned(), text: text.to_owned() };
    document(&mut Report::new(slice::from_ref(&file), directory(path)), 0)
}

/// Judge the text of a configuration; `path` is named in errors, and its directory resolves relative paths. No other
/// file is looked for.
///
/// # Errors
/// [`ConfigError::Wrong`] with every fault that can be told at once.
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let file = SourceFile { path: path.to_owned(), text: text.to_owned() };
    judge_files(&[file], path)
}

/// Where the files of named objects are.
#[must_use]
pub fn objects_directory(path: &Path) -> PathBuf {
    directory(path).join(DIRECTORY)
}

/// In the order of their names. What editors and packages leave beside them has another ending.
fn further(directory: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    if files.len() > CONFIG_FILES_MAX {
        let (path, count) = (directory.to_owned(), files.len());
        return Err(ConfigError::TooManyFiles { path, count, max: CONFIG_FILES_MAX });
    }
    files.sort();
    Ok(files)
}

/// The text of one file.
pub(super) fn read(path: &Path) -> Result<SourceFile, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
        _ => unreadable(source),
    })?;
    let mut text = String::new();
    file.take(CONFIG_BYTES_MAX.saturating_add(1)).read_to_string(&mut text).map_err(unreadable)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), max: CONFIG_BYTES_MAX });
    }
    Ok(SourceFile { path: path.to_owned(), text })
}

/// Several files, the first of which has everything and the others objects. The directory of `config` resolves paths.
pub(super) fn judge_files(files: &[SourceFile], config: &Path) -> Result<Config, ConfigError> {
    let mut report = Report::new(files, directory(config));
    let mut read = documents(&mut report);
    if let Some(config) = &mut read {
        relations::judge(&mut report, config);
    }
    let faults = report.into_faults();
    read.filter(|_| faults.is_empty()).ok_or(ConfigError::Wrong { faults })
}

/// All files as one configuration, with the predefined objects; `None` where one of them is no TOML.
fn documents(report: &mut Report<'_>) -> Option<Config> {
    let mut config: Option<Config> = document(report, 0);
    let mut is_readable = config.is_some();
    let mut objects = config.as_mut().map(|config| std::mem::take(&mut config.objects)).unwrap_or_default();
    objects::refuse_predefined(report, &objects);
    for file in 1..report.files() {
        match document(report, file) {
            Some(further) => objects::join(report, &mut objects, further),
            None => is_readable = false,
        }
    }
    objects::add_predefined(&mut objects);
    let config = config.filter(|_| is_readable)?;
    let mut config = Config { objects, ..config };
    config.complete();
    Some(config)
}

/// The files of a configuration without this one, which holds an edit.
pub(super) fn sources_but(config: &Path, edited: Option<&Path>) -> Result<Vec<SourceFile>, ConfigError> {
    let same = |path: &Path| {
        edited.is_some_and(|edited| fs::canonicalize(edited).ok() == fs::canonicalize(path).ok())
    };
    let mut files = match read(config) {
        // On a new machine a clone may come first.
        Err(ConfigError::Missing { .. }) => vec![SourceFile { path: config.to_owned(), text: String::new() }],
        file => vec![file?],
    };
    let further = further(&objects_directory(config))?;
    let further = further.iter().filter(|path| !same(path));
    files.extend(further.map(|path| read(path)).collect::<Result<Vec<_>, _>>()?);
    Ok(files)
}

/// The objects of these files, whatever else is wrong with them.
pub(super) fn objects_of(files: &[SourceFile], config: &Path) -> Config {
    documents(&mut Report::new(files, directory(config))).unwrap_or_else(|| {
        let mut none = Config::stand_in();
        objects::add_predefined(&mut none.objects);
        none
    })
}

/// What is wrong with the objects of this file.
pub(super) fn faults_of_objects(file: &SourceFile, config: &Path) -> Vec<Fault> {
    let mut report = Report::new(slice::from_ref(file), directory(config));
    let _: Option<NamedObjects> = document(&mut report, 0);
    report.into_faults()
}

/// The file's one object as it is written here, with every setting.
pub(super) fn normal(
    file: &SourceFile,
    config: &Path,
    kind: ObjectKind,
    name: &str,
) -> Result<String, ConfigError> {
    let mut report = Report::new(slice::from_ref(file), directory(config));
    let objects = document(&mut report, 0);
    let faults = report.into_faults();
    let config = objects.map(|objects| Config { objects, ..Config::stand_in() });
    let text = config.and_then(|config| config.object_text(kind, name)).filter(|_| faults.is_empty());
    text.ok_or(ConfigError::Wrong { faults })
}

/// The settings of a file; `None` where it is no TOML, which is told.
fn document<G: Group>(report: &mut Report<'_>, file: usize) -> Option<G> {
    let text = report.enter(file);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let start = error.span().unwrap_or(0..0).start;
        let detail = error.message().lines().collect::<Vec<_>>().join(", ");
        report.add("", &(start..start), Reason::Syntax { detail });
    }
    errors.is_empty().then(|| read_table(report, "", document.get_ref(), None))
}

/// Absolute, so that a reload after a change of directory finds the same files.
fn directory(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}
