//! The end of the demonstration: Postern judges, and a mailbox is hostile. What is shown is checked.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{self, Session};
use postern_tests::corpus::{Sample, clean, eicar_message, hostile_large, make, pe_message};
use postern_tests::fetched::Reply;
use postern_tests::lab::{Family, Lab};
use postern_tests::netns::Namespace;
use postern_tests::pki::{self, Authority};
use postern_tests::postern::{Installation, Policy, Postern};
use postern_tests::record::Record;
use postern_tests::wait::{self, PATIENCE};
use rustix::process::Signal;
use serde_json::Value;

use crate::{Running, hidden, step};

/// The clean message, by its name in the corpus: texts within texts, and a PDF.
const CLEAN: &str = "alternative in mixed";
/// Octets of what stands in front of the program in the message that is read in pieces, before base64.
const LARGE_BYTES: usize = 200_000;
/// Octets of a piece: Thunderbird's first.
const PIECE_BYTES: usize = 65_536;
/// Octets of forbidden content that are shown. All of the test virus would alarm whoever scans this text.
const SHOWN_BYTES: usize = 27;
/// What a client reads in place of a removed part begins so.
const DENIED: &str = "[This attachment was removed by the mail gateway. Reason: ";

/// A message in the mailbox.
struct Mail {
    uid: u32,
    what: &'static str,
    sample: Sample,
    /// The reason that the client is told, and the rule in the record; none of a clean one.
    denied: Option<(&'static str, &'static str)>,
}

/// The two ways to the mailbox.
struct Mailbox {
    /// A client beside the server, which trusts the server's own authority.
    direct: Session,
    /// The client behind Postern.
    through: Session,
}

/// Everything that takes part.
pub(crate) struct Stage<'s> {
    pub(crate) lab: &'s Lab,
    pub(crate) roots: &'s Authority,
    pub(crate) installation: &'s Installation,
    pub(crate) postern: Postern<'s>,
    pub(crate) running: &'s Running,
}

impl<'s> Stage<'s> {
    /// Show it. Returns the daemon, which is another one by then, and the UID of the message with the program.
    pub(crate) fn show(self) -> Result<(Postern<'s>, u32)> {
        let [clean, _, program, _] = self.first_session()?;
        self.come_again("The client comes again", &clean)?;
        let stage = self.restart()?;
        stage.come_again("Postern is stopped and started, and the client comes again", &clean)?;
        Ok((stage.postern, program.uid))
    }

    fn first_session(&self) -> Result<[Mail; 4]> {
        self.judge()?;
        let direct = self.session(&self.lab.server, self.roots.pem())?;
        let through = self.session(&self.lab.client, self.installation.authority_pem())?;
        let mut mailbox = Mailbox { direct, through };
        let mails = fill(&mut mailbox.direct)?;
        for session in [&mut mailbox.direct, &mut mailbox.through] {
            session.exchange("SELECT INBOX")?.ok()?;
        }
        let [_, virus, program, large] = &mails;
        part(&mut mailbox, virus)?;
        part(&mut mailbox, program)?;
        whole(&mut mailbox, &mails)?;
        self.pieces(&mut mailbox, large)?;
        self.upload(&mut mailbox, &large.sample)?;
        let ended = self.end(mailbox.through)?;
        self.verdicts(&mails, &ended)?;
        let mut through = self.session(&self.lab.client, self.installation.authority_pem())?;
        through.exchange("SELECT INBOX")?.ok()?;
        hidden::show(&mut mailbox.direct, &mut through, &self.postern)?;
        self.end(through)?;
        Ok(mails)
    }

    /// The client comes again, and the clean message is known: it is compared with what was judged, not judged.
    fn come_again(&self, when: &str, mail: &Mail) -> Result<()> {
        let Mail { uid, sample, .. } = mail;
        step(&format!("{when}: UID FETCH {uid} BODY.PEEK[]"))?;
        let mut session = self.session(&self.lab.client, self.installation.authority_pem())?;
        session.exchange("SELECT INBOX")?.ok()?;
        let arrived = fetch(&mut session, *uid, "BODY.PEEK[]")?;
        ensure!(arrived == sample.octets, "the clean message {uid} was changed");
        let ended = self.end(session)?;
        let [verified, judged] =
            ["verified", "judged"].map(|what| ended.number(&format!("postern.content.{what}")));
        ensure!(
            (verified, judged) == (1, 0),
            "message {uid} should be known, but {verified} messages were verified and {judged} parts judged: {ended:#?}"
        );
        println!(
            "message {uid:<9} {:>6} octets: known, and the same as when it was judged ({verified} verified, {judged} \
             parts judged)",
            arrived.len()
        );
        Ok(())
    }

