//! The steering program in a real kernel: which packets it takes, leaves alone and drops, and what it counts.
//!
//! `POSTERN_BPF_OBJECT` names another object to test than the embedded one: `cargo xtask ebpf --check` sets it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test file: helpers stand outside of the test functions that clippy.toml exempts"
)]

#[path = "../forks/mod.rs"]
mod forks;
mod lab;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use postern::steering::classifier::AttachMethod;
use postern::steering::ports::PortPlan;
use postern::steering::program::{Program, ProgramError};
use proxy_ebpf::{Exit, Family, INGRESS_MAX, WORKERS_MAX};
use socket2::Socket;

use forks::close;
use lab::{
    CLIENT, GATEWAY_LAN, GATEWAY_WAN, Lab, SERVER, accept, arrived, assert_talks, port, require_root, waiting,
};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const PORTS: [u16; 2] = [143, 993];

fn load() -> Program {
    match std::env::var_os("POSTERN_BPF_OBJECT") {
        Some(path) => Program::load_from(&std::fs::read(path).unwrap(), AttachMethod::of_this_kernel()),
        None => Program::load(),
    }
    .unwrap()
}

/// Ports as a configuration with this ingress lists them, of which these are admitted.
fn plan(ports: &str, admits: impl Fn(u16) -> bool) -> PortPlan {
    let text = format!(
        "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n{ports}\n[certificates]\n\
         authority = {{ cert = \"a.pem\", key = \"a.key\" }}\n"
    );
    let config = postern::config::parse(&text, std::path::Path::new("postern.toml")).unwrap();
    PortPlan::admitting(&config.steering, |_, port| admits(port))
}

/// Attached on the gateway, with `lan0` as ingress and no listener.
fn program(lab: &Lab) -> Program {
    let mut program = load();
    program.set_ports(&plan("", |_| true)).unwrap();
    program.set_interfaces(&[(lab.index("lan0"), 0)], &[lab.index("wan0")]).unwrap();
    lab.gateway.run(|| program.attach()).unwrap();
    program
}

/// The same with one listener per family.
fn steering(lab: &Lab) -> (Program, [Socket; 2]) {
    let mut program = program(lab);
    let listeners = FAMILIES.map(|family| lab.gateway.transparent(family, 0));
    for (family, listener) in FAMILIES.into_iter().zip(&listeners) {
        program.add_listener(0, family, 0, listener).unwrap();
    }
    (program, listeners)
}

/// These exits were taken so often, and no other ever.
fn assert_counted(program: &Program, expected: &[(Exit, u64)]) {
    let counted: Vec<(Exit, u64)> =
        Exit::ALL.into_iter().zip(program.counters().unwrap()).filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, expected);
}

#[test]
fn mail_of_both_ports_and_families_arrives_with_its_destination() {
    let lab = Lab::new();
    let (program, listeners) = steering(&lab);
    for (family, listener) in listeners.iter().enumerate() {
        for port in PORTS {
            let destination = SocketAddr::new(SERVER[family].parse().unwrap(), port);
            let _client = lab.client.connect(SERVER[family], port).unwrap();
            let client: IpAddr = CLIENT[family].parse().unwrap();
            assert_eq!(accept(listener), (destination, client));
            let mut client = lab.client.connect(SERVER[family], port).unwrap();
            assert_talks(&mut client, listener);
        }
    }
    assert_counted(&program, &[(Exit::Steered4, 4), (Exit::Steered6, 4)]);
}

#[test]
fn other_ports_are_left_alone() {
    let lab = Lab::new();
    let (program, listeners) = steering(&lab);
    for family in 0..2 {
        let local = lab.gateway.serve(GATEWAY_LAN[family], 2525);
        assert_talks(&mut lab.client.connect(GATEWAY_LAN[family], 2525).unwrap(), &local);
        let beyond = lab.server.serve(SERVER[family], 25);
        assert_talks(&mut lab.client.connect(SERVER[family], 25).unwrap(), &beyond);
    }
    assert_eq!(listeners.each_ref().map(waiting), [0, 0]);
    // What is forwarded never meets the program.
    assert_counted(&program, &[(Exit::OtherPort, 2)]);
}

