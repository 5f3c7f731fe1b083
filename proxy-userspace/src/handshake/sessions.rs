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
use rustls::pki_types::ServerName;

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
}

/// One policy generation's sessions with all servers.
pub(super) struct UpstreamSessions(Cache<Server, Arc<Mutex<Known>>>);

impl UpstreamSessions {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Cache::new(SERVERS_MAX)))
    }

    /// The view of a connection to this address, for rustls.
    pub(super) fn at(self: &Arc<Self>, address: SocketAddr) -> Arc<SessionsAt> {
        Arc::new(SessionsAt { sessions: Arc::clone(self), address })
    }
}

/// The sessions with one address.
pub(super) struct SessionsAt {
    sessions: Arc<UpstreamSessions>,
    address: SocketAddr,
}

impl SessionsAt {
    fn known<T>(&self, name: &ServerName<'_>, read: impl FnOnce(&mut Known) -> Option<T>) -> Option<T> {
        let known = self.sessions.0.get(&(self.address, name.to_owned()))?;
        read(&mut lock(&known))
    }

    fn learn(&self, name: ServerName<'static>, note: impl FnOnce(&mut Known)) {
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(known) = self.sessions.0.get_or_insert_with(&(self.address, name), fresh);
        note(&mut lock(&known));
    }
}

/// Nothing that can panic happens under the lock.
fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.known(name, |known| known.tls12.clone())
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
        self.known(name, |known| known.tls13.pop_back())
    }
}

/// Sessions are secrets.
impl fmt::Debug for SessionsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionsAt").field("address", &self.address).finish_non_exhaustive()
    }
}
