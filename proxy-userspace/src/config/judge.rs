use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeTable;

use super::bounds::limits;
use super::fault::Reason;
use super::parse::Report;
use super::shape::{self, List, Number, Text};
use super::{
    Action, Admin, Certificates, ClearText, Config, ContentSettings, FaultPolicy, ForbiddenType, ImplicitTls,
    Inspection, InterfaceName, KeyFiles, Offload, OnExit, Processes, Reach, RecordLines, SIGNER_ID_DEFAULT,
    ServerCertificate, Source, StartTls, State, SteeringConfig, Tls, TlsVersion, Verdict, WORKER_ID_DEFAULT,
    names,
};

const STATE_DIRECTORY_DEFAULT: &str = "/var/lib/postern";
const ADMIN_SOCKET_DEFAULT: &str = "/run/postern/postern.sock";
/// `sun_path` without its NUL (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Networks are looked through one by one for each connection.
const NETWORKS_MAX: usize = 4096;
/// Entries are looked through one by one for each connection; four for each possible ingress.
const REACH_ENTRIES_MAX: usize = 4 * INTERFACES_MAX;
/// Each is parsed at start and on reload.
const SERVER_CERTIFICATES_MAX: usize = 4096;
/// Each is compared with each file name of each message.
const NAME_PATTERNS_MAX: usize = 1000;
/// The numbers of users and groups (chown(2): the one above means "leave it").
const ID_MAX: i64 = 4_294_967_294;
/// Interfaces that the steering program's map has room for; the same bound serves egress.
const INTERFACES_MAX: usize = proxy_ebpf::INGRESS_MAX as usize;

/// Every value is judged, even after a fault. `None` when a value that has no default is missing or wrong.
pub(super) fn judge(
    report: &mut Report<'_>,
    file: &shape::File,
    base: &Path,
    root: &DeTable<'_>,
) -> Option<Config> {
    let section = |name: &str| root.get(name).map(Spanned::span);
    let steering = steering(report, &file.steering, section("steering"));
    let tls = tls(report, &file.tls, base);
    let certificates = certificates(report, &file.certificates, base, section("certificates"));
    let action = action(report, &file.action);
    let on_exit = file.steering.on_exit.as_ref().and_then(|text| names::on_exit(text.get_ref()).ok());
    let limits = limits(report, &file.limits, on_exit.unwrap_or(OnExit::Closed), action.inspect);
    let state = state(report, &file.state, base);
    let admin = admin(report, &file.admin, base);
    let records = RecordLines {
        start: file.records.start.unwrap_or(true),
        clean_verdicts: file.records.clean_verdicts.unwrap_or(false),
    };
    let processes = processes(report, &file.process);
    let (steering, certificates) = (steering?, certificates?);
    Some(Config { steering, tls, certificates, action, limits, records, state, admin, processes })
}

fn steering(
    report: &mut Report<'_>,
    file: &shape::SteeringTable,
    near: Option<Range<usize>>,
) -> Option<SteeringConfig> {
    let mut seen = BTreeMap::new();
    let ingress = interfaces(report, "steering.ingress", file.ingress.as_ref(), near.clone(), &mut seen);
    let of_ingress = std::mem::take(&mut seen);
    let egress = interfaces(report, "steering.egress", file.egress.as_ref(), near, &mut seen);
    for name in file.egress.iter().flat_map(Spanned::get_ref) {
        if let Some(&first) = of_ingress.get(name.get_ref()) {
            report.add("steering.egress", name.span(), Reason::BothSides { first });
        }
    }
    let source = word(report, "steering.source", file.source.as_ref(), Source::Gateway, names::source);
    let on_exit = word(report, "steering.on_exit", file.on_exit.as_ref(), OnExit::Closed, names::on_exit);
    let threads = file.threads.as_ref().map(|threads| {
        let max = i64::from(proxy_ebpf::WORKERS_MAX);
        number(
            report,
            "steering.threads",
            Some(threads),
            1,
            (1, max),
            "one listener per thread, ingress and family",
        )
    });
    let reach = reach(report, file);
    Some(SteeringConfig { ingress: ingress?, egress: egress?, source, on_exit, threads, reach })
}

