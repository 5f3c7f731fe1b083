//! The entry point of a fuzz target: whole dialogues through an engine.

use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use super::{Engine, MediationTerms, Next, Recollection, Session, Want};
use crate::accept::HeldOctets;
use crate::content::{FieldRules, Rules};
use crate::imap::{AnsweredKind, FrameBounds, FrameStep, Framer, ItemValue, Response, Speaker, parse};
use crate::jobs::{JobPool, JobPurpose};
use crate::layer::Batch;
use crate::record::Records;
use crate::vault::{RuleGeneration, Vault, VaultFiles};
use crate::words::{ClientAddr, OriginalDst, Service, Side, Size};

/// What is forbidden, in two halves: these sources must not be taken for the test file.
const FORBIDDEN: [&str; 2] = ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-", "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"];
const MESSAGE_MAX: u64 = 10_000;
const HELD: Size = Size(30_000);
/// How long a thread may take to see that its work was withdrawn.
const PATIENCE: Duration = Duration::from_secs(5);

static JOBS: LazyLock<Option<Arc<JobPool>>> =
    LazyLock::new(|| JobPool::start(JobPurpose::Content, 1).ok().map(Arc::new));
static VAULT: LazyLock<Option<Arc<Vault>>> = LazyLock::new(|| {
    Vault::start(VaultFiles::default(), Size(1 << 20), HeldOctets::new(Size(1 << 22))).ok().map(Arc::new)
});
static RULES: LazyLock<Option<Arc<Rules>>> =
    LazyLock::new(|| Rules::new(&["*.exe"], &["executable"]).ok().map(Arc::new));

/// Hold a dialogue. Each turn begins with an octet: bit 0 says who speaks, the others how many octets a batch has; turns
/// end with 0xFF. The engine never panics, gives back all that it held, and whatever reaches the client can be framed and
/// read, and holds nothing forbidden as content.
pub fn engine(octets: &[u8]) {
    let (Some(jobs), Some(rules)) = (JOBS.clone(), RULES.clone()) else { return };
    let (records, _written) = Records::to_queue(100);
    let address = |octet| std::net::SocketAddr::from(([192, 0, 2, octet], 993));
    let mut record = records.open(ClientAddr(address(1)), OriginalDst(address(2)), Service::ImplicitTls);
    let held = HeldOctets::new(HELD);
    let terms = MediationTerms {
        message_max: MESSAGE_MAX,
        imap: Arc::default(),
        held: Arc::clone(&held),
        jobs,
        headers: Arc::new(FieldRules::new([("X-*", true), ("Subject", true)], false)),
        judge: rules,
        counts: record.content_counts(),
        verdicts: record.verdict_lines(),
        clean_verdicts: true,
        is_exempt: false,
        recollection: VAULT
            .clone()
            .zip(RuleGeneration::of(&1, 1).ok())
            .map(|(vault, rules)| Recollection::new(vault, rules)),
        uid_trust: None,
        guard: None,
        server: "192.0.2.2".into(),
        vault: VAULT.clone(),
    };
    let mut dialogue =
        Dialogue { session: Session::new(Rc::new(terms)), to_client: Vec::new(), to_server: Vec::new() };
    for turn in octets.split(|octet| *octet == 0xFF) {
        let Some((begin, said)) = turn.split_first() else { continue };
        let side = if begin & 1 == 0 { Side::Downstream } else { Side::Upstream };
        if dialogue.says(side, said, usize::from(begin >> 1).pow(2).clamp(1, 16_384)).is_none() {
            break;
        }
    }
    let Dialogue { session, to_client, to_server } = dialogue;
    drop(session);
    // A thread may still drop what was withdrawn.
    let patience = Instant::now();
    while held.octets() > 0 && patience.elapsed() < PATIENCE {
        yield_now();
    }
    assert_eq!(held.octets(), 0, "everything that was held is given back");
    check_client(&to_client);
    let mut framer = Framer::new(Speaker::Client, FrameBounds { text: usize::MAX });
    let mut rest = to_server.as_slice();
    while !rest.is_empty() {
        let Ok(frame) = framer.take(rest) else { panic!("the server gets what cannot be framed") };
        rest = rest.get(frame.octets..).unwrap_or_default();
    }
}

struct Dialogue {
    session: Session,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
}

impl Dialogue {
    /// `None` when the session has ended, or waits for the other side.
    fn says(&mut self, side: Side, said: &[u8], batch_bytes: usize) -> Option<()> {
        for part in said.chunks(batch_bytes) {
            if self.session.wants(side) != Want::Octets {
                return None;
            }
            self.session.take(side, &Batch::of(&[part])).ok()?;
            self.drain(side.other(), part);
            self.settle()?;
        }
        Some(())
    }

    fn drain(&mut self, to: Side, mut batch: &[u8]) {
        let got = if to == Side::Downstream { &mut self.to_client } else { &mut self.to_server };
        loop {
            match self.session.next(to) {
                Next::Nothing => break,
                Next::Own => {
                    let mut room = [0; 100];
                    let count = self.session.fill(to, &mut room);
                    assert!(count > 0, "own octets are promised");
                    got.extend_from_slice(room.get(..count).unwrap_or_default());
                }
                Next::Skip(octets) => batch = batch.get(octets..).unwrap_or_default(),
                Next::Pass(octets) => {
                    let (now, later) = batch.split_at_checked(octets).unwrap_or_default();
                    assert_eq!(now.len(), octets, "no more passes than came");
                    got.extend_from_slice(now);
                    batch = later;
                }
            }
        }
        assert!(self.session.is_at_boundary(to) || self.session.is_streaming(), "what was given is whole");
    }

    /// Wait for every verdict.
    fn settle(&mut self) -> Option<()> {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            self.drain(Side::Downstream, &[]);
            self.drain(Side::Upstream, &[]);
            match self.session.poll_event(&mut cx) {
                Poll::Ready(changed) => changed.ok()?,
                Poll::Pending if self.session.is_judging() => yield_now(),
                Poll::Pending => return Some(()),
            }
        }
    }
}

fn check_client(mut octets: &[u8]) {
    let forbidden = FORBIDDEN.concat();
    let mut framer = Framer::new(Speaker::Server, FrameBounds { text: usize::MAX });
    let mut unit = Vec::new();
    while !octets.is_empty() {
        let Ok(frame) = framer.take(octets) else { panic!("the client gets what cannot be framed") };
        let (now, later) = octets.split_at_checked(frame.octets).unwrap_or_default();
        unit.extend_from_slice(now);
        octets = later;
        if frame.step != FrameStep::Whole {
            continue;
        }
        match parse(&unit) {
            Ok(Response::Fetch(fetch)) => {
                for item in fetch.items {
                    let (AnsweredKind::Content { .. }, ItemValue::Octets { content, .. }) =
                        (item.kind, item.value)
                    else {
                        continue;
                    };
                    let content = unit.get(content).unwrap_or_default();
                    // In a header field it is metadata.
                    let is_free = |line: &[u8]| {
                        !line.starts_with(b" ") && !line.starts_with(b"\t") && !line.contains(&b':')
                    };
                    let shows =
                        |line: &[u8]| line.windows(forbidden.len()).any(|it| it == forbidden.as_bytes());
                    let mut lines = content.split(|octet| *octet == b'\n');
                    assert!(!lines.any(|line| is_free(line) && shows(line)), "forbidden content passes");
                }
            }
            Ok(_) => {}
            Err(fault) => panic!("the client gets what cannot be read: {fault}"),
        }
        unit.clear();
    }
    assert!(unit.is_empty(), "the client gets whole responses");
}
