//! Format, clippy, docs, shell and dependency rules: warnings are errors.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::tools;

/// The release whose rules deny.toml is written for.
const DENY_VERSION: &str = "0.20.2";

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Run every check; the first that fails ends it.
pub(crate) fn run(_args: &Args) -> Result<()> {
    let checks: [(&[&str], &str); 4] = [
        (&["fmt", "--all", "--check"], ""),
        (&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"], ""),
        // `--all-targets` is without the tests that a plain `cargo test` leaves out.
        (&["clippy", "--quiet", "--workspace", "--test", "*", "--", "-D", "warnings"], ""),
        (&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"], "-D warnings"),
    ];
    for (arguments, rustdoc_flags) in checks {
        println!("lint: cargo {}", arguments.join(" "));
        tools::run(tools::cargo().args(arguments).env("RUSTDOCFLAGS", rustdoc_flags))?;
    }
    shell()?;
    deny()
}

/// Every script in scripts/.
fn shell() -> Result<()> {
    tools::need_packages(&["shellcheck"])?;
    let mut scripts = Vec::new();
    for entry in fs::read_dir(tools::root().join("scripts")).context("cannot list scripts/")? {
        scripts.push(entry?.path());
    }
    println!("lint: shellcheck, {} scripts", scripts.len());
    tools::run(Command::new("shellcheck").arg("--severity=style").args(&scripts))
}

/// Licences, sources and bans of every dependency. Advisories need a database from the network, so a person has to
/// check them; the output says so.
fn deny() -> Result<()> {
    let cache = tools::cache()?;
    let deny = cache.join("bin/cargo-deny");
    let words = tools::output(Command::new(&deny).arg("--version")).unwrap_or_default();
    if words.trim() != format!("cargo-deny {DENY_VERSION}") {
        println!("building cargo-deny {DENY_VERSION} into {}", cache.display());
        let mut install = tools::cargo();
        install.args([
            "install",
            "cargo-deny",
            "--locked",
            "--force",
            "--quiet",
            // It runs for a second, and an optimized build takes three minutes more.
            "--debug",
            "--version",
            DENY_VERSION,
            "--root",
        ]);
        tools::run(install.arg(&cache).current_dir("/").env_remove("CARGO_TARGET_DIR"))?;
    }
    // cargo-deny reads the manifests of every platform's crates, while a build downloads those of its own platform
    // only.
    tools::run(tools::cargo().args(["fetch", "--quiet", "--locked"]))?;
    println!(
        "lint: cargo deny (bans, licenses, sources; advisories not checked: `cargo deny check advisories`)"
    );
    let mut check = Command::new(&deny);
    check.current_dir(tools::root()).args([
        "--offline",
        "--log-level",
        "error",
        "check",
        "bans",
        "licenses",
        "sources",
    ]);
    tools::run(&mut check)
}
