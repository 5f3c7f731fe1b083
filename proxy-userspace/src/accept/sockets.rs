//! Bounds on what the sockets of a session hold. A peer that does not read, or does not acknowledge, cannot make the
//! kernel hold more.

use std::io;

use rustix::fd::AsFd;
use rustix::net::sockopt;
use socket2::SockRef;

use super::room::{SESSION_OWN_BYTES, SOCKET_BUFFERS_PER_SESSION};
use crate::words::Size;

/// The kernel doubles what is asked for: half is for its own overhead (socket(7), `SO_RCVBUF`).
const KERNEL_FACTOR: u64 = 2;
/// Octets that a socket takes beyond what is on its way to the peer (`TCP_NOTSENT_LOWAT`, tcp(7)): two reads of ours.
/// Without it the kernel takes all that its send buffer has room for, and a session whose client reads slowly holds
/// that much more to no use.
const NOTSENT_BYTES_MAX: u32 = 128 * 1024;

/// The size of each of a session's four socket buffers, as it is requested from the kernel: octets of data that a
/// buffer holds in the common case.
///
/// Setting a size ends the kernel's own tuning of the buffer, which would grow to megabytes (`tcp_rmem`, `tcp_wmem`).
/// The window is then at the first octet as large as it ever gets. The size must be set before TCP's handshake, which
/// decides how large a window can become (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketBuffers(usize);

impl SocketBuffers {
    /// What is left of a session's memory for its sockets, in equal shares. The kernel doubles each share.
    #[must_use]
    pub fn of_session(session: Size) -> Self {
        let octets = session.0.saturating_sub(SESSION_OWN_BYTES) / SOCKET_BUFFERS_PER_SESSION / KERNEL_FACTOR;
        Self(usize::try_from(octets).unwrap_or(usize::MAX))
    }

    /// Octets, as they are asked of the kernel.
    #[must_use]
    pub const fn asked(self) -> usize {
        self.0
    }

    /// Set both buffers of a socket, before it listens or connects.
    ///
    /// # Errors
    /// The kernel's. Without `CAP_NET_ADMIN` sizes are cut to `net.core.rmem_max` and `net.core.wmem_max`.
    pub fn set(self, socket: impl AsFd) -> io::Result<()> {
        sockopt::set_socket_recv_buffer_size_force(&socket, self.0)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, self.0))?;
        sockopt::set_socket_send_buffer_size_force(&socket, self.0)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, self.0))?;
        Ok(())
    }
}

/// Bound what waits in the kernel before it is sent.
pub(super) fn bound_unsent(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(NOTSENT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::accept::keep_alive;

    /// What a socket takes for a peer that never reads.
    #[tokio::test]
    async fn a_peer_that_does_not_read_makes_the_kernel_hold_little_even_where_there_is_room_for_much() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        SockRef::from(&listener).set_recv_buffer_size(64 * 1024).unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, peer) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (ours, _unread) = (ours.unwrap(), peer.unwrap());
        sockopt::set_socket_send_buffer_size_force(&ours, 8 << 20).unwrap();
        keep_alive(&ours);
        let mut taken = 0;
        // Until there was no room for so long.
        while tokio::time::timeout(Duration::from_millis(500), ours.writable()).await.is_ok() {
            taken += ours.try_write(&[0; 16 * 1024]).unwrap_or(0);
        }
        assert!((16 * 1024..512 * 1024).contains(&taken), "{taken} octets");
    }

    #[test]
    fn four_buffers_of_the_kernels_size_and_the_rest_of_a_session_are_its_memory() {
        for session in [Size(512 << 10), Size(2 << 20), Size(16 << 20)] {
            let asked = u64::try_from(SocketBuffers::of_session(session).0).unwrap();
            let all = SESSION_OWN_BYTES + SOCKET_BUFFERS_PER_SESSION * KERNEL_FACTOR * asked;
            assert!(all <= session.0 && session.0 - all < 1024, "{session}: {all}");
        }
    }
}
