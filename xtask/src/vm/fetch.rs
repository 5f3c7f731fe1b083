//! The emulator and the kernels: Debian's packages, verified by apt, unpacked into the cache, never installed.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::kernel::{Kernel, Release};
use crate::apt::{Apt, BACKPORTS, unpacked};
use crate::tools;

/// The newest kernel that Debian has packaged and that is past its first testing.
const NEWEST: &str = "forky";
/// The emulator, its firmware, and what makes and loads lists of modules. Of backports: Debian 12's own QEMU 7.2 is
/// half as fast at emulating and crashed guests.
const EMULATOR_PACKAGES: [&str; 5] =
    ["qemu-system-x86", "qemu-system-data", "seabios", "kmod", "busybox-static"];
/// Holds virtiofsd; Debian 12's, because backports have none.
const SHARE_PACKAGE: &str = "qemu-system-common/bookworm";
/// Depends on the newest kernel of its suite that is made for virtual machines.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// Programs of the lab, unpacked.
pub(super) struct Programs {
    emulator: PathBuf,
    share: PathBuf,
}

impl Programs {
    /// From the cache, or fetched into it.
    pub(super) fn get() -> Result<Self> {
        let cache = cache()?;
        let programs = Self { emulator: cache.join("emulator"), share: cache.join("share") };
        unpacked(&programs.emulator, |into| {
            let apt = Apt::of_this_release(&cache)?;
            apt.download_with_dependencies(&EMULATOR_PACKAGES, Some(BACKPORTS), into)
        })?;
        unpacked(&programs.share, |into| {
            Apt::of_this_release(&cache)?.download(&[SHARE_PACKAGE.to_owned()], into)
        })?;
        let version = tools::output(programs.qemu().arg("--version")).with_context(|| {
            format!("QEMU does not start any more; remove {} to fetch it again", programs.emulator.display())
        })?;
        println!("vm: {}", version.lines().next().unwrap_or_default());
        Ok(programs)
    }

    pub(super) fn qemu(&self) -> Command {
        let mut command = self.command("usr/bin/qemu-system-x86_64");
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(self.emulator.join(data));
        }
        command
    }

    pub(super) fn virtiofsd(&self) -> PathBuf {
        self.share.join("usr/lib/qemu/virtiofsd")
    }

    /// Static: runs on the host and in the guest.
    pub(super) fn busybox(&self) -> PathBuf {
        self.emulator.join("bin/busybox")
    }

    /// Needs the libraries beside it.
    pub(super) fn kmod(&self) -> PathBuf {
        self.emulator.join("bin/kmod")
    }

    /// A search path for the libraries that came with the programs.
    pub(super) fn libraries(&self) -> String {
        let [usr, root] =
            ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|path| self.emulator.join(path));
        format!("{}:{}", usr.display(), root.display())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.emulator.join(program));
        command.env("LD_LIBRARY_PATH", self.libraries());
        command
    }

    /// A kernel from the cache, or fetched into it.
    pub(super) fn kernel(&self, release: &Release) -> Result<Kernel> {
        let Release::Path(path) = release else {
            let cache = cache()?;
            let home = cache.join(format!("linux-{release}"));
            unpacked(&home, |into| fetch_kernel(release, &cache, into).and_then(|()| self.index(into)))?;
            return Kernel::find(&home);
        };
        let kernel = Kernel::find(path)?;
        if !kernel.modules().join("modules.dep").exists() {
            self.index(path)?;
        }
        Ok(kernel)
    }

    /// Write the lists by which modules are found; Debian makes them at installation.
    fn index(&self, home: &Path) -> Result<()> {
        let kernel = Kernel::find(home)?;
        let mut depmod = self.command("bin/kmod");
        depmod.arg0("depmod").arg("-b").arg(home).arg(kernel.release());
        tools::run(&mut depmod)
    }
}

fn cache() -> Result<PathBuf> {
    Ok(tools::cache()?.join("vm"))
}

fn fetch_kernel(release: &Release, cache: &Path, into: &Path) -> Result<()> {
    match release {
        Release::Stable => {
            let apt = Apt::of_this_release(cache)?;
            apt.download(&[newest_kernel(&apt, None)?], into)
        }
        Release::Backport => {
            let apt = Apt::of_this_release(cache)?;
            apt.download(&[format!("{}/{BACKPORTS}", newest_kernel(&apt, Some(BACKPORTS))?)], into)
        }
        Release::Newest => {
            let apt = Apt::new(cache, NEWEST, &[NEWEST])?;
            let image = newest_kernel(&apt, None)?;
            let version = image.trim_start_matches("linux-image-");
            apt.download(&["base", "binary", "modules"].map(|part| format!("linux-{part}-{version}")), into)?;
            // The programs that load modules search one directory, which was `/lib` before `/usr` was merged.
            fs::rename(into.join("usr/lib"), into.join("lib"))
                .with_context(|| format!("{image} is not laid out as expected"))
        }
        Release::Path(_) => Ok(()),
    }
}

/// The name of the package that [`KERNEL_PACKAGE`] depends on, of this suite or of what apt prefers by itself.
fn newest_kernel(apt: &Apt, suite: Option<&str>) -> Result<String> {
    let mut show = apt.command("apt-cache");
    if let Some(suite) = suite {
        show.args(["-t", suite]);
    }
    let shown = tools::output(show.args(["show", "--no-all-versions", KERNEL_PACKAGE]))?;
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
    depends
        .split([',', ' '])
        .find(|word| word.starts_with("linux-image-"))
        .map(str::to_owned)
        .with_context(|| format!("{KERNEL_PACKAGE} names no kernel: {depends:?}"))
}
