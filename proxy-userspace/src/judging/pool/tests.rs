use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::*;
use crate::config::{ContentSettings, parse};
use crate::content::{
    DeclaredEncodings, HashList, Judge as _, LeafHead, LeafOutcome, Reading, RuleName, Rules,
};
use crate::judging::protocol::{JudgeOrder, JudgeReply, JudgeRequest, LeafBody, TermsReply, write_head};
use crate::judging::{JudgeTerms, RemoteJudge};

/// Longer than a scripted judge takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// CPU time of a leaf; a judge hangs after a multiple of it.
const TIME: Duration = Duration::from_secs(5);

/// What a scripted judge does with a leaf.
#[derive(Clone, Copy)]
enum Act {
    Allows,
    Forbids,
    Dies,
    Garbage,
    DiesOfTerms,
    ForgesId,
    Twice,
    Hangs,
}

static SETTINGS: LazyLock<ContentSettings> = LazyLock::new(|| {
    let text = "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n\
                [certificates]\nauthority = { cert = \"a\", key = \"b\" }\n";
    parse(text, std::path::Path::new("/postern.toml")).unwrap().unnamed_action.content
});

struct Scene {
    pool: Arc<JudgePool>,
    failures: UnboundedReceiver<JudgeFailure>,
    terms: JudgeTerms,
    /// By which judge each leaf was judged.
    judged: Receiver<u64>,
    tell: std::sync::mpsc::Sender<u64>,
    last: u64,
}

impl Scene {
    fn new(wait: Duration) -> Self {
        let (pool, failures) = JudgePool::waiting(wait).unwrap();
        let (tell, judged) = channel();
        Self {
            pool,
            failures,
            terms: JudgeTerms::new(&SETTINGS, &HashList::default(), None).unwrap(),
            judged,
            tell,
            last: 0,
        }
    }

    /// One more judge; it does these things with its leaves, and ends.
    fn judge(&mut self, acts: &[Act]) -> u64 {
        self.last += 1;
        let (judge, acts, tell) = (self.last, acts.to_vec(), self.tell.clone());
        let (near, far) = Channel::pair().unwrap();
        thread::spawn(move || {
            for act in acts {
                let id = loop {
                    let Ok((JudgeRequest { order, .. }, _)) = far.receive() else { return };
                    match order {
                        JudgeOrder::Leaf { id, .. } => break id,
                        JudgeOrder::Terms { .. } if matches!(act, Act::DiesOfTerms) => return,
                        JudgeOrder::Terms { terms, .. } => far.send(&TermsReply::new(terms), &[]).unwrap(),
                    }
                };
                tell.send(judge).unwrap();
                let allowed = JudgeReply::new(id, LeafOutcome::Allow.into());
                let sent = match act {
                    Act::Allows => far.send(&allowed, &[]),
                    Act::Forbids => {
                        far.send(&JudgeReply::new(id, LeafOutcome::Remove(RuleName::Eicar).into()), &[])
                    }
                    Act::Dies | Act::DiesOfTerms => return,
                    Act::Garbage => far.send(&u8::MAX, &[]),
                    Act::ForgesId => far.send(&JudgeReply { id: id + 1, ..allowed }, &[]),
                    Act::Twice => far.send(&allowed, &[]).and_then(|()| far.send(&allowed, &[])),
                    Act::Hangs => {
                        thread::sleep(PATIENCE);
                        Ok(())
                    }
                };
                let _ = sent;
            }
            // Its end closes the channel.
            let _ = far.receive::<JudgeRequest>();
        });
        self.pool.connect(judge, near);
        judge
    }

    fn ask_within(&self, octets: &[u8], time: Duration) -> PoolAnswer {
        let asked = LeafAsked { terms: &self.terms, head: b"", octets, time };
        self.pool.judge(&asked, &AtomicBool::new(false))
    }

    fn ask(&self, octets: &[u8]) -> PoolAnswer {
        self.ask_within(octets, TIME)
    }

    /// The judges that leaves came to since.
    fn came_to(&self) -> Vec<u64> {
        self.judged.try_iter().collect()
    }

    /// What the supervisor is told since.
    fn told(&mut self) -> Vec<(u64, JudgeFault)> {
        std::iter::from_fn(|| self.failures.try_recv().ok())
            .map(|JudgeFailure { judge, fault }| (judge, fault))
            .collect()
    }
}

