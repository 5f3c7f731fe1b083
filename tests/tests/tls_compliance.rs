//! Peers that deviate from TLS in the ways that docs/tls.md lists, under both words of `tls.compliance`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{Session, Tls};
use postern_tests::lab::Family;
use postern_tests::openssl::OpenSsl;
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use postern_tests::scripted::{self, Scripted};
use rustls::{ALL_VERSIONS, ClientConnection, ServerConfig, StreamOwned};

const TO: SocketAddr = SocketAddr::new(Family::V4.server(), 993);
const DOWNSTREAM: &str = "postern.downstream.tls.deviations";
const UPSTREAM: &str = "postern.upstream.tls.deviations";

fn policy(lines: &[&str]) -> Policy {
    lines.iter().fold(Policy::new(), |policy, line| policy.tls(line))
}

fn last(postern: &Postern<'_>, count: usize) -> Result<Record> {
    postern.wait_records(count)?.pop().context("no record")
}

fn implicit(scene: &Scene) -> Result<Session> {
    Session::implicit(&scene.lab.client, TO, Family::V4.name(), &scene.client()?)
}

/// What a session's peers deviated by.
fn deviations<'r>(record: &'r Record, field: &str) -> Vec<&'r str> {
    let list = record.0.get(field).and_then(serde_json::Value::as_array);
    list.into_iter().flatten().filter_map(serde_json::Value::as_str).collect()
}

/// Clients of openssl's that deviate, each with the alert that it gets where that is not tolerated.
const DEVIANTS: [(&str, &[&str], &str); 2] = [
    ("sni_address", &["-servername", "203.0.113.10"], "alert number 47"),
    ("fallback", &["-tls1_2", "-fallback_scsv"], "alert number 86"),
];

#[test]
fn a_client_that_deviates_is_noted_or_told_by_an_alert() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    for word in ["tolerant", "enforced"] {
        scene.installation.configure(&policy(&[&format!("compliance = \"{word}\"")]))?;
        let postern = scene.start()?;
        let server = scene.serve()?;
        let mut count = 0;
        for (deviation, args, alert) in DEVIANTS {
            for port in [143, 993] {
                count += 1;
                let mut openssl = OpenSsl::begin(&scene, port, args)?;
                // openssl itself does not go on behind a fallback, where it sees that TLS 1.3 is spoken.
                if word == "tolerant" && deviation != "fallback" {
                    openssl.wait("Verify return code: 0 (ok)", 1)?;
                    openssl.type_line("x1 LOGOUT")?;
                    openssl.wait("x1 OK", 1)?;
                } else {
                    openssl.wait_end()?;
                    let said = openssl.said();
                    assert_eq!(said.contains(alert), word == "enforced", "{deviation} {port}: {said}");
                }
                let record = last(&postern, count)?;
                noted(&record, word, DOWNSTREAM, deviation);
            }
        }
        // openssl takes this dot away.
        count += 1;
        let said = python(&scene, "mail4.lab.test.")?;
        let wanted = if word == "tolerant" { "* OK" } else { "ILLEGAL_PARAMETER" };
        assert!(said.contains(wanted), "{said}");
        let record = last(&postern, count)?;
        noted(&record, word, DOWNSTREAM, "sni_trailing_dot");
        assert_eq!(record.text("tls.client.server_name"), "mail4.lab.test", "{record:#?}");
        // One that does not deviate is served under both words.
        let mut session = scene.session(Family::V4, 993)?;
        session.enter()?;
        session.logout()?;
        let record = last(&postern, count + 1)?;
        assert!(deviations(&record, UPSTREAM).is_empty(), "{record:#?}");
        drop(server);
        postern.stop()?;
    }
    scene.finish()
}

