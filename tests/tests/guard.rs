//! `[guard]`: which accounts log in, how often a password is guessed, how much an account fetches.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{Session, Tls};
use postern_tests::dovecot::Dovecot;
use postern_tests::imap_server::PASSWORD;
use postern_tests::lab::{Family, NAME6};
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use rustix::process::Signal;

/// Another client of the same network.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 99);
/// Messages that an account may fetch in an hour.
const SHARE: usize = 10;

/// Accounts are seen where commands are read.
fn judging() -> Policy {
    Policy::new().action("inspect = \"full\"")
}

fn dovecot(scene: &Scene) -> Result<Dovecot> {
    Dovecot::start(&scene.lab.server, &scene.identity, &Tls::ALL)
}

/// A session of a client at another address.
fn of_other(scene: &Scene) -> Result<Session> {
    let to = SocketAddr::new(Family::V4.server(), 993);
    let socket = scene.lab.client.connect_from(IpAddr::V4(OTHER), to)?;
    Session::on(socket, Family::V4.name(), &scene.client()?)
}

fn with_other(scene: &Scene) -> Result<()> {
    scene.lab.client.ip(&["address", "add", &format!("{OTHER}/24"), "dev", "eth0"]).map(drop)
}

fn log_in(session: &mut Session, account: &str, password: &str) -> Result<String> {
    Ok(session.command(&format!("LOGIN {account} {password}"))?.tagged)
}

/// Lines about the rule, and how often the status says that it refused.
fn refused(postern: &Postern<'_>, rule: &str) -> Result<(Vec<Record>, u64)> {
    let lines = postern.guarded()?.into_iter().filter(|line| line.text("rule.name") == rule).collect();
    let status = postern.status()?;
    let count = status.pointer(&format!("/guard/{}", rule.replace("guard.", "refused_")));
    Ok((lines, count.and_then(serde_json::Value::as_u64).context("no such counter")?))
}

