//! Real counterparts: Dovecot behind Postern; mbsync, curl, `openssl s_client` and Python's imaplib before it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use postern_tests::client::Tls;
use postern_tests::dovecot::Dovecot;
use postern_tests::imap_server::large_message;
use postern_tests::lab::Family;
use postern_tests::pki::sha256;
use postern_tests::postern::Policy;
use postern_tests::real_client::{Client, Errand, MATRIX, Row};
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};

/// The size of a large message.
const LARGE_BYTES: usize = 50 * 1000 * 1000;

/// Sessions at once.
const CROWD: usize = 300;

#[test]
fn the_matrix_is_pairwise() {
    let columns = |row: &Row| {
        [
            format!("{:?}", row.0),
            row.1.to_string(),
            format!("{:?}", row.2),
            format!("client {:?}", row.3),
            format!("server {:?}", row.4),
        ]
    };
    for one in 0..5 {
        for other in one + 1..5 {
            let values = |column: usize| {
                MATRIX.iter().map(|row| columns(row)[column].clone()).collect::<BTreeSet<_>>()
            };
            let pairs: BTreeSet<_> =
                MATRIX.iter().map(|row| (columns(row)[one].clone(), columns(row)[other].clone())).collect();
            assert_eq!(pairs.len(), values(one).len() * values(other).len(), "columns {one} and {other}");
        }
    }
    assert_eq!(MATRIX.iter().map(|row| row.0).collect::<BTreeSet<_>>().len(), Client::ALL.len());
}

#[test]
fn every_client_fetches_from_dovecot_that_speaks_tls_1_2() -> Result<()> {
    rows_against(Tls::V12)
}

#[test]
fn every_client_fetches_from_dovecot_that_speaks_tls_1_3() -> Result<()> {
    rows_against(Tls::V13)
}

fn rows_against(server: Tls) -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let dovecot = Dovecot::start(&scene.lab.server, &scene.identity, &[server])?;
    dovecot.deliver("1.lab", MESSAGE)?;
    let rows = MATRIX.iter().filter(|row| row.4 == server);
    for (done, &(client, port, family, tls, _)) in rows.enumerate() {
        let steered = postern.counter(family.counter())?;
        let errand = Errand {
            from: &scene.lab.client,
            family,
            port,
            tls,
            authority: &scene.installation.authority_file(),
            dir: scene.installation.dir(),
        };
        let message = client.fetch(&errand).with_context(|| postern.log())?;
        assert_eq!(String::from_utf8_lossy(&message), String::from_utf8_lossy(MESSAGE), "{client:?}");
        let records = postern.wait_records(done + 1)?;
        let record = records.get(done).context("no record")?;
        tells(record, family, port, tls, server)?;
        assert_eq!(record.text("postern.upstream.tls.server.hash.sha256"), scene.identity.fingerprint()?);
        // A SYN that a slow machine sends again is steered again.
        assert!(postern.counter(family.counter())? > steered, "{client:?} passed unsteered");
    }
    drop(dovecot);
    postern.stop()?;
    scene.finish()
}

/// What every record of a session that went well says.
fn tells(record: &Record, family: Family, port: u16, client: Tls, server: Tls) -> Result<()> {
    ensure!(record.succeeded(), "{record:#?}");
    let (mode, name) = (if port == 993 { "implicit" } else { "starttls" }, family.name());
    let expected = [
        ("event.action", "session_end"),
        ("network.protocol", "imap"),
        ("postern.mode", mode),
        ("client.ip", &family.client().to_string()),
        ("server.ip", &family.server().to_string()),
        ("tls.client.server_name", name),
        ("tls.version", client.text()),
        ("postern.upstream.tls.version", server.text()),
    ];
    for (key, value) in expected {
        ensure!(record.text(key) == value, "{key} is not {value}: {record:#?}");
    }
    ensure!(record.number("server.port") == u64::from(port), "{record:#?}");
    for key in ["event.duration", "client.port", "client.bytes"] {
        ensure!(record.number(key) > 0, "{key}: {record:#?}");
    }
    ensure!(record.number("server.bytes") >= MESSAGE.len() as u64, "{record:#?}");
    for key in ["@timestamp", "message", "tls.cipher", "postern.upstream.tls.cipher"] {
        ensure!(!record.text(key).is_empty(), "{key}: {record:#?}");
    }
    let shown = record.text("tls.server.hash.sha256");
    ensure!(
        shown.len() == 64 && shown != record.text("postern.upstream.tls.server.hash.sha256"),
        "{record:#?}"
    );
    Ok(())
}

