//! What goes wrong: peers that die, servers that do not answer, resources that run out.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use postern_tests::client::{self, Session};
use postern_tests::imap_server::large_message;
use postern_tests::lab::{EGRESS, ELSEWHERE, Family, INGRESS};
use postern_tests::netns;
use postern_tests::pki;
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::scripted::{self, Scripted};
use postern_tests::wait::{self, PATIENCE};
use rustls::ALL_VERSIONS;

/// Larger than every buffer on the way.
const LARGE_BYTES: usize = 16 * 1000 * 1000;

fn failure(postern: &Postern<'_>, reason: &str) -> Result<Record> {
    postern.wait_record(reason, |record| !record.succeeded() && record.text("event.reason") == reason)
}

/// What a client on this port is told when its server cannot serve it: after a finished handshake on 993.
fn told(scene: &Scene, to: SocketAddr) -> Result<String> {
    let mut session = match to.port() {
        993 => Session::implicit(&scene.lab.client, to, Family::V4.name(), &scene.client()?)?,
        _ => Session::clear(scene.lab.client.connect(to)?),
    };
    let told = session.line()?;
    session.to_end()?;
    Ok(told)
}

#[test]
fn a_client_that_dies_in_the_middle_of_a_literal_harms_nobody_else() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let tls = scene.identity.server_config(ALL_VERSIONS)?;
    let server = scene.serve_with(tls, vec![MESSAGE.to_vec(), large_message(LARGE_BYTES)])?;
    for (done, port) in [143, 993].into_iter().enumerate() {
        let mut down = scene.session(Family::V4, port)?;
        down.enter()?;
        down.send_command("FETCH 2 BODY[]")?;
        assert!(down.line()?.ends_with('}'));
        down.reset()?;

        let mut up = scene.session(Family::V4, port)?;
        up.enter()?;
        up.send_command("APPEND INBOX {1000000}")?;
        assert!(up.line()?.starts_with('+'));
        up.send(&[b'x'; 1000])?;
        up.reset()?;

        let records = postern.wait_records(done * 3 + 2)?;
        assert!(records.iter().skip(done * 3).all(|record| !record.succeeded()), "{records:#?}");
        scene.fetches()?;
        postern.wait_records(done * 3 + 3)?;
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_literal_ends_the_session() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let tls = scene.identity.server_config(ALL_VERSIONS)?;
    let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 993), move |tcp| {
        let mut stream = scripted::accept_tls(tcp, tls)?;
        stream.write_all(b"* OK ready\r\n* 1 FETCH (BODY[] {100000}\r\nhalf")?;
        stream.flush()?;
        // The client says that it has the half; only then comes the reset, which would overtake it.
        scripted::line(&mut stream)?;
        client::reset(stream.sock)
    })?;
    let mut session = scene.session(Family::V4, 993)?;
    assert!(session.line()?.ends_with('}'));
    session.send_command("NOOP")?;
    assert!(session.to_end().is_err() || session.line().is_err());
    server.result()?;
    let record = postern.wait_records(1)?.into_iter().next().context("no record")?;
    assert!(!record.succeeded(), "{record:#?}");
    assert_eq!(record.text("postern.side"), "upstream", "{record:#?}");
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_server_that_cannot_be_reached_is_told_to_the_client_in_words() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("connect_seconds = 2"))?;
    let postern = scene.start()?;
    for (at, (family, port)) in
        [(Family::V4, 143), (Family::V4, 993), (Family::V6, 993)].into_iter().enumerate()
    {
        let said = told(&scene, SocketAddr::new(family.silent(), port))?;
        assert!(said.starts_with("* BYE"), "{said}");
        let records = postern.wait_records(at + 1)?;
        assert_eq!(records[at].text("event.outcome"), "failure");
        assert_eq!(records[at].text("postern.side"), "upstream", "{records:#?}");
        assert_eq!(records[at].text("postern.stage"), "connect", "{records:#?}");
    }
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_server_that_refuses_is_told_to_the_client_in_words() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    for family in Family::ALL {
        for port in [143, 993] {
            let said = told(&scene, scene.server(family, port))?;
            assert!(said.starts_with("* BYE"), "{said}");
        }
    }
    let records = postern.wait_records(4)?;
    assert!(records.iter().all(|record| record.text("event.reason") == "upstream_refused"), "{records:#?}");
    postern.stop()?;
    scene.finish()
}

