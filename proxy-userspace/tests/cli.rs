//! The binary and its exit codes; the admin socket between a daemon and `postern status`.
#![expect(clippy::expect_used, reason = "helpers of tests stop the test")]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};

use postern::admin::{
    AdminError, AdminSocket, CertificateStatus, HeldStatus, InterfaceStatus, JudgesStatus, ListenerStatus,
    MemoryStatus, OcspStatus, ProcessStatus, ReloadOutcome, ScannerStatus, SessionsStatus, SignaturesStatus,
    SpoolStatus, Status, SteeringStatus, ThreadStatus, VerdictsStatus, ask, reload, serve,
};

fn postern(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postern")).args(arguments).output().expect("postern")
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("metadata").permissions().mode() & 0o7777
}

/// A configuration beside an authority, for interfaces that do not exist.
fn installed(directory: &Path) -> String {
    let config = directory.join("postern.toml");
    let lines = "[steering]\ningress = [\"nolan0\"]\negress = [\"nowan0\"]\n[certificates]\n\
                 authority = { cert = \"authority.pem\", key = \"authority.key\" }\n[admin]\nsocket = \"admin.sock\"\n";
    std::fs::write(&config, lines).expect("config");
    let config = config.to_string_lossy().into_owned();
    assert!(postern(&["ca", "init", "--config", &config]).status.success());
    config
}

#[test]
fn a_wrong_configuration_exits_64_and_names_the_line() {
    let directory = tempfile::tempdir().expect("directory");
    let config = installed(directory.path());
    let mut file = std::fs::OpenOptions::new().append(true).open(&config).expect("open");
    file.write_all(b"[tls.fault]\nexpired = \"blok\"\n").expect("write");
    for command in ["run", "check", "status"] {
        let output = postern(&[command, "--config", &config]);
        assert_eq!(output.status.code(), Some(64), "{command}");
        assert!(
            text(&output.stderr).contains("postern.toml:9:11: tls.fault.expired = \"blok\""),
            "{command}"
        );
    }
}