fn allowed() -> PoolAnswer {
    PoolAnswer::Decided(LeafDecision::default())
}

#[test]
fn a_decision_comes_back_and_its_judge_serves_the_next_leaf() {
    let mut scene = Scene::new(PATIENCE);
    let judge = scene.judge(&[Act::Allows, Act::Forbids, Act::Allows]);
    assert_eq!(scene.ask(b"one"), allowed());
    let forbidden = LeafOutcome::Remove(RuleName::Eicar).into();
    assert_eq!(scene.ask(b"two"), PoolAnswer::Decided(forbidden));
    assert_eq!(scene.ask(&vec![b'a'; 1 << 20]), allowed(), "in sealed memory");
    assert_eq!(scene.came_to(), [judge; 3]);
    assert!(scene.told().is_empty());
    assert_eq!(scene.pool.numbers(), JudgeNumbers { leaves: 3, ..JudgeNumbers::default() });
}

#[test]
fn a_leaf_whose_judge_dies_or_lies_goes_once_more_to_one_that_has_judged_nothing_yet() {
    for (act, fault) in [
        (Act::Dies, JudgeFault::Ended),
        (Act::Garbage, JudgeFault::Nonsense),
        (Act::ForgesId, JudgeFault::Nonsense),
    ] {
        let mut scene = Scene::new(PATIENCE);
        let first = scene.judge(&[Act::Allows, act]);
        assert_eq!(scene.ask(b"before"), allowed());
        let fresh = scene.judge(&[Act::Allows, Act::Allows]);
        assert_eq!(scene.ask(b"leaf"), allowed());
        assert_eq!(scene.came_to(), [first, first, fresh]);
        assert_eq!(scene.told(), [(first, fault)]);
        assert_eq!(scene.ask(b"leaf"), allowed(), "it is not remembered");
        assert_eq!((scene.pool.numbers().lost, scene.pool.numbers().cannot_scan), (1, 0));
    }
}

#[test]
fn a_judge_that_dies_of_its_rules_says_nothing_of_the_leaf() {
    let mut scene = Scene::new(PATIENCE);
    let judges = [scene.judge(&[Act::DiesOfTerms]), scene.judge(&[Act::DiesOfTerms])];
    for _ in judges {
        assert_eq!(scene.ask(b"leaf"), PoolAnswer::Unavailable(Unavailable::JudgeDown));
    }
    assert_eq!(scene.told().len(), 2);
    assert!(scene.came_to().is_empty());
    scene.judge(&[Act::Allows]);
    assert_eq!(scene.ask(b"leaf"), allowed(), "it is not remembered");
    assert_eq!((scene.pool.numbers().lost, scene.pool.numbers().cannot_scan), (2, 0));
}

#[test]
fn of_a_leaf_no_third_judge_dies() {
    let mut scene = Scene::new(PATIENCE);
    let judges = [scene.judge(&[Act::Dies]), scene.judge(&[Act::Garbage])];
    assert_eq!(scene.ask(b"leaf"), PoolAnswer::CannotScan);
    let (came_to, told) = (scene.came_to(), scene.told());
    assert_eq!((came_to.len(), told.len()), (2, 2));
    assert!(came_to.iter().all(|judge| judges.contains(judge)) && came_to[0] != came_to[1]);
    scene.judge(&[Act::Allows]);
    assert_eq!(scene.ask(b"leaf"), PoolAnswer::CannotScan, "it is remembered");
    assert!(scene.came_to().is_empty());
    assert_eq!(scene.ask(b"feal"), allowed(), "another leaf of the same length is another leaf");
    assert_eq!(scene.pool.numbers().cannot_scan, 2);
}

#[test]
fn a_judge_that_answers_twice_is_asked_no_more_and_no_leaf_gets_the_answer_of_another() {
    let mut scene = Scene::new(PATIENCE);
    let liar = scene.judge(&[Act::Twice]);
    assert_eq!(scene.ask(b"one"), allowed());
    let honest = scene.judge(&[Act::Forbids]);
    assert_eq!(scene.came_to(), [liar]);
    // The second answer is there, as nothing else is under way.
    thread::sleep(Duration::from_millis(50));
    let forbidden = LeafOutcome::Remove(RuleName::Eicar).into();
    assert_eq!(scene.ask(b"two"), PoolAnswer::Decided(forbidden));
    assert_eq!(scene.came_to(), [honest]);
    assert_eq!(scene.told(), [(liar, JudgeFault::Nonsense)]);
    assert_eq!(scene.pool.numbers().lost, 0, "no leaf is at fault");
}

