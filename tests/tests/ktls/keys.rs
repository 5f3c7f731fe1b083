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

use super::{SIDES, session, under};

/// A literal of 4 MB: some 250 full records.
const LITERAL_OCTETS: usize = 4 * 1000 * 1000;
/// Octets between two changes of key: 64 full records.
const KEY_OCTETS: usize = 64 * 16 * 1024;
/// Changes of key in the literal.
const CHANGES: u64 = LITERAL_OCTETS.div_ceil(KEY_OCTETS) as u64;
/// What one end sends before it listens to the other: less than sockets hold.
const PART_OCTETS: usize = 64 * 1024;

type Server = StreamOwned<ServerConnection, TcpStream>;

fn body() -> Vec<u8> {
    (0..LITERAL_OCTETS).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect()
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

/// What the kernel counted of changed keys since: received, sent.
fn changed(scene: &Scene, since: &Statistics) -> Result<[u64; 2]> {
    let now = Statistics::read(&scene.lab.gateway)?;
    ensure!(now.of("TlsDecryptError") == 0, "{now:?}");
    ensure!(now.of("TlsRxRekeyError") == 0 && now.of("TlsTxRekeyError") == 0, "{now:?}");
    Ok(["TlsRxRekeyOk", "TlsTxRekeyOk"].map(|name| now.grown(since, name)))
}

/// How a session ends whose peer on `side` asked for a change of keys: well where the kernel can, with words elsewhere.
fn ended(record: &Record, side: &str) -> Result<()> {
    for side in SIDES {
        ensure!(told(record, side) == expected("always"), "{record:#?}");
    }
    if changes_keys() {
        ensure!(record.succeeded(), "{record:#?}");
    } else {
        ensure!(record.text("event.reason") == "key_update_unsupported", "{record:#?}");
        ensure!(record.text("postern.side") == side, "{record:#?}");
    }
    Ok(())
}

/// Send the literal, with another key every [`KEY_OCTETS`]; the other end is asked for the same each time.
fn send_changing(stream: &mut Server) -> Result<()> {
    for part in body().chunks(KEY_OCTETS) {
        stream.write_all(part)?;
        stream.conn.refresh_traffic_keys()?;
    }
    Ok(stream.flush()?)
}

#[test]
fn a_server_changes_keys_in_the_middle_of_a_literal_and_nothing_is_lost() -> Result<()> {
    under("always", |scene, postern| {
        let before = Statistics::read(&scene.lab.gateway)?;
        let (ended_well, record) = session(
            (scene, postern),
            Tls::V13,
            |tcp, config| {
                let mut stream = greets(tcp, config)?;
                send_changing(&mut stream)?;
                // The server's question is answered before the client's next words, or the session ends with a goodbye.
                let mut said = [0];
                if stream.read(&mut said)? == 0 {
                    return Ok(false);
                }
                line(&mut stream)?;
                stream.conn.send_close_notify();
                stream.flush()?;
                Ok(true)
            },
            |tcp, config| {
                let mut client = greeted(tcp, &config)?;
                ensure!(client.literal(LITERAL_OCTETS)? == body(), "other octets came down");
                client.send(b"a NOOP\r\n")?;
                ensure!(
                    client.to_end().is_ok() == changes_keys(),
                    "a cut looks like an end, or an end like a cut"
                );
                Ok(())
            },
        )?;
        ensure!(ended_well == changes_keys(), "{record:#?}");
        ended(&record, "upstream")?;
        let expected = if changes_keys() { [CHANGES, 1] } else { [0, 0] };
        assert_eq!(changed(scene, &before)?, expected);
        Ok(())
    })
}

#[test]
fn a_client_changes_keys_in_the_middle_of_a_literal_and_nothing_is_lost() -> Result<()> {
    under("always", |scene, postern| {
        let before = Statistics::read(&scene.lab.gateway)?;
        let (received, record) = session(
            (scene, postern),
            Tls::V13,
            |tcp, config| {
                let mut stream = greets(tcp, config)?;
                let mut received = vec![0; LITERAL_OCTETS];
                stream.read_exact(&mut received)?;
                stream.write_all(b"* done\r\n")?;
                stream.conn.send_close_notify();
                stream.flush()?;
                Ok(received)
            },
            |tcp, config| {
                let mut client = greeted(tcp, &config)?;
                for part in body().chunks(KEY_OCTETS) {
                    client.send(part)?;
                    client.change_key()?;
                }
                client.send(b"")?;
                // Either way the client is told of an end.
                let told = client.to_end()?;
                ensure!((told == b"* done\r\n") == changes_keys(), "{told:?}");
                Ok(())
            },
        )?;
        ensure!(received == body(), "other octets went up");
        ended(&record, "downstream")?;
        let expected = if changes_keys() { [CHANGES, 1] } else { [0, 0] };
        assert_eq!(changed(scene, &before)?, expected);
        Ok(())
    })
}

#[test]
fn both_change_keys_at_once_in_the_middle_of_literals() -> Result<()> {
    under("always", |scene, postern| {
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
                ensure!(
                    down.as_ref().is_ok_and(|down| *down == body()) == changes_keys(),
                    "{:?}",
                    down.err()
                );
                Ok(())
            },
        )?;
        ensure!(ended_well == changes_keys(), "{record:#?}");
        if changes_keys() {
            ensure!(record.succeeded(), "{record:#?}");
            let [received, sent] = changed(scene, &before)?;
            assert_eq!(received, 2 * CHANGES);
            // One answer may serve for several questions.
            assert!((2..=2 * CHANGES).contains(&sent), "{sent}");
        } else {
            // Whichever side has to answer first.
            assert_eq!(record.text("event.reason"), "key_update_unsupported", "{record:#?}");
        }
        Ok(())
    })
}

