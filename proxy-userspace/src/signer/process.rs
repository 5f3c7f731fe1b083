use std::fs::File;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};
use rustls::SignatureScheme;

use super::keys::{Generations, KeyFault, Keys, facts, open_key};
use super::leaf_rules::Leaf;
use super::protocol::{Answer, Ask, Done, KeyFacts, Order, Refusal, Reply, SignRequest, SignerReport, What};
use crate::handshake::mint::tbs::Issuer;
use crate::ipc::{Channel, IpcError};
use crate::line_limit::LineLimit;

/// New leaves in a second. A leaf serves all clients of its server for weeks, so that a large site needs a few hundred
/// on its first day; beyond this rate a worker was taken over, or strangers make up servers.
const MINTS_PER_SECOND: u32 = 256;
/// New leaves at once, after quiet times: half of what the worker's cache holds, for a start with all clients waiting.
const MINTS_BURST: u32 = 2_048;
/// Threads for a worker; it asks for one a core.
const THREADS_MAX: u32 = 256;

/// Serves until the supervisor's end of `control` closes; what it serves ends with it. Opens no file
/// and no socket.
///
/// # Errors
/// The kernel's: the supervisor can no longer be heard.
pub(crate) fn serve(control: Channel) -> Result<(), IpcError> {
    let mut process = SignerProcess {
        shared: Arc::new(Signer {
            control,
            generations: Mutex::default(),
            bucket: Mutex::new(Bucket::new(Instant::now())),
            figures: Figures::default(),
        }),
        loading: None,
        workers: Vec::new(),
    };
    let ended = process.take_orders();
    for worker in process.workers.iter().filter_map(Weak::upgrade) {
        let _ = shutdown(&*worker, Shutdown::Both);
    }
    match ended {
        IpcError::Ended => Ok(()),
        error => Err(error),
    }
}

/// What all threads share.
struct Signer {
    /// A thread that cannot go on closes it, and the process ends: the supervisor starts another.
    control: Channel,
    generations: Mutex<Generations>,
    bucket: Mutex<Bucket>,
    figures: Figures,
}

#[derive(Default)]
struct Figures {
    mints: AtomicU64,
    mints_refused: AtomicU64,
    signatures: AtomicU64,
    signatures_refused: AtomicU64,
}

/// Keys that are on their way.
struct Loading {
    generation: u64,
    in_use: [u64; 2],
    issuer: Issuer,
    /// From the authority's on.
    keys: Option<Keys>,
}

/// The supervisor's side of it.
struct SignerProcess {
    shared: Arc<Signer>,
    loading: Option<Loading>,
    workers: Vec<Weak<Channel>>,
}

impl SignerProcess {
    /// Until there are no more.
    fn take_orders(&mut self) -> IpcError {
        loop {
            let answered = self.shared.control.receive::<Order>().and_then(|(order, descriptors)| {
                let done = self.obey(order.what, descriptors.into_iter().next());
                self.shared.control.send(&Answer { number: order.number, done }, &[])
            });
            if let Err(error) = answered {
                return error;
            }
        }
    }

    fn obey(&mut self, what: What, descriptor: Option<OwnedFd>) -> Done {
        match (what, descriptor) {
            (What::Begin { generation, in_use, issuer }, _) => {
                self.loading = Some(Loading { generation, in_use, issuer, keys: None });
                Done::Well
            }
            (What::Key { public_key }, Some(file)) => match &mut self.loading {
                Some(loading) => Done::Key(loading.take(&File::from(file), &public_key)),
                None => Done::Not("a key came outside a load".to_owned()),
            },
            (What::End, _) => match self.loading.take() {
                Some(Loading { generation, in_use, keys: Some(keys), .. }) => {
                    self.shared.generations().insert(generation, in_use, keys);
                    Done::Well
                }
                _ => Done::Not("a load without a key ended".to_owned()),
            },
            (What::Serve { threads }, Some(worker)) => self.serve_worker(worker.into(), threads),
            (What::Key { .. } | What::Serve { .. }, None) => {
                Done::Not("a descriptor was lost; is the limit on open files too low?".to_owned())
            }
            (What::Report, _) => Done::Report(self.report()),
        }
    }

    fn serve_worker(&mut self, channel: Channel, threads: u32) -> Done {
        let channel = Arc::new(channel);
        self.workers.retain(|worker| worker.strong_count() > 0);
        self.workers.push(Arc::downgrade(&channel));
        for index in 0..threads.clamp(1, THREADS_MAX) {
            let (signer, served) = (Arc::clone(&self.shared), Arc::clone(&channel));
            let serve = move || signer.serve_worker(&served);
            if let Err(error) = Builder::new().name(format!("sign-{index}")).spawn(serve) {
                // Those that were started end with the channel.
                let _ = shutdown(&*channel, Shutdown::Both);
                return Done::Not(format!("no thread for a worker: {error}"));
            }
        }
        Done::Well
    }

    fn report(&self) -> SignerReport {
        let Figures { mints, mints_refused, signatures, signatures_refused } = &self.shared.figures;
        SignerReport {
            mints_total: mints.load(Ordering::Relaxed),
            mints_refused: mints_refused.load(Ordering::Relaxed),
            signatures_total: signatures.load(Ordering::Relaxed),
            signatures_refused: signatures_refused.load(Ordering::Relaxed),
            generation: self.shared.generations().newest(),
        }
    }
}