fn reach(report: &mut Report<'_>, file: &shape::SteeringTable) -> Vec<Reach> {
    if let Some(beyond) = file.reach.get(REACH_ENTRIES_MAX) {
        let reason = Reason::TooMany { count: file.reach.len(), max: REACH_ENTRIES_MAX };
        report.add("steering.reach", beyond.span().start..beyond.span().start, reason);
    }
    let entries = file.reach.iter().enumerate().take(REACH_ENTRIES_MAX);
    entries.filter_map(|(index, entry)| reach_entry(report, index, entry, file)).collect()
}

fn reach_entry(
    report: &mut Report<'_>,
    index: usize,
    entry: &Spanned<shape::ReachTable>,
    file: &shape::SteeringTable,
) -> Option<Reach> {
    let key = |name: &str| format!("steering.reach[{index}].{name}");
    let shape = entry.get_ref();
    let Some(list) = &shape.ingress else {
        let remedy = "list the ingress interfaces whose clients this entry speaks of";
        report.missing(&key("ingress"), Some(entry.span()), remedy);
        return None;
    };
    let ingress = listed(report, &key("ingress"), list, "steering.ingress", file.ingress.as_ref());
    let egress = shape
        .egress
        .as_ref()
        .map(|list| listed(report, &key("egress"), list, "steering.egress", file.egress.as_ref()));
    let nets = shape.networks.as_ref().map(|list| {
        let remedy = "list networks, or remove the line for any destination";
        filled(report, &key("networks"), list, remedy);
        networks(report, &key("networks"), list)
    });
    let except = shape.except.as_ref().map(|list| networks(report, &key("except"), list));
    Some(Reach { ingress, egress, networks: nets, except: except.unwrap_or_default() })
}

/// Interfaces that another list of the file has; where that list is missing, its own fault is enough.
fn listed(
    report: &mut Report<'_>,
    key: &str,
    list: &List,
    whole: &'static str,
    known: Option<&List>,
) -> Vec<InterfaceName> {
    filled(report, key, list, "list at least one interface");
    room(report, key, list, INTERFACES_MAX);
    let mut seen = BTreeMap::new();
    all(report, list, |report, text| {
        let name = report.kept(key, text, names::interface)?;
        let known = known.is_none_or(|known| known.get_ref().iter().any(|k| k.get_ref() == text.get_ref()));
        if !known {
            report.add(key, text.span(), Reason::NotListed { list: whole });
        }
        unique(report, key, text, text.get_ref().clone(), &mut seen).then_some(name)
    })
}

/// An empty list is most likely a mistake, and would mean something else than no list.
fn filled(report: &mut Report<'_>, key: &str, list: &List, remedy: &'static str) {
    if list.get_ref().is_empty() {
        report.add(key, list.span(), Reason::Empty { remedy });
    }
}

fn interfaces(
    report: &mut Report<'_>,
    key: &str,
    list: Option<&List>,
    near: Option<Range<usize>>,
    seen: &mut BTreeMap<String, usize>,
) -> Option<Vec<InterfaceName>> {
    let Some(list) = list else {
        report.missing(key, near, "list interface names, such as [\"eth0\"]");
        return None;
    };
    if list.get_ref().is_empty() {
        report.add(key, list.span(), Reason::Empty { remedy: "list at least one interface" });
        return None;
    }
    room(report, key, list, INTERFACES_MAX);
    let each = |report: &mut Report<'_>, text: &Text| {
        let name = report.kept(key, text, names::interface)?;
        unique(report, key, text, text.get_ref().clone(), seen).then_some(name)
    };
    Some(all(report, list, each))
}

