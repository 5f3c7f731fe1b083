//! A POST by HTTP/1.1 (RFC 9112, RFC 6960 appendix A.1) and its answer, without I/O.

use httparse::{EMPTY_HEADER, Header, Response, Status, parse_chunk_size};

use super::protocol::{ANSWER_BYTES_MAX, FetchFault};
use super::url::HttpUrl;

/// Octets before the body.
const HEAD_BYTES_MAX: usize = 8 * 1_024;
/// Header fields. Those of delivery networks have some thirty.
const HEADERS_MAX: usize = 64;
/// Octets of a body in chunks: what stands between chunks is less than the same again.
const CHUNKED_BYTES_MAX: usize = 2 * ANSWER_BYTES_MAX;
/// What an answer's `Content-Type` says.
const OCSP_RESPONSE: &str = "application/ocsp-response";

/// What is sent.
pub(super) fn request(url: &HttpUrl, body: &[u8]) -> Vec<u8> {
    let (target, host, length) = (&url.target, url.authority(), body.len());
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/ocsp-request\r\n\
         Accept: {OCSP_RESPONSE}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunks,
    /// With the stream.
    Stream,
}

/// An answer, as far as it came.
#[derive(Debug, Default)]
pub(super) struct HttpAnswer {
    octets: Vec<u8>,
    /// Where the body begins, and how it ends.
    body: Option<(usize, Framing)>,
}

impl HttpAnswer {
    /// More came. The body, once it is whole.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub(super) fn push(&mut self, more: &[u8]) -> Result<Option<Vec<u8>>, FetchFault> {
        self.octets.extend_from_slice(more);
        let (start, framing) = match self.body {
            Some(body) => body,
            None => match head(&self.octets)? {
                Some(body) => *self.body.insert(body),
                None if self.octets.len() > HEAD_BYTES_MAX => return Err(FetchFault::TooLarge),
                None => return Ok(None),
            },
        };
        let body = self.octets.get(start..).unwrap_or_default();
        match framing {
            Framing::Length(length) => Ok(body.get(..length).map(<[u8]>::to_vec)),
            Framing::Chunks => chunks(body),
            Framing::Stream if body.len() > ANSWER_BYTES_MAX => Err(FetchFault::TooLarge),
            Framing::Stream => Ok(None),
        }
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`FetchFault::Malformed`] where that is no end.
    pub(super) fn end(self) -> Result<Vec<u8>, FetchFault> {
        match self.body {
            Some((start, Framing::Stream)) => Ok(self.octets.get(start..).unwrap_or_default().to_vec()),
            _ => Err(FetchFault::Malformed),
        }
    }
}

/// Reads the head, if it is whole.
fn head(octets: &[u8]) -> Result<Option<(usize, Framing)>, FetchFault> {
    let mut fields = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut fields);
    let within = octets.get(..HEAD_BYTES_MAX).unwrap_or(octets);
    let start = match response.parse(within) {
        Ok(Status::Complete(start)) => start,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(FetchFault::Malformed),
    };
    match response.code {
        Some(200) => {}
        Some(300..400) => return Err(FetchFault::Redirect),
        _ => return Err(FetchFault::Status),
    }
    let kind = only(response.headers, "Content-Type")?.unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(OCSP_RESPONSE) {
        return Err(FetchFault::Malformed);
    }
    if only(response.headers, "Content-Encoding")?.is_some() {
        return Err(FetchFault::Malformed);
    }
    let length = only(response.headers, "Content-Length")?;
    let framing = match (only(response.headers, "Transfer-Encoding")?, length) {
        (Some(coding), None) if coding.trim().eq_ignore_ascii_case("chunked") => Framing::Chunks,
        (None, Some(length)) => match parse_length(length.trim()) {
            Some(length) if length <= ANSWER_BYTES_MAX => Framing::Length(length),
            Some(_) => return Err(FetchFault::TooLarge),
            None => return Err(FetchFault::Malformed),
        },
        (None, None) => Framing::Stream,
        // Two ends, or an unknown coding (RFC 9112 section 6.1).
        _ => return Err(FetchFault::Malformed),
    };
    Ok(Some((start, framing)))
}

/// Digits and nothing else. What no machine can count is too large.
fn parse_length(text: &str) -> Option<usize> {
    let is_number = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(usize::MAX))
}

/// The value of a field that may stand there once.
fn only<'a>(fields: &[Header<'a>], name: &str) -> Result<Option<&'a str>, FetchFault> {
    let mut found = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => std::str::from_utf8(field.value).map(Some).map_err(|_| FetchFault::Malformed),
        _ => Err(FetchFault::Malformed),
    }
}