impl Loading {
    fn take(&mut self, file: &File, public_key: &[u8]) -> Result<KeyFacts, KeyFault> {
        let key = open_key(file, public_key)?;
        let facts = facts(key.as_ref());
        match &mut self.keys {
            Some(keys) => keys.push(key),
            None => self.keys = Some(Keys::new(self.issuer.clone(), key)?),
        }
        Ok(facts)
    }
}

impl Signer {
    /// Nothing panics under the lock.
    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the worker ends. What it sends costs it no more than its request.
    fn serve_worker(&self, channel: &Channel) {
        static UNREAD: LineLimit = LineLimit::new();
        loop {
            let answered =
                channel.receive::<SignRequest>().and_then(|(SignRequest { id, generation, ask }, _)| {
                    // A panic costs one request.
                    let signed = catch_unwind(AssertUnwindSafe(|| self.answer(generation, &ask)));
                    channel.send(&Reply { id, answer: signed.unwrap_or(Err(Refusal::Failed)) }, &[])
                });
            match answered {
                Ok(()) => {}
                Err(error @ (IpcError::Malformed(_) | IpcError::TooLarge { .. })) => {
                    if let Some(left_out) = UNREAD.admit() {
                        tracing::error!("the worker: {error}{left_out}");
                    }
                }
                Err(IpcError::Ended) => return,
                Err(error) => {
                    tracing::error!("the worker cannot be heard: {error}");
                    let _ = shutdown(&self.control, Shutdown::Both);
                    return;
                }
            }
        }
    }

    fn answer(&self, generation: u64, ask: &Ask) -> Result<Vec<u8>, Refusal> {
        let keys = self.generations().get(generation);
        let (signed, total, refused) = match ask {
            Ask::Leaf(tbs) => {
                let signed = keys.and_then(|keys| self.mint(&keys, tbs));
                (signed, &self.figures.mints, &self.figures.mints_refused)
            }
            Ask::Handshake { entry, scheme, message } => {
                let scheme = SignatureScheme::from(*scheme);
                let signed = keys.and_then(|keys| keys.sign_handshake(*entry, scheme, message));
                (signed, &self.figures.signatures, &self.figures.signatures_refused)
            }
        };
        match signed {
            Ok(_) => total.fetch_add(1, Ordering::Relaxed),
            Err(refusal) => {
                say_refused(refusal);
                refused.fetch_add(1, Ordering::Relaxed)
            }
        };
        signed
    }

    fn mint(&self, keys: &Keys, tbs: &[u8]) -> Result<Vec<u8>, Refusal> {
        if !self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            return Err(Refusal::OverRate);
        }
        let (signature, leaf) = keys.sign_leaf(tbs)?;
        say_minted(&leaf);
        Ok(signature)
    }
}

/// Every leaf, so that one that the gateway's records do not tell of is found. The bucket bounds these lines.
fn say_minted(leaf: &Leaf) {
    tracing::info!(
        serial = %leaf.serial(),
        name = %leaf.name,
        names = leaf.names,
        not_after = %leaf.not_after(),
        tbs_sha256 = %leaf.tbs_sha256(),
        "minted a leaf"
    );
}

fn say_refused(refusal: Refusal) {
    static RATE: LineLimit = LineLimit::new();
    static RULES: LineLimit = LineLimit::new();
    match refusal {
        Refusal::OverRate => {
            if let Some(left_out) = RATE.admit() {
                tracing::warn!(
                    "a leaf was not minted: more than {MINTS_PER_SECOND} new ones a second are asked for{left_out}"
                );
            }
        }
        refusal => {
            if let Some(left_out) = RULES.admit() {
                tracing::error!("a signature was refused: {refusal}{left_out}");
            }
        }
    }
}

/// [`MINTS_BURST`] leaves, filled by [`MINTS_PER_SECOND`].
struct Bucket {
    /// In nanoseconds of the time that a leaf takes to be earned, so that nothing is lost by rounding.
    earned: Duration,
    seen: Instant,
}

impl Bucket {
    /// What a leaf costs.
    const COST: Duration = Duration::from_nanos(1_000_000_000 / MINTS_PER_SECOND as u64);

    fn new(now: Instant) -> Self {
        Self { earned: Self::COST.saturating_mul(MINTS_BURST), seen: now }
    }

    /// Whether there is one more leaf in it.
    fn take(&mut self, now: Instant) -> bool {
        let full = Self::COST.saturating_mul(MINTS_BURST);
        self.earned = self.earned.saturating_add(now.saturating_duration_since(self.seen)).min(full);
        self.seen = self.seen.max(now);
        match self.earned.checked_sub(Self::COST) {
            Some(rest) => {
                self.earned = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_minted_in_a_burst_then_at_a_rate_and_in_a_burst_again_after_quiet_times() {
        let began = Instant::now();
        let mut bucket = Bucket::new(began);
        let taken = |bucket: &mut Bucket, at| (0..10_000).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, began), MINTS_BURST as usize);
        let second = Duration::from_secs(1);
        assert_eq!(taken(&mut bucket, began + second), MINTS_PER_SECOND as usize);
        // Who asks often gains nothing by it.
        let often = (1..=1_000)
            .filter(|millisecond| bucket.take(began + second + Duration::from_millis(*millisecond)));
        assert_eq!(often.count(), MINTS_PER_SECOND as usize);
        assert_eq!(taken(&mut bucket, began + second * 1_000), MINTS_BURST as usize);
        // A clock that two threads read in one order and bring in the other.
        assert!(!bucket.take(began));
        assert!(!bucket.take(began + second * 1_000));
    }
}
