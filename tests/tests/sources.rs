//! Whose address servers see, and who may reach which server: routed networks, guests, neighbours that nobody listed,
//! ways that differ by direction.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::imap_server::ImapServer;
use postern_tests::lab::{EGRESS, ELSEWHERE, Family, GUEST, INGRESS, SECOND, Shape};
use postern_tests::netns::{self, Namespace};
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::wait::{self, PATIENCE};
use rustls::ALL_VERSIONS;
use socket2::{Domain, Socket, Type};

const GUESTS: Shape = Shape { near_mtu: None, far_mtu: None, guest: true, second_lan: false };
const SOURCES: [&str; 2] = ["gateway", "client"];

fn session(scene: &Scene, from: &Namespace, family: Family, port: u16) -> Result<Session> {
    let mut session = Session::open(from, scene.server(family, port), family.name(), &scene.client()?)?;
    session.enter()?;
    Ok(session)
}

/// Who is connected to a port of this host.
fn peers(server: &Namespace, port: u16) -> Result<Vec<SocketAddr>> {
    let mut command = server.command("ss");
    command.args(["-Htn", "state", "established", &format!("( sport = :{port} )")]);
    let shown = netns::success("ss", &netns::run(&mut command, "", PATIENCE)?)?;
    shown
        .lines()
        .map(|line| {
            let peer = line.split_whitespace().nth(3).context("ss shows no peer")?;
            Ok(peer.parse()?)
        })
        .collect()
}

/// Sessions on both ports and families work, and servers see this address.
fn served(scene: &Scene, from: &Namespace, seen: impl Fn(Family) -> IpAddr) -> Result<()> {
    for family in Family::ALL {
        for port in [143, 993] {
            let before = peers(&scene.lab.server, port)?;
            let mut session =
                session(scene, from, family, port).with_context(|| format!("{family:?} {port}"))?;
            session.noop()?;
            let new: Vec<SocketAddr> =
                peers(&scene.lab.server, port)?.into_iter().filter(|peer| !before.contains(peer)).collect();
            ensure!(
                new.iter().map(SocketAddr::ip).eq([seen(family)]),
                "{family:?} {port}: the server sees {new:?}"
            );
            session.logout()?;
        }
    }
    Ok(())
}

#[test]
fn servers_see_the_clients_address_with_a_port_of_posterns_own() -> Result<()> {
    let scene = Scene::new(&Policy::new().source("client"))?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    served(&scene, &scene.lab.client, |family| family.client())?;
    for family in Family::ALL {
        let session = session(&scene, &scene.lab.client, family, 993)?;
        let own = session.socket().local_addr()?.port();
        let peers = peers(&scene.lab.server, 993)?;
        let seen =
            peers.iter().find(|peer| peer.ip() == family.client()).context("no client at the server")?;
        ensure!(seen.port() != own && (10_000..32_768).contains(&seen.port()), "{own} at the client, {seen}");
    }
    let mut crowd = scene.sessions(40)?;
    crowd.prove()?;
    drop(crowd);
    ensure!(postern.counter("marked_server")? > 0, "answers came by the mark");
    postern.stop()?;
    drop(server);
    scene.finish()
}

/// A connection of the client's from a port of its choice.
fn connect_from(scene: &Scene, from: SocketAddr, to: SocketAddr) -> Result<std::net::TcpStream> {
    let stream: std::net::TcpStream = scene.lab.client.enter(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), PATIENCE).with_context(|| format!("from {from} to {to}"))?;
        Ok(socket.into())
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

#[test]
fn a_client_is_served_from_a_port_that_postern_has_beside_its_address() -> Result<()> {
    let scene = Scene::new(&Policy::new().source("client"))?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    for family in Family::ALL {
        for port in [143, 993] {
            let to = scene.server(family, port);
            let mut first = session(&scene, &scene.lab.client, family, port)?;
            let peers = peers(&scene.lab.server, port)?;
            let ours = peers.iter().find(|peer| peer.ip() == family.client()).context("no peer")?;
            let second = connect_from(&scene, *ours, to)?;
            let mut second = Session::on(second, family.name(), &scene.client()?)?;
            second.enter()?;
            second.noop()?;
            first.noop()?;
            second.logout()?;
            first.logout()?;
        }
    }
    ensure!(postern.counter("dropped_loop")? == 0, "a client was taken for a loop");
    postern.stop()?;
    drop(server);
    scene.finish()
}