#[test]
fn where_tls_1_3_is_not_spoken_a_client_that_fell_back_to_tls_1_2_does_not_deviate() -> Result<()> {
    let lines = ["compliance = \"enforced\"", "ciphers = [\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]"];
    let scene = Scene::new(&policy(&lines))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut openssl = OpenSsl::start(&scene, &["-tls1_2", "-fallback_scsv"])?;
    openssl.type_line("x1 LOGOUT")?;
    openssl.wait("x1 OK", 1)?;
    let record = last(&postern, 1)?;
    assert!(!deviations(&record, DOWNSTREAM).contains(&"fallback"), "{record:#?}");
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// What python's client says: the greeting that it read, or the alert.
fn python(scene: &Scene, name: &str) -> Result<String> {
    const SCRIPT: &str = "import socket, ssl, sys\n\
        context = ssl.create_default_context(cafile=sys.argv[3])\n\
        context.check_hostname = False\n\
        with socket.create_connection((sys.argv[1], 993), 20) as tcp:\n    \
            with context.wrap_socket(tcp, server_hostname=sys.argv[2]) as tls:\n        \
                print(tls.recv(100))\n        tls.sendall(b'a LOGOUT\\r\\n')\n        \
                while tls.recv(100): pass\n";
    let mut command = scene.lab.client.command("python3");
    command.args(["-c", SCRIPT, &Family::V4.server().to_string(), name]);
    command.arg(scene.installation.authority_file());
    let output = command.output()?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// That a session's record names a deviation, and has the end that the word gives it.
fn noted(record: &Record, word: &str, field: &str, deviation: &str) {
    assert!(deviations(record, field).contains(&deviation), "{deviation}: {record:#?}");
    let is_enforced = record.text("event.reason") == "tls_deviation";
    assert_eq!(is_enforced, word == "enforced", "{deviation}: {record:#?}");
    if is_enforced {
        let side = if field == DOWNSTREAM { "downstream" } else { "upstream" };
        assert_eq!(record.text("postern.side"), side, "{record:#?}");
        assert!(record.text("message").contains("tls.compliance"), "{record:#?}");
    }
}

/// A session over a handshake whose first flight `send` writes, until the goodbye that the client does not answer.
fn by_hand(scene: &Scene, send: &dyn Fn(&mut TcpStream, &[u8]) -> Result<()>) -> Result<()> {
    let mut tcp = scene.lab.client.connect(TO)?;
    let mut connection = ClientConnection::new(scene.client()?, Family::V4.name().try_into()?)?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    send(&mut tcp, &hello)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
    }
    let mut stream = StreamOwned::new(connection, tcp);
    ensure!(scripted::line(&mut stream)?.starts_with("* OK"), "no greeting");
    stream.write_all(b"a LOGOUT\r\n")?;
    ensure!(scripted::line(&mut stream)?.starts_with("* BYE"), "no good-bye");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    stream.conn.send_close_notify();
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(())
}

const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 1, 112];
/// rustls passes over no other alert of a client's.
const USER_CANCELED: [u8; 7] = [21, 3, 3, 0, 2, 1, 90];

#[test]
fn records_and_warnings_of_a_client_that_deviate_are_noted_or_told_by_an_alert() -> Result<()> {
    type Send = fn(&mut TcpStream, &[u8]) -> Result<()>;
    let cases: [(&str, Send, &str); 2] = [
        (
            "record_version",
            |tcp, hello| {
                let mut hello = hello.to_vec();
                hello.splice(1..3, [3, 0]);
                Ok(tcp.write_all(&hello)?)
            },
            "IllegalParameter",
        ),
        (
            "warning_alert",
            |tcp, hello| {
                tcp.write_all(hello)?;
                Ok(tcp.write_all(&USER_CANCELED)?)
            },
            "UnexpectedMessage",
        ),
    ];
    let scene = Scene::new(&Policy::new())?;
    for word in ["tolerant", "enforced"] {
        scene.installation.configure(&policy(&[&format!("compliance = \"{word}\"")]))?;
        let postern = scene.start()?;
        let server = scene.serve()?;
        for (count, (deviation, send, alert)) in (1..).zip(cases) {
            let result = by_hand(&scene, &send);
            match (word, result) {
                ("tolerant", result) => result.with_context(|| deviation)?,
                (_, Ok(())) => anyhow::bail!("{deviation} was tolerated"),
                (_, Err(error)) => ensure!(format!("{error:#}").contains(alert), "{deviation}: {error:#}"),
            }
            let record = last(&postern, count)?;
            noted(&record, word, DOWNSTREAM, deviation);
            assert_eq!(deviations(&record, DOWNSTREAM), [deviation], "{record:#?}");
        }
        drop(server);
        postern.stop()?;
    }
    scene.finish()
}

/// A server's handshake whose first flight is changed before it is sent; the alert that ended it, if one did.
fn changed(mut tcp: TcpStream, config: ServerConfig, change: fn(&mut Vec<u8>)) -> Result<Option<String>> {
    let mut connection = rustls::ServerConnection::new(Arc::new(config))?;
    while !connection.wants_write() {
        connection.read_tls(&mut tcp)?;
        connection.process_new_packets()?;
    }
    let mut flight = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut flight)?;
    }
    change(&mut flight);
    tcp.write_all(&flight)?;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut tcp) {
            return Ok(Some(error.to_string()));
        }
    }
    let mut stream = StreamOwned::new(connection, tcp);
    stream.write_all(b"* OK ready\r\n* BYE done\r\n")?;
    stream.conn.send_close_notify();
    stream.conn.complete_io(&mut stream.sock)?;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    Ok(None)
}

