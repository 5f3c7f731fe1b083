use std::sync::Arc;

use postern::config::{FaultPolicy, Tls, TrustedRoot, Verdict};
use postern::handshake::mint::{KeyKind, Shown};
use postern::handshake::verify::CertificateFault::{
    self, Expired, NoName, NotYetValid, Untrusted, WrongName,
};
use postern::handshake::verify::{Faults, Judge, Judgement};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{CertificateError, version};
use tempfile::TempDir;

use crate::client::{handshake, trusting_client};
use crate::pki::{Ca, FUTURE, GOOD, HOST, PAST, judge, leaf_params, strict, tls};

fn judged(root: &Ca, chain: &[CertificateDer<'_>], sni: Option<&str>) -> Judgement {
    judge(root, strict()).judge(chain, sni, UnixTime::now())
}

fn faults(found: &[CertificateFault]) -> Faults {
    found.iter().copied().collect()
}

/// Issuer, validity in days around now, SNI, faults.
type Case<'a> = (&'a Ca, (i64, i64), Option<&'a str>, &'a [CertificateFault]);

#[test]
fn every_fault_is_found_alone_and_together() {
    let (root, stranger) = (Ca::root("Root"), Ca::root("Stranger"));
    let other = Some("other.example");
    let cases: &[Case<'_>] = &[
        (&root, GOOD, Some(HOST), &[]),
        (&root, GOOD, Some("IMAP.example.ORG"), &[]),
        (&root, PAST, Some(HOST), &[Expired]),
        (&root, FUTURE, Some(HOST), &[NotYetValid]),
        (&stranger, GOOD, Some(HOST), &[Untrusted]),
        (&root, GOOD, other, &[WrongName]),
        (&root, GOOD, None, &[NoName]),
        (&root, PAST, other, &[Expired, WrongName]),
        (&root, FUTURE, other, &[NotYetValid, WrongName]),
        (&stranger, GOOD, other, &[Untrusted, WrongName]),
        (&stranger, PAST, Some(HOST), &[Expired, Untrusted]),
        (&stranger, FUTURE, Some(HOST), &[NotYetValid, Untrusted]),
        (&stranger, PAST, other, &[Expired, Untrusted, WrongName]),
        (&root, PAST, None, &[Expired, NoName]),
        (&stranger, FUTURE, None, &[NotYetValid, Untrusted, NoName]),
        (&root, GOOD, Some("192.0.2.7"), &[WrongName]),
        (&root, GOOD, Some("not a name"), &[WrongName]),
    ];
    for (issuer, days, sni, expected) in cases {
        let found = judged(&root, &[issuer.leaf(&[HOST], *days)], *sni).faults;
        assert_eq!(found, faults(expected), "{days:?} {sni:?}");
    }
}

#[test]
fn an_issuer_out_of_time_is_found_behind_a_good_leaf() {
    let root = Ca::root("Root");
    let found = |intermediate: &Ca, days| {
        judged(&root, &[intermediate.leaf(&[HOST], days), intermediate.der.clone()], Some(HOST)).faults
    };
    let expired = root.intermediate((-80, -5));
    assert_eq!(found(&expired, GOOD), faults(&[Expired]));
    assert_eq!(found(&expired, PAST), faults(&[Expired]));
    assert_eq!(found(&expired, (-4, 80)), faults(&[Expired, Untrusted]), "never valid as a whole");
    assert_eq!(found(&root.intermediate((5, 90)), GOOD), faults(&[NotYetValid]));
    assert_eq!(found(&Ca::root("Stranger").intermediate((-80, -5)), GOOD), faults(&[Expired, Untrusted]));
    let good = root.intermediate(GOOD);
    assert_eq!(found(&good, GOOD), faults(&[]));
    assert_eq!(
        judged(&root, &[good.leaf(&[HOST], GOOD)], Some(HOST)).faults,
        faults(&[Untrusted]),
        "not sent"
    );
}

#[test]
fn what_breaks_a_rule_is_untrusted() {
    let root = Ca::root("Root");
    let mut client_only = leaf_params(&[HOST], GOOD);
    client_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let mut authority = leaf_params(&[HOST], GOOD);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let self_signed = leaf_params(&[HOST], GOOD).self_signed(&KeyPair::generate().unwrap()).unwrap();
    let mut flipped = root.leaf(&[HOST], GOOD).to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    for leaf in [root.issue(&client_only), root.issue(&authority), self_signed.der().clone(), flipped.into()]
    {
        assert_eq!(judged(&root, &[leaf], Some(HOST)).faults, faults(&[Untrusted]));
    }
    let not_a_certificate = CertificateDer::from(vec![0x30, 0x03, 2, 1, 1]);
    assert_eq!(judged(&root, &[not_a_certificate], Some(HOST)).faults, faults(&[Untrusted, WrongName]));
    assert_eq!(judged(&root, &[], None).faults, faults(&[Untrusted, NoName]));
}

#[test]
fn more_certificates_than_honest_servers_send_are_untrusted() {
    let root = Ca::root("Root");
    for days in [GOOD, PAST] {
        let mut chain = vec![root.leaf(&[HOST], days)];
        chain.extend((1..10).map(|number| Ca::root(&format!("Other {number}")).der));
        let within = judged(&root, &chain, Some(HOST)).faults;
        assert_eq!(within, if days == GOOD { faults(&[]) } else { faults(&[Expired, Untrusted]) });
        chain.push(root.der.clone());
        assert!(judged(&root, &chain, Some(HOST)).faults.contains(Untrusted), "{days:?}");
    }
}

