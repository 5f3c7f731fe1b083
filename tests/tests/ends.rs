//! How sessions end: what peers still hear, and what the record says.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{self, Session};
use postern_tests::lab::Family;
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use postern_tests::scripted::{Scripted, accept_tls, half_close, line, read, to_end};
use rustls::{ALL_VERSIONS, ServerConnection, StreamOwned};

/// Sessions in a row where a goodbye races with a reset.
const RACES: usize = 20;
/// What a client sends meanwhile: less than the buffers on the way hold, so that sending does not wait.
static UPLOAD: [u8; 256 * 1024] = [b'x'; 256 * 1024];

const BYE: &[u8] = b"* BYE the mailbox is gone\r\n";

/// The scripted server's TLS.
type Server = StreamOwned<ServerConnection, TcpStream>;

/// A client that is sending hears a goodbye that a reset follows; so often.
fn races(
    scene: &Scene,
    postern: &Postern<'_>,
    to: SocketAddr,
    script: impl Fn(TcpStream) -> Result<()> + Clone + Send + 'static,
    open: impl Fn() -> Result<Session>,
) -> Result<()> {
    for race in 0..RACES {
        let server = Scripted::once(&scene.lab.server, to, script.clone())?;
        let mut session = open()?;
        session.send(&UPLOAD)?;
        while session.line().with_context(|| format!("no goodbye in session {race} of {RACES}"))?
            != "* BYE the mailbox is gone"
        {}
        // A client that leaves at once may be quicker than the reset, and then both sides have closed.
        let _end = session.to_end();
        drop(session);
        server.result()?;
        let records = postern.wait_records(race + 1)?;
        let record = records.get(race).context("no record")?;
        ensure!(!record.succeeded(), "{record:#?}");
        ensure!(record.text("event.reason") == "socket_error", "{record:#?}");
        ensure!(record.text("postern.side") == "upstream", "{record:#?}");
    }
    Ok(())
}

#[test]
fn a_goodbye_before_a_reset_reaches_the_client_that_is_sending() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let tls = scene.identity.server_config(ALL_VERSIONS)?;
    let script = move |tcp| {
        let mut stream = accept_tls(tcp, tls.clone())?;
        stream.write_all(b"* OK ready\r\n")?;
        stream.flush()?;
        // What the client sends is there, and stays unread: closing over it is a reset.
        stream.sock.peek(&mut [0])?;
        stream.write_all(BYE)?;
        Ok(stream.flush()?)
    };
    let to = scene.server(Family::V4, 993);
    races(&scene, &postern, to, script, || scene.session(Family::V4, 993))?;
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_goodbye_before_a_reset_reaches_the_client_under_bypass_too() -> Result<()> {
    let other = Family::V4.other_server();
    let scene = Scene::new(&Policy::new().action(&format!("bypass = [\"{other}/32\"]")))?;
    let postern = scene.start()?;
    let to = SocketAddr::new(other, 143);
    let script = |mut tcp: TcpStream| {
        tcp.write_all(b"* OK ready\r\n")?;
        tcp.peek(&mut [0])?;
        Ok(tcp.write_all(BYE)?)
    };
    races(&scene, &postern, to, script, || Ok(Session::clear(scene.lab.client.connect(to)?)))?;
    postern.stop()?;
    scene.finish()
}

/// How a server leaves once its client has left without `close_notify`.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// As OpenSSL's library does: a fatal alert about the missing `close_notify`.
    Alert,
    Goodbye,
    Fin,
    Reset,
}

impl Answer {
    const ALL: [Self; 4] = [Self::Alert, Self::Goodbye, Self::Fin, Self::Reset];

    fn give(self, mut stream: Server) -> Result<()> {
        // The client's end, as Postern passes it on: without `close_notify`.
        let ended = read(&mut stream, &mut [0]);
        ensure!(ended.is_err(), "the server saw {ended:?}");
        match self {
            Self::Alert => {
                let forged = [&[23, 3, 3, 0, 40][..], &[0; 40]].concat();
                stream.conn.read_tls(&mut &forged[..])?;
                ensure!(stream.conn.process_new_packets().is_err(), "a forgery was taken");
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut stream.sock)?;
                }
            }
            Self::Goodbye => {
                stream.conn.send_close_notify();
                stream.flush()?;
            }
            Self::Fin => {}
            Self::Reset => return client::reset(stream.sock),
        }
        Ok(())
    }
}

