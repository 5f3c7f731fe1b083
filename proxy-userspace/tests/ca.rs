//! `postern ca`, with what openssl says of it.
#![expect(clippy::expect_used, reason = "helpers of tests stop the test")]

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// What the test's company signs its subordinates with: openssl's words.
const SUBORDINATE: &str =
    "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n";

struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect(name)
    }

    fn postern(&self, arguments: &[&str]) -> Output {
        self.postern_with(arguments, b"")
    }

    fn postern_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("postern");
        // Who does not want it may end before.
        let _ = child.stdin.take().expect("stdin").write_all(input);
        child.wait_with_output().expect("postern")
    }

    /// What it says; it succeeds.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.postern(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What it says; it fails.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.postern(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    fn openssl(&self, arguments: &str) -> String {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "openssl {arguments}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn fingerprint(&self, name: &str) -> String {
        let told = self.openssl(&format!("x509 -in {name} -noout -fingerprint -sha256"));
        told.trim().rsplit('=').next().expect("fingerprint").to_owned()
    }

    fn public_key(&self, name: &str) -> String {
        self.openssl(&format!("x509 -in {name} -noout -pubkey"))
    }

    /// A company's root: root.pem and root.key.
    fn company(&self, extensions: &str) {
        let ec = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        self.openssl(&format!(
            "req -x509 {ec} -keyout root.key -out root.pem -days 100 -subj /CN=Company {extensions}"
        ));
    }

    /// Has the company sign a request, with these extensions, for so many days.
    fn sign(&self, request: &str, out: &str, extensions: &str, days: u16) {
        std::fs::write(self.path("extensions"), extensions).expect("extensions");
        self.openssl(&format!(
            "x509 -req -in {request} -CA root.pem -CAkey root.key -days {days} -extfile extensions -out {out}"
        ));
    }

    fn write(&self, name: &str, octets: &str) {
        std::fs::write(self.path(name), octets).expect(name);
    }

    fn mode(&self, name: &str) -> u32 {
        self.path(name).metadata().expect(name).permissions().mode() & 0o7777
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("list");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn has(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[test]
fn show_says_what_an_administrator_compares_and_export_gives_away_no_key() {
    let desk = Desk::new();
    desk.done(&["ca", "init", "--out", ".", "--name", "Gateway", "--days", "30"]);
    let shown = desk.done(&["ca", "show", "--out", "."]);
    let fingerprint = desk.fingerprint("authority.pem");
    let key = desk.path("authority.key").display().to_string();
    has(&shown, &["CN=Gateway", "root, signed by itself", " days left", "ECDSA P-256", &fingerprint, &key]);

    // Without --out the directory is that of the configuration, which need not be there.
    let exported = desk.done(&["--config", "postern.toml", "ca", "export"]);
    assert_eq!(exported, desk.text("authority.pem"));
    let said = desk.done(&["--config", "postern.toml", "ca", "export", "--der", "--out", "client.der"]);
    has(&said, &[&fingerprint, "docs/trust.md"]);
    let read = desk.openssl("x509 -inform der -in client.der -noout -fingerprint -sha256");
    assert!(read.contains(&fingerprint) && desk.mode("client.der") == 0o644);
    let told = desk.refused(&["--config", "postern.toml", "ca", "export", "--out", "authority.key"]);
    has(&told, &["authority.key: exists and is not overwritten"]);
}

#[test]
fn paths_come_from_the_configuration_where_it_loads() {
    let desk = Desk::new();
    desk.done(&["ca", "init", "--out", "elsewhere", "--name", "Elsewhere"]);
    desk.write(
        "postern.toml",
        "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[certificates]\n\
         authority = { cert = \"elsewhere/authority.pem\", key = \"elsewhere/authority.key\" }\n",
    );
    has(&desk.done(&["--config", "postern.toml", "ca", "show"]), &["CN=Elsewhere"]);
}

#[test]
fn a_renewed_root_has_key_subject_and_identifier_of_the_old_one_which_is_kept() {
    let desk = Desk::new();
    desk.done(&["ca", "init", "--out", ".", "--name", "Gateway", "--days", "3"]);
    let (old, public_key) = (desk.text("authority.pem"), desk.public_key("authority.pem"));
    let said = desk.done(&["ca", "renew", "--out", ".", "--days", "400"]);
    has(&said, &["authority.pem.old", &desk.fingerprint("authority.pem"), "reload"]);
    assert_eq!(desk.text("authority.pem.old"), old);
    assert_eq!((desk.public_key("authority.pem"), desk.mode("authority.pem")), (public_key, 0o644));
    desk.openssl("x509 -in authority.pem -noout -checkend 34000000");
    desk.openssl("verify -x509_strict -CAfile authority.pem authority.pem");
    for part in ["-subject -issuer", "-ext subjectKeyIdentifier,basicConstraints,keyUsage"] {
        let of = |file: &str| desk.openssl(&format!("x509 -in {file} -noout {part}"));
        assert_eq!(of("authority.pem"), of("authority.pem.old"));
    }
    assert_ne!(
        desk.openssl("x509 -in authority.pem -noout -serial"),
        desk.openssl("x509 -in authority.pem.old -noout -serial")
    );
    desk.done(&["ca", "renew", "--out", "."]);
    assert_eq!(desk.text("authority.pem.old"), old, "each is kept");
    assert!(desk.names().contains(&"authority.pem.old.2".to_owned()), "{:?}", desk.names());
}

#[test]
fn a_company_signs_the_request_and_clients_of_its_root_accept_what_is_imported() {
    let desk = Desk::new();
    desk.company("");
    let said = desk.done(&["ca", "request", "--out", ".", "--name", "Gateway"]);
    has(&said, &["authority.csr", "postern ca import"]);
    assert_eq!((desk.mode("authority.key"), desk.path("authority.pem").exists()), (0o600, false));
    desk.openssl("req -in authority.csr -noout -verify");
    let key = desk.text("authority.key");
    desk.sign("authority.csr", "signed.pem", SUBORDINATE, 20);
    // The root stands first in what the company sends: order is put right.
    desk.write("chain.pem", &(desk.text("root.pem") + &desk.text("signed.pem")));
    has(&desk.done(&["ca", "import", "--out", ".", "--cert", "chain.pem"]), &["2 in the chain"]);
    assert_eq!(desk.text("authority.key"), key);
    assert_eq!(
        desk.fingerprint("authority.pem"),
        desk.fingerprint("signed.pem"),
        "the authority comes first"
    );
    let shown = desk.done(&["ca", "show", "--out", "."]);
    has(&shown, &["intermediate, signed by its issuer", "CN=Company (root)", " days left"]);
    let exported = desk.done(&["--config", "postern.toml", "ca", "export"]);
    desk.write("exported.pem", &exported);
    assert_eq!(desk.fingerprint("exported.pem"), desk.fingerprint("root.pem"), "clients trust the root");
    has(&desk.refused(&["ca", "renew", "--out", "."]), &["CN=Company", "postern ca request"]);
    // A second request is for the same key and name.
    desk.done(&["ca", "request", "--out", "."]);
    has(&desk.openssl("req -in authority.csr -noout -subject"), &["CN = Gateway"]);
    assert_eq!(desk.text("authority.key"), key);
    has(&desk.refused(&["ca", "import", "--out", ".", "--cert", "chain.pem"]), &["--replace"]);
    // Without the root there is nothing to give to clients.
    desk.done(&["ca", "import", "--out", ".", "--cert", "signed.pem", "--replace"]);
    has(
        &desk.refused(&["--config", "postern.toml", "ca", "export"]),
        &["does not hold the root", "CN=Company"],
    );
}

#[test]
fn pkcs12_is_read_as_openssl_and_as_old_windows_write_it() {
    let desk = Desk::new();
    desk.company("");
    desk.done(&["ca", "request", "--out", "made"]);
    desk.sign("made/authority.csr", "signed.pem", SUBORDINATE, 20);
    let export =
        "pkcs12 -export -inkey made/authority.key -in signed.pem -certfile root.pem -passout pass:secret";
    desk.openssl(&format!("{export} -out new.p12"));
    desk.openssl(&format!("{export} -legacy -out old.p12"));
    desk.write("passphrase", "secret\n");
    for (file, out) in [("new.p12", "one"), ("old.p12", "two")] {
        let arguments = ["ca", "import", "--out", out, "--pkcs12", file];
        let with_file = [&arguments[..], &["--passphrase-file", "passphrase"]].concat();
        has(&desk.done(&with_file), &["2 in the chain"]);
        let (cert, key) = (format!("{out}/authority.pem"), format!("{out}/authority.key"));
        assert_eq!((desk.mode(&cert), desk.mode(&key)), (0o644, 0o600));
        assert_eq!(desk.openssl(&format!("pkey -in {key} -pubout")), desk.public_key(&cert));
        has(&desk.refused(&with_file), &["--replace"]);
        let (before, replace) = (desk.text(&key), [&arguments[..], &["--replace"]].concat());
        let wrong = desk.postern_with(&replace, b"secrets\n");
        assert_eq!(wrong.status.code(), Some(1));
        has(&text(&wrong.stderr), &[file, "compare the passphrase"]);
        assert!(!text(&wrong.stderr).contains("secrets"));
        let right = desk.postern_with(&replace, b"secret\n");
        assert!(right.status.success(), "{}", text(&right.stderr));
        has(&text(&right.stdout), &["authority.pem.old\n", "authority.key.old\n"]);
        assert_eq!((desk.text(&format!("{key}.old")), desk.mode(&format!("{key}.old"))), (before, 0o600));
    }
}

#[test]
fn what_clients_would_refuse_is_not_imported() {
    let desk = Desk::new();
    desk.company("");
    desk.done(&["ca", "request", "--out", "made"]);
    let issued = |extensions: &str, days| {
        desk.sign("made/authority.csr", "signed.pem", extensions, days);
        desk.write("chain.pem", &(desk.text("signed.pem") + &desk.text("root.pem")));
        desk.refused(&["ca", "import", "--out", "new", "--cert", "chain.pem", "--key", "made/authority.key"])
    };
    has(&issued("basicConstraints=critical,CA:FALSE\n", 20), &["not a certificate authority"]);
    let no_signing = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature\n";
    has(&issued(no_signing, 20), &["lacks keyCertSign"]);
    let clients_only = format!("{SUBORDINATE}extendedKeyUsage=clientAuth\n");
    has(&issued(&clients_only, 20), &["clients would refuse what it signs", "serverAuth"]);

    // Of another key.
    desk.sign("made/authority.csr", "signed.pem", SUBORDINATE, 20);
    desk.done(&["ca", "init", "--out", "other"]);
    let other = ["ca", "import", "--out", "new", "--cert", "signed.pem", "--key", "other/authority.key"];
    has(&desk.refused(&other), &["signed.pem: no certificate in it belongs to the private key"]);

    // Below a root that may have none below it.
    desk.company("-addext basicConstraints=critical,CA:TRUE,pathlen:0");
    has(&issued(SUBORDINATE, 20), &["\"CN=Company\" allows 0 authorities below it"]);
    assert!(!desk.path("new").exists(), "nothing was written");
}

#[test]
fn a_key_that_others_can_read_is_not_imported() {
    let desk = Desk::new();
    desk.done(&["ca", "init", "--out", "made"]);
    let key = desk.path("made/authority.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let import =
        ["ca", "import", "--out", "new", "--cert", "made/authority.pem", "--key", "made/authority.key"];
    has(&desk.refused(&import), &["chmod 600"]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    has(&desk.done(&import), &["1 in the chain"]);
    assert!(Path::new(&desk.path("new/authority.key")).exists());
}

#[test]
fn where_the_certificate_cannot_be_replaced_the_old_key_stays() {
    let desk = Desk::new();
    desk.done(&["ca", "init", "--out", "made"]);
    desk.done(&["ca", "init", "--out", "new"]);
    let key = desk.text("new/authority.key");
    // Nothing replaces a directory, whoever tries it.
    std::fs::remove_file(desk.path("new/authority.pem")).expect("remove");
    std::fs::create_dir(desk.path("new/authority.pem")).expect("directory");
    let import =
        ["ca", "import", "--out", "new", "--cert", "made/authority.pem", "--key", "made/authority.key"];
    let import = [&import[..], &["--replace"]].concat();
    has(&desk.refused(&import), &["authority.pem: cannot write"]);
    assert_eq!(desk.text("new/authority.key"), key);
    assert!(!desk.path("new/authority.key.old").exists());
    // Nor is one left where none was.
    std::fs::remove_file(desk.path("new/authority.key")).expect("remove");
    desk.refused(&import);
    assert!(!desk.path("new/authority.key").exists());
}
