//! Batches that go on in pieces, and octets of our own.

use super::*;
use crate::layer::far::narrow;

/// A source that has received `octets`, and a sink.
async fn received(
    octets: &[u8],
    from: &'static SupportedProtocolVersion,
    to: &'static SupportedProtocolVersion,
) -> (Pair, Pair) {
    let (mut source, sink) = (pair(HandshakeRole::Client, from).await, pair(HandshakeRole::Server, to).await);
    source.far.peer.set_buffer_limit(None);
    source.far.peer.writer().write_all(octets).unwrap();
    let wire = source.said();
    source.far.wire.write_all(&wire).await.unwrap();
    // All of it is there before the first read.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert_eq!(poll_fn(|cx| source.receive.poll_receive(cx)).await.unwrap(), Received::Data);
    assert_eq!(source.receive.batch().octets(), octets.len() as u64);
    (source, sink)
}

fn rest(batch: &Batch) -> Vec<u8> {
    batch.plaintext().flatten().copied().collect()
}

/// Whether the peer has anything more to read.
async fn is_silent(sink: &mut Pair) -> bool {
    poll_fn(|cx| sink.transmit.poll_flush(cx)).await.unwrap();
    let mut more = Vec::new();
    tokio::task::yield_now().await;
    sink.far.read_some(100_000, &mut more);
    more.is_empty()
}

#[tokio::test]
async fn only_what_is_released_goes_on_and_a_record_is_cut_where_the_mark_stands() {
    // Two records, the second one short.
    let octets = body(20_000);
    for (from, to) in VERSIONS.into_iter().flat_map(|from| VERSIONS.map(|to| (from, to))) {
        for mark in [1, 16_383, 16_384, 16_385, 19_999] {
            let (mut source, mut sink) = received(&octets, from, to).await;
            let batch = source.receive.batch();
            poll_fn(|cx| sink.transmit.poll_send(cx, batch)).await.unwrap();
            assert!(is_silent(&mut sink).await, "nothing was released");
            assert_eq!(batch.release(mark), mark);
            poll_fn(|cx| sink.transmit.poll_send(cx, batch)).await.unwrap();
            assert!(sink.peer_reads(mark).await == octets[..mark], "{from:?} to {to:?}, mark {mark}");
            assert!(is_silent(&mut sink).await, "{from:?} to {to:?}, mark {mark}");
            assert!(rest(batch) == octets[mark..], "the rest stays plaintext");
            assert_eq!(batch.release(usize::MAX), octets.len() - mark);
            poll_fn(|cx| sink.transmit.poll_send(cx, batch)).await.unwrap();
            assert!(sink.peer_reads(octets.len() - mark).await == octets[mark..], "{from:?} to {to:?}");
            assert_eq!(batch.octets(), 0);
        }
    }
}

#[tokio::test]
async fn octets_are_left_out_at_the_front_in_the_middle_and_at_the_end() {
    let octets = body(20_000);
    for (from, to) in VERSIONS.into_iter().flat_map(|from| VERSIONS.map(|to| (from, to))) {
        let (mut source, mut sink) = received(&octets, from, to).await;
        let batch = source.receive.batch();
        assert_eq!(batch.skip(10), 10);
        assert_eq!(batch.release(90), 90);
        assert_eq!(batch.skip(16_900), 16_900);
        assert_eq!(batch.release(1_000), 1_000);
        assert_eq!(batch.skip(usize::MAX), 2_000);
        assert_eq!((batch.release(1), batch.skip(1)), (0, 0), "nothing is left");
        poll_fn(|cx| sink.transmit.poll_send(cx, batch)).await.unwrap();
        let expected = [&octets[10..100], &octets[17_000..18_000]].concat();
        assert!(sink.peer_reads(1_090).await == expected, "{from:?} to {to:?}");
        assert!(is_silent(&mut sink).await);
    }
}

#[tokio::test]
async fn pieces_that_go_on_together_are_bounded_and_the_rest_follows() {
    let octets = body(1_000);
    for version in VERSIONS {
        let (mut source, mut sink) = received(&octets, version, version).await;
        let batch = source.receive.batch();
        let mut expected = Vec::new();
        for (at, octet) in octets.iter().enumerate() {
            // Every second octet is left out, so that none of the pieces stand together.
            if at % 2 == 1 {
                assert_eq!(batch.skip(1), 1);
                continue;
            }
            if batch.release(1) == 0 {
                assert_eq!(expected.len() % 64, 0);
                poll_fn(|cx| sink.transmit.poll_send(cx, batch)).await.unwrap();
                assert_eq!(batch.release(1), 1);
            }
            expected.push(*octet);
        }
        poll_fn(|cx| sink.transmit.poll_send(cx, batch)).await.unwrap();
        assert_eq!(sink.peer_reads(500).await, expected);
    }
}

