//! The TUN device of the local route. The kernel removes the device, and the route with it, when the daemon's
//! descriptor closes, however the daemon ends. So `on_exit` holds.
//!
//! The device also proves that no other daemon runs in this network namespace: a name exists once, making the device
//! takes `CAP_NET_ADMIN`, and the device ends with its process. Whoever may delete the device can break this proof:
//! before the first daemon has reacted to the kernel's event, another daemon could make the device. The first one then
//! logs each new fault, and puts nothing on the other's device.
//!
//! No packet goes through the device: a route of type `local` delivers, whatever device it names.

use std::fs::{File, OpenOptions};
use std::io;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use rustix::io::Errno;

use super::netlink::Netlink;
use super::routing::{index_of, kernel_has_ipv6};
use super::sysctl;
use crate::sys;

/// The device's name, the same in every namespace.
pub const DEVICE: &str = "postern0";

const CONTROL: &str = "/dev/net/tun";
/// `IFF_TUN`, `IFF_NO_PI` and `IFF_TUN_EXCL`: IP packets without a header, and no sharing of a device that exists.
const FLAGS: u16 = 0x0001 | 0x1000 | 0x8000;
/// `IN6_ADDR_GEN_MODE_NONE`: no link-local address, so nothing is ever sent into the device.
const NO_ADDRESS: &str = "1";

/// How long a start waits for what a process that was killed still holds: the kernel takes it back within
/// milliseconds, or within a second on a machine that is busy.
pub(crate) const PREDECESSOR_TIME_MAX: Duration = Duration::from_secs(2);
/// The pause between two attempts.
const PREDECESSOR_POLL: Duration = Duration::from_millis(20);

/// Try until the attempt succeeds, until it fails for a lasting reason, or until the deadline.
///
/// # Errors
/// The last attempt's.
pub(crate) fn patiently<T, E>(
    deadline: Instant,
    attempt: impl Fn() -> Result<T, E>,
    passes: impl Fn(&E) -> bool,
) -> Result<T, E> {
    loop {
        match attempt() {
            Err(error) if passes(&error) && Instant::now() < deadline => {
                std::thread::sleep(PREDECESSOR_POLL);
            }
            ended => return ended,
        }
    }
}

/// Why the device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No `/dev/net/tun`.
    #[error(
        "cannot open {CONTROL}: {0}; load the module (`modprobe tun`), and allow the device in the unit or container \
         (DeviceAllow=/dev/net/tun rw)"
    )]
    Open(io::Error),
    /// The name is taken.
    #[error(
        "an interface {DEVICE} exists already: either another postern steers this network namespace, stop it first \
         (`postern status` names its process), or somebody else made it, remove it (`ip link delete {DEVICE}`)"
    )]
    Taken,
    /// Anything else that the kernel answers.
    #[error("{call} for {DEVICE}: {source}; run Postern as root or with CAP_NET_ADMIN")]
    Refused {
        /// What was tried.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// IPv6 on the device.
    #[error(transparent)]
    Sysctl(#[from] sysctl::SysctlError),
}

impl DeviceError {
    fn refused(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Refused { call, source }
    }
}

/// The device. Dropping it removes it.
#[derive(Debug)]
pub struct Device {
    _held: File,
    index: u32,
}

impl Device {
    /// Make the device and set it up, in the calling thread's network namespace.
    ///
    /// # Errors
    /// No `/dev/net/tun`, a foreign device of that name, or the kernel's refusal.
    pub fn open() -> Result<Self, DeviceError> {
        let held = OpenOptions::new().read(true).write(true).open(CONTROL).map_err(DeviceError::Open)?;
        sys::make_tun(&held, DEVICE, FLAGS).map_err(|errno| match errno {
            Errno::BUSY | Errno::INVAL => DeviceError::Taken,
            errno => DeviceError::Refused { call: "TUNSETIFF", source: errno.into() },
        })?;
        let index = index_of(DEVICE)
            .map_err(|errno| DeviceError::Refused { call: "SIOCGIFINDEX", source: errno.into() })?;
        let device = Self { _held: held, index };
        device.raise()?;
        Ok(device)
    }

    /// As [`Self::open`], but wait until the deadline for a device of that name to go. The device of a killed process
    /// lives for some moments longer.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_by(deadline: Instant) -> Result<Self, DeviceError> {
        patiently(deadline, Self::open, |error| matches!(error, DeviceError::Taken))
    }

    /// Its number among the namespace's interfaces.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Whether the namespace still has it.
    #[must_use]
    pub fn is_there(&self) -> bool {
        index_of(DEVICE) == Ok(self.index)
    }

    /// Set the device up, with IPv6 where the kernel has it. Does nothing where it is up already.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn raise(&self) -> Result<(), DeviceError> {
        if kernel_has_ipv6() {
            for (name, value) in [("addr_gen_mode", NO_ADDRESS), ("disable_ipv6", "0")] {
                sysctl::set(&format!("net/ipv6/conf/{DEVICE}/{name}"), value)?;
            }
        }
        let mut link = LinkMessage::default();
        link.header.index = self.index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        let mut netlink = Netlink::open().map_err(DeviceError::refused("socket(NETLINK_ROUTE)"))?;
        netlink.change(RouteNetlinkMessage::SetLink(link), 0).map_err(DeviceError::refused("RTM_SETLINK"))
    }
}
