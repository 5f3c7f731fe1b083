//! TLS on both sides: certificates with faults, odd handshakes, resumption, what follows a handshake.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{self, Session, Tls};
use postern_tests::imap_server::{PASSWORD, USER};
use postern_tests::lab::Family;
use postern_tests::openssl::{KEY_UPDATE_RECEIVED, OpenSsl};
use postern_tests::pki::{self, Authority, Identity, Wanted};
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::scripted::{self, Scripted};
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ALL_VERSIONS, ClientConnection, HandshakeKind, ServerConfig, StreamOwned};

/// Names that are asked for, each with a certificate of its own.
const NAMES: usize = 300;

/// The faults of a server's certificate, by their words in the policy.
const FAULTS: [&str; 5] = ["expired", "not_yet_valid", "untrusted", "wrong_name", "no_name"];

fn faulty(fault: &str, roots: &Authority) -> Result<Identity> {
    let good = Wanted::server();
    match fault {
        "expired" => roots.issue(&Wanted { from_days: -30, to_days: -1, ..good }),
        "not_yet_valid" => roots.issue(&Wanted { from_days: 1, to_days: 30, ..good }),
        "untrusted" => Authority::new("Unknown Root")?.issue(&good),
        "wrong_name" => roots.issue(&Wanted::named("elsewhere.test")),
        _ => roots.issue(&good),
    }
}

/// Without a name the client verifies the address, and sends no SNI.
fn asked_for(fault: &str) -> String {
    if fault == "no_name" { Family::V4.server().to_string() } else { Family::V4.name().to_owned() }
}

/// Run `visit` for every fault under this verdict, on both ports.
fn under(verdict: &str, visit: impl Fn(&Scene, &str, u16) -> Result<()>) -> Result<()> {
    for fault in FAULTS {
        let scene = Scene::new(&Policy::new().fault(fault, verdict))?;
        let postern = scene.start()?;
        let server = scene
            .serve_with(faulty(fault, &scene.roots)?.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()])?;
        for (done, port) in [143, 993].into_iter().enumerate() {
            visit(&scene, fault, port).with_context(|| format!("{fault}, {verdict}, port {port}"))?;
            let records = postern.wait_records(done + 1)?;
            let record = records.get(done).context("no record")?;
            assert_eq!(record.faults(), [fault], "{record:#?}");
            assert_eq!(record.text("postern.certificate.verdict"), verdict, "{record:#?}");
            if verdict == "block" {
                assert_eq!(record.text("event.reason"), "certificate_blocked", "{record:#?}");
            }
        }
        if verdict != "allow" {
            let log = server.log().join("\n");
            assert!(!log.contains("LOGIN"), "{log}");
        }
        drop(server);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

/// The handshake on either port; the greeting behind it is not read.
fn handshake(scene: &Scene, fault: &str, port: u16) -> Result<Session> {
    let (to, name) = (scene.server(Family::V4, port), asked_for(fault));
    if port == 993 {
        return Session::implicit(&scene.lab.client, to, &name, &scene.client()?);
    }
    let mut session = Session::clear(scene.lab.client.connect(to)?);
    session.greeting()?;
    session.starttls(&name, &scene.client()?)
}

#[test]
fn a_blocked_certificate_ends_in_a_finished_handshake_and_a_bye_with_the_reason() -> Result<()> {
    under("block", |scene, fault, port| {
        let mut session = handshake(scene, fault, port)?;
        let told = session.line()?;
        ensure!(told.starts_with("* BYE") && told.contains("certificate"), "{told}");
        session.to_end()?;
        Ok(())
    })
}

#[test]
fn a_mirrored_certificate_makes_the_clients_own_verification_fail() -> Result<()> {
    under("mirror", |scene, fault, port| {
        let Err(error) = handshake(scene, fault, port) else { anyhow::bail!("the client was content") };
        ensure!(format!("{error:#}").contains("invalid peer certificate"), "{error:#}");
        Ok(())
    })
}

#[test]
fn an_allowed_fault_leaves_the_session_as_it_was() -> Result<()> {
    under("allow", |scene, fault, port| {
        let mut session = handshake(scene, fault, port)?;
        if port == 993 {
            session.greeting()?;
        }
        session.enter()?;
        ensure!(session.fetch(1)? == MESSAGE, "another message came");
        session.logout()
    })
}

/// A session over a handshake whose ClientHello was sent by hand.
fn by_hand(scene: &Scene, send: impl Fn(&mut std::net::TcpStream, &[u8]) -> Result<()>) -> Result<()> {
    let mut tcp = scene.lab.client.connect(scene.server(Family::V4, 993))?;
    let mut connection = ClientConnection::new(scene.client()?, Family::V4.name().try_into()?)?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    send(&mut tcp, &hello)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
    }
    let mut stream = StreamOwned::new(connection, tcp);
    let greeting = scripted::line(&mut stream)?;
    ensure!(greeting.starts_with("* OK"), "{greeting}");
    stream.write_all(b"a LOGOUT\r\n")?;
    ensure!(scripted::line(&mut stream)?.starts_with("* BYE"), "no good-bye");
    Ok(())
}

