//! One connection.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::command::{self, Command};
use super::{PASSWORD, Shared, USER, fetch};
use crate::lab::is_implicit_tls;

/// How much is read or written at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// What a session goes on to after a command.
enum Next {
    /// The next command.
    Command,
    /// The TLS handshake.
    StartTls,
    /// The end.
    End,
}

/// Serve one connection to its end.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>) -> Result<()> {
    stream.set_nodelay(true)?;
    let port = stream.local_addr()?.port();
    shared.note(format!("{peer} connected to port {port}"));
    if is_implicit_tls(port) {
        return secure(stream, peer, shared, true).await;
    }
    let mut session = Session::new(stream, peer, shared, false);
    let words = session.clear_words();
    session.say(&format!("* OK [CAPABILITY IMAP4rev1 {words}] Postern lab ready")).await?;
    match session.commands().await? {
        Next::StartTls => {
            ensure!(session.stream.buffer().is_empty(), "commands in clear text behind STARTTLS");
            secure(session.stream.into_inner().into_inner(), peer, shared, false).await
        }
        Next::Command | Next::End => Ok(()),
    }
}

async fn secure(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>, greet: bool) -> Result<()> {
    let stream = shared.acceptor.accept(stream).await?;
    shared.note(format!("{peer} {}", describe(&stream)));
    let mut session = Session::new(stream, peer, shared, true);
    if greet {
        session.say("* OK [CAPABILITY IMAP4rev1 IDLE] Postern lab ready").await?;
    }
    session.commands().await?;
    session.stream.shutdown().await?;
    Ok(())
}

fn describe(stream: &TlsStream<TcpStream>) -> String {
    let (_, tls) = stream.get_ref();
    let version = tls.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
    let name = tls.server_name().unwrap_or("none");
    format!(
        "TLS {version}, SNI {name}, {}",
        if tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
            "resumed"
        } else {
            "full handshake"
        }
    )
}

struct Session<'s, S> {
    stream: BufReader<BufWriter<S>>,
    peer: SocketAddr,
    shared: &'s Shared,
    secure: bool,
    entered: bool,
    selected: Option<usize>,
}

impl<'s, S: AsyncRead + AsyncWrite + Unpin> Session<'s, S> {
    fn new(stream: S, peer: SocketAddr, shared: &'s Shared, secure: bool) -> Self {
        let writer = BufWriter::with_capacity(BUFFER_BYTES, stream);
        let stream = BufReader::with_capacity(BUFFER_BYTES, writer);
        Self { stream, peer, shared, secure, entered: false, selected: None }
    }

    async fn say(&mut self, line: &str) -> Result<()> {
        self.stream.write_all(line.as_bytes()).await?;
        self.stream.write_all(b"\r\n").await?;
        Ok(self.stream.flush().await?)
    }

