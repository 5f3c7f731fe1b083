//! Reloads seen by sessions that run: new rules with the next command, and `--cut`; and what `postern reload` says.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{self, Session};
use postern_tests::dovecot::Dovecot;
use postern_tests::lab::Family;
use postern_tests::pki;
use postern_tests::postern::{Policy, Said};
use postern_tests::scene::Scene;
use rustix::process::Signal;
use rustls::ALL_VERSIONS;

/// What a client reads whose session is cut.
const CHANGED: &str = "the policy of this gateway has changed; connect again";
const PROGRAM: &str = "a program that nobody should start";

fn reload(scene: &Scene, policy: &Policy, more: &[&str]) -> Result<Said> {
    scene.installation.configure(policy)?;
    scene.installation.command(&scene.lab.gateway, &[&["reload"], more].concat())
}

/// Mail with an attachment of this name.
fn message(name: &str) -> Vec<u8> {
    format!(
        "From: a@example.org\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n\
         Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename={name}\r\n\r\n\
         {PROGRAM}\r\n--b--\r\n"
    )
    .into_bytes()
}

/// One action for all, with this rule about names.
fn judged(action: &str, names: &str) -> Policy {
    Policy::new().table(&format!(
        "[proxy_action.{action}]\ninspect = \"full\"\n[proxy_action.{action}.content]\nnames = {names}\ntypes = []\n\
         [[policy]]\nname = \"all\"\nproxy_action = \"{action}\"\n"
    ))
}

#[test]
fn a_session_that_runs_takes_new_rules_with_its_next_command_and_a_wrong_file_changes_nothing() -> Result<()>
{
    let (lenient, strict) = (judged("Lenient", "[]"), judged("Strict", "[\"*.exe\"]"));
    let scene = Scene::new(&lenient)?;
    let postern = scene.start()?;
    let dovecot = Dovecot::start(&scene.lab.server, &scene.identity, &client::Tls::ALL)?;
    let sent = message("invoice.exe");
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    session.upload("INBOX", "", &sent)?.ok()?;
    session.exchange("NOOP")?.ok()?;
    ensure!(session.fetch(1)? == sent, "nothing is forbidden yet");

    // A wrong file: the line is told, and the old policy stays in force.
    let wrong = judged("Lenient", "[\"*.exe\"]").action("starttls = \"perhaps\"");
    let line = wrong.text(scene.installation.dir()).lines().position(|line| line.contains("perhaps"));
    let place = format!("{}:{}:", scene.installation.config().display(), line.context("no line")? + 1);
    let said = reload(&scene, &wrong, &[])?;
    ensure!(said.code == Some(1) && said.stdout.is_empty(), "{said:?}");
    for words in [place.as_str(), "action.starttls", "perhaps", "NOT reloaded, the old one stays in force"] {
        ensure!(said.stderr.contains(words) && postern.log().contains(words), "{words}: {said:?}");
    }
    ensure!(session.fetch(1)? == sent, "the old policy stays in force");
    // What changes with a restart only is told by its key.
    let said = reload(&scene, &lenient.limits("session_memory = \"600 KiB\""), &[])?;
    ensure!(said.code == Some(1) && said.stderr.contains("limits.session_memory is"), "{said:?}");

    let said = reload(&scene, &strict, &[])?;
    ensure!(said.code == Some(0) && said.stdout == "configuration reloaded (generation 2)\n", "{said:?}");
    let arrived = session.fetch(1)?;
    ensure!(arrived.len() == sent.len(), "a fill keeps the length");
    ensure!(!String::from_utf8_lossy(&arrived).contains(PROGRAM), "the same session gets it no more");
    postern.wait_verdict("of the new rules", |verdict| {
        [verdict.text("postern.proxy_action"), verdict.text("file.name"), verdict.text("postern.action")]
            == ["Strict", "invoice.exe", "remove"]
    })?;

    // Nothing of what is at work is refused by the new policies: nothing is cut, and each reload has a number of its own.
    let numbers: Vec<_> = std::thread::scope(|scope| {
        let ask = || scene.installation.command(&scene.lab.gateway, &["reload", "--cut"]);
        let asked: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        asked
            .into_iter()
            .map(|asked| asked.join().map_err(|_| anyhow::anyhow!("panic"))?)
            .collect::<Result<_>>()
    })?;
    let mut lines: Vec<_> = numbers.iter().filter_map(|said| said.stdout.lines().next()).collect();
    lines.sort_unstable();
    ensure!(
        lines == [3, 4, 5].map(|number| format!("configuration reloaded (generation {number})")),
        "{numbers:?}"
    );
    ensure!(numbers.iter().all(|said| said.stdout.contains("\n0 sessions")), "{numbers:?}");
    session.exchange("NOOP")?.ok()?;
    session.logout()?;
    let record =
        postern.wait_record("the record of the session", |record| record.text("event.reason") == "closed")?;
    ensure!(
        (record.text("postern.proxy_action"), record.number("postern.rules_renewed")) == ("Strict", 1),
        "{record:#?}"
    );
    drop(dovecot);
    postern.stop()?;
    let said = scene.installation.command(&scene.lab.gateway, &["reload"])?;
    ensure!(said.code == Some(3) && said.stderr.contains("no daemon answers"), "{said:?}");
    scene.finish()
}

