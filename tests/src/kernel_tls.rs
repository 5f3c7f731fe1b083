//! What the kernel counts of its TLS (Documentation/networking/tls.rst), and which sides it should be given.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::netns::Namespace;
use crate::record::Record;

/// A namespace's counters; of the thread's own namespace, not of the process's.
const STATISTICS: &str = "/proc/thread-self/net/tls_stat";
/// The first kernel that can change keys.
const REKEY_SINCE: (u32, u32) = (6, 14);

/// Whether this kernel has TLS: its module is loaded or built in.
#[must_use]
pub fn exists() -> bool {
    Path::new(STATISTICS).exists()
}

/// Whether this kernel can change keys, by its version.
#[must_use]
pub fn changes_keys() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= REKEY_SINCE
}

/// The layers of one side, receiving and transmitting, that a mode of `tls.offload` should give it.
#[must_use]
pub fn expected(mode: &str) -> [&'static str; 2] {
    match mode {
        "auto" | "never" => ["user", "user"],
        _ if !exists() => ["user", "user"],
        _ => ["kernel", "kernel"],
    }
}

/// The layers of one side that a record tells, receiving and transmitting.
#[must_use]
pub fn told<'r>(record: &'r Record, side: &str) -> [&'r str; 2] {
    ["receive", "transmit"].map(|half| record.text(&format!("postern.{side}.{half}.layer")))
}

/// Counters of a namespace at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics(BTreeMap<String, u64>);

impl Statistics {
    /// Read them.
    ///
    /// # Errors
    /// When this kernel has no TLS.
    pub fn read(namespace: &Namespace) -> Result<Self> {
        let text = namespace
            .enter(|| fs::read_to_string(STATISTICS).with_context(|| format!("cannot read {STATISTICS}")))?;
        let numbers = text.lines().filter_map(|line| {
            let (name, number) = line.split_once(char::is_whitespace)?;
            Some((name.to_owned(), number.trim().parse().ok()?))
        });
        Ok(Self(numbers.collect()))
    }

    /// One of them; older kernels do not have all.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// How much one of them grew since.
    #[must_use]
    pub fn grown(&self, since: &Self, name: &str) -> u64 {
        self.of(name) - since.of(name)
    }
}
