//! The gateway: a process of its own, which does one thing at a time, when its standard input says so.

use std::future::poll_fn;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use postern::config::Offload;
use postern::inspect::{Engine, InspectRefusal, Next, Plain, Want};
use postern::layer::offload::{Abilities, OffloadTerms};
use postern::layer::{
    Batch, Incoming, KernelSide, LayerFault, Outgoing, Pool, Receive as _, Received, StreamEnd,
    Transmit as _, split,
};
use postern::relay::splice::Pipes;
use postern::relay::{Meter, relay};
use postern::words::{Direction, Side};
use postern_tests::pki::Identity;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, ExtractedSecrets, ServerConfig};
use tokio::task::LocalSet;

use crate::digest::{Digest, Tee};
use crate::{NAME, Way};

/// A silent session ends.
const IDLE: Duration = Duration::from_secs(300);
/// Room for what a handshake writes at once.
const FLIGHT_BYTES_MAX: usize = 32 * 1024;

/// What the gateway is told at its start.
#[derive(Args)]
pub(crate) struct Options {
    #[arg(long)]
    pub(crate) way: Way,
    #[arg(long)]
    pub(crate) sessions: usize,
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    #[arg(long)]
    pub(crate) upstream: SocketAddr,
    /// Directory with `server.pem`, `server.key` and `roots.pem`.
    #[arg(long)]
    pub(crate) keys: PathBuf,
}

/// Handshake, split and relay, with a pause before each, in which the clock is read.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (server, client) = configs(options)?;
    let terms = options.way.terms();
    let listener = TcpListener::bind(options.listen)?;
    say("listening");
    let mut ready = Vec::new();
    for _ in 0..options.sessions {
        ready.push(handshakes(&listener, options.upstream, &server, &client)?);
    }
    wait("handshaken")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let (pool, pipes) = (Pool::default(), Pipes::default());
    let mut sessions = Vec::new();
    for [down, up] in ready {
        sessions.push((down.split(&pool, &terms)?, up.split(&pool, &terms)?));
    }
    for (down, up) in &sessions {
        let layers = [down.0.layer(), down.1.layer(), up.0.layer(), up.1.layer()];
        ensure!(layers == [options.way.layer(); 4], "the layers are {layers:?}, not as asked");
    }
    wait("split")?;
    let local = LocalSet::new();
    let way = options.way;
    let tasks: Vec<_> = sessions
        .into_iter()
        .map(|(down, up)| local.spawn_local(session(way, down, up, (pool.clone(), pipes.clone()))))
        .collect();
    let spliced = local.block_on(&runtime, async {
        let mut spliced = 0;
        for task in tasks {
            spliced += task.await??;
        }
        anyhow::Ok(spliced)
    })?;
    wait(&format!("ended {spliced}"))
}

fn say(word: &str) {
    println!("{word}");
    let _ = std::io::stdout().flush();
}

/// Say where we are and wait for a line.
fn wait(word: &str) -> Result<()> {
    say(word);
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    ensure!(!line.is_empty(), "the driver is gone");
    Ok(())
}

impl Way {
    const fn is_user(self) -> bool {
        matches!(self, Self::User | Self::UserDigest)
    }

    const fn layer(self) -> &'static str {
        if self.is_user() { "user" } else { "kernel" }
    }

    fn terms(self) -> OffloadTerms {
        let mode = if self.is_user() { Offload::Never } else { Offload::Always };
        OffloadTerms { mode, abilities: Abilities::probe(), ..OffloadTerms::default() }
    }

    /// The word of the command line.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

type Halves = (Incoming, Outgoing);

/// Relay one session; octets that were spliced.
async fn session(way: Way, down: Halves, up: Halves, (pool, pipes): (Pool, Pipes)) -> Result<u64> {
    let meter = Meter::default();
    let (mut engine, pipes): (Box<dyn Engine>, _) = match way {
        Way::User | Way::Kernel => (Box::new(Plain::default()), None),
        Way::Splice => (Box::new(Plain::default()), Some(&pipes)),
        Way::UserDigest | Way::KernelDigest => {
            (Box::new(DigestEngine { digest: Digest::new()?, plain: Plain::default() }), None)
        }
        Way::Tee => return teed(down, up).await,
    };
    match relay(down, up, &mut *engine, &pool, pipes, &meter, IDLE).await.result {
        Ok(()) => Ok(meter.spliced(Direction::ClientToServer) + meter.spliced(Direction::ServerToClient)),
        Err(failure) => bail!("a session ended with {failure}"),
    }
}

/// An engine that digests every octet and passes it on.
struct DigestEngine {
    digest: Digest,
    plain: Plain,
}

impl Engine for DigestEngine {
    fn take(&mut self, from: Side, batch: &Batch) -> Result<(), InspectRefusal> {
        for octets in batch.plaintext() {
            // The digest's value does not matter here; its computation does.
            std::hint::black_box(self.digest.of(octets));
        }
        self.plain.take(from, batch)
    }

    fn next(&mut self, to: Side) -> Next {
        self.plain.next(to)
    }

    fn fill(&mut self, to: Side, room: &mut [u8]) -> usize {
        self.plain.fill(to, room)
    }

    fn wants(&self, _: Side) -> Want {
        Want::Octets
    }

    fn ended(&mut self, from: Side, end: StreamEnd) -> Result<(), InspectRefusal> {
        self.plain.ended(from, end)
    }

