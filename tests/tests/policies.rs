//! Which connection gets what: policies by network, by name and by port, seen by clients, and what `postern explain` says.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use postern_tests::client::{self, Session};
use postern_tests::corpus::eicar_message;
use postern_tests::lab::Family;
use postern_tests::pki;
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::wait;
use rustix::process::Signal;
use rustls::ALL_VERSIONS;

const PATIENCE: Duration = Duration::from_secs(10);
/// What a client reads where no policy fits.
const UNMATCHED: &str = "no policy of this gateway admits this connection";

/// A policy of the file; `lines` are its conditions.
fn rule(name: &str, lines: &str, action: &str) -> String {
    format!("[[policy]]\nname = \"{name}\"\n{lines}\nproxy_action = \"{action}\"\n")
}

/// The judged, the relayed and the untouched.
const ACTIONS: &str = "[proxy_action.Judged]\ninspect = \"full\"\n\
                       [proxy_action.Relayed]\ninspect = \"none\"\n\
                       [proxy_action.Untouched]\nimplicit = \"allow\"\nstarttls = \"bypass\"\n";

fn policy(rules: &[String]) -> Policy {
    Policy::new().table(ACTIONS).table(&rules.concat())
}

/// What records and `postern explain` say of a connection.
fn names(record: &Record) -> [&str; 3] {
    ["postern.policy", "postern.proxy_action", "postern.tls_profile"].map(|field| record.text(field))
}

/// The same, as `postern explain` says it of a client of this family; `None` where no policy admits it.
fn explained(scene: &Scene, family: Family, port: u16, sni: &str) -> Result<Option<[String; 3]>> {
    let client = family.client().to_string();
    let server = scene.server(family, port).to_string();
    let args = ["explain", "--client", &client, "--server", &server, "--sni", sni];
    let said = scene.installation.command(&scene.lab.gateway, &args)?;
    ensure!(said.code == Some(0), "{said:?}");
    if said.stdout.contains("\nrefused: ") {
        return Ok(None);
    }
    let told = |word: &str| -> Result<String> {
        let line = said.stdout.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix("  "));
        Ok(line.with_context(|| format!("no {word}: {said:?}"))?.trim().to_owned())
    };
    Ok(Some([told("policy")?, told("proxy action")?, told("TLS profile")?]))
}

fn only(postern: &Postern<'_>, count: usize) -> Result<Record> {
    let mut records = postern.wait_records(count)?;
    ensure!(records.len() == count, "{records:#?}");
    records.pop().context("no record")
}

