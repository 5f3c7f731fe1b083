//! Extension headers and complaints.

/// A header between IPv6's own and the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options (RFC 8200 section 4.3), filled with options that are skipped.
    HopByHop,
    /// Destination options (section 4.6), filled in the same way; the value is the number of further 8-octet units.
    Destination(u8),
    /// A routing header (section 4.4) of type 4 with no segments left, which receivers skip.
    Routing,
}

impl Extension {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::HopByHop => 0,
            Self::Destination(_) => 60,
            Self::Routing => 43,
        }
    }

    pub(super) fn octets(self, next: u8) -> Vec<u8> {
        /// Experimental options that receivers skip (RFC 4727); Linux drops packets with more than 7 octets of PadN.
        fn filled(next: u8, units: u8) -> Vec<u8> {
            let mut octets = vec![0; (usize::from(units) + 1) * 8];
            for (place, value) in octets.iter_mut().zip([next, units]) {
                *place = value;
            }
            let mut rest = octets.len() - 2;
            let mut at = 2;
            // An option holds at most 255 octets besides its type and length.
            while rest > 1 {
                let taken = rest.min(257);
                for (place, value) in octets.iter_mut().skip(at).zip([0x1E, (taken - 2) as u8]) {
                    *place = value;
                }
                at += taken;
                rest -= taken;
            }
            octets
        }
        match self {
            Self::HopByHop => filled(next, 0),
            Self::Destination(units) => filled(next, units),
            Self::Routing => vec![next, 0, 4, 0, 0, 0, 0, 0],
        }
    }
}

/// What an ICMP error complains about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// Fragmentation needed (RFC 1191), packet too big (RFC 4443): the next link takes this many octets.
    TooBig(u16),
    /// Nobody listens on that port.
    PortUnreachable,
    /// There is no way to that host.
    HostUnreachable,
    /// A filter forbids it.
    Prohibited,
    /// The hop limit ran out.
    TimeExceeded,
}

impl Complaint {
    /// Type and code, for ICMP and ICMPv6.
    pub(super) const fn numbers(self, v6: bool) -> [u8; 2] {
        match (self, v6) {
            (Self::TooBig(_), false) => [3, 4],
            (Self::TooBig(_), true) => [2, 0],
            (Self::PortUnreachable, false) => [3, 3],
            (Self::PortUnreachable, true) => [1, 4],
            (Self::HostUnreachable, false) => [3, 1],
            (Self::HostUnreachable, true) => [1, 3],
            (Self::Prohibited, false) => [3, 13],
            (Self::Prohibited, true) => [1, 1],
            (Self::TimeExceeded, false) => [11, 0],
            (Self::TimeExceeded, true) => [3, 0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::TCP;

    #[test]
    fn extension_headers_have_the_length_that_they_claim() {
        for extension in
            [Extension::HopByHop, Extension::Routing, Extension::Destination(0), Extension::Destination(255)]
        {
            let octets = extension.octets(TCP);
            assert_eq!(octets.len(), (usize::from(octets[1]) + 1) * 8);
            assert_eq!(octets[0], TCP);
        }
    }
}
