//! `action.headers`: fields that the owner removes come overwritten in every view, and all views agree.

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::dovecot::Dovecot;
use postern_tests::fetched::shown;
use postern_tests::lab::{Family, NAME4};
use postern_tests::mail_server::{Path, Server};
use postern_tests::mediated;
use postern_tests::pki::Wanted;
use postern_tests::scene::Scene;
use postern_tests::whole_folder::Reader;

/// Rules of every form. `X-Kept` is named beside the pattern that fits it.
const RULES: &str = "[[action.headers.rule]]\nmatch = \"X-*\"\naction = \"remove\"\n\
     [[action.headers.rule]]\nmatch = \"X-Kept\"\naction = \"allow\"\n\
     [[action.headers.rule]]\nmatch = \"Subject\"\naction = \"remove\"\n\
     [[action.headers.rule]]\nmatch = \"CC\"\naction = \"remove\"\n\
     [[action.headers.rule]]\nmatch = \"Content-Description\"\naction = \"remove\"\n\
     [[action.headers.rule]]\nmatch = \"Content-ID\"\naction = \"remove\"\n";

/// What stands in no field that is removed.
const KEPT: &str = "kept-word";
/// What stands in fields that are removed, and nowhere else.
const SECRET: &str = "secret-word";

/// Messages with removed fields in each header that they have.
fn messages() -> Vec<Vec<u8>> {
    let fields = format!(
        "Date: Tue, 24 Nov 2026 08:00:00 +0000\r\nFrom: Joe {KEPT} <joe@example.org>\r\nTo: kept-word@example.org\r\n\
         cc: \"{SECRET} \\\"q\\\"\" <{SECRET}@example.org>,\r\n {SECRET} <b@{SECRET}.example>\r\n\
         Subject: {SECRET} of\r\n\t{SECRET} =?utf-8?q?{SECRET}?=\r\nX-Kept: {KEPT}\r\nX-Secret:\r\n {SECRET}\r\n\
         x-secret: {SECRET}\r\nMessage-ID: <kept-word@example.org>\r\nMIME-Version: 1.0\r\n"
    );
    let part = format!(
        "Content-Description: {SECRET}\r\nContent-ID: <{SECRET}@example.org>\r\nX-Part: {SECRET}\r\n"
    );
    let text = format!("{part}Content-Type: text/plain\r\n\r\nX-Secret: {KEPT}\r\n\r\nSubject: {KEPT}\r\n");
    let nested = format!(
        "{fields}Content-Type: multipart/alternative; boundary=inner\r\n\r\n--inner\r\n{text}--inner\r\n{text}--inner--\r\n"
    );
    let mixed = format!(
        "{fields}Content-Type: multipart/mixed; boundary=\"outer\"\r\n\r\nX-Secret: {KEPT}\r\n--outer\r\n{text}\
         --outer\r\n{part}Content-Type: message/rfc822\r\n\r\n{nested}\r\n\
         --outer\r\n{part}Content-Disposition: attachment; filename={KEPT}.txt\r\n\r\n{KEPT}\r\n--outer--\r\n"
    );
    let long = format!("{fields}{}\r\n{KEPT}\r\n", format!("X-Report: {SECRET} and so on\r\n").repeat(3_000));
    let without_text = format!("{fields}\r\n");
    [format!("{fields}\r\nX-Secret: {KEPT}\r\n"), mixed, long, without_text].map(String::into_bytes).to_vec()
}

/// What may be asked for that stands in the message as it is.
const SECTIONS: [&str; 19] = [
    "BODY.PEEK[]",
    "BODY[]",
    "RFC822",
    "RFC822.HEADER",
    "RFC822.TEXT",
    "BODY.PEEK[HEADER]",
    "BODY.PEEK[TEXT]",
    "BODY.PEEK[1]",
    "BODY.PEEK[1.MIME]",
    "BODY.PEEK[2]",
    "BODY.PEEK[2.MIME]",
    "BODY.PEEK[2.HEADER]",
    "BODY.PEEK[2.TEXT]",
    "BODY.PEEK[2.1]",
    "BODY.PEEK[2.1.MIME]",
    "BODY.PEEK[2.2.MIME]",
    "BODY.PEEK[3]",
    "BODY.PEEK[3.MIME]",
    "BODY.PEEK[1.TEXT]",
];

/// The only content of an answer.
fn content(session: &mut Session, number: usize, item: &str) -> Result<Vec<u8>> {
    let reply = session.exchange(&format!("FETCH {number} ({item})"))?.ok()?;
    Ok(reply.octets()?.into_iter().next().unwrap_or_default())
}

