//! Random FETCHes on twin mailboxes, directly and through Postern: the same items, values and flags.

use anyhow::{Context as _, Result, ensure};
use postern_tests::corpus::make::Random;
use postern_tests::corpus::{Sample, clean};
use postern_tests::fetched::{Fetched, Reply};
use postern_tests::mail_server::{Path, Server};
use postern_tests::mediated::Bench;

/// Commands for each server.
const COMMANDS: usize = 250;
/// Change it to see other commands; a failure names the command.
const SEED: u64 = 10;

/// Sections that exist in some message, or in none.
const SECTIONS: &[&str] = &[
    "",
    "1",
    "2",
    "1.1",
    "1.2",
    "2.1",
    "3",
    "02",
    "1.MIME",
    "2.MIME",
    "1.1.MIME",
    "HEADER",
    "TEXT",
    "1.HEADER",
    "1.TEXT",
    "2.HEADER",
    "2.TEXT",
    "2.1.MIME",
    "HEADER.FIELDS (SUBJECT from)",
    "HEADER.FIELDS.NOT (Subject)",
    "HEADER.FIELDS (\"Date\")",
    "1.HEADER.FIELDS (Subject)",
    "40",
    "41",
    "9.9",
];
/// Items without content.
const PLAIN: &[&str] = &["UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY"];

fn item(random: &mut Random) -> String {
    match random.below(10) {
        0..3 => (*random.pick(PLAIN)).to_owned(),
        3 => (*random.pick(&["RFC822", "RFC822.HEADER", "RFC822.TEXT"])).to_owned(),
        _ => {
            let form = *random.pick(&["BODY", "BODY.PEEK", "body.peek", "Body"]);
            let section = *random.pick(SECTIONS);
            let partial = match random.below(3) {
                0 => {
                    let start = *random.pick(&[0, 1, 7, 100, 250, 5000]);
                    format!("<{start}.{}>", random.pick(&[1, 2, 50, 1000, 100_000]))
                }
                _ => String::new(),
            };
            format!("{form}[{section}]{partial}")
        }
    }
}

fn command(random: &mut Random, messages: u64) -> String {
    if random.below(12) == 0 {
        let flag = random.pick(&["\\Seen", "\\Flagged", "\\Answered"]);
        let sign = random.pick(&["+", "-"]);
        return format!("STORE {} {sign}FLAGS ({flag})", 1 + random.below(messages));
    }
    let number = |random: &mut Random| (1 + random.below(messages)).to_string();
    let set = match random.below(8) {
        0 => format!("{}:{}", number(random), number(random)),
        1 => format!("{},{}", number(random), number(random)),
        2 => "*".to_owned(),
        _ => number(random),
    };
    let uid = random.pick(&["", "UID "]);
    if random.below(15) == 0 {
        return format!("{uid}FETCH {set} {}", random.pick(&["ALL", "FAST", "FULL"]));
    }
    let items: Vec<String> = (0..=random.below(3)).map(|_| item(random)).collect();
    if items.len() == 1 && random.below(2) == 0 {
        return format!("{uid}FETCH {set} {}", items.concat());
    }
    format!("{uid}FETCH {set} ({})", items.join(" "))
}

/// What a client sees of a reply: its FETCH responses in order, items sorted, and whether it was done.
fn seen(reply: &Reply) -> Result<(Vec<Fetched>, String)> {
    let fetched = reply.fetched()?.into_iter().map(Fetched::sorted).collect();
    let word = reply.tagged.split_whitespace().next().unwrap_or_default().to_owned();
    Ok((fetched, word))
}

fn twins(server: Server) -> Result<()> {
    let bench = Bench::get()?;
    let samples: Vec<Sample> = clean().into_iter().filter(|sample| sample.octets.len() < 100_000).collect();
    let [one, other] = [bench.folder(server, &samples)?, bench.folder(server, &samples)?];
    let mut direct = bench.inside(server, Path::Direct, &one)?;
    let mut through = bench.inside(server, Path::Through, &other)?;
    let mut random = Random::new(SEED);
    let mut content = 0;
    for number in 0..COMMANDS {
        let command = command(&mut random, samples.len() as u64);
        let (wanted, got) = (direct.exchange(&command)?, through.exchange(&command)?);
        let (wanted, got) = (seen(&wanted)?, seen(&got)?);
        content += wanted.0.iter().filter(|one| one.content("BODY[").is_some()).count();
        ensure!(wanted == got, "command {number}, {command}:\n{wanted:?}\nbecame\n{got:?}");
    }
    ensure!(content > COMMANDS / 4, "only {content} of the answers had content");
    let flags = "FETCH 1:* (FLAGS)";
    let (wanted, got) = (direct.exchange(flags)?, through.exchange(flags)?);
    ensure!(seen(&wanted)? == seen(&got)?, "flags:\n{wanted:?}\nbecame\n{got:?}");
    Ok(())
}

#[test]
fn random_fetches_from_dovecot_bring_the_same() -> Result<()> {
    twins(Server::Dovecot).context("Dovecot")
}

#[test]
fn random_fetches_from_cyrus_bring_the_same() -> Result<()> {
    twins(Server::Cyrus).context("Cyrus")
}

#[test]
fn random_fetches_from_courier_bring_the_same() -> Result<()> {
    twins(Server::Courier).context("Courier")
}
