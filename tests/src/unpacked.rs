//! Programs of Debian packages that `cargo xtask` unpacked beside each other; they are not installed.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The directory that a server's packages are unpacked in, as `xtask/src/servers.rs` names it.
///
/// # Errors
/// Says how to fetch them.
pub fn programs(name: &str) -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let dir =
        base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("postern/tools/servers").join(name);
    ensure!(dir.is_dir(), "{} does not exist: `cargo xtask servers` fetches it", dir.display());
    Ok(dir)
}

/// The library path of what is unpacked below `root`.
#[must_use]
pub fn libraries(root: &Path) -> String {
    let dirs = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib"];
    dirs.map(|dir| root.join(dir).display().to_string()).join(":")
}
