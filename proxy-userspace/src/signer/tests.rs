//! Signer, supervisor and worker as threads of one process: what a session and an operator would notice.

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConnection, SignatureScheme,
    SupportedProtocolVersion, version,
};
use tempfile::TempDir;

use super::link::REQUESTS_IN_FLIGHT_MAX;
use super::protocol::{Ask, Refusal, Reply, SignRequest};
use super::{KeyFacts, SignFault, SignerControl, SignerLink, Signing, serve};
use crate::config::ShownCertificates;
use crate::config::{self, Config};
use crate::handshake::mint::{KeyKind, LeafClass, MintError, Shown};
use crate::handshake::{KeyFile, Trust, TrustError, TrustMaterial, mint};
use crate::ipc::{AsyncChannel, Channel, IpcError};
use crate::jobs::{JOB_WAIT, JobPool, JobPurpose};

const HOST: &str = "imap.example.org";
const OWN: &str = "own.example.org";
/// What takes longer never comes.
const PATIENCE: Duration = Duration::from_secs(20);
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

/// An authority and a configured certificate of its making, on disk.
struct Files {
    home: TempDir,
    root: CertificateDer<'static>,
    config: Config,
}

impl Files {
    fn new() -> Self {
        Self::with(&KeyPair::generate().unwrap(), &KeyPair::generate().unwrap())
    }

    fn with(authority: &KeyPair, own: &KeyPair) -> Self {
        let home = TempDir::new().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Proxy Authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(authority).unwrap();
        let issuer = rcgen::Issuer::new(params, authority);
        let leaf = CertificateParams::new(vec![OWN.to_owned()]).unwrap().signed_by(own, &issuer).unwrap();
        write(home.path(), "authority", &root.pem(), authority);
        write(home.path(), "own", &leaf.pem(), own);
        let text = format!(
            "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[tls]\nroots = [\"authority.pem\"]\n\
             [certificates]\nauthority = {{ cert = \"authority.pem\", key = \"authority.key\" }}\n\
             [[certificates.server]]\nnames = [\"{OWN}\"]\ncert = \"own.pem\"\nkey = \"own.key\"\n"
        );
        let config = config::parse(&text, &home.path().join("postern.toml")).unwrap();
        Self { home, root: root.der().clone(), config }
    }

    fn read(&self) -> (TrustMaterial, Vec<KeyFile>) {
        TrustMaterial::read(&self.config).unwrap()
    }
}

fn write(home: &Path, stem: &str, cert: &str, key: &KeyPair) {
    let key_file = home.join(format!("{stem}.key"));
    std::fs::write(home.join(format!("{stem}.pem")), cert).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key_file, Permissions::from_mode(0o600)).unwrap();
}

/// A signer in a thread, and the supervisor's end.
fn signer() -> (SignerControl, JoinHandle<Result<(), IpcError>>) {
    let (near, far) = Channel::pair().unwrap();
    let process = std::thread::spawn(|| serve(far));
    (SignerControl::new(Rc::new(AsyncChannel::new(near).unwrap())), process)
}

/// A worker that is connected to it.
async fn worker(control: &SignerControl) -> SignerLink {
    let link = SignerLink::new();
    connect(control, &link).await;
    link
}

async fn connect(control: &SignerControl, link: &SignerLink) {
    let (near, far) = Channel::pair().unwrap();
    control.serve_worker(far).await.unwrap();
    link.connect(near);
}

/// As the supervisor and the worker do it, in one.
async fn trust(files: &Files, control: &SignerControl, generation: u64, link: &SignerLink) -> Trust {
    let (material, keys) = files.read();
    let facts = control.load(generation, [generation; 2], &keys, &material).await.unwrap();
    assembled(files, &material, facts, Signing::Process { link: link.clone(), generation }).unwrap()
}

/// Under the only profile of the files.
fn assembled(
    files: &Files,
    material: &TrustMaterial,
    facts: Vec<KeyFacts>,
    signing: Signing,
) -> Result<Trust, TrustError> {
    let profile = files.config.profiles_in_use().next().unwrap();
    Trust::assemble(profile, &files.config.certificates, material, facts, signing)
}

