//! Raw frames on an interface: sent as they are, and read as they come.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::frames::Packet;
use crate::netns::Namespace;
use crate::wait::PATIENCE;

/// Binding a packet socket to an interface takes unsafe code in Rust today, and a few lines of Python.
/// Lines of hexadecimal go in and come out; `.` says that a frame was sent, `!` why it was not.
const RELAY: &str = r#"
import os, socket, sys, threading
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
wire.bind((sys.argv[1], 3))
def listen():
    while True:
        try:
            frame, (_, protocol, kind, _, _) = wire.recvfrom(1 << 17)
        except OSError:
            continue
        if kind != socket.PACKET_OUTGOING:
            os.write(1, frame.hex().encode() + b"\n")
threading.Thread(target=listen, daemon=True).start()
os.write(1, b".\n")
for line in sys.stdin:
    try:
        wire.send(bytes.fromhex(line))
        os.write(1, b".\n")
    except OSError as error:
        os.write(1, b"!" + str(error).encode() + b"\n")
"#;

/// An interface under one's hands, until dropped.
#[derive(Debug)]
pub struct Wire {
    child: Child,
    stdin: ChildStdin,
    sent: Receiver<Result<(), String>>,
    frames: Receiver<Vec<u8>>,
}

impl Wire {
    /// Take hold of an interface; what it receives from now on is kept.
    ///
    /// # Errors
    /// When there is no such interface, or no Python.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let mut command = namespace.command("/usr/bin/python3");
        command.args(["-I", "-S", "-c", RELAY, interface]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            command.spawn().context("cannot start python3; install the Debian package python3")?;
        let (stdin, stdout) =
            (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        let ((done, sent), (heard, frames)) = (mpsc::channel(), mpsc::channel());
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let gone = match line.strip_prefix('!') {
                    Some(error) => done.send(Err(error.to_owned())).is_err(),
                    None if line == "." => done.send(Ok(())).is_err(),
                    None => heard.send(unhex(&line)).is_err(),
                };
                if gone {
                    return;
                }
            }
        });
        let wire = Self { child, stdin, sent, frames };
        wire.acknowledged()
            .with_context(|| format!("no raw frames on {interface} in {}", namespace.name()))?;
        Ok(wire)
    }

    fn acknowledged(&self) -> Result<()> {
        match self.sent.recv_timeout(PATIENCE) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => bail!("the kernel says: {error}"),
            Err(error) => bail!("the relay ended or is silent: {error}"),
        }
    }

    /// Send a frame; it is on its way when this returns.
    ///
    /// # Errors
    /// What the kernel says: the link is down, the frame too long or too short.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        let mut line: String = frame.iter().map(|octet| format!("{octet:02x}")).collect();
        line.push('\n');
        self.stdin.write_all(line.as_bytes()).context("the relay ended")?;
        self.stdin.flush()?;
        self.acknowledged()
    }

    /// The next frame that came in, or none in this time.
    ///
    /// # Errors
    /// When the relay ended.
    pub fn frame(&self, patience: Duration) -> Result<Option<Vec<u8>>> {
        match self.frames.recv_timeout(patience) {
            Ok(frame) => Ok(Some(frame)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the relay ended"),
        }
    }

    /// The next untagged IP packet that fits, or none in this time. Others are thrown away.
    ///
    /// # Errors
    /// When the relay ended.
    pub fn packet(&self, patience: Duration, fits: impl Fn(&Packet) -> bool) -> Result<Option<Packet>> {
        let end = Instant::now() + patience;
        loop {
            let Some(frame) = self.frame(end.saturating_duration_since(Instant::now()))? else {
                return Ok(None);
            };
            if let Some(packet) = packet_of(&frame)
                && fits(&packet)
            {
                return Ok(Some(packet));
            }
        }
    }

    /// Every untagged IP packet that has come in so far and was not taken yet.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        self.frames.try_iter().filter_map(|frame| packet_of(&frame)).collect()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn packet_of(frame: &[u8]) -> Option<Packet> {
    let packet = frame.get(14..)?;
    matches!(frame.get(12..14)?, [0x08, 0x00] | [0x86, 0xDD]).then(|| Packet::read(packet))?
}

fn unhex(line: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        line.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |octet, digit| octet << 4 | digit)).collect()
}