#[test]
fn config_prints_what_there_is_to_configure_without_a_configuration() {
    for (command, printed) in [
        ("reference", postern::config::reference()),
        ("schema", postern::config::schema()),
        ("example", postern::config::example()),
    ] {
        let output = postern(&["config", command, "--config", "/nonexistent/postern.toml"]);
        assert!(output.status.success() && text(&output.stdout) == printed, "{command}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_of_the_reference_leaves_without_an_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    let output = command.args(["config", "reference"]).stdout(writer).output().expect("postern");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_missing_configuration_exits_64() {
    let output = postern(&["run", "--config", "/nonexistent/postern.toml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("/nonexistent/postern.toml: no such file"));
}

#[test]
fn a_missing_key_file_exits_64_before_anything_is_touched() {
    let directory = tempfile::tempdir().expect("directory");
    let config = installed(directory.path());
    std::fs::remove_file(directory.path().join("authority.key")).expect("remove");
    let run = postern(&["run", "--config", &config]);
    assert_eq!(run.status.code(), Some(64));
    assert!(text(&run.stderr).contains("fail  authority key"), "{}", text(&run.stderr));
    let check = postern(&["check", "--config", &config]);
    assert_eq!(check.status.code(), Some(64));
    assert!(text(&check.stdout).contains("postern ca init"));
}

#[test]
fn check_compiles_rules_of_the_scanner_and_names_the_place_of_a_wrong_one() {
    let directory = tempfile::tempdir().expect("directory");
    let config = installed(directory.path());
    let rules = directory.path().join("rules");
    let mut file = std::fs::OpenOptions::new().append(true).open(&config).expect("open");
    file.write_all(b"[scanner.yara]\ndirectories = [\"rules\"]\n").expect("write");
    let check = || {
        let output = postern(&["check", "--config", &config]);
        (output.status.code(), text(&output.stdout))
    };
    let shown = rules.display();
    let (code, said) = check();
    assert_eq!(code, Some(64), "{said}");
    let absent = format!(
        "fail  rules of the scanner: {shown}: No such file or directory (os error 2) — make the directory"
    );
    assert!(said.contains(&absent), "{said}");
    std::fs::create_dir(&rules).expect("create");
    let (code, said) = check();
    assert_ne!(code, Some(64), "{said}");
    assert!(
        said.contains("warn  rules of the scanner: ")
            && said.contains(" of Postern's, 0 of your own in files: 0 — put")
    );
    std::fs::write(rules.join("own.yar"), "rule good { condition: true }\nrule bad { condition: $a }\n")
        .expect("write");
    let (code, said) = check();
    assert_eq!(code, Some(64), "{said}");
    let wrong = format!(
        "fail  rules of the scanner: {shown}/own.yar:2:23: rule bad: unknown variable $a — correct the rule, or take it out"
    );
    assert!(said.contains(&wrong), "{said}");
    std::fs::write(rules.join("own.yar"), "rule good { condition: true }\n").expect("write");
    let (_, said) = check();
    assert!(
        said.contains("ok    rules of the scanner: ") && said.contains(" 1 of your own in files: 1"),
        "{said}"
    );
}

#[test]
fn check_exits_69_without_a_capability_and_warns_of_interfaces_that_may_yet_appear() {
    let directory = tempfile::tempdir().expect("directory");
    let config = installed(directory.path());
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", env!("CARGO_BIN_EXE_postern"), "check", "--config", &config])
        .output()
        .expect("setpriv (package util-linux) starts");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(69), "{said}");
    for part in [
        "ok    configuration: ",
        "ok    authority key: ",
        "fail  capability CAP_NET_ADMIN: not held",
        "warn  ingress nolan0: no such interface — ",
        "not ready: ",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn check_warns_of_a_certificate_that_ends_within_a_month_and_fails_on_one_that_has_ended() {
    let directory = tempfile::tempdir().expect("directory");
    let config = installed(directory.path());
    let said = || text(&postern(&["check", "--config", &config]).stdout);
    assert!(said().contains("ok    end of the authority certificate: "), "{}", said());
    let out = directory.path().to_string_lossy();
    assert!(postern(&["ca", "renew", "--out", &out, "--days", "12"]).status.success());
    let warned = said();
    for part in ["warn  end of the authority certificate: ", "in 1", "`postern ca renew`"] {
        assert!(warned.contains(part), "{warned}");
    }
    // A certificate of an own server, which has ended.
    let [cert, key] = ["own.pem", "own.key"].map(|name| format!("{out}/{name}"));
    let mut params = rcgen::CertificateParams::new(vec!["own.example".to_owned()]).expect("name");
    params.not_after = time::OffsetDateTime::now_utc() - time::Duration::DAY;
    let pair = rcgen::KeyPair::generate().expect("key");
    std::fs::write(&cert, params.self_signed(&pair).expect("certificate").pem()).expect("write");
    std::fs::write(&key, pair.serialize_pem()).expect("write");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let mut file = std::fs::OpenOptions::new().append(true).open(&config).expect("open");
    file.write_all(
        b"[[certificates.server]]\nnames = [\"own.example\"]\ncert = \"own.pem\"\nkey = \"own.key\"\n",
    )
    .expect("write");
    let output = postern(&["check", "--config", &config]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(
        said.contains("fail  end of the certificate of own.example: ") && said.contains("has EXPIRED on"),
        "{said}"
    );
}

/// `check` goes first: a configuration that it accepts would make `run` start.
fn refused_by_check_and_run(config: &str, words: &[&str]) {
    for command in ["check", "run"] {
        let output = postern(&[command, "--config", config]);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{command}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{command}: {said}");
    }
}

#[test]
fn a_key_that_others_can_read_exits_64_before_anything_is_touched_and_check_says_the_same() {
    let directory = tempfile::tempdir().expect("directory");
    let config = installed(directory.path());
    let key = directory.path().join("authority.key");
    for mode in [0o644, 0o640, 0o604] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("chmod");
        let mode = format!("has mode {mode:04o}");
        refused_by_check_and_run(&config, &["fail  authority key: ", &mode, "chmod 600 /"]);
    }
}

#[test]
fn a_key_of_somebody_else_exits_64_before_anything_is_touched_and_check_says_the_same() {
    let directory = tempfile::tempdir().expect("directory");
    let config = installed(directory.path());
    let key = directory.path().join("authority.key");
    // What root alone can do: give the file away.
    std::os::unix::fs::chown(&key, Some(65_534), None).expect("these tests run as root");
    refused_by_check_and_run(&config, &["belongs to user 65534", "chown 0 /"]);
}

#[test]
fn check_refuses_a_key_that_is_a_certificate() {
    let directory = tempfile::tempdir().expect("directory");
    let config = installed(directory.path());
    std::fs::copy(directory.path().join("authority.pem"), directory.path().join("authority.key"))
        .expect("copy");
    let output = postern(&["check", "--config", &config]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stdout).contains("holds no PEM private key"));
}

#[test]
fn a_key_of_another_certificate_exits_64_before_anything_is_touched() {
    let (ours, other) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    let config = installed(ours.path());
    installed(other.path());
    let key = ours.path().join("authority.key");
    std::fs::copy(other.path().join("authority.key"), &key).expect("copy");
    let output = postern(&["run", "--config", &config]);
    assert_eq!(output.status.code(), Some(64));
    let said = text(&output.stderr);
    assert!(said.contains("is not the key of the first certificate in"), "{said}");
}

#[test]
fn ca_init_makes_an_authority_that_openssl_accepts() {
    let directory = tempfile::tempdir().expect("directory");
    let out = directory.path().join("new");
    let out_text = out.to_string_lossy();
    let output = postern(&["ca", "init", "--out", &out_text, "--name", "Test Authority", "--days", "30"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (cert, key) = (out.join("authority.pem"), out.join("authority.key"));
    assert_eq!((mode(&cert), mode(&key)), (0o644, 0o600));

    let (cert, key) = (cert.to_string_lossy(), key.to_string_lossy());
    let shown = openssl(&["x509", "-in", &cert, "-noout", "-text"]);
    for part in [
        "CN = Test Authority",
        "ecdsa-with-SHA256",
        "prime256v1",
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
        "X509v3 Subject Key Identifier",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    openssl(&["verify", "-x509_strict", "-CAfile", &cert, &cert]);
    openssl(&["x509", "-in", &cert, "-noout", "-checkend", "2500000"]);
    assert_eq!(
        openssl(&["x509", "-in", &cert, "-noout", "-pubkey"]),
        openssl(&["pkey", "-in", &key, "-pubout"])
    );

    let fingerprint = openssl(&["x509", "-in", &cert, "-noout", "-fingerprint", "-sha256"]);
    let fingerprint = fingerprint.trim().rsplit('=').next().expect("fingerprint");
    let words = text(&output.stdout);
    assert!(words.contains(fingerprint), "{words}");
    for client in [
        "update-ca-certificates",
        "update-ca-trust",
        "certutil",
        "add-trusted-cert",
        "iOS",
        "Android",
        "Thunderbird",
    ] {
        assert!(words.contains(client), "{client}");
    }
    assert!(!words.contains("PRIVATE KEY"));
}

#[test]
fn ca_init_overwrites_neither_file() {
    for present in ["authority.pem", "authority.key"] {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(directory.path().join(present), "mine").expect("write");
        let output = postern(&["ca", "init", "--out", &directory.path().to_string_lossy()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("never overwritten"), "{}", text(&output.stderr));
        assert_eq!(std::fs::read_to_string(directory.path().join(present)).expect("read"), "mine");
        assert_eq!(std::fs::read_dir(directory.path()).expect("list").count(), 1, "nothing is left behind");
    }
}

#[test]
fn ca_init_refuses_a_name_that_no_certificate_holds() {
    let directory = tempfile::tempdir().expect("directory");
    let output =
        postern(&["ca", "init", "--out", &directory.path().to_string_lossy(), "--name", &"n".repeat(65)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("1 to 64 characters"));
}

#[test]
fn status_without_a_daemon_exits_3_says_which_socket_and_what_becomes_of_mail() {
    let directory = tempfile::tempdir().expect("directory");
    let output = postern(&["status", "--config", &installed(directory.path())]);
    assert_eq!(output.status.code(), Some(3));
    let words = text(&output.stderr);
    assert!(words.contains("admin.sock: no daemon answers") && words.contains("`postern run`"), "{words}");
    assert!(!words.contains("systemctl"), "there is no unit: {words}");
    let shown = text(&output.stdout);
    assert!(shown.contains("nothing is installed: mail flows uninspected"), "{shown}");
}

fn process(name: &str, pid: Option<u32>, restarts: u64) -> ProcessStatus {
    ProcessStatus {
        name: name.to_owned(),
        pid,
        uid: pid.map(|_| 60_994),
        capabilities: Vec::new(),
        memory: 12 << 20,
        seccomp: false,
        landlock: None,
        locked_memory: None,
        restarts,
    }
}

fn example() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        pid: 4711,
        started: "2026-01-02T03:04:05Z".to_owned(),
        config: "/etc/postern/postern.toml".into(),
        on_exit: "open".to_owned(),
        source: "gateway".to_owned(),
        processes: vec![
            ProcessStatus {
                capabilities: (0..40).map(|number| format!("CAP_{number}")).collect(),
                ..process("supervisor", Some(4711), 0)
            },
            process("worker", None, 2),
            ProcessStatus {
                seccomp: true,
                landlock: Some("files, ABI 7".to_owned()),
                locked_memory: Some("all of it".to_owned()),
                ..process("signer", Some(4713), 1)
            },
            process("helper", Some(4714), 0),
        ],
        signatures: Some(SignaturesStatus {
            minted: 12,
            mints_refused: 1,
            handshakes: 3,
            handshakes_refused: 0,
        }),
        threads: vec![ThreadStatus {
            index: 0,
            cpu: Some(3),
            sessions: 7,
            accepted_total: 99,
            alive: true,
            restarts: 0,
        }],
        listeners: vec![ListenerStatus {
            ingress: "lan0".to_owned(),
            family: "ipv6".to_owned(),
            address: "[::1]:40001".parse().expect("address"),
            thread: 0,
        }],
        steering: SteeringStatus {
            program_id: 17,
            hook: "tcx".to_owned(),
            device: "postern0".to_owned(),
            intake: "steered".to_owned(),
            interfaces: [
                ("lan0", "downstream", Some(5)),
                ("vpn0", "downstream", None),
                ("lan9", "downstream", Some(7)),
            ]
            .map(|(name, side, index)| InterfaceStatus {
                name: name.to_owned(),
                side: side.to_owned(),
                index,
                leaving: name == "lan9",
            })
            .into(),
            counters: [("steered_ipv4".to_owned(), 12_345)].into(),
            classes: [("dropped_fragment".to_owned(), 678)].into(),
            repairs: 3,
            alarms: vec!["`ip -4 rule pref 0 lookup main` stands in front".to_owned()],
            in_front: vec!["ip -4 rule pref 0 lookup main".to_owned()],
            forward: vec!["nft inet postern forward: iifname lan0 tcp dport 143 drop".to_owned()],
            forward_dropped: 12,
        },
        rules: vec!["100: from all iif lan0 ipproto tcp dport 143 lookup 143".to_owned()],
        routes: vec!["local default dev lo table 143".to_owned()],
        sessions: SessionsStatus {
            active: 7,
            limit: 9000,
            accepted_total: 99,
            refused_client: 2,
            ..Default::default()
        },
        memory: MemoryStatus {
            limit: 4 << 30,
            origin: "half of MemAvailable (8 GiB)".to_owned(),
            session: 2 << 20,
            buffers_per_thread: 1700,
        },
        held: HeldStatus { octets: 96 << 20, limit: 1 << 30, refused_total: 3, waiting: 2 },
        verdicts: VerdictsStatus {
            entries: 7000,
            has_file: true,
            file_octets: 5 << 20,
            hits_total: 91,
            misses_total: 12,
            dropped_total: 4,
        },
        judges: JudgesStatus {
            wanted: 3,
            alive: 2,
            restarts: 17,
            leaves_total: 4_000,
            lost_total: 16,
            hung_total: 1,
            cannot_scan_total: 8,
            unavailable_total: 5,
        },
        spool: SpoolStatus {
            octets: 160 << 20,
            in_memory: 96 << 20,
            limit: 1 << 30,
            has_file: false,
            refused_total: 6,
            failed_total: 8,
        },
        certificates: vec![CertificateStatus {
            name: "authority certificate".to_owned(),
            file: "/etc/a.pem".into(),
            not_after: "2026-02-01T00:00:00Z".to_owned(),
            days_left: 12,
            alarm: Some("authority certificate: /etc/a.pem ends soon; renew it".to_owned()),
        }],
        scanner: Some(ScannerStatus {
            embedded: 14,
            own: 200,
            files: 3,
            compiled: "2026-01-02T03:04:05Z".to_owned(),
            compile_ms: 35,
            newest: Some("2026-01-01T03:04:05Z".to_owned()),
            newest_age_seconds: Some(86_400),
        }),
        guard: postern::guard::GuardNumbers { refused_tenant: 3, refused_bodies: 5, refused_guessing: 4 },
        ocsp: OcspStatus { asked_total: 5, failed_total: 2 },
        distrusted: vec!["192.0.2.7".parse().expect("address")],
        kernel_tls: "TLS 1.3 AES-128-GCM".to_owned(),
        record_layer: "AES-128-GCM kernel (this process 1.00, kernel 0.50 CPU s per GB)".to_owned(),
        records_lost: 0,
        log_lost: 0,
    }
}

/// Serve the example in a thread of its own, and let `client` talk to it.
fn with_daemon(client: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("run/admin.sock");
    let socket = AdminSocket::bind(&path).expect("bind");
    assert_eq!((mode(&path), mode(path.parent().expect("parent"))), (0o600, 0o700));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let daemon = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            tokio::select! {
                served = serve(socket, async || example(), async |_| ReloadOutcome::not_reloaded("no file"), || "on its way".to_owned()) => served.expect("serve"),
                _ = stopped => {}
            }
        });
    });
    client(&path);
    stop.send(()).expect("stop");
    daemon.join().expect("daemon");
    assert!(!path.exists(), "the name is removed when the daemon ends");
}

#[test]
fn an_operator_sees_what_becomes_of_a_trial_of_alarms() {
    with_daemon(|path| {
        let socket = path.to_string_lossy();
        let output = postern(&["alarm", "test", "--socket", &socket]);
        assert!(output.status.success() && text(&output.stdout) == "on its way\n", "{output:?}");
    });
    let output = postern(&["alarm", "test", "--socket", "/nonexistent/postern.sock"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn status_shows_what_the_daemon_says() {
    with_daemon(|path| {
        assert_eq!(ask(path).expect("status"), example());
        let socket = path.to_string_lossy();
        let output = postern(&["status", "--socket", &socket]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = text(&output.stdout);
        for part in [
            "process 4711",
            "process     pid   user   memory  restarts  system calls  capabilities\n",
            "supervisor  4711  60994  12 MiB  0         all           40, as root has them\n",
            "worker      DEAD  -      -       2         -             -\n",
            "signer      4713  60994  12 MiB  1         filtered      none\n",
            "signer: Landlock denies files, ABI 7\n  signer: locked in memory: all of it\n",
            "held      96 MiB of 1 GiB now to be judged, out of that memory; 2 wait for a thread; refused: 3 without",
            "verdicts  7000 in memory, 5 MiB in the file; 91 known, 12 not known; 4 not written\n",
            "judges    2 of 3, 17 restarts; 4000 parts judged, 8 cannot be scanned, 5 had no judge; 16 judges died of a \
             part, 1 hung",
            "spool     160 MiB of 1 GiB now, 96 MiB of it held in memory; NO FILE, see the log; refused: 6 without room, \
             8 by the disk\n",
            "rules     14 of Postern's, 200 of your own (files: 3, the newest changed 24 hours ago); compiled \
             2026-01-02T03:04:05Z in 35 ms\n",
            "guard     refused: 3 logins by tenant, 4 logins by guessing, 5 messages by bodies_per_hour\n",
            "helper      4714  60994  12 MiB  0         ",
            "helper: authorities were asked 5 times, 2 without an answer\n",
            "12 certificates minted, 1 refused; 3 handshakes signed, 0 refused\n",
            "[::1]:40001",
            "steered_ipv4  12345",
            "iif lan0",
            "7 of 9000",
            "2 client limit",
            "without a daemon mail flows uninspected",
            "dropped_fragment  678",
            "vpn0       downstream  ABSENT\n",
            "lan9       downstream  7       leaving",
            "3 repairs",
            "ALARMS\n  `ip -4 rule pref 0 lookup main` stands in front",
            "192.0.2.7 changed what stands under a UID: all of its mail is compared again; take it out of",
            "\n  authority certificate: /etc/a.pem ends soon; renew it\n",
            "authority certificate  /etc/a.pem  2026-02-01T00:00:00Z  12\n",
            "RULES OF OTHERS IN FRONT, mail may follow them\n  ip -4 rule pref 0 lookup main",
            "forward chain, 12 packets dropped\n  nft inet postern forward: iifname lan0 tcp dport 143 drop",
        ] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        let json = postern(&["status", "--json", "--socket", &socket]);
        assert_eq!(serde_json::from_slice::<Status>(&json.stdout).expect("json"), example());
    });
}

#[test]
fn a_reload_tells_each_fault_and_how_it_ended_also_where_the_file_is_wrong() {
    with_daemon(|path| {
        let answer = reload(path, true).expect("an answer");
        assert_eq!(answer.outcome, ReloadOutcome::not_reloaded("no file"));
        // The file is wrong, and still says where the daemon listens.
        let file = path.with_file_name("postern.toml");
        let text = format!("[admin]\nsocket = \"{}\"\n[action]\nstarttls = \"perhaps\"\n", path.display());
        std::fs::write(&file, text).expect("write");
        let said = postern(&["reload", "--config", &file.to_string_lossy()]);
        assert_eq!(
            (said.status.code(), text_of(&said)),
            (
                Some(1),
                "no file\npostern: configuration NOT reloaded, the old one stays in force\n".to_owned()
            )
        );
    });
    let said = postern(&["reload", "--socket", "/nowhere/admin.sock"]);
    assert_eq!(said.status.code(), Some(3), "{}", text_of(&said));
    assert!(text_of(&said).contains("no daemon answers"));
}

fn text_of(said: &Output) -> String {
    assert!(said.stdout.is_empty(), "{said:?}");
    text(&said.stderr)
}

#[test]
fn unknown_oversize_and_silent_requests_do_not_stop_the_daemon() {
    with_daemon(|path| {
        let silent = UnixStream::connect(path).expect("connect");
        let mut unknown = UnixStream::connect(path).expect("connect");
        unknown.write_all(b"reboot\n").expect("write");
        let mut answer = String::new();
        unknown.read_to_string(&mut answer).expect("read");
        assert!(answer.contains("unknown request"), "{answer}");

        let mut endless = UnixStream::connect(path).expect("connect");
        // The daemon stops reading. How much the kernel takes before the connection breaks does not matter.
        let taken = endless.write_all(&vec![b'x'; 8 * 1024 * 1024]);
        assert!(taken.is_err(), "an endless request is cut");
        assert_eq!(ask(path).expect("status"), example());
        drop(silent);
    });
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_live_ones_is_not() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("admin.sock");
    drop(UnixListener::bind(&path).expect("stale"));
    assert!(path.exists());
    let live = AdminSocket::bind(&path).expect("replaces the stale one");
    match AdminSocket::bind(&path) {
        Err(error @ AdminError::InUse { .. }) => {
            assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(path.exists());
    drop(live);
    assert!(!path.exists());
}

#[test]
fn a_file_in_the_way_is_kept() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("admin.sock");
    std::fs::write(&path, "precious").expect("write");
    assert!(matches!(AdminSocket::bind(&path), Err(AdminError::NotASocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "precious");
}

#[test]
fn a_successors_socket_is_left_alone() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("admin.sock");
    let old = AdminSocket::bind(&path).expect("old");
    std::fs::rename(&path, directory.path().join("moved")).expect("rename");
    let _new = AdminSocket::bind(&path).expect("new");
    drop(old);
    assert!(path.exists());
}

/// EICAR, in two parts, so that no scanner of this machine takes this source for it.
fn eicar() -> String {
    [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE!$H+H*"].concat()
}

/// A message with a text, a file by the name of a program, and an address in the subject.
fn mail_with(file: &str) -> String {
    format!(
        "From: mallory@example.org\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\
         Content-Type: text/plain\n\nHello\n--b\nContent-Type: application/pdf\n\
         Content-Disposition: attachment; filename=\"invoice.exe\"\n\n{file}\n--b--\n"
    )
}

/// A configuration with three policies, by the client's network.
fn three_policies(directory: &Path) -> String {
    let config = installed(directory);
    let mut file = std::fs::OpenOptions::new().append(true).open(&config).expect("open");
    let policy = |number: u8, action: &str| {
        format!(
            "[[policy]]\nname = \"p{number}\"\nfrom = [\"192.0.2.{number}\"]\nproxy_action = \"{action}\"\n"
        )
    };
    let actions = "[proxy_action.Names.content]\nnames = [\"*.exe\"]\n\
                   [proxy_action.Types.privacy]\nexempt_accounts = [\"boss\"]\n\
                   [proxy_action.Relayed]\ninspect = \"none\"\n";
    let policies = [policy(1, "Names"), policy(2, "Types"), policy(3, "Relayed")].concat();
    file.write_all((policies + actions).as_bytes()).expect("write");
    config
}

fn explain(config: &str, client: u8, further: &[&str]) -> Output {
    let client = format!("192.0.2.{client}");
    let arguments = ["explain", "--config", config, "--client", &client, "--server", "198.51.100.7:993"];
    postern(&[&arguments, further].concat())
}

fn parts(output: &Output) -> (serde_json::Value, Vec<serde_json::Value>) {
    assert!(output.status.success(), "{output:?}");
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let parts = object.get("parts").and_then(serde_json::Value::as_array).expect("a list").clone();
    (object, parts)
}

#[test]
fn one_message_has_three_outcomes_under_three_policies() {
    let directory = tempfile::tempdir().expect("directory");
    let config = three_policies(directory.path());
    let file = directory.path().join("mail");
    std::fs::write(&file, mail_with("harmless")).expect("write");
    let message = file.to_string_lossy().into_owned();
    let asked = ["--message", &message, "--json"];
    let (object, found) = parts(&explain(&config, 1, &asked));
    assert_eq!(object["postern.policy"], "p1");
    assert_eq!(object["verdict"], "remove");
    let by_path = |path: &str| found.iter().find(|part| part["postern.part"] == path).expect("a part");
    assert_eq!(by_path("1")["postern.action"], "allow");
    let forbidden = by_path("2");
    for (field, value) in [
        ("postern.action", "remove"),
        ("rule.name", "names"),
        ("rule.description", "*.exe"),
        ("file.name", "invoice.exe"),
        ("file.mime_type", "application/pdf"),
    ] {
        assert_eq!(forbidden[field], value, "{field}: {forbidden:#}");
    }
    assert_eq!(forbidden["file.size"], 8);
    let (object, found) = parts(&explain(&config, 2, &asked));
    assert_eq!(object["verdict"], "allow");
    assert!(found.iter().all(|part| part["postern.action"] == "allow"), "{found:#?}");
    let (object, found) = parts(&explain(&config, 3, &asked));
    assert_eq!(object["verdict"], "unjudged");
    assert!(found.is_empty());
    // For people.
    let said = text(&explain(&config, 1, &["--message", &message]).stdout);
    for line in [
        "policy        p1\n",
        "              line ends were LF, and became CRLF\n",
        "verdict       remove: 1 of 2 parts are overwritten; an upload of it is refused\n",
        "part 2        remove\n",
        "  rule.description            *.exe\n",
    ] {
        assert!(said.contains(line), "{line:?}: {said}");
    }
}

#[test]
fn the_message_as_a_client_gets_it_is_shown_and_written_whole() {
    let directory = tempfile::tempdir().expect("directory");
    let config = three_policies(directory.path());
    let [file, copy] = ["mail", "copy"].map(|name| directory.path().join(name));
    let mail = format!("From joe Thu Jan  1 00:00:00 1970\n{}", mail_with(&eicar()));
    std::fs::write(&file, &mail).expect("write");
    let message = file.to_string_lossy().into_owned();
    let output = copy.to_string_lossy().into_owned();
    let shown = explain(&config, 2, &["--message", &message, "--show", "--output", &output]);
    assert!(shown.status.success() && text(&shown.stderr).contains("verdict       remove: "), "{shown:?}");
    let served = mail_with(&eicar()).replace('\n', "\r\n");
    assert_eq!(shown.stdout.len(), served.len(), "a fill keeps every offset");
    assert!(
        !text(&shown.stdout).contains(&eicar()) && text(&shown.stdout).contains("\r\n\r\nHello\r\n--b\r\n")
    );
    assert_eq!(std::fs::read(&copy).expect("copy"), shown.stdout);
    // A file that is there is not overwritten.
    let again = explain(&config, 2, &["--message", &message, "--output", &output]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains(&format!("--output {output}: ")), "{again:?}");
    // The same message, of an account that nobody judges.
    let exempt = explain(&config, 2, &["--message", &message, "--account", "Boss", "--show"]);
    assert_eq!(text(&exempt.stdout), served);
    assert!(text(&exempt.stderr).contains("verdict       unjudged: "), "{exempt:?}");
}

#[test]
fn a_file_that_is_no_message_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().expect("directory");
    let config = three_policies(directory.path());
    std::fs::OpenOptions::new()
        .append(true)
        .open(&config)
        .and_then(|mut file| file.write_all(b"[limits]\nmessage = \"1 MiB\"\n"))
        .expect("write");
    let [empty, large] = ["empty", "large"].map(|name| directory.path().join(name));
    std::fs::write(&empty, "").expect("write");
    std::fs::write(&large, "a\r\n".repeat(1 << 20)).expect("write");
    for (file, why) in [
        (empty.to_string_lossy(), "the file is empty; name a file with one message"),
        (large.to_string_lossy(), "larger than limits.message (\"1 MiB\")"),
        ("/nonexistent/mail".into(), "name a file with one message that you may read"),
    ] {
        let output = explain(&config, 1, &["--message", &file]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        let said = text(&output.stderr);
        assert!(said.contains(&format!("--message {file}: ")) && said.contains(why), "{said}");
    }
    let lonely = explain(&config, 1, &["--show"]);
    assert_eq!(lonely.status.code(), Some(2), "{lonely:?}");
}

/// A sender chooses names of files; a terminal obeys none of them.
#[test]
fn no_name_in_a_message_commands_the_terminal_of_who_asks() {
    let directory = tempfile::tempdir().expect("directory");
    let config = three_policies(directory.path());
    let file = directory.path().join("mail");
    let mail = mail_with("x").replace("\"invoice.exe\"", "\"a\u{1b}[2J\u{202e}fdp.exe\"");
    std::fs::write(&file, mail).expect("write");
    let output = explain(&config, 1, &["--message", &file.to_string_lossy()]);
    let said = text(&output.stdout);
    assert!(said.contains("fdp.exe") && said.contains("verdict       remove"), "{said}");
    assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
}
