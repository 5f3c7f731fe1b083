//! Kernel TLS where the kernel has it: real peers, keys that change, hand-over, damage, and what is left behind.
//!
//! Kernels before 6.14 cannot change keys. The tests request changes there, too, and check how such a session ends.

/// Real clients and Dovecot, and long messages.
mod peers;
/// KeyUpdate (RFC 8446 section 4.6.3).
mod keys;
/// The first octets behind a handshake.
mod handover;
/// Alerts, truncation, damaged records.
mod damage;
/// Thousands of sessions.
mod many;

use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::Tls;
use postern_tests::kernel_tls::{self, Statistics};
use postern_tests::lab::Family;
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::Scene;
use postern_tests::scripted::Scripted;
use rustls::{ClientConfig, ConnectionCommon, ServerConfig};

/// Both sides of a record.
const SIDES: [&str; 2] = ["downstream", "upstream"];

/// A daemon under this mode of `tls.offload`.
fn under(mode: &str, visit: impl FnOnce(&Scene, &Postern<'_>) -> Result<()>) -> Result<()> {
    ensure!(
        kernel_tls::exists(),
        "this kernel has no TLS (modprobe tls): `cargo xtask vm` boots one that has"
    );
    let scene = Scene::new(&Policy::new().tls(&format!("offload = {mode:?}")))?;
    let postern = scene.start()?;
    visit(&scene, &postern).with_context(|| postern.log())?;
    ensure!(!postern.log().contains("panic"), "{}", postern.log());
    postern.stop()?;
    scene.finish()
}

/// Visit under each layer: both must behave alike.
fn under_each(visit: impl Fn(&'static str, &Scene, &Postern<'_>) -> Result<()>) -> Result<()> {
    for mode in ["always", "never"] {
        under(mode, |scene, postern| visit(mode, scene, postern)).with_context(|| format!("under {mode}"))?;
    }
    Ok(())
}

/// One session on port 993 between two scripts that speak this version of TLS, and its record.
fn session<T: Send + 'static>(
    (scene, postern): (&Scene, &Postern<'_>),
    tls: Tls,
    server: impl FnOnce(TcpStream, ServerConfig) -> Result<T> + Send + 'static,
    client: impl FnOnce(TcpStream, Arc<ClientConfig>) -> Result<()>,
) -> Result<(T, Record)> {
    let before = postern.records()?.len();
    let config = scene.identity.server_config(tls.versions())?;
    let to = scene.server(Family::V4, 993);
    let server = Scripted::once(&scene.lab.server, to, move |tcp| server(tcp, config))?;
    client(scene.lab.client.connect(to)?, scene.client_with(tls.versions())?).context("the client")?;
    let result = server.result().context("the server")?;
    let record = postern.wait_records(before + 1)?.pop().context("no record")?;
    Ok((result, record))
}

/// That a session's record and what the kernel counted since `before` agree on who opened and sealed.
fn ran((scene, before): (&Scene, &Statistics), record: &Record, mode: &str) -> Result<Statistics> {
    let mut halves = [0, 0];
    for side in SIDES {
        let expected = kernel_tls::expected(mode);
        ensure!(kernel_tls::told(record, side) == expected, "{side} is not {expected:?}: {record:#?}");
        for (count, layer) in halves.iter_mut().zip(expected) {
            *count += u64::from(layer == "kernel");
        }
    }
    let now = Statistics::read(&scene.lab.gateway)?;
    let grown = ["TlsRxSw", "TlsTxSw"].map(|name| now.grown(before, name));
    ensure!(grown == halves, "the kernel was given {grown:?} halves, not {halves:?}: {now:?}");
    ensure!(now.of("TlsDecryptError") == 0 && now.of("TlsRxNoPadViolation") == 0, "{now:?}");
    Ok(now)
}

/// What an end has to say, as octets of TLS.
fn outgoing<D>(connection: &mut ConnectionCommon<D>) -> Result<Vec<u8>> {
    let mut octets = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut octets)?;
    }
    Ok(octets)
}

/// Read what has come.
fn incoming<D>(connection: &mut ConnectionCommon<D>, tcp: &mut TcpStream) -> Result<()> {
    ensure!(connection.read_tls(tcp)? > 0, "the stream ended in the handshake");
    connection.process_new_packets()?;
    Ok(())
}