#[test]
fn what_a_client_is_told_refers_to_the_record_and_names_nothing_of_the_gateways() -> Result<()> {
    let allowed = Family::V4.silent();
    let reach = format!("[[steering.reach]]\ningress = [{INGRESS:?}]\nnetworks = [\"{allowed}/32\"]");
    let scene = Scene::new(&Policy::new().limits("connect_seconds = 2").table(&reach))?;
    let postern = scene.start()?;
    let to = [Family::V4.elsewhere(), Family::V4.server(), Family::V4.gateway_lan(), allowed];
    let tries = to.into_iter().flat_map(|to| [143, 993].map(|port| SocketAddr::new(to, port)));
    for (count, to) in (1..).zip(tries) {
        let said = told(&scene, to)?;
        let record = postern.wait_records(count)?.pop().context("no record")?;
        let (id, message) = (record.text("event.id"), record.text("message"));
        assert!(
            said.starts_with("* BYE Postern: ") && said.ends_with(&format!("; reference {id}")),
            "{said}"
        );
        assert!(id.len() == 36 && id.get(14..15) == Some("7"), "no UUID of version 7: {id}");
        for inside in [INGRESS, EGRESS, ELSEWHERE, "steering", "route", "2 s", &to.ip().to_string()] {
            assert!(!said.contains(inside), "{to}: {said:?} tells {inside:?}");
        }
        assert!(message.len() > said.len() / 2 && !message.contains(id), "the record says more: {record:#?}");
    }
    let mut reasons: Vec<_> = postern.records()?.iter().map(|r| r.text("event.reason").to_owned()).collect();
    reasons.dedup();
    assert_eq!(
        reasons,
        ["egress_not_configured", "egress_not_allowed", "egress_local", "upstream_unreachable"]
    );
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_silent_server_is_told_to_the_client_in_words() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("handshake_seconds = 2"))?;
    let postern = scene.start()?;
    for (at, port) in [143, 993].into_iter().enumerate() {
        let to = scene.server(Family::V4, port);
        let listener = scene.lab.server.listen(to)?;
        let said = told(&scene, to)?;
        assert!(said.starts_with("* BYE"), "{said}");
        let records = postern.wait_records(at + 1)?;
        assert_eq!(records[at].text("postern.side"), "upstream", "{records:#?}");
        drop(listener);
    }
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_silent_client_is_not_waited_for_without_bound() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("handshake_seconds = 2"))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    for (at, port) in [143, 993].into_iter().enumerate() {
        let mut stream = scene.lab.client.connect(scene.server(Family::V4, port))?;
        scripted::to_end(&mut stream)?;
        let records = postern.wait_records(at + 1)?;
        assert_eq!(records[at].text("postern.side"), "downstream", "{records:#?}");
        assert!(!records[at].succeeded(), "{records:#?}");
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn nobody_gains_time_by_going_through_the_steps_slowly() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("handshake_seconds = 3"))?;
    let postern = scene.start()?;
    // Each step takes less than the limit, both together take more.
    let pause = || std::thread::sleep(Duration::from_secs(2));
    let (to, tls) = (scene.server(Family::V4, 993), scene.identity.server_config(ALL_VERSIONS)?);
    let server = Scripted::once(&scene.lab.server, to, move |tcp| {
        pause();
        let greeted = scripted::accept_tls(tcp, tls).map(|mut stream| stream.write_all(b"* OK ready\r\n"));
        Ok(greeted.is_ok())
    })?;
    let stream = scene.lab.client.connect(to)?;
    pause();
    let ended = Session::on(stream, Family::V4.name(), &scene.client()?).map(drop);
    let ended = ended.err().context("the session began")?;
    assert!(
        format!("{ended:#}").contains("* BYE Postern: the mail server did not answer in time"),
        "{ended:#}"
    );
    let record = failure(&postern, "silent")?;
    assert_eq!(record.text("postern.side"), "upstream", "{record:#?}");
    server.result()?;
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_server_that_does_not_answer_starttls_is_the_side_that_was_waited_for() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("handshake_seconds = 2"))?;
    let postern = scene.start()?;
    let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 143), |mut stream| {
        scripted::until_starttls(&mut stream, "")?;
        scripted::to_end(&mut stream)
    })?;
    let mut session = Session::clear(scene.lab.client.connect(scene.server(Family::V4, 143))?);
    session.greeting()?;
    session.send_command("STARTTLS")?;
    let said = session.line()?;
    assert!(said.starts_with("* BYE") && said.contains("did not answer in time"), "{said}");
    let record = failure(&postern, "silent")?;
    assert_eq!(record.text("postern.side"), "upstream", "{record:#?}");
    server.result()?;
    postern.stop()?;
    scene.finish()
}

