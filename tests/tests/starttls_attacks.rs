//! Attacks on STARTTLS and on the border between clear text and TLS, by scripted peers over sockets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{self, Session};
use postern_tests::imap_server::{ImapServer, PASSWORD, USER};
use postern_tests::lab::Family;
use postern_tests::pki;
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::scripted::{self, Scripted};
use rustls::ALL_VERSIONS;

/// What a hostile peer says in clear text and the other must never see.
const MARK: &str = "injected-by-the-peer";

/// `alice` and the password as SASL PLAIN.
const SASL_PLAIN: &str = "AGFsaWNlAG9wZW5zZXNhbWU=";

/// How long a scripted server waits for octets that must not come.
const QUIET: Duration = Duration::from_secs(2);

const LINE_BYTES: usize = 100 * 1000 * 1000;

fn connect(scene: &Scene, port: u16) -> Result<TcpStream> {
    scene.lab.client.connect(scene.server(Family::V4, port))
}

/// A connection to 143 whose greeting was read.
fn greeted(scene: &Scene) -> Result<TcpStream> {
    let mut stream = connect(scene, 143)?;
    let greeting = scripted::line(&mut stream)?;
    ensure!(greeting.starts_with("* OK"), "{greeting}");
    Ok(stream)
}

fn failure(postern: &Postern<'_>, reason: &str) -> Result<Record> {
    postern.wait_record(reason, |record| !record.succeeded() && record.text("event.reason") == reason)
}

/// The server saw neither a login nor the password.
fn saw_no_login(server: &ImapServer) {
    let log = server.log().join("\n");
    assert!(!log.contains("LOGIN") && !log.contains("AUTHENTICATE") && !log.contains(PASSWORD), "{log}");
}

/// Send these octets in one segment on a fresh session on 143, and see the session end.
fn ends_after(octets: &[u8], reason: &str) -> Result<String> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut stream = greeted(&scene)?;
    stream.write_all(octets)?;
    let told = String::from_utf8_lossy(&scripted::to_end(&mut stream)?).into_owned();
    failure(&postern, reason)?;
    saw_no_login(&server);
    assert!(!told.contains("a OK"), "{told}");
    drop(server);
    postern.stop()?;
    scene.finish()?;
    Ok(told)
}

#[test]
fn commands_behind_starttls_in_the_same_segment_are_never_executed() -> Result<()> {
    ends_after(format!("a STARTTLS\r\nb LOGIN {USER} {PASSWORD}\r\n").as_bytes(), "starttls_pipelined")
        .map(drop)
}

#[test]
fn a_second_starttls_in_the_same_segment_ends_the_session() -> Result<()> {
    ends_after(b"a STARTTLS\r\na STARTTLS\r\n", "starttls_pipelined").map(drop)
}

#[test]
fn a_bare_line_feed_ends_the_session() -> Result<()> {
    let told = ends_after(b"a STARTTLS\n", "bare_lf")?;
    assert!(told.starts_with("* BYE"), "{told}");
    Ok(())
}

#[test]
fn a_nul_octet_ends_the_session() -> Result<()> {
    let told = ends_after(b"a STARTTLS\0\r\n", "nul_octet")?;
    assert!(told.starts_with("* BYE"), "{told}");
    Ok(())
}

#[test]
fn a_client_hello_on_143_ends_the_session_with_the_reason() -> Result<()> {
    let told = ends_after(&client_hello(&[])?, "tls_on_starttls_port")?;
    assert!(told.starts_with("* BYE") && told.contains("set the client to STARTTLS"), "{told}");
    Ok(())
}

#[test]
fn a_line_of_100_mb_ends_the_session_long_before_its_end() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut stream = greeted(&scene)?;
    let chunk = [b'x'; 64 * 1024];
    stream.write_all(b"a NOOP ")?;
    let mut sent = 0;
    while sent < LINE_BYTES && stream.write_all(&chunk).is_ok() {
        sent += chunk.len();
    }
    assert!(sent < LINE_BYTES, "100 MB of one line were taken");
    failure(&postern, "line_too_long")?;
    saw_no_login(&server);
    drop((stream, server));
    postern.stop()?;
    scene.finish()
}

