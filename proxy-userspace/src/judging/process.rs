use std::ops::Deref as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::protocol::{
    BODY_BYTES_MAX, FromJudge, JudgeOrder, JudgeReply, JudgeRequest, LeafBody, PROTOCOL_VERSION,
    RequestFault, TERMS_CPU_SECONDS, TermsId, TermsReply, ToJudge, read_body,
};
use super::recent::RecentTerms;
use crate::config::ContentSettings;
use crate::content::open::OpenLimits;
use crate::content::scan::Scanner;
use crate::content::scan::yara::{self, PACKED_BYTES_MAX, RuleFacts, YaraError, YaraScanner, unpack};
use crate::content::{HashList, Judge as _, LeafDecision, LeafJudge, Rules};
use crate::ipc::{Channel, IpcError, map_sealed, read_sealed};

/// Serves until the supervisor's end of `control` closes.
///
/// # Errors
/// Why it cannot serve.
pub(crate) fn serve(control: Channel) -> Result<()> {
    let mut judging = Judging { control, has_told: false };
    let mut worker: Option<Serving> = None;
    loop {
        match judging.next(worker.as_ref())? {
            Heard::Supervisor => match judging.control.receive::<ToJudge>() {
                Ok((ToJudge::Serve, descriptors)) => worker = Some(Serving::new(only(descriptors)?)),
                Ok((ToJudge::Compile, descriptors)) => {
                    let compiled = try_rules(&only(descriptors)?)?;
                    judging.control.send(&FromJudge::Compiled(compiled), &[])?;
                    return Ok(());
                }
                Err(IpcError::Ended) => return Ok(()),
                Err(error) => return Err(error.into()),
            },
            Heard::Worker => {
                let Some(serving) = &mut worker else { continue };
                if !serving.answer(&mut judging)? {
                    worker = None;
                }
            }
        }
    }
}

/// Who has said something.
enum Heard {
    Supervisor,
    Worker,
}

/// The process's own side.
struct Judging {
    control: Channel,
    /// The supervisor knows that leaves come.
    has_told: bool,
}

impl Judging {
    /// Waits until somebody says something.
    fn next(&self, worker: Option<&Serving>) -> Result<Heard> {
        let mut fds = vec![PollFd::new(&self.control, PollFlags::IN)];
        fds.extend(worker.map(|serving| PollFd::new(&serving.channel, PollFlags::IN)));
        loop {
            match poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                ready => break ready.map(drop).context("waiting for worker and supervisor")?,
            }
        }
        let is_supervisor = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        Ok(if is_supervisor { Heard::Supervisor } else { Heard::Worker })
    }

    /// Tell the supervisor, once, that leaves come: before anything of one is read.
    fn tell(&mut self) {
        if !std::mem::replace(&mut self.has_told, true) {
            // A supervisor that is gone is heard of as such.
            let _ = self.control.send_now(&FromJudge::Judges, &[]);
        }
    }
}

/// A worker, and what it told.
struct Serving {
    channel: Channel,
    known: RecentTerms<LeafJudge>,
    scanners: SharedScanners,
}

impl Serving {
    fn new(channel: OwnedFd) -> Self {
        Self { channel: channel.into(), known: RecentTerms::default(), scanners: SharedScanners::default() }
    }

    /// Do what the worker says; false where it has ended.
    ///
    /// # Errors
    /// It said what no worker says.
    fn answer(&mut self, judging: &mut Judging) -> Result<bool> {
        let (JudgeRequest { version, order }, descriptors) = match self.channel.receive() {
            Err(IpcError::Ended) => return Ok(false),
            request => request.context("the worker")?,
        };
        if version != PROTOCOL_VERSION {
            return Err(RequestFault::Version.into());
        }
        match order {
            JudgeOrder::Terms { terms, has_scanner } => {
                let mut descriptors = descriptors.into_iter();
                let settings = descriptors.next().ok_or(RequestFault::Descriptors)?;
                let scanner = descriptors.next();
                if scanner.is_some() != has_scanner || descriptors.next().is_some() {
                    return Err(RequestFault::Descriptors.into());
                }
                // Not on what the last leaf left of its time.
                bound_time(TERMS_CPU_SECONDS)?;
                let judge = leaf_judge(settings, scanner, &mut self.scanners)?;
                self.known.learn(terms, judge);
                self.reply(&TermsReply::new(terms))
            }
            JudgeOrder::Leaf { id, terms, cpu_seconds, head_bytes, body } => {
                judging.tell();
                bound_time(cpu_seconds)?;
                let decision = match body {
                    LeafBody::Inline(octets) if descriptors.is_empty() => {
                        self.judge(terms, &octets.0, head_bytes)?
                    }
                    LeafBody::Inline(_) => return Err(RequestFault::Descriptors.into()),
                    LeafBody::Memory => {
                        let memory = map_sealed(&only(descriptors)?, BODY_BYTES_MAX)?;
                        self.judge(terms, memory.deref(), head_bytes)?
                    }
                };
                let reply = JudgeReply::new(id, decision);
                #[cfg(debug_assertions)]
                super::misbehaviour::reply(&self.channel, &reply);
                self.reply(&reply)
            }
        }
    }

