//! Authorities and certificates, good and faulty.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use time::{Duration, OffsetDateTime};

use crate::lab::{Family, NAME4, NAME6};

/// A certificate authority of the lab.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// PEM, leaf first.
    pub cert_pem: String,
    /// PKCS#8 PEM.
    pub key_pem: String,
}

/// What a certificate says, to be bent before it is issued.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// DNS names.
    pub names: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// Days from now to `notBefore`.
    pub from_days: i64,
    /// Days from now to `notAfter`.
    pub to_days: i64,
    /// Where its authority is asked about it (OCSP).
    pub responder: Option<String>,
}

impl Wanted {
    /// Good for the lab's server, by name and address, in both families.
    #[must_use]
    pub fn server() -> Self {
        Self {
            names: vec![NAME4.to_owned(), NAME6.to_owned()],
            addresses: Family::ALL.iter().flat_map(|f| [f.server(), f.other_server()]).collect(),
            from_days: -1,
            to_days: 30,
            responder: None,
        }
    }

    /// Good for one DNS name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { names: vec![name.to_owned()], addresses: Vec::new(), ..Self::server() }
    }
}

impl Authority {
    /// A new root with this common name.
    ///
    /// # Errors
    /// When a key cannot be made.
    pub fn new(common_name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = common(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = OffsetDateTime::now_utc() - Duration::days(400);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(400);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// The root's certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The root's private key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issue a server certificate, which clients may show, too.
    ///
    /// # Errors
    /// When a name is no name.
    pub fn issue(&self, wanted: &Wanted) -> Result<Identity> {
        self.issue_for(wanted, &KeyPair::generate()?)
    }

    /// The same for an RSA key, of 2048 bits.
    ///
    /// # Errors
    /// When a name is no name.
    pub fn issue_rsa(&self, wanted: &Wanted) -> Result<Identity> {
        self.issue_for(wanted, &KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?)
    }

    fn issue_for(&self, wanted: &Wanted, key: &KeyPair) -> Result<Identity> {
        let mut params = CertificateParams::new(wanted.names.clone())?;
        params.subject_alt_names.extend(wanted.addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name = common(wanted.names.first().map_or("nameless", String::as_str));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = OffsetDateTime::now_utc() + Duration::days(wanted.from_days);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(wanted.to_days);
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions.extend(wanted.responder.as_deref().map(access));
        let cert = params.signed_by(key, &self.issuer)?;
        Ok(Identity { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

/// `AuthorityInfoAccessSyntax` (RFC 5280 section 4.2.2.1) with one responder; the URL has less than 100 octets.
fn access(url: &str) -> CustomExtension {
    let sized = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
    let entry = [sized(6, &[0x2b, 6, 1, 5, 5, 7, 48, 1]), sized(0x86, url.as_bytes())].concat();
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], sized(0x30, &sized(0x30, &entry)))
}

fn common(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

impl Identity {
    /// The chain in DER.
    ///
    /// # Errors
    /// Never, for what [`Authority::issue`] made.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        certificates(&self.cert_pem)
    }

    /// The key in DER.
    ///
    /// # Errors
    /// Never, for what [`Authority::issue`] made.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?)
    }

    /// The leaf's SHA-256 as records write it.
    ///
    /// # Errors
    /// Never, for what [`Authority::issue`] made.
    pub fn fingerprint(&self) -> Result<String> {
        Ok(fingerprint(self.chain()?.first().context("no certificate")?))
    }

    /// A rustls server that shows this certificate.
    ///
    /// # Errors
    /// When rustls refuses key or versions.
    pub fn server_config(&self, versions: &[&'static SupportedProtocolVersion]) -> Result<ServerConfig> {
        Ok(ServerConfig::builder_with_protocol_versions(versions)
            .with_no_client_auth()
            .with_single_cert(self.chain()?, self.key()?)?)
    }

    /// Write `NAME.pem` and `NAME.key` into a directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, dir: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        fs::write(&cert, &self.cert_pem)?;
        fs::write(&key, &self.key_pem)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        Ok((cert, key))
    }
}

/// The certificates of a PEM text.
///
/// # Errors
/// When one cannot be read.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>()?)
}

/// A store that trusts the certificates of this PEM text and nothing else.
///
/// # Errors
/// When one cannot be read.
pub fn trust(pem: &str) -> Result<Arc<RootCertStore>> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate)?;
    }
    Ok(Arc::new(store))
}

/// SHA-256 of a certificate, upper-case hexadecimal, as the Elastic Common Schema writes it.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    sha256(certificate).to_uppercase()
}

/// SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn sha256(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    digest::digest(&digest::SHA256, octets).as_ref().iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
