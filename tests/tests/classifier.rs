//! The classifier in a real kernel, with frames that no socket would send: what it drops, marks and leaves alone, by
//! tcx and by clsact.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use postern::steering::classifier::{AttachMethod, AttachPoint};
use postern::steering::ports::PortPlan;
use postern::steering::program::Program;
use postern::steering::syn_egress::SynEgress;
use postern::words::Side;
use postern_tests::frames::{
    ACK, CUSTOMER_TAG, Complaint, Extension, Packet, SERVICE_TAG, SYN, Segment, ethernet,
};
use postern_tests::lab::{EGRESS, ELSEWHERE, Family, INGRESS, Lab};
use postern_tests::netns::{self, Namespace, Way};
use postern_tests::wait::{self, PATIENCE};
use postern_tests::wire::Wire;
use proxy_ebpf::{Class, Intake, UPSTREAM_MARK};
use socket2::{Domain, Socket, Type};

/// No service uses it here.
const PORT: u16 = 40_000;

/// The classifier on the gateway, and hands on the far end of one of its interfaces.
struct Scene {
    lab: Lab,
    program: Program,
    wire: Wire,
    way: Way,
}

impl Scene {
    fn downstream(hook: AttachMethod) -> Result<Self> {
        let lab = Lab::new()?;
        let wire = Wire::open(&lab.client, "eth0")?;
        let way = lab.client.way(Family::V4.server())?;
        let program = program(&lab, hook)?;
        Ok(Self { lab, program, wire, way })
    }

    fn upstream(hook: AttachMethod) -> Result<Self> {
        let lab = Lab::new()?;
        let wire = Wire::open(&lab.server, "eth0")?;
        let way = lab.server.way(Family::V4.client())?;
        let program = program(&lab, hook)?;
        Ok(Self { lab, program, wire, way })
    }

    fn count(&self, class: Class) -> Result<u64> {
        let counts = self.program.classes()?;
        Class::ALL.into_iter().zip(counts).find(|(c, _)| *c == class).map(|(_, n)| n).context("no such class")
    }

    /// A frame is counted as this, and once.
    fn expect(&mut self, what: &str, frame: &[u8], class: Class) -> Result<()> {
        let before = self.program.classes()?;
        let count = self.count(class)?;
        self.wire.send(frame)?;
        wait::until(&format!("{what} to be {class:?}"), PATIENCE, || {
            Ok((self.count(class)? > count).then_some(()))
        })
        .with_context(|| {
            let now = self.program.classes().unwrap_or_default();
            let differs = before.iter().zip(now).zip(Class::ALL).filter(|((b, n), _)| **b != *n);
            format!("counted instead: {:?}", differs.map(|(_, class)| class).collect::<Vec<_>>())
        })
    }

    fn packet(&mut self, what: &str, packet: &Packet, class: Class) -> Result<()> {
        let frame = packet.frame(self.way.far, self.way.near, &[]);
        self.expect(what, &frame, class)
    }

    fn octets(&mut self, what: &str, v6: bool, octets: &[u8], class: Class) -> Result<()> {
        let frame = ethernet(self.way.far, self.way.near, &[], v6, octets);
        self.expect(what, &frame, class)
    }
}

fn program(lab: &Lab, hook: AttachMethod) -> Result<Program> {
    let mut program = match std::env::var_os("POSTERN_BPF_OBJECT") {
        Some(path) => Program::load_from(&std::fs::read(path)?, hook)?,
        None => Program::load_with(hook)?,
    };
    stand(lab, &mut program)?;
    Ok(program)
}

fn stand(lab: &Lab, program: &mut Program) -> Result<Vec<AttachPoint>> {
    stand_at(lab, program, &[EGRESS])
}

