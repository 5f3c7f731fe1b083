//! `certificates.pin`: servers that show one certificate and no other.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};

use super::mint::covers;
use crate::config::{Fingerprint, ServerPin};

/// What a pin says of a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pinned {
    /// None is for this server: roots decide.
    No,
    /// It is the one of a pin, so that it is trusted without a root.
    Fits,
    /// It is another one, so that no root makes it trusted.
    Differs,
}

/// All pins of a policy generation.
#[derive(Clone, Debug, Default)]
pub(super) struct Pins(Vec<ServerPin>);

impl Pins {
    /// Those of the configuration.
    pub(super) fn new(pins: &[ServerPin]) -> Self {
        Self(pins.to_vec())
    }

    /// What those that are for this address or this name, as the client gave it, say of the certificate (DER) that the
    /// server shows. Of several any may fit, so that a server can change its certificate.
    pub(super) fn judge(&self, leaf: Option<&[u8]>, server: IpAddr, sni: Option<&str>) -> Pinned {
        let is_for = |pin: &&ServerPin| {
            let named = sni.is_some_and(|sni| pin.names.iter().any(|name| covers(name, sni)));
            named || pin.servers.iter().any(|net| net.contains(&server))
        };
        let mut pins = self.0.iter().filter(is_for).peekable();
        if pins.peek().is_none() {
            return Pinned::No;
        }
        let shown = leaf.map(|leaf| digest(&SHA256, leaf));
        let fits = |pin: &Fingerprint| shown.is_some_and(|shown| shown.as_ref() == pin.0);
        if pins.any(|pin| pin.sha256.iter().any(fits)) { Pinned::Fits } else { Pinned::Differs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(servers: &[&str], names: &[&str], certificates: &[&[u8]]) -> ServerPin {
        let of = |certificate: &&[u8]| Fingerprint(digest(&SHA256, certificate).as_ref().try_into().unwrap());
        ServerPin {
            servers: servers.iter().map(|net| net.parse().unwrap()).collect(),
            names: names.iter().map(ToString::to_string).collect(),
            sha256: certificates.iter().map(of).collect(),
        }
    }

    #[test]
    fn a_pin_is_for_its_addresses_and_its_names_and_for_no_other_server() {
        let pins = Pins::new(&[
            pin(&["192.0.2.0/24"], &["*.lab.example"], &[b"one", b"next"]),
            pin(&["192.0.2.7/32"], &[], &[b"seven"]),
        ]);
        let [inside, seven, outside] = ["192.0.2.1", "192.0.2.7", "198.51.100.1"].map(|a| a.parse().unwrap());
        for (leaf, server, sni, expected) in [
            (&b"one"[..], inside, None, Pinned::Fits),
            (b"next", inside, Some("else.example"), Pinned::Fits),
            (b"other", inside, None, Pinned::Differs),
            (b"one", outside, Some("IMAP.lab.example"), Pinned::Fits),
            (b"other", outside, Some("imap.lab.example"), Pinned::Differs),
            (b"other", outside, Some("a.b.lab.example"), Pinned::No),
            (b"one", outside, None, Pinned::No),
            (b"seven", seven, None, Pinned::Fits),
            (b"one", seven, None, Pinned::Fits),
            (b"seven", inside, None, Pinned::Differs),
        ] {
            assert_eq!(pins.judge(Some(leaf), server, sni), expected, "{server} {sni:?}");
        }
        assert_eq!(pins.judge(None, inside, None), Pinned::Differs, "a server without a certificate");
        assert_eq!(Pins::default().judge(Some(b"one"), inside, None), Pinned::No);
    }
}