fn find(octets: &[u8], wanted: &str) -> usize {
    octets.windows(wanted.len()).filter(|window| window.eq_ignore_ascii_case(wanted.as_bytes())).count()
}

/// Whether octets are those of the server, but for what is removed.
fn ensure_overwritten(direct: &[u8], through: &[u8], what: &str) -> Result<()> {
    ensure!(direct.len() == through.len(), "{what}: {} octets became {}", direct.len(), through.len());
    ensure!(find(through, SECRET) == 0, "{what}: {}", shown(through));
    ensure!(find(direct, KEPT) == find(through, KEPT), "{what}: {}", shown(through));
    let line_ends =
        |octets: &[u8]| -> Vec<bool> { octets.iter().map(|octet| matches!(octet, b'\r' | b'\n')).collect() };
    ensure!(line_ends(direct) == line_ends(through), "{what}: other lines");
    Ok(())
}

/// The field lines of a header in which only some stand.
fn ensure_fields_of(header: &[u8], some: &[u8], what: &str) -> Result<()> {
    for line in some.split(|octet| *octet == b'\n') {
        let stands_there = header.split(|octet| *octet == b'\n').any(|known| known == line);
        ensure!(stands_there, "{what}: {} stands in no other view", shown(line));
    }
    Ok(())
}

struct Lab {
    scene: Scene,
    messages: Vec<Vec<u8>>,
}

impl Lab {
    fn new(rules: &str) -> Result<Self> {
        Ok(Self { scene: Scene::new(&mediated::policy().table(rules))?, messages: messages() })
    }

    /// Dovecot, with the messages in its INBOX.
    fn serve(&self) -> Result<Dovecot> {
        let names = vec![Server::Dovecot.name().to_owned(), NAME4.to_owned()];
        let identity = self.scene.roots.issue(&Wanted { names, ..Wanted::server() })?;
        let hosts =
            format!("127.0.0.1 localhost\n{} {NAME4} {}\n", Family::V4.server(), Server::Dovecot.name());
        self.scene.lab.client.hosts(&hosts)?;
        self.scene.lab.server.hosts(&hosts)?;
        let server = Dovecot::start_alone_at(&self.scene.lab.server, &identity, Server::Dovecot.address())?;
        let mut session = self.scene.mail(Server::Dovecot, Path::Direct)?;
        for message in &self.messages {
            session.upload("INBOX", "", message)?.ok()?;
        }
        // Whoever selects it first takes \Recent away from the others.
        session.exchange("SELECT INBOX")?.ok()?;
        session.logout()?;
        Ok(server)
    }

    fn inbox(&self, path: Path) -> Result<Session> {
        let mut session = self.scene.mail(Server::Dovecot, path)?;
        session.exchange("SELECT INBOX")?.ok()?;
        Ok(session)
    }
}

#[test]
fn a_removed_field_is_overwritten_in_every_view_and_all_views_agree() -> Result<()> {
    let lab = Lab::new(RULES)?;
    let postern = lab.scene.start()?;
    let server = lab.serve()?;
    let (mut direct, mut through) = (lab.inbox(Path::Direct)?, lab.inbox(Path::Through)?);
    // Twice: the second time mail is known.
    for _ in 0..2 {
        for (number, message) in (1..).zip(&lab.messages) {
            let whole = content(&mut through, number, "BODY.PEEK[]")?;
            ensure_overwritten(message, &whole, &format!("message {number}"))?;
            ensure!(find(message, SECRET) > 0, "message {number} has nothing to remove");
            for item in SECTIONS {
                let what = format!("{item} of message {number}");
                let (plain, seen) =
                    (content(&mut direct, number, item)?, content(&mut through, number, item)?);
                ensure_overwritten(&plain, &seen, &what)?;
                let at = message.windows(plain.len().max(1)).position(|window| window == plain);
                let at = at.unwrap_or(message.len());
                // Equal sections stand in several places, and all of them are overwritten alike.
                ensure!(
                    whole.get(at..at + seen.len()).unwrap_or_default() == seen,
                    "{what}: {}",
                    shown(&seen)
                );
            }
            let header = content(&mut through, number, "BODY.PEEK[HEADER]")?;
            for item in
                ["HEADER.FIELDS (X-Secret subject X-Kept)", "HEADER.FIELDS.NOT (To)", "HEADER.FIELDS (CC)"]
            {
                let item = format!("BODY.PEEK[{item}]");
                let (plain, seen) =
                    (content(&mut direct, number, &item)?, content(&mut through, number, &item)?);
                ensure_overwritten(&plain, &seen, &item)?;
                ensure_fields_of(&header, &seen, &item)?;
            }
            for (from, octets) in [(0, 100), (50, 333), (200, 1), (300, 100_000)] {
                for section in ["", "HEADER"] {
                    let seen =
                        content(&mut through, number, &format!("BODY.PEEK[{section}]<{from}.{octets}>"))?;
                    let of = if section.is_empty() { &whole } else { &header };
                    let cut = of.get(from..(from + octets).min(of.len())).unwrap_or_default();
                    ensure!(seen == cut, "message {number}, {section} from {from}: {}", shown(&seen));
                }
            }
        }
    }
    through.logout()?;
    drop(server);
    postern.stop()?;
    lab.scene.finish()
}

