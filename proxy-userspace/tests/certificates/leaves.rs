use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use postern::config::{Certificates, KeyFiles, ServerCertificate, ShownCertificates, Verdict};
use postern::handshake::mint::{
    KeyKind, LEAVES_MAX, LeafClass, Leaves, Request, SANS_MAX, Shown, UNTRUSTED_SUBJECT,
};
use postern::jobs::{JobPool, JobPurpose};
use rcgen::{CertificateParams, DnType, KeyPair, KeyUsagePurpose, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, NamedGroup, RootCertStore, SignatureScheme, version,
};
use tempfile::TempDir;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::client::{
    Mint, client_of, handshake, leaf_of, names, trusting_client, validity, wait_for, write_pair,
};
use crate::pki::{
    ADDRESS, Ca, DAY, FUTURE, GOOD, HOST, PAST, ca_params, judge, leaf_params, now, strict, tls,
};

#[test]
fn a_verified_leaf_copies_the_server_and_is_accepted() {
    let (mint, root) = (Mint::new(), Ca::root("Root"));
    let mut params = leaf_params(&[HOST, "*.example.net", "192.0.2.9"], GOOD);
    params.subject_alt_names.push(SanType::URI("https://example.org/".try_into().unwrap()));
    params.subject_alt_names.push(SanType::Rfc822Name("postmaster@example.org".try_into().unwrap()));
    params.distinguished_name.push(DnType::CommonName, HOST);
    let utf16: Vec<u8> = "Müller AG".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let organisation = rcgen::string::BmpString::from_utf16be(utf16).unwrap();
    params.distinguished_name.push(DnType::OrganizationName, rcgen::DnValue::BmpString(organisation));
    let upstream = root.issue(&params);
    let shown = mint.shown(Some(&upstream), Some(HOST), LeafClass::Verified);
    assert!(shown.minted);
    let leaf = leaf_of(&shown);
    let (_, minted) = X509Certificate::from_der(&leaf).unwrap();
    let (_, original) = X509Certificate::from_der(&upstream).unwrap();
    assert_eq!(minted.subject().as_raw(), original.subject().as_raw(), "also what is not UTF-8");
    assert_eq!(names(&leaf), [HOST, "*.example.net", "[192, 0, 2, 9]"]);
    assert_eq!(validity(&leaf), validity(&upstream));
    assert_eq!(minted.issuer().to_string(), "CN=Proxy Authority");
    assert!(minted.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert!(minted.key_usage().unwrap().unwrap().value.digital_signature());
    assert!(!minted.is_ca());
    assert_ne!(minted.raw_serial(), original.raw_serial());
    let sha256 = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, &leaf);
    assert_eq!(shown.fingerprint, sha256.as_ref());
    for name in [HOST, "imap.example.net", "192.0.2.9"] {
        handshake(&client_of(&mint.ca), &shown, name).unwrap();
    }
    assert!(handshake(&client_of(&mint.ca), &shown, "other.example").is_err());
    assert!(handshake(&client_of(&root.der), &shown, HOST).is_err());
}

#[test]
fn openssl_reads_and_verifies_every_class() {
    let (mint, upstream) = (Mint::new(), Ca::root("Root").leaf(&[HOST], GOOD));
    let (der, pem) = (mint.dir.path().join("leaf.der"), mint.dir.path().join("leaf.pem"));
    let authority = mint.dir.path().join("authority.pem");
    for class in
        [LeafClass::Verified, LeafClass::Allowed, LeafClass::Mirrored, LeafClass::Blocked, LeafClass::Absent]
    {
        for key in [KeyKind::Ecdsa, KeyKind::Rsa] {
            let request = Request {
                upstream: Some(&upstream),
                sni: Some(HOST),
                destination: ADDRESS,
                class,
                key,
                certificates: ShownCertificates::Authority,
            };
            std::fs::write(&der, leaf_of(&mint.server_config(&request).unwrap())).unwrap();
            let mut read = Command::new("openssl");
            read.args(["x509", "-inform", "der", "-text", "-in"]).arg(&der).arg("-out").arg(&pem);
            let read = read.output().unwrap();
            assert!(read.status.success(), "{class:?}: {read:?}");
            let mut verify = Command::new("openssl");
            verify.args([
                "verify",
                "-x509_strict",
                "-purpose",
                "sslserver",
                "-verify_hostname",
                HOST,
                "-CAfile",
            ]);
            let verified = verify.arg(&authority).arg(&pem).output().unwrap();
            assert_eq!(verified.status.success(), class != LeafClass::Mirrored, "{class:?}: {verified:?}");
        }
    }
}

