use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::kinds::{list, path, table, text};
use super::names::{Fingerprint, ServerName};
use super::setting::{flatten, sections, settings};
use super::steering::networks;
use super::{Action, Config, ShownCertificates};

/// All are looked through for each connection.
const PINS_MAX: usize = 1000;
/// A server has a certificate, and the next one.
const FINGERPRINTS_MAX: usize = 64;
/// Each is parsed at start and on reload.
const SERVER_CERTIFICATES_MAX: usize = 4096;

settings! {
    /// `[certificates]`.
    pub struct Certificates {
        /// The re-signing authority ("Proxy Authority"), made by `postern ca init`. Clients have to trust it. Files
        /// with private keys must belong to root or to the user of the daemon, who alone may read them (chmod 600).
        authority: KeyFiles = table::<KeyFiles>().required(
            "make one with `postern ca init` and write \
             authority = { cert = \"authority.pem\", key = \"authority.key\" }",
            r#"{ cert = "authority.pem", key = "authority.key" }"#,
        );
        /// Certificates of your own servers, shown as they are (inbound protection, "Proxy Server certificate"). A name
        /// may have two, in an entry each, one with an ECDSA and one with an RSA key: the client is shown the one that
        /// it can verify.
        server: Vec<ServerCertificate> = sections(SERVER_CERTIFICATES_MAX);
        /// The default Proxy Server certificate: what clients are shown under `certificates = "server"` of a proxy action
        /// where no entry of `server` has their name. Name one here for more than a test: the one that Postern makes
        /// is signed by itself, and is exchanged for another with a new key 30 days before its end, so that clients which
        /// were made to trust it have to be given the new one each year.
        default: Option<KeyFiles> = table::<KeyFiles>().unset(
            "one that Postern makes at its first start, and makes anew before it ends: default-server.pem in \
             `state.directory`",
            r#"{ cert = "gateway.pem", key = "gateway.key" }"#,
        );
        /// Servers of your own whose certificates no root knows. A server for which a pin is has to show one of the pin's
        /// certificates: then it is trusted although no root leads to it, and otherwise it has the fault `untrusted`
        /// although one does. Validity and names are judged as those of all others. Revocation is not looked at for a
        /// pinned certificate: remove the pin.
        pins as "pin": Vec<ServerPin> = sections(PINS_MAX);
    }
}

/// The default Proxy Server certificate's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultCertificate {
    /// Where they are.
    pub files: KeyFiles,
    /// Postern makes them itself.
    pub is_own: bool,
}

impl Config {
    /// The default Proxy Server certificate: what `certificates.default` names, or the one that Postern makes where a proxy
    /// action in use needs one.
    #[must_use]
    pub fn default_certificate(&self) -> Option<DefaultCertificate> {
        let needs = |(_, action): (&str, &Action)| action.certificates == ShownCertificates::Server;
        match &self.certificates.default {
            Some(files) => Some(DefaultCertificate { files: files.clone(), is_own: false }),
            None => self
                .actions_in_use()
                .any(needs)
                .then(|| DefaultCertificate { files: own_default(&self.state.directory), is_own: true }),
        }
    }
}

/// The files of the default certificate that Postern makes, in its state directory.
#[must_use]
pub fn own_default(directory: &Path) -> KeyFiles {
    let file = |end| directory.join("default-server").with_extension(end);
    KeyFiles { cert: file("pem"), key: file("key") }
}

settings! {
    /// A certificate chain and its key, both PEM.
    pub struct KeyFiles {
        /// PEM file of the certificate chain, leaf first.
        cert: PathBuf = path("name a file")
            .required("name the PEM file of the certificate chain", r#""imap.pem""#);
        /// PEM file of the private key (PKCS#8, PKCS#1 or SEC1).
        key: PathBuf = path("name a file").required("name the PEM file of the private key", r#""imap.key""#);
    }
}

settings! {
    /// One entry of `certificates.pin`. `servers`, `names` or both say which servers it is for.
    pub struct ServerPin {
        /// Addresses and networks of servers.
        servers: Vec<IpNet> = networks(None).default(Vec::new()).such_as(r#"["192.0.2.7", "2001:db8:25::/64"]"#);
        /// Names that clients send as SNI, exact or with `*.` for the first label.
        names: Vec<String> = list(text::<ServerName>(), None, None).default(Vec::new())
            .such_as(r#"["imap.example.org"]"#);
        /// SHA-256 of each certificate that those servers may show, as
        /// `openssl x509 -noout -fingerprint -sha256 -in FILE` prints it, and `openssl s_client -connect SERVER:993
        /// </dev/null | openssl x509 -noout -fingerprint -sha256` of a server that runs. Before a server changes its
        /// certificate, list the new one beside the old.
        sha256: Vec<Fingerprint> =
            list(text::<Fingerprint>(), Some(FINGERPRINTS_MAX), Some("list at least one fingerprint")).required(
                "list fingerprints as `openssl x509 -noout -fingerprint -sha256 -in FILE` prints them",
                r#"["ED1AD1AE58B9A2D4E0D5B2C3F4A5968778695A4B3C2D1E0F00112233445566AA"]"#,
            );
    }
}

settings! {
    /// One entry of `certificates.server`.
    pub struct ServerCertificate {
        /// Names that clients send as SNI, exact or with `*.` for the first label. Another entry may have a name with a
        /// key of the other kind.
        names: Vec<String> = list(text::<ServerName>(), None, Some("list at least one name")).required(
            "list the names that clients send as SNI, such as [\"imap.example.org\"]",
            r#"["imap.example.org", "*.mail.example.org"]"#,
        );
        /// What is shown for them.
        files: KeyFiles = flatten();
    }
}
