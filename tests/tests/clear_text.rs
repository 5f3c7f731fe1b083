//! What becomes of STARTTLS, of clear text and of implicit TLS, as `[action]` says: seen by clients and by attackers.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{self, Session};
use postern_tests::corpus::{eicar_message, make::noise};
use postern_tests::imap_server::{ImapServer, PASSWORD, USER};
use postern_tests::lab::Family;
use postern_tests::pki;
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::scripted::{self, Scripted};
use rustls::{ALL_VERSIONS, ClientConfig};

/// What a hostile server says and no client must see.
const MARK: &str = "injected-by-the-peer";
/// How long a scripted server waits for octets that must not come.
const QUIET: Duration = Duration::from_secs(2);
const MODES: [&str; 3] = ["inspect", "strip", "bypass"];
/// Octets of a message that takes many batches.
const LARGE_BYTES: usize = 3 * 1000 * 1000;

fn policy(starttls: &str, cleartext: &str) -> Policy {
    Policy::new()
        .action("inspect = \"full\"")
        .action(&format!("starttls = \"{starttls}\""))
        .action(&format!("cleartext = \"{cleartext}\""))
}

fn connect(scene: &Scene, port: u16) -> Result<TcpStream> {
    scene.lab.client.connect(scene.server(Family::V4, port))
}

/// A session in clear text whose greeting was read.
fn clear(scene: &Scene) -> Result<(Session, String)> {
    let mut session = Session::clear(connect(scene, 143)?);
    let greeting = session.greeting()?;
    Ok((session, greeting))
}

fn capabilities(session: &mut Session) -> Result<String> {
    let answer = session.command("CAPABILITY")?.ok()?;
    answer.untagged.into_iter().find(|line| line.starts_with("* CAPABILITY ")).context("no list")
}

/// A client that trusts the server's authority, and not Postern's.
fn strict(scene: &Scene) -> Result<Arc<ClientConfig>> {
    Ok(Arc::new(client::config(pki::trust(scene.roots.pem())?, ALL_VERSIONS)))
}

/// The record of a session in clear text says so, and nothing of TLS.
fn is_clear(record: &Record) -> Result<()> {
    ensure!(record.text("postern.mode") == "cleartext", "{record:#?}");
    for side in ["downstream", "upstream"] {
        for half in ["receive", "transmit"] {
            ensure!(record.text(&format!("postern.{side}.{half}.layer")) == "plain", "{record:#?}");
        }
    }
    let has_tls = |name: &&String| name.starts_with("tls.") || name.contains(".tls.");
    let told = record.0.as_object().context("no object")?.keys().find(has_tls);
    ensure!(told.is_none(), "{told:?} in a session without TLS: {record:#?}");
    Ok(())
}

fn only(postern: &Postern<'_>) -> Result<Record> {
    let mut records = postern.wait_records(1)?;
    ensure!(records.len() == 1, "{records:#?}");
    Ok(records.swap_remove(0))
}

fn commands(server: &ImapServer) -> String {
    server.log().join("\n")
}