#[test]
fn when_no_ports_are_left_the_client_is_told_and_the_next_one_is_served() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    scene.lab.gateway.sysctl(&[("ipv4/ip_local_port_range", "40000 40001")])?;
    let held = [scene.session(Family::V4, 993)?, scene.session(Family::V4, 993)?];
    let said = told(&scene, scene.server(Family::V4, 993))?;
    assert!(said.starts_with("* BYE"), "{said}");
    failure(&postern, "no_ports_left")?;
    // Another destination has the same ports to itself.
    scene.session(Family::V6, 993)?.logout()?;
    drop(held);
    scene.lab.gateway.sysctl(&[("ipv4/ip_local_port_range", "32768 60999")])?;
    scene.fetches()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn when_no_descriptors_are_left_the_client_is_told_and_later_ones_are_served() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("threads = 1"))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let pid = postern.process("worker")?.to_string();
    // Numbers below the limit that are free, not numbers that are used: some may lie above it.
    let leave = |free: usize| -> Result<()> {
        let used: BTreeSet<u32> = fs::read_dir(format!("/proc/{pid}/fd"))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        let limit = (0..).filter(|number| !used.contains(number)).nth(free).context("no number is free")?;
        // As the worker's user: root may lack CAP_SYS_RESOURCE in a container.
        let user = postern_tests::postern::user(&pid)?;
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit", "--pid", &pid]);
        let output = command.arg(format!("--nofile={limit}:")).output()?;
        netns::success("prlimit", &output).map(drop)
    };
    // One session takes two descriptors; the next has one for its client and none for its server.
    leave(3)?;
    let first = scene.session(Family::V4, 993)?;
    let said = told(&scene, scene.server(Family::V4, 993))?;
    assert!(said.starts_with("* BYE"), "{said}");
    first.logout()?;
    // Who could not accept for want of a descriptor had no room, for a second at least.
    wait::until("room", PATIENCE, || {
        Ok((postern.status()?["steering"]["intake"] == "steered").then_some(()))
    })?;
    scene.fetches()?;
    leave(1000)?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// Half a message of a handshake, and another record in the middle of it (RFC 8446 section 5.1).
const HALF_SERVER_HELLO: [u8; 19] = [22, 3, 3, 0, 8, 2, 0, 0, 80, 3, 3, 1, 1, 20, 3, 3, 0, 1, 1];

#[test]
fn a_server_that_breaks_its_handshake_gets_an_alert_and_the_client_is_told_in_words() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    for (at, port) in [993, 143].into_iter().enumerate() {
        let to = scene.server(Family::V4, port);
        let server = Scripted::once(&scene.lab.server, to, move |mut tcp| {
            if port == 143 {
                scripted::until_starttls(&mut tcp, "TAG OK begin\r\n")?;
            }
            tcp.read_exact(&mut [0])?;
            tcp.write_all(&HALF_SERVER_HELLO)?;
            scripted::to_end(&mut tcp)
        })?;
        let said = match port {
            993 => told(&scene, to)?,
            _ => {
                let name = Family::V4.name();
                let mut session = Session::clear(scene.lab.client.connect(to)?);
                session.greeting()?;
                session.starttls(name, &scene.client()?)?.line()?
            }
        };
        assert!(said.starts_with("* BYE"), "{said}");
        let heard = server.result()?;
        assert!(heard.ends_with(&[21, 3, 3, 0, 2, 2, 10]), "{heard:?}");
        let records = postern.wait_records(at + 1)?;
        assert_eq!(records[at].text("event.reason"), "tls_handshake_failed", "{records:#?}");
        assert_eq!(records[at].text("postern.side"), "upstream", "{records:#?}");
    }
    assert!(!postern.log().contains("panic"), "{}", postern.log());
    postern.stop()?;
    scene.finish()
}

/// A reset, which would destroy the words where it comes first, would make these writes fail.
fn stays_open(stream: &mut TcpStream) -> Result<()> {
    for _ in 0..2 {
        stream.write_all(b"more").context("reset behind the last words")?;
    }
    Ok(())
}

