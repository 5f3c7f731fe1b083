use std::fs;
use std::path::{Path, PathBuf};

use postern::config::{CloneError, Config, ConfigError, ObjectKind, StartTls, clone_object, load};

use super::{MINIMAL, assert_message};

const ACTION: ObjectKind = ObjectKind::ProxyAction;
const STANDARD: &str = "IMAP-Client.Standard";

/// A configuration in a directory of its own.
struct Installed(tempfile::TempDir);

impl Installed {
    fn new(further: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("conf.d")).expect("conf.d");
        let this = Self(directory);
        fs::write(this.path(), format!("{MINIMAL}{further}")).expect("the file");
        this
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("postern.toml")
    }

    /// A file of `conf.d`.
    fn further(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join("conf.d").join(name);
        fs::write(&path, text).expect("a file of conf.d");
        path
    }

    fn load(&self) -> Config {
        load(&self.path()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn message(&self) -> String {
        load(&self.path()).expect_err("accepted").to_string()
    }

    /// Makes a clone and writes it.
    fn clone(&self, from: &str, to: &str, edited: Option<&Path>) -> Result<String, CloneError> {
        let file = clone_object(&self.path(), ACTION, (from, to), edited)?;
        assert_eq!(file.path, self.0.path().join(format!("conf.d/action-{to}.toml")));
        fs::write(&file.path, &file.text).expect("the clone");
        Ok(file.text)
    }
}

#[test]
fn objects_are_read_from_the_files_of_the_directory() {
    let installed = Installed::new("[[policy]]\nname = \"a\"\nproxy_action = \"Office\"\n");
    installed.further("b.toml", "[proxy_action.Office]\nstarttls = \"strip\"\ntls_profile = \"Hard\"\n");
    installed.further("a.toml", "[tls_profile.Hard]\nmin_version = \"1.3\"\nroots = [\"own.pem\"]\n");
    // What editors leave.
    installed.further(".c.toml", "nonsense");
    installed.further("d.toml~", "nonsense");
    let config = installed.load();
    let action = config.action(Some("Office")).expect("the action");
    assert_eq!(action.starttls, StartTls::Strip);
    let profile = config.profile(action.implicit_profile()).expect("the profile");
    assert_eq!(profile.min_version.as_str(), "1.3");
    // Relative paths of all files are meant from one directory.
    assert_eq!(profile.root_files().collect::<Vec<_>>(), [&installed.0.path().join("own.pem")]);
}

#[test]
fn faults_of_all_files_are_told_with_file_and_line() {
    let installed = Installed::new("[limits]\nsessions = 0\n");
    let first = installed.further("a.toml", "[proxy_action.A]\nstarttls = \"no\"\n");
    let second = installed.further("b.toml", "\n[limits]\nsessions = 1\n[proxy_action.A]\n");
    let third = installed.further("c.toml", "= 1\n");
    let told = installed.message();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 5, "{told}");
    assert!(
        lines[0].starts_with(&format!("{}:8:12: limits.sessions = 0", installed.path().display())),
        "{told}"
    );
    assert!(
        lines[1].starts_with(&format!("{}:2:12: proxy_action.A.starttls = \"no\"", first.display())),
        "{told}"
    );
    assert!(lines[2].starts_with(&format!("{}:2:2: limits: unknown key", second.display())), "{told}");
    assert!(lines[4].starts_with(&format!("{}:1:1: not TOML", third.display())), "{told}");
}

#[test]
fn one_name_in_two_files_is_a_fault_of_the_later() {
    let installed = Installed::new("[proxy_action.A]\n");
    let later = installed.further("a.toml", "\n[proxy_action.A]\n");
    let told = installed.message();
    let said =
        format!("{}:2:15: proxy_action.A: an earlier file has this proxy action, too", later.display());
    assert!(told.starts_with(&said), "{told}");
}

#[test]
fn predefined_objects_are_there_and_nobody_edits_them() {
    let config = Installed::new("").load();
    assert_eq!(config.object_names(ACTION), ["[action]", STANDARD, "IMAP-Server.Standard"]);
    let profiles =
        ["[tls]", "TLS-Client.Standard", "TLS-Client.Strict", "TLS-Server.Standard", "TLS-Server.Strict"];
    assert_eq!(config.object_names(ObjectKind::TlsProfile), profiles);
    assert_message(
        "[proxy_action.\"IMAP-Client.Standard\"]\nstarttls = \"strip\"",
        &[
            "proxy_action.\"IMAP-Client.Standard\": predefined, and cannot be edited, deleted or shadowed",
            "`postern action clone IMAP-Client.Standard NAME --apply /etc/postern/postern.toml`",
        ],
    );
    assert_message(
        "[tls_profile.\"TLS-Server.Strict\"]",
        &["predefined", "`postern profile clone TLS-Server.Strict"],
    );
}

