//! Files that are forbidden by their SHA-256: a list of the configuration's, and files of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Config, ContentSettings, FileHash};

/// Hashes of all proxy actions in use. They travel to the worker with its policy, 32 octets each.
const HASHES_MAX: usize = 250_000;
/// Octets of a file of hashes. A line of `sha256sum` has 64 digits and a name.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Forbidden hashes, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashList(Vec<FileHash>);

impl HashList {
    /// From hashes in any order.
    #[must_use]
    pub fn new(mut hashes: Vec<FileHash>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        Self(hashes)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is forbidden.
    #[must_use]
    pub fn contains(&self, sha256: &[u8; 32]) -> bool {
        self.0.binary_search(&FileHash(*sha256)).is_ok()
    }
}

/// What makes `action.content.hash_files` unusable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashFileError {
    /// The operating system refused to read it.
    #[error("{}: cannot be read ({source}); correct action.content.hash_files or the file's permissions", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// More than [`FILE_BYTES_MAX`].
    #[error("{}: more than {FILE_BYTES_MAX} octets; is it a list of hashes?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// A line without a hash.
    #[error("{}:{line}: no SHA-256; write 64 hexadecimal digits at the beginning of the line, as sha256sum does, or # before a comment", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// More than [`HASHES_MAX`].
    #[error("the lists of all proxy actions in use have {count} hashes, room for {HASHES_MAX}; shorten them")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// What files say that content is judged with. Read by the process that may, used by the one that may not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ContentMaterial {
    /// Of each proxy action in use, by its name in records.
    hashes: BTreeMap<String, HashList>,
}

impl ContentMaterial {
    /// Reads the files of every proxy action in use.
    ///
    /// # Errors
    /// Which file, what is wrong with it, and the remedy.
    pub(crate) fn read(config: &Config) -> Result<Self, HashFileError> {
        let (mut hashes, mut count) = (BTreeMap::new(), 0_usize);
        for (name, action) in config.actions_in_use() {
            let list = read_all(&action.content)?;
            count = count.saturating_add(list.0.len());
            hashes.insert(name.to_owned(), list);
        }
        if count > HASHES_MAX { Err(HashFileError::TooMany { count }) } else { Ok(Self { hashes }) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.hashes.values().map(|list| list.0.len()).sum()
    }

    /// Those of this proxy action.
    pub(crate) fn hashes(&self, action: &str) -> HashList {
        self.hashes.get(action).cloned().unwrap_or_default()
    }
}

fn read_all(settings: &ContentSettings) -> Result<HashList, HashFileError> {
    let mut hashes = settings.blocked_hashes.clone();
    for file in &settings.hash_files {
        read(file, &mut hashes)?;
    }
    Ok(HashList::new(hashes))
}

/// The hashes of one file. White space, and a backslash that `sha256sum` writes before odd names, do not count.
fn read(file: &Path, hashes: &mut Vec<FileHash>) -> Result<(), HashFileError> {
    let unreadable = |source| HashFileError::Read { file: file.to_owned(), source };
    let mut lines = BufReader::new(File::open(file).map_err(unreadable)?.take(FILE_BYTES_MAX));
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        if lines.read_until(b'\n', &mut text).map_err(unreadable)? == 0 {
            break;
        }
        let written = text.trim_ascii();
        let written = written.strip_prefix(b"\\").unwrap_or(written);
        if written.is_empty() || written.starts_with(b"#") {
            continue;
        }
        let digits = written.split(|octet| octet.is_ascii_whitespace()).next().unwrap_or_default();
        let hash = std::str::from_utf8(digits).ok().and_then(FileHash::of_digits);
        hashes.push(hash.ok_or_else(|| HashFileError::Line { file: file.to_owned(), line })?);
        if hashes.len() > HASHES_MAX {
            return Err(HashFileError::TooMany { count: hashes.len() });
        }
    }
    if lines.get_ref().limit() == 0 {
        return Err(HashFileError::TooLarge { file: file.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "275A021BBFB6489E54D471899F7DB9D1663FC695EC2FE2A2C4538AABF651FD0F";

    fn of_file(text: &str) -> Result<Vec<FileHash>, HashFileError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("hashes");
        std::fs::write(&file, text).unwrap();
        let mut hashes = Vec::new();
        read(&file, &mut hashes).map(|()| hashes)
    }

    #[test]
    fn a_file_of_sha256sum_is_read_with_comments_and_names_behind() {
        let other = "0".repeat(64);
        let hashes =
            of_file(&format!("# list\n\n{ONE}  eicar.com\r\n  {other} *b\n\\{other}  a\\nb\n{other}"))
                .unwrap();
        let list = HashList::new(hashes);
        assert_eq!(list.0.len(), 2);
        assert!(
            list.contains(&[0; 32]) && list.contains(&FileHash::of_digits(&ONE.to_lowercase()).unwrap().0)
        );
        assert!(!list.contains(&[1; 32]));
    }

    #[test]
    fn a_line_that_is_no_hash_is_told_with_its_number() {
        for wrong in ["x", &ONE[1..], &format!("{ONE}0"), &ONE.replace('A', "g"), "SHA256 (a) = 00"] {
            let error = of_file(&format!("{ONE}\n{wrong}\n")).unwrap_err().to_string();
            assert!(error.contains("hashes:2: no SHA-256"), "{error}");
        }
    }

    #[test]
    fn more_hashes_than_there_is_room_for_are_refused() {
        let lines: String = (0..=HASHES_MAX).map(|number| format!("{number:064x}\n")).collect();
        let error = of_file(&lines).unwrap_err().to_string();
        assert!(error.contains("250001 hashes, room for 250000"), "{error}");
    }

    #[test]
    fn each_action_in_use_has_the_hashes_of_its_list_and_of_its_files() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("blocked"), format!("{}  a\n", "11".repeat(32))).unwrap();
        let config = |files: &str| {
            let text = format!(
                "[certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n[steering]\ningress = [\"lan0\"]\n\
                 egress = [\"wan0\"]\n[action.content]\nblocked_hashes = [\"{}\"]\nhash_files = [{files}]\n\
                 [proxy_action.Unused.content]\nhash_files = [\"absent\"]\n",
                "22".repeat(32)
            );
            crate::config::parse(&text, &directory.path().join("postern.toml")).unwrap()
        };
        let material = ContentMaterial::read(&config("\"blocked\"")).unwrap();
        let hashes = material.hashes(crate::config::UNNAMED_ACTION);
        assert!(hashes.contains(&[0x11; 32]) && hashes.contains(&[0x22; 32]));
        assert!(!hashes.contains(&[0x33; 32]) && material.count() == 2);
        let error = ContentMaterial::read(&config("\"absent\"")).unwrap_err().to_string();
        assert!(error.contains("absent: cannot be read") && error.contains("hash_files"), "{error}");
    }
}
