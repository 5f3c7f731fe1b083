//! Which record layer takes less CPU time on this machine, for each cipher. `tls.offload = "auto"` decides by it.
//!
//! For each layer and cipher there is one TLS connection of this process with itself. Two batches circulate on it: each
//! end receives what the other sent, and sends it back from the same buffer, as a relay does. The layers take turns, so
//! that other load on the machine burdens both. One thread does all the work, the softirq of loopback included, and its
//! CPU time is the result.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use rustls::{SupportedCipherSuite, crypto, version};
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::offload::{Abilities, Cipher, OffloadTerms};
use super::{
    Batch, Incoming, LayerFault, Outgoing, PLAINTEXT_BYTES_MAX, Pool, Receive, Received, Transmit, split,
};
use crate::config::Offload;
use crate::failure::Cause;
use crate::handshake::loopback;

/// How long a cipher is measured, both layers together.
const CIPHER_TIME: Duration = Duration::from_millis(500);
/// Turns of each layer in that time.
const TURNS: u32 = 4;
/// A turn that takes this much longer than it should has stalled.
const STALL: Duration = Duration::from_secs(5);
/// Records of full size in a batch: what one read of a busy session yields.
const BATCH_RECORDS: usize = 4;
/// The size of each socket buffer, in octets. Both batches fit, so that no end waits for the other to read.
const SOCKET_BYTES: usize = 256 * 1024;
/// Fewer octets than this give no figure: a turn's fixed cost would be counted with them.
const MEASURED_BYTES_MIN: u64 = 1_000_000;
/// The kernel's layer is used where it takes at most this share of the CPU time, in percent. A smaller gain is within
/// the error of the measurement.
const KERNEL_PERCENT_MAX: f64 = 90.0;

/// What moving octets cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Octets of plaintext that were received and sent again.
    pub octets: u64,
    /// CPU time of it.
    pub cpu: Duration,
}

impl Spent {
    /// CPU seconds per gigabyte (10^9 octets); `None` where too little was moved to tell.
    fn per_gigabyte(self) -> Option<f64> {
        (self.octets >= MEASURED_BYTES_MIN).then(|| self.cpu.as_secs_f64() * 1e9 / self.octets as f64)
    }
}

/// The two record layers beside each other under one cipher.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Of TLS 1.3; TLS 1.2 with the same cipher does the same work.
    pub cipher: Cipher,
    /// In this process.
    pub user: Spent,
    /// In the kernel.
    pub kernel: Spent,
}

impl Comparison {
    /// Whether the kernel's layer takes less CPU time, by enough.
    fn kernel_wins(&self) -> bool {
        match (self.user.per_gigabyte(), self.kernel.per_gigabyte()) {
            (Some(user), Some(kernel)) => kernel * 100.0 <= user * KERNEL_PERCENT_MAX,
            _ => false,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cipher = self.cipher.as_str();
        match (self.user.per_gigabyte(), self.kernel.per_gigabyte()) {
            (Some(user), Some(kernel)) => {
                let taken = if self.kernel_wins() { "kernel" } else { "this process" };
                write!(f, "{cipher} {taken} (this process {user:.2}, kernel {kernel:.2} CPU s per GB)")
            }
            _ => write!(f, "{cipher} this process (under 1 MB could be moved, too little to tell)"),
        }
    }
}

/// What came of the measurement at the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Measurement {
    /// None, and why.
    Without(Cow<'static, str>),
    /// One that failed, and how.
    Failed(String),
    /// A comparison for each cipher.
    Taken(Vec<Comparison>),
}

impl Default for Measurement {
    fn default() -> Self {
        Self::Without("nothing was measured, because tls.offload was not \"auto\" at the start".into())
    }
}

impl Measurement {
    /// Measure every cipher that the kernel has, on a thread of its own; takes half a second for each. Kernels that
    /// cannot change keys are not measured, because `auto` never gives them a session.
    #[must_use]
    pub fn take(abilities: &Abilities) -> Self {
        if abilities.absent.is_some() {
            return Self::Without("this kernel has no TLS, or its module is not loaded".into());
        }
        if !abilities.rekey {
            return Self::Without("this kernel's TLS cannot change keys (Linux 6.14 can)".into());
        }
        let measured = thread::scope(|scope| {
            let measure = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(Cause::Socket)?.block_on(compare_all(abilities))
            };
            scope.spawn(measure).join()
        });
        match measured {
            Ok(Ok(comparisons)) => Self::Taken(comparisons),
            Ok(Err(cause)) => Self::Failed(cause.to_string()),
            Err(_) => Self::Failed("a fault in Postern, please report it".to_owned()),
        }
    }

