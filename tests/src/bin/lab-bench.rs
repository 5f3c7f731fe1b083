//! CPU time of Postern, relaying and judging, and of haproxy for the same mail, in the same run. `cargo xtask bench`
//! builds and runs it.
//!
//! The gateway's process has core 0 to itself; client and server share core 1. On veth the receiver's softirq runs on
//! the sender's core, so receive packet steering keeps the gateway's on core 0, and two figures are counted: the CPU
//! time of the process, and everything that core 0 did.

use std::fs;
use std::io::ErrorKind;
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

/// Octets of each of the two large messages.
const BODY_BYTES: usize = 8 * 1000 * 1000;
/// Flows at once.
const FLOWS: usize = 4;
/// Sessions of [`Gateway::warm_up`].
const WARM_UP_SESSIONS: usize = FLOWS;
/// Sessions of [`Gateway::mail`].
const MAIL_SESSIONS: usize = 3 * FLOWS;
/// Where haproxy listens, on the gateway's own address.
const HAPROXY_PORT: u16 = 1993;

/// CPU time per gigabyte, per small message and per session.
#[derive(Parser)]
struct Args {
    /// Messages of 8 MB that each of the four flows fetches once in one run, and as many of plain text.
    #[arg(long, default_value_t = 32)]
    messages: usize,
    /// Messages of 10 KB that each flow fetches once in one run.
    #[arg(long, default_value_t = 1000)]
    small: usize,
    /// Sessions (full handshakes on both sides, LOGIN, LOGOUT) in one run.
    #[arg(long, default_value_t = 1000)]
    sessions: usize,
    /// Runs of each gateway, in turns.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// The figures of one gateway in one condition, one of each for each run.
#[derive(Default)]
struct Figures {
    name: &'static str,
    per_gigabyte: Vec<Cost>,
    per_gigabyte_of_text: Vec<Cost>,
    per_message: Vec<Cost>,
    per_session: Vec<Cost>,
}

impl Figures {
    fn of(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }
}

/// A gateway that runs.
struct Gateway<'g> {
    lab: &'g Lab,
    at: SocketAddr,
    client: &'g Arc<ClientConfig>,
    pids: Vec<u32>,
    args: &'g Args,
}

/// What the sessions counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    /// Parts of mail.
    judged: u64,
    /// Messages.
    verified: u64,
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
    let mut cold = Figures::of("postern full, cold");
    let mut known = Figures::of("postern full, known");
    let mut judging = Figures::of("postern full");
    let mut haproxy = Figures::of("haproxy");
    let ours = trusting(installation.authority_pem())?;
    let theirs = trusting(roots.pem())?;
    let gateway = |at, client, pids| Gateway { lab: &lab, at, client, pids, args: &args };
    let server_at = SocketAddr::new(Family::V4.server(), 993);
    for run in 1..=args.runs {
        println!("run {run} of {}", args.runs);

        installation.configure(&relays)?;
        let daemon = installation.start_with(&lab.gateway, &["taskset", "-c", "0"])?;
        let postern = gateway(server_at, &ours, daemon.processes()?);
        postern.warm_up()?;
        postern.mail(&mut relaying)?;
        let counted = counted(&daemon, 0, WARM_UP_SESSIONS + MAIL_SESSIONS)?;
        ensure!(counted == Counted { judged: 0, verified: 0 }, "without judging, {counted:?}");
        postern.sessions(&mut relaying)?;
        daemon.stop()?;

        installation.configure(&judges)?;
        forget(&installation)?;
        let daemon = installation.start_with(&lab.gateway, &["taskset", "-c", "0"])?;
        let postern = gateway(server_at, &ours, daemon.processes()?);
        judge(&postern, &daemon, &mut cold, &mut known)?;
        postern.sessions(&mut judging)?;
        daemon.stop()?;

        let proxy = start_haproxy(&lab.gateway, &identity, installation.dir())?;
        let at = SocketAddr::new(Family::V4.gateway_lan(), HAPROXY_PORT);
        wait::until("haproxy", PATIENCE, || Ok(lab.client.connect(at).ok()))?;
        let proxying = gateway(at, &theirs, vec![proxy.0.id()]);
        proxying.warm_up()?;
        proxying.mail(&mut haproxy)?;
        proxying.sessions(&mut haproxy)?;
    }
    report(&args, &[relaying, cold, known, judging], &haproxy)?;
    drop(server);
    lab.finish()
}

