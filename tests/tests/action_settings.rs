//! What `[action.general]` and `[action.capabilities]` do: seen by clients, and by a real server behind Postern.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{Session, Tls};
use postern_tests::dovecot::Dovecot;
use postern_tests::imap_server::{PASSWORD, USER};
use postern_tests::lab::Family;
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::wait::{self, PATIENCE};

/// alice and her password, in base64: the lines of AUTHENTICATE LOGIN.
const LOGIN_LINES: [&str; 2] = ["YWxpY2U=", "b3BlbnNlc2FtZQ=="];
const PORTS: [u16; 2] = [143, 993];

fn policy(table: &str, lines: &str) -> Policy {
    Policy::new().action("inspect = \"full\"").table(&format!("[action.{table}]\n{lines}"))
}

fn dovecot(scene: &Scene) -> Result<Dovecot> {
    let dovecot = Dovecot::start(&scene.lab.server, &scene.identity, &Tls::ALL)?;
    dovecot.log_commands()?;
    dovecot.deliver("one", MESSAGE)?;
    Ok(dovecot)
}

/// A session inside TLS, and all that its peer said by itself: the greeting, which on 143 stands before TLS.
fn open(scene: &Scene, port: u16) -> Result<(Session, String)> {
    let to = scene.server(Family::V4, port);
    if port == 993 {
        let mut session = Session::implicit(&scene.lab.client, to, Family::V4.name(), &scene.client()?)?;
        let greeting = session.greeting()?;
        return Ok((session, greeting));
    }
    let mut session = Session::clear(scene.lab.client.connect(to)?);
    let greeting = session.greeting()?;
    Ok((session.starttls(Family::V4.name(), &scene.client()?)?, greeting))
}

/// What a command is answered, line by line.
fn says(session: &mut Session, command: &str) -> Result<String> {
    let answer = session.command(command)?;
    Ok(format!("{}\n{}", answer.untagged.join("\n"), answer.tagged))
}

/// A command is refused with these words.
fn refused(session: &mut Session, command: &str, status: &str, words: &str) -> Result<()> {
    let tagged = session.command(command)?.tagged;
    ensure!(tagged.starts_with(status) && tagged.contains(words), "{command}: {tagged}");
    Ok(())
}

fn lists(text: &str, capability: &str) -> bool {
    text.split(['[', ']', ' ', '\n']).any(|word| word == capability)
}

/// What the server got behind its logins.
fn seen(dovecot: &Dovecot) -> Result<String> {
    Ok(dovecot.commands()?.into_values().collect())
}

fn ended(postern: &Postern<'_>, what: &str) -> Result<()> {
    wait::until(what, PATIENCE, || {
        let active = postern.status()?.pointer("/sessions/active").and_then(serde_json::Value::as_u64);
        Ok((active == Some(0)).then_some(()))
    })
}

