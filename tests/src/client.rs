//! A blocking IMAP client over clear text or TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::lab::is_implicit_tls;
use crate::netns::Namespace;
use crate::pki;
use crate::scripted::read;
use crate::wait::PATIENCE;

/// Longest line that a lab client takes.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;

/// The TLS versions of a lab client or server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tls {
    /// RFC 5246.
    V12,
    /// RFC 8446.
    V13,
}

impl Tls {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V12, Self::V13];

    /// As records write it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }

    /// As rustls takes it.
    #[must_use]
    pub fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static V12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
        static V13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self {
            Self::V12 => &V12,
            Self::V13 => &V13,
        }
    }
}

/// A client that trusts these roots only.
#[must_use]
pub fn config(roots: Arc<RootCertStore>, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_protocol_versions(versions)
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(64);
    config
}

/// What an IMAP session runs over.
#[derive(Debug)]
pub enum Stream {
    /// Before or without TLS.
    Clear(TcpStream),
    /// TLS.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Clear(stream) => stream.write(octets),
            Self::Tls(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Clear(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// An IMAP session.
#[derive(Debug)]
pub struct Session {
    stream: Stream,
    buffer: Vec<u8>,
    tags: u32,
}

/// What a command brought: untagged lines (literals inside them cut out) and the tagged line.
#[derive(Debug)]
pub struct Answer {
    /// Untagged lines, without line ends.
    pub untagged: Vec<String>,
    /// Literals, in order.
    pub literals: Vec<Vec<u8>>,
    /// The tagged line without its tag, such as `OK done`.
    pub tagged: String,
}

impl Answer {
    /// This answer, if it is OK.
    ///
    /// # Errors
    /// Shows the answer.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.tagged.starts_with("OK"), "the server answered {:?}", self.tagged);
        Ok(self)
    }
}

impl Session {
    /// A session in clear text; nothing is read yet.
    #[must_use]
    pub const fn clear(stream: TcpStream) -> Self {
        Self::over(Stream::Clear(stream))
    }

    const fn over(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), tags: 0 }
    }

