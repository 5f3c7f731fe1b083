//! The default Proxy Server certificate that Postern makes: a self-signed one with the name of the machine. It is made by a
//! process that ends with it, because the one that stays reads no private key.

use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::DnsName;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::pem;
use crate::clock;
use crate::config::KeyFiles;
use crate::signer::open_key;

/// How long one is valid. Apple's clients accept 825 days at most, of whatever authority.
const VALIDITY: Duration = Duration::days(365);
/// Before its end another one is made.
const RENEWED_BEFORE_END: Duration = Duration::days(30);
/// Clients with clocks that are a little behind accept it at once.
const CLOCK_SKEW: Duration = Duration::DAY;
/// `ub-common-name` of RFC 5280 appendix A.1.
const COMMON_NAME_CHARS_MAX: usize = 64;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnDefaultError {
    /// Key or certificate.
    #[error("the default Proxy Server certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// Its files.
    #[error(
        "{}: the default Proxy Server certificate cannot be written: {source}; make room or correct state.directory, or \
         name one of your own in certificates.default", file.display()
    )]
    Write {
        /// The file or directory.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Makes the pair where it is not there, not whole, or near its end at `now`; returns whether it did. `machine` is the
/// machine's name.
pub(crate) fn provide(
    files: &KeyFiles,
    machine: &str,
    now: OffsetDateTime,
    write: impl Fn(&Path, u32, &[u8]) -> std::io::Result<()>,
) -> Result<bool, OwnDefaultError> {
    if is_good(files, now) {
        return Ok(false);
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = params(machine, now)?.self_signed(&key)?;
    let key = Zeroizing::new(key.serialize_pem());
    for (file, mode, text) in [(&files.key, 0o600, key.as_str()), (&files.cert, 0o644, &certificate.pem())] {
        write(file, mode, text.as_bytes())
            .map_err(|source| OwnDefaultError::Write { file: file.clone(), source })?;
    }
    Ok(true)
}

/// A pair that was written by halves counts as none: there are two files.
fn is_good(files: &KeyFiles, now: OffsetDateTime) -> bool {
    let Ok(chain) = pem::certificates(&files.cert) else { return false };
    let Some(first) = chain.first().filter(|first| !is_due(first, now)) else { return false };
    let Ok((_, cert)) = X509Certificate::from_der(first) else { return false };
    let Ok(key) = pem::open_key(&files.key) else { return false };
    open_key(&key, cert.public_key().raw).is_ok()
}

/// Whether another one has to be made at `now`: it is near its end, was made under a clock that was more than
/// [`CLOCK_SKEW`] ahead, so that clients refuse it, or cannot be read.
///
/// Where it is this machine's clock that says a time before this program was built, as before the first answer of a time
/// server, the certificate stays: clients were made to trust it.
pub(crate) fn is_due(cert: &[u8], now: OffsetDateTime) -> bool {
    let Ok((_, cert)) = X509Certificate::from_der(cert) else { return true };
    let end = now.saturating_add(RENEWED_BEFORE_END).unix_timestamp();
    let is_of_the_future = cert.validity().not_before.timestamp() > now.unix_timestamp();
    cert.validity().not_after.timestamp() <= end || is_of_the_future && clock::look().is_none()
}

fn params(machine: &str, now: OffsetDateTime) -> Result<CertificateParams, rcgen::Error> {
    // A name that is none of the DNS stands in the subject only.
    let names = if DnsName::try_from(machine).is_ok() { vec![machine.to_owned()] } else { Vec::new() };
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    let name: String = machine.chars().take(COMMON_NAME_CHARS_MAX).collect();
    params.distinguished_name.push(DnType::CommonName, if name.is_empty() { "postern" } else { &name });
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = now.saturating_sub(CLOCK_SKEW);
    params.not_after = now.saturating_add(VALIDITY);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn write(path: &Path, mode: u32, octets: &[u8]) -> std::io::Result<()> {
        std::fs::write(path, octets)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    }

    #[test]
    fn a_pair_is_made_once_and_anew_a_month_before_its_end_or_where_a_half_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let files = KeyFiles { cert: path("a.pem"), key: path("a.key") };
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let at = |days| provide(&files, "gate.example.org", now + Duration::days(days), write).unwrap();
        assert!(at(0) && !at(0) && !at(334));
        assert!(at(336) && !at(336));
        assert!(!at(335) && at(334) && !at(334), "made under a clock that was ahead");
        std::fs::remove_file(&files.cert).unwrap();
        assert!(at(336));
        std::fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(at(336) && !at(336), "the key of another certificate");
        let chain = pem::certificates(&files.cert).unwrap();
        let (_, cert) = X509Certificate::from_der(&chain[0]).unwrap();
        assert_eq!(cert.subject().to_string(), "CN=gate.example.org");
        assert!(!cert.is_ca() && cert.subject_alternative_name().unwrap().is_some());
    }

    #[test]
    fn a_machine_has_any_name() {
        let now = OffsetDateTime::now_utc();
        for machine in ["", "under_score", "-", &"long".repeat(60), "ümlaut"] {
            params(machine, now).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
        }
    }
}
