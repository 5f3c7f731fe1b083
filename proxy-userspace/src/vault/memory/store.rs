use std::collections::HashMap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use redb::{
    Builder, Database, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition, TableError,
};

use super::file::{MEMORY_FILE_BYTES_MAX, StateFile};
use super::{NAME_BYTES, Name, Remembered, RuleGeneration};
use crate::vault::digest::{DigestKey, GroupDigests};

/// Octets of redb's own cache; the machine caches the file, too.
const PAGE_CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Octets of an entry beside its digests.
const ENTRY_BYTES: u64 = (NAME_BYTES + HEAD_BYTES) as u64 + 24;
/// Octets of a value before the digests: generation, length, check.
const HEAD_BYTES: usize = 16 + 8 + CHECK_BYTES;
/// Octets by which a value is known to be this process's own, whatever became of the disk.
const CHECK_BYTES: usize = 16;
/// Two tables share the file. A tree's pages are half full at worst, and what is replaced stands beside what replaces it
/// until it is written.
const TABLE_SHARE: u64 = 5;

type Entries = TableDefinition<'static, &'static [u8; NAME_BYTES], &'static [u8]>;

/// The one is written; the other has what was written before. Once the one has its share, the other is emptied and
/// written in turn.
const TABLES: [Entries; 2] = [Entries::new("verdicts 0"), Entries::new("verdicts 1")];
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Which of the tables is written: 0 or 1.
const CURRENT: &str = "current";
/// Octets that were written to it.
const WRITTEN: &str = "written";

/// What was learned and not written yet; `None` is forgotten.
pub(super) type News = HashMap<Name, Option<Remembered>>;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreFault {
    /// What stands in it makes no sense.
    #[error("damaged ({0})")]
    Damaged(String),
    /// The disk.
    #[error("{0}")]
    Disk(String),
}

impl<E: Into<redb::Error>> From<E> for StoreFault {
    fn from(error: E) -> Self {
        match error.into() {
            // Shorter than it says, or no database.
            redb::Error::Io(error)
                if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) =>
            {
                Self::Damaged(error.to_string())
            }
            redb::Error::Io(error) => Self::Disk(error.to_string()),
            error @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed) => Self::Disk(error.to_string()),
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// The entries of the file.
pub(super) struct Store {
    database: Option<Database>,
    key: DigestKey,
    /// Octets of a table.
    table_max: u64,
}

impl Store {
    pub(super) fn open(file: &StateFile, key: &DigestKey) -> Result<Self, StoreFault> {
        Self::within(file, key, MEMORY_FILE_BYTES_MAX)
    }

    /// In so many octets.
    pub(super) fn within(file: &StateFile, key: &DigestKey, octets: u64) -> Result<Self, StoreFault> {
        let database = guarded(|| {
            let mut builder = Builder::new();
            // Reads all of it: a page that the disk has changed makes redb do anything.
            builder.set_cache_size(PAGE_CACHE_BYTES).set_check_integrity_on_open(true);
            Ok(builder.create_with_backend(file.backend())?)
        })?;
        Ok(Self { database: Some(database), key: key.clone(), table_max: octets / TABLE_SHARE })
    }

    fn database(&self) -> Result<&Database, StoreFault> {
        self.database.as_ref().ok_or_else(|| StoreFault::Disk("closed".to_owned()))
    }

    /// What is written under this name, and whether it has to be written again because it is old.
    pub(super) fn get(&self, name: &Name) -> Result<Option<(Remembered, bool)>, StoreFault> {
        guarded(|| {
            let transaction = self.database()?.begin_read()?;
            let current = match transaction.open_table(META) {
                Ok(meta) => which(meta.get(CURRENT)?.map(|value| value.value())),
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            for (table, is_old) in [(current.0, false), (current.1, true)] {
                let entries = match transaction.open_table(table) {
                    Ok(entries) => entries,
                    Err(TableError::TableDoesNotExist(_)) => continue,
                    Err(error) => return Err(error.into()),
                };
                if let Some(value) = entries.get(name)? {
                    // One that is not as it was written is none.
                    return Ok(self.read(name, value.value()).map(|remembered| (remembered, is_old)));
                }
            }
            Ok(None)
        })
    }

    /// Write all of it, so that it outlives the machine's power.
    pub(super) fn write(&self, news: &News) -> Result<(), StoreFault> {
        guarded(|| {
            let transaction = self.database()?.begin_write()?;
            let (mut current, mut written) = {
                let meta = transaction.open_table(META)?;
                let number = |key| Ok::<_, StorageError>(meta.get(key)?.map(|value| value.value()));
                (number(CURRENT)?.unwrap_or(0), number(WRITTEN)?.unwrap_or(0))
            };
            let mut news = news.iter();
            while news.len() > 0 {
                let (table, older) = which(Some(current));
                let mut entries = transaction.open_table(table)?;
                for (name, remembered) in news.by_ref() {
                    match remembered {
                        Some(remembered) => {
                            let value = self.value(name, remembered);
                            written = written.saturating_add(ENTRY_BYTES.saturating_add(remembered.octets()));
                            entries.insert(name, value.as_slice())?;
                        }
                        None => {
                            entries.remove(name)?;
                            transaction.open_table(older)?.remove(name)?;
                        }
                    }
                    if written > self.table_max {
                        break;
                    }
                }
                drop(entries);
                if written > self.table_max {
                    transaction.delete_table(older)?;
                    (current, written) = (1 - current.min(1), 0);
                }
            }
            {
                let mut meta = transaction.open_table(META)?;
                meta.insert(CURRENT, current)?;
                meta.insert(WRITTEN, written)?;
            }
            Ok(transaction.commit()?)
        })
    }

    fn check(&self, name: &Name, generation: &[u8], length: &[u8], digests: &[u8]) -> [u8; CHECK_BYTES] {
        self.key.of_fields(&[name, generation, length, digests])
    }

    pub(super) fn value(&self, name: &Name, remembered: &Remembered) -> Vec<u8> {
        let Remembered { generation, digests } = remembered;
        let length = digests.length().to_le_bytes();
        let octets = digests.digests().iter().flat_map(|digest| *digest.octets()).collect::<Vec<_>>();
        let check = self.check(name, &generation.0, &length, &octets);
        [&generation.0[..], &length, &check, &octets].concat()
    }

    pub(super) fn read(&self, name: &Name, value: &[u8]) -> Option<Remembered> {
        let (generation, rest) = value.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (check, octets) = rest.split_first_chunk()?;
        if self.check(name, generation, length, octets) != *check {
            return None;
        }
        let digests = GroupDigests::from_octets(u64::from_le_bytes(*length), octets)?;
        Some(Remembered { generation: RuleGeneration(*generation), digests: Arc::new(digests) })
    }
}

/// Closing writes, too.
impl Drop for Store {
    fn drop(&mut self) {
        let database = self.database.take();
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
    }
}

/// The table that is written, and the other one.
const fn which(current: Option<u64>) -> (Entries, Entries) {
    let [zero, one] = TABLES;
    match current {
        None | Some(0) => (zero, one),
        Some(_) => (one, zero),
    }
}

/// A fault of redb's, too, costs nothing but this file's content.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreFault>) -> Result<T, StoreFault> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreFault::Damaged("redb found what cannot be".to_owned())))
}