/// RFC 9112 section 7.1; what stands in a trailer is not read.
fn chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, FetchFault> {
    if rest.len() > CHUNKED_BYTES_MAX {
        return Err(FetchFault::TooLarge);
    }
    let mut body = Vec::new();
    loop {
        let (skip, size) = match parse_chunk_size(rest) {
            Ok(Status::Complete(read)) => read,
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err(FetchFault::Malformed),
        };
        if size == 0 {
            return Ok(Some(body));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if body.len().saturating_add(size) > ANSWER_BYTES_MAX {
            return Err(FetchFault::TooLarge);
        }
        let Some((chunk, behind)) = rest.get(skip..).and_then(|rest| rest.split_at_checked(size)) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        rest = match behind {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(FetchFault::Malformed),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What becomes of these octets and then the stream's end, when they come in two pieces.
    fn read(octets: &[u8], cut: usize) -> Result<Vec<u8>, FetchFault> {
        let mut answer = HttpAnswer::default();
        let (first, second) = octets.split_at(cut);
        for piece in [first, second] {
            if let Some(body) = answer.push(piece)? {
                return Ok(body);
            }
        }
        answer.end()
    }

    fn answer(head: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n{head}\r\n{body}").into_bytes()
    }

    #[test]
    fn an_answer_is_the_same_however_it_is_cut_and_no_prefix_of_it_is_one() {
        for whole in [
            answer("Content-Length: 5\r\n", "hello"),
            answer("transfer-encoding: chunked\r\n", "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n"),
            answer("Content-Length: 5\r\n", "hello")
                .iter()
                .copied()
                .filter(|octet| *octet != b'\r')
                .collect(),
        ] {
            for cut in 0..=whole.len() {
                assert_eq!(read(&whole, cut), Ok(b"hello".to_vec()), "{cut}");
            }
            for length in 0..whole.len() {
                let told = read(&whole[..length], length / 2);
                // The last chunk is there before its line's end.
                assert!(
                    told == Err(FetchFault::Malformed) || told == Ok(b"hello".to_vec()),
                    "{length}: {told:?}"
                );
            }
        }
        let to_the_end = answer("", "hello");
        for cut in 0..=to_the_end.len() {
            assert_eq!(read(&to_the_end, cut), Ok(b"hello".to_vec()));
        }
        assert_eq!(read(&answer("Content-Length: 0\r\n", ""), 3), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_answer_is_told_by_its_fault() {
        let status =
            |line: &str| format!("{line}\r\nContent-Type: application/ocsp-response\r\n\r\n").into_bytes();
        let large = "x".repeat(ANSWER_BYTES_MAX + 1);
        let chunk = format!("{:x}\r\n", ANSWER_BYTES_MAX + 1);
        let small_chunks = "1\r\nx\r\n".repeat(CHUNKED_BYTES_MAX / 6 + 1);
        let filler = format!("X: {}\r\n", "x".repeat(HEAD_BYTES_MAX));
        for (octets, fault) in [
            (b"SSH-2.0-OpenSSH\r\n".to_vec(), FetchFault::Malformed),
            (Vec::new(), FetchFault::Malformed),
            (status("HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/"), FetchFault::Redirect),
            (status("HTTP/1.1 307 Moved"), FetchFault::Redirect),
            (status("HTTP/1.1 404 Gone"), FetchFault::Status),
            (status("HTTP/1.1 500 Broken"), FetchFault::Status),
            (status("HTTP/1.1 100 Continue"), FetchFault::Status),
            (b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec(), FetchFault::Malformed),
            (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nhello".to_vec(), FetchFault::Malformed),
            (answer("Content-Type: application/ocsp-response\r\n", "hello"), FetchFault::Malformed),
            (answer("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), FetchFault::Malformed),
            (answer("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "hello"), FetchFault::Malformed),
            (answer("Transfer-Encoding: gzip\r\n", "hello"), FetchFault::Malformed),
            (answer("Content-Encoding: gzip\r\n", "hello"), FetchFault::Malformed),
            (answer("Content-Length: +5\r\n", "hello"), FetchFault::Malformed),
            (answer("Content-Length: -1\r\n", "hello"), FetchFault::Malformed),
            (answer("Content-Length: \r\n", "hello"), FetchFault::Malformed),
            (answer("Content-Length: 16385\r\n", "hello"), FetchFault::TooLarge),
            (answer("Content-Length: 99999999999999999999999\r\n", "hello"), FetchFault::TooLarge),
            (answer("Transfer-Encoding: chunked\r\n", "x\r\n"), FetchFault::Malformed),
            (answer("Transfer-Encoding: chunked\r\n", "1\r\nhello\r\n"), FetchFault::Malformed),
            (answer("Transfer-Encoding: chunked\r\n", &chunk), FetchFault::TooLarge),
            (answer("Transfer-Encoding: chunked\r\n", &small_chunks), FetchFault::TooLarge),
            (answer("", &large), FetchFault::TooLarge),
            (answer(&filler, "hello"), FetchFault::TooLarge),
            (answer(&"X: y\r\n".repeat(HEADERS_MAX), "hello"), FetchFault::Malformed),
        ] {
            let told = read(&octets, octets.len() / 2);
            assert_eq!(
                told,
                Err(fault),
                "{:?}",
                String::from_utf8_lossy(octets.get(..80).unwrap_or(&octets))
            );
        }
    }

    #[test]
    fn a_request_says_where_and_how_long() {
        let url = HttpUrl::parse("http://OCSP.lab.test:80/a?b").unwrap();
        let text = String::from_utf8(request(&url, b"hello")).unwrap();
        assert!(text.starts_with("POST /a?b HTTP/1.1\r\nHost: ocsp.lab.test\r\n"), "{text}");
        assert!(text.contains("Content-Type: application/ocsp-request\r\n"), "{text}");
        assert!(text.ends_with("Content-Length: 5\r\nConnection: close\r\n\r\nhello"), "{text}");
    }

    proptest! {
        #[test]
        fn any_octets_are_an_answer_of_bounded_size_or_a_fault(
            head in prop::sample::select(vec!["", "Transfer-Encoding: chunked\r\n", "Content-Length: 9\r\n"]),
            rest in proptest::collection::vec(any::<u8>(), 0..400),
            raw: bool,
            cut in 0..400_usize,
        ) {
            let octets = if raw { rest } else { [answer(head, ""), rest].concat() };
            if let Ok(body) = read(&octets, cut.min(octets.len())) {
                prop_assert!(body.len() <= ANSWER_BYTES_MAX);
            }
        }
    }
}
