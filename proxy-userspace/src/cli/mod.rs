//! The command line: words in, exit codes out.

/// `postern check`: the file, the files it names, the machine.
mod check;
/// Its part about certificates: when they end, and pins.
mod certificates;
/// Its part about the scanner: whether the rules can be compiled.
mod scanner;
/// Its part about the account guard: what it does not see.
mod guard;
/// Its part about the firewall: what stops steered mail, and the rules that are missing.
mod firewall;
/// Its part about policies: what each admits, and those that are never reached.
mod policies;
/// `postern action` and `postern profile`: objects with names.
mod objects;
/// `postern explain`: which policy, action and profile a connection gets, and why.
mod explain;
/// Its part about steering: rules of others in front, and the chain that drops what would be forwarded.
mod steering;
/// `postern ca`: the re-signing authority.
mod ca;
/// The default Proxy Server certificate, made by a process of its own.
mod default_certificate;
/// `postern alarm`, its part of `check`, and the process that becomes the command for alarms.
mod alarm;
/// `postern status`: what the running daemon says, for people.
mod status;
/// `postern reload`: the daemon reads its configuration again.
mod reload;
/// The log of `postern run`.
mod log;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::objects::ObjectArgs;
use crate::config::{self, Config, ObjectKind};
use crate::confine::Role;
use crate::content::scan::yara::YaraError;
use crate::ipc::{Channel, begin};
use crate::journal;
use crate::lines::Lines;
use crate::signer::SignerLoadError;
use crate::supervisor::RuleFilesError;

/// The configuration, or a file that it names, is wrong (`EX_USAGE` of sysexits.h).
const EXIT_CONFIG: u8 = 64;
/// No daemon answers (as in LSB's init scripts and systemctl(1): "not running").
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
    Status(status::StatusArgs),
    /// Have the running daemon read its configuration again, and say what became of that; HUP does so without an answer.
    Reload(reload::ReloadArgs),
    /// Remove what a daemon that is gone left in the kernel; mail then flows uninspected.
    Clear,
    /// The re-signing authority.
    Ca(ca::CaArgs),
    /// Proxy actions: what becomes of mail.
    Action(ObjectArgs),
    /// TLS profiles: how TLS is spoken.
    Profile(ObjectArgs),
    /// Say which policy, proxy action and TLS profile a connection would get, and why.
    Explain(explain::ExplainArgs),
    /// Alarms: what is run when something happens.
    Alarm(alarm::AlarmArgs),
    /// Print what there is to configure.
    Config(ConfigArgs),
    /// A process of a running daemon; started by `run` and by nobody else.
    #[command(hide = true)]
    Worker,
    /// A process of a running daemon; started by `run` and by nobody else.
    #[command(hide = true)]
    Signer,
    /// A process of a running daemon; started by `run` and by nobody else.
    #[command(hide = true)]
    Helper,
    /// A process of a running daemon; started by `run` and by nobody else.
    #[command(hide = true)]
    Judge,
    /// Make the default Proxy Server certificate; started by `run` and by nobody else.
    #[command(hide = true)]
    DefaultCertificate(default_certificate::DefaultCertificateArgs),
    /// Give every power up and become the command for alarms; started by `run` and by nobody else.
    #[command(hide = true)]
    RunAlarm(alarm::AlarmCommandArgs),
    /// Confine this process and try what it may do: see `confine/probe.rs`.
    #[cfg(debug_assertions)]
    #[command(hide = true)]
    ConfineProbe(crate::confine::probe::Options),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum ConfigCommand {
    /// The manual page: each setting with type, unit, range, default and purpose, in Markdown.
    Reference,
    /// A JSON Schema (draft 2020-12) of the file, for editors.
    Schema,
    /// A file with every setting, in comments where it has a default.
    Example,
}

