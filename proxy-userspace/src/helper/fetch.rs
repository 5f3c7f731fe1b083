use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::dns;
use super::http::{self, HttpAnswer};
use super::protocol::FetchFault;
use super::reach::{self, Reachable};
use super::terms::HelperTerms;
use super::url::{HTTP_PORT, HttpUrl, UrlHost};
use crate::accept::egress::EgressTable;
use crate::config::InterfaceName;
use crate::steering::routing::RoutingError;

/// For one address, so that another is tried within the fetch's time.
const CONNECT_TIME_MAX: Duration = Duration::from_millis(700);
/// Octets of one read.
const READ_BYTES: usize = 4_096;

/// Why a fetch brought nothing.
#[derive(Debug)]
pub(super) struct FetchFailure {
    /// For the record.
    pub(super) fault: FetchFault,
    /// For the log.
    pub(super) what: String,
}

impl From<FetchFault> for FetchFailure {
    fn from(fault: FetchFault) -> Self {
        Self { fault, what: fault.to_string() }
    }
}

fn unreachable(error: &io::Error) -> FetchFailure {
    FetchFailure { fault: FetchFault::Unreachable, what: error.to_string() }
}

/// Asks under the terms of one configuration.
pub(super) struct Fetcher {
    terms: HelperTerms,
    egress: RefCell<EgressTable>,
}

impl Fetcher {
    /// # Errors
    /// No netlink socket.
    pub(super) fn new(terms: HelperTerms) -> Result<Self, RoutingError> {
        let egress = RefCell::new(EgressTable::new()?);
        Ok(Self { terms, egress })
    }

    /// Post these octets there, and return what comes back. Who calls bounds the time.
    ///
    /// # Errors
    /// [`FetchFailure`].
    pub(super) async fn fetch(&self, url: &str, body: &[u8]) -> Result<Vec<u8>, FetchFailure> {
        // A worker that was taken over asks nevertheless.
        if !self.terms.asks_authorities {
            return Err(FetchFault::Gone.into());
        }
        let url = HttpUrl::parse(url)?;
        let addresses = addresses(&self.terms.name_servers, &url.host).await?;
        let mut failure = None;
        for address in addresses {
            match self.connect(address).await {
                Ok(socket) => return exchange(socket, &http::request(&url, body)).await,
                // The first address is the one that others would take.
                Err(failed) => drop(failure.get_or_insert(failed)),
            }
        }
        Err(failure.unwrap_or_else(|| FetchFault::Unresolved.into()))
    }

    /// Connect to this very address: what is judged is what is reached, whatever the name means a moment later.
    async fn connect(&self, address: IpAddr) -> Result<TcpStream, FetchFailure> {
        let address = address.to_canonical();
        let to = SocketAddr::new(address, HTTP_PORT);
        let by = self.way(to)?;
        connect(to, by.as_ref(), CONNECT_TIME_MAX).await
    }

    /// The egress by which an address has to be reached; none where the configuration lists the address.
    fn way(&self, to: SocketAddr) -> Result<Option<InterfaceName>, FetchFailure> {
        match reach::judge(to.ip(), &self.terms.reach) {
            None => Err(FetchFailure {
                fault: FetchFault::Address,
                what: format!("{} is not public; list it in helper.reach if it should be asked", to.ip()),
            }),
            Some(Reachable::Listed) => Ok(None),
            Some(Reachable::Public) => match self.egress.borrow_mut().leaves(&self.terms.steering.egress, to)
            {
                Ok(egress) => Ok(Some(egress.interface)),
                Err(error) => Err(FetchFailure { fault: FetchFault::Egress, what: error.to_string() }),
            },
        }
    }
}

/// Those of a host.
///
/// # Errors
/// [`FetchFault::Unresolved`].
pub(super) async fn addresses(name_servers: &[IpAddr], host: &UrlHost) -> Result<Vec<IpAddr>, FetchFailure> {
    match host {
        UrlHost::Address(address) => Ok(vec![*address]),
        UrlHost::Name(name) => dns::resolve(name_servers, name).await,
    }
}

/// A connection, out of this interface where one is given, within this time.
///
/// # Errors
/// [`FetchFault::Unreachable`] and [`FetchFault::Egress`].
pub(super) async fn connect(
    to: SocketAddr,
    by: Option<&InterfaceName>,
    limit: Duration,
) -> Result<TcpStream, FetchFailure> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| unreachable(&error))?;
    if let Some(interface) = by {
        // It cannot leave by another one than was asked about. Without privileges since Linux 5.7.
        let bound = socket.bind_device(Some(interface.as_str().as_bytes()));
        bound.map_err(|error| FetchFailure {
            fault: FetchFault::Egress,
            what: format!("{}: SO_BINDTODEVICE: {error}", interface.as_str()),
        })?;
    }
    let what = match timeout(limit, socket.connect(to)).await {
        Ok(Ok(connected)) => return Ok(connected),
        Ok(Err(error)) => format!("{to}: {error}"),
        Err(_) => format!("{to} does not answer within {} ms", limit.as_millis()),
    };
    Err(FetchFailure { fault: FetchFault::Unreachable, what })
}

async fn exchange(mut socket: TcpStream, request: &[u8]) -> Result<Vec<u8>, FetchFailure> {
    socket.write_all(request).await.map_err(|error| unreachable(&error))?;
    let mut answer = HttpAnswer::default();
    let mut room = vec![0; READ_BYTES];
    loop {
        let count = socket.read(&mut room).await.map_err(|error| unreachable(&error))?;
        if count == 0 {
            return Ok(answer.end()?);
        }
        if let Some(body) = answer.push(room.get(..count).unwrap_or_default())? {
            return Ok(body);
        }
    }
}
