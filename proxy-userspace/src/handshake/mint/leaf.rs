//! The contents of a minted leaf: whose names, which time, which key.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, DnsName};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::authority::Authority;
use super::configured::covers;
use super::der;
use super::minter::LeafTerms;
use super::tbs::{self, SAN_BYTES_MAX, SANS_MAX, SUBJECT_BYTES_MAX, Validity, Varying};
use super::{LeafClass, MintError};

/// How long before now a leaf of our own validity starts: clients' clocks are wrong by hours, seldom by a day.
const BACKDATE_SECONDS: i64 = 24 * 60 * 60;
/// How long a leaf of our own validity lives.
const LIFETIME_SECONDS: i64 = 30 * 24 * 60 * 60;

/// Octets of a serial number: 126 random bits, far above the 64 that authorities must have.
const SERIAL_BYTES: usize = 16;

/// Subject alternative names, bounded and without doubles.
#[derive(Debug, Default)]
struct Names {
    encoded: Vec<Vec<u8>>,
    octets: usize,
    /// A bound was met: this and all later names are left out.
    is_abridged: bool,
}

impl Names {
    fn dns(&mut self, name: &str) {
        // What is not a host name would make strict clients refuse the whole leaf.
        let host = name.strip_prefix("*.").unwrap_or(name);
        if DnsName::try_from(host).is_ok() {
            self.push(tbs::dns_name(&name.to_ascii_lowercase()));
        }
    }

    fn ip(&mut self, octets: &[u8]) {
        if matches!(octets.len(), 4 | 16) {
            self.push(tbs::ip_address(octets));
        }
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.ip(&v4.octets()),
            IpAddr::V6(v6) => self.ip(&v6.octets()),
        }
    }

    fn push(&mut self, name: Vec<u8>) {
        let octets = self.octets.saturating_add(name.len());
        if self.is_abridged || self.encoded.contains(&name) {
            return;
        }
        self.is_abridged = self.encoded.len() >= SANS_MAX || octets > SAN_BYTES_MAX;
        if !self.is_abridged {
            self.octets = octets;
            self.encoded.push(name);
        }
    }

    /// Those of the server's names that are good for `sni`, before others take the room.
    fn copy_for(&mut self, sni: &str, cert: &X509Certificate<'_>) {
        let names = cert.subject_alternative_name().ok().flatten();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) if covers(name, sni) => self.dns(name),
                _ => {}
            }
        }
    }

    /// `otherName`, `URI` and the like are left out: no mail client compares them with a host. A common name is never
    /// made one: name constraints of the server's issuers were not held against it (RFC 5280 section 4.2.1.10).
    fn copy_from(&mut self, cert: &X509Certificate<'_>) {
        if let Ok(Some(names)) = cert.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => self.dns(name),
                    GeneralName::IPAddress(octets) => self.ip(octets),
                    _ => {}
                }
            }
        }
    }
}

/// What a leaf says, before a key and an authority are put to it.
#[derive(Debug)]
pub(super) struct Contents {
    /// A `Name`, DER.
    subject: Vec<u8>,
    names: Names,
    validity: Validity,
}

impl Contents {
    /// What a leaf on these terms says at `now` (seconds since 1970).
    pub(super) fn new(
        terms: &LeafTerms,
        upstream: Option<&CertificateDer<'_>>,
        now: i64,
    ) -> Result<Self, MintError> {
        let upstream = upstream.map(CertificateDer::as_ref).map(X509Certificate::from_der);
        let upstream = match upstream {
            Some(Ok((_, cert))) => Some(cert),
            // Its names and times are all that such a leaf consists of.
            Some(Err(_)) if terms.class.copies_validity() => return Err(MintError::Unreadable),
            Some(Err(_)) | None => None,
        };
        let mut names = Names::default();
        match (&terms.sni, &upstream) {
            (Some(sni), Some(cert)) if terms.class.copies_validity() => names.copy_for(sni, cert),
            (Some(sni), _) => names.dns(sni),
            (None, _) => {}
        }
        upstream.iter().for_each(|cert| names.copy_from(cert));
        if names.encoded.is_empty() {
            terms.destination.into_iter().for_each(|address| names.address(address));
        }
        Ok(Self {
            subject: subject(upstream.as_ref()),
            names,
            validity: validity(terms.class, upstream.as_ref(), now),
        })
    }

    /// Whether names of the server's were left out, because there are too many.
    pub(super) const fn is_abridged(&self) -> bool {
        self.names.is_abridged
    }

    /// What is to be signed, and how long it is good. Mirrored leaves keep the server's validity whole, so that the client
    /// sees it.
    pub(super) fn tbs(
        &self,
        authority: &Authority,
        class: LeafClass,
        public_key: &[u8],
    ) -> Result<(Vec<u8>, Validity), MintError> {
        let validity = match class {
            LeafClass::Mirrored => self.validity,
            _ => self.validity.clipped(authority.issuer.validity).ok_or(MintError::OutsideAuthority)?,
        };
        let (serial, names) = (serial()?, self.names.encoded.concat());
        let varying =
            Varying { serial: &serial, validity, subject: &self.subject, public_key, names: &names };
        Ok((tbs::write(&authority.issuer, authority.algorithm, &varying), validity))
    }
}

/// Copied as it stands, whatever its character sets; a monstrous one is left out, and so is one that is not written in
/// DER: who signs reads it in one way only.
fn subject(upstream: Option<&X509Certificate<'_>>) -> Vec<u8> {
    upstream
        .map(|cert| cert.subject().as_raw())
        .filter(|raw| raw.len() <= SUBJECT_BYTES_MAX && tbs::is_sequence(raw))
        .map_or_else(|| der::sequence(&[]), <[u8]>::to_vec)
}

fn validity(class: LeafClass, upstream: Option<&X509Certificate<'_>>, now: i64) -> Validity {
    match upstream {
        Some(cert) if class.copies_validity() => Validity::of(cert),
        _ => Validity {
            not_before: now.saturating_sub(BACKDATE_SECONDS),
            not_after: now.saturating_add(LIFETIME_SECONDS),
        },
    }
}

/// Positive and of full length whatever the generator gives (RFC 5280 section 4.1.2.2).
fn serial() -> Result<[u8; SERIAL_BYTES], MintError> {
    let mut serial = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| MintError::NoRandomness)?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(serial)
}
