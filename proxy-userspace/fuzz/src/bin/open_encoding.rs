//! Any octets as uuencode, yEnc, TNEF, CMS and OpenPGP: reading them never panics, and makes no more than the bounds.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use postern::content::open::{OpenBounds, OpenLimits, encodings};

const LIMITS: OpenLimits = OpenLimits { depth: 4, members: 100, octets: 1 << 20, ratio: 200 };

fuzz_target!(|data: &[u8]| {
    let (mut members, mut longest) = (0, 0);
    let found = encodings::open(data, &mut OpenBounds::new(LIMITS), &mut |_, member| {
        members += 1;
        longest = longest.max(member.octets.len());
        ControlFlow::Continue(())
    });
    assert!(members <= LIMITS.members, "members are counted");
    assert!(longest as u64 <= LIMITS.octets.max(data.len() as u64), "octets are counted");
    assert!(members == 0 && found.is_empty() || encodings::may_hold(data), "what holds something says so");
});
