//! Handshake: with the server first, then with the client. Each ends in secrets, sequence numbers and rustls' kernel
//! connection.
//!
//! The client is shown no certificate before the server's was verified. Where the server cannot be reached, or its
//! certificate is refused, the client's handshake still finishes, so that `* BYE` can say why.
//!
//! On a port of STARTTLS policy may let a session go on in clear text, on both sides, or have TLS pass untouched.

/// The clear-text dialogue until STARTTLS, without I/O.
pub mod clear;
/// The clear-text dialogue on sockets.
mod starttls;
/// What a TLS profile lets either side negotiate.
mod profile;
/// Deviations from TLS that policy may tolerate.
pub mod compliance;
/// The ClientHello, read without answering it.
mod hello;
/// The socket to the server.
mod connect;
/// Sessions with servers, for resumption.
mod sessions;
/// Whether the server asks for a client certificate, and what its refusals mean.
mod asked;
/// TLS with the server, and the judgement of its certificate.
mod upstream;
/// Who is trusted.
mod roots;
/// What a policy's files say, for the process that reads none.
mod material;
/// Certificates that end, and what is said of it.
pub(crate) mod expiry;
/// Servers that show one certificate and no other.
mod pins;
/// How many paths a chain allows.
mod paths;
/// Whether a certificate was revoked.
pub mod revocation;
/// Judging the server's certificate: every fault, one verdict.
pub mod verify;
/// Leaves: minted from the re-signing authority or configured, cached, bounded.
pub mod mint;
/// A connection of this process with itself.
pub(crate) mod loopback;
/// One driver over rustls' unbuffered API for both sides.
pub mod drive;
/// Which alert tells which fault, and how rustls is made to send it.
mod alerts;
/// Alerts and `* BYE` to a peer, followed by an end that does not destroy them.
mod parting;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::ExtractedSecrets;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use self::clear::bye;
use self::compliance::Conduct;
pub use self::connect::connect as connect_upstream;
use self::hello::Hello;
pub(crate) use self::material::TrustMaterial;
pub(crate) use self::mint::KeyFile;
use self::mint::{KeyKind, LeafClass, MintError, Request, Shown};
pub(crate) use self::parting::part;
use self::parting::{FAREWELL, Parting};
pub(crate) use self::revocation::OcspAnswers;
use self::starttls::Agreed;
use self::upstream::Proven;
pub use self::upstream::{Trust, TrustError};
use crate::accept::egress::{Egress, EgressFault, EgressTable, EgressTerms};
use crate::accept::{Admission, SocketBuffers};
use crate::config::{Action, ImplicitTls, InterfaceName, Limits, Sni, Source, StartTls, Traffic};
use crate::event_id::EventId;
use crate::failure::{Cause, Failure};
use crate::inspect::ImapTerms;
use crate::jobs::{JOB_WAIT, JobPool};
use crate::layer::offload::OffloadTerms;
use crate::layer::{KernelSide, Pool, Receive, Received, StreamEnd, Transmit, split};
use crate::policy::{Policies, PolicyInForce, ProfileInForce};
use crate::record::Record;
use crate::signer::SignFault;
use crate::steering::syn_egress::SynEgress;
use crate::words::{ClientAddr, OriginalDst, Service, Side};

