//! The capabilities that the supervisor needs (capabilities(7)).

use anyhow::{Result, bail};
use caps::{CapSet, Capability};

/// Each with what it is for.
pub(crate) const NEEDED: [(Capability, &str); 8] = [
    (Capability::CAP_BPF, "loads the steering program"),
    (Capability::CAP_PERFMON, "spares the verifier the paths that are only speculated, which are too many"),
    (Capability::CAP_NET_ADMIN, "attaches it, sets rules, opens transparent sockets"),
    (Capability::CAP_NET_RAW, "is the worker's, for the marks of its sockets to servers"),
    (Capability::CAP_SETUID, "gives worker and signer users of their own"),
    (Capability::CAP_SETGID, "gives worker and signer groups of their own"),
    (Capability::CAP_KILL, "ends a worker or a signer that hangs"),
    (Capability::CAP_SETPCAP, "takes from worker and signer what they must never have again"),
];

/// Whether all of them are held.
///
/// # Errors
/// Names those that are missing, and the remedy.
pub(super) fn held() -> Result<()> {
    let held = caps::read(None, CapSet::Effective)?;
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|(capability, _)| !held.contains(capability))
        .map(|(capability, purpose)| format!("{capability} ({purpose})"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "missing: {}; run as root, or grant them (AmbientCapabilities= where a systemd unit starts Postern)",
        missing.join(", ")
    )
}