#[test]
fn the_ports_are_those_of_the_plan_and_another_plan_takes_their_place() {
    let lab = Lab::new();
    let (mut program, listeners) = steering(&lab);
    // Ports at both ends of a word of the map, and at both ends of the range.
    let ports = [64, 95, 1, 65_535];
    program
        .set_ports(&plan("starttls_ports = [64, 95, 1, 96]\nimplicit_tls_ports = [65535]", |_| true))
        .unwrap();
    for (family, listener) in listeners.iter().enumerate() {
        for port in ports {
            assert_talks(&mut lab.client.connect(GATEWAY_LAN[family], port).unwrap(), listener);
        }
        for port in [63, 97, 65_534, 143] {
            let local = lab.gateway.serve(GATEWAY_LAN[family], port);
            assert_talks(&mut lab.client.connect(GATEWAY_LAN[family], port).unwrap(), &local);
        }
    }
    assert_counted(&program, &[(Exit::Steered4, 4), (Exit::Steered6, 4), (Exit::OtherPort, 8)]);
    program.set_ports(&plan("", |port| port == 993)).unwrap();
    let own = lab.gateway.serve(GATEWAY_LAN[0], 96);
    assert_talks(&mut lab.client.connect(GATEWAY_LAN[0], 96).unwrap(), &own);
    assert_talks(&mut lab.client.connect(GATEWAY_LAN[0], 993).unwrap(), &listeners[0]);
}

#[test]
fn a_port_that_is_not_admitted_is_no_listeners() {
    let lab = Lab::new();
    let (mut program, [v4, _v6]) = steering(&lab);
    program.set_ports(&plan("", |port| port == 993)).unwrap();
    let own = lab.gateway.serve(GATEWAY_LAN[0], 143);
    assert_talks(&mut lab.client.connect(GATEWAY_LAN[0], 143).unwrap(), &own);
    assert_talks(&mut lab.client.connect(GATEWAY_LAN[0], 993).unwrap(), &v4);
    program.set_ports(&plan("", |_| true)).unwrap();
    assert_talks(&mut lab.client.connect(GATEWAY_LAN[0], 143).unwrap(), &v4);
    assert_counted(&program, &[(Exit::Steered4, 2), (Exit::OtherPort, 1)]);
}

#[test]
fn other_interfaces_are_left_alone() {
    let lab = Lab::new();
    let (program, listeners) = steering(&lab);
    for address in GATEWAY_WAN {
        for port in PORTS {
            let local = lab.gateway.serve(address, port);
            assert_talks(&mut lab.server.connect(address, port).unwrap(), &local);
        }
    }
    assert_eq!(listeners.each_ref().map(waiting), [0, 0]);
    assert_counted(&program, &[(Exit::OtherInterface, 4)]);
}

#[test]
fn udp_is_left_alone() {
    let lab = Lab::new();
    let (program, _listeners) = steering(&lab);
    for address in GATEWAY_LAN {
        let to = SocketAddr::new(address.parse().unwrap(), 143);
        let service = lab.gateway.run(|| UdpSocket::bind(to)).unwrap();
        service.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        lab.client.run(|| UdpSocket::bind(any).unwrap().send_to(b"hello", to)).unwrap();
        let mut datagram = [0; 16];
        assert_eq!(service.recv(&mut datagram).unwrap(), 5);
    }
    assert_counted(&program, &[(Exit::OtherProtocol, 2)]);
}

#[test]
fn without_a_listener_mail_ends_at_the_gateway() {
    let lab = Lab::new();
    let program = program(&lab);
    for family in 0..2 {
        for port in PORTS {
            let local = lab.gateway.serve(GATEWAY_LAN[family], port);
            let server = lab.server.serve(SERVER[family], port);
            assert!(lab.client.is_refused(SERVER[family], port));
            assert!(lab.client.is_refused(GATEWAY_LAN[family], port));
            assert_eq!((waiting(&local), waiting(&server)), (0, 0));
        }
    }
    assert_counted(&program, &[(Exit::NoListener, 8)]);
}

