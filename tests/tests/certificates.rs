//! Certificates as clients and administrators meet them: the default one, pins, ends, renewal while sessions go on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{self, Session};
use postern_tests::lab::Family;
use postern_tests::netns;
use postern_tests::pki::{self, Authority, Identity, Wanted};
use postern_tests::postern::{Policy, Postern};
use postern_tests::scene::Scene;
use postern_tests::wait::{self, PATIENCE};
use rustix::process::Signal;
use rustls::ALL_VERSIONS;

/// A name that the lab's server has not.
const OWN_NAME: &str = "own.test";

/// A session over port 993 of a client that has these roots, for this name.
fn session(scene: &Scene, name: &str, roots: &str) -> Result<Session> {
    let config = Arc::new(client::config(pki::trust(roots)?, ALL_VERSIONS));
    Session::open(&scene.lab.client, scene.server(Family::V4, 993), name, &config)
}

fn reload(postern: &Postern<'_>) -> Result<()> {
    let reloaded = || postern.log().matches("configuration reloaded").count();
    let before = reloaded();
    postern.signal(Signal::HUP)?;
    wait::until("the reload", PATIENCE, || Ok((reloaded() > before).then_some(())))
        .with_context(|| postern.log())
}

/// Runs this in the installation's directory, to its end.
fn run(scene: &Scene, program: &str, arguments: &str) -> Result<()> {
    let mut command = Command::new(program);
    let output = command.args(arguments.split_whitespace()).current_dir(scene.installation.dir()).output()?;
    netns::success(&format!("{program} {arguments}"), &output).map(drop)
}

fn postern_ca(scene: &Scene, arguments: &str) -> Result<()> {
    let binary = postern_tests::postern::binary()?;
    run(scene, &binary.display().to_string(), &format!("--config postern.toml ca {arguments}"))
}

