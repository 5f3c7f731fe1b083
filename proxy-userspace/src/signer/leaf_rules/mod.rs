//! What is signed with an authority's key: leaves as they are minted here, and nothing else.
//!
//! Each rule has its own refusal, from what x509-parser reads. Such a parser forgives what another does not, and two that
//! read one certificate differently are how a leaf becomes an authority. So at the end the leaf is written once more from
//! what was read, and every octet must be the same.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::{AlgorithmIdentifier, DnsName};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::TbsCertificate;
use x509_parser::prelude::{
    ExtendedKeyUsage, FromDer, GeneralName, ParsedExtension, X509Extension, X509Version,
};

use crate::handshake::mint::tbs::{
    self, AUTHORITY_KEY_IDENTIFIER, BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE, Issuer, KEY_USAGE, SANS_MAX,
    SUBJECT_ALT_NAME, Validity, Varying,
};

/// Octets of a leaf that is to be signed: all the names and the subject that one may have, a key, and an issuer.
pub(super) const TBS_BYTES_MAX: usize = 48 * 1024;
/// Octets of a serial number (RFC 5280 section 4.1.2.2).
const SERIAL_BYTES_MAX: usize = 20;

/// `digitalSignature` and no other bit.
const DIGITAL_SIGNATURE_FLAGS: u16 = 1;
/// The arc of the extensions, 2.5.29.
const ID_CE: [u8; 2] = [0x55, 0x1d];

/// Why a leaf is not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LeafFault {
    /// Over [`TBS_BYTES_MAX`].
    #[error("the leaf is longer than {TBS_BYTES_MAX} octets")]
    TooLong,
    /// No `TBSCertificate`.
    #[error("what is to be signed is no certificate")]
    NotCertificate,
    /// Something behind it.
    #[error("something follows the leaf")]
    Trailing,
    /// Not version 3.
    #[error("the leaf is not of X.509 version 3")]
    Version,
    /// Not a positive number of at most [`SERIAL_BYTES_MAX`] octets.
    #[error("the leaf's serial number is none")]
    Serial,
    /// Another issuer than the authority.
    #[error("the leaf names another issuer than the authority")]
    Issuer,
    /// Another signature than the authority's.
    #[error("the leaf names another signature than the authority makes")]
    Algorithm,
    /// Longer than the authority's, or ending before it begins.
    #[error("the leaf's validity goes beyond the authority's, or ends before it begins")]
    Validity,
    /// An authority, or nothing that says it is none.
    #[error("the leaf does not say that it is no authority")]
    Authority,
    /// Another use of the key than digital signatures.
    #[error("the leaf's key is for more, or for less, than digital signatures")]
    KeyUsage,
    /// Another purpose than serverAuth.
    #[error("the leaf is for more, or for less, than servers")]
    Purpose,
    /// Another key identifier than the authority's, or something beside it.
    #[error("the leaf identifies another authority's key")]
    AuthorityKey,
    /// A name that is neither a host's nor an address, or too many.
    #[error("the leaf has names that no leaf has here, or too many")]
    Names,
    /// One that leaves do not have here.
    #[error("the leaf has an extension that no leaf has here")]
    UnknownExtension,
    /// Twice the same.
    #[error("the leaf has an extension twice")]
    DuplicateExtension,
    /// Octets that are read in one way here, and perhaps in another elsewhere.
    #[error("the leaf is not written as leaves are here")]
    Form,
}

/// A leaf that may be signed, as far as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    serial: Vec<u8>,
    /// The first of its names; empty where it has none.
    pub(super) name: String,
    /// How many it has.
    pub(super) names: usize,
    not_after: i64,
    tbs_sha256: Vec<u8>,
}

impl Leaf {
    /// As `openssl x509 -serial` prints it.
    pub(super) fn serial(&self) -> impl fmt::Display {
        Hexadecimal(self.serial.clone())
    }

    /// RFC 3339.
    pub(super) fn not_after(&self) -> String {
        let time = OffsetDateTime::from_unix_timestamp(self.not_after).ok();
        time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
    }

    /// Of all that was signed.
    pub(super) fn tbs_sha256(&self) -> impl fmt::Display {
        Hexadecimal(self.tbs_sha256.clone())
    }
}

struct Hexadecimal(Vec<u8>);

impl fmt::Display for Hexadecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// Whether this is a leaf that the authority may sign.
pub(super) fn check(
    octets: &[u8],
    issuer: &Issuer,
    algorithm: AlgorithmIdentifier,
) -> Result<Leaf, LeafFault> {
    if octets.len() > TBS_BYTES_MAX {
        return Err(LeafFault::TooLong);
    }
    let (rest, read) = TbsCertificate::from_der(octets).map_err(|_| LeafFault::NotCertificate)?;
    if !rest.is_empty() {
        return Err(LeafFault::Trailing);
    }
    let serial = read.raw_serial();
    let validity = Validity {
        not_before: read.validity().not_before.timestamp(),
        not_after: read.validity().not_after.timestamp(),
    };
    check_fields(&read, serial, validity, issuer, algorithm)?;
    let names = check_extensions(read.extensions(), issuer)?;
    let (subject, public_key) = (read.subject().as_raw(), read.public_key().raw);
    if !tbs::is_sequence(subject) || !tbs::is_sequence(public_key) {
        return Err(LeafFault::Form);
    }
    let varying = Varying { serial, validity, subject, public_key, names: &names.encoded };
    if tbs::write(issuer, algorithm, &varying) != octets {
        return Err(LeafFault::Form);
    }
    Ok(Leaf {
        serial: serial.to_vec(),
        name: names.first,
        names: names.count,
        not_after: validity.not_after,
        tbs_sha256: digest(&SHA256, octets).as_ref().to_vec(),
    })
}