#[test]
fn a_mirrored_leaf_makes_the_client_warn() {
    let (mint, root) = (Mint::new(), Ca::root("Root"));
    for days in [GOOD, PAST] {
        let upstream = root.leaf(&[HOST], days);
        let leaf = leaf_of(&mint.shown(Some(&upstream), Some("other.example"), LeafClass::Mirrored));
        assert_eq!(names(&leaf), [HOST], "the client shall see the wrong name");
        assert_eq!(validity(&leaf), validity(&upstream), "and the wrong time");
        let (_, cert) = X509Certificate::from_der(&leaf).unwrap();
        assert_eq!(cert.issuer().to_string(), format!("CN={UNTRUSTED_SUBJECT}"));
    }
    let shown = mint.shown(Some(&root.leaf(&[HOST], GOOD)), Some(HOST), LeafClass::Mirrored);
    let refused = handshake(&client_of(&mint.ca), &shown, HOST).unwrap_err();
    assert_eq!(refused, rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
}

#[test]
fn a_client_can_finish_its_handshake_to_read_the_reason() {
    let (mint, root) = (Mint::new(), Ca::root("Root"));
    let upstream = root.leaf(&["wrong.example"], PAST);
    let garbage = CertificateDer::from(vec![0x30, 0]);
    for class in [LeafClass::Allowed, LeafClass::Blocked, LeafClass::Absent] {
        for upstream in [Some(&upstream), Some(&garbage), None] {
            handshake(&client_of(&mint.ca), &mint.shown(upstream, Some(HOST), class), HOST).unwrap();
        }
        handshake(&client_of(&mint.ca), &mint.shown(None, None, class), "192.0.2.7").unwrap();
    }
    let seen = |sni, class| names(&leaf_of(&mint.shown(Some(&upstream), sni, class)));
    assert_eq!(seen(None, LeafClass::Blocked), ["wrong.example"]);
    assert_eq!(seen(Some(HOST), LeafClass::Blocked), [HOST, "wrong.example"]);
    assert_eq!(seen(Some(HOST), LeafClass::Absent), [HOST]);
}

#[test]
fn odd_server_certificates_give_sound_leaves() {
    let (mint, root) = (Mint::new(), Ca::root("Root"));
    let copied = |params: &CertificateParams| {
        names(&leaf_of(&mint.shown(Some(&root.issue(params)), None, LeafClass::Verified)))
    };
    let mut only_cn = leaf_params(&[], GOOD);
    assert!(copied(&only_cn).is_empty(), "no name is invented");
    only_cn.distinguished_name.push(DnType::CommonName, HOST);
    assert!(copied(&only_cn).is_empty());
    let many: Vec<_> = (0..2_000).map(|i| format!("h{i}.example")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let bounded = names(&leaf_of(&mint.shown(Some(&root.leaf(&many, GOOD)), Some(HOST), LeafClass::Blocked)));
    assert_eq!((bounded.len(), bounded[0].as_str()), (SANS_MAX, HOST));
    let outlives = root.leaf(&[HOST], (-800, 800));
    let clipped = validity(&leaf_of(&mint.shown(Some(&outlives), Some(HOST), LeafClass::Verified)));
    assert_eq!(clipped, validity(&mint.ca), "no longer than the authority");
}

/// Name constraints apply to subject alternative names. An issuer that may sign for one domain only must not certify
/// another one by a common name.
#[test]
fn a_common_name_stays_outside_the_issuers_constraints_for_the_client_too() {
    let (mint, root) = (Mint::new(), Ca::root("Root"));
    let mut constrained = ca_params("Constrained", GOOD);
    let permitted_subtrees = vec![rcgen::GeneralSubtree::DnsName("allowed.example".to_owned())];
    constrained.name_constraints =
        Some(rcgen::NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    let key = KeyPair::generate().unwrap();
    let cert = constrained.signed_by(&key, &root.issuer).unwrap();
    let issuer = rcgen::Issuer::new(constrained, key);
    for sans in [&[][..], &["mail.allowed.example"]] {
        let mut params = leaf_params(sans, GOOD);
        params.distinguished_name.push(DnType::CommonName, HOST);
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
        let judgement =
            judge(&root, strict()).judge(&[leaf.clone(), cert.der().clone()], None, UnixTime::now());
        assert_eq!(judgement.verdict, Verdict::Allow, "the client's own check decides");
        let shown = mint.shown(Some(&leaf), None, LeafClass::Verified);
        handshake(&client_of(&mint.ca), &shown, HOST).unwrap_err();
        assert_eq!(names(&leaf_of(&shown)), sans);
    }
}

#[test]
fn the_clients_name_is_kept_however_many_names_the_server_has() {
    let (mint, root) = (Mint::new(), Ca::root("Root"));
    let mut many: Vec<_> = (0..2_000).map(|i| format!("h{i}.example")).collect();
    many.push("*.last.example".to_owned());
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let upstream = root.leaf(&many, GOOD);
    for class in [LeafClass::Verified, LeafClass::Mirrored, LeafClass::Allowed] {
        for name in ["h0.example", "h1999.example", "H1998.Example", "imap.last.example"] {
            let shown = mint.shown(Some(&upstream), Some(name), class);
            assert_eq!(names(&leaf_of(&shown)).len(), SANS_MAX);
            let seen = handshake(&client_of(&mint.ca), &shown, name);
            assert_eq!(seen.is_ok(), class != LeafClass::Mirrored, "{class:?} {name}: {:?}", seen.err());
        }
        let seen = names(&leaf_of(&mint.shown(Some(&upstream), Some("imap.last.example"), class)));
        assert!(seen.iter().any(|name| name.ends_with("last.example")), "{class:?}");
    }
    let stranger = names(&leaf_of(&mint.shown(Some(&upstream), Some("other.example"), LeafClass::Mirrored)));
    assert!(!stranger.contains(&"other.example".to_owned()), "the client shall see the wrong name");
}

#[test]
fn an_rsa_only_client_gets_an_rsa_leaf() {
    let mint = Mint::new();
    let mut provider = aws_lc_rs::default_provider();
    provider
        .cipher_suites
        .retain(|suite| suite.suite() == CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256);
    let suites: Vec<_> = provider.cipher_suites.iter().map(rustls::SupportedCipherSuite::suite).collect();
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let mut roots = RootCertStore::empty();
    roots.add(mint.ca.clone()).unwrap();
    let config =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&version::TLS12]);
    let config = Arc::new(config.unwrap().with_root_certificates(roots).with_no_client_auth());
    let key = KeyKind::for_client(&schemes, &suites, None);
    assert_eq!(key, KeyKind::Rsa);
    let upstream = Ca::root("Root").leaf(&[HOST], GOOD);
    let class = LeafClass::Verified;
    let request = Request {
        upstream: Some(&upstream),
        sni: Some(HOST),
        destination: ADDRESS,
        class,
        key,
        certificates: ShownCertificates::Authority,
    };
    handshake(&config, &mint.server_config(&request).unwrap(), HOST).unwrap();
}

#[test]
fn the_kind_of_key_follows_the_client_hello() {
    let (ecdsa, rsa) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256);
    let tls13 = CipherSuite::TLS13_AES_128_GCM_SHA256;
    let with_ecdsa = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    let with_rsa = CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
    let kind = |schemes: &[_], suites: &[_]| KeyKind::for_client(schemes, suites, None);
    assert_eq!(kind(&[rsa, ecdsa], &[tls13]), KeyKind::Ecdsa);
    assert_eq!(kind(&[ecdsa], &[with_rsa, with_ecdsa]), KeyKind::Ecdsa);
    assert_eq!(kind(&[rsa], &[tls13]), KeyKind::Rsa);
    assert_eq!(kind(&[ecdsa, rsa], &[with_rsa]), KeyKind::Rsa);
    assert_eq!(kind(&[SignatureScheme::ECDSA_NISTP384_SHA384], &[tls13]), KeyKind::Rsa);
    // The curve of the key must be among the groups, but only in TLS 1.2.
    let (curve, other) = (NamedGroup::secp256r1, NamedGroup::X25519);
    let kind = |suites: &[_], groups: &[_]| KeyKind::for_client(&[ecdsa, rsa], suites, Some(groups));
    assert_eq!(kind(&[with_ecdsa, with_rsa], &[other, curve]), KeyKind::Ecdsa);
    assert_eq!(kind(&[with_ecdsa, with_rsa], &[other]), KeyKind::Rsa);
    assert_eq!(kind(&[tls13, with_ecdsa], &[other]), KeyKind::Ecdsa);
}