/// A side whose handshake is finished; the record layer takes it from here.
pub struct Finished {
    /// At a record boundary: nothing behind it was read.
    pub socket: TcpStream,
    /// Keys and the next sequence numbers.
    pub secrets: ExtractedSecrets,
    /// rustls' kernel connection, for later secrets and tickets.
    pub kernel: KernelSide,
    /// The server asked for a client certificate and was answered with none. False for a client.
    pub asked: bool,
    /// The server's certificate is valid for the name that the client asked for. False for a client.
    pub verified: bool,
    /// The server's certificates, its own first. None for a client.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// What a handshake needs besides its sockets.
#[derive(Clone, Copy)]
pub(crate) struct HandshakeTerms<'a> {
    /// The client's address.
    pub client: ClientAddr,
    /// Where the client meant to go.
    pub destination: OriginalDst,
    /// How TLS begins there.
    pub service: Service,
    /// The address that the server sees.
    pub source: Source,
    /// Knows the ports that clients use themselves, which Postern does not take beside their addresses.
    pub sessions: &'a Admission,
    /// The client's interface.
    pub ingress: &'a InterfaceName,
    /// Which destinations an ingress may reach.
    pub reach: EgressTerms<'a>,
    /// The route lookup.
    pub egress: &'a RefCell<EgressTable>,
    /// The interface that a connection's SYN left by.
    pub syn_egress: &'a SynEgress,
    /// When the connection was accepted, as clocks on the wall have it.
    pub at: Timestamp,
    /// All policies: the name in the ClientHello may lead to another one.
    pub policies: &'a Policies,
    /// The one that applies.
    pub policy: &'a PolicyInForce,
    /// Bounds.
    pub limits: &'a Limits,
    /// When the connection was accepted: the bound on the handshake counts from then until the relay begins.
    pub accepted: Instant,
    /// Buffers for a farewell.
    pub pool: &'a Pool,
    /// Threads for verification, minting and slow signatures.
    pub jobs: &'a JobPool,
    /// What authorities say of certificates, when they are asked.
    pub answers: &'a OcspAnswers,
    /// The largest message that clients are told of in clear text.
    pub message_max: u64,
}

impl<'a> HandshakeTerms<'a> {
    /// How servers are verified, and what clients are shown.
    pub(crate) fn trust(&self) -> &'a Trust {
        &self.profile().trust
    }

    /// Whether the kernel is given a side's records.
    pub(crate) fn layers(&self) -> &'a OffloadTerms {
        &self.profile().layers
    }

    fn profile(&self) -> &'a ProfileInForce {
        self.policy.profile(self.service)
    }

    /// What becomes of STARTTLS, clear text and implicit TLS.
    fn action(&self) -> &'a Action {
        &self.policy.action().settings
    }

    /// What the policy says about IMAP itself.
    fn imap(&self) -> &'a ImapTerms {
        &self.policy.action().imap
    }

    /// What policies are looked through with.
    pub(crate) fn traffic<'t>(&'t self, sni: Sni<'t>) -> Traffic<'t> {
        Traffic {
            ingress: self.ingress,
            client: self.client.0.ip(),
            destination: self.destination.ip(),
            at: self.at,
            service: self.service,
            sni,
        }
    }
}

/// What a session goes on with.
pub(crate) enum Agreement {
    /// TLS was ended on both sides: the client's, then the server's.
    Tls(Box<(Finished, Finished)>),
    /// Clear text on both sides.
    ClearText(ClearSession),
    /// Client and server begin TLS with each other.
    Bypass {
        /// Its next octet is TLS.
        client: TcpStream,
        /// The same.
        server: TcpStream,
    },
}

/// A session without TLS on either side, at the client's first command that is the server's to answer.
pub(crate) struct ClearSession {
    /// The client.
    pub client: TcpStream,
    /// The server, between two lines.
    pub server: TcpStream,
    /// What was read from the client and goes before all that it sends. Wiped when dropped.
    pub first: Zeroizing<Vec<u8>>,
    /// What the server said that it can do, with spaces between; empty where the client did not ask.
    pub capabilities: Vec<u8>,
}