    const fn clear_words(&self) -> &'static str {
        if self.shared.in_clear { "STARTTLS AUTH=PLAIN IDLE" } else { "STARTTLS LOGINDISABLED" }
    }

    async fn commands(&mut self) -> Result<Next> {
        while let Some(command) = command::read(&mut self.stream).await? {
            let clear = if self.secure { "" } else { " (clear text)" };
            self.shared.note(format!("{}{clear} > {}", self.peer, command.shown()));
            match self.execute(&command).await? {
                Next::Command => {}
                next => return Ok(next),
            }
        }
        Ok(Next::End)
    }

    async fn execute(&mut self, command: &Command) -> Result<Next> {
        let tag = &command.tag;
        let done = match command.verb.as_str() {
            "CAPABILITY" => {
                let words = if self.secure { "IDLE" } else { self.clear_words() };
                self.say(&format!("* CAPABILITY IMAP4rev1 {words}")).await?;
                "OK done"
            }
            "NOOP" | "CHECK" => {
                self.news().await?;
                "OK done"
            }
            "LOGOUT" => {
                self.say("* BYE until next time").await?;
                self.say(&format!("{tag} OK done")).await?;
                return Ok(Next::End);
            }
            "STARTTLS" if self.secure => "BAD TLS is already here",
            "STARTTLS" => {
                self.say(&format!("{tag} OK begin TLS")).await?;
                return Ok(Next::StartTls);
            }
            "LOGIN" if !self.secure && !self.shared.in_clear => "NO [PRIVACYREQUIRED] not in clear text",
            "LOGIN" => self.login(command),
            _ if !self.entered => "NO log in first",
            _ => return self.mail(command).await.map(|()| Next::Command),
        };
        self.say(&format!("{tag} {done}")).await?;
        Ok(Next::Command)
    }

    fn login(&mut self, command: &Command) -> &'static str {
        self.entered = command.text(0) == USER && command.text(1) == PASSWORD;
        if self.entered { "OK welcome" } else { "NO [AUTHENTICATIONFAILED] wrong name or password" }
    }

    async fn mail(&mut self, command: &Command) -> Result<()> {
        let tag = &command.tag;
        let count = self.shared.mailbox.len();
        let done = match command.verb.as_str() {
            "SELECT" | "EXAMINE" if command.text(0).eq_ignore_ascii_case("INBOX") => {
                self.selected = Some(count);
                let next = count + 1;
                self.say(&format!(
                    "* {count} EXISTS\r\n* 0 RECENT\r\n* FLAGS (\\Seen \\Deleted)\r\n\
                     * OK [UIDVALIDITY 1] valid\r\n* OK [UIDNEXT {next}] next"
                ))
                .await?;
                "OK [READ-WRITE] done".to_owned()
            }
            "LIST" | "LSUB" => {
                let pattern = command.text(1);
                let inbox = pattern.is_empty() || pattern.contains(['*', '%']);
                let name = if pattern.is_empty() { "\"\"" } else { "INBOX" };
                if inbox || pattern.eq_ignore_ascii_case("INBOX") {
                    self.say(&format!("* {} () \"/\" {name}", command.verb)).await?;
                }
                "OK done".to_owned()
            }
            "STATUS" => {
                let next = count + 1;
                self.say(&format!("* STATUS INBOX (MESSAGES {count} UIDNEXT {next} UIDVALIDITY 1 UNSEEN 0)"))
                    .await?;
                "OK done".to_owned()
            }
            "APPEND" => {
                let message = command.words.last().cloned().unwrap_or_default();
                let uid = self.shared.mailbox.add(message);
                self.news().await?;
                format!("OK [APPENDUID 1 {uid}] done")
            }
            "IDLE" => self.idle().await?,
            "FETCH" | "UID FETCH" if self.selected.is_some() => self.fetch(command).await?,
            "STORE" | "UID STORE" | "CLOSE" | "EXPUNGE" | "NAMESPACE" => "OK done".to_owned(),
            _ => "BAD no such command here".to_owned(),
        };
        self.say(&format!("{tag} {done}")).await
    }

    /// Tell about messages that came since the client last heard.
    async fn news(&mut self) -> Result<()> {
        let count = self.shared.mailbox.len();
        if self.selected.is_some_and(|known| known != count) {
            self.selected = Some(count);
            self.say(&format!("* {count} EXISTS")).await?;
        }
        Ok(())
    }

    async fn fetch(&mut self, command: &Command) -> Result<String> {
        let uid = command.verb.starts_with("UID");
        let asked = fetch::items(&command.text(1))
            .and_then(|items| Ok((fetch::sequence(&command.text(0), self.shared.mailbox.len())?, items)));
        let (numbers, items) = match asked {
            Ok(asked) => asked,
            Err(error) => return Ok(format!("BAD {error}")),
        };
        for number in numbers {
            let Some(message) = self.shared.mailbox.message(number) else { continue };
            match fetch::response(number, &message, &items, uid) {
                Ok(response) => self.stream.write_all(&response).await?,
                Err(error) => return Ok(format!("BAD {error}")),
            }
        }
        self.stream.flush().await?;
        Ok("OK done".to_owned())
    }

    /// RFC 2177: until the client says DONE.
    async fn idle(&mut self) -> Result<String> {
        let mut count = self.shared.mailbox.watch();
        self.say("+ idling").await?;
        self.news().await?;
        loop {
            tokio::select! {
                line = command::line(&mut self.stream) => {
                    return Ok(match line? {
                        Some(line) if line.eq_ignore_ascii_case(b"DONE") => "OK done".to_owned(),
                        _ => "BAD DONE was expected".to_owned(),
                    });
                }
                changed = count.changed() => {
                    changed?;
                    self.news().await?;
                }
            }
        }
    }
}
