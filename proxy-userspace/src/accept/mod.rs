//! Accept: listeners, admission, original destination, egress.

/// Limits on sessions and handshakes, and when nobody can be served.
mod admission;
/// Octets of mail that are held while it is judged.
mod held;
/// The machine's memory.
mod memory;
/// How many sessions and buffers the machine has room for.
mod room;
/// The buffers of a session's sockets.
mod sockets;
/// The interface by which a destination leaves, by a route lookup.
pub mod egress;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use proxy_ebpf::{FAMILIES, Family};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

pub(crate) use self::admission::counted_as;
#[cfg(test)]
pub(crate) use self::admission::tests::sessions;
pub use self::admission::{Admission, Admitted, Bounds, Handshaking, LimitReached, Permit, Shortage};
pub use self::egress::filters_are_strict;
pub use self::held::{HeldLease, HeldOctets};
pub use self::memory::{Memory, MemoryLimit};
pub use self::room::{MachineResources, Narrowed, Room, descriptors_for, sessions_within};
pub use self::sockets::SocketBuffers;
use crate::config::{INTERFACES_MATCHED_MAX, InterfaceName, SteeringConfig};

/// Descriptors of a session: one socket to the client, one to the server.
pub const DESCRIPTORS_PER_SESSION: u64 = 2;
/// Descriptors that every daemon has: maps, programs, netlink, the control task's event queue, signals, the admin
/// socket and who asks there, logs, certificates while they are read again. Some 20 were counted.
const DESCRIPTORS_BASE: u64 = 64;
/// Descriptors of an interface: the classifier's links.
const DESCRIPTORS_PER_INTERFACE: u64 = 2;
/// Descriptors of a mail thread beside its listeners: its event queue and what wakes it, netlink (five were counted), and up
/// to eight clients over a limit that are told so.
const DESCRIPTORS_PER_THREAD: u64 = 16;
/// Connections that wait for a mail thread.
const BACKLOG: i32 = 4096;
/// A peer that vanished is noticed after 60 s and three unanswered probes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A listener on loopback that may answer for any address; `port` 0 chooses one for the family's reuseport group.
///
/// # Errors
/// What the kernel refuses; `IP_TRANSPARENT` needs `CAP_NET_ADMIN`.
pub fn listen(family: Family, port: u16, buffers: SocketBuffers) -> io::Result<TcpListener> {
    let address = listener_address(family, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    match family {
        Family::V4 => socket.set_ip_transparent_v4(true)?,
        Family::V6 => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)?;
        }
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets have the same.
    buffers.set(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Where listeners of a family are bound.
pub(crate) fn listener_address(family: Family, port: u16) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        Family::V6 => SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    }
}

/// What every session's sockets have: keepalive, no waiting for more octets to send, a bound on what is not sent, and
/// TCP's urgent octet in its place among the others (RFC 6093 section 6): taken out of the stream, as sockets do by
/// default, it would be missing in its record.
pub fn keep_alive(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let _ = SockRef::from(socket).set_out_of_band_inline(true);
    let probes = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(3);
    let socket = SockRef::from(socket);
    let _ = socket.set_tcp_keepalive(&probes);
    let _ = sockets::bound_unsent(&socket);
}

/// Descriptors that are not sessions', with this many mail threads.
#[must_use]
pub fn descriptors_reserved(steering: &SteeringConfig, threads: u32) -> u64 {
    let count = |interfaces: usize| u64::try_from(interfaces).unwrap_or(u64::MAX);
    let listeners = count(steering.ingress.len()).saturating_mul(u64::from(FAMILIES));
    let of_threads = u64::from(threads).saturating_mul(DESCRIPTORS_PER_THREAD.saturating_add(listeners));
    let served = |list: &[InterfaceName]| {
        let has_pattern = list.iter().any(InterfaceName::is_pattern);
        count(list.len()).saturating_add(if has_pattern { count(INTERFACES_MATCHED_MAX) } else { 0 })
    };
    let interfaces = served(&steering.ingress).saturating_add(served(&steering.egress));
    let of_interfaces = interfaces.saturating_mul(DESCRIPTORS_PER_INTERFACE);
    DESCRIPTORS_BASE.saturating_add(of_interfaces).saturating_add(of_threads)
}

/// Whether an accept failed for want of something that other sessions hold.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Whether a session's descriptors could be had now.
pub(crate) fn descriptors_to_be_had() -> bool {
    let one = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP));
    one().and_then(|_first| one().map(drop)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listener_of_every_thread_has_its_descriptor_set_aside() {
        let interfaces = |names: &str| {
            let text = format!(
                "[steering]\ningress = [{names}]\negress = [\"wan0\"]\n\
                 [certificates]\nauthority = {{ cert = \"a\", key = \"k\" }}\n"
            );
            crate::config::parse(&text, std::path::Path::new("postern.toml")).unwrap().steering
        };
        let (one, two) = (interfaces("\"lan0\""), interfaces("\"lan0\", \"lan1\""));
        let more = descriptors_reserved(&two, 64) - descriptors_reserved(&one, 64);
        assert_eq!(more, 64 * 2 + DESCRIPTORS_PER_INTERFACE);
        assert_eq!(sessions_within(1024, descriptors_reserved(&one, 4)), 442);
        assert_eq!(sessions_within(10, descriptors_reserved(&one, 4)), 0);
    }
}
