//! A check that the compiler is not older than the oldest that builds the workspace.

use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tools;

/// How the manifest of the workspace names the oldest compiler that builds it.
const OLDEST_KEY: &str = "rust-version = \"";

/// Major, minor and patch number; those that are not written are zero.
type Version = [u32; 3];

/// Refuse a compiler that is too old, before a chore begins.
pub(crate) fn need() -> Result<()> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let words = tools::output(Command::new(&rustc).arg("--version"))
        .context("no Rust compiler: install Rust with rustup (https://rustup.rs)")?;
    let manifest = fs::read_to_string(tools::root().join("Cargo.toml")).context("cannot read Cargo.toml")?;
    // rustup tells its children which toolchain it chose.
    judge(&words, oldest(&manifest)?, env::var("RUSTUP_TOOLCHAIN").ok().as_deref())
}

/// Compare what `rustc --version` printed with the oldest version.
fn judge(words: &str, oldest: &str, toolchain: Option<&str>) -> Result<()> {
    let running = words.split_whitespace().nth(1).unwrap_or_default();
    let numbers =
        version(running).with_context(|| format!("`rustc --version` names no version: {}", words.trim()))?;
    let needed = version(oldest).context("rust-version in Cargo.toml is no version")?;
    ensure!(
        numbers >= needed,
        "Rust {running} runs here, and this workspace needs Rust {oldest} or later (rust-version in Cargo.toml).\n{}",
        remedy(toolchain)
    );
    Ok(())
}

/// The value of `rust-version` in a manifest.
fn oldest(manifest: &str) -> Result<&str> {
    let (_, rest) = manifest.split_once(OLDEST_KEY).context("Cargo.toml has no rust-version")?;
    rest.split('"').next().context("Cargo.toml has no rust-version")
}

fn version(text: &str) -> Option<Version> {
    // A beta or a nightly counts as the release that it becomes, as it does for cargo.
    let numbers = text.split('-').next()?;
    let mut version = Version::default();
    let mut places = version.iter_mut();
    for number in numbers.split('.') {
        *places.next()? = number.parse().ok()?;
    }
    Some(version)
}

fn remedy(toolchain: Option<&str>) -> String {
    match toolchain {
        Some(name) if name.starts_with("stable") => "Update it: rustup update stable".to_owned(),
        Some(name) => format!(
            "Toolchain {name} was asked for (cargo +{name}, RUSTUP_TOOLCHAIN, or `rustup override list`). Do without it; \
             then stable Rust runs, which is updated by: rustup update stable"
        ),
        None => "This compiler is not rustup's. Install Rust with rustup (https://rustup.rs), or, where rustup is \
                 installed, put ~/.cargo/bin first in PATH and run: rustup update stable"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> String {
        fs::read_to_string(tools::root().join(path)).unwrap()
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (words, oldest) in [
            ("rustc 1.95.0 (59807616e 2026-04-14)\n", "1.95"),
            ("rustc 1.95.1-beta.2 (0123 2026-05-01)", "1.95.1"),
            ("rustc 1.100.0-nightly (0123 2026-11-01)", "1.95"),
            ("rustc 2.0.0", "1.95.2"),
        ] {
            judge(words, oldest, None).unwrap();
        }
        for (words, oldest) in [("rustc 1.9.0", "1.95"), ("rustc 1.95.0", "1.95.1"), ("rustc 1.95.0", "2")] {
            judge(words, oldest, None).unwrap_err();
        }
        for unreadable in ["", "rustc", "rustc one", "rustc 1.2.3.4"] {
            let said = judge(unreadable, "1.95", None).unwrap_err().to_string();
            assert!(said.contains("names no version"), "{said}");
        }
    }

    #[test]
    fn the_remedy_fits_who_chose_the_compiler() {
        for (toolchain, words) in [
            (Some("stable-x86_64-unknown-linux-gnu"), "Update it: rustup update stable"),
            (Some("1.90.0-x86_64-unknown-linux-gnu"), "cargo +1.90.0-x86_64"),
            (None, "https://rustup.rs"),
        ] {
            let said = judge("rustc 1.90.0", "1.95", toolchain).unwrap_err().to_string();
            assert!(said.contains(words) && said.contains("rustup update stable"), "{said}");
            assert!(said.contains("Rust 1.90.0 runs") && said.contains("needs Rust 1.95 "), "{said}");
        }
    }

    #[test]
    fn every_manifest_names_the_same_oldest_compiler() {
        let [workspace, fuzz] = ["Cargo.toml", "proxy-userspace/fuzz/Cargo.toml"].map(read);
        assert_eq!(oldest(&workspace).unwrap(), oldest(&fuzz).unwrap());
    }

    #[test]
    fn the_forge_runs_the_oldest_compiler_and_actions_that_cannot_change() {
        let (manifest, workflow) = (read("Cargo.toml"), read(".github/workflows/test.yml"));
        let values = |key: &str| -> Vec<String> {
            workflow.lines().filter_map(|line| line.trim().strip_prefix(key)).map(str::to_owned).collect()
        };
        let pinned = values("RUSTUP_TOOLCHAIN: ");
        assert_eq!(pinned.len(), 1, "one place names the compiler: {pinned:?}");
        assert_eq!(version(pinned[0].trim_matches('"')), version(oldest(&manifest).unwrap()), "{pinned:?}");
        let actions = values("- uses: ");
        assert!(!actions.is_empty() && actions.len() == workflow.matches("uses:").count(), "{actions:?}");
        for action in actions {
            let commit = action.split(['@', ' ']).nth(1).unwrap_or_default();
            let is_commit = commit.len() == 40 && commit.chars().all(|digit| digit.is_ascii_hexdigit());
            assert!(is_commit, "a tag can be moved, a commit cannot: {action}");
        }
    }
}