/// Do both sides' handshakes, and say which policy applies to what follows: the one of `terms`, or the one to which the
/// client's SNI led. `egress` says whether the client may reach the destination at all.
///
/// # Errors
/// What ended it. The client has been told, where a client can be told.
pub(crate) async fn handshake<'a>(
    mut client: TcpStream,
    egress: Result<Egress, EgressFault>,
    terms: &HandshakeTerms<'a>,
    record: &mut Record,
) -> Result<(Agreement, &'a PolicyInForce), Failure> {
    let bound = Bound::of(terms);
    let (hello, terms, server) = if terms.service == Service::ImplicitTls {
        let hello = hello(&mut client, bound, record).await?;
        let (terms, admitted) = renewed(terms, &hello, record);
        let connecting = async {
            admitted?;
            connect_implicit(egress, &terms, record).await
        };
        let server = bound.within(Side::Upstream, connecting).await;
        (hello, terms, server)
    } else {
        let (server, agreed) = clear_text(&mut client, egress, bound, terms, record).await?;
        match agreed {
            Agreed::ClearText { first, capabilities } => {
                let clear = ClearSession { client, server, first, capabilities };
                return Ok((Agreement::ClearText(clear), terms.policy));
            }
            // Where the name may lead to another policy, nothing is left alone before it is read.
            Agreed::Tls if terms.action().starttls == StartTls::Bypass && !terms.policy.depends_on_name() => {
                return Ok((Agreement::Bypass { client, server }, terms.policy));
            }
            Agreed::Tls => {
                let hello = hello(&mut client, bound, record).await?;
                let (terms, admitted) = renewed(terms, &hello, record);
                (hello, terms, admitted.map(|()| server))
            }
        }
    };
    let terms = &terms;
    let server = match server {
        Ok(mut server) if leaves_tls_alone(terms) => {
            let passing = async { server.write_all(&hello.octets).await.map_err(unsent) };
            bound.within(Side::Upstream, passing).await?;
            return Ok((Agreement::Bypass { client, server }, terms.policy));
        }
        server => server,
    };
    #[cfg(debug_assertions)]
    crate::fault::panic_on_demand(hello.sni.as_deref());
    let conduct = conduct(&mut client, &hello, terms, record).await?;
    let (proven, leaving) = match server {
        Ok(server) => prove(server, &hello, bound, terms, record).await,
        Err(failure) => (Err(failure), None),
    };
    // A server at fault is told at the same time as the client.
    let leave = async {
        if let Some((mut server, words)) = leaving {
            part(&mut server, &words).await;
        }
    };
    let concluding = conclude(client, proven, (hello, conduct), bound, terms, record);
    let (concluded, ()) = tokio::join!(concluding, leave);
    Ok((Agreement::Tls(Box::new(concluded?)), terms.policy))
}

/// The terms of the policy to which the ClientHello leads. Where no policy admits the name, the client is told so under
/// the terms that it had.
fn renewed<'a>(
    terms: &HandshakeTerms<'a>,
    hello: &Hello,
    record: &mut Record,
) -> (HandshakeTerms<'a>, Result<(), Failure>) {
    if !terms.policy.depends_on_name() {
        return (*terms, Ok(()));
    }
    let sni = hello.sni.as_deref().map_or(Sni::Absent, Sni::Name);
    match terms.policies.find(&terms.traffic(sni)) {
        Some(policy) => {
            record.applied(policy.names(terms.service));
            (HandshakeTerms { policy, ..*terms }, Ok(()))
        }
        None => {
            record.unmatched();
            (*terms, Err(Failure::downstream(Cause::NoPolicy)))
        }
    }
}

/// Whether the policy to which the ClientHello led has TLS pass untouched.
fn leaves_tls_alone(terms: &HandshakeTerms<'_>) -> bool {
    let is_passed = terms.service == Service::StartTls && terms.action().starttls == StartTls::Bypass;
    is_passed || terms.policy.leaves_alone(terms.service, terms.client.0.ip(), terms.destination.ip())
}

fn unsent(error: io::Error) -> Failure {
    Failure::upstream(Cause::Socket(error))
}

/// Connect for implicit TLS, where policy does not deny it.
async fn connect_implicit(
    egress: Result<Egress, EgressFault>,
    terms: &HandshakeTerms<'_>,
    record: &mut Record,
) -> Result<TcpStream, Failure> {
    match terms.action().implicit {
        ImplicitTls::Deny => Err(Failure::downstream(Cause::ImplicitDenied)),
        ImplicitTls::Inspect | ImplicitTls::Allow => connect(egress, terms, record).await,
    }
}

