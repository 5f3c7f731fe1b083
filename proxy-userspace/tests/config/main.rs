//! Configurations that are valid, and the messages about all others.
#![expect(clippy::panic, clippy::expect_used, reason = "helpers of tests stop the test")]

/// `[action]`: what is judged, and how much of it is held.
mod action;
mod content;
/// `[[policy]]`: which connections get which proxy action.
mod policies;
/// Proxy actions and TLS profiles with names, in files of `conf.d`, and clones of them.
mod objects;
/// `[process]`, and the configuration on its way to another process.
mod processes;
/// `[steering]`.
mod steering;
/// Every setting: its default, its limits, the words about what is wrong.
mod settings;
/// Pages about settings.
mod pages;
/// What the program prints about its settings, and the files that hold it.
mod printed;

use std::path::Path;
use std::time::Duration;

use postern::config::{
    Config, ConfigError, Fault, Offload, OnExit, Source, TlsVersion, Verdict, load, parse,
};
use postern::words::Size;

const FILE: &str = "/etc/postern/postern.toml";

const MINIMAL: &str = r#"
[steering]
ingress = ["lan0"]
egress = ["wan0"]
[certificates]
authority = { cert = "authority.pem", key = "authority.key" }
"#;

fn good(text: &str) -> Config {
    parse(text, Path::new(FILE)).unwrap_or_else(|error| panic!("{error}"))
}

fn faults(text: &str) -> Vec<Fault> {
    match parse(text, Path::new(FILE)) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(error) => error.faults().to_vec(),
    }
}

