use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

const CERT_FILE: &str = "authority.pem";
const KEY_FILE: &str = "authority.key";
/// `ub-common-name` of RFC 5280 appendix A.1.
const COMMON_NAME_CHARS_MAX: usize = 64;
/// Clients with clocks that are a little behind accept the authority at once.
const CLOCK_SKEW: Duration = Duration::DAY;

/// Arguments of `postern ca init`.
#[derive(Debug, Args)]
pub(super) struct CaInitArgs {
    /// Where authority.pem and authority.key go [default: the directory of --config].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The authority's common name, as clients show it.
    #[arg(long, value_name = "CN", default_value = "Postern Proxy Authority")]
    name: String,
    /// How long it is valid.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u16).range(1..=36500))]
    days: u16,
}

#[derive(Debug, thiserror::Error)]
enum CaError {
    #[error("--name \"{name}\": a common name has 1 to {COMMON_NAME_CHARS_MAX} characters; choose another")]
    Name { name: String },
    #[error("{}: exists; clients trust it already, so it is never overwritten: move it away or use --out DIR", .path.display())]
    Exists { path: PathBuf },
    #[error("{}: cannot write: {source}; run as root or use --out DIR", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot make the certificate: {0}; try again with other values of --name and --days")]
    Make(#[from] rcgen::Error),
}

pub(super) fn init(config: &Path, options: &CaInitArgs) -> ExitCode {
    let beside = config.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = options.out.as_deref().unwrap_or(beside);
    // The printed configuration lines hold wherever the configuration lies.
    let directory = &std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    match make(options).and_then(|authority| authority.write(directory).map(|()| authority)) {
        Ok(authority) => {
            let words =
                instructions(&directory.join(CERT_FILE), &directory.join(KEY_FILE), &authority.fingerprint());
            // The files are written; a reader that went away changes nothing.
            drop(io::stdout().write_all(words.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("postern: {error}");
            ExitCode::FAILURE
        }
    }
}

struct NewAuthority {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn make(options: &CaInitArgs) -> Result<NewAuthority, CaError> {
    if !(1..=COMMON_NAME_CHARS_MAX).contains(&options.name.chars().count()) {
        return Err(CaError::Name { name: options.name.clone() });
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, options.name.as_str());
    // It signs leaves and nothing that signs further.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    params.not_before = now.saturating_sub(CLOCK_SKEW);
    params.not_after = now.saturating_add(Duration::days(i64::from(options.days)));
    let certificate = params.self_signed(&key)?;
    Ok(NewAuthority { certificate, key })
}

impl NewAuthority {
    /// The key first, so that nobody is asked to trust a certificate whose key was lost.
    fn write(&self, directory: &Path) -> Result<(), CaError> {
        let (cert, key) = (directory.join(CERT_FILE), directory.join(KEY_FILE));
        if cert.symlink_metadata().is_ok() {
            return Err(CaError::Exists { path: cert });
        }
        std::fs::create_dir_all(directory)
            .map_err(|source| CaError::Write { path: directory.to_owned(), source })?;
        create(&key, 0o600, &self.key.serialize_pem())?;
        create(&cert, 0o644, &self.certificate.pem()).inspect_err(|_| {
            // Of use to nobody without its certificate; it is ours, made a moment ago.
            drop(std::fs::remove_file(&key));
        })
    }

    fn fingerprint(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.certificate.der());
        let octets: Vec<String> = digest.as_ref().iter().map(|octet| format!("{octet:02X}")).collect();
        octets.join(":")
    }
}

/// A new file, never another's: `O_EXCL` follows no link, and the mode holds from the first moment.
fn create(path: &Path, mode: u32, text: &str) -> Result<(), CaError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => CaError::Exists { path: path.to_owned() },
        _ => CaError::Write { path: path.to_owned(), source },
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    fill(file, mode, text).map_err(|source| {
        drop(std::fs::remove_file(path));
        failed(source)
    })
}

fn fill(mut file: File, mode: u32, text: &str) -> io::Result<()> {
    // The umask may have taken more away than is meant.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn instructions(cert: &Path, key: &Path, fingerprint: &str) -> String {
    let (cert, key) = (cert.display(), key.display());
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
         In the configuration:\n\n\
         [certificates]\nauthority = {{ cert = \"{cert}\", key = \"{key}\" }}\n"
    )
}
