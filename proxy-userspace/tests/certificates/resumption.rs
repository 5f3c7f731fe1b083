use std::sync::Arc;

use postern::handshake::mint::LeafClass;
use rcgen::KeyPair;
use rustls::{ClientConfig, HandshakeKind, version};

use crate::client::{Mint, handshake, trusting_client};
use crate::pki::{Ca, GOOD, HOST, leaf_params};

#[test]
fn only_verified_and_allowed_sessions_resume_and_never_across_classes() {
    let (mint, upstream) = (Mint::new(), Ca::root("Root").leaf(&[HOST], GOOD));
    let classes =
        [LeafClass::Verified, LeafClass::Allowed, LeafClass::Mirrored, LeafClass::Blocked, LeafClass::Absent];
    for version in [&version::TLS13, &version::TLS12] {
        for first in classes {
            for second in classes {
                let client = trusting_client(&[version]);
                let kind = |class| {
                    let shown = mint.shown(Some(&upstream), Some(HOST), class);
                    handshake(&client, &shown, HOST).unwrap().handshake_kind().unwrap()
                };
                assert_eq!(kind(first), HandshakeKind::Full);
                let resumes = first == second && matches!(first, LeafClass::Verified | LeafClass::Allowed);
                let expected = if resumes { HandshakeKind::Resumed } else { HandshakeKind::Full };
                assert_eq!(kind(second), expected, "{version:?} {first:?} {second:?}");
            }
        }
    }
}

/// A client of this version that accepts whatever it is shown, with or without its name in the ClientHello.
fn resuming_client(version: &'static rustls::SupportedProtocolVersion, sends_sni: bool) -> Arc<ClientConfig> {
    let mut client = Arc::unwrap_or_clone(trusting_client(&[version]));
    client.enable_sni = sends_sni;
    Arc::new(client)
}

#[test]
fn a_ticket_resumes_under_the_leaf_that_it_was_given_for_and_under_no_other() {
    let (mint, root) = (Mint::new(), Ca::root("Root"));
    let (server, attacker) = (root.leaf(&[HOST], GOOD), root.leaf(&[HOST], GOOD));
    for version in [&version::TLS13, &version::TLS12] {
        for class in [LeafClass::Verified, LeafClass::Allowed] {
            let visit = |client: &Arc<ClientConfig>, upstream| {
                let shown = mint.shown(Some(upstream), Some(HOST), class);
                handshake(client, &shown, HOST).unwrap().handshake_kind()
            };
            let client = resuming_client(version, true);
            assert_eq!(visit(&client, &server), Some(HandshakeKind::Full));
            assert_eq!(visit(&client, &server), Some(HandshakeKind::Resumed), "{version:?} {class:?}");
            assert_eq!(visit(&client, &attacker), Some(HandshakeKind::Full), "{version:?} {class:?}");
        }
    }
}

#[test]
fn a_client_without_a_name_sees_the_certificate_of_every_server_that_it_reaches() {
    let (owner, key) = (Ca::root("Owner"), KeyPair::generate().unwrap());
    let own = leaf_params(&["own.example.org"], GOOD).signed_by(&key, &owner.issuer).unwrap();
    let mint = Mint::with(&[("own.example.org", &own.pem(), &key.serialize_pem())]);
    let root = Ca::root("Root");
    let [own, server, attacker] =
        ["own.example.org", HOST, "attacker.example"].map(|name| root.leaf(&[name], GOOD));
    for version in [&version::TLS13, &version::TLS12] {
        let client = resuming_client(version, false);
        for (upstream, minted) in
            [(&own, false), (&own, false), (&server, true), (&server, true), (&attacker, true)]
        {
            // A name that is none of DNS counts as none, as does an address.
            for sni in [None, Some("192.0.2.7")] {
                let shown = mint.shown(Some(upstream), sni, LeafClass::Verified);
                assert_eq!(shown.minted, minted);
                let kind = handshake(&client, &shown, HOST).unwrap().handshake_kind();
                assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
            }
        }
    }
}
