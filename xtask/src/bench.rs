//! CPU per gigabyte and per session, beside haproxy in the same run.

use std::process::Command;

use anyhow::{Result, bail};

use crate::tools;

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Runs of each gateway, in turns.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// Build everything with optimization, and measure. Figures are reported, never judged.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !tools::is_root() {
        bail!("the measurement makes network namespaces and loads a BPF program: sudo cargo xtask bench");
    }
    tools::need_packages(&["iproute2", "util-linux", "haproxy"])?;
    tools::run(tools::cargo().args(["build", "--release", "--workspace", "--bins"]))?;
    let release = tools::target_dir()?.join("release");
    // Client and server keep off the gateway's core.
    let mut bench = Command::new("taskset");
    bench.args(["-c", "1"]).arg(release.join("lab-bench")).args(["--runs", &args.runs.to_string()]);
    tools::run(bench.env("POSTERN", release.join("postern")))
}
