//! The contract between the kernel side and the daemon.
//!
//! Both sides read the same names, slots and counters. Map values are plain integers, so that neither side needs
//! an unsafe promise about layout.
#![no_std]

/// The port of IMAP that starts in clear text.
pub const IMAP_PORT: u16 = 143;
/// The port of IMAP over implicit TLS.
pub const IMAPS_PORT: u16 = 993;

/// The `sk_lookup` program's name in the object.
pub const STEER_PROGRAM: &str = "steer";

/// Sockmap of listeners: [`listener_slot`] → socket.
pub const LISTENERS_MAP: &str = "LISTENERS";
/// Hash map of steered interfaces: ifindex → 1.
pub const INGRESS_MAP: &str = "INGRESS";
/// Per-CPU array of counters: [`Exit`] → packets.
pub const COUNTERS_MAP: &str = "COUNTERS";

/// Most workers (and so listeners per family) that the maps have room for.
pub const WORKERS_MAX: u32 = 64;
/// Most ingress interfaces that the maps have room for.
pub const INGRESS_MAX: u32 = 64;

/// How many address families share [`LISTENERS_MAP`].
pub const FAMILIES: u32 = 2;

/// Address families, as slots of [`LISTENERS_MAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

/// Where the listener of a worker and family stands in [`LISTENERS_MAP`].
#[must_use]
pub const fn listener_slot(family: Family, worker: u32) -> u32 {
    family as u32 * WORKERS_MAX + worker
}

/// Every way out of the steering program, each with a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Exit {
    /// An IPv4 connection was given to a listener.
    Steered4 = 0,
    /// An IPv6 connection was given to a listener.
    Steered6 = 1,
    /// Not TCP: left alone.
    OtherProtocol = 2,
    /// Neither port 143 nor 993: left alone.
    OtherPort = 3,
    /// Came in on an interface that is not an ingress: left alone.
    OtherInterface = 4,
    /// Neither IPv4 nor IPv6: left alone.
    OtherFamily = 5,
    /// No listener is alive: dropped, because passing would be a hole.
    NoListener = 6,
    /// The kernel refused every listener: dropped, for the same reason.
    AssignFailed = 7,
}

impl Exit {
    /// Every exit, in slot order.
    pub const ALL: [Self; 8] = [
        Self::Steered4,
        Self::Steered6,
        Self::OtherProtocol,
        Self::OtherPort,
        Self::OtherInterface,
        Self::OtherFamily,
        Self::NoListener,
        Self::AssignFailed,
    ];

    /// Whether the packet ends here instead of going on to the sockets that the kernel would choose.
    #[must_use]
    pub const fn drops(self) -> bool {
        matches!(self, Self::NoListener | Self::AssignFailed)
    }

    /// The counter's name in `postern status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steered4 => "steered_ipv4",
            Self::Steered6 => "steered_ipv6",
            Self::OtherProtocol => "left_other_protocol",
            Self::OtherPort => "left_other_port",
            Self::OtherInterface => "left_other_interface",
            Self::OtherFamily => "left_other_family",
            Self::NoListener => "dropped_no_listener",
            Self::AssignFailed => "dropped_assign_failed",
        }
    }
}
