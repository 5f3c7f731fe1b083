//! The tests that run in a guest: built on the host, chosen by name, one job for each test binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::initramfs::quoted;
use super::kernel::Release;
use crate::tools;

/// One test at a time: emulated processors share the host's, and two tests would wait for each other.
const TEST_OPTIONS: &str = "--test-threads=1 --color=never";

/// A test binary of the workspace.
pub(super) struct Binary {
    target: String,
    executable: PathBuf,
    /// Where cargo runs it.
    directory: PathBuf,
}

/// Tests of one binary, or a program.
pub(super) struct Job {
    pub(super) target: String,
    pub(super) tests: Vec<String>,
    command: String,
    directory: PathBuf,
}

impl Job {
    /// A program, which has no tests.
    pub(super) fn program(program: &Path, args: &[&str]) -> Result<Self> {
        let name = program.file_name().context("a program has a name")?.to_string_lossy().into_owned();
        let words: Vec<String> = args.iter().map(|word| quoted(word)).collect();
        let executable = quoted(&program.display().to_string());
        let command = format!("{executable} {}", words.join(" "));
        Ok(Self { target: name, tests: Vec::new(), command, directory: tools::root() })
    }

    /// A line of the guest's list: name, directory and command.
    pub(super) fn line(&self) -> String {
        format!("{}\t{}\t{}\n", self.target, self.directory.display(), self.command)
    }
}

/// Build the programs and every test of the workspace.
pub(super) fn build() -> Result<Vec<Binary>> {
    tools::run(tools::cargo().args(["build", "--workspace", "--bins"]))?;
    let mut command = tools::cargo();
    // By pattern, because `--tests` is without those that only a kernel with TLS can pass.
    command.args(["test", "--workspace", "--lib", "--test", "*", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics");
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo test")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(messages.lines().filter_map(|line| binary(&serde_json::from_str(line).ok()?)).collect())
}

/// The test binary that this message of cargo announces.
fn binary(message: &Value) -> Option<Binary> {
    message.pointer("/profile/test")?.as_bool()?.then_some(())?;
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    // Files of tests, and the unit tests of libraries; those of programs are empty here.
    matches!(text("/target/kind/0")?, "test" | "lib").then_some(())?;
    Some(Binary {
        target: text("/target/name")?.to_owned(),
        executable: text("/executable")?.into(),
        directory: Path::new(text("/manifest_path")?).parent()?.to_owned(),
    })
}

/// Tests for guests.
pub(super) struct GuestTests {
    /// Their file, or the library whose unit tests they are.
    pub(super) target: &'static str,
    /// Parts of their names; none means all of them.
    pub(super) names: &'static [&'static str],
    /// What stands before the command.
    pub(super) environment: &'static str,
    /// Where they run.
    pub(super) kernels: &'static [Release],
    /// How long they take where the kernel is emulated, beside another guest: measured on two processors.
    pub(super) seconds: u32,
}

/// The tests of a row; with a filter, those of them where `target::name` contains it.
pub(super) fn choose(
    binaries: &[Binary],
    GuestTests { target, names, environment, .. }: &GuestTests,
    filter: Option<&str>,
) -> Result<Option<Job>> {
    let binary = binaries.iter().find(|binary| binary.target == *target);
    let binary = binary.with_context(|| format!("the workspace has no test file {target}"))?;
    let mut list = Command::new(&binary.executable);
    let listed = tools::output(list.args(["--list", "--format", "terse"]).args(*names))?;
    let all = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let wanted = |name: &str| filter.is_none_or(|filter| format!("{target}::{name}").contains(filter));
    let tests: Vec<String> = all.filter(|name| wanted(name)).map(str::to_owned).collect();
    if tests.is_empty() && filter.is_none() {
        bail!("{target} has none of these tests: {}", names.join(", "));
    }
    if tests.is_empty() {
        return Ok(None);
    }
    let words: Vec<String> = tests.iter().map(|test| quoted(test)).collect();
    let executable = quoted(&binary.executable.display().to_string());
    Ok(Some(Job {
        target: (*target).to_owned(),
        command: format!("{environment} {executable} {TEST_OPTIONS} --exact {}", words.join(" ")),
        directory: binary.directory.clone(),
        tests,
    }))
}