    /// Connect, start TLS at once or by STARTTLS as the port says, and read the greeting.
    ///
    /// # Errors
    /// What the network, TLS or the server says.
    pub fn open(from: &Namespace, to: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Result<Self> {
        Self::on(from.connect(to)?, name, config)
    }

    /// The same on a connection that exists; its far port says how TLS starts.
    ///
    /// # Errors
    /// What the network, TLS or the server says.
    pub fn on(stream: TcpStream, name: &str, config: &Arc<ClientConfig>) -> Result<Self> {
        if is_implicit_tls(stream.peer_addr()?.port()) {
            let mut session = Self::over(handshake(stream, name, config)?);
            session.greeting()?;
            return Ok(session);
        }
        let mut session = Self::clear(stream);
        session.greeting()?;
        session.starttls(name, config)
    }

    /// Connect to a port of implicit TLS and finish the handshake; the greeting is not read yet.
    ///
    /// # Errors
    /// What the network or TLS says.
    pub fn implicit(
        from: &Namespace,
        to: SocketAddr,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> Result<Self> {
        Ok(Self::over(handshake(from.connect(to)?, name, config)?))
    }

    /// Read the greeting.
    ///
    /// # Errors
    /// When it is no `* OK`.
    pub fn greeting(&mut self) -> Result<String> {
        let line = self.line()?;
        ensure!(line.starts_with("* OK"), "the greeting is {line:?}");
        Ok(line)
    }

    /// STARTTLS and the handshake.
    ///
    /// # Errors
    /// When it is refused or the handshake fails.
    pub fn starttls(mut self, name: &str, config: &Arc<ClientConfig>) -> Result<Self> {
        self.command("STARTTLS")?.ok()?;
        ensure!(self.buffer.is_empty(), "clear text after the OK: {:?}", self.buffer);
        let Stream::Clear(stream) = self.stream else { bail!("STARTTLS inside TLS") };
        Ok(Self { stream: handshake(stream, name, config)?, buffer: Vec::new(), tags: self.tags })
    }

    /// One line without its end.
    ///
    /// # Errors
    /// At the end of the stream, or when the line is too long.
    pub fn line(&mut self) -> Result<String> {
        let mut line = self.raw_line()?;
        line.truncate(line.len().saturating_sub(2));
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// One line as it is, with its end.
    ///
    /// # Errors
    /// At the end of the stream, or when the line is too long.
    pub fn raw_line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let rest = self.buffer.split_off(end + 2);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            ensure!(self.buffer.len() <= LINE_BYTES_MAX, "a line of more than {LINE_BYTES_MAX} octets");
            ensure!(
                self.fill()? > 0,
                "the stream ended; left over: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// What was read and not taken yet.
    pub(crate) fn left(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    fn fill(&mut self) -> Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let count = read(&mut self.stream, &mut chunk)?;
        self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        Ok(count)
    }

    /// Exactly so many octets, whatever they say.
    ///
    /// # Errors
    /// When the stream ends first.
    pub fn literal(&mut self, octets: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < octets {
            ensure!(
                self.fill()? > 0,
                "the stream ended {} octets into a literal of {octets}",
                self.buffer.len()
            );
        }
        let rest = self.buffer.split_off(octets);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Read an untagged or tagged response, literals cut out into `literals`.
    ///
    /// # Errors
    /// At the end of the stream.
    pub fn response(&mut self, literals: &mut Vec<Vec<u8>>) -> Result<String> {
        let mut whole = String::new();
        loop {
            whole.push_str(&self.line()?);
            let size = whole.strip_suffix('}').and_then(|text| text.rsplit_once('{'));
            let Some(octets) = size.and_then(|(_, digits)| digits.parse().ok()) else { return Ok(whole) };
            literals.push(self.literal(octets)?);
        }
    }

    /// Send a command and read its answer.
    ///
    /// # Errors
    /// At the end of the stream.
    pub fn command(&mut self, text: &str) -> Result<Answer> {
        let tag = self.send_command(text)?;
        self.answer(&tag)
    }

    /// Send a command; the tag is returned.
    ///
    /// # Errors
    /// When the peer is gone.
    pub fn send_command(&mut self, text: &str) -> Result<String> {
        self.tags += 1;
        let tag = format!("a{}", self.tags);
        self.send(format!("{tag} {text}\r\n").as_bytes())?;
        Ok(tag)
    }

    /// Read until the tagged response.
    ///
    /// # Errors
    /// At the end of the stream.
    pub fn answer(&mut self, tag: &str) -> Result<Answer> {
        let mut answer = Answer { untagged: Vec::new(), literals: Vec::new(), tagged: String::new() };
        loop {
            let line = self.response(&mut answer.literals)?;
            if let Some(tagged) = line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                tagged.clone_into(&mut answer.tagged);
                return Ok(answer);
            }
            answer.untagged.push(line);
        }
    }

    /// Send octets as they are.
    ///
    /// # Errors
    /// When the peer is gone.
    pub fn send(&mut self, octets: &[u8]) -> Result<()> {
        self.stream.write_all(octets)?;
        Ok(self.stream.flush()?)
    }

    /// LOGIN and SELECT INBOX.
    ///
    /// # Errors
    /// When either is refused.
    pub fn enter(&mut self) -> Result<()> {
        self.log_in()?;
        self.command("SELECT INBOX")?.ok().map(drop)
    }

    /// The octets of a whole message.
    ///
    /// # Errors
    /// When there is none.
    pub fn fetch(&mut self, number: u32) -> Result<Vec<u8>> {
        let answer = self.command(&format!("FETCH {number} BODY.PEEK[]"))?.ok()?;
        answer.literals.into_iter().next().context("FETCH brought no literal")
    }

    /// Upload a message.
    ///
    /// # Errors
    /// When it is refused.
    pub fn append(&mut self, message: &[u8]) -> Result<()> {
        let tag = self.send_command(&format!("APPEND INBOX {{{}}}", message.len()))?;
        let go = self.line()?;
        ensure!(go.starts_with('+'), "no continuation but {go:?}");
        self.send(message)?;
        self.send(b"\r\n")?;
        self.answer(&tag)?.ok().map(drop)
    }

    /// Upload a message and fetch the newest one, which must be the same.
    ///
    /// # Errors
    /// When either is refused, or an octet differs.
    pub fn there_and_back(&mut self, message: &[u8]) -> Result<()> {
        self.append(message)?;
        // The answer to NOOP tells of the message at the latest, so that `*` means it.
        self.noop()?;
        let answer = self.command("FETCH * BODY.PEEK[]")?.ok()?;
        let back = answer.literals.first().context("FETCH brought no literal")?;
        ensure!(back == message, "sent {} octets, got {} or others back", message.len(), back.len());
        Ok(())
    }

    /// That the session is alive in both directions.
    ///
    /// # Errors
    /// When it is not.
    pub fn noop(&mut self) -> Result<()> {
        self.command("NOOP")?.ok().map(drop)
    }

    /// LOGOUT, and read to the end; says whether it came with `close_notify`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn logout(mut self) -> Result<()> {
        self.command("LOGOUT")?.ok()?;
        let rest = self.to_end()?;
        ensure!(rest.is_empty(), "after LOGOUT: {:?}", String::from_utf8_lossy(&rest));
        Ok(())
    }

    /// Everything until the end of the stream.
    ///
    /// # Errors
    /// When it ends without `close_notify`, or by a reset.
    pub fn to_end(&mut self) -> Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// The TLS connection.
    ///
    /// # Errors
    /// In clear text.
    pub fn tls(&self) -> Result<&ClientConnection> {
        match &self.stream {
            Stream::Tls(stream) => Ok(&stream.conn),
            Stream::Clear(_) => bail!("there is no TLS here"),
        }
    }

    /// The TLS connection, and a handle of the TCP connection below.
    ///
    /// # Errors
    /// In clear text.
    pub fn parts(&mut self) -> Result<(&mut ClientConnection, TcpStream)> {
        match &mut self.stream {
            Stream::Tls(stream) => Ok((&mut stream.conn, stream.sock.try_clone()?)),
            Stream::Clear(_) => bail!("there is no TLS here"),
        }
    }

    /// Take another sending key and say so (RFC 8446 section 4.6.3).
    ///
    /// # Errors
    /// In clear text, and under TLS 1.2.
    pub fn change_key(&mut self) -> Result<()> {
        match &mut self.stream {
            Stream::Tls(stream) => Ok(stream.conn.refresh_traffic_keys()?),
            Stream::Clear(_) => bail!("there is no TLS here"),
        }
    }

    /// The certificate that was shown.
    ///
    /// # Errors
    /// In clear text.
    pub fn shown(&self) -> Result<Shown> {
        let leaf =
            self.tls()?.peer_certificates().and_then(<[_]>::first).context("no certificate was shown")?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf)?;
        Ok(Shown { issuer: parsed.issuer().to_string(), fingerprint: pki::fingerprint(leaf) })
    }

    /// The TCP connection below.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Clear(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    /// End it with a reset, as a crashed client's kernel does.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn reset(self) -> Result<()> {
        reset(match self.stream {
            Stream::Clear(stream) => stream,
            Stream::Tls(stream) => stream.sock,
        })
    }
}

/// Connect from the namespace of the caller; reads and writes are bounded.
///
/// # Errors
/// When nobody answers.
pub fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("cannot connect to {to}"))?;
    patient(stream)
}

