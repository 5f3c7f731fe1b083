//! The guest's first file system: a cpio archive in the "newc" form (Linux, driver-api/early-userspace/buffer-format).

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::fetch::Programs;
use super::kernel::Kernel;

/// What must be there before the host's file system is.
const FIRST_MODULES: [&str; 3] = ["virtio_pci", "virtiofs", "overlay"];
/// Makes a root out of the host's file system and goes there.
const INIT: &str = include_str!("../../../scripts/lab-guest-init.sh");
/// The first process in that root: runs the jobs.
const JOBS: &str = include_str!("../../../scripts/lab-guest-jobs.sh");

/// What the guest's programs see as their environment and shell variables, one `NAME=value` a line.
pub(super) type Settings = Vec<(&'static str, String)>;

/// Everything up to the first job.
pub(super) fn build(
    programs: &Programs,
    kernel: &Kernel,
    settings: &Settings,
    jobs: &str,
) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "proc", "sys", "modules", "lower", "rw", "new"] {
        archive.directory(directory)?;
    }
    let busybox = programs.busybox();
    let octets = fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    archive.file("bin/busybox", 0o755, &octets)?;
    archive.file("init", 0o755, INIT.as_bytes())?;
    archive.file("lab-guest-jobs.sh", 0o755, JOBS.as_bytes())?;
    let settings: Vec<String> =
        settings.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect();
    archive.file("settings", 0o644, settings.concat().as_bytes())?;
    archive.file("jobs", 0o644, jobs.as_bytes())?;
    for (at, module) in kernel.with_needed(&FIRST_MODULES)?.iter().enumerate() {
        archive.file(&format!("modules/{at:02}.ko"), 0o644, &plain(programs, module)?)?;
    }
    archive.end()
}

/// One word of a shell.
pub(super) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// A module's octets, decompressed.
fn plain(programs: &Programs, module: &Path) -> Result<Vec<u8>> {
    if module.extension().is_some_and(|extension| extension == "ko") {
        return fs::read(module).with_context(|| format!("cannot read {}", module.display()));
    }
    let output = Command::new(programs.busybox()).arg("xzcat").arg(module).output()?;
    ensure!(output.status.success(), "cannot decompress {}", module.display());
    Ok(output.stdout)
}

/// Entries, each with its header; names relative to the root.
#[derive(Default)]
struct Archive {
    octets: Vec<u8>,
    entries: u32,
}

impl Archive {
    const DIRECTORY: u32 = 0o040_755;
    const REGULAR: u32 = 0o100_000;

    fn directory(&mut self, name: &str) -> Result<()> {
        self.entry(name, Self::DIRECTORY, &[])
    }

    fn file(&mut self, name: &str, permissions: u32, content: &[u8]) -> Result<()> {
        self.entry(name, Self::REGULAR | permissions, content)
    }

    fn end(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.octets)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large for newc"))?;
        let name_size = u32::try_from(name.len() + 1)?;
        self.octets.extend_from_slice(b"070701");
        // Inode, mode, owner, group, links, time, size, device and special device (two numbers each), length of
        // the name, check sum.
        for field in [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
            self.octets.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.octets.extend_from_slice(name.as_bytes());
        self.octets.push(0);
        self.pad();
        self.octets.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}
