//! Peers that break TLS inside a handshake, against the driver, over a real socket, with rustls at the far end: it
//! holds the keys that the alerts are sealed with.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, Error, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion, version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::alerts::provider;
use super::compliance::Conduct;
use super::drive::{Broken, Unbuffered, drive};
use super::parting::Parting;
use crate::config::Compliance;
use crate::failure::{Cause, Failure};

/// Octets behind the broken ones, which nobody reads before the alert is sent.
const UNREAD_BYTES: usize = 100_000;
/// What takes longer never ends.
const PATIENCE: Duration = Duration::from_secs(20);
/// Octets of a record of the far end, so that its messages are cut: rustls takes no less.
const FRAGMENT_BYTES: usize = 32;

/// Which part is ours.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ours {
    Client,
    Server,
}

fn far_end(
    ours: Ours,
    version: &'static SupportedProtocolVersion,
) -> (Connection, Arc<ClientConfig>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["peer.test".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let of = |client: bool| {
        if client == (ours == Ours::Client) { provider() } else { Arc::new(aws_lc_rs::default_provider()) }
    };
    let mut client = ClientConfig::builder_with_provider(of(true))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = ServerConfig::builder_with_provider(of(false))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    match ours {
        Ours::Client => server.max_fragment_size = Some(FRAGMENT_BYTES),
        Ours::Server => client.max_fragment_size = Some(FRAGMENT_BYTES),
    }
    let (client, server) = (Arc::new(client), Arc::new(server));
    let far = match ours {
        Ours::Client => ServerConnection::new(Arc::clone(&server)).unwrap().into(),
        Ours::Server => ClientConnection::new(Arc::clone(&client), peer()).unwrap().into(),
    };
    (far, client, server)
}

fn peer() -> ServerName<'static> {
    ServerName::try_from("peer.test").unwrap()
}

/// Our end: the reason in the record, if the handshake failed.
async fn driven<C: Unbuffered + Send + 'static>(connection: C, mut socket: TcpStream) -> Option<String> {
    let mut conduct = Conduct::under(Compliance::Tolerant);
    let driven = drive(connection, &mut socket, Vec::new(), None, &mut conduct);
    let Broken { cause, words, .. } = driven.await.err()?;
    let parting = Parting { failure: Failure::downstream(cause), words };
    let failure = parting.say(&mut socket).await;
    Some(format!("{} ({failure})", failure.reason()))
}

/// Every octet that the far end has to say now.
fn flight(far: &mut Connection) -> Vec<u8> {
    let mut octets = Vec::new();
    while far.wants_write() {
        far.write_tls(&mut octets).unwrap();
    }
    octets
}

/// Show rustls what came; the alert, if one did.
fn hear(far: &mut Connection, mut octets: &[u8]) -> Option<AlertDescription> {
    while !octets.is_empty() {
        far.read_tls(&mut octets).unwrap();
        match far.process_new_packets() {
            Ok(_) => {}
            Err(Error::AlertReceived(alert)) => return Some(alert),
            Err(error) => panic!("{error}"),
        }
    }
    None
}

/// The far end sends `attack` of its flight instead of the flight with this number: the reason in our record, and the
/// alert that the far end reads under its keys.
async fn broken(
    ours: Ours,
    version: &'static SupportedProtocolVersion,
    number: usize,
    attack: &dyn Fn(&[u8]) -> Vec<u8>,
) -> (Option<String>, Option<AlertDescription>) {
    let (mut far, client, server) = far_end(ours, version);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (near, mut wire) = (near.unwrap(), theirs.unwrap().0);
    let driving = async {
        match ours {
            Ours::Client => driven(UnbufferedClientConnection::new(client, peer()).unwrap(), near).await,
            Ours::Server => driven(UnbufferedServerConnection::new(server).unwrap(), near).await,
        }
    };
    let attacking = async {
        for at in 0.. {
            let mut room = [0; 4096];
            while !far.wants_write() {
                let count = wire.read(&mut room).await.unwrap();
                assert!(count > 0, "our end ended before flight {at}");
                assert_eq!(hear(&mut far, &room[..count]), None);
            }
            let octets = flight(&mut far);
            if at == number {
                let mut octets = attack(&octets);
                octets.resize(octets.len() + UNREAD_BYTES, 0);
                wire.write_all(&octets).await.unwrap();
                break;
            }
            wire.write_all(&octets).await.unwrap();
        }
        let mut heard = Vec::new();
        wire.read_to_end(&mut heard).await.unwrap();
        // A reset, which would destroy the alert where it comes first, makes these writes fail.
        for _ in 0..2 {
            wire.write_all(b"more").await.unwrap();
        }
        drop(wire);
        hear(&mut far, &heard)
    };
    let both = async { tokio::join!(driving, attacking) };
    timeout(PATIENCE, both).await.expect("our end waits for more")
}

/// The first records of a flight.
fn records(flight: &[u8], count: usize) -> Vec<u8> {
    let mut rest = flight;
    for _ in 0..count {
        let length = usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        rest = &rest[5 + length..];
    }
    flight[..flight.len() - rest.len()].to_vec()
}

