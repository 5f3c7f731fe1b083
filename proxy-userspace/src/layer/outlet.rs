//! The order of records on the wire. A record takes its sequence number, and perhaps the next key, when it is sealed;
//! so whatever is sealed is written before anything else is sealed. The type holds that: the sealer is behind
//! `Boundary`, which exists only while nothing sealed waits, and which sealing consumes.

use std::collections::VecDeque;
use std::rc::Rc;

use rustls::ProtocolVersion;
use zeroize::Zeroizing;

use super::aead::{ContentType, Sealer};
use super::buffer::{Batch, Span};
use super::post::KEY_UPDATE_MESSAGE;
use super::shared::{RECORDS_RESERVE, SideState};
use super::{LayerFault, OWN_WORDS_BYTES_MAX};

/// A record of our own that waits to be sealed, in plaintext.
struct QueuedRecord {
    content: ContentType,
    /// Wiped when dropped: mail may stand in it.
    octets: Zeroizing<Vec<u8>>,
}

/// Records of our own, in their order. Octets are bounded by twice [`OWN_WORDS_BYTES_MAX`], so words fit one record.
#[derive(Default)]
pub(super) struct RecordQueue(VecDeque<QueuedRecord>);

impl RecordQueue {
    /// Queue words. Words that wait together share a record.
    pub(super) fn words(&mut self, words: &[u8]) -> Result<(), LayerFault> {
        let waiting: usize = self.0.iter().map(|own| own.octets.len()).sum();
        if words.len() + waiting > 2 * OWN_WORDS_BYTES_MAX {
            return Err(LayerFault::RecordOverflow);
        }
        match self.0.back_mut() {
            Some(QueuedRecord { content: ContentType::ApplicationData, octets }) => {
                octets.extend_from_slice(words)
            }
            _ => self.push(ContentType::ApplicationData, words),
        }
        Ok(())
    }

    pub(super) fn push(&mut self, content: ContentType, octets: &[u8]) {
        self.0.push_back(QueuedRecord { content, octets: octets.to_vec().into() });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is sealed and not wholly written yet. Nothing else may be sealed or written before it is.
enum Unwritten {
    Nothing,
    /// Records of our own.
    Own {
        sealed: Vec<u8>,
        written: usize,
    },
    /// The batch that was sealed last. It counts how much of it was written.
    Batch,
}

/// What must be done next.
pub(super) enum Next<'a> {
    /// Write these sealed octets.
    Own(&'a [u8]),
    /// Write the rest of the batch that was sealed last.
    Batch,
    /// Nothing sealed waits: something can be sealed.
    Boundary(Boundary<'a>),
}

/// The sealer of one side, and what it sealed that is not written yet.
pub(super) struct Outlet {
    sealer: Sealer,
    records_max: Option<u64>,
    shared: Rc<SideState>,
    unwritten: Unwritten,
}

impl Outlet {
    /// `records_max` lowers the suite's bound on records under later keys, as it did under the sealer's.
    pub(super) const fn new(sealer: Sealer, shared: Rc<SideState>, records_max: Option<u64>) -> Self {
        Self { sealer, records_max, shared, unwritten: Unwritten::Nothing }
    }

    pub(super) fn next(&mut self) -> Next<'_> {
        match self.unwritten {
            Unwritten::Nothing => Next::Boundary(Boundary(self)),
            Unwritten::Own { ref sealed, written } => Next::Own(sealed.get(written..).unwrap_or_default()),
            Unwritten::Batch => Next::Batch,
        }
    }

    /// The kernel took so many octets of [`Next::Own`].
    pub(super) fn own_written(&mut self, octets: usize) {
        if let Unwritten::Own { sealed, written } = &mut self.unwritten {
            *written += octets;
            if *written >= sealed.len() {
                self.unwritten = Unwritten::Nothing;
            }
        }
    }

    /// The kernel took all of [`Next::Batch`].
    pub(super) fn batch_written(&mut self) {
        self.unwritten = Unwritten::Nothing;
    }

    /// Whether a batch is sealed and not wholly written.
    pub(super) const fn is_mid_batch(&self) -> bool {
        matches!(self.unwritten, Unwritten::Batch)
    }

    /// Whether the key has records left for words beside the reserve. Under TLS 1.3 it is changed in time.
    pub(super) fn has_room_for_words(&self) -> bool {
        self.is_tls13() || self.sealer.records_left() > RECORDS_RESERVE
    }

    fn is_tls13(&self) -> bool {
        self.shared.version == ProtocolVersion::TLSv1_3
    }
}

/// A moment in which nothing sealed waits. Only here records are sealed and keys are changed.
pub(super) struct Boundary<'a>(&'a mut Outlet);

impl Boundary<'_> {
    /// Whether records of our own go before data: what is queued, or a KeyUpdate that the peer asked for (RFC 8446
    /// section 4.6.3).
    pub(super) fn owes(&self, queue: &RecordQueue) -> bool {
        !queue.is_empty() || self.0.shared.owes_key_update.get()
    }

