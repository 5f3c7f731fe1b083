//! What a TLS profile allows, in real handshakes: versions, ciphers, groups, client certificates.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use postern_tests::client::{Session, Tls};
use postern_tests::lab::Family;
use postern_tests::openssl::{OpenSsl, OpenSslServer};
use postern_tests::pki::{self, Wanted};
use postern_tests::postern::{Policy, Postern};
use postern_tests::record::Record;
use postern_tests::scene::{MESSAGE, Scene};
use postern_tests::scripted;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{ALL_VERSIONS, CipherSuite, NamedGroup, ServerConfig};

const TO: SocketAddr = SocketAddr::new(Family::V4.server(), 993);

/// Version, cipher and group, as records name them.
type Agreed = (&'static str, &'static str, &'static str);

/// A profile, what the server's key is, and openssl clients: what each agrees on, or nothing.
struct Profile {
    lines: &'static [&'static str],
    rsa: bool,
    clients: &'static [(&'static [&'static str], Option<Agreed>)],
}

const RSA128: Agreed = ("1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "x25519");
const ECDSA256: Agreed = ("1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "secp256r1");
const ECDSA256_IN_X25519: Agreed = ("1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "x25519");
const CHACHA: Agreed = ("1.3", "TLS_CHACHA20_POLY1305_SHA256", "secp384r1");
const AES128: Agreed = ("1.3", "TLS_AES_128_GCM_SHA256", "secp256r1");

const PROFILES: [Profile; 5] = [
    Profile {
        lines: &["ciphers = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]", "groups = [\"x25519\"]"],
        rsa: true,
        clients: &[
            // This client could verify an ECDSA certificate, too, and speak TLS 1.3.
            (&[], Some(RSA128)),
            (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-groups", "X25519"], Some(RSA128)),
            (&["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"], None),
            (&["-tls1_2", "-groups", "P-256"], None),
            (&["-tls1_3"], None),
        ],
    },
    Profile {
        lines: &["ciphers = [\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]", "groups = [\"secp256r1\"]"],
        rsa: false,
        clients: &[
            (&[], Some(ECDSA256)),
            (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384", "-groups", "P-256"], Some(ECDSA256)),
            (&["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"], None),
            (&["-tls1_2", "-groups", "X25519"], None),
        ],
    },
    Profile {
        lines: &[
            "min_version = \"1.3\"",
            "ciphers = [\"TLS_CHACHA20_POLY1305_SHA256\"]",
            "groups = [\"secp384r1\"]",
        ],
        rsa: false,
        clients: &[
            // The group is none of the client's first shares: a HelloRetryRequest comes before.
            (&[], Some(CHACHA)),
            (&["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256", "-groups", "P-384"], Some(CHACHA)),
            (&["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"], None),
            (&["-tls1_3", "-groups", "X25519:P-256"], None),
            (&["-tls1_2"], None),
        ],
    },
    Profile {
        // A certificate's key on P-256 is no exchange of keys in P-256.
        lines: &["ciphers = [\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]", "groups = [\"x25519\"]"],
        rsa: false,
        clients: &[
            (&["-tls1_2", "-groups", "X25519:P-256"], Some(ECDSA256_IN_X25519)),
            // This client can verify no certificate on P-256, and the profile has no suite for another.
            (&["-tls1_2", "-groups", "X25519"], None),
        ],
    },
    Profile {
        lines: &["pfs = \"required\""],
        rsa: false,
        clients: &[
            (&["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-groups", "P-256"], Some(AES128)),
            (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384", "-groups", "P-256"], Some(ECDSA256)),
            (&["-tls1_2", "-cipher", "AES128-GCM-SHA256"], None),
            (&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], None),
        ],
    },
];

fn policy(lines: &[&str]) -> Policy {
    lines.iter().fold(Policy::new(), |policy, line| policy.tls(line))
}

fn last(postern: &Postern<'_>, count: usize) -> Result<Record> {
    postern.wait_records(count)?.pop().context("no record")
}

fn agreed(record: &Record, prefix: &str, agreed: Agreed) {
    let (version, cipher, group) = agreed;
    for (field, wanted) in [("version", version), ("cipher", cipher), ("curve", group)] {
        assert_eq!(record.text(&format!("{prefix}.{field}")), wanted, "{prefix}.{field}: {record:#?}");
    }
}

#[test]
fn a_client_agrees_with_the_profile_on_version_cipher_and_group_or_is_refused() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    for Profile { lines, rsa, clients } in PROFILES {
        scene.installation.configure(&policy(lines))?;
        let postern = scene.start()?;
        let identity = if rsa { scene.roots.issue_rsa(&Wanted::server())? } else { scene.identity.clone() };
        let server = scene.serve_with(identity.server_config(ALL_VERSIONS)?, vec![MESSAGE.to_vec()])?;
        let mut count = 0;
        for (args, wanted) in clients {
            for port in [143, 993] {
                count += 1;
                let mut openssl = OpenSsl::begin(&scene, port, args)?;
                match *wanted {
                    Some(wanted) => {
                        openssl.wait("Verify return code: 0 (ok)", 1)?;
                        openssl.type_line("x1 LOGOUT")?;
                        openssl.wait("x1 OK", 1)?;
                        let record = last(&postern, count)?;
                        assert!(record.succeeded(), "{lines:?} {args:?} {port}: {record:#?}");
                        agreed(&record, "tls", wanted);
                    }
                    None => {
                        openssl.wait_end()?;
                        let record = last(&postern, count)?;
                        assert_eq!(
                            record.text("event.reason"),
                            "tls_handshake_failed",
                            "{args:?}: {record:#?}"
                        );
                        assert_eq!(record.text("postern.side"), "downstream", "{args:?}: {record:#?}");
                        assert!(openssl.said().contains("alert"), "{args:?}: {}", openssl.said());
                    }
                }
            }
        }
        drop(server);
        postern.stop()?;
    }
    scene.finish()
}

/// A profile, and openssl servers: what each agrees on with Postern, or nothing.
type Servers = (&'static [&'static str], &'static [(&'static [&'static str], Option<Agreed>)]);

const SERVERS: [Servers; 3] = [
    (
        &["ciphers = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]", "groups = [\"x25519\"]"],
        &[
            (&[], Some(RSA128)),
            (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], Some(RSA128)),
            (&["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"], None),
            (&["-tls1_3"], None),
            (&["-tls1_2", "-groups", "P-256"], None),
        ],
    ),
    (
        &[
            "min_version = \"1.3\"",
            "ciphers = [\"TLS_CHACHA20_POLY1305_SHA256\"]",
            "groups = [\"secp384r1\"]",
        ],
        &[
            (&[], Some(CHACHA)),
            (&["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256", "-groups", "P-384"], Some(CHACHA)),
            (&["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"], None),
            (&["-tls1_3", "-groups", "P-256"], None),
            (&["-tls1_2"], None),
        ],
    ),
    (
        &[],
        &[
            (&["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-groups", "P-256"], Some(AES128)),
            (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-groups", "X25519"], Some(RSA128)),
        ],
    ),
];

/// Nobody trusts the certificate of `s_server`, and its key is what these tests need it for.
fn for_openssl(lines: &[&str]) -> Policy {
    ["untrusted", "wrong_name"].into_iter().fold(policy(lines), |policy, fault| policy.fault(fault, "allow"))
}

/// The client cannot follow the profile here, where it has only what openssl's server needs. So it offers everything.
fn implicit(scene: &Scene) -> Result<Session> {
    Session::implicit(&scene.lab.client, TO, Family::V4.name(), &scene.client()?)
}

#[test]
fn a_server_agrees_with_the_profile_on_version_cipher_and_group_or_is_named() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    for (lines, servers) in SERVERS {
        scene.installation.configure(&for_openssl(lines))?;
        let postern = scene.start()?;
        for (count, (args, wanted)) in (1..).zip(servers) {
            let mut server = OpenSslServer::start(&scene, TO, args)?;
            let mut session = implicit(&scene).with_context(|| format!("{args:?}: {}", server.said()))?;
            match *wanted {
                Some(wanted) => {
                    server.say("* OK ready")?;
                    session.greeting().with_context(|| format!("{args:?}: {}", server.said()))?;
                    drop((session, server));
                    agreed(&last(&postern, count)?, "postern.upstream.tls", wanted);
                }
                None => {
                    let told = session.line()?;
                    ensure!(
                        told.starts_with("* BYE") && told.contains("TLS that this gateway refuses"),
                        "{told}"
                    );
                    drop((session, server));
                    let record = last(&postern, count)?;
                    assert_eq!(
                        record.text("event.reason"),
                        "upstream_tls_incompatible",
                        "{args:?}: {record:#?}"
                    );
                    let message = record.text("message");
                    assert!(message.contains("tls.ciphers and tls.groups"), "{args:?}: {message}");
                }
            }
        }
        postern.stop()?;
    }
    scene.finish()
}

/// rustls' provider with one suite and one group.
fn only(suite: CipherSuite, group: NamedGroup) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|ours| ours.suite() == suite);
    provider.kx_groups.retain(|ours| ours.name() == group);
    Arc::new(provider)
}

#[test]
fn behind_starttls_a_server_agrees_with_the_profile_too() -> Result<()> {
    let lines = [
        "ciphers = [\"TLS_AES_256_GCM_SHA384\", \"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]",
        "groups = [\"secp384r1\", \"x25519\"]",
    ];
    let scene = Scene::new(&policy(&lines))?;
    let postern = scene.start()?;
    let good = (CipherSuite::TLS13_AES_256_GCM_SHA384, NamedGroup::X25519);
    let other_suite = (CipherSuite::TLS13_AES_128_GCM_SHA256, NamedGroup::X25519);
    let other_group = (CipherSuite::TLS13_AES_256_GCM_SHA384, NamedGroup::secp256r1);
    for (count, (suite, group)) in (1..).zip([good, other_suite, other_group]) {
        let config = ServerConfig::builder_with_provider(only(suite, group))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(scene.identity.chain()?, scene.identity.key()?)?;
        let server =
            scripted::behind_starttls(&scene.lab.server, scene.server(Family::V4, 143), move |tcp| {
                Ok(scripted::accept_tls(tcp, config).map(drop).is_ok())
            })?;
        let mut session = scene.starttls(Family::V4)?;
        if count == 1 {
            drop(session);
            let record = last(&postern, count)?;
            agreed(&record, "postern.upstream.tls", ("1.3", "TLS_AES_256_GCM_SHA384", "x25519"));
        } else {
            let told = session.line()?;
            ensure!(told.starts_with("* BYE") && told.contains("TLS that this gateway refuses"), "{told}");
            drop(session);
            let record = last(&postern, count)?;
            assert_eq!(record.text("event.reason"), "upstream_tls_incompatible", "{record:#?}");
        }
        assert_eq!(server.result()?, count == 1);
    }
    postern.stop()?;
    scene.finish()
}

#[test]
fn a_server_that_asks_for_a_client_certificate_is_refused_where_policy_says_so() -> Result<()> {
    let scene = Scene::new(&Policy::new())?;
    for (word, served) in [("none", true), ("block", false)] {
        let line = format!("client_certificate = \"{word}\"");
        scene.installation.configure(&for_openssl(&[&line]))?;
        let postern = scene.start()?;
        let mut count = 0;
        for version in ["-tls1_2", "-tls1_3"] {
            count += 1;
            let mut server = OpenSslServer::start(&scene, TO, &["-verify", "1", version])?;
            let mut session = implicit(&scene)?;
            if served {
                server.say("* OK ready")?;
                session.greeting().with_context(|| server.said())?;
                drop((server, session));
                let record = last(&postern, count)?;
                assert!(record.number("server.bytes") > 0, "{record:#?}");
            } else {
                blocked(&mut session)?;
                drop((server, session));
                asked(&last(&postern, count)?);
            }
        }
        // One that requires it says so itself under "none".
        for version in ["-tls1_2", "-tls1_3"] {
            count += 1;
            let server = OpenSslServer::start(&scene, TO, &["-Verify", "1", version])?;
            let mut session = implicit(&scene)?;
            let told = session.line()?;
            drop((server, session));
            let record = last(&postern, count)?;
            if served {
                assert!(told.contains("client certificate"), "{told}");
                assert_eq!(record.text("event.reason"), "upstream_wants_client_certificate", "{record:#?}");
            } else {
                asked(&record);
            }
        }
        for version in Tls::ALL {
            count += 1;
            let verifier = WebPkiClientVerifier::builder(pki::trust(scene.roots.pem())?);
            let config = ServerConfig::builder_with_protocol_versions(version.versions())
                .with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
                .with_single_cert(scene.identity.chain()?, scene.identity.key()?)?;
            let server =
                scripted::behind_starttls(&scene.lab.server, scene.server(Family::V4, 143), move |tcp| {
                    scripted::accept_tls(tcp, config).map(drop)
                })?;
            let mut session = scene.starttls(Family::V4)?;
            if served {
                server.result()?;
                drop(session);
                let record = last(&postern, count)?;
                assert_ne!(record.text("event.reason"), "client_certificate_blocked", "{record:#?}");
            } else {
                blocked(&mut session)?;
                drop(session);
                asked(&last(&postern, count)?);
            }
        }
        postern.stop()?;
    }
    scene.finish()
}

fn blocked(session: &mut Session) -> Result<()> {
    let told = session.line()?;
    ensure!(told.starts_with("* BYE Postern: ") && told.contains("asks for a client certificate"), "{told}");
    ensure!(session.to_end()?.is_empty(), "more was said");
    Ok(())
}

fn asked(record: &Record) {
    assert_eq!(record.text("event.reason"), "client_certificate_blocked", "{record:#?}");
    assert_eq!(record.text("postern.side"), "upstream", "{record:#?}");
    assert!(record.text("message").contains("tls.client_certificate"), "{record:#?}");
}

/// What the two ports of one action have: a profile each, and what a client that offers everything then agrees on.
const OF_PORTS: [(u16, &str, Agreed); 2] = [
    (143, "ciphers = [\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]\ngroups = [\"secp256r1\"]", ECDSA256),
    (
        993,
        "min_version = \"1.3\"\nciphers = [\"TLS_CHACHA20_POLY1305_SHA256\"]\ngroups = [\"secp384r1\"]",
        CHACHA,
    ),
];

#[test]
fn each_port_of_one_action_has_its_own_profile_on_both_sides() -> Result<()> {
    let table = |(port, lines, _): &(u16, &str, Agreed)| {
        format!("[tls_profile.On{port}]\nroots = [\"roots.pem\"]\n{lines}\n")
    };
    let policy = Policy::new().action("tls_profile = \"On993\"").action("starttls_profile = \"On143\"");
    let scene = Scene::new(&OF_PORTS.iter().fold(policy, |policy, port| policy.table(&table(port))))?;
    let postern = scene.start()?;
    let server = scene.serve()?;
    for (count, (port, _, wanted)) in (1..).zip(OF_PORTS) {
        let mut session = scene.session(Family::V4, port)?;
        session.enter()?;
        assert_eq!(session.fetch(1)?, MESSAGE);
        session.logout()?;
        let record = last(&postern, count)?;
        agreed(&record, "tls", wanted);
        agreed(&record, "postern.upstream.tls", wanted);
        assert_eq!(record.text("postern.tls_profile"), format!("On{port}"), "{record:#?}");
    }
    drop(server);
    postern.stop()?;
    scene.finish()
}