    fn is_drained(&self, to: Side) -> bool {
        self.plain.is_drained(to)
    }

    fn is_announced(&self, from: Side) -> bool {
        self.plain.is_announced(from)
    }

    fn is_at_boundary(&self, to: Side) -> bool {
        self.plain.is_at_boundary(to)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), InspectRefusal>> {
        self.plain.poll_event(cx)
    }

    fn wake_at(&self) -> Option<Instant> {
        self.plain.wake_at()
    }

    fn tick(&mut self, now: Instant) -> Result<(), InspectRefusal> {
        self.plain.tick(now)
    }
}

/// Both directions through `tee`.
async fn teed((mut down_in, mut down_out): Halves, (mut up_in, mut up_out): Halves) -> Result<u64> {
    let (mut requests, mut responses) = (Tee::new()?, Tee::new()?);
    tokio::try_join!(
        pump(&mut down_in, &mut up_out, &mut requests),
        pump(&mut up_in, &mut down_out, &mut responses)
    )?;
    Ok(requests.octets + responses.octets)
}

async fn pump(from: &mut Incoming, to: &mut Outgoing, tee: &mut Tee) -> Result<(), LayerFault> {
    loop {
        if let (Some(from), Some(to)) = (from.kernel(), to.kernel()) {
            tee.data(from, to).await?;
        }
        match poll_fn(|cx| from.poll_receive(cx)).await? {
            Received::Data => {
                let batch = from.batch();
                batch.release(usize::MAX);
                poll_fn(|cx| to.poll_send(cx, batch)).await?;
            }
            Received::End(_) => {
                return poll_fn(|cx| to.poll_end(cx, StreamEnd::Closed)).await;
            }
        }
    }
}

/// A side after its handshake.
struct Shaken {
    stream: TcpStream,
    secrets: ExtractedSecrets,
    kernel: KernelSide,
}

impl Shaken {
    fn split(self, pool: &Pool, terms: &OffloadTerms) -> Result<Halves> {
        self.stream.set_nonblocking(true)?;
        let stream = tokio::net::TcpStream::from_std(self.stream)?;
        Ok(split(stream, self.secrets, self.kernel, pool, terms)?)
    }
}

fn configs(options: &Options) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>)> {
    let read = |name: &str| {
        std::fs::read_to_string(options.keys.join(name)).with_context(|| format!("cannot read {name}"))
    };
    let identity = Identity { cert_pem: read("server.pem")?, key_pem: read("server.key")? };
    let mut server = identity.server_config(&[&rustls::version::TLS13])?;
    server.enable_secret_extraction = true;
    server.send_tls13_tickets = 0;
    let mut client = crate::peers::trusting(&read("roots.pem")?)?;
    client.enable_secret_extraction = true;
    Ok((Arc::new(server), Arc::new(client)))
}

/// A session's two handshakes.
fn handshakes(
    listener: &TcpListener,
    upstream: SocketAddr,
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
) -> Result<[Shaken; 2]> {
    let mut up = TcpStream::connect(upstream)?;
    up.set_nodelay(true)?;
    let name = ServerName::try_from(NAME)?.to_owned();
    let mut ours = UnbufferedClientConnection::new(Arc::clone(client), name)?;
    shake(&mut ours, |ours, incoming| ours.process_tls_records(incoming), &mut up)?;
    let (secrets, kernel) = ours.dangerous_into_kernel_connection()?;
    let up = Shaken { stream: up, secrets, kernel: KernelSide::Client(kernel) };

    let (mut down, _) = listener.accept()?;
    down.set_nodelay(true)?;
    let mut ours = UnbufferedServerConnection::new(Arc::clone(server))?;
    shake(&mut ours, |ours, incoming| ours.process_tls_records(incoming), &mut down)?;
    let (secrets, kernel) = ours.dangerous_into_kernel_connection()?;
    Ok([Shaken { stream: down, secrets, kernel: KernelSide::Server(kernel) }, up])
}

/// Shake hands until data may be written, reading no octet further.
fn shake<C, D>(
    ours: &mut C,
    process: impl for<'c, 'i> Fn(&'c mut C, &'i mut [u8]) -> UnbufferedStatus<'c, 'i, D>,
    stream: &mut TcpStream,
) -> Result<()> {
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    loop {
        let UnbufferedStatus { discard, state, .. } = process(ours, &mut incoming);
        let mut more = false;
        match state? {
            ConnectionState::EncodeTlsData(mut data) => {
                let mut room = vec![0; FLIGHT_BYTES_MAX];
                let count = data.encode(&mut room).map_err(|error| anyhow::anyhow!("{error:?}"))?;
                outgoing.extend_from_slice(room.get(..count).unwrap_or_default());
            }
            ConnectionState::TransmitTlsData(data) => {
                stream.write_all(&outgoing)?;
                outgoing.clear();
                data.done();
            }
            ConnectionState::BlockedHandshake => more = true,
            ConnectionState::WriteTraffic(_) => return Ok(()),
            state => bail!("{state:?} in a handshake"),
        }
        incoming.drain(..discard);
        if more {
            let mut header = [0; 5];
            stream.read_exact(&mut header)?;
            let [_, _, _, high, low] = header;
            let mut body = vec![0; usize::from(u16::from_be_bytes([high, low]))];
            stream.read_exact(&mut body)?;
            incoming.extend_from_slice(&header);
            incoming.append(&mut body);
        }
    }
}
