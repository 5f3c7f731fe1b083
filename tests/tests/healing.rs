//! What others delete, flush or make anew is put back at once, while a hundred sessions run, and nobody notices but
//! the log and a counter.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result, anyhow, ensure};
use postern::steering::classifier::{AttachMethod, AttachPoint};
use postern::steering::program::Program;
use postern::steering::routing::interface_index;
use postern::words::Side;
use postern_tests::client::Session;
use postern_tests::crowd::Crowd;
use postern_tests::frames::{Packet, Segment};
use postern_tests::lab::{EGRESS, Family, GUEST, INGRESS, Lab, Shape};
use postern_tests::postern::{Policy, Postern};
use postern_tests::scene::Scene;
use postern_tests::wait::{self, PATIENCE};
use postern_tests::wire::Wire;
use rustix::process::Signal;

const SESSIONS: usize = 100;

/// What somebody does to the gateway, given as arguments of `ip`.
type Vandalism = &'static [&'static [&'static str]];

fn repairs(postern: &Postern<'_>) -> Result<u64> {
    postern.counter("repairs")
}

fn routing(lab: &Lab) -> Result<String> {
    let mut all = String::new();
    for family in ["-4", "-6"] {
        all.push_str(&lab.gateway.ip(&[family, "rule", "show"])?);
        all.push_str(&lab.gateway.ip(&[family, "route", "show", "table", "143993"])?);
    }
    Ok(all)
}

/// Rules and routes are again as they were, and that was counted and said.
fn healed(scene: &Scene, postern: &Postern<'_>, before: &str, counted: u64) -> Result<()> {
    let whole = || Ok((routing(&scene.lab)? == before && repairs(postern)? > counted).then_some(()));
    wait::until("repairs", PATIENCE, whole).with_context(|| {
        format!("before:\n{before}\nnow:\n{}\n{}", routing(&scene.lab).unwrap_or_default(), postern.log())
    })?;
    ensure!(postern.log().contains("disturbed from outside; put back"), "no alarm:\n{}", postern.log());
    Ok(())
}

#[test]
fn rules_tables_and_the_device_are_put_back_while_a_hundred_sessions_run() -> Result<()> {
    let scene = Scene::new(&Policy::new().on_exit("closed"))?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    let mut crowd = scene.sessions(SESSIONS)?;
    let before = routing(&scene.lab)?;
    let deeds: [(&str, Vandalism); 6] = [
        // The rules of the kernel itself, too: who flushes has to put those back.
        (
            "rules flushed",
            &[
                &["rule", "flush"],
                &["rule", "add", "pref", "32766", "lookup", "main"],
                &["rule", "add", "pref", "32767", "lookup", "default"],
            ],
        ),
        (
            "IPv6 rules flushed",
            &[&["-6", "rule", "flush"], &["-6", "rule", "add", "pref", "32766", "lookup", "main"]],
        ),
        ("table emptied", &[&["route", "flush", "table", "143993"]]),
        ("IPv6 table emptied", &[&["-6", "route", "flush", "table", "143993"]]),
        ("device down", &[&["link", "set", "postern0", "down"]]),
        ("device deleted", &[&["link", "delete", "postern0"]]),
    ];
    for (deed, commands) in deeds {
        let counted = repairs(&postern)?;
        for command in commands {
            scene.lab.gateway.ip(command).with_context(|| deed.to_owned())?;
        }
        healed(&scene, &postern, &before, counted).with_context(|| deed.to_owned())?;
        crowd.prove().with_context(|| format!("{deed}: sessions go on"))?;
        scene.sessions(4)?.prove().with_context(|| format!("{deed}: new sessions are taken"))?;
    }
    drop(crowd);
    postern.stop()?;
    drop(server);
    scene.installation.command(&scene.lab.gateway, &["clear"])?;
    scene.finish()
}

#[test]
fn a_link_that_goes_down_and_up_loses_nobody() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    let mut crowd = scene.sessions(SESSIONS)?;
    for link in [INGRESS, EGRESS] {
        scene.lab.gateway.ip(&["link", "set", link, "down"])?;
        scene.lab.gateway.ip(&["link", "set", link, "up"])?;
        restore(&scene.lab, link)?;
        crowd.prove().with_context(|| format!("{link} went down and up"))?;
    }
    scene.sessions(4)?.prove()?;
    drop(crowd);
    postern.stop()?;
    drop(server);
    Ok(())
}

