use std::path::PathBuf;

use super::kinds::{list, path, table, text};
use super::names::ServerName;
use super::setting::{flatten, sections, settings};

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
    }
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
