//! A layer's halves on a real socket, with rustls at the far end, for tests of the layers and of the relay.

use std::future::poll_fn;
use std::io::{ErrorKind, Read as _};
use std::task::{Context, Poll};

use rustls::{Connection, SupportedProtocolVersion, version};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::coop::poll_proceed;

pub(crate) use super::handshaken::HandshakeRole;
use super::handshaken::handshaken;
use super::offload::{Abilities, OffloadTerms};
use super::{Incoming, LayerFault, Outgoing, Pool, Receive, Received, split};
use crate::accept::keep_alive;
use crate::config::Offload;

pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// The requested buffer size; the kernel doubles it.
const NARROW_BYTES: u32 = 4 * 1024;

/// The layer under test. `cargo xtask vm` runs the same tests with this set to `kernel`, in kernels that have TLS.
const LAYER: &str = "POSTERN_LAB_LAYER";

pub(crate) fn in_kernel() -> bool {
    std::env::var(LAYER).is_ok_and(|layer| layer == "kernel")
}

pub(crate) fn terms(records_max: Option<u64>) -> OffloadTerms {
    if in_kernel() {
        OffloadTerms {
            mode: Offload::Always,
            abilities: Abilities::probe(),
            records_max,
            ..OffloadTerms::default()
        }
    } else {
        OffloadTerms { mode: Offload::Never, records_max, ..OffloadTerms::default() }
    }
}

/// Whether keys can be changed where these tests run.
pub(crate) fn rekeys() -> bool {
    !in_kernel() || terms(None).abilities.rekey
}

pub(crate) const ROLES: [HandshakeRole; 2] = [HandshakeRole::Client, HandshakeRole::Server];

pub(crate) struct Pair {
    pub(crate) receive: Incoming,
    pub(crate) transmit: Outgoing,
    pub(crate) pool: Pool,
    pub(crate) far: Far,
    /// Plaintext that arrived and was not read yet.
    pub(crate) got: Vec<u8>,
}

/// The far end: rustls on a socket.
pub(crate) struct Far {
    pub(crate) peer: Connection,
    pub(crate) wire: TcpStream,
}

impl Far {
    /// rustls reads `count` octets of plaintext from the wire.
    pub(crate) async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut got = vec![0; count];
        let mut at = 0;
        let mut room = vec![0; 16 * 1024];
        while at < count {
            let read = self.wire.read(&mut room).await.unwrap();
            assert!(read > 0, "the wire ended at {at} of {count}");
            let mut unread = &room[..read];
            while !unread.is_empty() {
                self.peer.read_tls(&mut unread).unwrap();
                let state = self.peer.process_new_packets().unwrap();
                let ready = state.plaintext_bytes_to_read().min(count - at);
                self.peer.reader().read_exact(&mut got[at..at + ready]).unwrap();
                at += ready;
            }
        }
        got
    }

    /// rustls reads what is there of the wire, `octets` at most, and adds the plaintext to `got`.
    pub(crate) fn read_some(&mut self, octets: usize, got: &mut Vec<u8>) {
        let mut room = vec![0; octets];
        let read = match self.wire.try_read(&mut room) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            read => read.unwrap(),
        };
        let mut unread = &room[..read];
        while !unread.is_empty() {
            self.peer.read_tls(&mut unread).unwrap();
            let count = self.peer.process_new_packets().unwrap().plaintext_bytes_to_read();
            let start = got.len();
            got.resize(start + count, 0);
            self.peer.reader().read_exact(&mut got[start..]).unwrap();
        }
    }
}

pub(crate) async fn pair(role: HandshakeRole, version: &'static SupportedProtocolVersion) -> Pair {
    limited(role, version, None).await
}

pub(crate) async fn limited(
    role: HandshakeRole,
    version: &'static SupportedProtocolVersion,
    records_max: Option<u64>,
) -> Pair {
    over(sockets(None).await, &Pool::default(), role, version, records_max)
}

/// A pair with socket buffers smaller than a record, so that batches go out in many parts.
pub(crate) async fn narrow(
    role: HandshakeRole,
    version: &'static SupportedProtocolVersion,
    records_max: Option<u64>,
) -> Pair {
    over(sockets(Some(NARROW_BYTES)).await, &Pool::default(), role, version, records_max)
}

/// Two ends of a connection, with buffers of this size.
pub(crate) async fn sockets(bytes: Option<u32>) -> (TcpStream, TcpStream) {
    let (near, far) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap());
    if let Some(bytes) = bytes {
        near.set_send_buffer_size(bytes).unwrap();
        far.set_recv_buffer_size(bytes).unwrap();
    }
    far.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = far.listen(1).unwrap();
    let (near, far) = tokio::join!(near.connect(listener.local_addr().unwrap()), listener.accept());
    let (near, far) = (near.unwrap(), far.unwrap().0);
    keep_alive(&near);
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// A pair with a pool that others use, too.
pub(crate) async fn sharing(
    pool: &Pool,
    role: HandshakeRole,
    version: &'static SupportedProtocolVersion,
    records_max: Option<u64>,
) -> Pair {
    over(sockets(None).await, pool, role, version, records_max)
}

fn over(
    (ours, wire): (TcpStream, TcpStream),
    pool: &Pool,
    role: HandshakeRole,
    version: &'static SupportedProtocolVersion,
    records_max: Option<u64>,
) -> Pair {
    let (secrets, kernel, peer) = handshaken(role, version);
    let layer = if in_kernel() { "kernel" } else { "user" };
    let terms = terms(records_max);
    let (receive, transmit) = split(ours, secrets, kernel, pool, &terms).unwrap();
    assert_eq!((receive.layer(), transmit.layer()), (layer, layer));
    Pair { receive, transmit, pool: pool.clone(), far: Far { peer, wire }, got: Vec::new() }
}

/// Poll once; `None` where it is pending.
pub(crate) async fn once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    poll_fn(|cx| Poll::Ready(if let Poll::Ready(ready) = poll(cx) { Some(ready) } else { None })).await
}

/// Spend the runtime's budget of this task.
pub(crate) async fn spend_turn() {
    poll_fn(|cx| {
        while let Poll::Ready(turn) = poll_proceed(cx) {
            turn.made_progress();
        }
        Poll::Ready(())
    })
    .await;
}

impl Pair {
    /// The octets that rustls has queued.
    pub(crate) fn said(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        while self.far.peer.wants_write() {
            self.far.peer.write_tls(&mut octets).unwrap();
        }
        octets
    }

    /// Receive until `count` octets, an end, or a fault. What was received before a cancelled call is not lost.
    pub(crate) async fn take(&mut self, count: usize) -> (Vec<u8>, Option<Result<Received, LayerFault>>) {
        while self.got.len() < count {
            match poll_fn(|cx| self.receive.poll_receive(cx)).await {
                Ok(Received::Data) => {
                    let got = &mut self.got;
                    self.receive.batch().plaintext().for_each(|part| got.extend_from_slice(part));
                }
                end => return (std::mem::take(&mut self.got), Some(end)),
            }
        }
        (std::mem::take(&mut self.got), None)
    }

    /// What the layer does with the next record that carries no data.
    pub(crate) async fn end(&mut self) -> Result<Received, LayerFault> {
        self.take(usize::MAX).await.1.unwrap()
    }

    pub(crate) async fn peer_reads(&mut self, count: usize) -> Vec<u8> {
        self.far.read(count).await
    }
}
