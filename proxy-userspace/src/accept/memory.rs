//! How much memory sessions may take on this machine.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::words::Size;

/// Assumed where the machine's memory is not known.
const MEMORY_UNKNOWN: Size = Size(512 * 1024 * 1024);
/// Sessions get one part in so many of the machine's memory. The rest is for what is not counted here: the kernel's own
/// memory, buffers of directions that wait, other programs.
const MEMORY_SHARE: u64 = 2;

/// The machine's memory, read once at the start and once at each reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// `MemAvailable` (proc_meminfo(5)).
    available: Option<Size>,
    /// The lowest memory limit of the process's control group and of those above it, and the file that states it.
    cgroup: Option<(Size, PathBuf)>,
}

/// What sessions may take together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimit {
    /// Octets.
    pub size: Size,
    /// Where the size comes from, in an operator's words.
    pub origin: String,
}

impl Memory {
    /// Read `/proc` and `/sys` below this root. What cannot be read is unknown.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let meminfo = std::fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let limits = groups.lines().flat_map(|line| group_limits(root, line));
        Self { available: mem_available(&meminfo), cgroup: limits.min() }
    }

    /// The same, but with no less available than before. What Postern's own sessions hold is not available, and a
    /// reload under load must not take their room away.
    #[must_use]
    pub fn no_less_than(mut self, before: &Self) -> Self {
        self.available = self.available.max(before.available);
        self
    }

    /// The lower of the available memory and the control group's limit, with its origin in an operator's words.
    #[must_use]
    pub fn least(&self) -> Option<(Size, String)> {
        let available = self.available.map(|size| (size, format!("MemAvailable ({size})")));
        let cgroup = self.cgroup.as_ref().map(|(size, file)| (*size, format!("{} ({size})", file.display())));
        available.into_iter().chain(cgroup).min_by_key(|(size, _)| *size)
    }

    /// The default of `limits.memory`: half of the machine's memory.
    #[must_use]
    pub(super) fn default_limit(&self) -> MemoryLimit {
        match self.least() {
            Some((Size(least), origin)) => {
                MemoryLimit { size: Size(least / MEMORY_SHARE), origin: format!("half of {origin}") }
            }
            None => {
                let origin = "this machine does not say what it has: set limits.memory".to_owned();
                MemoryLimit { size: MEMORY_UNKNOWN, origin }
            }
        }
    }
}

fn mem_available(meminfo: &str) -> Option<Size> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Size(kibibytes.saturating_mul(1024)))
}

/// The limits along the path of one line of `/proc/self/cgroup` (cgroups(7)): `0::PATH` in version 2, `N:memory:PATH`
/// in version 1. In a container the path may be another namespace's; then the root of the mount is all there is.
fn group_limits(root: &Path, line: &str) -> Vec<(Size, PathBuf)> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return Vec::new() };
    let (mount, name) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        list if list.split(',').any(|controller| controller == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let own = Path::new(path.trim_start_matches('/'));
    let limit = |group: &Path| {
        let file = Path::new(mount).join(group).join(name);
        let text = std::fs::read_to_string(root.join(&file)).ok()?;
        // "max" stands for no limit.
        let octets = text.trim().parse().ok()?;
        Some((Size(octets), Path::new("/").join(file)))
    };
    own.ancestors().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Memory {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Memory::read(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable:    8388608 kB\n");

    fn limit(files: &[(&str, &str)]) -> (u64, String) {
        let MemoryLimit { size, origin } = machine(files).default_limit();
        (size.0 >> 20, origin)
    }

    #[test]
    fn sessions_get_half_of_what_is_available() {
        assert_eq!(limit(&[MEMINFO]), (4096, "half of MemAvailable (8 GiB)".to_owned()));
        let roomy = ("sys/fs/cgroup/a/memory.max", "17179869184\n");
        assert_eq!(limit(&[MEMINFO, ("proc/self/cgroup", "0::/a\n"), roomy]).0, 4096);
    }

    #[test]
    fn the_least_limit_of_the_own_group_and_those_above_counts_if_there_is_less() {
        let own = ("proc/self/cgroup", "0::/system.slice/postern.service\n");
        let slice = ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n");
        let service = |max| ("sys/fs/cgroup/system.slice/postern.service/memory.max", max);
        let of_slice = (512, "half of /sys/fs/cgroup/system.slice/memory.max (1 GiB)".to_owned());
        assert_eq!(limit(&[MEMINFO, own, slice, service("max\n")]), of_slice);
        assert_eq!(limit(&[MEMINFO, own, slice, service("2147483648\n")]), of_slice);
        assert_eq!(limit(&[MEMINFO, own, slice, service("268435456\n")]).0, 128);
    }

    #[test]
    fn groups_of_version_1_count_too_and_a_container_sees_its_own_root() {
        let own = ("proc/self/cgroup", "5:devices:/x\n4:cpu,memory:/y/z\n0::/\n");
        let unlimited = ("sys/fs/cgroup/memory/y/memory.limit_in_bytes", "9223372036854771712\n");
        let root = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n");
        assert_eq!(limit(&[MEMINFO, own, unlimited]).0, 4096);
        assert_eq!(limit(&[MEMINFO, own, unlimited, root]).0, 256);
    }

    #[test]
    fn a_machine_that_says_nothing_has_little() {
        let (mebibytes, origin) = limit(&[("proc/self/cgroup", "nonsense\n0:\n")]);
        assert!(mebibytes == 512 && origin.contains("set limits.memory"), "{origin}");
    }

    #[test]
    fn a_reload_under_load_has_the_memory_of_the_start_and_the_groups_of_now() {
        let own = ("proc/self/cgroup", "0::/a\n");
        let start = machine(&[MEMINFO]);
        let now = machine(&[("proc/meminfo", "MemAvailable: 1048576 kB\n")]);
        assert_eq!(now.no_less_than(&start).default_limit().size.0 >> 20, 4096);
        let narrower = machine(&[own, ("sys/fs/cgroup/a/memory.max", "1073741824\n")]);
        assert_eq!(narrower.no_less_than(&start).default_limit().size.0 >> 20, 512);
    }
}
