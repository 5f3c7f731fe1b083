//! Each way to hide a file, before a real server: what other readers get out of the mail never arrives, and the table of
//! docs/content.md says which rule it is.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use mail_parser::MessageParser;
use postern_tests::client::{Session, Tls};
use postern_tests::corpus::make::eicar;
use postern_tests::dovecot::Dovecot;
use postern_tests::generated::{Generated, evasions, read_by_python};
use postern_tests::lab::Family;
use postern_tests::postern::Policy;
use postern_tests::scene::Scene;

/// The page with the table of evasions.
const PAGE: &str = include_str!("../../docs/content.md");
/// Its heading.
const TABLE: &str = "| evasion | what the reader sees | rule |";

/// The rows of the table: what the reader sees, and the rule.
fn rows() -> Result<BTreeMap<&'static str, (&'static str, &'static str)>> {
    let (_, table) = PAGE.split_once(TABLE).context("docs/content.md has no table of evasions")?;
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows = lines.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [evasion, reader, rule] = cells.as_slice() else {
            anyhow::bail!("a row of other columns: {line}")
        };
        Ok((*evasion, (*reader, rule.trim_matches('`'))))
    });
    rows.collect()
}

/// What mail-parser shows of a message: whether a leaf of it is the test file.
fn shows_test_file(message: &[u8]) -> bool {
    let needle = eicar();
    let parsed = MessageParser::default().parse(message);
    let holds = |octets: &[u8]| octets.windows(needle.len()).any(|window| window == needle);
    parsed.is_some_and(|message| message.parts.iter().any(|part| holds(part.contents())))
}

#[test]
fn what_a_sender_hides_does_not_arrive_and_the_record_names_the_rule_of_the_documentation() -> Result<()> {
    let scene = Scene::new(&Policy::new().action("inspect = \"full\""))?;
    let _server = Dovecot::start(&scene.lab.server, &scene.identity, &Tls::ALL)?;
    let postern = scene.start()?;
    let sent: Vec<Generated> = evasions()?.collect::<Result<_>>()?;
    let roots = postern_tests::pki::trust(scene.roots.pem())?;
    let direct = std::sync::Arc::new(postern_tests::client::config(roots, rustls::ALL_VERSIONS));
    let mut direct = Session::open(
        &scene.lab.server,
        std::net::SocketAddr::new(Family::V4.server(), 993),
        Family::V4.name(),
        &direct,
    )?;
    direct.enter()?;
    for message in &sent {
        direct.append(&message.octets).with_context(|| message.class.clone())?;
    }
    direct.logout()?;
    let mut session = scene.logged_in(Family::V4, 993)?;
    let mut arrived = Vec::new();
    for (number, message) in (1..).zip(&sent) {
        let octets = session.fetch(number).with_context(|| message.class.clone())?;
        ensure!(octets.len() == message.octets.len(), "{}: another length", message.class);
        arrived.push(octets);
    }
    session.logout()?;
    // Behind all verdicts.
    postern.wait_records(1)?;

    // Other readers: what they get directly, they do not get here.
    let before = read_by_python(sent.iter().map(|message| message.octets.as_slice()))?;
    let after = read_by_python(arrived.iter().map(Vec::as_slice))?;
    let mut seen = 0;
    for ((message, octets), (before, after)) in sent.iter().zip(&arrived).zip(before.iter().zip(&after)) {
        ensure!(after == "nothing", "{}: {before} before, {after} behind Postern", message.class);
        ensure!(!shows_test_file(octets), "{}: mail-parser shows it", message.class);
        seen += usize::from(before != "nothing");
    }
    ensure!(seen >= 28, "Python's parsers should find most of the files themselves, not {seen}: {before:#?}");

    // Each has a verdict, by the rule of the table.
    let (mut rules, rows) = (BTreeMap::new(), rows()?);
    for verdict in postern.verdicts()? {
        let (uid, rule) = (verdict.number("postern.uid"), verdict.text("rule.name").to_owned());
        rules.entry(uid).or_insert_with(Vec::new).push((rule, verdict.text("postern.action").to_owned()));
    }
    let mut wrong = Vec::new();
    for (uid, message) in (1_u64..).zip(&sent) {
        let found = rules.get(&uid).cloned().unwrap_or_default();
        let row = rows.get(message.class.as_str());
        let fits = row.is_some_and(|(reader, rule)| {
            *reader == message.reader
                && found.iter().any(|(found, action)| found == rule && action == "remove")
        });
        if !fits {
            wrong.push(format!("| {} | {} | `{found:?}` | not {row:?}", message.class, message.reader));
        }
    }
    ensure!(wrong.is_empty(), "docs/content.md says otherwise:\n{}", wrong.join("\n"));
    ensure!(rows.len() == sent.len(), "the table has rows for what is not sent");
    Ok(())
}
