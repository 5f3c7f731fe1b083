use postern::config::{Certificates, ServerCertificate};
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
        Leaves::load(&Certificates { authority: authority.clone(), server }, &tls(Vec::new(), strict()))
    };
    let jobs = JobPool::start(JobPurpose::Certificates, 1).unwrap();
    for order in [[&ecdsa, &rsa], [&rsa, &ecdsa]] {
        let leaves = load(&order).unwrap();
        for (key, expected) in [(KeyKind::Ecdsa, &ecdsa_der), (KeyKind::Rsa, &rsa_der)] {
            let (upstream, sni, class) = (None, Some(HOST), LeafClass::Absent);
            let request = Request { upstream, sni, destination: ADDRESS, class, key };
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