#[test]
fn what_is_shown_can_be_written_and_says_the_same() {
    let installed =
        Installed::new("[action]\nbypass = [\"10.0.0.0/8\"]\n[action.content]\nnames = [\"*.a\\\"b\"]\n");
    let config = installed.load();
    for kind in [ACTION, ObjectKind::TlsProfile] {
        for name in config.object_names(kind) {
            let shown = config.object_text(kind, name).expect("an object");
            let predefined = format!("[{}.\"{name}\"", kind.table());
            let own = shown.replace(&predefined, &format!("[{}.\"Own", kind.table()));
            let again = if name == kind.unnamed() {
                shown.replace("[action", "[proxy_action.Own").replace("[tls", "[tls_profile.Own")
            } else {
                own.replace("\"Own]", "\"Own\"]").replace("\"Own.", "\"Own\".")
            };
            let other = Installed::new(&again).load();
            match kind {
                ObjectKind::ProxyAction => {
                    let original = config.action((name != kind.unnamed()).then_some(name));
                    assert_eq!(other.action(Some("Own")), original, "{again}");
                }
                ObjectKind::TlsProfile => {
                    let original = config.profile((name != kind.unnamed()).then_some(name));
                    assert_eq!(other.profile(Some("Own")), original, "{again}");
                }
            }
        }
    }
}

#[test]
fn a_clone_has_all_of_the_original_and_can_be_edited() {
    let installed = Installed::new("");
    let text = installed.clone(STANDARD, "Office", None).unwrap_or_else(|error| panic!("{error}"));
    assert!(
        text.contains("[proxy_action.Office]\n") && text.contains("[proxy_action.Office.content]\n"),
        "{text}"
    );
    let config = installed.load();
    assert_eq!(config.action(Some("Office")), config.action(Some(STANDARD)));
    installed.further("action-Office.toml", &text.replace("starttls = \"inspect\"", "starttls = \"strip\""));
    assert_eq!(installed.load().action(Some("Office")).expect("the clone").starttls, StartTls::Strip);
}

#[test]
fn an_edit_of_a_predefined_object_becomes_a_clone() {
    let installed = Installed::new("[[policy]]\nname = \"a\"\nproxy_action = \"Mine\"\n");
    let edited = installed.further(
        "mine.toml",
        "[proxy_action.\"IMAP-Client.Standard\"]\nstarttls = \"strip\"\n\
         [proxy_action.\"IMAP-Client.Standard\".content]\nnames = [\"*.exe\"]\n",
    );
    let told = installed.message();
    assert!(told.contains(&format!("clone {STANDARD} NAME --apply {}", edited.display())), "{told}");
    installed.clone(STANDARD, "Mine", Some(&edited)).unwrap_or_else(|error| panic!("{error}"));
    fs::remove_file(&edited).expect("the edit");
    let config = installed.load();
    let clone = config.action(Some("Mine")).expect("the clone");
    assert_eq!((clone.starttls, clone.content.names.len()), (StartTls::Strip, 1));
    // What the edit does not name is the original's.
    assert_eq!(clone.tls_profile.as_deref(), Some("TLS-Client.Standard"));
    assert_eq!(clone.content.types, config.action(Some(STANDARD)).expect("the original").content.types);
}

#[test]
fn an_edit_may_name_other_objects_of_its_file() {
    let installed = Installed::new("");
    let edited = installed.further(
        "mine.toml",
        "[proxy_action.\"IMAP-Client.Standard\"]\ntls_profile = \"Mine\"\n[tls_profile.Mine]\nmin_version = \"1.3\"\n\
         [proxy_action.Mine2]\nstarttls = \"no\"\n",
    );
    installed.clone(STANDARD, "Mine", Some(&edited)).unwrap_or_else(|error| panic!("{error}"));
    fs::write(&edited, "[tls_profile.Mine]\nmin_version = \"1.3\"\n").expect("the edit without its table");
    let config = installed.load();
    assert_eq!(config.action(Some("Mine")).expect("the clone").tls_profile.as_deref(), Some("Mine"));
}

#[test]
fn an_edit_in_the_first_file_becomes_a_clone_too() {
    let installed = Installed::new("[proxy_action.\"IMAP-Client.Standard\"]\nstarttls = \"strip\"\n");
    installed.clone(STANDARD, "Mine", Some(&installed.path())).unwrap_or_else(|error| panic!("{error}"));
    fs::write(installed.path(), MINIMAL).expect("the file");
    assert_eq!(installed.load().action(Some("Mine")).expect("the clone").starttls, StartTls::Strip);
}

