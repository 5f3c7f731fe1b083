//! The BPF object: every program in one file that the daemon embeds.
#![no_std]
#![no_main]
