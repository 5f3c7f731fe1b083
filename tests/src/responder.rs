//! An authority or a webhook that answers by HTTP, and a name server that knows where it is. Both do what a test says.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::netns::Namespace;
use crate::scripted;
use crate::wait::PATIENCE;

/// Between two looks at whether a test is over.
const LOOK: Duration = Duration::from_millis(5);
/// Before the answer records of a message (RFC 1035 section 4.1.1).
const HEAD_BYTES: usize = 12;

/// What a responder sends.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These octets, head and all; then the connection ends.
    Octets(Vec<u8>),
    /// Nothing, until the asker leaves.
    Silence,
}

impl Reply {
    /// An OCSP response.
    #[must_use]
    pub fn response(body: &[u8]) -> Self {
        Self::with(&format!("200 OK\r\nContent-Length: {}", body.len()), body)
    }

    /// An answer of the response's type with this status, these further fields and this body.
    #[must_use]
    pub fn with(status: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/ocsp-response\r\n\r\n");
        Self::Octets([head.as_bytes(), body].concat())
    }
}

/// What the threads of a responder share.
#[derive(Debug)]
struct Shared {
    reply: Mutex<Reply>,
    /// For HTTPS.
    tls: Option<Arc<ServerConfig>>,
    /// What was posted.
    asked: Mutex<Vec<Vec<u8>>>,
    over: AtomicBool,
}

/// A responder, until it is dropped.
#[derive(Debug)]
pub struct Responder(Arc<Shared>);

impl Responder {
    /// Start it at these addresses.
    ///
    /// # Errors
    /// When one is taken.
    pub fn start(namespace: &Namespace, at: &[SocketAddr]) -> Result<Self> {
        Self::start_with(namespace, at, None)
    }

    /// The same over TLS.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn secure(namespace: &Namespace, at: SocketAddr, tls: ServerConfig) -> Result<Self> {
        Self::start_with(namespace, &[at], Some(Arc::new(tls)))
    }

    fn start_with(namespace: &Namespace, at: &[SocketAddr], tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        let shared = Arc::new(Shared {
            reply: Mutex::new(Reply::Silence),
            tls,
            asked: Mutex::default(),
            over: AtomicBool::new(false),
        });
        for address in at {
            let listener = namespace.listen(*address)?;
            listener.set_nonblocking(true)?;
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared));
        }
        Ok(Self(shared))
    }

    /// From now on it says this.
    pub fn says(&self, reply: Reply) {
        *self.0.reply.lock().unwrap_or_else(PoisonError::into_inner) = reply;
    }

    /// What was posted so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Vec<u8>> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                thread::spawn(move || drop(serve(stream, &shared)));
            }
            Err(_) => thread::sleep(LOOK),
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    match &shared.tls {
        Some(tls) => answer(StreamOwned::new(ServerConnection::new(Arc::clone(tls))?, stream), shared),
        None => answer(stream, shared),
    }
}

fn answer(mut stream: impl Read + Write, shared: &Shared) -> Result<()> {
    let mut length = 0;
    loop {
        let line = scripted::line(&mut stream)?;
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    let reply = shared.reply.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match reply {
        Reply::Octets(octets) => Ok(stream.write_all(&octets)?),
        Reply::Silence => Ok(stream.read(&mut [0]).map(|_| ())?),
    }
}

/// A name server, until it is dropped. What it does not know does not exist.
#[derive(Debug)]
pub struct NameServer(Arc<AtomicBool>);

impl NameServer {
    /// Start it at port 53 of this address.
    ///
    /// # Errors
    /// When that is taken.
    pub fn start(namespace: &Namespace, at: IpAddr, names: &[(&str, IpAddr)]) -> Result<Self> {
        let socket = namespace.enter(|| Ok(UdpSocket::bind(SocketAddr::new(at, 53))?))?;
        socket.set_read_timeout(Some(LOOK))?;
        let names: BTreeMap<_, _> =
            names.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        thread::spawn(move || {
            let mut room = [0; 512];
            while !until.load(Ordering::Relaxed) {
                match socket.recv_from(&mut room) {
                    Ok((count, from)) => {
                        if let Some(said) = resolved(room.get(..count).unwrap_or_default(), &names) {
                            let _ = socket.send_to(&said, from);
                        }
                    }
                    Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
                    Err(_) => return,
                }
            }
        });
        Ok(Self(over))
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The answer to a question of one name; `None` where it is none.
fn resolved(query: &[u8], names: &BTreeMap<String, IpAddr>) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = HEAD_BYTES;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).into_owned());
        at += length;
    }
    let (question, kind) = (query.get(HEAD_BYTES..at + 4)?, query.get(at..at + 2)?);
    let address = names.get(&labels.join("."));
    let data = match (address, kind) {
        (Some(IpAddr::V4(address)), [0, 1]) => address.octets().to_vec(),
        (Some(IpAddr::V6(address)), [0, 28]) => address.octets().to_vec(),
        _ => Vec::new(),
    };
    let (answers, code) = (u8::from(!data.is_empty()), if address.is_some() { 0 } else { 3 });
    let head = [query.get(..2)?, &[0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]].concat();
    let record = [&[0xc0, HEAD_BYTES as u8], kind, &[0, 1, 0, 0, 0, 60, 0, data.len() as u8], &data].concat();
    Some([head, question.to_vec(), if answers == 1 { record } else { Vec::new() }].concat())
}
