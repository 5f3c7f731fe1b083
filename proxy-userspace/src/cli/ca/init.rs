use std::path::{Path, PathBuf};

use clap::Args;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::files::{self, CERT_MODE, KEY_MODE};
use super::{AuthorityFiles, CERT_FILE, CaError, TRUST_PAGE, beside, fingerprint, next_steps, read};
use crate::handshake::mint::pem;

/// `ub-common-name` of RFC 5280 appendix A.1.
pub(super) const COMMON_NAME_CHARS_MAX: usize = 64;
/// What the authority is called where nobody says otherwise.
const NAME: &str = "Postern Proxy Authority";
/// Clients with clocks that are a little behind accept the authority at once.
pub(super) const CLOCK_SKEW: Duration = Duration::DAY;

/// Arguments of `postern ca init`.
#[derive(Debug, Args)]
pub(super) struct CaInitArgs {
    /// Where authority.pem and authority.key go [default: the directory of --config].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The authority's common name, as clients show it.
    #[arg(long, value_name = "CN", default_value = NAME)]
    name: String,
    /// How long it is valid.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u16).range(1..=36500))]
    days: u16,
}

/// Arguments of `postern ca request`.
#[derive(Debug, Args)]
pub(super) struct CaRequestArgs {
    /// The directory of authority.key [default: where the configuration has the authority].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The common name that is asked for [default: the one of the certificate that is there].
    #[arg(long, value_name = "CN")]
    name: Option<String>,
}

pub(super) fn init(config: &Path, options: &CaInitArgs) -> Result<String, CaError> {
    let files = AuthorityFiles::of(options.out.as_deref().unwrap_or(beside(config)));
    let authority = make(options)?;
    files.create(&authority.certificate.pem(), &Zeroizing::new(authority.key.serialize_pem()))?;
    Ok(instructions(&files, &fingerprint(authority.certificate.der())))
}

/// A request for the key that is there, or for a new one.
pub(super) fn request(config: &Path, options: &CaRequestArgs) -> Result<String, CaError> {
    let files = AuthorityFiles::find(config, options.out.as_deref());
    let name = match &options.name {
        Some(name) => name.clone(),
        None => common_name(&files).unwrap_or_else(|| NAME.to_owned()),
    };
    let params = params(&name)?;
    let key = if files.key.symlink_metadata().is_ok() {
        key_of(&files.key)?
    } else {
        files.directories()?;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        files::create(&files.key, KEY_MODE, Zeroizing::new(key.serialize_pem()).as_bytes())?;
        key
    };
    let request = files.cert.with_extension("csr");
    files::overwrite(&request, CERT_MODE, params.serialize_request(&key)?.pem()?.as_bytes())?;
    let (shown, key) = (request.display(), files.key.display());
    Ok(format!(
        "Request      {shown}\nKey          {key} (keep it secret; it stays here)\n\n\
         Have the request signed as a subordinate authority: CA:TRUE, path length 0 or none, key usage keyCertSign.\n\
         Put what comes back into one PEM file, the new certificate first, those between it and the root next, the root\n\
         last, and take it in:\n\npostern ca import --cert FILE --replace\n\n\
         Clients that trust the root trust the authority then. What it is: {TRUST_PAGE}\n"
    ))
}

/// The common name of the certificate that is there.
fn common_name(files: &AuthorityFiles) -> Option<String> {
    let chain = files.chain().ok()?;
    let cert = read(chain.first()?).ok()?;
    let name = cert.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}

/// A private key of a file that is its owner's alone.
fn key_of(path: &Path) -> Result<KeyPair, CaError> {
    drop(pem::open_key(path)?);
    let unreadable = |source| CaError::Read { path: path.to_owned(), source };
    let text = Zeroizing::new(std::fs::read(path).map_err(unreadable)?);
    let no_key = |_| CaError::Pem(pem::PemError::NoKey { file: path.to_owned() });
    let der = PrivateKeyDer::from_pem_slice(&text).map_err(no_key)?;
    KeyPair::try_from(&der).map_err(|source| CaError::RequestKey { path: path.to_owned(), source })
}

struct NewAuthority {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn make(options: &CaInitArgs) -> Result<NewAuthority, CaError> {
    let mut params = params(&options.name)?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let now = OffsetDateTime::now_utc();
    params.not_before = now.saturating_sub(CLOCK_SKEW);
    params.not_after = now.saturating_add(Duration::days(i64::from(options.days)));
    let certificate = params.self_signed(&key)?;
    Ok(NewAuthority { certificate, key })
}

/// An authority of this name. It signs leaves and nothing that signs further.
fn params(name: &str) -> Result<CertificateParams, CaError> {
    if !(1..=COMMON_NAME_CHARS_MAX).contains(&name.chars().count()) {
        return Err(CaError::Name { name: name.to_owned() });
    }
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn instructions(files: &AuthorityFiles, fingerprint: &str) -> String {
    let (cert, key) = (files.cert.display(), files.key.display());
    format!(
        "Certificate  {cert}\nKey          {key} (keep it secret: who has it can impersonate every server to your clients)\n\
         SHA-256      {fingerprint}\n\n\
         Copy the certificate, never the key, to the clients; compare the fingerprint there. Then, on\n\n\
         Debian, Ubuntu   cp {CERT_FILE} /usr/local/share/ca-certificates/postern.crt && update-ca-certificates\n\
         RHEL, Fedora     cp {CERT_FILE} /etc/pki/ca-trust/source/anchors/postern.pem && update-ca-trust\n\
         Windows          certutil -addstore -f Root {CERT_FILE}    (as administrator)\n\
         \x20                domain: GPO, Computer Configuration > Policies > Windows Settings > Security Settings >\n\
         \x20                Public Key Policies > Trusted Root Certification Authorities > Import\n\
         macOS            sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {CERT_FILE}\n\
         iOS, iPadOS      install it as a profile (MDM, mail or web), then switch it on in\n\
         \x20                Settings > General > About > Certificate Trust Settings\n\
         Android          Settings > Security > Encryption & credentials > Install a certificate > CA certificate;\n\
         \x20                mail apps trust it only if they accept user certificates: use MDM where they do not\n\
         Thunderbird      Settings > Privacy & Security > Certificates > Manage Certificates > Authorities > Import;\n\
         \x20                by policy (policies.json, also Firefox):\n\
         \x20                {{\"policies\": {{\"Certificates\": {{\"Install\": [\"/path/to/{CERT_FILE}\"]}}}}}}\n\n\
         What to check on each, and other programs: {TRUST_PAGE}\n\n{}",
        next_steps(files)
    )
}
