//! CPU time and system calls of the record layers, compared in one run. `cargo xtask bench ktls` runs it.
//!
//! The gateway relays in a process of its own on core 0; client and server share core 1. Packets that reach the gateway
//! are received on its core, so that the core's time has all its softirq in, and the kernel's threads that work for it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use postern::layer::offload::Abilities;
use postern_tests::cost::{self, Cost};
use postern_tests::lab::{self, Family, Lab};
use postern_tests::pki::{Authority, Wanted};
use postern_tests::wait::{self, PATIENCE};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustls::ClientConfig;

/// Octets that go on only after a digest was taken.
mod digest;
/// Memory of sessions.
mod memory;
/// Client and server.
mod peers;
/// The gateway.
mod relay;
/// What is printed.
mod report;

use memory::Memory;
use peers::Session;
use report::Figures;

/// What every certificate says.
const NAME: &str = "bench.test";
/// Octets of a body.
const BODY_BYTES: usize = 8_000_000;
/// Sessions that fetch at once.
const FLOWS: usize = 4;
/// Where server and gateway listen.
const PORT: u16 = 993;
/// Bodies while system calls are counted, which makes each of them slow.
const COUNTED_BODIES: usize = 2;
/// Exchanges while system calls are counted.
const COUNTED_EXCHANGES: usize = 200;

/// CPU time and system calls of the record layers.
#[derive(Parser)]
struct Args {
    /// Runs of each layer, in turns.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Bodies of 8 MB that each of the four flows fetches in one run.
    #[arg(long, default_value_t = 2)]
    bodies: usize,
    /// Lines there and back in one run.
    #[arg(long, default_value_t = 2000)]
    exchanges: usize,
    /// Sessions that are given a layer and closed in one run.
    #[arg(long, default_value_t = 100)]
    sessions: usize,
    /// Sessions that wait while their memory is measured.
    #[arg(long, default_value_t = 400)]
    waiting: usize,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(clap::Subcommand)]
enum Part {
    /// The gateway's process.
    #[command(hide = true)]
    Relay(relay::Options),
}

/// How octets go through the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Opened and sealed in the process.
    User,
    /// Opened and sealed by the kernel, through the process' buffers.
    Kernel,
    /// From kernel to kernel.
    Splice,
    /// As `user`, with a digest of all.
    UserDigest,
    /// As `kernel`, with a digest of all.
    KernelDigest,
    /// From kernel to kernel, behind a digest of a copy.
    Tee,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Part::Relay(options)) = &args.part {
        return relay::run(options);
    }
    lab::need_root()?;
    // Client and server keep off the gateway's core.
    let mut cores = CpuSet::new();
    cores.set(1);
    sched_setaffinity(None, &cores)?;
    let bench = Bench::new()?;
    let mut figures: Vec<Figures> = Way::value_variants().iter().map(|way| Figures::of(*way)).collect();
    for run in 1..=args.runs {
        for figures in &mut figures {
            println!("run {run} of {}: {}", args.runs, figures.way.word());
            bench.bulk(figures, &args)?;
            if matches!(figures.way, Way::User | Way::Kernel) {
                bench.setup(figures, args.sessions)?;
            }
        }
    }
    for figures in figures.iter_mut().filter(|figures| matches!(figures.way, Way::User | Way::Kernel)) {
        println!("memory: {}", figures.way.word());
        figures.waiting = Some(bench.wait(figures.way, args.waiting)?);
    }
    for figures in &mut figures {
        println!("system calls: {}", figures.way.word());
        bench.count(figures)?;
    }
    report::print(&figures, &cost::machine()?);
    bench.lab.finish()
}

/// The lab, its server and what the client trusts.
struct Bench {
    lab: Lab,
    client: Arc<ClientConfig>,
    keys: tempfile::TempDir,
}

impl Bench {
    fn new() -> Result<Self> {
        let abilities = Abilities::probe();
        if let Some(absent) = &abilities.absent {
            bail!("nothing to measure here: {absent}");
        }
        ensure!(abilities.rekey, "receiving TLS 1.3 in the kernel needs Linux 6.14");
        let lab = Lab::new()?;
        cost::steer_packets(&lab)?;
        let roots = Authority::new("Bench Root")?;
        let identity = roots.issue(&Wanted::named(NAME))?;
        let keys = tempfile::tempdir()?;
        identity.write(keys.path(), "server")?;
        fs::write(keys.path().join("roots.pem"), roots.pem())?;
        let mut server = identity.server_config(&[&rustls::version::TLS13])?;
        server.send_tls13_tickets = 0;
        let listener = lab.server.listen(SocketAddr::new(Family::V4.server(), PORT))?;
        peers::serve(listener, Arc::new(server));
        Ok(Self { lab, client: Arc::new(peers::trusting(roots.pem())?), keys })
    }