/// IPv6 loses the addresses and both families the static routes of a link that goes down: an administrator's network
/// manager gives them back.
fn restore(lab: &Lab, link: &str) -> Result<()> {
    let (v4, v6, bits) = match link {
        INGRESS => (Family::V4.gateway_lan(), Family::V6.gateway_lan(), 64),
        GUEST => (Family::V4.gateway_guest(), Family::V6.gateway_guest(), 64),
        _ => (Family::V4.gateway_wan(), Family::V6.gateway_wan(), 64),
    };
    lab.gateway.ip(&["address", "replace", &format!("{v4}/24"), "dev", link])?;
    lab.gateway.ip(&["address", "replace", &format!("{v6}/{bits}"), "dev", link, "nodad"]).map(drop)
}

/// After `ip link delete guest0`.
fn make_guest_again(lab: &Lab) -> Result<()> {
    let guest = lab.guest()?;
    let peer = ["peer", "name", "eth0", "netns", guest.name()];
    lab.gateway.ip(&[&["link", "add", GUEST, "type", "veth"][..], &peer].concat())?;
    lab.gateway.ip(&["link", "set", GUEST, "up"])?;
    restore(lab, GUEST)?;
    guest.ip(&["link", "set", "eth0", "up"])?;
    for (family, bits) in [(Family::V4, 24), (Family::V6, 64)] {
        guest.ip(&["address", "replace", &format!("{}/{bits}", family.guest()), "dev", "eth0"])?;
        guest.ip(&["route", "replace", "default", "via", &family.gateway_guest().to_string()])?;
    }
    Ok(())
}

fn sessions_of_the_guest(scene: &Scene, count: usize) -> Result<Crowd> {
    let config = scene.client()?;
    Crowd::open(count, |number| {
        let family = if number % 2 == 0 { Family::V4 } else { Family::V6 };
        let to = SocketAddr::new(family.server(), 993);
        let mut session = Session::open(scene.lab.guest()?, to, family.name(), &config)?;
        session.enter()?;
        Ok(session)
    })
}

#[test]
fn an_interface_that_vanishes_and_comes_back_is_served_again_and_others_never_noticed() -> Result<()> {
    let shape = Shape { guest: true, ..Shape::default() };
    let scene = Scene::shaped(&Policy::new().ingress(&[INGRESS, GUEST]), shape)?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    let mut crowd = scene.sessions(SESSIONS)?;
    sessions_of_the_guest(&scene, 4)?.prove()?;
    let index = |postern: &Postern<'_>| -> Result<Option<u64>> {
        let status = postern.status()?;
        let interfaces = status["steering"]["interfaces"].as_array().context("no interfaces")?;
        let guest = interfaces.iter().find(|interface| interface["name"] == GUEST).context("no guest0")?;
        Ok(guest["index"].as_u64())
    };
    let old = index(&postern)?.context("guest0 is there")?;
    scene.lab.gateway.ip(&["link", "delete", GUEST])?;
    wait::until("guest0 to be missed", PATIENCE, || {
        Ok((index(&postern)?.is_none() && postern.log().contains("interface guest0 is not there"))
            .then_some(()))
    })?;
    crowd.prove().context("guest0 is away")?;
    make_guest_again(&scene.lab)?;
    wait::until("guest0 to be served", PATIENCE, || {
        Ok(index(&postern)?.is_some_and(|new| new != old).then_some(()))
    })?;
    // IPv6 waits for its neighbours, so the first session may need a second try.
    let mut again =
        wait::until("sessions of the guest", PATIENCE, || Ok(sessions_of_the_guest(&scene, 4).ok()))?;
    again.prove()?;
    ensure!(postern.log().contains("classifier on guest0"), "{}", postern.log());
    crowd.prove().context("guest0 is back")?;
    drop((crowd, again));
    postern.stop()?;
    drop(server);
    Ok(())
}

