//! Relay: the loop around a session's engine. Two directions, each one batch at a time. A slow reader slows its writer; an
//! idle session owns no buffer.

/// Octets that the peers sent.
mod meter;
/// How a session ends.
mod ends;
/// The session's engine as both directions share it.
mod engine;
/// One direction.
mod pump;
/// Octets that nobody inspects are spliced.
pub mod splice;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

pub use self::ends::{CutNotice, SessionBounds};
use self::ends::{SessionEnd, both};
use self::engine::SharedEngine;
pub use self::meter::Meter;
use self::pump::{Means, Pump};
use self::splice::Pipes;
use crate::failure::{Cause, Failure};
use crate::inspect::{Engine, Want};
use crate::layer::{Batch, LayerFault, Pool, Receive, Received, StreamEnd, Transmit};
use crate::words::{Direction, Side};

/// A last alert may take this long to be written.
const ALERT: Duration = Duration::from_secs(2);
/// After the other side has ended, a peer has this long to receive what it was told last and to leave. Its octets are
/// read and dropped meanwhile: closing a socket with unread octets sends a reset, which destroys what the peer was
/// told.
const PARTING: Duration = Duration::from_secs(3);

/// How a relayed session ended.
#[derive(Debug)]
pub struct Relayed {
    /// Why it ended, where that was not the peers' goodbye.
    pub result: Result<(), Failure>,
    /// The client's connection is open, its last octet stands between two responses, and it was not told why the session
    /// ends: the caller may say `* BYE`.
    pub may_tell: bool,
}

/// Relay until both directions have ended, one fails, the engine refuses to go on, or `bounds` end the session. A side
/// that takes nothing more ends only the direction towards it; the other direction goes on. With `pipes`, octets that the
/// engine does not want to see are spliced where both halves are the kernel's.
///
/// A session that the engine, a cut or the server's records end, and whose client may be told why, leaves the client's connection
/// to the caller: see [`Relayed::may_tell`]. Inside a literal a client would read words as mail. There its connection is
/// cut, without `close_notify`.
pub async fn relay<R, T>(
    (mut down_in, mut down_out): (R, T),
    (mut up_in, mut up_out): (R, T),
    engine: &mut dyn Engine,
    pool: &Pool,
    pipes: Option<&Pipes>,
    meter: &Meter,
    bounds: impl Into<SessionBounds<'_>>,
) -> Relayed
where
    R: Receive,
    T: Transmit,
{
    let engine = SharedEngine::new(engine);
    let (mut own_up, mut own_down) = (None, None);
    let (SessionEnd { result, open, is_said }, is_at_boundary) = {
        let means = Means { engine: &engine, pool, pipes, meter };
        let requests = Pump {
            direction: Direction::ClientToServer,
            from: &mut down_in,
            to: &mut up_out,
            own: &mut own_up,
            means,
        };
        let responses = Pump {
            direction: Direction::ServerToClient,
            from: &mut up_in,
            to: &mut down_out,
            own: &mut own_down,
            means,
        };
        let end = both(pin!(requests.run()), pin!(responses.run()), &engine, meter, bounds).await;
        // What was spliced under `Want::Unseen`, the engine knows nothing of.
        let is_unknown =
            meter.spliced(Direction::ServerToClient) > 0 && engine.wants(Side::Upstream) == Want::Unseen;
        (end, !is_unknown && engine.is_at_boundary(Side::Downstream))
    };
    let to_server = on_its_way(&mut own_up, down_in.batch());
    let to_client = on_its_way(&mut own_down, up_in.batch());
    let is_for_caller = matches!(
        &result,
        Err(Failure { cause: Cause::Refused(_) | Cause::CutByReload(_), .. }
            | Failure { side: Side::Upstream, cause: Cause::Layer(_) })
    );
    let is_between_words = is_at_boundary && to_client.is_none() && !down_out.is_mid_batch();
    let may_tell = open == Some(Side::Downstream) && !is_said && is_for_caller && is_between_words;
    if let Err(Failure { side, cause: Cause::Layer(fault) }) = &result {
        match side {
            Side::Downstream => tell(&mut down_out, to_client, fault).await,
            Side::Upstream => tell(&mut up_out, to_server, fault).await,
        }
    }
    let our_end = match &result {
        Ok(()) => StreamEnd::Closed,
        Err(Failure { cause: Cause::Refused(refusal), .. }) => refusal.end(),
        Err(_) => StreamEnd::Truncated,
    };
    match open {
        _ if may_tell => {}
        Some(Side::Downstream) => {
            let to_client = on_its_way(&mut own_down, up_in.batch());
            part(&mut down_in, &mut down_out, to_client, our_end).await;
        }
        Some(Side::Upstream) => {
            let to_server = on_its_way(&mut own_up, down_in.batch());
            part(&mut up_in, &mut up_out, to_server, our_end).await;
        }
        None => {}
    }
    Relayed { result, may_tell }
}

/// The batch of a direction that is on its way, if one is.
fn on_its_way<'a>(own: &'a mut Option<Box<Batch>>, received: &'a mut Batch) -> Option<&'a mut Batch> {
    // Without octets in it, it only waits for a buffer.
    own.take_if(|own| !own.is_on_its_way());
    let batch = own.as_deref_mut().unwrap_or(received);
    batch.is_on_its_way().then_some(batch)
}

/// Send the peer at fault an alert, behind the batch that is on its way to that peer.
async fn tell<T: Transmit>(out: &mut T, half_sent: Option<&mut Batch>, fault: &LayerFault) {
    let Some(alert) = fault.alert() else { return };
    let telling = async {
        finish(out, half_sent).await?;
        out.queue_alert(alert)?;
        poll_fn(|cx| out.poll_end(cx, StreamEnd::Truncated)).await
    };
    let _ = timeout(ALERT, telling).await;
}

/// End a side whose peer has not ended, so that the peer receives all that it was sent.
async fn part<R: Receive, T: Transmit>(
    from: &mut R,
    to: &mut T,
    half_sent: Option<&mut Batch>,
    end: StreamEnd,
) {
    let parting = async {
        finish(to, half_sent).await?;
        poll_fn(|cx| to.poll_end(cx, end)).await?;
        while let Received::Data = poll_fn(|cx| from.poll_receive(cx)).await? {}
        Ok::<_, LayerFault>(())
    };
    let _ = timeout(PARTING, parting).await;
}

/// Send the rest of a batch that was begun: no other record may stand inside it.
async fn finish<T: Transmit>(out: &mut T, half_sent: Option<&mut Batch>) -> Result<(), LayerFault> {
    match half_sent {
        Some(batch) if out.is_mid_batch() => poll_fn(|cx| out.poll_send(cx, batch)).await,
        _ => Ok(()),
    }
}
