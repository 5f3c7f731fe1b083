use std::fs;
use std::time::Instant;

use anyhow::{Result, ensure};
use postern_tests::kernel_tls::Statistics;
use postern_tests::postern::Postern;
use postern_tests::wait::{self, PATIENCE};

use super::under;

/// Sessions in all.
const SESSIONS: usize = 2000;
/// Sessions at once.
const AT_ONCE: usize = 100;

/// The daemon's descriptors by kind, without their numbers.
fn descriptors(postern: &Postern<'_>) -> Result<Vec<String>> {
    let dir = format!("/proc/{}/fd", postern.pid().as_raw_nonzero());
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
    under("auto", |scene, postern| {
        let server = scene.serve()?;
        // What the first session makes for good is there.
        scene.sessions(AT_ONCE)?.logout()?;
        postern.wait_records(AT_ONCE)?;
        let (before, start) = (descriptors(postern)?, Instant::now());
        for round in 1..=SESSIONS / AT_ONCE {
            scene.sessions(AT_ONCE)?.logout()?;
            println!("{} sessions after {} s", round * AT_ONCE, start.elapsed().as_secs());
        }
        let records = postern.wait_records(SESSIONS + AT_ONCE)?;
        ensure!(records.iter().all(|record| record.succeeded()), "a session failed");
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
