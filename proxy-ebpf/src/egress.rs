//! Which interface the SYN of a connection to a server leaves by.
//!
//! The daemon asks routing before it connects, but rules of others may send the packet elsewhere (`type route` chains of
//! nftables, marks that choose between uplinks). What leaves is never touched here.
#![expect(unsafe_code, reason = "the packet's socket is reached through kernel helpers and raw pointers")]

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, BPF_F_MMAPABLE},
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock, bpf_tcp_sock},
    macros::{classifier, map},
    maps::Array,
    programs::TcContext,
};
use proxy_ebpf::{Class, SYN_EGRESS_SLOTS, UPSTREAM_MARK, is_same_syn, syn_egress, syn_egress_slot};

use crate::classify::{CLASSES, NEXT, SYN_SENT};
use crate::maps::count;

#[map]
static SYN_EGRESS: Array<u64> = Array::with_max_entries(SYN_EGRESS_SLOTS, BPF_F_MMAPABLE);

/// Packets that leave by an interface towards the servers.
#[classifier]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry point hands the context over by value")]
fn postern_egress(ctx: TcContext) -> i32 {
    count(&CLASSES, departing(&ctx) as u32);
    NEXT
}

/// The socket is asked, not the packet: rules may have changed the packet's mark, address and port by now, and the
/// only packet that a socket sends in `SYN_SENT` is its SYN.
fn departing(ctx: &TcContext) -> Class {
    let skb: *const __sk_buff = ctx.as_ptr().cast();
    // SAFETY: the context outlives the program's run, and the verifier admits these loads (`bpf_skb_is_valid_access`);
    // `sk` is null for packets that are forwarded.
    let (socket, interface) = unsafe { ((*skb).__bindgen_anon_2.sk, (*skb).ifindex) };
    if socket.is_null() {
        return Class::OtherDeparture;
    }
    // SAFETY: the helper takes a `sock_common` and answers null where that is no full socket; the packet holds the
    // socket for as long as the program runs.
    let socket = unsafe { bpf_sk_fullsock(socket) };
    if socket.is_null() {
        return Class::OtherDeparture;
    }
    // SAFETY: these fields may be read of a full socket (`bpf_sock_is_valid_access` in net/core/filter.c).
    let (state, mark) = unsafe { ((*socket).state, (*socket).mark) };
    if state != SYN_SENT || mark & UPSTREAM_MARK == 0 {
        return Class::OtherDeparture;
    }
    // SAFETY: as for `bpf_sk_fullsock`.
    let tcp = unsafe { bpf_tcp_sock(socket) };
    if tcp.is_null() {
        return Class::OtherDeparture;
    }
    // SAFETY: the helper's answer may be read; the other helper takes the context, whose socket is not null.
    let (sent, cookie) = unsafe { ((*tcp).segs_out, bpf_get_socket_cookie(ctx.as_ptr())) };
    note(cookie, sent, interface)
}

/// The first interface of a stack is the one that routing chose; a SYN that is sent again may take another.
fn note(cookie: u64, sent: u32, interface: u32) -> Class {
    let word = syn_egress(cookie, sent, interface);
    let Some(slot) = SYN_EGRESS.get_ptr_mut(syn_egress_slot(cookie)) else { return Class::OtherDeparture };
    // SAFETY: elements of an array are there for good and aligned to 8, so that a word is never torn. The packets of one
    // socket leave one after the other, and another socket in the slot loses its note, which is as good as none.
    unsafe {
        if !is_same_syn(*slot, word) {
            *slot = word;
        }
    }
    Class::NotedSyn
}
