//! Reloads that change `[steering]`, and reloads under load: who is concerned, and that nobody else is.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::imap_server::ImapServer;
use postern_tests::lab::{EGRESS, ELSEWHERE, Family, GUEST, INGRESS, Shape};
use postern_tests::netns::{self, Namespace};
use postern_tests::postern::{Policy, Postern};
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::wait::{self, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use rustls::ALL_VERSIONS;
use serde_json::Value;

const GUESTS: Shape = Shape { near_mtu: None, far_mtu: None, guest: true, second_lan: false };
/// Less than the second after which TCP sends its SYN again: what is dropped is not there after it.
const ONE_SYN: Duration = Duration::from_millis(700);
/// More than all sockets on the way hold, so that a transfer waits for its reader.
const LARGE: usize = 8 << 20;
/// Sessions that work while the configuration is read again, and how often it is.
const SESSIONS: usize = 200;
const RELOADS: usize = 50;
/// Between two commands of one of the crowd's threads: the tests share the machine.
const BREATH: Duration = Duration::from_millis(4);

const RELOADED: &str = "configuration reloaded";
const REFUSED: &str = "configuration NOT reloaded";

/// Have another configuration read, and wait for the answer, which must be this one.
fn reload_as(scene: &Scene, postern: &Postern<'_>, policy: &Policy, answer: &str) -> Result<()> {
    let answers = || [RELOADED, REFUSED].map(|words| postern.log().matches(words).count());
    let before = answers();
    scene.installation.configure(policy)?;
    postern.signal(Signal::HUP)?;
    let after = wait::until("the answer to HUP", PATIENCE, || {
        let now = answers();
        Ok((now != before).then_some(now))
    })?;
    let is_reloaded = after[0] > before[0];
    ensure!(is_reloaded == (answer == RELOADED), "not {answer:?}: {}", postern.log());
    Ok(())
}

fn reload(scene: &Scene, postern: &Postern<'_>, policy: &Policy) -> Result<()> {
    reload_as(scene, postern, policy, RELOADED)
}

fn refused(scene: &Scene, postern: &Postern<'_>, policy: &Policy) -> Result<()> {
    reload_as(scene, postern, policy, REFUSED)
}

/// Logged in, from a namespace, through Postern: the client trusts its authority alone.
fn session_from(scene: &Scene, from: &Namespace, family: Family, port: u16) -> Result<Session> {
    let mut session = Session::open(from, scene.server(family, port), family.name(), &scene.client()?)?;
    session.enter()?;
    Ok(session)
}

/// A client itself stands before the server.
fn is_left_alone(scene: &Scene, server: &ImapServer, from: &Namespace, port: u16) -> Result<()> {
    for family in Family::ALL {
        let stream = from.connect(scene.server(family, port))?;
        let seen = format!("{} connected to port {port}", stream.local_addr()?);
        wait::until(&seen, PATIENCE, || Ok(server.log().contains(&seen).then_some(())))?;
    }
    Ok(())
}

/// What the status says of an interface.
fn interface(postern: &Postern<'_>, name: &str) -> Result<Option<Value>> {
    let status = postern.status()?;
    let all = status.pointer("/steering/interfaces").and_then(Value::as_array).context("no interfaces")?;
    Ok(all.iter().find(|interface| interface["name"] == name).cloned())
}

/// That nothing of an interface that a reload took out is left: no rule, no listener, no program.
fn has_left(scene: &Scene, postern: &Postern<'_>, name: &str) -> Result<()> {
    wait::until(&format!("{name} to be nobody's"), PATIENCE, || {
        let status = postern.status()?;
        let told = ["/listeners", "/rules", "/steering/interfaces"].map(|place| status.pointer(place));
        let names_it = |told: &Value| told.to_string().contains(name);
        Ok((!told.into_iter().flatten().any(names_it)).then_some(()))
    })
    .with_context(|| format!("{:#}", postern.status().unwrap_or_default()))?;
    let rules = scene.lab.gateway.ip(&["rule"])?;
    ensure!(!rules.contains(name), "{rules}");
    Ok(())
}

/// Who is connected to a port of the server's host.
fn peers(server: &Namespace, port: u16) -> Result<Vec<IpAddr>> {
    let mut command = server.command("ss");
    command.args(["-Htn", "state", "established", &format!("( sport = :{port} )")]);
    let shown = netns::success("ss", &netns::run(&mut command, "", PATIENCE)?)?;
    let peer = |line: &str| {
        let peer: SocketAddr = line.split_whitespace().nth(3).context("no peer")?.parse()?;
        Ok(peer.ip().to_canonical())
    };
    shown.lines().map(peer).collect()
}

/// A client whose transfer of the large message waits for its reader.
struct Transfer {
    session: Session,
    tag: String,
}

impl Transfer {
    fn begin(mut session: Session) -> Result<Self> {
        let tag = session.send_command("FETCH 2 BODY.PEEK[]")?;
        Ok(Self { session, tag })
    }

    fn end(self, large: &[u8]) -> Result<()> {
        let Self { mut session, tag } = self;
        let answer = session.answer(&tag)?.ok()?;
        let came = answer.literals.first().context("no literal")?;
        ensure!(came == large, "{} octets came of {}", came.len(), large.len());
        session.logout()
    }
}

fn large() -> Vec<u8> {
    let mut message = MESSAGE.to_vec();
    for line in 0..LARGE / 64 {
        message.extend(format!("{line:062}\r\n").into_bytes());
    }
    message
}

fn serve_large(scene: &Scene, large: &[u8]) -> Result<ImapServer> {
    scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec(), large.to_vec()])
}