    /// Whether the kernel's layer is the better one for a cipher.
    #[must_use]
    pub fn prefers_kernel(&self, cipher: Cipher) -> bool {
        match self {
            Self::Taken(comparisons) => {
                comparisons.iter().any(|comparison| comparison.cipher == cipher && comparison.kernel_wins())
            }
            Self::Without(_) | Self::Failed(_) => false,
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Without(why) => write!(f, "this process: {why}"),
            Self::Failed(how) => write!(f, "this process: the measurement failed: {how}"),
            Self::Taken(comparisons) => {
                let lines: Vec<String> = comparisons.iter().map(Comparison::to_string).collect();
                f.write_str(&lines.join("; "))
            }
        }
    }
}

async fn compare_all(abilities: &Abilities) -> Result<Vec<Comparison>, Cause> {
    let mut comparisons = Vec::new();
    for cipher in Cipher::ALL {
        let suite = crypto::aws_lc_rs::ALL_CIPHER_SUITES
            .iter()
            .copied()
            .find(|suite| suite.version() == &version::TLS13 && Cipher::of(*suite) == Some(cipher));
        if let Some(suite) = suite
            && abilities.can(version::TLS13.version, suite)
        {
            comparisons.push(compare(cipher, suite, abilities).await?);
        }
    }
    Ok(comparisons)
}

async fn compare(
    cipher: Cipher,
    suite: SupportedCipherSuite,
    abilities: &Abilities,
) -> Result<Comparison, Cause> {
    let ring = async |mode| {
        let terms = OffloadTerms { mode, abilities: abilities.clone(), ..OffloadTerms::default() };
        Ring::open(suite, &terms).await
    };
    let (mut user, mut kernel) = (ring(Offload::Never).await?, ring(Offload::Always).await?);
    let turn = CIPHER_TIME / (2 * TURNS);
    for _ in 0..TURNS {
        user.turn(turn).await?;
        kernel.turn(turn).await?;
    }
    Ok(Comparison { cipher, user: user.spent, kernel: kernel.spent })
}

/// A connection with ourselves on which two batches circulate.
struct Ring {
    near: (Incoming, Outgoing),
    far: (Incoming, Outgoing),
    spent: Spent,
}

impl Ring {
    async fn open(suite: SupportedCipherSuite, terms: &OffloadTerms) -> Result<Self, Cause> {
        let (near, far) = loopback::connect(suite).await?;
        let pool = Pool::default();
        let halves = |side: crate::handshake::Finished| {
            let socket = SockRef::from(&side.socket);
            socket.set_send_buffer_size(SOCKET_BYTES).map_err(Cause::Socket)?;
            socket.set_recv_buffer_size(SOCKET_BYTES).map_err(Cause::Socket)?;
            split(side.socket, side.secrets, side.kernel, &pool, terms).map_err(Cause::Layer)
        };
        let mut ring = Self { near: halves(near)?, far: halves(far)?, spent: Spent::default() };
        for transmit in [&mut ring.near.1, &mut ring.far.1] {
            let mut batch = full_batch(&pool).await;
            poll_fn(|cx| transmit.poll_send(cx, &mut batch)).await.map_err(Cause::Layer)?;
        }
        Ok(ring)
    }

    /// Let the batches circulate for so long. Afterwards only the sockets hold octets.
    async fn turn(&mut self, long: Duration) -> Result<(), Cause> {
        let (before, until) = (clock_gettime(ClockId::ThreadCPUTime), Instant::now() + long);
        let ends = async { tokio::try_join!(pass_on(&mut self.near, until), pass_on(&mut self.far, until)) };
        let passed = tokio::time::timeout(long + STALL, ends).await;
        let (near, far) = passed.map_err(|_| Cause::Silent(STALL.as_secs()))?.map_err(Cause::Layer)?;
        let after = clock_gettime(ClockId::ThreadCPUTime);
        self.spent.octets = self.spent.octets.saturating_add(near).saturating_add(far);
        self.spent.cpu = self.spent.cpu.saturating_add(since(before, after));
        Ok(())
    }
}

/// Receive and send on until the time is over. Returns the octets.
///
/// An end stops after a send. So the batch is on its way to the other end, which therefore wakes and stops, too.
async fn pass_on((receive, transmit): &mut (Incoming, Outgoing), until: Instant) -> Result<u64, LayerFault> {
    let mut octets = 0_u64;
    while Instant::now() < until {
        match poll_fn(|cx| receive.poll_receive(cx)).await? {
            Received::Data => {}
            Received::End(_) => return Err(LayerFault::UnexpectedRecord),
        }
        let batch = receive.batch();
        octets = octets.saturating_add(batch.release(usize::MAX) as u64);
        poll_fn(|cx| transmit.poll_send(cx, batch)).await?;
    }
    Ok(octets)
}

