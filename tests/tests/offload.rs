//! The three values of `tls.offload`, on any kernel: with kernel TLS or without.

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Session;
use postern_tests::kernel_tls::{self, expected, told};
use postern_tests::lab::Family;
use postern_tests::postern::{Policy, Postern};
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
    // The kernel's abilities are always stated; a remedy only under `always`.
    let told = if mode == "always" { "none, every connection is refused" } else { "this kernel has none" };
    ensure!(can.contains(told) != kernel_tls::exists(), "status says {can:?}");
    ensure!(can.starts_with("not used") == (mode == "never"), "status says {can:?}");
    ensure!(mode == "always" || !can.contains("modprobe"), "status says {can:?}");
    ensure!(postern.log().contains(&format!("kernel TLS: {can}")), "{}", postern.log());
    chosen(&postern, &record, mode)?;
    drop(server);
    postern.stop()?;
    scene.finish()?;
    Ok(record)
}

/// Whether the layers are measured at the start.
fn measures(mode: &str) -> bool {
    mode == "auto" && kernel_tls::exists() && kernel_tls::changes_keys()
}

/// Status and log say who opens and seals records, and the record says the same of each side.
fn chosen(postern: &Postern<'_>, record: &Record, mode: &str) -> Result<()> {
    let status = postern.status()?;
    let words = status.get("record_layer").and_then(|words| words.as_str()).unwrap_or_default();
    ensure!(postern.log().contains(&format!("records: {words}")), "{}", postern.log());
    ensure!(words.contains("CPU s per GB") == measures(mode), "{words:?} under {mode}");
    if !measures(mode) {
        return Ok(());
    }
    for (side, field) in [("downstream", "tls.cipher"), ("upstream", "postern.upstream.tls.cipher")] {
        let cipher = record.text(field);
        let name = if cipher.contains("AES_128") {
            "AES-128-GCM"
        } else if cipher.contains("AES_256") {
            "AES-256-GCM"
        } else {
            "ChaCha20-Poly1305"
        };
        let layer = if words.contains(&format!("{name} kernel")) { "kernel" } else { "user" };
        assert_eq!(told(record, side), [layer, layer], "{cipher}, and status says {words:?}");
    }
    Ok(())
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
        // Where `auto` measured, `chosen` has compared the record with the figures.
        if !measures(mode) {
            for side in ["downstream", "upstream"] {
                assert_eq!(told(&record, side), expected(mode), "{mode}: {record:#?}");
            }
        }
    }
    Ok(())
}