#[test]
fn mail_in_clear_text_is_judged_as_inside_tls() -> Result<()> {
    let sample = eicar_message();
    let scene = Scene::new(&policy("strip", "inspect"))?;
    let postern = scene.start()?;
    let server = scene.serve_in_clear(vec![sample.octets.clone(), MESSAGE.to_vec()])?;
    let (mut session, greeting) = clear(&scene)?;
    assert!(!greeting.contains("STARTTLS"), "{greeting}");
    let list = capabilities(&mut session)?;
    assert!(!list.contains("STARTTLS") && list.contains("AUTH=PLAIN"), "{list}");
    session.enter()?;
    let arrived = session.fetch(1)?;
    sample.arrived_as(&sample.octets, &arrived)?;
    assert_eq!(session.fetch(2)?, MESSAGE);
    let piece = session.command("UID FETCH 1 BODY.PEEK[]<100.50>")?.ok()?;
    assert_eq!(piece.literals, [arrived[100..150].to_vec()]);
    let refused = session.append(&sample.octets).unwrap_err().to_string();
    assert!(refused.contains("NO"), "{refused}");
    session.logout()?;
    let record = only(&postern)?;
    is_clear(&record)?;
    assert!(record.succeeded(), "{record:#?}");
    assert!(record.number("postern.content.judged") > 1, "{record:#?}");
    assert!(record.number("postern.content.removed") > 0, "{record:#?}");
    assert_eq!(record.number("postern.content.refused"), 1, "{record:#?}");
    let verdicts = postern.verdicts()?;
    assert!(verdicts.iter().any(|verdict| verdict.text("postern.action") == "remove"), "{verdicts:#?}");
    for verdict in &verdicts {
        assert_eq!(verdict.text("postern.mode"), "cleartext", "{verdict:#?}");
        assert!(verdict.0.get("tls.version").is_none(), "{verdict:#?}");
        assert_eq!(verdict.text("rule.name"), "eicar", "{verdict:#?}");
    }
    let seen = commands(&server);
    assert!(seen.contains("(clear text) > ") && !seen.contains("STARTTLS"), "{seen}");
    let mut secure = scene.session(Family::V4, 993)?;
    secure.enter()?;
    assert!(secure.fetch(1)? == arrived, "the same message looks otherwise inside TLS");
    secure.logout()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn commands_that_come_with_the_login_and_mail_in_amounts_pass_in_clear_text() -> Result<()> {
    let scene = Scene::new(&policy("strip", "inspect"))?;
    let postern = scene.start()?;
    let server = scene.serve_in_clear(vec![MESSAGE.to_vec()])?;
    let (mut session, _) = clear(&scene)?;
    session.send(format!("x LOGIN {USER} {PASSWORD}\r\ny SELECT INBOX\r\nz NOOP\r\n").as_bytes())?;
    for tag in ["x", "y", "z"] {
        session.answer(tag)?.ok()?;
    }
    let text: Vec<u8> = noise(LARGE_BYTES, 7).iter().flat_map(|octet| [b'a' + octet % 26]).collect();
    let lines: Vec<u8> = text.chunks(70).flat_map(|line| [line, b"\r\n"].concat()).collect();
    session.there_and_back(&[&b"From: bob@lab.test\r\nSubject: much\r\n\r\n"[..], &lines].concat())?;
    // A login with literals, of which the first stands behind what was handed over.
    let (mut literal, _) = clear(&scene)?;
    literal.send(format!("a LOGIN {{{}}}\r\n", USER.len()).as_bytes())?;
    assert!(literal.line()?.starts_with('+'));
    literal.send(format!("{USER} {{{}}}\r\n", PASSWORD.len()).as_bytes())?;
    assert!(literal.line()?.starts_with('+'));
    literal.send(format!("{PASSWORD}\r\n").as_bytes())?;
    literal.answer("a")?.ok()?;
    literal.logout()?;
    session.logout()?;
    for record in postern.wait_records(2)? {
        is_clear(&record)?;
        assert!(record.succeeded(), "{record:#?}");
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn where_both_are_off_nobody_logs_in_and_everybody_is_told() -> Result<()> {
    let scene = Scene::new(&policy("strip", "refuse"))?;
    let said = scene.installation.command(&scene.lab.gateway, &["check"])?;
    assert!(said.stdout.contains("warn  logins: nobody can log in on ports of STARTTLS"), "{said:?}");
    let postern = scene.start()?;
    let server = scene.serve_in_clear(vec![MESSAGE.to_vec()])?;
    let (mut session, greeting) = clear(&scene)?;
    assert!(!greeting.contains("STARTTLS") && greeting.contains("LOGINDISABLED"), "{greeting}");
    let list = capabilities(&mut session)?;
    assert!(!list.contains("STARTTLS") && list.contains("LOGINDISABLED"), "{list}");
    let refused = session.command("STARTTLS")?.tagged;
    assert!(refused.starts_with("NO ") && refused.contains("STARTTLS is switched off"), "{refused}");
    let refused = session.command(&format!("LOGIN {USER} {PASSWORD}"))?.tagged;
    assert!(refused.starts_with("NO [PRIVACYREQUIRED]") && !refused.contains("STARTTLS"), "{refused}");
    session.logout()?;
    let record = only(&postern)?;
    assert_eq!(record.text("event.reason"), "no_starttls", "{record:#?}");
    assert_eq!(record.text("postern.mode"), "starttls");
    assert_eq!(record.number("postern.logins_refused"), 1);
    let seen = commands(&server);
    assert!(!seen.contains("LOGIN") && !seen.contains("STARTTLS"), "{seen}");
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn the_client_chooses_and_what_is_encrypted_on_one_side_is_encrypted_on_the_other() -> Result<()> {
    let scene = Scene::new(&policy("inspect", "inspect"))?;
    let postern = scene.start()?;
    let server = scene.serve_in_clear(vec![MESSAGE.to_vec()])?;
    let (mut session, _) = clear(&scene)?;
    let list = capabilities(&mut session)?;
    assert!(list.contains("STARTTLS") && !list.contains("LOGINDISABLED"), "{list}");
    session.noop()?;
    let mut session = session.starttls(Family::V4.name(), &scene.client()?)?;
    session.enter()?;
    assert_eq!(session.fetch(1)?, MESSAGE);
    session.logout()?;
    let record = only(&postern)?;
    assert!(record.succeeded() && record.text("postern.mode") == "starttls", "{record:#?}");
    assert_eq!(record.text("tls.version"), "1.3");
    assert_eq!(record.text("postern.upstream.tls.version"), "1.3");
    let seen = commands(&server);
    assert_eq!(seen.matches("(clear text) > ").count(), 2, "Postern's CAPABILITY and STARTTLS: {seen}");
    assert!(!seen.contains("(clear text) > LOGIN"), "{seen}");
    let (mut session, _) = clear(&scene)?;
    session.enter()?;
    let late = session.command("STARTTLS")?.tagged;
    assert!(late.starts_with("NO ") && late.contains("connect again"), "{late}");
    assert_eq!(session.fetch(1)?, MESSAGE);
    session.logout()?;
    let record = postern.wait_record("in clear text", |record| record.text("postern.mode") == "cleartext")?;
    is_clear(&record)?;
    assert!(record.succeeded(), "{record:#?}");
    assert_eq!(commands(&server).matches("STARTTLS").count(), 1, "the late one never left the gateway");
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// A server that takes logins in clear text, offers STARTTLS everywhere, and answers it with these words. Returns what it
/// got.
fn offers_starttls(mut stream: TcpStream, answer: &'static str) -> Result<String> {
    const LIST: &str = "IMAP4rev1 STARTTLS LOGIN-REFERRALS";
    stream.write_all(format!("* OK [CAPABILITY {LIST}] ready\r\n").as_bytes())?;
    let mut got = String::new();
    while let Ok(text) = scripted::line(&mut stream) {
        got.push_str(&text);
        let mut words = text.split_whitespace();
        let (tag, verb) = (words.next().unwrap_or("*"), words.next().unwrap_or_default().to_uppercase());
        let words = match verb.as_str() {
            "STARTTLS" => answer.replace("TAG", tag),
            "LOGIN" => format!("* CAPABILITY {LIST}\r\n{tag} OK [CAPABILITY {LIST}] use STARTTLS\r\n"),
            "LOGOUT" => format!("* BYE\r\n{tag} OK\r\n"),
            _ => format!("* CAPABILITY {LIST}\r\n{tag} OK [CAPABILITY {LIST}]\r\n"),
        };
        stream.write_all(words.as_bytes())?;
        if verb == "LOGOUT" {
            break;
        }
    }
    Ok(got)
}

#[test]
fn a_server_that_offers_starttls_behind_strip_is_never_asked_for_it() -> Result<()> {
    let scene = Scene::new(&policy("strip", "inspect"))?;
    let postern = scene.start()?;
    let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 143), |stream| {
        offers_starttls(stream, "TAG OK begin\r\n")
    })?;
    let (mut session, greeting) = clear(&scene)?;
    let list = capabilities(&mut session)?;
    let refused = session.command("STARTTLS")?.tagged;
    assert!(refused.starts_with("NO ") && refused.contains("switched off"), "{refused}");
    let login = session.command(&format!("LOGIN {USER} {PASSWORD}"))?.ok()?;
    let again = session.command("STARTTLS")?.tagged;
    assert!(again.starts_with("NO ") && again.contains("switched off"), "{again}");
    let later = session.command("CAPABILITY")?.ok()?;
    let shown = format!("{greeting}{list}{:?}{later:?}", login.untagged);
    assert!(!shown.contains("STARTTLS") && shown.contains("IMAP4rev1"), "{shown}");
    assert!(!login.tagged.contains("CAPABILITY IMAP4rev1 STARTTLS"), "{login:?}");
    session.logout()?;
    let got = server.result()?;
    assert!(!got.contains("STARTTLS") && got.contains("LOGIN"), "{got}");
    let record = only(&postern)?;
    is_clear(&record)?;
    assert_eq!(record.number("postern.imap.commands_refused"), 1, "{record:#?}");
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_line_that_the_server_begins_before_the_login_cannot_answer_it() -> Result<()> {
    let scene = Scene::new(&policy("strip", "inspect"))?;
    let postern = scene.start()?;
    let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 143), |mut stream| {
        stream.write_all(b"* OK ready\r\n* HALF")?;
        let early = scripted::rest(&mut stream, QUIET);
        ensure!(early.is_empty(), "in the middle of a line came {:?}", String::from_utf8_lossy(&early));
        stream.write_all(b" a1 OK forged\r\n")?;
        scripted::line(&mut stream)?;
        stream.write_all(b"a1 NO wrong password\r\n")?;
        scripted::to_end(&mut stream)
    })?;
    let (mut session, _) = clear(&scene)?;
    let login = session.command(&format!("LOGIN {USER} {PASSWORD}"))?;
    assert_eq!((login.tagged.as_str(), login.untagged.len()), ("NO wrong password", 0), "{login:?}");
    drop(session);
    server.result()?;
    is_clear(&only(&postern)?)?;
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_server_that_refuses_starttls_gets_the_login_only_where_clear_text_is_inspected() -> Result<()> {
    for cleartext in ["refuse", "inspect"] {
        let scene = Scene::new(&policy("inspect", cleartext))?;
        let postern = scene.start()?;
        let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 143), |stream| {
            offers_starttls(stream, "TAG NO injected-by-the-peer\r\n")
        })?;
        let (mut session, _) = clear(&scene)?;
        let refused = session.command("STARTTLS")?.tagged;
        assert!(refused.starts_with("NO ") && !refused.contains(MARK), "{refused}");
        let login = session.command(&format!("LOGIN {USER} {PASSWORD}"))?.tagged;
        assert_eq!(login.starts_with("OK"), cleartext == "inspect", "{login}");
        session.logout()?;
        assert_eq!(server.result()?.contains("LOGIN"), cleartext == "inspect");
        let mode = only(&postern)?.text("postern.mode").to_owned();
        assert_eq!(mode, if cleartext == "inspect" { "cleartext" } else { "starttls" });
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn behind_a_bypassed_starttls_client_and_server_have_tls_with_each_other() -> Result<()> {
    let scene = Scene::new(&policy("bypass", "refuse"))?;
    let postern = scene.start()?;
    let sample = eicar_message();
    let server =
        scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![sample.octets.clone()])?;
    let (mut session, greeting) = clear(&scene)?;
    assert!(greeting.contains("STARTTLS") && greeting.contains("LOGINDISABLED"), "{greeting}");
    let refused = session.command(&format!("LOGIN {USER} {PASSWORD}"))?.tagged;
    assert!(refused.starts_with("NO [PRIVACYREQUIRED]"), "{refused}");
    let mut session = session.starttls(Family::V4.name(), &strict(&scene)?)?;
    assert_eq!(session.shown()?.fingerprint, scene.identity.fingerprint()?);
    session.enter()?;
    assert!(session.fetch(1)? == sample.octets, "nobody looks inside");
    session.logout()?;
    let record = only(&postern)?;
    assert!(record.succeeded(), "{record:#?}");
    assert_eq!(record.text("postern.mode"), "bypass", "{record:#?}");
    assert_eq!(record.number("postern.logins_refused"), 1);
    assert!(record.number("server.bytes") > 0 && record.0.get("tls.version").is_none(), "{record:#?}");
    assert!(record.0.get("postern.content.judged").is_none(), "{record:#?}");
    assert_eq!(
        record.number("postern.server_to_client.spliced_bytes"),
        0,
        "octets of TLS are not counted as data of records: {record:#?}"
    );
    let seen = commands(&server);
    assert_eq!(seen.matches("(clear text) > ").count(), 1, "{seen}");
    assert!(seen.contains("(clear text) > STARTTLS"), "{seen}");
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn commands_behind_starttls_in_the_same_segment_end_the_session_in_every_mode() -> Result<()> {
    for cleartext in ["refuse", "inspect"] {
        for starttls in MODES {
            let scene = Scene::new(&policy(starttls, cleartext))?;
            let postern = scene.start()?;
            let server = scene.serve_in_clear(vec![MESSAGE.to_vec()])?;
            let mut stream = connect(&scene, 143)?;
            scripted::line(&mut stream)?;
            stream.write_all(format!("a STARTTLS\r\nb LOGIN {USER} {PASSWORD}\r\n").as_bytes())?;
            let told = String::from_utf8_lossy(&scripted::to_end(&mut stream)?).into_owned();
            assert!(told.starts_with("* BYE") && !told.contains("b OK"), "{starttls}, {cleartext}: {told}");
            let record = only(&postern)?;
            assert_eq!(record.text("event.reason"), "starttls_pipelined", "{starttls}, {cleartext}");
            let seen = commands(&server);
            assert!(!seen.contains("LOGIN ") && !seen.contains(PASSWORD), "{starttls}, {cleartext}: {seen}");
            drop(server);
            postern.stop()?;
            scene.finish()?;
        }
    }
    Ok(())
}

#[test]
fn text_behind_the_servers_ok_reaches_no_client_and_ends_the_session() -> Result<()> {
    for (starttls, cleartext) in [("bypass", "refuse"), ("bypass", "inspect"), ("inspect", "inspect")] {
        let scene = Scene::new(&policy(starttls, cleartext))?;
        let postern = scene.start()?;
        let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 143), |mut stream| {
            let answer = format!("TAG OK go\r\n* CAPABILITY IMAP4rev1 {MARK}\r\n");
            let mut got = scripted::until_starttls(&mut stream, &answer)?.concat().into_bytes();
            got.extend(scripted::rest(&mut stream, QUIET));
            Ok(got)
        })?;
        let mut stream = connect(&scene, 143)?;
        scripted::line(&mut stream)?;
        stream.write_all(b"a STARTTLS\r\n")?;
        let told = String::from_utf8_lossy(&scripted::to_end(&mut stream)?).into_owned();
        assert!(told.starts_with("* BYE") && !told.contains(MARK), "{starttls}: {told}");
        assert_eq!(only(&postern)?.text("event.reason"), "starttls_injected", "{starttls}, {cleartext}");
        server.result()?;
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn a_preauth_greeting_is_refused_in_clear_text_too() -> Result<()> {
    for starttls in MODES {
        let scene = Scene::new(&policy(starttls, "inspect"))?;
        let postern = scene.start()?;
        let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 143), |mut stream| {
            stream.write_all(format!("* PREAUTH {MARK}\r\n").as_bytes())?;
            Ok(scripted::rest(&mut stream, QUIET))
        })?;
        let mut stream = connect(&scene, 143)?;
        let told = String::from_utf8_lossy(&scripted::to_end(&mut stream)?).into_owned();
        assert!(told.starts_with("* BYE") && !told.contains("PREAUTH") && !told.contains(MARK), "{told}");
        assert_eq!(only(&postern)?.text("event.reason"), "preauth", "{starttls}");
        assert_eq!(server.result()?, b"");
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn tls_that_begins_in_clear_text_without_an_ok_is_never_passed_on() -> Result<()> {
    let hello = b"\x16\x03\x01\x00\x05hello\r\n";
    for (before, reason) in [
        ("a STARTTLS\r\n".to_owned(), "tls_on_starttls_port"),
        (format!("a LOGIN {USER} {PASSWORD}\r\n"), "command_framing"),
    ] {
        let scene = Scene::new(&policy("strip", "inspect"))?;
        let postern = scene.start()?;
        let server = scene.serve_in_clear(vec![MESSAGE.to_vec()])?;
        let mut stream = connect(&scene, 143)?;
        scripted::line(&mut stream)?;
        stream.write_all(before.as_bytes())?;
        scripted::line(&mut stream)?;
        stream.write_all(hello)?;
        let told = String::from_utf8_lossy(&scripted::to_end(&mut stream)?).into_owned();
        assert!(told.starts_with("* BYE Postern: "), "{told}");
        assert_eq!(only(&postern)?.text("event.reason"), reason);
        let seen = commands(&server);
        assert!(!seen.contains("hello"), "{seen}");
        drop(server);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn a_server_that_leaves_in_the_middle_of_mail_is_recorded_and_its_client_told() -> Result<()> {
    let scene = Scene::new(&policy("strip", "inspect"))?;
    let postern = scene.start()?;
    let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 143), |mut stream| {
        stream.write_all(b"* OK ready\r\n")?;
        let login = scripted::line(&mut stream)?;
        let tag = login.split(' ').next().unwrap_or("*");
        let cut = format!("{tag} OK\r\n* 1 FETCH (BODY[] {{100}}\r\n{MARK}");
        stream.write_all(cut.as_bytes())?;
        Ok(())
    })?;
    let (mut session, _) = clear(&scene)?;
    session.send(format!("a LOGIN {USER} {PASSWORD}\r\n").as_bytes())?;
    session.answer("a")?.ok()?;
    let told = String::from_utf8_lossy(&session.to_end()?).into_owned();
    assert!(told.starts_with("* BYE Postern: ") && !told.contains(MARK), "{told}");
    server.result()?;
    let record = only(&postern)?;
    is_clear(&record)?;
    assert_eq!((record.text("event.reason"), record.text("postern.side")), ("response_cut", "upstream"));
    postern.stop()?;
    scene.finish()
}

#[test]
fn implicit_tls_that_is_allowed_passes_untouched() -> Result<()> {
    let scene = Scene::new(&policy("inspect", "refuse").action("implicit = \"allow\""))?;
    let said = scene.installation.command(&scene.lab.gateway, &["check"])?;
    assert!(said.stdout.contains("warn  TLS left alone: mail is not judged under implicit TLS"), "{said:?}");
    let postern = scene.start()?;
    let sample = eicar_message();
    let server =
        scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![sample.octets.clone()])?;
    let to = scene.server(Family::V4, 993);
    let mut session = Session::open(&scene.lab.client, to, Family::V4.name(), &strict(&scene)?)?;
    assert_eq!(session.shown()?.fingerprint, scene.identity.fingerprint()?);
    session.enter()?;
    assert!(session.fetch(1)? == sample.octets, "nobody looks inside");
    session.logout()?;
    let record = only(&postern)?;
    assert!(record.succeeded() && record.text("postern.mode") == "bypass", "{record:#?}");
    assert!(record.0.get("tls.version").is_none(), "{record:#?}");
    // The setting is about 993 alone.
    let mut session = scene.session(Family::V4, 143)?;
    session.enter()?;
    sample.arrived_as(&sample.octets, &session.fetch(1)?)?;
    session.logout()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn implicit_tls_that_is_denied_tells_the_client_why_and_never_reaches_the_server() -> Result<()> {
    let scene = Scene::new(&policy("inspect", "refuse").action("implicit = \"deny\""))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let to = scene.server(Family::V4, 993);
    let mut session = Session::implicit(&scene.lab.client, to, Family::V4.name(), &scene.client()?)?;
    let told = session.line()?;
    let record = only(&postern)?;
    let words =
        format!("* BYE Postern: this gateway denies implicit TLS; reference {}", record.text("event.id"));
    assert_eq!(told, words);
    assert!(session.to_end()?.is_empty());
    assert_eq!(record.text("event.reason"), "implicit_denied", "{record:#?}");
    assert_eq!((record.text("postern.stage"), record.text("postern.side")), ("accept", "downstream"));
    assert_eq!(record.text("postern.mode"), "implicit");
    assert_eq!(record.text("tls.client.server_name"), Family::V4.name());
    assert_eq!(server.log(), [""; 0]);
    assert_eq!(postern.counter("refused_implicit")?, 1);
    let mut session = scene.session(Family::V4, 143)?;
    session.enter()?;
    assert_eq!(session.fetch(1)?, MESSAGE);
    session.logout()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}
