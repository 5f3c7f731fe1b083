//! Developer chores: `cargo xtask help`.

use anyhow::Result;
use clap::{Parser, Subcommand};

mod ebpf;
mod lint;
mod test;
/// The TLS library of the scripts in tests/tlslite.
mod tlslite;
/// Mail servers for the tests, unpacked.
mod servers;
/// Debian packages in a cache.
mod apt;
/// Real kernels under QEMU.
mod vm;
mod fuzz;
mod demo;
mod bench;
/// A check that the compiler is not older than the oldest that builds the workspace.
mod rust;
/// Commands, paths and Debian packages, shared by the chores.
mod tools;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Postern's developer chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Rebuild the committed BPF object, or check it.
    Ebpf(ebpf::Args),
    /// Format, clippy, docs and dependency checks, warnings denied.
    Lint(lint::Args),
    /// Everything that CI proves.
    Test(test::Args),
    /// Fetch the mail servers of the tests, as `test` does before it begins.
    Servers,
    /// Tests on real kernels, in virtual machines.
    Vm(vm::Args),
    /// A bounded run of the fuzz targets.
    Fuzz(fuzz::Args),
    /// Client, gateway and server in three namespaces, with Postern in between.
    Demo(demo::Args),
    /// CPU per gigabyte and per session, beside haproxy in the same run.
    Bench(bench::Args),
}

fn main() -> Result<()> {
    let chore = Cli::parse().chore;
    rust::need()?;
    match chore {
        Chore::Ebpf(args) => ebpf::run(&args),
        Chore::Lint(args) => lint::run(&args),
        Chore::Test(args) => test::run(&args),
        Chore::Servers => servers::install(),
        Chore::Vm(args) => vm::run(&args),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Demo(args) => demo::run(&args),
        Chore::Bench(args) => bench::run(&args),
    }
}
