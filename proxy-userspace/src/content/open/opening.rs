//! One file while it is opened: where its members go, what may still be made of it, and what was found.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::names::Names;
use super::unpack::{Method, Unpacked};
use super::{BeyondLimits, Condition, Conditions, Member, OpenBounds, Visit};

/// Octets of one member. More than one is held only where archives lie inside each other.
const MEMBER_BYTES_MAX: u64 = 128 << 20;

/// A file that is being opened.
pub(super) struct Opening<'o, 'v> {
    bounds: &'o mut OpenBounds,
    visit: &'o mut Visit<'v>,
    conditions: Conditions,
}

impl<'o, 'v> Opening<'o, 'v> {
    pub(super) fn new(bounds: &'o mut OpenBounds, visit: &'o mut Visit<'v>) -> Self {
        Self { bounds, visit, conditions: Conditions::new() }
    }

    /// What was found beside members.
    pub(super) fn into_conditions(self) -> Conditions {
        self.conditions
    }

    /// Something beside members was found.
    pub(super) fn found(&mut self, condition: Condition) {
        self.conditions.insert(condition);
    }

    /// What is left for all that is made of the leaf.
    pub(super) fn bounds(&mut self) -> &mut OpenBounds {
        self.bounds
    }

    /// What may be made of so many octets at once.
    pub(super) fn room(&self, packed: usize) -> usize {
        let room = self.bounds.room(packed as u64).min(MEMBER_BYTES_MAX);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Decompress. What is made is taken out of the bounds; what is read, where that is more: octets that give nothing take
    /// time, too.
    pub(super) fn unpack(&mut self, method: Method, packed: &[u8]) -> Unpacked {
        if self.bounds.room(u64::MAX) == 0 {
            return Unpacked { fault: Some(Condition::ArchiveLimits), ..Unpacked::default() };
        }
        let unpacked = method.unpack(packed, self.room(packed.len()));
        self.made(unpacked.octets.len().max(unpacked.consumed));
        unpacked
    }

    /// So many octets were made, or read. Beyond the bounds nothing is left.
    pub(super) fn made(&mut self, octets: usize) {
        if self.bounds.octets(octets as u64).is_err() {
            self.found(Condition::ArchiveLimits);
            let left = self.bounds.room(u64::MAX);
            let _ = self.bounds.octets(left);
        }
    }

    /// A member whose octets were made, and taken out of the bounds.
    pub(super) fn member(&mut self, names: &Names, octets: &[u8]) -> ControlFlow<()> {
        if self.bounds.member() == Err(BeyondLimits) {
            self.found(Condition::ArchiveLimits);
            return ControlFlow::Break(());
        }
        let member =
            Member { names: names.to_vec(), declared_types: Vec::new(), octets: Cow::Borrowed(octets) };
        (self.visit)(self.bounds, member)
    }

    /// A member that stands in the file as it is. Judging it takes time like one that was decompressed, and members may
    /// lie upon each other: it is taken out of the bounds, too.
    pub(super) fn stored(&mut self, names: &Names, octets: &[u8]) -> ControlFlow<()> {
        let room = self.room(octets.len());
        let fitting = octets.get(..room).unwrap_or(octets);
        if fitting.len() < octets.len() {
            self.found(Condition::ArchiveLimits);
        }
        self.made(fitting.len());
        self.member(names, fitting)
    }

    /// A member of which only its names can be judged.
    pub(super) fn closed(&mut self, names: &Names, why: Condition) -> ControlFlow<()> {
        self.found(why);
        self.member(names, &[])
    }

    /// A member, decompressed as far as it goes.
    pub(super) fn unpacked(&mut self, names: &Names, unpacked: &Unpacked) -> ControlFlow<()> {
        if let Some(fault) = unpacked.fault {
            self.found(fault);
        }
        self.member(names, &unpacked.octets)
    }
}