    /// False where the worker has ended.
    fn reply(&self, reply: &impl Serialize) -> Result<bool> {
        match self.channel.send(reply, &[]) {
            Err(IpcError::Ended) => Ok(false),
            sent => sent.map(|()| true).context("the worker"),
        }
    }

    fn judge(&mut self, terms: TermsId, body: &[u8], head_bytes: u32) -> Result<LeafDecision> {
        // A judge cannot be told that a session has left: its time is bounded instead.
        static GOES_ON: AtomicBool = AtomicBool::new(false);
        let judge = self.known.use_again(terms).ok_or(RequestFault::UnknownTerms)?;
        let (head, octets) = read_body(body, head_bytes)?;
        #[cfg(debug_assertions)]
        super::misbehaviour::judge(octets);
        Ok(judge.leaf(&head.head(), octets, &GOES_ON))
    }
}

/// What judges under these terms.
fn leaf_judge(settings: OwnedFd, scanner: Option<OwnedFd>, shared: &mut SharedScanners) -> Result<LeafJudge> {
    let (settings, hashes): (ContentSettings, HashList) =
        postcard::from_bytes(&read_sealed(settings)?).context("the rules are none of this version's")?;
    let rules = Rules::of(&settings, Arc::new(hashes))?;
    let mut scanners: Vec<Arc<dyn Scanner>> = Vec::new();
    if let Some(memory) = scanner {
        scanners.push(shared.load(&map_sealed(&memory, PACKED_BYTES_MAX)?)?);
    }
    Ok(LeafJudge::new(Arc::new(rules), scanners, OpenLimits::default()))
}

/// Scanners in use by the digest of their rules. Terms of several actions have the same rules: compiled rules may be the most
/// that a judge holds.
#[derive(Default)]
struct SharedScanners(Vec<(blake3::Hash, Weak<YaraScanner>)>);

impl SharedScanners {
    /// The scanner with these rules, as [`pack`](yara::pack) made them.
    fn load(&mut self, rules: &[u8]) -> Result<Arc<YaraScanner>> {
        let digest = blake3::hash(rules);
        self.0.retain(|(_, scanner)| scanner.strong_count() > 0);
        let known = self.0.iter().find(|(known, _)| *known == digest);
        if let Some(scanner) = known.and_then(|(_, scanner)| scanner.upgrade()) {
            return Ok(scanner);
        }
        let scanner = Arc::new(YaraScanner::load(rules).context("the scanner's rules")?);
        self.0.push((digest, Arc::downgrade(&scanner)));
        Ok(scanner)
    }
}

/// Whether the rules in this memory can be compiled.
///
/// # Errors
/// They are none of this version's.
fn try_rules(memory: &OwnedFd) -> Result<Result<RuleFacts, YaraError>> {
    let (_, sources, embedded) = unpack(&map_sealed(memory, PACKED_BYTES_MAX)?)?;
    Ok(yara::compile(&sources, embedded))
}

/// End this process when it has used so much more CPU time than now (`SIGXCPU`, setrlimit(2)). The kernel counts in whole
/// seconds.
fn bound_time(seconds: u32) -> Result<()> {
    let used = u64::try_from(clock_gettime(ClockId::ProcessCPUTime).tv_sec).unwrap_or(0);
    let maximum = getrlimit(Resource::Cpu).maximum;
    let wanted = used.saturating_add(u64::from(seconds)).saturating_add(1);
    let current = Some(maximum.map_or(wanted, |maximum| wanted.min(maximum)));
    setrlimit(Resource::Cpu, Rlimit { current, maximum }).context("setrlimit(RLIMIT_CPU)")
}

