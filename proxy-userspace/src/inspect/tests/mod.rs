//! Whole dialogues through an engine: what either peer says, and what the other gets of it.

/// Sections that a client reads in pieces.
mod copies;
/// What passes byte for byte.
mod passing;
/// What does not, and in which words.
mod refusals;
/// What a policy hides beside that.
mod narrowed;
/// FETCH, its rewriting, and its answers.
mod fetch;
/// APPEND, MULTIAPPEND, REPLACE, and other literals of a client.
mod uploads;
/// AUTHENTICATE and IDLE.
mod turns;
/// How sessions end.
mod ends;
/// Lines for a client that waits.
mod comfort;
/// Memory and time.
mod limits;
/// Every split of a session.
mod splits;
/// Random commands and hostile responses.
mod hostile;
/// The account guard.
mod guarded;
/// Mail that was judged before.
mod known;
/// Known mail of servers that are trusted.
mod trusted;
/// Header fields that the owner removes.
mod header_rules;
/// Rules that change while a session runs.
mod renewal;
/// Accounts whose mail is not judged.
mod exempt;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Waker};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::*;
use crate::accept::HeldOctets;
use crate::content::Rules;
use crate::guard::SessionGuard;
use crate::imap::frame::{FrameBounds, FrameStep, Framer, Speaker};
use crate::jobs::{JobKind, JobPool, JobPurpose};
use crate::record::{Record, Records, VerdictLines};
use crate::vault::{RuleGeneration, Vault, VaultFiles};
use crate::words::{ClientAddr, OriginalDst, Service, Size};

pub(super) const EICAR: &str = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";
const MESSAGE_MAX: u64 = 100_000;

static SERVERS: AtomicU64 = AtomicU64::new(0);

/// Copies in memory. One for all tests: it has a thread.
static VAULT: LazyLock<Arc<Vault>> = LazyLock::new(|| {
    let held = HeldOctets::new(Size(1 << 32));
    Arc::new(Vault::start(VaultFiles::default(), Size(1 << 30), held).unwrap())
});

static RULES: LazyLock<Arc<Rules>> =
    LazyLock::new(|| Arc::new(Rules::new(&["*.exe"], &["executable"]).unwrap()));

fn judges() -> Arc<JobPool> {
    Arc::new(JobPool::start(JobPurpose::Content, 1).unwrap())
}

/// An engine between two peers, which say what the test says.
pub(super) struct Dialogue {
    pub(super) session: Session,
    pub(super) written: Receiver<Vec<u8>>,
    record: Record,
    pub(super) held: Arc<HeldOctets>,
    pub(super) jobs: Arc<JobPool>,
    /// Octets of a batch that may be handed over at once.
    pub(super) batch_bytes: usize,
    /// Octets of one record of a batch.
    pub(super) record_bytes: usize,
    /// Octets of our own that are taken at once.
    pub(super) room_bytes: usize,
    /// The client takes what it is sent.
    pub(super) client_reads: bool,
    /// The batch that it has not taken.
    on_its_way: Vec<u8>,
    pub(super) client_got: Vec<u8>,
    /// Octets of these that were our own: the others stood in a batch.
    pub(super) said: usize,
    pub(super) server_got: Vec<u8>,
}

impl Dialogue {
    pub(super) fn new() -> Self {
        Self::holding(1 << 30)
    }

    pub(super) fn holding(octets: u64) -> Self {
        static JOBS: LazyLock<Arc<JobPool>> = LazyLock::new(judges);
        Self::with(octets, Arc::clone(&JOBS), Arc::clone(&VAULT))
    }

    /// With a place of its own for copies.
    pub(super) fn keeping(vault: Arc<Vault>) -> Self {
        Self::with(1 << 30, judges(), vault)
    }

    /// With a thread of its own to judge mail, which does not, until the sender is dropped.
    pub(super) fn stalled() -> (Self, Sender<()>) {
        let (go_on, waits) = std::sync::mpsc::channel::<()>();
        let dialogue = Self::with(1 << 30, judges(), Arc::clone(&VAULT));
        let stall = dialogue.jobs.begin(JobKind::Judge, move |_| waits.recv().unwrap_err());
        // What is dropped is withdrawn, but not what has begun: it need not have.
        std::mem::forget(stall);
        (dialogue, go_on)
    }

