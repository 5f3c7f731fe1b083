//! `postern ca`: the re-signing authority, its certificate and its key.

/// `init` and `request`: new keys.
mod init;
/// `show` and `export`.
mod show;
/// `renew`: a new certificate for the same key.
mod renew;
/// `import`: an authority that was made elsewhere.
mod import;
/// How its files are written.
mod files;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config;
use crate::handshake::mint::chain::ChainError;
use crate::handshake::mint::{CertificateError, pem};

const CERT_FILE: &str = "authority.pem";
const KEY_FILE: &str = "authority.key";
/// The page that tells how clients come to trust the authority.
const TRUST_PAGE: &str = "docs/trust.md";

/// Arguments of `postern ca`.
#[derive(Debug, Args)]
pub(super) struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Make the authority and tell how clients learn to trust it.
    Init(init::CaInitArgs),
    /// Show the authority: subject, issuer, validity, key, fingerprint, files.
    Show(show::CaShowArgs),
    /// Write the certificate that clients shall trust; never a key.
    Export(show::CaExportArgs),
    /// Give the authority a new certificate with the same key and subject.
    Renew(renew::CaRenewArgs),
    /// Ask another authority, such as a company's root, to make this one an intermediate below it.
    Request(init::CaRequestArgs),
    /// Take an authority in that was made or signed elsewhere.
    Import(import::CaImportArgs),
}

#[derive(Debug, thiserror::Error)]
enum CaError {
    #[error(
        "--name \"{name}\": a common name has 1 to {} characters; choose another",
        init::COMMON_NAME_CHARS_MAX
    )]
    Name { name: String },
    #[error("{}: exists; clients trust it already, so it is never overwritten: move it away or use --out DIR", .path.display())]
    Exists { path: PathBuf },
    #[error("{}: exists and is not overwritten; move it away or name another file", .path.display())]
    InTheWay { path: PathBuf },
    #[error("{}: exists; with --replace the files that are there are kept beside the new ones", .path.display())]
    NotReplaced { path: PathBuf },
    #[error("{}: cannot be read: {source}; correct the path, or run as root", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: cannot write: {source}; run as root or use --out", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "{error}; and {}: is the new key already and cannot be put back: {source}; {}", .path.display(),
        .kept.as_ref().map_or_else(|| "remove it".to_owned(), |kept| format!("move {} into its place", kept.display()))
    )]
    Halved { path: PathBuf, kept: Option<PathBuf>, source: io::Error, error: Box<CaError> },
    #[error("cannot make the certificate: {0}; try again with other values of --name and --days")]
    Make(#[from] rcgen::Error),
    #[error("{}: holds no key that a request can be made for: {source}; name another directory with --out", .path.display())]
    RequestKey { path: PathBuf, source: rcgen::Error },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Pem(#[from] pem::PemError),
    #[error("{}: {fault}", .path.display())]
    Chain { path: PathBuf, fault: ChainError },
    #[error(
        "{}: does not hold the root of \"{subject}\", which clients have to trust: \"{issuer}\"; get that certificate from \
         those who run the root, or append it to the file", .path.display()
    )]
    NoRoot { path: PathBuf, subject: String, issuer: String },
    #[error("{}: is longer than {max} octets; name a file that holds an authority alone", .path.display())]
    TooLong { path: PathBuf, max: u64 },
    #[error("{}: is no PKCS#12 file that can be read ({fault}); compare the passphrase, or convert the file with `openssl pkcs12 -in FILE -nodes` and give the parts with --cert and --key", .path.display())]
    Pkcs12 { path: PathBuf, fault: p12_keystore::error::Error },
    #[error("{}: holds {count} private keys; name a file that holds the authority's alone", .path.display())]
    Keys { path: PathBuf, count: usize },
    #[error(
        "the passphrase would be seen on this terminal; put it into a file of mode 600 and name that with \
         --passphrase-file, or pipe it in, such as `systemd-ask-password | postern ca import --pkcs12 FILE`"
    )]
    Terminal,
}

pub(super) fn run(config: &Path, CaArgs { command }: &CaArgs) -> ExitCode {
    let said = match command {
        CaCommand::Init(options) => init::init(config, options).map(String::into_bytes),
        CaCommand::Show(options) => show::show(config, options).map(String::into_bytes),
        CaCommand::Export(options) => show::export(config, options),
        CaCommand::Renew(options) => renew::renew(config, options).map(String::into_bytes),
        CaCommand::Request(options) => init::request(config, options).map(String::into_bytes),
        CaCommand::Import(options) => import::import(config, options).map(String::into_bytes),
    };
    match said {
        Ok(said) => {
            // The files are written; a reader that went away changes nothing.
            drop(io::stdout().write_all(&said));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("postern: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A file in the place of the one that is there, whole at every moment.
pub(super) fn replace_file(
    path: &Path,
    mode: u32,
    octets: &[u8],
) -> Result<(), impl std::error::Error + Send + Sync + 'static> {
    files::overwrite(path, mode, octets)
}

/// Where the authority is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AuthorityFiles {
    cert: PathBuf,
    key: PathBuf,
}

impl AuthorityFiles {
    fn of(directory: &Path) -> Self {
        // What is printed of them holds wherever the configuration lies.
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Self { cert: directory.join(CERT_FILE), key: directory.join(KEY_FILE) }
    }

    /// Those of this directory; without one those that the configuration names, or beside it where it cannot be read.
    fn find(config: &Path, directory: Option<&Path>) -> Self {
        if let Some(directory) = directory {
            return Self::of(directory);
        }
        match config::load(config) {
            Ok(config) => {
                let config::KeyFiles { cert, key } = config.certificates.authority;
                Self { cert, key }
            }
            Err(_) => Self::of(beside(config)),
        }
    }

    /// Its chain, itself first.
    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CaError> {
        Ok(pem::certificates(&self.cert)?)
    }

    fn faulty(&self, fault: ChainError) -> CaError {
        CaError::Chain { path: self.cert.clone(), fault }
    }
}

/// The directory of the configuration.
fn beside(config: &Path) -> &Path {
    config.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A certificate that was read.
fn read(der: &[u8]) -> Result<X509Certificate<'_>, ChainError> {
    X509Certificate::from_der(der).map(|(_, cert)| cert).map_err(|_| ChainError::Unreadable)
}

/// SHA-256 of a certificate as openssl and the dialogs of clients show it.
fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    let octets: Vec<String> = digest.as_ref().iter().map(|octet| format!("{octet:02X}")).collect();
    octets.join(":")
}

/// A certificate as a section of a PEM file.
fn pem_of(der: &[u8]) -> String {
    section("CERTIFICATE", der)
}

/// A section of a PEM file.
fn section(label: &str, der: &[u8]) -> String {
    let config = ::pem::EncodeConfig::new().set_line_ending(::pem::LineEnding::LF);
    ::pem::encode_config(&::pem::Pem::new(label, der), config)
}

/// What the operator does next.
fn next_steps(files: &AuthorityFiles) -> String {
    let (cert, key) = (files.cert.display(), files.key.display());
    format!(
        "In the configuration:\n\n[certificates]\nauthority = {{ cert = \"{cert}\", key = \"{key}\" }}\n\n\
         A daemon that runs takes it with `postern reload` (or HUP); sessions go on.\n"
    )
}
