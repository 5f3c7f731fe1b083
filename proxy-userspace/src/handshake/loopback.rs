//! A TLS connection of this process with itself, over loopback, for the measurement of the record layers.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite, crypto, version};
use tokio::net::{TcpListener, TcpStream};

use super::Finished;
use super::compliance::Conduct;
use super::drive::{Unbuffered, drive};
use crate::config::Compliance;
use crate::failure::Cause;

/// The name in the certificate of this connection (RFC 6761 section 6.4).
const NAME: &str = "loopback.invalid";

/// Both ends of a finished TLS 1.3 handshake under this cipher suite.
///
/// # Errors
/// Loopback is down, a local firewall drops what this machine sends to itself, or TLS refuses the suite.
pub(crate) async fn connect(suite: SupportedCipherSuite) -> Result<(Finished, Finished), Cause> {
    let (client, server) = configs(suite)?;
    let (near, far) = sockets().await.map_err(Cause::Socket)?;
    let name = ServerName::try_from(NAME).map_err(|_| rustls::Error::General("a name".to_owned()));
    let client = UnbufferedClientConnection::new(client, name.map_err(Cause::Tls)?).map_err(Cause::Tls)?;
    let server = UnbufferedServerConnection::new(server).map_err(Cause::Tls)?;
    tokio::try_join!(finished(client, near), finished(server, far))
}

async fn finished<C: Unbuffered + Send + 'static>(
    connection: C,
    mut socket: TcpStream,
) -> Result<Finished, Cause> {
    let mut conduct = Conduct::under(Compliance::Tolerant);
    let driven = drive(connection, &mut socket, Vec::new(), None, &mut conduct);
    let connection = driven.await.map_err(|broken| broken.cause)?;
    let (secrets, kernel) = connection.into_kernel().map_err(Cause::Tls)?;
    Ok(Finished { socket, secrets, kernel, asked: false, verified: false, chain: Arc::default() })
}

/// A connected pair of sockets. A connection of another local user to the listener is dropped.
async fn sockets() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    loop {
        let (far, peer) = listener.accept().await?;
        if peer == near.local_addr()? {
            return Ok((near, far));
        }
    }
}

fn configs(suite: SupportedCipherSuite) -> Result<(Arc<ClientConfig>, Arc<ServerConfig>), Cause> {
    let mut provider = crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![suite];
    let provider = Arc::new(provider);
    let unmade = |error: rcgen::Error| Cause::Tls(rustls::Error::General(error.to_string()));
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(unmade)?;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).map_err(Cause::Tls)?;
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(Cause::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(Cause::Tls)?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .map_err(Cause::Tls)?;
    server.enable_secret_extraction = true;
    server.send_tls13_tickets = 0;
    Ok((Arc::new(client), Arc::new(server)))
}