/// The lab's server at one of its addresses only.
fn serve_one_address(scene: &Scene) -> Result<ImapServer> {
    let mut listeners = Vec::new();
    for family in Family::ALL {
        for port in [143, 993] {
            listeners.push(scene.lab.server.listen(scene.server(family, port))?);
        }
    }
    ImapServer::start(listeners, scene.identity.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()], false)
}

/// A neighbour whose interface nobody listed: a plain connection of its own to the same server.
fn neighbour(scene: &Scene, family: Family) -> Result<(std::net::TcpStream, std::net::TcpStream)> {
    let at = SocketAddr::new(family.other_server(), 143);
    let listener = scene.lab.server.listen(at)?;
    let client = scene.lab.guest()?.connect(at)?;
    let (server, peer) = listener.accept()?;
    ensure!(peer.ip() == family.guest(), "{peer} came instead of the guest");
    Ok((client, server))
}

fn talk((client, server): &(std::net::TcpStream, std::net::TcpStream)) -> Result<()> {
    for (mut from, mut to) in [(client, server), (server, client)] {
        let mut octets = [0; 4];
        from.write_all(b"mail")?;
        to.set_read_timeout(Some(PATIENCE))?;
        to.read_exact(&mut octets)?;
        ensure!(&octets == b"mail");
    }
    Ok(())
}

#[test]
fn a_neighbour_on_another_interface_is_untouched_with_both_sources() -> Result<()> {
    for source in SOURCES {
        let scene = Scene::shaped(&Policy::new().source(source), GUESTS)?;
        let before =
            Family::ALL.map(|family| neighbour(&scene, family)).into_iter().collect::<Result<Vec<_>>>()?;
        let server = serve_one_address(&scene)?;
        let postern = scene.start()?;
        for connection in &before {
            talk(connection).with_context(|| format!("{source}: a session from before the start"))?;
        }
        for family in Family::ALL {
            talk(&neighbour(&scene, family)?).with_context(|| format!("{source}: a new session"))?;
        }
        let seen = |family: Family| if source == "client" { family.client() } else { family.gateway_wan() };
        served(&scene, &scene.lab.client, seen)?;
        for connection in &before {
            talk(connection)?;
        }
        postern.stop()?;
        for connection in &before {
            talk(connection).with_context(|| format!("{source}: after the stop"))?;
        }
        drop((before, server));
        scene.finish()?;
    }
    Ok(())
}

fn refused(
    scene: &Scene,
    postern: &Postern<'_>,
    from: &Namespace,
    to: SocketAddr,
    reason: &str,
) -> Result<Record> {
    // The client is told in words, inside a handshake that is finished (993) or in clear text (143).
    let opened = Session::open(from, to, "mail4.lab.test", &scene.client()?);
    let said = match opened {
        Ok(mut session) => String::from_utf8_lossy(&session.to_end()?).into_owned(),
        Err(error) => format!("{error:#}"),
    };
    ensure!(said.contains("BYE"), "{to}: {said}");
    let record = postern.wait_record(reason, |record| {
        record.text("event.reason") == reason
            && record.text("server.ip") == to.ip().to_string()
            && record.number("server.port") == u64::from(to.port())
    })?;
    let stage = if reason == "egress_differs" { "connect" } else { "accept" };
    ensure!(record.text("postern.stage") == stage, "{record:?}");
    Ok(record)
}

