//! The kernel lab: real kernels under QEMU, on whose file system the built tests run as root.
//!
//! Programs and kernels are Debian's, fetched once into the cache (`~/.cache/postern/tools/vm`; remove a directory
//! there to have its newest version fetched again).

use std::cmp::Reverse;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::test::Counts;
use crate::tools;

/// Which kernel.
mod kernel;
/// Debian's packages, unpacked into the cache.
mod fetch;
/// The tests of a guest.
mod jobs;
/// The guest's first file system.
mod initramfs;
/// The virtual machine.
mod qemu;

use fetch::Programs;
use jobs::{Binary, GuestTests, Job};
use kernel::Kernel;
pub(crate) use kernel::Release;
use qemu::{Accelerator, Machine, Said};

/// Longest silence of a guest: an emulated test prints its name and then computes for minutes, beside another guest.
const STALL_SECONDS: u64 = 600;
/// Longest life of a guest.
const RUN_SECONDS_MAX: u64 = 2_400;
/// Guests at a time. A guest runs one test at a time, which keeps little more than one processor busy.
const GUESTS_MAX: usize = 2;
/// The guest's own limit, for hundreds of sessions in one process.
const OPEN_FILES: &str = "65536";
/// Loaded at the start, where they exist; every other one is loaded by the kernel when it is used first.
const MODULES: &str = "aesni-intel tls tun";

/// The kernels that have TLS.
const WITH_TLS: [Release; 2] = [Release::Backport, Release::Newest];

/// Between them lies every change that steering and confinement know of: tcx (6.6) and the versions of Landlock.
const OLDEST_AND_NEWEST: [Release; 2] = [Release::Stable, Release::Newest];

/// How long a guest runs at most where it is emulated, as far as that can be planned. Then the guests, [`GUESTS_MAX`] of
/// them at a time, end at about the same time.
const GUEST_SECONDS: u32 = 600;

const fn row(
    target: &'static str,
    names: &'static [&'static str],
    environment: &'static str,
    kernels: &'static [Release],
    seconds: u32,
) -> GuestTests {
    GuestTests { target, names, environment, kernels, seconds }
}

/// The tests that matter to a kernel. A file whose tests take long has more than one row: modules of it, so that a new test
/// is in one of them.
const GUEST_TESTS: &[GuestTests] = &[
    row("steering_program", &[], "", &OLDEST_AND_NEWEST, 75),
    row("classifier", &[], "", &OLDEST_AND_NEWEST, 220),
    row("confine", &[], "", &OLDEST_AND_NEWEST, 40),
    row("routing", &[], "", &OLDEST_AND_NEWEST, 90),
    row("lab", &["every_client_reaches_dovecot"], "", &Release::ALL, 30),
    row("real_peers", &["every_client_fetches", "idles", "sees_the_gateway"], "", &OLDEST_AND_NEWEST, 120),
    row("on_exit", &["nothing_is_cleared", "without_room"], "", &OLDEST_AND_NEWEST, 60),
    row("offload", &[], "", &Release::ALL, 110),
    row("postern", &["layer::tests"], "POSTERN_LAB_LAYER=kernel", &WITH_TLS, 140),
    row(
        "ktls",
        &["damage::", "handover::", "peers::every_client", "peers::four_megabytes"],
        "",
        &WITH_TLS,
        350,
    ),
    row("ktls", &["keys::"], "", &WITH_TLS, 250),
    // Large amounts take minutes where the kernel is emulated, and the kernels do not differ in them.
    row("ktls", &["many::", "peers::fifty_megabytes"], "", &[Release::Newest], 230),
    row("trusted", &["goes_on_without_a_look"], "", &[Release::Newest], 25),
];

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// 6.1, 6.12, 7.2, or an unpacked kernel: a directory with boot/vmlinuz-RELEASE and lib/modules/RELEASE.
    /// Default: each of the three.
    #[arg(long = "kernel")]
    kernels: Vec<Release>,
    /// Run only the tests whose name, with its file's before it (`routing::some_test`), contains this.
    filter: Option<String>,
}