    /// The daemon is stopped and started. What it knows of mail stands in its state directory.
    fn restart(self) -> Result<Self> {
        let Self { lab, roots, installation, postern, running } = self;
        postern.stop()?;
        Ok(Self { lab, roots, installation, postern: installation.start(&lab.gateway)?, running })
    }

    /// LOGOUT, and the session's record.
    fn end(&self, session: Session) -> Result<Record> {
        let before = self.postern.records()?.len();
        session.logout()?;
        self.postern.wait_records(before + 1)?.pop().context("no record")
    }

    /// The same daemon, with another configuration.
    fn judge(&self) -> Result<()> {
        let rules = "inspect = \"full\"";
        let names = "names = [\"*.exe\"]";
        step(&format!("A hostile mailbox, and Postern judges: {rules}, {names}"))?;
        let policy = Policy::new().action(rules).table(&format!("[action.content]\n{names}"));
        self.installation.configure(&policy)?;
        self.postern.signal(Signal::HUP)?;
        self.postern.wait_log("configuration reloaded")
    }

    fn session(&self, from: &Namespace, roots: &str) -> Result<Session> {
        let config = Arc::new(client::config(pki::trust(roots)?, rustls::ALL_VERSIONS));
        let to = SocketAddr::new(Family::V4.server(), 993);
        let mut session = Session::open(from, to, Family::V4.name(), &config)?;
        session.log_in()?;
        Ok(session)
    }

    /// A client that reads in pieces: the server is asked for the message once.
    fn pieces(&self, mailbox: &mut Mailbox, mail: &Mail) -> Result<()> {
        let Mail { uid, sample, .. } = mail;
        step(&format!("Message {uid} in pieces of {PIECE_BYTES} octets, as clients read large ones"))?;
        let before = self.running.heard()?;
        let (mut message, mut asked) = (Vec::new(), Vec::new());
        while message.len() < sample.octets.len() {
            let items = format!("BODY.PEEK[]<{}.{PIECE_BYTES}>", message.len());
            let piece = fetch(&mut mailbox.through, *uid, &items)?;
            ensure!(!piece.is_empty(), "nothing came of {items}");
            message.extend(piece);
            asked.push(items);
        }
        sample.arrived_as(&sample.octets, &message)?;
        let (first, last) = (asked.first().context("no piece")?, asked.last().context("no piece")?);
        println!("client asks       {} x UID FETCH {uid} {first}", asked.len());
        println!("                      to UID FETCH {uid} {last}");
        let again = asked.len() - 1;
        let command = format!("UID FETCH {uid} (BODY.PEEK[])");
        let check = format!("UID FETCH {uid} (BODY.PEEK[]<0.1>)");
        let heard = wait::until("the server's log of it", PATIENCE, || {
            let heard = self.running.heard_since(&before)?;
            Ok((heard.len() >= asked.len()).then_some(heard))
        })?;
        let count = |wanted: &String| heard.iter().filter(|line| *line == wanted).count();
        ensure!(
            (count(&command), count(&check), heard.len()) == (1, again, asked.len()),
            "the server was not asked once for the message and {again} times for its first octet: {heard:#?}"
        );
        println!("server is asked   1 x {command}");
        println!("                  {again} x {check}, whether it is still the same");
        println!("put together      {} octets, the whole message as above", message.len());
        Ok(())
    }

