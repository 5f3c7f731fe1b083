//! Sockets to the server against the real kernel: a gateway and a server, each in a network namespace of its own.
//! Needs root.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where its helpers fail")]

mod namespace;

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use postern::accept::{Admission, Bounds, SocketBuffers};
use postern::config::Source;
use postern::failure::{Cause, Failure};
use postern::handshake::connect_upstream;
use postern::words::{ClientAddr, OriginalDst, Size};
use proxy_ebpf::UPSTREAM_MARK;
use socket2::SockRef;
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(10);
/// The client's and the server's socket in both families. The gateway has neither address.
const PAIRS: [(&str, &str); 2] =
    [("10.0.1.7:40000", "10.0.3.9:993"), ("[fd00:1::7]:40000", "[fd00:3::9]:993")];
const GATEWAYS: [&str; 2] = ["10.0.3.1", "fd00:3::1"];

fn ip(arguments: &str) {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a test on the gateway. What comes in on `wan0` is made local there, as the classifier and its rule do it, and
/// the server's listeners are at hand.
fn on_gateway(test: impl AsyncFnOnce([TcpListener; 2]) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        namespace::enter_new();
        let (wired, wire) = channel();
        let (tell, told) = channel();
        let server = std::thread::spawn(move || {
            namespace::enter_new();
            tell.send(Ok(rustix::thread::gettid())).unwrap();
            wire.recv().unwrap();
            ip("link set wan0-far up");
            for (address, route) in [("10.0.3.9/24", "10.0.3.1"), ("fd00:3::9/64", "fd00:3::1")] {
                ip(&format!("address add {address} dev wan0-far {}", nodad(address)));
                ip(&format!("route add default via {route}"));
            }
            tell.send(Err(PAIRS.map(|(_, server)| TcpListener::bind(server).unwrap()))).unwrap();
        });
        ip("link set lo up");
        ip("link add wan0 type veth peer name wan0-far");
        let tid = told.recv().unwrap().expect("the server's thread");
        ip(&format!("link set wan0-far netns {}", tid.as_raw_nonzero()));
        ip("link set wan0 up");
        for (address, family) in [("10.0.3.1/24", "-4"), ("fd00:3::1/64", "-6")] {
            ip(&format!("address add {address} dev wan0 {}", nodad(address)));
            ip(&format!("{family} rule add pref 100 iif wan0 lookup 100"));
            ip(&format!("{family} route add local default dev lo table 100"));
        }
        wired.send(()).unwrap();
        let listeners = told.recv().unwrap().expect_err("listeners");
        server.join().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(listeners));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn nodad(address: &str) -> &'static str {
    if address.contains(':') { "nodad" } else { "" }
}

async fn connect(source: Source, client: &str, server: &str) -> Result<TcpStream, Cause> {
    connect_beside(&without_limits(), source, client, server).await
}

fn without_limits() -> Arc<Admission> {
    Admission::new(Bounds {
        sessions: u64::MAX,
        sessions_per_client: u64::MAX,
        handshakes: u64::MAX,
        handshakes_per_client: u64::MAX,
        handshakes_per_second_per_client: u32::MAX,
        handshake_burst_per_client: u32::MAX,
    })
}

/// While these sessions go on.
async fn connect_beside(
    sessions: &Admission,
    source: Source,
    client: &str,
    server: &str,
) -> Result<TcpStream, Cause> {
    let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
    let buffers = SocketBuffers::of_session(Size(2 << 20));
    connect_upstream(OriginalDst(server), ClientAddr(client), source, sessions, buffers, PATIENCE).await
}

fn reason(outcome: Result<TcpStream, Cause>) -> (&'static str, String) {
    let failure = Failure::upstream(outcome.expect_err("a refusal"));
    (failure.reason(), failure.to_string())
}

#[test]
fn the_server_sees_the_client_with_a_port_that_clients_do_not_use_and_a_firewall_the_mark() {
    on_gateway(async |listeners| {
        for (listener, (client, server)) in listeners.iter().zip(PAIRS) {
            let client_addr: SocketAddr = client.parse().unwrap();
            let socket = connect(Source::Client, client, server).await.unwrap();
            let (_accepted, seen) = listener.accept().unwrap();
            assert_eq!((seen.ip(), seen), (client_addr.ip(), socket.local_addr().unwrap()));
            assert!((10_000..=32_767).contains(&seen.port()), "{seen}");
            assert_eq!(SockRef::from(&socket).mark().unwrap(), UPSTREAM_MARK);
        }
    });
}