/// Run the command that the arguments name. Wrong arguments exit 2, a wrong configuration 64, a machine that lacks
/// something 69 (`check` only), a status or a reload without a daemon 3, any other failure 1.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Run => run(&cli.config),
        Command::Check => check::check(&cli.config),
        Command::Clear => clear(&cli.config),
        Command::Status(options) => status::status(&cli.config, &options),
        Command::Reload(options) => reload::reload(&cli.config, &options),
        Command::Ca(options) => ca::run(&cli.config, &options),
        Command::Action(ObjectArgs { command }) => {
            objects::run(&cli.config, ObjectKind::ProxyAction, &command)
        }
        Command::Profile(ObjectArgs { command }) => {
            objects::run(&cli.config, ObjectKind::TlsProfile, &command)
        }
        Command::Alarm(options) => alarm::run(&cli.config, options),
        Command::RunAlarm(options) => alarm::become_command(options),
        Command::Explain(traffic) => explain::explain(&cli.config, &traffic),
        Command::Config(ConfigArgs { command }) => print(&match command {
            ConfigCommand::Reference => config::reference(),
            ConfigCommand::Schema => config::schema(),
            ConfigCommand::Example => config::example(),
        }),
        Command::Worker => child(Role::Worker, crate::worker::run),
        Command::Signer => child(Role::Signer, |control, _| Ok(crate::signer::serve(control)?)),
        Command::Helper => child(Role::Helper, |control, _| crate::helper::serve(control)),
        Command::Judge => child(Role::Judge, |control, _| crate::judging::serve(control)),
        Command::DefaultCertificate(options) => default_certificate::make(&options),
        #[cfg(debug_assertions)]
        Command::ConfineProbe(options) => crate::confine::probe::run(&options),
    }
}

/// A process that `run` starts: it gives its powers up before it does anything else.
fn child(role: Role, serve: impl FnOnce(Channel, &Lines) -> anyhow::Result<()>) -> ExitCode {
    let control = match begin(role) {
        Ok(control) => control,
        Err(code) => return code,
    };
    let log = match log::to_stderr() {
        Ok(log) => log,
        Err(error) => {
            eprintln!("postern: {error}");
            return ExitCode::FAILURE;
        }
    };
    match serve(control, &log.lines) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the {} ends: {error:#}", role.as_str());
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path) -> ExitCode {
    let config = match accepted(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    // Not there, it is told below, where there is a log.
    let journal = journal::open();
    let log = match log::to_stderr() {
        Ok(log) => log,
        Err(error) => {
            eprintln!("postern: {error}");
            return match error {
                log::LogError::Filter(_) => ExitCode::from(EXIT_CONFIG),
                log::LogError::Thread(_) => ExitCode::FAILURE,
            };
        }
    };
    if let Err(error) = journal {
        tracing::warn!(
            %error,
            "journald's socket cannot be reached, so that records and log are lines of text: mount /run/systemd/journal"
        );
    }
    raise_descriptor_limit();
    let ended = crate::supervisor::run(config, path, &log.lines);
    journal::finish();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.say_end(&error);
            // A key that the signer cannot use, or rules of the scanner: a file is wrong, as those that were looked at before.
            let is_file = matches!(error.downcast_ref(), Some(SignerLoadError::Certificates(_)))
                || error.downcast_ref::<YaraError>().is_some()
                || error.downcast_ref::<RuleFilesError>().is_some();
            if is_file { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn clear(path: &Path) -> ExitCode {
    // Rules are known by their table; only kernel settings need the configuration, and it may be gone.
    match crate::supervisor::clear(config::load(path).ok().as_ref()) {
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

/// A reader that has seen enough may leave.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("postern: writing to stdout: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// The configuration, if it and the files that it names are there and readable; otherwise the faults are on stderr.
fn accepted(path: &Path) -> Result<Config, ExitCode> {
    let config = config::load(path).map_err(|error| {
        eprintln!("{error}");
        ExitCode::from(EXIT_CONFIG)
    })?;
    let unreadable: Vec<_> =
        check::files_but_keys(&config).into_iter().filter(check::Item::is_failure).collect();
    for item in &unreadable {
        eprintln!("{item}");
    }
    if unreadable.is_empty() { Ok(config) } else { Err(ExitCode::from(EXIT_CONFIG)) }
}

/// The soft limit is 1,024 by custom, for the sake of select(2), which is not used here.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit on open descriptors stays at its soft value; raise it with `ulimit -n`, or LimitNOFILE= in a systemd unit");
    }
}
