//! Hostile mailboxes: every octet but the removed leaves.

use anyhow::{Context as _, Result, ensure};
use postern_tests::corpus::{clean, hostile_large};
use postern_tests::fetched::Value;
use postern_tests::mail_server::{Path, Server};
use postern_tests::mediated::{Bench, whole};
use postern_tests::transcripts::Replay;
use postern_tests::whole_folder::Reader;

/// Octets of the attachment before the program, before base64.
const LARGE_BYTES: usize = 2 * 1000 * 1000;

#[test]
fn of_hostile_messages_everything_arrives_but_the_forbidden_leaves() -> Result<()> {
    let bench = Bench::get()?;
    let mut wrong = Vec::new();
    for server in Server::ALL {
        let exhibit = bench.exhibit(server)?;
        for (at, sample) in exhibit.samples.iter().enumerate() {
            let (kept, arrived) = (&exhibit.kept[at], &exhibit.arrived[at]);
            if let Err(error) = sample.arrived_as(kept, arrived) {
                wrong.push(format!("{server:?}: {error:#}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_client_gets_the_same_fill() -> Result<()> {
    let bench = Bench::get()?;
    for server in Server::ALL {
        let exhibit = bench.exhibit(server)?;
        for replay in Replay::ALL.into_iter().filter(|replay| replay.fetches_whole()) {
            let mut session = bench.session(server, Path::Through)?;
            let got = replay.sync(&mut session, &exhibit.folder).with_context(|| format!("{server:?}"))?;
            for (uid, arrived) in (1..).zip(&exhibit.arrived) {
                let message = got.messages.get(&(uid, String::new()));
                ensure!(message == Some(arrived), "{server:?}, {replay:?}: another message {uid}");
            }
        }
        let reader = Reader::new(bench.scene()?, server, Path::Through)?;
        ensure!(reader.imaplib(&exhibit.folder)? == exhibit.arrived, "{server:?}: imaplib");
        ensure!(Some(&reader.curl(&exhibit.folder, 1)?) == exhibit.arrived.first(), "{server:?}: curl");
        let bare = exhibit.folder.strip_prefix("INBOX.").unwrap_or(&exhibit.folder);
        let pulled = reader.pull(bare)?;
        ensure!(pulled.len() == exhibit.arrived.len(), "{server:?}: mbsync got {} messages", pulled.len());
        for message in pulled {
            // mbsync writes its own line ends, so the last one may be missing.
            let known = exhibit.arrived.iter().any(|arrived| arrived.starts_with(&message));
            ensure!(known, "{server:?}: mbsync got a message that nobody else did");
        }
    }
    Ok(())
}

#[test]
fn parts_fetched_one_by_one_hold_nothing_forbidden() -> Result<()> {
    let bench = Bench::get()?;
    for server in Server::ALL {
        let exhibit = bench.exhibit(server)?;
        let mut session = bench.session(server, Path::Through)?;
        let got = Replay::AppleMail.sync(&mut session, &exhibit.folder)?;
        for ((uid, section), octets) in &got.messages {
            let sample = usize::try_from(*uid)?.checked_sub(1).and_then(|at| exhibit.samples.get(at));
            let sample = sample.context("a message that is not there")?;
            ensure!(!sample.is_in(octets), "{server:?}: part {section} of {}", sample.name);
        }
    }
    Ok(())
}

#[test]
fn what_is_told_about_a_message_stays_true() -> Result<()> {
    const ITEMS: &str = "UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY)";
    let bench = Bench::get()?;
    for server in Server::ALL {
        let exhibit = bench.exhibit(server)?;
        // A folder of its own: in the other one clients set \\Seen.
        let folder = bench.folder(server, &exhibit.samples)?;
        whole(&mut bench.inside(server, Path::Direct, &folder)?, exhibit.samples.len())?;
        let direct = bench.inside(server, Path::Direct, &folder)?.exchange(ITEMS)?.fetched()?;
        let through = bench.inside(server, Path::Through, &folder)?.exchange(ITEMS)?.fetched()?;
        ensure!(direct == through, "{server:?}: something else is told");
        for (one, arrived) in through.iter().zip(&exhibit.arrived) {
            let size = Value::Other(arrived.len().to_string().into_bytes());
            ensure!(one.item("RFC822.SIZE") == Some(&size), "{server:?}: {one:?} of {}", arrived.len());
        }
    }
    Ok(())
}

#[test]
fn a_program_behind_a_large_attachment_is_removed_in_thunderbirds_pieces() -> Result<()> {
    let bench = Bench::get()?;
    let sample = hostile_large(LARGE_BYTES);
    for server in Server::ALL {
        let folder = bench.folder(server, std::slice::from_ref(&sample))?;
        let kept = whole(&mut bench.inside(server, Path::Direct, &folder)?, 1)?;
        let got = Replay::Thunderbird.sync(&mut bench.session(server, Path::Through)?, &folder)?;
        let arrived = got.messages.get(&(1, String::new())).context("no message")?;
        sample.arrived_as(&kept[0], arrived).with_context(|| format!("{server:?}"))?;
    }
    Ok(())
}

#[test]
fn a_clean_message_beside_a_hostile_one_is_untouched() -> Result<()> {
    let bench = Bench::get()?;
    let mut samples: Vec<_> = clean().into_iter().filter(|sample| sample.octets.len() < 100_000).collect();
    samples.insert(1, postern_tests::corpus::pe_message());
    for server in Server::ALL {
        let folder = bench.folder(server, &samples)?;
        let kept = whole(&mut bench.inside(server, Path::Direct, &folder)?, samples.len())?;
        let arrived = whole(&mut bench.inside(server, Path::Through, &folder)?, samples.len())?;
        for (at, sample) in samples.iter().enumerate() {
            sample.arrived_as(&kept[at], &arrived[at]).or_else(|error| {
                // A clean one has no leaf that must change.
                if sample.leaves.is_empty() && kept[at] == arrived[at] { Ok(()) } else { Err(error) }
            })?;
        }
    }
    Ok(())
}
