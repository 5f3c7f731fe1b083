use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::keys::KeyFault;
use super::protocol::{Answer, Done, KeyFacts, Order, SignerReport, What};
use crate::handshake::mint::CertificateError;
use crate::handshake::{KeyFile, TrustMaterial};
use crate::ipc::{AsyncChannel, Channel, IpcError};

/// How long the signer may take for one answer. Its control thread does nothing else, and the longest work on it is to
/// check an RSA key, some ten milliseconds.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Why keys were not loaded; the keys that were good before still are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignerLoadError {
    /// A file.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// The signer.
    #[error("the process that holds the private keys: {0}")]
    Signer(#[from] IpcError),
}

/// The supervisor's side. Calls wait for each other.
pub(crate) struct SignerControl {
    channel: Rc<AsyncChannel>,
    number: Cell<u64>,
    turn: Mutex<()>,
}

impl SignerControl {
    /// Over the channel that the process was started with.
    pub(crate) fn new(channel: Rc<AsyncChannel>) -> Self {
        Self { channel, number: Cell::new(0), turn: Mutex::new(()) }
    }

    /// Has the signer read keys and keep them under `generation`. Where it has too many then, the oldest goes that is not `in_use`:
    /// these are the generations of the supervisor and of the worker.
    ///
    /// # Errors
    /// What is wrong with a file, in an operator's words, or with the signer.
    pub(crate) async fn load(
        &self,
        generation: u64,
        in_use: [u64; 2],
        keys: &[KeyFile],
        material: &TrustMaterial,
    ) -> Result<Vec<KeyFacts>, SignerLoadError> {
        let issuer = material.issuer().ok_or_else(|| IpcError::System {
            call: "loading keys",
            source: io::Error::other("the authority's certificate cannot be read"),
        })?;
        self.ask(What::Begin { generation, in_use, issuer }, &[]).await?;
        let mut facts = Vec::with_capacity(keys.len());
        for key in keys {
            let what = What::Key { public_key: key.public_key.clone() };
            match self.answer(what, &[key.opened.as_fd()]).await? {
                Done::Key(Ok(of_key)) => facts.push(of_key),
                Done::Key(Err(fault)) => return Err(key.told(fault).into()),
                done => return Err(unexpected(done).into()),
            }
        }
        self.ask(What::End, &[]).await?;
        Ok(facts)
    }

    /// Has it serve a worker: `worker_end` is the signer's end of the channel whose other end is the worker's.
    ///
    /// # Errors
    /// [`IpcError`].
    pub(crate) async fn serve_worker(&self, worker_end: Channel) -> Result<(), IpcError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = u32::try_from(cores).unwrap_or(u32::MAX);
        self.ask(What::Serve { threads }, &[worker_end.as_fd()]).await
    }

    /// What it counted.
    ///
    /// # Errors
    /// [`IpcError`].
    pub(crate) async fn report(&self) -> Result<SignerReport, IpcError> {
        match self.answer(What::Report, &[]).await? {
            Done::Report(report) => Ok(report),
            done => Err(unexpected(done)),
        }
    }

    async fn ask(&self, what: What, descriptors: &[BorrowedFd<'_>]) -> Result<(), IpcError> {
        match self.answer(what, descriptors).await? {
            Done::Well => Ok(()),
            done => Err(unexpected(done)),
        }
    }

    async fn answer(&self, what: What, descriptors: &[BorrowedFd<'_>]) -> Result<Done, IpcError> {
        let _turn = self.turn.lock().await;
        let number = self.number.get().wrapping_add(1);
        self.number.set(number);
        let answered = async {
            self.channel.send(&Order { number, what }, descriptors).await?;
            loop {
                // Others are answers that came too late.
                let (answer, _) = self.channel.receive::<Answer>().await?;
                if answer.number == number {
                    return Ok(answer.done);
                }
            }
        };
        match timeout(ANSWER_TIME_MAX, answered).await {
            Ok(answered) => answered,
            Err(_) => {
                let told = format!("no answer within {} s", ANSWER_TIME_MAX.as_secs());
                Err(IpcError::System {
                    call: "signer",
                    source: io::Error::new(io::ErrorKind::TimedOut, told),
                })
            }
        }
    }
}

fn unexpected(done: Done) -> IpcError {
    let told = match done {
        Done::Not(told) => told,
        done => format!("an answer to another question ({done:?})"),
    };
    IpcError::System { call: "signer", source: io::Error::other(told) }
}

impl KeyFile {
    /// In an operator's words.
    pub(crate) fn told(&self, fault: KeyFault) -> CertificateError {
        CertificateError::of_key(fault, &self.file, &self.cert)
    }
}
