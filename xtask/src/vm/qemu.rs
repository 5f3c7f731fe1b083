//! The virtual machine, and the daemon that shares the host's files with it. Both end with this process.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::fetch::Programs;
use super::kernel::Kernel;

/// Half of a small machine. What tests write lives in half of it.
const MEMORY: &str = "2G";
/// As many as the usual test machine has; emulation gives each a thread.
const CPUS: &str = "2";
/// A panic ends the machine, and so does an oops. To the kernel, an emulated processor that waits for its turn seems to
/// have a wrong clock. `tsc=reliable` keeps the kernel from changing to another clock, whose every read is a system
/// call.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 oops=panic tsc=reliable";
/// Nobody attacks the guest's processor. With mitigations the tests of the steering program took 108 s on an emulated one, and
/// 79 s without.
const GUEST_ARGUMENTS: &str = "mitigations=off quiet";
/// A kernel that finds no root panics in one second where virtualization works.
const PROBE_SECONDS: u64 = 30;
/// The share's daemon listens at once.
const SHARE_SECONDS: u64 = 20;
/// From the last line to the power off.
const END_SECONDS: u64 = 20;
/// What is shown of the kernel's messages when a guest dies.
const CONSOLE_LINES: usize = 40;
/// The pause between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// What executes the guest's instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator.
    Emulation,
}

impl Accelerator {
    /// KVM where it boots this kernel. That `/dev/kvm` opens is not enough: inside a virtual machine without nested
    /// virtualization the guest stops at its first unusual instruction.
    pub(super) fn find(programs: &Programs, kernel: &Kernel) -> Result<Self> {
        if File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok(Self::Emulation);
        }
        let mut qemu = with_parent(&machine(programs, kernel, Self::Kvm, "256M"));
        qemu.args(["-append", KERNEL_ARGUMENTS, "-serial", "null"]);
        let mut child = Owned(qemu.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?);
        let complaints = child.0.stderr.take().map(lines);
        let end = Instant::now() + Duration::from_secs(PROBE_SECONDS);
        while Instant::now() < end {
            if let Some(status) = child.0.try_wait()? {
                return Ok(if status.success() { Self::Kvm } else { Self::Emulation });
            }
            // The machine stops then, and QEMU waits for a debugger.
            if complaints.as_ref().and_then(|lines| lines.try_recv().ok()).is_some_and(|l| l.contains("KVM"))
            {
                break;
            }
            thread::sleep(PAUSE);
        }
        Ok(Self::Emulation)
    }

    /// How many times as long a test waits for an event as elsewhere.
    pub(super) const fn patience(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Emulation => 4,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Emulation => "emulated",
        }
    }
}

/// A process that does not outlive its owner.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a machine has to say next.
pub(super) enum Said {
    /// A line of the jobs.
    Line(String),
    /// Nothing for as long as was waited.
    Nothing,
    /// It has ended.
    End,
}

/// A machine that runs.
pub(super) struct Machine {
    // Before the share, so that it ends first.
    qemu: Owned,
    _share: Owned,
    lines: Receiver<String>,
    console: File,
    dir: Option<TempDir>,
}

