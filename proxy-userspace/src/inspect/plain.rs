//! The engine of `inspect = "none"`: everything passes as it comes.
//!
//! It refuses HTTP inside TLS, so that a browser cannot be made to speak to a mail server (ALPACA). It holds no octet
//! back: a request that is refused at its first slash has told a mail server nothing. And it remembers whether the server
//! said goodbye.

use std::task::{Context, Poll};
use std::time::Instant;

use super::{Engine, InspectRefusal, Next, Want};
use crate::layer::{Batch, StreamEnd};
use crate::words::Side;

/// Passes everything on, but for HTTP.
#[derive(Debug, Default)]
pub struct Plain {
    first: FirstOctets,
    last: LastLines,
    /// Octets of the batch that was taken last from the client, which go on.
    to_server: usize,
    /// The same of the server's.
    to_client: usize,
    /// Whether octets of the server were passed on.
    served: bool,
}

impl Plain {
    const fn passing(&mut self, to: Side) -> &mut usize {
        match to {
            Side::Downstream => &mut self.to_client,
            Side::Upstream => &mut self.to_server,
        }
    }
}

impl Engine for Plain {
    fn take(&mut self, from: Side, batch: &Batch) -> Result<(), InspectRefusal> {
        match from {
            Side::Downstream if self.first.is_done() => {}
            Side::Downstream => batch.plaintext().try_for_each(|octets| self.first.push(octets))?,
            Side::Upstream => batch.plaintext().for_each(|octets| self.last.push(octets)),
        }
        *self.passing(from.other()) = batch.plaintext().map(<[u8]>::len).sum();
        Ok(())
    }

    fn next(&mut self, to: Side) -> Next {
        match std::mem::take(self.passing(to)) {
            0 => Next::Nothing,
            octets => {
                self.served |= to == Side::Downstream;
                Next::Pass(octets)
            }
        }
    }

    fn fill(&mut self, _: Side, _: &mut [u8]) -> usize {
        0
    }

    fn wants(&self, from: Side) -> Want {
        match from {
            Side::Downstream if !self.first.is_done() => Want::Octets,
            Side::Downstream | Side::Upstream => Want::Unseen,
        }
    }

    fn ended(&mut self, _: Side, _: StreamEnd) -> Result<(), InspectRefusal> {
        Ok(())
    }

    fn is_drained(&self, _: Side) -> bool {
        true
    }

    fn is_announced(&self, from: Side) -> bool {
        from == Side::Upstream && self.last.bye
    }

    /// This engine does not know where responses end. Before the first one it does.
    fn is_at_boundary(&self, to: Side) -> bool {
        to == Side::Downstream && !self.served
    }

    fn poll_event(&mut self, _: &mut Context<'_>) -> Poll<Result<(), InspectRefusal>> {
        Poll::Pending
    }

    fn wake_at(&self) -> Option<Instant> {
        None
    }

    fn tick(&mut self, _: Instant) -> Result<(), InspectRefusal> {
        Ok(())
    }
}

/// Beginnings of HTTP requests. No IMAP command begins so: a command stands behind the tag and consists of letters
/// (RFC 9051 section 9, `command`).
const HTTP_REQUESTS: [&[u8]; 9] = [
    b"GET /",
    b"POST /",
    b"HEAD /",
    b"PUT /",
    b"DELETE /",
    b"OPTIONS /",
    b"PATCH /",
    b"TRACE /",
    b"PRI * HTTP",
];
/// Octets of the longest entry of [`HTTP_REQUESTS`].
const FIRST_BYTES_MAX: usize = 10;

/// Refuses a client whose first octets are an HTTP request.
#[derive(Debug, Default)]
pub(super) struct FirstOctets {
    seen: [u8; FIRST_BYTES_MAX],
    count: usize,
}

impl FirstOctets {
    /// Whether no later octet matters.
    const fn is_done(&self) -> bool {
        self.count == FIRST_BYTES_MAX
    }

    pub(super) fn push(&mut self, octets: &[u8]) -> Result<(), InspectRefusal> {
        for (slot, octet) in self.seen.iter_mut().skip(self.count).zip(octets) {
            *slot = *octet;
            self.count += 1;
        }
        let seen = self.seen.get(..self.count).unwrap_or_default();
        if HTTP_REQUESTS.iter().any(|request| seen.starts_with(request)) {
            Err(InspectRefusal::Http)
        } else {
            Ok(())
        }
    }
}

/// The last octets of a record in which `* BYE` is searched: two lines of the length that servers write.
const LAST_BYTES_MAX: usize = 512;

