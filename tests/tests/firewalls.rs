//! The firewall around Postern, with the real nftables: masquerading, policies that drop, reverse-path filters. And the
//! rules that `postern check` prints are those that are needed.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use postern_tests::lab::{EGRESS, Family, INGRESS};
use postern_tests::netns;
use postern_tests::postern::{Policy, Postern, Said};
use postern_tests::scene::Scene;
use postern_tests::wait::PATIENCE;

const SOURCES: [&str; 2] = ["gateway", "client"];
/// The configuration is right, and the machine is not (`EX_UNAVAILABLE` of sysexits.h).
const EXIT_MACHINE: i32 = 69;

fn check(scene: &Scene) -> Result<Said> {
    scene.installation.command(&scene.lab.gateway, &["check"])
}

/// The commands that `check` prints, run as an administrator would paste them.
fn paste(scene: &Scene, said: &Said) -> Result<usize> {
    let commands: Vec<&str> =
        said.stdout.lines().map(str::trim).filter(|line| line.starts_with("nft insert rule")).collect();
    for command in &commands {
        let mut shell: Command = scene.lab.gateway.command("sh");
        netns::success(command, &netns::run(shell.args(["-c", command]), "", PATIENCE)?)?;
    }
    Ok(commands.len())
}

/// Both ports and families carry sessions.
fn works(scene: &Scene, postern: &Postern<'_>, what: &str) -> Result<()> {
    scene
        .sessions(8)
        .and_then(|mut crowd| crowd.prove())
        .with_context(|| format!("{what}\n{}", postern.log()))
}

#[test]
fn behind_masquerade_the_gateways_address_works_and_the_clients_is_found_out() -> Result<()> {
    for source in SOURCES {
        let scene = Scene::new(&Policy::new().source(source).limits("connect_seconds = 2"))?;
        scene.lab.masquerade()?;
        let server = scene.serve()?;
        let postern = scene.start()?;
        let said = check(&scene)?;
        if source == "gateway" {
            ensure!(said.code == Some(0), "{said:?}");
            works(&scene, &postern, source)?;
        } else {
            ensure!(said.code == Some(EXIT_MACHINE), "{said:?}");
            ensure!(said.stdout.contains("set steering.source = \"gateway\""), "{said:?}");
            // The daemon says so, too, and clients are told that the server cannot be reached.
            ensure!(scene.session(Family::V4, 993).is_err(), "no answer can arrive");
            postern
                .wait_record("unreachable", |record| record.text("event.reason") == "upstream_unreachable")?;
            postern.wait_log("masqueraded")?;
            ensure!(paste(&scene, &said)? > 0, "no remedy: {said:?}");
            works(&scene, &postern, "exempted from masquerading")?;
            let said = check(&scene)?;
            ensure!(said.code == Some(0), "{said:?}");
        }
        postern.stop()?;
        drop(server);
        scene.finish()?;
    }
    Ok(())
}

#[test]
fn what_drops_invalid_packets_finds_none_of_ours() -> Result<()> {
    for source in SOURCES {
        let scene = Scene::new(&Policy::new().source(source))?;
        for hook in ["prerouting", "input", "forward", "output"] {
            let kind = format!("filter hook {hook} priority filter");
            scene.lab.gateway.nft_chain(hook, &kind, "ct state invalid counter drop")?;
        }
        let server = scene.serve()?;
        let postern = scene.start()?;
        works(&scene, &postern, source)?;
        postern.stop()?;
        drop(server);
        scene.finish()?;
    }
    Ok(())
}

/// What a careful administrator of a gateway has: nothing in, out or through but what is listed, and nothing is.
const CLOSED: &str = "
table inet filter {
  chain input { type filter hook input priority filter; policy drop; iif lo accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; }
  chain forward { type filter hook forward priority filter; policy drop; }
  chain output { type filter hook output priority filter; policy drop; oif lo accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; }
}
";

#[test]
fn behind_policies_that_drop_nothing_works_until_the_printed_rules_are_there() -> Result<()> {
    for source in SOURCES {
        let scene = Scene::new(&Policy::new().source(source).limits("connect_seconds = 2"))?;
        scene.lab.gateway.nft(CLOSED)?;
        let server = scene.serve()?;
        let postern = scene.start()?;
        let said = check(&scene)?;
        ensure!(said.code == Some(EXIT_MACHINE), "{said:?}");
        for (family, port) in [(Family::V4, 143), (Family::V6, 993)] {
            let to = scene.server(family, port);
            let knocked = scene.lab.client.enter(|| {
                Ok(std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_millis(700)))
            })?;
            ensure!(knocked.is_err(), "{to}: somebody answers behind a closed firewall");
        }
        ensure!(paste(&scene, &said)? >= 4, "{said:?}");
        works(&scene, &postern, source)?;
        let said = check(&scene)?;
        ensure!(said.code == Some(0), "{said:?}");
        postern.stop()?;
        drop(server);
        scene.finish()?;
    }
    Ok(())
}

/// firewalld's rule against forged senders, as `firewall-cmd` makes it with `IPv6_rpfilter=yes`, and its like for IPv4.
const REVERSE_PATH: &str = "
table inet firewalld {
  chain mangle_PREROUTING {
    type filter hook prerouting priority -140; policy accept;
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    meta nfproto ipv4 fib saddr . mark . iif oif missing drop
  }
}
";

#[test]
fn strict_looks_at_the_way_back_let_marked_packets_pass() -> Result<()> {
    for source in SOURCES {
        let scene = Scene::new(&Policy::new().source(source))?;
        for interface in ["all", INGRESS, EGRESS] {
            scene.lab.gateway.sysctl(&[(&format!("ipv4/conf/{interface}/rp_filter"), "1")])?;
        }
        scene.lab.gateway.nft(REVERSE_PATH)?;
        let server = scene.serve()?;
        let postern = scene.start()?;
        works(&scene, &postern, source)?;
        if source == "client" {
            ensure!(postern.counter("marked_server")? > 0, "no packet was marked");
        }
        // With marks on all that clients send.
        let mut crowd = scene.sessions(8)?;
        postern.signal(rustix::process::Signal::TERM)?;
        postern.wait_log("draining")?;
        crowd.prove().with_context(|| format!("{source}: marked packets of clients\n{}", postern.log()))?;
        drop(crowd);
        drop((postern, server));
    }
    Ok(())
}
