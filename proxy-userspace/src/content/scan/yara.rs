//! YARA rules: Postern's own, and those of an owner's directories.
//!
//! Rules are compiled first by a process that has nothing else to do, sees no octet of a stranger's and is thrown away: so
//! it is known that they can be, and what they take. What travels to the judges is their text, with what was found out
//! about it, and each judge compiles it again. The engine (boreal 1.4) can write compiled rules down as well, but reads back no
//! more than 1,024 rules, nor 1,024 terms of one condition; and it believes what it reads.
//!
//! Each file is scanned whole, with what is known of it as external variables.

/// From sources to rules.
mod compile;
/// Rules as octets, and what is known of them.
mod packed;
/// The rules that Postern brings along.
mod embedded;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use boreal::scanner::{ScanCallbackResult, ScanError, ScanEvent, ScanParams};
use rustix::time::{ClockId, clock_gettime};

pub use self::compile::{RulesDigest, YaraError, YaraSource, compile};
pub use self::packed::{LoadError, PACKED_BYTES_MAX, RuleFacts, pack, unpack};
use super::{ScanOutcome, ScannedFile, Scanner};

/// One scan of one file, by the clock. The engine looks at it after some thousand comparisons, so that a scan may last
/// somewhat longer; the bound of the judge's process holds for everything else.
const SCAN_TIME_MAX: Duration = Duration::from_secs(30);
/// A scan that did not end in time, and had at least this of a processor, would not end tomorrow either. One that had
/// less says something about the machine only.
const SCAN_COSTLY_TIME: Duration = Duration::from_secs(10);
/// Matches of one string that count (`#a`, `@a`), from the first on: a sender who knows a rule could put so many in front. Each
/// takes some 60 octets of memory while a file is scanned.
const STRING_MATCHES_MAX: u32 = 100_000;
/// Names under which one file is scanned, where rules ask for its name. With more of them a file cannot be scanned.
const NAMES_SCANNED_MAX: usize = 32;
/// Characters of a signature's name.
const SIGNATURE_CHARS_MAX: usize = 128;
/// A rule with this tag is a remark: it forbids nothing.
const REMARK_TAG: &str = "informational";
/// The meta datum that names the signature; without it the name is `namespace.rule`.
const SIGNATURE_META: &str = "signature";

/// External variables of rules.
pub(super) mod variable {
    /// A name of the file, without its path.
    pub(crate) const FILENAME: &str = "filename";
    /// The same with the path that it has in an archive.
    pub(crate) const FILEPATH: &str = "filepath";
    /// The end of the name with its dot, in lower case.
    pub(crate) const EXTENSION: &str = "extension";
    /// Every name in lower case, each with a line feed behind it.
    pub(crate) const NAMES: &str = "names";
    /// What the file is by its octets, as records say it; empty where that is not known.
    pub(crate) const REAL_TYPE: &str = "real_type";
    /// Whether the file is inside another one.
    pub(crate) const IS_MEMBER: &str = "is_member";
    /// All of them.
    pub(crate) const ALL: [&str; 6] = [FILENAME, FILEPATH, EXTENSION, NAMES, REAL_TYPE, IS_MEMBER];
}

/// Scans with compiled rules.
pub struct YaraScanner {
    rules: boreal::Scanner,
    facts: RuleFacts,
    /// [`SCAN_TIME_MAX`].
    time_max: Duration,
    /// [`SCAN_COSTLY_TIME`].
    costly_time: Duration,
}

impl YaraScanner {
    /// From what [`pack`] made.
    ///
    /// # Errors
    /// [`LoadError`]: another version of Postern made them, or they are damaged.
    pub fn load(octets: &[u8]) -> Result<Self, LoadError> {
        let (facts, sources, embedded) = unpack(octets)?;
        let (rules, _) = compile::rules(&sources, embedded)?;
        Ok(Self { rules, facts, time_max: SCAN_TIME_MAX, costly_time: SCAN_COSTLY_TIME })
    }

    /// What is known of the rules.
    #[must_use]
    pub const fn facts(&self) -> &RuleFacts {
        &self.facts
    }

