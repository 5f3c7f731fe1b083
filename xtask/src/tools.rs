//! Running commands, finding the tree, installing Debian packages.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

/// The top of the checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The cargo that runs this chore.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Run a command to its end; anything but success is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Run a command and return what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!("{shown} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Work on each of these, the first ones first and `at_once` at a time. All are worked on, also where one fails; the error
/// is then one of theirs.
pub(crate) fn side_by_side<I: Send, T: Send>(
    items: Vec<I>,
    at_once: usize,
    work: impl Fn(I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let queue = Mutex::new(items.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let take_turns = || {
        let mut results = Vec::new();
        while let Some(item) = next() {
            results.push(work(item));
        }
        results
    };
    let panicked = |_| anyhow!("a thread of this chore panicked; please report it");
    thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(take_turns)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(panicked)?);
        }
        all.into_iter().collect()
    })
}

/// Whether this process may load programs and make namespaces.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Install the Debian packages that are missing among these, as root, or name them.
pub(crate) fn need_packages(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() {
        bail!(
            "missing Debian packages: {list}. Install them with: sudo apt-get install --no-install-recommends {list}"
        );
    }
    println!("installing Debian packages: {list}");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(args);
        run(&mut command)
    };
    let mut install = vec!["install", "--yes", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0"];
    install.extend(&missing);
    apt(&["update"]).and_then(|()| apt(&install)).with_context(|| format!("cannot install {list}"))
}

fn installed(package: &str) -> bool {
    output(Command::new("dpkg-query").args(["-W", "-f=${Status}", package]))
        .is_ok_and(|status| status == "install ok installed")
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let metadata = output(cargo().args(["metadata", "--format-version=1", "--no-deps"]))?;
    let (_, rest) =
        metadata.split_once("\"target_directory\":\"").context("cargo metadata names no target directory")?;
    Ok(rest.split('"').next().unwrap_or_default().into())
}

/// Where tools that are built from crates are kept between runs.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    Ok(base
        .context("neither XDG_CACHE_HOME nor HOME says where to keep tools: set one")?
        .join("postern/tools"))
}
