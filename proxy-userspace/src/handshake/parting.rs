//! Alerts and `* BYE` to a peer, followed by an end that does not destroy them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::failure::Failure;

/// A peer has this long to leave after its last words from us. A reset before would destroy them.
pub(super) const FAREWELL: Duration = Duration::from_secs(3);
/// Octets of a peer that are read and dropped meanwhile. This is more than socket buffers mostly hold, and too little
/// to keep a mail thread busy.
const UNREAD_BYTES_MAX: u64 = 1024 * 1024;
/// Octets read at a time.
const READ_BYTES: usize = 1024;

/// Why a handshake ended, and what its peer is told about it: an alert, `* BYE`, or nothing.
#[derive(Debug)]
pub(super) struct Parting {
    /// What ended it.
    pub(super) failure: Failure,
    /// Octets for the peer, ready to be sent.
    pub(super) words: Vec<u8>,
}

impl From<Failure> for Parting {
    fn from(failure: Failure) -> Self {
        Self { failure, words: Vec::new() }
    }
}

impl Parting {
    /// Send the words, and return what ended the handshake.
    pub(super) async fn say(self, socket: &mut TcpStream) -> Failure {
        if !self.words.is_empty() {
            part(socket, &self.words).await;
        }
        self.failure
    }
}

/// Send `words` and our FIN, then read until the peer has left, [`UNREAD_BYTES_MAX`] or [`FAREWELL`] is over. A socket
/// that is closed while octets are unread sends a reset (RFC 1122 section 4.2.2.13), and a reset overtakes words.
pub(crate) async fn part(socket: &mut TcpStream, words: &[u8]) {
    let said = async {
        socket.write_all(words).await?;
        socket.shutdown().await?;
        let mut unread = socket.take(UNREAD_BYTES_MAX);
        let mut room = [0; READ_BYTES];
        while unread.read(&mut room).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // Nothing depends on whether the peer received it.
    let _ = timeout(FAREWELL, said).await;
}
