use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities_secure_bits,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::{ConfineError, Identity, Role, system};

const SETPCAP: &str = "run postern as root, or grant CAP_SETPCAP (CapabilityBoundingSet= in a systemd unit)";
const SETUID: &str = "run postern as root, or grant CAP_SETUID, and see that the numbers of [process] are numbers of \
                      this user namespace";
const SETGID: &str = "run postern as root, or grant CAP_SETGID, and see that the numbers of [process] are numbers of \
                      this user namespace";
const NET_RAW: &str = "run postern as root, or grant CAP_NET_RAW (CapabilityBoundingSet= in a systemd unit)";
const REPORT: &str = "every kernel that Postern runs on has this; please report it";

/// Neither root nor a change of user gives capabilities any more, none is kept across execve, and nobody can change
/// that. `KEEP_CAPS` is locked while it is off.
const SECURE_BITS: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

/// What a role keeps. The worker binds to clients' addresses and marks its packets: `IP_TRANSPARENT`
/// (`do_ip_setsockopt` in net/ipv4/ip_sockglue.c) and, since Linux 5.17, `SO_MARK` (`sk_setsockopt` in
/// net/core/sock.c) take `CAP_NET_RAW`.
pub(super) const fn kept(role: Role) -> CapabilitySet {
    match role {
        Role::Worker => CapabilitySet::NET_RAW,
        Role::Signer | Role::Helper | Role::Judge => CapabilitySet::empty(),
    }
}

/// Become another user with these capabilities and no way back.
///
/// The order is forced: the bounding set and the secure bits take `CAP_SETPCAP`, groups take `CAP_SETGID`, and the
/// user changes last, while the bits keep the kernel from taking capabilities with it (`security_task_fix_setuid`).
pub(super) fn give_up(kept: CapabilitySet, identity: Identity) -> Result<(), ConfineError> {
    clear_ambient_capability_set().map_err(system("prctl(PR_CAP_AMBIENT_CLEAR_ALL)", REPORT))?;
    // What others locked stays locked, or the kernel refuses.
    let before = capabilities_secure_bits().map_err(system("prctl(PR_GET_SECUREBITS)", REPORT))?;
    let bits = before.union(SECURE_BITS).difference(CapabilitiesSecureBits::KEEP_CAPS);
    set_capabilities_secure_bits(bits).map_err(system("prctl(PR_SET_SECUREBITS)", SETPCAP))?;
    empty_bounding_set()?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&[]).map_err(system("setgroups", SETGID))?;
    set_thread_res_gid(gid, gid, gid).map_err(system("setresgid", SETGID))?;
    set_thread_res_uid(uid, uid, uid).map_err(system("setresuid", SETUID))?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(system("capset", NET_RAW))?;
    set_no_new_privs(true).map_err(system("prctl(PR_SET_NO_NEW_PRIVS)", REPORT))?;
    // After the change of user, which sets it to fs.suid_dumpable (`commit_creds` in kernel/cred.c). Nobody of the
    // same user can then look into this process, and /proc/PID belongs to root.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(system("prctl(PR_SET_DUMPABLE)", REPORT))
}

/// By number up to the kernel's last, which may be newer than any list of names.
fn empty_bounding_set() -> Result<(), ConfineError> {
    for number in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Err(Errno::INVAL) => break,
            dropped => dropped.map_err(system("prctl(PR_CAPBSET_DROP)", SETPCAP))?,
        }
    }
    Ok(())
}
