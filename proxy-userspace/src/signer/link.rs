//! The worker's side: requests go out from any thread, a thread of its own brings the replies.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};
use rustls::SignatureScheme;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::protocol::{Ask, Refusal, Reply, SignFault, SignRequest};
use crate::ipc::{Channel, IpcError};
use crate::jobs::JOB_WAIT;
use crate::line_limit::LineLimit;

/// Requests that wait for the signer, in all: as many as jobs may wait for a thread. An answer takes less than a
/// millisecond, with RSA some, so that the last of them is there within seconds.
pub(crate) const REQUESTS_IN_FLIGHT_MAX: usize = 4_096;
/// How long to wait where the channel is full: the signer takes some requests off it meanwhile.
const FULL_WAIT: Duration = Duration::from_millis(3);

/// What the signer said; nothing where it ended before.
type SignAnswer = Result<Vec<u8>, Refusal>;

/// The way to the signer, for all threads of a worker. The signer may end and have a successor.
#[derive(Clone)]
pub(crate) struct SignerLink(Arc<LinkState>);

struct LinkState {
    current: watch::Sender<Option<Arc<Connection>>>,
    in_flight: AtomicUsize,
}

impl SignerLink {
    /// Not connected yet: whoever asks waits.
    pub(crate) fn new() -> Self {
        Self(Arc::new(LinkState { current: watch::Sender::new(None), in_flight: AtomicUsize::new(0) }))
    }

    /// From now on a signer is asked at the other end of `channel`. One that was asked before is not any more, and what
    /// waits for it asks this one.
    pub(crate) fn connect(&self, channel: Channel) {
        let connection = Arc::new(Connection {
            channel,
            waiting: Mutex::new(Some(HashMap::new())),
            next_id: AtomicU64::new(0),
        });
        let (reader, shared) = (Arc::clone(&connection), Arc::clone(&self.0));
        let read = move || {
            reader.read();
            shared.current.send_if_modified(|current| {
                let is_this = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &reader));
                if is_this {
                    *current = None;
                }
                is_this
            });
            reader.end();
        };
        // Known to all before the thread begins, so that its end finds it.
        let former = self.0.current.send_replace(Some(Arc::clone(&connection)));
        if let Some(former) = former {
            former.end();
        }
        if let Err(error) = Builder::new().name("signer".to_owned()).spawn(read) {
            tracing::error!("no thread for the signer's answers: {error}");
            self.0.current.send_replace(None);
            connection.end();
        }
    }

    /// When a signer is there to be asked.
    pub(crate) async fn connected(&self) {
        self.connection().await;
    }

    async fn connection(&self) -> Arc<Connection> {
        let mut current = self.0.current.subscribe();
        loop {
            if let Some(connection) = current.borrow_and_update().clone() {
                return connection;
            }
            // The sender is in `self`.
            let _ = current.changed().await;
        }
    }

    /// The authority's signature. Waits for a signer while there is none, and asks its successor where it ends: who asks
    /// bounds the time.
    pub(crate) async fn sign_leaf(&self, generation: u64, tbs: Vec<u8>) -> Result<Vec<u8>, SignFault> {
        let _place = self.place()?;
        let ask = Ask::Leaf(tbs);
        loop {
            let connection = self.connection().await;
            let (sender, told) = oneshot::channel();
            // One that has just ended is not the current one any more.
            let Some(waiting) = connection.register(Waiter::Task(sender)) else { continue };
            let request = SignRequest { id: waiting.id, generation, ask: ask.clone() };
            while !connection.takes(&request)? {
                sleep(FULL_WAIT).await;
            }
            if let Ok(told) = told.await {
                return told.map_err(SignFault::Refused);
            }
        }
    }

    /// A configured certificate's signature. Holds its thread until it is there, for [`JOB_WAIT`] at most, and does not
    /// wait for a signer: the handshake would have begun only when one was there.
    pub(crate) fn sign_handshake(
        &self,
        generation: u64,
        entry: u32,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, SignFault> {
        let _place = self.place()?;
        let deadline = Instant::now() + JOB_WAIT;
        let connection = self.0.current.borrow().clone().ok_or(SignFault::Gone)?;
        let (sender, told) = sync_channel(1);
        let waiting = connection.register(Waiter::Thread(sender)).ok_or(SignFault::Gone)?;
        let ask = Ask::Handshake { entry, scheme: u16::from(scheme), message: message.to_vec() };
        let request = SignRequest { id: waiting.id, generation, ask };
        while !connection.takes(&request)? {
            if Instant::now() >= deadline {
                return Err(SignFault::Overloaded);
            }
            std::thread::sleep(FULL_WAIT);
        }
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(told) => told.map_err(SignFault::Refused),
            Err(RecvTimeoutError::Disconnected) => Err(SignFault::Gone),
            Err(RecvTimeoutError::Timeout) => Err(SignFault::Late),
        }
    }

    /// How many wait for the current signer's replies.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> Option<usize> {
        let current = self.0.current.borrow().clone()?;
        current.lock().as_ref().map(HashMap::len)
    }

    fn place(&self) -> Result<InFlight<'_>, SignFault> {
        let place = InFlight(&self.0.in_flight);
        if self.0.in_flight.fetch_add(1, Ordering::Relaxed) >= REQUESTS_IN_FLIGHT_MAX {
            return Err(SignFault::Overloaded);
        }
        Ok(place)
    }
}

