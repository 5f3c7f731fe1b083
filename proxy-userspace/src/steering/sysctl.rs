//! Kernel settings: what `run` sets and gives back, and what `check` advises.
//!
//! `/proc/sys/net` shows the network namespace of the calling thread.

use std::path::PathBuf;
use std::{fs, io};

use super::routing;

/// Listening sockets hand their half-open connections to the group when they close.
const MIGRATE: &str = "net.ipv4.tcp_migrate_req";

/// What `run` sets: name and value.
const SET: [(&str, &str); 1] = [(MIGRATE, "1")];

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
        name: &'static str,
        /// What was to be written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The settings that this process changed; given back by [`Sysctls::restore`] or when dropped.
#[derive(Debug)]
pub struct Sysctls {
    changed: Vec<Changed>,
}

#[derive(Debug)]
struct Changed {
    name: &'static str,
    old: String,
    new: &'static str,
}

impl Sysctls {
    /// Sets what Postern needs in this thread's network namespace.
    ///
    /// # Errors
    /// A setting that cannot be read or written; those changed before are given back.
    pub fn apply() -> Result<Self, SysctlError> {
        let mut sysctls = Self { changed: Vec::new() };
        for (name, new) in SET {
            let old = read(name)?;
            if old != new {
                write(name, new)?;
                sysctls.changed.push(Changed { name, old, new });
            }
        }
        Ok(sysctls)
    }

    /// Gives the old values back, except where somebody else has changed them since. A second call does nothing.
    ///
    /// # Errors
    /// The first setting that cannot be read or written; the others are still tried.
    pub fn restore(&mut self) -> Result<(), SysctlError> {
        let results: Vec<_> = self.changed.drain(..).map(|changed| changed.restore()).collect();
        results.into_iter().collect()
    }
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

/// One setting, as `postern check` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// In dotted form.
    pub name: &'static str,
    /// What it is now; `None` if it cannot be read.
    pub value: Option<String>,
    /// What it should be.
    pub wanted: &'static str,
    /// What goes wrong otherwise, and who sets it.
    pub why: &'static str,
}

impl Advice {
    /// Whether nothing needs doing.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.value.as_deref() == Some(self.wanted)
    }
}

/// The settings that matter to a gateway, good ones too. Nothing is changed.
#[must_use]
pub fn advice() -> Vec<Advice> {
    let mut all = vec![
        (
            MIGRATE,
            "1",
            "a closing listener hands its half-open connections on; `postern run` sets and restores it",
        ),
        ("net.ipv4.ip_forward", "1", "a gateway forwards IPv4; set it in /etc/sysctl.d"),
    ];
    if routing::kernel_has_ipv6() {
        all.push(("net.ipv6.conf.all.forwarding", "1", "a gateway forwards IPv6; set it in /etc/sysctl.d"));
    }
    all.into_iter().map(|(name, wanted, why)| Advice { name, value: read(name).ok(), wanted, why }).collect()
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

fn write(name: &'static str, value: &str) -> Result<(), SysctlError> {
    fs::write(path(name), value).map_err(|source| SysctlError::Write {
        name,
        value: value.to_owned(),
        source,
    })
}

fn path(name: &str) -> PathBuf {
    let relative = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    PathBuf::from("/proc/sys").join(relative)
}
