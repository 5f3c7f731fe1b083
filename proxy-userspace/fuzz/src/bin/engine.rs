//! What a client and a server may say to each other: nothing forbidden passes, and what passes can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| postern::inspect::fuzzing::engine(data));