    /// Without TLS on either side, after the client was shown this list.
    pub(super) fn in_clear_text(list: &str) -> Self {
        let dialogue = Self::new();
        let session = dialogue.session.in_clear_text(STARTTLS_STRIPPED, list.as_bytes());
        Self { session, ..dialogue }
    }

    fn with(octets: u64, jobs: Arc<JobPool>, vault: Arc<Vault>) -> Self {
        Self::telling(octets, jobs, vault, false, None, Arc::default(), |_| None)
    }

    /// Under a policy that narrows what may pass.
    pub(super) fn under(imap: ImapTerms) -> Self {
        static JOBS: LazyLock<Arc<JobPool>> = LazyLock::new(judges);
        Self::telling(1 << 30, Arc::clone(&JOBS), Arc::clone(&VAULT), false, None, Arc::new(imap), |_| None)
    }

    /// With what the account guard says of its session.
    pub(super) fn guarded(guard: impl FnOnce(VerdictLines) -> Option<SessionGuard>) -> Self {
        static JOBS: LazyLock<Arc<JobPool>> = LazyLock::new(judges);
        Self::telling(1 << 30, Arc::clone(&JOBS), Arc::clone(&VAULT), false, None, Arc::default(), guard)
    }

    /// With a line for each verdict.
    pub(super) fn telling_all() -> Self {
        Self::telling(1 << 30, judges(), Arc::clone(&VAULT), true, None, Arc::default(), |_| None)
    }

    /// With a server that the owner trusts, and a place of its own for copies.
    pub(super) fn trusting(vault: Arc<Vault>, trust: UidTrust) -> Self {
        Self::telling(1 << 30, judges(), vault, false, Some(trust), Arc::default(), |_| None)
    }

    fn telling(
        octets: u64,
        jobs: Arc<JobPool>,
        vault: Arc<Vault>,
        clean_verdicts: bool,
        uid_trust: Option<UidTrust>,
        imap: Arc<ImapTerms>,
        guard: impl FnOnce(VerdictLines) -> Option<SessionGuard>,
    ) -> Self {
        let (records, written) = Records::to_queue(1000);
        let (client, server) = ("192.0.2.1:40000".parse().unwrap(), "198.51.100.1:993".parse().unwrap());
        let mut record = records.open(ClientAddr(client), OriginalDst(server), Service::ImplicitTls);
        let held = HeldOctets::new(Size(octets));
        let terms = MediationTerms {
            message_max: MESSAGE_MAX,
            imap,
            held: Arc::clone(&held),
            jobs: Arc::clone(&jobs),
            judge: Arc::<Rules>::clone(&RULES),
            headers: Arc::default(),
            counts: record.content_counts(),
            verdicts: record.verdict_lines(),
            clean_verdicts,
            is_exempt: false,
            recollection: Some(Recollection::new(Arc::clone(&vault), RuleGeneration::of(&1, 1).unwrap())),
            uid_trust,
            guard: guard(record.verdict_lines()).map(Rc::new),
            // Each has a server of its own, so that no test knows another one's mail.
            server: SERVERS.fetch_add(1, Ordering::Relaxed).to_string().into(),
            vault: Some(vault),
        };
        let session = Session::new(Rc::new(terms));
        Self {
            session,
            written,
            record,
            held,
            jobs,
            batch_bytes: 4096,
            record_bytes: usize::MAX,
            room_bytes: 4096,
            client_reads: true,
            on_its_way: Vec::new(),
            client_got: Vec::new(),
            said: 0,
            server_got: Vec::new(),
        }
    }

    /// A side says something; then everything that can happen does.
    pub(super) fn says(&mut self, side: Side, octets: &[u8]) -> Result<(), InspectRefusal> {
        for part in octets.chunks(self.batch_bytes) {
            self.settle()?;
            let deadline = Instant::now() + Duration::from_secs(20);
            while self.session.wants(side) == Want::Nothing {
                assert!(Instant::now() < deadline, "{side} is never read again");
                self.settle()?;
            }
            let records: Vec<&[u8]> = part.chunks(self.record_bytes).collect();
            self.session.take(side, &Batch::of(&records))?;
            self.drain(side.other(), part);
            self.drain(side, &[]);
        }
        self.settle()
    }