#[test]
fn last_words_in_clear_text_wait_for_what_the_client_said_and_nobody_read() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("sessions_per_client = 2"))?;
    let postern = scene.start()?;
    let to = scene.server(Family::V4, 143);
    let unread = [b'x'; 100_000];
    let last_words = |first: &[u8]| -> Result<String> {
        let mut stream = scene.lab.client.connect(to)?;
        stream.write_all(&[first, &unread].concat())?;
        let told = String::from_utf8_lossy(&scripted::to_end(&mut stream)?).into_owned();
        stays_open(&mut stream)?;
        Ok(told)
    };
    // No server yet; then one, and clear text that ends the dialogue; then no room for this client.
    let told = last_words(b"a NOOP\r\n")?;
    assert!(told.starts_with("* BYE"), "{told}");
    failure(&postern, "upstream_refused")?;
    let server = scene.serve()?;
    let told = last_words(b"a NOOP\0\r\n")?;
    assert!(told.contains("* BYE"), "{told}");
    failure(&postern, "nul_octet")?;
    let held = [scene.session(Family::V4, 143)?, scene.session(Family::V4, 993)?];
    let told = last_words(b"a NOOP\r\n")?;
    assert!(told.starts_with("* BYE"), "{told}");
    assert_eq!(postern.counter("refused_client")?, 1);
    drop((held, server));
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_client_over_its_limit_is_told_on_143_and_reset_on_993() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("sessions_per_client = 2"))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let held = [scene.session(Family::V4, 143)?, scene.session(Family::V4, 993)?];
    let said = told(&scene, scene.server(Family::V4, 143))?;
    assert!(said.starts_with("* BYE"), "{said}");
    client::is_reset(&scene.lab.client, scene.server(Family::V4, 993))?;
    assert_eq!(postern.counter("refused_client")?, 2);
    // The other family is another client.
    scene.session(Family::V6, 993)?.logout()?;
    drop(held);
    wait::until("room for the client", PATIENCE, || Ok(scene.fetches().ok()))?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_listed_network_is_left_alone_and_recorded() -> Result<()> {
    let scene =
        Scene::new(&Policy::new().action(&format!("bypass = [\"{}/32\"]", Family::V4.other_server())))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    for (at, port) in [143, 993].into_iter().enumerate() {
        assert_eq!(scene.shown(scene.other(port), scene.roots.pem())?, scene.identity.fingerprint()?);
        let records = postern.wait_records(at + 1)?;
        let record = &records[at];
        assert!(record.succeeded(), "{record:#?}");
        assert_eq!(record.text("postern.mode"), "bypass", "{record:#?}");
        assert!(record.number("client.bytes") > 0 && record.number("server.bytes") > 0, "{record:#?}");
    }
    scene.fetches()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_destination_behind_another_interface_is_refused_and_recorded() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    for (at, (family, port)) in [(Family::V4, 993), (Family::V6, 143)].into_iter().enumerate() {
        let to = SocketAddr::new(family.elsewhere(), port);
        let server = Scripted::once(&scene.lab.server, to, |_| Ok(()))?;
        let said = told(&scene, to)?;
        assert!(said.starts_with("* BYE"), "{said}");
        let records = postern.wait_records(at + 1)?;
        assert_eq!(records[at].text("event.reason"), "egress_not_configured", "{records:#?}");
        assert!(server.untouched());
    }
    assert_eq!(postern.counter("refused_egress")?, 2);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_slow_client_holds_its_server_back_and_nobody_else() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let tls = scene.identity.server_config(ALL_VERSIONS)?;
    let server = scene.serve_with(tls, vec![MESSAGE.to_vec(), large_message(LARGE_BYTES)])?;
    let mut slow = scene.session(Family::V4, 993)?;
    slow.enter()?;
    let tag = slow.send_command("FETCH 2 BODY[]")?;
    for _ in 0..3 {
        scene.fetches()?;
        std::thread::sleep(Duration::from_millis(200));
    }
    let answer = slow.answer(&tag)?.ok()?;
    assert_eq!(pki::sha256(&answer.literals[0]), pki::sha256(&large_message(LARGE_BYTES)));
    slow.logout()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn who_is_not_root_is_told_so() -> Result<()> {
    let exe = std::env::current_exe()?;
    // As nobody, from a copy that nobody can read.
    let dir = tempfile::tempdir()?;
    let copy = dir.path().join("faults");
    fs::copy(exe, &copy)?;
    rustix::fs::chmod(dir.path(), rustix::fs::Mode::from_raw_mode(0o755))?;
    rustix::fs::chmod(&copy, rustix::fs::Mode::from_raw_mode(0o755))?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
    command.args(["--exact", "a_server_that_refuses_is_told_to_the_client_in_words"]);
    let output = netns::run(&mut command, "", PATIENCE)?;
    assert!(!output.status.success());
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("needs root"), "{said}");
    Ok(())
}

#[test]
fn a_connection_to_another_port_is_not_touched() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let to = scene.server(Family::V4, 4143);
    let server = Scripted::once(&scene.lab.server, to, |stream: TcpStream| Ok(stream.peer_addr()?))?;
    drop(scene.lab.client.connect(to)?);
    assert_eq!(server.result()?.ip(), Family::V4.client());
    assert_eq!(postern.counter("steered_ipv4")?, 0);
    postern.stop()?;
    scene.finish()
}
