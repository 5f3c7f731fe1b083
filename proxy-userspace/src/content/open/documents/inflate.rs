//! Deflate, as far as it goes: what a reader shows of a stream that breaks counts, too.

use flate2::{Decompress, FlushDecompress, Status};

use super::Opening;
use crate::content::Condition;

/// Octets made at once.
const STEP_BYTES: usize = 8 << 10;

/// What zlib or bare deflate gives, taken out of the bounds. None where it gives nothing.
pub(super) fn inflated(packed: &[u8], opening: &mut Opening<'_, '_>) -> Option<Vec<u8>> {
    let room = opening.room(packed.len());
    let mut octets = made(packed, true, room);
    if octets.is_empty() {
        // A head that is wrong is skipped, or there is none.
        octets = made(packed.get(2..).unwrap_or_default(), false, room);
    }
    if octets.is_empty() {
        octets = made(packed, false, room);
    }
    if octets.len() > room {
        opening.found(Condition::ArchiveLimits);
        octets.truncate(room);
    }
    (opening.takes(octets.len()) && !octets.is_empty()).then_some(octets)
}

/// A little more than `room` octets at most.
fn made(packed: &[u8], has_head: bool, room: usize) -> Vec<u8> {
    let mut decoder = Decompress::new(has_head);
    let mut octets = Vec::new();
    while octets.len() <= room {
        octets.reserve(STEP_BYTES);
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let rest = usize::try_from(read).ok().and_then(|read| packed.get(read..)).unwrap_or_default();
        let status = decoder.decompress_vec(rest, &mut octets, FlushDecompress::None);
        let is_stuck = (read, written) == (decoder.total_in(), decoder.total_out());
        if is_stuck || !matches!(status, Ok(Status::Ok | Status::BufError)) {
            break;
        }
    }
    octets
}