#[test]
fn two_networks_have_two_actions_at_once_on_both_ports() -> Result<()> {
    let sample = eicar_message();
    let rules =
        [rule("four", "from = [\"0.0.0.0/0\"]", "Judged"), rule("six", "from = [\"::/0\"]", "Relayed")];
    let scene = Scene::new(&policy(&rules))?;
    let postern = scene.start()?;
    let server =
        scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![sample.octets.clone()])?;
    for (turn, port) in [143, 993].into_iter().enumerate() {
        let (mut judged, mut relayed) = (scene.session(Family::V4, port)?, scene.session(Family::V6, port)?);
        judged.enter()?;
        relayed.enter()?;
        sample.arrived_as(&sample.octets, &judged.fetch(1)?)?;
        assert!(relayed.fetch(1)? == sample.octets, "the policy for IPv6 judges no mail");
        judged.logout()?;
        relayed.logout()?;
        let records = postern.wait_records(2 * (turn + 1))?;
        for (family, wanted) in
            [(Family::V4, ["four", "Judged", "[tls]"]), (Family::V6, ["six", "Relayed", "[tls]"])]
        {
            let client = family.client().to_string();
            let of_family = records.iter().rev().find(|record| record.text("client.ip") == client);
            let record = of_family.context("no record")?;
            assert_eq!(names(record), wanted, "{record:#?}");
            assert_eq!(explained(&scene, family, port, family.name())?, Some(wanted.map(str::to_owned)));
        }
    }
    let verdicts = postern.verdicts()?;
    assert!(
        !verdicts.is_empty() && verdicts.iter().all(|verdict| names(verdict) == ["four", "Judged", "[tls]"])
    );
    let starts = postern.starts()?;
    assert!(starts.iter().all(|start| !start.text("postern.policy").is_empty()), "{starts:#?}");
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn one_client_has_three_policies_by_name_each_as_explained() -> Result<()> {
    let rules = [
        rule("untouched", &format!("sni = [{:?}]", Family::V6.name()), "Untouched"),
        rule("judged", &format!("sni = [{:?}]", Family::V4.name()), "Judged"),
    ];
    let scene = Scene::new(&policy(&rules))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let (to, from) = (scene.server(Family::V4, 993), &scene.lab.client);
    let own = std::sync::Arc::new(client::config(pki::trust(scene.roots.pem())?, ALL_VERSIONS));

    // The client and the server have TLS with each other.
    let mut untouched = Session::open(from, to, Family::V6.name(), &own)?;
    untouched.enter()?;
    assert_eq!(untouched.fetch(1)?, MESSAGE);
    assert_eq!(untouched.shown()?.fingerprint, scene.identity.fingerprint()?);
    untouched.logout()?;
    let record = only(&postern, 1)?;
    assert_eq!(
        (record.text("postern.mode"), record.text("tls.client.server_name")),
        ("bypass", Family::V6.name())
    );
    assert_eq!(names(&record), ["untouched", "Untouched", "[tls]"]);

    let mut judged = Session::open(from, to, Family::V4.name(), &scene.client()?)?;
    judged.enter()?;
    assert_eq!(judged.fetch(1)?, MESSAGE);
    judged.logout()?;
    let record = only(&postern, 2)?;
    assert_eq!(names(&record), ["judged", "Judged", "[tls]"]);
    assert!(record.number("postern.content.judged") > 0, "{record:#?}");

    let (other, before) = ("other.lab.test", server.log().len());
    let mut refused = Session::implicit(from, to, other, &scene.client()?)?;
    let said = refused.line()?;
    assert!(said.starts_with("* BYE") && said.contains(UNMATCHED), "{said}");
    drop(refused);
    let record = only(&postern, 3)?;
    assert_eq!(postern.counter("refused_policy")?, 1);
    assert_eq!((record.text("event.reason"), record.text("postern.stage")), ("no_policy", "accept"));
    assert_eq!(server.log().len(), before, "the server heard of a connection that no policy admits");

    for (sni, wanted) in [
        (Family::V6.name(), Some(["untouched", "Untouched", "[tls]"])),
        (Family::V4.name(), Some(["judged", "Judged", "[tls]"])),
        (other, None),
    ] {
        let wanted = wanted.map(|names| names.map(str::to_owned));
        assert_eq!(explained(&scene, Family::V4, 993, sni)?, wanted, "{sni}");
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// The second policy, for the name of IPv6, leaves alone what comes to it in this way.
fn behind_starttls(actions: &str, rules: &[String], judged_first: bool) -> Result<()> {
    let scene = Scene::new(&Policy::new().table(ACTIONS).table(actions).table(&rules.concat()))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let to = scene.server(Family::V4, 143);
    let own = std::sync::Arc::new(client::config(pki::trust(scene.roots.pem())?, ALL_VERSIONS));
    let first = if judged_first { "judged" } else { "untouched" };
    for (turn, (name, config, wanted, mode)) in [
        (Family::V4.name(), scene.client()?, "judged", "starttls"),
        (Family::V6.name(), own, "untouched", "bypass"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut session = Session::open(&scene.lab.client, to, name, &config)?;
        session.enter()?;
        assert_eq!(session.fetch(1)?, MESSAGE);
        session.logout()?;
        let record = only(&postern, turn + 1)?;
        assert_eq!(
            (record.text("postern.policy"), record.text("postern.mode")),
            (wanted, mode),
            "{record:#?}"
        );
        let start = postern.starts()?.pop().context("no first line")?;
        assert_eq!((start.text("postern.policy"), start.text("postern.mode")), (first, "starttls"));
        let explained = explained(&scene, Family::V4, 143, name)?.context("refused")?;
        assert_eq!(explained[0], wanted);
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn behind_starttls_the_name_leads_to_another_policy_whichever_comes_first() -> Result<()> {
    let judged = rule("judged", &format!("sni = [{:?}]", Family::V4.name()), "Judged");
    let untouched = rule("untouched", &format!("sni = [{:?}]", Family::V6.name()), "Untouched");
    behind_starttls("", &[judged.clone(), untouched.clone()], true)?;
    behind_starttls("", &[untouched, judged], false)
}

#[test]
fn servers_and_clients_that_an_action_leaves_alone_are_so_for_the_names_of_its_policy_only() -> Result<()> {
    let judged = rule("judged", &format!("sni = [{:?}]", Family::V4.name()), "Judged");
    let untouched = rule("untouched", &format!("sni = [{:?}]", Family::V6.name()), "Listed");
    for list in ["bypass", "bypass_clients"] {
        let listed = format!("[proxy_action.Listed]\n{list} = [\"0.0.0.0/0\"]\n");
        behind_starttls(&listed, &[judged.clone(), untouched.clone()], true)?;
        behind_starttls(&listed, &[untouched.clone(), judged.clone()], false)?;
    }
    Ok(())
}

/// What a client sees of a port: mail, or why not.
fn sees(scene: &Scene, family: Family, port: u16) -> Result<String> {
    let (from, to) = (&scene.lab.client, scene.server(family, port));
    if port == 143 {
        let mut session = Session::clear(from.connect(to)?);
        let greeting = session.line()?;
        if greeting.starts_with("* BYE") {
            return Ok(greeting);
        }
        let mut session = session.starttls(family.name(), &scene.client()?)?;
        session.enter()?;
        session.logout()?;
        return Ok("mail".to_owned());
    }
    let Ok(mut session) = Session::implicit(from, to, family.name(), &scene.client()?) else {
        return Ok("ended".to_owned());
    };
    session.enter()?;
    session.logout()?;
    Ok("mail".to_owned())
}

#[test]
fn tls_support_admits_the_ports_that_it_says() -> Result<()> {
    for (support, starttls, implicit) in
        [("disabled", true, false), ("enabled", true, true), ("required", false, true)]
    {
        // IPv6 keeps both ports, so that both are steered.
        let rules = [
            rule("four", &format!("from = [\"0.0.0.0/0\"]\ntls_support = \"{support}\""), "Relayed"),
            rule("six", "from = [\"::/0\"]", "Relayed"),
        ];
        let scene = Scene::new(&policy(&rules))?;
        let postern = scene.start()?;
        let server = scene.serve()?;
        for (port, is_admitted) in [(143, starttls), (993, implicit)] {
            let seen = sees(&scene, Family::V4, port).with_context(|| format!("{support}, port {port}"))?;
            match (is_admitted, port) {
                (true, _) => assert_eq!(seen, "mail", "{support}, port {port}"),
                (false, 143) => assert!(seen.contains(UNMATCHED), "{support}: {seen}"),
                (false, _) => assert_eq!(seen, "ended", "{support}, port {port}"),
            }
            let explained = explained(&scene, Family::V4, port, Family::V4.name())?;
            assert_eq!(explained.is_some(), is_admitted, "{support}, port {port}");
            assert_eq!(sees(&scene, Family::V6, port)?, "mail", "{support}, port {port}, the other policy");
        }
        let refused = postern.wait_record("a refusal", |record| record.text("event.reason") == "no_policy");
        assert_eq!(refused.is_ok(), !(starttls && implicit), "{support}");
        drop(server);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn an_action_is_cloned_edited_and_in_force_after_a_reload() -> Result<()> {
    let rules = |action: &str| vec![rule("all", "", action)];
    let scene = Scene::new(&policy(&rules("Judged")))?;
    let said = |args: &[&str]| -> Result<String> {
        let said = scene.installation.command(&scene.lab.gateway, args)?;
        ensure!(said.code == Some(0), "{said:?}");
        Ok(said.stdout)
    };
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut held = scene.session(Family::V4, 993)?;

    let wrote = said(&["action", "clone", "Judged", "Stripped"])?;
    let file = scene.installation.dir().join("conf.d/action-Stripped.toml");
    assert!(wrote.contains(&file.display().to_string()), "{wrote}");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, text.replace("starttls = \"inspect\"", "starttls = \"strip\""))?;
    let shown = said(&["action", "show", "Stripped"])?;
    assert!(shown.contains("starttls = \"strip\"") && shown.contains("Minimum protocol version"), "{shown}");
    let listed = said(&["action", "list"])?;
    assert!(listed.lines().any(|line| line.starts_with("Stripped") && line.ends_with('-')), "{listed}");

    scene.installation.configure(&policy(&rules("Stripped")))?;
    postern.signal(Signal::HUP)?;
    wait::until("the clone in force", PATIENCE, || {
        let mut session = Session::clear(scene.lab.client.connect(scene.server(Family::V4, 143))?);
        let greeting = session.greeting()?;
        Ok((!greeting.contains("STARTTLS")).then_some(()))
    })?;
    let record = postern.wait_record("the clone's record", |record| names(record)[1] == "Stripped")?;
    assert_eq!(names(&record), ["all", "Stripped", "[tls]"]);
    // A session that runs has the clone's rules from its next command on.
    held.enter()?;
    held.logout()?;
    let record = postern.wait_record("the session that was held", |record| record.succeeded())?;
    assert_eq!(names(&record), ["all", "Stripped", "[tls]"]);
    assert_eq!(record.number("postern.rules_renewed"), 1);

    // An edit of a predefined action is refused with the way out, and the policy in force stays.
    let edit = scene.installation.dir().join("conf.d/edit.toml");
    fs::write(&edit, "[proxy_action.\"IMAP-Client.Standard\"]\nstarttls = \"strip\"\n")?;
    postern.signal(Signal::HUP)?;
    postern.wait_log("predefined, and cannot be edited, deleted or shadowed")?;
    let checked = scene.installation.command(&scene.lab.gateway, &["check"])?;
    let way_out = checked.stderr.split('`').nth(1).context("no command")?.replace("NAME", "Mine");
    let args: Vec<&str> = way_out.split_whitespace().skip(1).collect();
    said(&args)?;
    fs::remove_file(&edit)?;
    assert!(said(&["action", "show", "Mine"])?.contains("starttls = \"strip\""));
    if scene.session(Family::V4, 143).is_ok() {
        bail!("STARTTLS is stripped by the policy that stays in force");
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// The commands of the worked example in docs/from-fireware.md, without their comments.
fn commands_of_the_page() -> Result<Vec<Vec<String>>> {
    let page = include_str!("../../docs/from-fireware.md");
    let (_, example) = page.split_once("## A worked example").context("no example")?;
    let lines = example.lines().filter_map(|line| line.strip_prefix("postern "));
    let words = |line: &str| {
        line.split('#').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    Ok(lines.map(words).collect())
}

#[test]
fn the_worked_example_for_administrators_of_fireware_works() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let said = |args: &[String]| -> Result<String> {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let said = scene.installation.command(&scene.lab.gateway, &args)?;
        ensure!(said.code == Some(0), "{args:?}: {said:?}");
        Ok(said.stdout)
    };
    let commands = commands_of_the_page()?;
    let [clone_action, clone_profile, show, _check, explain, reload] = commands.as_slice() else {
        bail!("the page has other commands: {commands:?}")
    };
    said(clone_action)?;
    said(clone_profile)?;
    let edit = |file: &str, from: &str, to: &str| -> Result<()> {
        let path = scene.installation.dir().join("conf.d").join(file);
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{text}");
        Ok(fs::write(&path, text.replace(from, to))?)
    };
    edit("profile-OfficeTLS.toml", "min_version = \"1.2\"", "min_version = \"1.3\"")?;
    // The lab's servers are of an authority of its own.
    edit("profile-OfficeTLS.toml", "roots = [\"system\"]", "roots = [\"roots.pem\"]")?;
    edit("action-Office.toml", "tls_profile = ", "starttls_profile = \"OfficeTLS\"\ntls_profile = ")?;
    assert!(said(show)?.contains("inimum protocol version: TLS 1.3"));
    let office = "[[policy]]\nname = \"office\"\nfrom = [\"0.0.0.0/0\"]\nproxy_action = \"Office\"\n";
    scene.installation.configure(&Policy::new().table(office))?;
    assert!(said(explain)?.contains("TLS profile   OfficeTLS"));
    assert!(said(reload)?.starts_with("configuration reloaded"));
    scene.session(Family::V4, 143)?.logout()?;
    let record = only(&postern, 1)?;
    assert_eq!(names(&record), ["office", "Office", "OfficeTLS"]);
    assert_eq!((record.text("tls.version"), record.text("postern.upstream.tls.version")), ("1.3", "1.3"));
    assert!(record.succeeded(), "{record:#?}");
    drop(server);
    postern.stop()?;
    scene.finish()
}

/// Whether a SYN to a port comes to nothing, as the client's kernel tells.
fn is_refused(scene: &Scene, family: Family, port: u16) -> Result<bool> {
    let to = scene.server(family, port);
    // The kernel limits the rate of ICMP errors, so that the first SYN may hear none.
    scene.lab.client.enter(|| Ok(std::net::TcpStream::connect_timeout(&to, PATIENCE).is_err()))
}

#[test]
fn a_port_that_no_policy_admits_is_refused_until_a_reload_admits_it() -> Result<()> {
    let rules = |support: &str| policy(&[rule("all", &format!("tls_support = \"{support}\""), "Relayed")]);
    let scene = Scene::new(&rules("required"))?;
    let checked = scene.installation.command(&scene.lab.gateway, &["check"])?;
    assert!(checked.stdout.contains("143 refused: no policy admits them there"), "{checked:?}");
    let postern = scene.start()?;
    let server = scene.serve()?;
    for family in Family::ALL {
        assert!(is_refused(&scene, family, 143)?, "{family:?}");
        assert_eq!(sees(&scene, family, 993)?, "mail");
    }
    assert!(postern.counter("refused_port")? >= 2);
    assert!(!server.log().iter().any(|line| line.contains("port 143")), "{:?}", server.log());
    let mut held = scene.session(Family::V4, 993)?;

    scene.installation.configure(&rules("disabled"))?;
    postern.signal(Signal::HUP)?;
    wait::until("port 993 to be refused", PATIENCE, || {
        Ok(is_refused(&scene, Family::V4, 993)?.then_some(()))
    })?;
    for family in Family::ALL {
        assert_eq!(sees(&scene, family, 143)?, "mail");
    }
    // A session that a port had goes on.
    held.enter()?;
    held.logout()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn what_no_policy_fits_passes_untouched_where_that_is_written() -> Result<()> {
    passes_untouched("from = [\"0.0.0.0/0\"]")?;
    // Here the ClientHello has to be read first, on 143 behind STARTTLS.
    passes_untouched(&format!("sni = [{:?}]", Family::V4.name()))
}

/// Under one policy with a condition that holds for IPv4 alone.
fn passes_untouched(condition: &str) -> Result<()> {
    let rules = [rule("four", condition, "Relayed")];
    let scene = Scene::new(&policy(&rules).steering("unmatched = \"pass\""))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let own = std::sync::Arc::new(client::config(pki::trust(scene.roots.pem())?, ALL_VERSIONS));
    for (turn, port) in [143, 993].into_iter().enumerate() {
        assert_eq!(sees(&scene, Family::V4, port)?, "mail");
        let to = scene.server(Family::V6, port);
        let mut session = Session::open(&scene.lab.client, to, Family::V6.name(), &own)?;
        assert_eq!(session.shown()?.fingerprint, scene.identity.fingerprint()?);
        session.enter()?;
        session.logout()?;
        let records = postern.wait_records(2 * (turn + 1))?;
        let record = records
            .iter()
            .rev()
            .find(|record| record.text("postern.mode") == "bypass")
            .context("no record")?;
        assert_eq!(names(record)[..2], ["[unmatched]", "[unmatched]"]);
        let explained = explained(&scene, Family::V6, port, Family::V6.name())?.context("refused")?;
        assert_eq!(explained[0], "[unmatched]");
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}
