//! Servers of which the owner says that what stands under a UID never changes (`action.trust_uid_immutability`). Known mail
//! of theirs goes on without a look at its octets, but for samples; the first sample that differs ends the trust.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// One of so many known messages of a trusted server is compared with what was judged.
const SAMPLE: u32 = 16;

/// The servers of one policy. A server that a later policy lists, too, is the same: a reload brings no trust back.
#[derive(Debug, Default)]
pub struct TrustedServers(Vec<Arc<TrustedServer>>);

/// One server.
#[derive(Debug)]
struct TrustedServer {
    address: IpAddr,
    is_withdrawn: AtomicBool,
    /// The place of the next known message among [`SAMPLE`], and that of the sample. In one word, because all mail threads
    /// share the server: each place is given once.
    turn: AtomicU32,
}

impl TrustedServers {
    /// Of the addresses that the policy lists. `before` is what the policy before it found out.
    #[must_use]
    pub fn of(addresses: &[IpAddr], before: Option<&Self>) -> Self {
        let server = |address: &IpAddr| match before.and_then(|before| before.find(*address)) {
            Some(known) => Arc::clone(known),
            None => Arc::new(TrustedServer {
                address: *address,
                is_withdrawn: AtomicBool::new(false),
                turn: AtomicU32::new(0),
            }),
        };
        Self(addresses.iter().map(server).collect())
    }

    /// The trust in a server, where there is one.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> Option<UidTrust> {
        self.find(address).cloned().map(UidTrust)
    }

    /// Servers whose trust was withdrawn.
    #[must_use]
    pub fn withdrawn(&self) -> Vec<IpAddr> {
        let withdrawn = self.0.iter().filter(|server| server.is_withdrawn.load(Ordering::Relaxed));
        withdrawn.map(|server| server.address).collect()
    }

    fn find(&self, address: IpAddr) -> Option<&Arc<TrustedServer>> {
        self.0.iter().find(|server| server.address == address)
    }
}

/// The trust in one server, as a session with it uses it.
#[derive(Clone, Debug)]
pub struct UidTrust(Arc<TrustedServer>);

impl UidTrust {
    /// Whether this is the same trust: one that was withdrawn and given anew is another.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether the next known message goes on without a look. Of each [`SAMPLE`] messages one does not; nobody can tell
    /// which, so that a server cannot behave for it.
    pub(super) fn takes_unseen(&self) -> bool {
        let server = &self.0;
        if server.is_withdrawn.load(Ordering::Relaxed) {
            return false;
        }
        let mut drawn = None;
        let mut is_sample = true;
        let _ = server.turn.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |turn| {
            let (place, sampled) = (turn / SAMPLE, turn % SAMPLE);
            let sampled = if place == 0 { *drawn.get_or_insert_with(draw) } else { sampled };
            is_sample = place == sampled;
            Some((place + 1) % SAMPLE * SAMPLE + sampled)
        });
        !is_sample
    }

    /// What stood under a UID has changed.
    pub(super) fn withdraw(&self) {
        if !self.0.is_withdrawn.swap(true, Ordering::Relaxed) {
            tracing::error!(
                server = %self.0.address,
                "this server changed what stands under a UID, though action.trust_uid_immutability lists it: from now on \
                 every octet of its mail is compared again. Take it out of the list; to trust it again, put it back after \
                 a reload"
            );
        }
    }
}

/// The place of a sample. Without randomness it is the first one.
fn draw() -> u32 {
    let mut drawn = [0];
    let _ = aws_lc_rs::rand::fill(&mut drawn);
    u32::from(drawn[0]) % SAMPLE
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    #[test]
    fn of_each_sixteen_messages_one_is_compared_and_not_always_the_same() {
        let trust = TrustedServers::of(&[SERVER], None).trust(SERVER).unwrap();
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            let unseen: Vec<bool> = (0..16).map(|_| trust.takes_unseen()).collect();
            assert_eq!(unseen.iter().filter(|unseen| !**unseen).count(), 1);
            places.extend(unseen.iter().position(|unseen| !unseen));
        }
        assert_eq!(places.len(), 16, "every place is drawn");
    }

    #[test]
    fn threads_that_share_a_server_share_its_samples() {
        let trust = TrustedServers::of(&[SERVER], None).trust(SERVER).unwrap();
        let sampled: usize = std::thread::scope(|scope| {
            let draws = || (0..16_000).filter(|_| !trust.takes_unseen()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(draws)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(sampled, 4 * 16_000 / 16);
    }

    #[test]
    fn trust_that_was_withdrawn_comes_back_only_through_a_policy_without_the_server() {
        let first = TrustedServers::of(&[SERVER], None);
        let trust = first.trust(SERVER).unwrap();
        trust.withdraw();
        assert!((0..64).all(|_| !trust.takes_unseen()));
        let second = TrustedServers::of(&[SERVER], Some(&first));
        assert_eq!(second.withdrawn(), [SERVER]);
        let without = TrustedServers::of(&[], Some(&second));
        assert!(without.trust(SERVER).is_none());
        assert!(TrustedServers::of(&[SERVER], Some(&without)).withdrawn().is_empty());
    }

    #[test]
    fn only_listed_servers_are_trusted() {
        let servers = TrustedServers::of(&[SERVER], None);
        assert!(servers.trust("192.0.2.8".parse().unwrap()).is_none());
        assert!(servers.trust(SERVER).is_some());
    }
}
