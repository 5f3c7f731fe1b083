//! The memory of verdicts: which digests the octets of a message had when they were judged and nothing was removed. It
//! selects digests to compare with, and releases nothing itself.
//!
//! Mail threads ask a cache. What is not there, a thread of its own looks up in a file, and writes what is new into it
//! every few seconds: a slow or full disk makes mail be judged again, and holds up nobody. Names of accounts and
//! mailboxes do not stand in the file, only digests under a key that stands in it, too: who reads it can find out
//! whether a name that he knows is among them, and no name that he does not.

/// The file: its head, its key, and what redb reads and writes behind it.
mod file;
/// Entries in the file, the oldest of which go.
mod store;
/// The thread that owns the file.
mod owner;

use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::Serialize;
use tokio::sync::oneshot;

use self::file::StateFile;
pub(crate) use self::file::{MEMORY_FILE_BYTES_MAX, is_foreign};
use self::owner::Owner;
use super::digest::{DigestKey, GroupDigests};

/// Octets of the cache for mail threads: some 80,000 messages of a usual size.
const CACHE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Octets of an entry of the cache beside its digests: name, generation, length, the cache's own.
const CACHE_ENTRY_BYTES: u64 = 160;
/// Questions and news that wait for the thread with the file. Beyond, a question is a miss and news are dropped.
const ASKS_WAITING_MAX: usize = 4096;
/// Octets of digests that wait to be written. News of large messages are as large as 512 KiB for each 512 MiB.
const NEWS_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How long the end of the process waits for the last entries to be written. Tests go on in the same process, where two
/// would write the same file.
const LAST_WRITE_TIME_MAX: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 2 });
/// Octets of a name.
const NAME_BYTES: usize = 32;

/// What a message is called in the file.
type Name = [u8; NAME_BYTES];

/// Whose content it is, of which message, and which part of it. A server that keeps to RFC 9051 section 2.3.1.1 never has
/// other content under the same one.
#[derive(Clone, Copy, Debug)]
pub struct MessageKey<'a> {
    /// The server, by name or address.
    pub server: &'a [u8],
    /// The user, as it logged in.
    pub account: &'a [u8],
    /// The mailbox, as it was selected.
    pub mailbox: &'a [u8],
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// UID.
    pub uid: u32,
    /// Whether UTF8=ACCEPT is enabled (RFC 6855): servers give other octets then.
    pub utf8: bool,
    /// The section, as a command spells it.
    pub section: &'a [u8],
}

impl MessageKey<'_> {
    fn name(&self, key: &DigestKey) -> Name {
        let Self { server, account, mailbox, uid_validity, uid, utf8, section } = self;
        let (validity, uid, utf8) = (uid_validity.to_le_bytes(), uid.to_le_bytes(), [u8::from(*utf8)]);
        key.of_fields(&[server, account, mailbox, &validity, &uid, &utf8, section])
    }
}

/// By which rules something was judged. What other rules allowed is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleGeneration([u8; 16]);

impl RuleGeneration {
    /// Of these settings, read by this version of the code.
    ///
    /// # Errors
    /// The settings cannot be written down.
    pub fn of(settings: &impl Serialize, version: u32) -> Result<Self, postcard::Error> {
        let octets = postcard::to_stdvec(settings)?;
        let digest = blake3::Hasher::new().update(&version.to_le_bytes()).update(&octets).finalize();
        let (half, _) = digest.as_bytes().split_first_chunk().unwrap_or((&[0; 16], &[]));
        Ok(Self(*half))
    }
}

/// A verdict that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remembered {
    generation: RuleGeneration,
    digests: Arc<GroupDigests>,
}

impl Remembered {
    /// Octets that it takes of the bounds.
    fn octets(&self) -> u64 {
        u64::try_from(size_of_val(self.digests.digests())).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Copy, Debug)]
struct ByOctets;

impl Weighter<Name, Remembered> for ByOctets {
    fn weight(&self, _: &Name, remembered: &Remembered) -> u64 {
        CACHE_ENTRY_BYTES.saturating_add(remembered.octets())
    }
}

/// Numbers for the status; totals count since the process was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryNumbers {
    /// Verdicts that mail threads find at once.
    pub entries: u64,
    /// Whether there is a file that can be written.
    pub has_file: bool,
    /// Octets of the file.
    pub file_octets: u64,
    /// Messages whose digests were known.
    pub hits: u64,
    /// Messages whose digests were not known, or known under other rules.
    pub misses: u64,
    /// Verdicts that were not written, because the disk is slow, full or broken.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    dropped: AtomicU64,
    file_octets: AtomicU64,
}

