use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use p12_keystore::Pkcs12Archive;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::files::{self, CERT_MODE, KEY_MODE};
use super::{AuthorityFiles, CaError, TRUST_PAGE, fingerprint, next_steps, pem_of, read, section};
use crate::config::KeyFiles;
use crate::handshake::mint::authority::check_authority;
use crate::handshake::mint::chain::{ChainError, is_root, of_key, try_out};
use crate::handshake::mint::{CertificateError, pem};
use crate::signer::KeyFault;

/// A PKCS#12 file with a long chain has some 20 KiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longer than anybody types.
const PASSPHRASE_BYTES_MAX: u64 = 1024;

/// Arguments of `postern ca import`.
#[derive(Debug, Args)]
#[group(id = "source", required = true, multiple = true, args = ["cert", "pkcs12"])]
pub(super) struct CaImportArgs {
    /// PEM file of the authority's certificate and of those above it.
    #[arg(long, value_name = "FILE", conflicts_with = "pkcs12")]
    cert: Option<PathBuf>,
    /// PEM file of its private key [default: the one that is there, such as `postern ca request` made].
    #[arg(long, value_name = "FILE", conflicts_with = "pkcs12")]
    key: Option<PathBuf>,
    /// PKCS#12 file (.p12, .pfx) with the certificates and the private key.
    #[arg(long, value_name = "FILE")]
    pkcs12: Option<PathBuf>,
    /// File whose first line is the passphrase of the PKCS#12 file; `-`, and no file, is the standard input.
    #[arg(long, value_name = "FILE", requires = "pkcs12")]
    passphrase_file: Option<PathBuf>,
    /// Put it in the place of the authority that is there, whose files are kept beside it.
    #[arg(long)]
    replace: bool,
    /// The directory of authority.pem and authority.key [default: where the configuration has them].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What was read.
struct Imported {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The files, for words.
    from: KeyFiles,
}

impl Drop for Imported {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
    }
}

pub(super) fn import(config: &Path, options: &CaImportArgs) -> Result<String, CaError> {
    let files = AuthorityFiles::find(config, options.out.as_deref());
    let has_key = options.pkcs12.is_none() && options.key.is_none();
    if !options.replace {
        let paths = [Some(&files.cert), (!has_key).then_some(&files.key)];
        if let Some(path) = paths.into_iter().flatten().find(|path| path.symlink_metadata().is_ok()) {
            return Err(CaError::NotReplaced { path: path.clone() });
        }
    }
    let imported = match (&options.pkcs12, &options.cert) {
        (Some(file), _) => pkcs12(file, options.passphrase_file.as_deref())?,
        (None, cert) => {
            let cert = cert.clone().unwrap_or_else(|| files.cert.clone());
            from_pem(&cert, options.key.as_ref().unwrap_or(&files.key))?
        }
    };
    let (chain, left_out) = judged(&imported, OffsetDateTime::now_utc().unix_timestamp())?;
    files.directories()?;
    let text: Vec<String> = chain.iter().map(|der| pem_of(der)).collect();
    let replace_cert = || files::replace(&files.cert, CERT_MODE, text.concat().as_bytes());
    let kept = if has_key {
        [replace_cert()?, None]
    } else {
        let text = key_text(&imported.key);
        let kept_key = files::replace(&files.key, KEY_MODE, text.as_bytes())?;
        match replace_cert() {
            Ok(kept) => [kept, kept_key],
            Err(error) => return Err(files::put_back(&files.key, kept_key.as_deref(), error)),
        }
    };
    Ok(said(&files, &chain, left_out, &kept))
}