/// One session on 993 of a scripted server and a client; its record.
fn session(
    scene: &Scene,
    postern: &Postern<'_>,
    script: impl FnOnce(Server) -> Result<()> + Send + 'static,
    visit: impl FnOnce(Session) -> Result<()>,
) -> Result<Record> {
    let tls = scene.identity.server_config(ALL_VERSIONS)?;
    let before = postern.records()?.len();
    let server = Scripted::once(&scene.lab.server, scene.server(Family::V4, 993), move |tcp| {
        let mut stream = accept_tls(tcp, tls)?;
        stream.write_all(b"* OK ready\r\n")?;
        script(stream)
    })?;
    visit(scene.session(Family::V4, 993)?)?;
    server.result()?;
    postern.wait_records(before + 1)?.into_iter().nth(before).context("no record")
}

/// FIN without `close_notify`, and wait for the other end.
fn leave(session: &Session) -> Result<()> {
    half_close(session.socket());
    to_end(&mut session.socket().try_clone()?).map(drop)
}

#[test]
fn a_client_that_leaves_without_close_notify_when_all_is_answered_is_no_failure() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    for answer in Answer::ALL {
        let script = move |mut stream: Server| {
            line(&mut stream)?;
            stream.write_all(b"a1 OK done\r\n")?;
            answer.give(stream)
        };
        let visit = |mut session: Session| {
            session.noop()?;
            leave(&session)
        };
        let record = session(&scene, &postern, script, visit).with_context(|| format!("{answer:?}"))?;
        ensure!(record.succeeded() && record.text("event.reason") == "closed", "{answer:?} {record:#?}");
    }
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_client_that_is_cut_in_an_upload_is_truncated_however_its_server_leaves() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    for answer in Answer::ALL {
        let script = move |mut stream: Server| {
            line(&mut stream)?;
            stream.write_all(b"+ go on\r\n")?;
            stream.read_exact(&mut [0; 4])?;
            answer.give(stream)
        };
        let visit = |mut session: Session| {
            session.send_command("APPEND INBOX {100}")?;
            ensure!(session.line()?.starts_with('+'), "no continuation");
            session.send(b"half")?;
            leave(&session)
        };
        let record = session(&scene, &postern, script, visit).with_context(|| format!("{answer:?}"))?;
        ensure!(record.text("event.reason") == "truncated", "{answer:?} {record:#?}");
        ensure!(record.text("postern.side") == "downstream", "{answer:?} {record:#?}");
    }
    postern.stop()?;
    scene.finish()
}

/// A server that says this to the client's one command, and then leaves without `close_notify`; so does the client.
fn left_after(scene: &Scene, postern: &Postern<'_>, said: &'static [u8]) -> Result<Record> {
    let script = move |mut stream: Server| {
        line(&mut stream)?;
        stream.write_all(said)?;
        half_close(&stream.sock);
        to_end(&mut stream.sock).map(drop)
    };
    session(scene, postern, script, |mut session| {
        session.send_command("LOGOUT")?;
        session.literal(said.len())?;
        leave(&session)
    })
}

#[test]
fn a_server_that_says_bye_and_leaves_without_close_notify_is_no_failure() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    // As Cyrus ends.
    let record = left_after(&scene, &postern, b"* BYE LOGOUT received\r\na1 OK Completed\r\n")?;
    ensure!(record.succeeded() && record.text("event.reason") == "closed", "{record:#?}");
    // The same without the words is a cut.
    let record = left_after(&scene, &postern, b"* 1 FETCH (BODY[] {100}\r\na line of it\r\n")?;
    ensure!(!record.succeeded() && record.text("event.reason") == "truncated", "{record:#?}");
    ensure!(record.text("postern.side") == "upstream", "{record:#?}");
    postern.stop()?;
    scene.finish()
}
