//! One alarm for the owner's webhook: a POST by HTTP/1.1, over TLS where the URL says so. Of the answer the status alone
//! is read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Response, Status};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fetch::{FetchFailure, addresses, connect};
use super::protocol::{FetchFault, PostFault};
use super::terms::HelperTerms;
use super::url::{HttpUrl, UrlHost};

/// For one address, so that another is tried within the post's time.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Octets of an answer before its body, and before the answer that counts (`100 Continue`).
const HEAD_BYTES_MAX: usize = 16 * 1_024;
/// Header fields. Those of delivery networks have some thirty.
const HEADERS_MAX: usize = 64;
/// Octets of one read.
const READ_BYTES: usize = 4_096;
/// What is spoken inside TLS (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// Why an alarm may not have arrived.
#[derive(Debug)]
pub(super) struct PostFailure {
    /// For the supervisor.
    pub(super) fault: PostFault,
    /// For the log.
    pub(super) what: String,
}

impl From<PostFault> for PostFailure {
    fn from(fault: PostFault) -> Self {
        Self { fault, what: fault.to_string() }
    }
}

impl From<FetchFailure> for PostFailure {
    fn from(FetchFailure { fault, what }: FetchFailure) -> Self {
        let fault = match fault {
            FetchFault::Unresolved => PostFault::Unresolved,
            _ => PostFault::Unreachable,
        };
        Self { fault, what }
    }
}

/// What rustls says is inside of what the stream says.
impl From<io::Error> for PostFailure {
    fn from(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let fault = match tls {
            Some(rustls::Error::InvalidCertificate(_)) => PostFault::Certificate,
            Some(_) => PostFault::Tls,
            None => PostFault::Unreachable,
        };
        Self { fault, what: error.to_string() }
    }
}

/// Posts under the terms of one configuration.
pub(super) struct Poster {
    name_servers: Vec<IpAddr>,
    tls: Arc<ClientConfig>,
}

impl Poster {
    /// # Errors
    /// This build has no version of TLS.
    pub(super) fn new(terms: &HelperTerms) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        // The supervisor has looked at each.
        roots.add_parsable_certificates(terms.roots.iter().map(|root| CertificateDer::from(root.as_slice())));
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { name_servers: terms.name_servers.clone(), tls: Arc::new(tls) })
    }

    /// Post this, whatever the address: the owner wrote the URL. Who calls bounds the time.
    ///
    /// # Errors
    /// [`PostFailure`].
    pub(super) async fn post(&self, url: &HttpUrl, body: &[u8]) -> Result<(), PostFailure> {
        let socket = self.reach(url).await?;
        let request = request(url, body);
        if url.is_tls() {
            exchange(self.secure(url, socket).await?, &request).await
        } else {
            exchange(socket, &request).await
        }
    }

    /// The first address that can be connected to.
    async fn reach(&self, url: &HttpUrl) -> Result<TcpStream, PostFailure> {
        let mut failure = None;
        for address in addresses(&self.name_servers, &url.host).await? {
            match connect(SocketAddr::new(address, url.port()), None, CONNECT_TIME_MAX).await {
                Ok(socket) => return Ok(socket),
                Err(failed) => drop(failure.get_or_insert(failed)),
            }
        }
        Err(failure.unwrap_or_else(|| FetchFault::Unresolved.into()).into())
    }

    async fn secure(&self, url: &HttpUrl, socket: TcpStream) -> Result<TlsStream<TcpStream>, PostFailure> {
        let name = match &url.host {
            UrlHost::Address(address) => ServerName::from(*address),
            UrlHost::Name(name) => ServerName::try_from(name.clone()).map_err(|error| PostFailure {
                fault: PostFault::Certificate,
                what: format!("{name}: {error}"),
            })?,
        };
        Ok(TlsConnector::from(Arc::clone(&self.tls)).connect(name, socket).await?)
    }
}

