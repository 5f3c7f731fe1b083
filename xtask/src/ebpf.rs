//! The BPF object: rebuilt from `proxy-ebpf`, or proven to be what `proxy-ebpf` compiles to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools;

/// What the daemon embeds.
const OBJECT: &str = "proxy-userspace/src/steering/postern.bpf.o";
/// What it was built with.
const RECORD: &str = "proxy-userspace/src/steering/postern.bpf.txt";
const TARGET: &str = "bpfel-unknown-none";

/// Debian's compiler that comes with matching library source, so that no nightly is needed.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library/core";
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";
/// The linker that the LLVM of this Debian compiler fits.
const LINKER_VERSION: &str = "0.13.0";

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change nothing: rebuild elsewhere and prove the committed object.
    #[arg(long)]
    check: bool,
}

/// Run the chore.
pub(crate) fn run(args: &Args) -> Result<()> {
    let toolchain = Toolchain::find()?;
    if args.check { prove(&toolchain) } else { rebuild(&toolchain) }
}

/// Prove the committed object, as CI does.
pub(crate) fn check() -> Result<()> {
    prove(&Toolchain::find()?)
}

fn rebuild(toolchain: &Toolchain) -> Result<()> {
    let built = toolchain.build(&tools::root().join("target/ebpf"))?;
    let object = tools::root().join(OBJECT);
    fs::copy(&built, &object).with_context(|| format!("cannot write {}", object.display()))?;
    let record = toolchain.record(&sha256(&object)?);
    fs::write(tools::root().join(RECORD), &record).with_context(|| format!("cannot write {RECORD}"))?;
    println!("{OBJECT} rebuilt:\n{record}");
    Ok(())
}

fn prove(toolchain: &Toolchain) -> Result<()> {
    let committed = tools::root().join(OBJECT);
    let recorded =
        fs::read_to_string(tools::root().join(RECORD)).with_context(|| format!("cannot read {RECORD}"))?;
    let digest = sha256(&committed)?;
    if field(&recorded, "sha256") != Some(digest.as_str()) {
        bail!(
            "{OBJECT} has sha256 {digest}, {RECORD} says otherwise: run `cargo xtask ebpf` and commit both"
        );
    }
    // From nothing, so that no earlier build can answer for this one.
    let directory = tools::root().join("target/ebpf-check");
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    let built = toolchain.build(&directory)?;
    if toolchain.record(&digest) == recorded {
        return same_bytes(&built, &committed);
    }
    println!(
        "{OBJECT} was built by another toolchain, so its bytes cannot be compared.\nrecorded:\n{recorded}here:\n{}\
         Testing the rebuilt object instead.",
        toolchain.record(&sha256(&built)?)
    );
    let mut test = tools::cargo();
    test.args(["test", "--package", "proxy-userspace", "--test", "steering_program"]);
    tools::run(test.env("POSTERN_BPF_OBJECT", &built))?;
    println!(
        "the object rebuilt by another toolchain passes the steering tests; the committed one was not reproduced"
    );
    Ok(())
}

fn same_bytes(built: &Path, committed: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    if read(built)? != read(committed)? {
        bail!(
            "{OBJECT} is not what proxy-ebpf compiles to with the recorded toolchain (compare it with {}): run \
             `cargo xtask ebpf` and commit the result",
            built.display()
        );
    }
    println!("{OBJECT} is reproduced, every byte, by the recorded toolchain");
    Ok(())
}

/// A compiler with library source, and a linker that reads its bitcode.
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    linker: PathBuf,
    compiler_words: String,
    linker_words: String,
}

impl Toolchain {
    /// Debian's where it is installed, else a nightly with `rust-src`, else Debian's after installing it.
    fn find() -> Result<Self> {
        let debian = [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_LIBRARY, DEBIAN_LLVM];
        if !debian.iter().all(|path| Path::new(path).exists()) {
            if let Some(nightly) = Self::nightly()? {
                return Ok(nightly);
            }
            tools::need_packages(&DEBIAN_PACKAGES).context(
                "the BPF object needs a compiler with library source: these packages, or a nightly with rust-src \
                 (rustup toolchain install nightly --component rust-src) and bpf-linker on PATH",
            )?;
        }
        let llvm = tools::output(Command::new(format!("{DEBIAN_LLVM}/bin/llvm-config")).arg("--version"))?;
        let mut toolchain = Self::describe(DEBIAN_CARGO.into(), DEBIAN_RUSTC.into(), debian_linker()?)?;
        toolchain.linker_words = format!("{}, LLVM {}", toolchain.linker_words, llvm.trim());
        Ok(toolchain)
    }

