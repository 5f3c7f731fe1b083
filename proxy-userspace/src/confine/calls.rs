//! The lists are what std, tokio, rustls, aws-lc and this crate call after a start, read from their sources and
//! checked with strace. Everything else is refused with `EPERM`, which glibc and std take as "not here" wherever they
//! only look around: `/proc` and `/sys` for the number of cores, the own binary for a backtrace.

use std::collections::BTreeMap;

use libc::{c_int, c_long};
use rustix::process::getpid;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::{ConfineError, Role, system};
use crate::sys;

/// Of all: what is open, memory, threads, time, signals to oneself, randomness.
#[rustfmt::skip]
const COMMON: [c_long; 36] = [
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_lseek,
    libc::SYS_close, libc::SYS_fstat, libc::SYS_recvmsg, libc::SYS_sendmsg, libc::SYS_ppoll,
    libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise,
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_sched_yield, libc::SYS_sched_getaffinity,
    libc::SYS_getpid, libc::SYS_gettid, libc::SYS_exit, libc::SYS_exit_group,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    // The kernel's own, after a stop or a debugger interrupted a wait.
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // Answered by another filter: see `no_clone3`.
    libc::SYS_clone3,
];

/// The same that arm64 has under one name only.
#[cfg(target_arch = "x86_64")]
const COMMON_OLD: [c_long; 2] = [libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const COMMON_OLD: [c_long; 0] = [];

/// Of the worker: connections, what a runtime waits with, the two files that the supervisor opened for it, and memory for
/// judges.
#[rustfmt::skip]
const WORKER: [c_long; 21] = [
    libc::SYS_accept4, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_shutdown,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_sendto, libc::SYS_recvfrom,
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_eventfd2,
    libc::SYS_pipe2, libc::SYS_splice, libc::SYS_pwrite64, libc::SYS_ftruncate, libc::SYS_fdatasync,
    libc::SYS_memfd_create,
];

/// Of the helper: connections, datagrams, and what a runtime waits with.
#[rustfmt::skip]
const HELPER: [c_long; 13] = [
    libc::SYS_connect, libc::SYS_bind, libc::SYS_shutdown,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_sendto, libc::SYS_recvfrom,
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_eventfd2,
];

#[cfg(target_arch = "x86_64")]
const WORKER_OLD: [c_long; 1] = [libc::SYS_epoll_wait];
#[cfg(not(target_arch = "x86_64"))]
const WORKER_OLD: [c_long; 0] = [];

/// Names for threads and for memory in `/proc/PID/maps`, which glibc gives where it is told to.
const PRCTL: [c_int; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

/// Not the commands that name a process to be signalled, nor locks and leases.
#[rustfmt::skip]
const FCNTL: [c_int; 9] = [
    libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL,
    libc::F_GET_SEALS, libc::F_GETPIPE_SZ, libc::F_SETPIPE_SZ,
];

/// Whether a descriptor is a terminal (asm-generic/ioctls.h): whoever writes a log asks.
const TCGETS: u64 = 0x5401;
/// Of worker and helper: how much is there to be read (`FIONREAD`), whether a socket waits (`FIONBIO`; both
/// asm-generic/ioctls.h), and an interface's name (`SIOCGIFNAME`, linux/sockios.h; see `accept/egress.rs`).
const IOCTL: [u64; 3] = [0x541b, 0x5421, 0x8910];

/// Options of `SOL_SOCKET` that load a program into the kernel (asm-generic/socket.h).
const PROGRAM_OPTIONS: [c_int; 4] = [
    libc::SO_ATTACH_FILTER,
    libc::SO_ATTACH_BPF,
    libc::SO_ATTACH_REUSEPORT_CBPF,
    libc::SO_ATTACH_REUSEPORT_EBPF,
];

/// Of a thread: glibc asks for this and more. None of a new namespace, whose flags share the word.
const CLONE_JUDGED: c_int = libc::CLONE_THREAD
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS;

/// Allow the role's list from now on, in this thread and those that it starts. Nothing takes that back.
///
/// What the list refuses is also logged (`SECCOMP_FILTER_FLAG_LOG`): an audit record of type 1326 with the number of
/// the call, in the audit daemon's log or, without one, in the kernel's, which limits the rate. The machine decides:
/// `kernel.seccomp.actions_logged` has `errno` by default, and without audit support in the kernel nothing is logged.
/// A panic's backtrace looks for files and leaves such lines, and so do libraries that look for `/proc` and `/sys`;
/// any other line means that Postern lacks a call, or that somebody took it over. `ausyscall` tells the name.
pub(super) fn limit(role: Role) -> Result<(), ConfineError> {
    let remedy = "this kernel lacks CONFIG_SECCOMP_FILTER, or a container's own filter forbids seccomp(2)";
    // The first, because the second has no seccomp(2).
    sys::filter_calls(&no_clone3()?, false).map_err(system("seccomp(SECCOMP_SET_MODE_FILTER)", remedy))?;
    sys::filter_calls(&allowed(role)?, true).map_err(system("seccomp(SECCOMP_SET_MODE_FILTER)", remedy))
}

/// clone3's flags lie in memory, where no filter can look. For "no such call" glibc takes clone, whose flags can be
/// seen (`__clone_internal`). Of two filters the stricter answer counts, so this one wins over the list's "yes"; it
/// is not logged, because every new thread asks.
fn no_clone3() -> Result<BpfProgram, BackendError> {
    let calls = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    compile(calls, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.unsigned_abs()))
}

fn allowed(role: Role) -> Result<BpfProgram, BackendError> {
    let mut calls = Calls::default();
    calls.always(&COMMON).always(&COMMON_OLD);
    // No memory becomes code.
    calls.when(libc::SYS_mmap, &[(2, MaskedEq(word(libc::PROT_EXEC)), 0)])?;
    calls.when(libc::SYS_mprotect, &[(2, MaskedEq(word(libc::PROT_EXEC)), 0)])?;
    calls.when(libc::SYS_clone, &[(0, MaskedEq(word(CLONE_JUDGED)), word(libc::CLONE_THREAD))])?;
    // abort(3), and nobody else's end.
    calls.when(libc::SYS_tgkill, &[(0, Eq, word(getpid().as_raw_nonzero().get()))])?;
    // Limits may be read. The pointer's other half is judged below.
    calls.when_null(libc::SYS_prlimit64, 2)?;
    for option in PRCTL {
        calls.when(libc::SYS_prctl, &[(0, Eq, word(option))])?;
    }
    for command in FCNTL {
        calls.when(libc::SYS_fcntl, &[(1, Eq, word(command))])?;
    }
    calls.when(libc::SYS_ioctl, &[(1, Eq, TCGETS)])?;
    match role {
        Role::Worker => worker(&mut calls)?,
        Role::Helper => helper(&mut calls)?,
        Role::Judge => judge(&mut calls)?,
        Role::Signer => {}
    }
    compile(calls.0, SeccompAction::Errno(libc::EPERM.unsigned_abs()), SeccompAction::Allow)
}

fn worker(calls: &mut Calls) -> Result<(), BackendError> {
    calls.always(&WORKER).always(&WORKER_OLD);
    sockets(calls, &[(libc::SOCK_STREAM, libc::IPPROTO_TCP)])?;
    // What is passed to judges.
    calls.when(libc::SYS_fcntl, &[(1, Eq, word(libc::F_ADD_SEALS))])?;
    // Of the calling thread.
    calls.when(libc::SYS_sched_setaffinity, &[(0, Eq, 0)])
}

/// The time of each leaf is bounded anew. No other bound can be changed.
fn judge(calls: &mut Calls) -> Result<(), BackendError> {
    let limit = u64::from(libc::RLIMIT_CPU);
    calls.when(libc::SYS_prlimit64, &[(0, Eq, 0), (1, Eq, limit)])
}

fn helper(calls: &mut Calls) -> Result<(), BackendError> {
    calls.always(&HELPER).always(&WORKER_OLD);
    sockets(calls, &[(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)])
}

/// Sockets of these kinds and protocols over IP, questions over netlink, and what a runtime makes of them.
fn sockets(calls: &mut Calls, kinds: &[(c_int, c_int)]) -> Result<(), BackendError> {
    let kind = MaskedEq(!word(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC));
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (of, named) in kinds {
            for protocol in [0, *named] {
                let socket = [(0, Eq, word(family)), (1, kind.clone(), word(*of)), (2, Eq, word(protocol))];
                calls.when(libc::SYS_socket, &socket)?;
            }
        }
    }
    // Questions about routes and interfaces; a change takes CAP_NET_ADMIN.
    for datagrams in [libc::SOCK_RAW, libc::SOCK_DGRAM] {
        let routes = [
            (0, Eq, word(libc::AF_NETLINK)),
            (1, kind.clone(), word(datagrams)),
            (2, Eq, word(libc::NETLINK_ROUTE)),
        ];
        calls.when(libc::SYS_socket, &routes)?;
    }
    // tokio makes one pair per process for signals, whether or not somebody waits for one. A pair of streams reaches
    // nothing but itself.
    let pair = [(0, Eq, word(libc::AF_UNIX)), (1, kind, word(libc::SOCK_STREAM)), (2, Eq, 0)];
    calls.when(libc::SYS_socketpair, &pair)?;
    calls.when(libc::SYS_setsockopt, &[(1, Ne, word(libc::SOL_SOCKET))])?;
    let harmless = PROGRAM_OPTIONS.map(|option| (2, Ne, word(option)));
    calls.when(libc::SYS_setsockopt, &harmless)?;
    for request in IOCTL {
        calls.when(libc::SYS_ioctl, &[(1, Eq, request)])?;
    }
    Ok(())
}

