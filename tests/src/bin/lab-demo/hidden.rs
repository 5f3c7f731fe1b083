//! What senders hide in mail: each message is fetched through Postern, and the verdict says what it was.

use anyhow::{Result, ensure};
use postern_tests::client::Session;
use postern_tests::generated::{Generated, evasions, read_by_python};
use postern_tests::postern::Postern;

use crate::step;

/// Of the ways of `tests/corpus/mail_corpus.py`, those that are shown.
const SHOWN: [&str; 10] = [
    "uuencode",
    "TNEF",
    "encoded message",
    "zip in zips",
    "encrypted zip",
    "bomb",
    "HTML smuggling",
    "program named as document",
    "shortcut in a zip",
    "message/partial",
];

/// Put each into the mailbox behind Postern's back, and fetch it through Postern.
pub(crate) fn show(direct: &mut Session, through: &mut Session, postern: &Postern<'_>) -> Result<()> {
    step("What senders hide: each message is fetched through Postern")?;
    let messages: Vec<Generated> = evasions()?
        .filter(|message| message.as_ref().map_or(true, |message| SHOWN.contains(&message.class.as_str())))
        .collect::<Result<_>>()?;
    ensure!(messages.len() == SHOWN.len(), "the generator makes {} of these messages", messages.len());
    let mut arrived = Vec::new();
    println!("{:<27}{:<45}{:<18}in file", "message", "what the reader sees", "rule");
    for message in &messages {
        let reply = direct.upload("INBOX", "", &message.octets)?.ok()?;
        let uid = crate::hostile::uid_of(&reply)?;
        // The client hears of the message.
        through.noop()?;
        let octets = crate::hostile::fetch(through, uid, "BODY.PEEK[]")?;
        ensure!(octets.len() == message.octets.len(), "{}: another length", message.class);
        let verdict = postern.wait_verdict(&message.class, |verdict| {
            verdict.number("postern.uid") == u64::from(uid) && verdict.text("postern.action") == "remove"
        })?;
        println!(
            "{:<27}{:<45}{:<18}{}",
            message.class,
            message.reader,
            verdict.text("rule.name"),
            verdict.text("file.name")
        );
        arrived.push(octets);
    }
    let before = read_by_python(messages.iter().map(|message| message.octets.as_slice()))?;
    let after = read_by_python(arrived.iter().map(Vec::as_slice))?;
    let count = |found: &[String]| found.iter().filter(|found| *found != "nothing").count();
    ensure!(count(&after) == 0, "another reader finds something behind Postern: {after:?}");
    println!(
        "\nPython's parsers of mail and archives find forbidden files in {} of the messages as they were sent, and in none \
         behind Postern",
        count(&before)
    );
    Ok(())
}
