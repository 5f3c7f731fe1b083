/// The files that the configuration names.
mod files;
/// What proxy actions say of logins and of mail.
mod actions;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caps::{CapSet, Capability};
use rustix::process::{Resource, getrlimit};

use self::actions::{exempt, judging, logins};
pub(super) use self::files::{files, files_but_keys};
use super::{EXIT_CONFIG, EXIT_MACHINE, firewall, guard, policies, steering};
use crate::accept::{
    self, Memory, Room, SocketBuffers, descriptors_for, descriptors_reserved, sessions_within,
};
use crate::clock;
use crate::config::{self, Config, InterfaceName, Offload, UNNAMED_ACTION};
use crate::layer::offload::OffloadTerms;
use crate::steering::firewall::{read_legacy, read_ruleset};
use crate::supervisor::{CAPABILITIES_NEEDED, look_at_state};
use crate::vault::MEMORY_FILE_BYTES_MAX;
use crate::words::Size;
use crate::worker::thread_count;

/// Oldest kernel that is tested: Debian 12's.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// Interfaces that a pattern matches are named up to here.
const INTERFACES_SHOWN_MAX: usize = 8;
/// Below this an office notices.
const SESSIONS_FEW: u64 = 1000;

/// How an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    level: Level,
    thing: String,
    value: String,
    remedy: String,
}

impl Item {
    pub(super) fn ok(thing: impl Into<String>, value: impl Into<String>) -> Self {
        Self { level: Level::Ok, thing: thing.into(), value: value.into(), remedy: String::new() }
    }

    pub(super) fn warn(
        thing: impl Into<String>,
        value: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warn, thing: thing.into(), value: value.into(), remedy: remedy.into() }
    }

    pub(super) fn fail(
        thing: impl Into<String>,
        value: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Fail, thing: thing.into(), value: value.into(), remedy: remedy.into() }
    }

    /// The same of a proxy action with a name.
    fn under(mut self, action: &str) -> Self {
        if action != UNNAMED_ACTION {
            self.thing = format!("{} under {action}", self.thing);
        }
        self
    }

    pub(super) fn is_failure(&self) -> bool {
        self.level == Level::Fail
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        write!(f, "{level}  {}: {}", self.thing, self.value)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " — {}", self.remedy) }
    }
}

pub(super) fn check(path: &Path) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    println!("{}", Item::ok("configuration", path.display().to_string()));
    let files = files(&config);
    let mut machine = Machine::here(&config).examine(&config);
    machine.extend(steering::items(&config));
    machine.extend(firewall::items(&config, read_ruleset(), &read_legacy()));
    for item in files.iter().chain(&machine) {
        println!("{item}");
    }
    let count = |level| files.iter().chain(&machine).filter(|item| item.level == level).count();
    let (warnings, failures) = (count(Level::Warn), count(Level::Fail));
    let verdict = if failures == 0 { "ready" } else { "not ready" };
    println!("{verdict}: {failures} to correct, {warnings} to consider; nothing was changed");
    if files.iter().any(Item::is_failure) {
        ExitCode::from(EXIT_CONFIG)
    } else if failures > 0 {
        ExitCode::from(EXIT_MACHINE)
    } else {
        ExitCode::SUCCESS
    }
}

/// What is looked at, so that a test can show another machine.
struct Machine {
    /// Where `/proc` and `/sys` stand.
    root: PathBuf,
    release: String,
    capabilities: Vec<Capability>,
    /// Open descriptors: the hard limit, to which `run` raises its own; `None` is unlimited.
    descriptors: Option<u64>,
    layers: OffloadTerms,
}

impl Machine {
    fn here(config: &Config) -> Self {
        let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
        Self {
            root: PathBuf::from("/"),
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            capabilities: effective.into_iter().collect(),
            descriptors: getrlimit(Resource::Nofile).maximum,
            layers: OffloadTerms::find(config.offload()),
        }
    }

