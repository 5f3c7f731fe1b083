//! What no crate does safely: every `unsafe` of this crate is here.
#![expect(
    unsafe_code,
    reason = "TUNSETIFF, BPF_PROG_QUERY, TCP_INQ, malloc_trim, kernel TLS, shared and sealed memory, tokio's registration, getpwnam_r, \
              close_range and seccomp's flags have no safe binding"
)]

use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::programs::TcAttachType;
use ktls::CryptoInfo;
use netlink_sys::Socket;
use tokio::io::unix::AsyncFd;

use rustix::io::{Errno, Result};
use rustix::ioctl::{Updater, ioctl, opcode};

use crate::ipc::Channel;

/// `IFNAMSIZ` (linux/if.h), the terminating NUL included.
const NAME_BYTES: usize = 16;
/// `TUNSETIFF` (linux/if_tun.h): declared with an `int`, but the kernel reads a `struct ifreq`.
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);

/// `struct ifreq` with `ifr_flags` (linux/if.h): 40 octets on 64-bit machines, and no less anywhere.
#[repr(C)]
struct Ifreq {
    name: [u8; NAME_BYTES],
    flags: u16,
    rest: [u8; 22],
}

/// Attach an open `/dev/net/tun` to a device that it makes.
///
/// # Errors
/// The kernel's: `EBUSY` where the name is taken, `EPERM` without `CAP_NET_ADMIN`.
pub(crate) fn make_tun(device: impl AsFd, name: &str, flags: u16) -> Result<()> {
    let mut request = Ifreq { name: [0; NAME_BYTES], flags, rest: [0; 22] };
    // The last octet stays the NUL.
    for (to, from) in request.name.iter_mut().take(NAME_BYTES - 1).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: for TUNSETIFF the kernel reads a `struct ifreq` and writes one back (`__tun_chr_ioctl` in
    // drivers/net/tun.c); `Ifreq` has its size and layout, and lives until the call returns.
    unsafe { ioctl(device, Updater::<TUNSETIFF, Ifreq>::new(&mut request)) }
}

/// `BPF_PROG_QUERY`, `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS` (linux/bpf.h).
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
/// An interface takes no more programs (`BPF_MPROG_MAX` in linux/bpf_mprog.h).
const TCX_PROGRAMS_MAX: usize = 64;

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
#[derive(Default)]
struct ProgramQuery {
    interface: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The numbers of the tcx programs that see what arrives at an interface, or leaves by it, in their order. aya's question also opens each
/// program, which takes `CAP_SYS_ADMIN`; this one takes `CAP_NET_ADMIN`.
///
/// # Errors
/// `ENODEV` where there is no such interface, `EINVAL` before Linux 6.6.
pub(crate) fn tcx_programs(interface: u32, packets: TcAttachType) -> std::io::Result<Vec<u32>> {
    let mut ids = vec![0; TCX_PROGRAMS_MAX];
    let mut query = ProgramQuery {
        interface,
        attach_type: if packets == TcAttachType::Egress { BPF_TCX_EGRESS } else { BPF_TCX_INGRESS },
        program_ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(ids.len()).unwrap_or(0),
        ..ProgramQuery::default()
    };
    // SAFETY: for BPF_PROG_QUERY the kernel reads and writes a `union bpf_attr` of the size that it is told
    // (`bpf_prog_query` in kernel/bpf/syscall.c), and writes at most `count` numbers of 32 bits behind `program_ids`
    // (`bpf_mprog_query` in kernel/bpf/mprog.c); both live until the call returns.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<ProgramQuery>()) };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    ids.truncate(usize::try_from(query.count).unwrap_or(0));
    Ok(ids)
}

/// `SOL_TLS` (linux/socket.h).
const SOL_TLS: libc::c_int = 282;
/// `TLS_TX`, `TLS_RX`, `TLS_RX_EXPECT_NO_PAD` (linux/tls.h).
const TLS_TX: libc::c_int = 1;
const TLS_RX: libc::c_int = 2;
const TLS_RX_EXPECT_NO_PAD: libc::c_int = 4;
/// `TLS_SET_RECORD_TYPE` and `TLS_GET_RECORD_TYPE`: control messages of one octet.
const TLS_SET_RECORD_TYPE: libc::c_int = 1;
const TLS_GET_RECORD_TYPE: libc::c_int = 2;

/// Which half of a connection the kernel takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// `TLS_RX`.
    Receive,
    /// `TLS_TX`.
    Transmit,
}

fn set<T>(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
    bytes: usize,
) -> std::io::Result<()> {
    let length = libc::socklen_t::try_from(bytes.min(size_of::<T>())).unwrap_or(0);
    // SAFETY: the descriptor is open while `socket` is borrowed, and the kernel reads at most `length` octets of the
    // value, which has no fewer.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Put kernel TLS above TCP (`TCP_ULP`); nothing changes until a half is given its key.
///
/// # Errors
/// `ENOENT` where the kernel has none, `ENOTCONN` before the connection stands.
pub(crate) fn set_tls_ulp(socket: impl AsFd) -> std::io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls", 3)
}

/// Give the kernel a half's key, or its next one.
///
/// # Errors
/// `EINVAL` or `ENOENT` for a cipher or version that it lacks, `EBUSY` where it cannot change keys (before Linux 6.14).
pub(crate) fn set_tls_key(socket: impl AsFd, half: Half, info: &CryptoInfo) -> std::io::Result<()> {
    let name = if half == Half::Receive { TLS_RX } else { TLS_TX };
    let length = libc::socklen_t::try_from(info.size()).unwrap_or(0);
    // SAFETY: the descriptor is open while `socket` is borrowed, and `info` points to `size` octets, the structure that
    // its cipher has in linux/tls.h.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), SOL_TLS, name, info.as_ptr(), length) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// The largest structure of a key (`struct tls12_crypto_info_aes_gcm_256` in linux/tls.h).
const TLS_KEY_BYTES_MAX: usize = 56;

/// Give the kernel the receiving key that it has already, at the record where it stands. `bytes` is the size of the
/// cipher's structure in linux/tls.h.
///
/// # Errors
/// `EINVAL` where the cipher's structure has another size, and those of [`set_tls_key`].
pub(crate) fn repeat_tls_key(socket: impl AsFd, bytes: usize) -> std::io::Result<()> {
    let mut info = [0_u8; TLS_KEY_BYTES_MAX];
    let mut length = libc::socklen_t::try_from(bytes.min(info.len())).unwrap_or(0);
    // SAFETY: the descriptor is open while `socket` is borrowed, and the kernel writes at most `length` octets of
    // `info`, which has no fewer (`do_tls_getsockopt_conf` in net/tls/tls_main.c).
    let got = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            SOL_TLS,
            TLS_RX,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if got != 0 {
        return Err(std::io::Error::last_os_error());
    }
    set(socket, SOL_TLS, TLS_RX, &info, bytes)
}

/// Promise that the peer pads no record (TLS 1.3), so that the kernel decrypts straight into the reader's buffer. A
/// record that is padded all the same costs a second decryption, and is counted (`TlsRxNoPadViolation`).
///
/// # Errors
/// `ENOPROTOOPT` before Linux 6.0, `EINVAL` where the half is not the kernel's.
pub(crate) fn expect_no_pad(socket: impl AsFd) -> std::io::Result<()> {
    set(socket, SOL_TLS, TLS_RX_EXPECT_NO_PAD, &1u32, size_of::<u32>())
}

/// Room for one control message with one octet, aligned as `struct cmsghdr` is.
#[repr(C)]
struct RecordType {
    header: libc::cmsghdr,
    octet: u8,
    rest: [u8; size_of::<usize>() - 1],
}

impl RecordType {
    /// `CMSG_LEN(1)`.
    const LENGTH: usize = size_of::<libc::cmsghdr>() + 1;

    const fn new(kind: libc::c_int, octet: u8) -> Self {
        let header = libc::cmsghdr { cmsg_len: Self::LENGTH, cmsg_level: SOL_TLS, cmsg_type: kind };
        Self { header, octet, rest: [0; size_of::<usize>() - 1] }
    }
}

/// Send a record of another type than data, without waiting; how much of it the kernel took.
///
/// # Errors
/// `EAGAIN` while there is no room.
pub(crate) fn send_record(socket: impl AsFd, record_type: u8, octets: &[u8]) -> std::io::Result<usize> {
    let mut control = RecordType::new(TLS_SET_RECORD_TYPE, record_type);
    let mut part = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
    // SAFETY: all octets of `msghdr` may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<RecordType>();
    // SAFETY: the descriptor is open while `socket` is borrowed; the message points to one iovec over `octets`, which
    // the kernel only reads, and to one control message that fills its buffer (CMSG_SPACE(1)); all live until the call
    // returns.
    let sent = unsafe {
        libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    };
    usize::try_from(sent).map_err(|_| std::io::Error::last_os_error())
}

/// Receive records of one type, without waiting: how many octets of plaintext, and their type where the kernel says it
/// (always, but at the end of the stream).
///
/// # Errors
/// `EAGAIN` while no record is whole; `EBADMSG`, `EMSGSIZE` and `EINVAL` for records that are wrong; `EKEYEXPIRED` after
/// a KeyUpdate until the next key is set.
pub(crate) fn receive_records(socket: impl AsFd, room: &mut [u8]) -> std::io::Result<(usize, Option<u8>)> {
    let mut control = RecordType::new(0, 0);
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: all octets of `msghdr` may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<RecordType>();
    // SAFETY: the descriptor is open while `socket` is borrowed; the message points to one iovec over `room`, which the
    // kernel may write up to its length, and to a buffer for one control message; all live until the call returns.
    let count = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let count = usize::try_from(count).map_err(|_| std::io::Error::last_os_error())?;
    let RecordType { header, octet, .. } = control;
    let is_type = message.msg_controllen >= RecordType::LENGTH
        && (header.cmsg_level, header.cmsg_type) == (SOL_TLS, TLS_GET_RECORD_TYPE);
    Ok((count, is_type.then_some(octet)))
}

/// Give free memory back to the system: pages inside of heaps, too, which `free` keeps. Threads wait for their heap
/// while it is trimmed. Allocators other than glibc's are left to themselves.
pub(crate) fn give_memory_back() {
    // SAFETY: malloc_trim(3) may be called by any thread at any time (MT-Safe) and touches free memory only.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// `TCP_INQ`, and `TCP_CM_INQ` of the control message (linux/tcp.h): with each read, how many octets are left to be read.
const TCP_INQ: libc::c_int = 36;

/// Room for one control message with one `int`, aligned as `struct cmsghdr` is.
#[repr(C)]
struct InQueue {
    header: libc::cmsghdr,
    octets: libc::c_int,
    rest: [u8; size_of::<usize>() - size_of::<libc::c_int>()],
}

impl InQueue {
    /// `CMSG_LEN(sizeof(int))`.
    const LENGTH: usize = size_of::<libc::cmsghdr>() + size_of::<libc::c_int>();
}

/// Have [`receive`] told with each read whether more is there.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 4.18.
pub(crate) fn tell_in_queue(socket: impl AsFd) -> std::io::Result<()> {
    set(socket, libc::IPPROTO_TCP, TCP_INQ, &1u32, size_of::<u32>())
}

/// Receive without waiting: how many octets, and whether more are there, the end of the stream among them. Where the
/// kernel does not say (see [`tell_in_queue`]), more may be there.
///
/// # Errors
/// `EAGAIN` while nothing is there, and what has become of the connection.
pub(crate) fn receive(socket: impl AsFd, room: &mut [u8]) -> std::io::Result<(usize, bool)> {
    let header = libc::cmsghdr { cmsg_len: 0, cmsg_level: 0, cmsg_type: 0 };
    let mut control = InQueue { header, octets: 0, rest: [0; size_of::<usize>() - size_of::<libc::c_int>()] };
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: all octets of `msghdr` may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<InQueue>();
    // SAFETY: the descriptor is open while `socket` is borrowed; the message points to one iovec over `room`, which the
    // kernel may write up to its length, and to a buffer for one control message; all live until the call returns.
    let count = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let count = usize::try_from(count).map_err(|_| std::io::Error::last_os_error())?;
    let is_told = message.msg_controllen >= InQueue::LENGTH
        && (control.header.cmsg_level, control.header.cmsg_type) == (libc::IPPROTO_TCP, TCP_INQ);
    Ok((count, !is_told || control.octets > 0))
}

/// Have the runtime tell when the socket is readable.
///
/// # Errors
/// The kernel's, to `epoll_ctl`.
pub(crate) fn register(socket: Socket) -> std::io::Result<AsyncFd<Socket>> {
    // SAFETY: `Socket` owns its descriptor, gives it out by reference only, and closes it when it is dropped; the
    // returned value owns the socket.
    unsafe { AsyncFd::register(socket) }.map_err(std::io::Error::from)
}

/// Have the runtime tell when a channel is readable or has room.
///
/// # Errors
/// The kernel's, to `epoll_ctl`.
pub(crate) fn register_channel(channel: Channel) -> std::io::Result<AsyncFd<Channel>> {
    // SAFETY: `Channel` owns its descriptor, gives it out by reference only, and closes it when it is dropped; the
    // returned value owns the channel.
    unsafe { AsyncFd::register(channel) }.map_err(std::io::Error::from)
}

/// Have every descriptor but standard input, output and error closed when another program is executed. Postern's own are
/// closed then anyway; others may have come from whoever started it.
///
/// # Errors
/// `ENOSYS` or `EINVAL` before Linux 5.11.
pub(crate) fn close_others_on_exec() -> std::io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC close_range(2) closes nothing; it sets a flag of descriptors.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Have TERM, INT and HUP do nothing in this process.
pub(crate) fn ignore_stop_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: signal(2) with SIG_IGN installs no handler, so nothing of this process runs when the signal comes; it
        // fails for numbers that are no signals only.
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

/// An array of a BPF program's (`BPF_F_MMAPABLE`), in this process's memory too: reading takes no system call and no
/// capability. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct SharedWords {
    words: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the words are only read, and one at a time by atomic loads; nothing in here belongs to a thread.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Map the first `count` elements of eight octets of an array.
    ///
    /// # Errors
    /// The kernel's: `EINVAL` where the array is shorter, `ENOTSUP` where it cannot be mapped.
    pub(crate) fn map(array: impl AsFd, count: usize) -> std::io::Result<Self> {
        // SAFETY: a new mapping, where the kernel chooses, touches none that exists; the descriptor is open while
        // `array` is borrowed, and the mapping outlives it (`bpf_map_mmap` in kernel/bpf/syscall.c).
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<AtomicU64>(),
                libc::PROT_READ,
                libc::MAP_SHARED,
                array.as_fd().as_raw_fd(),
                0,
            )
        };
        match NonNull::new(base) {
            Some(base) if base.as_ptr() != libc::MAP_FAILED => Ok(Self { words: base.cast(), count }),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    /// The word there now.
    pub(crate) fn get(&self, index: usize) -> Option<u64> {
        // SAFETY: the index is within the mapping, which lives as long as `self`, is aligned to a page, and holds
        // elements of eight octets without gaps (`array_map_alloc` in kernel/bpf/arraymap.c). A relaxed load of eight
        // octets is a plain one on the machines that Postern runs on, and may read memory that cannot be written.
        (index < self.count).then(|| unsafe { self.words.add(index).as_ref() }.load(Ordering::Relaxed))
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this length, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.words.as_ptr().cast(), self.count * size_of::<AtomicU64>()) };
    }
}

