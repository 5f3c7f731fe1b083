//! The three servers and the replayed clients, without Postern: what is asserted later about Postern must not be a
//! property of the lab.

use anyhow::{Context as _, Result, ensure};
use postern_tests::corpus::{Sample, clean, hostile};
use postern_tests::mail_server::{MailServers, Path, Server};
use postern_tests::mediated::whole;
use postern_tests::postern::Policy;
use postern_tests::scene::Scene;
use postern_tests::transcripts::Replay;
use postern_tests::whole_folder::Reader;

/// A folder with these, at this server.
fn fill(scene: &Scene, server: Server, name: &str, samples: &[Sample]) -> Result<String> {
    let folder = server.folder(name);
    let mut session = scene.mail(server, Path::Direct)?;
    session.exchange(&format!("CREATE {folder}"))?.ok()?;
    for sample in samples {
        let reply = session.upload(&folder, "", &sample.octets)?;
        ensure!(reply.is_ok(), "{server:?} refused {}: {}", sample.name, reply.tagged);
    }
    Ok(folder)
}

#[test]
fn the_servers_serve_what_they_were_given_and_every_client_puts_it_together() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let servers = MailServers::start(&scene)?;
    let samples: Vec<Sample> = clean().into_iter().chain(hostile()).collect();
    for server in Server::ALL {
        let folder = fill(&scene, server, "Corpus", &samples)?;
        let mut session = scene.mail(server, Path::Direct)?;
        session.exchange(&format!("EXAMINE {folder}"))?.ok()?;
        let kept = whole(&mut session, samples.len())?;
        for (sample, kept) in samples.iter().zip(&kept) {
            // Servers may end the last line.
            let same = *kept == sample.octets || kept.strip_suffix(b"\r\n") == Some(&sample.octets);
            ensure!(same, "{server:?} keeps {} in another way", sample.name);
        }
        for replay in Replay::ALL {
            let mut session = scene.mail(server, Path::Direct)?;
            let got = replay.sync(&mut session, &folder).with_context(|| format!("{server:?}"))?;
            for (uid, kept) in (1..).zip(&kept) {
                let Some(message) = got.messages.get(&(uid, String::new())) else {
                    ensure!(!replay.fetches_whole(), "{server:?}, {replay:?}: no message {uid}");
                    continue;
                };
                ensure!(kept.starts_with(message), "{server:?}, {replay:?}: another message {uid}");
            }
        }
        let reader = Reader::new(&scene, server, Path::Direct)?;
        ensure!(reader.imaplib(&folder)? == kept, "{server:?}: imaplib got something else");
        ensure!(Some(&reader.curl(&folder, 2)?) == kept.get(1), "{server:?}: curl got something else");
        ensure!(reader.pull("Corpus")?.len() == kept.len(), "{server:?}: mbsync did not get everything");
    }
    drop(servers);
    scene.finish()
}