impl Counts {
    fn answered(&self, known: Option<&Arc<GroupDigests>>) {
        let count = if known.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What mail threads and the thread with the file share.
struct Shared {
    names: DigestKey,
    groups: DigestKey,
    pseudonyms: DigestKey,
    cache: Cache<Name, Remembered, ByOctets>,
    counts: Counts,
    /// Octets of digests that wait to be written.
    news: AtomicU64,
    /// The file is open and was not found to fail.
    is_open: AtomicBool,
}

/// What the thread with the file is asked and told.
enum Ask {
    Lookup { name: Name, generation: RuleGeneration, answer: oneshot::Sender<Option<Arc<GroupDigests>>> },
    Remember { name: Name, remembered: Remembered },
    Forget { name: Name },
}

/// The memory of verdicts of one process. All calls return at once.
pub struct Memory {
    shared: Arc<Shared>,
    asks: Option<SyncSender<Ask>>,
    ended: Mutex<Option<Receiver<()>>>,
}

impl Memory {
    /// A memory over this file, and what the operator calls it. A file that is damaged begins anew. Without a file, or with
    /// one that cannot be written, verdicts are remembered as long as the process lives.
    ///
    /// # Errors
    /// There is no thread, or no randomness, to be had.
    pub fn start(file: Option<(File, String)>) -> io::Result<Self> {
        let file = file.and_then(|(file, name)| StateFile::open(file, name));
        let key = match &file {
            Some(file) => file.key().clone(),
            None => DigestKey::random().map_err(io::Error::other)?,
        };
        let entries = usize::try_from(CACHE_BYTES_MAX / CACHE_ENTRY_BYTES).unwrap_or(usize::MAX);
        let shared = Arc::new(Shared {
            names: key.derive("names"),
            groups: key.derive("groups"),
            pseudonyms: key.derive("pseudonyms"),
            cache: Cache::with_weighter(entries, CACHE_BYTES_MAX, ByOctets),
            counts: Counts::default(),
            news: AtomicU64::new(0),
            is_open: AtomicBool::new(false),
        });
        let Some(file) = file else { return Ok(Self { shared, asks: None, ended: Mutex::default() }) };
        let (asks, asked) = sync_channel(ASKS_WAITING_MAX);
        let (end, ended) = sync_channel(1);
        let owner = Owner::new(file, key.derive("values"), asked, Arc::clone(&shared));
        std::thread::Builder::new().name("vault-memory".to_owned()).spawn(move || {
            owner.run();
            drop(end);
        })?;
        Ok(Self { shared, asks: Some(asks), ended: Mutex::new(Some(ended)) })
    }

    /// What groups of content are hashed with, to be remembered or compared.
    #[must_use]
    pub fn key(&self) -> &DigestKey {
        &self.shared.groups
    }

    /// What records make pseudonyms with. It is the same as long as the file is kept.
    #[must_use]
    pub fn pseudonym_key(&self) -> &DigestKey {
        &self.shared.pseudonyms
    }

    /// The digests that this content had when it was judged by these rules and nothing was removed. They are a hint: octets
    /// that do not have them are judged.
    pub fn lookup(&self, key: &MessageKey<'_>, generation: RuleGeneration) -> Lookup {
        let name = key.name(&self.shared.names);
        if let Some(remembered) = self.shared.cache.get(&name) {
            return self.answer(remembered.of(generation));
        }
        let Some(asks) = self.asks.as_ref().filter(|_| self.shared.is_open.load(Ordering::Relaxed)) else {
            return self.answer(None);
        };
        let (answer, answered) = oneshot::channel();
        match asks.try_send(Ask::Lookup { name, generation, answer }) {
            Ok(()) => Lookup(Answer::Later(answered)),
            Err(_) => self.answer(None),
        }
    }

    fn answer(&self, known: Option<Arc<GroupDigests>>) -> Lookup {
        self.shared.counts.answered(known.as_ref());
        Lookup(Answer::Now(known))
    }

    /// This content was judged by these rules, and nothing was removed.
    pub fn remember(&self, key: &MessageKey<'_>, generation: RuleGeneration, digests: Arc<GroupDigests>) {
        let (name, remembered) = (key.name(&self.shared.names), Remembered { generation, digests });
        self.shared.cache.insert(name, remembered.clone());
        let Some(asks) = &self.asks else { return };
        let (octets, news) = (remembered.octets(), &self.shared.news);
        if news.fetch_add(octets, Ordering::Relaxed).saturating_add(octets) > NEWS_BYTES_MAX
            || asks.try_send(Ask::Remember { name, remembered }).is_err()
        {
            news.fetch_sub(octets, Ordering::Relaxed);
            self.shared.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The server has other octets under this name now.
    pub fn forget(&self, key: &MessageKey<'_>) {
        let name = key.name(&self.shared.names);
        self.shared.cache.remove(&name);
        // Where this is lost, the old digests are found once more, and the new octets are judged once more.
        let _ = self.asks.as_ref().map(|asks| asks.try_send(Ask::Forget { name }));
    }

    /// Numbers, as they are now.
    #[must_use]
    pub fn numbers(&self) -> MemoryNumbers {
        let Shared { cache, counts, is_open, .. } = &*self.shared;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        MemoryNumbers {
            entries: u64::try_from(cache.len()).unwrap_or(u64::MAX),
            has_file: is_open.load(Ordering::Relaxed),
            file_octets: count(&counts.file_octets),
            hits: count(&counts.hits),
            misses: count(&counts.misses),
            dropped: count(&counts.dropped),
        }
    }
}

impl Remembered {
    /// The digests, where these rules gave the verdict.
    fn of(self, generation: RuleGeneration) -> Option<Arc<GroupDigests>> {
        (self.generation == generation).then_some(self.digests)
    }
}

/// Writes what waits, if the disk takes it in time.
impl Drop for Memory {
    fn drop(&mut self) {
        self.asks = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(ended) = ended.take() {
            let _ = ended.recv_timeout(LAST_WRITE_TIME_MAX);
        }
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("numbers", &self.numbers()).finish_non_exhaustive()
    }
}

/// A future of what is known; `None` is nothing. Whoever no longer wants to know drops it.
#[derive(Debug)]
#[must_use = "it tells which digests are known"]
pub struct Lookup(Answer);

#[derive(Debug)]
enum Answer {
    Now(Option<Arc<GroupDigests>>),
    Later(oneshot::Receiver<Option<Arc<GroupDigests>>>),
}

/// May be polled by any runtime, and answers again when it is polled again.
impl Future for Lookup {
    type Output = Option<Arc<GroupDigests>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let known = match &mut self.0 {
            Answer::Now(known) => return Poll::Ready(known.clone()),
            Answer::Later(answered) => ready!(Pin::new(answered).poll(cx)).unwrap_or(None),
        };
        self.0 = Answer::Now(known.clone());
        Poll::Ready(known)
    }
}

#[cfg(test)]
mod tests;