    /// One scan, under one of the file's names.
    fn scan_as(&self, file: &ScannedFile<'_>, name: &str, names: &str) -> ScanOutcome {
        let mut rules = self.rules.clone();
        rules.set_scan_params(limits(self.time_max));
        let real_type = file.real_type.map_or("", super::super::RealType::token);
        let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let extension = base.rfind('.').and_then(|dot| base.get(dot..)).unwrap_or_default().to_lowercase();
        let defined = [
            rules.define_symbol(variable::FILENAME, base),
            rules.define_symbol(variable::FILEPATH, name),
            rules.define_symbol(variable::EXTENSION, extension),
            rules.define_symbol(variable::NAMES, names),
            rules.define_symbol(variable::REAL_TYPE, real_type),
            rules.define_symbol(variable::IS_MEMBER, file.is_member),
        ];
        if defined.iter().any(Result::is_err) {
            // Rules of this version have all of them.
            return ScanOutcome::Unavailable;
        }
        let mut found = None;
        let began = processor_time();
        let scanned = rules.scan_mem_with_callback(file.octets, |event| {
            if let ScanEvent::RuleMatch(rule) = event
                && !rule.tags.iter().any(|tag| rules.get_string_symbol(*tag) == REMARK_TAG)
            {
                found = Some(signature(&rules, &rule));
                return ScanCallbackResult::Abort;
            }
            ScanCallbackResult::Continue
        });
        match (scanned, found) {
            (_, Some(signature)) => ScanOutcome::Found(signature),
            (Ok(()), None) => ScanOutcome::Clean,
            // What is final must follow from the file, not from how busy the machine is.
            (Err(ScanError::Timeout), None) if processor_time().saturating_sub(began) >= self.costly_time => {
                ScanOutcome::CannotScan
            }
            (Err(_), None) => ScanOutcome::Unavailable,
        }
    }
}

impl Scanner for YaraScanner {
    fn name(&self) -> &'static str {
        "yara"
    }

    /// The engine cannot be interrupted: `cancelled` is looked at between two scans of one file.
    fn scan(&self, file: &ScannedFile<'_>, cancelled: &AtomicBool) -> ScanOutcome {
        let mut names = String::new();
        for name in file.names {
            names.extend([usual(name).to_lowercase().as_str(), "\n"]);
        }
        let mut seen: Vec<&str> = Vec::new();
        let mut is_all = true;
        for name in file.names.iter().map(|name| usual(name)) {
            if seen.contains(&name) {
                continue;
            }
            if seen.len() < NAMES_SCANNED_MAX {
                seen.push(name);
            } else {
                is_all = !self.facts.ask_for_name;
            }
        }
        if seen.is_empty() || !self.facts.ask_for_name {
            seen = vec![seen.first().copied().unwrap_or_default()];
        }
        for name in seen {
            if cancelled.load(Ordering::Relaxed) {
                return ScanOutcome::Unavailable;
            }
            match self.scan_as(file, name, &names) {
                ScanOutcome::Clean => {}
                other => return other,
            }
        }
        if is_all { ScanOutcome::Clean } else { ScanOutcome::CannotScan }
    }
}

/// A name as Windows keeps it: without what it leaves out at the end.
fn usual(name: &str) -> &str {
    name.trim_end_matches(|c: char| matches!(c, '.' | '"' | '\'') || c.is_whitespace())
}

/// What records and the reader of a mail are told.
fn signature(rules: &boreal::Scanner, rule: &boreal::scanner::EvaluatedRule<'_>) -> String {
    let named = rule.metadatas.iter().find_map(|meta| match meta.value {
        boreal::MetadataValue::Bytes(value) if rules.get_string_symbol(meta.name) == SIGNATURE_META => {
            Some(String::from_utf8_lossy(rules.get_bytes_symbol(value)).into_owned())
        }
        _ => None,
    });
    let name = named.unwrap_or_else(|| format!("{}.{}", rule.namespace, rule.name));
    name.chars().filter(|c| !c.is_control()).take(SIGNATURE_CHARS_MAX).collect()
}

/// How one file is scanned: in one piece, as a file and never as a process's memory, and only until a rule is true.
fn limits(time: Duration) -> ScanParams {
    ScanParams::default()
        .timeout_duration(Some(time))
        .string_max_nb_matches(STRING_MATCHES_MAX)
        .match_max_length(0)
        .compute_full_matches(false)
        .process_memory(false)
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds)
        .saturating_add(Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0)))
}
