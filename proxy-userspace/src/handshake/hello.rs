//! The ClientHello, read without answering it.

use std::net::IpAddr;

use rustls::server::{Accepted, Acceptor, ClientHello};
use rustls::{CipherSuite, Error};
use tokio::net::TcpStream;

use super::alerts::{alert_for, correction};
use super::compliance::{Deviation, Deviations};
use super::drive::{Sealed, read_record, tls};
use super::mint::ClientOffer;
use super::parting::Parting;
use crate::failure::{Cause, Failure};
use crate::layer::{ContentType, HEADER_BYTES, LayerFault};

/// Octets of a ClientHello with its record headers. Browsers with post-quantum keys send 2 KiB.
const CLIENT_HELLO_BYTES_MAX: usize = 64 * 1024;
/// The message type `client_hello` (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
/// Octets of a ClientHello before the session ID: the message's header, the version, the random.
const HELLO_FIXED_BYTES: usize = 4 + 2 + 32;
/// The extension's type, and the only name type that exists (RFC 6066 section 3).
const SERVER_NAME: &[u8] = &[0, 0];
const HOST_NAME: &[u8] = &[0];
/// The extension's type, and the version in it (RFC 8446 section 4.2.1).
const SUPPORTED_VERSIONS: &[u8] = &[0, 43];
const TLS13: [u8; 2] = [3, 4];
/// Signals that the client speaks newer versions than it offers (RFC 7507 section 2).
const FALLBACK_SCSV: u16 = 0x5600;
const ALPN_IMAP: &[u8] = b"imap";

/// What the client offers, and the octets of its ClientHello, to be replayed into rustls.
pub(super) struct Hello {
    pub(super) octets: Vec<u8>,
    /// In lower case, without a dot at its end.
    pub(super) sni: Option<String>,
    /// An address in the place of a name, which RFC 6066 section 3 does not allow. It is recorded and otherwise
    /// ignored.
    pub(super) sni_address: Option<IpAddr>,
    pub(super) offers_alpn: bool,
    pub(super) offer: ClientOffer,
    /// What of it deviates from the RFCs.
    pub(super) deviations: Deviations,
}

/// Read a ClientHello. One that is not for a mail server is refused, and no server learns of it.
///
/// # Errors
/// What ended it, and the alert that tells it: in clear text, because no key was agreed on.
pub(super) async fn read(socket: &mut TcpStream) -> Result<Hello, Parting> {
    let mut octets = Vec::new();
    match accept(socket, &mut octets).await {
        Ok(accepted) => offered(&accepted.client_hello(), octets),
        Err((cause, said)) => Err(refused(cause, said)),
    }
}

/// Read a whole ClientHello. The error holds rustls' alert.
async fn accept(socket: &mut TcpStream, octets: &mut Vec<u8>) -> Result<Accepted, (Cause, Vec<u8>)> {
    let silent = |cause| (cause, Vec::new());
    let mut acceptor = Acceptor::default();
    loop {
        let before = octets.len();
        let content = read_record(socket, octets, Sealed::Nothing).await.map_err(silent)?;
        if let (0, Some(error)) = (before, alert_received(content, octets)) {
            return Err(silent(Cause::Tls(error)));
        }
        // A record that cannot begin a handshake is out of place, whether it is well-formed or not.
        if content != ContentType::Handshake || octets.get(HEADER_BYTES) != Some(&CLIENT_HELLO) {
            return Err(silent(Cause::Record(LayerFault::UnexpectedRecord)));
        }
        if octets.len() > CLIENT_HELLO_BYTES_MAX {
            return Err(silent(Cause::HandshakeTooLong));
        }
        let mut unread = octets.get(before..).unwrap_or_default();
        while !unread.is_empty() {
            // The read from memory fails only at rustls' own bound.
            acceptor.read_tls(&mut unread).map_err(|_| silent(Cause::HandshakeTooLong))?;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => return Ok(accepted),
            Err((error, mut alert)) => {
                let mut said = Vec::new();
                // Memory takes every write.
                let _ = alert.write_all(&mut said);
                return Err((tls(error), said));
            }
        }
    }
}