#[test]
fn a_chain_that_could_be_put_together_in_thousands_of_ways_is_untrusted() {
    let root = Ca::root("Root");
    let issuer = root.intermediate(GOOD);
    let leaf = issuer.leaf(&[HOST], GOOD);
    // A namesake of the issuer leads to authorities of one name, each with a key of its own, in every order.
    let maze = |count: usize| {
        let keys: Vec<_> = (0..count).map(|_| Ca::root("Maze")).collect();
        let mut chain = vec![leaf.clone(), keys[0].intermediate(GOOD).der];
        chain.extend(keys.into_iter().map(|key| key.der));
        chain.push(issuer.der.clone());
        judged(&root, &chain, Some(HOST)).faults
    };
    assert_eq!(maze(7), faults(&[Untrusted]));
    assert_eq!(maze(3), faults(&[]), "an authority after two renewals");
    // Sent again and again, a certificate is still one.
    let mut twice = vec![leaf.clone()];
    twice.resize(10, issuer.der.clone());
    assert_eq!(judged(&root, &twice, Some(HOST)).faults, faults(&[]));
}

#[test]
fn other_moments_are_tried_for_short_chains_only() {
    let root = Ca::root("Root");
    let expired = root.intermediate((-80, -5));
    let chain = |others: usize| {
        let mut chain = vec![expired.leaf(&[HOST], GOOD), expired.der.clone()];
        chain.extend((0..others).map(|number| Ca::root(&format!("Other {number}")).der));
        judged(&root, &chain, Some(HOST)).faults
    };
    assert_eq!(chain(2), faults(&[Expired]));
    assert_eq!(chain(3), faults(&[Expired, Untrusted]));
}

#[test]
fn a_certificate_cut_at_any_octet_is_untrusted() {
    let root = Ca::root("Root");
    let (leaf, judge) = (root.leaf(&[HOST], GOOD), judge(&root, strict()));
    for length in 0..leaf.len() {
        let cut = CertificateDer::from(leaf[..length].to_vec());
        let found = judge.judge(&[cut], Some(HOST), UnixTime::now()).faults;
        assert!(found.contains(Untrusted) && found.contains(WrongName), "{length}");
    }
}

#[test]
fn the_strictest_verdict_wins() {
    let root = Ca::root("Root");
    let leaf = [root.leaf(&[HOST], PAST)];
    let verdict = |expired, wrong_name, sni| {
        let policy = FaultPolicy { expired, wrong_name, ..strict() };
        judge(&root, policy).judge(&leaf, Some(sni), UnixTime::now()).verdict
    };
    assert_eq!(verdict(Verdict::Allow, Verdict::Block, HOST), Verdict::Allow);
    assert_eq!(verdict(Verdict::Mirror, Verdict::Block, HOST), Verdict::Mirror);
    assert_eq!(verdict(Verdict::Mirror, Verdict::Allow, "other.example"), Verdict::Mirror);
    assert_eq!(verdict(Verdict::Mirror, Verdict::Block, "other.example"), Verdict::Block);
    let good = [root.leaf(&[HOST], GOOD)];
    assert_eq!(judged(&root, &good, Some(HOST)).verdict, Verdict::Allow);
    assert_eq!(judged(&root, &good, None).verdict, Verdict::Allow, "no_name is allowed");
}

#[test]
fn unusable_roots_are_named_with_a_remedy() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("roots.pem");
    let error = |files| Judge::load(&tls(files, strict())).unwrap_err().to_string();
    assert!(error(vec![]).contains("list \"system\" or a PEM file"));
    assert!(error(vec![file.clone()]).contains("roots.pem: cannot be read"));
    std::fs::write(&file, "nothing").unwrap();
    assert!(error(vec![file.clone()]).contains("roots.pem: holds no"));
    let leaf = leaf_params(&[HOST], GOOD).self_signed(&KeyPair::generate().unwrap()).unwrap();
    std::fs::write(&file, leaf.pem()).unwrap();
    assert!(error(vec![file]).contains("is not an authority"));
    match Judge::load(&Tls { roots: vec![TrustedRoot::System], ..tls(vec![], strict()) }) {
        Ok(judge) => assert!(judge.roots() > 0),
        Err(none) => assert!(none.to_string().contains("install ca-certificates"), "{none}"),
    }
}

#[test]
fn a_server_that_does_not_hold_the_key_fails_the_handshake() {
    let stolen = Ca::root("Root").leaf(&[HOST], GOOD);
    let key = PrivateKeyDer::Pkcs8(KeyPair::generate().unwrap().serialize_der().into());
    let signing = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let certified = rustls::sign::CertifiedKey::new(vec![stolen], signing);
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    for version in [&version::TLS12, &version::TLS13] {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let server = server.unwrap().with_no_client_auth().with_cert_resolver(resolver.clone());
        let (fingerprint, key) = ([0; 32], KeyKind::Ecdsa);
        let shown = Shown { config: Arc::new(server), fingerprint, minted: false, key };
        let refused = handshake(&trusting_client(&[version]), &shown, HOST).unwrap_err();
        assert_eq!(refused, rustls::Error::InvalidCertificate(CertificateError::BadSignature));
    }
}
