//! The sockets under the clear-text dialogue: port 143 until both sides have agreed on STARTTLS.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::clear::{ClientDialogue, ClientStep, Refusal, ServerDialogue, ServerStep};
use super::{Bound, goodbye, words};
use crate::event_id::EventId;
use crate::failure::{Cause, Failure};
use crate::record::Record;
use crate::words::Side;

/// Octets read at a time: lines are short, and nothing of them is kept.
const READ_BYTES: usize = 1024;

/// The server's greeting, judged. Nothing of it is shown to the client.
pub(super) async fn greeted(server: &mut TcpStream) -> Result<ServerDialogue, Cause> {
    let mut dialogue = ServerDialogue::new();
    answer(server, &mut dialogue).await?;
    Ok(dialogue)
}

async fn answer(server: &mut TcpStream, dialogue: &mut ServerDialogue) -> Result<ServerStep, Cause> {
    let mut room = [0; READ_BYTES];
    loop {
        let count = server.read(&mut room).await.map_err(Cause::Socket)?;
        if count == 0 {
            return Err(Cause::Socket(io::ErrorKind::UnexpectedEof.into()));
        }
        match dialogue.receive(room.get(..count).unwrap_or_default()).map_err(Cause::ClearServer)? {
            ServerStep::More => {}
            step => return Ok(step),
        }
    }
}

/// Until the client may begin TLS on both sides.
pub(super) async fn agree(
    client: &mut TcpStream,
    server: &mut TcpStream,
    mut asked: ServerDialogue,
    bound: Bound,
    record: &mut Record,
) -> Result<(), Failure> {
    let id = record.id();
    let mut dialogue = ClientDialogue::new().with_reference(id);
    let mut refused: Option<Refusal> = None;
    say(client, ClientDialogue::GREETING).await?;
    let mut room = [0; READ_BYTES];
    loop {
        let count =
            client.read(&mut room).await.map_err(|error| Failure::downstream(Cause::Socket(error)))?;
        if count == 0 {
            return Err(left(refused));
        }
        let mut input = room.get(..count).unwrap_or_default();
        while let Some(step) = dialogue.step(&mut input) {
            record.logins_refused(dialogue.logins_refused());
            match step {
                ClientStep::Reply(reply) => say(client, &reply).await?,
                ClientStep::End { reply, fault } => {
                    say(client, &reply).await?;
                    let cause = fault.map(|fault| Failure::downstream(Cause::ClearClient(fault)));
                    return Err(cause.unwrap_or_else(|| left(refused)));
                }
                ClientStep::StartTls if input.is_empty() => {
                    match ask(client, server, &mut asked, bound, id).await? {
                        None => {
                            unsaid(client, server, &mut dialogue, &mut asked, id).await?;
                            let ready = dialogue.starttls_ready().unwrap_or_default();
                            return say(client, &ready).await;
                        }
                        Some(refusal) => {
                            refused = Some(refusal);
                            let words = words(&Failure::upstream(Cause::StartTlsRefused(refusal)), id);
                            let reply = dialogue.starttls_refused(&words);
                            say(client, &reply.unwrap_or_default()).await?;
                        }
                    }
                }
                // More octets stand behind it: the next step ends the session.
                ClientStep::StartTls => {}
            }
        }
    }
}

fn left(refused: Option<Refusal>) -> Failure {
    match refused {
        Some(refusal) => Failure::upstream(Cause::StartTlsRefused(refusal)),
        None => Failure::downstream(Cause::NoStartTls),
    }
}

/// Ask the server for STARTTLS; `None` when it agreed.
async fn ask(
    client: &mut TcpStream,
    server: &mut TcpStream,
    dialogue: &mut ServerDialogue,
    bound: Bound,
    id: EventId,
) -> Result<Option<Refusal>, Failure> {
    let asked = async {
        let words = dialogue.starttls().unwrap_or_default();
        server.write_all(&words).await.map_err(Cause::Socket)?;
        answer(server, dialogue).await
    };
    let failed = match bound.within(Side::Upstream, async { asked.await.map_err(Failure::upstream) }).await {
        Ok(ServerStep::Refused(refusal)) => return Ok(Some(refusal)),
        Ok(_) => return Ok(None),
        Err(failed) => failed,
    };
    // The caller has words of its own for silence.
    if !matches!(failed.cause, Cause::Silent(_)) {
        say(client, &goodbye(&failed, id)).await?;
    }
    Err(failed)
}

/// Clear text that either side sent behind its STARTTLS line ends the session (CVE-2011-0411 and its kin).
async fn unsaid(
    client: &mut TcpStream,
    server: &mut TcpStream,
    dialogue: &mut ClientDialogue,
    asked: &mut ServerDialogue,
    id: EventId,
) -> Result<(), Failure> {
    let mut room = [0; READ_BYTES];
    if let Ok(count @ 1..) = server.try_read(&mut room)
        && let Err(fault) = asked.receive(room.get(..count).unwrap_or_default())
    {
        let failure = Failure::upstream(Cause::ClearServer(fault));
        say(client, &goodbye(&failure, id)).await?;
        return Err(failure);
    }
    if let Ok(count @ 1..) = client.try_read(&mut room) {
        let mut input = room.get(..count).unwrap_or_default();
        if let Some(ClientStep::End { reply, fault }) = dialogue.step(&mut input) {
            say(client, &reply).await?;
            return Err(Failure::downstream(fault.map_or(Cause::NoStartTls, Cause::ClearClient)));
        }
    }
    Ok(())
}

async fn say(client: &mut TcpStream, words: &[u8]) -> Result<(), Failure> {
    client.write_all(words).await.map_err(|error| Failure::downstream(Cause::Socket(error)))
}
