//! The daemon under test: its configuration, process, records and counters.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{EGRESS, INGRESS};
use crate::netns::{self, Namespace};
use crate::pki::{self, Authority};
use crate::record::Record;
use crate::wait::{self, PATIENCE};

/// What stderr says when steering works.
const READY: &str = "steering IMAP";

/// Tests open crowds from one address: no limit on handshakes, unless a test is about these limits.
const HANDSHAKES_UNLIMITED: &str = "handshakes = 100000\nhandshakes_per_client = 100000\n\
     handshakes_per_second_per_client = 100000\nhandshake_burst_per_client = 100000";

/// A configuration to be written, in the words of the file.
#[derive(Clone, Debug)]
pub struct Policy {
    ingress: Vec<String>,
    egress: Vec<String>,
    source: String,
    on_exit: String,
    steering: Vec<String>,
    tls: Vec<String>,
    fault: Vec<String>,
    certificates: Vec<String>,
    action: Vec<String>,
    handshakes: String,
    limits: Vec<String>,
    tables: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        let (owned, none) = (str::to_owned, Vec::new);
        Self {
            ingress: vec![owned(INGRESS)],
            egress: vec![owned(EGRESS)],
            source: owned("gateway"),
            on_exit: owned("open"),
            steering: none(),
            tls: none(),
            fault: none(),
            certificates: none(),
            action: none(),
            handshakes: owned(HANDSHAKES_UNLIMITED),
            limits: none(),
            tables: none(),
        }
    }
}

impl Policy {
    /// The defaults, for the lab's interfaces; but `on_exit = "open"`, so that nothing is left after a stop, and
    /// without limits on handshakes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Other interfaces of the clients.
    #[must_use]
    pub fn ingress(mut self, interfaces: &[&str]) -> Self {
        self.ingress = interfaces.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Other interfaces towards the servers.
    #[must_use]
    pub fn egress(mut self, interfaces: &[&str]) -> Self {
        self.egress = interfaces.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Whose address servers see: `gateway` or `client`.
    #[must_use]
    pub fn source(mut self, word: &str) -> Self {
        word.clone_into(&mut self.source);
        self
    }

    /// What becomes of mail while no daemon runs: `open` or `closed`.
    #[must_use]
    pub fn on_exit(mut self, word: &str) -> Self {
        word.clone_into(&mut self.on_exit);
        self
    }

    /// Further text at the end of the file: tables with their headers, such as `[[steering.reach]]`.
    #[must_use]
    pub fn table(mut self, text: &str) -> Self {
        self.tables.push(text.to_owned());
        self
    }

    /// A further line of `[steering]`.
    #[must_use]
    pub fn steering(mut self, line: &str) -> Self {
        self.steering.push(line.to_owned());
        self
    }

    /// A further line of `[tls]`.
    #[must_use]
    pub fn tls(mut self, line: &str) -> Self {
        self.tls.push(line.to_owned());
        self
    }

    /// A verdict for a fault.
    #[must_use]
    pub fn fault(mut self, fault: &str, verdict: &str) -> Self {
        self.fault.push(format!("{fault} = \"{verdict}\""));
        self
    }

    /// A further line of `[certificates]`.
    #[must_use]
    pub fn certificates(mut self, line: &str) -> Self {
        self.certificates.push(line.to_owned());
        self
    }

    /// A further line of `[action]`.
    #[must_use]
    pub fn action(mut self, line: &str) -> Self {
        self.action.push(line.to_owned());
        self
    }

    /// The default limits on handshakes; [`Self::limits`] may give others.
    #[must_use]
    pub fn handshakes_limited(mut self) -> Self {
        self.handshakes.clear();
        self
    }

    /// A further line of `[limits]`.
    #[must_use]
    pub fn limits(mut self, line: &str) -> Self {
        self.limits.push(line.to_owned());
        self
    }

    /// The file's text; keys and socket stand beside it.
    #[must_use]
    pub fn text(&self, dir: &Path) -> String {
        let lines = |lines: &[String]| lines.join("\n");
        // Most of these tests are about other stages, and their peers speak little IMAP.
        let says_inspect = self.action.iter().any(|line| line.starts_with("inspect"));
        let inspect = if says_inspect { "" } else { "inspect = \"none\"" };
        format!(
            "[steering]\ningress = {:?}\negress = {:?}\nsource = {:?}\non_exit = {:?}\n{}\n\
             [tls]\nroots = [\"roots.pem\"]\n{}\n[tls.fault]\n{}\n\
             [certificates]\nauthority = {{ cert = \"ca/authority.pem\", key = \"ca/authority.key\" }}\n{}\n\
             [action]\n{}\n{}\n[limits]\n{}\n{}\n[state]\ndirectory = \"{}\"\n[admin]\nsocket = \"{}\"\n{}\n",
            self.ingress,
            self.egress,
            self.source,
            self.on_exit,
            lines(&self.steering),
            lines(&self.tls),
            lines(&self.fault),
            lines(&self.certificates),
            inspect,
            lines(&self.action),
            self.handshakes,
            lines(&self.limits),
            dir.join("state").display(),
            dir.join("admin.sock").display(),
            lines(&self.tables),
        )
    }
}

/// Configuration, keys and the binary, before and between runs.
#[derive(Debug)]
pub struct Installation {
    dir: TempDir,
    authority_pem: String,
}

impl Installation {
    /// Make an authority with `postern ca init` and write the configuration beside it.
    ///
    /// # Errors
    /// When the binary is absent or refuses.
    pub fn new(policy: &Policy, roots: &Authority) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("postern-lab-").tempdir()?;
        let ca = dir.path().join("ca");
        let output = Command::new(binary()?).args(["ca", "init", "--out"]).arg(&ca).output()?;
        netns::success("postern ca init", &output)?;
        let authority_pem = fs::read_to_string(ca.join("authority.pem"))?;
        fs::write(dir.path().join("roots.pem"), roots.pem())?;
        let this = Self { dir, authority_pem };
        this.configure(policy)?;
        Ok(this)
    }

    /// Write another configuration.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, policy: &Policy) -> Result<()> {
        Ok(fs::write(self.config(), policy.text(self.dir()))?)
    }

