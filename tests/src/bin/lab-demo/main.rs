//! The demonstration: a client, Postern and a mail server in three namespaces. `cargo xtask demo` builds and runs it.

/// What senders hide in mail.
mod hidden;
/// A hostile mailbox.
mod hostile;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use postern_tests::client::Tls;
use postern_tests::dovecot::Dovecot;
use postern_tests::imap_server::{PASSWORD, USER};
use postern_tests::lab::{self, EGRESS, Family, INGRESS, Lab, Shape};
use postern_tests::netns::{self, Namespace};
use postern_tests::pki::{Authority, Identity, Wanted};
use postern_tests::postern::{Installation, Policy, Postern, Process};
use postern_tests::record::Record;
use postern_tests::scene::MESSAGE;
use postern_tests::wait::{self, BULK_PATIENCE, PATIENCE};
use serde_json::Value;

/// What the names of the demonstration's namespaces begin with, easy to type.
const STEM: &str = "postern";

/// Octets of the message that goes through a narrow hop in both directions.
const LARGE_BYTES: usize = 10 * 1000 * 1000;

/// A gateway's firewall as administrators write it, before they hear of Postern.
const FIREWALL: &str = "ct state invalid drop
ct state established,related accept
meta l4proto { icmp, icmpv6 } accept
iifname lo accept
oifname lo accept";

/// Set by Ctrl-C: the step in hand fails or ends, and everything is taken down.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A client fetches mail through Postern over STARTTLS and implicit TLS, IPv4 and IPv6; then a hostile mailbox.
#[derive(Parser)]
struct Args {
    /// Leave everything up and print the commands to play with.
    #[arg(long)]
    keep: bool,
    /// The mail server.
    #[arg(long, value_enum, default_value_t = Server::Lab)]
    server: Server,
    /// The gateway masquerades, and its firewall drops what no rule lets pass.
    #[arg(long)]
    masquerade: bool,
    /// Hidden hops on both sides through which only packets of so many octets pass.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1280..=1500))]
    mtu: Option<u16>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Server {
    /// The lab's own, which needs nothing installed.
    Lab,
    /// A real Dovecot.
    Dovecot,
}

/// Whatever serves mail, with a log.
enum Running {
    Lab { _process: Process, log: PathBuf },
    Dovecot(Dovecot),
}

impl Running {
    fn start(kind: Server, lab: &Lab, identity: &Identity, dir: &Path) -> Result<Self> {
        match kind {
            Server::Dovecot => {
                let dovecot = Dovecot::start(&lab.server, identity, &Tls::ALL)?;
                dovecot.log_commands()?;
                dovecot.deliver("1.demo", MESSAGE)?;
                Ok(Self::Dovecot(dovecot))
            }
            Server::Lab => {
                let (cert, key) = identity.write(dir, "server")?;
                let log = dir.join("server.log");
                let child = lab
                    .server
                    .command(beside("lab-imap-server")?)
                    .arg("--cert")
                    .arg(cert)
                    .arg("--key")
                    .arg(key)
                    .stdout(File::create(&log)?)
                    .spawn()?;
                let running = Self::Lab { _process: Process(child), log };
                wait::until("the mail server", PATIENCE, || {
                    Ok(running.log().contains("ready").then_some(()))
                })?;
                Ok(running)
            }
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Lab { log, .. } => std::fs::read_to_string(log).unwrap_or_default(),
            Self::Dovecot(dovecot) => dovecot.log(),
        }
    }

    /// Octets of each log of commands so far.
    fn heard(&self) -> Result<BTreeMap<PathBuf, usize>> {
        Ok(self.commands()?.into_iter().map(|(name, text)| (name, text.len())).collect())
    }

    /// The FETCH commands that the server was sent since then, without tags.
    fn heard_since(&self, before: &BTreeMap<PathBuf, usize>) -> Result<Vec<String>> {
        let mut heard = Vec::new();
        for (name, text) in self.commands()? {
            let new = text.get(before.get(&name).copied().unwrap_or_default()..).unwrap_or_default();
            let whole = new.rfind('\n').map_or("", |end| new.get(..end).unwrap_or_default());
            let fetches =
                whole.lines().filter_map(|line| line.find("UID FETCH ").and_then(|at| line.get(at..)));
            heard.extend(fetches.map(|line| line.trim_end().to_owned()));
        }
        Ok(heard)
    }