#[test]
fn a_judge_that_died_while_nobody_asked_it_costs_no_leaf_anything() {
    let mut scene = Scene::new(PATIENCE);
    let (near, far) = Channel::pair().unwrap();
    drop(far);
    scene.pool.connect(77, near);
    let judge = scene.judge(&[Act::Allows]);
    assert_eq!(scene.ask(b"one"), allowed());
    assert_eq!(scene.came_to(), [judge]);
    let told = scene.told();
    assert!(told.is_empty() || told == [(77, JudgeFault::Ended)], "{told:?}");
}

#[test]
fn a_judge_that_hangs_is_told_of_and_its_leaf_has_no_verdict_now() {
    let mut scene = Scene::new(PATIENCE);
    let judge = scene.judge(&[Act::Hangs]);
    let answer = scene.ask_within(b"leaf", Duration::from_millis(20));
    assert_eq!(answer, PoolAnswer::Unavailable(Unavailable::JudgeDown));
    assert_eq!(scene.told(), [(judge, JudgeFault::Hangs)]);
    assert_eq!((scene.pool.numbers().hung, scene.pool.numbers().unavailable), (1, 1));
    scene.judge(&[Act::Allows]);
    assert_eq!(scene.ask(b"leaf"), allowed(), "it is not remembered");
}

#[test]
fn without_a_free_judge_there_is_no_verdict_now_and_a_session_that_leaves_waits_for_none() {
    let scene = Scene::new(Duration::from_millis(50));
    assert_eq!(scene.ask(b"leaf"), PoolAnswer::Unavailable(Unavailable::JudgeDown));
    let patient = Scene::new(PATIENCE);
    let asked = LeafAsked { terms: &patient.terms, head: b"", octets: b"leaf", time: TIME };
    let answer = patient.pool.judge(&asked, &AtomicBool::new(true));
    assert_eq!(answer, PoolAnswer::Unavailable(Unavailable::Cancelled));
    assert_eq!(patient.pool.numbers().unavailable, 0);
}

#[test]
fn a_worker_that_ends_waits_for_no_judge() {
    let mut scene = Scene::new(PATIENCE);
    scene.judge(&[Act::Hangs]);
    let pool = Arc::clone(&scene.pool);
    let terms = JudgeTerms::new(&SETTINGS, &HashList::default(), None).unwrap();
    let waiting = thread::spawn(move || {
        let asked = LeafAsked { terms: &terms, head: b"", octets: b"leaf", time: PATIENCE };
        pool.judge(&asked, &AtomicBool::new(false))
    });
    scene.judged.recv().unwrap();
    scene.pool.close();
    assert_eq!(waiting.join().unwrap(), PoolAnswer::Unavailable(Unavailable::Cancelled));
    assert_eq!(scene.ask(b"another"), PoolAnswer::Unavailable(Unavailable::Cancelled));
}

#[test]
fn who_waits_is_served_by_the_judge_that_comes() {
    let mut scene = Scene::new(PATIENCE);
    let pool = Arc::clone(&scene.pool);
    let terms = JudgeTerms::new(&SETTINGS, &HashList::default(), None).unwrap();
    let waiting = thread::spawn(move || {
        let asked = LeafAsked { terms: &terms, head: b"", octets: b"leaf", time: TIME };
        pool.judge(&asked, &AtomicBool::new(false))
    });
    scene.judge(&[Act::Dies]);
    scene.judge(&[Act::Allows]);
    assert_eq!(waiting.join().unwrap(), allowed());
}

