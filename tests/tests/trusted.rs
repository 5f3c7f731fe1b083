//! `action.trust_uid_immutability`: known mail of the owner's own servers goes on without a look, but for samples.

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::corpus::make::eicar;
use postern_tests::imap_server::{ImapServer, large_message};
use postern_tests::kernel_tls;
use postern_tests::lab::Family;
use postern_tests::pki::{Authority, Wanted};
use postern_tests::postern::Policy;
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use rustls::ALL_VERSIONS;

/// Some groups of digests, and some dozen records.
const MESSAGE_BYTES: usize = 400_000;
/// Known messages of which one is compared.
const SAMPLE: u64 = 16;

fn policy() -> Policy {
    let server = Family::V4.server();
    // The kernel's record layer, where there is one: then octets that nobody looks at are spliced.
    let offload = if kernel_tls::exists() { "always" } else { "never" };
    Policy::new()
        .action("inspect = \"full\"")
        .action(&format!("trust_uid_immutability = [\"{server}\"]"))
        .tls(&format!("offload = {offload:?}"))
}

fn serve(scene: &Scene) -> Result<ImapServer> {
    scene.serve_with(scene.identity.server_config(ALL_VERSIONS)?, vec![large_message(MESSAGE_BYTES)])
}

fn fetch(session: &mut Session) -> Result<Vec<u8>> {
    let answer = session.command("UID FETCH 1 BODY.PEEK[]")?.ok()?;
    answer.literals.into_iter().next().context("no message came")
}

/// Enter, and fetch the message that nobody has judged.
fn judged(scene: &Scene, server: &ImapServer) -> Result<Session> {
    let mut session = scene.session(Family::V4, 993)?;
    session.enter()?;
    ensure!(fetch(&mut session)? == *server.message(1)?, "the message came changed");
    Ok(session)
}

fn counted(record: &Record) -> [u64; 2] {
    ["trusted", "verified"].map(|what| record.number(&format!("postern.content.{what}")))
}

#[test]
fn known_mail_of_a_trusted_server_goes_on_without_a_look_but_for_one_of_sixteen() -> Result<()> {
    let scene = Scene::new(&policy())?;
    let postern = scene.start()?;
    let server = serve(&scene)?;
    let mut session = judged(&scene, &server)?;
    let message = server.message(1)?;
    for _ in 0..SAMPLE {
        ensure!(fetch(&mut session)? == *message, "the message came changed");
    }
    session.logout()?;
    let record = postern.wait_records(1)?.remove(0);
    ensure!(record.succeeded(), "{record:#?}");
    assert_eq!(counted(&record), [SAMPLE - 1, 1], "{record:#?}");
    let spliced = record.number("postern.server_to_client.spliced_bytes");
    // What came with the literal's announcement was received already.
    let least = (SAMPLE - 1) * (message.len() as u64 - 100_000);
    ensure!(kernel_tls::exists() == (spliced >= least), "{spliced} octets were spliced: {record:#?}");
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_trusted_server_that_changes_a_message_is_found_out_and_trusted_no_more() -> Result<()> {
    let scene = Scene::new(&policy())?;
    let postern = scene.start()?;
    let server = serve(&scene)?;
    let mut session = judged(&scene, &server)?;
    let mut hostile = server.message(1)?.to_vec();
    let body = hostile.windows(4).position(|end| end == b"\r\n\r\n").context("no header")? + 4;
    let virus = eicar();
    hostile.splice(body..body + virus.len() + 2, [virus.as_slice(), b"\r\n"].concat());
    server.replace(1, hostile)?;
    let holds_eicar = |octets: &[u8]| octets.windows(virus.len()).any(|window| window == virus);
    // What the owner says cannot happen passes until a sample falls on it: fifteen times at most.
    let mut passed = 0;
    while holds_eicar(&fetch(&mut session)?) {
        passed += 1;
        ensure!(passed < SAMPLE, "nobody looked at {passed} messages");
    }
    for _ in 0..2 * SAMPLE {
        ensure!(!holds_eicar(&fetch(&mut session)?), "it is trusted again");
    }
    session.logout()?;
    let record = postern.wait_records(1)?.remove(0);
    assert_eq!(counted(&record)[0], passed, "{record:#?}");
    let address = Family::V4.server().to_string();
    let status = postern.status()?;
    assert_eq!(status.get("distrusted"), Some(&serde_json::json!([address])), "{status:#}");
    let said = scene.installation.command(&scene.lab.gateway, &["status"])?;
    ensure!(said.stdout.contains("ALARMS") && said.stdout.contains(&address), "{}", said.stdout);
    ensure!(postern.log().contains("this server changed what stands under a UID"), "{}", postern.log());
    drop(server);
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_server_whose_certificate_is_only_let_through_is_not_trusted() -> Result<()> {
    let scene = Scene::new(&policy().fault("untrusted", "allow"))?;
    let postern = scene.start()?;
    let stranger = Authority::new("Unknown Root")?.issue(&Wanted::server())?;
    let server =
        scene.serve_with(stranger.server_config(ALL_VERSIONS)?, vec![large_message(MESSAGE_BYTES)])?;
    let mut session = judged(&scene, &server)?;
    for _ in 0..SAMPLE {
        fetch(&mut session)?;
    }
    session.logout()?;
    let record = postern.wait_records(1)?.remove(0);
    assert_eq!(counted(&record), [0, SAMPLE], "{record:#?}");
    drop(server);
    postern.stop()?;
    scene.finish()
}
