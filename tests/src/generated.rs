//! Messages that `tests/corpus/mail_corpus.py` makes, and what another reader gets out of messages: Python's own writers and
//! parsers, which share no code with Postern.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const MAKER: &str = include_str!("../corpus/mail_corpus.py");
const READER: &str = include_str!("../corpus/mail_reader.py");
/// Debian's Python, whatever else is on the path.
const PYTHON: &str = "/usr/bin/python3";

/// One message.
#[derive(Clone, Debug)]
pub struct Generated {
    /// What it is: the way to hide something, or the kind of honest mail.
    pub class: String,
    /// Something in it is forbidden.
    pub is_hostile: bool,
    /// What its reader sees.
    pub reader: String,
    /// Its octets, lines ending in CRLF.
    pub octets: Vec<u8>,
}

/// Messages, one after the other, while they are made.
#[derive(Debug)]
pub struct Messages {
    child: Child,
    output: BufReader<ChildStdout>,
}

/// One message for each way to hide a file.
///
/// # Errors
/// Without python3.
pub fn evasions() -> Result<Messages> {
    Messages::of(&["--evasions"])
}

/// So many messages as mailboxes have them, one of twenty hostile.
///
/// # Errors
/// Without python3.
pub fn mailbox(count: usize, seed: u64) -> Result<Messages> {
    Messages::of(&[&count.to_string(), &seed.to_string()])
}

impl Messages {
    fn of(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(PYTHON);
        command.args(["-c", MAKER]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            command.spawn().context("cannot start python3; install the Debian package python3")?;
        let output = BufReader::new(child.stdout.take().context("no output of python3")?);
        Ok(Self { child, output })
    }

    fn read(&mut self) -> Result<Option<Generated>> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let ended = self.child.wait()?;
            ensure!(ended.success(), "mail_corpus.py: {ended}");
            return Ok(None);
        }
        let head: Value = serde_json::from_str(&line).with_context(|| format!("no head: {line}"))?;
        let text =
            |key| head.get(key).and_then(Value::as_str).map(str::to_owned).context("a head without text");
        let length = head.get("octets").and_then(Value::as_u64).context("a head without a length")?;
        let mut octets = vec![0; usize::try_from(length)?];
        self.output.read_exact(&mut octets).context("a message that is cut")?;
        let is_hostile = head.get("hostile").and_then(Value::as_bool).unwrap_or_default();
        Ok(Some(Generated { class: text("class")?, is_hostile, reader: text("reader")?, octets }))
    }
}

impl Iterator for Messages {
    type Item = Result<Generated>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What Python's parsers of mail and archives get out of each message: the forbidden files, or `nothing`.
///
/// # Errors
/// Without python3, or when it gives up.
pub fn read_by_python<'m>(messages: impl Iterator<Item = &'m [u8]>) -> Result<Vec<String>> {
    let mut command = Command::new(PYTHON);
    command.args(["-c", READER]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start python3; install the Debian package python3")?;
    let mut input = child.stdin.take().context("no input of python3")?;
    let mut output = BufReader::new(child.stdout.take().context("no output of python3")?);
    let mut found = Vec::new();
    for message in messages {
        input.write_all(format!("{}\n", message.len()).as_bytes())?;
        input.write_all(message)?;
        input.flush()?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "mail_reader.py ended behind {} messages", found.len());
        found.push(line.trim_end().to_owned());
    }
    drop(input);
    let ended = child.wait()?;
    ensure!(ended.success(), "mail_reader.py: {ended}");
    Ok(found)
}
