//! What routing rules cannot do: they never see ports in fragments, nor whose packet an ICMP error quotes, nor which
//! of the packets from a server are for a socket of ours.
//!
//! A packet is dropped, or marked so that a rule makes it local, or goes on as if nothing had been.
#![expect(unsafe_code, reason = "sockets and the mark are reached through kernel helpers and raw pointers")]

use aya_ebpf::{
    EbpfContext,
    bindings::{
        __sk_buff, bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_sock},
    macros::{classifier, map},
    maps::PerCpuArray,
    programs::TcContext,
};
use proxy_ebpf::{Class, DELIVER_MARK, Intake, PortRole, PortUse, Setting};

use crate::maps::{count, ingress, port_role, port_use, set_asking, setting};
use crate::packet::{Ends, Ip, Part, ip as read_ip, ipv4, ipv6, load};

/// `TCX_NEXT` and `TC_ACT_UNSPEC`: other programs and filters on the interface have their say.
pub(crate) const NEXT: i32 = -1;
/// `TCX_DROP` and `TC_ACT_SHOT`.
const DROP: i32 = 2;

/// `IPPROTO_ICMP`.
const ICMP: u8 = 1;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `IPPROTO_ICMPV6`.
const ICMPV6: u8 = 58;
/// Octets of a TCP header without options: ports, numbers and flags are in it (RFC 9293 section 3.1).
const TCP_BYTES: u16 = 20;
/// Where its sequence number stands.
const TCP_SEQUENCE: u32 = 4;
/// Where its flags stand, and two of them.
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Octets before the quoted packet (RFC 792, RFC 4443 section 3).
const ICMP_BYTES: u32 = 8;
/// Destination unreachable (fragmentation needed among its codes), time exceeded, parameter problem (RFC 792).
const ICMP_ERRORS: [u8; 3] = [3, 11, 12];
/// Unreachable, packet too big, time exceeded, parameter problem (RFC 4443 section 2.1).
const ICMPV6_ERRORS: core::ops::RangeInclusive<u8> = 1..=4;
/// `TCP_SYN_SENT` (net/tcp_states.h).
pub(crate) const SYN_SENT: u32 = 2;
/// `TCP_LISTEN`.
const LISTEN: u32 = 10;
/// `BPF_F_CURRENT_NETNS`: the interface's own.
const THIS_NAMESPACE: u64 = u64::MAX;

#[map]
pub(crate) static CLASSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Class::ALL.len() as u32, 0);

/// Packets that arrive on an interface of the clients.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry point hands the context over by value")]
fn postern_clients(ctx: TcContext) -> i32 {
    finish(&ctx, client_packet(&ctx))
}

/// Packets that arrive on an interface towards the servers.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry point hands the context over by value")]
fn postern_servers(ctx: TcContext) -> i32 {
    let class = server_packet(&ctx);
    // Only clients have a reason to hide a port, and what servers send is not ours to drop.
    finish(&ctx, if class.drops() { Class::OtherProtocol } else { class })
}

fn finish(ctx: &TcContext, class: Class) -> i32 {
    count(&CLASSES, class as u32);
    if class.drops() {
        return DROP;
    }
    let skb: *const __sk_buff = ctx.as_ptr().cast();
    // SAFETY: the context outlives the program's run, and the verifier admits the load (`bpf_skb_is_valid_access`).
    let mark = unsafe { (*skb).mark };
    // A veth pair within this namespace carries marks across; nobody else may make packets local.
    let wanted = if class.marks() { mark | DELIVER_MARK } else { mark & !DELIVER_MARK };
    if wanted != mark {
        ctx.set_mark(wanted);
    }
    NEXT
}