/// Mail that Postern never saw, and the same mail again.
fn judge(postern: &Gateway<'_>, daemon: &Postern<'_>, cold: &mut Figures, known: &mut Figures) -> Result<()> {
    postern.warm_up()?;
    postern.mail(cold)?;
    let first = counted(daemon, 0, WARM_UP_SESSIONS + MAIL_SESSIONS)?;
    let messages = postern.args.fetched();
    ensure!(
        first.verified == 0 && first.judged >= messages,
        "of {messages} messages and those of the warm-up, each should have been judged: {first:?}"
    );
    postern.mail(known)?;
    let again = counted(daemon, WARM_UP_SESSIONS + MAIL_SESSIONS, MAIL_SESSIONS)?;
    ensure!(
        again == Counted { judged: 0, verified: messages },
        "{messages} messages came again, and all should have been known: {again:?}"
    );
    Ok(())
}

/// What so many sessions counted, behind so many others.
fn counted(daemon: &Postern<'_>, before: usize, sessions: usize) -> Result<Counted> {
    let records = daemon.wait_records(before + sessions)?;
    let sum = |what: &str| {
        let field = format!("postern.content.{what}");
        records.iter().skip(before).map(|record| record.number(&field)).sum()
    };
    Ok(Counted { judged: sum("judged"), verified: sum("verified") })
}

/// The next daemon knows no mail.
fn forget(installation: &Installation) -> Result<()> {
    match fs::remove_file(installation.dir().join("state/verdicts")) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn serve(lab: &Lab, identity: &Identity, dir: &Path, args: &Args) -> Result<Process> {
    let (cert, key) = identity.write(dir, "server")?;
    let binary = std::env::current_exe()?.with_file_name("lab-imap-server");
    let mut command = lab.server.command("taskset");
    command.args(["-c", "1"]).arg(binary).arg("--cert").arg(cert).arg("--key").arg(key);
    let size = BODY_BYTES.to_string();
    command.args(["--no-resumption", "--large", &size, "--attached", &size]);
    command.args(["--copies", &args.copies().to_string()]);
    command.args(["--small", &(FLOWS * args.small).to_string()]);
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

impl Args {
    /// UIDs of each large message: every flow has its own, and others for the warm-up.
    const fn copies(&self) -> usize {
        2 * FLOWS * self.messages
    }

    /// The first UID of the plain text, behind the greeting's message.
    const fn first_text(&self) -> usize {
        2
    }

    /// The first UID of the message with an attachment.
    const fn first_attached(&self) -> usize {
        self.first_text() + self.copies()
    }

    /// The first UID of the small messages.
    const fn first_small(&self) -> usize {
        self.first_attached() + self.copies()
    }

    /// Messages that [`Gateway::mail`] fetches.
    const fn fetched(&self) -> u64 {
        (FLOWS * (2 * self.messages + self.small)) as u64
    }
}

impl Gateway<'_> {
    /// Fill caches and pools, with mail that nothing else fetches.
    fn warm_up(&self) -> Result<()> {
        self.large(self.args.first_attached() + self.args.copies() / 2).map(drop)
    }

    /// Every flow fetches messages of its own.
    fn mail(&self, figures: &mut Figures) -> Result<()> {
        figures.per_gigabyte.push(self.large(self.args.first_attached())?);
        figures.per_gigabyte_of_text.push(self.large(self.args.first_text())?);
        figures.per_message.push(self.small()?);
        Ok(())
    }

    /// For each gigabyte.
    fn large(&self, first: usize) -> Result<Cost> {
        let each = self.args.messages;
        let gigabytes = (FLOWS * each * BODY_BYTES) as f64 / 1e9;
        self.cost(gigabytes, |flow| {
            let mut session = self.open()?;
            session.enter()?;
            for uid in (first + flow * each..).take(each) {
                let fetched = session.command(&format!("UID FETCH {uid} BODY.PEEK[]"))?.ok()?.literals;
                ensure!(fetched.len() == 1, "{} messages came", fetched.len());
            }
            session.logout()
        })
    }

    /// For each message.
    fn small(&self) -> Result<Cost> {
        let each = self.args.small;
        self.cost((FLOWS * each) as f64, |flow| {
            let mut session = self.open()?;
            session.enter()?;
            let first = self.args.first_small() + flow * each;
            let command = format!("UID FETCH {first}:{} (FLAGS BODY.PEEK[])", first + each - 1);
            let fetched = session.command(&command)?.ok()?.literals.len();
            ensure!(fetched == each, "{fetched} messages came");
            session.logout()
        })
    }

    fn sessions(&self, figures: &mut Figures) -> Result<()> {
        let each = self.args.sessions.div_ceil(FLOWS);
        let cost = self.cost((each * FLOWS) as f64, |_| {
            for _ in 0..each {
                let mut session = self.open()?;
                session.command(&format!("LOGIN {USER} {PASSWORD}"))?.ok()?;
                session.logout()?;
            }
            Ok(())
        })?;
        figures.per_session.push(cost);
        Ok(())
    }

    fn open(&self) -> Result<Session> {
        let mut session = Session::implicit(&self.lab.client, self.at, Family::V4.name(), self.client)?;
        session.greeting()?;
        Ok(session)
    }

    /// What so many units of work cost.
    fn cost(&self, units: f64, work: impl Fn(usize) -> Result<()> + Sync) -> Result<Cost> {
        let before = Cost::now(&self.pids)?;
        in_flows(self.lab, work)?;
        Ok(Cost::now(&self.pids)?.since(before, units))
    }
}

/// The same work in every flow, from the client's namespace and core.
fn in_flows(lab: &Lab, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let work = &work;
        let flows: Vec<_> =
            (0..FLOWS).map(|flow| scope.spawn(move || lab.client.enter(|| work(flow)))).collect();
        flows
            .into_iter()
            .try_for_each(|flow| flow.join().unwrap_or_else(|_| anyhow::bail!("a flow panicked")))
    })
}