fn stand_at(lab: &Lab, program: &mut Program, egress: &[&str]) -> Result<Vec<AttachPoint>> {
    let settings = postern::config::parse(
        &format!(
            "[steering]\ningress = [\"{INGRESS}\"]\negress = {egress:?}\n[certificates]\n\
             authority = {{ cert = \"ca.pem\", key = \"ca.key\" }}\n"
        ),
        std::path::Path::new("postern.toml"),
    )?
    .steering;
    let places: Vec<AttachPoint> =
        [(&settings.ingress, Side::Downstream), (&settings.egress, Side::Upstream)]
            .into_iter()
            .flat_map(|(names, side)| names.iter().map(move |name| (name.clone(), side)))
            .map(|(name, side)| {
                let index = index(&lab.gateway, name.as_str())?;
                Ok(AttachPoint { name, index, side })
            })
            .collect::<Result<_>>()?;
    program.set_ports(&PortPlan::steering_all(&settings))?;
    lab.gateway.enter(|| Ok(program.classify(&places)?))
}

/// Only this port is admitted on the clients' interface, and the others are treated so.
fn admit(scene: &mut Scene, admitted: u16, unmatched: &str) -> Result<()> {
    let text = format!(
        "[steering]\ningress = [\"{INGRESS}\"]\negress = [\"{EGRESS}\"]\nunmatched = \"{unmatched}\"\n\
         [certificates]\nauthority = {{ cert = \"ca.pem\", key = \"ca.key\" }}\n"
    );
    let settings = postern::config::parse(&text, std::path::Path::new("postern.toml"))?.steering;
    let lan = index(&scene.lab.gateway, INGRESS)?;
    scene.program.set_interfaces(&[(lan, 0)], &[])?;
    Ok(scene.program.set_ports(&PortPlan::admitting(&settings, |_, port| port == admitted))?)
}

fn index(namespace: &Namespace, interface: &str) -> Result<u32> {
    let shown = namespace.ip(&["-o", "link", "show", interface])?;
    Ok(shown.split(':').next().context("ip shows nothing")?.trim().parse()?)
}

/// From the lab's client to its server.
fn ends(family: Family, port: u16) -> (SocketAddr, SocketAddr) {
    (SocketAddr::new(family.client(), PORT), SocketAddr::new(family.server(), port))
}

fn syn(family: Family, port: u16) -> Packet {
    let (from, to) = ends(family, port);
    Packet::tcp(from, to, &Segment { options: vec![1; 20], ..Segment::syn(1) })
}

#[test]
fn whole_packets_are_left_alone_whatever_headers_they_carry() -> Result<()> {
    for &hook in AttachMethod::available() {
        let mut scene = Scene::downstream(hook)?;
        for family in Family::ALL {
            for port in [143, 993] {
                scene.packet("mail", &syn(family, port), Class::Mail)?;
            }
            scene.packet("SMTP", &syn(family, 25), Class::OtherPort)?;
            let (from, to) = ends(family, 143);
            scene.packet("UDP", &Packet::udp(from, to, b"hello"), Class::OtherProtocol)?;
        }
        let options = syn(Family::V4, 143).with_options(&[1; 40]);
        scene.packet("40 octets of IPv4 options", &options, Class::Mail)?;
        let chain =
            [Extension::HopByHop, Extension::Routing, Extension::Destination(0), Extension::Destination(3)];
        scene.packet("a chain", &syn(Family::V6, 993).with_extensions(&chain), Class::Mail)?;
        scene.packet(
            "the longest chain that is walked",
            &syn(Family::V6, 143).with_extensions(&[Extension::Destination(0); 8]),
            Class::Mail,
        )?;
    }
    Ok(())
}