fn client_packet(ctx: &TcContext) -> Class {
    let mut ip = Ip::new();
    if let Err(class) = read_ip(ctx, &mut ip) {
        return class;
    }
    match (ip.protocol, ip.part) {
        (TCP, Part::Whole) => client_tcp(ctx, &ip),
        (TCP, Part::First) => first_fragment(ctx, &ip),
        (TCP, Part::Later(offset)) if offset < TCP_BYTES => Class::DroppedHeaderFragment,
        (TCP, Part::Later(_)) => Class::LaterFragment,
        (ICMP | ICMPV6, Part::Whole) => error(ctx, &mut ip),
        _ => Class::OtherProtocol,
    }
}

fn server_packet(ctx: &TcContext) -> Class {
    let mut ip = Ip::new();
    if let Err(class) = read_ip(ctx, &mut ip) {
        return class;
    }
    match (ip.protocol, ip.part) {
        (TCP, Part::Later(_)) => Class::LaterFragment,
        (TCP, _) if setting(Setting::Returning) == 1 => {
            let Some(ports) = ports(ctx, &ip) else { return Class::Malformed };
            if port_use(u16::from_be_bytes(ports.0)) == PortUse::Unlisted as u64 {
                Class::OtherPort
            } else if is_ours(ctx, ip.ends, ports) {
                Class::MarkedServer
            } else {
                Class::NotOurs
            }
        }
        (ICMP | ICMPV6, Part::Whole) => error(ctx, &mut ip),
        _ => Class::OtherProtocol,
    }
}

fn client_tcp(ctx: &TcContext, ip: &Ip) -> Class {
    let Some(ports) = ports(ctx, ip) else { return Class::Malformed };
    let role = client_role(ctx, ports.1);
    if role == PortRole::Left as u32 {
        return Class::OtherPort;
    }
    // Sessions that began while the port was steered go on.
    if role == PortRole::Refused as u32 {
        return if is_ours(ctx, ip.ends, ports) { Class::MarkedClient } else { Class::Refused };
    }
    if setting(Setting::Intake) == Intake::Pass as u32 {
        return if is_ours(ctx, ip.ends, ports) { Class::MarkedClient } else { Class::Mail };
    }
    let Some([flags]) = load::<1>(ctx, ip.payload + TCP_FLAGS) else { return Class::Malformed };
    // SYN without ACK: the one packet of a connection for which the question is worth its price.
    if flags & (SYN | ACK) != SYN {
        return Class::Mail;
    }
    let Some(sequence) = load(ctx, ip.payload + TCP_SEQUENCE) else { return Class::Malformed };
    let sequence = u32::from_be_bytes(sequence);
    if is_own_syn(ctx, ip.ends.turned(), (ports.1, ports.0), sequence) {
        Class::DroppedLoop
    } else {
        Class::Mail
    }
}

/// A port rule does not match a fragment, not even the first, so that the datagram would pass beside us.
fn first_fragment(ctx: &TcContext, ip: &Ip) -> Class {
    if !ip.holds(4) {
        return Class::DroppedTinyFragment;
    }
    match ports(ctx, ip) {
        None => Class::DroppedTinyFragment,
        Some((_, to)) if client_role(ctx, to) == PortRole::Left as u32 => Class::OtherPort,
        Some(_) => Class::DroppedFragment,
    }
}

/// An ICMP error whose quoted packet was sent by a socket of ours. The quoted header takes the place of the outer one.
#[inline(always)]
fn error(ctx: &TcContext, ip: &mut Ip) -> Class {
    let Some([kind]) = load::<1>(ctx, ip.payload) else { return Class::Malformed };
    let at = ip.payload + ICMP_BYTES;
    let quoted = match (ip.protocol, ip.ends.is_ipv6) {
        (ICMP, false) if ICMP_ERRORS.contains(&kind) => ipv4(ctx, at, ip),
        (ICMPV6, true) if ICMPV6_ERRORS.contains(&kind) => ipv6(ctx, at, ip),
        _ => return Class::OtherProtocol,
    };
    if quoted.is_err() || ip.protocol != TCP || matches!(ip.part, Part::Later(_)) {
        return Class::NotOurs;
    }
    match ports(ctx, ip) {
        Some((from, to)) if is_ours(ctx, ip.ends.turned(), (to, from)) => Class::MarkedError,
        _ => Class::NotOurs,
    }
}

