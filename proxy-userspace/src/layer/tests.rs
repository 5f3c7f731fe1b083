//! The layer against rustls as its peer, over a real socket.

use std::future::poll_fn;
use std::io::Write as _;

use rustls::{SupportedProtocolVersion, version};
use tokio::io::AsyncWriteExt;

use super::aead::{ContentType, Sealer};
use super::far::{
    Far, Pair, ROLES, VERSIONS, in_kernel, limited, once, pair, rekeys, sharing, sockets, spend_turn,
};
use super::handshaken::{HandshakeRole, handshaken};
use super::measure::{Comparison, Measurement, Spent};
use super::offload::{Abilities, Cipher, OffloadTerms};
use super::*;
use crate::config::Offload;
use crate::relay::Meter;
use crate::relay::splice::{self, Pipes};
use crate::words::Direction;

/// Batches that go on in pieces, and octets of our own.
mod pieces;

/// The bound, on a loaded machine, on what takes no time elsewhere.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

fn body(octets: usize) -> Vec<u8> {
    (0..octets).map(|at| (at % 251) as u8).collect()
}

/// Records of one octet and more, a key change where the version has one, and a goodbye.
fn speech(pair: &mut Pair, version: &SupportedProtocolVersion) -> Vec<u8> {
    pair.far.peer.writer().write_all(b"one").unwrap();
    let mut octets = pair.said();
    if version == &version::TLS13 && rekeys() {
        pair.far.peer.refresh_traffic_keys().unwrap();
    }
    pair.far.peer.writer().write_all(b"t").unwrap();
    octets.extend(pair.said());
    pair.far.peer.writer().write_all(b"wo and three").unwrap();
    pair.far.peer.send_close_notify();
    octets.extend(pair.said());
    octets
}

#[tokio::test]
async fn records_arrive_whole_however_the_wire_splits_them() {
    for (role, version) in ROLES.into_iter().flat_map(|role| VERSIONS.map(|version| (role, version))) {
        let mut at = 0;
        loop {
            let mut pair = pair(role, version).await;
            let octets = speech(&mut pair, version);
            let Some((first, second)) = octets.split_at_checked(at) else { break };
            pair.far.wire.write_all(first).await.unwrap();
            let pause = std::time::Duration::from_millis(1);
            let early = tokio::time::timeout(pause, pair.take(usize::MAX)).await;
            let (got, end) = match early {
                Ok(ended) => ended,
                Err(_) => {
                    pair.far.wire.write_all(second).await.unwrap();
                    pair.take(usize::MAX).await
                }
            };
            assert_eq!(got, b"onetwo and three", "{role:?} {version:?} split at {at}");
            assert!(
                matches!(end, Some(Ok(Received::End(StreamEnd::Closed)))),
                "{role:?} {version:?} split at {at}: {end:?}"
            );
            at += 1;
        }
        assert!(at > 100, "{at}");
    }
}

#[tokio::test]
async fn what_was_received_goes_out_again_from_the_same_buffer() {
    let octets = body(700_000);
    for (from, to) in VERSIONS.into_iter().flat_map(|from| VERSIONS.map(|to| (from, to))) {
        let mut source = pair(HandshakeRole::Client, from).await;
        let sink = pair(HandshakeRole::Server, to).await;
        source.far.peer.set_buffer_limit(None);
        source.far.peer.writer().write_all(&octets).unwrap();
        let wire = source.said();
        let feed = async { source.far.wire.write_all(&wire).await.unwrap() };
        let mut receive = source.receive;
        let (mut transmit, mut peer) = (sink.transmit, sink.far);
        let relay = async {
            let mut left = octets.len() as u64;
            while left > 0 {
                assert_eq!(poll_fn(|cx| receive.poll_receive(cx)).await.unwrap(), Received::Data);
                let batch = receive.batch();
                left -= batch.release(usize::MAX) as u64;
                poll_fn(|cx| transmit.poll_send(cx, batch)).await.unwrap();
                assert_eq!(batch.plaintext().count(), 0, "ciphertext must not be read as mail");
            }
            receive
        };
        let (got, mut receive, ()) = tokio::join!(peer.read(octets.len()), relay, feed);
        assert!(got == octets, "{from:?} to {to:?}");
        // Idle again: nothing is held.
        let idle = std::time::Duration::from_millis(5);
        assert!(tokio::time::timeout(idle, poll_fn(|cx| receive.poll_receive(cx))).await.is_err());
        assert_eq!(source.pool.free(), 1, "an idle half owns no buffer");
    }
}

