//! One request, one answer: rtnetlink without a task of its own.
//!
//! The kernel answers a routing request before `sendto` returns, so waiting in a runtime would gain nothing, and
//! rules must also be removable while a runtime is being torn down.

use std::io;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// The kernel packs a dump into datagrams of at most 32 KiB (`netlink_recvmsg` in net/netlink/af_netlink.c).
const DATAGRAM_BYTES_MAX: usize = 32 * 1024;
/// The answer is queued when the request returns; this only bounds what cannot happen.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a dump is repeated that others changed under the reader's eyes.
const DUMP_ATTEMPTS_MAX: u32 = 8;
/// Messages start at multiples of this (`NLMSG_ALIGNTO` in linux/netlink.h).
const ALIGNMENT_BYTES: usize = 4;

type Message = NetlinkMessage<RouteNetlinkMessage>;

/// A socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Netlink {
    /// Opens a socket whose reads are bounded and whose dumps are filtered by the kernel.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(REPLY_TIMEOUT))?;
        // Without strict checks a dump ignores table and protocol, and a router may hold a million routes.
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM_BYTES_MAX), sequence: 0 })
    }

    /// Changes something and waits for the acknowledgement.
    ///
    /// # Errors
    /// The kernel's errno, or that of the socket.
    pub(crate) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.single(message, flags | NLM_F_ACK).map(drop)
    }

    /// Asks for one object.
    ///
    /// # Errors
    /// The kernel's errno, or that of the socket.
    pub(crate) fn ask(&mut self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        self.single(message, 0)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Asks for all objects that match.
    ///
    /// # Errors
    /// The kernel's errno, or that of the socket.
    pub(crate) fn dump(&mut self, message: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_ATTEMPTS_MAX {
            if let Some(objects) = self.dump_once(message.clone())? {
                return Ok(objects);
            }
        }
        Err(io::Error::from(io::ErrorKind::ResourceBusy))
    }

    fn single(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        let deadline = self.send(message, flags)?;
        loop {
            for reply in self.receive(deadline)? {
                match reply.payload {
                    NetlinkPayload::InnerMessage(object) => return Ok(Some(object)),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok(None),
                    _ => {}
                }
            }
        }
    }

    /// `None`: the tables changed meanwhile and the list may be torn.
    fn dump_once(&mut self, message: RouteNetlinkMessage) -> io::Result<Option<Vec<RouteNetlinkMessage>>> {
        let deadline = self.send(message, NLM_F_DUMP)?;
        let mut objects = Vec::new();
        let mut torn = false;
        loop {
            for reply in self.receive(deadline)? {
                torn |= reply.header.flags & NLM_F_DUMP_INTR != 0;
                match reply.payload {
                    NetlinkPayload::InnerMessage(object) => objects.push(object),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::Done(done) if done.code != 0 => {
                        return Err(io::Error::from_raw_os_error(done.code.wrapping_abs()));
                    }
                    NetlinkPayload::Done(_) => return Ok((!torn).then_some(objects)),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Instant> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Message::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut octets = vec![0; request.buffer_len()];
        request.serialize(&mut octets);
        self.socket.send_to(&octets, &SocketAddr::new(0, 0), 0)?;
        Ok(Instant::now() + REPLY_TIMEOUT)
    }

    /// One datagram's messages that answer the last request; older answers and other senders are dropped.
    fn receive(&mut self, deadline: Instant) -> io::Result<Vec<Message>> {
        loop {
            if Instant::now() > deadline {
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            self.buffer.clear();
            match self.socket.recv_from(&mut self.buffer, 0) {
                Ok((_, sender)) if sender.port_number() == 0 => return answers(&self.buffer, self.sequence),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn answers(mut datagram: &[u8], sequence: u32) -> io::Result<Vec<Message>> {
    let mut messages = Vec::new();
    while !datagram.is_empty() {
        let header = NetlinkBuffer::new_checked(datagram).map_err(malformed)?;
        let length = usize::try_from(header.length()).map_err(io::Error::other)?;
        if header.sequence_number() == sequence {
            messages.push(Message::deserialize(datagram).map_err(malformed)?);
        }
        datagram = datagram.get(length.next_multiple_of(ALIGNMENT_BYTES)..).unwrap_or_default();
    }
    Ok(messages)
}

fn malformed(error: netlink_packet_core::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::LinkMessage;

    fn octets(sequence: u32) -> Vec<u8> {
        let mut message = Message::from(RouteNetlinkMessage::NewLink(LinkMessage::default()));
        message.header.sequence_number = sequence;
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        octets
    }

    #[test]
    fn an_answer_to_an_older_request_is_not_taken_for_ours() {
        let datagram = [octets(6), octets(7), octets(6)].concat();
        let answers = answers(&datagram, 7).unwrap();
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].header.sequence_number, 7);
    }

    #[test]
    fn a_cut_datagram_is_an_error_at_every_octet_and_never_a_panic() {
        let whole = octets(7);
        for cut in 1..whole.len() {
            assert!(answers(&whole[..cut], 7).is_err(), "cut at {cut}");
        }
        assert!(answers(&[], 7).unwrap().is_empty());
    }
}
