//! Benchmarks: CPU per gigabyte, per small message and per session, relaying and judging, compared with haproxy in the
//! same run; record layers compared.

use std::process::Command;

use anyhow::{Result, bail};

use crate::tools;
use crate::vm::{self, Release};

/// Options.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Runs of each gateway, in turns.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(clap::Subcommand)]
enum Other {
    /// The user's record layer, the kernel's, and splice, in a virtual machine.
    Ktls(KtlsArgs),
    /// What judging mail costs and finds, beside clamd.
    Content(ContentArgs),
}

/// Options.
#[derive(clap::Args)]
struct ContentArgs {
    /// Generated messages, one of twenty hostile.
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
}

/// Options.
#[derive(clap::Args)]
struct KtlsArgs {
    /// Runs of each layer, in turns.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// On this machine's own kernel, which needs TLS that can change keys (Linux 6.14; `modprobe tls`).
    #[arg(long)]
    native: bool,
}

/// Build everything with optimization, and measure. Figures are reported, never judged.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !tools::is_root() {
        bail!("the measurement makes network namespaces and loads a BPF program: sudo cargo xtask bench");
    }
    match &args.other {
        None => gateways(args.runs),
        Some(Other::Ktls(args)) => ktls(args),
        Some(Other::Content(args)) => content(args),
    }
}

fn gateways(runs: usize) -> Result<()> {
    tools::need_packages(&["iproute2", "util-linux", "haproxy"])?;
    tools::run(tools::cargo().args(["build", "--release", "--workspace", "--bins"]))?;
    let release = tools::target_dir()?.join("release");
    // Client and server keep off the gateway's core.
    let mut bench = Command::new("taskset");
    bench.args(["-c", "1"]).arg(release.join("lab-bench")).args(["--runs", &runs.to_string()]);
    tools::run(bench.env("POSTERN", release.join("postern")))
}

fn content(args: &ContentArgs) -> Result<()> {
    tools::need_packages(&["clamav-daemon", "python3"])?;
    let build = ["build", "--release", "-p", "postern-tests", "--bin", "lab-bench-content"];
    tools::run(tools::cargo().args(build))?;
    let mut bench = Command::new(tools::target_dir()?.join("release/lab-bench-content"));
    tools::run(bench.args(["--messages", &args.messages.to_string()]))
}

fn ktls(args: &KtlsArgs) -> Result<()> {
    tools::need_packages(&["iproute2", "util-linux", "strace"])?;
    tools::run(tools::cargo().args([
        "build",
        "--release",
        "-p",
        "postern-tests",
        "--bin",
        "lab-bench-ktls",
    ]))?;
    let program = tools::target_dir()?.join("release/lab-bench-ktls");
    let runs = args.runs.to_string();
    if args.native {
        // A real machine moves the default amount in a moment, too short for its clock's ticks.
        let more = ["--bodies", "64", "--exchanges", "50000", "--sessions", "1000", "--waiting", "1000"];
        return tools::run(Command::new(program).args(["--runs", &runs]).args(more));
    }
    vm::run_program(&Release::Newest, &program, &["--runs", &runs])
}