    fn commands(&self) -> Result<BTreeMap<PathBuf, String>> {
        match self {
            Self::Lab { log, .. } => Ok([(log.clone(), self.log())].into()),
            Self::Dovecot(dovecot) => dovecot.commands(),
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    lab::need_root()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
        });
    });
    let shown = demonstrate(&args);
    if INTERRUPTED.load(Ordering::Relaxed) {
        println!("\ninterrupted; everything was taken down");
        return Ok(());
    }
    shown
}

fn demonstrate(args: &Args) -> Result<()> {
    let ours = lab::PARTS.map(|part| format!("{STEM}-{part}"));
    let taken: Vec<String> = netns::all()?.into_iter().filter(|name| ours.contains(name)).collect();
    if !taken.is_empty() {
        bail!("another demonstration is up: end it, or remove it with: {}", removal(&taken));
    }
    let lab = lay(args)?;
    let roots = Authority::new("Demo Root, trusted by Postern only")?;
    let identity = roots.issue(&Wanted::server())?;
    let installation = Installation::new(&Policy::new(), &roots)?;
    let running = Running::start(args.server, &lab, &identity, installation.dir())?;
    if args.masquerade {
        firewall(&lab, &installation)?;
    }
    let postern = installation.start(&lab.gateway)?;
    println!("\nserver's own certificate: issued by \"Demo Root, trusted by Postern only\"");
    println!("client trusts:            only {}", installation.authority_file().display());

    for (done, (family, port)) in
        [(Family::V4, 143), (Family::V4, 993), (Family::V6, 143), (Family::V6, 993)].into_iter().enumerate()
    {
        fetch(&lab, &installation, family, port, args.mtu)?;
        postern.wait_records(done + 1)?;
    }
    report(&running, &postern)?;
    let stage =
        hostile::Stage { lab: &lab, roots: &roots, installation: &installation, postern, running: &running };
    let (postern, program) = stage.show()?;
    if args.keep {
        return keep(&lab, &installation, postern, program);
    }
    postern.stop()?;
    drop(running);
    lab.finish()?;
    println!("\nstopped; nothing is left behind");
    Ok(())
}

/// The namespaces, with what stands around the gateway.
fn lay(args: &Args) -> Result<Lab> {
    let lab = Lab::named(STEM, Shape { near_mtu: args.mtu, far_mtu: args.mtu, ..Shape::default() })?;
    match args.mtu {
        None => title("Three namespaces: client - gateway - server"),
        Some(mtu) => {
            title("Five namespaces: client - router - gateway - router - server");
            println!(
                "every link has an MTU of 1500; the routers take packets of {mtu} octets and say so by ICMP only"
            );
        }
    }
    for family in Family::ALL {
        println!("{:<34} {:<22} {}", family.client(), lab.gateway_lan(family), family.server());
    }
    Ok(lab)
}

/// A firewall that knows nothing of Postern, and the rules that `postern check` asks for.
fn firewall(lab: &Lab, installation: &Installation) -> Result<()> {
    title("The gateway masquerades, and its firewall drops what no rule lets pass");
    lab.masquerade()?;
    for hook in ["input", "forward", "output"] {
        let clients = if hook == "forward" {
            format!("\niifname {INGRESS} oifname {EGRESS} accept")
        } else {
            String::new()
        };
        let kind = format!("filter hook {hook} priority filter; policy drop");
        lab.gateway.nft_chain(hook, &kind, &format!("{FIREWALL}{clients}"))?;
    }
    let said = installation.command(&lab.gateway, &["check"])?;
    ensure!(said.code != Some(0), "`postern check` finds nothing in the way:\n{}", said.stdout);
    let commands: Vec<&str> =
        said.stdout.lines().map(str::trim).filter(|line| line.starts_with("nft ")).collect();
    println!("`postern check` says what is missing for steered mail:");
    for command in &commands {
        println!("    {command}");
        let output = netns::run(lab.gateway.command("sh").args(["-c", command]), "", PATIENCE)?;
        netns::success(command, &output)?;
    }
    let said = installation.command(&lab.gateway, &["check"])?;
    ensure!(said.code == Some(0), "with these rules `postern check` still says:\n{}", said.stdout);
    println!("with these rules in force it says: {}", said.stdout.lines().last().unwrap_or_default());
    Ok(())
}

