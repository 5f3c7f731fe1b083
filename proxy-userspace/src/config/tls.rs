/// `tls.ciphers`.
mod ciphers;
/// `tls.groups`.
mod groups;
/// Forward secrecy, revocation, deviations from TLS, client certificates; the summary of a profile.
mod assurance;
/// What versions, ciphers and groups demand of each other.
mod versions;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::describe::ValueForm;
use super::fault::Reason;
use super::kinds::{Kind, list, path, quoted, text};
use super::report::Written;
use super::setting::{StandIn as _, section, settings, words};
pub use assurance::{ClientCertificate, Compliance, ContentInspectionSummary, Ocsp, Pfs};
use ciphers::CipherText;
pub use ciphers::TlsCipher;
use groups::GroupText;
pub use groups::TlsGroup;
pub(super) use versions::judge;

/// Files in `tls.crls`. An authority has one, or one for each kind of certificate.
const CRL_FILES_MAX: usize = 64;

settings! {
    /// `[tls]` and `[tls_profile."NAME"]`.
    pub struct Tls {
        /// What a server's certificate is verified against: `"system"`, the system's roots, and PEM files.
        roots: Vec<TrustedRoot> = list(
            root(),
            None,
            Some("without roots no server can be verified: list \"system\" or PEM files"),
        ).default(vec![TrustedRoot::System]).such_as(r#"["system", "company-ca.pem"]"#);
        /// The oldest TLS version on both sides. Older ones than these do not exist here.
        min_version: TlsVersion = text::<TlsVersion>().default(TlsVersion::Tls12);
        /// The cipher suites of both sides. Servers are offered them in this order; towards clients the client's own order
        /// decides. All have forward secrecy. Without a suite of TLS 1.3, TLS 1.2 alone is spoken.
        ciphers: Vec<TlsCipher> = list(
            text::<CipherText>(),
            None,
            Some("without cipher suites there is no TLS: list some, or remove the line for all"),
        ).default(TlsCipher::ALL.to_vec());
        /// The groups in which both sides exchange keys. Servers are offered them in this order; towards clients the
        /// client's own order decides. Without `"secp256r1"` servers of TLS 1.2 whose certificate has a key on P-256 may
        /// refuse (RFC 8422 section 5.1).
        groups: Vec<TlsGroup> = list(
            text::<GroupText>(),
            None,
            Some("without groups no keys can be exchanged: list some, or remove the line for the usual ones"),
        ).default(TlsGroup::COMMON.to_vec());
        /// Whether key exchange has to have forward secrecy. Each that exists here has it, so that both words negotiate the
        /// same. A resumed session of TLS 1.3 exchanges keys anew; one of TLS 1.2 has the secrecy of the session that it
        /// resumes.
        pfs: Pfs = text::<Pfs>().default(Pfs::Allowed);
        /// Whether a server's certificate may have been revoked by its authority. The authority is asked where the server
        /// brings no answer along, for two seconds at most; `[helper]` says whom it may be.
        ocsp: Ocsp = text::<Ocsp>().default(Ocsp::Disabled);
        /// Lists of revoked certificates (CRLs, RFC 5280 section 5), each a file in PEM or DER. They are read with the
        /// configuration, and each hour again where a file has changed. They count under every `ocsp`.
        crls: Vec<PathBuf> = list(path("name a file"), Some(CRL_FILES_MAX), None)
            .default(Vec::new())
            .such_as(r#"["company-ca.crl"]"#);
        /// Whether only TLS passes that keeps to the RFCs. What is not TLS never passes. Deviations that can be tolerated
        /// are listed in docs/tls.md; the record of a session names those of its peers.
        compliance: Compliance = text::<Compliance>().default(Compliance::Tolerant);
        /// What follows when a server asks for a client certificate. The client's key never leaves the client, so that Postern
        /// has none to show.
        client_certificate: ClientCertificate = text::<ClientCertificate>().default(ClientCertificate::None);
        /// Who opens and seals TLS records after the handshake, this process or the kernel (`modprobe tls`). A side is
        /// given whole or not at all. `postern check` says what the kernel can do.
        offload: Offload = text::<Offload>().default(Offload::default());
        /// What follows a fault of the server's certificate, or of its validation.
        faults as "fault": FaultPolicy = section();
    }
}

/// The profile of a file that says nothing of TLS.
impl Default for Tls {
    fn default() -> Self {
        Self::stand_in()
    }
}

impl Tls {
    /// The same with what `.Strict` profiles have: TLS 1.3 alone, peers that keep to it, a certificate that is
    /// known to be good, and a client that names its server.
    pub(super) fn strict(mut self) -> Self {
        self.min_version = TlsVersion::Tls13;
        self.pfs = Pfs::Required;
        self.ocsp = Ocsp::Strict;
        self.compliance = Compliance::Enforced;
        self.faults.no_name = Verdict::Block;
        self
    }

    /// The four lines that are shown where a profile is chosen.
    #[must_use]
    pub const fn summary(&self) -> ContentInspectionSummary {
        ContentInspectionSummary::of(self)
    }

    /// Whether the system's root certificates are trusted.
    #[must_use]
    pub fn trusts_system(&self) -> bool {
        self.roots.contains(&TrustedRoot::System)
    }

    /// PEM files with further roots.
    pub fn root_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.roots.iter().filter_map(|root| match root {
            TrustedRoot::System => None,
            TrustedRoot::File(path) => Some(path),
        })
    }
}

settings! {
    /// `[tls.fault]`: one verdict per fault.
    #[derive(Copy, Hash)]
    pub struct FaultPolicy {
        /// The certificate is used after its `notAfter`.
        expired: Verdict = text::<Verdict>().default(Verdict::Block);
        /// The certificate is used before its `notBefore`.
        not_yet_valid: Verdict = text::<Verdict>().default(Verdict::Block);
        /// No path leads to a trusted root, or the path breaks a rule of RFC 5280.
        untrusted: Verdict = text::<Verdict>().default(Verdict::Block);
        /// The name that the client sent (SNI) is not among the certificate's.
        wrong_name: Verdict = text::<Verdict>().default(Verdict::Block);
        /// The client sent no name: the chain is verified, and the client itself checks the names.
        no_name: Verdict = text::<Verdict>().default(Verdict::Allow);
        /// The certificate was not validated in time: no thread was free within five seconds, or too many waited. Clients
        /// can cause it by their number.
        late: Verdict = text::<Verdict>().default(Verdict::Block);
        /// The validation itself failed, and nothing was found out.
        unverified: Verdict = text::<Verdict>().default(Verdict::Block);
        /// Its authority, or that of an issuer, has revoked it: an OCSP response or a list of `tls.crls` says so.
        revoked: Verdict = text::<Verdict>().default(Verdict::Block);
        /// Nothing says that it is good, and `ocsp = "strict"` or the certificate itself (must-staple) demands that.
        ocsp_missing: Verdict = text::<Verdict>().default(Verdict::Block);
    }
}

/// The verdicts of a file that has none.
impl Default for FaultPolicy {
    fn default() -> Self {
        Self::stand_in()
    }
}

/// Whose word counts about a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrustedRoot {
    /// The system's root certificates.
    System,
    /// Those of a PEM file, absolute or resolved against the config file.
    File(PathBuf),
}

