//! Uploads: what is clean arrives at the server as it was sent, what is forbidden never gets there.

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::corpus::{Sample, clean, hostile};
use postern_tests::fetched::Reply;
use postern_tests::mail_server::{Path, Server};
use postern_tests::mediated::{Bench, whole};
use postern_tests::whole_folder::Reader;

/// Longest literal that LITERAL- sends without being asked (RFC 7888).
const LITERAL_MINUS_BYTES_MAX: usize = 4096;

/// How many messages the folder has, asked behind Postern's back.
fn count(bench: &Bench, server: Server, folder: &str) -> Result<usize> {
    let reply = bench.session(server, Path::Direct)?.exchange(&format!("STATUS {folder} (MESSAGES)"))?;
    let text = String::from_utf8_lossy(&reply.all()).into_owned();
    let (_, digits) = text.split_once("MESSAGES ").with_context(|| text.clone())?;
    Ok(digits.split(')').next().unwrap_or_default().parse()?)
}

/// APPEND without waiting: `{n+}`.
fn upload_at_once(session: &mut Session, folder: &str, message: &[u8]) -> Result<Reply> {
    let tag = session.send_command(&format!("APPEND {folder} (\\Seen) {{{}+}}", message.len()))?;
    session.send(message)?;
    session.send(b"\r\n")?;
    session.reply(&tag)
}

/// Whether the session offers to take literals at once.
fn takes_at_once(session: &mut Session) -> Result<bool> {
    let offered = session.exchange("CAPABILITY")?.all();
    let offered = String::from_utf8_lossy(&offered).to_uppercase();
    Ok(offered.contains("LITERAL"))
}

#[test]
fn clean_messages_arrive_at_the_server_as_without_postern() -> Result<()> {
    let bench = Bench::get()?;
    let samples = clean();
    for server in Server::ALL {
        let direct = bench.folder(server, &samples)?;
        let folder = bench.folder(server, &[])?;
        let mut session = bench.session(server, Path::Through)?;
        let at_once = takes_at_once(&mut session)?;
        for sample in &samples {
            let small = sample.octets.len() <= LITERAL_MINUS_BYTES_MAX;
            let reply = if at_once && small {
                upload_at_once(&mut session, &folder, &sample.octets)?
            } else {
                // As Thunderbird does, which waits for the continuation of every message.
                session.upload(&folder, "(\\Seen) \"24-Nov-2026 08:00:00 +0000\" ", &sample.octets)?
            };
            ensure!(reply.is_ok(), "{server:?}, {}: {}", sample.name, reply.tagged);
            session.noop()?;
        }
        let wanted = whole(&mut bench.inside(server, Path::Direct, &direct)?, samples.len())?;
        let got = whole(&mut bench.inside(server, Path::Direct, &folder)?, samples.len())?;
        for (at, sample) in samples.iter().enumerate() {
            ensure!(wanted[at] == got[at], "{server:?}: {} arrived in another way", sample.name);
        }
    }
    Ok(())
}

#[test]
fn a_hostile_message_is_refused_and_the_session_goes_on() -> Result<()> {
    let bench = Bench::get()?;
    let mut wrong = Vec::new();
    for server in Server::ALL {
        let folder = bench.folder(server, &[])?;
        let mut session = bench.session(server, Path::Through)?;
        let at_once = takes_at_once(&mut session)?;
        for sample in hostile() {
            let mut replies = vec![session.upload(&folder, "", &sample.octets)?];
            if at_once && sample.octets.len() <= LITERAL_MINUS_BYTES_MAX {
                replies.push(upload_at_once(&mut session, &folder, &sample.octets)?);
            }
            for reply in replies.iter().filter(|reply| !reply.tagged.starts_with("NO")) {
                wrong.push(format!("{server:?}, {}: {}", sample.name, reply.tagged));
            }
            session.noop().with_context(|| format!("behind {}", sample.name))?;
        }
        let kept = count(&bench, server, &folder)?;
        ensure!(kept == 0, "{server:?} keeps {kept} hostile messages:\n{}", wrong.join("\n"));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn of_several_messages_in_one_command_none_is_taken_when_one_is_hostile() -> Result<()> {
    let bench = Bench::get()?;
    let server = Server::Cyrus;
    let folder = bench.folder(server, &[])?;
    let (good, bad) = (b"Subject: good\r\n\r\nGood.\r\n".as_slice(), postern_tests::corpus::pe_message());
    let mut session = bench.session(server, Path::Through)?;
    for messages in [[good, &bad.octets], [&bad.octets, good]] {
        let mut command = format!("APPEND {folder}").into_bytes();
        let tag = "m1";
        let mut first = tag.as_bytes().to_vec();
        first.push(b' ');
        first.append(&mut command);
        let mut reply = None;
        for message in messages {
            first.extend_from_slice(format!(" {{{}}}\r\n", message.len()).as_bytes());
            session.send(&first)?;
            let line = session.unit()?;
            if !line.starts_with(b"+") {
                reply = Some(String::from_utf8_lossy(&line).into_owned());
                break;
            }
            first = message.to_vec();
        }
        let said = match reply {
            Some(said) => said,
            None => {
                first.extend_from_slice(b"\r\n");
                session.send(&first)?;
                format!("{tag} {}", session.reply(tag)?.tagged)
            }
        };
        ensure!(said.starts_with("m1 NO"), "{said}");
        session.noop()?;
    }
    ensure!(count(&bench, server, &folder)? == 0, "one of them was taken");
    // Both clean: both are taken.
    let text = format!("m2 APPEND {folder} {{{}+}}\r\n", good.len());
    session.send(
        &[text.as_bytes(), good, format!(" {{{}+}}\r\n", good.len()).as_bytes(), good, b"\r\n"].concat(),
    )?;
    session.reply("m2")?.ok()?;
    ensure!(count(&bench, server, &folder)? == 2, "not both were taken");
    Ok(())
}

#[test]
fn mbsync_pushes_what_is_clean_and_goes_on_behind_what_is_not() -> Result<()> {
    let bench = Bench::get()?;
    let bad = postern_tests::corpus::pe_message();
    let good: Vec<Sample> =
        clean().into_iter().filter(|sample| sample.octets.len() < 10_000).take(3).collect();
    for server in Server::ALL {
        let folder = bench.folder(server, &[])?;
        let reader = Reader::new(bench.scene()?, server, Path::Through)?;
        let bare = folder.strip_prefix("INBOX.").unwrap_or(&folder);
        let messages = [&good[0].octets, &bad.octets, &good[1].octets, &good[2].octets];
        let outcome = reader.push(bare, &messages.map(Vec::as_slice))?;
        ensure!(!outcome.success, "{server:?}: mbsync did not notice: {}", outcome.said);
        let kept = whole(&mut bench.inside(server, Path::Direct, &folder)?, good.len())
            .with_context(|| format!("{server:?}: {}", outcome.said))?;
        ensure!(!kept.iter().any(|message| bad.is_in(message)), "{server:?} got it");
    }
    Ok(())
}
