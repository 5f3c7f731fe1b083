use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Not for the public, or of no single host (IANA's IPv4 Special-Purpose Address Registry; RFC 5771, RFC 1112): address
/// and length of the prefix.
const SPECIAL_V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Multicast, then what is reserved, with broadcast.
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 5),
    ([248, 0, 0, 0], 5),
];
/// Of 2000::/3, beside which nothing is public (IANA's IPv6 Special-Purpose Address Registry): protocols' own with Teredo,
/// benchmarks and ORCHID, and documentation.
const SPECIAL_V6: [([u16; 2], u32); 3] = [([0x2001, 0], 23), ([0x2001, 0xdb8], 32), ([0x3fff, 0], 20)];

/// Why an address may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reachable {
    /// It is public.
    Public,
    /// The configuration lists it.
    Listed,
}

/// Whether an address may be reached; of one that has IPv4 in it, both forms are looked at.
pub(super) fn judge(address: IpAddr, listed: &[IpNet]) -> Option<Reachable> {
    let address = address.to_canonical();
    let inner = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => translated(address),
    };
    let is_listed = |address: IpAddr| listed.iter().any(|network| network.contains(&address));
    if is_listed(address) {
        return Some(Reachable::Listed);
    }
    let is_public = match (address, inner) {
        (IpAddr::V4(address), _) | (IpAddr::V6(_), Some(address)) => is_public_v4(address),
        (IpAddr::V6(address), None) => is_public_v6(address),
    };
    is_public.then_some(Reachable::Public)
}

/// The IPv4 address that a gateway of NAT64 (RFC 6052) or of 6to4 (RFC 3056) makes of it.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => last_four(octets.get(12..)?),
        [0x2002, ..] => last_four(octets.get(2..6)?),
        _ => None,
    }
}

fn last_four(octets: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(octets).ok().map(Ipv4Addr::from)
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    !SPECIAL_V4.iter().any(|(network, length)| {
        (bits ^ Ipv4Addr::from(*network).to_bits()).checked_shr(32 - length) == Some(0)
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    let is_special = SPECIAL_V6.iter().any(|([first, second], length)| {
        let network = Ipv6Addr::new(*first, *second, 0, 0, 0, 0, 0, 0).to_bits();
        (bits ^ network).checked_shr(128 - length) == Some(0)
    });
    bits.checked_shr(125) == Some(0b001) && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: [&str; 14] = [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1",
        "2a00:1450:4001:800::200e",
        // Of an address that is public.
        "64:ff9b::101:101",
    ];
    const REFUSED: [&str; 46] = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "247.0.0.1",
        "248.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::101:101",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:c0a8:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "ff02::1",
    ];

    #[test]
    fn public_addresses_are_reached_and_all_others_are_not() {
        for (addresses, expected) in [(&PUBLIC[..], Some(Reachable::Public)), (&REFUSED[..], None)] {
            for address in addresses {
                assert_eq!(judge(address.parse().unwrap(), &[]), expected, "{address}");
            }
        }
        assert_eq!(judge("::ffff:1.1.1.1".parse().unwrap(), &[]), Some(Reachable::Public));
    }

    #[test]
    fn what_the_configuration_lists_is_reached() {
        let listed = ["10.1.2.3/32", "fd00:1::/32"].map(|network| network.parse().unwrap());
        for (address, expected) in [
            ("10.1.2.3", Some(Reachable::Listed)),
            ("::ffff:10.1.2.3", Some(Reachable::Listed)),
            ("10.1.2.4", None),
            ("fd00:1::9", Some(Reachable::Listed)),
            ("fd00:2::9", None),
            // Another host, to which somebody else translates.
            ("64:ff9b::a01:203", None),
        ] {
            assert_eq!(judge(address.parse().unwrap(), &listed), expected, "{address}");
        }
    }
}
