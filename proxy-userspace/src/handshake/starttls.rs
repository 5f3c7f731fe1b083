//! The clear-text dialogue on sockets, until both sides have agreed on STARTTLS, or on clear text.

use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::clear::{
    ClientDialogue, ClientStep, ServerDialogue, ServerStep, StartTlsRefusal, capabilities_listed,
};
use super::parting::Parting;
use super::{Bound, HandshakeTerms, goodbye, words as words_of};
use crate::config::StartTls;
use crate::event_id::EventId;
use crate::failure::{Cause, Failure};
use crate::inspect::{ImapTerms, STARTTLS_STRIPPED, shown_capabilities};
use crate::record::Record;
use crate::words::Side;

/// Octets read at a time: lines are short, and nothing of them is kept.
const READ_BYTES: usize = 1024;

/// Read and check the server's greeting. Nothing of it is shown to the client.
pub(super) async fn greeted(server: &mut TcpStream) -> Result<ServerDialogue, Cause> {
    let mut dialogue = ServerDialogue::new();
    answer(server, &mut dialogue).await?;
    Ok(dialogue)
}

async fn answer(server: &mut TcpStream, dialogue: &mut ServerDialogue) -> Result<ServerStep, Cause> {
    let mut room = [0; READ_BYTES];
    loop {
        match read(server, dialogue, &mut room).await? {
            ServerStep::More => {}
            step => return Ok(step),
        }
    }
}

/// Read once from the server.
async fn read(
    server: &mut TcpStream,
    dialogue: &mut ServerDialogue,
    room: &mut [u8],
) -> Result<ServerStep, Cause> {
    let count = server.read(room).await.map_err(Cause::Socket)?;
    if count == 0 {
        return Err(Cause::Socket(io::ErrorKind::UnexpectedEof.into()));
    }
    dialogue.receive(room.get(..count).unwrap_or_default()).map_err(Cause::ClearServer)
}

/// What came of the dialogue.
pub(super) enum Agreed {
    /// Both sides begin TLS.
    Tls,
    /// The client goes on in clear text, and so does the server.
    ClearText {
        /// What was read of the client's command, and behind it. Wiped when dropped: a password may stand in it.
        first: Zeroizing<Vec<u8>>,
        /// What the server said that it can do, where the client asked.
        capabilities: Vec<u8>,
    },
}

/// Speak clear text until TLS may begin on both sides, or until the client goes on without.
///
/// # Errors
/// What ended the dialogue, and what the client is told.
pub(super) async fn agree(
    client: &mut TcpStream,
    server: &mut TcpStream,
    asked: ServerDialogue,
    bound: Bound,
    terms: &HandshakeTerms<'_>,
    record: &mut Record,
) -> Result<Agreed, Parting> {
    let id = record.id();
    let action = terms.action();
    let dialogue = ClientDialogue::new().with_reference(id).with_settings(action.starttls, action.cleartext);
    let dialogue = dialogue.with_imap_terms(terms.imap());
    say(client, &dialogue.greeting()).await?;
    let (message_max, starttls) = (terms.message_max, action.starttls);
    let mut talk = Talk {
        client,
        server,
        dialogue,
        asked,
        bound,
        id,
        starttls,
        message_max,
        imap: terms.imap(),
        refused: None,
        has_asked: false,
    };
    let mut room = Zeroizing::new([0; READ_BYTES]);
    loop {
        let read = talk.client.read(&mut room[..]).await;
        let count = read.map_err(|error| Failure::downstream(Cause::Socket(error)))?;
        if count == 0 {
            return Err(left(talk.refused).into());
        }
        let mut input = room.get(..count).unwrap_or_default();
        while let Some(step) = talk.dialogue.step(&mut input) {
            record.logins_refused(talk.dialogue.logins_refused());
            if let Some(agreed) = talk.take(step, input).await? {
                return Ok(agreed);
            }
        }
    }
}

/// Both dialogues on their sockets.
struct Talk<'a> {
    client: &'a mut TcpStream,
    server: &'a mut TcpStream,
    dialogue: ClientDialogue,
    asked: ServerDialogue,
    bound: Bound,
    id: EventId,
    starttls: StartTls,
    message_max: u64,
    imap: &'a ImapTerms,
    refused: Option<StartTlsRefusal>,
    /// The server was asked for its capabilities. It is asked once.
    has_asked: bool,
}

