//! CPU time of Postern, relaying and judging, and of haproxy for the same mail, in the same run. `cargo xtask bench`
//! builds and runs it.
//!
//! The gateway's process has core 0 to itself; client and server share core 1. On veth the receiver's softirq runs on
//! the sender's core, so receive packet steering keeps the gateway's on core 0, and two figures are counted: the CPU
//! time of the process, and everything that core 0 did.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Result, ensure};
use clap::Parser;
use postern_tests::client::{self, Session};
use postern_tests::cost::{self, Cost, spread, steer_packets};
use postern_tests::imap_server::{PASSWORD, USER};
use postern_tests::lab::{self, Family, Lab};
use postern_tests::mediated;
use postern_tests::netns::{self, Namespace};
use postern_tests::pki::{self, Authority, Identity, Wanted};
use postern_tests::postern::{Installation, Policy, Postern, Process};
use postern_tests::wait::{self, PATIENCE};
use rustls::ClientConfig;
use rustls::client::Resumption;

/// Octets of the message that is fetched again and again. No verdict outlives a FETCH of a whole message, so that it is
/// judged anew each time.
const BODY_BYTES: usize = 8 * 1000 * 1000;
/// Flows at once.
const FLOWS: usize = 4;
/// Where haproxy listens, on the gateway's own address.
const HAPROXY_PORT: u16 = 1993;

