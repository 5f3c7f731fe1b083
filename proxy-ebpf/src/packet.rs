//! What a packet says of itself, read as the kernel will read it: VLAN tags, IPv4 options, IPv6 extension headers,
//! fragments, quoted packets. Nothing is believed that does not stand inside the packet.
#![expect(unsafe_code, reason = "the packet is read through a kernel helper and raw context fields")]

use aya_ebpf::{
    EbpfContext,
    bindings::__sk_buff,
    helpers::generated::{bpf_skb_load_bytes_relative, bpf_skb_pull_data},
    programs::TcContext,
};
use proxy_ebpf::Class;

/// `BPF_HDR_START_NET`: offsets count from the network header, with a link layer before it or without.
const FROM_NETWORK_HEADER: u32 = 1;
/// More than any header that is read here: 2 tags, 40 octets of IPv6, 8 extension headers as they are met, an ICMP
/// error with a quoted packet.
const PULL_BYTES_MAX: u32 = 1024;

/// `ETH_P_IP`.
const IPV4: u16 = 0x0800;
/// `ETH_P_IPV6`.
const IPV6: u16 = 0x86dd;
/// `ETH_P_8021Q` and `ETH_P_8021AD`.
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88a8];
/// The VLAN's number in a tag; 0 is priority only, and the kernel takes the packet as untagged (`check_vlan_id` in
/// net/core/dev.c).
const VLAN_ID: u16 = 0x0fff;
/// Priority tags that are walked.
const TAGS_MAX: u32 = 2;

/// The extension headers that the kernel's flow dissector walks, and so routing rules by port: nothing else can stand
/// before TCP that a host would accept (RFC 8200 section 4.1).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// Extension headers that are walked. The dissector gives up after 15 (`MAX_FLOW_DISSECT_HDRS`), and no honest packet
/// has half as many.
const EXTENSIONS_MAX: u32 = 8;

/// Octets of an IPv6 header.
const IPV6_BYTES: u32 = 40;
/// Octets of an IPv4 header without options.
const IPV4_BYTES: u32 = 20;

/// Who talks to whom. An IPv4 address stands in the first word: an enum's unused octets are unknown to the verifier.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) is_ipv6: bool,
    /// Network order.
    pub(crate) from: [u32; 4],
    /// Network order.
    pub(crate) to: [u32; 4],
}

impl Ends {
    /// The other way round.
    pub(crate) const fn turned(self) -> Self {
        Self { from: self.to, to: self.from, ..self }
    }
}

/// How much of a datagram this is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// Offset 0: IPv6's atomic fragments too, whose ports no rule sees.
    First,
    /// From this octet of the datagram's payload on.
    Later(u16),
}

/// An IP header, read to its end.
pub(crate) struct Ip {
    pub(crate) ends: Ends,
    pub(crate) protocol: u8,
    pub(crate) part: Part,
    /// Where the payload begins, from the network header.
    pub(crate) payload: u32,
    /// Where it ends by the header's word; 0 where the header does not say (GSO larger than 64 KiB, jumbograms).
    end: u32,
}

impl Ip {
    /// Not read yet. Headers are read in place: results by value would not fit the 512 octets of a program's stack.
    pub(crate) const fn new() -> Self {
        let ends = Ends { is_ipv6: false, from: [0; 4], to: [0; 4] };
        Self { ends, protocol: 0, part: Part::Whole, payload: 0, end: 0 }
    }

    /// Whether this fragment holds so many octets of its payload.
    pub(crate) fn holds(&self, bytes: u32) -> bool {
        self.end == 0 || self.payload + bytes <= self.end
    }
}

/// The network header behind tags that do not count.
#[inline(never)]
pub(crate) fn ip(ctx: &TcContext, ip: &mut Ip) -> Result<(), Class> {
    let skb: *const __sk_buff = ctx.as_ptr().cast();
    // SAFETY: the context outlives the program's run, and the verifier admits these loads (`bpf_skb_is_valid_access`).
    let (protocol, tagged, tag) = unsafe { ((*skb).protocol, (*skb).vlan_present, (*skb).vlan_tci) };
    if tagged != 0 && tag as u16 & VLAN_ID != 0 {
        return Err(Class::OtherVlan);
    }
    let mut protocol = u16::from_be(protocol as u16);
    let mut at = 0;
    for _ in 0..TAGS_MAX {
        if !VLAN_TAGS.contains(&protocol) {
            break;
        }
        let [tag_high, tag_low, high, low] = load::<4>(ctx, at).ok_or(Class::Malformed)?;
        if u16::from_be_bytes([tag_high, tag_low]) & VLAN_ID != 0 {
            return Err(Class::OtherVlan);
        }
        protocol = u16::from_be_bytes([high, low]);
        at += 4;
    }
    match protocol {
        IPV4 => ipv4(ctx, at, ip),
        IPV6 => ipv6(ctx, at, ip),
        tag if VLAN_TAGS.contains(&tag) => Err(Class::DroppedHeaderChain),
        _ => Err(Class::OtherFamily),
    }
}

