//! The command that is run for each alarm: without a shell, as a user of its own, bounded in time and number.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStderr, Command};
use tokio::time::timeout;

use super::alarm_turns::AlarmTurns;
use super::process::OWN_PROGRAM;
use crate::config::AlarmSettings;
use crate::confine::{Identity, alarm_identity};

/// Octets of what the command said last on stderr, which stand in the log where it fails.
const SAID_BYTES_MAX: usize = 512;
/// After its end, what it said last is read for this long: something that it left behind may hold its stderr open.
const SAID_TIME_MAX: Duration = Duration::from_millis(200);
/// The command's whole environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a command is run, and the room for more of them.
pub(super) struct AlarmCommand {
    words: Arc<[String]>,
    identity: Identity,
    limit: Duration,
    turns: AlarmTurns,
}

/// Why an alarm may have reached nobody.
#[derive(Debug, thiserror::Error)]
enum AlarmCommandError {
    /// The kernel refused.
    #[error("it cannot be started: {0}")]
    Start(io::Error),
    /// It says that it failed.
    #[error("it ended with {status}{}", behind(.said))]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said last.
        said: String,
    },
    /// It took too long.
    #[error("it did not end within {} s (alarm.run_seconds) and was killed{}", .limit.as_secs(), behind(.said))]
    Late {
        /// How long it might run.
        limit: Duration,
        /// What it said last.
        said: String,
    },
}

fn behind(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

impl AlarmCommand {
    /// `None` where no command is configured.
    pub(super) fn of(settings: &AlarmSettings) -> Option<Self> {
        (!settings.command.is_empty()).then(|| Self {
            words: settings.command.clone().into(),
            identity: alarm_identity(settings),
            limit: settings.run,
            turns: AlarmTurns::new(),
        })
    }

    /// Run it with this line on its standard input, when it is its turn; whether there was room.
    pub(super) fn take(&self, line: Arc<str>) -> bool {
        let (words, identity, limit) = (Arc::clone(&self.words), self.identity, self.limit);
        // Where the runtime drops it with the daemon, the command is killed with it.
        self.turns.take(async move {
            if let Err(error) = run(powerless(&words, identity), line.as_bytes(), limit).await {
                let program = words.first().map(String::as_str).unwrap_or_default();
                tracing::error!(
                    "an alarm may have reached nobody: {program}: {error}; see `postern alarm test`"
                );
            }
        })
    }

    /// Waits until nothing runs and nothing waits.
    pub(super) async fn idle(&self) {
        self.turns.idle().await;
    }
}

/// This binary, which becomes the command once it has given everything up (`cli/alarm.rs`). It is executed with the
/// supervisor's powers, and a hook between fork and exec would have to be trusted to be async-signal-safe.
fn powerless(words: &[String], Identity { uid, gid }: Identity) -> Command {
    let mut command = Command::new(OWN_PROGRAM);
    command.arg0("postern-alarm").arg("run-alarm");
    command.args(["--user-id", &uid.to_string(), "--group-id", &gid.to_string(), "--"]).args(words);
    command.env_clear().env("PATH", PATH).current_dir("/");
    command
}

/// Run a command, with this on its standard input, and kill it and its process group where it does not end in time.
async fn run(mut command: Command, input: &[u8], limit: Duration) -> Result<(), AlarmCommandError> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(AlarmCommandError::Start)?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let mut last = LastWords { stderr, octets: Vec::new() };
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let feed = async {
        if let Some(mut stdin) = stdin {
            // One that does not read needs nothing.
            drop(stdin.write_all(input).await);
        }
    };
    let ended = timeout(limit, async {
        tokio::select! {
            // Neither of them ends the other: both go on until the command has ended.
            (_, status) = async { tokio::join!(feed, child.wait()) } => status,
            never = last.listen() => never,
        }
    });
    match ended.await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => {
            drop(timeout(SAID_TIME_MAX, last.listen::<()>()).await);
            Err(AlarmCommandError::Failed { status, said: last.line() })
        }
        Ok(Err(error)) => Err(AlarmCommandError::Start(error)),
        Err(_) => {
            if let Some(pid) = pid {
                // Not yet reaped, so that the number is still its own.
                let _ = kill_process_group(pid, Signal::KILL);
            }
            drop(child.kill().await);
            Err(AlarmCommandError::Late { limit, said: last.line() })
        }
    }
}

/// What a command said last on stderr.
struct LastWords {
    stderr: Option<ChildStderr>,
    octets: Vec<u8>,
}

impl LastWords {
    /// Read for ever, and keep the end. May be dropped while it waits.
    async fn listen<T>(&mut self) -> T {
        while let Some(stderr) = &mut self.stderr {
            match stderr.read_buf(&mut self.octets).await {
                Ok(1..) => {
                    let beyond = self.octets.len().saturating_sub(SAID_BYTES_MAX);
                    self.octets.drain(..beyond);
                }
                Ok(0) | Err(_) => self.stderr = None,
            }
        }
        std::future::pending().await
    }

    /// The last line that is not empty, which commands no terminal.
    fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.octets);
        crate::record::escaped(text.trim_end().lines().next_back().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", script]);
        command
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_command_gets_its_input_whole_and_what_it_says_about_a_failure_is_kept() {
        let input = "x".repeat(300_000);
        run(shell("[ $(wc -c) = 300000 ]"), input.as_bytes(), PATIENCE).await.unwrap();
        run(shell("exit 0"), input.as_bytes(), PATIENCE).await.unwrap();
        let error = run(shell("echo first >&2; printf 'no \\033route' >&2; exit 3"), b"{}", PATIENCE).await;
        assert_eq!(error.unwrap_err().to_string(), "it ended with exit status: 3: no \\u001broute");
        // A pipe that is never emptied would stop it.
        let error = run(shell("yes | head -c 1000000 >&2; exit 1"), b"{}", PATIENCE).await;
        assert_eq!(error.unwrap_err().to_string(), "it ended with exit status: 1: y");
        let absent = run(Command::new("/nonexistent/notify"), b"{}", PATIENCE).await.unwrap_err();
        assert!(absent.to_string().starts_with("it cannot be started: "), "{absent}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let script = format!("echo waiting >&2; sleep 1000 & echo $$ $! > {}; wait", pids.display());
        let error = run(shell(&script), b"{}", Duration::from_secs(2)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "it did not end within 2 s (alarm.run_seconds) and was killed: waiting"
        );
        let text = std::fs::read_to_string(pids).unwrap();
        assert_eq!(text.split_whitespace().count(), 2, "{text}");
        let lives = |pid: &str| {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        // The kernel ends them in its own time.
        let gone = async {
            while text.split_whitespace().any(lives) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, gone).await.expect("what it started lives on");
    }
}
