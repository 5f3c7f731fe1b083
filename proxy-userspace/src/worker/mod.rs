//! The worker: the process that peers' octets reach, with one thread per core.

/// The spine: one connection from accept to record.
pub(crate) mod connection;
/// All threads: their listeners, and a successor for one that died.
pub(crate) mod crew;
/// The memory of sessions that have left.
pub(crate) mod memory;
/// One thread per core: a single-threaded runtime, its listeners, its sessions.
pub(crate) mod thread;
