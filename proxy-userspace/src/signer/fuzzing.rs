//! The entry point of the fuzz target `leaf_rules`: what a worker that was taken over may ask the signer to sign.

use std::sync::LazyLock;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::pki_types::alg_id;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::leaf_rules::check;
use crate::handshake::mint::tbs::{self, Issuer, Validity, Varying};

/// The signature that the authority makes.
const ALGORITHM: rustls::pki_types::AlgorithmIdentifier = alg_id::ECDSA_SHA256;
/// A part of the authority's time.
const VALIDITY: Validity = Validity { not_before: 1_700_000_000, not_after: 1_800_000_000 };

/// An authority, and a leaf of it that the rules allow.
static GENUINE: LazyLock<Option<(Issuer, Vec<u8>)>> = LazyLock::new(|| {
    let key = KeyPair::generate().ok()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cert = params.self_signed(&key).ok()?;
    let (_, parsed) = X509Certificate::from_der(cert.der()).ok()?;
    let issuer = Issuer {
        subject: parsed.subject().as_raw().to_vec(),
        key_identifier: vec![7; 20],
        validity: Validity { not_before: 0, not_after: i64::from(u32::MAX) },
    };
    let names = [tbs::dns_name("mail.example.org"), tbs::ip_address(&[192, 0, 2, 1])].concat();
    let (subject, public_key) = (parsed.subject().as_raw(), parsed.public_key().raw);
    let varying = Varying { serial: &[0x41; 16], validity: VALIDITY, subject, public_key, names: &names };
    let leaf = tbs::write(&issuer, ALGORITHM, &varying);
    Some((issuer, leaf))
});

/// Judge octets as they are, and a genuine leaf in which they changed, inserted or removed some. What the rules allow is a
/// certificate, no authority, from this issuer, within its time.
pub fn leaf(input: &[u8]) {
    let Some((issuer, genuine)) = &*GENUINE else { return };
    assert!(check(genuine, issuer, ALGORITHM).is_ok(), "a leaf as they are minted");
    judge(input, issuer);
    let mut changed = genuine.clone();
    for edit in input.chunks_exact(4) {
        let &[what, high, low, octet] = edit else { return };
        let at = usize::from(u16::from_be_bytes([high, low])) % changed.len().max(1);
        match what % 3 {
            0 => changed.iter_mut().skip(at).take(1).for_each(|old| *old = octet),
            1 => changed.insert(at, octet),
            _ if changed.len() > 1 => drop(changed.remove(at)),
            _ => {}
        }
    }
    judge(&changed, issuer);
}

fn judge(tbs: &[u8], issuer: &Issuer) {
    if check(tbs, issuer, ALGORITHM).is_err() {
        return;
    }
    let cert = tbs::certificate(tbs, ALGORITHM, &[0x30, 0]);
    let parsed = X509Certificate::from_der(&cert).ok().filter(|(rest, _)| rest.is_empty());
    let is_leaf = parsed.is_some_and(|(_, cert)| {
        let within = Validity::of(&cert).clipped(issuer.validity) == Some(Validity::of(&cert));
        !cert.is_ca() && cert.issuer().as_raw() == issuer.subject && within
    });
    assert!(is_leaf, "the rules allow what is no leaf: {tbs:02x?}");
}