#[test]
fn a_reload_that_cuts_ends_what_the_new_policies_refuse_and_nothing_else() -> Result<()> {
    const ACTIONS: &str = "[proxy_action.Judged]\ninspect = \"full\"\n[proxy_action.Relayed]\ninspect = \"none\"\n\
                           [proxy_action.Untouched]\nimplicit = \"allow\"\nstarttls = \"bypass\"\n\
                           [proxy_action.Modern]\ninspect = \"full\"\ntls_profile = \"Modern\"\n\
                           [tls_profile.Modern]\nroots = [\"roots.pem\"]\nmin_version = \"1.3\"\n";
    let rule = |name: &str, condition: &str, action: &str| {
        format!("[[policy]]\nname = \"{name}\"\n{condition}\nproxy_action = \"{action}\"\n")
    };
    let policy = |rules: &[String]| Policy::new().table(ACTIONS).table(&rules.concat());
    let (four, six) = ("from = [\"0.0.0.0/0\"]", "from = [\"::/0\"]");
    let other = format!("to = [\"{}\"]", Family::V4.other_server());
    let scene = Scene::new(&policy(&[
        rule("other", &other, "Untouched"),
        rule("four", four, "Judged"),
        rule("six", six, "Relayed"),
    ]))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let own = Arc::new(client::config(pki::trust(scene.roots.pem())?, ALL_VERSIONS));
    let mut judged = scene.session(Family::V4, 993)?;
    let mut starttls = scene.session(Family::V4, 143)?;
    let mut relayed = scene.session(Family::V6, 993)?;
    let mut untouched = Session::open(&scene.lab.client, scene.other(993), Family::V4.name(), &own)?;
    for session in [&mut judged, &mut starttls, &mut relayed, &mut untouched] {
        session.enter()?;
    }

    // The same again, by HUP and by --cut: nobody is refused.
    postern.signal(Signal::HUP)?;
    postern.wait_log("configuration reloaded (generation 2)")?;
    let said = scene.installation.command(&scene.lab.gateway, &["reload", "--cut"])?;
    ensure!(said.code == Some(0) && said.stdout.contains("\n0 sessions"), "{said:?}");

    // IPv6 shall be judged, the other server's mail not be left alone, and port 143 not be used. Without --cut all go on.
    let later = policy(&[
        rule("four", &format!("{four}\ntls_support = \"required\""), "Judged"),
        rule("six", six, "Judged"),
    ]);
    let said = reload(&scene, &later, &[])?;
    ensure!(said.code == Some(0), "{said:?}");
    for session in [&mut judged, &mut starttls, &mut relayed, &mut untouched] {
        session.exchange("NOOP")?.ok()?;
    }
    let said = scene.installation.command(&scene.lab.gateway, &["reload", "--cut"])?;
    ensure!(said.stdout.ends_with("\n3 sessions that the new policies refuse were cut\n"), "{said:?}");
    let goodbye = starttls.line()?;
    ensure!(goodbye.starts_with("* BYE") && goodbye.contains(CHANGED), "{goodbye}");
    ensure!(relayed.line().is_err() && untouched.line().is_err(), "nobody knows where a response ends there");
    judged.exchange("NOOP")?.ok()?;
    let cut: Vec<_> = postern.wait_records(3)?;
    for (mode, words) in [
        ("starttls", "no policy admits it"),
        ("implicit", "nobody looks into it"),
        ("bypass", "nobody looks into it"),
    ] {
        let record = cut.iter().find(|record| record.text("postern.mode") == mode).context(mode)?;
        ensure!(
            record.text("event.reason") == "cut_by_reload" && record.text("message").contains(words),
            "{record:#?}"
        );
    }

    // A profile that is stricter than what was agreed on.
    let old = scene.client_with(&[&rustls::version::TLS12])?;
    let mut older = Session::open(&scene.lab.client, scene.server(Family::V4, 993), Family::V4.name(), &old)?;
    older.enter()?;
    let said = reload(&scene, &policy(&[rule("four", four, "Modern")]), &["--cut"])?;
    ensure!(said.stdout.ends_with("\n1 sessions that the new policies refuse were cut\n"), "{said:?}");
    let goodbye = older.line()?;
    ensure!(goodbye.starts_with("* BYE") && goodbye.contains(CHANGED), "{goodbye}");
    judged.exchange("NOOP")?.ok()?;
    judged.logout()?;
    let record = postern.wait_record("the older client's", |record| record.text("tls.version") == "1.2")?;
    ensure!(record.text("message").contains("tls.min_version"), "{record:#?}");
    drop(server);
    postern.stop()?;
    scene.finish()
}