#[test]
fn fragments_that_may_hide_a_steered_port_are_dropped_and_others_pass() -> Result<()> {
    for &hook in AttachMethod::available() {
        let mut scene = Scene::downstream(hook)?;
        let server = Wire::open(&scene.lab.server, "eth0")?;
        for family in Family::ALL {
            for port in [143, 993] {
                scene.packet("first", &syn(family, port).fragment(0, 24), Class::DroppedFragment)?;
                scene.packet("tiny first", &syn(family, port).fragment(0, 8), Class::DroppedFragment)?;
            }
            for octets in [0, 1, 3] {
                let portless = syn(family, 143).fragment(0, octets);
                scene.packet("a first without a port", &portless, Class::DroppedTinyFragment)?;
            }
            for offset in [8, 16] {
                let inside = syn(family, 25).fragment(offset, 40);
                scene.packet("inside TCP's header", &inside, Class::DroppedHeaderFragment)?;
            }
            ensure!(server.packets().iter().all(|packet| packet.place.is_none()), "a fragment passed");
            scene.packet("of another port", &syn(family, 25).fragment(0, 24), Class::OtherPort)?;
            scene.packet("behind the header", &syn(family, 143).fragment(24, 32), Class::LaterFragment)?;
            let arrived = server.packet(PATIENCE, |packet| {
                packet.place.is_some_and(|place| place.offset == 24) && packet.from == family.client()
            })?;
            ensure!(arrived.is_some(), "{family:?}: a fragment that is left alone must arrive");
        }
        let options = syn(Family::V4, 143).with_options(&[1; 40]).fragment(0, 24);
        scene.packet("with IPv4 options", &options, Class::DroppedFragment)?;
        let mut atomic = syn(Family::V6, 143);
        atomic.place = Some(postern_tests::frames::Place { offset: 0, more: false });
        scene.packet("atomic (RFC 6946)", &atomic, Class::DroppedFragment)?;
        let chain = [Extension::HopByHop, Extension::Destination(2)];
        let chained = syn(Family::V6, 993).with_extensions(&chain).fragment(0, 24);
        scene.packet("behind extension headers", &chained, Class::DroppedFragment)?;
        let long = syn(Family::V6, 143).with_extensions(&[Extension::Destination(0); 9]);
        scene.packet("behind too many", &long, Class::DroppedHeaderChain)?;
        ensure!(server.packets().iter().all(|packet| packet.to != atomic.to), "a hidden port passed");
    }
    Ok(())
}

#[test]
fn a_refused_port_is_counted_hides_in_no_fragment_and_keeps_the_sessions_that_it_has() -> Result<()> {
    for &hook in AttachMethod::available() {
        let mut scene = Scene::downstream(hook)?;
        for family in Family::ALL {
            let held = connection(&scene.lab, family, 143)?;
            let more = Packet::tcp(held.far, held.near, &Segment { flags: ACK, ..Segment::default() });
            scene.packet("while it is steered", &more, Class::Mail)?;
            admit(&mut scene, 993, "refuse")?;
            scene.packet("a SYN", &syn(family, 143), Class::Refused)?;
            scene.packet("a session's", &more, Class::MarkedClient)?;
            let stranger = SocketAddr::new(held.far.ip(), held.far.port() ^ 1);
            let stray = Packet::tcp(stranger, held.near, &Segment { flags: ACK, ..Segment::default() });
            scene.packet("no session's", &stray, Class::Refused)?;
            scene.packet("a first fragment", &syn(family, 143).fragment(0, 24), Class::DroppedFragment)?;
            scene.packet("of the admitted port", &syn(family, 993), Class::Mail)?;
            admit(&mut scene, 993, "pass")?;
            scene.packet("left alone", &syn(family, 143), Class::OtherPort)?;
            scene.packet("its fragment", &syn(family, 143).fragment(0, 24), Class::OtherPort)?;
            scene.packet("still admitted", &syn(family, 993), Class::Mail)?;
            admit(&mut scene, 143, "refuse")?;
            scene.packet("admitted again", &syn(family, 143), Class::Mail)?;
        }
    }
    Ok(())
}