impl Machine {
    /// Boot the kernel with this first file system.
    pub(super) fn boot(
        programs: &Programs,
        kernel: &Kernel,
        accelerator: Accelerator,
        initramfs: &[u8],
    ) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("postern-vm-").tempdir()?;
        let [image, console, socket, share_log] =
            ["initramfs", "console", "share.sock", "share.log"].map(|name| dir.path().join(name));
        fs::write(&image, initramfs)?;
        File::create_new(&console)?;
        let share = share(programs, &socket, &share_log)?;
        let mut qemu = with_parent(&machine(programs, kernel, accelerator, MEMORY));
        qemu.arg("-initrd").arg(&image).args(["-append", &format!("{KERNEL_ARGUMENTS} {GUEST_ARGUMENTS}")]);
        // The share's daemon reads and writes the guest's memory.
        qemu.args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY},share=on")]);
        qemu.args(["-numa", "node,memdev=memory"]);
        qemu.args(["-chardev", &format!("socket,id=share,path={}", socket.display())]);
        qemu.args(["-device", "vhost-user-fs-pci,queue-size=1024,chardev=share,tag=host"]);
        // The kernel's messages do not mix with the lines of the tests.
        qemu.args(["-serial", &format!("file:{}", console.display()), "-serial", "stdio"]);
        let mut qemu = Owned(qemu.stdout(Stdio::piped()).spawn().context("cannot start QEMU")?);
        let lines = lines(qemu.0.stdout.take().context("no output of QEMU")?);
        let console = File::open(&console)?;
        Ok(Self { qemu, _share: share, lines, console, dir: Some(dir) })
    }

    /// The next line, or what became of it.
    pub(super) fn next(&self, patience: Duration) -> Said {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Said::Line(line),
            Err(RecvTimeoutError::Timeout) => Said::Nothing,
            Err(RecvTimeoutError::Disconnected) => Said::End,
        }
    }

    /// Remove the files of the start, which no program opens after the guest has started. So even a kill leaves none
    /// behind.
    pub(super) fn is_up(&mut self) {
        self.dir = None;
    }

    /// Let it power off, or end it.
    pub(super) fn end(mut self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(END_SECONDS);
        while Instant::now() < end && self.qemu.0.try_wait()?.is_none() {
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The last messages of the kernel.
    pub(super) fn console(&self) -> String {
        let mut octets = Vec::new();
        // What was read is shown; the guest's end is the error that matters.
        let _ = (&self.console).read_to_end(&mut octets);
        let text = String::from_utf8_lossy(&octets);
        let mut last = VecDeque::new();
        for line in text.lines() {
            last.push_back(line.trim_end());
            if last.len() > CONSOLE_LINES {
                last.pop_front();
            }
        }
        Vec::from(last).join("\n")
    }
}

/// The part that every machine has.
fn machine(programs: &Programs, kernel: &Kernel, accelerator: Accelerator, memory: &str) -> Command {
    let mut qemu = programs.qemu();
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"]);
    qemu.args(["-machine", "q35", "-m", memory, "-smp", CPUS]);
    qemu.args(match accelerator {
        Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        Accelerator::Emulation => ["-accel", "tcg,thread=multi", "-cpu", "max"],
    });
    qemu.arg("-kernel").arg(kernel.image());
    qemu
}

/// The daemon that shares the host's root; QEMU is its only client, and it ends when that goes.
fn share(programs: &Programs, socket: &Path, log_path: &Path) -> Result<Owned> {
    let mut daemon = Command::new(programs.virtiofsd());
    daemon.arg(format!("--socket-path={}", socket.display()));
    daemon.args(["-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always", "-o", "log_level=warn"]);
    // virtiofsd holds a descriptor for every file that the guest has seen.
    daemon.arg("--rlimit-nofile=0");
    // virtiofsd complains about how QEMU ends.
    let log = File::create(log_path)?;
    let mut share = Owned(with_parent(&daemon).stderr(log).spawn().context("cannot start virtiofsd")?);
    let end = Instant::now() + Duration::from_secs(SHARE_SECONDS);
    while !socket.exists() {
        if let Some(status) = share.0.try_wait()? {
            bail!("virtiofsd ended with {status}: {}", fs::read_to_string(log_path)?);
        }
        if Instant::now() > end {
            bail!("virtiofsd does not listen after {SHARE_SECONDS} s");
        }
        thread::sleep(PAUSE);
    }
    Ok(share)
}

/// The same command, killed when this process dies however it dies, with all the descriptors that it may have.
fn with_parent(command: &Command) -> Command {
    let mut wrapped = Command::new("sh");
    wrapped.args(["-c", "ulimit -n \"$(ulimit -Hn)\"; exec setpriv --pdeathsig KILL \"$@\"", "sh"]);
    wrapped.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    wrapped
}

/// Lines, read by a thread of their own; what is no text in them is replaced.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|octets| octets > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                break;
            }
            line.clear();
        }
    });
    receiver
}
