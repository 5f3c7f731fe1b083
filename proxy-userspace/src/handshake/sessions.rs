//! TLS sessions with servers, kept for resumption by name *and* address.
//!
//! rustls keeps sessions by name alone, but one name may stand for several servers. An attacker who leads a client to a
//! server of his own would then be sent a ticket of the real server, and would displace the real server's sessions.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::sync::Cache;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{ServerName, UnixTime};

use crate::config::Ocsp;

/// Servers whose sessions are kept, each a name at an address. A large site's users reach a few hundred.
pub(super) const SERVERS_MAX: usize = 512;
/// Tickets of TLS 1.3 kept for one server (some 2 KiB each). Each is used once (RFC 8446 appendix C.4), and a server
/// gives about two in a handshake.
const TICKETS_MAX: usize = 4;

/// A name at an address.
type Server = (SocketAddr, ServerName<'static>);

/// The sessions with one server.
#[derive(Default)]
struct Known {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// The newest last.
    tls13: VecDeque<Tls13ClientSessionValue>,
    vouched: Option<Vouched>,
}

/// What was said of the server's certificate when its sessions began.
struct Vouched {
    /// The OCSP response that it stapled; empty where it stapled none.
    staple: Arc<[u8]>,
    /// After that only a new handshake brings an answer. `None` where none is needed.
    until: Option<UnixTime>,
}

impl Known {
    /// The response that a session to be resumed began with; `None` where it must not be resumed.
    fn resumed(&mut self, asks_for_answers: bool, now: UnixTime) -> Option<Arc<[u8]>> {
        match &self.vouched {
            None if asks_for_answers => None,
            None => Some(Arc::default()),
            Some(vouched) if vouched.until.is_none_or(|until| now <= until) => {
                Some(Arc::clone(&vouched.staple))
            }
            Some(_) => {
                self.tls12 = None;
                self.tls13.clear();
                None
            }
        }
    }
}

/// One policy generation's sessions with all servers.
pub(super) struct UpstreamSessions {
    servers: Cache<Server, Arc<Mutex<Known>>>,
    /// Policy wants to know of revocation: no session is resumed before its server's certificate was judged.
    asks_for_answers: bool,
}

impl UpstreamSessions {
    pub(super) fn new(ocsp: Ocsp) -> Arc<Self> {
        Arc::new(Self { servers: Cache::new(SERVERS_MAX), asks_for_answers: ocsp != Ocsp::Disabled })
    }

    /// The view of a connection to this address, for rustls.
    pub(super) fn at(self: &Arc<Self>, address: SocketAddr) -> Arc<SessionsAt> {
        Arc::new(SessionsAt { sessions: Arc::clone(self), address, staple: Mutex::default() })
    }
}

/// The sessions with one address, as one connection sees them.
pub(super) struct SessionsAt {
    sessions: Arc<UpstreamSessions>,
    address: SocketAddr,
    /// The OCSP response that belongs to the session which the connection tries to resume.
    staple: Mutex<Arc<[u8]>>,
}

impl SessionsAt {
    fn known<T>(&self, name: &ServerName<'_>, read: impl FnOnce(&mut Known) -> Option<T>) -> Option<T> {
        let known = self.sessions.servers.get(&(self.address, name.to_owned()))?;
        read(&mut lock(&known))
    }

    fn learn(&self, name: ServerName<'static>, note: impl FnOnce(&mut Known)) {
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(known) = self.sessions.servers.get_or_insert_with(&(self.address, name), fresh);
        note(&mut lock(&known));
    }

    /// A session to be resumed, if the server's certificate may still be judged by what was stapled when it began.
    fn resume<T>(&self, name: &ServerName<'_>, take: impl FnOnce(&mut Known) -> Option<T>) -> Option<T> {
        self.known(name, |known| {
            let staple = known.resumed(self.sessions.asks_for_answers, UnixTime::now())?;
            let session = take(known)?;
            *lock(&self.staple) = staple;
            Some(session)
        })
    }

    /// The OCSP response of the session that was resumed; empty where there was none.
    pub(super) fn staple(&self) -> Arc<[u8]> {
        Arc::clone(&lock(&self.staple))
    }

    /// The server's certificate was judged with this response. Sessions may be resumed until then.
    pub(super) fn vouched(&self, name: ServerName<'static>, staple: Arc<[u8]>, until: Option<UnixTime>) {
        self.learn(name, |known| known.vouched = Some(Vouched { staple, until }));
    }
}

/// Nothing that can panic happens under the locks.
fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientSessionStore for SessionsAt {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.learn(name, |known| known.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.known(name, |known| known.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.learn(name, |known| known.tls12 = Some(session));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.resume(name, |known| known.tls12.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.known(name, |known| known.tls12.take());
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.learn(name, |known| {
            if known.tls13.len() >= TICKETS_MAX {
                known.tls13.pop_front();
            }
            known.tls13.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.resume(name, |known| known.tls13.pop_back())
    }
}

/// Sessions are secrets.
impl fmt::Debug for SessionsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionsAt").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn known(until: Option<Option<u64>>) -> Known {
        let staple: Arc<[u8]> = b"staple".as_slice().into();
        let vouched = until.map(|until| Vouched { staple, until: until.map(at) });
        Known { vouched, group: Some(NamedGroup::X25519), ..Known::default() }
    }

    #[test]
    fn a_session_is_resumed_only_as_long_as_the_answer_about_its_server_counts() {
        let resumed = |until| known(until).resumed(true, at(NOW)).map(|staple| staple.to_vec());
        assert_eq!(resumed(None), None, "not judged yet");
        assert_eq!(resumed(Some(None)), Some(b"staple".to_vec()), "no answer is needed");
        assert_eq!(resumed(Some(Some(NOW))), Some(b"staple".to_vec()));
        assert_eq!(resumed(Some(Some(NOW - 1))), None, "the answer is too old");
        assert_eq!(resumed(Some(Some(0))), None, "an answer was missing");
        assert_eq!(known(None).resumed(false, at(NOW)), Some(Arc::default()), "nobody looks at answers");
    }
}