fn said(
    files: &AuthorityFiles,
    chain: &[CertificateDer<'static>],
    left_out: usize,
    kept: &[Option<PathBuf>],
) -> String {
    let (cert, key) = (files.cert.display(), files.key.display());
    let fingerprint = chain.first().map(|first| fingerprint(first)).unwrap_or_default();
    let before = |kept: &PathBuf| format!("Before       {}\n", kept.display());
    let kept: String = kept.iter().flatten().map(before).collect();
    let others = match left_out {
        0 => String::new(),
        count => format!("Left out     {count} certificates that are not of its chain\n"),
    };
    let trust = if chain.iter().any(|der| is_root(der)) {
        "Clients have to trust the root of this chain, which `postern ca export` writes"
    } else {
        "Clients have to trust the root above this chain, which the file does not hold"
    };
    format!(
        "Certificate  {cert}, {} in the chain\nKey          {key}\nSHA-256      {fingerprint}\n{kept}{others}\n\
         {trust}: {TRUST_PAGE}\n\n{}",
        chain.len(),
        next_steps(files)
    )
}

/// The chain, if the key belongs to it, and clients accept what it signs at `now` (seconds since 1970).
fn judged(imported: &Imported, now: i64) -> Result<(Vec<CertificateDer<'static>>, usize), CaError> {
    let Imported { certificates, key, from } = imported;
    let of_key_file = |fault| CertificateError::of_key(fault, &from.key, &from.cert);
    let key: Arc<dyn SigningKey> = rustls::crypto::aws_lc_rs::sign::any_supported_type(key)
        .map_err(|error| of_key_file(KeyFault::Unsupported(error.to_string())))?;
    let public = key.public_key().ok_or_else(|| of_key_file(KeyFault::NoSignature))?;
    let faulty = |fault| CaError::Chain { path: from.cert.clone(), fault };
    let (chain, left_out) = of_key(certificates, public.as_ref()).map_err(faulty)?;
    let first = chain.first().ok_or_else(|| faulty(ChainError::NoneOfKey))?;
    check_authority(from, &read(first).map_err(faulty)?, now)?;
    try_out(&chain, key.as_ref(), now).map_err(faulty)?;
    Ok((chain, left_out))
}

fn from_pem(cert: &Path, key: &Path) -> Result<Imported, CaError> {
    let certificates = pem::certificates(cert)?;
    drop(pem::open_key(key)?);
    let text = bounded(key, FILE_BYTES_MAX)?;
    let no_key = |_| pem::PemError::NoKey { file: key.to_owned() };
    let key_der = PrivateKeyDer::from_pem_slice(&text).map_err(no_key)?;
    let from = KeyFiles { cert: cert.to_owned(), key: key.to_owned() };
    Ok(Imported { certificates, key: key_der, from })
}

fn pkcs12(file: &Path, passphrase_file: Option<&Path>) -> Result<Imported, CaError> {
    let octets = bounded(file, FILE_BYTES_MAX)?;
    let passphrase = passphrase(passphrase_file)?;
    let archive = Pkcs12Archive::from_pkcs12(&octets, &passphrase)
        .map_err(|fault| CaError::Pkcs12 { path: file.to_owned(), fault })?;
    let [key] = archive.keys.as_slice() else {
        return Err(CaError::Keys { path: file.to_owned(), count: archive.keys.len() });
    };
    let key = PrivateKeyDer::Pkcs8(key.key.as_der().to_vec().into());
    let certificates = archive.certs.iter().map(|bag| bag.cert.as_der().to_vec().into()).collect();
    let from = KeyFiles { cert: file.to_owned(), key: file.to_owned() };
    Ok(Imported { certificates, key, from })
}

/// The first line of the file, or of the standard input.
fn passphrase(file: Option<&Path>) -> Result<Zeroizing<String>, CaError> {
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(PASSPHRASE_BYTES_MAX).unwrap_or(0)));
    let (path, read) = match file.filter(|file| *file != Path::new("-")) {
        Some(path) => {
            let read =
                File::open(path).and_then(|file| file.take(PASSPHRASE_BYTES_MAX).read_to_string(&mut text));
            (path, read)
        }
        None if io::stdin().is_terminal() => return Err(CaError::Terminal),
        None => {
            let read = io::stdin().lock().take(PASSPHRASE_BYTES_MAX).read_to_string(&mut text);
            (Path::new("standard input"), read)
        }
    };
    read.map_err(|source| CaError::Read { path: path.to_owned(), source })?;
    let line = text.lines().next().unwrap_or_default();
    Ok(Zeroizing::new(line.to_owned()))
}

/// A whole file, if it is no longer than this.
fn bounded(path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, CaError> {
    let mut octets = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(max + 1).read_to_end(&mut octets))
        .map_err(|source| CaError::Read { path: path.to_owned(), source })?;
    if u64::try_from(octets.len()).is_ok_and(|length| length > max) {
        return Err(CaError::TooLong { path: path.to_owned(), max });
    }
    Ok(octets)
}

fn key_text(key: &PrivateKeyDer<'_>) -> Zeroizing<String> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    Zeroizing::new(section(label, key.secret_der()))
}
