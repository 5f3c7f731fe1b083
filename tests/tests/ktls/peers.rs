use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{Session, Tls};
use postern_tests::dovecot::Dovecot;
use postern_tests::imap_server::large_message;
use postern_tests::kernel_tls::Statistics;
use postern_tests::lab::Family;
use postern_tests::real_client::{Errand, MATRIX};
use postern_tests::scene::MESSAGE;

use super::{ran, under};

/// Longer than every buffer on the way.
const LITERAL_BYTES: usize = 4 * 1000 * 1000;
/// A large message.
const LARGE_BYTES: usize = 50 * 1000 * 1000;

#[test]
fn every_client_fetches_from_dovecot_through_the_kernels_tls() -> Result<()> {
    matrix("always")
}

#[test]
fn every_client_fetches_from_dovecot_and_the_kernels_tls_is_left_alone_under_never() -> Result<()> {
    matrix("never")
}

fn matrix(mode: &str) -> Result<()> {
    for server in Tls::ALL {
        under(mode, |scene, postern| {
            let dovecot = Dovecot::start(&scene.lab.server, &scene.identity, &[server])?;
            dovecot.deliver("1.lab", MESSAGE)?;
            let mut seen = Statistics::read(&scene.lab.gateway)?;
            let rows = MATRIX.iter().filter(|row| row.4 == server);
            for (done, &(client, port, family, tls, _)) in rows.enumerate() {
                let (dir, authority) = (scene.installation.dir(), scene.installation.authority_file());
                let authority = &authority;
                let message =
                    client.fetch(&Errand { from: &scene.lab.client, family, port, tls, authority, dir })?;
                assert_eq!(String::from_utf8_lossy(&message), String::from_utf8_lossy(MESSAGE), "{client:?}");
                let record = postern.wait_records(done + 1)?.pop().context("no record")?;
                ensure!(record.succeeded(), "{record:#?}");
                seen = ran((scene, &seen), &record, mode)?;
            }
            drop(dovecot);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn four_megabytes_go_up_and_come_down_octet_for_octet_in_both_versions() -> Result<()> {
    for mode in ["always", "never"] {
        for tls in Tls::ALL {
            there_and_back(mode, tls, LITERAL_BYTES)?;
        }
    }
    Ok(())
}

#[test]
fn fifty_megabytes_go_up_and_come_down_through_the_kernels_tls() -> Result<()> {
    there_and_back("always", Tls::V13, LARGE_BYTES)
}

#[test]
fn fifty_megabytes_go_up_and_come_down_under_never() -> Result<()> {
    there_and_back("never", Tls::V13, LARGE_BYTES)
}

fn there_and_back(mode: &str, tls: Tls, octets: usize) -> Result<()> {
    under(mode, |scene, postern| {
        let config = scene.identity.server_config(tls.versions())?;
        let server = scene.serve_with(config, Vec::new())?;
        let before = Statistics::read(&scene.lab.gateway)?;
        let (to, config) = (scene.server(Family::V4, 993), scene.client_with(tls.versions())?);
        let mut session = Session::open(&scene.lab.client, to, Family::V4.name(), &config)?;
        session.enter()?;
        session.there_and_back(&large_message(octets))?;
        session.logout()?;
        let record = postern.wait_records(1)?.pop().context("no record")?;
        ensure!(record.succeeded(), "{record:#?}");
        for key in ["client.bytes", "server.bytes"] {
            ensure!(record.number(key) >= octets as u64, "{key}: {record:#?}");
        }
        ran((scene, &before), &record, mode)?;
        for direction in ["client_to_server", "server_to_client"] {
            let counted = |what: &str| record.number(&format!("postern.{direction}.{what}_bytes"));
            let (spliced, held) = (counted("spliced"), counted("held"));
            let most = if mode == "always" { spliced } else { held };
            ensure!(most >= octets as u64, "{direction}: the literal went another way: {record:#?}");
            ensure!(mode == "always" || spliced == 0, "{direction}: {record:#?}");
            // Headers of records that a read cut, never bodies.
            ensure!(counted("copied") < octets as u64 / 100, "{direction}: {record:#?}");
        }
        drop(server);
        Ok(())
    })
}
