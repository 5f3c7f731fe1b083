//! Kernel settings: what `run` sets and gives back.
//!
//! `/proc/sys/net` shows the network namespace of the calling thread.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Listening sockets hand their half-open connections to the group when they close.
const MIGRATE: &str = "net.ipv4.tcp_migrate_req";
/// A path that swallows large packets without an ICMP error is noticed after some lost ones (RFC 4821). Firewalls
/// that drop all ICMP stand beside many gateways, and here both halves of a connection end in our sockets.
const PROBE: &str = "net.ipv4.tcp_mtu_probing";

/// What `run` sets: name, value, and whether a value other than 0 is kept.
const SET: [(&str, &str, bool); 2] = [(MIGRATE, "1", false), (PROBE, "1", true)];

/// Why a setting could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// Reading.
    #[error(
        "sysctl {name} cannot be read: {source}; /proc must be mounted, and the kernel must know the setting"
    )]
    Read {
        /// As given.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Writing.
    #[error(
        "sysctl {name}={value} cannot be set: {source}; run Postern as root with /proc/sys writable \
         (ProtectKernelTunables=no in its unit), or set it in /etc/sysctl.d"
    )]
    Write {
        /// As given.
        name: String,
        /// What was to be written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The settings that this process changed; given back by [`Sysctls::restore`] or when dropped.
///
/// Their old values are kept in a file, for the successor of a killed daemon.
#[derive(Debug)]
pub struct Sysctls {
    changed: Vec<Changed>,
    memory: PathBuf,
}

#[derive(Debug)]
struct Changed {
    name: &'static str,
    old: String,
    new: &'static str,
}

impl Sysctls {
    /// Sets what Postern needs in this thread's network namespace. `memory` is where old values are remembered.
    ///
    /// # Errors
    /// A setting that cannot be read or written; those changed before are given back.
    pub fn apply(memory: &Path) -> Result<Self, SysctlError> {
        let left = recall(memory);
        let mut sysctls = Self { changed: Vec::new(), memory: memory.to_owned() };
        for (name, new, only_if_off) in SET {
            let now = read(name)?;
            let old = left.iter().find(|(left, _)| left == name).map(|(_, old)| old.clone());
            match old {
                // A killed predecessor set it.
                Some(old) if now == new => sysctls.changed.push(Changed { name, old, new }),
                _ if now == new || (only_if_off && now != "0") => {}
                _ => {
                    sysctls.changed.push(Changed { name, old: now, new });
                    sysctls.remember();
                    write(name, new)?;
                }
            }
        }
        Ok(sysctls)
    }

    /// Write the file. A failure is ignored: the file only matters after a kill.
    fn remember(&self) {
        let lines: String =
            self.changed.iter().map(|changed| format!("{}={}\n", changed.name, changed.old)).collect();
        if let Err(error) = fs::write(&self.memory, lines) {
            tracing::warn!("{}: old kernel settings are not remembered: {error}", self.memory.display());
        }
    }

    /// Gives the old values back, except where another program has changed them since. A second call does nothing.
    ///
    /// # Errors
    /// The first setting that cannot be read or written; the others are still tried.
    pub fn restore(&mut self) -> Result<(), SysctlError> {
        let results: Vec<_> = self.changed.drain(..).map(|changed| changed.restore()).collect();
        let _absent = fs::remove_file(&self.memory);
        results.into_iter().collect()
    }
}

/// Gives back what a killed daemon set, and returns the names of these settings.
///
/// # Errors
/// The first setting that cannot be read or written; the others are still tried.
pub fn give_back(memory: &Path) -> Result<Vec<&'static str>, SysctlError> {
    let left = recall(memory);
    let changed = SET.into_iter().filter_map(|(name, new, _)| {
        let (_, old) = left.iter().find(|(left, _)| left == name)?;
        Some(Changed { name, old: old.clone(), new })
    });
    let mut sysctls = Sysctls { changed: changed.collect(), memory: memory.to_owned() };
    let names = sysctls.changed.iter().map(|changed| changed.name).collect();
    sysctls.restore().map(|()| names)
}

/// The file of a killed daemon: names and old values.
fn recall(memory: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(memory).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, old)| (name.to_owned(), old.to_owned()))
        .collect()
}

impl Changed {
    fn restore(&self) -> Result<(), SysctlError> {
        if read(self.name)? == self.new { write(self.name, &self.old) } else { Ok(()) }
    }
}

impl Drop for Sysctls {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            tracing::warn!(%error, "a kernel setting was not given back");
        }
    }
}

/// A setting's value without white space around it. As with sysctl(8), dots separate unless the name holds a slash
/// (`net/ipv6/conf/eth0.10/disable_ipv6`).
///
/// # Errors
/// The kernel does not know it, or /proc is not readable.
pub fn read(name: &str) -> Result<String, SysctlError> {
    fs::read_to_string(path(name))
        .map(|value| value.trim().to_owned())
        .map_err(|source| SysctlError::Read { name: name.to_owned(), source })
}

fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    fs::write(path(name), value).map_err(|source| SysctlError::Write {
        name: name.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Write a setting of a device of ours, unless it has the value.
pub(super) fn set(name: &str, value: &str) -> Result<(), SysctlError> {
    if read(name)? == value { Ok(()) } else { write(name, value) }
}

fn path(name: &str) -> PathBuf {
    let relative = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    PathBuf::from("/proc/sys").join(relative)
}
