//! Clean mailboxes: what arrives through Postern is what arrives without it, octet for octet.

use anyhow::{Context as _, Result, ensure};
use postern_tests::corpus::clean;
use postern_tests::mail_server::{Path, Server};
use postern_tests::mediated::{Bench, whole};
use postern_tests::transcripts::Replay;
use postern_tests::whole_folder::Reader;

#[test]
fn mbsync_imaplib_and_curl_get_a_clean_mailbox_octet_for_octet() -> Result<()> {
    let bench = Bench::get()?;
    let samples = clean();
    for server in Server::ALL {
        let folder = bench.folder(server, &samples)?;
        let kept = whole(&mut bench.inside(server, Path::Direct, &folder)?, samples.len())?;
        let direct = Reader::new(bench.scene()?, server, Path::Direct)?;
        let through = Reader::new(bench.scene()?, server, Path::Through)?;
        let bare = folder.strip_prefix("INBOX.").unwrap_or(&folder);
        ensure!(through.pull(bare)? == direct.pull(bare)?, "{server:?}: mbsync got something else");
        ensure!(through.imaplib(&folder)? == kept, "{server:?}: imaplib got something else");
        for (uid, kept) in (1..).zip(&kept) {
            ensure!(through.curl(&folder, uid)? == *kept, "{server:?}: curl got another message {uid}");
        }
    }
    Ok(())
}

#[test]
fn clients_as_they_fetch_get_a_clean_mailbox_octet_for_octet() -> Result<()> {
    let bench = Bench::get()?;
    let samples = clean();
    for server in Server::ALL {
        let folder = bench.folder(server, &samples)?;
        // Whoever selects it first takes \Recent away from the others.
        bench.inside(server, Path::Direct, &folder)?.logout().ok();
        for replay in Replay::ALL {
            let direct = replay
                .sync(&mut bench.session(server, Path::Direct)?, &folder)
                .with_context(|| format!("{server:?}, directly"))?;
            let through = replay
                .sync(&mut bench.session(server, Path::Through)?, &folder)
                .with_context(|| format!("{server:?}, through Postern"))?;
            for (one, other) in direct.steps.iter().zip(&through.steps) {
                ensure!(one == other, "{server:?}, {replay:?}:\n{one:?}\nbecame\n{other:?}");
            }
            ensure!(direct == through, "{server:?}, {replay:?}: something else arrived");
        }
    }
    Ok(())
}
