//! An OCSP response as a server staples it: judging it never panics, and none is good that the authority did not sign.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use postern::config::{Ocsp, Tls, TrustedRoot, Verdict};
use postern::handshake::verify::{CertificateFault, Judge};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, UnixTime};

static SERVER: LazyLock<(Judge, CertificateDer<'static>)> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("a key");
    let file = std::env::temp_dir().join(format!("postern-fuzz-ocsp-{}.pem", std::process::id()));
    std::fs::write(&file, params.self_signed(&key).expect("a certificate").pem()).expect("written");
    let issuer = Issuer::new(params, key);
    let leaf = CertificateParams::new(vec!["imap.example.org".to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&KeyPair::generate().expect("a key"), &issuer).expect("a certificate");
    let tls = Tls { roots: vec![TrustedRoot::File(file.clone())], ocsp: Ocsp::Strict, ..Tls::default() };
    let judge = Judge::load(&tls).expect("roots");
    std::fs::remove_file(&file).expect("removed");
    (judge, leaf.der().clone())
});

fuzz_target!(|data: &[u8]| {
    let (judge, leaf) = &*SERVER;
    let chain = std::slice::from_ref(leaf);
    let judgement = judge.judge_stapled(chain, data, Some("imap.example.org"), UnixTime::now());
    assert_eq!(judgement.verdict, Verdict::Block, "nobody forges the authority's signature");
    assert!(judgement.faults.contains(CertificateFault::OcspMissing));
});
