//! What a confined process may and may not do, tried from its inside by `postern confine-probe`, which debug builds have.
#![cfg(debug_assertions)]
#![expect(clippy::panic, clippy::expect_used, reason = "helpers of tests stop the test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use landlock::{AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set};
use serde_json::Value;
use tempfile::NamedTempFile;

const ROLES: [&str; 4] = ["worker", "signer", "helper", "judge"];
const EPERM: i64 = 1;
const ENOSYS: i64 = 38;
const SIGABRT: i32 = 6;

fn command(role: &str, key: &NamedTempFile) -> Command {
    assert!(rustix::process::geteuid().is_root(), "only root can give powers up: run these tests as root");
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(["confine-probe", role, "--key"]).arg(key.path()).env("RUST_BACKTRACE", "1");
    command
}

/// Readable by root alone, as `tempfile` makes it.
fn key() -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(b"a private key").expect("octets");
    file
}

/// A process that has confined itself, has tried everything, and lives until this is dropped.
struct Confined {
    child: Child,
    report: Value,
    key: NamedTempFile,
}

impl Confined {
    fn start(role: &str) -> Self {
        let key = key();
        let mut command = command(role, &key);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("postern");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("stdout");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let report = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{role}: {error}: {line:?}"));
        Self { child, report, key }
    }

    fn trials(&self, kind: &str) -> BTreeMap<String, Option<i64>> {
        serde_json::from_value(self.report.get(kind).cloned().unwrap_or_default()).expect("trials")
    }