async fn shown(trust: &Trust, sni: &str, key: KeyKind, jobs: &JobPool) -> Result<Shown, MintError> {
    let destination = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let request = mint::Request {
        upstream: None,
        sni: Some(sni),
        destination,
        class: LeafClass::Absent,
        key,
        certificates: ShownCertificates::Authority,
    };
    trust.leaves().server_config(&request, jobs).await
}

/// A whole handshake in memory with a client that trusts this root.
fn handshake(
    root: &CertificateDer<'static>,
    shown: &Shown,
    name: &'static str,
    version: &'static SupportedProtocolVersion,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::clone(&shown.config)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_without_keys_shows_leaves_and_configured_certificates_that_clients_accept() {
    let rsa = || KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let p384 = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    for (authority, own) in [(p384(), rsa()), (rsa(), p384())] {
        let files = Files::with(&authority, &own);
        let (control, process) = signer();
        let (link, jobs) = (worker(&control).await, JobPool::start(JobPurpose::Certificates, 1).unwrap());
        let trust = trust(&files, &control, 7, &link).await;
        for version in [&version::TLS13, &version::TLS12] {
            let minted = shown(&trust, HOST, KeyKind::Ecdsa, &jobs).await.unwrap();
            assert!(minted.minted);
            handshake(&files.root, &minted, HOST, version).unwrap();
            let own = shown(&trust, OWN, KeyKind::Ecdsa, &jobs).await.unwrap();
            assert!(!own.minted);
            handshake(&files.root, &own, OWN, version).unwrap();
        }
        let report = control.report().await.unwrap();
        assert_eq!((report.mints_total, report.mints_refused), (1, 0), "one leaf, shown twice");
        assert_eq!((report.signatures_total, report.signatures_refused), (2, 0));
        assert_eq!(report.generation, 7);
        drop(control);
        process.join().unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_policys_keys_serve_the_handshakes_that_began_under_it_and_not_for_ever() {
    let (files, (control, _process)) = (Files::new(), signer());
    let (link, jobs) = (worker(&control).await, JobPool::start(JobPurpose::Certificates, 1).unwrap());
    let (first, second) = (trust(&files, &control, 1, &link).await, trust(&files, &control, 2, &link).await);
    shown(&first, "a.example", KeyKind::Ecdsa, &jobs).await.unwrap();
    shown(&second, "a.example", KeyKind::Ecdsa, &jobs).await.unwrap();
    let third = trust(&files, &control, 3, &link).await;
    let _fourth = trust(&files, &control, 4, &link).await;
    let refused = shown(&first, "b.example", KeyKind::Ecdsa, &jobs).await.unwrap_err();
    assert!(
        matches!(refused, MintError::Sign(SignFault::Refused(Refusal::UnknownGeneration(1)))),
        "{refused}"
    );
    assert_eq!(refused.reason(), "certificate_not_minted");
    shown(&second, "b.example", KeyKind::Ecdsa, &jobs).await.unwrap();
    shown(&third, "b.example", KeyKind::Ecdsa, &jobs).await.unwrap();
    let report = control.report().await.unwrap();
    assert_eq!((report.mints_total, report.mints_refused, report.generation), (4, 1, 4));
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_named_with_a_remedy_and_leave_the_older_ones_good() {
    let (files, (control, _process)) = (Files::new(), signer());
    let (link, jobs) = (worker(&control).await, JobPool::start(JobPurpose::Certificates, 1).unwrap());
    let first = trust(&files, &control, 1, &link).await;
    let other = KeyPair::generate().unwrap().serialize_pem();
    for (stem, text, remedy) in [
        ("own", other.as_str(), "own.key: is not the key of the first certificate in"),
        ("own", "nothing", "own.key: holds no private key"),
        ("authority", other.as_str(), "authority.key: is not the key of the first certificate in"),
        ("authority", "-----BEGIN PRIVATE KEY-----\n", "authority.key: is damaged"),
    ] {
        let file = files.home.path().join(format!("{stem}.key"));
        let before = std::fs::read(&file).unwrap();
        std::fs::write(&file, text).unwrap();
        let (material, keys) = files.read();
        let told = control.load(2, [1; 2], &keys, &material).await.unwrap_err().to_string();
        assert!(told.contains(remedy) && told.starts_with('/'), "{told}");
        // `postern check` says the same.
        assert_eq!(Trust::load(&files.config).map(drop).unwrap_err().to_string(), told);
        std::fs::write(&file, before).unwrap();
    }
    assert_eq!(control.report().await.unwrap().generation, 1);
    shown(&first, HOST, KeyKind::Ecdsa, &jobs).await.unwrap();
    // The same descriptors can be read again, as for a successor.
    let (material, keys) = files.read();
    for generation in [2, 3] {
        control.load(generation, [1; 2], &keys, &material).await.unwrap();
    }
}

/// A worker that was taken over says what it likes on its channel.
#[tokio::test]
async fn what_a_worker_sends_costs_it_its_request_and_nobody_else() {
    let (files, (control, _process)) = (Files::new(), signer());
    let link = worker(&control).await;
    let _trust = trust(&files, &control, 1, &link).await;
    let (near, far) = Channel::pair().unwrap();
    control.serve_worker(far).await.unwrap();
    let (root, _) = Channel::pair().unwrap();
    near.send(&0xff_u8, &[std::os::fd::AsFd::as_fd(&root); 8]).unwrap();
    near.send(&vec![0xff_u8; 100_000], &[]).unwrap();
    let leaf = [&[0x30, 0x82, 0xff, 0xff][..], &[0x30; 60_000]].concat();
    let verify = [&[b' '; 64][..], b"TLS 1.3, client CertificateVerify\0", &[0; 32]].concat();
    let asks = [
        (1, Ask::Leaf(leaf)),
        (1, Ask::Leaf(b"TLS 1.3".to_vec())),
        (9, Ask::Leaf(Vec::new())),
        (1, Ask::Handshake { entry: 0, scheme: SCHEME.into(), message: verify }),
        (1, Ask::Handshake { entry: u32::MAX, scheme: 0, message: vec![b' '; 130] }),
    ];
    for (id, (generation, ask)) in (0..).zip(asks) {
        near.send(&SignRequest { id, generation, ask }, &[]).unwrap();
        let (reply, _) = near.receive::<Reply>().unwrap();
        assert_eq!(reply.id, id);
        reply.answer.unwrap_err();
    }
    let report = control.report().await.unwrap();
    assert_eq!((report.mints_refused, report.signatures_refused), (3, 2));
    assert_eq!((report.mints_total, report.signatures_total), (0, 0));
}

/// Its own end of a channel, as a signer has it.
fn connected(link: &SignerLink) -> Channel {
    let (near, far) = Channel::pair().unwrap();
    link.connect(near);
    far
}

/// What comes next at a signer's end.
async fn heard(signer: &Channel) -> Result<SignRequest, IpcError> {
    let begun = Instant::now();
    loop {
        match signer.receive_now() {
            Err(error) if error.would_block() && begun.elapsed() < PATIENCE => {
                tokio::task::yield_now().await;
            }
            heard => return heard.map(|(request, _)| request),
        }
    }
}

/// The next request's id, and what it asks to be signed.
async fn asked(signer: &Channel) -> (u64, Vec<u8>) {
    told(heard(signer).await.expect("something is asked for"))
}

fn told(request: SignRequest) -> (u64, Vec<u8>) {
    match request.ask {
        Ask::Leaf(octets) | Ask::Handshake { message: octets, .. } => (request.id, octets),
    }
}

fn answer(signer: &Channel, id: u64, answer: &[u8]) {
    signer.send(&Reply { id, answer: Ok(answer.to_vec()) }, &[]).unwrap();
}

/// Lets all tasks go on until they wait, for as long as the link does not look like this.
async fn until(link: &SignerLink, looks: &str) {
    let begun = Instant::now();
    while format!("{link:?}") != format!("SignerLink {{ {looks} }}") {
        assert!(begun.elapsed() < PATIENCE, "{link:?}, not {looks}");
        tokio::task::yield_now().await;
    }
}

/// What it came to.
async fn ended<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it ends")
}

fn leaf(link: &SignerLink, tbs: &[u8]) -> tokio::task::JoinHandle<Result<Vec<u8>, SignFault>> {
    let (link, tbs) = (link.clone(), tbs.to_vec());
    tokio::spawn(async move { link.sign_leaf(1, tbs).await })
}

#[tokio::test]
async fn answers_come_to_those_who_asked_in_whatever_order() {
    let link = SignerLink::new();
    let signer = connected(&link);
    let (first, second) = (leaf(&link, b"first"), leaf(&link, b"second"));
    until(&link, "connected: true, in_flight: 2").await;
    let (one, other) = (asked(&signer).await, asked(&signer).await);
    // Nobody asked for this one, and it does no harm.
    answer(&signer, 77, b"nobody");
    answer(&signer, other.0, &other.1);
    answer(&signer, one.0, &one.1);
    assert_eq!(ended(first).await.unwrap().unwrap(), b"first");
    assert_eq!(ended(second).await.unwrap().unwrap(), b"second");
}

#[tokio::test]
async fn a_leaf_that_a_signer_left_unsigned_is_asked_of_its_successor() {
    let link = SignerLink::new();
    let waiting = leaf(&link, b"leaf");
    until(&link, "connected: false, in_flight: 1").await;
    let first = connected(&link);
    assert_eq!(asked(&first).await.1, b"leaf");
    drop(first);
    until(&link, "connected: false, in_flight: 1").await;
    // One that is replaced while it lives is not waited for either.
    let second = connected(&link);
    assert_eq!(asked(&second).await.1, b"leaf");
    let third = connected(&link);
    let (id, tbs) = asked(&third).await;
    answer(&third, id, &tbs);
    assert_eq!(ended(waiting).await.unwrap().unwrap(), b"leaf");
    assert!(matches!(heard(&second).await, Err(IpcError::Ended)), "and it is told so");
    // A refusal is an answer.
    let refused = leaf(&link, b"none");
    until(&link, "connected: true, in_flight: 1").await;
    let (id, _) = asked(&third).await;
    third.send(&Reply { id, answer: Err(Refusal::OverRate) }, &[]).unwrap();
    let fault = ended(refused).await.unwrap().unwrap_err();
    assert_eq!((fault, fault.reason()), (SignFault::Refused(Refusal::OverRate), "certificates_overloaded"));
}

#[tokio::test]
async fn a_session_that_goes_leaves_nothing_behind_and_its_answer_goes_to_nobody() {
    let link = SignerLink::new();
    let signer = connected(&link);
    let gone = leaf(&link, b"gone");
    until(&link, "connected: true, in_flight: 1").await;
    let (late, _) = asked(&signer).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    until(&link, "connected: true, in_flight: 0").await;
    assert_eq!(link.waiting(), Some(0));
    let next = leaf(&link, b"next");
    until(&link, "connected: true, in_flight: 1").await;
    answer(&signer, late, b"gone");
    let (id, tbs) = asked(&signer).await;
    answer(&signer, id, &tbs);
    assert_eq!(ended(next).await.unwrap().unwrap(), b"next");
}

#[tokio::test]
async fn more_than_may_wait_are_refused_at_once_and_a_full_channel_is_waited_for() {
    let link = SignerLink::new();
    let signer = connected(&link);
    let waiting: Vec<_> = (0..REQUESTS_IN_FLIGHT_MAX).map(|_| leaf(&link, &[7; 1_000])).collect();
    until(&link, &format!("connected: true, in_flight: {REQUESTS_IN_FLIGHT_MAX}")).await;
    assert_eq!(ended(link.sign_leaf(1, Vec::new())).await, Err(SignFault::Overloaded));
    assert_eq!(link.sign_handshake(1, 0, SCHEME, &[]), Err(SignFault::Overloaded));
    assert_eq!(SignFault::Overloaded.reason(), "certificates_overloaded");
    // Nothing was read until now: most of them did not fit into the channel.
    let busy = std::thread::spawn(move || {
        for _ in 0..REQUESTS_IN_FLIGHT_MAX {
            let (id, tbs) = told(signer.receive().unwrap().0);
            answer(&signer, id, &tbs);
        }
        signer
    });
    for waiting in waiting {
        assert_eq!(ended(waiting).await.unwrap().unwrap(), [7; 1_000]);
    }
    busy.join().unwrap();
    until(&link, "connected: false, in_flight: 0").await;
}

#[tokio::test]
async fn a_handshakes_thread_hears_at_once_when_the_signer_goes_or_is_not_there() {
    let link = SignerLink::new();
    assert_eq!(link.sign_handshake(1, 0, SCHEME, b"hello"), Err(SignFault::Gone));
    assert_eq!(SignFault::Gone.reason(), "signer_unavailable");
    let signer = connected(&link);
    let thread = {
        let link = link.clone();
        std::thread::spawn(move || [0, 1].map(|entry| link.sign_handshake(1, entry, SCHEME, b"hello")))
    };
    let (id, message) = asked(&signer).await;
    answer(&signer, id, &message);
    asked(&signer).await;
    drop(signer);
    assert_eq!(thread.join().unwrap(), [Ok(b"hello".to_vec()), Err(SignFault::Gone)]);
    assert_eq!(format!("{link:?}"), "SignerLink { connected: false, in_flight: 0 }");
}

/// The handshake's own deadline bounds it; a pool's patience is for the pool.
#[tokio::test]
async fn a_mint_waits_for_a_signer_longer_than_for_a_thread() {
    let (files, (control, _process)) = (Files::new(), signer());
    let (link, jobs) = (SignerLink::new(), JobPool::start(JobPurpose::Certificates, 1).unwrap());
    let trust = Arc::new(trust(&files, &control, 1, &link).await);
    let jobs = Arc::new(jobs);
    let session = |sni: &'static str| {
        let (trust, jobs) = (Arc::clone(&trust), Arc::clone(&jobs));
        tokio::spawn(async move { shown(&trust, sni, KeyKind::Ecdsa, &jobs).await })
    };
    // Two for one leaf, and one for a configured certificate.
    let sessions = [session(HOST), session(HOST), session(OWN)];
    until(&link, "connected: false, in_flight: 1").await;
    tokio::time::pause();
    tokio::time::advance(JOB_WAIT * 3).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(sessions.iter().all(|session| !session.is_finished()));
    tokio::time::resume();
    connect(&control, &link).await;
    for session in sessions {
        ended(session).await.unwrap().unwrap();
    }
    assert_eq!(control.report().await.unwrap().mints_total, 1);
}

#[tokio::test]
async fn a_signer_whose_supervisor_ends_ends_and_its_worker_hears_it() {
    let (control, process) = signer();
    let link = worker(&control).await;
    until(&link, "connected: true, in_flight: 0").await;
    drop(control);
    process.join().unwrap().unwrap();
    until(&link, "connected: false, in_flight: 0").await;
}

#[tokio::test]
async fn keys_and_certificates_that_do_not_belong_together_are_refused() {
    let (files, (control, _process)) = (Files::new(), signer());
    let (material, keys) = files.read();
    let facts = control.load(1, [1; 2], &keys, &material).await.unwrap();
    for facts in [facts[..1].to_vec(), Vec::new(), [&facts[..], &facts[..1]].concat()] {
        let signing = Signing::Process { link: SignerLink::new(), generation: 1 };
        let told = assembled(&files, &material, facts, signing).map(drop).unwrap_err().to_string();
        assert!(told.contains("not those of the configuration"), "{told}");
    }
}
