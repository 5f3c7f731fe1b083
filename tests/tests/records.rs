//! Records after the handshake, over real sockets: keys that change in the middle of mail, floods, single octets,
//! forgeries.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::lab::Family;
use postern_tests::postern::Policy;
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use postern_tests::scripted::{Scripted, accept_tls, read};
use postern_tests::wait::{self, PATIENCE};
use rustls::{ALL_VERSIONS, ServerConnection, StreamOwned};

/// A literal of 4 MB: some 250 full records.
const LITERAL_BYTES: usize = 4 * 1000 * 1000;
/// Octets between two changes of key: four records.
const KEY_BYTES: usize = 64 * 1024;

type Server = StreamOwned<ServerConnection, TcpStream>;

fn body() -> Vec<u8> {
    (0..LITERAL_BYTES).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect()
}

/// One session through Postern on 993 with a server that does what `script` says after its greeting.
fn with_server<T: Send + 'static>(
    script: impl FnOnce(&mut Server) -> Result<T> + Send + 'static,
    visit: impl FnOnce(Session) -> Result<()>,
) -> Result<(T, Record)> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let config = scene.identity.server_config(ALL_VERSIONS)?;
    let server =
        Scripted::once(&scene.lab.server, SocketAddr::new(Family::V4.server(), 993), move |stream| {
            let mut stream = accept_tls(stream, config)?;
            stream.write_all(b"* OK hello\r\n")?;
            script(&mut stream)
        })?;
    visit(scene.session(Family::V4, 993)?)?;
    let result = server.result()?;
    let record = postern.wait_records(1)?.remove(0);
    postern.stop()?;
    scene.finish()?;
    Ok((result, record))
}

/// Send the literal, with another key every [`KEY_BYTES`].
fn send_with_key_changes(stream: &mut Server, octets: &[u8]) -> Result<()> {
    for part in octets.chunks(KEY_BYTES) {
        stream.write_all(part)?;
        stream.conn.refresh_traffic_keys()?;
    }
    Ok(stream.flush()?)
}

#[test]
fn a_server_that_changes_keys_in_the_middle_of_a_literal_loses_nothing() -> Result<()> {
    let sent = body();
    let (_, record) = with_server(
        |stream| {
            send_with_key_changes(stream, &body())?;
            stream.conn.send_close_notify();
            Ok(stream.flush()?)
        },
        |mut session| {
            let got = session.to_end()?;
            ensure!(got == sent, "{} of {} octets, or others", got.len(), sent.len());
            Ok(())
        },
    )?;
    assert_eq!(record.text("postern.upstream.tls.version"), "1.3", "{record:#?}");
    Ok(())
}

#[test]
fn both_sides_may_change_keys_at_once_in_the_middle_of_uploads_and_downloads() -> Result<()> {
    let sent = body();
    let (received, _) = with_server(
        |stream| {
            let (mut received, mut at) = (vec![0; LITERAL_BYTES], 0);
            let answer = body();
            for part in answer.chunks(KEY_BYTES) {
                stream.write_all(part)?;
                stream.conn.refresh_traffic_keys()?;
                let until = (at + KEY_BYTES).min(LITERAL_BYTES);
                stream.read_exact(received.get_mut(at..until).context("range")?)?;
                at = until;
            }
            stream.conn.send_close_notify();
            stream.flush()?;
            Ok(received)
        },
        |mut session| {
            let mut got = Vec::new();
            for part in sent.chunks(KEY_BYTES) {
                session.send(part)?;
                session.change_key()?;
                got.extend(session.literal(part.len())?);
            }
            ensure!(got == sent, "what came down is not what was sent");
            session.to_end()?;
            Ok(())
        },
    )?;
    assert!(received == sent, "what went up is not what was sent");
    Ok(())
}

