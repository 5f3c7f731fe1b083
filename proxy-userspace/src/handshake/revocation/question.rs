//! What an authority is asked about a certificate (RFC 6960 section 4.1).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use x509_parser::prelude::{GeneralName, ParsedExtension, X509Certificate};

use super::ocsp::{SHA1, key_bits};
use crate::handshake::mint::der::{element, sequence, tag};

/// id-ad-ocsp (RFC 5280 section 4.2.2.1).
const ID_AD_OCSP: &str = "1.3.6.1.5.5.7.48.1";
/// NULL, which responders expect as the digest's parameters.
const NULL: &[u8] = &[5, 0];

/// What is asked, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OcspQuestion {
    /// As it stands in the certificate: nobody has looked at it.
    pub(crate) url: String,
    /// `OCSPRequest`, in DER.
    pub(crate) request: Vec<u8>,
}

impl OcspQuestion {
    /// About this certificate of an issuer with this key; `None` where it names nobody to ask. SHA-1 names the issuer,
    /// because responders have their answers prepared under it (RFC 5019 section 2.1.1).
    pub(super) fn about(
        cert: &X509Certificate<'_>,
        issuer_key: &SubjectPublicKeyInfoDer<'_>,
    ) -> Option<Self> {
        let url = responder(cert)?.to_owned();
        let hashed =
            |octets| element(tag::OCTET_STRING, &[digest(&SHA1_FOR_LEGACY_USE_ONLY, octets).as_ref()]);
        let algorithm = sequence(&[&element(tag::OBJECT_IDENTIFIER, &[SHA1]), NULL]);
        let name = hashed(cert.issuer().as_raw());
        let key = hashed(key_bits(issuer_key.as_ref())?);
        let serial = element(tag::INTEGER, &[cert.raw_serial()]);
        let certificate_id = sequence(&[&algorithm, &name, &key, &serial]);
        // Request, requestList, TBSRequest, OCSPRequest: no version but the first, no nonce, no signature.
        let request = (0..4).fold(certificate_id, |inner, _| sequence(&[&inner]));
        Some(Self { url, request })
    }
}

/// The first URL of a responder, of HTTP where there is one.
fn responder<'a>(cert: &'a X509Certificate<'_>) -> Option<&'a str> {
    let access = cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => Some(access),
        _ => None,
    })?;
    let urls = || {
        let ocsp = access.accessdescs.iter().filter(|entry| entry.access_method.to_id_string() == ID_AD_OCSP);
        ocsp.filter_map(|entry| match entry.access_location {
            GeneralName::URI(url) => Some(url),
            _ => None,
        })
    };
    let is_http = |url: &&str| url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:"));
    urls().find(is_http).or_else(|| urls().next())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair, KeyUsagePurpose,
        SerialNumber,
    };
    use x509_parser::prelude::FromDer as _;

    use super::*;

    /// `AuthorityInfoAccessSyntax` with these methods, by their last number, and URLs.
    fn access(entries: &[(u8, &str)]) -> CustomExtension {
        let entries: Vec<_> = entries
            .iter()
            .map(|(method, url)| {
                let method = element(tag::OBJECT_IDENTIFIER, &[&[0x2b, 6, 1, 5, 5, 7, 48, *method]]);
                sequence(&[&method, &element(0x86, &[url.as_bytes()])])
            })
            .collect();
        let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], sequence(&entries))
    }

    struct Issued {
        issuer: rcgen::Certificate,
        leaf: rcgen::Certificate,
    }

    fn issue(entries: &[(u8, &str)], serial: &[u8]) -> Issued {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let issuer = params.self_signed(&key).unwrap();
        let issuing = Issuer::new(params, key);
        let mut params = CertificateParams::new(vec!["imap.example.org".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params.custom_extensions = vec![access(entries)];
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuing).unwrap();
        Issued { issuer, leaf }
    }

    fn question(issued: &Issued) -> Option<OcspQuestion> {
        let (_, issuer) = X509Certificate::from_der(issued.issuer.der()).unwrap();
        let (_, leaf) = X509Certificate::from_der(issued.leaf.der()).unwrap();
        OcspQuestion::about(&leaf, &SubjectPublicKeyInfoDer::from(issuer.public_key().raw))
    }

    #[test]
    fn the_request_is_the_one_that_openssl_makes() {
        for serial in [&[1_u8] as &[u8], &[0x7f; 20], &[0x80, 2, 3]] {
            let issued = issue(&[(1, "http://ocsp.example.org/")], serial);
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("ca.pem"), issued.issuer.pem()).unwrap();
            std::fs::write(dir.path().join("leaf.pem"), issued.leaf.pem()).unwrap();
            let asked = Command::new("openssl")
                .args(["ocsp", "-issuer", "ca.pem", "-cert", "leaf.pem", "-no_nonce", "-reqout", "asked"])
                .current_dir(dir.path())
                .output()
                .unwrap();
            assert!(asked.status.success(), "{asked:?}");
            let expected = std::fs::read(dir.path().join("asked")).unwrap();
            assert_eq!(question(&issued).unwrap().request, expected);
        }
    }

    #[test]
    fn the_first_responder_of_http_is_asked_and_nobody_else() {
        let url = |entries: &[(u8, &str)]| question(&issue(entries, &[1])).map(|question| question.url);
        let issuers = (2, "http://example.org/ca.der");
        assert_eq!(url(&[issuers]), None);
        assert_eq!(url(&[issuers, (1, "http://a/"), (1, "http://b/")]).as_deref(), Some("http://a/"));
        assert_eq!(url(&[(1, "ldap://a/"), (1, "HTTP://b/")]).as_deref(), Some("HTTP://b/"));
        assert_eq!(
            url(&[(1, "https://a/")]).as_deref(),
            Some("https://a/"),
            "the record tells that it is refused"
        );
    }
}
