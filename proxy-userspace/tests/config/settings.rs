//! A row for every setting. Defaults, limits and words are written here once more, so that a change is noticed.

use std::collections::BTreeSet;
use std::path::Path;

use postern::config::{Config, parse};
use serde_json::Value;

use self::alarms::alarms;
use self::content::content;
use self::guard::guard;
use self::headers::headers;
use self::narrowing::{capabilities, general};
use self::privacy::privacy;
use self::scanner::scanner;
use super::{FILE, MINIMAL, good};

/// Rows of `[guard]`.
mod guard;
/// Rows of `[action.general]` and `[action.capabilities]`.
mod narrowing;
/// Rows of `[action.headers]`.
mod headers;
/// Rows of `[action.content]`, but its lists for short.
mod content;
/// Rows of `[action.privacy]`.
mod privacy;
/// Rows of `[alarm]`, and of what raises alarms.
mod alarms;
/// Rows of `[scanner.yara]`.
mod scanner;

/// What the file has without the key.
enum Without {
    /// A fault.
    Missing,
    /// This value, in TOML.
    Default(&'static str),
    /// Nothing: something else decides.
    Unset,
}
use Without::{Default, Missing, Unset};

struct Row {
    header: &'static str,
    key: &'static str,
    without: Without,
    /// Values that are accepted, the limits among them.
    fits: Vec<String>,
    /// Values that are refused, those beyond the limits among them, and the words about them.
    wrong: Vec<(String, String)>,
}

fn row(
    header: &'static str,
    key: &'static str,
    without: Without,
    fits: &[&str],
    wrong: &[(&str, &str)],
) -> Row {
    let fits = fits.iter().map(ToString::to_string).collect();
    let wrong = wrong.iter().map(|(value, words)| (value.to_string(), words.to_string())).collect();
    Row { header, key, without, fits, wrong }
}

impl Row {
    /// A list with the most elements that there is room for, and one more.
    fn room(mut self, max: usize, element: impl Fn(usize) -> String) -> Self {
        let list = |count: usize| format!("[{}]", (0..count).map(&element).collect::<Vec<_>>().join(", "));
        self.fits.push(list(max));
        self.wrong.push((list(max + 1), format!("{} entries, room for {max}; list at most {max}", max + 1)));
        self
    }

    /// The minimal file with this value, or without one, and with what the value's table must have.
    fn file(&self, value: Option<&str>) -> String {
        let mut tables: Vec<(&str, Vec<(&str, &str)>)> = vec![
            ("[steering]", vec![("ingress", "[\"lan0\"]"), ("egress", "[\"wan0\"]")]),
            ("[certificates]", vec![("authority", "{ cert = \"authority.pem\", key = \"authority.key\" }")]),
        ];
        if !tables.iter().any(|(header, _)| *header == self.header) {
            tables.push((
                self.header,
                match self.header {
                    "[[steering.reach]]" => vec![("ingress", "[\"lan0\"]")],
                    "[[policy]]" => vec![("name", "\"default\"")],
                    "[[action.content.name_rule]]" => vec![("match", "\"*.a\""), ("action", "\"remove\"")],
                    "[[action.content.type_rule]]" => vec![("match", "\"a/b\""), ("action", "\"remove\"")],
                    "[[action.content.list_rule]]" => {
                        vec![("list", "\"scripts\""), ("action", "\"remove\"")]
                    }
                    "[[guard.tenant]]" => [
                        ("domains", "[\"example.com\"]"),
                        ("servers", "[\"192.0.2.0/24\"]"),
                        ("names", "[\"a.example\"]"),
                    ]
                    .into_iter()
                    .filter(|(key, _)| *key != self.key)
                    .collect(),
                    "[[action.headers.rule]]" => vec![("match", "\"X-A\""), ("action", "\"remove\"")],
                    "[[certificates.pin]]" if self.key == "servers" => vec![("sha256", PIN_LIST)],
                    "[[certificates.pin]]" => vec![("servers", "[\"::1\"]"), ("sha256", PIN_LIST)],
                    "[[certificates.server]]" => {
                        vec![("names", "[\"a.example\"]"), ("cert", "\"c\""), ("key", "\"k\"")]
                    }
                    _ => Vec::new(),
                },
            ));
        }
        let mut text = String::new();
        for (header, mut lines) in tables {
            if header == self.header {
                lines.retain(|(key, _)| *key != self.key);
                lines.extend(value.map(|value| (self.key, value)));
            }
            text.push_str(&format!("{header}\n"));
            text.extend(lines.iter().map(|(key, value)| format!("{key} = {value}\n")));
        }
        text
    }

