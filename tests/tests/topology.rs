//! `scripts/topology.sh`: what it prints works, and `down` leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio, id};

use anyhow::{Context as _, Result, ensure};
use postern_tests::netns;
use postern_tests::postern::binary;
use postern_tests::record::Record;
use postern_tests::wait::{self, PATIENCE};

/// Every printed command begins like this.
const COMMAND: &str = "  ip netns exec ";
/// What `postern run` says when it steers.
const READY: &str = "steering IMAP";
/// A line of the message that the lab's server holds.
const MESSAGE: &str = "this message went through Postern";

/// A topology with a name of its own, so that one that a person plays with is left alone.
struct Topology {
    name: String,
    daemon: Option<Child>,
}

impl Topology {
    fn new(part: &str) -> Self {
        Self { name: format!("topo-{part}-{}", id()), daemon: None }
    }

    /// The script with these arguments.
    fn script(&self, words: &[&str]) -> Result<Output> {
        self.script_with(binary()?, words)
    }

    /// The same, with another daemon.
    fn script_with(&self, postern: impl AsRef<Path>, words: &[&str]) -> Result<Output> {
        let programs = binary()?;
        let target = programs.parent().and_then(Path::parent).context("the binary lies in target/debug")?;
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/topology.sh"));
        command
            .args(words)
            .env("TOPOLOGY", &self.name)
            .env("CARGO_TARGET_DIR", target)
            .env("POSTERN", postern.as_ref());
        netns::run(&mut command, "", PATIENCE)
    }

    fn dir(&self) -> PathBuf {
        Path::new("/run").join(format!("postern-{}", self.name))
    }

    /// What of it is there.
    fn left(&self) -> Result<Vec<PathBuf>> {
        let mut left: Vec<PathBuf> = [self.dir()].into_iter().filter(|path| path.exists()).collect();
        for directory in ["/run/netns", "/etc/netns"].map(Path::new).into_iter().filter(|path| path.exists())
        {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with(&self.name) {
                    left.push(path);
                }
            }
        }
        Ok(left)
    }

    /// The daemon, by the printed command.
    fn run(&mut self, line: &str) -> Result<()> {
        let [records, log] = ["records", "log"].map(|name| self.dir().join(name));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {line}")]).stdin(Stdio::null());
        shell.stdout(fs::File::create(&records)?).stderr(fs::File::create(&log)?);
        self.daemon = Some(shell.spawn()?);
        wait::until("Postern to steer", PATIENCE, || {
            Ok(fs::read_to_string(&log)?.contains(READY).then_some(()))
        })
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        // After a failure; what is down is down.
        let _ = self.script(&["down"]);
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// A printed command to its end. The shell becomes the command, so that what hangs is ended.
fn shell(line: &str) -> Result<Output> {
    netns::run(Command::new("sh").args(["-c", &format!("exec {line}")]), "", PATIENCE)
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|octets| String::from_utf8_lossy(octets).into_owned()).concat()
}

#[test]
fn the_topology_by_hand_fetches_mail_by_the_printed_commands_and_leaves_nothing() -> Result<()> {
    let mut topology = Topology::new("play");
    let printed = said(&topology.script(&["up"])?);
    let commands: Vec<&str> =
        printed.lines().filter(|line| line.starts_with(COMMAND)).map(str::trim).collect();
    let (runs, others): (Vec<&str>, Vec<&str>) =
        commands.into_iter().partition(|line| line.contains(" run --config "));
    ensure!(runs.len() == 1, "one command starts the daemon:\n{printed}");
    let curls: Vec<&&str> = others.iter().filter(|line| line.contains(" curl ")).collect();
    ensure!(curls.len() == 2, "one of each family:\n{printed}");
    for line in curls {
        let line = line.replace("authority.pem", "root.pem");
        let output = shell(&line)?;
        ensure!(said(&output).contains(MESSAGE), "without Postern: {line}\n{}", said(&output));
    }
    topology.run(runs[0])?;
    let mut fetched = 0;
    for line in others {
        let output = shell(line)?;
        ensure!(output.status.success(), "{line}\n{}", said(&output));
        fetched += usize::from(said(&output).contains(MESSAGE));
    }
    ensure!(fetched == 3, "{fetched} commands fetched the message:\n{printed}");
    wait::until("a record of each session", PATIENCE, || {
        let text = fs::read_to_string(topology.dir().join("records"))?;
        let records = text.lines().map(Record::read).collect::<Result<Vec<_>>>()?;
        Ok((records.iter().filter(|record| record.succeeded()).count() >= fetched).then_some(()))
    })?;
    ensure!(topology.script(&["status"])?.status.code() == Some(0), "it is up");
    let second = topology.script(&["up"])?;
    ensure!(!second.status.success() && said(&second).contains("down"), "{}", said(&second));

    for _ in 0..2 {
        let down = topology.script(&["down"])?;
        ensure!(down.status.success(), "{}", said(&down));
        ensure!(topology.left()?.is_empty(), "left behind: {:?}", topology.left()?);
    }
    ensure!(topology.script(&["status"])?.status.code() == Some(3), "it is not up");
    let daemon = topology.daemon.as_mut().context("a daemon")?;
    let ended = wait::until("the end of the daemon", PATIENCE, || Ok(daemon.try_wait()?))?;
    ensure!(ended.success(), "`down` ends the daemon as TERM does: {ended}");
    Ok(())
}

#[test]
fn a_topology_that_cannot_be_laid_or_was_left_half_leaves_nothing_but_the_reason() -> Result<()> {
    let topology = Topology::new("half");
    let output = topology.script(&["up", "--server", "exim"])?;
    ensure!(output.status.code() == Some(64), "{}", said(&output));
    ensure!(said(&output).contains("lab|dovecot|none"), "{}", said(&output));

    // `ca init` is the last step before the mail server starts.
    let output = topology.script_with("/bin/false", &["up"])?;
    ensure!(output.status.code() == Some(1) && said(&output).contains("ca init"), "{}", said(&output));
    ensure!(topology.left()?.is_empty(), "left behind: {:?}", topology.left()?);

    let namespace = format!("{}-server", topology.name);
    let added = netns::run(Command::new("ip").args(["netns", "add", &namespace]), "", PATIENCE)?;
    netns::success("ip netns add", &added)?;
    let output = topology.script(&["up"])?;
    ensure!(output.status.code() == Some(1) && said(&output).contains("left half"), "{}", said(&output));
    let down = topology.script(&["down"])?;
    ensure!(down.status.success() && topology.left()?.is_empty(), "{:?}: {}", topology.left()?, said(&down));
    Ok(())
}
