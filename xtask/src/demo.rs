//! Client, gateway and server in three namespaces, with Postern in between; a hostile mailbox at the end.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::tools;

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave everything up until Ctrl-C, and print the commands to play with.
    #[arg(long)]
    keep: bool,
    /// The mail server: the lab's own, which needs nothing installed, or a real Dovecot.
    #[arg(long, value_parser = ["lab", "dovecot"], default_value = "lab")]
    server: String,
    /// The gateway masquerades, and its firewall drops what no rule lets pass.
    #[arg(long)]
    masquerade: bool,
    /// Hidden hops on both sides through which only packets of so many octets pass; 10 MB go both ways.
    #[arg(long, value_name = "OCTETS", value_parser = clap::value_parser!(u16).range(1280..=1500))]
    mtu: Option<u16>,
}

/// Build the daemon and the lab, and become the demonstration: it has the terminal and Ctrl-C for itself.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !tools::is_root() {
        bail!(
            "the demonstration makes network namespaces and loads a BPF program, which needs root: sudo cargo xtask demo"
        );
    }
    let mut packages = vec!["iproute2", "util-linux"];
    if args.server == "dovecot" {
        packages.push("dovecot-imapd");
    }
    if args.masquerade {
        packages.push("nftables");
    }
    tools::need_packages(&packages)?;
    tools::run(tools::cargo().args([
        "build",
        "--quiet",
        "-p",
        "proxy-userspace",
        "-p",
        "postern-tests",
        "--bins",
    ]))?;
    let mut demo = Command::new(tools::target_dir()?.join("debug/lab-demo"));
    demo.args(["--server", &args.server]);
    if args.keep {
        demo.arg("--keep");
    }
    if args.masquerade {
        demo.arg("--masquerade");
    }
    if let Some(mtu) = args.mtu {
        demo.args(["--mtu", &mtu.to_string()]);
    }
    let error = demo.exec();
    Err(error).with_context(|| format!("cannot start {demo:?}"))
}