fn is_due(part: usize) -> bool {
    (part + 1).is_multiple_of(KEY_OCTETS / PART_OCTETS) || part + 1 == LITERAL_OCTETS.div_ceil(PART_OCTETS)
}

fn both_server(stream: &mut Server) -> Result<Vec<u8>> {
    let mut received = Vec::new();
    for (number, part) in body().chunks(PART_OCTETS).enumerate() {
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
    for (number, part) in body().chunks(PART_OCTETS).enumerate() {
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
fn a_client_that_changes_keys_without_a_question_is_served_by_every_kernel() -> Result<()> {
    typed("k", 3, true)
}

#[test]
fn a_client_that_asks_for_a_change_of_keys_gets_it_or_a_goodbye_with_a_reason() -> Result<()> {
    typed("K", if changes_keys() { 3 } else { 1 }, changes_keys())
}

/// A session with the lab's IMAP server in which `openssl s_client` is given this letter so many times.
fn typed(letter: &str, times: usize, served: bool) -> Result<()> {
    under("always", |scene, postern| {
        let server = scene.serve()?;
        let before = Statistics::read(&scene.lab.gateway)?;
        let mut openssl = OpenSsl::start(scene, &["-tls1_3", "-msg"])?;
        openssl.type_line(&format!("a LOGIN {USER} {PASSWORD}"))?;
        openssl.wait("a OK", 1)?;
        for at in 0..times {
            openssl.type_line(letter)?;
            openssl.wait("KEYUPDATE", at + 1)?;
            openssl.type_line(&format!("b{at} NOOP"))?;
            if served {
                openssl.wait(&format!("b{at} OK"), 1)?;
            }
        }
        let answers = if served && letter == "K" { times } else { 0 };
        if served {
            openssl.type_line("c LOGOUT")?;
            openssl.wait("c OK", 1)?;
        }
        openssl.wait_end()?;
        ensure!(openssl.said().matches(KEY_UPDATE_RECEIVED).count() == answers, "{}", openssl.said());
        let record = only(postern)?;
        if served {
            ensure!(record.succeeded(), "{record:#?}");
        } else {
            ended(&record, "downstream")?;
        }
        let received = if changes_keys() { times as u64 } else { 0 };
        assert_eq!(changed(scene, &before)?, [received, answers as u64]);
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
    under("always", |scene, postern| {
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
                    ensure!(client.to_end().is_err(), "the client was told of a clean end");
                    Ok(())
                },
            )?;
            assert_eq!(record.text("event.reason"), "control_record_flood", "{record:#?}");
            assert_eq!(record.text("postern.side"), flooding, "{record:#?}");
        }
        Ok(())
    })
}
