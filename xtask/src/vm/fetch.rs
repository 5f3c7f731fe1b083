//! The emulator and the kernels: Debian's packages, verified by apt, unpacked into the cache, never installed.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kernel::{Kernel, Release};
use crate::tools;

/// The packages are of this release of Debian and of its backports; libraries come from the machine where it has
/// them, so the machine must be of the same release.
const CODENAME: &str = "bookworm";
/// QEMU 10 and Linux 6.12. Debian 12's own QEMU 7.2 is half as fast at emulating and crashed guests.
const BACKPORTS: &str = "bookworm-backports";
/// The newest kernel that Debian has packaged and that is past its first testing.
const NEWEST: &str = "forky";
/// Debian's keys; they sign backports and the next release too, so apt verifies every package.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The emulator, its firmware, and what makes and loads lists of modules.
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
            apt.download_with_dependencies(&EMULATOR_PACKAGES, into)
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
            apt.download(&[apt.newest_kernel(None)?], into)
        }
        Release::Backport => {
            let apt = Apt::of_this_release(cache)?;
            apt.download(&[format!("{}/{BACKPORTS}", apt.newest_kernel(Some(BACKPORTS))?)], into)
        }
        Release::Newest => {
            let apt = Apt::new(cache, NEWEST, &[NEWEST])?;
            let image = apt.newest_kernel(None)?;
            let version = image.trim_start_matches("linux-image-");
            apt.download(&["base", "binary", "modules"].map(|part| format!("linux-{part}-{version}")), into)?;
            // The programs that load modules search one directory, which was `/lib` before `/usr` was merged.
            fs::rename(into.join("usr/lib"), into.join("lib"))
                .with_context(|| format!("{image} is not laid out as expected"))
        }
        Release::Path(_) => Ok(()),
    }
}

/// Make a directory by `fill`, whole or not at all.
fn unpacked(home: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if home.exists() {
        return Ok(());
    }
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // Another checkout may fetch at the same time; the lock goes with the file.
    let lock = File::create(cache.join("lock"))?;
    lock.lock().with_context(|| format!("cannot lock {}", cache.display()))?;
    if home.exists() {
        return Ok(());
    }
    let part = home.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    println!("vm: fetching into {}", home.display());
    fill(&part).with_context(|| format!("cannot fill {}", home.display()))?;
    fs::rename(&part, home).with_context(|| format!("cannot make {}", home.display()))
}

/// An apt with sources, lists and downloads of its own: the machine's own state is read and never changed.
struct Apt {
    home: PathBuf,
}

impl Apt {
    /// With the machine's own release, its updates and its backports.
    fn of_this_release(cache: &Path) -> Result<Self> {
        let updates = format!("{CODENAME}-updates");
        let security = format!("{CODENAME}-security");
        Self::new(cache, CODENAME, &[CODENAME, &updates, &security, BACKPORTS])
    }

    fn new(cache: &Path, name: &str, suites: &[&str]) -> Result<Self> {
        let apt = Self { home: cache.join("apt").join(name) };
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(apt.home.join(part))?;
        }
        let mirrors = Mirrors::of_this_machine()?;
        let mut sources = String::new();
        for suite in suites {
            let mirror = mirrors.of(suite)?;
            sources.push_str(&format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {suite} main\n"));
        }
        fs::write(apt.home.join("sources.list"), sources)?;
        // Without this a mirror that does not answer is only a warning.
        tools::run(apt.command("apt-get").args(["-qq", "-o", "APT::Update::Error-Mode=any", "update"]))
            .with_context(|| {
                format!(
                    "cannot read Debian's package lists of {}; the kernel lab needs them once",
                    suites.join(", ")
                )
            })?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = |name: &str| self.home.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::Etc::Preferences=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::Cache={}", path("")),
            format!("Dir::Cache::Archives={}", path("archives")),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // apt's own user may not be able to read the cache.
            "APT::Sandbox::User=root".to_owned(),
            // Nothing is installed, so no other apt needs to be kept out.
            "Debug::NoLocking=true".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Download these and what they need that the machine has not, and unpack all of it.
    fn download_with_dependencies(&self, packages: &[&str], into: &Path) -> Result<()> {
        let archives = self.home.join("archives");
        empty_of_packages(&archives)?;
        let mut install = self.command("apt-get");
        install
            .args(["-qq", "--yes", "--no-install-recommends", "-t", BACKPORTS])
            // Packages that are installed on the machine are needed here, too.
            .args(["--download-only", "--reinstall", "install"])
            .args(packages);
        tools::run(&mut install)?;
        unpack_all(&archives, into)
    }

    /// Download these, given as `package` or `package/suite`, and unpack them.
    fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        let archives = self.home.join("archives");
        empty_of_packages(&archives)?;
        let mut download = self.command("apt-get");
        tools::run(download.args(["-qq", "download"]).args(packages).current_dir(&archives))?;
        unpack_all(&archives, into)
    }

    /// The name of the package that [`KERNEL_PACKAGE`] depends on, of this suite or of what apt prefers by itself.
    fn newest_kernel(&self, suite: Option<&str>) -> Result<String> {
        let mut show = self.command("apt-cache");
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
}

/// Where the machine gets its packages.
struct Mirrors(Vec<(String, String)>);

impl Mirrors {
    fn of_this_machine() -> Result<Self> {
        let mut list = Command::new("apt-get");
        list.args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"]);
        let shown = tools::output(&mut list).context("the kernel lab fetches Debian packages with apt")?;
        let pairs = shown.lines().filter_map(|line| line.split_once(' '));
        Ok(Self(pairs.map(|(suite, uri)| (suite.to_owned(), uri.to_owned())).collect()))
    }

    /// The mirror of the suite, or that of the machine's own release: a mirror has all suites.
    fn of(&self, suite: &str) -> Result<&str> {
        let named = |wanted: &str| self.0.iter().find(|(suite, _)| suite == wanted);
        let security = suite.ends_with("-security");
        match named(suite).or_else(|| named(CODENAME).filter(|_| !security)) {
            Some((_, uri)) => Ok(uri),
            None => bail!(
                "apt's sources name no {suite} of Debian 12 ({CODENAME}); the kernel lab's QEMU comes from there. \
                 On another system run the tests on a kernel with CONFIG_TLS of its own"
            ),
        }
    }
}

fn packages_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    Ok(packages)
}

fn empty_of_packages(directory: &Path) -> Result<()> {
    packages_in(directory)?.iter().try_for_each(|package| Ok(fs::remove_file(package)?))
}

fn unpack_all(from: &Path, into: &Path) -> Result<()> {
    for package in packages_in(from)? {
        tools::run(Command::new("dpkg").arg("-x").arg(&package).arg(into))?;
    }
    empty_of_packages(from)
}
