//! The sessions of one mail thread that are relayed, each with what policies are looked through by. `postern reload --cut` goes
//! through them, and ends those that the policies in force would refuse.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use super::Policy;
use super::connection::Arrival;
use crate::config::{InterfaceName, Sni, Traffic};
use crate::policy::{Carriage, CutCause, NegotiatedTls, PolicyInForce, RunningSession};
use crate::record::Record;
use crate::relay::CutNotice;
use crate::words::Service;

/// Sessions that are judged before the thread's other work has its turn. One takes a microsecond, and some 20 under the most
/// policies that a file may have.
const SESSIONS_AT_ONCE: usize = 64;
/// Orders that wait for one thread. The supervisor has one reload at a time.
pub(super) const CUT_ORDERS_MAX: usize = 4;

/// Sessions that this policy refuses shall end; the answer is how many were told.
pub(super) struct CutOrder {
    pub(super) policy: Arc<Policy>,
    pub(super) told: oneshot::Sender<u64>,
}

/// What is known of one session. Its task and the roster share it; both belong to one thread.
pub(super) struct Standing {
    arrival: Arrival,
    at: Timestamp,
    /// The ClientHello's name, if it had one; `None` where no ClientHello was read.
    name: Option<Option<Box<str>>>,
    carriage: Carriage,
    tls: [NegotiatedTls; 2],
    cut: Cell<Option<CutCause>>,
    /// The session's task, as soon as it waits.
    task: RefCell<Option<Waker>>,
}

impl Standing {
    /// Of a session whose handshakes are over. `at` is when it was accepted.
    pub(super) fn new(arrival: &Arrival, at: Timestamp, carriage: Carriage, record: &Record) -> Self {
        Self {
            arrival: arrival.clone(),
            at,
            name: record.name().map(|name| name.map(Box::from)),
            carriage,
            tls: record.negotiated(),
            cut: Cell::new(None),
            task: RefCell::new(None),
        }
    }

    /// How TLS begins on its port.
    pub(super) const fn service(&self) -> Service {
        self.arrival.service
    }

    /// The policy whose rules judge its mail, where one does.
    /// None does where its interface is no ingress any more: the session keeps its rules then.
    pub(super) fn judged_by<'p>(&self, policy: &'p Policy) -> Option<&'p PolicyInForce> {
        policy.policies.judging(&self.running(self.ingress_under(policy)?))
    }

    /// The entry of `steering.ingress` that its interface belongs to under this policy.
    fn ingress_under<'p>(&self, policy: &'p Policy) -> Option<&'p InterfaceName> {
        entry_now(&self.arrival.ingress, &policy.config.steering.ingress)
    }

    fn running<'s>(&'s self, ingress: &'s InterfaceName) -> RunningSession<'s> {
        let Arrival { client, destination, service, .. } = &self.arrival;
        // In clear text no name is known, and policies are looked through without their names.
        let sni = match &self.name {
            None => Sni::Unread,
            Some(None) => Sni::Absent,
            Some(Some(name)) => Sni::Name(name),
        };
        let traffic = Traffic {
            ingress,
            client: client.0.ip(),
            destination: destination.ip(),
            at: self.at,
            service: *service,
            sni,
        };
        RunningSession { traffic, carriage: self.carriage, tls: self.tls }
    }

    /// Have the session end where this policy refuses it; whether that is news.
    fn judge(&self, policy: &Policy) -> bool {
        if self.cut.get().is_some() {
            return false;
        }
        self.cut.set(match self.ingress_under(policy) {
            Some(ingress) => policy.policies.refusal(&self.running(ingress)),
            None => Some(CutCause::NoPolicy),
        });
        if self.cut.get().is_some()
            && let Some(task) = self.task.borrow_mut().take()
        {
            task.wake();
        }
        self.cut.get().is_some()
    }
}

/// The entry of a later list for sessions of an earlier entry: the same one, or a pattern that took the place of a name. Of the
/// interfaces that an earlier pattern meant only the pattern is remembered; an entry that may mean the same one counts.
fn entry_now<'l>(before: &InterfaceName, listed: &'l [InterfaceName]) -> Option<&'l InterfaceName> {
    if let Some(same) = listed.iter().find(|entry| *entry == before) {
        return Some(same);
    }
    if !before.is_pattern() {
        return InterfaceName::entry_of(listed, before.as_str()).map(|(_, entry)| entry);
    }
    let overlapping = listed.iter().filter(|entry| entry.overlaps(before));
    // `None`, for a name, is less than every pattern's length.
    overlapping.max_by_key(|entry| entry.prefix().map(str::len))
}

