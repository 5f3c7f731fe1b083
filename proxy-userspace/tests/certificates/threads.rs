use std::sync::Arc;

use postern::handshake::mint::{KeyKind, LeafClass, Request};
use postern::handshake::verify::{CertificateFault, Faults};
use postern::jobs::{JobKind, JobPool, JobPurpose};

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
            Request { upstream: None, sni: Some(sni), destination: ADDRESS, class, key }
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
    let request = Request { upstream: None, sni: Some(HOST), destination: ADDRESS, class, key };
    wait_for(async {
        let mut first = Box::pin(mint.leaves.server_config(&request, &mint.jobs));
        let mut second = Box::pin(mint.leaves.server_config(&request, &mint.jobs));
        let polled = std::future::poll_fn(|cx| {
            let pending = first.as_mut().poll(cx).is_pending() && second.as_mut().poll(cx).is_pending();
            std::task::Poll::Ready(pending)
        });
        assert!(polled.await);
        drop(first);
        second.await.unwrap();
    });
}

#[test]
fn a_chain_is_judged_off_the_callers_thread_and_comes_back() {
    let root = Ca::root("Root");
    let judge = Arc::new(judge(&root, strict()));
    let chain = vec![root.leaf(&[HOST], PAST)];
    let jobs = JobPool::start(JobPurpose::Certificates, 1).unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    wait_for(async {
        let busy = jobs.run(JobKind::Judge, move || held.recv());
        let others = async {
            let judged = judge.judge_apart(&jobs, chain.clone(), Some(HOST.to_owned()));
            tokio::pin!(judged);
            tokio::select! {
                biased;
                _ = &mut judged => panic!("judged on this thread"),
                () = std::future::ready(()) => {}
            }
            drop(release);
            let (back, judgement) = judged.await.unwrap();
            assert_eq!(
                (back, judgement.faults),
                (chain.clone(), Faults::from_iter([CertificateFault::Expired]))
            );
        };
        let (_, ()) = tokio::join!(busy, others);
    });
}