fn tls(report: &mut Report<'_>, file: &shape::TlsTable, base: &Path) -> Tls {
    let (system_roots, root_files) = roots(report, file.roots.as_ref(), base);
    let fault = &file.fault;
    let mut verdict =
        |key, text: &Option<Text>, default| word(report, key, text.as_ref(), default, names::verdict);
    let faults = FaultPolicy {
        expired: verdict("tls.fault.expired", &fault.expired, Verdict::Block),
        not_yet_valid: verdict("tls.fault.not_yet_valid", &fault.not_yet_valid, Verdict::Block),
        untrusted: verdict("tls.fault.untrusted", &fault.untrusted, Verdict::Block),
        wrong_name: verdict("tls.fault.wrong_name", &fault.wrong_name, Verdict::Block),
        no_name: verdict("tls.fault.no_name", &fault.no_name, Verdict::Allow),
    };
    let min_version =
        word(report, "tls.min_version", file.min_version.as_ref(), TlsVersion::Tls12, names::version);
    let offload = word(report, "tls.offload", file.offload.as_ref(), Offload::Auto, names::offload);
    Tls { system_roots, root_files, faults, offload, min_version }
}

fn roots(report: &mut Report<'_>, list: Option<&List>, base: &Path) -> (bool, Vec<PathBuf>) {
    const KEY: &str = "tls.roots";
    let Some(list) = list else { return (true, Vec::new()) };
    if list.get_ref().is_empty() {
        let remedy = "without roots no server can be verified: list \"system\" or PEM files";
        report.add(KEY, list.span(), Reason::Empty { remedy });
    }
    let mut seen = BTreeMap::new();
    let mut system = false;
    let files = all(report, list, |report, text| {
        if !unique(report, KEY, text, text.get_ref().clone(), &mut seen) {
            return None;
        }
        if text.get_ref() == "system" {
            system = true;
            return None;
        }
        path(report, KEY, text, base)
    });
    (system, files)
}

fn certificates(
    report: &mut Report<'_>,
    file: &shape::CertificatesTable,
    base: &Path,
    near: Option<Range<usize>>,
) -> Option<Certificates> {
    let authority = authority(report, file.authority.as_ref(), base, near);
    let mut server = Vec::new();
    for (index, entry) in file.server.iter().enumerate().take(SERVER_CERTIFICATES_MAX) {
        server.extend(server_certificate(report, index, entry, base));
    }
    if let Some(beyond) = file.server.get(SERVER_CERTIFICATES_MAX) {
        let reason = Reason::TooMany { count: file.server.len(), max: SERVER_CERTIFICATES_MAX };
        report.add("certificates.server", beyond.span(), reason);
    }
    Some(Certificates { authority: authority?, server })
}

fn authority(
    report: &mut Report<'_>,
    files: Option<&Spanned<shape::KeyFilesTable>>,
    base: &Path,
    near: Option<Range<usize>>,
) -> Option<KeyFiles> {
    const REMEDY: &str = "make one with `postern ca init` and write authority = { cert = \"authority.pem\", key = \"authority.key\" }";
    let Some(files) = files else {
        report.missing("certificates.authority", near, REMEDY);
        return None;
    };
    let paths = KeyPaths { cert: files.get_ref().cert.as_ref(), key: files.get_ref().key.as_ref() };
    key_files(report, "certificates.authority", &paths, files.span(), base)
}

struct KeyPaths<'a> {
    cert: Option<&'a Text>,
    key: Option<&'a Text>,
}

fn key_files(
    report: &mut Report<'_>,
    prefix: &str,
    paths: &KeyPaths<'_>,
    near: Range<usize>,
    base: &Path,
) -> Option<KeyFiles> {
    let mut one = |name: &str, text: Option<&Text>, remedy| {
        let key = format!("{prefix}.{name}");
        let Some(text) = text else {
            report.missing(&key, Some(near.clone()), remedy);
            return None;
        };
        path(report, &key, text, base)
    };
    let cert = one("cert", paths.cert, "name the PEM file of the certificate chain");
    let key = one("key", paths.key, "name the PEM file of the private key");
    Some(KeyFiles { cert: cert?, key: key? })
}