    /// CPU time per gigabyte and per exchange.
    fn bulk(&self, figures: &mut Figures, args: &Args) -> Result<()> {
        let mut gateway = Gateway::start(self, figures.way, FLOWS)?;
        let mut sessions = gateway.open(self)?;
        gateway.relay()?;
        fetch(&mut sessions, 1)?;
        // That has filled caches and pools; this counts.
        let before = gateway.cost()?;
        fetch(&mut sessions, args.bodies)?;
        let gigabytes = (FLOWS * args.bodies * BODY_BYTES) as f64 / 1e9;
        figures.per_gigabyte.push(gateway.cost()?.since(before, gigabytes));

        let first = sessions.first_mut().context("no session")?;
        let before = gateway.cost()?;
        (0..args.exchanges).try_for_each(|_| first.exchange())?;
        figures.per_exchange.push(gateway.cost()?.since(before, args.exchanges as f64));
        gateway.end(sessions)
    }

    /// CPU time of giving a session its layer, and of closing it.
    fn setup(&self, figures: &mut Figures, count: usize) -> Result<()> {
        let mut gateway = Gateway::start(self, figures.way, count)?;
        let sessions = gateway.open(self)?;
        let before = gateway.cost()?;
        gateway.go("split")?;
        let split = gateway.cost()?;
        figures.per_split.push(split.since(before, count as f64));
        gateway.tell()?;
        sessions.into_iter().try_for_each(Session::close)?;
        gateway.hear("ended")?;
        figures.per_close.push(gateway.cost()?.since(split, count as f64));
        gateway.tell()
    }

    /// Memory that a session takes which has said something and waits: of the process all of it, of the kernel what
    /// comes with the layer.
    fn wait(&self, way: Way, count: usize) -> Result<Memory> {
        let mut gateway = Gateway::start(self, way, count)?;
        let started = Memory::now(gateway.pid())?;
        let mut sessions = gateway.open(self)?;
        let handshaken = Memory::now(gateway.pid())?;
        gateway.relay()?;
        sessions.iter_mut().try_for_each(Session::exchange)?;
        let waiting = Memory::now(gateway.pid())?;
        sessions.into_iter().try_for_each(Session::close)?;
        gateway.hear("ended")?;
        gateway.tell()?;
        let [all, layer] = [started, handshaken].map(|before| waiting.since(before, count as f64));
        Ok(Memory { kernel: layer.kernel, ..all })
    }

    /// System calls per megabyte and per exchange.
    fn count(&self, figures: &mut Figures) -> Result<()> {
        let mut gateway = Gateway::start(self, figures.way, 1)?;
        let mut sessions = gateway.open(self)?;
        gateway.relay()?;
        fetch(&mut sessions, 1)?;
        let calls = self.traced(gateway.pid(), || fetch(&mut sessions, COUNTED_BODIES))?;
        let megabytes = (COUNTED_BODIES * BODY_BYTES) as f64 / 1e6;
        figures.calls_per_megabyte = calls.total / megabytes;
        figures.calls = calls.names;
        let first = sessions.first_mut().context("no session")?;
        let calls =
            self.traced(gateway.pid(), || (0..COUNTED_EXCHANGES).try_for_each(|_| first.exchange()))?;
        figures.calls_per_exchange = calls.total / COUNTED_EXCHANGES as f64;
        gateway.end(sessions)
    }

    /// The system calls of a process during some work.
    fn traced(&self, pid: u32, work: impl FnOnce() -> Result<()>) -> Result<Calls> {
        let summary = self.keys.path().join("strace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-c", "-U", "calls,name", "-p", &pid.to_string(), "-o"]).arg(&summary);
        let mut strace = strace.stderr(Stdio::null()).spawn().context("cannot start strace")?;
        wait::until("strace", PATIENCE, || {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            Ok(status.lines().any(|line| line == format!("TracerPid:\t{}", strace.id())).then_some(()))
        })?;
        let done = work();
        let pid = rustix::process::Pid::from_child(&strace);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        strace.wait()?;
        done?;
        Calls::read(&summary)
    }
}

