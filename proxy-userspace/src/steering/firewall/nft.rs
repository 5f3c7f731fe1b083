//! Running `nft -j list ruleset` in the network namespace of the calling thread, within bounds.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::{FirewallError, Ruleset};

/// nft answers in milliseconds. Tens of thousands of rules take longer, and a start must not wait for them.
pub(super) const RUN_SECONDS_MAX: u64 = 5;
/// 20,000 rules and a set of 100,000 addresses take 9 MiB.
pub(super) const JSON_BYTES_MAX: usize = 16 * 1024 * 1024;
/// An error of nft is a line or two; warnings may be one a table.
const STDERR_BYTES_MAX: usize = 64 * 1024;
/// The pause between two checks of whether nft has ended, after it closed its output.
const END_POLL: Duration = Duration::from_millis(5);
/// Services often run without the administrator's directories in PATH.
const PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];

/// The rules of this thread's network namespace.
///
/// # Errors
/// There is no nft, nft has no `CAP_NET_ADMIN`, or nft does not answer as expected.
pub(crate) fn read_ruleset() -> Result<Ruleset, FirewallError> {
    let answer = answer(start()?, Instant::now() + Duration::from_secs(RUN_SECONDS_MAX))?;
    Ruleset::parse(&answer)
}

/// The tables of iptables-legacy in this thread's network namespace, which nft does not show.
pub(crate) fn read_legacy() -> Vec<String> {
    let read = |file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    let named = |program: &str, file| -> Vec<String> {
        read(file).split_whitespace().map(|table| format!("{program} {table}")).collect()
    };
    let mut tables = named("iptables-legacy", "ip_tables_names");
    tables.extend(named("ip6tables-legacy", "ip6_tables_names"));
    tables
}

fn start() -> Result<Child, FirewallError> {
    for program in PROGRAMS {
        let mut command = Command::new(program);
        command.args(["-j", "list", "ruleset"]).env("LC_ALL", "C");
        match piped(&mut command).spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            started => return started.map_err(|source| FirewallError::Run { source }),
        }
    }
    Err(FirewallError::NoNft)
}

fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// What nft printed. nft has ended when this returns.
fn answer(mut nft: Child, deadline: Instant) -> Result<Vec<u8>, FirewallError> {
    let answer = listen(&mut nft, deadline);
    if answer.is_err() {
        // The kill fails only where nft has just ended by itself.
        let _ = nft.kill();
        let _ = nft.wait();
    }
    answer
}

fn listen(nft: &mut Child, deadline: Instant) -> Result<Vec<u8>, FirewallError> {
    let said = reader(nft.stderr.take(), STDERR_BYTES_MAX)?;
    let json = received(&reader(nft.stdout.take(), JSON_BYTES_MAX + 1)?, deadline)?;
    if json.len() > JSON_BYTES_MAX {
        return Err(FirewallError::TooLong);
    }
    let status = ended(nft, deadline)?;
    if status.success() {
        return Ok(json);
    }
    let said = received(&said, deadline).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).lines().next().unwrap_or("nothing on stderr").to_owned();
    Err(FirewallError::Refused { status, said })
}

/// What a reading thread sends at the end.
type Octets = io::Result<Vec<u8>>;

/// Read one output on a thread: nft could block on one output while we wait for the other.
fn reader(
    output: Option<impl Read + Send + 'static>,
    octets_max: usize,
) -> Result<mpsc::Receiver<Octets>, FirewallError> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        let mut read = Vec::new();
        let limit = u64::try_from(octets_max).unwrap_or(u64::MAX);
        let result = output.map_or(Ok(0), |output| output.take(limit).read_to_end(&mut read));
        // The receiver is gone when nft took too long.
        let _ = sender.send(result.map(|_| read));
    };
    let started = thread::Builder::new().name("nft".to_owned()).spawn(read);
    started.map(|_| receiver).map_err(|source| FirewallError::Run { source })
}

fn received(from: &mpsc::Receiver<Octets>, deadline: Instant) -> Result<Vec<u8>, FirewallError> {
    let left = deadline.saturating_duration_since(Instant::now());
    let result = from.recv_timeout(left).map_err(|_| FirewallError::TimedOut)?;
    result.map_err(|source| FirewallError::Run { source })
}

fn ended(nft: &mut Child, deadline: Instant) -> Result<ExitStatus, FirewallError> {
    loop {
        match nft.try_wait().map_err(|source| FirewallError::Run { source })? {
            Some(status) => return Ok(status),
            None if Instant::now() >= deadline => return Err(FirewallError::TimedOut),
            None => thread::sleep(END_POLL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(program: &str, arguments: &[&str], within: Duration) -> Result<Vec<u8>, FirewallError> {
        let child = piped(Command::new(program).args(arguments)).spawn().expect(program);
        answer(child, Instant::now() + within)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        for script in ["exec sleep 1000", "exec >&- 2>&-; exec sleep 1000"] {
            let result = answered("sh", &["-c", script], Duration::from_millis(100));
            assert!(matches!(result, Err(FirewallError::TimedOut)), "{script}: {result:?}");
        }
    }

    #[test]
    fn a_program_that_prints_without_end_is_killed() {
        assert!(matches!(answered("cat", &["/dev/zero"], LONG), Err(FirewallError::TooLong)));
    }

    #[test]
    fn what_a_program_complains_of_is_told_however_long_it_is() {
        let script = "echo no such luck >&2; head -c 1000000 /dev/zero >&2; echo {}; exit 3";
        let error = answered("sh", &["-c", script], LONG).expect_err("a failure").to_string();
        assert!(error.contains("ended with exit status: 3: no such luck"), "{error}");
    }
}
