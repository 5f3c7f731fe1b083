//! A real Courier in a namespace. Its `imapd` speaks IMAP on standard input and output: one process for each
//! connection, behind TLS and LOGIN of ours.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, ensure};
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::imap_server::command;
use crate::imap_server::{PASSWORD, USER};
use crate::netns::Namespace;
use crate::unpacked;

/// What Debian's configuration offers, but for what our own LOGIN replaces.
const CAPABILITY: &str =
    "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE";
/// Where `imapd` looks for the daemon that tells of changed files, as root. The name fills the address.
const WATCHER: &str = "/tmp/fam-root-";
/// What an abstract socket's name has room for.
const NAME_BYTES: usize = 107;

/// A running Courier; dropping it ends every session.
#[derive(Debug)]
pub struct Courier {
    dir: TempDir,
    stop: watch::Sender<bool>,
    worker: Option<JoinHandle<()>>,
}

struct Shared {
    namespace: String,
    dir: PathBuf,
    programs: PathBuf,
    acceptor: TlsAcceptor,
}

impl Courier {
    /// Serve these listeners, TLS at once, with one empty mailbox.
    ///
    /// # Errors
    /// When its packages have not been fetched.
    pub fn start(namespace: &Namespace, listeners: Vec<TcpListener>, tls: ServerConfig) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("postern-courier-").tempdir()?;
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(dir.path().join("Maildir").join(part))?;
        }
        let shared = Arc::new(Shared {
            namespace: namespace.name().to_owned(),
            dir: dir.path().to_owned(),
            programs: unpacked::programs("courier")?,
            acceptor: TlsAcceptor::from(Arc::new(tls)),
        });
        // Without the daemon `imapd` waits for it for more than a second. It is never asked anything: IDLE polls.
        let watcher = namespace.enter(|| {
            let mut name = WATCHER.as_bytes().to_vec();
            name.resize(NAME_BYTES, 0);
            Ok(UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?)
        })?;
        watcher.set_nonblocking(true)?;
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        let (stop, mut stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = thread::spawn(move || {
            runtime.block_on(async move {
                if let Ok(watcher) = tokio::net::UnixListener::from_std(watcher) {
                    tokio::spawn(watch_nothing(watcher));
                }
                for listener in listeners {
                    if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                        tokio::spawn(accept(listener, Arc::clone(&shared)));
                    }
                }
                let _ = stopped.wait_for(|&stop| stop).await;
            });
        });
        Ok(Self { dir, stop, worker: Some(worker) })
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
        if thread::panicking() {
            eprintln!("courier said:\n{}", self.log());
        }
    }
}

async fn watch_nothing(watcher: tokio::net::UnixListener) {
    while let Ok((mut stream, _)) = watcher.accept().await {
        tokio::spawn(async move {
            let mut ignored = [0; 512];
            while stream.read(&mut ignored).await.is_ok_and(|count| count > 0) {}
        });
    }
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, peer)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, &shared).await {
                shared.note(&format!("{peer} ended: {error:#}"));
            }
        });
    }
}

impl Shared {
    fn note(&self, line: &str) {
        if let Ok(mut log) = self.log() {
            let _ = std::io::Write::write_all(&mut log, format!("{line}\n").as_bytes());
        }
    }

    fn log(&self) -> std::io::Result<File> {
        File::options().create(true).append(true).open(self.dir.join("log"))
    }

    /// `imapd` with the session logged in.
    fn imapd(&self) -> Result<Child> {
        let mut command = Namespace::command_in(&self.namespace, "env");
        command
            .arg(format!("LD_LIBRARY_PATH={}", unpacked::libraries(&self.programs)))
            .arg(format!("IMAP_CAPABILITY={CAPABILITY}"))
            .args(["IMAP_ENHANCEDIDLE=0", "IMAP_USELOCKS=0", "IMAP_IDLE_TIMEOUT=1", "IMAP_UMASK=022"])
            .arg(format!("MAILDIR={}", self.dir.join("Maildir").display()))
            .arg(format!("AUTHENTICATED={USER}"))
            .arg(self.programs.join("usr/bin/imapd"))
            .arg("Maildir")
            .current_dir(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(self.log()?);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true).spawn().context("cannot start Courier's imapd")
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(shared.acceptor.accept(stream).await?);
    if !log_in(&mut stream).await? {
        return Ok(stream.shutdown().await?);
    }
    let mut child = shared.imapd()?;
    let input = child.stdin.take().context("no standard input")?;
    let mut output = BufReader::new(child.stdout.take().context("no standard output")?);
    let mut greeting = String::new();
    while !greeting.starts_with("* PREAUTH") {
        greeting.clear();
        ensure!(output.read_line(&mut greeting).await? > 0, "Courier's imapd did not greet");
    }
    relay(stream, input, output).await
}

/// What a client may say before it has logged in. Whether it has.
async fn log_in(stream: &mut BufReader<TlsStream<TcpStream>>) -> Result<bool> {
    stream.write_all(format!("* OK [CAPABILITY {CAPABILITY}] Courier-IMAP ready\r\n").as_bytes()).await?;
    stream.flush().await?;
    while let Some(command) = command::read(stream).await? {
        let tag = &command.tag;
        let logged_in = command.text(0) == USER && command.text(1) == PASSWORD;
        let answer = match command.verb.as_str() {
            "CAPABILITY" => format!("* CAPABILITY {CAPABILITY}\r\n{tag} OK CAPABILITY completed\r\n"),
            "NOOP" => format!("{tag} OK NOOP completed\r\n"),
            "LOGIN" if logged_in => format!("{tag} OK LOGIN Ok.\r\n"),
            "LOGIN" => format!("{tag} NO Login failed.\r\n"),
            "LOGOUT" => format!("* BYE Courier-IMAP server shutting down\r\n{tag} OK LOGOUT completed\r\n"),
            _ => format!("{tag} NO Error in IMAP command received by server.\r\n"),
        };
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
        match command.verb.as_str() {
            "LOGIN" if logged_in => return Ok(true),
            "LOGOUT" => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}

/// Both directions, until `imapd` ends: it does when its input ends.
async fn relay(
    stream: BufReader<TlsStream<TcpStream>>,
    mut input: ChildStdin,
    mut output: BufReader<ChildStdout>,
) -> Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(stream);
    let up = async move {
        let copied = tokio::io::copy(&mut from_client, &mut input).await;
        drop(input);
        // A client that is gone is no reason to lose what imapd still says to it.
        if copied.is_ok() { Ok(()) } else { std::future::pending::<Result<()>>().await }
    };
    let down = async {
        tokio::io::copy(&mut output, &mut to_client).await?;
        Ok(to_client.shutdown().await?)
    };
    tokio::pin!(up, down);
    let mut listening = true;
    loop {
        tokio::select! {
            done = &mut down => return done,
            ended = &mut up, if listening => {
                listening = false;
                ended?;
            }
        }
    }
}