/// Run the chore.
pub(crate) fn run(args: &Args) -> Result<()> {
    let kernels = if args.kernels.is_empty() { &Release::ALL } else { args.kernels.as_slice() };
    let counts = lab(kernels, args.filter.as_deref())?;
    println!("{counts}");
    ensure!(counts.total() > 0, "no test of the lab has such a name");
    ensure!(counts.failed == 0, "not everything passed");
    Ok(())
}

/// A guest that shall run.
struct Planned {
    /// Before each of its lines; empty where no other guest runs.
    mark: String,
    kernel: Kernel,
    jobs: Vec<Job>,
    /// [`GuestTests::seconds`] of all jobs.
    seconds: u32,
}

/// Tests on these kernels, [`GUESTS_MAX`] of them at a time. A guest that dies counts as failed tests, and the next one
/// boots.
pub(crate) fn lab(kernels: &[Release], filter: Option<&str>) -> Result<Counts> {
    let programs = programs()?;
    let binaries = jobs::build()?;
    let mut planned = Vec::new();
    for release in kernels {
        let guests = chosen(&binaries, release, filter)?;
        let count = guests.len();
        for (number, (jobs, seconds)) in guests.into_iter().enumerate() {
            let kernel = programs.kernel(release)?;
            kernel.answers(release)?;
            let mark = match (kernels.len(), count) {
                (1, 1) => String::new(),
                (_, 1) => format!("{release}| "),
                _ => format!("{release} ({})| ", number + 1),
            };
            planned.push(Planned { mark, kernel, jobs, seconds });
        }
    }
    // The longest begin first, so that none of them runs alone at the end.
    planned.sort_by_key(|guest| Reverse(guest.seconds));
    let mut all = Counts::default();
    for counts in tools::side_by_side(planned, GUESTS_MAX, |guest| run_guest(&programs, &guest))? {
        all += counts;
    }
    Ok(all)
}

fn programs() -> Result<Programs> {
    ensure!(
        tools::is_root(),
        "the kernel lab shares this machine's files with a guest: sudo -E cargo xtask ..."
    );
    ensure!(std::env::consts::ARCH == "x86_64", "the kernel lab emulates x86-64 only");
    Programs::get()
}

/// One program as root on a kernel, with its output shown; anything but success is an error.
pub(crate) fn run_program(release: &Release, program: &Path, args: &[&str]) -> Result<()> {
    let programs = programs()?;
    let kernel = programs.kernel(release)?;
    kernel.answers(release)?;
    let jobs = vec![Job::program(program, args)?];
    let counts = run_guest(&programs, &Planned { mark: String::new(), kernel, jobs, seconds: 0 })?;
    ensure!(counts.failed == 0, "{} failed in the guest", program.display());
    Ok(())
}

/// The jobs of a kernel, one list for each guest, and how long each takes.
fn chosen(binaries: &[Binary], release: &Release, filter: Option<&str>) -> Result<Vec<(Vec<Job>, u32)>> {
    let mut guests: Vec<(Vec<Job>, u32)> = Vec::new();
    for tests in GUEST_TESTS {
        // A kernel of one's own is asked everything.
        if !matches!(release, Release::Path(_)) && !tests.kernels.contains(release) {
            continue;
        }
        let Some(job) = jobs::choose(binaries, tests, filter)? else { continue };
        match guests.last_mut().filter(|(_, seconds)| seconds + tests.seconds <= GUEST_SECONDS) {
            Some((jobs, seconds)) => {
                jobs.push(job);
                *seconds += tests.seconds;
            }
            None => guests.push((vec![job], tests.seconds)),
        }
    }
    Ok(guests)
}

