//! What no crate does safely: every `unsafe` of this crate is here.
#![expect(unsafe_code, reason = "TUNSETIFF and tokio's registration have no safe binding")]

use std::os::fd::AsFd;

use netlink_sys::Socket;
use tokio::io::unix::AsyncFd;

use rustix::io::Result;
use rustix::ioctl::{Updater, ioctl, opcode};

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

/// Have the runtime tell when the socket is readable.
///
/// # Errors
/// The kernel's, to `epoll_ctl`.
pub(crate) fn register(socket: Socket) -> std::io::Result<AsyncFd<Socket>> {
    // SAFETY: `Socket` owns its descriptor, gives it out by reference only, and closes it when it is dropped; the
    // returned value owns the socket.
    unsafe { AsyncFd::register(socket) }.map_err(std::io::Error::from)
}
