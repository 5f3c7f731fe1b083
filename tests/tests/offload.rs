//! The three words of `tls.offload`, on whatever kernel this is: with kernel TLS or without.

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::kernel_tls::{self, expected, told};
use postern_tests::lab::Family;
use postern_tests::postern::Policy;
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};

/// One session under a mode on a port; its record.
fn visit(mode: &str, port: u16, visit: impl FnOnce(&Scene) -> Result<()>) -> Result<Record> {
    let scene = Scene::new(&Policy::new().tls(&format!("offload = {mode:?}")))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    visit(&scene).with_context(|| format!("{mode}, port {port}\n{}", postern.log()))?;
    let record = postern.wait_records(1)?.into_iter().next().context("no record")?;
    let can = postern.status()?.get("kernel_tls").and_then(|can| can.as_str()).unwrap_or_default().to_owned();
    // What the kernel can do is a fact; what to do about it is said only where it was asked for.
    let told = if mode == "always" { "none, every connection is refused" } else { "this kernel has none" };
    ensure!(can.contains(told) != kernel_tls::exists(), "status says {can:?}");
    ensure!(can.starts_with("not used") == (mode != "always"), "status says {can:?}");
    ensure!(mode == "always" || !can.contains("modprobe"), "status says {can:?}");
    ensure!(postern.log().contains(&format!("kernel TLS: {can}")), "{}", postern.log());
    drop(server);
    postern.stop()?;
    scene.finish()?;
    Ok(record)
}

fn served(scene: &Scene, port: u16) -> Result<()> {
    let mut session = scene.session(Family::V4, port)?;
    session.enter()?;
    ensure!(session.fetch(1)? == MESSAGE, "another message came");
    session.logout()
}

/// The words that a refused client is told inside a finished handshake.
fn refused(scene: &Scene, port: u16) -> Result<()> {
    let (to, config) = (scene.server(Family::V4, port), scene.client()?);
    let mut session = if port == 993 {
        Session::implicit(&scene.lab.client, to, Family::V4.name(), &config)?
    } else {
        let mut session = Session::clear(scene.lab.client.connect(to)?);
        session.greeting()?;
        session.starttls(Family::V4.name(), &config)?
    };
    let told = session.line()?;
    ensure!(told.starts_with("* BYE"), "{told}");
    ensure!(session.to_end()?.is_empty(), "more was said");
    Ok(())
}

#[test]
fn always_serves_where_the_kernel_has_tls_and_refuses_in_words_where_it_has_none() -> Result<()> {
    for port in [143, 993] {
        if kernel_tls::exists() {
            let record = visit("always", port, |scene| served(scene, port))?;
            ensure!(record.succeeded(), "{record:#?}");
            for side in ["downstream", "upstream"] {
                assert_eq!(told(&record, side), ["kernel", "kernel"], "{record:#?}");
            }
        } else {
            let record = visit("always", port, |scene| refused(scene, port))?;
            assert_eq!(record.text("event.reason"), "offload_refused", "{record:#?}");
            assert!(record.text("message").contains("modprobe tls"), "{record:#?}");
        }
    }
    Ok(())
}

#[test]
fn auto_and_never_serve_whatever_the_kernel_has() -> Result<()> {
    for (mode, port) in [("auto", 143), ("auto", 993), ("never", 143), ("never", 993)] {
        let record = visit(mode, port, |scene| served(scene, port))?;
        ensure!(record.succeeded(), "{record:#?}");
        for side in ["downstream", "upstream"] {
            assert_eq!(told(&record, side), expected(mode), "{mode}: {record:#?}");
        }
    }
    Ok(())
}