#[test]
fn records_and_warnings_of_a_server_that_deviate_are_noted_or_told_by_an_alert() -> Result<()> {
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change, &str); 2] = [
        ("record_version", |flight| drop(flight.splice(1..3, [3, 1])), "IllegalParameter"),
        ("warning_alert", |flight| drop(flight.splice(0..0, UNRECOGNIZED_NAME)), "UnexpectedMessage"),
    ];
    let scene = Scene::new(&Policy::new())?;
    for word in ["tolerant", "enforced"] {
        scene.installation.configure(&policy(&[&format!("compliance = \"{word}\"")]))?;
        let postern = scene.start()?;
        let mut count = 0;
        for (deviation, change, alert) in cases {
            for port in [143, 993] {
                count += 1;
                let config = scene.identity.server_config(Tls::V13.versions())?;
                let script = move |tcp| changed(tcp, config, change);
                let server = match port {
                    143 => {
                        scripted::behind_starttls(&scene.lab.server, scene.server(Family::V4, 143), script)?
                    }
                    _ => Scripted::once(&scene.lab.server, TO, script)?,
                };
                let mut session = if port == 143 { scene.starttls(Family::V4)? } else { implicit(&scene)? };
                let told = session.line()?;
                let wanted =
                    if word == "tolerant" { "* OK" } else { "* BYE Postern: the mail server deviates" };
                ensure!(told.starts_with(wanted), "{deviation} {port}: {told}");
                session.to_end()?;
                drop(session);
                let ended = server.result()?;
                let is_right = match (word, &ended) {
                    ("tolerant", ended) => ended.is_none(),
                    (_, ended) => ended.as_ref().is_some_and(|ended| ended.contains(alert)),
                };
                ensure!(is_right, "{deviation} {port}: {ended:?}");
                noted(&last(&postern, count)?, word, UPSTREAM, deviation);
            }
        }
        postern.stop()?;
    }
    scene.finish()
}

/// Of TLS 1.2, where warnings are allowed.
#[test]
fn a_warning_in_a_handshake_of_tls_1_2_is_no_deviation() -> Result<()> {
    let scene = Scene::new(&policy(&["compliance = \"enforced\""]))?;
    let postern = scene.start()?;
    let config = scene.identity.server_config(Tls::V12.versions())?;
    let change: fn(&mut Vec<u8>) = |flight| drop(flight.splice(0..0, UNRECOGNIZED_NAME));
    let server = Scripted::once(&scene.lab.server, TO, move |tcp| changed(tcp, config, change))?;
    let mut session = implicit(&scene)?;
    session.greeting()?;
    session.to_end()?;
    drop(session);
    assert_eq!(server.result()?, None);
    let record = last(&postern, 1)?;
    assert!(deviations(&record, UPSTREAM).is_empty(), "{record:#?}");
    postern.stop()?;
    scene.finish()
}

#[test]
fn an_end_without_close_notify_is_noted_or_fails_the_session() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    for word in ["tolerant", "enforced"] {
        scene.installation.configure(&policy(&[&format!("compliance = \"{word}\"")]))?;
        let postern = scene.start()?;
        // A server that announces its end and leaves.
        let config = scene.identity.server_config(ALL_VERSIONS)?;
        let server = Scripted::once(&scene.lab.server, TO, move |tcp| {
            let mut stream = scripted::accept_tls(tcp, config)?;
            stream.write_all(b"* OK ready\r\n* BYE done\r\n")?;
            stream.flush()?;
            scripted::half_close(&stream.sock);
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            Ok(())
        })?;
        let mut session = implicit(&scene)?;
        session.greeting()?;
        ensure!(session.line()?.starts_with("* BYE"), "no good-bye");
        // What the server left out is not made up for.
        ensure!(session.to_end().is_err(), "Postern said close_notify for the server");
        let (connection, mut tcp) = session.parts()?;
        connection.send_close_notify();
        connection.write_tls(&mut tcp)?;
        server.result()?;
        drop((session, tcp));
        let record = last(&postern, 1)?;
        noted(&record, word, UPSTREAM, "no_close_notify");
        assert!(deviations(&record, DOWNSTREAM).is_empty(), "{record:#?}");
        assert_eq!(record.succeeded(), word == "tolerant", "{record:#?}");
        // A client that has all it wanted and leaves.
        let server = scene.serve()?;
        let mut session = scene.session(Family::V4, 993)?;
        session.noop()?;
        let (_, tcp) = session.parts()?;
        scripted::half_close(&tcp);
        ensure!(
            session.to_end().is_err(),
            "Postern said close_notify for the server, which did not see the client's"
        );
        drop(session);
        let record = last(&postern, 2)?;
        noted(&record, word, DOWNSTREAM, "no_close_notify");
        assert_eq!(record.succeeded(), word == "tolerant", "{record:#?}");
        if word == "enforced" {
            assert_eq!(record.text("postern.stage"), "relay", "{record:#?}");
        }
        drop(server);
        postern.stop()?;
    }
    scene.finish()
}