#[test]
fn starttls_in_lower_case_is_starttls() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut session = Session::clear(connect(&scene, 143)?);
    session.greeting()?;
    // The session's own STARTTLS follows the one that is answered here: so say it by hand and go on from there.
    let noop = session.command("noop")?;
    assert!(noop.tagged.starts_with("OK"), "{noop:?}");
    let mut stream = greeted(&scene)?;
    stream.write_all(b"a starttls\r\n")?;
    let answer = scripted::line(&mut stream)?;
    assert!(answer.starts_with("a OK"), "{answer}");
    drop((session, stream, server));
    postern.stop()?;
    scene.finish()
}

#[test]
fn starttls_with_a_trailing_space_is_no_starttls() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut stream = greeted(&scene)?;
    stream.write_all(b"a STARTTLS \r\n")?;
    let answer = scripted::line(&mut stream)?;
    assert!(answer.starts_with("a BAD"), "{answer}");
    drop((stream, server));
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_login_in_clear_text_is_refused_and_never_leaves_the_gateway() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 143), |mut stream| {
        stream.write_all(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n")?;
        scripted::to_end(&mut stream)
    })?;
    let mut stream = greeted(&scene)?;
    for attempt in [
        format!("a LOGIN {USER} {PASSWORD}\r\n"),
        format!("a login \"{USER}\" \"{PASSWORD}\"\r\n"),
        format!("a AUTHENTICATE PLAIN {SASL_PLAIN}\r\n"),
        format!("a LOGIN {{{}+}}\r\n{USER} {{{}+}}\r\n{PASSWORD}\r\n", USER.len(), PASSWORD.len()),
        format!("a LOGIN {{{}}}\r\n", USER.len()),
        "a AUTHENTICATE PLAIN\r\n".to_owned(),
    ] {
        stream.write_all(attempt.as_bytes())?;
        let answer = scripted::line(&mut stream)?;
        assert!(answer.starts_with("a NO [PRIVACYREQUIRED]"), "{attempt:?} was answered {answer:?}");
    }
    stream.write_all(b"b LOGOUT\r\n")?;
    scripted::to_end(&mut stream)?;
    drop(stream);
    let wire = String::from_utf8_lossy(&server.result()?).into_owned();
    assert!(!wire.contains(PASSWORD) && !wire.contains(SASL_PLAIN) && !wire.contains("LOGIN"), "{wire}");
    let said = format!("{}{:?}", postern.log(), postern.wait_records(1)?);
    assert!(!said.contains(PASSWORD) && !said.contains(SASL_PLAIN), "{said}");
    postern.stop()?;
    scene.finish()
}

/// What a client gets from a server that speaks by `script` until STARTTLS was tried once, and what that server got.
fn against(
    script: impl FnOnce(TcpStream) -> Result<Vec<u8>> + Send + 'static,
) -> Result<(String, String, Record)> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 143), script)?;
    let mut stream = connect(&scene, 143)?;
    let mut told = scripted::line(&mut stream)?;
    if told.starts_with("* OK") {
        stream.write_all(b"a STARTTLS\r\n")?;
        if let Ok(answer) = scripted::line(&mut stream) {
            let refused = answer.starts_with("a NO");
            told.push_str(&answer);
            if refused {
                // A careless client goes on in clear text.
                let _ = stream.write_all(format!("b LOGIN {USER} {PASSWORD}\r\n").as_bytes());
                told.push_str(&scripted::line(&mut stream).unwrap_or_default());
            }
            scripted::half_close(&stream);
        }
    }
    told.push_str(&String::from_utf8_lossy(&scripted::to_end(&mut stream)?));
    drop(stream);
    let got = String::from_utf8_lossy(&server.result()?).into_owned();
    let record = postern.wait_records(1)?.into_iter().next().context("no record")?;
    assert!(!told.contains(MARK), "{told}");
    assert!(!told.contains("a OK"), "{told}");
    assert!(!got.contains("LOGIN") && !got.contains(PASSWORD), "{got}");
    postern.stop()?;
    scene.finish()?;
    Ok((told, got, record))
}

