use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::X509Certificate;
use x509_parser::public_key::PublicKey;

use super::files::{self, CERT_MODE};
use super::{AuthorityFiles, CaError, TRUST_PAGE, fingerprint, pem_of, read};
use crate::handshake::mint::chain::{ChainError, is_root};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// Arguments of `postern ca show`.
#[derive(Debug, Args)]
pub(super) struct CaShowArgs {
    /// The directory of authority.pem and authority.key [default: where the configuration has them].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Arguments of `postern ca export`.
#[derive(Debug, Args)]
pub(super) struct CaExportArgs {
    /// A new file, instead of the standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// DER instead of PEM: what Windows and Android like best.
    #[arg(long)]
    der: bool,
}

pub(super) fn show(config: &Path, options: &CaShowArgs) -> Result<String, CaError> {
    let files = AuthorityFiles::find(config, options.out.as_deref());
    let chain = files.chain()?;
    let first = chain.first().ok_or_else(|| files.faulty(ChainError::Unreadable))?;
    let cert = read(first).map_err(|fault| files.faulty(fault))?;
    let kind = if is_root(first) { "root, signed by itself" } else { "intermediate, signed by its issuer" };
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    line("Subject", &cert.subject().to_string());
    line("Issuer", &cert.issuer().to_string());
    line("Kind", kind);
    line("Valid", &validity(&cert, OffsetDateTime::now_utc().unix_timestamp()));
    line("Key", &key_kind(&cert));
    line("SHA-256", &fingerprint(first));
    line("Certificate", &files.cert.display().to_string());
    line("Key file", &key_file(&files.key));
    for issuer in chain.iter().skip(1) {
        let cert = read(issuer).map_err(|fault| files.faulty(fault))?;
        let kind = if is_root(issuer) { "root" } else { "intermediate" };
        line("Below", &format!("{} ({kind}), SHA-256 {}", cert.subject(), fingerprint(issuer)));
    }
    // Beside the authority, so that one command says where all certificates of Postern's own are.
    if options.out.is_none()
        && let Ok(config) = crate::config::load(config)
        && let Some(default) = config.default_certificate()
    {
        let state = if default.files.cert.exists() { "" } else { ", made by the first `postern run`" };
        let _ = writeln!(text, "\nDefault Proxy Server certificate\n{}{state}", default.files.cert.display());
    }
    Ok(text)
}

/// Both ends, and the days that are left at `now` (seconds since 1970).
fn validity(cert: &X509Certificate<'_>, now: i64) -> String {
    let validity = cert.validity();
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let left = match () {
        () if now > to => format!("EXPIRED {} days ago", (now - to) / DAY),
        () if now < from => "NOT YET VALID".to_owned(),
        () => format!("{} days left", (to - now) / DAY),
    };
    format!("{} to {}, {left}", instant(from), instant(to))
}

/// RFC 3339, where the year has four digits.
fn instant(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{seconds} s since 1970"))
}

fn key_kind(cert: &X509Certificate<'_>) -> String {
    match cert.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA, {} bits", key.key_size()),
        Ok(PublicKey::EC(point)) => match point.key_size() {
            256 => "ECDSA P-256".to_owned(),
            384 => "ECDSA P-384".to_owned(),
            // 521 bits are 66 octets.
            528 | 521 => "ECDSA P-521".to_owned(),
            bits => format!("ECDSA, {bits} bits"),
        },
        // id-Ed25519 (RFC 8410 section 3).
        _ if cert.public_key().algorithm.algorithm.to_id_string() == "1.3.101.112" => "Ed25519".to_owned(),
        _ => format!("of the kind {}", cert.public_key().algorithm.algorithm),
    }
}

fn key_file(path: &Path) -> String {
    match path.metadata() {
        Ok(_) => path.display().to_string(),
        Err(error) => format!("{} CANNOT BE READ: {error}", path.display()),
    }
}

pub(super) fn export(config: &Path, options: &CaExportArgs) -> Result<Vec<u8>, CaError> {
    let files = AuthorityFiles::find(config, None);
    let chain = files.chain()?;
    let Some(root) = chain.iter().find(|der| is_root(der)) else {
        let last = chain.last().ok_or_else(|| files.faulty(ChainError::Unreadable))?;
        let cert = read(last).map_err(|fault| files.faulty(fault))?;
        let (subject, issuer) = (cert.subject().to_string(), cert.issuer().to_string());
        return Err(CaError::NoRoot { path: files.cert, subject, issuer });
    };
    let octets = if options.der { root.to_vec() } else { pem_of(root).into_bytes() };
    let Some(out) = &options.out else { return Ok(octets) };
    files::create(out, CERT_MODE, &octets)?;
    let (out, fingerprint) = (out.display(), fingerprint(root));
    let said = format!(
        "Certificate  {out}\nSHA-256      {fingerprint}\n\nHow clients come to trust it, and what to check: {TRUST_PAGE}\n"
    );
    Ok(said.into_bytes())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn what_is_left_of_a_validity_is_told_in_days() {
        let mut params = CertificateParams::default();
        params.not_before = OffsetDateTime::from_unix_timestamp(10 * DAY).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(40 * DAY).unwrap();
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        let cert = read(&der).unwrap();
        for (now, told) in [
            (10 * DAY, "1970-01-11T00:00:00Z to 1970-02-10T00:00:00Z, 30 days left"),
            (40 * DAY, ", 0 days left"),
            (42 * DAY + 1, ", EXPIRED 2 days ago"),
            (10 * DAY - 1, ", NOT YET VALID"),
        ] {
            assert!(validity(&cert, now).ends_with(told), "{}", validity(&cert, now));
        }
    }

    #[test]
    fn every_kind_of_key_has_its_usual_name() {
        let generated = |algorithm| KeyPair::generate_for(algorithm).unwrap();
        for (key, name) in [
            (generated(&rcgen::PKCS_ECDSA_P256_SHA256), "ECDSA P-256"),
            (generated(&rcgen::PKCS_ECDSA_P384_SHA384), "ECDSA P-384"),
            (generated(&rcgen::PKCS_ECDSA_P521_SHA512), "ECDSA P-521"),
            (generated(&rcgen::PKCS_ED25519), "Ed25519"),
            (
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap(),
                "RSA, 2048 bits",
            ),
        ] {
            let der = CertificateParams::default().self_signed(&key).unwrap().der().clone();
            assert_eq!(key_kind(&read(&der).unwrap()), name);
        }
    }
}
