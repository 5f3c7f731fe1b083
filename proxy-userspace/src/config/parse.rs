use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::fault::{ConfigError, Reason};
use super::report::{Report, read_table};
use super::{Config, relations};

/// A policy is a few KiB; more is a wrong path, such as a disk image or a log.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Read and judge a configuration file.
///
/// # Errors
/// [`ConfigError`]: the file is missing or unreadable, or every fault of its text.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
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
    parse(&text, path)
}

/// Judge the text of a configuration; `path` is named in errors, and its directory resolves relative paths.
///
/// # Errors
/// [`ConfigError::Wrong`] with every fault that can be told at once.
pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let mut report = Report::new(text, directory(path));
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let start = error.span().unwrap_or(0..0).start;
        let detail = error.message().lines().collect::<Vec<_>>().join(", ");
        report.add("", &(start..start), Reason::Syntax { detail });
    }
    let config = errors.is_empty().then(|| {
        let config = read_table(&mut report, "", document.get_ref(), None);
        relations::judge(&mut report, &config);
        config
    });
    let faults = report.into_faults();
    config.filter(|_| faults.is_empty()).ok_or_else(|| ConfigError::Wrong { path: path.to_owned(), faults })
}

/// Absolute, so that a reload after a change of directory finds the same files.
fn directory(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}