impl fmt::Debug for SignerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignerLink")
            .field("connected", &self.0.current.borrow().is_some())
            .field("in_flight", &self.0.in_flight.load(Ordering::Relaxed))
            .finish()
    }
}

/// One of [`REQUESTS_IN_FLIGHT_MAX`], given back when it is dropped.
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who waits for a reply. When it is dropped unanswered, who waits hears that the signer has gone.
enum Waiter {
    Task(oneshot::Sender<SignAnswer>),
    Thread(SyncSender<SignAnswer>),
}

/// One signer.
struct Connection {
    channel: Channel,
    /// By the request's id; `None` when it has ended.
    waiting: Mutex<Option<HashMap<u64, Waiter>>>,
    next_id: AtomicU64,
}

impl Connection {
    /// Nothing panics under the lock.
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when it has ended.
    fn register(&self, waiter: Waiter) -> Option<PendingReply<'_>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.lock().as_mut()?.insert(id, waiter);
        Some(PendingReply { connection: self, id })
    }

    /// Whether the channel took the request; otherwise it is full. When the signer has gone, whoever reads finds out.
    fn takes(&self, request: &SignRequest) -> Result<bool, SignFault> {
        static UNSENT: LineLimit = LineLimit::new();
        match self.channel.send_now(request, &[]) {
            Ok(()) | Err(IpcError::Ended) => Ok(true),
            Err(error) if error.would_block() => Ok(false),
            Err(error) => {
                if let Some(left_out) = UNSENT.admit() {
                    tracing::error!("a signature cannot be asked for: {error}{left_out}");
                }
                Err(SignFault::Refused(Refusal::Failed))
            }
        }
    }

    /// Until the signer ends.
    fn read(&self) {
        static UNREAD: LineLimit = LineLimit::new();
        loop {
            match self.channel.receive::<Reply>() {
                Ok((Reply { id, answer }, _)) => {
                    let waiter = self.lock().as_mut().and_then(|waiting| waiting.remove(&id));
                    // Who has gone meanwhile needs no answer.
                    match waiter {
                        Some(Waiter::Task(sender)) => drop(sender.send(answer)),
                        Some(Waiter::Thread(sender)) => drop(sender.try_send(answer)),
                        None => {}
                    }
                }
                // A message is whole or not there: the next one is good.
                Err(error @ (IpcError::Malformed(_) | IpcError::TooLarge { .. })) => {
                    if let Some(left_out) = UNREAD.admit() {
                        tracing::error!("the signer: {error}{left_out}");
                    }
                }
                Err(IpcError::Ended) => return,
                Err(error) => {
                    tracing::error!("the signer cannot be heard: {error}");
                    return;
                }
            }
        }
    }

    /// All who wait hear that it has gone; its reader ends, and so do the signer's threads for it.
    fn end(&self) {
        let waiting = self.lock().take();
        drop(waiting);
        let _ = shutdown(&self.channel, Shutdown::Both);
    }
}

/// A request whose reply is waited for. Who goes leaves nothing behind.
struct PendingReply<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for PendingReply<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.connection.lock().as_mut() {
            waiting.remove(&self.id);
        }
    }
}
