//! The owner's files with rules for the scanner, as they lie in `scanner.yara.directories`.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::content::scan::yara::YaraSource;

/// Files with rules. Public collections have some thousand.
const FILES_MAX: usize = 10_000;
/// Entries of all directories that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// Octets of all files. Public collections have some ten million.
const FILES_BYTES_MAX: u64 = 64 << 20;
/// Directories inside each other.
const DEPTH_MAX: u32 = 8;
/// What a file's name ends in.
const ENDINGS: [&str; 2] = ["yar", "yara"];

/// Why the files cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuleFilesError {
    /// The system refuses a directory.
    #[error("{}: {source}; make the directory, or take it out of scanner.yara.directories", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system refuses a file.
    #[error("{}: {source}; make the file readable, or move it elsewhere", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No text.
    #[error("{}:{line}: not UTF-8; save the file as UTF-8, or move it elsewhere", .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first line that is none.
        line: usize,
    },
    /// More than are read.
    #[error("{}: with this file scanner.yara.directories have more than {what}; move some elsewhere", .path.display())]
    TooMany {
        /// The file or directory that is one too many.
        path: PathBuf,
        /// What there is room for.
        what: &'static str,
    },
}

/// What lies in the directories.
#[derive(Debug, Default)]
pub(crate) struct RuleFiles {
    /// In the order of the directories, and of the names within each.
    pub(crate) sources: Vec<YaraSource>,
    /// When the one that was changed last was changed.
    pub(crate) newest: Option<SystemTime>,
    octets: u64,
    entries: usize,
}

impl RuleFiles {
    /// Read them. Directories inside are read, too; links to directories are not followed, and hidden files are none.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub(crate) fn read(directories: &[PathBuf]) -> Result<Self, RuleFilesError> {
        let mut files = Self::default();
        for directory in directories {
            files.directory(directory, 0)?;
        }
        Ok(files)
    }

    fn directory(&mut self, path: &Path, depth: u32) -> Result<(), RuleFilesError> {
        let too_many = |what| Err(RuleFilesError::TooMany { path: path.to_owned(), what });
        if depth > DEPTH_MAX {
            return too_many("8 directories inside each other");
        }
        let refused = |source| RuleFilesError::Directory { path: path.to_owned(), source };
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(refused)? {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return too_many("100,000 entries");
            }
            let entry = entry.map_err(refused)?;
            entries.push((entry.path(), entry.file_type().map_err(refused)?.is_dir()));
        }
        entries.sort();
        for (path, is_directory) in entries {
            let name = path.file_name().unwrap_or_default();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if is_directory {
                self.directory(&path, depth + 1)?;
            } else if path
                .extension()
                .is_some_and(|end| ENDINGS.iter().any(|ending| end.eq_ignore_ascii_case(ending)))
            {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), RuleFilesError> {
        let too_many = |what| Err(RuleFilesError::TooMany { path: path.to_owned(), what });
        if self.sources.len() >= FILES_MAX {
            return too_many("10,000 files");
        }
        let (octets, changed) =
            read(path).map_err(|source| RuleFilesError::File { path: path.to_owned(), source })?;
        self.octets = self.octets.saturating_add(octets.len() as u64);
        if self.octets > FILES_BYTES_MAX {
            return too_many("64 MiB of rules");
        }
        let text = String::from_utf8(octets).map_err(|error| {
            let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = valid.iter().filter(|octet| **octet == b'\n').count() + 1;
            RuleFilesError::NotText { path: path.to_owned(), line }
        })?;
        self.newest = self.newest.max(Some(changed));
        self.sources.push(YaraSource { file: path.display().to_string(), text });
        Ok(())
    }
}

/// A file's octets, one more than there is room for at most, and when it was changed.
fn read(path: &Path) -> io::Result<(Vec<u8>, SystemTime)> {
    // A FIFO would have the daemon wait for who writes it.
    let before = fs::metadata(path)?;
    if !before.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut octets = Vec::new();
    File::open(path)?.take(FILES_BYTES_MAX + 1).read_to_end(&mut octets)?;
    Ok((octets, before.modified()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn told(directories: &[PathBuf]) -> String {
        RuleFiles::read(directories).unwrap_err().to_string()
    }

    #[test]
    fn rules_are_read_from_all_directories_in_the_order_of_their_names() {
        let home = TempDir::new().unwrap();
        let [first, second] = ["first", "second"].map(|name| home.path().join(name));
        fs::create_dir_all(first.join("deep/er")).unwrap();
        fs::create_dir(&second).unwrap();
        for (directory, name, text) in [
            (&first, "b.yar", "B"),
            (&first, "deep/er/c.YARA", "C"),
            (&first, "a.yara", "A"),
            (&first, "README.md", "no rule"),
            (&first, ".a.yar.swp", "no rule"),
            (&first, ".hidden.yar", "no rule"),
            (&second, "0.yar", "0"),
        ] {
            fs::write(directory.join(name), text).unwrap();
        }
        symlink(&first, first.join("loop")).unwrap();
        symlink(first.join("README.md"), second.join("link.yar")).unwrap();
        let files = RuleFiles::read(&[first.clone(), second]).unwrap();
        let texts: Vec<&str> = files.sources.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["A", "B", "C", "0", "no rule"]);
        assert_eq!(files.sources[0].file, first.join("a.yara").display().to_string());
        assert_eq!(
            files.newest,
            Some(fs::metadata(home.path().join("second/0.yar")).unwrap().modified().unwrap())
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_path_and_the_remedy() {
        let home = TempDir::new().unwrap();
        let absent = home.path().join("absent");
        let shown = absent.display();
        assert_eq!(
            told(std::slice::from_ref(&absent)),
            format!(
                "{shown}: No such file or directory (os error 2); make the directory, or take it out of \
                 scanner.yara.directories"
            )
        );
        fs::create_dir(&absent).unwrap();
        fs::write(absent.join("a.yar"), b"rule a\n{ \xff }").unwrap();
        assert_eq!(
            told(std::slice::from_ref(&absent)),
            format!("{shown}/a.yar:2: not UTF-8; save the file as UTF-8, or move it elsewhere")
        );
        fs::remove_file(absent.join("a.yar")).unwrap();
        symlink("nowhere", absent.join("b.yar")).unwrap();
        assert!(told(std::slice::from_ref(&absent)).contains("b.yar: No such file or directory"));
        fs::remove_file(absent.join("b.yar")).unwrap();
        symlink("/dev/zero", absent.join("c.yar")).unwrap();
        assert!(told(std::slice::from_ref(&absent)).contains("c.yar: not a file; make"));
        fs::remove_file(absent.join("c.yar")).unwrap();
        let file = File::create(absent.join("d.yar")).unwrap();
        file.set_len(FILES_BYTES_MAX + 1).unwrap();
        assert!(
            told(std::slice::from_ref(&absent))
                .contains("d.yar: with this file scanner.yara.directories have more")
        );
        fs::remove_file(absent.join("d.yar")).unwrap();
        fs::create_dir_all(absent.join("1/2/3/4/5/6/7/8/9")).unwrap();
        assert!(
            told(&[absent])
                .contains("/8/9: with this file scanner.yara.directories have more than 8 directories")
        );
    }
}