    /// A nightly that can build `core` and a linker beside it, if both are there.
    fn nightly() -> Result<Option<Self>> {
        let which = |tool: &str| {
            tools::output(Command::new("rustup").args(["which", "--toolchain", "nightly", tool]))
        };
        let (Ok(cargo), Ok(rustc)) = (which("cargo"), which("rustc")) else { return Ok(None) };
        let linker = PathBuf::from("bpf-linker");
        if tools::output(Command::new(&linker).arg("--version")).is_err() {
            return Ok(None);
        }
        let sysroot = tools::output(Command::new(rustc.trim()).args(["--print", "sysroot"]))?;
        if !Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").exists() {
            return Ok(None);
        }
        Self::describe(cargo.trim().into(), rustc.trim().into(), linker).map(Some)
    }

    fn describe(cargo: PathBuf, rustc: PathBuf, linker: PathBuf) -> Result<Self> {
        let verbose = tools::output(Command::new(&rustc).args(["--version", "--verbose"]))?;
        let version = verbose.lines().next().unwrap_or_default();
        let llvm = field(&verbose, "LLVM version").unwrap_or("unknown");
        let compiler_words = format!("{version}, LLVM {llvm}");
        let linker_words = tools::output(Command::new(&linker).arg("--version"))?.trim().to_owned();
        Ok(Self { cargo, rustc, linker, compiler_words, linker_words })
    }

    /// The text beside the object.
    fn record(&self, sha256: &str) -> String {
        format!("compiler: {}\nlinker: {}\nsha256: {sha256}\n", self.compiler_words, self.linker_words)
    }

    /// Build the object into `directory`; the same bytes from every checkout, because nothing of it reaches them.
    fn build(&self, directory: &Path) -> Result<PathBuf> {
        let mut command = Command::new(&self.cargo);
        command
            .current_dir(tools::root())
            .args(["build", "--locked", "--release", "-Z", "build-std=core", "--target", TARGET])
            .args(["--package", "proxy-ebpf", "--bin", "postern-bpf", "--features", "program"])
            .arg("--target-dir")
            .arg(directory)
            .env("RUSTC", &self.rustc)
            // `build-std` on a stable compiler; only this compilation is let off.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            // The workspace's profile is the daemon's: it unwinds and keeps line tables.
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
        // The developer's own flags and the cargo that runs this chore must not show in the object.
        for name in
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR"]
        {
            command.env_remove(name);
        }
        tools::run(&mut command)?;
        Ok(directory.join(TARGET).join("release/postern-bpf"))
    }
}

/// bpf-linker for Debian's LLVM, built once into the user's cache.
fn debian_linker() -> Result<PathBuf> {
    let cache = tools::cache()?;
    let linker = cache.join("bin/bpf-linker");
    let words = tools::output(Command::new(&linker).arg("--version")).unwrap_or_default();
    if words.trim() == format!("bpf-linker {LINKER_VERSION}") {
        return Ok(linker);
    }
    println!("building bpf-linker {LINKER_VERSION} into {}", cache.display());
    let mut install = Command::new(DEBIAN_CARGO);
    install
        // What takes time in it is LLVM, which Debian optimized.
        .args(["install", "bpf-linker", "--debug", "--locked", "--force", "--version", LINKER_VERSION])
        .args(["--no-default-features", "--features", "llvm-22", "--root"])
        .arg(&cache)
        .current_dir("/")
        .env("RUSTC", DEBIAN_RUSTC)
        // Without the first it links against whatever llvm-config is on the path.
        .env("LLVM_PREFIX", DEBIAN_LLVM)
        .env("LLVM_SYS_221_PREFIX", DEBIAN_LLVM)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO_TARGET_DIR");
    tools::run(&mut install)?;
    Ok(linker)
}

/// The value of a `name: value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn sha256(path: &Path) -> Result<String> {
    let shown = tools::output(Command::new("sha256sum").arg(path))?;
    shown.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}
