use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{Session, Tls};
use postern_tests::imap_server::{PASSWORD, USER};
use postern_tests::kernel_tls::{Statistics, changes_keys, expected, told};
use postern_tests::lab::Family;
use postern_tests::openssl::{KEY_UPDATE_RECEIVED, OpenSsl};
use postern_tests::postern::Postern;
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use postern_tests::scripted::{accept_tls, line};
use rustls::{ClientConfig, ServerConfig, ServerConnection, StreamOwned};

use super::{SIDES, session, under_each};

/// A literal of 4 MB: some 250 full records.
const LITERAL_BYTES: usize = 4 * 1000 * 1000;
/// Octets between two changes of key: 64 full records.
const KEY_BYTES: usize = 64 * 16 * 1024;
/// Changes of key in the literal.
const CHANGES: u64 = LITERAL_BYTES.div_ceil(KEY_BYTES) as u64;
/// What one end sends before it listens to the other: less than sockets hold.
const PART_BYTES: usize = 64 * 1024;

type Server = StreamOwned<ServerConnection, TcpStream>;

fn body() -> Vec<u8> {
    (0..LITERAL_BYTES).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect()
}

fn greets(tcp: TcpStream, config: ServerConfig) -> Result<Server> {
    let mut stream = accept_tls(tcp, config)?;
    stream.write_all(b"* OK ready\r\n")?;
    stream.flush()?;
    Ok(stream)
}

fn greeted(tcp: TcpStream, config: &Arc<ClientConfig>) -> Result<Session> {
    Session::on(tcp, Family::V4.name(), config)
}

/// Whether the layer that this mode of `tls.offload` chooses can follow a change of keys here.
fn follows(mode: &str) -> bool {
    mode == "never" || changes_keys()
}

/// What the kernel counts of these changes of keys, received and sent.
fn counted(mode: &str, changes: [u64; 2]) -> [u64; 2] {
    if mode == "always" && changes_keys() { changes } else { [0, 0] }
}

/// What the kernel counted of changed keys since: received, sent.
fn changed(scene: &Scene, since: &Statistics) -> Result<[u64; 2]> {
    let now = Statistics::read(&scene.lab.gateway)?;
    ensure!(now.of("TlsDecryptError") == 0, "{now:?}");
    ensure!(now.of("TlsRxRekeyError") == 0 && now.of("TlsTxRekeyError") == 0, "{now:?}");
    Ok(["TlsRxRekeyOk", "TlsTxRekeyOk"].map(|name| now.grown(since, name)))
}

/// How a session ends whose peer on `side` asked for a change of keys: well where it can be followed, with a reason
/// elsewhere.
fn ended(record: &Record, side: &str, mode: &str) -> Result<()> {
    for side in SIDES {
        ensure!(told(record, side) == expected(mode), "{record:#?}");
    }
    if follows(mode) {
        ensure!(record.succeeded(), "{record:#?}");
    } else {
        ensure!(record.text("event.reason") == "key_update_unsupported", "{record:#?}");
        ensure!(record.text("postern.side") == side, "{record:#?}");
    }
    Ok(())
}

/// Send the literal, with another key every [`KEY_BYTES`]; the other end is asked for the same each time.
fn send_changing(stream: &mut Server) -> Result<()> {
    for part in body().chunks(KEY_BYTES) {
        stream.write_all(part)?;
        stream.conn.refresh_traffic_keys()?;
    }
    Ok(stream.flush()?)
}

/// Octets of the literal that arrive: where a change of keys cannot be followed, those before the first one.
const fn served(follows: bool) -> usize {
    if follows { LITERAL_BYTES } else { KEY_BYTES }
}

/// One end sends the literal with changing keys; `side` is its side of the gateway.
fn literal_with_changing_keys(
    side: &str,
    server: fn(&mut Server, bool) -> Result<()>,
    client: fn(&mut Session, bool) -> Result<()>,
) -> Result<()> {
    under_each(|mode, scene, postern| {
        let follows = follows(mode);
        let before = Statistics::read(&scene.lab.gateway)?;
        let ((), record) = session(
            (scene, postern),
            Tls::V13,
            move |tcp, config| server(&mut greets(tcp, config)?, follows),
            |tcp, config| client(&mut greeted(tcp, &config)?, follows),
        )?;
        ended(&record, side, mode)?;
        assert_eq!(changed(scene, &before)?, counted(mode, [CHANGES, 1]));
        Ok(())
    })
}

