use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::file::StateFile;
use super::store::{News, Store, StoreFault};
use super::{Ask, Name, RuleGeneration, Shared};
use crate::line_limit::LineLimit;
use crate::vault::digest::{DigestKey, GroupDigests};

/// News are written together, this long after the first of them. What a crash loses is judged once more.
const WRITE_PAUSE: Duration = Duration::from_secs(5);
/// So many are written at once, whenever it is.
const NEWS_MAX: usize = 4096;
/// A file that the disk did not take is tried again after this.
const REOPEN_PAUSE: Duration = Duration::from_secs(60);
/// A file that is found damaged more often than this is left alone: it is the disk.
const BEGUN_ANEW_MAX: u32 = 8;

static DISK_LINES: LineLimit = LineLimit::new();

/// Everything that the thread has.
pub(super) struct Owner {
    file: StateFile,
    key: DigestKey,
    asks: Receiver<Ask>,
    shared: Arc<Shared>,
    store: Option<Store>,
    news: News,
    /// When `news` are to be written; `None` while there are none.
    due: Option<Instant>,
    /// When the file is to be tried again, where there is no store.
    reopen: Instant,
    begun_anew: u32,
}

impl Owner {
    pub(super) fn new(file: StateFile, key: DigestKey, asks: Receiver<Ask>, shared: Arc<Shared>) -> Self {
        let (news, reopen) = (News::new(), Instant::now());
        Self { file, key, asks, shared, store: None, news, due: None, reopen, begun_anew: 0 }
    }

    /// Until nobody can ask any more.
    pub(super) fn run(mut self) {
        loop {
            if self.store.is_none() && Instant::now() >= self.reopen {
                self.open();
            }
            let reopen = self.store.is_none().then_some(self.reopen);
            let next = self.due.into_iter().chain(reopen).min();
            let wait = next.map_or(REOPEN_PAUSE, |next| next.saturating_duration_since(Instant::now()));
            match self.asks.recv_timeout(wait) {
                Ok(ask) => self.take(ask),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write();
                    return;
                }
            }
            let is_due = self.due.is_some_and(|due| due <= Instant::now());
            if is_due || self.news.len() >= NEWS_MAX {
                self.write();
            }
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Lookup { name, generation, answer } => {
                if !answer.is_closed() {
                    let known = self.look_up(&name, generation);
                    self.shared.counts.answered(known.as_ref());
                    let _ = answer.send(known);
                }
            }
            Ask::Remember { name, remembered } => self.note(name, Some(remembered)),
            Ask::Forget { name } => self.note(name, None),
        }
    }

    fn note(&mut self, name: Name, news: Option<super::Remembered>) {
        if let Some(Some(replaced)) = self.news.insert(name, news) {
            self.shared.news.fetch_sub(replaced.octets(), Ordering::Relaxed);
        }
        self.due.get_or_insert_with(|| Instant::now() + WRITE_PAUSE);
    }

    fn look_up(&mut self, name: &Name, generation: RuleGeneration) -> Option<Arc<GroupDigests>> {
        if let Some(news) = self.news.get(name) {
            return news.clone()?.of(generation);
        }
        match self.store.as_ref()?.get(name) {
            Ok(found) => {
                let (remembered, is_old) = found?;
                self.shared.cache.insert(*name, remembered.clone());
                if is_old && self.news.len() < NEWS_MAX {
                    // What is asked for outlives what is not.
                    self.shared.news.fetch_add(remembered.octets(), Ordering::Relaxed);
                    self.note(*name, Some(remembered.clone()));
                }
                remembered.of(generation)
            }
            Err(fault) => {
                self.fell(&fault);
                None
            }
        }
    }

    fn write(&mut self) {
        let (news, due) = (std::mem::take(&mut self.news), self.due.take());
        if due.is_none() {
            return;
        }
        let octets = news.values().flatten().map(super::Remembered::octets).sum();
        self.shared.news.fetch_sub(octets, Ordering::Relaxed);
        let written = match &self.store {
            Some(store) => store.write(&news),
            None => Err(StoreFault::Disk("not open".to_owned())),
        };
        if let Err(fault) = written {
            let lost = u64::try_from(news.len()).unwrap_or(u64::MAX);
            self.shared.counts.dropped.fetch_add(lost, Ordering::Relaxed);
            if self.store.is_some() {
                self.fell(&fault);
            }
        }
        self.shared.counts.file_octets.store(self.file.octets(), Ordering::Relaxed);
    }

    fn open(&mut self) {
        match Store::open(&self.file, &self.key) {
            Ok(store) => {
                self.store = Some(store);
                self.shared.is_open.store(true, Ordering::Relaxed);
                self.shared.counts.file_octets.store(self.file.octets(), Ordering::Relaxed);
            }
            Err(fault) => self.fell(&fault),
        }
    }

    /// The file cannot be used as it is.
    fn fell(&mut self, fault: &StoreFault) {
        self.store = None;
        self.shared.is_open.store(false, Ordering::Relaxed);
        self.reopen = Instant::now() + REOPEN_PAUSE;
        let name = self.file.name();
        match fault {
            StoreFault::Damaged(_) if self.begun_anew < BEGUN_ANEW_MAX => {
                self.begun_anew += 1;
                tracing::warn!(
                    "{name}: the memory of verdicts is {fault}; it begins anew, and mail is judged again. If this comes \
                     again, look at the disk"
                );
                match self.file.begin_anew() {
                    Ok(()) => self.reopen = Instant::now(),
                    Err(error) => self.say_unusable(&error.to_string()),
                }
            }
            fault => self.say_unusable(&fault.to_string()),
        }
    }

    fn say_unusable(&self, why: &str) {
        if let Some(more) = DISK_LINES.admit() {
            tracing::warn!(
                "{}: {why}; verdicts are remembered in memory only, tried again in {} s: make room on the disk, or look \
                 whether it fails{more}",
                self.file.name(),
                REOPEN_PAUSE.as_secs()
            );
        }
    }
}