#[test]
fn a_foreign_account_is_refused_before_the_server_sees_its_password() -> Result<()> {
    let scene = Scene::new(&judging())?;
    let server = dovecot(&scene)?;
    let postern = scene.start()?;
    // Without the setting any account logs in.
    let mut session = scene.session(Family::V4, 993)?;
    ensure!(log_in(&mut session, "trent@other.example", PASSWORD)?.starts_with("OK"));
    session.logout()?;
    let tenant = format!("[[guard.tenant]]\ndomains = [\"lab.test\"]\nnames = [\"{}\"]\n", Family::V4.name());
    scene.installation.configure(&judging().table(&tenant))?;
    postern.signal(Signal::HUP)?;
    postern.wait_log("configuration reloaded")?;
    // By another name the server is the same: its certificate says so.
    let to = SocketAddr::new(Family::V4.server(), 993);
    for name in [Family::V4.name(), NAME6] {
        let mut session = Session::open(&scene.lab.client, to, name, &scene.client()?)?;
        let told = log_in(&mut session, "mallory@other.example", PASSWORD)?;
        ensure!(told.starts_with("NO [AUTHENTICATIONFAILED] The mail gateway"), "{told}");
        let early = session.command("SELECT INBOX")?.tagged;
        ensure!(early.starts_with("NO Log in first"), "{early}");
        // mallory@other.example, in a dialogue that the server has begun.
        let tag = session.send_command("AUTHENTICATE PLAIN")?;
        ensure!(session.line()?.starts_with('+'), "the server asks");
        session.send(b"AG1hbGxvcnlAb3RoZXIuZXhhbXBsZQBvcGVuc2VzYW1l\r\n")?;
        let told = session.answer(&tag)?.tagged;
        ensure!(told.starts_with("NO [AUTHENTICATIONFAILED] The mail gateway"), "{told}");
        ensure!(log_in(&mut session, "Alice@LAB.test", PASSWORD)?.starts_with("OK"));
        session.command("SELECT INBOX")?.ok()?;
        session.logout()?;
    }
    let log = server.log();
    ensure!(log.contains("trent@other.example") && !log.contains("mallory"), "{log}");
    let (lines, count) = refused(&postern, "guard.tenant")?;
    ensure!(count == 4 && lines.len() == 4, "{count} {lines:#?}");
    ensure!(lines.iter().all(|line| line.text("user.name") == "mallory@other.example"), "{lines:#?}");
    let records = postern.wait_records(3)?;
    ensure!(
        records.iter().any(|record| record.text("event.id") == lines[0].text("event.id")),
        "{records:#?}"
    );
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn guessing_ends_at_the_gateway_and_the_right_password_from_another_client_does_not() -> Result<()> {
    let guard = judging().table("[guard]\nfailed_logins = 3\n");
    let scene = Scene::new(&guard)?;
    with_other(&scene)?;
    let server = dovecot(&scene)?;
    let postern = scene.start()?;
    let mut session = scene.session(Family::V4, 993)?;
    for guess in ["one", "two", "three"] {
        let told = log_in(&mut session, "alice", guess)?;
        ensure!(told.starts_with("NO") && !told.contains("gateway"), "{told}");
    }
    drop(session);
    let told = log_in(&mut scene.session(Family::V4, 993)?, "alice", PASSWORD)?;
    ensure!(
        told == "NO [AUTHENTICATIONFAILED] Too many logins have failed; try again in some minutes",
        "{told}"
    );
    ensure!(log_in(&mut of_other(&scene)?, "alice", PASSWORD)?.starts_with("OK"), "another client logs in");
    ensure!(
        log_in(&mut scene.session(Family::V4, 993)?, "bob", PASSWORD)?.starts_with("OK"),
        "another account"
    );
    // What was counted outlives a reload.
    scene.installation.configure(&guard.limits("idle_seconds = 2000"))?;
    postern.signal(Signal::HUP)?;
    postern.wait_log("configuration reloaded")?;
    let told = log_in(&mut scene.session(Family::V4, 993)?, "Alice", PASSWORD)?;
    ensure!(told.contains("Too many logins have failed"), "{told}");
    let log = server.log();
    let entered = log.matches("Login: user=<alice>").count();
    let (lines, count) = refused(&postern, "guard.guessing")?;
    ensure!(count == 2 && lines.len() == 2 && lines[0].text("user.name") == "alice", "{count} {lines:#?}");
    ensure!(entered == 1, "the server was asked for what the gateway refused: {log}");
    ensure!(!format!("{lines:?}{}", postern.log()).contains(PASSWORD), "a password was written");
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn an_account_fetches_so_many_messages_an_hour_on_all_of_its_clients() -> Result<()> {
    let scene = Scene::new(&judging().table(&format!("[guard]\nbodies_per_hour = {SHARE}\n")))?;
    with_other(&scene)?;
    let server = dovecot(&scene)?;
    let postern = scene.start()?;
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    for number in 0..SHARE + 2 {
        session.append(format!("Subject: {number}\r\n\r\ntext {number}\r\n").as_bytes())?;
    }
    let answer = session.command("UID FETCH 1:* (BODY.PEEK[])")?;
    ensure!(answer.tagged.starts_with("NO [LIMIT] This account"), "{}", answer.tagged);
    ensure!(answer.literals.len() == SHARE, "{} came", answer.literals.len());
    // Again, and in pieces, what was fetched still comes.
    ensure!(session.command("UID FETCH 1:3 (BODY.PEEK[])")?.ok()?.literals.len() == 3);
    session.command("UID FETCH 4 (BODY.PEEK[TEXT]<0.3>)")?.ok()?;
    let headers = session.command("UID FETCH 1:* (BODY.PEEK[HEADER])")?.ok()?;
    ensure!(headers.literals.len() == SHARE + 2, "headers count for nothing");
    let mut other = of_other(&scene)?;
    other.enter()?;
    let told = other.command(&format!("UID FETCH {} (BODY.PEEK[TEXT])", SHARE + 2))?.tagged;
    ensure!(told.starts_with("NO [LIMIT]"), "{told}");
    // Messages of another mailbox are others.
    other.command("CREATE Copies")?.ok()?;
    other.command("UID COPY 1 Copies")?.ok()?;
    other.command("SELECT Copies")?.ok()?;
    let told = other.command("FETCH 1 (BODY.PEEK[])")?.tagged;
    ensure!(told.starts_with("NO [LIMIT]"), "{told}");
    session.logout()?;
    other.logout()?;
    let (lines, count) = refused(&postern, "guard.bodies")?;
    ensure!(count == 4 && lines.len() == 1, "told once of {count}: {lines:#?}");
    drop(server);
    postern.stop()?;
    scene.finish()
}