#[test]
fn ten_thousand_names_and_certificates_leave_the_cache_bounded() {
    let (mint, root) = (Mint::new(), Ca::root("Root"));
    let within = 1_000..=LEAVES_MAX;
    for i in 0..10_000 {
        mint.shown(None, Some(&format!("h{i}.example")), LeafClass::Absent);
    }
    assert!(within.contains(&mint.leaves.cached()), "{}", mint.leaves.cached());
    let key = KeyPair::generate().unwrap();
    for i in 0..10_000 {
        let params = leaf_params(&[&format!("h{i}.example")], GOOD);
        let upstream = params.signed_by(&key, &root.issuer).unwrap().der().clone();
        mint.shown(Some(&upstream), Some("any.example"), LeafClass::Verified);
    }
    assert!(within.contains(&mint.leaves.cached()), "{}", mint.leaves.cached());
}

#[test]
fn a_leaf_is_minted_once_and_anew_before_it_ends() {
    let (mint, root) = (Arc::new(Mint::new()), Ca::root("Root"));
    let upstream = root.leaf(&[HOST, "*.example.net"], GOOD);
    let first = mint.shown(Some(&upstream), Some(HOST), LeafClass::Verified).fingerprint;
    assert_eq!(first, mint.shown(Some(&upstream), Some("a.example.net"), LeafClass::Verified).fingerprint);
    assert_ne!(first, mint.shown(Some(&upstream), Some(HOST), LeafClass::Allowed).fingerprint);
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let mint = Arc::clone(&mint);
            std::thread::spawn(move || mint.shown(None, Some("new.example"), LeafClass::Absent).fingerprint)
        })
        .collect();
    let mut seen: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    seen.dedup();
    assert_eq!(seen.len(), 1, "one mint in flight per key");
    let (class, key) = (LeafClass::Absent, KeyKind::Ecdsa);
    let request = Request {
        upstream: None,
        sni: Some("new.example"),
        destination: ADDRESS,
        class,
        key,
        certificates: ShownCertificates::Authority,
    };
    let later = |days: i64| {
        let at = Duration::from_secs(u64::try_from(now() + days * DAY).unwrap());
        wait_for(mint.leaves.server_config_at(&request, &mint.jobs, UnixTime::since_unix_epoch(at))).unwrap()
    };
    assert_eq!(later(20).fingerprint, seen[0]);
    let renewed = later(25);
    assert_ne!(renewed.fingerprint, seen[0]);
    assert!(validity(&leaf_of(&renewed)).1 > now() + 50 * DAY);
}

