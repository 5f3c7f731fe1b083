//! Octets that were copied out of their buffer, to be held until they are judged.

use crate::accept::HeldLease;

/// Octets of one command or response that need no room of `limits.held`: a session has as much anyway. Otherwise no LOGOUT
/// and no EXPUNGE would pass while others hold mail, and a client that misses an EXPUNGE takes one message for another.
const SMALL_BYTES: usize = 8 * 1024;

/// Count a unit that grows from so many octets by others; whether there is room.
pub(super) fn try_hold(lease: &mut HeldLease, from: usize, by: usize) -> bool {
    let more = from.saturating_add(by).saturating_sub(SMALL_BYTES.max(from));
    lease.try_grow(more as u64)
}

/// Reserve room for a literal and what stands behind it. A large one gets what it needs and no more. Small ones share
/// room: each of a million would otherwise have all that came before it moved.
pub(super) fn reserve(unit: &mut Vec<u8>, literal: u64, behind: usize) {
    let octets = usize::try_from(literal).unwrap_or_default().saturating_add(behind);
    if octets > unit.len() { unit.reserve_exact(octets) } else { unit.reserve(octets) }
}

/// Held octets, and the room that they take of `limits.held`. Both are given back when the last who shows them is done.
#[derive(Debug)]
pub(super) struct Held {
    octets: Vec<u8>,
    _lease: HeldLease,
}

impl Held {
    pub(super) const fn new(octets: Vec<u8>, lease: HeldLease) -> Self {
        Self { octets, _lease: lease }
    }

    /// The octets.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// Mail does not stay in memory that is free.
impl Drop for Held {
    fn drop(&mut self) {
        self.octets.fill(0);
        // Otherwise the compiler sees that nobody reads the zeros.
        std::hint::black_box(&self.octets);
    }
}

#[cfg(test)]
impl Held {
    pub(super) fn of(octets: Vec<u8>) -> Self {
        Self::new(octets, crate::accept::HeldOctets::new(crate::words::Size(u64::MAX)).lease())
    }
}