#[test]
fn an_interface_is_served_after_a_reload_adds_it_and_left_alone_but_for_its_sessions_after_one_takes_it_out()
-> Result<()> {
    let only = || Policy::new().ingress(&[INGRESS]);
    let both = || Policy::new().ingress(&[GUEST, INGRESS]);
    let scene = Scene::shaped(&only(), GUESTS)?;
    let (large, guest) = (large(), scene.lab.guest()?);
    let server = serve_large(&scene, &large)?;
    let postern = scene.start()?;
    let lan = Transfer::begin(scene.logged_in(Family::V4, 993)?)?;
    is_left_alone(&scene, &server, guest, 143)?;

    // The places in the list change, and nobody notices.
    reload(&scene, &postern, &both())?;
    let mut guests = Vec::new();
    for family in Family::ALL {
        for port in [143, 993] {
            guests.push(session_from(&scene, guest, family, port)?);
        }
    }
    let transfer = Transfer::begin(session_from(&scene, guest, Family::V6, 993)?)?;
    let of_guest = interface(&postern, GUEST)?.context("the guests' interface")?;
    ensure!(of_guest["leaving"] == false, "{of_guest}");

    reload(&scene, &postern, &only())?;
    is_left_alone(&scene, &server, guest, 993)?;
    is_left_alone(&scene, &server, guest, 143)?;
    let of_guest = interface(&postern, GUEST)?.context("sessions are left")?;
    ensure!(of_guest["leaving"] == true, "{of_guest}");
    scene.logged_in(Family::V6, 143)?.logout()?;
    for mut session in guests {
        session.noop()?;
        session.logout()?;
    }
    transfer.end(&large)?;
    lan.end(&large)?;
    has_left(&scene, &postern, GUEST)?;
    let record =
        postern.wait_record("a guest's", |record| record.text("observer.ingress.interface.name") == GUEST)?;
    ensure!(record.succeeded(), "{record:#?}");

    // A worker's successor has the listeners of interfaces that came later, also by a pattern.
    reload(&scene, &postern, &Policy::new().ingress(&["gue*", INGRESS]))?;
    let worker = i32::try_from(postern.process("worker")?)?;
    kill_process(Pid::from_raw(worker).context("a process")?, Signal::KILL)?;
    postern.wait_log("the worker was started again")?;
    session_from(&scene, guest, Family::V4, 143)?.logout()?;
    scene.logged_in(Family::V6, 993)?.logout()?;
    postern
        .wait_record("by the pattern", |record| record.text("observer.ingress.interface.name") == "gue*")?;
    let records = postern.records()?;
    ensure!(records.iter().all(postern_tests::record::Record::succeeded), "{records:#?}");
    ensure!(postern.counter("repairs")? == 0, "{}", postern.log());
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn ports_come_and_go_with_a_reload_and_sessions_of_those_that_go_end_by_themselves() -> Result<()> {
    let scene = Scene::new(&Policy::new().source("client"))?;
    let server = scene.serve_also(&[1143])?;
    let postern = scene.start()?;
    let mut implicit = scene.logged_in(Family::V4, 993)?;
    let mut starttls = scene.logged_in(Family::V6, 143)?;
    let fewer = Policy::new()
        .source("client")
        .steering("starttls_ports = [143, 1143]")
        .steering("implicit_tls_ports = []");
    reload(&scene, &postern, &fewer)?;
    scene.logged_in(Family::V6, 1143)?.logout()?;
    is_left_alone(&scene, &server, &scene.lab.client, 993)?;
    // The server's answers to the client's address still find their way.
    for session in [&mut implicit, &mut starttls] {
        ensure!(session.fetch(1)? == MESSAGE, "another message");
    }
    // What may pass is no longer refused, and what was refused goes on.
    let none = "[[policy]]\nname = \"other\"\nfrom = [\"192.0.2.0/24\"]\n";
    let pass = Policy::new().source("client").steering("unmatched = \"pass\"").table(none);
    reload(&scene, &postern, &pass)?;
    ensure!(starttls.fetch(1)? == MESSAGE, "another message");
    implicit.logout()?;
    starttls.logout()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn what_a_kill_leaves_is_what_the_last_reload_said() -> Result<()> {
    let as_words = |on_exit| Policy::new().on_exit(on_exit);
    let scene = Scene::new(&as_words("open"))?;
    for (first, then) in [("open", "closed"), ("closed", "open")] {
        scene.installation.configure(&as_words(first))?;
        let postern = scene.start()?;
        reload(&scene, &postern, &as_words(then))?;
        ensure!(postern.status()?["on_exit"] == then, "{:#}", postern.status()?);
        postern.kill()?;
        for family in Family::ALL {
            for port in [143, 993] {
                let to = scene.server(family, port);
                let server = scene.lab.server.listen(to)?;
                let knock = || scene.lab.client.enter(|| Ok(TcpStream::connect_timeout(&to, ONE_SYN)));
                if then == "closed" {
                    ensure!(knock()?.is_err(), "{to} answers after {first}, {then}");
                } else {
                    // The neighbours may have to be asked first.
                    let open = wait::until("the server itself", PATIENCE, || Ok(knock()?.ok()))?;
                    ensure!(server.accept()?.1.ip() == open.local_addr()?.ip(), "not the client itself");
                }
            }
        }
        scene.installation.command(&scene.lab.gateway, &["clear"])?;
    }
    scene.finish()
}

#[test]
fn new_sessions_take_the_new_source_and_way_and_running_ones_keep_theirs() -> Result<()> {
    let gateway = Policy::new();
    let client = Policy::new().source("client");
    let elsewhere = Policy::new().egress(&[ELSEWHERE]);
    let large = large();
    let scene = Scene::new(&gateway)?;
    let server = serve_large(&scene, &large)?;
    let postern = scene.start()?;
    for family in Family::ALL {
        let own = Transfer::begin(scene.logged_in(family, 993)?)?;
        reload(&scene, &postern, &client)?;
        let as_client = Transfer::begin(scene.logged_in(family, 993)?)?;
        let seen = peers(&scene.lab.server, 993)?;
        ensure!(seen.contains(&family.client()) && seen.contains(&scene.lab.gateway_wan(family)), "{seen:?}");

        // Back, by an egress that leads nowhere: both transfers go on, and new sessions are refused.
        reload(&scene, &postern, &elsewhere)?;
        let mut turned = Session::clear(scene.lab.client.connect(scene.server(family, 143))?);
        let told = turned.line()?;
        ensure!(told.starts_with("* BYE"), "{told}");
        let record = postern.wait_record("refused", |record| {
            record.text("event.reason") == "egress_not_configured"
                && record.text("client.ip") == family.client().to_string()
        })?;
        ensure!(!record.succeeded(), "{record:#?}");
        let leaving = interface(&postern, EGRESS)?.context("sessions are left")?;
        ensure!(leaving["leaving"] == true, "{leaving}");
        own.end(&large)?;
        as_client.end(&large)?;
        has_left(&scene, &postern, EGRESS)?;
        reload(&scene, &postern, &gateway)?;
        scene.logged_in(family, 143)?.logout()?;
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_steering_that_cannot_be_keeps_all_of_the_old_one_and_says_why() -> Result<()> {
    let scene = Scene::shaped(&Policy::new(), GUESTS)?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    let mut held = scene.logged_in(Family::V4, 143)?;
    // Listeners, rules and interfaces.
    let state = |postern: &Postern<'_>| -> Result<[Value; 3]> {
        let status = postern.status()?;
        Ok([&status["listeners"], &status["rules"], &status["steering"]["interfaces"]].map(Value::clone))
    };
    let before = state(&postern)?;
    let text = Policy::new().egress(&[EGRESS, INGRESS]).text(scene.installation.dir());
    let line = 1 + text.lines().position(|line| line.starts_with("egress")).context("a line")?;
    refused(&scene, &postern, &Policy::new().egress(&[EGRESS, INGRESS]))?;
    let place = format!("postern.toml:{line}:");
    ensure!(postern.log().contains(&place) && postern.log().contains("also in ingress on line"), "{place}");

    refused(&scene, &postern, &Policy::new().steering("threads = 7"))?;
    postern.wait_log(" and would be 7: restart Postern, or write the old value")?;
    // Sides change only when nobody is concerned any more; nothing of the new file is in force.
    refused(&scene, &postern, &Policy::new().ingress(&[GUEST, EGRESS]).egress(&[INGRESS]).on_exit("closed"))?;
    postern.wait_log("\"wan0\" in steering.ingress means interfaces that sessions still use as egress")?;
    ensure!(state(&postern)? == before, "{:#}", postern.status()?);
    held.noop()?;
    let guest = scene.lab.guest()?;
    is_left_alone(&scene, &server, guest, 143)?;

    // Half-way the kernel refuses: somebody else has a route where Postern's blackhole would be.
    let route = ["blackhole", "default", "table", "143993", "metric", "2147483647"];
    scene.lab.gateway.ip(&[&["route", "add"][..], &route].concat())?;
    let both = || Policy::new().ingress(&[INGRESS, GUEST]).on_exit("closed");
    refused(&scene, &postern, &both())?;
    postern.wait_log("one like it exists that is not Postern's")?;
    postern.wait_log("the worker has the configuration in force again")?;
    ensure!(state(&postern)? == before, "{:#}", postern.status()?);
    ensure!(!scene.lab.gateway.nft_list()?.contains("inet postern"), "the chain of \"closed\" is left");
    is_left_alone(&scene, &server, guest, 993)?;
    held.noop()?;
    scene.logged_in(Family::V6, 993)?.logout()?;
    scene.lab.gateway.ip(&[&["route", "delete"][..], &route].concat())?;
    reload(&scene, &postern, &both())?;
    session_from(&scene, guest, Family::V4, 143)?.logout()?;
    held.noop()?;
    held.logout()?;
    reload(&scene, &postern, &Policy::new())?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// What descriptors of the supervisor and of the worker stand for, sorted.
fn descriptors(postern: &Postern<'_>) -> Result<[Vec<String>; 2]> {
    let of = |name: &str| -> Result<Vec<String>> {
        let mut all = Vec::new();
        for descriptor in fs::read_dir(format!("/proc/{}/fd", postern.process(name)?))? {
            // One that was closed meanwhile is none.
            all.extend(fs::read_link(descriptor?.path()).map(|link| link.display().to_string()));
        }
        all.sort();
        Ok(all)
    };
    Ok([of("supervisor")?, of("worker")?])
}

/// A configuration with one policy of this name.
fn named(name: &str) -> Policy {
    Policy::new().table(&format!("[[policy]]\nname = {name:?}\n"))
}

/// What the reload of this number brings; `None` where it is wrong.
fn turn(number: usize) -> (Policy, Option<String>) {
    let name = format!("turn-{number}");
    let good = || named(&name);
    let policy = match number % 6 {
        1 => good().ingress(&[GUEST, INGRESS]),
        2 => return (good().egress(&[EGRESS, INGRESS]), None),
        3 => good().on_exit("closed").steering("implicit_tls_ports = [993, 1993]"),
        4 => good().source("client").egress(&[ELSEWHERE, EGRESS]),
        5 => return (good().action("tls_profile = \"there is none\""), None),
        _ => good(),
    };
    (policy, Some(name))
}

#[test]
fn two_hundred_sessions_work_through_fifty_reloads_and_new_ones_have_the_new_policy() -> Result<()> {
    let scene = Scene::shaped(&named("first"), GUESTS)?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    // What a daemon keeps once it has had so many sessions is there before it is counted.
    scene.sessions(SESSIONS)?.logout()?;
    postern.wait_records(SESSIONS)?;
    let before = descriptors(&postern)?;

    let mut crowd = scene.sessions(SESSIONS)?;
    let work = |turn: usize, session: &mut Session| {
        thread::sleep(BREATH);
        if turn.is_multiple_of(2) {
            return session.noop();
        }
        ensure!(session.fetch(1)? == MESSAGE, "another message came");
        Ok(())
    };
    let new_sessions = crowd.work(work, || {
        let (mut in_force, mut new_sessions) = ("first".to_owned(), 0);
        for number in 0..RELOADS {
            let (policy, name) = turn(number);
            match name {
                Some(name) => {
                    reload(&scene, &postern, &policy)?;
                    in_force = name;
                }
                None => refused(&scene, &postern, &policy)?,
            }
            scene.logged_in(Family::ALL[number % 2], 993)?.logout()?;
            new_sessions += 1;
            let so_far = postern.wait_records(SESSIONS + new_sessions)?;
            let record = so_far.last().context("no record")?;
            ensure!(record.text("postern.policy") == in_force, "reload {number}: {record:#?}");
        }
        Ok(new_sessions)
    })?;
    reload(&scene, &postern, &named("last"))?;
    crowd.prove()?;
    crowd.logout()?;
    let records = postern.wait_records(2 * SESSIONS + new_sessions)?;
    ensure!(records.len() == 2 * SESSIONS + new_sessions, "{} records", records.len());
    let failed: Vec<_> = records.iter().filter(|record| !record.succeeded()).collect();
    ensure!(failed.is_empty(), "{failed:#?}");
    let kept = records.iter().filter(|record| record.text("postern.policy") == "first").count();
    ensure!(kept == 2 * SESSIONS, "{kept} records of the first policy");
    has_left(&scene, &postern, GUEST)?;
    // No generation of the fifty holds a descriptor any more.
    wait::until("as many descriptors as before", PATIENCE, || {
        let now = descriptors(&postern)?;
        Ok((now.iter().zip(&before).all(|(now, before)| now.len() <= before.len())).then_some(()))
    })
    .with_context(|| format!("before: {before:#?}, now: {:#?}", descriptors(&postern)))?;
    drop(server);
    postern.stop()?;
    scene.finish()
}