    /// Seal everything that is queued, behind the KeyUpdate that is owed or due.
    pub(super) fn seal_own(self, queue: &mut RecordQueue) -> Result<(), LayerFault> {
        let outlet = self.0;
        let mut sealed = Vec::new();
        if outlet.shared.owes_key_update.take() {
            change_key(outlet, &mut sealed)?;
        }
        while let Some(own) = queue.0.pop_front() {
            if outlet.is_tls13() && is_due(outlet, 1) {
                change_key(outlet, &mut sealed)?;
            }
            seal(outlet, own, &mut sealed)?;
        }
        outlet.unwritten = Unwritten::Own { sealed, written: 0 };
        Ok(())
    }

    /// Seal what was released of a batch, in place. Where the key's limit is near, seal a KeyUpdate instead, which goes before
    /// the batch. TLS 1.2 has no KeyUpdate: its connection ends while an alert can still be sealed.
    pub(super) fn seal_batch(self, batch: &mut Batch) -> Result<(), LayerFault> {
        let outlet = self.0;
        if is_due(outlet, batch.released().len() as u64) {
            let mut sealed = Vec::new();
            change_key(outlet, &mut sealed)?;
            outlet.unwritten = Unwritten::Own { sealed, written: 0 };
            return Ok(());
        }
        if let Some(buffer) = &mut batch.buffer {
            for Span { body, seal } in &mut buffer.released {
                let body = buffer.bytes.get_mut(body.clone()).ok_or(LayerFault::SealFailed)?;
                *seal = outlet.sealer.seal(ContentType::ApplicationData, body)?;
            }
        }
        (batch.sealed, batch.sent) = (true, 0);
        outlet.unwritten = Unwritten::Batch;
        Ok(())
    }
}

/// Whether so many records would leave too few under this key. A key that sealed nothing is never due for a change,
/// because the next key has the same limit.
fn is_due(outlet: &Outlet, records: u64) -> bool {
    outlet.sealer.records_left() < records + RECORDS_RESERVE && !outlet.sealer.is_unused()
}

/// Announce and take the next sending key.
fn change_key(outlet: &mut Outlet, sealed: &mut Vec<u8>) -> Result<(), LayerFault> {
    if !outlet.is_tls13() {
        return Err(LayerFault::ConfidentialityLimit);
    }
    let own = QueuedRecord { content: ContentType::Handshake, octets: KEY_UPDATE_MESSAGE.to_vec().into() };
    seal(outlet, own, sealed)?;
    let next = outlet.shared.kernel.borrow_mut().next_transmit()?;
    outlet.sealer = Sealer::new(outlet.shared.version, &next, outlet.records_max)?;
    Ok(())
}

