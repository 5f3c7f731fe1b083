//! The boundaries that headers declared, and the lines that match them.

use std::collections::HashMap;

use super::super::limits::{BOUNDARIES_BYTES_MAX, MATCHES_MAX};
use super::BeyondBounds;

/// One boundary that a line matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) boundary: usize,
    /// Nothing but white space, or `--` and white space, follows.
    pub(super) is_exact: bool,
    /// `--` follows.
    pub(super) is_close: bool,
}

/// Which blocks declare a boundary.
struct Declared {
    first: usize,
    last: usize,
    is_guessed: bool,
}

/// A tree by octets, so that a line finds all its boundaries in one pass.
#[derive(Default)]
pub(super) struct Boundaries {
    /// Node and octet to node. Node 0 is the root.
    nodes: HashMap<(u32, u8), u32>,
    ends: HashMap<u32, usize>,
    declared: Vec<Declared>,
    octets: usize,
}

impl Boundaries {
    pub(super) fn declare(
        &mut self,
        boundary: &[u8],
        block: usize,
        is_guessed: bool,
    ) -> Result<(), BeyondBounds> {
        let mut node = 0;
        for octet in boundary {
            let fresh = u32::try_from(self.nodes.len() + 1).map_err(|_| BeyondBounds)?;
            node = match self.nodes.get(&(node, *octet)) {
                Some(node) => *node,
                None if self.octets >= BOUNDARIES_BYTES_MAX => return Err(BeyondBounds),
                None => {
                    self.octets += 1;
                    self.nodes.insert((node, *octet), fresh);
                    fresh
                }
            };
        }
        let index = *self.ends.entry(node).or_insert(self.declared.len());
        match self.declared.get_mut(index) {
            Some(known) if known.is_guessed && !is_guessed => {
                *known = Declared { first: block, last: block, is_guessed };
            }
            Some(known) => known.last = if is_guessed { known.last } else { block },
            None => self.declared.push(Declared { first: block, last: block, is_guessed }),
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.declared.len()
    }

    pub(super) fn declared(&self, boundary: usize) -> (usize, usize) {
        self.declared.get(boundary).map_or((0, 0), |known| (known.first, known.last))
    }

    pub(super) fn is_guessed(&self, boundary: usize) -> bool {
        self.declared.get(boundary).is_some_and(|known| known.is_guessed)
    }

    /// Whether a line is a delimiter.
    pub(super) fn has_match(&self, line: &[u8]) -> bool {
        let mut any = false;
        self.each(line, &mut |_| {
            any = true;
            false
        });
        any
    }

    /// Every boundary that a line matches, the shortest first.
    pub(super) fn matches(&self, line: &[u8]) -> Result<Vec<Match>, BeyondBounds> {
        let mut matches = Vec::new();
        self.each(line, &mut |found| {
            matches.push(found);
            matches.len() <= MATCHES_MAX
        });
        if matches.len() > MATCHES_MAX { Err(BeyondBounds) } else { Ok(matches) }
    }

    fn each(&self, line: &[u8], visit: &mut dyn FnMut(Match) -> bool) {
        let Some(mut rest) = line.strip_prefix(b"--") else { return };
        let mut node = 0;
        let mut is_empty = true;
        loop {
            if let Some(boundary) = self.ends.get(&node) {
                let behind = rest.strip_prefix(b"--");
                let is_exact = behind.unwrap_or(rest).trim_ascii().is_empty() || rest.trim_ascii().is_empty();
                // Nearly every line with two dashes would match an empty boundary.
                if (is_exact || !is_empty)
                    && !visit(Match { boundary: *boundary, is_exact, is_close: behind.is_some() })
                {
                    return;
                }
            }
            let Some((first, behind)) = rest.split_first() else { return };
            let Some(next) = self.nodes.get(&(node, *first)) else { return };
            (node, rest, is_empty) = (*next, behind, false);
        }
    }
}