/// The alert in a record. An alert is not answered by another one (RFC 8446 section 6.2).
fn alert_received(content: ContentType, record: &[u8]) -> Option<Error> {
    match (content, record.get(HEADER_BYTES..)) {
        (ContentType::Alert, Some(&[_, description])) => Some(Error::AlertReceived(description.into())),
        _ => None,
    }
}

fn offered(hello: &ClientHello<'_>, octets: Vec<u8>) -> Result<Hello, Parting> {
    let alpn = hello.alpn().map(|mut offered| offered.any(|protocol| protocol == ALPN_IMAP));
    if alpn == Some(false) {
        return Err(refused(Cause::Alpn, Vec::new()));
    }
    let suites: &[CipherSuite] = hello.cipher_suites();
    let mut deviations = Deviations::default();
    // rustls takes a dot at its end away.
    let sni = hello.server_name().map(str::to_ascii_lowercase);
    let (message, has_usual_versions) = unwrapped(&octets).unwrap_or_default();
    let offers_tls13 = offers_tls13(&message).unwrap_or_default();
    if offers_tls13 && !has_usual_versions {
        deviations.insert(Deviation::RecordVersion);
    }
    if !offers_tls13 && suites.iter().any(|suite| u16::from(*suite) == FALLBACK_SCSV) {
        deviations.insert(Deviation::Fallback);
    }
    let name = host_name(&message);
    let text = name.and_then(|name| std::str::from_utf8(name).ok());
    let sni_address = text.and_then(|text| text.parse().ok());
    match name {
        None => {}
        Some(_) if sni_address.is_some() => deviations.insert(Deviation::SniAddress),
        Some(name) if name.ends_with(b".") => deviations.insert(Deviation::SniTrailingDot),
        Some(_) => {}
    }
    let (offers_alpn, offer) = (alpn.is_some(), ClientOffer::of(hello));
    Ok(Hello { octets, sni, sni_address, offers_alpn, offer, deviations })
}

/// The message in the records of a ClientHello that rustls has read, and whether all of them have a version that a client
/// of TLS 1.3 may write there (RFC 8446 section 5.1). One that speaks TLS 1.2 at most may write any (RFC 5246 appendix
/// E.1).
fn unwrapped(records: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut message = Vec::with_capacity(records.len());
    let mut has_usual_versions = true;
    let mut rest = records;
    // Type and version; the length stands before the fragment.
    while let Some(head) = take(&mut rest, HEADER_BYTES - 2) {
        has_usual_versions &= matches!(head, [_, 3, 1 | 3]);
        message.extend_from_slice(vector(&mut rest, 2)?);
    }
    Some((message, has_usual_versions))
}

/// The name in the `server_name` extension, whatever it is. rustls keeps DNS names only.
fn host_name(message: &[u8]) -> Option<&[u8]> {
    let mut names = vector(&mut extension(message, SERVER_NAME)?, 2)?;
    let kind = take(&mut names, 1)?;
    let name = vector(&mut names, 2)?;
    (kind == HOST_NAME).then_some(name)
}

/// Whether TLS 1.3 is among the client's versions. rustls does not say.
fn offers_tls13(message: &[u8]) -> Option<bool> {
    let versions = vector(&mut extension(message, SUPPORTED_VERSIONS)?, 1)?;
    Some(versions.chunks_exact(2).any(|version| version == TLS13))
}

/// What an extension of the ClientHello holds.
fn extension<'a>(message: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut hello = message;
    take(&mut hello, HELLO_FIXED_BYTES)?;
    // Session, suites, compression methods (RFC 8446 section 4.1.2).
    for length_bytes in [1, 2, 1] {
        vector(&mut hello, length_bytes)?;
    }
    let mut extensions = vector(&mut hello, 2)?;
    while let Some(kind) = take(&mut extensions, 2) {
        let content = vector(&mut extensions, 2)?;
        if kind == wanted {
            return Some(content);
        }
    }
    None
}

/// The next octets.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