fn report(args: &Args, postern: &[Figures], haproxy: &Figures) -> Result<()> {
    let version = netns::run(Command::new("haproxy").arg("-v"), "", PATIENCE)?;
    let version = netns::success("haproxy -v", &version)?;
    println!("\nTLS 1.3 on both sides, AES-256-GCM, ECDSA P-256, no resumption");
    println!("{}", cost::machine()?);
    println!("{}", version.lines().next().unwrap_or_default());
    println!(
        "postern relays (inspect = \"none\"); postern full judges (inspect = \"full\"): cold, every message for the \
         first time; known, the same messages again, which are compared with what was judged"
    );
    println!(
        "GB: messages of 8 MB, one a FETCH, nearly all base64, or nearly all plain text; message: of 10 KB, nearly all \
         base64, {} in one FETCH",
        args.small
    );
    println!(
        "process: CPU time of the gateway's processes, all three of Postern's (supervisor, worker, signer) and the one \
         of haproxy; core: all CPU time of their core, the judges' included"
    );
    println!("{:<52}{:>24}{:>26}", "median (least to most)", "process", "core");
    for (what, unit, scale, pick) in [
        ("per GB", "s", 1.0, (|figures| &figures.per_gigabyte) as fn(&Figures) -> &Vec<Cost>),
        ("per GB of plain text", "s", 1.0, |figures| &figures.per_gigabyte_of_text),
        ("per message", "µs", 1e6, |figures| &figures.per_message),
        ("per session", "µs", 1e6, |figures| &figures.per_session),
    ] {
        let measured = || postern.iter().filter(|figures| !pick(figures).is_empty());
        for figures in measured().chain([haproxy]) {
            let column = |part: fn(&Cost) -> f64| {
                let (least, median, most) = spread(pick(figures).iter().map(|cost| part(cost) * scale));
                format!("{median:.2} ({least:.2}–{most:.2})")
            };
            let label = format!("{} CPU {unit} {what}", figures.name);
            println!("{label:<52}{:>24}{:>26}", column(|cost| cost.process), column(|cost| cost.core));
        }
        for figures in measured() {
            let ratio = |part: fn(&Cost) -> f64| {
                let median = |figures| spread(pick(figures).iter().map(part)).1;
                median(figures) / median(haproxy)
            };
            let label = format!("{} / haproxy {what}", figures.name);
            println!("{label:<52}{:>24.2}{:>26.2}", ratio(|cost| cost.process), ratio(|cost| cost.core));
        }
    }
    Ok(())
}
