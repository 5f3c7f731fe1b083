use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caps::{CapSet, Capability};
use rustix::process::{Resource, getrlimit};

use super::{EXIT_CONFIG, EXIT_MACHINE, alarm, certificates, firewall, guard, policies, scanner, steering};
use crate::accept::{
    self, Memory, Room, SocketBuffers, descriptors_for, descriptors_reserved, sessions_within,
};
use crate::clock;
use crate::config::{
    self, Action, Config, ContentSettings, DefaultCertificate, ImplicitTls, Inspection, InterfaceName, Ocsp,
    Offload, PolicyRule, StartTls, Tls, UNNAMED_ACTION, UNNAMED_PROFILE,
};
use crate::content::ContentMaterial;
use crate::handshake::revocation::lists::{self, RevocationList};
use crate::handshake::{Trust, TrustError, TrustMaterial};
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
/// Certificates and keys are a few KiB, a bundle of roots a few hundred.
const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

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

/// The files that the configuration names: there, readable, of the right kind, and good for what they are for.
pub(super) fn files(config: &Config) -> Vec<Item> {
    let mut items = examine(config, key, |config| Trust::load(config).map(drop));
    items.extend(certificates::items(config));
    items.extend(scanner::items(config));
    items.extend(alarm::items(config));
    items.extend(hashes(config));
    items
}

/// The same without a look into private keys: in a daemon they are the signer's.
pub(super) fn files_but_keys(config: &Config) -> Vec<Item> {
    let mut items = examine(config, unread_key, |config| TrustMaterial::read(config).map(drop));
    items.extend(hashes(config));
    items
}

/// Files of hashes, where some are listed.
fn hashes(config: &Config) -> Option<Item> {
    const THING: &str = "files of hashes";
    let mut actions = config.actions_in_use();
    let is_listed = actions.any(|(_, action)| !action.content.hash_files.is_empty());
    is_listed.then(|| match ContentMaterial::read(config) {
        Ok(material) => Item::ok(THING, format!("{} hashes", material.count())),
        Err(error) => Item::fail(THING, error.to_string(), "correct action.content.hash_files"),
    })
}

fn examine(
    config: &Config,
    key: impl Fn(&str, &Path, &str) -> Item,
    judge: impl FnOnce(&Config) -> Result<(), TrustError>,
) -> Vec<Item> {
    let authority = &config.certificates.authority;
    let mut items = vec![
        certificate("authority certificate", &authority.cert, "make one with `postern ca init`"),
        key("authority key", &authority.key, "make one with `postern ca init`"),
    ];
    for server in &config.certificates.server {
        let names = server.names.join(", ");
        items.push(certificate(
            &format!("certificate of {names}"),
            &server.files.cert,
            "correct certificates.server",
        ));
        items.push(key(&format!("key of {names}"), &server.files.key, "correct certificates.server"));
    }
    match config.default_certificate() {
        Some(DefaultCertificate { files, is_own: true }) if !files.cert.exists() => {
            let value = format!("{}, made by the first `postern run`", files.cert.display());
            items.push(Item::ok("default certificate", value));
        }
        Some(DefaultCertificate { files, .. }) => {
            const REMEDY: &str = "correct certificates.default";
            items.push(certificate("default certificate", &files.cert, REMEDY));
            items.push(key("default key", &files.key, REMEDY));
        }
        None => {}
    }
    let roots: BTreeSet<_> = config.profiles_in_use().flat_map(|(_, profile)| profile.root_files()).collect();
    let root = |path: &PathBuf| certificate("root certificates", path, "correct `roots` of the TLS profile");
    items.extend(roots.into_iter().map(root));
    for (name, profile) in config.profiles_in_use() {
        let lists = revocation_lists(profile);
        items.extend(
            lists.into_iter().map(|item| if name == UNNAMED_PROFILE { item } else { item.under(name) }),
        );
    }
    // Whether authorities may sign, roots are roots, and, in `check`, keys belong to certificates.
    if !items.iter().any(Item::is_failure)
        && let Err(error) = judge(config)
    {
        items.push(Item::fail("certificates", error.to_string(), "correct the file that is named"));
    }
    items
}

fn certificate(thing: &str, path: &Path, absent: &str) -> Item {
    match pem(path) {
        Err(error) => unreadable(thing, path, &error, absent),
        Ok((text, _)) if text.contains("-----BEGIN CERTIFICATE-----") => {
            Item::ok(thing, path.display().to_string())
        }
        Ok(_) => Item::fail(
            thing,
            format!("{} holds no PEM certificate", path.display()),
            "convert it with `openssl x509`",
        ),
    }
}