fn server_certificate(
    report: &mut Report<'_>,
    index: usize,
    entry: &Spanned<shape::ServerCertificateTable>,
    base: &Path,
) -> Option<ServerCertificate> {
    let prefix = format!("certificates.server[{index}]");
    let key = format!("{prefix}.names");
    let file = entry.get_ref();
    let paths = KeyPaths { cert: file.cert.as_ref(), key: file.key.as_ref() };
    let files = key_files(report, &prefix, &paths, entry.span(), base);
    let Some(list) = &file.names else {
        report.missing(
            &key,
            Some(entry.span()),
            "list the names that clients send as SNI, such as [\"imap.example.org\"]",
        );
        return None;
    };
    if list.get_ref().is_empty() {
        report.add(key.as_str(), list.span(), Reason::Empty { remedy: "list at least one name" });
    }
    // Another entry may have the name, with a key of the other kind: known when the files are read.
    let mut seen = BTreeMap::new();
    let names = all(report, list, |report, text| {
        let name = report.kept(&key, text, names::server_name)?;
        unique(report, &key, text, name.clone(), &mut seen).then_some(name)
    });
    Some(ServerCertificate { names, files: files? })
}

fn action(report: &mut Report<'_>, file: &shape::ActionTable) -> Action {
    const BYPASS: &str = "action.bypass";
    const CLEARTEXT: &str = "action.cleartext";
    let starttls =
        word(report, "action.starttls", file.starttls.as_ref(), StartTls::default(), names::starttls);
    let cleartext = word(report, CLEARTEXT, file.cleartext.as_ref(), ClearText::default(), names::cleartext);
    let implicit =
        word(report, "action.implicit", file.implicit.as_ref(), ImplicitTls::default(), names::implicit);
    let inspect =
        word(report, "action.inspect", file.inspect.as_ref(), Inspection::default(), names::inspect);
    if let (ClearText::Inspect, Inspection::None, Some(text)) = (cleartext, inspect, &file.cleartext) {
        report.add(CLEARTEXT, text.span(), Reason::UnreadClearText);
    }
    let bypass = file.bypass.as_ref().map(|list| networks(report, BYPASS, list));
    let content = content(report, &file.content);
    Action { starttls, cleartext, implicit, inspect, content, bypass: bypass.unwrap_or_default() }
}

fn content(report: &mut Report<'_>, file: &shape::ContentTable) -> ContentSettings {
    const NAMES: &str = "action.content.names";
    const TYPES: &str = "action.content.types";
    let mut seen = BTreeMap::new();
    let names = file.names.as_ref().map(|list| {
        room(report, NAMES, list, NAME_PATTERNS_MAX);
        all(report, list, |report, text| {
            let pattern = report.kept(NAMES, text, names::name_pattern)?;
            unique(report, NAMES, text, text.get_ref().clone(), &mut seen).then_some(pattern)
        })
    });
    let mut seen = BTreeMap::new();
    let types = file.types.as_ref().map(|list| {
        all(report, list, |report, text| {
            let forbidden = report.kept(TYPES, text, names::forbidden_type)?;
            unique(report, TYPES, text, text.get_ref().clone(), &mut seen).then_some(forbidden)
        })
    });
    let types = types.unwrap_or_else(|| ForbiddenType::ALL.to_vec());
    ContentSettings { names: names.unwrap_or_default(), types }
}

fn networks(report: &mut Report<'_>, key: &str, list: &List) -> Vec<IpNet> {
    room(report, key, list, NETWORKS_MAX);
    let mut seen = BTreeMap::new();
    all(report, list, |report, text| {
        let net = report.kept(key, text, names::network)?;
        unique(report, key, text, net.to_string(), &mut seen).then_some(net)
    })
}

fn state(report: &mut Report<'_>, file: &shape::StateTable, base: &Path) -> State {
    const KEY: &str = "state.directory";
    let Some(text) = &file.directory else {
        return State { directory: PathBuf::from(STATE_DIRECTORY_DEFAULT) };
    };
    if text.get_ref().is_empty() {
        report.add(KEY, text.span(), Reason::Empty { remedy: "name a directory" });
    }
    State { directory: base.join(text.get_ref()) }
}

fn admin(report: &mut Report<'_>, file: &shape::AdminTable, base: &Path) -> Admin {
    const KEY: &str = "admin.socket";
    let Some(text) = &file.socket else { return Admin { socket: PathBuf::from(ADMIN_SOCKET_DEFAULT) } };
    let socket = path(report, KEY, text, base).unwrap_or_default();
    let octets = socket.as_os_str().as_bytes().len();
    if octets > SOCKET_PATH_BYTES_MAX {
        report.add(KEY, text.span(), Reason::SocketPathTooLong { octets, max: SOCKET_PATH_BYTES_MAX });
    }
    Admin { socket }
}