/// What strace counted.
struct Calls {
    total: f64,
    /// With their numbers, most first.
    names: Vec<(String, f64)>,
}

impl Calls {
    fn read(summary: &Path) -> Result<Self> {
        let text = fs::read_to_string(summary)?;
        let rows = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let count: f64 = words.next()?.parse().ok()?;
            Some((words.next()?.to_owned(), count)).filter(|(name, _)| name != "total")
        });
        let mut names: Vec<_> = rows.collect();
        names.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        Ok(Self { total: names.iter().map(|(_, count)| count).sum(), names })
    }
}

/// The same in every session at once.
fn fetch(sessions: &mut [Session], bodies: usize) -> Result<()> {
    thread::scope(|scope| {
        let flows: Vec<_> = sessions
            .iter_mut()
            .map(|session| scope.spawn(move || (0..bodies).try_for_each(|_| session.fetch(BODY_BYTES))))
            .collect();
        flows.into_iter().try_for_each(|flow| flow.join().unwrap_or_else(|_| bail!("a flow panicked")))
    })
}

/// The gateway's process.
struct Gateway {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    way: Way,
    sessions: usize,
}

impl Gateway {
    fn start(bench: &Bench, way: Way, sessions: usize) -> Result<Self> {
        let [listen, upstream] =
            [Family::V4.gateway_lan(), Family::V4.server()].map(|at| SocketAddr::new(at, PORT).to_string());
        let mut command = bench.lab.gateway.command("taskset");
        command.args(["-c", "0"]).arg(std::env::current_exe()?).args(["relay", "--way", &way.word()]);
        command.args(["--sessions", &sessions.to_string(), "--listen", &listen, "--upstream", &upstream]);
        command.arg("--keys").arg(bench.keys.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the gateway")?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut gateway = Self { child, input, output, way, sessions };
        gateway.hear("listening")?;
        Ok(gateway)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// While it waits for us.
    fn cost(&self) -> Result<Cost> {
        Cost::now(&[self.pid()])
    }

    /// Sessions whose handshakes are done.
    fn open(&mut self, bench: &Bench) -> Result<Vec<Session>> {
        let to = SocketAddr::new(Family::V4.gateway_lan(), PORT);
        let sessions = (0..self.sessions).map(|_| Session::open(&bench.lab, to, &bench.client)).collect();
        self.hear("handshaken")?;
        sessions
    }

    /// Let it begin, and see that the kernel has what it should.
    fn relay(&mut self) -> Result<()> {
        self.go("split")?;
        let stat = fs::read_to_string(format!("/proc/{}/net/tls_stat", self.pid()))?;
        let kept: usize = stat
            .lines()
            .filter_map(|line| line.split_once(char::is_whitespace))
            .filter(|(name, _)| matches!(*name, "TlsCurrTxSw" | "TlsCurrRxSw"))
            .filter_map(|(_, count)| count.trim().parse::<usize>().ok())
            .sum();
        let halves = if matches!(self.way, Way::User | Way::UserDigest) { 0 } else { 4 * self.sessions };
        ensure!(kept == halves, "the kernel has {kept} halves of TLS connections, not {halves}");
        self.tell()
    }

    fn end(mut self, sessions: Vec<Session>) -> Result<()> {
        sessions.into_iter().try_for_each(Session::close)?;
        let spliced: u64 = self.hear("ended")?.trim().parse()?;
        let splices = matches!(self.way, Way::Splice | Way::Tee);
        ensure!(splices == (spliced > 0), "{} spliced {spliced} octets", self.way.word());
        self.tell()
    }

    fn go(&mut self, to: &str) -> Result<String> {
        self.tell()?;
        self.hear(to)
    }

    fn tell(&mut self) -> Result<()> {
        Ok(self.input.write_all(b"\n")?)
    }

    /// Its next line, which begins with this word; the rest.
    fn hear(&mut self, word: &str) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let rest =
            line.strip_prefix(word).with_context(|| format!("the gateway ended before it was {word}"))?;
        Ok(rest.to_owned())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
