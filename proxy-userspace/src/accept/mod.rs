//! Accept: listeners, admission, original destination, egress.

/// Which interface a destination leaves by, asked of the kernel.
pub mod egress;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proxy_ebpf::Family;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

/// Descriptors of a session: one socket to the client, one to the server.
pub const DESCRIPTORS_PER_SESSION: u64 = 2;
/// Descriptors that are not sessions': listeners of 64 workers, their event queues, maps, pipes, netlink, files.
pub const DESCRIPTORS_RESERVED: u64 = 256;
/// Connections that wait for a worker.
const BACKLOG: i32 = 4096;
/// A peer that vanished is noticed after 60 s and three unanswered probes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A listener on loopback that may answer for any address; `port` 0 chooses one for the family's reuseport group.
///
/// # Errors
/// What the kernel refuses; `IP_TRANSPARENT` needs `CAP_NET_ADMIN`.
pub fn listen(family: Family, port: u16) -> io::Result<TcpListener> {
    let (domain, address) = match family {
        Family::V4 => (Domain::IPV4, SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Family::V6 => (Domain::IPV6, SocketAddr::from((Ipv6Addr::LOCALHOST, port))),
    };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    match family {
        Family::V4 => socket.set_ip_transparent_v4(true)?,
        Family::V6 => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)?;
        }
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What every session's sockets have: keepalive, and no waiting for more octets to send.
pub fn keep_alive(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let probes = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(3);
    let _ = SockRef::from(socket).set_tcp_keepalive(&probes);
}

/// Sessions that a limit on open descriptors has room for.
#[must_use]
pub const fn sessions_within(descriptors: u64) -> u64 {
    descriptors.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_PER_SESSION
}

/// Who may have a session. Shared by all workers; asked once per connection.
pub struct Admission {
    sessions_max: AtomicU64,
    per_client_max: AtomicU64,
    /// Bounded by the sessions: an entry goes with its last one.
    clients: Mutex<HashMap<IpAddr, u64>>,
    active: AtomicU64,
    accepted: AtomicU64,
    refused_total: AtomicU64,
    refused_client: AtomicU64,
}

/// Numbers for `postern status`.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// Sessions now.
    pub active: u64,
    /// Most at once.
    pub limit: u64,
    /// Accepted since the start.
    pub accepted: u64,
    /// Refused by the limit on all sessions.
    pub refused_total: u64,
    /// Refused by a client's own limit.
    pub refused_client: u64,
}

/// One admitted session; dropping it makes room.
pub struct Permit {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Admission {
    /// With room for `sessions_max` in all and `per_client_max` for each client.
    #[must_use]
    pub fn new(sessions_max: u64, per_client_max: u64) -> Arc<Self> {
        Arc::new(Self {
            sessions_max: AtomicU64::new(sessions_max),
            per_client_max: AtomicU64::new(per_client_max),
            clients: Mutex::default(),
            active: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused_total: AtomicU64::new(0),
            refused_client: AtomicU64::new(0),
        })
    }

    /// New limits, for connections from now on.
    pub fn set(&self, sessions_max: u64, per_client_max: u64) {
        self.sessions_max.store(sessions_max, Ordering::Relaxed);
        self.per_client_max.store(per_client_max, Ordering::Relaxed);
    }

    /// Room for one more session of this client, or `None`, counted. An IPv6 client is its /64: it may use any
    /// address in it.
    pub fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Permit> {
        let client = match client {
            IpAddr::V4(_) => client,
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        };
        if self.active.fetch_add(1, Ordering::Relaxed) >= self.sessions_max.load(Ordering::Relaxed) {
            self.active.fetch_sub(1, Ordering::Relaxed);
            self.refused_total.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(client).or_insert(0);
        if *count >= self.per_client_max.load(Ordering::Relaxed) {
            self.active.fetch_sub(1, Ordering::Relaxed);
            self.refused_client.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Permit { admission: Arc::clone(self), client })
    }

    /// For `postern status`.
    #[must_use]
    pub fn numbers(&self) -> Admitted {
        Admitted {
            active: self.active.load(Ordering::Relaxed),
            limit: self.sessions_max.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            refused_total: self.refused_total.load(Ordering::Relaxed),
            refused_client: self.refused_client.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.active.fetch_sub(1, Ordering::Relaxed);
        let mut clients = self.admission.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn over_the_limit_on_all_sessions_nobody_is_admitted_until_one_ends() {
        let admission = Admission::new(2, 10);
        let held = [admission.admit(from("192.0.2.1")), admission.admit(from("192.0.2.2"))];
        assert!(held.iter().all(Option::is_some));
        assert!(admission.admit(from("192.0.2.3")).is_none());
        assert_eq!((admission.numbers().active, admission.numbers().refused_total), (2, 1));
        drop(held);
        assert!(admission.admit(from("192.0.2.3")).is_some());
    }

    #[test]
    fn a_clients_limit_is_its_own_and_an_ipv6_client_is_its_64() {
        let admission = Admission::new(10, 1);
        let _held = [admission.admit(from("192.0.2.1")), admission.admit(from("2001:db8::1"))];
        assert!(admission.admit(from("192.0.2.1")).is_none());
        assert!(admission.admit(from("2001:db8::ffff:1")).is_none());
        assert!(admission.admit(from("2001:db8:0:1::1")).is_some());
        assert_eq!(admission.numbers().refused_client, 2);
    }

    #[test]
    fn nothing_is_remembered_of_clients_that_have_gone() {
        let admission = Admission::new(10, 10);
        for host in 0..=255 {
            drop(admission.admit(IpAddr::from([192, 0, 2, host])));
        }
        assert!(admission.clients.lock().unwrap().is_empty());
        assert_eq!(admission.numbers().active, 0);
    }
}