/// Show the client a leaf, and finish its handshake: for mail, or for `* BYE`.
async fn conclude(
    mut client: TcpStream,
    mut proven: Result<(TcpStream, Proven), Failure>,
    (hello, conduct): (Hello, Conduct),
    bound: Bound,
    terms: &HandshakeTerms<'_>,
    record: &mut Record,
) -> Result<(Finished, Finished), Failure> {
    let shown = match show(&proven, &hello, bound, terms).await {
        Ok(shown) => shown,
        // No leaf can be made from the server's certificate. The client is told so under a leaf without one.
        Err(failure) => {
            proven = Err(failure);
            show(&proven, &hello, bound, terms).await?
        }
    };
    record.shown(&shown.fingerprint);
    // `* BYE` needs a finished handshake, even where the server used up the time.
    let bound = if proven.is_ok() { bound } else { bound.with_farewell() };
    let finishing = finish(&mut client, (hello, conduct), &shown, terms, record);
    let downstream = match bound.within(Side::Downstream, finishing).await {
        Ok((secrets, kernel)) => {
            Finished { socket: client, secrets, kernel, asked: false, verified: false, chain: Arc::default() }
        }
        Err(parting) => return Err(parting.say(&mut client).await),
    };
    match proven {
        Ok((socket, Proven { secrets, kernel, asked, verified, chain, refused: None, .. })) => {
            let upstream = Finished { socket, secrets, kernel, asked, verified, chain };
            offloaded(downstream, upstream, terms, record.id()).await
        }
        Ok((server, Proven { refused: Some(faults), .. })) => {
            drop(server);
            let failure = Failure::upstream(Cause::Certificate(faults));
            farewell(downstream, terms, &goodbye(&failure, record.id())).await;
            Err(failure)
        }
        Err(failure) => {
            farewell(downstream, terms, &goodbye(&failure, record.id())).await;
            Err(failure)
        }
    }
}

/// Under `offload = "always"`, a connection that the kernel cannot take ends here, where `* BYE` can still be sent.
async fn offloaded(
    downstream: Finished,
    upstream: Finished,
    terms: &HandshakeTerms<'_>,
    id: EventId,
) -> Result<(Finished, Finished), Failure> {
    let sides = [(Side::Downstream, &downstream), (Side::Upstream, &upstream)];
    let refused = sides.into_iter().find_map(|(side, finished)| {
        let fault = terms.layers().admit(&finished.kernel).err()?;
        Some(Failure { side, cause: Cause::Layer(fault) })
    });
    match refused {
        None => Ok((downstream, upstream)),
        Some(failure) => {
            farewell(downstream, terms, &goodbye(&failure, id)).await;
            Err(failure)
        }
    }
}

/// Read the client's ClientHello. A client that sends something else is told so.
async fn hello(client: &mut TcpStream, bound: Bound, record: &mut Record) -> Result<Hello, Failure> {
    match bound.within(Side::Downstream, hello::read(client)).await {
        Ok(hello) => {
            record.sni(hello.sni.as_deref(), hello.sni_address);
            Ok(hello)
        }
        Err(parting) => Err(parting.say(client).await),
    }
}

/// Judge the ClientHello by what the client's policy tolerates. A client that is refused is told so.
async fn conduct(
    client: &mut TcpStream,
    hello: &Hello,
    terms: &HandshakeTerms<'_>,
    record: &mut Record,
) -> Result<Conduct, Failure> {
    let (conduct, noted) = terms.trust().conduct_of(hello);
    record.deviates(Side::Downstream, conduct.deviations());
    match noted {
        Ok(()) => Ok(conduct),
        Err(cause) => Err(hello::refused(cause, Vec::new()).say(client).await),
    }
}