/// Source and destination, as they stand in the packet: network order.
type Ports = ([u8; 2], [u8; 2]);

fn ports(ctx: &TcContext, ip: &Ip) -> Option<Ports> {
    let [a, b, c, d] = load::<4>(ctx, ip.payload)?;
    Some(([a, b], [c, d]))
}

/// The [`PortRole`] of a destination port on the interface that the packet came in on.
#[inline(always)]
fn client_role(ctx: &TcContext, port: [u8; 2]) -> u32 {
    let port = u16::from_be_bytes(port);
    port_role(port_use(port), port, || {
        let skb: *const __sk_buff = ctx.as_ptr().cast();
        // SAFETY: as in `finish`.
        ingress(unsafe { (*skb).ifindex })
    })
}

/// Whether a packet with these ends is for a socket of this namespace that does more than listen.
#[inline(never)]
fn is_ours(ctx: &TcContext, ends: Ends, ports: Ports) -> bool {
    // SAFETY: `state` may be read of every `sock_common` until it is released.
    find(ctx, ends, ports, |socket| unsafe { (*socket).state } != LISTEN)
}

/// Whether a socket of this namespace has sent a SYN with this number and waits for the answer to a packet with these
/// ends. A client's SYN may have the ends of one of our connections: the client's address is then the source of both.
#[inline(never)]
fn is_own_syn(ctx: &TcContext, ends: Ends, ports: Ports, sequence: u32) -> bool {
    find(ctx, ends, ports, |socket| {
        // SAFETY: as above.
        if unsafe { (*socket).state } != SYN_SENT {
            return false;
        }
        // SAFETY: the helper takes a `sock_common`; it answers null where that is no full TCP socket, and its answer
        // may be read until the socket is released. Until its SYN is acknowledged `snd_una` is the SYN's own number
        // (`tcp_connect_init` in net/ipv4/tcp_output.c).
        unsafe {
            let tcp = bpf_tcp_sock(socket);
            !tcp.is_null() && (*tcp).snd_una == sequence
        }
    })
}

#[inline(always)]
fn find(ctx: &TcContext, ends: Ends, ports: Ports, is_it: impl FnOnce(*mut bpf_sock) -> bool) -> bool {
    let (sport, dport) = (u16::from_ne_bytes(ports.0), u16::from_ne_bytes(ports.1));
    if ends.is_ipv6 {
        let Ends { from: saddr, to: daddr, .. } = ends;
        look_up(ctx, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 { saddr, daddr, sport, dport }, is_it)
    } else {
        let ([saddr, ..], [daddr, ..]) = (ends.from, ends.to);
        look_up(ctx, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 { saddr, daddr, sport, dport }, is_it)
    }
}

/// `T` is the member of `bpf_sock_tuple` that the family has.
#[inline(always)]
fn look_up<T>(ctx: &TcContext, mut tuple: T, is_it: impl FnOnce(*mut bpf_sock) -> bool) -> bool {
    set_asking(true);
    // SAFETY: the tuple lives on the program's stack and its size says which family it is (`bpf_sk_lookup` in
    // net/core/filter.c).
    let socket = unsafe {
        bpf_skc_lookup_tcp(
            ctx.as_ptr(),
            (&raw mut tuple).cast::<bpf_sock_tuple>(),
            size_of::<T>() as u32,
            THIS_NAMESPACE,
            0,
        )
    };
    set_asking(false);
    if socket.is_null() {
        return false;
    }
    let found = is_it(socket);
    // SAFETY: the helper gave a reference, which is released here, on the one path that holds it.
    unsafe { bpf_sk_release(socket.cast()) };
    found
}