async fn full_batch(pool: &Pool) -> Batch {
    let mut batch = Batch::default();
    poll_fn(|cx| pool.poll_lend(&mut batch, cx)).await;
    batch.append(|_| BATCH_RECORDS * PLAINTEXT_BYTES_MAX);
    batch.release(usize::MAX);
    batch
}

fn since(before: rustix::time::Timespec, after: rustix::time::Timespec) -> Duration {
    let of = |at: rustix::time::Timespec| {
        let seconds = Duration::from_secs(u64::try_from(at.tv_sec).unwrap_or(0));
        seconds.saturating_add(Duration::from_nanos(u64::try_from(at.tv_nsec).unwrap_or(0)))
    };
    of(after).saturating_sub(of(before))
}

#[cfg(test)]
mod tests {
    use super::super::offload::NoKernelTls;
    use super::*;

    fn spent(octets: u64, milliseconds: u64) -> Spent {
        Spent { octets, cpu: Duration::from_millis(milliseconds) }
    }

    fn comparison(user: Spent, kernel: Spent) -> Comparison {
        Comparison { cipher: Cipher::Aes256Gcm, user, kernel }
    }

    #[test]
    fn the_kernel_is_taken_where_it_wins_by_a_tenth_and_enough_was_moved() {
        let gigabyte = 1_000_000_000;
        for (user, kernel, wins) in [
            (spent(gigabyte, 1000), spent(gigabyte, 900), true),
            (spent(gigabyte, 1000), spent(gigabyte, 901), false),
            (spent(gigabyte, 1000), spent(2 * gigabyte, 1700), true),
            (spent(gigabyte, 1000), spent(gigabyte, 2000), false),
            (spent(999_999, 1000), spent(999_999, 1), false),
            (spent(gigabyte, 1000), spent(999_999, 0), false),
            (spent(gigabyte, 1000), spent(1_000_000, 0), true),
        ] {
            let measurement = Measurement::Taken(vec![comparison(user, kernel)]);
            assert_eq!(measurement.prefers_kernel(Cipher::Aes256Gcm), wins, "{user:?} {kernel:?}");
            assert!(!measurement.prefers_kernel(Cipher::Aes128Gcm), "another cipher was not measured");
        }
    }

    #[test]
    fn both_figures_and_the_choice_are_told() {
        let gigabyte = 1_000_000_000;
        let wins = comparison(spent(gigabyte, 1000), spent(gigabyte, 500));
        assert_eq!(wins.to_string(), "AES-256-GCM kernel (this process 1.00, kernel 0.50 CPU s per GB)");
        let loses = comparison(spent(gigabyte, 1000), spent(gigabyte, 1190));
        assert_eq!(
            loses.to_string(),
            "AES-256-GCM this process (this process 1.00, kernel 1.19 CPU s per GB)"
        );
        let little = comparison(spent(10, 1000), spent(gigabyte, 1190));
        assert!(little.to_string().contains("too little to tell"), "{little}");
    }

    #[test]
    fn what_cannot_be_used_is_not_measured() {
        let lacking = NoKernelTls { why: "none".to_owned(), remedy: "none".into() };
        let absent = Abilities { absent: Some(lacking), ..Abilities::default() };
        assert!(matches!(Measurement::take(&absent), Measurement::Without(why) if why.contains("no TLS")));
        let old = Measurement::take(&Abilities::default());
        assert!(matches!(old, Measurement::Without(why) if why.contains("change keys")));
    }

    /// The same path as in the daemon, with the layer that every kernel has.
    #[tokio::test]
    async fn octets_circulate_under_every_cipher_and_their_cost_is_counted() {
        let suites =
            crypto::aws_lc_rs::ALL_CIPHER_SUITES.iter().filter(|suite| suite.version() == &version::TLS13);
        for suite in suites {
            let terms = OffloadTerms { mode: Offload::Never, ..OffloadTerms::default() };
            let mut ring = Ring::open(*suite, &terms).await.unwrap();
            for _ in 0..2 {
                let before = ring.spent;
                ring.turn(Duration::from_millis(20)).await.unwrap();
                let moved = ring.spent.octets - before.octets;
                assert!(moved >= (PLAINTEXT_BYTES_MAX * BATCH_RECORDS) as u64, "{suite:?}: {moved} octets");
                assert!(ring.spent.cpu > before.cpu, "{suite:?}");
            }
        }
    }
}