/// Directory services name authorities with several DC: who keeps one value per attribute type loses some, and the
/// leaf's issuer no longer equals the authority's subject.
#[test]
fn an_authority_with_repeated_attributes_is_accepted_by_its_clients() {
    let dir = TempDir::new().unwrap();
    let (cert, key) = (dir.path().join("authority.pem"), dir.path().join("authority.key"));
    let mut made = Command::new("openssl");
    made.args([
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "9",
        "-subj",
        "/DC=test/DC=corp/CN=Sub",
    ]);
    made.args(["-addext", "keyUsage=critical,keyCertSign", "-keyout"]).arg(&key).arg("-out").arg(&cert);
    let made = made.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let certificates = Certificates {
        authority: KeyFiles { cert: cert.clone(), key },
        server: Vec::new(),
        default: None,
        pins: Vec::new(),
    };
    let leaves = Leaves::load(&certificates, &tls(Vec::new(), strict())).unwrap();
    let (class, key) = (LeafClass::Absent, KeyKind::Ecdsa);
    let request = Request {
        upstream: None,
        sni: Some(HOST),
        destination: ADDRESS,
        class,
        key,
        certificates: ShownCertificates::Authority,
    };
    let jobs = JobPool::start(JobPurpose::Certificates, 1).unwrap();
    let shown = wait_for(leaves.server_config(&request, &jobs)).unwrap();
    let leaf = leaf_of(&shown);
    let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(parsed.issuer().to_string(), "DC=test, DC=corp, CN=Sub");
    handshake(&client_of(&CertificateDer::from_pem_file(&cert).unwrap()), &shown, HOST).unwrap();
}