fn only(descriptors: Vec<OwnedFd>) -> Result<OwnedFd, RequestFault> {
    let mut descriptors = descriptors.into_iter();
    match (descriptors.next(), descriptors.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(RequestFault::Descriptors),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;
    use crate::config::parse;
    use crate::content::{DeclaredEncodings, LeafHead, LeafOutcome, Reading, RealType, RuleName};
    use crate::judging::protocol::OctetString;
    use crate::judging::{JudgePool, JudgeTerms, RemoteJudge};

    /// CPU time of a leaf. The bound is this whole process's here, so that it is a long one.
    const TIME: Duration = Duration::from_secs(3_600);

    /// A judge on a thread, as the supervisor sees it.
    fn judge() -> (Channel, JoinHandle<Result<()>>) {
        let (near, far) = Channel::pair().unwrap();
        (near, thread::spawn(move || serve(far)))
    }

    fn settings(names: &str) -> ContentSettings {
        let text = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n\
             [certificates]\nauthority = {{ cert = \"a\", key = \"b\" }}\n[action.content]\nnames = [{names}]\n"
        );
        parse(&text, std::path::Path::new("/postern.toml")).unwrap().unnamed_action.content
    }

    /// What a judge on a thread says of leaves, asked in the worker's way.
    fn remote(pool: &Arc<JudgePool>, names: &str) -> RemoteJudge {
        let settings = settings(names);
        let terms = JudgeTerms::new(&settings, &HashList::default(), None).unwrap();
        let rules = Rules::of(&settings, Arc::default()).unwrap();
        RemoteJudge::new(Arc::clone(pool), Arc::new(rules), terms, TIME)
    }

    fn outcome(judge: &RemoteJudge, names: &[String], octets: &[u8]) -> LeafOutcome {
        let (path, declared_types, reading) = ("1", &[][..], Reading::Identity);
        let encodings = DeclaredEncodings::default();
        let head = LeafHead { path, names, declared_types, encodings, reading, is_beginning: false };
        judge.leaf(&head, octets, &AtomicBool::new(false)).outcome
    }

    #[test]
    fn each_leaf_is_judged_by_its_own_terms_however_many_there_are() {
        let (pool, _failures) = JudgePool::new().unwrap();
        let (control, judge) = judge();
        let (near, far) = Channel::pair().unwrap();
        control.send(&ToJudge::Serve, &[far.as_fd()]).unwrap();
        drop(far);
        pool.connect(1, near);
        // More than a judge keeps.
        let judges: Vec<_> = (0..12).map(|number| remote(&pool, &format!("\"*.{number}\""))).collect();
        for round in 0..2 {
            for (number, judge) in judges.iter().enumerate() {
                let name = [format!("a.{number}")];
                let forbidden = outcome(judge, &name, b"text");
                assert!(matches!(forbidden, LeafOutcome::Remove(RuleName::Name { .. })), "{round} {number}");
                let other = [format!("a.{}", number + 1)];
                assert_eq!(outcome(judge, &other, b"text"), LeafOutcome::Allow);
            }
        }
        let large = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 200_000]].concat();
        assert_eq!(outcome(&judges[0], &[], &large), LeafOutcome::Remove(RuleName::Type(RealType::Elf)));
        assert!(matches!(control.receive::<FromJudge>(), Ok((FromJudge::Judges, _))), "it says so, once");
        drop(pool);
        drop(judges);
        drop(control);
        judge.join().unwrap().unwrap();
    }

    #[test]
    fn actions_with_the_same_rules_of_the_scanner_share_them_as_long_as_one_of_them_is_known() {
        let packed = yara::pack(&RuleFacts::default(), &[], true).unwrap();
        let other = yara::pack(&RuleFacts::default(), &[], false).unwrap();
        let mut shared = SharedScanners::default();
        let scanner = shared.load(&packed).unwrap();
        assert!(Arc::ptr_eq(&scanner, &shared.load(&packed).unwrap()));
        assert!(!Arc::ptr_eq(&scanner, &shared.load(&other).unwrap()));
        let gone = Arc::downgrade(&scanner);
        drop(scanner);
        assert!(gone.upgrade().is_none());
        shared.load(&packed).unwrap();
    }

    #[test]
    fn a_worker_that_was_taken_over_makes_a_judge_read_nothing_that_could_change_or_that_it_was_not_told_of()
    {
        let terms = TermsId([1; 16]);
        let leaf = |body, head_bytes| JudgeOrder::Leaf { id: 1, terms, cpu_seconds: 3_600, head_bytes, body };
        let inline = |octets: &[u8]| LeafBody::Inline(OctetString(octets.to_vec()));
        let open = || memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        let request = |order| JudgeRequest { version: PROTOCOL_VERSION, order };
        let cases = [
            (request(leaf(inline(b""), 0)), vec![]),
            (request(leaf(LeafBody::Memory, 0)), vec![open()]),
            (request(leaf(LeafBody::Memory, 0)), vec![]),
            (request(leaf(inline(b""), 0)), vec![open()]),
            (request(JudgeOrder::Terms { terms, has_scanner: false }), vec![open()]),
            (request(JudgeOrder::Terms { terms, has_scanner: true }), vec![open()]),
            (request(JudgeOrder::Terms { terms, has_scanner: false }), vec![]),
            (JudgeRequest { version: PROTOCOL_VERSION + 1, order: leaf(inline(b""), 0) }, vec![]),
        ];
        for (request, descriptors) in cases {
            let (control, judge) = judge();
            let (near, far) = Channel::pair().unwrap();
            control.send(&ToJudge::Serve, &[far.as_fd()]).unwrap();
            let descriptors: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
            near.send(&request, &descriptors).unwrap();
            let ended = judge.join().unwrap();
            assert!(ended.is_err(), "{request:?}");
        }
    }
}
