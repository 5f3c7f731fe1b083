//! One connection, from accept to record.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Policy;
use super::roster::{RosterEntry, Standing};
use super::rules::{LaterRules, mediation_terms};
use super::thread::Local;
use crate::accept::Handshaking;
use crate::config::{Compliance, Inspection, InterfaceName, Sni, StartTls, Traffic};
use crate::failure::{Cause, Failure};
use crate::guard::{SessionGuard, server_names};
use crate::handshake::compliance::Deviation;
use crate::handshake::{
    Agreement, ClearSession, Finished, HandshakeTerms, connect, goodbye, handshake, part, say_goodbye,
};
use crate::inspect::{Engine, MediationTerms, Plain, STARTTLS_STRIPPED, STARTTLS_TOO_LATE, Session};
use crate::layer::{Incoming, LayerFault, Outgoing, StreamEnd, split, unsealed};
use crate::policy::{Carriage, PolicyInForce};
use crate::record::Record;
use crate::relay::{Meter, Relayed, SessionBounds, relay, splice};
use crate::words::{ClientAddr, Direction, OriginalDst, Service, Side};

/// Where a connection came from and where it meant to go.
#[derive(Clone)]
pub(super) struct Arrival {
    pub(super) ingress: Rc<InterfaceName>,
    pub(super) client: ClientAddr,
    pub(super) destination: OriginalDst,
    pub(super) service: Service,
    pub(super) accepted: Instant,
}

/// The whole life of a connection. Its record is written when this ends, however it ends.
pub(super) async fn serve(socket: TcpStream, arrival: Arrival, handshaking: Handshaking, local: &Rc<Local>) {
    let mut record = local.shared.records.open(arrival.client, arrival.destination, arrival.service);
    record.ingress(arrival.ingress.as_str());
    let result = carry(socket, &arrival, handshaking, local, &mut record).await;
    let refused = match &result {
        Err(Failure { cause: Cause::Egress(_), .. }) => Some(&local.shared.egress_refused),
        Err(Failure { cause: Cause::ImplicitDenied, .. }) => Some(&local.shared.implicit_refused),
        Err(Failure { cause: Cause::NoPolicy, .. }) => Some(&local.shared.unmatched_refused),
        _ => None,
    };
    if let Some(refused) = refused {
        refused.fetch_add(1, Ordering::Relaxed);
    }
    record.close(result);
}

async fn carry(
    socket: TcpStream,
    arrival: &Arrival,
    handshaking: Handshaking,
    local: &Rc<Local>,
    record: &mut Record,
) -> Result<(), Failure> {
    let policy = local.shared.policy.load_full();
    local.pool.limit(policy.room.buffers_per_thread);
    let (client, destination) = (arrival.client, arrival.destination);
    let terms = match handshake_terms(arrival, local, &policy) {
        Some(terms) => terms,
        None => return Err(refuse_unmatched(socket, arrival.service, record).await),
    };
    record.applied(terms.policy.names(arrival.service));
    // Where the name in the ClientHello may lead to another policy, nothing is left alone before it is read.
    let bypassed = !terms.policy.depends_on_name()
        && terms.policy.leaves_alone(arrival.service, client.0.ip(), destination.ip());
    if bypassed {
        record.bypass();
    }
    record.only_events(!terms.policy.action().settings.general.log_sessions);
    if policy.config.records.start {
        record.started();
    }
    let egress = local.egress.borrow_mut().route(policy.reach(), &arrival.ingress, client, destination);
    if let Ok(egress) = &egress {
        record.egress(egress.interface.as_str());
    }
    if bypassed {
        let server = connect(egress, &terms, record).await?;
        drop(handshaking);
        let (idle, entry) =
            (idle(&terms), enter(arrival, &terms, Carriage::Untouched, local, &policy, record));
        drop(policy);
        return left_alone(&socket, &server, (idle, entry), local, record).await;
    }
    // Boxed: a handshake's state is large and gone before the session idles.
    let (agreement, applied) = Box::pin(handshake(socket, egress, &terms, record)).await?;
    // The name in the ClientHello may have led to another policy.
    let terms = HandshakeTerms { policy: applied, ..terms };
    record.only_events(!applied.action().settings.general.log_sessions);
    let idle = idle(&terms);
    let Sides { downstream, upstream, asked, proof, listed } = match agreement {
        Agreement::Tls(sides) => sealed(*sides, &terms, record)?,
        Agreement::ClearText(clear) => in_clear_text(clear, &terms, record),
        Agreement::Bypass { client, server } => {
            record.bypass();
            drop(handshaking);
            let entry = enter(arrival, &terms, Carriage::Untouched, local, &policy, record);
            drop(policy);
            return left_alone(&client, &server, (idle, entry), local, record).await;
        }
    };
    let ((mut down_in, mut down_out), (mut up_in, mut up_out)) = (downstream, upstream);
    let (downstream, upstream) = ((&mut down_in, &mut down_out), (&mut up_in, &mut up_out));
    let carriage = match (listed.is_some(), applied.action().settings.inspect) {
        (true, _) => Carriage::ClearText,
        (false, Inspection::None) => Carriage::Unread,
        (false, Inspection::Full) => Carriage::Judged,
    };
    let entry = enter(arrival, &terms, carriage, local, &policy, record);
    let verified = proof.is_some();
    let standing = Rc::clone(entry.standing());
    let later = LaterRules::new(Rc::clone(local), standing, (destination, verified), policy.generation);
    let mut engine = engine(local, &policy, applied, (arrival, proof), listed.as_deref(), later, record);
    let (pipes, meter, compliance) = (Some(&local.pipes), record.meter(), terms.trust().compliance());
    drop(handshaking);
    // A session that idles for days keeps no policy that others have replaced.
    drop(policy);
    let bounds = SessionBounds { idle, cut: &**entry.standing() };
    let Relayed { result, may_tell } =
        relay(downstream, upstream, &mut *engine, &local.pool, pipes, &meter, bounds).await;
    if result.as_ref().is_err_and(|failure| failure.side == Side::Upstream) {
        // A connection that breaks has no end that the engine was told of. What it refuses of it, the result says already.
        let _ = engine.ended(Side::Upstream, StreamEnd::Truncated);
    }
    let unserved = meter.octets(Direction::ServerToClient) == 0;
    let result = result.map_err(|failure| refused_without_certificate(failure, asked && unserved));
    if may_tell && let Err(failure) = &result {
        let words = goodbye(failure, record.id());
        Box::pin(say_goodbye(&mut down_in, &mut down_out, &words)).await;
    }
    if listed.is_none() { well_ended(result, &meter, compliance, record) } else { result }
}

