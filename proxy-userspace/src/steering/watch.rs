//! Netlink events about the rules, routes, links, filters and the nftables table that Postern depends on.
//!
//! An event only triggers a check of the kernel's whole state, and the check decides what is put back. So a lost event
//! costs one check, and an event that Postern caused itself leads to no change.

use std::io;

use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteAttribute;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::io::unix::AsyncFd;

use super::forward;
use super::nfnetlink::NftMessage;
use super::routing::TABLE;
use crate::sys;

/// `RTNLGRP_*` of linux/rtnetlink.h: links, filters and qdiscs, routes and rules of both families.
const ROUTE_GROUPS: [u32; 6] = [1, 4, 7, 8, 11, 19];
/// `NFNLGRP_NFTABLES` of linux/netfilter/nfnetlink.h.
const NETFILTER_GROUPS: [u32; 1] = [7];
/// Room for a burst: flushing a router's full table makes fewer octets of events. Events that do not fit are reported
/// as lost.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// The kernel's largest datagram (`NLMSG_GOODSIZE` is less).
const DATAGRAM_BYTES_MAX: usize = 32 * 1024;
/// Messages start at multiples of this (`NLMSG_ALIGNTO` in linux/netlink.h).
const ALIGNMENT_BYTES: usize = 4;
/// `RTM_NEWROUTE` and `RTM_DELROUTE`.
const ROUTE_EVENTS: [u16; 2] = [24, 25];
/// Where `rtm_table` stands behind the 16 octets of a netlink header.
const ROUTE_TABLE_AT: usize = 20;
/// `RT_TABLE_COMPAT`: the table's number is over 255 and stands in an attribute.
const TABLE_OVER_255: u8 = 252;

/// Subscriptions in the network namespace of the thread that opened them.
pub struct Watch {
    routing: Subscription,
    /// `None` on a kernel without netfilter.
    netfilter: Option<Subscription>,
}

impl Watch {
    /// Subscribe to changes of links, rules, Postern's routing table and Postern's nftables table.
    ///
    /// # Errors
    /// No netlink socket, or no runtime.
    pub fn open() -> io::Result<Self> {
        let routing = Subscription::open(NETLINK_ROUTE, &ROUTE_GROUPS, message_concerns)?;
        let netfilter = Subscription::open(NETLINK_NETFILTER, &NETFILTER_GROUPS, table_concerns);
        Ok(Self { routing, netfilter: netfilter.ok() })
    }

    /// Wait for an event that Postern may have to react to. Events that are queued already are taken together.
    ///
    /// # Errors
    /// A socket failed.
    pub async fn news(&mut self) -> io::Result<()> {
        let Self { routing, netfilter } = self;
        match netfilter {
            None => routing.news().await,
            Some(netfilter) => tokio::select! {
                news = routing.news() => news,
                news = netfilter.news() => news,
            },
        }
    }
}

struct Subscription {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
    /// Whether a message concerns Postern.
    concerns: fn(&[u8]) -> bool,
}

impl Subscription {
    fn open(protocol: isize, groups: &[u32], concerns: fn(&[u8]) -> bool) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.set_non_blocking(true)?;
        // Best effort: beyond net.core.rmem_max, events are reported as lost, and also lead to a check.
        let _smaller = set_socket_recv_buffer_size(&socket, QUEUE_BYTES);
        socket.bind_auto()?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        let buffer = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        Ok(Self { socket: sys::register(socket)?, buffer, concerns })
    }

    async fn news(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut concerned = false;
            loop {
                self.buffer.clear();
                match ready.get_inner().recv_from(&mut self.buffer, 0) {
                    Ok((_, sender)) => {
                        concerned |= sender == SocketAddr::new(0, sender.multicast_groups())
                            && any_concerns(&self.buffer, self.concerns);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready.clear_ready();
                        break;
                    }
                    // Events were lost, so anything may have happened.
                    Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => concerned = true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if concerned {
                return Ok(());
            }
        }
    }
}

/// Whether any message of a datagram concerns Postern. An unreadable message counts as one.
fn any_concerns(mut datagram: &[u8], concerns: fn(&[u8]) -> bool) -> bool {
    while !datagram.is_empty() {
        let Ok(header) = NetlinkBuffer::new_checked(datagram) else { return true };
        let Ok(length) = usize::try_from(header.length()) else { return true };
        if concerns(datagram) {
            return true;
        }
        datagram = datagram.get(length.next_multiple_of(ALIGNMENT_BYTES)..).unwrap_or_default();
    }
    false
}

/// Whether a message is about Postern's nftables table. Firewalls change their own sets all the time.
fn table_concerns(message: &[u8]) -> bool {
    let Ok(message) = NetlinkMessage::<NftMessage>::deserialize(message) else { return true };
    matches!(message.payload, NetlinkPayload::InnerMessage(message) if forward::concerns(&message))
}

fn message_concerns(message: &[u8]) -> bool {
    // Routers learn routes by the thousand: routes of other tables are not even parsed.
    if NetlinkBuffer::new_checked(message).is_ok_and(|header| ROUTE_EVENTS.contains(&header.message_type()))
        && message.get(ROUTE_TABLE_AT).is_some_and(|table| *table != TABLE_OVER_255)
    {
        return false;
    }
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) else { return true };
    let NetlinkPayload::InnerMessage(message) = message.payload else { return false };
    match message {
        // Every rule: a rule of others may now be in front of Postern's.
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => true,
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            route.attributes.contains(&RouteAttribute::Table(TABLE))
        }
        // Every link: an event about a renamed link has the new name only.
        RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_) => true,
        RouteNetlinkMessage::DelQueueDiscipline(_) | RouteNetlinkMessage::DelTrafficFilter(_) => true,
        _ => false,
    }
}