const SYSTEM: &str = "system";

fn root() -> Kind<TrustedRoot> {
    let Kind { read, toml, .. } = path("name a file");
    let read = move |written: &mut Written<'_, '_>| match written.value.get_ref().as_str() {
        Some(SYSTEM) => Some(TrustedRoot::System),
        _ => read(written).map(TrustedRoot::File),
    };
    let toml = move |root: &TrustedRoot| match root {
        TrustedRoot::System => quoted(SYSTEM),
        TrustedRoot::File(file) => toml(file),
    };
    let form = ValueForm::Text { what: "`\"system\"` or the path of a PEM file", words: &[] };
    Kind { read: Box::new(read), toml: Box::new(toml), form }
}

words! {
    /// Whether records are the kernel's work (kernel TLS).
    #[derive(Default)]
    pub enum Offload as "offload" {
        /// Measured at each start, for each cipher (half a second each, where the kernel can change keys: Linux 6.14).
        /// The kernel works where it takes at least a tenth less CPU time. `check` and `status` show the figures.
        Auto => "auto" default,
        /// The kernel; a connection that it cannot take is refused with `* BYE` and the reason.
        Always => "always",
        /// This process.
        Never => "never",
    }
}

words! {
    /// Versions that exist here; older ones are a config error.
    #[derive(PartialOrd, Ord)]
    pub enum TlsVersion as "TLS version" {
        /// RFC 5246 and newer.
        Tls12 => "1.2",
        /// RFC 8446 only.
        Tls13 => "1.3",
    }
    refuse "1.0" | "1.1" | "SSLv2" | "SSLv3" => Reason::unfit(
        "does not exist here: SSLv3, TLS 1.0 and TLS 1.1 are broken (RFC 7568, RFC 8996)",
        "use \"1.2\" or \"1.3\"",
    );
}

words! {
    /// What happens when a server's certificate has a fault; ordered from lenient to strict.
    #[derive(PartialOrd, Ord)]
    pub enum Verdict as "verdict" {
        /// The client's handshake is finished, and `* BYE` tells the reason.
        Block = 2 => "block",
        /// The client sees a certificate that it does not trust, so that its own warning appears.
        Mirror = 1 => "mirror",
        /// The connection goes on as if the certificate were good.
        Allow = 0 => "allow",
    }
}
