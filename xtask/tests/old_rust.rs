//! What a chore says when the compiler is too old.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use anyhow::Result;

/// A chore that does nothing of account, with a compiler that says it has this version.
fn chore(version: &str) -> Result<Output> {
    let dir = tempfile::tempdir()?;
    let rustc = dir.path().join("rustc");
    fs::write(&rustc, format!("#!/bin/sh\necho 'rustc {version} (0123456789 2026-01-01)'\n"))?;
    fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["fuzz", "no-such-target"]).env("RUSTC", &rustc);
    Ok(command.env("RUSTUP_TOOLCHAIN", "stable-x86_64-unknown-linux-gnu").output()?)
}

#[test]
fn a_chore_refuses_an_old_compiler_first_and_names_both_versions_and_the_command() -> Result<()> {
    let output = chore("1.85.0")?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in ["Rust 1.85.0 runs here", "needs Rust 1.", "rustup update stable"] {
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
    assert!(!said.contains("no-such-target"), "the chore began: {said}");
    Ok(())
}

#[test]
fn a_newer_compiler_is_fine() -> Result<()> {
    let said = String::from_utf8_lossy(&chore("1.999.0")?.stderr).into_owned();
    assert!(said.contains("no fuzz target is called no-such-target"), "{said}");
    Ok(())
}