#[tokio::test]
async fn while_a_piece_is_half_sent_nothing_joins_it() {
    for version in VERSIONS {
        let octets = body(64 * 1024);
        let mut sink = narrow(HandshakeRole::Server, version, None).await;
        let mut batch = Batch::default();
        poll_fn(|cx| sink.pool.poll_lend(&mut batch, cx)).await;
        assert_eq!(batch.append(|room| fill(room, &octets)), octets.len());
        assert_eq!(batch.release(60_000), 60_000);
        assert!(once(|cx| sink.transmit.poll_send(cx, &mut batch)).await.is_none());
        assert!(sink.transmit.is_mid_batch());
        assert_eq!(batch.release(usize::MAX), 0);
        let mut got = Vec::new();
        while once(|cx| sink.transmit.poll_send(cx, &mut batch)).await.map(Result::unwrap).is_none() {
            sink.far.read_some(4_000, &mut got);
            tokio::task::yield_now().await;
        }
        got.extend(sink.peer_reads(60_000 - got.len()).await);
        assert!(got == octets[..60_000]);
        assert!(rest(&batch) == octets[60_000..], "{version:?}");
    }
}

/// Copy as much as there is room for.
fn fill(room: &mut [u8], octets: &[u8]) -> usize {
    let count = room.len().min(octets.len());
    room[..count].copy_from_slice(&octets[..count]);
    count
}

#[tokio::test]
async fn a_lent_batch_takes_four_full_records_of_our_own_in_any_pieces() {
    let octets = body(70_000);
    for version in VERSIONS {
        for piece in [1_000, 16_384, 30_000, 70_000] {
            let mut sink = pair(HandshakeRole::Server, version).await;
            let mut left = &octets[..];
            while !left.is_empty() {
                let mut batch = Batch::default();
                poll_fn(|cx| sink.pool.poll_lend(&mut batch, cx)).await;
                let mut taken = 0;
                loop {
                    let part = &left[taken..left.len().min(taken + piece)];
                    match batch.append(|room| fill(room, part)) {
                        0 => break,
                        count => taken += count,
                    }
                }
                assert_eq!(taken, left.len().min(64 * 1024), "what one batch takes");
                let records: Vec<_> = batch.plaintext().map(<[u8]>::len).collect();
                let (_, full) = records.split_last().unwrap();
                assert!(full.iter().all(|octets| *octets == PLAINTEXT_BYTES_MAX), "{records:?}");
                batch.release(usize::MAX);
                poll_fn(|cx| sink.transmit.poll_send(cx, &mut batch)).await.unwrap();
                assert!(sink.peer_reads(taken).await == left[..taken], "{version:?} by {piece}");
                left = &left[taken..];
            }
            assert_eq!(sink.pool.free(), 1, "a batch that is dropped gives its buffer back");
        }
    }
}

#[tokio::test]
async fn octets_of_our_own_wait_for_a_buffer_as_received_ones_do_or_go_without_one() {
    for version in VERSIONS {
        let pool = Pool::default();
        pool.limit(1);
        let mut source = sharing(&pool, HandshakeRole::Client, version, None).await;
        source.far.peer.writer().write_all(b"octets").unwrap();
        let wire = source.said();
        source.far.wire.write_all(&wire).await.unwrap();
        assert_eq!(source.take(6).await.0, b"octets");
        // The source holds the only buffer.
        let (mut own, mut other) = (Batch::default(), Batch::default());
        assert_eq!(
            source.receive.batch().append(|room| room.len()),
            0,
            "what was received is not written over"
        );
        assert!(once(|cx| pool.poll_lend(&mut own, cx)).await.is_none());
        assert!(!pool.lend_now(&mut other));
        assert_eq!(own.append(|room| room.len()), 0, "there is no room yet");
        source.receive.batch().rest();
        assert!(!pool.lend_now(&mut other), "the first in line goes first");
        assert!(once(|cx| pool.poll_lend(&mut own, cx)).await.is_some());
        assert!(own.append(|room| room.len()) > 0);
        drop(own);
        assert!(pool.lend_now(&mut other));
    }
}
