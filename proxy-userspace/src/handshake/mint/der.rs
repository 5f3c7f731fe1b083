//! Just enough DER (X.690) to write a certificate around octets that must not change: the authority's subject and
//! the server's names are copied as they are, because clients compare issuer and subject octet by octet.

use rustls::pki_types::AlgorithmIdentifier;
use time::OffsetDateTime;

/// The tags that a certificate needs (X.690 section 8, X.680 section 8.4).
pub(in super::super) mod tag {
    pub(in crate::handshake) const BOOLEAN: u8 = 0x01;
    pub(in crate::handshake) const INTEGER: u8 = 0x02;
    pub(in crate::handshake) const BIT_STRING: u8 = 0x03;
    pub(in crate::handshake) const OCTET_STRING: u8 = 0x04;
    pub(in crate::handshake) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(in crate::handshake) const UTC_TIME: u8 = 0x17;
    pub(in crate::handshake) const GENERALIZED_TIME: u8 = 0x18;
    pub(in crate::handshake) const SEQUENCE: u8 = 0x30;
    /// `[0] EXPLICIT`, constructed: the version.
    pub(in crate::handshake) const VERSION: u8 = 0xa0;
    /// `[3] EXPLICIT`, constructed: the extensions.
    pub(in crate::handshake) const EXTENSIONS: u8 = 0xa3;
    /// `[0] IMPLICIT`, primitive: the key identifier of an `AuthorityKeyIdentifier`.
    pub(in crate::handshake) const KEY_IDENTIFIER: u8 = 0x80;
    /// `[2] IMPLICIT`, primitive: a `dNSName`.
    pub(in crate::handshake) const DNS_NAME: u8 = 0x82;
    /// `[7] IMPLICIT`, primitive: an `iPAddress`.
    pub(in crate::handshake) const IP_ADDRESS: u8 = 0x87;
}

/// `9999-12-31T23:59:59Z`: RFC 5280 section 4.1.2.5, "no well-defined expiration", and the last that DER can say.
const LAST_SECOND: i64 = 253_402_300_799;
/// `1900-01-01T00:00:00Z`: nothing older is worth telling apart.
const FIRST_SECOND: i64 = -2_208_988_800;

/// One element: tag, definite length, contents.
pub(in super::super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length.saturating_add(6));
    out.push(tag);
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap_or(0));
    } else {
        let octets = length.to_be_bytes();
        let significant = octets.iter().skip_while(|octet| **octet == 0);
        out.push(0x80 | u8::try_from(significant.clone().count()).unwrap_or(0));
        out.extend(significant);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A SEQUENCE of elements that are encoded already.
pub(in super::super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(tag::SEQUENCE, parts)
}

/// A BIT STRING of whole octets.
pub(super) fn bit_string(octets: &[u8]) -> Vec<u8> {
    element(tag::BIT_STRING, &[&[0], octets])
}

/// An `AlgorithmIdentifier` with its outer SEQUENCE, which the constant leaves out.
pub(super) fn algorithm(id: AlgorithmIdentifier) -> Vec<u8> {
    sequence(&[id.as_ref()])
}

/// An extension of the `id-ce` arc (2.5.29), by its last number (RFC 5280 section 4.2.1).
pub(super) fn extension(number: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let oid = element(tag::OBJECT_IDENTIFIER, &[&[0x55, 0x1d, number]]);
    // DER leaves out a BOOLEAN that equals its default.
    let critical = if critical { element(tag::BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    sequence(&[&oid, &critical, &element(tag::OCTET_STRING, &[value])])
}

/// A `Time`: UTCTime from 1950 through 2049, GeneralizedTime otherwise (RFC 5280 section 4.1.2.5).
pub(super) fn time(seconds: i64) -> Vec<u8> {
    let clamped = seconds.clamp(FIRST_SECOND, LAST_SECOND);
    let t = OffsetDateTime::from_unix_timestamp(clamped).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (month, day) = (u8::from(t.month()), t.day());
    let rest = format!("{month:02}{day:02}{:02}{:02}{:02}Z", t.hour(), t.minute(), t.second());
    if (1950..2050).contains(&t.year()) {
        element(tag::UTC_TIME, &[format!("{:02}", t.year() % 100).as_bytes(), rest.as_bytes()])
    } else {
        element(tag::GENERALIZED_TIME, &[format!("{:04}", t.year()).as_bytes(), rest.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_minimal() {
        assert_eq!(element(tag::OCTET_STRING, &[&[7; 127]])[..2], [4, 127]);
        assert_eq!(element(tag::OCTET_STRING, &[&[7; 128]])[..3], [4, 0x81, 128]);
        assert_eq!(element(tag::OCTET_STRING, &[&[7; 255], &[7]])[..4], [4, 0x82, 1, 0]);
        assert_eq!(element(tag::OCTET_STRING, &[&vec![7; 65536]])[..5], [4, 0x83, 1, 0, 0]);
    }

    #[test]
    fn times_change_their_form_in_2050_and_before_1950() {
        assert_eq!(time(0), b"\x17\x0d700101000000Z");
        assert_eq!(time(2_524_607_999), b"\x17\x0d491231235959Z");
        assert_eq!(time(2_524_608_000), b"\x18\x0f20500101000000Z");
        assert_eq!(time(-631_152_001), b"\x18\x0f19491231235959Z");
        assert_eq!(time(i64::MAX), b"\x18\x0f99991231235959Z");
        assert_eq!(time(i64::MIN), b"\x18\x0f19000101000000Z");
    }
}