fn check_fields(
    read: &TbsCertificate<'_>,
    serial: &[u8],
    validity: Validity,
    issuer: &Issuer,
    algorithm: AlgorithmIdentifier,
) -> Result<(), LeafFault> {
    if read.version() != X509Version::V3 {
        return Err(LeafFault::Version);
    }
    if !is_positive(serial) {
        return Err(LeafFault::Serial);
    }
    if read.issuer().as_raw() != issuer.subject {
        return Err(LeafFault::Issuer);
    }
    if !tbs::is_algorithm(&read.signature, algorithm) {
        return Err(LeafFault::Algorithm);
    }
    // Not where both only have a part in common: the whole of it must lie within the authority's.
    if validity.clipped(issuer.validity) != Some(validity) {
        return Err(LeafFault::Validity);
    }
    Ok(())
}

/// The contents of an INTEGER above zero, as short as they can be.
fn is_positive(serial: &[u8]) -> bool {
    let minimal = match serial {
        [0, second, ..] => *second >= 0x80,
        [first, ..] => (1..0x80).contains(first),
        [] => false,
    };
    minimal && serial.len() <= SERIAL_BYTES_MAX
}

/// The names of a leaf, written as names are written here.
#[derive(Default)]
struct LeafNames {
    encoded: Vec<u8>,
    first: String,
    count: usize,
}

/// Exactly those that leaves have here; the names are the only one that may be missing.
fn check_extensions(extensions: &[X509Extension<'_>], issuer: &Issuer) -> Result<LeafNames, LeafFault> {
    let mut names = LeafNames::default();
    let mut seen = Vec::new();
    for extension in extensions {
        let number = match extension.oid.as_bytes().strip_prefix(&ID_CE) {
            Some([number]) => *number,
            _ => return Err(LeafFault::UnknownExtension),
        };
        if seen.contains(&number) {
            return Err(LeafFault::DuplicateExtension);
        }
        seen.push(number);
        let parsed = extension.parsed_extension();
        match number {
            BASIC_CONSTRAINTS => match parsed {
                ParsedExtension::BasicConstraints(said) if !said.ca && said.path_len_constraint.is_none() => {
                }
                _ => return Err(LeafFault::Authority),
            },
            KEY_USAGE => match parsed {
                ParsedExtension::KeyUsage(said) if said.flags == DIGITAL_SIGNATURE_FLAGS => {}
                _ => return Err(LeafFault::KeyUsage),
            },
            EXTENDED_KEY_USAGE => match parsed {
                ParsedExtension::ExtendedKeyUsage(said) if is_for_servers_alone(said) => {}
                _ => return Err(LeafFault::Purpose),
            },
            AUTHORITY_KEY_IDENTIFIER => match parsed {
                ParsedExtension::AuthorityKeyIdentifier(said)
                    if said.key_identifier.as_ref().is_some_and(|id| id.0 == issuer.key_identifier)
                        && said.authority_cert_issuer.is_none()
                        && said.authority_cert_serial.is_none() => {}
                _ => return Err(LeafFault::AuthorityKey),
            },
            SUBJECT_ALT_NAME => match parsed {
                ParsedExtension::SubjectAlternativeName(said) => names = check_names(&said.general_names)?,
                _ => return Err(LeafFault::Names),
            },
            _ => return Err(LeafFault::UnknownExtension),
        }
    }
    for (number, missing) in [
        (BASIC_CONSTRAINTS, LeafFault::Authority),
        (KEY_USAGE, LeafFault::KeyUsage),
        (EXTENDED_KEY_USAGE, LeafFault::Purpose),
        (AUTHORITY_KEY_IDENTIFIER, LeafFault::AuthorityKey),
    ] {
        if !seen.contains(&number) {
            return Err(missing);
        }
    }
    Ok(names)
}

fn is_for_servers_alone(said: &ExtendedKeyUsage<'_>) -> bool {
    let ExtendedKeyUsage {
        any,
        server_auth,
        client_auth,
        code_signing,
        email_protection,
        time_stamping,
        ocsp_signing,
        other,
    } = said;
    let more = *any || *client_auth || *code_signing || *email_protection || *time_stamping || *ocsp_signing;
    *server_auth && !more && other.is_empty()
}

/// Hosts and addresses, [`SANS_MAX`] at most. What is no host's name could write lines of its own into the log.
fn check_names(said: &[GeneralName<'_>]) -> Result<LeafNames, LeafFault> {
    if said.is_empty() || said.len() > SANS_MAX {
        return Err(LeafFault::Names);
    }
    let mut names = LeafNames { count: said.len(), ..LeafNames::default() };
    for name in said {
        let (encoded, text) = match name {
            GeneralName::DNSName(name) => {
                DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)).map_err(|_| LeafFault::Names)?;
                (tbs::dns_name(name), (*name).to_owned())
            }
            GeneralName::IPAddress(octets) => {
                let address = address(octets).ok_or(LeafFault::Names)?;
                (tbs::ip_address(octets), address.to_string())
            }
            _ => return Err(LeafFault::Names),
        };
        names.encoded.extend(encoded);
        if names.first.is_empty() {
            names.first = text;
        }
    }
    Ok(names)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let of_four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    of_four.ok().or_else(|| <[u8; 16]>::try_from(octets).map(IpAddr::from).ok())
}
