//! What a gateway's process and its core cost.

use std::fs;

use anyhow::{Context as _, Result};

use crate::lab::Lab;
use crate::netns;
use crate::wait::PATIENCE;

/// The kernel's clock ticks in /proc/stat (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds: of the gateway's processes, and of core 0, where they run.
///
/// On veth the receiver's softirq would run on the sender's core; with [`steer_packets`] the gateway's stays on its own,
/// and the core's time has it in. Kernels that account for interrupts apart keep it out of the process' time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// All their threads, `schedstat`.
    pub process: f64,
    /// All but idle time.
    pub core: f64,
}

impl Cost {
    /// Until now.
    ///
    /// # Errors
    /// When one of the processes is gone.
    pub fn now(pids: &[u32]) -> Result<Self> {
        let mut nanoseconds = 0.0;
        for pid in pids {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let text = fs::read_to_string(task?.path().join("schedstat"))?;
                nanoseconds += text.split(' ').next().context("schedstat")?.parse::<f64>()?;
            }
        }
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().find(|line| line.starts_with("cpu0 ")).context("cpu0")?;
        let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        // user, nice, system, irq, softirq: all but idle, iowait and steal.
        let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|&at: &usize| ticks.get(at)).sum();
        Ok(Self { process: nanoseconds / 1e9, core: busy / TICKS_PER_SECOND })
    }

    /// For each unit since then.
    #[must_use]
    pub fn since(self, before: Self, units: f64) -> Self {
        Self { process: (self.process - before.process) / units, core: (self.core - before.core) / units }
    }
}

/// Each interface's packets are received where its owner works: the gateway's on core 0, the others' on core 1.
///
/// # Errors
/// When the kernel has no receive packet steering.
pub fn steer_packets(lab: &Lab) -> Result<()> {
    for (namespace, mask) in [(&lab.gateway, "1"), (&lab.client, "2"), (&lab.server, "2")] {
        let script =
            format!("set -e; for q in /sys/class/net/*/queues/rx-*/rps_cpus; do echo {mask} > $q; done");
        let output = netns::run(namespace.command("sh").args(["-c", &script]), "", PATIENCE)?;
        netns::success("receive packet steering", &output)?;
    }
    Ok(())
}

/// Least, median, most.
pub fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    (at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1)))
}

/// The kernel and processor that figures belong to.
///
/// # Errors
/// Without /proc.
pub fn machine() -> Result<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
    Ok(format!("kernel {}, {}", kernel.trim(), cpu.trim_start_matches([':', ' ', '\t'])))
}
