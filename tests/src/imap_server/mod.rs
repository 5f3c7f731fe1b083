//! A small IMAP4rev1 server (RFC 3501) that needs nothing installed: STARTTLS on 143, implicit TLS on 993, one user,
//! one mailbox in memory, IDLE.

/// Commands as they stand on the wire, literals included.
pub(crate) mod command;
/// What a FETCH names, and what it brings.
mod fetch;
/// Messages and who waits for them.
mod mailbox;
/// A message's parts.
mod parts;
/// One connection.
mod session;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub use mailbox::{Mailbox, attached_message, large_message};

/// The only user.
pub const USER: &str = "alice";
/// The only user's password. It must never be seen in clear text on a wire, unless a test says so.
pub const PASSWORD: &str = "opensesame";

/// A running server; dropping it ends every session.
#[derive(Debug)]
pub struct ImapServer {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    worker: Option<JoinHandle<()>>,
}

/// What sessions share.
pub(crate) struct Shared {
    pub(crate) mailbox: Mailbox,
    acceptor: TlsAcceptor,
    log: Mutex<Vec<String>>,
    echo: bool,
    /// Logins in clear text are taken.
    pub(crate) in_clear: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("mailbox", &self.mailbox).finish_non_exhaustive()
    }
}

impl Shared {
    /// Note what was seen; passwords are cut out before they get here.
    pub(crate) fn note(&self, line: String) {
        if self.echo {
            println!("{line}");
        }
        if let Ok(mut log) = self.log.lock() {
            log.push(line);
        }
    }
}

impl ImapServer {
    /// Serve these listeners: TLS at once as [`crate::lab::is_implicit_tls`] says, STARTTLS elsewhere. With `echo` what is seen is
    /// printed as well as kept. A message may stand in the mailbox more than once.
    ///
    /// # Errors
    /// When the runtime cannot be made.
    pub fn start(
        listeners: Vec<TcpListener>,
        tls: ServerConfig,
        messages: Vec<impl Into<Arc<Vec<u8>>>>,
        echo: bool,
    ) -> Result<Self> {
        Self::serve(listeners, tls, messages, echo, false)
    }

    /// The same, and on 143 it takes logins in clear text, too. It still offers STARTTLS.
    ///
    /// # Errors
    /// When the runtime cannot be made.
    pub fn in_clear(
        listeners: Vec<TcpListener>,
        tls: ServerConfig,
        messages: Vec<impl Into<Arc<Vec<u8>>>>,
    ) -> Result<Self> {
        Self::serve(listeners, tls, messages, false, true)
    }

    fn serve(
        listeners: Vec<TcpListener>,
        tls: ServerConfig,
        messages: Vec<impl Into<Arc<Vec<u8>>>>,
        echo: bool,
        in_clear: bool,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            mailbox: Mailbox::new(messages.into_iter().map(Into::into).collect()),
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            log: Mutex::default(),
            echo,
            in_clear,
        });
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        let serve = Arc::clone(&shared);
        let worker = thread::spawn(move || {
            runtime.block_on(async move {
                for listener in listeners {
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => drop(tokio::spawn(accept(listener, Arc::clone(&serve)))),
                        Err(error) => serve.note(format!("no listener: {error}")),
                    }
                }
                let mut stopped = stopped;
                let _ = stopped.wait_for(|&stop| stop).await;
            });
        });
        Ok(Self { shared, stop, worker: Some(worker) })
    }

    /// Everything it saw so far: peers, SNI, TLS versions, commands without passwords.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.shared.log.lock().map(|log| log.clone()).unwrap_or_default()
    }

    /// Put a message into the mailbox; sessions that idle are told.
    pub fn deliver(&self, message: Vec<u8>) {
        self.shared.mailbox.add(message);
    }

    /// Put other octets under a message's number and UID, as no honest server does.
    ///
    /// # Errors
    /// When there is none.
    pub fn replace(&self, number: usize, message: Vec<u8>) -> Result<()> {
        self.shared.mailbox.replace(number, message).with_context(|| format!("no message {number}"))
    }

    /// The octets of a message by its number, from 1.
    ///
    /// # Errors
    /// When there is none.
    pub fn message(&self, number: usize) -> Result<Arc<Vec<u8>>> {
        self.shared.mailbox.message(number).with_context(|| format!("no message {number}"))
    }

    /// Serve until the process is ended.
    ///
    /// # Errors
    /// When the worker panicked.
    pub fn join(mut self) -> Result<()> {
        match self.worker.take() {
            Some(worker) => worker.join().map_err(|_| anyhow!("the IMAP server panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for ImapServer {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Err(error) = session::serve(stream, peer, &shared).await {
                        shared.note(format!("{peer} ended: {error:#}"));
                    }
                });
            }
            Err(error) => {
                shared.note(format!("accept: {error}"));
                // Out of descriptors: those that are open must get their turn first.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}
