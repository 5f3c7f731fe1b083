//! Paths that are narrower than their links say, with ICMP and without, and clients that fragment.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use postern_tests::frag::{Dialogue, Fragmenting};
use postern_tests::lab::{Family, Shape};
use postern_tests::postern::Policy;
use postern_tests::scene::Scene;
use postern_tests::wait::{self, PATIENCE};

const SOURCES: [&str; 2] = ["gateway", "client"];
const MESSAGE_BYTES: usize = 10 * 1024 * 1024;
const LOGIN: &[u8] = b"a LOGIN alice wonderland\r\n";

/// A message whose lines differ, so that nothing is repeated or left out unseen.
fn message() -> Vec<u8> {
    let mut message = b"Subject: large\r\n\r\n".to_vec();
    for line in 0.. {
        message.extend(format!("{line:070}\r\n").bytes());
        if message.len() >= MESSAGE_BYTES {
            break;
        }
    }
    message
}

#[test]
fn ten_megabytes_pass_hidden_narrow_hops_both_ways() -> Result<()> {
    let message = message();
    for mtu in [1300, 1280] {
        for source in SOURCES {
            let shape = Shape { near_mtu: Some(mtu), far_mtu: Some(mtu), ..Shape::default() };
            let scene = Scene::shaped(&Policy::new().source(source), shape)?;
            let server = scene.serve()?;
            let postern = scene.start()?;
            for (family, port) in [(Family::V4, 993), (Family::V6, 143)] {
                let mut session = scene.session(family, port)?;
                session.enter()?;
                session.there_and_back(&message).with_context(|| {
                    format!("{family:?}, {mtu} octets, source {source}\n{}", postern.log())
                })?;
                session.logout()?;
            }
            ensure!(postern.counter("marked_error")? > 0, "no ICMP error was led to us");
            postern.stop()?;
            drop(server);
            scene.finish()?;
        }
    }
    Ok(())
}

/// Downloads pass the near hop and uploads the far one, each from our own sockets.
#[test]
fn without_any_icmp_our_own_sockets_find_the_narrow_hop() -> Result<()> {
    let message = message();
    for (near_mtu, far_mtu) in [(Some(1300), None), (None, Some(1300))] {
        let scene = Scene::shaped(&Policy::new(), Shape { near_mtu, far_mtu, ..Shape::default() })?;
        scene.lab.block_icmp_errors()?;
        // What the hosts themselves send is their own kernels' affair; handshakes are larger than the hop.
        for host in [&scene.lab.client, &scene.lab.server] {
            host.sysctl(&[("ipv4/tcp_mtu_probing", "1")])?;
        }
        let tls = scene.identity.server_config(rustls::ALL_VERSIONS)?;
        let server = scene.serve_with(tls, vec![message.clone()])?;
        let postern = scene.start()?;
        for family in Family::ALL {
            let mut session = scene.session(family, 993)?;
            session.enter()?;
            if near_mtu.is_some() {
                ensure!(session.fetch(1)? == message, "another message came");
            } else {
                session.append(&message)?;
            }
            session.logout().with_context(|| format!("{family:?}, near {near_mtu:?}, far {far_mtu:?}"))?;
        }
        postern.stop()?;
        drop(server);
        scene.finish()?;
    }
    Ok(())
}

/// Who said what.
type Sayings = Vec<(SocketAddr, Vec<u8>)>;

/// A server that keeps whatever anybody says to it.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Sayings>>);

impl Heard {
    fn listen(&self, scene: &Scene) -> Result<()> {
        for family in Family::ALL {
            for port in [143, 993] {
                let listener = scene.lab.server.listen(scene.server(family, port))?;
                let heard = self.clone();
                std::thread::spawn(move || {
                    while let Ok((mut stream, peer)) = listener.accept() {
                        let heard = heard.clone();
                        std::thread::spawn(move || {
                            let _until = stream.set_read_timeout(Some(PATIENCE));
                            heard.add(peer, &[]);
                            let _greeted = std::io::Write::write_all(&mut stream, b"* OK lab\r\n");
                            let mut octets = [0; 1024];
                            while let Ok(read @ 1..) = stream.read(&mut octets) {
                                heard.add(peer, octets.get(..read).unwrap_or_default());
                            }
                        });
                    }
                });
            }
        }
        Ok(())
    }

    fn add(&self, peer: SocketAddr, octets: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((peer, octets.to_vec()));
    }

    fn of_clients(&self) -> bool {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().any(|(peer, octets)| {
            Family::ALL.iter().any(|family| peer.ip() == family.client())
                || octets.windows(5).any(|window| window == b"LOGIN")
        })
    }
}

#[test]
fn nothing_of_a_fragmented_session_reaches_the_server() -> Result<()> {
    fragmented(&Scene::new(&Policy::new())?)
}

#[test]
fn nothing_of_a_fragmented_session_reaches_the_server_behind_connection_tracking() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    // Connection tracking puts fragments together before routing sees them.
    let rule = "ct state invalid counter drop";
    scene.lab.gateway.nft_chain("tracking", "filter hook prerouting priority filter", rule)?;
    fragmented(&scene)
}

fn fragmented(scene: &Scene) -> Result<()> {
    let heard = Heard::default();
    heard.listen(scene)?;
    let postern = scene.start()?;
    for family in Family::ALL {
        let cuts = Fragmenting::ALL.map(|how| (143, how)).into_iter().chain([(993, Fragmenting::Halves)]);
        for (port, how) in cuts {
            let dialogue = Dialogue::new(&scene.lab.client, scene.server(family, port)).fragment(how);
            let said = dialogue.say(LOGIN)?;
            ensure!(said.nothing(), "{family:?}, port {port}, {how:?}: {said:?}");
            let said = dialogue.only_data().say(LOGIN)?;
            let answered = said.text().contains("a OK") || said.text().contains("a NO");
            ensure!(said.connected && !answered, "{family:?}, port {port}, {how:?}, data only: {said:?}");
        }
        let whole = Dialogue::new(&scene.lab.client, scene.server(family, 143)).fragment(Fragmenting::Whole);
        ensure!(whole.say(LOGIN)?.connected, "what is not cut is taken");
    }
    ensure!(!heard.of_clients(), "the server heard a client");
    for class in ["dropped_fragment", "left_later_fragment"] {
        wait::until(class, PATIENCE, || Ok((postern.counter(class)? > 0).then_some(())))?;
    }
    Ok(())
}
