//! `openssl s_client` as at a keyboard, whose letters change keys; and `s_server`, which speaks what rustls does not.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::lab::Family;
use crate::netns;
use crate::postern::Process;
use crate::scene::Scene;
use crate::wait::{self, PATIENCE};

/// What `openssl s_client -msg` says of a KeyUpdate from its peer.
pub const KEY_UPDATE_RECEIVED: &str = "<<< TLS 1.3, Handshake [length 0005], KeyUpdate";

/// `openssl s_client` whose single-letter commands work: its input is given line by line.
#[derive(Debug)]
pub struct OpenSsl {
    child: Process,
    input: ChildStdin,
    output: PathBuf,
}

impl OpenSsl {
    /// Start it towards the server's port 993, and wait for the greeting.
    ///
    /// # Errors
    /// Shows what it said.
    pub fn start(scene: &Scene, args: &[&str]) -> Result<Self> {
        let this = Self::begin(scene, 993, args)?;
        this.wait("* OK", 1)?;
        Ok(this)
    }

    /// Start it towards this port of the server's, with STARTTLS on 143; whether the handshake succeeds is not waited for.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin(scene: &Scene, port: u16, args: &[&str]) -> Result<Self> {
        let output = scene.installation.dir().join("openssl");
        let file = File::create(&output)?;
        let mut command = scene.lab.client.command("openssl");
        command.args(["s_client", "-crlf", "-connect", &scene.server(Family::V4, port).to_string()]);
        if port == 143 {
            command.args(["-starttls", "imap"]);
        }
        command.args(["-servername", Family::V4.name(), "-verify_return_error", "-CAfile"]);
        command.arg(scene.installation.authority_file()).args(args);
        command.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
        let mut child: Child = command.spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        Ok(Self { child: Process(child), input, output })
    }

    /// Everything it said.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Wait until it has said something so many times.
    ///
    /// # Errors
    /// Shows what it said.
    pub fn wait(&self, text: &str, times: usize) -> Result<()> {
        let found =
            wait::until(text, PATIENCE, || Ok((self.said().matches(text).count() >= times).then_some(())));
        found.with_context(|| self.said())
    }

    /// Type a line.
    ///
    /// # Errors
    /// When it is gone.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes())?;
        Ok(self.input.flush()?)
    }

    /// Wait until it has ended by itself.
    ///
    /// # Errors
    /// Shows what it said.
    pub fn wait_end(&mut self) -> Result<()> {
        wait::until("the end of openssl", PATIENCE, || Ok(self.child.0.try_wait()?))
            .with_context(|| self.said())
            .map(drop)
    }
}

/// `openssl s_server` with a certificate for an RSA key that nobody trusts: RSA goes with every old cipher.
#[derive(Debug)]
pub struct OpenSslServer {
    child: Process,
    input: ChildStdin,
    output: PathBuf,
}

impl OpenSslServer {
    /// Start it at this address of the server's, and wait until it listens.
    ///
    /// # Errors
    /// Shows what it said.
    pub fn start(scene: &Scene, at: SocketAddr, args: &[&str]) -> Result<Self> {
        let dir = scene.installation.dir();
        let (key, cert) = (dir.join("rsa.key"), dir.join("rsa.pem"));
        if !cert.exists() {
            let mut request = std::process::Command::new("openssl");
            request.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=old.lab.test"]);
            request.arg("-keyout").arg(&key).arg("-out").arg(&cert);
            netns::success("openssl req", &netns::run(&mut request, "", PATIENCE)?)?;
        }
        Self::with(scene, at, (&cert, &key), args)
    }

    /// The same with this certificate and key.
    ///
    /// # Errors
    /// Shows what it said.
    pub fn with(scene: &Scene, at: SocketAddr, (cert, key): (&Path, &Path), args: &[&str]) -> Result<Self> {
        let output = scene.installation.dir().join("openssl-server");
        let file = File::create(&output)?;
        let mut command = scene.lab.server.command("openssl");
        command.args(["s_server", "-accept", &at.to_string()]).args(args);
        command.arg("-cert").arg(cert).arg("-key").arg(key);
        command.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
        let mut child: Child = command.spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        let mut this = Self { child: Process(child), input, output };
        wait::until("openssl to listen", PATIENCE, || {
            if let Some(status) = this.child.0.try_wait()? {
                bail!("openssl s_server ended with {status}");
            }
            Ok(this.said().contains("ACCEPT").then_some(()))
        })
        .with_context(|| this.said())?;
        Ok(this)
    }

    /// Everything it said.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Say a line to the client that is connected.
    ///
    /// # Errors
    /// When it is gone.
    pub fn say(&mut self, line: &str) -> Result<()> {
        self.input.write_all(format!("{line}\r\n").as_bytes())?;
        Ok(self.input.flush()?)
    }
}
