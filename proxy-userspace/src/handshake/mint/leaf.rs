//! The contents of a minted leaf: whose names, which time, which key.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, DnsName};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::authority::Authority;
use super::configured::covers;
use super::der::{self, tag};
use super::minter::LeafTerms;
use super::{LeafClass, MintError};

/// Names copied into one leaf. Public authorities stop at 100 to 250; beyond that a hostile server only wants memory.
pub const SANS_MAX: usize = 1_024;
/// Octets of all names of one leaf together, for the same reason; [`SANS_MAX`] names of ordinary length fit.
pub const SAN_BYTES_MAX: usize = 32 * 1_024;
/// Octets of a copied subject; RFC 5280 appendix A.1 bounds each attribute by at most 128 characters or so.
pub const SUBJECT_BYTES_MAX: usize = 4 * 1_024;

/// How long before now a leaf of our own validity starts: clients' clocks are wrong by hours, seldom by a day.
const BACKDATE_SECONDS: i64 = 24 * 60 * 60;
/// How long a leaf of our own validity lives.
const LIFETIME_SECONDS: i64 = 30 * 24 * 60 * 60;

/// Octets of a serial number: 126 random bits, far above the 64 that authorities must have.
const SERIAL_BYTES: usize = 16;

/// `id-kp-serverAuth`, 1.3.6.1.5.5.7.3.1.
const SERVER_AUTH: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// `digitalSignature` as a DER named bit list: bit 0 of one octet, seven unused.
const DIGITAL_SIGNATURE: [u8; 2] = [0x07, 0x80];

// The last number of 2.5.29 (RFC 5280 section 4.2.1).
const KEY_USAGE: u8 = 15;
const SUBJECT_ALT_NAME: u8 = 17;
const BASIC_CONSTRAINTS: u8 = 19;
const AUTHORITY_KEY_IDENTIFIER: u8 = 35;
const EXTENDED_KEY_USAGE: u8 = 37;

/// Seconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Validity {
    /// What the certificate states.
    pub(super) fn of(cert: &X509Certificate<'_>) -> Self {
        let validity = cert.validity();
        Self { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() }
    }

    const fn around(now: i64) -> Self {
        Self {
            not_before: now.saturating_sub(BACKDATE_SECONDS),
            not_after: now.saturating_add(LIFETIME_SECONDS),
        }
    }

    /// The part that both share; `None` where there is none.
    fn clipped(self, other: Self) -> Option<Self> {
        let not_before = self.not_before.max(other.not_before);
        let not_after = self.not_after.min(other.not_after);
        (not_before <= not_after).then_some(Self { not_before, not_after })
    }
}

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
            self.push(der::element(tag::DNS_NAME, &[name.to_ascii_lowercase().as_bytes()]));
        }
    }

    fn ip(&mut self, octets: &[u8]) {
        if matches!(octets.len(), 4 | 16) {
            self.push(der::element(tag::IP_ADDRESS, &[octets]));
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

    fn extension(&self, critical: bool) -> Vec<u8> {
        if self.encoded.is_empty() {
            return Vec::new();
        }
        der::extension(SUBJECT_ALT_NAME, critical, &der::element(tag::SEQUENCE, &[&self.encoded.concat()]))
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

    /// The certificate, signed. Mirrored leaves keep the server's validity whole, so that the client sees it.
    pub(super) fn sign(
        &self,
        authority: &Authority,
        class: LeafClass,
        public_key: &[u8],
    ) -> Result<(CertificateDer<'static>, Validity), MintError> {
        let validity = match class {
            LeafClass::Mirrored => self.validity,
            _ => self.validity.clipped(authority.validity).ok_or(MintError::OutsideAuthority)?,
        };
        let algorithm = der::algorithm(authority.algorithm);
        let tbs = der::sequence(&[
            &der::element(tag::VERSION, &[&der::element(tag::INTEGER, &[&[2]])]),
            &der::element(tag::INTEGER, &[&serial()?]),
            &algorithm,
            &authority.subject,
            &der::sequence(&[&der::time(validity.not_before), &der::time(validity.not_after)]),
            &self.subject,
            public_key,
            &der::element(tag::EXTENSIONS, &[&self.extensions(authority)]),
        ]);
        let signature = der::bit_string(&authority.sign(&tbs)?);
        Ok((der::sequence(&[&tbs, &algorithm, &signature]).into(), validity))
    }

    fn extensions(&self, authority: &Authority) -> Vec<u8> {
        let key_identifier =
            der::sequence(&[&der::element(tag::KEY_IDENTIFIER, &[&authority.key_identifier])]);
        let purposes = der::sequence(&[&der::element(tag::OBJECT_IDENTIFIER, &[&SERVER_AUTH])]);
        // RFC 5280 section 4.2.1.6: critical where the subject says nothing.
        let names = self.names.extension(self.subject == der::sequence(&[]));
        der::sequence(&[
            &der::extension(BASIC_CONSTRAINTS, true, &der::sequence(&[])),
            &der::extension(KEY_USAGE, true, &der::element(tag::BIT_STRING, &[&DIGITAL_SIGNATURE])),
            &der::extension(EXTENDED_KEY_USAGE, false, &purposes),
            &names,
            &der::extension(AUTHORITY_KEY_IDENTIFIER, false, &key_identifier),
        ])
    }
}

/// Copied as it stands, whatever its character sets; a monstrous one is left out.
fn subject(upstream: Option<&X509Certificate<'_>>) -> Vec<u8> {
    upstream
        .map(|cert| cert.subject().as_raw())
        .filter(|raw| raw.len() <= SUBJECT_BYTES_MAX)
        .map_or_else(|| der::sequence(&[]), <[u8]>::to_vec)
}

fn validity(class: LeafClass, upstream: Option<&X509Certificate<'_>>, now: i64) -> Validity {
    match upstream {
        Some(cert) if class.copies_validity() => Validity::of(cert),
        _ => Validity::around(now),
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
