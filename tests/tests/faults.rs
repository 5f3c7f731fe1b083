//! What goes wrong: peers that die, servers that do not answer, resources that run out, stops and restarts.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{self, Session};
use postern_tests::imap_server::large_message;
use postern_tests::lab::{self, Family};
use postern_tests::netns;
use postern_tests::pki;
use postern_tests::postern::{Installation, Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::scripted::{self, Scripted};
use postern_tests::wait::{self, PATIENCE};
use rustix::process::Signal;
use rustls::ALL_VERSIONS;

/// Larger than every buffer on the way.
const LARGE_OCTETS: usize = 16 * 1000 * 1000;

fn works(scene: &Scene) -> Result<()> {
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    ensure!(session.fetch(1)? == MESSAGE, "another message came");
    session.logout()
}

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
    let server = scene.serve_with(tls, vec![MESSAGE.to_vec(), large_message(LARGE_OCTETS)])?;
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
        works(&scene)?;
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
    works(&scene)?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn when_no_descriptors_are_left_the_client_is_told_and_later_ones_are_served() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("workers = 1"))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let pid = postern.pid().as_raw_nonzero().to_string();
    // Numbers below the limit that are free, not numbers that are used: some may lie above it.
    let leave = |free: usize| -> Result<()> {
        let used: BTreeSet<u32> = fs::read_dir(format!("/proc/{pid}/fd"))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        let limit = (0..).filter(|number| !used.contains(number)).nth(free).context("no number is free")?;
        let output = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:")]).output()?;
        netns::success("prlimit", &output).map(drop)
    };
    // One session takes two descriptors; the next has one for its client and none for its server.
    leave(3)?;
    let first = scene.session(Family::V4, 993)?;
    let said = told(&scene, scene.server(Family::V4, 993))?;
    assert!(said.starts_with("* BYE"), "{said}");
    first.logout()?;
    works(&scene)?;
    leave(1000)?;
    drop(server);
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
    // The reset may be quicker than the end of connect(2).
    let reset = match scene.lab.client.connect(scene.server(Family::V4, 993)) {
        Ok(mut stream) => stream.read(&mut [0]).err().map(anyhow::Error::from),
        Err(error) => Some(error),
    };
    let reset = reset.context("no reset")?;
    let kind = reset
        .downcast_ref::<std::io::Error>()
        .or_else(|| reset.root_cause().downcast_ref())
        .map(std::io::Error::kind);
    assert_eq!(kind, Some(std::io::ErrorKind::ConnectionReset), "{reset:#}");
    assert_eq!(postern.counter("refused_client")?, 2);
    // The other family is another client.
    scene.session(Family::V6, 993)?.logout()?;
    drop(held);
    wait::until("room for the client", PATIENCE, || Ok(works(&scene).ok()))?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// The fingerprint that a client with these roots is shown on a port.
fn shown(scene: &Scene, to: SocketAddr, roots: &str) -> Result<String> {
    let config = Arc::new(client::config(pki::trust(roots)?, ALL_VERSIONS));
    let session = Session::open(&scene.lab.client, to, Family::V4.name(), &config)?;
    let shown = session.shown()?.fingerprint;
    session.logout()?;
    Ok(shown)
}

fn other(port: u16) -> SocketAddr {
    SocketAddr::new(Family::V4.other_server(), port)
}

#[test]
fn a_listed_network_is_left_alone_and_recorded() -> Result<()> {
    let scene =
        Scene::new(&Policy::new().action(&format!("bypass = [\"{}/32\"]", Family::V4.other_server())))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    for (at, port) in [143, 993].into_iter().enumerate() {
        assert_eq!(shown(&scene, other(port), scene.roots.pem())?, scene.identity.fingerprint()?);
        let records = postern.wait_records(at + 1)?;
        let record = &records[at];
        assert!(record.succeeded(), "{record:#?}");
        assert_eq!(record.text("postern.mode"), "bypass", "{record:#?}");
        assert!(record.number("client.bytes") > 0 && record.number("server.bytes") > 0, "{record:#?}");
    }
    works(&scene)?;
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
fn a_stop_lets_sessions_finish() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let mut postern = scene.start()?;
    let server = scene.serve()?;
    let mut session = scene.session(Family::V4, 143)?;
    session.enter()?;
    postern.signal(Signal::TERM)?;
    wait::until("the stop to begin", PATIENCE, || Ok(postern.log().contains("draining").then_some(())))
        .with_context(|| postern.log())?;
    assert_eq!(session.fetch(1)?, MESSAGE);
    session.logout()?;
    assert!(postern.wait(PATIENCE)?.success());
    let records = postern.records()?;
    assert!(records.iter().all(Record::succeeded) && records.len() == 1, "{records:#?}");
    drop((server, postern));
    scene.finish()
}

#[test]
fn a_stop_cuts_sessions_when_its_bound_is_over() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("drain_seconds = 1"))?;
    cut(scene, 1)
}

#[test]
fn a_second_term_cuts_at_once() -> Result<()> {
    let scene = Scene::new(&Policy::new().limits("drain_seconds = 86400"))?;
    cut(scene, 2)
}