/// The next vector: its length in so many octets, then the vector itself (RFC 8446 section 3.4).
fn vector<'a>(rest: &mut &'a [u8], length_bytes: usize) -> Option<&'a [u8]> {
    let length = take(rest, length_bytes)?;
    take(rest, length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)))
}

/// rustls' own alert, or ours where it has none or not the right one.
pub(super) fn refused(cause: Cause, said: Vec<u8>) -> Parting {
    let ours = if said.is_empty() { alert_for(&cause) } else { correction(&cause) };
    let words = ours.map_or(said, |alert| alert.clear_record().to_vec());
    Parting { words, failure: Failure::downstream(cause) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A ClientHello in records of at most `fragment` octets.
    fn hello(fragment: Option<usize>, alpn: &[&[u8]]) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.max_fragment_size = fragment;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("Mail.Example.Org").unwrap();
        let mut octets = Vec::new();
        ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut octets).unwrap();
        octets
    }

    /// What [`read`] makes of these writes, with the end of the stream behind them, and what it answered.
    async fn reading(writes: &[&[u8]]) -> (Result<Hello, Cause>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = async {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.set_nodelay(true).unwrap();
            for octets in writes {
                client.write_all(octets).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
            let mut told = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut client, &mut told).await;
            told
        };
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            match read(&mut socket).await {
                Ok(hello) => Ok(hello),
                Err(parting) => Err(parting.say(&mut socket).await.cause),
            }
        };
        let (read, told) = tokio::join!(server, client);
        (read, told)
    }

    #[tokio::test]
    async fn a_hello_is_read_wherever_it_is_split_and_replayed_octet_for_octet() {
        for fragment in [None, Some(64)] {
            let octets = hello(fragment, &[b"imap"]);
            for at in 0..=octets.len() {
                let (first, second) = octets.split_at(at);
                let read = reading(&[first, second]).await.0.unwrap();
                assert_eq!(read.sni.as_deref(), Some("mail.example.org"));
                assert!(read.offers_alpn && read.octets == octets, "split at {at}");
            }
        }
    }

    #[tokio::test]
    async fn a_hello_that_is_cut_is_an_error_at_every_octet_and_is_not_answered() {
        let octets = hello(Some(64), &[]);
        for end in 0..octets.len() {
            let (read, told) = reading(&[octets.get(..end).unwrap()]).await;
            assert!(matches!(read, Err(Cause::Socket(_))), "cut at {end}");
            assert_eq!(told, b"", "cut at {end}");
        }
    }

    #[tokio::test]
    async fn an_address_in_place_of_a_name_is_told_and_is_no_name() {
        // As long as the name whose place it takes: a client of rustls sends no address.
        let (name, address) = (b"mail.example.org", "2001:db8::abc:10");
        let mut octets = hello(None, &[b"imap"]);
        let at = octets.windows(name.len()).position(|octets| octets.eq_ignore_ascii_case(name)).unwrap();
        octets[at..at + name.len()].copy_from_slice(address.as_bytes());
        // In one record, and in records of one octet.
        let slivers: Vec<u8> = octets[5..].iter().flat_map(|octet| [22, 3, 1, 0, 1, *octet]).collect();
        for octets in [octets, slivers] {
            let read = reading(&[&octets]).await.0.unwrap();
            assert_eq!(read.sni, None);
            assert_eq!(read.sni_address, Some(address.parse().unwrap()));
        }
        assert_eq!(reading(&[&hello(None, &[])]).await.0.unwrap().sni_address, None);
    }

    /// A ClientHello in one record, with this name in the place of one that is as long.
    fn hello_for(name: &[u8; 16]) -> Vec<u8> {
        let mut octets = hello(None, &[]);
        let ours = b"mail.example.org";
        let at = octets.windows(ours.len()).position(|octets| octets.eq_ignore_ascii_case(ours)).unwrap();
        octets[at..at + ours.len()].copy_from_slice(name);
        octets
    }

    #[tokio::test]
    async fn what_a_client_hello_deviates_by_is_noted_and_nothing_else_is() {
        let version = |version: [u8; 2]| {
            let mut octets = hello(None, &[]);
            octets.splice(1..3, version);
            octets
        };
        let second = {
            let mut octets = hello(Some(64), &[]);
            let length = usize::from(u16::from_be_bytes([octets[3], octets[4]]));
            octets.splice(5 + length + 1..5 + length + 3, [3, 0]);
            octets
        };
        let dotted = hello_for(b"mail.example.or.");
        for (octets, sni, deviations) in [
            (hello(None, &[]), Some("mail.example.org"), vec![]),
            (version([3, 3]), Some("mail.example.org"), vec![]),
            (version([3, 0]), Some("mail.example.org"), vec![Deviation::RecordVersion]),
            (version([3, 4]), Some("mail.example.org"), vec![Deviation::RecordVersion]),
            (second, Some("mail.example.org"), vec![Deviation::RecordVersion]),
            (dotted, Some("mail.example.or"), vec![Deviation::SniTrailingDot]),
            (hello_for(b"2001:db8::abc:10"), None, vec![Deviation::SniAddress]),
        ] {
            let read = reading(&[&octets]).await.0.unwrap();
            assert_eq!(read.deviations.iter().collect::<Vec<_>>(), deviations, "{:?}", read.sni);
            assert_eq!(read.sni.as_deref(), sni);
        }
        // What is neither a name nor an address is tolerated by nobody.
        for name in [b"192.000.002.0001", b"mail example org", b"mail.example\xff\0\0\0", b"mail.example.o.."]
        {
            let (read, told) = reading(&[&hello_for(name)]).await;
            assert_eq!(Failure::downstream(read.err().unwrap()).reason(), "tls_handshake_failed");
            assert_eq!(told, [21, 3, 3, 0, 2, 2, 47]);
        }
    }

    #[tokio::test]
    async fn what_is_no_client_hello_is_answered_with_the_alert_that_says_so() {
        let message = |kind: u8, length: [u8; 3]| [[22, 3, 1, 0, 4, kind].as_slice(), &length].concat();
        // A whole ClientHello is over a bound before it is whole: one octet of it in each record.
        let mut slivers = message(1, [0, 0xff, 0xff]);
        slivers.extend([22, 3, 1, 0, 1, 0].repeat(CLIENT_HELLO_BYTES_MAX / 6 + 1));
        let mut pieces = message(1, [0, 0xff, 0xff]);
        pieces.extend([[22, 3, 1, 0x40, 0].as_slice(), &[0; 1 << 14]].concat().repeat(4));
        for (what, octets, reason, alert) in [
            ("a ServerHello", message(2, [0; 3]), "unexpected_record", 10),
            ("application data", vec![23, 3, 3, 0, 2, 1, 1], "unexpected_record", 10),
            ("a ChangeCipherSpec", vec![20, 3, 3, 0, 1, 1], "unexpected_record", 10),
            ("IMAP", b"a CAPABILITY\r\n".to_vec(), "not_tls", 10),
            ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not_tls", 10),
            ("an empty record", vec![22, 3, 1, 0, 0], "unexpected_record", 10),
            ("a record too long", vec![22, 3, 1, 0x40, 1], "record_overflow", 22),
            ("a ClientHello of 64 KiB in slivers", slivers, "handshake_too_long", 50),
            ("a ClientHello of 64 KiB", pieces, "handshake_too_long", 50),
            ("a ClientHello of 128 KiB", message(1, [2, 0, 0]), "handshake_too_long", 50),
        ] {
            let (read, told) = reading(&[&octets]).await;
            let failure = Failure::downstream(read.err().unwrap());
            assert_eq!(failure.reason(), reason, "{what}: {failure}");
            assert_eq!(told, [21, 3, 3, 0, 2, 2, alert], "{what}: {failure}");
        }
    }

    #[tokio::test]
    async fn other_protocols_are_refused_with_the_alert_that_says_so() {
        let (read, told) = reading(&[&hello(None, &[b"h2", b"http/1.1"])]).await;
        assert!(matches!(read, Err(Cause::Alpn)));
        assert_eq!(told, [21, 3, 3, 0, 2, 2, 120]);
    }
}