/// The message for the minimal file with `line` appended, which must be its only fault.
fn message_with(line: &str) -> String {
    let error = parse(&format!("{MINIMAL}{line}\n"), Path::new(FILE)).expect_err(line);
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn assert_message(line: &str, parts: &[&str]) {
    let message = message_with(line);
    for part in parts {
        assert!(message.contains(part), "{line:?} gave {message:?}, which lacks {part:?}");
    }
}

#[test]
fn every_example_is_accepted() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let files: Vec<_> = std::fs::read_dir(examples)
        .expect("docs/examples")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        load(&file).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_minimal_file_has_the_documented_defaults() {
    let config = good(MINIMAL);
    assert_eq!(config.steering.source, Source::Gateway);
    assert_eq!(config.steering.on_exit, OnExit::Closed);
    assert_eq!(config.steering.threads, None);
    assert!(config.steering.reach.is_empty());
    assert!(config.unnamed_profile.trusts_system() && config.unnamed_profile.root_files().next().is_none());
    assert_eq!(config.unnamed_profile.min_version, TlsVersion::Tls12);
    assert_eq!(config.unnamed_profile.offload, Offload::Auto);
    let faults = config.unnamed_profile.faults;
    assert_eq!(
        [faults.expired, faults.not_yet_valid, faults.untrusted, faults.wrong_name],
        [Verdict::Block; 4]
    );
    assert_eq!(faults.no_name, Verdict::Allow);
    assert!(config.certificates.server.is_empty() && config.unnamed_action.bypass.is_empty());
    assert_eq!((config.limits.sessions, config.limits.sessions_per_client), (None, None));
    let limits = &config.limits;
    assert_eq!((limits.handshakes, limits.handshakes_per_client), (None, 16));
    assert_eq!((limits.handshakes_per_second_per_client, limits.handshake_burst_per_client), (10, 32));
    assert_eq!((limits.memory, limits.session_memory), (None, Size(2 << 20)));
    let seconds = [config.limits.connect, config.limits.handshake, config.limits.idle, config.limits.drain];
    assert_eq!(seconds, [10, 60, 2100, 30].map(Duration::from_secs));
    assert_eq!(config.limits.spool, Size(1 << 30));
    assert_eq!(config.state.directory, Path::new("/var/lib/postern"));
    assert_eq!(config.admin.socket, Path::new("/run/postern/postern.sock"));
}

#[test]
fn relative_paths_are_meant_from_the_directory_of_the_file() {
    let config =
        good(&format!("{MINIMAL}[tls]\nroots = [\"system\", \"ca/company.pem\", \"/srv/other.pem\"]\n"));
    assert_eq!(config.certificates.authority.cert, Path::new("/etc/postern/authority.pem"));
    assert_eq!(config.certificates.authority.key, Path::new("/etc/postern/authority.key"));
    assert!(config.unnamed_profile.trusts_system());
    assert_eq!(
        config.unnamed_profile.root_files().collect::<Vec<_>>(),
        [Path::new("/etc/postern/ca/company.pem"), Path::new("/srv/other.pem")]
    );
}

#[test]
fn offload_is_one_of_three_words() {
    for (word, offload) in [("auto", Offload::Auto), ("always", Offload::Always), ("never", Offload::Never)] {
        assert_eq!(good(&format!("{MINIMAL}[tls]\noffload = \"{word}\"\n")).unnamed_profile.offload, offload);
    }
    assert_message(
        "[tls]\noffload = \"on\"",
        &[":8:11: tls.offload = \"on\": unknown offload", "\"auto\", \"always\" or \"never\""],
    );
    assert_message("[tls]\noffload = true", &["tls.offload = true: wrong type"]);
}

#[test]
fn a_line_at_the_start_of_a_session_is_written_unless_it_is_switched_off() {
    assert!(good(MINIMAL).records.start);
    assert!(!good(&format!("{MINIMAL}[records]\nstart = false\n")).records.start);
    assert!(!good(MINIMAL).records.clean_verdicts);
    assert!(good(&format!("{MINIMAL}[records]\nclean_verdicts = true\n")).records.clean_verdicts);
    assert_message("[records]\nstart = \"no\"", &["records.start = \"no\": wrong type"]);
    assert_message("[records]\nstrat = true", &["records.strat", "start"]);
}

#[test]
fn without_system_only_the_files_are_trusted() {
    let config = good(&format!("{MINIMAL}[tls]\nroots = [\"company.pem\"]\n"));
    assert!(!config.unnamed_profile.trusts_system());
}

#[test]
fn a_bare_address_in_bypass_is_one_host_and_clients_are_not_destinations() {
    let list = "[\"192.0.2.1\", \"2001:db8::1\", \"198.51.100.0/24\"]";
    let address = |text: &str| text.parse().expect("address");
    for (key, is_client) in [("bypass", false), ("bypass_clients", true)] {
        let config = good(&format!("{MINIMAL}[action]\n{key} = {list}\n"));
        let bypasses = |listed: &str| {
            let (listed, other) = (address(listed), address("203.0.113.9"));
            let (client, destination) = if is_client { (listed, other) } else { (other, listed) };
            assert!(!config.unnamed_action.bypasses(destination, client), "{key}: the other way round");
            config.unnamed_action.bypasses(client, destination)
        };
        assert!(bypasses("192.0.2.1") && bypasses("2001:db8::1") && bypasses("198.51.100.77"));
        assert!(!bypasses("192.0.2.2") && !bypasses("2001:db8::2") && !bypasses("198.51.101.1"));
    }
}

#[test]
fn server_names_are_kept_in_lower_case() {
    let text = MINIMAL.to_owned()
        + "server = [{ names = [\"IMAP.Example.org\", \"*.mail.example.org\"], cert = \"c.pem\", key = \"k.pem\" }]\n";
    let config = good(&text);
    assert_eq!(config.certificates.server[0].names, ["imap.example.org", "*.mail.example.org"]);
    assert_eq!(config.certificates.server[0].files.key, Path::new("/etc/postern/k.pem"));
}

#[test]
fn a_message_names_file_line_column_key_value_reason_and_remedy() {
    assert_eq!(
        message_with("[tls.fault]\nexpired = \"blok\""),
        "/etc/postern/postern.toml:8:11: tls.fault.expired = \"blok\": unknown verdict; \
         use \"block\", \"mirror\" or \"allow\""
    );
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_file() {
    let faults = faults(
        "surprise = 1\n[steering]\nIngres = []\nthreads = \"four\"\n[tls]\nmin_version = \"1.1\"\n\
         [tls.fault]\nexpired = 3\nuntrusted = \"ignore\"\n[limits]\nidle_seconds = 60\nsessions = 0\n",
    );
    let found: Vec<_> =
        faults.iter().map(|fault| (fault.place.map(|p| p.line), fault.key.as_str())).collect();
    assert_eq!(
        found,
        [
            (Some(1), "surprise"),
            (Some(2), "steering.ingress"),
            (Some(2), "steering.egress"),
            (Some(3), "steering.Ingres"),
            (Some(4), "steering.threads"),
            (Some(6), "tls.min_version"),
            (Some(8), "tls.fault.expired"),
            (Some(9), "tls.fault.untrusted"),
            (Some(11), "limits.idle_seconds"),
            (Some(12), "limits.sessions"),
            (None, "certificates.authority"),
        ]
    );
    assert!(faults.iter().all(|fault| !fault.remedy().is_empty()), "{faults:?}");
}

#[test]
fn an_empty_file_lists_what_has_to_be_there() {
    let faults = faults("");
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["steering.ingress", "steering.egress", "certificates.authority"]);
    assert!(faults[2].remedy().contains("postern ca init"));
}

#[test]
fn an_unknown_key_suggests_the_one_that_was_meant() {
    assert_message(
        "[limits]\nsession_per_client = 5",
        &[":8:1: limits.session_per_client = 5", "\"sessions_per_client\"?"],
    );
    assert_message("[tls]\nfualt = {}", &["tls.fualt: unknown key", "\"fault\"?"]);
    assert_message("[stering]\n", &[":7:2: stering: unknown key", "\"steering\"?"]);
    assert_message("[admin]\nport = 80", &["admin.port = 80: unknown key", "known here: socket"]);
    assert_message("[tls.fault]\nEXPIRED = \"block\"", &["\"expired\"?"]);
    let nested = "server = [{ names = [\"a.example\"], cert = \"c\", key = \"k\" }, \
                  { name = [\"b.example\"], names = [\"b.example\"], cert = \"c\", key = \"k\" }]";
    assert_message(nested, &["certificates.server[1].name = [\"b.example\"]: unknown key", "\"names\"?"]);
}

#[test]
fn broken_protocol_versions_do_not_exist() {
    for version in ["1.0", "1.1", "SSLv3"] {
        assert_message(
            &format!("[tls]\nmin_version = \"{version}\""),
            &["does not exist here", "\"1.2\" or \"1.3\""],
        );
    }
    assert_message("[tls]\nmin_version = \"1.4\"", &["unknown TLS version"]);
    assert_eq!(
        good(&format!("{MINIMAL}[tls]\nmin_version = \"1.3\"\n")).unnamed_profile.min_version,
        TlsVersion::Tls13
    );
}

#[test]
fn a_version_that_a_profile_allows_and_could_never_negotiate_is_an_error() {
    let wrong = |tls: &str, parts: &[&str]| assert_message(&format!("[tls]\n{tls}"), parts);
    let old = "ciphers = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]";
    let new = "ciphers = [\"TLS_AES_128_GCM_SHA256\"]";
    wrong(&format!("min_version = \"1.3\"\n{old}"), &["tls.ciphers", "no suite of TLS 1.3", "\"1.2\""]);
    wrong(new, &["tls.ciphers", "no suite of TLS 1.2", "min_version = \"1.3\""]);
    wrong("groups = [\"X25519MLKEM768\"]", &["tls.groups", "no group of TLS 1.2", "\"x25519\""]);
    // What is wrong itself is not compared with the rest.
    wrong("ciphers = [\"TLS_AES_128_GCM_SHA256\", \"AES\"]", &["\"AES\": unknown cipher suite"]);
    for right in [
        old.to_owned(),
        format!("min_version = \"1.3\"\n{new}"),
        "min_version = \"1.3\"\ngroups = [\"MLKEM1024\"]".to_owned(),
    ] {
        good(&format!("{MINIMAL}[tls]\n{right}\n"));
    }
}

#[test]
fn networks_are_networks() {
    assert_message(
        "[action]\nbypass = [\"192.0.2.5/24\"]",
        &["beyond its prefix length", "\"192.0.2.0/24\""],
    );
    assert_message("[action]\nbypass = [\"imap.example.org\"]", &["not a network", "192.0.2.0/24"]);
    assert_message("[action]\nbypass = [\"192.0.2.0/33\"]", &["not a network"]);
    assert_message(
        "[action]\nbypass = [\"192.0.2.1\", \"192.0.2.1/32\"]",
        &["\"192.0.2.1/32\": already given on line 8"],
    );
}

#[test]
fn trusted_servers_are_single_addresses_and_none_by_default() {
    assert!(good(MINIMAL).unnamed_action.trust_uid_immutability.is_empty());
    let config =
        good(&format!("{MINIMAL}[action]\ntrust_uid_immutability = [\"192.0.2.7\", \"2001:db8::7\"]\n"));
    let addresses: Vec<String> =
        config.unnamed_action.trust_uid_immutability.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.0.2.7", "2001:db8::7"]);
    for wrong in ["192.0.2.0/24", "imap.example.org", ""] {
        assert_message(
            &format!("[action]\ntrust_uid_immutability = [\"{wrong}\"]"),
            &["action.trust_uid_immutability", "not an address", "one server, such as \"192.0.2.7\""],
        );
    }
    assert_message(
        "[action]\ntrust_uid_immutability = [\"2001:db8::7\", \"2001:DB8:0::7\"]",
        &["already given on line 8"],
    );
    let of = |count: usize| {
        let addresses: Vec<String> = (0..count).map(|host| format!("\"192.0.2.{host}\"")).collect();
        format!("[action]\ntrust_uid_immutability = [{}]", addresses.join(", "))
    };
    assert_eq!(good(&format!("{MINIMAL}{}\n", of(64))).unnamed_action.trust_uid_immutability.len(), 64);
    assert_message(&of(65), &["list at most 64"]);
}

#[test]
fn server_names_are_names_that_a_client_may_send() {
    let with = |name: &str| format!("server = [{{ names = [\"{name}\"], cert = \"c\", key = \"k\" }}]");
    for wrong in [
        "imap.*.org",
        "*",
        "*imap.example.org",
        "*.*.org",
        "a..b",
        "example.org.",
        "-a.org",
        "a b.org",
        "192.0.2.1",
    ] {
        assert_message(
            &with(wrong),
            &["not a server name", "certificates.server[0].names", "imap.example.org"],
        );
    }
    assert_message(&with("bücher.example"), &["xn--"]);
    assert_message(&with(&format!("{}.org", "a".repeat(64))), &["63 octets"]);
    assert_message(&with(&"abcdefg.".repeat(32)), &["253 octets"]);
}

#[test]
fn two_entries_may_have_one_name() {
    let both = "server = [{ names = [\"a.example\"], cert = \"ecdsa.pem\", key = \"ecdsa.key\" },\n\
                { names = [\"A.example\"], cert = \"rsa.pem\", key = \"rsa.key\" }]";
    let config = good(&format!("{MINIMAL}{both}\n"));
    assert!(config.certificates.server.iter().all(|entry| entry.names == ["a.example"]));
    assert_eq!(config.certificates.server.len(), 2);
}

#[test]
fn an_entry_names_a_host_once() {
    let text = "server = [\n{ names = [\"a.example\",\n\"A.example\"], cert = \"c\", key = \"k\" }]";
    assert_message(text, &[":9:1: certificates.server[0].names = \"A.example\": already given on line 8"]);
}

#[test]
fn a_certificate_has_names_a_chain_and_a_key() {
    assert_message(
        "server = [{ names = [\"a.example\"], cert = \"c\" }]",
        &["certificates.server[0].key: missing"],
    );
    assert_message(
        "server = [{ names = [\"a.example\"], key = \"k\" }]",
        &["certificates.server[0].cert: missing"],
    );
    assert_message("server = [{ cert = \"c\", key = \"k\" }]", &["certificates.server[0].names: missing"]);
    assert_message(
        "server = [{ names = [], cert = \"c\", key = \"k\" }]",
        &["certificates.server[0].names = []: empty"],
    );
    let half = faults(&MINIMAL.replace(", key = \"authority.key\"", ""));
    assert_eq!((half.len(), half[0].key.as_str()), (1, "certificates.authority.key"));
}

#[test]
fn numbers_have_ranges() {
    assert_message(
        "[limits]\nidle_seconds = 1859",
        &["limits.idle_seconds = 1859", "RFC 9051 section 5.4", "1860 to"],
    );
    assert_eq!(
        good(&format!("{MINIMAL}[limits]\nidle_seconds = 1860\n")).limits.idle,
        Duration::from_secs(1860)
    );
    for (key, wrong) in [
        ("sessions", "0"),
        ("sessions_per_client", "-1"),
        ("sessions_per_client", "99999999999"),
        ("handshakes", "0"),
        ("handshakes_per_client", "524289"),
        ("handshakes_per_second_per_client", "0"),
        ("handshake_burst_per_client", "-1"),
        ("connect_seconds", "0"),
        ("handshake_seconds", "301"),
        ("drain_seconds", "-5"),
    ] {
        assert_message(
            &format!("[limits]\n{key} = {wrong}"),
            &[&format!("limits.{key} = {wrong}: out of range"), "use "],
        );
    }
    for wrong in ["0", "65", "65537"] {
        let text = MINIMAL.replace("[certificates]", &format!("threads = {wrong}\n[certificates]"));
        assert!(faults(&text)[0].to_string().contains("use 1 to 64"), "{wrong}");
    }
}

#[test]
fn sizes_are_whole_numbers_with_a_unit() {
    let limits = |line: &str| good(&format!("{MINIMAL}[limits]\n{line}\n")).limits;
    for (text, size) in [("32 MiB", 32 << 20), ("4GiB", 4 << 30), ("1048576 KiB", 1 << 30)] {
        assert_eq!(limits(&format!("memory = \"{text}\"")).memory, Some(Size(size)), "{text}");
    }
    assert_eq!(limits("session_memory = \"512 KiB\"").session_memory, Size(512 << 10));
    for wrong in [
        "4",
        "4 GB",
        "4 gib",
        "1.5 GiB",
        "-4 GiB",
        "GiB",
        "",
        "99999999999999999999 GiB",
        "18014398509481984 KiB",
    ] {
        assert_message(
            &format!("[limits]\nmemory = \"{wrong}\""),
            &["limits.memory", "not a size", "512 MiB"],
        );
    }
    assert_message("[limits]\nmemory = \"31 MiB\"", &["out of range", "use \"32 MiB\" to"]);
    assert_message(
        "[limits]\nsession_memory = \"1 GiB\"",
        &["out of range", "use \"512 KiB\" to \"16 MiB\""],
    );
    assert_message("[limits]\nmemory = 4", &["limits.memory = 4: wrong type"]);
}

#[test]
fn under_open_one_client_may_not_have_more_than_an_eighth_of_all_sessions() {
    let limits = |on_exit: &str, limits: &str| {
        MINIMAL.replace(
            "[certificates]",
            &format!("on_exit = \"{on_exit}\"\n[limits]\n{limits}\n[certificates]"),
        )
    };
    for fits in ["sessions = 800\nsessions_per_client = 100", "sessions = 8", "sessions_per_client = 5000"] {
        good(&limits("open", fits));
    }
    for (wrong, key, words) in [
        ("sessions = 800\nsessions_per_client = 101", "limits.sessions_per_client", "use at most 100"),
        ("sessions = 807\nsessions_per_client = 101", "limits.sessions_per_client", "use at most 100"),
        ("sessions = 7", "limits.sessions", "use at least 8"),
        ("sessions = 7\nsessions_per_client = 1", "limits.sessions", "use at least 8"),
    ] {
        let found = faults(&limits("open", wrong));
        assert_eq!((found.len(), found[0].key.as_str()), (1, key), "{found:?}");
        let said = found[0].to_string();
        assert!(said.contains(words) && said.contains("uninspected"), "{said}");
        good(&limits("closed", wrong));
    }
}

#[test]
fn wrong_types_are_told_with_what_belongs_there() {
    assert_message(
        "[limits]\nsessions = \"many\"",
        &["limits.sessions = \"many\": wrong type", "a whole number"],
    );
    assert_message("[action]\nbypass = \"192.0.2.1\"", &["action.bypass = \"192.0.2.1\": wrong type"]);
    assert_message("[action]\nbypass = [\"192.0.2.1\", 7]", &["action.bypass[1] = 7: wrong type", "string"]);
    assert_message("[admin]\nsocket = true", &["admin.socket = true: wrong type"]);
    assert_message("[limits]\nconnect_seconds = 1.5", &["limits.connect_seconds = 1.5: wrong type"]);
    let found = faults("steering = 3\n[certificates]\nauthority = 4\n");
    let keys: Vec<_> = found.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["steering", "certificates.authority"], "nothing that was found is called missing");
}