    fn examine(&self, config: &Config) -> Vec<Item> {
        let mut items = policies::items(config);
        items.extend(guard::items(config));
        for (name, action) in config.actions_in_use() {
            items.extend(logins(action).into_iter().map(|item| item.under(name)));
        }
        items.extend(exempt(config));
        items.push(clock());
        items.push(self.kernel());
        items.extend(CAPABILITIES_NEEDED.map(|(capability, purpose)| self.capability(capability, purpose)));
        let interfaces = config.steering.ingress.iter().map(|name| ("ingress", name));
        let interfaces = interfaces.chain(config.steering.egress.iter().map(|name| ("egress", name)));
        items.extend(interfaces.map(|(side, name)| self.interface(side, name)));
        items.push(self.tun());
        items.push(self.forwarding("net/ipv4/ip_forward"));
        items.push(self.forwarding("net/ipv6/conf/all/forwarding"));
        items.push(self.migration());
        items.push(self.descriptor_limit(config));
        items.extend(self.room(config));
        if config.judges_mail() {
            items.push(self.state(config));
        }
        items.push(self.socket_buffers(config));
        items.push(self.kernel_tls());
        if self.layers.mode == Offload::Auto {
            items.push(Item::ok("record layer", self.layers.choice()));
        }
        items
    }

    fn kernel(&self) -> Item {
        let mut numbers =
            self.release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version >= KERNEL_MIN {
            return Item::ok("kernel", self.release.as_str());
        }
        let (major, minor) = KERNEL_MIN;
        Item::fail("kernel", self.release.as_str(), format!("install {major}.{minor} or newer"))
    }

    fn capability(&self, capability: Capability, purpose: &str) -> Item {
        let thing = format!("capability {capability}");
        if self.capabilities.contains(&capability) {
            return Item::ok(thing, "held");
        }
        Item::fail(
            thing,
            format!("not held, {purpose}"),
            "run as root, or grant it (AmbientCapabilities= where a systemd unit starts Postern)",
        )
    }

    fn interface(&self, side: &str, pattern: &InterfaceName) -> Item {
        let name = pattern.as_str();
        let thing = format!("{side} {name}");
        if pattern.is_pattern() {
            return Item::ok(thing, self.matched(pattern));
        }
        let directory = self.root.join("sys/class/net").join(name);
        if !directory.exists() {
            let remedy =
                "`postern run` serves it as soon as it appears; if it never will, correct [steering]";
            return Item::warn(thing, "no such interface", remedy);
        }
        match std::fs::read_to_string(directory.join("operstate")).unwrap_or_default().trim() {
            "down" => Item::warn(thing, "down", format!("ip link set {name} up")),
            state => Item::ok(thing, state),
        }
    }

    /// What a pattern stands for now.
    fn matched(&self, pattern: &InterfaceName) -> String {
        let entries = std::fs::read_dir(self.root.join("sys/class/net")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| pattern.means(name)).collect();
        names.sort();
        match names.len() {
            0 => "matches no interface yet".to_owned(),
            1..=INTERFACES_SHOWN_MAX => format!("matches {}", names.join(", ")),
            count => format!("matches {count} interfaces"),
        }
    }

    /// The local route lies on a TUN device.
    fn tun(&self) -> Item {
        if self.root.join("dev/net/tun").exists() {
            return Item::ok("/dev/net/tun", "present");
        }
        let remedy = "modprobe tun, or allow the device in the container (DeviceAllow=/dev/net/tun rw)";
        Item::fail("/dev/net/tun", "absent, on_exit cannot be held without it", remedy)
    }

