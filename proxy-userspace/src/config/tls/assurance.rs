//! What a profile asks of TLS beside versions, ciphers and groups, and the summary that shows it.

use std::fmt;

use super::super::fault::Reason;
use super::super::setting::words;
use super::{Tls, TlsVersion};

words! {
    /// Whether key exchange has to have forward secrecy.
    pub enum Pfs as "rule about forward secrecy" {
        /// It may have it. Everything that exists here does.
        Allowed => "allowed",
        /// It must have it. The same suites are negotiated as under `"allowed"`.
        Required => "required",
    }
    refuse "none" => Reason::unfit(
        "does not exist here: rustls has no key exchange without forward secrecy (no static RSA)",
        "use \"allowed\" or \"required\"; list servers that speak nothing else in action.bypass",
    );
}

words! {
    /// Whether an answer about revocation is looked for (OCSP, RFC 6960). Answers are what servers send with their
    /// certificates ("stapled"), the lists in `tls.crls`, and, where neither says anything, what the authority says when
    /// the helper asks it at the URL in the certificate.
    pub enum Ocsp as "treatment of OCSP" {
        /// Stapled answers are not looked at, and nobody is asked. Lists in `tls.crls` count, where there are any.
        Disabled => "disabled",
        /// An answer that says "revoked" is the fault `revoked`; no answer is none, unless the certificate itself demands
        /// a stapled one ("must-staple", RFC 7633).
        Lenient => "lenient",
        /// In addition, a certificate that no answer calls good has the fault `ocsp_missing`. Some authorities answer nobody.
        Strict => "strict",
    }
}

words! {
    /// What follows when a peer deviates from the RFCs in a way that does no harm by itself.
    pub enum Compliance as "rule about deviations from TLS" {
        /// The listed deviations (docs/tls.md) are noted in the record, and the session goes on.
        Tolerant => "tolerant",
        /// The peer is told by an alert, and the session ends.
        Enforced => "enforced",
    }
}

words! {
    /// What follows when a server asks for a client certificate.
    pub enum ClientCertificate as "answer to a request for a client certificate" {
        /// It is answered with none, and the server decides.
        None => "none",
        /// The connection is refused: the client's handshake is finished, and `* BYE` tells the reason. Sessions of TLS 1.2
        /// are not resumed, because servers do not ask in those.
        Block => "block",
    }
    refuse "inspect" | "allow" => Reason::unfit(
        "not possible: no gateway has the client's key",
        "use \"none\" or \"block\"; list servers that need the client's own certificate in action.bypass",
    );
}

/// What of a profile is shown where one is chosen: four lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentInspectionSummary {
    min_version: TlsVersion,
    ocsp: Ocsp,
    pfs: Pfs,
    compliance: Compliance,
}

impl ContentInspectionSummary {
    /// Of this profile.
    #[must_use]
    pub const fn of(tls: &Tls) -> Self {
        Self { min_version: tls.min_version, ocsp: tls.ocsp, pfs: tls.pfs, compliance: tls.compliance }
    }
}

impl fmt::Display for ContentInspectionSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compliance = match self.compliance {
            Compliance::Tolerant => "not enforced",
            Compliance::Enforced => "enforced",
        };
        writeln!(f, "Minimum protocol version: TLS {}", self.min_version.as_str())?;
        writeln!(f, "OCSP: {}", self.ocsp.as_str())?;
        writeln!(f, "PFS ciphers: {}", self.pfs.as_str())?;
        write!(f, "TLS compliance: {compliance}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_four_lines_of_a_profile() {
        let shown = |tls: &Tls| ContentInspectionSummary::of(tls).to_string();
        let standard = Tls::default();
        assert_eq!(
            shown(&standard),
            "Minimum protocol version: TLS 1.2\nOCSP: disabled\nPFS ciphers: allowed\nTLS compliance: not enforced"
        );
        let strict = Tls {
            min_version: TlsVersion::Tls13,
            pfs: Pfs::Required,
            compliance: Compliance::Enforced,
            ..standard
        };
        assert_eq!(
            shown(&strict),
            "Minimum protocol version: TLS 1.3\nOCSP: disabled\nPFS ciphers: required\nTLS compliance: enforced"
        );
    }
}
