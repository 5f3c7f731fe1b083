//! The BPF object: every program in one file that the daemon embeds.
#![no_std]
#![no_main]

/// Maps that the programs share.
mod maps;
/// Headers, as far as they stand inside the packet.
mod packet;
/// tc: fragments, ICMP errors and packets of our own sockets.
mod classify;
/// tc: which interface a connection to a server leaves by.
mod egress;
/// `sk_lookup`: which connections Postern takes.
mod steer;

/// Not a program: the verifier proves that none can panic, and this body would not load.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// What the kernel reads before it offers helpers; MIT is the half of Postern's licence that it knows a name for.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
#[expect(unsafe_code, reason = "the loader finds the licence by its section's name")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