#[test]
fn a_guest_reaches_what_its_entry_allows_and_nothing_else() -> Result<()> {
    let inner = Family::ALL.map(|family| format!("\"{}\"", family.server())).join(", ");
    let policy = Policy::new().ingress(&[INGRESS, GUEST]).table(&format!(
        "[[steering.reach]]\ningress = [\"{GUEST}\"]\negress = [\"{EGRESS}\"]\nexcept = [{inner}]"
    ));
    let scene = Scene::shaped(&policy, GUESTS)?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    let guest = scene.lab.guest()?;
    for family in Family::ALL {
        for port in [143, 993] {
            refused(&scene, &postern, guest, scene.server(family, port), "egress_not_allowed")?;
        }
        let allowed = SocketAddr::new(family.other_server(), 993);
        Session::open(guest, allowed, family.name(), &scene.client()?)?.enter()?;
    }
    served(&scene, &scene.lab.client, |family| family.gateway_wan())
        .context("others reach the inner server")?;
    ensure!(
        peers(&scene.lab.server, 143)?.iter().all(|peer| peer.ip() != Family::V4.guest()),
        "a guest passed"
    );
    postern.stop()?;
    drop(server);
    scene.finish()
}

/// Networks that do not exist.
const LOOPED: [(Family, &str); 2] = [(Family::V4, "10.77.8.0/24"), (Family::V6, "fd77:8::/64")];
/// Mail servers there.
const NOWHERE: [&str; 2] = ["10.77.8.8:143", "[fd77:8::8]:143"];

#[test]
fn mail_that_would_leave_where_clients_are_is_refused_with_the_reason() -> Result<()> {
    let scene = Scene::shaped(&Policy::new().ingress(&[INGRESS, GUEST]), GUESTS)?;
    let postern = scene.start()?;
    for (family, network) in LOOPED {
        // Back through the interface it came from, as behind a gateway that is told to turn clients round.
        scene.lab.gateway.ip(&["route", "add", network, "via", &family.client().to_string()])?;
    }
    for to in NOWHERE {
        refused(&scene, &postern, &scene.lab.client, to.parse()?, "egress_not_configured")?;
    }
    for family in Family::ALL {
        let another = SocketAddr::new(family.guest(), 143);
        refused(&scene, &postern, &scene.lab.client, another, "egress_not_configured")?;
    }
    postern.stop()?;
    Ok(())
}

#[test]
fn mail_that_comes_back_in_is_dropped_and_nobody_chases_his_tail() -> Result<()> {
    for source in SOURCES {
        // The server's host sends what is for this network back to the gateway, to an interface of clients.
        let scene = Scene::new(&Policy::new().source(source).ingress(&[INGRESS, ELSEWHERE]))?;
        let lab = &scene.lab;
        lab.server.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
        for (family, network) in LOOPED {
            lab.gateway.ip(&["route", "add", network, "via", &family.server().to_string()])?;
            lab.server.ip(&["route", "add", network, "via", &family.gateway_elsewhere().to_string()])?;
        }
        let postern = scene.start()?;
        for address in NOWHERE {
            let to: SocketAddr = address.parse()?;
            let _never =
                lab.client.enter(|| Ok(std::net::TcpStream::connect_timeout(&to, PATIENCE).map(drop)))?;
        }
        wait::until("the loop to be cut", PATIENCE, || {
            Ok((postern.counter("dropped_loop")? > 0).then_some(()))
        })
        .with_context(|| format!("{source}\n{}", postern.log()))?;
        let steered = postern.counter("steered_ipv4")? + postern.counter("steered_ipv6")?;
        ensure!(steered <= 8, "{source}: {steered} connections for two clients");
        drop(postern);
    }
    Ok(())
}

