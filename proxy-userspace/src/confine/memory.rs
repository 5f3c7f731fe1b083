use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use std::io;

use super::{ConfineError, system};

/// A core file holds keys, passwords and mail.
pub(super) fn keep_out_of_core_files() -> Result<(), ConfineError> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(system("setrlimit(RLIMIT_CORE)", "please report it"))
}

/// Keep all memory, also what is fetched later, out of the swap; the words say whether.
///
/// Under a limit every later allocation, and even the growth of a stack, fails where the sum of all mappings exceeds
/// it (`mlock_future_ok` in mm/mmap.c), touched or not. `CAP_IPC_LOCK` lifts that, but is given up. So memory is
/// locked only where there is no limit. Pages are locked as they are touched (`ONFAULT`): a key is in one that was.
pub(super) fn lock() -> String {
    let unlimited = Rlimit { current: None, maximum: None };
    if setrlimit(Resource::Memlock, unlimited).is_err() {
        let most = getrlimit(Resource::Memlock).maximum.unwrap_or(u64::MAX);
        return format!(
            "no: the limit on locked memory is {most} octets and cannot be raised; set LimitMEMLOCK=infinity in the \
             systemd unit, or `ulimit -l unlimited`"
        );
    }
    match mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        Ok(()) => "all of it".to_owned(),
        Err(error) => format!("no: mlockall: {error}"),
    }
}

/// Octets that a process has, or may get, beside what it is bounded to: statics, stacks, heaps of threads.
const DATA_SLACK: u64 = 64 << 20;
/// Addresses of the largest leaf, which is mapped and costs this process nothing, and of heaps that are not used: each
/// thread's may take 128 MiB.
const ADDRESS_SLACK: u64 = (1 << 30) + (512 << 20);

/// Let this process have so much memory of its own and no more, in the words of setrlimit(2): `RLIMIT_DATA`, what it can
/// write, and `RLIMIT_AS`, all that it maps. What it has now is not counted. Who asks for more gets none, and ends: Rust
/// aborts then. `proc` has to be there.
///
/// # Errors
/// The kernel's.
pub(crate) fn bound(octets: u64) -> io::Result<()> {
    let mapped = mapped_octets().unwrap_or(0);
    set(Resource::Data, octets.saturating_add(DATA_SLACK))?;
    set(Resource::As, mapped.saturating_add(octets).saturating_add(ADDRESS_SLACK))
}

/// A bound that is there already, and is less, stays.
fn set(resource: Resource, octets: u64) -> io::Result<()> {
    let before = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Some(octets.min(before));
    Ok(setrlimit(resource, Rlimit { current: limit, maximum: limit })?)
}

/// All that this process maps (proc_pid_status(5)).
fn mapped_octets() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let size = text.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    size.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}
