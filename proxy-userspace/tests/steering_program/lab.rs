//! Client, gateway and server in three network namespaces, and Postern's routing on the gateway.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use proxy_ebpf::Family;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};

use crate::forks;

/// Longer than any step takes on a busy machine; only a failing test waits for it.
const STEP: Duration = Duration::from_secs(10);
/// Less than the second after which TCP sends its SYN again; a refused connection may end in silence.
const SILENCE: Duration = Duration::from_millis(600);

pub(crate) const CLIENT: [&str; 2] = ["10.1.0.2", "fd01::2"];
pub(crate) const GATEWAY_LAN: [&str; 2] = ["10.1.0.1", "fd01::1"];
pub(crate) const GATEWAY_WAN: [&str; 2] = ["10.2.0.1", "fd02::1"];
pub(crate) const SERVER: [&str; 2] = ["10.2.0.2", "fd02::2"];

const GATEWAY: &str = "
link set lo up
address add 10.1.0.1/24 dev lan0
address add fd01::1/64 dev lan0 nodad
address add 10.2.0.1/24 dev wan0
address add fd02::1/64 dev wan0 nodad
link set lan0 up
link set wan0 up
rule add iif lan0 ipproto tcp dport 143 lookup 100
rule add iif lan0 ipproto tcp dport 993 lookup 100
-6 rule add iif lan0 ipproto tcp dport 143 lookup 100
-6 rule add iif lan0 ipproto tcp dport 993 lookup 100
route add local default dev lo table 100
-6 route add local default dev lo table 100";

const CLIENT_SETUP: &str = "
link set lo up
address add 10.1.0.2/24 dev eth0
address add fd01::2/64 dev eth0 nodad
link set eth0 up
route add default via 10.1.0.1
-6 route add default via fd01::1";

const SERVER_SETUP: &str = "
link set lo up
address add 10.2.0.2/24 dev eth0
address add fd02::2/64 dev eth0 nodad
link set eth0 up
route add default via 10.2.0.1
-6 route add default via fd02::1";

pub(crate) struct Lab {
    pub(crate) client: Namespace,
    pub(crate) gateway: Namespace,
    pub(crate) server: Namespace,
}

impl Lab {
    pub(crate) fn new() -> Self {
        require_root();
        let lab = Self { client: Namespace::new(), gateway: Namespace::new(), server: Namespace::new() };
        let (client, server) = (lab.client.holder.id(), lab.server.holder.id());
        lab.gateway.ip(&format!("link add lan0 type veth peer name eth0 netns {client}"));
        lab.gateway.ip(&format!("link add wan0 type veth peer name eth0 netns {server}"));
        lab.gateway.sysctl("ipv4/ip_forward", "1");
        lab.gateway.sysctl("ipv6/conf/all/forwarding", "1");
        lab.gateway.sysctl("ipv4/conf/all/rp_filter", "0");
        lab.client.ip(CLIENT_SETUP);
        lab.server.ip(SERVER_SETUP);
        lab.gateway.ip(GATEWAY);
        lab
    }

    pub(crate) fn index(&self, interface: &str) -> u32 {
        let shown = self.gateway.output(&["-o", "link", "show", interface]);
        shown.split(':').next().and_then(|index| index.parse().ok()).expect("ip shows the index first")
    }
}

pub(crate) fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "the steering tests load a BPF program and make network namespaces: run them as root, \
         for example with `sudo -E cargo test -p proxy-userspace --test steering_program`"
    );
}

