//! Any octets as a document of any type: opening them ends, never panics, and makes no more than the bounds allow.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use postern::content::RealType;
use postern::content::open::{OpenBounds, OpenLimits, open};

const TYPES: [RealType; 9] = [
    RealType::Ole,
    RealType::Ooxml,
    RealType::Rtf,
    RealType::OneNote,
    RealType::Shortcut,
    RealType::Pdf,
    RealType::Html,
    RealType::Xml,
    RealType::Text,
];

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let Some(real) = TYPES.get(usize::from(*kind) % TYPES.len()) else { return };
    let limits = OpenLimits { octets: 8 << 20, ..OpenLimits::default() };
    let mut made = 0;
    let _ = open(*real, data, &mut OpenBounds::new(limits), &mut |_, member| {
        assert!(member.names.iter().flat_map(|name| name.chars()).all(|c| !c.is_control()), "names are clean");
        made += member.octets.len() as u64;
        ControlFlow::Continue(())
    });
    assert!(made <= limits.octets, "no more than the bounds");
});