#[test]
fn a_server_changes_keys_in_a_literal_and_all_of_it_arrives_or_the_end_has_a_reason() -> Result<()> {
    literal_with_changing_keys(
        "upstream",
        |server, follows| {
            let sent = send_changing(server);
            if !follows {
                // How much of it the sockets took before the end is theirs to say.
                return Ok(());
            }
            sent?;
            // Its question is answered before the client's next words.
            ensure!(line(server)?.trim_end() == "a NOOP", "other words went up");
            server.conn.send_close_notify();
            Ok(server.flush()?)
        },
        |client, follows| {
            ensure!(
                client.literal(served(follows))? == body().get(..served(follows)).unwrap_or_default(),
                "other octets"
            );
            if follows {
                client.send(b"a NOOP\r\n")?;
            }
            ensure!(client.to_end().is_ok() == follows, "a cut looks like an end, or an end like a cut");
            Ok(())
        },
    )
}

#[test]
fn a_client_changes_keys_in_a_literal_and_all_of_it_arrives_or_the_end_has_a_reason() -> Result<()> {
    literal_with_changing_keys(
        "downstream",
        |server, follows| {
            let mut received = vec![0; served(follows)];
            server.read_exact(&mut received)?;
            ensure!(received == body().get(..served(follows)).unwrap_or_default(), "other octets went up");
            if !follows {
                ensure!(server.read(&mut [0]).is_err(), "a cut looks like an end");
                return Ok(());
            }
            server.write_all(b"* done\r\n")?;
            server.conn.send_close_notify();
            Ok(server.flush()?)
        },
        |client, follows| {
            let sent = body().chunks(KEY_BYTES).try_for_each(|part| {
                client.send(part)?;
                client.change_key()
            });
            if follows {
                sent.and_then(|()| client.send(b""))?;
                ensure!(client.to_end()? == b"* done\r\n", "other words came down");
            }
            Ok(())
        },
    )
}

#[test]
fn both_change_keys_at_once_in_the_middle_of_literals() -> Result<()> {
    under_each(|mode, scene, postern| {
        let follows = follows(mode);
        let before = Statistics::read(&scene.lab.gateway)?;
        let (ended_well, record) = session(
            (scene, postern),
            Tls::V13,
            |tcp, config| {
                let mut stream = greets(tcp, config)?;
                let up = both_server(&mut stream);
                Ok(up.is_ok_and(|up| up == body()))
            },
            |tcp, config| {
                let mut client = greeted(tcp, &config)?;
                let down = both_client(&mut client);
                ensure!(down.as_ref().is_ok_and(|down| *down == body()) == follows, "{:?}", down.err());
                Ok(())
            },
        )?;
        ensure!(ended_well == follows, "{record:#?}");
        if follows {
            ensure!(record.succeeded(), "{record:#?}");
            let [received, sent] = changed(scene, &before)?;
            let [least, most] = [[2 * CHANGES, 2], [2 * CHANGES; 2]].map(|changes| counted(mode, changes));
            assert_eq!(received, most[0]);
            // One answer may serve for several questions.
            assert!((least[1]..=most[1]).contains(&sent), "{sent}");
        } else {
            // Whichever side has to answer first.
            assert_eq!(record.text("event.reason"), "key_update_unsupported", "{record:#?}");
        }
        Ok(())
    })
}

fn is_due(part: usize) -> bool {
    (part + 1).is_multiple_of(KEY_BYTES / PART_BYTES) || part + 1 == LITERAL_BYTES.div_ceil(PART_BYTES)
}

