use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Tls;
use postern_tests::kernel_tls::{Statistics, expected, told};
use postern_tests::lab::Family;
use postern_tests::scripted::{accept_tls, half_close, line, read, to_end};
use postern_tests::wait::PATIENCE;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use super::{incoming, outgoing, ran, session, under_each};

const GREETING: &[u8] = b"* OK ready\r\n";
const COMMAND: &[u8] = b"a LOGOUT\r\n";
const ANSWER: &[u8] = b"a OK done\r\n";

/// Long enough that the other end sees two arrivals.
const PAUSE: Duration = Duration::from_millis(300);

/// How much of the first record of application data comes in one segment with the end of the handshake.
#[derive(Clone, Copy, Debug)]
enum Split {
    All,
    Nothing,
    OneOctet,
    Half,
}

const SPLITS: [Split; 4] = [Split::All, Split::Nothing, Split::OneOctet, Split::Half];

impl Split {
    fn send(self, tcp: &mut TcpStream, handshake: &[u8], data: &[u8]) -> Result<()> {
        let with = match self {
            Self::All => data.len(),
            Self::Nothing => 0,
            Self::OneOctet => 1,
            Self::Half => data.len() / 2,
        };
        let (with, later) = data.split_at_checked(with).context("no data")?;
        tcp.write_all(&[handshake, with].concat())?;
        if !later.is_empty() {
            thread::sleep(PAUSE);
            tcp.write_all(later)?;
        }
        Ok(())
    }
}

/// What stands before the server's greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// The server's own Finished. Under TLS 1.3 the client's Finished and tickets come later.
    Finished,
    /// Two tickets, which answer the client's Finished. TLS 1.3 only.
    Tickets,
}

fn server(mut tcp: TcpStream, mut config: ServerConfig, behind: Behind, split: Split) -> Result<()> {
    config.send_half_rtt_data = behind == Behind::Finished;
    config.send_tls13_tickets = 2;
    let early = config.send_half_rtt_data;
    let mut connection = ServerConnection::new(Arc::new(config))?;
    let handshake = loop {
        incoming(&mut connection, &mut tcp)?;
        let said = outgoing(&mut connection)?;
        let is_13 = connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        if !connection.is_handshaking() || (early && is_13 && !said.is_empty()) {
            break said;
        }
        tcp.write_all(&said)?;
    };
    connection.writer().write_all(GREETING)?;
    let greeting = outgoing(&mut connection)?;
    ensure!(!handshake.is_empty() && !greeting.is_empty(), "nothing to split");
    split.send(&mut tcp, &handshake, &greeting)?;
    answer(StreamOwned::new(connection, tcp))
}

fn answer(mut stream: StreamOwned<ServerConnection, TcpStream>) -> Result<()> {
    let command = line(&mut stream)?;
    ensure!(command.as_bytes() == COMMAND, "{command:?}");
    stream.write_all(ANSWER)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    to_end(&mut stream.sock).map(drop)
}

/// A client that says its command with its Finished and hears greeting and answer; whether it resumed a session.
fn client(mut tcp: TcpStream, config: Arc<ClientConfig>, split: Split) -> Result<bool> {
    let mut connection = ClientConnection::new(config, Family::V4.name().try_into()?)?;
    let handshake = loop {
        let said = outgoing(&mut connection)?;
        if !connection.is_handshaking() {
            break said;
        }
        tcp.write_all(&said)?;
        incoming(&mut connection, &mut tcp)?;
    };
    connection.writer().write_all(COMMAND)?;
    let command = outgoing(&mut connection)?;
    split.send(&mut tcp, &handshake, &command)?;
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    let mut stream = StreamOwned::new(connection, tcp);
    for expected in [GREETING, ANSWER] {
        let heard = line(&mut stream)?;
        ensure!(heard.as_bytes() == expected, "{heard:?}");
    }
    ensure!(read(&mut stream, &mut [0])? == 0, "more was said");
    Ok(resumed)
}

#[test]
fn a_servers_first_octets_are_not_lost_however_they_follow_its_handshake() -> Result<()> {
    under_each(|mode, scene, postern| {
        let cases = [(Tls::V12, Behind::Finished), (Tls::V13, Behind::Finished), (Tls::V13, Behind::Tickets)];
        let mut seen = Statistics::read(&scene.lab.gateway)?;
        for (tls, behind) in cases {
            for split in SPLITS {
                let (_, record) = session(
                    (scene, postern),
                    tls,
                    move |tcp, config| server(tcp, config, behind, split),
                    |tcp, config| client(tcp, config, Split::Nothing).map(drop),
                )
                .with_context(|| format!("{tls:?}, {split:?} of the greeting behind {behind:?}"))?;
                ensure!(record.succeeded(), "{record:#?}");
                seen = ran((scene, &seen), &record, mode)?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_clients_first_octets_are_not_lost_however_they_follow_its_finished() -> Result<()> {
    under_each(|mode, scene, postern| {
        let mut seen = Statistics::read(&scene.lab.gateway)?;
        for tls in Tls::ALL {
            // Under TLS 1.2 the client's Finished is the last one only when a session is resumed.
            let config = scene.client_with(tls.versions())?;
            let splits = [Split::Nothing].into_iter().chain(SPLITS);
            for (visit, split) in splits.enumerate() {
                let mut resumed = false;
                let (_, record) = session(
                    (scene, postern),
                    tls,
                    |tcp, config| {
                        let mut stream = accept_tls(tcp, config)?;
                        stream.write_all(GREETING)?;
                        stream.flush()?;
                        answer(stream)
                    },
                    |tcp, _| {
                        resumed = client(tcp, Arc::clone(&config), split)?;
                        Ok(())
                    },
                )
                .with_context(|| format!("{tls:?}, {split:?} of the command behind Finished"))?;
                ensure!(record.succeeded(), "{record:#?}");
                assert_eq!(resumed, visit > 0, "{tls:?}, visit {visit}");
                seen = ran((scene, &seen), &record, mode)?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_server_that_has_ended_before_the_hand_over_is_heard_to_its_end() -> Result<()> {
    under_each(|mode, scene, postern| {
        for tls in Tls::ALL {
            let (gone, ended) = mpsc::channel();
            let (_, record) = session(
                (scene, postern),
                tls,
                move |tcp, config| {
                    let mut stream = accept_tls(tcp, config)?;
                    stream.write_all(GREETING)?;
                    stream.conn.send_close_notify();
                    stream.flush()?;
                    half_close(&stream.sock);
                    gone.send(())?;
                    to_end(&mut stream.sock).map(drop)
                },
                |mut tcp, config| {
                    let mut connection = ClientConnection::new(config, Family::V4.name().try_into()?)?;
                    tcp.write_all(&outgoing(&mut connection)?)?;
                    // Postern finishes with the client last; the server has said everything by then.
                    ended.recv_timeout(PATIENCE)?;
                    let mut heard = Vec::new();
                    StreamOwned::new(connection, tcp).read_to_end(&mut heard)?;
                    ensure!(heard == GREETING, "{heard:?}");
                    Ok(())
                },
            )
            .with_context(|| format!("{tls:?}"))?;
            ensure!(record.succeeded(), "{record:#?}");
            assert_eq!(told(&record, "downstream"), expected(mode), "{record:#?}");
            // The kernel takes TLS on established connections only (`tls_init` in net/tls/tls_main.c).
            assert_eq!(told(&record, "upstream"), ["user", "user"], "{record:#?}");
        }
        Ok(())
    })
}
