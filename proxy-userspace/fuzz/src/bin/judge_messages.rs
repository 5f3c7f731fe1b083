//! What worker and judges say to each other, read by either end.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| postern::judging_fuzzing::messages(octets));