/// The lists of revoked certificates of a profile.
fn revocation_lists(profile: &Tls) -> Vec<Item> {
    const THING: &str = "revoked certificates";
    let lists = match lists::read(profile) {
        Ok(lists) if lists.is_empty() && profile.ocsp == Ocsp::Strict => {
            let value =
                "servers that staple no good OCSP response are refused, and many staple none (tls.ocsp)";
            return vec![Item::warn(
                THING,
                value,
                "list their authorities' lists in tls.crls, or use \"lenient\"",
            )];
        }
        Ok(lists) => lists,
        Err(error) => return vec![Item::fail(THING, error.to_string(), "")],
    };
    let item = |list: &RevocationList| {
        let next = list.next_update.as_deref().unwrap_or("not told");
        let value = format!("{} of \"{}\", next list: {next}", list.revoked, list.issuer);
        if list.is_outdated {
            Item::warn(THING, value, "fetch the authority's newest list")
        } else {
            Item::ok(THING, value)
        }
    };
    lists.iter().map(item).collect()
}

fn key(thing: &str, path: &Path, absent: &str) -> Item {
    let shown = path.display();
    match pem(path) {
        Err(error) => unreadable(thing, path, &error, absent),
        Ok((text, _)) if !text.contains("PRIVATE KEY-----") => {
            Item::fail(thing, format!("{shown} holds no PEM private key"), "convert it with `openssl pkey`")
        }
        Ok((text, _)) if text.contains("ENCRYPTED") => Item::fail(
            thing,
            format!("{shown} is encrypted"),
            "a daemon has nobody to ask for the passphrase: remove it with `openssl pkey` and keep mode 0600",
        ),
        Ok((_, mode)) => guarded(thing, path, mode),
    }
}

/// Whether others can read a private key.
fn guarded(thing: &str, path: &Path, mode: u32) -> Item {
    let shown = path.display();
    if mode & 0o077 == 0 {
        return Item::ok(thing, shown.to_string());
    }
    let seen = format!("{shown} has mode {:04o}, so that others can read it", mode & 0o7777);
    Item::fail(thing, seen, format!("chmod 600 {shown}"))
}

/// Whether it can be opened, and by its owner alone.
fn unread_key(thing: &str, path: &Path, absent: &str) -> Item {
    match File::open(path).and_then(|file| file.metadata()) {
        Err(error) => unreadable(thing, path, &error, absent),
        Ok(metadata) => guarded(thing, path, metadata.permissions().mode()),
    }
}

fn unreadable(thing: &str, path: &Path, error: &io::Error, absent: &str) -> Item {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => absent,
        io::ErrorKind::PermissionDenied => "run as root or as the user of the service",
        _ => "name a PEM file",
    };
    Item::fail(thing, format!("{}: {error}", path.display()), remedy)
}

/// The text and the mode of a PEM file.
fn pem(path: &Path) -> io::Result<(String, u32)> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut text = String::new();
    File::open(path)?.take(PEM_BYTES_MAX).read_to_string(&mut text)?;
    Ok((text, metadata.permissions().mode()))
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

/// Policies under which a server of anybody's can have a session exempt.
fn exempt(config: &Config) -> Vec<Item> {
    let exempts = |policy: &&PolicyRule| {
        policy.to.is_none()
            && config.action(policy.proxy_action.as_deref()).is_some_and(|action| {
                action.inspect == Inspection::Full && !action.privacy.exempt_accounts.is_empty()
            })
    };
    let warned = |policy: &PolicyRule| {
        Item::warn(
            format!("exempt accounts under policy {}", policy.name),
            "any server that takes such a name exempts the session (action.privacy.exempt_accounts)",
            "give the policy `to`, or use guard.tenant",
        )
    };
    config.policies.iter().filter(exempts).map(warned).collect()
}

/// Whether certificates can be judged at the right time.
fn clock() -> Item {
    match clock::look() {
        None => Item::ok("clock", "not before this program was built"),
        Some(wrong) => Item::fail("clock", wrong.to_string(), ""),
    }
}