fn seal(
    outlet: &mut Outlet,
    QueuedRecord { content, mut octets }: QueuedRecord,
    sealed: &mut Vec<u8>,
) -> Result<(), LayerFault> {
    let seal = outlet.sealer.seal(content, &mut octets)?;
    sealed.extend_from_slice(seal.head());
    sealed.extend_from_slice(&octets);
    sealed.extend_from_slice(seal.tail());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;

    use proptest::prelude::Rng as _;
    use proptest::test_runner::{RngAlgorithm, TestRng};
    use rustls::version;

    use super::super::far::{HandshakeRole, Pair, VERSIONS, narrow, once, pair, rekeys};
    use super::super::post::CONTROL_RECORDS_MAX;
    use super::super::{Alert, Outgoing, Receive as _, Received, Transmit as _};
    use super::*;

    /// Batches of one session.
    const ROUNDS: usize = 12;
    /// Records under one key: more than a batch has, so that keys change between batches, often.
    const RECORDS_MAX: u64 = 100;

    /// A number below `end`.
    fn below(random: &mut TestRng, end: usize) -> usize {
        random.next_u32() as usize % end
    }

    /// The transmitting half of one side under random events, and what its peer should see.
    struct Session {
        sink: Pair,
        random: TestRng,
        expected: Vec<u8>,
        /// Whether a batch is half sent or was, and what was queued since.
        is_begun: bool,
        behind: Vec<u8>,
        got: Vec<u8>,
        words: u8,
        warnings: u8,
        /// KeyUpdates that the peer may still send. It sends no data, and without data more of them are a flood.
        key_changes: u32,
    }

    impl Session {
        async fn event(&mut self) {
            match below(&mut self.random, 8) {
                0..=1 => self.say().await,
                2 if self.key_changes > 0 => {
                    self.key_changes -= 1;
                    // The peer changes its key and asks for ours.
                    self.sink.far.peer.refresh_traffic_keys().unwrap();
                    let asked = self.sink.said();
                    self.sink.far.wire.try_write(&asked).unwrap();
                    tokio::task::yield_now().await;
                    let seen = once(|cx| self.sink.receive.poll_receive(cx)).await;
                    assert!(seen.is_none(), "{seen:?}");
                }
                // A warning, which changes nothing. rustls takes a few.
                3 if self.warnings < 4 => {
                    self.warnings += 1;
                    self.sink.transmit.queue_alert(Alert::USER_CANCELED).unwrap();
                }
                _ => {
                    let octets = 1 + below(&mut self.random, 8000);
                    self.sink.far.read_some(octets, &mut self.got);
                    tokio::task::yield_now().await;
                }
            }
        }

        async fn say(&mut self) {
            self.words = self.words.wrapping_add(1);
            let words = vec![self.words; 1 + below(&mut self.random, 300)];
            // A full queue takes no more words.
            if self.sink.transmit.queue(&words).is_ok() {
                if self.is_begun { &mut self.behind } else { &mut self.expected }.extend(words);
            }
        }

        /// Send a batch in pieces, and leave pieces out.
        async fn send(&mut self, batch: &mut Batch) {
            let mut plaintext: Vec<u8> = batch.plaintext().flatten().copied().collect();
            while !plaintext.is_empty() {
                let mark = 1 + below(&mut self.random, 20_000);
                if below(&mut self.random, 4) == 0 {
                    let skipped = batch.skip(mark);
                    plaintext.drain(..skipped);
                    continue;
                }
                let released = batch.release(mark);
                let piece: Vec<u8> = plaintext.drain(..released).collect();
                assert!(batch.plaintext().flatten().eq(&plaintext), "the rest stays plaintext");
                self.send_piece(batch, piece).await;
            }
        }

        async fn send_piece(&mut self, batch: &mut Batch, plaintext: Vec<u8>) {
            while once(|cx| self.sink.transmit.poll_send(cx, batch)).await.map(Result::unwrap).is_none() {
                if !self.is_begun && self.sink.transmit.is_mid_batch() {
                    self.is_begun = true;
                    self.expected.extend_from_slice(&plaintext);
                }
                self.event().await;
            }
            if !std::mem::take(&mut self.is_begun) {
                self.expected.extend_from_slice(&plaintext);
            }
            self.expected.append(&mut self.behind);
        }
    }

    async fn session(seed: u8, version: &'static rustls::SupportedProtocolVersion) {
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let changes_keys = version == &version::TLS13 && rekeys();
        let records_max = changes_keys.then_some(RECORDS_MAX);
        let mut source = pair(HandshakeRole::Client, version).await;
        source.far.peer.set_buffer_limit(None);
        let sink = narrow(HandshakeRole::Server, version, records_max).await;
        let (expected, behind, got) = (Vec::new(), Vec::new(), Vec::new());
        let mut session = Session {
            sink,
            random,
            expected,
            is_begun: false,
            behind,
            got,
            words: 0,
            warnings: 0,
            key_changes: if changes_keys { CONTROL_RECORDS_MAX } else { 0 },
        };
        for round in 0..ROUNDS {
            for _ in 0..=below(&mut session.random, 40) {
                let octets = 1 + below(&mut session.random, 2000);
                source.far.peer.writer().write_all(&vec![round as u8 | 0x80; octets]).unwrap();
            }
            let wire = source.said();
            assert_eq!(source.far.wire.try_write(&wire).unwrap(), wire.len());
            session.event().await;
            assert_eq!(poll_fn(|cx| source.receive.poll_receive(cx)).await.unwrap(), Received::Data);
            session.send(source.receive.batch()).await;
        }
        while once(|cx| session.sink.transmit.poll_flush(cx)).await.map(Result::unwrap).is_none() {
            session.sink.far.read_some(8000, &mut session.got);
            tokio::task::yield_now().await;
        }
        let missing = session.expected.len() - session.got.len();
        let rest = session.sink.far.read(missing).await;
        session.got.extend(rest);
        assert!(session.got == session.expected, "seed {seed}, {version:?}: other octets, or another order");
    }

    #[tokio::test]
    async fn whatever_is_said_while_records_go_out_in_parts_the_peer_opens_all_of_it_in_order() {
        for (seed, version) in (0..24).flat_map(|seed| VERSIONS.map(|version| (seed, version))) {
            session(seed, version).await;
        }
    }

    #[tokio::test]
    async fn nothing_is_said_behind_a_batch_that_was_half_sent_and_given_up() {
        let mut source = pair(HandshakeRole::Client, &version::TLS13).await;
        let mut sink = narrow(HandshakeRole::Server, &version::TLS13, None).await;
        source.far.peer.writer().write_all(&[1; 60_000]).unwrap();
        let wire = source.said();
        source.far.wire.try_write(&wire).unwrap();
        while !sink.transmit.is_mid_batch() {
            poll_fn(|cx| source.receive.poll_receive(cx)).await.unwrap();
            let batch = source.receive.batch();
            batch.release(usize::MAX);
            let _ = once(|cx| sink.transmit.poll_send(cx, batch)).await;
        }
        drop(source);
        sink.transmit.queue_alert(Alert::CLOSE_NOTIFY).unwrap();
        let Outgoing::User(_) = sink.transmit else { return };
        let flushed = poll_fn(|cx| sink.transmit.poll_flush(cx)).await;
        assert!(matches!(flushed, Err(LayerFault::Unfinished)), "{flushed:?}");
    }
}
