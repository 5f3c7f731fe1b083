//! To be written.

use anyhow::{Result, bail};

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Run the chore.
pub(crate) fn run(_args: &Args) -> Result<()> {
    bail!("not written yet")
}
