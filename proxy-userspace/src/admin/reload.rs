//! `postern reload`: what is asked, and what is answered.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::{AdminError, EXCHANGE_TIME_MAX, asked};

/// The form of [`ReloadAnswer`].
pub const RELOAD_API: u32 = 1;

/// Requests that wait for one reload after the other; more are refused.
const RELOADS_MAX: usize = 8;
/// Reading files, keys and policies takes a second at most on a small machine, and others may wait before.
const RELOAD_TIME_MAX: Duration = Duration::from_secs(120);

/// What became of a reload. Fields may be added, so readers ignore what they do not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// [`RELOAD_API`] of the daemon.
    pub api: u32,
    /// What became of it.
    pub outcome: ReloadOutcome,
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadOutcome {
    /// The configuration is in force.
    Reloaded {
        /// Counted from 1, at the start. Certificates and lists that are renewed count, too.
        generation: u64,
        /// Sessions that were cut; none where nobody asked for it, or where it is not known.
        cut: Option<u64>,
    },
    /// The configuration before stays in force.
    NotReloaded {
        /// Why, a line for each fault: file, line, column, value and remedy.
        faults: Vec<String>,
    },
}

impl ReloadOutcome {
    /// The configuration before stays in force, because of this; a line for each fault.
    #[must_use]
    pub fn not_reloaded(why: &str) -> Self {
        Self::NotReloaded { faults: why.lines().map(str::to_owned).collect() }
    }
}

/// Ask the daemon that listens at `path` to read its configuration again; with `cut`, to end the sessions that the new
/// policies would refuse. Returns when that has happened.
///
/// # Errors
/// [`AdminError`]: nobody listens, we may not ask, or the answer is late or none.
pub fn reload(path: &Path, cut: bool) -> Result<ReloadAnswer, AdminError> {
    let request: &[u8] = if cut { b"reload cut\n" } else { b"reload\n" };
    let answer = asked(path, request, RELOAD_TIME_MAX)?;
    serde_json::from_slice(&answer).map_err(|source| AdminError::Malformed { path: path.to_owned(), source })
}

/// Why a reload is refused that this peer asks for; `None` where it is not.
pub(super) fn refused(stream: &UnixStream, waiting: &Waiting<'_>) -> Option<&'static str> {
    let own = rustix::process::geteuid().as_raw();
    let may_ask = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own);
    if !may_ask {
        return Some("only root and the daemon's own user may ask for a reload");
    }
    waiting.is_full().then_some("too many reloads wait; ask again when they are done")
}

/// Tell what became of it.
pub(super) async fn tell(mut stream: UnixStream, outcome: ReloadOutcome) -> io::Result<()> {
    let answer = serde_json::to_vec(&ReloadAnswer { api: RELOAD_API, outcome })?;
    let telling = async {
        stream.write_all(&answer).await?;
        stream.write_all(b"\n").await?;
        stream.shutdown().await
    };
    tokio::time::timeout(EXCHANGE_TIME_MAX, telling)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Exchanges that wait for a reload, while others are answered.
pub(super) struct Waiting<'a>(Vec<Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>>);

impl<'a> Waiting<'a> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    const fn is_full(&self) -> bool {
        self.0.len() >= RELOADS_MAX
    }

    pub(super) fn add(&mut self, exchange: impl Future<Output = io::Result<()>> + 'a) {
        self.0.push(Box::pin(exchange));
    }

    /// The next one that is over. May be dropped while it waits.
    pub(super) async fn over(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            let over =
                self.0.iter_mut().enumerate().find_map(|(at, exchange)| match exchange.as_mut().poll(cx) {
                    Poll::Ready(result) => Some((at, result)),
                    Poll::Pending => None,
                });
            let Some((at, result)) = over else { return Poll::Pending };
            drop(self.0.swap_remove(at));
            Poll::Ready(result)
        })
        .await
    }
}