#[test]
fn a_clone_that_cannot_be_is_refused_with_the_reason() {
    let installed = Installed::new("[proxy_action.Own]\n");
    let edited = installed.0.path().join("edited.toml");
    let refused = |from: &str, to: &str, edit: &str| {
        fs::write(&edited, edit).expect("the edit");
        let edited = (!edit.is_empty()).then_some(edited.as_path());
        installed.clone(from, to, edited).expect_err("accepted").to_string()
    };
    assert!(refused("None", "A", "").contains("no proxy action \"None\"; `postern action list`"));
    assert!(refused(STANDARD, "a/b", "").contains("\"a/b\": not a name; use 1 to 64 letters"));
    for taken in ["Own", STANDARD] {
        assert!(refused("Own", taken, "").contains("already; choose another name"));
    }
    assert!(refused("Own", "A", "[proxy_action.Other]\n").contains("edited.toml: no [proxy_action.Own]"));
    let fault = refused("Own", "A", "\n[proxy_action.Own]\nstarttls = \"no\"\n");
    assert!(fault.contains("edited.toml:3:12: proxy_action.Own.starttls = \"no\""), "{fault}");
    let together = refused("Own", "A", "[proxy_action.Own]\ninspect = \"none\"\ncleartext = \"inspect\"\n");
    assert!(together.contains("proxy_action.A.cleartext = \"inspect\": needs"), "{together}");
}

#[test]
fn a_directory_that_cannot_be_read_is_a_fault_and_not_an_empty_one() {
    let installed = Installed::new("");
    fs::remove_dir(installed.0.path().join("conf.d")).expect("conf.d");
    fs::write(installed.0.path().join("conf.d"), "a file").expect("a file in its place");
    assert!(matches!(load(&installed.path()), Err(ConfigError::Unreadable { .. })));
}

#[test]
fn predefined_profiles_enforce_tls_for_the_owners_servers_and_strict_ones_for_all() {
    let config = Installed::new("").load();
    for (name, version, ocsp, pfs, compliance) in [
        ("[tls]", "1.2", "disabled", "allowed", "not enforced"),
        ("TLS-Client.Standard", "1.2", "lenient", "allowed", "not enforced"),
        ("TLS-Server.Standard", "1.2", "disabled", "allowed", "enforced"),
        ("TLS-Client.Strict", "1.3", "strict", "required", "enforced"),
        ("TLS-Server.Strict", "1.3", "strict", "required", "enforced"),
    ] {
        let summaries = config.summaries(ObjectKind::TlsProfile, name);
        let [(_, summary)] = summaries.as_slice() else { panic!("{name}: {summaries:?}") };
        let wanted = format!(
            "Minimum protocol version: TLS {version}\nOCSP: {ocsp}\nPFS ciphers: {pfs}\nTLS compliance: {compliance}"
        );
        assert_eq!(*summary, wanted, "{name}");
    }
}

#[test]
fn a_named_profile_that_could_not_negotiate_its_versions_is_told_by_its_name() {
    let installed = Installed::new("");
    let file = installed
        .further("a.toml", "[tls_profile.\"TLS-Client.Office\"]\nciphers = [\"TLS_AES_128_GCM_SHA256\"]\n");
    let told = installed.message();
    let place = format!("{}:2:12: tls_profile.\"TLS-Client.Office\".ciphers = ", file.display());
    assert!(told.starts_with(&place) && told.contains("no suite of TLS 1.2"), "{told}");
}

#[test]
fn header_rules_of_an_action_are_its_own_and_a_clone_has_them_in_their_order() {
    let installed = Installed::new("[[policy]]\nname = \"a\"\nproxy_action = \"Office\"\n");
    installed.further(
        "a.toml",
        "[proxy_action.Office.headers]\nunmatched = \"remove\"\n\
         [[proxy_action.Office.headers.rule]]\nmatch = \"X-*\"\naction = \"remove\"\n\
         [[proxy_action.Office.headers.rule]]\nmatch = \"X-Spam-*\"\naction = \"allow\"\n",
    );
    let rules = |config: &Config, name: &str| config.action(Some(name)).expect("the action").headers.clone();
    let before = rules(&installed.load(), "Office");
    assert_eq!(before.rules.iter().map(|rule| rule.field.as_str()).collect::<Vec<_>>(), ["X-*", "X-Spam-*"]);
    let text = installed.clone("Office", "Home", None).expect("a clone");
    assert!(text.contains("match = \"X-Spam-*\""), "{text}");
    assert_eq!(rules(&installed.load(), "Home"), before);
    assert!(installed.load().unnamed_action.headers.rules.is_empty());
}