/// A server that answers STARTTLS with these octets (`TAG` stands for the tag).
fn answers_starttls(answer: &str) -> Result<(String, String, Record)> {
    let answer = answer.to_owned();
    against(move |mut stream| {
        let mut got = scripted::until_starttls(&mut stream, &answer)?.concat().into_bytes();
        got.extend(scripted::rest(&mut stream, QUIET));
        Ok(got)
    })
}

#[test]
fn text_behind_the_servers_ok_never_reaches_the_client() -> Result<()> {
    let (_, _, record) = answers_starttls(&format!("TAG OK go\r\n* BYE {MARK}\r\n"))?;
    assert_eq!(record.text("event.reason"), "starttls_injected", "{record:#?}");
    assert_eq!(record.text("event.outcome"), "failure");
    Ok(())
}

#[test]
fn a_servers_untagged_answers_before_tls_never_reach_the_client() -> Result<()> {
    let (told, _, _) = answers_starttls(&format!("* OK [ALERT] {MARK}\r\n* 9 EXISTS\r\nTAG NO {MARK}\r\n"))?;
    assert!(!told.contains("EXISTS"), "{told}");
    Ok(())
}

#[test]
fn a_server_that_refuses_starttls_gets_no_login_and_the_client_a_no() -> Result<()> {
    let (told, _, record) = answers_starttls(&format!("TAG NO {MARK}\r\n"))?;
    let refusal = format!("refused STARTTLS; reference {}\r\n", record.text("event.id"));
    assert!(told.contains("\r\na NO ") && told.contains(&refusal), "{told}");
    assert!(told.contains("b NO [PRIVACYREQUIRED]"), "{told}");
    assert!(!record.succeeded(), "{record:#?}");
    Ok(())
}

#[test]
fn a_server_without_starttls_gets_no_login_and_the_client_a_no() -> Result<()> {
    let (told, got, record) = against(|mut stream| {
        stream.write_all(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n")?;
        let mut got = String::new();
        while let Ok(text) = scripted::line(&mut stream) {
            let tag = text.split(' ').next().unwrap_or("*").to_owned();
            got.push_str(&text);
            let answer = if text.to_uppercase().contains("CAPABILITY") {
                format!("* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n{tag} OK done\r\n")
            } else {
                format!("{tag} BAD unknown\r\n")
            };
            stream.write_all(answer.as_bytes())?;
        }
        Ok(got.into_bytes())
    })?;
    assert!(told.contains("\r\na NO "), "{told}");
    assert!(
        got.to_uppercase().contains("STARTTLS"),
        "it must be tried: the list may have been stripped. {got}"
    );
    assert!(!record.succeeded(), "{record:#?}");
    Ok(())
}

/// A server that opens with these octets.
fn opens(greeting: &'static str) -> Result<(String, Record)> {
    let (told, _, record) = against(move |mut stream| {
        stream.write_all(greeting.as_bytes())?;
        Ok(scripted::rest(&mut stream, QUIET))
    })?;
    assert!(told.starts_with("* BYE"), "{told}");
    assert!(!record.succeeded(), "{record:#?}");
    Ok((told, record))
}

#[test]
fn preauth_on_143_never_reaches_the_client() -> Result<()> {
    let (told, record) = opens("* PREAUTH injected-by-the-peer\r\n")?;
    assert!(!told.contains("PREAUTH"), "{told}");
    assert_eq!(record.text("event.reason"), "preauth", "{record:#?}");
    Ok(())
}

#[test]
fn a_server_that_says_good_bye_is_told_to_the_client_in_our_words() -> Result<()> {
    let (_, record) = opens("* BYE injected-by-the-peer\r\n")?;
    assert_eq!(record.text("event.reason"), "server_bye", "{record:#?}");
    Ok(())
}

#[test]
fn a_server_on_143_that_speaks_http_is_refused() -> Result<()> {
    opens("HTTP/1.1 400 injected-by-the-peer\r\n\r\n").map(drop)
}

/// A TLS ClientHello with these ALPN names, as octets.
fn client_hello(alpn: &[&[u8]]) -> Result<Vec<u8>> {
    let mut config = client::config(Arc::new(rustls::RootCertStore::empty()), ALL_VERSIONS);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), Family::V4.name().try_into()?)?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    Ok(hello)
}

