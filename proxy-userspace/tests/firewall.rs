//! `postern check` against the real nft, each test in a network namespace of its own. Needs root and nftables.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where its helpers fail")]

mod namespace;

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// The rules that both sides of a session need, in each family and hook, refused.
const CLOSED: &str = "
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state invalid drop
    jump zones
  }
  chain zones { iifname vmap { \"lan0\" : jump lan, \"wan0\" : goto wan }; }
  chain lan { tcp dport 22 accept; }
  chain wan { meta l4proto { icmp, ipv6-icmp } limit rate 10/second accept; reject with icmpx admin-prohibited; }
  chain forward { type filter hook forward priority filter; policy drop; }
  chain output { type filter hook output priority filter; policy drop; oifname lo accept; udp dport 53 accept; }
}
table ip mangle {
  chain prerouting { type filter hook prerouting priority mangle; policy drop; }
  chain postrouting { type filter hook postrouting priority mangle; policy drop; }
}
table ip6 raw {
  chain prerouting { type filter hook prerouting priority raw; policy drop; }
  chain output { type filter hook output priority raw; policy drop; }
}
";

/// Runs a test in a fresh namespace that has a configuration for `lan0`, `lan1`, `uplink` and `wan0`.
fn in_namespace(source: &'static str, test: impl FnOnce(&str) + Send + 'static) {
    let thread = thread::spawn(move || {
        namespace::enter_new();
        run("ip link set lo up");
        let directory = tempfile::tempdir().expect("directory");
        test(&configured(directory.path(), source));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn configured(directory: &Path, source: &str) -> String {
    let config = directory.join("postern.toml");
    let lines = format!(
        "[steering]\ningress = [\"lan0\", \"lan1\"]\negress = [\"wan0\", \"uplink\"]\nsource = \"{source}\"\n\
         [certificates]\nauthority = {{ cert = \"authority.pem\", key = \"authority.key\" }}\n"
    );
    std::fs::write(&config, lines).expect("config");
    let config = config.to_string_lossy().into_owned();
    assert!(postern(&["ca", "init", "--config", &config]).status.success());
    config
}

fn postern(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postern")).args(arguments).output().expect("postern")
}

/// A line of a shell, as an operator would paste it.
fn run(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().expect("a shell");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn load(rules: &str) {
    let mut nft =
        Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nftables is installed");
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}

/// What `check` says about the firewall: the lines, and the commands that follow them.
fn check(config: &str) -> (Vec<String>, Vec<String>) {
    let output = postern(&["check", "--config", config]);
    let said = String::from_utf8(output.stdout).unwrap();
    let lines =
        said.lines().filter(|line| line.contains("  firewall: ") || line.contains("  source address"));
    let commands = said.lines().filter(|line| line.starts_with("  nft insert rule "));
    (lines.map(str::to_owned).collect(), commands.map(|line| line.trim().to_owned()).collect())
}

#[test]
fn the_printed_commands_open_a_closed_firewall_and_nothing_is_missing_after() {
    in_namespace("gateway", |config| {
        load(CLOSED);
        let (lines, commands) = check(config);
        let told = |part: &str| lines.iter().any(|line| line.starts_with("fail") && line.contains(part));
        for part in [
            "mail from clients on lan0, lan1 (ports 143, 993, IPv4 and IPv6) is dropped by the policy of inet filter input",
            "answers of servers on wan0 (ports 143, 993, IPv4 and IPv6) are dropped by inet filter wan handle ",
            "connections to servers on uplink, wan0 (ports 143, 993, IPv4) are dropped by the policy of ip mangle postrouting",
            "answers to clients on lan0, lan1 (ports 143, 993, IPv6) are dropped by the policy of ip6 raw output",
        ] {
            assert!(told(part), "{part}: {lines:#?}");
        }
        commands.iter().for_each(|command| run(command));
        let (lines, commands) = check(config);
        assert_eq!(commands, [""; 0]);
        assert_eq!(lines[0], "ok    firewall: steered mail passes", "{lines:#?}");
    });
}

#[test]
fn a_gateway_without_rules_has_none_in_the_way() {
    in_namespace("client", |config| {
        let (lines, _) = check(config);
        let wanted = [
            "ok    firewall: no rules in the way",
            "ok    source address on wan0: not masqueraded",
            "ok    source address on uplink: not masqueraded",
        ];
        assert_eq!(lines, wanted);
    });
}

const MASQUERADED: &str = "
table ip nat { chain postrouting { type nat hook postrouting priority srcnat; oifname wan0 counter masquerade; }
}
";

#[test]
fn masquerading_fails_a_configuration_that_shows_servers_the_client_until_it_is_exempt() {
    in_namespace("client", |config| {
        load(MASQUERADED);
        let (lines, commands) = check(config);
        assert!(
            lines.iter().any(|line| line
                .starts_with("fail  source address on wan0: masqueraded by ip nat postrouting handle ")
                && line.contains("steering.source = \"gateway\"")),
            "{lines:#?}"
        );
        assert!(lines.iter().any(|line| line == "ok    source address on uplink: not masqueraded"));
        commands.iter().for_each(|command| run(command));
        let (lines, _) = check(config);
        assert!(lines.iter().all(|line| line.starts_with("ok")), "{lines:#?}");
    });
}

#[test]
fn masquerading_suits_a_configuration_that_shows_servers_the_gateway() {
    in_namespace("gateway", |config| {
        load(MASQUERADED);
        let (lines, _) = check(config);
        assert!(lines.iter().all(|line| line.starts_with("ok")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("masqueraded by ip nat postrouting")), "{lines:#?}");
    });
}

#[test]
fn a_rule_that_wipes_the_mark_is_warned_of_until_it_spares_marked_packets() {
    in_namespace("gateway", |config| {
        let rules = |guard: &str| {
            format!(
                "table inet marks {{ chain prerouting {{ type filter hook prerouting priority mangle; \
                 {guard} meta mark set ct mark; }}\n}}"
            )
        };
        load(&rules(""));
        let (lines, _) = check(config);
        let warned = lines.iter().find(|line| line.starts_with("warn")).expect("a warning");
        let (_, remedy) = warned.split_once("put `").expect("a remedy");
        let (guard, _) = remedy.split_once('`').expect("a remedy");
        run("nft flush ruleset");
        load(&rules(guard));
        let (lines, _) = check(config);
        assert!(lines.iter().all(|line| line.starts_with("ok")), "{lines:#?}");
    });
}

#[test]
fn a_user_who_may_not_read_the_rules_is_told_what_to_do() {
    in_namespace("gateway", |config| {
        let program = env!("CARGO_BIN_EXE_postern");
        let output = Command::new("setpriv")
            .args([
                "--bounding-set=-net_admin",
                "--inh-caps=-net_admin",
                program,
                "check",
                "--config",
                config,
            ])
            .output()
            .expect("util-linux is installed");
        let said = String::from_utf8(output.stdout).unwrap();
        let line = said.lines().find(|line| line.contains("  firewall: ")).expect("a line");
        assert!(line.starts_with("warn  firewall: not read: nft -j list ruleset ended with"), "{said}");
        assert!(line.contains("run as root") && line.contains("README"), "{said}");
    });
}

/// What a gateway of two families cannot do without, and no mail.
const NO_MAIL: &str = "
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop;
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
  }
  chain output {
    type filter hook output priority filter; policy drop;
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
  }
}
";
/// Where clients want to go: nobody has these addresses.
const SERVERS: [&str; 2] = ["192.0.2.7:143", "[2001:db8::7]:143"];
/// Where the gateway connects in their stead.
const BEHIND: [&str; 2] = ["10.3.0.2:143", "[fd00:3::2]:143"];
/// A SYN that is dropped is never answered, and one that passes is answered at once.
const PATIENCE: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce() + Send>;

/// A host at the far end of a new link, which does what it is sent.
fn host(interface: &str, network: u8) -> mpsc::Sender<Job> {
    let (jobs, received) = mpsc::channel::<Job>();
    let (namespace, entered) = mpsc::channel();
    thread::spawn(move || {
        namespace::enter_new();
        run("ip link set lo up");
        let thread = rustix::thread::gettid().as_raw_nonzero();
        namespace.send(format!("/proc/{}/task/{thread}/ns/net", std::process::id())).unwrap();
        received.iter().for_each(|job| job());
    });
    let far = entered.recv().unwrap();
    run(&format!("ip link add {interface} type veth peer name far netns {far}"));
    configure(interface, network, 1);
    let at_far_end = move || {
        configure("far", network, 2);
        run(&format!("ip route add default via 10.{network}.0.1"));
        run(&format!("ip route add default via fd00:{network}::1"));
    };
    jobs.send(Box::new(at_far_end)).unwrap();
    jobs
}

fn configure(interface: &str, network: u8, host: u8) {
    run(&format!("ip link set {interface} up"));
    run(&format!("ip address add 10.{network}.0.{host}/24 dev {interface}"));
    run(&format!("ip address add fd00:{network}::{host}/64 dev {interface} nodad"));
}

/// Greets whoever connects.
fn serve(address: &'static str) {
    let listener = TcpListener::bind(address).expect(address);
    thread::spawn(move || {
        for stream in listener.incoming() {
            stream.unwrap().write_all(b"* OK").unwrap();
        }
    });
}

/// Takes connections to a foreign address and passes on the greeting of the server behind, as Postern does.
fn relay(foreign: &str, behind: &'static str) {
    let foreign: SocketAddr = foreign.parse().unwrap();
    let listener = socket(foreign);
    if foreign.is_ipv4() {
        listener.set_ip_transparent_v4(true)
    } else {
        listener.set_ip_transparent_v6(true)
    }
    .unwrap();
    listener.bind(&foreign.into()).unwrap();
    listener.listen(8).unwrap();
    thread::spawn(move || {
        for stream in TcpListener::from(listener).incoming() {
            let behind: SocketAddr = behind.parse().unwrap();
            let server = socket(behind);
            server.set_mark(0x2000_0000).unwrap();
            if server.connect_timeout(&behind.into(), PATIENCE).is_ok() {
                io::copy(&mut TcpStream::from(server), &mut stream.unwrap()).unwrap();
            }
        }
    });
}

fn socket(address: SocketAddr) -> Socket {
    Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap()
}

fn greeting(server: &str) -> io::Result<String> {
    let mut greeting = String::new();
    let mut stream = TcpStream::connect_timeout(&server.parse().unwrap(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_to_string(&mut greeting)?;
    Ok(greeting)
}

#[test]
fn a_session_that_the_kernel_dropped_passes_after_the_printed_commands() {
    in_namespace("gateway", |config| {
        let (client, server) = (host("lan0", 1), host("wan0", 3));
        server.send(Box::new(|| BEHIND.into_iter().for_each(serve))).unwrap();
        for family in ["-4", "-6"] {
            run(&format!("ip {family} rule add iif lan0 ipproto tcp dport 143 lookup 143 pref 143"));
            run(&format!("ip {family} route add local default dev lo table 143"));
        }
        SERVERS.into_iter().zip(BEHIND).for_each(|(foreign, behind)| relay(foreign, behind));
        let greeted = |server: &'static str| {
            let (told, answer) = mpsc::channel();
            client.send(Box::new(move || told.send(greeting(server).ok()).unwrap())).unwrap();
            answer.recv().unwrap()
        };
        load(NO_MAIL);
        assert_eq!(SERVERS.map(greeted), [None, None]);
        check(config).1.iter().for_each(|command| run(command));
        assert_eq!(SERVERS.map(greeted), [Some("* OK".to_owned()), Some("* OK".to_owned())]);
    });
}
