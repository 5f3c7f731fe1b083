//! tlslite-ng, the TLS library that the scripts of `tests/tlslite` attack with.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools;

/// Install what `tests/tlslite/requirements.txt` names, unless it is installed already, in the place where
/// `tests/tests/tlslite.rs` expects it. Every file must have its hash in that list, and none is run while it is
/// installed.
pub(crate) fn install() -> Result<()> {
    let requirements = tools::root().join("tests/tlslite/requirements.txt");
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let dir = tools::cache()?.join("tlslite");
    let stamp = dir.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("installing tlslite-ng for the tests: {}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    // Debian's Python, whatever else is on the path: the tests run the scripts with it.
    let mut pip = Command::new("/usr/bin/python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
    pip.args(["--require-hashes", "--no-deps", "--only-binary=:all:"]);
    pip.arg("--target").arg(&dir).arg("--requirement").arg(&requirements);
    tools::run(&mut pip)?;
    // Last, so that an installation that was interrupted is begun again.
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}
