//! What `postern explain --message` says of a message is what a client gets of it, under three policies; and accounts that are
//! exempt or have a pseudonym.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use postern_tests::corpus::pe_message;
use postern_tests::lab::Family;
use postern_tests::postern::Policy;
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use rustls::ALL_VERSIONS;
use serde_json::Value;

const PORT: u16 = 993;

/// A policy for connections of this family, or for all.
fn rule(name: &str, from: &str, action: &str) -> String {
    format!("[[policy]]\nname = \"{name}\"\nfrom = [\"{from}\"]\nproxy_action = \"{action}\"\n")
}

/// What `explain` says of this message in a session of this family, and the message that it shows.
fn explained(scene: &Scene, family: Family, message: &[u8]) -> Result<(Value, Vec<u8>)> {
    let [file, output] = ["asked", "shown"].map(|name| scene.installation.dir().join(name));
    fs::write(&file, message)?;
    let _ = fs::remove_file(&output);
    let client = family.client().to_string();
    let server = scene.server(family, PORT).to_string();
    let [file, shown] = [&file, &output].map(|path| path.to_string_lossy().into_owned());
    let args = ["explain", "--client", &client, "--server", &server, "--message", &file];
    let said = scene
        .installation
        .command(&scene.lab.gateway, &[&args[..], &["--json", "--output", &shown]].concat())?;
    ensure!(said.code == Some(0), "{said:?}");
    Ok((serde_json::from_str(&said.stdout)?, fs::read(&output)?))
}

/// The fields of parts that `explain` and records both have.
fn told(part: &Value) -> Result<Vec<(String, Value)>> {
    let fields = part.as_object().context("no object")?;
    Ok(fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn fetched(scene: &Scene, family: Family) -> Result<Vec<u8>> {
    let mut session = scene.logged_in(family, PORT)?;
    let octets = session.fetch(1)?;
    session.logout()?;
    Ok(octets)
}

#[test]
fn what_explain_says_happens_on_the_wire_under_three_policies() -> Result<()> {
    let sample = pe_message();
    let actions = "[proxy_action.Types.content]\ntypes = [\"executable\"]\n\
                   [proxy_action.Allowing.content]\ntypes = []\n\
                   [proxy_action.Relayed]\ninspect = \"none\"\n";
    for (action, verdict) in [("Types", "remove"), ("Allowing", "allow"), ("Relayed", "unjudged")] {
        let policy = Policy::new().table(actions).table(&rule("all", "0.0.0.0/0", action));
        let scene = Scene::new(&policy.table("[records]\nclean_verdicts = true\n"))?;
        let postern = scene.start()?;
        let server =
            scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![sample.octets.clone()])?;
        let got = fetched(&scene, Family::V4)?;
        let (object, shown) = explained(&scene, Family::V4, &sample.octets)?;
        assert_eq!(object["verdict"], verdict, "{object:#}");
        assert!(got == shown, "{action}: explain shows another message than the client gets");
        assert_eq!(got != sample.octets, verdict == "remove", "{action}");
        postern.wait_records(1)?;
        let verdicts = postern.verdicts()?;
        let parts = object["parts"].as_array().context("no parts")?;
        assert_eq!(verdicts.len(), parts.len(), "{verdicts:#?}");
        for (Record(record), part) in verdicts.iter().zip(parts) {
            for (name, value) in told(part)? {
                assert_eq!(record[&name], value, "{action}, {name}: {record:#}");
            }
            assert!(record["event.duration"].is_u64(), "{record:#}");
        }
        drop(server);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

/// The account with which the lab's client logs in.
fn account_of(record: &Record) -> String {
    record.text("user.name").to_owned()
}

fn judging() -> Policy {
    Policy::new().action("inspect = \"full\"")
}

#[test]
fn mail_of_an_exempt_account_passes_and_a_pseudonym_outlives_a_restart() -> Result<()> {
    let sample = pe_message();
    let scene = Scene::new(&judging())?;
    let serve = || scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![sample.octets.clone()]);
    // Whose mail it is.
    let postern = scene.start()?;
    let server = serve()?;
    assert!(fetched(&scene, Family::V4)? != sample.octets);
    let account = account_of(postern.wait_records(1)?.first().context("no record")?);
    ensure!(!account.is_empty(), "the client's account is in the record");
    drop(server);
    postern.stop()?;

    scene
        .installation
        .configure(&judging().table(&format!("[action.privacy]\nexempt_accounts = [\"{account}\"]\n")))?;
    let postern = scene.start()?;
    let server = serve()?;
    assert!(fetched(&scene, Family::V4)? == sample.octets, "as it came");
    let record = postern.wait_records(1)?.remove(0);
    assert!(record.flag("postern.content.exempt") && postern.verdicts()?.is_empty(), "{record:#?}");
    drop(server);
    postern.stop()?;

    scene.installation.configure(&judging().table("[action.privacy]\npseudonymize_accounts = [\"*\"]\n"))?;
    let mut pseudonyms = Vec::new();
    for _ in 0..2 {
        let postern = scene.start()?;
        let server = serve()?;
        assert!(fetched(&scene, Family::V4)? != sample.octets);
        let record = postern.wait_records(1)?.remove(0);
        let verdicts = postern.verdicts()?;
        for record in verdicts.iter().chain([&record]) {
            assert_eq!(record.text("user.name"), "", "{record:#?}");
            assert!(!record.text("user.hash").is_empty() && record.text("postern.mailbox").is_empty());
            pseudonyms.push(record.text("user.hash").to_owned());
        }
        assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
        drop(server);
        postern.stop()?;
    }
    pseudonyms.dedup();
    assert_eq!(pseudonyms.len(), 1, "{pseudonyms:?}");
    scene.finish()
}
