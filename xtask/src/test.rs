//! Everything that CI proves, with one count at the end.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::ops::AddAssign;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{ebpf, fuzz, lint, servers, tlslite, tools, vm};

/// Debian's packages that the tests work with: real servers and clients, and the tools that make namespaces.
const PACKAGES: [&str; 9] = [
    "iproute2",
    "nftables",
    "dovecot-imapd",
    "isync",
    "curl",
    "openssl",
    "python3",
    "python3-pip",
    "ca-certificates",
];

/// How many tests of a binary run at once.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only the tests whose name contains this; no lint, no object check, no fuzzing, no kernel lab.
    filter: Option<String>,
    /// Leave out the kernel lab (`cargo xtask vm`): some twenty-five minutes where kernels are emulated.
    #[arg(long)]
    no_lab: bool,
    /// Run the tests of kernel TLS alone, on this machine's own kernel, which must have it (`modprobe tls`).
    #[arg(long, conflicts_with = "filter")]
    native_ktls: bool,
}

/// Counts of one or more test binaries.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Add what a line says, if it is the closing line of a test binary.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(closing) = line.strip_prefix("test result:") {
            self.passed += number_before(closing, "passed");
            self.failed += number_before(closing, "failed");
            self.skipped += number_before(closing, "ignored");
        }
    }

    /// How many tests there were.
    pub(crate) const fn total(self) -> u64 {
        self.passed + self.failed + self.skipped
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Lint, object check, tests, a short fuzz run. Every part runs even if one before it failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !tools::is_root() {
        bail!(
            "the tests make network namespaces and load BPF programs: run them as root (sudo -E cargo xtask test)"
        );
    }
    tools::need_packages(&PACKAGES)?;
    if args.native_ktls {
        return native_ktls();
    }
    tlslite::install()?;
    servers::install()?;
    let mut broken = Vec::new();
    if args.filter.is_none() {
        part(&mut broken, "lint", || lint::run(&lint::Args {}));
        part(&mut broken, "ebpf --check", ebpf::check);
    }
    let mut counts = Counts::default();
    part(&mut broken, "tests", || tests(args.filter.as_deref(), &mut counts));
    if args.filter.is_none() {
        part(&mut broken, "fuzz", fuzz::short);
    }
    if args.filter.is_none() && !args.no_lab {
        part(&mut broken, "kernel lab", || vm::lab(&vm::Release::ALL, None).map(|more| counts += more));
    }
    verdict(counts, broken)
}

/// Print the counts, and fail if anything was broken.
fn verdict(counts: Counts, mut broken: Vec<String>) -> Result<()> {
    // An ignored test would be a skip, and none is expected.
    if counts.skipped > 0 {
        broken.push("unexpected skips".to_owned());
    }
    if !broken.is_empty() {
        println!("failed: {}", broken.join("; "));
    }
    println!("{counts}");
    if broken.is_empty() && counts.failed == 0 { Ok(()) } else { bail!("not everything passed") }
}

/// Do one part, and say how long it took: whoever makes the whole faster has to know where the time goes.
fn part(broken: &mut Vec<String>, name: &str, work: impl FnOnce() -> Result<()>) {
    let start = Instant::now();
    let result = work();
    println!("{name}: {} s", start.elapsed().as_secs());
    if let Err(error) = result {
        println!("{name}: {error:#}");
        broken.push(name.to_owned());
    }
}

/// The kernel lab's tests of kernel TLS, on this machine.
fn native_ktls() -> Result<()> {
    if !Path::new("/proc/net/tls_stat").exists() {
        bail!(
            "this kernel has no TLS (/proc/net/tls_stat): `modprobe tls`, or use the kernel lab: `cargo xtask vm`"
        );
    }
    tools::run(tools::cargo().args(["build", "--workspace", "--bins"]))?;
    let (mut counts, mut broken) = (Counts::default(), Vec::new());
    for tests in [["--lib", "layer::tests"], ["--test", "ktls"]] {
        let mut command = tools::cargo();
        command
            .args(["test", "--workspace", "--no-fail-fast"])
            .args(tests)
            .env("POSTERN_LAB_LAYER", "kernel");
        part(&mut broken, tests[1], || shown(command.stdout(Stdio::piped()), &mut counts));
    }
    verdict(counts, broken)
}

/// `cargo test` for the whole workspace; what it prints is shown, and its closing lines are added up.
fn tests(filter: Option<&str>, counts: &mut Counts) -> Result<()> {
    // Tests of the installed binaries need them built first.
    tools::run(tools::cargo().args(["build", "--workspace", "--bins"]))?;
    let mut command = tools::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).args(filter);
    if std::env::var_os(TEST_THREADS).is_none() {
        command.env(TEST_THREADS, test_threads().to_string());
    }
    shown(command.stdout(Stdio::piped()), counts)
}

/// Two for each processor: most tests wait for peers most of the time.
fn test_threads() -> usize {
    2 * std::thread::available_parallelism().map_or(1, usize::from)
}

fn shown(command: &mut Command, counts: &mut Counts) -> Result<()> {
    let mut child = command.spawn().context("cannot start cargo test")?;
    let out = child.stdout.take().context("no output of cargo test")?;
    for line in BufReader::new(out).lines() {
        let line = line?;
        println!("{line}");
        counts.read(&line);
    }
    if child.wait()?.success() { Ok(()) } else { bail!("cargo test failed") }
}

fn number_before(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line.split_whitespace().map(|part| part.trim_end_matches(';')).collect();
    let number = words.windows(2).find(|pair| pair.last() == Some(&word)).and_then(|pair| pair.first());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
