//! Inspection of plaintext before it goes on.
//!
//! An inspector borrows the plaintext of one direction from the buffer in which it was opened. This version has two
//! inspectors. `FirstOctets` refuses HTTP inside TLS, so that a browser cannot be made to speak to a mail server
//! (ALPACA). It holds no octet back: a request that is refused at its first slash has told a mail server nothing.
//! `LastLines` remembers whether the server said goodbye.

use crate::layer::Batch;
use crate::words::Direction;

/// Inspects every plaintext octet of one direction before it goes on.
pub trait Inspect {
    /// Inspect a batch. An error ends the session, and nothing of `batch` goes on.
    ///
    /// # Errors
    /// Why the session must end.
    fn inspect(&mut self, direction: Direction, batch: &Batch) -> Result<(), InspectRefusal>;

    /// Whether this direction needs no more inspection. Its octets may then be spliced.
    fn is_done(&self, direction: Direction) -> bool;

    /// Whether the sender has announced its end. A stream that then ends without `close_notify` is complete.
    fn is_announced(&self) -> bool {
        false
    }
}

/// Why an inspector ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectRefusal {
    /// The client speaks HTTP.
    #[error("the client sent an HTTP request on an IMAP port")]
    Http,
}

impl InspectRefusal {
    /// The token in records.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Http => "http_request",
        }
    }

    /// What the client is told.
    #[must_use]
    pub const fn told(self) -> &'static str {
        match self {
            Self::Http => "this is an IMAP port",
        }
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
pub struct FirstOctets {
    seen: [u8; FIRST_BYTES_MAX],
    count: usize,
}

impl Inspect for FirstOctets {
    fn inspect(&mut self, direction: Direction, batch: &Batch) -> Result<(), InspectRefusal> {
        if direction == Direction::ServerToClient || self.count == FIRST_BYTES_MAX {
            return Ok(());
        }
        batch.plaintext().try_for_each(|octets| self.push(octets))
    }

    fn is_done(&self, direction: Direction) -> bool {
        direction == Direction::ServerToClient || self.count == FIRST_BYTES_MAX
    }
}

impl FirstOctets {
    fn push(&mut self, octets: &[u8]) -> Result<(), InspectRefusal> {
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
/// server that then leaves without `close_notify` has said goodbye in IMAP. This inspector does not tell lines from
/// literals: mail that contains such a line, and is cut just behind it, passes for a goodbye. It refuses nothing.
#[derive(Debug, Default)]
pub struct LastLines {
    bye: bool,
}

impl Inspect for LastLines {
    fn inspect(&mut self, _: Direction, batch: &Batch) -> Result<(), InspectRefusal> {
        batch.plaintext().for_each(|octets| self.push(octets));
        Ok(())
    }

    fn is_done(&self, _: Direction) -> bool {
        true
    }

    fn is_announced(&self) -> bool {
        self.bye
    }
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

    fn announced(records: &[&[u8]]) -> bool {
        let mut last = LastLines::default();
        records.iter().for_each(|record| last.push(record));
        last.is_announced()
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