    /// What the kernel says of it.
    fn status(&self) -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("status");
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines
            .map(|(key, value)| (key.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
            .collect()
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Run to its end, from a thread without this capability.
fn without(capability: CapabilitySet, role: &str) -> Output {
    let key = key();
    let run = || {
        remove_capability_from_bounding_set(capability).expect("PR_CAPBSET_DROP");
        command(role, &key).stdin(Stdio::null()).output().expect("postern")
    };
    thread::scope(|scope| scope.spawn(run).join().expect("no panic"))
}

#[test]
fn what_is_forbidden_is_refused_from_the_inside() {
    for role in ROLES {
        let confined = Confined::start(role);
        let forbidden = confined.trials("forbidden");
        // glibc takes clone, whose flags can be judged, where there is no clone3.
        let refusal = |name: &str| Some(if name == "clone3" { ENOSYS } else { EPERM });
        let done: Vec<_> = forbidden.iter().filter(|(name, error)| **error != refusal(name)).collect();
        assert!(done.is_empty(), "{role}: {done:?}");
        for name in
            ["open a private key", "bpf", "execve", "fork", "become root", "socket of packets", "ptrace"]
        {
            assert!(forbidden.contains_key(name), "{role}: {name} was not tried");
        }
        assert_eq!(forbidden.contains_key("socket of TCP"), ["signer", "judge"].contains(&role));
        assert_eq!(forbidden.contains_key("memory for others"), role != "worker");
        assert_eq!(forbidden.contains_key("more memory"), role == "judge");
        assert_eq!(forbidden.contains_key("socket of UDP"), role != "helper");
        assert_eq!(forbidden.contains_key("listen"), role == "helper");
        assert!(confined.key.path().exists(), "{role} removed a file");
    }
}

#[test]
fn what_is_needed_works() {
    for role in ROLES {
        let confined = Confined::start(role);
        let needed = confined.trials("needed");
        let failed: Vec<_> = needed.iter().filter(|(_, error)| error.is_some()).collect();
        assert!(failed.is_empty(), "{role}: {failed:?}");
        assert!(needed.contains_key("a signature") && needed.contains_key("threads"), "{role}: {needed:?}");
        assert_eq!(needed.contains_key("a runtime and TLS over loopback"), role == "worker");
        assert_eq!(needed.contains_key("a runtime and datagrams over loopback"), role == "helper");
        assert_eq!(needed.contains_key("memory for judges"), role == "worker");
        assert_eq!(needed.contains_key("a bound on its time"), role == "judge");
    }
}

#[test]
fn the_kernel_knows_of_no_power_that_is_left() {
    let none = CapabilitySet::empty();
    for (role, kept) in
        [("worker", CapabilitySet::NET_RAW), ("signer", none), ("helper", none), ("judge", none)]
    {
        let confined = Confined::start(role);
        let status = confined.status();
        let id = |name: &str| confined.report["identity"][name].as_u64().expect("a number");
        assert!(id("uid") != 0 && id("gid") != 0);
        let of = |key: &str| status.get(key).map_or("", String::as_str);
        assert_eq!(of("Uid"), vec![id("uid").to_string(); 4].join(" "));
        assert_eq!(of("Gid"), vec![id("gid").to_string(); 4].join(" "));
        assert_eq!(of("Groups"), "");
        let bits = |set: CapabilitySet| format!("{:016x}", set.bits());
        assert_eq!([of("CapPrm"), of("CapEff")], [bits(kept).as_str(); 2], "{role}");
        assert_eq!([of("CapInh"), of("CapBnd"), of("CapAmb")], ["0000000000000000"; 3], "{role}");
        assert_eq!([of("NoNewPrivs"), of("Seccomp"), of("Seccomp_filters")], ["1", "2", "2"], "{role}");
        // What a process that is not dumpable has in /proc belongs to root (proc(5)).
        let directory = std::fs::metadata(format!("/proc/{}/maps", confined.child.id())).expect("/proc");
        assert_eq!((directory.uid(), directory.gid()), (0, 0), "{role}");
        let limits =
            std::fs::read_to_string(format!("/proc/{}/limits", confined.child.id())).expect("limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("core");
        assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{role}");
    }
}

#[test]
fn the_signers_memory_is_locked_or_the_words_say_why_not() {
    let unlimited = getrlimit(Resource::Memlock).maximum.is_none()
        || capabilities(None).expect("capget").effective.contains(CapabilitySet::SYS_RESOURCE);
    let signer = Confined::start("signer");
    let words = signer.report["confinement"]["locked_memory"].as_str().expect("words").to_owned();
    let locked = signer.status().get("VmLck").cloned().unwrap_or_default();
    if unlimited {
        assert_eq!(words, "all of it");
        assert_ne!(locked, "0 kB");
    } else {
        assert!(words.starts_with("no: ") && words.contains("LimitMEMLOCK=infinity"), "{words}");
        assert_eq!(locked, "0 kB", "memory under a limit makes later allocations fail");
    }
    let worker = Confined::start("worker");
    assert_eq!(worker.report["confinement"]["locked_memory"], Value::Null);
    assert_eq!(worker.status().get("VmLck").map(String::as_str), Some("0 kB"));
}

#[test]
fn landlock_is_there_or_the_words_say_why_not() {
    let kernel = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let available = kernel.handle_access(AccessFs::Execute).and_then(Ruleset::create).is_ok();
    for role in ROLES {
        let confined = Confined::start(role);
        let words = confined.report["confinement"]["landlock"].as_str().expect("words").to_owned();
        if available {
            assert!(words.starts_with("files") && words.contains(", ABI "), "{role}: {words}");
        } else {
            assert!(words.starts_with("none: this kernel"), "{role}: {words}");
        }
    }
}

#[test]
fn abort_ends_a_confined_process_and_leaves_no_core_file() {
    for role in ROLES {
        let key = key();
        let output = command(role, &key).arg("--abort").stdin(Stdio::null()).output().expect("postern");
        assert_eq!(output.status.signal(), Some(SIGABRT), "{role}: {output:?}");
        assert!(!output.status.core_dumped(), "{role}");
    }
}

#[test]
fn without_a_power_that_it_needs_a_process_says_which_and_goes_no_further() {
    let cases = [
        (CapabilitySet::SETPCAP, "prctl(PR_SET_SECUREBITS): Operation not permitted", "CAP_SETPCAP"),
        (CapabilitySet::SETGID, "setgroups: Operation not permitted", "CAP_SETGID"),
        (CapabilitySet::SETUID, "setresuid: Operation not permitted", "CAP_SETUID"),
        (CapabilitySet::NET_RAW, "capset: Operation not permitted", "CAP_NET_RAW"),
    ];
    for (capability, tried, remedy) in cases {
        let output = without(capability, "worker");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(tried) && said.contains(remedy), "{remedy}: {said}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{remedy}");
    }
    for role in ["signer", "helper", "judge"] {
        let process = without(CapabilitySet::NET_RAW, role);
        assert!(process.status.success(), "the {role} needs no CAP_NET_RAW: {process:?}");
    }
}