#[test]
fn a_hidden_capability_is_in_no_list_and_its_command_never_reaches_the_server() -> Result<()> {
    const HIDDEN: [&str; 5] = ["IDLE", "SORT", "CONDSTORE", "ID", "UIDPLUS"];
    let scene = Scene::new(&policy("capabilities", &format!("hide = {HIDDEN:?}")))?;
    let postern = scene.start()?;
    let dovecot = dovecot(&scene)?;
    for port in PORTS {
        let (mut session, greeting) = open(&scene, port)?;
        let before = says(&mut session, "CAPABILITY")?;
        let login = says(&mut session, &format!("LOGIN {USER} {PASSWORD}"))?;
        let after = says(&mut session, "CAPABILITY")?;
        let told = [greeting, before, login, after].join("\n");
        // Dovecot has all of these, and QRESYNC and SORT=DISPLAY are built on them.
        for capability in HIDDEN.iter().chain(&["QRESYNC", "SORT=DISPLAY"]) {
            assert!(!lists(&told, capability), "{capability} on {port}: {told}");
        }
        assert!(lists(&told, "MOVE") && lists(&told, "THREAD=REFS"), "{told}");
        for (command, capability) in
            [("IDLE", "IDLE"), ("ID (\"name\" \"spy\")", "ID"), ("SELECT INBOX (CONDSTORE)", "CONDSTORE")]
        {
            refused(&mut session, command, "BAD ", &format!("{capability}, which this gateway hides"))?;
        }
        session.command("SELECT INBOX")?.ok()?;
        for (command, capability) in [
            ("SORT (DATE) UTF-8 ALL", "SORT"),
            ("UID EXPUNGE 7", "UIDPLUS"),
            ("FETCH 1 MODSEQ", "CONDSTORE"),
            ("SEARCH MODSEQ 1", "CONDSTORE"),
        ] {
            refused(&mut session, command, "BAD ", &format!("{capability}, which this gateway hides"))?;
        }
        assert_eq!(says(&mut session, "ENABLE QRESYNC")?.lines().next(), Some("* ENABLED"));
        assert_eq!(session.fetch(1)?, MESSAGE);
        session.logout()?;
    }
    for record in postern.wait_records(2)? {
        assert_eq!(record.number("postern.imap.commands_refused"), 8, "{record:#?}");
    }
    let seen = seen(&dovecot)?;
    assert!(seen.contains("SELECT INBOX"), "{seen}");
    for word in ["IDLE", "SORT", "CONDSTORE", "spy", "UID EXPUNGE", "MODSEQ", "ENABLE"] {
        assert!(!seen.contains(word), "{word}: {seen}");
    }
    drop(dovecot);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_client_logs_in_by_the_mechanism_that_is_left_and_by_no_other() -> Result<()> {
    let scene = Scene::new(&policy("capabilities", "mechanisms = [\"LOGIN\"]\nlogin = false"))?;
    let postern = scene.start()?;
    let dovecot = dovecot(&scene)?;
    for port in PORTS {
        let (mut session, _) = open(&scene, port)?;
        let list = says(&mut session, "CAPABILITY")?;
        assert!(lists(&list, "AUTH=LOGIN") && lists(&list, "LOGINDISABLED"), "{list}");
        assert!(!lists(&list, "AUTH=PLAIN"), "{list}");
        // The first answer is the refusal: nobody asks for the password.
        refused(&mut session, "AUTHENTICATE PLAIN", "NO ", "PLAIN is not let through")?;
        refused(&mut session, &format!("LOGIN {USER} {PASSWORD}"), "NO ", "LOGIN is switched off")?;
        refused(&mut session, &format!("LOGIN {{{}}}", USER.len()), "NO ", "LOGIN is switched off")?;
        let tag = session.send_command("AUTHENTICATE LOGIN")?;
        for line in LOGIN_LINES {
            assert!(session.line()?.starts_with('+'));
            session.send(format!("{line}\r\n").as_bytes())?;
        }
        session.answer(&tag)?.ok()?;
        session.command("SELECT INBOX")?.ok()?;
        assert_eq!(session.fetch(1)?, MESSAGE);
        session.logout()?;
    }
    let log = dovecot.log();
    assert!(log.contains("method=LOGIN") && !log.contains("method=PLAIN"), "{log}");
    drop(dovecot);
    postern.stop()?;
    scene.finish()
}

#[test]
fn in_clear_text_no_login_that_is_hidden_reaches_the_server() -> Result<()> {
    let lines = "hide = [\"IDLE\", \"ID\"]\nmechanisms = [\"LOGIN\"]\nlogin = false";
    let policy =
        policy("capabilities", lines).action("starttls = \"strip\"").action("cleartext = \"inspect\"");
    let scene = Scene::new(&policy)?;
    let postern = scene.start()?;
    let server = scene.serve_in_clear(vec![MESSAGE.to_vec()])?;
    let mut session = Session::clear(scene.lab.client.connect(scene.server(Family::V4, 143))?);
    session.greeting()?;
    let list = says(&mut session, "CAPABILITY")?;
    assert!(lists(&list, "LOGINDISABLED") && !lists(&list, "AUTH=PLAIN"), "{list}");
    assert!(!lists(&list, "IDLE") && !lists(&list, "ID"), "{list}");
    refused(&mut session, "ID NIL", "BAD ", "this gateway hides it")?;
    refused(&mut session, &format!("LOGIN {USER} {PASSWORD}"), "NO ", "LOGIN is switched off")?;
    refused(&mut session, "AUTHENTICATE PLAIN", "NO ", "PLAIN is not let through")?;
    session.logout()?;
    let seen = server.log().join("\n");
    assert!(!seen.contains("> LOGIN") && !seen.contains("AUTHENTICATE") && !seen.contains("> ID"), "{seen}");
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn which_software_a_server_is_stays_hidden_in_every_answer_of_a_session() -> Result<()> {
    for hides in [false, true] {
        let scene = Scene::new(&policy("general", &format!("hide_banner = {hides}")))?;
        let postern = scene.start()?;
        let dovecot = dovecot(&scene)?;
        for port in PORTS {
            let (mut session, mut told) = open(&scene, port)?;
            for command in [
                "ID NIL".to_owned(),
                format!("LOGIN {USER} wrong"),
                format!("LOGIN {USER} {PASSWORD}"),
                "SELECT INBOX".to_owned(),
                "NOOP".to_owned(),
            ] {
                told.push_str(&says(&mut session, &command)?);
            }
            assert_eq!(session.fetch(1)?, MESSAGE);
            told.push_str(&says(&mut session, "LOGOUT")?);
            assert_eq!(told.contains("Dovecot"), !hides, "on {port}: {told}");
            assert_eq!(told.contains("Logged in"), !hides, "on {port}: {told}");
            // What is not about the server is as it was.
            assert!(told.contains("[AUTHENTICATIONFAILED] Auth") && told.contains("[UIDVALIDITY "), "{told}");
            assert!(told.contains("READ-WRITE]") && lists(&told, "MOVE"), "{told}");
        }
        drop(dovecot);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

/// All that comes until the end of the stream.
fn rest(stream: &mut TcpStream) -> Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

#[test]
fn a_command_over_the_length_of_lines_ends_the_session_on_both_ports() -> Result<()> {
    let scene = Scene::new(&policy("general", "line_length = 1000"))?;
    let postern = scene.start()?;
    let dovecot = dovecot(&scene)?;
    let padded = |begin: &str, octets: usize| format!("{begin}{}", "x".repeat(octets - begin.len() - 2));
    for port in PORTS {
        let (mut session, _) = open(&scene, port)?;
        session.enter()?;
        // The tag is `a` and a number of one digit.
        session.command(&padded("SEARCH SUBJECT ", 1000 - "a9 ".len()))?.ok()?;
        session.send_command(&padded("SEARCH SUBJECT ", 1001 - "a9 ".len()))?;
        let told = session.line()?;
        assert!(
            told.starts_with("* BYE ") && told.contains("longer than this gateway lets through"),
            "{told}"
        );
    }
    let mut stream = scene.lab.client.connect(scene.server(Family::V4, 143))?;
    stream.write_all(padded("a NOOP ", 1001).as_bytes())?;
    stream.write_all(b"\r\n")?;
    let told = rest(&mut stream)?;
    assert!(told.contains("* BYE ") && told.contains("line too long"), "{told}");
    let records = postern.wait_records(3)?;
    for record in &records {
        assert_eq!(record.text("event.reason"), "line_too_long", "{record:#?}");
        assert_eq!(record.text("postern.side"), "downstream");
        assert!(record.text("message").contains("more than 1000 octets"), "{record:#?}");
    }
    let stages: Vec<&str> = records.iter().map(|record| record.text("postern.stage")).collect();
    assert_eq!(stages.iter().filter(|stage| **stage == "inspect").count(), 2, "{stages:?}");
    assert_eq!(stages.iter().filter(|stage| **stage == "starttls").count(), 1, "{stages:?}");
    let seen = seen(&dovecot)?;
    assert_eq!(seen.matches("SEARCH SUBJECT").count(), 2, "only those that fit: {seen}");
    drop(dovecot);
    postern.stop()?;
    scene.finish()
}

#[test]
fn the_time_before_mail_is_the_actions_own() -> Result<()> {
    let scene = Scene::new(&policy("general", "handshake_seconds = 1").limits("handshake_seconds = 300"))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let silent: Vec<TcpStream> = PORTS
        .iter()
        .map(|port| scene.lab.client.connect(scene.server(Family::V4, *port)))
        .collect::<Result<_>>()?;
    for record in postern.wait_records(2)? {
        assert_eq!(record.text("event.reason"), "silent", "{record:#?}");
        assert!(record.text("message").contains(": 1 s have passed"), "{record:#?}");
    }
    drop((silent, server));
    postern.stop()?;
    scene.finish()
}

#[test]
fn without_records_of_sessions_only_what_is_no_session_in_order_is_written() -> Result<()> {
    let scene = Scene::new(&policy("general", "log_sessions = false"))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    for port in PORTS {
        let (mut session, _) = open(&scene, port)?;
        session.enter()?;
        assert_eq!(session.fetch(1)?, MESSAGE);
        session.logout()?;
    }
    ended(&postern, "the end of the sessions in order")?;
    let (mut session, _) = open(&scene, 993)?;
    session.enter()?;
    refused(&mut session, "XYZZY", "BAD ", "is not let through")?;
    session.logout()?;
    ended(&postern, "the end of the session with a refused command")?;
    let mut clear = Session::clear(scene.lab.client.connect(scene.server(Family::V4, 143))?);
    clear.greeting()?;
    refused(&mut clear, &format!("LOGIN {USER} {PASSWORD}"), "NO ", "no login in clear text")?;
    clear.logout()?;
    let records = postern.wait_records(2)?;
    let told = |record: &Record| {
        (
            record.text("event.reason").to_owned(),
            record.0.get("postern.imap.commands_refused").and_then(serde_json::Value::as_u64),
        )
    };
    let told: Vec<_> = records.iter().map(told).collect();
    assert_eq!(told, [("closed".to_owned(), Some(1)), ("no_starttls".to_owned(), None)], "{records:#?}");
    assert!(postern.starts()?.is_empty());
    let status = postern.status()?;
    let accepted = status.pointer("/sessions/accepted_total").context("no counter")?;
    assert_eq!(accepted, 4, "sessions without a record are counted: {status:#}");
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_client_that_is_left_alone_has_tls_with_its_server_and_another_one_is_inspected() -> Result<()> {
    for family in Family::ALL {
        let policy = Policy::new().action(&format!("bypass_clients = [\"{}\"]", family.client()));
        let scene = Scene::new(&policy)?;
        let postern = scene.start()?;
        let server = scene.serve()?;
        // This client does not trust Postern's authority.
        scene.shown(scene.server(family, 993), scene.roots.pem())?;
        let record = postern.wait_record("left alone", |record| record.text("postern.mode") == "bypass")?;
        assert!(record.succeeded(), "{record:#?}");
        // The other family's address of the same client is another client.
        let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
        let mut session = scene.session(other, 993)?;
        session.enter()?;
        session.logout()?;
        drop(server);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn each_of_two_policies_has_the_settings_of_its_action() -> Result<()> {
    let rule = |family: Family, action: &str| {
        let (name, client) = (family.name(), family.client());
        format!("[[policy]]\nname = \"{name}\"\nfrom = [\"{client}\"]\nproxy_action = \"{action}\"\n")
    };
    let policy = Policy::new()
        .table("[proxy_action.Narrow.general]\nhide_banner = true\nlog_sessions = false")
        .table("[proxy_action.Narrow.capabilities]\nhide = [\"IDLE\"]\n[proxy_action.Wide]")
        .table(&rule(Family::V4, "Narrow"))
        .table(&rule(Family::V6, "Wide"));
    let scene = Scene::new(&policy)?;
    let postern = scene.start()?;
    let dovecot = dovecot(&scene)?;
    for (family, is_narrow) in [(Family::V4, true), (Family::V6, false)] {
        let to = scene.server(family, 993);
        let mut session = Session::implicit(&scene.lab.client, to, family.name(), &scene.client()?)?;
        let told = format!("{}\n{}", session.greeting()?, says(&mut session, "CAPABILITY")?);
        assert_eq!((told.contains("Dovecot"), lists(&told, "IDLE")), (!is_narrow, !is_narrow), "{told}");
        session.enter()?;
        assert_eq!(session.fetch(1)?, MESSAGE);
        session.logout()?;
        ended(&postern, "the end of the session")?;
    }
    let records = postern.wait_records(1)?;
    let told: Vec<&str> = records.iter().map(|record| record.text("postern.proxy_action")).collect();
    assert_eq!(told, ["Wide"], "{records:#?}");
    drop(dovecot);
    postern.stop()?;
    scene.finish()
}
