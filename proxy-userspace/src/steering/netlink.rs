//! Synchronous netlink: one request, one answer, without a task.
//!
//! The kernel answers a routing request before `sendto` returns, so waiting in a runtime would gain nothing, and
//! rules must also be removable while a runtime is being torn down.

use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// The kernel packs a dump into datagrams of at most 32 KiB (`netlink_recvmsg` in net/netlink/af_netlink.c).
const DATAGRAM_BYTES_MAX: usize = 32 * 1024;
/// A bound on a read that should never wait: the answer is queued when the request returns.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a dump is repeated because others changed the tables meanwhile.
const DUMP_ATTEMPTS_MAX: u32 = 8;
/// Messages start at multiples of this (`NLMSG_ALIGNTO` in linux/netlink.h).
const ALIGNMENT_BYTES: usize = 4;

/// One of netlink's protocols, by its type of messages.
pub(crate) trait NetlinkProtocol: NetlinkSerializable + NetlinkDeserializable + Clone {
    /// `NETLINK_*` (linux/netlink.h).
    const PROTOCOL: isize;
}

impl NetlinkProtocol for RouteNetlinkMessage {
    const PROTOCOL: isize = NETLINK_ROUTE;
}

/// A socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netlink<M = RouteNetlinkMessage> {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
    speaks: PhantomData<M>,
}

impl<M> AsFd for Netlink<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<M: NetlinkProtocol> Netlink<M> {
    /// Opens a socket whose reads are bounded and whose dumps are filtered by the kernel.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::new(M::PROTOCOL)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(REPLY_TIMEOUT))?;
        // Without strict checks a dump ignores table and protocol, and a router may hold a million routes.
        socket.set_netlink_get_strict_chk(true)?;
        let buffer = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        Ok(Self { socket, buffer, sequence: 0, speaks: PhantomData })
    }

    /// Changes something and waits for the acknowledgement.
    ///
    /// # Errors
    /// The kernel's errno, or that of the socket.
    pub(crate) fn change(&mut self, message: M, flags: u16) -> io::Result<()> {
        self.single(message, flags | NLM_F_ACK).map(drop)
    }

    /// Asks for one object.
    ///
    /// # Errors
    /// The kernel's errno, or that of the socket.
    pub(crate) fn ask(&mut self, message: M) -> io::Result<M> {
        self.single(message, 0)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Asks for all objects that match.
    ///
    /// # Errors
    /// The kernel's errno, or that of the socket.
    pub(crate) fn dump(&mut self, message: &M) -> io::Result<Vec<M>> {
        for _ in 0..DUMP_ATTEMPTS_MAX {
            if let Some(objects) = self.dump_once(message.clone())? {
                return Ok(objects);
            }
        }
        Err(io::Error::from(io::ErrorKind::ResourceBusy))
    }

    fn single(&mut self, message: M, flags: u16) -> io::Result<Option<M>> {
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

    /// One dump; `None` where the tables changed meanwhile and the list may be inconsistent.
    fn dump_once(&mut self, message: M) -> io::Result<Option<Vec<M>>> {
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

    /// Sends messages that take effect together, and waits for the acknowledgement of each that asks for one. All have
    /// one sequence number, so that every refusal is received.
    ///
    /// # Errors
    /// The kernel's first errno, or that of the socket.
    pub(super) fn change_together(&mut self, messages: Vec<(M, u16)>) -> io::Result<()> {
        let mut awaited = messages.iter().filter(|(_, flags)| flags & NLM_F_ACK != 0).count();
        let deadline = self.send_all(messages)?;
        while awaited > 0 {
            for reply in self.receive(deadline)? {
                let NetlinkPayload::Error(error) = reply.payload else { continue };
                if error.code.is_some() {
                    return Err(error.to_io());
                }
                awaited = awaited.saturating_sub(1);
            }
        }
        Ok(())
    }

    fn send(&mut self, message: M, flags: u16) -> io::Result<Instant> {
        self.send_all(vec![(message, flags)])
    }

    fn send_all(&mut self, messages: Vec<(M, u16)>) -> io::Result<Instant> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        for (message, flags) in messages {
            let mut request =
                NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
            request.header.flags = NLM_F_REQUEST | flags;
            request.header.sequence_number = self.sequence;
            request.finalize();
            let mut octets = vec![0; request.buffer_len().next_multiple_of(ALIGNMENT_BYTES)];
            request.serialize(octets.get_mut(..request.buffer_len()).unwrap_or_default());
            datagram.append(&mut octets);
        }
        self.socket.send_to(&datagram, &SocketAddr::new(0, 0), 0)?;
        Ok(Instant::now() + REPLY_TIMEOUT)
    }

    /// One datagram's messages that answer the last request; older answers and other senders are dropped.
    fn receive(&mut self, deadline: Instant) -> io::Result<Vec<NetlinkMessage<M>>> {
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

fn answers<M: NetlinkProtocol>(mut datagram: &[u8], sequence: u32) -> io::Result<Vec<NetlinkMessage<M>>> {
    let mut messages = Vec::new();
    while !datagram.is_empty() {
        let header = NetlinkBuffer::new_checked(datagram).map_err(malformed)?;
        let length = usize::try_from(header.length()).map_err(io::Error::other)?;
        if header.sequence_number() == sequence {
            messages.push(NetlinkMessage::deserialize(datagram).map_err(malformed)?);
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

    type Message = NetlinkMessage<RouteNetlinkMessage>;

    fn answers(datagram: &[u8], sequence: u32) -> io::Result<Vec<Message>> {
        super::answers(datagram, sequence)
    }

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