    fn sysctl(&self, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join("proc/sys").join(name)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Steered mail is delivered locally, but everything else, destinations under `bypass` excepted, is forwarded.
    fn forwarding(&self, name: &str) -> Item {
        let key = name.replace('/', ".");
        match self.sysctl(name).as_deref() {
            Some("0") => Item::warn(
                key.as_str(),
                "0, only steered mail passes this machine",
                format!("if it is a gateway for the rest, sysctl -w {key}=1"),
            ),
            Some(value) => Item::ok(key, value),
            None => {
                Item::warn(key, "absent", "this kernel lacks the protocol; its mail cannot be taken over")
            }
        }
    }

    /// With it a connection in the queue of a closing listener moves to another (Documentation/networking/ip-sysctl).
    fn migration(&self) -> Item {
        const KEY: &str = "net.ipv4.tcp_migrate_req";
        match self.sysctl("net/ipv4/tcp_migrate_req").as_deref() {
            Some("0") => Item::ok(KEY, "0, `postern run` sets it to 1"),
            Some(value) => Item::ok(KEY, value),
            None => Item::fail(KEY, "absent", "install a kernel of 6.1 or newer"),
        }
    }

    /// What the kernel can do, and whether that is needed.
    fn kernel_tls(&self) -> Item {
        const THING: &str = "kernel TLS";
        match (self.layers.mode, &self.layers.abilities.absent) {
            (Offload::Always, Some(absent)) => Item::fail(
                THING,
                format!("none, every connection is refused (tls.offload is \"always\"): {}", absent.why),
                format!("{}; or tls.offload = \"auto\"", absent.remedy),
            ),
            _ => Item::ok(THING, self.layers.to_string()),
        }
    }

    /// The sessions that `run` admits here, and the memory that it gives them.
    fn room(&self, config: &Config) -> Vec<Item> {
        let memory = Memory::read(&self.root);
        let machine = accept::MachineResources { descriptors: self.descriptors, memory };
        let Room { bounds, memory, held, message, buffers_per_thread, narrowed } =
            Room::new(config, thread_count(config.steering.threads), &machine);
        let session = config.limits.session_memory;
        let value = format!(
            "{} for sessions ({}), {session} for one at most, {buffers_per_thread} buffers a thread",
            memory.size, memory.origin
        );
        let mut items = vec![Item::ok("memory", value)];
        for (name, action) in config.actions_in_use() {
            items.push(judging(action, held, message).under(name));
        }
        let sessions = format!("{}, {} of one client", bounds.sessions, bounds.sessions_per_client);
        items.push(Item::ok("sessions", sessions));
        let narrowed = narrowed.iter().map(|narrowed| Item::warn("limits", narrowed.to_string(), ""));
        items.extend(narrowed);
        items
    }

    /// Where the memory of verdicts and the spool are.
    fn state(&self, config: &Config) -> Item {
        const THING: &str = "state directory";
        let directory = &config.state.directory;
        let below = self.root.join(directory.strip_prefix("/").unwrap_or(directory));
        let free = match look_at_state(&below) {
            Ok(free) => Size(free),
            Err(error) => {
                let remedy = "until then verdicts and copies are kept in memory only";
                return Item::warn(THING, error.to_string(), remedy);
            }
        };
        let wanted = Size(config.limits.spool.0.saturating_add(MEMORY_FILE_BYTES_MAX));
        let value = format!(
            "{}, {free} free; {} at most for copies (limits.spool), {} for verdicts",
            directory.display(),
            config.limits.spool,
            Size(MEMORY_FILE_BYTES_MAX)
        );
        if free >= wanted {
            return Item::ok(THING, value);
        }
        Item::warn(
            THING,
            value,
            format!("make {wanted} free there, lower limits.spool, or set another state.directory"),
        )
    }

    /// The worker may not go beyond the machine's limits for its sockets to servers; those to clients are made by the
    /// supervisor, which may.
    fn socket_buffers(&self, config: &Config) -> Item {
        const THING: &str = "socket buffers";
        let asked = SocketBuffers::of_session(config.limits.session_memory).asked();
        let limits = ["net/core/rmem_max", "net/core/wmem_max"].map(|name| self.sysctl(name));
        let least = limits.into_iter().flatten().filter_map(|limit| limit.parse::<usize>().ok()).min();
        match least {
            Some(least) if least < asked / 2 => Item::warn(
                THING,
                format!(
                    "{asked} octets each (limits.session_memory), {least} towards servers: far servers are slow"
                ),
                format!(
                    "sysctl -w net.core.rmem_max={asked} net.core.wmem_max={asked}, or lower limits.session_memory"
                ),
            ),
            Some(least) if least < asked => Item::ok(
                THING,
                format!("{asked} octets each, {least} towards servers (net.core.rmem_max, wmem_max)"),
            ),
            _ => Item::ok(THING, format!("{asked} octets each")),
        }
    }

    fn descriptor_limit(&self, config: &Config) -> Item {
        const THING: &str = "open descriptors";
        let Some(limit) = self.descriptors else { return Item::ok(THING, "unlimited") };
        let reserved = descriptors_reserved(&config.steering, thread_count(config.steering.threads));
        let sessions = sessions_within(limit, reserved);
        let value = format!("{limit}, enough for {sessions} sessions");
        let wanted = config.limits.sessions.map_or(SESSIONS_FEW, u64::from);
        if sessions >= wanted {
            return Item::ok(THING, value);
        }
        let needed = descriptors_for(wanted, reserved);
        Item::warn(
            THING,
            value,
            format!(
                "for {wanted} sessions: `ulimit -Hn {needed}`, or LimitNOFILE={needed} in a systemd unit"
            ),
        )
    }
}

/// Whether certificates can be judged at the right time.
fn clock() -> Item {
    match clock::look() {
        None => Item::ok("clock", "not before this program was built"),
        Some(wrong) => Item::fail("clock", wrong.to_string(), ""),
    }
}

#[cfg(test)]
mod tests;