fn both_server(stream: &mut Server) -> Result<Vec<u8>> {
    let mut received = Vec::new();
    for (number, part) in body().chunks(PART_BYTES).enumerate() {
        stream.write_all(part)?;
        if is_due(number) {
            stream.conn.refresh_traffic_keys()?;
        }
        stream.flush()?;
        let mut up = vec![0; part.len()];
        stream.read_exact(&mut up)?;
        received.extend(up);
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(received)
}

fn both_client(client: &mut Session) -> Result<Vec<u8>> {
    let mut received = Vec::new();
    for (number, part) in body().chunks(PART_BYTES).enumerate() {
        client.send(part)?;
        if is_due(number) {
            client.change_key()?;
        }
        received.extend(client.literal(part.len())?);
    }
    client.send(b"")?;
    client.to_end()?;
    Ok(received)
}

#[test]
fn a_client_that_changes_keys_is_served_or_gets_a_goodbye_with_a_reason() -> Result<()> {
    typed("k", 0)
}

#[test]
fn a_client_that_asks_for_a_change_of_keys_gets_it_or_a_goodbye_with_a_reason() -> Result<()> {
    typed("K", 1)
}

/// A session with the lab's IMAP server in which `openssl s_client` is given this letter, until it must end; each is
/// answered so many times.
fn typed(letter: &str, answers: u64) -> Result<()> {
    under_each(|mode, scene, postern| {
        let times = if follows(mode) { 3 } else { 1 };
        let server = scene.serve()?;
        let before = Statistics::read(&scene.lab.gateway)?;
        let mut openssl = OpenSsl::start(scene, &["-tls1_3", "-msg"])?;
        openssl.type_line(&format!("a LOGIN {USER} {PASSWORD}"))?;
        openssl.wait("a OK", 1)?;
        for at in 0..times {
            openssl.type_line(letter)?;
            openssl.wait("KEYUPDATE", at + 1)?;
            if follows(mode) {
                openssl.type_line(&format!("b{at} NOOP"))?;
                openssl.wait(&format!("b{at} OK"), 1)?;
            }
        }
        if follows(mode) {
            openssl.type_line("c LOGOUT")?;
            openssl.wait("c OK", 1)?;
        }
        openssl.wait_end()?;
        let answered = openssl.said().matches(KEY_UPDATE_RECEIVED).count() as u64;
        let answers = if follows(mode) { answers * times as u64 } else { 0 };
        ensure!(answered == answers, "{}", openssl.said());
        ended(&only(postern)?, "downstream", mode)?;
        assert_eq!(changed(scene, &before)?, counted(mode, [times as u64, answers]));
        drop(server);
        Ok(())
    })
}

fn only(postern: &Postern<'_>) -> Result<Record> {
    postern.wait_records(1)?.into_iter().next().context("no record")
}

#[test]
fn a_flood_of_key_updates_from_either_side_ends_the_session_and_is_recorded() -> Result<()> {
    const FLOOD: usize = 100;
    under_each(|mode, scene, postern| {
        let follows = follows(mode);
        for flooding in SIDES {
            let (_, record) = session(
                (scene, postern),
                Tls::V13,
                move |tcp, config| {
                    let mut stream = greets(tcp, config)?;
                    for _ in 0..if flooding == "upstream" { FLOOD } else { 0 } {
                        stream.conn.refresh_traffic_keys()?;
                    }
                    let _ = stream.flush();
                    let ended = stream.read(&mut [0; 16]);
                    ensure!(!matches!(ended, Ok(1..)), "{ended:?}");
                    Ok(())
                },
                |tcp, config| {
                    let mut client = greeted(tcp, &config)?;
                    for _ in 0..if flooding == "downstream" { FLOOD } else { 0 } {
                        client.change_key()?;
                    }
                    let _ = client.send(b"");
                    let cut = client.to_end().is_err();
                    // A client is told, where its first question already is one too many.
                    let told = flooding == "downstream" && !follows;
                    ensure!(cut || told, "the client was told of a clean end");
                    Ok(())
                },
            )?;
            let reason = if follows { "control_record_flood" } else { "key_update_unsupported" };
            assert_eq!(record.text("event.reason"), reason, "{record:#?}");
            assert_eq!(record.text("postern.side"), flooding, "{record:#?}");
        }
        Ok(())
    })
}
