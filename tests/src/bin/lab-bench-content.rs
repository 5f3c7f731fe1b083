//! What judging mail costs and finds, beside clamd: a corpus of generated messages, each judged by Postern's judge of
//! leaves and by a clamd of its own, in the same run. Figures are reported, never judged.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use postern::content::open::OpenLimits;
use postern::content::scan::yara::{YaraScanner, compile, pack};
use postern::content::{Case, ContentAction, ContentPiece, Judge, Judged, LeafJudge, Rules, Shape, judge};
use postern_tests::corpus::make::eicar;
use postern_tests::cost::machine;
use postern_tests::generated::mailbox;
use postern_tests::wait::{self, PATIENCE};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

/// Options.
#[derive(Parser)]
struct Args {
    /// Messages.
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    /// Of the generator.
    #[arg(long, default_value_t = 12)]
    seed: u64,
}

/// Octets of a chunk that clamd is sent.
const CHUNK_BYTES: usize = 64 << 10;

/// A clamd with one signature, the EICAR test file's, and no other: its own ones cannot be fetched everywhere.
struct Clamd {
    dir: TempDir,
    child: Child,
}

impl Clamd {
    fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("postern-clamd-").tempdir()?;
        let home = dir.path();
        let hex: String = eicar().iter().map(|octet| format!("{octet:02x}")).collect();
        fs::create_dir(home.join("db"))?;
        fs::write(home.join("db/test.ndb"), format!("Eicar-Test-Signature:0:*:{hex}\n"))?;
        let config = format!(
            "Foreground yes\nLocalSocket {0}/socket\nDatabaseDirectory {0}/db\nMaxThreads 1\nLogFile {0}/log\n\
             AlertEncrypted yes\nAlertExceedsMax yes\nUser root\n",
            home.display()
        );
        fs::write(home.join("clamd.conf"), config)?;
        let mut command = Command::new("/usr/sbin/clamd");
        command.arg("--config-file").arg(home.join("clamd.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            command.spawn().context("cannot start clamd; install the Debian package clamav-daemon")?;
        let clamd = Self { dir, child };
        wait::until("clamd", PATIENCE, || Ok(UnixStream::connect(clamd.dir.path().join("socket")).ok()))?;
        Ok(clamd)
    }

    /// Whether it finds something (clamd(8), INSTREAM).
    fn scan(&self, octets: &[u8]) -> Result<bool> {
        let mut stream = UnixStream::connect(self.dir.path().join("socket"))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(b"zINSTREAM\0")?;
        for chunk in octets.chunks(CHUNK_BYTES) {
            stream.write_all(&u32::try_from(chunk.len())?.to_be_bytes())?;
            stream.write_all(chunk)?;
        }
        stream.write_all(&[0; 4])?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("stream: ") && !answer.contains("ERROR"), "clamd says {answer:?}");
        Ok(answer.contains("FOUND"))
    }

    /// CPU seconds until now.
    fn cpu(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += text.split(' ').next().context("schedstat")?.parse::<f64>()?;
        }
        Ok(nanoseconds / 1e9)
    }
}

impl Drop for Clamd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU seconds of this thread until now.
fn own_cpu() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default().as_secs_f64()
}

/// Whether something of the message is removed.
fn removes(judging: &dyn Judge, octets: Vec<u8>) -> Result<bool> {
    let pieces = vec![ContentPiece { range: 0..octets.len(), shape: Shape::Message }];
    let case = Case { octets, pieces, describes_allowed: false };
    match judge(case, judging, &AtomicBool::new(false)) {
        Judged::Final { leaves, .. } => Ok(leaves.iter().any(|leaf| leaf.action != ContentAction::Allow)),
        Judged::Unavailable { why } => anyhow::bail!("not judged: {}", why.token()),
    }
}

/// The judge that `[action.content]` without a line gives, with Postern's own rules of the scanner.
fn judge_of_leaves() -> Result<LeafJudge> {
    let rules = Rules::new::<&str, &str>(&[], &["executable"])?;
    let scanner = YaraScanner::load(&pack(&compile(&[], true)?, &[], true)?)?;
    Ok(LeafJudge::new(Arc::new(rules), vec![Arc::new(scanner)], OpenLimits::default()))
}

/// What was found of a class.
#[derive(Default)]
struct Tally {
    messages: usize,
    postern: usize,
    clamd: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let judging = judge_of_leaves()?;
    let clamd = Clamd::start()?;
    let (mut classes, mut octets, mut postern_cpu) = (BTreeMap::<(bool, String), Tally>::new(), 0_u64, 0.0);
    let clamd_before = clamd.cpu()?;
    for message in mailbox(args.messages, args.seed)? {
        let message = message?;
        octets += message.octets.len() as u64;
        let tally = classes.entry((message.is_hostile, message.class)).or_default();
        tally.messages += 1;
        tally.clamd += usize::from(clamd.scan(&message.octets)?);
        let before = own_cpu();
        tally.postern += usize::from(removes(&judging, message.octets)?);
        postern_cpu += own_cpu() - before;
    }
    let clamd_cpu = clamd.cpu()? - clamd_before;
    println!("{}\n{} messages, {:.1} MB\n", machine()?, args.messages, octets as f64 / 1e6);
    for (is_hostile, title) in [(true, "hostile: found"), (false, "honest: false alarms")] {
        println!("{title:<28}{:>9}{:>9}{:>9}", "messages", "Postern", "clamd");
        let mut sum = Tally::default();
        for ((_, class), tally) in classes.iter().filter(|((hostile, _), _)| *hostile == is_hostile) {
            println!("{class:<28}{:>9}{:>9}{:>9}", tally.messages, tally.postern, tally.clamd);
            sum.messages += tally.messages;
            sum.postern += tally.postern;
            sum.clamd += tally.clamd;
        }
        println!("{:<28}{:>9}{:>9}{:>9}\n", "in all", sum.messages, sum.postern, sum.clamd);
    }
    let each = |seconds: f64| seconds * 1e3 / args.messages as f64;
    println!(
        "CPU per message: Postern's judge {:.3} ms, clamd {:.3} ms ({:.2} of clamd's)",
        each(postern_cpu),
        each(clamd_cpu),
        postern_cpu / clamd_cpu
    );
    Ok(())
}