/// Reads and writes are bounded from now on.
pub(crate) fn patient(stream: TcpStream) -> Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// End a TCP connection with a reset.
///
/// # Errors
/// When the socket is gone.
pub fn reset(stream: TcpStream) -> Result<()> {
    let socket = socket2::Socket::from(stream);
    Ok(socket.set_linger(Some(std::time::Duration::ZERO))?)
}

/// That a connection is ended with a reset before it was served.
///
/// # Errors
/// When it is not, or ends otherwise.
pub fn is_reset(from: &Namespace, to: SocketAddr) -> Result<()> {
    // The reset may be quicker than the end of connect(2).
    let error = match from.connect(to) {
        Ok(mut stream) => read(&mut stream, &mut [0]).err().map(anyhow::Error::from),
        Err(error) => Some(error),
    };
    let error = error.context("no reset")?;
    let system = error.downcast_ref::<std::io::Error>().or_else(|| error.root_cause().downcast_ref());
    let kind = system.map(std::io::Error::kind);
    ensure!(kind == Some(std::io::ErrorKind::ConnectionReset), "{error:#}");
    Ok(())
}

/// A certificate as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The issuer's distinguished name.
    pub issuer: String,
    /// SHA-256, upper-case hexadecimal.
    pub fingerprint: String,
}

fn handshake(mut tcp: TcpStream, name: &str, config: &Arc<ClientConfig>) -> Result<Stream> {
    let name = ServerName::try_from(name.to_owned())?;
    let mut connection = ClientConnection::new(Arc::clone(config), name)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp).context("TLS handshake")?;
    }
    Ok(Stream::Tls(Box::new(StreamOwned::new(connection, tcp))))
}