/// Connect to the server by an interface that the client may use. No octet was sent or read yet.
///
/// # Errors
/// The destination may not be reached, or was reached by another interface, or [`connect_upstream`]'s.
pub(crate) async fn connect(
    egress: Result<Egress, EgressFault>,
    terms: &HandshakeTerms<'_>,
    record: &mut Record,
) -> Result<TcpStream, Failure> {
    let refused = |fault| Failure::upstream(Cause::Egress(fault));
    let asked = egress.map_err(refused)?;
    let HandshakeTerms { destination, client, source, sessions, ingress, .. } = *terms;
    let buffers = SocketBuffers::of_session(terms.limits.session_memory);
    let server = connect_upstream(destination, client, source, sessions, buffers, terms.limits.connect)
        .await
        .map_err(Failure::upstream)?;
    let syn = terms.syn_egress.interface(&server);
    let taken =
        terms.egress.borrow().confirm(terms.reach, ingress, destination, asked, syn).map_err(refused)?;
    record.egress(taken.interface.as_str());
    Ok(server)
}

/// Clear text until both sides have agreed on STARTTLS, or on clear text. Where the server cannot be reached, the client is
/// told in clear text.
async fn clear_text(
    client: &mut TcpStream,
    egress: Result<Egress, EgressFault>,
    bound: Bound,
    terms: &HandshakeTerms<'_>,
    record: &mut Record,
) -> Result<(TcpStream, Agreed), Failure> {
    let greeted = async {
        let mut server = connect(egress, terms, record).await?;
        let dialogue = starttls::greeted(&mut server).await.map_err(Failure::upstream)?;
        Ok((server, dialogue))
    };
    let (mut server, dialogue) = match bound.within(Side::Upstream, greeted).await {
        Ok(greeted) => greeted,
        Err(failure) => {
            part(client, &goodbye(&failure, record.id())).await;
            return Err(failure);
        }
    };
    let agreed = starttls::agree(client, &mut server, dialogue, bound, terms, record);
    match bound.within(Side::Downstream, agreed).await {
        Ok(agreed) => Ok((server, agreed)),
        Err(mut parting) => {
            if matches!(parting.failure.cause, Cause::Silent(_)) {
                parting.words = goodbye(&parting.failure, record.id());
            }
            Err(parting.say(client).await)
        }
    }
}

/// The server's handshake, and the judgement of its certificate. A server at fault is returned with the octets that
/// tell it.
async fn prove(
    mut server: TcpStream,
    hello: &Hello,
    bound: Bound,
    terms: &HandshakeTerms<'_>,
    record: &mut Record,
) -> (Result<(TcpStream, Proven), Failure>, Option<(TcpStream, Vec<u8>)>) {
    let proving = terms.trust().prove(&mut server, hello, terms, record);
    match bound.within(Side::Upstream, proving).await {
        Ok(proven) => (Ok((server, proven)), None),
        Err(Parting { failure, words }) => (Err(failure), (!words.is_empty()).then_some((server, words))),
    }
}

/// Choose or mint what the client sees, from what became of the server. A signer that has ended is waited for as long as
/// the handshake may take.
async fn show(
    proven: &Result<(TcpStream, Proven), Failure>,
    hello: &Hello,
    bound: Bound,
    terms: &HandshakeTerms<'_>,
) -> Result<Shown, Failure> {
    let (upstream, class) = match proven {
        Ok((_, proven)) => (proven.chain.first(), proven.class),
        Err(_) => (None, LeafClass::Absent),
    };
    let request = Request {
        upstream,
        sni: hello.sni.as_deref(),
        destination: terms.destination.ip(),
        class,
        key: terms.trust().leaves().key_for(&hello.offer),
        certificates: terms.action().certificates,
    };
    let minting = terms.trust().leaves().server_config(&request, terms.jobs);
    // A server that used up the time must not leave the client without words, and nobody but the signer needs longer.
    let shown = match timeout_at(bound.at_least(JOB_WAIT).deadline, minting).await {
        Ok(shown) => shown,
        Err(_) => Err(MintError::Sign(SignFault::Late)),
    };
    shown.map_err(|error| Failure::downstream(Cause::Mint(error)))
}