/// The session is relayed from now on.
fn enter(
    arrival: &Arrival,
    terms: &HandshakeTerms<'_>,
    carriage: Carriage,
    local: &Local,
    policy: &Policy,
    record: &Record,
) -> RosterEntry {
    let standing = Standing::new(arrival, terms.at, carriage, record);
    local.roster.enter(standing, policy.generation, &local.shared.policy)
}

/// Client and server speak with each other.
async fn left_alone(
    client: &TcpStream,
    server: &TcpStream,
    (idle, entry): (Duration, RosterEntry),
    local: &Local,
    record: &Record,
) -> Result<(), Failure> {
    let bounds = SessionBounds { idle, cut: &**entry.standing() };
    splice::relay(client, server, &local.pipes, &record.meter(), bounds).await
}

/// How long the session may go without an octet.
fn idle(terms: &HandshakeTerms<'_>) -> Duration {
    terms.policy.action().settings.general.idle_of(terms.limits)
}

/// No policy fits: where a session begins in clear text the client is told so, elsewhere its connection ends.
async fn refuse_unmatched(mut socket: TcpStream, service: Service, record: &Record) -> Failure {
    let failure = Failure::downstream(Cause::NoPolicy);
    if service == Service::StartTls {
        part(&mut socket, &goodbye(&failure, record.id())).await;
    }
    failure
}

/// `None` where no policy fits. For an ingress that a reload took out, none does.
fn handshake_terms<'a>(
    arrival: &'a Arrival,
    local: &'a Local,
    policy: &'a Policy,
) -> Option<HandshakeTerms<'a>> {
    let at = Timestamp::now();
    let traffic = Traffic {
        ingress: &arrival.ingress,
        client: arrival.client.0.ip(),
        destination: arrival.destination.ip(),
        at,
        service: arrival.service,
        sni: Sni::Unread,
    };
    let is_listed = policy.config.steering.ingress.contains(&arrival.ingress);
    let first = policy.policies.find(&traffic).filter(|_| is_listed)?;
    Some(HandshakeTerms {
        client: arrival.client,
        destination: arrival.destination,
        service: arrival.service,
        source: policy.config.steering.source,
        sessions: &local.shared.admission,
        ingress: &arrival.ingress,
        reach: policy.reach(),
        egress: &local.egress,
        syn_egress: &local.shared.syn_egress,
        at,
        policies: &policy.policies,
        policy: first,
        limits: &policy.config.limits,
        accepted: arrival.accepted,
        pool: &local.pool,
        jobs: &local.shared.jobs,
        answers: &local.shared.answers,
        message_max: policy.room.message.0,
    })
}

/// Both sides of a session that an engine decides about.
struct Sides {
    downstream: (Incoming, Outgoing),
    upstream: (Incoming, Outgoing),
    /// The server asked for a client certificate.
    asked: bool,
    /// What the server proved; nothing in clear text.
    proof: Option<Proof>,
    /// In clear text: the server's capabilities, as far as it was asked.
    listed: Option<Vec<u8>>,
}