    fn name(&self) -> String {
        format!("{} {}", self.header, self.key)
    }
}

const STEERING: &str = "[steering]";
const REACH: &str = "[[steering.reach]]";
const TLS: &str = "[tls]";
const FAULT: &str = "[tls.fault]";
const SERVER: &str = "[[certificates.server]]";
const PIN: &str = "[[certificates.pin]]";
const PIN_LIST: &str = "[\"0000000000000000000000000000000000000000000000000000000000000000\"]";
const ACTION: &str = "[action]";
const CONTENT: &str = "[action.content]";
const LIMITS: &str = "[limits]";
const POLICY: &str = "[[policy]]";
const HELPER: &str = "[helper]";

const FORM: &str = "see its form in what `postern config example` prints";
const DESCRIPTORS: &str = "out of range (two descriptors a session); use 1 to 524288";
const OF_SESSIONS: &str = "out of range (a handshake belongs to a session); use 1 to 524288";
const ID: &str = "out of range (0 is root, and 4294967295 is no user); use 1 to 4294967294";
const IDLE: &str = "out of range (IDLE is renewed every 29 minutes, RFC 9051 section 5.4 forbids less than 30, and two \
                    more leave room); use 1860 to 604800";
const NETWORK: &str =
    "not a network; write an address or a network such as \"192.0.2.0/24\" or \"2001:db8::/32\"";
const ALL_CIPHERS: &str = "[\"TLS_AES_256_GCM_SHA384\", \"TLS_AES_128_GCM_SHA256\", \
     \"TLS_CHACHA20_POLY1305_SHA256\", \"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\", \
     \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\", \"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256\", \
     \"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\", \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\", \
     \"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256\"]";
const NO_FORWARD_SECRECY: &str = "does not exist here: it has no forward secrecy: who gets the server's key later reads what \
     was recorded before; use suites with ECDHE and GCM or ChaCha20, such as \
     \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\", or suites of TLS 1.3, such as \"TLS_AES_128_GCM_SHA256\"";
const NO_SUITE_OF_TLS12: &str = "the list has no suite of TLS 1.2, which min_version = \"1.2\" allows: it could never be \
     agreed on; use min_version = \"1.3\", or add \"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\" or another suite of TLS 1.2";
const UNKNOWN_SUITE: &str = "unknown cipher suite; use \"TLS_AES_256_GCM_SHA384\", \"TLS_AES_128_GCM_SHA256\", \
     \"TLS_CHACHA20_POLY1305_SHA256\", \"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\", \
     \"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\", \"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256\", \
     \"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\", \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\" or \
     \"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256\"";
const NO_OCSP: &str = "unknown treatment of OCSP; use \"disabled\", \"lenient\" or \"strict\"";
const MAPPED: &str = "IPv4 in the form of IPv6, which no connection has; write it as IPv4";
const NO_FILE: &str = "empty; name a file";
const VERDICTS: [&str; 3] = ["\"block\"", "\"mirror\"", "\"allow\""];
const NO_VERDICT: &str = "unknown verdict; use \"block\", \"mirror\" or \"allow\"";

fn interface(number: usize) -> String {
    if number == 0 { "\"lan0\"".to_owned() } else { format!("\"if{number}\"") }
}

fn network(number: usize) -> String {
    format!("\"10.0.{}.{}\"", number / 256, number % 256)
}

fn steering() -> Vec<Row> {
    let name =
        "not an interface name; use a name that `ip link` shows: 1 to 15 octets, no `/`, `:` or white space";
    let empty = "empty; list at least one interface";
    let threads = "out of range (one listener per thread, ingress and family); use 1 to 64";
    let pattern = "not a pattern for interface names; write the beginning of the names and one `*` at the end, such as \
                   \"ppp*\"";
    let port = "out of range (TCP has these ports); use 1 to 65535";
    let no_networks = "empty; list networks, or remove the line for any destination";
    let bits = "has address bits beyond its prefix length; write \"10.0.0.0/8\" for the network or the address alone \
                for one host";
    vec![
        row(
            STEERING,
            "ingress",
            Missing,
            &["[\"a\"]", "[\"ppp*\", \"ppp0\"]"],
            &[("[]", empty), ("[\"a/b\"]", name), ("[\"*\"]", pattern), ("[\"a*b*\"]", pattern)],
        )
            .room(64, interface),
        row(
            STEERING,
            "egress",
            Missing,
            &["[\"a\"]", "[\"a*\"]"],
            &[("[]", empty), ("[\"a b\"]", name), ("[\"a*b\"]", pattern)],
        )
            .room(64, |number| format!("\"wan{number}\"")),
        row(
            STEERING,
            "starttls_ports",
            Default("[143]"),
            &["[]", "[1, 65535]"],
            &[
                ("[0]", port),
                ("[65536]", port),
                (
                    "[143, 993]",
                    "also in steering.implicit_tls_ports by default: TLS begins in one way at a port; leave it out, or \
                     write steering.implicit_tls_ports without it",
                ),
            ],
        )
        .room(8, |number| format!("{}", 1143 + number)),
        row(
            STEERING,
            "implicit_tls_ports",
            Default("[993]"),
            &["[]", "[1, 65535]"],
            &[
                ("[0]", port),
                ("[65536]", port),
                (
                    "[993, 143]",
                    "also in steering.starttls_ports by default: TLS begins in one way at a port; leave it out, or write \
                     steering.starttls_ports without it",
                ),
            ],
        )
        .room(8, |number| format!("{}", 1993 + number)),
        row(
            STEERING,
            "unmatched",
            Default("\"refuse\""),
            &["\"pass\""],
            &[("\"drop\"", "unknown behaviour towards unmatched connections; use \"refuse\" or \"pass\"")],
        ),
        row(
            STEERING,
            "source",
            Default("\"gateway\""),
            &["\"client\""],
            &[("\"server\"", "unknown source; use \"gateway\" or \"client\"")],
        ),
        row(
            STEERING,
            "on_exit",
            Default("\"closed\""),
            &["\"open\""],
            &[("\"shut\"", "unknown behaviour while no daemon runs; use \"closed\" or \"open\"")],
        ),
        row(STEERING, "threads", Unset, &["1", "64"], &[("0", threads), ("65", threads)]),
        row(
            REACH,
            "ingress",
            Missing,
            &["[\"lan0\"]"],
            &[
                ("[]", empty),
                ("[\"a\"]", "not among steering.ingress; add it to steering.ingress or correct the name"),
            ],
        ),
        row(
            REACH,
            "egress",
            Unset,
            &["[\"wan0\"]"],
            &[
                ("[]", empty),
                ("[\"a\"]", "not among steering.egress; add it to steering.egress or correct the name"),
            ],
        ),
        row(REACH, "networks", Unset, &["[\"::/0\"]"], &[("[]", no_networks), ("[\"a\"]", NETWORK)])
            .room(4096, network),
        row(REACH, "except", Default("[]"), &["[\"10.0.0.1\"]"], &[("[\"10.0.0.1/8\"]", bits)])
            .room(4096, network),
    ]
}

fn tls_and_certificates() -> Vec<Row> {
    let roots = "empty; without roots no server can be verified: list \"system\" or PEM files";
    let old = "does not exist here: SSLv3, TLS 1.0 and TLS 1.1 are broken (RFC 7568, RFC 8996); use \"1.2\" or \"1.3\"";
    let fault = |key, default| {
        let others: Vec<_> = VERDICTS.into_iter().filter(|verdict| *verdict != default).collect();
        row(FAULT, key, Default(default), &others, &[("\"ask\"", NO_VERDICT)])
    };
    let no_fingerprint = "not a SHA-256 fingerprint; write the 64 hexadecimal digits that `openssl x509 -noout \
                          -fingerprint -sha256 -in FILE` prints, with or without colons";
    let name = "not a server name: `*` stands only for the whole first label; write a DNS name such as \
                \"imap.example.org\" or \"*.example.org\"";
    vec![
        row(TLS, "roots", Default("[\"system\"]"), &["[\"a.pem\"]"], &[("[]", roots), ("[\"\"]", NO_FILE)]),
        row(
            TLS,
            "min_version",
            Default("\"1.2\""),
            &["\"1.3\""],
            &[("\"1.1\"", old), ("\"1.4\"", "unknown TLS version; use \"1.2\" or \"1.3\"")],
        ),
        row(
            TLS,
            "ciphers",
            Default(ALL_CIPHERS),
            &[
                "[\"TLS_AES_128_GCM_SHA256\", \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]",
                "[\"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256\"]",
            ],
            &[
                ("[]", "empty; without cipher suites there is no TLS: list some, or remove the line for all"),
                ("[\"TLS_RSA_WITH_AES_128_GCM_SHA256\"]", NO_FORWARD_SECRECY),
                ("[\"TLS_AES_128_GCM_SHA256\"]", NO_SUITE_OF_TLS12),
                ("[\"AES128-SHA\"]", UNKNOWN_SUITE),
            ],
        ),
        row(
            TLS,
            "groups",
            Default("[\"X25519MLKEM768\", \"x25519\", \"secp256r1\", \"secp384r1\"]"),
            &["[\"secp384r1\"]", "[\"SecP256r1MLKEM768\", \"MLKEM768\", \"MLKEM1024\", \"x25519\"]"],
            &[
                (
                    "[]",
                    "empty; without groups no keys can be exchanged: list some, or remove the line for the usual ones",
                ),
                (
                    "[\"MLKEM768\"]",
                    "the list has no group of TLS 1.2, which min_version = \"1.2\" allows: it could never be agreed on; \
                     use min_version = \"1.3\", or add \"x25519\", \"secp256r1\" or \"secp384r1\"",
                ),
                (
                    "[\"x448\"]",
                    "does not exist here: rustls does not exchange keys with it; use \"x25519\", \"secp256r1\" or \
                     \"secp384r1\", or for TLS 1.3 \"X25519MLKEM768\"",
                ),
                ("[\"P-256\"]", "not the name that IANA has; write \"secp256r1\""),
                (
                    "[\"x\"]",
                    "unknown group; use \"X25519MLKEM768\", \"SecP256r1MLKEM768\", \"x25519\", \"secp256r1\", \
                     \"secp384r1\", \"MLKEM768\" or \"MLKEM1024\"",
                ),
            ],
        ),
        row(
            TLS,
            "pfs",
            Default("\"allowed\""),
            &["\"required\""],
            &[
                (
                    "\"none\"",
                    "does not exist here: rustls has no key exchange without forward secrecy (no static RSA); use \
                     \"allowed\" or \"required\"; list servers that speak nothing else in action.bypass",
                ),
                ("\"yes\"", "unknown rule about forward secrecy; use \"allowed\" or \"required\""),
            ],
        ),
        row(TLS, "ocsp", Default("\"disabled\""), &["\"lenient\"", "\"strict\""], &[("\"on\"", NO_OCSP)]),
        row(TLS, "crls", Default("[]"), &["[\"a.crl\", \"/srv/b.pem\"]"], &[("[\"\"]", NO_FILE)])
            .room(64, |number| format!("\"{number}.crl\"")),
        row(
            TLS,
            "compliance",
            Default("\"tolerant\""),
            &["\"enforced\""],
            &[("\"yes\"", "unknown rule about deviations from TLS; use \"tolerant\" or \"enforced\"")],
        ),
        row(
            TLS,
            "client_certificate",
            Default("\"none\""),
            &["\"block\""],
            &[
                (
                    "\"inspect\"",
                    "not possible: no gateway has the client's key; use \"none\" or \"block\"; list servers that need \
                     the client's own certificate in action.bypass",
                ),
                (
                    "\"ask\"",
                    "unknown answer to a request for a client certificate; use \"none\" or \"block\"",
                ),
            ],
        ),
        row(
            TLS,
            "offload",
            Default("\"auto\""),
            &["\"always\"", "\"never\""],
            &[("\"on\"", "unknown offload; use \"auto\", \"always\" or \"never\"")],
        ),
        fault("expired", "\"block\""),
        fault("not_yet_valid", "\"block\""),
        fault("untrusted", "\"block\""),
        fault("wrong_name", "\"block\""),
        fault("no_name", "\"allow\""),
        fault("late", "\"block\""),
        fault("unverified", "\"block\""),
        fault("revoked", "\"block\""),
        fault("ocsp_missing", "\"block\""),
        row(
            "[certificates]",
            "authority",
            Missing,
            &["{ cert = \"a\", key = \"b\" }"],
            &[
                ("{ cert = \"a\" }", "missing; name the PEM file of the private key"),
                ("{ cert = \"\", key = \"b\" }", NO_FILE),
                ("{ cert = \"a\", key = \"b\", name = \"c\" }", "unknown key; known here: cert, key"),
            ],
        ),
        row(
            SERVER,
            "names",
            Missing,
            &["[\"*.example.org\"]"],
            &[("[]", "empty; list at least one name"), ("[\"a.*\"]", name)],
        ),
        row(SERVER, "cert", Missing, &["\"a\""], &[("\"\"", NO_FILE)]),
        row(SERVER, "key", Missing, &["\"a\""], &[("\"\"", NO_FILE)]),
        row(
            "[certificates]",
            "default",
            Unset,
            &["{ cert = \"a\", key = \"b\" }"],
            &[
                ("{ cert = \"a\" }", "missing; name the PEM file of the private key"),
                ("\"a\"", &format!("wrong type: a string, expected a table; {FORM}")),
            ],
        ),
        row(PIN, "servers", Default("[]"), &["[\"10.0.0.0/8\", \"::1\"]"], &[("[\"a\"]", NETWORK)])
            .room(4096, network),
        row(PIN, "names", Default("[]"), &["[\"*.example.org\"]"], &[("[\"a.*\"]", name)]),
        row(
            PIN,
            "sha256",
            Missing,
            &[&format!("[\"{}\"]", "aB".repeat(32)), &format!("[\"{}\"]", ["0F"; 32].join(":"))],
            &[
                ("[]", "empty; list at least one fingerprint"),
                (&format!("[\"{}\"]", "a".repeat(63)), no_fingerprint),
                (&format!("[\"{}\"]", "a".repeat(65)), no_fingerprint),
                (&format!("[\"{}+1\"]", "a".repeat(62)), no_fingerprint),
            ],
        )
        .room(64, |number| format!("\"{number:064}\"")),
    ]
}

fn policy() -> Vec<Row> {
    let no_networks = |of: &str| format!("empty; list networks of {of}, or remove the line for any");
    let name = "not a name; use 1 to 64 letters, digits, dots, hyphens and underscores, such as \"IMAP-Client.Office\"";
    let no_hours = "not days and hours; write days and hours such as \"Mon-Fri 07:00-19:00\", \"Sat,Sun 22:00-06:00\" or \
                    \"daily 00:00-12:00\"";
    let no_zone = "not the name of a time zone; write a name such as \"Europe/Berlin\" or \"UTC\"; the system's package \
                   tzdata has them";
    let no_action = "there is no such proxy action; `postern action list` shows what there is";
    let sni = "not a server name: `*` stands only for the whole first label; write a DNS name such as \
               \"imap.example.org\" or \"*.example.org\"";
    vec![
        row(
            POLICY,
            "name",
            Missing,
            &["\"a\"", "\"Office-1.b_2\""],
            &[
                ("\"\"", name),
                ("\".a\"", name),
                ("\"a/b\"", name),
                (&format!("\"{}\"", "a".repeat(65)), name),
            ],
        ),
        row(
            POLICY,
            "ingress",
            Unset,
            &["[\"lan0\"]"],
            &[
                ("[]", "empty; list at least one interface"),
                ("[\"wan0\"]", "not among steering.ingress; add it to steering.ingress or correct the name"),
            ],
        ),
        row(
            POLICY,
            "from",
            Unset,
            &["[\"10.0.0.0/8\"]"],
            &[
                ("[]", &no_networks("clients")),
                ("[\"::ffff:192.0.2.1\"]", MAPPED),
                ("[\"::ffff:192.0.2.0/120\"]", MAPPED),
                ("[\"a\"]", NETWORK),
            ],
        )
        .room(4096, network),
        row(POLICY, "to", Unset, &["[\"::1\"]"], &[("[]", &no_networks("servers")), ("[\"a\"]", NETWORK)])
            .room(4096, network),
        row(
            POLICY,
            "sni",
            Unset,
            &["[\"*.example.org\"]"],
            &[("[]", "empty; list at least one name"), ("[\"a.*\"]", sni)],
        )
        .room(256, |number| format!("\"{number}.example.org\"")),
        row(
            POLICY,
            "hours",
            Unset,
            &["[\"daily 22:00-06:00\"]", "[\"Mon,Wed-Fri 00:00-24:00\"]"],
            &[
                ("[]", "empty; list days and hours, or remove the line for any time"),
                ("[\"Mon\"]", no_hours),
                ("[\"Mon 7:00-19:00\"]", no_hours),
                ("[\"Mon 07:00-07:00\"]", no_hours),
                ("[\"Mon 07:00-24:01\"]", no_hours),
                ("[\"Mon 24:00-07:00\"]", no_hours),
                ("[\"Mon 07:60-09:00\"]", no_hours),
                ("[\"Moon 07:00-19:00\"]", no_hours),
            ],
        )
        .room(64, |number| {
            format!("\"Mon 00:{:02}-24:00\"", number % 60).replace("24:00", &format!("2{}:00", number / 60))
        }),
        row(
            POLICY,
            "time_zone",
            Default("\"UTC\""),
            &["\"Europe/Berlin\""],
            &[
                ("\"\"", no_zone),
                ("\"../../../etc/passwd\"", no_zone),
                (
                    "\"Europe/Nowhere\"",
                    "no such time zone (/usr/share/zoneinfo/Europe/Nowhere: No such file or directory (os error 2)); \
                     write a name such as \"Europe/Berlin\" or \"UTC\"; the system's package tzdata has them",
                ),
            ],
        ),
        row(
            POLICY,
            "tls_support",
            Default("\"enabled\""),
            &["\"disabled\"", "\"required\""],
            &[("\"on\"", "unknown TLS support; use \"disabled\", \"enabled\" or \"required\"")],
        ),
        row(
            POLICY,
            "proxy_action",
            Unset,
            &["\"IMAP-Server.Standard\""],
            &[
                ("\"Nothing\"", no_action),
                (
                    "\"IMAP-Client.Standrad\"",
                    "there is no such proxy action; did you mean \"IMAP-Client.Standard\"?",
                ),
            ],
        ),
    ]
}

fn action() -> Vec<Row> {
    let no_profile = "there is no such TLS profile; `postern profile list` shows what there is";
    let pattern = "not a pattern for file names: a file name has no `/`; write a file name in which `*` stands for any \
                   characters and `?` for one, such as \"*.exe\"";
    vec![
        row(
            ACTION,
            "starttls",
            Default("\"inspect\""),
            &["\"strip\"", "\"bypass\""],
            &[("\"allow\"", "unknown treatment of STARTTLS; use \"inspect\", \"strip\" or \"bypass\"")],
        ),
        row(
            ACTION,
            "cleartext",
            Default("\"refuse\""),
            &["\"inspect\""],
            &[("\"allow\"", "unknown treatment of clear text; use \"refuse\" or \"inspect\"")],
        ),
        row(
            ACTION,
            "implicit",
            Default("\"inspect\""),
            &["\"allow\"", "\"deny\""],
            &[("\"bypass\"", "unknown treatment of implicit TLS; use \"inspect\", \"allow\" or \"deny\"")],
        ),
        row(ACTION, "tls_profile", Unset, &["\"TLS-Server.Standard\""], &[("\"Nothing\"", no_profile)]),
        row(ACTION, "starttls_profile", Unset, &["\"TLS-Client.Strict\""], &[("\"Nothing\"", no_profile)]),
        row(
            ACTION,
            "certificates",
            Default("\"authority\""),
            &["\"server\""],
            &[("\"own\"", "unknown source of certificates; use \"authority\" or \"server\"")],
        ),
        row(
            ACTION,
            "inspect",
            Default("\"full\""),
            &["\"none\""],
            &[("\"some\"", "unknown depth of inspection; use \"none\" or \"full\"")],
        ),
        row(ACTION, "bypass", Default("[]"), &["[\"10.0.0.1\"]"], &[("[\"a\"]", NETWORK)])
            .room(4096, network),
        row(ACTION, "bypass_clients", Default("[]"), &["[\"10.0.0.0/8\"]"], &[("[\"a\"]", NETWORK)])
            .room(4096, network),
        row(
            ACTION,
            "trust_uid_immutability",
            Default("[]"),
            &["[\"192.0.2.7\", \"2001:db8::7\"]"],
            &[
                (
                    "[\"192.0.2.0/24\"]",
                    "not an address; write the address of one server, such as \"192.0.2.7\" or \"2001:db8::7\"",
                ),
                ("[\"2001:db8::7\", \"2001:DB8:0::7\"]", "already given on line 7; remove one of them"),
            ],
        )
        .room(64, |host| format!("\"192.0.2.{host}\"")),
        row(
            CONTENT,
            "names",
            Default("[]"),
            &["[\"*.exe\"]"],
            &[("[\"\"]", "empty; write a file name such as \"*.exe\""), ("[\"a/b\"]", pattern)],
        )
        .room(1000, |number| format!("\"*.{number}\"")),
        row(
            CONTENT,
            "types",
            Default("[\"executable\"]"),
            &["[]"],
            &[("[\"picture\"]", "unknown type of content; use \"executable\"")],
        ),
    ]
    .into_iter()
    .chain(content())
    .collect()
}

fn counts() -> Vec<Row> {
    let sessions = |key, without, outside| {
        row(LIMITS, key, without, &["1", "524288"], &[("0", outside), ("524289", outside)])
    };
    let most = "out of range (no machine finishes more); use 1 to 100000";
    let patience = |max| format!("out of range (clients give up after one to two minutes); use 1 to {max}");
    let (connect, handshake) = (patience(120), patience(300));
    let drain = "out of range (a stop has to end); use 0 to 86400";
    vec![
        sessions("sessions", Unset, DESCRIPTORS),
        sessions("sessions_per_client", Unset, DESCRIPTORS),
        sessions("handshakes", Unset, OF_SESSIONS),
        sessions("handshakes_per_client", Default("16"), OF_SESSIONS),
        row(
            LIMITS,
            "handshakes_per_second_per_client",
            Default("10"),
            &["1", "100000"],
            &[("0", most), ("100001", most)],
        ),
        sessions("handshake_burst_per_client", Default("32"), OF_SESSIONS),
        row(LIMITS, "connect_seconds", Default("10"), &["1", "120"], &[("0", &connect), ("121", &connect)]),
        row(
            LIMITS,
            "handshake_seconds",
            Default("60"),
            &["1", "300"],
            &[("0", &handshake), ("301", &handshake)],
        ),
        row(
            LIMITS,
            "idle_seconds",
            Default("2100"),
            &["1860", "604800"],
            &[("1859", IDLE), ("604801", IDLE)],
        ),
        row(
            LIMITS,
            "judge_seconds",
            Default("30"),
            &["1", "600"],
            &[
                ("0", "out of range (a client waits for it); use 1 to 600"),
                ("601", "out of range (a client waits for it); use 1 to 600"),
            ],
        ),
        row(
            LIMITS,
            "drain_seconds",
            Default("30"),
            &["0", "86400"],
            &[
                ("-1", drain),
                ("86401", drain),
                ("99999999999999999999", drain),
                ("1.5", &format!("wrong type: a number with a fraction, expected a whole number; {FORM}")),
            ],
        ),
    ]
}

fn sizes() -> Vec<Row> {
    let size = |key, without, [below, min, max, above]: [&str; 4], words: &str| {
        row(
            LIMITS,
            key,
            without,
            &[min, max],
            &[
                (below, words),
                (above, words),
                ("\"2 MB\"", "not a size; write a whole number and KiB, MiB or GiB, such as \"512 MiB\""),
            ],
        )
    };
    vec![
        size(
            "memory",
            Unset,
            ["\"31 MiB\"", "\"32 MiB\"", "\"1048576 GiB\"", "\"1048577 GiB\""],
            "out of range (eight sessions of the largest size need half of it, and action.inspect = \"full\" may hold \
             the other half); use \"32 MiB\" to \"1048576 GiB\"",
        ),
        size(
            "session_memory",
            Default("\"2 MiB\""),
            ["\"511 KiB\"", "\"512 KiB\"", "\"16 MiB\"", "\"17 MiB\""],
            "out of range (its buffers must hold a TLS record and need not hold more than any path carries); use \
             \"512 KiB\" to \"16 MiB\"",
        ),
        size(
            "message",
            Default("\"64 MiB\""),
            ["\"63 KiB\"", "\"64 KiB\"", "\"1 GiB\"", "\"1025 MiB\""],
            "out of range (a message is held whole while it is judged); use \"64 KiB\" to \"1 GiB\"",
        ),
        // Its own least is one message of the least size; here it is one of the default size.
        size(
            "held",
            Unset,
            ["\"63 KiB\"", "\"64 MiB\"", "\"1048576 GiB\"", "\"1048577 GiB\""],
            "out of range (it holds at least one message, and is a part of limits.memory); use \"64 KiB\" to \
             \"1048576 GiB\"",
        ),
        size(
            "spool",
            Default("\"1 GiB\""),
            ["\"1023 KiB\"", "\"1 MiB\"", "\"65536 GiB\"", "\"65537 GiB\""],
            "out of range (a copy of a part takes some blocks of 64 KiB); use \"1 MiB\" to \"65536 GiB\"",
        ),
        size(
            "judge_memory",
            Default("\"512 MiB\""),
            ["\"63 MiB\"", "\"64 MiB\"", "\"64 GiB\"", "\"65 GiB\""],
            "out of range (rules and one part of a mail, unpacked, need some of it); use \"64 MiB\" to \"64 GiB\"",
        ),
    ]
}

fn daemon() -> Vec<Row> {
    let flag = format!("wrong type: a string, expected true or false; {FORM}");
    let path = |octets: usize| format!("\"/{}\"", "s".repeat(octets - 1));
    let socket = "the path resolves to 108 octets, a Unix socket has room for 107; choose a shorter path";
    let id = |key| row("[process]", key, Unset, &["1", "4294967294"], &[("0", ID), ("4294967295", ID)]);
    vec![
        row("[records]", "start", Default("true"), &["false"], &[("\"no\"", &flag)]),
        row(
            "[records]",
            "format",
            Default("\"auto\""),
            &["\"json\""],
            &[("\"text\"", "unknown form of records; use \"auto\" or \"json\"")],
        ),
        row("[records]", "clean_verdicts", Default("false"), &["true"], &[("\"no\"", &flag)]),
        row(
            "[state]",
            "directory",
            Default("\"/var/lib/postern\""),
            &["\"a\""],
            &[("\"\"", "empty; name a directory")],
        ),
        row(
            "[admin]",
            "socket",
            Default("\"/run/postern/postern.sock\""),
            &[&path(107)],
            &[(&path(108), socket), ("\"\"", NO_FILE)],
        ),
        id("worker_id"),
        id("signer_id"),
        id("helper_id"),
        id("judge_id"),
    ]
}

fn helper() -> Vec<Row> {
    vec![
        row(
            HELPER,
            "name_servers",
            Unset,
            &["[\"127.0.0.53\"]", "[\"192.0.2.53\", \"2001:db8::53\"]"],
            &[
                (
                    "[]",
                    "empty; list addresses of name servers, or remove the line for those of /etc/resolv.conf",
                ),
                (
                    "[\"ns.example.org\"]",
                    "not an address; write the address of one server, such as \"192.0.2.7\" or \"2001:db8::7\"",
                ),
            ],
        )
        .room(3, |host| format!("\"192.0.2.{host}\"")),
        row(
            HELPER,
            "reach",
            Default("[]"),
            &["[\"10.1.2.3/32\", \"fd00::/8\"]"],
            &[("[\"ocsp.example.org\"]", NETWORK)],
        )
        .room(4096, network),
    ]
}

fn rows() -> Vec<Row> {
    [
        steering(),
        tls_and_certificates(),
        action(),
        general(),
        capabilities(),
        privacy(),
        policy(),
        headers(),
        guard(),
        scanner(),
        counts(),
        sizes(),
        daemon(),
        alarms(),
        helper(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn accepted(row: &Row, value: Option<&str>) -> Config {
    parse(&row.file(value), Path::new(FILE)).unwrap_or_else(|error| panic!("{}: {error}", row.name()))
}

#[test]
fn every_setting_takes_what_lies_within_its_limits() {
    for row in rows() {
        let without = if matches!(row.without, Missing) { good(MINIMAL) } else { accepted(&row, None) };
        for value in &row.fits {
            assert_ne!(accepted(&row, Some(value)), without, "{} = {value} changes nothing", row.name());
        }
    }
}

#[test]
fn every_setting_refuses_what_lies_beyond_its_limits_and_says_why() {
    for row in rows() {
        assert!(!row.wrong.is_empty(), "{} refuses nothing", row.name());
        for (value, words) in &row.wrong {
            let error = parse(&row.file(Some(value)), Path::new(FILE)).expect_err(&row.name());
            let [fault] = error.faults() else { panic!("{}: {error}", row.name()) };
            assert_eq!(&format!("{}; {}", fault.reason, fault.remedy()), words, "{}", row.name());
            assert!(fault.key.contains(row.key) && fault.place.is_some(), "{}: {fault:?}", row.name());
        }
    }
}

/// Of the schema: `[section] key` and the keywords.
fn described(schema: &Value, path: &str, settings: &mut Vec<(String, Value)>) {
    let of_items = schema.pointer("/items/properties");
    let header = if of_items.is_some() { format!("[[{path}]]") } else { format!("[{path}]") };
    let properties =
        of_items.or_else(|| schema.get("properties")).and_then(Value::as_object).expect("properties");
    for (key, schema) in properties {
        let is_section = schema.get("examples").is_none()
            && (schema.get("properties").is_some() || schema.pointer("/items/properties").is_some());
        // Objects with names have the settings of the tables without.
        let like = schema.get("additionalProperties").filter(|of_object| of_object.is_object());
        if let Some(of_object) = like {
            let unnamed = match key.as_str() {
                "proxy_action" => "action",
                "tls_profile" => "tls",
                key => panic!("{key} is new"),
            };
            let unnamed = properties.get(unnamed).and_then(|table| table.get("properties"));
            assert!(unnamed.is_some() && unnamed == of_object.get("properties"), "{key}");
        } else if is_section {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            described(schema, &path, settings);
        } else {
            settings.push((format!("{header} {key}"), schema.clone()));
        }
    }
}

#[test]
fn every_setting_has_a_row_and_the_default_of_its_row() {
    let schema: Value = serde_json::from_str(&postern::config::schema()).expect("a schema");
    let mut settings = Vec::new();
    described(&schema, "", &mut settings);
    let rows = rows();
    let named: BTreeSet<_> = rows.iter().map(Row::name).collect();
    let declared: BTreeSet<_> = settings.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(named, declared);
    for row in rows {
        let (_, schema) = settings.iter().find(|(name, _)| *name == row.name()).expect("declared");
        let default = match row.without {
            Default(toml) => {
                assert_eq!(accepted(&row, Some(toml)), accepted(&row, None), "{}", row.name());
                let table: toml::Table = toml::from_str(&format!("value = {toml}")).expect("TOML");
                table.get("value").and_then(|value| serde_json::to_value(value).ok())
            }
            Missing | Unset => None,
        };
        assert_eq!(schema.get("default"), default.as_ref(), "{}", row.name());
    }
}
