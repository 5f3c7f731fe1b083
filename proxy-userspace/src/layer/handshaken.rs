//! A finished handshake in memory with rustls as the peer, for tests and fuzz targets.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "not part of the daemon")]

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{
    ClientConfig, ClientConnection, Connection, ConnectionTrafficSecrets, ExtractedSecrets, RootCertStore,
    ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::KernelSide;

/// The role of the layer's end; rustls has the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum HandshakeRole {
    Client,
    Server,
}

fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let made = rcgen::generate_simple_self_signed(["peer.test".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.enable_secret_extraction = true;
    server.ticketer = Ticketer::new().unwrap();
    (Arc::new(client), Arc::new(server))
}

/// Shuttle a handshake in memory; `step` is the unbuffered side.
macro_rules! shake {
    ($ours:ident, $peer:ident) => {{
        let mut incoming = Vec::new();
        loop {
            let UnbufferedStatus { discard, state } = $ours.process_tls_records(&mut incoming);
            let mut done = false;
            match state.unwrap() {
                ConnectionState::EncodeTlsData(mut data) => {
                    let mut room = vec![0; 32 * 1024];
                    let count = data.encode(&mut room).unwrap();
                    let mut unread = &room[..count];
                    while !unread.is_empty() {
                        $peer.read_tls(&mut unread).unwrap();
                        $peer.process_new_packets().unwrap();
                    }
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::BlockedHandshake => done = false,
                ConnectionState::WriteTraffic(_) => done = true,
                state => panic!("{state:?}"),
            }
            incoming.drain(..discard);
            if done {
                break;
            }
            // One record at a time: what is read too far cannot be handed over.
            if incoming.is_empty() && $peer.is_handshaking() | $ours.is_handshaking() && $peer.wants_write() {
                $peer.write_tls(&mut incoming).unwrap();
            }
        }
        $ours.dangerous_into_kernel_connection().unwrap()
    }};
}

/// Both ends of one handshake: secrets for a record layer, and the peer's rustls connection.
pub(super) fn handshaken(
    role: HandshakeRole,
    version: &'static SupportedProtocolVersion,
) -> (ExtractedSecrets, KernelSide, Connection) {
    let (client, server) = configs(version);
    let name = ServerName::try_from("peer.test").unwrap();
    match role {
        HandshakeRole::Client => {
            let mut ours = UnbufferedClientConnection::new(client, name).unwrap();
            let mut peer = ServerConnection::new(server).unwrap();
            let (secrets, kernel) = shake!(ours, peer);
            (secrets, KernelSide::Client(kernel), peer.into())
        }
        HandshakeRole::Server => {
            let mut ours = UnbufferedServerConnection::new(server).unwrap();
            let mut peer = ClientConnection::new(client, name).unwrap();
            let (secrets, kernel) = shake!(ours, peer);
            (secrets, KernelSide::Server(kernel), peer.into())
        }
    }
}

/// Made-up secrets, of one kind of cipher or the other.
pub(super) fn secrets(gcm: bool) -> ConnectionTrafficSecrets {
    let (key, iv) = ([7; 32].into(), [9; 12].into());
    if gcm {
        ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    } else {
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }
    }
}