/// Where one of the two numbers is missing, its process may get the default one, and the other must be another.
fn processes(report: &mut Report<'_>, file: &shape::ProcessTable) -> Processes {
    const WORKER: &str = "process.worker_id";
    const SIGNER: &str = "process.signer_id";
    let mut id = |key, value: &Option<Number>| {
        let why = "0 is root, and 4294967295 is no user";
        value.as_ref().map(|value| number(report, key, Some(value), 0_u32, (1, ID_MAX), why))
    };
    let (worker, signer) = (id(WORKER, &file.worker_id), id(SIGNER, &file.signer_id));
    let same = match (&file.worker_id, &file.signer_id) {
        (Some(at), Some(signer)) if at.get_ref() == signer.get_ref() => Some((SIGNER, signer.span(), WORKER)),
        (Some(at), None) if worker == Some(SIGNER_ID_DEFAULT) => {
            Some((WORKER, at.span(), "the signer's default"))
        }
        (None, Some(at)) if signer == Some(WORKER_ID_DEFAULT) => {
            Some((SIGNER, at.span(), "the worker's default"))
        }
        _ => None,
    };
    if let Some((key, span, other)) = same {
        report.add(key, span, Reason::SameUser { other });
    }
    Processes { worker, signer }
}

impl Report<'_> {
    /// The value that a text means, or a fault.
    fn kept<T>(&mut self, key: &str, text: &Text, read: impl Fn(&str) -> Result<T, Reason>) -> Option<T> {
        read(text.get_ref()).map_err(|reason| self.add(key, text.span(), reason)).ok()
    }
}

/// The value that a word means; its default when there is none or when it is wrong.
pub(super) fn word<T>(
    report: &mut Report<'_>,
    key: &str,
    text: Option<&Text>,
    default: T,
    read: impl Fn(&str) -> Result<T, Reason>,
) -> T {
    text.and_then(|text| report.kept(key, text, read)).unwrap_or(default)
}

/// The number, if it lies in its range; its default otherwise.
pub(super) fn number<N: TryFrom<i64>>(
    report: &mut Report<'_>,
    key: &str,
    value: Option<&Number>,
    default: N,
    (min, max): (i64, i64),
    why: &'static str,
) -> N {
    let Some(value) = value else { return default };
    let number = *value.get_ref();
    match N::try_from(number) {
        Ok(fits) if (min..=max).contains(&number) => fits,
        _ => {
            report.add(key, value.span(), Reason::OutOfRange { min, max, why });
            default
        }
    }
}

/// Relative paths are meant from the directory of the file.
fn path(report: &mut Report<'_>, key: &str, text: &Text, base: &Path) -> Option<PathBuf> {
    if text.get_ref().is_empty() {
        report.add(key, text.span(), Reason::Empty { remedy: "name a file" });
        return None;
    }
    Some(base.join(text.get_ref()))
}

fn all<T>(
    report: &mut Report<'_>,
    list: &List,
    mut each: impl FnMut(&mut Report<'_>, &Text) -> Option<T>,
) -> Vec<T> {
    list.get_ref().iter().filter_map(|text| each(report, text)).collect()
}

fn room(report: &mut Report<'_>, key: &str, list: &List, max: usize) {
    let count = list.get_ref().len();
    if count > max {
        report.add(key, list.span(), Reason::TooMany { count, max });
    }
}

/// Whether this is the first; `seen` remembers the line.
fn unique(
    report: &mut Report<'_>,
    key: &str,
    text: &Text,
    value: String,
    seen: &mut BTreeMap<String, usize>,
) -> bool {
    let line = report.place(&text.span()).line;
    match seen.entry(value) {
        Entry::Vacant(place) => {
            place.insert(line);
            true
        }
        Entry::Occupied(first) => {
            report.add(key, text.span(), Reason::Duplicate { first: *first.get() });
            false
        }
    }
}
