//! Handshake: upstream first, then the client, ending in secrets, sequence numbers and rustls' kernel connection.
//!
//! No octet of trust is shown to the client before the server proved itself. A server that cannot be reached or whose
//! certificate is refused still ends in a finished handshake with the client, so that `* BYE` can say why.

/// The clear-text dialogue on port 143 until STARTTLS, without I/O.
pub mod clear;
/// The sockets under that dialogue.
mod starttls;
/// The ClientHello, read without answering it.
mod hello;
/// The socket to the server.
mod connect;
/// The server: TLS, proof.
mod upstream;
/// Judging the server's certificate: every fault, one verdict.
pub mod verify;
/// Leaves: minted from the re-signing authority or configured, cached, bounded.
pub mod mint;
/// One driver over rustls' unbuffered API for both sides.
pub mod drive;

use std::cell::RefCell;
use std::future::poll_fn;
use std::time::Duration;

use rustls::ExtractedSecrets;
use rustls::server::UnbufferedServerConnection;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::clear::bye;
pub use self::connect::connect as connect_upstream;
use self::hello::Hello;
use self::mint::{Class, Request, Shown};
use self::upstream::Proven;
pub use self::upstream::{Trust, TrustError};
use crate::accept::Admission;
use crate::accept::egress::{Egress, EgressFault, EgressTable};
use crate::config::{InterfaceName, Limits, Source};
use crate::failure::{Cause, Failure};
use crate::layer::offload::Terms as Layers;
use crate::layer::{Ending, KernelSide, Pool, Receive, Received, Transmit, split};
use crate::record::Record;
use crate::steering::syn_egress::SynEgress;
use crate::words::{ClientAddr, OriginalDst, Side};

/// After `* BYE` a client may take this long to leave: a reset would destroy the words.
const FAREWELL: Duration = Duration::from_secs(3);

/// A side whose handshake is finished; the record layer takes it from here.
pub struct Finished {
    /// At a record boundary, nothing read too far.
    pub socket: TcpStream,
    /// Keys and the next sequence numbers.
    pub secrets: ExtractedSecrets,
    /// rustls' part from here on.
    pub kernel: KernelSide,
}

/// What a handshake needs to know.
pub struct Terms<'a> {
    /// Who asked.
    pub client: ClientAddr,
    /// Where the client meant to go.
    pub destination: OriginalDst,
    /// The address that the server sees.
    pub source: Source,
    /// Whose ports are not taken beside clients' addresses.
    pub sessions: &'a Admission,
    /// Where the client is.
    pub ingress: &'a InterfaceName,
    /// Who may reach what by which interface.
    pub egress: &'a RefCell<EgressTable>,
    /// The interface that a connection really took.
    pub syn_egress: &'a SynEgress,
    /// How a server proves itself, and what the client is shown.
    pub trust: &'a Trust,
    /// Which halves the kernel is given.
    pub layers: &'a Layers,
    /// Bounds.
    pub limits: &'a Limits,
    /// Buffers for a farewell.
    pub pool: &'a Pool,
}

/// Both sides' handshakes. `egress` says whether the destination may be reached at all.
///
/// # Errors
/// Whatever ended it; the client has been told where a client can be told.
pub async fn handshake(
    mut client: TcpStream,
    egress: Result<Egress, EgressFault>,
    terms: &Terms<'_>,
    record: &mut Record,
) -> Result<(Finished, Finished), Failure> {
    let bound = terms.limits.handshake;
    let (hello, server) = if terms.destination.is_implicit_tls() {
        let hello = within(bound, Side::Downstream, hello(&mut client)).await?;
        record.sni(hello.sni.as_deref());
        (hello, connect(egress, terms, record).await)
    } else {
        let server = clear_text(&mut client, egress, terms, record).await?;
        let hello = within(bound, Side::Downstream, hello(&mut client)).await?;
        record.sni(hello.sni.as_deref());
        (hello, Ok(server))
    };
    #[cfg(debug_assertions)]
    crate::fault::strike(hello.sni.as_deref());
    let mut proven = match server {
        Ok(server) => within(bound, Side::Upstream, prove(server, &hello, terms, record)).await,
        Err(failure) => Err(failure),
    };
    let shown = match show(&proven, &hello, terms) {
        Ok(shown) => shown,
        // Nothing can be copied from this certificate: the client is told so under a leaf of its own.
        Err(failure) => {
            proven = Err(failure);
            show(&proven, &hello, terms)?
        }
    };
    record.shown(&shown.fingerprint);
    let downstream = within(bound, Side::Downstream, finish(client, hello, &shown, record)).await?;
    match proven {
        Ok(Proven { finished, refused: None, .. }) => offloaded(downstream, finished, terms).await,
        Ok(Proven { refused: Some(faults), finished, .. }) => {
            drop(finished);
            let failure = Failure::upstream(Cause::Certificate(faults));
            farewell(downstream, terms, &failure).await;
            Err(failure)
        }
        Err(failure) => {
            farewell(downstream, terms, &failure).await;
            Err(failure)
        }
    }
}

