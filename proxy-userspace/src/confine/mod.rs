//! What a process may still do: user, capabilities, files, system calls.
//!
//! The worker, the judges and the helper read what strangers send, and the signer has the private keys. Each is executed with the supervisor's
//! powers and gives them up before its first thread starts, because most of them belong to a thread, and a thread
//! that was forgotten keeps them. Each layer stops what another one may let through: a bug of the kernel's in one of
//! them is not enough.

/// User, group, capabilities, and what could bring them back.
mod powers;
/// No file, no foreign signal: Landlock.
mod files;
/// Which system calls, and with which arguments: seccomp.
mod calls;
/// Memory that is never written to a disk.
mod memory;
/// A confined process that tries what it must not. Not in release builds.
#[cfg(debug_assertions)]
pub(crate) mod probe;

use std::ffi::CStr;
use std::io;

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::config::{
    ALARM_ID_DEFAULT, AlarmSettings, HELPER_ID_DEFAULT, JUDGE_ID_DEFAULT, Processes, SIGNER_ID_DEFAULT,
    WORKER_ID_DEFAULT,
};
use crate::sys;

pub(crate) use self::memory::bound as bound_memory;

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Reads peers.
    Worker,
    /// Has the private keys.
    Signer,
    /// Asks strangers for answers.
    Helper,
    /// Reads what is inside of mail.
    Judge,
}

impl Role {
    /// The word in logs and in the status.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Signer => "signer",
            Self::Helper => "helper",
            Self::Judge => "judge",
        }
    }

    /// The process in ps(1) and top(1), which show 15 octets.
    pub(crate) const fn process_name(self) -> &'static CStr {
        match self {
            Self::Worker => c"postern-worker",
            Self::Signer => c"postern-signer",
            Self::Helper => c"postern-helper",
            Self::Judge => c"postern-judge",
        }
    }

    /// The system's user for it, if somebody made one.
    const fn user(self) -> &'static str {
        match self {
            Self::Worker => "postern",
            Self::Signer => "postern-signer",
            Self::Helper => "postern-helper",
            Self::Judge => "postern-judge",
        }
    }
}

/// Who a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Real, effective and saved user.
    pub(crate) uid: u32,
    /// Real, effective and saved group; there is no other.
    pub(crate) gid: u32,
}

impl Identity {
    const fn of(id: u32) -> Self {
        Self { uid: id, gid: id }
    }
}

/// How far a process could be confined, for those who ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// What Landlock denies, or why there is none.
    pub(crate) landlock: String,
    /// Whether memory stays out of the swap, or why not; `None` where nobody asked for it.
    pub(crate) locked_memory: Option<String>,
}