/// Remembers whether the server's last line is `* BYE` (RFC 9051 section 7.1.5), or `* BYE` and the answer to LOGOUT. A
/// server that then leaves without `close_notify` has said goodbye in IMAP. Lines are not told from literals: mail that
/// contains such a line, and is cut just behind it, passes for a goodbye.
#[derive(Debug, Default)]
struct LastLines {
    bye: bool,
}

impl LastLines {
    fn push(&mut self, record: &[u8]) {
        let is_short = record.len() <= LAST_BYTES_MAX;
        let tail = record.get(record.len().saturating_sub(LAST_BYTES_MAX)..).unwrap_or_default();
        // The tail of a longer record begins inside a line.
        let mut lines = tail.split(|octet| *octet == b'\n').skip(usize::from(!is_short));
        let is_bye = |line: &[u8]| line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"* BYE"));
        self.bye = record.ends_with(b"\r\n") && (lines.any(is_bye) || (self.bye && is_short));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_refused_however_it_is_split() {
        for request in ["GET / HTTP/1.1\r\n", "OPTIONS /x HTTP/1.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            for at in 0..request.len() {
                let mut guard = FirstOctets::default();
                let (first, second) = request.as_bytes().split_at(at);
                assert!(guard.push(first).and(guard.push(second)).is_err(), "{request:?} split at {at}");
            }
        }
    }

    #[test]
    fn imap_passes_even_with_an_odd_tag() {
        for line in ["GET LOGIN a b\r\n", "a1 CAPABILITY\r\n", "PRI NOOP\r\n", "post noop\r\n"] {
            let mut guard = FirstOctets::default();
            assert_eq!(
                line.as_bytes().iter().try_for_each(|octet| guard.push(&[*octet])),
                Ok(()),
                "{line:?}"
            );
        }
    }

    #[test]
    fn later_text_is_not_a_request() {
        let mut guard = FirstOctets::default();
        assert_eq!(guard.push(b"a NOOP\r\nGET / HTTP/1.1\r\n"), Ok(()));
        assert_eq!(guard.push(b"GET / HTTP/1.1\r\n"), Ok(()));
    }

    #[test]
    fn everything_passes_and_only_a_clients_first_octets_are_looked_at() {
        let mut engine = Plain::default();
        assert!(engine.is_at_boundary(Side::Downstream));
        assert_eq!(engine.wants(Side::Downstream), Want::Octets);
        assert_eq!(engine.take(Side::Downstream, &Batch::of(&[b"a", b"1 NOO"])), Ok(()));
        assert_eq!(
            (engine.next(Side::Upstream), engine.next(Side::Upstream)),
            (Next::Pass(6), Next::Nothing)
        );
        assert_eq!(engine.wants(Side::Downstream), Want::Octets);
        assert_eq!(engine.take(Side::Downstream, &Batch::of(&[b"P\r\n!"])), Ok(()));
        assert_eq!(engine.wants(Side::Downstream), Want::Unseen);
        assert_eq!(engine.wants(Side::Upstream), Want::Unseen);
        assert!(engine.is_at_boundary(Side::Downstream), "the server has said nothing");
        assert_eq!(engine.take(Side::Upstream, &Batch::of(&[b"* BYE bye\r\n"])), Ok(()));
        assert_eq!(engine.next(Side::Downstream), Next::Pass(11));
        assert!(engine.is_announced(Side::Upstream) && !engine.is_announced(Side::Downstream));
        assert!(!engine.is_at_boundary(Side::Downstream));
        let mut engine = Plain::default();
        assert_eq!(engine.take(Side::Downstream, &Batch::of(&[b"GET /"])), Err(InspectRefusal::Http));
    }

    fn announced(records: &[&[u8]]) -> bool {
        let mut last = LastLines::default();
        records.iter().for_each(|record| last.push(record));
        last.bye
    }

    #[test]
    fn a_goodbye_is_the_last_that_a_server_says() {
        let long = [&[b'x'; 20_000][..], b"\r\n* BYE bye\r\na OK done\r\n"].concat();
        for said in [
            &[&b"* BYE bye\r\na OK done\r\n"[..]][..],
            &[b"* OK hi\r\n", b"* bye autologout\r\n"],
            &[b"* BYE bye\r\n", b"a OK done\r\n"],
            &[&long],
        ] {
            assert!(announced(said), "{said:?}");
        }
        let mail = [&b"* BYE bye\r\n"[..], &[b'x'; 20_000], b"\r\n"].concat();
        for said in [
            &[][..],
            &[&b"* OK hi\r\n"[..]],
            &[b"* BYE bye\r\na OK do"],
            &[b"* BYE bye\r\n", b"half a line"],
            &[&mail],
            &[b"* BYE bye\r\n", &mail],
            &[b"a FETCH * BYE\r\n"],
        ] {
            assert!(!announced(said), "{said:?}");
        }
    }
}
