//! Halves of either layer: each half of a side is the kernel's or ours, whatever the other is.

use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustls::{ExtractedSecrets, ProtocolVersion};
use tokio::net::TcpStream;

use super::aead::{Opener, Sealer};
use super::kernel::{KernelReceive, KernelTransmit};
use super::offload::{Terms, crypto_info};
use super::shared::{Secrets, Shared};
use super::user::{UserReceive, UserTransmit};
use super::{Alert, Batch, Ending, KernelSide, LayerFault, Pool, Receive, Received, Transmit};
use crate::config::Offload;
use crate::sys::{self, Half};

/// A receiving half.
pub enum Incoming {
    /// Opened in this process.
    User(UserReceive),
    /// Opened by the kernel.
    Kernel(KernelReceive),
}

/// A transmitting half.
pub enum Outgoing {
    /// Sealed in this process.
    User(UserTransmit),
    /// Sealed by the kernel.
    Kernel(KernelTransmit),
}

/// Both halves of a side whose handshake is finished.
///
/// A kernel that refuses a half loses nothing: the half stays ours, except under `offload = "always"`.
///
/// # Errors
/// A cipher or version that was never offered; under `always`, the kernel's refusal (see [`Terms::admit`]).
pub fn split(
    socket: TcpStream,
    secrets: ExtractedSecrets,
    kernel: KernelSide,
    pool: &Pool,
    terms: &Terms,
) -> Result<(Incoming, Outgoing), LayerFault> {
    let shared = Rc::new(Shared::new(kernel));
    let plan = terms.plan(shared.version, shared.suite);
    let has_ulp = (plan.receive || plan.transmit) && take(terms, sys::set_tls_ulp(&socket))?;
    let receive = half(&socket, &shared, Half::Receive, secrets.rx, plan.receive && has_ulp, terms)?;
    let transmit = half(&socket, &shared, Half::Transmit, secrets.tx, plan.transmit && has_ulp, terms)?;
    if matches!(receive, Key::Kernel(_))
        && shared.version == ProtocolVersion::TLSv1_3
        && terms.expects_no_pad()
    {
        // Only slower without.
        let _slower = sys::expect_no_pad(&socket);
    }
    let (read, write) = socket.into_split();
    let max = terms.records_max;
    let incoming = match receive {
        Key::Kernel(_) => Incoming::Kernel(KernelReceive::new(read, Rc::clone(&shared), pool.clone())),
        Key::Back(info) => {
            let opener = Opener::back_from(shared.version, &info)?;
            Incoming::User(UserReceive::new(read, opener, Rc::clone(&shared), pool.clone()))
        }
        Key::Ours(secrets) => {
            let opener = Opener::new(shared.version, secrets)?;
            Incoming::User(UserReceive::new(read, opener, Rc::clone(&shared), pool.clone()))
        }
    };
    let outgoing = match transmit {
        Key::Kernel(info) => {
            Outgoing::Kernel(KernelTransmit::new(write, shared, &info, terms.abilities.rekey, max))
        }
        Key::Back(info) => {
            let sealer = Sealer::back_from(shared.version, &info, max)?;
            Outgoing::User(UserTransmit::new(write, sealer, shared, max))
        }
        Key::Ours(secrets) => {
            let sealer = Sealer::new(shared.version, secrets, max)?;
            Outgoing::User(UserTransmit::new(write, sealer, shared, max))
        }
    };
    Ok((incoming, outgoing))
}

impl Incoming {
    /// The word in records: which layer opens.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Kernel(_) => "kernel",
        }
    }
}

impl Outgoing {
    /// The word in records: which layer seals.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Kernel(_) => "kernel",
        }
    }
}

/// Who has a half's key.
enum Key {
    Kernel(ktls::CryptoInfo),
    /// The kernel was asked and refused.
    Back(ktls::CryptoInfo),
    Ours(Secrets),
}

fn half(
    socket: &TcpStream,
    shared: &Shared,
    half: Half,
    secrets: Secrets,
    wanted: bool,
    terms: &Terms,
) -> Result<Key, LayerFault> {
    if !wanted {
        return Ok(Key::Ours(secrets));
    }
    let info = crypto_info(shared.suite, half, secrets)?;
    let taken = take(terms, sys::set_tls_key(socket, half, &info))?;
    Ok(if taken { Key::Kernel(info) } else { Key::Back(info) })
}

/// Whether the kernel did it; its refusal is a fault under `always` only, unless the peer is gone.
fn take(terms: &Terms, asked: std::io::Result<()>) -> Result<bool, LayerFault> {
    match asked {
        Ok(()) => Ok(true),
        // The peer has said its last already, and the kernel takes established connections only (`tls_init` in
        // net/tls/tls_main.c): it lacks nothing, and what was said is to be heard.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTCONN) => Ok(false),
        Err(error) if terms.mode == Offload::Always => {
            Err(LayerFault::NotOffloaded { why: format!("the kernel says: {error}") })
        }
        Err(error) => {
            tracing::debug!(%error, "the kernel refused a half; it stays in this process");
            Ok(false)
        }
    }
}

impl Receive for Incoming {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, LayerFault>> {
        match self {
            Self::User(half) => half.poll_receive(cx),
            Self::Kernel(half) => half.poll_receive(cx),
        }
    }

    fn batch(&mut self) -> &mut Batch {
        match self {
            Self::User(half) => half.batch(),
            Self::Kernel(half) => half.batch(),
        }
    }

    fn kernel(&mut self) -> Option<&mut KernelReceive> {
        match self {
            Self::User(_) => None,
            Self::Kernel(half) => Some(half),
        }
    }

    fn copied(&self) -> u64 {
        match self {
            Self::User(half) => half.copied(),
            Self::Kernel(_) => 0,
        }
    }
}

impl Transmit for Outgoing {
    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>> {
        match self {
            Self::User(half) => half.poll_send(cx, batch),
            Self::Kernel(half) => half.poll_send(cx, batch),
        }
    }

    fn queue(&mut self, words: &[u8]) -> Result<(), LayerFault> {
        match self {
            Self::User(half) => half.queue(words),
            Self::Kernel(half) => half.queue(words),
        }
    }

    fn queue_alert(&mut self, alert: Alert) -> Result<(), LayerFault> {
        match self {
            Self::User(half) => half.queue_alert(alert),
            Self::Kernel(half) => half.queue_alert(alert),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>> {
        match self {
            Self::User(half) => half.poll_flush(cx),
            Self::Kernel(half) => half.poll_flush(cx),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, ending: Ending) -> Poll<Result<(), LayerFault>> {
        match self {
            Self::User(half) => half.poll_end(cx, ending),
            Self::Kernel(half) => half.poll_end(cx, ending),
        }
    }

    fn kernel(&mut self) -> Option<&mut KernelTransmit> {
        match self {
            Self::User(_) => None,
            Self::Kernel(half) => Some(half),
        }
    }

    fn is_mid_record(&self) -> bool {
        match self {
            Self::User(half) => half.is_mid_record(),
            Self::Kernel(half) => half.is_mid_record(),
        }
    }
}
