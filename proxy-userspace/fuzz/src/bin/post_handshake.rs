//! Handshake messages after the handshake, as an authenticated peer may send them: never a panic, bounded, and the
//! same however the records split them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((which, content)) = data.split_first() {
        postern::layer::fuzzing::post_handshake(*which, content);
    }
});
