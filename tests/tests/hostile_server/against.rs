//! A client and a scripted server, with Postern between them.

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::corpus::{Sample, hostile};
use postern_tests::fetched::{Heard, shown};
use postern_tests::imap_script::{Asked, Book, Desk, serve};
use postern_tests::lab::Family;
use postern_tests::mediated::policy;
use postern_tests::record::Record;
use postern_tests::scene::Scene;

/// What one test leaves behind.
pub(crate) struct Left {
    /// Every octet that reached the server.
    pub(crate) came: Vec<u8>,
    /// What was written when the session ended.
    pub(crate) record: Record,
}

/// A client and a scripted server with Postern between; the mailbox holds these messages with UIDs from 7 on.
pub(crate) fn between(
    messages: &[&[u8]],
    script: impl FnMut(&mut Desk, &Asked) -> Result<bool> + Send + 'static,
    client: impl FnOnce(&mut Session) -> Result<()>,
) -> Result<Left> {
    let scene = Scene::new(&policy())?;
    let postern = scene.start()?;
    let shelf = (7..).zip(messages).map(|(uid, octets)| Book::new(octets, uid)).collect();
    let server = serve(&scene, shelf, script)?;
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    let done = client(&mut session);
    drop(session);
    done.with_context(|| postern.log())?;
    let came = server.result()?;
    let record =
        postern.wait_record("the session's end", |record| record.text("event.action") == "session_end")?;
    postern.stop()?;
    scene.finish()?;
    Ok(Left { came, record })
}

pub(crate) fn is_fetch(asked: &Asked) -> bool {
    asked.verb.ends_with("FETCH")
}

/// The EICAR file in clear, as an attachment.
pub(crate) fn clear() -> Result<Sample> {
    let sample = hostile().into_iter().find(|sample| sample.name == "eicar in clear");
    sample.context("the corpus has no such message")
}

/// That nothing forbidden came, in this form or in one that decodes to it.
pub(crate) fn nothing_of(sample: &Sample, heard: &Heard) -> Result<()> {
    ensure!(!sample.is_in(&heard.octets), "{} came: {}", sample.name, shown(&heard.octets));
    Ok(())
}

/// What comes of a FETCH whose answer the script forges, and of a NOOP behind it.
pub(crate) fn forged_in_pieces(
    sample: &Sample,
    command: &'static str,
    forge: impl Fn(&Book, &Asked) -> Vec<u8> + Send + 'static,
) -> Result<Heard> {
    let mut kept = None;
    between(
        &[&sample.octets],
        move |desk, asked| {
            if !is_fetch(asked) {
                return Ok(false);
            }
            let book = desk.shelf.first().context("an empty mailbox")?;
            let answer = forge(book, asked);
            desk.say(answer)?;
            desk.done(asked)?;
            Ok(true)
        },
        |session| {
            let mut heard = session.hear(command)?;
            if !heard.is_cut() {
                heard.octets.extend(session.hear("NOOP")?.octets);
            }
            kept = Some(heard);
            Ok(())
        },
    )?;
    kept.context("the client heard nothing")
}

/// The same: nothing forbidden comes, and the session goes on or ends.
pub(crate) fn forged(
    sample: &Sample,
    command: &'static str,
    forge: impl Fn(&Book, &Asked) -> Vec<u8> + Send + 'static,
) -> Result<Heard> {
    let heard = forged_in_pieces(sample, command, forge)?;
    nothing_of(sample, &heard)?;
    Ok(heard)
}