/// Under `offload = "always"`, a connection that the kernel cannot take ends here, while words can be said.
async fn offloaded(
    downstream: Finished,
    upstream: Finished,
    terms: &Terms<'_>,
) -> Result<(Finished, Finished), Failure> {
    let sides = [(Side::Downstream, &downstream), (Side::Upstream, &upstream)];
    let refused = sides.into_iter().find_map(|(side, finished)| {
        let fault = terms.layers.admit(&finished.kernel).err()?;
        Some(Failure { side, cause: Cause::Layer(fault) })
    });
    match refused {
        None => Ok((downstream, upstream)),
        Some(failure) => {
            farewell(downstream, terms, &failure).await;
            Err(failure)
        }
    }
}

async fn hello(client: &mut TcpStream) -> Result<Hello, Failure> {
    hello::read(client).await.map_err(Failure::downstream)
}

/// The connection to the server, by an interface that the client may use; no octet was sent or read.
///
/// # Errors
/// The destination may not be reached, or was reached by another interface, or [`connect_upstream`]'s.
pub async fn connect(
    egress: Result<Egress, EgressFault>,
    terms: &Terms<'_>,
    record: &mut Record,
) -> Result<TcpStream, Failure> {
    let refused = |fault| Failure::upstream(Cause::Egress(fault));
    let asked = egress.map_err(refused)?;
    let Terms { destination, client, source, sessions, ingress, .. } = *terms;
    let server = connect_upstream(destination, client, source, sessions, terms.limits.connect)
        .await
        .map_err(Failure::upstream)?;
    let syn = terms.syn_egress.interface(&server);
    let taken = terms.egress.borrow().confirm(ingress, destination, asked, syn).map_err(refused)?;
    record.egress(taken.interface.as_str());
    Ok(server)
}

/// Port 143 until both sides have agreed on STARTTLS; a server that is not there is told to the client in clear text.
async fn clear_text(
    client: &mut TcpStream,
    egress: Result<Egress, EgressFault>,
    terms: &Terms<'_>,
    record: &mut Record,
) -> Result<TcpStream, Failure> {
    let bound = terms.limits.handshake;
    let greeted = async {
        let mut server = connect(egress, terms, record).await?;
        let greeting = async { starttls::greeted(&mut server).await.map_err(Failure::upstream) };
        let dialogue = within(bound, Side::Upstream, greeting).await?;
        Ok((server, dialogue))
    };
    let (mut server, dialogue) = match greeted.await {
        Ok(greeted) => greeted,
        Err(failure) => {
            let _ = client.write_all(&bye(&words(&failure))).await;
            return Err(failure);
        }
    };
    let agreed = starttls::agree(client, &mut server, dialogue, record);
    if let Err(failure) = within(bound, Side::Downstream, agreed).await {
        if let Cause::Silent(seconds) = failure.cause {
            let _ = client.write_all(&bye(&format!("no STARTTLS within {seconds} s"))).await;
        }
        return Err(failure);
    }
    Ok(server)
}

async fn prove(
    server: TcpStream,
    hello: &Hello,
    terms: &Terms<'_>,
    record: &mut Record,
) -> Result<Proven, Failure> {
    terms.trust.prove(server, hello, terms.destination, record).await.map_err(Failure::upstream)
}

/// Choose or mint what the client sees, from what became of the server.
fn show(proven: &Result<Proven, Failure>, hello: &Hello, terms: &Terms<'_>) -> Result<Shown, Failure> {
    let (upstream, class) = match proven {
        Ok(proven) => (proven.chain.first(), proven.class),
        Err(_) => (None, Class::Absent),
    };
    let request = Request {
        upstream,
        sni: hello.sni.as_deref(),
        destination: terms.destination.ip(),
        class,
        key: hello.key,
    };
    let leaves = terms.trust.leaves();
    leaves.server_config(&request).map_err(|error| Failure::downstream(Cause::Mint(error)))
}

async fn finish(
    mut client: TcpStream,
    hello: Hello,
    shown: &Shown,
    record: &mut Record,
) -> Result<Finished, Failure> {
    let finished = async {
        let mut connection =
            UnbufferedServerConnection::new(std::sync::Arc::clone(&shown.config)).map_err(Cause::Tls)?;
        drive::drive(&mut connection, &mut client, hello.octets).await?;
        record.tls(
            Side::Downstream,
            connection.protocol_version(),
            connection.negotiated_cipher_suite(),
            connection.handshake_kind(),
        );
        let (secrets, kernel) = drive::Unbuffered::into_kernel(connection).map_err(Cause::Tls)?;
        Ok(Finished { socket: client, secrets, kernel })
    };
    finished.await.map_err(Failure::downstream)
}

/// `* BYE` with the reason, inside TLS.
async fn farewell(side: Finished, terms: &Terms<'_>, failure: &Failure) {
    let Ok((mut receive, mut transmit)) =
        split(side.socket, side.secrets, side.kernel, terms.pool, &Layers::default())
    else {
        return;
    };
    if transmit.queue(&bye(&words(failure))).is_err() {
        return;
    }
    let _ = timeout(FAREWELL, async {
        poll_fn(|cx| transmit.poll_end(cx, Ending::Notify)).await?;
        while let Received::Data = poll_fn(|cx| receive.poll_receive(cx)).await? {}
        Ok::<_, crate::layer::LayerFault>(())
    })
    .await;
}

/// What a person reads in the mail client.
fn words(failure: &Failure) -> String {
    format!("the mail server cannot be used: {}", failure.cause)
}

async fn within<T>(
    bound: Duration,
    side: Side,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match timeout(bound, work).await {
        Ok(result) => result,
        Err(_) => Err(Failure { side, cause: Cause::Silent(bound.as_secs()) }),
    }
}
