//! Halves of either layer, and the hand-over after a handshake: the kernel or this process takes a side's records.

use std::rc::Rc;
use std::task::{Context, Poll};

use ktls::CryptoInfo;
use rustix::io::Errno;
use rustls::{ExtractedSecrets, ProtocolVersion};
use tokio::net::TcpStream;

use super::aead::{Opener, Sealer};
use super::kernel::{KernelReceive, KernelTransmit};
use super::offload::{OffloadTerms, crypto_info};
use super::plain::{PlainReceive, PlainTransmit};
use super::shared::{Secrets, SideState};
use super::user::{UserReceive, UserTransmit};
use super::{Alert, Batch, KernelSide, LayerFault, Pool, Receive, Received, StreamEnd, Transmit};
use crate::config::Offload;
use crate::sys::{self, Half};

/// A receiving half.
pub enum Incoming {
    /// Opened in this process.
    User(UserReceive),
    /// Opened by the kernel.
    Kernel(KernelReceive),
    /// Clear text.
    Plain(PlainReceive),
}

/// A transmitting half.
pub enum Outgoing {
    /// Sealed in this process.
    User(UserTransmit),
    /// Sealed by the kernel.
    Kernel(KernelTransmit),
    /// Clear text.
    Plain(PlainTransmit),
}

/// Both halves of a side whose handshake is finished.
///
/// Under `offload = "auto"`, a kernel may refuse a half that it could take at the start. This process then opens or
/// seals that half's records.
///
/// # Errors
/// A cipher or version that was never offered; under `offload = "always"`, the kernel's refusal (see
/// [`OffloadTerms::admit`]).
pub fn split(
    socket: TcpStream,
    secrets: ExtractedSecrets,
    kernel: KernelSide,
    pool: &Pool,
    terms: &OffloadTerms,
) -> Result<(Incoming, Outgoing), LayerFault> {
    let shared = Rc::new(SideState::new(kernel));
    let opener = Opener::new(shared.version, &secrets.rx)?;
    let sealer = Sealer::new(shared.version, &secrets.tx, terms.records_max)?;
    let offloads = terms.offloads(shared.version, shared.suite) && takes_tls(&socket, terms)?;
    let give = |half, secrets| match offloads {
        true => give(&socket, half, &shared, secrets, terms),
        false => Ok(None),
    };
    let transmit = give(Half::Transmit, secrets.tx)?;
    let receive = give(Half::Receive, secrets.rx)?;
    if receive.is_some() && shared.version == ProtocolVersion::TLSv1_3 && terms.expects_no_pad() {
        // Without it, receiving is only slower.
        let _slower = sys::expect_no_pad(&socket);
    }
    if receive.is_none() {
        // Without it, a read costs one more call.
        let _slower = sys::tell_in_queue(&socket);
    }
    let (read, write) = socket.into_split();
    let incoming = match receive {
        Some(info) => {
            let (shared, rekeys) = (Rc::clone(&shared), terms.abilities.rekey);
            Incoming::Kernel(KernelReceive::new(read, shared, pool.clone(), &info, rekeys))
        }
        None => Incoming::User(UserReceive::new(read, opener, Rc::clone(&shared), pool.clone())),
    };
    let outgoing = match transmit {
        Some(info) => {
            let (rekey, records_max) = (terms.abilities.rekey, terms.records_max);
            Outgoing::Kernel(KernelTransmit::new(write, shared, &info, rekey, records_max))
        }
        None => Outgoing::User(UserTransmit::new(write, sealer, shared, terms.records_max)),
    };
    Ok((incoming, outgoing))
}

/// Give the kernel a half's first key. `None` where the kernel refuses and the connection goes on: kernel TLS without a
/// key changes nothing about a half.
fn give(
    socket: &TcpStream,
    half: Half,
    shared: &SideState,
    secrets: Secrets,
    terms: &OffloadTerms,
) -> Result<Option<CryptoInfo>, LayerFault> {
    let info = crypto_info(shared.suite, half, secrets)?;
    match sys::set_tls_key(socket, half, &info) {
        Ok(()) => Ok(Some(info)),
        Err(error) => spared(&error, terms).map(|()| None),
    }
}

