//! What a worker that was taken over may have signed with the authority's key: never a panic, and never more than a leaf.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| postern::signer_fuzzing::leaf(data));
