use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::EXIT_NOT_RUNNING;
use crate::admin::{self, AdminError, ReloadAnswer, ReloadOutcome};
use crate::config;

/// Arguments of `postern reload`.
#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    /// End the sessions that the new policies would refuse.
    #[arg(long)]
    cut: bool,
    /// The daemon's admin socket, instead of the one that the configuration names.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// The daemon reads its own file, whatever `--config` names here; this one only says where the daemon listens.
pub(super) fn reload(config: &Path, options: &ReloadArgs) -> ExitCode {
    let socket = options.socket.clone().unwrap_or_else(|| config::admin_socket(config));
    match admin::reload(&socket, options.cut) {
        Ok(ReloadAnswer { outcome: ReloadOutcome::Reloaded { generation, cut }, .. }) => {
            println!("configuration reloaded (generation {generation})");
            match cut {
                Some(sessions) => println!("{sessions} sessions that the new policies refuse were cut"),
                None if options.cut => println!(
                    "how many sessions were cut is not known: a mail thread did not answer in time, or the worker died or the \
                     daemon stops, which cuts all; look at the log"
                ),
                None => {}
            }
            ExitCode::SUCCESS
        }
        Ok(ReloadAnswer { outcome: ReloadOutcome::NotReloaded { faults }, .. }) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            eprintln!("postern: configuration NOT reloaded, the old one stays in force");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("postern: {error}");
            let is_absent = matches!(error, AdminError::NotRunning { .. });
            if is_absent { ExitCode::from(EXIT_NOT_RUNNING) } else { ExitCode::FAILURE }
        }
    }
}