#[test]
fn text_that_is_not_toml_is_shown_with_its_place() {
    assert_message("[tls\nroots = []", &["/etc/postern/postern.toml:7:5: not TOML"]);
    assert_message("[tls]\nroots = [\"system\"]\nroots = []", &[":9:1: not TOML", "duplicate key"]);
    let error = faults("a = \nb = ]\n");
    assert!(error.len() >= 2, "{error:?}");
}

#[test]
fn empty_roots_would_verify_nobody() {
    assert_message("[tls]\nroots = []", &["tls.roots = []: empty", "\"system\""]);
    assert_message("[tls]\nroots = [\"system\", \"system\"]", &["already given"]);
    assert_message("[tls]\nroots = [\"\"]", &["tls.roots", "empty"]);
}

#[test]
fn a_socket_path_fits_into_a_unix_address() {
    assert_message(&format!("[admin]\nsocket = \"{}\"", "s".repeat(100)), &["resolves to 113 octets", "107"]);
}

#[test]
fn a_long_value_does_not_flood_the_message() {
    let message = message_with(&format!("[tls]\nmin_version = \"{}\"", "x".repeat(100_000)));
    assert!(message.len() < 300, "{}", message.len());
}

#[test]
fn a_thousand_mistakes_are_cut() {
    let text: String = (0..1000).map(|index| format!("key{index} = {index}\n")).collect();
    assert!(faults(&text).len() <= 51);
}

#[test]
fn files_that_cannot_be_read_are_named_with_a_remedy() {
    let directory = tempfile::tempdir().expect("directory");
    let missing = directory.path().join("none.toml");
    let error = load(&missing).expect_err("missing");
    assert!(matches!(error, ConfigError::Missing { .. }));
    let words = error.to_string();
    assert!(
        words.contains("none.toml") && words.contains("--config") && words.contains("minimal.toml"),
        "{words}"
    );

    let error = load(directory.path()).expect_err("directory").to_string();
    assert!(error.contains("name the file inside"), "{error}");

    let binary = directory.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe]).expect("write");
    assert!(load(&binary).expect_err("binary").to_string().contains("UTF-8"));

    let large = directory.path().join("large.toml");
    std::fs::write(&large, vec![b'#'; 2 * 1024 * 1024]).expect("write");
    assert!(matches!(load(&large), Err(ConfigError::TooLarge { .. })));
}