impl Talk<'_> {
    /// Do what a step of the client's asks for; `rest` stands behind it.
    async fn take(&mut self, step: ClientStep, rest: &[u8]) -> Result<Option<Agreed>, Parting> {
        match step {
            ClientStep::Reply(reply) => say(self.client, &reply).await?,
            ClientStep::End { reply: words, fault } => {
                let cause = fault.map(|fault| Failure::downstream(Cause::ClearClient(fault)));
                return Err(Parting { words, failure: cause.unwrap_or_else(|| left(self.refused)) });
            }
            ClientStep::StartTls if rest.is_empty() => return self.start_tls().await,
            // More octets stand behind it: the next step ends the session.
            ClientStep::StartTls => {}
            ClientStep::Capability { tag } => {
                if !self.has_asked {
                    self.has_asked = true;
                    let words = self.asked.capability().unwrap_or_default();
                    ask(self.server, &mut self.asked, &words, self.bound, self.id).await?;
                }
                let shows_starttls = self.starttls != StartTls::Strip;
                let list =
                    shown_capabilities(self.asked.listed(), self.message_max, self.imap, shows_starttls);
                say(self.client, &capabilities_listed(&tag, &list)).await?;
            }
            ClientStep::HandOver { begun } => {
                self.between_lines().await?;
                let first = [&begun, rest].concat().into();
                return Ok(Some(Agreed::ClearText { first, capabilities: self.asked.listed().to_vec() }));
            }
        }
        Ok(None)
    }

    /// The client waits for the answer to STARTTLS.
    async fn start_tls(&mut self) -> Result<Option<Agreed>, Parting> {
        if self.starttls == StartTls::Strip {
            let reply = self.dialogue.starttls_refused(STARTTLS_STRIPPED);
            say(self.client, &reply.unwrap_or_default()).await?;
            return Ok(None);
        }
        let words = self.asked.starttls().unwrap_or_default();
        match ask(self.server, &mut self.asked, &words, self.bound, self.id).await? {
            ServerStep::Refused(refusal) => {
                self.refused = Some(refusal);
                let words = words_of(&Failure::upstream(Cause::StartTlsRefused(refusal)), self.id);
                let reply = self.dialogue.starttls_refused(&words);
                say(self.client, &reply.unwrap_or_default()).await?;
                Ok(None)
            }
            _ => {
                nothing_behind(self.client, self.server, &mut self.dialogue, &mut self.asked, self.id)?;
                let ready = std::mem::take(&mut self.dialogue).starttls_ready().unwrap_or_default();
                say(self.client, &ready).await?;
                Ok(Some(Agreed::Tls))
            }
        }
    }

    /// Read the rest of a line that the server has begun: nobody could make anything of it.
    async fn between_lines(&mut self) -> Result<(), Parting> {
        while !self.asked.is_between_lines() {
            let reading = async {
                let mut room = [0; 1];
                read(self.server, &mut self.asked, &mut room).await.map_err(Failure::upstream)
            };
            if let Err(failure) = self.bound.within(Side::Upstream, reading).await {
                return Err(Parting { words: goodbye(&failure, self.id), failure });
            }
        }
        Ok(())
    }
}

fn left(refused: Option<StartTlsRefusal>) -> Failure {
    match refused {
        Some(refusal) => Failure::upstream(Cause::StartTlsRefused(refusal)),
        None => Failure::downstream(Cause::NoStartTls),
    }
}

/// Send the server a command, and read until it is answered.
async fn ask(
    server: &mut TcpStream,
    dialogue: &mut ServerDialogue,
    words: &[u8],
    bound: Bound,
    id: EventId,
) -> Result<ServerStep, Parting> {
    let asked = async {
        server.write_all(words).await.map_err(Cause::Socket)?;
        answer(server, dialogue).await
    };
    let asked = async { asked.await.map_err(Failure::upstream) };
    bound
        .within(Side::Upstream, asked)
        .await
        .map_err(|failure| Parting { words: goodbye(&failure, id), failure })
}

/// Clear text that either side sent behind its STARTTLS line ends the session (CVE-2011-0411 and its kin).
fn nothing_behind(
    client: &TcpStream,
    server: &TcpStream,
    dialogue: &mut ClientDialogue,
    asked: &mut ServerDialogue,
    id: EventId,
) -> Result<(), Parting> {
    let mut room = [0; READ_BYTES];
    if let Err(fault) = asked.receive(arrived(server, &mut room)) {
        let failure = Failure::upstream(Cause::ClearServer(fault));
        return Err(Parting { words: goodbye(&failure, id), failure });
    }
    let mut input = arrived(client, &mut room);
    if let Some(ClientStep::End { reply: words, fault }) = dialogue.step(&mut input) {
        let cause = fault.map_or(Cause::NoStartTls, Cause::ClearClient);
        return Err(Parting { words, failure: Failure::downstream(cause) });
    }
    Ok(())
}