/// An IPv4 header (RFC 791 section 3.1) at `at`.
#[inline(never)]
pub(crate) fn ipv4(ctx: &TcContext, at: u32, ip: &mut Ip) -> Result<(), Class> {
    let head = load::<20>(ctx, at).ok_or(Class::Malformed)?;
    let header = u32::from(head[0] & 0x0f) * 4;
    if head[0] >> 4 != 4 || header < IPV4_BYTES {
        return Err(Class::Malformed);
    }
    let total = u32::from(u16::from_be_bytes([head[2], head[3]]));
    let field = u16::from_be_bytes([head[6], head[7]]);
    let (more, offset) = (field & 0x2000 != 0, (field & 0x1fff) << 3);
    ip.part = match (offset, more) {
        (0, false) => Part::Whole,
        (0, true) => Part::First,
        (offset, _) => Part::Later(offset),
    };
    ip.ends.is_ipv6 = false;
    ip.ends.from[0] = word(&head, 12);
    ip.ends.to[0] = word(&head, 16);
    ip.protocol = head[9];
    ip.payload = at + header;
    ip.end = if total == 0 { 0 } else { at + total };
    Ok(())
}

/// An IPv6 header (RFC 8200 section 3) at `at`, with the extension headers behind it.
#[inline(never)]
pub(crate) fn ipv6(ctx: &TcContext, at: u32, ip: &mut Ip) -> Result<(), Class> {
    let head = load::<40>(ctx, at).ok_or(Class::Malformed)?;
    if head[0] >> 4 != 6 {
        return Err(Class::Malformed);
    }
    ip.ends.is_ipv6 = true;
    for at in 0..4 {
        ip.ends.from[at] = word(&head, 8 + 4 * at);
        ip.ends.to[at] = word(&head, 24 + 4 * at);
    }
    let length = u32::from(u16::from_be_bytes([head[4], head[5]]));
    ip.protocol = head[6];
    ip.part = Part::Whole;
    ip.payload = at + IPV6_BYTES;
    ip.end = if length == 0 { 0 } else { at + IPV6_BYTES + length };
    for _ in 0..=EXTENSIONS_MAX {
        match ip.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let [next, length] = extension(ctx, ip)?;
                ip.protocol = next;
                ip.payload += (u32::from(length) + 1) * 8;
            }
            FRAGMENT => {
                let [next, _, high, low] = extension(ctx, ip)?;
                ip.protocol = next;
                ip.payload += 8;
                let offset = u16::from_be_bytes([high, low]) & 0xfff8;
                if offset != 0 {
                    ip.part = Part::Later(offset);
                    return Ok(());
                }
                ip.part = Part::First;
            }
            _ => return Ok(()),
        }
    }
    Err(Class::DroppedHeaderChain)
}

fn word(octets: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

/// The beginning of an extension header. A first fragment must hold the whole chain (RFC 7112 section 5).
fn extension<const N: usize>(ctx: &TcContext, ip: &Ip) -> Result<[u8; N], Class> {
    let cut = if ip.part == Part::First { Class::DroppedTinyFragment } else { Class::Malformed };
    if !ip.holds(N as u32) {
        return Err(cut);
    }
    load(ctx, ip.payload).ok_or(cut)
}

/// Octets from the network header on, or `None` where the packet ends before.
pub(crate) fn load<const N: usize>(ctx: &TcContext, at: u32) -> Option<[u8; N]> {
    let mut octets = [0; N];
    (read(ctx, at, &mut octets) || (pull(ctx, at + N as u32) && read(ctx, at, &mut octets))).then_some(octets)
}

/// Read what stands in the linear part of the packet.
#[inline(always)]
fn read<const N: usize>(ctx: &TcContext, at: u32, octets: &mut [u8; N]) -> bool {
    // SAFETY: the helper writes N octets, or none and fails; the array lives on the program's stack.
    let result = unsafe {
        bpf_skb_load_bytes_relative(
            ctx.as_ptr(),
            at,
            octets.as_mut_ptr().cast(),
            N as u32,
            FROM_NETWORK_HEADER,
        )
    };
    result == 0
}

/// A driver may have left headers in pages: bring them into the linear part.
#[inline(never)]
fn pull(ctx: &TcContext, bytes: u32) -> bool {
    let len = ctx.len();
    // SAFETY: the helper takes the context and a length; no pointer into the packet is held across it.
    bytes <= len
        && unsafe {
            bpf_skb_pull_data(ctx.as_ptr().cast(), if len > PULL_BYTES_MAX { PULL_BYTES_MAX } else { len })
        } == 0
}
