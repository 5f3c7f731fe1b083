//! The ClientHello, read without answering it.

use rustls::server::Acceptor;
use rustls::{CipherSuite, SignatureScheme};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::drive::read_record;
use super::mint::KeyKind;
use crate::failure::Cause;
use crate::layer::Alert;

/// Octets of a ClientHello with its record headers. Browsers with post-quantum keys send 2 KiB.
const CLIENT_HELLO_BYTES_MAX: usize = 64 * 1024;
const ALPN_IMAP: &[u8] = b"imap";

/// What the client offers, and the octets that say it, to be replayed.
pub(super) struct Hello {
    pub(super) octets: Vec<u8>,
    pub(super) sni: Option<String>,
    pub(super) offers_alpn: bool,
    pub(super) key: KeyKind,
}

/// Read it; refuse what is not for a mail server before any server hears of it.
pub(super) async fn read(socket: &mut TcpStream) -> Result<Hello, Cause> {
    let mut octets = Vec::new();
    let mut acceptor = Acceptor::default();
    loop {
        let before = octets.len();
        read_record(socket, &mut octets).await?;
        if octets.len() > CLIENT_HELLO_BYTES_MAX {
            return Err(Cause::HandshakeTooLong);
        }
        let mut unread = octets.get(before..).unwrap_or_default();
        while !unread.is_empty() {
            acceptor.read_tls(&mut unread).map_err(Cause::Socket)?;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let alpn = hello.alpn().map(|mut offered| offered.any(|protocol| protocol == ALPN_IMAP));
                if alpn == Some(false) {
                    let _ = socket.write_all(&Alert::NO_APPLICATION_PROTOCOL.clear_record()).await;
                    return Err(Cause::Alpn);
                }
                let schemes: &[SignatureScheme] = hello.signature_schemes();
                let suites: &[CipherSuite] = hello.cipher_suites();
                return Ok(Hello {
                    sni: hello.server_name().map(str::to_ascii_lowercase),
                    offers_alpn: alpn.is_some(),
                    key: KeyKind::for_client(schemes, suites),
                    octets,
                });
            }
            Err((error, mut alert)) => {
                let mut told = Vec::new();
                if alert.write_all(&mut told).is_ok() {
                    let _ = socket.write_all(&told).await;
                }
                return Err(Cause::Tls(error));
            }
        }
    }
}