#[test]
fn what_cannot_be_scanned_is_still_judged_by_the_rules_that_need_no_judge() {
    let mut scene = Scene::new(PATIENCE);
    let names = ["bill.exe".to_owned()];
    let head = LeafHead {
        path: "1",
        names: &names,
        declared_types: &[],
        encodings: DeclaredEncodings::default(),
        reading: Reading::Identity,
        is_beginning: false,
    };
    let goes_on = AtomicBool::new(false);
    scene.judge(&[Act::Dies]);
    scene.judge(&[Act::Dies]);
    let rules = Arc::new(Rules::new::<_, &str>(&["*.exe"], &[]).unwrap());
    let terms = JudgeTerms::new(&SETTINGS, &HashList::default(), None).unwrap();
    let remote = RemoteJudge::new(Arc::clone(&scene.pool), rules, terms, TIME);
    let decision = remote.leaf(&head, b"leaf", &goes_on);
    assert!(matches!(decision.outcome, LeafOutcome::Remove(RuleName::Name { .. })), "{decision:?}");
    let unnamed = LeafHead { names: &[], ..head };
    scene.judge(&[Act::Dies]);
    scene.judge(&[Act::Dies]);
    let decision = remote.leaf(&unnamed, b"leaf", &goes_on);
    let rule = RuleName::Condition(crate::content::Condition::CannotScan);
    assert_eq!(decision.outcome, LeafOutcome::Remove(rule));
}

#[test]
fn a_blocked_hash_counts_where_the_policy_allows_what_cannot_be_scanned() {
    let mut scene = Scene::new(PATIENCE);
    // Base64 of "leaf".
    let octets = b"bGVhZg==\r\n";
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"leaf").as_ref());
    let text = "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[action.content.verdicts]\ncannot_scan = \"allow\"\n\
                [certificates]\nauthority = { cert = \"a\", key = \"b\" }\n";
    let settings = parse(text, std::path::Path::new("/postern.toml")).unwrap().unnamed_action.content;
    let head = LeafHead {
        path: "1",
        names: &[],
        declared_types: &[],
        encodings: DeclaredEncodings::default(),
        reading: Reading::Base64,
        is_beginning: false,
    };
    let cannot_scan = RuleName::Condition(crate::content::Condition::CannotScan);
    for (blocked, expected) in [
        (vec![crate::config::FileHash(sha256)], LeafOutcome::Remove(RuleName::Hash { sha256 })),
        (vec![crate::config::FileHash([0; 32])], LeafOutcome::Note(cannot_scan)),
    ] {
        let hashes = Arc::new(HashList::new(blocked));
        let terms = JudgeTerms::new(&settings, &hashes, None).unwrap();
        let rules = Arc::new(Rules::of(&settings, hashes).unwrap());
        let remote = RemoteJudge::new(Arc::clone(&scene.pool), rules, terms, TIME);
        scene.judge(&[Act::Dies]);
        scene.judge(&[Act::Dies]);
        assert_eq!(remote.leaf(&head, octets, &AtomicBool::new(false)).outcome, expected);
    }
}

#[test]
fn a_small_leaf_travels_in_the_message_and_a_large_one_as_memory() {
    let scene = Scene::new(PATIENCE);
    let (near, far) = Channel::pair().unwrap();
    scene.pool.connect(1, near);
    let names = vec!["a".repeat(40)];
    let head = write_head(&LeafHead {
        path: "1",
        names: &names,
        declared_types: &[],
        encodings: DeclaredEncodings::default(),
        reading: Reading::Identity,
        is_beginning: false,
    })
    .unwrap();
    let inline = (64 << 10) - head.len();
    let asks = thread::spawn(move || {
        for length in [inline, inline + 1] {
            let octets = vec![b'a'; length];
            let asked = LeafAsked { terms: &scene.terms, head: &head, octets: &octets, time: TIME };
            assert_eq!(scene.pool.judge(&asked, &AtomicBool::new(false)), allowed());
        }
    });
    let (JudgeRequest { order, .. }, descriptors) = far.receive().unwrap();
    let JudgeOrder::Terms { terms, has_scanner: false } = order else { panic!("no terms: {order:?}") };
    assert_eq!(descriptors.len(), 1);
    far.send(&TermsReply::new(terms), &[]).unwrap();
    for is_inline in [true, false] {
        let (JudgeRequest { order, .. }, descriptors) = far.receive().unwrap();
        let JudgeOrder::Leaf { id, body, .. } = order else { panic!("terms again") };
        assert_eq!(matches!(body, LeafBody::Inline(_)), is_inline);
        assert_eq!(descriptors.len(), usize::from(!is_inline));
        far.send(&JudgeReply::new(id, LeafDecision::default()), &[]).unwrap();
    }
    asks.join().unwrap();
}
