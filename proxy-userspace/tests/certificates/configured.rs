use postern::handshake::mint::Class;
use rcgen::KeyPair;

use crate::client::{Mint, client_of, handshake, leaf_of};
use crate::pki::{Ca, GOOD, HOST, leaf_params};

#[test]
fn a_configured_certificate_is_shown_for_its_names() {
    let (owner, key) = (Ca::root("Owner"), KeyPair::generate().unwrap());
    let exact = leaf_params(&[HOST], GOOD).signed_by(&key, &owner.issuer).unwrap();
    let wild = leaf_params(&["*.example.org"], GOOD).signed_by(&key, &owner.issuer).unwrap();
    let key = key.serialize_pem();
    let mint = Mint::with(&[("*.example.org", &wild.pem(), &key), (HOST, &exact.pem(), &key)]);
    let upstream = Ca::root("Root").leaf(&[HOST], GOOD);
    let shown = |sni, class| mint.shown(Some(&upstream), sni, class);
    for class in [Class::Verified, Class::Allowed, Class::Blocked, Class::Absent] {
        let for_host = shown(Some(HOST), class);
        assert!(!for_host.minted && leaf_of(&for_host) == *exact.der(), "{class:?}: exact before wildcard");
        handshake(&client_of(&owner.der), &for_host, HOST).unwrap();
        assert!(leaf_of(&shown(Some("pop.example.org"), class)) == *wild.der(), "{class:?}");
        assert!(shown(Some("a.b.example.org"), class).minted);
        assert!(shown(Some("example.org"), class).minted);
    }
    assert!(!shown(None, Class::Verified).minted, "the server's own names decide");
    assert!(mint.shown(None, None, Class::Absent).minted);
    assert!(shown(Some(HOST), Class::Mirrored).minted);
}
