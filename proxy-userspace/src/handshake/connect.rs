//! The socket to the server, from the address that `steering.source` says.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::ops::RangeInclusive;
use std::time::Duration;

use proxy_ebpf::UPSTREAM_MARK;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::accept::{Admission, SocketBuffers, keep_alive};
use crate::config::Source;
use crate::failure::Cause;
use crate::words::{ClientAddr, OriginalDst};

/// The ports that Postern takes beside a client's address. A client's own connection to the server with the same port
/// would be the same entry of connection tracking as ours. So the range lies below the ports that systems choose for
/// clients (Linux from 32768, IANA and most others from 49152), and a port that a session of the client has at its own
/// end is passed over: a router that translates addresses may choose any. The range lies above the usual ports of
/// services.
const OWN_PORTS: RangeInclusive<u16> = 10_000..=32_767;
/// With half of the ports towards a server taken, all attempts fail once in four billion connections.
const PORT_ATTEMPTS_MAX: u32 = 32;

/// Connect to the server, within `bound`. `sessions` knows the ports that clients use.
///
/// # Errors
/// The kernel's error or the network's, no port left, or a client's address that is link-local.
pub async fn connect(
    destination: OriginalDst,
    client: ClientAddr,
    source: Source,
    sessions: &Admission,
    buffers: SocketBuffers,
    bound: Duration,
) -> Result<TcpStream, Cause> {
    let connecting = async {
        match source {
            Source::Gateway => from_gateway(destination.0, buffers).await,
            Source::Client => from_client(destination.0, client, sessions, buffers).await,
        }
    };
    let connected = timeout(bound, connecting).await;
    let socket = connected.unwrap_or_else(|_| Err(Cause::Connect(io::ErrorKind::TimedOut.into())))?;
    keep_alive(&socket);
    Ok(socket)
}

async fn from_gateway(destination: SocketAddr, buffers: SocketBuffers) -> Result<TcpStream, Cause> {
    let socket = marked(destination, buffers).map_err(Cause::Connect)?;
    connected(socket, destination).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrNotAvailable => Cause::NoPortsLeft(Source::Gateway),
        _ => Cause::Connect(error),
    })
}

async fn from_client(
    destination: SocketAddr,
    client: ClientAddr,
    sessions: &Admission,
    buffers: SocketBuffers,
) -> Result<TcpStream, Cause> {
    let address = client.ip().to_canonical();
    if is_link_local(address) {
        return Err(Cause::ClientLinkLocal { address });
    }
    for _ in 0..PORT_ATTEMPTS_MAX {
        let start = random_port().map_err(Cause::Connect)?;
        let Some(port) = sessions.free_port(client.ip(), &OWN_PORTS, start) else { break };
        let socket = marked(destination, buffers).map_err(Cause::Connect)?;
        let attempt = match bind(&socket, SocketAddr::new(address, port)) {
            Ok(()) => connected(socket, destination).await,
            Err(error) => Err(error),
        };
        match attempt {
            Ok(stream) => return Ok(stream),
            // A listener of this machine has the port, or a session of ours has it towards this server.
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(Cause::Connect(error)),
        }
    }
    Err(Cause::NoPortsLeft(Source::Client))
}

/// A socket with the mark and the buffer sizes set before its first packet.
fn marked(destination: SocketAddr, buffers: SocketBuffers) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(destination), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_mark(UPSTREAM_MARK)?;
    buffers.set(&socket)?;
    Ok(socket)
}

fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    // Without it, a session would keep a service of this machine from listening on all addresses at the session's port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

async fn connected(socket: Socket, destination: SocketAddr) -> io::Result<TcpStream> {
    TcpSocket::from_std_stream(StdStream::from(socket)).connect(destination).await
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The port at which the search begins: a random one (RFC 6056 section 3.3.1).
fn random_port() -> io::Result<u16> {
    let count = u32::from(OWN_PORTS.end().abs_diff(*OWN_PORTS.start())) + 1;
    let mut octets = [0; 4];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| io::Error::other("no randomness for a port"))?;
    let offset = u16::try_from(u32::from_be_bytes(octets) % count).unwrap_or(0);
    Ok(OWN_PORTS.start().saturating_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_in_the_range() {
        for _ in 0..100_000 {
            let port = random_port().unwrap();
            assert!(OWN_PORTS.contains(&port), "{port}");
        }
    }
}