const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];
/// A message of the type that is due at each place, cut: ServerHello, ClientKeyExchange.
const HALF_SERVER_HELLO: [u8; 13] = [22, 3, 3, 0, 8, 2, 0, 0, 80, 3, 3, 1, 1];
const HALF_KEY_EXCHANGE: [u8; 13] = [22, 3, 3, 0, 8, 16, 0, 0, 33, 32, 1, 1, 1];

/// What no record's header can say, whatever was said before, and what it has to be answered with.
fn headers(sealed: bool) -> [(&'static str, Vec<u8>, &'static str, AlertDescription); 4] {
    let too_long = if sealed { [23, 3, 3, 0x41, 0x01] } else { [22, 3, 3, 0x40, 0x01] };
    [
        (
            "an unknown content type",
            b"GET / HTTP/1.1\r\n".to_vec(),
            "not_tls",
            AlertDescription::UnexpectedMessage,
        ),
        (
            "another protocol's version",
            vec![22, 9, 9, 0, 4, 1, 0, 0, 0],
            "not_tls",
            AlertDescription::UnexpectedMessage,
        ),
        ("a record too long", too_long.to_vec(), "record_overflow", AlertDescription::RecordOverflow),
        (
            "an empty handshake record",
            vec![22, 3, 3, 0, 0],
            "unexpected_record",
            AlertDescription::UnexpectedMessage,
        ),
    ]
}

async fn expect(
    (ours, version, number): (Ours, &'static SupportedProtocolVersion, usize),
    what: &str,
    attack: &dyn Fn(&[u8]) -> Vec<u8>,
    (reason, alert): (&str, AlertDescription),
) {
    let (seen, told) = broken(ours, version, number, attack).await;
    let seen = seen.unwrap_or_default();
    assert!(seen.starts_with(reason), "{ours:?} {version:?} flight {number}, {what}: {seen}");
    assert_eq!(told, Some(alert), "{ours:?} {version:?} flight {number}, {what}: {seen}");
}

#[tokio::test]
async fn a_header_that_no_record_has_is_answered_with_the_alert_that_says_so_at_every_point_of_a_handshake() {
    for (ours, version, number, sent_before, sealed) in [
        // In clear text: the peer's first records, and all of a client's under TLS 1.2.
        (Ours::Server, &version::TLS12, 0, 0, false),
        (Ours::Server, &version::TLS13, 0, 0, false),
        (Ours::Server, &version::TLS12, 1, 1, false),
        (Ours::Client, &version::TLS12, 0, 0, false),
        (Ours::Client, &version::TLS13, 0, 0, false),
        (Ours::Client, &version::TLS12, 0, 1, false),
        // Sealed: once with nothing before it, once with half a message.
        (Ours::Server, &version::TLS13, 1, 1, true),
        (Ours::Server, &version::TLS13, 1, 2, true),
        (Ours::Client, &version::TLS13, 0, 6, true),
        (Ours::Client, &version::TLS12, 1, 0, false),
    ] {
        for (what, octets, reason, alert) in headers(sealed) {
            let attack = |flight: &[u8]| [records(flight, sent_before), octets.clone()].concat();
            let what = format!("{what} behind {sent_before} records");
            expect((ours, version, number), &what, &attack, (reason, alert)).await;
        }
    }
}

#[tokio::test]
async fn another_record_inside_a_message_ends_the_handshake_with_the_true_reason_and_no_panic() {
    let unexpected = ("tls_handshake_failed", AlertDescription::UnexpectedMessage);
    let change = |half: &'static [u8]| move |_: &[u8]| [half, &CHANGE_CIPHER_SPEC].concat();
    let key_exchange = change(&HALF_KEY_EXCHANGE);
    expect((Ours::Server, &version::TLS12, 1), "half a ClientKeyExchange", &key_exchange, unexpected).await;
    for version in [&version::TLS12, &version::TLS13] {
        let hello = change(&HALF_SERVER_HELLO);
        expect((Ours::Client, version, 0), "half a ServerHello", &hello, unexpected).await;
    }
    // A ChangeCipherSpec inside a sealed message is opened like a record of it, and is none.
    let mac = ("tls_handshake_failed", AlertDescription::BadRecordMac);
    let finished = |flight: &[u8]| [records(flight, 2), CHANGE_CIPHER_SPEC.to_vec()].concat();
    expect((Ours::Server, &version::TLS13, 1), "half a Finished", &finished, mac).await;
}

#[tokio::test]
async fn a_message_over_64_kib_ends_the_handshake_with_the_true_reason_and_no_panic() {
    let too_long = ("handshake_too_long", AlertDescription::DecodeError);
    let announce = |kind: u8| move |_: &[u8]| vec![22, 3, 3, 0, 6, kind, 2, 0, 0, 1, 1];
    expect((Ours::Server, &version::TLS12, 1), "a Finished of 128 KiB", &announce(20), too_long).await;
    expect((Ours::Client, &version::TLS13, 0), "a ServerHello of 128 KiB", &announce(2), too_long).await;
}

#[test]
fn a_peers_own_alert_is_not_answered() {
    let cause = Cause::Tls(Error::AlertReceived(AlertDescription::UnknownCA));
    assert!(super::alerts::alert_for(&cause).is_none());
}