    /// The directory of everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir().join("postern.toml")
    }

    /// The certificate that clients are told to trust.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// Its file.
    #[must_use]
    pub fn authority_file(&self) -> PathBuf {
        self.dir().join("ca/authority.pem")
    }

    /// Run `postern` with this configuration and these arguments to its end, such as `check`, `status` or `clear`.
    ///
    /// # Errors
    /// When it cannot be started or does not end; any exit code is fine.
    pub fn command(&self, namespace: &Namespace, args: &[&str]) -> Result<Said> {
        let mut command = namespace.command(binary()?);
        command.arg("--config").arg(self.config()).args(args);
        let output = netns::run(&mut command, "", PATIENCE)?;
        Ok(Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Start the daemon and wait until it steers. After a stop or a kill it can be started again; the log and the
    /// records begin anew then.
    ///
    /// # Errors
    /// Shows what it said when it did not come up.
    pub fn start<'a>(&'a self, namespace: &'a Namespace) -> Result<Postern<'a>> {
        self.start_with(namespace, &[])
    }

    /// The same, through a wrapper such as `prlimit`.
    ///
    /// # Errors
    /// Shows what it said when it did not come up.
    pub fn start_with<'a>(&'a self, namespace: &'a Namespace, wrapper: &[&str]) -> Result<Postern<'a>> {
        let mut postern = self.spawn(namespace, wrapper)?;
        wait::until("Postern to steer", PATIENCE, || {
            if let Some(status) = postern.child.try_wait()? {
                bail!("postern run ended with {status}:\n{}", postern.log());
            }
            Ok((postern.log().contains(READY) && postern.status().is_ok()).then_some(()))
        })
        .with_context(|| postern.log())?;
        Ok(postern)
    }

    /// Start the daemon. The caller checks whether it steers.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn<'a>(&'a self, namespace: &'a Namespace, wrapper: &[&str]) -> Result<Postern<'a>> {
        let streams = ["records", "log"].map(|name| File::create(self.dir().join(name)));
        let [stdout, stderr] = streams;
        self.spawn_onto(namespace, wrapper, stdout?.into(), stderr?.into())
    }

    /// The same with other streams than files: records and log cannot be read then.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn spawn_onto<'a>(
        &'a self,
        namespace: &'a Namespace,
        wrapper: &[&str],
        stdout: Stdio,
        stderr: Stdio,
    ) -> Result<Postern<'a>> {
        let mut words: Vec<String> = wrapper.iter().map(|&word| word.to_owned()).collect();
        words.push(binary()?.display().to_string());
        let (first, rest) = words.split_first().context("no command")?;
        let mut command = namespace.command(first);
        command.args(rest).arg("--config").arg(self.config()).arg("run");
        command.stdout(stdout).stderr(stderr);
        let child = command.spawn().context("cannot start postern")?;
        Ok(Postern { installation: self, namespace, child })
    }
}