/// CPU time per gigabyte, per small message and per session.
#[derive(Parser)]
struct Args {
    /// Messages that each of the four flows fetches in one run.
    #[arg(long, default_value_t = 32)]
    messages: usize,
    /// Messages of 10 KB, each of which each flow fetches once in one run.
    #[arg(long, default_value_t = 1000)]
    small: usize,
    /// Sessions (full handshakes on both sides, LOGIN, LOGOUT) in one run.
    #[arg(long, default_value_t = 1000)]
    sessions: usize,
    /// Runs of each gateway, in turns.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// One gateway's figures, one of each for each run.
#[derive(Default)]
struct Figures {
    name: &'static str,
    per_gigabyte: Vec<Cost>,
    per_message: Vec<Cost>,
    per_session: Vec<Cost>,
}

impl Figures {
    fn of(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    lab::need_root()?;
    let lab = Lab::new()?;
    steer_packets(&lab)?;
    let roots = Authority::new("Bench Root")?;
    let identity = roots.issue(&Wanted::server())?;
    let one_thread = |policy: Policy| policy.steering("threads = 1");
    let relays = one_thread(Policy::new());
    let judges = one_thread(mediated::policy());
    let installation = Installation::new(&relays, &roots)?;
    let server = serve(&lab, &identity, installation.dir(), &args)?;

    let mut relaying = Figures::of("postern");
    let mut judging = Figures::of("postern full");
    let mut haproxy = Figures::of("haproxy");
    let ours = trusting(installation.authority_pem())?;
    let theirs = trusting(roots.pem())?;
    for run in 1..=args.runs {
        println!("run {run} of {}", args.runs);
        for (figures, policy, judges) in [(&mut relaying, &relays, false), (&mut judging, &judges, true)] {
            installation.configure(policy)?;
            let daemon = installation.start_with(&lab.gateway, &["taskset", "-c", "0"])?;
            let pids = daemon.processes()?;
            measure(figures, &lab, SocketAddr::new(Family::V4.server(), 993), &ours, &pids, &args)?;
            let judged = judged(&daemon)?;
            ensure!((judged > 0) == judges, "{judged} parts of mail were judged");
            daemon.stop()?;
        }
        let proxy = start_haproxy(&lab.gateway, &identity, installation.dir())?;
        let at = SocketAddr::new(Family::V4.gateway_lan(), HAPROXY_PORT);
        wait::until("haproxy", PATIENCE, || Ok(lab.client.connect(at).ok()))?;
        measure(&mut haproxy, &lab, at, &theirs, &[proxy.0.id()], &args)?;
    }
    report(&[relaying, judging], &haproxy)?;
    drop(server);
    lab.finish()
}

/// Parts of mail that the sessions so far had judged.
fn judged(daemon: &Postern<'_>) -> Result<u64> {
    Ok(daemon.records()?.iter().map(|record| record.number("postern.content.judged")).sum())
}

fn serve(lab: &Lab, identity: &Identity, dir: &Path, args: &Args) -> Result<Process> {
    let (cert, key) = identity.write(dir, "server")?;
    let binary = std::env::current_exe()?.with_file_name("lab-imap-server");
    let mut command = lab.server.command("taskset");
    command.args(["-c", "1"]).arg(binary).arg("--cert").arg(cert).arg("--key").arg(key);
    command.args(["--no-resumption", "--attached", &BODY_BYTES.to_string()]);
    command.args(["--small", &args.small.to_string()]);
    let server = Process::quiet(&mut command)?;
    let at = SocketAddr::new(Family::V4.server(), 993);
    wait::until("the mail server", PATIENCE, || Ok(lab.client.connect(at).ok()))?;
    Ok(server)
}

fn start_haproxy(gateway: &Namespace, identity: &Identity, dir: &Path) -> Result<Process> {
    let both = dir.join("haproxy.pem");
    fs::write(&both, format!("{}{}", identity.cert_pem, identity.key_pem))?;
    let suite = "TLS_AES_256_GCM_SHA384";
    let config = format!(
        "global\n nbthread 1\n maxconn 2000\n ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets\n \
         ssl-default-bind-ciphersuites {suite}\n ssl-default-server-ciphersuites {suite}\n \
         tune.ssl.cachesize 0\n\
         defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n\
         listen imaps\n bind {}:{HAPROXY_PORT} ssl crt {}\n server mail {}:993 ssl verify none no-ssl-reuse\n",
        Family::V4.gateway_lan(),
        both.display(),
        Family::V4.server(),
    );
    let file = dir.join("haproxy.cfg");
    fs::write(&file, config)?;
    let mut command = gateway.command("taskset");
    command.args(["-c", "0", "haproxy", "-db", "-f"]).arg(file);
    Process::quiet(&mut command)
}

/// Trusts this authority and resumes nothing.
fn trusting(pem: &str) -> Result<Arc<ClientConfig>> {
    let mut config = client::config(pki::trust(pem)?, &[&rustls::version::TLS13]);
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn measure(
    figures: &mut Figures,
    lab: &Lab,
    to: SocketAddr,
    config: &Arc<ClientConfig>,
    pids: &[u32],
    args: &Args,
) -> Result<()> {
    let open = || -> Result<Session> {
        let mut session = Session::implicit(&lab.client, to, Family::V4.name(), config)?;
        session.greeting()?;
        Ok(session)
    };
    let fetch = || {
        let mut session = open()?;
        session.enter()?;
        for _ in 0..args.messages {
            session.fetch(2)?;
        }
        session.logout()
    };
    in_flows(lab, fetch)?;
    // The warm-up above has filled caches and pools; this counts.
    let before = Cost::now(pids)?;
    in_flows(lab, fetch)?;
    let gigabytes = (FLOWS * args.messages * BODY_BYTES) as f64 / 1e9;
    figures.per_gigabyte.push(Cost::now(pids)?.since(before, gigabytes));

    let before = Cost::now(pids)?;
    in_flows(lab, || {
        let mut session = open()?;
        session.enter()?;
        // Behind the greeting's message and the large one.
        let fetched = session.command("FETCH 3:* (UID FLAGS BODY.PEEK[])")?.ok()?.literals.len();
        ensure!(fetched == args.small, "{fetched} messages came");
        session.logout()
    })?;
    figures.per_message.push(Cost::now(pids)?.since(before, (FLOWS * args.small) as f64));

    let before = Cost::now(pids)?;
    let each = args.sessions.div_ceil(FLOWS);
    in_flows(lab, || {
        for _ in 0..each {
            let mut session = open()?;
            session.command(&format!("LOGIN {USER} {PASSWORD}"))?.ok()?;
            session.logout()?;
        }
        Ok(())
    })?;
    figures.per_session.push(Cost::now(pids)?.since(before, (each * FLOWS) as f64));
    Ok(())
}

/// The same work in every flow, from the client's namespace and core.
fn in_flows(lab: &Lab, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let flows: Vec<_> = (0..FLOWS).map(|_| scope.spawn(|| lab.client.enter(&work))).collect();
        flows
            .into_iter()
            .try_for_each(|flow| flow.join().unwrap_or_else(|_| anyhow::bail!("a flow panicked")))
    })
}

fn report(postern: &[Figures], haproxy: &Figures) -> Result<()> {
    let version = netns::run(Command::new("haproxy").arg("-v"), "", PATIENCE)?;
    let version = netns::success("haproxy -v", &version)?;
    println!("\nTLS 1.3 on both sides, AES-256-GCM, ECDSA P-256, no resumption");
    println!("{}", cost::machine()?);
    println!("{}", version.lines().next().unwrap_or_default());
    println!(
        "postern relays (inspect = \"none\"); postern full judges (inspect = \"full\"), every message anew"
    );
    println!(
        "GB: messages of 8 MB, nearly all base64, one a FETCH; message: of 10 KB, likewise, all in one FETCH"
    );
    println!("{:<36}{:>24}{:>26}", "median (least to most)", "process", "core");
    for (what, unit, scale, pick) in [
        ("per GB", "s", 1.0, (|figures| &figures.per_gigabyte) as fn(&Figures) -> &Vec<Cost>),
        ("per message", "µs", 1e6, |figures| &figures.per_message),
        ("per session", "µs", 1e6, |figures| &figures.per_session),
    ] {
        for figures in postern.iter().chain([haproxy]) {
            let column = |part: fn(&Cost) -> f64| {
                let (least, median, most) = spread(pick(figures).iter().map(|cost| part(cost) * scale));
                format!("{median:.2} ({least:.2}–{most:.2})")
            };
            let label = format!("{} CPU {unit} {what}", figures.name);
            println!("{label:<36}{:>24}{:>26}", column(|cost| cost.process), column(|cost| cost.core));
        }
        for figures in postern {
            let ratio = |part: fn(&Cost) -> f64| {
                let median = |figures| spread(pick(figures).iter().map(part)).1;
                median(figures) / median(haproxy)
            };
            let label = format!("{} / haproxy {what}", figures.name);
            println!("{label:<36}{:>24.2}{:>26.2}", ratio(|cost| cost.process), ratio(|cost| cost.core));
        }
    }
    Ok(())
}
