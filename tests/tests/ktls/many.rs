use std::fs;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use postern_tests::client::Session;
use postern_tests::crowd::Crowd;
use postern_tests::kernel_tls::Statistics;
use postern_tests::lab::Family;
use postern_tests::postern::Postern;
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use postern_tests::wait::{self, PATIENCE};
use rustls::ClientConfig;

use super::under;

/// Sessions in all.
const SESSIONS: usize = 2000;
/// Sessions at once.
const AT_ONCE: usize = 100;

/// Open some, in both families and on both ports by turns, and close them.
fn round(scene: &Scene, config: &Arc<ClientConfig>) -> Result<()> {
    Crowd::open(AT_ONCE, |number| {
        let family = if number & 1 == 0 { Family::V4 } else { Family::V6 };
        let to = scene.server(family, if number & 2 == 0 { 143 } else { 993 });
        Session::open(&scene.lab.client, to, family.name(), config)
    })?
    .logout()
}

/// The worker's descriptors by kind, without their numbers.
fn descriptors(postern: &Postern<'_>) -> Result<Vec<String>> {
    let dir = format!("/proc/{}/fd", postern.process("worker")?);
    let mut kinds = Vec::new();
    for entry in fs::read_dir(dir)? {
        // One that is closed meanwhile is none.
        if let Ok(target) = fs::read_link(entry?.path()) {
            let target = target.display().to_string();
            kinds.push(target.split(':').next().unwrap_or_default().to_owned());
        }
    }
    kinds.sort();
    Ok(kinds)
}

#[test]
fn two_thousand_sessions_leave_no_descriptor_and_nothing_in_the_kernels_tls() -> Result<()> {
    under("always", |scene, postern| {
        let server = scene.serve()?;
        let config = scene.client()?;
        // What the first sessions make for good is there.
        round(scene, &config)?;
        postern.wait_records(AT_ONCE)?;
        let (before, start) = (descriptors(postern)?, Instant::now());
        for _ in 0..SESSIONS / AT_ONCE {
            round(scene, &config)?;
        }
        println!("{SESSIONS} sessions in {} s", start.elapsed().as_secs());
        let records = postern.wait_records(SESSIONS + AT_ONCE)?;
        ensure!(records.iter().all(Record::succeeded), "a session failed");
        let left = || Ok((descriptors(postern)? == before).then_some(()));
        wait::until("the descriptors of before", PATIENCE, left)?;
        let empty = || {
            let now = Statistics::read(&scene.lab.gateway)?;
            Ok((now.of("TlsCurrRxSw") == 0 && now.of("TlsCurrTxSw") == 0).then_some(now))
        };
        let now = wait::until("the end of the kernel's TLS contexts", PATIENCE, empty)?;
        ensure!(now.of("TlsTxSw") >= 2 * (SESSIONS + AT_ONCE) as u64, "{now:?}");
        drop(server);
        Ok(())
    })
}