#[test]
fn envelope_and_structure_show_no_value_of_a_removed_field() -> Result<()> {
    let lab = Lab::new(RULES)?;
    let postern = lab.scene.start()?;
    let server = lab.serve()?;
    let (mut direct, mut through) = (lab.inbox(Path::Direct)?, lab.inbox(Path::Through)?);
    for items in
        ["ENVELOPE", "BODYSTRUCTURE", "BODY", "ALL", "FULL", "(UID ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER])"]
    {
        let command = format!("FETCH 1:* {items}");
        let (plain, seen) = (direct.exchange(&command)?.ok()?, through.exchange(&command)?.ok()?);
        ensure!(plain.units.len() == seen.units.len(), "{items}: {} responses", seen.units.len());
        for (plain, seen) in plain.units.iter().zip(&seen.units) {
            ensure_overwritten(plain, seen, items)?;
        }
    }
    let plain = direct.exchange("FETCH 2 (ENVELOPE BODYSTRUCTURE)")?.ok()?.all();
    ensure!(find(&plain, SECRET) > 10, "the server shows nothing to remove: {}", shown(&plain));
    // The server searches what it has.
    for (command, known) in
        [("SEARCH SUBJECT secret-word", true), ("SEARCH HEADER X-Secret kept-word", false)]
    {
        let found = through.exchange(command)?.ok()?.all();
        ensure!((find(&found, "SEARCH 1 2") > 0) == known, "{command}: {}", shown(&found));
    }
    through.logout()?;
    drop(server);
    postern.stop()?;
    lab.scene.finish()
}

#[test]
fn curl_and_imaplib_get_the_same_overwritten_messages() -> Result<()> {
    let lab = Lab::new(RULES)?;
    let postern = lab.scene.start()?;
    let server = lab.serve()?;
    let reader = Reader::new(&lab.scene, Server::Dovecot, Path::Through)?;
    let seen = reader.imaplib("INBOX")?;
    ensure!(seen.len() == lab.messages.len(), "{} messages came", seen.len());
    for (uid, (seen, message)) in (1..).zip(seen.iter().zip(&lab.messages)) {
        ensure_overwritten(message, seen, "imaplib")?;
        ensure!(reader.curl("INBOX", uid)? == *seen, "curl got another message {uid}");
    }
    drop(server);
    postern.stop()?;
    lab.scene.finish()
}

/// An upload is not changed, so that other rules show it again.
#[test]
fn the_server_keeps_what_a_rule_removes_and_after_a_reload_it_is_seen() -> Result<()> {
    let lab = Lab::new(RULES)?;
    let postern = lab.scene.start()?;
    let server = lab.serve()?;
    let message = lab.messages.first().context("no message")?;
    let mut through = lab.inbox(Path::Through)?;
    through.upload("INBOX", "", message)?.ok()?;
    let number = lab.messages.len() + 1;
    ensure!(
        content(&mut lab.inbox(Path::Direct)?, number, "BODY.PEEK[]")? == *message,
        "the upload was changed"
    );
    let piece = "BODY.PEEK[]<0.900>";
    ensure!(find(&content(&mut through, number, piece)?, SECRET) == 0, "it is shown");
    lab.scene.installation.configure(&mediated::policy())?;
    let said = lab.scene.installation.command(&lab.scene.lab.gateway, &["reload"])?;
    ensure!(said.code == Some(0), "{said:?}");
    ensure!(
        content(&mut through, number, piece)? == *message.get(..900).unwrap_or(message),
        "it is not shown"
    );
    ensure!(content(&mut through, number, "BODY.PEEK[]")? == *message, "it is not shown");
    through.logout()?;
    drop(server);
    postern.stop()?;
    lab.scene.finish()
}
