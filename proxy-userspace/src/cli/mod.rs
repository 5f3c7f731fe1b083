//! The command line: words in, exit codes out.

/// `postern check`: the file, the files it names, the machine.
mod check;
/// Its part about the firewall: what stops steered mail, and the rules that are missing.
mod firewall;
/// Its part about steering: rules of others in front, and the chain that drops what would be forwarded.
mod steering;
/// `postern ca init`: the re-signing authority.
mod ca;
/// `postern status`: what the running daemon says, for people.
mod status;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{self, Config};

/// The configuration, or a file that it names, is wrong (`EX_USAGE` of sysexits.h).
const EXIT_CONFIG: u8 = 64;
/// No daemon answers (as systemctl(1) has it for its status).
const EXIT_NOT_RUNNING: u8 = 3;
/// The machine lacks something (`EX_UNAVAILABLE` of sysexits.h).
const EXIT_MACHINE: u8 = 69;

/// Postern, a transparent IMAP gateway.
#[derive(Debug, Parser)]
#[command(name = "postern", version, about, long_about = None)]
struct Cli {
    /// The configuration file.
    #[arg(long, global = true, value_name = "PATH", default_value = "/etc/postern/postern.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take over mail connections until TERM.
    Run,
    /// Judge the configuration and look at the machine; changes nothing.
    Check,
    /// Show the running daemon: listeners, rules, sessions, counters. Without one: what the kernel holds (exit code 3).
    Status(status::Options),
    /// Remove what a daemon that is gone left in the kernel; mail then flows uninspected.
    Clear,
    /// The re-signing authority.
    Ca(CaArgs),
}

#[derive(Debug, Args)]
struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Make the authority and tell how clients learn to trust it.
    Init(ca::Options),
}

/// Run the command that the arguments name. Wrong arguments exit 2, a wrong configuration 64, a machine that lacks
/// something 69 (`check` only), a status without a daemon 3, any other failure 1.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Run => run(&cli.config),
        Command::Check => check::check(&cli.config),
        Command::Clear => clear(&cli.config),
        Command::Status(options) => status::status(&cli.config, &options),
        Command::Ca(CaArgs { command: CaCommand::Init(options) }) => ca::init(&cli.config, &options),
    }
}

fn run(path: &Path) -> ExitCode {
    let config = match accepted(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Err(error) = log_to_stderr() {
        eprintln!("postern: POSTERN_LOG: {error}; use a level such as \"debug\" or \"postern=debug,warn\"");
        return ExitCode::from(EXIT_CONFIG);
    }
    raise_descriptor_limit();
    match crate::gateway::run(config, path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postern: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn clear(path: &Path) -> ExitCode {
    // Rules are known by their table; only kernel settings need the configuration, and it may be gone.
    match crate::gateway::clear(config::load(path).ok().as_ref()) {
        Ok(cleared) => {
            for line in &cleared {
                println!("removed {line}");
            }
            println!("{} removed; mail flows uninspected until Postern runs again", cleared.len());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("postern: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration, if it and the files that it names are there and readable; otherwise the faults are on stderr.
fn accepted(path: &Path) -> Result<Config, ExitCode> {
    let config = config::load(path).map_err(|error| {
        eprintln!("{error}");
        ExitCode::from(EXIT_CONFIG)
    })?;
    let unreadable: Vec<_> = check::files(&config).into_iter().filter(check::Item::is_failure).collect();
    for item in &unreadable {
        eprintln!("{item}");
    }
    if unreadable.is_empty() { Ok(config) } else { Err(ExitCode::from(EXIT_CONFIG)) }
}

/// Records go to stdout, so everything else goes to stderr.
fn log_to_stderr() -> Result<(), tracing_subscriber::filter::FromEnvError> {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .with_env_var("POSTERN_LOG")
        .try_from_env();
    let filter = match filter {
        Ok(filter) => filter,
        Err(_) if std::env::var_os("POSTERN_LOG").is_none() => tracing_subscriber::EnvFilter::new("info"),
        Err(error) => return Err(error),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

/// The soft limit is 1,024 by custom, for the sake of select(2), which is not used here.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit on open descriptors stays at its soft value; set LimitNOFILE in the unit");
    }
}