fn one_session(visit: impl Fn(&Scene) -> Result<()>) -> Result<Record> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    visit(&scene).with_context(|| postern.log())?;
    let record = postern.wait_records(1)?.into_iter().next().context("no record")?;
    assert_eq!(record.text("tls.client.server_name"), Family::V4.name(), "{record:#?}");
    drop(server);
    postern.stop()?;
    scene.finish()?;
    Ok(record)
}

#[test]
fn a_client_hello_in_single_octets_is_read() -> Result<()> {
    one_session(|scene| {
        by_hand(scene, |tcp, hello| {
            for octet in hello {
                tcp.write_all(&[*octet])?;
            }
            Ok(())
        })
    })
    .map(drop)
}

#[test]
fn a_client_hello_over_many_records_is_read() -> Result<()> {
    one_session(|scene| {
        by_hand(scene, |tcp, hello| {
            let (head, body) =
                hello.split_at_checked(5).context("a ClientHello shorter than a record's head")?;
            for piece in body.chunks(61) {
                let mut record = head.to_vec();
                record.splice(3..5, u16::try_from(piece.len())?.to_be_bytes());
                record.extend_from_slice(piece);
                tcp.write_all(&record)?;
            }
            Ok(())
        })
    })
    .map(drop)
}

#[test]
fn an_address_in_place_of_a_name_is_in_the_record_and_writes_no_line_to_the_log() -> Result<()> {
    const ADDRESS: &str = "203.0.113.10";
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let before = postern.log();
    for visit in 0..3 {
        let mut openssl = OpenSsl::start(&scene, &["-servername", ADDRESS])?;
        openssl.type_line("a LOGOUT")?;
        openssl.wait("a OK", 1)?;
        let records = postern.wait_records(visit + 1)?;
        assert_eq!(records[visit].text("postern.sni_address"), ADDRESS, "{records:#?}");
        assert_eq!(records[visit].text("tls.client.server_name"), "", "{records:#?}");
    }
    let log = postern.log();
    // The certificate that all of them were shown is recorded once.
    let more: Vec<_> = log.lines().skip(before.lines().count()).collect();
    assert!(
        matches!(more.as_slice(), [line] if line.contains("minted a leaf")),
        "lines about clients: {more:?}"
    );
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_hello_retry_request_to_the_client_works() -> Result<()> {
    // X448 is none of Postern's groups; the second one is.
    let record = one_session(|scene| {
        let mut openssl = OpenSsl::start(scene, &["-tls1_3", "-groups", "X448:P-256"])?;
        openssl.type_line("a LOGOUT")?;
        openssl.wait("a OK", 1)
    })?;
    assert_eq!(record.text("tls.version"), "1.3");
    Ok(())
}

#[test]
fn a_client_of_tls_1_2_without_p_256_is_shown_an_rsa_certificate() -> Result<()> {
    let record = one_session(|scene| {
        let mut openssl = OpenSsl::start(scene, &["-tls1_2", "-groups", "X25519"])?;
        openssl.type_line("a LOGOUT")?;
        openssl.wait("a OK", 1)
    })?;
    assert!(record.text("tls.cipher").starts_with("TLS_ECDHE_RSA_"), "{record:#?}");
    Ok(())
}

#[test]
fn a_hello_retry_request_from_the_server_works() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let mut provider = aws_lc_rs::default_provider();
    // Not among the key shares that a client sends unasked.
    provider.kx_groups = vec![aws_lc_rs::kx_group::SECP384R1];
    let tls = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(scene.identity.chain()?, scene.identity.key()?)?;
    let server = scene.serve_with(tls, vec![MESSAGE.to_vec()])?;
    for port in [143, 993] {
        let mut session = scene.session(Family::V4, port)?;
        session.enter()?;
        assert_eq!(session.fetch(1)?, MESSAGE);
        session.logout()?;
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn key_updates_from_the_client_are_answered_when_asked_for_and_change_nothing_for_the_mail() -> Result<()> {
    let record = one_session(|scene| {
        let mut openssl = OpenSsl::start(scene, &["-tls1_3", "-msg"])?;
        openssl.type_line(&format!("a LOGIN {USER} {PASSWORD}"))?;
        openssl.wait("a OK", 1)?;
        let mut asked = 0;
        for (at, letter) in ["K", "k", "K"].into_iter().enumerate() {
            asked += usize::from(letter == "K");
            openssl.type_line(letter)?;
            openssl.wait("KEYUPDATE", at + 1)?;
            openssl.type_line(&format!("b{at} NOOP"))?;
            openssl.wait(&format!("b{at} OK"), 1)?;
            // The answer goes before the next data (RFC 8446 section 4.6.3), so it is here with that, or never.
            let answers = openssl.said().matches(KEY_UPDATE_RECEIVED).count();
            ensure!(answers == asked, "{answers} answers to {asked} questions: {}", openssl.said());
        }
        openssl.type_line("a SELECT INBOX")?;
        openssl.wait("a OK", 2)?;
        openssl.type_line("c FETCH 1 BODY[]")?;
        openssl.wait("Hello, Alice.", 1)?;
        openssl.type_line("d LOGOUT")?;
        openssl.wait("d OK", 1)
    })?;
    assert!(record.succeeded(), "{record:#?}");
    Ok(())
}

#[test]
fn renegotiation_is_refused() -> Result<()> {
    let record = one_session(|scene| {
        let mut openssl = OpenSsl::start(scene, &["-tls1_2"])?;
        openssl.type_line("R")?;
        openssl.wait("RENEGOTIATING", 1)?;
        openssl.wait_end()
    })?;
    assert!(!record.succeeded(), "{record:#?}");
    assert_eq!(record.text("postern.side"), "downstream", "{record:#?}");
    Ok(())
}

#[test]
fn a_client_that_comes_back_resumes_and_so_does_postern() -> Result<()> {
    for tls in Tls::ALL {
        let scene = Scene::new(&Policy::new())?;
        let postern = scene.start()?;
        let server =
            scene.serve_with(scene.identity.server_config(tls.versions())?, vec![MESSAGE.to_vec()])?;
        let config = scene.client_with(tls.versions())?;
        for visit in 0..3 {
            let to = scene.server(Family::V4, 993);
            let mut session = Session::open(&scene.lab.client, to, Family::V4.name(), &config)?;
            session.enter()?;
            let resumed = session.tls()?.handshake_kind() == Some(HandshakeKind::Resumed);
            assert_eq!(resumed, visit > 0, "visit {visit}, TLS {}", tls.text());
            session.logout()?;
            let records = postern.wait_records(visit + 1)?;
            let record = &records[visit];
            assert!(record.succeeded(), "{record:#?}");
            assert_eq!(record.flag("tls.resumed"), visit > 0, "{record:#?}");
            assert!(!record.text("tls.server.hash.sha256").is_empty(), "{record:#?}");
        }
        drop(server);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

/// One session of a server that says its greeting and waits for the client's end.
fn greets(scene: &Scene, at: std::net::SocketAddr, identity: &Identity, tls: Tls) -> Result<Scripted<()>> {
    let config = identity.server_config(tls.versions())?;
    Scripted::once(&scene.lab.server, at, move |tcp| {
        let mut stream = scripted::accept_tls(tcp, config)?;
        stream.write_all(b"* OK ready\r\n")?;
        stream.flush()?;
        let _ = scripted::line(&mut stream);
        Ok(())
    })
}

#[test]
fn a_client_without_a_name_never_resumes_at_an_attackers_server() -> Result<()> {
    for tls in Tls::ALL {
        let scene = Scene::new(&Policy::new())?;
        let postern = scene.start()?;
        let attacker = scene.roots.issue(&Wanted::named("attacker.test"))?;
        let mut config = Arc::unwrap_or_clone(scene.client_with(tls.versions())?);
        config.enable_sni = false;
        let config = Arc::new(config);
        let (name, to) = (Family::V4.name(), scene.server(Family::V4, 993));
        let honest = greets(&scene, to, &scene.identity, tls)?;
        let mut session = Session::implicit(&scene.lab.client, to, name, &config)?;
        session.greeting()?;
        session.send(b"a LOGOUT\r\n")?;
        honest.result()?;
        drop(session);
        // Whoever is on the path, or answers for the name, leads the client elsewhere.
        let elsewhere = scene.other(993);
        let _hostile = greets(&scene, elsewhere, &attacker, tls)?;
        let Err(error) = Session::implicit(&scene.lab.client, elsewhere, name, &config) else {
            anyhow::bail!("the client was content with TLS {}", tls.text());
        };
        ensure!(format!("{error:#}").contains("invalid peer certificate"), "{error:#}");
        let records = postern.wait_records(2)?;
        assert!(records.iter().all(|record| !record.flag("tls.resumed")), "{records:#?}");
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn a_session_with_one_address_is_not_offered_to_another_of_the_same_name() -> Result<()> {
    for tls in Tls::ALL {
        let scene = Scene::new(&Policy::new())?;
        let postern = scene.start()?;
        let server = scene.serve_with(scene.identity.server_config(tls.versions())?, vec![])?;
        let (one, other) = (scene.server(Family::V4, 993), scene.other(993));
        for (visit, (to, resumed)) in
            [(one, false), (other, false), (one, true), (other, true)].into_iter().enumerate()
        {
            Session::open(&scene.lab.client, to, Family::V4.name(), &scene.client()?)?.logout()?;
            let records = postern.wait_records(visit + 1)?;
            let record = &records[visit];
            assert_eq!(record.flag("postern.upstream.tls.resumed"), resumed, "{record:#?}");
        }
        drop(server);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn a_blocked_client_never_resumes() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let identity = faulty("expired", &scene.roots)?;
    let server = scene.serve_with(identity.server_config(ALL_VERSIONS)?, vec![])?;
    let config = scene.client()?;
    for _ in 0..3 {
        let to = scene.server(Family::V4, 993);
        let mut session = Session::implicit(&scene.lab.client, to, Family::V4.name(), &config)?;
        assert!(session.line()?.starts_with("* BYE"));
        assert_eq!(session.tls()?.handshake_kind(), Some(HandshakeKind::Full));
        session.to_end()?;
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_server_that_ends_without_close_notify_is_recorded_as_truncated() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let tls = scene.identity.server_config(ALL_VERSIONS)?;
    let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 993), move |tcp| {
        let mut stream = scripted::accept_tls(tcp, tls)?;
        stream.write_all(b"* OK ready\r\n* 1 FETCH (BODY[] {100}\r\nhalf")?;
        stream.flush()?;
        scripted::half_close(&stream.sock);
        // The socket stays until the peer has gone, so that this is an end and not a reset.
        scripted::to_end(&mut stream.sock)
    })?;
    let mut session = scene.session(Family::V4, 993)?;
    let mut literals = Vec::new();
    assert!(session.response(&mut literals).is_err());
    drop(session);
    server.result()?;
    let record = postern.wait_records(1)?.into_iter().next().context("no record")?;
    assert_eq!(record.text("event.reason"), "truncated", "{record:#?}");
    assert_eq!(record.text("postern.side"), "upstream", "{record:#?}");
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_server_that_asks_for_a_client_certificate_is_inspected() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let verifier =
        WebPkiClientVerifier::builder(pki::trust(scene.roots.pem())?).allow_unauthenticated().build()?;
    let tls = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(scene.identity.chain()?, scene.identity.key()?)?;
    let server = scene.serve_with(tls, vec![MESSAGE.to_vec()])?;
    for (done, port) in [143, 993].into_iter().enumerate() {
        let mut session = scene.session(Family::V4, port)?;
        session.enter()?;
        assert_eq!(session.fetch(1)?, MESSAGE);
        session.logout()?;
        let records = postern.wait_records(done + 1)?;
        assert_ne!(records[done].text("postern.mode"), "bypass");
        assert!(records[done].succeeded(), "{records:#?}");
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// A certificate per name, issued when it is asked for.
#[derive(Debug)]
struct PerName(std::sync::Mutex<std::collections::HashMap<String, Arc<CertifiedKey>>>, Arc<Issuing>);

struct Issuing(Authority);

impl std::fmt::Debug for Issuing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issuing")
    }
}

impl ResolvesServerCert for PerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_owned();
        let mut known = self.0.lock().ok()?;
        if let Some(key) = known.get(&name) {
            return Some(Arc::clone(key));
        }
        let identity = self.1.0.issue(&Wanted::named(&name)).ok()?;
        let provider = aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(identity.chain().ok()?, identity.key().ok()?, &provider).ok()?;
        Some(Arc::clone(known.entry(name).or_insert_with(|| Arc::new(key))))
    }
}

#[test]
fn every_name_gets_a_leaf_of_its_own() -> Result<()> {
    let mut scene = Scene::new(&Policy::new())?;
    let roots = std::mem::replace(&mut scene.roots, Authority::new("Unused Root")?);
    let issuing = PerName(Default::default(), Arc::new(Issuing(roots)));
    let tls = ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(issuing));
    let postern = scene.start()?;
    let server = scene.serve_with(tls, vec![])?;
    let config = scene.client()?;
    let mut seen = std::collections::BTreeSet::new();
    for at in 0..NAMES {
        let name = format!("host{at}.many.test");
        let session = Session::open(&scene.lab.client, scene.server(Family::V4, 993), &name, &config)?;
        seen.insert(session.shown()?.fingerprint);
        session.logout()?;
    }
    assert_eq!(seen.len(), NAMES);
    let records = postern.wait_records(NAMES)?;
    assert!(records.iter().all(Record::succeeded));
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_configured_certificate_is_shown_for_its_names() -> Result<()> {
    let policy = Policy::new().certificates(&format!(
        "server = [{{ names = [\"{}\"], cert = \"own.pem\", key = \"own.key\" }}]",
        Family::V4.name()
    ));
    let scene = Scene::new(&Policy::new())?;
    let own_root = Authority::new("Owner's Root")?;
    let own = own_root.issue(&Wanted::server())?;
    own.write(scene.installation.dir(), "own")?;
    scene.installation.configure(&policy)?;
    let postern: Postern<'_> = scene.start()?;
    let server = scene.serve()?;
    let config = Arc::new(client::config(pki::trust(own_root.pem())?, ALL_VERSIONS));
    for port in [143, 993] {
        let to = scene.server(Family::V4, port);
        let session = Session::open(&scene.lab.client, to, Family::V4.name(), &config)?;
        assert_eq!(session.shown()?.fingerprint, own.fingerprint()?);
        session.logout()?;
    }
    // Another name on the same server is re-signed as ever.
    scene.session(Family::V6, 993)?.logout()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}
