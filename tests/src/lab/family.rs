//! Addresses and names, by family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{NAME4, NAME6};

/// The two address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    const fn choose(self, v4: [u8; 4], v6: [u16; 8]) -> IpAddr {
        let [a, b, c, d] = v4;
        let [s, t, u, v, w, x, y, z] = v6;
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(s, t, u, v, w, x, y, z)),
        }
    }

    /// The client's address.
    #[must_use]
    pub const fn client(self) -> IpAddr {
        self.choose([10, 77, 1, 2], [0xfd77, 1, 0, 0, 0, 0, 0, 2])
    }

    /// The clients' next hop: the gateway, unless [`Shape::near_mtu`](super::Shape::near_mtu) puts a router before it.
    #[must_use]
    pub const fn gateway_lan(self) -> IpAddr {
        self.choose([10, 77, 1, 1], [0xfd77, 1, 0, 0, 0, 0, 0, 1])
    }

    /// The servers' next hop: the gateway, unless [`Shape::far_mtu`](super::Shape::far_mtu) puts a router before it.
    #[must_use]
    pub const fn gateway_wan(self) -> IpAddr {
        self.choose([10, 77, 2, 1], [0xfd77, 2, 0, 0, 0, 0, 0, 1])
    }

    /// The server's address.
    #[must_use]
    pub const fn server(self) -> IpAddr {
        self.choose([10, 77, 2, 2], [0xfd77, 2, 0, 0, 0, 0, 0, 2])
    }

    /// Another address of the server's host, for policies that tell destinations apart.
    #[must_use]
    pub const fn other_server(self) -> IpAddr {
        self.choose([10, 77, 2, 3], [0xfd77, 2, 0, 0, 0, 0, 0, 3])
    }

    /// An address behind the server that answers nothing at all.
    #[must_use]
    pub const fn silent(self) -> IpAddr {
        self.choose([10, 77, 9, 9], [0xfd77, 9, 0, 0, 0, 0, 0, 9])
    }

    /// The gateway's address on [`ELSEWHERE`](super::ELSEWHERE).
    #[must_use]
    pub const fn gateway_elsewhere(self) -> IpAddr {
        self.choose([10, 77, 3, 1], [0xfd77, 3, 0, 0, 0, 0, 0, 1])
    }

    /// The server's address that is routed out of [`ELSEWHERE`](super::ELSEWHERE).
    #[must_use]
    pub const fn elsewhere(self) -> IpAddr {
        self.choose([10, 77, 3, 2], [0xfd77, 3, 0, 0, 0, 0, 0, 2])
    }

    /// The guest's address, in labs that have one.
    #[must_use]
    pub const fn guest(self) -> IpAddr {
        self.choose([10, 77, 4, 2], [0xfd77, 4, 0, 0, 0, 0, 0, 2])
    }

    /// The gateway's address towards the guest.
    #[must_use]
    pub const fn gateway_guest(self) -> IpAddr {
        self.choose([10, 77, 4, 1], [0xfd77, 4, 0, 0, 0, 0, 0, 1])
    }

    /// The client's address on its second wire to the gateway, in labs that have one.
    #[must_use]
    pub const fn client_second(self) -> IpAddr {
        self.choose([10, 77, 7, 2], [0xfd77, 7, 0, 0, 0, 0, 0, 2])
    }

    /// The gateway's address on the client's second wire.
    #[must_use]
    pub const fn gateway_second(self) -> IpAddr {
        self.choose([10, 77, 7, 1], [0xfd77, 7, 0, 0, 0, 0, 0, 1])
    }

    /// Between gateway and the router before the clients: the gateway's end, the router's end.
    pub(super) const fn near(self) -> [IpAddr; 2] {
        [
            self.choose([10, 77, 5, 1], [0xfd77, 5, 0, 0, 0, 0, 0, 1]),
            self.choose([10, 77, 5, 2], [0xfd77, 5, 0, 0, 0, 0, 0, 2]),
        ]
    }

    /// Between gateway and the router before the servers: the gateway's end, the router's end.
    pub(super) const fn far(self) -> [IpAddr; 2] {
        [
            self.choose([10, 77, 6, 1], [0xfd77, 6, 0, 0, 0, 0, 0, 1]),
            self.choose([10, 77, 6, 2], [0xfd77, 6, 0, 0, 0, 0, 0, 2]),
        ]
    }

    /// The network of the clients and that of the servers.
    pub(super) const fn networks(self) -> [&'static str; 2] {
        match self {
            Self::V4 => ["10.77.1.0/24", "10.77.2.0/24"],
            Self::V6 => ["fd77:1::/64", "fd77:2::/64"],
        }
    }

    /// The name that the client's namespace has for [`Self::server`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => NAME4,
            Self::V6 => NAME6,
        }
    }

    /// The counter that steering a connection of this family raises.
    #[must_use]
    pub const fn counter(self) -> &'static str {
        match self {
            Self::V4 => "steered_ipv4",
            Self::V6 => "steered_ipv6",
        }
    }

    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }
}
