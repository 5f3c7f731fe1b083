//! The far ends: rustls, each session in a thread of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use postern_tests::lab::Lab;
use postern_tests::{client, pki};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use crate::NAME;

/// Octets of a line, in the size of what a mail client says when nothing happens.
const LINE_BYTES: usize = 60;
/// What the server writes and the client reads at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Trusts this authority and resumes nothing.
pub(crate) fn trusting(pem: &str) -> Result<ClientConfig> {
    let mut config = client::config(pki::trust(pem)?, &[&rustls::version::TLS13]);
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Serve until this process ends.
pub(crate) fn serve(listener: TcpListener, config: Arc<ServerConfig>) {
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                // A gateway that has failed says so itself.
                let _ = answer(stream, config);
            });
        }
    });
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut peer = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, stream));
    let chunk = vec![b'x'; CHUNK_BYTES];
    let mut line = String::new();
    loop {
        line.clear();
        if peer.read_line(&mut line)? == 0 {
            let stream = peer.get_mut();
            stream.conn.send_close_notify();
            return Ok(stream.flush()?);
        }
        let stream = peer.get_mut();
        let mut left: usize = line.trim_end().strip_prefix("FETCH ").map_or(Ok(0), str::parse)?;
        if left == 0 {
            stream.write_all(line.as_bytes())?;
        }
        while left > 0 {
            let count = left.min(chunk.len());
            stream.write_all(chunk.get(..count).unwrap_or_default())?;
            left -= count;
        }
    }
}

/// A client's session.
pub(crate) struct Session {
    stream: StreamOwned<ClientConnection, TcpStream>,
    room: Vec<u8>,
}

impl Session {
    pub(crate) fn open(lab: &Lab, to: SocketAddr, config: &Arc<ClientConfig>) -> Result<Self> {
        let mut stream = lab.client.connect(to)?;
        stream.set_nodelay(true)?;
        let mut conn = ClientConnection::new(Arc::clone(config), ServerName::try_from(NAME)?.to_owned())?;
        while conn.is_handshaking() || conn.wants_write() {
            conn.complete_io(&mut stream)?;
        }
        let suite = conn.negotiated_cipher_suite().context("no suite")?.suite();
        ensure!(suite == rustls::CipherSuite::TLS13_AES_256_GCM_SHA384, "negotiated {suite:?}");
        Ok(Self { stream: StreamOwned::new(conn, stream), room: vec![0; CHUNK_BYTES] })
    }

    /// Ask for so many octets and read them.
    pub(crate) fn fetch(&mut self, octets: usize) -> Result<()> {
        self.say(&format!("FETCH {octets:0width$}", width = LINE_BYTES - "FETCH \r\n".len()))?;
        self.read(octets)
    }

    /// A line there, the same line back.
    pub(crate) fn exchange(&mut self) -> Result<()> {
        self.say(&format!("{:<width$}", "a1 NOOP", width = LINE_BYTES - 2))?;
        self.read(LINE_BYTES)
    }

    /// Goodbye on both ends.
    pub(crate) fn close(mut self) -> Result<()> {
        self.stream.conn.send_close_notify();
        self.stream.flush()?;
        ensure!(self.stream.read(&mut self.room)? == 0, "data after the goodbye");
        Ok(())
    }

    fn say(&mut self, line: &str) -> Result<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes())?;
        Ok(self.stream.flush()?)
    }

    fn read(&mut self, mut octets: usize) -> Result<()> {
        while octets > 0 {
            let most = octets.min(self.room.len());
            let count = self.stream.read(self.room.get_mut(..most).unwrap_or_default())?;
            ensure!(count > 0, "{octets} octets are missing");
            octets -= count;
        }
        Ok(())
    }
}