/// Sealed memory of another process's, in this process's memory too. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct MappedOctets {
    /// None where there are no octets: the kernel maps no fewer than one.
    base: Option<NonNull<u8>>,
    length: usize,
}

impl MappedOctets {
    /// Map so many octets of memory that nobody can change or shorten any more: the caller has seen its seals, and its length.
    /// Private, because kernels before 6.7 take no other mapping of it; a page that nobody writes is not copied.
    ///
    /// # Errors
    /// The kernel's: `ENOMEM` beyond this process's bound.
    pub(crate) fn map(memory: impl AsFd, length: usize) -> std::io::Result<Self> {
        if length == 0 {
            return Ok(Self { base: None, length });
        }
        // SAFETY: a new mapping, where the kernel chooses, touches none that exists; the descriptor is open while `memory`
        // lives, and the mapping outlives it.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                memory.as_fd().as_raw_fd(),
                0,
            )
        };
        match NonNull::new(base) {
            Some(base) if base.as_ptr() != libc::MAP_FAILED => Ok(Self { base: Some(base.cast()), length }),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

impl std::ops::Deref for MappedOctets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Some(base) = self.base else { return &[] };
        // SAFETY: the mapping is ours, has this length and lives as long as `self`; nobody writes to it, because this
        // process cannot (PROT_READ) and no other can: F_SEAL_WRITE forbids it, and F_SEAL_SHRINK keeps every page there
        // (fcntl(2)). Both were seen before it was mapped, and seals cannot be taken off.
        unsafe { std::slice::from_raw_parts(base.as_ptr(), self.length) }
    }
}