impl CutNotice for Standing {
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CutCause> {
        if let Some(cause) = self.cut.get() {
            return Poll::Ready(cause);
        }
        let mut task = self.task.borrow_mut();
        match &mut *task {
            Some(task) => task.clone_from(cx.waker()),
            None => *task = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// The sessions of one thread. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Roster(Rc<Listed>);

#[derive(Default)]
struct Listed {
    sessions: RefCell<BTreeMap<u64, Rc<Standing>>>,
    /// Counts sessions; its numbers are their places.
    next: Cell<u64>,
    /// The generation of the policy by which sessions were cut last.
    cut: Cell<u64>,
}

/// A session stands in the roster while this exists.
pub(super) struct RosterEntry {
    roster: Roster,
    place: u64,
    standing: Rc<Standing>,
}

impl RosterEntry {
    /// What is known of the session.
    pub(super) const fn standing(&self) -> &Rc<Standing> {
        &self.standing
    }
}

impl Drop for RosterEntry {
    fn drop(&mut self) {
        self.roster.0.sessions.borrow_mut().remove(&self.place);
    }
}

impl Roster {
    /// A session is relayed from now on, under a policy of this generation. Where sessions were cut while it shook hands, it is
    /// judged now, by the policy in force.
    pub(super) fn enter(&self, standing: Standing, generation: u64, policy: &ArcSwap<Policy>) -> RosterEntry {
        if generation < self.0.cut.get() {
            standing.judge(&policy.load());
        }
        let (standing, place) = (Rc::new(standing), self.0.next.get());
        self.0.next.set(place + 1);
        self.0.sessions.borrow_mut().insert(place, Rc::clone(&standing));
        RosterEntry { roster: self.clone(), place, standing }
    }

    /// Carry out orders, until nobody gives any more.
    pub(super) async fn obey(self, mut orders: mpsc::Receiver<CutOrder>) {
        while let Some(CutOrder { policy, told }) = orders.recv().await {
            let count = self.cut(&policy).await;
            // Who asked may have gone.
            let _ = told.send(count);
        }
    }

    /// How many sessions were told to end.
    async fn cut(&self, policy: &Policy) -> u64 {
        self.0.cut.set(policy.generation);
        let (mut count, mut from) = (0, Bound::Unbounded);
        loop {
            let sessions: Vec<_> = self
                .0
                .sessions
                .borrow()
                .range((from, Bound::Unbounded))
                .take(SESSIONS_AT_ONCE)
                .map(|(place, standing)| (*place, Rc::clone(standing)))
                .collect();
            let Some((last, _)) = sessions.last() else { return count };
            from = Bound::Excluded(*last);
            for (_, standing) in sessions {
                count += u64::from(standing.judge(policy));
            }
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_belongs_to_the_entry_that_serves_its_interface_now() {
        let name = |text: &str| -> InterfaceName { serde_json::from_value(text.into()).unwrap() };
        for (before, listed, now) in [
            ("ppp1", &["lan0", "ppp1"][..], Some("ppp1")),
            ("ppp1", &["p*", "ppp*"], Some("ppp*")),
            ("ppp1", &["ppp*", "ppp1"], Some("ppp1")),
            ("ppp1", &["ppp2", "lan*"], None),
            ("ppp1", &[], None),
            ("ppp*", &["p*", "ppp*"], Some("ppp*")),
            ("ppp*", &["p*", "lan0"], Some("p*")),
            ("ppp*", &["ppp1", "ppp1*"], Some("ppp1*")),
            ("ppp*", &["lan0", "ppp1"], Some("ppp1")),
            ("ppp*", &["lan0", "pp"], None),
        ] {
            let listed: Vec<_> = listed.iter().map(|text| name(text)).collect();
            let found = entry_now(&name(before), &listed).map(InterfaceName::as_str);
            assert_eq!(found, now, "{before} in {listed:?}");
        }
    }

    /// What an idle session has in the roster (232 octets when this was written). A change here is a decision.
    #[test]
    fn the_size_of_a_sessions_standing_is_pinned() {
        assert!(size_of::<Standing>() <= 256, "{} octets", size_of::<Standing>());
    }
}
