//! TLS sessions with servers, kept for resumption by name *and* address.
//!
//! rustls keeps sessions by name alone, but one name may stand for several servers. An attacker who leads a client to a
//! server of his own would then be sent a ticket of the real server, and would displace the real server's sessions.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::sync::Cache;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{ServerName, UnixTime};

use crate::config::{ClientCertificate, Ocsp, Tls};

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

    /// Takes down what was said of the certificate in the handshake that is done now. Where that is something new, the
    /// certificate may be, too: the answer is not for what sessions before it began with. `is_new` tells that the session of
    /// TLS 1.2 is this handshake's; its tickets of TLS 1.3 are still to come.
    fn vouch(&mut self, vouched: Vouched, is_new: bool) {
        if self.vouched.as_ref().is_some_and(|known| known.staple != vouched.staple) {
            self.tls13.clear();
            self.tls12.take_if(|_| !is_new);
        }
        self.vouched = Some(vouched);
    }
}

/// One policy generation's sessions with all servers.
pub(super) struct UpstreamSessions {
    servers: Cache<Server, Arc<Mutex<Known>>>,
    /// Policy wants to know of revocation: no session is resumed before its server's certificate was judged.
    asks_for_answers: bool,
    /// Policy refuses servers that ask for a client certificate. In a resumed handshake of TLS 1.2 they do not ask, and
    /// rustls keeps its session before anybody knows that the server was refused. Under TLS 1.3 tickets come later.
    blocks_requests: bool,
}

impl UpstreamSessions {
    pub(super) fn new(profile: &Tls) -> Arc<Self> {
        Arc::new(Self {
            servers: Cache::new(SERVERS_MAX),
            asks_for_answers: profile.ocsp != Ocsp::Disabled,
            blocks_requests: profile.client_certificate == ClientCertificate::Block,
        })
    }

    /// The view of a connection to this address, for rustls.
    pub(super) fn at(self: &Arc<Self>, address: SocketAddr) -> Arc<SessionsAt> {
        Arc::new(SessionsAt {
            sessions: Arc::clone(self),
            address,
            staple: Mutex::default(),
            has_begun: AtomicBool::new(false),
        })
    }
}

/// The sessions with one address, as one connection sees them.
pub(super) struct SessionsAt {
    sessions: Arc<UpstreamSessions>,
    address: SocketAddr,
    /// The OCSP response that belongs to the session which the connection tries to resume.
    staple: Mutex<Arc<[u8]>>,
    /// The session of TLS 1.2 that is kept began with this connection.
    has_begun: AtomicBool,
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
        let is_new = self.has_begun.load(Ordering::Relaxed);
        let asks = self.sessions.asks_for_answers;
        self.learn(name, |known| {
            let vouched = Vouched { staple, until };
            if asks { known.vouch(vouched, is_new) } else { known.vouched = Some(vouched) }
        });
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
        if !self.sessions.blocks_requests {
            self.has_begun.store(true, Ordering::Relaxed);
            self.learn(name, |known| known.tls12 = Some(session));
        }
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

    use rustls::client::Resumption;
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::WebPkiClientVerifier;
    use rustls::{
        ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
        SupportedProtocolVersion, version,
    };

    use super::super::asked::NoCertificate;
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

    /// A server that asks for a client certificate and demands none, and its clients.
    struct Asking {
        server: Arc<ServerConfig>,
        client: ClientConfig,
        sessions: Arc<UpstreamSessions>,
        version: &'static SupportedProtocolVersion,
    }

    impl Asking {
        fn new(version: &'static SupportedProtocolVersion, profile: &Tls) -> Self {
            let made = rcgen::generate_simple_self_signed(["peer.test".to_owned()]).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(made.cert.der().clone()).unwrap();
            let roots = Arc::new(roots);
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
            let clients =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                    .allow_unauthenticated()
                    .build()
                    .unwrap();
            let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_client_cert_verifier(clients)
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
            let client = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_client_cert_resolver(Arc::new(NoCertificate));
            Self { server: Arc::new(server), client, sessions: UpstreamSessions::new(profile), version }
        }

        /// A connection, which then was judged with this answer; what the server sends behind its handshake comes after
        /// that.
        fn visit(&self, staple: &[u8]) -> HandshakeKind {
            let sessions = self.sessions.at("192.0.2.1:993".parse().unwrap());
            let mut config = self.client.clone();
            config.resumption = Resumption::store(Arc::<SessionsAt>::clone(&sessions));
            let name = ServerName::try_from("peer.test").unwrap();
            let mut client = ClientConnection::new(Arc::new(config), name.clone()).unwrap();
            let mut server = ServerConnection::new(Arc::clone(&self.server)).unwrap();
            while client.is_handshaking() || server.is_handshaking() {
                let mut octets = Vec::new();
                client.write_tls(&mut octets).unwrap();
                server.read_tls(&mut octets.as_slice()).unwrap();
                server.process_new_packets().unwrap();
                // The tickets are behind the end of the client's handshake.
                if client.is_handshaking() {
                    octets.clear();
                    server.write_tls(&mut octets).unwrap();
                    client.read_tls(&mut octets.as_slice()).unwrap();
                    client.process_new_packets().unwrap();
                }
            }
            let kind = client.handshake_kind().unwrap();
            sessions.vouched(name, staple.into(), None);
            while server.wants_write() {
                let mut octets = Vec::new();
                server.write_tls(&mut octets).unwrap();
                client.read_tls(&mut octets.as_slice()).unwrap();
                client.process_new_packets().unwrap();
            }
            assert_eq!(client.protocol_version(), Some(self.version.version));
            kind
        }
    }

    #[test]
    fn where_requests_for_client_certificates_are_refused_no_session_of_tls_1_2_hides_one() {
        use HandshakeKind::{Full, Resumed};
        for (client_certificate, second) in
            [(ClientCertificate::Block, Full), (ClientCertificate::None, Resumed)]
        {
            let profile = Tls { client_certificate, ..Tls::default() };
            let asking = Asking::new(&version::TLS12, &profile);
            assert_eq!([asking.visit(b""), asking.visit(b"")], [Full, second], "{client_certificate:?}");
        }
    }

    #[test]
    fn a_new_answer_is_not_for_the_sessions_that_began_before_it() {
        use HandshakeKind::{Full, Resumed};
        for version in [&version::TLS12, &version::TLS13] {
            let profile = Tls { ocsp: Ocsp::Lenient, ..Tls::default() };
            let asking = Asking::new(version, &profile);
            assert_eq!([asking.visit(b"old"), asking.visit(b"old")], [Full, Resumed], "{version:?}");
            // Another connection's handshake, before those sessions were seen, had a newer one.
            let sessions = asking.sessions.at("192.0.2.1:993".parse().unwrap());
            let name = ServerName::try_from("peer.test").unwrap();
            sessions.vouched(name, b"new".as_slice().into(), None);
            assert_eq!([asking.visit(b"new"), asking.visit(b"new")], [Full, Resumed], "{version:?}");
        }
        let asking = Asking::new(&version::TLS13, &Tls { ocsp: Ocsp::Disabled, ..Tls::default() });
        assert_eq!([asking.visit(b"old"), asking.visit(b"new")], [Full, Resumed], "nobody looks at answers");
        assert_eq!(asking.visit(b"newer"), Resumed);
    }
}