impl Drop for MappedOctets {
    fn drop(&mut self) {
        if let Some(base) = self.base {
            // SAFETY: the mapping is ours, of this length, and no reference into it outlives `self`.
            unsafe { libc::munmap(base.as_ptr().cast(), self.length) };
        }
    }
}

/// Octets of a user's line: name, directory, shell and what else it says.
const USER_BYTES_FIRST: usize = 1024;
/// No name service that works says more of a user.
const USER_BYTES_MAX: usize = 1024 * 1024;

/// Number and group of one of the system's users; `None` where there is none, or nobody can be asked.
pub(crate) fn user(name: &str) -> Option<(u32, u32)> {
    let name = std::ffi::CString::new(name).ok()?;
    let mut text = vec![0_u8; USER_BYTES_FIRST];
    loop {
        // SAFETY: zeroes are a `struct passwd` whose pointers are null.
        let mut user: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: getpwnam_r(3) is MT-Safe; it reads a C string, writes `user`, `found` and at most `text.len()` octets of
        // `text`, and all live until it returns. What `user` points to is not looked at.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                &raw mut user,
                text.as_mut_ptr().cast(),
                text.len(),
                &raw mut found,
            )
        };
        if error != libc::ERANGE || text.len() >= USER_BYTES_MAX {
            return (error == 0 && !found.is_null()).then_some((user.pw_uid, user.pw_gid));
        }
        text.resize(text.len().saturating_mul(2), 0);
    }
}

