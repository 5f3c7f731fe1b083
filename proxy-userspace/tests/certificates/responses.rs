//! OCSP responses as an authority makes them, and as it should not.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::pki::{Ca, now};

const SHA1_OID: &[u8] = &[0x2b, 14, 3, 2, 26];
const SHA256_OID: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const BASIC_OID: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
const NONCE_OID: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 2];
const ECDSA_SHA256_OID: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [head, content.to_vec()].concat()
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

fn moment(seconds: i64) -> Vec<u8> {
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let (date, clock) = (at.date(), at.time());
    let text = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    );
    der(0x18, text.as_bytes())
}

/// What a response says of one certificate.
#[derive(Clone)]
pub(crate) struct Said {
    /// `certStatus`, whole.
    pub(crate) status: Vec<u8>,
    /// Seconds from now.
    pub(crate) this_update: i64,
    /// Seconds from now.
    pub(crate) next_update: Option<i64>,
    pub(crate) sha256: bool,
    pub(crate) critical: bool,
}

impl Said {
    pub(crate) fn good() -> Self {
        Self {
            status: vec![0x80, 0],
            this_update: -3_600,
            next_update: Some(86_400),
            sha256: false,
            critical: false,
        }
    }

    pub(crate) fn revoked() -> Self {
        let reason = der(0xa0, &der(10, &[1]));
        let status = der(0xa1, &[moment(now() - 7_200), reason].concat());
        Self { status, ..Self::good() }
    }

    pub(crate) fn unknown() -> Self {
        Self { status: vec![0x82, 0], ..Self::good() }
    }

    /// `SingleResponse` about a certificate of this issuer.
    pub(crate) fn about(&self, cert: &CertificateDer<'_>, issuer: &Ca) -> Vec<u8> {
        let (_, parsed) = X509Certificate::from_der(cert).unwrap();
        let (algorithm, oid) =
            if self.sha256 { (&SHA256, SHA256_OID) } else { (&SHA1_FOR_LEGACY_USE_ONLY, SHA1_OID) };
        let hashed = |octets: &[u8]| der(4, digest(algorithm, octets).as_ref());
        let id = sequence(&[
            sequence(&[der(6, oid), vec![5, 0]]),
            hashed(parsed.issuer().as_raw()),
            hashed(issuer.issuer.key().der_bytes()),
            der(2, parsed.raw_serial()),
        ]);
        let next = self.next_update.map(|next| der(0xa0, &moment(now() + next))).unwrap_or_default();
        let critical = if self.critical { vec![1, 1, 0xff] } else { Vec::new() };
        let nonce = sequence(&[der(6, NONCE_OID), critical, der(4, &[4, 1, 7])]);
        let extensions = der(0xa1, &sequence(&[nonce]));
        sequence(&[id, self.status.clone(), moment(now() + self.this_update), next, extensions])
    }
}

/// Who signs a response.
pub(crate) struct Signer<'a> {
    pub(crate) key: &'a KeyPair,
    /// The subject, by which it names itself; by its key where there is none.
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

impl<'a> Signer<'a> {
    /// The authority, under its name.
    pub(crate) fn issuer(ca: &'a Ca) -> Self {
        Self { key: ca.issuer.key(), name: Some(subject(&ca.der)), certificates: Vec::new() }
    }

    /// Somebody with this certificate, which comes along.
    pub(crate) fn responder(key: &'a KeyPair, certificate: CertificateDer<'static>) -> Self {
        Self { key, name: None, certificates: vec![certificate] }
    }

    pub(crate) fn sign(&self, singles: &[Vec<u8>]) -> Vec<u8> {
        let id = match &self.name {
            Some(name) => der(0xa1, name),
            None => der(0xa2, &der(4, digest(&SHA1_FOR_LEGACY_USE_ONLY, self.key.der_bytes()).as_ref())),
        };
        let data = sequence(&[id, moment(now()), sequence(singles)]);
        let signature = [vec![0], self.key.sign(&data).unwrap()].concat();
        let mut basic = vec![data, sequence(&[der(6, ECDSA_SHA256_OID)]), der(3, &signature)];
        if !self.certificates.is_empty() {
            let certificates: Vec<_> = self.certificates.iter().map(|cert| cert.to_vec()).collect();
            basic.push(der(0xa0, &sequence(&certificates)));
        }
        let bytes = sequence(&[der(6, BASIC_OID), der(4, &sequence(&basic))]);
        sequence(&[der(10, &[0]), der(0xa0, &bytes)])
    }
}

pub(crate) fn subject(cert: &CertificateDer<'_>) -> Vec<u8> {
    X509Certificate::from_der(cert).unwrap().1.subject().as_raw().to_vec()
}