#[tokio::test]
async fn who_finds_no_buffer_left_waits_until_one_comes_back() {
    for version in VERSIONS {
        let pool = Pool::default();
        pool.limit(1);
        let mut first = sharing(&pool, HandshakeRole::Client, version, None).await;
        let mut second = sharing(&pool, HandshakeRole::Server, version, None).await;
        for pair in [&mut first, &mut second] {
            pair.far.peer.writer().write_all(b"octets").unwrap();
            let wire = pair.said();
            pair.far.wire.write_all(&wire).await.unwrap();
        }
        assert_eq!(first.take(6).await.0, b"octets");
        // The first direction still holds its buffer, whose octets were not sent yet.
        let while_held = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(while_held, second.take(6)).await.is_err());
        let (_, got) = tokio::join!(tokio::time::timeout(while_held, first.take(6)), second.take(6));
        assert_eq!(got.0, b"octets");
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_whose_peer_does_not_read_gives_its_buffer_up_when_others_wait() {
    for version in VERSIONS {
        let pool = Pool::default();
        pool.limit(1);
        let mut source = sharing(&pool, HandshakeRole::Client, version, None).await;
        let mut sink = sharing(&pool, HandshakeRole::Server, version, None).await;
        let mut other = sharing(&pool, HandshakeRole::Client, version, None).await;
        source.far.peer.set_buffer_limit(None);
        // More than the kernel holds for a peer that never reads.
        source.far.peer.writer().write_all(&body(32 << 20)).unwrap();
        let wire = source.said();
        let feed = async {
            let _ended = source.far.wire.write_all(&wire).await;
            std::future::pending::<()>().await;
        };
        let stuck = async {
            loop {
                assert_eq!(poll_fn(|cx| source.receive.poll_receive(cx)).await.unwrap(), Received::Data);
                let batch = source.receive.batch();
                batch.release(usize::MAX);
                if let Err(fault) = poll_fn(|cx| sink.transmit.poll_send(cx, batch)).await {
                    drop(source.receive);
                    return fault;
                }
            }
        };
        let waits = async {
            other.far.peer.writer().write_all(b"octets").unwrap();
            let wire = other.said();
            other.far.wire.write_all(&wire).await.unwrap();
            // Wait until the other two are stuck.
            tokio::time::sleep(std::time::Duration::from_secs(60)).await;
            other.take(6).await.0
        };
        let over = async { tokio::join!(stuck, waits) };
        tokio::select! {
            (fault, got) = over => {
                assert!(matches!(fault, LayerFault::MemoryShortage), "{fault}");
                assert_eq!(got, b"octets");
            }
            () = feed => {}
            () = pool.relieve() => {}
        }
    }
}

#[tokio::test]
async fn a_key_update_changes_keys_as_often_as_it_comes() {
    for role in ROLES {
        let mut pair = pair(role, &version::TLS13).await;
        for round in 0..5_u8 {
            pair.far.peer.refresh_traffic_keys().unwrap();
            pair.far.peer.writer().write_all(&[round; 3]).unwrap();
            let wire = pair.said();
            pair.far.wire.write_all(&wire).await.unwrap();
            if !rekeys() {
                // No stall, and a reason.
                assert!(matches!(pair.end().await, Err(LayerFault::NoKeyChange)));
                break;
            }
            assert_eq!(pair.take(3).await.0, [round; 3]);
            pair.transmit.queue(b"answer").unwrap();
            poll_fn(|cx| pair.transmit.poll_flush(cx)).await.unwrap();
            assert_eq!(pair.peer_reads(6).await, b"answer");
        }
    }
}

#[tokio::test]
async fn a_flood_of_key_updates_or_empty_records_ends_the_session() {
    let mut pair = pair(HandshakeRole::Server, &version::TLS13).await;
    for _ in 0..40 {
        pair.far.peer.refresh_traffic_keys().unwrap();
    }
    let wire = pair.said();
    pair.far.wire.write_all(&wire).await.unwrap();
    let end = pair.end().await;
    assert!(matches!(end, Err(LayerFault::ControlFlood)) || !rekeys(), "{end:?}");
    assert!(matches!(end, Err(LayerFault::NoKeyChange)) || rekeys(), "{end:?}");
}

#[tokio::test]
async fn the_key_is_changed_before_its_limit_and_nothing_is_lost() {
    let mut pair = limited(HandshakeRole::Server, &version::TLS13, Some(20)).await;
    for round in 0..100_u8 {
        pair.transmit.queue(&[round]).unwrap();
        let flushed = poll_fn(|cx| pair.transmit.poll_flush(cx)).await;
        if !rekeys() && round > 5 && flushed.is_err() {
            assert!(matches!(flushed, Err(LayerFault::NoKeyChange)), "{flushed:?}");
            return;
        }
        flushed.unwrap();
        assert_eq!(pair.peer_reads(1).await, [round]);
    }
}

#[tokio::test]
async fn tls_1_2_ends_before_its_limit_while_it_can_still_say_so() {
    let mut pair = limited(HandshakeRole::Server, &version::TLS12, Some(20)).await;
    let mut sent = 0;
    let fault = loop {
        if let Err(fault) = pair.transmit.queue(b"x") {
            break fault;
        }
        match poll_fn(|cx| pair.transmit.poll_flush(cx)).await {
            Ok(()) => sent += 1,
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, LayerFault::ConfidentialityLimit), "{fault}");
    assert!(sent > 5);
    poll_fn(|cx| pair.transmit.poll_end(cx, StreamEnd::Closed)).await.unwrap();
}

#[tokio::test]
async fn a_forged_octet_is_bad_record_and_what_came_before_it_arrives() {
    for version in VERSIONS {
        let mut pair = pair(HandshakeRole::Client, version).await;
        pair.far.peer.writer().write_all(b"good").unwrap();
        let mut wire = pair.said();
        pair.far.peer.writer().write_all(b"evil").unwrap();
        let mut forged = pair.said();
        *forged.last_mut().unwrap() ^= 1;
        wire.extend(forged);
        pair.far.wire.write_all(&wire).await.unwrap();
        let (got, end) = pair.take(usize::MAX).await;
        assert_eq!(got, b"good");
        assert!(matches!(end, Some(Err(LayerFault::BadRecord))), "{end:?}");
    }
}

#[tokio::test]
async fn a_fatal_alert_is_the_peers_end_and_has_a_name() {
    for (role, version) in ROLES.into_iter().flat_map(|role| VERSIONS.map(|version| (role, version))) {
        let mut pair = pair(role, version).await;
        // A record that rustls cannot decrypt makes it send an alert.
        pair.far.peer.read_tls(&mut &[[23, 3, 3, 0, 40].as_slice(), &[0; 40]].concat()[..]).unwrap();
        pair.far.peer.process_new_packets().unwrap_err();
        let wire = pair.said();
        pair.far.wire.write_all(&wire).await.unwrap();
        let end = pair.end().await;
        assert!(matches!(end, Err(LayerFault::PeerAlert(Alert::BAD_RECORD_MAC))), "{version:?} {end:?}");
    }
}

#[tokio::test]
async fn the_end_of_the_wire_is_truncation_unless_the_peer_said_goodbye() {
    for version in VERSIONS {
        let mut silent = pair(HandshakeRole::Client, version).await;
        silent.far.wire.shutdown().await.unwrap();
        assert_eq!(silent.end().await.unwrap(), Received::End(StreamEnd::Truncated));

        let mut polite = pair(HandshakeRole::Client, version).await;
        polite.far.peer.send_close_notify();
        let wire = polite.said();
        polite.far.wire.write_all(&wire).await.unwrap();
        assert_eq!(polite.end().await.unwrap(), Received::End(StreamEnd::Closed));

        let mut cut = pair(HandshakeRole::Client, version).await;
        cut.far.peer.writer().write_all(b"half a record").unwrap();
        let wire = cut.said();
        cut.far.wire.write_all(&wire[..wire.len() - 1]).await.unwrap();
        cut.far.wire.shutdown().await.unwrap();
        assert_eq!(cut.end().await.unwrap(), Received::End(StreamEnd::Truncated));
    }
}

#[tokio::test]
async fn lengths_and_types_that_tls_does_not_know_are_refused_from_the_header_alone() {
    for (header, fault) in [
        ([23, 3, 3, 0xff, 0xff], "record_overflow"),
        ([23, 3, 3, 0, 1], "bad_record"),
        ([b'G', b'E', b'T', b' ', b'/'], "not_tls"),
        ([20, 3, 3, 0, 1], "unexpected_record"),
    ] {
        for version in VERSIONS {
            let mut pair = pair(HandshakeRole::Server, version).await;
            pair.far.wire.write_all(&header).await.unwrap();
            if in_kernel() {
                // The kernel also waits for the explicit nonce before it checks the record.
                pair.far.wire.write_all(&[0; 8]).await.unwrap();
            }
            // The kernel checks lengths before types.
            let fault = if in_kernel() && fault == "unexpected_record" { "bad_record" } else { fault };
            assert_eq!(pair.end().await.unwrap_err().reason(), fault, "{header:?}");
        }
    }
}

/// Handshake records with these contents, sealed with the far end's own keys; and what it said before.
fn handshake_records(pair: &mut Pair, contents: &[&[u8]]) -> Vec<u8> {
    let mut wire = pair.said();
    let unused = handshaken(HandshakeRole::Client, &version::TLS13).2;
    let peer = std::mem::replace(&mut pair.far.peer, unused);
    let version = peer.protocol_version().unwrap();
    let mut sealer = Sealer::new(version, &peer.dangerous_extract_secrets().unwrap().tx, None).unwrap();
    let mut seal = |content, octets: &[u8]| {
        let mut body = octets.to_vec();
        let seal = sealer.seal(content, &mut body).unwrap();
        wire.extend([seal.head(), &body, seal.tail()].concat());
    };
    contents.iter().for_each(|octets| seal(ContentType::Handshake, octets));
    seal(ContentType::ApplicationData, b"mail");
    wire
}

/// A NewSessionTicket that announces so many octets and has `there` of them.
fn ticket(announced: u32, there: usize) -> Vec<u8> {
    let [_, high, middle, low] = announced.to_be_bytes();
    [[4, high, middle, low].as_slice(), &body(there)].concat()
}

#[tokio::test]
async fn a_ticket_too_long_to_be_kept_is_passed_over_and_the_session_goes_on() {
    // 40 KB in three records and with a header that is cut; the longest that RFC 8446 section 4.6.1 allows.
    for octets in [40_000, 131_337] {
        let mut pair = pair(HandshakeRole::Client, &version::TLS13).await;
        let whole = ticket(octets, octets as usize);
        let (head, rest) = whole.split_at(3);
        let pieces: Vec<_> = std::iter::once(head).chain(rest.chunks(PLAINTEXT_BYTES_MAX)).collect();
        let wire = handshake_records(&mut pair, &pieces);
        pair.far.wire.write_all(&wire).await.unwrap();
        let (got, end) = pair.take(4).await;
        assert_eq!(got, b"mail", "{octets} octets: {end:?}");
    }
}

/// The kernel takes a handshake record that begins with 24 for a KeyUpdate, whatever it is a piece of.
#[tokio::test]
async fn a_piece_of_a_ticket_that_begins_like_a_key_update_is_none() {
    // All octets that may have any value are 24.
    let (lifetime, age, nonce, extensions) = ([0, 0, 0, 24], [24; 4], [1, 24], [0; 2]);
    let payload = [&lifetime[..], &age, &nonce, &[0, 24], &[24; 24], &extensions].concat();
    let ticket = [&[4, 0, 0, payload.len() as u8], &payload[..]].concat();
    for at in 1..ticket.len() {
        let mut pair = pair(HandshakeRole::Client, &version::TLS13).await;
        let (head, tail) = ticket.split_at(at);
        let wire = handshake_records(&mut pair, &[head, tail]);
        pair.far.wire.write_all(&wire).await.unwrap();
        let (got, end) = pair.take(4).await;
        assert_eq!(got, b"mail", "split at {at}: {end:?}");
    }
}

#[tokio::test]
async fn a_key_update_in_two_records_changes_the_key_behind_the_second() {
    for (role, at) in ROLES.into_iter().flat_map(|role| (1..5).map(move |at| (role, at))) {
        let mut pair = pair(role, &version::TLS13).await;
        let (head, tail) = [24, 0, 0, 1, 0].split_at(at);
        // Data under the old key follow.
        let wire = handshake_records(&mut pair, &[head, tail]);
        pair.far.wire.write_all(&wire).await.unwrap();
        let expected = if rekeys() { "bad_record" } else { "key_update_unsupported" };
        assert_eq!(pair.end().await.unwrap_err().reason(), expected, "{role:?}, split at {at}");
    }
}

#[tokio::test]
async fn under_tls_1_2_a_piece_that_begins_like_a_key_update_ends_the_session() {
    for role in ROLES {
        let mut pair = pair(role, &version::TLS12).await;
        let wire = handshake_records(&mut pair, &[&[24], &[0, 0, 0]]);
        pair.far.wire.write_all(&wire).await.unwrap();
        assert_eq!(pair.end().await.unwrap_err().reason(), "unexpected_record", "{role:?}");
    }
}

#[tokio::test]
async fn messages_that_break_tls_after_the_handshake_are_named_and_answered() {
    let key_update = |payload: &[u8]| [&[24, 0, 0, payload.len() as u8], payload].concat();
    for (what, role, message, reason, alert) in [
        (
            "KeyUpdate with 2",
            HandshakeRole::Client,
            key_update(&[2]),
            "illegal_parameter",
            Alert::ILLEGAL_PARAMETER,
        ),
        (
            "KeyUpdate with 255",
            HandshakeRole::Server,
            key_update(&[255]),
            "illegal_parameter",
            Alert::ILLEGAL_PARAMETER,
        ),
        (
            "KeyUpdate of two",
            HandshakeRole::Server,
            key_update(&[0, 0]),
            "malformed_message",
            Alert::DECODE_ERROR,
        ),
        (
            "an endless ticket",
            HandshakeRole::Client,
            ticket(131_338, 9),
            "message_too_long",
            Alert::DECODE_ERROR,
        ),
        (
            "a cut ticket",
            HandshakeRole::Client,
            ticket(40_000, 39),
            "unexpected_record",
            Alert::UNEXPECTED_MESSAGE,
        ),
    ] {
        let mut pair = pair(role, &version::TLS13).await;
        let wire = handshake_records(&mut pair, &[&message]);
        pair.far.wire.write_all(&wire).await.unwrap();
        let fault = pair.end().await.unwrap_err();
        assert_eq!(fault.reason(), reason, "{what}: {fault}");
        assert_eq!(fault.alert(), Some(alert), "{what}: {fault}");
    }
}

/// A source whose kernel receives and a sink whose kernel sends; nothing where the kernel does not.
async fn spliceable(
    from: &'static SupportedProtocolVersion,
    to: &'static SupportedProtocolVersion,
) -> Option<(Pair, Pair)> {
    if !in_kernel() {
        return None;
    }
    let (mut source, sink) = (pair(HandshakeRole::Client, from).await, pair(HandshakeRole::Server, to).await);
    // Tickets come first, and are no data.
    source.far.peer.writer().write_all(b"!").unwrap();
    let wire = source.said();
    source.far.wire.write_all(&wire).await.unwrap();
    assert_eq!(source.take(1).await.0, b"!");
    Some((source, sink))
}

#[tokio::test]
async fn exactly_so_many_octets_go_from_kernel_to_kernel_and_the_next_is_read_as_ever() {
    let octets = body(100_000);
    for (from, to) in VERSIONS.into_iter().flat_map(|from| VERSIONS.map(|to| (from, to))) {
        let Some((mut source, mut sink)) = spliceable(from, to).await else {
            assert!(
                pair(HandshakeRole::Client, from).await.receive.kernel().is_none(),
                "nothing to splice from"
            );
            continue;
        };
        source.far.peer.set_buffer_limit(None);
        source.far.peer.writer().write_all(&octets).unwrap();
        let wire = source.said();
        let (pipes, meter) = (Pipes::default(), Meter::default());
        let way = (Direction::ServerToClient, &meter);
        for exact in [1, 16_383, 16_385, 60_000] {
            let before = meter.spliced(Direction::ServerToClient);
            if before == 0 {
                source.far.wire.write_all(&wire).await.unwrap();
            }
            let (receive, transmit) = (source.receive.kernel().unwrap(), sink.transmit.kernel().unwrap());
            let moved = splice::exactly(receive, transmit, &pipes, exact, way).await.unwrap();
            assert_eq!(moved, exact, "{from:?} to {to:?}");
        }
        let moved = usize::try_from(meter.spliced(Direction::ServerToClient)).unwrap();
        assert!(sink.peer_reads(moved).await == octets[..moved], "{from:?} to {to:?}");
        let (rest, _) = source.take(octets.len() - moved).await;
        assert!(rest == octets[moved..], "what was not spliced is read, and nothing twice");
    }
}

#[tokio::test]
async fn a_goodbye_and_a_key_change_stop_a_splice_and_are_obeyed() {
    for (from, to) in VERSIONS.into_iter().flat_map(|from| VERSIONS.map(|to| (from, to))) {
        let (mut source, mut sink) = match spliceable(from, to).await {
            Some(halves) => halves,
            // Without kernel TLS the same is sent and handled, and nothing is spliced.
            None => (pair(HandshakeRole::Client, from).await, pair(HandshakeRole::Server, to).await),
        };
        let (pipes, meter) = (Pipes::default(), Meter::default());
        let octets = speech(&mut source, from);
        source.far.wire.write_all(&octets).await.unwrap();
        let end = loop {
            if let (Some(receive), Some(transmit)) = (source.receive.kernel(), sink.transmit.kernel()) {
                splice::exactly(receive, transmit, &pipes, usize::MAX, (Direction::ServerToClient, &meter))
                    .await
                    .unwrap();
            }
            match poll_fn(|cx| source.receive.poll_receive(cx)).await.unwrap() {
                Received::Data => {
                    let batch = source.receive.batch();
                    batch.release(usize::MAX);
                    poll_fn(|cx| sink.transmit.poll_send(cx, batch)).await.unwrap();
                }
                end => break end,
            }
        };
        assert_eq!(end, Received::End(StreamEnd::Closed));
        assert_eq!(sink.peer_reads(16).await, b"onetwo and three", "{from:?} to {to:?}");
        assert_eq!(meter.spliced(Direction::ServerToClient) > 0, in_kernel(), "what is spliced is counted");
    }
}

#[tokio::test]
async fn a_record_with_urgent_data_is_read_on_without_waiting_for_more() {
    for version in VERSIONS {
        let mut pair = pair(HandshakeRole::Client, version).await;
        for urgent in [0, 4, 5, 20] {
            pair.far.peer.writer().write_all(b"a line with urgent data").unwrap();
            let wire = pair.said();
            // The urgent octet is the last that this call sends; a read stops before it.
            let (until, rest) = wire.split_at(urgent + 1);
            let socket = socket2::SockRef::from(&pair.far.wire);
            assert_eq!(socket.send_out_of_band(until).unwrap(), until.len());
            assert_eq!(socket.send(rest).unwrap(), rest.len());
            let taken = tokio::time::timeout(PATIENCE, pair.take(23)).await;
            assert_eq!(taken.expect("what is there is read").0, b"a line with urgent data");
        }
        // And where it is the last octet of all.
        pair.far.peer.writer().write_all(b"done").unwrap();
        let wire = pair.said();
        assert_eq!(socket2::SockRef::from(&pair.far.wire).send_out_of_band(&wire).unwrap(), wire.len());
        let taken = tokio::time::timeout(PATIENCE, pair.take(4)).await;
        assert_eq!(taken.expect("what is there is read").0, b"done");
    }
}

#[tokio::test]
async fn a_half_that_has_had_its_turn_receives_nothing_before_the_next() {
    let mut pair = pair(HandshakeRole::Client, &version::TLS13).await;
    for round in 0..3_u8 {
        pair.far.peer.writer().write_all(&[round; 100]).unwrap();
        let wire = pair.said();
        pair.far.wire.write_all(&wire).await.unwrap();
        pair.far.wire.writable().await.unwrap();
        spend_turn().await;
        assert!(once(|cx| pair.receive.poll_receive(cx)).await.is_none(), "others wait");
        tokio::task::yield_now().await;
        assert_eq!(pair.take(100).await.0, [round; 100]);
    }
}

/// Under `auto` with figures that speak for the kernel: it is given the records where it has TLS, and where it refuses
/// the connection goes on in this process. Under `always` the refusal ends it.
#[tokio::test]
async fn a_kernel_that_refuses_loses_the_records_under_auto_and_the_connection_under_always() {
    let has_tls = Abilities::probe().absent.is_none();
    let gigabyte = |seconds| Spent { octets: 1_000_000_000, cpu: std::time::Duration::from_secs(seconds) };
    for version in VERSIONS {
        let (secrets, kernel, peer) = handshaken(HandshakeRole::Server, version);
        let cipher = Cipher::of(kernel.suite()).unwrap();
        let wins = Comparison { cipher, user: gigabyte(2), kernel: gigabyte(1) };
        let abilities =
            Abilities { suites: vec![(version.version, cipher)], rekey: true, ..Abilities::default() };
        let measurement = std::sync::Arc::new(Measurement::Taken(vec![wins]));
        let auto = OffloadTerms { abilities, measurement, ..OffloadTerms::default() };
        let (ours, wire) = sockets(None).await;
        let (receive, mut transmit) = split(ours, secrets, kernel, &Pool::default(), &auto).unwrap();
        let layer = if has_tls { "kernel" } else { "user" };
        assert_eq!((receive.layer(), transmit.layer()), (layer, layer), "{version:?}");
        let mut far = Far { peer, wire };
        transmit.queue(b"here").unwrap();
        poll_fn(|cx| transmit.poll_flush(cx)).await.unwrap();
        assert_eq!(far.read(4).await, b"here", "{version:?}");

        let always = OffloadTerms { mode: Offload::Always, ..auto.clone() };
        let (secrets, kernel, _peer) = handshaken(HandshakeRole::Server, version);
        let (ours, _theirs) = sockets(None).await;
        let refused = split(ours, secrets, kernel, &Pool::default(), &always).err();
        let refused = refused.map(|fault| fault.reason());
        assert_eq!(refused, (!has_tls).then_some("offload_refused"), "{version:?}");
    }
}

/// What an idle session costs beside the kernel's sockets: a change here is a decision.
#[test]
fn an_idle_halfs_size_is_pinned() {
    assert!(size_of::<Incoming>() <= 1024, "{}", size_of::<Incoming>());
    assert!(size_of::<Outgoing>() <= 1024, "{}", size_of::<Outgoing>());
}