    /// A side says something in one batch, and nobody waits for a verdict.
    pub(super) fn takes(&mut self, side: Side, text: &str) -> &mut Self {
        self.session.take(side, &Batch::of(&[text.as_bytes()])).unwrap();
        self.drain(side.other(), text.as_bytes());
        self.drain(side, &[]);
        self
    }

    /// The time comes that the engine named.
    pub(super) fn tick(&mut self, now: Instant) -> &mut Self {
        self.session.tick(now).unwrap();
        self.drain(Side::Downstream, &[]);
        self
    }

    pub(super) fn client(&mut self, text: &str) -> &mut Self {
        self.says(Side::Downstream, text.as_bytes()).unwrap();
        self
    }

    pub(super) fn server(&mut self, text: &str) -> &mut Self {
        self.says(Side::Upstream, text.as_bytes()).unwrap();
        self
    }

    /// What the client got since the last question.
    pub(super) fn client_got(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.client_got)).into_owned()
    }

    /// What the server got since the last question.
    pub(super) fn server_got(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.server_got)).into_owned()
    }

    /// Both peers are done: what the record of the session says, under a policy that wants one only of events.
    pub(super) fn record_of_events(self) -> Option<serde_json::Value> {
        let Self { written, mut record, .. } = self;
        record.only_events(true);
        record.close(Ok(()));
        written.try_iter().last().map(|line| serde_json::from_slice(&line).unwrap())
    }

    /// Verdicts since the last question.
    pub(super) fn verdicts(&self) -> Vec<serde_json::Value> {
        self.written.try_iter().map(|line| serde_json::from_slice(&line).unwrap()).collect()
    }

    pub(super) fn drain(&mut self, to: Side, batch: &[u8]) {
        let mut batch = batch.to_vec();
        if to == Side::Downstream {
            self.on_its_way.append(&mut batch);
            if !self.client_reads {
                return;
            }
            batch = std::mem::take(&mut self.on_its_way);
        }
        let mut batch = batch.as_slice();
        let got = if to == Side::Downstream { &mut self.client_got } else { &mut self.server_got };
        loop {
            match self.session.next(to) {
                Next::Nothing => return,
                Next::Pass(octets) => {
                    let (now, later) = batch.split_at(octets);
                    got.extend_from_slice(now);
                    batch = later;
                }
                Next::Skip(octets) => batch = &batch[octets..],
                Next::Own => {
                    let mut room = vec![0; self.room_bytes];
                    let count = self.session.fill(to, &mut room);
                    assert!(count > 0, "own octets are promised");
                    got.extend_from_slice(&room[..count]);
                    self.said += if to == Side::Downstream { count } else { 0 };
                }
            }
        }
    }

    /// Wait for verdicts until there are none to come.
    pub(super) fn settle(&mut self) -> Result<(), InspectRefusal> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut quiet = 0;
        let deadline = Instant::now() + Duration::from_secs(20);
        while quiet < 2 {
            self.drain(Side::Downstream, &[]);
            self.drain(Side::Upstream, &[]);
            match self.session.poll_event(&mut cx) {
                Poll::Ready(changed) => {
                    changed?;
                    quiet = 0;
                }
                Poll::Pending if self.session.is_judging() => {
                    assert!(Instant::now() < deadline, "a verdict never comes");
                    sleep(Duration::from_micros(100));
                }
                Poll::Pending => quiet += 1,
            }
        }
        Ok(())
    }
}

/// The units of a stream that was received. Every one of them is complete.
pub(super) fn units(speaker: Speaker, mut octets: &[u8]) -> Vec<Vec<u8>> {
    let mut framer = Framer::new(speaker, FrameBounds { text: 32 << 20 });
    let mut units = vec![Vec::new()];
    while !octets.is_empty() {
        let frame = framer.take(octets).unwrap_or_else(|fault| {
            panic!("{fault}, before {:?}", String::from_utf8_lossy(&octets[..octets.len().min(200)]))
        });
        units.last_mut().unwrap().extend_from_slice(&octets[..frame.octets]);
        octets = &octets[frame.octets..];
        if frame.step == FrameStep::Whole {
            units.push(Vec::new());
        }
    }
    assert_eq!(units.pop(), Some(Vec::new()), "the last unit has no end");
    units
}

/// `FETCH` with these items: `{n}` stands before what begins with a brace.
pub(super) fn literal(octets: &str) -> String {
    format!("{{{}}}\r\n{octets}", octets.len())
}