/// How clients may log in, and settings under which none can.
fn logins(action: &Action) -> Vec<Item> {
    const THING: &str = "logins";
    const PORT: &str = "action.starttls = \"inspect\" or action.cleartext = \"inspect\" lets them";
    const WAY: &str = "list one in action.capabilities.mechanisms, or action.capabilities.login = true";
    let Action { starttls, cleartext, implicit, capabilities, .. } = action;
    let settings = format!(
        "starttls {}, cleartext {}, implicit {}{}",
        starttls.as_str(),
        cleartext.as_str(),
        implicit.as_str(),
        if capabilities.bar_logins() { ", no mechanism and no LOGIN" } else { "" }
    );
    let remedy = match (action.bars_logins(), capabilities.bar_logins()) {
        (true, true) => format!("{PORT}; and {WAY}"),
        (true, false) => PORT.to_owned(),
        (false, _) => WAY.to_owned(),
    };
    let mut items = vec![match barred(action) {
        Some(barred) => Item::warn(THING, format!("{barred} ({settings})"), remedy),
        None => Item::ok(THING, settings),
    }];
    if capabilities.need_unbound() {
        let value = format!(
            "only by {}, which is hidden where the server offers a -PLUS form of it: nobody can log in there",
            capabilities.mechanisms.join(", ")
        );
        items.push(Item::warn(THING, value, WAY));
    }
    let unjudged = [
        (*starttls == StartTls::Bypass, "behind STARTTLS (action.starttls)"),
        (*implicit == ImplicitTls::Allow, "under implicit TLS (action.implicit)"),
    ];
    let unjudged: Vec<_> = unjudged.into_iter().filter_map(|(is, what)| is.then_some(what)).collect();
    if action.inspect == Inspection::Full && !unjudged.is_empty() {
        let value = format!("mail is not judged {}", unjudged.join(" and "));
        items.push(Item::warn("TLS left alone", value, "\"inspect\" has it judged"));
    }
    items
}

/// Where nobody can log in, in words. Where TLS is left alone, nobody reads how a client logs in.
fn barred(action: &Action) -> Option<&'static str> {
    let inside = action.capabilities.bar_logins();
    let on_143 = action.bars_logins() || (inside && action.starttls != StartTls::Bypass);
    match (on_143, action.implicit) {
        (true, ImplicitTls::Inspect) if !inside => Some("nobody can log in on ports of STARTTLS"),
        (true, ImplicitTls::Allow) => Some("nobody can log in on ports of STARTTLS"),
        (true, ImplicitTls::Inspect | ImplicitTls::Deny) => Some("nobody can log in, on any port"),
        (false, ImplicitTls::Inspect) if inside => Some("nobody can log in under implicit TLS"),
        // Who denies implicit TLS has said so.
        (false, _) => None,
    }
}

/// What rules speak of, in words.
fn forbidden(content: &ContentSettings) -> String {
    let types: Vec<&str> = content.types.iter().map(|forbidden| forbidden.as_str()).collect();
    let types = if types.is_empty() { "no types".to_owned() } else { format!("types {}", types.join(", ")) };
    let mut forbidden = format!("{} patterns of file names, {types}", content.names.len());
    let lists: Vec<&str> = content.lists.iter().map(|list| list.as_str()).collect();
    if !lists.is_empty() {
        forbidden.push_str(&format!(", lists {}", lists.join(", ")));
    }
    let hashes = content.blocked_hashes.len();
    for (count, what) in [
        (content.name_rule.len(), "rules by name"),
        (content.type_rule.len(), "rules by type"),
        (content.list_rule.len(), "rules by list"),
        (hashes, "hashes"),
        (content.hash_files.len(), "files of hashes"),
    ] {
        if count > 0 {
            forbidden.push_str(&format!(", {count} {what}"));
        }
    }
    forbidden
}

/// How many rules are written that forbid something that is not forbidden without them.
fn written_rules(content: &ContentSettings) -> usize {
    let ContentSettings { lists, blocked_hashes, hash_files, name_rule, type_rule, list_rule, .. } = content;
    let rules = name_rule.len() + type_rule.len() + list_rule.len();
    rules + lists.len() + blocked_hashes.len() + hash_files.len()
}

/// Whether mail is judged, and by what.
fn judging(action: &Action, held: Size, message: Size) -> Item {
    const THING: &str = "judging";
    let content = &action.content;
    let forbidden = forbidden(content);
    let trusted: Vec<String> = action.trust_uid_immutability.iter().map(ToString::to_string).collect();
    let mail = match trusted.as_slice() {
        [] => "all mail".to_owned(),
        trusted => format!(
            "all mail, but known mail of {} in samples only (action.trust_uid_immutability)",
            trusted.join(", ")
        ),
    };
    match action.inspect {
        Inspection::Full => Item::ok(
            THING,
            format!(
                "{mail}, for EICAR, {forbidden}; messages of {message}, {held} at once, out of the memory"
            ),
        ),
        Inspection::None if content.names.is_empty() && written_rules(content) == 0 => {
            Item::ok(THING, "none, mail is relayed as it is (action.inspect)")
        }
        Inspection::None => Item::warn(
            THING,
            format!("none, though action.content lists {forbidden}"),
            "action.inspect = \"full\" makes them count",
        ),
    }
}

#[cfg(test)]
mod tests;