    /// A client that uploads what is forbidden, and nothing of it gets to the server.
    fn upload(&self, mailbox: &mut Mailbox, sample: &Sample) -> Result<()> {
        let octets = &sample.octets;
        step(&format!("The client uploads a program, APPEND INBOX {{{}}}", octets.len()))?;
        let count = |session: &mut Session| -> Result<String> {
            let reply = session.exchange("STATUS INBOX (MESSAGES)")?.ok()?;
            Ok(String::from_utf8_lossy(&reply.units.concat()).trim_end().to_owned())
        };
        let before = count(&mut mailbox.direct)?;
        let session = &mut mailbox.through;
        let tag = session.send_command(&format!("APPEND INBOX {{{}}}", octets.len()))?;
        let go = session.line()?;
        ensure!(go.starts_with('+'), "no continuation but {go:?}");
        let (half, rest) = octets.split_at(octets.len() / 2);
        session.send(half)?;
        wait::until("half the message to be held", PATIENCE, || {
            let status = self.postern.status()?;
            let held = status.pointer("/held/octets").and_then(Value::as_u64).context("no /held/octets")?;
            Ok((held >= half.len() as u64).then_some(()))
        })?;
        println!("half of it sent   postern status: {}", self.held()?);
        session.send(rest)?;
        session.send(b"\r\n")?;
        let reply = session.reply(&tag)?;
        ensure!(reply.tagged.starts_with("NO "), "the upload was answered {:?}", reply.tagged);
        println!("all of it sent    {}", reply.tagged);
        let after = count(&mut mailbox.direct)?;
        ensure!(before == after, "the server's mailbox changed: {before:?}, then {after:?}");
        println!("server            {after}, as before");
        Ok(())
    }

    /// The line of `postern status` about what is held.
    fn held(&self) -> Result<String> {
        let said = self.installation.command(&self.lab.gateway, &["status"])?;
        let line = said.stdout.lines().find(|line| line.starts_with("held "));
        let words = line.with_context(|| format!("no word about what is held: {said:?}"))?.split_whitespace();
        Ok(words.collect::<Vec<_>>().join(" "))
    }

    /// The records of what was removed and refused, and of the session.
    fn verdicts(&self, mails: &[Mail], ended: &Record) -> Result<()> {
        step("Postern's verdicts (content_verdict), one for each time that something was judged")?;
        println!(
            "{:<7}{:<9}{:<5}{:<6}{:<11}{:<7}{:<8}direction",
            "user", "mailbox", "uid", "part", "file", "rule", "action"
        );
        let verdicts = self.postern.verdicts()?;
        for verdict in &verdicts {
            let uid = match verdict.number("postern.uid") {
                0 => "none".to_owned(),
                uid => uid.to_string(),
            };
            let [user, mailbox, part, file, rule, action, direction] = [
                "user.name",
                "postern.mailbox",
                "postern.part",
                "file.name",
                "rule.name",
                "postern.action",
                "postern.direction",
            ]
            .map(|key| verdict.text(key));
            println!("{user:<7}{mailbox:<9}{uid:<5}{part:<6}{file:<11}{rule:<7}{action:<8}{direction}");
        }
        for mail in mails {
            let of_mail =
                verdicts.iter().filter(|verdict| verdict.number("postern.uid") == u64::from(mail.uid));
            let rules: Vec<&str> = of_mail.map(|verdict| verdict.text("rule.name")).collect();
            let wanted = mail.denied.map(|(_, rule)| rule);
            ensure!(
                rules.iter().all(|&rule| Some(rule) == wanted) && rules.is_empty() == wanted.is_none(),
                "message {} should have verdicts by the rule {wanted:?}, not by {rules:?}",
                mail.uid
            );
        }
        let refused = verdicts.iter().filter(|verdict| verdict.text("postern.action") == "refuse").count();
        ensure!(refused == 1, "one upload was refused, and {refused} verdicts say so");
        let of_session = |verdict: &Record| verdict.text("event.id") == ended.text("event.id");
        ensure!(verdicts.iter().all(of_session), "a verdict belongs to no session: {verdicts:#?}");
        let [judged, removed, refused] =
            ["judged", "removed", "refused"].map(|what| ended.number(&format!("postern.content.{what}")));
        ensure!(
            judged > removed && removed > 0 && refused == 1,
            "the session's record counts otherwise: {ended:#?}"
        );
        println!(
            "\nsession's record  {judged} parts judged, {removed} overwritten, {refused} message refused"
        );
        println!("postern status    {}", self.held()?);
        Ok(())
    }
}

