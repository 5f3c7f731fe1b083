//! Looking at the octets before they go on.
//!
//! An inspector is lent the plaintext of one direction where it was opened. In this version there is one: it refuses
//! HTTP inside TLS, so that a browser cannot be made to speak to a mail server (ALPACA). It needs no octet held back,
//! because a request that is refused at its first slash has told a mail server nothing.

use crate::layer::Batch;
use crate::words::Direction;

/// Sees every plaintext octet before it goes on.
pub trait Inspect {
    /// Look at what came; an error ends the session and nothing of `batch` goes on.
    ///
    /// # Errors
    /// What was found.
    fn look(&mut self, direction: Direction, batch: &Batch) -> Result<(), Refusal>;

    /// Whether nothing more of this direction needs a look: its octets may then go from kernel to kernel.
    fn is_done(&self, direction: Direction) -> bool;
}

/// Why an inspector ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The client speaks HTTP.
    #[error("the client sent an HTTP request on an IMAP port")]
    Http,
}

impl Refusal {
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

/// Beginnings of HTTP requests that no IMAP command can have: after the tag comes a command, and those are letters
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
/// Octets of the longest of them.
const FIRST_OCTETS_MAX: usize = 10;

/// Refuses a client whose first octets are an HTTP request.
#[derive(Debug, Default)]
pub struct FirstOctets {
    seen: [u8; FIRST_OCTETS_MAX],
    count: usize,
}

impl Inspect for FirstOctets {
    fn look(&mut self, direction: Direction, batch: &Batch) -> Result<(), Refusal> {
        if direction == Direction::ServerToClient || self.count == FIRST_OCTETS_MAX {
            return Ok(());
        }
        batch.plaintext().try_for_each(|octets| self.push(octets))
    }

    fn is_done(&self, direction: Direction) -> bool {
        direction == Direction::ServerToClient || self.count == FIRST_OCTETS_MAX
    }
}

impl FirstOctets {
    fn push(&mut self, octets: &[u8]) -> Result<(), Refusal> {
        for (slot, octet) in self.seen.iter_mut().skip(self.count).zip(octets) {
            *slot = *octet;
            self.count += 1;
        }
        let seen = self.seen.get(..self.count).unwrap_or_default();
        if HTTP_REQUESTS.iter().any(|request| seen.starts_with(request)) {
            Err(Refusal::Http)
        } else {
            Ok(())
        }
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
}
