//! A stream whose reader is stuck: what it reads is a pipe that is full and stays so.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use anyhow::{Result, ensure};
use rustix::pipe::{fcntl_setpipe_size, pipe};

/// The smallest pipe that Linux makes (pipe(7)).
const PIPE_BYTES: usize = 4096;

/// A full pipe. While this exists, a write to it waits.
#[derive(Debug)]
pub struct Stuck {
    _read: OwnedFd,
    write: OwnedFd,
}

impl Stuck {
    /// Make it.
    ///
    /// # Errors
    /// When there is no pipe to be had, or none of this size.
    pub fn new() -> Result<Self> {
        let (read, write) = pipe()?;
        let bytes = fcntl_setpipe_size(&write, PIPE_BYTES)?;
        ensure!(bytes == PIPE_BYTES, "a pipe of {bytes} octets");
        std::fs::File::from(write.try_clone()?).write_all(&[b'\n'; PIPE_BYTES])?;
        Ok(Self { _read: read, write })
    }

    /// For a child's stdout or stderr.
    ///
    /// # Errors
    /// Without descriptors.
    pub fn stream(&self) -> Result<Stdio> {
        Ok(self.write.try_clone()?.into())
    }
}