#[test]
fn a_priority_tag_hides_nothing_and_a_vlan_is_another_interfaces() -> Result<()> {
    for &hook in AttachMethod::available() {
        let mut scene = Scene::downstream(hook)?;
        for family in Family::ALL {
            let fragment = syn(family, 143).fragment(0, 24);
            let (to, from) = (scene.way.far, scene.way.near);
            for (what, tags, class) in [
                ("priority", vec![(CUSTOMER_TAG, 0xe000)], Class::DroppedFragment),
                ("two priorities", vec![(SERVICE_TAG, 0), (CUSTOMER_TAG, 0)], Class::DroppedFragment),
                ("four priorities", vec![(CUSTOMER_TAG, 0); 4], Class::DroppedHeaderChain),
                ("a VLAN", vec![(CUSTOMER_TAG, 10)], Class::OtherVlan),
                ("a VLAN in a priority", vec![(CUSTOMER_TAG, 0), (CUSTOMER_TAG, 10)], Class::OtherVlan),
            ] {
                scene.expect(what, &fragment.frame(to, from, &tags), class)?;
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_cut_or_contradicts_itself_is_counted_and_never_misread() -> Result<()> {
    let mut scene = Scene::downstream(AttachMethod::of_this_kernel())?;
    for family in Family::ALL {
        let v6 = family == Family::V6;
        let whole = syn(family, 143).octets();
        let header = if v6 { 40 } else { 20 };
        // Cut in the IP header, in the ports, before the flags.
        for cut in (0..header).chain(header..header + 14) {
            let octets = whole.get(..cut).context("cut")?;
            scene.octets(&format!("{family:?} cut at {cut}"), v6, octets, Class::Malformed)?;
        }
        for (what, first) in [("version", 0x75), ("a header of 16 octets", 0x44), ("nothing", 0x00)] {
            let mut octets = whole.clone();
            if let Some(octet) = octets.first_mut() {
                *octet = if v6 { first & 0x50 } else { first };
            }
            scene.octets(what, v6, &octets, Class::Malformed)?;
        }
    }
    let arp = [&scene.way.far[..], &scene.way.near[..], &[0x08, 0x06], &[0; 28]].concat();
    scene.expect("ARP", &arp, Class::OtherFamily)
}

/// A connection of the gateway's own: its end there, and the far end. Held as long as the sockets.
struct Connection {
    near: SocketAddr,
    far: SocketAddr,
    _held: (std::net::TcpStream, std::net::TcpStream),
}

fn connection(lab: &Lab, family: Family, port: u16) -> Result<Connection> {
    let near = SocketAddr::new(family.gateway_lan(), port);
    let listener = lab.gateway.listen(near)?;
    let client = lab.client.connect(near)?;
    let (accepted, far) = listener.accept()?;
    Ok(Connection { near, far, _held: (client, accepted) })
}

#[test]
fn errors_that_quote_a_socket_of_ours_are_marked_and_no_others() -> Result<()> {
    for &hook in AttachMethod::available() {
        let mut scene = Scene::downstream(hook)?;
        for family in Family::ALL {
            let held = connection(&scene.lab, family, 143)?;
            let router = family.client();
            let sent =
                |from, to| Packet::tcp(from, to, &Segment { flags: ACK, ..Segment::default() }).octets();
            let ours = sent(held.near, held.far);
            for complaint in [
                Complaint::TooBig(1300),
                Complaint::PortUnreachable,
                Complaint::HostUnreachable,
                Complaint::Prohibited,
                Complaint::TimeExceeded,
            ] {
                let error = Packet::complaint(router, held.near.ip(), complaint, &ours);
                scene.packet(&format!("{complaint:?}"), &error, Class::MarkedError)?;
            }
            let quote =
                |octets: &[u8]| Packet::complaint(router, held.near.ip(), Complaint::TooBig(1300), octets);
            let least = if family == Family::V6 { 44 } else { 24 };
            // RFC 792 promises 8 octets of TCP; the ports are in the first 4.
            scene.packet("8 octets", &quote(ours.get(..least + 4).context("cut")?), Class::MarkedError)?;
            for cut in 0..least {
                let short = quote(ours.get(..cut).context("cut")?);
                scene.packet(&format!("{family:?} quoting {cut} octets"), &short, Class::NotOurs)?;
            }
            let stranger = SocketAddr::new(held.far.ip(), held.far.port() ^ 1);
            scene.packet("another port", &quote(&sent(held.near, stranger)), Class::NotOurs)?;
            scene.packet("the wrong way", &quote(&sent(held.far, held.near)), Class::NotOurs)?;
            let udp = Packet::udp(held.near, held.far, b"").octets();
            scene.packet("UDP of the same ports", &quote(&udp), Class::NotOurs)?;
            let _listens = scene.lab.gateway.listen(SocketAddr::new(family.gateway_lan(), 993))?;
            let listener = SocketAddr::new(family.gateway_lan(), 993);
            scene.packet("a listener's", &quote(&sent(listener, held.far)), Class::NotOurs)?;
        }
    }
    Ok(())
}

#[test]
fn packets_from_servers_are_marked_for_our_sockets_only_and_only_when_asked_for() -> Result<()> {
    for &hook in AttachMethod::available() {
        let mut scene = Scene::upstream(hook)?;
        for family in Family::ALL {
            let server = SocketAddr::new(family.server(), 143);
            let listener = scene.lab.server.listen(server)?;
            let held = scene.lab.gateway.connect(server)?;
            let _accepted = listener.accept()?;
            let ack = Segment { flags: ACK, ..Segment::default() };
            let answer = Packet::tcp(server, held.local_addr()?, &ack);
            scene.program.set_returning(false)?;
            scene.packet("not asked for", &answer, Class::OtherProtocol)?;
            scene.program.set_returning(true)?;
            scene.packet("ours", &answer, Class::MarkedServer)?;
            let client = SocketAddr::new(family.client(), 50_000);
            scene.packet("of a forwarded client", &Packet::tcp(server, client, &ack), Class::NotOurs)?;
            let smtp = SocketAddr::new(family.server(), 25);
            scene.packet("of another port", &Packet::tcp(smtp, client, &ack), Class::OtherPort)?;
            scene.packet("a fragment", &answer.fragment(8, 20), Class::LaterFragment)?;
            scene.packet(
                "nothing of a server's is dropped",
                &syn6_chain(server, client),
                Class::OtherProtocol,
            )?;
        }
    }
    Ok(())
}

/// More extension headers than are walked, or, in IPv4, no TCP.
fn syn6_chain(from: SocketAddr, to: SocketAddr) -> Packet {
    match from {
        SocketAddr::V4(_) => Packet::udp(from, to, b""),
        SocketAddr::V6(_) => {
            Packet::tcp(from, to, &Segment::syn(1)).with_extensions(&[Extension::Destination(0); 9])
        }
    }
}

#[test]
fn while_new_connections_pass_those_that_exist_are_marked() -> Result<()> {
    for &hook in AttachMethod::available() {
        let mut scene = Scene::downstream(hook)?;
        for family in Family::ALL {
            let held = connection(&scene.lab, family, 993)?;
            let data = Packet::tcp(held.far, held.near, &Segment { flags: ACK, ..Segment::default() });
            scene.program.set_intake(Intake::Take)?;
            scene.packet("in ordinary times", &data, Class::Mail)?;
            scene.program.set_intake(Intake::Pass)?;
            scene.packet("it exists", &data, Class::MarkedClient)?;
            scene.packet("it is new", &syn(family, 993), Class::Mail)?;
            scene.program.set_intake(Intake::Take)?;
        }
    }
    Ok(())
}

/// A socket of the gateway's own that waits for an answer to its SYN, and that SYN.
fn asking(lab: &Lab, to: SocketAddr, server: &Wire) -> Result<(Socket, SocketAddr, Segment)> {
    let socket = lab.gateway.enter(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let _in_progress = socket.connect(&to.into());
        Ok(socket)
    })?;
    let from = socket.local_addr()?.as_socket().context("no address")?;
    let sent = |packet: &Packet| packet.segment().filter(|(f, t, _)| (*f, *t) == (from, to));
    let seen = server.packet(PATIENCE, |packet| sent(packet).is_some())?;
    let (.., syn) = seen.as_ref().and_then(sent).context("no SYN arrived")?;
    ensure!(syn.flags & (SYN | ACK) == SYN, "{syn:?}");
    Ok((socket, from, syn))
}

#[test]
fn a_syn_of_our_own_that_comes_back_is_dropped_and_a_clients_with_the_same_ends_is_not() -> Result<()> {
    for &hook in AttachMethod::available() {
        let mut scene = Scene::downstream(hook)?;
        let server = Wire::open(&scene.lab.server, "eth0")?;
        for family in Family::ALL {
            let to = SocketAddr::new(family.silent(), 143);
            let (_asking, from, syn) = asking(&scene.lab, to, &server)?;
            scene.packet("ours", &Packet::tcp(from, to, &syn), Class::DroppedLoop)?;
            let theirs = Segment { seq: syn.seq.wrapping_add(1), ..syn.clone() };
            scene.packet("a client's, meanwhile", &Packet::tcp(from, to, &theirs), Class::Mail)?;
            let other = SocketAddr::new(from.ip(), from.port() ^ 1);
            scene.packet("of another port", &Packet::tcp(other, to, &syn), Class::Mail)?;
            // A connection that stands has no SYN on its way.
            let at = SocketAddr::new(family.server(), 143);
            let listener = scene.lab.server.listen(at)?;
            let connected = scene.lab.gateway.connect(at)?;
            let _accepted = listener.accept()?;
            let later = Packet::tcp(connected.local_addr()?, at, &Segment::syn(7));
            scene.packet("a client's, beside a connection of ours", &later, Class::Mail)?;
        }
    }
    Ok(())
}

#[test]
fn every_prefix_of_every_packet_is_counted_once() -> Result<()> {
    let mut scene = Scene::downstream(AttachMethod::of_this_kernel())?;
    for family in Family::ALL {
        let held = connection(&scene.lab, family, 143)?;
        let quoted = Packet::tcp(held.near, held.far, &Segment { flags: SYN, ..Segment::default() }).octets();
        let error = Packet::complaint(family.client(), held.near.ip(), Complaint::TooBig(1300), &quoted);
        let chain = [Extension::HopByHop, Extension::Destination(1)];
        for packet in
            [syn(family, 143).with_extensions(&chain).fragment(0, 40), error.with_extensions(&chain)]
        {
            let whole = packet.octets();
            for cut in 0..whole.len() {
                let frame = ethernet(
                    scene.way.far,
                    scene.way.near,
                    &[],
                    family == Family::V6,
                    whole.get(..cut).context("cut")?,
                );
                let before: u64 = scene.program.classes()?.iter().sum();
                scene.wire.send(&frame)?;
                // Neighbours talk meanwhile, so more may be counted; nothing may be lost.
                wait::until(&format!("{family:?}, {cut} octets, to be counted"), PATIENCE, || {
                    Ok((scene.program.classes()?.iter().sum::<u64>() > before).then_some(()))
                })?;
            }
        }
        ensure!(scene.count(Class::MarkedError)? > 0 || family == Family::V4, "no prefix showed the ports");
    }
    Ok(())
}

fn tc_of(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let output = netns::run(lab.gateway.command("tc").args(arguments), "", PATIENCE)?;
    netns::success("tc", &output)
}

#[test]
fn a_qdisc_that_others_delete_comes_back_and_nothing_is_left_in_the_end() -> Result<()> {
    let mut scene = Scene::downstream(AttachMethod::Clsact)?;
    let shown = tc_of(&scene.lab, &["filter", "show", "dev", INGRESS, "ingress"])?;
    ensure!(shown.contains("postern_clients"), "{shown}");
    tc_of(&scene.lab, &["qdisc", "delete", "dev", INGRESS, "clsact"])?;
    let again = stand(&scene.lab, &mut scene.program)?;
    ensure!(again.iter().map(|place| place.name.as_str()).eq([INGRESS]), "attached anew: {again:?}");
    ensure!(stand(&scene.lab, &mut scene.program)?.is_empty(), "what is there is not attached twice");
    tc_of(&scene.lab, &["filter", "delete", "dev", EGRESS, "egress"])?;
    let again = stand(&scene.lab, &mut scene.program)?;
    ensure!(again.iter().map(|place| place.name.as_str()).eq([EGRESS]), "attached anew: {again:?}");
    let shown = tc_of(&scene.lab, &["filter", "show", "dev", EGRESS, "egress"])?;
    ensure!(shown.contains("postern_egress"), "{shown}");
    let shown = tc_of(&scene.lab, &["filter", "show", "dev", EGRESS, "ingress"])?;
    ensure!(shown.matches("direct-action").count() == 1, "attached twice: {shown}");
    scene.packet("a fragment", &syn(Family::V4, 143).fragment(0, 24), Class::DroppedFragment)?;
    let Scene { lab, program, .. } = scene;
    // Killed: nobody drops anything, and the filters of clsact stay.
    let mut killed = Program::load_with(AttachMethod::Clsact)?;
    stand(&lab, &mut killed)?;
    std::mem::forget(killed);
    lab.gateway.enter(|| Ok(postern::steering::routing::clear()?))?;
    let shown = tc_of(&lab, &["filter", "show", "dev", INGRESS, "ingress"])?;
    ensure!(!shown.contains("postern"), "{shown}");
    lab.gateway.enter(|| {
        drop(program);
        Ok(())
    })?;
    let left = tc_of(&lab, &["qdisc", "show"])?;
    ensure!(!left.contains("clsact"), "{left}");
    Ok(())
}

#[test]
fn the_classifier_goes_before_programs_of_others_or_says_that_it_cannot() -> Result<()> {
    for &hook in AttachMethod::available() {
        let lab = Lab::new()?;
        // Another's program, there before: it drops the fragment itself, and then nobody behind it sees one.
        let mut other = program(&lab, hook)?;
        let (wire, way) = (Wire::open(&lab.client, "eth0")?, lab.client.way(Family::V4.server())?);
        let mut scene = Scene { program: program(&lab, hook)?, lab, wire, way };
        let fragment = syn(Family::V4, 143).fragment(0, 24);
        scene.packet("behind nobody", &fragment, Class::DroppedFragment)?;
        match hook {
            AttachMethod::Tcx => {
                let again = stand(&scene.lab, &mut other)?;
                ensure!(again.len() == 2, "the other goes before it again: {again:?}");
                let again = stand(&scene.lab, &mut scene.program)?;
                ensure!(again.len() == 2, "and it before the other: {again:?}");
            }
            AttachMethod::Clsact => {
                stand(&scene.lab, &mut scene.program)?;
                ensure!(scene.program.in_front_of_classifier().is_empty(), "the other stands behind it");
                stand(&scene.lab, &mut other)?;
                let said = other.in_front_of_classifier();
                // Two classifiers, and the program at egress.
                ensure!(said.len() == 3, "{said:?}");
                ensure!(
                    said.iter().all(|said| said.contains("the filter of preference 143 (bpf)")),
                    "{said:?}"
                );
            }
        }
        scene.packet("behind nobody", &fragment, Class::DroppedFragment)?;
        ensure!(stand(&scene.lab, &mut scene.program)?.is_empty(), "the first one is not attached again");
        scene.lab.gateway.enter(|| {
            drop(other);
            Ok(())
        })?;
    }
    Ok(())
}

/// A socket to a server as Postern makes it, that connects or tries to.
fn to_server(lab: &Lab, to: SocketAddr, mark: u32) -> Result<Socket> {
    lab.gateway.enter(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_mark(mark)?;
        socket.set_nonblocking(true)?;
        let _in_progress = socket.connect(&to.into());
        Ok(socket)
    })
}

/// What the program notes, as the worker reads it.
fn notes(program: &Program) -> Result<SynEgress> {
    Ok(SynEgress::map(program.syn_egress())?)
}

/// The interface that its SYN left by is this one, sooner or later: a neighbour may have to be found first.
fn left_by(scene: &Scene, socket: &Socket, interface: &str) -> Result<()> {
    let index = index(&scene.lab.gateway, interface)?;
    wait::until(&format!("a SYN out of {interface}"), PATIENCE, || {
        Ok((notes(&scene.program)?.interface(socket)? == Some(index)).then_some(()))
    })
}

#[test]
fn the_interface_that_a_syn_leaves_by_is_noted_and_no_others() -> Result<()> {
    for &hook in AttachMethod::available() {
        let scene = Scene::upstream(hook)?;
        for family in Family::ALL {
            let to = SocketAddr::new(family.server(), 143);
            let listener = scene.lab.server.listen(to)?;
            // Before the first notes, so that an empty slot is seen, too.
            let stranger = to_server(&scene.lab, to, 0)?;
            let _theirs = listener.accept()?;
            ensure!(notes(&scene.program)?.interface(&stranger)?.is_none(), "a socket without the mark");
            let counted = scene.count(Class::NotedSyn)?;
            let marked = to_server(&scene.lab, to, UPSTREAM_MARK | 7)?;
            let _ours = listener.accept()?;
            left_by(&scene, &marked, EGRESS)?;
            ensure!(scene.count(Class::NotedSyn)? == counted + 1, "one SYN, one note");
            let elsewhere = SocketAddr::new(family.elsewhere(), 143);
            let listener = scene.lab.server.listen(elsewhere)?;
            let away = to_server(&scene.lab, elsewhere, UPSTREAM_MARK)?;
            let _away = listener.accept()?;
            ensure!(notes(&scene.program)?.interface(&away)?.is_none(), "by an interface without program");
        }
    }
    Ok(())
}

#[test]
fn of_interfaces_above_each_other_the_uppermost_is_noted() -> Result<()> {
    for &hook in AttachMethod::available() {
        let mut scene = Scene::upstream(hook)?;
        let (near, far, above) = ("10.77.20.1/24", "10.77.20.2", "above0");
        let gateway = &scene.lab.gateway;
        gateway.ip(&["link", "add", "link", EGRESS, "name", above, "type", "macvlan"])?;
        gateway.ip(&["address", "add", near, "dev", above])?;
        gateway.ip(&["link", "set", above, "up"])?;
        scene.lab.server.ip(&["address", "add", &format!("{far}/24"), "dev", "eth0"])?;
        stand_at(&scene.lab, &mut scene.program, &[above, EGRESS])?;
        let to = SocketAddr::new(far.parse()?, 993);
        let listener = scene.lab.server.listen(to)?;
        let socket = to_server(&scene.lab, to, UPSTREAM_MARK)?;
        let _accepted = listener.accept()?;
        ensure!(scene.count(Class::NotedSyn)? == 2, "both interfaces saw the SYN");
        left_by(&scene, &socket, above)?;
    }
    Ok(())
}

#[test]
fn a_syn_that_is_sent_again_by_another_way_is_noted_there() -> Result<()> {
    let mut scene = Scene::upstream(AttachMethod::of_this_kernel())?;
    stand_at(&scene.lab, &mut scene.program, &[EGRESS, ELSEWHERE])?;
    for family in Family::ALL {
        let socket = to_server(&scene.lab, SocketAddr::new(family.silent(), 143), UPSTREAM_MARK)?;
        left_by(&scene, &socket, EGRESS)?;
        let (silent, hop) = (family.silent().to_string(), family.elsewhere().to_string());
        scene.lab.gateway.ip(&["route", "replace", &silent, "via", &hop, "dev", ELSEWHERE])?;
        left_by(&scene, &socket, ELSEWHERE)?;
    }
    Ok(())
}