/// What a command said, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// A running daemon, killed when dropped; its log is shown when a test is failing.
#[derive(Debug)]
pub struct Postern<'a> {
    installation: &'a Installation,
    namespace: &'a Namespace,
    child: Child,
}

impl Postern<'_> {
    /// Everything it said on stderr.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.installation.dir().join("log")).unwrap_or_default()
    }

    /// Wait until it has said something.
    ///
    /// # Errors
    /// Shows what it said instead.
    pub fn wait_log(&self, words: &str) -> Result<()> {
        wait::until(words, PATIENCE, || Ok(self.log().contains(words).then_some(())))
            .with_context(|| self.log())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The number of one of its processes: `supervisor`, `worker` or `signer`.
    ///
    /// # Errors
    /// When it has none of that name now.
    pub fn process(&self, name: &str) -> Result<u32> {
        let status = self.status()?;
        let of_name = |process: &&Value| process.get("name").is_some_and(|known| known == name);
        let processes = status.get("processes").and_then(Value::as_array).context("no processes")?;
        let pid = processes.iter().find(of_name).and_then(|process| process.get("pid")?.as_u64());
        Ok(u32::try_from(pid.with_context(|| format!("no {name} in {status:#}"))?)?)
    }

    /// The numbers of all its processes.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn processes(&self) -> Result<Vec<u32>> {
        ["supervisor", "worker", "signer"].into_iter().map(|name| self.process(name)).collect()
    }

    /// The records of sessions that have ended, so far.
    ///
    /// # Errors
    /// When a line is no JSON object, or holds what docs/records.md does not have.
    pub fn records(&self) -> Result<Vec<Record>> {
        Ok(self.lines()?.into_iter().filter(Record::is_end).collect())
    }

    /// The lines of sessions that have begun, so far.
    ///
    /// # Errors
    /// When a line is no JSON object.
    pub fn starts(&self) -> Result<Vec<Record>> {
        Ok(self.lines()?.into_iter().filter(Record::is_start).collect())
    }

    /// The lines about mail that was removed or refused, so far.
    ///
    /// # Errors
    /// When a line is no JSON object, or holds what docs/records.md does not have.
    pub fn verdicts(&self) -> Result<Vec<Record>> {
        Ok(self.lines()?.into_iter().filter(Record::is_verdict).collect())
    }

    /// The lines about what the account guard refused, so far.
    ///
    /// # Errors
    /// When a line is no JSON object, or holds what docs/records.md does not have.
    pub fn guarded(&self) -> Result<Vec<Record>> {
        Ok(self.lines()?.into_iter().filter(Record::is_guard).collect())
    }

    fn lines(&self) -> Result<Vec<Record>> {
        let text = fs::read_to_string(self.installation.dir().join("records"))?;
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        whole.lines().map(Record::read).collect()
    }

    /// Wait for a record that fits.
    ///
    /// # Errors
    /// Shows the records that there were.
    pub fn wait_record(&self, what: &str, fits: impl Fn(&Record) -> bool) -> Result<Record> {
        let found = wait::until(&format!("a record: {what}"), PATIENCE, || {
            Ok(self.records()?.into_iter().find(&fits))
        });
        found.with_context(|| format!("records: {:#?}\nlog:\n{}", self.records(), self.log()))
    }

    /// Wait for a verdict that fits: its line is written while the mail is already on its way.
    ///
    /// # Errors
    /// Shows the verdicts that there were.
    pub fn wait_verdict(&self, what: &str, fits: impl Fn(&Record) -> bool) -> Result<Record> {
        let found = wait::until(&format!("a verdict: {what}"), PATIENCE, || {
            Ok(self.verdicts()?.into_iter().find(&fits))
        });
        found.with_context(|| format!("verdicts: {:#?}\nlog:\n{}", self.verdicts(), self.log()))
    }

    /// Wait until there are `count` records.
    ///
    /// # Errors
    /// Says how many there were.
    pub fn wait_records(&self, count: usize) -> Result<Vec<Record>> {
        let found = wait::until(&format!("{count} records"), PATIENCE, || {
            let records = self.records()?;
            Ok((records.len() >= count).then_some(records))
        });
        found.with_context(|| {
            format!("{} records\nlog:\n{}", self.records().map_or(0, |r| r.len()), self.log())
        })
    }

    /// What `postern status --json` prints.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn status(&self) -> Result<Value> {
        let said = self.installation.command(self.namespace, &["status", "--json"])?;
        ensure!(said.code == Some(0), "postern status: {said:?}");
        Ok(serde_json::from_str(&said.stdout)?)
    }

    /// A steering counter by name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let status = self.status()?;
        find(&status, name)
            .and_then(Value::as_u64)
            .with_context(|| format!("no counter {name} in {status:#}"))
    }

    /// Send a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// Wait until it has ended by itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        wait::until("the end of Postern", patience, || Ok(self.child.try_wait()?)).with_context(|| self.log())
    }

    /// TERM, and wait for the end.
    ///
    /// # Errors
    /// When it does not end, or not with success.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait(PATIENCE)?;
        if !status.success() {
            bail!("postern ended with {status} after TERM:\n{}", self.log());
        }
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.wait(PATIENCE).map(drop)
    }
}

