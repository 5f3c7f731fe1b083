use std::fs;

use anyhow::{Context as _, Result};

/// Octets in use at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// Pages that the gateway's process has (proc(5), `VmRSS`).
    pub(crate) process: f64,
    /// What the kernel cannot take back from its slabs (`SUnreclaim`): sockets, TLS contexts, keys.
    pub(crate) kernel: f64,
}

impl Memory {
    pub(crate) fn now(pid: u32) -> Result<Self> {
        let process = kilobytes(&format!("/proc/{pid}/status"), "VmRSS:")?;
        Ok(Self { process, kernel: kilobytes("/proc/meminfo", "SUnreclaim:")? })
    }

    /// What was added, in each of so many.
    pub(crate) fn since(self, before: Self, count: f64) -> Self {
        let [process, kernel] =
            [self.process - before.process, self.kernel - before.kernel].map(|octets| octets / count);
        Self { process, kernel }
    }
}

fn kilobytes(path: &str, name: &str) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let number = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let kilobytes: f64 = number.with_context(|| format!("{path} has no {name}"))?.parse()?;
    Ok(kilobytes * 1024.0)
}
