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
                    key: KeyKind::for_client(schemes, suites, hello.named_groups()),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::net::TcpListener;

    use super::*;

    /// A ClientHello in records of at most `fragment` octets.
    fn hello(fragment: Option<usize>, alpn: &[&[u8]]) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.max_fragment_size = fragment;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("Mail.Example.Org").unwrap();
        let mut octets = Vec::new();
        ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut octets).unwrap();
        octets
    }

    /// What [`read`] makes of these writes, with the end of the stream behind them, and what it answered.
    async fn reading(writes: &[&[u8]]) -> (Result<Hello, Cause>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = async {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.set_nodelay(true).unwrap();
            for octets in writes {
                client.write_all(octets).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
            let mut told = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut client, &mut told).await;
            told
        };
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            read(&mut socket).await
        };
        let (read, told) = tokio::join!(server, client);
        (read, told)
    }

    #[tokio::test]
    async fn a_hello_is_read_wherever_it_is_split_and_replayed_octet_for_octet() {
        for fragment in [None, Some(64)] {
            let octets = hello(fragment, &[b"imap"]);
            for at in 0..=octets.len() {
                let (first, second) = octets.split_at(at);
                let read = reading(&[first, second]).await.0.unwrap();
                assert_eq!(read.sni.as_deref(), Some("mail.example.org"));
                assert!(read.offers_alpn && read.octets == octets, "split at {at}");
            }
        }
    }

    #[tokio::test]
    async fn a_hello_that_is_cut_is_an_error_at_every_octet_and_is_not_answered() {
        let octets = hello(Some(64), &[]);
        for end in 0..octets.len() {
            let (read, told) = reading(&[octets.get(..end).unwrap()]).await;
            assert!(matches!(read, Err(Cause::Socket(_))), "cut at {end}");
            assert_eq!(told, b"", "cut at {end}");
        }
    }

    #[tokio::test]
    async fn other_protocols_are_refused_with_the_alert_that_says_so() {
        let (read, told) = reading(&[&hello(None, &[b"h2", b"http/1.1"])]).await;
        assert!(matches!(read, Err(Cause::Alpn)));
        assert_eq!(told, [21, 3, 3, 0, 2, 2, 120]);
    }
}
