//! Network namespaces, removed when dropped. A socket stays in the namespace that it was made in, so a test makes
//! its sockets inside and uses them from its own thread.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::{SchedClassifier, TcAttachType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::frames::Mac;
use crate::wait::{self, PATIENCE};
use crate::wire::Wire;

/// What Postern may set for as long as it runs, below `/proc/sys/net`.
const SYSCTLS: [&str; 2] = ["ipv4/tcp_migrate_req", "ipv4/tcp_mtu_probing"];

/// How packets leave a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The interface.
    pub interface: String,
    /// The address that they carry.
    pub from: IpAddr,
    /// The interface's own Ethernet address.
    pub near: Mac,
    /// That of the next hop.
    pub far: Mac,
}

/// One network namespace under `/run/netns`.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    kept: bool,
}

impl Namespace {
    /// Make it, with its loopback up.
    ///
    /// # Errors
    /// When the kernel or `ip` refuses.
    pub fn new(name: &str) -> Result<Self> {
        ip(&["netns", "add", name])?;
        let namespace = Self { name: name.to_owned(), kept: false };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` prints it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leave it up when this value is dropped.
    pub const fn keep(&mut self) {
        self.kept = true;
    }

    /// Run `work` on a thread of its own inside the namespace.
    ///
    /// # Errors
    /// What the kernel says to `setns`, or what `work` returns.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(Path::new("/run/netns").join(&self.name))?;
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| format!("cannot enter {}", self.name))?;
                work()
            });
            worker.join().map_err(|_| anyhow!("the thread inside {} panicked", self.name))?
        })
    }

    /// A command that will run inside and be killed when the thread that starts it ends.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        Self::command_in(&self.name, program)
    }

    /// The same in the namespace of this name.
    pub(crate) fn command_in(name: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", name]).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Run `ip` for this namespace.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["-n", &self.name];
        all.extend(args);
        ip(&all)
    }

    /// Write sysctls, given as paths below `/proc/sys/net`.
    ///
    /// # Errors
    /// When one is absent or refuses the value.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (path, value) in settings {
                fs::write(Path::new("/proc/sys/net").join(path), value)
                    .with_context(|| format!("cannot set {path} to {value}"))?;
            }
            Ok(())
        })
    }

    /// Connect from inside; reads and writes are bounded.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        self.enter(|| crate::client::connect(to)).with_context(|| format!("from {}", self.name))
    }

    /// Connect from one of several addresses inside; reads and writes are bounded.
    ///
    /// # Errors
    /// When nobody answers, or when the address is not there.
    pub fn connect_from(&self, from: IpAddr, to: SocketAddr) -> Result<TcpStream> {
        let connected = || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect_timeout(&to.into(), PATIENCE)?;
            crate::client::patient(socket.into())
        };
        self.enter(connected).with_context(|| format!("from {from} in {}", self.name))
    }

    /// Listen inside; an IPv6 listener takes IPv6 only. A listener that this test has closed may still be held by a
    /// child of another test that is between fork and exec: that one is waited for.
    ///
    /// # Errors
    /// When the address is taken or absent.
    pub fn listen(&self, at: SocketAddr) -> Result<TcpListener> {
        let listens = || match self.enter(|| Ok(listener(at))) {
            Ok(Err(error)) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            other => other?.map(Some).map_err(anyhow::Error::from),
        };
        wait::until("whoever listens there to end", PATIENCE, listens)
            .with_context(|| format!("cannot listen on {at} in {}", self.name))
    }

    /// How packets to an address leave: interface, own address, and the Ethernet addresses of both ends.
    ///
    /// # Errors
    /// When there is no route, or the next hop does not answer.
    pub fn way(&self, to: IpAddr) -> Result<Way> {
        let route: Value = serde_json::from_str(&self.ip(&["-j", "route", "get", &to.to_string()])?)?;
        let text = |key: &str| route.pointer(&format!("/0/{key}")).and_then(Value::as_str);
        let interface = text("dev").context("the route names no interface")?.to_owned();
        let from = text("prefsrc").or_else(|| text("src")).context("the route names no source")?.parse()?;
        let hop = text("gateway").unwrap_or(&to.to_string()).to_owned();
        // The kernel finds out where its next hop is when it has something to send.
        self.enter(|| {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            Ok(std::net::UdpSocket::bind(any)?.send_to(&[], SocketAddr::new(to, 9))?)
        })?;
        let far = wait::until(&format!("an answer of {hop}"), PATIENCE, || {
            let neighbours = self.ip(&["-j", "neighbour", "show", "to", &hop, "dev", &interface])?;
            let neighbours: Value = serde_json::from_str(&neighbours)?;
            neighbours.pointer("/0/lladdr").and_then(Value::as_str).map(mac).transpose()
        })?;
        Ok(Way { near: self.mac(&interface)?, interface, from, far })
    }

    /// The Ethernet address of an interface.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn mac(&self, interface: &str) -> Result<Mac> {
        let link: Value = serde_json::from_str(&self.ip(&["-j", "link", "show", "dev", interface])?)?;
        mac(link.pointer("/0/address").and_then(Value::as_str).context("no Ethernet address")?)
    }

    /// Send one raw frame out of an interface; [`Wire`] is for more than one, and for answers.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses the frame.
    pub fn inject(&self, interface: &str, frame: &[u8]) -> Result<()> {
        Wire::open(self, interface)?.send(frame)
    }

    /// Load a ruleset.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn nft(&self, ruleset: &str) -> Result<()> {
        self.run_nft(&["-f", "-"], ruleset).map(drop)
    }

    /// Load a table of both families with one chain: `hook` is such as `filter hook input priority 0; policy drop`,
    /// and every line of `rules` is a rule.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn nft_chain(&self, table: &str, hook: &str, rules: &str) -> Result<()> {
        self.nft(&format!("table inet {table} {{\nchain {table} {{\ntype {hook}\n{rules}\n}}\n}}\n"))
    }

    /// The ruleset in force, in the words of `nft list ruleset`.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn nft_list(&self) -> Result<String> {
        self.run_nft(&["list", "ruleset"], "")
    }

    fn run_nft(&self, args: &[&str], input: &str) -> Result<String> {
        let output = run(self.command("nft").args(args), input, PATIENCE)
            .context("cannot run nft; install the Debian package nftables")?;
        success(&format!("nft {} in {}", args.join(" "), self.name), &output)
            .with_context(|| input.to_owned())
    }

    /// The state of rules, routes, links, queueing disciplines, programs on interfaces, the nftables table that Postern
    /// may make and the sysctls that it may set. It is equal before and after a program that cleans up behind itself.
    ///
    /// # Errors
    /// What `ip`, `tc` or the kernel says.
    pub fn networking(&self) -> Result<String> {
        let mut seen = String::new();
        for args in [
            &["rule", "show"][..],
            &["-6", "rule", "show"],
            &["route", "show", "table", "all"],
            &["-6", "route", "show", "table", "all"],
            &["-br", "link", "show"],
        ] {
            seen.push_str(&self.ip(args)?);
        }
        let output = Command::new("tc").args(["-n", &self.name, "qdisc", "show"]).output();
        seen.push_str(&success("tc qdisc show", &output.context("cannot start tc")?)?);
        for (interface, side, program) in self.tcx()? {
            seen.push_str(&format!("tcx {side} {interface}: {program}\n"));
        }
        let tables = self.run_nft(&["list", "tables"], "")?;
        seen.extend(
            tables.lines().filter(|table| table.ends_with(" postern")).map(|table| format!("{table}\n")),
        );
        for sysctl in SYSCTLS {
            let value = self.enter(|| Ok(fs::read_to_string(Path::new("/proc/sys/net").join(sysctl))?))?;
            seen.push_str(&format!("{sysctl} {}\n", value.trim()));
        }
        Ok(seen)
    }

    /// BPF programs on interfaces: interface, side, name. None on kernels without tcx (before 6.6).
    fn tcx(&self) -> Result<Vec<(String, &'static str, String)>> {
        let links: Value = serde_json::from_str(&self.ip(&["-j", "link", "show"])?)?;
        let names = links.as_array().into_iter().flatten().filter_map(|link| link.get("ifname")?.as_str());
        self.enter(|| {
            let mut seen = Vec::new();
            for name in names {
                for (side, place) in [("ingress", TcAttachType::Ingress), ("egress", TcAttachType::Egress)] {
                    let programs = SchedClassifier::query_tcx(name, place).map(|(_, programs)| programs);
                    for program in programs.unwrap_or_default() {
                        let program = program.name_as_str().unwrap_or("unnamed").to_owned();
                        seen.push((name.to_owned(), side, program));
                    }
                }
            }
            Ok(seen)
        })
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }

    /// Give names to addresses, for commands that run inside.
    ///
    /// # Errors
    /// When `/etc/netns` cannot be written.
    pub fn hosts(&self, text: &str) -> Result<()> {
        let dir = self.etc();
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("hosts"), text)?;
        Ok(())
    }

    /// Delete it and prove that it is gone.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn delete(mut self) -> Result<()> {
        self.kept = true;
        remove(&self.name)?;
        wait::until(&format!("the end of {}", self.name), PATIENCE, || {
            Ok((!Path::new("/run/netns").join(&self.name).exists()).then_some(()))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = remove(&self.name)
        {
            eprintln!("left behind: namespace {}: {error:#}", self.name);
        }
    }
}

/// Delete a namespace by name, with the files that `ip netns exec` lays over `/etc` there.
///
/// # Errors
/// When it does not exist or cannot be deleted.
pub fn remove(name: &str) -> Result<()> {
    let etc = Path::new("/etc/netns").join(name);
    if etc.exists() {
        fs::remove_dir_all(etc)?;
    }
    ip(&["netns", "delete", name]).map(drop)
}

/// The names of all namespaces on this machine.
///
/// # Errors
/// When `/run/netns` cannot be read.
pub fn all() -> Result<Vec<String>> {
    let dir = Path::new("/run/netns");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn mac(text: &str) -> Result<Mac> {
    let octets: Result<Vec<u8>, _> = text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
    octets?.try_into().map_err(|_| anyhow!("no Ethernet address: {text}"))
}

fn ip(args: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let output = output.context("cannot start ip; install the Debian package iproute2")?;
    success(&format!("ip {}", args.join(" ")), &output)
}

fn listener(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

/// What a finished command printed, or an error that shows all of it.
///
/// # Errors
/// When its status is not zero.
pub fn success(shown: &str, output: &Output) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{shown}: {}\n{stdout}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(stdout)
}

/// Run a command to its end, with a bound: a client that hangs is a failure, not a hanging test.
///
/// # Errors
/// When it cannot start, does not end, or fails.
pub fn run(command: &mut Command, input: &str, patience: Duration) -> Result<Output> {
    use std::io::Write as _;
    let shown = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A client that ends before it read its input says why on stderr.
        let _ = stdin.write_all(input.as_bytes());
    }
    let pid = rustix::process::Pid::from_child(&child);
    let (done, ended) = std::sync::mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    match ended.recv_timeout(patience) {
        Ok(output) => Ok(output?),
        Err(_) => {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            let output = ended.recv()??;
            bail!(
                "{shown} did not end in {} s\n{}\n{}",
                patience.as_secs(),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        }
    }
}
