use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use time::OffsetDateTime;

use super::ca::replace_file;
use crate::config::own_default;
use crate::handshake::mint::own_default::{OwnDefaultError, provide};

/// The state directory is root's alone, as the supervisor makes it.
const DIRECTORY_MODE: u32 = 0o700;

/// Arguments of the hidden command.
#[derive(Debug, Args)]
pub(super) struct DefaultCertificateArgs {
    /// The state directory.
    directory: PathBuf,
}

/// Says on stdout whether one was made.
pub(super) fn make(DefaultCertificateArgs { directory }: &DefaultCertificateArgs) -> ExitCode {
    match made(directory) {
        Ok(true) => {
            println!("made");
            ExitCode::SUCCESS
        }
        Ok(false) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn made(directory: &Path) -> Result<bool, OwnDefaultError> {
    let unwritable = |source| OwnDefaultError::Write { file: directory.to_owned(), source };
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory).map_err(unwritable)?;
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    provide(&own_default(directory), &machine, OffsetDateTime::now_utc(), |path, mode, octets| {
        replace_file(path, mode, octets).map_err(io::Error::other)
    })
}