/// Whether the kernel's TLS takes the socket.
fn takes_tls(socket: &TcpStream, terms: &OffloadTerms) -> Result<bool, LayerFault> {
    match sys::set_tls_ulp(socket) {
        Ok(()) => Ok(true),
        // The peer has closed its half already, and the kernel takes established connections only (`tls_init` in
        // net/tls/tls_main.c). The kernel lacks nothing, and the peer's last octets must still be received.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTCONN) => Ok(false),
        Err(error) => spared(&error, terms).map(|()| false),
    }
}

/// A refusal ends the connection under `offload = "always"` only.
fn spared(error: &std::io::Error, terms: &OffloadTerms) -> Result<(), LayerFault> {
    match terms.mode {
        Offload::Always => Err(LayerFault::NotOffloaded { why: format!("the kernel says: {error}") }),
        Offload::Auto | Offload::Never => Ok(()),
    }
}

impl Incoming {
    /// The layer that opens, as records name it.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Kernel(_) => "kernel",
            Self::Plain(_) => "plain",
        }
    }
}

impl Outgoing {
    /// The layer that seals, as records name it.
    #[must_use]
    pub const fn layer(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Kernel(_) => "kernel",
            Self::Plain(_) => "plain",
        }
    }
}

impl Receive for Incoming {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, LayerFault>> {
        match self {
            Self::User(half) => half.poll_receive(cx),
            Self::Kernel(half) => half.poll_receive(cx),
            Self::Plain(half) => half.poll_receive(cx),
        }
    }

    fn batch(&mut self) -> &mut Batch {
        match self {
            Self::User(half) => half.batch(),
            Self::Kernel(half) => half.batch(),
            Self::Plain(half) => half.batch(),
        }
    }

    fn kernel(&mut self) -> Option<&mut KernelReceive> {
        match self {
            Self::User(_) | Self::Plain(_) => None,
            Self::Kernel(half) => Some(half),
        }
    }

    fn copied(&self) -> u64 {
        match self {
            Self::User(half) => half.copied(),
            Self::Kernel(_) => 0,
            Self::Plain(half) => half.copied(),
        }
    }
}

impl Transmit for Outgoing {
    fn poll_send(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), LayerFault>> {
        match self {
            Self::User(half) => half.poll_send(cx, batch),
            Self::Kernel(half) => half.poll_send(cx, batch),
            Self::Plain(half) => half.poll_send(cx, batch),
        }
    }

    fn queue(&mut self, words: &[u8]) -> Result<(), LayerFault> {
        match self {
            Self::User(half) => half.queue(words),
            Self::Kernel(half) => half.queue(words),
            Self::Plain(half) => half.queue(words),
        }
    }

    fn queue_alert(&mut self, alert: Alert) -> Result<(), LayerFault> {
        match self {
            Self::User(half) => half.queue_alert(alert),
            Self::Kernel(half) => half.queue_alert(alert),
            Self::Plain(half) => half.queue_alert(alert),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerFault>> {
        match self {
            Self::User(half) => half.poll_flush(cx),
            Self::Kernel(half) => half.poll_flush(cx),
            Self::Plain(half) => half.poll_flush(cx),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, end: StreamEnd) -> Poll<Result<(), LayerFault>> {
        match self {
            Self::User(half) => half.poll_end(cx, end),
            Self::Kernel(half) => half.poll_end(cx, end),
            Self::Plain(half) => half.poll_end(cx, end),
        }
    }

    fn kernel(&mut self) -> Option<&mut KernelTransmit> {
        match self {
            Self::User(_) | Self::Plain(_) => None,
            Self::Kernel(half) => Some(half),
        }
    }

    fn is_mid_batch(&self) -> bool {
        match self {
            Self::User(half) => half.is_mid_batch(),
            Self::Kernel(half) => half.is_mid_batch(),
            Self::Plain(half) => half.is_mid_batch(),
        }
    }
}