/// A network namespace that lives as long as a process whose standard input we hold: nothing stays behind, even if
/// the test is killed.
pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        forks::starting(|| {
            let mut holder = command.spawn().expect("unshare (package util-linux) starts");
            let mut line = String::new();
            BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n", "unshare --net made no namespace");
            Self { holder }
        })
    }

    /// Run in this namespace; sockets made here stay in it.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    Some(LinkNameSpaceType::Network),
                )
                .unwrap();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn ip(&self, commands: &str) {
        for command in commands.lines().filter(|line| !line.is_empty()) {
            self.output(&command.split(' ').collect::<Vec<_>>());
        }
    }

    fn output(&self, args: &[&str]) -> String {
        let ended = self.run(|| forks::output(Command::new("ip").args(args)));
        let output = ended.expect("ip (package iproute2) starts");
        assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn sysctl(&self, name: &str, value: &str) {
        self.run(|| fs::write(format!("/proc/sys/net/{name}"), value)).unwrap();
    }

    /// An ordinary TCP server.
    pub(crate) fn serve(&self, address: &str, port: u16) -> Socket {
        self.run(|| listen(SocketAddr::new(address.parse().unwrap(), port), false))
    }

    /// A transparent listener as the daemon makes it; `port` 0 opens a new reuseport group.
    pub(crate) fn transparent(&self, family: Family, port: u16) -> Socket {
        let address: IpAddr = match family {
            Family::V4 => "127.0.0.1".parse().unwrap(),
            Family::V6 => "::1".parse().unwrap(),
        };
        self.run(|| listen(SocketAddr::new(address, port), true))
    }

    pub(crate) fn connect(&self, address: &str, port: u16) -> std::io::Result<TcpStream> {
        self.connect_within(address, port, STEP)
    }

    /// Whether a connection comes about, by one SYN.
    pub(crate) fn is_refused(&self, address: &str, port: u16) -> bool {
        self.connect_within(address, port, SILENCE).is_err()
    }

    fn connect_within(&self, address: &str, port: u16, limit: Duration) -> std::io::Result<TcpStream> {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        self.run(|| TcpStream::connect_timeout(&to, limit))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ended = self.holder.wait();
    }
}

fn listen(address: SocketAddr, transparent: bool) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    if transparent {
        socket.set_reuse_port(true).unwrap();
        match address {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true).unwrap(),
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true).unwrap(),
        }
    }
    if address.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.bind(&address.into()).unwrap();
    socket.listen(128).unwrap();
    socket.set_read_timeout(Some(STEP)).unwrap();
    socket
}

pub(crate) fn port(listener: &Socket) -> u16 {
    listener.local_addr().unwrap().as_socket().unwrap().port()
}

/// The next connection: where it was going and who it came from.
pub(crate) fn accept(listener: &Socket) -> (SocketAddr, IpAddr) {
    let (socket, peer) = listener.accept().expect("a connection arrives");
    (socket.local_addr().unwrap().as_socket().unwrap(), peer.as_socket().unwrap().ip())
}

/// How many connections wait here.
pub(crate) fn waiting(listener: &Socket) -> usize {
    listener.set_nonblocking(true).unwrap();
    let mut count = 0;
    while listener.accept().is_ok() {
        count += 1;
    }
    listener.set_nonblocking(false).unwrap();
    count
}

/// How many connections came to each of these listeners, when so many came to all of them: a client is connected before
/// its listener has seen its last ACK.
pub(crate) fn arrived<const N: usize>(listeners: [&Socket; N], expected: usize) -> [usize; N] {
    let limit = Timespec::try_from(STEP).unwrap();
    let mut counts = [0; N];
    while counts.iter().sum::<usize>() < expected {
        let mut asked = listeners.map(|listener| PollFd::new(listener, PollFlags::IN));
        let ready = poll(&mut asked, Some(&limit)).unwrap();
        assert!(ready > 0, "of {expected} connections came {counts:?}");
        for (count, listener) in counts.iter_mut().zip(listeners) {
            *count += waiting(listener);
        }
    }
    counts
}

/// That octets cross a connection.
pub(crate) fn assert_talks(client: &mut TcpStream, listener: &Socket) {
    let (server, _) = listener.accept().expect("a connection arrives");
    server.send(b"* OK").unwrap();
    let mut greeting = [0; 4];
    client.set_read_timeout(Some(STEP)).unwrap();
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"* OK");
}
