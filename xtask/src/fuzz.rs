//! A bounded run of the fuzz targets on the stable toolchain: libFuzzer, fed by LLVM's coverage counters.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tools;

/// How `rustc -vV` names the machine. RUSTFLAGS must not reach build scripts, which have no libFuzzer, and only an
/// explicit `--target` keeps them apart.
const HOST_TRIPLE_KEY: &str = "host: ";

/// What cargo-fuzz passes, less the sanitizers: those need nightly, and the library has no unsafe code to watch.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// The largest input: one TLS record of the largest size with its header, or several lines of the longest kind.
const INPUT_BYTES_MAX: usize = 20_480;

/// The longest that one input may take before it counts as a hang.
const INPUT_SECONDS_MAX: u32 = 10;

/// libFuzzer keeps one processor busy; the usual test machine has two.
const TARGETS_AT_ONCE: usize = 2;

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only this target (default: all of them).
    target: Option<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

/// Long enough to find what a change broke; the deep runs are a person's.
const SHORT_SECONDS: u32 = 10;

/// Every target, briefly, as CI does.
pub(crate) fn short() -> Result<()> {
    run(&Args { target: None, seconds: SHORT_SECONDS })
}

/// Run the chore.
pub(crate) fn run(args: &Args) -> Result<()> {
    let home = tools::root().join("proxy-userspace/fuzz");
    let targets = chosen(&home, args.target.as_deref())?;
    tools::need_packages(&["g++"])?;
    let binaries = build(&home)?;
    let count = targets.len();
    tools::side_by_side(targets, TARGETS_AT_ONCE, |target| {
        fuzz(&home, &binaries.join(&target), &target, args.seconds)
    })?;
    println!("fuzz: {count} targets, no crash");
    Ok(())
}

/// Every file in src/bin is a target.
fn chosen(home: &Path, wanted: Option<&str>) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(home.join("src/bin")).context("cannot list the fuzz targets")? {
        let path = entry?.path();
        if let Some(name) = path.file_stem().filter(|_| path.extension().is_some_and(|ext| ext == "rs")) {
            targets.push(name.to_string_lossy().into_owned());
        }
    }
    targets.sort();
    match wanted {
        None => Ok(targets),
        Some(name) if targets.iter().any(|target| target == name) => Ok(vec![name.to_owned()]),
        Some(name) => bail!("no fuzz target is called {name}; there are: {}", targets.join(", ")),
    }
}

/// Returns the directory of the binaries.
fn build(home: &Path) -> Result<PathBuf> {
    let version = tools::output(Command::new("rustc").arg("-vV"))?;
    let triple = version
        .lines()
        .find_map(|line| line.strip_prefix(HOST_TRIPLE_KEY))
        .context("rustc -vV does not name its host")?;
    let output = target_dir();
    let mut cargo = tools::cargo();
    cargo.current_dir(home).args(["build", "--locked", "--release", "--bins", "--target", triple]);
    cargo.arg("--target-dir").arg(&output).env("RUSTFLAGS", RUSTFLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS");
    tools::run(&mut cargo).context("cannot build the fuzz targets")?;
    Ok(output.join(triple).join("release"))
}

/// Apart from the ordinary build, whose dependencies have other flags.
fn target_dir() -> PathBuf {
    let base = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    tools::root().join(base).join("fuzz")
}

fn fuzz(home: &Path, binary: &Path, target: &str, seconds: u32) -> Result<()> {
    let corpus = home.join("corpus").join(target);
    let artifacts = home.join("artifacts").join(target);
    for directory in [&corpus, &artifacts] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut command = Command::new(binary);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-verbosity=1"]);
    let dictionary = home.join(format!("{target}.dict"));
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    // New inputs go to the first directory; the committed seeds are only read.
    command.arg(&corpus);
    let seeds = home.join("seeds").join(target);
    if seeds.exists() {
        command.arg(&seeds);
    }
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {target}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}", failure(&said, binary, target, output.status));
    }
    let (runs, coverage) = statistics(&said).with_context(|| format!("{target} printed no statistics"))?;
    println!("{target}: {runs} runs in {seconds} s, {coverage} edges covered");
    Ok(())
}

/// The end of what libFuzzer printed, and how to run the input again.
fn failure(said: &str, binary: &Path, target: &str, status: std::process::ExitStatus) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines.iter().skip(lines.len().saturating_sub(25)).copied().collect::<Vec<_>>().join("\n");
    let again = said
        .lines()
        .find_map(|line| line.split_once("Test unit written to "))
        .map(|(_, path)| format!("the input is {path}\nrun it again with: {} {path}", binary.display()))
        .unwrap_or_else(|| "libFuzzer wrote no input".to_owned());
    format!("{tail}\n{target} ended with {status}; {again}")
}

/// Executions and covered edges; a run that executed nothing has neither.
fn statistics(said: &str) -> Option<(u64, u64)> {
    let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    let coverage = said.lines().rev().find_map(|line| line.split_once(" cov: "))?.1;
    let coverage = coverage.split_whitespace().next()?;
    Some((runs.trim().parse().ok()?, coverage.parse().ok()?))
}