/// The octets of a peer that the kernel holds at this moment. recv(2) reads them, not tokio: tokio's readiness is that
/// of the reactor's last turn, and the read of the line before has just cleared it.
fn arrived<'a>(socket: &TcpStream, room: &'a mut [u8; READ_BYTES]) -> &'a [u8] {
    // The next read reports an end or an error of the socket.
    let count = match recv(socket, &mut room[..], RecvFlags::DONTWAIT) {
        Ok((_, count)) => count,
        Err(_) => 0,
    };
    room.get(..count).unwrap_or_default()
}

async fn say(client: &mut TcpStream, words: &[u8]) -> Result<(), Parting> {
    client.write_all(words).await.map_err(|error| Failure::downstream(Cause::Socket(error)).into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    use super::*;

    fn id() -> EventId {
        EventId::at(SystemTime::now())
    }

    /// A socket of ours in tokio's hands, and its peer, who is not.
    fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nodelay(true).unwrap();
        let ours = listener.accept().unwrap().0;
        ours.set_nonblocking(true).unwrap();
        (TcpStream::from_std(ours).unwrap(), peer)
    }

    /// Until the kernel holds octets for this socket. Blocks the thread, so that tokio's reactor hears nothing of it.
    fn queued(socket: &TcpStream) {
        let mut room = [0; 1];
        while recv(socket, &mut room, RecvFlags::DONTWAIT | RecvFlags::PEEK).is_err() {
            std::thread::yield_now();
        }
    }

    /// Both sides at the moment when the server has just agreed.
    async fn agreed() -> (ClientDialogue, ServerDialogue, [(TcpStream, std::net::TcpStream); 2]) {
        let (mut client, mut server) = (pair(), pair());
        let mut dialogue = ClientDialogue::new();
        client.1.write_all(b"a STARTTLS\r\n").unwrap();
        let mut room = [0; READ_BYTES];
        let count = client.0.read(&mut room).await.unwrap();
        let mut input = &room[..count];
        assert!(matches!(dialogue.step(&mut input), Some(ClientStep::StartTls)));
        server.1.write_all(b"* OK ready\r\n").unwrap();
        let mut asked = greeted(&mut server.0).await.unwrap();
        server.1.write_all(b"P1 OK begin\r\n").unwrap();
        let limit = Duration::from_secs(60);
        let bound = Bound { deadline: Instant::now() + limit, limit };
        let words = asked.starttls().unwrap();
        let step = ask(&mut server.0, &mut asked, &words, bound, id()).await.unwrap();
        assert_eq!(step, ServerStep::Accepted);
        (dialogue, asked, [client, server])
    }

    #[tokio::test]
    async fn clear_text_that_arrives_behind_the_servers_ok_in_a_segment_of_its_own_is_seen() {
        let (mut dialogue, mut asked, [client, mut server]) = agreed().await;
        server.1.write_all(b"* CAPABILITY IMAP4rev1\r\n").unwrap();
        queued(&server.0);
        let parting = nothing_behind(&client.0, &server.0, &mut dialogue, &mut asked, id()).unwrap_err();
        assert_eq!(parting.failure.reason(), "starttls_injected");
        assert!(parting.words.starts_with(b"* BYE"));
    }

    #[tokio::test]
    async fn commands_that_arrive_behind_the_clients_starttls_in_a_segment_of_their_own_are_seen() {
        let (mut dialogue, mut asked, [mut client, server]) = agreed().await;
        client.1.write_all(b"b NOOP\r\n").unwrap();
        queued(&client.0);
        let parting = nothing_behind(&client.0, &server.0, &mut dialogue, &mut asked, id()).unwrap_err();
        assert_eq!(parting.failure.reason(), "starttls_pipelined");
    }

    #[tokio::test]
    async fn a_server_and_a_client_that_wait_for_tls_may_begin_it() {
        let (mut dialogue, mut asked, [client, server]) = agreed().await;
        assert!(nothing_behind(&client.0, &server.0, &mut dialogue, &mut asked, id()).is_ok());
    }
}
