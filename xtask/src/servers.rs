//! Mail servers that exclude each other and Dovecot as packages: unpacked side by side for the tests.

use anyhow::Result;

use crate::apt::{self, Apt};
use crate::tools;

/// A directory of the cache, and what is unpacked into it.
const SERVERS: [(&str, &[&str]); 2] =
    [("cyrus", &["cyrus-imapd", "sasl2-bin"]), ("courier", &["courier-imap"])];

/// Fetch what is not there yet, to where `tests/src/unpacked.rs` expects it.
pub(crate) fn install() -> Result<()> {
    let cache = tools::cache()?.join("servers");
    for (name, packages) in SERVERS {
        apt::unpacked(&cache.join(name), |into| {
            Apt::of_this_release(&cache)?.download_with_dependencies(packages, None, into)
        })?;
    }
    Ok(())
}
