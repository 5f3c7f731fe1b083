//! One connection, from accept to record.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use tokio::net::TcpStream;

use super::worker::Local;
use crate::accept::egress::{Egress, EgressFault};
use crate::config::InterfaceName;
use crate::failure::{Cause, Failure};
use crate::handshake::{Finished, Terms, connect, handshake};
use crate::inspect::FirstOctets;
use crate::layer::{Incoming, Outgoing, split};
use crate::record::Record;
use crate::relay::{self, End, splice};
use crate::words::{ClientAddr, OriginalDst, Side};

/// Where a connection came from and where it meant to go.
#[derive(Clone)]
pub(super) struct Arrival {
    pub(super) ingress: Rc<InterfaceName>,
    pub(super) client: ClientAddr,
    pub(super) destination: OriginalDst,
}

/// The whole life of a connection. Its record is written when this ends, however it ends.
pub(super) async fn serve(socket: TcpStream, arrival: Arrival, local: &Local) {
    let mut record = local.shared.records.open(arrival.client, arrival.destination);
    record.ingress(arrival.ingress.as_str());
    let result = carry(socket, &arrival, local, &mut record).await;
    if matches!(result, Err(Failure { cause: Cause::Egress(_), .. })) {
        local.shared.egress_refused.fetch_add(1, Ordering::Relaxed);
    }
    record.close(result);
}

async fn carry(
    socket: TcpStream,
    arrival: &Arrival,
    local: &Local,
    record: &mut Record,
) -> Result<(), Failure> {
    let policy = local.shared.policy.load_full();
    let (client, destination) = (arrival.client, arrival.destination);
    let egress = local.egress.borrow_mut().route(&arrival.ingress, client, destination);
    if let Ok(egress) = &egress {
        record.egress(egress.interface.as_str());
    }
    let (limits, source) = (&policy.config.limits, policy.config.steering.source);
    let (trust, layers, sessions) = (&policy.trust, &policy.layers, &*local.shared.admission);
    let terms = Terms {
        client,
        destination,
        source,
        sessions,
        ingress: &arrival.ingress,
        egress: &local.egress,
        syn_egress: &local.shared.syn_egress,
        trust,
        layers,
        limits,
        pool: &local.pool,
    };
    if policy.config.action.bypasses(destination.ip()) {
        record.bypass();
        return bypass(socket, egress, &terms, local, record).await;
    }
    // Boxed: a handshake's state is large and gone before the session idles.
    let (downstream, upstream) = Box::pin(handshake(socket, egress, &terms, record)).await?;
    let downstream = records(downstream, &terms, Side::Downstream, record)?;
    let upstream = records(upstream, &terms, Side::Upstream, record)?;
    let inspect = (FirstOctets::default(), FirstOctets::default());
    let (pipes, meter) = (Some(&local.pipes), record.meter());
    ended(relay::relay(downstream, upstream, inspect, pipes, &meter, limits.idle).await)
}

fn records(
    side: Finished,
    terms: &Terms<'_>,
    name: Side,
    record: &mut Record,
) -> Result<(Incoming, Outgoing), Failure> {
    let halves = split(side.socket, side.secrets, side.kernel, terms.pool, terms.layers)
        .map_err(|fault| Failure { side: name, cause: Cause::Layer(fault) })?;
    record.layers(name, halves.0.layer(), halves.1.layer());
    Ok(halves)
}

async fn bypass(
    socket: TcpStream,
    egress: Result<Egress, EgressFault>,
    terms: &Terms<'_>,
    local: &Local,
    record: &mut Record,
) -> Result<(), Failure> {
    let server = connect(egress, terms, record).await?;
    ended(splice::relay(&socket, &server, &local.pipes, &record.meter(), terms.limits.idle).await)
}

fn ended(end: End) -> Result<(), Failure> {
    let (side, cause) = match end {
        End::Closed => return Ok(()),
        End::Truncated(side) => (side, Cause::Truncated),
        End::Idle => (Side::Downstream, Cause::Idle),
        End::Failed(side, fault) => (side, Cause::Layer(fault)),
        End::Refused(refusal) => (Side::Downstream, Cause::Refused(refusal)),
    };
    Err(Failure { side, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<F>(_: fn(TcpStream, Arrival, &'static Local) -> F) -> usize {
        size_of::<F>()
    }

    /// The task of a session that waits (4,392 octets when this was written); its handshake was boxed and is gone by
    /// then. A change here is a decision.
    #[test]
    fn the_size_of_a_sessions_task_is_pinned() {
        let bytes = future_bytes(serve);
        assert!((1024..=5 * 1024).contains(&bytes), "{bytes} octets");
    }
}