/// Put the messages into the mailbox, behind Postern's back.
fn fill(direct: &mut Session) -> Result<[Mail; 4]> {
    let clean = clean().into_iter().find(|sample| sample.name == CLEAN).context("no clean message")?;
    let mut mails = [
        (clean, "clean: two texts and a PDF", None),
        (
            eicar_message(),
            "part 2 is a test virus, eicar.com",
            Some(("it contains a test virus (EICAR)", "eicar")),
        ),
        (
            pe_message(),
            "part 2 is a program, setup.exe",
            Some(("files with names like *.exe are not allowed", "names")),
        ),
        (
            hostile_large(LARGE_BYTES),
            "part 2 is a program, behind a large part 1",
            Some(("files with names like *.exe are not allowed", "names")),
        ),
    ]
    .map(|(sample, what, denied)| Mail { uid: 0, what, sample, denied });
    for mail in &mut mails {
        mail.uid = uid_of(&direct.upload("INBOX", "", &mail.sample.octets)?.ok()?)?;
        println!("message {:<9} {}", mail.uid, mail.what);
    }
    Ok(mails)
}

/// What both clients get of part 2.
fn part(mailbox: &mut Mailbox, mail: &Mail) -> Result<()> {
    let Mail { uid, sample, .. } = mail;
    step(&format!("Part 2 of message {uid}, UID FETCH {uid} BODY.PEEK[2], decoded"))?;
    let direct = fetch(&mut mailbox.direct, *uid, "BODY.PEEK[2]")?;
    ensure!(sample.is_in(&direct), "a direct client did not get what is forbidden");
    let arrived = fetch(&mut mailbox.through, *uid, "BODY.PEEK[2]")?;
    ensure!(!sample.is_in(&arrived), "what is forbidden came through Postern");
    let (was, is) = (make::base64_decode(&direct), make::base64_decode(&arrived));
    let text = String::from_utf8_lossy(&is);
    let (text, (reason, _)) = (text.trim_end(), mail.denied.context("nothing is forbidden in it")?);
    ensure!(text == format!("{DENIED}{reason}.]"), "in its place came {text:?}");
    ensure!(direct.len() == arrived.len(), "{} octets became {}", direct.len(), arrived.len());
    let plain = |octet: &u8| if octet.is_ascii_graphic() { char::from(*octet) } else { '.' };
    let begin: String = was.iter().take(SHOWN_BYTES).map(plain).collect();
    println!("direct            {begin}... ({} octets)", was.len());
    println!("behind Postern    {text}");
    Ok(())
}

/// Whole messages: the clean one unchanged, of the others every octet but the removed part.
fn whole(mailbox: &mut Mailbox, mails: &[Mail]) -> Result<()> {
    step("Whole messages behind Postern, compared with what a direct client gets: UID FETCH n BODY.PEEK[]")?;
    for Mail { uid, sample, denied, .. } in mails {
        let direct = fetch(&mut mailbox.direct, *uid, "BODY.PEEK[]")?;
        ensure!(direct == sample.octets, "the server does not serve message {uid} as it was put there");
        let arrived = fetch(&mut mailbox.through, *uid, "BODY.PEEK[]")?;
        let removed: usize = sample.leaves.iter().map(std::ops::Range::len).sum();
        let said = match denied {
            None => {
                ensure!(direct == arrived, "the clean message {uid} was changed");
                "the same, byte for byte".to_owned()
            }
            Some(_) => {
                sample.arrived_as(&direct, &arrived)?;
                format!("the same length and octets, but for the {removed} of part 2")
            }
        };
        println!("message {uid:<9} {:>6} octets: {said}", arrived.len());
    }
    Ok(())
}

/// The UID of an uploaded message (APPENDUID, RFC 4315).
pub(crate) fn uid_of(reply: &Reply) -> Result<u32> {
    let uid = reply.tagged.split_once("[APPENDUID ").and_then(|(_, rest)| {
        rest.split_once(']').and_then(|(words, _)| words.split(' ').nth(1)?.parse().ok())
    });
    uid.with_context(|| format!("no UID: {}", reply.tagged))
}

/// One item of one message.
pub(crate) fn fetch(session: &mut Session, uid: u32, item: &str) -> Result<Vec<u8>> {
    let command = format!("UID FETCH {uid} {item}");
    let reply = session.exchange(&command)?.ok()?;
    let fetched = reply.fetched()?.into_iter().find(|fetched| fetched.uid() == Some(uid));
    let content = fetched.as_ref().and_then(|fetched| fetched.content("BODY["));
    Ok(content.with_context(|| format!("{command} brought {reply:?}"))?.to_vec())
}