#[test]
fn a_listener_that_the_kernel_refuses_drops_the_packet_until_another_takes_it() {
    let lab = Lab::new();
    let mut program = program(&lab);
    let server = lab.server.serve(SERVER[1], 143);
    let wrong = lab.gateway.transparent(Family::V4, 0);
    program.add_listener(0, Family::V6, 0, &wrong).unwrap();
    assert!(lab.client.is_refused(SERVER[1], 143));
    assert_eq!((waiting(&wrong), waiting(&server)), (0, 0));
    assert_counted(&program, &[(Exit::AssignFailed, 1)]);

    let right = lab.gateway.transparent(Family::V6, 0);
    program.add_listener(0, Family::V6, WORKERS_MAX - 1, &right).unwrap();
    assert_talks(&mut lab.client.connect(SERVER[1], 143).unwrap(), &right);
    assert_counted(&program, &[(Exit::Steered6, 1), (Exit::AssignFailed, 1)]);
}

#[test]
fn a_closed_listener_gives_way_to_the_next_slot_and_the_last_one_to_nobody() {
    let lab = Lab::new();
    let (mut program, [first, _v6]) = steering(&lab);
    // Another port is another reuseport group, so that the kernel cannot spread over both.
    let second = lab.gateway.transparent(Family::V4, 0);
    program.add_listener(0, Family::V4, 5, &second).unwrap();
    assert_talks(&mut lab.client.connect(SERVER[0], 993).unwrap(), &first);
    assert_eq!(waiting(&second), 0);
    close(first);
    assert_talks(&mut lab.client.connect(SERVER[0], 993).unwrap(), &second);
    close(second);
    assert!(lab.client.is_refused(SERVER[0], 993));
    assert_counted(&program, &[(Exit::Steered4, 2), (Exit::NoListener, 1)]);
}

#[test]
fn the_kernel_spreads_over_the_group_and_no_connection_is_lost_when_one_closes() {
    const CONNECTIONS: usize = 64;
    let lab = Lab::new();
    let mut program = program(&lab);
    let first = lab.gateway.transparent(Family::V4, 0);
    let second = lab.gateway.transparent(Family::V4, port(&first));
    program.add_listener(0, Family::V4, 0, &first).unwrap();
    program.add_listener(0, Family::V4, 1, &second).unwrap();
    // Clients leave last. Where one leaves first, the gateway's end of its connection is gone with the last ACK, and
    // whatever TCP sends again then is looked up, and counted, as a packet to the listeners.
    let mut clients = Vec::new();
    let mut connect = || {
        clients.extend((0..CONNECTIONS).map(|_| lab.client.connect(SERVER[0], 143).unwrap()));
    };
    connect();
    let [to_first, to_second] = arrived([&first, &second], CONNECTIONS);
    assert_eq!(to_first + to_second, CONNECTIONS);
    // All on one side happens by chance once in 2^63.
    assert!(to_first > 0 && to_second > 0, "not spread: {to_first} and {to_second}");

    close(first);
    connect();
    assert_eq!(arrived([&second], CONNECTIONS), [CONNECTIONS]);
    assert_counted(&program, &[(Exit::Steered4, 2 * CONNECTIONS as u64)]);
}

#[test]
fn new_interfaces_replace_old_ones() {
    let lab = Lab::new();
    let (mut program, [v4, _v6]) = steering(&lab);
    let (lan, wan) = (lab.index("lan0"), lab.index("wan0"));
    program.set_interfaces(&[(wan, 0)], &[lan]).unwrap();
    let local = lab.gateway.serve(GATEWAY_LAN[0], 143);
    assert_talks(&mut lab.client.connect(GATEWAY_LAN[0], 143).unwrap(), &local);
    assert_talks(&mut lab.server.connect(GATEWAY_WAN[0], 143).unwrap(), &v4);
    program.set_interfaces(&[(lan, 0), (wan, 0)], &[lan, wan]).unwrap();
    assert_talks(&mut lab.client.connect(GATEWAY_LAN[0], 143).unwrap(), &v4);
    program.set_interfaces(&[], &[lan, wan]).unwrap();
    assert_talks(&mut lab.client.connect(GATEWAY_LAN[0], 143).unwrap(), &local);
    assert_counted(&program, &[(Exit::Steered4, 2), (Exit::OtherInterface, 2)]);
}

