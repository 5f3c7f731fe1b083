//! Debian's packages, verified by apt, unpacked into the cache, never installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools;

/// The packages are of this release of Debian and of its backports; libraries come from the machine where it has
/// them, so the machine must be of the same release.
const CODENAME: &str = "bookworm";
/// QEMU 10 and Linux 6.12.
pub(crate) const BACKPORTS: &str = "bookworm-backports";
/// Debian's keys; they sign backports and the next release too, so apt verifies every package.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Make a directory by `fill`, whole or not at all.
pub(crate) fn unpacked(home: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if home.exists() {
        return Ok(());
    }
    let cache = home.parent().with_context(|| format!("{} has no place", home.display()))?;
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
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
    println!("fetching Debian packages into {}", home.display());
    fill(&part).with_context(|| format!("cannot fill {}", home.display()))?;
    fs::rename(&part, home).with_context(|| format!("cannot make {}", home.display()))
}

/// An apt with sources, lists and downloads of its own: the machine's own state is read and never changed.
pub(crate) struct Apt {
    home: PathBuf,
}

impl Apt {
    /// With the machine's own release, its updates and its backports.
    pub(crate) fn of_this_release(cache: &Path) -> Result<Self> {
        let updates = format!("{CODENAME}-updates");
        let security = format!("{CODENAME}-security");
        Self::new(cache, CODENAME, &[CODENAME, &updates, &security, BACKPORTS])
    }

    pub(crate) fn new(cache: &Path, name: &str, suites: &[&str]) -> Result<Self> {
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
                    "cannot read Debian's package lists of {}; the tests need them once",
                    suites.join(", ")
                )
            })?;
        Ok(apt)
    }

    pub(crate) fn command(&self, program: &str) -> Command {
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
    pub(crate) fn download_with_dependencies(
        &self,
        packages: &[&str],
        suite: Option<&str>,
        into: &Path,
    ) -> Result<()> {
        let archives = self.home.join("archives");
        empty_of_packages(&archives)?;
        let mut install = self.command("apt-get");
        install
            .args(["-qq", "--yes", "--no-install-recommends"])
            .args(suite.map(|suite| format!("--target-release={suite}")))
            // Packages that are installed on the machine are needed here, too.
            .args(["--download-only", "--reinstall", "install"])
            .args(packages);
        tools::run(&mut install)?;
        unpack_all(&archives, into)
    }

    /// Download these, given as `package` or `package/suite`, and unpack them.
    pub(crate) fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        let archives = self.home.join("archives");
        empty_of_packages(&archives)?;
        let mut download = self.command("apt-get");
        tools::run(download.args(["-qq", "download"]).args(packages).current_dir(&archives))?;
        unpack_all(&archives, into)
    }
}

/// Where the machine gets its packages.
struct Mirrors(Vec<(String, String)>);

impl Mirrors {
    fn of_this_machine() -> Result<Self> {
        let mut list = Command::new("apt-get");
        list.args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"]);
        let shown = tools::output(&mut list).context("the tests fetch Debian packages with apt")?;
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
                "apt's sources name no {suite} of Debian 12 ({CODENAME}), from where the tests take servers and the \
                 kernel lab's QEMU"
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
