//! The memory of sessions that have left goes back to the system. glibc keeps it (12 of 14 MB after a thousand sessions):
//! it lies free between what lives on, where only `malloc_trim` finds it.

use std::time::Duration;

use tokio::time::sleep;

use crate::accept::Admission;
use crate::sys;

/// How often sessions are counted; two trims are no closer to each other.
const COUNT: Duration = Duration::from_secs(1);
/// Sessions that have to be gone before a trim is worth its time: some 14 KB each.
const GONE_LEAST: u64 = 64;

/// The most sessions at once since the last trim.
#[derive(Default)]
struct Peak {
    most: u64,
    /// Sessions were there at the last trim, and none has come since. They kept the pages that they had memory in, also
    /// that of their neighbours.
    is_unfinished: bool,
}

impl Peak {
    /// So many sessions are there now, and since the last call so many were at most: whether half of the most have left,
    /// and many. Steady traffic is never trimmed, because it would fetch the memory again at once.
    fn is_over(&mut self, active: u64, most: u64) -> bool {
        if most > self.most {
            (self.most, self.is_unfinished) = (most, false);
        }
        let many = self.most - active.min(self.most) >= GONE_LEAST || self.is_unfinished;
        let is_over = active <= self.most / 2 && self.most > 0 && many;
        if is_over {
            (self.most, self.is_unfinished) = (active, active > 0);
        }
        is_over
    }
}

/// Count sessions, and give memory back when half of them have left, until the future is dropped.
pub(super) async fn give_back(admission: &Admission) -> ! {
    let mut peak = Peak::default();
    loop {
        sleep(COUNT).await;
        if peak.is_over(admission.numbers().active, admission.take_most()) {
            sys::give_memory_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_half_of_many_have_left_and_not_while_they_come_and_go() {
        let mut peak = Peak::default();
        for (active, most, is_over) in [
            (100, 100, false),
            (40, 100, false),
            (36, 40, true),
            // The rest, whose neighbours' memory could not be given back before.
            (0, 36, true),
            (0, 0, false),
            (10, 1000, true),
            (900, 900, false),
            (500, 900, false),
            (450, 500, true),
            (400, 450, false),
            (0, 0, true),
            (0, 0, false),
        ] {
            assert_eq!(peak.is_over(active, most), is_over, "{active} of {most}");
        }
    }
}
