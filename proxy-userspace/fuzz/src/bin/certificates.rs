//! A server's certificate as it arrives: judging it and copying it into a leaf never panics, and what cannot be read is
//! never good.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use postern::config::{Certificates, FaultPolicy, KeyFiles, ShownCertificates, Tls, TrustedRoot, Verdict};
use postern::handshake::mint::{KeyKind, LeafClass, Leaves, Request};
use postern::handshake::verify::Judge;
use postern::jobs::{JobPool, JobPurpose};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::runtime::{Builder, Runtime};

static THREADS: LazyLock<(Runtime, JobPool)> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    (runtime, JobPool::start(JobPurpose::Certificates, 1).expect("a thread"))
});

static GATEWAY: LazyLock<(Judge, Leaves)> = LazyLock::new(|| {
    let home = std::env::temp_dir().join(format!("postern-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&home).expect("a directory");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("a key");
    let files = KeyFiles { cert: home.join("authority.pem"), key: home.join("authority.key") };
    std::fs::write(&files.cert, params.self_signed(&key).expect("a certificate").pem()).expect("written");
    std::fs::write(&files.key, key.serialize_pem()).expect("written");
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).expect("its owner's alone");
    let faults = FaultPolicy { no_name: Verdict::Block, ..FaultPolicy::default() };
    let tls = Tls { roots: vec![TrustedRoot::File(files.cert.clone())], faults, ..Tls::default() };
    let judge = Judge::load(&tls).expect("roots");
    let leaves = Leaves::load(&Certificates { authority: files, server: Vec::new(), default: None, pins: Vec::new() }, &tls).expect("leaves");
    std::fs::remove_dir_all(&home).expect("removed");
    (judge, leaves)
});

fuzz_target!(|data: &[u8]| {
    let (judge, leaves) = &*GATEWAY;
    let (runtime, jobs) = &*THREADS;
    let der = CertificateDer::from(data);
    let judgement = judge.judge(std::slice::from_ref(&der), Some("imap.example.org"), UnixTime::now());
    assert_eq!(judgement.verdict, Verdict::Block, "nobody forges the authority's signature");
    for class in [LeafClass::Verified, LeafClass::Allowed, LeafClass::Mirrored, LeafClass::Blocked] {
        let destination = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let sni = Some("imap.example.org");
        let request = Request { upstream: Some(&der), sni, destination, class, key: KeyKind::Ecdsa, certificates: ShownCertificates::Authority };
        let _ = runtime.block_on(leaves.server_config(&request, jobs));
    }
});
