//! What interception breaks: sessions that cannot pass, and what clients and operators are told about them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{Session, Tls};
use postern_tests::lab::Family;
use postern_tests::openssl::OpenSslServer;
use postern_tests::pki;
use postern_tests::postern::Policy;
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use postern_tests::scripted::{self, Scripted};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};

const TO: SocketAddr = SocketAddr::new(Family::V4.server(), 993);

/// Nobody trusts the certificate of `s_server`, and that is not what these tests are about.
fn policy() -> Policy {
    ["untrusted", "wrong_name", "no_name"].into_iter().fold(Policy::new(), |p, fault| p.fault(fault, "allow"))
}

/// What a client on 993 is told inside a finished handshake, and the record of its session.
fn told(scene: &Scene, at: usize, postern: &postern_tests::postern::Postern<'_>) -> Result<(String, Record)> {
    let mut session = Session::implicit(&scene.lab.client, TO, Family::V4.name(), &scene.client()?)?;
    let told = session.line()?;
    ensure!(session.to_end()?.is_empty(), "more was said");
    drop(session);
    let record = postern.wait_records(at)?.pop().context("no record")?;
    Ok((told, record))
}

/// The client reads cause and reference, the operator reason and remedy.
fn explained(told: &str, record: &Record, cause: &str, reason: &str) {
    assert!(told.starts_with("* BYE Postern: ") && told.contains(cause), "{told}");
    assert!(told.contains(record.text("event.id")) && !told.contains("action."), "{told}");
    assert_eq!(record.text("event.reason"), reason, "{record:#?}");
    assert_eq!(record.text("postern.side"), "upstream", "{record:#?}");
    assert_eq!(record.text("postern.stage"), "handshake", "{record:#?}");
    assert!(record.text("message").contains("action.bypass"), "{record:#?}");
}

const WANTS: &str = "upstream_wants_client_certificate";

#[test]
fn a_server_that_requires_a_client_certificate_is_named_in_every_version_of_tls() -> Result<()> {
    let scene = Scene::new(&policy())?;
    let postern = scene.start()?;
    for (at, version) in (1..).zip(["-tls1_3", "-tls1_2"]) {
        let server = OpenSslServer::start(&scene, TO, &["-Verify", "1", version])?;
        let (told, record) = told(&scene, at, &postern).with_context(|| server.said())?;
        explained(&told, &record, "client certificate", WANTS);
    }
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_server_that_only_asks_for_a_client_certificate_is_served() -> Result<()> {
    let scene = Scene::new(&policy())?;
    let postern = scene.start()?;
    for (at, version) in (1..).zip(["-tls1_2", "-tls1_3"]) {
        let mut server = OpenSslServer::start(&scene, TO, &["-verify", "1", version])?;
        let mut session = Session::implicit(&scene.lab.client, TO, Family::V4.name(), &scene.client()?)?;
        server.say("* OK ready")?;
        session.greeting().with_context(|| server.said())?;
        drop((server, session));
        let record = postern.wait_records(at)?.pop().context("no record")?;
        assert_ne!(record.text("event.reason"), WANTS, "{record:#?}");
        assert!(record.number("server.bytes") > 0, "{record:#?}");
    }
    postern.stop()?;
    scene.finish()
}

/// A rustls server that requires a client certificate, in this version only.
fn requiring(scene: &Scene, version: Tls) -> Result<ServerConfig> {
    let verifier = WebPkiClientVerifier::builder(pki::trust(scene.roots.pem())?).build()?;
    Ok(ServerConfig::builder_with_protocol_versions(version.versions())
        .with_client_cert_verifier(verifier)
        .with_single_cert(scene.identity.chain()?, scene.identity.key()?)?)
}

#[test]
fn behind_starttls_it_is_named_too() -> Result<()> {
    let scene = Scene::new(&policy())?;
    let postern = scene.start()?;
    let to = scene.server(Family::V4, 143);
    for (at, version) in (1..).zip(Tls::ALL) {
        let config = requiring(&scene, version)?;
        let server = Scripted::once(&scene.lab.server, to, move |mut tcp| {
            scripted::until_starttls(&mut tcp, "TAG OK go\r\n")?;
            let refused = scripted::accept_tls(tcp, config);
            ensure!(refused.is_err(), "a client without a certificate was accepted");
            Ok(())
        })?;
        let mut session = Session::clear(scene.lab.client.connect(to)?);
        session.greeting()?;
        let mut session = session.starttls(Family::V4.name(), &scene.client()?)?;
        let told = session.line()?;
        drop(session);
        let record = postern.wait_records(at)?.pop().context("no record")?;
        explained(&told, &record, "client certificate", WANTS);
        server.result()?;
    }
    postern.stop()?;
    scene.finish()
}

#[test]
fn the_remedy_works_a_client_with_a_certificate_passes_under_bypass() -> Result<()> {
    let scene = Scene::new(&policy().action(&format!("bypass = [\"{}\"]", TO.ip())))?;
    let postern = scene.start()?;
    let config = requiring(&scene, Tls::V13)?;
    let server = Scripted::once(&scene.lab.server, TO, move |tcp| {
        use std::io::Write as _;
        let mut stream = scripted::accept_tls(tcp, config)?;
        stream.write_all(b"* OK your certificate is good\r\n")?;
        Ok(stream.flush()?)
    })?;
    let client = ClientConfig::builder()
        .with_root_certificates(pki::trust(scene.roots.pem())?)
        .with_client_auth_cert(scene.identity.chain()?, scene.identity.key()?)?;
    let mut session = Session::implicit(&scene.lab.client, TO, Family::V4.name(), &Arc::new(client))?;
    session.greeting()?;
    server.result()?;
    drop(session);
    postern.wait_records(1)?;
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_server_whose_tls_is_outdated_is_named_as_such() -> Result<()> {
    let scene = Scene::new(&policy())?;
    let postern = scene.start()?;
    let old: [&[&str]; 5] = [
        // A cipher with CBC; DHE; key exchange by RSA; versions before TLS 1.2.
        &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"],
        &["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"],
        &["-tls1_2", "-cipher", "AES128-SHA"],
        &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
        &["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"],
    ];
    for (at, args) in (1..).zip(old) {
        let server = OpenSslServer::start(&scene, TO, args)?;
        let (told, record) = told(&scene, at, &postern).with_context(|| server.said())?;
        explained(&told, &record, "outdated TLS", "upstream_tls_incompatible");
        assert!(record.text("message").contains("CBC"), "{record:#?}");
    }
    postern.stop()?;
    scene.finish()
}
