use std::path::{Path, PathBuf};

use clap::Args;
use time::{Duration, OffsetDateTime};

use super::files::{self, CERT_MODE};
use super::init::CLOCK_SKEW;
use super::{AuthorityFiles, CaError, TRUST_PAGE, fingerprint, pem_of, read};
use crate::handshake::mint::chain::{ChainError, is_root, renewed, try_out};
use crate::handshake::mint::tbs::Validity;
use crate::handshake::mint::{CertificateError, pem};
use crate::signer::open_key;

/// Arguments of `postern ca renew`.
#[derive(Debug, Args)]
pub(super) struct CaRenewArgs {
    /// The directory of authority.pem and authority.key [default: where the configuration has them].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How long the new certificate is valid.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u16).range(1..=36500))]
    days: u16,
}

pub(super) fn renew(config: &Path, options: &CaRenewArgs) -> Result<String, CaError> {
    let files = AuthorityFiles::find(config, options.out.as_deref());
    let chain = files.chain()?;
    let first = chain.first().ok_or_else(|| files.faulty(ChainError::Unreadable))?;
    let cert = read(first).map_err(|fault| files.faulty(fault))?;
    if !is_root(first) {
        return Err(files.faulty(ChainError::Intermediate(cert.issuer().to_string())));
    }
    let opened = pem::open_key(&files.key)?;
    let key = open_key(&opened, cert.public_key().raw)
        .map_err(|fault| CertificateError::of_key(fault, &files.key, &files.cert))?;
    let now = OffsetDateTime::now_utc();
    let validity = Validity {
        not_before: now.saturating_sub(CLOCK_SKEW).unix_timestamp(),
        not_after: now.saturating_add(Duration::days(i64::from(options.days))).unix_timestamp(),
    };
    let faulty = |fault| files.faulty(fault);
    let new = renewed(first, key.as_ref(), validity).map_err(faulty)?;
    // Nothing is in force that clients would refuse.
    try_out(&[new.clone().into()], key.as_ref(), now.unix_timestamp()).map_err(faulty)?;
    let kept = files::replace(&files.cert, CERT_MODE, pem_of(&new).as_bytes())?;
    let kept = kept.map_or_else(|| "none".to_owned(), |kept| kept.display().to_string());
    let (path, fingerprint, days) = (files.cert.display(), fingerprint(&new), options.days);
    Ok(format!(
        "Certificate  {path}, {days} days from now\nBefore       {kept}\nSHA-256      {fingerprint}\n\n\
         Key and subject are the same. Clients go on while the certificate that they have is valid; give them the new one\n\
         before it ends (`postern ca export`): {TRUST_PAGE}\n\
         A daemon that runs takes it with `postern reload` (or HUP); sessions go on.\n"
    ))
}
