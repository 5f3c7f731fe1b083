//! What goes to one side next, in order: octets of the batch that was received, octets of our own, and a place that is
//! kept for what a verdict decides.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::Next;
use super::held::Held;

/// What one response of our own takes beside its octets.
const OWN_BYTES: usize = 256;

/// A part of our own octets.
#[derive(Debug)]
enum Chunk {
    /// Words that were made here.
    Words(Vec<u8>),
    /// A range of what is held.
    Held(Rc<Held>, Range<usize>),
}

impl Chunk {
    fn octets(&self) -> &[u8] {
        match self {
            Self::Words(words) => words,
            Self::Held(held, range) => held.octets().get(range.clone()).unwrap_or_default(),
        }
    }
}

/// One whole response (or the part of a command up to its next literal), in chunks: a body that is held is not copied to
/// stand among words.
#[derive(Debug, Default)]
pub(super) struct Own {
    chunks: VecDeque<Chunk>,
    /// Octets of the first chunk that went out.
    filled: usize,
    /// What it was counted for when it was queued.
    weight: usize,
}

impl Own {
    /// Words only.
    pub(super) fn words(words: impl Into<Vec<u8>>) -> Self {
        let mut own = Self::default();
        own.say(words);
        own
    }

    /// Add words.
    pub(super) fn say(&mut self, words: impl Into<Vec<u8>>) {
        match self.chunks.back_mut() {
            Some(Chunk::Words(said)) => said.extend_from_slice(&words.into()),
            _ => self.chunks.push_back(Chunk::Words(words.into())),
        }
    }

    /// Add a range of what is held.
    pub(super) fn show(&mut self, held: &Rc<Held>, range: Range<usize>) {
        self.chunks.push_back(Chunk::Held(Rc::clone(held), range));
    }

    #[cfg(test)]
    fn heap(&self) -> usize {
        let words = self.chunks.iter().map(|chunk| match chunk {
            Chunk::Words(words) => words.capacity(),
            Chunk::Held(..) => 0,
        });
        self.chunks.capacity() * size_of::<Chunk>() + words.sum::<usize>()
    }

    /// Octets that no lease counts.
    fn weigh(&self) -> usize {
        let words = self.chunks.iter().map(|chunk| match chunk {
            Chunk::Words(words) => words.len(),
            Chunk::Held(..) => 0,
        });
        OWN_BYTES + words.sum::<usize>()
    }

    fn is_begun(&self) -> bool {
        self.filled > 0
    }

    /// Copy the next octets out; how many, and whether these were the last.
    fn fill(&mut self, room: &mut [u8]) -> (usize, bool) {
        let mut count = 0;
        while let Some(chunk) = self.chunks.front() {
            let rest = chunk.octets().get(self.filled..).unwrap_or_default();
            let left = room.get_mut(count..).unwrap_or_default();
            let octets = rest.len().min(left.len());
            for (to, from) in [(left.get_mut(..octets), rest.get(..octets))] {
                if let (Some(to), Some(from)) = (to, from) {
                    to.copy_from_slice(from);
                }
            }
            count += octets;
            if octets < rest.len() {
                self.filled += octets;
                return (count, false);
            }
            self.filled = 0;
            self.chunks.pop_front();
        }
        (count, true)
    }
}

enum Entry<D> {
    Pass(usize),
    Skip(usize),
    Own(Own),
    Deferred(D),
}

/// The queue towards one side. `D` stands for what is not decided yet; nothing overtakes it.
pub(super) struct Output<D> {
    queue: VecDeque<Entry<D>>,
    deferred: usize,
    weight: usize,
    begun: bool,
    /// A response goes out as it comes: other words wait until it is complete.
    open: bool,
    later: VecDeque<Own>,
}

impl<D> Default for Output<D> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            deferred: 0,
            weight: 0,
            begun: false,
            open: false,
            later: VecDeque::new(),
        }
    }
}

impl<D> Output<D> {
    /// Pass on so many octets of the batch. Only while nothing is deferred: the batch does not wait for a verdict.
    pub(super) fn pass(&mut self, octets: usize) {
        match self.queue.back_mut() {
            Some(Entry::Pass(passed)) => *passed += octets,
            _ => self.queue.push_back(Entry::Pass(octets)),
        }
    }

    /// Leave out so many octets of the batch.
    pub(super) fn skip(&mut self, octets: usize) {
        if self.deferred > 0 {
            return;
        }
        match self.queue.back_mut() {
            Some(Entry::Skip(skipped)) => *skipped += octets,
            _ => self.queue.push_back(Entry::Skip(octets)),
        }
    }

    /// Say something of our own, between two responses.
    pub(super) fn say(&mut self, mut own: Own) {
        if self.open {
            own.weight = own.weigh();
            self.weight += own.weight;
            return self.later.push_back(own);
        }
        let entry = self.weighed(own);
        self.queue.push_back(entry);
    }

    /// From here on a response goes out as it comes: its octets are passed, or said by [`Self::go_on`].
    pub(super) const fn open(&mut self) {
        self.open = true;
    }

    /// Say a part of the response that is open.
    pub(super) fn go_on(&mut self, own: Own) {
        let entry = self.weighed(own);
        self.queue.push_back(entry);
    }

    /// The response that was open is complete.
    pub(super) fn close(&mut self) {
        self.open = false;
        self.queue.extend(std::mem::take(&mut self.later).into_iter().map(Entry::Own));
    }

    fn weighed(&mut self, mut own: Own) -> Entry<D> {
        own.weight = own.weigh();
        self.weight += own.weight;
        Entry::Own(own)
    }