#[test]
fn unusable_certificates_are_named_with_a_remedy() {
    let dir = TempDir::new().unwrap();
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let load = |params: &CertificateParams, key_pem: &str| {
        let authority = write_pair(&dir, "authority", &params.self_signed(&key).unwrap().pem(), key_pem);
        let certificates = Certificates { authority, server: Vec::new(), default: None, pins: Vec::new() };
        Leaves::load(&certificates, &tls(Vec::new(), strict())).unwrap_err().to_string()
    };
    let (good, pem) = (ca_params("Proxy Authority", GOOD), key.serialize_pem());
    let mut may_not = good.clone();
    may_not.key_usages = vec![KeyUsagePurpose::CrlSign];
    let encrypted = pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let cases = [
        (load(&leaf_params(&[HOST], GOOD), &pem), "postern ca init"),
        (load(&may_not, &pem), "keyCertSign"),
        (load(&ca_params("Proxy Authority", PAST), &pem), "renew the authority"),
        (load(&ca_params("Proxy Authority", FUTURE), &pem), "clock"),
        (load(&good, &other.serialize_pem()), "authority.key: is not the key of the first certificate in"),
        (load(&good, ""), "holds no private key"),
        (load(&good, &encrypted), "openssl pkey"),
    ];
    for (told, remedy) in cases {
        assert!(told.contains(remedy) && told.contains("authority."), "{told}");
    }
    let authority = write_pair(&dir, "authority", &good.self_signed(&key).unwrap().pem(), &pem);
    let cert = Ca::root("Owner").issue(&leaf_params(&[HOST], GOOD));
    let cert = write_pair(&dir, "server", &pem_of(&cert), &pem);
    let server = vec![ServerCertificate { names: vec![HOST.to_owned()], files: cert }];
    let told = Leaves::load(
        &Certificates { authority, server, default: None, pins: Vec::new() },
        &tls(Vec::new(), strict()),
    )
    .unwrap_err();
    assert!(told.to_string().contains("server.key: is not the key of the first certificate in"), "{told}");
}

