//! Any octets as an archive of any kind: opening them, and what they are as well, ends within the bounds.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use postern::content::RealType;
use postern::content::open::{OpenBounds, OpenLimits, beside, open, open_beside};

const KINDS: [RealType; 13] = [
    RealType::Zip,
    RealType::Gzip,
    RealType::Bzip2,
    RealType::Xz,
    RealType::Zstd,
    RealType::Tar,
    RealType::SevenZip,
    RealType::Cab,
    RealType::Iso,
    RealType::Cpio,
    RealType::Ar,
    RealType::Rpm,
    RealType::Rar,
];
const LIMITS: OpenLimits = OpenLimits { depth: 1, members: 100, octets: 4 << 20, ratio: 200 };

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let real = KINDS[usize::from(*kind) % KINDS.len()];
    // The structure of a disc begins behind 32 KiB.
    let front = if real == RealType::Iso { 16 * 2_048 } else { 0 };
    let octets = [vec![0; front], data.to_vec()].concat();
    let (mut members, mut made) = (0, 0);
    let mut bounds = OpenBounds::new(LIMITS);
    let mut visit = |_: &mut OpenBounds, member: postern::content::open::Member<'_>| {
        members += 1;
        made += member.octets.len() as u64;
        ControlFlow::Continue(())
    };
    open(real, &octets, &mut bounds, &mut visit);
    for beside in beside(None, &octets).places {
        open_beside(beside, &octets, &mut bounds, &mut visit);
    }
    assert!(members <= LIMITS.members && made <= LIMITS.octets, "{members} members, {made} octets");
});