/// The server's certificate is valid for the name that the client asked for. This is the whole chain.
struct Proof(Arc<[CertificateDer<'static>]>);

fn sealed(
    (downstream, upstream): (Finished, Finished),
    terms: &HandshakeTerms<'_>,
    record: &mut Record,
) -> Result<Sides, Failure> {
    let (asked, proof) = (upstream.asked, upstream.verified.then(|| Proof(Arc::clone(&upstream.chain))));
    let downstream = records(downstream, terms, Side::Downstream, record)?;
    let upstream = records(upstream, terms, Side::Upstream, record)?;
    Ok(Sides { downstream, upstream, asked, proof, listed: None })
}

/// Neither side has TLS: what is in clear text on one is in clear text on the other.
fn in_clear_text(clear: ClearSession, terms: &HandshakeTerms<'_>, record: &mut Record) -> Sides {
    record.clear_text();
    let downstream = unsealed(clear.client, clear.first, terms.pool);
    let upstream = unsealed(clear.server, Zeroizing::default(), terms.pool);
    for (side, halves) in [(Side::Downstream, &downstream), (Side::Upstream, &upstream)] {
        record.layers(side, halves.0.layer(), halves.1.layer());
    }
    Sides { downstream, upstream, asked: false, proof: None, listed: Some(clear.capabilities) }
}

/// What decides about the octets of a session, and in clear text what the server listed. Boxed: what waits shall be small.
fn engine(
    local: &Local,
    policy: &Policy,
    applied: &PolicyInForce,
    (arrival, proof): (&Arrival, Option<Proof>),
    listed: Option<&[u8]>,
    later: LaterRules,
    record: &mut Record,
) -> Box<dyn Engine> {
    let action = applied.action();
    if action.settings.inspect == Inspection::None {
        return Box::new(Plain::default());
    }
    let server = (arrival.destination, proof.is_some());
    let guard = guard(local, policy, arrival, proof.as_ref(), record).map(Rc::new);
    let terms = MediationTerms { guard, ..mediation_terms(local, policy, action, server, record) };
    let session = Session::new(Rc::new(terms)).with_rules_from(Box::new(later));
    let no_starttls = match action.settings.starttls {
        StartTls::Strip => STARTTLS_STRIPPED,
        StartTls::Inspect | StartTls::Bypass => STARTTLS_TOO_LATE,
    };
    Box::new(match listed {
        Some(capabilities) => session.in_clear_text(no_starttls, capabilities),
        None => session,
    })
}

/// What the account guard limits in this session.
fn guard(
    local: &Local,
    policy: &Policy,
    arrival: &Arrival,
    proof: Option<&Proof>,
    record: &Record,
) -> Option<SessionGuard> {
    let settings = &policy.config.guard;
    let leaf = proof.and_then(|Proof(chain)| chain.first());
    let names = leaf.filter(|_| settings.is_on()).and_then(server_names);
    let peers = (arrival.client.0.ip(), arrival.destination.ip());
    SessionGuard::new(&local.shared.guard, settings, peers, names.as_deref(), record.verdict_lines())
}

/// A stream of TLS that ended without `close_notify` deviates from TLS, also where nothing is missing.
fn well_ended(
    result: Result<(), Failure>,
    meter: &Meter,
    compliance: Compliance,
    record: &mut Record,
) -> Result<(), Failure> {
    let mut conduct = Ok(());
    for side in [Side::Downstream, Side::Upstream].into_iter().filter(|side| meter.is_cut(*side)) {
        record.deviates(side, Deviation::NoCloseNotify.into());
        if compliance == Compliance::Enforced {
            conduct = conduct.and(Err(Failure { side, cause: Cause::Deviation(Deviation::NoCloseNotify) }));
        }
    }
    result.and(conduct)
}

/// Under TLS 1.3 a server that wants a certificate says so when the handshake is over for its client (RFC 8446 section
/// 4.4.2.4, certificate_required), and often with other alerts.
fn refused_without_certificate(failure: Failure, asked: bool) -> Failure {
    match failure {
        Failure { side, cause: Cause::Layer(LayerFault::PeerAlert(alert)) } if asked => {
            Failure { side, cause: Cause::ClientCertificateWanted(alert) }
        }
        failure => failure,
    }
}

fn records(
    side: Finished,
    terms: &HandshakeTerms<'_>,
    name: Side,
    record: &mut Record,
) -> Result<(Incoming, Outgoing), Failure> {
    let halves = split(side.socket, side.secrets, side.kernel, terms.pool, terms.layers())
        .map_err(|fault| Failure { side: name, cause: Cause::Layer(fault) })?;
    record.layers(name, halves.0.layer(), halves.1.layer());
    Ok(halves)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<F>(_: fn(TcpStream, Arrival, Handshaking, &'static Rc<Local>) -> F) -> usize {
        size_of::<F>()
    }

    /// The task of a session that waits (3,984 octets when this was written); its handshake was boxed and is gone by
    /// then. A change here is a decision.
    #[test]
    fn the_size_of_a_sessions_task_is_pinned() {
        let bytes = future_bytes(serve);
        assert!((1024..=5 * 1024).contains(&bytes), "{bytes} octets");
    }
}
