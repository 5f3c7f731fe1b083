use postern::config::{Certificates, ServerCertificate, ShownCertificates};
use postern::handshake::mint::{KeyKind, LeafClass, Leaves, Request};
use postern::jobs::{JobPool, JobPurpose};
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use crate::client::{Mint, client_of, handshake, leaf_of, wait_for, write_pair};
use crate::pki::{ADDRESS, Ca, GOOD, HOST, ca_params, leaf_params, strict, tls};

#[test]
fn a_configured_certificate_is_shown_for_its_names() {
    let (owner, key) = (Ca::root("Owner"), KeyPair::generate().unwrap());
    let exact = leaf_params(&[HOST], GOOD).signed_by(&key, &owner.issuer).unwrap();
    let wild = leaf_params(&["*.example.org"], GOOD).signed_by(&key, &owner.issuer).unwrap();
    let key = key.serialize_pem();
    let mint = Mint::with(&[("*.example.org", &wild.pem(), &key), (HOST, &exact.pem(), &key)]);
    let upstream = Ca::root("Root").leaf(&[HOST], GOOD);
    let shown = |sni, class| mint.shown(Some(&upstream), sni, class);
    for class in [LeafClass::Verified, LeafClass::Allowed, LeafClass::Blocked, LeafClass::Absent] {
        let for_host = shown(Some(HOST), class);
        assert!(!for_host.minted && leaf_of(&for_host) == *exact.der(), "{class:?}: exact before wildcard");
        handshake(&client_of(&owner.der), &for_host, HOST).unwrap();
        assert!(leaf_of(&shown(Some("pop.example.org"), class)) == *wild.der(), "{class:?}");
        assert!(shown(Some("a.b.example.org"), class).minted);
        assert!(shown(Some("example.org"), class).minted);
    }
    assert!(!shown(None, LeafClass::Verified).minted, "the server's own names decide");
    assert!(mint.shown(None, None, LeafClass::Absent).minted);
    assert!(shown(Some(HOST), LeafClass::Mirrored).minted);
}

/// A self-signed certificate for HOST: its DER, then PEM files under this stem.
fn own_certificate(dir: &TempDir, stem: &str, key: &KeyPair) -> (CertificateDer<'static>, ServerCertificate) {
    let cert = leaf_params(&[HOST], GOOD).self_signed(key).unwrap();
    let files = write_pair(dir, stem, &cert.pem(), &key.serialize_pem());
    (cert.der().clone(), ServerCertificate { names: vec![HOST.to_owned()], files })
}

#[test]
fn a_name_may_have_a_configured_certificate_of_each_kind_and_no_two_of_one() {
    let dir = TempDir::new().unwrap();
    let key = KeyPair::generate().unwrap();
    let authority = ca_params("Proxy Authority", GOOD).self_signed(&key).unwrap();
    let authority = write_pair(&dir, "authority", &authority.pem(), &key.serialize_pem());
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let (ecdsa_der, ecdsa) = own_certificate(&dir, "ecdsa", &KeyPair::generate().unwrap());
    let (rsa_der, rsa) = own_certificate(&dir, "rsa", &rsa);
    let (_, again) = own_certificate(&dir, "again", &KeyPair::generate().unwrap());
    let load = |server: &[&ServerCertificate]| {
        let server = server.iter().copied().cloned().collect();
        Leaves::load(
            &Certificates { authority: authority.clone(), server, default: None, pins: Vec::new() },
            &tls(Vec::new(), strict()),
        )
    };
    let jobs = JobPool::start(JobPurpose::Certificates, 1).unwrap();
    for order in [[&ecdsa, &rsa], [&rsa, &ecdsa]] {
        let leaves = load(&order).unwrap();
        for (key, expected) in [(KeyKind::Ecdsa, &ecdsa_der), (KeyKind::Rsa, &rsa_der)] {
            let (upstream, sni, class) = (None, Some(HOST), LeafClass::Absent);
            let request = Request {
                upstream,
                sni,
                destination: ADDRESS,
                class,
                key,
                certificates: ShownCertificates::Authority,
            };
            let shown = wait_for(leaves.server_config(&request, &jobs)).unwrap();
            assert_eq!((&leaf_of(&shown), shown.key), (expected, key));
        }
    }
    let told = load(&[&ecdsa, &rsa, &again]).unwrap_err().to_string();
    for part in
        ["again.pem: is for \"imap.example.org\" with an ECDSA key, as ", "ecdsa.pem is; remove the name"]
    {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn under_server_the_default_certificate_is_shown_where_no_name_fits_and_never_a_copy() {
    let dir = TempDir::new().unwrap();
    let key = KeyPair::generate().unwrap();
    let authority = ca_params("Proxy Authority", GOOD).self_signed(&key).unwrap();
    let authority = write_pair(&dir, "authority", &authority.pem(), &key.serialize_pem());
    let (own_der, own) = own_certificate(&dir, "own", &KeyPair::generate().unwrap());
    let default_key = KeyPair::generate().unwrap();
    let default_cert = leaf_params(&["gateway.example"], GOOD).self_signed(&default_key).unwrap();
    let default = write_pair(&dir, "default", &default_cert.pem(), &default_key.serialize_pem());
    let load = |default| {
        let (authority, server) = (authority.clone(), vec![own.clone()]);
        let certificates = Certificates { authority, server, default, pins: Vec::new() };
        Leaves::load(&certificates, &tls(Vec::new(), strict())).unwrap()
    };
    let (leaves, without) = (load(Some(default)), load(None));
    let jobs = JobPool::start(JobPurpose::Certificates, 1).unwrap();
    let upstream = Ca::root("Root").leaf(&["elsewhere.example"], GOOD);
    let request = |sni, class, certificates| Request {
        upstream: Some(&upstream),
        sni,
        destination: ADDRESS,
        class,
        key: KeyKind::Ecdsa,
        certificates,
    };
    for class in
        [LeafClass::Verified, LeafClass::Allowed, LeafClass::Mirrored, LeafClass::Blocked, LeafClass::Absent]
    {
        let shown = |leaves: &Leaves, sni| {
            wait_for(leaves.server_config(&request(sni, class, ShownCertificates::Server), &jobs))
        };
        for (sni, expected) in [
            (Some(HOST), &own_der),
            (Some("elsewhere.example"), default_cert.der()),
            (None, default_cert.der()),
        ] {
            let shown = shown(&leaves, sni).unwrap();
            assert!(!shown.minted && leaf_of(&shown) == *expected, "{class:?} {sni:?}");
        }
        assert!(shown(&without, Some("elsewhere.example")).is_err(), "{class:?}: nothing stands in for it");
    }
    assert_eq!(leaves.cached(), 0);
    let other = request(Some("elsewhere.example"), LeafClass::Verified, ShownCertificates::Authority);
    assert!(wait_for(leaves.server_config(&other, &jobs)).unwrap().minted);
}