fn cut(scene: Scene, terms: usize) -> Result<()> {
    let mut postern = scene.start()?;
    let server = scene.serve()?;
    let sessions = [scene.session(Family::V4, 143)?, scene.session(Family::V6, 993)?];
    for _ in 0..terms {
        postern.signal(Signal::TERM)?;
        // Two signals of one kind that are pending together are one.
        wait::until("the stop to begin", PATIENCE, || Ok(postern.log().contains("draining").then_some(())))?;
    }
    postern.wait(PATIENCE)?;
    let records = postern.records()?;
    assert_eq!(records.len(), 2, "{records:#?}");
    assert!(records.iter().all(|record| record.text("event.reason") == "cut_by_stop"), "{records:#?}");
    for mut session in sessions {
        let _ = session.to_end();
    }
    drop((server, postern));
    scene.finish()
}

#[test]
fn a_reload_takes_a_good_configuration_and_keeps_the_old_one_before_a_bad_one() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let ours = scene.installation.authority_pem();
    assert_ne!(shown(&scene, other(993), ours)?, scene.identity.fingerprint()?);

    let bypass = format!("bypass = [\"{}/32\"]", Family::V4.other_server());
    scene.installation.configure(&Policy::new().action(&bypass))?;
    let mut held = scene.session(Family::V4, 993)?;
    postern.signal(Signal::HUP)?;
    let both = format!("{ours}{}", scene.roots.pem());
    wait::until("the new configuration", PATIENCE, || {
        let now = shown(&scene, other(993), &both)?;
        Ok((now == scene.identity.fingerprint()?).then_some(()))
    })?;
    // A session keeps what it began with.
    held.command("NOOP")?.ok()?;
    held.logout()?;

    let before = postern.log().len();
    scene.installation.configure(&Policy::new().action("bypass = [\"not a network\"]"))?;
    postern.signal(Signal::HUP)?;
    wait::until("a loud refusal", PATIENCE, || {
        Ok(postern.log().get(before..).is_some_and(|log| log.contains("not a network")).then_some(()))
    })
    .with_context(|| postern.log())?;
    assert_eq!(shown(&scene, other(993), &both)?, scene.identity.fingerprint()?);
    scene.installation.configure(&Policy::new().action(&bypass))?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_start_cleans_up_what_a_killed_predecessor_left() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let server = scene.serve()?;
    let first = scene.start()?;
    works(&scene)?;
    let program = first.counter("program_id")?;
    first.kill()?;
    wait::until("the end of the killed daemon's program", PATIENCE, || {
        Ok((!lab::loaded_programs()?.contains(&u32::try_from(program)?)).then_some(()))
    })?;
    let second = scene.start()?;
    works(&scene)?;
    second.wait_records(1)?;
    assert_eq!(second.counter("steered_ipv4")?, 1);
    drop(server);
    second.stop()?;
    scene.finish()
}

#[test]
fn a_stop_leaves_nothing_and_mail_flows_past() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    works(&scene)?;
    let program = u32::try_from(postern.counter("program_id")?)?;
    assert!(lab::loaded_programs()?.contains(&program));
    assert!(postern.log().contains("open"), "`run` says that a stop is open: {}", postern.log());
    postern.stop()?;
    scene.lab.assert_clean()?;
    wait::until("the end of the program", PATIENCE, || {
        Ok((!lab::loaded_programs()?.contains(&program)).then_some(()))
    })?;
    // Nothing steers any more: the client meets the server's own certificate.
    assert_eq!(
        shown(&scene, scene.server(Family::V4, 993), scene.roots.pem())?,
        scene.identity.fingerprint()?
    );
    drop(server);
    scene.finish()
}

#[test]
fn a_second_postern_in_the_same_namespace_refuses_in_words() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let other = Installation::new(&Policy::new(), &scene.roots)?;
    let mut second = other.spawn(&scene.lab.gateway, &[])?;
    let status = second.wait(PATIENCE)?;
    assert!(!status.success());
    assert!(second.log().contains("another"), "{}", second.log());
    works(&scene)?;
    drop((second, server));
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_wrong_configuration_ends_with_64_before_anything_is_touched() -> Result<()> {
    let scene = Scene::new(&Policy::new().steering("wokers = 1"))?;
    let mut postern = scene.installation.spawn(&scene.lab.gateway, &[])?;
    let status = postern.wait(PATIENCE)?;
    assert_eq!(status.code(), Some(64));
    let log = postern.log();
    assert!(log.contains("wokers") && log.contains("workers") && log.contains("postern.toml"), "{log}");
    drop(postern);
    scene.finish()
}

#[test]
fn a_slow_client_holds_its_server_back_and_nobody_else() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let tls = scene.identity.server_config(ALL_VERSIONS)?;
    let server = scene.serve_with(tls, vec![MESSAGE.to_vec(), large_message(LARGE_OCTETS)])?;
    let mut slow = scene.session(Family::V4, 993)?;
    slow.enter()?;
    let tag = slow.send_command("FETCH 2 BODY[]")?;
    for _ in 0..3 {
        works(&scene)?;
        std::thread::sleep(Duration::from_millis(200));
    }
    let answer = slow.answer(&tag)?.ok()?;
    assert_eq!(pki::sha256(&answer.literals[0]), pki::sha256(&large_message(LARGE_OCTETS)));
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