#[test]
fn mail_from_an_interface_that_nobody_has_looked_at_reaches_no_service_of_the_gateway() {
    let lab = Lab::new();
    let (mut program, listeners) = steering(&lab);
    let (lan, wan) = (lab.index("lan0"), lab.index("wan0"));
    // As after `ip link delete lan0` and `ip link add lan0`: the rules hold, the index is another.
    program.set_interfaces(&[], &[wan]).unwrap();
    for (family, any) in ["0.0.0.0", "::"].into_iter().enumerate() {
        for port in PORTS {
            let local = lab.gateway.serve(any, port);
            assert!(lab.client.is_refused(SERVER[family], port));
            assert_eq!(waiting(&local), 0);
        }
        let other = lab.gateway.serve(any, 2525);
        assert_talks(&mut lab.client.connect(GATEWAY_LAN[family], 2525).unwrap(), &other);
    }
    let dropped = program.counters().unwrap()[Exit::UnknownInterface as usize];
    assert!(dropped >= 4, "{dropped}");
    program.set_interfaces(&[(lan, 0)], &[wan]).unwrap();
    for (family, listener) in listeners.iter().enumerate() {
        assert_talks(&mut lab.client.connect(SERVER[family], 143).unwrap(), listener);
    }
}

#[test]
fn the_program_attached_last_decides_and_dropping_it_gives_way() {
    let lab = Lab::new();
    let (old, [old_listener, _]) = steering(&lab);
    let (new, [new_listener, _]) = steering(&lab);
    assert_ne!(old.id().unwrap(), new.id().unwrap());
    assert_talks(&mut lab.client.connect(SERVER[0], 143).unwrap(), &new_listener);
    assert_counted(&new, &[(Exit::Steered4, 1)]);
    close(new);
    assert_talks(&mut lab.client.connect(SERVER[0], 143).unwrap(), &old_listener);
    assert_counted(&old, &[(Exit::Steered4, 2)]);
    close(old);
    let local = lab.gateway.serve(GATEWAY_LAN[0], 143);
    assert_talks(&mut lab.client.connect(GATEWAY_LAN[0], 143).unwrap(), &local);
    assert_eq!(waiting(&old_listener), 0);
}

#[test]
fn what_the_maps_cannot_hold_is_named_with_its_remedy() {
    require_root();
    let mut program = load();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = program.add_listener(0, Family::V4, WORKERS_MAX, &listener).unwrap_err();
    assert!(error.to_string().contains("steering.threads"), "{error}");
    let many: Vec<(u32, u32)> = (0..=INGRESS_MAX).map(|number| (number + 1, number)).collect();
    let error = program.set_interfaces(&many, &[]).unwrap_err();
    assert!(error.to_string().contains("steering.ingress"), "{error}");
    program.set_interfaces(&many[..INGRESS_MAX as usize], &[]).unwrap();
    // A pattern stands for many interfaces of one number.
    let matched: Vec<(u32, u32)> = (1..=1024).map(|index| (index, 0)).collect();
    program.set_interfaces(&matched, &[]).unwrap();
    let deaf = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let error = program.add_listener(0, Family::V4, 3, &deaf).unwrap_err();
    assert!(error.to_string().contains("must be a TCP socket that listens"), "{error}");
    assert!(error.to_string().contains("thread 3"), "{error}");
}

#[test]
fn an_object_that_is_not_ours_is_refused() {
    let error = Program::load_from(b"not an object", AttachMethod::Tcx).unwrap_err();
    assert!(matches!(error, ProgramError::Unreadable(_)), "{error}");
    assert!(error.to_string().contains("cargo xtask ebpf"), "{error}");
}

#[test]
fn without_capabilities_the_error_names_them() {
    require_root();
    // The loader asks the kernel once for its features and keeps the answer: let a privileged thread ask.
    drop(load());
    let error = std::thread::spawn(|| {
        caps::clear(None, caps::CapSet::Effective).unwrap();
        Program::load().unwrap_err()
    })
    .join()
    .unwrap();
    assert!(matches!(error, ProgramError::NotPermitted { .. }), "{error}");
    assert!(error.to_string().contains("CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"), "{error}");
}
