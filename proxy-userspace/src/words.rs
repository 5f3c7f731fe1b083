//! Words that mean one thing everywhere: in code, logs, records and documents.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The port of IMAP that starts in clear text (RFC 9051 section 11.1).
pub const IMAP_PORT: u16 = 143;
/// The port of IMAP over implicit TLS (RFC 8314 section 3.2).
pub const IMAPS_PORT: u16 = 993;

/// How TLS begins at a port, as the configuration says (`steering.starttls_ports`, `steering.implicit_tls_ports`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Clear text, then STARTTLS, as on port 143.
    StartTls,
    /// TLS from the first octet, as on port 993.
    ImplicitTls,
}

impl Service {
    /// The mode of a connection of which nothing else is known yet.
    #[must_use]
    pub const fn mode(self) -> Mode {
        match self {
            Self::StartTls => Mode::StartTls,
            Self::ImplicitTls => Mode::Implicit,
        }
    }
}

/// Which of the two connections: the client's or the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Between the mail client and Postern.
    Downstream,
    /// Between Postern and the mail server.
    Upstream,
}

impl Side {
    /// The word in records and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
        }
    }

    /// The other connection.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Downstream => Self::Upstream,
            Self::Upstream => Self::Downstream,
        }
    }

    /// The peer at the far end, in an operator's words.
    #[must_use]
    pub const fn peer(self) -> &'static str {
        match self {
            Self::Downstream => "client",
            Self::Upstream => "server",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Octets of memory, in binary units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Size(pub u64);

impl Size {
    /// The units of the configuration, smallest first.
    pub const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = Self::UNITS.into_iter().rev().find(|(_, octets)| self.0 >= *octets);
        let Some((unit, octets)) = fits else { return write!(f, "{} octets", self.0) };
        let (whole, tenths) = (self.0 / octets, self.0 % octets * 10 / octets);
        if tenths == 0 { write!(f, "{whole} {unit}") } else { write!(f, "{whole}.{tenths} {unit}") }
    }
}

/// Which way octets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Commands and uploads.
    ClientToServer,
    /// Responses and downloads.
    ServerToClient,
}

impl Direction {
    /// The word in records and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientToServer => "client_to_server",
            Self::ServerToClient => "server_to_client",
        }
    }

    /// The side that octets of this direction come from.
    #[must_use]
    pub const fn from(self) -> Side {
        match self {
            Self::ClientToServer => Side::Downstream,
            Self::ServerToClient => Side::Upstream,
        }
    }

    /// The side that octets of this direction go to.
    #[must_use]
    pub const fn to(self) -> Side {
        match self {
            Self::ClientToServer => Side::Upstream,
            Self::ServerToClient => Side::Downstream,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The address of a mail client, as its packets say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(pub SocketAddr);

/// The address that the client meant to reach: the accepted socket's local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginalDst(pub SocketAddr);

impl ClientAddr {
    /// Without the port.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }
}

impl OriginalDst {
    /// Without the port.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for OriginalDst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How TLS begins on a connection, or that Postern leaves the connection alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// TLS from the first octet.
    Implicit,
    /// Clear text, then STARTTLS.
    StartTls,
    /// Clear text to the end.
    ClearText,
    /// A blind splice, decided by policy.
    Bypass,
}

impl Mode {
    /// The word in records and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Implicit => "implicit",
            Self::StartTls => "starttls",
            Self::ClearText => "cleartext",
            Self::Bypass => "bypass",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
