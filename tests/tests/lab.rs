//! The laboratory itself, without Postern: what is asserted later about Postern must not be a property of the lab.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use postern_tests::client::{self, Session, Tls};
use postern_tests::crowd::Crowd;
use postern_tests::dovecot::Dovecot;
use postern_tests::imap_server::{self, ImapServer, PASSWORD};
use postern_tests::lab::{Family, Lab};
use postern_tests::pki::{self, Authority, Wanted};
use postern_tests::real_client::{Client, Errand};

const MESSAGE: &[u8] = b"From: bob@lab.test\r\nSubject: hello\r\n\r\nHello, Alice.\r\n";

fn listeners(lab: &Lab) -> Result<Vec<std::net::TcpListener>> {
    let mut all = Vec::new();
    for family in Family::ALL {
        for port in [143, 993] {
            all.push(lab.server.listen(SocketAddr::new(family.server(), port))?);
        }
    }
    Ok(all)
}

#[test]
fn every_client_reaches_dovecot_through_plain_forwarding() -> Result<()> {
    let lab = Lab::new()?;
    let authority = Authority::new("Lab Root")?;
    let identity = authority.issue(&Wanted::server())?;
    let dir = tempfile::tempdir()?;
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority.pem())?;
    let dovecot = Dovecot::start(&lab.server, &identity, &Tls::ALL)?;
    dovecot.deliver("1.lab", MESSAGE)?;
    for client in Client::ALL {
        for (family, port, tls) in [(Family::V4, 143, Tls::V13), (Family::V6, 993, Tls::V12)] {
            let errand = Errand { from: &lab.client, family, port, tls, authority: &ca, dir: dir.path() };
            assert_eq!(String::from_utf8_lossy(&client.fetch(&errand)?), String::from_utf8_lossy(MESSAGE));
        }
    }
    drop(dovecot);
    lab.finish()
}

#[test]
fn the_lab_server_serves_sessions_that_fetch_append_and_idle() -> Result<()> {
    let lab = Lab::new()?;
    let authority = Authority::new("Lab Root")?;
    let identity = authority.issue(&Wanted::server())?;
    let server = ImapServer::start(
        listeners(&lab)?,
        identity.server_config(rustls::ALL_VERSIONS)?,
        vec![MESSAGE.to_vec()],
        false,
    )?;
    let config = Arc::new(client::config(pki::trust(authority.pem())?, rustls::ALL_VERSIONS));
    for family in Family::ALL {
        for port in [143, 993] {
            let to = SocketAddr::new(family.server(), port);
            let mut session = Session::open(&lab.client, to, family.name(), &config)?;
            session.enter()?;
            assert_eq!(session.fetch(1)?, MESSAGE);
            assert_eq!(session.shown()?.fingerprint, identity.fingerprint()?);
            session.append(b"Subject: up\r\n\r\nup\r\n")?;
            let tag = session.send_command("IDLE")?;
            ensure!(session.line()?.starts_with('+'), "IDLE was refused");
            server.deliver(imap_server::large_message(1000));
            assert!(session.line()?.ends_with(" EXISTS"));
            session.send(b"DONE\r\n")?;
            session.answer(&tag)?.ok()?;
            session.logout()?;
        }
    }
    let log = server.log().join("\n");
    assert!(log.contains(&Family::V6.client().to_string()), "{log}");
    assert!(log.contains("SNI mail4.lab.test"), "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
    drop(server);
    lab.finish()
}

#[test]
fn a_crowd_knows_which_of_its_sessions_are_broken() -> Result<()> {
    let lab = Lab::new()?;
    let authority = Authority::new("Lab Root")?;
    let identity = authority.issue(&Wanted::server())?;
    let tls = identity.server_config(rustls::ALL_VERSIONS)?;
    let server = ImapServer::start(listeners(&lab)?, tls, vec![MESSAGE.to_vec()], false)?;
    let config = Arc::new(client::config(pki::trust(authority.pem())?, rustls::ALL_VERSIONS));
    let to = SocketAddr::new(Family::V4.server(), 993);
    let mut crowd = Crowd::open(40, |_| Session::open(&lab.client, to, Family::V4.name(), &config))?;
    assert_eq!(crowd.len(), 40);
    crowd.prove()?;
    let mut session = Session::open(&lab.client, to, Family::V4.name(), &config)?;
    session.enter()?;
    session.there_and_back(&imap_server::large_message(10_000_000))?;
    drop(server);
    assert_eq!(crowd.broken()?.len(), 40);
    lab.finish()
}
