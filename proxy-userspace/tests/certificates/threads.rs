use std::sync::Arc;

use postern::config::{FaultPolicy, ShownCertificates, Verdict};
use postern::handshake::mint::{KeyKind, LeafClass, Request};
use postern::handshake::verify::{CertificateFault, Faults, Judgement};
use postern::jobs::{JOBS_WAITING_MAX, JobError, JobKind, JobPool, JobPurpose};

use crate::client::{Mint, wait_for};
use crate::pki::{ADDRESS, Ca, HOST, PAST, judge, strict};

#[test]
fn a_leaf_is_minted_off_the_callers_thread_and_a_cached_one_needs_no_other() {
    let mint = Arc::new(Mint::new());
    let cached = mint.shown(None, Some(HOST), LeafClass::Absent).fingerprint;
    let (release, held) = std::sync::mpsc::channel::<()>();
    wait_for(async {
        let busy = mint.jobs.run(JobKind::Serve, move || held.recv());
        let request = |sni| {
            let (class, key) = (LeafClass::Absent, KeyKind::Ecdsa);
            Request {
                upstream: None,
                sni: Some(sni),
                destination: ADDRESS,
                class,
                key,
                certificates: ShownCertificates::Authority,
            }
        };
        let (known, new) = (request(HOST), request("new.example"));
        let others = async {
            // The pool's only thread is taken: a client that needs a new leaf waits, and no other client does.
            let minted = mint.leaves.server_config(&new, &mint.jobs);
            let shown = mint.leaves.server_config(&known, &mint.jobs);
            tokio::pin!(minted);
            tokio::select! {
                biased;
                _ = &mut minted => panic!("minted on this thread"),
                shown = shown => assert_eq!(shown.unwrap().fingerprint, cached),
            }
            drop(release);
            minted.await.unwrap();
        };
        let (_, ()) = tokio::join!(busy, others);
    });
}

#[test]
fn who_waits_for_anothers_mint_takes_over_when_that_session_goes() {
    let mint = Mint::new();
    let (class, key) = (LeafClass::Absent, KeyKind::Ecdsa);
    let request = Request {
        upstream: None,
        sni: Some(HOST),
        destination: ADDRESS,
        class,
        key,
        certificates: ShownCertificates::Authority,
    };
    let (release, held) = std::sync::mpsc::channel::<()>();
    wait_for(async {
        // The pool's only thread is taken, so that the first mint cannot be over before the second asks.
        let busy = mint.jobs.run(JobKind::Serve, move || held.recv());
        let mints = async {
            let mut first = Box::pin(mint.leaves.server_config(&request, &mint.jobs));
            let mut second = Box::pin(mint.leaves.server_config(&request, &mint.jobs));
            let polled = std::future::poll_fn(|cx| {
                let pending = first.as_mut().poll(cx).is_pending() && second.as_mut().poll(cx).is_pending();
                std::task::Poll::Ready(pending)
            });
            assert!(polled.await);
            drop(first);
            drop(release);
            second.await.unwrap();
        };
        let (_, ()) = tokio::join!(busy, mints);
    });
}

#[test]
fn a_chain_is_judged_off_the_callers_thread() {
    let root = Ca::root("Root");
    let judge = Arc::new(judge(&root, strict()));
    let chain = Arc::from([root.leaf(&[HOST], PAST)]);
    let jobs = JobPool::start(JobPurpose::Certificates, 1).unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    wait_for(async {
        let busy = jobs.run(JobKind::Judge, move || held.recv());
        let others = async {
            let shown = (Arc::clone(&chain), Arc::default());
            let judged = judge.judge_apart(&jobs, shown, Some(HOST.to_owned()), ADDRESS);
            tokio::pin!(judged);
            tokio::select! {
                biased;
                _ = &mut judged => panic!("judged on this thread"),
                () = std::future::ready(()) => {}
            }
            drop(release);
            let (judgement, undone) = judged.await;
            assert_eq!(judgement.faults, Faults::from_iter([CertificateFault::Expired]));
            assert_eq!(undone, None);
        };
        let (_, ()) = tokio::join!(busy, others);
    });
}

/// What is said of a chain when the pool has no room, or its thread dies.
async fn unjudged(policy: FaultPolicy, jobs: &JobPool, sni: Option<&str>) -> (Judgement, Option<JobError>) {
    let root = Ca::root("Root");
    let chain = Arc::from([root.leaf(&[HOST], PAST)]);
    let judge = Arc::new(judge(&root, policy));
    judge.judge_apart(jobs, (chain, Arc::default()), sni.map(str::to_owned), ADDRESS).await
}

#[test]
fn a_chain_that_nobody_has_time_to_judge_has_the_verdict_of_late() {
    let jobs = JobPool::start(JobPurpose::Certificates, 1).unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    wait_for(async {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let busy = move || begun.send(()).is_ok() && held.recv().is_ok();
        let mut busy = Box::pin(jobs.run(JobKind::Judge, busy));
        let mut line: Vec<_> =
            (0..JOBS_WAITING_MAX).map(|_| Box::pin(jobs.run(JobKind::Judge, || ()))).collect();
        std::future::poll_fn(|cx| {
            assert!(busy.as_mut().poll(cx).is_pending());
            has_begun.recv().unwrap();
            assert!(line.iter_mut().all(|job| job.as_mut().poll(cx).is_pending()));
            std::task::Poll::Ready(())
        })
        .await;
        for verdict in [Verdict::Block, Verdict::Mirror, Verdict::Allow] {
            let policy = FaultPolicy { late: verdict, ..FaultPolicy::default() };
            let (judgement, undone) = unjudged(policy, &jobs, Some(HOST)).await;
            assert_eq!(judgement.faults, Faults::from_iter([CertificateFault::Late]));
            assert_eq!(judgement.verdict, verdict);
            assert_eq!(undone, Some(JobError::QueueFull(JobPurpose::Certificates)));
        }
        // What is known without a thread counts as well.
        let policy = FaultPolicy { late: Verdict::Allow, no_name: Verdict::Block, ..FaultPolicy::default() };
        let (judgement, _) = unjudged(policy, &jobs, None).await;
        assert_eq!(judgement.faults.iter().count(), 2);
        assert_eq!(judgement.verdict, Verdict::Block);
        drop((release, busy, line));
    });
}

#[test]
fn a_judgement_that_failed_has_the_verdict_of_unverified() {
    let fault = CertificateFault::from(JobError::Panicked(JobPurpose::Certificates));
    assert_eq!(fault, CertificateFault::Unverified);
    for verdict in [Verdict::Block, Verdict::Mirror, Verdict::Allow] {
        let policy = FaultPolicy { unverified: verdict, ..FaultPolicy::default() };
        assert_eq!(fault.verdict(&policy), verdict);
    }
}
