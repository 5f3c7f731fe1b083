//! Bounded waiting: generous, because a loaded machine is slow, but never without an end.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Longest wait for anything that the lab does by itself.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait for a bulk transfer or hundreds of sessions in a debug build on a small machine.
pub const BULK_PATIENCE: Duration = Duration::from_secs(180);

/// The pause between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// How many times as long [`until`] waits. The kernel lab sets it where it emulates a processor.
const FACTOR: &str = "POSTERN_LAB_PATIENCE";

/// Call `probe` until it finds something.
///
/// # Errors
/// Says `what` was awaited when `patience` is over, or passes on what the probe says.
pub fn until<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let factor = env::var(FACTOR).ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    let patience = patience * factor;
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("waited {} s in vain for {what}", patience.as_secs());
        }
        thread::sleep(PAUSE);
    }
}
