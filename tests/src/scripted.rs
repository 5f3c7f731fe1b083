//! A peer that does exactly what a test says, and remembers every octet that it was sent.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::netns::Namespace;
use crate::wait::PATIENCE;

/// A server whose every connection is handled by a script on a thread of its own.
#[derive(Debug)]
pub struct Scripted<T> {
    results: Receiver<Result<T>>,
}

impl<T: Send + 'static> Scripted<T> {
    /// Take one connection at this address and run the script on it.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn once(
        namespace: &Namespace,
        at: SocketAddr,
        script: impl FnOnce(TcpStream) -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let listener = namespace.listen(at)?;
        let (sender, results) = mpsc::channel();
        thread::spawn(move || {
            let accepted = listener.accept();
            // The address is free again before the result is seen.
            drop(listener);
            let result = accepted.map_err(anyhow::Error::from).and_then(|(stream, _)| {
                prepare(&stream)?;
                script(stream)
            });
            let _ = sender.send(result);
        });
        Ok(Self { results })
    }

    /// What the script returned.
    ///
    /// # Errors
    /// When no client came, or what the script says.
    pub fn result(self) -> Result<T> {
        self.results
            .recv_timeout(PATIENCE)
            .map_err(|_| anyhow!("the scripted server's script did not end"))?
    }

    /// That nobody has connected in the meantime: the caller knows that the gateway is done.
    #[must_use]
    pub fn untouched(&self) -> bool {
        self.results.try_recv().is_err()
    }
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream.set_nodelay(true)?)
}

/// Read one line, with its end, octet by octet: nothing behind it is taken.
///
/// # Errors
/// When the stream ends first.
pub fn line(stream: &mut impl std::io::Read) -> Result<String> {
    let mut text = Vec::new();
    while text.last() != Some(&b'\n') {
        let mut octet = [0];
        stream
            .read_exact(&mut octet)
            .with_context(|| format!("after {:?}", String::from_utf8_lossy(&text)))?;
        text.extend(octet);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Read once. A socket with a time-out says `EINTR` after the machine was stopped, without any signal's handler (signal(7)):
/// nothing has come then, and nothing is over.
///
/// # Errors
/// What the stream says.
pub fn read(stream: &mut (impl std::io::Read + ?Sized), room: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(room) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Everything until the stream ends, by whatever way, or nothing comes for `quiet`.
#[must_use]
pub fn rest(stream: &mut TcpStream, quiet: Duration) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.set_read_timeout(Some(quiet));
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = read(stream, &mut chunk) {
        all.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
    let _ = stream.set_read_timeout(Some(PATIENCE));
    all
}

/// Everything until the peer ends the connection.
///
/// # Errors
/// When it does not end it.
pub fn to_end(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match read(stream, &mut chunk) {
            Ok(0) => return Ok(all),
            Ok(count) => all.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(all),
            Err(error) => {
                return Err(anyhow!("no end but {error}; so far {:?}", String::from_utf8_lossy(&all)));
            }
        }
    }
}

/// Half of a clear STARTTLS dialogue, as an honest server has it: greeting, then answers until STARTTLS is answered.
/// Returns the clear-text lines.
///
/// # Errors
/// When the stream ends first.
pub fn until_starttls(stream: &mut TcpStream, answer: &str) -> Result<Vec<String>> {
    stream.write_all(b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n")?;
    let mut seen = Vec::new();
    loop {
        let text = line(stream)?;
        let mut words = text.split_whitespace();
        let (tag, verb) =
            (words.next().unwrap_or("*").to_owned(), words.next().unwrap_or_default().to_uppercase());
        seen.push(text);
        match verb.as_str() {
            "STARTTLS" => {
                stream.write_all(answer.replace("TAG", &tag).as_bytes())?;
                return Ok(seen);
            }
            "CAPABILITY" => stream.write_all(
                format!("* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n{tag} OK done\r\n").as_bytes(),
            )?,
            _ => stream.write_all(format!("{tag} OK done\r\n").as_bytes())?,
        }
    }
}

/// A server that takes one connection, agrees on STARTTLS, and then runs the script.
///
/// # Errors
/// When the address is taken.
pub fn behind_starttls<T: Send + 'static>(
    namespace: &Namespace,
    at: SocketAddr,
    script: impl FnOnce(TcpStream) -> Result<T> + Send + 'static,
) -> Result<Scripted<T>> {
    Scripted::once(namespace, at, move |mut tcp| {
        until_starttls(&mut tcp, "TAG OK go\r\n")?;
        script(tcp)
    })
}

/// The server's side of a TLS handshake, finished.
///
/// # Errors
/// When it fails.
pub fn accept_tls(
    mut tcp: TcpStream,
    config: ServerConfig,
) -> Result<StreamOwned<ServerConnection, TcpStream>> {
    let mut connection = ServerConnection::new(std::sync::Arc::new(config))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp).context("TLS handshake as a server")?;
    }
    Ok(StreamOwned::new(connection, tcp))
}

/// Say that nothing more will be sent.
pub fn half_close(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
}