#[test]
fn clear_text_and_http_on_993_end_before_the_server_is_touched() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    for (at, octets) in [
        &b"a CAPABILITY\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: mail\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\na LOGIN alice opensesame\r\n",
        b"\0\0\0\0\0\0\0\0",
    ]
    .iter()
    .enumerate()
    {
        let mut stream = connect(&scene, 993)?;
        stream.write_all(octets)?;
        let told = scripted::to_end(&mut stream)?;
        assert!(!told.starts_with(b"*") && !told.starts_with(b"a "), "{}", String::from_utf8_lossy(&told));
        assert!(!postern.wait_records(at + 1)?[at].succeeded());
    }
    assert_eq!(server.log(), [""; 0]);
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn alpn_imap_is_agreed_and_http_is_refused() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let config = |names: &[&str]| -> Result<_> {
        let mut config = client::config(pki::trust(scene.installation.authority_pem())?, ALL_VERSIONS);
        config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    };
    let to = scene.server(Family::V4, 993);
    for names in [&["h2"][..], &["http/1.1"], &["h2", "http/1.1"]] {
        let refused = Session::implicit(&scene.lab.client, to, Family::V4.name(), &config(names)?);
        assert!(refused.is_err(), "{names:?} was accepted");
    }
    for names in [&["imap"][..], &["h2", "imap"]] {
        let mut session = Session::implicit(&scene.lab.client, to, Family::V4.name(), &config(names)?)?;
        session.greeting()?;
        assert_eq!(session.tls()?.alpn_protocol(), Some(&b"imap"[..]));
        session.enter()?;
        assert_eq!(session.fetch(1)?, MESSAGE);
        session.logout()?;
    }
    let records = postern.wait_records(5)?;
    assert_eq!(records.iter().filter(|record| record.succeeded()).count(), 2, "{records:#?}");
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_second_starttls_inside_tls_is_the_servers_to_refuse() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut session = scene.session(Family::V4, 143)?;
    let answer = session.command("STARTTLS")?;
    assert!(answer.tagged.starts_with("BAD") || answer.tagged.starts_with("NO"), "{answer:?}");
    session.enter()?;
    session.logout()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_starttls_line_in_single_octets_starts_tls() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut stream = greeted(&scene)?;
    for octet in b"a STARTTLS\r\n" {
        stream.write_all(&[*octet])?;
        std::thread::sleep(Duration::from_millis(2));
    }
    let answer = scripted::line(&mut stream)?;
    assert!(answer.starts_with("a OK"), "{answer}");
    stream.write_all(&client_hello(&[])?)?;
    let mut first = [0; 3];
    stream.read_exact(&mut first)?;
    assert_eq!(first[0], 22, "a handshake record was expected");
    drop((stream, server));
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_client_that_leaves_before_starttls_is_recorded() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let stream = greeted(&scene)?;
    let from: SocketAddr = stream.local_addr()?;
    drop(stream);
    let record = postern
        .wait_record("the client's port", |record| record.number("client.port") == u64::from(from.port()))?;
    assert_eq!(record.text("postern.mode"), "starttls");
    drop(server);
    postern.stop()?;
    scene.finish()
}
