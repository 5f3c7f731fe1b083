//! A child process: this binary, executed anew, with a channel as its standard input.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::confine::{Confinement, Identity, Role};
use crate::ipc::{AsyncChannel, Began, Begin, Channel};
use crate::journal;
use crate::words::Size;

/// The program that runs, whatever has become of its file.
pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";
/// A child gives its powers up within milliseconds.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(10);
/// A child that was told to end: longer than it writes what waits.
const END_TIME_MAX: Duration = Duration::from_secs(4);

/// A running child. Dropping it closes its channel, at which it ends.
pub(super) struct ChildProcess {
    role: Role,
    child: Child,
    control: Rc<AsyncChannel>,
    confinement: Confinement,
    started: Instant,
}

impl ChildProcess {
    /// Start one, and wait until it has given its powers up. `ports` are the helper's.
    ///
    /// # Errors
    /// In an operator's words.
    pub(super) async fn start(role: Role, identity: Identity, ports: Vec<u16>) -> Result<Self> {
        Self::begin(role, identity, ports, None).await
    }

    /// The same of a judge, which may have so much memory.
    ///
    /// # Errors
    /// In an operator's words.
    pub(super) async fn start_judge(identity: Identity, memory: Size) -> Result<Self> {
        Self::begin(Role::Judge, identity, Vec::new(), Some(memory.0)).await
    }

    async fn begin(role: Role, identity: Identity, ports: Vec<u16>, memory: Option<u64>) -> Result<Self> {
        let name = role.as_str();
        let (near, far) = Channel::pair().context("a channel to a child process")?;
        let mut command = Command::new(OWN_PROGRAM);
        command.arg0(format!("postern-{name}")).arg(name).stdin(Stdio::from(OwnedFd::from(far)));
        let mut child = command.spawn().with_context(|| format!("starting the {name} ({OWN_PROGRAM})"))?;
        // Both of its ends in this process are closed with the command.
        drop(command);
        let control = AsyncChannel::new(near)?;
        let journal = journal::for_child(name).context("a way to the journal for a child process")?;
        let (journal, end) = journal.unzip();
        let begun = timeout(BEGIN_TIME_MAX, async {
            let descriptors: Vec<_> = end.iter().map(AsFd::as_fd).collect();
            control.send(&Begin { identity, ports, memory, journal }, &descriptors).await?;
            control.receive::<Began>().await
        });
        match begun.await {
            Ok(Ok((Began::Confined(confinement), _))) => {
                Ok(Self { role, child, control: Rc::new(control), confinement, started: Instant::now() })
            }
            Ok(Ok((Began::Refused(why), _))) => bail!("the {name} cannot give its powers up: {why}"),
            Ok(Err(error)) => {
                let ended = timeout(END_TIME_MAX, child.wait()).await;
                let ended = ended.ok().and_then(Result::ok).map(Ended);
                let ended = ended.map_or_else(|| error.to_string(), |ended| ended.to_string());
                bail!("the {name} ended before it served: {ended}")
            }
            Err(_) => {
                drop(child.start_kill());
                bail!("the {name} did not begin within {} s", BEGIN_TIME_MAX.as_secs())
            }
        }
    }

    /// What is said to it and what it says.
    pub(super) const fn control(&self) -> &Rc<AsyncChannel> {
        &self.control
    }

    /// Its number.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it gave up.
    pub(super) const fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// How long it has been there.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until it has ended. May be dropped while it waits.
    pub(super) async fn ended(&mut self) -> Ended {
        match self.child.wait().await {
            Ok(status) => Ended(status),
            // Nobody else waits for children of this process.
            Err(_) => Ended(ExitStatus::default()),
        }
    }

    /// Wait until it has ended, as it was told to or because its channel is closed here; kill it when it takes too long.
    /// Says how it ended by itself.
    pub(super) async fn end(self) -> Option<Ended> {
        let Self { role, mut child, control, .. } = self;
        drop(control);
        match timeout(END_TIME_MAX, child.wait()).await {
            Ok(ended) => ended.ok().map(Ended),
            Err(_) => {
                let seconds = END_TIME_MAX.as_secs();
                tracing::error!("the {} did not end within {seconds} s: killed", role.as_str());
                drop(child.kill().await);
                None
            }
        }
    }

    /// End it now; its channel ends with it.
    pub(super) fn start_kill(&mut self) {
        // One that has ended already is heard of as such.
        drop(self.child.start_kill());
    }

    /// End it now, and wait until it has ended.
    pub(super) async fn kill(mut self) {
        drop(self.child.kill().await);
    }
}

/// How a child ended.
pub(super) struct Ended(ExitStatus);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // "exit status: 1", "signal: 9 (SIGKILL)"
        write!(f, "{}", self.0)
    }
}