fn fetch(lab: &Lab, installation: &Installation, family: Family, port: u16, mtu: Option<u16>) -> Result<()> {
    let to = SocketAddr::new(family.server(), port);
    step(&format!("Client to {to}, {}", if port == 143 { "STARTTLS" } else { "implicit TLS" }))?;
    let mut command = lab.client.command(beside("lab-client")?);
    command
        .arg(to.to_string())
        .args(["--name", family.name(), "--authority"])
        .arg(installation.authority_file());
    if mtu.is_some() {
        command.args(["--large", &LARGE_BYTES.to_string()]);
    }
    let output = netns::run(&mut command, "", BULK_PATIENCE)?;
    print!("{}", netns::success("the client", &output)?);
    if mtu.is_some() {
        path_mtu("client", &lab.client, family.server())?;
        path_mtu("gateway", &lab.gateway, family.client())?;
        path_mtu("gateway", &lab.gateway, family.server())?;
        path_mtu("server", &lab.server, lab.gateway_wan(family))?;
    }
    Ok(())
}

/// What a kernel has learned about a path from ICMP errors.
fn path_mtu(who: &str, namespace: &Namespace, to: IpAddr) -> Result<()> {
    let route = namespace.ip(&["route", "get", &to.to_string()])?;
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    println!("path MTU    {} from {who} to {to}", words.next().unwrap_or("not learned"));
    Ok(())
}

fn report(running: &Running, postern: &Postern<'_>) -> Result<()> {
    title("What the server saw");
    print!("{}", running.log());
    title("Postern's records");
    for record in postern.records()? {
        describe(&record);
    }
    let status = postern.status()?;
    for (shown, place) in
        [("Steering counters", "/steering/counters"), ("Classifier counters", "/steering/classes")]
    {
        title(shown);
        let counters = status.pointer(place).and_then(Value::as_object);
        for (name, value) in counters.with_context(|| format!("no {place} in the status"))? {
            println!("{name:<36} {value}");
        }
    }
    Ok(())
}

fn describe(record: &Record) {
    println!("{}", record.text("message"));
    for (name, keys) in [
        ("client", &["client.ip", "tls.client.server_name", "tls.version", "tls.cipher"][..]),
        ("server", &["server.ip", "postern.upstream.tls.version", "postern.upstream.tls.cipher"]),
        ("outcome", &["postern.mode", "event.outcome"]),
    ] {
        let values: Vec<&str> = keys.iter().map(|key| record.text(key)).collect();
        println!("    {name:<8} {}", values.join("  "));
    }
}

/// Stay until Ctrl-C, so that there is something to play with.
fn keep(lab: &Lab, installation: &Installation, postern: Postern<'_>, program: u32) -> Result<()> {
    let [client, gateway, server] = [lab.client.name(), lab.gateway.name(), lab.server.name()];
    let (authority, config) = (installation.authority_file(), installation.config());
    title("It stays up; in another terminal, as root:");
    println!(
        "ip netns exec {client} openssl s_client -starttls imap -connect {} -servername {} -CAfile {}",
        SocketAddr::new(Family::V4.server(), 143),
        Family::V4.name(),
        authority.display()
    );
    println!(
        "ip netns exec {client} curl --cacert {} --user {USER}:{PASSWORD} 'imaps://{}/INBOX;MAILINDEX=1'",
        authority.display(),
        Family::V6.name()
    );
    println!(
        "ip netns exec {client} curl --silent --cacert {} --user {USER}:{PASSWORD} \
         'imaps://{}/INBOX;UID={program};SECTION=2' | base64 -di | head -1",
        authority.display(),
        Family::V4.name()
    );
    println!(
        "ip netns exec {gateway} {} --config {} status",
        postern_tests::postern::binary()?.display(),
        config.display()
    );
    println!("ip netns exec {gateway} ip rule");
    println!("ip netns exec {gateway} nft list ruleset");
    println!("ip netns exec {server} ss -tn");
    println!("tail -f {}", installation.dir().join("records").display());
    println!("\nCtrl-C ends it and cleans up.");
    while !INTERRUPTED.load(Ordering::Relaxed) {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    drop(postern);
    Ok(())
}

fn title(text: &str) {
    println!("\n== {text}");
}

/// A title, unless nobody wants to see more.
fn step(text: &str) -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    title(text);
    Ok(())
}

fn removal(names: &[String]) -> String {
    names.iter().map(|name| format!("ip netns delete {name}")).collect::<Vec<_>>().join("; ")
}

/// A program of the lab, built beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.is_file(), "{} is missing: build the package postern-tests", path.display());
    Ok(path)
}