async fn finish(
    client: &mut TcpStream,
    (hello, mut conduct): (Hello, Conduct),
    shown: &Shown,
    terms: &HandshakeTerms<'_>,
    record: &mut Record,
) -> Result<(ExtractedSecrets, KernelSide), Parting> {
    let tls = |error| Failure::downstream(Cause::Tls(error));
    let connection = UnbufferedServerConnection::new(Arc::clone(&shown.config)).map_err(tls)?;
    // A signature takes some 20 µs with P-256, and a millisecond or more with RSA. One with a configured certificate's key
    // is waited for: the signer makes it.
    let apart = (shown.key == KeyKind::Rsa || !shown.minted).then_some(terms.jobs);
    let driven = drive::drive(connection, client, hello.octets, apart, &mut conduct).await;
    record.deviates(Side::Downstream, conduct.deviations());
    let connection = driven
        .map_err(|broken| Parting { failure: Failure::downstream(broken.cause), words: broken.words })?;
    record.tls(
        Side::Downstream,
        connection.protocol_version(),
        connection.negotiated_cipher_suite(),
        connection.negotiated_key_exchange_group().map(|group| group.name()),
        connection.handshake_kind(),
    );
    Ok(drive::Unbuffered::into_kernel(connection).map_err(tls)?)
}

/// Send `* BYE` with the reason, inside TLS.
async fn farewell(side: Finished, terms: &HandshakeTerms<'_>, words: &[u8]) {
    let Ok((mut receive, mut transmit)) =
        split(side.socket, side.secrets, side.kernel, terms.pool, &OffloadTerms::default())
    else {
        return;
    };
    say_goodbye(&mut receive, &mut transmit, words).await;
}

/// Send these words to a client inside TLS and end our half. The client has three seconds to end its own.
pub async fn say_goodbye(receive: &mut impl Receive, transmit: &mut impl Transmit, words: &[u8]) {
    if transmit.queue(words).is_err() {
        return;
    }
    let _ = timeout(FAREWELL, async {
        poll_fn(|cx| transmit.poll_end(cx, StreamEnd::Closed)).await?;
        while let Received::Data = poll_fn(|cx| receive.poll_receive(cx)).await? {}
        Ok::<_, crate::layer::LayerFault>(())
    })
    .await;
}

/// The `* BYE` line: the reason, and the identifier of the record that says more.
pub fn goodbye(failure: &Failure, id: EventId) -> Vec<u8> {
    bye(&words(failure, id))
}

/// The text that a person reads in the mail client.
fn words(failure: &Failure, id: EventId) -> String {
    format!("{}; reference {id}", failure.told())
}

/// One bound on everything between accept and relay, so that no peer gains time by many slow steps.
#[derive(Clone, Copy)]
struct Bound {
    deadline: Instant,
    /// The configured limit, for the reason.
    limit: Duration,
}

impl Bound {
    fn of(terms: &HandshakeTerms<'_>) -> Self {
        let limit = terms.action().general.handshake_of(terms.limits);
        Self { deadline: terms.accepted + limit, limit }
    }

    /// At least the time of a farewell from now. A server that used up the time must not leave the client without a
    /// reason.
    fn with_farewell(self) -> Self {
        self.at_least(FAREWELL)
    }

    fn at_least(self, time: Duration) -> Self {
        Self { deadline: self.deadline.max(Instant::now() + time), ..self }
    }

    /// Do the work, or fail with the silence of this side at the deadline.
    async fn within<T, E: From<Failure>>(
        self,
        side: Side,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match timeout_at(self.deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(Failure { side, cause: Cause::Silent(self.limit.as_secs()) }.into()),
        }
    }
}