/// Why a process is not confined. It must end: nothing may be read from a peer, and no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    /// Nobody can tell whether other threads run.
    #[error("the threads of this process cannot be counted (/proc/self/task: {0}); mount /proc")]
    Uncounted(io::Error),
    /// Other threads would keep what this one gives up.
    #[error("{0} threads run where one was expected, and only one would be confined; please report it")]
    Threads(usize),
    /// A user or group that everything belongs to.
    #[error(
        "user {uid} and group {gid} are no place for a {}: 0 is root; set process.{}_id in the configuration",
        .role.as_str(), .role.as_str()
    )]
    Root {
        /// Which process.
        role: Role,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Root would be told of alarms.
    #[error(
        "user and group 0 are root, which runs no command for alarms; set alarm.user_id in the configuration"
    )]
    AlarmRoot,
    /// The kernel refused.
    #[error("{call}: {source}; {remedy}")]
    System {
        /// What was tried.
        call: &'static str,
        /// What the kernel says.
        source: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The list of system calls became no program.
    #[error("the list of system calls cannot be compiled: {0}; please report it")]
    Calls(#[from] seccompiler::BackendError),
}

/// What was tried and what to do, for [`Result::map_err`].
fn system<E: Into<io::Error>>(call: &'static str, remedy: &'static str) -> impl FnOnce(E) -> ConfineError {
    move |error| ConfineError::System { call, source: error.into(), remedy }
}

/// Who a role runs as: `[process]` in the configuration, else the system's user of that name (`postern`,
/// `postern-signer`, `postern-helper`, `postern-judge`), else the default numbers.
pub(crate) fn identity(role: Role, settings: &Processes) -> Identity {
    choose(role, settings, |name| sys::user(name).map(|(uid, gid)| Identity { uid, gid }))
}

/// A user of the system's that is root, or that another process has, is passed over: it would undo what it is for.
fn choose(role: Role, settings: &Processes, user: impl Fn(&str) -> Option<Identity>) -> Identity {
    let named = |role: Role| user(role.user()).filter(|identity| identity.uid != 0 && identity.gid != 0);
    let taken_by_others = |uid: u32| [settings.signer, settings.helper, settings.judge].contains(&Some(uid));
    let worker = match settings.worker {
        Some(id) => Identity::of(id),
        None => named(Role::Worker)
            .filter(|identity| !taken_by_others(identity.uid))
            .unwrap_or(Identity::of(WORKER_ID_DEFAULT)),
    };
    if role == Role::Worker {
        return worker;
    }
    let defaults =
        [SIGNER_ID_DEFAULT, WORKER_ID_DEFAULT, HELPER_ID_DEFAULT, JUDGE_ID_DEFAULT].map(Identity::of);
    let first = |own: Option<u32>, named: Option<Identity>, default: u32, taken: &[u32]| {
        let free = |identity: &Identity| !taken.contains(&identity.uid);
        let own = own.map(Identity::of).or_else(|| named.filter(free));
        let default = Some(Identity::of(default)).filter(free);
        own.or(default).or_else(|| defaults.into_iter().find(free)).unwrap_or(Identity::of(SIGNER_ID_DEFAULT))
    };
    let taken = [Some(worker.uid), settings.helper, settings.judge];
    let taken: Vec<u32> = taken.into_iter().flatten().collect();
    let signer = first(settings.signer, named(Role::Signer), SIGNER_ID_DEFAULT, &taken);
    if role == Role::Signer {
        return signer;
    }
    let taken = [Some(worker.uid), Some(signer.uid), settings.judge];
    let taken: Vec<u32> = taken.into_iter().flatten().collect();
    let helper = first(settings.helper, named(Role::Helper), HELPER_ID_DEFAULT, &taken);
    if role == Role::Helper {
        return helper;
    }
    let taken = [worker.uid, signer.uid, helper.uid];
    first(settings.judge, named(Role::Judge), JUDGE_ID_DEFAULT, &taken)
}

/// Give up what this role does not need. Called first in a child's main, while it has one thread and the powers that
/// it was executed with; it needs `CAP_SETUID`, `CAP_SETGID` and `CAP_SETPCAP`, and the worker's `CAP_NET_RAW`. Where
/// Landlock knows of networks, the helper connects to these ports by TCP and to no other.
///
/// # Errors
/// [`ConfineError`]: the process has to end. Landlock, and memory that cannot be locked, are no errors: both are told.
pub(crate) fn confine(role: Role, identity: Identity, ports: &[u16]) -> Result<Confinement, ConfineError> {
    alone()?;
    if identity.uid == 0 || identity.gid == 0 {
        return Err(ConfineError::Root { role, uid: identity.uid, gid: identity.gid });
    }
    // aws-lc looks once for the device that tells of a restored snapshot (`vm_ube_detect.c`): while it can be opened.
    // Whoever needs random numbers and gets none is told then.
    let _ = aws_lc_rs::rand::fill(&mut [0]);
    memory::keep_out_of_core_files()?;
    // Limits are raised while the power for it is there.
    let locked_memory = (role == Role::Signer).then(memory::lock);
    powers::give_up(powers::kept(role), identity)?;
    // Needs no power but that nothing executed later gains one, and itself some system calls.
    let landlock = files::close(role, ports);
    // Last, because the list has none of the calls above.
    calls::limit(role)?;
    Ok(Confinement { landlock, locked_memory })
}

/// Who the command for alarms runs as: `alarm.user_id`, else the system's user `postern-alarm`, else the default number.
pub(crate) fn alarm_identity(settings: &AlarmSettings) -> Identity {
    let named = || {
        let (uid, gid) = sys::user("postern-alarm").filter(|(uid, gid)| *uid != 0 && *gid != 0)?;
        Some(Identity { uid, gid })
    };
    let chosen = settings.user.map(Identity::of).or_else(named);
    chosen.unwrap_or(Identity::of(ALARM_ID_DEFAULT))
}

/// Give up every power, for a program of the owner's that is executed next. It may open what its user may, so that neither
/// Landlock nor seccomp stand in its way. Called in a process with one thread.
///
/// # Errors
/// [`ConfineError`]: nothing may be executed.
pub(crate) fn become_powerless(identity: Identity) -> Result<(), ConfineError> {
    alone()?;
    if identity.uid == 0 || identity.gid == 0 {
        return Err(ConfineError::AlarmRoot);
    }
    sys::close_others_on_exec().map_err(system("close_range", "Linux 5.11 and newer have it"))?;
    powers::give_up(CapabilitySet::empty(), identity)
}

/// Users, capabilities, Landlock and seccomp are a thread's own (credentials(7)); threads that it starts inherit them.
fn alone() -> Result<(), ConfineError> {
    let tasks = std::fs::read_dir("/proc/self/task").map_err(ConfineError::Uncounted)?;
    match tasks.count() {
        1 => Ok(()),
        threads => Err(ConfineError::Threads(threads)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_several_threads_is_not_confined_by_halves() {
        // libtest runs each test on a thread beside its own.
        let error = confine(Role::Signer, Identity::of(SIGNER_ID_DEFAULT), &[]).unwrap_err();
        assert!(matches!(error, ConfineError::Threads(2..)), "{error}");
        assert!(rustix::process::geteuid().is_root(), "nothing was given up: {error}");
    }

    #[test]
    fn the_file_then_the_system_then_the_default_says_who_a_process_is() {
        let system = |name: &str| match name {
            "postern" => Some(Identity { uid: 110, gid: 8 }),
            "postern-signer" => Some(Identity { uid: 111, gid: 111 }),
            _ => None,
        };
        let both = |worker, signer, user: &dyn Fn(&str) -> Option<Identity>| {
            let settings = Processes { worker, signer, helper: None, judge: None };
            [Role::Worker, Role::Signer].map(|role| choose(role, &settings, user))
        };
        assert_eq!(both(None, None, &|_| None), [60993, 60994].map(Identity::of));
        let users = [Identity { uid: 110, gid: 8 }, Identity::of(111)];
        assert_eq!(both(None, None, &system), users);
        assert_eq!(both(Some(700), Some(701), &system), [700, 701].map(Identity::of));
        assert_eq!(both(Some(700), None, &system), [Identity::of(700), Identity::of(111)]);
    }

    #[test]
    fn root_and_the_other_processs_user_are_passed_over() {
        let both = |worker, signer, uid, gid| {
            let settings = Processes { worker, signer, helper: None, judge: None };
            [Role::Worker, Role::Signer].map(|role| choose(role, &settings, |_| Some(Identity { uid, gid })))
        };
        assert_eq!(both(None, None, 0, 5), [60993, 60994].map(Identity::of));
        assert_eq!(both(None, None, 5, 0), [60993, 60994].map(Identity::of));
        assert_eq!(both(None, None, 5, 5), [5, 60994].map(Identity::of), "one user of two names");
        assert_eq!(both(None, None, 60994, 5).map(|identity| identity.uid), [60994, 60993]);
        assert_eq!(both(None, Some(5), 5, 5), [60993, 5].map(Identity::of));
        assert_eq!(both(Some(5), None, 5, 5), [5, 60994].map(Identity::of));
    }

    #[test]
    fn the_helper_has_a_user_that_no_other_process_has() {
        let all = |worker, signer, helper, user: &dyn Fn(&str) -> Option<Identity>| {
            let settings = Processes { worker, signer, helper, judge: None };
            [Role::Worker, Role::Signer, Role::Helper].map(|role| choose(role, &settings, user).uid)
        };
        assert_eq!(all(None, None, None, &|_| None), [60993, 60994, 60995]);
        assert_eq!(all(None, None, Some(7), &|_| None), [60993, 60994, 7]);
        // A user of the system's that another process has, in whatever way.
        for uid in [5, 60993, 60994, 60995] {
            let [worker, signer, helper] = all(None, None, None, &|_| Some(Identity { uid, gid: 5 }));
            assert!(worker != signer && worker != helper && signer != helper, "{worker} {signer} {helper}");
        }
        let [worker, signer, _] = all(None, None, Some(5), &|_| Some(Identity { uid: 5, gid: 5 }));
        assert!(worker != 5 && signer != 5 && worker != signer, "{worker} {signer}");
    }
}