#[test]
fn answers_may_come_and_go_by_other_ways() -> Result<()> {
    let shape = Shape { second_lan: true, ..Shape::default() };
    for source in SOURCES {
        for filter in ["0", "2"] {
            let policy =
                Policy::new().source(source).ingress(&[INGRESS, SECOND]).egress(&[EGRESS, ELSEWHERE]);
            let scene = Scene::shaped(&policy, shape)?;
            scene.lab.gateway.sysctl(&[("ipv4/conf/all/rp_filter", filter)])?;
            scene.lab.server_answers_elsewhere()?;
            scene.lab.client_sends_by_second()?;
            let server = scene.serve()?;
            let postern = scene.start()?;
            let seen =
                |family: Family| if source == "client" { family.client() } else { family.gateway_wan() };
            served(&scene, &scene.lab.client, seen)
                .with_context(|| format!("{source}, rp_filter {filter}"))?;
            postern.stop()?;
            drop(server);
        }
    }
    Ok(())
}

/// Give our packets another mark, which leads to another uplink, by a rule that a route lookup does not run.
fn send_elsewhere(scene: &Scene) -> Result<()> {
    let gateway = &scene.lab.gateway;
    for family in Family::ALL {
        let (option, server) = (if family == Family::V4 { "-4" } else { "-6" }, family.server().to_string());
        let hop = family.elsewhere().to_string();
        gateway.ip(&[option, "rule", "add", "pref", "100", "fwmark", "7", "lookup", "77"])?;
        gateway.ip(&["route", "add", &server, "via", &hop, "dev", ELSEWHERE, "table", "77"])?;
    }
    let hook = "route hook output priority mangle";
    gateway.nft_chain("uplinks", hook, "tcp dport { 143, 993 } counter meta mark set 7")
}

#[test]
fn a_connection_that_rules_send_elsewhere_is_refused_before_any_octet() -> Result<()> {
    for source in SOURCES {
        let scene = Scene::new(&Policy::new().source(source))?;
        let postern = scene.start()?;
        send_elsewhere(&scene)?;
        for family in Family::ALL {
            for port in [143, 993] {
                let to = scene.server(family, port);
                let listener = scene.lab.server.listen(to)?;
                let record = refused(&scene, &postern, &scene.lab.client, to, "egress_differs")
                    .with_context(|| format!("{source}, {to}"))?;
                let said = record.text("message");
                ensure!(said.contains("steering.egress") && said.contains("\"wan0\""), "{said}");
                let (mut server, _) = listener.accept()?;
                server.set_read_timeout(Some(PATIENCE))?;
                let mut heard = Vec::new();
                // A reset ends the stream as well as a FIN.
                let _ended = server.read_to_end(&mut heard);
                ensure!(heard.is_empty(), "{source}, {to}: the server heard {heard:?}");
            }
        }
        ensure!(postern.counter("refused_egress")? == 4, "{:#}", postern.status()?);
        postern.stop()?;
    }
    Ok(())
}

#[test]
fn a_connection_that_rules_send_by_another_egress_is_judged_by_that_one() -> Result<()> {
    let both = || Policy::new().egress(&[EGRESS, ELSEWHERE]);
    let scene = Scene::new(&both())?;
    let server = scene.serve()?;
    let postern = scene.start()?;
    send_elsewhere(&scene)?;
    served(&scene, &scene.lab.client, |family| family.gateway_wan())?;
    for record in postern.wait_records(4)? {
        ensure!(record.text("observer.egress.interface.name") == ELSEWHERE, "{record:?}");
    }
    ensure!(postern.counter("noted_syn")? == 4, "{:#}", postern.status()?);
    postern.stop()?;
    // The note names the interface that the SYN took, whatever is allowed: here only the route's interface is.
    let entry = format!("[[steering.reach]]\ningress = [\"{INGRESS}\"]\negress = [\"{EGRESS}\"]");
    scene.installation.configure(&both().table(&entry))?;
    let postern = scene.start()?;
    for family in Family::ALL {
        let to = scene.server(family, 993);
        let record = refused(&scene, &postern, &scene.lab.client, to, "egress_differs")?;
        let said = record.text("message");
        ensure!(["\"wan0\"", "\"dmz0\"", "steering.reach"].iter().all(|word| said.contains(word)), "{said}");
    }
    postern.stop()?;
    drop(server);
    Ok(())
}