/// A key that somebody else can read or replace is refused, whatever it is the key of.
#[test]
fn keys_that_others_can_read_or_replace_are_refused_with_the_command_that_helps() {
    let key = KeyPair::generate().unwrap();
    let pem = key.serialize_pem();
    let cert = ca_params("Proxy Authority", GOOD).self_signed(&key).unwrap().pem();
    let leaf = leaf_params(&[HOST], GOOD).self_signed(&key).unwrap().pem();
    for of_server in [false, true] {
        let load = |change: &dyn Fn(&Path)| {
            let dir = TempDir::new().unwrap();
            let authority = write_pair(&dir, "authority", &cert, &pem);
            let files = write_pair(&dir, "server", &leaf, &pem);
            change(if of_server { &files.key } else { &authority.key });
            let server = vec![ServerCertificate { names: vec![HOST.to_owned()], files }];
            let loaded = Leaves::load(
                &Certificates { authority, server, default: None, pins: Vec::new() },
                &tls(Vec::new(), strict()),
            );
            loaded.err().map(|error| error.to_string())
        };
        let file = if of_server { "server.key" } else { "authority.key" };
        for mode in [0o644, 0o640, 0o660, 0o620, 0o601] {
            let told = load(&|key| std::fs::set_permissions(key, Permissions::from_mode(mode)).unwrap());
            let told = told.unwrap_or_else(|| panic!("{file} with mode {mode:04o} was taken"));
            assert!(told.contains(&format!("{file}: has mode {mode:04o}")), "{told}");
            assert!(told.contains("chmod 600 /") && told.ends_with(file), "{told}");
        }
        for mode in [0o600, 0o400] {
            assert_eq!(
                load(&|key| std::fs::set_permissions(key, Permissions::from_mode(mode)).unwrap()),
                None
            );
        }
    }
}

/// RFC 8446 section 4.4.2: whoever trusts the root has it.
#[test]
fn the_chain_that_is_shown_ends_below_the_root() {
    let chain = |shown: &Shown| {
        let client = handshake(&trusting_client(&[&version::TLS13]), shown, HOST).unwrap();
        client.peer_certificates().unwrap().to_vec()
    };
    let absent = |leaves: &Leaves| {
        let (class, key) = (LeafClass::Absent, KeyKind::Ecdsa);
        let request = Request {
            upstream: None,
            sni: Some(HOST),
            destination: ADDRESS,
            class,
            key,
            certificates: ShownCertificates::Authority,
        };
        wait_for(leaves.server_config(&request, &JobPool::start(JobPurpose::Certificates, 1).unwrap()))
            .unwrap()
    };
    // The root signs.
    assert_eq!(chain(&absent(&Mint::new().leaves)).len(), 1);
    // Another one signs, with the root behind it in the file.
    let (dir, root, key) = (TempDir::new().unwrap(), Ca::root("Root"), KeyPair::generate().unwrap());
    let sub = ca_params("Subordinate", GOOD).signed_by(&key, &root.issuer).unwrap();
    let both = format!("{}{}", sub.pem(), root.pem);
    let authority = write_pair(&dir, "authority", &both, &key.serialize_pem());
    let leaves = Leaves::load(
        &Certificates { authority, server: Vec::new(), default: None, pins: Vec::new() },
        &tls(Vec::new(), strict()),
    );
    let shown = absent(&leaves.unwrap());
    assert_eq!(chain(&shown)[1..], [sub.der().clone()]);
    handshake(&client_of(&root.der), &shown, HOST).unwrap();
    // The owner's own, with the root behind it; and one that is its own root.
    let server_key = KeyPair::generate().unwrap();
    let below = leaf_params(&[HOST], GOOD).signed_by(&server_key, &root.issuer).unwrap();
    let alone = leaf_params(&[HOST], GOOD).self_signed(&server_key).unwrap();
    for (file, leaf) in [(format!("{}{}", below.pem(), root.pem), below), (alone.pem(), alone)] {
        let mint = Mint::with(&[(HOST, &file, &server_key.serialize_pem())]);
        assert_eq!(chain(&mint.shown(None, Some(HOST), LeafClass::Absent)), [leaf.der().clone()]);
    }
}

fn pem_of(cert: &CertificateDer<'_>) -> String {
    let mut openssl = Command::new("openssl");
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("cert.der");
    std::fs::write(&file, cert).unwrap();
    let out = openssl.args(["x509", "-inform", "der", "-in"]).arg(&file).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    assert_eq!(format!("{:?}", Mint::new().leaves), "Leaves { configured: 0, cached: 0, .. }");
}