    /// Octets that wait here and that no lease counts, about.
    pub(super) const fn weight(&self) -> usize {
        self.weight
    }

    /// Keep a place for what is not decided yet.
    pub(super) fn defer(&mut self, deferred: D) {
        self.deferred += 1;
        self.queue.push_back(Entry::Deferred(deferred));
    }

    /// Say something before everything that waits; only where the peer is between two responses.
    pub(super) fn interject(&mut self, own: Own) {
        if self.is_at_boundary() {
            let entry = self.weighed(own);
            self.queue.push_front(entry);
        }
    }

    /// How many places are kept.
    pub(super) const fn deferred(&self) -> usize {
        self.deferred
    }

    /// Everything that is not decided yet, in order.
    pub(super) fn each_deferred(&mut self) -> impl Iterator<Item = &mut D> {
        self.queue.iter_mut().filter_map(|entry| match entry {
            Entry::Deferred(deferred) => Some(deferred),
            _ => None,
        })
    }

    /// Decide the first place that is kept, if it can be decided: `settle` gives it back where it cannot. Whether
    /// something was. What is decided already may stand before it: nobody asks again when that has gone.
    pub(super) fn settle_first(&mut self, settle: impl FnOnce(D) -> Result<Option<Own>, D>) -> bool {
        let at = self.queue.iter().position(|entry| matches!(entry, Entry::Deferred(_)));
        let Some(at) = at.filter(|_| self.deferred > 0) else { return false };
        let Some(Entry::Deferred(deferred)) = self.queue.remove(at) else { return false };
        let settled = settle(deferred);
        let is_settled = settled.is_ok();
        self.deferred -= usize::from(is_settled);
        match settled {
            Ok(None) => {}
            Ok(Some(own)) => {
                let entry = self.weighed(own);
                self.queue.insert(at, entry);
            }
            Err(deferred) => self.queue.insert(at, Entry::Deferred(deferred)),
        }
        is_settled
    }

    /// Whether everything went out.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.iter().all(|entry| matches!(entry, Entry::Skip(_)))
    }

    /// Whether the peer is between two responses.
    pub(super) const fn is_at_boundary(&self) -> bool {
        !self.begun && !self.open
    }

    /// Octets on the heap: the queue, and words of our own.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        let words = self.queue.iter().map(|entry| match entry {
            Entry::Own(own) => own.heap(),
            _ => 0,
        });
        self.queue.capacity() * size_of::<Entry<D>>() + words.sum::<usize>()
    }

    /// What goes out next.
    pub(super) fn next(&mut self) -> Next {
        match self.queue.front() {
            None | Some(Entry::Deferred(_)) => {
                // An idle session keeps no queue.
                if self.queue.is_empty() {
                    self.queue.shrink_to(0);
                }
                Next::Nothing
            }
            Some(Entry::Own(_)) => Next::Own,
            Some(Entry::Pass(octets)) => {
                let octets = *octets;
                self.queue.pop_front();
                Next::Pass(octets)
            }
            Some(Entry::Skip(octets)) => {
                let octets = *octets;
                self.queue.pop_front();
                Next::Skip(octets)
            }
        }
    }

    /// Copy octets of our own out, as many as fit; how many.
    pub(super) fn fill(&mut self, room: &mut [u8]) -> usize {
        let mut count = 0;
        while let Some(Entry::Own(own)) = self.queue.front_mut() {
            let left = room.get_mut(count..).unwrap_or_default();
            if left.is_empty() {
                break;
            }
            let (octets, done) = own.fill(left);
            count += octets;
            self.begun = !done && (self.begun || own.is_begun() || octets > 0);
            if !done {
                break;
            }
            self.weight = self.weight.saturating_sub(own.weight);
            self.queue.pop_front();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(output: &mut Output<u8>, room: usize) -> Vec<u8> {
        let mut got = Vec::new();
        let mut buffer = vec![0; room];
        while output.next() == Next::Own {
            let count = output.fill(&mut buffer);
            assert!(count > 0, "Own promises an octet");
            got.extend_from_slice(&buffer[..count]);
        }
        got
    }

    #[test]
    fn own_octets_leave_whole_and_in_order_however_small_the_room_is() {
        let held = Rc::new(Held::of(b"0123456789".to_vec()));
        for room in 1..30 {
            let mut output = Output::default();
            let mut own = Own::words(*b"a");
            own.show(&held, 2..5);
            own.say(*b"b");
            output.say(own);
            output.say(Own::words(*b"second"));
            assert_eq!(drained(&mut output, room), b"a234bsecond");
            assert!(output.is_empty() && output.is_at_boundary());
        }
    }

    #[test]
    fn a_response_that_has_begun_is_no_place_for_other_words() {
        let mut output: Output<u8> = Output::default();
        output.say(Own::words(*b"long response"));
        output.fill(&mut [0; 4]);
        assert!(!output.is_at_boundary());
        output.interject(Own::words(*b"* OK"));
        assert_eq!(drained(&mut output, 64), b" response");
        assert!(output.is_at_boundary());
    }

    #[test]
    fn nothing_overtakes_what_is_not_decided_but_a_line_of_comfort() {
        let mut output = Output::default();
        output.defer(1);
        output.say(Own::words(*b"later"));
        assert_eq!(output.next(), Next::Nothing);
        output.interject(Own::words(*b"* OK "));
        assert_eq!(drained(&mut output, 64), b"* OK ");
        assert_eq!(output.deferred(), 1);
        assert!(!output.settle_first(Err), "still not decided");
        assert!(output.settle_first(|_| Ok(Some(Own::words(*b"first ")))));
        assert_eq!(drained(&mut output, 64), b"first later");
    }
}
