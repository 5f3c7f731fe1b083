use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Args, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

use super::check::Item;
use super::{EXIT_CONFIG, EXIT_NOT_RUNNING};
use crate::admin::{self, AdminError};
use crate::config::{self, Config};
use crate::confine::{Identity, alarm_identity, become_powerless};
use crate::handshake::verify::webhook_roots;

/// As shells end for a command that is there and cannot be run.
const EXIT_NOT_RUN: u8 = 126;
/// Open descriptors, by custom: programs that use select(2) rely on it.
const DESCRIPTORS_CUSTOMARY: u64 = 1024;
/// May be executed, or gone through, by anybody.
const OTHERS_EXECUTE: u32 = 0o001;
/// May be written by others than the owner.
const OTHERS_WRITE: u32 = 0o022;
/// In such a directory nobody removes or renames what belongs to another.
const STICKY: u32 = 0o1000;

/// Arguments of `postern alarm`.
#[derive(Debug, Args)]
pub(super) struct AlarmArgs {
    #[command(subcommand)]
    command: AlarmTask,
}

#[derive(Clone, Debug, Subcommand)]
enum AlarmTask {
    /// Have the running daemon raise an alarm, to see whether it arrives.
    Test {
        /// The daemon's admin socket, in place of the configuration's.
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
}

/// Arguments of the hidden command.
#[derive(Debug, Args)]
pub(super) struct AlarmCommandArgs {
    #[arg(long)]
    user_id: u32,
    #[arg(long)]
    group_id: u32,
    program: OsString,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(super) fn run(config: &Path, AlarmArgs { command }: AlarmArgs) -> ExitCode {
    let AlarmTask::Test { socket } = command;
    let socket = match socket.map_or_else(|| config::load(config).map(|config| config.admin.socket), Ok) {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match admin::test_alarm(&socket) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("postern: {error}");
            let is_absent = matches!(error, AdminError::NotRunning { .. });
            if is_absent { ExitCode::from(EXIT_NOT_RUNNING) } else { ExitCode::FAILURE }
        }
    }
}

/// Become the command for alarms, in a session of its own and without any power. Returns only where that fails.
pub(super) fn become_command(
    AlarmCommandArgs { user_id, group_id, program, arguments }: AlarmCommandArgs,
) -> ExitCode {
    if let Err(error) = become_powerless(Identity { uid: user_id, gid: group_id }) {
        eprintln!("it is not run, because its powers cannot be given up: {error}");
        return ExitCode::from(EXIT_NOT_RUN);
    }
    // The leader of a process group cannot make a session, and a child that was just made leads none.
    let _ = setsid();
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = Some(maximum.map_or(DESCRIPTORS_CUSTOMARY, |maximum| maximum.min(DESCRIPTORS_CUSTOMARY)));
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("it cannot be executed: {error}; `postern check` says more");
    ExitCode::from(EXIT_NOT_RUN)
}

/// The part of `postern check` about alarms.
pub(super) fn items(config: &Config) -> Vec<Item> {
    let wanted = config.actions_in_use().any(|(_, action)| !action.alarms.is_empty());
    let items: Vec<_> = command_item(config).into_iter().chain(webhook_item(config)).collect();
    if items.is_empty() && wanted {
        let value = "none: action.alarms lists events, and nobody is told of them";
        return vec![Item::warn("alarm command", value, "set alarm.command or alarm.webhook")];
    }
    items
}

fn command_item(config: &Config) -> Option<Item> {
    const THING: &str = "alarm command";
    let program = config.alarm.command.first()?;
    let uid = alarm_identity(&config.alarm).uid;
    Some(match fault(Path::new(program), uid) {
        None => Item::ok(THING, format!("{program}, as user {uid}")),
        Some((what, remedy)) => Item::fail(THING, format!("{program}: {what}"), remedy),
    })
}

/// What can be said without posting: the path of the URL is not shown, because it is often a secret.
fn webhook_item(config: &Config) -> Option<Item> {
    const THING: &str = "alarm webhook";
    let url = config.alarm.webhook.as_ref()?.url();
    let origin = url.origin();
    Some(if !url.is_tls() {
        let what = format!("{origin}: whoever is on the way reads alarms, and the URL");
        Item::warn(THING, what, "write an https:// URL in alarm.webhook")
    } else {
        match webhook_roots(&config.unnamed_profile) {
            Ok(roots) => Item::ok(THING, format!("{origin}, vouched for by one of {} roots", roots.len())),
            Err(error) => Item::fail(THING, format!("{origin}: {error}"), "correct tls.roots"),
        }
    })
}

/// What keeps the command from being run, or lets others than root decide what is run; and the remedy.
fn fault(program: &Path, uid: u32) -> Option<(String, String)> {
    let real = match fs::canonicalize(program) {
        Ok(real) => real,
        Err(error) => return Some((error.to_string(), "correct alarm.command".to_owned())),
    };
    for (at, path) in real.ancestors().enumerate() {
        let shown = path.display();
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return Some((format!("{shown}: {error}"), "run as root".to_owned())),
        };
        let mode = metadata.mode();
        if at == 0 && !metadata.is_file() {
            return Some(("it is no file".to_owned(), "correct alarm.command".to_owned()));
        }
        if metadata.uid() != 0 {
            let what = format!("{shown} belongs to user {}, who decides what is run", metadata.uid());
            return Some((what, format!("chown root {shown}")));
        }
        let is_sticky_directory = at > 0 && mode & STICKY != 0;
        if mode & OTHERS_WRITE != 0 && !is_sticky_directory {
            let what = format!(
                "{shown} has mode {:04o}, so that others than root decide what is run",
                mode & 0o7777
            );
            return Some((what, format!("chmod go-w {shown}")));
        }
        if mode & OTHERS_EXECUTE == 0 {
            let verb = if at == 0 { "execute" } else { "go through" };
            let what = format!("user {uid} may not {verb} {shown}, which has mode {:04o}", mode & 0o7777);
            return Some((what, format!("chmod o+x {shown}")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_command_that_others_could_change_or_that_its_user_cannot_run_is_told_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let inner = directory.path().join("bin");
        fs::create_dir(&inner).unwrap();
        let program = inner.join("notify");
        let said = || fault(&program, 60996).map(|(what, _)| what).unwrap_or_default();
        assert!(said().contains("No such file"), "{}", said());
        fs::write(&program, "#!/bin/sh\n").unwrap();
        for path in [directory.path(), &inner] {
            mode(path, 0o755);
        }
        for (of_file, of_directory, words) in [
            (0o755, 0o755, ""),
            (0o744, 0o755, "user 60996 may not execute"),
            (0o775, 0o755, "notify has mode 0775, so that others than root decide"),
            (0o757, 0o755, "decide what is run"),
            (0o755, 0o777, "bin has mode 0777, so that others than root decide"),
            (0o755, 0o1777, ""),
            (0o755, 0o700, "user 60996 may not go through"),
        ] {
            mode(&program, of_file);
            mode(&inner, of_directory);
            assert!(said().contains(words) && said().is_empty() == words.is_empty(), "{words:?}: {}", said());
        }
        mode(&inner, 0o755);
        std::os::unix::fs::chown(&program, Some(700), None).unwrap();
        assert!(said().contains("belongs to user 700"), "{}", said());
        let link = directory.path().join("link");
        symlink(&program, &link).unwrap();
        assert!(fault(&link, 60996).is_some(), "what the link leads to counts");
        assert_eq!(fault(&inner, 60996).unwrap().0, "it is no file");
    }
}