/// Judge the calling thread's system calls, and those of threads that it starts, by this program; all earlier ones go on
/// judging. With `log`, every refusal is logged (`SECCOMP_FILTER_FLAG_LOG`).
///
/// # Errors
/// `EACCES` without `PR_SET_NO_NEW_PRIVS`, `EINVAL` for what is no program or for a kernel without filters.
pub(crate) fn filter_calls(program: &seccompiler::BpfProgram, log: bool) -> std::io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| std::io::Error::from(Errno::INVAL))?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    let flags = if log { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 };
    // SAFETY: for SECCOMP_SET_MODE_FILTER the kernel copies `len` instructions (`seccomp_prepare_filter` in
    // kernel/seccomp.c) and writes nothing; seccompiler's instruction is `struct sock_filter` by its repr(C).
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// What no confined process may do, and no crate offers safely. Not in release builds.
///
/// Nearly all are calls that the kernel would answer otherwise, at least by another error, if no filter forbade them.
/// `parent` is a process that this one must not reach.
#[cfg(debug_assertions)]
pub(crate) fn attempts(parent: u32) -> Vec<(&'static str, std::io::Result<i64>)> {
    let (parent, seize) = (i64::from(parent), 0x4206);
    let (code, private) =
        (i64::from(libc::PROT_READ | libc::PROT_EXEC), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let calls = [
        ("bpf", libc::SYS_bpf, [0; 6]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [seize, parent, 0, 0, 0, 0]),
        ("ptrace(PTRACE_TRACEME)", libc::SYS_ptrace, [0; 6]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [parent, 0, 0, 0, 0, 0]),
        ("process_vm_writev", libc::SYS_process_vm_writev, [parent, 0, 0, 0, 0, 0]),
        ("pidfd_open", libc::SYS_pidfd_open, [parent, 0, 0, 0, 0, 0]),
        ("kill", libc::SYS_kill, [0; 6]),
        ("tgkill", libc::SYS_tgkill, [-1, -1, 0, 0, 0, 0]),
        ("execve", libc::SYS_execve, [0; 6]),
        ("execveat", libc::SYS_execveat, [0; 6]),
        ("fork", libc::SYS_clone, [i64::from(libc::SIGCHLD), 0, 0, 0, 0, 0]),
        ("clone3", libc::SYS_clone3, [0; 6]),
        ("unshare", libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0, 0, 0, 0, 0]),
        ("setns", libc::SYS_setns, [-1, 0, 0, 0, 0, 0]),
        ("mount", libc::SYS_mount, [0; 6]),
        ("init_module", libc::SYS_init_module, [0; 6]),
        ("kexec_load", libc::SYS_kexec_load, [0; 6]),
        ("keyctl", libc::SYS_keyctl, [0; 6]),
        ("userfaultfd", libc::SYS_userfaultfd, [0; 6]),
        ("perf_event_open", libc::SYS_perf_event_open, [0; 6]),
        ("personality", libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]),
        ("seccomp", libc::SYS_seccomp, [i64::from(libc::SECCOMP_GET_ACTION_AVAIL), 0, 0, 0, 0, 0]),
        ("mmap of code", libc::SYS_mmap, [0, 4096, code, i64::from(private), -1, 0]),
        ("mprotect to code", libc::SYS_mprotect, [0, 0, code, 0, 0, 0]),
        ("prctl(PR_SET_DUMPABLE)", libc::SYS_prctl, [i64::from(libc::PR_SET_DUMPABLE), 1, 0, 0, 0, 0]),
        ("prctl(PR_SET_SECUREBITS)", libc::SYS_prctl, [i64::from(libc::PR_SET_SECUREBITS), 0, 0, 0, 0, 0]),
        ("fcntl(F_SETOWN)", libc::SYS_fcntl, [0, i64::from(libc::F_SETOWN), parent, 0, 0, 0]),
        ("setsockopt(SO_ATTACH_FILTER)", libc::SYS_setsockopt, [-1, 1, 26, 0, 0, 0]),
        ("setsockopt(SO_ATTACH_BPF)", libc::SYS_setsockopt, [-1, 1, 50, 0, 0, 0]),
        ("ioctl(TIOCSTI)", libc::SYS_ioctl, [0, 0x5412, 0, 0, 0, 0]),
    ];
    calls.map(|(name, number, arguments)| (name, attempt(number, arguments))).into()
}

#[cfg(debug_assertions)]
fn attempt(number: libc::c_long, [a, b, c, d, e, f]: [i64; 6]) -> std::io::Result<i64> {
    // SAFETY: every argument that the calls above take for a pointer is null, so that the kernel touches no memory of this
    // process, but for a new mapping where it chooses and an mprotect of no page at all. A second process, if one comes
    // about, ends in the next line, before it runs anything of this program.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if number == libc::SYS_clone && result == 0 {
        // SAFETY: _exit(2) ends the calling process at once and touches no memory.
        unsafe { libc::_exit(0) }
    }
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