#[test]
fn clients_of_an_interface_that_is_made_again_never_reach_a_service_of_the_gateway() -> Result<()> {
    let shape = Shape { guest: true, ..Shape::default() };
    let scene = Scene::shaped(&Policy::new().ingress(&[INGRESS, GUEST]), shape)?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    let services: Vec<TcpListener> = ["0.0.0.0:993", "[::]:993"]
        .into_iter()
        .map(|any| scene.lab.gateway.listen(any.parse()?))
        .collect::<Result<_>>()?;
    // The window between the new interface and the daemon's check of it, held open.
    postern.signal(Signal::STOP)?;
    scene.lab.gateway.ip(&["link", "delete", GUEST])?;
    make_guest_again(&scene.lab)?;
    let wire = Wire::open(&scene.lab.gateway, GUEST)?;
    let seen = &scene;
    std::thread::scope(|scope| {
        let guests: Vec<_> = Family::ALL
            .into_iter()
            .map(|family| {
                // A connection that is refused is tried again, one that is not answered sends its SYN again.
                let session = move || {
                    let (to, config) = (seen.server(family, 993), seen.client()?);
                    wait::until("a session of the guest", PATIENCE, || {
                        Ok(Session::open(seen.lab.guest()?, to, family.name(), &config).ok())
                    })?
                    .enter()
                };
                (family, scope.spawn(session))
            })
            .collect();
        for family in Family::ALL {
            let came = |packet: &Packet| packet.to == family.server();
            ensure!(wire.packet(PATIENCE, came)?.is_some(), "{family:?}: no SYN of the guest");
        }
        postern.signal(Signal::CONT)?;
        for (family, session) in guests {
            let served = session.join().map_err(|_| anyhow!("a guest panicked"))?;
            served.with_context(|| format!("{family:?}"))?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    ensure!(postern.counter("dropped_unknown_interface")? >= 2, "{:#}", postern.status()?);
    for service in services {
        service.set_nonblocking(true)?;
        ensure!(service.accept().is_err(), "a client's mail came to {service:?}");
    }
    postern.stop()?;
    drop(server);
    Ok(())
}

#[test]
fn an_interface_that_is_not_there_at_the_start_is_served_when_it_appears() -> Result<()> {
    let shape = Shape { guest: true, ..Shape::default() };
    let scene = Scene::shaped(&Policy::new().ingress(&["vlan7", INGRESS]), shape)?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    ensure!(postern.log().contains("interface vlan7 is not there"), "{}", postern.log());
    scene.sessions(4)?.prove().context("the others are served")?;
    scene.lab.gateway.ip(&["link", "set", GUEST, "down"])?;
    scene.lab.gateway.ip(&["link", "set", GUEST, "name", "vlan7"])?;
    scene.lab.gateway.ip(&["link", "set", "vlan7", "up"])?;
    for (family, bits) in [(Family::V4, 24), (Family::V6, 64)] {
        let address = format!("{}/{bits}", family.gateway_guest());
        scene.lab.gateway.ip(&["address", "replace", &address, "dev", "vlan7"])?;
    }
    let mut guests =
        wait::until("sessions of the guest", PATIENCE, || Ok(sessions_of_the_guest(&scene, 4).ok()))?;
    guests.prove()?;
    let record = {
        drop(guests);
        postern.wait_record("a guest's session", |record| {
            record.text("observer.ingress.interface.name") == "vlan7"
        })?
    };
    ensure!(record.text("network.protocol") == "imap", "{record:?}");
    postern.stop()?;
    drop(server);
    Ok(())
}

/// What `ip rule` shows first behind the kernel's own rule.
fn first_rule(lab: &Lab, family: &str) -> Result<String> {
    let rules = lab.gateway.ip(&[family, "rule", "show"])?;
    let first = rules.lines().find(|line| !line.starts_with("0:")).context("no rules")?;
    Ok(first.to_owned())
}

#[test]
fn rules_that_a_vpn_puts_in_front_are_overtaken_named_and_forgotten_when_they_go() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    let mut crowd = scene.sessions(8)?;
    let counted = repairs(&postern)?;
    for family in ["-4", "-6"] {
        // The second takes the place before the first, as wg-quick means it.
        for rule in [
            &["not", "fwmark", "51820", "lookup", "main"][..],
            &["lookup", "main", "suppress_prefixlength", "0"],
        ] {
            scene.lab.gateway.ip(&[&[family, "rule", "add"], rule].concat())?;
        }
    }
    for family in ["-4", "-6"] {
        wait::until("Postern's rules to be first", PATIENCE, || {
            Ok(first_rule(&scene.lab, family)?.contains("lookup 143993").then_some(()))
        })
        .with_context(|| postern.log())?;
    }
    // These clients trust Postern's authority only: beside it they would meet a stranger.
    scene.sessions(8)?.prove().context("new sessions are taken")?;
    crowd.prove().context("sessions go on")?;
    postern.wait_log("ip -6 rule pref 142 not fwmark 0xca6c lookup main")?;
    ensure!(
        postern.log().contains("stood in front of Postern's, where mail follows them"),
        "{}",
        postern.log()
    );
    ensure!(repairs(&postern)? > counted, "nothing was counted");
    let status = postern.status()?;
    ensure!(
        status.pointer("/steering/in_front").context("no such field")? == &serde_json::json!([]),
        "{status:#}"
    );
    for family in ["-4", "-6"] {
        scene.lab.gateway.ip(&[family, "rule", "delete", "not", "fwmark", "51820", "lookup", "main"])?;
        scene.lab.gateway.ip(&[family, "rule", "delete", "lookup", "main", "suppress_prefixlength", "0"])?;
        wait::until("Postern's rules to be where they were", PATIENCE, || {
            Ok(first_rule(&scene.lab, family)?.starts_with("143:").then_some(()))
        })?;
    }
    postern.wait_log("stand higher again")?;
    crowd.prove()?;
    drop(crowd);
    postern.stop()?;
    drop(server);
    scene.finish()
}

#[test]
fn a_program_that_goes_before_the_classifier_is_overtaken_and_what_it_hid_is_dropped_again() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let mut wire = Wire::open(&scene.lab.client, "eth0")?;
    let way = scene.lab.client.way(Family::V4.server())?;
    // Without CAP_SYS_ADMIN, which opening the programs of others would take.
    let capable = [
        "setpriv",
        "--bounding-set",
        "-all,+bpf,+net_admin,+perfmon,+net_raw,+setuid,+setgid,+setpcap,+kill",
    ];
    let postern = scene.installation.start_with(&scene.lab.gateway, &capable)?;
    let (from, to) =
        (SocketAddr::new(Family::V4.client(), 40_000), SocketAddr::new(Family::V4.server(), 143));
    let segment = Segment { options: vec![1; 20], ..Segment::syn(1) };
    let hidden = Packet::tcp(from, to, &segment).fragment(0, 24).frame(way.far, way.near, &[]);
    let counted = || postern.counter("dropped_fragment");
    let ingress = postern::config::load(&scene.installation.config())?.steering.ingress;
    let name = ingress.first().context("no ingress")?.clone();
    // Of somebody else, and the first to see packets; it drops what it would hide.
    let hook = AttachMethod::of_this_kernel();
    let mut other = Some(Program::load_with(hook)?);
    scene.lab.gateway.enter(|| {
        let index = interface_index(&name)?.context("no lan0")?;
        let place = AttachPoint { name, index, side: Side::Downstream };
        if let Some(other) = &mut other {
            other.classify(&[place])?;
        }
        Ok(())
    })?;
    match hook {
        AttachMethod::Tcx => {
            postern.wait_log("is not the first program on lan0")?;
            postern.wait_log("put back: classifier on lan0")?;
        }
        // There the order cannot be mended, and is told.
        AttachMethod::Clsact => {
            postern.wait_log("on lan0 the filter of preference 143 (bpf) stands before")?;
            scene.lab.gateway.enter(|| {
                drop(other.take());
                Ok(())
            })?;
        }
    }
    let before = counted()?;
    wire.send(&hidden)?;
    wait::until("the fragment to be counted", PATIENCE, || Ok((counted()? > before).then_some(())))?;
    ensure!(!postern.log().contains("cannot be put back"), "{}", postern.log());
    postern.stop()
}
