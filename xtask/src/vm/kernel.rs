//! Which kernel: its image and its modules, as a package of Debian lays them out.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// What `--kernel` may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Debian 12's own: the oldest that Postern supports.
    Stable,
    /// From Debian 12's backports: kernel TLS that cannot change keys.
    Backport,
    /// The newest that Debian has: kernel TLS that can.
    Newest,
    /// An unpacked kernel: a directory with `boot/vmlinuz-RELEASE` and `lib/modules/RELEASE`.
    Path(PathBuf),
}

impl Release {
    /// Those that are fetched, oldest first.
    pub(crate) const ALL: [Self; 3] = [Self::Stable, Self::Backport, Self::Newest];

    /// Major and minor number, at least.
    const fn at_least(&self) -> Option<(u32, u32)> {
        match self {
            Self::Stable => Some((6, 1)),
            Self::Backport => Some((6, 12)),
            Self::Newest => Some((7, 2)),
            Self::Path(_) => None,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.at_least()) {
            (Self::Path(path), _) => path.display().fmt(f),
            (_, Some((major, minor))) => write!(f, "{major}.{minor}"),
            (_, None) => Ok(()),
        }
    }
}

impl FromStr for Release {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let named = Self::ALL.into_iter().find(|release| release.to_string() == text);
        Ok(named.unwrap_or_else(|| Self::Path(text.into())))
    }
}

/// A kernel that can be booted.
pub(super) struct Kernel {
    image: PathBuf,
    modules: PathBuf,
    release: String,
}

impl Kernel {
    pub(super) fn find(home: &Path) -> Result<Self> {
        let all = home.join("lib/modules");
        let missing = || {
            format!(
                "{} is neither 6.1, 6.12 nor 7.2, nor an unpacked kernel: a directory with boot/vmlinuz-RELEASE and \
                 lib/modules/RELEASE",
                home.display()
            )
        };
        let mut releases = fs::read_dir(&all).with_context(missing)?;
        let modules = releases.next().with_context(missing)??.path();
        let modules = modules.canonicalize()?;
        let release = modules.file_name().with_context(missing)?.to_string_lossy().into_owned();
        // Newer packages keep the image among the modules.
        let images = [home.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
        let image = images.into_iter().find(|image| image.exists()).with_context(missing)?;
        Ok(Self { image, modules, release })
    }

    pub(super) fn image(&self) -> &Path {
        &self.image
    }

    /// The directory that `/lib/modules/RELEASE` is in the guest.
    pub(super) fn modules(&self) -> &Path {
        &self.modules
    }

    /// What `uname -r` says.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// Whether this is what was asked for: the suite of the newest moves.
    pub(super) fn answers(&self, asked: &Release) -> Result<()> {
        let Some(least) = asked.at_least() else { return Ok(()) };
        let mut numbers =
            self.release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let newer_is_fine = *asked == Release::Newest && version > least;
        if version != least && !newer_is_fine {
            bail!("asked for Linux {asked}, Debian's packages hold {}", self.release);
        }
        Ok(())
    }

    /// Modules with what they need, in an order in which they can be loaded; built-in ones are left out.
    pub(super) fn with_needed(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let list = self.modules.join("modules.dep");
        let list = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let mut order: Vec<PathBuf> = Vec::new();
        for name in names {
            let Some((module, needed)) = list
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(path, _)| module_name(path) == *name)
            else {
                continue;
            };
            // The list names the nearest first.
            for path in needed.split_whitespace().rev().chain([module]) {
                let path = self.modules.join(path);
                if !order.contains(&path) {
                    order.push(path);
                }
            }
        }
        Ok(order)
    }
}

/// `kernel/fs/overlayfs/overlay.ko.xz` is `overlay`.
fn module_name(path: &str) -> &str {
    path.rsplit('/').next().and_then(|file| file.split('.').next()).unwrap_or_default()
}