impl Drop for Postern<'_> {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if self.signal(Signal::TERM).is_ok() {
                let _ = self.signal(Signal::TERM);
                let _ = self.wait(Duration::from_secs(2));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() || env::var_os("POSTERN_LAB_LOG").is_some() {
            eprintln!("postern said:\n{}\nrecords: {:#?}", self.log(), self.records());
        }
    }
}

/// A value by name, wherever it stands.
fn find<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map.get(name).or_else(|| map.values().find_map(|inner| find(inner, name))),
        Value::Array(list) => list.iter().find_map(|inner| find(inner, name)),
        _ => None,
    }
}

/// The number of the user that a process runs as.
///
/// # Errors
/// When the process is gone.
pub fn user(process: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(line.and_then(|line| line.split_whitespace().next()).context("no user")?.to_owned())
}

/// The daemon's binary: beside the test binaries, or where `POSTERN` says.
///
/// # Errors
/// Says how to build it.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("POSTERN") {
        return Ok(path.into());
    }
    let exe = env::current_exe()?;
    exe.ancestors().skip(1).map(|dir| dir.join("postern")).find(|path| path.is_file()).context(
        "no postern beside the tests: build it with `cargo build` or name it in the variable POSTERN",
    )
}

/// The roots that a client of this installation trusts.
///
/// # Errors
/// When the authority's file is no certificate.
pub fn client_roots(installation: &Installation) -> Result<std::sync::Arc<rustls::RootCertStore>> {
    pki::trust(installation.authority_pem())
}

/// Children that tests start by themselves: killed when dropped.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    /// Start it with its output thrown away.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn quiet(command: &mut Command) -> Result<Self> {
        Ok(Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
