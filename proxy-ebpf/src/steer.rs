//! Mail that arrives on an ingress interface goes to Postern's listeners; everything else goes its way.
//!
//! The kernel asks this program for every local TCP or UDP delivery that no connected socket claims, so the tests
//! that let ordinary traffic leave come first and cost one comparison each.
#![expect(unsafe_code, reason = "the context is reached through a raw pointer")]

use aya_ebpf::{
    bindings::{BPF_SK_LOOKUP_F_REPLACE, sk_action},
    macros::{map, sk_lookup},
    maps::{PerCpuArray, SockMap},
    programs::SkLookupContext,
};
use proxy_ebpf::{
    Exit, FAMILIES, Family, INGRESS_MAX, Intake, PortRole, PortUse, Setting, WORKERS_MAX, listener_slot,
};

use crate::maps::{asking, count, ingress as ingress_of, port_role, port_use, setting};

/// `IPPROTO_TCP`.
const TCP: u32 = 6;
/// `AF_INET`.
const INET: u32 = 2;
/// `AF_INET6`.
const INET6: u32 = 10;
/// `ENOENT`, as the socket map reports an empty slot.
const NO_ENTRY: i32 = -2;

#[map]
static LISTENERS: SockMap = SockMap::with_max_entries(INGRESS_MAX * FAMILIES * WORKERS_MAX, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Exit::ALL.len() as u32, 0);

/// Count the way out, then take it.
#[sk_lookup]
#[expect(clippy::needless_pass_by_value, reason = "the macro's entry point hands the context over by value")]
fn steer(ctx: SkLookupContext) -> u32 {
    // The classifier asks for connected sockets only: no listener, and nothing to count.
    if asking() {
        return sk_action::SK_DROP;
    }
    let exit = decide(&ctx);
    count(&COUNTERS, exit as u32);
    if exit.drops() { sk_action::SK_DROP } else { sk_action::SK_PASS }
}

fn decide(ctx: &SkLookupContext) -> Exit {
    // SAFETY: the kernel hands each run of an sk_lookup program a `bpf_sk_lookup` that outlives it, and its verifier
    // admits loads from these fields only (`sk_lookup_is_valid_access`).
    let (protocol, port, interface, family) = unsafe {
        let lookup = ctx.lookup;
        ((*lookup).protocol, (*lookup).local_port, (*lookup).ingress_ifindex, (*lookup).family)
    };
    if protocol != TCP {
        return Exit::OtherProtocol;
    }
    let port = port as u16;
    let port_use = port_use(port);
    if port_use == PortUse::Unlisted as u64 {
        return Exit::OtherPort;
    }
    let Some(ingress) = ingress_of(interface) else {
        return Exit::UnknownInterface;
    };
    if ingress >= INGRESS_MAX {
        return Exit::OtherInterface;
    }
    if port_role(port_use, port, || Some(ingress)) != PortRole::Steered as u32 {
        return Exit::OtherPort;
    }
    if setting(Setting::Intake) == Intake::Drop as u32 {
        return Exit::NoRoom;
    }
    match family {
        INET => assign(ctx, ingress, Family::V4, Exit::Steered4),
        INET6 => assign(ctx, ingress, Family::V6, Exit::Steered6),
        _ => Exit::OtherFamily,
    }
}

/// The first member that lives: the kernel then spreads over its reuseport group by the packet's hash, which also
/// keeps the last packet of a SYN-cookie handshake with the listener that answered the first.
fn assign(ctx: &SkLookupContext, ingress: u32, family: Family, steered: Exit) -> Exit {
    let mut exit = Exit::NoListener;
    for worker in 0..WORKERS_MAX {
        let slot = listener_slot(ingress, family, worker);
        // A program that ran before may have chosen a socket: without this flag it would keep the connection.
        match LISTENERS.redirect_sk_lookup(ctx, slot, BPF_SK_LOOKUP_F_REPLACE as u64) {
            Ok(()) => return steered,
            Err(NO_ENTRY) => {}
            Err(_) => exit = Exit::AssignFailed,
        }
    }
    exit
}