#[test]
fn by_default_the_server_sees_the_gateway_and_a_firewall_the_mark() {
    on_gateway(async |listeners| {
        for ((listener, (client, server)), gateway) in listeners.iter().zip(PAIRS).zip(GATEWAYS) {
            let socket = connect(Source::Gateway, client, server).await.unwrap();
            assert_eq!(listener.accept().unwrap().1.ip().to_string(), gateway);
            assert_eq!(SockRef::from(&socket).mark().unwrap(), UPSTREAM_MARK);
        }
    });
}

#[test]
fn many_sessions_of_one_client_have_ports_of_their_own() {
    on_gateway(async |listeners| {
        for (listener, (client, server)) in listeners.iter().zip(PAIRS) {
            let mut held = Vec::new();
            let mut ports = HashSet::new();
            for count in 0..300 {
                let socket = connect(Source::Client, client, server).await.unwrap();
                let (accepted, seen) = listener.accept().unwrap();
                held.push((socket, accepted));
                assert!(ports.insert(seen.port()), "{seen} twice, in session {count}");
            }
        }
    });
}

#[test]
fn the_port_beside_a_clients_address_is_none_that_the_client_uses_itself() {
    on_gateway(async |listeners| {
        for (listener, (client, server)) in listeners.iter().zip(PAIRS) {
            let address: SocketAddr = client.parse().unwrap();
            let sessions = without_limits();
            let used = |port| sessions.admit(SocketAddr::new(address.ip(), port)).unwrap().0;
            // A router with one address for many clients, and all of these ports but one in use.
            let mut held: Vec<_> = (10_000..=32_767).filter(|port| *port != 23_456).map(used).collect();
            let socket = connect_beside(&sessions, Source::Client, client, server).await.unwrap();
            assert_eq!(listener.accept().unwrap().1.port(), 23_456);
            drop(socket);
            held.push(used(23_456));
            let (token, text) = reason(connect_beside(&sessions, Source::Client, client, server).await);
            assert_eq!(token, "no_ports_left");
            assert!(text.contains("limits.sessions_per_client"), "{text}");
        }
    });
}

#[test]
fn a_session_does_not_keep_a_service_of_the_gateway_from_its_port() {
    on_gateway(async |_listeners| {
        for (client, server) in PAIRS {
            let socket = connect(Source::Client, client, server).await.unwrap();
            let port = socket.local_addr().unwrap().port();
            let any = if client.starts_with('[') { "[::]" } else { "0.0.0.0" };
            TcpListener::bind(format!("{any}:{port}")).expect("a service on all addresses");
        }
    });
}

#[test]
fn a_link_local_client_is_refused_with_the_remedy_and_served_from_the_gateways_address() {
    on_gateway(async |_listeners| {
        for (client, server) in [("169.254.1.2:40000", PAIRS[0].1), ("[fe80::7%2]:40000", PAIRS[1].1)] {
            let (token, text) = reason(connect(Source::Client, client, server).await);
            assert_eq!(token, "client_address_link_local");
            assert!(text.contains("steering.source = \"gateway\""), "{text}");
            connect(Source::Gateway, client, server).await.unwrap();
        }
    });
}

#[test]
fn where_no_port_is_left_the_remedy_is_named() {
    on_gateway(async |_listeners| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001").unwrap();
        for (client, server) in PAIRS {
            let mut held = Vec::new();
            let refused = loop {
                match connect(Source::Gateway, client, server).await {
                    Ok(socket) => held.push(socket),
                    refused => break refused,
                }
            };
            assert_eq!(held.len(), 2);
            let (token, text) = reason(refused);
            assert_eq!(token, "no_ports_left");
            assert!(text.contains("net.ipv4.ip_local_port_range"), "{text}");
            connect(Source::Client, client, server).await.expect("ports beside the client's address");
        }
    });
}

#[test]
fn a_server_that_refuses_is_no_lack_of_ports() {
    on_gateway(async |_listeners| {
        for (client, server) in PAIRS {
            let nobody = server.replace("993", "994");
            for source in [Source::Gateway, Source::Client] {
                assert_eq!(reason(connect(source, client, &nobody).await).0, "upstream_refused");
            }
        }
    });
}
