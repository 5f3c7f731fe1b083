//! One record of either version: a forged one is refused, a sealed one opens to what was sealed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| postern::layer::fuzzing::records(data));