/// Which calls, and for each the conditions of which one has to hold; none means always.
#[derive(Default)]
struct Calls(BTreeMap<i64, Vec<SeccompRule>>);

impl Calls {
    fn always(&mut self, calls: &[c_long]) -> &mut Self {
        self.0.extend(calls.iter().map(|call| (*call, Vec::new())));
        self
    }

    /// Allow a call whose arguments, by their numbers, are so. Only the lower halves are looked at: these arguments
    /// are an `int` for the kernel, or a word of flags without a bit above.
    fn when(&mut self, call: c_long, arguments: &[(u8, SeccompCmpOp, u64)]) -> Result<(), BackendError> {
        let conditions = arguments.iter().map(|(number, op, value)| {
            SeccompCondition::new(*number, SeccompCmpArgLen::Dword, op.clone(), *value)
        });
        let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
        self.0.entry(call).or_default().push(rule);
        Ok(())
    }

    /// Allow a call for the calling process that passes no pointer there.
    fn when_null(&mut self, call: c_long, pointer: u8) -> Result<(), BackendError> {
        let own = SeccompCondition::new(0, SeccompCmpArgLen::Dword, Eq, 0)?;
        let null = SeccompCondition::new(pointer, SeccompCmpArgLen::Qword, Eq, 0)?;
        self.0.entry(call).or_default().push(SeccompRule::new(vec![own, null])?);
        Ok(())
    }
}

/// An `int` as the filter sees it.
fn word(value: c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

fn compile(
    calls: BTreeMap<i64, Vec<SeccompRule>>,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(calls, others, these, machine)?.try_into()
}
