//! A policy generation: everything that a configuration names, read and judged, as far as this process may know it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, getrlimit};
use time::OffsetDateTime;

use super::process::OWN_PROGRAM;
use crate::accept::{MachineResources, Memory, Room};
use crate::config::{self, Config, DefaultCertificate};
use crate::handshake::expiry::{CertificateUse, Lifetime, Nearness};
use crate::handshake::{KeyFile, TrustMaterial};
use crate::ipc::seal;
use crate::layer::offload::OffloadTerms;
use crate::signer::KeyFacts;
use crate::worker::protocol::PolicyMessage;
use crate::worker::thread_count;

/// What is in force, or shall be.
pub(super) struct LoadedPolicy {
    pub(super) generation: u64,
    pub(super) config: Config,
    pub(super) material: TrustMaterial,
    /// When its certificates end.
    pub(super) lifetimes: Vec<Lifetime>,
    /// Open and unread: they are the signer's to read.
    pub(super) keys: Vec<KeyFile>,
    pub(super) layers: OffloadTerms,
    pub(super) room: Room,
    machine: MachineResources,
}

impl LoadedPolicy {
    /// The first. `layers` holds what was found out about the kernel. What this machine has no room for is told in the
    /// log.
    ///
    /// # Errors
    /// A file that the configuration names cannot be used.
    pub(super) fn first(config: Config, layers: OffloadTerms) -> Result<Self> {
        Self::load(config, 1, layers, machine())
    }

    /// The next one, from the same file. It has the memory of the start: what Postern's own sessions hold is not
    /// available.
    ///
    /// # Errors
    /// What is wrong, or changes with a restart only.
    pub(super) fn next(&self, path: &Path) -> Result<Self> {
        let config = config::load(path)?;
        let running = &self.config;
        if config.steering != running.steering || config.admin != running.admin {
            bail!("[steering] and [admin] change with a restart only");
        }
        if config.state != running.state {
            bail!("[state] changes with a restart only");
        }
        if config.processes != running.processes {
            bail!("[process] changes with a restart only");
        }
        if config.limits.session_memory != running.limits.session_memory {
            bail!("limits.session_memory changes with a restart only");
        }
        let mut machine = machine();
        machine.memory = machine.memory.no_less_than(&self.machine.memory);
        Self::load(config, self.generation + 1, self.layers.clone(), machine)
    }

    /// The same configuration with what its files hold now, and a new default certificate where Postern makes that.
    ///
    /// # Errors
    /// A file cannot be used any more, or the certificate cannot be made.
    pub(super) fn again(&self) -> Result<Self> {
        Self::load(self.config.clone(), self.generation + 1, self.layers.clone(), self.machine.clone())
    }

    /// The next one from the same configuration, where a list of revoked certificates has changed.
    ///
    /// # Errors
    /// A file that the configuration names cannot be used.
    pub(super) fn renewed(&self) -> Result<Option<Self>> {
        if !self.material.has_new_lists(&self.config)? {
            return Ok(None);
        }
        let Self { config, generation, layers, machine, .. } = self;
        Self::load(config.clone(), generation + 1, layers.clone(), machine.clone()).map(Some)
    }

    fn load(
        config: Config,
        generation: u64,
        layers: OffloadTerms,
        machine: MachineResources,
    ) -> Result<Self> {
        provide_default_certificate(&config)?;
        let (material, keys) = TrustMaterial::read(&config)?;
        let lifetimes = material.lifetimes(&config);
        let layers = OffloadTerms { mode: config.offload(), ..layers };
        let room = Room::new(&config, thread_count(config.steering.threads), &machine);
        for narrowed in &room.narrowed {
            tracing::warn!("{narrowed}");
        }
        Ok(Self { generation, config, material, lifetimes, keys, layers, room, machine })
    }

    /// Whether the default certificate that Postern made is near its end.
    pub(super) fn own_default_ends(&self) -> bool {
        let is_near = |lifetime: &Lifetime| lifetime.nearness(now()) > Nearness::Far;
        self.lifetimes.iter().any(|lifetime| lifetime.of == CertificateUse::OwnDefault && is_near(lifetime))
    }

    /// All of it that the worker may know, in sealed memory.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub(super) fn for_worker(&self, keys: Vec<KeyFacts>) -> Result<OwnedFd> {
        let message = PolicyMessage {
            generation: self.generation,
            config: self.config.clone(),
            material: self.material.clone(),
            keys,
            offload: self.layers.message(),
            room: self.room.clone(),
        };
        let octets = postcard::to_stdvec(&message).context("writing the policy for the worker")?;
        Ok(seal(&octets)?)
    }
}

/// Has the default Proxy Server certificate made where Postern makes it and it is not there, not whole or near its end. A
/// process of its own does it: this one has no private key in its memory.
///
/// # Errors
/// It cannot be made.
fn provide_default_certificate(config: &Config) -> Result<()> {
    let Some(DefaultCertificate { files, is_own: true }) = config.default_certificate() else {
        return Ok(());
    };
    let made = Command::new(OWN_PROGRAM)
        .arg("default-certificate")
        .arg(&config.state.directory)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("making the default Proxy Server certificate ({OWN_PROGRAM})"))?;
    if !made.status.success() {
        bail!("{}", String::from_utf8_lossy(&made.stderr).trim());
    }
    if !made.stdout.is_empty() {
        tracing::info!(
            "made a default Proxy Server certificate, self-signed: {}; clients of your servers see it where no entry of \
             certificates.server has their name, and have to trust it; certificates.default names another",
            files.cert.display()
        );
    }
    Ok(())
}

/// Seconds since 1970, as certificates count.
pub(super) fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// What this machine has now, within this process's limit on descriptors.
fn machine() -> MachineResources {
    MachineResources {
        descriptors: getrlimit(Resource::Nofile).current,
        memory: Memory::read(Path::new("/")),
    }
}