#[test]
fn a_large_message_comes_down_and_goes_up_unchanged_on_both_ports() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let message = large_message(LARGE_BYTES);
    let expected = sha256(&message);
    let server =
        scene.serve_with(scene.identity.server_config(rustls::ALL_VERSIONS)?, vec![message.clone()])?;
    for (done, (family, port)) in [(Family::V4, 143), (Family::V6, 993)].into_iter().enumerate() {
        let mut session = scene.session(family, port)?;
        session.enter()?;
        assert_eq!(sha256(&session.fetch(1)?), expected, "down, port {port}");
        session.append(&message)?;
        assert_eq!(sha256(&server.message(done + 2)?[..]), expected, "up, port {port}");
        let shown = session.shown()?.fingerprint;
        session.logout()?;
        let records = postern.wait_records(done + 1)?;
        let record = records.get(done).context("no record")?;
        ensure!(record.succeeded(), "{record:#?}");
        for key in ["client.bytes", "server.bytes"] {
            ensure!(record.number(key) >= message.len() as u64, "{key}: {record:#?}");
        }
        assert_eq!(record.text("tls.server.hash.sha256"), shown);
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_large_message_goes_up_to_dovecot_and_comes_back() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let dovecot = Dovecot::start(&scene.lab.server, &scene.identity, &Tls::ALL)?;
    let message = large_message(LARGE_BYTES);
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    session.append(&message)?;
    session.command("NOOP")?.ok()?;
    assert_eq!(sha256(&session.fetch(1)?), sha256(&message));
    let kept = dovecot.messages()?;
    assert_eq!(kept.len(), 1);
    session.logout()?;
    postern.wait_records(1)?;
    drop(dovecot);
    postern.stop()?;
    scene.finish()
}

#[test]
fn three_hundred_sessions_at_once_are_all_served() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let open = |at: usize| {
        let family = if at.is_multiple_of(2) { Family::V4 } else { Family::V6 };
        let port = if at % 4 < 2 { 143 } else { 993 };
        let mut session = scene.session(family, port)?;
        session.enter()?;
        Ok(session)
    };
    let sessions = thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|worker| {
                scope
                    .spawn(move || (0..CROWD / 6).map(|at| open(worker + at * 6)).collect::<Result<Vec<_>>>())
            })
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        anyhow::Ok(all)
    })?;
    assert_eq!(sessions.len(), CROWD);
    for mut session in sessions {
        assert_eq!(session.fetch(1)?, MESSAGE);
        session.logout()?;
    }
    let records = postern.wait_records(CROWD)?;
    assert_eq!(records.iter().filter(|record| record.succeeded()).count(), CROWD);
    assert_eq!(postern.counter("steered_ipv4")? + postern.counter("steered_ipv6")?, CROWD as u64);
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_session_that_idles_is_told_of_new_mail() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let dovecot = Dovecot::start(&scene.lab.server, &scene.identity, &Tls::ALL)?;
    dovecot.deliver("1.lab", MESSAGE)?;
    for (at, (family, port)) in [(Family::V6, 143), (Family::V4, 993)].into_iter().enumerate() {
        let mut session = scene.session(family, port)?;
        session.enter()?;
        let tag = session.send_command("IDLE")?;
        ensure!(session.line()?.starts_with('+'), "IDLE was refused");
        // Silence first: the test must fail for a relay that notices new mail only with other traffic.
        thread::sleep(Duration::from_secs(1));
        dovecot.deliver(&format!("{}.lab", at + 2), MESSAGE)?;
        let told = format!("* {} EXISTS", at + 2);
        while session.line()? != told {}
        session.send(b"DONE\r\n")?;
        session.answer(&tag)?.ok()?;
        session.logout()?;
    }
    let records = postern.wait_records(2)?;
    assert!(records.iter().all(Record::succeeded), "{records:#?}");
    drop(dovecot);
    postern.stop()?;
    scene.finish()
}

#[test]
fn the_server_sees_the_gateway_and_the_name_that_the_client_asked_for() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    for family in Family::ALL {
        for port in [143, 993] {
            let before = server.log().len();
            scene.session(family, port)?.logout()?;
            let log = server.log().split_off(before).join("\n");
            assert!(
                log.contains(&SocketAddr::new(family.gateway_wan(), 0).to_string().replace(":0", ":")),
                "{log}"
            );
            assert!(!log.contains(&family.client().to_string()), "{log}");
            assert!(log.contains(&format!("SNI {}", family.name())), "{log}");
        }
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}
