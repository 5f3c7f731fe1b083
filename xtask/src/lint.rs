//! Format, clippy, docs and dependency rules: warnings are errors.

use anyhow::Result;

use crate::tools;

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Run every check; the first that fails ends it.
pub(crate) fn run(_args: &Args) -> Result<()> {
    let checks: [(&[&str], &str); 3] = [
        (&["fmt", "--all", "--check"], ""),
        (&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"], ""),
        (&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"], "-D warnings"),
    ];
    for (arguments, rustdoc_flags) in checks {
        println!("lint: cargo {}", arguments.join(" "));
        tools::run(tools::cargo().args(arguments).env("RUSTDOCFLAGS", rustdoc_flags))?;
    }
    Ok(())
}