#[test]
fn the_default_certificate_is_made_at_the_first_start_and_shown_where_no_name_fits() -> Result<()> {
    let own = Authority::new("Own")?.issue(&Wanted::named(OWN_NAME))?;
    let policy =
        Policy::new().action("certificates = \"server\"").fault("untrusted", "mirror").table(&format!(
            "[[certificates.server]]\nnames = [{:?}]\ncert = \"own.pem\"\nkey = \"own.key\"\n",
            OWN_NAME
        ));
    let scene = Scene::new(&policy)?;
    own.write(scene.installation.dir(), "own")?;
    let (cert, key) = {
        let state = scene.installation.dir().join("state");
        (state.join("default-server.pem"), state.join("default-server.key"))
    };
    let checked = scene.installation.command(&scene.lab.gateway, &["check"])?.stdout;
    ensure!(checked.contains("default-server.pem, made by the first `postern run`"), "{checked}");
    ensure!(!cert.exists(), "check changes nothing");
    let postern = scene.start()?;
    let server = scene.serve()?;
    assert_eq!(fs::metadata(&key)?.permissions().mode() & 0o7777, 0o600);
    let default = pki::fingerprint(pki::certificates(&fs::read_to_string(&cert)?)?.first().context("none")?);
    let shown = |name: &str| -> Result<(String, String)> {
        let mut openssl = scene.lab.client.command("openssl");
        openssl.args(["s_client", "-connect", &scene.server(Family::V4, 993).to_string(), "-showcerts"]);
        if name.is_empty() {
            openssl.arg("-noservername")
        } else {
            openssl.args(["-servername", name])
        };
        let said = netns::run(&mut openssl, "", PATIENCE)?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let end = "-----END CERTIFICATE-----\n";
        let begin = said.find("-----BEGIN CERTIFICATE-----").with_context(|| said.clone())?;
        let pem = said.get(begin..).and_then(|rest| rest.split_inclusive(end).next()).unwrap_or_default();
        Ok((pki::fingerprint(pki::certificates(pem)?.first().context("none")?), said))
    };
    for name in [Family::V4.name(), ""] {
        assert_eq!(shown(name)?.0, default, "{name:?}");
    }
    assert_eq!(shown(OWN_NAME)?.0, own.fingerprint()?);
    let status = postern.status()?.to_string();
    ensure!(status.contains("\"default certificate\""), "{status}");
    let told = scene.installation.command(&scene.lab.gateway, &["ca", "show"])?.stdout;
    ensure!(told.contains(&cert.display().to_string()), "{told}");

    // A mirrored fault has no copy to be shown with: it is refused, under the owner's certificate.
    drop(server);
    let stranger = Authority::new("Stranger")?.issue(&Wanted::server())?;
    let server = scene.serve_with(stranger.server_config(ALL_VERSIONS)?, Vec::new())?;
    let (fingerprint, said) = shown(Family::V4.name())?;
    ensure!(fingerprint == default && !said.contains("* OK"), "{said}");
    postern.wait_record("the refusal", |record| {
        record.faults() == ["untrusted"]
            && record.text("event.reason") == "certificate_blocked"
            && record.text("postern.certificate.verdict") == "block"
    })?;
    drop(server);
    postern.stop()?;

    // The next start keeps it.
    let postern = scene.start()?;
    assert_eq!(pki::fingerprint(&pki::certificates(&fs::read_to_string(&cert)?)?[0]), default);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_pinned_server_is_trusted_without_a_root_and_another_certificate_is_not_with_one() -> Result<()> {
    let stranger = Authority::new("Stranger")?;
    let pinned = stranger.issue(&Wanted::server())?;
    let pin = |what: &str, identity: &Identity| -> Result<String> {
        Ok(format!("[[certificates.pin]]\n{what}\nsha256 = [\"{}\"]\n", identity.fingerprint()?))
    };
    let address = format!("servers = [\"{}\"]", Family::V4.server());
    let name = format!("names = [{:?}]", Family::V4.name());
    for what in [&address, &name] {
        let scene = Scene::new(&Policy::new().table(&pin(what, &pinned)?))?;
        let postern = scene.start()?;
        let server = scene.serve_with(pinned.server_config(ALL_VERSIONS)?, Vec::new())?;
        session(&scene, Family::V4.name(), scene.installation.authority_pem())?.logout()?;
        // No pin is for the other server, whose certificate no root knows.
        let other = Session::open(
            &scene.lab.client,
            scene.server(Family::V6, 993),
            Family::V6.name(),
            &scene.client()?,
        );
        ensure!(other.is_err(), "{what}: a server that is not pinned was trusted");
        drop(server);
        // A good certificate, which is not the pinned one.
        let server = scene.serve()?;
        let refused = session(&scene, Family::V4.name(), scene.installation.authority_pem());
        ensure!(refused.is_err(), "{what}: another certificate than the pinned one was trusted");
        let records = postern.wait_records(3)?;
        let faults: Vec<_> = records.iter().map(|record| record.faults()).collect();
        assert_eq!(faults, [vec![], vec!["untrusted"], vec!["untrusted"]], "{records:#?}");
        drop(server);
        postern.stop()?;
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn the_end_of_a_certificate_is_told_by_log_and_status_until_it_is_replaced() -> Result<()> {
    let own = Authority::new("Own")?;
    let of_server =
        "[[certificates.server]]\nnames = [\"own.test\"]\ncert = \"own.pem\"\nkey = \"own.key\"\n";
    let scene = Scene::new(&Policy::new().table(of_server))?;
    let dir = scene.installation.dir();
    own.issue(&Wanted { to_days: -1, ..Wanted::named("own.test") })?.write(dir, "own")?;
    postern_ca(&scene, "renew --days 5")?;
    let postern = scene.start()?;
    let alarms = || -> Result<String> {
        let said = scene.installation.command(&scene.lab.gateway, &["status"])?.stdout;
        Ok(said
            .split("ALARMS\n")
            .nth(1)
            .and_then(|rest| rest.split("\n\n").next())
            .unwrap_or_default()
            .to_owned())
    };
    for part in
        ["authority certificate: ", "`postern ca renew`", "certificate of own.test: ", "has EXPIRED on"]
    {
        ensure!(
            alarms()?.contains(part) && postern.log().contains(part),
            "{part}: {}\n{}",
            alarms()?,
            postern.log()
        );
    }
    let checked = scene.installation.command(&scene.lab.gateway, &["check"])?;
    ensure!(
        checked.code == Some(64) && checked.stdout.contains("fail  end of the certificate of own.test"),
        "{checked:?}"
    );
    own.issue(&Wanted { to_days: 300, ..Wanted::named("own.test") })?.write(dir, "own")?;
    postern_ca(&scene, "renew --days 400")?;
    reload(&postern)?;
    assert_eq!(alarms()?, "");
    postern.stop()?;
    scene.finish()
}

#[test]
fn authority_and_configured_certificate_are_renewed_while_sessions_go_on() -> Result<()> {
    let own = Authority::new("Own")?;
    let wanted = Wanted::named(Family::V6.name());
    let (first, second) = (own.issue(&wanted)?, own.issue(&wanted)?);
    let of_server = format!(
        "[[certificates.server]]\nnames = [{:?}]\ncert = \"own.pem\"\nkey = \"own.key\"\n",
        Family::V6.name()
    );
    let scene = Scene::new(&Policy::new().table(&of_server))?;
    first.write(scene.installation.dir(), "own")?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let old = scene.installation.authority_pem().to_owned();
    let six = |roots: &str| {
        let config = Arc::new(client::config(pki::trust(roots)?, ALL_VERSIONS));
        Session::open(&scene.lab.client, scene.server(Family::V6, 993), Family::V6.name(), &config)
    };
    let mut held = [session(&scene, Family::V4.name(), &old)?, six(own.pem())?];
    assert_eq!(held[1].shown()?.fingerprint, first.fingerprint()?);
    for session in &mut held {
        session.enter()?;
    }
    second.write(scene.installation.dir(), "own")?;
    postern_ca(&scene, "renew")?;
    reload(&postern)?;
    for session in &mut held {
        session.noop()?;
    }
    let new = fs::read_to_string(scene.installation.authority_file())?;
    ensure!(new != old);
    // Who trusts the old certificate and who trusts the new one build the same path, because the key is the same.
    for roots in [&old, &new] {
        session(&scene, Family::V4.name(), roots)?.logout()?;
    }
    let renewed = six(own.pem())?;
    assert_eq!(renewed.shown()?.fingerprint, second.fingerprint()?);
    renewed.logout()?;
    for session in held {
        session.logout()?;
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn an_intermediate_of_a_companys_root_comes_as_pkcs12_and_clients_need_the_root_alone() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    let mut held = scene.session(Family::V4, 993)?;
    fs::write(
        scene.installation.dir().join("extensions"),
        "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n",
    )?;
    fs::write(scene.installation.dir().join("passphrase"), "correct horse\n")?;
    let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes";
    for arguments in [
        format!("req -x509 {ec} -keyout root.key -out root.pem -days 30 -subj /CN=Company"),
        format!("req {ec} -keyout sub.key -out sub.csr -subj /O=Company/CN=Gateway"),
        "x509 -req -in sub.csr -CA root.pem -CAkey root.key -days 20 -extfile extensions -out sub.pem"
            .to_owned(),
        "pkcs12 -export -inkey sub.key -in sub.pem -certfile root.pem -passout file:passphrase -out sub.p12"
            .to_owned(),
    ] {
        run(&scene, "openssl", &arguments)?;
    }
    postern_ca(&scene, "import --pkcs12 sub.p12 --passphrase-file passphrase --replace")?;
    reload(&postern)?;
    held.noop()?;
    let root = fs::read_to_string(scene.installation.dir().join("root.pem"))?;
    session(&scene, Family::V4.name(), &root)?.logout()?;
    postern_ca(&scene, "export --out exported.pem")?;
    let exported = fs::read_to_string(scene.installation.dir().join("exported.pem"))?;
    assert_eq!(pki::certificates(&exported)?, pki::certificates(&root)?);
    ensure!(
        session(&scene, Family::V4.name(), scene.installation.authority_pem()).is_err(),
        "the old root still counts"
    );
    held.logout()?;
    drop(server);
    postern.stop()?;
    scene.finish()
}