/// What is sent.
fn request(url: &HttpUrl, body: &[u8]) -> Vec<u8> {
    let (target, host, length) = (&url.target, url.authority(), body.len());
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: postern\r\nContent-Type: application/json\r\n\
         Accept: */*\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> Result<(), PostFailure> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut octets = Vec::new();
    let mut room = vec![0; READ_BYTES];
    let status = loop {
        let count = stream.read(&mut room).await?;
        if count == 0 {
            return Err(PostFault::Malformed.into());
        }
        octets.extend_from_slice(room.get(..count).unwrap_or_default());
        if let Some(status) = status(&octets)? {
            break status;
        }
    };
    // A goodbye, where TLS is spoken. The alarm has arrived, whatever becomes of that.
    drop(stream.shutdown().await);
    match status {
        200..300 => Ok(()),
        300..400 => Err(PostFault::Redirect(status).into()),
        _ => Err(PostFault::Status(status).into()),
    }
}

/// The status of the final answer (RFC 9110 section 15.2), if its head is whole.
fn status(octets: &[u8]) -> Result<Option<u16>, PostFault> {
    let mut rest = octets.get(..HEAD_BYTES_MAX).unwrap_or(octets);
    loop {
        let mut fields = [EMPTY_HEADER; HEADERS_MAX];
        let mut response = Response::new(&mut fields);
        match response.parse(rest) {
            Ok(Status::Complete(end)) => match response.code {
                // The next protocol is none that Postern asked for.
                Some(100..200) if response.code != Some(101) => rest = rest.get(end..).unwrap_or_default(),
                Some(code) => return Ok(Some(code)),
                None => return Err(PostFault::Malformed),
            },
            Ok(Status::Partial) if octets.len() >= HEAD_BYTES_MAX => return Err(PostFault::Malformed),
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err(PostFault::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    #[test]
    fn the_status_is_read_of_every_split_and_what_goes_before_does_not_count() {
        for (octets, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", 200),
            ("HTTP/1.0 204 No Content\r\nServer: x\r\n\r\n", 204),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 202\r\n\r\n",
                202,
            ),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", 101),
            ("HTTP/1.1 503 Busy\r\nRetry-After: 5\r\n\r\n", 503),
        ] {
            for cut in 0..octets.len() {
                assert_eq!(status(&octets.as_bytes()[..cut]), Ok(None), "{octets} {cut}");
            }
            assert_eq!(status(octets.as_bytes()), Ok(Some(expected)), "{octets}");
            assert_eq!(status(format!("{octets}body").as_bytes()), Ok(Some(expected)), "{octets}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        let informed = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000);
        for octets in ["SSH-2.0-OpenSSH\r\n", "HTTP/2 200\r\n\r\n", &endless, &informed] {
            assert_eq!(status(octets.as_bytes()), Err(PostFault::Malformed), "{octets:.40}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_status_or_a_fault(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = status(&octets);
            let _ = status(&[b"HTTP/1.1 100 x\r\n\r\n", octets.as_slice()].concat());
        }
    }

    /// A webhook at loopback that answers so, with a certificate for `name` where it speaks TLS. It returns the request.
    async fn webhook(
        name: Option<&str>,
        answer: &'static str,
    ) -> (u16, Vec<u8>, tokio::task::JoinHandle<Option<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.unwrap_or("unused").to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap().der().clone();
        let root = cert.to_vec();
        let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let is_tls = name.is_some();
        let served = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.ok()?;
            if is_tls {
                answered(TlsAcceptor::from(Arc::new(server)).accept(socket).await.ok()?, answer).await
            } else {
                answered(socket, answer).await
            }
        });
        (port, root, served)
    }

    async fn answered(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> Option<String> {
        let mut request = Vec::new();
        while !request.ends_with(b"{}\n") {
            if stream.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
        }
        stream.write_all(answer.as_bytes()).await.ok()?;
        // Until the asker leaves: it waits for no end of the body.
        let _ = stream.read(&mut [0]).await;
        String::from_utf8(request).ok()
    }

    fn poster(roots: Vec<Vec<u8>>) -> Poster {
        let config = "[steering]\ningress = [\"lan0\"]\negress = [\"wan0\"]\n[certificates]\n\
                      authority = { cert = \"a.pem\", key = \"a.key\" }\n[helper]\nname_servers = [\"127.0.0.1\"]\n\
                      [alarm]\nwebhook = \"http://127.0.0.1/\"\n";
        let config = crate::config::parse(config, std::path::Path::new("/postern.toml")).unwrap();
        let mut terms = HelperTerms::read(&config).unwrap().unwrap();
        terms.roots = roots;
        Poster::new(&terms).unwrap()
    }

    async fn post(poster: &Poster, url: &str) -> Result<(), PostFault> {
        let url = HttpUrl::of_owner(url).unwrap();
        poster.post(&url, b"{}\n").await.map_err(|failure| failure.fault)
    }

    #[tokio::test]
    async fn a_webhook_gets_the_alarm_and_its_status_says_whether_it_took_it() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\nno end", Ok(())),
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok(())),
            ("HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1/\r\n\r\n", Err(PostFault::Redirect(307))),
            ("HTTP/1.1 404 Gone\r\n\r\n", Err(PostFault::Status(404))),
            ("HTTP/1.1 500 Broken\r\n\r\n", Err(PostFault::Status(500))),
            ("220 smtp.example.org ESMTP\r\n", Err(PostFault::Malformed)),
        ] {
            let (port, _, served) = webhook(None, answer).await;
            let posted = post(&poster(Vec::new()), &format!("http://127.0.0.1:{port}/hook?key=a")).await;
            assert_eq!(posted, expected, "{answer}");
            let request = served.await.unwrap().unwrap();
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("POST /hook?key=a HTTP/1.1\r\n"), "{head}");
            for line in
                [&format!("Host: 127.0.0.1:{port}"), "Content-Type: application/json", "Content-Length: 3"]
            {
                assert!(head.lines().any(|other| other == line), "{line}: {head}");
            }
            assert_eq!(body, "{}\n");
        }
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let posted = post(&poster(Vec::new()), &format!("http://127.0.0.1:{unused}/")).await;
        assert_eq!(posted, Err(PostFault::Unreachable));
    }

    #[tokio::test]
    async fn over_tls_nothing_is_said_to_a_webhook_that_nobody_vouches_for() {
        const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
        for (name, is_trusted, expected) in [
            ("127.0.0.1", true, Ok(())),
            ("127.0.0.1", false, Err(PostFault::Certificate)),
            ("127.0.0.2", true, Err(PostFault::Certificate)),
            ("localhost", true, Err(PostFault::Certificate)),
        ] {
            let (port, root, served) = webhook(Some(name), OK).await;
            let roots = if is_trusted { vec![root] } else { Vec::new() };
            let posted = post(&poster(roots), &format!("https://127.0.0.1:{port}/hook")).await;
            assert_eq!(posted, expected, "{name} {is_trusted}");
            assert_eq!(served.await.unwrap().is_some(), expected.is_ok(), "{name} {is_trusted}");
        }
        // Who speaks no TLS answers the ClientHello in clear text.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/hook", listener.local_addr().unwrap());
        let plain = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.read_exact(&mut [0; 5]).await.unwrap();
            socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            socket
        };
        let poster = poster(Vec::new());
        assert_eq!(tokio::join!(post(&poster, &url), plain).0, Err(PostFault::Tls));
    }
}