#[test]
fn a_flood_of_key_updates_ends_the_session_and_is_recorded() -> Result<()> {
    let (_, record) = with_server(
        |stream| {
            for _ in 0..100 {
                stream.conn.refresh_traffic_keys()?;
            }
            let _ = stream.flush();
            // Postern sends an alert and leaves.
            let ended = read(stream, &mut [0; 16]);
            ensure!(!matches!(ended, Ok(1..)), "{ended:?}");
            Ok(())
        },
        |mut session| {
            // The client sees a cut, and what was good before it.
            ensure!(session.to_end().is_err(), "the client was told of a clean end");
            Ok(())
        },
    )?;
    assert_eq!(record.text("event.reason"), "control_record_flood", "{record:#?}");
    assert_eq!(record.text("postern.side"), "upstream", "{record:#?}");
    Ok(())
}

#[test]
fn records_of_one_octet_arrive_as_they_are() -> Result<()> {
    const BYTES: usize = 20_000;
    let sent: Vec<u8> = body().into_iter().take(BYTES).collect();
    with_server(
        |stream| {
            for octet in body().into_iter().take(BYTES) {
                stream.write_all(&[octet])?;
            }
            stream.conn.send_close_notify();
            Ok(stream.flush()?)
        },
        |mut session| {
            ensure!(session.to_end()? == sent, "other octets");
            Ok(())
        },
    )?;
    Ok(())
}

#[test]
fn a_forged_record_in_the_middle_of_mail_ends_the_session_and_is_recorded() -> Result<()> {
    let (_, record) = with_server(
        |stream| {
            stream.write_all(b"* 1 FETCH (BODY[] {100}\r\nhalf")?;
            stream.flush()?;
            let socket = &mut stream.sock;
            socket.write_all(&[23, 3, 3, 0, 20])?;
            socket.write_all(&[0; 20])?;
            let _ = stream.read(&mut [0; 16]);
            Ok(())
        },
        |mut session| {
            // The client sees a cut, and what was good before it.
            ensure!(session.to_end().is_err(), "the client was told of a clean end");
            Ok(())
        },
    )?;
    assert_eq!(record.text("event.reason"), "bad_record", "{record:#?}");
    assert_eq!(record.text("postern.side"), "upstream", "{record:#?}");
    Ok(())
}

#[test]
fn a_fatal_alert_in_the_middle_of_mail_ends_the_session_and_is_recorded() -> Result<()> {
    // As the layer refuses a forgery, so does the server: its last word is the alert bad_record_mac.
    let (_, record) = with_server(
        |stream| {
            stream.write_all(b"* 1 FETCH (BODY[] {100}\r\nhalf")?;
            stream.flush()?;
            let forged = [&[23, 3, 3, 0, 20][..], &[0; 20]].concat();
            stream.conn.read_tls(&mut &forged[..])?;
            ensure!(stream.conn.process_new_packets().is_err(), "a forgery was taken");
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut stream.sock)?;
            }
            let _ = stream.sock.read(&mut [0; 16]);
            Ok(())
        },
        |mut session| {
            ensure!(session.to_end().is_err(), "the client was told of a clean end");
            Ok(())
        },
    )?;
    assert_eq!(record.text("event.reason"), "peer_alert", "{record:#?}");
    assert_eq!(record.text("postern.side"), "upstream", "{record:#?}");
    Ok(())
}

#[test]
fn a_client_that_is_refused_in_the_middle_of_a_download_gets_whole_records_and_a_goodbye() -> Result<()> {
    let written = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&written);
    let (_, record) = with_server(
        move |stream| {
            // Nobody reads: this stops when every buffer on the way is full, and ends when the session does.
            while let Ok(count) = stream.write(&[b'x'; KEY_BYTES]) {
                written.fetch_add(count as u64, Ordering::Relaxed);
            }
            Ok(())
        },
        |mut session| {
            let stalled = || {
                let before = seen.load(Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(300));
                Ok((before > 0 && seen.load(Ordering::Relaxed) == before).then_some(()))
            };
            wait::until("a server that is held back", PATIENCE, stalled)?;
            session.send(b"GET / HTTP/1.1\r\n\r\n")?;
            let got = session.to_end().context("the client cannot read its records to a goodbye")?;
            ensure!(!got.is_empty() && got.iter().all(|octet| *octet == b'x'), "other octets came");
            Ok(())
        },
    )?;
    assert_eq!(record.text("event.reason"), "http_request", "{record:#?}");
    Ok(())
}
