use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