/// One kernel, from boot to power off.
fn run_guest(programs: &Programs, Planned { mark, kernel, jobs, .. }: &Planned) -> Result<Counts> {
    let accelerator = Accelerator::find(programs, kernel)?;
    let name = format!("Linux {} ({})", kernel.release(), accelerator.as_str());
    println!("{mark}vm: booting {name}");
    let settings = vec![
        ("KERNEL_RELEASE", kernel.release().to_owned()),
        ("KERNEL_MODULES", kernel.modules().display().to_string()),
        ("KMOD", programs.kmod().display().to_string()),
        ("KMOD_LIBRARIES", programs.libraries()),
        ("MODULES", MODULES.to_owned()),
        ("OPEN_FILES", OPEN_FILES.to_owned()),
        ("POSTERN_LAB_PATIENCE", accelerator.patience().to_string()),
    ];
    let lines: String = jobs.iter().map(Job::line).collect();
    let initramfs = initramfs::build(programs, kernel, &settings, &lines)?;
    let start = Instant::now();
    let mut machine = Machine::boot(programs, kernel, accelerator, &initramfs)?;
    let mut watch =
        Watch { mark, jobs, counts: Counts::default(), start, job: start, begun: 0, failed_programs: 0 };
    let outcome = watch.follow(&mut machine);
    let mut counts = watch.counts;
    counts.failed += watch.failed_programs;
    let expected: u64 = jobs.iter().map(|job| job.tests.len() as u64).sum();
    let mut silent = expected.saturating_sub(counts.total());
    if let Err(error) = outcome {
        println!("{mark}vm: {name}: {error:#}; the kernel's last messages:\n{}", machine.console());
        // A kernel that dies after the last test has failed too.
        silent = silent.max(1);
    } else {
        machine.end()?;
    }
    if silent > 0 {
        println!("{mark}vm: {name}: {silent} without a result, counted as failed");
        counts.failed += silent;
    }
    let seconds = start.elapsed().as_secs();
    if counts.total() > 0 {
        println!("{mark}vm: {name}: {counts} in {seconds} s");
    } else {
        println!("{mark}vm: {name} ended after {seconds} s");
    }
    Ok(counts)
}

/// What a guest has said so far.
struct Watch<'a> {
    /// Before each line.
    mark: &'a str,
    jobs: &'a [Job],
    counts: Counts,
    start: Instant,
    /// When the present job began.
    job: Instant,
    /// Jobs that have begun.
    begun: usize,
    /// Jobs without tests, of which the exit code is the result.
    failed_programs: u64,
}

impl Watch<'_> {
    /// Show what the guest says until it is done; an error if it dies or hangs.
    fn follow(&mut self, machine: &mut Machine) -> Result<()> {
        let end = self.start + Duration::from_secs(RUN_SECONDS_MAX);
        let stall = Duration::from_secs(STALL_SECONDS);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match machine.next(stall.min(left)) {
                Said::Line(line) => {
                    machine.is_up();
                    if self.read(&line) {
                        return Ok(());
                    }
                }
                Said::Nothing if left <= stall => bail!("the guest is not done after {RUN_SECONDS_MAX} s"),
                Said::Nothing => bail!("the guest said nothing for {STALL_SECONDS} s"),
                Said::End => bail!("the guest ended before it was done"),
            }
        }
    }

    /// Tests of the job that began last; a program has none.
    fn tests(&self) -> usize {
        let begun = self.begun.checked_sub(1).and_then(|at| self.jobs.get(at));
        begun.map_or(0, |job| job.tests.len())
    }

    /// Whether this was the last line.
    fn read(&mut self, line: &str) -> bool {
        let mark = self.mark;
        let Some(words) = line.strip_prefix("@@ ") else {
            println!("{mark}{line}");
            self.counts.read(line);
            return false;
        };
        match words.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["up", release] => {
                println!("{mark}vm: {release} is up after {} s", self.start.elapsed().as_secs())
            }
            ["begin", target] => {
                self.job = Instant::now();
                self.begun += 1;
                match self.tests() {
                    0 => println!("{mark}vm: {target}"),
                    tests => println!("{mark}vm: {target}, {tests} tests"),
                }
            }
            ["end", target, code] => {
                self.failed_programs += u64::from(*code != "0" && self.tests() == 0);
                println!("{mark}vm: {target} ended with {code} after {} s", self.job.elapsed().as_secs());
            }
            ["done"] => return true,
            _ => println!("{mark}{line}"),
        }
        false
    }
}
