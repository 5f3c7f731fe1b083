//! The scanner's rules: read here, tried in a process that is thrown away, and kept in sealed memory for the judges.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::process::OWN_PROGRAM;
use super::rule_files::RuleFiles;
use crate::admin::ScannerStatus;
use crate::config::{Config, YaraSettings};
use crate::confine::{Role, identity};
use crate::content::scan::yara::{PACKED_BYTES_MAX, RuleFacts, RulesDigest, YaraSource, pack};
use crate::ipc::{Began, Begin, Channel, seal_parts};
use crate::judging::{FromJudge, ToJudge};

/// From the start of the process that tries rules to its answer. Ten thousand rules take a second or two; meanwhile sessions
/// go on, and nothing else is done here.
const TRY_TIME_MAX: Duration = Duration::from_secs(30);

/// Rules that can be compiled.
pub(super) struct ScannerRules {
    /// What they are made from.
    digest: RulesDigest,
    facts: RuleFacts,
    /// Sealed.
    memory: OwnedFd,
    compiled: OffsetDateTime,
    took: Duration,
    newest: Option<SystemTime>,
}

impl ScannerRules {
    /// Those of a configuration; none where no mail is judged, or no rules are wanted. What was tried `before` from the same
    /// files is taken as it is.
    ///
    /// # Errors
    /// A file cannot be read, or a rule is wrong; in an operator's words.
    pub(super) fn load(config: &Config, before: Option<&Arc<Self>>) -> Result<Option<Arc<Self>>> {
        let &YaraSettings { embedded, ref directories } = &config.scanner.yara;
        if !config.judges_mail() || !embedded && directories.is_empty() {
            return Ok(None);
        }
        let RuleFiles { sources, newest, .. } = RuleFiles::read(directories)?;
        let digest = RulesDigest::of(&sources, embedded);
        if let Some(same) = before.filter(|before| before.digest == digest && before.newest == newest) {
            return Ok(Some(Arc::clone(same)));
        }
        let began = Instant::now();
        let facts = facts(&sources, embedded, config)?;
        let took = began.elapsed();
        for warning in &facts.warnings {
            tracing::warn!("rules of the scanner: {warning}");
        }
        let memory = seal_parts(&[&pack(&facts, &sources, embedded)?], PACKED_BYTES_MAX)?;
        let compiled = OffsetDateTime::now_utc();
        Ok(Some(Arc::new(Self { digest, facts, memory, compiled, took, newest })))
    }

    /// What the judges load.
    pub(super) fn memory(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// By what verdicts under these rules are told from others.
    pub(super) const fn digest(&self) -> RulesDigest {
        self.digest
    }

    /// For `postern status`.
    pub(super) fn status(&self) -> ScannerStatus {
        let Self { facts, compiled, took, newest, .. } = self;
        let written = |time: OffsetDateTime| {
            time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
        };
        let newest = newest.map(OffsetDateTime::from);
        let age = newest.map(|newest| OffsetDateTime::now_utc() - newest);
        ScannerStatus {
            embedded: facts.embedded,
            own: facts.own,
            files: facts.files,
            compiled: written(*compiled),
            compile_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            newest: newest.map(written),
            newest_age_seconds: age.map(|age| u64::try_from(age.whole_seconds()).unwrap_or(0)),
        }
    }
}

/// What is known of these rules, found out by a judge that does nothing else and ends then: the compiler is the work of
/// others, and public rules are written by many.
fn facts(sources: &[YaraSource], embedded: bool, config: &Config) -> Result<RuleFacts> {
    let packed = pack(&RuleFacts::default(), sources, embedded)?;
    let memory = seal_parts(&[&packed], PACKED_BYTES_MAX)?;
    let deadline = Instant::now() + TRY_TIME_MAX;
    let (near, far) = Channel::pair().context("a channel to a process that tries the scanner's rules")?;
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0("postern-judge").arg(Role::Judge.as_str()).stdin(Stdio::from(OwnedFd::from(far)));
    let child = command.spawn().with_context(|| format!("starting a judge ({OWN_PROGRAM})"))?;
    let _trying = Ending(child);
    // Its end in this process is closed with the command.
    drop(command);
    let judge = identity(Role::Judge, &config.processes);
    let memory_bound = Some(config.limits.judge_memory.0);
    near.send(&Begin { identity: judge, ports: Vec::new(), memory: memory_bound, journal: None }, &[])?;
    match answer(&near, deadline)? {
        Began::Confined(_) => {}
        Began::Refused(why) => {
            bail!("the judge that tries the scanner's rules cannot give its powers up: {why}")
        }
    }
    near.send(&ToJudge::Compile, &[memory.as_fd()])?;
    match answer(&near, deadline)? {
        FromJudge::Compiled(compiled) => Ok(compiled?),
        FromJudge::Judges => bail!("the judge that tries the scanner's rules judges mail; please report it"),
    }
}

/// The next message, until the deadline.
fn answer<T: DeserializeOwned>(channel: &Channel, deadline: Instant) -> Result<T> {
    const WHAT: &str = "trying the scanner's rules (scanner.yara.directories; limits.judge_memory bounds what they may take)";
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("{WHAT}: it took longer than {} s", TRY_TIME_MAX.as_secs());
        }
        let left = Timespec::try_from(left).context(WHAT)?;
        match poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&left)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(channel.receive::<T>().context(WHAT)?.0),
            Err(error) => return Err(error).context(WHAT),
        }
    }
}

/// A process that is not needed any more when this is dropped.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
