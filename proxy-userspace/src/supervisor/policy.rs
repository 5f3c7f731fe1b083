//! A policy generation: everything that a configuration names, read and judged, as far as this process may know it.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, getrlimit};

use crate::accept::{MachineResources, Memory, Room};
use crate::config::{self, Config};
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

    fn load(
        config: Config,
        generation: u64,
        layers: OffloadTerms,
        machine: MachineResources,
    ) -> Result<Self> {
        let (material, keys) = TrustMaterial::read(&config)?;
        let layers = OffloadTerms { mode: config.offload(), ..layers };
        let room = Room::new(&config, thread_count(config.steering.threads), &machine);
        for narrowed in &room.narrowed {
            tracing::warn!("{narrowed}");
        }
        Ok(Self { generation, config, material, keys, layers, room, machine })
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

/// What this machine has now, within this process's limit on descriptors.
fn machine() -> MachineResources {
    MachineResources {
        descriptors: getrlimit(Resource::Nofile).current,
        memory: Memory::read(Path::new("/")),
    }
}
